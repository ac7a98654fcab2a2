"""`fastinit.jax.initialize`: names, rules, shardings, the report; and that each array has the distribution of
the model alone.

Two samples are compared by the Kolmogorov-Smirnov statistic at fixed seeds; a limit of 1e-5 for each of some
40 comparisons would be a false alarm in 0.04 % of choices of seeds.
"""

import re

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("ml_dtypes")
stats = pytest.importorskip("scipy.stats")

import jax.numpy as jnp  # noqa: E402

import fastinit  # noqa: E402
import fastinit.jax as fj  # noqa: E402

KEY = jax.random.key(0)


def linen_model():
    nn = pytest.importorskip("flax.linen")

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            x = x + nn.MultiHeadDotProductAttention(4, qkv_features=32)(nn.LayerNorm()(x))
            return x + nn.Dense(32)(nn.gelu(nn.Dense(64)(x))), None

    class Model(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            x = nn.Embed(50, 32, param_dtype=jnp.bfloat16)(tokens).astype(jnp.float32)
            x = nn.remat(Block)()(x, None)[0]
            layers = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
            x = layers(name="layers")(x, None)[0]
            x = nn.BatchNorm(use_running_average=True)(nn.Conv(16, (3,), strides=2)(x))
            rate = self.param("rate", lambda _, shape: jnp.log(jnp.arange(1.0, 1 + shape[0])), (16,))
            return nn.Dense(7, kernel_init=nn.initializers.orthogonal(0.5))(x * rate)

    return Model().init, (KEY, jnp.zeros((1, 8), int))


def nnx_model():
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            @nnx.split_rngs(splits=5)
            @nnx.vmap(in_axes=(0,), out_axes=0)
            def layers(rngs):
                return nnx.Linear(20, 30, rngs=rngs, kernel_init=nnx.initializers.he_uniform())

            self.layers = layers(rngs)
            self.norm = nnx.BatchNorm(30, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(4, 32, 32, rngs=rngs, decode=False)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
            self.conv = nnx.Conv(3, 16, (3, 3), rngs=rngs, param_dtype=jnp.bfloat16)

    return (lambda: Model(nnx.Rngs(0))), ()


def haiku_model():
    hk = pytest.importorskip("haiku")

    def network(x):
        x = hk.nets.MLP([32, 64])(x)
        x = hk.experimental.layer_stack(3)(lambda x: hk.Linear(64)(x))(x)
        return hk.Linear(5, w_init=hk.initializers.RandomNormal(0.3, 1.0))(x)

    return hk.transform(network).init, (KEY, jnp.ones((1, 16)))


def equinox_model():
    eqx = pytest.importorskip("equinox")

    def make(key):
        keys = jax.random.split(key, 3)
        stacked = eqx.filter_vmap(lambda key: eqx.nn.Linear(20, 30, key=key))(keys)
        return {
            "mlp": eqx.nn.MLP(16, 4, 32, 2, key=key),
            "layers": stacked,
            "gru": eqx.nn.GRUCell(8, 16, key=key),
        }

    return make, (KEY,)


def plain_model():
    def make(key):
        one, two = jax.random.split(key)
        init = jax.jit(lambda key: jax.random.normal(key, (20, 30)) * 0.1)
        weight = init(one)
        return {
            "weight": weight,
            "weight_t": weight.T,
            "other": init(two),
            "ours": fj.he_normal()(one, (6, 7, 8)).transpose(2, 0, 1),
            "shifted": 1.0 - 2 * jax.random.uniform(two, (300,), minval=-1.0),
            "truncated": -jax.random.truncated_normal(one, -1.0, 3.0, (300,)) / 4 + 0.5,
            "norm": jnp.linalg.norm(weight, axis=0),
            "gumbel": jax.random.gumbel(two, (300,)),
            "half": jnp.full((100, 100), 0.5, jnp.bfloat16),
            "counter": jnp.zeros((), jnp.int32),
        }

    return make, (KEY,)


MODELS = [linen_model, nnx_model, haiku_model, equinox_model, plain_model]


def arrays_of(tree):
    """All arrays of a model by their names; keys are left out."""
    nnx = pytest.importorskip("flax.nnx")
    if isinstance(tree, nnx.Module):
        tree = nnx.split(tree)[1]
    named = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        re.sub(r"^params\.|\.value$", "", jax.tree_util.keystr(path, simple=True, separator=".")): value
        for path, value in named
        if isinstance(value, jax.Array) and not jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
    }


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: model.__name__)
def case(request):
    function, arguments = request.param()
    return function, arguments, *fj.initialize(function, *arguments, seed=3)


