"""Checkpoints: the bytes of files, many writers, interrupts, and `verify`."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import INITIALIZERS
from plans import sampled

import fastinit
from fastinit import _files, _fill, checkpoint
from fastinit._plan import DTYPES, Part, Plan, PlanRow, given, is_float
from fastinit.checkpoint import _layout, _pieces, _store, _write

safetensors = pytest.importorskip("safetensors.numpy")
pytest.importorskip("ml_dtypes")

NORMAL = fastinit.RandomNormal(stddev=0.02)
# Sharded into several files, with tensors of several pieces once they are small.
PLAN = checkpoint.plan(
    {
        "embed.weight": ((300, 64), "bfloat16", NORMAL),
        "up.weight": ((128, 64), "float32", fastinit.HeNormal()),
        "down.weight": ((64, 128), "float16", fastinit.TruncatedNormal(stddev=0.02)),
        "mix.weight": ((64, 64), "float32", fastinit.Orthogonal()),
        "norm.weight": ((64,), "bfloat16", 1),
        "small.weight": ((33, 65), "float8_e4m3fn", NORMAL),
        "steps": ((), "int64", 7),
        "bias": ((100,), "float64", fastinit.RandomUniform()),
    }
)
SIZE = 20_000


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    """Pieces and blocks of a few kilobytes, so that small tensors have several."""
    monkeypatch.setattr(_layout, "PIECE", 2**12)
    monkeypatch.setattr(_pieces, "BLOCK", 2**10)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The files of `PLAN` with seed 1."""
    folder = tmp_path_factory.mktemp("expected")
    before = _layout.PIECE
    _layout.PIECE = 2**12
    try:
        checkpoint.write(PLAN, folder, 1, max_shard_size=SIZE, threads=1)
    finally:
        _layout.PIECE = before
    return contents(folder)


# Bytes


