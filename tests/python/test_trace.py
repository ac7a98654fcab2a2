"""`trace` and `lsuv` of modules of PyTorch, against hooks written by hand, and their verdicts."""

import dataclasses
import json
import math
import pickle
import random
import warnings

import numpy as np
import pytest

import fastinit
from fastinit.guidance import Repair, TraceProblem, TraceVerdict

torch = pytest.importorskip("torch")
nn = torch.nn


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def plain(depth, activation=nn.ReLU, width=64, initialize=None):
    layers = [one for _ in range(depth) for one in (nn.Linear(width, width), activation())]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    for module in model.modules():
        if isinstance(module, nn.Linear) and initialize is not None:
            initialize(module)
    return model


class Everything(nn.Module):
    """In-place and shared activations, tuples, dicts, frozen and unused layers, dropout, statistics."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)
        self.lstm = nn.LSTM(6, 5, batch_first=True)
        self.drop = nn.Dropout(0.5)
        self.attention = nn.MultiheadAttention(5, 1, batch_first=True)
        self.unused = nn.Linear(3, 3)
        self.head = nn.Linear(5, 4)
        self.conv.requires_grad_(False)

    def forward(self, x):
        y = self.act(self.norm(self.act(self.conv(x))))
        y, _ = self.lstm(y.mean(dim=1))
        y, _ = self.attention(y, y, y)
        np.random.rand(), random.random(), torch.rand(1)
        return {"mask": torch.ones(2, dtype=torch.int64), "logits": self.head(self.drop(y)).tanh_()}


def state_of(model):
    return {
        "tensors": {
            n: (id(t), t.detach().clone()) for n, t in [*model.named_parameters(), *model.named_buffers()]
        },
        "grad": {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()},
        "requires": {n: p.requires_grad for n, p in model.named_parameters()},
        "training": [m.training for m in model.modules()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in model.modules()
        ],
        "keys": [sorted(vars(m)) for m in model.modules()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),
        "random": random.getstate(),
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_equals_hooks_by_hand():
    model, x = Everything(), torch.randn(6, 3, 8, 8)
    target = torch.randn(6, 6, 4)
    outputs, gradients = {}, {}

    def hook(name):
        def after(_module, _inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            key = name if name not in outputs else f"{name} (2)"
            outputs[key] = output.detach().clone()
            if output.requires_grad:
                output.register_hook(lambda gradient: gradients.update({key: gradient.clone()}))

        return after

    def loss(output, target):
        return (output["logits"] - target).square().mean()

    names = ["conv", "norm", "act", "lstm", "attention", "head"]
    handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    model.norm.momentum = 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        value = loss(model(x), target)
        trained = dict(model.named_parameters())
        by_hand = torch.autograd.grad(value, [model.head.weight, model.head.bias], retain_graph=True)
    value.backward()
    for handle in handles:
        handle.remove()
    for parameter in trained.values():
        parameter.grad = None
    gradients_seen = dict(gradients)
    found = fastinit.trace(model, x, loss=loss, target=target, seed=5, learning_rate=0.1)
    assert [row.name for row in found.rows] == ["conv", "act", "norm", "act (2)", "lstm", "attention", "head"]
    assert found.loss == pytest.approx(value.item())
    for row in found.rows:
        y = outputs[row.name].double()
        assert row.shape == tuple(y.shape)
        assert row.std == pytest.approx(float(y.std(correction=0)), rel=1e-6)
        assert row.mean == pytest.approx(float(y.mean()), rel=1e-5, abs=1e-7)
        spread = float((y.var(dim=0, correction=0).mean() / y.square().mean()).sqrt())
        assert row.sample_distance == pytest.approx(spread, rel=1e-6)
        axis = (0, 2, 3) if y.dim() == 4 else tuple(range(y.dim() - 1))
        assert row.constant_units == pytest.approx(float((y.amax(axis) - y.amin(axis) == 0).double().mean()))
        if row.name in gradients_seen:
            g = gradients_seen[row.name].double()
            assert row.gradient_std == pytest.approx(float(g.std(correction=0)), rel=1e-6)
            assert row.no_gradient == pytest.approx(float((g.abs().amax(axis) == 0).double().mean()))
    assert found["conv"].gradient_std is not None  # though it is frozen
    assert found["conv"].update_ratio is None
    ratio = 0.1 * math.hypot(*(float(g.norm()) for g in by_hand))
    ratio /= math.hypot(model.head.weight.norm().item(), model.head.bias.norm().item())
    assert found["head"].update_ratio == pytest.approx(ratio, rel=1e-5)
    assert found.unused == ("unused.weight", "unused.bias")
    assert found["act"].activation == "relu"


@pytest.mark.parametrize("training", [None, True, False])
def test_no_trace_is_left(training):
    model = Everything()
    model.norm.eval()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    model(torch.randn(2, 3, 8, 8))
    before = state_of(model)
    first = fastinit.trace(model, (4, 3, 8, 8), training=training)
    assert same(before, state_of(model))
    torch.rand(1)
    again = fastinit.trace(model, (4, 3, 8, 8), training=training)
    assert first == again  # also with dropout

    def loss(output):
        raise ZeroDivisionError(len(output))

    before = state_of(model)
    with pytest.raises(ZeroDivisionError):
        fastinit.trace(model, (4, 3, 8, 8), loss=loss, training=training)
    assert same(before, state_of(model))
    with pytest.raises(RuntimeError):
        fastinit.trace(model, (4, 2, 8, 8), training=training)
    assert same(before, state_of(model))
    fastinit.lsuv(model, (4, 3, 8, 8), training=training)
    assert same(before, state_of(model))
    with pytest.raises(RuntimeError):
        fastinit.lsuv(model, (4, 2, 8, 8), training=training)
    assert same(before, state_of(model))


@pytest.mark.parametrize("modes", [(True, True), (True, False), (False, False), (False, True)])
@pytest.mark.parametrize("training", [True, False])
def test_weights_that_depend_on_the_mode_are_as_before(modes, training):
    class Merged(nn.Linear):  # as in LoRA
        merged = False

        def train(self, mode):
            if mode == self.merged:
                self.weight.data *= 0.5 if mode else 2.0
                self.merged = not mode
            return super().train(mode)

    model = nn.Sequential(Merged(64, 64), nn.ReLU(), Merged(64, 2))
    model.train(modes[0])
    model[2].train(modes[1])
    before = state_of(model)
    assert fastinit.trace(model, 4, training=training).ok
    assert same(before["tensors"], state_of(model)["tensors"])
    assert before["training"] == state_of(model)["training"]


def test_buffers_are_as_before():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(64, 2)
            self.register_buffer("mask", None)
            self.register_buffer("count", torch.zeros(()))
            self.register_buffer("scale", torch.tensor(0.5).expand(64))

        def forward(self, x):
            self.mask = torch.ones(64)
            self.count += 1
            self.register_buffer("late", self.mask)
            return self.head(x * self.mask * self.scale)

    model = Net()
    before, count = state_of(model), model.count
    assert fastinit.trace(model, (4, 64)).ok
    assert same(before, state_of(model))
    fastinit.lsuv(model, (4, 64))
    assert same(before, state_of(model))
    assert model.mask is None
    assert model.count is count


@pytest.mark.parametrize("trains", [False, True])
def test_the_batch_is_as_before(trains):
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(64, 2))
    x = torch.randn(8, 64, requires_grad=trains)
    before = x.detach().clone()
    first = fastinit.trace(model, x)
    fastinit.lsuv(model, x)
    assert torch.equal(x, before)
    assert x.grad is None
    assert fastinit.trace(model, x) == first
    array = before.numpy().copy()
    assert fastinit.trace(model, array) == first
    assert (array == before.numpy()).all()


def test_no_hook_is_left_on_what_a_module_returns():
    class Position(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 64))

        def forward(self, _):
            return self.weight

    class Same(nn.Module):
        def forward(self, x):
            return x

    position, x = Position(), torch.randn(4, 64, requires_grad=True)
    for model in (position, nn.Sequential(Same(), nn.Linear(64, 2))):
        assert fastinit.trace(model, x).rows[0].gradient_std
    assert not position.weight._backward_hooks
    assert not x._backward_hooks
    assert x.grad is None


def small_biases(module):
    nn.init.kaiming_normal_(module.weight)
    nn.init.constant_(module.bias, -4.9)


def normal(std):
    return lambda module: nn.init.normal_(module.weight, std=std)


CASES = {
    "default, 50 x ReLU": (plain, (50,), {"vanishes", "samples_alike"}),
    "default, 50 x tanh": (plain, (50, nn.Tanh), {"vanishes", "samples_alike"}),
    "default, 30 x GELU": (plain, (30, nn.GELU), {"vanishes", "samples_alike"}),
    "0.01, 10 x ReLU": (plain, (10, nn.ReLU, 64, normal(0.01)), {"vanishes", "samples_alike"}),
    "0.5, 12 x ReLU": (plain, (12, nn.ReLU, 64, normal(0.5)), {"explodes"}),
    "1e20, 3 x ReLU": (plain, (3, nn.ReLU, 64, normal(1e20)), {"not_finite"}),
    "constant by biases": (plain, (6, nn.ReLU, 64, small_biases), {"vanishes", "constant_units"}),
    "1, 4 x tanh": (plain, (4, nn.Tanh, 64, normal(1.0)), {"saturates"}),
    "zeros": (
        plain,
        (4, nn.ReLU, 64, lambda m: nn.init.zeros_(m.weight)),
        {"vanishes", "constant_units", "samples_alike"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_found_and_fixed(case):
    make, arguments, expected = CASES[case]
    model = make(*arguments)
    found = fastinit.trace(model, 32)
    verdicts = {problem.verdict.value for problem in found.problems}
    assert verdicts
    assert verdicts <= expected
    assert not found.ok
    assert found.verdict == found.problems[0].verdict
    assert found.first in {row.name for row in found.rows}
    before = state_of(model)
    repair = found.fix(seed=3)
    assert same(before, state_of(model))
    assert not repair.problems
    repair.apply()
    after = fastinit.trace(model, 32)
    assert after.ok, after.text
    assert after.fix().rows == ()


def test_saturation_is_that_before_a_layer_that_works_in_place():
    model = plain(1, nn.Hardsigmoid, 64, normal(1.0))
    found = fastinit.trace(model, 32)
    assert found["1"].saturated > 0.5
    model[1].inplace = True
    assert fastinit.trace(model, 32) == found


def test_good_networks_are_good():
    def he(module):
        nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(module.bias)

    for model in (plain(50, initialize=he), plain(3), plain(5, nn.Tanh)):
        found = fastinit.trace(model, 64)
        assert found.ok, found.text
        assert (found.verdict, found.first, found.text) == (TraceVerdict.GOOD, None, "good")


def test_what_is_zero_by_design_is_good():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.up, self.act, self.down = (
                nn.LayerNorm(32),
                nn.Linear(32, 64),
                nn.GELU(),
                nn.Linear(64, 32),
            )
            nn.init.zeros_(self.down.weight)
            nn.init.zeros_(self.down.bias)

        def forward(self, x):
            return x + self.down(self.act(self.up(self.norm(x))))

    residual = nn.Sequential(*(Block() for _ in range(6)), nn.Linear(32, 10))
    assert fastinit.trace(residual, (16, 32)).ok
    nn.init.zeros_(residual[-1].weight)
    nn.init.zeros_(residual[-1].bias)
    assert fastinit.trace(residual, (16, 32)).ok
    tiny = plain(3, initialize=None)
    nn.init.normal_(tiny[-1].weight, std=1e-4)
    nn.init.zeros_(tiny[-1].bias)
    assert fastinit.trace(tiny, 16).ok


def test_large_logits_are_found():
    model = nn.Sequential(nn.Embedding(50, 256), nn.LayerNorm(256), nn.Linear(256, 50, bias=False))
    assert fastinit.trace(model, 8).ok
    nn.init.normal_(model[2].weight)
    assert fastinit.trace(model, 8).problems[0].message.startswith("the output has the std 1")


@pytest.mark.slow  # PyTorch's compiler takes long to load
def test_compiled_modules():
    compiled = torch.compile(plain(2))
    assert [row.name for row in fastinit.trace(compiled, 4).rows] == ["0", "1", "2", "3", "4"]
    inner = nn.Sequential(torch.compile(plain(2)), nn.Linear(10, 3))
    assert [row.name for row in fastinit.trace(inner, (4, 64)).rows] == [*(f"0.{i}" for i in range(5)), "1"]
    body = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 64))
    nn.init.zeros_(body[0].weight)
    normed = nn.Sequential(torch.compile(body), nn.Linear(64, 3))
    repair = fastinit.trace(normed, (4, 64)).fix()
    assert {"0.0.weight", "0.0.bias"} <= set(repair.rules)
    repair.apply()
    assert fastinit.trace(normed, (4, 64)).ok


def test_unusual_modules():
    half = fastinit.trace(plain(2).to(torch.bfloat16), 4)
    assert half.rows[0].std == pytest.approx(0.577, rel=0.2)

    class Checkpointed(nn.Module):
        def __init__(self, reentrant):
            super().__init__()
            self.body, self.head, self.reentrant = plain(2), nn.Linear(10, 2), reentrant

        def forward(self, x):
            return self.head(torch.utils.checkpoint.checkpoint(self.body, x, use_reentrant=self.reentrant))

    other = Checkpointed(False)
    found = fastinit.trace(other, (4, 64))
    assert len(found.rows) == 6
    assert all(row.gradient_std for row in found.rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fastinit.trace(Checkpointed(True), (4, 64))
    assert [row.gradient_std is None for row in found.rows] == [True] * 5 + [False]
    frozen = plain(2).requires_grad_(False)
    found = fastinit.trace(frozen, 4)
    assert all(row.gradient_std for row in found.rows)
    assert all(row.update_ratio is None for row in found.rows)


def test_inputs_and_layers():
    model = plain(2)
    x = np.random.default_rng(0).normal(size=(8, 64))
    found = fastinit.trace(model, x)
    assert found == fastinit.trace(model, (torch.from_numpy(x).float(),))
    assert found == fastinit.trace(model, {"input": x.astype(np.float32)})
    assert found.samples == 8
    assert found.input_std == pytest.approx(x.std(), rel=1e-5)
    assert [row.name for row in fastinit.trace(model, 4, layers=["0", "4"]).rows] == ["0", "4"]
    whole = fastinit.trace(model, 4, layers="Sequential")
    assert whole.rows[0].parameters == sum(p.numel() for p in model.parameters())


def test_errors():
    with pytest.raises(TypeError, match="got int"):
        fastinit.trace(3, 4)
    with torch.device("meta"):
        meta = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="meta device"):
        fastinit.trace(meta, 4)
    with pytest.raises(ValueError, match="no shape yet"):
        fastinit.trace(nn.LazyLinear(3), 4)
    with pytest.raises(ValueError, match="cannot be told"):
        fastinit.trace(nn.Conv2d(3, 4, 3), 4)
    with pytest.raises(ValueError, match="no layer is named like 'x'"):
        fastinit.trace(plain(1), 4, layers="x")
    with pytest.raises(TypeError, match="one element"):
        fastinit.trace(plain(1), 4, loss=lambda y: y)
    with pytest.raises(ValueError, match="positive"):
        fastinit.trace(plain(1), 4, learning_rate=0.0)
    with pytest.raises(ValueError, match="positive"):
        fastinit.lsuv(plain(1), 4, std=0.0)


def test_results_as_values():
    found = fastinit.trace(plain(30), 8)
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    with pytest.raises(TypeError, match="copied"):
        again.fix()
    short = fastinit.trace(plain(1), 8)
    assert "unused=()" in repr(short)
    assert "_repair" not in repr(short)
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["verdict"] == found.verdict
    assert values["rows"][0]["name"] == "0"
    assert len(str(found).splitlines()) < 60 < len(found.to_text(full=True).splitlines())
    assert "more" in str(found)
    rules = json.loads(json.dumps(found.fix().to_dict(), allow_nan=False))["rows"]
    assert fastinit.get(rules[0]["initializer"]) == found.fix().rows[0].initializer


def test_lsuv_rules_give_the_same_weights_everywhere():
    import fastinit.torch

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(30, 16)
            self.up = nn.Conv1d(16, 24, 3, padding=1)
            self.back = nn.ConvTranspose1d(24, 16, 3, padding=1)
            self.lstm = nn.LSTM(16, 16)
            self.spare = nn.Linear(4, 4)
            self.head = nn.Linear(16, 30, bias=False)
            self.head.weight = self.embed.weight
            self.out = nn.Linear(30, 5)

        def forward(self, x):
            y = self.embed(x).transpose(1, 2)
            y, _ = self.lstm(self.back(torch.relu(self.up(y))).transpose(1, 2))
            return self.out(torch.tanh(self.head(y)))

    model, x = Net(), torch.randint(0, 30, (8, 12))
    found = fastinit.lsuv(model, x, seed=9)
    assert isinstance(found, Repair)
    assert list(found.rules) == ["up.weight", "up.bias", "back.weight", "back.bias", "out.weight", "out.bias"]
    assert set(found.skipped) == {"embed.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0", "spare.weight"}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    found.apply()
    trace = fastinit.trace(model, x)
    assert [trace[name].std for name in ("up", "back", "out")] == pytest.approx([1.0] * 3, rel=1e-4)
    for name, p in model.named_parameters():
        if name in found.rules:
            array = found.rules[name](tuple(p.shape), seed=9, stream=name)
            np.testing.assert_array_equal(p.detach().numpy(), array)
        else:
            assert torch.equal(p, before[name])
    other = Net()
    other.load_state_dict(model.state_dict())
    for name in found.rules:
        nn.init.ones_(other.get_parameter(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # initialize warns of nothing here but torch's own
        fastinit.torch.initialize(other, seed=9, rules={**found.rules, "*": None})
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))
    assert str(found).count("\n") >= 6 + 4


def test_rules_have_the_first_name_of_what_is_tied():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.ones(64))
            self.up, self.norm, self.head = nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 64)
            self.up.bias = self.norm.bias = self.bias
            nn.init.zeros_(self.up.weight)

        def forward(self, x):
            return self.head(torch.relu(self.norm(self.up(x))))

    model = Net()
    rules = fastinit.lsuv(model, (16, 64))
    assert list(rules.rules) == ["up.weight", "bias", "head.weight", "head.bias"]
    rules.apply()
    assert not model.bias.any()
    nn.init.zeros_(model.up.weight)
    nn.init.zeros_(model.norm.weight)
    repair = fastinit.trace(model, (16, 64)).fix()
    assert set(repair.rules) == {"up.weight", "bias", "norm.weight", "head.weight", "head.bias"}
    repair.apply()
    assert fastinit.trace(model, (16, 64)).ok


def test_lsuv_keeps_what_has_no_rule():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 8)
            nn.init.normal_(self.attention.out_proj.weight, std=2.0)
            nn.init.normal_(self.attention.out_proj.bias, std=2.0)

        def forward(self, x):
            return self.head(self.attention(x, x, x)[0])

    model = Net()
    rules = fastinit.lsuv(model, (16, 5, 16))
    assert list(rules.rules) == ["head.weight", "head.bias"]
    assert rules.skipped["attention.out_proj.weight"] == "its layer is not called"
    rules.apply()
    assert fastinit.trace(model, (16, 5, 16))["head"].std == pytest.approx(1.0, rel=1e-4)


def test_lsuv_of_layers_that_share_a_kernel():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.later, self.first = nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False)
            self.first.weight = self.later.weight
            self.head = nn.Linear(16, 4)

        def forward(self, x):
            return self.head(self.later(self.first(3.0 * x)))

    model = Net()
    rules = fastinit.lsuv(model, (64, 16))
    assert list(rules.rules) == ["later.weight", "head.weight", "head.bias"]
    rules.apply()
    found = fastinit.trace(model, (64, 16))
    assert [found[name].std for name in ("first", "head")] == pytest.approx([1.0, 1.0], rel=1e-4)


def test_apply_writes_all_or_nothing():
    model = plain(2)
    rules = fastinit.lsuv(model, 8)
    model[2].weight = nn.Parameter(torch.ones(64))  # has no orthogonal values
    before = state_of(model)
    with pytest.raises(ValueError, match="shape"):
        rules.apply()
    assert same(before, state_of(model))
    model[2].weight = None
    before = state_of(model)
    with pytest.raises(ValueError, match=r"no parameter '2\.weight'"):
        rules.apply()
    assert same(before, state_of(model))


ZOO = {
    "torchvision resnet18": lambda: _torchvision("resnet18"),
    "torchvision mobilenet_v3": lambda: _torchvision("mobilenet_v3_small"),
    "torchvision squeezenet": lambda: _torchvision("squeezenet1_1"),
    "timm test_vit": lambda: _timm("test_vit"),
    "timm test_convnext": lambda: _timm("test_convnext"),
    "timm test_efficientnet": lambda: _timm("test_efficientnet"),
    "timm test_resnet": lambda: _timm("test_resnet"),
    "gpt2": lambda: _transformers("GPT2LMHeadModel", "GPT2Config", n_embd=32, n_layer=2, n_head=2),
    "llama": lambda: _transformers("LlamaForCausalLM", "LlamaConfig"),
    "bert": lambda: _transformers("BertForMaskedLM", "BertConfig"),
    "t5": lambda: _transformers(
        "T5EncoderModel", "T5Config", d_model=32, d_ff=64, num_layers=2, num_heads=2, d_kv=16
    ),
}


def _torchvision(name):
    models = pytest.importorskip("torchvision.models")
    return getattr(models, name)(weights=None), (2, 3, 64, 64)


def _timm(name):
    return pytest.importorskip("timm").create_model(name), (2, 3, 160, 160)


def _transformers(model, config, **sizes):
    library = pytest.importorskip("transformers")
    common = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    if sizes:
        common = {}
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    made = getattr(library, config)(vocab_size=100, **common, **sizes, **tokens)
    return getattr(library, model)(made), 4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ZOO)
def test_architectures(name):
    model, batch = ZOO[name]()
    before = state_of(model)
    found = fastinit.trace(model, batch)
    assert same(before, state_of(model))
    assert found.ok, found.text
    assert len(found.rows) > 10
    assert found.loss is not None
    assert not found.unused


def test_diagnose_with_a_batch_and_fix():
    def he(module):
        nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(module.bias)

    import fastinit.torch

    model = plain(4, width=96, initialize=he)
    assert fastinit.diagnose(model, 32).ok
    nn.init.zeros_(model[2].weight)
    nn.init.normal_(model[6].weight, std=1e-6)
    alone, found = fastinit.diagnose(model), fastinit.diagnose(model, 32)
    traced = [finding for finding in found.findings if finding.code == "traced"]
    assert traced
    assert [finding for finding in found.findings if finding not in traced] == list(alone.findings)
    assert {finding.tensor for finding in traced} <= {"2", "6", "7", "1", "3", "8"}
    order = list(fastinit.guidance.Severity)
    ranks = [order.index(finding.severity) for finding in found.findings]
    assert ranks == sorted(ranks, reverse=True)
    repair = found.fix(seed=4)
    assert set(repair.rules) == {"2.weight", "6.weight"}
    assert type(repair["2.weight"].initializer) is fastinit.HeNormal  # as the others are
    with pytest.raises(ValueError, match="initialize"):
        repair.apply()
    fastinit.torch.initialize(model, seed=4, rules={**repair.rules, "*": None})
    after = fastinit.diagnose(model, 32)
    assert after.ok, str(after)


def test_fix_of_a_diagnosis_by_role():
    tensors = {
        "conv.weight": torch.zeros(8, 4, 3, 3),
        "rnn.recurrent_kernel": np.zeros((16, 16), np.float32),
        "dense/kernel": np.zeros((64, 32), np.float32),
        "norm.weight": torch.full((64,), 3.0),
    }
    repair = fastinit.diagnose(tensors).fix()
    assert repair.rules["conv.weight"] == fastinit.LecunNormal(in_axis=1, out_axis=0)
    assert repair.rules["dense/kernel"] == fastinit.LecunNormal()
    assert isinstance(repair.rules["rnn.recurrent_kernel"], fastinit.Orthogonal)
    new = {name: rule(tuple(tensors[name].shape), seed=1, stream=name) for name, rule in repair.rules.items()}
    new = {name: torch.from_numpy(x) if "." in name and "rnn" not in name else x for name, x in new.items()}
    after = fastinit.diagnose({**tensors, **new})
    assert not [finding for finding in after.findings if finding.severity == "severe"], str(after)


def test_picture():
    pytest.importorskip("matplotlib")
    figure = fastinit.show(fastinit.trace(plain(12, nn.Tanh, 64, normal(1.0)), 16))
    labels = [axes.get_ylabel().partition("\n")[0] for axes in figure.axes]
    assert labels == [
        "standard deviation of the activations",
        "standard deviation of the gradients",
        "distance between samples",
        "share of saturated inputs",
    ]
    assert "saturates from layer 1 on" in figure.get_suptitle()
    assert ", number 2 of 25" in figure.get_suptitle()
    with pytest.raises(ValueError, match="Trace"):
        fastinit.show(fastinit.trace(plain(1), 4), kind="histogram")


@pytest.mark.parametrize(("backward", "way"), [(False, "on"), (True, "back")])
def test_title_of_a_picture_says_where_and_in_which_direction(backward, way):
    pytest.importorskip("matplotlib")
    found = fastinit.trace(plain(3), 8)
    problem = TraceProblem(TraceVerdict.VANISHES, "4", backward, "")
    title = fastinit.show(dataclasses.replace(found, problems=(problem,))).get_suptitle()
    assert title == f"Sequential: vanishes from layer 4 {way}, number 5 of 7"


def test_statistics_of_extremes():
    from fastinit.guidance.trace.measure import measure

    ramp = np.arange(4.0)[:, None] * np.ones(3)
    usual = measure(ramp, -1, 4)
    for scale in (1e-200, 1e200):
        found = measure(ramp * scale, -1, 4)
        assert found.std == pytest.approx(usual.std * scale)
        assert found.distance == pytest.approx(usual.distance)
    assert measure(np.zeros((4, 3)), -1, 4) == (0.0, 0.0, 1.0, 1.0, 0.0)
    assert measure(np.ones((4, 3)), -1, 1).distance is None
    assert measure(np.ones((1, 3)), -1, 1).constant is None
    for bad in (math.nan, math.inf):
        assert math.isnan(measure(np.array([[1.0, bad]]), -1, 1).std)
