"""The package as such: names, documentation, types, the name of the distribution."""

import doctest
import importlib
import importlib.util
import inspect
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

import fastinit

ROOT = Path(__file__).parents[2]
PACKAGE = Path(fastinit.__file__).parent
LAZY = {"TraceLog", "compare", "diagnose", "gain", "lsuv", "recipe", "recommend", "show", "signal", "trace"}


def modules():
    """All modules of the package, without importing them."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["fastinit", *path.relative_to(PACKAGE).with_suffix("").parts]
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_the_distribution():
    info = fastinit.build_info()
    assert info["distribution"] == "fastinit-nn"
    installed = distribution("fastinit-nn")
    assert installed.version == fastinit.__version__
    (command,) = installed.entry_points.select(group="console_scripts")
    assert (command.name, command.value) == ("fastinit", "fastinit.__main__:main")


def test_build_info():
    info = fastinit.build_info()
    names = ["distribution", "version", "file", "stream_version", "simd", "simd_available", "threads"]
    assert sorted(info) == sorted(names)
    assert info["version"] == fastinit.__version__
    assert Path(info["file"]).is_relative_to(PACKAGE)
    assert info["stream_version"] == fastinit.STREAM_VERSION == 2
    assert info["simd"] in info["simd_available"]
    assert info["simd_available"][0] == "scalar"
    assert info["threads"] == fastinit.get_num_threads() >= 1


def test_all_names_are_there_and_sorted():
    assert all(hasattr(fastinit, name) for name in fastinit.__all__)
    assert len(set(fastinit.__all__)) == len(fastinit.__all__)
    things = {name: thing for name, thing in vars(fastinit).items() if not inspect.ismodule(thing)}
    public = {name for name in things if not name.startswith("_")}
    assert public | LAZY == {name for name in fastinit.__all__ if not name.startswith("_")}
    assert set(fastinit.__all__) <= set(dir(fastinit))


def test_everything_public_is_documented_with_an_example():
    for name in fastinit.__all__:
        thing = getattr(fastinit, name)
        if callable(thing):
            assert ">>> import fastinit" in thing.__doc__, name


# Keras's adapter has tests of its own: its examples depend on the backend.
@pytest.mark.parametrize("module", [name for name in modules() if "keras" not in name])
def test_examples_run(module):
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] == "fastinit":
            raise
        pytest.skip(f"needs {error.name}")
    if module == "fastinit.guidance.compare":
        pytest.importorskip("sklearn")
    if module.startswith("fastinit.guidance.trace"):
        pytest.importorskip("torch")
    assert doctest.testmod(imported).failed == 0


def test_stub_of_the_compiled_module():
    pytest.importorskip("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "fastinit._core"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


RECOMMEND = """
from typing import Any, assert_type
from fastinit import recommend
from fastinit.guidance import Recipe, Recommendation

class Module:
    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Any: ...
    def __call__(self, x: Any) -> Any: ...

assert_type(recommend(), Recommendation)
assert_type(recommend("relu", "conv", depth=3), Recommendation)
assert_type(recommend(lambda z: z), Recommendation)
assert_type(recommend(Module(), "conv"), Recommendation)
assert_type(recommend(Module()), Recommendation | Recipe)
"""


@pytest.mark.slow
def test_types_of_recommend(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "calls.py").write_text(RECOMMEND, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", tmp_path / "calls.py"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT / "python")},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def tool(name):
    """A script of `tools/`."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([r"C:\a\b.png"], "not portable"),
        (["docs/a b.md"], "not portable"),
        (["docs/größe.md"], "not portable"),
        (["docs/aux.svg"], "not portable"),
        (["docs/end."], "not portable"),
        (["docs/readme.md", "docs/README.md"], "only in case"),
        (["src/a.rs", "src/A/b.rs", "src/a/c.rs"], "only in case"),
        (["notes.txt"], "unknown entry at the root"),
    ],
    ids=str,
)
def test_lint_refuses_file_names(names, said):
    assert said in "\n".join(tool("tree").wrong_names(names))


def test_lint_accepts_file_names():
    assert tool("tree").wrong_names(["README.md", "src/auxiliary.rs", "docs/a-b_c.1.md"]) == []


@pytest.mark.parametrize("before", [b"pip install ", b"pip install -U '", b'pip install "numpy" "'])
def test_lint_refuses_advice_to_install_the_other_project(before):
    wrong = tool("tree").wrong_distribution
    for name in (b"fastinit", b"fastinit[cli]'", b"fastinit==1.0"):
        assert wrong(before + name), name
        assert not wrong(before + name.replace(b"fastinit", b"fastinit-nn")), name


@pytest.mark.parametrize(
    "tags",
    [
        "cp310-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64",
        "cp310-abi3-musllinux_1_2_aarch64",
        "cp310-abi3-macosx_11_0_arm64",
        "cp314-cp314t-win_arm64",
    ],
)
def test_release_accepts_platforms(tags):
    assert tool("release").WHEEL.fullmatch(f"fastinit_nn-0.1.0-{tags}.whl")


@pytest.mark.parametrize(
    "tags",
    ["cp310-abi3-linux_x86_64", "cp310-abi3-manylinux_2_34_x86_64", "cp312-cp312-win_amd64", "py3-none-any"],
)
def test_release_refuses_platforms(tags):
    assert not tool("release").WHEEL.fullmatch(f"fastinit_nn-0.1.0-{tags}.whl")


def test_release_refuses_stray_and_missing_files():
    release = tool("release")
    release.check_names("it", {"a", "b"}, {"a"}, {"a", "b"})
    with pytest.raises(SystemExit, match=r"it lacks \['a'\]"):
        release.check_names("it", {"b"}, {"a"}, {"a", "b"})
    with pytest.raises(SystemExit, match=r"it has stray files: \['c'\]"):
        release.check_names("it", {"a", "c"}, {"a"}, {"a", "b"})


def test_release_refuses_another_tag():
    with pytest.raises(SystemExit, match=r"the tag v9\.9\.9 is not v"):
        tool("release").check_version("v9.9.9")


def test_versions_of_all_files_agree():
    assert tool("release").check_version(None) == fastinit.__version__
