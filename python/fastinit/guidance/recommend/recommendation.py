"""The result of `recommend`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastinit._results import Result, Verdict
from fastinit._terminal import Table

from .spelling import short

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastinit.initializers import Initializer


class JudgementVerdict(Verdict):
    """The verdict on a proposed initializer.

    `GOOD`: over the depth, the standard deviations of signals and of gradients stay within a factor of 3, and
    inputs and units can be told apart. `FAIR`: within a factor of 10. `POOR`: they do not; or the distance of
    two inputs falls below 1 % of the signal; or most of the signal is the same in all units. `REFUSED`: no
    network can learn from it, since all units of a layer stay equal.
    """

    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"
    REFUSED = "refused"


@dataclass(frozen=True)
class Alternative(Result):
    """Another good choice.

    Attributes:
        weights: The initializers to use instead, by the names of the weights.
        when: When to use them.
    """

    weights: Mapping[str, Initializer]
    when: str


@dataclass(frozen=True)
class Judgement(Result):
    """An initializer that was proposed for the kernel, judged.

    Attributes:
        initializer: The proposed initializer.
        verdict: The verdict.
        signal: The variance of the pre-activations of the last layer, for inputs of variance 1.
        gradient: The factor by which the variance of gradients changes from the last layer to the first.
        distance: The distance of two inputs in the last layer, relative to the signal: 1 where they are as
            different as independent ones at first, 0 where the layer does not depend on the input any more.
        text: The same in words.
    """

    initializer: Initializer
    verdict: JudgementVerdict
    signal: float
    gradient: float
    distance: float
    text: str


@dataclass(frozen=True)
class Recommendation(Result):
    """An initializer for each weight of a layer. `print` shows it as a table.

    Attributes:
        activation: The name of the activation, with its parameter.
        layer: The family of the layer.
        layout: The order of the axes of the kernels in `weights`: `"in_out"` or `"out_in"`.
        weights: An initializer for each weight, by name.
        keras: The same for plain Keras: arguments of the layer; or assignments to the weights of `layer`,
            which has been built, where Keras has no argument, or no initializer of the same distribution, as
            for the gates of an LSTM; with `import keras, math`. Empty where Keras has no such layer, and for
            attention with `mode="fan_geo_avg"`, where one argument is for kernels of different fans.
        torch: The same for plain PyTorch: code with the names of `torch.nn.init` and of the attributes of the
            layer, such as `weight`. Its `kaiming_normal_` and `xavier_normal_` do not truncate; the variance
            is the same. Empty where PyTorch has no such layer.
        reason: Why.
        alternatives: Other good choices.
        warnings: What to look out for.
        sources: The papers.
        gain: The square root of the product of the kernel's variance and its fan; `None` if the
            activation does not matter.
        slope: The slope of the variance map at its fixed point: above 1 a plain stack of such layers does not
            preserve the variance. `None` as for `gain`.
        gradient: The factor by which each layer of a plain stack multiplies the variance of gradients. `None`
            as for `gain`. It is also the slope of the correlation map where two inputs are alike (chi_1):
            below 1 they become more alike, above 1 less; at 1 is the edge of chaos.
        depth_scale: The number of layers over which gradients, and the distance of inputs that are nearly
            alike, change by a factor of e in variance: 1 / abs(log(gradient)), infinite at the edge of chaos.
            `None` as for `gain`.
        over_depth: With `depth`, what that many layers do to a signal of variance 1: the `"signal"`, its
            variance at the last layer; `"gradient"`, the factor of the variance of gradients; `"distance"`,
            that of two inputs relative to the signal. `None` without `depth`, and as for `gain`.
        judgement: The judgement of `proposal`; `None` if there was none.
    """

    _schema = 1

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
    depth_scale: float | None = None
    over_depth: Mapping[str, float] | None = None
    judgement: Judgement | None = None

    def _parts(self) -> list[str | Table]:
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
        lines: list[str | Table] = [
            f"{self.layer}, {self.activation}",
            Table(("weight", "in", "initializer"), rows, wrap=90),
            "",
        ]
        if self.slope is not None:
            effect = f"slope of the variance {self.slope:.4g}, gradients times {self.gradient:.4g}"
            lines.append(f"in plain layers: {effect}")
        if self.over_depth is not None:
            signal, gradient, distance = (f"{value:.2g}" for value in self.over_depth.values())
            lines.append(
                f"over the depth: variance of the signal from 1 to {signal}, of gradients times {gradient}, "
                f"distance of inputs from 1 to {distance}"
            )
        if self.judgement is not None:
            lines.append(f"proposal: {self.judgement.verdict}. {self.judgement.text}")
        notes = [("why", self.reason), *(("note", text) for text in self.warnings)]
        notes += [
            ("or", f"{', '.join(f'{k} {short(v)}' for k, v in other.weights.items())}: {other.when}")
            for other in self.alternatives
        ]
        lines += [f"{title}: {text}" for title, text in notes]
        if self.sources:
            lines.append(f"sources: {'; '.join(self.sources)}")
        return lines
