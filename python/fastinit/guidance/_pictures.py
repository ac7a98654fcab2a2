"""How things are drawn. This module needs matplotlib: only functions import it.

All pictures have mid tones on a transparent ground, since the page may be light or dark; colours that people
who do not see all colours can tell apart, and a style of line for each.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from fastinit._typing import Array

    from ._compare import Comparison
    from ._show import Panel

TEXT = "#7a7a7a"
SAMPLE = "#8dbbf9"
LAW = "#d5600e"
# Each has a contrast of 3 or more with white and with #111, and differs from its neighbours in lightness or
# hue also for those who see two colours only.
COLORS = ("#2f81f7", "#d5600e", "#12977a", "#c2619b", "#9a7d0a", "#7a7a7a")
LINES: tuple[Any, ...] = (
    "-",
    (0, (6, 2)),
    (0, (6, 2, 1.5, 2)),
    (0, (1.5, 1.5)),
    (0, (10, 3)),
    (0, (3, 1, 1, 1, 1, 1)),
)
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "fastinit",  # the same figures give the same file
    "text.color": TEXT,
    "figure.facecolor": "none",
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.formatter.limits": (-3, 4),
    "figure.titlesize": 11,
    "grid.color": TEXT,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "savefig.dpi": 150,
    "savefig.facecolor": "none",
    "xtick.color": TEXT,
    "ytick.color": TEXT,
}


class Picture(Figure):
    """A figure that a notebook displays, also where nobody has told it how figures are displayed."""

    def _repr_png_(self) -> bytes:
        with _style():
            data = io.BytesIO()
            self.savefig(data, format="png", metadata={"Software": None})
        return data.getvalue()


def save(figure: Figure, file: Path) -> None:
    """Saves a figure in the format that the suffix says."""
    metadata = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}[file.suffix.lower()]
    with _style():
        figure.savefig(file, format=file.suffix[1:].lower(), metadata=metadata)


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """The style of this module, whatever the user's is."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        with matplotlib.rc_context(_STYLE):
            yield


