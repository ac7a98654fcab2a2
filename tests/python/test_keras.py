"""`fastinit.keras`, and what guidance says of models of Keras, on each backend.

Keras chooses the backend on import, which takes seconds, so each has one process of its own for all checks.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHECKS = ["keras_checks.py", "trace_keras_checks.py", "diagnose_keras_checks.py"]
BACKENDS = ["numpy", "jax", "torch", "tensorflow"]
# Here XLA does not optimize machine code, which takes longer than the checks. In the tests of JAX it does.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


@pytest.fixture(scope="module")
def digests(tmp_path_factory):
    """The folder in which each backend states its weights; the processes of pytest-xdist share it."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "digests"
    folder.mkdir(exist_ok=True)
    return folder


def environment(backend, **more):
    return {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "XLA_FLAGS": f"{QUICK} --xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        **more,
    }


@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", BACKENDS)
def test_backend(backend, digests):
    # Not imported here: TensorFlow and PyTorch do not get on in one process.
    for name in ("keras", backend):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}")
    checks = [str(HERE / name) for name in CHECKS]
    command = [sys.executable, "-m", "pytest", "-q", "--maxfail=9", "-W", "ignore", "--timeout=300", *checks]
    unfinished = digests / f"{backend}.unfinished"
    done = subprocess.run(
        command,
        env=environment(backend, FASTINIT_DIGESTS=str(unfinished)),
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    unfinished.rename(digests / f"{backend}.json")
    check_same_weights(digests)


def check_same_weights(digests):
    """Checks that all backends that are done have the same weights. The last one compares all of them."""
    seen = [json.loads(path.read_text(encoding="utf-8")) for path in digests.glob("*.json")]
    names = {name for digest in seen for name in digest}
    assert len(names) > 50
    for name in names:
        assert len({digest[name] for digest in seen if name in digest}) == 1, name
        # JAX has no float64 unless that is enabled.
        assert all(name in digest for digest in seen) or name == "glorot float64"


def test_is_imported_only_when_asked_for(python):
    program = """
        import sys
        import fastinit
        print([name for name in ("keras", "jax", "torch", "tensorflow") if name in sys.modules])
    """
    assert python(program) == "[]\n"


# What the programs of the test below begin with.
INTERRUPTED = f"""
import contextlib
import sys
import threading

import keras

import fastinit
import fastinit.keras as fk
from fastinit.keras import _accelerate, _sample, _variables

sys.path.insert(0, {str(HERE)!r})
from interrupts import at_every_moment

FILES = [_accelerate.__file__, _variables.__file__]
MORE = [_variables.__file__, _sample.__file__, keras.src.backend.common.variables.__file__]
EXPECTED = fastinit.he_normal((4, 4), seed=1)
INITIALIZER = keras.initializers.HeNormal(seed=1)


def state():
    classes = [cls for cls in vars(keras.initializers).values() if isinstance(cls, type)]
    return [dict(vars(cls)) for cls in [*classes, *keras.Variable.__mro__]]


BEFORE = state()


def accelerated():
    "Whether this thread is accelerated, and another one."
    found = [(INITIALIZER((4, 4)) == EXPECTED).all()]
    thread = threading.Thread(target=lambda: found.append((INITIALIZER((4, 4)) == EXPECTED).all()))
    thread.start()
    thread.join()
    return tuple(map(bool, found))


def restored():
    assert accelerated() == (False, False)
    assert state() == BEFORE
    assert _variables._local.variable is None
    with fk.accelerate():
        assert accelerated() == (True, False)
        keras.layers.Dense(4).build((None, 4))
    assert accelerated() == (False, False)
    assert state() == BEFORE


def enabled_or_not():
    assert accelerated() == ((state() != BEFORE),) * 2
    fk.disable()
    restored()


def enabled_again():
    enabled_or_not()
    fk.enable()
    assert accelerated() == (True, True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="needs keras")
@pytest.mark.parametrize(
    ("run", "check", "files"),
    [
        ("with fk.accelerate(salt=True), fk.accelerate(): pass", "restored", "FILES"),
        ("fk.accelerate()(str)()", "restored", "[contextlib.__file__]"),
        ("fk.enable()", "enabled_or_not", "FILES"),
        ("fk.disable()", "enabled_again", "FILES"),
        ("with fk.accelerate(salt=True): keras.Variable(INITIALIZER, (4, 4))", "restored", "MORE"),
    ],
    ids=["contexts", "decorator", "enable", "disable", "variable"],
)
def test_ctrl_c_at_every_moment(python, run, check, files):
    program = f"""{INTERRUPTED}
def run():
    {run}


print(at_every_moment(run, {check}, {files}))
"""
    printed = python(program, timeout=200, **environment("numpy"))
    assert int(printed) > 20
