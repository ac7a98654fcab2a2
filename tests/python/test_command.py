"""The command `fastinit`: what it prints, what it writes, and its exit status."""

import contextlib
import errno
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import forked
import numpy as np
import pytest

import fastinit
from fastinit._files import reserve

pytest.importorskip("typer")


def run(*arguments, status=0, folder=None, **environment):
    """What the command prints to standard output, and to standard error."""
    if not environment and hasattr(os, "fork"):
        code, out, err = forked.run(list(map(str, arguments)), folder)
        assert code == status, out + err
        return out, err
    done = subprocess.run(
        [sys.executable, "-m", "fastinit", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=folder,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout, done.stderr


def test_help_names_every_command():
    out, _ = run("--help")
    commands = [
        "list",
        "recommend",
        "recipe",
        "gain",
        "diagnose",
        "show",
        "signal",
        "compare",
        "sample",
        "plan",
        "write",
        "verify",
        "bench",
        "info",
    ]
    assert all(command in out for command in commands)
    for command in commands:
        assert "--help" in run(command, "--help")[0]


def test_list_has_every_initializer():
    document = json.loads(run("list", "--json")[0])
    assert document["schema"] == "list/1"
    found = document["initializers"]
    assert {one["name"] for one in found} == {
        name
        for name in fastinit.__all__
        if name.islower() and name.title().replace("_", "") in fastinit.__all__
    }
    by_name = {one["name"]: one for one in found}
    assert by_name["random_normal"]["parameters"] == {"mean": 0.0, "stddev": 0.05}
    assert by_name["random_normal"]["is_random"]
    assert not by_name["zeros"]["is_random"]
    out, _ = run("list")
    assert all(name in out for name in by_name)
    assert "\x1b" not in out  # no colours in a pipe


@pytest.mark.parametrize(("suffix", "dtype"), [(".npy", "float32"), (".npy", "float16"), (".npy", "float64")])
def test_sample_writes_what_the_function_makes(tmp_path, suffix, dtype):
    file = tmp_path / f"w{suffix}"
    _, err = run("sample", "he_normal", "300x40", "-o", file, "--seed", 3, "--stream", "a", "--dtype", dtype)
    assert "GB/s" in err
    found = np.load(file)
    assert found.dtype == dtype
    np.testing.assert_array_equal(
        found, fastinit.he_normal((300, 40), seed=3, stream="a", dtype=dtype), strict=True
    )
    assert [one.name for one in tmp_path.iterdir()] == [file.name]


RULES = ("--rule", "*.bias=0", "--rule", "*=random_normal(stddev=0.02)")


@pytest.fixture
def like(tmp_path):
    """A file of which only the header is there."""
    save_file = pytest.importorskip("safetensors.numpy").save_file
    arrays = {"up.weight": np.ones((300, 64), np.float32), "up.bias": np.ones(300, np.float32)}
    file = tmp_path / "like.safetensors"
    save_file(arrays, file)
    data = file.read_bytes()
    file.write_bytes(data[: 8 + int.from_bytes(data[:8], "little")])
    return file


def test_plan_write_and_verify(tmp_path, like):
    pytest.importorskip("ml_dtypes")
    out, _ = run("plan", like, *RULES, "-o", tmp_path / "plan.json")
    assert "RandomNormal(stddev=0.02)" in out
    assert "2 tensors, 19,500 elements, 78 kB" in out
    assert json.loads(run("plan", tmp_path / "plan.json", "--json")[0])["schema"] == "plan/1"
    command = ["write", "--like", tmp_path / "plan.json", "--seed", 3, "-o", tmp_path / "out", "--dtype"]
    command += ["bfloat16", "--max-shard-size", "10kB"]
    out, _ = run(*command, "--dry-run")
    assert "2 files" in out
    assert not (tmp_path / "out").exists()
    out, _ = run(*command, "--rank", 1, "--world", 2)
    assert "other writers have parts to write" in out
    assert json.loads(run(*command, "--json")[0])["complete"]
    arrays = {}
    for file in (tmp_path / "out").glob("*.safetensors"):
        arrays.update(pytest.importorskip("safetensors.numpy").load_file(file))
    expected = fastinit.random_normal((300, 64), stddev=0.02, seed=3, stream="up.weight", dtype="bfloat16")
    assert arrays["up.weight"].tobytes() == expected.tobytes()
    assert not arrays["up.bias"].any()
    assert ": right, " in run("verify", tmp_path / "out")[0]
    with (tmp_path / "out" / "model-00001-of-00002.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    assert "up.weight" in run("verify", tmp_path / "out", status=1)[0]
    assert not json.loads(run("verify", tmp_path / "out", "--json", "--sample", 9, status=1)[0])["ok"]


def test_rules_of_a_recipe(like):
    out, _ = run("plan", like, "--rule", "up.bias=0.5", "--recipe", "siren:omega=10", "--rule", "*=1")
    assert out.count("Constant") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rule", "*"), "--rule must be written PATTERN=INITIALIZER"),
        (("--rule", "*=he_norm"), "did you mean 'he_normal'"),
        (("--rule", "*=random_normal(0.02)"), "parameters must be written"),
        (("--rule", "*.bias=0"), "1 tensor has no rule: up.weight"),
        (("--rule", "*=0", "--dtype", "int8"), "dtype must be one of floats"),
        (("--rule", "*=0", "-o", "plan.txt"), "the file must be .json"),
        (("--recipe", "none"), "the recipe must be one of"),
        (("--recipe", "gpt2:name=3"), "has no parameter 'name'"),
    ],
)
def test_wrong_plans(like, arguments, message):
    _, err = run("plan", like, *arguments, status=2)
    assert message in err


def test_sample_in_blocks(tmp_path):
    file = tmp_path / "w.npy"
    run("sample", "glorot_normal:blocks=(8,4,4)", "8x16", "-o", file, "--seed", 3, "--stream", "qkv")
    expected = fastinit.glorot_normal((8, 4), seed=3, stream=fastinit.block_stream("qkv", 2))
    np.testing.assert_array_equal(np.load(file)[:, 12:], expected, strict=True)


def test_parameters_with_several_values(tmp_path):
    file = tmp_path / "w.npy"
    run("sample", "he_normal:batch_axis=(0, 1),groups=2", "3x4x8x6", "-o", file, "--seed", 3)
    expected = fastinit.he_normal((3, 4, 8, 6), batch_axis=(0, 1), groups=2, seed=3, stream=0)
    np.testing.assert_array_equal(np.load(file), expected, strict=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sample_writes_safetensors(tmp_path, dtype):
    file = tmp_path / "w.safetensors"
    run(
        "sample",
        "random_normal:stddev=0.5",
        "7x9",
        "-o",
        file,
        "--seed",
        1,
        "--stream",
        "k",
        "--dtype",
        dtype,
    )
    raw = file.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    expected = fastinit.random_normal((7, 9), stddev=0.5, seed=1, stream="k", dtype=dtype)
    assert header["k"]["shape"] == [7, 9]
    assert header["k"]["dtype"] == {"float32": "F32", "bfloat16": "BF16"}[dtype]
    assert raw[8 + size :] == expected.tobytes()
    assert (8 + size) % 64 == 0
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(file, "numpy") as opened:
        assert list(opened.keys()) == ["k"]


def test_the_seed_that_was_drawn(tmp_path):
    for suffix in (".npy", ".safetensors"):
        file, again = tmp_path / f"w{suffix}", tmp_path / f"again{suffix}"
        _, err = run("sample", "he_normal:groups=2", "8x6", "-o", file, "--stream", "a")
        seed = int(re.match(r"seed (\d+)", err)[1])
        assert ("no place" in err) == (suffix == ".npy")
        _, err = run("sample", "he_normal:groups=2", "8x6", "-o", again, "--stream", "a", "--seed", seed)
        assert not err.startswith("seed")
        assert file.read_bytes() == again.read_bytes()
    raw = file.read_bytes()
    about = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    assert about["fastinit.seed"] == str(seed)
    assert about["fastinit.stream"] == "a"
    assert about["fastinit.version"] == fastinit.__version__
    made = fastinit.get(json.loads(about["fastinit.initializer"]))
    made = made((8, 6), seed=int(about["fastinit.seed"]), stream=about["fastinit.stream"])
    assert raw.endswith(made.tobytes())
    others = tmp_path / "others.safetensors"
    for initializer in ("zeros", "he_normal:seed=3"):  # without a seed, or with its own
        assert not run("sample", initializer, "8x6", "-o", others)[1].startswith("seed")
    assert b'"fastinit.seed":"3"' in others.read_bytes()


@pytest.mark.parametrize("shape", ["0x3", "5x0"])
@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_sample_of_nothing(tmp_path, shape, suffix):
    run("sample", "zeros", shape, "-o", tmp_path / f"w{suffix}")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("he_normall", "2x2", "-o", "w.npy"), "he_normall"),
        (("random_normal:stddev=-1", "2x2", "-o", "w.npy"), "-1"),
        (("random_normal:stdev=1", "2x2", "-o", "w.npy"), "stdev"),
        (("random_normal:0.1", "2x2", "-o", "w.npy"), "key=value"),
        (("he_norml", "2x2", "-o", "w.npy"), "did you mean 'he_normal'"),
        (("zeros", "1000000x1000000x100", "-o", "w.npy"), "cannot write w.npy, of 400,000,000,000,000 bytes"),
        (("zeros", "2x2", "-o", "w.safetensors", "--stream", "__metadata__"), "__metadata__"),
        (("random_normal:stddev=1,stddev=2", "2x2", "-o", "w.npy"), "each once"),
        (("he_normal", "2by2", "-o", "w.npy"), "2by2"),
        (("he_normal", "2x2", "-o", "w.txt"), "w.txt"),
        (("he_normal", "2x2", "-o", "w.npy", "--dtype", "bfloat16"), "bfloat16"),
        (("he_normal", "2x2", "-o", "w.npy", "--dtype", "int8"), "int8"),
        (("he_normal", "2x2", "-o", "w.npy", "--seed", "-1"), "-1"),
        (("he_normal", "2x2", "-o", "w.npy", "--threads", "0"), "threads"),
        (("he_normal", "2x2", "-o", "w.npy", "--stream", str(2**64)), "18446744073709551616"),
        (("he_normal:blocks=3", "4x4", "-o", "w.npy"), "blocks"),
        (("he_normal", "4", "-o", "w.npy"), "2 dimensions"),
        (("he_normal", "2x2", "-o", "nowhere/w.npy"), "nowhere"),
        (("he_normal", "99999999x99999999x99999999", "-o", "w.npy"), "99999999"),
    ],
)
def test_bad_input_is_a_sentence_and_leaves_no_file(tmp_path, arguments, words):
    _, err = run("sample", *arguments, status=2, folder=tmp_path)
    assert words in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["-" * 20000 + "1", "(" * 5000, "[" * 150 + "]" * 150])
