"""Text for a terminal: tables, and the bar of a long task."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Progress = bool | Callable[[int, int, str], object] | None


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "", *, wrap: int = 0) -> str:
    """Lays out rows in columns of equal width, two spaces between them.

    Args:
        header: The titles of the columns.
        rows: The cells.
        align: A character for each column: `<` for the left, `>` for the right. Those it does not reach go to
            the left.
        wrap: The width at which cells of the last column are continued on a line of their own; 0 for never.

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
    """The text with escapes for what would move the cursor, colour the terminal, or not show."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _wrapped(line: list[str], width: int) -> list[list[str]]:
    *cells, last = line
    first, *others = textwrap.wrap(last, width) or [""]
    return [[*cells, first], *([*("" for _ in cells), other] for other in others)]


class Bar:
    """Progress, as the user wants it: a bar on standard error, a function that is called, or nothing.

    Args:
        progress: Whether to show a bar; `None` if standard error is a terminal; or a function that is called
            with what is done, with the total, and with the name of what was done last.
        total: How much there is to do.
    """

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress = sys.stderr.isatty() if progress is None else progress
        self.total = total
        self.done = 0
        self._shown = ""

    def add(self, size: int, name: str) -> None:
        """Learns that so much more is done."""
        self.done += size
        if callable(self.progress):
            self.progress(self.done, self.total, name)
        elif self.progress:
            self._show(self.done / self.total if self.total else 1.0)

    def _show(self, part: float) -> None:
        text = f"\r{'#' * int(30 * part):30} {part:4.0%}"
        if text != self._shown:
            print(text, end="", file=sys.stderr, flush=True)
            self._shown = text

    def close(self) -> None:
        """Ends the line of a bar."""
        if self.progress and not callable(self.progress):
            print(file=sys.stderr, flush=True)
