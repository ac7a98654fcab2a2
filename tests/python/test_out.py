"""Filling an existing array."""

import numpy as np
import pytest
from conftest import bits, plain_id
from numpy.lib.stride_tricks import as_strided
from numpy.testing import assert_array_equal

import fastinit

DTYPES = ["float32", "float64", "float16", "bfloat16"]

# Views of 4 x 6 elements in a canvas of 12 x 24.
LAYOUTS = {
    "contiguous": lambda canvas: canvas.reshape(-1)[:24].reshape(4, 6),
    "rows apart": lambda canvas: canvas[:4, :6],
    "steps": lambda canvas: canvas[1::3, 2::4],
    "transposed": lambda canvas: canvas[:6, :4].T,
    "turned rows": lambda canvas: canvas[3::-1, :6],
    "turned columns": lambda canvas: canvas[:4, 23:5:-3],
    "turned both": lambda canvas: canvas[::-3, ::-4],
    "turned and transposed": lambda canvas: canvas[10:4:-1, 8:4:-1].T,
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides(layout, dtype):
    expected = fastinit.random_normal((4, 6), seed=1, dtype=dtype)
    canvas = np.full((12, 24), 7, expected.dtype)
    out = layout(canvas)
    assert fastinit.random_normal((4, 6), seed=1, dtype=dtype, out=out) is out
    assert_array_equal(bits(np.ascontiguousarray(out)), bits(expected))
    # Nothing beside it was touched.
    out[...] = 7
    assert (canvas == 7).all()


@pytest.mark.parametrize("step", [1, 3, -2])
@pytest.mark.parametrize("transposed", [False, True])
def test_any_strides_for_every_initializer(case, step, transposed):
    initializer, shape = case
    canvas = np.full([3 * size for size in (reversed(shape) if transposed else shape)], 7, np.float32)
    out = (canvas.T if transposed else canvas)[tuple(slice(None, None, step) for _ in shape)]
    out = out[tuple(slice(size) for size in shape)]
    assert initializer(shape, seed=1, out=out) is out
    assert_array_equal(out, initializer(shape, seed=1))
    out[...] = 7
    assert (canvas == 7).all()


def test_many_dimensions_and_unit_axes():
    expected = fastinit.random_normal((2, 1, 3, 4), seed=1)
    canvas = np.zeros((4, 5, 3, 2), np.float32)
    out = canvas.transpose(3, 1, 2, 0)[:, 2:3, ::-1]
    fastinit.random_normal((2, 1, 3, 4), seed=1, out=out)
    assert_array_equal(out, expected)
    # Axes of length 1 may have any stride.
    odd = as_strided(np.zeros(24, np.float32), (2, 1, 3, 4), (48, 3, 16, 4))
    fastinit.random_normal((2, 1, 3, 4), seed=1, out=odd)
    assert_array_equal(odd, expected)


def test_shapes_without_elements_or_axes():
    empty = np.empty((3, 0, 2), np.float32)[::-1]
    assert fastinit.ones((3, 0, 2), out=empty) is empty
    scalar = np.zeros((), np.float32)
    fastinit.ones((), out=scalar)
    assert scalar == 1


def test_part_of_a_tensor_into_part_of_an_array():
    tensor = fastinit.random_normal((8, 9, 10), seed=4)
    canvas = np.zeros((10, 20), np.float32)
    out = canvas[::2, ::-2]
    fastinit.random_normal((8, 9, 10), seed=4, out=out, index=(3, slice(2, 7), ...))
    assert_array_equal(out, tensor[3, 2:7, ...])
    element = np.zeros((), np.float32)
    fastinit.random_normal((8, 9, 10), seed=4, out=element, index=(1, 2, 3))
    assert element == tensor[1, 2, 3]


def test_subclasses_and_borrowed_memory(tmp_path):
    mapped = np.memmap(tmp_path / "weights", np.float32, "w+", shape=(4, 6))
    assert fastinit.random_normal((4, 6), seed=1, out=mapped) is mapped
    assert_array_equal(mapped, fastinit.random_normal((4, 6), seed=1))
    buffer = bytearray(96)
    fastinit.random_normal((4, 6), seed=1, out=np.frombuffer(buffer, np.float32).reshape(4, 6))
    assert_array_equal(np.frombuffer(buffer, np.float32).reshape(4, 6), mapped)


def test_large_arrays_through_all_paths():
    # Large enough for the fill to release the GIL.
    expected = fastinit.random_normal((300, 400), seed=1)
    out = np.zeros((400, 300), np.float32).T[::-1]
    fastinit.random_normal((300, 400), seed=1, out=out, threads=2)
    assert_array_equal(out, expected)


def read_only():
    array = np.zeros((4, 6), np.float32)
    array.flags.writeable = False
    return array


def unaligned():
    return np.frombuffer(bytearray(97), np.uint8)[1:].view(np.float32).reshape(4, 6)


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ([[0.0] * 6] * 4, TypeError, r"out must be a numpy.ndarray, got list"),
        (memoryview(bytearray(96)), TypeError, r"out must be a numpy.ndarray, got memoryview"),
        (np.zeros((6, 4), np.float32), ValueError, r"out must have shape \[4, 6\], got shape \[6, 4\]"),
        (np.zeros(24, np.float32), ValueError, r"out must have shape \[4, 6\], got shape \[24\]"),
        (np.zeros((4, 6)), TypeError, r"out must have dtype float32 .* got dtype\('float64'\)"),
        (np.zeros((4, 6), np.int32), TypeError, r"out must have dtype float32 .* got dtype\('int32'\)"),
        (np.zeros((4, 6), ">f4"), TypeError, r"native byte order.* got dtype\('>f4'\)"),
        (np.zeros((4, 6), object), TypeError, r"got dtype\('O'\)"),
        (read_only(), ValueError, r"out must be writable"),
        (unaligned(), ValueError, r"out must be aligned"),
        (np.zeros((4, 12), "f4,u1")["f0"][:, :6], ValueError, r"out must be aligned"),
        (np.broadcast_to(np.float32(0), (4, 6)), ValueError, r"out must be writable"),
        (as_strided(np.zeros(6, np.float32), (4, 6), (0, 4)), ValueError, r"out must not overlap itself"),
        (
            as_strided(np.zeros(9, np.float32), (4, 6), (4, 4)),
            ValueError,
            r"out must not overlap itself.*\[4, 4\]",
        ),
        (
            as_strided(np.zeros(24, np.float32)[20:], (4, 6), (-16, 4)),
            ValueError,
            r"out must not overlap itself",
        ),
    ],
    ids=plain_id,
)
def test_refused(out, error, message):
    before = bytes(out) if isinstance(out, np.ndarray) else None
    with pytest.raises(error, match=message):
        fastinit.random_normal((4, 6), out=out)
    with pytest.raises(error, match=message):
        fastinit.zeros((4, 6), out=out)
    assert before is None or bytes(out) == before


def test_halves_do_not_pass_for_other_16_bit_types():
    pytest.importorskip("ml_dtypes")
    for wrong in (np.uint16, np.int16, np.float16):
        with pytest.raises(TypeError, match="out must have dtype bfloat16"):
            fastinit.ones(3, dtype="bfloat16", out=np.zeros(3, wrong))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_memory_at_an_address(dtype):
    for initializer in (
        fastinit.RandomNormal(),
        fastinit.Ones(),
        fastinit.Orthogonal(),
        fastinit.HeUniform(blocks=2),
    ):
        expected = initializer((6, 8), seed=1, stream="w", dtype=dtype)
        memory = np.zeros((6, 8), expected.dtype)
        initializer._fill_at(memory.ctypes.data, (6, 8), 1, "w", dtype, 1)
        assert memory.tobytes() == expected.tobytes()
        for address in (0, memory.ctypes.data + 1):
            with pytest.raises(ValueError, match="the address must be a multiple of"):
                initializer._fill_at(address, (6, 8), 1, "w", dtype, 1)
