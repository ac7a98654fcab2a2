"""What PyTorch is to write of a plan: pieces, which are made when they are written."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.checkpoint.default_planner import create_default_global_save_plan
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import (
    SavePlan,
    SavePlanner,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)

from fastinit._fill import fill
from fastinit._plan import DTYPES, numpy_dtype, share
from fastinit._terminal import listed

from ._fill import pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from torch.distributed.checkpoint.storage import WriteResult

    from fastinit._plan import Plan, PlanRow

# The most bytes of a piece, except of a tensor that cannot be made in parts.
_PIECE = 2**26


class Writer(FileSystemWriter):
    """PyTorch's writer, which would not notice that one of its threads has failed."""

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Writes `.metadata`, if all pieces have been written."""
        wanted = sum(len(getattr(one, "chunks", ())) for one in metadata.state_dict_metadata.values())
        if (found := sum(map(len, results))) != wanted:
            raise OSError(f"{found} of {wanted} pieces could be written to {self.path}")
        super().finish(metadata, results)


class Planner(SavePlanner):
    """Tells PyTorch which pieces this process writes, and makes each when it is written."""

    def __init__(self, plan: Plan, seed: int, prefix: str) -> None:
        self.plan = plan
        self.seed = seed
        self.prefix = prefix
        self.rows: dict[str, PlanRow] = {prefix + name: row for row in plan.rows for name in row.names}
        self.buffers = threading.local()

    def set_up_planner(self, state_dict: Any, storage_meta: Any = None, is_coordinator: bool = False) -> None:  # noqa: FBT001, FBT002
        """Needs nothing of the state, which is empty."""

    def create_local_plan(self) -> SavePlan:
        """The pieces of this process."""
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        items = list(self._items())
        sizes = [
            math.prod(data.chunk.sizes) * DTYPES[self.rows[item.index.fqn].dtype]
            for item in items
            if (data := item.tensor_data) is not None
        ]
        mine = [items[place] for place in share(sizes, rank, world)]
        return SavePlan(mine, planner_data=self._digest())

    def _digest(self) -> str:
        """What must be the same in all processes."""
        found = hashlib.blake2b(f"{self.seed} {self.prefix!r}".encode(), digest_size=16)
        for row in self.plan.rows:
            found.update(json.dumps(row.to_dict()).encode())
        return found.hexdigest()

    def _items(self) -> Iterator[WriteItem]:
        for name, row in self.rows.items():
            properties = TensorProperties(dtype=getattr(torch, row.dtype))
            for start, sizes in _chunks(row):
                chunk = ChunkStorageMetadata(torch.Size(start), torch.Size(sizes))
                data = TensorWriteData(chunk, properties, torch.Size(row.shape))
                yield WriteItem(MetadataIndex(name, chunk.offsets), WriteItemType.SHARD, tensor_data=data)

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        """The pieces of all processes, and what `.metadata` has."""
        ranks = [rank for rank, one in enumerate(all_plans) if one.planner_data != all_plans[0].planner_data]
        if ranks:
            raise ValueError(
                "all processes must write the same plan, with the same seed and prefix; "
                f"those of rank {listed(ranks)} differ from those of rank 0"
            )
        plans, metadata = create_default_global_save_plan(all_plans)
        outer = (self.prefix.removesuffix("."),) if self.prefix.endswith(".") else ()
        paths = {name: (*outer, name[len(self.prefix) :]) if outer else (name,) for name in self.rows}
        return plans, dataclasses.replace(metadata, planner_data=paths)

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        """Keeps the pieces as they are."""
        return new_plan

    def resolve_data(self, write_item: WriteItem) -> Tensor:
        """Makes a piece."""
        assert write_item.tensor_data is not None
        row, chunk = self.rows[write_item.index.fqn], write_item.tensor_data.chunk
        count = math.prod(chunk.sizes)
        if count == 0:
            return torch.empty(chunk.sizes, dtype=write_item.tensor_data.properties.dtype)
        # PyTorch keeps a reference to the last piece of each tensor, so all pieces of a thread share memory.
        # Each must have a storage of its own size, or PyTorch would copy it.
        nbytes = count * DTYPES[row.dtype]
        buffer = getattr(self.buffers, "own", None)
        if buffer is None or len(buffer) < nbytes:
            buffer = self.buffers.own = np.empty(nbytes, np.uint8)
        first = 0
        for start, size in zip(chunk.offsets, row.shape, strict=True):
            first = first * size + start
        fill(row, first, buffer[:nbytes].view(numpy_dtype(row.dtype)), self.seed, 1)
        dtype = write_item.tensor_data.properties.dtype
        return torch.frombuffer(buffer[:nbytes].data, dtype=dtype).view(chunk.sizes)


def _chunks(row: PlanRow) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The pieces of a tensor, which are contiguous in C order: where each begins, and its shape."""
    if row.size == 0 or not row.is_by_element:
        yield (0,) * len(row.shape), row.shape
        return
    for index, _ in pieces(row.shape, _PIECE // DTYPES[row.dtype]):
        rest = row.shape[len(index) :]
        start = tuple(one.start for one in index) + (0,) * len(rest)
        yield start, tuple(one.stop - one.start for one in index) + rest
