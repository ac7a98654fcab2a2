"""The compiled module. Private: what it offers is offered to everybody by the package itself."""

from typing import Any, Final, final

from numpy.typing import NDArray

from ._typing import Axes, BuildInfo, DTypeLike, Index, Seed, Shape, Stream

__all__ = [
    "STREAM_VERSION",
    "Initializer",
    "__version__",
    "as_seed",
    "block_stream",
    "build_info",
    "constant",
    "delta_orthogonal",
    "dirac",
    "get_num_threads",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
    "random_bits",
    "random_normal",
    "random_uniform",
    "set_num_threads",
    "sparse",
    "truncated_normal",
    "variance_scaling",
]

STREAM_VERSION: Final[int]
__version__: Final[str]

@final
class Initializer:
    """What a tensor is to contain; its parameters are valid."""

    def fill(
        self,
        shape: Shape,
        seed: Seed,
        stream: Stream,
        dtype: DTypeLike,
        out: NDArray[Any] | None,
        index: Index,
        threads: int | None,
        /,
    ) -> NDArray[Any]: ...
    def distribution(self, shape: Shape, /) -> tuple[str, dict[str, float]] | None: ...

def constant(value: float) -> Initializer: ...
def identity(gain: float) -> Initializer: ...
def random_uniform(minval: float, maxval: float) -> Initializer: ...
def random_normal(mean: float, stddev: float) -> Initializer: ...
def truncated_normal(mean: float, stddev: float, lower: float, upper: float) -> Initializer: ...
def variance_scaling(
    scale: float, mode: str, distribution: str, in_axis: Axes, out_axis: Axes, batch_axis: Axes, groups: int
) -> Initializer: ...
def glorot_uniform(in_axis: Axes, out_axis: Axes, batch_axis: Axes, groups: int) -> Initializer: ...
def glorot_normal(in_axis: Axes, out_axis: Axes, batch_axis: Axes, groups: int) -> Initializer: ...
def he_uniform(in_axis: Axes, out_axis: Axes, batch_axis: Axes, groups: int) -> Initializer: ...
def he_normal(in_axis: Axes, out_axis: Axes, batch_axis: Axes, groups: int) -> Initializer: ...
def lecun_uniform(in_axis: Axes, out_axis: Axes, batch_axis: Axes, groups: int) -> Initializer: ...
def lecun_normal(in_axis: Axes, out_axis: Axes, batch_axis: Axes, groups: int) -> Initializer: ...
def dirac(groups: int) -> Initializer: ...
def orthogonal(gain: float, column_axis: int, blocks: int, block_axis: int | None) -> Initializer: ...
def delta_orthogonal(gain: float) -> Initializer: ...
def sparse(sparsity: float, stddev: float) -> Initializer: ...
def random_bits(
    shape: Shape,
    seed: Seed,
    stream: Stream,
    dtype: DTypeLike,
    out: NDArray[Any] | None,
    index: Index,
    threads: int | None,
    /,
) -> NDArray[Any]: ...
def block_stream(stream: Stream, block: int) -> int: ...
def as_seed(seed: Seed) -> int | None: ...
def build_info() -> BuildInfo: ...
def set_num_threads(threads: int | None) -> None: ...
def get_num_threads() -> int: ...
