"""What the tensors of a model say about each other: what most of them are, and which are unlike the others.

A tensor is compared with the other kernels of the model, with those of its layer, and with the same tensor of
all layers, its siblings. What all siblings share is meant, and is no fault. One that follows the other fan,
or is the copy of another, can only be found so.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from . import schemes as _schemes
from .findings import Finding
from .schemes import NORMAL, Scheme

if TYPE_CHECKING:
    from collections.abc import Sequence

    import fastinit

    from .findings import Statistics

# The part of the kernels that makes a scheme that of the model. In GPT-2 half of them are scaled by depth.
CONSENSUS = 0.4


class Model:
    """The tensors of a model, each in view of the others, and what is found of them.

    Args:
        tensors: The tensors, as measured.
        expected: For the names of some, the initializer that they are meant to follow.

    Attributes:
        findings: What has been found, in that order.
        groups: The same tensor of all layers, by its name without numbers.
        kernels: The tensors that mix the units of a signal.
        zeros: How many kernels are zero.
        votes: For each title of a scheme, how many kernels agree with it.
        names: The same, with no regard to the mode.
        consensus: The name of the scheme that most kernels agree with, if there is one.
        trained: Whether the weights have been changed since they were drawn.
        normalized: Whether batch normalizations follow most kernels.
    """

    def __init__(self, tensors: Sequence[Statistics], expected: dict[str, fastinit.Initializer]) -> None:
        self.tensors = tensors
        self.expected = expected
        self.findings: list[Finding] = []
        self.kernels = [s for s in tensors if s.tensor.role in ("kernel", "recurrent")]
        self._layers: dict[str, list[Statistics]] = defaultdict(list)
        for s in self.kernels:
            self._layers[_prefix(s.tensor.name)].append(s)
        self.groups: dict[str, list[Statistics]] = defaultdict(list)
        for s in tensors:
            self.groups[_pattern(s.tensor.name)].append(s)
        self._scales = {pattern: _range([s.rms for s in group]) for pattern, group in self.groups.items()}
        self.zeros = sum(s.size > 0 and s.low == s.high == 0.0 for s in self.kernels)
        for s in tensors:
            if s.weights and len(s.tensor.shape) > 1:
                _match(s)
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

    def add(self, s: Statistics | None, code: str, severity: str, message: str) -> None:
        """Adds a finding; `None` stands for the model as a whole."""
        name = "" if s is None else s.tensor.name
        self.findings.append(Finding(code, severity, name, message))

    def blamed(self) -> set[str]:
        """The names of the tensors that something is wrong with."""
        return {finding.tensor for finding in self.findings if finding.severity != "info"}

    def alike(self, s: Statistics) -> list[Statistics]:
        """The same tensor of all layers."""
        return self.groups[_pattern(s.tensor.name)]

    def in_layer(self, s: Statistics) -> list[Statistics]:
        """The kernels of the layer of a tensor."""
        return self._layers[_prefix(s.tensor.name)]

    def is_shared(self, s: Statistics) -> bool:
        """Whether the same tensors of other layers have the same scale, so that it is meant."""
        low, high = self._scales[_pattern(s.tensor.name)]
        if not 0.0 < s.rms < math.inf or low == math.inf:
            return False
        slack = 2 * _schemes.tolerance(s.moments)
        return max(math.log(high / s.rms), math.log(s.rms / low)) <= slack

    def is_scaled_by_depth(self, s: Statistics) -> bool:
        """Whether it is the usual law divided by sqrt(2 * layers), as in GPT-2 and BEiT, or sqrt(layers)."""
        if self.consensus is None:
            return False
        tolerance = _schemes.tolerance(s.moments)
        for layers in self._depths(s):
            for scheme in _schemes.schemes(s.tensor):
                for divisor in (math.sqrt(2 * layers), math.sqrt(layers)):
                    fits = abs(math.log(s.moments.std * divisor / scheme.std)) <= tolerance
                    if scheme.name == self.consensus and fits:
                        s.scheme = f"{self.consensus} / sqrt({round(divisor**2)})"
                        s.scale_error = s.moments.std * divisor / scheme.std - 1.0
                        return True
        return False

    def _depths(self, s: Statistics) -> set[int]:
        """How many layers there are, and how many up to this one, as the numbers in names tell."""
        count = len(self.alike(s))
        return {count, count + 1, *(int(number) + 1 for number in re.findall(r"\d+", s.tensor.name)[:3])}

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


def _match(s: Statistics) -> None:
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


def _range(scales: list[float]) -> tuple[float, float]:
    """The least and the largest of two or more, zeros and infinities aside; otherwise an empty range."""
    found = [scale for scale in scales if 0.0 < scale < math.inf]
    return (min(found), max(found)) if len(found) > 1 else (math.inf, 0.0)


def _prefix(name: str) -> str:
    """The layer that a tensor belongs to."""
    return re.sub(r"[^./]*$", "", name)


def _pattern(name: str) -> str:
    """The name without its numbers: the same for the same tensor of all layers."""
    return _NUMBER.sub("*", name)


# Numbers of layers, not those of fc1 and fc2 in each: whole parts of a name, and those of layer1, stage_2,
# dense_3/.
_NUMBER = re.compile(r"(?<![^./])\d+(?=[./])|(?<=layer|stage|block)_?\d+|_\d+(?=/)")


# How far a kernel may be from what most kernels of the same model follow. Scaling by depth, as in BEiT,
# divides by at most sqrt(2 * layers): a factor of 3.6 from the median for 24 layers.
UNLIKE = 4.0


def find_unlike(model: Model, s: Statistics) -> None:
    """Finds that the scale of a kernel is far from that of most others."""
    if model.consensus is None or model.is_scaled_by_depth(s) or model.is_shared(s):
        return
    usual = [x.std for x in _schemes.schemes(s.tensor) if x.name == model.consensus]
    ratio = min((s.moments.std / std for std in usual), key=lambda r: abs(math.log(r)), default=1.0)
    if abs(math.log(ratio)) > math.log(UNLIKE) + _schemes.tolerance(s.moments):
        code = "too_large" if ratio > 1 else "too_small"
        text = (
            f"std {s.moments.std:.4g} is {ratio:.3g} times that of {model.consensus}, which "
            f"{model.names[model.consensus]} of {len(model.kernels)} kernels of this model follow. Draw it "
            "like these, or say expect="
        )
        model.add(s, code, "warning", text)


def find_modes(model: Model) -> None:
    """Finds kernels whose scale follows the other fan than that of their siblings."""
    if model.trained:
        return
    blamed = model.blamed()
    kernels = [s for s in model.kernels if s.tensor.name not in blamed | model.expected.keys()]
    near = {s.tensor.name: _near(s) for s in kernels}
    bases = Counter(base for found in near.values() for base in {match.name for match in found})
    # A tensor is blamed if nothing else explains it; as a sibling it stands for what most others are, too.
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
    usual = Counter(len(s.tensor.shape) for s in kernels if model.consensus in known[s.tensor.name])
    modes = {pattern: {likely.get(t.tensor.name) for t in group} for pattern, group in model.groups.items()}
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
            consensus = model.consensus is not None and usual[len(s.tensor.shape)] > 2
            pattern = _pattern(s.tensor.name)
            meant = len(model.groups[pattern]) > 1 and modes[pattern] == {mode}
            if mode == "fan_out":
                deviates = unlike >= alike > 0 and unlike > 0
                few = len(out) <= max(1, 0.1 * len(model.kernels))
                deviates = deviates or (consensus and few and model.consensus not in own)
            else:
                deviates = unlike > alike
            if deviates and not meant and s.tensor.certain and sure[s.tensor.name] == mode:
                fan_in, fan_out = _schemes.fans(s.tensor)[0]
                fan, other_fan = (fan_in, fan_out) if mode == "fan_in" else (fan_out, fan_in)
                text = (
                    f"std {s.moments.std:.4g} follows {mode} ({fan:.0f}), and the other kernels follow "
                    f"{other if unlike else model.consensus} (here {other} is {other_fan:.0f}). Use "
                    f"mode={other!r}, or set layout= if the axes are in the other order"
                )
                model.add(s, "wrong_mode", "warning", text)
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
        model.add(only, "wrong_mode", "info", text)


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


# Names of tensors that are copies of others.
_COPY = re.compile(
    r"target|teacher|ema|momentum|(encoder|backbone|head|proj\w*)_k\b|key_encoder|frozen|_old\b"
)


def find_twins(model: Model) -> None:
    """Finds tensors that are equal, or the same draws at another scale."""
    blamed = model.blamed()
    alike: dict[object, list[Statistics]] = defaultdict(list)
    for s in model.tensors:
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
            severity = "info" if model.trained or (equal and copy) else "warning"
            text = f"{what} {first.tensor.name!r}: two layers begin, and may stay, the same"
            model.add(s, "twins", severity, text + ". Give each tensor a stream, or a seed, of its own")
