"""From samples to the table: medians, rates, shares of the ceiling, and the goals they are held to."""

from __future__ import annotations

import json
import statistics
import textwrap
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cases import MATRICES, SCALING_KINDS, SCALING_SIZE, SIZES, Case

if TYPE_CHECKING:
    from pathlib import Path

GB = 1e9
MIB = 1 << 20
SMALL, LARGE = "64 elements", "256 MiB"


@dataclass
class Report:
    """Everything that a run found out; it is written to disk as it stands."""

    date: str
    quick: bool
    threads: int
    machine: dict[str, Any]
    versions: dict[str, str]
    levels: dict[str, str | None]
    absent: dict[str, str]
    records: list[dict[str, Any]]
    checks: dict[str, Any] | None
    scaling: list[dict[str, Any]] = field(default_factory=list)
    medians: dict[str, float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Take the medians once."""
        self.medians = {
            self._key(r["library"], r["distribution"], r["dtype"], r["size"], r["memory"]): statistics.median(
                r["seconds"]
            )
            for r in self.records
            if r.get("seconds")
        }

    @staticmethod
    def _key(*parts: str) -> str:
        return "/".join(parts)

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read a run from disk."""
        values = json.loads(path.read_text(encoding="utf-8"))
        values.pop("medians", None)
        return cls(**values)

    def seconds(self, library: str, case: Case) -> float | None:
        """Return the median of a case, if it was measured."""
        return self.medians.get(self._key(library, case.distribution, case.dtype, case.size, case.memory))

    def rate(self, library: str, case: Case) -> float | None:
        """Return bytes per second."""
        seconds = self.seconds(library, case)
        return case.nbytes / seconds if seconds else None

    def ceiling(self, library: str, size: str, memory: str) -> float | None:
        """Return the fastest store-only fill in the process of that library, in bytes per second."""
        stores = [Case(name, "float32", size, memory) for name in ("memset", "constant")]
        return max((rate for case in stores if (rate := self.rate(library, case))), default=None)

    def share(self, library: str, case: Case) -> float | None:
        """Return the rate as a share of the store-only ceiling."""
        rate, ceiling = self.rate(library, case), self.ceiling(library, case.size, case.memory)
        return rate / ceiling if rate and ceiling else None

    def times(self, faster: str, slower: str, case: Case) -> float | None:
        """Return how many times as fast one library is as another."""
        ours, theirs = self.seconds(faster, case), self.seconds(slower, case)
        return theirs / ours if ours and theirs else None

    def measured(self, library: str) -> bool:
        """Tell whether the library gave any figure at the largest size."""
        return any(key.startswith(f"{library}/") and f"/{LARGE}/" in key for key in self.medians)

    def libraries(self) -> list[str]:
        """Return the libraries that gave a figure, in order."""
        return list(dict.fromkeys(key.split("/")[0] for key in self.medians))

    def label(self, library: str) -> str:
        """Return the library with its SIMD level, where it has one."""
        level = self.levels.get(library)
        return f"{library} {level}" if level and level not in library else library


@dataclass(frozen=True)
class Goal:
    """A goal of the project, and what this run measured."""

    label: str
    found: float | None
    bar: float
    unit: str
    at_least: bool = True

    def __str__(self) -> str:
        """Return a line of the table."""
        bound = f"{'at least' if self.at_least else 'at most'} {self.bar:g} {self.unit}"
        if self.found is None:
            return f"  {self.label:<66}{'-':>9}   {bound:<22} not measured"
        met = self.found >= self.bar if self.at_least else self.found <= self.bar
        return f"  {self.label:<66}{self.found:>9.2f}   {bound:<22} {'met' if met else 'MISSED'}"


def goals(report: Report) -> list[Goal]:
    """Compare the run with the goals of the project."""

    def large(distribution: str, dtype: str = "float32", memory: str = "resident") -> Case:
        return Case(distribution, dtype, LARGE, memory)

    found: list[Goal] = []
    for library, distribution, dtype, bar in [
        ("fastinit", "uniform", "float32", 0.75),
        ("fastinit", "normal", "float32", 0.60),
        ("fastinit", "truncated_normal", "float32", 0.60),
        ("fastinit", "normal", "bfloat16", 0.30),
        ("fastinit avx2", "uniform", "float32", 0.35),
        ("fastinit avx2", "normal", "float32", 0.22),
    ]:
        label = f"{report.label(library)}: {distribution} {dtype}, share of store-only"
        found.append(Goal(label, report.share(library, large(distribution, dtype)), bar, "(share)"))
    for distribution, dtype, bar in [
        ("normal", "float32", 12.0),
        ("uniform", "float32", 12.0),
        ("truncated_normal", "float32", 200.0),
        ("normal", "bfloat16", 15.0),
    ]:
        label = f"{distribution} {dtype}, times as fast as torch, resident"
        found.append(Goal(label, report.times("fastinit", "torch", large(distribution, dtype)), bar, "times"))

    for size, dtype, bar in [
        ("4096 x 4096", "float32", 4.0),
        ("4096 x 4096", "float64", 3.0),
        ("2048 x 2048", "float32", 3.0),
        ("32768 x 1024", "float32", 3.0),
        ("256 x 256", "float32", 1.0),
        ("64 x 64", "float32", 1.0),
    ]:
        label = f"orthogonal {size} {dtype}, times as fast as torch"
        found.append(
            Goal(
                label,
                report.times("fastinit", "torch", Case("orthogonal", dtype, size, "fresh")),
                bar,
                "times",
            )
        )

    full = report.seconds("fastinit", large("memset", memory="fresh"))
    fresh = [
        seconds
        for distribution in ("constant", "uniform", "normal", "truncated_normal", "he_normal")
        if (seconds := report.seconds("fastinit", large(distribution, memory="fresh")))
    ]
    ratio = max(fresh) / full if full and fresh else None
    found.append(
        Goal("slowest fresh float32 array, time over numpy.full", ratio, 1.0, "times", at_least=False)
    )

    if report.checks:
        c = report.checks
        small = c["small_call_seconds"] / c["numpy_small_call_seconds"]
        label = f"64 elements: {c['small_call_seconds'] * 1e6:.2f} us a call, over Generator.standard_normal"
        found.append(Goal(label, small, 2.5, "times", at_least=False))
        if c["extra_bytes"]:
            worst = max(c["extra_bytes"], key=c["extra_bytes"].get)
            label = f"peak memory beyond a 256 MiB array, worst: {worst}"
            found.append(Goal(label, c["extra_bytes"][worst] / MIB, 8.0, "MiB", at_least=False))
        found.append(Goal("import, on top of NumPy", c["import_seconds"] * 1e3, 15.0, "ms", at_least=False))
        label = f"frameworks loaded by the import {c['loaded_by_import'] or ''}".rstrip()
        found.append(Goal(label, float(len(c["loaded_by_import"])), 0.0, "", at_least=False))
    return found


def cell(report: Report, library: str, case: Case) -> str:
    """Return one figure: the time of a small call, else the rate and its share of the ceiling."""
    seconds = report.seconds(library, case)
    if not seconds:
        return "-"
    if case.size == SMALL:
        return f"{seconds * 1e6:.2f}"
    share = report.share(library, case)
    return f"{case.nbytes / seconds / GB:.2f}" + (f" {share:4.0%}" if share else "     ")


def print_report(report: Report) -> None:
    """Print one table: libraries down, distributions across, a block for each size and kind of memory."""
    m = report.machine
    print(
        f"\n{m['processor']} ({m['architecture']}, {m['cores']} cores), {m['system']}, Python {m['python']}"
    )
    print(f"{report.threads} threads for every library; huge pages {m['huge_pages']}; {report.date}")
    print(textwrap.fill(", ".join(f"{k} {v}" for k, v in report.versions.items()), 140))
    if report.absent:
        print(
            textwrap.fill("not installed: " + "; ".join(f"{k} ({v})" for k, v in report.absent.items()), 140)
        )
    errors = {
        (r["library"], r["distribution"], r["dtype"]): r["error"] for r in report.records if "error" in r
    }
    for (library, *kind), error in errors.items():
        print(f"failed: {library}, {' '.join(kind)}: {error.splitlines()[0]:.110}")

    kinds = list(dict.fromkeys((r["distribution"], r["dtype"]) for r in report.records if r["size"] in SIZES))
    sizes = [size for size in SIZES if any(r["size"] == size for r in report.records)]
    short = {"truncated_normal": "truncated", "memset": "memset|full"}
    for size in sizes:
        for memory in ("resident", "fresh"):
            unit = (
                "microseconds a call"
                if size == SMALL
                else "GB/s, and share of store-only in the same process"
            )
            print(f"\n{size}, {memory} memory: {unit}")
            print(
                " " * 28
                + "".join(f"{short.get(distribution, distribution):>13}" for distribution, _ in kinds)
            )
            print(" " * 28 + "".join(f"{dtype:>13}" for _, dtype in kinds))
            for library in report.libraries():
                cells = [cell(report, library, Case(*kind, size, memory)) for kind in kinds]
                if any(c != "-" for c in cells):
                    print(f"{report.label(library):<28}" + "".join(f"{c:>13}" for c in cells))
    print_matrices(report)
    print("""
memset|full: C's memset on all threads; in fresh memory numpy.full on one. constant: the library's own.
NumPy draws halves as float32 and casts, and has no truncated normal.
torch's he_normal is not truncated; JAX's, Keras's and fastinit's are.""")
    if "fastinit" in report.libraries():
        print(f"\ngoals ({LARGE}, {report.threads} threads, level {report.levels.get('fastinit')})")
        for goal in goals(report):
            print(goal)


def print_matrices(report: Report) -> None:
    """Print the block of the orthogonal matrices."""
    cases = [
        Case("orthogonal", dtype, size, "fresh")
        for size in MATRICES
        for dtype in ("float32", "float64")
        if any((r["size"], r["dtype"]) == (size, dtype) for r in report.records)
    ]
    if not cases:
        return
    print("\northogonal matrices: milliseconds, and 1e9 operations a second, of 2 m n^2 - 2/3 n^3 for m x n")
    print(" " * 28 + "".join(f"{case.size:>15}" for case in cases))
    print(" " * 28 + "".join(f"{case.dtype:>15}" for case in cases))
    for library in report.libraries():
        cells = []
        for case in cases:
            seconds = report.seconds(library, case)
            rows, columns = case.shape
            operations = 2 * rows * columns**2 - 2 / 3 * columns**3
            cells.append(f"{seconds * 1e3:.2f} {operations / seconds / 1e9:5.0f}" if seconds else "-")
        if set(cells) != {"-"}:
            print(f"{report.label(library):<28}" + "".join(f"{c:>15}" for c in cells))


def print_scaling(report: Report) -> None:
    """Print a table of Markdown for each kind of memory: threads down, distributions across."""
    m, found = report.machine, replace(report, records=report.scaling)
    kinds = [kind for kind in SCALING_KINDS if kind[0] not in ("memset", "constant")]
    print("\nHow fills scale; these tables can be pasted into an issue or docs/figures.md")
    for memory, what in (
        ("resident", "an array that is filled again"),
        ("fresh", "a new array for each fill"),
    ):
        if not any(record["memory"] == memory for record in found.records):
            continue
        print(
            f"\n{m['processor']} ({m['cores']} processors), {m['system']}, level "
            f"{report.levels.get('fastinit')}, fastinit {report.versions.get('fastinit')}: "
            f"{SCALING_SIZE}, {what}; GB/s, and the share of a store-only fill with as many threads.\n"
        )
        heads = ["threads", "store only", *(f"{dtype} {name}".replace("_", " ") for name, dtype in kinds)]
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for threads in found.libraries():
            ceiling = found.ceiling(threads, SCALING_SIZE, memory)
            cells = [threads, f"{ceiling / GB:.1f}" if ceiling else "-"]
            for kind in kinds:
                case = Case(*kind, SCALING_SIZE, memory)
                rate, share = found.rate(threads, case), found.share(threads, case)
                cells.append(f"{rate / GB:.1f} ({share:.0%})" if rate and share else "-")
            print(f"| {' | '.join(cells)} |".replace("%)", " %)"))
