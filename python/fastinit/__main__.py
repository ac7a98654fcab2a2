"""`python -m fastinit`, and the command `fastinit`."""

from __future__ import annotations

import io
import sys

from ._registry import install_hint


def main() -> None:
    """Runs the command; exits with a hint if a package that it needs is not installed."""
    try:
        from .cli import app
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "typer"):
            raise
        sys.exit(f"fastinit: the command needs {error.name}: {install_hint('cli')}")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # The encoding may lack characters of names.
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="fastinit")


if __name__ == "__main__":
    main()
