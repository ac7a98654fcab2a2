"""What `test_keras.py` runs on each backend, each time in a process of its own.

Distributions are tested by Kolmogorov-Smirnov tests at fixed seeds. There are fewer than 1000 p-values in a
run, and a test fails where one is below 1e-10, so with random seeds fewer than one run in ten million would
fail.
"""

import doctest
import hashlib
import inspect
import json
import os
import pickle
import re
import sys
import threading
import warnings
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from keras.src.initializers.random_initializers import compute_fans
from numpy.testing import assert_array_equal
from plan_keras_checks import (  # noqa: F401
    same_seeds,
    test_contents_are_those_of_accelerate_with_a_salt,
)
from scipy import stats

import fastinit
import fastinit.keras as fk
from fastinit.keras._private import INITIALIZE

BACKEND = keras.config.backend()
TRAINS = BACKEND != "numpy"  # Keras does not train on NumPy
ALPHA = 1e-10

reference = keras.initializers

DTYPES = ["float32", "float64", "float16", "bfloat16"]
SCALED = ["GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "LecunNormal", "LecunUniform"]
COMMON = [
    *((name, {}) for name in SCALED),
    ("RandomNormal", {"mean": 0.5, "stddev": 2.0}),
    ("RandomUniform", {"minval": -1.0, "maxval": 2.0}),
    ("TruncatedNormal", {"mean": -0.5, "stddev": 0.3}),
    ("VarianceScaling", {"scale": 3.0, "mode": "fan_out", "distribution": "untruncated_normal"}),
    ("VarianceScaling", {"mode": "fan_avg", "distribution": "normal"}),
    ("VarianceScaling", {"distribution": "uniform", "input_axes": [0], "output_axes": [0, 1]}),
]
FIXED = [("Zeros", {}), ("Ones", {}), ("Constant", {"value": 0.3}), ("Identity", {"gain": 0.7})]
EXTRAS = ("lower", "upper", "blocks", "block_axis")  # keywords that Keras does not have
OWN = [("Sparse", {"sparsity": 0.5}), ("DeltaOrthogonal", {"gain": 2.0}), ("Dirac", {"groups": 2})]
ALL = [*COMMON, *FIXED, ("Orthogonal", {"gain": 0.5}), *OWN]

SIZES = [
    (fk.GlorotNormal, {}),
    (fk.Orthogonal, {}),
    (fk.RandomUniform, {}),
    (fk.Zeros, {}),
    (fk.Sparse, {"sparsity": 0.5}),
]

any_common = pytest.mark.parametrize(("name", "config"), COMMON, ids=[name for name, _ in COMMON])
any_class = pytest.mark.parametrize(("name", "config"), ALL, ids=[name for name, _ in ALL])


def array(tensor):
    if BACKEND == "tensorflow" and getattr(tensor, "shape", None) == () and tensor.dtype == "bfloat16":
        return np.asarray(tensor.numpy())  # where Keras fails
    return keras.ops.convert_to_numpy(tensor)


def weights(layer):
    return [array(weight) for weight in layer.weights]


def shape_for(name):
    return {"Dirac": (3, 4, 8), "DeltaOrthogonal": (3, 4, 8)}.get(name, (24, 36))


def outcome(call):
    """What a call returns or raises."""
    try:
        return call()
    except Exception as error:
        return type(error), str(error)


@pytest.fixture(scope="session", autouse=True)
def _digests():
    """What is to be the same on all backends goes to a file, if there is to be one."""
    yield
    if "FASTINIT_DIGESTS" in os.environ:
        Path(os.environ["FASTINIT_DIGESTS"]).write_text(json.dumps(DIGESTS), encoding="utf-8")


DIGESTS = {}


def record(name, arrays):
    digest = hashlib.sha256()
    for part in arrays:
        digest.update(np.ascontiguousarray(part).tobytes())
    DIGESTS[name] = digest.hexdigest()


# Names, arguments, configurations


def test_has_every_name():
    missing = {name for name in dir(reference) if not name.startswith("_")} - set(fk.__all__)
    assert not missing
    assert all(hasattr(fk, name) for name in fk.__all__)
    assert len(set(fk.__all__)) == len(fk.__all__)


@pytest.mark.parametrize("name", sorted({name for name, _ in ALL} - {name for name, _ in OWN}))
def test_classes_are_those_of_keras(name):
    ours, theirs = getattr(fk, name), getattr(reference, name)
    assert issubclass(ours, theirs)
    assert ours is getattr(fk, re.sub("(?<!^)([A-Z])", r"_\1", name).lower())
    own = [p for p in inspect.signature(ours).parameters.values() if p.name not in EXTRAS]
    plain = inspect.signature(theirs).parameters.values()
    assert [(p.name, p.default, p.kind) for p in own] == [(p.name, p.default, p.kind) for p in plain]
    assert list(inspect.signature(ours.__call__).parameters) == ["self", "shape", "dtype", "layout"]


@any_class
def test_configurations(name, config):
    ours = getattr(fk, name)(**config)
    if hasattr(reference, name):
        assert ours.get_config() == getattr(reference, name)(**config).get_config()
        theirs = getattr(reference, name)(**config)
        assert type(fk.deserialize(reference.serialize(theirs))) is type(ours)
    before = dir(ours)
    ours(shape_for(name))
    assert dir(ours) == before
    for other in (
        type(ours).from_config(ours.get_config()),
        ours.clone(),
        reference.deserialize(reference.serialize(ours)),
        reference.deserialize(json.loads(json.dumps(reference.serialize(ours)))),
        fk.deserialize(fk.serialize(ours)),
        reference.get(reference.serialize(ours)),
        pickle.loads(pickle.dumps(ours)),
    ):
        assert type(other) is type(ours)
        assert other.get_config() == ours.get_config()
    assert reference.serialize(ours)["registered_name"] == f"fastinit>{name}"
    assert reference.get(ours) is ours
    if name != "Sparse":
        assert type(reference.get(type(ours))) is type(ours)
        assert type(fk.get(name)) is type(ours)


def test_names_give_our_classes():
    for alias in ("normal", "uniform", "zero", "one", "OrthogonalInitializer", "he_normal"):
        ours = fk.get(alias)
        assert type(ours).__mro__[-1] is object
        assert isinstance(ours, type(reference.get(alias)))
        assert type(ours).__module__ == "fastinit.keras"
    assert fk.get(None) is None
    assert fk.get("stft").__class__ is reference.STFT
    assert outcome(lambda: fk.get("no_such")) == outcome(lambda: reference.get("no_such"))
    assert outcome(lambda: fk.get(3)) == outcome(lambda: reference.get(3))
    assert array(fk.get(np.eye(3))((3, 3)))[1, 1] == 1


def test_examples_run():
    assert doctest.testmod(fk).failed == 0
    for module in (fk._accelerate, fk._get, fk._initializers):
        assert doctest.testmod(module).failed == 0
    for name in fk.__all__:
        if getattr(fk, name).__module__.startswith("fastinit"):
            assert ">>> import" in getattr(fk, name).__doc__, name


# Values


@pytest.mark.parametrize("dtype", DTYPES)
@any_common
def test_distributions(name, config, dtype):
    shape = (100, 60)
    ours = getattr(fk, name)(**config, seed=1)(shape, dtype)
    theirs = getattr(reference, name)(**config, seed=1)(shape, dtype)
    assert type(ours) is type(theirs)
    assert ours.dtype == theirs.dtype
    assert tuple(ours.shape) == tuple(theirs.shape) == shape
    ours, theirs = (array(tensor).astype(np.float64).ravel() for tensor in (ours, theirs))
    assert stats.ks_2samp(ours, theirs).pvalue > ALPHA
    # The standard error of each difference is at most that of normal samples.
    spread = theirs.std() * np.sqrt(2 / ours.size)
    assert abs(ours.mean() - theirs.mean()) < 6.5 * spread
    assert abs(ours.std() - theirs.std()) < 6.5 * spread


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "config"), FIXED)
def test_constants_are_equal(name, config, dtype):
    ours, theirs = (getattr(module, name)(**config)((5, 7), dtype) for module in (fk, reference))
    assert type(ours) is type(theirs)
    if (BACKEND, name, dtype) == ("numpy", "Identity", "bfloat16"):  # which Keras makes a float32
        theirs = theirs.astype(ours.dtype)
    if (BACKEND, name, dtype) == ("tensorflow", "Constant", "float64"):  # which Keras makes from a float32
        assert_array_equal(array(ours), 0.3)
        ours = keras.ops.cast(keras.ops.cast(ours, "float32"), dtype)
    assert ours.dtype == theirs.dtype
    assert_array_equal(array(ours).astype(np.float64), array(theirs).astype(np.float64))


