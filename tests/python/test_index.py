"""A part that is made alone equals the part of the whole tensor."""

import operator
import random

import numpy as np
import pytest
from conftest import bits, plain_id
from numpy.testing import assert_array_equal

import fastinit


def random_index(rng, shape):
    """Any index that basic indexing takes and that stays in range, without steps."""

    def position(size):
        return None if rng.random() < 0.2 else rng.randint(-size, size)

    picks = []
    for size in shape[: rng.randint(0, len(shape))]:
        if size and rng.random() < 0.3:
            picks.append(rng.choice([int, np.int64])(rng.randint(-size, size - 1)))
        else:
            picks.append(slice(position(size), position(size), rng.choice([None, 1])))
    if rng.random() < 0.5:
        # Picks after the ellipsis count from the last axis, so they are drawn for the last sizes.
        cut = rng.randint(0, len(picks))
        rest = [
            slice(position(size), position(size))
            if rng.random() < 0.7 or not size
            else rng.randint(-size, size - 1)
            for size in shape[len(shape) - rng.randint(0, len(shape) - cut) :]
        ]
        picks = [*picks[:cut], ..., *rest]
    return picks[0] if len(picks) == 1 and rng.random() < 0.5 else tuple(picks)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_the_part_equals_that_of_the_whole(dtype):
    rng = random.Random(f"index {dtype}")
    for _ in range(400):
        shape = tuple(rng.choice([0, 1, 2, 3, 5, 17]) for _ in range(rng.randint(0, 4)))
        index = random_index(rng, shape)
        whole = fastinit.random_normal(shape, seed=2, stream="part", dtype=dtype)
        part = fastinit.random_normal(shape, seed=2, stream="part", dtype=dtype, index=index)
        expected = np.asarray(whole[index])
        assert part.shape == expected.shape, (shape, index)
        assert_array_equal(bits(part), bits(expected), err_msg=f"{shape} {index}")


def test_a_part_has_the_fans_of_the_whole(case):
    initializer, shape = case
    rng = random.Random(repr(initializer))
    whole = initializer(shape, seed=2)
    for _ in range(50):
        index = random_index(rng, shape)
        assert_array_equal(initializer(shape, seed=2, index=index), whole[index], err_msg=f"{index}")


def test_shards_as_a_mesh_cuts_them():
    whole = fastinit.he_normal((16, 12), seed=0)
    rebuilt = np.zeros_like(whole)
    for row in range(4):
        for column in range(3):
            shard = (slice(row * 4, row * 4 + 4, None), slice(column * 4, column * 4 + 4, None))
            fastinit.he_normal((16, 12), seed=0, index=shard, out=rebuilt[shard])
    assert_array_equal(rebuilt, whole)


def test_a_tensor_larger_than_any_memory():
    shape = (2**31, 2**31)
    corner = fastinit.random_normal(shape, seed=1, index=(slice(-2, None), slice(-3, None)))
    assert corner.shape == (2, 3)
    row = fastinit.random_normal(shape, seed=1, index=(2**31 - 1, slice(2**31 - 3, 2**31)))
    assert_array_equal(corner[1], row)
    flat = fastinit.random_normal(2**62, seed=1, index=slice(2**62 - 3, 2**62))
    assert_array_equal(flat, row)
    diagonal = fastinit.identity(shape, index=(slice(2**30, 2**30 + 3), slice(2**30 + 1, 2**30 + 4)))
    assert_array_equal(diagonal, np.eye(3, k=-1))


def test_a_single_element_is_an_array_without_axes():
    element = fastinit.random_normal((3, 4), seed=0, index=(1, -1))
    assert type(element) is np.ndarray
    assert element.shape == ()
    assert element == fastinit.random_normal((3, 4), seed=0)[1, -1]


def test_start_beyond_stop_is_empty():
    assert fastinit.random_normal(10, index=slice(7, 3)).shape == (0,)
    assert fastinit.random_normal((10, 4), index=(slice(10, 10), 0)).shape == (0,)


class Unusable:
    def __index__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (4, ValueError, r"index of axis 0 must be an int in range, from -4 to 3, got 4"),
        (-5, ValueError, r"from -4 to 3, got -5"),
        (10**30, ValueError, r"from -4 to 3, got 1000"),
        ((0, 6), ValueError, r"index of axis 1 must be an int in range, from -6 to 5, got 6"),
        (slice(5), ValueError, r"stop in index of axis 0 must be an int in range, from -4 to 4, got 5"),
        (
            slice(-5, None),
            ValueError,
            r"start in index of axis 0 must be an int in range, from -4 to 4, got -5",
        ),
        (slice(0, 10**30), ValueError, r"stop in index of axis 0 must be an int in range, from -4 to 4"),
        (slice(0, 4, 2), ValueError, r"step in index of axis 0 must be None or 1, got 2"),
        (slice(None, None, -1), ValueError, r"step in index of axis 0 must be None or 1, got -1"),
        (slice(0.0, 4), TypeError, r"start in index of axis 0 must be an int.* got 0.0"),
        (slice(False, 4), TypeError, r"start in index of axis 0 must be an int.* got False"),
        ((0, 0, 0), ValueError, r"index must be at most 2 items for shape \[4, 6\], got \(0, 0, 0\)"),
        (
            (..., ...),
            ValueError,
            r"index must be a tuple with at most one ellipsis, got \(Ellipsis, Ellipsis\)",
        ),
        (
            (None, 0),
            TypeError,
            r"index must be an int, a slice or an ellipsis, or a tuple of these, got None",
        ),
        (True, TypeError, r"or a tuple of these, got True"),
        (1.0, TypeError, r"or a tuple of these, got 1.0"),
        ("1", TypeError, r"or a tuple of these, got '1'"),
        ([0, 1], TypeError, r"or a tuple of these, got \[0, 1\]"),
        (np.array([0, 1]), TypeError, r"got array\(\[0, 1\]\)"),
        (Unusable(), RuntimeError, r"no"),
    ],
    ids=plain_id,
)
def test_refused(index, error, message):
    with pytest.raises(error, match=message):
        fastinit.random_normal((4, 6), index=index)


def test_an_index_of_a_tensor_without_axes():
    assert fastinit.ones((), index=()).shape == ()
    assert fastinit.ones((), index=...).shape == ()
    with pytest.raises(ValueError, match="at most 0 items"):
        fastinit.ones((), index=0)


def test_an_int_picks_nothing_from_an_empty_axis():
    with pytest.raises(ValueError, match="index of axis 1 must be a slice, as the axis has size 0, got 0"):
        fastinit.ones((2, 0), index=(0, 0))
    assert fastinit.ones((2, 0), index=(0, slice(0, 0))).shape == (0,)


def test_results_are_those_of_operator_getitem():
    whole = fastinit.random_uniform((3, 4, 5), seed=1)
    for index in [
        0,
        -1,
        ...,
        (),
        slice(None),
        (..., 0),
        (0, ..., 1),
        (slice(1, None), 2),
        (1, slice(-2, None), 0),
    ]:
        assert_array_equal(
            fastinit.random_uniform((3, 4, 5), seed=1, index=index), operator.getitem(whole, index)
        )
