"""The package as such: names, documentation, types."""

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from importlib.metadata import version

import pytest

import fastinit


def modules():
    return ["fastinit", *(f"fastinit.{module.name}" for module in pkgutil.iter_modules(fastinit.__path__))]


def test_versions():
    assert fastinit.__version__ == version("fastinit")
    assert fastinit.STREAM_VERSION == 1


def test_build_info():
    info = fastinit.build_info()
    assert info["version"] == fastinit.__version__
    assert info["stream_version"] == fastinit.STREAM_VERSION
    assert info["simd"] in info["simd_available"]
    assert info["simd_available"][0] == "scalar"
    assert info["threads"] == fastinit.get_num_threads() >= 1


def test_all_names_are_there_and_sorted():
    assert all(hasattr(fastinit, name) for name in fastinit.__all__)
    assert len(set(fastinit.__all__)) == len(fastinit.__all__)
    things = {name: thing for name, thing in vars(fastinit).items() if not inspect.ismodule(thing)}
    public = {name for name in things if not name.startswith("_")}
    later = {"compare", "diagnose", "gain", "recommend", "show", "signal"}  # loaded when asked for
    assert public | later == {name for name in fastinit.__all__ if not name.startswith("_")}
    assert set(fastinit.__all__) <= set(dir(fastinit))


def test_everything_public_is_documented_with_an_example():
    for name in fastinit.__all__:
        thing = getattr(fastinit, name)
        if callable(thing):
            assert ">>> import fastinit" in thing.__doc__, name


# The adapters have tests of their own: their frameworks may not be there.
@pytest.mark.parametrize(
    "module", [name for name in modules() if name.split(".")[-1] not in ("torch", "jax", "keras", "_core")]
)
def test_examples_run(module):
    result = doctest.testmod(importlib.import_module(module), raise_on_error=False)
    assert result.failed == 0


def test_stub_of_the_compiled_module_is_right():
    pytest.importorskip("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "fastinit._core"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
