"""Plans of PyTorch's models: the values of `initialize`, for every seed, without memory for them."""

import json
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from plans import sampled

import fastinit
from fastinit import checkpoint
from fastinit._plan import Plan

torch = pytest.importorskip("torch")
pytest.importorskip("ml_dtypes")
import fastinit.torch  # noqa: E402

nn = torch.nn


class Stateful(nn.Linear):
    def get_extra_state(self):
        return {"step": 0}

    def set_extra_state(self, state):
        pass


class Renamed(nn.Linear):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._register_state_dict_hook(
            lambda _, state, prefix, __: state.update(w=state.pop(prefix + "weight"))
        )


class Unsaved(nn.Linear):
    def _save_to_state_dict(self, destination, prefix, *_):
        destination[prefix + "bias"] = self.bias


class Reading(nn.Linear):
    def get_extra_state(self):
        return self.weight.sum().item()


@pytest.mark.parametrize(
    ("layer", "messages"),
    [
        (nn.Linear, []),
        (lambda size, _: nn.BatchNorm1d(size), []),
        (lambda *sizes: nn.utils.parametrizations.weight_norm(nn.Linear(*sizes)), []),
        (Stateful, ["also has what the plan does not have: 0._extra_state$"]),
        (Renamed, ["also has what the plan does not have: w$", "does not have: 0.weight$"]),
        (Unsaved, ["the plan has what state_dict\\(\\) of the model does not have: 0.weight$"]),
        (Reading, ["were not compared with state_dict\\(\\): RuntimeError: "]),
    ],
)
def test_what_only_the_state_has_or_lacks_is_named(layer, messages):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fastinit.torch.plan(nn.Sequential(layer(3, 4)), {"*original*": 1})
    texts = [str(one.message) for one in seen if "state_dict" in str(one.message)]
    assert len(texts) == len(messages)
    for text, message in zip(texts, messages, strict=True):
        assert re.search(message, text), text


def test_wrappers_and_prefixes_are_no_difference():
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model = nn.Sequential(
        checkpoint_wrapper(nn.Linear(3, 4)), torch.compile(nn.Linear(4, 3)), nn.BatchNorm1d(3)
    )
    for one in (model, nn.DataParallel(model)):
        for prefix in ("", "layers.7", "layers.7."):
            plan = fastinit.torch.plan(one, prefix=prefix)
            assert plan.rows[0].name == "layers.7."[: 9 if prefix else 0] + "0.weight"


def as_bytes(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def check(make, rules=None, *, meta=True, **options):
    """Compares the plan of a model with what `initialize` makes, and returns it."""
    with torch.device("meta" if meta else "cpu"):
        model = make()
    plan = fastinit.torch.plan(model, rules, **options)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))).rows == plan.rows
    for seed in (0, 5):
        torch.manual_seed(0)  # Without meta, what `initialize` leaves alone is as in `model`.
        made = make()
        report = fastinit.torch.initialize(made, seed, rules, **options)
        state = made.state_dict(prefix=f"{options['prefix']}." if "prefix" in options else "")
        assert {name for row in plan.rows for name in row.names} == set(state)
        for row in plan.rows:
            expected = sampled(row, seed).tobytes()
            for name in row.names:
                tensor = state[name]
                assert tensor.shape == row.shape
                assert str(tensor.dtype) == f"torch.{row.dtype}"
                assert as_bytes(tensor) == expected, name
        rules_of = {row.name: row.rule for row in plan.rows}
        assert all(rules_of[row.name] == row.rule for row in report.rows if row.name in rules_of)
    return plan


