"""`fastinit.recipe`: each recipe against its reference implementation, or its paper; `recommend` of a model.

A model of the reference is constructed twice, with different seeds. What is equal in both is constant, and
must be equal, to a rounding of float32. The others are compared by tests of Kolmogorov and Smirnov at fixed
seeds, tensor by tensor: a test fails where a p-value is below 1e-10. There are fewer than 1,000, so right
distributions would fail with random seeds in less than one run in ten million. Where the reference cannot be
installed, the distribution is that of the formula in the paper.
"""

import importlib.util
import json
import math
import pickle
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import fastinit
from fastinit.guidance.recipes.spec import PARAMETERS, SPECS

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

TINY = {
    "vocab_size": 200,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
}


def transformers():
    return pytest.importorskip("transformers")


def gpt2():
    config = transformers().GPT2Config(vocab_size=200, n_embd=32, n_layer=3, n_head=2, n_positions=40)
    return transformers().GPT2LMHeadModel(config)


def llama():
    return transformers().LlamaForCausalLM(transformers().LlamaConfig(**TINY))


def gemma():
    return transformers().GemmaForCausalLM(transformers().GemmaConfig(**TINY, head_dim=16))


def clip():
    torch = pytest.importorskip("torch")
    return torch.nn.ModuleDict({"text": llama(), "vision_model": torch.nn.Linear(8, 8)})


def mixtral():
    config = transformers().MixtralConfig(**TINY, num_local_experts=4, tie_word_embeddings=False)
    return transformers().MixtralForCausalLM(config)


def bert():
    options = {name: value for name, value in TINY.items() if name != "num_key_value_heads"}
    return transformers().BertForMaskedLM(transformers().BertConfig(**options))


def t5(**options):
    config = transformers().T5Config(
        vocab_size=200, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=2, **options
    )
    return transformers().T5ForConditionalGeneration(config)


def t5_gated():
    return t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False, initializer_factor=0.5)


def switch():
    config = transformers().SwitchTransformersConfig(
        vocab_size=200, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, num_experts=2
    )
    return transformers().SwitchTransformersForConditionalGeneration(config)


def first_gpt():
    config = transformers().OpenAIGPTConfig(vocab_size=200, n_embd=16, n_layer=1, n_head=2, n_positions=20)
    return transformers().OpenAIGPTLMHeadModel(config)


def jamba():
    options = {"mamba_d_state": 4, "mamba_dt_rank": 4, "use_mamba_kernels": False, "num_experts": 2}
    return transformers().JambaModel(transformers().JambaConfig(**TINY, **options))


def mamba():
    config = transformers().MambaConfig(
        vocab_size=200, hidden_size=32, state_size=8, num_hidden_layers=2, time_step_rank=16
    )
    return transformers().MambaForCausalLM(config)


def vit(**options):
    timm = pytest.importorskip("timm")
    return timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=2, num_classes=10, **options
    )


def timm_resnet(block):
    timm = pytest.importorskip("timm")
    kind = getattr(timm.models.resnet, {"basic": "BasicBlock", "bottleneck": "Bottleneck"}[block])
    return timm.models.resnet.ResNet(
        kind, (2, 1, 1, 1), num_classes=10, channels=(8, 16, 16, 16), stem_width=8
    )


def timm_model(name, **options):
    return pytest.importorskip("timm").create_model(name, **options)


def resnet(name):
    torchvision = pytest.importorskip("torchvision")
    kind = getattr(torchvision.models.resnet, name)
    return torchvision.models.ResNet(kind, (2, 1, 1, 1), num_classes=10, zero_init_residual=True)


def convnext():
    torchvision = pytest.importorskip("torchvision")
    kind = torchvision.models.convnext
    return kind.ConvNeXt([kind.CNBlockConfig(16, None, 2)], num_classes=10)


def normalizer_free():
    timm = pytest.importorskip("timm")
    config = timm.models.nfnet.NfCfg(
        depths=(1, 1), channels=(32, 32), stem_chs=16, skipinit=True, num_features=32, group_size=8
    )
    return timm.models.nfnet.NormFreeNet(config, num_classes=10)


def adapted(scheme):
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    model = torch.nn.Sequential(torch.nn.Embedding(100, 32), torch.nn.Linear(32, 48), torch.nn.Linear(48, 16))
    config = peft.LoraConfig(r=8, target_modules=["0", "1", "2"], init_lora_weights=scheme)
    return peft.get_peft_model(model, config)


def controlnet():
    diffusers = pytest.importorskip("diffusers")
    return diffusers.ControlNetModel(
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        cross_attention_dim=16,
        conditioning_embedding_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=4,
    )


# The recipe, its parameters, a model of the reference, and the names that the recipe leaves alone.
REFERENCES = {
    "gpt2": ("gpt2", {"layers": 3}, gpt2, "$^"),
    "llama": ("llama", {}, llama, "norm"),
    "gemma": ("llama", {}, gemma, "norm"),
    "mixtral": ("moe", {}, mixtral, "norm"),
    "bert": ("bert", {}, bert, "$^"),
    "t5": ("t5", {"d_model": 32, "d_kv": 8}, t5, "$^"),
    "t5 gated": ("t5", {"d_model": 32, "d_kv": 8, "factor": 0.5}, t5_gated, "$^"),
    "mamba": ("mamba", {"layers": 2, "scheme": "transformers"}, mamba, "$^"),
    "vit": ("vit", {}, vit, "patch_embed"),
    "vit jax": ("vit", {"scheme": "jax"}, lambda: vit(weight_init="jax"), "$^"),
    "vit nlhb": ("vit", {"scheme": "jax_nlhb", "classes": 10}, lambda: vit(weight_init="jax_nlhb"), "$^"),
    "vit moco": ("vit", {"scheme": "moco"}, lambda: vit(weight_init="moco"), "patch_embed"),
    "layerscale vit": ("layerscale", {"value": 1e-5}, lambda: vit(init_values=1e-5), r"^(?!.*ls\d)"),
    "layerscale convnext": ("layerscale", {"value": 1e-6}, convnext, "^(?!.*layer_scale)"),
    "resnet basic": ("resnet", {"block": "basic"}, lambda: resnet("BasicBlock"), r"^fc\.|downsample\.1"),
    "resnet bottleneck": ("resnet", {}, lambda: timm_resnet("bottleneck"), r"^fc\.|downsample\.1"),
    "resnet timm basic": ("resnet", {"block": "basic"}, lambda: timm_resnet("basic"), r"^fc\.|downsample\.1"),
    "skipinit": ("skipinit", {}, normalizer_free, "^(?!.*skipinit)"),
    "lora": ("lora", {}, lambda: adapted(True), "^(?!.*lora)"),
    "lora gaussian": ("lora", {"scheme": "gaussian"}, lambda: adapted("gaussian"), "^(?!.*lora)"),
    "controlnet": ("controlnet", {}, controlnet, r"^(?!.*(controlnet_(down|mid)_block|embedding\.conv_out))"),
}


