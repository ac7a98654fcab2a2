"""Training the same small network from several initializers.

All that differs between two runs is the initializer. Weights and the order of the batches are made by
fastinit, so that they are the same in every framework; losses, accuracies and shares are computed here, in
float64, from what the network puts out. How a framework makes a step of training is in `_torch_network` and
`_keras_network`.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import itertools
import json
import math
import numbers
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fastinit
from fastinit._checks import check_int
from fastinit._terminal import Bar, table
from fastinit.guidance.choices import named, telling
from fastinit.guidance.recommend.recommendation import plain_initializer
from fastinit.theory.parse import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Protocol

    from fastinit._terminal import Progress
    from fastinit._typing import Array

    class Network(Protocol):
        """What is trained: dense layers with the weights that it was made with."""

        def step(self, x: Array, y: Array) -> tuple[float, float]:
            """A step of training; returns the norm of the first weights' gradient, and of all parameters'."""

        def outputs(self, x: Array) -> list[Array]:
            """What each hidden layer puts out, and the logits."""


BACKENDS = ("torch", "keras")

# A unit whose outputs differ by less than this part of the greatest of them says nothing about its input.
_DEAD = 1e-6


@dataclass(frozen=True)
class ComparisonRun:
    """What training did from one initializer.

    The measurements have an element for the state before training, and one for each epoch after it; fewer,
    where training diverged.

    Attributes:
        name: What the run is called.
        initializer: The initializer of all weight matrices.
        train_loss: The mean cross-entropy of the training images, in nats.
        validation_loss: That of the validation images.
        validation_accuracy: The share of validation images that are recognized; by guessing, 0.1.
        gradient_norm: The Euclidean norm of the gradient of the mean loss of a batch, over all parameters: of
            the first batch, and then the mean over the batches of each epoch.
        first_gradient_norm: The same for the weights of the first layer.
        dead: The share of the hidden units whose output is the same, to six digits, for all validation
            images.
        diverged: The epoch in which the loss or a gradient was no finite number any more, which ended
            training; 0 if they were none before the first step, and `None` if they always were.
        seconds: How long it took.
    """

    name: str
    initializer: fastinit.Initializer
    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    validation_accuracy: tuple[float, ...]
    gradient_norm: tuple[float, ...]
    first_gradient_norm: tuple[float, ...]
    dead: tuple[float, ...]
    diverged: int | None
    seconds: float = field(compare=False)

    def epochs_to(self, accuracy: float) -> int | None:
        """The first epoch after which so great a share of the validation images is recognized, or `None`."""
        reached = (epoch for epoch, found in enumerate(self.validation_accuracy) if found >= accuracy)
        return next(reached, None)

    @property
    def verdict(self) -> str:
        """In words: whether training diverged, and otherwise how well the network learned."""
        if self.diverged is not None:
            return f"diverged in epoch {self.diverged}" if self.diverged else "not finite from the start"
        best = max(self.validation_accuracy)
        if best >= 0.9:
            return "learned"
        return "learned slowly" if best >= 0.5 else "hardly learned" if best >= 0.2 else "did not learn"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON, with `None` for what is no finite number."""
        found = {name: _plain(value) for name, value in vars(self).items() if name != "initializer"}
        made_by = plain_initializer(self.initializer)
        return {**found, "initializer": made_by, "epochs_to_90": self.epochs_to(0.9), "verdict": self.verdict}


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. `print` shows a table, `fastinit.show` draws it.

    Attributes:
        runs: A run for each initializer.
        activation: The activation of the hidden layers.
        depth: The number of hidden layers.
        width: The number of units in each.
        epochs: The number of epochs.
        batch_size: The number of images in a batch.
        learning_rate: The learning rate.
        seed: The seed.
        backend: What trained: `"torch"`, or `"keras"` and what it runs on.
    """

    runs: tuple[ComparisonRun, ...]
    activation: str
    depth: int
    width: int
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    backend: str

    def __getitem__(self, name: str) -> ComparisonRun:
        """The run of this name."""
        for run in self.runs:
            if run.name == name:
                return run
        raise KeyError(name)

    def __str__(self) -> str:
        """A table with a row for each run."""
        header = (
            "initializer",
            "final loss",
            "accuracy",
            "epochs to 90 %",
            "first gradient",
            "dead units",
            "verdict",
        )
        rows = []
        for run in self.runs:
            epochs = run.epochs_to(0.9)
            rows.append(
                (
                    run.name,
                    f"{run.train_loss[-1]:.4g}",
                    f"{run.validation_accuracy[-1]:.1%}",
                    "-" if epochs is None else str(epochs),
                    f"{run.first_gradient_norm[0]:.2e}",
                    f"{run.dead[-1]:.1%}",
                    run.verdict,
                )
            )
        return (
            f"{self.depth} hidden layers of {self.width} units, {self.activation}; {self.epochs} epochs "
            f"of SGD, batches of {self.batch_size}, learning rate {self.learning_rate:g}; seed {self.seed}, "
            f"{self.backend}\n"
            f"{table(header, rows, '<>>>>><')}\n"
            "first gradient: the norm of the gradient of the first layer's weights before the first step"
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON, with `None` for what is no finite number."""
        return {**vars(self), "runs": [run.to_dict() for run in self.runs]}