def every_dtype():
    names = ["a", "ü/日本.weight", 'quote"\\\n\x01\x7f', "z", "b"]
    shapes = [(3, 5), (0, 4), (), (17,), (2, 1, 3)]
    rows = {}
    for number, (dtype, shape) in enumerate(itertools.product(DTYPES, shapes)):
        rule = NORMAL if is_float(dtype) else 1
        rows[f"{names[number % 5]}.{number}"] = (shape, dtype, rule)
    return checkpoint.plan(rows)


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt", "by": "ü"}])
def test_the_bytes_are_those_of_the_library(tmp_path, metadata):
    if metadata is not None and len(metadata) > 1:
        metadata = {"by": "ü"}  # The library does not keep an order.
    plan = every_dtype()
    written = checkpoint.write(plan, tmp_path / "ours", 3, metadata=metadata, max_shard_size=None)
    assert written.files == ("model.safetensors",)
    arrays = {row.name: sampled(row, 3) for row in plan.rows}
    theirs = {"format": "pt"} if metadata is None else metadata
    safetensors.save_file(arrays, tmp_path / "theirs", theirs or None)
    assert (tmp_path / "ours" / "model.safetensors").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_shards_are_those_of_hugging_face(tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    torch = pytest.importorskip("torch")
    sizes = [5, 1000, 30, 40, 2000, 10, 25, 25, 25, 25, 1, 99, 1, 100, 1, 101, 3]
    plan = checkpoint.plan({f"t{number}": (size, "float32", 0) for number, size in enumerate(sizes)})
    for most in (400, 404, 1000, 10**6):
        folder = tmp_path / str(most)
        written = checkpoint.write(plan, folder, 0, max_shard_size=most)
        tensors = {row.name: torch.zeros(row.shape) for row in plan.rows}
        theirs = hub.split_torch_state_dict_into_shards(
            tensors, max_shard_size=most, filename_pattern="model{suffix}.safetensors"
        )
        assert set(written.files) == set(theirs.filename_to_tensors)
        for file, names in theirs.filename_to_tensors.items():
            assert set(safetensors.load_file(folder / file)) == set(names)
        index = folder / "model.safetensors.index.json"
        assert index.exists() == theirs.is_sharded
        if theirs.is_sharded:
            found = json.loads(index.read_text())
            assert found["weight_map"] == theirs.tensor_to_filename
            assert found["metadata"]["total_size"] == plan.nbytes


@pytest.mark.parametrize("initializer", INITIALIZERS, ids=lambda case: type(case[0]).__name__)
def test_every_initializer(tmp_path, initializer, monkeypatch):
    monkeypatch.setattr(_layout, "PIECE", 24)
    monkeypatch.setattr(_pieces, "BLOCK", 16)
    rule, shape = initializer
    plan = checkpoint.plan({dtype: (shape, dtype, rule) for dtype in ("float32", "float64", "bfloat16")})
    checkpoint.write(plan, tmp_path, 5, threads=2)
    found = safetensors.load_file(tmp_path / "model.safetensors")
    for row in plan.rows:
        assert found[row.name].tobytes() == sampled(row, 5).tobytes()
    assert checkpoint.verify(tmp_path).ok


def test_parts(tmp_path):
    parts = (
        Part(700, NORMAL, (100, 10), "a"),
        Part(10, fastinit.Zeros(), (10,)),
        Part(290, NORMAL, (100, 10), "a", 710),
    )
    fused = tuple(
        Part(600, rule, (20, 30), fastinit.block_stream("b", k), 0)
        for k, rule in enumerate((fastinit.HeNormal(), fastinit.Orthogonal()))
    )
    numbers = np.arange(2000, dtype=np.int32)
    plan = Plan(
        (
            PlanRow("a", (100, 10), "bfloat16", parts),
            PlanRow("b", (40, 30), "float32", fused),
            PlanRow("c", (2000,), "int32", given(numbers)),
        )
    )
    checkpoint.write(plan, tmp_path, 5)
    found = safetensors.load_file(tmp_path / "model.safetensors")
    for row in plan.rows:
        assert found[row.name].tobytes() == sampled(row, 5).tobytes()
    assert not found["a"][70].any()
    assert (found["c"] == numbers).all()
    assert checkpoint.verify(tmp_path).ok


def test_any_range_of_a_tensor():
    row = PLAN["embed.weight"]
    tensor = sampled(row, 9).reshape(-1)
    generator = random.Random(0)
    for _ in range(200):
        first = generator.randrange(row.size)
        out = np.empty(generator.randrange(row.size - first) + 1, tensor.dtype)
        _fill.fill(row, first, out, 9, 1)
        assert (out == tensor[first : first + len(out)]).all()


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_files_of_numpy(tmp_path, kind):
    plan = Plan(tuple(row for row in PLAN.rows if row.dtype not in ("bfloat16", "float8_e4m3fn")))
    written = checkpoint.write(plan, tmp_path, 2, format=kind)
    assert written.complete
    assert written.nbytes == plan.nbytes
    if kind == "npz":
        found = dict(np.load(tmp_path / "model.npz"))
        assert list(found) == [row.name for row in plan.rows]
    else:
        found = {row.name: np.load(tmp_path / f"{row.name}.npy") for row in plan.rows}
    for row in plan.rows:
        assert found[row.name].dtype == row.dtype
        assert found[row.name].tobytes() == sampled(row, 2).tobytes()
        np.save(tmp_path / "theirs", found[row.name])
        if kind == "npy":
            assert (tmp_path / "theirs.npy").read_bytes() == (tmp_path / f"{row.name}.npy").read_bytes()
    assert checkpoint.verify(tmp_path).ok


def test_names_of_npy_files(tmp_path):
    names = ["a/b", "..", "c:d", "nul\x00", "ü", " x"]
    plan = checkpoint.plan({name: (3, "bfloat16", number) for number, name in enumerate(names)})
    written = checkpoint.write(plan, tmp_path, 0, format="npy")
    assert all((tmp_path / name).is_file() for name in written.files)
    with pytest.raises(ValueError, match="the files of 'A' and 'a' are the same"):
        checkpoint.write(
            checkpoint.plan({"A": (1, "int8", 0), "a": (1, "int8", 0)}), tmp_path / "x", 0, format="npy"
        )


@pytest.mark.parametrize(
    ("names", "kind", "message"),
    [
        (["x" * 300], "npy", "would be too long"),
        (["\u00e4" * 60], "npy", "would be too long"),
        (["a\0b"], "npz", "cannot have a name with NUL"),
        (["x" * 2**16], "npz", "of 64 KiB"),
        (["a", "a.npy"], "npz", "takes 'a.npy' for 'a'"),
    ],
    ids=["long", "quoted", "nul", "archive", "pair"],
)
def test_names_that_files_of_numpy_cannot_have(tmp_path, names, kind, message):
    plan = checkpoint.plan(dict.fromkeys(names, (2, "float32", 1)))
    with pytest.raises(ValueError, match=message):
        checkpoint.write(plan, tmp_path / "out", 0, format=kind)
    assert not (tmp_path / "out").exists()


def test_empty_plans_and_tensors(tmp_path):
    for number, plan in enumerate((Plan(), checkpoint.plan({"a": ((0, 3), "float32", NORMAL)}))):
        folder = tmp_path / str(number)
        written = checkpoint.write(plan, folder, 0)
        assert written.complete
        assert set(safetensors.load_file(folder / "model.safetensors")) == {row.name for row in plan.rows}
        assert checkpoint.verify(folder).ok


# Writers


@pytest.mark.parametrize("world", [1, 2, 4, 7])
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_writers_and_threads_do_not_matter(tmp_path, expected, world, threads):
    ranks = list(range(world))
    random.Random(world).shuffle(ranks)
    for number, rank in enumerate(ranks):
        written = checkpoint.write(
            PLAN, tmp_path, 1, max_shard_size=SIZE, rank=rank, world=world, threads=threads, sync=False
        )
        assert written.complete == (number == world - 1)
        if not written.complete:
            assert "other writers" in str(written)
            assert not (tmp_path / "fastinit.json").exists()
    assert contents(tmp_path) == expected


def test_writers_have_about_the_same_work():
    layout = _layout.Layout.of(PLAN, "safetensors", SIZE, {})
    for world in (1, 2, 3, 5):
        parts = [layout.of_writer(rank, world) for rank in range(world)]
        assert sorted(piece.number for part in parts for piece in part) == list(range(len(layout.pieces)))
        sizes = [sum(piece.nbytes for piece in part) for part in parts]
        assert max(sizes) - min(sizes) <= 2 * max(piece.nbytes for piece in layout.pieces)
    assert sum(len(layout.of_writer(rank, 1000)) for rank in range(1000)) == len(layout.pieces)


def test_another_number_of_writers_continues(tmp_path, expected):
    checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE, rank=1, world=3)
    checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE, rank=0, world=2)
    written = checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE)
    assert written.complete
    assert written.kept > 0
    assert written.kept + written.nbytes == PLAN.nbytes
    assert contents(tmp_path) == expected
    again = checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE)
    assert (again.complete, again.nbytes, again.kept) == (True, 0, PLAN.nbytes)
    assert contents(tmp_path) == expected


