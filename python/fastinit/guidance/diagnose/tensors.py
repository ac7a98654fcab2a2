"""The tensors of whatever is to be diagnosed: what they are called, what they are for, and how they are read.

Arrays, files, modules of PyTorch and models of Keras all become `Tensor`s, whose elements are read as chunks
of float32 or float64 in C order. Frameworks are never imported: their objects are recognized by what is
loaded already.
"""

from __future__ import annotations

import functools
import io
import math
import os
import re
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import safetensors as _safetensors

if TYPE_CHECKING:
    from fastinit._typing import Array

    # Yields the elements from one to another, so many at a time; a chunk is valid until the next is asked
    # for.
    Read = Callable[[int, int, int], Iterator[Array]]

LAYOUTS = ("out_in", "in_out")


@dataclass(frozen=True)
class Tensor:
    """A tensor of floating-point numbers.

    Attributes:
        name: Its name, the first of `names`.
        names: All names that it has, where it is tied.
        shape: Its shape.
        dtype: The name of its dtype.
        role: What it is for, see `role_of`.
        layout: `"out_in"` for PyTorch's order of axes, `"in_out"` for Keras's and JAX's.
        certain: Whether the layout is known and not assumed.
        read: Yields its elements.
        parallel: Whether parts of it can be read at the same time.
        groups: The groups of a convolution.
        transposed: Whether it belongs to a transposed convolution.
        norm: Whether a scale is that of a normalization, and not of a branch.
        hidden: The sizes of the hidden state that a recurrent kernel or bias may have.
        orthogonal: Whether its layer says that it is orthogonal.
        source: What tells apart the tensors that share memory.
    """

    name: str
    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    role: str
    layout: str
    certain: bool
    read: Read
    parallel: bool = True
    groups: int = 1
    transposed: bool = False
    norm: bool = False
    hidden: tuple[int, ...] = ()
    orthogonal: bool = False
    source: object = field(default=None, compare=False)

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    @property
    def in_axis(self) -> int:
        """The axis of the inputs, of two or more axes."""
        return self._axes[0]

    @property
    def out_axis(self) -> int:
        """The axis of the outputs, of two or more axes."""
        return self._axes[1]

    @property
    def _axes(self) -> tuple[int, int]:
        n = len(self.shape)
        first, second = (1, 0) if self.layout == "out_in" else (n - 2, n - 1)
        return (second, first) if self.transposed else (first, second)


def sources(x: Any, layout: str | None) -> tuple[list[Tensor], dict[str, str]]:
    """The tensors of `x`, and why others were left out.

    Raises:
        ValueError: If a file is damaged or of an unknown kind, or there is nothing in it.
        TypeError: If `x` is none of the things that can be diagnosed.
    """
    skipped: dict[str, str] = {}
    torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
    found: Iterator[Tensor]
    if isinstance(x, (str, os.PathLike)):
        found = _of_path(Path(x), skipped)
    elif keras is not None and isinstance(x, keras.layers.Layer):
        found = _of_keras(x, skipped)
    elif torch is not None and isinstance(x, torch.nn.Module):
        found = _of_module(x, skipped)
    elif isinstance(x, Mapping):
        found = _of_mapping(x, skipped)
    elif hasattr(x, "__array__") or hasattr(x, "__dlpack__"):
        found = _of_mapping({"array": x}, skipped)
    else:
        raise TypeError(
            "can diagnose an array, a mapping of names to arrays, a path, a module of PyTorch or a model of "
            f"Keras; got {type(x).__name__}"
        )
    merged: dict[object, Tensor] = {}
    for tensor in found:
        if layout is not None:
            tensor = replace(tensor, layout=layout, certain=True)
        key = tensor.name if tensor.source is None or tensor.size == 0 else tensor.source
        # Tensors that share their memory are one tensor with several names.
        if key in merged:
            other = merged[key]
            role = "embedding" if "embedding" in (other.role, tensor.role) else other.role
            merged[key] = replace(other, names=(*other.names, tensor.name), role=role)
        else:
            merged[key] = tensor
    tensors = list(merged.values())
    if not tensors and not skipped:
        where = f"{x} has no" if isinstance(x, (str, os.PathLike)) else "there are no"
        hint = " (a model of Keras has none until it is built)" if keras is not None else ""
        raise ValueError(f"{where} tensors of floating-point numbers to diagnose{hint}")
    return tensors, skipped


