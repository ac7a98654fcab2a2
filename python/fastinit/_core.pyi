"""The compiled module. Private: the package itself offers all of it."""

from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from ._typing import Axes, Blocks, BuildInfo, DTypeLike, Index, Options, Seed, Shape, Stream

__all__ = [
    "STREAM_VERSION",
    "Initializer",
    "__version__",
    "as_seed",
    "block_stream",
    "build_info",
    "constant",
    "crc32",
    "delta_orthogonal",
    "dirac",
    "fans",
    "get_num_threads",
    "identity",
    "orthogonal",
    "random_bits",
    "random_normal",
    "random_uniform",
    "set_num_threads",
    "sparse",
    "truncated_normal",
    "variance_scaling",
    "xla_handler",
]

STREAM_VERSION: Final[int]
__version__: Final[str]

@final
class Initializer:
    """What a tensor contains; the parameters are valid."""

    def fill(
        self,
        shape: Shape,
        seed: Seed = None,
        stream: Stream = 0,
        dtype: DTypeLike = "float32",
        out: NDArray[Any] | None = None,
        index: Index = None,
        threads: int | None = None,
    ) -> NDArray[Any]: ...
    def fill_at(
        self, address: int, shape: Shape, seed: int, stream: Stream, dtype: str, threads: int
    ) -> None: ...
    def fill_with(self, shape: Shape, options: Options) -> NDArray[Any]: ...
    def check(
        self, shape: Shape, dtype: DTypeLike = "float32"
    ) -> list[tuple[int, str, dict[str, float]]]: ...
    def encode(self, shape: Shape) -> list[int]: ...
    def in_blocks(self, blocks: Blocks, block_axis: int | None) -> Initializer: ...

def constant(value: float) -> Initializer: ...
def identity(gain: float) -> Initializer: ...
def random_uniform(minval: float, maxval: float) -> Initializer: ...
def random_normal(mean: float, stddev: float) -> Initializer: ...
def truncated_normal(mean: float, stddev: float, lower: float, upper: float) -> Initializer: ...
def variance_scaling(
    scale: float, mode: str, distribution: str, in_axis: Axes, out_axis: Axes, batch_axis: Axes, groups: int
) -> Initializer: ...
def dirac(groups: int) -> Initializer: ...
def orthogonal(gain: float, column_axis: int) -> Initializer: ...
def delta_orthogonal(gain: float) -> Initializer: ...
def sparse(sparsity: float, stddev: float) -> Initializer: ...
def fans(
    shape: Shape, in_axis: Axes, out_axis: Axes, batch_axis: Axes, groups: int
) -> tuple[float, float]: ...
def random_bits(
    shape: Shape,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "uint32",
    out: NDArray[Any] | None = None,
    index: Index = None,
    threads: int | None = None,
) -> NDArray[Any]: ...
def block_stream(stream: Stream, block: int) -> int: ...
def crc32(data: NDArray[np.uint8], before: int) -> int: ...
def as_seed(seed: Seed) -> int | None: ...
def build_info() -> BuildInfo: ...
def set_num_threads(threads: int | None) -> None: ...
def get_num_threads() -> int: ...
def xla_handler() -> int: ...
