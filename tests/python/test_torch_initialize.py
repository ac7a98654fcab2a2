"""`fastinit.torch.initialize` against PyTorch's defaults, against `fastinit`, and against its docstring.

Distributions are compared with plain construction by two-sample tests of Kolmogorov and Smirnov at fixed
seeds. There are fewer than 300 p-values, and a test fails where one is below 1e-10; means and standard
deviations may be off by 7 standard errors. So over random seeds right distributions would fail in less than
one run in ten million.
"""

import copy
import functools
import math
import re
import sys

import numpy as np
import pytest
from conftest import plain_id
from scipy import stats

torch = pytest.importorskip("torch")
ml_dtypes = pytest.importorskip("ml_dtypes")

import poison  # noqa: E402

import fastinit  # noqa: E402
from fastinit.torch import accelerate, initialize  # noqa: E402
from fastinit.torch import trunc_normal_ as fast_trunc_normal_  # noqa: E402

nn = torch.nn
Parameter = nn.Parameter
block_stream = fastinit.block_stream

ALPHA = 1e-10
SEED = 5
MIB = 2**20

NUMPY = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _poisoned():
    """What a report says was filled was filled, in every test here."""
    with poison.poisoned():
        yield


def array(tensor):
    tensor = tensor.detach().contiguous()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def expected(initializer, tensor, stream, seed=SEED):
    """What `fastinit` makes of this initializer."""
    return initializer(tuple(tensor.shape), seed=seed, stream=stream, dtype=NUMPY[tensor.dtype])


def assert_is(tensor, initializer, stream, seed=SEED):
    np.testing.assert_array_equal(array(tensor), expected(initializer, tensor, stream, seed))


def on_meta(make):
    with torch.device("meta"):
        return make()


def both(make):
    """The same model on the CPU, with other contents, and on the meta device."""
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    return model, on_meta(make)


def assert_same(one, other):
    """The same tensors under the same names, all of them in memory."""
    one, other = one.state_dict(), other.state_dict()
    assert list(one) == list(other)
    for name in one:
        assert not one[name].is_meta
        assert not other[name].is_meta
        assert torch.equal(one[name], other[name]), name


def named(report):
    return {name for row in report.rows for name in row.names}


class Custom(nn.Module):
    """A module with one parameter, which initializes itself by a function of the module."""

    def __init__(self, reset, shape=(40, 30), dtype=None):
        super().__init__()
        self.weight = Parameter(torch.full(shape, 7.0, dtype=dtype))
        self.reset = reset

    def reset_parameters(self):
        with torch.no_grad():
            self.reset(self)


class Bare(nn.Module):
    """A module with a parameter and a buffer that it does not initialize."""

    def __init__(self):
        super().__init__()
        self.weight = Parameter(torch.full((4, 3), 7.0))
        self.register_buffer("table", torch.arange(3.0))


# Defaults of PyTorch


def uniform(bound):
    return fastinit.RandomUniform(-bound, bound)


def kaiming(fan):
    """The default of linear layers and convolutions, computed as PyTorch does."""
    return uniform(math.sqrt(3.0) * (math.sqrt(2.0 / (1 + math.sqrt(5) ** 2)) / math.sqrt(fan)))


def xavier(rows, columns):
    return uniform(math.sqrt(3.0) * math.sqrt(2.0 / float(rows + columns)))


NORMAL = fastinit.RandomNormal(0.0, 1.0)
ZERO, ONE = fastinit.Constant(0.0), fastinit.Constant(1.0)


def affine(fan, prefix=""):
    return {f"{prefix}weight": kaiming(fan), f"{prefix}bias": uniform(1 / math.sqrt(fan))}


def norm(prefix=""):
    return {f"{prefix}weight": ONE, f"{prefix}bias": ZERO}


def attention(size, prefix="", outer=None):
    return {
        f"{prefix}in_proj_weight": outer or xavier(3 * size, size),
        f"{prefix}in_proj_bias": ZERO,
        f"{prefix}out_proj.weight": outer or kaiming(size),
        f"{prefix}out_proj.bias": ZERO,
    }


def transformer_layer(size, inner, prefix, *, decodes=False, is_whole=False):
    """A layer of a transformer, or of a `Transformer`, which fills its matrices once more."""
    initializers = {**affine(size, f"{prefix}linear1."), **affine(inner, f"{prefix}linear2.")}
    parts = ["self_attn.", "multihead_attn."] if decodes else ["self_attn."]
    for part in parts:
        initializers |= attention(size, prefix + part)
        if is_whole:
            initializers[f"{prefix}{part}in_proj_weight"] = xavier(3 * size, size)
            initializers[f"{prefix}{part}out_proj.weight"] = xavier(size, size)
    if is_whole:
        for name in ("linear1", "linear2"):
            initializers[f"{prefix}{name}.weight"] = xavier(size, inner)
    for i in range(len(parts) + 1):
        initializers |= norm(f"{prefix}norm{i + 1}.")
    return initializers


CASES = {
    "Linear": (lambda: nn.Linear(30, 1000), affine(30)),
    "Linear without bias": (lambda: nn.Linear(30, 150, bias=False), {"weight": kaiming(30)}),
    "Bilinear": (
        lambda: nn.Bilinear(20, 30, 50),
        {"weight": uniform(1 / math.sqrt(20)), "bias": uniform(1 / math.sqrt(20))},
    ),
    "Conv1d": (lambda: nn.Conv1d(6, 800, 5, groups=2), affine(15)),
    "Conv2d": (lambda: nn.Conv2d(8, 600, (3, 2)), affine(48)),
    "Conv3d": (lambda: nn.Conv3d(4, 300, (1, 2, 3)), affine(24)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(80, 60, 5, groups=2), affine(150)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(50, 20, 3), affine(180)),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(50, 20, 2), affine(160)),
    "Embedding": (lambda: nn.Embedding(500, 20), {"weight": NORMAL}),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(500, 20), {"weight": NORMAL}),
    "RNN": (
        lambda: nn.RNN(20, 50, bidirectional=True),
        dict.fromkeys(
            [
                f"{kind}_l0{direction}"
                for direction in ("", "_reverse")
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ],
            uniform(1 / math.sqrt(50)),
        ),
    ),
    "LSTM": (
        lambda: nn.LSTM(20, 30, num_layers=2, proj_size=10),
        dict.fromkeys(
            [
                f"{kind}_l{layer}"
                for layer in (0, 1)
                for kind in ("weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh")
            ],
            uniform(1 / math.sqrt(30)),
        ),
    ),
    "GRU": (
        lambda: nn.GRU(20, 40, bias=False),
        dict.fromkeys(["weight_ih_l0", "weight_hh_l0"], uniform(1 / math.sqrt(40))),
    ),
    **{
        kind: (
            lambda kind=kind: getattr(nn, kind)(30, 50),
            dict.fromkeys(["weight_ih", "weight_hh", "bias_ih", "bias_hh"], uniform(1 / math.sqrt(50))),
        )
        for kind in ("RNNCell", "LSTMCell", "GRUCell")
    },
    "MultiheadAttention": (
        lambda: nn.MultiheadAttention(64, 4, add_bias_kv=True),
        {
            **attention(64),
            "bias_k": fastinit.RandomNormal(0.0, math.sqrt(2.0 / 128.0)),
            "bias_v": fastinit.RandomNormal(0.0, math.sqrt(2.0 / 128.0)),
        },
    ),
    "MultiheadAttention of other sizes": (
        lambda: nn.MultiheadAttention(64, 4, kdim=20, vdim=30),
        {
            **{name: initializer for name, initializer in attention(64).items() if name != "in_proj_weight"},
            "q_proj_weight": xavier(64, 64),
            "k_proj_weight": xavier(64, 20),
            "v_proj_weight": xavier(64, 30),
        },
    ),
    "AdaptiveLogSoftmaxWithLoss": (
        lambda: nn.AdaptiveLogSoftmaxWithLoss(20, 1000, [100, 300], div_value=2.0),
        {
            "head.weight": kaiming(20),
            "tail.0.0.weight": kaiming(20),
            "tail.0.1.weight": kaiming(10),
            "tail.1.0.weight": kaiming(20),
            "tail.1.1.weight": kaiming(5),
        },
    ),
    "TransformerEncoderLayer": (
        lambda: nn.TransformerEncoderLayer(32, 4, 100),
        transformer_layer(32, 100, ""),
    ),
    "TransformerDecoderLayer": (
        lambda: nn.TransformerDecoderLayer(32, 4, 100),
        transformer_layer(32, 100, "", decodes=True),
    ),
    "TransformerEncoder": (
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(32, 4, 60), 2, nn.LayerNorm(32), enable_nested_tensor=False
        ),
        {
            **transformer_layer(32, 60, "layers.0."),
            **transformer_layer(32, 60, "layers.1."),
            **norm("norm."),
        },
    ),
    "TransformerDecoder": (
        lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(32, 4, 60), 2),
        {
            **transformer_layer(32, 60, "layers.0.", decodes=True),
            **transformer_layer(32, 60, "layers.1.", decodes=True),
        },
    ),
    "Transformer": (
        lambda: nn.Transformer(32, 4, 1, 1, 60, batch_first=True),
        {
            **transformer_layer(32, 60, "encoder.layers.0.", is_whole=True),
            **norm("encoder.norm."),
            **transformer_layer(32, 60, "decoder.layers.0.", decodes=True, is_whole=True),
            **norm("decoder.norm."),
        },
    ),
    "PReLU": (lambda: nn.PReLU(7, 0.3), {"weight": fastinit.Constant(0.3)}),
    "RMSNorm": (lambda: nn.RMSNorm(20), {"weight": ONE}),
    "LayerNorm": (lambda: nn.LayerNorm((4, 5)), norm()),
    "GroupNorm": (lambda: nn.GroupNorm(2, 6), norm()),
    **{
        kind: (lambda kind=kind: getattr(nn, kind)(6), norm())
        for kind in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")
    },
    **{
        kind: (lambda kind=kind: getattr(nn, kind)(6, affine=True, track_running_stats=True), norm())
        for kind in ("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d")
    },
}

every_module = pytest.mark.parametrize(("make", "initializers"), CASES.values(), ids=CASES)


def test_every_module_with_parameters_is_tested():
    here = {type(module) for make, _ in CASES.values() for module in make().modules()}
    bases = {nn.RNNBase, nn.RNNCellBase}
    for name in dir(nn):
        kind = getattr(nn, name)
        if not isinstance(kind, type) or kind in bases or name.startswith("Lazy"):
            continue
        if hasattr(kind, "reset_parameters") or hasattr(kind, "_reset_parameters"):
            assert kind in here, name


@every_module
def test_values_are_those_of_fastinit(make, initializers):
    model, _ = both(make)
    report = initialize(model, SEED)
    parameters = dict(model.named_parameters())
    assert parameters.keys() == initializers.keys()
    for name, initializer in initializers.items():
        row = report[name]
        assert row.initializer == initializer
        found = initializer.check(row.shape)
        assert (row.distribution, row.target_mean, row.target_std) == (found.name, found.mean, found.std)
        assert_is(parameters[name], initializer, name)


@every_module
def test_distributions_are_those_of_torch(make, initializers):
    model, theirs = both(make)[0], make()
    initialize(model, SEED)
    for (name, ours), other in zip(model.named_parameters(), theirs.parameters(), strict=True):
        if isinstance(initializers[name], fastinit.Constant):
            assert torch.equal(ours, other), name
        else:
            p = stats.ks_2samp(array(ours).ravel(), array(other).ravel()).pvalue
            assert p >= ALPHA, f"{name}: p = {p:.2g}"
            assert not torch.equal(ours, other)
    for (name, ours), other in zip(model.named_buffers(), theirs.buffers(), strict=True):
        assert torch.equal(ours, other), name


@every_module
def test_meta_device(make, initializers):  # noqa: ARG001
    model, meta = both(make)
    types = {name: type(module) for name, module in meta.named_modules()}
    report = initialize(meta, SEED)
    initialize(model, SEED)
    assert_same(meta, model)
    assert report.meta_buffers == report.uninitialized == ()
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in meta.parameters())
    assert {name: type(module) for name, module in meta.named_modules()} == types


LAYERS = {
    "linear": lambda: nn.Linear(30, 40),
    "conv": lambda: nn.Conv2d(4, 6, 3),
    "embedding": lambda: nn.Embedding(50, 8, padding_idx=3),
    "gru": lambda: nn.GRU(5, 6),
    "attention": lambda: nn.MultiheadAttention(8, 2),
    "norm": lambda: nn.BatchNorm1d(6),
}


