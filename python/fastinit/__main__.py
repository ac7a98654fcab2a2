"""`python -m fastinit`, and the command `fastinit`."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Runs the command, if what it needs is installed."""
    try:
        from .cli import app
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "typer"):
            raise
        sys.exit(f'fastinit: the command needs {error.name}; try: pip install "fastinit[cli]"')
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # Names may have letters that a code page has not.
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="fastinit")


if __name__ == "__main__":
    main()
