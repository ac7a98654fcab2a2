"""Text for a terminal: tables, warnings, and the progress of a long task."""

from __future__ import annotations

import html
import itertools
import math
import re
import shutil
import sys
import time
import unicodedata
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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


class Table:
    """Rows in columns, as text that fits the terminal or as HTML.

    Text has two spaces between columns. Where the columns do not fit, cells are wrapped at spaces and, if
    need be, after the dots, underscores and slashes of names; a part that is longer than its column loses
    its middle. Numbers, which are aligned right, stay whole. Where that does not suffice, the last columns
    continue on a second line below their row, indented by two spaces.

    Args:
        header: The titles of the columns.
        rows: The cells.
        align: A character for each column: `<` for left, `>` for right. The columns after the last character
            are aligned left.
        wrap: The greatest width of the last column, which has sentences; 0 if it has none.

    Example:
        >>> print(Table(("weight", "std"), [("kernel", "0.125"), ("bias", "0")], "<>"))
        weight    std
        kernel  0.125
        bias        0
    """

    def __init__(
        self, header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "", *, wrap: int = 0
    ) -> None:
        self.lines = [[printable(cell) for cell in line] for line in (header, *rows)]
        self.align = align.ljust(len(header), "<")
        self.wrap = wrap

    def __str__(self) -> str:
        width = columns()
        natural = [max(map(_size, column)) for column in zip(*self.lines, strict=True)]
        if self.wrap:
            natural[-1] = min(natural[-1], self.wrap)
        gaps = _GAP * (len(natural) - 1)
        narrow = (self._least(natural, *sizes) for sizes in _NARROW)
        least = next((x for x in narrow if sum(x) + gaps <= width), None) or self._least(natural, *_NARROW[0])
        found: list[list[str]] = [[] for _ in self.lines]
        for number, group in enumerate(_folded(least, width)):
            indent = _INDENT if number else 0
            space = width - indent - _GAP * (len(group) - 1)
            widths = _shared([least[at] for at in group], [natural[at] for at in group], space)
            for line, rows in zip(self.lines, found, strict=True):
                if number == 0 or any(line[at] for at in group):
                    rows += self._laid_out(line, group, widths, indent)
        return "\n".join(itertools.chain.from_iterable(found))

    def _least(self, natural: list[int], narrow: int, sentence: int) -> list[int]:
        """The least width of each column."""
        least = []
        for at, (size, side) in enumerate(zip(natural, self.align, strict=True)):
            if side == ">":  # Only the title may be wrapped.
                title = [_size(piece) for word in self.lines[0][at].split(" ") for piece in _SOFT.split(word)]
                least.append(max(*title, 0, *(_size(line[at]) for line in self.lines[1:])))
            else:
                least.append(min(size, sentence if self.wrap and at == len(natural) - 1 else narrow))
        return least

    def _laid_out(self, line: list[str], group: list[int], widths: list[int], indent: int) -> Iterator[str]:
        """The cells of some columns of a row."""
        cells = [
            wrapped(line[at], width, tall=bool(self.wrap) and at == len(line) - 1)
            for at, width in zip(group, widths, strict=True)
        ]
        for row in itertools.zip_longest(*cells, fillvalue=""):
            texts = [
                _aligned(cell, width, self.align[at])
                for cell, width, at in zip(row, widths, group, strict=True)
            ]
            yield (" " * indent + (" " * _GAP).join(texts)).rstrip()

    def to_html(self) -> str:
        """The table as HTML; the cells are escaped."""
        sides = {"<": "left", ">": "right"}

        def row(kind: str, cells: list[str]) -> str:
            texts = (
                f'<{kind} style="text-align: {sides[side]}">{html.escape(cell)}</{kind}>'
                for side, cell in zip(self.align, cells, strict=True)
            )
            return f"<tr>{''.join(texts)}</tr>"

        head, *rows = self.lines
        body = "\n".join(row("td", cells) for cells in rows)
        return f"<table>\n<thead>{row('th', head)}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "", *, wrap: int = 0) -> str:
    """The text of a `Table`."""
    return str(Table(header, rows, align, wrap=wrap))


def paragraph(text: str) -> str:
    """A sentence or more as lines that fit the terminal; those after the first are indented."""
    width = min(columns(), _PROSE)
    first, *others = wrapped(printable(text), width, width - _INDENT)
    return "\n".join([first, *(" " * _INDENT + line for line in others)])


def wrapped(text: str, width: int, rest: int | None = None, *, tall: bool = True) -> list[str]:
    """Lines of a text that break no word, see `Table`.

    Args:
        text: The text.
        width: The most columns of the first line.
        rest: The most columns of the others; `None` for the same.
        tall: Whether there may be any number of lines; otherwise those in the middle are left out.
    """
    if _size(text) <= width:
        return [text]
    rest = width if rest is None else rest
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        space = rest if lines else width
        joined = f"{line} {word}" if line else word
        if _size(joined) <= space:
            line = joined
            continue
        if line:
            lines.append(line)
        if _size(word) <= rest:
            line = word
            continue
        line = ""
        for piece in _SOFT.split(word):
            joined = line + piece
            if _size(joined) > (rest if lines else width):
                if line:
                    lines.append(line)
                joined = _elided(piece, rest if lines else width)
            line = joined
    lines.append(line)
    if not tall and len(lines) > _TALLEST:
        lines = [*lines[:3], "...", *lines[-2:]]
    return lines


def columns() -> int:
    """The width of the terminal: `COLUMNS` if it is set; 120 where there is no terminal."""
    return max(20, shutil.get_terminal_size((120, 24)).columns)


