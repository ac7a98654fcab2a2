"""Pictures of initializers, arrays, signals, comparisons and traces.

`show` needs matplotlib, which is imported when it is called; `pictures` draws with it.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit._checks import check_choice
from fastinit._files import check_output
from fastinit._registry import install_hint
from fastinit.guidance.choices import by_label, initializer, label
from fastinit.guidance.compare import Comparison
from fastinit.guidance.signal import Signal
from fastinit.guidance.trace import Trace
from fastinit.initializers import Initializer, RandomNormal, RandomUniform, TruncatedNormal, VarianceScaling
from fastinit.theory.distributions import Distribution, marchenko_pastur, normal

from .singular import matrices, singular_values_of, sizes_of

if TYPE_CHECKING:
    import os

    from matplotlib.figure import Figure

    from fastinit._typing import Array, Seed, Shape

SUFFIXES = (".png", ".svg")

# More independent elements do not make a histogram more informative.
_ENOUGH = 2**22
_MOST_PANELS = 24
# The square of a larger number may overflow.
_GREATEST = 1e150


@dataclass(frozen=True)
class Panel:
    """A sample and the distribution that it is compared with.

    Attributes:
        name: The title.
        notes: Lines below the title.
        values: The sample; float64, one-dimensional, finite.
        distribution: The distribution.
        line: The name of the distribution in the legend.
        slack: The distance from an atom of the distribution within which a value counts as equal to it.
    """

    name: str
    notes: tuple[str, ...]
    values: Array
    distribution: Distribution
    line: str
    slack: float = 0.0

    def is_at(self, atom: float, values: Array) -> Array:
        """Which values equal the atom, up to rounding to float32 and the slack."""
        return abs(values - atom) <= 1e-6 * abs(atom) + self.slack


def show(
    x: Any,
    shape: Shape = (256, 512),
    *,
    kind: str | None = None,
    seed: Seed = 0,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draws initializers, arrays, a signal, a comparison or a trace.

    An initializer is drawn as the histogram of a sample over the exact density, or the singular values of the
    sample over their limiting distribution for large matrices. An array is drawn in the same way, over the
    normal density, or the Marchenko-Pastur distribution, of the same mean and standard deviation. Several of
    them stand side by side on the same axes, or, where their widths or heights differ by more than a factor
    of 10, each on its own. The result of `fastinit.signal` is drawn as curves over the layers, that of
    `fastinit.compare` as curves over the epochs, that of `fastinit.trace` as curves over the layers in the
    order of execution.

    Atoms, which are values of positive probability such as the zeros of `Sparse` or the singular values of an
    orthogonal matrix, are drawn as stems; the height of the axes stands for a probability of about 1.

    Args:
        x: One of

            * an initializer: a name, a configuration or an object;
            * an array of at least one dimension, of NumPy or any framework;
            * a sequence of these, or a mapping of labels to them, at most 24;
            * a `Signal`, a `Comparison` or a `Trace`.
        shape: The shape of the tensors that initializers make.
        kind: What to draw of initializers and arrays: `"histogram"` (also `None`) or `"singular_values"`. A
            tensor of more than two dimensions is reshaped to a matrix with the last axis as its columns; the
            tensors of `Orthogonal`, by its axis and blocks. Ctrl-C waits for NumPy to decompose a matrix.
        seed: The seed of initializers without one: an int in [0, 2**64), or a `numpy.random.SeedSequence`.
        path: A file to save the picture to, with the suffix `.png` or `.svg`. Equal pictures make equal
            files.

    Returns:
        A figure of matplotlib, on a white background, that a notebook displays. It does not belong to pyplot,
        and need not be closed.

    Raises:
        ValueError: If the kind, the name of an initializer or the suffix of `path` is unknown, `path` is
            something else than a regular file, the shape or the array does not fit, or there are more than
            24 of them.
        TypeError: If something cannot be drawn.
        FileNotFoundError: If the folder of `path` does not exist.
        ImportError: If matplotlib is missing.

    Example:
        >>> import fastinit
        >>> figure = fastinit.show(["he_normal", "glorot_uniform"], (256, 512))
        >>> [axes.get_xlabel() for axes in figure.axes]
        ['weight value', 'weight value']
        >>> figure = fastinit.show("lecun_normal", (400, 100), kind="singular_values")
        >>> figure.get_suptitle()
        'Singular values of weights of shape 400 x 100'

    References:
        Marchenko and Pastur, "Distribution of eigenvalues for some sets of random matrices", Mathematics of
        the USSR-Sbornik 1, 1967. Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of
        learning in deep linear neural networks", ICLR 2014, arXiv:1312.6120.
    """
    if kind is not None:
        check_choice("kind", kind, _KINDS)
    file = None if path is None else check_path(path)
    if kind is not None and isinstance(x, (Signal, Comparison, Trace)):
        raise ValueError(
            f"kind is for initializers and arrays, and a {type(x).__name__} is drawn as curves, got {kind!r}"
        )
    pictures = _pictures()
    figure: Figure
    if isinstance(x, Comparison):
        figure = pictures.comparison(x)
    elif isinstance(x, Signal):
        figure = pictures.signal(x)
    elif isinstance(x, Trace):
        figure = pictures.trace(x)
    else:
        sizes = sizes_of(shape)
        things = _things(x)
        make, title, axis = _KINDS[kind or "histogram"]
        if any(isinstance(thing, Initializer) for thing in things.values()):
            title += f" of shape {_times(sizes)}"
        panels = [make(name, thing, sizes, seed) for name, thing in things.items()]
        figure = pictures.distributions(panels, title, axis)
    if file is not None:
        pictures.save(figure, file)
    return figure