def test_the_manifest_says_where_everything_is(expected):
    manifest = json.loads(expected["fastinit.json"])
    assert (manifest["seed"], manifest["plan"]["stream_version"]) == (1, fastinit.STREAM_VERSION)
    assert Plan.from_dict(manifest["plan"]) == PLAN
    for row in manifest["plan"]["rows"]:
        data = sampled(PLAN[row["name"]], 1).tobytes()
        assert expected[row["file"]][row["offset"] :][: len(data)] == data
        pieces = [data[at : at + manifest["piece"]] for at in range(0, len(data), manifest["piece"])]
        if row["initializer"]["class_name"] == "Orthogonal":
            pieces = [data]
        assert row["digests"] == [f"{zlib.crc32(piece):08x}" for piece in pieces]


@pytest.mark.parametrize("threads", [1, 2, 3, 100])
def test_threads_write_to_different_files(threads):
    layout = _layout.Layout.of(PLAN, "safetensors", SIZE, {})
    files = len(layout.files)
    pieces = [piece for piece in layout.pieces if piece.row.is_by_element]
    turns = _write._in_turns(pieces, threads)
    assert sorted(piece.number for piece in turns) == [piece.number for piece in pieces]
    assert len({piece.file for piece in turns[:threads]}) == min(threads, files)
    assert threads > 1 or turns == pieces
    for number in range(len(turns)):
        begun = {piece.file for piece in turns[: number + 1]}
        assert len(begun & {piece.file for piece in turns[number:]}) <= threads


# Nothing wrong that looks whole


class StoppedError(Exception):
    pass


def stop_at(moment, monkeypatch):
    """Lets the writer fail at one of its steps."""
    count = itertools.count()

    def step(function):
        def run(*args, **keywords):
            if next(count) == moment:
                raise StoppedError
            return function(*args, **keywords)

        return run

    for place, name in (
        (_store, "write_at"),
        (_write, "write_at"),
        (_store, "to_disk"),
        (_files, "to_disk"),
        (_store, "_rename"),
        (_store, "replacing"),
        (_write, "digest_of"),
        (_store.Store, "flush"),
        (_store.Store, "finish"),
        (_store.Store, "_publish"),
        (_store.shutil, "rmtree"),
    ):
        monkeypatch.setattr(place, name, step(getattr(place, name)))
    return count


