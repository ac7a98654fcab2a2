"""What judging begins with and ends with: the statistics of each tensor, and findings about them.

Nothing is decided here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from .schemes import Family, Scheme
    from .statistics import Moments
    from .tensors import Tensor

SEVERITIES = ("info", "warning", "severe")

# Relative rounding of the dtypes.
_EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


@dataclass(frozen=True)
class Finding:
    """Something that deserves a look.

    Attributes:
        code: What kind of thing it is; stays the same between versions.
        severity: `"info"`, `"warning"` or `"severe"`.
        tensor: The name of the tensor; empty for what concerns the whole model.
        message: What was measured, what the rule is, and what to do instead.
    """

    code: str
    severity: str
    tensor: str
    message: str


@dataclass
class Statistics:
    """A tensor as measured, reduced to what judging takes."""

    tensor: Tensor
    size: int
    nan: int
    infinite: int
    moments: Moments
    low: float
    high: float
    at_low: int
    at_high: int
    zeros: int
    sample: np.ndarray
    # Axis -> groups of equal units; and which units are zero.
    equal: dict[int, list[list[int]]] = field(default_factory=dict)
    empty: dict[int, list[int]] = field(default_factory=dict)
    # Whether it has enough rows and columns to tell that they are orthonormal.
    gram: bool = False
    # If rows, or columns, are nearly so: their norm, the root mean square of their cosines, and their length.
    orthogonality: tuple[float, float, int] | None = None
    # Whether all units have the same number of zeros.
    even_zeros: bool = False
    # What another tensor has in common if it is equal.
    key: object = None
    # Found later, with the rest of the model in view.
    families: tuple[Family, ...] = ()
    matches: tuple[Scheme, ...] = ()
    scheme: str | None = None
    scale_error: float | None = None

    @property
    def rms(self) -> float:
        """The root mean square."""
        return math.hypot(self.moments.std, self.moments.mean)

    @property
    def constant(self) -> bool:
        """Whether all elements are equal, and finite."""
        return self.low == self.high and self.moments.count == self.size

    @property
    def in_empty_units(self) -> int:
        """How many zeros there are in units of zeros."""
        shape = self.tensor.shape
        return max((len(units) * self.size // shape[axis] for axis, units in self.empty.items()), default=0)

    @property
    def eps(self) -> float:
        """The relative rounding of the dtype."""
        return _EPS.get(self.tensor.dtype, 2.0**-2)

    @property
    def rounding(self) -> float:
        """The largest cosine between orthogonal units that rounding explains."""
        return 100 * _EPS["float32"] + self.eps

    @property
    def weights(self) -> bool:
        """Whether it is drawn so that a signal passes."""
        return self.tensor.role in ("kernel", "recurrent", "embedding")
