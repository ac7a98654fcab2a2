"""The layers of the package and of the crate: what each file may use.

Imports inside functions count, imports for type checkers do not. Of Rust, code counts, comments do not.
"""

import ast
import re
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

import fastinit

ROOT = Path(fastinit.__file__).parent
PARTS = ("torch", "keras", "jax", "haiku", "checkpoint", "guidance", "theory")
# Private modules that belong to the package as a whole.
LEAVES = ("_terminal", "_suggest", "_checks", "_files", "_results", "_typing", "_registry", "_safetensors")
# What the adapters share; they stand on the public API.
SHARED = ("_fill", "_plan", "_report", "_rules")
API = ("functions", "initializers", "_runtime")
COMPILED = ("_core",)
# The files that may import each package, besides NumPy.
PACKAGES = {
    "torch": [
        "torch/*",
        "guidance/compare/torch_network.py",
        "guidance/diagnose/*torch*",
        "guidance/trace/torch_*",
    ],
    "keras": [
        "keras/*",
        "guidance/compare/keras_network.py",
        "guidance/diagnose/*keras*",
        "guidance/trace/keras_*",
    ],
    "tensorflow": ["keras/*"],
    "jax": ["keras/*", "jax/*", "haiku.py", "guidance/trace/jax_*"],
    "haiku": ["haiku.py"],
    "transformers": ["torch/_plan.py"],
    "orbax": ["jax/_orbax.py"],
    "sklearn": ["guidance/compare/*"],
    "matplotlib": ["guidance/show/*"],
    "h5py": ["guidance/diagnose/sources/hdf5.py"],
    "onnx": ["guidance/diagnose/sources/onnx.py"],
    "safetensors": ["guidance/diagnose/*", "torch/*", "cli.py"],
    "ml_dtypes": ["*"],
    "rich": ["cli.py", "_terminal.py"],
    "typer": ["cli.py", "__main__.py"],
    "numpy": ["*"],
}


class Import(NamedTuple):
    """An import: the absolute name of the module, and the name that is taken from it, if any."""

    module: str
    name: str | None = None

    def parts(self):
        return self.module.split(".")