@pytest.mark.parametrize("shape", [(), (1,), (7,), (0, 4), (4, 0), (3, 5), (2, 3, 5), (3, 3, 4, 8)])
@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
def test_fans(shape, mode):
    fan_in, fan_out = compute_fans(shape)
    fan = max(1.0, {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode])
    limit = np.sqrt(3.0 / fan)
    ours = array(fk.VarianceScaling(1.0, mode, "uniform", seed=3)(shape, "float32"))
    assert ours.shape == shape
    assert_array_equal(ours, fastinit.random_uniform(shape, -limit, limit, seed=3))


def test_values_are_those_of_fastinit():
    for dtype in DTYPES:
        if dtype == "float64" and BACKEND == "jax":  # which has it only where it is enabled
            continue
        for shape in ((), (5,), (64, 32), (3, 3, 8, 16), (0, 3)):
            got = array(fk.RandomNormal(0.5, 2.0, seed=7)(shape, dtype))
            want = fastinit.random_normal(shape, 0.5, 2.0, seed=7, dtype=dtype)
            assert got.dtype == want.dtype
            assert_array_equal(got, want)
        kernel = (3, 3, 8, 16)
        assert_array_equal(
            array(fk.HeNormal(seed=7)(kernel, dtype)), fastinit.he_normal(kernel, seed=7, dtype=dtype)
        )
        record(f"glorot {dtype}", [array(fk.GlorotNormal(seed=7)((65, 33), dtype))])
    axes = fk.LecunNormal(seed=7, input_axes=[0], output_axes=[1, 2])((16, 4, 8))
    assert_array_equal(array(axes), fastinit.lecun_normal((16, 4, 8), seed=7, in_axis=0, out_axis=(1, 2)))
    assert_array_equal(array(fk.Sparse(0.5, seed=7)((8, 8))), fastinit.sparse((8, 8), 0.5, seed=7))
    for name, config in ALL:
        seed = {} if name in ("Zeros", "Ones", "Constant", "Identity", "Dirac") else {"seed": 11}
        record(f"{name} {config}", [array(getattr(fk, name)(**config, **seed)(shape_for(name)))])


