"""`diagnose` on layers in a row: signals that vanish, and kernels of zeros, against what training does."""

import copy
import importlib.util
import itertools
import math
import re

import numpy as np
import pytest

import fastinit
from fastinit import diagnose

torch = pytest.importorskip("torch")
nn = torch.nn


def loud(diagnosis):
    """What is worse than information, as pairs of code and name."""
    return sorted((f.code, f.tensor) for f in diagnosis.findings if f.severity != "info")


def severities(diagnosis):
    return {f.tensor: f.severity for f in diagnosis.findings}


def plain(depth, activation=nn.ReLU, init=None, width=64, bias=None, outputs=10, seed=0):
    """A plain network, with PyTorch's default weights or others."""
    torch.manual_seed(seed)
    layers = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), activation()]
    model = nn.Sequential(*layers, *([nn.Linear(width, outputs)] if outputs else []))
    for layer in model[::2]:
        if init is not None:
            init(layer.weight)
            nn.init.zeros_(layer.bias)
        if bias is not None:
            nn.init.constant_(layer.bias, bias)
    return model


def he(weight):
    nn.init.kaiming_normal_(weight)


def normal(std):
    return lambda weight: nn.init.normal_(weight, 0.0, std)


# Depth


@pytest.mark.parametrize(
    ("make", "severity"),
    [
        (lambda: plain(50, outputs=0), "severe"),
        (lambda: plain(50, init=nn.init.xavier_uniform_), "severe"),
        (lambda: plain(50, nn.Tanh), "severe"),
        (lambda: plain(10), "warning"),
        (lambda: plain(10, init=normal(0.01)), "severe"),
        (lambda: plain(5, init=normal(0.01), width=128), "warning"),
        (lambda: plain(10, nn.GELU), "warning"),
        (lambda: plain(8, nn.Sigmoid), "severe"),
        (lambda: nn.Sequential(*(nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU()) for _ in range(20))), "severe"),
    ],
    ids=["default", "glorot", "tanh", "default 10", "normal", "normal 5", "gelu", "sigmoid", "convolutions"],
)
def test_a_signal_vanishes_over_the_depth(make, severity):
    found = diagnose(make())
    assert loud(found) == [("vanishing", "")]
    assert found.worst == severity
    (finding,) = (f for f in found.findings if f.code == "vanishing")
    words = "almost nothing of the input" if severity == "severe" else "they learn slowly or not at all"
    assert words in finding.message


@pytest.mark.parametrize(
    "make",
    [
        lambda: plain(50, init=he),
        lambda: plain(5),
        lambda: plain(10, init=nn.init.xavier_uniform_),
        lambda: plain(50, nn.Tanh, lambda weight: nn.init.orthogonal_(weight, 1.05)),
        lambda: plain(50, nn.SELU, normal(1 / 8)),
        lambda: plain(50, nn.LeakyReLU, he),
        lambda: nn.Sequential(
            *(
                part
                for _ in range(30)
                for part in (nn.Linear(32, 32, bias=False), nn.LayerNorm(32), nn.ReLU(), nn.Dropout())
            )
        ),
        # Of these the order is not known.
        lambda: nn.ModuleList(nn.Linear(32, 32) for _ in range(50)),
        lambda: nn.ModuleDict({f"layer{i}": nn.Linear(32, 32) for i in range(50)}),
    ],
    ids=["he", "default 5", "glorot 10", "tanh", "selu", "leaky", "normalized", "list", "dictionary"],
)
def test_what_reaches_the_end_is_clean(make):
    assert loud(diagnose(make())) == []


