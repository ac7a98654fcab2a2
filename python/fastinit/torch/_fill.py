"""Filling one tensor: whether fastinit can, where the seed comes from, and how values reach its memory."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import struct
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

import fastinit
from fastinit import _terminal

from . import _shards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Generator, Tensor

    from fastinit._typing import Array
    from fastinit.theory.distributions import Distribution

# The dtypes that fastinit fills, and their names.
DTYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}

# The most dimensions that it takes; PyTorch takes 64.
_MOST_DIMENSIONS = 32

# The size of the buffer for tensors on other devices than the CPU, in bytes.
_STAGE = 2**24

# Files that a warning does not point to.
_INNER = (str(Path(__file__).parent), str(torch.nn.init.__file__), str(torch.overrides.__file__))


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns, pointing to the user's code that called, whatever lies between."""
    _terminal.warn(message, _INNER, category)


class Key(NamedTuple):
    """What the values of a tensor depend on, besides their distribution."""

    seed: int
    stream: int | str = 0


class Contents:
    """What tensors are filled with.

    Attributes:
        initializer: The initializer.
        has_our_call: Whether its class makes arrays as those of fastinit do.
        is_checked: Whether PyTorch has accepted the arguments once, with its global generator.
    """

    def __init__(self, initializer: fastinit.Initializer, describe: Callable[[], Distribution]) -> None:
        self.initializer = initializer
        self.has_our_call = type(initializer).__call__ is fastinit.Initializer.__call__
        self.is_checked = False
        self._describe = describe
        self._distribution: Distribution | None = None

    @property
    def distribution(self) -> Distribution:
        """The distribution of the elements. It takes longer than a small fill, so it is found on demand."""
        if self._distribution is None:
            self._distribution = self._describe()
        return self._distribution


class Filled(NamedTuple):
    """What a tensor, or a block of it, was filled with; `None` where that is unknown."""

    contents: Contents | None
    size: int
    seconds: float


class Tracker(Protocol):
    """Knows tensors by name: it gives them their keys, and is told how they were filled."""

    @property
    def is_plan(self) -> bool:
        """Whether the tensors are filled to know how, and not for their contents."""
        ...

    def blocks(self, tensor: Tensor) -> Sequence[Tensor]:
        """The blocks of a tensor, which are filled one by one; the tensor itself if it has none."""
        ...

    def key(self, tensor: Tensor) -> Key | None:
        """The key of a tensor that has a name."""
        ...

    def is_sampled(self, tensor: Tensor) -> bool:
        """Whether a tensor is to be filled; otherwise it is only recorded how."""
        ...

    def filled(self, tensor: Tensor, filled: Filled) -> None:
        """Records that a tensor was filled, and how."""
        ...

    def touch(self, tensor: Tensor) -> None:
        """Records that a tensor was written to."""
        ...

    def refused(self, tensor: Tensor, error: Exception) -> bool:
        """Whether an error means that PyTorch cannot fill this kind of tensor, which is recorded then."""
        ...


class _Local(threading.local):
    """The state of each thread."""

    buffer: Tensor | None = None  # for tensors on other devices
    word: tuple[Tensor, Array] | None = None  # for seeds: the same 64 bits for PyTorch and for NumPy
    tracker: Tracker | None = None


_local = _Local()


def tracker() -> Tracker | None:
    """The tracker of this thread, while it initializes a model."""
    return _local.tracker


def set_tracker(tracker: Tracker | None) -> None:
    """Sets the tracker of this thread."""
    _local.tracker = tracker


def is_ordinary(tensor: object) -> bool:
    """Whether this is a tensor or a parameter without an implementation of its own."""
    if _shards.is_plain_type(tensor):
        return True
    kind: Any = type(tensor)
    return (
        isinstance(tensor, torch.Tensor)
        and not _shards.is_view(tensor)
        and kind.__torch_function__ is torch.nn.Parameter.__torch_function__  # does nothing
        and kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__  # does nothing
    )


def is_known(tensor: object) -> bool:
    """Whether this is an ordinary or a sharded tensor."""
    return is_ordinary(tensor) or _shards.is_sharded(tensor)


