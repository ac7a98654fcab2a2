"""Build what a release would publish, and check it. `make release-check` runs this.

All commands stop at the first failure. None publishes anything.

* `release.py`, on Linux, does all: it builds the sdist and a portable wheel, checks and uses them, packages
  and compiles the crate, and builds a wheel from the sdist. The first two are left in `dist/`.
* `release.py check FILE...` checks names, files and metadata of wheels and sdists, and the platforms of
  wheels and their use of the stable ABI. With `--tag`, the version must be that of the tag, and the changelog
  must have its date.
* `release.py use WHEEL`, on any system, installs a wheel into an empty environment and tests it there.
"""

from __future__ import annotations

import argparse
import doctest
import email
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
TARGET = ROOT / "target" / "release-check"  # apart from the other builds, whose flags differ
# The tags that a wheel may have. Others are refused by PyPI or run on fewer systems than they could.
WHEEL = re.compile(
    r"fastinit_nn-(?P<version>[^-]+)-(?P<python>cp310-abi3|cp3\d+-cp3\d+t)-"
    r"(?P<platform>(manylinux2014|manylinux_2_17|manylinux_2_28|musllinux_1_2|macosx_\d+_\d+|win)_\w+)"
    r"(\.\w+)?\.whl"
)
EXTENSION = re.compile(r"fastinit/_core\.(abi3\.so|pyd|cp\S+)")
METADATA = {
    "METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE-APACHE", "licenses/LICENSE-MIT",
    "licenses/LICENSE-THIRD-PARTY",
    "sboms/fastinit.cyclonedx.json",
}  # fmt: skip
NEEDED = {  # of the sdist and of the crate
    "Cargo.lock", "Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "src/lib.rs",
    "tests/data/golden.txt",
}  # fmt: skip
GENERATED = {".cargo_vcs_info.json", "Cargo.toml.orig", "PKG-INFO"}  # by Cargo and maturin
# The tools are those beside this Python; what they print is read.
ENVIRONMENT = {
    "CARGO_TARGET_DIR": str(TARGET),
    "NO_COLOR": "1",
    "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
    "PIP_QUIET": "0",
    "PYTHONUTF8": "1",
}
CORE = ("arrays", "blocks", "configs", "errors", "golden", "index", "keys", "out", "values", "words")
START = time.monotonic()


def step(text: str) -> None:
    """Announces a step."""
    print(f"[{time.monotonic() - START:4.0f} s] {text}", flush=True)


def fail(text: str) -> NoReturn:
    """Ends the run."""
    sys.exit(f"release: {text}")


def need(good: object, text: str) -> None:
    """Ends the run unless something holds."""
    if not good:
        fail(text)


