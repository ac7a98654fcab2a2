"""The classes: parameters, comparison, pickling, configurations, identifiers."""

import copy
import inspect
import json
import pickle
import pydoc

import numpy as np
import pytest
from conftest import INITIALIZERS
from numpy.testing import assert_array_equal

import fastinit
from fastinit._registry import ALIASES, NAMES, PRESETS, class_name, parse_name


def test_each_class_is_tested():
    named = [getattr(fastinit, name) for name in fastinit.__all__]
    classes = {x for x in named if isinstance(x, type) and issubclass(x, fastinit.Initializer)}
    assert {type(initializer) for initializer, _ in INITIALIZERS} == classes - {fastinit.Initializer}


def test_calling_the_object_is_calling_the_function(case):
    initializer, shape = case
    config = initializer.get_config()
    config.pop("seed", None)
    function = getattr(fastinit, parse_name(type(initializer).__name__))
    options = {"seed": 3, "stream": "w", "dtype": "float64", "index": (slice(0, 2),), "threads": 1}
    assert_array_equal(initializer(shape, **options), function(shape, **config, **options))
    out = np.zeros(shape, np.float32)
    assert initializer(shape, seed=3, out=out) is out
    assert_array_equal(out, function(shape, **config, seed=3))


OPTIONS = ["seed", "stream", "dtype", "out", "index", "threads", "blocks", "block_axis"]


@pytest.mark.parametrize("name", NAMES)
def test_functions_take_the_parameters_of_their_classes_and_the_options(name):
    function = list(inspect.signature(getattr(fastinit, name)).parameters.values())
    assert function[0].name == "shape"
    assert [one.name for one in function[-len(OPTIONS) :]] == OPTIONS
    options = {one.name: one for one in function[-len(OPTIONS) :]}
    assert {one.kind for one in options.values()} == {inspect.Parameter.KEYWORD_ONLY}
    bound = list(inspect.signature(getattr(fastinit, class_name(name))).parameters.values())
    assert [one for one in bound if one.name not in OPTIONS] == function[1 : -len(OPTIONS)]
    # Only random initializers hold a seed.
    held = [one for one in bound if one.name in OPTIONS]
    assert [one.name for one in held][-2:] == ["blocks", "block_axis"]
    assert held in ([options[one] for one in ("seed", "blocks", "block_axis")], list(options.values())[-2:])
    call = inspect.signature(fastinit.Initializer.__call__).parameters
    assert [call[one] for one in OPTIONS[:6]] == [options[one] for one in OPTIONS[:6]]
    # What `help` prints, up to its bold type.
    shown = pydoc.plain(pydoc.render_doc(getattr(fastinit, name)))
    assert all(f"{one.name}:" in shown for one in function)


def test_the_registry_names_every_initializer():
    classes = {name for name, one in vars(fastinit).items() if inspect.isclass(one) and name[0] != "_"}
    assert classes - {"Initializer"} == set(map(class_name, NAMES))
    assert len(set(NAMES)) == len(NAMES)
    assert set(NAMES) <= set(fastinit.__all__)
    for name, (scale, mode, distribution) in PRESETS.items():
        preset = getattr(fastinit, class_name(name))()
        assert (preset.scale, preset.mode, preset.distribution) == (scale, mode, distribution)
        assert preset.get_config().keys().isdisjoint({"scale", "mode", "distribution"})
    assert set(ALIASES.values()) <= set(NAMES)


def test_round_trips(case):
    initializer, _ = case
    for other in (
        type(initializer).from_config(initializer.get_config()),
        type(initializer).from_config(json.loads(json.dumps(initializer.get_config()))),
        fastinit.get({"class_name": type(initializer).__name__, "config": initializer.get_config()}),
        pickle.loads(pickle.dumps(initializer)),
        pickle.loads(pickle.dumps(initializer, protocol=0)),
        copy.copy(initializer),
        copy.deepcopy(initializer),
        eval(repr(initializer), vars(fastinit)),
    ):
        assert type(other) is type(initializer)
        assert other == initializer
        assert hash(other) == hash(initializer)
        assert other.get_config() == initializer.get_config()


