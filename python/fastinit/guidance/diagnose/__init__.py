"""`diagnose`: problems of the initial weights of a model.

From the argument to the result: `sources` finds the tensors, which `tensors` describes and `roles` recognizes
by name; `measure` takes their statistics, each of the `parts` in one pass (`onepass`, `units`), and `small`
ones together; `judge` compares them with known `schemes`, with the rest of the `model` and with what is
`expected`, and judges layers in a row, whose `order` the sources tell, by their `depth` and their `zeros`;
`results` is what is returned.
"""

from __future__ import annotations

import fnmatch
import math
import sys
from typing import TYPE_CHECKING, Any

from fastinit._checks import check_choice
from fastinit._registry import LAYOUTS
from fastinit._suggest import did_you_mean
from fastinit._terminal import Bar
from fastinit.guidance.choices import initializer
from fastinit.guidance.trace import TraceVerdict, trace

from .expected import promised
from .judge import judge
from .measure import measured
from .results import Code, Diagnosis, DiagnosisRow, Finding, Severity
from .schemes import fans
from .sources import runs_of, tensors_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastinit._terminal import Progress
    from fastinit.initializers import Initializer

    from .statistics import Statistics
    from .tensors import Tensor

__all__ = ["Code", "Diagnosis", "DiagnosisRow", "Finding", "Severity", "diagnose"]

# From this number of elements on, a bar is shown on a terminal.
_LARGE = 2**28


def diagnose(
    x: Any,
    batch: Any = None,
    *,
    layout: str | None = None,
    expect: Initializer | str | Mapping[str, Initializer | str] | None = None,
    progress: Progress = None,
) -> Diagnosis:
    """Finds what is wrong with initial weights.

    Weights are judged as they should be before training. Those of a trained model are recognized; of
    these, only errors such as NaN are reported.

    A kernel (a matrix, or the weights of a convolution) is compared with the schemes of the literature and
    the defaults of frameworks by its fans, its standard deviation and the shape of its distribution. A kernel
    that follows such a scheme is not reported, nor is a deviation that is not significant for the number of
    elements or, where the order of the axes is only assumed, one that the other order explains.

    Of layers that are known to follow each other, the product of their gains is judged: it is a problem if a
    signal or its gradient vanishes or explodes, though each layer is usual. The layers are those of a
    `torch.nn.Sequential`, also inside of other modules, and those of a sequential or functional model of
    Keras. Arrays are taken as such a row only if they fit together and are of one kind. A kernel of zeros is
    severe only where it, or its units, cannot be trained.

    Args:
        x: What to diagnose:

            * an array of any shape, also of JAX, or a tensor of PyTorch;
            * a mapping of names to arrays, also a nested one, a state dict, or a checkpoint that contains one
              beside other things, which are skipped;
            * the path of a `.safetensors`, `.npz` or `.npy` file, of a `.safetensors.index.json`, or of a
              directory of `.safetensors` files; files of any size are read in pieces, in little memory
              (arrays in Fortran order as a whole);
            * that of a file of PyTorch (`.pt`, `.pth`, `.bin`, `.ckpt`), Keras (`.keras`, `.h5`, `.hdf5`),
              ONNX (`.onnx`) or llama.cpp (`.gguf`); all but the last need torch, h5py or onnx. No pickle is
              executed, and nothing outside the file is opened but data beside an `.onnx`;
            * a module of PyTorch;
            * a model or layer of Keras that has been built.
        batch: Of a module or a model: an input, as in `fastinit.trace`, which then runs the model, too; what
            it finds is added to the findings.
        layout: The order of the axes of kernels: `"out_in"` for `(out, in, *spatial)`, as in PyTorch,
            `"in_out"` for `(*spatial, in, out)`, as in Keras and JAX. With `None` the type of a layer
            decides; where there is none, `"out_in"` is assumed for tensors of PyTorch and `.safetensors`,
            `"in_out"` for other arrays.
        expect: The initializer that the tensors should follow, as an object, a name or a configuration: one
            for all kernels, or a mapping from patterns (`"*.weight"`, see `fnmatch`) to initializers; the
            first pattern that matches a name applies. An initializer with the default axes takes them from
            the layout.
        progress: Whether to show a bar on standard error; `None` for more than 2**28 elements if that is a
            terminal. Or a function that is called with the number of elements that are done, that of all
            elements, and the name of a tensor.

    Returns:
        The findings, and a row for each tensor. `Code` lists the kinds of findings.

    Raises:
        ValueError: If a file is damaged or of an unknown kind, there are no tensors, `layout` is unknown, or
            `expect`, or a pattern of it, fits no tensor.
        FileNotFoundError: If there is no such file.
        TypeError: If `x`, or a value in it, is of a kind that cannot be diagnosed.
        ImportError: If the library that reads a file is not installed; the error says how to install it.

    Example:
        >>> import fastinit
        >>> kernel = fastinit.he_normal((256, 128), seed=0, stream="hidden/kernel")
        >>> fastinit.diagnose({"hidden/kernel": kernel}).ok
        True
        >>> small = fastinit.random_normal((256, 128), stddev=1e-5, seed=0)
        >>> [finding.code.value for finding in fastinit.diagnose({"hidden/kernel": small}).findings]
        ['too_small']
        >>> found = fastinit.diagnose({"hidden/kernel": kernel}, expect="glorot_uniform")
        >>> found.worst == "warning", found.findings[0].tensor
        (True, 'hidden/kernel')

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010. He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level
        performance on ImageNet classification", ICCV 2015, arXiv:1502.01852. Saxe, McClelland and Ganguli,
        "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks", ICLR 2014,
        arXiv:1312.6120. Schoenholz, Gilmer, Ganguli and Sohl-Dickstein, "Deep information propagation", ICLR
        2017, arXiv:1611.01232. Pébay, "Formulas for robust, one-pass parallel computation of covariances and
        arbitrary-order statistical moments", Sandia report SAND2008-6212.
    """
    if layout is not None:
        check_choice("layout", layout, LAYOUTS)
    tensors, skipped, notes = tensors_of(x, layout)
    expected = _expectations(expect, tensors)
    total = sum(tensor.size for tensor in tensors)
    bar = Bar(total > _LARGE and sys.stderr.isatty() if progress is None else progress, total)
    try:
        statistics = list(measured(tensors, bar))
    finally:
        bar.close()
    findings = [*judge(statistics, expected, runs_of(x, tensors)), *_traced(x, batch)]
    findings.sort(key=lambda finding: -list(Severity).index(finding.severity))
    return Diagnosis(tuple(map(_row, statistics)), tuple(findings), skipped, notes)