def zoo():
    return nn.ModuleDict({name: make() for name, make in LAYERS.items()})


@pytest.mark.parametrize("dtype", NUMPY, ids=NUMPY.values())
def test_dtypes(dtype):
    model, meta = both(lambda: zoo().to(dtype))
    report = initialize(model, SEED)
    initialize(meta, SEED)
    assert_same(model, meta)
    for name, initializer in {
        **affine(30, "linear."),
        **affine(36, "conv."),
        **attention(8, "attention."),
        "gru.bias_hh_l0": uniform(1 / math.sqrt(6)),
    }.items():
        assert model.get_parameter(name).dtype is report[name].dtype is dtype
        assert_is(model.get_parameter(name), initializer, name)


@pytest.mark.parametrize("dtype", NUMPY, ids=NUMPY.values())
@pytest.mark.parametrize(
    ("make", "layout"),
    [
        (lambda: nn.Conv2d(4, 6, 3), torch.channels_last),
        (lambda: nn.Conv3d(4, 6, (1, 2, 3)), torch.channels_last_3d),
        (lambda: nn.ConvTranspose2d(4, 6, 3), torch.channels_last),
    ],
    ids=["Conv2d", "Conv3d", "ConvTranspose2d"],
)
def test_channels_last(make, layout, dtype):
    plain = make().to(dtype)
    initialize(plain, SEED)
    for model in both(lambda: make().to(dtype=dtype, memory_format=layout)):
        report = initialize(model, SEED)
        assert model.weight.is_contiguous(memory_format=layout)
        assert not model.weight.is_contiguous()
        assert_same(model, plain)
        assert report["weight"].initializer == kaiming(math.prod(plain.weight.shape[1:]))


@pytest.mark.parametrize(
    "lay_out",
    [
        lambda: torch.full((30, 40), 7.0).T,
        lambda: torch.full((80, 90), 7.0)[::2, ::3],
        lambda: torch.full((1200,), 7.0).view(40, 30),
        lambda: torch.full((50, 50), 7.0)[3:43, 5:35],
    ],
    ids=["transposed", "strided", "view", "part"],
)
def test_layout_does_not_matter(lay_out):
    plain = nn.Linear(30, 40)
    initialize(plain, SEED)
    for device in ("cpu", "meta"):
        model = nn.Linear(30, 40)
        with torch.device(device):
            model.weight = Parameter(lay_out())
        initialize(model, SEED)
        assert_same(model, plain)


def test_initializes_again_alike():
    model = zoo()
    initialize(model, SEED)
    before = copy.deepcopy(model)
    initialize(model, SEED + 1)
    assert not torch.equal(model["linear"].weight, before["linear"].weight)
    initialize(model, SEED)
    assert_same(model, before)


def test_a_recurrent_layer_from_meta_works():
    model = on_meta(lambda: nn.LSTM(3, 4, num_layers=2))
    initialize(model, SEED)
    output, _ = model(torch.ones(2, 3))
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert torch.equal(model._flat_weights[0], model.weight_ih_l0)


def test_lazy_modules_stay_lazy():
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 4))
    report = initialize(model, SEED)
    assert model[0].has_uninitialized_params()
    assert named(report) == {"1.weight", "1.bias"}
    model(torch.ones(2, 5))
    assert named(initialize(model, SEED)) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert_is(model[0].weight, kaiming(5), "0.weight")


def test_seeds():
    model = nn.Linear(3, 4)
    for seed in (0, 2**64 - 1, np.uint64(3)):
        initialize(model, seed)
        assert_is(model.weight, kaiming(3), "weight", int(seed))
    initialize(model)
    assert_is(model.weight, kaiming(3), "weight", 0)


def test_a_model_without_parameters():
    report = initialize(nn.Sequential(nn.ReLU(), nn.Flatten()), SEED)
    assert report.rows == report.uninitialized == report.empty == ()
    assert "0 tensors" in str(report)


# Names


def test_order_and_other_layers_do_not_matter():
    model = zoo()
    initialize(model, SEED)
    backwards = nn.ModuleDict({name: LAYERS[name]() for name in reversed(LAYERS)})
    initialize(backwards, SEED)
    for name in LAYERS:
        assert_same(model[name], backwards[name])
    more = nn.ModuleDict({"a": nn.Linear(2, 3), **zoo(), "z": nn.Conv1d(2, 3, 1), "noise": other()})
    initialize(more, SEED)
    for name in LAYERS:
        assert_same(model[name], more[name])


def other():
    """A module that draws random numbers for something else than a parameter."""
    return Custom(lambda module: module.weight[:20].copy_(torch.randn(20, 30)))


WAYS_OF_OTHERS = {
    "views": lambda module: [row.normal_() for row in module.weight],
    "parts": lambda module: [nn.init.xavier_uniform_(module.weight[i : i + 10]) for i in (0, 10, 20, 30)],
    "transposed": lambda module: nn.init.orthogonal_(module.weight.T),
    "randn": lambda module: module.weight.copy_(torch.randn(40, 30)),
    "empty_like": lambda module: module.weight.copy_(torch.empty_like(module.weight).normal_()),
    "set data": lambda module: setattr(module.weight, "data", torch.randn(40, 30)),
    "set item": lambda module: module.weight.__setitem__(slice(None), torch.rand(40, 30)),
    "exponential": lambda module: module.weight.data.exponential_(),
    "integers": lambda module: module.weight.random_(0, 100),
    "permutation": lambda module: module.weight.copy_(torch.randperm(1200).view(40, 30)),
    "in place of it": lambda module: setattr(module, "weight", Parameter(torch.randn(40, 30))),
    "complex": lambda module: module.weight.copy_(torch.randn(40, 30, dtype=torch.complex64).abs()),
}

all_ways_of_others = pytest.mark.parametrize("reset", WAYS_OF_OTHERS.values(), ids=WAYS_OF_OTHERS)


@all_ways_of_others
def test_other_random_numbers_have_the_key_of_the_module(reset):
    def make():
        return nn.ModuleDict({"a": Custom(reset), "b": Custom(reset)})

    model, meta = both(make)
    report = initialize(model, SEED)
    assert report.twins == report.uninitialized == ()
    assert named(report) == {"a.weight", "b.weight"}
    assert (model["a"].weight == 7).double().mean() < 0.1
    initialize(meta, SEED)
    assert_same(model, meta)

    torch.manual_seed(1)
    more = nn.ModuleDict({"z": other(), "b": Custom(reset), "first": nn.Linear(3, 3)})
    initialize(more, SEED)
    assert_same(more["b"], model["b"])
    initialize(more, SEED + 1)
    assert not torch.equal(more["b"].weight, model["b"].weight)


def test_global_generator_is_left_alone():
    model = nn.ModuleDict({**zoo(), "other": other()})
    state = torch.get_rng_state()
    after = torch.randn(5)
    torch.set_rng_state(state)
    initialize(model, SEED, {"linear.weight": lambda tensor: tensor.exponential_()})
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(torch.randn(5), after)


def test_everything_is_as_before_after_an_error():
    def fail(tensor):
        tensor.normal_()
        raise RuntimeError("no")

    model = zoo()
    state = torch.get_rng_state()
    code = nn.init.trunc_normal_.__code__
    with pytest.raises(RuntimeError, match="no"):
        initialize(model, SEED, {"conv.weight": fail})
    assert torch.equal(torch.get_rng_state(), state)
    assert nn.init.trunc_normal_.__code__ is code
    plain = torch.randn(5)
    torch.set_rng_state(state)
    assert torch.equal(torch.empty(5).normal_(), plain)


def test_prefix():
    model = nn.ModuleDict({"layers": nn.ModuleList([zoo(), zoo()])})
    initialize(model, SEED)
    stage = zoo()
    report = initialize(stage, SEED, {"layers.1.conv.bias": None, "conv.bias": 3.0}, prefix="layers.1")
    assert report["layers.1.linear.weight"].shape == (40, 30)
    assert report.unused_rules == ("conv.bias",)
    for prefix in ("layers.1", "layers.1."):
        initialize(stage, SEED, prefix=prefix)
        assert_same(stage, model["layers"][1])


def test_prefix_of_other_random_numbers():
    model = nn.Sequential(other(), nn.Sequential(other()))
    initialize(model, SEED)
    stages = other(), nn.Sequential(other())
    for i, stage in enumerate(stages):
        initialize(stage, SEED, prefix=str(i))
    assert_same(stages[1], model[1])
    assert_same(stages[0], model[0])


def distributed(model):
    """A wrapper of this kind, without the processes."""

    class Wrapper(nn.parallel.DistributedDataParallel):
        def __init__(self):
            nn.Module.__init__(self)
            self.module = model

    return Wrapper()


def checkpointed(model):
    wrapper = pytest.importorskip("torch.distributed.algorithms._checkpoint.checkpoint_wrapper")
    return wrapper.checkpoint_wrapper(model)


def checkpointed_inside(model):
    for name, module in list(model.named_children()):
        model.set_submodule(name, checkpointed(module))
    return model


def distributed_inside(model):
    for name, module in list(model.named_children()):
        model.set_submodule(name, distributed(module))
    return model


WRAPPERS = {
    "compiled": torch.compile,
    "checkpointed": checkpointed,
    "checkpointed inside": checkpointed_inside,
    "distributed": distributed,
    "distributed, compiled inside": lambda model: distributed(torch.compile(model)),
    "compiled, distributed inside": lambda model: torch.compile(distributed(model)),
    "distributed inside": distributed_inside,
    "compiled, checkpointed inside": lambda model: torch.compile(checkpointed_inside(model)),
}

all_wrappers = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


@all_wrappers
def test_wrappers_do_not_matter(wrap):
    plain, model = (nn.Sequential(nn.Linear(3, 4), nn.Embedding(5, 4, padding_idx=0)) for _ in range(2))
    initialize(plain, SEED, {"0.bias": 1.0})
    report = initialize(wrap(model), SEED, {"0.bias": 1.0})
    assert named(report) == {"0.weight", "0.bias", "1.weight"}
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@all_wrappers
def test_wrappers_do_not_matter_for_other_random_numbers(wrap):
    plain, model = nn.Sequential(other()), nn.Sequential(other())
    initialize(plain, SEED)
    initialize(wrap(model), SEED)
    assert torch.equal(next(model.parameters()), plain[0].weight)


@pytest.mark.parametrize("wrap", [torch.compile, checkpointed, distributed])
def test_a_wrapped_module_that_draws_other_random_numbers(wrap):
    plain, model = other(), other()
    initialize(plain, SEED)
    initialize(wrap(model), SEED)
    assert torch.equal(model.weight, plain.weight)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def assert_zoo(model):
    initializers = {**affine(30, "linear."), **affine(36, "conv."), **attention(8, "attention.")}
    for name, initializer in initializers.items():
        assert_is(model.get_parameter(name), initializer, name)


@pytest.mark.parametrize(
    "context",
    [
        lambda: torch.device("meta"),
        accelerate,
        torch.no_grad,
        torch.enable_grad,
        lambda: torch.autocast("cpu"),
    ],
    ids=["device", "accelerate", "no_grad", "enable_grad", "autocast"],
)
def test_context_does_not_matter(context):
    for model in both(zoo):
        with context():
            initialize(model, SEED)
        assert_zoo(model)


@pytest.mark.usefixtures("double")
def test_default_dtype_does_not_matter():
    for model in both(lambda: zoo().to(torch.float32)):
        initialize(model, SEED)
        assert_zoo(model)


def test_threads_do_not_matter():
    plain, model = nn.Linear(500, 600), nn.Linear(500, 600)
    initialize(plain, SEED)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        initialize(model, SEED)
    finally:
        torch.set_num_threads(before)
    assert_same(model, plain)


# Parameters that are tied


def tied(first, second):
    first.weight = second.weight
    return nn.Sequential(first, second)


def embedding_first():
    return tied(nn.Embedding(40, 30), nn.Linear(30, 40, bias=False))


def head_first():
    return tied(nn.Linear(30, 40, bias=False), nn.Embedding(40, 30))


@pytest.mark.parametrize(
    ("make", "initializer"), [(embedding_first, NORMAL), (head_first, kaiming(30))], ids=["embedding", "head"]
)
def test_tied_parameters_have_the_distribution_of_the_first(make, initializer):
    for model in both(make):
        report = initialize(model, SEED)
        assert model[0].weight is model[1].weight
        assert_is(model[0].weight, initializer, "0.weight")
        (row,) = report.rows
        assert row.names == ("0.weight", "1.weight")
        assert row.initializer == initializer
        assert report["1.weight"] is row
        assert report.twins == ()