def test_values_that_are_nested_too_deeply_are_strings(text):
    from fastinit import cli

    for arguments in (
        ("recipe", "gpt2", f"layers={text}"),
        ("sample", f"zeros:x={text}", "2x2", "-o", "w.npy"),
    ):
        _, err = run(*arguments, status=2)
        assert len(err) > len("fastinit: ") + 10, err
    assert isinstance(cli._value(text), (str, list))


def test_too_little_memory_is_said(monkeypatch, capsys):
    import typer

    from fastinit import cli

    def fails(*_, **__):
        raise MemoryError

    monkeypatch.setattr(fastinit, "gain", fails)
    with pytest.raises(typer.Exit):
        cli.gain("relu")
    assert "not enough memory" in capsys.readouterr().err


def test_an_existing_file_stays_if_it_cannot_be_replaced(tmp_path):
    file = tmp_path / "w.npy"
    file.write_bytes(b"precious")
    run("sample", "he_normal", "2x2", "-o", file, "--dtype", "int8", status=2)
    assert file.read_bytes() == b"precious"


# With a seed, since the header of .safetensors has it, in as many digits as it needs.
WRITERS = {
    ".npy": ("sample", "he_normal", "600x500", "--seed", 0),
    ".safetensors": ("sample", "orthogonal", "600x500", "--seed", 0),
    ".png": ("show", "he_normal"),
    ".svg": ("signal", "he_normal", "--depth", 3, "--width", 16),
}