@pytest.mark.parametrize("shape", [(8, 8), (5, 12), (12, 5), (3, 3, 4, 20)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_orthogonal(shape, dtype):
    # Keras's own cannot do halves on every backend.
    q = array(fk.Orthogonal(2.0, seed=1)(shape, dtype)).astype(np.float64).reshape(-1, shape[-1])
    gram = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
    error = {"float32": 1e-5, "float64": 1e-5, "float16": 2e-2, "bfloat16": 1e-1}[dtype]
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=error)


def test_blocks():
    fused = array(fk.GlorotUniform(seed=5, blocks=3)((16, 48)))
    matrices = array(fk.Orthogonal(seed=5, blocks=3)((16, 48)))
    normal = array(fk.RandomNormal(seed=5, blocks=2, block_axis=0)((8, 3, 2), "bfloat16"))
    for k in range(3):
        stream = fastinit.block_stream(0, k)
        part = slice(16 * k, 16 * (k + 1))
        assert_array_equal(fused[:, part], fastinit.glorot_uniform((16, 16), seed=5, stream=stream))
        assert_array_equal(matrices[:, part], fastinit.orthogonal((16, 16), seed=5, stream=stream))
    for k in range(2):
        want = fastinit.random_normal((4, 3, 2), seed=5, stream=fastinit.block_stream(0, k), dtype="bfloat16")
        assert_array_equal(normal[4 * k : 4 * (k + 1)], want)
    record("blocks", [fused, matrices, normal])
    clone = fk.GlorotUniform(seed=5, blocks=3, block_axis=1).clone()
    assert (clone.blocks, clone.block_axis) == (3, 1)
    with pytest.raises(ValueError, match=r"blocks.*3"):
        fk.HeNormal(blocks=3)((4, 4))
    with pytest.raises(ValueError, match="axis"):
        fk.HeNormal(blocks=3, block_axis=2)((4, 3))
    with pytest.raises(ValueError, match="blocks must be at least 1"):
        fk.Orthogonal(blocks=0)
    with pytest.raises(ValueError, match="dtype must be one of"):
        fk.RandomNormal(blocks=2)((4,), "int32")
    with pytest.raises(TypeError):
        fk.RandomNormal(blocks=1.5)


@pytest.mark.parametrize(("cls", "config"), SIZES)
def test_blocks_of_different_sizes(cls, config):
    made = cls(**config, blocks=[8, 4, 4]) if cls is fk.Zeros else cls(**config, seed=5, blocks=[8, 4, 4])
    assert made.get_config()["blocks"] == [8, 4, 4]
    assert pickle.loads(pickle.dumps(made)).blocks == made.clone().blocks == (8, 4, 4)
    fused = array(made((8, 16)))
    function = getattr(fastinit, re.sub("(?<!^)([A-Z])", r"_\1", cls.__name__).lower())
    for k, (start, stop) in enumerate([(0, 8), (8, 12), (12, 16)]):
        want = function((8, stop - start), **config, seed=5, stream=fastinit.block_stream(0, k))
        assert_array_equal(fused[:, start:stop], want)


def test_blocks_with_the_fans_of_keras():
    # A vector, and an axis of both inputs and outputs, have fans in Keras only.
    for shape, axes in [((12,), {}), ((12, 5), {"input_axes": [0, 1], "output_axes": [0]})]:
        fused = array(fk.GlorotUniform(seed=5, blocks=3, **axes)(shape))
        for k in range(3):
            part = (4, *shape[1:])
            limit = np.sqrt(6 / sum(compute_fans(part, **axes)))
            want = fastinit.random_uniform(part, -limit, limit, seed=5, stream=fastinit.block_stream(0, k))
            assert_array_equal(fused[4 * k : 4 * (k + 1)], want)
    with pytest.raises(ValueError, match="different sizes"):
        fk.GlorotUniform(blocks=[4, 8])((12,))
    with pytest.raises(ValueError, match="axis"):
        fk.GlorotUniform(blocks=2)(())
    # One axis of the outputs is where the blocks lie.
    fused = array(fk.HeNormal(seed=5, blocks=2, input_axes=[1], output_axes=[0])((6, 4)))
    want = fastinit.he_normal((3, 4), seed=5, stream=fastinit.block_stream(0, 1), in_axis=1, out_axis=0)
    assert_array_equal(fused[3:], want)


def test_bounds_of_truncated_normal():
    bounded = fk.TruncatedNormal(0.5, 2.0, seed=1, lower=-1.0, upper=3.0)
    want = fastinit.truncated_normal((30, 40), 0.5, 2.0, -1.0, 3.0, seed=1)
    assert_array_equal(array(bounded((30, 40))), want)
    assert_array_equal(array(bounded.clone()((30, 40))), want)
    assert "lower" not in fk.TruncatedNormal().get_config()
    with pytest.raises(ValueError, match="lower"):
        fk.TruncatedNormal(lower=2.0, upper=1.0)


def test_attributes_of_foreign_subclasses_are_no_parameters():
    class Mine(reference.TruncatedNormal):
        lower, blocks = 0.0, 2

    with fk.accelerate():
        assert_array_equal(array(Mine(seed=1)((4, 4))), fastinit.truncated_normal((4, 4), seed=1))


def test_other_dtypes_are_left_to_keras():
    for name in ("Zeros", "Ones", "Constant"):
        for dtype in ("int32", "bool", "uint8", "complex64"):
            classes = getattr(fk, name), getattr(reference, name)
            ours, theirs = (outcome(lambda cls=cls, dtype=dtype: cls()((3,), dtype)) for cls in classes)
            if isinstance(theirs, tuple):
                assert ours == theirs
            else:
                assert ours.dtype == theirs.dtype
                assert_array_equal(array(ours), array(theirs))
    assert_array_equal(array(fk.Constant(np.arange(3.0))((2, 3))), np.tile(np.arange(3.0), (2, 1)))


def test_default_dtype():
    keras.config.set_floatx("float16")
    try:
        assert array(fk.HeNormal()((2, 2))).dtype == np.float16
        assert array(fk.Zeros()((2, 2))).dtype == np.float16
    finally:
        keras.config.set_floatx("float32")


def test_equal_parameters_that_are_not_the_same():
    constant = fk.Constant()
    for value in (0.0, -0.0, 0, 0.0):
        constant.value = value
        assert np.signbit(array(constant((2,)))).all() == (str(value) == "-0.0")


def test_parameters_may_be_changed():
    initializer = fk.RandomUniform(0.0, 1.0, seed=1)
    assert (array(initializer((10,))) >= 0).all()
    initializer.minval, initializer.maxval = -2.0, -1.0
    assert (array(initializer((10,))) < -1).all()


def test_degenerate_parameters_are_left_to_keras():
    for name, config in [
        ("RandomNormal", {"stddev": 0.0}),
        ("RandomUniform", {"minval": 1.0, "maxval": 1.0}),
        ("RandomNormal", {"mean": keras.ops.convert_to_tensor(1.0), "stddev": 0.0}),
    ]:
        ours, theirs = (array(getattr(m, name)(**config, seed=1)((4, 4))) for m in (fk, reference))
        assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "config", "dtype"),
    [
        ("RandomUniform", {"minval": 1e8, "maxval": 1e8 + 1}, "float32"),  # no two numbers
        ("RandomUniform", {"minval": -3e38, "maxval": 3e38}, "float32"),  # a width that overflows
        ("RandomNormal", {"stddev": 1e-42}, "float32"),
        ("RandomNormal", {"mean": 1e39}, "float32"),
        ("TruncatedNormal", {"stddev": 1e39}, "float32"),
        ("VarianceScaling", {"scale": 1e-90}, "float32"),
        ("VarianceScaling", {"scale": 1e300, "distribution": "uniform"}, "float32"),
        ("Orthogonal", {"gain": 1e39}, "float32"),
        # The largest elements overflow.
        ("RandomNormal", {"stddev": 1e38}, "float32"),
        ("RandomNormal", {"stddev": 1e38}, "float16"),
        ("RandomNormal", {"mean": 6e4, "stddev": 1e3}, "float16"),
        ("TruncatedNormal", {"stddev": 1e38}, "float16"),
        ("VarianceScaling", {"scale": 1e12}, "float16"),
    ],
    ids=lambda value: value if isinstance(value, str) else ", ".join(f"{k}={v}" for k, v in value.items()),
)
@pytest.mark.parametrize("generated", [False, True], ids=["int", "generator"])
def test_what_fastinit_refuses_is_left_to_keras(name, config, dtype, generated):
    def seed():
        return keras.random.SeedGenerator(1) if generated else 1

    theirs = getattr(reference, name)(**config, seed=seed())
    inside = getattr(reference, name)(**config, seed=seed())
    ours = getattr(fk, name)(**config, seed=seed())
    with pytest.raises(ValueError, match="must be"):
        fk._sample._plan(ours, (4, 4), dtype)
    for _ in range(2):  # A generator advances as in Keras.
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = outcome(lambda: array(theirs((4, 4), dtype)))
            found = [outcome(lambda: array(ours((4, 4), dtype)))]
            with fk.accelerate():
                found.append(outcome(lambda: array(inside((4, 4), dtype))))
        for one in found:
            assert_array_equal(one, expected)
    # What Keras does not have is not left to it.
    with pytest.raises(ValueError, match="must be"):
        getattr(fk, name)(**config, seed=1, blocks=2)((4, 4), dtype)


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.VarianceScaling(scale=-1.0),
        lambda m: m.VarianceScaling(mode="fan"),
        lambda m: m.VarianceScaling(distribution="cauchy"),
        lambda m: m.HeNormal(seed="1"),
        lambda m: m.RandomNormal(seed=1.5),
        lambda m: m.HeNormal(1, 2, 3, 4, 5, 6, 7, 8)((2,)) and None,
        lambda m: m.Orthogonal()((3,)),
        lambda m: m.Identity()((3,)),
        lambda m: m.Identity()((3, 3, 3)),
        lambda m: m.RandomNormal()((2, -1)),
        lambda m: m.RandomNormal()((2, None)),
        lambda m: m.Zeros()((2,), "float31"),
        lambda m: m.RandomUniform()((2, 2), "float31"),
        lambda m: m.RandomNormal()("ab"),
        lambda m: m.STFT(side="left"),
    ],
)
def test_errors_are_those_of_keras(call):
    ours, theirs = outcome(lambda: call(fk)), outcome(lambda: call(reference))
    assert isinstance(theirs, tuple)
    assert ours[0] is theirs[0]

    def plain(text):  # Where it tells signatures, ours have more in them; sets are in no order.
        text = re.sub(r"0x[0-9a-f]+", "", text)
        return text if "positional argument" not in text else ""

    if "Please use one of" not in theirs[1]:
        assert plain(ours[1]) == plain(theirs[1])