def run(*command: str | Path, status: int = 0, cwd: Path = ROOT) -> str:
    """What a command prints; ends the run if its exit status is another one."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    if done.returncode != status:
        print(done.stdout)
        fail(f"{' '.join(map(str, command))}: exit status {done.returncode}, not {status}")
    return done.stdout


def module(name: str, *arguments: str | Path, cwd: Path = ROOT) -> str:
    """What a module of this Python prints."""
    return run(sys.executable, "-m", name, *arguments, cwd=cwd)


def tracked(folder: str = ".") -> set[str]:
    """The files that git tracks."""
    return set(run("git", "ls-files", "-z", folder).split("\0")) - {""}


def first(pattern: str, file: str) -> str:
    """The first group of a pattern in a file."""
    found = re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        fail(f"{file} has no match of {pattern}")
    return found[1]


def check_version(tag: str | None) -> str:
    """The version, which all files have that name it."""
    version = first(r'^version = "(.+)"$', "Cargo.toml")
    step(f"version {version}")
    named = {
        "Cargo.lock": first(r'^name = "fastinit"\nversion = "(.+)"$', "Cargo.lock"),
        "CHANGELOG.md": first(r"^## \[(.+?)\]", "CHANGELOG.md"),
    }
    date = first(r"^## \[.+?\] - (.+)$", "CHANGELOG.md")
    if (ROOT / "CITATION.cff").exists():
        named["CITATION.cff"] = first(r"^version: [\"']?(.+?)[\"']?$", "CITATION.cff")
    for file, other in named.items():
        need(other == version, f"Cargo.toml has version {version}, {file} has {other}")
    if tag is not None:
        need(tag == f"v{version}", f"the tag {tag} is not v{version}, the version of Cargo.toml")
        need(re.fullmatch(r"\d{4}-\d\d-\d\d", date), f"CHANGELOG.md: {version} has no date, but {date!r}")
    return version


def check_names(what: str, names: set[str], wanted: set[str], allowed: set[str]) -> None:
    """Refuses missing and stray files."""
    need(not wanted - names, f"{what} lacks {sorted(wanted - names)}")
    need(not names - allowed, f"{what} has stray files: {sorted(names - allowed)}")


def check_wheel(path: Path, version: str) -> None:
    """The name, the files, the metadata, the platform and the stable ABI of a wheel."""
    step(f"check {path.name}")
    match = WHEEL.fullmatch(path.name)
    if not match:
        fail(f"{path.name}: the name does not match {WHEEL.pattern}")
    need(match["version"] == version, f"{path.name} has version {match['version']}, not {version}")
    info = f"fastinit_nn-{version}.dist-info/"
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        metadata = email.message_from_bytes(archive.read(info + "METADATA"))
    extensions = {name for name in names if EXTENSION.fullmatch(name)}
    need(len(extensions) == 1, f"{path.name} has not one compiled module, but {sorted(extensions)}")
    libc = re.search("-(gnu|musl)", "".join(extensions))  # only in names without the stable ABI
    need(not libc or ("musl" in libc[1]) == ("musl" in match["platform"]), f"{path.name} has {extensions}")
    modules = {name.removeprefix("python/") for name in tracked("python")}
    need("fastinit/py.typed" in modules, "python/fastinit/py.typed is missing")
    wanted = modules | {info + name for name in METADATA} | extensions
    check_names(path.name, names, wanted, wanted)
    needs = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    found = (metadata["Name"], metadata["Version"], metadata["License-Expression"], needs)
    expected = ("fastinit-nn", version, "MIT OR Apache-2.0", ["numpy>=1.26"])
    need(found == expected, f"{path.name}: the metadata are {found}, not {expected}")
    # In wheels for musl, zig calls the C library `libc.so`, which musl's loader takes as itself. auditwheel
    # knows only the name that Alpine has, so `use` in Alpine is what proves them.
    if match["platform"].startswith("manylinux"):
        said = " ".join(module("auditwheel", "show", path).split())
        proved = re.search(r'platform tag: "(\w+)"', said)
        need(proved and proved[1] in path.stem.split("-")[-1].split("."), f"{path.name}: {said}")
    if "abi3" in match["python"]:
        module("abi3audit", "--strict", path)
    module("twine", "check", "--strict", path)


def check_sdist(path: Path, version: str) -> None:
    """The name and the files of an sdist."""
    step(f"check {path.name}")
    top = f"fastinit_nn-{version}/"
    need(path.name == top[:-1] + ".tar.gz", f"{path.name} is not of version {version}")
    with tarfile.open(path) as archive:
        names = {name.removeprefix(top) for name in archive.getnames()}
    wanted = NEEDED | tracked("python") | tracked("src") | {"pyproject.toml", "PKG-INFO"}
    check_names(path.name, names, wanted, tracked() | GENERATED)
    module("twine", "check", "--strict", path)


def check_crate() -> None:
    """The files of the crate; that it compiles from them, as crates.io would get it."""
    step("check the crate; cargo publish --dry-run")
    names = set(run("cargo", "package", "--list", "--quiet").replace("\\", "/").splitlines())
    check_names("the crate", names, NEEDED | tracked("src"), tracked() | GENERATED)
    run("cargo", "publish", "--dry-run", "--locked")


def use(path: Path, python: str, *, bfloat16: bool = True) -> None:
    """Installs a wheel into an empty environment, uses it there, and runs the core tests."""
    step(f"install and use {path.name}")
    with tempfile.TemporaryDirectory(prefix="fastinit-") as folder:
        home = Path(folder)
        run(python, "-m", "venv", home / "venv")
        scripts = home / "venv" / ("Scripts" if os.name == "nt" else "bin")
        own = scripts / "python"
        pip = (own, "-I", "-m", "pip")  # the one of its Python, which knows its wheels
        run(*pip, "install", "--only-binary=:all:", path)
        listed = run(*pip, "list", "--format=freeze")
        installed = set(re.findall(r"^[\w-]+(?===| @)", listed, re.MULTILINE)) - {"pip", "setuptools"}
        need(installed == {"fastinit-nn", "numpy"}, f"the wheel brings {sorted(installed)}")
        print(run(own, "-I", __file__, "here", cwd=home), end="")
        hint = run(scripts / "fastinit", "info", status=1, cwd=home)
        need("fastinit-nn[cli]" in hint, f"without the extra cli, the command says {hint!r}")
        pins = ROOT / "requirements-dev.txt"
        extras = "bf16,cli" if bfloat16 else "cli"
        run(*pip, "install", "--constraint", pins, f"{path}[{extras}]", "pytest", "pytest-timeout")
        print(run(scripts / "fastinit", "info", cwd=home), end="")
        if bfloat16:
            run(own, "-I", ROOT / "examples" / "llama.py", "--layers", "1", "--no-peers", cwd=home)
        tests = [ROOT / "tests" / "python" / f"test_{name}.py" for name in CORE]
        options = ("--quiet", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", "--rootdir", ROOT)
        selected = () if bfloat16 else ("-k", "not bfloat16")
        print(run(own, "-I", "-m", "pytest", *options, *selected, *tests, cwd=home).splitlines()[-1])


def use_here() -> None:
    """Golden values and the first example of the README, with the installed package of this Python."""
    import fastinit

    info = fastinit.build_info()
    need(Path(str(info["file"])).is_relative_to(sys.prefix), f"the package is not the installed one: {info}")
    version = first(r'^version = "(.+)"$', "Cargo.toml")
    need(fastinit.__version__ == version, f"the package has version {fastinit.__version__}, not {version}")
    lines = (ROOT / "tests" / "data" / "golden.txt").read_text(encoding="utf-8").splitlines()
    cases = [line.split() for line in lines if not line.startswith("#") and "bfloat16" not in line]
    for function, parameters, dtype, _, digest in cases:
        shape, numbers = (256, 256), parameters.split(",") if parameters != "-" else []
        if function == "orthogonal":
            (rows, columns), numbers = map(int, parameters.split("x")), []
            shape = (rows, columns)
        make = getattr(fastinit, function)
        key = {"seed": 0x0123456789ABCDEF, "stream": 0xFEDCBA9876543210}
        array = make(shape, *map(float, numbers), **key, dtype=dtype)
        found = hashlib.blake2b(array.tobytes(), digest_size=8).hexdigest()
        need(found == digest, f"{function} {parameters} {dtype} is {found}, not {digest}")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = text[text.index("```python\n") + 10 :].split("```")[0]
    test = doctest.DocTestParser().get_doctest(example, {}, "README.md", None, None)
    failed, tried = doctest.DocTestRunner().run(test)
    need(tried and not failed, "the first example of README.md fails")
    print(f"{len(cases)} golden values and {tried} lines of README.md hold; {info}")


def check(paths: Sequence[Path], tag: str | None = None) -> None:
    """Checks wheels and sdists without installing them."""
    version = check_version(tag)
    for path in paths:
        (check_wheel if path.suffix == ".whl" else check_sdist)(path, version)


def release() -> None:
    """Builds and checks all that one machine can."""
    check_version(None)
    changes = run("git", "status", "--porcelain")
    need(not changes, f"there are changes that are not committed:\n{changes}")
    shutil.rmtree(DIST, ignore_errors=True)
    step("build the sdist and the wheel")
    module("maturin", "sdist", "--out", DIST)
    portable = ("--release", "--locked", "--zig", "--compatibility", "manylinux_2_17")
    module("maturin", "build", *portable, "--interpreter", sys.executable, "--out", DIST)
    files = sorted(DIST.iterdir())
    need(len(files) == 2, f"one sdist and one wheel, not {[path.name for path in files]}")
    check(files)
    use(next(DIST.glob("*.whl")), sys.executable)
    check_crate()
    step("build a wheel from the sdist")
    with tempfile.TemporaryDirectory(prefix="fastinit-") as folder:
        module("pip", "wheel", "--no-deps", "--wheel-dir", folder, next(DIST.glob("*.tar.gz")))
        use(next(Path(folder).iterdir()), sys.executable)
    step("all checks passed")


def main() -> None:
    """Parses the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="check | use")
    checking = commands.add_parser("check")
    checking.add_argument("files", nargs="+", type=Path)
    checking.add_argument("--tag", help="the tag of the release, such as v0.1.0")
    using = commands.add_parser("use")
    using.add_argument("wheel", type=Path)
    using.add_argument("--python", default=sys.executable, help="the interpreter; by default the running one")
    using.add_argument("--without-bfloat16", action="store_true", help="where ml_dtypes has no wheel")
    commands.add_parser("here")  # `use` runs this in the environment that it makes
    arguments = parser.parse_args()
    if arguments.command == "check":
        check([path.resolve() for path in arguments.files], arguments.tag)
    elif arguments.command == "use":
        use(arguments.wheel.resolve(), arguments.python, bfloat16=not arguments.without_bfloat16)
    elif arguments.command == "here":
        use_here()
    else:
        release()


if __name__ == "__main__":
    main()
