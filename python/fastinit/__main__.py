"""`python -m fastinit`, and the command `fastinit`."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command, if what it needs is installed."""
    try:
        from ._command import app
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "typer"):
            raise
        sys.exit(f'fastinit: the command needs {error.name}; try: pip install "fastinit[cli]"')
    app(prog_name="fastinit")


if __name__ == "__main__":
    main()
