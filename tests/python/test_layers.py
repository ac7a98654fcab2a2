"""`recommend` for objects of Keras and PyTorch, and what it spells: each line runs in the plain framework."""

import importlib.util

import pytest

from fastinit import recommend
from fastinit.guidance.recommend.families import FAMILIES

ACTIVATIONS = ["relu", "tanh", "gelu", "linear", "selu", "leaky_relu", "prelu", "softmax", "sin", "swiglu"]
MODES = [None, "fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
DISTRIBUTIONS = [None, "uniform", "truncated_normal", "untruncated_normal"]
CONSTANTS = f"""
ACTIVATIONS, MODES, DISTRIBUTIONS = {ACTIVATIONS}, {MODES}, {DISTRIBUTIONS}
FAMILIES = {list(FAMILIES)}
"""

# Compares tensors with their initializers: mean, standard deviation, and the largest element, by which the
# distributions differ. The bounds are five standard errors and more.
SAME = """
import math, numpy as np

def check_same(value, made, label, truncated=True):
    value = np.asarray(value, dtype=np.float64)
    expected = made(value.shape, seed=0, dtype="float64")
    std = expected.std()
    error = 1 / math.sqrt(value.size)
    assert abs(value.mean() - expected.mean()) <= 8 * error * std + 1e-6, label
    assert abs(value.std() - std) <= (0.02 + 5 * error) * std + 1e-6, (label, value.std(), std)
    is_matrix = any(name in repr(made) for name in ("Orthogonal", "Identity"))
    if truncated and std > 1e-6 and value.size > 2000 and not is_matrix:
        largest = [np.abs(x - expected.mean()).max() / std for x in (value, expected)]
        if largest[1] < 2.4:
            assert abs(largest[0] - largest[1]) < 0.2, (label, largest)
        else:
            assert largest[0] > 2.6, (label, largest)
"""


def runs(python, code, *frameworks, **environment):
    for framework in frameworks:
        if importlib.util.find_spec(framework) is None:
            pytest.skip(f"{framework} is not there")
    # In a process of its own, since other tests load other engines.
    assert "done" in python(SAME + code, **environment)


# PyTorch

TORCH = """
import torch
from torch import nn
from torch.nn import init
from fastinit import recommend
torch.set_num_threads(1)
torch.manual_seed(0)
FUNCTIONS = {name: getattr(init, name) for name in init.__all__ if name.endswith("_")}

class Names(dict):
    "The attributes of a layer, as a user would write them after `layer.`."
    def __init__(self, layer):
        super().__init__(FUNCTIONS)
        self.layer = layer
    def __missing__(self, name):
        return getattr(self.layer, name)

def run(call, layer):
    exec(call, {"__builtins__": {}}, Names(layer)) if " for " not in call else exec(
        call, {**FUNCTIONS, **{n: getattr(layer, n) for n in dir(layer) if not n.startswith("__")}})
"""

SPELLED_TORCH = """
class Parts(nn.Module):
    "Layers that PyTorch has no class for, by the names that the spelling uses."
    def __init__(self, first, **others):
        super().__init__()
        self.weight, self.bias = first.weight, first.bias
        for name, module in others.items():
            self.add_module(name, module)

LAYERS = {
    "dense": lambda: nn.Linear(80, 60),
    "bilinear": lambda: nn.Bilinear(20, 15, 30),
    "conv": lambda: nn.Conv2d(20, 30, 3),
    "depthwise_conv": lambda: nn.Conv2d(200, 200, 5, groups=200),
    "separable_conv": lambda: Parts(nn.Conv2d(200, 200, 5, groups=200), pointwise=nn.Conv2d(200, 30, 1)),
    "conv_transpose": lambda: nn.ConvTranspose2d(20, 30, 3),
    "embedding": lambda: nn.Embedding(100, 60),
    "simple_rnn": lambda: nn.RNN(60, 64),
    "lstm": lambda: nn.LSTM(60, 64),
    "gru": lambda: nn.GRU(60, 64),
    "attention": lambda: nn.MultiheadAttention(64, 4),
    "normalization": lambda: nn.BatchNorm2d(64),
    "prelu": lambda: nn.PReLU(64),
    "output": lambda: nn.Linear(300, 10),
    "residual": lambda: Parts(nn.Linear(80, 60), last=nn.Linear(60, 80)),
}
RECURRENT = {"kernel": ["weight_ih_l0"], "recurrent_kernel": ["weight_hh_l0"],
             "forget_bias": ["bias_ih_l0[64:128]"], "bias": ["bias_ih_l0", "bias_hh_l0"]}
PLACES = {
    "separable_conv": {"pointwise_kernel": ["pointwise.weight"]},
    "residual": {"output_kernel": ["last.weight"]},
    "attention": {"query_kernel": ["in_proj_weight[:64]"], "key_kernel": ["in_proj_weight[64:128]"],
                  "value_kernel": ["in_proj_weight[128:]"], "output_kernel": ["out_proj.weight"],
                  "bias": ["in_proj_bias", "out_proj.bias"]},
    "prelu": {"alpha": ["weight"]},
    "normalization": {"beta": ["bias"], "moving_mean": ["running_mean"], "moving_variance": ["running_var"]},
    "simple_rnn": RECURRENT, "lstm": RECURRENT, "gru": RECURRENT,
}

def tensors(layer, weight, family):
    places = PLACES.get(family, {}).get(weight)
    if places is None:
        places = ["prelu.weight"] if weight == "alpha" else ["bias"] if weight == "bias" else ["weight"]
    return [eval("layer." + place, {"layer": layer}).detach().numpy() for place in places]

def check(family, activation, layer=None, **options):
    layer = layer or LAYERS[family]()
    if activation == "prelu" and family != "prelu":
        layer.prelu = nn.PReLU()
    found = recommend(activation, family, layout="out_in", **options)
    for weight, call in found.torch.items():
        assert call, (family, weight)
        run(call, layer)
        for value in tensors(layer, weight, family):
            is_plain = call.startswith(("kaiming_normal_", "xavier_normal_")) or "norm" in weight
            check_same(value, found.weights[weight], (family, weight, call), truncated=not is_plain)

for family in LAYERS:
    for activation in ACTIVATIONS:
        check(family, activation)
convolutions = "conv", "depthwise_conv", "separable_conv", "conv_transpose"
for family in ("dense", "bilinear", *convolutions, "lstm", "attention"):
    for mode in MODES:
        for distribution in DISTRIBUTIONS:
            check(family, "gelu", mode=mode, distribution=distribution)
check("dense", "gelu", depth=50)  # random biases
check("residual", "relu", depth=8)
for mode in MODES:
    for distribution in DISTRIBUTIONS:
        options = dict(groups=4, mode=mode, distribution=distribution)
        check("conv", "gelu", nn.Conv2d(20, 40, 3, groups=4), **options)
        check("conv_transpose", "gelu", nn.ConvTranspose2d(20, 40, 3, groups=4), **options)
# PyTorch adds two biases.
lstm = nn.LSTM(60, 64, num_layers=2)
run(recommend(None, lstm, bias=0.5).torch["bias"], lstm)
for i in range(2):
    both = getattr(lstm, f"bias_ih_l{i}"), getattr(lstm, f"bias_hh_l{i}")
    assert (both[0] == 0.5).all() and (both[1] == 0).all()
"""

OBJECTS_TORCH = """
spectral_norm = nn.utils.parametrizations.spectral_norm
objects = [
    (nn.Linear(40, 60, bias=False), {"kernel"}),
    (nn.Linear(40, 60), {"kernel", "bias"}),
    (nn.Bilinear(4, 50, 60), {"kernel", "bias"}),
    (nn.Conv1d(40, 60, 3, bias=False), {"kernel"}),
    (nn.Conv3d(40, 60, 3, groups=4), {"kernel", "bias"}),
    (nn.Conv2d(40, 80, 3, groups=40), {"depthwise_kernel", "bias"}),
    (nn.ConvTranspose2d(40, 60, 3, stride=2, groups=2), {"kernel", "bias"}),
    (nn.ConvTranspose1d(40, 60, 3, bias=False), {"kernel"}),
    (nn.Embedding(40, 60), {"embeddings"}),
    (nn.Embedding(40, 60, padding_idx=3), {"embeddings"}),
    (nn.EmbeddingBag(40, 60), {"embeddings"}),
    (nn.RNN(40, 30, 2, nonlinearity="relu", bidirectional=True), {"kernel", "recurrent_kernel", "bias"}),
    (nn.RNN(40, 30, bias=False), {"kernel", "recurrent_kernel"}),
    (nn.LSTM(40, 30, 2, bidirectional=True), {"kernel", "recurrent_kernel", "bias", "forget_bias"}),
    (nn.LSTM(40, 30, proj_size=20, bias=False), {"kernel", "recurrent_kernel", "projection_kernel"}),
    (nn.GRU(40, 30, 3, bias=False), {"kernel", "recurrent_kernel"}),
    (nn.RNNCell(40, 30), {"kernel", "recurrent_kernel", "bias"}),
    (nn.LSTMCell(40, 30), {"kernel", "recurrent_kernel", "bias", "forget_bias"}),
    (nn.GRUCell(40, 30, bias=False), {"kernel", "recurrent_kernel"}),
    (nn.MultiheadAttention(40, 4), {"query_kernel", "key_kernel", "value_kernel", "output_kernel", "bias"}),
    (nn.MultiheadAttention(40, 4, kdim=30, vdim=20, bias=False, add_bias_kv=True),
     {"query_kernel", "key_kernel", "value_kernel", "output_kernel", "key_position", "value_position"}),
    (nn.BatchNorm1d(40), {"gamma", "beta", "moving_mean", "moving_variance"}),
    (nn.BatchNorm2d(40, affine=False), {"moving_mean", "moving_variance"}),
    (nn.BatchNorm3d(40, track_running_stats=False), {"gamma", "beta"}),
    (nn.SyncBatchNorm(40), {"gamma", "beta", "moving_mean", "moving_variance"}),
    (nn.InstanceNorm2d(40, affine=True), {"gamma", "beta"}),
    (nn.InstanceNorm1d(40, affine=True, track_running_stats=True),
     {"gamma", "beta", "moving_mean", "moving_variance"}),
    (nn.LayerNorm(40), {"gamma", "beta"}),
    (nn.LayerNorm(40, bias=False), {"gamma"}),
    (nn.GroupNorm(4, 40), {"gamma", "beta"}),
    (nn.RMSNorm(40), {"gamma"}),
    (nn.PReLU(40), {"alpha"}),
    (spectral_norm(nn.Linear(40, 60)), {"kernel", "bias"}),
    (nn.LazyLinear(60), {"kernel", "bias"}),
    (nn.LazyConv2d(60, 3), {"kernel", "bias"}),
    (nn.LazyConvTranspose2d(60, 3), {"kernel", "bias"}),
    (nn.LazyBatchNorm2d(), {"gamma", "beta", "moving_mean", "moving_variance"}),
]
lazy = nn.parameter.is_lazy

def weights(module):
    names = ("running_mean", "running_var")
    return {**dict(module.named_parameters()), **{n: b for n, b in module.named_buffers() if n in names}}

def check_all_filled(module, found):
    with torch.no_grad():
        for tensor in weights(module).values():
            tensor.fill_(7.5)
    for weight, call in found.torch.items():
        run(call, module)
    for name, tensor in weights(module).items():
        assert not (tensor == 7.5).any(), (type(module), name)

covered = set()
for module, expected in objects:
    found = recommend(None, module)
    assert found.layout == "out_in"
    assert set(found.weights) == expected, (module, set(found.weights))
    covered.add(type(module))
    if not any(map(lazy, module.parameters())):
        check_all_filled(module, found)

# Activations and slopes
for module, activation in [
    (nn.RNN(4, 3, nonlinearity="relu"), "relu"), (nn.RNNCell(4, 3, nonlinearity="relu"), "relu"),
    (nn.RNN(4, 3), "tanh"), (nn.LSTM(4, 3), "tanh"), (nn.Linear(4, 3), "linear"),
]:
    assert recommend(None, module).activation == activation
assert repr(recommend(None, nn.RNN(4, 3, nonlinearity="relu")).weights["recurrent_kernel"]) == "Identity()"
# The slopes of the layer are what is to be initialized, but the slope of an activation is given.
assert recommend(None, nn.PReLU(init=0.1)).weights["alpha"].value == 0.25
assert recommend(nn.PReLU(init=0.1), nn.Linear(4, 3)).weights["alpha"].value == np.float32(0.1)
assert recommend(nn.PReLU(), nn.Linear(4, 3)).torch["alpha"] == "constant_(prelu.weight, 0.25)"

# The row of the padding stays zero.
embedding = nn.Embedding(40, 60, padding_idx=3)
run(recommend(None, embedding).torch["embeddings"], embedding)
assert (embedding.weight[3] == 0).all() and abs(float(embedding.weight[4:].std()) - 1) < 0.1
# With strides and groups, an output has the variance that its activation needs.
for stride, groups in ((1, 1), (2, 1), (3, 1), (2, 4)):
    module = nn.ConvTranspose2d(64, 32, 6, stride=stride, groups=groups, bias=False)
    run(recommend("relu", module).torch["kernel"], module)
    out = module(torch.randn(8, 64, 24, 24))[..., 8:-8, 8:-8]
    assert abs(float(out.var()) / 2 - 1) < 0.1, (stride, groups, float(out.var()))
x, y = torch.randn(500, 30), torch.randn(500, 40)
bilinear = nn.Bilinear(30, 40, 50, bias=False)
run(recommend("relu", bilinear).torch["kernel"], bilinear)
assert abs(float(bilinear(x, y).var()) / 2 - 1) < 0.15

# All others: an answer for all weights, no weights, or a reason.
given = {
    "Transformer": (4, 2, 1, 1, 8), "TransformerDecoder": (nn.TransformerDecoderLayer(4, 2, 8), 1),
    "TransformerEncoder": (nn.TransformerEncoderLayer(4, 2, 8), 1), "Unflatten": (1, (1, 2)),
}
arguments = [(), (2,), (2, 2), (2, 2, 2), ((1, 1),), (40, 60, [10, 20]), (nn.Linear(2, 2),)]
instances = 0
for name in dir(nn):
    cls = getattr(nn, name)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)) or cls in covered or cls is nn.Module:
        continue
    if name.startswith("Lazy") or name in ("RNNBase", "RNNCellBase"):
        continue
    for few in [given[name]] if name in given else arguments:
        try:
            module = cls(*few)
        except Exception:
            continue
        break
    else:
        raise AssertionError(f"no object of {name}")
    instances += 1
    try:
        found = recommend(None, module)
    except ValueError as error:
        reasons = ["consists of other layers", *["no weights"] * (not list(module.parameters()))]
        assert any(part in str(error) for part in reasons), (name, str(error))
    else:
        check_all_filled(module, found)
assert instances > 90, instances
for cls in (nn.Linear, nn.LSTM, nn.LayerNorm, nn.MultiheadAttention, nn.PReLU):
    assert recommend(None, cls).weights
for thing, message in [(nn.Dropout, "no weights"), (nn.Module(), "unknown layer"),
                       (nn.Sequential(nn.Linear(2, 2)), "consists of other layers"),
                       (nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), "several tensors")]:
    try:
        recommend(None, thing)
    except ValueError as error:
        assert message in str(error), error
    else:
        raise AssertionError(thing)

class Mine(nn.Linear):
    pass
assert recommend("relu", Mine(3, 4)).layer == "dense"
print("done")
"""


@pytest.mark.timeout(120)
def test_pytorch(python):
    """What is spelled has the right distributions, and for every layer it fills all weights."""
    runs(python, CONSTANTS + TORCH + SPELLED_TORCH + OBJECTS_TORCH, "torch")


# Keras

KERAS = """
import keras
from keras import layers as L
from fastinit import recommend

keras.utils.set_random_seed(0)
number = keras.ops.convert_to_numpy

# The names of variables that are not the names of weights.
def weight_of(variable, layer, answer):
    name, path = variable.name, variable.path.split("/")
    if answer.layer == "attention":
        part = next(p for p in ("query", "key", "value", "gate", "attention_output") if p in path)
        return "bias" if name == "bias" else f"{part.removeprefix('attention_')}_kernel"
    if answer.layer == "depthwise_conv" and name == "kernel":
        return "depthwise_kernel"
    return {"scale": "gamma"}.get(name, name) if answer.layer == "normalization" else name

def arguments(answer):
    spelled = {line for line in answer.keras.values() if line and ".assign(" not in line}
    return eval("dict(" + ", ".join(sorted(spelled)) + ")", {"keras": keras, "math": math})

def build(layer, shape):
    layer.build(*shape) if isinstance(shape, list) else layer.build(shape)
    return layer

def check(cls, given, options, shape, expected, activation=None, wrap=lambda x: x, **question):
    answer = recommend(activation, wrap(cls(*given, **options)), **question)
    assert answer.layout == "in_out"
    assert set(answer.weights) == expected, (cls, set(answer.weights))
    assert all(answer.keras.values()), answer.keras
    layer = build(wrap(cls(*given, **{**options, **arguments(answer)})), shape)
    for line in answer.keras.values():
        if ".assign(" in line:
            exec(line, {"keras": keras, "math": math, "layer": layer})
    # Seeds of dropout and counts are no weights.
    variables = [v for v in layer.weights if "seed" not in v.path]
    names = [weight_of(v, layer, answer) for v in variables]
    assert set(names) == expected - {"forget_bias"}, (cls, names)
    for name, variable in zip(names, variables):
        value, made = number(variable.value), answer.weights[name]
        if name == "bias" and "forget_bias" in expected:
            units = len(value) // 4
            assert (value[units : 2 * units] == 1).all() and value.sum() == units, cls
        else:
            check_same(value, made, (cls, name, answer.keras[name]))
"""

OBJECTS_KERAS = """
image, series = (None, 9, 9, 40), (None, 5, 40)
plain, recurrent = {"kernel", "bias"}, {"kernel", "recurrent_kernel", "bias"}
heads = {"query_kernel", "key_kernel", "value_kernel", "output_kernel", "bias"}
lstm = recurrent | {"forget_bias"}
cases = [
    (L.Dense, (60,), {}, (None, 40), plain),
    (L.Dense, (60,), {"use_bias": False}, (None, 40), {"kernel"}),
    (L.Dense, (60,), {"lora_rank": 30}, (None, 40), plain | {"lora_kernel_a", "lora_kernel_b"}),
    (L.EinsumDense, ("abc,cde->abde", (None, 8, 50)), {"bias_axes": "de"}, series, plain),
    (L.EinsumDense, ("abc,bcd->abd", (5, 50)), {}, series, {"kernel"}),
    (L.Conv1D, (60, 3), {}, series, plain),
    (L.Conv2D, (60, 3), {"groups": 4, "use_bias": False}, image, {"kernel"}),
    (L.Conv2D, (60, 3), {"lora_rank": 30}, image, plain | {"lora_kernel_a", "lora_kernel_b"}),
    (L.Conv3D, (60, 3), {}, (None, 5, 5, 5, 40), plain),
    (L.DepthwiseConv1D, (3,), {"depth_multiplier": 2}, (None, 9, 400), {"depthwise_kernel", "bias"}),
    (L.DepthwiseConv2D, (3,), {"use_bias": False}, (None, 9, 9, 200), {"depthwise_kernel"}),
    (L.SeparableConv1D, (60, 3), {}, (None, 9, 400), {"depthwise_kernel", "pointwise_kernel", "bias"}),
    (L.SeparableConv2D, (60, 3), {"depth_multiplier": 3}, (None, 9, 9, 90),
     {"depthwise_kernel", "pointwise_kernel", "bias"}),
    (L.Conv1DTranspose, (60, 3), {"use_bias": False}, series, {"kernel"}),
    (L.Conv2DTranspose, (60, 3), {"strides": 2}, image, plain),
    (L.Conv3DTranspose, (60, 3), {}, (None, 5, 5, 5, 40), plain),
    (L.Embedding, (40, 60), {}, (None, 3), {"embeddings"}),
    (L.Embedding, (40, 60), {"lora_rank": 30}, (None, 3),
     {"embeddings", "lora_embeddings_a", "lora_embeddings_b"}),
    (L.ReversibleEmbedding, (40, 60), {}, (None, 3), {"embeddings"}),
    (L.ReversibleEmbedding, (40, 60), {"tie_weights": False}, (None, 3),
     {"embeddings", "reverse_embeddings"}),
    (L.SimpleRNN, (40,), {}, series, recurrent),
    (L.SimpleRNN, (40,), {"activation": "relu", "use_bias": False}, series, {"kernel", "recurrent_kernel"}),
    (L.LSTM, (40,), {}, series, lstm),
    (L.LSTM, (40,), {"unit_forget_bias": False, "recurrent_activation": "hard_sigmoid"}, series, lstm),
    (L.LSTM, (40,), {"use_bias": False}, series, {"kernel", "recurrent_kernel"}),
    (L.GRU, (40,), {"reset_after": False}, series, recurrent),
    (L.GRU, (40,), {}, series, recurrent),
    (L.SimpleRNNCell, (40,), {}, (None, 40), recurrent),
    (L.LSTMCell, (40,), {}, (None, 40), lstm),
    (L.GRUCell, (40,), {}, (None, 40), recurrent),
    (L.ConvLSTM1D, (20, 3), {}, (None, 4, 9, 10), lstm),
    (L.ConvLSTM2D, (20, 3), {"use_bias": False}, (None, 4, 9, 9, 10), {"kernel", "recurrent_kernel"}),
    (L.ConvLSTM3D, (8, 3), {}, (None, 4, 5, 5, 5, 10), lstm),
    (L.MultiHeadAttention, (4, 10), {}, [series, series], heads),
    (L.MultiHeadAttention, (4, 10), {"use_gate": True, "use_bias": False}, [series, series],
     heads - {"bias"} | {"gate_kernel"}),
    (L.GroupQueryAttention, (10, 4, 2), {}, [series, series], heads),
    (L.Attention, (), {"use_scale": True}, [[series, series]], {"scale"}),
    (L.Attention, (), {"score_mode": "concat"}, [[series, series]], {"concat_score_weight"}),
    (L.AdditiveAttention, (), {}, [[(None, 5, 4000), (None, 5, 4000)]], {"scale"}),
    (L.BatchNormalization, (), {}, image, {"gamma", "beta", "moving_mean", "moving_variance"}),
    (L.BatchNormalization, (), {"center": False, "renorm": True}, image,
     {"gamma", "moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev"}),
    (L.LayerNormalization, (), {}, image, {"gamma", "beta"}),
    (L.LayerNormalization, (), {"scale": False}, image, {"beta"}),
    (L.GroupNormalization, (4,), {"center": False}, image, {"gamma"}),
    (L.RMSNormalization, (), {}, image, {"gamma"}),
    (L.PReLU, (), {}, image, {"alpha"}),
]
for case in cases:
    check(*case)

# Wrappers
check(L.Dense, (60,), {}, series, plain, wrap=L.TimeDistributed)
check(L.Conv2D, (60, 3), {}, image, plain | {"vector_u"}, wrap=L.SpectralNormalization)
check(L.LSTMCell, (40,), {}, series, lstm, wrap=L.RNN)
check(L.LSTM, (40,), {}, series, lstm, wrap=L.Bidirectional)
check(L.GRU, (40,), {}, (None, 3, 5, 40), recurrent, wrap=L.TimeDistributed)
check(L.GRUCell, (40,), {}, series, recurrent, wrap=lambda cell: L.RNN([cell, L.GRUCell.from_config(
    {**cell.get_config(), "name": "other"})]))
for wrapped in (L.Bidirectional(L.LSTM(4)), L.RNN([L.LSTMCell(4), L.LSTMCell(4)]),
                L.TimeDistributed(L.LSTM(4)), L.StackedRNNCells([L.LSTMCell(4)])):
    assert recommend(None, wrapped).layer == "lstm"
assert recommend(None, L.Bidirectional(L.SimpleRNN(4, activation="relu"))).activation == "relu"

# What an object says
for layer, activation in [
    (L.Dense(3, activation="relu"), "relu"), (L.Dense(3), "linear"), (L.SimpleRNN(3), "tanh"),
    (L.SimpleRNN(3, activation="relu"), "relu"), (L.Dense(3, activation=L.LeakyReLU(0.2)), "leaky_relu(0.2)"),
    (L.Dense(3, activation=L.PReLU(alpha_initializer=keras.initializers.Constant(0.5))), "prelu(0.5)"),
    (L.Conv2D(3, 3, activation="gelu"), "gelu"), (L.ConvLSTM2D(3, 3, activation="relu"), "relu"),
    (L.Dense(3, activation="softmax"), "softmax"),
]:
    answer = recommend(None, layer)
    assert answer.activation == activation, (answer.activation, activation)
    assert answer.weights == recommend(activation.split("(")[0], layer, param=(
        float(activation.split("(")[1][:-1]) if "(" in activation else None)).weights
answer = recommend("relu", L.SimpleRNN(3))
assert answer.activation == "relu" and "the layer has the activation tanh" in answer.warnings[0]
for layer in (L.Dense(3), L.Dense(3, activation="relu"), L.SimpleRNN):
    assert not any("the layer has the activation" in text for text in recommend("relu", layer).warnings)
assert recommend("gelu", L.Dense(3, use_bias=False), depth=50).slope > 1  # no random biases without biases
for option, value, words in [("unit_forget_bias", False, "unit_forget_bias=False"),
                             ("recurrent_activation", "tanh", "recurrent_activation is tanh")]:
    assert any(words in text for text in recommend(None, L.LSTM(3, **{option: value})).warnings)

# All others: no weights, or a reason.
reasons = ("no weights", "consists of other layers", "needs no initializer", "pass an object")
given = {"Activation": ("relu",), "InputLayer": ((3,),), "Lambda": (lambda x: x,), "RepeatVector": (2,),
         "Reshape": ((2,),), "Permute": ((1,),), "Dropout": (0.1,)}
covered = {case[0] for case in cases} | {L.Bidirectional, L.TimeDistributed, L.SpectralNormalization, L.RNN,
                                         L.StackedRNNCells, L.Wrapper, L.Layer}
seen = 0
for name in dir(L):
    cls = getattr(L, name)
    if not (isinstance(cls, type) and issubclass(cls, L.Layer)) or cls in covered:
        continue
    things = [cls]
    # Objects of these would load TensorFlow and others.
    others = ("FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper")
    is_heavy = "preprocessing" in cls.__module__ or name in others
    for few in () if is_heavy else (given.get(name, ()), (0.1,), (2,), (2, 2)):
        try:
            things.append(cls(*few))
            break
        except Exception:
            pass
    for thing in things:
        try:
            recommend(None, thing)
        except ValueError as error:
            assert any(part in str(error) for part in reasons), (name, str(error))
            seen += 1
        else:
            raise AssertionError(name)
assert seen > 150, seen
for thing, message in [
    (L.Normalization(), "come from data, by adapt"), (L.Attention(), "no weights"),
    (L.Attention, "use_scale=True"),
    (L.AdditiveAttention(use_scale=False), "no weights"), (L.Bidirectional, "pass an object"),
    (L.StackedRNNCells([L.LSTMCell(3), L.GRUCell(3)]), "different kinds"),
    (keras.Sequential([L.Dense(3)]), "consists of other layers"), (L.Layer(), "unknown layer"),
    (L.BatchNormalization(center=False, scale=False), None),
    (L.LayerNormalization(center=False, scale=False), "no weights"),
]:
    try:
        recommend(None, thing)
    except ValueError as error:
        assert message and message in str(error), error
    else:
        assert message is None, thing

class Mine(L.Dense):
    pass
class Other(L.Layer):
    pass
assert recommend("relu", Mine(3)).layer == "dense"
try:
    recommend(None, Other())
except ValueError as error:
    assert "unknown layer" in str(error)
"""

SPELLED_KERAS = """
image, series = (None, 9, 9, 40), (None, 5, 40)
lstm = {"kernel", "recurrent_kernel", "bias", "forget_bias"}
cases = [
    (L.Dense, (60,), {}, (None, 40), {"kernel", "bias"}),
    (L.Conv2D, (60, 3), {}, image, {"kernel", "bias"}),
    (L.Conv2D, (60, 3), {"groups": 4}, image, {"kernel", "bias"}),
    (L.DepthwiseConv2D, (3,), {"depth_multiplier": 2}, (None, 9, 9, 200), {"depthwise_kernel", "bias"}),
    (L.SeparableConv2D, (60, 3), {}, (None, 9, 9, 300), {"depthwise_kernel", "pointwise_kernel", "bias"}),
    (L.Conv2DTranspose, (60, 3), {}, image, {"kernel", "bias"}),
    (L.LSTM, (40,), {}, series, lstm),
    (L.GRU, (40,), {}, series, lstm - {"forget_bias"}),
    (L.SimpleRNN, (40,), {}, series, lstm - {"forget_bias"}),
]
for case in cases:
    for activation in ("relu", "tanh", "selu"):
        check(*case, activation=activation)
    for mode in MODES[1:]:
        for distribution in DISTRIBUTIONS[1:]:
            check(*case, activation="gelu", mode=mode, distribution=distribution)
for activation in ACTIVATIONS:
    if activation != "prelu":
        check(*cases[0], activation=activation)
check(*cases[0], activation="gelu", depth=50)
check(*cases[0], activation="relu", bias=0.5)
check(L.MultiHeadAttention, (4, 10), {}, [series, series],
      {"query_kernel", "key_kernel", "value_kernel", "output_kernel", "bias"},
      distribution="truncated_normal")
# One argument is for kernels with different axes.
assert recommend(None, L.MultiHeadAttention(4, 10), mode="fan_geo_avg").keras["query_kernel"] == ""
for family in FAMILIES:
    keras_row = recommend("relu", family).keras
    assert family == "bilinear" or all(keras_row.values()), keras_row
    assert not any("fastinit" in line for line in keras_row.values())
print("done")
"""


@pytest.mark.timeout(120)
def test_keras(python):
    """For every layer the answer has its weights, and what is spelled has the right distributions."""
    runs(python, CONSTANTS + KERAS + OBJECTS_KERAS + SPELLED_KERAS, "keras", KERAS_BACKEND="numpy")


def test_names_are_not_objects():
    """A name says nothing but the family."""
    assert set(recommend(None, "attention").weights) >= {"query_kernel", "output_kernel"}
    assert set(recommend(None, "LayerNormalization").weights) == {"gamma", "beta"}
    assert set(recommend(None, "RMSNorm").weights) == {"gamma"}
    assert set(recommend(None, "BatchNorm2d").weights) == {"gamma", "beta", "moving_mean", "moving_variance"}
    for name in ("Dropout", "MaxPool2d", "GlobalAveragePooling2D", "Flatten"):
        with pytest.raises(ValueError, match=f"'{name}' has no weights"):
            recommend(None, name)
    with pytest.raises(ValueError, match="'leaky_relu' is an activation, not a layer"):
        recommend(None, "leaky_relu")
    assert recommend(None, "PReLU").weights["alpha"].value == 0.25
    assert recommend("prelu", "PReLU", param=0.1).weights["alpha"].value == 0.1
    assert recommend(None, "ConvLSTM2D").layer == "conv_lstm"
    assert recommend("relu", "conv_transpose", groups=2).weights["kernel"].groups == 2