def _pictures() -> Any:
    try:
        from . import pictures
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ImportError(f"pictures need matplotlib: {install_hint('plot')}") from None
    return pictures


def check_path(path: str | os.PathLike[str]) -> Path:
    """The path of a picture. Raises what `show` raises if no picture can be saved there."""
    file = Path(path)
    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"path must have the suffix {' or '.join(SUFFIXES)}, got {str(file)!r}")
    if not file.parent.is_dir():
        raise FileNotFoundError(
            f"the folder {str(file.parent)!r} of the picture {file.name!r} does not exist"
        )
    check_output(file)
    _pictures()
    return file


def _things(x: Any) -> dict[str, Any]:
    """Initializers and arrays of NumPy, by label."""
    numbers = map(" {}".format, itertools.count(1)) if isinstance(x, Sequence) else itertools.repeat("")

    def name_of(thing: Any) -> str:
        return f"array{next(numbers)}" if isinstance(thing, np.ndarray) else label(thing)

    found = by_label(x, _thing, name_of)
    if not 0 < len(found) <= _MOST_PANELS:
        raise ValueError(f"a picture shows 1 to {_MOST_PANELS} initializers or arrays, got {len(found)}")
    return found


def _thing(given: Any) -> Any:
    """An initializer, or an array of float64."""
    if isinstance(given, (str, dict, type, Initializer)):
        return initializer(given)
    torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
    if torch is not None and isinstance(given, torch.Tensor):
        if given.is_meta:
            raise ValueError(
                f"a tensor on the meta device, of shape {tuple(given.shape)}, has no elements to draw"
            )
        given = given.detach().cpu()
        given = given.double() if given.is_floating_point() else given  # NumPy has no bfloat16.
    elif keras is not None and isinstance(given, keras.Variable):
        given = keras.ops.convert_to_numpy(given.value)
    if not hasattr(given, "__array__"):
        raise TypeError(
            "show draws initializers, arrays, signals, comparisons and traces, got "
            f"{type(given).__name__}: {given!r:.80}"
        )
    array = np.asarray(given)
    try:
        if np.iscomplexobj(array):
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"an array must have real numbers, got the dtype {array.dtype}") from None
    if array.size == 0 or not np.isfinite(array).any():
        raise ValueError(f"an array of shape {array.shape} has no finite elements to draw")
    greatest = float(np.abs(array[np.isfinite(array)]).max())
    if greatest > _GREATEST:
        raise ValueError(
            f"the elements of an array must be at most {_GREATEST:g} in absolute value, got {greatest:g}"
        )
    return array


