"""`diagnose`: what is wrong with the initial weights of a model."""

from __future__ import annotations

import difflib
import fnmatch
import itertools
import math
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fastinit._terminal import Bar, printable, table
from fastinit.guidance.choices import initializer

from . import schemes as _schemes
from .findings import SEVERITIES, Finding
from .judge import judge
from .measure import measured
from .tensors import LAYOUTS, sources

if TYPE_CHECKING:
    from collections.abc import Mapping

    import fastinit
    from fastinit._terminal import Progress

    from .findings import Statistics
    from .tensors import Tensor

# From so many elements on, a bar is shown on a terminal.
_LARGE = 2**28


@dataclass(frozen=True)
class TensorSummary:
    """One tensor, as measured.

    Attributes:
        name: Its name, the first of `names`.
        names: All names that it has, where it is tied.
        shape: Its shape.
        dtype: The name of its dtype.
        role: What it is for: `"kernel"`, `"recurrent"`, `"embedding"`, `"bias"`, `"scale"`, `"running_mean"`,
            `"running_var"`, `"position"`, `"buffer"` or `"parameter"`.
        fan_in, fan_out: The fans, as the layout says; `None` if it is no kernel.
        mean, std, min, max: Of the finite elements; `None` if there are none.
        scheme: The scheme that it follows, or the nearest known one; `None` if there is nothing to compare.
        scale_error: The standard deviation relative to that of the scheme, less 1; `None` without one.
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
class Diagnosis:
    """What `diagnose` found. `print` shows it as text.

    Attributes:
        tensors: A summary of each tensor, in the order of the model or file.
        findings: What deserves a look, the most severe first.
        skipped: Why some tensors were not read, by name. Integers and booleans are not mentioned.
    """

    tensors: tuple[TensorSummary, ...]
    findings: tuple[Finding, ...]
    skipped: dict[str, str]

    @property
    def worst(self) -> str | None:
        """The severity of the worst finding; `None` if there are none."""
        return max((finding.severity for finding in self.findings), key=SEVERITIES.index, default=None)

    @property
    def ok(self) -> bool:
        """Whether there is nothing worse than information."""
        return self.worst in (None, "info")

    def __getitem__(self, name: str) -> TensorSummary:
        """The summary of a tensor, by any of its names."""
        for tensor in self.tensors:
            if name in tensor.names:
                return tensor
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain Python values, which `json` takes.

        Example:
            >>> import fastinit, numpy as np
            >>> found = fastinit.diagnose({"dense/kernel": np.zeros((64, 32), np.float32)})
            >>> found.to_dict()["findings"][0]["code"]
            'all_zero'
        """
        return {
            "ok": self.ok,
            "worst": self.worst,
            "findings": [asdict(finding) for finding in self.findings],
            "tensors": [
                {
                    name: list(value) if isinstance(value, tuple) else value
                    for name, value in asdict(row).items()
                }
                for row in self.tensors
            ],
            "skipped": dict(self.skipped),
        }

    def __str__(self) -> str:
        """The findings, the most severe first, and a table of the tensors."""
        lines = []
        grave = [finding for finding in self.findings if finding.severity != "info"]
        if grave:
            rows = [(f.severity, f.code, f.tensor, f.message) for f in grave]
            lines += [table(("severity", "finding", "tensor", "what, and what to do"), rows, wrap=70), ""]
        notes = [finding for finding in self.findings if finding.severity == "info"]
        for code, same in itertools.groupby(sorted(notes, key=lambda f: f.code), lambda f: f.code):
            first, *others = same
            more = f" (and {len(others)} more)" if others else ""
            where = f"{first.tensor}: " if first.tensor else ""
            lines.append(printable(f"info, {code}: {where}{first.message}{more}"))
        lines += [printable(f"skipped {name}: {why}") for name, why in self.skipped.items()]
        if notes or self.skipped:
            lines.append("")
        header = (
            "tensor",
            "shape",
            "dtype",
            "role",
            "fan in, out",
            "mean",
            "std",
            "min",
            "max",
            "scheme",
            "error",
        )
        lines += [table(header, [_cells(row) for row in self.tensors], "<<<<<>>>><>"), ""]
        count = sum(math.prod(row.shape) for row in self.tensors)
        found = [f"{sum(f.severity == s for f in self.findings)} {s}" for s in reversed(SEVERITIES)]
        tensors = "1 tensor" if len(self.tensors) == 1 else f"{len(self.tensors)} tensors"
        elements = "1 element" if count == 1 else f"{count:,} elements"
        lines.append(f"{tensors}, {elements}: {', '.join(found)}")
        return "\n".join(lines)


