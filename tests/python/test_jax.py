"""`fastinit.jax` against `jax.nn.initializers`: names, signatures, results, distributions, errors, keys.

Statistical tests use fixed seeds. Two samples are compared by the Kolmogorov-Smirnov statistic: a limit of
1e-4 for each of some 60 comparisons would be a false alarm in 0.6 % of choices of seeds.
"""

import inspect
import warnings

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("ml_dtypes")
stats = pytest.importorskip("scipy.stats")

import jax.numpy as jnp  # noqa: E402
from jax.nn import initializers as peers  # noqa: E402

import fastinit  # noqa: E402
import fastinit.jax as ours  # noqa: E402

KEY = jax.random.key(7)
NAMES = sorted(name for name in dir(peers) if not name.startswith("_"))
FACTORIES = [name for name in NAMES if name not in ("zeros", "ones", "Initializer")]
SCALINGS = [name for name in FACTORIES if "_uniform" in name or name.endswith("_normal")]
SCALINGS.remove("truncated_normal")
# Arguments of factories, the shape, and what of the core makes the same.
CASES = [
    ("uniform", (), (40, 60), fastinit.RandomUniform(0.0, 0.01)),
    ("uniform", (3.0,), 2000, fastinit.RandomUniform(0.0, 3.0)),
    ("normal", (), (40, 60), fastinit.RandomNormal(0.0, 0.01)),
    ("normal", (np.float32(2.0),), (2000,), fastinit.RandomNormal(0.0, 2.0)),
    ("normal", (jnp.array(2.0),), (2000,), fastinit.RandomNormal(0.0, 2.0)),
    ("truncated_normal", (), (40, 60), fastinit.TruncatedNormal(0.0, 0.01)),
    ("truncated_normal", (2.0, None, -1.0, 3.0), [40, 60], fastinit.TruncatedNormal(0.0, 2.0, -1.0, 3.0)),
    ("variance_scaling", (2.0, "fan_in", "normal"), (40, 60), fastinit.VarianceScaling(2.0, "fan_in",
    "untruncated_normal")), ("variance_scaling", (0.3, "fan_geo_avg", "uniform"), (40, 60),
    fastinit.VarianceScaling(0.3, "fan_geo_avg", "uniform")), (
        "variance_scaling",
        (1.0, "fan_out", "truncated_normal", (0, 1), 3, 2),
        (4, 5, 6, 30),
        fastinit.VarianceScaling(1.0, "fan_out", in_axis=(0, 1), out_axis=3, batch_axis=2),
    ),
    ("variance_scaling", (1.0, "fan_in", "uniform", [], []), (50, 40), fastinit.VarianceScaling(1.0, "fan_in",
    "uniform", in_axis=(), out_axis=())), ("variance_scaling", (1.0, "fan_in", "normal", 0, ()), (2000,),
    fastinit.VarianceScaling(1.0, "fan_in", "untruncated_normal", in_axis=0, out_axis=())), ("glorot_normal",
    (), (3, 3, 16, 20), fastinit.GlorotNormal()), ("glorot_uniform", (), (3, 3, 16, 20),
    fastinit.GlorotUniform()), ("he_normal", (), (3, 3, 16, 20), fastinit.HeNormal()),
    ("he_uniform", (0, 1), (50, 40), fastinit.HeUniform(in_axis=0, out_axis=1)),
    ("he_normal", (-1, -2), (50, 40), fastinit.HeNormal(in_axis=-1, out_axis=-2)),
    ("lecun_normal", (-2, -1, (0, 1)), (3, 3, 16, 20), fastinit.LecunNormal(batch_axis=(0, 1))),
    ("lecun_uniform", (), (np.int64(40), 60), fastinit.LecunUniform()),
    ("orthogonal", (), (40, 60), fastinit.Orthogonal()),
    ("orthogonal", (2.0, 0), (60, 5, 8), fastinit.Orthogonal(2.0, column_axis=0)),
    ("delta_orthogonal", (), (3, 3, 16, 20), fastinit.DeltaOrthogonal()),
    ("delta_orthogonal", (0.5, -2), (3, 16, 20), fastinit.DeltaOrthogonal(0.5)),
]  # fmt: skip
IDS = [f"{name} {arguments}" for name, arguments, _, _ in CASES]


def test_version_is_said(record_property):
    record_property("jax", jax.__version__)
    print("JAX", jax.__version__)


