"""`python -m fastinit`, and the command `fastinit`."""

from __future__ import annotations

import io
import signal
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from ._registry import install_hint
from ._terminal import printable

if TYPE_CHECKING:
    from types import TracebackType


def _report(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """Prints an error that nobody expected. Texts in it may be hostile, such as names from files."""
    lines = "".join(traceback.format_exception(kind, error, where)).splitlines()
    print("\n".join(map(printable, lines)), file=sys.stderr)


def _leave(number: int, _: object) -> NoReturn:
    """Leaves as if by an exception, so that unfinished files are deleted."""
    sys.exit(128 + number)


def main() -> None:
    """Runs the command; exits with a hint if a package that it needs is not installed."""
    sys.excepthook = _report
    try:
        from .cli import app
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "typer"):
            raise
        sys.exit(f"fastinit: the command needs {error.name}: {install_hint('cli')}")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # The encoding may lack characters of names.
            stream.reconfigure(errors="backslashreplace")
    # Windows has SIGBREAK and no SIGHUP. Under nohup, SIGHUP is ignored.
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _leave)
    app(prog_name="fastinit")


if __name__ == "__main__":
    main()