def module_name(file):
    parts = ["fastinit", *file.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def run_time_nodes(tree):
    """All nodes, except those that only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield other
                yield from run_time_nodes(other)
        else:
            yield node
            yield from run_time_nodes(node)


def imports_of(file, modules):
    """The imports of a file; one of a module by `from package import module` counts as that of the module."""
    package = module_name(file).split(".")
    if file.stem != "__init__":
        package = package[:-1]
    for node in run_time_nodes(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield Import(inner) if inner in modules else Import(module, alias.name)


FILES = {module_name(file): file for file in sorted(ROOT.rglob("*.py"))}
# Compiled modules are modules, too.
MODULES = {*FILES, *(f"fastinit.{name}" for name in COMPILED)}
IMPORTS = {module: list(imports_of(file, MODULES)) for module, file in FILES.items()}
EDGES = {
    module: {one.module for one in found if one.module in MODULES} - {module}
    for module, found in IMPORTS.items()
}


def part_of(module):
    """`"torch"`, `"keras"`, `"guidance"`, `"theory"`, or `""` for the rest."""
    first = (*module.split("."), "")[1]
    return first if first in PARTS else ""


def is_leaf(module):
    return module.removeprefix("fastinit.") in (*LEAVES, *SHARED)


def refused(is_allowed, importers):
    """The imports within the package that are not allowed, as text."""
    return [
        f"{module} imports {target}"
        for module in importers
        for target in sorted(EDGES[module])
        if not is_leaf(target) and not is_allowed(target)
    ]


def test_the_files_are_found():
    assert {"fastinit.guidance.signal", "fastinit.torch", "fastinit.theory.gains"} <= set(FILES)
    assert "fastinit.guidance.choices" in EDGES["fastinit.guidance.signal"]
    assert "fastinit.theory.distributions" in EDGES["fastinit.initializers"]  # inside a function
    assert not any(
        one.module == "matplotlib.axes" for one in IMPORTS["fastinit.guidance.show.pictures"]
    )  # for type checkers


def test_no_circular_imports():
    done, cycles = set(), []

    def visit(module, path):
        if module in path:
            cycles.append(" -> ".join([*path[path.index(module) :], module]))
        elif module not in done:
            for target in sorted(EDGES.get(module, ())):
                visit(target, [*path, module])
            done.add(module)

    for module in EDGES:
        visit(module, [])
    assert not cycles, "\n".join(cycles)


def test_nothing_private_of_another_part():
    found = []
    for module, imports in IMPORTS.items():
        for one in imports:
            if one.parts()[0] != "fastinit" or is_leaf(one.module):
                continue
            own = part_of(module) == part_of(one.module)
            # `_runtime` is private by name, but part of the public API; its functions are public.
            private = [
                name
                for name in (*one.parts(), one.name or "")
                if name.startswith("_") and not name.startswith("__") and name != "_runtime"
            ]
            if private and not own:
                found.append(f"{module} imports {one.name or ''} from {one.module}")
    assert not found, "\n".join(found)


def of_part(part):
    return [module for module in FILES if part_of(module) == part]


def test_theory_needs_numpy_only():
    assert not refused(lambda target: part_of(target) == "theory", of_part("theory"))


def test_guidance_stands_on_theory_and_the_public_api():
    def is_allowed(target):
        return part_of(target) in ("guidance", "theory") or target.removeprefix("fastinit.") in API

    found = refused(is_allowed, of_part("guidance"))
    assert not found, "\n".join(found)


def test_the_public_api_stands_on_theory():
    def is_allowed(target):
        return target.removeprefix("fastinit.") in (*API, *COMPILED) or part_of(target) == "theory"

    found = refused(is_allowed, [f"fastinit.{name}" for name in (*API, *LEAVES)])
    assert not found, "\n".join(found)


@pytest.mark.parametrize("adapter", ["torch", "keras", "jax", "haiku"])
def test_adapters_know_neither_each_other_nor_the_compiled_module(adapter):
    def is_allowed(target):
        others = {"torch", "keras", "jax", "haiku"} - {adapter}
        if adapter == "haiku":  # Haiku is a library of JAX.
            others.remove("jax")
        return part_of(target) not in others and target.removeprefix("fastinit.") not in COMPILED

    found = refused(is_allowed, of_part(adapter))
    assert not found, "\n".join(found)


def test_only_the_public_api_knows_the_compiled_module():
    allowed = {f"fastinit.{name}" for name in (*API, *COMPILED)} | {"fastinit"}
    assert not refused(
        lambda target: target.removeprefix("fastinit.") not in COMPILED, sorted(set(FILES) - allowed)
    )


def test_packages_are_imported_in_their_places_only():
    found = []
    for module, imports in IMPORTS.items():
        file = FILES[module].relative_to(ROOT).as_posix()
        for one in imports:
            package = one.parts()[0]
            if package in sys.stdlib_module_names or package == "fastinit":
                continue
            if not any(fnmatch(file, pattern) for pattern in PACKAGES.get(package, [])):
                found.append(f"{file} imports {package}")
    assert not found, "\n".join(found)


def test_private_modules_of_keras_are_imported_in_one_file():
    files = {
        module
        for module, imports in IMPORTS.items()
        for one in imports
        if one.parts()[:2] == ["keras", "src"]
    }
    assert len(files) <= 1, files
    assert all(part_of(module) == "keras" for module in files)


SOURCES = Path(__file__).parents[2] / "src"
# What only some places of the crate may have.
RUST = {
    r"\b(pyo3|numpy)::|#\[py": ["python/"],
    r"\b(core|std)::arch\b|\bis_\w+_feature_detected!": ["simd/"],
    r"\bthread::|\bstd::alloc\b|\bmmap\b": ["fill/"],
    r"\bBuffer::(new|zeroed)\b": ["fill/", "python/array.rs"],  # The results that the bindings return.
    r"\.mul_add\(|\bf(32|64)::mul_add\b": ["simd/fma.rs"],  # Not rounded once by every C library.
    r"\bunsafe\b": ["simd/", "fill/", "python/array.rs", "python/xla.rs"],
}


def code_of(file):
    return re.sub(r"//.*", "", file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("pattern", RUST)
def test_rust_has_it_in_its_places_only(pattern):
    files = {file.relative_to(SOURCES).as_posix(): code_of(file) for file in SOURCES.rglob("*.rs")}
    found = {name for name, code in files.items() if re.search(pattern, code)}
    assert found, "the pattern matches nothing"
    assert all(name.startswith(tuple(RUST[pattern])) for name in found), sorted(found)