@pytest.mark.parametrize("name", ["0.weight", "1.weight"])
def test_rules_know_all_names_of_a_tied_parameter(name):
    for model in both(head_first):
        initialize(model, SEED, {name: fastinit.RandomNormal(0.0, 0.02)})
        assert model[0].weight is model[1].weight
        assert_is(model[0].weight, fastinit.RandomNormal(0.0, 0.02), "0.weight")


def test_types_know_the_first_module_of_a_tied_parameter():
    model = embedding_first()
    report = initialize(model, SEED, {nn.Linear: 1.0, nn.Embedding: 2.0})
    assert (model[0].weight == 2).all()
    assert report.unused_rules == ("Linear.weight",)


def test_shared_modules():
    def make():
        layer = nn.Linear(3, 4)
        return nn.ModuleDict({"a": layer, "b": nn.Sequential(layer)})

    for model in both(make):
        report = initialize(model, SEED)
        assert model["a"] is model["b"][0]
        assert [row.names for row in report.rows] == [
            ("a.weight", "b.0.weight"),
            ("a.bias", "b.0.bias"),
        ]
        assert_is(model["a"].weight, kaiming(3), "a.weight")


def test_tied_to_a_parameter_of_a_module_that_fills_none():
    def make():
        model = nn.Module()
        model.embedding = nn.Embedding(40, 30)
        model.head = model.embedding.weight
        return model

    for model in both(make):
        report = initialize(model, SEED)
        assert report["head"].names == ("head", "embedding.weight")
        assert_is(model.head, NORMAL, "head")


def test_tied_within_recurrent_layers():
    def make():
        model = nn.ModuleList([nn.GRU(4, 4), nn.GRU(4, 4)])
        model[0].weight_hh_l0 = model[0].weight_ih_l0
        model[1].weight_ih_l0 = model[0].weight_ih_l0
        return model

    model = on_meta(make)
    report = initialize(model, SEED)
    weight = model[0].weight_ih_l0
    assert report["0.weight_ih_l0"].names == ("0.weight_ih_l0", "0.weight_hh_l0", "1.weight_ih_l0")
    assert model[0]._flat_weights[0] is model[0]._flat_weights[1] is model[1]._flat_weights[0] is weight


def test_tied_and_attributes_where_torch_swaps_tensors():
    model = on_meta(embedding_first)
    model[0].weight.mark = "kept"
    weight = model[0].weight
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        initialize(model, SEED)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    assert model[0].weight is model[1].weight is weight
    assert_is(weight, NORMAL, "0.weight")
    assert weight.mark == "kept"


# The row of the padding

PADDED = {
    "default": (None, NORMAL),
    "name": ({"*": "he_normal"}, fastinit.HeNormal(in_axis=1, out_axis=0)),
    "type": ({nn.Module: fastinit.Constant(3.0)}, fastinit.Constant(3.0)),
    "function": (
        lambda module: nn.init.normal_(module.weight, std=0.02),
        fastinit.RandomNormal(0.0, 0.02),
    ),
}


@pytest.mark.parametrize(("rules", "initializer"), PADDED.values(), ids=PADDED)
@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("row", [0, 3, -1])
def test_row_of_the_padding_is_zero(kind, row, rules, initializer):
    for model in both(lambda: kind(6, 4, padding_idx=row)):
        initialize(model, SEED, rules)
        values = expected(initializer, model.weight, "weight")
        values[row] = 0
        np.testing.assert_array_equal(array(model.weight), values)


def test_row_of_the_padding_in_blocks():
    model = nn.Embedding(6, 4, padding_idx=4)
    initialize(model, SEED, blocks={"weight": 2})
    assert (model.weight[4] == 0).all()
    assert (model.weight[[0, 1, 2, 3, 5]] != 0).all()


@pytest.mark.parametrize("padded_first", [True, False])
def test_row_of_the_padding_of_a_tied_parameter(padded_first):
    layers = nn.Embedding(6, 4, padding_idx=2), nn.Linear(4, 6, bias=False)
    model = tied(*layers) if padded_first else tied(*reversed(layers))
    initialize(model, SEED)
    assert (model[0].weight[2] == 0).all()
    assert (model[0].weight[3] != 0).all()


def test_rule_none_leaves_the_row_of_the_padding():
    model, _ = both(lambda: nn.Embedding(6, 4, padding_idx=2))
    report = initialize(model, SEED, {"weight": None})
    assert (model.weight == 7).all()
    assert report.rows == ()


def test_rule_none_leaves_a_padded_embedding_on_the_meta_device():
    model = on_meta(lambda: nn.Embedding(6, 4, padding_idx=2))
    report = initialize(model, SEED, {"weight": None})
    assert model.weight.is_meta
    assert report.rows == ()


# Buffers


def test_buffers_of_custom_modules_keep_their_values():
    model = nn.Sequential(Bare(), nn.Linear(3, 3))
    report = initialize(model, SEED, {"0.weight": 1.0, "*table": 3.0})
    assert model[0].table.tolist() == [0, 1, 2]
    assert "0.table" not in named(report)
    assert report.meta_buffers == ()
    assert report.unused_rules == ("*table",)


def test_buffers_without_an_initializer_stay_on_meta():
    model = on_meta(lambda: nn.Sequential(Bare(), nn.BatchNorm1d(3)))
    report = initialize(model, SEED, {"0.weight": 1.0})
    assert report.meta_buffers == ("0.table",)
    assert model[0].table.is_meta
    assert "table" in dict(model[0].named_buffers())
    assert "buffers still on the meta device: 0.table" in str(report)


def test_buffers_stay_persistent_or_not():
    def make():
        model = nn.BatchNorm1d(3)
        model.register_buffer("extra", torch.zeros(2), persistent=False)
        return model

    model = on_meta(make)
    initialize(model, SEED)
    assert "extra" not in model.state_dict()
    assert model.num_batches_tracked.dtype is torch.int64


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.SyncBatchNorm])
@pytest.mark.parametrize("affine", [True, False])
def test_running_statistics(kind, affine):
    for model in both(lambda: kind(3, affine=affine)):
        if not model.running_mean.is_meta:
            model.running_mean.fill_(5)
            model.num_batches_tracked.fill_(5)
        report = initialize(model, SEED)
        assert model.running_mean.tolist() == [0, 0, 0]
        assert model.running_var.tolist() == [1, 1, 1]
        assert model.num_batches_tracked.item() == 0
        assert {"running_mean", "running_var"} <= named(report)


def test_a_buffer_that_a_module_draws_has_the_key_of_its_name():
    def make():
        model = Custom(lambda module: (module.weight.zero_(), module.noise.normal_()))
        model.register_buffer("noise", torch.zeros(50))
        return model

    for model in both(lambda: nn.Sequential(make())):
        report = initialize(model, SEED)
        assert_is(model[0].noise, NORMAL, "0.noise")
        assert report["0.noise"].initializer == NORMAL


# Parameters that are not initialized


def test_untouched_parameters_keep_their_values():
    model = nn.Sequential(Bare(), nn.Linear(3, 3))
    with pytest.warns(UserWarning, match=r"1 parameter was not initialized: 0\.weight") as seen:
        report = initialize(model, SEED)
    assert [warning.filename for warning in seen] == [__file__]
    assert report.uninitialized == ("0.weight",)
    assert (model[0].weight == 7).all()
    assert "0.weight" not in named(report)
    assert "not initialized: 0.weight" in str(report)


def test_untouched_parameters_stay_on_the_meta_device():
    model = on_meta(lambda: nn.Sequential(Bare(), nn.Linear(3, 3)))
    model[0].weight.mark = "kept"
    model[0].weight.requires_grad_(False)
    with pytest.warns(UserWarning, match="1 parameter was not initialized"):
        report = initialize(model, SEED)
    assert report.uninitialized == ("0.weight",)
    assert model[0].weight.is_meta
    assert model[0].weight.mark == "kept"
    assert isinstance(model[0].weight, Parameter)
    assert not model[0].weight.requires_grad
    assert not model[1].weight.is_meta


def test_rule_none_says_that_this_is_meant():
    for model in both(Bare):
        weight = copy.deepcopy(model.weight)
        report = initialize(model, SEED, {"weight": None})
        assert report.rows == report.uninitialized == report.unused_rules == ()
        assert model.weight.is_meta == weight.is_meta
        assert weight.is_meta or torch.equal(model.weight, weight)


def test_rule_none_keeps_what_a_module_would_fill():
    model, meta = both(lambda: nn.Linear(3, 4))
    report = initialize(model, SEED, {"bias": None})
    assert (model.bias == 7).all()
    assert named(report) == {"weight"}
    initialize(meta, SEED, {nn.Linear: {"bias": None}})
    assert meta.bias.is_meta
    assert_same(nn.ParameterList([meta.weight]), nn.ParameterList([model.weight]))


WAYS_OF_ONE = {
    "normal_": lambda module: module.weight.normal_(),
    "init": lambda module: nn.init.normal_(module.weight),
    "data": lambda module: module.weight.data.normal_(),
    "init of data": lambda module: nn.init.normal_(module.weight.data),
    "detached": lambda module: module.weight.detach().normal_(),
    "view": lambda module: module.weight.view_as(module.weight).normal_(),
    "keyword": lambda module: nn.init.normal_(tensor=module.weight),
    "generator": lambda module: module.weight.normal_(generator=torch.Generator().manual_seed(3)),
    "after another": lambda module: nn.init.normal_(nn.init.uniform_(module.weight)),
}

WAYS_OF_WRITING = {
    **WAYS_OF_ONE,
    "zeros_": lambda module: nn.init.zeros_(module.weight),
    "scaled": lambda module: setattr(module.weight, "data", module.weight.data * 2),
    "times": lambda module: module.weight.data.__imul__(2),
    **WAYS_OF_OTHERS,
}


@pytest.mark.parametrize("reset", WAYS_OF_WRITING.values(), ids=WAYS_OF_WRITING)
def test_rule_none_keeps_what_a_custom_module_would_fill(reset):
    model = Custom(reset)
    report = initialize(model, SEED, {"weight": None})
    assert (model.weight == 7).all()
    assert report.uninitialized == ()


@pytest.mark.parametrize("reset", WAYS_OF_WRITING.values(), ids=WAYS_OF_WRITING)
def test_a_rule_wins_over_a_custom_module(reset):
    model = Custom(reset)
    report = initialize(model, SEED, {"weight": fastinit.RandomNormal(0.0, 0.02)})
    assert_is(model.weight, fastinit.RandomNormal(0.0, 0.02), "weight")
    assert report["weight"].initializer == fastinit.RandomNormal(0.0, 0.02)


@pytest.mark.parametrize("reset", WAYS_OF_WRITING.values(), ids=WAYS_OF_WRITING)
def test_a_rule_wins_over_a_parent(reset):
    model = Custom(lambda module: reset(module.child))
    model.child = nn.Linear(30, 40)
    initialize(model, SEED, {"weight": 0.0, "child.weight": fastinit.RandomNormal(0.0, 0.02)})
    assert_is(model.child.weight, fastinit.RandomNormal(0.0, 0.02), "child.weight")


def test_a_module_that_sets_requires_grad_does_not_fill():
    def make():
        return Custom(lambda module: setattr(module.weight, "requires_grad", False))

    model, meta = both(make)
    with pytest.warns(UserWarning, match="1 parameter was not initialized"):
        report = initialize(model, SEED)
    assert report.uninitialized == ("weight",)
    assert not model.weight.requires_grad
    with pytest.warns(UserWarning, match="1 parameter was not initialized"):
        initialize(meta, SEED)
    assert meta.weight.is_meta


def test_a_function_that_sets_requires_grad_does_not_fill():
    def freeze(module):
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad = False

    model = on_meta(lambda: nn.Linear(3, 4))
    initialize(model, SEED, freeze)
    assert not model.weight.requires_grad
    assert_is(model.weight, kaiming(3), "weight")


def test_requires_grad_can_be_set_beside_a_rule():
    def freeze(module):
        nn.init.normal_(module.weight)
        module.weight.requires_grad = False

    model = Custom(freeze)
    assert initialize(model, SEED)["weight"].initializer == NORMAL
    assert not model.weight.requires_grad
    model = Custom(freeze)
    initialize(model, SEED, {"weight": 1.0})
    assert not model.weight.requires_grad