def test_a_signal_explodes_over_the_depth():
    found = diagnose(plain(10, init=normal(3.5 / 8)))
    assert loud(found) == [("exploding", "")]


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU, nn.Softplus])
def test_the_factors_are_those_of_the_network(activation):
    torch.manual_seed(1)
    sizes = [256, 512, 256, 384, 256, 256, 512, 256, 256]
    layers = [part for m, n in itertools.pairwise(sizes) for part in (nn.Linear(m, n), activation())]
    model = nn.Sequential(*layers, nn.Linear(256, 10))
    for layer in model[::2]:
        nn.init.normal_(layer.weight, 0.0, 0.3 / math.sqrt(layer.in_features))
        nn.init.normal_(layer.bias, 0.2, 0.1)
    (finding,) = (f for f in diagnose(model).findings if f.code == "vanishing")
    texts = re.findall(r"inputs (\S+) times as large .* a gradient (\S+) times", finding.message)
    change, gradient = map(float, texts[0])
    hidden = model[:-1].double()
    x = torch.randn(64, 256, dtype=torch.float64, requires_grad=True)
    before = hidden(x)
    (backward,) = torch.autograd.grad(before, x, torch.randn_like(before))
    with torch.no_grad():
        forward = (hidden(x + 1e-6 * torch.randn_like(x)) - before) / 1e-6
    assert change == pytest.approx(forward.square().mean().sqrt().item(), rel=0.25)
    assert gradient == pytest.approx(backward.square().mean().sqrt().item(), rel=0.25)


class Holder(nn.Module):
    """A module whose forward pass is not known, around parts that are in a row."""

    def __init__(self, *parts):
        super().__init__()
        self.before = nn.Linear(64, 64)
        self.parts = nn.ModuleList(parts)


def test_a_row_inside_of_a_model_is_named_by_its_first_kernel():
    found = diagnose(Holder(plain(50), plain(3, seed=1)))
    assert loud(found) == [("vanishing", "parts.0.0.weight")]


def test_what_is_wrong_with_one_layer_is_not_told_twice():
    model = plain(4, init=he)
    nn.init.normal_(model[2].weight, 0.0, 1e-5)
    assert loud(diagnose(model)) == [("too_small", "2.weight")]


def test_kernels_that_are_expected_may_vanish():
    model = plain(10, init=normal(0.01))
    assert diagnose(model, expect=fastinit.RandomNormal(stddev=0.01)).ok


@pytest.mark.parametrize("bias", [-1.0, -2.0, -4.9])
def test_biases_that_make_all_units_dead(bias):
    model = plain(6, init=he, bias=bias)
    assert not model[:-1](torch.randn(256, 64)).any()
    found = diagnose(model)
    assert loud(found) == [("bias_not_zero", "0.bias")]
    assert found.worst == "severe"
    found = diagnose(model.state_dict())  # The activation is not known.
    assert loud(found) == [("bias_not_zero", "0.bias")]
    assert found.worst == "warning"


@pytest.mark.parametrize("bias", [0.01, 0.1, 1.0])
def test_biases_that_keep_units_alive(bias):
    assert loud(diagnose(plain(6, init=he, bias=bias))) == []


# Arrays, whose order is assumed from their names


def stack(depth, scale, name="layers.{}.kernel", width=48, start=0):
    kernels = {}
    for i in range(start, start + depth):
        init = fastinit.VarianceScaling(scale, "fan_in", "untruncated_normal")
        kernels[name.format(i)] = init((width, width), seed=0, stream=i)
    return kernels


@pytest.mark.parametrize("name", ["layers.{}.kernel", "dense_{}/kernel", "fc{}.weight", "{}.weight"])
def test_arrays_vanish_whatever_their_activation(name):
    made = stack(30, 1 / 3, name)
    made[name.format("_out")] = fastinit.lecun_normal((48, 10), seed=1)
    assert loud(diagnose(made)) == [("vanishing", "")]
    assert diagnose(made).worst == "warning"
    assert loud(diagnose(dict(sorted(made.items())))) == [("vanishing", "")]
    for scale in (1.0, 2.0):  # Right for linear layers and tanh, and for ReLU.
        assert loud(diagnose(stack(50, scale, name))) == []


