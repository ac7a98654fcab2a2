"""`diagnose` on modules of PyTorch and models of Keras."""

import math
import re

import pytest

import fastinit
from fastinit import diagnose

torch = pytest.importorskip("torch")
nn = torch.nn


def loud(diagnosis):
    """What is worse than information, as pairs of code and name."""
    return sorted((f.code, f.tensor) for f in diagnosis.findings if f.severity != "info")


class Block(nn.Module):
    """A residual block of a ResNet, initialized as that of torchvision is."""

    def __init__(self, width, groups=1):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        nn.init.zeros_(self.bn2.weight)


class Attention(nn.Module):
    """A block of a transformer."""

    def __init__(self, width, layers):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.ls1 = nn.Parameter(1e-5 * torch.ones(width))
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() > 1:
                nn.init.normal_(parameter, 0.0, 0.02)
        for layer in (self.proj, self.down):
            nn.init.normal_(layer.weight, 0.0, 0.02 / math.sqrt(2 * layers))


class Transformer(nn.Module):
    def __init__(self, width, layers):
        super().__init__()
        self.embed = nn.Embedding(300, width, padding_idx=0)
        self.pos = nn.Parameter(torch.randn(1, 50, width) * 0.02)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(Attention(width, layers) for _ in range(layers))
        self.head = nn.Linear(width, 300, bias=False)
        nn.init.normal_(self.embed.weight, 0.0, 0.02)
        with torch.no_grad():
            self.embed.weight[0] = 0
        self.head.weight = self.embed.weight
        self.register_buffer("mask", torch.full((50, 50), -math.inf).triu(1))


def resnet():
    blocks = [Block(32), Block(64, groups=4), Block(128, groups=128)]
    model = nn.Sequential(nn.Conv2d(3, 32, 7, bias=False), nn.BatchNorm2d(32), *blocks)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model.append(nn.Linear(256, 10))


def varied():
    return nn.Sequential(
        nn.Conv2d(3, 64, 5),
        nn.PReLU(),
        nn.Conv2d(64, 64, 3, groups=64),
        nn.GroupNorm(4, 64),
        nn.Conv2d(64, 128, 3, groups=4),
        nn.PReLU(128),
        nn.ConvTranspose2d(128, 48, 4),
        nn.InstanceNorm2d(48, affine=True, track_running_stats=True),
        nn.ConvTranspose2d(48, 48, 4, groups=8),
        nn.RMSNorm(48),
        nn.Conv1d(48, 8, 1),
        nn.Conv3d(8, 24, 3),
        nn.Linear(24, 40),
        nn.Bilinear(20, 30, 40),
        nn.MultiheadAttention(64, 4, kdim=32, vdim=48, add_bias_kv=True),
        nn.MultiheadAttention(64, 4),
        nn.TransformerDecoderLayer(64, 4),
    )


def special():
    model = nn.Sequential(*(nn.Linear(96, 96) for _ in range(5)), nn.Conv2d(16, 16, 3), nn.Conv2d(32, 64, 3))
    nn.init.eye_(model[1].weight)
    nn.init.orthogonal_(model[2].weight)
    nn.init.sparse_(model[3].weight, 0.9)
    nn.init.dirac_(model[5].weight)
    nn.init.orthogonal_(model[6].weight, gain=math.sqrt(2))
    return model


MODELS = {
    "mlp": lambda: nn.Sequential(*(nn.Linear(m, n) for m, n in ((200, 128), (128, 96), (96, 64), (64, 10)))),
    "resnet": resnet,
    "varied": varied,
    "transformer": lambda: Transformer(96, 3),
    "small transformer": lambda: Transformer(32, 2),
    "special": special,
    "lstm": lambda: nn.Sequential(nn.LSTM(48, 64, 2, bidirectional=True), nn.LSTM(128, 64, proj_size=32)),
    "gru": lambda: nn.Sequential(nn.GRU(48, 64, 2), nn.RNN(64, 50), nn.LSTMCell(20, 30), nn.Linear(50, 3)),
}


