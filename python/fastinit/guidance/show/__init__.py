"""Pictures, of initializers, arrays, signals and comparisons: what goes into them.

`show` needs matplotlib, which is imported when it is called. How things are drawn is in `_pictures`.
"""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fastinit
from fastinit.guidance.choices import initializer, label
from fastinit.guidance.compare import Comparison
from fastinit.guidance.signal import Signal
from fastinit.theory.distributions import Distribution, marchenko_pastur, normal

from .singular import matrices, singular_values_of, sizes_of

if TYPE_CHECKING:
    import os

    from matplotlib.figure import Figure

    from fastinit._typing import Array, Seed, Shape

SUFFIXES = (".png", ".svg")

# Of independent elements more than these say nothing new.
_ENOUGH = 2**22
_MOST_PANELS = 24
# The square of a number beyond may overflow.
_GREATEST = 1e150


@dataclass(frozen=True)
class Panel:
    """A sample and the law that it is held against.

    Attributes:
        name: What it is.
        notes: Lines below the name.
        values: The sample; float64, one-dimensional, finite.
        law: The law.
        line: What the legend calls the law.
        slack: How far from an atom of the law a value may be to count as that.
    """

    name: str
    notes: tuple[str, ...]
    values: Array
    law: Distribution
    line: str
    slack: float = 0.0

    def is_at(self, atom: float, values: Array) -> Array:
        """Which values are this one, but for rounding to float32 and the slack."""
        found: Array = abs(values - atom) <= 1e-6 * abs(atom) + self.slack
        return found


def show(
    x: Any,
    shape: Shape = (256, 512),
    *,
    kind: str | None = None,
    seed: Seed = 0,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draws what is given: initializers, arrays, a signal or a comparison.

    An initializer, or several side by side on the same axes, as the histogram of a sample over the exact
    density, or the singular values of the sample over the law that those of a large matrix follow. An array,
    or several, in the same way, over the normal density, or the law of Marchenko and Pastur, of the same mean
    and standard deviation. What `fastinit.signal` returns as curves over the layers, and what
    `fastinit.compare` returns as curves over the epochs.

    Values that have a probability of their own, as the zeros of `Sparse` or the singular values of an
    orthogonal matrix, are drawn as stems, as high as this probability if the axes were as high as 1.

    Args:
        x: One of

            * an initializer: a name, a configuration or an object;
            * an array of at least one dimension, of NumPy or any framework;
            * a sequence of these, or a mapping of labels to them, at most 24;
            * a `Signal` or a `Comparison`.
        shape: The shape of the tensors that initializers make.
        kind: What to draw of initializers and arrays: `"histogram"`, also meant by `None`, or
            `"singular_values"`. A tensor of more than two dimensions is seen as a matrix with the last axis
            as its columns, or the axis and blocks that `Orthogonal` says.
        seed: The seed of initializers that have none themselves: an int in [0, 2**64), or a
            `numpy.random.SeedSequence`.
        path: A file to save the picture to; `.png` or `.svg` by its suffix. Equal pictures make equal files.

    Returns:
        A figure of matplotlib, on a transparent ground, that a notebook displays. It does not belong to
        pyplot, and need not be closed.

    Raises:
        ValueError: If the kind, the name of an initializer or the suffix of `path` is unknown, the shape or
            the array does not go with what is wanted, or there are too many things.
        TypeError: If something can not be drawn.
        FileNotFoundError: If there is no such folder as that of `path`.
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
    if kind is not None and kind not in tuple(_KINDS):
        near = difflib.get_close_matches(str(kind), _KINDS, 1, 0.0)
        raise ValueError(f"kind must be one of {', '.join(_KINDS)}; got {kind!r}: did you mean {near[0]!r}?")
    file = None if path is None else _checked(path)
    if kind is not None and isinstance(x, (Signal, Comparison)):
        raise ValueError(f"kind is for initializers and arrays; a {type(x).__name__} is drawn as curves")
    try:
        from . import pictures as _pictures
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ImportError('pictures need matplotlib: pip install "fastinit[plot]"') from None
    if isinstance(x, Comparison):
        figure = _pictures.comparison(x)
    elif isinstance(x, Signal):
        figure = _pictures.signal(x)
    else:
        sizes = sizes_of(shape)
        things = _things(x)
        make, title, axis = _KINDS[kind or "histogram"]
        if any(isinstance(thing, fastinit.Initializer) for thing in things.values()):
            title += f" of shape {_times(sizes)}"
        panels = [make(name, thing, sizes, seed) for name, thing in things.items()]
        figure = _pictures.distributions(panels, title, axis)
    if file is not None:
        _pictures.save(figure, file)
    return figure


def _checked(path: str | os.PathLike[str]) -> Path:
    """A path that a picture can be saved to."""
    file = Path(path)
    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"a picture is saved as {' or '.join(SUFFIXES)}, by its suffix; got {str(file)!r}")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(file.parent)!r} to save {file.name!r} in")
    return file


