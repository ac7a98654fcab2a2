"""`fastinit.torch.initialize` on models with an initialization of their own, against their constructors.

A model is constructed twice, with different seeds: what is equal in both is constant. The others are compared
by two-sample tests of Kolmogorov and Smirnov at fixed seeds, and by the range of the elements. A test fails
where a p-value is below 1e-10. There are fewer than 1,000, so right distributions would fail with random
seeds in less than one run in ten million. New memory is NaN, so that what nobody fills is seen.
"""

import contextlib
import functools

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch")
pytest.importorskip("ml_dtypes")

from fastinit.torch import initialize  # noqa: E402

nn = torch.nn
SEED = 5
MARK = "_is_hf_initialized"

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _poisoned():
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


def on_meta(build):
    with torch.device("meta"):
        return build()


def constructed(build, seed):
    torch.manual_seed(seed)
    return build().state_dict()


def assert_like_constructed(build, model, *, without=()):
    """All tensors of a model have the distributions that its constructor gives."""
    one, two = constructed(build, 1), constructed(build, 2)
    state = model.state_dict()
    assert state.keys() == one.keys()
    count = 0
    for name, value in state.items():
        if name in without:
            continue
        assert not value.is_meta, name
        value, first, second = (x.double().flatten() for x in (value, one[name], two[name]))
        assert value.isfinite().all(), name
        fixed = first == second
        if fixed.double().mean() > 0.01:
            assert torch.equal(value[fixed], first[fixed]), name
        others = torch.cat((first[~fixed], second[~fixed])).numpy()
        value = value[~fixed].numpy()
        if value.size >= 8:
            count += 1
            assert stats.ks_2samp(value, others, method="asymp").pvalue > 1e-10, (
                name,
                value.std(),
                others.std(),
            )
            assert np.abs(value).max() < 3 * np.abs(others).max(), name
    assert count > 0


def assert_same(one, other):
    one, other = one.state_dict(), other.state_dict()
    assert list(one) == list(other)
    for name in one:
        assert torch.equal(one[name], other[name]), name


# Models of transformers

TINY = {
    "vocab_size": 200,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def llama(transformers, **options):
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**TINY, **options))


def bert(transformers):
    return transformers.BertForMaskedLM(transformers.BertConfig(**TINY))


def gpt2(transformers):
    config = transformers.GPT2Config(
        vocab_size=200, n_embd=32, n_layer=2, n_head=2, n_positions=40, bos_token_id=1, eos_token_id=2
    )
    return transformers.GPT2LMHeadModel(config)


def t5(transformers):
    config = transformers.T5Config(vocab_size=200, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2)
    return transformers.T5ForConditionalGeneration(config)


def clip(transformers):
    text = transformers.CLIPTextConfig(**TINY, projection_dim=24)
    vision = transformers.CLIPVisionConfig(**VISION, projection_dim=24)
    config = transformers.CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24
    )
    return transformers.CLIPModel(config)


def llava(transformers):
    vision = transformers.CLIPVisionConfig(**VISION)
    text = transformers.LlamaConfig(**TINY)
    config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=5)
    return transformers.LlavaForConditionalGeneration(config)


def regnet(transformers):
    config = transformers.RegNetConfig(
        embedding_size=16, hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 1, 1], groups_width=8, num_labels=20
    )
    return transformers.RegNetForImageClassification(config)


def resnet(transformers, **options):
    return transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 1, 1], **options
    )


def deformable_detr(transformers):
    config = transformers.DeformableDetrConfig(
        backbone_config=resnet(transformers, out_features=["stage2", "stage3", "stage4"]),
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        num_queries=10,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
    )
    return transformers.DeformableDetrForObjectDetection(config)


def depth_anything(transformers):
    backbone = transformers.Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 16, 24, 32],
        fusion_hidden_size=16,
        head_hidden_size=16,
    )
    return transformers.DepthAnythingForDepthEstimation(config)


def speech(transformers):
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.ViTConfig(**VISION),
        transformers.GPT2Config(vocab_size=200, n_embd=32, n_layer=2, n_head=2),
    )
    return transformers.VisionEncoderDecoderModel(config=config)


