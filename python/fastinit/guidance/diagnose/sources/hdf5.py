"""Files of Keras, by h5py: `.keras`, `.weights.h5`, and whole models in `.h5` or `.hdf5`.

Keras numbers the variables of a layer in its files. Their names follow from the type of the layer. A `.keras`
file and a whole model in `.h5` tell it, with the configuration; in `.weights.h5` the name of the layer does.
Nothing outside the file is opened, whatever its links say.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
import re
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit._registry import install_hint

from ..roles import describe
from ..tensors import Skipped
from .arrays import unreadable
from .elements import bits_of, file_reader, is_readable, parsing, read_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastinit._typing import Array

    from ..tensors import Tensor

    Open = Callable[[], Any]

_RECURRENT = ("kernel", "recurrent_kernel", "bias")
_SEPARABLE = ("depthwise_kernel", "pointwise_kernel", "bias")
# The variables of a layer in their order, by the end of its type; the last line applies to all others.
_VARIABLES = {
    "batchnormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "normalization": ("gamma", "beta"),
    "rmsnormalization": ("scale",),
    "embedding": ("embeddings",),
    **dict.fromkeys(("lstm", "gru", "rnn", "cell", "convlstm1d", "convlstm2d", "convlstm3d"), _RECURRENT),
    **dict.fromkeys(("separableconv1d", "separableconv2d"), _SEPARABLE),
    "prelu": ("alpha",),
    "": ("kernel", "bias"),
}
# The most bytes that one compressed byte becomes.
_DEFLATE = 1032
_OPTIMIZERS = ("optimizer", "optimizer_weights")


def from_hdf5(path: Path) -> Iterator[Tensor | Skipped]:
    """The weights in a file; those of the optimizer are skipped."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"reading {path.name} needs h5py: {install_hint('hdf5')}") from error
    start, config = 0, None
    if path.suffix.lower() == ".keras":
        with parsing(path):
            start, config = _member(path)

    @contextlib.contextmanager
    def opened() -> Iterator[Any]:
        with path.open("rb") as raw, h5py.File(_Window(raw, start), "r") as file:
            yield file

    with parsing(path), opened() as file:
        found = list(_tensors(h5py, file, config, functools.partial(_read, path, opened), path, start))
    yield from found


class _Window(io.RawIOBase):
    """A file from a place on, as if it began there."""

    def __init__(self, file: io.BufferedReader, start: int) -> None:
        self.file, self.start = file, start

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, at: int, whence: int = io.SEEK_SET) -> int:
        return self.file.seek(at + self.start if whence == io.SEEK_SET else at, whence) - self.start

    def readinto(self, buffer: Any) -> int:
        return self.file.readinto(buffer)


def _member(path: Path) -> tuple[int, Any]:
    """Where the weights begin in a `.keras` file, and the configuration of the model."""
    with zipfile.ZipFile(path) as archive:
        weights = archive.getinfo("model.weights.h5")
        if weights.compress_type != zipfile.ZIP_STORED:
            raise ValueError("its weights are compressed, as Keras never does")
        about = archive.getinfo("config.json")
        with archive.open(about) as opened:
            config = json.loads(opened.read(min(about.file_size, _DEFLATE * path.stat().st_size)))
    with path.open("rb") as file:
        file.seek(weights.header_offset)
        header = file.read(30)
    name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    return weights.header_offset + 30 + name + extra, config


def _tensors(
    h5py: Any, file: Any, config: Any, read: Callable[..., Any], path: Path, start: int
) -> Iterator[Tensor | Skipped]:
    if config is None and "model_config" in file.attrs:
        config = json.loads(file.attrs["model_config"])
    layers = dict(_layers(config))
    for place in _OPTIMIZERS:
        if place in file:
            yield Skipped(place, "it is the state of an optimizer")
    order = {name: at for at, name in enumerate(layers)}
    found = list(_datasets(h5py, file))
    if order:  # Groups are in the order of their names.
        found.sort(key=lambda one: max(order.get(name, -1) for name in one[0]))
    for names, group, leaf, dataset in found:
        # The innermost layer that the configuration has: it does not have the cells of recurrent layers.
        layer = next((layers[name] for name in reversed(names) if name in layers), {})
        kind, settings = str(layer.get("class_name", group)), layer.get("config", {})
        leaf = _leaf(kind, settings, int(leaf), len(dataset.parent)) if leaf.isdecimal() else leaf
        name = "/".join((*names, leaf))
        declared = settings.get(f"{leaf}_initializer") or settings.get(
            f"{leaf.removesuffix('_kernel')}_initializer"
        )
        known = {
            "certain": True,
            "norm": "norm" in kind.lower(),
            "transposed": "transpose" in kind.lower(),
            "orthogonal": isinstance(declared, dict)
            and str(declared.get("class_name")).startswith("Orthogonal"),
        }
        yield _tensor(name, dataset, read, path, start, known)


