"""A diagnosis as text: a summary, the findings, and a table of tensors.

What differs only in the numbers in its name, such as the same weight of all layers, shares a row, unless all
of it is asked for.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from fastinit._terminal import Table, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeVar

    from .results import Diagnosis, DiagnosisRow, Finding

    T = TypeVar("T")

# The most rows of a table, and the most lines of notes.
_MOST = 20
# So many findings have a row each.
_FEW = 6

_HEADER = ("tensor", "shape", "dtype", "role", "fan in, out", "mean", "std", "min", "max", "scheme", "error")
_NUMBER = re.compile(r"\d+")


def parts(diagnosis: Diagnosis, *, full: bool) -> list[str | Table]:
    """The paragraphs and tables; `full` for a row for each finding and each tensor."""
    rows, findings = diagnosis.rows, diagnosis.findings
    counts = [f"{n} {name}" for name in ("severe", "warning", "info") if (n := _count(findings, name))]
    elements = sum(math.prod(row.shape) for row in rows)
    summary = f"{counted(len(rows), 'tensor')}, {counted(elements, 'element')}: "
    shown: list[str | Table] = [summary + (", ".join(counts) or "no findings"), *diagnosis.notes]

    worse = [finding for finding in findings if finding.severity != "info"]
    alike = _groups(
        worse, lambda f: (f.severity, f.code, _pattern(f.tensor)), full=full or len(worse) <= _FEW
    )
    if alike:
        cells = [(g[0].severity, g[0].code, _name([f.tensor for f in g]), _message(g)) for g in alike]
        table = Table(
            ("severity", "finding", "tensor", "what, and what to do"), _most(cells, full=full), wrap=70
        )
        shown += ["", table, *_rest(alike[len(table.lines) - 1 :], "finding")]

    notes = []
    for group in _groups([f for f in findings if f.severity == "info"], lambda f: f.code, full=full):
        where = f"{group[0].tensor}: " if group[0].tensor else ""
        notes.append(f"info, {group[0].code}: {where}{group[0].message}{_more(group)}")
    for pairs in _groups(diagnosis.skipped.items(), lambda pair: pair[1], full=full):
        notes.append(f"skipped {pairs[0][0]}: {pairs[0][1]}{_more(pairs)}")
    if notes:
        shown += ["", *_most(notes, full=full)]
        if len(notes) > _MOST and not full:
            shown.append(f"... and {counted(len(notes) - _MOST, 'note')} more; {_HINT}")
    return [*shown, *_tensors(rows, findings, full=full)]


def _tensors(rows: Sequence[DiagnosisRow], findings: Sequence[Finding], *, full: bool) -> list[str | Table]:
    """The table of the tensors; if they are too many, those with findings come before others."""
    codes: dict[str, set[str]] = defaultdict(set)
    for finding in findings:
        codes[finding.tensor].add(finding.code)

    def key(row: DiagnosisRow) -> Any:
        about = (row.shape, row.dtype, row.role, row.fan_in, row.fan_out, row.scheme, len(row.names))
        return (_pattern(row.name), *about, frozenset(codes.get(row.name, ())))

    groups = _groups(rows, key, full=full or len(rows) <= _MOST)
    if not groups:
        return []
    order = sorted(range(len(groups)), key=lambda at: (groups[at][0].name not in codes, at))
    chosen = sorted(_most(order, full=full))
    table = Table(_HEADER, [_cells(groups[at]) for at in chosen], "<<<<<>>>><>")
    return ["", table, *_rest([groups[at] for at in order[len(chosen) :]], "tensor")]


_HINT = "to_text(full=True), or --all in a shell, lists all"


def _rest(groups: Sequence[Sequence[object]], what: str) -> list[str | Table]:
    """A line about the groups that are not shown."""
    return [f"... and {counted(sum(map(len, groups)), what)} more; {_HINT}"] if groups else []


def _most(x: Sequence[T], *, full: bool) -> Sequence[T]:
    return x if full else x[:_MOST]


def _groups(items: Iterable[T], key: Callable[[T], Any], *, full: bool) -> list[list[T]]:
    """The items that share a key, in the order of the first of each."""
    if full:
        return [[item] for item in items]
    found: dict[Any, list[T]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return list(found.values())


def _pattern(name: str) -> str:
    return _NUMBER.sub("*", name)


def _name(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{_pattern(names[0])} ({len(names):,} tensors)"


def _message(group: Sequence[Finding]) -> str:
    first = group[0]
    return first.message if len(group) == 1 else f"{first.tensor}: {first.message}"


def _more(group: Sequence[object]) -> str:
    return f" (and {len(group) - 1:,} more)" if len(group) > 1 else ""


def _count(findings: Sequence[Finding], severity: str) -> int:
    return sum(finding.severity == severity for finding in findings)


def _cells(group: Sequence[DiagnosisRow]) -> tuple[str, ...]:
    """The cells of tensors that share a row: the mean of the means, and the extremes of the other numbers."""
    row = group[0]

    def of(name: str) -> list[float]:
        return [value for one in group if (value := getattr(one, name)) is not None]

    mean, std, low, high, error = map(of, ("mean", "std", "min", "max", "scale_error"))
    spread = list(dict.fromkeys(f"{value:.3g}" for value in (min(std), max(std)))) if std else []
    if len(spread) == 2 and max(std) <= 1.1 * min(std):
        spread = [f"{sum(std) / len(std):.3g}"]
    return (
        _name([one.name for one in group]) + (f" (+{len(row.names) - 1})" if len(row.names) > 1 else ""),
        " x ".join(map(str, row.shape)) or "()" if len(row.shape) <= 8 else f"{len(row.shape)} axes",
        row.dtype,
        row.role,
        "" if row.fan_in is None else f"{row.fan_in:.0f}, {row.fan_out:.0f}",
        f"{sum(mean) / len(mean):.3g}" if mean else "",
        " to ".join(spread),
        f"{min(low):.3g}" if low else "",
        f"{max(high):.3g}" if high else "",
        row.scheme or "",
        f"{max(error, key=abs):+.1%}" if error else "",
    )
