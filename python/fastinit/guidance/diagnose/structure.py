"""Problems of a tensor that do not depend on its distribution: equal units, zeros, repeated values.

Sparse tensors, identities and branches that start at zero are recognized and are not problems. A problem is
what keeps units equal, or what no continuous distribution produces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .results import Code, Severity
from .zeros import judge_zero

if TYPE_CHECKING:
    from .model import Model
    from .statistics import Statistics


def judge_structure(model: Model, s: Statistics) -> bool:
    """Whether a problem or a known structure explains the elements, whatever their distribution."""
    if (s.constant and s.size > 1) or s.low == s.high == 0.0:
        s.scheme = constant_name(s.low)
        if s.low == 0.0:
            judge_zero(model, s)
        else:
            _constant(model, s)
        return True
    if is_identity(s):
        s.scheme = "identity" if len(s.tensor.shape) == 2 else "dirac"
        return True
    if s.even_zeros and s.zeros > s.in_empty_units:
        s.scheme = f"sparse({s.zeros / s.size:.3g})"
        return True
    return find_units(model, s) or _low_rank(model, s) or find_piles(model, s)


def _low_rank(model: Model, s: Statistics) -> bool:
    if not s.rank or model.trained:
        return False
    units = s.tensor.shape[s.tensor.out_axis]
    full = min(units, s.size // units)
    text = (
        f"its rank is about {s.rank}, and that of independent elements {full}, so most of what enters is "
        "lost; draw each element at random"
    )
    model.add(s, Code.LOW_RANK, Severity.WARNING, text)
    return True


def _constant(model: Model, s: Statistics) -> None:
    """Judges a kernel of one value: its units stay equal if those above it are, too."""
    if max(s.tensor.shape) == s.size:
        return  # It has one unit, or is a vector that is no kernel.
    text = f"all {s.size:,} elements are {s.low:.4g}, so all units are equal and only the sum of the inputs "
    text += "passes"
    run, at = model.places.get(s.name, (None, 0))
    stay = model.constants == len(model.kernels)
    if run is not None:
        above = [model.by_name.get(layer.kernel) for layer in run.layers[at + 1 : at + 2]]
        stay = any(t is not None and t.constant for t in above)
    if stay:
        text += "; they get the same gradient and stay equal"
    text += "; draw them at random, as with fastinit.lecun_normal"
    model.add(s, Code.CONSTANT, Severity.SEVERE if stay else Severity.WARNING, text)


def is_identity(s: Statistics) -> bool:
    """Whether the elements are zeros and, at most once for each unit, another value."""
    into, out = s.tensor.shape[s.tensor.in_axis], s.tensor.shape[s.tensor.out_axis]
    others = s.at_high if s.low == 0.0 else s.at_low if s.high == 0.0 else 0
    return others + s.zeros == s.size and 0 < others <= max(into, out)


def find_units(model: Model, s: Statistics) -> bool:
    """Whether some units are equal or zero by mistake."""
    tensor = s.tensor
    embedding = tensor.role == "embedding"
    for axis, what in ((tensor.out_axis, "output"), (tensor.in_axis, "input")):
        kind = ("row", "column")[axis] if embedding else f"{what} unit"
        total = tensor.shape[axis]
        if empty := s.empty.get(axis):
            text = f"{len(empty):,} of {total:,} {kind}s (axis {axis}) are zero: {_some(empty, ', ')}"
            # The row of a padding token, or of a vocabulary that was made longer. A matrix that is known
            # by its name only may be an embedding.
            padding = embedding or (not tensor.certain and len(empty) == 1 and len(tensor.shape) == 2)
            if padding and axis == 0:
                model.add(s, Code.ZERO_UNITS, Severity.INFO, text)
            else:
                text += "; nothing passes through them, so draw them like the others"
                model.add(s, Code.ZERO_UNITS, Severity.WARNING, text)
                return True
        if groups := s.equal.get(axis):
            shown = _some([_some(group, " = ") for group in groups], "; ", 3)
            count = sum(map(len, groups))
            text = f"{count:,} of {total:,} {kind}s (axis {axis}) are equal to another one: {shown}"
            if what == "output" and not embedding:
                own_input = tensor.groups > 1 or tensor.shape[tensor.in_axis] == 1
                severity = Severity.INFO if own_input else Severity.WARNING
                text += "; until the kernel above tells them apart they are one, so draw each one at random"
            else:
                severity = Severity.WARNING
                text += "; what enters there cannot be told apart, so draw each one at random"
            model.add(s, Code.IDENTICAL_UNITS, severity, text)
            return True
    return False


# A value with a thousandth of all elements, eight times as many as the values next to it. Clipping a normal
# tensor at three standard deviations leaves 0.00135 at each bound.
PILED, PILED_TIMES = 1e-3, 8


def find_piles(model: Model, s: Statistics) -> bool:
    """Whether a value occurs more often than a continuous distribution allows."""
    sample = s.sample
    if sample.size < 512 or model.trained:
        return False
    if s.at_low + s.at_high + s.zeros * (s.low < 0.0 < s.high) == s.size and s.low in (0.0, -s.high):
        if s.low < 0.0:
            return False  # Random signs, perhaps with zeros: only their size matters.
        s.scheme = "zeros and ones" if s.high == 1.0 else f"zeros and {s.high:.4g}"
        return True  # A mask.
    values, counts = np.unique(sample, return_counts=True)
    if len(values) >= 32:
        for at in dict.fromkeys((0, len(values) - 1, int(counts.argmax()))):
            near = np.mean(np.delete(counts[max(0, at - 8) : at + 9], min(at, 8)))
            share = counts[at] / sample.size
            if share < PILED or counts[at] < max(10, PILED_TIMES * near):
                continue
            value = float(values[at])
            if value == 0.0 and s.zeros - s.in_empty_units < PILED * s.size:
                continue
            text = f"{share:.2%} of the elements are exactly {value:.6g}, "
            if value in (s.low, s.high):
                text += "the bound of all, so values beyond were clipped; use fastinit.truncated_normal"
                model.add(s, Code.CLIPPED, Severity.WARNING, text)
            else:
                text += "as from a mask or a sampler of few bits; draw them in float32 and round once"
                model.add(s, Code.SPIKE, Severity.WARNING, text)
            return True
    _few_values(model, s, len(values))
    return False


def _few_values(model: Model, s: Statistics, distinct: int) -> None:
    sample = s.sample
    # Numbers of float32 that were rounded to a half type before have zeros in their last bits.
    half = sample.dtype == np.float32 and not bool((sample.view(np.uint32) & 0x1FFF).any())
    if half and not bool((sample.view(np.uint32) & 0xFFFFF).any()):
        return  # Numbers of 8 bits, of which there are few.
    text = f"only {distinct:,} different values are among {sample.size:,} elements, "
    if not half and distinct < sample.size / 2 and sample.size >= 1024:
        text += "so the sampler repeats itself or has few bits; draw the tensor again, as with fastinit"
        model.add(s, Code.FEW_VALUES, Severity.WARNING, text)
    elif half and sample.size >= 8192 and distinct <= 256:
        text += f"far fewer than {s.tensor.dtype} has; fastinit draws in float32 and rounds once"
        model.add(s, Code.FEW_VALUES, Severity.INFO, text)


def constant_name(value: float) -> str:
    """The name of a tensor of one value."""
    return {0.0: "zeros", 1.0: "ones"}.get(value, f"constant({value:.4g})")


def _some(items: list[int] | list[str], separator: str, most: int = 4) -> str:
    return separator.join(map(str, items[:most])) + (f"{separator}..." if len(items) > most else "")
