"""`fastinit.keras` on each backend. Keras chooses it on import, so each has a process of its own."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).with_name("keras_checks.py")
BACKENDS = ["numpy", "jax", "torch", "tensorflow"]


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
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
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
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-W", "ignore", "--timeout=300", str(CHECKS)]
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