def test_reset_parameters_with_arguments_is_not_called():
    class Scaled(Bare):
        def reset_parameters(self, scale):
            raise AssertionError(scale)

    with pytest.warns(UserWarning, match="1 parameter was not initialized"), pytest.warns(match="not run"):
        report = initialize(Scaled(), SEED)
    assert report.uninitialized == ("weight",)
    assert report.not_run == (f"{Scaled.__qualname__}.reset_parameters",)


def test_plain_parameters():
    def make():
        model = nn.Module()
        model.list = nn.ParameterList([torch.zeros(3), torch.zeros(2, 2)])
        model.dict = nn.ParameterDict({"a": torch.zeros(3), "scalar": torch.tensor(3.0)})
        return model

    for model in both(make):
        report = initialize(model, SEED, {"list.*": "normal", "dict.a": 2.0, "*scalar": NORMAL})
        assert named(report) == {"list.0", "list.1", "dict.a", "dict.scalar"}
        assert_is(model.dict["scalar"], NORMAL, "dict.scalar")
        assert_is(model.list[1], fastinit.RandomNormal(0.0, 0.05), "list.1")
        assert model.dict["a"].tolist() == [2, 2, 2]


def test_a_rule_that_writes_nothing_initializes_nothing():
    model = on_meta(lambda: nn.Linear(3, 4))
    with pytest.warns(UserWarning, match="1 parameter was not initialized: weight"):
        report = initialize(model, SEED, {"weight": torch.randn_like})
    assert report.uninitialized == ("weight",)
    assert model.weight.is_meta


# Modules of others


@pytest.mark.parametrize("dtype", NUMPY, ids=NUMPY.values())
@pytest.mark.parametrize("reset", WAYS_OF_ONE.values(), ids=WAYS_OF_ONE)
def test_ways_to_fill_a_parameter(reset, dtype):
    for model in both(lambda: nn.Sequential(Custom(reset, dtype=dtype))):
        report = initialize(model, SEED)
        assert_is(model[0].weight, NORMAL, "0.weight")
        assert report["0.weight"].initializer == NORMAL
        assert report["0.weight"].target_std == 1


@pytest.mark.parametrize(
    ("reset", "initializer"),
    [
        (
            lambda module: nn.init.trunc_normal_(module.weight),
            fastinit.TruncatedNormal(0.0, 1.0, lower=-2.0, upper=2.0),
        ),
        (lambda module: nn.init.xavier_uniform_(module.weight), xavier(40, 30)),
        (lambda module: nn.init.orthogonal_(module.weight, 2.0), fastinit.Orthogonal(2.0, column_axis=0)),
        (lambda module: nn.init.sparse_(module.weight, 0.3), fastinit.Sparse(0.3, 0.01)),
        (lambda module: module.weight.data.uniform_(-1, 2), fastinit.RandomUniform(-1.0, 2.0)),
        (lambda module: module.weight.fill_(0.5), fastinit.Constant(0.5)),
    ],
    ids=["trunc_normal_", "xavier_uniform_", "orthogonal_", "sparse_", "uniform_", "fill_"],
)
def test_functions_that_a_custom_module_may_call(reset, initializer):
    model = Custom(reset)
    report = initialize(model, SEED)
    assert_is(model.weight, initializer, "weight")
    assert report["weight"].initializer == initializer


def test_reset_parameters_with_a_leading_underscore():
    class Private(Bare):
        def _reset_parameters(self):
            nn.init.normal_(self.weight)

    model = Private()
    report = initialize(model, SEED)
    assert_is(model.weight, NORMAL, "weight")
    assert report["weight"].rule.endswith("Private._reset_parameters")


def test_parents_come_after_their_children():
    model = Custom(lambda module: nn.init.ones_(module.child.weight))
    model.child = nn.Linear(3, 4)
    with pytest.warns(UserWarning, match="1 parameter was not initialized"):
        report = initialize(model, SEED)
    assert (model.child.weight == 1).all()
    assert_is(model.child.bias, uniform(1 / math.sqrt(3)), "child.bias")
    assert report["child.weight"].rule == "Custom.reset_parameters"


READERS = {
    "copy": lambda module: module.weight.copy_(module.child.weight),
    "sum": lambda module: module.weight.copy_(torch.zeros(40, 30) + module.child.weight),
    "item": lambda module: module.weight.fill_(module.child.weight.mean().item()),
}


def test_writing_in_ways_that_are_not_seen_is_reported():
    model = Custom(lambda module: torch._foreach_mul_([module.weight], 2.0))
    report = initialize(model, SEED)
    assert report["weight"].rule == "Custom.reset_parameters"
    assert report["weight"].initializer is None
    assert (model.weight == 14).all()


def test_noise_that_is_made_like_a_parameter_is_independent_of_it():
    def reset(module):
        module.weight.normal_()
        module.weight.add_(torch.empty_like(module.weight).normal_())

    model = Custom(reset, (200, 200))
    initialize(model, SEED)
    assert model.weight.std().item() == pytest.approx(math.sqrt(2), abs=7 * math.sqrt(2) / 200)


def test_two_tensors_that_are_made_like_a_parameter_are_independent():
    def reset(module):
        one, two = (torch.empty_like(module.weight).normal_() for _ in range(2))
        module.weight.copy_(one * two)

    model = Custom(reset, (200, 200))
    initialize(model, SEED)
    assert abs(model.weight.mean().item()) < 7 / 200


def test_memory_that_a_parameter_no_longer_uses_has_no_name():
    """What is made at its old address later is another tensor, which has to be filled."""

    def leave(module):
        module.weight.data = torch.zeros(32, 32)

    def fill(module):
        module.weight.copy_(torch.randn(32, 32))

    model = nn.Sequential(*(Custom(reset, (32, 32)) for _ in range(40) for reset in (fill, leave)))
    initialize(model, SEED)
    for i in range(0, 80, 2):
        assert model[i].weight.std().item() == pytest.approx(1, abs=7 / 32), i


def test_a_parameter_that_its_module_replaces_has_the_stream_of_its_name():
    def reset(module):
        module.weight = Parameter(torch.empty(40, 30))
        nn.init.normal_(module.weight)

    model = Custom(reset)
    initialize(model, SEED)
    assert_is(model.weight, NORMAL, "weight")


@pytest.mark.parametrize(
    "scale",
    [
        lambda weight: weight.mul_(0.02),
        lambda weight: weight.data.__imul__(0.02),
        lambda weight: setattr(weight, "data", weight.data * 0.02),
        lambda weight: weight.view(-1).mul_(0.02),
        lambda weight: weight.T.mul_(0.02),
        lambda weight: weight.__setitem__(slice(None), weight * 0.02),
        lambda weight: torch.mul(weight, 0.02, out=weight),
        lambda weight: torch._foreach_mul_([weight], 0.02),
    ],
    ids=["mul_", "imul", "data", "view", "transposed", "item", "out", "foreach"],
)
def test_no_distribution_is_reported_after_later_changes(scale):
    model = Custom(lambda module: scale(nn.init.normal_(module.weight)))
    row = initialize(model, SEED)["weight"]
    assert row.std == pytest.approx(0.02, rel=0.1)
    assert row.initializer is None
    assert row.target_mean is row.target_std is None


def test_parametrized_modules():
    weight_norm = nn.utils.parametrizations.weight_norm

    for model in both(lambda: nn.Sequential(weight_norm(nn.Linear(3, 4)))):
        names = tuple(f"0.parametrizations.weight.original{i}" for i in (0, 1))
        with pytest.warns(UserWarning, match="2 parameters were not initialized"):
            report = initialize(model, SEED)
        assert report.uninitialized == names
        assert_is(model[0].bias, uniform(1 / math.sqrt(3)), "0.bias")
        report = initialize(model, SEED, {names[0]: 1.0, names[1]: "he_normal"})
        assert report.uninitialized == ()
        torch.testing.assert_close(model[0].weight.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("number", [0, 1])
def test_parametrized_modules_with_a_rule_for_one_of_two(number):
    model = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    name = "parametrizations.weight.original{}".format
    with pytest.warns(UserWarning, match=f"1 parameter was not initialized: {name(1 - number)}"):
        initialize(model, SEED, {name(number): 0.5})
    assert (model.get_parameter(name(number)) == 0.5).all()


def test_parametrized_modules_with_buffers():
    model = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4))
    initialize(model, SEED, {"parametrizations.weight.original": "he_normal"})
    initializer = fastinit.HeNormal(**TORCH_AXES)
    assert_is(model.parametrizations.weight.original, initializer, "parametrizations.weight.original")


def test_frozen_parameters():
    for model in both(lambda: nn.Linear(3, 4).requires_grad_(False)):
        model.bias.requires_grad = True
        model.weight.mark = "kept"
        initialize(model, SEED)
        assert not model.weight.requires_grad
        assert model.bias.requires_grad
        assert model.weight.mark == "kept"
        assert type(model.weight) is Parameter
        assert_is(model.weight, kaiming(3), "weight")


def test_inference_mode():
    plain = zoo()
    initialize(plain, SEED)
    with torch.inference_mode():
        for model in both(zoo):
            initialize(model, SEED)
            assert_same(model, plain)


def test_gradients_flow():
    model = on_meta(lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
    optimizer = torch.optim.SGD(model.parameters())
    del optimizer
    initialize(model, SEED)
    model(torch.randn(5, 3)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_modules_that_move_in_their_own_way():
    """As in PyTorch, whose `to` and `cuda` call no `_apply` of a child with more than a function."""

    class Own(Custom):
        def _apply(self, fn):
            return super()._apply(fn)

    model = on_meta(lambda: Own(lambda module: nn.init.normal_(module.weight)))
    initialize(model, SEED)
    assert_is(model.weight, NORMAL, "weight")


def test_training_mode_and_hooks_are_kept():
    model = on_meta(lambda: nn.Linear(3, 4)).eval()
    seen = []
    model.register_forward_hook(lambda *_: seen.append(1))
    initialize(model, SEED)
    model(torch.ones(3))
    assert seen == [1]
    assert not model.training


# Rules


def filled_by(rules, make=lambda: nn.Linear(30, 40), name="weight", **keywords):
    """The parameter of a fresh model that these rules fill."""
    model, meta = both(make)
    initialize(model, SEED, rules, **keywords)
    initialize(meta, SEED, rules, **keywords)
    assert_same(model, meta)
    return model.get_parameter(name)


TORCH_AXES = {"in_axis": 1, "out_axis": 0}

RULES = {
    "he_normal": ("he_normal", fastinit.HeNormal(**TORCH_AXES)),
    "class name": ("LecunUniform", fastinit.LecunUniform(**TORCH_AXES)),
    "orthogonal": ("orthogonal", fastinit.Orthogonal(column_axis=0)),
    "normal": ("normal", fastinit.RandomNormal(0.0, 0.05)),
    "zeros": ("zeros", ZERO),
    "HeNormal": (fastinit.HeNormal(), fastinit.HeNormal(**TORCH_AXES)),
    "fan_out": (
        fastinit.VarianceScaling(3.0, "fan_out", "uniform"),
        fastinit.VarianceScaling(3.0, "fan_out", "uniform", **TORCH_AXES),
    ),
    "chosen axes": (fastinit.HeNormal(in_axis=0, out_axis=1), fastinit.HeNormal(in_axis=0, out_axis=1)),
    "Orthogonal": (fastinit.Orthogonal(2.0), fastinit.Orthogonal(2.0, column_axis=0)),
    "Identity": (fastinit.Identity(), fastinit.Identity()),
    "Sparse": (fastinit.Sparse(0.5), fastinit.Sparse(0.5)),
    "int": (1, ONE),
    "float": (0.25, fastinit.Constant(0.25)),
    "partial of torch": (
        functools.partial(nn.init.normal_, mean=0.5, std=0.02),
        fastinit.RandomNormal(0.5, 0.02),
    ),
    "function of torch": (nn.init.xavier_uniform_, xavier(40, 30)),
    "partial of fastinit": (
        functools.partial(fast_trunc_normal_, std=0.02),
        fastinit.TruncatedNormal(0.0, 0.02, lower=-2 / 0.02, upper=2 / 0.02),
    ),
    "method": (torch.Tensor.uniform_, fastinit.RandomUniform(0.0, 1.0)),
    "lambda": (lambda tensor: tensor.data.normal_(0, 3), fastinit.RandomNormal(0.0, 3.0)),
    "constant of torch": (functools.partial(nn.init.constant_, val=0.5), fastinit.Constant(0.5)),
    "copy": (lambda tensor: tensor.copy_(torch.full((40, 30), 2.0)), fastinit.Constant(2.0)),
}


@pytest.mark.parametrize(("rule", "initializer"), RULES.values(), ids=RULES)
def test_kinds_of_rules(rule, initializer):
    for key in ("weight", nn.Linear):
        assert_is(filled_by({key: rule}), initializer, "weight")
    conv = filled_by({"1.weight": rule}, lambda: nn.Sequential(nn.ReLU(), nn.Linear(30, 40)), "1.weight")
    assert_is(conv, initializer, "1.weight")


@pytest.mark.parametrize("shape", [(40, 30), (30, 40)], ids=str)
def test_axes_are_those_of_torch(shape):
    out, fan_in = shape

    def make():
        return nn.Linear(fan_in, out)

    w = filled_by({"weight": fastinit.HeNormal()}, make)
    model = make()
    report = initialize(model, SEED, {"weight": fastinit.HeNormal()})
    assert report["weight"].target_std == pytest.approx(math.sqrt(2 / fan_in))
    assert w.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=7 / math.sqrt(1200))
    w = filled_by({"weight": fastinit.Orthogonal()}, make)
    small = w @ w.T if out < fan_in else w.T @ w
    torch.testing.assert_close(small, torch.eye(len(small)), atol=1e-5, rtol=0)


def test_axes_of_convolutions_are_those_of_torch():
    w = filled_by({"weight": "lecun_normal"}, lambda: nn.Conv2d(50, 70, 3))
    assert_is(w, fastinit.LecunNormal(**TORCH_AXES), "weight")
    assert w.std().item() == pytest.approx(math.sqrt(1 / 450), rel=7 / math.sqrt(w.numel()))
    w = filled_by({"weight": "orthogonal"}, lambda: nn.Conv2d(5, 20, 3))
    flat = w.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(20), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("key", "filled"),
    [
        ("layers.0.linear.weight", {"layers.0.linear.weight"}),
        ("layers.*.bias", {"layers.0.linear.bias", "layers.1.linear.bias"}),
        ("*.weight", {"layers.0.linear.weight", "layers.1.linear.weight", "head.weight"}),
        (
            "layers.?.linear.[bw]*",
            {f"layers.{i}.linear.{name}" for i in (0, 1) for name in ("weight", "bias")},
        ),
        ("*.WEIGHT", set()),
        ("weight", set()),
        ("layers.0", set()),
        (re.compile(r"\.1\..*weight$"), {"layers.1.linear.weight"}),
        (re.compile("head"), {"head.weight"}),
        (re.compile("^weight"), set()),
    ],
    ids=plain_id,
)
def test_names(key, filled):
    layers = nn.ModuleList([nn.ModuleDict({"linear": nn.Linear(3, 3)}) for _ in range(2)])
    model = nn.ModuleDict({"layers": layers, "head": nn.Linear(3, 3, bias=False)})
    report = initialize(model, SEED, {key: 0.25})
    assert {name for name, p in model.named_parameters() if (p == 0.25).all()} == filled
    assert report.unused_rules == (() if filled else (getattr(key, "pattern", key),))


