"""A model as a whole: the scheme of most of its tensors, the groups of tensors, and the findings.

A tensor is compared with the other kernels of the model, with those of its layer, and with the same tensor of
other layers, its siblings. What all siblings share is assumed to be intended.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from .results import Finding, Severity
from .schemes import NORMAL, fitting, least_fan_in, matching, schemes
from .statistics import ERRORS, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastinit.initializers import Initializer

    from .order import Run
    from .results import Code
    from .schemes import Scheme
    from .statistics import Matches, Statistics

# The share of the kernels that makes a scheme that of the model. In GPT-2 half of them are scaled by depth.
CONSENSUS = 0.4

# The least number of elements of a kernel by which it is judged whether a model is trained.
JUDGED = 256

# Tensors of layers that have nothing else than a number.
_IN_ROW = re.compile(r"\*[./][^./]+$")

# The number of a layer; longer ones are something else.
_DEPTH = re.compile(r"(?<!\d)\d{1,6}(?!\d)")


class Siblings(NamedTuple):
    """The same tensor of all layers.

    Attributes:
        number: How many there are.
        zero: Whether all are zero.
        scales: The least and the largest root mean square that is finite and not zero; an empty range for
            fewer than two.
    """

    number: int
    zero: bool
    scales: tuple[float, float]


class Model:
    """The tensors of a model, and the findings.

    Args:
        tensors: The tensors, as measured.
        expected: The initializer that a tensor should follow, by name.
        runs: The layers that follow each other, as far as it is known.

    Attributes:
        by_name: The tensors by all their names.
        places: The run that a kernel belongs to, and its place there, by name.
        findings: The findings, in the order in which they were made.
        kernels: The tensors that mix the units of a signal.
        zeros: How many kernels are zero.
        constants: How many kernels are constant.
        has_embedding: Whether an embedding is not zero.
        stuck: What `zeros` has found out about a run.
        votes: How many kernels agree with a scheme, by its title.
        names: The same by its name, whatever the mode.
        consensus: The name of the scheme that most kernels agree with, if there is one.
        varied_scales: Whether most scales of normalizations vary, which then is assumed to be intended.
        trained: Whether the weights have been changed since they were drawn.
        normalized: Whether batch normalizations follow most kernels.
    """

    def __init__(
        self, tensors: Sequence[Statistics], expected: dict[str, Initializer], runs: Sequence[Run]
    ) -> None:
        self.tensors = tensors
        self.expected = expected
        self.runs = runs
        self.by_name = {name: s for s in tensors for name in s.tensor.names}
        self.places = {
            self.by_name[layer.kernel].name: (run, at)
            for run in runs
            for at, layer in enumerate(run.layers)
            if layer.kernel in self.by_name
        }
        self.findings: list[Finding] = []
        self.kernels = [s for s in tensors if s.tensor.is_kernel]
        self._least_fans: dict[str, float] = defaultdict(lambda: math.inf)
        for s in self.kernels:
            self._least_fans[s.layer] = min(self._least_fans[s.layer], least_fan_in(s.tensor.kind))
        siblings: dict[str, list[Statistics]] = defaultdict(list)
        for s in tensors:
            siblings[s.pattern].append(s)
        self._siblings = {pattern: _siblings(group) for pattern, group in siblings.items()}
        scales = [s for s in tensors if s.tensor.role == "scale"]
        self.varied_scales = 2 * sum(s.low < s.high for s in scales) > len(scales) > 2
        self.zeros = sum(s.size > 0 and s.low == s.high == 0.0 for s in self.kernels)
        self.constants = sum(s.size > 0 and s.constant for s in self.kernels)
        self.has_embedding = any(s.tensor.role == "embedding" and not s.low == s.high == 0.0 for s in tensors)
        self.stuck: dict[int, dict[int, str]] = {}
        self._rows: dict[str, tuple[tuple[int, str], bool]] = {}
        for s in tensors:
            if s.tensor.is_weight:
                _match(s)
        self.votes, self.names = Counter[str](), Counter[str]()
        for matches, count in Counter(s.matches for s in self.kernels).items():
            for votes, texts in (
                (self.votes, (match.title for match in matches)),
                (self.names, (match.name for match in matches)),
            ):
                votes.update(dict.fromkeys(texts, count))
        self._likeliest: dict[Matches, Scheme] = {}
        self.consensus = self._consensus()
        self.trained = self._is_trained()
        means = sum(s.tensor.role == "running_mean" for s in tensors)
        self.normalized = 2 * means >= max(1, len(self.kernels))

    def add(self, s: Statistics | None, code: Code, severity: Severity, message: str) -> None:
        """Adds a finding about a tensor or, with `None`, about the model as a whole."""
        self.findings.append(Finding(code, severity, "" if s is None else s.name, message))

    def blamed(self) -> set[str]:
        """The names of the tensors that something is wrong with."""
        return {finding.tensor for finding in self.findings if finding.severity != Severity.INFO}

    def is_last(self, s: Statistics) -> bool:
        """Whether a kernel is known to make the output."""
        run, at = self.places.get(s.name, (None, 0))
        return run is not None and run.whole and at == len(run.layers) - 1

    def siblings(self, s: Statistics) -> Siblings:
        """The same tensor of all layers."""
        return self._siblings[s.pattern]

    def least_fan(self, s: Statistics) -> float:
        """The least fan_in that the kernels of the layer of a tensor may have; infinite without kernels."""
        return self._least_fans[s.layer]

    def likeliest(self, matches: Matches) -> Scheme:
        """The scheme of several that most kernels agree with, those that are corrected and usual first."""
        found = self._likeliest.get(matches)
        if found is None:
            unusual = ("fan_out", "swapped")
            found = max(matches, key=lambda x: (x.corrected, self.votes[x.title], x.mode not in unusual))
            self._likeliest[matches] = found
        return found

    def is_shared(self, s: Statistics) -> bool:
        """Whether all siblings have the same scale, which then is assumed to be intended."""
        low, high = self.siblings(s).scales
        if not 0.0 < s.rms < math.inf or low == math.inf:
            return False
        return max(math.log(high / s.rms), math.log(s.rms / low)) <= 2 * s.tolerance

    def is_scaled_by_depth(self, s: Statistics) -> bool:
        """Whether it follows the usual scheme divided by sqrt(layers) or, as in GPT-2, sqrt(2 * layers)."""
        count = self.siblings(s).number
        depths = {count, count + 1, *(int(number) + 1 for number in _DEPTH.findall(s.name)[:3])}
        usual = [scheme for scheme in schemes(s.tensor) if scheme.name == self.consensus]
        for layers in depths:
            for scheme in usual:
                for square in (2 * layers, layers):
                    ratio = s.std * math.sqrt(square) / scheme.std
                    if abs(math.log(ratio)) <= s.tolerance:
                        s.scheme, s.scale_error = f"{self.consensus} / sqrt({square})", ratio - 1.0
                        return True
        return False

    def is_odd_zero(self, s: Statistics) -> bool:
        """Whether a tensor that is zero differs from the same one of other layers.

        It does not if a whole row of layers is zero, or if it is the last one of a row, as its output.
        """
        siblings = self.siblings(s)
        if siblings.number < 2 or siblings.zero:
            return False
        if not self._rows:
            for t in self.tensors:
                zero = t.low == t.high == 0.0
                for pattern, number in rows(t.name):
                    most, others = self._rows.get(pattern, (number, True))
                    self._rows[pattern] = max(most, number), others and zero
        for pattern, number in rows(s.name):
            most, all_zero = self._rows[pattern]
            if all_zero or (number == most and _IN_ROW.search(pattern)):
                return False
        return True

    def _consensus(self) -> str | None:
        random = [s for s in self.kernels if s.families]
        if not self.names:
            return None
        name, count = self.names.most_common(1)[0]
        return name if count >= 3 and count >= CONSENSUS * len(random) else None

    def _is_trained(self) -> bool:
        large = [s for s in self.kernels if s.size >= JUDGED and s.low < s.high and not s.orthogonality]
        odd = [s for s in large if not s.families and s.zeros < 0.01 * s.size and not s.rank]
        heavy = [s for s in odd if s.moments.kurtosis > NORMAL.kurtosis]
        means = [s for s in self.tensors if s.tensor.role == "running_mean" and s.size]
        moved = [s for s in means if s.low != 0.0 or s.high != 0.0]
        if 2 * len(moved) > len(means) and (odd or len(moved) > 1):
            return True
        if len(heavy) > 1 and 2 * len(heavy) > len(large):
            return True
        unknown = [s for s in large if not s.matches]
        return 2 * len(unknown) >= len(large) > 1 and self._biases_have_moved()

    def _biases_have_moved(self) -> bool:
        """Whether most biases vary, beyond the bounds of PyTorch's, and not as of one distribution."""
        biases = [s for s in self.tensors if s.tensor.role == "bias" and s.size > 1]
        moved = [s for s in biases if s.low < s.high and s.std > 0.0 and not self.is_small_bias(s)]
        count = len(moved)
        if count < 2 or 2 * count <= len(biases):
            return False
        # Both are sums of squares of about standard normal numbers if all have one distribution.
        mean = sum(s.moments.mean for s in moved) / count
        scale = sum(math.log(s.std) for s in moved) / count
        means = sum((s.moments.mean - mean) ** 2 * s.size / s.std**2 for s in moved)
        spread = sum(((math.log(s.std) - scale) / s.std_error) ** 2 for s in moved)
        return max(means, spread) > count + ERRORS * math.sqrt(2 * count)

    def is_small_bias(self, s: Statistics) -> bool:
        """Whether the elements of a bias are within the bounds of those of PyTorch."""
        fan = min(self.least_fan(s), *s.tensor.hidden, math.inf)
        return max(abs(s.low), abs(s.high)) <= (1 + s.eps) / math.sqrt(max(fan, 1.0))


def _match(s: Statistics) -> None:
    """Finds the families and the schemes that a tensor agrees with."""
    s.families = fitting(s)
    if s.families and s.orthogonality is None:
        s.matches = matching(s.tensor, s.families, s.std, s.tolerance)


def _siblings(group: Sequence[Statistics]) -> Siblings:
    found = [s.rms for s in group if 0.0 < s.rms < math.inf]
    scales = (min(found), max(found)) if len(found) > 1 else (math.inf, 0.0)
    return Siblings(len(group), all(s.low == s.high == 0.0 for s in group), scales)