@pytest.mark.parametrize(
    "more",
    [
        {"norm.weight": np.ones(48, np.float32)},
        {"embedding/embeddings": fastinit.random_normal((100, 48), seed=9)},
        {"layers.0.alpha": np.zeros((), np.float32)},
        stack(30, 1 / 3, "layers.{}.second.kernel", start=30),
        {"layers.99.kernel": fastinit.lecun_normal((20, 20), seed=9)},
    ],
    ids=["normalization", "embedding", "gate", "two kinds", "of another size"],
)
def test_arrays_that_may_have_ways_around_them_are_clean(more):
    assert loud(diagnose(stack(30, 1 / 3) | more)) == []


# Zeros


def network(activation, zeros, bias=0.0):
    """Layers of which some are zero, as a network that can be trained."""
    torch.manual_seed(0)
    sizes = (12, 24, 24, 24, 4)
    model = nn.Sequential()
    for m, n in itertools.pairwise(sizes):
        model.extend([nn.Linear(m, n), activation()])
    model = model[:-1]
    for i, layer in enumerate(model[::2]):
        he(layer.weight)
        nn.init.uniform_(layer.bias, -bias, bias)
        if i in zeros:
            nn.init.zeros_(layer.weight)
    return model


def trained(model, steps=4):
    """The kernels after a few steps of gradient descent."""
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 12, generator=generator)
    y = torch.randint(4, (64,), generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return dict(model.named_parameters())


ACTIVATIONS = [nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.Sigmoid]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("zeros", [(0,), (1,), (3,), (1, 2), (2, 3), (1, 3), (0, 1, 2, 3)], ids=str)
@pytest.mark.parametrize("bias", [0.0, 0.1])
def test_zeros_are_severe_where_nothing_can_train(activation, zeros, bias):
    model = network(activation, zeros, bias)
    found = severities(diagnose(model))
    after = trained(model)
    for i in zeros:
        weight = after[f"{2 * i}.weight"].detach()
        stays_zero = not weight.any()
        # Rows that are equal, for each sign of the biases.
        stay_equal = len(torch.unique(weight.sign() * weight.abs().log().round(decimals=3), dim=0)) == 1
        severity = "severe" if stays_zero or stay_equal else "info" if i == 3 else "warning"
        assert found[f"{2 * i}.weight"] == severity, (i, stays_zero, stay_equal)


def test_constant_kernels_stay_equal_only_if_those_above_do():
    model = network(nn.Tanh, ())
    nn.init.constant_(model[2].weight, 0.1)
    assert severities(diagnose(model)) == {"2.weight": "warning"}
    assert len(torch.unique(trained(model)["2.weight"].detach(), dim=0)) == 24
    nn.init.constant_(model[4].weight, 0.1)
    assert severities(diagnose(model)) == {"2.weight": "severe", "4.weight": "warning"}
    assert trained(model)["2.weight"].detach().std(dim=0).max() < 1e-6


class Residual(nn.Module):
    def __init__(self, *parts):
        super().__init__()
        self.branch = nn.Sequential(*parts)

    def forward(self, x):
        return x + self.branch(x)


class Fixup(nn.Module):
    """A residual block without normalization, whose last convolution starts at zero."""

    def __init__(self, width=16):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        he(self.conv1.weight)
        nn.init.zeros_(self.conv2.weight)


class Dit(nn.Module):
    """The last layer and the blocks of a diffusion transformer, as far as they are zero."""

    def __init__(self, width=32, blocks=3):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "attention": nn.Linear(width, width),
                    "mlp": nn.Linear(width, width),
                    "adaLN_modulation": nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width)),
                }
            )
            for _ in range(blocks)
        )
        self.final_layer = nn.ModuleDict(
            {
                "linear": nn.Linear(width, 8),
                "adaLN_modulation": nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width)),
            }
        )
        layers = [block["adaLN_modulation"][1] for block in self.blocks]
        for layer in (*layers, self.final_layer["adaLN_modulation"][1], self.final_layer["linear"]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


class ControlNet(nn.Module):
    def __init__(self, zero=4):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(16, 16, 3) for _ in range(3 * zero))
        self.zero_convs = nn.ModuleList(nn.Conv2d(16, 16, 1) for _ in range(zero))
        self.middle_block_out = nn.Conv2d(16, 16, 1)
        for layer in (*self.zero_convs, self.middle_block_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


class Detector(nn.Module):
    """The last layer of each box head is zero, as of DETR's successors."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleList(nn.Linear(16, 16) for _ in range(8))
        heads = [nn.ModuleList([nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)]) for _ in range(3)]
        self.bbox_embed = nn.ModuleList(nn.ModuleDict({"layers": layers}) for layers in heads)
        for layers in heads:
            nn.init.zeros_(layers[-1].weight)


class Readout(nn.Module):
    """As of muP: the last layer starts at zero, whatever its name."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))
        self.to_answer = nn.Linear(32, 10, bias=False)
        nn.init.zeros_(self.to_answer.weight)


class Adapted(nn.Module):
    """With the names of peft, which draws one factor for linear layers and the other one for embeddings."""

    def __init__(self):
        super().__init__()
        self.wte = nn.ModuleDict(
            {
                "base_layer": nn.Embedding(50, 32),
                "lora_embedding_A": nn.ParameterDict({"default": torch.zeros(4, 50)}),
                "lora_embedding_B": nn.ParameterDict({"default": torch.randn(32, 4)}),
            }
        )
        self.proj = nn.ModuleDict(
            {
                "base_layer": nn.Linear(32, 32),
                "lora_A": nn.ModuleDict({"default": nn.Linear(32, 4, bias=False)}),
                "lora_B": nn.ModuleDict({"default": nn.Linear(4, 32, bias=False)}),
            }
        )
        nn.init.zeros_(self.proj["lora_B"]["default"].weight)


def zero_last():
    parts = [nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 32)]
    nn.init.zeros_(parts[2].weight)
    return nn.Sequential(nn.Linear(12, 32), Residual(*parts), nn.ReLU(), nn.Linear(32, 4))


