"""Fixtures and helpers that the tests share."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Other libraries compute on one thread: two processes run tests, and threads that wait for processors spin.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # read when NumPy and PyTorch are imported

import numpy as np  # noqa: E402
import pytest  # noqa: E402

import fastinit  # noqa: E402

# A process that loads TensorFlow first, and then Triton by way of PyTorch, aborts.
with contextlib.suppress(ImportError):
    import triton  # noqa: F401

# Whichever test imports Keras first: the backend that needs nothing else, rather than TensorFlow.
os.environ.setdefault("KERAS_BACKEND", "numpy")

# pytest-xdist sets the width of its own terminal.
os.environ["COLUMNS"] = "120"

# One instance of each class, with a shape that it takes.
INITIALIZERS = [
    (fastinit.Zeros(), (4, 6)),
    (fastinit.Ones(), (4, 6)),
    (fastinit.Constant(0.75), (4, 6)),
    (fastinit.Identity(0.5), (4, 6)),
    (fastinit.Dirac(groups=2), (3, 2, 2, 4)),
    (fastinit.RandomUniform(-1.0, 2.0), (4, 6)),
    (fastinit.RandomNormal(1.0, 0.5), (4, 6)),
    (fastinit.TruncatedNormal(1.0, 0.5, lower=-1.0, upper=3.0), (4, 6)),
    (fastinit.Sparse(0.5, 0.1), (4, 6)),
    (
        fastinit.VarianceScaling(3.0, "fan_geo_avg", "untruncated_normal", in_axis=0, out_axis=(1, 2)),
        (4, 2, 3),
    ),
    (fastinit.GlorotUniform(batch_axis=0), (2, 4, 6)),
    (fastinit.GlorotNormal(), (4, 6)),
    (fastinit.HeUniform(groups=2), (3, 4, 6)),
    (fastinit.HeNormal(), (4, 6)),
    (fastinit.LecunUniform(), (4, 6)),
    (fastinit.LecunNormal(), (4, 6)),
    (fastinit.Orthogonal(-0.5, column_axis=0, blocks=2), (4, 6)),
    (fastinit.DeltaOrthogonal(2.0), (3, 2, 4)),
    (fastinit.HeUniform(blocks=(1, 3, 2)), (4, 6)),
]


@pytest.fixture(params=INITIALIZERS, ids=lambda case: type(case[0]).__name__)
def case(request: pytest.FixtureRequest) -> tuple[fastinit.Initializer, tuple[int, ...]]:
    """Each initializer in turn, and a shape for it."""
    return request.param


@pytest.fixture
def python() -> Callable[..., str]:
    """Runs a program in a fresh interpreter, within a time limit, and returns what it prints."""

    def run(program: str, *, timeout: float = 60.0, **env: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for half a megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def plain_id(value: object) -> str:
    """An id that is the same in every process: sets sorted, no elements of arrays, no addresses."""
    if isinstance(value, set):
        value = sorted(value)
    elif isinstance(value, np.ndarray):
        value = f"{value.dtype}{value.shape}"  # the elements may be uninitialized memory
    return re.sub(r" at 0x\w+", "", str(value))


def bits(array: np.ndarray) -> np.ndarray:
    """The bits of floats, to compare what NaN and signed zeros would hide."""
    return array.view(f"u{array.itemsize}")


def interrupt(program: str, **env: str) -> None:
    """Presses Ctrl-C in a program that prints "ready", starts a fill of minutes, and prints "interrupted".

    A fill that does not notice runs into the time limit of the test, or ends without that line.
    """
    # Programs in the background of a shell ignore Ctrl-C, and so do those that they start.
    program = (
        f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{textwrap.dedent(program)}"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env={**os.environ, **env}
    )
    try:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.3)  # for the fill to begin
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "interrupted\n"
        assert child.wait(timeout=30) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