@pytest.fixture(name="writer", params=WRITERS, ids=str)
def _writer(request):
    """A suffix, and a command that writes a file with it."""
    if request.param in (".png", ".svg"):
        pytest.importorskip("matplotlib")
    return request.param, WRITERS[request.param]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither permissions nor links for all")
def test_a_file_is_written_like_any_other(tmp_path, writer):
    suffix, command = writer
    new, old, link, target = (tmp_path / f"{name}{suffix}" for name in ("new", "old", "link", "target"))
    old.write_bytes(b"old")
    old.chmod(0o604)
    link.symlink_to(target.name)
    for file in (new, old, link):
        run(*command, "-o", file)
    plain = tmp_path / "plain"
    plain.touch()
    assert new.stat().st_mode == target.stat().st_mode == plain.stat().st_mode
    assert old.stat().st_mode & 0o777 == 0o604
    assert link.is_symlink()
    assert new.stat().st_size == old.stat().st_size == target.stat().st_size > 3
    assert len(list(tmp_path.iterdir())) == 5


def test_files_beside_the_output_stay(tmp_path, writer):
    suffix, command = writer
    file = tmp_path / f"w{suffix}"
    others = [
        tmp_path / f"{name}{end}" for name in (file.name, f".{file.name}") for end in (".unfinished", ".tmp")
    ]
    for other in others:
        other.write_bytes(b"precious")
    run(*command, "-o", file)
    assert all(other.read_bytes() == b"precious" for other in others)
    assert {*tmp_path.iterdir()} == {file, *others}