# Roles

_BUFFER = re.compile(
    r"mask|inv_freq|freqs|rotary|position_ids|relative_position_index|num_batches|anchor|(^|[._/])filt|causal"
    r"|blur|_cached|weight_[ug]$|original0$|rel_pos_idx"
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
_BIAS = re.compile(r"bias|^beta$|^b\d*$|offset$")
_OUTPUT = re.compile(r"(^|[._/])(heads?|classifier|(to_)?logits|out|output|final|predictions?)([._/]|$)")
_LAYER = re.compile(r"(^|[./]|layer|block|stage)\d+[./]")


def leaf_of(name: str) -> str:
    """The last part of a name, without what TensorFlow appends."""
    return re.split(r"[./]", re.sub(r":\d+$", "", name))[-1].lower()


def role_of(name: str, shape: tuple[int, ...]) -> str:
    """What a tensor is for, as its name and its shape tell.

    Returns:
        `"kernel"`, `"recurrent"` (a kernel on a hidden state), `"embedding"`, `"bias"`, `"scale"` (of a
        normalization), `"running_mean"`, `"running_var"`, `"buffer"` (what is computed, and not learned),
        `"position"` (a table of positions) or `"parameter"` (anything else that may be learned).
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
    if leaf.startswith(("weight_hh", "recurrent")):
        return "recurrent"
    if len(shape) >= 2:
        if _BIAS.search(leaf) or _SCALE.search(leaf) or _TOKEN.search(lower):
            return "parameter"
        if len(shape) <= 3 and _POSITION.search(lower) and "proj" not in lower:
            return "position"
        return "embedding" if len(shape) == 2 and _EMBEDDING.search(lower) else "kernel"
    return "scale" if len(shape) == 1 and leaf == "weight" else "parameter"


def is_output(tensor: Tensor) -> bool:
    """Whether the name says that a kernel makes the output of a model."""
    names = [name.lower() for name in tensor.names]
    return any(_OUTPUT.search(name) and not _LAYER.search(name) for name in names)


def _hidden(leaf: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes that the state of a recurrent layer may have, from its kernels: it has 1, 3 or 4 gates."""
    if not re.match(r"(weight|bias)_(ih|hh|hr)", leaf):
        return ()
    return tuple(shape[0] // gates for gates in (1, 3, 4) if shape[0] % gates == 0)


def _plain(name: str, shape: tuple[int, ...], dtype: str, read: Read, layout: str, **more: Any) -> Tensor:
    """A tensor of which only the name is known."""
    found: dict[str, Any] = {
        "role": role_of(name, shape),
        "certain": False,
        "norm": bool(_NORM.search(name.lower())),
        "hidden": _hidden(leaf_of(name), shape),
    } | more
    return Tensor(name=name, names=(name,), shape=shape, dtype=dtype, layout=layout, read=read, **found)


# Elements

_FLOATS = ("float16", "float32", "float64", "longdouble", "float128")


def decode(raw: Array, dtype: str) -> Array:
    """The numbers that some bits are, as float32 or float64."""
    if dtype in ("float32", "float64"):
        return raw
    if dtype == "bfloat16":  # The upper half of a float32.
        return np.left_shift(raw, 16, dtype=np.uint32).view(np.float32)
    if dtype == "float16":
        return _from_half(raw)
    if dtype in _FLOATS:
        return raw.astype(np.float64)
    wide: Array = _float8(dtype)[raw]
    return wide


def _from_half(raw: Array) -> Array:
    """float16 as float32: the same bits at other places, and the bias of the exponent made up for."""
    size = raw & np.uint16(0x7FFF)
    if size.size and int(size.max()) >= 0x7C00:  # Infinities and NaN.
        return raw.view(np.float16).astype(np.float32)
    wide: Array = np.left_shift(size, 13, dtype=np.uint32).view(np.float32)
    np.multiply(wide, np.float32(2.0**112), out=wide)
    sign = np.left_shift(raw & np.uint16(0x8000), 16, dtype=np.uint32)
    bits = wide.view(np.uint32)
    np.bitwise_or(bits, sign, out=bits)
    return wide


@functools.cache
def _float8(dtype: str) -> Array:
    """The number of each of the 256 patterns of a dtype of eight bits."""
    exponent_bits = 4 if "e4m3" in dtype else 5
    fraction_bits = 7 - exponent_bits
    code = np.arange(128)
    exponent, fraction = code >> fraction_bits, (code & (2**fraction_bits - 1)) / 2**fraction_bits
    bias = 2 ** (exponent_bits - 1) - 1
    value = np.where(exponent == 0, fraction * 2.0 ** (1 - bias), (1 + fraction) * 2.0 ** (exponent - bias))
    if exponent_bits == 5:
        value[124], value[125:] = np.inf, np.nan
    else:
        value[127] = np.nan
    return np.concatenate([value, -value]).astype(np.float32)


def _bits(dtype: str) -> np.dtype[Any]:
    """The dtype of NumPy by which elements are read, as `decode` takes them."""
    if dtype in ("bfloat16", "float16"):
        return np.dtype(np.uint16)
    return np.dtype(np.uint8 if dtype.startswith("float8") else dtype)


def _array_reader(load: Callable[[], Array], dtype: str) -> Read:
    """Reads an array in memory; contiguous ones without a copy."""

    def read(start: int, stop: int, step: int) -> Iterator[Array]:
        array = load()
        flat: Any = array.reshape(-1) if array.flags.c_contiguous else array.flat
        for at in range(start, stop, step):
            yield decode(flat[at : min(at + step, stop)], dtype)

    return read


def _file_reader(open_at: Callable[[int], io.RawIOBase], raw: np.dtype[Any], dtype: str, path: Path) -> Read:
    """Reads a file through a buffer of its own."""

    def read(start: int, stop: int, step: int) -> Iterator[Array]:
        buffer = np.empty(min(step, max(stop - start, 1)) * raw.itemsize, np.uint8)
        with open_at(start * raw.itemsize) as file:
            for at in range(start, stop, step):
                wanted = memoryview(buffer.data)[: (min(at + step, stop) - at) * raw.itemsize]
                done = 0
                while done < len(wanted):
                    count = file.readinto(wanted[done:])
                    if not count:
                        raise ValueError(f"{path} ends before its data does")
                    done += count
                part = buffer[: len(wanted)].view(raw)
                native = part if raw.isnative else part.astype(raw.newbyteorder("="))
                yield decode(native, dtype)

    return read


# Arrays


def _of_mapping(x: Mapping[Any, Any], skipped: dict[str, str], prefix: str = "") -> Iterator[Tensor]:
    torch = sys.modules.get("torch")
    for key, value in x.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _of_mapping(value, skipped, f"{name}/")
        elif torch is not None and isinstance(value, torch.Tensor):
            found = _of_torch(name, value, skipped, "out_in")
            if found:
                yield found
        else:
            found = _of_array(name, value, skipped, "in_out")
            if found:
                yield found


def _of_array(name: str, value: Any, skipped: dict[str, str], layout: str, **more: Any) -> Tensor | None:
    if isinstance(value, (str, bytes)) or not (hasattr(value, "__array__") or hasattr(value, "__dlpack__")):
        raise TypeError(f"{name!r} must be an array, got {type(value).__name__}")
    array = np.asarray(value) if hasattr(value, "__array__") else np.from_dlpack(value)
    dtype = array.dtype.name
    if (
        dtype not in _FLOATS
        and dtype != "bfloat16"
        and not dtype.startswith(("float8_e4m3fn", "float8_e5m2"))
    ):
        _skip(skipped, name, dtype, array.dtype.kind in "biu")
        return None
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    raw = array.view(_bits(dtype))
    interface = raw.__array_interface__
    source = (interface["data"][0], interface["strides"], raw.shape, dtype)
    return _plain(name, array.shape, dtype, _array_reader(lambda: raw, dtype), layout, source=source, **more)


def _skip(skipped: dict[str, str], name: str, dtype: str, integer: bool) -> None:  # noqa: FBT001
    """Remembers what was left out; integers and booleans are no weights, and need no mention."""
    if not integer:
        skipped[name] = f"elements of {dtype} are not read"


# Files


def _of_path(path: Path, skipped: dict[str, str]) -> Iterator[Tensor]:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    suffix = path.suffix.lower()
    if path.is_dir():
        indices = sorted(path.glob("*.safetensors.index.json"))
        files = (
            list(_safetensors.files(indices[0])) if len(indices) == 1 else sorted(path.glob("*.safetensors"))
        )
        if not files:
            raise ValueError(f"the directory {path} has no .safetensors files")
    elif path.name.endswith(".index.json"):
        files = list(_safetensors.files(path))
    elif suffix == ".safetensors":
        files = [path]
    elif suffix == ".npz":
        yield from _of_npz(path, skipped)
        return
    elif suffix == ".npy":
        yield from _of_npy(path, skipped)
        return
    else:
        hint = {
            ".pt": "pass torch.load(path, weights_only=True)",
            ".pth": "pass torch.load(path, weights_only=True)",
            ".bin": "pass torch.load(path, weights_only=True)",
            ".keras": "pass keras.saving.load_model(path)",
            ".h5": "pass the model, after load_weights(path)",
        }.get(suffix, "it must be .safetensors, .safetensors.index.json, .npz, .npy or a directory")
        raise ValueError(f"cannot read {path}: {hint}")
    seen: dict[str, Path] = {}
    for file in files:
        for entry in _safetensors.entries(file):
            if entry.name in seen:
                raise ValueError(f"{entry.name!r} is in two files, {seen[entry.name]} and {file}")
            seen[entry.name] = file
            dtype = _SAFETENSORS.get(entry.dtype)
            if dtype is None:
                _skip(skipped, entry.name, entry.dtype, entry.dtype.startswith(("BOOL", "I", "U")))
                continue
            read = _file_reader(_opener(entry.path, entry.start), _bits(dtype), dtype, file)
            yield _plain(entry.name, entry.shape, dtype, read, "out_in")


_SAFETENSORS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}


def _opener(path: Path, start: int) -> Callable[[int], io.RawIOBase]:
    def open_at(offset: int) -> io.RawIOBase:
        file = path.open("rb", buffering=0)
        file.seek(start + offset)
        return file

    return open_at


def _of_npy(path: Path, skipped: dict[str, str]) -> Iterator[Tensor]:
    with path.open("rb") as file:
        shape, fortran, raw = _npy_header(file, path, path.stem)
        start = file.tell()
    size = path.stat().st_size
    if not raw.hasobject and start + math.prod(shape) * raw.itemsize > size:
        raise ValueError(f"{path} has {size} bytes, less than an array of shape {shape} and {raw} needs")
    whole = functools.partial(np.load, path)
    found = _of_numpy_file("array", shape, fortran, raw, _opener(path, start), whole, path, skipped)
    if found:
        yield found


def _of_npz(path: Path, skipped: dict[str, str]) -> Iterator[Tensor]:
    try:
        archive = zipfile.ZipFile(path)  # Closed with the last tensor that is read from it.
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not an .npz file, or is damaged: {error}") from None
    for member in archive.namelist():
        name = member.removesuffix(".npy")
        if name == member:
            continue
        with _Member(archive, member) as file:
            shape, fortran, raw = _npy_header(file, path, name)
            start = file.tell()

        def open_at(offset: int, member: str = member, start: int = start) -> io.RawIOBase:
            file = _Member(archive, member)
            file.seek(start + offset)
            return file

        def check_int(member: str = member) -> Array:
            with _Member(archive, member) as file:
                loaded: Array = np.lib.format.read_array(file)
            return loaded

        found = _of_numpy_file(name, shape, fortran, raw, open_at, whole, path, skipped)
        if found:
            yield replace(found, parallel=False)


class _Member(io.RawIOBase):
    """A file in an archive. Threads may read one archive at the same time, each a file of its own."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._where = f"{archive.filename} is damaged at {name!r}"
        try:
            self._file: Any = archive.open(name)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise ValueError(f"{self._where}: {error}") from None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return int(self._file.readinto(buffer))
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{self._where}: {error}") from None

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _npy_header(file: Any, path: Path, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype of an array in NumPy's format."""
    try:
        version = np.lib.format.read_magic(file)
        reader = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = reader(file)
    except (ValueError, SyntaxError, TypeError, EOFError, tokenize.TokenError) as error:
        raise ValueError(f"{path} is not in NumPy's format, or is damaged, at {name!r}: {error}") from None
    return tuple(shape), bool(fortran), dtype


def _of_numpy_file(
    name: str,
    shape: tuple[int, ...],
    fortran: bool,  # noqa: FBT001
    raw: np.dtype[Any],
    open_at: Callable[[int], io.RawIOBase],
    whole: Callable[[], Array],
    path: Path,
    skipped: dict[str, str],
) -> Tensor | None:
    # NumPy's format knows no bfloat16, and keeps it as two bytes of no kind.
    dtype = "bfloat16" if raw.kind == "V" and raw.itemsize == 2 and raw.names is None else raw.name
    if dtype not in _FLOATS and dtype != "bfloat16":
        _skip(skipped, name, dtype, raw.kind in "biu")
        return None
    if fortran and len(shape) > 1:  # Its elements lie in another order than they are read in.
        read = _array_reader(lambda: check_int().astype(raw.newbyteorder("=")).view(_bits(dtype)), dtype)
        return _plain(name, shape, dtype, read, "in_out", parallel=False)
    bits = _bits(dtype).newbyteorder(raw.byteorder if raw.kind == "f" else "=")
    return _plain(name, shape, dtype, _file_reader(open_at, bits, dtype, path), "in_out")


# PyTorch


def _of_torch(name: str, value: Any, skipped: dict[str, str], layout: str, **more: Any) -> Tensor | None:
    """A tensor of PyTorch, whose memory is read as it lies."""
    torch: Any = sys.modules["torch"]
    dtype = str(value.dtype).removeprefix("torch.")
    if not (dtype in _FLOATS or dtype in ("bfloat16", "float8_e4m3fn", "float8_e5m2")):
        _skip(
            skipped, name, dtype, not (value.is_complex() or value.is_floating_point() or value.is_quantized)
        )
        return None
    with torch.no_grad():
        if value.is_meta:
            skipped[name] = "it is on the meta device, and has no values"
            return None
        if type(value) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer) and hasattr(
            value, "to_local"
        ):
            skipped[name] = "it is distributed: diagnose its full_tensor()"
            return None
        if value.layout is not torch.strided:
            skipped[name] = f"its layout is {value.layout}"
            return None
        view = value.detach().view({1: torch.uint8, 2: torch.int16}.get(value.element_size(), value.dtype))

    def load() -> Array:
        array: Array = view.cpu().numpy()
        return array.view(_bits(dtype))

    source = (str(value.device), value.data_ptr(), value.stride(), tuple(value.shape), dtype)
    return _plain(name, tuple(value.shape), dtype, _array_reader(load, dtype), layout, source=source, **more)


