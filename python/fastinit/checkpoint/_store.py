"""A checkpoint that is being written: which pieces are done, by any writer, and when it is whole.

Until a file is whole its name ends in `.incomplete`. Each writer has a journal of the pieces that it has
done, in the directory `fastinit.incomplete`, beside a description of the whole checkpoint, which all writers
must agree on. Writers need no other communication: a piece has the same bytes whoever writes it, and who
finds all pieces of a file done gives it its name. That is done by a link, which fails where the name is there
already, so a whole file is never replaced. The index and the manifest come last.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import shutil
import threading
import time
from typing import IO, TYPE_CHECKING, Any

import fastinit
from fastinit._files import names_to_disk, replacing, to_disk

from ._pieces import digest_of, read_in_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ._layout import File, Layout, Piece

MANIFEST = "fastinit.json"
_STATE = "fastinit.incomplete"
_DESCRIPTION = "checkpoint.json"
# So many bytes are written before the journal says so.
_UNRECORDED = 2**26


class Store:
    """The directory of a checkpoint.

    Args:
        directory: The directory.
        description: What is written there: the plan, the seed and all that decides a byte.
        layout: Its files and their pieces.
        sync: Whether data is on the disk before anything says that it is there.
    """

    def __init__(
        self,
        directory: Path,
        description: dict[str, Any],
        layout: Layout,
        *,
        sync: bool,
    ) -> None:
        self.directory = directory
        self.description = description
        self.layout = layout
        self.sync = sync
        self._state = directory / _STATE
        self._done: dict[int, str] = {}
        self._pending: list[tuple[Piece, str]] = []
        self._unrecorded = 0  # their bytes
        self._lock = threading.Lock()  # of these two
        self._flushing = threading.Lock()

    # Beginning

    def begin(self) -> bool:
        """Takes up the checkpoint, or begins it; returns whether it is whole already.

        Raises:
            FileExistsError: If another checkpoint is there.
            OSError: If there is not enough space.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        description = self._state / _DESCRIPTION
        # The manifest again, since another writer may have completed the checkpoint in between.
        for path in (self.manifest, description, self.manifest):
            if (found := self._read(path)) is not None:
                break
        else:
            names = [file.name for file in self.layout.files]
            names += [self.layout.index[0]] if self.layout.index else []
            there = [name for name in names if os.path.lexists(self.directory / name)]
            if there:
                raise FileExistsError(f"{self.directory / there[0]} exists, and would be overwritten")
            self._check_space()
            found = self._publish(description)
        self._compare(found)
        if self.is_complete():
            missing = [file.name for file in self.layout.files if not (self.directory / file.name).is_file()]
            if missing:
                raise FileExistsError(
                    f"{self.directory} has the manifest of this checkpoint but not its file {missing[0]}: "
                    f"delete {MANIFEST} and all files of the checkpoint to write it again"
                )
            return True
        self._check_space()
        for number in range(len(self.layout.files)):
            if not self.is_whole(number):
                self._prepare(number)
        return False

    @functools.cached_property
    def _of_file(self) -> list[set[int]]:
        """The numbers of the pieces of each file."""
        found: list[set[int]] = [set() for _ in self.layout.files]
        for piece in self.layout.pieces:
            found[piece.file].add(piece.number)
        return found

    @property
    def manifest(self) -> Path:
        """The manifest, which is there once the checkpoint is whole."""
        return self.directory / MANIFEST

    def is_complete(self) -> bool:
        """Whether the checkpoint is whole."""
        return self.manifest.is_file()

    def _read(self, path: Path) -> dict[str, Any] | None:
        """The JSON in a file; `None` if there is no such file."""
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            return None
        try:
            found = json.loads(text)
            if not isinstance(found, dict):
                raise ValueError("it is not an object")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        return found

    def _publish(self, path: Path) -> dict[str, Any]:
        """Writes the description, unless another writer was faster; returns the one that is there."""
        self._state.mkdir(exist_ok=True)
        new = path.with_name(f"{_DESCRIPTION}.{os.getpid()}-{time.monotonic_ns()}")
        try:
            new.write_text(json.dumps(self.description, ensure_ascii=False), "utf-8")
            _rename(new, path)  # So all writers see the same one.
        finally:
            new.unlink(missing_ok=True)
        found = self._read(path)
        return self.description if found is None else found

    def _compare(self, found: dict[str, Any]) -> None:
        """Raises an error if another checkpoint is there."""
        what = f"{self.directory} contains another checkpoint"
        mine = self.description
        for name, value in mine.items():
            if name != "plan" and found.get(name) != value:
                raise FileExistsError(f"{what}: its {name} is {found.get(name)!r:.80}, not {value!r:.80}")
        plan = found.get("plan")
        others = plan.get("rows") if isinstance(plan, dict) else None
        if not isinstance(plan, dict) or not isinstance(others, list):
            raise FileExistsError(f"{what}, or its description is damaged")
        for name in ("schema", "stream_version"):
            if plan.get(name) != mine["plan"][name]:
                raise FileExistsError(f"{what}: its {name} is {plan.get(name)!r:.80}")
        rows = mine["plan"]["rows"]
        for row, other in zip(rows, others, strict=False):
            if not isinstance(other, dict) or any(other.get(key) != value for key, value in row.items()):
                raise FileExistsError(f"{what}: its plan differs, first in {row['name']!r:.80}")
        if len(rows) != len(others):
            raise FileExistsError(f"{what}: it has {len(others)} tensors, not {len(rows)}")

    def _check_space(self) -> None:
        """Raises an error if the file system has not enough space left."""
        needed = 0
        for file in self.layout.files:
            path = self._incomplete(file)
            with contextlib.suppress(FileNotFoundError):
                about = path.stat()
                # Windows does not tell how much of a file is allocated.
                needed -= getattr(about, "st_blocks", about.st_size // 512) * 512
            if not (self.directory / file.name).exists():
                needed += file.size
        free = shutil.disk_usage(self.directory).free
        if needed > free:
            raise OSError(
                errno.ENOSPC,
                f"{os.strerror(errno.ENOSPC)}: the checkpoint needs {needed:,} more bytes, of which "
                f"{free:,} are free",
                str(self.directory),
            )

    # Writing

    def _incomplete(self, file: File) -> Path:
        return self.directory / f"{file.name}.incomplete"

    def is_whole(self, number: int) -> bool:
        """Whether a file is whole."""
        return (self.directory / self.layout.files[number].name).is_file()

    def _prepare(self, number: int) -> None:
        """Gives a file its size and its head, if it is not there."""
        file = self.layout.files[number]
        path = self._incomplete(file)
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise FileExistsError(f"{path} exists, and is not a regular file")
        with path.open("ab"):
            pass
        with self._incomplete(file).open("r+b", buffering=0) as opened:
            if opened.seek(0, os.SEEK_END) != file.size:
                opened.truncate(file.size)
            write_at(opened, 0, file.head)

    def opened(self, piece: Piece) -> IO[bytes]:
        """The file of a piece, to read and write it."""
        return self._incomplete(self.layout.files[piece.file]).open("r+b", buffering=0)

    @contextlib.contextmanager
    def journal(self, rank: int, world: int) -> Iterator[IO[bytes]]:
        """The journal of a writer, which no other process may have meanwhile.

        Raises:
            FileExistsError: If another process has it.
        """
        with (self._state / f"{rank}-of-{world}.journal").open("ab", buffering=0) as file:
            if not _lock(file):
                raise FileExistsError(
                    f"another process writes part {rank} of {world} of the checkpoint in {self.directory}"
                )
            file.write(b"\n")  # The last line may have been cut off.
            yield file

    def note(self, journal: IO[bytes], piece: Piece, digest: str) -> None:
        """Records that a piece is done; the journal has it after the next `flush`, at the latest."""
        with self._lock:
            self._pending.append((piece, digest))
            self._unrecorded += piece.nbytes
            # To wait for the disk takes long, so it is done for many pieces at once.
            is_due = not self.sync or self._unrecorded >= _UNRECORDED or len(self._pending) >= 1000
        if is_due:
            self.flush(journal)

    def flush(self, journal: IO[bytes]) -> None:
        """Writes to the journal what is done, once it is on the disk; other threads may go on meanwhile."""
        with self._flushing:
            with self._lock:
                # What cannot be brought to the disk is forgotten: the next try might not be told.
                pending, self._pending, self._unrecorded = self._pending, [], 0
            if self.sync:
                for piece in {one.file: one for one, _ in pending}.values():
                    # Where there is none, another writer has finished it, and has waited for the disk.
                    with contextlib.suppress(FileNotFoundError), self.opened(piece) as file:
                        to_disk(file)
            journal.write(b"".join(f"{piece.number} {digest}\n".encode() for piece, digest in pending))
            if self.sync:
                to_disk(journal)
            self._done.update((piece.number, digest) for piece, digest in pending)

    def done(self) -> dict[int, str]:
        """The digests of the pieces that are done, by any writer."""
        for path in sorted(self._state.glob("*.journal")):
            with contextlib.suppress(FileNotFoundError):
                for line in path.read_bytes().split(b"\n")[:-1]:
                    found = re.fullmatch(rb"(\d{1,18}) ([0-9a-f]{8})", line)
                    if found and int(found[1]) < len(self.layout.pieces):
                        self._done[int(found[1])] = found[2].decode()
        return self._done

    # Ending

    def finish(self, number: int) -> bool:
        """Gives a file its name if all of its pieces are done; returns whether it is whole."""
        wanted, file = self._of_file[number], self.layout.files[number]
        if self.is_whole(number):  # What is left is one that was made when another writer finished it.
            self._incomplete(file).unlink(missing_ok=True)
        elif self._done.keys() >= wanted or self.done().keys() >= wanted:
            with contextlib.suppress(FileNotFoundError):  # Another writer has done it.
                if self.sync:
                    with self._incomplete(file).open("r+b", buffering=0) as opened:
                        to_disk(opened)
                _rename(self._incomplete(file), self.directory / file.name)
        return self.is_whole(number)

    def finish_all(self) -> bool:
        """Writes the index and the manifest if all files are whole; returns whether the checkpoint is."""
        if self.is_complete():
            return True
        if not all(self.finish(number) for number in range(len(self.layout.files))):
            return False
        digests = self.done()
        for piece in self.layout.pieces:
            if piece.number in digests:
                continue
            if self.is_complete():  # Another writer has removed the journals.
                return True
            with (self.directory / self.layout.files[piece.file].name).open("rb", buffering=0) as file:
                digests[piece.number] = digest_of(read_in_blocks(file, piece))  # A journal was damaged.
        if self.layout.index is not None:
            self._write(*self.layout.index)
        self._write(MANIFEST, json.dumps(self._with(digests), ensure_ascii=False, indent=1).encode())
        if self.sync:
            names_to_disk(self.directory)
        shutil.rmtree(self._state, ignore_errors=True)
        return True

    def _write(self, name: str, contents: bytes) -> None:
        with replacing(self.directory / name, sync=self.sync) as file:
            file.write(contents)

    def _with(self, digests: Mapping[int, str]) -> dict[str, Any]:
        """The manifest: the description, and where each tensor is, with the digests of its pieces."""
        places = {one.row.name: (file.name, one.offset) for file in self.layout.files for one in file.tensors}
        of_tensor: dict[str, list[str]] = {name: [] for name in places}
        for piece in self.layout.pieces:
            of_tensor[piece.row.name].append(digests[piece.number])
        plan = self.description["plan"]
        rows = [
            {**row, "file": places[name][0], "offset": places[name][1], "digests": of_tensor[name]}
            for row in plan["rows"]
            if (name := row["name"])
        ]
        return {**self.description, "plan": {**plan, "rows": rows}, "version": fastinit.__version__}


def _rename(old: Path, new: Path) -> None:
    """Renames a file unless the new name is there already; then the old file is removed."""
    try:
        os.link(old, new)
    except FileExistsError:
        pass
    except FileNotFoundError:
        raise
    except OSError:  # The file system has no links.
        if not new.exists():
            old.rename(new)
            return
    old.unlink(missing_ok=True)


def write_at(file: IO[bytes], offset: int, data: Any) -> None:
    """Writes all of some bytes at an offset of a file without a buffer."""
    view = memoryview(data).cast("B")
    file.seek(offset)
    while len(view):
        view = view[file.write(view) :]


def _lock(file: IO[bytes]) -> bool:
    """Locks a file until it is closed, where the system can; returns whether no other process has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True
