"""Plans as distributed checkpoints of PyTorch (DCP)."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch.distributed as dist

import fastinit
from fastinit._checks import check_int
from fastinit._plan import Plan


def write_dcp(
    plan: Plan, directory: str | os.PathLike[str], seed: int, *, prefix: str = "", threads: int | None = None
) -> None:
    """Writes a plan as a distributed checkpoint, for `torch.distributed.checkpoint.load`.

    It is loaded into a state dict of ordinary tensors, or of shards on any mesh (FSDP2, tensor parallelism),
    with the names that `Module.state_dict` has, also those of tied tensors. PyTorch itself writes the files.

    If a process group is initialized, all processes must call this, and each writes its own pieces.
    Otherwise this process writes all.

    Memory: 64 MiB for each thread, or the largest tensor that cannot be made in parts (`print(plan)` names
    it). The file `.metadata`, without which nothing can be loaded, comes last.

    Args:
        plan: What the tensors contain.
        directory: The directory; it must have no distributed checkpoint.
        seed: An int in [0, 2**64).
        prefix: What the names in the checkpoint begin with: `"model."` for a state of
            `{"model": model.state_dict()}`.
        threads: The number of threads of each process, and of its files; `None` for
            `fastinit.get_num_threads()`.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of range, or the plan, the seed or the prefix is not the same in all
            processes.
        FileExistsError: If the directory has a distributed checkpoint.
        OSError: If a file cannot be written.

    Example:
        >>> import tempfile, torch, fastinit.torch
        >>> from torch.distributed import checkpoint as dcp
        >>> model = torch.nn.Linear(64, 256)
        >>> directory = tempfile.mkdtemp()
        >>> fastinit.torch.write_dcp(fastinit.torch.plan(model), directory, seed=1)
        >>> state = model.state_dict()
        >>> dcp.load(state, checkpoint_id=directory, no_dist=True)
        >>> _ = fastinit.torch.initialize(model, seed=1)
        >>> torch.equal(state["weight"], model.weight)
        True
    """
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan, got {type(plan).__name__}; fastinit.torch.plan makes one")
    seed = check_int("seed", seed, 0, 2**64 - 1)
    threads = fastinit.get_num_threads() if threads is None else check_int("threads", threads, 1)
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a str, got {type(prefix).__name__}")
    if (Path(directory) / ".metadata").exists():
        raise FileExistsError(f"{directory} has a distributed checkpoint, which would be overwritten")
    # These take more than a second to import.
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    from ._planner import Planner, Writer

    is_alone = not (dist.is_available() and dist.is_initialized())
    # Without copying ahead, one tensor of each thread is in memory at a time.
    writer = Writer(os.fspath(directory), thread_count=threads, per_thread_copy_ahead=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")
        try:
            dcp.save({}, storage_writer=writer, planner=Planner(plan, seed, prefix), no_dist=is_alone)
        except CheckpointException as error:  # It is no `Exception`, and has the errors of all processes.
            raise next(failure for failure, _ in error.failures.values()) from error
