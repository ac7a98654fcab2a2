"""Check the tracked files: portable names, known entries at the root, the right name for `pip install`.

A name is portable if each component has only letters, digits and `._-`, does not end in a dot, is not
reserved by Windows, and differs from all others by more than case. `make lint` runs this.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# fmt: off
KNOWN = {
    ".ci", ".github", ".gitignore", ".pre-commit-config.yaml", "ARCHITECTURE.md", "CHANGELOG.md",
    "CITATION.cff", "CONTRIBUTING.md", "Cargo.lock", "Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT",
    "LICENSE-THIRD-PARTY", "Makefile", "README.md", "SECURITY.md", "benches", "deny.toml", "docs",
    "examples", "fuzz", "pyproject.toml", "python",
    "requirements-bench.in", "requirements-bench.txt",
    "requirements-build.in", "requirements-build.txt", "requirements-dev.in", "requirements-dev.txt",
    "requirements-docs.in", "requirements-docs.txt",
    "requirements-frameworks.in", "requirements-frameworks.txt", "requirements-recipes.in",
    "requirements-recipes.txt", "requirements-release.in", "requirements-release.txt",
    "rustfmt.toml", "src", "tests", "tools",
}
# fmt: on
COMPONENT = re.compile(r"[A-Za-z0-9._-]*[A-Za-z0-9_-]")
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# The name `fastinit` on PyPI belongs to an unrelated project.
INSTALL = re.compile(rb"pip install\b[^\n]*[\s\"'=]fastinit(?![\w./-])")


def wrong_names(names: list[str]) -> list[str]:
    """What is wrong with these file names, which are relative to the root of the repository."""
    found = []
    spelling: dict[str, str] = {}
    for name in names:
        parts = name.split("/")
        if parts[0] not in KNOWN:
            found.append(f"{parts[0]!r}: unknown entry at the root; tools/tree.py lists those that are known")
        for end, part in enumerate(parts, 1):
            if not COMPONENT.fullmatch(part) or RESERVED.fullmatch(part):
                found.append(f"{name!r}: {part!r} is not portable")
            path = "/".join(parts[:end])
            if spelling.setdefault(path.lower(), path) != path:
                found.append(f"{path!r} differs from {spelling[path.lower()]!r} only in case")
    return list(dict.fromkeys(found))


def wrong_distribution(text: bytes) -> str | None:
    """The first advice in a text to install the unrelated project `fastinit`."""
    match = INSTALL.search(text)
    return match[0].decode(errors="replace") if match else None


def main() -> str:
    """What is wrong with the files that git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    names = listed.decode(errors="backslashreplace").split("\0")[:-1]
    found = wrong_names(names)
    for name in names:
        path = ROOT / name
        if path.is_file() and (advice := wrong_distribution(path.read_bytes())):
            found.append(f"{name!r}: {advice!r} installs another project; this one is fastinit-nn")
    return "\n".join(found)


if __name__ == "__main__":
    sys.exit(main() or 0)
