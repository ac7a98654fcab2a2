"""Training the same small network from several initializers.

Two runs differ only in the initializer. Weights and the order of batches are made by fastinit, so that they
are the same in every framework; losses, accuracies and shares are computed here, in float64, from the outputs
of the network. The networks themselves are in `torch_network` and `keras_network`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import json
import math
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit._checks import check_choice, check_int, check_number
from fastinit._registry import install_hint
from fastinit._results import Result, Rows, Verdict
from fastinit._runtime import random_bits
from fastinit._suggest import did_you_mean
from fastinit._terminal import Bar, Table, counted
from fastinit.guidance.choices import default_choices, parse_choices
from fastinit.initializers import Zeros
from fastinit.theory.parse import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Protocol

    from fastinit._terminal import Progress
    from fastinit._typing import Array
    from fastinit.guidance.choices import Choice
    from fastinit.initializers import Initializer

    class Network(Protocol):
        """A network of dense layers."""

        def step(self, x: Array, y: Array) -> tuple[float, float]:
            """Makes a step of training; returns the gradient norms of the first weights and of all."""

        def outputs(self, x: Array) -> list[Array]:
            """The outputs of each hidden layer, and the logits."""


BACKENDS = ("torch", "keras")

# A unit is constant if its outputs differ by at most this fraction of the largest of them.
_CONSTANT = 1e-6


class ComparisonVerdict(Verdict):
    """How well the network learned, by the best validation accuracy.

    `LEARNED`: at least 90 %. `LEARNED_SLOWLY`: at least 50 %. `HARDLY_LEARNED`: at least 20 %.
    `DID_NOT_LEARN`: less. `DIVERGED`: the loss or a gradient was not finite, which ended training.
    """

    LEARNED = "learned"
    LEARNED_SLOWLY = "learned_slowly"
    HARDLY_LEARNED = "hardly_learned"
    DID_NOT_LEARN = "did_not_learn"
    DIVERGED = "diverged"


@dataclass(frozen=True)
class ComparisonRow(Result):
    """The training from one initializer.

    The measurements have an element for the state before training, and one for each epoch; fewer if training
    diverged.

    Attributes:
        name: The label of the initializer.
        initializer: The initializer of all weight matrices.
        bias: That of the biases of the hidden layers; those of the last layer are zero.
        train_loss: The mean cross-entropy of the training images, in nats.
        validation_loss: That of the validation images.
        validation_accuracy: The fraction of validation images that are classified correctly; 0.1 by guessing.
        gradient_norm: The Euclidean norm of the gradient of the mean loss of a batch, over all parameters: of
            the first batch, and then the mean over the batches of each epoch.
        first_gradient_norm: The same for the weights of the first layer.
        constant_units: The fraction of hidden units whose output is the same, to six digits, for all
            validation images.
        diverged: The epoch in which the loss or a gradient was not finite, which ended training; 0 if before
            the first step; `None` if training did not diverge.
        seconds: The time it took.
    """

    name: str
    initializer: Initializer
    bias: Initializer
    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    validation_accuracy: tuple[float, ...]
    gradient_norm: tuple[float, ...]
    first_gradient_norm: tuple[float, ...]
    constant_units: tuple[float, ...]
    diverged: int | None
    seconds: float = field(compare=False)

    def epochs_to(self, accuracy: float) -> int | None:
        """The first epoch after which the validation accuracy is at least this; `None` if there is none."""
        reached = (epoch for epoch, found in enumerate(self.validation_accuracy) if found >= accuracy)
        return next(reached, None)

    @property
    def verdict(self) -> ComparisonVerdict:
        """The verdict."""
        if self.diverged is not None:
            return ComparisonVerdict.DIVERGED
        best = max(self.validation_accuracy)
        if best >= 0.5:
            return ComparisonVerdict.LEARNED if best >= 0.9 else ComparisonVerdict.LEARNED_SLOWLY
        return ComparisonVerdict.HARDLY_LEARNED if best >= 0.2 else ComparisonVerdict.DID_NOT_LEARN

    @property
    def text(self) -> str:
        """The verdict in words."""
        if self.diverged == 0:
            return "not finite from the start"
        epoch = "" if self.diverged is None else f" in epoch {self.diverged}"
        return f"{self.verdict.value.replace('_', ' ')}{epoch}"

    def to_dict(self) -> dict[str, Any]:
        """All attributes by name, and the verdict, as values that `json` takes."""
        verdict = {"verdict": self.verdict.value, "text": self.text}
        return {**super().to_dict(), "epochs_to_90": self.epochs_to(0.9), **verdict}


@dataclass(frozen=True)
class Comparison(Rows[ComparisonRow]):
    """What `compare` measured. `print` shows a table, `fastinit.show` draws it.

    Attributes:
        rows: A row for each initializer; `comparison[name]` is that of a name.
        activation: The activation of the hidden layers.
        depth: The number of hidden layers.
        width: The number of units in each.
        epochs: The number of epochs.
        batch_size: The number of images in a batch.
        learning_rate: The learning rate.
        seed: The seed.
        backend: The framework: `"torch"`, or `"keras"` with its backend.
    """

    rows: tuple[ComparisonRow, ...]
    activation: str
    depth: int
    width: int
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    backend: str

    def _parts(self) -> list[str | Table]:
        """A table with a row for each initializer."""
        header = (
            "initializer",
            "final loss",
            "accuracy",
            "epochs to 90 %",
            "first gradient",
            "constant units",
            "verdict",
        )
        lines = []
        for row in self.rows:
            epochs = row.epochs_to(0.9)
            lines.append(
                (
                    row.name,
                    f"{row.train_loss[-1]:.4g}",
                    f"{row.validation_accuracy[-1]:.1%}",
                    "-" if epochs is None else str(epochs),
                    f"{row.first_gradient_norm[0]:.2e}",
                    f"{row.constant_units[-1]:.1%}",
                    row.text,
                )
            )
        return [
            f"{counted(self.depth, 'hidden layer')} of {self.width} units, {self.activation}; "
            f"{counted(self.epochs, 'epoch')} "
            f"of SGD, batches of {self.batch_size}, learning rate {self.learning_rate:g}; seed {self.seed}, "
            f"{self.backend}",
            Table(header, lines, "<>>>>><"),
            "first gradient: the norm of the gradient of the first layer's weights before the first step",
        ]


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

    The network is plain: hidden layers of equal width, an activation, ten outputs; no normalization and no
    residual connections. Biases are zero, but for those that `recommend` gives to hidden layers. It is
    trained by SGD without momentum. The images are the 1797 handwritten digits that come with scikit-learn,
    8 by 8 pixels, a fifth of them for validation.
    All runs have the same batches in the same order, and weights of the same seed and streams. The results of
    PyTorch and Keras differ by rounding. On one machine the same arguments give the same numbers.

    Args:
        initializers: One initializer or several: names, configurations, initializers of fastinit, or results
            of `recommend`, whose kernel and bias are used; a sequence of these, or a mapping of labels to
            them. Each is used for all weight matrices, of shape (inputs, outputs). `None` for the recommended
            one for this depth, Glorot's, one that is too small, one that is too large, and zeros.
        activation: The activation of the hidden layers, in any case: `"elu"`, `"gelu"`, `"leaky_relu"` (with
            the slope 0.01), `"linear"`, `"mish"`, `"relu"`, `"selu"`, `"sigmoid"`, `"silu"`, `"softplus"`,
            `"softsign"` or `"tanh"`; or an elementwise function of tensors of the framework.
        depth: The number of hidden layers; at least 1.
        width: The number of units in each of them; at least 1.
        epochs: The number of epochs; at least 1.
        batch_size: The number of images in a batch; from 1 to 1438. In each epoch the images left over after
            the last full batch are not used.
        learning_rate: The learning rate; positive and finite.
        backend: `"torch"` or `"keras"`; `None` for PyTorch if it is installed and Keras otherwise. Keras uses
            the backend that it is configured for: TensorFlow, JAX or PyTorch.
        seed: The seed of the split, of the batches, and of initializers without a seed; an int in [0, 2**64).
        progress: Whether to show the progress on standard error; `None` to show it on a terminal; or a
            function that is called after each epoch with the number of epochs done, their total, and the
            label of the initializer.

    Returns:
        The measurements, before training and after each epoch.

    Raises:
        ValueError: If a name is unknown, or a number out of range.
        TypeError: If an argument is of the wrong kind.
        ImportError: If scikit-learn is missing, or both frameworks are.
        RuntimeError: If the backend of Keras cannot train, or PyTorch and TensorFlow would be loaded into one
            process, which can crash.

    Example:
        >>> import fastinit
        >>> found = fastinit.compare(["he_normal", "zeros"], depth=4, epochs=5)
        >>> found["he_normal"].validation_accuracy[-1] > 0.9
        True
        >>> print(found["zeros"].verdict)
        did_not_learn

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010. He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level
        performance on ImageNet classification", ICCV 2015, arXiv:1502.01852. The images: Alpaydin and Kaynak,
        "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998.
    """
    depth, width = check_int("depth", depth, 1), check_int("width", width, 1)
    choices = (
        parse_choices(initializers) if initializers is not None else default_choices(activation, depth=depth)
    )
    seed = check_int("seed", seed, 0, 2**64 - 1)
    epochs = check_int("epochs", epochs, 1)
    learning_rate = check_number("learning_rate", learning_rate)
    if learning_rate <= 0.0:
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate!r}")
    framework, engine = _chosen(backend)
    title = f"loading the images and {framework}"
    with contextlib.closing(Bar(progress, len(choices) * epochs, title)) as bar:
        data = _data(seed)
        batch_size = check_int("batch_size", batch_size, 1, len(data.y))
        networks: Any = importlib.import_module(f".{framework}_network", __package__)
        function = _activation(activation, networks.ACTIVATIONS)
        sizes = [data.x.shape[1], *[width] * depth, 10]
        # Made before the first run, so that an initializer that cannot make matrices is refused at once.
        parameters = {name: _parameters(choice, sizes, seed) for name, choice in choices.items()}
        used = len(data.y) // batch_size * batch_size
        order = [
            _shuffled(len(data.y), seed, f"epoch.{epoch}")[:used].reshape(-1, batch_size)
            for epoch in range(1, epochs + 1)
        ]
        rows = []
        with _one_thread():
            for name, choice in choices.items():
                network = networks.Network(*parameters[name], function, learning_rate)
                rows.append(_run(name, choice, network, data, order, bar))
    return Comparison(
        rows=tuple(rows),
        activation=activation
        if isinstance(activation, str)
        else getattr(activation, "__name__", str(activation)),
        depth=depth,
        width=width,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        backend=framework if framework == engine else f"{framework} on {engine}",
    )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Limits PyTorch, if it is loaded, to one thread, which is faster for such small products."""
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
    """Images, scaled to a mean of 0 and a mean square of 1 over all pixels, and their classes."""

    x: Array
    y: Array
    x_validation: Array
    y_validation: Array


def _data(seed: int) -> _Data:
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        hint = install_hint("compare")
        raise ImportError(f"compare trains on images that come with scikit-learn: {hint}") from None
    images, digits = load_digits(return_X_y=True)
    order = _shuffled(len(images), seed, "split")
    held_back, kept = np.split(order, [len(images) // 5])
    mean, std = images[kept].mean(), images[kept].std()
    x, y = ((images - mean) / std).astype(np.float32), digits.astype(np.int64)
    return _Data(x[kept], y[kept], x[held_back], y[held_back])


def _shuffled(size: int, seed: int, stream: str) -> Array:
    """The ints below `size` in random order, the same on every machine."""
    return np.argsort(random_bits(size, seed=seed, stream=stream, dtype="uint64"), kind="stable")


def _parameters(choice: Choice, sizes: Sequence[int], seed: int) -> tuple[list[Array], list[Array]]:
    """The weight matrices and the biases of all layers."""

    def make(initializer: Initializer, shape: tuple[int, ...], stream: str) -> Array:
        return initializer(shape, seed=seed if initializer.seed is None else None, stream=stream)

    weights = [
        make(choice.kernel, shape, f"layers.{layer}.weight")
        for layer, shape in enumerate(itertools.pairwise(sizes))
    ]
    bias = choice.bias or Zeros()
    biases = [make(bias, (size,), f"layers.{layer}.bias") for layer, size in enumerate(sizes[1:-1])]
    return weights, [*biases, np.zeros(sizes[-1], np.float32)]


def _run(
    name: str, choice: Choice, network: Network, data: _Data, order: Sequence[Array], bar: Bar
) -> ComparisonRow:
    """Trains a network and measures it; `order` has the batches of each epoch."""
    begin = time.perf_counter()
    bar.show(f"{name}, before training")
    measured = [_measure(network, data)]
    norms = [(math.nan, math.nan)]
    diverged = None if np.isfinite(measured[0]).all() else 0
    for epoch, batches in enumerate(order, 1):
        if diverged is None:
            bar.show(f"{name}, epoch {epoch} of {len(order)}")
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
    train_loss, validation_loss, accuracy, constant = zip(*measured, strict=True)
    first_norms, all_norms = zip(*norms, strict=True)
    return ComparisonRow(
        name=name,
        initializer=choice.kernel,
        bias=choice.bias or Zeros(),
        train_loss=train_loss,
        validation_loss=validation_loss,
        validation_accuracy=accuracy,
        gradient_norm=all_norms,
        first_gradient_norm=first_norms,
        constant_units=constant,
        diverged=diverged,
        seconds=time.perf_counter() - begin,
    )


def _epoch(network: Network, data: _Data, batches: Array) -> list[tuple[float, float]]:
    """Trains on these batches while gradients are finite; returns their norms."""
    norms = []
    for batch in batches:
        norms.append(network.step(data.x[batch], data.y[batch]))
        if not np.isfinite(norms[-1]).all():
            break
    return norms


def _measure(network: Network, data: _Data) -> tuple[float, float, float, float]:
    """The losses in training and validation, the validation accuracy, and the fraction of constant units."""
    with np.errstate(all="ignore"):  # The caller checks the results.
        train_loss = _loss(network.outputs(data.x)[-1], data.y)
        *hidden, logits = network.outputs(data.x_validation)
        accuracy = float((logits.argmax(axis=1) == data.y_validation).mean())
        constant = np.concatenate([np.ptp(h, axis=0) <= _CONSTANT * abs(h).max(axis=0) for h in hidden])
        return train_loss, _loss(logits, data.y_validation), accuracy, float(constant.mean())


def _loss(logits: Array, y: Array) -> float:
    """The mean cross-entropy."""
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]).mean())


def _activation(activation: str | Callable[[Any], Any], known: Mapping[str, Callable[[Any], Any]]) -> Any:
    """The function of a framework for an activation."""
    if callable(activation):
        return activation
    if not isinstance(activation, str):
        raise TypeError(f"activation must be a name or a function, got {activation!r}")
    try:
        name = resolve(activation).name
    except ValueError:
        name = activation
    if name not in known:
        raise ValueError(
            f"activation must be one of {', '.join(known)} or a function, got {activation!r}"
            f"{did_you_mean(activation, known)}"
        )
    return known[name]


def _chosen(backend: str | None) -> tuple[str, str]:
    """The framework and its engine, which can be loaded into this process."""
    if backend is None:
        # PyTorch, if it is installed and can be loaded together with the engine that is loaded.
        installed = [name for name in BACKENDS if importlib.util.find_spec(name) is not None]
        if not installed:
            raise ImportError("compare needs PyTorch or Keras, and neither is installed: pip install torch")
        free = [name for name in installed if _conflict(_engine_of(name)) is None]
        backend = (free or installed)[0]
    else:
        check_choice("backend", backend, BACKENDS)
    engine = _engine_of(backend)
    other = _conflict(engine)
    if other is not None:
        raise RuntimeError(
            f"{other} is loaded in this process, and loading {engine}, too, can crash. Start another process"
            + (", or set KERAS_BACKEND before it starts" if backend == "keras" else "")
        )
    if engine not in ("torch", "tensorflow", "jax"):
        raise RuntimeError(
            f"Keras uses the backend {engine}, which cannot train: set KERAS_BACKEND to another"
        )
    for name in dict.fromkeys((backend, engine)):
        if importlib.util.find_spec(name) is None:
            raise ImportError(f"backend={backend!r} needs {name}: pip install {name}")
    return backend, engine


def _engine_of(backend: str) -> str:
    """The library that computes: for Keras, that of its environment variable or configuration file."""
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


def _conflict(engine: str) -> str | None:
    """The library that is loaded in this process and may crash it if `engine` is loaded, too."""
    other = {"torch": "tensorflow", "tensorflow": "torch"}.get(engine)
    return other if other in sys.modules and engine not in sys.modules else None
