"""Initial weights of neural networks, at the speed of memory, with the same bits everywhere.

Every initializer is a function that returns a new NumPy array, or fills the one that it is given:

>>> import fastinit
>>> weights = fastinit.he_normal((512, 2048), seed=0, stream="layers.0.mlp.up_proj.weight")
>>> weights.shape, weights.dtype
((512, 2048), dtype('float32'))

and a class of the same name in CamelCase, which holds the parameters and is called with the rest:

>>> kernel = fastinit.HeNormal()
>>> same = kernel((512, 2048), seed=0, stream="layers.0.mlp.up_proj.weight")
>>> bool((same == weights).all())
True

The value of an element is a function of the seed, the stream, the distribution and the index of the element
in the whole tensor. It does not depend on the number of threads, the processor, the memory layout or the part
that is made:

>>> rows = slice(100, 200)
>>> part = fastinit.he_normal((512, 2048), seed=0, stream="layers.0.mlp.up_proj.weight", index=rows)
>>> bool((part == weights[rows]).all())
True

The arguments that all initializers share are described at `Initializer`.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

# The compiled module works on NumPy's arrays; nothing else is loaded here, and no framework.
import numpy as _numpy  # noqa: F401

from ._core import STREAM_VERSION, __version__
from ._runtime import block_stream, build_info, get_num_threads, random_bits, set_num_threads
from .functions import (
    constant,
    delta_orthogonal,
    dirac,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    identity,
    lecun_normal,
    lecun_uniform,
    ones,
    orthogonal,
    random_normal,
    random_uniform,
    sparse,
    truncated_normal,
    variance_scaling,
    zeros,
)
from .initializers import (
    Constant,
    DeltaOrthogonal,
    Dirac,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Identity,
    Initializer,
    LecunNormal,
    LecunUniform,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    Sparse,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
    get,
)

if _TYPE_CHECKING:
    from .guidance import TraceLog, compare, diagnose, gain, lsuv, recipe, recommend, show, signal, trace

__all__ = [
    "STREAM_VERSION",
    "Constant",
    "DeltaOrthogonal",
    "Dirac",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "Sparse",
    "TraceLog",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "__version__",
    "block_stream",
    "build_info",
    "compare",
    "constant",
    "delta_orthogonal",
    "diagnose",
    "dirac",
    "gain",
    "get",
    "get_num_threads",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "lsuv",
    "ones",
    "orthogonal",
    "random_bits",
    "random_normal",
    "random_uniform",
    "recipe",
    "recommend",
    "set_num_threads",
    "show",
    "signal",
    "sparse",
    "trace",
    "truncated_normal",
    "variance_scaling",
    "zeros",
]


_GUIDANCE = (
    "TraceLog",
    "compare",
    "diagnose",
    "gain",
    "lsuv",
    "recipe",
    "recommend",
    "show",
    "signal",
    "trace",
)


def __getattr__(name: str) -> _Any:
    """Loads the guidance at its first use, to keep the import fast."""
    if name in _GUIDANCE:
        from . import guidance

        return getattr(guidance, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
