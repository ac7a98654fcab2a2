"""From the statistics of tensors to findings.

A deviation is not reported if a published scheme, a framework's default or the other order of axes explains
it, or if it is not significant for the number of elements. The rest is judged by its effect on a signal: a
kernel of standard deviation s and fan_in n multiplies the root mean square of a signal by s * sqrt(n), its
*gain*.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .depth import judge_runs
from .expected import judge_expected
from .model import Model
from .results import Code, Severity
from .roles import is_output, leaf_of
from .schemes import FAMILIES, FEW, TRUNCATION, fans, fitting, schemes
from .siblings import find_modes, find_twins, find_unlike
from .statistics import ERRORS
from .structure import constant_name, judge_structure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastinit.initializers import Initializer

    from .order import Run
    from .results import Finding
    from .statistics import Statistics

INFO, WARNING, SEVERE = Severity


def judge(
    tensors: Sequence[Statistics], expected: dict[str, Initializer], runs: Sequence[Run]
) -> list[Finding]:
    """All findings, the most severe first, and otherwise in the order of the tensors.

    Args:
        tensors: The tensors, as measured. The schemes that they follow are noted in them.
        expected: The initializer that a tensor should follow, by name.
        runs: The layers that follow each other, as far as it is known.
    """
    model = Model(tensors, expected, runs)
    if model.trained:
        text = (
            "the weights follow no distribution that initializers draw from, so they look trained; only what "
            "is broken is reported, and nothing about scales, which are a matter of initialization"
        )
        model.add(None, Code.LOOKS_TRAINED, INFO, text)
    for s in model.tensors:
        _judge(model, s)
    find_twins(model)
    find_modes(model)
    judge_runs(model)
    return sorted(model.findings, key=lambda finding: list(Severity).index(finding.severity), reverse=True)


def _judge(model: Model, s: Statistics) -> None:
    role, count = s.tensor.role, s.size
    if s.nan:
        text = f"{s.nan:,} of {count:,} elements are NaN, and so is the output; initialize the tensor again"
        model.add(s, Code.NAN, SEVERE, text)
    elif s.infinite:
        if role != "buffer":  # Masks are made of infinities.
            text = f"{s.infinite:,} of {count:,} elements are infinite, and so is the output; initialize the "
            model.add(s, Code.INFINITE, SEVERE, text + "tensor again, in a dtype with room for its values")
    elif count == 0 or role == "buffer":
        pass
    elif s.name in model.expected:
        judge_expected(model, s, model.expected[s.name])
    elif role == "scale":
        _scale(model, s)
    elif role == "bias":
        _bias(model, s)
    elif role == "running_var":
        _running_variance(model, s)
    elif role == "running_mean":
        _running(model, s, 0.0)
    elif s.tensor.is_weight:
        if not judge_structure(model, s):
            _drawn(model, s)
    elif s.constant:
        s.scheme = constant_name(s.low)


# With a mean of a fifth of the standard deviation, 100 inputs of mean 1 contribute twice as much through the
# mean as through the deviations from it.
OFFSET = 0.2


def _drawn(model: Model, s: Statistics) -> None:
    """Judges elements that were drawn at random: their mean, their scale, their distribution."""
    moments = s.moments
    if s.low == s.high:  # A single element.
        return
    if not 0.0 < s.std < math.inf:
        code = Code.TOO_LARGE if s.std > 0.0 else Code.TOO_SMALL
        text = f"the elements range {s.range}, so their squares are beyond float64; draw them again, as with "
        model.add(s, code, SEVERE, text + "fastinit.lecun_normal")
        return
    if s.orthogonality is not None:
        _orthogonal(model, s, *s.orthogonality)
        return
    if s.tensor.orthogonal and s.gram:
        rows = "rows" if s.tensor.shape[-1] >= math.prod(s.tensor.shape[:-1]) else "columns"
        text = f"its layer declares it orthogonal, but its {rows} are not orthonormal; draw it with "
        model.add(s, Code.NOT_ORTHOGONAL, WARNING, text + "fastinit.orthogonal")
        return
    _name_scheme(model, s)
    if model.trained:
        return
    if s.tensor.role == "embedding":
        _embedding(model, s)
        return
    offset = abs(moments.mean) / s.std
    if moments.count >= FEW and offset > max(OFFSET, ERRORS / math.sqrt(moments.count)):
        text = (
            f"the mean {moments.mean:.4g} is {offset:.2g} standard deviations from 0, so all units get the "
            "same offset, which grows from layer to layer; draw from a distribution with mean 0, such as "
            "U(-a, a) instead of U(0, a)"
        )
        model.add(s, Code.MEAN_NOT_ZERO, WARNING, text)
    elif s.matches and not any(match.corrected for match in s.matches):
        name = s.matches.schemes[0].title.replace(" without correction", "")
        text = (
            f"the std {s.std:.4g} is {TRUNCATION:.4f} times that of {name}, as if truncation at two "
            "standard deviations, which takes 23 % of the variance, was not corrected for; divide the std by "
            f"{TRUNCATION:.5f}, as fastinit does"
        )
        model.add(s, Code.UNCORRECTED_TRUNCATION, WARNING, text)
    elif not s.matches:
        _size(model, s)


def _name_scheme(model: Model, s: Statistics) -> None:
    """Notes the scheme that a tensor follows, or the nearest."""
    if s.matches:
        found = model.likeliest(s.matches)
    else:
        own = s.families or FAMILIES
        known = [scheme for scheme in schemes(s.tensor) if scheme.family in own and scheme.corrected]
        found = min(known, key=lambda scheme: abs(math.log(s.std / scheme.std)))
    s.scheme, s.scale_error = found.title, s.std / found.std - 1.0


# Gains beyond which a signal is in danger if no known scheme explains them. He's scheme has sqrt(2),
# PyTorch's default 0.58, and N(0, 0.02) from 0.16 (64 inputs) to 2.6 (16384 inputs). Beyond TINY and HUGE, a
# single layer divides by a thousand or multiplies by thirty.
SMALL, TINY = 0.02, 1e-3
LARGE, HUGE = 4.0, 30.0

# A batch normalization after a kernel cancels the scale of the kernel, except for rounding and its epsilon.
NORMALIZED = 8.0


def _size(model: Model, s: Statistics) -> None:
    """Judges the scale of a kernel that follows no known scheme."""
    std, enough = s.std, s.moments.count >= FEW
    norm = s.rms * math.sqrt(s.size)
    if max(s.tensor.shape) == s.size and abs(norm - float(f"{norm:.2g}")) <= s.tensor.rounding * norm:
        _orthogonal(model, s, norm, 0.0, s.size)  # A single unit, whose norm was set.
        return
    found = fans(s.tensor)
    inputs = [into for into, _ in (found[:2] if s.tensor.certain else found)]
    small, large = s.rms * math.sqrt(max(inputs)), s.rms * math.sqrt(min(inputs))
    room = NORMALIZED if model.normalized else 1.0
    usual = 1 / math.sqrt(inputs[0])
    advice = f"; use fastinit.lecun_normal (std {usual:.4g}) or the like, or pass its initializer as expect="
    if enough and small < SMALL / room:
        times = 1 / max(small, 1e-300)
        text = f"the std {std:.4g} with {max(inputs):.0f} inputs makes a signal {times:.3g} times "
        if is_output(s.tensor) or model.is_last(s):
            model.add(s, Code.TOO_SMALL, INFO, text + "smaller, so the output starts near its bias")
        else:
            text += "smaller, so it vanishes within a few layers" + advice
            model.add(s, Code.TOO_SMALL, SEVERE if small < TINY / room else WARNING, text)
    elif enough and large > LARGE * room:
        text = (
            f"the std {std:.4g} with {min(inputs):.0f} inputs makes a signal {large:.3g} times larger, so it "
            f"explodes or saturates within a few layers{advice}"
        )
        model.add(s, Code.TOO_LARGE, SEVERE if large > HUGE * room else WARNING, text)
    else:
        find_unlike(model, s)


# Embeddings are N(0, 1) at most, and 1e-6 at least where they start near zero.
EMBEDDING_SMALL, EMBEDDING_LARGE = 1e-4, 4.0


def _embedding(model: Model, s: Statistics) -> None:
    logits = s.rms * math.sqrt(s.tensor.shape[-1])
    if s.tensor.tied and logits > LARGE:
        text = (
            f"the embedding makes the output, too, and with a root mean square of {s.rms:.4g} it turns "
            f"normalized signals into logits with a standard deviation of {logits:.3g}, so the loss starts "
            "far too large unless the model scales them; draw it with variance 1 / dimension: "
            f"fastinit.random_normal with stddev={s.rms / logits:.3g}"
        )
        # A model of T5 says that it scales them; its arrays do not.
        model.add(s, Code.TOO_LARGE, WARNING if s.tensor.certain else INFO, text)
        return
    if s.moments.count < FEW or EMBEDDING_SMALL <= s.rms <= EMBEDDING_LARGE:
        return
    text = (
        f"the root mean square of the embedding is {s.rms:.4g}, and 0.02 to 1 is usual; draw it with "
        "fastinit.random_normal and stddev=0.02"
    )
    model.add(s, Code.TOO_LARGE if s.rms > EMBEDDING_LARGE else Code.TOO_SMALL, WARNING, text)


# The least gain that is used for orthogonal matrices; policy heads have 0.01.
LEAST_GAIN = 0.005


def _orthogonal(model: Model, s: Statistics, gain: float, cosine: float, length: int) -> None:
    """Judges rows, or columns, that are orthonormal up to a gain, or nearly so."""
    if cosine > s.tensor.rounding:
        text = (
            f"it is nearly orthogonal: the cosines between units are {cosine:.2g}, where rounding explains "
            f"{s.tensor.rounding:.2g} and independent units have {1 / math.sqrt(length):.2g}; draw it with "
            "fastinit.orthogonal"
        )
        s.scheme = "orthogonal"
        model.add(s, Code.NOT_ORTHOGONAL, INFO if model.trained else WARNING, text)
        return
    s.scheme, s.scale_error = f"orthogonal(gain={gain:.4g})", 0.0
    text = f"it is orthogonal with a gain of {gain:.4g}, so a signal "
    if gain > LARGE:
        text += "grows as much in this layer and explodes; use a gain near 1"
        model.add(s, Code.TOO_LARGE, SEVERE if gain > HUGE else WARNING, text)
    elif gain < LEAST_GAIN:
        text += "shrinks as much in this layer and vanishes; use a gain near 1"
        model.add(s, Code.TOO_SMALL, SEVERE if gain < TINY else WARNING, text)


# The scale of a normalization far from 1. DCGAN draws it from N(1, 0.02).
SCALE_LOW, SCALE_MOST, SCALE_HIGH = 0.1, 4.0, 10.0


def _scale(model: Model, s: Statistics) -> None:
    """Judges the scale of a normalization, or of a branch."""
    low, high = s.low, s.high
    if low == high:
        s.scheme = constant_name(low)
    if low == high == 1.0:
        return
    if not s.tensor.norm and leaf_of(s.name) != "weight" and low < 0.0 < high and fitting(s):
        return  # A vector that is drawn, such as that of additive attention, and no scale.
    severity = INFO
    if low == high == 0.0:
        text = "the scale is 0, so its branch starts at zero unless the layer adds 1 to it"
    elif low == high:
        text = f"the scale is {low:.4g}"
        usual = SCALE_LOW <= low <= SCALE_MOST if s.tensor.norm else 0.0 < low <= SCALE_HIGH
        severity = INFO if usual else WARNING
    else:
        text = f"the scale ranges {s.range}, with mean {s.moments.mean:.4g}"
        off = low <= 0.0 or abs(s.moments.mean - 1) > 0.5 or high > SCALE_HIGH
        severity = WARNING if off and not model.varied_scales else INFO
    if severity == WARNING:
        text += "; the scale of a normalization starts at 1, so fill it with fastinit.ones"
    model.add(s, Code.SCALE_NOT_ONE, INFO if model.trained else severity, text)


# A bias of the size of a normalized signal saturates units or kills them. PyTorch's own are
# U(±1/sqrt(fan_in)), at most 0.58 for a fan of 1; constants of detection heads, for a prior of 1 %, are -4.6.
BIAS, BIAS_CONSTANT = 0.6, 5.0

# Elements below this are negligible compared with 1.
CLOSE_ZERO = 0.01


def _bias(model: Model, s: Statistics) -> None:
    largest = max(abs(s.low), abs(s.high))
    if s.constant:
        s.scheme = constant_name(s.low)
        if largest == 0.0:
            return
    else:
        gates = s.high == 1.0 and s.low > -CLOSE_ZERO
        if gates and abs(s.size * s.rms**2 - s.at_high) < 0.01 * s.at_high:
            s.scheme = "zeros, and ones for a gate"
            return
        if model.is_small_bias(s):
            s.scheme = "U(±1/sqrt(fan))"
            return
    off = (largest >= BIAS_CONSTANT or (s.rms >= BIAS and not s.constant)) and not model.is_shared(s)
    text = f"the bias is not 0: it ranges {s.range}, with root mean square {s.rms:.4g}"
    if off:
        text += ", so units may be the same for all inputs from the start; fill it with fastinit.zeros"
    model.add(s, Code.BIAS_NOT_ZERO, WARNING if off and not model.trained else INFO, text)


def _running_variance(model: Model, s: Statistics) -> None:
    if s.low < 0.0:
        text = f"a running variance is {s.low:.4g}, and its square root is NaN; fill it with fastinit.ones"
        model.add(s, Code.NEGATIVE_VARIANCE, SEVERE, text)
    elif s.low == 0.0:
        text = "a running variance is 0, and dividing by its root explodes; fill it with fastinit.ones"
        model.add(s, Code.RUNNING_STATISTICS, WARNING, text)
    else:
        _running(model, s, 1.0)


def _running(model: Model, s: Statistics, start: float) -> None:
    if not s.low == s.high == start and not model.trained:
        what = "mean" if s.tensor.role == "running_mean" else "variance"
        text = f"the running {what} ranges {s.range} and starts at {start:.0f}, so the model has been run"
        model.add(s, Code.RUNNING_STATISTICS, INFO, text)
