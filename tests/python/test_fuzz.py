"""Any arguments and any file: a result, or an error that is documented, and nothing half done.

Hypothesis makes the cases: here a hundred of each property, always the same ones. `make fuzz` runs this file
itself, which tries new ones, for so many seconds of CPU time as its argument says.
"""

import json
import struct
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

import fastinit
from fastinit import checkpoint

# The same cases each time, unless this file is run itself.
LONG = __name__ == "__main__"
CASES = settings(
    max_examples=1000 if LONG else 100,
    derandomize=not LONG,
    print_blob=LONG,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

INF, NAN = float("inf"), float("nan")


# Objects


class RaisedError(Exception):
    """What the objects below raise. It may pass through any call."""


class Index:
    """An object that stands for a number, or raises."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        if self.value is None:
            raise RaisedError
        return self.value

    def __repr__(self):
        if self.value is None:
            raise RaisedError
        return "Index"


class Sequence:
    """An object that says that it has more items than it has, or fewer, or that raises."""

    def __init__(self, items, length):
        self.items, self.length = items, length

    def __len__(self):
        if self.length is None:
            raise RaisedError
        return self.length

    def __getitem__(self, i):
        return self.items[i]


class Subclass(np.ndarray):
    """A subclass of NumPy's array that changes what an index gives."""

    def __getitem__(self, i):
        return None


ints = st.one_of(
    st.integers(-3, 12),
    st.sampled_from([-(2**63), 2**50, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400]),
)
reals = st.one_of(
    st.floats(),
    st.sampled_from([0.0, 1.0, -1.0, 2.0, 0.02, 1e-40, 3e38, 1e308, INF, -INF, NAN]),
    st.integers(-3, 3),
)
junk = st.one_of(
    st.none(),
    st.booleans(),
    reals,
    ints,
    st.text(max_size=4),
    st.sampled_from(["\ud800", b"x", 1j, ..., "he_normal", "float32", "fan_in", "uniform", "\0"]),
    st.builds(object),
    st.just({}),
    st.just(set()),
    st.lists(ints, max_size=3),
    st.builds(slice, ints, ints, ints),
    st.builds(Index, st.sampled_from([None, 0, 2, -1, 2**70])),
    st.builds(Sequence, st.lists(ints, max_size=3), st.sampled_from([None, 0, 2, 33, 2**40])),
    st.sampled_from(
        [
            np.True_,
            np.int8(2),
            np.uint64(2**64 - 1),
            np.float32(1.5),
            np.str_("x"),
            np.datetime64("NaT", "s"),
            np.int64,
        ]
    ),
    st.sampled_from([np.array(2), np.array([2, 3]), np.array([[2]]), np.array([]), np.array("x")]),
    st.sampled_from(
        [float, int, np.dtype("f4,f4"), np.dtype((np.float32, 2)), np.dtype("M8[s]"), np.dtype("V3")]
    ),
)
sizes = st.integers(0, 12)
shapes = st.one_of(
    st.lists(sizes, max_size=5).map(tuple),
    st.lists(sizes, min_size=2, max_size=4),
    sizes,
    st.sampled_from([(2**62, 2), (2**50, 3), (0, 2**62, 4), (2**63,), (3, 2**50), (1,) * 33, (1,) * 32]),
    st.lists(st.one_of(sizes, junk), max_size=4).map(tuple),
    junk,
)
picks = st.one_of(
    st.integers(-13, 12),
    st.builds(
        slice, st.one_of(st.none(), ints), st.one_of(st.none(), ints), st.sampled_from([None, 1, 2, -1])
    ),
    st.builds(slice, st.one_of(st.none(), sizes), st.one_of(st.none(), sizes)),
    st.just(...),
    junk,
)
indices = st.one_of(st.none(), picks, st.lists(picks, max_size=5).map(tuple))
dtypes = st.one_of(
    st.sampled_from(["float32", "float64", "float16", "bfloat16", None, np.float32, "f8"]), junk
)
axes = st.one_of(st.integers(-4, 4), st.lists(st.integers(-4, 4), max_size=3).map(tuple), junk)
counts = st.one_of(st.integers(0, 4), junk)
seeds = st.one_of(st.integers(0, 9), st.builds(np.random.SeedSequence, st.integers(0, 9)), junk)

# The parameters of each function, with values that are often valid.
KERNEL = {"in_axis": axes, "out_axis": axes, "batch_axis": axes, "groups": counts}
MODES = st.one_of(st.sampled_from(["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]), junk)
SCALED = st.one_of(st.sampled_from(["truncated_normal", "untruncated_normal", "uniform", "normal"]), junk)
NUMBER = st.one_of(reals, junk)
PARAMETERS = {
    "zeros": {},
    "ones": {},
    "constant": {"value": NUMBER},
    "identity": {"gain": NUMBER},
    "dirac": {"groups": counts},
    "orthogonal": {"gain": NUMBER, "column_axis": axes},
    "delta_orthogonal": {"gain": NUMBER},
    "random_uniform": {"minval": NUMBER, "maxval": NUMBER},
    "random_normal": {"mean": NUMBER, "stddev": NUMBER},
    "truncated_normal": {"mean": NUMBER, "stddev": NUMBER, "lower": NUMBER, "upper": NUMBER},
    "sparse": {"sparsity": st.one_of(st.floats(0, 1), junk), "stddev": NUMBER},
    "variance_scaling": {"scale": NUMBER, "mode": MODES, "distribution": SCALED, **KERNEL},
    **{f"{name}_{law}": KERNEL for name in ("glorot", "he", "lecun") for law in ("uniform", "normal")},
    "random_bits": {},
}
OPTIONS = {
    "seed": seeds,
    "stream": st.one_of(st.text(max_size=5), st.integers(0, 9), junk),
    "dtype": dtypes,
    "index": indices,
    "threads": st.one_of(st.integers(1, 3), junk),
    "blocks": st.one_of(st.integers(1, 3), st.lists(sizes, max_size=3), junk),
    "block_axis": st.one_of(st.integers(-3, 3), junk),
}


def subset(draw, table, often=2):
    """Some of the arguments in a table, drawn: one in `often`."""
    return {name: draw(values) for name, values in table.items() if draw(st.integers(1, often)) == 1}


def allowed(call, *errors):
    """What a call returns, or `None` if it raises one of these errors. Warnings are errors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return call()
    except (RaisedError, *errors):
        return None


def is_huge(shape):
    """Whether a tensor of this shape could take long or much memory."""
    try:
        sizes = [int(size) for size in (shape if np.iterable(shape) else [shape])]
    except Exception:
        return False
    return max(sizes, default=0) > 10**4


# Calls


@st.composite
def views(draw, shape, dtype):
    """A canvas of bytes, and an array in it: of this shape and dtype or others, with any strides."""
    canvas = np.full(draw(st.sampled_from([2**13, 2**15])), 0xA5, np.uint8)
    if draw(st.integers(0, 9)) == 0:
        shape = draw(st.lists(sizes, max_size=4).map(tuple))
    if draw(st.integers(0, 9)) == 0:
        dtype = draw(st.sampled_from(["f4", "f8", "f2", "u4", "u8", ">f4", "V4", "i4,f4"]))
    dtype = np.dtype(dtype)
    # From the last axis to the first in random order, each stride beyond the span of those before, or any.
    order = draw(st.permutations(range(len(shape))))
    strides, span = [0] * len(shape), dtype.itemsize
    for axis in order:
        step = span * draw(st.sampled_from([1, 1, 1, 2, 3]))
        if draw(st.integers(0, 15)) == 0:
            step = draw(st.integers(0, 40))
        strides[axis] = step * draw(st.sampled_from([1, 1, -1]))
        span = step * max(shape[axis], 1)
    low = sum(min(0, (size - 1) * stride) for size, stride in zip(shape, strides, strict=True) if size)
    high = sum(max(0, (size - 1) * stride) for size, stride in zip(shape, strides, strict=True) if size)
    room = len(canvas) - (high - low) - dtype.itemsize
    if room < 0:
        strides = list(np.zeros(shape, dtype).strides)
        low, room = 0, len(canvas) - int(np.prod(shape, dtype=object)) * dtype.itemsize
    start = -low + draw(st.integers(0, max(room, 0) // 8)) * 8 + (draw(st.integers(0, 15)) == 0)
    try:
        array = np.ndarray(shape, dtype, canvas, start, strides)
    except ValueError:
        array = np.zeros(shape, dtype)
    if draw(st.integers(0, 19)) == 0:
        array = draw(
            st.sampled_from([array.view(Subclass), as_strided(array, writeable=False), array.tolist()])
        )
    return canvas, array


@st.composite
def calls(draw):
    """The name of a function, its arguments, and a canvas that holds its `out`."""
    name = draw(st.sampled_from(sorted(PARAMETERS)))
    shape = draw(shapes)
    often = draw(st.sampled_from([1, 2, 5, 100]))
    arguments = subset(draw, PARAMETERS[name], often)
    options = dict(OPTIONS)
    if name == "random_bits":
        del options["blocks"], options["block_axis"]
        options["dtype"] = st.one_of(st.sampled_from(["uint32", "uint64"]), junk)
    arguments.update(subset(draw, options, often))
    if name in ("sparse", "orthogonal", "delta_orthogonal") and is_huge(shape):
        shape = (3, 4)
    if name == "sparse" and "sparsity" not in arguments:
        arguments["sparsity"] = 0.5
    canvas = None
    if draw(st.booleans()):
        target = (
            shape if isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 13 for n in shape) else (3,)
        )
        dtype = arguments.get("dtype", "float32")
        if name == "random_bits":
            dtype = dtype if isinstance(dtype, str) and dtype in ("uint32", "uint64") else "uint32"
        else:
            dtype = (
                dtype if isinstance(dtype, str) and dtype in ("float32", "float64", "float16") else "float32"
            )
        index = arguments.get("index")
        if index is not None:
            try:
                target = np.empty(target)[index].shape
            except Exception:
                target = (2,)
        canvas, arguments["out"] = draw(views(target, dtype))
    return name, shape, arguments, canvas


@CASES
@given(calls())
@example(("zeros", Sequence([], 33), {}, None))
def test_calls(case):
    name, shape, arguments, canvas = case
    out = arguments.get("out")
    before = None if canvas is None else canvas.copy()
    function = getattr(fastinit, name)
    got = allowed(lambda: function(shape, **arguments), TypeError, ValueError, MemoryError)
    if got is None:
        assert canvas is None or (canvas == before).all(), "written in spite of the error"
        return
    assert isinstance(got, np.ndarray)
    if out is not None:
        assert got is out
    if got.nbytes > 10**7 or (arguments.get("seed") is None and name not in ("zeros", "ones", "constant")):
        return
    # The same as a new array, and nothing else was written.
    arguments = {key: value for key, value in arguments.items() if key not in ("out", "threads")}
    again = function(shape, threads=1, **arguments)
    assert again.shape == got.shape
    assert again.dtype == got.dtype
    assert np.ascontiguousarray(got.view(np.ndarray)).tobytes() == again.tobytes()
    if canvas is not None and isinstance(out, np.ndarray) and type(out) is np.ndarray:
        touched = np.zeros(len(canvas), bool)
        bounds = np.lib.array_utils.byte_bounds if hasattr(np.lib, "array_utils") else np.byte_bounds
        if bounds(canvas)[0] <= bounds(out)[0] <= bounds(canvas)[1]:
            first = out.__array_interface__["data"][0] - canvas.__array_interface__["data"][0]
            places = first + np.zeros(out.shape, np.int64)
            for axis, stride in enumerate(out.strides):
                places += np.arange(out.shape[axis]).reshape([-1] + [1] * (out.ndim - axis - 1)) * stride
            for byte in range(out.itemsize):
                touched[places.ravel() + byte] = True
        assert (canvas[~touched] == 0xA5).all(), "written beside out"


@st.composite
def configurations(draw):
    """A class of initializers by name, and parameters for it."""
    name = draw(st.sampled_from(sorted(set(PARAMETERS) - {"random_bits"})))
    parameters = subset(
        draw, {**PARAMETERS[name], "seed": seeds, "blocks": counts, "block_axis": axes, "x": junk}
    )
    return name, parameters


@CASES
@given(configurations(), shapes, dtypes)
def test_configurations(case, shape, dtype):
    name, parameters = case
    identifier = {"class_name": name, "config": parameters}
    made = allowed(lambda: fastinit.get(identifier), TypeError, ValueError)
    if made is None:
        return
    if not any(isinstance(value, Sequence) for value in parameters.values()):  # It contradicts itself.
        assert type(made).from_config(made.get_config()) == made
    assert repr(made).startswith(type(made).__name__)
    checked = allowed(lambda: made.check(shape, dtype), TypeError, ValueError)
    if not is_huge(shape):
        refused = allowed(lambda: made(shape, dtype=dtype), TypeError, ValueError, MemoryError) is None
        assert refused or checked is not None


@CASES
@given(st.one_of(junk, st.fixed_dictionaries({"class_name": junk, "config": junk})))
def test_identifiers(identifier):
    if not callable(identifier):
        allowed(lambda: fastinit.get(identifier), TypeError, ValueError)


NAMES = st.sampled_from(["relu", "gelu", "tanh", "leaky_relu", "selu", "softmax", "elu", "threshold"])
LAYERS = st.sampled_from(["dense", "conv", "lstm", "gru", "attention", "embedding", "output"])


@CASES
@given(
    st.one_of(NAMES, junk),
    st.one_of(LAYERS, junk),
    st.fixed_dictionaries(
        {},
        optional={
            "distribution": SCALED,
            "mode": MODES,
            "param": NUMBER,
            "bias": NUMBER,
            "depth": counts,
            "layout": junk,
            "groups": counts,
            "proposal": junk,
        },
    ),
)
def test_recommendations(activation, layer, arguments):
    if callable(activation):
        return
    found = allowed(lambda: fastinit.recommend(activation, layer, **arguments), TypeError, ValueError)
    assert found is None or str(found)
    param = arguments.get("param")
    factor = allowed(lambda: fastinit.gain(activation, param), TypeError, ValueError)
    assert factor is None or factor > 0


# Files

KINDS = [
    "F64",
    "F32",
    "F16",
    "BF16",
    "F8_E4M3",
    "F8_E5M2",
    "I8",
    "U64",
    "BOOL",
    "C64",
    "F4",
    "F6_E2M3",
    "?",
    "",
]
OFFSETS = st.one_of(st.integers(-2, 99), st.sampled_from([2**31, 2**32, 2**62, 2**63, 2**64, 1.5, None, "0"]))
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.one_of(st.sampled_from(KINDS), st.none()),
        "shape": st.one_of(st.lists(OFFSETS, max_size=4), st.none()),
        "data_offsets": st.one_of(st.lists(OFFSETS, min_size=1, max_size=3), st.none()),
    },
)


def shown(value):
    """The `repr` of an object; some have none."""
    try:
        return repr(value)
    except RaisedError:
        return "?"


@st.composite
def safetensors_files(draw):
    """The bytes of a file of safetensors: a valid one, damaged in some ways."""
    header, offset = {}, 0
    for name in draw(st.lists(st.text(max_size=5), max_size=4, unique=True)):
        kind, size = draw(st.sampled_from([("F32", 4), ("F64", 8), ("F16", 2), ("BF16", 2), ("F8_E4M3", 1)]))
        shape = draw(st.lists(st.integers(0, 5), max_size=3))
        end = offset + int(np.prod(shape, dtype=int)) * size
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    if draw(st.booleans()):
        header[draw(st.sampled_from(["__metadata__", "w", ""]))] = draw(st.one_of(ENTRIES, junk.map(shown)))
    text = bytearray(json.dumps(header, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass"))
    return damaged(draw, text, offset, lambda text: struct.pack("<Q", len(text)))


def damaged(draw, text, length, prefix):
    """A header and so many bytes of data, some of them changed, cut off or inserted."""
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(text)))
        text[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    data = prefix(text) + bytes(text) + draw(st.binary(min_size=1, max_size=1)) * length
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, min(len(data), 12)))
        data = data[:at] + draw(st.binary(max_size=9)) + data[at + draw(st.integers(0, 9)) :]
    if draw(st.integers(0, 3)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    return data


@st.composite
def numpy_files(draw):
    """The same for a file of NumPy."""
    kind = draw(
        st.sampled_from(["<f4", ">f8", "<f2", "|V2", "<i8", "|b1", "|O", "<c8", "<U3", "f4,i2", "<M8[s]"])
    )
    shape = tuple(draw(st.lists(st.one_of(st.integers(-1, 5), st.sampled_from([2**31, 2**63])), max_size=3)))
    header = {"descr": kind, "fortran_order": draw(st.sampled_from([True, False, 1])), "shape": shape}
    text = bytearray(repr(header).encode() + b"\n")
    version = draw(st.sampled_from([1, 2, 3]))
    length = draw(st.integers(0, 600))
    layout = "<H" if version == 1 else "<I"
    return damaged(
        draw, text, length, lambda text: b"\x93NUMPY" + bytes([version, 0]) + struct.pack(layout, len(text))
    )


def check_file(name, data):
    """`diagnose` reads a file with this content, or refuses it with a `ValueError`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        report = allowed(lambda: fastinit.diagnose(path), ValueError)
        assert report is None or str(report)


@CASES
@given(safetensors_files())
def test_files_of_safetensors(data):
    pytest.importorskip("safetensors")
    check_file("weights.safetensors", data)


@CASES
@given(safetensors_files())
def test_plans_of_headers(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        path.write_bytes(data)
        plan = allowed(lambda: checkpoint.plan(path, {"*": 0}), ValueError)
        assert (
            plan is None
            or checkpoint.Plan.from_dict(json.loads(json.dumps(plan.to_dict()))).rows == plan.rows
        )


@CASES
@given(numpy_files())
def test_files_of_numpy(data):
    check_file("weights.npy", data)


@CASES
@given(
    st.one_of(st.binary(max_size=40), st.recursive(st.one_of(st.none(), st.text()), st.lists).map(json.dumps))
)
@example('{"weight_map": {"w": "../weights.safetensors"}}')
@example('{"weight_map": {"w": "weights.safetensors.index.json"}}')
@example("[" * 100_000)
def test_indices_of_shards(text):
    data = text if isinstance(text, bytes) else text.encode()
    check_file("weights.safetensors.index.json", data)


def main(seconds):
    """Runs the properties with new cases, in all for so many seconds of CPU time."""
    checks = {name: check for name, check in globals().items() if name.startswith("test_")}
    for name, check in checks.items():
        end, cases = time.process_time() + seconds / len(checks), 0
        while time.process_time() < end:
            try:
                check()
            except pytest.skip.Exception as reason:
                print(f"{name}: skipped, {reason}", flush=True)
                break
            cases += CASES.max_examples
        else:
            print(f"{name}: at most {cases} cases, no finding", flush=True)


if LONG:
    main(float(sys.argv[1]))