def assert_equal_in_distribution(name, values, first, second):
    """Values against two samples of the reference, of which what is equal is constant."""
    values, first, second = (np.asarray(x, np.float64).reshape(-1) for x in (values, first, second))
    values, first, second = (x[:: max(1, x.size // 20_000)] for x in (values, first, second))
    fixed = first == second
    if fixed.mean() > 0.01:  # Others are equal by chance.
        # To a rounding of float32: references take logarithms in single precision.
        np.testing.assert_allclose(values[fixed], first[fixed], rtol=2**-22, err_msg=name)
        values, first, second = values[~fixed], first[~fixed], second[~fixed]
    if values.size:
        others = np.concatenate((first, second))
        assert stats.ks_2samp(values, others, method="asymp").pvalue > 1e-10, (
            name,
            values.std(),
            others.std(),
        )
        assert np.abs(values).max() < 3 * np.abs(others).max(), name


@pytest.mark.parametrize("case", REFERENCES)
def test_equals_its_reference(case):
    torch = pytest.importorskip("torch")
    import fastinit.torch

    name, parameters, build, alone = REFERENCES[case]
    samples = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        samples.append({name: value.detach() for name, value in build().named_parameters()})
    recipe = fastinit.recipe(name, **parameters)
    model = build()
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(math.nan)
    fastinit.torch.initialize(model, seed=0, rules={**recipe.rules, re.compile(""): None})
    compared = 0
    for name, value in model.named_parameters():
        rule = recipe.find(name)
        if rule is None or rule.initializer is None:
            assert re.search(alone, name), f"{name} has no rule"
            assert value.isnan().all()
            continue
        assert not re.search(alone, name), f"{name} should be left alone"
        assert_equal_in_distribution(name, value.detach(), samples[0][name], samples[1][name])
        compared += 1
    assert compared


# Where the reference cannot be installed: the recipe, its parameters, and tensors with their distributions.
# Shapes are (..., in, out).
NORMAL, UNIFORM = "normal", "uniform"
PAPERS = {
    "gpt2 of OpenAI": (
        "gpt2",
        {"layers": 12, "positions": 0.01},
        {
            "h/0/wpe/embeddings": ((50, 40), NORMAL, 0.01),
            "h.3.mlp.c_proj.kernel": ((64, 32), NORMAL, 0.02 / 24**0.5),
        },
    ),
    "switch": (
        "moe",
        {"scheme": "switch"},
        {
            "mlp.router.classifier.weight": ((64, 32), stats.truncnorm(-2, 2, scale=(0.1 / 64) ** 0.5)),
            "mlp.experts.expert_0.wi.weight": ((48, 64), stats.truncnorm(-2, 2, scale=(0.1 / 48) ** 0.5)),
            "shared.weight": ((48, 64), NORMAL, 1.0),
        },
    ),
    "bert of google": (
        "bert",
        {"scheme": "original"},
        {
            "attention.self.query.kernel": ((64, 64), stats.truncnorm(-2, 2, scale=0.02)),
        },
    ),
    "T-Fixup": (
        "t_fixup",
        {"layers": 6, "decoder_layers": 5, "d_model": 64},
        {
            "encoder.embed_tokens.weight": ((100, 64), NORMAL, 45**-0.25 * 64**-0.5),
            "encoder.layers.0.self_attn.v_proj.weight": (
                (64, 64),
                UNIFORM,
                0.67 * 6**-0.25 * (6 / 128) ** 0.5,
            ),
            "encoder.layers.0.self_attn.q_proj.weight": ((64, 64), UNIFORM, (6 / 128) ** 0.5),
            "decoder.layers.0.encoder_attn.out_proj.weight": (
                (64, 64),
                UNIFORM,
                45**-0.25 * (6 / 128) ** 0.5,
            ),
            "decoder.layers.0.fc1.weight": ((64, 128), UNIFORM, 45**-0.25 * (6 / 192) ** 0.5),
            "decoder.layers.0.fc1.bias": ((64,), 0.0),
        },
    ),
    "DeepNorm": (
        "deepnorm",
        {"layers": 32},
        {
            "layers.0.fc1.weight": ((64, 128), NORMAL, 0.25 * (2 / 192) ** 0.5),
            "layers.0.self_attn.v_proj.weight": ((64, 64), NORMAL, 0.25 * (2 / 128) ** 0.5),
            "layers.0.self_attn.k_proj.weight": ((64, 64), NORMAL, (2 / 128) ** 0.5),
        },
    ),
    "muP": (
        "mup",
        {"width": 256, "base_width": 64},
        {
            "h.0.attn.c_attn.weight": ((64, 64), NORMAL, 0.01),
            "transformer.wte.weight": ((64, 64), NORMAL, 0.02),
            "lm_head.weight": ((64, 64), 0.0),
            "h.0.ln_1.weight": ((64,), 1.0),
        },
    ),
    "SIREN": (
        "siren",
        {"inputs": 2, "omega": 30.0},
        {
            "net.0.linear.weight": ((2, 1000), UNIFORM, 0.5),
            "net.net.0.0.weight": ((2, 1000), UNIFORM, 0.5),
            "net.1.linear.weight": ((256, 64), UNIFORM, (6 / 256) ** 0.5 / 30),
        },
    ),
    "Mamba": (
        "mamba",
        {"layers": 4},
        {
            "layers.0.mixer.A_log": ((5, 3), np.log([[1, 2, 3]] * 5)),
            "layers.0.mixer.D": ((5,), 1.0),
            "layers.0.mixer.dt_proj.weight": ((16, 256), UNIFORM, 0.25),
            "layers.0.mixer.out_proj.weight": ((64, 64), UNIFORM, 1 / 8 / 2),
            "layers.0.mixer.in_proj.weight": ((64, 64), UNIFORM, 1 / 8),
            "embedding.weight": ((64, 64), NORMAL, 0.02),
        },
    ),
    "S4D": (
        "s4d",
        {},
        {
            "kernel.log_A_real": ((4, 8), math.log(0.5)),
            "kernel.A_imag": ((2, 3), np.array([[0, math.pi, 2 * math.pi]] * 2)),
            "kernel.log_dt": ((4000,), stats.uniform(math.log(0.001), math.log(100))),
            "kernel.C": ((40, 16, 2), NORMAL, 0.5**0.5),
            "D": ((1000,), NORMAL, 1.0),
        },
    ),
    "IRNN": (
        "irnn",
        {"scale": 0.5},
        {
            "weight_hh_l0": ((4, 4), np.eye(4) / 2),
            "rnn/simple_rnn_cell/recurrent_kernel": ((4, 4), np.eye(4) / 2),
            "rnn/simple_rnn_cell/kernel": ((40, 40), NORMAL, 0.001),
            "weight_ih_l0": ((40, 40), NORMAL, 0.001),
            "bias_hh_l0": ((4,), 0.0),
        },
    ),
    "PPO": (
        "rl",
        {},
        {
            "actor_mean.4.weight": ((64, 1), "norm", 0.01),
            "actor_mean.2.weight": ((64, 64), "norm", 2**0.5),
            "critic.4.weight": ((64, 1), "norm", 1.0),
            "policy.action_net.weight": ((64, 3), "norm", 0.01),
            "policy.value_net.weight": ((64, 1), "norm", 1.0),
            "mlp_extractor.policy_net.0.weight": ((8, 64), "norm", 2**0.5),
            "actor_mean.4.bias": ((1,), 0.0),
        },
    ),
    "Fixup": (
        "fixup",
        {"layers": 16},
        {
            "layer1.0.conv1.weight": ((1, 1, 64, 32), NORMAL, (2 / 32) ** 0.5 / 2),
            "layer1.0.conv2.weight": ((3, 3, 32, 32), NORMAL, (2 / 288) ** 0.5 / 2),
            "layer1.0.conv3.weight": ((1, 1, 32, 64), 0.0),
            "layer1.0.downsample.weight": ((1, 1, 32, 64), NORMAL, (2 / 64) ** 0.5),
            "layer1.0.scale": ((1,), 1.0),
            "layer1.0.bias1a": ((1,), 0.0),
            "fc.weight": ((32, 64), 0.0),
        },
    ),
    "Fixup basic": (
        "fixup",
        {"layers": 16, "block": "basic"},
        {
            "layer1.0.conv1.weight": ((3, 3, 32, 32), NORMAL, (2 / 288) ** 0.5 / 4),
            "layer1.0.conv2.weight": ((3, 3, 32, 32), 0.0),
        },
    ),
    "DiT": (
        "dit",
        {},
        {
            "blocks.0.adaLN_modulation.1.weight": ((8, 48), 0.0),
            "final_layer.adaLN_modulation.1.bias": ((48,), 0.0),
            "final_layer.linear.weight": ((8, 48), 0.0),
            "blocks.0.attn.qkv.weight": ((32, 96), UNIFORM, (6 / 128) ** 0.5),
            "blocks.0.mlp.fc1.bias": ((8,), 0.0),
            "y_embedder.embedding_table.weight": ((64, 64), NORMAL, 0.02),
            "t_embedder.mlp.2.weight": ((64, 64), NORMAL, 0.02),
            # (out, in, height, width), as in PyTorch
            "x_embedder.proj.weight": ((64, 4, 2, 2), UNIFORM, (6 / 80) ** 0.5),
        },
    ),
    "chrono": ("chrono", {"steps": 100}, {"lstm.bias_hh_l0": ((8,), 0.0)}),
    "LoRA in Keras": (
        "lora",
        {},
        {
            "dense/lora_kernel_a": ((64, 8), UNIFORM, (6 / 64) ** 0.5),
            "dense/lora_kernel_b": ((8, 64), 0.0),
        },
    ),
    "ReZero": ("skipinit", {}, {"layers.0.resweight": ((1,), 0.0)}),
    "other LayerScales": (
        "layerscale",
        {},
        {
            "encoder.layer.0.layer_scale1.lambda1": ((8,), 1e-5),  # of DINOv2
            "convnext_tiny_stage_0_block_0_layer_scale/variable_3": ((8,), 1e-5),  # of Keras
            "blocks_token_only.0.gamma_1": ((8,), 1e-5),  # of CaiT
        },
    ),
    "ResNet of Keras": (
        "resnet",
        {},
        {
            "conv2_block1_3_bn/gamma": ((8,), 0.0),
            "conv2_block1_2_bn/gamma": ((8,), 1.0),
            "conv2_block1_2_conv/kernel": ((3, 3, 16, 64), NORMAL, (2 / 576) ** 0.5),
        },
    ),
}


@pytest.mark.parametrize("case", PAPERS)
def test_equals_its_formula(case):
    name, parameters, tensors = PAPERS[case]
    recipe = fastinit.recipe(name, **parameters)
    for tensor, (shape, *expected) in tensors.items():
        rule = recipe.find(tensor)
        assert rule is not None, tensor
        values = rule.initializer(shape, seed=0, stream=tensor, dtype="float64")
        match expected:
            case ["normal" | "uniform" as kind, scale]:
                found = stats.norm(scale=scale) if kind == NORMAL else stats.uniform(-scale, 2 * scale)
                assert stats.kstest(values.reshape(-1), found.cdf).pvalue > 1e-10, tensor
            case ["norm", gain]:
                matrix = values if values.shape[0] >= values.shape[1] else values.T
                np.testing.assert_allclose(matrix.T @ matrix, gain**2 * np.eye(matrix.shape[1]), atol=1e-12)
            case [float() | np.ndarray() as constant]:
                np.testing.assert_allclose(
                    values, np.broadcast_to(constant, shape), rtol=1e-15, err_msg=tensor
                )
            case [distribution]:
                assert stats.kstest(values.reshape(-1), distribution.cdf).pvalue > 1e-10, tensor


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("mamba", "layers.0.mixer.conv1d.bias"),
        ("dit", "x_embedder.proj.bias"),
        ("vit", "patch_embed.proj.weight"),
        ("llama", "layers.0.input_layernorm.weight"),
        ("moe", "norm.weight"),
        ("llama", "layers.0.input_layernorm.0.weight"),
        ("llama", "merger.ln_q.weight"),
    ],
)
def test_defaults_of_the_framework_have_no_rule(name, tensor):
    # The rule `None` would leave them as they are: without values, where they had none.
    assert example(name).find(tensor) is None


def test_every_recipe_is_compared():
    compared = {case[0] for case in (*REFERENCES.values(), *PAPERS.values())}
    assert compared | {"lstm", "mimetic", "pissa"} == set(SPECS)  # The first two are compared below.


@pytest.mark.parametrize("steps", [2, 3, 100])
def test_chrono_gates(steps):
    bias = fastinit.recipe("chrono", steps=steps).find("lstm.bias_ih_l0").initializer
    values = bias(4000, seed=0, stream="lstm", dtype="float64").reshape(4, 1000)
    assert np.array_equal(values[0], -values[1])
    assert not values[2:].any()
    if steps > 2:
        assert stats.kstest(np.exp(values[1]), stats.uniform(1, steps - 2).cdf).pvalue > 1e-10
    else:
        assert not values.any()


# Keras has a process of its own, since TensorFlow and PyTorch may not be imported in any order.
KERAS = """
    import keras
    import numpy as np

    import fastinit

    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input((None, 32)), keras.layers.LSTM(48)])
        np.savez(f"{FOLDER}{seed}.npz", **{one.name: np.asarray(one) for one in model.weights})
    recipe = fastinit.recommend(model)
    assert recipe.name == "lstm", recipe.name
    for variable in model.weights:  # as docs/recipes.md does
        initializer = recipe.find(variable.path).initializer
        variable.assign(initializer(variable.shape, seed=0, stream=variable.path))
    np.savez(FOLDER + "made.npz", **{one.name: np.asarray(one) for one in model.weights})

    model = keras.Sequential([
        keras.Input((8,)),
        keras.layers.Dense(16, activation="relu"),
        keras.layers.Dense(16),
        keras.layers.LayerNormalization(),
        keras.layers.Activation("tanh"),
        keras.layers.Dense(4),
    ])
    recipe = fastinit.recommend(model)
    assert recipe.name == "by_layer"
    kernels = [recipe.find(variable.path) for variable in model.weights if variable.path.endswith("kernel")]
    assert kernels[0].initializer == fastinit.HeNormal(), kernels[0]
    assert "tanh" in kernels[1].formula, kernels[1]
    assert kernels[2].initializer == fastinit.GlorotUniform(), kernels[2]
    assert all(recipe.find(variable.path) for variable in model.weights)

    layers = keras.layers
    model = keras.Sequential([
        keras.Input((8, 8, 4)), layers.DepthwiseConv2D(3), layers.SeparableConv2D(4, 3), layers.Flatten(),
        keras.Sequential([layers.Dense(4)]),
    ])
    recipe = fastinit.recommend(model)
    assert all(recipe.find(variable.path) for variable in model.weights), recipe

    class Block(layers.Layer):
        def build(self, shape):
            self.attention, self.norm = layers.MultiHeadAttention(2, 4), layers.RMSNormalization()
            self.wide, self.own = layers.Dense(8, "gelu"), self.add_weight(shape=(3,), name="own")
            self.attention.build(shape, shape)
            self.norm.build(shape)
            self.wide.build(shape)

        def call(self, x):
            return self.wide(self.norm(x + self.attention(x, x)))

    block = Block()
    model = keras.Sequential([keras.Input((5, 8)), block, layers.Dense(4), layers.PReLU(), layers.Dense(2)])
    recipe = fastinit.recommend(model)
    rules = {variable.path: recipe.find(variable.path) for variable in model.weights}
    assert [path.split("/")[-1] for path, rule in rules.items() if rule is None] == ["own"], rules
    for path, rule in rules.items():
        if "query" in path and path.endswith("kernel"):
            assert rule.initializer == fastinit.GlorotUniform(in_axis=0, out_axis=(1, 2)), rule
        if "block/dense" in path and path.endswith("kernel"):
            assert "gelu" in rule.formula, rule
    block.trainable = False
    recipe = fastinit.recommend(model)
    assert all(recipe.find(variable.path).initializer is None for variable in block.weights), recipe
    assert recipe.find(model.layers[-1].kernel.path).initializer is not None

    single = layers.Dense(3)
    for function in (fastinit.recommend, fastinit.gain):
        try:
            function(single)
        except (TypeError, ValueError):
            pass
        assert not single.built, function
"""


def test_keras(tmp_path, python):
    if importlib.util.find_spec("keras") is None:
        pytest.skip("needs keras")
    folder = f"{tmp_path}/"
    python(f"FOLDER = {folder!r}\n" + textwrap.dedent(KERAS), KERAS_BACKEND="numpy")
    one, two, made = (np.load(folder + name) for name in ("1.npz", "2.npz", "made.npz"))
    assert len(made) == 3
    for name in made:
        assert_equal_in_distribution(name, made[name], one[name], two[name])


def test_gates_of_pytorch():
    bias = fastinit.recipe("lstm").find("rnn.bias_ih_l0").initializer
    assert bias(8).tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("heads", [1, 4])
def test_products_of_mimetic_attention(heads):
    torch = pytest.importorskip("torch")
    import fastinit.torch

    model = modules(("Identity",))
    model.attn = torch.nn.Module()
    model.attn.qkv, model.attn.proj = torch.nn.Linear(64, 192), torch.nn.Linear(64, 64)
    fastinit.torch.initialize(model, seed=0, rules=fastinit.recipe("mimetic", heads=heads).rules)
    q, k, v = (part.detach().double().numpy() for part in model.attn.qkv.weight.split(64))
    noise = stats.norm(scale=1 / 8)
    product = v.T @ model.attn.proj.weight.detach().double().numpy().T
    assert stats.kstest(((product + 0.4 * np.eye(64)) / 0.4).reshape(-1), noise.cdf).pvalue > 1e-10
    for head in range(heads):
        rank = 64 // heads
        product = q.reshape(heads, rank, 64)[head].T @ k.reshape(heads, rank, 64)[head]
        singular = np.linalg.svd(product, compute_uv=False)
        assert np.linalg.matrix_rank(product, tol=1e-5) == rank
        if heads == 1:
            assert stats.kstest(((product - 0.7 * np.eye(64)) / 0.7).reshape(-1), noise.cdf).pvalue > 1e-10
        else:  # the largest singular values of such a matrix
            rng = np.random.default_rng(0)
            whole = 0.7 * rng.normal(scale=1 / 8, size=(64, 64)) + 0.7 * np.eye(64)
            largest = np.linalg.svd(whole, compute_uv=False)[:rank]
            np.testing.assert_allclose(singular[:rank], largest, rtol=0.25)


def test_positions_of_dit():
    made = fastinit.recipe("dit").find("pos_embed").initializer((1, 9, 8), dtype="float64")
    for position in range(9):
        row, column = divmod(position, 3)
        expected = [f(x * w) for x in (column, row) for f in (math.sin, math.cos) for w in (1.0, 0.01)]
        np.testing.assert_allclose(made[0, position], expected, atol=1e-15)


def test_hidden_weights_of_mup():
    torch, mup = pytest.importorskip("torch"), pytest.importorskip("mup")

    def model(width):
        return torch.nn.Sequential(
            torch.nn.Linear(8, width), torch.nn.Linear(width, width), mup.MuReadout(width, 3)
        )

    samples = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        wide = model(256)
        mup.set_base_shapes(wide, model(64), delta=model(128))
        mup.init.normal_(wide[1].weight, std=0.02)
        samples.append(wide[1].weight.detach())
    made = (
        fastinit.recipe("mup", width=256, base_width=64)
        .find("layers.1.weight")
        .initializer((256, 256), seed=0)
    )
    assert_equal_in_distribution("hidden", made, *samples)


def modules(*layers):
    torch = pytest.importorskip("torch")
    return torch.nn.Sequential(*(getattr(torch.nn, name)(*arguments) for name, *arguments in layers))


# Models, and the recipe that `recommend` gives, with parameters that it reads.
RECOGNIZED = {
    "gpt2": (gpt2, "gpt2", {"layers": 3}),
    "llama": (llama, "llama", {}),
    "mixtral": (mixtral, "moe", {"scheme": "mixtral"}),
    "switch": (switch, "moe", {"scheme": "switch"}),
    "the first GPT": (first_gpt, "by_layer", {}),
    "jamba": (jamba, "by_layer", {}),
    "bert": (bert, "bert", {}),
    "t5": (t5, "t5", {"d_model": 32, "d_kv": 8}),
    "mamba": (mamba, "mamba", {"layers": 2}),
    "vit": (vit, "vit", {"classes": 10}),
    "resnet basic": (lambda: resnet("BasicBlock"), "resnet", {"block": "basic"}),
    "resnet bottleneck": (lambda: timm_resnet("bottleneck"), "resnet", {"block": "bottleneck"}),
    "lstm": (lambda: modules(("LSTM", 8, 16), ("Linear", 16, 2)), "lstm", {}),
    "gru": (lambda: modules(("GRU", 8, 16), ("Linear", 16, 2)), "by_layer", {}),
    "lora": (lambda: adapted(True), "lora", {"rank": 8}),
    "controlnet": (controlnet, "controlnet", {}),
    "gemma": (gemma, "llama", {}),
    "an image and a text model": (clip, "by_layer", {}),
    "convnext": (convnext, "by_layer", {}),
    "mixed resnet": (lambda: timm_model("test_resnet"), "by_layer", {}),
    "cait": (lambda: timm_model("cait_xxs24_224", depth=1), "by_layer", {}),
    "vit with relative positions": (lambda: timm_model("test_vit_relpos"), "by_layer", {}),
    "vit with scales": (lambda: timm_model("test_vit2"), "vit", {}),
}


@pytest.mark.parametrize("case", RECOGNIZED)
def test_recommend_recognizes_models(case):
    pytest.importorskip("torch")
    build, name, parameters = RECOGNIZED[case]
    recipe = fastinit.recommend(build())
    assert recipe.name == name
    assert parameters.items() <= recipe.parameters.items()


def test_recommend_tells_of_an_initialization_of_the_model():
    notes = fastinit.recommend(timm_model("test_vit_relpos")).notes
    assert any("an initialization of its own" in note for note in notes)
    assert not any("of its own" in note for note in fastinit.recommend(modules(("Linear", 2, 2))).notes)


def test_recommend_names_other_recipes():
    notes = " ".join(fastinit.recommend(vit(init_values=1e-5)).notes)
    assert "'layerscale'" in notes
    assert "'resnet'" not in notes


def test_recommend_answers_for_each_layer():
    torch = pytest.importorskip("torch")
    import fastinit.torch

    model = modules(
        ("Conv2d", 3, 8, 3), ("BatchNorm2d", 8), ("ReLU",), ("Flatten",), ("Linear", 8, 500), ("Tanh",),
        ("LSTM", 4, 4), ("Linear", 4, 2),
    )  # fmt: skip
    recipe = fastinit.recommend(model)
    assert recipe.find("0.weight").initializer == fastinit.HeNormal(in_axis=1, out_axis=0)
    assert "tanh" in recipe.find("4.weight").formula
    assert "linear" in recipe.find("7.weight").formula
    assert recipe.find("6.bias_ih_l0").initializer == fastinit.guidance.Formula("forget_bias", value=1)
    report = fastinit.torch.initialize(model, rules=recipe.rules)
    assert not report.unused_rules
    assert all(recipe.find(name) for name, _ in model.named_parameters())
    assert fastinit.recommend(torch.nn.ReLU()).activation == "relu"  # not a model


def test_recommend_assumes_relu_where_nothing_is_known():
    torch = pytest.importorskip("torch")

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = torch.nn.Linear(8, 8), torch.nn.Linear(8, 2)

    recipe = fastinit.recommend(Model())
    assert "relu" in recipe.find("hidden.weight").formula
    assert "linear" in recipe.find("out.weight").formula
    assert any("relu is assumed" in note for note in recipe.notes)


@pytest.mark.parametrize("layers", [0, 1])
def test_signs_alone_do_not_tell_the_parameters(layers):
    torch = pytest.importorskip("torch")
    block = torch.nn.ModuleDict({"c_attn": torch.nn.Linear(4, 12), "c_proj": torch.nn.Linear(4, 4)})
    model = torch.nn.ModuleDict({"h": torch.nn.ModuleList([block])} if layers else {"part": block})
    model.layers = "an attribute that models of Keras have, too"
    recipe = fastinit.recommend(model)
    assert recipe.name == ("gpt2" if layers else "by_layer")
    assert all(recipe.find(name) for name, _ in model.named_parameters())


def test_models_that_cannot_be_answered():
    torch = pytest.importorskip("torch")
    with pytest.raises((TypeError, ValueError)):
        fastinit.recommend(torch.nn.Sequential(torch.nn.Flatten()))
    with pytest.raises(ValueError, match=r"without a shape yet: call it once first"):
        fastinit.recommend(modules(("LazyLinear", 4), ("Linear", 4, 2)))
    with pytest.raises(TypeError, match="takes no other arguments, got layer, bias, depth"):
        fastinit.recommend(modules(("Linear", 4, 2)), "conv", bias=1.0, depth=3)


def rules_of(model):
    """The rule of each tensor of a model: its formula and its initializer."""
    recipe = fastinit.recommend(model)
    found = {name: recipe.find(name) for name, _ in model.named_parameters()}
    return recipe, {name: (rule.formula, rule.initializer) for name, rule in found.items() if rule}


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_layers_of_transformers_are_answered_as_a_whole(activation):
    nn = pytest.importorskip("torch").nn
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation=activation)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    recipe, rules = rules_of(model)
    assert len(rules) == 24
    assert not recipe.leaves
    glorot = fastinit.GlorotUniform(in_axis=1, out_axis=0)
    for prefix in ("layers.0.", "layers.1."):
        three = fastinit.GlorotUniform(in_axis=1, out_axis=0, blocks=3)
        assert rules[f"{prefix}self_attn.in_proj_weight"][1] == three
        assert rules[f"{prefix}self_attn.out_proj.weight"][1] == glorot
        assert rules[f"{prefix}linear1.weight"][0] == f"dense, {activation}: weight"
        assert rules[f"{prefix}linear2.weight"][1] == glorot