@pytest.fixture(params=MODELS, name="model")
def _model(request):
    torch.manual_seed(0)
    return MODELS[request.param]()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_correct_models_are_clean(model, dtype):
    model.to(getattr(torch, dtype))
    assert loud(diagnose(model)) == []
    assert loud(diagnose(model.state_dict())) == []


def test_correct_models_are_clean_when_made_in_half_precision():
    torch.manual_seed(0)
    with torch.device("cpu"):
        linear = nn.Sequential(*(nn.Linear(256, 256, dtype=torch.bfloat16) for _ in range(4)))
    assert loud(diagnose(linear)) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("family", ["torchvision", "timm"])
def test_published_models_are_clean(family, seed):
    zoo = pytest.importorskip(family)
    torch.manual_seed(seed)
    if family == "timm":
        made = zoo.create_model(
            ["resnet18", "vit_tiny_patch16_224", "efficientnet_b0", "convnext_atto", "mixer_s32_224"][seed]
        )
    else:
        names = ["resnet18", "mobilenet_v3_small", "squeezenet1_0", "shufflenet_v2_x0_5", "swin_t"]
        made = getattr(zoo.models, names[seed])()
    assert loud(diagnose(made)) == []
    assert loud(diagnose(made.state_dict())) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["GPT2", "Llama", "Bert"])
@pytest.mark.parametrize("width", [32, 256])
def test_models_of_transformers_are_clean(name, width):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {
        "GPT2": {"n_embd": width, "n_layer": 3, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0},
        "Llama": {
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
        "Bert": {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
        },
    }
    config = getattr(transformers, f"{name}Config")(vocab_size=500, **sizes[name])
    model = transformers.AutoModel.from_config(config)
    assert loud(diagnose(model)) == []
    assert loud(diagnose(model.state_dict())) == []


@torch.no_grad()
def spoil(parameter, how):
    rows, std = parameter.flatten(1), float(parameter.std())
    match how:
        case "zero":
            parameter.zero_()
        case "constant":
            parameter.fill_(0.02)
        case "equal":
            parameter[3] = parameter[9]
        case "all equal":
            parameter[:] = parameter[:1].clone()
        case "nan":
            rows[1, 1] = math.nan
        case "small":
            parameter.mul_(1e-3)
        case "large":
            parameter.mul_(1e3)
        case "clipped":
            parameter.clamp_(-1.2 * std, 1.2 * std)
        case "offset":
            parameter.uniform_(0, 3 * std)


FAULTS = {
    "zero": "all_zero",
    "constant": "constant",
    "equal": "identical_units",
    "all equal": "identical_units",
    "nan": "nan",
    "small": "too_small",
    "large": "too_large",
    "clipped": "clipped",
    "offset": "mean_not_zero",
}

PLACES = {
    "mlp": "1.weight",
    "resnet": "3.conv2.weight",
    "varied": "4.weight",
    "transformer": "blocks.1.up.weight",
    "small transformer": "blocks.0.qkv.weight",
    "special": "0.weight",
    "lstm": "0.weight_hh_l1",
    "gru": "0.weight_ih_l0",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", PLACES)
def test_planted_fault(name, fault):
    torch.manual_seed(0)
    model = MODELS[name]()
    spoil(model.get_parameter(PLACES[name]), fault)
    expected = [(FAULTS[fault], PLACES[name])]
    found = loud(diagnose(model))
    if name == "varied" and fault.endswith("equal"):  # Groups see different inputs.
        assert found in ([], expected)
    else:
        assert found == expected
    if not fault.endswith("equal"):
        assert loud(diagnose(model.state_dict())) == expected


def test_wrong_mode():
    torch.manual_seed(0)
    model = MODELS["mlp"]()
    nn.init.uniform_(model[2].weight, -1 / math.sqrt(64), 1 / math.sqrt(64))
    assert loud(diagnose(model)) == [("wrong_mode", "2.weight")]
    model = resnet()
    nn.init.kaiming_normal_(model[3].conv2.weight, mode="fan_in")
    assert loud(diagnose(model)) == [("wrong_mode", "3.conv2.weight")]


def test_copied_layers_are_twins():
    """`TransformerEncoder` copies its layer, with its weights."""
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 2), 2, enable_nested_tensor=False)
    found = diagnose(model)
    twins = {(f.code, f.tensor) for f in found.findings}
    assert ("twins", "layers.1.self_attn.in_proj_weight") in twins
    assert not found.ok
    model = nn.ModuleDict({"online": nn.Linear(32, 32), "target": nn.Linear(32, 32)})
    model["target"].load_state_dict(model["online"].state_dict())
    assert diagnose(model).ok