def test_errors_of_our_own():
    with pytest.raises(ValueError, match="sparsity"):
        fk.Sparse(2.0)
    with pytest.raises(ValueError, match="groups"):
        fk.Dirac(0)
    with pytest.raises(ValueError, match="2"):
        fk.Sparse(0.5)((2, 2, 2))
    with pytest.raises(ValueError, match="in"):
        fk.DeltaOrthogonal()((3, 8, 4))


# Seeds


def test_seeds():
    seeded = fk.HeNormal(seed=3)
    assert seeded.seed == 3
    assert_array_equal(array(seeded((4, 4))), array(seeded((4, 4))))
    assert_array_equal(array(seeded((4, 4))), array(seeded.clone()((4, 4))))
    unseeded = fk.HeNormal()
    assert unseeded.get_config()["seed"] is None
    assert 1 <= unseeded.seed <= 10**9
    assert_array_equal(array(unseeded((4, 4))), array(unseeded((4, 4))))
    assert not (array(unseeded((4, 4))) == array(unseeded.clone()((4, 4)))).all()
    keras.utils.set_random_seed(0)
    first = array(fk.HeNormal()((4, 4)))
    keras.utils.set_random_seed(0)
    assert_array_equal(array(fk.HeNormal()((4, 4))), first)
    for seed in (-1, 2**64 - 1):
        want = fastinit.random_normal(9, seed=2**64 - 1)
        assert_array_equal(array(fk.RandomNormal(seed=seed)((9,))), want)


def test_seed_generators():
    drawn = fk.RandomNormal(seed=keras.random.SeedGenerator(3))
    values = [array(drawn((9,))) for _ in range(3)]
    for k, value in enumerate(values):
        assert_array_equal(value, fastinit.random_normal(9, seed=3, stream=k))
    record("generator", values)
    # What cannot be made draws nothing.
    generator = keras.random.SeedGenerator(3)
    with pytest.raises(ValueError, match="at least two-dimensional"):
        fk.Orthogonal(seed=generator)((3,))
    config = fk.RandomNormal(seed=generator).get_config()
    other = fk.RandomNormal.from_config(json.loads(json.dumps(config)))
    assert isinstance(other.seed, keras.random.SeedGenerator)
    assert_array_equal(array(other((9,))), values[0])


# Memory


def address(tensor):
    if BACKEND == "jax":
        return tensor.unsafe_buffer_pointer()
    if BACKEND == "torch":
        return tensor.data_ptr()
    return np.asarray(memoryview(tensor)).ctypes.data


@pytest.mark.parametrize("initializer", [fk.HeNormal(seed=1), fk.HeNormal(seed=1, blocks=2)])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_tensors_share_the_memory_of_arrays(monkeypatch, initializer, dtype):
    from fastinit.keras import _sample

    seen = []
    fill = _sample._Plan.fill

    def spy(*arguments):
        made = fill(*arguments)
        seen.append((made.ctypes.data, weakref.ref(made)))
        return made

    monkeypatch.setattr(_sample._Plan, "fill", spy)
    tensor = initializer((256, 512), dtype)
    ((where, ref),) = seen
    if not (BACKEND in ("numpy", "tensorflow") and dtype == "bfloat16"):  # no buffers of bfloat16
        assert address(tensor) == where
    kept = array(tensor)
    del tensor
    if dtype == "float32" and BACKEND in ("numpy", "torch", "tensorflow"):
        assert ref() is None or BACKEND == "numpy"
    assert np.isfinite(kept.astype(np.float32)).all()


# Tracing


@pytest.mark.skipif(BACKEND != "jax", reason="of JAX")
def test_nothing_is_baked_into_programs():
    import jax

    many = [fk.HeNormal(seed=1), fk.HeNormal(seed=1, blocks=4), fk.Sparse(0.5, seed=1), fk.Orthogonal(seed=1)]
    for initializer in many:
        program = jax.jit(lambda i=initializer: i((256, 256)))
        assert len(program.lower().as_text()) < 50_000  # the values would be 500,000 characters
        assert program().shape == (256, 256)
        assert jax.eval_shape(lambda i=initializer: i((4, 4))).shape == (4, 4)
    for initializer in (fk.Sparse(0.5, seed=2**40 + 1), fk.HeNormal(seed=-1, blocks=2)):
        assert_array_equal(jax.jit(lambda i=initializer: i((8, 8)))(), initializer((8, 8)))
    theirs = keras.initializers.HeNormal(seed=1)
    ours = fk.HeNormal(seed=1)
    assert_array_equal(jax.jit(lambda: ours((8, 8)))(), jax.jit(lambda: theirs((8, 8)))())


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow")
def test_functions_of_tensorflow():
    import tensorflow as tf

    for initializer in (fk.HeNormal(seed=1), fk.Sparse(0.5, seed=1)):
        function = tf.function(lambda i=initializer: i((64, 64))).get_concrete_function()
        assert len(function.graph.as_graph_def().SerializeToString()) < 10_000
        assert function().shape == (64, 64)
    assert_array_equal(function(), fk.Sparse(0.5, seed=1)((64, 64)))
    with tf.device("cpu:0"):
        variable = tf.Variable(fk.HeNormal(seed=1)((64, 64)))
    variable.assign_add(tf.ones((64, 64)))
    assert_array_equal(variable - 1.0 < 2.0, True)


@pytest.mark.skipif(BACKEND != "jax", reason="of JAX")
def test_float64_of_jax():
    import jax

    with jax.enable_x64(True):
        got = fk.HeNormal(seed=1)((8, 8), "float64")
        assert_array_equal(got, fastinit.he_normal((8, 8), seed=1, dtype="float64"))


@pytest.mark.skipif(BACKEND != "jax", reason="of JAX")
@pytest.mark.parametrize("accelerated", [False, True])
def test_sharded_variables(monkeypatch, accelerated):
    import jax

    from fastinit.keras import _sample

    assert jax.device_count() == 4  # requested by `test_keras.py`
    indices = []
    fill = _sample._Plan.fill
    monkeypatch.setattr(
        _sample._Plan, "fill", lambda self, key, index: indices.append(index) or fill(self, key, index)
    )
    mesh = keras.distribution.DeviceMesh((2, 2), ["batch", "model"], keras.distribution.list_devices("cpu"))
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*kernel"] = (None, "model")
    module = reference if accelerated else fk
    initializers = [module.HeNormal(seed=1), module.Orthogonal(seed=1), module.Constant(0.5)]
    if not accelerated:
        initializers += [fk.GlorotUniform(seed=1, blocks=4), fk.Sparse(0.5, seed=1)]
    context = fk.accelerate() if accelerated else warnings.catch_warnings()
    with context:
        for initializer in initializers:
            for dtype in ("float32", "bfloat16"):
                want = array(initializer((6, 8), dtype))
                indices.clear()
                with keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch").scope():
                    dense = layers.Dense(8, kernel_initializer=initializer, dtype=dtype)
                    dense.build((None, 6))
                assert dense.kernel.value.sharding.spec == jax.sharding.PartitionSpec(None, "model")
                kernels = [index for index in indices if index is not None and len(index) == 2]
                assert len(kernels) == 4
                assert all(index[1] != slice(0, 8) for index in kernels)
                assert_array_equal(array(dense.kernel), want)
                assert np.isfinite(array(dense(np.ones((4, 6)))).astype(np.float32)).all()
    named = jax.sharding.NamedSharding(jax.make_mesh((4,), ("x",)), jax.sharding.PartitionSpec("x"))
    got = fk.HeNormal(seed=1)((8, 3), layout=named)
    assert got.sharding == named
    assert_array_equal(got, fastinit.he_normal((8, 3), seed=1))
    assert_array_equal(fk.Ones()((8,), "int32", layout=named), 1)


