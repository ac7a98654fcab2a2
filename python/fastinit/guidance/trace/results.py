"""What `trace` returns, as objects, as plain values and as text."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastinit._results import Result, Rows, Verdict, as_text, plain
from fastinit._terminal import Table, counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastinit.guidance.repair import Repair

# More rows are not printed: the first, the last, and those that something is wrong with are.
_PRINTED = 40


class TraceVerdict(Verdict):
    """What is wrong with a network.

    Attributes:
        GOOD: Nothing was found.
        NOT_FINITE: An activation or a gradient is NaN or infinite.
        VANISHES, EXPLODES: Activations, or gradients, become a thousand times smaller or larger from a layer
            on, up to the end of the network, or its beginning; or the standard deviation of the output is
            above 10 and above ten times that of the input.
        CONSTANT_UNITS: All units from a layer on, or more than nine tenths of those of an activation, have
            the same output for all samples.
        SATURATES: An activation is saturated for more than half of its inputs.
        SAMPLES_ALIKE: From a layer on, the outputs for different samples are the same, to a thousandth.
    """

    GOOD = "good"
    NOT_FINITE = "not_finite"
    VANISHES = "vanishes"
    EXPLODES = "explodes"
    CONSTANT_UNITS = "constant_units"
    SATURATES = "saturates"
    SAMPLES_ALIKE = "samples_alike"


@dataclass(frozen=True)
class TraceProblem(Result):
    """Something that is wrong, and the layer where it begins.

    Attributes:
        verdict: What it is.
        layer: The name of the row where it begins: in the order of execution, for gradients in the reverse.
        backward: Whether it is about gradients.
        message: What was measured, with numbers.
    """

    verdict: TraceVerdict
    layer: str
    backward: bool
    message: str


@dataclass(frozen=True)
class TraceRow(Result):
    """One call of a layer. What cannot be measured is `None`; what is not finite is NaN.

    Attributes:
        name: The name of the layer; of the second call and later ones with the number, as in `"act (2)"`.
        type: The name of its class; in a JAX function, of the activation, or of the operation on an array.
        activation: The activation that it is, or ends with, as in `fastinit.gain`; `None` for no known one.
        shape: The shape of its output; of its first floating-point tensor, if there are several.
        mean, std: Of the elements of the output.
        gradient_std: The standard deviation of the gradient of the loss with respect to the output.
        constant_units: The share of units whose output is the same, to six digits, in all samples and places.
        no_gradient: The share of units whose gradient is zero in all samples and places.
        saturated: The share of the inputs of the activation at which it is saturated: nearly flat, but not
            inactive, as ReLU is below 0. `None` for one that does not saturate.
        sample_distance: How different the outputs for different samples are: their standard deviation over
            the samples, relative to their root mean square; 0 where the output does not depend on the input.
            `None` if the first axis is not that of the samples.
        parameters: The number of elements of its own parameters.
        weight_norm: The Euclidean norm of its own trainable parameters together.
        weight_gradient_norm: That of the gradient with respect to them.
        learning_rate: The learning rate for `update_ratio`.
    """

    name: str
    type: str
    activation: str | None
    shape: tuple[int, ...]
    mean: float
    std: float
    gradient_std: float | None
    constant_units: float | None
    no_gradient: float | None
    saturated: float | None
    sample_distance: float | None
    parameters: int
    weight_norm: float | None
    weight_gradient_norm: float | None
    learning_rate: float

    @property
    def update_ratio(self) -> float | None:
        """The norm of a step of plain gradient descent, relative to that of the parameters.

        About 1e-3 is usual. It is infinite where all parameters are 0, and `None` without a gradient.
        """
        if self.weight_norm is None or self.weight_gradient_norm is None:
            return None
        step = self.learning_rate * self.weight_gradient_norm
        if self.weight_norm == 0.0:
            return math.inf if step else 0.0
        return step / self.weight_norm

    def to_dict(self) -> dict[str, Any]:
        """All attributes by name, and the update ratio, as values that `json` takes."""
        return {**super().to_dict(), "update_ratio": plain(self.update_ratio)}

    def _cells(self) -> tuple[str, ...]:
        return (
            self.name,
            self.type,
            " x ".join(map(str, self.shape)) or "()",
            _cell(self.std, ".3g"),
            _cell(self.gradient_std, ".2e"),
            _cell(self.constant_units, ".0%"),
            _cell(self.saturated, ".0%"),
            _cell(self.sample_distance, ".2g"),
            _cell(self.update_ratio, ".1e"),
        )


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


_HEADER = ("layer", "type", "output", "std", "gradient", "constant", "saturated", "distance", "update")


@dataclass(frozen=True)
class Trace(Rows[TraceRow]):
    """What `trace` measured. `print` shows a table, `fastinit.show` draws it.

    Attributes:
        rows: A row for each call of a layer, in the order of execution; `trace[name]` is that of a name.
        problems: What is wrong, the layers nearest to the input first.
        model: The name of the class of the model, or of the function.
        framework: `"torch"`, `"jax"`, or `"keras"` with its backend, as in `"keras on jax"`.
        samples: The number of samples in the batch.
        input_std: The standard deviation of the first floating-point input; `None` if there is none.
        loss: The loss; `None` where no gradient was taken.
        learning_rate: The learning rate that the update ratios are for.
        seed: The seed.
        unused: The names of trainable parameters that the loss does not depend on.
    """

    rows: tuple[TraceRow, ...]
    problems: tuple[TraceProblem, ...]
    model: str
    framework: str
    samples: int
    input_std: float | None
    loss: float | None
    learning_rate: float
    seed: int
    unused: tuple[str, ...] = ()
    _repair: Callable[[int], Repair] | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_repair": None}  # It refers to the model.

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def verdict(self) -> TraceVerdict:
        """What is wrong at the first layer where something is."""
        return self.problems[0].verdict if self.problems else TraceVerdict.GOOD

    @property
    def first(self) -> str | None:
        """The name of the first layer where something goes wrong; `None` if nothing does."""
        return self.problems[0].layer if self.problems else None

    @property
    def text(self) -> str:
        """What is wrong in words, with numbers."""
        return "\n".join(f"{one.verdict}: {one.message}" for one in self.problems) or "good"

    def fix(self, seed: int = 0) -> Repair:
        """The rules that repair what was found, as `fastinit.lsuv` makes them; the model stays as it is.

        Args:
            seed: The seed of the new weights, an int in [0, 2**64).

        Returns:
            The rules, and what a trace with them still finds. Empty where nothing is wrong.

        Raises:
            ValueError: If the model, or a layer of it, has changed so that the batch does not fit any more.
            TypeError: If the model is a function of JAX, or the trace has been copied or pickled.
        """
        from fastinit.guidance.repair import Repair

        if self.ok:
            return Repair(self.framework, seed, (), {}, ())
        if self._repair is None:
            raise TypeError(
                "a trace of a function of JAX, or one that was copied, has no model to make rules for"
            )
        return self._repair(seed)

    def to_dict(self) -> dict[str, Any]:
        """All attributes by name, `ok`, the verdict and the text, as values that `json` takes."""
        return {"ok": self.ok, "verdict": self.verdict.value, "text": self.text, **super().to_dict()}

    def to_text(self, *, full: bool = False) -> str:
        """What `print` shows: what is wrong, and a table of layers.

        Args:
            full: Whether to show all rows; otherwise of more than 40 the first, the last and the bad ones.
        """
        return as_text(self._shown(full=full))

    def _parts(self) -> list[str | Table]:
        return self._shown(full=False)

    def _shown(self, *, full: bool) -> list[str | Table]:
        samples = counted(self.samples, "sample")
        loss = "forward only" if self.loss is None else f"loss {self.loss:.4g}"
        lines = [f"{self.model} ({self.framework}), {samples}, {loss}", *self.text.split("\n")]
        if self.unused:
            lines.append(f"the loss does not depend on: {', '.join(self.unused)}")
        bad = {problem.layer for problem in self.problems}
        full = full or len(self.rows) <= _PRINTED
        half, hidden = _PRINTED // 2, 0
        cells: list[tuple[str, ...]] = []
        for at, row in enumerate(self.rows):
            if full or not half <= at < len(self.rows) - half or row.name in bad:
                if hidden:
                    cells.append((f"... {hidden} more", *[""] * (len(_HEADER) - 1)))
                    hidden = 0
                cells.append(row._cells())
            else:
                hidden += 1
        # What was measured of no layer has no column.
        used = [i for i in range(len(_HEADER)) if any(line[i] for line in cells)]
        rows = [[line[i] for i in used] for line in cells]
        header, align = ([text[i] for i in used] for text in (_HEADER, "<<<>>>>>>"))
        return [*lines, "", Table(header, rows, "".join(align))]