def check_partial(folder, expected):
    """Nothing that has a final name is wrong."""
    for name, data in contents_of_files(folder).items():
        if not name.endswith(".incomplete"):
            assert data == expected[name], name
    if not (folder / "fastinit.json").exists():
        assert contents_of_files(folder).keys() != expected.keys()


def contents_of_files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_an_error_at_any_step_leaves_nothing_wrong(tmp_path, expected):
    with pytest.MonkeyPatch.context() as patch:
        count = stop_at(-1, patch)
        checkpoint.write(PLAN, tmp_path / "all", 1, max_shard_size=SIZE, threads=1)
        steps = next(count)
    assert contents(tmp_path / "all") == expected
    assert steps > 100
    for moment in range(0, steps, 7):
        folder = tmp_path / str(moment)
        for again in range(2):  # also while it is taken up
            with pytest.MonkeyPatch.context() as patch:
                stop_at(moment if again == 0 else moment // 2, patch)
                try:
                    written = checkpoint.write(PLAN, folder, 1, max_shard_size=SIZE, threads=1)
                except StoppedError:
                    check_partial(folder, expected)
                else:
                    assert written.complete
        assert checkpoint.write(PLAN, folder, 1, max_shard_size=SIZE).complete
        shutil.rmtree(folder / "fastinit.incomplete", ignore_errors=True)
        assert contents(folder) == expected
        shutil.rmtree(folder)


PROGRAM = """
import sys, time
from fastinit import checkpoint
from fastinit.checkpoint import _layout, _pieces
_layout.PIECE, _pieces.BLOCK = 2**12, 2**10
plan = checkpoint.Plan.load(sys.argv[1])
def slowly(done, total, name):
    if done >= total / 50:
        print("begun", flush=True)
    time.sleep(0.004)
checkpoint.write(plan, sys.argv[2], int(sys.argv[3]), max_shard_size=20_000, threads=2, progress=slowly)
"""


def start(tmp_path, folder, seed=1):
    PLAN.save(tmp_path / "plan.json")
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), tmp_path / "plan.json", folder, str(seed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="processes cannot be killed so here")
def test_killed_ten_times(tmp_path, expected):
    folder = tmp_path / "out"
    generator = random.Random(0)
    killed = 0
    for _ in range(10):
        process = start(tmp_path, folder)
        assert process.stdout.readline() in ("begun\n", "")
        time.sleep(generator.random() * 0.03)
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        check_partial(folder, expected)
    assert killed > 0
    assert checkpoint.write(PLAN, folder, 1, max_shard_size=SIZE).complete
    assert contents(folder) == expected


def test_interrupted(tmp_path, expected):
    folder = tmp_path / "out"
    process = start(tmp_path, folder)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    check_partial(folder, expected)
    assert checkpoint.write(PLAN, folder, 1, max_shard_size=SIZE).complete
    assert contents(folder) == expected


def test_a_piece_that_was_changed_meanwhile_is_written_again(tmp_path, expected):
    checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE, rank=0, world=2)
    for path in tmp_path.glob("*.incomplete"):
        if path.is_file():
            size = path.stat().st_size
            path.write_bytes(bytes(size))
    # What is whole is trusted; heads and pieces of other files are not.
    written = checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE)
    assert written.complete
    assert contents(tmp_path) == expected


def test_a_journal_that_was_cut_off(tmp_path, expected):
    checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE, rank=0, world=2)
    journal = next((tmp_path / "fastinit.incomplete").glob("*.journal"))
    journal.write_bytes(journal.read_bytes()[:-3] + b"\x00\xff\n99999 00000000\n7")
    assert checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE).complete
    assert contents(tmp_path) == expected


def test_numbers_in_a_journal_that_are_too_long(tmp_path, expected):
    checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE, rank=0, world=2)
    with (tmp_path / "fastinit.incomplete" / "0-of-2.journal").open("ab") as file:
        file.write(b"1" * 10_000 + b" 00000000\n")
    checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE)
    assert contents(tmp_path) == expected