def distributions(panels: Sequence[Panel], title: str, label: str) -> Figure:
    """Histograms of samples over their laws, side by side."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with _style():
        figure = Picture(figsize=(max(4.8, 3.6 * columns), 0.9 + 2.9 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        shown = list(grid.flat[: len(panels)])
        is_smooth = any(panel.law.high > panel.law.low for panel in panels)
        heights = [_panel(axes, panel) for axes, panel in zip(shown, panels, strict=True)]
        shown[0].set_ylim(0.0, 1.25 * max(heights) if is_smooth else 1.08)
        for i, axes in enumerate(shown):
            axes.set_xlabel(label)
            axes.tick_params(labelbottom=True)
            if i % columns == 0:
                axes.set_ylabel("density" if is_smooth else f"share of the {label}s")
        handles: list[Any] = [Patch(color=SAMPLE, label="sample")] if is_smooth else []
        for line in dict.fromkeys(panel.line for panel in panels if panel.law.high > panel.law.low):
            handles.append(Line2D([], [], color=LAW, label=line))
        if any(panel.law.atoms for panel in panels):
            handles.append(Line2D([], [], color=LAW, linewidth=2.5, label="probability of a single value"))
            handles.append(_mark("o", "its share in the sample"))
        _legend(figure, handles)
        figure.suptitle(title)
    return figure


def _panel(axes: Axes, panel: Panel) -> float:
    """Draws a histogram and a law, and returns how high they are."""
    law, values = panel.law, panel.values
    height = 0.0
    is_atom = np.zeros(values.shape, bool)
    for value, probability in law.atoms:
        is_here = abs(values - value) <= 1e-6 * abs(value) + panel.slack
        is_atom |= is_here
        share = float(is_here.mean())
        # As if the axes were as high as 1.
        scale = axes.get_xaxis_transform()
        axes.plot([value, value], [0.0, probability / 1.08], color=LAW, linewidth=2.5, transform=scale)
        axes.plot([value], [share / 1.08], "o", color=COLORS[0], markersize=5, transform=scale)
        axes.annotate(
            f"{_percent(probability)} at {value:.3g}",
            (value, max(probability, share) / 1.08),
            xycoords=scale,
            xytext=(6, -3),
            textcoords="offset points",
            va="top",
            fontsize=8,
        )
    rest = values[~is_atom]
    if law.high > law.low:
        low, high = max(law.low, law.mean - 5 * law.std), min(law.high, law.mean + 5 * law.std)
        if rest.size:
            low, high = min(low, float(rest.min())), max(high, float(rest.max()))
            edges = np.linspace(low, high, 1 + min(80, max(12, round(2 * rest.size ** (1 / 3)))))
            counts, _ = np.histogram(rest, edges)
            bars = counts / (values.size * np.diff(edges))
            axes.stairs(bars, edges, fill=True, color=SAMPLE)
            height = float(bars.max())
        # The ends are not in it, where some densities are infinite.
        x = low + (high - low) * np.linspace(0.0, 1.0, 802)[1:-1]
        x = np.unique(np.concatenate([x, [np.nextafter(law.low, -np.inf), np.nextafter(law.high, np.inf)]]))
        x = x[np.isfinite(x)]
        y = law.density(x)
        axes.plot(x, y, color=LAW)
        height = max(height, float(min(y.max(), 2 * height if height else y.max())))
    notes = "\n".join(panel.notes)
    axes.set_title(panel.name, pad=4 + 11 * len(panel.notes))
    axes.annotate(
        notes,
        (0.5, 1.0),
        xycoords="axes fraction",
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8,
    )
    return height


def signal(signal: Any) -> Figure:
    """The signal and the gradient through the layers of a deep network, for several initializers."""
    runs = signal.runs
    layers = np.arange(1, len(runs[0].activation_std) + 1)
    charts: list[tuple[str, bool, list[Array]]] = [
        ("standard deviation of the activations\n(log scale)", True, [run.activation_std for run in runs]),
        ("standard deviation of the gradients\n(log scale)", True, [run.gradient_std for run in runs]),
    ]
    for label, name in (("dead units", "dead"), ("saturated units", "saturated")):
        shares = [np.asarray(getattr(run, name)) for run in runs]
        if any(share.any() for share in shares):
            charts.append((f"share of {label}", False, shares))
    title = f"Signal through {len(layers)} layers of {_widths(signal.widths)} units, {signal.activation}"
    return _curves(title, "layer", layers, [run.name for run in runs], charts)


def comparison(comparison: Comparison) -> Figure:
    """What training did with a network, for several initializers."""
    runs = comparison.runs
    epochs = np.arange(comparison.epochs + 1)
    charts: list[tuple[str, bool, list[Array]]] = [
        ("training loss (log scale)", True, [np.array(run.train_loss) for run in runs]),
        ("validation accuracy", False, [np.array(run.validation_accuracy) for run in runs]),
        (
            "norm of the gradient, first layer\n(log scale)",
            True,
            [np.array(run.first_gradient_norm) for run in runs],
        ),
        ("share of dead units", False, [np.array(run.dead) for run in runs]),
    ]
    title = (
        f"Training {comparison.depth} hidden layers of {comparison.width} units, {comparison.activation}, "
        "on handwritten digits"
    )
    stops = [run.diverged is not None for run in runs]
    return _curves(title, "epoch", epochs, [run.name for run in runs], charts, stops)


def _widths(widths: Sequence[int]) -> str:
    hidden = sorted(set(widths))
    return str(hidden[0]) if len(hidden) == 1 else f"{hidden[0]} to {hidden[-1]}"


def _curves(
    title: str,
    label: str,
    x: Array,
    names: Sequence[str],
    charts: Sequence[tuple[str, bool, list[Array]]],
    stops: Sequence[bool] = (),
) -> Figure:
    """Curves of several runs in several charts, each with its label, and whether it is logarithmic."""
    rows = 1 if len(charts) < 4 else 2
    columns = -(-len(charts) // rows)
    with _style():
        figure = Picture(
            figsize=(4.5 * columns, 0.9 + 3.0 * rows + 0.2 * -(-len(names) // 3)), layout="constrained"
        )
        handles = [
            Line2D([], [], color=color, linestyle=line, label=name)
            for name, (color, line) in zip(names, _looks(), strict=False)
        ]
        marks: dict[str, Any] = {}
        for axes, (of_y, is_log, curves) in zip(
            figure.subplots(rows, columns, squeeze=False).flat, charts, strict=True
        ):
            axes.set_xlabel(label)
            axes.set_ylabel(of_y)
            axes.grid(axis="y")
            axes.set_xlim(x[0], x[-1] + 0.02 * (x[-1] - x[0]))
            axes.xaxis.get_major_locator().set_params(integer=True)
            if is_log:
                axes.set_yscale("log")
            else:
                axes.set_ylim(-0.03, 1.03)
            for curve, (color, line) in zip(curves, _looks(), strict=False):
                y = np.asarray(curve, np.float64)
                y = np.where(np.isfinite(y) & (y > 0.0), y, np.nan) if is_log else y
                axes.plot(x[: len(y)], y, color=color, linestyle=line)
            if is_log:
                marks |= _leaving(axes, x, curves)
            for curve, (color, _), stopped in zip(curves, _looks(), stops, strict=False):
                if stopped and len(curve) and math.isfinite(curve[-1]):
                    axes.plot(x[len(curve) - 1], curve[-1], "X", color=color, markersize=8, clip_on=False)
                    marks["X"] = _mark("X", "diverged after this")
        _legend(figure, [*handles, *marks.values()])
        figure.suptitle(title)
    return figure


def _leaving(axes: Axes, x: Array, curves: Sequence[Array]) -> dict[str, Any]:
    """Marks where curves leave a logarithmic scale: by vanishing, or by being no finite number any more."""
    marks = {}
    low, high = axes.get_ylim()
    if not any((np.isfinite(curve) & (curve > 0.0)).any() for curve in curves):
        low, high = 0.1, 10.0
    # Room for the marks, above and below all curves.
    room = max(1.0, 0.12 * math.log10(high / low))
    ends = {"v": False, "^": False}
    for i, (curve, (color, _)) in enumerate(zip(curves, _looks(), strict=False)):
        for mark, gone, at in (("v", curve == 0.0, 0.04), ("^", ~np.isfinite(curve), 0.96)):
            if gone.any():
                first = int(np.argmax(gone))
                ends[mark] = True
                # Side by side, where several leave at once.
                place = x[first] + 0.03 * i * (x[-1] - x[0])
                axes.plot(
                    place,
                    at,
                    mark,
                    color=color,
                    markersize=7,
                    clip_on=False,
                    transform=axes.get_xaxis_transform(),
                )
                marks[mark] = _mark(
                    mark,
                    "exactly 0 from here on" if mark == "v" else "beyond all finite numbers from here on",
                )
    axes.set_ylim(low / 10 ** (room * ends["v"]), high * 10 ** (room * ends["^"]))
    return marks


def _looks() -> Iterator[tuple[str, Any]]:
    """The colour and the style of each curve; no two are the same before all are used up."""
    return itertools.chain.from_iterable(
        zip(COLORS, LINES[shift:] + LINES[:shift], strict=True) for shift in itertools.count()
    )


def _mark(mark: str, label: str) -> Line2D:
    return Line2D([], [], color=TEXT, linestyle="", marker=mark, label=label)


def _legend(figure: Figure, handles: Sequence[Any]) -> None:
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(3, len(handles)), fontsize=8, handlelength=3.5
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