MODELS = {
    function.__name__: function
    for function in (llama, bert, gpt2, t5, clip, llava, regnet, deformable_detr, depth_anything, speech)
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
some_models = pytest.mark.parametrize("make", [llama, bert, gpt2, t5, llava], ids=lambda make: make.__name__)

# Ways to say that a model is to initialize itself.
WAYS = {
    "no rules": lambda _: None,
    "bound": lambda model: model._init_weights,
    "partial": lambda model: functools.partial(model._init_weights),
    "with marks": lambda model: model._initialize_weights,
    "whole": lambda model: model.initialize_weights,
    "whole and tied": lambda model: model.init_weights,
}
every_way = pytest.mark.parametrize("rules_of", WAYS.values(), ids=WAYS)


@every_model
def test_from_the_meta_device(make, transformers):
    build = functools.partial(make, transformers)
    model = on_meta(build)
    rules = {"logit_scale": 2.6592} if make is clip else None  # which only the constructor initializes
    report = initialize(model, SEED, rules)
    assert report.uninitialized == report.not_run == ()
    # No function of transformers initializes these buffers of frozen normalizations.
    assert_like_constructed(build, model, without=report.meta_buffers)
    assert all("backbone" in name for name in report.meta_buffers)


@every_way
@pytest.mark.parametrize(
    "make",
    [llama, llava, regnet, deformable_detr, depth_anything, speech],
    ids=lambda make: make.__name__,
)
def test_ways_to_say_it(make, rules_of, transformers):
    models = [on_meta(lambda: make(transformers)) for _ in range(2)]
    initialize(models[0], SEED)
    initialize(models[1], SEED, rules_of(models[1]))
    assert_same(*models)


@some_models
def test_values_have_the_keys_of_their_names(make, transformers):
    model = on_meta(lambda: make(transformers))
    report = initialize(model, SEED)
    rows = [row for row in report.rows if row.initializer is not None and row.target_std]
    assert len(rows) > 4
    state = model.state_dict()
    for row in rows:
        expected = row.initializer(row.shape, seed=SEED, stream=row.name)
        if "embed_tokens" in row.name or "word_embeddings" in row.name:
            expected[0] = 0  # the row of the padding
        np.testing.assert_array_equal(state[row.name].numpy(), expected)
        assert "_init_weights" in row.rule or "reset_parameters" in row.rule


def test_the_nearest_model_counts(transformers):
    model = on_meta(lambda: llava(transformers))
    initialize(model, SEED, model._init_weights)
    attention = model.get_submodule("model.vision_tower.encoder.layers.0.self_attn")
    std = attention.k_proj.weight.std().item()
    assert std == pytest.approx(32**-0.5 * 0.5, rel=0.1)  # CLIP's, for two layers; Llava's is 0.02


def test_a_model_of_transformers_inside_another(transformers):
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = llama(transformers)
            self.head = nn.Linear(32, 10)

    model = on_meta(Classifier)
    report = initialize(model, SEED)
    assert report.uninitialized == report.not_run == ()
    assert_like_constructed(Classifier, model)
    assert report["head.weight"].rule == "Linear.reset_parameters"


@every_way
@some_models
def test_what_was_loaded_is_initialized_again(make, rules_of, transformers, tmp_path):
    expected = on_meta(lambda: make(transformers))
    initialize(expected, SEED)
    kind = type(expected)
    make(transformers).save_pretrained(tmp_path)
    model = kind.from_pretrained(tmp_path)
    before = marks(model)
    assert sum(map(bool, before.values())) > 10
    report = initialize(model, SEED, rules_of(model))
    assert_same(model, expected)
    assert report.uninitialized == ()
    assert marks(model) == before
    loaded = kind.from_pretrained(tmp_path)
    again = initialize(loaded, SEED, lambda module: loaded._init_weights(module))
    assert again.uninitialized == ()
    if make is not llava:  # whose models inside have an initialization of their own
        assert_same(loaded, expected)


def marks(model):
    things = (*model.named_modules(), *model.named_parameters(), *model.named_buffers())
    return {name: vars(thing).get(MARK) for name, thing in things}


@pytest.mark.parametrize(
    "layer", ["model.embed_tokens", "model.layers.1.mlp.up_proj", "model.layers.0", "lm_head"]
)
def test_single_layers_that_were_loaded(layer, transformers, tmp_path):
    llama(transformers).save_pretrained(tmp_path)
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    expected = on_meta(lambda: llama(transformers))
    initialize(expected, SEED)
    others = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith(layer)}
    before = marks(model)
    report = initialize(model.get_submodule(layer), SEED, model._init_weights, prefix=layer)
    assert_same(model.get_submodule(layer), expected.get_submodule(layer))
    assert report.uninitialized == ()
    assert marks(model) == before
    for name, value in others.items():
        assert torch.equal(model.state_dict()[name], value)


