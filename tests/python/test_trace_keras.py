"""`trace` and `lsuv` of models of Keras on each backend, each in a process of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).with_name("trace_keras_checks.py")


@pytest.mark.parametrize("backend", ["numpy", "jax", "torch", "tensorflow"])
def test_backend(backend):
    for name in ("keras", backend):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-W", "ignore", "--timeout=200", str(CHECKS)]
    env = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