def test_repr_has_no_defaults():
    assert repr(fastinit.HeNormal()) == "HeNormal()"
    assert repr(fastinit.Constant(0)) == "Constant()"
    assert repr(fastinit.TruncatedNormal(stddev=0.02, upper=3)) == "TruncatedNormal(stddev=0.02, upper=3.0)"
    assert repr(fastinit.Sparse(0.5)) == "Sparse(sparsity=0.5)"
    assert repr(fastinit.Orthogonal(blocks=4, seed=7)) == "Orthogonal(seed=7, blocks=4)"


def test_blocks_are_in_the_configuration_where_there_are_some():
    assert fastinit.HeNormal(blocks=1).get_config() == fastinit.HeNormal().get_config()
    config = fastinit.HeNormal(blocks=[1, np.int64(2)], block_axis=-1).get_config()
    assert (config["blocks"], config["block_axis"]) == ((1, 2), -1)
    assert fastinit.HeNormal(blocks=2) != fastinit.HeNormal() != fastinit.HeNormal(blocks=3)


def test_equality_is_of_class_and_parameters():
    assert fastinit.RandomNormal(0, 1) == fastinit.RandomNormal(0.0, np.float32(1))
    assert fastinit.RandomNormal(0, 1) != fastinit.RandomNormal(0, 2)
    assert fastinit.RandomNormal(0, 1, seed=1) != fastinit.RandomNormal(0, 1)
    assert fastinit.HeNormal() != fastinit.HeUniform()
    assert fastinit.HeNormal(in_axis=[0, 1]) == fastinit.HeNormal(in_axis=(0, np.int64(1)))
    assert fastinit.Zeros() != "zeros"
    assert len({fastinit.Zeros(), fastinit.Zeros(), fastinit.Ones()}) == 2


def test_instances_cannot_be_changed(case):
    initializer, _ = case
    for name in [*initializer.get_config(), "seed", "other"]:
        with pytest.raises(AttributeError, match="immutable"):
            setattr(initializer, name, 1)
        with pytest.raises(AttributeError, match="immutable"):
            delattr(initializer, name)


def test_parameters_are_attributes():
    scaling = fastinit.VarianceScaling(2, "fan_out", "uniform", seed=np.int64(5), in_axis=np.array([0, 1]))
    assert scaling.get_config() == {
        "scale": 2.0,
        "mode": "fan_out",
        "distribution": "uniform",
        "seed": 5,
        "in_axis": (0, 1),
        "out_axis": -1,
        "batch_axis": (),
        "groups": 1,
    }
    for name, value in scaling.get_config().items():
        assert getattr(scaling, name) == value
    assert fastinit.Zeros().seed is None


def test_the_seed_of_an_object_is_that_of_calls_without_one():
    seeded = fastinit.RandomNormal(seed=7)
    assert_array_equal(seeded(20), seeded(20))
    assert_array_equal(seeded(20), fastinit.random_normal(20, seed=7))
    assert_array_equal(seeded(20, seed=8), fastinit.random_normal(20, seed=8))
    assert not (seeded(20, stream="a") == seeded(20, stream="b")).all()
    unseeded = fastinit.RandomNormal()
    assert not (unseeded(20) == unseeded(20)).all()
    sequence = np.random.SeedSequence(1)
    assert_array_equal(fastinit.HeNormal(seed=sequence)((4, 4)), fastinit.he_normal((4, 4), seed=sequence))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fastinit.RandomNormal(stddev=0), ValueError, "stddev must be positive"),
        (lambda: fastinit.RandomNormal(stddev="1"), TypeError, "stddev must be a real number, got '1'"),
        (lambda: fastinit.RandomNormal(seed=-1), ValueError, "seed must be"),
        (lambda: fastinit.RandomNormal(seed={"class_name": "SeedGenerator"}), TypeError, "seed must be"),
        (lambda: fastinit.VarianceScaling(mode="fan"), ValueError, "mode must be one of"),
        (
            lambda: fastinit.HeNormal(in_axis="x"),
            TypeError,
            "in_axis must be an int or a sequence of ints, got 'x'",
        ),
        (lambda: fastinit.HeNormal(groups=0), ValueError, "groups must be at least 1, got 0"),
        (lambda: fastinit.RandomNormal(0.0, 1.0, 7), TypeError, "positional"),
        (lambda: fastinit.Zeros(seed=1), TypeError, "seed"),
        (lambda: fastinit.HeNormal(blocks=0), ValueError, "blocks"),
        (lambda: fastinit.HeNormal(blocks=2.0), TypeError, "blocks"),
        (lambda: fastinit.HeNormal(block_axis="0"), TypeError, "block_axis"),
        (lambda: fastinit.Initializer(), TypeError, "Initializer is a base class"),
        (lambda: fastinit.Zeros.from_config({"value": 1}), TypeError, "value"),
    ],
)
def test_wrong_parameters_are_refused_at_construction(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("IdentityInitializer", fastinit.Identity()),
        ("normal", fastinit.RandomNormal()),
        ("one", fastinit.Ones()),
        ("uniform", fastinit.RandomUniform()),
        ("zero", fastinit.Zeros()),
    ],
)
def test_get_knows_the_aliases_of_keras(name, expected):
    assert fastinit.get(name) == expected


