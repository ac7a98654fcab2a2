"""The callback of a `TraceLog` for the trainer of Lightning, under either name of that library."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .log import TraceLog


def callback(log: TraceLog) -> Any:
    """A callback that traces the module before training, and after each step of the optimizer that is due.

    Raises:
        ImportError: If neither `lightning` nor `pytorch_lightning` is installed.
    """
    name = next((name for name in ("lightning", "pytorch_lightning") if importlib.util.find_spec(name)), None)
    if name is None:
        raise ImportError("neither lightning nor pytorch_lightning is installed")
    base: Any = importlib.import_module("lightning.pytorch" if name == "lightning" else name).Callback

    class TraceCallback(base):  # type: ignore[misc]
        done = -1

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            trace(self, trainer, pl_module)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
            trace(self, trainer, pl_module)

    def trace(self: Any, trainer: Any, module: Any) -> None:
        step = trainer.global_step
        # Where gradients are accumulated, several batches make a step.
        if trainer.is_global_zero and step != self.done:
            self.done = step
            log(module, step)

    return TraceCallback()