def test_marks_are_as_before_after_an_error(transformers, tmp_path):
    llama(transformers).save_pretrained(tmp_path)
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    before = marks(model)

    def function(module):
        model._initialize_weights(module)  # marks it
        if isinstance(module, nn.Embedding):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        initialize(model, SEED, function)
    assert marks(model) == before


def test_rules_win_over_the_initialization_of_the_model(transformers, tmp_path):
    llama(transformers).save_pretrained(tmp_path)
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    old = model.lm_head.weight.clone()
    expected = on_meta(lambda: llama(transformers))
    initialize(expected, SEED)
    rules = {"*.up_proj.weight": "he_normal", "lm_head.*": None, nn.Embedding: 0.5}
    report = initialize(model, SEED, rules)
    assert torch.equal(model.lm_head.weight, old)
    assert (model.model.embed_tokens.weight[1:] == 0.5).all()
    assert report["model.layers.0.mlp.up_proj.weight"].target_std == pytest.approx((2 / 32) ** 0.5)
    assert_same(model.model.layers[1].self_attn, expected.model.layers[1].self_attn)
    assert report.not_run == ()


def test_a_function_wins_over_the_initialization_of_the_model(transformers):
    def function(module):
        if isinstance(module, nn.Linear):
            nn.init.ones_(module.weight)

    model = on_meta(lambda: bert(transformers))
    expected = on_meta(lambda: bert(transformers))
    initialize(expected, SEED)
    initialize(model, SEED, function)
    dense = model.bert.encoder.layer[1].output.dense
    assert (dense.weight == 1).all()
    assert (dense.bias == 0).all()  # by the model, not by `nn.Linear`
    embeddings = "position_embeddings", "token_type_embeddings"
    for name in embeddings:
        assert_same(getattr(model.bert.embeddings, name), getattr(expected.bert.embeddings, name))


# timm


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", {"depth": 2}),
        ("vit_tiny_patch16_224", {"depth": 2, "weight_init": "jax"}),
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1)}),
        ("pvt_v2_b0", {"depths": (1, 1, 1, 1)}),
    ],
    ids=["vit", "vit jax", "swin", "pvt"],
)
def test_models_of_timm(name, options):
    timm = pytest.importorskip("timm")
    build = functools.partial(timm.create_model, name, num_classes=30, **options)
    model = on_meta(build)
    report = initialize(model, SEED)
    assert report.uninitialized == report.not_run == ()
    assert_like_constructed(build, model)


# Initialization that is not known


class Looped(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)


class Applied(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 5)
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)


class CalledLater(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 5)

    def init_weights(self, std):
        nn.init.normal_(self.layer.weight, std=std)


class WithArguments(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 5)
        self.reset_parameters(0.02)

    def reset_parameters(self, std):
        nn.init.normal_(self.layer.weight, std=std)


class Inherited(Looped):
    pass


def imported(module):
    nn.init.normal_(module.weight, std=0.02)


class ByAFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 5)

        def init_weights(module):
            imported(module)

        self.apply(lambda module: init_weights(module) if isinstance(module, nn.Linear) else None)


UNKNOWN = {
    Looped: "Looped.__init__ (normal_)",
    Applied: "Applied._init_weights",
    CalledLater: "CalledLater.init_weights",
    WithArguments: "WithArguments.reset_parameters",
    Inherited: "Looped.__init__ (normal_)",
}