def test_what_did_not_come_to_the_disk_is_not_recorded(tmp_path, expected, monkeypatch):
    # Linux tells of such an error once: the next wait for the same file succeeds.
    failures = [OSError(5, "Input/output error")]

    def sync(_):
        if failures:
            raise failures.pop()

    monkeypatch.setattr(_store, "to_disk", sync)
    with pytest.raises(OSError, match="Input/output error"):
        checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE, threads=1)
    (journal,) = tmp_path.glob("*/*.journal")
    assert not journal.read_bytes().strip()
    checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE)
    assert contents(tmp_path) == expected


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("kind", _layout.FORMATS)
def test_files_are_on_the_disk_before_they_get_their_names(tmp_path, monkeypatch, kind):
    def named():
        return {
            path.stat().st_ino: path
            for path in tmp_path.iterdir()
            if not path.name.startswith(".") and not path.name.endswith(".incomplete")
        }

    def sync(descriptor):
        number = os.fstat(descriptor).st_ino
        assert number not in named()
        on_disk[number] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    on_disk = {}
    monkeypatch.setattr(os, "fdatasync", sync)
    checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE, format=kind)
    for number, path in named().items():
        assert on_disk[number] == path.read_bytes(), path.name


def test_journals_that_were_deleted(tmp_path, expected):
    checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE, rank=0, world=2)
    assert list(tmp_path.glob("*.safetensors"))
    for journal in (tmp_path / "fastinit.incomplete").glob("*.journal"):
        journal.unlink()
    assert checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE).complete
    assert contents(tmp_path) == expected


def test_a_file_that_another_writer_finished_is_never_replaced(tmp_path, expected, monkeypatch):
    # As if this writer had begun, and another one had written all before it went on.
    layout = _layout.Layout.of(PLAN, "safetensors", SIZE, {"format": "pt"})
    first = next(piece for piece in layout.pieces if piece.row.name == "embed.weight")
    checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE, rank=1, world=2)
    description = json.loads((tmp_path / "fastinit.incomplete" / "checkpoint.json").read_text())
    late = _store.Store(tmp_path, description, layout, sync=True)
    assert not late.begin()
    late.done()
    for number in range(len(layout.files)):
        late._done.update(dict.fromkeys(late._of_file[number], "00000000"))
    checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE)
    for sees in (False, True):  # also if the other one is done between its look and its link
        late._prepare(first.file)  # zeros, of the right size
        with monkeypatch.context() as patch:
            if not sees:
                patch.setattr(late, "is_whole", lambda _: False)
            late.finish(first.file)
        assert contents(tmp_path) == expected
    assert late.finish_all()
    assert contents(tmp_path) == expected


def test_files_that_another_writer_finishes_meanwhile(tmp_path, expected):
    def finish_others(*_):
        checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE, rank=1, world=2)

    written = checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE, threads=1, progress=finish_others)
    assert written.complete
    assert written.kept > 0
    assert contents(tmp_path) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="files cannot be locked so here")
def test_two_processes_of_the_same_rank(tmp_path, expected):
    folder = tmp_path / "out"
    process = start(tmp_path, folder)
    try:
        assert process.stdout.readline() == "begun\n"
        with pytest.raises(FileExistsError, match="another process writes part 0 of 1"):
            checkpoint.write(PLAN, folder, 1, max_shard_size=SIZE)
        other = checkpoint.write(PLAN, folder, 1, max_shard_size=SIZE, rank=0, world=2)
        assert not other.complete or contents(folder) == expected
    finally:
        process.communicate()
    assert checkpoint.write(PLAN, folder, 1, max_shard_size=SIZE).complete
    assert contents(folder) == expected


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 2}, "another checkpoint: its seed is 1, not 2"),
        ({"max_shard_size": "1GB"}, "its max_shard_size is 20000, not 1000000000"),
        ({"format": "npy"}, "its format is 'safetensors', not 'npy'"),
        ({"metadata": {}}, "its metadata is {'format': 'pt'}, not {}"),
        (
            {"plan": checkpoint.plan(PLAN, {"norm.weight": 0})},
            "its plan differs, first in 'norm.weight'",
        ),
        ({"plan": Plan(PLAN.rows[:-1])}, "it has 8 tensors, not 7"),
    ],
)
def test_another_checkpoint_is_an_error(tmp_path, expected, whole, changes, message):
    arguments = {"plan": PLAN, "seed": 1, "max_shard_size": SIZE}
    checkpoint.write(directory=tmp_path, **arguments, world=1 if whole else 2)
    before = contents_of_files(tmp_path)
    with pytest.raises(FileExistsError, match=message):
        checkpoint.write(directory=tmp_path, **{**arguments, **changes})
    assert contents_of_files(tmp_path) == before
    assert checkpoint.write(directory=tmp_path, **arguments).complete
    assert contents(tmp_path) == expected


