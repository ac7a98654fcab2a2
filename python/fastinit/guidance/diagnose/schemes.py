"""Known initialization schemes: which laws a tensor may have been drawn from.

A law is recognized by its family (uniform, normal, truncated normal), which the kurtosis and the largest
deviation tell, and by its standard deviation. What is asked of a tensor grows with the number of its
elements: where few elements cannot tell two laws apart, it may be either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fastinit
from fastinit.theory.distributions import truncated_moments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .statistics import Moments
    from .tensors import Tensor

# Six standard errors: among a million tensors of a normal statistic, one in 500 such sets has a false alarm.
ERRORS = 6.0

# Relative differences of standard deviations that are of no account for training, whatever the number of
# elements.
CLOSE = 0.01

# Fewer elements tell nothing about their mean, or their scale.
FEW = 32

# The same for kurtosis; that of the families differs by more than half.
_CLOSE_KURTOSIS = 0.03


def _truncated_moments() -> tuple[float, ...]:
    """E x**2, x**4, x**6 and x**8 of a standard normal number on [-2, 2], by integration by parts."""
    inside = math.erf(math.sqrt(2.0))
    edge = 2 * math.exp(-2.0) / math.sqrt(2 * math.pi) / inside
    found = [1.0]
    for k in range(1, 9, 2):
        found.append(k * found[-1] - 2.0**k * edge)
    return tuple(found[1:])


_M2, _M4, _M6, _M8 = _truncated_moments()

# The standard deviation of a normal number that is truncated at two standard deviations, in those.
TRUNCATION = math.sqrt(_M2)


@dataclass(frozen=True)
class Family:
    """The shape of a law, whatever its scale.

    Attributes:
        name: Its name.
        kurtosis: The fourth standardized moment.
        spread: The variance of the kurtosis of n elements, times n.
        reach: The largest deviation there can be, in standard deviations.
    """

    name: str
    kurtosis: float
    spread: float
    reach: float


def _family(name: str, m4: float, m6: float, m8: float, reach: float) -> Family:
    """A symmetric law by its standardized moments; the spread by the delta method."""
    return Family(name, m4, m8 - 4 * m4 * m6 + 4 * m4**3 - m4**2, reach)


UNIFORM = _family("uniform", 9 / 5, 27 / 7, 9.0, math.sqrt(3.0))
NORMAL = _family("normal", 3.0, 15.0, 105.0, math.inf)
TRUNCATED = _family("truncated normal", _M4 / _M2**2, _M6 / _M2**3, _M8 / _M2**4, 2 / TRUNCATION)
FAMILIES = (UNIFORM, TRUNCATED, NORMAL)


@dataclass(frozen=True)
class Scheme:
    """A law that weights are known to be drawn from.

    Attributes:
        name: What it is called.
        family: The shape of the law.
        std: Its standard deviation.
        mode: The fan that it follows, `"fan_in"` or `"fan_out"`; `"swapped"` if it does so in the
            layout that was not assumed; `None` if neither, or either.
        corrected: False for a normal law that was truncated without making up for what that costs.
    """

    name: str
    family: Family
    std: float
    mode: str | None = None
    corrected: bool = True

    @property
    def title(self) -> str:
        """The name, and the mode where it is not the usual one."""
        return f"{self.name}, fan_out" if self.mode == "fan_out" else self.name


def std_error(moments: Moments) -> float:
    """The standard error of the logarithm of the standard deviation."""
    kurtosis = moments.kurtosis if math.isfinite(moments.kurtosis) else 3.0
    return math.sqrt(max(kurtosis - 1.0, 0.1) / (4 * max(moments.count, 1)))


def tolerance(moments: Moments) -> float:
    """By how much the logarithms of two standard deviations differ before the difference means anything."""
    return max(CLOSE, ERRORS * std_error(moments))


def families(moments: Moments, low: float, high: float, eps: float) -> tuple[Family, ...]:
    """The families that elements with these moments and extremes may be of; `eps` is that of their dtype."""
    if not moments.std > 0.0 or math.isnan(moments.kurtosis):
        return ()
    reach = max(high - moments.mean, moments.mean - low) / moments.std
    slack = 1 + tolerance(moments) + eps

    def fits(family: Family) -> bool:
        error = _CLOSE_KURTOSIS + ERRORS * math.sqrt(family.spread / moments.count)
        # A kurtosis of few elements is biased, by about 6 / n.
        error += 10 / moments.count
        return abs(moments.kurtosis - family.kurtosis) <= error and reach <= family.reach * slack

    return tuple(family for family in FAMILIES if fits(family))


def fans(tensor: Tensor) -> list[tuple[float, float]]:
    """What fan_in and fan_out may be, first as the layout says; the others are conventions that differ.

    Frameworks do not agree on the fans of depthwise, grouped, transposed and multi-headed kernels; and where
    a layout is only assumed, the other one may be true.
    """
    shape = tensor.shape
    if len(shape) < 2:
        return []
    rest = tensor.size / max(1, shape[tensor.in_axis] * shape[tensor.out_axis])
    fan_in, fan_out = shape[tensor.in_axis] * rest, shape[tensor.out_axis] * rest
    if tensor.transposed:
        fan_in /= tensor.groups
    else:
        fan_out /= tensor.groups
    found = [(fan_in, fan_out)]
    # As PyTorch and Keras count: from the shape alone.
    found.append((shape[1] * rest, shape[0] * rest) if tensor.layout == "out_in" else _last(shape))
    if tensor.transposed:
        found += [(out, into) for into, out in found]
    if len(shape) == 2 and max(shape) == 3 * min(shape):  # Queries, keys and values in one.
        found += [(min(into, out), min(into, out)) for into, out in found]
    if tensor.layout == "out_in" and len(shape) > 2 and shape[1] == 1:  # Depthwise.
        found.append((rest, rest))
    if tensor.layout == "in_out" and len(shape) > 3 and (shape[-1] == 1 or tensor.role == "kernel"):
        found.append((rest, rest * shape[-1]))
    if len(shape) == 3 and (tensor.layout == "in_out" or not tensor.certain):
        # Heads: (in, heads, out) and (heads, in, out); or a stack of matrices.
        a, b, c = shape
        found += [(a, b * c), (a * b, c), (b, c)]
    if not tensor.certain:
        found += [(out, into) for into, out in found]
        if len(shape) > 2:  # A convolution in the other order.
            found += [_last(shape), (shape[1] * math.prod(shape[2:]), shape[0] * math.prod(shape[2:]))]
    return list(dict.fromkeys((max(into, 1.0), max(out, 1.0)) for into, out in found))


def _last(shape: tuple[int, ...]) -> tuple[float, float]:
    rest = math.prod(shape[:-2])
    return shape[-2] * rest, shape[-1] * rest


_SCALED = {"lecun": 1.0, "he": 2.0}
_NAMES = {UNIFORM: "{}_uniform", TRUNCATED: "{}_normal", NORMAL: "{}_normal, untruncated"}

# Constants that published models and frameworks use: GPT-2 and BERT, AlexNet and detection heads, Keras's
# defaults; the last, BERT's truncated normal and that of Keras, are not corrected, and meant to be so.
_FIXED = [
    Scheme("N(0, 0.02)", NORMAL, 0.02),
    Scheme("N(0, 0.01)", NORMAL, 0.01),
    Scheme("N(0, 0.05)", NORMAL, 0.05),
    Scheme("U(-0.05, 0.05)", UNIFORM, 0.05 / math.sqrt(3)),
    Scheme("N(0, 0.02), truncated", TRUNCATED, 0.02 * TRUNCATION),
    Scheme("N(0, 0.05), truncated", TRUNCATED, 0.05 * TRUNCATION),
]


def schemes(tensor: Tensor) -> Iterator[Scheme]:
    """What a kernel or an embedding of this shape may have been drawn from; the likely ones first."""
    for hidden in tensor.hidden:
        yield Scheme("U(±1/sqrt(hidden))", UNIFORM, 1 / math.sqrt(3 * max(hidden, 1)))
    found = fans(tensor)
    for at, (fan_in, fan_out) in enumerate(found):
        for mode, fan in (("fan_in", fan_in), ("fan_out", fan_out)):
            known: str | None = mode
            if fan_in == fan_out or tensor.transposed or (at and tensor.certain):
                known = None  # It has no mode, or one that is a matter of convention.
            elif at and (fan_out, fan_in) in found[:at]:
                known = "swapped"
            for name, scale in _SCALED.items():
                for family in FAMILIES:
                    std = math.sqrt(scale / fan)
                    yield Scheme(_NAMES[family].format(name), family, std, known)
                    if family is TRUNCATED:
                        title = f"{name}_normal without correction"
                        yield Scheme(title, family, TRUNCATION * std, known, corrected=False)
            yield Scheme("U(±1/sqrt(fan))", UNIFORM, 1 / math.sqrt(3 * fan), known)
        for family in FAMILIES:
            std = math.sqrt(2 / (fan_in + fan_out))
            yield Scheme(_NAMES[family].format("glorot"), family, std)
            if family is TRUNCATED:
                yield Scheme(
                    "glorot_normal without correction", family, TRUNCATION * std, None, corrected=False
                )
    yield from _FIXED
    if tensor.role == "embedding":
        yield Scheme("N(0, 1)", NORMAL, 1.0)
        for size in tensor.shape:
            yield Scheme("N(0, 1/sqrt(dim))", NORMAL, 1 / math.sqrt(max(size, 1)))


@dataclass(frozen=True)
class Law:
    """What a law promises of the elements of a tensor."""

    mean: float
    std: float
    low: float
    high: float
    kurtosis: float | None


def law_of(initializer: Any, tensor: Tensor) -> tuple[fastinit.Initializer, Law | None]:
    """The plain law that an initializer has for a tensor, and its moments; `None` if they are not known.

    The axes of a kernel are those of the tensor's layout, unless the initializer says others than the
    default.

    Raises:
        ValueError: If the initializer does not fit the shape.
    """
    config = initializer.get_config()
    if config.get("in_axis") == -2 and config.get("out_axis") == -1 and len(tensor.shape) > 1:
        axes = {"in_axis": tensor.in_axis, "out_axis": tensor.out_axis}
        initializer = type(initializer).from_config(config | axes | {"groups": tensor.groups})
    elif config.get("column_axis") == -1 and tensor.layout == "out_in":
        initializer = type(initializer).from_config(config | {"column_axis": 0})
    law = initializer.for_shape(tensor.shape)
    inf = math.inf
    match law:
        case fastinit.Zeros():
            return law, Law(0.0, 0.0, 0.0, 0.0, None)
        case fastinit.Ones():
            return law, Law(1.0, 0.0, 1.0, 1.0, None)
        case fastinit.Constant():
            return law, Law(law.value, 0.0, law.value, law.value, None)
        case fastinit.RandomUniform():
            std = (law.maxval - law.minval) / math.sqrt(12)
            return law, Law((law.minval + law.maxval) / 2, std, law.minval, law.maxval, UNIFORM.kurtosis)
        case fastinit.RandomNormal():
            return law, Law(law.mean, law.stddev, -inf, inf, NORMAL.kurtosis)
        case fastinit.TruncatedNormal():
            mean, std, kurtosis = truncated_moments(law.lower, law.upper)
            low, high = law.mean + law.stddev * law.lower, law.mean + law.stddev * law.upper
            return law, Law(law.mean + law.stddev * mean, law.stddev * std, low, high, kurtosis)
    return law, None
