"""Comparisons between the tensors of a model: which differ from the others, and which are copies."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from .results import Code, Severity
from .schemes import fans, matching, schemes
from .statistics import CLOSE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .model import Model
    from .schemes import Scheme
    from .statistics import Matches, Statistics

# How far a kernel may be from what most kernels of the same model follow. Scaling by depth, as in BEiT,
# divides by at most sqrt(2 * layers): a factor of 3.6 from the median for 24 layers.
UNLIKE = 4.0


def find_unlike(model: Model, s: Statistics) -> None:
    """Finds that the scale of a kernel is far from that of most others."""
    if model.consensus is None or model.is_scaled_by_depth(s) or model.is_shared(s):
        return
    ratios = [s.std / x.std for x in schemes(s.tensor) if x.name == model.consensus]
    ratio = min(ratios, key=lambda ratio: abs(math.log(ratio)), default=1.0)
    if abs(math.log(ratio)) > math.log(UNLIKE) + s.tolerance:
        code = Code.TOO_LARGE if ratio > 1 else Code.TOO_SMALL
        text = (
            f"the std {s.std:.4g} is {ratio:.3g} times that of {model.consensus}, which "
            f"{model.names[model.consensus]} of the {len(model.kernels)} kernels of this model follow; draw "
            "this one like them, or pass its initializer as expect="
        )
        model.add(s, code, Severity.WARNING, text)


def find_modes(model: Model) -> None:
    """Finds kernels whose scale follows another fan than that of the other kernels."""
    if model.trained:
        return
    excluded = model.blamed() | model.expected.keys()
    kernels = [s for s in model.kernels if s.name not in excluded]
    near = {s.name: _near(s) for s in kernels}
    kinds_near = Counter(near.values())
    bases = Counter[str]()
    for found, number in kinds_near.items():
        bases.update(dict.fromkeys(found.names, number))
    # A tensor is reported only if no other scheme explains it; otherwise it counts as what most kernels are.
    modes_near = {}
    for found in kinds_near:
        most = max((bases[name] for name in found.names), default=0)
        modes_near[found] = _mode(match for match in found if bases[match.name] == most)
    likely = {name: modes_near[found] for name, found in near.items()}
    by_mode = {mode: [s for s in kernels if likely[s.name] == mode] for mode in ("fan_out", "fan_in")}
    # Counted by what they match, since a model may have thousands of kernels and few schemes.
    kinds = {mode: Counter(s.matches.names for s in group) for mode, group in by_mode.items()}
    usual = Counter(len(s.tensor.shape) for s in kernels if model.consensus in s.matches.names)
    modes: dict[str, set[str | None]] = defaultdict(set)
    for s in model.tensors:
        modes[s.pattern].add(likely.get(s.name))
    few = len(by_mode["fan_out"]) <= max(1, 0.1 * len(model.kernels))
    choice: list[Statistics] = []
    for mode, other in (("fan_out", "fan_in"), ("fan_in", "fan_out")):
        for s in by_mode[mode]:
            own = s.matches.names
            alike, unlike = (
                sum(count for names, count in kinds[each].items() if names & own) for each in (mode, other)
            )
            if mode == "fan_out":
                # Convolutions and dense layers may follow different schemes.
                stands_out = few and usual[len(s.tensor.shape)] > 2 and model.consensus not in own
                deviates = unlike >= alike > 0 or stands_out
            else:
                deviates = unlike > alike
            # Siblings may, too: they share their scheme intentionally.
            meant = model.siblings(s).number > 1 and modes[s.pattern] == {mode}
            if deviates and not meant and s.tensor.certain and _mode(s.matches) == mode:
                fan_of = dict(zip(("fan_in", "fan_out"), fans(s.tensor)[0], strict=True))
                text = (
                    f"the std {s.std:.4g} follows {mode} ({fan_of[mode]:.0f}), and the other kernels "
                    f"follow {other if unlike else model.consensus} (here {other} is {fan_of[other]:.0f}); "
                    f"use mode={other!r}, or set layout= if the axes are in the other order"
                )
                model.add(s, Code.WRONG_MODE, Severity.WARNING, text)
            elif mode == "fan_out":
                choice.append(s)
    if choice:
        names = ", ".join(s.name for s in choice[:3]) + (" ..." if len(choice) > 3 else "")
        count = "1 kernel follows" if len(choice) == 1 else f"{len(choice)} kernels follow"
        text = (
            f"{count} fan_out ({names}), which keeps the size of gradients but not that of signals; unless "
            "that is on purpose, use mode='fan_in', or set layout= if the axes are in the other order"
        )
        model.add(choice[0] if len(choice) == 1 else None, Code.WRONG_MODE, Severity.INFO, text)


def _near(s: Statistics) -> Matches:
    """The schemes that a tensor agrees with within three standard errors."""
    if not s.matches:
        return s.matches
    return matching(s.tensor, s.families, s.std, max(CLOSE, 3 * s.std_error))


def _mode(matches: Iterable[Scheme]) -> str | None:
    """The fan that these schemes follow, if it is one."""
    modes = {match.mode for match in matches if match.corrected}
    if modes in ({"fan_out"}, {"fan_out", "swapped"}):
        return "fan_out"
    return "fan_in" if modes == {"fan_in"} else None


# Names of tensors that are intentional copies of others.
_COPY = re.compile(
    r"target|teacher|ema|momentum|(encoder|backbone|head|proj\w*)_k\b|key_encoder|frozen|_old\b"
)


# Encoders and decoders may start as transposes of each other.
_INVERSE = re.compile(r"enc.*dec|dec.*enc")


def _pairs(alike: dict[object, list[Statistics]]) -> Iterator[tuple[Statistics, Statistics, bool]]:
    """Tensors with the same draws, and whether one is the transpose of the other."""
    for first, *others in alike.values():
        yield from ((first, s, False) for s in others)
    seen: set[int] = set()
    for s in itertools.chain.from_iterable(alike.values()):
        seen.add(id(s))
        for other in alike.get(s.turned, ())[:1]:
            same = other.tensor.shape == s.tensor.shape[::-1] and not s.tensor.shares(other.tensor)
            close = math.isclose(s.moments.kurtosis, other.moments.kurtosis, rel_tol=1e-3)
            if id(other) not in seen and same and close:
                seen.add(id(other))
                yield s, other, True


def find_twins(model: Model) -> None:
    """Finds tensors that are equal, or the same draws at another scale."""
    blamed = model.blamed()
    alike: dict[object, list[Statistics]] = defaultdict(list)
    for s in model.tensors:
        plain = s.key is None or s.size < 8 or s.scheme in ("identity", "dirac")
        if not plain and s.name not in blamed:
            alike[s.key].append(s)
    for first, s, turned in _pairs(alike):
        equal = s.moments == first.moments and s.tensor.shape == first.tensor.shape and not turned
        what = "is equal to" if equal else "has, up to its scale and its sign, the same draws as"
        if turned:
            what = "is, up to its scale and its sign, the transpose of"
        names = " ".join((*s.tensor.names, *first.tensor.names)).lower()
        # Targets, teachers and moving averages are copies; so is a tied output in a file.
        copy = _COPY.search(names) or "embedding" in (first.tensor.role, s.tensor.role)
        inverse = turned and _INVERSE.search(names)
        on_purpose = model.trained or (equal and copy) or inverse
        text = (
            f"it {what} {first.name!r}, so two layers start the same and may stay so; give each tensor "
            "its own stream or seed"
        )
        model.add(s, Code.TWINS, Severity.INFO if on_purpose else Severity.WARNING, text)