def test_get_by_name_in_either_case(case):
    cls = type(case[0])
    if cls is fastinit.Sparse:
        # `sparsity` has no default.
        with pytest.raises(TypeError, match="sparsity"):
            fastinit.get("sparse")
        return
    for name in (cls.__name__, parse_name(cls.__name__)):
        assert fastinit.get(name) == cls()
        assert fastinit.get({"class_name": name, "config": {}}) == cls()
        assert fastinit.get({"class_name": name}) == cls()
    assert fastinit.get(cls) == cls()


def test_get_returns_what_is_an_initializer_already(case):
    initializer, _ = case
    assert fastinit.get(initializer) is initializer
    assert fastinit.get(fastinit.he_normal) is fastinit.he_normal
    assert fastinit.get(None) is None


@pytest.mark.parametrize(
    ("class_name", "config", "expected"),
    [
        ("Zeros", {}, fastinit.Zeros()),
        ("Constant", {"value": 0.5}, fastinit.Constant(0.5)),
        ("Identity", {"gain": 2.0}, fastinit.Identity(2.0)),
        ("RandomNormal", {"mean": 0.0, "stddev": 0.05, "seed": None}, fastinit.RandomNormal()),
        ("RandomUniform", {"minval": -1.0, "maxval": 1.0, "seed": 3}, fastinit.RandomUniform(-1, 1, seed=3)),
        (
            "TruncatedNormal",
            {"mean": 0.0, "stddev": 0.1, "seed": 3},
            fastinit.TruncatedNormal(stddev=0.1, seed=3),
        ),
        ("HeNormal", {"seed": 3, "input_axes": None, "output_axes": None}, fastinit.HeNormal(seed=3)),
        (
            "GlorotUniform",
            {"seed": None, "input_axes": [0], "output_axes": [1, 2]},
            fastinit.GlorotUniform(in_axis=[0], out_axis=[1, 2]),
        ),
        (
            "VarianceScaling",
            {
                "scale": 2.0,
                "mode": "fan_in",
                "distribution": "normal",
                "seed": None,
                "input_axes": None,
                "output_axes": [0],
            },
            fastinit.VarianceScaling(2.0, "fan_in", "truncated_normal"),
        ),
        (
            "VarianceScaling",
            {"scale": 1.0, "mode": "fan_avg", "distribution": "untruncated_normal", "seed": None},
            fastinit.VarianceScaling(1.0, "fan_avg", "untruncated_normal"),
        ),
    ],
)
def test_get_takes_what_keras_serializes(class_name, config, expected):
    serialized = {
        "module": "keras.initializers",
        "class_name": class_name,
        "config": config,
        "registered_name": None,
    }
    before = copy.deepcopy(serialized)
    assert fastinit.get(serialized) == expected
    assert serialized == before


@pytest.mark.parametrize(
    "identifier",
    [
        "he",
        "HENORMAL",
        "",
        1,
        1.5,
        [],
        ("zeros",),
        {},
        {"config": {}},
        {"class_name": "Nothing"},
        {"class_name": "Constant", "config": 3},
        {"class_name": "Constant", "config": "value"},
        {"class_name": 3},
        object,
    ],
    ids=repr,
)
def test_get_refuses_other_identifiers(identifier):
    with pytest.raises(ValueError, match="initializer"):
        fastinit.get(identifier)


def test_get_names_what_it_knows():
    with pytest.raises(ValueError, match=r"unknown initializer 'he'.* constant, .*he_normal, .*zeros"):
        fastinit.get("he")