def test_all_weights_of_known_layers_have_a_rule():
    nn = pytest.importorskip("torch").nn
    several = nn.MultiheadAttention(8, 2, kdim=4, vdim=6, add_bias_kv=True)
    recurrent = nn.LSTM(8, 6, proj_size=4, num_layers=2, bidirectional=True)
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))
    model = nn.Sequential(several, recurrent, nn.ReLU(), spectral, nn.PReLU(8), nn.GRUCell(8, 4))
    recipe, rules = rules_of(model)
    assert set(rules) == {name for name, _ in model.named_parameters()}
    assert not recipe.leaves
    assert rules["0.bias_k"][1] == fastinit.Zeros()
    # The activation of a recurrent layer is its own, not what comes after it.
    assert rules["1.weight_ih_l1_reverse"][1] == fastinit.GlorotUniform(in_axis=1, out_axis=0)
    assert rules["1.weight_hr_l0"][1] == fastinit.GlorotUniform(in_axis=1, out_axis=0)
    assert rules["1.bias_ih_l0"][1] == fastinit.guidance.Formula("forget_bias", value=1)
    assert rules["1.bias_hh_l0"][1] == fastinit.Zeros()
    assert "prelu" in rules["3.parametrizations.weight.original"][0]
    assert rules["4.weight"][1] == fastinit.Constant(0.25)


