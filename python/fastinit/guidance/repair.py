"""Rules that repair a network: LSUV, and what `fix` of a trace or a diagnosis makes.

Nothing here changes a model but `Repair.apply`, which says so: rules are made, measured and returned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit._results import Result, Rows
from fastinit._terminal import Table
from fastinit.guidance.recommend.spelling import short
from fastinit.initializers import LecunNormal, Ones, Orthogonal, RandomNormal, VarianceScaling, Zeros, get
from fastinit.theory.gains import gain as theoretical_gain
from fastinit.theory.parse import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fastinit.initializers import Initializer

    from .diagnose import Diagnosis, DiagnosisRow
    from .trace import Trace, TraceProblem
    from .trace.record import Kernel

    # The rules, and why other parameters have none.
    _Rules = tuple[list["RepairRow"], dict[str, str]]

# What tanh needs to hold both the signal and the gradient over many layers: slightly more than 1 / slope.
_CRITICAL = 1.05


@dataclass(frozen=True)
class RepairRow(Result):
    """A rule for a parameter.

    Attributes:
        name: The name of the parameter.
        initializer: Its new initializer; its axes are those of the parameter.
        reason: Why.
    """

    name: str
    initializer: Initializer
    reason: str


@dataclass(frozen=True)
class Repair(Rows[RepairRow]):
    """Rules for the parameters of a model. `print` shows them; nothing is changed before `apply`.

    Attributes:
        framework: The framework of the model; of a diagnosis, which knows tensors only, `""`.
        seed: The seed of the new weights; the stream of each is the name of its parameter.
        rows: A row for each rule; `repair[name]` is that of a parameter.
        skipped: Why other parameters have no rule, by name.
        problems: What a trace with these rules still finds; empty for `lsuv` and for a diagnosis, which make
            no such trace.
    """

    framework: str
    seed: int
    rows: tuple[RepairRow, ...]
    skipped: dict[str, str]
    problems: tuple[TraceProblem, ...]
    _apply: Callable[[Mapping[str, Initializer], int], None] | None = field(
        default=None, repr=False, compare=False
    )

    @property
    def rules(self) -> dict[str, Initializer]:
        """The initializer of each parameter by its name, as `fastinit.torch.initialize` takes them."""
        return {row.name: row.initializer for row in self.rows}

    def apply(self) -> None:
        """Writes the new values into the parameters that have a rule, and changes nothing else.

        They are those of `initializer(shape, seed=seed, stream=name)`.

        Raises:
            ValueError: If the model has no such parameter any more, or there is none, as in the repair of a
                diagnosis, and in a copy.
        """
        if not self.rows:
            return
        if self._apply is None:
            raise ValueError("the rules of a diagnosis, or of a copy, have no model: pass them to initialize")
        self._apply(self.rules, self.seed)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_apply": None}  # It refers to the model.

    def _parts(self) -> list[str | Table]:
        """The rules, why other parameters have none, and what they do not repair."""
        if not self.rows:
            return ["no rules"]
        cells = [(row.name, short(row.initializer), row.reason) for row in self.rows]
        parts: list[str | Table] = [Table(("parameter", "initializer", "why"), cells)]
        parts += [f"no rule for {name}: {why}" for name, why in self.skipped.items()]
        parts += [f"still {problem.verdict}: {problem.message}" for problem in self.problems]
        return parts


def measured_rules(
    network: Any,
    kernels: Sequence[Kernel],
    batch: Any,
    *,
    std: float,
    training: bool | None,
    seed: int,
    base: Mapping[str, Initializer] | None = None,
) -> _Rules:
    """The rules of LSUV, and why kernels have none; `base` has rules that hold meanwhile."""
    base = base or {}
    skipped: dict[str, str] = {}

    def measured() -> dict[str, float]:
        rules = dict(base)
        for kernel in kernels:
            rules[kernel.name] = kernel.orthogonal(1.0)
            if kernel.bias is not None:
                rules[kernel.bias] = Zeros()
        with network.changed(rules, seed):
            gains: dict[str, float] = network.measured_gains(
                kernels, batch, std=std, training=training, seed=seed
            )
        return gains

    gains = measured()
    while left := [kernel.name for kernel in kernels if kernel.name not in gains]:
        # What is not called gets no rule. It may be used nevertheless, as in attention, so the gains of the
        # others are those for its present values.
        skipped.update(dict.fromkeys(left, "its layer is not called"))
        kernels = [kernel for kernel in kernels if kernel.name in gains]
        gains = measured()
    rows = [RepairRow(name, rule, "normalization without effect") for name, rule in base.items()]
    for kernel in kernels:
        rows.append(RepairRow(kernel.name, kernel.orthogonal(gains[kernel.name]), f"output of std {std:g}"))
        if kernel.bias is not None:
            rows.append(RepairRow(kernel.bias, Zeros(), "as LSUV assumes"))
    return rows, skipped


def repaired(
    network: Any, trace: Callable[[], Trace], batch: Any, *, training: bool | None, seed: int
) -> Repair:
    """The first of several sets of rules with which a trace finds nothing, or the least.

    LSUV; LSUV with normalizations as at their start; orthogonal kernels with the gain at which the slope of
    the activation at 0 keeps a small signal.
    """
    kernels, skipped = network.kernels()
    norms = network.norms()

    def measured(base: Mapping[str, Initializer]) -> _Rules:
        return measured_rules(network, kernels, batch, std=1.0, training=training, seed=seed, base=base)

    tries: list[Callable[[], _Rules]] = [lambda: measured({})]
    if norms:
        tries.append(lambda: measured(norms))
    tries.append(lambda: (_critical(kernels, trace()), {}))
    best: Repair | None = None
    for make in tries:
        rows, uncalled = make()
        with network.changed({row.name: row.initializer for row in rows}, seed):
            problems = trace().problems
        if best is None or len(problems) < len(best.problems):
            why = {**skipped, **uncalled}
            best = Repair(network.framework, seed, tuple(rows), why, problems, network.apply)
        if not problems:
            break
    assert best is not None
    return best


def _critical(kernels: Sequence[Kernel], before: Trace) -> list[RepairRow]:
    """Orthogonal kernels, with a gain by the slope of the activation that follows."""
    rows = []
    following: dict[str, str | None] = {}
    last: str | None = None
    for row in before.rows:
        if row.parameters:
            last = row.name
            following[last] = row.activation
        elif last is not None and row.activation is not None:
            following[last] = following[last] or row.activation
    for kernel in kernels:
        name = following.get(kernel.layer)
        gain, why = 1.0, "linear"
        if name is not None:
            activation = resolve(name.partition("(")[0])
            slope = abs(float(activation.derivative(np.zeros(1))[0]))
            gain = _CRITICAL / slope if slope else theoretical_gain(activation)
            why = f"the gain for {name}"
        rows.append(RepairRow(kernel.name, kernel.orthogonal(gain), why))
        if kernel.bias is not None:
            rows.append(RepairRow(kernel.bias, Zeros(), "zero"))
    return rows


# A diagnosis

# What the elements of a tensor itself show, and other elements would not.
_REDRAWN = {
    *("nan", "infinite", "all_zero", "constant", "identical_units", "zero_units", "low_rank"),
    *("too_small", "too_large", "wrong_mode", "uncorrected_truncation", "mean_not_zero", "clipped", "spike"),
    *("few_values", "not_orthogonal", "twins", "bias_not_zero", "scale_not_one"),
}


def of_diagnosis(diagnosis: Diagnosis, seed: int) -> Repair:
    """New initializers for the tensors that something is wrong with."""
    blamed: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for finding in diagnosis.findings:
        if finding.severity == "info" or not finding.tensor:
            continue
        if finding.code.value in _REDRAWN:
            blamed.setdefault(finding.tensor, finding.code.value)
        elif finding.code.value != "traced":  # That is about layers.
            skipped.setdefault(
                finding.tensor, f"{finding.code} is not repaired by other values of this tensor"
            )
    names = [row.scheme for row in diagnosis.rows if row.role == "kernel" and row.name not in blamed]
    usual = [scheme for name in names if (scheme := _scheme(name)) is not None]
    kernel = max(usual, key=usual.count, default=LecunNormal)
    rows = []
    for row in diagnosis.rows:
        if row.name in blamed:
            rule = _redrawn(row, kernel)
            if rule is None:
                skipped[row.name] = f"there is no rule for the role {row.role} and the shape {row.shape}"
            else:
                skipped.pop(row.name, None)
                rows.append(RepairRow(row.name, rule, blamed[row.name]))
    return Repair("", seed, tuple(rows), skipped, ())


def _scheme(name: str | None) -> type[VarianceScaling] | None:
    """The class of an initializer of kernels of this name, if there is one."""
    try:
        found = get((name or "").partition(",")[0])
    except ValueError:
        return None
    return type(found) if isinstance(found, VarianceScaling) else None


def _redrawn(row: DiagnosisRow, kernel: type[VarianceScaling]) -> Initializer | None:
    """The initializer for a tensor, by its role; `None` where its fans are not those of a plain layer."""
    if row.role in ("bias", "scale"):
        return Zeros() if row.role == "bias" else Ones()
    if row.role == "embedding":
        return RandomNormal(stddev=1.0 / math.sqrt(row.shape[-1]) if len(row.names) > 1 else 1.0)
    if row.role not in ("kernel", "recurrent") or len(row.shape) < 2:
        return None
    receptive = math.prod(row.shape)
    plain = {
        (-2, -1): (receptive / row.shape[-1], receptive / row.shape[-2]),
        (1, 0): (receptive / row.shape[0], receptive / row.shape[1]),
    }
    for (in_axis, out_axis), found in plain.items():
        if found == (row.fan_in, row.fan_out):
            if row.role == "recurrent":
                return Orthogonal(column_axis=out_axis)
            return kernel(in_axis=in_axis, out_axis=out_axis)
    return None
