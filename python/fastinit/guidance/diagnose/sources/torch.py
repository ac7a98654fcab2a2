"""Tensors, modules and files of PyTorch, which is imported for files only; otherwise it is loaded already."""

from __future__ import annotations

import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastinit.theory.parse import resolve

from ..order import Order
from ..roles import describe, hidden_sizes, role_of
from ..tensors import Skipped
from .arrays import unreadable
from .elements import bits_of, is_readable, parsing, read_array

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastinit._typing import Array

    from ..order import Run
    from ..tensors import Tensor

# Of files that `torch.save` writes.
SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")

# Where those modules of PyTorch are that change the place of elements, or leave most of them as they are.
_PASSING = ("dropout", "flatten", "padding", "pixelshuffle", "pooling", "upsampling")


def is_tensor(x: Any) -> bool:
    """Whether it is a tensor of PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def is_module(x: Any) -> bool:
    """Whether it is a module of PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.nn.Module)


def scales_output(x: Any) -> bool:
    """Whether a model of transformers says that it scales the output of an embedding that it ties."""
    return bool(getattr(getattr(x, "config", None), "scale_decoder_outputs", False))


def from_tensor(name: str, value: Any, layout: str = "out_in", **known: Any) -> Tensor | Skipped:
    """A tensor of PyTorch; its memory is read in place."""
    torch: Any = sys.modules["torch"]
    dtype = str(value.dtype).removeprefix("torch.")
    if not is_readable(dtype):
        integer = not (value.is_complex() or value.is_floating_point() or value.is_quantized)
        return unreadable(name, dtype, integer=integer)
    if value.is_meta:
        return Skipped(name, "it is on the meta device and has no values")
    plain = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
    if type(value) not in plain and hasattr(value, "to_local"):
        return Skipped(name, "it is distributed; pass its full_tensor() instead")
    if value.layout is not torch.strided:
        return Skipped(name, f"its layout {value.layout} is not read")
    with torch.no_grad():
        view = value.detach().view({1: torch.uint8, 2: torch.int16}.get(value.element_size(), value.dtype))

    def read(start: int, stop: int, step: int) -> Iterator[Array]:
        yield from read_array(view.cpu().numpy().view(bits_of(dtype)), dtype, start, stop, step)

    shape = tuple(value.shape)
    memory = (str(value.device), value.data_ptr(), value.stride(), shape, dtype)
    return describe(name, shape, dtype, read, layout, memory=memory, **known)