def test_every_name_is_there():
    assert set(NAMES) <= set(ours.__all__)
    assert ours.zeros_init() is peers.zeros
    assert ours.ones_init() is peers.ones
    assert isinstance(ours.he_normal(), peers.Initializer)


@pytest.mark.parametrize("module", ["flax.linen.initializers", "flax.nnx.initializers"])
def test_every_name_of_flax_is_there(module):
    package, _, name = module.rpartition(".")
    initializers = getattr(pytest.importorskip(package), name)
    public = {one for one, value in vars(initializers).items() if inspect.isfunction(value)}
    assert public <= set(ours.__all__)


@pytest.mark.parametrize("name", FACTORIES)
def test_signatures_are_those_of_jax(name):
    def parameters(function):
        return [(one.name, one.default, one.kind) for one in inspect.signature(function).parameters.values()]

    assert parameters(getattr(ours, name)) == parameters(getattr(peers, name))
    arguments = (
        (1.0, "fan_in", "uniform") if name == "variance_scaling" else (1.0,) if name == "constant" else ()
    )
    made = [getattr(module, name)(*arguments, dtype=jnp.bfloat16) for module in (ours, peers)]
    assert parameters(made[0]) == parameters(made[1])


@pytest.mark.parametrize(("name", "arguments", "shape", "core"), CASES, ids=IDS)
def test_values_are_those_of_the_core(name, arguments, shape, core):
    result = getattr(ours, name)(*arguments)(KEY, shape)
    np.testing.assert_array_equal(np.asarray(result), core(shape, seed=7))


@pytest.mark.parametrize(("name", "arguments", "shape"), [case[:3] for case in CASES], ids=IDS)
def test_results_are_like_those_of_jax(name, arguments, shape):
    result = getattr(ours, name)(*arguments)(KEY, shape)
    expected = getattr(peers, name)(*arguments)(KEY, shape)
    assert (result.shape, result.dtype, result.weak_type) == (
        expected.shape,
        expected.dtype,
        expected.weak_type,
    )
    assert (result.devices(), result.committed) == (expected.devices(), expected.committed)
    if "orthogonal" not in name:
        values = [np.asarray(one, np.float64).ravel() for one in (result, expected)]
        assert stats.ks_2samp(*values).pvalue > 1e-4
        assert np.std(values[0]) == pytest.approx(np.std(values[1]), rel=0.07)  # four standard errors


@pytest.mark.parametrize("dtype", ["float32", jnp.bfloat16, "float16", float, np.float64, jnp.float8_e5m2])
@pytest.mark.parametrize(("name", "arguments", "shape"), [case[:3] for case in CASES], ids=IDS)
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
def test_dtypes_are_those_of_jax(name, arguments, shape, dtype):
    result = getattr(ours, name)(*arguments)(KEY, shape, dtype)
    if "orthogonal" in name and result.dtype.itemsize < 4:  # JAX cannot factorize it
        assert result.dtype == dtype
    else:
        expected = jax.eval_shape(lambda: getattr(peers, name)(*arguments)(KEY, shape, dtype))
        assert (result.shape, result.dtype, result.weak_type) == (
            expected.shape,
            expected.dtype,
            expected.weak_type,
        )


@pytest.mark.parametrize("dtype", [jnp.complex64, jnp.int32, bool])
@pytest.mark.parametrize("name", FACTORIES)
def test_other_dtypes_are_jax_s(name, dtype):
    arguments = {"variance_scaling": (1.0, "fan_in", "uniform"), "constant": (1.0,)}.get(name, ())
    assert outcome(ours, name, arguments, KEY, (3, 4, 5), dtype) == outcome(
        peers, name, arguments, KEY, (3, 4, 5), dtype
    )


def outcome(module, name, arguments, *call, **options):
    """The values, or the error, and the warnings; and whether the initializer could be made."""
    made = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            initializer = getattr(module, name)(*arguments)
            made = True
            result = np.asarray(initializer(*call, **options)).tolist()
        except Exception as error:
            result = type(error), str(error)
    return made, result, [(one.category, str(one.message)) for one in caught]