def test_a_name_of_full_length(tmp_path, writer):
    suffix, command = writer
    longest = "n" * (255 - len(suffix)) + suffix
    run(*command, "-o", tmp_path / longest)
    assert [one.name for one in tmp_path.iterdir()] == [longest]
    _, err = run(*command, "-o", tmp_path / f"n{longest}", status=2)
    assert err.startswith("fastinit: ")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has none of these")
@pytest.mark.parametrize("kind", ["a directory", "a FIFO", "a device", "a link to a device"])
def test_only_regular_files_are_replaced(tmp_path, writer, kind):
    suffix, command = writer
    file = tmp_path / f"w{suffix}"
    if kind == "a directory":
        file.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(file)
    elif kind == "a link to a device":
        file.symlink_to(os.devnull)
    else:
        try:
            os.mknod(file, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except OSError:
            pytest.skip("devices cannot be made here")
    before = os.lstat(file)
    _, err = run(*command, "-o", file, status=2)
    assert file.name in err
    assert ("directory" if kind == "a directory" else "not a regular file") in err
    assert os.path.samestat(before, os.lstat(file))
    assert os.listdir(tmp_path) == [file.name]  # noqa: PTH208 - of lstat, as above


FAILING = {
    # Less than the file needs, and more than its header.
    "limit": "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))",
    "no system call": "del os.posix_fallocate; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))",
    "no space": "os.posix_fallocate = fail(errno.ENOSPC)",
    "no space for long": "os.statvfs = lambda _: types.SimpleNamespace(f_blocks=9, f_bfree=1, f_frsize=4096)",
    "broken disk": "mmap.mmap = type('Broken', (mmap.mmap,), {'flush': fail(errno.EIO)})",
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
@pytest.mark.parametrize("failing", FAILING)
def test_what_does_not_fit_is_an_error_and_leaves_no_file(tmp_path, suffix, failing):
    # Before, stores to mapped memory that the disk had no space for ended the process with SIGBUS.
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        f"""
import errno, mmap, os, resource, types
def fail(number):
    def raise_it(*_):
        raise OSError(number, os.strerror(number))
    return raise_it
{FAILING[failing]}
"""
    )
    folder = tmp_path / "out"
    folder.mkdir()
    file = folder / f"w{suffix}"
    file.write_bytes(b"precious")
    path = os.pathsep.join([str(hook), *filter(None, [os.environ.get("PYTHONPATH")])])
    _, err = run("sample", "he_normal", "60x50", "-o", file, status=2, PYTHONPATH=path)
    assert err.startswith(f"fastinit: cannot write {file}, of 12,000 bytes: ")
    assert file.read_bytes() == b"precious"
    assert list(folder.iterdir()) == [file]


@pytest.mark.parametrize(("shape", "status"), [("300x300", 0), ("600x500", 2), ("99999x99999", 2)])
@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_a_full_disk(small_disk, suffix, shape, status):
    file = small_disk / f"w{suffix}"
    _, err = run("sample", "he_normal", shape, "-o", file, status=status)
    assert ("No space left on device" in err) == (status == 2)
    assert list(small_disk.iterdir()) == ([] if status else [file])


def test_a_picture_on_a_full_disk(small_disk):
    pytest.importorskip("matplotlib")
    (small_disk / "filler").write_bytes(bytes(512 * 1024))
    _, err = run("show", "he_normal", "-o", small_disk / "w.png", status=2)
    assert "No space left on device" in err
    assert os.listdir(small_disk) == ["filler"]  # noqa: PTH208


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="zeros are written anyway")
def test_zeros_are_written_where_space_cannot_be_reserved(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    file = tmp_path / "w"
    with file.open("x+b") as opened:
        opened.write(b"header")
        opened.flush()
        reserve(opened, 3 * 2**20 + 5)
    assert file.read_bytes() == b"header".ljust(3 * 2**20 + 5, b"\0")
    assert file.stat().st_blocks * 512 >= 3 * 2**20 + 5


@pytest.mark.skipif(sys.platform == "win32", reason="Windows may refuse it to one of two at once")
def test_several_writers_of_one_file(tmp_path):
    file = tmp_path / "w.npy"
    command = [sys.executable, "-m", "fastinit", "sample", "he_normal", "1000x1000", "-o", str(file)]
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(subprocess.Popen([*command, "--seed", str(i)], stderr=subprocess.PIPE))
            for i in range(4)
        ]
        assert [writer.wait() for writer in writers] == [0] * 4
    found = np.load(file)
    assert any((found == fastinit.he_normal((1000, 1000), seed=i, stream=0)).all() for i in range(4))
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_a_signal_leaves_no_file(tmp_path, suffix, name):
    file = tmp_path / f"w{suffix}"
    file.write_bytes(b"precious")
    # It would take a minute, and most of that before any page of the file is written.
    command = ["sample", "orthogonal", "8000x8000", "-o", str(file), "--dtype", "float64", "--threads", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "fastinit", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        while len(list(tmp_path.iterdir())) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.1)
        process.send_signal(getattr(signal, name))
        _, err = process.communicate(timeout=30)
    assert process.returncode in (1, 128 + getattr(signal, name))
    assert b"Traceback" not in err
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == b"precious"