def test_first_name_counts():
    model = nn.Linear(3, 4)
    report = initialize(model, SEED, {"w*": 1.0, "weight": 2.0, re.compile("."): 3.0})
    assert (model.weight == 1).all()
    assert (model.bias == 3).all()
    assert report["weight"].rule == "w*"
    assert report["bias"].rule == "."


def test_names_count_before_types():
    model = nn.Linear(3, 4)
    initialize(model, SEED, {nn.Linear: {"weight": 1.0, "bias": 1.0}, "weight": 2.0})
    assert (model.weight == 2).all()
    assert (model.bias == 1).all()


def test_none_by_name_counts_before_types():
    model = both(lambda: nn.Linear(3, 4))[0]
    initialize(model, SEED, {nn.Linear: 1.0, "weight": None})
    assert (model.weight == 7).all()


def test_first_type_counts():
    model = nn.Sequential(nn.Linear(3, 4), nn.Conv1d(3, 4, 1), nn.LayerNorm(3))
    report = initialize(
        model,
        SEED,
        {
            nn.Linear: 1.0,
            nn.modules.conv._ConvNd: {"bias": 2.0},
            nn.Module: {"weight": 3.0, "bias": 4.0, "wieght": 5.0},
            nn.Embedding: 6.0,
        },
    )
    assert (model[0].weight == 1).all()
    assert_is(model[0].bias, uniform(1 / math.sqrt(3)), "0.bias")
    assert_is(model[1].weight, kaiming(3), "1.weight")
    assert (model[1].bias == 2).all()
    assert (model[2].weight == 3).all()
    assert (model[2].bias == 4).all()
    assert report["0.weight"].rule == "Linear.weight"
    assert set(report.unused_rules) == {"Module.wieght", "Embedding.weight"}
    assert "rules that matched nothing: " in str(report)


def test_a_rule_does_not_change_other_parameters():
    plain, model = zoo(), zoo()
    initialize(plain, SEED)
    initialize(model, SEED, {"linear.weight": "he_normal", nn.BatchNorm1d: 2.0})
    for name in ("conv", "embedding", "gru", "attention"):
        assert_same(model[name], plain[name])
    assert torch.equal(model["linear"].bias, plain["linear"].bias)


def test_a_rule_wins_over_transformer():
    model = CASES["Transformer"][0]()
    initialize(model, SEED, {"*.out_proj.weight": 0.5})
    assert (model.encoder.layers[0].self_attn.out_proj.weight == 0.5).all()
    assert_is(
        model.encoder.layers[0].linear1.weight,
        xavier(32, 60),
        "encoder.layers.0.linear1.weight",
    )


def test_random_numbers_of_a_rule_do_not_depend_on_other_parameters():
    rules = {"*linear.weight": lambda tensor: tensor.exponential_()}
    one, two = nn.ModuleDict({"linear": nn.Linear(3, 4)}), zoo()
    two["linear"] = nn.Linear(3, 4)
    initialize(one, SEED, rules)
    initialize(two, SEED, rules)
    assert torch.equal(one["linear"].weight, two["linear"].weight)


def test_a_function_of_modules():
    def function(module):
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)

    plain = zoo()
    initialize(plain, SEED)
    for model in both(zoo):
        report = initialize(model, SEED, function)
        initializer = fastinit.TruncatedNormal(0.0, 0.02, lower=-2 / 0.02, upper=2 / 0.02)
        assert_is(model["linear"].weight, initializer, "linear.weight")
        assert (model["linear"].bias == 0).all()
        assert report["linear.weight"].rule.endswith("function")
        assert report["conv.weight"].rule == "_ConvNd.reset_parameters"
        assert report.uninitialized == report.meta_buffers == ()
        for name in ("conv", "embedding", "gru", "norm"):
            assert_same(model[name], plain[name])


def test_a_function_of_modules_is_called_as_apply_does():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    seen = []
    initialize(model, SEED, seen.append)
    assert set(seen) == set(model.modules())
    assert len(seen) == len(set(seen))
    assert seen.index(model[1][0]) < seen.index(model[1]) < seen.index(model)


def test_the_rest_of_a_module_that_a_function_fills_in_part():
    def function(module):
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.ones_(module.weight)
        if isinstance(module, nn.BatchNorm1d):
            nn.init.constant_(module.bias, 3)
            module.running_mean.fill_(2)
        if isinstance(module, nn.LSTM):
            nn.init.ones_(module.weight_hh_l0)

    def make():
        layers = nn.Linear(30, 40), nn.Conv2d(3, 8, 3), nn.BatchNorm1d(5), nn.LSTM(6, 7)
        return nn.Sequential(*layers)

    for model in both(make):
        report = initialize(model, SEED, function)
        assert report.uninitialized == report.meta_buffers == report.not_run == ()
        linear, convolution, norm, lstm = model
        assert (linear.weight == 1).all()
        assert_is(linear.bias, uniform(1 / math.sqrt(30)), "0.bias")
        assert (convolution.weight == 1).all()
        assert_is(convolution.bias, uniform(1 / math.sqrt(27)), "1.bias")
        assert (norm.weight == 1).all()
        assert (norm.bias == 3).all()
        assert (norm.running_mean == 2).all()
        assert (norm.running_var == 1).all()
        assert (lstm.weight_hh_l0 == 1).all()
        assert_is(lstm.weight_ih_l0, uniform(1 / math.sqrt(7)), "3.weight_ih_l0")
        assert report["0.weight"].rule.endswith("function")
        assert report["0.bias"].rule == "Linear.reset_parameters"


def test_defaults_do_not_overwrite_what_a_function_fills():
    def function(module):
        if type(module) is nn.Linear or module.__class__.__name__ == "NonDynamicallyQuantizableLinear":
            nn.init.constant_(module.bias, 0.5)

    for model in both(
        lambda: nn.Sequential(nn.MultiheadAttention(8, 2), nn.Transformer(8, 2, 1, 1, 16, batch_first=True))
    ):
        initialize(model, SEED, function)
        biases = [value for name, value in model.named_parameters() if name.endswith("out_proj.bias")]
        assert len(biases) == 4
        assert all((bias == 0.5).all() for bias in biases)
        bound = math.sqrt(6 / (16 + 8))  # of `nn.Transformer`, not of `nn.Linear`
        assert 0.9 * bound < model[1].encoder.layers[0].linear1.weight.abs().max() <= bound


@pytest.mark.parametrize("is_tied", [False, True])
def test_models_of_transformers(is_tied):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=200,
        tie_word_embeddings=is_tied,
        pad_token_id=1,
    )
    model, meta = both(lambda: transformers.LlamaForCausalLM(config))
    report = initialize(meta, SEED, meta._init_weights)
    initialize(model, SEED, model._init_weights)
    assert_same(model, meta)
    assert report.uninitialized == report.meta_buffers == report.twins[1:] == ()
    assert (meta.lm_head.weight is meta.model.embed_tokens.weight) == is_tied
    assert_is(
        meta.model.layers[1].mlp.up_proj.weight,
        fastinit.RandomNormal(0.0, 0.02),
        "model.layers.1.mlp.up_proj.weight",
    )
    assert (meta.model.embed_tokens.weight[1] == 0).all()
    assert (meta.model.norm.weight == 1).all()
    inverse = transformers.LlamaForCausalLM(config).model.rotary_emb.inv_freq
    assert torch.equal(meta.model.rotary_emb.inv_freq, inverse)


def test_models_of_timm():
    timm = pytest.importorskip("timm")
    model = on_meta(lambda: timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=3))
    normal = functools.partial(timm.layers.trunc_normal_, std=0.02)
    report = initialize(model, SEED, {"cls_token": 0.0, "pos_embed": normal, nn.Linear: normal})
    assert report.uninitialized == report.meta_buffers == ()
    initializer = fastinit.TruncatedNormal(0.0, 1.0, lower=-2.0, upper=2.0)
    assert report["pos_embed"].std == pytest.approx(0.02, rel=0.05)
    assert report["blocks.0.attn.qkv.weight"].target_std == pytest.approx(0.02, rel=1e-6)
    assert type(report["pos_embed"].initializer) is type(initializer)


# Errors


def assert_refused(error, match, *arguments, **keywords):
    """An error with this text, before anything is written."""
    model, meta = both(lambda: nn.Linear(4, 6))
    for either in (model, meta):
        with pytest.raises(error, match=match):
            initialize(either, *arguments, **keywords)
    assert all((parameter == 7).all() for parameter in model.parameters())


@pytest.mark.parametrize("model", [None, 3, torch.zeros(3), nn.Linear, [nn.Linear(2, 2)]], ids=str)
def test_bad_models(model):
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got"):
        initialize(model)


@pytest.mark.parametrize(
    ("seed", "error", "match"),
    [
        (-1, ValueError, r"seed must be from 0 to 2\*\*64 - 1, got -1"),
        (2**64, ValueError, "18446744073709551616"),
        (1.0, TypeError, "seed must be an int, got 1.0"),
        ("1", TypeError, "got '1'"),
        (None, TypeError, "got None"),
    ],
)
def test_bad_seeds(seed, error, match):
    assert_refused(error, match, seed)


