"""The callback of a `TraceLog` for `fit` of Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from .log import TraceLog


class TraceCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Traces the model at the start of `fit`, and after each batch when it is time."""

    def __init__(self, log: TraceLog) -> None:
        super().__init__()
        self.log = log
        self.step = 0

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it by name
        """Traces the model before the first step."""
        if self.step == 0:
            self.log(self.model, 0)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Counts the steps, of all calls of `fit`."""
        self.step += 1
        if self.step % self.log.every == 0:  # With JAX, `self.model` copies the state.
            self.log(self.model, self.step)
