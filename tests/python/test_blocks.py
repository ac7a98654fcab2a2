"""A tensor in blocks: each block has the fans, the stream and the values of a tensor of its own."""

import itertools
import random

import numpy as np
import pytest
from conftest import INITIALIZERS, bits
from numpy.testing import assert_array_equal

import fastinit
from fastinit._registry import parse_name

DTYPES = ["float32", "float64", "float16", "bfloat16"]
SEED, STREAM = 11, "fused"


def in_blocks(initializer, blocks, axis):
    return type(initializer).from_config({**initializer.get_config(), "blocks": blocks, "block_axis": axis})


# Each class without blocks, with a shape that can be cut into blocks along each axis.
CASES = {type(one): (in_blocks(one, 1, None), tuple(6 * n for n in shape)) for one, shape in INITIALIZERS}


@pytest.fixture(params=CASES.values(), ids=lambda case: type(case[0]).__name__)
def plain(request):
    return request.param


def edges_of(blocks, size):
    """Where the blocks begin and end along their axis."""
    sizes = [size // blocks] * blocks if isinstance(blocks, int) else list(blocks)
    return np.cumsum([0, *sizes])


def assembled(initializer, shape, blocks, axis, **options):
    """The tensor from blocks that are made alone."""
    edges = edges_of(blocks, shape[axis])
    parts = []
    for number, (begin, end) in enumerate(itertools.pairwise(edges)):
        alone = (*shape[:axis], int(end - begin), *shape[axis + 1 :])
        stream = fastinit.block_stream(STREAM, number)
        parts.append(initializer(alone, seed=SEED, stream=stream, **options))
    return np.concatenate(parts, axis)


def cut(size):
    """Equal and unequal blocks of an axis of this size, a multiple of 6."""
    return [2, 3, (size // 2, size // 6, size - size // 2 - size // 6), (size - size // 3, size // 3)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_block_is_the_tensor_of_its_stream(plain, dtype):
    initializer, shape = plain
    compared = 0
    for axis in range(len(shape)):
        for blocks in cut(shape[axis]):
            fused = in_blocks(initializer, blocks, axis)
            key = {"seed": SEED, "stream": STREAM, "dtype": dtype}
            try:
                expected = assembled(initializer, shape, blocks, axis, dtype=dtype)
            except ValueError:  # `groups` do not divide a block, or it has more inputs than outputs
                with pytest.raises(ValueError, match=r"groups|inputs"):
                    fused(shape, **key)
                continue
            assert_array_equal(bits(fused(shape, **key)), bits(expected), err_msg=f"{blocks} along {axis}")
            from_the_end = in_blocks(initializer, blocks, axis - len(shape))
            assert_array_equal(bits(from_the_end(shape, **key)), bits(expected))
            compared += 1
    assert compared >= len(shape)


def test_parts_across_blocks(plain):
    initializer, shape = plain
    rng = random.Random(type(initializer).__name__)
    axis = len(shape) - 1
    for blocks in cut(shape[axis]):
        fused = in_blocks(initializer, blocks, axis)
        try:
            whole = fused(shape, seed=SEED, stream=STREAM)
        except ValueError:
            continue
        edge = int(edges_of(blocks, shape[axis])[1])
        for place in [slice(edge - 1, edge + 2), slice(edge), slice(edge, None), edge, slice(1, -1)]:
            others = []
            for size in shape[:-1]:
                begin = rng.randint(0, size)
                others.append(slice(begin, rng.randint(begin, size)))
            for index in [(..., place), (*others, place)]:
                part = fused(shape, seed=SEED, stream=STREAM, index=index)
                assert_array_equal(bits(part), bits(np.ascontiguousarray(whole[index])), err_msg=str(index))
        # In place, strided, and on several threads.
        canvas = np.full((*shape[:-1], 2 * shape[-1]), 7, np.float32)
        out = canvas[..., ::2]
        assert fused(shape, seed=SEED, stream=STREAM, out=out, threads=3) is out
        assert_array_equal(out, whole)
        assert (canvas[..., 1::2] == 7).all()


def test_one_block_is_the_tensor_itself(plain):
    initializer, shape = plain
    expected = initializer(shape, seed=SEED, stream=STREAM)
    for axis in (None, 0, -1):
        assert_array_equal(in_blocks(initializer, 1, axis)(shape, seed=SEED, stream=STREAM), expected)


def test_functions_take_blocks(plain):
    initializer, shape = plain
    function = getattr(fastinit, parse_name(type(initializer).__name__))
    config = {name: value for name, value in initializer.get_config().items() if name != "seed"}
    for blocks, axis in [(2, None), (1, None), ((shape[0] // 2,) * 2, 0)]:
        try:
            expected = in_blocks(initializer, blocks, axis)(shape, seed=SEED, stream=STREAM)
        except ValueError:
            continue
        made = function(shape, **config, seed=SEED, stream=STREAM, blocks=blocks, block_axis=axis)
        assert_array_equal(made, expected)


@pytest.mark.parametrize(
    ("initializer", "shape", "axis"),
    [
        (fastinit.HeNormal(), (4, 6), 1),
        (fastinit.HeNormal(in_axis=1, out_axis=0), (4, 6), 0),
        (fastinit.HeNormal(in_axis=2, out_axis=(0, 1)), (4, 2, 6), 2),
        (fastinit.Orthogonal(), (4, 6), 1),
        (fastinit.Orthogonal(column_axis=0), (4, 6), 0),
        (fastinit.RandomNormal(), (4, 6), 1),
        (fastinit.Identity(), (4, 6), 1),
    ],
    ids=repr,
)
def test_blocks_lie_along_the_outputs_by_default(initializer, shape, axis):
    made = in_blocks(initializer, 2, None)(shape, seed=SEED, stream=STREAM)
    assert_array_equal(made, assembled(initializer, shape, 2, axis))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"blocks": 0}, ValueError),
        ({"blocks": 4}, ValueError),
        ({"blocks": (2, 3)}, ValueError),
        ({"blocks": (7, -1)}, ValueError),
        ({"blocks": 2, "block_axis": 2}, ValueError),
        ({"blocks": 1.5}, TypeError),
        ({"blocks": "2"}, TypeError),
        ({"blocks": (3, 3.0)}, TypeError),
        ({"blocks": 2, "block_axis": 0.0}, TypeError),
    ],
    ids=str,
)
def test_wrong_blocks_are_refused_before_anything_is_written(options, error):
    for function in (fastinit.zeros, fastinit.random_normal, fastinit.he_uniform, fastinit.orthogonal):
        out = np.full((4, 6), 7, np.float32)
        with pytest.raises(error, match="block"):
            function((4, 6), seed=1, out=out, **options)
        assert (out == 7).all()
