"""`diagnose` of many tensors, of files that are damaged on purpose or are none, and interrupted."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import tracemalloc
import zipfile

import numpy as np
import pytest

import fastinit
from fastinit import diagnose
from fastinit._terminal import printable
from fastinit.guidance.diagnose import measure, parts
from fastinit.guidance.diagnose.onepass import split
from fastinit.guidance.diagnose.sources import elements

unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has none of these")


# Many tensors


def drawn(i, shape=(8, 8)):
    return fastinit.random_normal(shape, stddev=0.3, seed=0, stream=i)


MANY = {
    "kernels": lambda i: {f"layer{i}.kernel": drawn(i)},
    "kernels of one layer": lambda i: {f"k{i}kernel": drawn(i)},
    "kernels that are zero": lambda i: {f"layer{i}.kernel": np.zeros((8, 8), np.float32)},
    "some that are zero": lambda i: {f"layer{i}.kernel": drawn(i) * np.float32(i % 2)},
    "two kinds, one zero": lambda i: {
        f"layer{i}.{k}.kernel": drawn(2 * i + k) * np.float32(k) for k in (0, 1)
    },
    "constant kernels": lambda i: {f"layer{i}.kernel": np.full((8, 8), 0.1, np.float32)},
    "transposed kernels": lambda i: {f"layer{i}.kernel": drawn(i // 2).T.copy() if i % 2 else drawn(i // 2)},
    "symmetric kernels": lambda i: {f"layer{i}.kernel": drawn(0) + drawn(0).T},
    "equal kernels": lambda i: {f"layer{i}.kernel": drawn(0)},
    "biases": lambda i: {f"layer{i}.bias": drawn(i, 8)},
    "kernels and biases of one layer": lambda i: {f"k{i}kernel": drawn(i), f"k{i}bias": drawn(i + 999, 8)},
    "scales": lambda i: {f"layer{i}.scale": drawn(i, 8)},
    "embeddings": lambda i: {f"layer{i}.embedding": drawn(i)},
    "running means": lambda i: {f"layer{i}.running_mean": drawn(i, 8)},
    "skipped": lambda i: {f"layer{i}.kernel": drawn(i).astype(np.complex64)},
}


@pytest.mark.parametrize("kind", MANY)
def test_the_work_is_linear_in_the_number_of_tensors(kind):
    def work(count):
        tensors = {name: array for i in range(count) for name, array in MANY[kind](i).items()}
        diagnose(tensors)  # fills the caches
        events = 0

        def count_one(*_):
            nonlocal events
            events += 1

        sys.setprofile(count_one)
        try:
            str(diagnose(tensors))
        finally:
            sys.setprofile(None)
        return events

    few, more, most = map(work, (100, 200, 300))
    assert most - more <= 1.05 * (more - few)


def test_many_axes():
    axes = 200_000  # Products of every slice of the shape would take hours.
    assert split((1,) * axes, None) == (1, True)
    assert split((2,) * axes + (0,), None) == (axes + 1, False)
    assert split((2, 3, 4, 5), None) == (2, True)
    assert split((2, 3, 4, 5), 1) == (1, True)


@pytest.mark.parametrize("axes", [33, 1001, 3000])
@pytest.mark.parametrize("name", ["l.kernel", "l.scale", "l.embed", "l.bias", "x"])
def test_tensors_of_many_axes(tmp_path, axes, name):
    shape = (2, 3, *(1,) * (axes - 2))
    file = write_npz(
        tmp_path / "w.npz", {name: member(shape, np.arange(6, dtype="<f4").tobytes()), "l.bias2": bias()}
    )
    found = diagnose(file)
    assert found[name].shape == shape
    assert found[name].max == 5.0
    assert f"{axes} axes" in str(found)


@pytest.mark.parametrize(
    "name",
    [
        f"layer{'9' * 5000}.kernel",
        f"{'9' * 5000}.kernel",
        f"layer{'9' * 400}.kernel",
        "a" * 100_000 + "/x.kernel",
        ("a" * 1000 + ".") * 100 + "kernel",
        ":1" * 50_000 + "x",
    ],
    ids=["5000 digits", "only digits", "400 digits", "one part", "many parts", "colons"],
)
def test_long_names(name):
    # The last kernel is compared with what the others follow, divided by its depth.
    tensors = {f"layer{i}.kernel": fastinit.lecun_normal((64, 64), seed=0, stream=i) for i in range(6)}
    found = diagnose({**tensors, name: fastinit.lecun_normal((64, 64), seed=1) / 9})
    assert found[name].shape == (64, 64)


# Files that are none


def bias():
    return member((4,), bytes(16))


def member(shape, data, descr="<f4", *, fortran=False, length=None):
    """An array in NumPy's format, which may lie."""
    header = repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode()
    length = len(header) if length is None else length
    return b"\x93NUMPY\x02\x00" + length.to_bytes(4, "little") + header + data


