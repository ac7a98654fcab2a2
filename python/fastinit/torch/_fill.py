"""From a tensor to its memory: where samples go, and where their key comes from."""

from __future__ import annotations

import itertools
import math
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch

import fastinit

from . import _shards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Generator, Tensor

    from fastinit._typing import Array, DTypeLike

# The dtypes that fastinit makes.
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

# The most dimensions that it takes; PyTorch takes 64.
_MOST_DIMENSIONS = 32

# The size of the buffer for tensors that the CPU cannot reach, in bytes.
_STAGE = 2**24


class Key(NamedTuple):
    """What the values of a tensor depend on, beside their law."""

    seed: int
    stream: int | str = 0


class Make(Protocol):
    """An initializer of fastinit with its own parameters bound."""

    def __call__(
        self,
        shape: Sequence[int],
        *,
        seed: int,
        stream: int | str,
        dtype: DTypeLike,
        out: Array,
        index: tuple[slice, ...],
        threads: int,
    ) -> Array: ...


class Names(Protocol):
    """What knows tensors by name, and so gives them keys instead of a generator."""

    def blocks(self, tensor: Tensor) -> Sequence[Tensor]:
        """What is to be filled in place of this tensor, one by one; often just itself."""
        ...

    def key(self, tensor: Tensor) -> Key | None:
        """The key of a tensor, if it is one that has a name."""
        ...

    def filled(self, tensor: Tensor, make: Make, seconds: float) -> None:
        """Learns what a tensor was filled with, and how long it took."""
        ...


class _Local(threading.local):
    """What each thread has for itself."""

    buffer: Tensor | None = None  # for tensors that the CPU cannot reach
    names: Names | None = None  # in force


_local = _Local()


def names() -> Names | None:
    """The names that are in force in this thread."""
    return _local.names


def set_names(names: Names | None) -> None:
    """Puts names in force in this thread."""
    _local.names = names


def is_ordinary(tensor: object) -> bool:
    """Whether this is a tensor or a parameter that does not come with an implementation of its own."""
    kind: Any = type(tensor)
    if kind is torch.Tensor or kind is torch.nn.Parameter:
        return True
    return (
        isinstance(tensor, torch.Tensor)
        and not _shards.is_block(tensor)
        and kind.__torch_function__ is torch.nn.Parameter.__torch_function__  # does nothing
        and kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__  # does nothing
    )


def is_known(tensor: object) -> bool:
    """Whether this is an ordinary tensor, or one whose shards are."""
    return is_ordinary(tensor) or _shards.is_sharded(tensor)


def is_of_kind(tensor: Tensor) -> bool:
    """Whether the dtype and the layout are such that fastinit has samples."""
    return tensor.dtype in DTYPES and tensor.layout is torch.strided and not tensor.is_nested