# What fastinit refuses, and what JAX does; calls that JAX refuses.
ODD = [
    ("normal", (0.0,), (KEY, (3,))),
    ("normal", (-1.0,), (KEY, (3,))),
    ("normal", (np.nan,), (KEY, (3,))),
    ("normal", ("x",), (KEY, (3,))),
    ("normal", (1e-45,), (KEY, (3,))),
    ("uniform", (-1.0,), (KEY, (3,))),
    ("uniform", (0.0,), (KEY, (3,))),
    ("truncated_normal", (1.0, None, 2.0, 1.0), (KEY, (3,))),
    ("truncated_normal", (1.0, None, 1.0, 1.0), (KEY, (3,))),
    ("variance_scaling", (1.0, "bad", "normal"), (KEY, (3, 4))),
    ("variance_scaling", (1.0, "fan_in", "bad"), (KEY, (3, 4))),
    ("variance_scaling", (1.0, "fan_in", "untruncated_normal"), (KEY, (3, 4))),
    ("variance_scaling", (1.0, "FAN_IN", "normal"), (KEY, (3, 4))),
    ("variance_scaling", (-1.0, "fan_in", "normal"), (KEY, (3, 4))),
    ("variance_scaling", (0.0, "fan_in", "normal"), (KEY, (3, 4))),
    ("variance_scaling", (1.0, "fan_in", "normal", 5), (KEY, (3, 4))),
    ("variance_scaling", (1.0, "fan_in", "normal", None), (KEY, (3, 4))),
    ("he_normal", (), (KEY, (3,))),
    ("he_normal", (), (KEY, ())),
    ("he_normal", (), (KEY, (0, 3))),
    ("he_normal", (), (KEY, (3, 0))),
    ("normal", (), (KEY, (0,))),
    ("normal", (), (KEY, (2.0, 3))),
    ("normal", (), (KEY, (2, 3.0))),
    ("normal", (), (KEY, (-1, 3))),
    ("normal", (), (KEY, "x")),
    ("normal", (), (KEY, None)),
    ("normal", (), (KEY, (3,), "nonsense")),
    ("normal", (), (KEY, (3,), "float64")),
    ("lecun_normal", (), (KEY, (3, 4), np.float64)),
    ("normal", (), (None, (3,))),
    ("he_normal", (), (7, (3, 4))),
    ("normal", (), (jax.random.split(KEY), (3,))),
    ("uniform", (), (jnp.zeros(3, jnp.uint32), (3,))),
    ("uniform", (), (jnp.zeros(2, jnp.int32), (3,))),
    ("orthogonal", (), (KEY, (3,))),
    ("orthogonal", (), (KEY, (3, 0))),
    ("orthogonal", (1.0, 2), (KEY, (3, 4))),
    ("orthogonal", (), (KEY, (3, 4), jnp.int32)),
    ("delta_orthogonal", (), (KEY, (3, 4))),
    ("delta_orthogonal", (), (KEY, (3, 4, 3))),
]


@pytest.mark.parametrize(
    ("name", "arguments", "call"), ODD, ids=[f"{case[:2]} {case[2][1:]}" for case in ODD]
)
def test_what_is_refused_is_what_jax_refuses(name, arguments, call):
    # Twice, since some of it is remembered.
    for _ in range(2):
        expected = outcome(peers, name, arguments, *call)
        found = outcome(ours, name, arguments, *call)
        if call[2:] in (("float64",), (np.float64,)):  # The values are those of fastinit.
            expected, found = expected[::2], found[::2]
        np.testing.assert_equal(found, expected)


@pytest.mark.parametrize("first", [(2, 3), (2, True)])
def test_shapes_that_are_equal_but_wrong_are_not_remembered(first):
    initializer = ours.normal()
    assert initializer(KEY, (2, 3)).shape == (2, 3)
    assert initializer(KEY, (2, 1)).shape == (2, 1)
    with pytest.raises(TypeError):
        initializer(KEY, (2.0, 3))
    assert initializer(KEY, first).shape == tuple(map(int, first))


KINDS = [
    jax.random.key(7),
    jax.random.PRNGKey(7),
    jax.random.key(7, impl="rbg"),
    jax.random.key(7, impl="unsafe_rbg"),
    np.array([0, 7], np.uint32),
]


@pytest.mark.parametrize("key", KINDS, ids=["typed", "legacy", "rbg", "unsafe_rbg", "numpy"])
def test_keys_of_every_kind(key):
    assert np.array_equal(ours.he_normal()(key, (8, 6)), fastinit.he_normal((8, 6), seed=7))


def test_different_keys_have_different_values():
    for impl in ("threefry2x32", "rbg", "unsafe_rbg"):
        keys = jax.random.split(jax.random.key(7, impl=impl), 8)
        found = {np.asarray(ours.normal()(key, (4,))).tobytes() for key in keys}
        assert len(found) == 8