def regression():
    model = nn.Linear(20, 3)
    nn.init.zeros_(model.weight)
    return model


MEANT = {
    "adapter": Adapted,
    "ControlNet": ControlNet,
    "detector": Detector,
    "diffusion transformer": Dit,
    "Fixup": lambda: nn.Sequential(nn.Conv2d(3, 16, 3), *(Fixup() for _ in range(4)), nn.Linear(16, 10)),
    "one Fixup block": lambda: nn.Sequential(nn.Conv2d(3, 16, 3), Fixup(), nn.Linear(16, 10)),
    "one residual block": zero_last,
    "readout": Readout,
    "regression": regression,
}


@pytest.mark.parametrize("name", MEANT)
def test_zeros_that_are_meant(name):
    torch.manual_seed(0)
    model = MEANT[name]()
    found = diagnose(model)
    assert loud(found) == []
    assert "all_zero" in {f.code for f in found.findings}
    if name != "regression":  # Of its arrays all are zero, and there may be more of them.
        assert loud(diagnose(model.state_dict())) == []


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_zeros_at_the_start_of_a_branch(activation):
    """With ReLU the branch never trains, but the rest of the model does."""
    parts = [nn.Linear(24, 24), activation(), nn.Linear(24, 24)]
    nn.init.zeros_(parts[0].weight)
    nn.init.zeros_(parts[0].bias)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 24), Residual(*parts), nn.Linear(24, 4))
    found = diagnose(model)
    assert loud(found) == [("all_zero", "1.branch.0.weight")]
    assert found.worst == "warning"
    assert ("never gets a gradient" in found.findings[0].message) == (activation is nn.ReLU)
    assert bool(trained(model)["1.branch.0.weight"].any()) == (activation is nn.Tanh)


