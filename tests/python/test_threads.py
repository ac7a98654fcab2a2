"""Python threads that use the same objects and arrays. Without the GIL they run at the same time."""

import pickle
import sys
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import INITIALIZERS, bits
from numpy.testing import assert_array_equal

import fastinit

pytestmark = pytest.mark.timeout(120)

THREADS = 16
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


@pytest.fixture(autouse=True)
def switching():
    """Where there is a GIL, it changes hands as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(work):
    """Calls `work` with a number in each of many threads, all from the same moment on; their results."""
    barrier = threading.Barrier(THREADS)

    def wait_and_work(number):
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(wait_and_work, range(THREADS)))


@pytest.mark.skipif(not FREE_THREADED, reason="needs a free-threaded Python")
def test_the_import_leaves_the_gil_off(python):
    program = "import sys, fastinit; fastinit.ones(3, dtype='bfloat16'); print(sys._is_gil_enabled())"
    assert python(program, PYTHON_GIL="") == "False\n"


def test_many_threads_use_one_object(case):
    initializer, shape = case
    calls = {
        "float32": lambda: bits(initializer(shape, seed=1, stream="w")).tobytes(),
        "float64": lambda: bits(initializer(shape, seed=2, dtype="float64", threads=3)).tobytes(),
        "slice": lambda: bits(initializer(shape, seed=1, index=slice(1, None))).tobytes(),
        "checked": lambda: initializer.check(shape),
        "configured": lambda: type(initializer).from_config(initializer.get_config()) == initializer,
        "pickled": lambda: pickle.loads(pickle.dumps(initializer)) == initializer,
        "shown": lambda: (repr(initializer), hash(initializer)),
    }
    expected = {name: call() for name, call in calls.items()}
    names = list(calls)

    def work(number):
        for turn in range(30):
            name = names[(number + turn) % len(names)]
            assert calls[name]() == expected[name], name

    at_once(work)


def test_many_threads_make_large_tensors():
    shapes = [(3,), (64, 64), (400, 300), (1000, 500)]
    initializer = fastinit.RandomNormal()
    expected = {shape: initializer(shape, seed=1, stream="t") for shape in shapes}

    def work(number):
        for turn in range(12):
            shape = shapes[(number + turn) % len(shapes)]
            array = initializer(shape, seed=1, stream="t", threads=1 + number % 3)
            assert_array_equal(array, expected[shape])
            with pytest.raises(ValueError, match="stddev"):
                fastinit.random_normal(shape, stddev=-number)

    at_once(work)


@pytest.mark.parametrize("make", [fastinit.RandomNormal(), fastinit.Orthogonal()], ids=repr)
def test_threads_share_an_array_by_parts(make):
    shape = (256, 32 * THREADS)
    whole = make(shape, seed=3)
    out = np.zeros(shape, np.float32)

    def work(number):
        # Interleaved in memory, disjoint all the same.
        columns = (slice(None), slice(number * 32, number * 32 + 32))
        make(shape, seed=3, index=columns, out=out[columns])

    at_once(work)
    assert_array_equal(out, whole)


def test_threads_write_the_same_values_to_the_same_array():
    shape = (700, 500)
    whole = fastinit.truncated_normal(shape, seed=3)
    out = np.zeros(shape, np.float32)

    def work(number):
        for turn in range(4):
            rows = slice(0, None) if (number + turn) % 2 else slice(turn * 100, 400)
            fastinit.truncated_normal(shape, seed=3, index=rows, out=out[rows], threads=1 + turn % 2)

    at_once(work)
    assert_array_equal(out, whole)


def test_threads_diagnose_the_same_arrays():
    model = {
        f"{kind.__name__}.{width}": kind()((width, width), seed=0, stream=f"{kind.__name__}{width}")
        for kind in (fastinit.HeNormal, fastinit.GlorotUniform, fastinit.Orthogonal, fastinit.Zeros)
        for width in (8, 64, 300)
    }
    expected = fastinit.diagnose(model).to_dict()
    assert at_once(lambda _: fastinit.diagnose(model).to_dict()) == [expected] * THREADS


def test_threads_change_the_default_number_of_threads():
    whole = fastinit.random_uniform(2**20, seed=5)

    def work(number):
        for turn in range(10):
            fastinit.set_num_threads(None if turn % 3 == 0 else 1 + (number + turn) % 5)
            assert fastinit.get_num_threads() >= 1
            assert_array_equal(fastinit.random_uniform(2**20, seed=5), whole)

    try:
        at_once(work)
    finally:
        fastinit.set_num_threads(None)


def test_seeds_of_many_threads_differ():
    first = at_once(lambda _: [fastinit.random_bits(2, dtype="uint64").tobytes() for _ in range(100)])
    assert len({words for found in first for words in found}) == 100 * THREADS


def test_many_threads_make_the_first_calls(python):
    # They look up what is looked up once: NumPy's dtypes, ml_dtypes, modules that are loaded when needed.
    program = f"""
        import threading
        from concurrent.futures import ThreadPoolExecutor
        import numpy as np
        import fastinit

        barrier = threading.Barrier({THREADS})

        def work(number):
            barrier.wait()
            seed = np.random.SeedSequence(4)
            return (
                fastinit.he_normal((30, 40), seed=seed, dtype="bfloat16").tobytes(),
                fastinit.get("glorot_uniform")((3, 4), seed=1, dtype="float16").tobytes(),
                fastinit.random_bits(5, seed=np.uint64(6), dtype="uint64").tobytes(),
                str(fastinit.recommend("relu")),
            )

        with ThreadPoolExecutor({THREADS}) as pool:
            print(len(set(pool.map(work, range({THREADS})))))
    """
    for _ in range(3):
        assert python(program) == "1\n"


def test_every_initializer_at_once():
    expected = [initializer(shape, seed=7).tobytes() for initializer, shape in INITIALIZERS]

    def work(number):
        order = [(number + i) % len(INITIALIZERS) for i in range(len(INITIALIZERS))]
        for i in 3 * order:
            initializer, shape = INITIALIZERS[i]
            assert initializer(shape, seed=7).tobytes() == expected[i]

    at_once(work)
