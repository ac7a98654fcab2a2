"""A fill takes the memory of its result and little more; with working memory, at most that and 16 MiB again.

Each program runs in a process of its own, since a peak never goes down.
"""

import sys

import pytest

import fastinit

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

# A fill takes at most the size of its result again, and 16 MiB.
WORKING = {
    "column": "fastinit.orthogonal((2**20, 1), seed=1)",
    "few columns": "fastinit.orthogonal((2**20, 8), seed=1)",
    "few rows": "fastinit.orthogonal((8, 2**20), seed=1)",
    "column in double precision": "fastinit.orthogonal((2**21, 1), seed=1, dtype='float64')",
    "column in half precision": "fastinit.orthogonal((2**20, 1), seed=1, dtype='float16')",
    "one panel": "fastinit.orthogonal((2**18, 64), seed=1, dtype='bfloat16')",
    "two panels": "fastinit.orthogonal((2**17, 65), seed=1)",
    "two panels in half precision": "fastinit.orthogonal((128, 2**17), seed=1, dtype='bfloat16')",
    "square": "fastinit.orthogonal((2048, 2048), seed=1)",
    "square in half precision": "fastinit.orthogonal((3072, 3072), seed=1, dtype='float16')",
    "slice of few rows": "fastinit.orthogonal((2**15, 200), seed=1, index=slice(1000, 1008))",
    "slice of one row": "fastinit.orthogonal((2**22, 4), seed=1, index=7)",
    "slice of few columns": "fastinit.orthogonal((2**19, 300), seed=1, index=(slice(None), slice(150, 152)))",
    "delta_orthogonal": "fastinit.delta_orthogonal((3, 3, 4, 2**17), seed=1)",
    "blocks": "fastinit.orthogonal((2**16, 64), seed=1, blocks=16, threads=8)",
    "tall blocks": "fastinit.orthogonal((2**19, 2), seed=1, blocks=2, threads=8)",
    "threads": "fastinit.orthogonal((2**18, 8), seed=1, threads=64)",
    "sparse column": "fastinit.sparse((2**21, 1), 0.5, seed=1)",
    "identity": "fastinit.identity((2**20, 16))",
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


@pytest.mark.parametrize("call", WORKING.values(), ids=WORKING)
def test_working_memory(python, call):
    grown, size = map(int, python(PROGRAM.format(prepare="", call=call)).split())
    # Python and the allocator take a little too.
    assert grown <= 2 * size + 18 * MIB


# Much of what was freed is kept for new arrays; what was not kept is gone.
FREED = """
import fastinit

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))

fastinit.random_normal(2**20, seed=0)
before = resident()
for mebibytes in range(2, 80, 3):
    fastinit.random_normal(mebibytes * 2**18, seed=0)
print(resident() - before)
"""


def test_little_freed_memory_is_kept(python):
    assert int(python(FREED)) <= 64 * MIB + 8 * MIB


def test_zeros_in_freed_memory():
    shape = (1200, 1300)
    for zeros in [
        lambda: fastinit.zeros(shape),
        lambda: fastinit.zeros(shape, blocks=2),
        lambda: fastinit.constant(shape, -0.0),
    ]:
        for _ in range(3):
            fastinit.random_normal(shape, seed=1)
            assert not zeros().any()
    for _ in range(3):
        fastinit.ones(shape)
        assert fastinit.identity(shape).sum() == 1200
        fastinit.ones(shape)
        assert fastinit.identity(shape, blocks=4).sum() == 1300


# With the address space that is left, a fill raises MemoryError or succeeds, and never ends the process. The
# threads of an interpreter cannot be trusted to have room for their stacks, heaps and thread-local data.
NARROW = """
import os
import resource
import fastinit

def address_space():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

{call}
outcomes = set()
for room in range(0, {rooms} * {step}, {step}):
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (address_space() + room,) * 2)
        try:
            {call}
        except MemoryError:
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    outcomes.add(status if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
print(*sorted(outcomes))
"""


@pytest.mark.parametrize(
    "call",
    [
        "fastinit.orthogonal((300, 300), seed=1, threads=8)",
        "fastinit.orthogonal((5000, 20), seed=1, threads=8)",
        "fastinit.random_normal(2**20, seed=1, threads=8)",
        "fastinit.sparse((600, 600), 0.5, seed=1, threads=8)",
        "fastinit.identity((1500, 1500), threads=8)",
    ],
    ids=["orthogonal", "tall", "random_normal", "sparse", "identity"],
)
def test_a_narrow_address_space_does_not_end_the_process(python, call):
    assert set(python(NARROW.format(call=call, rooms=60, step=503_003)).split()) <= {"0", "3"}


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
    elif shape == (640, 640):
        assert outcomes == ["filled", "refused"]
