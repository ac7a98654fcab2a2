"""New arrays: their memory and its layout."""

import gc
import sys
import weakref

import numpy as np
import pytest

import fastinit

DTYPES = ["float32", "float64", "float16", "bfloat16"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (100, 1000), (0, 4)])
def test_a_fresh_array_is_aligned_contiguous_and_writable(shape, dtype):
    array = fastinit.random_normal(shape, seed=0, dtype=dtype)
    assert type(array) is np.ndarray
    assert array.ctypes.data % 64 == 0
    assert array.flags.c_contiguous
    assert array.flags.aligned
    assert array.flags.writeable
    assert array.dtype.isnative
    array[...] = 1
    assert (array == 1).all()


def test_part_of_a_tensor_is_a_fresh_contiguous_array():
    array = fastinit.random_normal((10, 20), index=(slice(2, 7), slice(3, 9)))
    assert array.flags.c_contiguous
    assert array.ctypes.data % 64 == 0


def test_memory_is_lent_not_copied():
    array = fastinit.random_normal((10, 10))
    # The base of the array is the memory itself, not another array or a copy.
    assert type(array.base).__name__ == "Buffer"
    assert not array.flags.owndata
    pytest.importorskip("ml_dtypes")
    assert fastinit.random_normal((10, 10), dtype="bfloat16").base is not None


def test_memory_lives_as_long_as_a_view_and_no_longer():
    array = fastinit.random_normal((1000, 1000), seed=1)
    alive = weakref.ref(array)
    view = array[500:, ::2]
    expected = view.copy()
    del array
    gc.collect()
    assert (view == expected).all()
    del view
    gc.collect()
    assert alive() is None


def test_every_array_has_memory_of_its_own():
    arrays = [fastinit.zeros(100) for _ in range(10)]
    for array in arrays:
        array += 1
    assert all((array == 1).all() for array in arrays)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_many_arrays_leak_nothing(python):
    grown = python(
        """
        import resource
        import fastinit

        def grow():
            for _ in range(200):
                fastinit.random_normal((256, 1024), seed=0)
                fastinit.random_normal(7, seed=0)

        def resident():
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[1]) * resource.getpagesize()

        grow()
        before = resident()
        grow()
        print(resident() - before)
        """
    )
    # 200 leaked arrays would be 200 MiB.
    assert int(grown) < 20 * 2**20


def test_arrays_support_dlpack_buffers_and_copies():
    array = fastinit.random_normal((3, 4), seed=0)
    assert (np.from_dlpack(array) == array).all()
    assert (np.frombuffer(memoryview(array), np.float32).reshape(3, 4) == array).all()
    copy = array.copy()
    assert copy.flags.owndata
    with pytest.raises(ValueError, match="own"):
        array.resize((6, 4), refcheck=False)
