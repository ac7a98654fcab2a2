"""Drawing with matplotlib. This module is imported only when something is drawn.

All pictures have a white background, on dark pages too: no colour of small text has enough contrast with both
white and dark. Colours can be told apart with colour blindness, and each has its own line style.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator

from fastinit._files import replacing
from fastinit._terminal import counted, wrapped
from fastinit.guidance.signal import spell_widths

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from fastinit._typing import Array
    from fastinit.guidance.compare import Comparison
    from fastinit.guidance.signal import Signal
    from fastinit.guidance.trace import Trace

    from . import Panel

TEXT = "#404040"  # contrast 10 with white; at least 4.5 is needed for small text
GROUND = "#ffffff"
SAMPLE = "#8dbbf9"
CURVE = "#d5600e"
# Each has a contrast of at least 3 with the background, and differs from its neighbours in lightness or hue
# also for dichromats.
COLORS = ("#2f81f7", "#d5600e", "#12977a", "#c2619b", "#9a7d0a", "#7a7a7a")
LINES: tuple[Any, ...] = (
    "-",
    (0, (6, 2)),
    (0, (6, 2, 1.5, 2)),
    (0, (1.5, 1.5)),
    (0, (10, 3)),
    (0, (3, 1, 1, 1, 1, 1)),
)
# The squares of numbers outside this range are out of the range of float32; axes that included them would
# hide everything else.
_WINDOW = (1e-19, 1e19)
_MARKS = {
    "v": "vanishes: 0, or below the chart",
    "^": "explodes: not finite, or above the chart",
    "X": "diverged, and stopped",
}
# The height of axes in which shares are drawn.
_TOP = 1.08
# Histograms whose widths or heights differ by more than this factor have axes of their own.
_ALIKE = 10.0
# About the width of a character, in ems.
_CHARACTER = 0.55
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "fastinit",  # Equal figures give equal files.
    "text.color": TEXT,
    "figure.facecolor": GROUND,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "axes.facecolor": GROUND,
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
    "savefig.facecolor": GROUND,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
}


class Picture(Figure):
    """A figure that a notebook displays without `%matplotlib inline`."""

    def _repr_png_(self) -> bytes:
        with _style():
            data = io.BytesIO()
            self.savefig(data, format="png", metadata={"Software": None})
        return data.getvalue()


def save(figure: Figure, file: Path) -> None:
    """Saves a figure in the format of the suffix."""
    metadata = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}[file.suffix.lower()]
    with _style(), replacing(file) as opened:
        figure.savefig(opened, format=file.suffix[1:].lower(), metadata=metadata)


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """The style of this module, independent of the user's settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        with matplotlib.rc_context(_STYLE):
            yield


