"""The types of arguments and results. For annotations only: nothing imports this module at run time."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Any, SupportsIndex, TypedDict

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Axes = SupportsIndex | Sequence[SupportsIndex]
DTypeLike = npt.DTypeLike | None
Seed = SupportsIndex | np.random.SeedSequence | None
Shape = SupportsIndex | Sequence[SupportsIndex]
Stream = SupportsIndex | str

_Pick = SupportsIndex | slice | EllipsisType
Index = _Pick | tuple[_Pick, ...] | None


class BuildInfo(TypedDict):
    """What `fastinit.build_info` returns."""

    version: str
    stream_version: int
    simd: str
    simd_available: list[str]
    threads: int