# Layers


def he(seed):
    return fk.HeUniform(seed=seed)


def some(seed):
    return fk.RandomUniform(0.5, 1.5, seed=seed)


def filled(cls, *arguments, **keywords):
    """A layer with one of our initializers in every slot that it has."""
    slots = [
        name
        for name in inspect.signature(cls).parameters
        if name.endswith("_initializer") and name not in keywords
    ]
    assert slots
    for seed, name in enumerate(slots):
        is_kernel = name.split("_")[0] in ("kernel", "recurrent", "depthwise", "pointwise", "embeddings")
        keywords[name] = (he if is_kernel else some)(seed)
    return cls(*arguments, **keywords)


PLAIN = {"unit_forget_bias": False}
RECURRENT = {"recurrent_kernel": 16, "kernel": 12}

# A layer, the shape of what goes in, and the number of inputs of each kernel by the end of its path. Numbers
# in `vectors` count the others.
LAYERS = {
    "Dense": (lambda: filled(layers.Dense, 32), (24,), {"kernel": 24}, 1),
    "EinsumDense": (
        lambda: filled(layers.EinsumDense, "abc,cde->abde", (None, 4, 8), bias_axes="de"),
        (6, 24),
        {"kernel": 24},
        1,
    ),
    "Embedding": (lambda: filled(layers.Embedding, 50, 16), (7,), {"embeddings": 50}, 0),
    "Conv1D": (lambda: filled(layers.Conv1D, 16, 3), (10, 8), {"kernel": 24}, 1),
    "Conv2D": (lambda: filled(layers.Conv2D, 16, 3), (8, 8, 4), {"kernel": 36}, 1),
    "Conv2D groups": (lambda: filled(layers.Conv2D, 16, 3, groups=2), (8, 8, 4), {"kernel": 18}, 1),
    "Conv3D": (lambda: filled(layers.Conv3D, 8, 2), (4, 4, 4, 4), {"kernel": 32}, 1),
    "SeparableConv1D": (
        lambda: filled(layers.SeparableConv1D, 16, 3, depth_multiplier=2),
        (10, 8),
        {"depthwise_kernel": 24, "pointwise_kernel": 16},
        1,
    ),
    "SeparableConv2D": (
        lambda: filled(layers.SeparableConv2D, 16, 3, depth_multiplier=2),
        (8, 8, 8),
        {"depthwise_kernel": 72, "pointwise_kernel": 16},
        1,
    ),
    # Keras counts the inputs of all channels.
    "DepthwiseConv1D": (
        lambda: filled(layers.DepthwiseConv1D, 3, depth_multiplier=4),
        (10, 8),
        {"kernel": 24},
        1,
    ),
    "DepthwiseConv2D": (
        lambda: filled(layers.DepthwiseConv2D, 3, depth_multiplier=4),
        (8, 8, 8),
        {"kernel": 72},
        1,
    ),
    # Their kernels are (..., out, in), which Keras takes for (..., in, out).
    "Conv1DTranspose": (lambda: filled(layers.Conv1DTranspose, 16, 3), (10, 8), {"kernel": 48}, 1),
    "Conv2DTranspose": (lambda: filled(layers.Conv2DTranspose, 16, 3), (6, 6, 8), {"kernel": 144}, 1),
    "Conv3DTranspose": (lambda: filled(layers.Conv3DTranspose, 8, 2), (3, 3, 3, 4), {"kernel": 64}, 1),
    "LSTM": (lambda: filled(layers.LSTM, 16, **PLAIN), (5, 12), RECURRENT, 1),
    "GRU": (lambda: filled(layers.GRU, 16), (5, 12), RECURRENT, 1),
    "SimpleRNN": (lambda: filled(layers.SimpleRNN, 16), (5, 12), RECURRENT, 1),
    "LSTMCell": (lambda: layers.RNN(filled(layers.LSTMCell, 16, **PLAIN)), (5, 12), RECURRENT, 1),
    "GRUCell": (
        lambda: layers.RNN(filled(layers.GRUCell, 16, reset_after=False)),
        (5, 12),
        RECURRENT,
        1,
    ),
    "SimpleRNNCell": (lambda: layers.RNN(filled(layers.SimpleRNNCell, 16)), (5, 12), RECURRENT, 1),
    "StackedRNNCells": (
        lambda: layers.RNN(
            layers.StackedRNNCells(
                [filled(layers.LSTMCell, 12, **PLAIN), filled(layers.GRUCell, 12, reset_after=False)]
            )
        ),
        (5, 12),
        {"recurrent_kernel": 12, "kernel": 12},
        2,
    ),
    "ConvLSTM1D": (
        lambda: filled(layers.ConvLSTM1D, 8, 3, **PLAIN),
        (4, 10, 6),
        {"recurrent_kernel": 24, "kernel": 18},
        1,
    ),
    "ConvLSTM2D": (
        lambda: filled(layers.ConvLSTM2D, 8, 3, **PLAIN),
        (3, 6, 6, 6),
        {"recurrent_kernel": 72, "kernel": 54},
        1,
    ),
    "ConvLSTM3D": (
        lambda: filled(layers.ConvLSTM3D, 8, 2, **PLAIN),
        (2, 4, 4, 4, 6),
        {"recurrent_kernel": 64, "kernel": 48},
        1,
    ),
    "Bidirectional": (
        lambda: layers.Bidirectional(filled(layers.LSTM, 16, **PLAIN)),
        (5, 12),
        RECURRENT,
        2,
    ),
    "TimeDistributed": (
        lambda: layers.TimeDistributed(filled(layers.Dense, 32)),
        (3, 24),
        {"kernel": 24},
        1,
    ),
    "BatchNormalization": (lambda: filled(layers.BatchNormalization), (4, 32), {}, 4),
    "LayerNormalization": (lambda: filled(layers.LayerNormalization), (4, 32), {}, 2),
    "GroupNormalization": (lambda: filled(layers.GroupNormalization, 4), (4, 32), {}, 2),
    "SpectralNormalization": (
        lambda: layers.SpectralNormalization(filled(layers.Dense, 32)),
        (24,),
        {"kernel": 24},
        1,
    ),
    "PReLU": (lambda: filled(layers.PReLU), (4, 32), {}, 1),
    "MultiHeadAttention": (
        lambda: filled(layers.MultiHeadAttention, 4, 8),
        (5, 20),
        {
            "query/kernel": 20,
            "key/kernel": 20,
            "value/kernel": 20,
            "attention_output/kernel": 32,
        },
        4,
    ),
    "GroupQueryAttention": (
        lambda: filled(layers.GroupQueryAttention, 8, 4, 2),
        (5, 20),
        {
            "query/kernel": 20,
            "key/kernel": 20,
            "value/kernel": 20,
            "attention_output/kernel": 32,
        },
        4,
    ),
}