def test_recipe():
    assert run("recipe", "--list")[0] == run("recipe")[0]
    assert all(row.name in run("recipe")[0] for row in fastinit.recipe().rows)
    answer = json.loads(run("recipe", "gpt2", "layers=12", "std=0.01", "--json")[0])
    assert answer == json.loads(json.dumps(fastinit.recipe("gpt2", layers=12, std=0.01).to_dict()))
    out, _ = run("recipe", "vit", "scheme=moco")
    assert "GlorotUniform(blocks=3)" in out
    for arguments, message in (
        (("gpt",), "did you mean 'gpt2'"),
        (("gpt2",), "needs layers"),
        (("gpt2", "layers"), "NAME=VALUE"),
        (("gpt2", "layers=1", "layers=2"), "each once"),
        (("gpt2", "--list"), "takes no recipe"),
        (("gpt2", "name=3"), "has no parameter 'name'"),
        (("gpt2", "layers=1", "self=3"), "has no parameter 'self'"),
    ):
        _, err = run("recipe", *arguments, status=2)
        assert message in err


def test_recommend_and_gain():
    out, _ = run("recommend", "relu", "--layer", "lstm")
    assert "recurrent_kernel" in out
    answer = json.loads(run("recommend", "gelu", "--layer", "conv", "--json")[0])
    assert answer == json.loads(json.dumps(fastinit.recommend("gelu", "conv").to_dict()))
    gains = json.loads(run("gain", "leaky_relu", "--param", 0.2, "--json")[0])
    assert gains["forward"] == pytest.approx(np.sqrt(2 / 1.04), rel=1e-12)
    assert "forward" in run("gain", "gelu")[0]
    for layout in ("in_out", "out_in"):
        answer = json.loads(run("recommend", "relu", "--layout", layout, "--json")[0])
        assert answer == json.loads(json.dumps(fastinit.recommend("relu", layout=layout).to_dict()))
    _, err = run("recommend", "rellu", status=2)
    assert "relu" in err
    _, err = run("recommend", "relu", "--layer", "lsmt", status=2)
    assert "lstm" in err


