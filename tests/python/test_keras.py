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
    """Where each backend says what its weights were."""
    return tmp_path_factory.mktemp("digests")


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
    done = subprocess.run(
        command,
        env=environment(backend, FASTINIT_DIGESTS=str(digests / backend)),
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_weights_are_the_same_on_all_backends(digests):
    seen = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in digests.iterdir()}
    if len(seen) < 2:
        pytest.skip("fewer than two backends have run")
    names = {name for digest in seen.values() for name in digest}
    assert len(names) > 50
    for name in names:
        values = {digest[name] for digest in seen.values() if name in digest}
        assert len(values) == 1, name
        # JAX has no float64 unless that is enabled.
        assert all(name in digest for digest in seen.values()) or name == "glorot float64"


def test_is_imported_only_when_asked_for(python):
    program = """
        import sys
        import fastinit
        print([name for name in ("keras", "jax", "torch", "tensorflow") if name in sys.modules])
    """
    assert python(program) == "[]\n"
