"""Ctrl-C at a random moment of long calls: it arrives, and nothing is left behind. See `interruptible.py`."""

import importlib.util
from pathlib import Path

import pytest
from interruptible import CALLS, COMMANDS, interrupt

from fastinit._registry import NAMES

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux"),
]

# Generous, since machines may be loaded; `interruptible.py` as a command insists on a second.
LIMIT = 10.0

FEW = [
    "dirac",
    "orthogonal narrow",
    "sparse",
    "torch initialize",
    "keras accelerate",
    "diagnose npz",
    "sample npy, Ctrl-C",
    "sample safetensors, terminated",
]


def stops(name, seconds):
    for module in ("torch", "keras"):
        if module in name and importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")
    assert interrupt(name, seconds) < LIMIT


@pytest.mark.parametrize("name", FEW)
def test_ctrl_c(name):
    stops(name, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 10.0], ids=["short", "long"])
@pytest.mark.parametrize("name", [*CALLS, *COMMANDS])
def test_ctrl_c_in_all_calls(name, seconds):
    stops(name, seconds)


def test_every_initializer_is_there():
    assert {name.split()[0] for name in CALLS} >= set(NAMES)
    assert len(CALLS) + len(COMMANDS) >= 40
