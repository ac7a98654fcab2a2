"""What `diagnose` returns, as objects, as plain values and as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastinit._checks import check_int
from fastinit._results import Result, Rows, Verdict, as_text, plain
from fastinit.guidance.repair import of_diagnosis

from .text import parts

if TYPE_CHECKING:
    from fastinit._terminal import Table
    from fastinit.guidance.repair import Repair


class Severity(Verdict):
    """The severity of a finding; the members are in ascending order.

    Attributes:
        INFO: Worth knowing, and usually intended.
        WARNING: Probably a mistake.
        SEVERE: The model cannot be trained, or only poorly.
    """

    INFO = "info"
    WARNING = "warning"
    SEVERE = "severe"


class Code(Verdict):
    """The kind of a finding; the codes stay the same between versions.

    Attributes:
        NAN, INFINITE: Some elements are not finite numbers.
        ALL_ZERO, CONSTANT: All elements are equal.
        IDENTICAL_UNITS, ZERO_UNITS: Some units are equal to each other, or zero.
        LOW_RANK: Units are sums of a few of them, as in a product of narrow matrices.
        TOO_SMALL, TOO_LARGE: A signal vanishes; it explodes or saturates.
        VANISHING, EXPLODING: The same in layers that follow each other, each of which may be harmless.
        WRONG_MODE: The scale follows fan_out, and that of the other kernels fan_in, or the other way round.
        UNCORRECTED_TRUNCATION: The variance lost by truncating a normal distribution was not corrected for.
        MEAN_NOT_ZERO: The elements of a kernel are not centered.
        CLIPPED, SPIKE, FEW_VALUES: A bound or another value is repeated; there are too few different values.
        NOT_ORTHOGONAL: A tensor should be orthogonal, or nearly is.
        TWINS: Two tensors are equal, or have the same draws at different scales, negated, or transposed.
        BIAS_NOT_ZERO, SCALE_NOT_ONE: A bias does not start at 0; a scale does not start at 1.
        NEGATIVE_VARIANCE, RUNNING_STATISTICS: The running statistics of a normalization are not at their
            start.
        NOT_AS_EXPECTED: A tensor does not follow `expect`.
        LOOKS_TRAINED: The weights are not initial ones.
        TRACED: A trace with a batch found it; the message begins with its verdict.
    """

    NAN = "nan"
    INFINITE = "infinite"
    ALL_ZERO = "all_zero"
    CONSTANT = "constant"
    IDENTICAL_UNITS = "identical_units"
    ZERO_UNITS = "zero_units"
    LOW_RANK = "low_rank"
    TOO_SMALL = "too_small"
    TOO_LARGE = "too_large"
    VANISHING = "vanishing"
    EXPLODING = "exploding"
    WRONG_MODE = "wrong_mode"
    UNCORRECTED_TRUNCATION = "uncorrected_truncation"
    MEAN_NOT_ZERO = "mean_not_zero"
    CLIPPED = "clipped"
    SPIKE = "spike"
    FEW_VALUES = "few_values"
    NOT_ORTHOGONAL = "not_orthogonal"
    TWINS = "twins"
    BIAS_NOT_ZERO = "bias_not_zero"
    SCALE_NOT_ONE = "scale_not_one"
    NEGATIVE_VARIANCE = "negative_variance"
    RUNNING_STATISTICS = "running_statistics"
    NOT_AS_EXPECTED = "not_as_expected"
    LOOKS_TRAINED = "looks_trained"
    TRACED = "traced"


@dataclass(frozen=True)
class Finding(Result):
    """A possible problem.

    Attributes:
        code: Its kind.
        severity: Its severity.
        tensor: The name of the tensor; empty for a finding about the whole model.
        message: The measurement, its consequence, and what to do.
    """

    code: Code
    severity: Severity
    tensor: str
    message: str


@dataclass(frozen=True)
class DiagnosisRow(Result):
    """A tensor as measured.

    Attributes:
        name: Its name, the first of `names`.
        names: All its names; several where it is tied.
        shape: Its shape.
        dtype: The name of its dtype.
        role: Its role: `"kernel"`, `"recurrent"`, `"embedding"`, `"bias"`, `"scale"`, `"running_mean"`,
            `"running_var"`, `"position"`, `"buffer"` or `"parameter"`.
        fan_in, fan_out: The fans in its layout; `None` if it is not a kernel or an embedding.
        mean, std, min, max: Of the finite elements; `None` if there are none.
        scheme: The scheme that it follows, or the nearest known one; `None` if there is none to compare with.
        scale_error: Its standard deviation relative to that of the scheme, less 1; `None` without one.
    """

    name: str
    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    role: str
    fan_in: float | None
    fan_out: float | None
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    scheme: str | None
    scale_error: float | None


@dataclass(frozen=True)
class Diagnosis(Rows[DiagnosisRow]):
    """What `diagnose` found. `print` shows a summary, and `to_text(full=True)` is all of it.

    Attributes:
        rows: A row for each tensor, in the order of the model or file; `diagnosis[name]` is that of a name.
        findings: The possible problems, the most severe first.
        skipped: Why tensors were not read, by name. Integers and booleans are not mentioned.
        notes: What was assumed when a file was read, such as the part of a checkpoint that has the weights.
    """

    rows: tuple[DiagnosisRow, ...]
    findings: tuple[Finding, ...]
    skipped: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def worst(self) -> Severity | None:
        """The severity of the worst finding; `None` if there are none."""
        return max((finding.severity for finding in self.findings), key=list(Severity).index, default=None)

    @property
    def ok(self) -> bool:
        """Whether there is nothing worse than information."""
        return self.worst in (None, Severity.INFO)

    def fix(self, seed: int = 0) -> Repair:
        """New initializers for the tensors that something is wrong with, as rules.

        Kernels get the scheme that most other kernels follow, or LeCun's; recurrent ones an orthogonal one,
        embeddings a normal distribution, biases 0 and scales 1. Nothing is changed: read the rules, and pass
        them to `fastinit.torch.initialize`, say, with `rules={**repair.rules, "*": None}`.

        Args:
            seed: The seed of the new weights, an int in [0, 2**64).

        Returns:
            The rules, and why other tensors have none.

        Example:
            >>> import fastinit, numpy as np
            >>> found = fastinit.diagnose({"dense/kernel": np.zeros((64, 32), np.float32)})
            >>> found.fix().rules
            {'dense/kernel': LecunNormal()}
        """
        return of_diagnosis(self, check_int("seed", seed, 0, 2**64 - 1))

    def to_dict(self) -> dict[str, Any]:
        """All attributes by name, `ok` and `worst`, as values that `json` takes.

        Example:
            >>> import fastinit, numpy as np
            >>> found = fastinit.diagnose({"dense/kernel": np.zeros((64, 32), np.float32)})
            >>> found.to_dict()["findings"][0]["code"]
            'all_zero'
        """
        return {"ok": self.ok, "worst": plain(self.worst), **super().to_dict()}

    def to_text(self, *, full: bool = False) -> str:
        """What `print` shows: a summary, the findings, and a table of tensors.

        Where there is much, what differs only in the numbers in its name, such as the same weight of all
        layers, shares a row. Of findings and of tensors `print` shows 20 rows each, the tensors with findings
        before others.

        Args:
            full: Whether to show all, with a row for each finding and each tensor.

        Example:
            >>> import fastinit
            >>> names = [f"layers.{i}.kernel" for i in range(30)]
            >>> found = fastinit.diagnose({x: fastinit.he_normal((64, 64), seed=0, stream=x) for x in names})
            >>> str(found).count("layers."), found.to_text(full=True).count("layers.")
            (1, 30)
        """
        return as_text(parts(self, full=full))

    def _parts(self) -> list[str | Table]:
        return parts(self, full=False)
