"""The callback of a `TraceLog` for the trainer of Lightning, under either name of that library."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .log import TraceLog

_NAME = next((name for name in ("lightning", "pytorch_lightning") if importlib.util.find_spec(name)), None)
if _NAME is None:
    raise ImportError("neither lightning nor pytorch_lightning is installed")
_Callback: Any = importlib.import_module(f"{_NAME}.pytorch" if _NAME == "lightning" else _NAME).Callback


class TraceCallback(_Callback):  # type: ignore[misc]
    """Traces the module at the start of training, and after each step of the optimizer when it is time."""

    def __init__(self, log: TraceLog) -> None:
        super().__init__()
        self._traces = log  # Lightning sets `log` of callbacks.
        self.done = -1

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Traces the module before the first step."""
        self._trace(trainer, pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
        """Traces the module if the optimizer has made a step."""
        self._trace(trainer, pl_module)

    def _trace(self, trainer: Any, module: Any) -> None:
        step = trainer.global_step
        # Where gradients are accumulated, several batches make a step.
        if trainer.is_global_zero and step != self.done:
            self.done = step
            self._traces(module, step)
