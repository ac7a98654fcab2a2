"""The statistics of a tensor, and what is derived from them."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from .schemes import Family, Scheme
    from .tensors import Tensor

# Six standard errors: in one of 500 sets of a million tensors, a normal statistic has a false alarm.
ERRORS = 6.0

# Relative differences of standard deviations that do not matter for training, whatever the number of
# elements.
CLOSE = 0.01

# The numbers of layers, not those of fc1 and fc2 in each: whole parts of a name, and those of layer1,
# stage_2, dense_3/, weight_hh_l0.
_NUMBER = re.compile(r"(?<![^./])\d+(?=[./])|(?<=layer|stage|block)_?\d+|_\d+(?=/)|(?<=_[ih]h_l)\d+")


# The most numbers of a name that are looked at, from its end.
_MOST_NUMBERS = 4


def rows(name: str) -> list[tuple[str, tuple[int, str]]]:
    """The rows of layers that a tensor is in: its name without one of its numbers, and that number.

    Numbers can be compared: longer ones are greater.
    """
    found = list(_NUMBER.finditer(name))[-_MOST_NUMBERS:]
    numbers = [number.group().strip("_").lstrip("0") for number in found]
    return [
        (f"{name[: place.start()]}*{name[place.end() :]}", (len(number), number))
        for place, number in zip(found, numbers, strict=True)
    ]


@dataclass
class Moments:
    """Count, mean, and sums of powers of the deviations from it."""

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0
    m3: float = 0.0
    m4: float = 0.0

    def add(self, other: Moments) -> None:
        """Merges the moments of more elements (Pébay)."""
        if other.count == 0 or self.count == 0:
            if other.count:
                self.__dict__.update(vars(other))
            return
        a, b = self.count, other.count
        n = a + b
        d = other.mean - self.mean
        # Products instead of powers: a power of Python's floats raises where it overflows.
        self.m4 += (
            other.m4
            + d * d * d * d * (a * b * (a * a - a * b + b * b) / n**3)
            + 6 * d * d * (a * a / n**2 * other.m2 + b * b / n**2 * self.m2)
            + 4 * d * (a / n * other.m3 - b / n * self.m3)
        )
        self.m3 += (
            other.m3 + d * d * d * (a * b * (a - b) / n**2) + 3 * d * (a / n * other.m2 - b / n * self.m2)
        )
        self.m2 += other.m2 + d * d * (a * b / n)
        self.mean += d * b / n
        self.count = n

    @property
    def std(self) -> float:
        """The standard deviation; 0 for no elements."""
        return math.sqrt(max(0.0, self.m2) / self.count) if self.count else 0.0

    @property
    def kurtosis(self) -> float:
        """The fourth standardized moment, 3 for normal elements; NaN if all are equal."""
        return self.count * self.m4 / (self.m2 * self.m2) if self.m2 * self.m2 > 0 else math.nan


@dataclass
class Counts:
    """Elements counted; all but the first three attributes are about finite elements."""

    size: int = 0
    nan: int = 0
    infinite: int = 0
    moments: Moments = field(default_factory=Moments)
    low: float = math.inf
    high: float = -math.inf
    at_low: int = 0
    at_high: int = 0
    zeros: int = 0

    def merge(self, other: Counts) -> None:
        """Merges the counts of more elements."""
        self.size += other.size
        self.nan += other.nan
        self.infinite += other.infinite
        self.zeros += other.zeros
        self.moments.add(other.moments)
        if other.low <= self.low:
            self.at_low = other.at_low + (self.at_low if other.low == self.low else 0)
            self.low = other.low
        if other.high >= self.high:
            self.at_high = other.at_high + (self.at_high if other.high == self.high else 0)
            self.high = other.high


@dataclass(frozen=True, eq=False)
class Matches:
    """Schemes that tensors agree with. Many tensors share an object, so they are counted by it.

    Attributes:
        schemes: The schemes, the likely ones first.
    """

    schemes: tuple[Scheme, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.schemes)

    def __iter__(self) -> Iterator[Scheme]:
        return iter(self.schemes)

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """The names of the schemes."""
        return frozenset(scheme.name for scheme in self)


NONE = Matches()


@dataclass
class Statistics(Counts):
    """A tensor as measured.

    Attributes:
        tensor: The tensor.
        sample: Some of its finite elements, spread over it.
        equal: Groups of equal units, by axis.
        empty: The units that are zero, by axis.
        gram: Whether it has enough rows and columns to judge whether they are orthonormal.
        orthogonality: If rows or columns are nearly orthonormal: their norm, the root mean square of their
            cosines, and their length.
        even_zeros: Whether all units have the same number of zeros.
        rank: The rank of its first units, if that is at most half their number; otherwise 0.
        key: Equal for tensors with the same draws.
        turned: The key that its transpose has; `None` for tensors that are no matrices.
        families: The families of distributions that the elements may belong to.
        matches: The schemes that explain its family and its scale.
        scheme: The name of the scheme that it follows, or of the nearest one.
        scale_error: Its standard deviation relative to that of the scheme, less 1.
        name: The name of the tensor.
        layer: The layer that it belongs to: its name without the last part.
        pattern: Its name without the numbers of layers, which siblings share.
        std: The standard deviation.
        rms: The root mean square.
        std_error: The standard error of the logarithm of the standard deviation.
        tolerance: By how much the logarithms of two standard deviations differ before that is significant.
    """

    tensor: Tensor = field(kw_only=True)
    sample: np.ndarray = field(kw_only=True)
    equal: dict[int, list[list[int]]] = field(default_factory=dict)
    empty: dict[int, list[int]] = field(default_factory=dict)
    gram: bool = False
    orthogonality: tuple[float, float, int] | None = None
    even_zeros: bool = False
    rank: int = 0
    key: object = None
    turned: object = None
    families: tuple[Family, ...] = ()
    matches: Matches = NONE
    scheme: str | None = None
    scale_error: float | None = None

    # All of these are needed of nearly every tensor.
    name: str = field(init=False)
    layer: str = field(init=False)
    pattern: str = field(init=False)
    std: float = field(init=False)
    rms: float = field(init=False)
    std_error: float = field(init=False)
    tolerance: float = field(init=False)

    def __post_init__(self) -> None:
        moments, kurtosis = self.moments, self.moments.kurtosis
        self.name = name = self.tensor.name
        self.layer = name[: max(name.rfind("."), name.rfind("/")) + 1]
        self.pattern = _NUMBER.sub("*", name)
        self.std = moments.std
        self.rms = math.hypot(self.std, moments.mean)
        excess = kurtosis - 1.0 if math.isfinite(kurtosis) else 2.0
        self.std_error = math.sqrt(max(excess, 0.1) / (4 * max(moments.count, 1)))
        self.tolerance = max(CLOSE, ERRORS * self.std_error)

    @property
    def constant(self) -> bool:
        """Whether all elements are equal and finite."""
        return self.low == self.high and self.moments.count == self.size

    @property
    def range(self) -> str:
        """The extremes, for a message."""
        return f"from {self.low:.4g} to {self.high:.4g}"

    @property
    def in_empty_units(self) -> int:
        """How many zeros are in units that are zero."""
        shape = self.tensor.shape
        return max((len(units) * self.size // shape[axis] for axis, units in self.empty.items()), default=0)

    @property
    def eps(self) -> float:
        """The relative rounding of the dtype."""
        return self.tensor.eps
