"""What `initialize` did: a row for each tensor, and what deserves a look."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

import fastinit
from fastinit._terminal import table

from . import _shards

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from ._fill import Make
    from ._names import Entry, Made

# Larger tensors are measured by as many elements, spread over them. PyTorch begins no threads for so few.
_MEASURED = 2**15
_RUNS = 64


@dataclass(frozen=True)
class Row:
    """One tensor.

    Attributes:
        name: Its name, the first of `names`.
        names: All names that it has in the model, where it is tied.
        shape: Its shape; of a `DTensor`, the whole one.
        dtype: Its dtype.
        rule: Where its contents come from: the pattern or type of the rule, or the function of its module.
        law: The law of its elements, an initializer of `fastinit`; `None` if another function made them. Of a
            tensor in blocks, the law of the first.
        fan: `fan_in` and `fan_out` in PyTorch's convention; `None` for less than two dimensions.
        target_mean: The mean of the law, over all blocks; `None` if there is no law.
        target_std: Its standard deviation.
        mean: The mean that was measured: on all elements that lie in this process or, where these are more
            than 2**15, on so many in 64 runs spread evenly. NaN if there are none.
        std: The standard deviation that was measured.
        seconds: How long sampling took.
    """

    name: str
    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    rule: str
    law: fastinit.Initializer | None
    fan: tuple[int, int] | None
    target_mean: float | None
    target_std: float | None
    mean: float
    std: float
    seconds: float


@dataclass(frozen=True)
class Report:
    """What `initialize` did. `print` shows it as a table.

    Attributes:
        rows: A row for each parameter, and each buffer, that was initialized, in the order of the model.
        untouched: Names of parameters that nobody initialized, and that keep what they had; those that were
            on the meta device are still there.
        buffers: Names of buffers that are still on the meta device, since nobody knows what they contain.
        empty: Names of parameters without elements.
        twins: Groups of tensors that have equal contents, constant ones aside.
        unused: Rules that matched nothing.
        seconds: How long it took.
    """

    rows: tuple[Row, ...] = ()
    untouched: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    twins: tuple[tuple[str, ...], ...] = ()
    unused: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    def __getitem__(self, name: str) -> Row:
        """The row of a tensor, by any of its names."""
        for row in self.rows:
            if name in row.names:
                return row
        raise KeyError(name)

    def __str__(self) -> str:
        """The table, and below it what deserves a look."""
        header = ("tensor", "shape", "dtype", "rule", "law", "fan in, out", "mean", "std", "target", "ms")
        cells = []
        for row in self.rows:
            cells.append(
                (
                    row.name if len(row.names) == 1 else f"{row.name} (+{len(row.names) - 1})",
                    " x ".join(map(str, row.shape)) or "()",
                    str(row.dtype).removeprefix("torch."),
                    row.rule,
                    "" if row.law is None else type(row.law).__name__,
                    "" if row.fan is None else "{}, {}".format(*row.fan),
                    f"{row.mean:.2e}",
                    f"{row.std:.4g}",
                    "" if row.target_std is None else f"{row.target_std:.4g}",
                    f"{row.seconds * 1e3:.1f}",
                )
            )
        lines = [table(header, cells, "<<<<<<>>>>")]
        count = sum(math.prod(row.shape) for row in self.rows)
        lines.append(f"{len(self.rows)} tensors, {count:,} elements, {self.seconds:.2f} s")
        notes = [
            ("initialized by nobody", self.untouched),
            ("buffers still on the meta device", self.buffers),
            ("without elements", self.empty),
            ("equal to each other", [" = ".join(group) for group in self.twins]),
            ("rules that matched nothing", self.unused),
        ]
        lines += [f"{title}: {', '.join(names)}" for title, names in notes if names]
        return "\n".join(lines)


def row(entry: Entry) -> Row:
    """The row of a tensor that has been initialized."""
    value = entry.value
    # Whatever changed it later, in a way that nobody has seen, has changed the law.
    made = [entry.made[block] for block in sorted(entry.made)] if entry.is_current else []
    target = _combined(made)
    mean, std = _measure(value)
    fan = None if value.dim() < 2 else torch.nn.init._calculate_fan_in_and_fan_out(value)
    return Row(
        name=entry.name,
        names=entry.names,
        shape=tuple(value.shape),
        dtype=value.dtype,
        rule=entry.title + (f", {len(entry.sizes)} blocks" if entry.sizes else ""),
        law=made[0].law if made else None,
        fan=fan,
        target_mean=None if target is None else target[0],
        target_std=None if target is None else target[1],
        mean=mean,
        std=std,
        seconds=sum(of_block.seconds for of_block in made),
    )


def _combined(made: Sequence[Made]) -> tuple[float, float] | None:
    """The mean and the standard deviation of blocks together."""
    count, mean, square = 0, 0.0, 0.0
    for law, shape, _ in made:
        found = None if law is None else _moments(law, shape)
        if found is None:
            return None
        size = math.prod(shape)
        count += size
        mean += size * found[0]
        square += size * (found[1] ** 2 + found[0] ** 2)
    if count == 0:
        return None
    mean /= count
    return mean, math.sqrt(max(0.0, square / count - mean**2))


def law_of(make: Make, shape: Sequence[int]) -> fastinit.Initializer | None:
    """What `make` makes of a tensor of this shape, as an initializer whose parameters are plain."""
    initializer: Any = make
    if isinstance(make, functools.partial):
        # The functions of fastinit are called as their classes.
        kind = getattr(fastinit, "".join(map(str.capitalize, make.func.__name__.split("_"))))
        initializer = kind(*make.args, **make.keywords)
    return initializer.for_shape(shape) if isinstance(initializer, fastinit.Initializer) else None


def _moments(law: fastinit.Initializer, shape: Sequence[int]) -> tuple[float, float] | None:
    """The mean and the standard deviation of the elements of a tensor."""
    try:
        found = law.check(tuple(shape))
    except TypeError:  # a class of the user's own
        return None
    return found.mean, found.std


def _measure(tensor: Tensor) -> tuple[float, float]:
    """The mean and the standard deviation of what lies here, or of a part that is spread over it."""
    with torch.no_grad():
        here = _shards.local(tensor)
        if here.numel() == 0 or not here.is_floating_point() or here.layout is not torch.strided:
            return math.nan, math.nan
        std, mean = torch.std_mean(_sample(here, _MEASURED).double(), correction=0)
        return float(mean), float(std)


def _sample(tensor: Tensor, size: int) -> Tensor:
    """At most so many elements of a tensor, spread over it, the same ones for all of a shape."""
    if tensor.numel() <= size:
        return tensor.reshape(-1)
    runs = min(_RUNS, size)
    run = size // runs
    step = (tensor.numel() - run) // (runs - 1)
    if tensor.is_contiguous():
        return tensor.as_strided((runs, run), (step, 1), tensor.storage_offset())
    first = torch.arange(runs, device=tensor.device)[:, None] * step
    places = torch.unravel_index(first + torch.arange(run, device=tensor.device), tensor.shape)
    return tensor[places]


def twins(entries: Sequence[Entry]) -> Iterator[tuple[str, ...]]:
    """Groups of names of tensors that have equal contents, constant ones aside."""
    alike: dict[object, list[tuple[str, Tensor]]] = {}
    for entry in entries:
        here = _shards.local(entry.value).detach()
        if here.is_meta or here.numel() < 2 or here.layout is not torch.strided:
            continue
        some = _sample(here, 16)
        if not bool((some == some.flatten()[0]).all()) or not _is_constant(here):
            sample = tuple(some.flatten().tolist())
            alike.setdefault((here.shape, here.dtype, here.device, sample), []).append((entry.name, here))
    for group in alike.values():
        while len(group) > 1:
            (name, first), *others = group
            equal = [other for other, value in others if torch.equal(first, value)]
            if equal:
                yield name, *equal
            group = [(other, value) for other, value in others if other not in equal]


def _is_constant(tensor: Tensor) -> bool:
    """Whether all elements are equal; without a temporary of its size."""
    least, greatest = torch.aminmax(tensor) if tensor.is_floating_point() else (tensor.min(), tensor.max())
    return bool(least == greatest)
