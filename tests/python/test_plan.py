"""Plans of checkpoints: from Python, from headers of files and from other plans; rules, dtypes, errors."""

import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

import fastinit
from fastinit import checkpoint
from fastinit._plan import Part, Plan, PlanRow, given, merged

NORMAL = fastinit.RandomNormal(stddev=0.02)


def test_mapping():
    plan = checkpoint.plan(
        {
            "a": ((3, 4), "float32", NORMAL),
            "b": (7, np.float16),
            "c": SimpleNamespace(shape=(2,), dtype=np.dtype("int64")),
            "d": ((), "torch.bfloat16"),
            "e": ((0, 5), np.float64, "he_normal"),
        },
        {"b": "ones", re.compile("^[cd]$"): 2},
    )
    assert [(row.name, row.shape, row.dtype) for row in plan.rows] == [
        ("a", (3, 4), "float32"),
        ("b", (7,), "float16"),
        ("c", (2,), "int64"),
        ("d", (), "bfloat16"),
        ("e", (0, 5), "float64"),
    ]
    assert plan["a"].parts == (Part(12, NORMAL, (3, 4), "a"),)
    assert plan["c"].initializer == fastinit.Constant(2.0)
    assert (plan["b"].rule, plan["c"].rule, plan["e"].rule) == ("b", "^[cd]$", "")
    assert (plan.size, plan.nbytes) == (22, 48 + 14 + 16 + 2)
    assert "5 tensors, 22 elements, 80 B" in str(plan)


def test_rules_of_a_seed():
    plan = checkpoint.plan({"a": (3, "float32")}, {"a": fastinit.RandomUniform(seed=3)})
    assert plan["a"].initializer.seed is None  # A plan has none; the seed is that of the checkpoint.


def test_the_first_rule_wins_and_others_are_told():
    plan = checkpoint.plan(
        {"a.bias": (3, "float32", NORMAL), "b.bias": (3, "float32")},
        {"a.*": None, "*.bias": 0, "*": 1, "c": 2},
    )
    assert plan["a.bias"].initializer == NORMAL
    assert plan["b.bias"].initializer == fastinit.Constant(0.0)
    assert plan.unused_rules == ("c",)
    assert "rules that matched nothing: c" in str(plan)


def test_layout():
    shapes = {"up.weight": ((256, 64), "float32")}
    in_out = checkpoint.plan(shapes, {"*": "he_normal"})
    out_in = checkpoint.plan(shapes, {"*": "he_normal"}, layout="out_in")
    assert in_out["up.weight"].initializer.check((256, 64)).std == pytest.approx(math.sqrt(2 / 256))
    assert out_in["up.weight"].initializer.check((256, 64)).std == pytest.approx(math.sqrt(2 / 64))


def test_dtype():
    plan = checkpoint.plan({"a": (3, "float32", NORMAL), "n": (1, "int32", 0)}, dtype="bfloat16")
    assert [row.dtype for row in plan.rows] == ["bfloat16", "int32"]
    again = checkpoint.plan(plan, {"a": 1}, dtype="float16")
    assert (again["a"].dtype, again["a"].initializer, again["n"].rule) == (
        "float16",
        fastinit.Constant(1.0),
        "",
    )


def several_parts():
    parts = (
        Part(8, NORMAL, (10, 4), "a"),
        Part(4, fastinit.Zeros(), (4,), 5),
        Part(28, NORMAL, (10, 4), "a", 12),
    )
    infinite = fastinit.TruncatedNormal(stddev=0.5, lower=-math.inf, upper=1.0)
    return Plan(
        (
            PlanRow("a", (10, 4), "float32", parts, ("tied", "again"), "reset_parameters"),
            PlanRow("b", (3,), "int16", given(np.array([1, -2, 3], np.int16))),
            PlanRow("c", (3, 2), "float64", (Part(6, infinite, (3, 2), "c"),)),
            PlanRow("ü/日", (2,), "float8_e4m3fn", (Part(2, NORMAL, (2,), 2**64 - 1),)),
            PlanRow(
                "f", (1,), "float32", (Part(1, fastinit.recipe("llama").rows[0].initializer, (1,), "f"),)
            ),
        )
    )


def test_json(tmp_path):
    plan = several_parts()
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    assert checkpoint.plan(tmp_path / "plan.json") == plan
    assert plan["again"].name == "a"
    assert "a (+2)" in str(plan)


