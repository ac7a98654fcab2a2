"""The random words are those of Philox4x32-10, and elements are made of the right ones."""

import numpy as np
import philox
import pytest
from conftest import bits
from numpy.testing import assert_array_equal

import fastinit

# Counter, key and words, from tests/kat_vectors of Random123.
KNOWN_ANSWERS = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]

# In each phase of a block, where the upper word of the block number changes, and near the end.
OFFSETS = [0, 1, 2, 3, 5, 4097, 2**32 - 3, 2**33 - 7, 2**34 - 7, 2**40 + 1, 2**62 - 50]

KEYS = [
    (0, 0),
    (1, 0),
    (2**64 - 1, 2**64 - 1),
    (0x0123456789ABCDEF, 0xFEDCBA9876543210),
    (7, "layers.0.weight"),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_the_reference_gives_the_known_answers(counter, key, words):
    assert_array_equal(philox.philox4x32(counter, key), np.array(words, np.uint64))


def test_the_first_words_are_a_known_answer():
    assert_array_equal(fastinit.random_bits(4, seed=0), np.array(KNOWN_ANSWERS[0][2], np.uint32))


@pytest.mark.parametrize(("seed", "stream"), KEYS)
def test_words_equal_those_of_the_reference(seed, stream):
    for first in OFFSETS:
        part = {"seed": seed, "stream": stream, "index": slice(first, first + 50)}
        got = fastinit.random_bits(2**62, **part)
        assert_array_equal(got, philox.words(first, 50, seed=seed, stream=stream), strict=True)
        got = fastinit.random_bits(2**62, **part, dtype="uint64")
        assert_array_equal(got, philox.doubled_words(first, 50, seed=seed, stream=stream), strict=True)
    whole = fastinit.random_bits((300, 500), seed=seed, stream=stream, threads=3)
    assert_array_equal(whole.ravel(), philox.words(0, 150_000, seed=seed, stream=stream))


def uniform(words, dtype):
    """Elements on [-1, 1) of these words, rounded to float32 and then to the dtype, but never to 1."""
    signed = words.view(f"i{words.itemsize}")
    if dtype == "float64":
        return np.minimum(signed * 2.0**-63, 1 - 2.0**-53)
    single = signed.astype(np.float32) * np.float32(2**-31)
    return np.minimum(single.astype(dtype), np.nextafter(np.ones(1, dtype), np.zeros(1, dtype)))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_elements_far_into_a_tensor_larger_than_any_memory(dtype):
    # Rows of a matrix of 2^62 elements; the reference knows no matrices.
    rows, columns = 2**31, 2**31
    source = philox.doubled_words if dtype == "float64" else philox.words
    for row in (0, 1, 2, 3, 5, 2**16 + 1, 2**31 - 1):
        for column in (0, 1, 2**31 - 61):
            index = (row, slice(column, column + 60))
            got = fastinit.random_uniform(
                (rows, columns), -1, 1, seed=5, stream="far", dtype=dtype, index=index
            )
            expected = uniform(source(row * columns + column, 60, seed=5, stream="far"), dtype)
            assert_array_equal(bits(got), bits(expected), err_msg=f"row {row}, column {column}")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_more_than_2_to_the_32_elements_in_memory(dtype):
    count = 2**32 + 12_345
    try:
        array = fastinit.random_uniform(count, -1, 1, seed=5, stream="long", dtype=dtype)
    except MemoryError:
        pytest.skip("needs 8.6 GB of memory")
    assert array.shape == (count,)
    for first in (0, 2**31 - 1000, 2**32 - 1000, 2**32, count - 2000):
        expected = uniform(philox.words(first, 2000, seed=5, stream="long"), dtype)
        assert_array_equal(bits(array[first : first + 2000]), bits(expected), err_msg=f"from {first}")
    # All of it, against parts that are small enough not to count beyond 32 bits.
    step = 2**26
    for first in range(0, count, step):
        index = slice(first, min(first + step, count))
        part = fastinit.random_uniform(count, -1, 1, seed=5, stream="long", dtype=dtype, index=index)
        assert_array_equal(bits(array[index]), bits(part), err_msg=f"from {first}")
