"""Test the wheels on several Pythons, each in an environment of its own.

`make pythons PYTHONS="python3.10 python3.10@1.26.4 python3.14t"` runs this; what follows an `@` is the
version of NumPy, otherwise the newest. There is one wheel for all ordinary Pythons (stable ABI), and one for
each free-threaded version. Frameworks and mypy are not installed, so the tests that need them are
skipped.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "target" / "pythons"
TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "scipy", "mpmath")
ABOUT = """
import sys, sysconfig
print(sys.version.split()[0], int(bool(sysconfig.get_config_var("Py_GIL_DISABLED"))))
"""
INSTALLED = """
import sys, numpy, fastinit
gil = sys._is_gil_enabled() if hasattr(sys, "_is_gil_enabled") else True
file = fastinit.build_info()["file"].replace("\\\\", "/").rpartition("/")[2]
print(numpy.__version__, "on" if gil else "off", file)
"""


class Interpreter(NamedTuple):
    """A Python, and the NumPy that is wanted for it."""

    path: str
    numpy: str
    version: str
    free_threaded: bool

    @property
    def name(self) -> str:
        """Such as `3.14.0t`."""
        return self.version + "t" * self.free_threaded

    @property
    def wheel(self) -> str:
        """What the name of its wheel has."""
        major, minor, *_ = self.version.split(".")
        return f"-cp{major}{minor}-cp{major}{minor}t-" if self.free_threaded else "-abi3-"


def find(text: str) -> Interpreter:
    """The Python that an argument names.

    Raises:
        SystemExit: If there is none.
    """
    name, _, numpy = text.partition("@")
    path = shutil.which(name)
    if path is None:
        sys.exit(f"pythons: there is no program {name!r}")
    version, free_threaded = output(path, ABOUT).split()
    return Interpreter(path, numpy, version, free_threaded == "1")


def output(python: str, program: str) -> str:
    """What a program prints."""
    return subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout


def wheel_for(one: Interpreter, folder: Path) -> Path:
    """Its wheel, built unless the folder has it."""
    if not (found := sorted(folder.glob(f"*{one.wheel}*.whl"))):
        command = ["build", "--release", "--locked", "--interpreter", one.path, "--out", str(folder)]
        subprocess.run([sys.executable, "-m", "maturin", *command], cwd=ROOT, check=True)
        found = sorted(folder.glob(f"*{one.wheel}*.whl"))
    if len(found) != 1:
        sys.exit(f"pythons: {folder} must have one wheel for Python {one.name}, found {len(found)}")
    return found[0]


def tested(one: Interpreter, wheel: Path, arguments: list[str]) -> tuple[list[str], bool]:
    """A row of the table, and whether all is well."""
    folder = FOLDER / f"{one.name}{'-numpy' * bool(one.numpy)}{one.numpy}"
    subprocess.run([one.path, "-m", "venv", "--clear", str(folder)], check=True)
    python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    numpy = f"numpy=={one.numpy}" if one.numpy else "numpy"
    # Wheels only: what has none for this Python cannot be tested with it, and would be compiled for an hour.
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    extras = f"{wheel}[bf16,cli,plot,safetensors]"
    subprocess.run([python, *install, extras, numpy, *TOOLS], check=True)
    numpy, gil, module = output(python, INSTALLED).split()
    start = time.monotonic()
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", "--numprocesses=2", "--dist=worksteal"]
    last = ""
    with subprocess.Popen([*command, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        for last in running.stdout or ():
            print(last, end="", flush=True)
    counts = {name.rstrip("s"): number for number, name in re.findall(r"(\d+) ([a-z]+)", last)}
    numbers = [counts.get(name, "0") for name in ("passed", "failed", "error", "skipped")]
    row = [one.name, numpy, gil, module, *numbers, f"{time.monotonic() - start:.0f} s"]
    return row, running.returncode == 0


def main() -> int:
    """Prints a table, with a row for each Python; the exit status says whether all tests passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pythons", nargs="+", help="such as python3.14, or python3.10@1.26.4 with that NumPy")
    parser.add_argument("--wheels", type=Path, help="test the wheels in this folder, and build what it lacks")
    arguments, rest = parser.parse_known_args()
    interpreters = [find(text) for text in arguments.pythons]
    if arguments.wheels is None:  # Those of another commit must not be tested.
        shutil.rmtree(FOLDER / "wheels", ignore_errors=True)
    folder = arguments.wheels or FOLDER / "wheels"
    rows = [["Python", "NumPy", "GIL", "module", "passed", "failed", "errors", "skipped", "time"]]
    well = True
    for one in interpreters:
        row, passed = tested(one, wheel_for(one, folder), rest)
        rows.append(row)
        well &= passed
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