@pytest.mark.parametrize("name", ["model-00002-of-00004.safetensors", "model.safetensors.index.json"])
def test_nothing_is_overwritten(tmp_path, expected, name):
    assert name in expected
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=f"{name} exists, and would be overwritten"):
        checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE)
    assert contents(tmp_path) == {name: b"precious"}


def test_an_npz_is_not_overwritten(tmp_path):
    checkpoint.write(PLAN, tmp_path, 1, format="npz")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="exists, and would be overwritten"):
        checkpoint.write(PLAN, tmp_path, 2, format="npz")
    assert contents(tmp_path) == before


def test_other_files_stay(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    checkpoint.write(PLAN, tmp_path, 1)
    assert sorted(contents(tmp_path)) == ["config.json", "fastinit.json", "model.safetensors"]


def test_a_file_that_is_missing_from_a_whole_checkpoint(tmp_path):
    checkpoint.write(PLAN, tmp_path, 1)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileExistsError, match=r"delete fastinit\.json"):
        checkpoint.write(PLAN, tmp_path, 1)


def test_too_little_space(small_disk):
    plan = checkpoint.plan({"a": (10**6, "float32", NORMAL)})
    with pytest.raises(OSError, match=r"No space left on device: the checkpoint needs 4,000,") as caught:
        checkpoint.write(plan, small_disk, 0)
    assert str(small_disk) in str(caught.value)
    assert contents(small_disk) == {}


def test_far_too_little_space(tmp_path):
    plan = checkpoint.plan({"a": ((2**30, 2**20), "bfloat16", NORMAL)})
    assert checkpoint.files(plan, max_shard_size=None).rows[0].nbytes > 2**51
    with pytest.raises(OSError, match="No space left on device"):
        checkpoint.write(plan, tmp_path, 0)
    assert contents(tmp_path) == {}


