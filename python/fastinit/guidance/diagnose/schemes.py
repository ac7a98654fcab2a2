"""Known initialization schemes: which distributions a tensor may have been drawn from.

A distribution is recognized by its family (uniform, normal, truncated normal), from the kurtosis and the
largest deviation, and by its standard deviation. The tests become stricter as the
number of elements grows: where there are too few to distinguish two distributions, both are accepted.
"""

from __future__ import annotations

import bisect
import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fastinit._registry import PRESETS
from fastinit._runtime import fans as core_fans
from fastinit.initializers import RandomNormal, RandomUniform, TruncatedNormal, VarianceScaling
from fastinit.theory.distributions import normal, truncated_normal, uniform
from fastinit.theory.quadrature import legendre

from .statistics import ERRORS, NONE, Matches
from .tensors import MOST_AXES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastinit.initializers import Initializer
    from fastinit.theory.distributions import Distribution

    from .statistics import Statistics
    from .tensors import Kind, Tensor

# Differences of kurtosis that do not matter; those of the families differ by more than 0.5.
_CLOSE_KURTOSIS = 0.03

# With fewer elements, mean and scale are not judged.
FEW = 32


@dataclass(frozen=True, eq=False)
class Family:
    """The shape of a symmetric distribution, whatever its scale.

    Attributes:
        name: Its name, as `Distribution.title`.
        kurtosis: The fourth standardized moment.
        spread: The variance of the kurtosis of n elements, times n.
        reach: The largest possible deviation, in standard deviations.
    """

    name: str
    kurtosis: float
    spread: float
    reach: float


@functools.lru_cache(maxsize=256)
def family_of(distribution: Distribution) -> Family:
    """The family of a symmetric distribution with a density; the spread by the delta method."""
    low = max(distribution.low, distribution.mean - 14 * distribution.std)
    nodes, weights = legendre(200)
    x = distribution.mean + (distribution.mean - low) * nodes
    share = weights * distribution.density(x)
    z = (x - distribution.mean) / distribution.std
    m4, m6, m8 = (float(share @ z**power / share.sum()) for power in (4, 6, 8))
    spread = m8 - 4 * m4 * m6 + 4 * m4**3 - m4**2
    reach = (distribution.high - distribution.mean) / distribution.std
    return Family(distribution.title, m4, spread, reach)


UNIFORM, TRUNCATED, NORMAL = FAMILIES = tuple(
    map(family_of, (uniform(-1.0, 1.0), truncated_normal(0.0, 1.0, -2.0, 2.0), normal(0.0, 1.0)))
)


def fitting(s: Statistics, families: Sequence[Family] = FAMILIES) -> tuple[Family, ...]:
    """Those families that the elements of a tensor may belong to, by their moments and extremes."""
    std, mean, count, kurtosis = s.std, s.moments.mean, s.moments.count, s.moments.kurtosis
    if not std > 0.0 or math.isnan(kurtosis):
        return ()
    reach, slack = max(s.high - mean, mean - s.low) / std, 1 + s.tolerance + s.eps
    return tuple(
        family
        for family in families
        # A kurtosis of few elements is biased, by about 6 / n.
        if abs(kurtosis - family.kurtosis)
        <= _CLOSE_KURTOSIS + ERRORS * math.sqrt(family.spread / count) + 10 / count
        and reach <= family.reach * slack
    )


# The standard deviation of a normal number that is truncated at two standard deviations, in those.
TRUNCATION = 2 / TRUNCATED.reach