def _cells(row: TensorSummary) -> tuple[str, ...]:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.3g}"

    return (
        row.name if len(row.names) == 1 else f"{row.name} (+{len(row.names) - 1})",
        " x ".join(map(str, row.shape)) or "()",
        row.dtype,
        row.role,
        "" if row.fan_in is None else f"{row.fan_in:.0f}, {row.fan_out:.0f}",
        number(row.mean),
        number(row.std),
        number(row.min),
        number(row.max),
        row.scheme or "",
        "" if row.scale_error is None else f"{row.scale_error:+.1%}",
    )


def diagnose(
    x: Any,
    *,
    layout: str | None = None,
    expect: fastinit.Initializer | str | Mapping[str, fastinit.Initializer | str] | None = None,
    progress: Progress = None,
) -> Diagnosis:
    """Finds what is wrong with initial weights.

    It is about weights as they are before training. Those of a trained model are recognized as such, and
    only what is broken is reported of them.

    A kernel, a matrix or the weights of a convolution, is compared with the schemes of the literature and the
    defaults of frameworks, by its fans, its standard deviation and the shape of its distribution. What such a
    scheme explains is no fault, and neither is what so few elements cannot tell, nor, where the order of the
    axes is only assumed, what the other order would explain.

    The codes of findings:

    | code | what is wrong |
    |---|---|
    | `nan`, `infinite` | elements that are no finite numbers |
    | `all_zero`, `constant` | all elements are equal |
    | `identical_units`, `zero_units` | some or all units are equal to each other, or zero |
    | `too_small`, `too_large` | a signal dies, explodes or saturates |
    | `wrong_mode` | the scale follows fan_out, and that of the other kernels fan_in, or the other way round |
    | `uncorrected_truncation` | a truncated normal law that has not the variance it should have |
    | `mean_not_zero` | kernels that are not centered |
    | `clipped`, `spike`, `few_values` | values piled up at a bound or elsewhere, or too few of them |
    | `not_orthogonal` | it should be orthogonal, or nearly is |
    | `twins` | two tensors are equal, or have the same draws at different scales |
    | `bias_not_zero`, `scale_not_one` | what begins at 0 or 1 does not |
    | `negative_variance`, `running_statistics` | statistics of a normalization are not as they begin |
    | `not_as_expected` | a tensor does not follow `expect` |
    | `looks_trained` | the weights are not initial ones |

    Args:
        x: What to diagnose:

            * an array of any shape, also of JAX, or a tensor of PyTorch;
            * a mapping of names to arrays, also a nested one, or a state dict;
            * the path of a `.safetensors`, `.npz` or `.npy` file, of a `.safetensors.index.json`, or of a
              directory of `.safetensors` files; files of any size are read in pieces, in little memory (an
              `.npy` in Fortran order as a whole);
            * a module of PyTorch;
            * a model or layer of Keras that has been built.
        layout: The order of axes of kernels: `"out_in"` for (out, in, *spatial), as in PyTorch, `"in_out"`
            for (*spatial, in, out), as in Keras and JAX. With `None` the type of a layer tells; where there
            is none, that of PyTorch is assumed for tensors and `.safetensors`, that of Keras for other
            arrays, and nothing is reported that the other order would explain.
        expect: The initializer that the tensors are meant to follow, as an object or a name: one for all
            kernels, or a mapping of patterns (`"*.weight"`, see `fnmatch`) to such; the first pattern that
            fits a name counts. The fans of an initializer with the usual axes are those of the tensor's
            layout.
        progress: Whether to show a bar on standard error; `None` for more than 2**28 elements, if that is a
            terminal. Or a function that is called with the number of elements that are done, that of all,
            and the name of a tensor.

    Returns:
        The findings, and a summary of each tensor.

    Raises:
        ValueError: If a file is damaged or of an unknown kind, there are no tensors, `layout` is unknown, or
            a pattern of `expect` fits no tensor.
        FileNotFoundError: If there is no such file.
        TypeError: If `x`, or a value in it, is none of these.

    Example:
        >>> import fastinit
        >>> kernel = fastinit.he_normal((256, 128), seed=0, stream="hidden/kernel")
        >>> fastinit.diagnose({"hidden/kernel": kernel}).ok
        True
        >>> small = fastinit.random_normal((256, 128), stddev=1e-5, seed=0)
        >>> [finding.code for finding in fastinit.diagnose({"hidden/kernel": small}).findings]
        ['too_small']
        >>> found = fastinit.diagnose({"hidden/kernel": kernel}, expect="glorot_uniform")
        >>> found.worst, found.findings[0].tensor
        ('warning', 'hidden/kernel')

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010. He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level
        performance on ImageNet classification", ICCV 2015, arXiv:1502.01852. Saxe, McClelland and Ganguli,
        "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks", ICLR 2014,
        arXiv:1312.6120. Pébay, "Formulas for robust, one-pass parallel computation of covariances and
        arbitrary-order statistical moments", Sandia report SAND2008-6212.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout must be {' or '.join(map(repr, LAYOUTS))} or None, got {layout!r}")
    tensors, skipped = sources(x, layout)
    expected = _expectations(expect, tensors)
    total = sum(tensor.size for tensor in tensors)
    bar = Bar(total > _LARGE and sys.stderr.isatty() if progress is None else progress, total)
    try:
        statistics = list(measured(tensors, bar))
    finally:
        bar.close()
    findings = judge(statistics, expected)
    return Diagnosis(tuple(map(_summary, statistics)), tuple(findings), skipped)


def _expectations(expect: Any, tensors: list[Tensor]) -> dict[str, fastinit.Initializer]:
    """The initializer that each tensor is meant to follow, by name."""
    if expect is None:
        return {}
    if not hasattr(expect, "items"):
        one = initializer(expect)
        return {t.name: one for t in tensors if t.role in ("kernel", "recurrent") and len(t.shape) > 1}
    rules = {str(pattern): initializer(value) for pattern, value in expect.items()}
    names = [name for tensor in tensors for name in tensor.names]
    found: dict[str, fastinit.Initializer] = {}
    for pattern, rule in rules.items():
        fits = [t for t in tensors if any(fnmatch.fnmatchcase(name, pattern) for name in t.names)]
        if not fits:
            near = difflib.get_close_matches(pattern, names, 3, 0.3)
            hint = f"; names like it are {', '.join(near)}" if near else ""
            raise ValueError(f"the pattern {pattern!r} of expect fits no tensor{hint}")
        for tensor in fits:
            found.setdefault(tensor.name, rule)
    for tensor in tensors:
        if tensor.name in found:
            try:
                law, _ = _schemes.law_of(found[tensor.name], tensor)
                law(tensor.shape, seed=0, index=(slice(0, 0),) * len(tensor.shape))  # Checks the shape.
            except (ValueError, TypeError) as error:
                raise ValueError(f"{found[tensor.name]!r} does not fit {tensor.name!r}: {error}") from None
    return found


def _summary(s: Statistics) -> TensorSummary:
    tensor, moments = s.tensor, s.moments
    fans = _schemes.fans(tensor)[:1] if s.weights else []
    some = moments.count > 0

    def plain(value: float | None) -> float | None:
        return float(value) if some and value is not None and math.isfinite(value) else None

    return TensorSummary(
        name=tensor.name,
        names=tensor.names,
        shape=tensor.shape,
        dtype=tensor.dtype,
        role=tensor.role,
        fan_in=fans[0][0] if fans else None,
        fan_out=fans[0][1] if fans else None,
        mean=plain(moments.mean),
        std=plain(moments.std),
        min=plain(s.low),
        max=plain(s.high),
        scheme=s.scheme,
        scale_error=plain(s.scale_error),
    )