def test_tied_parameters_are_one():
    found = diagnose(Transformer(32, 2))
    assert found["head.weight"].names == ("embed.weight", "head.weight")
    assert found["head.weight"].role == "embedding"


class Tied(nn.Module):
    """An embedding that makes the output, too."""

    def __init__(self, std, width=64, config=None):
        super().__init__()
        self.embed = nn.Embedding(300, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 300, bias=False)
        self.head.weight = self.embed.weight
        self.config = config
        nn.init.normal_(self.embed.weight, 0.0, std)


def test_an_embedding_that_makes_the_output():
    """What `recommend` says of it is clean; its default for other embeddings makes a loss far too large."""
    torch.manual_seed(0)
    embedding = fastinit.recommend("linear", "embedding")
    (stddev,) = (init.stddev for init in embedding.weights.values())
    model = Tied(stddev)
    assert loud(diagnose(model)) == [("too_large", "embed.weight")]
    found = diagnose(model.state_dict()).findings  # Whether the output is scaled is not known.
    assert [(f.code, f.severity) for f in found] == [("too_large", "info")]
    logits = model.head(model.norm(torch.randn(100, 64)))
    (told,) = re.findall(r"standard deviation of (\S+),", diagnose(model).findings[0].message)
    assert float(told) == pytest.approx(logits.std().item(), rel=0.05)
    loss = nn.functional.cross_entropy(logits, torch.randint(300, (100,)))
    assert loss > 3 * math.log(300)
    assert "variance 1 / dimension" in str(embedding)
    for std in (0.02, 1 / math.sqrt(64)):
        assert loud(diagnose(Tied(std))) == []

    class Config:  # As of T5, whose output is divided by the root of the width.
        scale_decoder_outputs = True

    assert loud(diagnose(Tied(1.0, config=Config()))) == []
    separate = Tied(1.0)
    separate.head = nn.Linear(64, 300)
    assert loud(diagnose(separate)) == []


def test_expectations_take_the_layout_of_the_module():
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 64, 3, groups=4)
    nn.init.kaiming_normal_(layer.weight)
    he = fastinit.VarianceScaling(2.0, "fan_in", "untruncated_normal")
    assert diagnose(layer, expect=he).ok
    assert loud(diagnose(layer, expect="glorot_normal")) == [("not_as_expected", "weight")]
    matrix = nn.Linear(64, 32)
    nn.init.orthogonal_(matrix.weight)
    assert diagnose(matrix, expect="orthogonal").ok


def test_tensors_without_values_are_skipped():
    model = nn.Sequential(nn.Linear(3, 4, device="meta"), nn.LazyLinear(5), nn.Linear(8, 8))
    found = diagnose(model)
    assert set(found.skipped) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert {row.name for row in found.rows} == {"2.weight", "2.bias"}
    assert "meta" in str(found)


def test_a_normalization_over_several_axes_has_a_scale():
    found = diagnose(nn.Sequential(nn.LayerNorm((6, 8)), nn.RMSNorm((3, 4, 5))))
    assert found.findings == ()
    assert [row.role for row in found.rows] == ["scale", "parameter", "scale"]


def test_trained_model():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    x, y = torch.randn(512, 64), torch.randint(10, (512,))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    found = diagnose(model)
    assert loud(found) == []
    assert "looks_trained" in {f.code for f in found.findings}
