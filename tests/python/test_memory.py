"""A fill takes the memory of its result and little more.

Each program runs in a process of its own, since a peak never goes down.
"""

import sys

import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.timeout(120),
]

MIB = 2**20

# The peak is reset before the fill, where the system allows it, so that imports do not hide a temporary.
PROGRAM = """
import ml_dtypes
import numpy as np
import fastinit

def memory(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))

fastinit.random_normal(2**20, seed=0)
{prepare}
try:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
except OSError:
    pass
before = memory("VmRSS:")
result = {call}
print(memory("VmHWM:") - before, result.nbytes)
"""

FRESH = {
    "float32": "fastinit.random_normal(2**26, seed=1)",
    "float64": "fastinit.truncated_normal(2**25, seed=1, dtype='float64')",
    "bfloat16": "fastinit.random_uniform(2**27, seed=1, dtype='bfloat16')",
    "matrix": "fastinit.he_normal((8192, 8192), seed=1)",
    "sparse": "fastinit.sparse((8192, 8192), 0.5, seed=1)",
    "tall sparse": "fastinit.sparse((2**25, 1), 0.5, seed=1)",
    "wide sparse": "fastinit.sparse((1, 2**25), 0.5, seed=1)",
    "identity": "fastinit.identity((8192, 8192))",
    "constant": "fastinit.constant(2**26, 0.5)",
    "dirac": "fastinit.dirac((3, 3, 2048, 2048))",
    "bits": "fastinit.random_bits(2**26, seed=1)",
    "threads": "fastinit.random_normal(2**26, seed=1, threads=16)",
    "rows": "fastinit.random_normal((2**16, 8192), seed=1, index=slice(1000, 9192))",
    "columns": "fastinit.random_normal((8192, 2**16), seed=1, index=(slice(None), slice(1001, 9193)))",
    "block": "fastinit.random_normal((99, 9000, 9000), seed=1, index=(98, slice(808, None), slice(7, 8199)))",
}

IN_PLACE = {
    "contiguous": ("out = np.ones(2**26, np.float32)", "fastinit.random_normal(2**26, seed=1, out=out)"),
    "strided": (
        "out = np.ones(2**26, np.float32)[::2]",
        "fastinit.random_normal(2**25, seed=1, out=out)",
    ),
    "transposed": (
        "out = np.ones((8192, 8192), np.float32).T",
        "fastinit.he_normal((8192, 8192), seed=1, out=out)",
    ),
    "halves": (
        "out = np.ones((8192, 16384), ml_dtypes.bfloat16)[:, 1:-1]",
        "fastinit.random_normal((8192, 16382), seed=1, dtype='bfloat16', out=out)",
    ),
}


@pytest.mark.parametrize("call", FRESH.values(), ids=FRESH)
def test_a_fresh_array_takes_its_own_memory(python, call):
    grown, size = map(int, python(PROGRAM.format(prepare="", call=call)).split())
    assert size >= 128 * MIB
    assert grown <= size + 8 * MIB


@pytest.mark.parametrize(("prepare", "call"), IN_PLACE.values(), ids=IN_PLACE)
def test_a_fill_in_place_takes_none(python, prepare, call):
    grown, size = map(int, python(PROGRAM.format(prepare=prepare, call=call)).split())
    assert size >= 128 * MIB
    assert grown <= 8 * MIB


# With more and more memory: a fill raises MemoryError and leaves `out` as it was, or succeeds.
LIMITED = """
import resource
import numpy as np
import fastinit

def fill(shape, out=None):
    return {call}

def address_space():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

shape = {shape}
out = np.full(shape, 7, np.float32)
expected = fill(shape)
_, hard = resource.getrlimit(resource.RLIMIT_AS)
outcomes = set()
for room in [2**20, 2**23, 2**26, 2**29, 2**32]:
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + room, hard))
    try:
        fill(shape, out)
        outcomes.add("filled")
    except MemoryError:
        outcomes.add("refused")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    assert (out == 7).all() or (out == expected).all(), f"partly written with {{room}} bytes"
    if (out == expected).all():
        break
print(*sorted(outcomes))
"""

MATRICES = {
    "zeros": "fastinit.zeros(shape, out=out)",
    "identity": "fastinit.identity(shape, out=out)",
    "random_uniform": "fastinit.random_uniform(shape, seed=1, out=out, threads=3)",
    "random_normal": "fastinit.random_normal(shape, seed=1, out=out, threads=3)",
    "truncated_normal": "fastinit.truncated_normal(shape, seed=1, out=out, threads=3)",
    "he_normal": "fastinit.he_normal(shape, seed=1, out=out, threads=3)",
    "sparse": "fastinit.sparse(shape, 0.5, seed=1, out=out, threads=3)",
    "orthogonal": "fastinit.orthogonal(shape, seed=1, out=out, threads=3)",
    "blocks": "fastinit.orthogonal(shape, seed=1, out=out, blocks=4, block_axis=int(shape[0] == 1))",
}
KERNELS = {
    "dirac": "fastinit.dirac(shape, out=out)",
    "delta_orthogonal": "fastinit.delta_orthogonal(shape, seed=1, out=out, threads=3)",
}
NEEDS_MEMORY = {"orthogonal", "blocks", "delta_orthogonal"}


@pytest.mark.parametrize(
    ("name", "call", "shape"),
    [
        *(
            (name, call, shape)
            for name, call in MATRICES.items()
            for shape in [(2**19, 1), (1, 2**19), (640, 640)]
        ),
        *((name, call, shape) for name, call in KERNELS.items() for shape in [(2**14, 4, 4), (3, 1, 2**18)]),
    ],
)
def test_a_fill_without_memory_writes_nothing(python, name, call, shape):
    outcomes = python(LIMITED.format(call=call, shape=shape)).split()
    assert outcomes[0] == "filled"
    if name not in NEEDS_MEMORY:
        assert outcomes == ["filled"]
    elif shape in [(2**19, 1), (1, 2**19), (3, 1, 2**18)]:
        assert outcomes == ["filled", "refused"]
