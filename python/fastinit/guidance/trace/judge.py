"""What is wrong with a network, from the measurements of its layers.

A layer alone may be anything by design: the last convolution of a residual branch zero, a head tiny. So a
problem is one that lasts: that of activations from a layer to the output, and at the input of the last layer
with parameters, the head; that of gradients from a layer to the input, relative to that before the head.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .results import TraceProblem, TraceVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .measure import Statistics
    from .results import TraceRow

# By this factor a standard deviation may change.
_FACTOR = 1e3
# The output may be this much larger than the input, and than 1: softmax of larger ones is a single 1.
_OUTPUT = 10.0
_ALIKE = 1e-3
_CONSTANT, _UNITS = 0.9, 16
_SATURATED = 0.5


def judge(
    rows: Sequence[TraceRow], input_std: float | None, head: Statistics | None
) -> tuple[TraceProblem, ...]:
    """The problems, those that begin nearest to the input first; `head` is the input of the head."""
    order = {row.name: at for at, row in enumerate(rows)}
    found = _not_finite(rows)
    if not found and rows:
        forward = _forward(rows, input_std, head)
        # Units that are constant where the samples are alike are no other problem.
        alike = (TraceVerdict.SAMPLES_ALIKE, TraceVerdict.CONSTANT_UNITS)
        end = min((order[one.layer] for one in forward if one.verdict in alike), default=len(rows))
        found = [*forward, *_units(rows[:end]), *_backward(rows)]
    return tuple(sorted(found, key=lambda problem: order[problem.layer]))


def _not_finite(rows: Sequence[TraceRow]) -> list[TraceProblem]:
    verdict = TraceVerdict.NOT_FINITE
    for at, row in enumerate(rows):
        if not math.isfinite(row.std):
            before = f"; in the layer before, the std is {rows[at - 1].std:.3g}" if at else ""
            return [
                TraceProblem(
                    verdict, row.name, False, f"the output of layer {row.name} is not finite{before}"
                )
            ]
    for row in reversed(rows):
        if row.gradient_std is not None and not math.isfinite(row.gradient_std):
            message = f"the gradient at layer {row.name} is not finite; its output has the std {row.std:.3g}"
            return [TraceProblem(verdict, row.name, True, message)]
    return []


def _forward(
    rows: Sequence[TraceRow], input_std: float | None, head: Statistics | None
) -> list[TraceProblem]:
    found = []
    reference = rows[0].std if input_std is None else input_std
    last = rows[-1]
    low, high = reference / _FACTOR, reference * _FACTOR
    start = _last_run(rows, lambda row: row.std < low)
    if start is not None and (head is None or head.std < low):
        message = (
            f"from layer {rows[start].name} on, activations are below {low:.2g}, a thousandth of the input's "
            f"{reference:.3g}; at the end {last.std:.2g}"
        )
        found.append(TraceProblem(TraceVerdict.VANISHES, rows[start].name, False, message))
    large = _last_run(rows, lambda row: row.std > high)
    if large is not None:
        message = (
            f"from layer {rows[large].name} on, activations are above {high:.3g}, a thousand times the "
            f"input's {reference:.3g}; at the end {last.std:.3g}"
        )
        found.append(TraceProblem(TraceVerdict.EXPLODES, rows[large].name, False, message))
    elif last.std > _OUTPUT * max(1.0, reference):
        message = (
            f"the output has the std {last.std:.3g}, the input {reference:.3g}: softmax of such logits is "
            "saturated"
        )
        found.append(TraceProblem(TraceVerdict.EXPLODES, last.name, False, message))
    alike = _last_run(rows, lambda row: row.sample_distance is None or row.sample_distance < _ALIKE)
    if alike is not None:
        known = [row for row in rows[alike:] if row.sample_distance is not None]
        if known and (head is None or (head.distance is not None and head.distance < _ALIKE)):
            first, end = known[0], known[-1].sample_distance
            constant = first.constant_units == 1.0
            why = "no unit depends on the input" if constant else "the samples have the same output"
            message = (
                f"from layer {first.name} on, {why}: their distance is {end:.1e} of their size at the end"
            )
            verdict = TraceVerdict.CONSTANT_UNITS if constant else TraceVerdict.SAMPLES_ALIKE
            found.append(TraceProblem(verdict, first.name, False, message))
    return found


def _units(rows: Sequence[TraceRow]) -> list[TraceProblem]:
    """The first layer with many constant units, and the first that is saturated."""
    found = []
    for row in rows:
        share = row.constant_units or 0.0
        if row.activation is not None and _CONSTANT < share < 1.0 and row.shape[-1] >= _UNITS:
            message = f"{share:.0%} of the units of layer {row.name} have the same output for all samples"
            found.append(TraceProblem(TraceVerdict.CONSTANT_UNITS, row.name, False, message))
            break
    for row in rows:
        if row.saturated is not None and row.saturated > _SATURATED:
            message = (
                f"{row.activation} of layer {row.name} is saturated for {row.saturated:.0%} of its inputs"
            )
            found.append(TraceProblem(TraceVerdict.SATURATES, row.name, False, message))
            break
    return found


def _backward(rows: Sequence[TraceRow]) -> list[TraceProblem]:
    known = [row for row in rows if row.gradient_std is not None]
    heads = [at for at, row in enumerate(known) if row.parameters]
    if not heads or heads[-1] == 0:
        return []
    head, body = known[heads[-1]], known[: heads[-1]]
    reference = _norm(body[-1])
    if reference == 0.0:
        # A head of zeros, which itself gets a gradient, lets the others get theirs after its first step.
        if head.weight_norm == 0.0 and head.weight_gradient_norm:
            return []
        message = f"no gradient passes layer {head.name}"
        return [TraceProblem(TraceVerdict.VANISHES, head.name, True, message)]
    ratios = [_norm(row) / reference for row in body]
    # What is small has a large gradient, as an embedding before a normalization: that is no explosion.
    relative = [
        ratio * min(1.0, row.std / (body[-1].std or 1.0)) for ratio, row in zip(ratios, body, strict=True)
    ]
    found = []
    for verdict, bad, words in (
        (TraceVerdict.VANISHES, [ratio < 1 / _FACTOR for ratio in ratios], "below a thousandth"),
        (TraceVerdict.EXPLODES, [ratio > _FACTOR for ratio in relative], "above a thousand times"),
    ):
        end = bad.index(False) if False in bad else len(bad)
        if _layers(body[:end]) > 0 and not _opens(known, end, ratios):
            name = body[end - 1].name
            message = (
                f"from layer {name} back to the input, gradients are {words} of that before layer "
                f"{head.name}; {ratios[0]:.1e} of it at layer {body[0].name}"
            )
            found.append(TraceProblem(verdict, name, True, message))
    return found


def _opens(known: Sequence[TraceRow], end: int, ratios: Sequence[float]) -> bool:
    """Whether no gradient comes back from a layer, since it is zero, and gets a gradient itself."""
    after = known[end]
    return not any(ratios[:end]) and after.weight_norm == 0.0 and bool(after.weight_gradient_norm)


def _norm(row: TraceRow) -> float:
    return (row.gradient_std or 0.0) * math.sqrt(math.prod(row.shape))


def _layers(rows: Sequence[TraceRow]) -> int:
    """How many have parameters."""
    return sum(row.parameters > 0 for row in rows)


def _last_run(rows: Sequence[TraceRow], is_bad: Callable[[TraceRow], bool]) -> int | None:
    """Where the bad rows begin that go on to the end; `None` if the last one is not bad."""
    start = len(rows)
    while start and is_bad(rows[start - 1]):
        start -= 1
    return start if start < len(rows) else None