@pytest.mark.parametrize(
    ("rules", "error", "match"),
    [
        (3, TypeError, "rules must be a mapping or a function of a module, got int"),
        ("he_normal", TypeError, "got str"),
        ([("weight", 1.0)], TypeError, "got list"),
        ({"weight": True}, TypeError, "got True"),
        ({"weight": 1j}, TypeError, "got 1j"),
        ({"weight": fastinit.HeNormal}, TypeError, "HeNormal"),
        ({"weight": torch.zeros(3)}, TypeError, "got tensor"),
        ({"weight": {"weight": 1.0}}, TypeError, "got {'weight': 1.0}"),
        ({"weight": "nonsense"}, ValueError, "'nonsense'"),
        ({nn.Linear: {"bias": "nonsense"}}, ValueError, "'nonsense'"),
        ({nn.Linear: {"bias": False}}, TypeError, "got False"),
        ({nn.Embedding: [1.0]}, TypeError, r"got \[1\.0\]"),
        ({"nothing": "nonsense"}, ValueError, "'nonsense'"),
        ({"weight": "dirac"}, TypeError, "Dirac"),
        ({"weight": fastinit.DeltaOrthogonal()}, TypeError, "DeltaOrthogonal"),
        ({3: 1.0}, TypeError, "got 3"),
        ({b"weight": 1.0}, TypeError, "got b'weight'"),
        ({int: 1.0}, TypeError, "<class 'int'>"),
        ({None: 1.0}, TypeError, "got None"),
        (fastinit.HeNormal(), TypeError, "Linear|HeNormal"),
    ],
    ids=str,
)
def test_bad_rules(rules, error, match):
    assert_refused(error, match, SEED, rules)


@pytest.mark.parametrize(
    ("blocks", "error", "match"),
    [
        ({"weight": 4}, ValueError, "blocks of weight, 4, must divide 6"),
        ({"weight": 0}, ValueError, "number of blocks of weight must be at least 1, got 0"),
        ({"weight": -2}, ValueError, "number of blocks of weight must be at least 1, got -2"),
        ({"weight": 7}, ValueError, "blocks of weight, 7,"),
        ({"weight": [3, 4]}, ValueError, r"blocks of weight, \(3, 4\), must add up to 6"),
        ({"weight": [6, 0]}, ValueError, "the blocks of weight must be at least 1, got 0"),
        ({"weight": [8, -2]}, ValueError, "the blocks of weight must be at least 1, got -2"),
        ({"weight": []}, ValueError, r"\(\)"),
        ({re.compile("b"): 4}, ValueError, "blocks of bias, 4,"),
        ({"weight": 2.0}, TypeError, "the number of blocks of weight must be an int, got 2.0"),
        ({"weight": "2"}, TypeError, "got '2'"),
        ({"weight": [3.0, 3.0]}, TypeError, "the blocks of weight must be an int, got 3.0"),
        ({"weight": None}, TypeError, "got None"),
        ({3: 2}, TypeError, "got 3"),
        ({nn.Linear: 2}, TypeError, "Linear"),
        (3, TypeError, "int"),
        ([("weight", 2)], TypeError, "list"),
    ],
    ids=str,
)
def test_bad_blocks(blocks, error, match):
    assert_refused(error, match, SEED, blocks=blocks)


def test_blocks_of_a_scalar():
    model = nn.ParameterDict({"a": torch.tensor(3.0)})
    with pytest.raises(ValueError, match="blocks of a, 1, must divide 0"):
        initialize(model, SEED, {"a": 1.0}, blocks={"a": 1})


@pytest.mark.parametrize(("prefix", "match"), [(3, "int"), (None, "NoneType"), (b"a.", "bytes")])
def test_bad_prefixes(prefix, match):
    assert_refused(TypeError, match, SEED, prefix=prefix)


@pytest.mark.parametrize(
    ("device", "error", "match"), [("nonsense", RuntimeError, "nonsense"), (3.5, TypeError, "float")]
)
def test_bad_devices(device, error, match):
    assert_refused(error, match, SEED, device=device)


def test_a_shape_without_fans():
    with pytest.raises(ValueError, match=r"bias, rule '\*': "):
        initialize(nn.Linear(3, 4), SEED, {"*": "he_normal"})


def test_a_dtype_that_a_rule_cannot_fill():
    model = nn.Module()
    model.steps = Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False)
    with pytest.raises(TypeError, match=r"steps, rule 'steps': .*int64"):
        initialize(model, SEED, {"steps": "normal"})
    assert model.steps.tolist() == [0, 0, 0]


def test_an_error_leaves_no_uninitialized_memory():
    def fail(module):
        module.weight.zero_()
        raise RuntimeError("no")

    model = on_meta(lambda: nn.Sequential(nn.Linear(3, 4), Custom(fail), nn.Linear(3, 4)))
    with pytest.raises(RuntimeError, match="no"):
        initialize(model, SEED)
    assert model[0].weight.is_meta
    assert_is(model[2].weight, kaiming(3), "2.weight")


# Blocks


def assert_blocks(tensor, sizes, initializer, name):
    for k, block in enumerate(tensor.split(sizes)):
        assert_is(block, initializer, block_stream(name, k))


def test_blocks_of_defaults():
    blocks = {"*weight": 4, re.compile("bias"): [10, 20, 10]}
    for model in both(lambda: nn.Sequential(nn.Linear(30, 40))):
        report = initialize(model, SEED, blocks=blocks)
        assert_blocks(model[0].weight, [10] * 4, kaiming(30), "0.weight")
        assert_blocks(model[0].bias, [10, 20, 10], uniform(1 / math.sqrt(30)), "0.bias")
        assert report["0.weight"].rule == "Linear.reset_parameters, 4 blocks"
        assert report["0.weight"].initializer == kaiming(30)
        assert report.unused_rules == ()


def test_one_block_is_a_block():
    model = nn.Linear(3, 4)
    initialize(model, SEED, blocks={"weight": 1})
    assert_is(model.weight, kaiming(3), block_stream("weight", 0))


def test_blocks_have_fans_of_their_own():
    def make():
        return nn.MultiheadAttention(32, 4)

    for model in both(make):
        report = initialize(model, SEED, blocks={"in_proj_weight": 3})
        assert_blocks(model.in_proj_weight, [32] * 3, xavier(32, 32), "in_proj_weight")
        row = report["in_proj_weight"]
        assert row.initializer == xavier(32, 32)
        assert row.target_std == pytest.approx(math.sqrt(1 / 32))
        assert row.std == pytest.approx(row.target_std, rel=7 / math.sqrt(96 * 32))
    plain = make()
    initialize(plain, SEED)
    assert torch.equal(plain.out_proj.weight, model.out_proj.weight)
    assert not torch.equal(plain.in_proj_weight, model.in_proj_weight)


FAN_OUT = fastinit.VarianceScaling(2.0, "fan_out", "untruncated_normal")


@pytest.mark.parametrize(
    ("rule", "initializer"),
    [
        (FAN_OUT, fastinit.VarianceScaling(2.0, "fan_out", "untruncated_normal", **TORCH_AXES)),
        ("orthogonal", fastinit.Orthogonal(column_axis=0)),
        (nn.init.orthogonal_, fastinit.Orthogonal(column_axis=0)),
        (functools.partial(nn.init.sparse_, sparsity=0.5), fastinit.Sparse(0.5, 0.01)),
        (lambda tensor: tensor.normal_(), NORMAL),
        (0.5, fastinit.Constant(0.5)),
        ("identity", fastinit.Identity()),
    ],
    ids=["VarianceScaling", "orthogonal", "orthogonal_", "sparse_", "normal_", "number", "identity"],
)
@pytest.mark.parametrize("sizes", [3, (30, 20, 10), [60], (1,) * 60], ids=str)
def test_blocks_of_rules(rule, initializer, sizes):
    w = filled_by({"weight": rule}, lambda: nn.Linear(25, 60), blocks={"weight": sizes})
    assert_blocks(w, [20] * 3 if sizes == 3 else list(sizes), initializer, "weight")


def test_blocks_are_orthogonal_each():
    w = filled_by({"weight": fastinit.Orthogonal()}, lambda: nn.Linear(20, 60), blocks={"weight": 3})
    for block in w.split(20):
        torch.testing.assert_close(block @ block.T, torch.eye(20), atol=1e-5, rtol=0)


def test_blocks_of_a_function_of_modules():
    def function(module):
        nn.init.xavier_normal_(module.weight)
        module.bias.data.uniform_(-1, 1)

    model = nn.Linear(20, 60)
    initialize(model, SEED, function, blocks={"*": 3})
    assert_blocks(model.weight, [20] * 3, fastinit.RandomNormal(0.0, math.sqrt(2.0 / 40.0)), "weight")
    assert_blocks(model.bias, [20] * 3, uniform(1.0), "bias")


@pytest.mark.parametrize("reset", WAYS_OF_ONE.values(), ids=WAYS_OF_ONE)
def test_blocks_of_custom_modules(reset):
    model = Custom(reset)
    initialize(model, SEED, blocks={"weight": 4})
    assert_blocks(model.weight, [10] * 4, NORMAL, "weight")


# Functions of `fastinit.torch`, and what they fill a block of 10 by 30 with.
DROP_INS = {
    "uniform_": fastinit.RandomUniform(0.0, 1.0),
    "normal_": NORMAL,
    "trunc_normal_": fastinit.TruncatedNormal(0.0, 1.0, -2.0, 2.0),
    "trunc_normal_tf_": fastinit.TruncatedNormal(0.0, 1.0, -2.0, 2.0),
    "xavier_uniform_": xavier(30, 10),
    "xavier_normal_": fastinit.RandomNormal(0.0, math.sqrt(2.0 / 40.0)),
    "kaiming_uniform_": uniform(math.sqrt(3.0) * (math.sqrt(2.0) / math.sqrt(30))),
    "kaiming_normal_": fastinit.RandomNormal(0.0, math.sqrt(2.0) / math.sqrt(30)),
    "lecun_normal_": None,
    "variance_scaling_": fastinit.RandomNormal(0.0, math.sqrt(1.0 / 30)),
    "orthogonal_": fastinit.Orthogonal(column_axis=0),
    "sparse_": fastinit.Sparse(0.1, 0.01),
}


@pytest.mark.parametrize("name", DROP_INS)
def test_blocks_of_functions_of_fastinit(name):
    function = getattr(fastinit.torch, name)
    if name == "sparse_":
        function = functools.partial(function, sparsity=0.1)

    def fill_by_name(module):
        function(tensor=module.weight)

    for reset in (lambda module: function(module.weight), fill_by_name):
        model = Custom(reset)
        report = initialize(model, SEED, blocks={"weight": 4})
        initializer = DROP_INS[name] or report["weight"].initializer
        assert_blocks(model.weight, [10] * 4, initializer, "weight")


def test_a_constant_of_fastinit_in_blocks():
    model = Custom(lambda module: fastinit.torch.ones_(module.weight))
    report = initialize(model, SEED, blocks={"weight": 4})
    assert report["weight"].initializer == ONE
    assert (model.weight == 1).all()


@pytest.mark.parametrize("dtype", NUMPY, ids=NUMPY.values())
def test_blocks_of_dtypes(dtype):
    model = nn.LSTM(5, 6, dtype=dtype)
    initialize(model, SEED, blocks={"*": 4})
    for name, parameter in model.named_parameters():
        assert_blocks(parameter, [6] * 4, uniform(1 / math.sqrt(6)), name)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_blocks_of_channels_last(device):
    with torch.device(device):
        model = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
    initialize(model, SEED, blocks={"weight": 2})
    assert_blocks(model.weight, [3, 3], kaiming(36), "weight")


def test_blocks_of_a_transposed_parameter():
    model = nn.Linear(30, 40)
    model.weight = Parameter(torch.zeros(30, 40).T)
    initialize(model, SEED, blocks={"weight": 4})
    assert_blocks(model.weight, [10] * 4, kaiming(30), "weight")


def test_blocks_of_tied_parameters():
    for model in both(embedding_first):
        initialize(model, SEED, blocks={"1.weight": 4})
        assert_blocks(model[0].weight, [10] * 4, NORMAL, "0.weight")
        assert model[0].weight is model[1].weight


def test_first_pattern_of_blocks_counts():
    model = nn.Linear(3, 4)
    report = initialize(model, SEED, blocks={"w*": 2, "weight": 4, "other": 3})
    assert_blocks(model.weight, [2, 2], kaiming(3), "weight")
    assert report.unused_rules == ("other",)


def test_blocks_with_a_prefix():
    model = nn.Linear(3, 4)
    initialize(model, SEED, blocks={"a.weight": 2}, prefix="a")
    assert_blocks(model.weight, [2, 2], kaiming(3), "a.weight")


def test_target_of_different_blocks():
    model = nn.Linear(100, 1000)
    row = initialize(model, SEED, {"weight": FAN_OUT}, blocks={"weight": (900, 100)})["weight"]
    assert row.target_std == pytest.approx(math.sqrt(0.9 * 2 / 900 + 0.1 * 2 / 100))
    assert row.target_mean == 0
    std = model.weight.std(correction=0).item()
    assert std == pytest.approx(row.target_std, rel=7 / math.sqrt(1e4))