def is_traced() -> bool:
    """Whether PyTorch only takes down what is done, or does it to more than the tensors at hand."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    if torch._C._functorch.peek_interpreter_stack() is not None:  # grad, vmap, ... of torch.func
        return True
    tracer: Any = sys.modules.get("torch.fx.experimental.proxy_tensor")
    return tracer is not None and tracer.get_proxy_mode() is not None


def check_kind(tensor: Tensor) -> None:
    """Raises a `TypeError` if fastinit has no samples for such a tensor; not if that is its own business."""
    if is_of_kind(tensor) or not is_known(tensor) or tensor.is_meta or tensor.is_nested or is_traced():
        return
    got = tensor.dtype if tensor.dtype not in DTYPES else tensor.layout
    raise TypeError(f"a strided tensor of float32, float64, float16 or bfloat16 is needed, got {got}")


def can_fill(tensor: Tensor) -> bool:
    """Whether fastinit has samples for this tensor, and there are any to make."""
    return (
        not is_traced()
        and is_known(tensor)
        and is_of_kind(tensor)
        and (not tensor.is_meta or _shards.is_block(tensor))
        and tensor.numel() > 0
        and tensor.dim() <= _MOST_DIMENSIONS
        and not _has_tangent(tensor)
    )


def _has_tangent(tensor: Tensor) -> bool:
    """Whether forward differentiation has something to do with it."""
    forward: Any = torch.autograd.forward_ad
    return forward._current_level >= 0 and forward.unpack_dual(tensor).tangent is not None


def fill(
    tensor: Tensor,
    make: Make,
    *,
    check: Callable[[Tensor], Tensor],
    instead: Callable[[Tensor], Tensor],
    generator: Generator | None,
    whole: bool = False,
    is_random: bool = True,
) -> Tensor:
    """Fills a tensor with the samples that `make` makes. Autograd only learns that it has changed.

    Args:
        tensor: The tensor.
        make: Makes them.
        check: An operation in place that checks the arguments in PyTorch's way. It is given a part of the
            tensor without elements.
        instead: What PyTorch does. It is given the tensor where `can_fill` refuses it, where it has no memory
            of its own, or where `make` refuses the parameters.
        generator: Where the seed comes from, unless the tensor has a name.
        whole: Whether parts of the tensor cost as much as the whole.
        is_random: Whether it takes a key at all.

    Returns:
        The tensor.

    Raises:
        TypeError: As `check_kind` does.
    """
    check_kind(tensor)
    with torch.no_grad():
        names = _local.names
        regions = _regions(tensor) if can_fill(tensor) else None
        if regions is None:
            return _left(tensor, instead, generator, is_drawn=False)
        for region in regions:
            # This raises what PyTorch raises, also for inference tensors, and counts the change for autograd:
            # a view shares the version of its base.
            check(region.target.as_strided((0,), (1,)))
        key = Key(0) if not is_random else None if names is None else names.key(tensor)
        if key is None:
            # From the generator of each process that has a shard, so that they stay alike; also where there
            # is nothing to fill.
            key = Key(draw_seed(generator, tensor))
        start = time.perf_counter()
        try:
            for region in regions:
                _write(region, make, tuple(tensor.shape), key, whole=whole)
        except ValueError:  # Nothing has been written.
            return _left(tensor, instead, generator, is_drawn=True)
        if not is_ordinary(tensor):
            torch.autograd.graph.increment_version(_shards.whole(tensor))
        if names is not None:
            names.filled(tensor, make, time.perf_counter() - start)
    return tensor


def _left(
    tensor: Tensor, instead: Callable[[Tensor], Tensor], generator: Generator | None, *, is_drawn: bool
) -> Tensor:
    """Leaves a tensor to PyTorch, before or after its seed was drawn."""
    if _shards.is_block(tensor):
        raise ValueError("a block of a sharded tensor cannot be filled by a function of PyTorch")
    if not _shards.is_sharded(tensor) or tensor.is_meta:
        return instead(tensor)
    # PyTorch advances the generator by what lies here; it shall stay the same in all processes.
    source = torch.default_generator if generator is None else generator
    state = source.get_state()
    try:
        return instead(tensor)
    finally:
        source.set_state(state)
        if not is_drawn:
            draw_seed(generator, tensor)


class _Region(NamedTuple):
    """A part of a tensor that lies in one piece in the logical tensor."""

    target: Tensor  # an ordinary tensor
    memory: Array | None  # where the CPU can write to
    start: tuple[int, ...]  # the place of its first element in the logical tensor


def _regions(tensor: Tensor) -> list[_Region] | None:
    """The parts of a tensor that this process has; `None` where it does not lie in plain memory."""
    if is_ordinary(tensor):
        parts: list[_shards.Part] | None = [(tensor, (0,) * tensor.dim())]
    else:
        parts = _shards.parts(tensor)
    if parts is None:
        return None
    regions = []
    for target, start in parts:
        if not is_ordinary(target):
            return None
        if target.numel() == 0:
            # The parameters are checked here as elsewhere.
            regions.append(_Region(target, np.empty(tuple(target.shape), _numpy_dtype(target.dtype)), start))
            continue
        in_reach = is_in_reach(target)
        out = memory(target) if in_reach else None
        if in_reach and out is None:
            return None
        regions.append(_Region(target, out, start))
    return regions


def is_in_reach(tensor: Tensor) -> bool:
    """Whether the tensor lies in memory that the CPU can write to."""
    return bool(tensor.device.type == "cpu")


def memory(tensor: Tensor) -> Array | None:
    """An array that shares the memory of a tensor on the CPU; `None` where that is not plain memory.

    The array does not keep the tensor alive.

    Raises:
        ImportError: If the tensor is bfloat16, and ml_dtypes is not there.
        RuntimeError: If the memory has been taken from the tensor.
    """
    try:
        address = tensor.data_ptr()
    except RuntimeError:  # The tensor is batched by vmap, say.
        return None
    if tensor.is_neg():
        return None
    # FSDP, for one, frees a parameter by giving its storage the size 0. There is nothing at the address then.
    steps = [step * tensor.itemsize for step in tensor.stride()]
    last = sum((size - 1) * step for size, step in zip(tensor.shape, steps, strict=True))
    needed = (tensor.storage_offset() + 1) * tensor.itemsize + last
    if tensor.untyped_storage().nbytes() < needed:
        raise RuntimeError(f"the tensor needs {needed} bytes, but its storage has been made smaller")
    dtype = _numpy_dtype(tensor.dtype)
    array: Array = np.asarray(_Memory(address, tuple(tensor.shape), tuple(steps), dtype.str))
    return array.view(dtype)  # bfloat16 came as two bytes of no type


class _Memory:
    """Memory that NumPy takes as an array.

    After `Tensor.numpy`, PyTorch would never again let the storage change its size, as FSDP wants to.
    """

    def __init__(self, address: int, shape: tuple[int, ...], strides: tuple[int, ...], typestr: str) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (address, False),
            "shape": shape,
            "strides": strides,
            "typestr": typestr,
        }


def _numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """The dtype of NumPy that is called as this one."""
    name = str(dtype).removeprefix("torch.")
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError as error:
        raise ImportError(
            "to fill bfloat16 tensors fastinit needs the package ml_dtypes: pip install 'fastinit[bf16]'"
        ) from error
    bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return bfloat16


def draw_seed(generator: Generator | None, tensor: Tensor) -> int:
    """The next 64 bits of a generator; `None` is the global one of the CPU."""
    # The device is named, since a default device may be in force.
    device = "cpu" if generator is None else tensor.device
    word = torch.empty((), dtype=torch.int64, device=device).random_(-(2**63), None, generator=generator)
    return int(word.item()) % 2**64


def _write(region: _Region, make: Make, shape: tuple[int, ...], key: Key, *, whole: bool) -> None:
    """Fills a region of a tensor of this shape; piece by piece where the CPU cannot reach its memory."""
    target, out, start = region
    # Whoever limits either library means the fill, too: torchrun gives each process one thread, for example.
    threads = min(torch.get_num_threads(), fastinit.get_num_threads())
    if out is not None:
        index = tuple(slice(i, i + size) for i, size in zip(start, target.shape, strict=True))
        make(shape, seed=key.seed, stream=key.stream, dtype=out.dtype, out=out, index=index, threads=threads)
        return
    size = target.nbytes if whole else _STAGE
    for index, count in pieces(target.shape, max(1, size // target.itemsize)):
        piece = target[index]
        buffer = _buffer(count * target.itemsize).view(target.dtype).view(piece.shape)
        first = [part.start for part in index] + [0] * (target.dim() - len(index))
        there = tuple(i + j for i, j in zip(start, first, strict=True))
        _write(_Region(buffer, memory(buffer), there), make, shape, key, whole=whole)
        piece.copy_(buffer)


def pieces(shape: Sequence[int], most: int) -> Iterator[tuple[tuple[slice, ...], int]]:
    """Cuts a shape, none of whose sizes is 0, into parts that are contiguous in C order.

    Yields:
        The index of each part, and the number of its elements, which is at most `most`.
    """
    inner = math.prod(shape)  # the elements of one step along the axis that is cut
    if inner <= most:
        yield (), inner
        return
    for axis, size in enumerate(shape):  # noqa: B007 - used below
        inner //= size
        if inner <= most:
            break
    step = most // inner
    for outer in itertools.product(*map(range, shape[:axis])):
        before = tuple(slice(i, i + 1) for i in outer)
        for start in range(0, size, step):
            stop = min(start + step, size)
            yield (*before, slice(start, stop)), (stop - start) * inner


def _buffer(size: int) -> Tensor:
    """So many bytes on the CPU; the same ones each time in a thread, unless they are very many."""
    if size > _STAGE:
        return torch.empty(size, dtype=torch.uint8, device="cpu")
    if _local.buffer is None:
        # A normal tensor also where inference mode is on, since it outlives that.
        with torch.inference_mode(False):
            _local.buffer = torch.empty(_STAGE, dtype=torch.uint8, device="cpu")
    return _local.buffer[:size]