def compare(
    initializers: Any = None,
    *,
    activation: str | Callable[[Any], Any] = "relu",
    depth: int = 10,
    width: int = 64,
    epochs: int = 20,
    batch_size: int = 32,
    learning_rate: float = 0.02,
    backend: str | None = None,
    seed: int = 0,
    progress: Progress = None,
) -> Comparison:
    """Trains the same network on the same images from several initializers.

    The network is plain: hidden layers of equal width, an activation, ten outputs; no normalization, no
    shortcuts, no momentum, zero biases. The images are the 1797 handwritten digits that come with
    scikit-learn, 8 by 8 pixels, of which a fifth is held back for validation. All runs see the same batches
    in the same order, and weights are made with the same seed and streams, on PyTorch and on Keras alike;
    where both train, they differ by rounding. On one machine the same arguments give the same numbers.

    Args:
        initializers: Names, configurations or objects of initializers, or answers of `recommend`, of which
            the kernel counts; one or several, or a mapping of labels to them. Each is used for all weight
            matrices, of shape (inputs, outputs), of its run. `None` for what is recommended, Glorot's, one
            that is too small, one that is too large, and zeros.
        activation: The activation of the hidden layers, in any case: `"elu"`, `"gelu"`, `"leaky_relu"` (with
            the slope 0.01), `"linear"`, `"mish"`, `"relu"`, `"selu"`, `"sigmoid"`, `"silu"`, `"softplus"`,
            `"softsign"` or `"tanh"`; or a function of tensors of the framework, element by element.
        depth: The number of hidden layers; at least 1.
        width: The number of units in each of them; at least 1.
        epochs: How many times each image is seen; at least 1.
        batch_size: How many images make a step; from 1 to 1438. Images that are left at the end of an epoch
            are not used in it.
        learning_rate: The learning rate; positive and finite.
        backend: `"torch"` or `"keras"`; `None` for PyTorch if it is installed and Keras otherwise. Keras runs
            on what it is configured for: TensorFlow, JAX or PyTorch.
        seed: The seed of the split, of the batches, and of the initializers that have none themselves; an int
            in [0, 2**64).
        progress: Whether to show a bar on standard error; `None` if that is a terminal; or a function that is
            called after each epoch with what is done, with the total, and with the name of the run.

    Returns:
        What was measured, before training and after each epoch.

    Raises:
        ValueError: If a name is unknown, or a number out of range.
        TypeError: If an argument is of the wrong kind.
        ImportError: If scikit-learn is missing, or there is no framework.
        RuntimeError: If Keras runs on something that cannot train, or TensorFlow would be loaded into a
            process that has PyTorch in it or the other way round, which can crash.

    Example:
        >>> import fastinit
        >>> found = fastinit.compare(["he_normal", "zeros"], depth=4, epochs=5)
        >>> found["he_normal"].validation_accuracy[-1] > 0.9
        True
        >>> found["zeros"].verdict
        'did not learn'

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010. He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level
        performance on ImageNet classification", ICCV 2015, arXiv:1502.01852. The images: Alpaydin and Kaynak,
        "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998.
    """
    choices = telling(activation) if initializers is None else named(initializers)
    given = {name: choice.kernel for name, choice in choices.items()}
    seed = check_int("seed", seed, 0, 2**64 - 1)
    depth, width, epochs = (
        check_int("depth", depth, 1),
        check_int("width", width, 1),
        check_int("epochs", epochs, 1),
    )
    if isinstance(learning_rate, bool) or not isinstance(learning_rate, numbers.Real):
        raise TypeError(f"learning_rate must be a number; got {learning_rate!r}")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be positive and finite; got {learning_rate!r}")
    data = _data(seed)
    batch_size = check_int("batch_size", batch_size, 1, len(data.y))
    framework, engine = _chosen(backend)
    networks = _networks(framework)
    function = _activation(activation, networks.ACTIVATIONS)
    sizes = [data.x.shape[1], *[width] * depth, 10]
    # All of them before the first run, so that an initializer that makes no matrices is found at once.
    weights = {name: _weights(initializer, sizes, seed) for name, initializer in given.items()}
    used = len(data.y) // batch_size * batch_size
    order = [
        _shuffled(len(data.y), seed, f"epoch.{epoch}")[:used].reshape(-1, batch_size)
        for epoch in range(1, epochs + 1)
    ]
    runs = []
    bar = Bar(progress, len(given) * epochs)
    try:
        with _one_thread():
            for name, initializer in given.items():
                network = networks.Network(weights[name], function, learning_rate)
                runs.append(_run(name, initializer, network, data, order, bar))
    finally:
        bar.close()
    return Comparison(
        runs=tuple(runs),
        activation=_title(activation),
        depth=depth,
        width=width,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=float(learning_rate),
        seed=seed,
        backend=framework if framework == engine else f"{framework} on {engine}",
    )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Has PyTorch, if it is there, compute in one thread: in products so small, others are in the way."""
    torch: Any = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 0
    try:
        if torch:
            torch.set_num_threads(1)
        yield
    finally:
        if torch:
            torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Data:
    """Images, scaled to a mean of 0 and a mean square of 1 over all pixels, and what they show."""

    x: Array
    y: Array
    x_validation: Array
    y_validation: Array


def _data(seed: int) -> _Data:
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise ImportError(
            'compare trains on images that come with scikit-learn: pip install "fastinit[compare]"'
        ) from None
    images, digits = load_digits(return_X_y=True)
    order = _shuffled(len(images), seed, "split")
    held_back, kept = np.split(order, [len(images) // 5])
    mean, std = images[kept].mean(), images[kept].std()
    x, y = ((images - mean) / std).astype(np.float32), digits.astype(np.int64)
    return _Data(x[kept], y[kept], x[held_back], y[held_back])


def _shuffled(size: int, seed: int, stream: str) -> Array:
    """The numbers below `size` in random order, the same on every machine."""
    return np.argsort(fastinit.random_bits(size, seed=seed, stream=stream, dtype="uint64"), kind="stable")


def _weights(initializer: fastinit.Initializer, sizes: Sequence[int], seed: int) -> list[Array]:
    """The weight matrices of all layers."""
    own = initializer.seed is not None
    return [
        initializer(shape, seed=None if own else seed, stream=f"layers.{layer}.weight")
        for layer, shape in enumerate(itertools.pairwise(sizes))
    ]


def _run(
    name: str,
    initializer: fastinit.Initializer,
    network: Network,
    data: _Data,
    order: Sequence[Array],
    bar: Bar,
) -> ComparisonRun:
    """Trains a network on batches in this order, an array of them for each epoch, and measures it."""
    begin = time.perf_counter()
    measured = [_measure(network, data)]
    norms = [(math.nan, math.nan)]
    diverged = None if np.isfinite(measured[0]).all() else 0
    for epoch, batches in enumerate(order, 1):
        if diverged is None:
            steps = _epoch(network, data, batches)
            if epoch == 1:
                norms = steps[:1]
            found = _measure(network, data)
            if np.isfinite(steps).all() and np.isfinite(found).all():
                measured.append(found)
                first, total = np.mean(steps, axis=0).tolist()
                norms.append((first, total))
            else:
                diverged = epoch
        bar.add(1, name)
    train_loss, validation_loss, accuracy, dead = zip(*measured, strict=True)
    first_norms, all_norms = zip(*norms, strict=True)
    return ComparisonRun(
        name=name,
        initializer=initializer,
        train_loss=train_loss,
        validation_loss=validation_loss,
        validation_accuracy=accuracy,
        gradient_norm=all_norms,
        first_gradient_norm=first_norms,
        dead=dead,
        diverged=diverged,
        seconds=time.perf_counter() - begin,
    )


def _epoch(network: Network, data: _Data, batches: Array) -> list[tuple[float, float]]:
    """Trains on these batches, as long as gradients are finite; returns their norms."""
    norms = []
    for batch in batches:
        norms.append(network.step(data.x[batch], data.y[batch]))
        if not np.isfinite(norms[-1]).all():
            break
    return norms


def _measure(network: Network, data: _Data) -> tuple[float, float, float, float]:
    """The losses in training and validation, the accuracy in validation, and the share of dead units."""
    with np.errstate(all="ignore"):  # The caller looks at what comes out.
        train_loss = _loss(network.outputs(data.x)[-1], data.y)
        *hidden, logits = network.outputs(data.x_validation)
        accuracy = float((logits.argmax(axis=1) == data.y_validation).mean())
        dead = np.concatenate([np.ptp(h, axis=0) <= _DEAD * abs(h).max(axis=0) for h in hidden])
        return train_loss, _loss(logits, data.y_validation), accuracy, float(dead.mean())


def _loss(logits: Array, y: Array) -> float:
    """The mean cross-entropy."""
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]).mean())


def _activation(activation: str | Callable[[Any], Any], known: Mapping[str, Callable[[Any], Any]]) -> Any:
    """The function of a framework that is meant."""
    if callable(activation):
        return activation
    if not isinstance(activation, str):
        raise TypeError(f"activation must be a name or a function; got {activation!r}")
    try:
        name = resolve(activation).name
    except ValueError:
        name = activation
    if name not in known:
        near = difflib.get_close_matches(activation, known, 3, 0.0)
        raise ValueError(
            f"unknown activation {activation!r}; the nearest that are known: {', '.join(near)}. "
            "Any other may be given as a function"
        )
    return known[name]


def _title(activation: str | Callable[[Any], Any]) -> str:
    if isinstance(activation, str):
        return activation
    return str(getattr(activation, "__name__", type(activation).__name__))


def _plain(value: Any) -> Any:
    """A number, or several, with `None` for those that JSON does not know."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _networks(framework: str) -> Any:
    """The module of a framework."""
    if framework == "torch":
        from . import torch_network as _torch_network

        return _torch_network
    from . import keras_network as _keras_network

    return _keras_network