def model_of(layer, shape, *, name):
    integers = isinstance(layer, layers.Embedding)
    inputs = keras.Input(shape, dtype="int32" if integers else None)
    if isinstance(layer, (layers.MultiHeadAttention, layers.GroupQueryAttention)):
        outputs = layer(inputs, inputs)
    elif isinstance(layer, (layers.Attention, layers.AdditiveAttention)):
        outputs = layer([inputs, inputs])
    else:
        outputs = layer(inputs)
    return keras.Model(inputs, outputs, name=name.replace(" ", "_"))


def data_for(model):
    (inputs,) = model.inputs
    shape = (4, *inputs.shape[1:])
    if inputs.dtype == "int32":
        return (np.arange(np.prod(shape)) % 50).reshape(shape)
    return fastinit.random_normal(shape, 0.0, 1.0, seed=99)


# JAX compiles programs for each model, which takes most of the time of these tests. They do not depend on
# where values come from, so there only these layers are run; the other backends run all.
RUN_ON_JAX = {"Dense", "Embedding", "Conv2D", "LSTM", "BatchNormalization", "MultiHeadAttention"}


def forward_train_save_and_load(model, path, *, runs=True):
    """The life of a model after it was built; of one that is not run, only that it is saved and loaded."""
    data = data_for(model)
    before = weights(model)
    if runs:
        outputs = array(model(data))
        assert np.isfinite(outputs).all()
    if runs and TRAINS:
        options = {} if BACKEND == "jax" else {"jit_compile": False}
        model.compile("sgd", "mse", **options)
        assert np.isfinite(model.train_on_batch(data, np.zeros_like(outputs)))
        changed = [(a != b).any() for a, b in zip(before, weights(model), strict=True)]
        assert any(changed)
    model.save(path)
    loaded = keras.saving.load_model(path)
    for a, b in zip(weights(loaded), weights(model), strict=True):
        assert_array_equal(a, b)
    assert json.dumps(loaded.get_config()) == json.dumps(model.get_config())
    if runs:
        np.testing.assert_allclose(array(loaded(data)), array(model(data)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, tmp_path):
    make, shape, kernels, vectors = LAYERS[name]
    layer = make()
    model = model_of(layer, shape, name=name)
    seen = 0
    for weight in model.weights:
        values = array(weight).ravel().astype(np.float64)
        if weight.path.endswith(("seed_generator_state", "vector_u")):  # SpectralNormalization has its own
            continue
        fan = next((n for end, n in kernels.items() if weight.path.endswith(f"{end}")), None)
        if fan is None:
            low, high = 0.5, 1.5
            seen += 1
        else:
            low, high = -np.sqrt(6 / fan), np.sqrt(6 / fan)
            assert values.size >= 48
            # Theory: the variance is 2 / fan, and that of its estimate for a uniform distribution is 0.8 / n.
            assert abs(values.var() * fan / 2 - 1) < 6.5 * np.sqrt(0.8 / values.size), weight.path
        assert values.min() >= np.float32(low)
        assert values.max() <= np.float32(high)
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > ALPHA, weight.path
    assert seen == vectors
    ends = [end for end in kernels if any(weight.path.endswith(end) for weight in model.weights)]
    assert ends == list(kernels)
    if name != "SpectralNormalization":
        record(name, weights(model))
        clone = keras.models.clone_model(model)
        for a, b in zip(weights(clone), weights(model), strict=True):
            assert_array_equal(a, b)
    runs = BACKEND != "jax" or name in RUN_ON_JAX
    forward_train_save_and_load(model, tmp_path / "model.keras", runs=runs)


@pytest.mark.parametrize("name", ["Attention", "Attention concat", "AdditiveAttention"])
def test_layers_without_slots(name, tmp_path):
    makes = {
        "Attention": lambda: layers.Attention(use_scale=True),
        "Attention concat": lambda: layers.Attention(use_scale=True, score_mode="concat"),
        "AdditiveAttention": lambda: layers.AdditiveAttention(),
    }
    with fk.accelerate(salt=True):
        model = model_of(makes[name](), (5, 32), name=name)
    assert model.weights
    if name == "AdditiveAttention":
        limit = np.sqrt(6 / 64)  # glorot_uniform of a vector of 32
        (scale,) = weights(model)
        assert stats.kstest(scale, stats.uniform(-limit, 2 * limit).cdf).pvalue > ALPHA
    else:
        assert all((weight == 1).all() for weight in weights(model))
    forward_train_save_and_load(model, tmp_path / "model.keras")


def test_layers_rebuild_initializers_of_our_classes():
    attention = layers.MultiHeadAttention(2, 4, kernel_initializer=fk.HeNormal(seed=1))
    attention.build((None, 5, 8), (None, 5, 8))
    want = fastinit.he_normal((8, 2, 4), seed=1, in_axis=0, out_axis=(1, 2))
    assert_array_equal(array(attention.query_dense.kernel), want)


# Recipes


def test_recipe_dense(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((20,)),
            layers.Dense(
                64, activation="relu", kernel_initializer=fk.HeUniform(seed=1), bias_initializer=fk.Zeros()
            ),
            layers.Dense(1, activation="sigmoid", kernel_initializer=fk.GlorotUniform(seed=2)),
        ]
    )
    assert_array_equal(weights(model)[0], fastinit.he_uniform((20, 64), seed=1))
    assert_array_equal(weights(model)[2], fastinit.glorot_uniform((64, 1), seed=2))
    forward_train_save_and_load(model, tmp_path / "model.keras")


def test_recipe_strings(tmp_path):
    with fk.accelerate(salt=True):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [
                keras.Input((20,)),
                layers.Dense(
                    64, activation="relu", kernel_initializer="he_uniform", bias_initializer="zeros"
                ),
                layers.Dense(64, activation="selu", kernel_initializer="lecun_normal"),
                layers.Dense(1, activation="sigmoid", kernel_initializer="glorot_uniform"),
            ],
            name="strings",
        )
    assert stats.kstest(weights(model)[0].ravel() / np.sqrt(6 / 20), stats.uniform(-1, 2).cdf).pvalue > ALPHA
    assert abs(weights(model)[2].std() * 8 - 1) < 6.5 / np.sqrt(2 * 64 * 64)
    forward_train_save_and_load(model, tmp_path / "model.keras")


@pytest.mark.parametrize("unit_forget_bias", [False, True])
def test_recipe_lstm(tmp_path, unit_forget_bias):
    with fk.accelerate():
        model = keras.Sequential(
            [
                keras.Input((6, 32)),
                layers.LSTM(
                    128,
                    kernel_initializer="orthogonal",
                    recurrent_initializer="orthogonal",
                    bias_initializer="zeros",
                    unit_forget_bias=unit_forget_bias,
                ),
            ]
        )
    kernel, recurrent, bias = weights(model)
    for matrix in (kernel, recurrent):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-5)
    assert_array_equal(bias, np.repeat([0.0, float(unit_forget_bias), 0.0, 0.0], 128))
    forward_train_save_and_load(model, tmp_path / "model.keras")