def test_every_array_has_the_distribution_of_the_model(case):
    function, arguments, made, _ = case
    found, expected = arrays_of(made), arrays_of(function(*arguments))
    assert jax.tree.structure(made) == jax.tree.structure(function(*arguments))
    assert list(found) == list(expected)
    for name, value in found.items():
        other = expected[name]
        assert (value.shape, value.dtype) == (other.shape, other.dtype), name
        first, second = (np.asarray(one).astype(np.float64).ravel() for one in (value, other))
        if first.size < 20 or np.ptp(second) == 0:
            assert np.ptp(second) > 0 or np.array_equal(first, second), name
        else:
            assert stats.ks_2samp(first, second).pvalue > 1e-5, name


def test_every_array_is_what_its_row_says(case):
    _, _, made, report = case
    found = arrays_of(made)
    assert {row.name for row in report.rows} >= set(found)
    for row in report.rows:
        if row.initializer is None:
            assert row.name in report.computed
            continue
        value = np.asarray(found[row.name])
        key = {"seed": 3, "stream": row.name, "dtype": value.dtype}
        if value.shape[:1] in ((3,), (5,)) and ("layer" in row.name) and row.distribution != "constant":
            for number, part in enumerate(value):
                if part.size == 0 or "Attention" in row.name:
                    continue
                stream = fastinit.block_stream(row.name, number)
                expected = row.initializer(part.shape, **{**key, "stream": stream})
                assert np.array_equal(part, expected), row.name
        elif row.name not in ("weight_t", "ours") and row.distribution != "orthogonal":
            expected = row.initializer(value.shape, **key)
            assert np.array_equal(value, expected), row.name


def test_what_is_computed_is_listed():
    expected = {
        linen_model: {"rate"},
        nnx_model: {"dropout.rngs.count", "dropout.rngs.key"},
        haiku_model: set(),
        equinox_model: set(),
        plain_model: {"norm", "gumbel", "counter"},
    }
    for model, names in expected.items():
        function, arguments = model()
        report = fj.initialize(function, *arguments, seed=3)[1]
        assert set(report.computed) == names
        assert (not names) or "computed by the model's own code" in str(report)


def test_tied_arrays_stay_tied_and_others_do_not():
    made, report = fj.initialize(plain_model()[0], KEY, seed=3)
    assert np.array_equal(made["weight_t"], made["weight"].T)
    assert not np.array_equal(made["other"], made["weight"])
    # What is computed from an array is computed from the one that was made.
    np.testing.assert_allclose(made["norm"], np.linalg.norm(made["weight"], axis=0), rtol=1e-6)
    assert report.twins == ()


def test_nothing_is_compiled_or_filled_twice(monkeypatch):
    fills = []
    original = fastinit.Initializer.__call__

    def count(self, shape, **options):
        fills.append(shape)
        return original(self, shape, **options)

    monkeypatch.setattr(fastinit.Initializer, "__call__", count)
    function, arguments = haiku_model()
    report = fj.initialize(function, *arguments, seed=3)[1]
    stacked = [row for row in report.rows if "stack" in row.name and row.distribution != "constant"]
    assert len(fills) == len(report.rows) + 2 * len(stacked)


