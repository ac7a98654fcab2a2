"""Files that are read, and files that are written as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

# Written at a time where the system cannot reserve space.
_PIECE = 2**20


def check_input(path: str | os.PathLike[str]) -> None:
    """Checks that a file can be read; a FIFO or a device might give nothing, or never end.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not a regular file, nor a link to one.
    """
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not file.is_file():
        raise ValueError(f"cannot read {path}: it is not a regular file")


def check_output(path: str | os.PathLike[str]) -> tuple[Path, int | None]:
    """The file that a path leads to, through links, and its permissions if it exists.

    Raises:
        ValueError: If something else than a regular file is there, such as a directory, a FIFO or a device.
        OSError: If its name is too long, or its folder cannot be read.
    """
    file = Path(os.path.realpath(path))
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return file, None
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise ValueError(f"cannot write to {str(path)!r}, which is {what}")
    return file, stat.S_IMODE(mode)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, sync: bool = False) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `path` once the block ends, and is deleted if the block fails.

    Until then nobody sees a part of it, and of several writers the last one wins. A link stays a link, and a
    file keeps its permissions.

    Args:
        path: The file.
        sync: Whether to wait until the contents are on the disk before it takes its place.

    Raises:
        ValueError, OSError: See `check_output`; also if the file cannot be written. Windows does not let a
            file be replaced that a program has open, or that is marked as read-only.
    """
    file, mode = check_output(path)
    # A name that nobody can guess or have used, and that is never too long.
    new = file.with_name(f".fastinit-{secrets.token_hex(16)}")
    try:
        with new.open("x+b") as opened:  # It must be new, so no link is followed.
            yield opened
            if sync:
                to_disk(opened)
        # Windows has only an attribute against writing, and a file that has it cannot be replaced.
        if mode is not None and os.name != "nt":
            new.chmod(mode)
        new.replace(file)
    finally:
        with contextlib.suppress(OSError):  # It has its place now, or was never made.
            new.unlink()


def to_disk(file: IO[bytes]) -> None:
    """Waits until what was written to a file is on the disk."""
    file.flush()
    getattr(os, "fdatasync", os.fsync)(file.fileno())


def names_to_disk(directory: Path) -> None:
    """Waits until the names of the files in a directory are on the disk, where the system can."""
    if os.name != "nt":
        folder = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """What NumPy writes before the elements of an array, of bfloat16 and float8 as of raw bytes."""
    header = io.BytesIO()
    about = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)
    return header.getvalue()


def reserve(file: IO[bytes], size: int) -> None:
    """Gives a new file its size, and the space on the disk, so that stores to its mapped pages cannot fail.

    Raises:
        OSError: If there is not enough space, or the file may not be as large.
    """
    if hasattr(os, "statvfs"):
        # Otherwise the system would take all that is left, also from others, before it gives up.
        disk = os.statvfs(file.fileno())
        if disk.f_blocks > 0 and disk.f_bfree * disk.f_frsize < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        else:
            return
    zeros = bytes(_PIECE)
    file.seek(0, os.SEEK_END)
    for at in range(file.tell(), size, _PIECE):
        file.write(zeros[: size - at])
    file.flush()
