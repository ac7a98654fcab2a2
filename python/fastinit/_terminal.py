"""Text for a terminal: tables, warnings, and the progress of a long task."""

from __future__ import annotations

import sys
import textwrap
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Progress = bool | Callable[[int, int, str], object] | None


def warn(message: str, inner: tuple[str, ...], category: type[Warning] = UserWarning) -> None:
    """Warns, pointing to the code that called, whatever lies between.

    Args:
        message: The message.
        inner: What the names of files begin with that the warning does not point to.
        category: The category.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inner):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "", *, wrap: int = 0) -> str:
    """Lays out rows in columns of equal width, two spaces between them.

    Args:
        header: The titles of the columns.
        rows: The cells.
        align: A character for each column: `<` for left, `>` for right. The columns after the last character
            are aligned left.
        wrap: The width at which cells of the last column are wrapped; 0 for no limit.

    Example:
        >>> print(table(("weight", "std"), [("kernel", "0.125"), ("bias", "0")], "<>"))
        weight    std
        kernel  0.125
        bias        0
    """
    align = align.ljust(len(header), "<")
    lines = [[printable(cell) for cell in line] for line in (header, *rows)]
    if wrap:
        lines = [part for line in lines for part in _wrapped(line, wrap)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(line, align, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def printable(text: str) -> str:
    """The text with escapes for characters that are not printable, such as those that control a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _wrapped(line: list[str], width: int) -> list[list[str]]:
    *cells, last = line
    first, *others = textwrap.wrap(last, width) or [""]
    return [[*cells, first], *([*("" for _ in cells), other] for other in others)]


class Bar:
    """A display of the progress of a long task.

    On a terminal it is a bar of `rich`, where that is installed; otherwise a line of text on standard error.

    Args:
        progress: Whether to show the progress; `None` to show it if standard error is a terminal; or a
            function that is called with the amount done, the total, and the name of the part done last.
        total: The amount to do.
    """

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress = sys.stderr.isatty() if progress is None else progress
        self.total = total
        self.done = 0
        self._line = ""
        shown = bool(self.progress) and not callable(self.progress)
        self._rich = _rich_bar(total) if shown and sys.stderr.isatty() else None

    def add(self, size: int, name: str) -> None:
        """Adds an amount that is done, and the name of the part that it belongs to."""
        self.done += size
        if callable(self.progress):
            self.progress(self.done, self.total, name)
        elif self._rich is not None:
            self._rich.update(self._rich.task_ids[0], advance=size, description=printable(name))
        elif self.progress:
            part = self.done / self.total if self.total else 1.0
            line = f"\r{'#' * int(30 * part):30} {part:4.0%}"
            if line != self._line:
                print(line, end="", file=sys.stderr, flush=True)
                self._line = line

    def close(self) -> None:
        """Ends the line. Nothing may be added after it."""
        if self._rich is not None:
            self._rich.stop()
        elif self.progress and not callable(self.progress):
            print(file=sys.stderr, flush=True)


def _rich_bar(total: int) -> Any:
    """A bar of rich that has started; `None` where rich is not installed or already shows something."""
    try:
        from rich.console import Console
        from rich.errors import LiveError
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
    except ImportError:
        return None
    # Names are shown literally: brackets in them are not markup.
    name = TextColumn("{task.description}", markup=False)
    bar = Progress(
        BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), name, console=Console(stderr=True)
    )
    bar.add_task("", total=total)
    try:
        bar.start()
    except LiveError:
        return None
    return bar
