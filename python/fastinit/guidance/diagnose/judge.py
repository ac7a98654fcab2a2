"""What is wrong with weights: from what was measured to findings, tensor by tensor.

The rule is to say nothing of what a published scheme, a framework's default or the other order of axes
explains, and nothing that the number of elements cannot tell. What deviates is compared with the signal: a
kernel of standard deviation s and fan_in n multiplies the root mean square of a signal by s * sqrt(n), its
*gain*. What only several tensors can tell is in `_siblings`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from . import schemes as _schemes
from .expected import judge_expected
from .findings import SEVERITIES
from .siblings import Model, find_modes, find_twins, find_unlike
from .structure import constant_name, judge_structure
from .tensors import is_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    import fastinit

    from .findings import Finding, Statistics
    from .schemes import Scheme


def judge(tensors: Sequence[Statistics], expected: dict[str, fastinit.Initializer]) -> list[Finding]:
    """All findings, the most severe first, and otherwise in the order of the tensors.

    Args:
        tensors: The tensors, as measured. What scheme they follow is noted in them.
        expected: For the names of some, the initializer that they are meant to follow.
    """
    model = Model(tensors, expected)
    if model.trained:
        model.add(
            None,
            "looks_trained",
            "info",
            "the weights follow no law that they could have been drawn from: they look trained. What "
            "is said of scales is about initialization, and left out; only what is broken is reported",
        )
    for s in model.tensors:
        _judge(model, s)
    find_modes(model)
    find_twins(model)
    order = {severity: i for i, severity in enumerate(reversed(SEVERITIES))}
    return sorted(model.findings, key=lambda finding: order[finding.severity])


def _judge(model: Model, s: Statistics) -> None:
    role, count = s.tensor.role, s.size
    if s.nan:
        text = f"{s.nan:,} of {count:,} elements are NaN; nothing can be computed with them"
        model.add(s, "nan", "severe", text + ". Initialize the tensor again")
        return
    if s.infinite:
        if role != "buffer":  # Masks are made of infinities.
            text = f"{s.infinite:,} of {count:,} elements are infinite; initialize the tensor again"
            model.add(s, "infinite", "severe", text + ", in a dtype that has room for its values")
        return
    if count == 0 or role == "buffer":
        return
    if s.tensor.name in model.expected:
        judge_expected(model, s, model.expected[s.tensor.name])
    elif role == "scale":
        _scale(model, s)
    elif role == "bias":
        _bias(model, s)
    elif role in ("running_mean", "running_var"):
        _running(model, s)
    elif s.weights and len(s.tensor.shape) > 1:
        if not judge_structure(model, s):
            _drawn(model, s)
    elif s.constant:
        s.scheme = constant_name(s.low)


# A mean of a fifth of the standard deviation adds to the outputs of 100 inputs of mean 1 twice what the
# deviations do.
OFFSET = 0.2


def _drawn(model: Model, s: Statistics) -> None:
    """Judges elements that were drawn at random: their mean, their scale, their law."""
    moments = s.moments
    if s.low == s.high:  # A single element.
        return
    if not 0.0 < moments.std < math.inf:
        code = "too_large" if moments.std > 0.0 else "too_small"
        text = f"the elements go from {s.low:.4g} to {s.high:.4g}: their squares are beyond float64"
        model.add(s, code, "severe", text + ". Draw them again, as by fastinit.lecun_normal")
        return
    if s.orthogonality is not None and _orthogonal(model, s):
        return
    if s.tensor.orthogonal and s.gram:
        rows = "rows" if s.tensor.shape[-1] >= math.prod(s.tensor.shape[:-1]) else "columns"
        text = f"its layer says that it is orthogonal, and its {rows} are not orthonormal"
        model.add(s, "not_orthogonal", "warning", text + ". Draw it by fastinit.orthogonal")
        return
    _name_scheme(model, s)
    if model.trained or s.tensor.role == "embedding":
        if not model.trained:
            _embedding(model, s)
        return
    if moments.count >= _schemes.FEW and abs(moments.mean) > max(
        OFFSET * moments.std, _schemes.ERRORS * moments.std / math.sqrt(moments.count)
    ):
        text = (
            f"the mean is {moments.mean:.4g}, {abs(moments.mean) / moments.std:.2g} standard deviations "
            "from 0: all units get the same offset, which grows from layer to layer. Draw about 0, as "
            "U(-a, a) and not U(0, a)"
        )
        model.add(s, "mean_not_zero", "warning", text)
        return
    if s.matches and not any(match.corrected for match in s.matches):
        scheme = s.matches[0]
        model.add(
            s,
            "uncorrected_truncation",
            "warning",
            f"std {moments.std:.4g} is {_schemes.TRUNCATION:.4f} times that of {_plain_name(scheme)}: a "
            "normal law was truncated at two standard deviations, which takes 23 % of its variance, "
            f"without making up for it. Divide by {_schemes.TRUNCATION:.5f}, as fastinit does",
        )
    elif not s.matches:
        _size(model, s)


def _name_scheme(model: Model, s: Statistics) -> None:
    """The scheme that a tensor follows, or the nearest."""
    if s.moments.std <= 0.0:
        return
    found: Scheme
    if s.matches:
        found = max(
            s.matches,
            key=lambda x: (x.corrected, model.votes[x.title], x.mode not in ("fan_out", "swapped")),
        )
    else:
        own = s.families or _schemes.FAMILIES
        known = [scheme for scheme in _schemes.schemes(s.tensor) if scheme.family in own and scheme.corrected]
        found = min(known, key=lambda scheme: abs(math.log(s.moments.std / scheme.std)))
    s.scheme, s.scale_error = found.title, s.moments.std / found.std - 1.0


# Gains beyond which a signal is in danger, if no known scheme explains them. He's scheme has sqrt(2),
# PyTorch's default 0.58; of the known schemes, N(0, 0.02) goes from 0.16 (64 inputs) to 2.6 (16384 inputs).
# One layer beyond the second number alone loses, or multiplies, a thousandth or thirty.
SMALL, TINY = 0.02, 1e-3
LARGE, HUGE = 4.0, 30.0

# Where a batch normalization follows kernels, it makes up for their scale, but for rounding and its epsilon.
NORMALIZED = 8.0


def _size(model: Model, s: Statistics) -> None:
    """Whether a kernel that follows no known scheme is too large, or too small."""
    tensor, moments = s.tensor, s.moments
    fans = _schemes.fans(tensor)
    inputs = [into for into, _ in (fans[:2] if tensor.certain else fans)]
    small, large = s.rms * math.sqrt(max(inputs)), s.rms * math.sqrt(min(inputs))
    usual_std = 1 / math.sqrt(inputs[0])
    room = NORMALIZED if model.normalized else 1.0
    advice = f". fastinit.lecun_normal has {usual_std:.4g}; use it or its like, or say expect="
    if moments.count >= _schemes.FEW and small < SMALL / room:
        times = 1 / max(small, 1e-300)
        text = f"std {moments.std:.4g} with {max(inputs):.0f} inputs makes a signal {times:.3g} times "
        if is_output(tensor):
            model.add(s, "too_small", "info", text + "smaller: the output begins near its bias")
        else:
            text += "smaller: it dies within a few layers"
            model.add(s, "too_small", "severe" if small < TINY / room else "warning", text + advice)
    elif moments.count >= _schemes.FEW and large > LARGE * room:
        severity = "severe" if large > HUGE * room else "warning"
        text = (
            f"std {moments.std:.4g} with {min(inputs):.0f} inputs makes a signal {large:.3g} times "
            "larger: it explodes within a few layers, or saturates"
        )
        model.add(s, "too_large", severity, text + advice)
    else:
        find_unlike(model, s)


# Embeddings are N(0, 1) at most, and 1e-6 at least where they begin as nothing.
EMBEDDING_SMALL, EMBEDDING_LARGE = 1e-4, 4.0


def _embedding(model: Model, s: Statistics) -> None:
    if s.moments.count < _schemes.FEW:
        return
    if EMBEDDING_SMALL <= s.rms <= EMBEDDING_LARGE:
        return
    code = "too_large" if s.rms > EMBEDDING_LARGE else "too_small"
    text = f"the elements of the embedding have a root mean square of {s.rms:.4g}; usual are 0.02 to 1"
    model.add(s, code, "warning", text + ". Use fastinit.random_normal with stddev=0.02")


# The least gain of an orthogonal matrix that is meant; heads of policies have 0.01.
LEAST_GAIN = 0.005


def _orthogonal(model: Model, s: Statistics) -> bool:
    """Whether rows (or columns) are orthonormal but for a gain, or nearly so."""
    assert s.orthogonality is not None
    gain, cosine, length = s.orthogonality
    rounding = s.rounding
    if cosine <= rounding:
        s.scheme, s.scale_error = f"orthogonal(gain={gain:.4g})", 0.0
        if gain > LARGE:
            text = f"orthogonal, with a gain of {gain:.4g}: a signal becomes as much larger, and explodes"
            model.add(s, "too_large", "severe" if gain > HUGE else "warning", text)
        elif gain < LEAST_GAIN:
            text = f"orthogonal, with a gain of {gain:.4g}: a signal becomes as much smaller, and dies"
            model.add(s, "too_small", "severe" if gain < TINY else "warning", text)
        return True
    text = (
        f"nearly orthonormal: the cosines between units are {cosine:.2g}, those of independent ones "
        f"would be {1 / math.sqrt(length):.2g}, and rounding explains {rounding:.2g}. Draw it by "
        "fastinit.orthogonal"
    )
    s.scheme = "orthogonal"
    model.add(s, "not_orthogonal", "info" if model.trained else "warning", text)
    return True


# The scale of a normalization far from 1. DCGAN draws it from N(1, 0.02).
SCALE_LOW, SCALE_HIGH = 0.1, 10.0


def _scale(model: Model, s: Statistics) -> None:
    """The scale of a normalization, or of a branch."""
    low, high = s.low, s.high
    if s.constant or s.size == 1:
        s.scheme = constant_name(low)
    if low == high == 1.0:
        return
    severity, advice = "info", ""
    if low == high == 0.0:
        text = "the scale is 0: what it scales begins as nothing (a residual branch), or it is added to 1"
    elif low == high:
        text = f"the scale is {low:.4g} and not 1"
        usual = SCALE_LOW <= low <= SCALE_HIGH if s.tensor.norm else 0.0 < low <= SCALE_HIGH
        severity = "info" if usual else "warning"
    else:
        text = f"the scale varies from {low:.4g} to {high:.4g}, about {s.moments.mean:.4g}"
        off = low <= 0.0 or abs(s.moments.mean - 1) > 0.5 or high > SCALE_HIGH
        scales = [t for t in model.tensors if t.tensor.role == "scale"]
        meant = 2 * sum(t.low < t.high for t in scales) > len(scales) > 2
        severity = "warning" if off and not meant else "info"
    if severity == "warning":
        advice = ". The scale of a normalization begins at 1: use fastinit.ones"
    model.add(s, "scale_not_one", "info" if model.trained else severity, text + advice)


# A bias of the size of a normalized signal moves units to where they saturate, or are dead. PyTorch's own are
# U(±1/sqrt(fan_in)), at most 0.58 for a fan of 1; constants of detection heads, for a prior of 1 %, are -4.6.
BIAS, BIAS_CONSTANT = 0.6, 5.0

# What is as good as 0 beside 1.
CLOSE_ZERO = 0.01


def _bias(model: Model, s: Statistics) -> None:
    largest = max(abs(s.low), abs(s.high))
    if largest == 0.0:
        s.scheme = "zeros"
        return
    if s.constant:
        s.scheme = constant_name(s.low)
    elif s.high == 1.0 and abs(s.size * s.rms**2 - s.at_high) < 0.01 * s.at_high and s.low > -CLOSE_ZERO:
        s.scheme = "zeros, and ones for a gate"
        return
    siblings = model.in_layer(s)
    fans = [into for t in siblings for into, _ in _schemes.fans(t.tensor)] + list(s.tensor.hidden)
    for fan in fans:
        if largest <= (1 + s.eps) / math.sqrt(fan) and not s.constant:
            s.scheme = "U(±1/sqrt(fan))"
            return
    off = (largest >= BIAS_CONSTANT or (s.rms >= BIAS and not s.constant)) and not model.is_shared(s)
    text = f"the bias is not 0: from {s.low:.4g} to {s.high:.4g}, root mean square {s.rms:.4g}"
    if off:
        text += ". Units saturate, or are dead, before they learn anything; use fastinit.zeros"
    model.add(s, "bias_not_zero", "warning" if off and not model.trained else "info", text)


def _running(model: Model, s: Statistics) -> None:
    if s.tensor.role == "running_var":
        if s.low < 0.0:
            text = f"a running variance is negative, {s.low:.4g}: its square root is NaN. It begins at 1"
            model.add(s, "negative_variance", "severe", text)
        elif s.low == 0.0:
            text = "a running variance is 0: what is divided by its root explodes. It begins at 1"
            model.add(s, "running_statistics", "warning", text)
        elif not s.low == s.high == 1.0 and not model.trained:
            text = f"the running variance is {s.low:.4g} to {s.high:.4g}; it begins at 1. The model has run"
            model.add(s, "running_statistics", "info", text)
    elif not s.low == s.high == 0.0 and not model.trained:
        text = f"the running mean is {s.low:.4g} to {s.high:.4g}; it begins at 0. The model has run"
        model.add(s, "running_statistics", "info", text)


def _plain_name(scheme: Scheme) -> str:
    return scheme.title.replace(" without correction", "")
