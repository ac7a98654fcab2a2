"""Check what the files of the Python package import: each layer only what stands below it, and no circles.

Imports inside functions count, but for those with which the package itself forwards to guidance at first use;
those for type checkers do not. ARCHITECTURE.md has the picture. `make lint` runs this.
"""

from __future__ import annotations

import ast
import graphlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parent.parent / "python" / "fastinit"

# From the bottom up. A file may import from its own layer and from those below, but for `APART`.
LAYERS = [
    ["_checks", "_suggest", "_terminal", "_typing"],
    ["_core"],
    ["theory"],
    ["_registry"],
    ["_runtime", "functions", "initializers", "__init__"],
    ["guidance"],
    ["torch", "keras"],
    ["cli"],
    ["__main__"],
]
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}
APART = {"torch", "keras"}
# Who may import the compiled module, and who a framework.
BINDINGS = {"fastinit", "fastinit._runtime", "fastinit.functions", "fastinit.initializers"}
FRAMEWORKS = {
    "torch": ("fastinit.torch", "fastinit.guidance.compare.torch_network", "fastinit.guidance.diagnose"),
    "keras": ("fastinit.keras", "fastinit.guidance.compare.keras_network", "fastinit.guidance.diagnose"),
}

Modules = dict[str, Path]


def modules_of(package: Path) -> Modules:
    """The files of a package by the names of their modules."""
    found = {}
    for path in sorted(package.rglob("*.py*")):
        if path.suffix in (".py", ".pyi"):
            parts = ["fastinit", *path.relative_to(package).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(modules: Modules, module: str) -> Iterator[str]:
    """The modules that a file imports: those of the package by file, others by their full names."""
    path = modules[module]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    left_out = {
        inner
        for node in ast.walk(tree)
        if (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        or (isinstance(node, ast.FunctionDef) and module == "fastinit")
        for child in node.body
        for inner in ast.walk(child)
    }
    package = module.split(".") if path.stem == "__init__" else module.split(".")[:-1]
    for node in ast.walk(tree):
        if node in left_out:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in modules else base


def part_of(module: str) -> str:
    """The file or folder of the package that a module belongs to."""
    return [*module.split("."), "__init__"][1]


def faults(modules: Modules, module: str) -> Iterator[str]:
    """What is wrong with the imports of a file."""
    own = part_of(module)
    if own not in LAYER:
        yield f"{own}: unknown part of the package; tools/layers.py lists those that are known"
    for name in dict.fromkeys(imports(modules, module)):
        root = name.split(".")[0]
        if root in FRAMEWORKS and not module.startswith(FRAMEWORKS[root]):
            yield f"{module} imports the framework {root}"
        if name not in modules:
            continue
        parts = name.split(".")
        other = part_of(name)
        if LAYER.get(other, 0) > LAYER.get(own, 0):
            yield f"{module} imports {name}, which stands above it"
        if own != other and {own, other} <= APART:
            yield f"{module} imports {name}: an adapter imports no other"
        if other == "_core" and module not in BINDINGS:
            yield f"{module} imports the compiled module"
        for end, part in enumerate(parts):
            if part.startswith("_") and module.split(".")[:end] != parts[:end]:
                yield f"{module} imports {name}, which is private to {'.'.join(parts[:end])}"


def problems(package: Path) -> str:
    """What is wrong with the imports of a package, a line for each."""
    modules = modules_of(package)
    found = [fault for module in modules for fault in faults(modules, module)]
    graph = {module: {name for name in imports(modules, module) if name in modules} for module in modules}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        found.append("circle: " + " imports ".join(reversed(error.args[1])))
    return "\n".join(found)


if __name__ == "__main__":
    sys.exit(problems(PACKAGE) or 0)
