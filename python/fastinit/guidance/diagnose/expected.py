"""Whether a tensor follows the initializer that is expected of it.

Moments, bounds and zeros are compared with those of the distribution, and the structure with that of the
initializer. Deviations that are not significant for the number of elements are not reported.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fastinit.initializers import Initializer, Orthogonal, VarianceScaling

from .results import Code, Severity
from .schemes import FEW, family_of, fitting
from .statistics import ERRORS
from .structure import find_piles, find_units, is_identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastinit.theory.distributions import Distribution

    from .model import Model
    from .statistics import Statistics
    from .tensors import Tensor

# Distributions of tensors whose root mean square is fixed, and by how much rounding may change it; that of
# half types averages out.
_FIXED = ("orthogonal", "delta_orthogonal", "identity", "dirac")
_CLOSE = 2e-3

# Distributions with independent elements and a density.
_INDEPENDENT = ("uniform", "normal", "truncated_normal")


def promised(initializer: Initializer, tensor: Tensor) -> Distribution:
    """The distribution that an initializer gives a tensor.

    Axes that are those of the default are taken from the layout of the tensor.

    Raises:
        ValueError: If the initializer does not fit the shape.
    """
    axes: dict[str, int] = {}
    if isinstance(initializer, VarianceScaling) and len(tensor.shape) > 1:
        if (initializer.in_axis, initializer.out_axis) == (-2, -1):
            axes = {"in_axis": tensor.in_axis, "out_axis": tensor.out_axis, "groups": tensor.groups}
    elif isinstance(initializer, Orthogonal) and tensor.layout == "out_in":
        axes = {"column_axis": 0} if initializer.column_axis == -1 else {}
    return type(initializer).from_config(initializer.get_config() | axes).check(tensor.shape)


def judge_expected(model: Model, s: Statistics, initializer: Initializer) -> None:
    """Judges a tensor against its expected initializer."""
    distribution = promised(initializer, s.tensor)
    s.scheme = type(initializer).__name__
    if distribution.std > 0.0:
        s.scale_error = s.std / distribution.std - 1.0
    wrong = list(_deviations(s, distribution))
    if wrong:
        text = f"{'; '.join(wrong)}, but {initializer!r} is expected; draw the tensor with it"
        model.add(s, Code.NOT_AS_EXPECTED, Severity.WARNING, text)
    elif distribution.name in _INDEPENDENT and s.tensor.is_weight:
        _ = find_units(model, s) or find_piles(model, s)


def _deviations(s: Statistics, expected: Distribution) -> Iterator[str]:
    """How a tensor differs from a distribution, in words."""
    moments, eps = s.moments, s.eps
    if expected.std == 0.0:
        if max(abs(s.low - expected.mean), abs(s.high - expected.mean)) > eps * abs(expected.mean):
            yield f"the elements range {s.range} instead of being {expected.mean:.4g}"
        return
    values = [value for value, _ in expected.atoms]
    low, high = min([expected.low, *values]), max([expected.high, *values])
    room = eps * max(abs(s.low), abs(s.high))
    right = low - room <= s.low and s.high <= high + room
    if not right:
        yield f"the elements range {s.range}, beyond {low:.4g} to {high:.4g}"
    error = ERRORS * expected.std / math.sqrt(moments.count)
    if abs(moments.mean - expected.mean) > max(error, eps * expected.std):
        right = False
        yield f"the mean is {moments.mean:.4g} instead of {expected.mean:.4g} ± {error:.2g}"
    fixed, others = expected.name in _FIXED, s.size - s.zeros
    slack = _CLOSE + eps if fixed else s.tolerance
    rms = math.hypot(expected.std, expected.mean)
    found, wanted = (s.rms, rms) if fixed else (s.std, expected.std)
    enough = fixed or others >= FEW
    if enough and not (found > 0.0 and abs(math.log(found / wanted)) <= slack):
        right = False
        what = "root mean square" if fixed else "std"
        yield f"the {what} is {found:.4g} instead of {wanted:.4g} ± {slack:.1%}"
    zeros = dict(expected.atoms).get(0.0, 0.0)
    most = round((1 - zeros) * s.size)
    if zeros and (others > most or (others < most and not fixed)):
        yield f"{s.zeros:,} elements are 0 instead of {s.size - most:,}"
    if expected.name in ("identity", "dirac") and not is_identity(s):
        yield "it is not an identity"
    orthonormal = s.orthogonality is not None and s.orthogonality[1] <= s.tensor.rounding
    if expected.name == "orthogonal" and s.gram and not orthonormal:
        yield "its units are not orthonormal"
    symmetric = math.isclose(expected.mean - expected.low, expected.high - expected.mean)
    if right and enough and expected.name in _INDEPENDENT and symmetric:
        family = family_of(expected)
        if not fitting(s, (family,)):
            yield f"the elements are not {family.name}: their kurtosis is {moments.kurtosis:.3g}"