def test_what_is_not_known_is_left_and_named():
    torch = pytest.importorskip("torch")
    own = torch.nn.Module()
    own.scale, own.inside = torch.nn.Parameter(torch.ones(3)), torch.nn.Linear(3, 3)
    normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 3))
    recipe, rules = rules_of(torch.nn.Sequential(own, torch.nn.Tanh(), normed))
    assert set(rules) == {"0.inside.weight", "0.inside.bias"}
    assert recipe.leaves == "0, 2, 2.parametrizations.weight"


def test_tensors_that_are_not_trained_are_left():
    torch = pytest.importorskip("torch")
    import fastinit.torch

    by_layer = modules(("Linear", 8, 8), ("ReLU",), ("Linear", 8, 2))
    by_layer[0].requires_grad_(False)
    known = gpt2()
    known.transformer.wpe.requires_grad_(False)
    for model, name in ((by_layer, "0.weight"), (known, "transformer.wpe.weight")):
        before = {key: value.detach().clone() for key, value in model.named_parameters()}
        recipe = fastinit.recommend(model)
        fastinit.torch.initialize(model, rules=recipe.rules, seed=1)
        for key, value in model.named_parameters():
            assert value.requires_grad or torch.equal(value, before[key])
        assert recipe.find(name).initializer is None
    assert fastinit.recommend(known.requires_grad_(False)).find(name).initializer is not None


