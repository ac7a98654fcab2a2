"""`fastinit.keras.plan`, in a process of its own. `test_keras.py` compares its values on each backend."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).with_name("plan_keras_checks.py")


def test_plan():
    if importlib.util.find_spec("keras") is None:
        pytest.skip("needs keras")
    # Keras would load TensorFlow, which takes seconds, only to know its types.
    program = "import sys; sys.modules['tensorflow'] = None; import pytest; sys.exit(pytest.main())"
    command = [sys.executable, "-c", program, "-q", "-x", "-W", "ignore", "--timeout=200", str(CHECKS)]
    env = {**os.environ, "KERAS_BACKEND": "numpy", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