def test_diagnose(tmp_path):
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    kernel = fastinit.he_normal((128, 64), seed=0)
    np.savez(good, kernel=kernel)
    others = {f"other_{i}": np.zeros((64, 64), np.float32) for i in range(2)}
    np.savez(bad, kernel=kernel, **others)  # Two in a row are never trained.
    run("diagnose", good)
    out, _ = run("diagnose", bad, status=1)
    assert "other" in out
    assert "severe" in out
    found = json.loads(run("diagnose", bad, "--json", status=1)[0])
    assert any(finding["severity"] == "severe" for finding in found["findings"])
    expected = ("--expect", "kernel=he_normal", "--expect", "oth*=zeros")
    run("diagnose", bad, *expected)
    _, err = run("diagnose", tmp_path / "missing.npz", status=2)
    assert "missing.npz" in err
    (tmp_path / "foreign.safetensors").write_bytes(b"something else")
    _, err = run("diagnose", tmp_path / "foreign.safetensors", status=2)
    assert "foreign.safetensors" in err


def test_the_severity_that_fails(tmp_path):
    file, clean = tmp_path / "w.npz", tmp_path / "clean.npz"
    tensors = {f"{i}.kernel": fastinit.he_normal((64, 64), seed=0, stream=i) for i in range(4)}
    np.savez(clean, **tensors)
    np.savez(file, odd=fastinit.random_normal((64, 64), stddev=0.002, seed=1), **tensors)
    worst = str(fastinit.diagnose(file).worst)
    assert worst == "warning"
    for severity, status in (("severe", 0), ("warning", 1), ("info", 1), ("never", 0)):
        run("diagnose", file, "--fail-on", severity, status=status)
        run("diagnose", clean, "--fail-on", severity)
    _, err = run("diagnose", file, "--fail-on", "warnings", status=2)
    assert "did you mean 'warning'" in err
    out, err = run("diagnose", file, "--quiet")
    assert out.startswith("warning, too_small, odd: ")
    assert out.count("\n") == 1
    assert run("diagnose", clean, "-q") == ("", "")


def test_all_tensors(tmp_path):
    file = tmp_path / "w.npz"
    np.savez(file, **{f"{i}.kernel": fastinit.he_normal((8, 8), seed=0, stream=i) for i in range(40)})
    assert len(run("diagnose", file)[0].splitlines()) == 4
    out = run("diagnose", file, "--all")[0]
    assert all(f"\n{i}.kernel " in out for i in range(40))


def test_every_document_has_a_schema(tmp_path):
    np.save(tmp_path / "w.npy", np.zeros((8, 8), np.float32))
    few = ("--depth", "2", "--width", "8")
    calls = {
        ("recommend", "relu"): "recommendation/1",
        ("gain", "relu"): "gain/1",
        ("diagnose", "w.npy", "--fail-on", "never"): "diagnosis/1",
        ("signal", "zeros", *few): "signal/1",
        ("list",): "list/1",
        ("bench", "--size", "1", "--rounds", "1"): "bench/1",
        ("info",): "info/1",
    }
    for call, schema in calls.items():
        assert json.loads(run(*call, "--json", folder=tmp_path)[0])["schema"] == schema


def examples():
    """The examples in the help of the commands."""
    from fastinit import cli

    return [
        line.partition(": ")[2] for one in cli.app.registered_commands for line in one.epilog.split("\n\n")
    ]