class Computed(nn.Module):
    """What other code computes: small tables, and one of them is not saved."""

    def __init__(self):
        super().__init__()
        self.table, self.linear = nn.Parameter(torch.empty(4, 3)), nn.Linear(3, 3)
        self.register_buffer("mask", torch.empty(5, dtype=torch.bool))
        self.register_buffer("positions", torch.empty(6, dtype=torch.int64))
        self.register_buffer("scratch", torch.empty(6), persistent=False)

    def reset_parameters(self):
        with torch.no_grad():
            self.table.copy_(torch.arange(12.0).log1p().reshape(4, 3))
            self.mask.copy_(torch.tensor([True, False, True, True, False]))
            self.positions.copy_(torch.arange(6))


class Large(nn.Module):
    """Tensors above the size up to which plans fill them."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.embed = nn.Embedding(2100, 300, padding_idx=7, dtype=dtype)
        self.up = nn.Linear(300, 2100, dtype=dtype)
        self.zero = nn.Parameter(torch.empty(600, 1000, dtype=dtype))
        self.ones = nn.Parameter(torch.empty(600, 1000, dtype=dtype))
        self.conv = nn.Conv2d(300, 300, 3, dtype=dtype).to(memory_format=torch.channels_last)
        self.square = nn.Linear(1100, 600, dtype=dtype)

    def reset_parameters(self):
        nn.init.zeros_(self.zero)
        nn.init.constant_(self.ones, 0.5)
        nn.init.orthogonal_(self.square.weight)


def tied():
    model = nn.Sequential(nn.Embedding(30, 8), nn.Linear(8, 30))
    model[1].weight = model[0].weight
    return model


MODELS = {
    "layers": lambda: nn.Sequential(
        nn.Embedding(50, 8, padding_idx=-1),
        nn.EmbeddingBag(20, 4, padding_idx=0),
        nn.Linear(8, 16, dtype=torch.bfloat16),
        nn.Linear(8, 16, dtype=torch.float16, bias=False),
        nn.BatchNorm1d(16, dtype=torch.float64),
        nn.LSTM(16, 8, proj_size=3),
        nn.MultiheadAttention(8, 2, kdim=3, vdim=5, add_bias_kv=True),
        nn.ConvTranspose2d(4, 6, 3, groups=2),
        nn.GroupNorm(2, 4),
        nn.Bilinear(3, 4, 5),
        nn.PReLU(),
        nn.TransformerEncoderLayer(8, 2, 16),
    ),
    "computed": Computed,
    "large": Large,
    "large halves": lambda: Large(torch.bfloat16),
    "tied": tied,
    "nothing": nn.ReLU,
    "empty": lambda: nn.Linear(0, 4),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_values_are_those_of_initialize(name, meta):
    plan = check(MODELS[name], meta=meta)
    if name == "tied":
        assert plan["1.weight"].names == ("0.weight", "1.weight")
    if name == "computed":
        assert plan["table"].initializer is None
        assert "scratch" not in {row.name for row in plan.rows}


def test_rules_and_blocks():
    rules = {
        "0.weight": "he_normal",
        nn.Conv1d: {"weight": fastinit.Orthogonal(), "bias": 0.25},
        re.compile("bias$"): fastinit.RandomNormal(stddev=0.5),
        "nothing": 1,
    }
    make = lambda: nn.Sequential(nn.Linear(8, 16), nn.Conv1d(3, 6, 3), nn.Linear(4, 6))  # noqa: E731
    plan = check(make, rules, blocks={"0.weight": 4, "2.weight": (1, 3, 2)})
    assert plan.unused_rules == ("nothing",)
    assert len(plan["2.weight"].parts) == 3
    assert check(make, lambda _: None).rows
    assert check(make, prefix="layers.3").rows[0].name == "layers.3.0.weight"


def test_one_large_tensor_of_blocks():
    check(lambda: nn.Linear(600, 900), {"weight": "orthogonal"}, blocks={"weight": 3})


MODELS_OF_LIBRARIES = [
    ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 100}, "LMHeadModel"),
    (
        "Llama",
        {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "vocab_size": 100,
        },
        "ForCausalLM",
    ),
    ("T5", {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 2, "vocab_size": 100}, "Model"),
]
IDS = {"bos_token_id": 1, "eos_token_id": 2}


@pytest.mark.parametrize(("name", "sizes", "kind"), MODELS_OF_LIBRARIES, ids=lambda x: str(x)[:8])
def test_models_of_transformers(name, sizes, kind):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{name}Config")(**sizes, **IDS)
    check(lambda: getattr(transformers, name + kind)(config))


@pytest.mark.filterwarnings("ignore:the model seems to have an initialization of its own")
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("vit_tiny_patch16_224", {"depth": 2, "embed_dim": 24}),
        ("resnet18", {}),
        ("swin_tiny_patch4_window7_224", {"embed_dim": 24, "depths": (1, 1), "num_heads": (2, 2)}),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_models_of_timm(name, sizes):
    timm = pytest.importorskip("timm")
    check(lambda: timm.create_model(name, **sizes))


@pytest.mark.parametrize("architectures", [["GPT2LMHeadModel"], None])
def test_a_config_of_transformers(tmp_path, architectures):
    transformers = pytest.importorskip("transformers")
    name, sizes, _ = MODELS_OF_LIBRARIES[0]
    config = getattr(transformers, f"{name}Config")(**sizes, **IDS, dtype="bfloat16")
    config.architectures = architectures
    config.save_pretrained(tmp_path)
    for source in (tmp_path, tmp_path / "config.json", str(tmp_path / "config.json")):
        plan = checkpoint.plan(source)
        expected = transformers.GPT2LMHeadModel if architectures else transformers.GPT2Model
        assert {row.dtype for row in plan.rows} == {"bfloat16"}
        assert {name for row in plan.rows for name in row.names} == set(expected(config).state_dict())
    assert {row.dtype for row in checkpoint.plan(tmp_path, dtype="float32").rows} == {"float32"}
    written = checkpoint.write(plan, tmp_path, 3, max_shard_size="20kB")
    assert len(written.files) > 1
    loaded = expected.from_pretrained(tmp_path)
    for row in plan.rows:
        for one in row.names:
            there = loaded.state_dict()[one].to(torch.bfloat16)
            assert as_bytes(there) == sampled(row, 3).tobytes()


def test_configs_that_are_none(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        fastinit.torch.plan(tmp_path)
    for text in ("{}", "[]", "{", '{"model_type": "unknown-model"}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"config\.json is not a configuration that transformers knows"):
            fastinit.torch.plan(tmp_path)


def test_configs_of_other_classes(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    name, sizes, _ = MODELS_OF_LIBRARIES[0]
    config = getattr(transformers, f"{name}Config")(**sizes, **IDS).to_dict()
    path = tmp_path / "other.json"
    (tmp_path / "config.json").write_text("{}")
    path.write_text(json.dumps({**config, "architectures": ["GPT2Model"]}))
    assert fastinit.torch.plan(path)["wte.weight"].shape == (100, 32)  # of this file, not of config.json
    for wrong in (["NoSuchModel"], ["Trainer"], ["AutoConfig"], [3], {"a": 1}):
        path.write_text(json.dumps({**config, "architectures": wrong}))
        with pytest.raises(ValueError, match=r"transformers has no model .*architectures"):
            fastinit.torch.plan(path)
    path.write_text(json.dumps({**config, "architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(ValueError, match="transformers cannot make LlamaForCausalLM of it"):
        fastinit.torch.plan(path)
    # Code in the directory is not run, and there is no question on the terminal.
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    (tmp_path / "code.py").write_text("raise SystemExit")
    path.write_text(json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "code.Own"}}))
    with pytest.raises(ValueError, match="is not a configuration that transformers knows"):
        fastinit.torch.plan(path)


def state(model):
    return {
        name: (id(value), value._version, value.requires_grad, value.is_meta or value.clone())
        for name, value in (*model.named_parameters(), *model.named_buffers())
    }


@pytest.mark.parametrize("meta", [True, False])
def test_the_model_and_the_generator_are_as_before(meta):
    with torch.device("meta" if meta else "cpu"):
        model = Large()
    model.eval()
    model.up.weight.requires_grad_(False)
    model.up.register_forward_hook(lambda *_: None)
    before, generator = state(model), torch.get_rng_state()
    fastinit.torch.plan(model)
    after = state(model)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not model.training
    for name, (*one, tensor) in before.items():
        *other, again = after[name]
        assert one == other
        assert tensor is True or as_bytes(tensor) == as_bytes(again)  # New memory may have NaN.


class Scaled(nn.Module):
    def __init__(self, rows=4):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, 4))

    def reset_parameters(self):
        nn.init.normal_(self.weight)
        with torch.no_grad():
            self.weight.div_(2.0)


class Dependent(nn.Module):
    def __init__(self, rows=4):
        super().__init__()
        self.weight, self.scale = nn.Parameter(torch.empty(rows, 300)), nn.Parameter(torch.empty(1))

    def reset_parameters(self):
        nn.init.normal_(self.weight)
        with torch.no_grad():
            self.scale.copy_(self.weight.norm())


class DependentDistribution(Dependent):
    def reset_parameters(self):
        nn.init.normal_(self.weight)
        nn.init.normal_(self.scale, std=float(self.weight.detach().abs().max()))


class Drawn(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(5))

    def reset_parameters(self):
        with torch.no_grad():
            self.weight.copy_(torch.rand(5).exp())


class Never(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(5))


class Position(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.empty(600, 1000))

    def reset_parameters(self):
        with torch.no_grad():
            self.table.copy_(torch.arange(600_000.0).reshape(600, 1000))


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (Scaled, "weight", "computed from random numbers by other code"),
        (lambda: Scaled(100_000), "weight", "computed by other code"),
        (Dependent, "scale", "computed from random numbers by other code"),
        (lambda: Dependent(1000), "scale", "computed from random numbers by other code"),
        (DependentDistribution, "scale", "its distribution depends on random numbers"),
        (lambda: DependentDistribution(1000), "scale", "its distribution depends on random numbers"),
        (Drawn, "weight", "computed from random numbers by other code"),
        (Never, "weight", "not initialized"),
        (Position, "table", "computed by other code"),
        (
            lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
            "parametrizations.weight.original0",
            "not initialized",
        ),
    ],
)
def test_what_a_plan_cannot_say_is_an_error(make, name, reason):
    with torch.device("meta"):
        model = make()
    message = rf"cannot be planned without a rule: .*{re.escape(name)} \({reason}"
    with pytest.raises(ValueError, match=message):
        fastinit.torch.plan(model)
    rules = {name: fastinit.RandomUniform(), "parametrizations.*": 0.0}
    plan = fastinit.torch.plan(model, rules)
    assert plan[name].initializer == fastinit.RandomUniform()


WRITES = {
    "a row": lambda m: m.weight.data[0].zero_(),
    "a range of rows": lambda m: m.weight.data[2:4].fill_(1.0),
    "an index": lambda m: m.weight.data.__setitem__(1, 0.5),
    "a transpose": lambda m: m.weight.data.t().mul_(0.5),
    "all in another shape": lambda m: m.weight.data.view(-1).clamp_(-4, 4),
    "strides": lambda m: m.weight.data.as_strided((5,), (1,)).zero_(),
    "several": lambda m: torch._foreach_mul_([m.weight.data], 2.0),
    "bits": lambda m: m.weight.data.view(torch.int32)[0].zero_(),
    "another fill": lambda m: nn.init.normal_(m.weight.data[0], std=3.0),
    "an operation": lambda m: torch.ops.aten.mul_(m.weight.data[0], 2.0),
    "an array": lambda m: m.weight.detach().numpy().__setitem__(0, 1),
    "DLPack": lambda m: np.from_dlpack(m.weight.detach()).__setitem__(0, 1),
    "the storage": lambda m: m.weight.untyped_storage().fill_(0),
}


class Written(nn.Embedding):
    """Rows that other code writes to after a fill, besides the one of padding, which is zero."""

    def __init__(self, write, rows):
        self.write = write
        super().__init__(rows, 300, padding_idx=3)

    def reset_parameters(self):
        nn.init.normal_(self.weight)
        self.write(self)


@pytest.mark.parametrize("rows", [6, 2000])
@pytest.mark.parametrize("name", WRITES)
def test_no_write_after_a_fill_is_missed(name, rows):
    with torch.device("meta"):
        model = Written(lambda _: None, rows)
    model.write = WRITES[name]
    with pytest.raises(ValueError, match=r"weight \((computed|changed|the code of the model looks)"):
        fastinit.torch.plan(model)
    model.write = lambda m: m.weight.data[m.padding_idx].fill_(7)
    assert len(fastinit.torch.plan(model)["weight"].parts) == 3


class Looking(nn.Module):
    """Code that decides by, or computes with, values that the plan does not have."""

    def __init__(self, look, rows):
        super().__init__()
        self.weight, self.scale = nn.Parameter(torch.empty(rows, 300)), nn.Parameter(torch.empty(3))
        self.look = look

    def reset_parameters(self):
        nn.init.normal_(self.weight)
        nn.init.ones_(self.scale)
        self.look(self)


def when(holds, m):
    if holds:
        nn.init.zeros_(m.scale)


LOOKS = {
    # None of these differs between most seeds.
    "a draw": lambda m: when(torch.rand(()) > 0.999, m),
    "an element": lambda m: when(m.weight.data[-1, -1] > 4.0, m),
    "equality": lambda m: when(torch.equal(m.weight.data[0], m.weight.data[1]), m),
    "a list": lambda m: when(m.weight.data[5].tolist()[0] > 4.0, m),
    "an array": lambda m: when(m.weight.data.numpy()[5, 0] > 4.0, m),
    "a sum": lambda m: m.scale.data.copy_(m.weight.data[5:].sum() > 1e9),
    "a number": lambda m: m.scale.data.fill_(m.weight.data[5:].sum().item() > 1e9),
}


@pytest.mark.parametrize("rows", [6, 2000])
@pytest.mark.parametrize("name", LOOKS)
def test_no_dependence_on_random_numbers_is_missed(name, rows):
    with torch.device("meta"):
        model = Looking(LOOKS[name], rows)
    with pytest.raises(ValueError, match=r"scale \((computed from|the code of the model looks at) random"):
        fastinit.torch.plan(model)
    if name == "a sum":
        plan = fastinit.torch.plan(model, {"scale": 1})
        assert plan["weight"].initializer == fastinit.RandomNormal(stddev=1.0)


def test_what_is_computed_from_large_constants():
    class Net(Looking):
        def reset_parameters(self):
            nn.init.ones_(self.weight)
            with torch.no_grad():
                self.scale.copy_(self.weight.mean())

    assert check(lambda: Net(None, 6))["scale"].initializer is None
    with torch.device("meta"):
        model = Net(None, 2000)
    with pytest.raises(ValueError, match="scale"):  # The plan has no such tensor to compute with.
        fastinit.torch.plan(model)


def test_parameters_of_dtypes_that_initialize_does_not_fill():
    model = nn.Module()
    for dtype in (torch.int8, torch.bool, torch.float8_e4m3fn):
        parameter = nn.Parameter(torch.empty(4, 2, dtype=dtype, device="meta"), requires_grad=False)
        model.register_parameter(str(dtype)[6:], parameter)
    plan = fastinit.torch.plan(model, {"float*": fastinit.RandomNormal(), "*": 1}, blocks={"int8": 2})
    assert plan["float8_e4m3fn"].initializer == fastinit.RandomNormal()
    assert (sampled(plan["int8"], 0) == 1).all()
    with pytest.raises(ValueError, match="int8, rule 'int8': a tensor of int8 must be constant"):
        fastinit.torch.plan(model, {"int8": "he_normal", "*": 0})


def test_models_that_cannot_be_copied():
    model = nn.Linear(3, 3)
    model.handle = sys.stdout
    with pytest.raises(ValueError, match="cannot be planned, since it cannot be copied: TypeError"):
        fastinit.torch.plan(model)


class Shared(nn.Module):
    """A parameter, and another tensor of the same memory."""

    def __init__(self, kind, begin, end):
        super().__init__()
        flat = torch.zeros(8, 4)
        self.weight = nn.Parameter(flat[:4])
        if kind == "buffer":
            self.register_buffer("other", flat[begin:end])
        else:
            self.other = nn.Parameter(flat[begin:end])

    def reset_parameters(self):
        nn.init.zeros_(self.weight)
        nn.init.normal_(self.other)


@pytest.mark.parametrize("kind", ["buffer", "parameter"])
def test_tensors_that_share_memory(kind):
    for begin, end in ((0, 2), (1, 4), (3, 8)):
        with pytest.raises(ValueError, match="share memory, so a plan"):
            fastinit.torch.plan(Shared(kind, begin, end))
    rows = fastinit.torch.plan(Shared(kind, 4, 8)).rows
    assert [row.initializer for row in rows] == [fastinit.Constant(0.0), fastinit.RandomNormal(stddev=1.0)]


def test_tensors_without_a_shape():
    with pytest.raises(ValueError, match=r"a\.1\.weight has no shape yet"):
        fastinit.torch.plan(nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(3)), {"*": 0}, prefix="a")


def test_buffers_without_values():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.empty(4, 3))
            self.register_buffer("steps", torch.empty((), dtype=torch.int64))
            self.linear = nn.Linear(3, 3)

    with torch.device("meta"):
        model = Net()
    with pytest.raises(ValueError, match=r"2 tensors .*table \(its values are unknown\), steps"):
        fastinit.torch.plan(model)
    plan = fastinit.torch.plan(model, {"steps": 5, "table": "he_normal"})
    assert plan["steps"].initializer == fastinit.Constant(5.0)
    assert plan["table"].initializer == fastinit.HeNormal(in_axis=1, out_axis=0)
    assert plan.unused_rules == ()
    with pytest.raises(ValueError, match="steps, rule 'steps': a tensor of int64 must be constant"):
        fastinit.torch.plan(model, {"steps": "he_normal", "table": 1})


def test_tensors_that_a_plan_cannot_have():
    model = nn.Linear(2, 2, dtype=torch.complex64)
    with pytest.raises(TypeError, match="weight: dtype must be one of"):
        fastinit.torch.plan(model)
    for wrong in (None, 5, {}):
        with pytest.raises(TypeError, match="model must be"):
            fastinit.torch.plan(wrong)
    with pytest.raises(TypeError, match="prefix must be a str"):
        fastinit.torch.plan(model, prefix=3)


def test_modules_that_seem_to_have_an_initialization_of_their_own():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)
            self._init_weights()

        def _init_weights(self):
            nn.init.ones_(self.linear.weight)

    with pytest.warns(UserWarning, match="an initialization of its own, which the plan does not have"):
        fastinit.torch.plan(Net())


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the peak of a process")
def test_a_model_that_is_larger_than_memory():
    program = """
import torch, fastinit.torch
from torch import nn
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024
with torch.device("meta"):
    small = nn.Sequential(nn.Linear(8, 8), nn.Embedding(8, 8, padding_idx=1))
    model = nn.Sequential(nn.Embedding(2**20, 2**16, padding_idx=5), nn.Linear(2**17, 2**18))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
fastinit.torch.plan(small)
before = peak()
plan = fastinit.torch.plan(model, {"1.weight": 0})
print(plan.nbytes / 1e9, peak() - before)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    size, peak = map(float, result.stdout.split())
    assert size > 400
    assert peak < 64