def test_formulas_are_initializers():
    recipe = fastinit.recipe("mamba", layers=2)
    rule = next(row for row in recipe.rows if isinstance(row.initializer, fastinit.guidance.Formula))
    plan = Plan((PlanRow("A_log", (4, 8), "float32", (Part(32, rule.initializer, (4, 8), "A_log"),)),))
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_merged():
    first, second = Part(4, NORMAL, (10,), "a"), Part(6, NORMAL, (10,), "a", 4)
    assert merged([first, Part(0, NORMAL, (10,), "x"), second]) == (Part(10, NORMAL, (10,), "a"),)
    other = Part(6, NORMAL, (10,), "b", 4)
    assert merged([first, other]) == (first, other)


# Headers of files


def save(path, arrays):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    save_file(arrays, path)


ARRAYS = {
    "b.weight": np.ones((3, 2), np.float32),
    "a.bias": np.zeros(3, np.float16),
    "n": np.ones((), np.int64),
}
RULES = {"*.weight": NORMAL, "*.bias": 0, "n": 1}


@pytest.mark.parametrize("kind", ["whole", "header only"])
def test_header(tmp_path, kind):
    path = tmp_path / "model.safetensors"
    save(path, ARRAYS)
    if kind == "header only":
        data = path.read_bytes()
        path.write_bytes(data[: 8 + int.from_bytes(data[:8], "little")])
    plan = checkpoint.plan(path, RULES)
    assert {row.name: (row.shape, row.dtype) for row in plan.rows} == {
        name: (array.shape, array.dtype.name) for name, array in ARRAYS.items()
    }
    # The names are PyTorch's, and so is the order of axes.
    std = checkpoint.plan(path, {"b.weight": "lecun_normal", **RULES})["b.weight"]
    assert std.initializer.check((3, 2)).std == pytest.approx(math.sqrt(1 / 2))
    assert checkpoint.plan(tmp_path, RULES) == plan


def test_index(tmp_path):
    save(tmp_path / "x-1.safetensors", {"a": np.ones(3, np.float32)})
    save(tmp_path / "x-2.safetensors", {"b": np.ones(4, np.float32)})
    save(tmp_path / "other.safetensors", {"c": np.ones(4, np.float32)})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}}))
    for source in (index, tmp_path, str(index)):
        assert [row.name for row in checkpoint.plan(source, {"*": 0}).rows] == ["a", "b"]
    (tmp_path / "x-2.safetensors").unlink()
    with pytest.raises(ValueError, match=r"names 'x-2.safetensors', which is not a file beside it"):
        checkpoint.plan(index, {"*": 0})


INFINITE = b'{"a":{"dtype":"U8","shape":[1e999],"data_offsets":[0,1]}}'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:5], "ends before its header"),
        (lambda _: b"", "ends before its header"),
        (lambda data: (2**40).to_bytes(8, "little") + data[8:], "ends before its header"),
        (lambda data: data[:20], "ends before its header"),
        (lambda data: data.replace(b"[3,2]", b"[3,3]"), "not where the format wants it"),
        (lambda data: data.replace(b"[3,2]", b"[-3]x"), "damaged"),
        (lambda data: data.replace(b'"dtype"', b'"dtypo"'), "not as the format wants it"),
        (lambda data: data.replace(b'"F32"', b'"X3"'), "damaged"),
        (lambda _: (4).to_bytes(8, "little") + b"[1] ", "damaged"),
        (lambda _: (200).to_bytes(8, "little") + b"[" * 200, "damaged"),
        (lambda _: len(INFINITE).to_bytes(8, "little") + INFINITE, "not as the format wants it"),
    ],
)
def test_damaged_headers(tmp_path, change, message):
    path = tmp_path / "model.safetensors"
    save(path, ARRAYS)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=f"model.safetensors.*{message}"):
        checkpoint.plan(path, {"*": 0})


# Errors