def _chosen(backend: str | None) -> tuple[str, str]:
    """The framework, and what it computes with, that can be loaded here."""
    if backend is None:
        # PyTorch, if it is there and can be loaded beside what is loaded.
        there = [name for name in BACKENDS if importlib.util.find_spec(name) is not None]
        if not there:
            raise ImportError("compare trains with PyTorch or Keras, and neither is there: pip install torch")
        free = [name for name in there if _in_the_way(_engine_of(name)) is None]
        backend = (free or there)[0]
    elif backend not in BACKENDS:
        near = difflib.get_close_matches(str(backend), BACKENDS, 1, 0.0)
        raise ValueError(f"backend must be 'torch' or 'keras'; got {backend!r}: did you mean {near[0]!r}?")
    engine = _engine_of(backend)
    other = _in_the_way(engine)
    if other is not None:
        raise RuntimeError(
            f"{other} is loaded in this process, and {engine} beside it can crash. Start another process"
            + (", or set KERAS_BACKEND before it starts" if backend == "keras" else "")
        )
    if engine not in ("torch", "tensorflow", "jax"):
        raise RuntimeError(f"Keras runs on {engine}, which does not train: set KERAS_BACKEND to another")
    for name in dict.fromkeys((backend, engine)):
        if importlib.util.find_spec(name) is None:
            raise ImportError(f"backend={backend!r} needs {name}: pip install {name}")
    return backend, engine


def _engine_of(backend: str) -> str:
    """What computes: Keras has that from its environment, or its configuration."""
    if backend == "torch":
        return "torch"
    if "keras" in sys.modules:
        return str(sys.modules["keras"].config.backend())
    if "KERAS_BACKEND" in os.environ:
        return os.environ["KERAS_BACKEND"]
    file = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "keras.json"
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"


def _in_the_way(engine: str) -> str | None:
    """What is loaded in this process, and does not bear `engine` beside it."""
    other = {"torch": "tensorflow", "tensorflow": "torch"}.get(engine)
    return other if other in sys.modules and engine not in sys.modules else None