def load(path: Path) -> Mapping[Any, Any]:
    """What a file of `torch.save` contains. Nothing in it is executed; its tensors are mapped into memory.

    Raises:
        ValueError: If it is damaged, contains other objects than tensors and plain values, or no mapping.
        ImportError: If PyTorch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"reading {path.name} needs torch: pip install torch") from error
    with parsing(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the format of old files
        # Files of PyTorch before 1.6 are no archives, and cannot be mapped.
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except pickle.UnpicklingError as error:  # Its text says how to execute the file nevertheless.
            name = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = f"an object of {name[1]}" if name else "something else than tensors and plain values"
            raise ValueError(
                f"{what} is in it, and is not loaded; save the state_dict() of the model"
            ) from None
        except RuntimeError as error:
            if "TorchScript" in str(error):
                raise ValueError(
                    "it is TorchScript; save the state_dict() of what torch.jit.load returns"
                ) from None
            raise
        for value in _leaves(found):
            if value.layout is torch.strided and not value.is_meta:
                stored = value.untyped_storage().nbytes()
                if value.numel() * value.element_size() > stored:
                    raise ValueError(f"a tensor of shape {tuple(value.shape)!s:.80} has {stored:,} bytes")
    if is_tensor(found):
        return {"tensor": found}
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} has an object of type {type(found).__name__}, and not a state dict")
    return found


def _leaves(value: Any) -> Iterator[Any]:
    """The tensors in what was loaded."""
    waiting = [value]
    seen: set[int] = set()  # A mapping or a list may contain itself.
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if is_tensor(one):
            yield one
        elif isinstance(one, Mapping):
            waiting.extend(one.values())
        elif isinstance(one, (list, tuple)):
            waiting.extend(one)


def from_module(model: Any) -> Iterator[Tensor | Skipped]:
    """The parameters and buffers of a module, under all their names."""
    torch: Any = sys.modules["torch"]
    for path, module in model.named_modules():
        for leaf, value in module.named_parameters(recurse=False, remove_duplicate=False):
            name = f"{path}.{leaf}".lstrip(".")
            if isinstance(value, torch.nn.parameter.UninitializedTensorMixin):
                yield Skipped(name, "it has no shape yet")
            else:
                yield from_tensor(name, value, **_known(module, name, leaf, tuple(value.shape)))
        for leaf, value in module.named_buffers(recurse=False, remove_duplicate=False):
            name = f"{path}.{leaf}".lstrip(".")
            role = role_of(name, tuple(value.shape))
            yield from_tensor(name, value, role=role if role.startswith("running") else "buffer")


def _known(module: Any, name: str, leaf: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """What the type of a module tells about one of its parameters."""
    torch: Any = sys.modules["torch"]
    nn, kind, guess = torch.nn, type(module).__name__, role_of(name, shape)
    if leaf.startswith("bias") or leaf.endswith("_bias"):
        return {"role": guess if len(shape) < 2 else "parameter", "hidden": hidden_sizes(leaf, shape)}
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return {"role": "position" if guess == "position" else "embedding", "certain": True}
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        role = "recurrent" if leaf.startswith("weight_hh") else "kernel"
        return {"role": role, "certain": True, "hidden": (module.hidden_size,)}
    if isinstance(module, nn.PReLU):
        return {"role": "parameter"}
    if leaf == "weight" and (len(shape) == 1 or isinstance(module, (nn.LayerNorm, nn.RMSNorm))):
        return {"role": "scale", "norm": "norm" in kind.lower()}
    certain = {"role": "kernel", "certain": True}
    if isinstance(module, nn.modules.conv._ConvNd) and leaf == "weight":
        return certain | {"groups": module.groups, "transposed": module.transposed}
    if kind == "Conv1D" and hasattr(module, "nf"):  # That of transformers is a dense layer with (in, out).
        return certain | {"layout": "in_out"}
    if isinstance(module, nn.Linear) and leaf == "weight":
        return certain
    if guess == "kernel" and not re.search(r"weight|kernel|^w\d*$|lora|proj|original", leaf.lower()):
        guess = "parameter"  # A parameter with another name usually has another use.
    return {"role": guess}


def runs_of(model: Any) -> list[Run]:
    """The layers that follow each other in `Sequential`s; of other containers the order is not known."""
    order = Order()
    _walk(model, "", order)
    order.end()
    return order.runs


def _walk(module: Any, path: str, order: Order) -> None:
    """Adds what a module contains."""
    torch: Any = sys.modules["torch"]
    nn, kind, own = torch.nn, type(module), module._parameters
    inside = [(f"{path}{name}.", child) for name, child in module.named_children()]
    if isinstance(module, nn.Sequential) and kind.forward is nn.Sequential.forward:
        for name, child in inside:
            _walk(child, name, order)
    elif isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)) and own.get("weight") is not None:
        order.layer(f"{path}weight", None if own.get("bias") is None else f"{path}bias")
    elif isinstance(module, nn.Identity) or kind.__module__.rpartition(".")[2] in _PASSING:
        pass
    elif "norm" in kind.__name__.lower() and not inside:
        order.normalization()
    elif kind.__module__ == "torch.nn.modules.activation" and not inside:
        try:
            order.activation(resolve(module))
        except (TypeError, ValueError):  # It is random, or not an activation.
            order.unknown()
    else:
        order.unknown()
        for name, child in inside:
            _walk(child, name, order)
            order.unknown()
