"""The types of arguments and results. For annotations only: nothing imports this module at run time."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Any, SupportsIndex, TypedDict

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Axes = SupportsIndex | Sequence[SupportsIndex]
Blocks = SupportsIndex | Sequence[SupportsIndex]
DTypeLike = npt.DTypeLike | None
Seed = SupportsIndex | np.random.SeedSequence | None
Shape = SupportsIndex | Sequence[SupportsIndex]
Stream = SupportsIndex | str

_Pick = SupportsIndex | slice | EllipsisType
Index = _Pick | tuple[_Pick, ...] | None


class InBlocks(TypedDict, total=False):
    """The parameters that all initializers share."""

    blocks: Blocks
    block_axis: int | None


class Sampled(InBlocks, total=False):
    """Those of initializers that are random."""

    seed: Seed


class Options(Sampled, total=False):
    """The arguments that all functions share."""

    stream: Stream
    dtype: DTypeLike
    out: Array | None
    index: Index
    threads: int | None


class _Kernel(TypedDict, total=False):
    in_axis: Axes
    out_axis: Axes
    batch_axis: Axes
    groups: int


class Scaled(_Kernel, Sampled, total=False):
    """The parameters of the presets of variance scaling."""


class ScalingOptions(_Kernel, Options, total=False):
    """The arguments of the functions of these presets, beside the shape."""


class BuildInfo(TypedDict):
    """What `fastinit.build_info` returns."""

    distribution: str
    version: str
    file: str
    stream_version: int
    simd: str
    simd_available: list[str]
    threads: int
