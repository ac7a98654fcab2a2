"""`fastinit.jax.plan`: its parts make what `fastinit.jax.initialize` makes, bit by bit."""

import json

import numpy as np
import pytest
from plans import sampled

jax = pytest.importorskip("jax")
pytest.importorskip("ml_dtypes")

import jax.numpy as jnp  # noqa: E402
from test_jax_initialize import arrays_of  # noqa: E402

import fastinit  # noqa: E402
import fastinit.jax as fj  # noqa: E402
from fastinit._fill import fill  # noqa: E402
from fastinit.checkpoint import Plan  # noqa: E402

KEY = jax.random.key(0)


def linen_model():
    nn = pytest.importorskip("flax.linen")

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            x = x + nn.MultiHeadDotProductAttention(2, qkv_features=8)(nn.LayerNorm()(x))
            return x + nn.Dense(8, kernel_init=nn.initializers.orthogonal())(nn.Dense(12)(x)), None

    class Model(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            x = nn.Embed(20, 8, param_dtype=jnp.bfloat16)(tokens).astype(jnp.float32)
            # As MaxText does, the axis of the layers is the second one.
            layers = nn.scan(Block, variable_axes={"params": 1}, split_rngs={"params": True}, length=3)
            x = layers(name="layers")(x, None)[0]
            x = nn.BatchNorm(use_running_average=True)(nn.Conv(6, (3,))(x))
            rate = self.param("rate", lambda _, shape: jnp.log(jnp.arange(1.0, 1 + shape[0])), (6,))
            return nn.DenseGeneral((2, 3), param_dtype=jnp.float16)(x * rate)

    return Model().init, (KEY, jnp.zeros((1, 5), int))


def nnx_model():
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            @nnx.split_rngs(splits=3)
            @nnx.vmap(in_axes=(0,), out_axes=0)
            def layers(rngs):
                return nnx.Linear(4, 6, rngs=rngs, kernel_init=nnx.initializers.he_uniform())

            self.layers = layers(rngs)
            self.norm = nnx.BatchNorm(6, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(2, 6, 8, rngs=rngs, decode=False)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

    return (lambda: Model(nnx.Rngs(0))), ()


def haiku_model():
    hk = pytest.importorskip("haiku")

    def network(x):
        x = hk.experimental.layer_stack(3)(lambda x: hk.Linear(16)(x))(x)
        return hk.Linear(5, w_init=hk.initializers.RandomNormal(0.3, 1.0))(x)

    return hk.transform(network).init, (KEY, jnp.ones((1, 16)))


def equinox_model():
    eqx = pytest.importorskip("equinox")

    def make(key):
        keys = jax.random.split(key, 3)
        stacked = eqx.filter_vmap(lambda key: eqx.nn.Linear(4, 6, key=key))(keys)
        return {
            "mlp": eqx.nn.MLP(4, 2, 8, 1, key=key),
            "layers": stacked,
            "gru": eqx.nn.GRUCell(4, 6, key=key),
        }

    return make, (KEY,)


def plain_model():
    def make(key):
        one, two = jax.random.split(key)
        weight = jax.random.normal(one, (20, 30)) * 0.1
        keys = jax.random.split(key, 6).reshape(2, 3)
        stacked = jax.vmap(jax.vmap(lambda key: fj.orthogonal()(key, (4, 5))))(keys)
        return {
            "weight": weight,
            "tied": weight.reshape(6, 100),
            "transposed": weight.T,
            "kernel": fj.he_normal()(two, (6, 7, 8)).transpose(2, 0, 1),
            "stacked": stacked,
            "moved": stacked.transpose(2, 1, 0, 3).reshape(4, 30),
            "ones": jnp.moveaxis(jnp.ones((3, 1, 4), jnp.bfloat16), 1, 2),
            "squeezed": fj.lecun_normal()(one, (1, 3, 1, 4)).transpose(2, 1, 0, 3),
            "empty": jax.random.normal(two, (0, 3)).T,
            "positions": jnp.sin(jnp.arange(300.0)).reshape(3, 100),
            "mask": jnp.tri(4, dtype=bool),
            "half": (jnp.arange(5) / 3).astype(jnp.bfloat16),
        }

    return make, (KEY,)


@pytest.mark.parametrize(
    "make", [linen_model, nnx_model, haiku_model, equinox_model, plain_model], ids=lambda make: make.__name__
)
def test_parts_make_what_initialize_makes(make):
    function, arguments = make()
    plan = fj.plan(function, *arguments)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    for seed in (0, 2**63 + 1):
        made, report = fj.initialize(function, *arguments, seed=seed)
        expected = {name: np.asarray(array) for name, array in arrays_of(made).items()}
        assert [row.name for row in plan.rows] == list(expected)
        for row in plan.rows:
            found = sampled(row, seed)
            assert (found.shape, found.dtype) == (expected[row.name].shape, expected[row.name].dtype), row
            assert found.tobytes() == expected[row.name].tobytes(), row.name
            assert row.rule == report[row.name].rule


def test_parts_are_few():
    function, arguments = plain_model()
    plan = fj.plan(function, *arguments)
    counts = {row.name: len(row.parts) for row in plan.rows}
    one = ("weight", "tied", "ones", "squeezed", "empty", "positions", "mask", "half")
    assert counts == {**dict.fromkeys(one, 1), "transposed": 600, "kernel": 336, "stacked": 6, "moved": 24}
    assert plan["stacked"].parts[4].stream == fastinit.block_stream("moved", 4)
    assert plan["weight"].parts[0].stream == "tied"


def test_layers_in_the_second_axis_are_runs_of_a_row():
    function, arguments = linen_model()
    kernel = fj.plan(function, *arguments)["layers.Dense_0.kernel"]
    assert kernel.shape == (12, 3, 8)
    assert {part.count for part in kernel.parts} == {8}


def test_any_range_of_many_parts():
    function, arguments = plain_model()
    plan = fj.plan(function, *arguments)
    for name in ("kernel", "moved", "empty", "ones"):
        row, before = plan[name], repr(plan[name])
        everything = sampled(row, 7).reshape(-1)
        for first, last in [(0, row.size), (5, 6), (7, 8), (1, row.size - 1)]:
            out = np.empty(max(0, min(last, row.size) - first), row.dtype)
            fill(row, first, out, 7, 1)
            assert out.tobytes() == everything[first:last].tobytes()
        assert repr(row) == before


def test_nothing_is_made():
    def model(key):
        return {"kernel": fj.he_normal()(key, (2**20, 2**20)), "bias": jnp.zeros(2**40)}

    plan = fj.plan(model, jax.ShapeDtypeStruct((), KEY.dtype))
    assert plan.nbytes == 4 * (2**40 + 2**40)


def test_what_cannot_be_planned_is_listed():
    def model(key):
        weight = jax.random.normal(key, (20, 30))
        return {
            "weight": weight,
            "gumbel": jax.random.gumbel(key, (3,)),
            "norm": jnp.linalg.norm(weight, axis=0),
            "table": jnp.arange(2**19, dtype=jnp.float32),
            "turned": jax.random.normal(key, (1100, 1000)).T,
            "looped": jax.lax.fori_loop(0, 2, lambda _, x: x + jax.random.bernoulli(key), 0.0),
        }

    with pytest.raises(
        ValueError, match=r"^5 arrays need an initializer.*: gumbel, looped, norm, table, turned$"
    ):
        fj.plan(model, KEY)
    rules = {"norm": 1, "*": fastinit.RandomNormal(seed=3), "nothing": 0}
    plan = fj.plan(model, KEY, rules=rules)
    assert plan["norm"].initializer == fastinit.Constant(1)
    assert plan["norm"].rule == "norm"
    assert plan["gumbel"].rule == "*"
    assert plan["gumbel"].initializer == fastinit.RandomNormal()  # The seed is that of the checkpoint.
    assert plan.unused_rules == ("nothing",)
    with pytest.raises(ValueError, match=r"^1 array needs.*: weight$"):
        fj.plan(model, KEY, rules={"weight": jax.nn.initializers.normal(), **rules})


def test_a_rule_for_stacked_layers_has_the_fans_of_one_layer():
    function, arguments = nnx_model()
    rules = {"layers.kernel": "glorot_normal", "norm.*": None}
    plan = fj.plan(function, *arguments, rules=rules)
    made, _ = fj.initialize(function, *arguments, rules=rules, seed=1)
    row = plan["layers.kernel"]
    assert {part.shape for part in row.parts} == {(4, 6)}
    assert (sampled(row, 1) == arrays_of(made)["layers.kernel"]).all()


def test_an_abstract_model():
    function, _ = nnx_model()
    model = pytest.importorskip("flax.nnx").eval_shape(function)
    plan = fj.plan(model, rules={"*count": 0, "*": fastinit.RandomNormal(stddev=0.02)})
    assert [row.name for row in plan.rows] == [row.name for row in fj.plan(function).rows]
    assert len(plan["layers.kernel"].parts) == 1  # Only a function tells that it consists of layers.
    with pytest.raises(ValueError, match=r"a rule for each array: dropout\.rngs\.count$"):
        fj.plan(model, rules={"[!d]*": fastinit.RandomNormal(stddev=0.02)})


def test_an_abstract_tree():
    tree = {
        "params": {
            "kernel": jax.ShapeDtypeStruct((8, 4), jnp.bfloat16),
            "counter": jax.ShapeDtypeStruct((3,), jnp.int32),
        }
    }
    with pytest.raises(ValueError, match="an abstract tree needs a rule for each array: counter"):
        fj.plan(tree, rules={"kernel": "he_normal"})
    plan = fj.plan(tree, rules={"kernel": "he_normal", "counter": 7})
    assert sampled(plan["counter"], 0).tolist() == [7, 7, 7]
    assert plan == fastinit.checkpoint.plan(tree, {"kernel": "he_normal", "counter": 7})
    with pytest.raises(ValueError, match=r"counter, rule '\*': a tensor of int32 must be constant"):
        fj.plan(tree, rules={"*": "he_normal"})
    with pytest.raises(TypeError, match="kernel, rule 'kernel': fastinit cannot fill int32"):
        fj.initialize({"kernel": jax.ShapeDtypeStruct((2, 2), jnp.int32)}, rules={"kernel": 1}, seed=0)


@pytest.mark.parametrize(
    "source", [5, {}, {"name": "value"}, list], ids=["number", "dict", "text", "function"]
)
def test_a_source_without_arrays(source):
    with pytest.raises(TypeError, match="a plan needs a function or a tree that has arrays"):
        fj.plan(source)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_another_dtype(dtype):
    function, arguments = haiku_model()
    plan = fj.plan(function, *arguments, dtype=dtype)
    assert {row.dtype for row in plan.rows} == {dtype}
    if dtype == "bfloat16":
        made, _ = fj.initialize(function, *arguments, dtype=dtype, seed=2)
        expected = arrays_of(made)
        assert all(sampled(row, 2).tobytes() == np.asarray(expected[row.name]).tobytes() for row in plan.rows)
    with pytest.raises(ValueError, match="dtype must be one of floats"):
        fj.plan(function, *arguments, dtype="int8")