# The report


@every_module
def test_rows(make, initializers):
    model = make()
    report = initialize(model, SEED)
    parameters = dict(model.named_parameters())
    assert [row.name for row in report.rows if row.name in initializers] == list(parameters)
    for name, parameter in parameters.items():
        row = report[name]
        assert row.names == (name,)
        assert row.shape == tuple(parameter.shape)
        assert row.dtype is torch.float32
        values = array(parameter).astype(np.float64)
        assert row.mean == pytest.approx(values.mean(), abs=1e-12)
        assert row.std == pytest.approx(values.std(), abs=1e-12)
        error = 7 * row.target_std / math.sqrt(values.size)
        assert row.mean == pytest.approx(row.target_mean, abs=error + 1e-7)
        assert row.std == pytest.approx(row.target_std, abs=error + 1e-7)
        assert row.seconds >= 0
        if parameter.dim() < 2:
            assert row.fan_in is row.fan_out is None
        else:
            assert (row.fan_in, row.fan_out) == nn.init._calculate_fan_in_and_fan_out(parameter)
    assert report.uninitialized == report.meta_buffers == report.empty == ()
    assert report.twins == report.unused_rules == ()
    assert report.seconds > 0


@pytest.mark.parametrize(
    "rule",
    [
        fastinit.TruncatedNormal(1.0, 2.0, lower=-0.5, upper=3.0),
        fastinit.TruncatedNormal(0.0, 1.0, lower=4.0, upper=9.0),
        fastinit.RandomUniform(-1.0, 3.0),
        fastinit.Sparse(0.25, 0.5),
        fastinit.Orthogonal(3.0),
        "glorot_normal",
        "lecun_uniform",
        nn.init.trunc_normal_,
    ],
    ids=plain_id,
)
def test_targets(rule):
    model = nn.Linear(100, 300)
    row = initialize(model, SEED, {"weight": rule})["weight"]
    values = array(model.weight).astype(np.float64)
    error = 7 * row.target_std / math.sqrt(values.size)
    assert values.mean() == pytest.approx(row.target_mean, abs=error)
    assert values.std() == pytest.approx(row.target_std, abs=2 * error)
    assert row.mean == pytest.approx(values.mean())
    assert row.std == pytest.approx(values.std())


@pytest.mark.parametrize("dtype", NUMPY, ids=NUMPY.values())
def test_large_tensors_are_measured_in_part(dtype):
    model = Custom(lambda module: nn.init.normal_(module.weight, 1.0, 2.0), (700, 1000), dtype)
    row = initialize(model, SEED)["weight"]
    assert row.mean == pytest.approx(1, abs=7 * 2 / 2**7)
    assert row.std == pytest.approx(2, abs=7 * 2 / 2**7)
    values = array(model.weight).astype(np.float64)
    assert row.mean != pytest.approx(values.mean(), abs=1e-9)


def test_measured_parts_are_spread_over_the_tensor():
    def ramp(module):
        module.weight.copy_(torch.linspace(0, 1, 700_000).view(700, 1000))

    row = initialize(Custom(ramp, (700, 1000)), SEED)["weight"]
    assert row.mean == pytest.approx(0.5, abs=0.01)
    assert row.std == pytest.approx(1 / math.sqrt(12), abs=0.01)
    assert row.initializer is None


def test_rows_by_name():
    report = initialize(zoo(), SEED)
    row = report["conv.weight"]
    assert (row.fan_in, row.fan_out) == (36, 54)
    assert report["conv.weight"].rule == "_ConvNd.reset_parameters"
    assert report["norm.running_var"].mean == 1
    with pytest.raises(KeyError, match="nothing"):
        report["nothing"]


def test_rows_are_in_the_order_of_the_model():
    model = zoo()
    rows = [row.name for row in initialize(model, SEED).rows]
    order = [name for name in model.state_dict() if name in rows]
    assert rows == order


def test_a_row_for_each_parameter_of_any_dtype():
    model = nn.Linear(3, 4, dtype=torch.complex64)
    assert named(initialize(model, SEED)) == {"weight", "bias"}


def test_complex_parameters_are_repeatable():
    def make(**more):
        return nn.ModuleDict({**more, "a": nn.Linear(3, 4, dtype=torch.complex64)})

    one, two = make(), make(z=other())
    initialize(one, SEED)
    torch.manual_seed(1)
    initialize(two, SEED)
    assert_same(one["a"], two["a"])


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_parameters_without_elements():
    def make():
        return nn.ModuleDict({"a": nn.Linear(0, 4), "b": nn.Embedding(0, 3), "c": Bare()})

    for model in both(make):
        model["c"].weight = Parameter(torch.zeros(0, 3, device=model["c"].weight.device))
        report = initialize(model, SEED, {"b.weight": "he_normal"})
        assert report.empty == ("a.weight", "b.weight", "c.weight")
        assert report.uninitialized == report.twins == ()
        assert named(report) == {"a.bias"}
        assert "without elements: a.weight, b.weight, c.weight" in str(report)


def test_twins():
    def ramp(tensor):
        tensor.copy_(torch.arange(float(tensor.numel())).view(tensor.shape))

    def nearly(tensor):
        ramp(tensor)
        tensor.view(-1)[-7] += 1

    model = nn.ModuleList([nn.Linear(300, 40) for _ in range(6)])
    rules = {"[0-2].weight": ramp, "3.weight": nearly, "[23].bias": ramp, "*": 1.0}
    report = initialize(model, SEED, rules)
    assert report.twins == (("0.weight", "1.weight", "2.weight"), ("2.bias", "3.bias"))
    assert "0.weight = 1.weight = 2.weight" in str(report)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 33), (300, 200)])
def test_measured_means_and_deviations(dtype, shape):
    model = nn.Linear(shape[1], shape[0], bias=False, dtype=dtype)
    constant = initialize(model, SEED, rules={"weight": 0.1})
    assert constant["weight"].std == 0.0
    assert constant["weight"].mean == model.weight[0, 0].item()
    model.weight = nn.Parameter(torch.empty(shape[::-1], dtype=dtype).T)
    row = initialize(model, SEED, rules={"weight": fastinit.RandomNormal(3.0, 0.5)})["weight"]
    values = model.weight.detach().double()
    if values.numel() <= 2**15:
        assert row.mean == pytest.approx(float(values.mean()), rel=1e-12)
        assert row.std == pytest.approx(float(values.std(correction=0)), rel=1e-12)
    assert (row.fan_in, row.fan_out) == (shape[1], shape[0])


def test_twins_in_any_dtype_and_layout():
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        pair = nn.ModuleList(nn.Linear(7, 6, bias=False, dtype=dtype) for _ in range(3))
        pair[1].weight = nn.Parameter(torch.empty(7, 6, dtype=dtype).T)
        with torch.no_grad():
            pair[1].weight.copy_(pair[0].weight)
        report = initialize(
            pair, SEED, rules=lambda module: [p.mul_(1) for p in module.parameters(recurse=False)]
        )
        assert report.twins == (("0.weight", "1.weight"),)


def test_twins_that_share_their_memory():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = Parameter(model[0].weight.data)
    assert initialize(model, SEED).twins == (("0.weight", "1.weight"),)


@pytest.mark.parametrize(("rule", "initializer"), RULES.values(), ids=RULES)
def test_initializers_of_rows_make_the_values(rule, initializer):
    model = nn.Linear(30, 40)
    row = initialize(model, SEED, {"weight": rule})["weight"]
    if row.initializer is None:  # copied
        assert row.distribution is row.target_std is None
        return
    found = initializer.check((40, 30))
    assert (row.distribution, row.target_mean, row.target_std) == (found.name, found.mean, found.std)
    assert_is(model.weight, row.initializer, "weight")


def test_initializers_with_blocks_of_their_own():
    model = nn.Linear(20, 60)
    for rule in (fastinit.RandomNormal(blocks=3), fastinit.HeNormal(blocks=3), fastinit.Orthogonal(blocks=3)):
        row = initialize(model, SEED, {"weight": rule})["weight"]
        assert row.initializer.blocks == 3
        assert row.rule == "weight"
        other = nn.Linear(20, 60)
        plain = type(rule)()
        assert initialize(other, SEED, {"weight": plain}, blocks={"weight": 3})["weight"].target_std == (
            pytest.approx(row.target_std)
        )
        assert torch.equal(model.weight, other.weight)


def test_distribution_of_blocks():
    model = nn.Linear(100, 1000)
    for sizes, name in [((500, 500), "normal"), ((900, 100), "mixture")]:
        row = initialize(model, SEED, {"weight": FAN_OUT}, blocks={"weight": sizes})["weight"]
        assert row.distribution == name


def test_report_as_a_dict():
    import json

    report = initialize(zoo(), SEED, {"linear.weight": "he_normal"})
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [row["name"] for row in found["rows"]] == [row.name for row in report.rows]
    assert found["uninitialized"] == found["unused_rules"] == []
    for plain, row in zip(found["rows"], report.rows, strict=True):
        assert plain["dtype"] == str(row.dtype).removeprefix("torch.")
        assert (plain["target_std"], plain["std"]) == (row.target_std, row.std)
        assert fastinit.get(plain["initializer"]) == row.initializer


def test_table(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    model = nn.Sequential(*tied(nn.Embedding(40, 30), nn.Linear(30, 40)), nn.Conv2d(4, 6, 3))
    report = initialize(model, SEED, {"2.weight": "he_normal"})
    head, *lines, summary = str(report).split("\n")
    assert re.split("  +", head) == [
        "tensor",
        "shape",
        "dtype",
        "rule",
        "distribution",
        "fan in, out",
        *head.split()[-4:],
    ]
    assert head.split()[-4:] == ["mean", "std", "target", "ms"]
    assert [line.split()[0] for line in lines] == ["0.weight", "1.bias", "2.weight", "2.bias"]
    assert "0.weight (+1)  40 x 30" in lines[0]
    assert "Embedding.reset_parameters  normal" in lines[0]
    assert re.search(r"6 x 4 x 3 x 3 +float32 +2\.weight +truncated normal +36, 54 ", lines[2])
    assert f"{math.sqrt(2 / 36):.4g}" in lines[2]
    assert summary.startswith("4 tensors, 1,462 elements, ")
    assert all(line == line.rstrip() for line in str(report).split("\n"))


def test_report_can_be_pickled_and_not_changed():
    import pickle

    report = initialize(zoo(), SEED)
    assert pickle.loads(pickle.dumps(report)) == report
    with pytest.raises(AttributeError):
        report.rows = ()


# Progress


def test_progress_as_a_function():
    for model in both(lambda: nn.Sequential(zoo(), nn.Linear(3, 4))):
        seen = []
        initialize(model, SEED, progress=lambda *call, seen=seen: seen.append(call))
        total = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
        done = [call[0] for call in seen]
        assert {call[1] for call in seen} == {total}
        assert done == sorted(done)
        assert len(set(done)) > 6
        assert done[-1] == total
        assert {call[2] for call in seen} == {name for name, _ in model.named_modules()}


def test_progress_counts_tied_parameters_once():
    seen = []
    model = embedding_first()
    initialize(model, SEED, progress=lambda *call: seen.append(call))
    assert seen[-1][:2] == (4800, 4800)


def test_progress_where_a_tied_parameter_comes_late():
    model = nn.Module()
    model.linear = nn.Linear(30, 40)
    model.head = model.linear.weight
    seen = []
    initialize(model, SEED, progress=lambda *call: seen.append(call))
    assert [call[0] for call in seen] == sorted(call[0] for call in seen)
    assert seen[-1][:2] == (4960, 4960)
    assert all(call[0] <= call[1] for call in seen)


def test_progress_as_a_bar(capsys):
    initialize(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)), SEED, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "#" in err
    assert "100%" in err


def test_the_bar_ends_its_line(capsys):
    for model in (nn.Linear(3, 4), nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)), nn.ReLU()):
        initialize(model, SEED, progress=True)
        assert re.search(r"100%[^\r\n]*\n\Z", capsys.readouterr().err)


@pytest.mark.parametrize("progress", [None, False])
def test_no_bar(progress, capsys):
    initialize(zoo(), SEED, progress=progress)
    assert capsys.readouterr() == ("", "")


# Time and memory


