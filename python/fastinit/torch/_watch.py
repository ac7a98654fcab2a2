"""What the code of a model does while the model is planned, by the operations of PyTorch that it calls.

Every write to the memory of a tensor is seen, whatever view it goes through. Followed is also which tensors
depend on values that the plan does not have: random numbers, and the elements of large tensors.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from . import _fill

if TYPE_CHECKING:
    from torch import Tensor


class Watcher(Protocol):
    """Is told what is seen."""

    def is_sampled(self, tensor: Tensor) -> bool:
        """Whether a tensor has the elements that it is to have."""
        ...

    def changed(self, tensor: Tensor) -> bool:
        """Records that code wrote to a tensor; returns whether it is, or is a part of, one of the model."""
        ...

    def looked(self, *, branches: bool) -> None:
        """Records that code looked at a number that the plan does not have, or at whether something holds."""
        ...


class Watch(TorchDispatchMode):
    """Follows the operations of PyTorch."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()
        self.watcher = watcher
        # A weak reference keeps the identity of a storage from being used again.
        self.unknown: dict[int, StorageWeakRef] = {}

    def add(self, tensor: Tensor) -> None:
        """Notes that the plan does not have the values of a tensor."""
        with torch._C.DisableTorchFunction():
            reference = StorageWeakRef(tensor.untyped_storage())
        self.unknown[reference.cdata] = reference

    def is_unknown(self, tensor: Tensor) -> bool:
        """Whether the plan does not have the values of a tensor, or of one that shares its memory."""
        with torch._C.DisableTorchFunction():
            return _has_storage(tensor) and tensor.untyped_storage()._cdata in self.unknown

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls the operation, and follows it."""
        kwargs = kwargs or {}
        is_random, written_names, overwrites = _kind(func)
        written = [
            one
            for place, name in written_names
            for one in _tensors(args[place] if place < len(args) else kwargs.get(name))
            if _has_storage(one) and one.numel() > 0
        ]
        ids = set(map(id, written))
        read = [one for one in _tensors((args, kwargs)) if not (overwrites and id(one) in ids)]
        # PyTorch draws from an empty range where a layer has no inputs.
        is_random &= func not in _OF_RANGES or args[1:3] not in ((0.0, 0.0), (-0.0, 0.0))
        unknown = is_random or any(map(self.is_unknown, read))
        if unknown and func in _LOOKS:
            whether = [one.dtype is torch.bool for one in read]
            self.watcher.looked(branches=func is not _LOOKS[0] or any(whether))
        of_model = [one for one in written if self.watcher.changed(one)]
        # What is not there need not be computed with, which would take memory.
        if len(written) == 1 and of_model and not self.watcher.is_sampled(written[0]):
            self.add(written[0])
            return written[0] if func._schema.returns else None
        result = func(*args, **kwargs)
        for one in written:
            if unknown:
                self.add(one)
            elif overwrites and one.nbytes == one.untyped_storage().nbytes():
                self.unknown.pop(one.untyped_storage()._cdata, None)
        if unknown:
            for one in filter(_has_storage, _tensors(result)):
                self.add(one)
        return result


# Operations that give Python a number, or look at the values of a tensor in another way.
_LOOKS = (
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.nonzero.default,
)
_OF_RANGES = frozenset({torch.ops.aten.uniform_.default})
_OVERWRITES = frozenset({"aten::fill_", "aten::zero_", "aten::copy_", "aten::uniform_"})


@functools.cache
def _kind(func: Any) -> tuple[bool, tuple[tuple[int, str], ...], bool]:
    """Whether an operation draws random numbers, what it writes to, and whether it only overwrites that."""
    written = tuple(
        (place, argument.name)
        for place, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    is_random = torch.Tag.nondeterministic_seeded in func.tags
    return is_random, written, func._schema.name in _OVERWRITES


def _tensors(values: Any) -> list[Tensor]:
    return [one for one in _pytree.tree_leaves(values) if isinstance(one, torch.Tensor)]


def _has_storage(tensor: Tensor) -> bool:
    return _fill.is_ordinary(tensor) and not (
        tensor.is_meta or tensor.layout is not torch.strided or tensor.is_nested
    )