def test_x64():
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        initializer = ours.he_normal()
        result = initializer(jax.random.key(7), (8, 6))
        assert result.dtype == np.float64
        assert np.array_equal(result, fastinit.he_normal((8, 6), seed=7, dtype="float64"))
        assert initializer(jax.random.key(7), (8, 6), np.float32).dtype == np.float32
        assert ours.orthogonal()(jax.random.key(7), (8, 6)).dtype == np.float64
    assert initializer(KEY, (8, 6)).dtype == np.float32


def test_eight_bits_are_single_precision_rounded_once():
    for dtype in (jnp.float8_e4m3fn, jnp.float8_e5m2):
        result = ours.normal(1.0)(KEY, (1000,), dtype)
        expected = fastinit.random_normal(1000, 0.0, 1.0, seed=7).astype(dtype)
        assert np.array_equal(np.asarray(result).view(np.uint8), expected.view(np.uint8))


def test_bfloat16_has_tails_and_many_values():
    found = np.asarray(ours.normal(1.0)(KEY, (2**20,), jnp.bfloat16)).astype(np.float32)
    assert np.abs(found).max() > 4.5  # 7e-6 of such samples have none: 2**20 * 6.8e-6 are expected beyond
    assert len(np.unique(found)) > 1500


@pytest.mark.parametrize("name", ["normal", "uniform", "truncated_normal", "orthogonal"])
def test_traced_scales_multiply_samples_of_scale_one(name):
    whole = jax.jit(lambda scale: getattr(ours, name)(scale)(KEY, (8, 6)))(3.0)
    np.testing.assert_allclose(whole, getattr(ours, name)(3.0)(KEY, (8, 6)), rtol=3e-7)


def test_traced_scale_of_variance_scaling():
    def make(scale):
        return ours.variance_scaling(scale, "fan_in", "normal")(KEY, (8, 6))

    np.testing.assert_allclose(jax.jit(make)(3.0), make(3.0), rtol=3e-7)


def test_scales_as_arrays_keep_the_dtype():
    for scale in (jnp.array(0.5), np.float64(0.5), np.array(0.5)):
        assert ours.normal(scale)(KEY, (3,), jnp.bfloat16).dtype == jnp.bfloat16


def test_sharded_results():
    mesh = jax.make_mesh((1,), ("x",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x", None))
    for name in ("normal", "he_normal", "orthogonal"):
        try:
            result = getattr(ours, name)()(KEY, (8, 6), out_sharding=sharding)
        except Exception as error:  # meshes with automatic axes, in some versions
            with pytest.raises(type(error)):
                peers.normal()(KEY, (8, 6), out_sharding=sharding)
            continue
        assert np.array_equal(result, getattr(ours, name)()(KEY, (8, 6)))
    for wrong in (jax.sharding.PartitionSpec("x"), "x"):
        expected = outcome(peers, "normal", (), KEY, (8, 6), out_sharding=wrong)
        assert outcome(ours, "normal", (), KEY, (8, 6), out_sharding=wrong) == expected


def test_import_starts_no_backend_and_fastinit_loads_no_jax(python):
    program = """
        import sys
        import fastinit
        print("jax" in sys.modules)
        import fastinit.jax
        from jax._src import xla_bridge
        print(bool(xla_bridge._backends))
    """
    assert python(program) == "False\nFalse\n"


@pytest.mark.parametrize("mode", ["warn", "error", "allow"])
@pytest.mark.parametrize("name", ["he_normal", "normal", "uniform", "truncated_normal"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_double_precision_without_x64_is_as_jax_says(mode, name, dtype):
    if not hasattr(jax.config, "jax_explicit_x64_dtypes"):
        pytest.skip(f"JAX {jax.__version__} does not have jax_explicit_x64_dtypes")

    def outcome(module):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                result = str(getattr(module, name)()(jax.random.key(7), (4, 8), np.dtype(dtype)).dtype)
            except (TypeError, ValueError) as error:
                result = type(error)
            return result, {one.category for one in caught}

    before = jax.config.jax_explicit_x64_dtypes
    jax.config.update("jax_explicit_x64_dtypes", mode)
    try:
        assert outcome(ours) == outcome(peers)
    finally:
        jax.config.update("jax_explicit_x64_dtypes", before)