def is_plain(tensor: Tensor) -> bool:
    """Whether this is an ordinary tensor with memory of its own, of numbers that are not quantized."""
    if not is_ordinary(tensor) or tensor.layout is not torch.strided or tensor.is_nested:
        return False
    if tensor.is_meta or tensor.is_quantized:
        return False
    return tensor.numel() == 0 or tensor.untyped_storage().nbytes() > 0  # FSDP frees some.


def is_supported(tensor: Tensor) -> bool:
    """Whether fastinit supports the dtype and the layout."""
    return tensor.dtype in DTYPES and tensor.layout is torch.strided and not tensor.is_nested


def is_traced() -> bool:
    """Whether PyTorch is compiling, tracing, or applying a transform of `torch.func` or a dispatch mode."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    if torch._C._len_torch_dispatch_stack() > 0 and not _is_carried_out():
        return True
    if torch._C._functorch.peek_interpreter_stack() is not None:  # grad, vmap, ... of torch.func
        return True
    return torch._ops.mode_stack_state_for_pre_dispatch().get(0) is not None  # `torch.export`


def _is_carried_out() -> bool:
    """Whether dispatch modes only let operations write to memory.

    Some record them, skip them, or run them on fake tensors.
    """
    tracer: Any = sys.modules.get("torch.fx.experimental.proxy_tensor")
    if tracer is not None and tracer.get_proxy_mode() is not None:
        return False
    with _disable_current_modes():
        probe, generator = torch.zeros(1, device="cpu"), torch.Generator()
    try:
        with torch._C.DisableTorchFunction(), torch.no_grad():
            probe.normal_(generator=generator)
    except Exception:  # PyTorch raises it again when it is to fill the tensor.
        return False
    with _disable_current_modes():
        return bool(probe.item() != 0.0)


def can_fill(tensor: Tensor) -> bool:
    """Whether fastinit can fill this tensor, and it has elements."""
    return (
        not is_traced()
        and is_known(tensor)
        and is_supported(tensor)
        and not tensor.is_meta
        and tensor.numel() > 0
        and tensor.dim() <= _MOST_DIMENSIONS
        and not _has_tangent(tensor)
    )


def _has_tangent(tensor: Tensor) -> bool:
    """Whether forward-mode differentiation has a tangent of it."""
    forward: Any = torch.autograd.forward_ad
    return forward._current_level >= 0 and forward.unpack_dual(tensor).tangent is not None


def fill(
    tensor: Tensor,
    make: Callable[..., fastinit.Initializer],
    parameters: tuple[Any, ...],
    fallback: Callable[[Tensor], Tensor],
    generator: Generator | None,
    *,
    check: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Fills a tensor. Autograd only learns that it has changed.

    Args:
        tensor: The tensor.
        make: Makes the initializer from numbers, always the same one from the same numbers. A `ValueError` or
            a `TypeError` means that fastinit does not take the parameters.
        parameters: What it is called with.
        fallback: PyTorch's own operation. It is called where `can_fill` is false, where the tensor is not in
            plain memory, or where the initializer does not take the parameters, the shape or the dtype.
        generator: Where the seed comes from, unless the tensor has a name.
        check: An operation in place that checks the arguments as PyTorch does. It is called with an empty
            view of the tensor. By default, `fallback`.

    Returns:
        The tensor.
    """
    try:
        if _fill(tensor, make, parameters, check or fallback, generator):
            return tensor
        with torch.no_grad():
            return _fall_back(tensor, fallback, generator)
    except Exception as error:
        if _local.tracker is not None and _local.tracker.refused(tensor, error):
            return tensor
        raise