@pytest.mark.parametrize("kind", UNKNOWN, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "wrap", [lambda model: model, lambda model: nn.Sequential(nn.ReLU(), model)], ids=["alone", "inside"]
)
def test_what_is_not_known_is_said(kind, wrap):
    model = wrap(kind())
    with pytest.warns(
        UserWarning, match="initialization of its own, which was not run as in its constructor: "
    ) as caught:
        report = initialize(model, SEED)
    expected = ("1: " if isinstance(model, nn.Sequential) else "") + UNKNOWN[kind]
    assert report.not_run == (expected,)
    assert expected in str(caught[0].message)
    assert expected in str(report)
    assert caught[0].filename == __file__
    assert len(caught) == 1
    assert report.uninitialized == ()


@pytest.mark.parametrize("kind", UNKNOWN, ids=lambda kind: kind.__name__)
def test_nothing_is_said_where_rules_say_all(kind):
    for rules in ({"*.weight": 1.0, "*.bias": 0.0}, lambda _: None):
        assert initialize(kind(), SEED, rules).not_run == ()


def test_each_class_is_said_once():
    with pytest.warns(UserWarning, match="not run"):
        report = initialize(nn.Sequential(Looped(), Looped(), Applied()), SEED)
    assert report.not_run == ("0: Looped.__init__ (normal_)", "2: Applied._init_weights")


class Resets(nn.Module):
    """Its `reset_parameters` does what its constructor does."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 5)
        self.reset_parameters()

    def reset_parameters(self):
        self._init_weights()

    def _init_weights(self):
        nn.init.normal_(self.layer.weight, std=0.02)


class ResetClassifier(nn.Module):
    """A method with another meaning."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 5)
        self.init_values = None

    def reset_classifier(self, count):
        self.layer = nn.Linear(4, count)


@pytest.mark.parametrize(
    "kind",
    [Resets, ResetClassifier, lambda: nn.Transformer(8, 2, 1, 1, batch_first=True), lambda: nn.LSTM(3, 4)],
    ids=["resets", "other method", "transformer", "lstm"],
)
def test_no_false_alarms(kind):
    assert initialize(kind(), SEED).not_run == ()


@pytest.mark.parametrize("name", ["resnet10t", "skresnet18", "resnetv2_18"])
def test_arguments_of_an_initialization_of_timm_are_said(name):
    timm = pytest.importorskip("timm")
    model = on_meta(lambda: timm.create_model(name, num_classes=5))
    with pytest.warns(UserWarning, match=r"init_weights \(zero_init_last\)"):
        report = initialize(model, SEED)
    assert report.uninitialized == ()


def test_a_constructor_inside_a_model_of_timm_is_said():
    timm = pytest.importorskip("timm")
    model = on_meta(lambda: timm.create_model("levit_128s", num_classes=5))
    with pytest.warns(UserWarning, match="ConvNorm.__init__") as caught:
        initialize(model, SEED)
    assert len(caught) == 1


def test_torchvision_is_said():
    models = pytest.importorskip("torchvision.models")
    model = on_meta(lambda: models.resnet18(num_classes=5))
    with pytest.warns(UserWarning, match="ResNet.__init__"):
        report = initialize(model, SEED)
    assert report.uninitialized == ()


def test_a_constructor_of_timm_is_said():
    timm = pytest.importorskip("timm")
    model = on_meta(lambda: timm.create_model("convnext_atto", depths=(1, 1, 1, 1)))
    with pytest.warns(UserWarning, match="ConvNeXt.__init__"), contextlib.suppress(KeyError):
        initialize(model, SEED, {"*.gamma": 1e-6})


def test_a_backbone_of_unknown_origin_is_said(transformers):
    pytest.importorskip("timm")
    config = transformers.TimmBackboneConfig(backbone="resnet10t", use_pretrained_backbone=False)
    model = on_meta(lambda: transformers.TimmBackbone(config))
    with pytest.warns(UserWarning, match="_backbone: FeatureListNet"):
        report = initialize(model, SEED)
    assert report.uninitialized == ()


def test_nothing_is_said_of_a_model_of_timm_that_transformers_fills(transformers):
    pytest.importorskip("timm")
    config = transformers.TimmWrapperConfig(architecture="resnet10t")
    build = functools.partial(transformers.TimmWrapperModel, config)
    model = on_meta(build)
    report = initialize(model, SEED)
    assert report.uninitialized == report.not_run == ()
    assert_like_constructed(build, model)
