"""Plans as checkpoints of Orbax, with one tensor at a time in memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import fastinit
from fastinit._checks import check_int
from fastinit._fill import fill
from fastinit._plan import Plan, PlanRow, numpy_dtype

from ._initialize import name_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def write_orbax(
    plan: Plan,
    directory: str | os.PathLike[str],
    seed: int,
    *,
    tree: Any = None,
    threads: int | None = None,
) -> None:
    """Writes a plan as a checkpoint of Orbax, for `orbax.checkpoint.StandardCheckpointer().restore`.

    Orbax itself writes the files, in its own format, without compression, which would gain little. Tensors
    are made and written one after another, so memory is that of the largest tensor (five times as much for
    float8). Orbax gives the directory its name at the end. After a failure, only a directory whose name ends
    in `.orbax-checkpoint-tmp` is left.

    Arrays are restored as arrays of JAX where the tree that `restore` gets has shardings, otherwise as
    arrays of NumPy.

    Args:
        plan: What the tensors contain, from any source, see `plan` and `fastinit.checkpoint.plan`.
        directory: The directory, which must not exist.
        seed: An int in [0, 2**64).
        tree: The tree of the checkpoint: its leaves have a `shape`, and their names, see `initialize`, are
            those of the plan. By default nested dicts, by the names split at dots.
        threads: The largest number of threads to use; `None` for `fastinit.get_num_threads()`.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of range; if a tensor has no elements, which Orbax does not store;
            if names of the plan do not make a tree, or the tree does not fit the plan.
        FileExistsError: If the directory exists.
        ImportError: If orbax-checkpoint is not installed.

    Example:
        >>> import tempfile, jax, fastinit, fastinit.jax
        >>> from orbax.checkpoint import StandardCheckpointer
        >>> place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        >>> tree = {"up": {"kernel": jax.ShapeDtypeStruct((64, 128), "bfloat16", sharding=place)}}
        >>> plan = fastinit.jax.plan(tree, rules={"*": fastinit.HeNormal()})
        >>> directory = f"{tempfile.mkdtemp()}/checkpoint"
        >>> fastinit.jax.write_orbax(plan, directory, seed=1)
        >>> restored = StandardCheckpointer().restore(directory, tree)
        >>> made, _ = fastinit.jax.initialize(tree, rules={"*": fastinit.HeNormal()}, seed=1)
        >>> bool((restored["up"]["kernel"] == made["up"]["kernel"]).all())
        True
    """
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan, got {type(plan).__name__}; fastinit.jax.plan makes one")
    seed = check_int("seed", seed, 0, 2**64 - 1)
    number = fastinit.get_num_threads() if threads is None else check_int("threads", threads, 1)
    if empty := [row.name for row in plan.rows if row.size == 0]:
        raise ValueError(f"Orbax does not store tensors without elements: {', '.join(empty)}")
    rows = _nested(plan) if tree is None else _in_tree(plan, tree)
    path = os.fspath(directory)
    if "://" not in path:
        path = os.path.abspath(path)  # noqa: PTH100 - `Path` would change the names of buckets.
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists; a checkpoint of Orbax needs a new directory")
    try:
        import orbax.checkpoint as orbax
    except ImportError as error:
        raise ImportError("write_orbax needs orbax-checkpoint: pip install orbax-checkpoint") from error
    is_stopped = False

    class Handler(orbax.type_handlers.NumpyHandler):
        """What Orbax writes for a row of the plan."""

        def typestr(self) -> str:
            return "jax.Array"

        async def serialize(self, values: Any, infos: Any, args: Any = None) -> list[Any]:
            # Orbax runs this once the directory is there.
            return [
                orbax.future.CommitFutureAwaitingContractedSignals(
                    self.write(values, infos, args), name="fastinit"
                )
            ]

        async def write(self, values: Sequence[PlanRow], infos: Sequence[Any], args: Sequence[Any]) -> None:
            for row, info, arg in zip(values, infos, args, strict=True):
                if is_stopped:
                    return
                array = np.empty(row.shape, numpy_dtype(row.dtype))
                fill(row, 0, array.reshape(-1), seed, number)
                for written in await super().serialize([array], [info], [arg]):
                    written.result()

    registry = orbax.type_handlers.create_type_handler_registry(
        (PlanRow, Handler(deepcopy_host_arrays=False))
    )
    handler = orbax.PyTreeCheckpointHandler(type_handler_registry=registry, use_compression=False)
    try:
        with orbax.Checkpointer(handler) as checkpointer:
            checkpointer.save(path, args=orbax.args.PyTreeSave(rows))
    finally:
        is_stopped = True  # The thread that writes need not go on after Ctrl-C.


def _nested(plan: Plan) -> dict[str, Any]:
    """The rows in nested dicts."""
    found: dict[str, Any] = {}
    for row in plan.rows:
        *parents, last = row.name.split(".")
        place = found
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                break
        if not isinstance(place, dict) or last in place:
            raise ValueError(f"{row.name}: a tensor of the plan has the name of a part of this name")
        place[last] = row
    return found


def _in_tree(plan: Plan, tree: Any) -> Any:
    """The tree with the rows as its leaves."""
    paths, structure = jax.tree_util.tree_flatten_with_path(tree)
    rows = {row.name: row for row in plan.rows}
    names = [name_of(path) for path, _ in paths]
    if missing := [name for name in names if name not in rows]:
        raise ValueError(f"the plan lacks {', '.join(missing)}")
    if left := sorted(rows.keys() - set(names)):
        raise ValueError(f"the tree lacks {', '.join(left)}")
    for name, (_, leaf) in zip(names, paths, strict=True):
        if tuple(leaf.shape) != rows[name].shape:
            raise ValueError(f"{name}: the shape is {rows[name].shape} in the plan, {leaf.shape} in the tree")
    return jax.tree.unflatten(structure, [rows[name] for name in names])