def _fill(
    tensor: Tensor,
    make: Callable[..., fastinit.Initializer],
    parameters: tuple[Any, ...],
    check: Callable[[Tensor], Tensor],
    generator: Generator | None,
) -> bool:
    """Fills a tensor, if fastinit can."""
    if _shards.is_copy(tensor):
        warn("this part of a sharded tensor is a copy, which PyTorch has made: the whole does not change")
    had_gradients = torch.is_grad_enabled()
    # Modes are not asked about the operations below, which would take longer than a small fill.
    with torch._C.DisableTorchFunction():
        try:
            torch._C._set_grad_enabled(False)  # `torch.no_grad` does the same, and takes longer.
            if not can_fill(tensor):
                return False
            # Most tensors are one piece of memory. To make an array of it would take as long as a small fill.
            is_one = _shards.is_plain_type(tensor) and is_on_cpu(tensor) and tensor.is_contiguous()
            address = _address(tensor, tensor.numel()) if is_one else None
            regions = None if is_one else _regions(tensor)
            if address is None and regions is None:
                return False
            targets = (tensor,) if regions is None else [region.target for region in regions]
            shape = tuple(tensor.shape)
            contents = _contents_of(make, parameters, shape, tensor.dtype)
            is_checked = contents is not None and contents.is_checked and generator is None
            for target in targets:
                if is_checked and not target.is_inference():
                    torch.autograd.graph.increment_version(target)
                else:
                    # This raises what PyTorch raises, also for inference tensors, and counts the change for
                    # autograd: a view shares the version of its base.
                    check(target.as_strided((0,), (1,)))
                    if contents is not None and generator is None:
                        contents.is_checked = True
            if contents is None:
                return False
            tracker = _local.tracker
            key = None if tracker is None else tracker.key(tensor)
            if key is None:
                # All processes that hold shards draw, also those with an empty one, so that their generators
                # stay equal.
                key = Key(draw_seed(generator, tensor))
            start = time.perf_counter()
            if tracker is not None and not tracker.is_sampled(tensor):
                _mark(tensor, key)
            elif address is not None and contents.has_our_call:
                dtype = DTYPES[tensor.dtype]
                contents.initializer._fill_at(address, shape, key.seed, key.stream, dtype, _threads())
            else:
                _write_all(regions or _regions(tensor) or (), tensor, contents.initializer, key)
            seconds = time.perf_counter() - start
            if _shards.is_sharded(tensor):
                _shards.mark_written(tensor)
            if tracker is not None:
                tracker.filled(tensor, Filled(contents, tensor.numel(), seconds))
            return True
        finally:
            torch._C._set_grad_enabled(had_gradients)


def note(tensor: Tensor, initializer: fastinit.Initializer) -> bool:
    """Records for a plan, which has more dtypes, that a tensor is filled; returns whether there is one."""
    tracker = _local.tracker
    if tracker is None or not tracker.is_plan or tensor.dtype in DTYPES:
        return False
    with torch.no_grad():
        tensor.zero_()
    describe = functools.partial(initializer.check, tuple(tensor.shape))
    tracker.filled(tensor, Filled(Contents(initializer, describe), tensor.numel(), 0.0))
    return True


def _mark(tensor: Tensor, key: Key) -> None:
    """Writes something that depends on the key to the beginning of a tensor, instead of its elements.

    So what code computes from the tensor depends on the key as well.
    """
    some = tensor.reshape(-1)[:1024] if tensor.is_contiguous() else tensor[(0,) * (tensor.dim() - 1)][:1024]
    array = fastinit.random_normal(len(some), seed=key.seed, stream=key.stream)
    some.copy_(torch.from_numpy(array))


def _contents_of(
    make: Callable[..., fastinit.Initializer],
    parameters: tuple[Any, ...],
    shape: tuple[int, ...],
    dtype: torch.dtype,
) -> Contents | None:
    """What fills tensors of a shape and a dtype; `None` if fastinit does not take the arguments."""
    try:
        numbers = _PACKS[len(parameters)](*parameters)
    except (struct.error, TypeError, OverflowError):
        return None
    return _contents(make, numbers, shape, dtype)


_PACKS = [struct.Struct(f"{count}d").pack for count in range(5)]


@functools.lru_cache(maxsize=1024)
def _contents(
    make: Callable[..., fastinit.Initializer], numbers: bytes, shape: tuple[int, ...], dtype: torch.dtype
) -> Contents | None:
    """The same, with the parameters as the bytes of float64: as numbers, 0.0 would equal -0.0."""
    try:
        initializer = make(*struct.unpack(f"{len(numbers) // 8}d", numbers))
        initializer.validate(shape, _numpy_dtype(dtype))
    except (TypeError, ValueError):
        return None
    return Contents(initializer, functools.partial(initializer.check, shape, _numpy_dtype(dtype)))