def _things(x: Any) -> dict[str, Any]:
    """Initializers and arrays of NumPy, by label."""
    if isinstance(x, Mapping) and "class_name" not in x:
        found = {str(name): _thing(given) for name, given in x.items()}
    elif isinstance(x, Sequence) and not isinstance(x, str):
        found = {}
        for given in x:
            thing = _thing(given)
            name = _name(given, thing)
            if isinstance(thing, np.ndarray):
                name = f"{name} {len(found) + 1}"  # They have no names of their own.
            if name in found:
                raise ValueError(f"the initializer {name} is there twice: give labels, in a mapping")
            found[name] = thing
    else:
        thing = _thing(x)
        found = {_name(x, thing): thing}
    if not 0 < len(found) <= _MOST_PANELS:
        raise ValueError(f"a picture shows 1 to {_MOST_PANELS} things side by side; got {len(found)}")
    return found


def _name(given: Any, thing: Any) -> str:
    if isinstance(thing, np.ndarray):
        return "array"
    return given if isinstance(given, str) else label(thing)


def _thing(given: Any) -> Any:
    """An initializer, or an array of float64."""
    if isinstance(given, (str, dict, type, fastinit.Initializer)):
        return initializer(given)
    torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
    if torch is not None and isinstance(given, torch.Tensor):
        if given.is_meta:
            raise ValueError(
                f"a tensor on the meta device, of shape {tuple(given.shape)}, has no elements to draw"
            )
        given = given.detach().cpu()
        given = given.double() if given.is_floating_point() else given  # NumPy has no bfloat16
    elif keras is not None and isinstance(given, keras.Variable):
        given = keras.ops.convert_to_numpy(given.value)
    if not hasattr(given, "__array__"):
        raise TypeError(
            "show draws initializers, arrays, signals and comparisons; got "
            f"{type(given).__name__}: {given!r:.80}"
        )
    array = np.asarray(given)
    try:
        if np.iscomplexobj(array):
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"an array must be of real numbers; its dtype is {array.dtype}") from None
    if array.size == 0 or not np.isfinite(array).any():
        raise ValueError(f"an array of shape {array.shape} has no finite elements to draw")
    greatest = float(np.abs(array[np.isfinite(array)]).max())
    if greatest > _GREATEST:
        raise ValueError(
            f"the elements of an array must be at most {_GREATEST:g}; the greatest is {greatest:g}"
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
        law = normal(float(values.mean()), _spread(values))
        return Panel(name, tuple(notes), values, law, "normal density of the same mean and std")
    law = thing.check(sizes)
    plain = (fastinit.RandomUniform, fastinit.RandomNormal, fastinit.TruncatedNormal)
    part: tuple[slice, ...] | None = None
    if isinstance(thing.for_shape(sizes), plain) and math.prod(sizes) > _ENOUGH:
        part = (slice(0, max(1, _ENOUGH // math.prod(sizes[1:]))),)
    values = _sample(thing, sizes, seed, part).ravel()
    if values.size == 0:
        raise ValueError(f"a tensor of shape {sizes} has no elements to draw")
    fans = _fans(thing, sizes)
    notes = [law.name + ("" if fans is None else f", fan in {fans[0]}, fan out {fans[1]}")]
    notes.append(f"std {law.std:.4g}, of the sample {values.std():.4g}")
    return Panel(name, tuple(notes), values, law, "exact density")


def _singular_values(name: str, thing: Any, sizes: tuple[int, ...], seed: Seed) -> Panel:
    """The singular values of a tensor, seen as a matrix."""
    if isinstance(thing, np.ndarray):
        if thing.ndim < 2 or not np.isfinite(thing).all():
            raise ValueError(
                f"singular values need two dimensions or more, and finite elements; {name} has the shape "
                f"{thing.shape}" + ("" if np.isfinite(thing).all() else ", and elements that are not finite")
            )
        values = np.linalg.svd(matrices(None, thing), compute_uv=False).ravel()
        rows, columns = matrices(None, thing).shape[1:]
        law = marchenko_pastur(rows, columns, _spread(thing), float(thing.mean()))
        line, notes = "law of independent elements of the same mean and std", [_times(thing.shape)]
    else:
        law = singular_values_of(thing, sizes)
        values = np.linalg.svd(matrices(thing, _sample(thing, sizes, seed)), compute_uv=False).ravel()
        line, notes = "law of a large matrix", [law.name]
        if getattr(thing, "blocks", 1) > 1:
            notes[0] += f", of each of {thing.blocks} blocks"
    notes[0] += f", std {_std(thing, sizes):.4g}"
    notes.append(f"{_range(law)}; of the sample {values.min():.3g} to {values.max():.3g}")
    # What rounding has made of an atom; and what chance has made of one that is above a density.
    slack = 1e-5 * float(values.max())
    if law.atoms and law.high > law.low:
        slack = (law.atoms[0][0] - law.high) / 2
    return Panel(name, tuple(notes), values, law, line, slack)


def _std(thing: Any, sizes: tuple[int, ...]) -> float:
    return _spread(thing) if isinstance(thing, np.ndarray) else thing.check(sizes).std


def _spread(values: Array) -> float:
    """The standard deviation of an array, 0 if its elements differ by rounding to float32 at most."""
    return 0.0 if np.ptp(values) <= 1e-6 * abs(values).max() else float(values.std())


def _range(law: Distribution) -> str:
    ends = [value for value, _ in law.atoms] + ([law.low, law.high] if law.high > law.low else [])
    low, high = f"{min(ends):.3g}", f"{max(ends):.3g}"
    return f"all {low}" if low == high else f"{low} to {high}"


def _sample(
    initializer: fastinit.Initializer,
    sizes: tuple[int, ...],
    seed: Seed,
    part: tuple[slice, ...] | None = None,
) -> Array:
    """What it makes, as float64; of the seed that it has itself, or else the given one."""
    return initializer(sizes, seed=seed if initializer.seed is None else None, index=part).astype(np.float64)


def _fans(initializer: fastinit.Initializer, sizes: tuple[int, ...]) -> tuple[int, int] | None:
    """The fans of a tensor, in the layout of Keras where the initializer says no other."""
    if len(sizes) < 2:
        return None

    def axes(name: str, default: Any) -> set[int]:
        found = getattr(initializer, name, default)
        return {axis % len(sizes) for axis in ((found,) if isinstance(found, int) else found)}

    into, out, batch = axes("in_axis", -2), axes("out_axis", -1), axes("batch_axis", ())
    product = dict(enumerate(sizes))
    receptive = math.prod(size for axis, size in product.items() if axis not in into | out | batch)
    inputs, outputs = (math.prod(product[axis] for axis in role) for role in (into, out))
    return inputs * receptive, outputs * receptive // getattr(initializer, "groups", 1)


def _times(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes)) or "()"


_KINDS = {
    "histogram": (_histogram, "Weights", "weight value"),
    "singular_values": (_singular_values, "Singular values of weights", "singular value"),
}
