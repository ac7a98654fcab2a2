"""Draw the chart of docs/figures.md from a run.

To draw it again: ``python benches/python/chart.py bench-results/latest.json docs/bench.svg``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib
from cases import Case
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from report import GB, LARGE, Report

PANELS = [
    ("uniform", "float32"),
    ("normal", "float32"),
    ("truncated_normal", "float32"),
    ("normal", "bfloat16"),
]
LEFT_OUT = {"numpy PCG64", "numpy Philox", "mkl_random"}  # they are in the table

# On white, on dark pages too: no colour of small text has enough contrast with both white and dark.
TEXT = "#404040"
CEILING = "#d9822b"
COLORS = {
    ("fastinit", "resident"): "#2f81f7",
    ("fastinit", "fresh"): "#8dbbf9",
    ("others", "resident"): "#8b6fb5",
    ("others", "fresh"): "#c2b2da",
}
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "fastinit",  # the same figures give the same file
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
}


def number(rate: float) -> str:
    """Return GB/s with two digits."""
    return f"{rate / GB:.0f}" if rate >= 10 * GB else f"{rate / GB:.2g}"


def draw(report: Report, path: Path) -> None:
    """Draw bytes per second by library, a panel for each distribution, and write the chart to `path`."""
    libraries = [name for name in report.libraries() if name not in LEFT_OUT and report.measured(name)]
    ceiling = report.ceiling("fastinit", LARGE, "resident")
    if not libraries or not ceiling:
        return
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 1.5 + 0.36 * len(libraries)), layout="constrained")
        panels = figure.subplots(1, len(PANELS), sharey=True)
        for axis, (distribution, dtype) in zip(panels, PANELS, strict=True):
            for row, library in enumerate(libraries):
                family = "fastinit" if library.startswith("fastinit") else "others"
                for memory, offset in (("resident", -0.2), ("fresh", 0.2)):
                    rate = report.rate(library, Case(distribution, dtype, LARGE, memory))
                    if rate is not None:
                        axis.barh(row + offset, rate / GB, 0.36, color=COLORS[family, memory])
                        axis.text(rate / GB, row + offset, f" {number(rate)}", va="center", fontsize=7)
            axis.axvline(ceiling / GB, color=CEILING, linestyle="--", linewidth=1)
            axis.set_title(f"{distribution.replace('_', ' ')}, {dtype}", fontsize=10)
            axis.set_xlabel("GB/s")
            axis.set_xlim(0, 1.15 * ceiling / GB)
            axis.tick_params(length=2)
        panels[0].set_yticks(range(len(libraries)), [report.label(library) for library in libraries])
        panels[0].invert_yaxis()
        handles: list[Patch | Line2D] = [
            Patch(color=color, label=f"{family}, {'resident' if memory == 'resident' else 'new'} array")
            for (family, memory), color in COLORS.items()
        ]
        handles.append(
            Line2D([], [], color=CEILING, linestyle="--", linewidth=1, label="store only, resident array")
        )
        figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
        figure.suptitle(
            f"Filling 256 MiB on {report.threads} threads of {report.machine['processor']}", fontsize=11
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    draw(Report.load(Path(sys.argv[1])), Path(sys.argv[2]))
