"""Traces of a network while it trains: for loops of one's own, for `fit` of Keras, and for Lightning."""

from __future__ import annotations

import inspect
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastinit._checks import check_int
from fastinit._files import check_output
from fastinit._suggest import did_you_mean

from . import trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from .results import Trace

_SCALARS = ("std", "gradient_std", "constant_units", "saturated", "sample_distance", "update_ratio")


class TraceLog:
    """Traces a network at step 0 and then every so many steps, always with the same batch.

    Training is not affected: a trace changes nothing in the network. In a loop, call it with the model
    and the step. With `fit` of Keras, pass `log.keras()` as a callback; with Lightning, `log.lightning()`,
    which traces on the process of rank 0 only.

    Args:
        batch: The input, as in `fastinit.trace`.
        every: The number of steps from one trace to the next; at least 1.
        to: Where traces go: the path of a file, to which each trace is appended as a line of JSON with its
            step; a writer with the method `add_scalar`, as the `SummaryWriter` of TensorBoard, which gets
            numbers such as `trace/gradient_std/layers.0`, and what is wrong as text; a function, which is
            called with the step and the trace; or `None` to print the trace.
        options: The other arguments of `fastinit.trace`, such as `loss` and `target`.

    Attributes:
        last: The last trace; `None` before the first.

    Raises:
        ValueError: If `every` is out of range.
        TypeError: If `to` is of the wrong kind, or an option unknown.
        FileNotFoundError: If the folder of the file does not exist.

    Example:
        >>> import fastinit, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> steps = []
        >>> log = fastinit.TraceLog(torch.randn(16, 8), every=10, to=lambda step, found: steps.append(step))
        >>> for step in range(25):
        ...     found = log(model, step)
        ...     loss = model(torch.randn(4, 8)).square().mean()
        ...     loss.backward()
        ...     optimizer.step()
        >>> steps, log.last.ok
        ([0, 10, 20], True)
    """

    def __init__(self, batch: Any, *, every: int = 1000, to: Any = None, **options: Any) -> None:
        self.batch = batch
        self.every = check_int("every", every, 1)
        self.last: Trace | None = None
        known = list(inspect.signature(trace).parameters)[2:]  # without the model and the batch
        for name in options:
            if name not in known:
                raise TypeError(
                    f"TraceLog has no option {name!r}"
                    + (did_you_mean(name, known) or f"; it must be one of {', '.join(known)}")
                )
        self._options = options
        self._write = _writer(to)

    def __call__(self, model: Any, step: int) -> Trace | None:
        """Traces the model if it is time, and returns the trace."""
        if check_int("step", step, 0) % self.every:
            return None
        self.last = trace(model, self.batch, **self._options)
        self._write(step, self.last)
        return self.last

    def keras(self) -> Any:
        """A callback for `fit` of Keras."""
        from .keras_callback import TraceCallback

        return TraceCallback(self)

    def lightning(self) -> Any:
        """A callback for the trainer of Lightning, whose steps are those of the optimizer.

        Raises:
            ImportError: If neither `lightning` nor `pytorch_lightning` is installed.
        """
        from .lightning_callback import callback

        return callback(self)


def _writer(to: Any) -> Callable[[int, Trace], object]:
    if to is None:
        return lambda step, found: print(f"step {step}: {found}\n")
    if isinstance(to, (str, os.PathLike)):
        file = Path(to)
        check_output(file)
        if not file.parent.is_dir():
            raise FileNotFoundError(f"the folder {str(file.parent)!r} of {file.name!r} does not exist")

        def append(step: int, found: Trace) -> None:
            with file.open("a", encoding="utf-8") as opened:
                opened.write(json.dumps({"step": step, **found.to_dict()}) + "\n")

        return append
    if hasattr(to, "add_scalar"):

        def add(step: int, found: Trace) -> None:
            for row in found.rows:
                for name in _SCALARS:
                    value = getattr(row, name)
                    if value is not None and math.isfinite(value):
                        to.add_scalar(f"trace/{name}/{row.name}", value, step)
            if hasattr(to, "add_text"):
                to.add_text("trace", found.text, step)

        return add
    if callable(to):
        return lambda step, found: to(step, found)
    raise TypeError(f"to must be a path, a writer with add_scalar, a function or None, got {to!r:.80}")
