"""Where tensors come from: arrays, files, and the objects of frameworks, each in a separate file.

Frameworks are touched only here. None is imported, but PyTorch to read its files.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastinit._files import check_input

from ..order import assumed
from ..tensors import Skipped
from . import keras, torch
from .arrays import from_array, is_array
from .checkpoints import check_nesting, has_tensors, unwrapped
from .files import from_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..order import Run
    from ..tensors import Tensor


def runs_of(x: Any, tensors: list[Tensor]) -> list[Run]:
    """The layers of `x` that follow each other, as far as it is known."""
    if keras.is_layer(x):
        return keras.runs_of(x)
    return torch.runs_of(x) if torch.is_module(x) else assumed(tensors)


def tensors_of(x: Any, layout: str | None) -> tuple[list[Tensor], dict[str, str], tuple[str, ...]]:
    """The tensors of `x`, those that share memory as one; why others are skipped, by name; what was assumed.

    Raises:
        ValueError: If a file is damaged or of an unknown kind, or there are no tensors.
        TypeError: If `x` is of a kind that cannot be diagnosed.
    """
    found: Iterable[Tensor | Skipped]
    notes: list[str] = []
    if (
        isinstance(x, (str, os.PathLike))
        and Path(x).suffix.lower() in torch.SUFFIXES
        and not Path(x).is_dir()
    ):
        check_input(x)
        found, notes = _from_checkpoint(torch.load(Path(x)), file=Path(x))
    elif isinstance(x, (str, os.PathLike)):
        found = from_path(Path(x))
    elif keras.is_layer(x):
        found = keras.from_layer(x)
    elif torch.is_module(x):
        found = torch.from_module(x)
    elif isinstance(x, Mapping):
        found, notes = _from_checkpoint(x)
    elif is_array(x):
        found = _from_mapping({"array": x})
    else:
        raise TypeError(
            "can diagnose an array, a mapping of names to arrays, a path, a module of PyTorch or a layer of "
            f"Keras; got {type(x).__name__}"
        )
    merged: dict[object, Tensor] = {}
    skipped: dict[str, str] = {}
    for tensor in found:
        if isinstance(tensor, Skipped):
            skipped.update({tensor.name: tensor.why} if tensor.why else {})
            continue
        key = tensor.name if tensor.memory is None or tensor.size == 0 else tensor.memory
        other = merged.get(key)
        if other is not None:
            roles = {other.role, tensor.role}
            tied = other.tied or (roles == {"embedding", "kernel"} and not torch.scales_output(x))
            role = "embedding" if "embedding" in roles else other.role
            tensor = replace(other, names=(*other.names, *tensor.names), role=role, tied=tied)
        elif layout is not None:
            tensor = replace(tensor, layout=layout, certain=True)
        merged[key] = tensor
    if not merged and not skipped:
        where = f"{x} has" if isinstance(x, (str, os.PathLike)) else "there are"
        hint = " (a model of Keras has none until it is built)" if keras.is_layer(x) else ""
        raise ValueError(f"{where} no tensors of floating-point numbers to diagnose{hint}")
    return _affine(merged.values()), skipped, tuple(notes)


def _affine(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Tensors; those with a bias for each element are scales, as of a normalization over several axes."""
    tensors = list(tensors)
    shapes = {tensor.name: tensor.shape for tensor in tensors if len(tensor.shape) > 1}
    return [
        replace(tensor, role="scale", norm=True)
        if tensor.role == "kernel" and shapes.get(f"{tensor.name.removesuffix('weight')}bias") == tensor.shape
        else tensor
        for tensor in tensors
    ]


def _from_checkpoint(
    x: Mapping[Any, Any], file: Path | None = None
) -> tuple[Iterable[Tensor | Skipped], list[str]]:
    check_nesting(x, "the mapping" if file is None else str(file))
    weights, notes, skipped = unwrapped(x, is_file=file is not None)
    return itertools.chain(_from_mapping(weights, is_file=file is not None), skipped), notes


def _from_mapping(
    x: Mapping[Any, Any], prefix: str = "", *, is_file: bool = False
) -> Iterator[Tensor | Skipped]:
    """The tensors of a mapping; in a file there may be other things beside them."""
    for key, value in x.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if not is_file or has_tensors(value):
                yield from _from_mapping(value, f"{name}/", is_file=is_file)
        elif torch.is_tensor(value):
            yield torch.from_tensor(name, value)
        elif is_file and not is_array(value):
            why = f"it is of type {type(value).__name__}, and not a tensor"
            yield Skipped(name, "" if isinstance(value, (int, str, type(None))) else why)
        else:
            yield from_array(name, value, "in_out")
