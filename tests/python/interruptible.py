"""Long calls of every part of the package, each of which Ctrl-C is to stop; for `test_interrupts.py`.

`python tests/python/interruptible.py [SECONDS [NAME ...]]` interrupts each call at a random moment, prints
how long each took to stop, and fails if one took more than a second or left something behind.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastinit
from fastinit._registry import NAMES

Work = Callable[[], object]


class Call(NamedTuple):
    """A call whose duration grows with a number."""

    prepare: Callable[[int], Work]
    least: int  # the number to begin with
    most: int  # what memory allows: the results are at most 2 GiB
    power: float  # of the number, which the duration is proportional to


CALLS: dict[str, Call] = {}


def _add(name: str, least: int, most: int, power: float = 1.0) -> Callable[..., None]:
    def add(prepare: Callable[[int], Work]) -> None:
        assert name not in CALLS
        CALLS[name] = Call(prepare, least, most, power)

    return add


def _fill(name: str, shape: Callable[[int], tuple[int, ...]], **given: Any) -> Callable[[int], Work]:
    function = functools.partial(getattr(fastinit, name), **given)
    random = name not in ("zeros", "ones", "constant", "identity", "dirac")
    seed = {"seed": 1} if random else {}
    return lambda n: lambda: function(shape(n), **seed)


# The core: every initializer, and each dtype

ELEMENTS = 2**22, 2**29
SIDES = 2**9, 2**14
DTYPES = ("float32", "float64", "float16", "bfloat16")
SPECIAL = {
    "constant": {"value": 0.5},
    "sparse": {"sparsity": 0.5},
    "truncated_normal": {"lower": -1.0, "upper": 3.0},
}

for number, name in enumerate(NAMES):
    if name not in ("identity", "dirac", "sparse", "orthogonal", "delta_orthogonal"):
        dtype = DTYPES[number % 4]
        most = ELEMENTS[1] // (2 if dtype == "float64" else 1)
        given = {"dtype": dtype, "threads": 1 + number % 2, **SPECIAL.get(name, {})}
        _add(f"{name} {dtype}", ELEMENTS[0], most)(_fill(name, lambda n: (n // 256, 256), **given))

_add("identity square", 2**11, 22_000, 2)(_fill("identity", lambda n: (n, n)))
_add("identity wide float16", 2**20, 2**28)(_fill("identity", lambda n: (4, n), dtype="float16"))
_add("dirac", 2**9, 2**13, 2)(_fill("dirac", lambda n: (3, n, n), dtype="bfloat16"))
_add("sparse", 2**10, 2**14, 2)(_fill("sparse", lambda n: (n, n), sparsity=0.5))
_add("sparse tall float64", 2**18, 2**27)(_fill("sparse", lambda n: (n, 1), sparsity=0.9, dtype="float64"))
_add("orthogonal square", *SIDES, 3)(_fill("orthogonal", lambda n: (n, n)))
_add("orthogonal square float64", *SIDES, 3)(_fill("orthogonal", lambda n: (n, n), dtype="float64"))
_add("orthogonal square bfloat16", *SIDES, 3)(_fill("orthogonal", lambda n: (n, n), dtype="bfloat16"))
_add("orthogonal wide", 2**12, 2**18)(_fill("orthogonal", lambda n: (512, n)))
_add("orthogonal narrow", 2**16, 2**21)(_fill("orthogonal", lambda n: (n, 64)))
_add("orthogonal column float64", 2**16, 2**22)(_fill("orthogonal", lambda n: (n, 1), dtype="float64"))
_add("orthogonal blocks", *SIDES, 3)(_fill("orthogonal", lambda n: (n, 2 * n), blocks=2))
_add("orthogonal window", *SIDES, 3)(
    _fill("orthogonal", lambda n: (n, n), index=(slice(None), slice(100, 200)))
)
_add("delta_orthogonal", 2**8, 2**13, 3)(_fill("delta_orthogonal", lambda n: (3, n, n)))
_add("random_normal window", 2**11, 2**15, 2)(
    _fill("random_normal", lambda n: (n, n), index=(slice(1, None), slice(0, 2**11)), threads=1)
)


@_add("random_normal strided out", 2**11, 2**14, 2)
def _(n: int) -> Work:
    out = np.empty((n, n), np.float32)[::-2, ::2].T
    return lambda: fastinit.random_normal(out.shape, seed=1, out=out, threads=1)


@_add("orthogonal strided out", *SIDES, 3)
def _(n: int) -> Work:
    out = np.empty((n, 2 * n), np.float32)[:, ::2].T
    return lambda: fastinit.orthogonal(out.shape, seed=1, out=out)


# PyTorch


def _torch(name: str, shape: Callable[[int], tuple[int, ...]], *given: Any) -> Callable[[int], Work]:
    def prepare(n: int) -> Work:
        import torch

        import fastinit.torch as init

        return lambda: getattr(init, name)(torch.empty(shape(n)), *given)

    return prepare


_add("torch normal_", *ELEMENTS)(_torch("normal_", lambda n: (n,)))
_add("torch trunc_normal_", *ELEMENTS)(_torch("trunc_normal_", lambda n: (n,)))
_add("torch orthogonal_", *SIDES, 3)(_torch("orthogonal_", lambda n: (n, n)))
_add("torch sparse_", 2**10, 2**14, 2)(_torch("sparse_", lambda n: (n, n), 0.5))
_add("torch eye_", 2**11, 22_000, 2)(_torch("eye_", lambda n: (n, n)))
_add("torch dirac_", 2**9, 2**13, 2)(_torch("dirac_", lambda n: (n, n, 3)))


def _model(n: int) -> Any:
    import torch

    return torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(n)))


@_add("torch initialize", 8, 400)
def _(n: int) -> Work:
    import torch

    import fastinit.torch as init

    def run() -> None:
        with torch.device("meta"):
            model = _model(n)
        init.initialize(model, seed=1, rules={"*.weight": fastinit.TruncatedNormal(0.0, 0.02)})

    return run


@_add("torch accelerate", 8, 400)
def _(n: int) -> Work:
    import fastinit.torch as init

    def run() -> None:
        with init.accelerate():
            _model(n)

    return run


# Keras


@_add("keras accelerate", 8, 400)
def _(n: int) -> Work:
    import keras

    import fastinit.keras as init

    def run() -> None:
        with init.accelerate(salt=True):
            keras.Sequential([keras.Input((1024,)), *(keras.layers.Dense(1024) for _ in range(n))])

    return run


@_add("keras LSTM", 2**7, 2**12, 3)
def _(n: int) -> Work:
    import keras

    import fastinit.keras as init

    def run() -> None:
        with init.accelerate():
            keras.layers.LSTM(n).build((None, 3, n))

    return run


# Guidance

_add("signal", 1, 400)(
    lambda n: lambda: fastinit.signal(["he_normal", "orthogonal"], depth=n, width=512, samples=256)
)


@_add("compare torch", 1, 1000)
def _(n: int) -> Work:
    return lambda: fastinit.compare(["he_normal", "random_normal"], epochs=n, backend="torch")


@_add("show histogram", 2**20, 2**27)
def _(n: int) -> Work:
    return lambda: fastinit.show(["he_normal", "glorot_uniform"], (n // 256, 256), path="picture.png")


@_add("show singular_values", 2**6, 2**10, 3)  # NumPy's decomposition of one matrix cannot be stopped.
def _(n: int) -> Work:
    given = {f"{number}": "he_normal" for number in range(24)}
    return lambda: fastinit.show(given, (n, n), kind="singular_values", path="picture.png")


def _tensors(n: int) -> dict[str, Any]:
    return {"layer.weight": fastinit.he_normal((n // 256, 256), seed=1)}


_add("diagnose array", 2**20, 2**27)(
    lambda n: functools.partial(fastinit.diagnose, _tensors(n), layout="in_out")
)


@_add("diagnose npz", 2**20, 2**27)
def _(n: int) -> Work:
    np.savez("weights.npz", **_tensors(n))
    return lambda: fastinit.diagnose("weights.npz")


@_add("diagnose compressed npz", 2**20, 2**25)
def _(n: int) -> Work:
    np.savez_compressed("weights.npz", **_tensors(n))
    return lambda: fastinit.diagnose("weights.npz")


@_add("diagnose safetensors", 2**20, 2**27)
def _(n: int) -> Work:
    from safetensors.numpy import save_file

    save_file(_tensors(n), "weights.safetensors")
    return lambda: fastinit.diagnose("weights.safetensors")


# The command, with the signal that stops it
COMMANDS = {
    "sample npy, Ctrl-C": (signal.SIGINT, "weights.npy"),
    "sample npy, terminated": (signal.SIGTERM, "weights.npy"),
    "sample safetensors, Ctrl-C": (signal.SIGINT, "weights.safetensors"),
    "sample safetensors, terminated": (signal.SIGTERM, "weights.safetensors"),
}


def _files(folder: str = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


# In the process that is interrupted


def _fingerprint() -> list[Any]:
    """What the package and the frameworks that are loaded make, and what a call may not leave behind."""
    found: list[Any] = [fastinit.random_normal(1000, seed=1).tobytes(), _files()]
    if torch := sys.modules.get("torch"):
        before = torch.get_rng_state()
        for name in (
            "normal_",
            "trunc_normal_",
            "xavier_uniform_",
            "kaiming_normal_",
            "orthogonal_",
            "dirac_",
        ):
            torch.manual_seed(1)
            made = getattr(torch.nn.init, name)(torch.empty(8, 8, 3))
            found += [name, made.numpy().tobytes(), getattr(torch.nn.init, name).__code__]
        torch.set_rng_state(before)
        found += [torch.overrides._get_current_function_mode_stack(), str(torch.get_default_device())]
    if keras := sys.modules.get("keras"):
        for name in ("HeNormal", "Orthogonal", "RandomUniform"):
            cls = getattr(keras.initializers, name)
            found += [name, np.asarray(cls(seed=1)((8, 8))).tobytes(), cls.__call__]
    return found


def _resources() -> dict[str, int]:
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)  # What has been freed may stay with the allocator, such as the tensors of PyTorch.
    memory = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    threads, files = (len(_files(f"/proc/self/{kind}")) for kind in ("task", "fd"))
    return {"MiB": memory >> 20, "threads": threads, "files": files}


def run(name: str, seconds: float) -> None:
    """Runs a call again and again until it is interrupted, and checks what is left."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Programs in the background ignore it.
    call = CALLS[name]
    call.prepare(call.least)()
    number = call.least
    while True:
        work = call.prepare(number)
        start = time.perf_counter()
        work()
        duration = time.perf_counter() - start
        if duration > seconds / 8 or number >= call.most:
            break
        number = min(2 * number, call.most)
    number = max(call.least, min(call.most, int(number * (seconds / duration) ** (1 / call.power))))
    work = call.prepare(number)
    fingerprint, before = _fingerprint(), _resources()
    print("ready", flush=True)
    try:
        while True:
            start = time.perf_counter()
            work()
            duration = time.perf_counter() - start
    except KeyboardInterrupt:
        print(time.monotonic(), flush=True)
    del work  # It may hold an output, whose memory the call was the first to touch.
    after = _resources()
    while after["threads"] > before["threads"] and time.perf_counter() < start + 60:
        time.sleep(0.1)  # Python's pools may end a little later.
        after = _resources()
    assert after["threads"] <= before["threads"], (before, after)
    assert after["files"] <= before["files"], (before, after)
    assert after["MiB"] <= before["MiB"] + 200, (before, after)
    assert threading.active_count() == 1, threading.enumerate()
    now = _fingerprint()
    assert now == fingerprint, [pair for pair in zip(now, fingerprint, strict=True) if pair[0] != pair[1]]
    call.prepare(call.least)()
    print("well", flush=True)