def test_time_is_in_proportion_to_the_model():
    """Counted in calls of functions, since a clock is not to be relied on."""

    def calls(count):
        model = on_meta(lambda: nn.Sequential(*(nn.Linear(2, 2) for _ in range(count))))
        seen = 0

        def profile(_, event, __):
            nonlocal seen
            seen += event == "call"

        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            initialize(model, SEED)
        finally:
            sys.setprofile(before)
        return seen

    calls(1)
    assert calls(400) < 5 * calls(100)


PROGRAM = """
import torch
from fastinit.torch import initialize

def memory(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))

with torch.device("meta"):
    small = torch.nn.Sequential(*(torch.nn.Linear(300, 300) for _ in range(2)), torch.nn.Conv2d(3, 3, 3))
    small[0].weight = torch.nn.Parameter(torch.empty(300, 300).T)  # for which PyTorch loads more
    {model}
initialize(small)
try:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
except OSError:
    pass
before = memory("VmRSS:")
initialize(model{arguments})
print(memory("VmHWM:") - before, sum(parameter.nbytes for parameter in model.parameters()))
"""

LARGE = {
    "many": ("model = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(48)))", ""),
    "one": ("model = torch.nn.Linear(8192, 6400)", ""),
    "bfloat16": ("model = torch.nn.Linear(8192, 12800, dtype=torch.bfloat16)", ""),
    "rules": (
        "model = torch.nn.Sequential(*(torch.nn.Linear(2048, 2048) for _ in range(12)))",
        ", rules={'*.weight': 'he_normal'}, blocks={'*.weight': 4}",
    ),
    "constant": ("model = torch.nn.RMSNorm(50 * 2**20)", ""),
    "transposed": (
        "model = torch.nn.Linear(8192, 6400)\n"
        "    model.weight = torch.nn.Parameter(torch.empty(8192, 6400).T)",
        "",
    ),
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("model", "arguments"), LARGE.values(), ids=LARGE)
def test_memory(python, model, arguments):
    grown, size = map(int, python(PROGRAM.format(model=model, arguments=arguments)).split())
    assert size >= 190 * MIB
    assert grown <= size + 32 * MIB


def test_a_rule_that_draws_by_itself_depends_on_the_name_alone():
    def rule(tensor):
        tensor.copy_(torch.randn(tensor.shape))

    one, two = nn.Linear(3, 4), nn.ModuleDict({"a": nn.Linear(5, 5), "b": nn.Linear(3, 4)})
    initialize(one, SEED, {"*weight": rule}, prefix="b")
    initialize(two, SEED, {"*weight": rule})
    assert torch.equal(one.weight, two["b"].weight)


# Tensors of other kinds


class Opaque(torch.Tensor):
    """A tensor without storage, of which PyTorch can do nothing but detach it."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=inner.device)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.detach.default:
            return cls(args[0].inner)
        raise NotImplementedError(f"no {func}")


def two_tensor():
    from torch.testing._internal.two_tensor import TwoTensor

    return TwoTensor(torch.full((4, 3), 7.0), torch.full((4, 3), 7.0))


def freed():
    tensor = torch.full((4, 3), 7.0)
    tensor.untyped_storage().resize_(0)
    return tensor


KINDS = {
    "two tensors": two_tensor,
    "opaque": lambda: Opaque(torch.full((4, 3), 7.0)),
    "sparse": lambda: torch.eye(4, 3).to_sparse(),
    "sparse rows": lambda: torch.eye(4, 3).to_sparse_csr(),
    "mkldnn": lambda: torch.full((4, 3), 7.0).to_mkldnn(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(4, 3), 0.1, 0, torch.qint8),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)]),
    "jagged": lambda: torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=torch.jagged),
    "freed": freed,
}
# Of these PyTorch has `normal_`.
NORMAL_KINDS = {"two tensors", "sparse rows", "nested"}
every_kind = pytest.mark.parametrize("kind", KINDS)


class OfKind(nn.Module):
    def __init__(self, kind, reset=None, *, is_buffer=False):
        super().__init__()
        value = KINDS[kind]()
        if is_buffer:
            self.register_buffer("weight", value)
        else:
            self.weight = Parameter(value, requires_grad=value.is_floating_point())
        self.bias = Parameter(torch.full((4,), 7.0))
        self.reset = reset or (lambda weight: nn.init.normal_(weight))

    def reset_parameters(self):
        with torch.no_grad():
            self.reset(self.weight)
            nn.init.uniform_(self.bias)


@pytest.mark.filterwarnings("ignore:(?!.*(not initialized|cannot be filled))")
@every_kind
def test_tensors_of_other_kinds_are_filled_by_torch_or_reported(kind):
    model = OfKind(kind)
    if kind in NORMAL_KINDS:
        report = initialize(model, SEED)
        assert named(report) == {"weight", "bias"}
        assert report["weight"].initializer is None
        assert report["weight"].rule == "OfKind.reset_parameters"
    else:
        with pytest.warns(UserWarning, match="weight") as seen:
            report = initialize(model, SEED)
        texts = [str(one.message) for one in seen if "beta" not in str(one.message)]
        assert texts[0].startswith("weight cannot be filled: ")
        assert texts[-1] == "1 parameter was not initialized: weight"
        assert report.uninitialized == ("weight",)
        assert named(report) == {"bias"}
    assert_is(model.bias, fastinit.RandomUniform(0.0, 1.0), "bias")


@pytest.mark.filterwarnings("ignore")
@every_kind
def test_tensors_of_other_kinds_that_are_not_touched(kind):
    def nothing(_):
        pass

    report = initialize(OfKind(kind, nothing), SEED)
    assert report.uninitialized == ("weight",)
    assert named(report) == {"bias"}
    report = initialize(OfKind(kind), SEED, {"weight": None})
    assert report.uninitialized == ()
    assert named(report) == {"bias"}
    assert report["bias"].initializer == fastinit.RandomUniform(0.0, 1.0)
    report = initialize(OfKind(kind, nothing, is_buffer=True), SEED)
    assert report.uninitialized == report.meta_buffers == ()
    assert named(report) == {"bias"}


@pytest.mark.filterwarnings("ignore")
@every_kind
def test_tied_tensors_of_other_kinds(kind):
    model = nn.Sequential(OfKind(kind), OfKind(kind))
    model[1].weight = model[0].weight
    report = initialize(model, SEED)
    filled = {"0.weight", "1.weight"} if kind in NORMAL_KINDS else set()
    assert named(report) == {"0.bias", "1.bias"} | filled
    assert report.uninitialized == (() if filled else ("0.weight",))


@pytest.mark.parametrize(
    ("rule", "value"),
    [(0.5, 0.5), ("he_normal", None), (nn.init.ones_, 1.0), (lambda tensor: tensor.mul_(2.0), 14.0)],
    ids=["number", "initializer", "function", "method"],
)
def test_rules_for_a_tensor_that_wraps_others(rule, value):
    model = OfKind("two tensors")
    report = initialize(model, SEED, {"weight": rule})
    assert report["weight"].rule == "weight"
    for inner in (model.weight.a, model.weight.b):
        assert bool((inner != 7).all())
        assert value is None or bool((inner == value).all())
    assert torch.equal(model.weight.a, model.weight.b)


@pytest.mark.parametrize(
    "rules", [None, {"weight": "he_normal"}, {"weight": 0.5}], ids=["own", "name", "number"]
)
def test_a_tensor_that_wraps_others_gets_memory(rules):
    from torch.testing._internal.two_tensor import TwoTensor

    model = nn.Linear(3, 4)
    model.weight = Parameter(TwoTensor(torch.empty(4, 3, device="meta"), torch.empty(4, 3, device="meta")))
    model.weight.mark = "kept"
    report = initialize(model, SEED, rules)
    assert named(report) == {"weight", "bias"}
    assert model.weight.mark == "kept"
    for inner in (model.weight.a, model.weight.b):
        assert not inner.is_meta
        assert inner.unique().numel() > 1 or rules == {"weight": 0.5}


def test_a_tensor_that_wraps_others_in_parts():
    model = OfKind("two tensors", lambda weight: [nn.init.xavier_uniform_(part) for part in weight.chunk(2)])
    report = initialize(model, SEED)
    assert named(report) == {"weight", "bias"}
    assert bool((model.weight.a != 7).all())


def test_a_tensor_that_gets_no_memory_stays_on_meta():
    model = nn.Linear(3, 4)
    model.weight = Parameter(Opaque(torch.empty(4, 3, device="meta")))
    with pytest.warns(UserWarning, match="weight") as seen:
        report = initialize(model, SEED)
    assert str(seen[0].message).startswith("weight gets no memory: NotImplementedError: no aten.empty_like")
    assert report.uninitialized == ("weight",)
    assert model.weight.is_meta
    assert_is(model.bias, uniform(1 / math.sqrt(3)), "bias")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes")
def test_errors_name_the_parameter():
    model = nn.ModuleDict({"a": Custom(lambda module: nn.init.normal_(module.weight, std=-1.0))})
    with pytest.raises(RuntimeError) as caught:
        initialize(model, SEED)
    assert caught.value.__notes__ == ["This was a.weight."]


# Parts of a parameter

PARTS = {
    "slice": lambda weight: weight[:7].normal_(),
    "function": lambda weight: nn.init.xavier_uniform_(weight.chunk(4)[0]),
    "fastinit": lambda weight: fastinit.torch.eye_(weight[3:, :5]),
    "item": lambda weight: weight.__setitem__(0, 1.0),
    "copy": lambda weight: weight[..., 2:].copy_(torch.ones(40, 28)),
    "twice": lambda weight: [nn.init.ones_(weight[:20]), nn.init.normal_(weight[:20])],
    "all but one": lambda weight: [nn.init.normal_(row) for row in weight[1:]],
    # These compute with what is there.
    "product": lambda weight: weight.mul_(0.5),
    "operator": lambda weight: weight.__imul__(2.0),
    "data": lambda weight: weight.data.add_(1.0),
    "bounds": lambda weight: weight.clamp_(-1.0, 1.0),
    "products": lambda weight: [part.div_(2.0) for part in weight.chunk(4)],
    "mask": lambda weight: weight.masked_fill_(torch.ones(40, 30, dtype=torch.bool).tril(), 0.0),
}
WHOLES = {
    "chunks": lambda weight: [nn.init.xavier_uniform_(part) for part in weight.chunk(4)],
    "items": lambda weight: [weight.__setitem__(i, i + 0.5) for i in range(40)],
    "mixed": lambda weight: [fastinit.torch.eye_(weight[:9]), weight[9:].normal_(), weight[0].zero_()],
    "constant first": lambda weight: [nn.init.zeros_(weight), weight[3].normal_()],
    "columns": lambda weight: [weight[:, ::2].normal_(), weight[:, 1::2].fill_(1.0)],
    "transposed": lambda weight: [part.uniform_() for part in weight.T.split(7)],
    "fallback": lambda weight: [fastinit.torch.normal_(part, 1.0, 0.0) for part in weight.unbind()],
    "index": lambda weight: [weight.__setitem__(torch.arange(40), 2.0)],
    "product afterwards": lambda weight: weight.normal_().mul_(0.5),
    "products afterwards": lambda weight: [part.uniform_().add_(1.0) for part in weight.chunk(4)],
}


@pytest.mark.parametrize("write", PARTS.values(), ids=PARTS)
def test_new_memory_that_is_written_to_in_part_is_not_initialized(write):
    model = on_meta(lambda: Custom(lambda module: write(module.weight)))
    with pytest.warns(UserWarning, match="1 parameter was not initialized: weight"):
        report = initialize(model, SEED)
    assert report.uninitialized == ("weight",)
    assert model.weight.is_meta
    model = Custom(lambda module: write(module.weight))
    assert named(initialize(model, SEED)) == {"weight"}


@pytest.mark.parametrize("write", PARTS.values(), ids=PARTS)
def test_defaults_do_not_undo_what_a_function_does_to_new_memory_in_part(write):
    model = on_meta(lambda: nn.Sequential(nn.Linear(30, 40)))
    with pytest.warns(UserWarning, match="1 parameter was not initialized: 0.weight"):
        report = initialize(
            model, SEED, lambda module: isinstance(module, nn.Linear) and write(module.weight)
        )
    assert report.uninitialized == ("0.weight",)
    assert_is(model[0].bias, uniform(1 / math.sqrt(30)), "0.bias")


@pytest.mark.parametrize("write", WHOLES.values(), ids=WHOLES)
def test_parts_that_make_up_a_parameter(write):
    for model in both(lambda: Custom(lambda module: write(module.weight))):
        assert named(initialize(model, SEED)) == {"weight"}
        assert bool((model.weight != 7).all())