def test_tied_embeddings_are_small():
    model = modules(("Embedding", 50, 16), ("Linear", 16, 50))
    assert rules_of(model)[1]["0.weight"][1] == fastinit.RandomNormal(stddev=1.0)
    model[1].weight = model[0].weight
    made = rules_of(model)[1]["0.weight"][1]((5000, 16), seed=0)
    assert np.var(made) == pytest.approx(1 / 16, rel=0.02)


def test_wrapped_models_have_the_names_of_initialize():
    torch = pytest.importorskip("torch")
    import fastinit.torch

    inner = modules(("Linear", 8, 8), ("ReLU",), ("Linear", 8, 2))
    model = torch.nn.ModuleDict({"_orig_mod": inner})  # as in torch.compile
    recipe = fastinit.recommend(model)
    assert recipe.rules == fastinit.recommend(inner).rules
    assert not fastinit.torch.initialize(model, rules=recipe.rules).unused_rules


# Recipes and formulas themselves


def example(name):
    """A recipe with 4 for each parameter that it needs."""
    needed = [one.name for one in SPECS[name].parameters.values() if one.default is one.empty]
    return fastinit.recipe(name, **dict.fromkeys(needed, 4))


@pytest.mark.parametrize("name", SPECS)
def test_recipes_have_what_they_promise(name):
    recipe = example(name)
    assert recipe.title
    assert recipe.fits
    assert recipe.source
    assert recipe.code
    assert len(recipe.rules) == len(recipe.rows) > 0
    assert set(recipe.parameters) <= set(PARAMETERS)
    assert json.loads(json.dumps(recipe.to_dict()))["name"] == name
    assert all(len(line) <= 80 for line in str(recipe).split("\n"))
    # Only pretrained models are left as they are.
    assert [row.pattern for row in recipe.rows if row.initializer is None] in ([], [""])
    for row in recipe.rows:
        assert row.formula in " ".join(str(recipe).split())