def test_every_command_has_an_example(monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    out, _ = run("--help")
    commands = re.findall(r"^\W*([a-z]+) ", out.partition("Commands")[2], re.MULTILINE)
    assert len(commands) >= 10
    assert {example.split()[1] for example in examples()} >= {
        "recommend",
        "gain",
        "diagnose",
        "sample",
        "info",
    }
    for example in examples():
        name = example.split()[1]
        assert example in " ".join(run(name, "--help")[0].split())


@pytest.mark.parametrize("example", examples())
def test_examples_run(tmp_path, example):
    _, *arguments = shlex.split(example)
    if arguments[0] in ("compare", "bench"):
        pytest.skip("it takes long")
    if arguments[0] in ("signal", "show"):
        pytest.importorskip("matplotlib")
        arguments += ["--width", "16"] if arguments[0] == "signal" else ["--shape", "16x8"]
    if arguments[0] == "sample":
        arguments[2] = "64x64"
    kernel = fastinit.he_normal((64, 64), seed=0)
    for part in arguments:
        if part.endswith(".npz"):
            np.savez(tmp_path / part, **{"a.kernel": kernel})
        elif part.endswith(".safetensors") and "--output" not in arguments:
            pytest.importorskip("safetensors.numpy").save_file({"a": kernel}, tmp_path / part)
        elif part.endswith(".pt"):
            torch = pytest.importorskip("torch")
            torch.save(torch.nn.Linear(8, 8).state_dict(), tmp_path / part)
        elif part == "config.json":
            config = pytest.importorskip("transformers").GPT2Config(n_embd=8, n_layer=1, n_head=2)
            config.architectures = ["GPT2LMHeadModel"]
            config.save_pretrained(tmp_path)
    if arguments[0] == "verify":
        checkpoint = pytest.importorskip("fastinit.checkpoint")
        checkpoint.write(checkpoint.plan({"a": (64, "float32", "ones")}), tmp_path / "out", 0)
    run(*arguments, folder=tmp_path)


def test_version_and_completion():
    assert run("--version")[0] == f"fastinit-nn {fastinit.__version__}\n"
    script, _ = run("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_FASTINIT_COMPLETE=complete_bash" in script
    for words, number, expected in [
        ("fastinit sam", 1, ["sample"]),
        ("fastinit gain leaky", 2, ["leaky_relu"]),
        ("fastinit signal he_", 2, ["he_normal", "he_uniform"]),
        ("fastinit recommend relu --proposal glorot_n", 4, ["glorot_normal"]),
    ]:
        complete = {"_FASTINIT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)}
        assert sorted(run(**complete)[0].split()) == expected


WIDTHS = (60, 80, 100, 120, 200)
TABLES = {
    "recommend": ("recommend", "gelu", "--layer", "lstm", "--proposal", "zeros"),
    "gain": ("gain", "relu"),
    "signal": ("signal", "--depth", "6", "--width", "8"),
    "list": ("list",),
    "info": ("info",),
    "diagnose": ("diagnose", "w.npz", "--fail-on", "never"),
    "diagnose all": ("diagnose", "w.npz", "--fail-on", "never", "--all"),
}


@pytest.mark.parametrize("name", TABLES)
def test_no_table_is_wider_than_the_terminal(tmp_path, monkeypatch, capsys, name):
    from fastinit import cli

    monkeypatch.chdir(tmp_path)
    long = "a_network.of_many.modules.layers.{}.attention.projection.kernel"
    tensors = {long.format(i): fastinit.random_normal((64, 64), stddev=10.0**-i, seed=i) for i in range(6)}
    np.savez(tmp_path / "w.npz", **tensors, x=np.zeros(4, np.complex64))
    words = []
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        cli.app(TABLES[name], standalone_mode=False)
        out, _ = capsys.readouterr()
        assert max(map(len, out.splitlines())) <= width
        # What is one word at the greatest width is not broken at a smaller one but at signs between letters.
        words.append(set(re.split(r"[^\w%+-]+|_", out)))
    for found in words[:-1]:
        lost = words[-1] - found
        assert not {word for word in lost if re.fullmatch(r"[\d.,e%+-]+|[A-Za-z]{,12}", word)}


@pytest.fixture(name="odd")
def _odd(tmp_path):
    """A file with names that would control a terminal, or that an encoding lacks."""
    file = tmp_path / "odd.npz"
    with np.errstate(all="ignore"):
        np.savez(
            file, **{"層.kernel": np.zeros((8, 8), np.float32), "\x1b[31m\na.kernel": np.zeros((8, 8), "c8")}
        )
    return file


def test_names_that_cannot_be_printed(odd):
    out, _ = run("diagnose", odd, status=1, PYTHONIOENCODING="ascii")
    assert "\\u5c64.kernel" in out
    assert "skipped \\x1b[31m\\na.kernel: elements of " in out
    assert "complex64 are not read\n" in out
    assert "\x1b" not in out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows reports a closed pipe as an invalid argument")
def test_a_reader_that_stops_is_no_error(tmp_path):
    file = tmp_path / "many.npz"
    np.savez(file, **{f"{i}.{'long' * 30}.kernel": np.full((8, 8), 1e-9, np.float32) for i in range(600)})
    for arguments in (["--all"], ["--json"], ["--quiet"]):
        with subprocess.Popen(
            [sys.executable, "-m", "fastinit", "diagnose", file, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            if arguments == ["--quiet"]:  # Its lines are written one by one.
                process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 141  # not 1, which means that a finding is severe


def test_signal(tmp_path):
    found = json.loads(
        run("signal", "he_normal", "zeros", "--depth", 5, "--width", 32, "--json")[0],
        parse_constant=lambda name: pytest.fail(f"{name} is not JSON"),
    )
    assert [one["name"] for one in found["rows"]] == ["he_normal", "zeros"]
    out, _ = run("signal", "--activation", "tanh", "--depth", 6, "--width", 16)
    assert "zeros" in out
    pytest.importorskip("matplotlib")
    run("signal", "he_normal", "--depth", 3, "--width", 16, "-o", tmp_path / "s.svg")
    assert (tmp_path / "s.svg").read_text().count("<svg") == 1


def test_show(tmp_path):
    pytest.importorskip("matplotlib")
    np.save(tmp_path / "w.npy", fastinit.he_normal((64, 64), seed=0))
    file = tmp_path / "he.png"
    run("show", "he_normal", "orthogonal", tmp_path / "w.npy", "-o", file, "--shape", "64x64")
    assert file.read_bytes().startswith(b"\x89PNG")
    run("show", "he_normal", "-o", tmp_path / "s.svg", "--kind", "singular_values")
    _, err = run("show", "he_normal", "-o", tmp_path / "he.gif", status=2)
    assert ".gif" in err
    _, err = run("show", tmp_path / "none.npy", "-o", file, status=2)
    assert "none.npy" in err
    (tmp_path / "bad.npy").write_bytes(b"abc")
    _, err = run("show", tmp_path / "bad.npy", "-o", file, status=2)
    assert "bad.npy" in err


@pytest.mark.parametrize("command", ["signal", "compare"])
def test_a_path_is_checked_before_the_computation(tmp_path, command):
    pytest.importorskip("matplotlib")
    for file, words in [("x.gif", "must have the suffix"), ("no/x.png", "does not exist")]:
        out, err = run(command, "-o", tmp_path / file, status=2)
        assert out == ""
        assert words in err
        assert "%" not in err  # No epoch was trained.


def test_help_of_repeated_arguments():
    out, _ = run("signal", "--help", COLUMNS="200")
    assert "[INITIALIZER]..." in out
    assert "]...]" not in out


def test_compare(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("torch")
    few = ("--depth", 2, "--width", 16, "--epochs", 1, "--backend", "torch")
    pytest.importorskip("matplotlib")
    found = json.loads(run("compare", "he_normal", "zeros", *few, "--json", "-o", tmp_path / "c.png")[0])
    assert [one["name"] for one in found["rows"]] == ["he_normal", "zeros"]
    assert (tmp_path / "c.png").exists()


def test_bench_and_info():
    found = json.loads(run("bench", "--size", 1, "--rounds", 1, "--json")[0])
    assert all(rate > 0 for rate in found["bytes_per_second"].values())
    assert "uniform" in run("bench", "--size", 1, "--rounds", 1)[0]
    found = json.loads(run("info", "--json")[0])
    assert found["version"] == fastinit.__version__
    assert found["numpy"] == np.__version__
    assert found["distribution"] == "fastinit-nn"
    assert found["file"] == fastinit.build_info()["file"]
    assert found["package"] == str(Path(fastinit.__file__).parent)
    out = "".join(run("info")[0].split())  # Long paths take several lines.
    assert all(text in out for text in (fastinit.__version__, found["package"], found["file"]))


def test_without_typer_it_says_what_to_install(tmp_path):
    (tmp_path / "typer.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'typer'\", name='typer')\n"
    )
    _, err = run("info", status=1, PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert 'pip install "fastinit-nn[cli]"' in err