# In the process that interrupts


def environment() -> dict[str, str]:
    """The variables of the process."""
    own = {
        "KERAS_BACKEND": "numpy",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MPLBACKEND": "agg",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return {**os.environ, **own}


def interrupt(name: str, seconds: float, *, seed: int = 0) -> float:
    """Interrupts a call at a random moment, and checks what it leaves.

    Args:
        name: Its name in `CALLS` or `COMMANDS`.
        seconds: How long it lasts without the interrupt; less where its result would be too large.
        seed: The seed of the moment.

    Returns:
        The seconds from the signal to the exception; for a command, to its end.
    """
    moment = random.Random(f"{name} {seconds} {seed}").uniform(0.0, seconds)
    with tempfile.TemporaryDirectory() as folder:
        if name in COMMANDS:
            return _interrupt_command(folder, *COMMANDS[name], seconds, moment)
        command = [sys.executable, "-W", "ignore", __file__, "--run", name, str(seconds)]
        child = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment(), "TMPDIR": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout
        try:
            ready = child.stdout.readline()
            if ready == "ready\n":
                time.sleep(moment)
                sent = time.monotonic()
                child.send_signal(signal.SIGINT)
            output, errors = child.communicate(timeout=120)
            assert (ready, output[-5:], child.returncode) == ("ready\n", "well\n", 0), f"{output}\n{errors}"
            return float(output.split()[0]) - sent
        finally:
            child.kill()
            child.wait()


def _interrupt_command(
    folder: str, number: signal.Signals, output: str, seconds: float, moment: float
) -> float:
    size = 2**20 * max(1, min(256, round(25 * seconds)))  # about 8 MiB each tenth of a second
    given = ["truncated_normal:lower=-1,upper=3", f"{size}", "--dtype=float64", "--threads=1", "-o", output]
    child = subprocess.Popen(
        [sys.executable, "-m", "fastinit", "sample", *given],
        cwd=folder,
        env={**environment(), "FASTINIT_SIMD": "scalar"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Programs in the background of a shell ignore Ctrl-C, and so would this one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not _files(folder) and child.poll() is None:
            time.sleep(0.01)
        time.sleep(moment / 2)
        sent = time.monotonic()
        assert child.poll() is None, "it ended before the signal"
        child.send_signal(number)
        _, errors = child.communicate(timeout=120)
        waited = time.monotonic() - sent
        assert child.returncode != 0, errors
        assert _files(folder) == [], errors
        return waited
    finally:
        child.kill()
        child.wait()


def main(arguments: list[str]) -> int:
    """Interrupts all calls, or those named, and prints a table."""
    if arguments[:1] == ["--run"]:
        run(arguments[1], float(arguments[2]))
        return 0
    seconds = float(arguments[0]) if arguments else 10.0
    bad = 0
    for name in arguments[1:] or [*CALLS, *COMMANDS]:
        try:
            waited = interrupt(name, seconds)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            text, good = f"wrong: {str(error).strip()[-300:]}", False
        else:
            text, good = f"{waited:.3f} s", waited < 1
        bad += not good
        print(f"{name:32} {text}{'' if good else '  <--'}", flush=True)
    return bad != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