def size_text(size: float) -> str:
    """A number of bytes in words, in powers of 1000."""
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    power = 0
    while size >= 999.5 and power < len(units) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.3g} {units[power]}"


def counted(number: int, what: str) -> str:
    """A number with its noun: `1 layer`, `2 layers`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def listed(names: Sequence[object]) -> str:
    """The first ten names, and dots where there are more."""
    return ", ".join(map(str, names[:10])) + (", ..." if names[10:] else "")


def printable(text: str) -> str:
    """The text with escapes for characters that are not printable, such as those that control a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


_GAP = 2
_INDENT = 2
# The least widths of columns of names and of one of sentences. A table that does not fit even with the last
# of these is folded, with the first.
_NARROW = ((20, 40), (16, 36), (12, 32))
# Longer lines are hard to read.
_PROSE = 110
# A name in more lines than this loses the middle ones.
_TALLEST = 6
# Where a word may be broken: between a sign and a letter.
_SOFT = re.compile(r"(?<=[._/:,;=(|])(?=[^\W\d_]|[*{\"'])|(?<=[^\W\d_]-)(?=[^\W\d_])")


def _size(text: str) -> int:
    """The number of columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _aligned(text: str, width: int, side: str) -> str:
    space = " " * (width - _size(text))
    return text + space if side == "<" else space + text


def _folded(least: list[int], width: int) -> list[list[int]]:
    """The columns that stand on each line of a row."""
    groups: list[list[int]] = []
    left = 0
    for at, size in enumerate(least):
        left -= _GAP + size
        if left < 0:
            left = width - size - (_INDENT if groups else 0)
            groups.append([])
        groups[-1].append(at)
    return groups


def _shared(least: list[int], natural: list[int], space: int) -> list[int]:
    """The widths of columns, none below its least unless there is no space; narrow ones grow first."""
    widths = [min(size, space) for size in least]
    left = space - sum(widths)
    while left > 0:
        growing = [at for at, size in enumerate(natural) if widths[at] < size]
        if not growing:
            break
        widths[min(growing, key=widths.__getitem__)] += 1
        left -= 1
    return widths


def _elided(text: str, width: int) -> str:
    """The text without its middle, if it is too long."""
    if _size(text) <= width:
        return text
    head, tail = text[: (width - 2) // 2], text[-max(1, (width - 3) // 2) :]
    while head and _size(head) + 3 + _size(tail) > width:  # of wide characters
        head, tail = head[:-1], tail[1:] if len(tail) > 1 else tail
    return f"{head}...{tail}"


class Bar:
    """A display of the progress of a long task, which appears at once.

    On a terminal it is a bar of `rich`, where that is installed; otherwise a line of text on standard error.

    Args:
        progress: Whether to show the progress; `None` to show it if standard error is a terminal; or a
            function that is called with the amount done, the total, and the name of the part done last.
        total: The amount to do.
        name: What is done first.
        in_bytes: Whether amounts are bytes; then their rate is shown.
    """

    def __init__(self, progress: Progress, total: int, name: str = "", *, in_bytes: bool = False) -> None:
        self.progress = sys.stderr.isatty() if progress is None else progress
        self.total = total
        self.done = 0
        self._line = self._name = ""
        shown = bool(self.progress) and not callable(self.progress)
        self._width = min(30, columns() // 4)
        self._start = time.perf_counter() if in_bytes else None
        self._rich = _rich_bar(total, self._width) if shown and sys.stderr.isatty() else None
        self.show(name)

    def show(self, name: str) -> None:
        """Shows what is done now. A function is not called."""
        if callable(self.progress) or not self.progress:
            return
        self._name = name
        rate = self._rate(is_timed=self._rich is not None)
        # What is left beside the bar, the percentage, the time and the rate.
        name = _elided(printable(name), max(8, columns() - self._width - 18 - len(rate)))
        name = f"{rate}  {name}" if rate else name
        if self._rich is not None:
            self._rich.update(self._rich.task_ids[0], completed=self.done, description=name)
            return
        part = self.done / self.total if self.total else 1.0
        line = f"{'#' * int(self._width * part):{self._width}} {part:4.0%}  {name}".rstrip()
        if line != self._line:
            print(
                f"\r{_aligned(line, max(_size(line), _size(self._line)), '<')}",
                end="",
                file=sys.stderr,
                flush=True,
            )
            self._line = line

    def _rate(self, *, is_timed: bool) -> str:
        """The rate in bytes per second and, unless the bar has it, the remaining time."""
        if self._start is None or not self.done:
            return ""
        rate = self.done / max(1e-3, time.perf_counter() - self._start)
        if is_timed:
            return f"{size_text(rate)}/s"
        minutes, seconds = divmod(math.ceil((self.total - self.done) / rate), 60)
        return f"{size_text(rate)}/s, {minutes}:{seconds:02} left"

    def add(self, size: int, name: str) -> None:
        """Adds an amount that is done, and the name of the part that it belongs to."""
        self.done += size
        if callable(self.progress):
            self.progress(self.done, self.total, name)
        else:
            self.show(self._name if self._name.startswith(name) else name)

    def close(self) -> None:
        """Ends the line. Nothing may be added after it."""
        if self._rich is not None:
            self._rich.stop()
        elif self.progress and not callable(self.progress):
            print(file=sys.stderr, flush=True)


def _rich_bar(total: int, width: int) -> Any:
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
        BarColumn(width), TaskProgressColumn(), TimeRemainingColumn(), name, console=Console(stderr=True)
    )
    bar.add_task("", total=total)
    try:
        bar.start()
    except LiveError:
        return None
    return bar