def _histogram(name: str, thing: Any, sizes: tuple[int, ...], seed: Seed) -> Panel:
    """The elements of a tensor."""
    if isinstance(thing, np.ndarray):
        values = thing[np.isfinite(thing)]
        lost = thing.size - values.size
        notes = [_times(thing.shape), f"mean {values.mean():.3g}, std {values.std():.4g}"]
        if lost:
            notes.append(f"{lost:,} of {thing.size:,} not finite")
        expected = normal(float(values.mean()), _spread(values))
        return Panel(name, tuple(notes), values, expected, "normal density of the same mean and std")
    expected = thing.check(sizes)
    # The elements of these are independent and identically distributed, so that a part suffices.
    has_one_block = thing.blocks == 1
    is_independent = isinstance(thing, (RandomUniform, RandomNormal, TruncatedNormal, VarianceScaling))
    part: tuple[slice, ...] | None = None
    if is_independent and has_one_block and math.prod(sizes) > _ENOUGH:
        part = (slice(0, max(1, _ENOUGH // math.prod(sizes[1:]))),)
    values = _sample(thing, sizes, seed, part).ravel()
    if values.size == 0:
        raise ValueError(f"a tensor of shape {sizes} has no elements to draw")
    notes = [expected.title + _fans(thing, sizes)]
    notes.append(f"std {expected.std:.4g}, of the sample {values.std():.4g}")
    return Panel(name, tuple(notes), values, expected, "exact density")


def _singular_values(name: str, thing: Any, sizes: tuple[int, ...], seed: Seed) -> Panel:
    """The singular values of a tensor, reshaped to a matrix."""
    if isinstance(thing, np.ndarray):
        if thing.ndim < 2 or not np.isfinite(thing).all():
            raise ValueError(
                f"singular values need two dimensions or more, and finite elements; {name} has the shape "
                f"{thing.shape}" + ("" if np.isfinite(thing).all() else " and elements that are not finite")
            )
        (matrix,) = matrices(None, thing)
        values = np.linalg.svd(matrix, compute_uv=False)
        rows, columns = matrix.shape
        std = _spread(thing)
        expected = marchenko_pastur(rows, columns, std, float(thing.mean()))
        line, notes = "limit for independent elements of the same mean and std", [_times(thing.shape)]
    else:
        std, expected = thing.check(sizes).std, singular_values_of(thing, sizes)
        values = np.concatenate(
            [
                np.linalg.svd(matrix, compute_uv=False)
                for matrix in matrices(thing, _sample(thing, sizes, seed))
            ]
        )
        line, notes = "limit for large matrices", [expected.title]
        if thing.blocks != 1:
            notes[0] += (
                f", of each of {thing.blocks if isinstance(thing.blocks, int) else len(thing.blocks)} blocks"
            )
    notes[0] += f", std {std:.4g}"
    values[values < 1e-13 * values.max()] = 0.0  # They differ from 0 by rounding.
    notes.append(f"{_range(expected)}; of the sample {values.min():.3g} to {values.max():.3g}")
    # Sampled values differ from an atom by rounding, and from an outlier above a density by chance.
    slack = 1e-5 * float(values.max())
    if expected.atoms and expected.high > expected.low:
        slack = (expected.atoms[0][0] - expected.high) / 2
    return Panel(name, tuple(notes), values, expected, line, slack)


def _spread(values: Array) -> float:
    """The standard deviation of an array; 0 if its elements differ only by rounding to float32."""
    return 0.0 if np.ptp(values) <= 1e-6 * abs(values).max() else float(values.std())


def _range(distribution: Distribution) -> str:
    low, high = distribution.low, distribution.high
    ends = [value for value, _ in distribution.atoms] + ([low, high] if high > low else [])
    least, most = f"{min(ends):.3g}", f"{max(ends):.3g}"
    return f"all {least}" if least == most else f"{least} to {most}"


def _sample(
    initializer: Initializer, sizes: tuple[int, ...], seed: Seed, part: tuple[slice, ...] | None = None
) -> Array:
    """A tensor or a part of it, as float64; with the seed of the initializer, if it has one."""
    return initializer(sizes, seed=seed if initializer.seed is None else None, index=part).astype(np.float64)


def _fans(initializer: Initializer, sizes: tuple[int, ...]) -> str:
    """The fans of a tensor of one block, in words; with the default axes, if the initializer has none."""
    if len(sizes) < 2 or initializer.blocks != 1:
        return ""
    scaling = initializer if isinstance(initializer, VarianceScaling) else VarianceScaling()
    return ", fan in {:.0f}, fan out {:.0f}".format(*scaling.fans(sizes))


def _times(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes)) or "()"


_KINDS = {
    "histogram": (_histogram, "Weights", "weight value"),
    "singular_values": (_singular_values, "Singular values of weights", "singular value"),
}
