"""The role of a tensor, from its name and its shape."""

from __future__ import annotations

import functools
import math
import re
from typing import TYPE_CHECKING, Any

from .tensors import Tensor

if TYPE_CHECKING:
    from .tensors import Read

_BUFFER = re.compile(
    r"mask|inv_freq|freqs|rotary|position_ids|relative_position_index|num_batches|anchor|(^|[._/])filt|causal"
    r"|blur|_cached|weight_[ug]$|original0$|rel_pos_idx"
    # What optimizers keep.
    r"|(^|[._/])(exp_avg\w*|max_exp_avg\w*|momentum_buffer|square_avg)$|(^|[._/])(opt|optimizer)(_state)?[._/]"
    r"|_(momentum|velocity|accumulator)(:\d+)?$"
)
_POSITION = re.compile(r"(^|[._/])(pe|pos|wpe)([._/]|$)|pos_|_pos|position|sincos")
_TOKEN = re.compile(r"token[s]?$|[._/]latents?$|queries$|query_embed$|prototype")
_PARAMETER = re.compile(
    r"(^|[._/])(a_log|d|dt_(proj[./])?bias|a|tau|temperature|logit_scale|alpha|lambda\w*|ls\d?|gate)$|_table$"
)
_EMBEDDING = re.compile(
    r"embed|(^|[._/]|\w_)emb([._/]|$)|(^|[._/])(wte|shared|codebook|lookup_table)([._/]|$)"
)
_SCALE = re.compile(r"(^|_)(gamma\w*|scale|layer_?scale\w*|ls\d?|gain)$|^g$")
_NORM = re.compile(r"norm|(^|[._/])(bn|ln|gn)_?\w?\d*[._/]")
_OF_NORM = re.compile(r"(norm\w*|(^|[._/])(bn|ln|gn)_?\w?\d*)[._/](weight|scale|gamma)$")
_BIAS = re.compile(r"bias|^beta$|^b\d*$|offset$")
_OUTPUT = re.compile(r"(^|[._/])(heads?|classifier|(to_)?logits|out|output|final|predictions?)([._/]|$)")
_NUMBER = re.compile(r"\d+(?=[./])")  # before the last part of a name, where no role depends on it
_LAYER = re.compile(r"(^|[./]|layer|block|stage)\d+[./]")


def leaf_of(name: str) -> str:
    """The last part of a name, without the suffix that TensorFlow appends."""
    return re.split(r"[./]", re.sub(r":\d+$", "", name))[-1].lower()


def role_of(name: str, shape: tuple[int, ...]) -> str:
    """The role of a tensor.

    Returns:
        `"kernel"`, `"recurrent"` (a kernel on a hidden state), `"embedding"`, `"bias"`, `"scale"` (of a
        normalization), `"running_mean"`, `"running_var"`, `"buffer"` (computed, not learned), `"position"` (a
        table of positions) or `"parameter"` (anything else that may be learned).
    """
    lower, leaf = name.lower(), leaf_of(name)
    flat = len(shape) < 2 or max(shape) == math.prod(shape)
    if leaf in ("running_mean", "moving_mean"):
        return "running_mean"
    if leaf in ("running_var", "moving_variance"):
        return "running_var"
    if _BUFFER.search(lower):
        return "buffer"
    if _PARAMETER.search(lower):
        return "parameter"
    if _BIAS.search(leaf) and flat:
        return "bias"
    if _SCALE.search(leaf) and flat:
        return "scale"
    if len(shape) > 1 and _OF_NORM.search(lower):
        return "scale"  # Over several axes.
    if leaf.startswith(("weight_hh", "recurrent")) and not _BIAS.search(leaf):
        return "recurrent"
    if len(shape) >= 2:
        if _BIAS.search(leaf) or _SCALE.search(leaf) or _TOKEN.search(lower):
            return "parameter"
        if len(shape) <= 3 and _POSITION.search(lower) and "proj" not in lower:
            return "position"
        return "embedding" if len(shape) == 2 and _EMBEDDING.search(lower) else "kernel"
    return "scale" if len(shape) == 1 and leaf == "weight" else "parameter"


def is_output(tensor: Tensor) -> bool:
    """Whether a kernel makes the output of a model, by its names."""
    names = [name.lower() for name in tensor.names]
    return any(_OUTPUT.search(name) and not _LAYER.search(name) for name in names)


def hidden_sizes(leaf: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The possible sizes of the state of a recurrent layer of PyTorch, which has 1, 3 or 4 gates."""
    if not re.match(r"(weight|bias)_(ih|hh|hr)", leaf):
        return ()
    return tuple(shape[0] // gates for gates in (1, 3, 4) if shape[0] % gates == 0)


def describe(name: str, shape: tuple[int, ...], dtype: str, read: Read, layout: str, **known: Any) -> Tensor:
    """A tensor; what is not in `known` follows from its name."""
    told = _told(_NUMBER.sub("0", name), shape)
    return Tensor((name,), shape, dtype, layout=layout, read=read, **(told | known))


@functools.lru_cache(maxsize=1024)
def _told(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """What a name tells, whatever the number of its layer."""
    return {
        "role": role_of(name, shape),
        "norm": bool(_NORM.search(name.lower())),
        "hidden": hidden_sizes(leaf_of(name), shape),
    }