@pytest.mark.parametrize(
    ("source", "rules", "error", "message"),
    [
        ({"a": (3, "float32"), "b": (3, "float32")}, {"a": 1}, ValueError, "1 tensor has no rule: b"),
        ({"a": (3, "float32")}, None, ValueError, "1 tensor has no rule: a"),
        ({"a": (3, "complex64", 1)}, None, TypeError, "a: dtype must be one of float64"),
        ({"a": (3, "float32", 1.0j)}, None, TypeError, "a: a rule must be"),
        ({"a": ((-1,), "float32", 1)}, None, ValueError, "a: a size must be"),
        ({"a": ((2.5,), "float32", 1)}, None, TypeError, "a: a size must be"),
        ({"": (3, "float32", 1)}, None, ValueError, "name of a tensor"),
        ({"a": ((2**40, 2**23), "int8", 1)}, None, ValueError, "is too large"),
        ({5: (3, "float32", 1)}, None, ValueError, "name of a tensor"),
        ({"a\ud800": (3, "float32", 1)}, None, ValueError, "must be valid Unicode"),
        ({"a": (3, "float32")}, {"a": "identity"}, ValueError, "a, rule 'a': identity needs a shape of 2"),
        ({"a": (3, "int32")}, {"a": NORMAL}, ValueError, "a, rule 'a': a tensor of int32 must be constant"),
        ({"a": (3, "int8")}, {"a": 128}, ValueError, "from -128 to 127, got 128"),
        ({"a": (3, "uint8")}, {"a": -1}, ValueError, "from 0 to 255, got -1"),
        ({"a": (3, "bool")}, {"a": 2}, ValueError, "from 0 to 1, got 2"),
        ({"a": (3, "int32")}, {"a": 0.5}, ValueError, "must be an integer"),
        ({"a": (3, "int32", fastinit.Constant(math.inf))}, None, ValueError, "must be an integer"),
        ({"a": (3, "bool", fastinit.Constant(math.nan))}, None, ValueError, "must be an integer"),
        ({"a": (3, "float8_e4m3fn")}, {"a": 449}, ValueError, "holds numbers up to 448, elements reach 449"),
        (
            {"a": (3, "float8_e4m3fn")},
            {"a": fastinit.RandomNormal(stddev=100.0)},
            ValueError,
            "elements reach 700",
        ),
        ({"a": (3, "float32")}, ["a"], TypeError, "rules must be a mapping"),
        ({"a": (3, "float32")}, {7: 1}, TypeError, "key of a rule"),
        ({"a": (3, "float32")}, {"a": "he_norm"}, ValueError, "he_normal"),
        ("nowhere.safetensors", {"*": 0}, FileNotFoundError, "nowhere"),
        ("nowhere.gguf", {"*": 0}, ValueError, "cannot plan from nowhere.gguf"),
    ],
)
def test_errors(source, rules, error, message):
    with pytest.raises(error, match=re.escape(message)):
        checkpoint.plan(source, rules)


def test_wrong_sources():
    for source in (None, 5, object()):
        with pytest.raises((TypeError, ValueError)):
            checkpoint.plan(source)
    with pytest.raises(ValueError, match="layout must be one of"):
        checkpoint.plan({"a": (3, "float32", 0)}, layout="out")
    with pytest.raises(ValueError, match="dtype must be one of floats"):
        checkpoint.plan({"a": (3, "float32", 0)}, dtype="int8")


def test_names_are_unique():
    row = PlanRow("a", (1,), "float32", (Part(1, NORMAL, (1,), "a"),))
    with pytest.raises(ValueError, match="two tensors of the plan have the name 'a'"):
        Plan((row, PlanRow("b", (1,), "float32", row.parts, ("a",))))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((Part(2, NORMAL, (3,), "a"),), "must have the 3 elements"),
        ((Part(3, NORMAL, (3,), "a", 1),), "has no elements 1 to 4"),
        ((Part(3, None, data=b"12345"),), "3 elements of float32"),
        ((Part(3, NORMAL, (3,), -1),), "stream must be"),
        ((Part(3, NORMAL, (3,), "\ud800"),), "stream must be valid Unicode"),
        ((Part(4, NORMAL, (9,), "a"), Part(-1, NORMAL, (9,), "a")), "count must be"),
    ],
)
def test_parts_fit(parts, message):
    with pytest.raises(ValueError, match=message):
        PlanRow("a", (3,), "float32", parts)


PART = Part(3, NORMAL, (3,), "a").to_dict()
ROW = {"name": "a", "shape": [3], "dtype": "float32", "parts": [PART]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "plan/2"}, "plan/1"),
        ({"stream_version": 1}, "stream version 1"),
        ({"rows": [{"name": "a"}]}, "damaged"),
        ({"rows": 5}, "damaged"),
        ({"rows": [{**ROW, "aliases": [5]}]}, "name of a tensor"),
        ({"rows": [{**ROW, "parts": [{**PART, "stream": None}]}]}, "damaged"),
        ({"rows": [{**ROW, "parts": [{**PART, "first": 0.0}]}]}, "damaged"),
        ({"rows": [{"name": "a", "shape": [1], "dtype": "float32", "initializer": "x"}]}, "damaged"),
    ],
)
def test_damaged_plans(tmp_path, change, message):
    values = {**several_parts().to_dict(), **change}
    with pytest.raises(ValueError, match=message):
        Plan.from_dict(values)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=f"cannot read .*plan.json.*{message}"):
        Plan.load(path)


def test_files_that_are_no_plans(tmp_path):
    path = tmp_path / "plan.json"
    for text in ("", "[]", "{", "[" * 100_000, "5"):
        path.write_text(text)
        with pytest.raises(ValueError, match="cannot read"):
            Plan.load(path)
    with pytest.raises(FileNotFoundError):
        Plan.load(tmp_path / "other.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"has no \.safetensors files"):
        checkpoint.plan(tmp_path / "empty")
