"""What `initialize` did, for any framework: a row for each tensor, and findings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastinit._results import Result, Rows
from fastinit._terminal import Table

if TYPE_CHECKING:
    import fastinit

# Larger tensors are measured by as many elements, in runs spread over them. PyTorch starts no threads for
# so few.
MEASURED = 2**15


def spread(size: int, most: int) -> tuple[int, int, int]:
    """The number of runs in which `most` of `size` elements are taken, their length, and their distance."""
    runs = min(64, most)
    length = most // runs
    return runs, length, (size - length) // (runs - 1)


@dataclass(frozen=True)
class ReportRow(Result):
    """One tensor.

    Attributes:
        name: Its name, the first of `names`.
        names: All names that it has in the model, where it is tied.
        shape: Its shape; of a sharded tensor, the full one.
        dtype: Its dtype, of the framework.
        rule: Where its contents come from: the pattern or type of the rule, or the function of its module.
        initializer: What it was filled with; of a tensor in blocks, the first block; `None` if another
            function filled it.
        distribution: The name of the distribution of its elements, such as `"truncated_normal"`, or
            `"mixture"` where blocks differ; `None` if there is no initializer.
        fan_in, fan_out: The fans in the convention of the framework, of one layer where a JAX model makes
            several layers as one array; `None` for less than two dimensions.
        target_mean: The mean of the distribution, over all blocks; `None` if there is none.
        target_std: Its standard deviation.
        mean: The measured mean, over all elements that this process holds or, where these are more than
            2**15, over that many in 64 runs spread evenly. NaN if there are none.
        std: The standard deviation of these elements.
        seconds: The time that sampling took.
    """

    name: str
    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: Any
    rule: str
    initializer: fastinit.Initializer | None
    distribution: str | None
    fan_in: int | None
    fan_out: int | None
    target_mean: float | None
    target_std: float | None
    mean: float
    std: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """All attributes by name, as values that `json` takes; the dtype is its name."""
        return {**super().to_dict(), "dtype": _dtype_name(self.dtype)}


@dataclass(frozen=True)
class Report(Rows[ReportRow]):
    """What `initialize` did. `print` shows it as a table.

    Attributes:
        rows: A row for each parameter, and each buffer, that was initialized, in the order of the model;
            `report[name]` is that of a name.
        uninitialized: Names of parameters that were not initialized. They keep their values, or stay on the
            meta device.
        meta_buffers: Names of buffers without a known initializer, which are still on the meta device.
        empty: Names of parameters without elements.
        twins: Groups of tensors with equal contents, except constant ones.
        unused_rules: Rules and blocks that matched nothing.
        not_run: What looks like an initialization of the model's own, but was not run, or was run without the
            arguments in parentheses; each with the name of the first module that has it.
        computed: Names of arrays that the code of a JAX model computed, and not fastinit.
        seconds: The time that all of it took.
    """

    rows: tuple[ReportRow, ...] = ()
    uninitialized: tuple[str, ...] = ()
    meta_buffers: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    twins: tuple[tuple[str, ...], ...] = ()
    unused_rules: tuple[str, ...] = ()
    not_run: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    def _parts(self) -> list[str | Table]:
        """The table, and below it the findings."""
        header = (
            *("tensor", "shape", "dtype", "rule", "distribution"),
            *("fan in, out", "mean", "std", "target", "ms"),
        )
        cells = []
        for row in self.rows:
            cells.append(
                (
                    row.name if len(row.names) == 1 else f"{row.name} (+{len(row.names) - 1})",
                    " x ".join(map(str, row.shape)) or "()",
                    _dtype_name(row.dtype),
                    row.rule,
                    (row.distribution or "").replace("_", " "),
                    "" if row.fan_in is None else f"{row.fan_in}, {row.fan_out}",
                    f"{row.mean:.2e}",
                    f"{row.std:.4g}",
                    "" if row.target_std is None else f"{row.target_std:.4g}",
                    f"{row.seconds * 1e3:.1f}",
                )
            )
        lines: list[str | Table] = [Table(header, cells, "<<<<<<>>>>")]
        count = sum(math.prod(row.shape) for row in self.rows)
        lines.append(f"{len(self.rows)} tensors, {count:,} elements, {self.seconds:.2f} s")
        notes = [
            ("not initialized", self.uninitialized),
            ("buffers still on the meta device", self.meta_buffers),
            ("without elements", self.empty),
            ("equal to each other", [" = ".join(group) for group in self.twins]),
            ("rules that matched nothing", self.unused_rules),
            ("initialization of its own, not run as in its constructor", self.not_run),
            ("computed by the model's own code", self.computed),
        ]
        lines += [f"{title}: {', '.join(names)}" for title, names in notes if names]
        return lines


def _dtype_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
