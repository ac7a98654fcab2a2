"""What is measured: distribution x dtype x size x memory."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}

# Parameters of the distributions, the same for every library.
LOW, HIGH = -0.05, 0.05
STDDEV = 0.05
CUT = 2.0  # truncation, in standard deviations

# Size -> bytes; the smallest is a number of elements, since it shows the cost of a call.
SIZES: dict[str, int | None] = {"64 elements": None, "64 KiB": 1 << 16, "4 MiB": 1 << 22, "256 MiB": 1 << 28}

# `constant` is the library's own fill with a constant, and `memset` a store without the library: C's memset
# on all threads or, in fresh memory, `numpy.full`.
KINDS = [
    ("memset", "float32"),
    ("constant", "float32"),
    ("uniform", "float32"),
    ("normal", "float32"),
    ("truncated_normal", "float32"),
    ("he_normal", "float32"),
    ("uniform", "bfloat16"),
    ("normal", "bfloat16"),
    ("truncated_normal", "bfloat16"),
    ("normal", "float16"),
    ("normal", "float64"),
]
# Orthogonal matrices, by shape. Only fresh ones, since some libraries have no in-place form.
MATRICES = {
    f"{rows} x {columns}": (rows, columns)
    for rows, columns in [(64, 64), (256, 256), (2048, 2048), (4096, 4096), (32768, 1024)]
}
QUICK_MATRICES = ["64 x 64", "2048 x 2048"]

# How fills scale with the number of threads: the two stores, and what is compared with them.
SCALING_SIZE = "256 MiB"
SCALING_KINDS = [
    *KINDS[:2],
    ("uniform", "float32"),
    ("normal", "float32"),
    ("truncated_normal", "float32"),
    ("normal", "bfloat16"),
]

QUICK_KINDS = [kind for kind in KINDS if kind[1] == "float32" or kind == ("normal", "bfloat16")]
QUICK_SIZES = ["64 elements", "256 MiB"]
MEMORIES = ["resident", "fresh"]


@dataclass(frozen=True)
class Case:
    """One thing to measure in every library that offers it."""

    distribution: str
    dtype: str
    size: str
    memory: str  # "fresh": a new array each time; "resident": one array, filled again and again

    @property
    def shape(self) -> tuple[int, int]:
        """A matrix, as square as powers of two allow where only the size is given."""
        if self.size in MATRICES:
            return MATRICES[self.size]
        nbytes = SIZES[self.size]
        elements = 64 if nbytes is None else nbytes // ITEMSIZE[self.dtype]
        rows = 1 << (int(math.log2(elements)) // 2)
        return rows, elements // rows

    @property
    def nbytes(self) -> int:
        """Bytes stored by one call."""
        return math.prod(self.shape) * ITEMSIZE[self.dtype]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON takes them."""
        return asdict(self)


def cases(*, quick: bool) -> list[Case]:
    """Return every case, in the order of the report."""
    fills = [
        Case(distribution, dtype, size, memory)
        for size in (QUICK_SIZES if quick else SIZES)
        for memory in MEMORIES
        for distribution, dtype in (QUICK_KINDS if quick else KINDS)
    ]
    matrices = [
        Case("orthogonal", dtype, size, "fresh")
        for size in (QUICK_MATRICES if quick else MATRICES)
        for dtype in ("float32", "float64")
    ]
    return fills + matrices


def scaling_cases(*, quick: bool) -> list[Case]:
    """Return what is measured for 1, 2, 4, ... threads."""
    memories = MEMORIES[:1] if quick else MEMORIES
    return [Case(*kind, SCALING_SIZE, memory) for memory in memories for kind in SCALING_KINDS]
