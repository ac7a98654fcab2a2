"""Whatever `initialize` reports as filled was filled: memory that it gives to tensors is poisoned first.

The poison is a NaN of a bit pattern that no computation makes.
"""

import contextlib
from unittest import mock

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from fastinit.torch import _initialize, _report, _shards

POISON = {
    torch.float64: (torch.int64, 0x7FF8DEADBEEF0001),
    torch.float32: (torch.int32, 0x7FDEAD01),
    torch.float16: (torch.int16, 0x7FAD),
    torch.bfloat16: (torch.int16, 0x7FAD),
}


def memory(tensor):
    """The ordinary tensors of floats that hold the contents of a tensor in this process, as integers."""
    tensor = _shards.local(tensor).detach()
    if is_traceable_wrapper_subclass(tensor):
        for name in tensor.__tensor_flatten__()[0]:
            yield from memory(getattr(tensor, name))
    elif tensor.dtype in POISON and not tensor.is_nested and tensor.layout is torch.strided:
        yield tensor, *POISON[tensor.dtype]


def poison(tensor):
    for part, dtype, value in memory(tensor):
        part.view(dtype).fill_(value)


def is_poisoned(tensor):
    """Whether poison, or no memory at all, is left anywhere."""
    for part, dtype, value in memory(tensor):
        if part.is_meta:
            return True
        numbers = part.view(dtype)
        rows = max(1, 2**20 * max(1, part.shape[0]) // max(1, part.numel())) if part.dim() else 1
        if any(bool((piece == value).any()) for piece in (numbers.split(rows) if part.dim() else [numbers])):
            return True
    return False


@contextlib.contextmanager
def poisoned():
    """A context in which `initialize` gives poisoned memory, and is checked."""
    materialize, row = _initialize._materialize, _report.row

    def materialize_poisoned(tensors, *others):
        materialize(tensors, *others)
        with torch.no_grad():
            for entry in tensors:
                if entry.was_meta and not entry.value.is_meta:
                    poison(entry.value)

    def checked_row(entry, *others):
        assert not is_poisoned(entry.value), f"{entry.name} is reported, but was not filled"
        return row(entry, *others)

    with (
        mock.patch.object(_initialize, "_materialize", materialize_poisoned),
        mock.patch.object(_report, "row", checked_row),
    ):
        yield