def _of_module(model: Any, skipped: dict[str, str]) -> Iterator[Tensor]:
    torch: Any = sys.modules["torch"]
    for path, module in model.named_modules():
        for leaf, value in module.named_parameters(recurse=False, remove_duplicate=False):
            name = f"{path}.{leaf}".lstrip(".")
            if isinstance(value, torch.nn.parameter.UninitializedTensorMixin):
                skipped[name] = "it has no shape yet"
                continue
            more = {"layout": "out_in"} | _torch_role(module, path, leaf, value)
            found = _of_torch(name, value, skipped, **more)
            if found:
                yield found
        for leaf, value in module.named_buffers(recurse=False, remove_duplicate=False):
            name = f"{path}.{leaf}".lstrip(".")
            role = role_of(name, tuple(value.shape))
            role = role if role.startswith("running") else "buffer"
            found = _of_torch(name, value, skipped, "out_in", role=role)
            if found:
                yield found


def _torch_role(module: Any, path: str, leaf: str, value: Any) -> dict[str, Any]:
    """What the type of a module says about a parameter of it."""
    torch: Any = sys.modules["torch"]
    nn, kind, shape = torch.nn, type(module).__name__, tuple(value.shape)
    guess = role_of(f"{path}.{leaf}", shape)
    if leaf.startswith("bias") or leaf.endswith("_bias"):
        return {"role": guess if len(shape) < 2 else "parameter", "hidden": _hidden(leaf, shape)}
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return {"role": "position" if guess == "position" else "embedding", "certain": True}
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        role = "recurrent" if leaf.startswith("weight_hh") else "kernel"
        return {"role": role, "certain": True, "hidden": (module.hidden_size,)}
    if isinstance(module, nn.PReLU):
        return {"role": "parameter"}
    if leaf == "weight" and (len(shape) == 1 or isinstance(module, (nn.LayerNorm, nn.RMSNorm))):
        return {"role": "scale", "norm": "norm" in kind.lower()}
    if isinstance(module, nn.modules.conv._ConvNd) and leaf == "weight":
        return {
            "role": "kernel",
            "certain": True,
            "groups": module.groups,
            "transposed": module.transposed,
        }
    if kind == "Conv1D" and hasattr(
        module, "nf"
    ):  # That of transformers is a dense layer, the other way round.
        return {"role": "kernel", "certain": True, "layout": "in_out"}
    if isinstance(module, nn.Linear) and leaf == "weight":
        return {"role": "kernel", "certain": True}
    if guess == "kernel" and not re.search(r"weight|kernel|^w\d*$|lora|proj|original", leaf.lower()):
        guess = "parameter"  # Whoever calls it otherwise has a use of its own for it.
    return {"role": guess}


# Keras


def _of_keras(model: Any, skipped: dict[str, str]) -> Iterator[Tensor]:
    owners: dict[int, Any] = {}
    for layer in _layers(model):  # Inner layers come later, and own what they have.
        for variable in layer.weights:
            owners[id(variable)] = layer
    for variable in model.weights:
        layer, leaf = owners[id(variable)], leaf_of(variable.path)
        meant = getattr(layer, f"{leaf}_initializer", None)
        meant = meant or getattr(layer, f"{leaf.removesuffix('_kernel')}_initializer", None)
        more = {
            "certain": True,
            "norm": "norm" in type(layer).__name__.lower(),
            "transposed": "Transpose" in type(layer).__name__,
            "orthogonal": type(meant).__name__ in ("Orthogonal", "OrthogonalInitializer"),
        }
        value = variable.value
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            found = _of_torch(variable.path, value, skipped, "in_out", **more)
        else:
            found = _of_array(variable.path, np.asarray(value), skipped, "in_out", **more)
        if found:
            yield found


def _layers(layer: Any) -> Iterator[Any]:
    yield layer
    for inner in getattr(layer, "_layers", None) or ():
        yield from _layers(inner)
