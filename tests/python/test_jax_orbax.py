"""`fastinit.jax.write_orbax`: what Orbax restores, and what a failure leaves."""

import logging

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("ml_dtypes")
orbax = pytest.importorskip("orbax.checkpoint")

import jax.numpy as jnp  # noqa: E402

import fastinit  # noqa: E402
import fastinit.checkpoint  # noqa: E402
import fastinit.jax as fj  # noqa: E402

PLACE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def model(key):
    keys = jax.random.split(key, 3)
    return {
        "params": {
            "kernel": fj.he_normal()(key, (40, 30)).T,
            "layers": {"weight": jax.vmap(lambda key: fj.orthogonal()(key, (8, 4)))(keys)},
            "scale": jnp.ones((), jnp.bfloat16),
        },
        "table": jnp.arange(12, dtype=jnp.int32).reshape(3, 4),
    }


def abstract(tree):
    return jax.tree.map(lambda one: jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=PLACE), tree)


@pytest.fixture(scope="module")
def case():
    key = jax.random.key(0)
    return fj.plan(model, key), fj.initialize(model, key, seed=3)[0]


@pytest.mark.parametrize("has_tree", [False, True], ids=["names", "tree"])
def test_orbax_restores_what_initialize_makes(case, has_tree, tmp_path):
    plan, made = case
    tree = abstract(made)
    fj.write_orbax(plan, tmp_path / "new", 3, tree=tree if has_tree else None, threads=2)
    if not has_tree:  # The names are without the `params` at the beginning.
        made = {**made["params"], "table": made["table"]}
        tree = {**tree["params"], "table": tree["table"]}
    with orbax.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "new", tree)
    assert jax.tree.structure(restored) == jax.tree.structure(made)
    for one, other in zip(jax.tree.leaves(restored), jax.tree.leaves(made), strict=True):
        assert isinstance(one, jax.Array)
        assert one.dtype == other.dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    assert [one.name for one in tmp_path.iterdir()] == ["new"]


def test_any_plan_and_float8(tmp_path):
    shapes = {"a.b": ((6, 5), "float8_e4m3fn"), "a.c": ((7,), "uint8"), "d": ((2, 2), "float16")}
    plan = fastinit.checkpoint.plan(shapes, {"a.c": 200, "*": "he_normal"})
    fj.write_orbax(plan, tmp_path / "new", 1)
    with orbax.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(
            tmp_path / "new",
            {
                "a": {"b": np.zeros((6, 5), "float8_e4m3fn"), "c": np.zeros(7, np.uint8)},
                "d": np.zeros((2, 2), np.float16),
            },
        )
    expected = fastinit.he_normal((6, 5), seed=1, stream="a.b").astype("float8_e4m3fn")
    assert restored["a"]["b"].tobytes() == expected.tobytes()
    assert (restored["a"]["c"] == 200).all()
    assert (restored["d"] == fastinit.he_normal((2, 2), seed=1, stream="d", dtype="float16")).all()


def test_a_failure_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    plan = fastinit.checkpoint.plan({f"{n}": ((50, 50), "float32") for n in range(20)}, {"*": "he_normal"})
    done = []

    def fail(row, *arguments):
        done.append(row.name)
        if len(done) == 5:
            raise OSError(28, "No space left on device")
        fill(row, *arguments)

    fill = fj._orbax.fill
    monkeypatch.setattr(fj._orbax, "fill", fail)
    with pytest.raises(OSError, match="No space left"):
        fj.write_orbax(plan, tmp_path / "new", 1)
    assert len(done) == 5
    assert not (tmp_path / "new").exists()
    fj.write_orbax(plan, tmp_path / "new", 1)
    assert [one.name for one in tmp_path.iterdir()] == ["new"]


def test_errors(case, tmp_path):
    plan, made = case
    with pytest.raises(FileExistsError, match="needs a new directory"):
        fj.write_orbax(plan, tmp_path, 1)
    with pytest.raises(TypeError, match="plan must be a Plan, got dict"):
        fj.write_orbax({}, tmp_path / "new", 1)
    with pytest.raises(ValueError, match="seed must be from 0"):
        fj.write_orbax(plan, tmp_path / "new", -1)
    with pytest.raises(ValueError, match="the plan lacks other"):
        fj.write_orbax(plan, tmp_path / "new", 1, tree={**made, "other": jnp.zeros(3)})
    with pytest.raises(ValueError, match=r"the tree lacks kernel, layers\.weight, scale"):
        fj.write_orbax(plan, tmp_path / "new", 1, tree={"table": made["table"]})
    with pytest.raises(ValueError, match=r"table: the shape is \(3, 4\) in the plan, \(4, 3\) in the tree"):
        fj.write_orbax(plan, tmp_path / "new", 1, tree={**made, "table": made["table"].T})
    for names in (["a", "a.b"], ["a.b", "a"], ["a.b.c", "a.b"]):
        plan = fastinit.checkpoint.plan(dict.fromkeys(names, ((2,), "float32")), {"*": 0})
        with pytest.raises(ValueError, match="has the name of a part of this name"):
            fj.write_orbax(plan, tmp_path / "new", 1)
    plan = fastinit.checkpoint.plan({"empty": ((0, 2), "float32")}, {"*": 0})
    with pytest.raises(ValueError, match="Orbax does not store tensors without elements: empty"):
        fj.write_orbax(plan, tmp_path / "new", 1)
    assert not list(tmp_path.iterdir())
