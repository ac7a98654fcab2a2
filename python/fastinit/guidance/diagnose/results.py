"""What `diagnose` returns, as objects, as plain values and as text."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastinit._checks import check_int
from fastinit._results import Result, Rows, Verdict, plain
from fastinit._terminal import printable, table
from fastinit.guidance.repair import of_diagnosis

if TYPE_CHECKING:
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
        TOO_SMALL, TOO_LARGE: A signal vanishes; it explodes or saturates.
        WRONG_MODE: The scale follows fan_out, and that of the other kernels fan_in, or the other way round.
        UNCORRECTED_TRUNCATION: The variance lost by truncating a normal distribution was not corrected for.
        MEAN_NOT_ZERO: The elements of a kernel are not centered.
        CLIPPED, SPIKE, FEW_VALUES: A bound or another value is repeated; there are too few different values.
        NOT_ORTHOGONAL: A tensor should be orthogonal, or nearly is.
        TWINS: Two tensors are equal, or have the same draws at different scales.
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
    TOO_SMALL = "too_small"
    TOO_LARGE = "too_large"
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

    def _cells(self) -> tuple[str, ...]:
        return (
            self.name if len(self.names) == 1 else f"{self.name} (+{len(self.names) - 1})",
            " x ".join(map(str, self.shape)) or "()" if len(self.shape) <= 8 else f"{len(self.shape)} axes",
            self.dtype,
            self.role,
            "" if self.fan_in is None else f"{self.fan_in:.0f}, {self.fan_out:.0f}",
            *("" if x is None else f"{x:.3g}" for x in (self.mean, self.std, self.min, self.max)),
            self.scheme or "",
            "" if self.scale_error is None else f"{self.scale_error:+.1%}",
        )


_HEADER = ("tensor", "shape", "dtype", "role", "fan in, out", "mean", "std", "min", "max", "scheme", "error")


@dataclass(frozen=True)
class Diagnosis(Rows[DiagnosisRow]):
    """What `diagnose` found. `print` shows it as text.

    Attributes:
        rows: A row for each tensor, in the order of the model or file; `diagnosis[name]` is that of a name.
        findings: The possible problems, the most severe first.
        skipped: Why tensors were not read, by name. Integers and booleans are not mentioned.
    """

    rows: tuple[DiagnosisRow, ...]
    findings: tuple[Finding, ...]
    skipped: dict[str, str]

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
        them to `fastinit.torch.initialize`, say, with `rules={**fix.rules, "*": None}`.

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

    def __str__(self) -> str:
        """The findings, the most severe first, and a table of the tensors."""
        lines = []
        notes = [finding for finding in self.findings if finding.severity == Severity.INFO]
        worse = [
            (f.severity, f.code, f.tensor, f.message) for f in self.findings if f.severity != Severity.INFO
        ]
        if worse:
            lines += [table(("severity", "finding", "tensor", "what, and what to do"), worse, wrap=70), ""]
        for code, same in itertools.groupby(sorted(notes, key=lambda f: f.code), lambda f: f.code):
            first, *others = same
            more = f" (and {len(others)} more)" if others else ""
            where = f"{first.tensor}: " if first.tensor else ""
            lines.append(printable(f"info, {code}: {where}{first.message}{more}"))
        lines += [printable(f"skipped {name}: {why}") for name, why in self.skipped.items()]
        if notes or self.skipped:
            lines.append("")
        lines += [table(_HEADER, [row._cells() for row in self.rows], "<<<<<>>>><>"), ""]
        count = sum(math.prod(row.shape) for row in self.rows)
        found = [f"{sum(f.severity == s for f in self.findings)} {s}" for s in reversed(Severity)]
        tensors = "1 tensor" if len(self.rows) == 1 else f"{len(self.rows)} tensors"
        elements = "1 element" if count == 1 else f"{count:,} elements"
        lines.append(f"{tensors}, {elements}: {', '.join(found)}")
        return "\n".join(lines)