def test_the_list(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    listed = fastinit.recipe()
    assert [row.name for row in listed.rows] == list(SPECS)
    assert listed["gpt2"].parameters == {"layers": None, "std": 0.02, "positions": 0.02}
    assert all(len(line) <= 80 for line in str(listed).split("\n"))
    json.dumps(listed.to_dict())
    assert {name for spec in SPECS.values() for name in spec.parameters} == set(PARAMETERS)


@pytest.mark.parametrize(
    ("name", "parameters", "error", "message"),
    [
        ("gpt", {}, ValueError, "did you mean 'gpt2'"),
        ("gpt2", {}, TypeError, r"needs layers \(the number of blocks\)"),
        ("gpt2", {"layers": 2, "name": 3}, TypeError, "'gpt2' has no parameter 'name'; it has layers, std"),
        ("siren", {"self": 3}, TypeError, "'siren' has no parameter 'self'"),
        (None, {"name": "gpt2"}, TypeError, "which comes first"),
        ("gpt2", {"layer": 3}, TypeError, "no parameter 'layer', did you mean 'layers'"),
        ("gpt2", {"layers": 0}, ValueError, "layers must be at least 1, got 0"),
        ("gpt2", {"layers": 2.5}, TypeError, "layers must be an int, got 2.5"),
        ("gpt2", {"layers": 2, "std": -1.0}, ValueError, "^std must be above 0, got -1"),
        ("t5", {"d_model": 8, "factor": 0}, ValueError, "^factor must be above 0, got 0"),
        ("s4d", {"low": 0.2}, ValueError, "^low must be below high, got 0.2 and 0.1"),
        ("siren", {"omega": 1e-200}, ValueError, "inputs=2, omega=1e-200 are out of range"),
        ("vit", {"scheme": "keras"}, ValueError, "scheme must be one of timm, jax"),
        (None, {"layers": 3}, TypeError, "parameters need the name of a recipe"),
        ("chrono", {"steps": 1}, ValueError, "steps must be at least 2, got 1"),
        ("mamba", {"layers": 1, "low": 0.1, "high": 0.1}, ValueError, "low must be below high"),
        ("s4d", {"low": 0.0}, ValueError, "low must be above 0, got 0"),
        ("siren", {"omega": 0.0}, ValueError, "omega must be above 0, got 0"),
    ],
    ids=str,
)
def test_errors_of_recipes(name, parameters, error, message):
    with pytest.raises(error, match=message):
        fastinit.recipe(name, **parameters)


FORMULAS = [
    (fastinit.guidance.Formula("arange", scale=2.0), (3, 4)),
    (fastinit.guidance.Formula("log_arange"), (3, 4)),
    (fastinit.guidance.Formula("softplus_inverse", low=0.001, high=0.1, floor=1e-4), (300,)),
    (fastinit.guidance.Formula("forget_bias", value=1.0), (12,)),
    (fastinit.guidance.Formula("chrono", steps=50), (12,)),
    (fastinit.guidance.Formula("sincos_2d"), (1, 9, 8)),
    (fastinit.guidance.Formula("mimetic_qkv", heads=2, alpha=0.7, beta=0.5), (8, 24)),
    (fastinit.guidance.Formula("mimetic_proj", in_axis=1, out_axis=0), (8, 8)),
]


@pytest.mark.parametrize(("formula", "shape"), FORMULAS, ids=lambda one: getattr(one, "kind", None))
def test_formulas_are_initializers(formula, shape):
    whole = formula(shape, seed=1, stream="a")
    assert whole.dtype == np.float32
    assert whole.shape == shape
    assert np.array_equal(whole, formula(shape, seed=1, stream="a"))
    assert np.array_equal(whole, formula(shape, seed=1, stream="a", dtype="float64").astype(np.float32))
    half = formula(shape, seed=1, stream="a", dtype="float16")
    assert np.array_equal(half, whole.astype(np.float16))
    index = (*(slice(0, 1) for _ in shape[:-1]), slice(2, 4))
    assert np.array_equal(formula(shape, seed=1, stream="a", index=index), whole[index])
    out = np.full(shape[::-1], np.nan, np.float32).T
    assert formula(shape, seed=1, stream="a", out=out) is out
    assert np.array_equal(out, whole)
    assert pickle.loads(pickle.dumps(formula)) == formula
    assert type(formula).from_config(json.loads(json.dumps(formula.get_config()))) == formula
    assert eval(repr(formula), {"Formula": fastinit.guidance.Formula}) == formula
    is_random = formula.kind in ("softplus_inverse", "chrono", "mimetic_qkv", "mimetic_proj")
    assert np.array_equal(whole, formula(shape, seed=1, stream="b")) != is_random
    assert np.array_equal(formula(shape), formula(shape)) != is_random  # without a seed
    found = formula.check(shape)
    values = formula(shape, seed=0, dtype="float64")
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert found.std == pytest.approx(values.std(), rel=1e-6)
    x = np.linspace(found.low, found.high, 64 * 200 + 1)[:-1] + (found.high - found.low) / 25600
    area = found.density(x).mean() * (found.high - found.low) + sum(share for _, share in found.atoms)
    assert area == pytest.approx(1.0, abs=1e-6)
    pickle.dumps(found)
    with pytest.raises(ValueError, match="shape"):
        formula((-1, 4))
    before = out.copy()
    with pytest.raises((TypeError, ValueError)):
        formula(shape, out=out, dtype="float64")
    assert np.array_equal(out, before)


@pytest.mark.parametrize(
    ("kind", "parameters", "shape", "error", "message"),
    [
        ("nonsense", {}, (1,), ValueError, "the formula must be one of"),
        ("arange", {}, (1,), TypeError, "has the parameters scale; got none"),
        ("arange", {"scale": "2"}, (1,), TypeError, "scale must be a number"),
        ("arange", {"scale": 1.0}, (), ValueError, "at least 1 dimension"),
        ("chrono", {"steps": 9}, (6,), ValueError, "multiple of 4, got 6"),
        ("sincos_2d", {}, (8, 8), ValueError, "square number"),
        ("mimetic_qkv", {"heads": 3, "alpha": 1, "beta": 1}, (8, 24), ValueError, "heads divide width"),
        ("mimetic_qkv", {"heads": 2, "alpha": 1, "beta": 1}, (24, 8), ValueError, "3 width"),
        ("mimetic_proj", {"in_axis": 1}, (8, 8), ValueError, "different axes"),
        ("mimetic_proj", {}, (8,), ValueError, "needs a matrix"),
    ],
    ids=str,
)
def test_errors_of_formulas(kind, parameters, shape, error, message):
    with pytest.raises(error, match=message):
        fastinit.guidance.Formula(kind, **parameters)(shape)


def test_rules_give_the_same_values_in_jax_and_pytorch():
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    import fastinit.jax
    import fastinit.torch

    rules = fastinit.recipe("mamba", layers=2).rules
    shapes = {"A_log": (6, 4), "D": (6,), "dt_proj.bias": (6,)}
    model = torch.nn.Module()
    model.dt_proj = torch.nn.Module()
    for name, shape in shapes.items():
        owner, _, leaf = name.rpartition(".")
        model.get_submodule(owner).register_parameter(leaf, torch.nn.Parameter(torch.empty(shape)))
    fastinit.torch.initialize(model, seed=3, rules=rules)
    tree = {
        "A_log": jax.ShapeDtypeStruct((6, 4), "float32"),
        "D": jax.ShapeDtypeStruct((6,), "float32"),
        "dt_proj": {"bias": jax.ShapeDtypeStruct((6,), "float32")},
    }
    made, report = fastinit.jax.initialize(tree, seed=3, rules=rules)
    assert report["dt_proj.bias"].distribution == "softplus_inverse"
    for name, value in model.named_parameters():
        array = made["dt_proj"]["bias"] if "." in name else made[name]
        assert np.array_equal(value.detach().numpy(), np.asarray(array)), name


PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"


def test_the_page_lists_all_recipes():
    lines = ["| recipe | what it is | fits | source | compared with |", "|---|---|---|---|---|"]
    for row in fastinit.recipe().rows:
        given = ", ".join(
            name
            if value is None
            else f"{name}={value:.4g}"
            if isinstance(value, float)
            else f"{name}={value}"
            for name, value in row.parameters.items()
        )
        name = f"`{row.name}`" + (f": {given}" if given else "")
        lines.append(f"| {name} | {row.title} | {row.fits} | {row.source} | {row.code} |")
    expected = "<!-- recipes -->\n" + "\n".join(lines) + "\n<!-- end -->"
    found = re.search(r"<!-- recipes -->\n.*<!-- end -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found[0] == expected, f"{PAGE} must have this table:\n{expected}"