def test_a_disk_that_others_fill(small_disk):
    plan = checkpoint.plan({f"t{number}": (30_000, "float32", NORMAL) for number in range(3)})
    filler = small_disk / "filler"

    def fill(*_):
        if not filler.exists():
            with filler.open("wb", buffering=0) as file:
                try:
                    while file.write(bytes(4096)):
                        pass
                except OSError:
                    pass

    with pytest.raises(OSError, match="No space left on device"):
        checkpoint.write(plan, small_disk, 0, threads=1, progress=fill, max_shard_size=200_000)
    assert not (small_disk / "fastinit.json").exists()
    whole = {path.name for path in small_disk.glob("*.safetensors")}
    assert len(whole) < 3
    filler.unlink()
    assert checkpoint.write(plan, small_disk, 0, max_shard_size=200_000).complete
    assert checkpoint.verify(small_disk).ok


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak of a process")
def test_memory():
    program = """
        import tempfile, fastinit
        from fastinit import checkpoint
        def peak():
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) * 1024
        plan = checkpoint.plan({"a": ((2**14, 2**13), "bfloat16", fastinit.RandomNormal())})
        small = checkpoint.plan({"a": (2**18, "bfloat16", fastinit.RandomNormal())})
        with tempfile.TemporaryDirectory() as folder:
            checkpoint.write(small, folder + "/small", 0, threads=8)
            checkpoint.verify(folder + "/small")
            before = peak()
            checkpoint.write(plan, folder + "/large", 0, threads=8, sync=False)
            checkpoint.verify(folder + "/large", threads=8)
            print(peak() - before)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert 2**20 < int(result.stdout) < 128 * 2**20  # The file has 256 MiB.


# Arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"plan": {}}, TypeError, "plan must be a Plan, got dict"),
        ({"seed": -1}, ValueError, "seed must be"),
        ({"seed": 2**64}, ValueError, "seed must be"),
        ({"seed": None}, TypeError, "seed must be"),
        ({"rank": 1}, ValueError, "rank must be from 0 to 0, got 1"),
        ({"rank": 0, "world": 0}, ValueError, "world must be at least 1"),
        ({"threads": 0}, ValueError, "threads must be at least 1"),
        ({"max_shard_size": 0}, ValueError, "max_shard_size must be at least 1"),
        ({"max_shard_size": "5"}, ValueError, 'written like "5GB"'),
        ({"max_shard_size": "-5GB"}, ValueError, 'written like "5GB"'),
        ({"max_shard_size": 1.5}, TypeError, "max_shard_size must be an int"),
        ({"format": "gguf"}, ValueError, "format must be one of safetensors, npy, npz"),
        ({"format": "npz", "world": 2}, ValueError, "an .npz has one writer, got world=2"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        checkpoint.write(**{"plan": PLAN, "directory": tmp_path / "x", "seed": 0, **arguments})
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5GB", 5 * 10**9),
        ("5GiB", 5 * 2**30),
        ("1.5 kB", 1500),
        ("512MiB", 2**29),
        ("100B", 100),
        ("2tb", 2 * 10**12),
        (7, 7),
        (None, None),
    ],
)
def test_sizes(text, size):
    assert _layout.bytes_of(text) == size


# Verification


def flipped(path, offset):
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def test_one_flipped_byte_anywhere_is_found(tmp_path):
    checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE)
    layout = _layout.Layout.of(PLAN, "safetensors", SIZE, {"format": "pt"})
    assert checkpoint.verify(tmp_path).ok
    offsets = {one.row.name: one.offset for file in layout.files for one in file.tensors}
    generator = random.Random(1)
    places = [(None, layout.index[0], 17)]
    for file in layout.files:
        places += [(None, file.name, at) for at in (0, 7, 8, len(file.head) - 1)]
        for row, offset in file.tensors:
            inside = generator.randrange(row.nbytes)
            places += [(row, file.name, offset + at) for at in (0, inside, row.nbytes - 1)]
    for row, name, at in places:
        flipped(tmp_path / name, at)
        found = checkpoint.verify(tmp_path, threads=2)
        assert not found.ok
        (one,) = found.differences
        assert (one.file, one.tensor, one.begin, one.end) == (name, row and row.name, at, at + 1)
        if row is not None:
            assert one.element == (at - offsets[row.name]) // DTYPES[row.dtype]
            assert row.name in str(found)
        flipped(tmp_path / name, at)
    assert checkpoint.verify(tmp_path).ok


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_flipped_bytes_in_files_of_numpy(tmp_path, kind):
    plan = Plan(PLAN.rows[3:])
    written = checkpoint.write(plan, tmp_path, 1, format=kind)
    generator = random.Random(1)
    for name in written.files:
        size = (tmp_path / name).stat().st_size
        for at in (0, 30, generator.randrange(size), size - 1):
            flipped(tmp_path / name, at)
            (one,) = checkpoint.verify(tmp_path).differences
            assert (one.file, one.begin, one.end) == (name, at, at + 1)
            flipped(tmp_path / name, at)
        with (tmp_path / name).open("ab") as file:
            file.write(b"x")
        assert checkpoint.verify(tmp_path).differences[0].begin == size
        os.truncate(tmp_path / name, size - 1)
        assert any(one.begin == size - 1 for one in checkpoint.verify(tmp_path).differences)
        os.truncate(tmp_path / name, 0)
        assert not checkpoint.verify(tmp_path).ok
        break


def test_files_that_are_missing_longer_or_shorter(tmp_path):
    checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE)
    path = tmp_path / "model-00001-of-00004.safetensors"
    data = path.read_bytes()
    path.write_bytes(data + b"x")
    (one,) = checkpoint.verify(tmp_path).differences
    assert (one.begin, one.end) == (len(data), len(data) + 1)
    path.write_bytes(data[:-5])
    found = checkpoint.verify(tmp_path).differences
    assert {(one.begin, one.end) for one in found} == {(len(data) - 5, len(data))}
    path.unlink()
    (one,) = checkpoint.verify(tmp_path).differences
    assert (one.file, one.problem) == (path.name, "there is no such file")
    (tmp_path / "model.safetensors.index.json").unlink()
    assert len(checkpoint.verify(tmp_path).differences) == 2


def test_a_digest_that_was_changed(tmp_path):
    checkpoint.write(PLAN, tmp_path, 1)
    path = tmp_path / "fastinit.json"
    manifest = json.loads(path.read_text())
    row = manifest["plan"]["rows"][0]
    row["digests"][0] = "00000000"
    path.write_text(json.dumps(manifest))
    (one,) = checkpoint.verify(tmp_path).differences
    assert (one.file, one.tensor) == ("fastinit.json", row["name"])
    manifest["seed"] = 2
    path.write_text(json.dumps(manifest))
    assert len(checkpoint.verify(tmp_path).differences) > 8


@pytest.mark.parametrize(("name", "value"), [("file", "other"), ("offset", 0), ("piece", 5)])
def test_places_that_were_changed(tmp_path, name, value):
    checkpoint.write(PLAN, tmp_path, 1)
    path = tmp_path / "fastinit.json"
    manifest = json.loads(path.read_text())
    (manifest if name == "piece" else manifest["plan"]["rows"][3])[name] = value
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"fastinit.json is damaged"):
        checkpoint.verify(tmp_path)


def test_a_sample(tmp_path):
    checkpoint.write(PLAN, tmp_path, 1, max_shard_size=SIZE)
    found = checkpoint.verify(tmp_path, sample=3)
    assert found.ok
    assert 0 < found.checked <= 3 * 2**14
    everything = checkpoint.verify(tmp_path, sample=10**6)
    assert everything.checked == everything.nbytes == PLAN.nbytes
    with pytest.raises(ValueError, match="sample must be at least 1"):
        checkpoint.verify(tmp_path, sample=0)


def test_what_cannot_be_verified(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no fastinit\.json"):
        checkpoint.verify(tmp_path)
    checkpoint.write(PLAN, tmp_path, 1, world=2)
    with pytest.raises(FileNotFoundError, match="is not complete: call write again"):
        checkpoint.verify(tmp_path)
    for text in ("", "[]", "{}", '{"schema": "checkpoint/2"}', '{"schema": "checkpoint/1"}', "[" * 10**5):
        (tmp_path / "fastinit.json").write_text(text)
        with pytest.raises(ValueError, match=r"fastinit.json is damaged"):
            checkpoint.verify(tmp_path)


def places(values, path=()):
    """The paths to all values in a document of JSON."""
    items = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    )
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def test_damaged_manifests(tmp_path):
    plan = checkpoint.plan({"a": ((30, 10), "float32", fastinit.HeNormal()), "b": (3, "bool", 1)})
    checkpoint.write(plan, tmp_path, 0)
    manifest = tmp_path / "fastinit.json"
    text = manifest.read_text()
    for path in places(json.loads(text)):
        for new in ("delete", None, -1, "x", [], {}, 1e300, True, 2**70, [[1]]):
            values = json.loads(text)
            place = values
            for key in path[:-1]:
                place = place[key]
            if new == "delete":
                del place[path[-1]]
            else:
                place[path[-1]] = new
            manifest.write_text(json.dumps(values))
            try:
                checkpoint.verify(tmp_path)
            except ValueError as error:
                assert "fastinit.json is damaged" in str(error)  # noqa: PT017
            try:
                assert checkpoint.write(plan, tmp_path, 0).complete
            except (FileExistsError, ValueError) as error:
                assert str(tmp_path) in str(error)  # noqa: PT017


@pytest.mark.skipif(not hasattr(os, "symlink") or sys.platform == "win32", reason="links need permission")
@pytest.mark.parametrize("kind", ["link", "directory"])
def test_incomplete_files_that_are_none(tmp_path, kind):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    path = tmp_path / "out" / "model.safetensors.incomplete"
    path.parent.mkdir()
    if kind == "link":
        path.symlink_to(precious)
    else:
        path.mkdir()
    with pytest.raises(FileExistsError, match="is not a regular file"):
        checkpoint.write(PLAN, tmp_path / "out", 0)
    assert precious.read_text() == "precious"


def test_results_as_values(tmp_path):
    written = checkpoint.write(PLAN, tmp_path, 1)
    assert json.loads(json.dumps(written.to_dict()))["schema"] == "written/1"
    assert str(written).startswith(f"{tmp_path}: 1 file, ")
    found = checkpoint.verify(tmp_path)
    assert json.loads(json.dumps(found.to_dict()))["ok"] is True
    assert str(found).startswith(f"{tmp_path}: right, ")


def test_progress(tmp_path):
    calls = []
    checkpoint.write(PLAN, tmp_path, 1, progress=lambda *told: calls.append(told))
    assert calls[-1][:2] == (PLAN.nbytes, PLAN.nbytes)
    assert {name for _, _, name in calls} == {row.name for row in PLAN.rows}
    assert [done for done, _, _ in calls] == sorted({done for done, _, _ in calls})
    calls.clear()
    checkpoint.verify(tmp_path, progress=lambda *told: calls.append(told))
    assert calls[-1][:2] == (PLAN.nbytes, PLAN.nbytes)