def test_zeros_of_arrays():
    made = stack(5, 2.0)
    one, two = (np.zeros((48, 48), np.float32) for _ in range(2))
    assert severities(diagnose(made | {"layers.2.kernel": one})) == {"layers.2.kernel": "warning"}
    assert severities(diagnose(made | {"layers.4.kernel": one})) == {"layers.4.kernel": "info"}
    found = severities(diagnose(made | {"layers.2.kernel": one, "layers.3.kernel": two}))
    assert found == {"layers.2.kernel": "severe", "layers.3.kernel": "severe"}
    found = diagnose({name: np.zeros_like(kernel) for name, kernel in made.items()})
    assert set(severities(found).values()) == {"severe"}
    small = {
        "hidden/kernel": fastinit.he_normal((20, 30), seed=0),
        "out/kernel": np.zeros((30, 4), np.float32),
    }
    assert diagnose(small).ok
    small = {
        "hidden/kernel": np.zeros((20, 30), np.float32),
        "out/kernel": fastinit.he_normal((30, 4), seed=0),
    }
    assert diagnose(small).worst == "warning"


KERAS = """
    import keras, numpy as np
    from keras import layers as L
    from fastinit import diagnose

    def loud(found):
        return sorted((f.severity, f.code, f.tensor) for f in found.findings if f.severity != "info")

    def dense(depth, init, last="softmax", activation="relu"):
        hidden = [L.Dense(64, activation, kernel_initializer=init) for _ in range(depth)]
        return keras.Sequential([keras.Input((64,)), *hidden, L.Dense(10, last)])

    keras.utils.set_random_seed(0)
    assert loud(diagnose(dense(50, "glorot_uniform"))) == [("severe", "vanishing", "")]
    assert loud(diagnose(dense(20, "he_normal"))) == []
    assert loud(diagnose(dense(6, "glorot_uniform"))) == []

    # A functional model in a row, with activations of their own.
    x = inputs = keras.Input((64,))
    for _ in range(24):
        x = L.Dropout(0.1)(L.LeakyReLU(0.1)(L.Dense(64)(x)))
    model = keras.Model(inputs, L.Dense(3)(x))
    assert loud(diagnose(model)) == [("warning", "vanishing", "")]

    # Normalizations and residual connections are ways around it.
    x = inputs = keras.Input((64,))
    for i in range(12):
        x = L.Dense(64, use_bias=False)(x)
        x = L.ReLU()(L.BatchNormalization()(x)) if i % 2 else L.Add()([x, L.Dense(64, "relu")(x)])
    assert loud(diagnose(keras.Model(inputs, x))) == []

    # Zeros: the last kernel of a branch, and a hidden one.
    inputs = keras.Input((8, 8, 16))
    first, last = L.Conv2D(16, 3, padding="same", activation="relu"), L.Conv2D(16, 3, padding="same")
    model = keras.Model(inputs, L.Dense(4)(L.Add()([inputs, last(first(inputs))])))
    kernel = np.zeros(last.kernel.shape, "float32")
    last.kernel.assign(kernel)
    assert loud(diagnose(model)) == []
    model = dense(4, "he_normal")
    model.layers[1].kernel.assign(np.zeros((64, 64), "float32"))
    assert loud(diagnose(model)) == [("severe", "all_zero", model.layers[1].kernel.path)]
    tanh = dense(4, "glorot_uniform", activation="tanh")
    tanh.layers[1].kernel.assign(np.zeros((64, 64), "float32"))
    assert loud(diagnose(tanh)) == [("warning", "all_zero", tanh.layers[1].kernel.path)]

    # LoRA, and a vector of weights that is called scale.
    model = dense(3, "he_normal")
    for layer in model.layers[:2]:
        layer.enable_lora(4)
    assert loud(diagnose(model)) == []
    query, value = keras.Input((5, 16)), keras.Input((6, 16))
    model = keras.Model([query, value], L.Dense(4)(L.AdditiveAttention()([query, value])))
    assert loud(diagnose(model)) == []
    arrays = {weight.path: np.asarray(keras.ops.convert_to_numpy(weight)) for weight in model.weights}
    assert loud(diagnose(arrays)) == []
"""


def test_keras(python):
    for module in ("keras", "jax"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not there")
    python(KERAS, timeout=110, KERAS_BACKEND="jax")