class Scheme(NamedTuple):
    """A distribution that weights are known to be drawn from.

    Attributes:
        name: What it is called.
        family: The shape of the distribution.
        std: Its standard deviation.
        mode: The fan that it follows, `"fan_in"` or `"fan_out"`; `"swapped"` if it does so in the layout that
            was not assumed; `None` if neither, or either.
        corrected: False for a truncated normal distribution whose variance is not that of the normal one.
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


def within(std: float, slack: float) -> tuple[float, float]:
    """The standard deviations whose logarithms differ from that of `std` by at most `slack`."""
    factor = math.exp(slack)
    return std / factor, std * factor


def fans(tensor: Tensor) -> tuple[tuple[float, float], ...]:
    """The possible fan_in and fan_out: first by the layout, then by other conventions.

    Frameworks do not agree on the fans of depthwise, grouped, transposed and multi-headed kernels; and where
    a layout is only assumed, the other one may be true.
    """
    return _fans(tensor.kind)


@functools.lru_cache(maxsize=4096)
def least_fan_in(kind: Kind) -> float:
    """The least possible fan_in; infinite where there is none."""
    return min((into for into, _ in _fans(kind)), default=math.inf)


@functools.lru_cache(maxsize=4096)
def _fans(kind: Kind) -> tuple[tuple[float, float], ...]:
    shape, (in_axis, out_axis) = kind.shape, kind.axes
    if not 1 < len(shape) <= MOST_AXES or 0 in shape:
        return ()
    last = core_fans(shape, -2, -1, (), 1)
    first = core_fans(shape, 1, 0, (), 1)
    rest = math.prod(shape) / (shape[in_axis] * shape[out_axis])
    if kind.transposed:  # The groups divide the inputs of such a kernel.
        fan_out, fan_in = core_fans(shape, out_axis, in_axis, (), kind.groups)
    else:
        fan_in, fan_out = core_fans(shape, in_axis, out_axis, (), kind.groups)
    # As the layout says; and as PyTorch and Keras count, from the shape alone.
    found = [(fan_in, fan_out), first if kind.layout == "out_in" else last]
    if kind.transposed:
        found += [(out, into) for into, out in found]
    if len(shape) == 2 and max(shape) == 3 * min(shape):  # Queries, keys and values in one.
        found += [(min(into, out), min(into, out)) for into, out in found]
    if kind.layout == "out_in" and len(shape) > 2 and shape[1] == 1:  # Depthwise.
        found.append((rest, rest))
    if kind.layout == "in_out" and len(shape) > 3 and (shape[-1] == 1 or kind.role == "kernel"):
        found.append((rest, rest * shape[-1]))
    if len(shape) == 3 and (kind.layout == "in_out" or not kind.certain):
        # Heads: (in, heads, out) and (heads, in, out); or a stack of matrices.
        a, b, c = shape
        found += [(a, b * c), (a * b, c), (b, c)]
    if not kind.certain:
        found += [(out, into) for into, out in found]
        if len(shape) > 2:  # A convolution in the other order.
            found += [last, first]
    return tuple(dict.fromkeys((max(into, 1.0), max(out, 1.0)) for into, out in found))


def _scheme(name: str, made: Initializer) -> Scheme:
    """The scheme of an initializer, for fans of 1 where it depends on them."""
    found = made.check((1, 1))
    family = next(family for family in FAMILIES if family.name == found.title)
    return Scheme(name, family, found.std, corrected=not name.endswith("without correction"))


def _drawn(preset: str) -> Iterator[Scheme]:
    """The schemes called Glorot, He or LeCun, in each family."""
    scale, _, _ = PRESETS[f"{preset}_normal"]
    for name, distribution in (
        (f"{preset}_uniform", "uniform"),
        (f"{preset}_normal", "truncated_normal"),
        (f"{preset}_normal, untruncated", "untruncated_normal"),
    ):
        found = _scheme(name, VarianceScaling(scale, "fan_in", distribution))
        yield found
    yield _scheme(f"{preset}_normal without correction", TruncatedNormal(stddev=found.std))


# PyTorch's default is kaiming_uniform(a=sqrt(5)).
_TORCH = _scheme("U(±1/sqrt(fan))", VarianceScaling(1 / 3, "fan_in", "uniform"))
_BY_ONE_FAN = (*_drawn("lecun"), *_drawn("he"), _TORCH)
_BY_BOTH_FANS = tuple(_drawn("glorot"))


def _scaled(scheme: Scheme, fan: float, mode: str | None = None) -> Scheme:
    """A scheme for another fan than 1: its variance is divided by it."""
    return scheme._replace(std=scheme.std / math.sqrt(fan), mode=mode)


# Constants of published models and of frameworks: GPT-2 and BERT, AlexNet and detection heads, Keras's
# defaults. The last two, the truncated normals of BERT and of Keras, are intentionally uncorrected.
_FIXED = (
    _scheme("N(0, 0.02)", RandomNormal(stddev=0.02)),
    _scheme("N(0, 0.01)", RandomNormal(stddev=0.01)),
    _scheme("N(0, 0.05)", RandomNormal()),
    _scheme("U(-0.05, 0.05)", RandomUniform()),
    _scheme("N(0, 0.02), truncated", TruncatedNormal(stddev=0.02)),
    _scheme("N(0, 0.05), truncated", TruncatedNormal()),
)
_EMBEDDING = _scheme("N(0, 1)", RandomNormal(stddev=1.0))


_BY_HIDDEN = _TORCH._replace(name="U(±1/sqrt(hidden))")
_BY_DIM = _scheme("N(0, 1/sqrt(dim))", VarianceScaling(1.0, "fan_in", "untruncated_normal"))


def schemes(tensor: Tensor) -> tuple[Scheme, ...]:
    """The schemes that a kernel or an embedding of this shape may follow; the likely ones first."""
    return _schemes(tensor.kind)


@functools.lru_cache(maxsize=4096)
def _schemes(kind: Kind) -> tuple[Scheme, ...]:
    listed = [_scaled(_BY_HIDDEN, max(hidden, 1)) for hidden in kind.hidden]
    found = _fans(kind)
    for at, (fan_in, fan_out) in enumerate(found):
        known: tuple[str | None, str | None] = ("fan_in", "fan_out")
        if fan_in == fan_out or kind.transposed or (at and kind.certain):
            known = (None, None)  # It has no mode, or one that is a matter of convention.
        elif at and (fan_out, fan_in) in found[:at]:
            known = ("swapped", "swapped")
        for mode, fan in zip(known, (fan_in, fan_out), strict=True):
            listed += [_scaled(scheme, fan, mode) for scheme in _BY_ONE_FAN]
        listed += [_scaled(scheme, (fan_in + fan_out) / 2) for scheme in _BY_BOTH_FANS]
    listed += _FIXED
    if kind.role == "embedding":
        listed += [_EMBEDDING, *(_scaled(_BY_DIM, max(size, 1)) for size in kind.shape)]
    return tuple(listed)


def matching(tensor: Tensor, families: tuple[Family, ...], std: float, slack: float) -> Matches:
    """The schemes of these families whose standard deviation is close, see `within`."""
    low, high = within(std, slack)
    ordered = _ordered(tensor.kind)
    found = bisect.bisect_left(ordered, low), bisect.bisect_right(ordered, high)
    return _matching(tensor.kind, families, *found)


@functools.lru_cache(maxsize=4096)
def _ordered(kind: Kind) -> list[float]:
    return sorted(scheme.std for scheme in _schemes(kind))


@functools.lru_cache(maxsize=4096)
def _matching(kind: Kind, families: tuple[Family, ...], first: int, end: int) -> Matches:
    """Those whose standard deviations have these places among all."""
    known = frozenset(_ordered(kind)[first:end])
    found = tuple(scheme for scheme in _schemes(kind) if scheme.std in known and scheme.family in families)
    return Matches(found) if found else NONE
