"""Whether a tensor follows the initializer that it is meant to follow.

All that a law promises is compared: moments and bounds, or the structure that it has. Nothing is reported
that so few elements cannot tell.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from . import schemes as _schemes
from .structure import is_identity, piled, units

if TYPE_CHECKING:
    import fastinit

    from .findings import Statistics
    from .siblings import Model


def judge_expected(model: Model, s: Statistics, initializer: fastinit.Initializer) -> None:
    """Judges a tensor against the law that it is meant to follow."""
    law, promised = _schemes.law_of(initializer, s.tensor)
    kind, moments = type(initializer).__name__, s.moments
    s.scheme = kind
    wrong: list[str] = []
    if promised is None:
        wrong = _other_law(s, law)
    elif promised.std == 0.0:
        off = max(abs(s.low - promised.mean), abs(s.high - promised.mean))
        if off > s.eps * abs(promised.mean):
            wrong = [
                f"the elements go from {s.low:.4g} to {s.high:.4g}, and all should be {promised.mean:.4g}"
            ]
    else:
        s.scale_error = moments.std / promised.std - 1.0
        error = _schemes.ERRORS * promised.std / math.sqrt(moments.count)
        if abs(moments.mean - promised.mean) > max(error, s.eps * promised.std):
            wrong.append(f"the mean is {moments.mean:.4g}, and should be {promised.mean:.4g} ± {error:.2g}")
        slack = _schemes.tolerance(moments)
        enough = moments.count >= _schemes.FEW
        if enough and not (moments.std > 0.0 and abs(math.log(moments.std / promised.std)) <= slack):
            wrong.append(f"the std is {moments.std:.4g}, and should be {promised.std:.4g} ± {slack:.1%}")
        room = s.eps * max(abs(s.low), abs(s.high))
        if s.low < promised.low - room or s.high > promised.high + room:
            bounds = f"[{promised.low:.4g}, {promised.high:.4g}]"
            wrong.append(f"the elements go from {s.low:.4g} to {s.high:.4g}, beyond {bounds}")
        known = [family for family in _schemes.FAMILIES if family.kurtosis == promised.kurtosis]
        if (
            enough
            and not wrong
            and known
            and known[0] not in _schemes.families(moments, s.low, s.high, s.eps)
        ):
            wrong.append(f"the elements are not {known[0].name}: their kurtosis is {moments.kurtosis:.3g}")
    if wrong:
        text = "; ".join(wrong) + f". {initializer!r} was expected: draw the tensor by it"
        model.add(s, "not_as_expected", "warning", text)
    elif promised is not None and promised.std > 0.0 and s.weights and len(s.tensor.shape) > 1:
        _ = units(model, s) or piled(model, s)


# An orthonormal system has exactly its gain, but for rounding; of a half type, that of its elements averages
# out.
CLOSE_GAIN = 2e-3


def _other_law(s: Statistics, law: fastinit.Initializer) -> list[str]:
    """What is wrong with a tensor whose elements are not independent."""
    name = type(law).__name__
    if name == "Orthogonal":
        if not s.gram:
            return []
        if s.orthogonality is None or s.orthogonality[1] > s.rounding:
            return ["its units are not orthonormal"]
        config = law.get_config()
        gain, wanted = s.orthogonality[0], abs(config["gain"])
        # Square blocks side by side add up.
        if all(abs(gain / (wanted * math.sqrt(n)) - 1) > CLOSE_GAIN for n in {1, config["blocks"]}):
            return [f"the gain is {gain:.4g}, and should be {wanted:.4g}"]
    elif name in ("Identity", "Dirac"):
        gain = law.get_config().get("gain", 1.0)
        if not (is_identity(s) or s.size == 1) or gain not in (s.low, s.high):
            return [f"it is no {name.lower()}"]
    elif name == "Sparse":
        zeros = math.ceil(law.get_config()["sparsity"] * s.tensor.shape[0]) * s.tensor.shape[-1]
        if s.zeros != zeros:
            return [f"{s.zeros:,} elements are 0, and {zeros:,} should be"]
        others = s.size - zeros
        std, wanted = s.rms * math.sqrt(s.size / max(others, 1)), law.get_config()["stddev"]
        if others >= _schemes.FEW and abs(std / wanted - 1) > max(
            _schemes.CLOSE, _schemes.ERRORS / math.sqrt(2 * others)
        ):
            return [f"the std of what is not 0 is {std:.4g}, and should be {wanted:.4g}"]
    elif name == "DeltaOrthogonal":
        into, out = s.tensor.shape[s.tensor.in_axis], s.tensor.shape[s.tensor.out_axis]
        gain, wanted = s.rms * math.sqrt(s.size / into), abs(law.get_config()["gain"])
        if s.size - s.zeros > into * out or abs(gain / wanted - 1) > CLOSE_GAIN + s.eps:
            return ["it is no orthogonal matrix amid zeros"]
    return []
