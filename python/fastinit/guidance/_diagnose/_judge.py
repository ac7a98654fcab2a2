"""What is wrong with weights: from what was measured to findings.

The rule is to say nothing of what a published scheme, a framework's default or the other order of axes
explains, and nothing that the number of elements cannot tell. What deviates is compared with the signal: a
kernel of standard deviation s and fan_in n multiplies the root mean square of a signal by s * sqrt(n), its
*gain*.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from . import _schemes
from ._schemes import NORMAL, Scheme
from ._tensors import is_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    import fastinit

    from ._statistics import Moments
    from ._tensors import Tensor

SEVERITIES = ("info", "warning", "severe")

# Gains beyond which a signal is in danger, if no known scheme explains them. He's scheme has sqrt(2),
# PyTorch's default 0.58; of the known schemes, N(0, 0.02) goes from 0.16 (64 inputs) to 2.6 (16384 inputs).
# One layer beyond the second number alone loses, or multiplies, a thousandth or thirty.
SMALL, TINY = 0.02, 1e-3
LARGE, HUGE = 4.0, 30.0

# The least gain of an orthogonal matrix that is meant; heads of policies have 0.01.
LEAST_GAIN = 0.005

# Fewer elements tell nothing about their mean, or their scale.
FEW = 32

# How far a kernel may be from what most kernels of the same model follow. Scaling by depth, as in BEiT,
# divides by at most sqrt(2 * layers): a factor of 3.6 from the median for 24 layers.
UNLIKE = 4.0

# The part of the kernels that makes a scheme that of the model. In GPT-2 half of them are scaled by depth.
CONSENSUS = 0.4

# A mean of a fifth of the standard deviation adds to the outputs of 100 inputs of mean 1 twice what the
# deviations do.
OFFSET = 0.2

# A bias of the size of a normalized signal moves units to where they saturate, or are dead. PyTorch's own are
# U(±1/sqrt(fan_in)), at most 0.58 for a fan of 1; constants of detection heads, for a prior of 1 %, are -4.6.
BIAS, BIAS_CONSTANT = 0.6, 5.0

# What is as good as 0 beside 1.
CLOSE_ZERO = 0.01

# Where a batch normalization follows kernels, it makes up for their scale, but for rounding and its epsilon.
NORMALIZED = 8.0

# The scale of a normalization far from 1. DCGAN draws it from N(1, 0.02).
SCALE_LOW, SCALE_HIGH = 0.1, 10.0

# Embeddings are N(0, 1) at most, and 1e-6 at least where they begin as nothing.
EMBEDDING_SMALL, EMBEDDING_LARGE = 1e-4, 4.0

# A value with a thousandth of all elements, eight times more than values next to it; clipping a normal
# tensor at three standard deviations leaves 0.00135 at each bound.
PILED, PILED_TIMES = 1e-3, 8

# Relative rounding of the dtypes.
_EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


@dataclass(frozen=True)
class Finding:
    """Something that deserves a look.

    Attributes:
        code: What kind of thing it is; stays the same between versions.
        severity: `"info"`, `"warning"` or `"severe"`.
        tensor: The name of the tensor; empty for what concerns the whole model.
        message: What was measured, what the rule is, and what to do instead.
    """

    code: str
    severity: str
    tensor: str
    message: str


@dataclass
class Statistics:
    """A tensor as measured, reduced to what judging takes."""

    tensor: Tensor
    size: int
    nan: int
    infinite: int
    moments: Moments
    low: float
    high: float
    at_low: int
    at_high: int
    zeros: int
    sample: np.ndarray
    # Axis -> groups of equal units; and which units are zero.
    equal: dict[int, list[list[int]]] = field(default_factory=dict)
    empty: dict[int, list[int]] = field(default_factory=dict)
    # Whether it has enough rows and columns to tell that they are orthonormal.
    gram: bool = False
    # If rows, or columns, are nearly so: their norm, the root mean square of their cosines, and their length.
    orthogonality: tuple[float, float, int] | None = None
    # Whether all units have the same number of zeros.
    even_zeros: bool = False
    # What another tensor has in common if it is equal.
    key: object = None
    # Found later, with the rest of the model in view.
    families: tuple[_schemes.Family, ...] = ()
    matches: tuple[Scheme, ...] = ()
    scheme: str | None = None
    scale_error: float | None = None

    @property
    def rms(self) -> float:
        """The root mean square."""
        return math.hypot(self.moments.std, self.moments.mean)

    @property
    def constant(self) -> bool:
        """Whether all elements are equal, and finite."""
        return self.low == self.high and self.moments.count == self.size

    @property
    def in_empty_units(self) -> int:
        """How many zeros there are in units of zeros."""
        shape = self.tensor.shape
        return max((len(units) * self.size // shape[axis] for axis, units in self.empty.items()), default=0)

    @property
    def eps(self) -> float:
        """The relative rounding of the dtype."""
        return _EPS.get(self.tensor.dtype, 2.0**-2)

    @property
    def weights(self) -> bool:
        """Whether it is drawn so that a signal passes."""
        return self.tensor.role in ("kernel", "recurrent", "embedding")


class Judge:
    """Judges the tensors of a model, each in view of the others.

    Args:
        tensors: The tensors, as measured.
        expected: For the names of some, the initializer that they are meant to follow.
    """

    def __init__(self, tensors: Sequence[Statistics], expected: dict[str, fastinit.Initializer]) -> None:
        self.tensors = tensors
        self.expected = expected
        self.findings: list[Finding] = []
        self.kernels = [s for s in tensors if s.tensor.role in ("kernel", "recurrent")]
        self.by_prefix: dict[str, list[Statistics]] = defaultdict(list)
        for s in self.kernels:
            self.by_prefix[_prefix(s.tensor.name)].append(s)
        self.groups: dict[str, list[Statistics]] = defaultdict(list)
        for s in tensors:
            self.groups[_pattern(s.tensor.name)].append(s)
        self.scales = {pattern: _range([s.rms for s in group]) for pattern, group in self.groups.items()}
        self.zeros = sum(s.size > 0 and s.low == s.high == 0.0 for s in self.kernels)
        for s in tensors:
            if s.weights and len(s.tensor.shape) > 1:
                self._match(s)
        self.votes = Counter(
            title for s in self.kernels for title in dict.fromkeys(match.title for match in s.matches)
        )
        self.names = Counter(
            name for s in self.kernels for name in dict.fromkeys(match.name for match in s.matches)
        )
        self.consensus = self._consensus()
        self.trained = self._is_trained()
        means = sum(s.tensor.role == "running_mean" for s in tensors)
        self.normalized = 2 * means >= max(1, len(self.kernels))

    def run(self) -> list[Finding]:
        """All findings, the most severe first, and otherwise in the order of the tensors."""
        if self.trained:
            self._add(
                None,
                "looks_trained",
                "info",
                "the weights follow no law that they could have been drawn from: they look trained. What "
                "is said of scales is about initialization, and left out; only what is broken is reported",
            )
        for s in self.tensors:
            self._judge(s)
        self._modes()
        self._twins()
        order = {severity: i for i, severity in enumerate(reversed(SEVERITIES))}
        return sorted(self.findings, key=lambda finding: order[finding.severity])

    def _add(self, s: Statistics | None, code: str, severity: str, message: str) -> None:
        name = "" if s is None else s.tensor.name
        self.findings.append(Finding(code, severity, name, message))

    # The model as a whole

    def _match(self, s: Statistics) -> None:
        """Finds the schemes that a tensor agrees with."""
        s.families = _schemes.families(s.moments, s.low, s.high, s.eps)
        if s.moments.std <= 0.0 or s.orthogonality is not None:
            return
        log_std, tolerance = math.log(s.moments.std), _schemes.tolerance(s.moments)
        s.matches = tuple(
            scheme
            for scheme in _schemes.schemes(s.tensor)
            if scheme.family in s.families and abs(log_std - math.log(scheme.std)) <= tolerance
        )

    def _consensus(self) -> str | None:
        """The scheme that most kernels of the model agree with, if there is one."""
        random = [s for s in self.kernels if s.families]
        if not self.names:
            return None
        name, count = self.names.most_common(1)[0]
        return name if count >= 3 and count >= CONSENSUS * len(random) else None

    def _is_trained(self) -> bool:
        """Whether the weights have been changed since they were drawn."""
        large = [s for s in self.kernels if s.size >= 4096 and s.low < s.high and not s.orthogonality]
        odd = [s for s in large if not s.families and s.zeros < 0.01 * s.size]
        heavy = [s for s in odd if s.moments.kurtosis > NORMAL.kurtosis]
        means = [s for s in self.tensors if s.tensor.role == "running_mean" and s.size]
        moved = [s for s in means if s.low != 0.0 or s.high != 0.0]
        if 2 * len(moved) > len(means) and (odd or len(moved) > 1):
            return True
        return len(heavy) > 1 and 2 * len(heavy) > len(large)

    # One tensor

    def _judge(self, s: Statistics) -> None:
        role, count = s.tensor.role, s.size
        if s.nan:
            text = f"{s.nan:,} of {count:,} elements are NaN; nothing can be computed with them"
            self._add(s, "nan", "severe", text + ". Initialize the tensor again")
            return
        if s.infinite:
            if role != "buffer":  # Masks are made of infinities.
                text = f"{s.infinite:,} of {count:,} elements are infinite; initialize the tensor again"
                self._add(s, "infinite", "severe", text + ", in a dtype that has room for its values")
            return
        if count == 0 or role == "buffer":
            return
        if s.tensor.name in self.expected:
            self._expected(s, self.expected[s.tensor.name])
        elif role == "scale":
            self._scale(s)
        elif role == "bias":
            self._bias(s)
        elif role in ("running_mean", "running_var"):
            self._running(s)
        elif s.weights and len(s.tensor.shape) > 1:
            if not self._structure(s):
                self._drawn(s)
        elif s.constant:
            s.scheme = _constant_name(s.low)

    def _structure(self, s: Statistics) -> bool:
        """Whether something is wrong, or plain, that is no matter of how the elements are distributed."""
        if s.low == s.high == 0.0:
            s.scheme = "zeros"
            self._zero(s)
            return True
        if s.constant and s.size > 1:
            s.scheme = _constant_name(s.low)
            text = (
                f"all {s.size:,} elements are {s.low:.4g}: all units compute the same and get the same "
                "gradient, so they stay equal. Draw the elements at random, as by fastinit.lecun_normal"
            )
            self._add(s, "constant", "severe", text)
            return True
        if self._is_identity(s) or self._is_sparse(s):
            return True
        return self._units(s) or self._piled(s)

    def _is_identity(self, s: Statistics) -> bool:
        """Whether the elements are zeros and, at most once for each unit, another value."""
        into, out = s.tensor.shape[s.tensor.in_axis], s.tensor.shape[s.tensor.out_axis]
        others = s.at_high if s.low == 0.0 else s.at_low if s.high == 0.0 else 0
        if others + s.zeros != s.size or others == 0 or others > max(into, out):
            return False
        s.scheme = "identity" if len(s.tensor.shape) == 2 else "dirac"
        return True

    def _zero(self, s: Statistics) -> None:
        """A tensor of weights that is zero."""
        text = "all elements are 0"
        alike = self.groups[_pattern(s.tensor.name)]
        whole_group = len(alike) > 1 and all(t.low == t.high == 0.0 for t in alike)
        if any("lora_b" in name.lower() for name in s.tensor.names):
            self._add(s, "all_zero", "info", f"{text}, as is usual for the second matrix of LoRA")
        elif is_output(s.tensor) and self.zeros < len(self.kernels):
            text += ": the output begins at its bias, as some models want; in the first step nothing "
            self._add(s, "all_zero", "info", text + "reaches the layers below")
        elif whole_group and self.zeros <= len(self.kernels) / 2:
            text += f", as are those of all {len(alike)} layers of its kind: branches that begin as nothing"
            self._add(s, "all_zero", "info", text)
        else:
            text += ": nothing passes, forward or backward, and units stay equal. Draw them at random, as by "
            self._add(s, "all_zero", "severe", text + "fastinit.lecun_normal")

    def _units(self, s: Statistics) -> bool:
        """Whether some units are equal, or zero."""
        tensor = s.tensor
        embedding = tensor.role == "embedding"
        for axis, what in ((tensor.out_axis, "output"), (tensor.in_axis, "input")):
            kind = ("row", "column")[axis] if embedding and len(tensor.shape) == 2 else f"{what} unit"
            total = tensor.shape[axis]
            if empty := s.empty.get(axis):
                text = f"{len(empty):,} of {total:,} {kind}s (axis {axis}) are zero: {_some(empty)}"
                # The row of a padding token; a vocabulary that was made longer. What nobody calls an
                # embedding may be one.
                padding = embedding or (not tensor.certain and len(empty) == 1 and len(tensor.shape) == 2)
                severity = "info" if padding and axis == 0 else "warning"
                if severity == "warning":
                    text += ". They pass nothing on; draw them like the others"
                self._add(s, "zero_units", severity, text)
                if severity != "info":
                    return True
            if groups := s.equal.get(axis):
                count = sum(map(len, groups))
                text = (
                    f"{count:,} of {total:,} {kind}s (axis {axis}) are equal to another one: "
                    + "; ".join(" = ".join(map(str, group[:4])) for group in groups[:3])
                    + (" ..." if len(groups) > 3 or len(groups[0]) > 4 else "")
                )
                own_input = tensor.groups > 1 or tensor.size == total * math.prod(_spatial(tensor))
                if what == "output" and not embedding:
                    severity = "info" if own_input else "severe"
                    text += ". They get the same gradient and stay equal; draw each at random"
                else:
                    severity = "warning"
                    text += ". What enters there cannot be told apart; draw each at random"
                self._add(s, "identical_units", severity, text)
                return True
        return False

    def _piled(self, s: Statistics) -> bool:
        """Whether a value occurs more often than a law without atoms allows."""
        sample = s.sample
        if sample.size < 512 or self.trained:
            return False
        values, counts = np.unique(sample, return_counts=True)
        if len(values) >= 32:
            for at in dict.fromkeys((0, len(values) - 1, int(counts.argmax()))):
                near = np.mean(np.delete(counts[max(0, at - 8) : at + 9], min(at, 8)))
                part = counts[at] / sample.size
                if part < PILED or counts[at] < max(10, PILED_TIMES * near):
                    continue
                value = float(values[at])
                if value == 0.0 and s.zeros - s.in_empty_units < PILED * s.size:
                    continue
                bound = value in (s.low, s.high)
                self._add(
                    s,
                    "clipped" if bound else "spike",
                    "warning",
                    f"{part:.2%} of the elements are exactly {value:.6g}, "
                    + ("the bound of all: " if bound else "and the values beside it are rare: ")
                    + (
                        "values beyond were moved there. Draw from a truncated law instead, as "
                        "fastinit.truncated_normal"
                        if bound
                        else "a sampler without enough bits, or a mask. Draw the tensor again in float32, "
                        "as by fastinit, and round it once"
                    ),
                )
                return True
        self._few(s, sample, len(values))
        return False

    def _is_sparse(self, s: Statistics) -> bool:
        """Whether each unit has as many zeros as the others, as of an initializer for sparse weights."""
        if not s.even_zeros or s.zeros <= s.in_empty_units:
            return False
        s.scheme = f"sparse({s.zeros / s.size:.3g})"
        return True

    def _few(self, s: Statistics, sample: np.ndarray, distinct: int) -> None:
        """Finds that there are fewer values than there should be."""
        bits = sample.view(np.uint32) if sample.dtype == np.float32 else None
        # Those of float32 that were rounded to a half type before have zeros in their last bits.
        half = bits is not None and not bool((bits & 0x1FFF).any())
        if not half and distinct < sample.size / 2 and sample.size >= 1024:
            text = f"only {distinct:,} values among {sample.size:,} elements: the sampler repeats itself, or "
            self._add(
                s, "few_values", "warning", text + "has few bits. Draw the tensor again, as by fastinit"
            )
        elif half and sample.size >= 8192 and distinct <= 256:
            text = (
                f"only {distinct} values among {sample.size:,} elements, far fewer than {s.tensor.dtype} has"
            )
            self._add(s, "few_values", "info", text + ". fastinit draws in float32 and rounds once")

    def _drawn(self, s: Statistics) -> None:
        """Judges elements that were drawn at random: their mean, their scale, their law."""
        moments = s.moments
        if s.low == s.high:  # A single element.
            return
        if not 0.0 < moments.std < math.inf:
            code = "too_large" if moments.std > 0.0 else "too_small"
            text = f"the elements go from {s.low:.4g} to {s.high:.4g}: their squares are beyond float64"
            self._add(s, code, "severe", text + ". Draw them again, as by fastinit.lecun_normal")
            return
        if s.orthogonality is not None and self._orthogonal(s):
            return
        if s.tensor.orthogonal and s.gram:
            rows = "rows" if s.tensor.shape[-1] >= math.prod(s.tensor.shape[:-1]) else "columns"
            text = f"its layer says that it is orthogonal, and its {rows} are not orthonormal"
            self._add(s, "not_orthogonal", "warning", text + ". Draw it by fastinit.orthogonal")
            return
        self._name_scheme(s)
        if self.trained or s.tensor.role == "embedding":
            if not self.trained:
                self._embedding(s)
            return
        if moments.count >= FEW and abs(moments.mean) > max(
            OFFSET * moments.std, _schemes.ERRORS * moments.std / math.sqrt(moments.count)
        ):
            text = (
                f"the mean is {moments.mean:.4g}, {abs(moments.mean) / moments.std:.2g} standard deviations "
                "from 0: all units get the same offset, which grows from layer to layer. Draw about 0, as "
                "U(-a, a) and not U(0, a)"
            )
            self._add(s, "mean_not_zero", "warning", text)
            return
        if s.matches and not any(match.corrected for match in s.matches):
            scheme = s.matches[0]
            self._add(
                s,
                "uncorrected_truncation",
                "warning",
                f"std {moments.std:.4g} is {_schemes.TRUNCATION:.4f} times that of {_plain_name(scheme)}: a "
                "normal law was truncated at two standard deviations, which takes 23 % of its variance, "
                f"without making up for it. Divide by {_schemes.TRUNCATION:.5f}, as fastinit does",
            )
        elif not s.matches:
            self._size(s)

    def _name_scheme(self, s: Statistics) -> None:
        """The scheme that a tensor follows, or the nearest."""
        if s.moments.std <= 0.0:
            return
        found: Scheme
        if s.matches:
            found = max(
                s.matches,
                key=lambda x: (x.corrected, self.votes[x.title], x.mode not in ("fan_out", "swapped")),
            )
        else:
            own = s.families or _schemes.FAMILIES
            known = [
                scheme for scheme in _schemes.schemes(s.tensor) if scheme.family in own and scheme.corrected
            ]
            found = min(known, key=lambda scheme: abs(math.log(s.moments.std / scheme.std)))
        s.scheme, s.scale_error = found.title, s.moments.std / found.std - 1.0

    def _size(self, s: Statistics) -> None:
        """Whether a kernel that follows no known scheme is too large, or too small."""
        tensor, moments = s.tensor, s.moments
        fans = _schemes.fans(tensor)
        inputs = [into for into, _ in (fans[:2] if tensor.certain else fans)]
        small, large = s.rms * math.sqrt(max(inputs)), s.rms * math.sqrt(min(inputs))
        usual_std = 1 / math.sqrt(inputs[0])
        room = NORMALIZED if self.normalized else 1.0
        advice = f". fastinit.lecun_normal has {usual_std:.4g}; use it or its like, or say expect="
        if moments.count >= FEW and small < SMALL / room:
            times = 1 / max(small, 1e-300)
            text = f"std {moments.std:.4g} with {max(inputs):.0f} inputs makes a signal {times:.3g} times "
            if is_output(tensor):
                self._add(s, "too_small", "info", text + "smaller: the output begins near its bias")
            else:
                text += "smaller: it dies within a few layers"
                self._add(s, "too_small", "severe" if small < TINY / room else "warning", text + advice)
        elif moments.count >= FEW and large > LARGE * room:
            severity = "severe" if large > HUGE * room else "warning"
            text = (
                f"std {moments.std:.4g} with {min(inputs):.0f} inputs makes a signal {large:.3g} times "
                "larger: it explodes within a few layers, or saturates"
            )
            self._add(s, "too_large", severity, text + advice)
        elif self.consensus is not None and not self._is_scaled_by_depth(s) and not self._is_shared(s):
            usual = [x.std for x in _schemes.schemes(tensor) if x.name == self.consensus]
            ratio = min((moments.std / std for std in usual), key=lambda r: abs(math.log(r)), default=1.0)
            if abs(math.log(ratio)) > math.log(UNLIKE) + _schemes.tolerance(moments):
                code = "too_large" if ratio > 1 else "too_small"
                text = (
                    f"std {moments.std:.4g} is {ratio:.3g} times that of {self.consensus}, which "
                    f"{self._votes()} of {len(self.kernels)} kernels of this model follow. Draw it like "
                    "these, or say expect="
                )
                self._add(s, code, "warning", text)

    def _is_shared(self, s: Statistics) -> bool:
        """Whether the same tensors of other layers have the same scale, so that it is meant."""
        low, high = self.scales[_pattern(s.tensor.name)]
        if not 0.0 < s.rms < math.inf or low == math.inf:
            return False
        slack = 2 * _schemes.tolerance(s.moments)
        return max(math.log(high / s.rms), math.log(s.rms / low)) <= slack

    def _votes(self) -> int:
        return self.names[self.consensus] if self.consensus else 0

    def _is_scaled_by_depth(self, s: Statistics) -> bool:
        """Whether it is the usual law divided by sqrt(2 * layers), as in GPT-2 and BEiT, or sqrt(layers)."""
        if self.consensus is None:
            return False
        tolerance = _schemes.tolerance(s.moments)
        for layers in self._depths(s.tensor.name):
            for scheme in _schemes.schemes(s.tensor):
                for divisor in (math.sqrt(2 * layers), math.sqrt(layers)):
                    fits = abs(math.log(s.moments.std * divisor / scheme.std)) <= tolerance
                    if scheme.name == self.consensus and fits:
                        s.scheme = f"{self.consensus} / sqrt({round(divisor**2)})"
                        s.scale_error = s.moments.std * divisor / scheme.std - 1.0
                        return True
        return False

    def _depths(self, name: str) -> set[int]:
        """How many layers there are, and how many up to this one, as the numbers in names tell."""
        count = len(self.groups[_pattern(name)])
        return {count, count + 1, *(int(number) + 1 for number in re.findall(r"\d+", name)[:3])}

    def _embedding(self, s: Statistics) -> None:
        if s.moments.count < FEW:
            return
        if EMBEDDING_SMALL <= s.rms <= EMBEDDING_LARGE:
            return
        code = "too_large" if s.rms > EMBEDDING_LARGE else "too_small"
        text = f"the elements of the embedding have a root mean square of {s.rms:.4g}; usual are 0.02 to 1"
        self._add(s, code, "warning", text + ". Use fastinit.random_normal with stddev=0.02")

    def _orthogonal(self, s: Statistics) -> bool:
        """Whether rows (or columns) are orthonormal but for a gain, or nearly so."""
        assert s.orthogonality is not None
        gain, cosine, length = s.orthogonality
        rounding = 100 * _EPS["float32"] + s.eps
        if cosine <= rounding:
            s.scheme, s.scale_error = f"orthogonal(gain={gain:.4g})", 0.0
            if gain > LARGE:
                text = f"orthogonal, with a gain of {gain:.4g}: a signal becomes as much larger, and explodes"
                self._add(s, "too_large", "severe" if gain > HUGE else "warning", text)
            elif gain < LEAST_GAIN:
                text = f"orthogonal, with a gain of {gain:.4g}: a signal becomes as much smaller, and dies"
                self._add(s, "too_small", "severe" if gain < TINY else "warning", text)
            return True
        text = (
            f"nearly orthonormal: the cosines between units are {cosine:.2g}, those of independent ones "
            f"would be {1 / math.sqrt(length):.2g}, and rounding explains {rounding:.2g}. Draw it by "
            "fastinit.orthogonal"
        )
        s.scheme = "orthogonal"
        self._add(s, "not_orthogonal", "info" if self.trained else "warning", text)
        return True

    def _scale(self, s: Statistics) -> None:
        """The scale of a normalization, or of a branch."""
        low, high = s.low, s.high
        if s.constant or s.size == 1:
            s.scheme = _constant_name(low)
        if low == high == 1.0:
            return
        severity, advice = "info", ""
        if low == high == 0.0:
            text = "the scale is 0: what it scales begins as nothing (a residual branch), or it is added to 1"
        elif low == high:
            text = f"the scale is {low:.4g} and not 1"
            usual = SCALE_LOW <= low <= SCALE_HIGH if s.tensor.norm else 0.0 < low <= SCALE_HIGH
            severity = "info" if usual else "warning"
        else:
            text = f"the scale varies from {low:.4g} to {high:.4g}, about {s.moments.mean:.4g}"
            off = low <= 0.0 or abs(s.moments.mean - 1) > 0.5 or high > SCALE_HIGH
            scales = [t for t in self.tensors if t.tensor.role == "scale"]
            meant = 2 * sum(t.low < t.high for t in scales) > len(scales) > 2
            severity = "warning" if off and not meant else "info"
        if severity == "warning":
            advice = ". The scale of a normalization begins at 1: use fastinit.ones"
        self._add(s, "scale_not_one", "info" if self.trained else severity, text + advice)

    def _bias(self, s: Statistics) -> None:
        largest = max(abs(s.low), abs(s.high))
        if largest == 0.0:
            s.scheme = "zeros"
            return
        if s.constant:
            s.scheme = _constant_name(s.low)
        elif s.high == 1.0 and abs(s.size * s.rms**2 - s.at_high) < 0.01 * s.at_high and s.low > -CLOSE_ZERO:
            s.scheme = "zeros, and ones for a gate"
            return
        siblings = self.by_prefix[_prefix(s.tensor.name)]
        fans = [into for t in siblings for into, _ in _schemes.fans(t.tensor)] + list(s.tensor.hidden)
        for fan in fans:
            if largest <= (1 + s.eps) / math.sqrt(fan) and not s.constant:
                s.scheme = "U(±1/sqrt(fan))"
                return
        off = (largest >= BIAS_CONSTANT or (s.rms >= BIAS and not s.constant)) and not self._is_shared(s)
        text = f"the bias is not 0: from {s.low:.4g} to {s.high:.4g}, root mean square {s.rms:.4g}"
        if off:
            text += ". Units saturate, or are dead, before they learn anything; use fastinit.zeros"
        self._add(s, "bias_not_zero", "warning" if off and not self.trained else "info", text)

    def _running(self, s: Statistics) -> None:
        if s.tensor.role == "running_var":
            if s.low < 0.0:
                text = f"a running variance is negative, {s.low:.4g}: its square root is NaN. It begins at 1"
                self._add(s, "negative_variance", "severe", text)
            elif s.low == 0.0:
                text = "a running variance is 0: what is divided by its root explodes. It begins at 1"
                self._add(s, "running_statistics", "warning", text)
            elif not s.low == s.high == 1.0 and not self.trained:
                text = (
                    f"the running variance is {s.low:.4g} to {s.high:.4g}; it begins at 1. The model has run"
                )
                self._add(s, "running_statistics", "info", text)
        elif not s.low == s.high == 0.0 and not self.trained:
            text = f"the running mean is {s.low:.4g} to {s.high:.4g}; it begins at 0. The model has run"
            self._add(s, "running_statistics", "info", text)

    # What is expected

    def _expected(self, s: Statistics, initializer: fastinit.Initializer) -> None:
        """Judges a tensor against the law that it is meant to follow."""
        law, promised = _schemes.law_of(initializer, s.tensor)
        kind, moments = type(initializer).__name__, s.moments
        s.scheme = kind
        wrong: list[str] = []
        if promised is None:
            wrong = self._other_law(s, law)
        elif promised.std == 0.0:
            off = max(abs(s.low - promised.mean), abs(s.high - promised.mean))
            if off > s.eps * abs(promised.mean):
                wrong = [
                    f"the elements go from {s.low:.4g} to {s.high:.4g}, and all should be {promised.mean:.4g}"
                ]
        else:
            s.scale_error = moments.std / promised.std - 1.0
            error = _schemes.ERRORS * promised.std / math.sqrt(moments.count)
            if abs(moments.mean - promised.mean) > max(error, s.eps * promised.std):
                wrong.append(
                    f"the mean is {moments.mean:.4g}, and should be {promised.mean:.4g} ± {error:.2g}"
                )
            slack = _schemes.tolerance(moments)
            enough = moments.count >= FEW
            if enough and not (moments.std > 0.0 and abs(math.log(moments.std / promised.std)) <= slack):
                wrong.append(f"the std is {moments.std:.4g}, and should be {promised.std:.4g} ± {slack:.1%}")
            room = s.eps * max(abs(s.low), abs(s.high))
            if s.low < promised.low - room or s.high > promised.high + room:
                bounds = f"[{promised.low:.4g}, {promised.high:.4g}]"
                wrong.append(f"the elements go from {s.low:.4g} to {s.high:.4g}, beyond {bounds}")
            known = [family for family in _schemes.FAMILIES if family.kurtosis == promised.kurtosis]
            if (
                enough
                and not wrong
                and known
                and known[0] not in _schemes.families(moments, s.low, s.high, s.eps)
            ):
                wrong.append(
                    f"the elements are not {known[0].name}: their kurtosis is {moments.kurtosis:.3g}"
                )
        if wrong:
            text = "; ".join(wrong) + f". {initializer!r} was expected: draw the tensor by it"
            self._add(s, "not_as_expected", "warning", text)
        elif promised is not None and promised.std > 0.0 and s.weights and len(s.tensor.shape) > 1:
            _ = self._units(s) or self._piled(s)

    def _other_law(self, s: Statistics, law: fastinit.Initializer) -> list[str]:
        """What is wrong with a tensor whose elements are not independent."""
        name = type(law).__name__
        if name == "Orthogonal":
            if not s.gram:
                return []
            if s.orthogonality is None or s.orthogonality[1] > 100 * _EPS["float32"] + s.eps:
                return ["its units are not orthonormal"]
            config = law.get_config()
            gain, wanted = s.orthogonality[0], abs(config["gain"])
            # Square blocks side by side add up.
            if all(abs(gain / (wanted * math.sqrt(n)) - 1) > CLOSE_GAIN for n in {1, config["blocks"]}):
                return [f"the gain is {gain:.4g}, and should be {wanted:.4g}"]
        elif name in ("Identity", "Dirac"):
            gain = law.get_config().get("gain", 1.0)
            if not (self._is_identity(s) or s.size == 1) or gain not in (s.low, s.high):
                return [f"it is no {name.lower()}"]
        elif name == "Sparse":
            zeros = math.ceil(law.get_config()["sparsity"] * s.tensor.shape[0]) * s.tensor.shape[-1]
            if s.zeros != zeros:
                return [f"{s.zeros:,} elements are 0, and {zeros:,} should be"]
            others = s.size - zeros
            std, wanted = s.rms * math.sqrt(s.size / max(others, 1)), law.get_config()["stddev"]
            if others >= FEW and abs(std / wanted - 1) > max(
                _schemes.CLOSE, _schemes.ERRORS / math.sqrt(2 * others)
            ):
                return [f"the std of what is not 0 is {std:.4g}, and should be {wanted:.4g}"]
        elif name == "DeltaOrthogonal":
            into, out = s.tensor.shape[s.tensor.in_axis], s.tensor.shape[s.tensor.out_axis]
            gain, wanted = s.rms * math.sqrt(s.size / into), abs(law.get_config()["gain"])
            if s.size - s.zeros > into * out or abs(gain / wanted - 1) > CLOSE_GAIN + s.eps:
                return ["it is no orthogonal matrix amid zeros"]
        return []

    # Several tensors

    def _modes(self) -> None:
        """Finds kernels whose scale follows the other fan than that of their siblings."""
        if self.trained:
            return
        blamed = {finding.tensor for finding in self.findings if finding.severity != "info"}
        kernels = [s for s in self.kernels if s.tensor.name not in blamed | self.expected.keys()]
        near = {s.tensor.name: _near(s) for s in kernels}
        bases = Counter(base for found in near.values() for base in {match.name for match in found})
        # A tensor is blamed if nothing else explains it; as a sibling it stands for what most others are,
        # too.
        sure = {s.tensor.name: _mode(s.matches) for s in kernels}
        likely = {}
        for name, found in near.items():
            most = max((bases[match.name] for match in found), default=0)
            likely[name] = _mode([match for match in found if bases[match.name] == most])
        out = [s for s in kernels if likely[s.tensor.name] == "fan_out"]
        into = [s for s in kernels if likely[s.tensor.name] == "fan_in"]
        # Counted by what they match, since a model may have thousands of kernels, and few schemes.
        known = {s.tensor.name: frozenset(match.name for match in s.matches) for s in kernels}
        out_kinds, in_kinds = (Counter(known[s.tensor.name] for s in group) for group in (out, into))
        usual = Counter(len(s.tensor.shape) for s in kernels if self.consensus in known[s.tensor.name])
        modes = {
            pattern: {likely.get(t.tensor.name) for t in group} for pattern, group in self.groups.items()
        }
        choice: list[Statistics] = []
        for group, own_kinds, other_kinds, mode, other in (
            (out, out_kinds, in_kinds, "fan_out", "fan_in"),
            (into, in_kinds, out_kinds, "fan_in", "fan_out"),
        ):
            for s in group:
                own = known[s.tensor.name]
                alike = sum(count for names, count in own_kinds.items() if names & own)
                unlike = sum(count for names, count in other_kinds.items() if names & own)
                # Convolutions and dense layers may follow different schemes, and so may layers of a kind.
                consensus = self.consensus is not None and usual[len(s.tensor.shape)] > 2
                pattern = _pattern(s.tensor.name)
                meant = len(self.groups[pattern]) > 1 and modes[pattern] == {mode}
                if mode == "fan_out":
                    deviates = unlike >= alike > 0 and unlike > 0
                    few = len(out) <= max(1, 0.1 * len(self.kernels))
                    deviates = deviates or (consensus and few and self.consensus not in own)
                else:
                    deviates = unlike > alike
                if deviates and not meant and s.tensor.certain and sure[s.tensor.name] == mode:
                    fan_in, fan_out = _schemes.fans(s.tensor)[0]
                    fan, other_fan = (fan_in, fan_out) if mode == "fan_in" else (fan_out, fan_in)
                    text = (
                        f"std {s.moments.std:.4g} follows {mode} ({fan:.0f}), and the other kernels follow "
                        f"{other if unlike else self.consensus} (here {other} is {other_fan:.0f}). Use "
                        f"mode={other!r}, or set layout= if the axes are in the other order"
                    )
                    self._add(s, "wrong_mode", "warning", text)
                elif mode == "fan_out":
                    choice.append(s)
        if choice:
            names = ", ".join(s.tensor.name for s in choice[:3]) + (" ..." if len(choice) > 3 else "")
            count = "1 kernel follows" if len(choice) == 1 else f"{len(choice)} kernels follow"
            text = (
                f"{count} fan_out ({names}): gradients keep their size, signals may "
                "not. A choice if meant; otherwise use mode='fan_in', or set layout= if the axes are in "
                "the other order"
            )
            only = choice[0] if len(choice) == 1 else None
            self._add(only, "wrong_mode", "info", text)

    def _twins(self) -> None:
        """Finds tensors that are equal, or the same draws at another scale."""
        blamed = {finding.tensor for finding in self.findings if finding.severity != "info"}
        alike: dict[object, list[Statistics]] = defaultdict(list)
        for s in self.tensors:
            random = s.weights and s.size >= 8 and s.low < s.high and s.scheme not in ("identity", "dirac")
            if random and s.key is not None and s.tensor.name not in blamed:
                alike[s.key].append(s)
        for group in alike.values():
            if len(group) < 2:
                continue
            first = group[0]
            for s in group[1:]:
                equal = s.moments == first.moments and s.tensor.shape == first.tensor.shape
                what = "is equal to" if equal else "has the same draws, up to its scale, as"
                names = " ".join((*s.tensor.names, *first.tensor.names)).lower()
                # Targets, teachers and moving averages are copies; so is a tied output in a file.
                copy = _COPY.search(names) or {first.tensor.role, s.tensor.role} & {"embedding"}
                severity = "info" if self.trained or (equal and copy) else "warning"
                text = f"{what} {first.tensor.name!r}: two layers begin, and may stay, the same"
                self._add(s, "twins", severity, text + ". Give each tensor a stream, or a seed, of its own")


_COPY = re.compile(
    r"target|teacher|ema|momentum|(encoder|backbone|head|proj\w*)_k\b|key_encoder|frozen|_old\b"
)

# An orthonormal system has exactly its gain, but for rounding; of a half type, that of its elements averages
# out.
CLOSE_GAIN = 2e-3


def _near(s: Statistics) -> list[Scheme]:
    """The schemes that a tensor agrees with within three standard errors."""
    slack = max(_schemes.CLOSE, 3 * _schemes.std_error(s.moments))
    return [match for match in s.matches if abs(math.log(s.moments.std / match.std)) <= slack]


def _mode(matches: Sequence[Scheme]) -> str | None:
    """The fan that these schemes follow, if it is one."""
    modes = {match.mode for match in matches if match.corrected}
    if modes in ({"fan_out"}, {"fan_out", "swapped"}):
        return "fan_out"
    return "fan_in" if modes == {"fan_in"} else None


def _range(scales: list[float]) -> tuple[float, float]:
    """The least and the largest of two or more, zeros and infinities aside; otherwise an empty range."""
    found = [scale for scale in scales if 0.0 < scale < math.inf]
    return (min(found), max(found)) if len(found) > 1 else (math.inf, 0.0)


def _plain_name(scheme: Scheme) -> str:
    return scheme.title.replace(" without correction", "")


def _constant_name(value: float) -> str:
    return {0.0: "zeros", 1.0: "ones"}.get(value, f"constant({value:.4g})")


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:4])) + (" ..." if len(numbers) > 4 else "")


def _prefix(name: str) -> str:
    """The layer that a tensor belongs to."""
    return re.sub(r"[^./]*$", "", name)


def _pattern(name: str) -> str:
    """The name without its numbers: the same for the same tensor of all layers."""
    return _NUMBER.sub("*", name)


# Numbers of layers, not those of fc1 and fc2 in each: whole parts of a name, and those of layer1, stage_2,
# dense_3/.
_NUMBER = re.compile(r"(?<![^./])\d+(?=[./])|(?<=layer|stage|block)_?\d+|_\d+(?=/)")


def _spatial(tensor: Tensor) -> list[int]:
    axes = {tensor.in_axis, tensor.out_axis}
    return [size for axis, size in enumerate(tensor.shape) if axis not in axes]
