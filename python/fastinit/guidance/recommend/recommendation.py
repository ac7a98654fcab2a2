"""What `recommend` answers."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastinit._terminal import table

from .spelling import short

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastinit.initializers import Initializer


@dataclass(frozen=True)
class Alternative:
    """Another good choice.

    Attributes:
        weights: What to use instead, by the names of weights.
        when: When to.
    """

    weights: Mapping[str, Initializer]
    when: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"weights": _plain_weights(self.weights), "when": self.when}


@dataclass(frozen=True)
class Judgement:
    """What is to be said of an initializer that was proposed for the kernel.

    Attributes:
        initializer: What was proposed.
        verdict: `"good"` if the variance of signals is kept within a factor of 4 over the depth, and units
            differ, `"poor"` if not, `"refused"` if no network could learn from it.
        signal: The variance of the inputs of units in the last layer, of a signal of variance 1.
        gradient: The factor by which the variance of gradients changes from the last layer to the first.
        text: The same in words.
    """

    initializer: Initializer
    verdict: str
    signal: float
    gradient: float
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "initializer": plain_initializer(self.initializer),
            "verdict": self.verdict,
            "signal": plain_number(self.signal),
            "gradient": plain_number(self.gradient),
            "text": self.text,
        }


@dataclass(frozen=True)
class Recommendation:
    """What to initialize each weight of a layer with. `print` shows it as a table.

    Attributes:
        activation: The name of the activation, with its parameter.
        layer: The family of the layer.
        layout: `"keras"` or `"torch"`: which axes of the kernels are which, in `weights`.
        weights: An initializer for each weight, by name.
        keras: How to say the same in Keras, by the same names; empty where one argument cannot.
        torch: How to say the same with the functions of `fastinit.torch`, most of which are those of
            `torch.nn.init`; `w` is the weight, `b` the bias.
        reason: Why.
        alternatives: What else is good, and when.
        warnings: What to look out for.
        sources: The papers.
        gain: The root of the variance of the kernel times its fan; `None` if no activation plays a part.
        slope: The slope of the map of variances at the variance that layers pass on: above 1 a plain stack of
            such layers does not keep it. `None` as for `gain`.
        gradient: What each layer of a plain stack multiplies the variance of gradients by. `None` as for
            `gain`.
        judgement: What is to be said of `proposal`, if there was one.
    """

    activation: str
    layer: str
    layout: str
    weights: Mapping[str, Initializer]
    keras: Mapping[str, str]
    torch: Mapping[str, str]
    reason: str
    alternatives: tuple[Alternative, ...]
    warnings: tuple[str, ...]
    sources: tuple[str, ...]
    gain: float | None = None
    slope: float | None = None
    gradient: float | None = None
    judgement: Judgement | None = None

    def __str__(self) -> str:
        """The table, and below it the reason and the rest."""
        rows = [
            row
            for name, made in self.weights.items()
            for row in (
                (name, "fastinit", short(made)),
                ("", "Keras", self.keras[name]),
                ("", "PyTorch", self.torch[name]),
            )
            if row[-1]
        ]
        lines = [
            f"{self.layer}, {self.activation}",
            table(("weight", "in", "initializer"), rows, wrap=90),
            "",
        ]
        if self.slope is not None:
            effect = f"slope of the variance {self.slope:.4g}, gradients times {self.gradient:.4g}"
            lines.append(f"in plain layers: {effect}")
        if self.judgement is not None:
            lines.append(_wrapped(f"proposal: {self.judgement.verdict}. {self.judgement.text}"))
        notes = [("why", self.reason), *(("note", text) for text in self.warnings)]
        notes += [
            ("or", f"{', '.join(f'{k} {short(v)}' for k, v in other.weights.items())}: {other.when}")
            for other in self.alternatives
        ]
        lines += [_wrapped(f"{title}: {text}") for title, text in notes]
        if self.sources:
            lines.append(_wrapped(f"sources: {'; '.join(self.sources)}"))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; initializers as what `fastinit.get` takes."""
        return {
            "activation": self.activation,
            "layer": self.layer,
            "layout": self.layout,
            "weights": _plain_weights(self.weights),
            "keras": dict(self.keras),
            "torch": dict(self.torch),
            "reason": self.reason,
            "alternatives": [other.to_dict() for other in self.alternatives],
            "warnings": list(self.warnings),
            "sources": list(self.sources),
            "gain": self.gain,
            "slope": self.slope,
            "gradient": self.gradient,
            "judgement": None if self.judgement is None else self.judgement.to_dict(),
        }


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 110, subsequent_indent="  ")


def plain_initializer(initializer: Initializer) -> dict[str, Any]:
    """What `fastinit.get` takes."""
    return {"class_name": type(initializer).__name__, "config": initializer.get_config()}


def _plain_weights(weights: Mapping[str, Initializer]) -> dict[str, Any]:
    return {name: plain_initializer(made) for name, made in weights.items()}


def plain_number(x: float) -> float | str:
    """A number that JSON has, or its name."""
    return x if math.isfinite(x) else str(x)