def mark_written(tensor: Tensor) -> None:
    """Counts a change of a sharded tensor, and tells the tracker, which finds whose memory it is."""
    if _shards.is_sharded(tensor):
        _shards.mark_written(tensor)
    if _local.tracker is not None:
        _local.tracker.touch(tensor)


def _fall_back(tensor: Tensor, fallback: Callable[[Tensor], Tensor], generator: Generator | None) -> Tensor:
    """Leaves a tensor to PyTorch."""
    if tensor.is_meta:
        return fallback(tensor)
    if not _shards.is_sharded(tensor) or _shards.is_view(tensor):
        result = fallback(tensor)
        mark_written(tensor)
        return result
    # PyTorch advances the generator by the size of the shard. It must stay the same in all processes.
    source = torch.default_generator if generator is None else generator
    state = source.get_state()
    try:
        fallback(tensor)
        mark_written(tensor)
        return tensor
    finally:
        source.set_state(state)
        draw_seed(generator, tensor)


class _Region(NamedTuple):
    """A part of a tensor that is contiguous in every dimension of the full tensor."""

    target: Tensor  # an ordinary tensor
    memory: Array | None  # its memory, if it is on the CPU and has elements
    start: tuple[int, ...]  # the index of its first element in the full tensor


def _regions(tensor: Tensor) -> list[_Region] | None:
    """The parts of a tensor that this process holds; `None` where one is not in plain memory."""
    regions = []
    parts = _shards.parts(tensor)
    for target, start in parts or ():
        if not is_ordinary(target):
            return None
        has_memory = is_on_cpu(target) and target.numel() > 0
        out = memory(target) if has_memory else None
        if has_memory and out is None:
            return None
        regions.append(_Region(target, out, start))
    return None if parts is None else regions


def write(
    part: Tensor,
    initializer: fastinit.Initializer,
    shape: Sequence[int],
    start: Sequence[int],
    axes: Sequence[int],
) -> bool:
    """Fills a part of a tensor by an initializer that is not random; returns whether fastinit can.

    Args:
        part: The part, an ordinary tensor.
        initializer: The initializer.
        shape: The shape of the tensor.
        start: The index of the first element of the part.
        axes: The axes of the tensor in the order of the initializer.
    """
    regions = _regions(part) if can_fill(part) else None
    for region in regions or ():
        part.as_strided((0,), (1,)).zero_()  # This counts the change for autograd.
        out = None if region.memory is None else region.memory.transpose(axes)
        turned = _Region(part.permute(*axes), out, tuple(start[axis] for axis in axes))
        _write(turned, initializer, tuple(shape[axis] for axis in axes), Key(0))
    return regions is not None


def is_on_cpu(tensor: Tensor) -> bool:
    """Whether the CPU can write to the memory of the tensor."""
    return tensor.is_cpu


def memory(tensor: Tensor) -> Array | None:
    """An array that shares the memory of a tensor on the CPU; `None` if it is not plain memory.

    The array does not keep the tensor alive.

    Raises:
        ImportError: If the tensor is bfloat16, and ml_dtypes is not installed.
        RuntimeError: If the storage of the tensor has been made smaller.
    """
    itemsize, span, steps = tensor.itemsize, tensor.numel(), None
    if not tensor.is_contiguous():
        span = 1
        for step, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
            if size > 1 and step < span:  # Elements may overlap.
                return None
            span += step * (size - 1)
        steps = tuple(step * itemsize for step in tensor.stride())
    address = _address(tensor, span)
    if address is None:
        return None
    # `Tensor.numpy` would make the storage impossible to resize, which FSDP needs.
    bytes_there = _memory_view(address, span * itemsize, _PyBUF_WRITE)
    return np.ndarray(tuple(tensor.shape), _numpy_dtype(tensor.dtype), bytes_there, 0, steps)