def write_npz(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def safetensors_file(path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))


SPECIAL = {
    "a FIFO": os.mkfifo if hasattr(os, "mkfifo") else None,
    "a link to a FIFO": lambda path: (os.mkfifo(f"{path}.fifo"), path.symlink_to(f"{path}.fifo")),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to a terminal": lambda path: path.symlink_to("/dev/ptmx"),
    "a socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@unix
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", ["w.npy", "w.npz", "w.safetensors", "w.safetensors.index.json"])
def test_only_regular_files_are_read(tmp_path, monkeypatch, name, kind):
    monkeypatch.chdir(tmp_path)  # The path of a socket must be short.
    SPECIAL[kind](path := type(tmp_path)(name))
    with pytest.raises((ValueError, OSError), match=r"regular file|no file|symbolic links"):
        diagnose(path)


@unix
@pytest.mark.parametrize("kind", ["a FIFO", "a link to a device", "a link to nothing"])
@pytest.mark.parametrize("has_index", [True, False])
def test_only_regular_shards_are_read(tmp_path, kind, has_index):
    SPECIAL[kind](tmp_path / "b.safetensors")
    safetensors_file(tmp_path / "a.safetensors")
    if has_index:
        index = {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    pytest.importorskip("safetensors")
    with pytest.raises((ValueError, OSError), match=r"b\.safetensors"):
        diagnose(tmp_path)


@unix
def test_a_link_to_a_regular_file_is_read(tmp_path):
    np.save(tmp_path / "w.npy", drawn(0))
    (tmp_path / "link.npy").symlink_to("w.npy")
    assert diagnose(tmp_path / "link.npy")["array"].shape == (8, 8)


ZEROS = bytes(2**24)
BOMBS = {
    "header": (member((2,), ZEROS, length=2**24), "header has 16,777,216 bytes"),
    "short": (member((2, 2), b""), "ends before"),
    "far too short": (member((2**40, 2**20), ZEROS), "ends before"),
    "far too short, in Fortran order": (member((2**40, 2**20), ZEROS, fortran=True), "ends before"),
    "negative": (member((-2, -2), ZEROS), "ends before"),
    "one is negative": (member((-2, 4), ZEROS), "ends before"),
    "huge and empty": (member((2**63, 2**63, 0), b""), None),
    "long": (member((2, 2), ZEROS), None),
    "long, in Fortran order": (member((2, 2), ZEROS, fortran=True), None),
    "long and large": (member((2048, 2), ZEROS), None),
    "not a tuple": (member(5, ZEROS), "damaged"),
    "objects": (member((2,), ZEROS, "|O"), "skipped"),
    "records": (member((2,), ZEROS, [("a", "<f4")]), "skipped"),
}


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_no_more_is_inflated_than_the_shape_says(tmp_path, suffix, kind):
    data, message = BOMBS[kind]
    file = tmp_path / f"w{suffix}"
    if suffix == ".npz":
        write_npz(file, {"array": data})
        assert file.stat().st_size < 2**16
    else:
        file.write_bytes(data)
    tracemalloc.start()
    try:
        if message is None:
            diagnose(file)
        elif message == "skipped":
            assert diagnose(file).skipped
        else:
            with pytest.raises(ValueError, match=message) as caught:
                diagnose(file)
            assert str(file) in str(caught.value)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_size_that_cannot_be_true(tmp_path):
    # The archive says that the member has 2**60 bytes; no file of this size inflates to that.
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", member((2**20, 2**37), bytes(100), fortran=True))
        archive.infolist()[0].file_size = 2**60
    (tmp_path / "w.npz").write_bytes(data.getvalue())
    with pytest.raises(ValueError, match="ends before its data"):
        diagnose(tmp_path / "w.npz")


@pytest.mark.parametrize("name", ["ZIP_BZIP2", "ZIP_LZMA"])
def test_compressions_without_a_bound(tmp_path, name):
    pytest.importorskip({"ZIP_BZIP2": "bz2", "ZIP_LZMA": "lzma"}[name])
    file = write_npz(tmp_path / "w.npz", {"a": member((2**22,), ZEROS)}, getattr(zipfile, name))
    with pytest.raises(ValueError, match="compressed in another way"):
        diagnose(file)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("size", [4, 2**12])
def test_damaged_archives(tmp_path, size):
    array = member((size,), fastinit.random_normal(size, seed=0).tobytes())
    file = write_npz(tmp_path / "w.npz", {"a": array}, zipfile.ZIP_STORED)
    with zipfile.ZipFile(file, "a", allowZip64=True) as archive:
        archive.writestr("a.npy", array)
    with pytest.raises(ValueError, match="'a' is in it twice"):
        diagnose(file)
    good = write_npz(tmp_path / "w.npz", {"a": array}, zipfile.ZIP_STORED).read_bytes()
    assert diagnose(file)["a"].shape == (size,)
    at = good.index(array) + len(array) - 3
    file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    with pytest.raises(ValueError, match="CRC"):
        diagnose(file)
    for length in range(0, len(good), max(1, len(good) // 50)):
        file.write_bytes(good[:length])
        with pytest.raises(ValueError, match=r"w\.npz"):
            diagnose(file)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".safetensors"])
def test_any_change_of_a_file_is_an_error_or_none(tmp_path, suffix):
    file = tmp_path / f"w{suffix}"
    if suffix == ".npz":
        np.savez_compressed(file, a=drawn(0), b=np.asfortranarray(drawn(1)), c=np.zeros(3, np.float16))
    elif suffix == ".npy":
        np.save(file, drawn(0))
    else:
        pytest.importorskip("safetensors")
        safetensors_file(file)
    good = file.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for at in random.integers(0, len(good), 300):
        bad = bytearray(good)
        bad[at] ^= 1 << random.integers(8)
        file.write_bytes(bad)
        try:
            diagnose(file)
        except ValueError as error:
            refused += 1
            assert file.name in str(error)  # noqa: PT017
    assert refused


# Interrupts


def interrupt():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@unix
@pytest.mark.parametrize("tensors", [1, 5])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_ends_the_reading_of_a_part(monkeypatch, tensors, threads):
    # Without a look at the chunks that are to come, this would never end.
    once = iter([interrupt])

    def endless(self, stop):
        def read(*_):
            while True:
                next(once, lambda: None)()
                yield np.zeros(1024, np.float32)

        object.__setattr__(self.tensor, "read", read)
        return part(self, stop)

    part = parts.Part.measure
    monkeypatch.setattr(parts.Part, "measure", endless)
    monkeypatch.setattr(measure, "get_num_threads", lambda: threads)
    x = {f"a{i}": np.zeros(2**20, np.float32) for i in range(tensors)}
    with pytest.raises(KeyboardInterrupt):
        diagnose(x)


@unix
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_an_interrupt_ends_the_reading_of_a_file(tmp_path, monkeypatch, suffix, order):
    file = tmp_path / f"w{suffix}"
    if suffix == ".npz":
        write_npz(file, {"array": member((4096, 8192), bytes(2**27), fortran=order == "F")})
    else:
        file.write_bytes(member((4096, 8192), b"", fortran=order == "F"))
        os.truncate(file, 2**28)
    pieces = 0
    read_exactly = elements.read_exactly

    def counted(*arguments):
        nonlocal pieces
        pieces += 1
        if pieces == 3:
            interrupt()
        read_exactly(*arguments)

    monkeypatch.setattr(elements, "read_exactly", counted)
    with pytest.raises(KeyboardInterrupt):
        diagnose(file)
    assert pieces < 64 < 2**27 // 2**20


# Text on the terminal

HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e\n"


def run(*arguments, cwd):
    done = subprocess.run(
        [sys.executable, "-m", "fastinit", *arguments],
        capture_output=True,
        cwd=cwd,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "500", "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).decode()


def weights(path, suffix):
    if suffix == ".npy":
        np.save(path, np.zeros((8, 8), np.float32))
    elif suffix == ".npz":
        write_npz(path, {HOSTILE: member((8, 8), bytes(256))})
    else:
        safetensors_file(path)


COMMANDS = {
    "missing": ("diagnose", "{}.npy"),
    "damaged": ("diagnose", "bad{}.npy"),
    "damaged archive": ("diagnose", "bad{}.npz"),
    "damaged safetensors": ("diagnose", "bad{}.safetensors"),
    "a directory": ("diagnose", "dir{}"),
    "unknown": ("diagnose", "bad{}"),
    "findings": ("diagnose", "good{}.npz"),
    "findings as JSON": ("diagnose", "good{}.npz", "--json"),
    "pattern": ("diagnose", "good{}.npz", "--expect", "{}=he_normal"),
    "expect": ("diagnose", "good{}.npz", "--expect", "{}"),
    "too many files": ("diagnose", "a", "b{}"),
    "picture of what is missing": ("show", "{}.npy", "-o", "w.png"),
    "picture of what is damaged": ("show", "bad{}.npy", "-o", "w.png"),
    "picture": ("show", "he_normal", "-o", "no{}/w.png"),
    "written": ("sample", "zeros", "2x2", "-o", "new{}.npy"),
    "not written": ("sample", "zeros", "2x2", "-o", "no{}/w.npy"),
    "not a regular file": ("sample", "zeros", "2x2", "-o", "dir{}.npy"),
    "initializer": ("sample", "ze{}ros", "2x2", "-o", "w.npy"),
    "shape": ("sample", "zeros", "2{}x2", "-o", "w.npy"),
    "seed": ("sample", "zeros", "2x2", "-o", "w.npy", "--seed", "{}"),
    "option": ("sample", "--see{}"),
    "command": ("{}",),
    "proposal": ("recommend", "relu", "--proposal", "he{}"),
    "label": ("signal", "random_normal:stddev=0.1{}", "--depth", "2", "--width", "8"),
}


@unix
@pytest.mark.parametrize("kind", COMMANDS)
def test_names_reach_the_terminal_escaped(tmp_path, kind):
    pytest.importorskip("typer")
    for suffix in ("", ".npy", ".npz", ".safetensors"):
        (tmp_path / f"bad{HOSTILE}{suffix}").write_bytes(b"something else")
        if suffix:
            weights(tmp_path / f"good{HOSTILE}{suffix}", suffix)
    (tmp_path / f"dir{HOSTILE}").mkdir()
    (tmp_path / f"dir{HOSTILE}.npy").mkdir()
    status, text = run(*(part.format(HOSTILE) for part in COMMANDS[kind]), cwd=tmp_path)
    assert text.isascii() or printable(text.replace("\n", "")) == text.replace("\n", "")
    assert "\x1b" not in text
    assert not {"\x07", "\x9b", "\u202e"} & set(text)
    assert kind == "seed" or status in (0, 1, 2)
    assert "Traceback" not in text


@unix
def test_an_unexpected_error_is_escaped(tmp_path):
    pytest.importorskip("typer")
    (tmp_path / "sitecustomize.py").write_text(
        "import json\ndef fail(*_, **__):\n    raise RuntimeError('\\x1b[31m broken')\njson.dumps = fail\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "fastinit", "info", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        check=False,
    )
    assert done.returncode == 1
    assert "RuntimeError: \\x1b[31m broken" in done.stderr
    assert "\x1b" not in done.stderr