def test_recipe_gates_apart():
    layer = layers.LSTM(16, recurrent_initializer=fk.Orthogonal(seed=1, blocks=4))
    layer.build((None, 5, 8))
    recurrent = array(layer.cell.recurrent_kernel)
    for gate in np.split(recurrent, 4, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(16), atol=1e-5)


def test_recipe_identity(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((6, 8)),
            layers.SimpleRNN(16, activation="relu", recurrent_initializer=fk.Identity(0.9)),
        ]
    )
    assert_array_equal(weights(model)[1], np.float32(0.9) * np.eye(16, dtype=np.float32))
    forward_train_save_and_load(model, tmp_path / "model.keras")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow")
def test_recipe_tf_keras():
    import tensorflow as tf

    model = tf.keras.Sequential(
        [
            tf.keras.Input((20,)),
            tf.keras.layers.Dense(16, kernel_initializer=fk.GlorotNormal()),
            tf.keras.layers.Dense(16, kernel_initializer=fk.GlorotUniform()),
        ]
    )
    with fk.accelerate():
        accelerated = tf.keras.layers.Dense(8, kernel_initializer=tf.keras.initializers.GlorotNormal(seed=1))
        accelerated.build((None, 8))
    assert model(tf.ones((2, 20))).shape == (2, 16)
    assert_array_equal(accelerated.kernel, fastinit.glorot_normal((8, 8), seed=1))


# Accelerate


def state():
    """What acceleration may leave a trace in."""
    classes = [cls for cls in vars(reference).values() if isinstance(cls, type)]
    return [dict(vars(cls)) for cls in [*classes, keras.Variable, *keras.Variable.__mro__]]


def test_accelerate_samples_all_kinds():
    strings = {"he_normal": fastinit.he_normal, "GlorotUniform": fastinit.glorot_uniform}
    made_before = reference.HeNormal(seed=1)
    with fk.accelerate():
        assert_array_equal(array(made_before((8, 8))), fastinit.he_normal((8, 8), seed=1))
        for name, function in strings.items():
            initializer = reference.get({"class_name": name, "config": {"seed": 1}})
            assert_array_equal(array(initializer((8, 8))), function((8, 8), seed=1))
            unseeded = reference.get(name)
            assert_array_equal(array(unseeded((8, 8))), function((8, 8), seed=unseeded.seed))
        dense = layers.Dense(8)
        dense.build((None, 8))
        default = dense.kernel_initializer
        assert type(default) is reference.GlorotUniform
        assert_array_equal(array(dense.kernel), fastinit.glorot_uniform((8, 8), seed=default.seed))
    assert not (array(made_before((8, 8))) == fastinit.he_normal((8, 8), seed=1)).all()


def test_subclasses_are_sampled_too():
    class Twice(reference.HeNormal):
        def __call__(self, shape, dtype=None):
            return 2.0 * super().__call__(shape, dtype)

    class Mine(reference.RandomNormal):
        pass

    with fk.accelerate():
        assert_array_equal(array(Twice(seed=1)((4, 4))), 2 * fastinit.he_normal((4, 4), seed=1))
        assert_array_equal(array(Mine(seed=1)((4, 4))), fastinit.random_normal((4, 4), seed=1))
        own = layers.Dense(4, kernel_initializer=lambda shape, dtype=None: keras.ops.ones(shape, dtype))
        own.build((None, 4))
    assert_array_equal(array(own.kernel), 1)


def test_accelerate_leaves_no_trace():
    before = state()
    with fk.accelerate(), fk.accelerate(salt=True):
        inside = state()
    assert inside != before
    assert state() == before
    with pytest.raises(RuntimeError, match="stop"), fk.accelerate():
        raise RuntimeError("stop")
    assert state() == before
    fk.enable()
    fk.enable(salt=True)
    with fk.accelerate():
        pass
    assert state() != before
    fk.disable()
    fk.disable()
    assert state() == before

    @fk.accelerate()
    def build():
        return array(reference.HeNormal(seed=1)((4, 4)))

    assert_array_equal(build(), fastinit.he_normal((4, 4), seed=1))
    assert state() == before


def test_accelerate_leaves_the_changes_of_others():
    def mine(*_):
        return None

    theirs = reference.Ones.__call__
    with fk.accelerate():
        reference.Ones.__call__ = mine
    try:
        assert reference.Ones.__call__ is mine
    finally:
        reference.Ones.__call__ = theirs


def test_methods_that_others_replace():
    theirs, before = reference.HeNormal.__call__, state()

    def mine(self, shape, dtype=None):
        return mine.inner(self, shape, dtype) + 1

    def sample():
        return array(reference.HeNormal(seed=1)((4, 4)))

    ours, keras_own = fastinit.he_normal((4, 4), seed=1), sample()
    owner = reference.VarianceScaling
    assert owner.__call__ is theirs
    mine.inner, owner.__call__ = theirs, mine  # before: it stays in place, with what it calls
    try:
        with fk.accelerate():
            assert owner.__call__ is mine
            assert_array_equal(array(reference.RandomNormal(seed=1)((4,))), fastinit.random_normal(4, seed=1))
    finally:
        owner.__call__ = theirs
    assert state() == before
    with fk.accelerate():  # inside: what it calls is ours, for as long as there is a context
        mine.inner, owner.__call__ = owner.__call__, mine
        assert_array_equal(sample(), ours + 1)
    assert_array_equal(sample(), keras_own + 1)
    owner.__call__ = mine.inner  # restored as it was found
    assert_array_equal(sample(), keras_own)
    with fk.accelerate():
        assert_array_equal(sample(), ours)
    assert state() == before


def test_contexts_left_in_another_order():
    before = state()
    first, second = fk.accelerate(salt=True), fk.accelerate()
    first.__enter__()
    second.__enter__()
    assert fk._accelerate._salt() is False
    first.__exit__(None, None, None)
    assert fk._accelerate._salt() is False
    assert_array_equal(array(reference.HeNormal(seed=1)((4, 4))), fastinit.he_normal((4, 4), seed=1))
    second.__exit__(None, None, None)
    assert state() == before
    # The outer one decides again where the inner one is left first, and `enable` where all are.
    fk.enable(salt=True)
    first, second = fk.accelerate(), fk.accelerate(salt=True)
    first.__enter__()
    fk.enable(salt=True)
    second.__enter__()
    assert fk._accelerate._salt() is True
    second.__exit__(None, None, None)
    assert fk._accelerate._salt() is False
    first.__exit__(None, None, None)
    assert fk._accelerate._salt() is True
    fk.disable()
    assert state() == before


