"""Kernels that are zero: whether they and their neighbours can be trained.

A kernel of zeros lets no signal through and no gradient to what is below it. It gets a gradient itself, if
its input is not zero and a gradient reaches its output; rows of it differ after one step, since the
kernel above was drawn at random, or since the outputs have different targets. So branches, adapters, gates
and outputs may start at zero. Nothing moves if the derivative of the activation is 0 there, as that of ReLU
is, or if two kernels in a row are zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .results import Code, Severity

if TYPE_CHECKING:
    from .model import Model
    from .order import Run
    from .statistics import Statistics

_DRAW = "draw it at random, as with fastinit.lecun_normal"


def judge_zero(model: Model, s: Statistics) -> None:
    """Judges a kernel, or an embedding, that is zero."""
    severity, text = _known(model, s) or _alone(model, s)
    model.add(s, Code.ALL_ZERO, severity, f"all elements are 0, {text}")


def _known(model: Model, s: Statistics) -> tuple[Severity, str] | None:
    """What follows from the layers around it, if they are known."""
    run, at = model.places.get(s.name, (None, 0))
    if run is None:
        return None
    if id(run) not in model.stuck:
        model.stuck[id(run)] = _stuck(model, run)
    stuck = model.stuck[id(run)]
    if at in stuck:
        severity = Severity.SEVERE if run.whole else Severity.WARNING
        return severity, f"{stuck[at]}; {_DRAW}"
    last = at == len(run.layers) - 1
    branch = run.assumed and model.siblings(s).number > 1 and not model.is_odd_zero(s)
    if not last and not branch:
        return Severity.WARNING, f"so nothing passes until training has changed it; {_DRAW}"
    if run.whole:
        return Severity.INFO, "so the output starts at its bias, and the first step changes no layer below"
    if run.joins and not model.is_odd_zero(s):
        return Severity.INFO, "so a branch starts at zero"
    return None


def _alone(model: Model, s: Statistics) -> tuple[Severity, str]:
    """What follows from the model as a whole."""
    if model.zeros == len(model.kernels) and s.tensor.is_kernel:
        return Severity.SEVERE, f"as all kernels are, so neither signal nor gradient passes; {_DRAW}"
    if model.is_odd_zero(s):
        text = f"unlike others of its kind; in a plain layer nothing passes, so {_DRAW}"
        return Severity.WARNING, text
    if s.tensor.role == "recurrent":
        text = "so the state has no effect at first; draw it with fastinit.orthogonal"
        return Severity.WARNING, text
    if s.tensor.role == "embedding":
        if not model.has_embedding and model.siblings(s).number == 1:
            return (
                Severity.WARNING,
                "so all inputs are the same at first; draw it with fastinit.random_normal",
            )
    elif 2 * model.zeros > len(model.kernels):
        text = f"as {model.zeros} of {len(model.kernels)} kernels are; two in a row can never be trained"
        return Severity.WARNING, f"{text}, so {_DRAW}"
    text = "which suits outputs, gates and the last kernels of branches and adapters, and no other layers"
    return Severity.INFO, text


def _stuck(model: Model, run: Run) -> dict[int, str]:
    """Why kernels of a run that are zero are never trained, or only with equal units, by their places.

    What moves in a step may let others move in the next one, so steps are taken until nothing new moves.
    """
    kernels = [model.by_name.get(layer.kernel) for layer in run.layers]
    zero = [s is not None and s.size > 0 and s.low == s.high == 0.0 for s in kernels]
    biases = [model.by_name.get(layer.bias or "") for layer in run.layers]
    moved: set[int] = set()
    moved_biases: set[int] = set()
    while True:
        before = len(moved) + len(moved_biases)
        inputs, slopes, nonzero = [], [], True
        for at, layer in enumerate(run.layers):
            inputs.append(nonzero)
            bias = biases[at]
            if (nonzero and (not zero[at] or at in moved)) or at in moved_biases:
                slope, nonzero = True, True
            else:
                z = np.zeros(1) if bias is None or layer.normalized else bias.sample.astype(np.float64)
                slope, nonzero = True, bool(z.any())
                if layer.activation is not None and layer.activation.kind == "elementwise":
                    slope = bool(layer.activation.derivative(z).any())
                    nonzero = bool(layer.activation(z).any())
            slopes.append(slope)
        gradient = True
        for at in reversed(range(len(run.layers))):
            gradient = gradient and slopes[at]
            if gradient and biases[at] is not None:
                moved_biases.add(at)
            if gradient and inputs[at] and zero[at]:
                moved.add(at)
            gradient = gradient and (not zero[at] or at in moved)
        if len(moved) + len(moved_biases) == before:
            break
    found = {}
    for at, layer in enumerate(run.layers):
        if not zero[at]:
            continue
        bias = biases[at]
        if at not in moved:
            found[at] = "and it never gets a gradient, since another kernel of zeros is above or below it"
            if sum(zero) == 1:
                found[at] = f"and it never gets a gradient, since that of {layer.activation} is 0 there"
        elif at + 1 < len(zero) and zero[at + 1] and (bias is None or bias.constant):
            found[at] = "and so is the kernel above, so all units get the same gradient and stay equal"
    return found