def _expectations(expect: Any, tensors: list[Tensor]) -> dict[str, Initializer]:
    """The initializer that each tensor should follow, by name."""
    if expect is None:
        return {}
    if not hasattr(expect, "items") or "class_name" in expect:
        one = initializer(expect)
        kernels = {t.name: one for t in tensors if t.is_kernel and len(t.shape) > 1}
        if not kernels:
            raise ValueError("expect fits no tensor, since none is a kernel: pass a mapping of patterns")
        return kernels
    rules = {str(pattern): initializer(value) for pattern, value in expect.items()}
    names = [name for tensor in tensors for name in tensor.names]
    found: dict[str, Initializer] = {}
    for pattern, rule in rules.items():
        fits = [t for t in tensors if any(fnmatch.fnmatchcase(name, pattern) for name in t.names)]
        if not fits:
            hint = did_you_mean(pattern, names)
            raise ValueError(f"the pattern {pattern!r} of expect fits no tensor{hint}")
        for tensor in fits:
            found.setdefault(tensor.name, rule)
    for tensor in tensors:
        if tensor.name in found:
            try:
                promised(found[tensor.name], tensor)
            except (ValueError, TypeError) as error:
                raise ValueError(f"{found[tensor.name]!r} does not fit {tensor.name!r}: {error}") from None
    return found


def _traced(model: Any, batch: Any) -> list[Finding]:
    """What a trace finds."""
    if batch is None:
        return []
    hopeless = (TraceVerdict.NOT_FINITE, TraceVerdict.CONSTANT_UNITS, TraceVerdict.SAMPLES_ALIKE)
    return [
        Finding(
            Code.TRACED,
            Severity.SEVERE if problem.verdict in hopeless else Severity.WARNING,
            problem.layer,
            f"{problem.verdict}: {problem.message}",
        )
        for problem in trace(model, batch).problems
    ]


def _row(s: Statistics) -> DiagnosisRow:
    tensor, moments = s.tensor, s.moments
    fan_in, fan_out = fans(tensor)[0] if s.tensor.is_weight and s.size else (None, None)

    def plain(value: float | None) -> float | None:
        return float(value) if moments.count and value is not None and math.isfinite(value) else None

    mean, std, low, high = map(plain, (moments.mean, s.std, s.low, s.high))
    about = (tensor.name, tensor.names, tensor.shape, tensor.dtype, tensor.role, fan_in, fan_out)
    return DiagnosisRow(*about, mean, std, low, high, s.scheme, plain(s.scale_error))