def distributions(panels: Sequence[Panel], title: str, label: str) -> Figure:
    """Histograms of samples over their distributions, side by side."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with _style():
        figure = Picture(figsize=(max(4.8, 3.6 * columns), 0.9 + 2.9 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        shown = list(grid.flat[: len(panels)])
        is_smooth = any(panel.distribution.high > panel.distribution.low for panel in panels)
        lines = list(
            dict.fromkeys(panel.line for panel in panels if panel.distribution.high > panel.distribution.low)
        )
        styles = dict(zip(lines, LINES, strict=False))
        heights = [
            _panel(axes, panel, styles.get(panel.line)) for axes, panel in zip(shown, panels, strict=True)
        ]
        is_mixed = _limit(shown, heights) and 0.0 in heights  # Then each panel says what its height is.
        for i, (axes, panel, height) in enumerate(zip(shown, panels, heights, strict=True)):
            _atoms(axes, panel)
            axes.set_xlabel(label)
            if is_mixed or i % columns == 0:
                shares = not height if is_mixed else not is_smooth
                axes.set_ylabel(f"share of the {label}s" if shares else "density")
        handles: list[Any] = [Patch(color=SAMPLE, label="sample")] if is_smooth else []
        for line, style in styles.items():
            handles.append(Line2D([], [], color=CURVE, linestyle=style, label=line))
        if any(panel.distribution.atoms for panel in panels):
            handles.append(Line2D([], [], color=CURVE, linewidth=2.5, label="probability of a single value"))
            handles.append(_mark("o", "its share in the sample"))
        _finish(figure, handles, title)
    return figure


def _limit(shown: Sequence[Axes], heights: Sequence[float]) -> bool:
    """Gives all panels the same limits or, where one of them would be hidden, limits of their own.

    Returns whether they have their own.
    """
    for axes in shown:
        axes.locator_params(axis="x", nbins=6)  # More numbers would touch each other.
    smooth = [axes for axes, height in zip(shown, heights, strict=True) if height]
    widths = [float(np.ptp(axes.get_xlim())) for axes in smooth]
    tall = [height for height in heights if height]
    if smooth and max(max(widths) / min(widths), max(tall) / min(tall)) > _ALIKE:
        for axes, height in zip(shown, heights, strict=True):
            axes.set_ylim(0.0, 1.25 * height if height else _TOP)
            if not height:  # values of positive probability only
                middle = float(np.mean(axes.get_xlim()))
                room = max(1.0, abs(middle), float(np.ptp(axes.get_xlim())))
                axes.set_xlim(middle - room, middle + room)
        return True
    ends = np.array([axes.get_xlim() for axes in shown])
    columns = shown[0].get_subplotspec().get_gridspec().ncols  # type: ignore[union-attr]
    for i, axes in enumerate(shown):
        axes.set_xlim(ends[:, 0].min(), ends[:, 1].max())
        axes.set_ylim(0.0, 1.25 * max(tall) if tall else _TOP)
        axes.tick_params(labelleft=i % columns == 0)
    return False


def _panel(axes: Axes, panel: Panel, style: Any) -> float:
    """Draws the continuous part, and returns its height."""
    width = 72 * axes.figure.get_figwidth() / axes.get_subplotspec().get_gridspec().ncols  # type: ignore[union-attr]
    notes = "\n".join(_fitted(note, width, 8) for note in panel.notes)
    title = _fitted(_literally(panel.name), width, 10)
    axes.set_title(title, pad=16 + 11 * notes.count("\n"))
    axes.annotate(notes, (0.5, 1.0), (0, 3), "axes fraction", "offset points", ha="center", fontsize=8)
    expected, rest = panel.distribution, panel.values
    for value, _ in expected.atoms:
        # Includes the atom in the limits of the axes.
        axes.plot([value], [0.0])
        rest = rest[~panel.is_at(value, rest)]
    if expected.high == expected.low:
        return 0.0
    low, high = (
        max(expected.low, expected.mean - 5 * expected.std),
        min(expected.high, expected.mean + 5 * expected.std),
    )
    height = 0.0
    if rest.size:
        low, high = min(low, float(rest.min())), max(high, float(rest.max()))
        # Bins for five standard deviations to each side, and more of the same width for values beyond.
        bins = min(80, max(12, 2 * rest.size ** (1 / 3))) * max(1.0, (high - low) / (10 * expected.std))
        edges = np.linspace(low, high, 1 + round(min(400, bins)))
        counts, _ = np.histogram(rest, edges)
        bars = counts / (panel.values.size * np.diff(edges))
        axes.stairs(bars, edges, fill=True, color=SAMPLE)
        height = float(bars.max())
    # Points just outside the ends, so that steps are drawn; at the ends some densities are infinite.
    beyond = [
        end
        for end in (np.nextafter(expected.low, -np.inf), np.nextafter(expected.high, np.inf))
        if low - expected.std < end < high + expected.std
    ]
    x = np.unique([*np.linspace(low, high, 802)[1:-1], *beyond])
    y = expected.density(x)
    axes.plot(x, y, color=CURVE, linestyle=style)
    top = float(y.max())
    return max(height, min(top, 2 * height) if height else top)


def _atoms(axes: Axes, panel: Panel) -> None:
    """Draws atoms as stems; the height of the axes is the probability `_TOP`."""
    scale = axes.get_xaxis_transform()
    left, right = axes.get_xlim()
    for value, probability in panel.distribution.atoms:
        share = float(panel.is_at(value, panel.values).mean())
        axes.plot([value, value], [0.0, probability / _TOP], color=CURVE, linewidth=2.5, transform=scale)
        axes.plot([value], [share / _TOP], "o", color=COLORS[0], markersize=5, transform=scale, clip_on=False)
        side = 1 if value < (left + right) / 2 else -1
        axes.annotate(
            f"{100 * probability:.3g} % at {value:.3g}",
            (value, max(probability, share) / _TOP),
            (7 * side, 4 if probability < 0.5 else -4),
            scale,
            "offset points",
            ha="left" if side > 0 else "right",
            va="bottom" if probability < 0.5 else "top",
            fontsize=8,
            bbox={"facecolor": GROUND, "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
        )


@dataclass(frozen=True)
class _Chart:
    """Curves on the same axes; `window` has the limits of a logarithmic scale, `None` for a linear one."""

    label: str
    curves: list[Array]
    window: tuple[float, float] | None = None


def signal(signal: Signal) -> Figure:
    """The signal and the gradient through the layers of a deep network, for several initializers."""
    rows = signal.rows
    layers = np.arange(1, len(rows[0].activation_std) + 1)

    def curves(name: str) -> list[Array]:
        return [np.asarray(getattr(row, name), np.float64) for row in rows]

    charts = [
        _Chart("standard deviation of the activations\n(log scale)", curves("activation_std"), _WINDOW),
        _Chart("standard deviation of the gradients\n(log scale)", curves("gradient_std"), _WINDOW),
        _Chart("distance between samples\n(log scale)", curves("sample_distance"), (1e-9, 10.0)),
    ]
    for label, name in (
        ("share of units with zero slope", "zero_slope"),
        ("share of saturated inputs", "saturated"),
    ):
        if any(share.max() >= 0.005 for share in curves(name)):  # Less is a line at 0.
            charts.append(_Chart(label, curves(name)))
    title = f"Signal through {counted(len(layers), 'layer')} of {spell_widths(signal.widths)} units, "
    title += signal.activation
    return _curves(title, "layer", layers, [row.name for row in rows], charts)


def trace(trace: Trace) -> Figure:
    """The measurements of the layers of a network, in the order of execution."""
    if not trace.rows:
        raise ValueError(f"a trace of {trace.model} without layers has nothing to draw")

    def curve(name: str) -> Array:
        """What is not known of a layer is as in the layer before or, at first, in the first that is known."""
        found = [getattr(row, name) for row in trace.rows]
        known = [at for at, value in enumerate(found) if value is not None]
        nearest = [
            max((k for k in known if k <= at), default=min(known, default=0)) for at in range(len(found))
        ]
        return np.array([np.nan if found[at] is None else found[at] for at in nearest], np.float64)

    def has(name: str) -> bool:
        return any(getattr(row, name) is not None for row in trace.rows)

    charts = [_Chart("standard deviation of the activations\n(log scale)", [curve("std")], _WINDOW)]
    for name, label in (
        ("gradient_std", "standard deviation of the gradients\n(log scale)"),
        ("sample_distance", "distance between samples\n(log scale)"),
    ):
        if has(name):
            charts.append(_Chart(label, [curve(name)], _WINDOW))
    for name, label in (
        ("constant_units", "share of constant units"),
        ("saturated", "share of saturated inputs"),
    ):
        if has(name) and curve(name).any():
            charts.append(_Chart(label, [curve(name)]))
    title = f"{trace.model}: {trace.verdict.replace('_', ' ')}"
    layers = np.arange(1, len(trace.rows) + 1)
    if trace.first is not None:
        number = [row.name for row in trace.rows].index(trace.first) + 1
        way = "back" if trace.problems[0].backward else "on"
        title += f" from layer {_literally(trace.first)} {way}, number {number} of {len(layers)}"
    return _curves(title, "layer, in the order of execution", layers, [trace.model], charts)


def comparison(comparison: Comparison) -> Figure:
    """The training of a network, for several initializers."""
    rows = comparison.rows
    charts = [
        _Chart("training loss (log scale)", [np.array(row.train_loss) for row in rows], (1e-9, 1e2)),
        _Chart("validation accuracy", [np.array(row.validation_accuracy) for row in rows]),
        _Chart(
            "norm of the gradient, first layer\n(log scale)",
            [np.array(row.first_gradient_norm) for row in rows],
            _WINDOW,
        ),
        _Chart("share of constant units", [np.array(row.constant_units) for row in rows]),
    ]
    title = (
        f"Training {counted(comparison.depth, 'hidden layer')} of {comparison.width} units, "
        f"{comparison.activation}, "
        "on handwritten digits"
    )
    return _curves(title, "epoch", np.arange(comparison.epochs + 1), [row.name for row in rows], charts)


def _curves(title: str, label: str, x: Array, names: Sequence[str], charts: Sequence[_Chart]) -> Figure:
    """Curves of several rows in several charts; those that are shorter than `x` are marked at their end."""
    rows = -(-len(charts) // 2)
    lines = -(-len(names) // 3)
    with _style():
        figure = Picture(figsize=(9.0, 0.8 + 3.0 * rows + 0.2 * lines), layout="constrained")
        marks: set[str] = set()
        grid = figure.subplots(rows, 2, squeeze=False)
        for axes in grid.flat[len(charts) :]:
            axes.remove()
        for axes, chart in zip(grid.flat, charts, strict=False):
            axes.set_xlabel(label)
            axes.set_ylabel(chart.label)
            axes.grid(axis="y")
            # Space for the marks at the first and last point. No tick stands in it, as one of layer 0 would.
            space = 0.03 * max(1, x[-1] - x[0])
            axes.set_xlim(x[0] - space, x[-1] + space)
            ticks = MaxNLocator(7, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1).tick_values(x[0], x[-1])
            axes.set_xticks([tick for tick in ticks if x[0] <= tick <= x[-1]])
            marks |= _log_chart(axes, x, chart) if chart.window else _share_chart(axes, x, chart)
        looks = zip(map(_literally, names), _looks(), strict=False)
        handles = [Line2D([], [], color=color, linestyle=line, label=name) for name, (color, line) in looks]
        _finish(
            figure, [*handles, *(_mark(mark, text) for mark, text in _MARKS.items() if mark in marks)], title
        )
    return figure


def _share_chart(axes: Axes, x: Array, chart: _Chart) -> set[str]:
    """Draws shares; returns the marks used."""
    axes.set_ylim(-0.04, 1.04)
    marks = set()
    for y, (color, line) in zip(chart.curves, _looks(), strict=False):
        axes.plot(x[: len(y)], y, color=color, linestyle=line, marker=_point(x))
        if len(y) < len(x):
            axes.plot(x[len(y) - 1], y[-1], "X", color=color, markersize=8)
            marks.add("X")
    return marks


def _log_chart(axes: Axes, x: Array, chart: _Chart) -> set[str]:
    """Draws numbers that may be 0 or infinite on a logarithmic scale; returns the marks used."""
    assert chart.window is not None
    least, most = chart.window
    axes.set_yscale("log")
    everything = np.concatenate(chart.curves)
    seen = everything[(everything >= least) & (everything <= most)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.1, 10.0)
    if high < 100 * low:  # A smaller range would make noise look like a trend.
        low, high = low / 10, high * 10
    marks: list[tuple[str, float]] = []
    room = (high / low) ** 0.12
    axes.set_ylim(
        low / (room if (everything < least).any() else room**0.4),
        high * (room if not (everything <= most).all() else room**0.4),
    )
    bottom, top = axes.get_ylim()
    scale = axes.get_xaxis_transform()
    for y, (color, line) in zip(chart.curves, _looks(), strict=False):
        # A curve that leaves the axes is drawn up to their edge.
        axes.plot(
            x[: len(y)],
            np.where(y > 0.0, np.clip(y, 1e-300, 1e300), np.nan),
            color=color,
            linestyle=line,
            marker=_point(x),
        )
        for mark, gone in (("v", y < bottom), ("^", ~(y <= top))):
            if gone.any():
                # Where the curve leaves the axes; if it starts outside, where it enters them.
                backward = gone[0] and not gone.all()
                place = float(x[int(np.argmin(gone)) - 1 if backward else int(np.argmax(gone))])
                beside = sum(other == mark and abs(place - at) < 0.05 * (x[-1] - x[0]) for other, at in marks)
                at = 0.04 + 0.06 * beside
                axes.plot(
                    place, at if mark == "v" else 1 - at, mark, color=color, markersize=7, transform=scale
                )
                marks.append((mark, place))
        if len(y) < len(x) and bottom <= y[-1] <= top:
            axes.plot(x[len(y) - 1], y[-1], "X", color=color, markersize=8)
            marks.append(("X", 0.0))
    return {mark for mark, _ in marks}


def _point(x: Array) -> str:
    """The mark of each point: a line of one point would not be seen."""
    return "o" if len(x) == 1 else ""


def _looks() -> Iterator[tuple[str, Any]]:
    """The colour and line style of each curve; combinations repeat only after all have been used."""
    return itertools.chain.from_iterable(
        zip(COLORS, LINES[shift:] + LINES[:shift], strict=True) for shift in itertools.count()
    )


def _mark(mark: str, label: str) -> Line2D:
    return Line2D([], [], color=TEXT, linestyle="", marker=mark, label=label)


def _finish(figure: Figure, handles: Sequence[Any], title: str) -> None:
    """Adds the legend, below all axes, and the title; both fit the width of the figure."""
    width = 72 * figure.get_figwidth()
    size, beside = 8, 60  # points of the text, and of the line and the spaces beside it
    for handle in handles:
        handle.set_label(_fitted(str(handle.get_label()), width - beside, size))
    sizes = [beside + _extent(str(handle.get_label()), size) for handle in handles]

    def needed(columns: int) -> float:
        rows, more = divmod(len(sizes), columns)  # The first columns have one more.
        ends = np.cumsum([0, *(rows + (column < more) for column in range(columns))])
        return sum(max(sizes[start:stop]) for start, stop in itertools.pairwise(ends.tolist()))

    columns = next((n for n in (3, 2) if n <= len(handles) and needed(n) <= width), 1)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=size, handlelength=3.5)
    figure.suptitle(_fitted(title, width, 11))


def _fitted(text: str, width: float, size: float) -> str:
    """The text in lines of at most this width in points."""
    most = round(width / (size * _CHARACTER))
    while True:
        found = "\n".join(wrapped(text, most))
        if most < 10 or _extent(found, size) <= width:
            return found
        most = round(0.9 * most)


def _extent(text: str, size: float) -> float:
    """The width of the widest line, in points."""
    return max(float(TextPath((0, 0), line, size).get_extents().width) for line in text.split("\n"))


def _literally(name: str) -> str:
    """A name that matplotlib does not parse as a formula."""
    return name.replace("$", r"\$")