def in_thread(call):
    """What a call returns in another thread."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("end", ["close", "next", "delete"])
def test_generators_that_end_in_another_thread(end):
    before = state()

    def layers_of(count):
        with fk.accelerate():
            for _ in range(count):
                yield array(reference.HeNormal(seed=1)((4, 4)))

    def finish():
        # The thread that ends it has a context of its own, which it keeps.
        with fk.accelerate(salt=True):
            if end == "next":
                with pytest.raises(StopIteration):
                    next(made.pop())
            elif end == "close":
                made.pop().close()
            else:
                made.pop()
            inside = fk._accelerate._salt()
        return inside, fk._accelerate._salt()

    made = [layers_of(1)]
    assert_array_equal(next(made[0]), fastinit.he_normal((4, 4), seed=1))
    assert fk._accelerate._salt() is False
    assert in_thread(fk._accelerate._salt) is None
    assert in_thread(finish) == (True, None)
    assert fk._accelerate._salt() is None
    assert state() == before
    # One that a thread has begun which is gone does not affect other threads, old or new.
    made = [layers_of(1)]
    in_thread(lambda: next(made[0]))
    assert fk._accelerate._salt() is None
    for _ in range(20):
        assert in_thread(fk._accelerate._salt) is None
    made.pop().close()
    assert state() == before


def test_threads_that_enter_and_leave_at_the_same_time():
    before, ours = state(), fastinit.he_normal((4, 4), seed=1)
    plain = array(reference.HeNormal(seed=1)((4, 4)))
    interval = sys.getswitchinterval()
    barrier, wrong = threading.Barrier(8), []

    def work():
        barrier.wait()
        for _ in range(30):
            with fk.accelerate():
                inside = array(reference.HeNormal(seed=1)((4, 4)))
            outside = array(reference.HeNormal(seed=1)((4, 4)))
            if (inside != ours).any() or (outside != plain).any():
                wrong.append((inside, outside))

    threads = [threading.Thread(target=work) for _ in range(8)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
    assert state() == before


def test_replaced_methods_have_the_source_of_the_original():
    methods = [reference.HeNormal.__call__, reference.Ones.__call__, getattr(keras.Variable, INITIALIZE)]
    sources = [inspect.getsource(method) for method in methods]
    parameters = [list(inspect.signature(method).parameters) for method in methods]
    with fk.accelerate():
        ours = [reference.HeNormal.__call__, reference.Ones.__call__, getattr(keras.Variable, INITIALIZE)]
        assert not set(ours) & set(methods)
        assert [inspect.getsource(method) for method in ours] == sources
        # Keras passes a layout to initializers that have such a parameter.
        expected = [*([*found, "layout"] for found in parameters[:2]), parameters[2]]
        assert [list(inspect.signature(method).parameters) for method in ours] == expected
        assert list(inspect.signature(reference.HeNormal()).parameters) == ["shape", "dtype", "layout"]


def test_threads():
    ours = fastinit.he_normal((4, 4), seed=1)
    inside, done = threading.Event(), threading.Event()
    seen = []

    def other():
        inside.wait(10)
        seen.append(array(reference.HeNormal(seed=1)((4, 4))))
        with fk.accelerate():
            seen.append(array(reference.HeNormal(seed=1)((4, 4))))
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with fk.accelerate():
        inside.set()
        assert done.wait(30)
        assert_array_equal(array(reference.HeNormal(seed=1)((4, 4))), ours)
    thread.join()
    assert not (seen[0] == ours).all()
    assert_array_equal(seen[1], ours)
    fk.enable()
    try:
        found = []
        thread = threading.Thread(target=lambda: found.append(array(reference.HeNormal(seed=1)((4, 4)))))
        thread.start()
        thread.join()
        assert_array_equal(found[0], ours)
    finally:
        fk.disable()


def shared(initializer, name):
    return keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(16, kernel_initializer=initializer, name="first"),
            layers.Dense(16, kernel_initializer=initializer, name="second"),
        ],
        name=name,
    )


@pytest.mark.parametrize("module", [reference, fk], ids=["keras", "fastinit"])
def test_salt(module):
    with fk.accelerate(salt=True):
        model = shared(module.HeNormal(seed=1), "salted")
        again = shared(module.HeNormal(seed=1), "salted")
        attention = layers.MultiHeadAttention(2, 8, kernel_initializer=module.HeNormal(seed=1), name="mha")
        attention.build((None, 5, 16), (None, 5, 16))
        generated = shared(module.HeNormal(seed=keras.random.SeedGenerator(1)), "generated")
        lstm = layers.LSTM(4, bias_initializer=module.RandomNormal(seed=1), name="lstm")
        lstm.build((None, 5, 16))
    first, second = weights(model)[::2]
    assert not (first == second).any()
    paths = [weight.path for weight in model.weights[::2]]
    assert len(set(paths)) == 2
    for path, values in zip(paths, (first, second), strict=True):
        assert_array_equal(values, fastinit.he_normal((16, 16), seed=1, stream=path))
    for a, b in zip(weights(model), weights(again), strict=True):
        assert_array_equal(a, b)
    record("salted", [first, second])
    kernels = [array(dense.kernel) for dense in (attention.query_dense, attention.key_dense)]
    assert not (kernels[0] == kernels[1]).any()
    assert_array_equal(weights(generated)[0], fastinit.he_normal((16, 16), seed=1))
    assert_array_equal(weights(generated)[2], fastinit.he_normal((16, 16), seed=1, stream=1))
    bias = array(lstm.cell.bias)  # made of three parts; the second is ones
    path = lstm.cell.bias.path
    assert_array_equal(bias[:4], fastinit.random_normal(4, seed=1, stream=path))
    assert_array_equal(bias[4:8], 1)
    rest = fastinit.random_normal(8, seed=1, stream=fastinit.block_stream(path, 1))
    assert_array_equal(bias[8:], rest)


def test_repetition_warns_once():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shared(fk.HeNormal(seed=1), "plain")  # as in Keras, which says nothing
        with fk.accelerate():
            for seed in (1, 2):
                shared(reference.HeNormal(seed=keras.random.SeedGenerator(seed)), f"generated{seed}")
            shared("he_normal", "strings")
            shared("zeros", "constants")
            keras.Sequential([keras.Input((8,)), layers.Dense(8), layers.Dense(8)])
    with fk.accelerate():
        for number, initializer in enumerate([reference.HeNormal(seed=1), fk.HeNormal(), fk.Sparse(0.5)]):
            with pytest.warns(UserWarning, match=r"first/kernel'.*SeedGenerator.*salt=True") as seen:
                shared(initializer, f"repeated{number}")
            assert [warning.filename for warning in seen] == [__file__]  # the user's, not Keras's
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                shared(initializer, f"repeated{number}")
        attention = layers.MultiHeadAttention(2, 8, kernel_initializer=reference.HeNormal(seed=1))
        with pytest.warns(UserWarning, match="key/kernel' the same values as '.*query/kernel'"):
            attention.build((None, 5, 16), (None, 5, 16))


def test_weights_made_later():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(8, kernel_initializer=fk.Sparse(0.5, seed=1))

        def call(self, x):
            return self.dense(x)

    model = Model()
    # The shapes of outputs are inferred, and weights made, in a scope where there are no values yet.
    assert model(keras.Input((8,))).shape == (None, 8)
    model = Model()
    with fk.accelerate(salt=True):
        assert model(np.ones((2, 8), np.float32)).shape == (2, 8)
    assert (array(model.dense.kernel) == 0).sum() == 32