def test_names_and_rules():
    function, arguments = linen_model()
    made, report = fj.initialize(
        function,
        *arguments,
        seed=3,
        rules={
            "Embed_0.*": fastinit.RandomNormal(stddev=0.02),
            re.compile(r"Dense_[01]\.kernel$"): "he_normal",
            "*.bias": 0.5,
            "Conv_0.kernel": jax.nn.initializers.normal(2.0),
            "rate": None,
            "nothing": 1,
        },
    )
    found = arrays_of(made)
    expected = fastinit.random_normal(
        (50, 32), stddev=0.02, seed=3, stream="Embed_0.embedding", dtype="bfloat16"
    )
    assert np.array_equal(found["Embed_0.embedding"], expected)
    # Of layers that are stacked, each has its own fans and its own stream.
    kernel = found["layers.Dense_0.kernel"]
    stream = fastinit.block_stream("layers.Dense_0.kernel", 1)
    assert np.array_equal(kernel[1], fastinit.he_normal(kernel.shape[1:], seed=3, stream=stream))
    assert np.unique(np.asarray(found["layers.Dense_0.bias"])).tolist() == [0.5]
    assert 1.5 < np.std(found["Conv_0.kernel"]) < 2.5
    assert report.unused_rules == ("nothing",)
    assert report["Embed_0.embedding"].rule == "Embed_0.*"
    assert report["batch_stats.BatchNorm_0.var"].initializer == fastinit.Constant(1.0)
    assert "rate" in report.computed
    assert "Conv_0.kernel" not in report.computed


def test_abstract_trees():
    eqx = pytest.importorskip("equinox")
    make, arguments = equinox_model()
    rules = {"*bias*": 0, "*": "he_normal"}
    tree = eqx.filter_eval_shape(make, *arguments)
    made, report = fj.initialize(tree, seed=3, rules=rules)
    assert np.array_equal(
        made["mlp"].layers[0].weight, fastinit.he_normal((32, 16), seed=3, stream="mlp.layers.0.weight")
    )
    assert not report.computed
    with pytest.raises(ValueError, match=r"needs a rule for each array: gru\.weight_hh"):
        fj.initialize({"gru": tree["gru"]}, seed=3, rules={"*bias*": 0, "*ih": 0})
    nnx = pytest.importorskip("flax.nnx")
    abstract = nnx.eval_shape(nnx_model()[0])
    model, _ = fj.initialize(abstract.layers, seed=3, rules={"kernel": "he_normal", "bias": 0})
    assert isinstance(model, nnx.Linear)
    assert np.array_equal(model.kernel[...], fastinit.he_normal((5, 20, 30), seed=3, stream="kernel"))


def test_dtype_and_seed():
    made, _ = fj.initialize(plain_model()[0], KEY, seed=3, dtype=jnp.bfloat16)
    single, _ = fj.initialize(plain_model()[0], KEY, seed=3)
    assert made["weight"].dtype == jnp.bfloat16
    assert made["counter"].dtype == jnp.int32
    assert np.array_equal(made["weight"], np.asarray(single["weight"]).astype(jnp.bfloat16))
    other, _ = fj.initialize(plain_model()[0], KEY, seed=4)
    assert not np.array_equal(other["weight"], single["weight"])
    assert not np.array_equal(other["gumbel"], single["gumbel"])
    # The key of the caller is not needed.
    abstract, _ = fj.initialize(plain_model()[0], jax.eval_shape(lambda: KEY), seed=3)
    assert np.array_equal(abstract["weight"], single["weight"])