def _address(tensor: Tensor, span: int) -> int | None:
    """The address of a tensor that extends over `span` elements; `None` if it is not plain memory.

    Raises:
        RuntimeError: If the storage of the tensor has been made smaller.
    """
    try:
        address = tensor.data_ptr()
    except RuntimeError:  # The tensor is batched by vmap, say.
        return None
    if tensor.is_neg():
        return None
    # FSDP, for one, frees a parameter by resizing its storage to 0. The address is invalid then.
    needed = (tensor.storage_offset() + span) * tensor.itemsize
    if tensor.untyped_storage().nbytes() < needed:
        raise RuntimeError(f"the tensor needs {needed} bytes, but its storage has been made smaller")
    return address


_memory_view: Any = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)(
    ("PyMemoryView_FromMemory", ctypes.pythonapi)
)
_PyBUF_WRITE = 0x200


@functools.cache
def _numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """The dtype of NumPy of the same name."""
    return fastinit.zeros(0, dtype=str(dtype).removeprefix("torch.")).dtype


def draw_seed(generator: Generator | None, tensor: Tensor) -> int:
    """The next 64 bits of a generator; `None` means the global one of the CPU."""
    # The device is named, since a default device may be in force.
    if generator is None or generator.device.type == "cpu":
        if _local.word is None:
            with torch.inference_mode(False):  # since it outlives the mode
                word = torch.empty((), dtype=torch.int64, device="cpu")
            _local.word = word, word.numpy().view(np.uint64)
        word, bits = _local.word
        word.random_(-(2**63), None, generator=generator)
        return bits.item()
    word = torch.empty((), dtype=torch.int64, device=tensor.device)
    return int(word.random_(-(2**63), None, generator=generator).item()) % 2**64


def _write_all(
    regions: Sequence[_Region], tensor: Tensor, initializer: fastinit.Initializer, key: Key
) -> None:
    """Fills the regions of a tensor."""
    shape = tuple(tensor.shape)
    if len(regions) > 1 and isinstance(initializer, fastinit.Orthogonal):
        # A part of an orthogonal matrix costs as much as all of it.
        whole = torch.empty(shape, dtype=tensor.dtype, device="cpu")
        _write(_Region(whole, memory(whole), (0,) * len(shape)), initializer, shape, key)
        for target, _, start in regions:
            target.copy_(whole[_shards.box(start, target.shape)])
        return
    for region in regions:
        _write(region, initializer, shape, key)


def _threads() -> int:
    """A limit on either library applies to fills: torchrun, for one, gives each process one thread."""
    return min(torch.get_num_threads(), fastinit.get_num_threads())


def _write(region: _Region, initializer: fastinit.Initializer, shape: tuple[int, ...], key: Key) -> None:
    """Fills a region of a tensor of this shape; on another device than the CPU, piece by piece."""
    target, out, start = region
    if out is not None:
        index = None
        if out.shape != shape:
            index = _shards.box(start, target.shape)
        initializer(
            shape, seed=key.seed, stream=key.stream, dtype=out.dtype, out=out, index=index, threads=_threads()
        )
    elif target.numel() > 0:
        # A part of an orthogonal matrix costs as much as all of it.
        size = target.nbytes if isinstance(initializer, fastinit.Orthogonal) else _STAGE
        for part, count in pieces(target.shape, max(1, size // target.itemsize)):
            piece = target[part]
            buffer = _buffer(count * target.itemsize).view(target.dtype).view(piece.shape)
            first = [one.start for one in part] + [0] * (target.dim() - len(part))
            there = tuple(i + j for i, j in zip(start, first, strict=True))
            _write(_Region(buffer, memory(buffer), there), initializer, shape, key)
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
    """Memory of this many bytes on the CPU; up to `_STAGE`, the same memory each time in a thread."""
    if size > _STAGE:
        return torch.empty(size, dtype=torch.uint8, device="cpu")
    if _local.buffer is None:
        # Not an inference tensor, since it outlives the mode.
        with torch.inference_mode(False):
            _local.buffer = torch.empty(_STAGE, dtype=torch.uint8, device="cpu")
    return _local.buffer[:size]
