"""What is wrong with a tensor however its elements are distributed: equal units, zeros, values that pile up.

Sparse tensors, identities and branches that begin as nothing are plain, and named; a fault is what keeps
units equal, or what no law without atoms has.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .tensors import is_output

if TYPE_CHECKING:
    from .findings import Statistics
    from .siblings import Model
    from .tensors import Tensor


def judge_structure(model: Model, s: Statistics) -> bool:
    """Whether something is wrong, or plain, that is no matter of how the elements are distributed."""
    if s.low == s.high == 0.0:
        s.scheme = "zeros"
        _zero(model, s)
        return True
    if s.constant and s.size > 1:
        s.scheme = constant_name(s.low)
        text = (
            f"all {s.size:,} elements are {s.low:.4g}: all units compute the same and get the same "
            "gradient, so they stay equal. Draw the elements at random, as by fastinit.lecun_normal"
        )
        model.add(s, "constant", "severe", text)
        return True
    if is_identity(s) or _is_sparse(s):
        return True
    return units(model, s) or piled(model, s)


def is_identity(s: Statistics) -> bool:
    """Whether the elements are zeros and, at most once for each unit, another value; if so, names it."""
    into, out = s.tensor.shape[s.tensor.in_axis], s.tensor.shape[s.tensor.out_axis]
    others = s.at_high if s.low == 0.0 else s.at_low if s.high == 0.0 else 0
    if others + s.zeros != s.size or others == 0 or others > max(into, out):
        return False
    s.scheme = "identity" if len(s.tensor.shape) == 2 else "dirac"
    return True


def _is_sparse(s: Statistics) -> bool:
    """Whether each unit has as many zeros as the others, as of an initializer for sparse weights."""
    if not s.even_zeros or s.zeros <= s.in_empty_units:
        return False
    s.scheme = f"sparse({s.zeros / s.size:.3g})"
    return True


def _zero(model: Model, s: Statistics) -> None:
    """A tensor of weights that is zero."""
    text = "all elements are 0"
    alike = model.alike(s)
    whole_group = len(alike) > 1 and all(t.low == t.high == 0.0 for t in alike)
    if any("lora_b" in name.lower() for name in s.tensor.names):
        model.add(s, "all_zero", "info", f"{text}, as is usual for the second matrix of LoRA")
    elif is_output(s.tensor) and model.zeros < len(model.kernels):
        text += ": the output begins at its bias, as some models want; in the first step nothing "
        model.add(s, "all_zero", "info", text + "reaches the layers below")
    elif whole_group and model.zeros <= len(model.kernels) / 2:
        text += f", as are those of all {len(alike)} layers of its kind: branches that begin as nothing"
        model.add(s, "all_zero", "info", text)
    else:
        text += ": nothing passes, forward or backward, and units stay equal. Draw them at random, as by "
        model.add(s, "all_zero", "severe", text + "fastinit.lecun_normal")


def units(model: Model, s: Statistics) -> bool:
    """Whether some units are equal, or zero."""
    tensor = s.tensor
    embedding = tensor.role == "embedding"
    for axis, what in ((tensor.out_axis, "output"), (tensor.in_axis, "input")):
        kind = ("row", "column")[axis] if embedding and len(tensor.shape) == 2 else f"{what} unit"
        total = tensor.shape[axis]
        if empty := s.empty.get(axis):
            text = f"{len(empty):,} of {total:,} {kind}s (axis {axis}) are zero: {_some(empty)}"
            # The row of a padding token; a vocabulary that was made longer. What nobody calls an
            # embedding may be one.
            padding = embedding or (not tensor.certain and len(empty) == 1 and len(tensor.shape) == 2)
            severity = "info" if padding and axis == 0 else "warning"
            if severity == "warning":
                text += ". They pass nothing on; draw them like the others"
            model.add(s, "zero_units", severity, text)
            if severity != "info":
                return True
        if groups := s.equal.get(axis):
            count = sum(map(len, groups))
            text = (
                f"{count:,} of {total:,} {kind}s (axis {axis}) are equal to another one: "
                + "; ".join(" = ".join(map(str, group[:4])) for group in groups[:3])
                + (" ..." if len(groups) > 3 or len(groups[0]) > 4 else "")
            )
            own_input = tensor.groups > 1 or tensor.size == total * math.prod(_spatial(tensor))
            if what == "output" and not embedding:
                severity = "info" if own_input else "severe"
                text += ". They get the same gradient and stay equal; draw each at random"
            else:
                severity = "warning"
                text += ". What enters there cannot be told apart; draw each at random"
            model.add(s, "identical_units", severity, text)
            return True
    return False


# A value with a thousandth of all elements, eight times more than values next to it; clipping a normal
# tensor at three standard deviations leaves 0.00135 at each bound.
PILED, PILED_TIMES = 1e-3, 8


def piled(model: Model, s: Statistics) -> bool:
    """Whether a value occurs more often than a law without atoms allows."""
    sample = s.sample
    if sample.size < 512 or model.trained:
        return False
    values, counts = np.unique(sample, return_counts=True)
    if len(values) >= 32:
        for at in dict.fromkeys((0, len(values) - 1, int(counts.argmax()))):
            near = np.mean(np.delete(counts[max(0, at - 8) : at + 9], min(at, 8)))
            part = counts[at] / sample.size
            if part < PILED or counts[at] < max(10, PILED_TIMES * near):
                continue
            value = float(values[at])
            if value == 0.0 and s.zeros - s.in_empty_units < PILED * s.size:
                continue
            bound = value in (s.low, s.high)
            model.add(
                s,
                "clipped" if bound else "spike",
                "warning",
                f"{part:.2%} of the elements are exactly {value:.6g}, "
                + ("the bound of all: " if bound else "and the values beside it are rare: ")
                + (
                    "values beyond were moved there. Draw from a truncated law instead, as "
                    "fastinit.truncated_normal"
                    if bound
                    else "a sampler without enough bits, or a mask. Draw the tensor again in float32, "
                    "as by fastinit, and round it once"
                ),
            )
            return True
    _few(model, s, sample, len(values))
    return False


def _few(model: Model, s: Statistics, sample: np.ndarray, distinct: int) -> None:
    """Finds that there are fewer values than there should be."""
    bits = sample.view(np.uint32) if sample.dtype == np.float32 else None
    # Those of float32 that were rounded to a half type before have zeros in their last bits.
    half = bits is not None and not bool((bits & 0x1FFF).any())
    if not half and distinct < sample.size / 2 and sample.size >= 1024:
        text = f"only {distinct:,} values among {sample.size:,} elements: the sampler repeats itself, or "
        model.add(s, "few_values", "warning", text + "has few bits. Draw the tensor again, as by fastinit")
    elif half and sample.size >= 8192 and distinct <= 256:
        text = f"only {distinct} values among {sample.size:,} elements, far fewer than {s.tensor.dtype} has"
        model.add(s, "few_values", "info", text + ". fastinit draws in float32 and rounds once")


def constant_name(value: float) -> str:
    """What a tensor of one value is called."""
    return {0.0: "zeros", 1.0: "ones"}.get(value, f"constant({value:.4g})")


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:4])) + (" ..." if len(numbers) > 4 else "")


def _spatial(tensor: Tensor) -> list[int]:
    axes = {tensor.in_axis, tensor.out_axis}
    return [size for axis, size in enumerate(tensor.shape) if axis not in axes]