def test_float64_without_x64_is_as_jax_says():
    init = plain_model()[0]
    with pytest.warns(UserWarning, match="float64"):
        made, report = fj.initialize(init, KEY, seed=3, dtype="float64")
    assert {str(one.dtype) for one in jax.tree.leaves(made)} == {str(row.dtype) for row in report.rows}
    assert "float64" not in {str(row.dtype) for row in report.rows}
    if not hasattr(jax.config, "jax_explicit_x64_dtypes"):
        return
    before = jax.config.jax_explicit_x64_dtypes
    jax.config.update("jax_explicit_x64_dtypes", "allow")
    try:
        made, report = fj.initialize(
            lambda key: jax.random.normal(key, (40, 6)), KEY, seed=3, dtype="float64"
        )
        assert made.dtype == np.float64
        expected = fastinit.RandomNormal(stddev=1.0)(
            (40, 6), seed=3, stream=report.rows[0].name, dtype="float64"
        )
        assert np.array_equal(np.asarray(made), expected)
    finally:
        jax.config.update("jax_explicit_x64_dtypes", before)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seed": -1}, ValueError, "seed must be"),
        ({"seed": 1.5}, TypeError, "seed must be"),
        ({"seed": 1, "rules": ["a"]}, TypeError, "rules must be a mapping, got list"),
        ({"seed": 1, "rules": {"weight": "bad"}}, ValueError, "bad"),
        ({"seed": 1, "rules": {"weight": object()}}, TypeError, "a rule must be an initializer"),
        ({"seed": 1, "rules": {3: 1.0}}, TypeError, "the key of a rule must be"),
        (
            {"seed": 1, "rules": {"counter": "he_normal"}},
            TypeError,
            "counter, rule 'counter': fastinit cannot fill int32",
        ),
        (
            {"seed": 1, "rules": {"norm": "delta_orthogonal"}},
            ValueError,
            "norm, rule 'norm': delta_orthogonal needs",
        ),
        ({"seed": 1, "shardings": {"weight": None}}, ValueError, "the tree of shardings lacks counter"),
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error, match=message):
        fj.initialize(plain_model()[0], KEY, **options)


def test_nothing_stays_replaced():
    before = jax.random.normal, jax.random.uniform
    with pytest.raises(ZeroDivisionError):
        fj.initialize(lambda: 1 / 0, seed=1)
    assert (jax.random.normal, jax.random.uniform) == before


MESH = """
import jax, numpy as np, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
import fastinit, fastinit.jax as fj
from test_jax_initialize import linen_model, plain_model, arrays_of

assert len(jax.devices()) == 4
mesh = jax.make_mesh((2, 2), ("x", "y"))

def sharding(name, leaf):
    sizes = [size % 2 == 0 for size in leaf.shape]
    names = ["x", "y"] if len(sizes) > 1 else ["x"]
    return NamedSharding(mesh, P(*(name if even else None for name, even in zip(names, sizes))))

for model in (linen_model, plain_model):
    function, arguments = model()
    whole, parts = (
        arrays_of(fj.initialize(function, *arguments, seed=3, shardings=one)[0]) for one in (None, sharding)
    )
    for name in whole:
        if name in ("rate", "norm"):  # computed by XLA
            np.testing.assert_allclose(whole[name], parts[name], 1e-6)
            continue
        assert np.array_equal(whole[name], parts[name]), name
        assert len(parts[name].sharding.device_set) == 4, name
        assert len(whole[name].sharding.device_set) == 1, name
    single = jax.jit(lambda key: key)(arguments[0])
shapes = [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(function, *arguments))]
same = fj.initialize(function, *arguments, seed=3, shardings=NamedSharding(mesh, P()))[0]
assert np.array_equal(same["weight"], whole["weight"])
abstract = {"w": jax.ShapeDtypeStruct((8, 6), jnp.float32, sharding=NamedSharding(mesh, P("x", "y")))}
made = fj.initialize(abstract, seed=3, rules={"w": "he_normal"})[0]["w"]
assert made.sharding.spec == P("x", "y")
assert np.array_equal(made, fastinit.he_normal((8, 6), seed=3, stream="w"))
print("same")
"""


def test_four_devices(python):
    pytest.importorskip("flax")
    flags = "--xla_force_host_platform_device_count=4"
    here = __file__.rpartition("/")[0]
    assert (
        python(f"import sys; sys.path.insert(0, {here!r})\n" + MESH, timeout=200, XLA_FLAGS=flags) == "same\n"
    )
