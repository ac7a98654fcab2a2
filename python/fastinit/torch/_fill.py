"""From a tensor to its memory: where samples go, and where their seed comes from."""

from __future__ import annotations

import itertools
import math
import threading
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

import fastinit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Generator, Tensor

    from fastinit._typing import Array, DTypeLike, Index

# The dtypes that fastinit makes.
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

# The most dimensions that it takes; PyTorch takes 64.
_MOST_DIMENSIONS = 32

# The size of the buffer for tensors that the CPU cannot reach, in bytes.
_STAGE = 2**24

_local = threading.local()


class Make(Protocol):
    """An initializer of fastinit with its own parameters bound."""

    def __call__(
        self,
        shape: Sequence[int],
        *,
        seed: int,
        dtype: DTypeLike,
        out: Array,
        index: Index,
        threads: int,
    ) -> Array: ...


def is_ordinary(tensor: object) -> bool:
    """Whether this is a tensor or a parameter that does not come with an implementation of its own."""
    kind: Any = type(tensor)
    if kind is torch.Tensor or kind is torch.nn.Parameter:
        return True
    return (
        isinstance(tensor, torch.Tensor)
        and kind.__torch_function__ is torch.nn.Parameter.__torch_function__  # does nothing
        and kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__  # does nothing
    )


def can_fill(tensor: Tensor) -> bool:
    """Whether fastinit has samples for this tensor, and there are any to make."""
    return (
        not torch.compiler.is_compiling()
        and is_ordinary(tensor)
        and tensor.dtype in _DTYPES
        and tensor.layout is torch.strided
        and not tensor.is_meta
        and tensor.numel() > 0
        and tensor.dim() <= _MOST_DIMENSIONS
    )


def fill(
    tensor: Tensor,
    make: Make,
    *,
    check: Callable[[Tensor], Tensor],
    instead: Callable[[Tensor], Tensor],
    generator: Generator | None,
    whole: bool = False,
) -> Tensor:
    """Fills a tensor with the samples that `make` makes. Autograd only learns that it has changed.

    Args:
        tensor: The tensor.
        make: Makes them.
        check: An operation in place that checks the arguments in PyTorch's way. It is given a part of the
            tensor without elements.
        instead: What PyTorch does. It is given the tensor where `can_fill` refuses it, where it has no memory
            of its own, or where `make` refuses the parameters.
        generator: Where the seed comes from.
        whole: Whether parts of the tensor cost as much as the whole.

    Returns:
        The tensor.
    """
    with torch.no_grad():
        if not can_fill(tensor):
            return instead(tensor)
        in_reach = is_in_reach(tensor)
        out = memory(tensor) if in_reach else None
        if in_reach and out is None:
            return instead(tensor)
        # This raises what PyTorch raises, also for inference tensors, and counts the change for autograd: a
        # view shares the version of its base.
        check(tensor.as_strided((0,), (1,)))
        seed = draw_seed(generator, tensor)
        try:
            if out is not None:
                _make(make, tuple(tensor.shape), seed, out, None)
            else:
                stage(tensor, make, seed, tensor.nbytes if whole else _STAGE)
        except ValueError:  # Nothing has been written.
            return instead(tensor)
    return tensor


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


def stage(tensor: Tensor, make: Make, seed: int, size: int = _STAGE) -> None:
    """Fills a tensor piece by piece, through a buffer of at most `size` bytes on the CPU."""
    shape = tuple(tensor.shape)
    for index, count in pieces(shape, max(1, size // tensor.itemsize)):
        target = tensor[index]
        buffer = _buffer(count * tensor.itemsize).view(tensor.dtype).view(target.shape)
        out = memory(buffer)
        assert out is not None
        _make(make, shape, seed, out, index)
        target.copy_(buffer)


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
    if not hasattr(_local, "buffer"):
        # A normal tensor also where inference mode is on, since it outlives that.
        with torch.inference_mode(False):
            _local.buffer = torch.empty(_STAGE, dtype=torch.uint8, device="cpu")
    buffer: Tensor = _local.buffer[:size]
    return buffer


def _make(make: Make, shape: tuple[int, ...], seed: int, out: Array, index: Index) -> None:
    # Whoever limits either library means the fill, too: torchrun gives each process one thread, for example.
    threads = min(torch.get_num_threads(), fastinit.get_num_threads())
    make(shape, seed=seed, dtype=out.dtype, out=out, index=index, threads=threads)