def _layers(config: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The configurations of all layers, at any depth, by name."""
    waiting = [config]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            inner = one.get("config")
            if "class_name" in one and isinstance(inner, dict) and isinstance(inner.get("name"), str):
                yield inner["name"], one
            waiting.extend(reversed(one.values()))
        elif isinstance(one, list):
            waiting.extend(reversed(one))


def _datasets(h5py: Any, file: Any) -> Iterator[tuple[tuple[str, ...], str, str, Any]]:
    """The names of the layers around a variable, the innermost group, its number or name, and itself."""
    root = file.get("model_weights", file)
    seen = set()
    waiting: list[tuple[tuple[str, ...], str, Any]] = [((), "model", root)]
    while waiting:
        names, around, group = waiting.pop()
        place = h5py.h5o.get_info(group.id).addr
        if place in seen:  # Links may form a circle.
            continue
        seen.add(place)
        groups = []
        for key in sorted(group, key=lambda key: (len(key) if key.isdecimal() else 0, key)):
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise ValueError(f"{key!r:.200} is a link to another place")
            value = group[key]
            if isinstance(value, h5py.Dataset):
                yield names or ("model",), around, key.removesuffix(":0"), value
            elif key not in _OPTIMIZERS:
                groups.append((_names(names, key, value), around if key == "vars" else key, value))
        waiting.extend(reversed(groups))


def _names(names: tuple[str, ...], key: str, group: Any) -> tuple[str, ...]:
    """The names of the layers around a group of this key."""
    if key in ("layers", "vars", "_layer_checkpoint_dependencies") or "weight_names" in group.attrs:
        return names
    called = group["vars"].attrs.get("name") if "vars" in group else None
    return (*names, called if isinstance(called, str) else key)


def _leaf(kind: str, settings: dict[str, Any], number: int, count: int) -> str:
    """The name of a variable of a layer that has so many."""
    plain = re.sub(r"_\d+$", "", kind.lower()).replace("_", "")
    known = max((end for end in _VARIABLES if plain.endswith(end)), key=len)
    without = {"gamma": "scale", "beta": "center", "bias": "use_bias"}
    names = [name for name in _VARIABLES[known] if settings.get(without.get(name, "")) is not False]
    if known == "batchnormalization":  # Most of those that have no gamma have a beta.
        names = names[-count:]
    return names[number] if number < len(names) else f"variable_{number}"


def _tensor(
    name: str, dataset: Any, read: Callable[..., Any], path: Path, start: int, known: dict[str, Any]
) -> Tensor | Skipped:
    raw, shape = dataset.dtype, dataset.shape
    if shape is None or dataset.is_virtual or dataset.external:
        raise ValueError(f"{name!r:.200} has its elements in another place")
    # NumPy has no bfloat16, and h5py keeps it as two raw bytes.
    dtype = "bfloat16" if raw.kind == "V" and raw.itemsize == 2 and raw.names is None else raw.name
    if not is_readable(dtype):
        return unreadable(name, dtype, integer=raw.kind in "biu")
    bits = bits_of(dtype)
    size = math.prod(shape) * bits.itemsize
    offset = dataset.id.get_offset()
    if size > _DEFLATE * dataset.id.get_storage_size():
        raise ValueError(f"{name!r:.200} of shape {shape!s:.80} has fewer elements than that")
    if offset is not None and dataset.id.get_create_plist().get_nfilters() == 0:
        if start + offset + size > path.stat().st_size:
            raise ValueError(f"it ends before the data of {name!r:.200}")
        order = bits.newbyteorder(raw.byteorder if raw.kind == "f" else "=")
        opener = functools.partial(io.FileIO, path)
        reader = file_reader(opener, start + offset, order, dtype, str(path))
        return describe(name, shape, dtype, reader, "in_out", **known)
    reader = functools.partial(read, dataset.name, dtype)
    return describe(name, shape, dtype, reader, "in_out", parallel=False, **known)


def _read(
    path: Path, opened: Open, place: str, dtype: str, start: int, stop: int, step: int
) -> Iterator[Array]:
    """The elements of a variable whose chunks may be compressed; some rows of chunks at a time."""
    with parsing(path), opened() as file:
        data = file[place]
        rows, columns, first = len(data) if data.shape else 1, math.prod(data.shape[1:]), 0
        high = data.chunks[0] if data.chunks else rows
        high *= max(1, step // max(1, high * columns))
        for at in range(0, rows, max(1, high)):
            band = data[at : at + high] if data.shape else data[()]
            native = np.ascontiguousarray(band.astype(band.dtype.newbyteorder("="), copy=False))
            native = native.view(bits_of(dtype))
            yield from read_array(native, dtype, max(0, start - first), min(native.size, stop - first), step)
            first += native.size
