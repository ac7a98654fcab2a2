"""Recipes of models of images, and of residual networks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from fastinit.initializers import (
    Constant,
    GlorotUniform,
    LecunNormal,
    Ones,
    RandomNormal,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
)

from .formulas import Formula
from .spec import BIAS, NORM, WEIGHT, RecipeRule, but, count, recipe_of

if TYPE_CHECKING:
    from .spec import Shapes

_TINY = RandomNormal(stddev=1e-6)


def _he(factor: float = 1.0) -> VarianceScaling:
    return VarianceScaling(2.0 * factor**2, "fan_out", "untruncated_normal")


@recipe_of(
    fits="DiT of facebookresearch and models with its names (adaLN_modulation, x_embedder, final_layer)",
    source="Peebles and Xie, ICCV 2023, arXiv:2212.09748",
    code="facebookresearch/DiT, models.py; compared with the same steps in a test",
    leaves="the bias of the patch embedding",
    notes=(
        "each block is the identity at first: its shifts, scales and gates come from a layer of zeros",
        "pos_embed is not trained",
    ),
    signs=(r"adaLN_modulation",),
)
def dit() -> list[RecipeRule]:
    """DiT, with adaLN-zero."""
    return [
        RecipeRule(r"adaLN_modulation[./]", Zeros(), "the layers that make shifts, scales and gates: 0"),
        RecipeRule(r"final_layer[./]linear[./]", Zeros(), "the output layer: 0"),
        RecipeRule(r"pos_embed$", Formula("sincos_2d"), "positions: sines and cosines of a grid"),
        RecipeRule(
            r"x_embedder[./]proj[./]weight$",
            VarianceScaling(1.0, "fan_avg", "uniform", in_axis=(1, 2, 3), out_axis=0),
            "patches: Glorot uniform, as the matrix (width, channels height width)",
        ),
        RecipeRule(
            r"(y_embedder[./]embedding_table|t_embedder[./]mlp[./]\d)" + WEIGHT,
            RandomNormal(stddev=0.02),
            "classes and time steps: normal, 0.02",
        ),
        RecipeRule(NORM, Ones(), "normalizations: 1"),
        RecipeRule(but("x_embedder", BIAS), Zeros(), "biases: 0"),
        RecipeRule(WEIGHT, GlorotUniform(), "all other weights: Glorot uniform"),
    ]


@recipe_of(
    fits="ControlNet of diffusers (controlnet_down_blocks) and of lllyasviel (zero_convs)",
    source="Zhang, Rao and Agrawala, ICCV 2023, arXiv:2302.05543",
    code="diffusers 0.42, ControlNetModel",
    leaves="everything else, which is copied from the pretrained model",
    notes=("zero convolutions get a gradient in the first step, what is before them in the second",),
    signs=(r"zero_convs|controlnet_down_blocks",),
)
def controlnet() -> list[RecipeRule]:
    """ControlNet."""
    return [
        RecipeRule(
            r"(zero_convs|middle_block_out|controlnet_down_blocks|controlnet_mid_block)[./]",
            Zeros(),
            "the 1 x 1 convolutions to the pretrained model: 0",
        ),
        RecipeRule(
            r"(controlnet_cond_embedding[./]conv_out|input_hint_block[./]14)[./]",
            Zeros(),
            "the last convolution of the encoder of the condition: 0",
        ),
        RecipeRule("", None, "the rest is left as it is"),
    ]


def _read_vit(shapes: Shapes) -> dict[str, Any]:
    heads = [shape[0] for name, shape in shapes.items() if name == "head.weight"]
    return {"classes": heads[0]} if heads else {}


@recipe_of(
    fits="ViT, DINO, and DeiT without distillation of timm (blocks.0.attn.qkv)",
    source="Dosovitskiy and others, ICLR 2021, arXiv:2010.11929; 'moco': Chen, Xie and He, arXiv:2104.02057",
    code="timm 1.0, VisionTransformer.init_weights",
    leaves="in 'timm' and 'moco' the convolution of the patch embedding, which has PyTorch's default",
    notes=(
        "the bounds of timm's trunc_normal_ are -2 and 2, not multiples of std: it is a plain normal "
        "distribution",
        "'jax' takes qkv as one matrix, 'moco' as three",
        "'jax_nlhb' sets the bias of the head to -log(classes), for losses that are sums of binary ones",
    ),
    signs=(r"^blocks\.\d+\.attn\.qkv\.weight", r"^patch_embed\.", r"^pos_embed$"),
    # Many other models of timm have such blocks, and an initialization of their own.
    whole=(
        r"((cls_token|reg_token|pos_embed)$|(patch_embed|norm|norm_pre|fc_norm|head|attn_pool)\."
        r"|blocks\.\d+\.(norm\d|ls\d|attn\.(qkv|proj|norm|q_norm|k_norm)|mlp\.(fc\d|norm))\.)"
    ),
    read=_read_vit,
)
def vit(scheme: Literal["timm", "jax", "jax_nlhb", "moco"] = "timm", classes: int = 1000) -> list[RecipeRule]:
    """Vision transformer."""
    small = TruncatedNormal(stddev=0.02, lower=-100.0, upper=100.0)
    rules = [
        RecipeRule(r"(^|[./])pos_embed$", small, "positions: normal, 0.02, cut at -2 and 2"),
        RecipeRule(r"(^|[./])(cls|reg)_token$", _TINY, "tokens: normal, 1e-6"),
        RecipeRule(NORM, Ones(), "normalizations: 1"),
    ]
    if scheme in ("jax", "jax_nlhb"):
        bias = -math.log(classes) if scheme == "jax_nlhb" else 0.0
        return [
            *rules,
            RecipeRule(r"(^|[./])head[./]weight$", Zeros(), "head: 0"),
            RecipeRule(
                r"(^|[./])head[./]bias$", Constant(bias), f"its bias: {'-log(classes)' if bias else 0}"
            ),
            RecipeRule(r"[./]mlp[./]\w+[./]bias$", _TINY, "biases of feed-forward layers: normal, 1e-6"),
            RecipeRule(BIAS, Zeros(), "other biases: 0"),
            RecipeRule(r"patch_embed[./]proj" + WEIGHT, LecunNormal(), "patches: LeCun normal"),
            RecipeRule(WEIGHT, GlorotUniform(), "all other weights: Glorot uniform"),
        ]
    rules.append(RecipeRule(but("patch_embed", BIAS), Zeros(), "biases: 0"))
    weights = but("patch_embed", WEIGHT)
    if scheme == "moco":
        return [
            *rules,
            RecipeRule(r"qkv" + WEIGHT, GlorotUniform(blocks=3), "qkv: Glorot uniform, as three matrices"),
            RecipeRule(weights, GlorotUniform(), "all other weights: Glorot uniform"),
        ]
    return [*rules, RecipeRule(weights, small, "all other weights: normal, 0.02, cut at -2 and 2")]


_LAYER = r"layer\d+\.\d+\."


def _read_block(shapes: Shapes) -> dict[str, Any]:
    blocks, longer = count(shapes, _LAYER), count(shapes, rf"{_LAYER}(?=conv3)")
    if 0 < longer < blocks:
        raise LookupError("some blocks have two convolutions, and some three")
    return {"block": "basic" if blocks and not longer else "bottleneck"}


@recipe_of(
    fits="models with the names of its code (layer1.0.conv1, bias1a, scale)",
    source="Zhang, Dauphin and Ma, ICLR 2019, arXiv:1901.09321",
    code="hongyi-zhang/Fixup, fixup_resnet_imagenet.py; compared with the formula",
    leaves="the first convolution",
    notes=(
        "a block of m layers has the factor layers**(-1 / (2m - 2)): m is 2 in 'basic', 3 in 'bottleneck'",
        "layers is the number of residual blocks",
    ),
    signs=(r"bias1a$", r"[./]scale$"),
    read=lambda shapes: {"layers": count(shapes, _LAYER), **_read_block(shapes)},
)
def fixup(layers: int, block: Literal["basic", "bottleneck"] = "bottleneck") -> list[RecipeRule]:
    """Fixup, for residual networks without normalization."""
    last, factor = (2, layers**-0.5) if block == "basic" else (3, layers**-0.25)
    power = "1/2" if block == "basic" else "1/4"
    return [
        RecipeRule(rf"{_LAYER}conv{last}\.weight$", Zeros(), "the last convolution of each block: 0"),
        RecipeRule(
            rf"{_LAYER}conv\d\.weight$",
            _he(factor),
            f"others: He normal, fan_out, times layers**(-{power})",
        ),
        RecipeRule(r"downsample\.weight$", _he(), "shortcuts: He normal, fan_out"),
        RecipeRule(r"(^|[.])fc\.(weight|bias)$", Zeros(), "the output layer: 0"),
        RecipeRule(r"(^|[.])scale$", Ones(), "multipliers: 1"),
        RecipeRule(r"(^|[.])bias\d?[ab]?$", Zeros(), "biases: 0"),
    ]


@recipe_of(
    fits="ResNet of torchvision and timm (layer1.0.bn2), and of Keras applications (conv2_block1_3_bn)",
    source="Goyal and others, 2017, arXiv:1706.02677; He and others, ICCV 2015, arXiv:1502.01852",
    code="torchvision 0.29, ResNet with zero_init_residual; timm 1.0, ResNet with zero_init_last",
    leaves="the output layer (a normal of 0.01 in the paper); the stem and the shortcuts of ResNet-D",
    notes=("normalizations of shortcuts are left to their default, 1 and 0",),
    signs=(r"layer1\.0\.bn2\.weight|conv2_block1_3_bn/gamma", r"layer3\.0\.conv1\.weight|conv1_conv/kernel"),
    read=_read_block,
)
def resnet(block: Literal["basic", "bottleneck"] = "bottleneck") -> list[RecipeRule]:
    """ResNet with zero gamma."""
    last = 2 if block == "basic" else 3
    return [
        RecipeRule(
            rf"{_LAYER}bn{last}\.weight$|_block\d+_3_bn/gamma$",
            Zeros(),
            "the scale of the last normalization of each block: 0",
        ),
        RecipeRule(
            r"(^|\.)(conv\d|downsample\.0)\.weight$|_conv/kernel$", _he(), "convolutions: He normal, fan_out"
        ),
        RecipeRule(r"bn\d?\.weight$|_bn/gamma$", Ones(), "other normalizations: 1"),
        RecipeRule(r"bn\d?\.bias$|_bn/beta$|_conv/bias$", Zeros(), "biases: 0"),
    ]


@recipe_of(
    fits="NFNets of timm (skipinit_gain), ReZero (resweight), and scalars named alpha at the end of branches",
    source="De and Smith, NeurIPS 2020, arXiv:2002.10444; Bachlechner and others, UAI 2021, arXiv:2003.04887",
    code="timm 1.0, NormFreeBlock with skipinit",
    leaves="all weights",
    signs=(r"skipinit_gain$|resweight$",),
)
def skipinit() -> list[RecipeRule]:
    """SkipInit and ReZero."""
    return [
        RecipeRule(
            r"(skipinit_gain|resweight|rezero\w*|res_scale|[./]alpha)$",
            Zeros(),
            "the scalar that multiplies each residual branch: 0",
        )
    ]


_SCALES = r"(ls\d\.gamma|layer_scale\w*(\.lambda1|/gamma|/variable(_\d+)?)?|blocks\w*\.\d+\.gamma(_\d)?)$"


@recipe_of(
    fits="CaiT, DeiT III, DINOv2 and ConvNeXt of timm, torchvision, transformers and Keras",
    source="Touvron and others, ICCV 2021, arXiv:2103.17239",
    code="timm 1.0, LayerScale (its default value is 1e-5); torchvision 0.29, ConvNeXt (1e-6)",
    leaves="all weights",
    notes=("the paper has 0.1 up to 18 layers, 1e-5 up to 24, and 1e-6 for deeper models",),
    signs=(_SCALES,),
)
def layerscale(value: float = 1e-5) -> list[RecipeRule]:
    """LayerScale."""
    return [
        RecipeRule(
            _SCALES,
            Constant(value),
            "the scales of the channels of each residual branch: value",
        )
    ]


@recipe_of(
    fits="ViT of timm (blocks.0.attn.qkv, attn.proj)",
    source="Trockman and Kolter, ICML 2023, arXiv:2305.09828, section 4",
    code="none; compared with the formula",
    leaves="everything but the matrices of attention",
    notes=(
        "the paper also has positions of sines and cosines; alpha and beta are its values for images",
        "a head costs a singular value decomposition of a matrix (width, width) in each layer",
    ),
)
def mimetic(heads: int, alpha: float = 0.7, beta: float = 0.7) -> list[RecipeRule]:
    """Mimetic initialization of attention."""
    return [
        RecipeRule(
            r"attn[./]qkv" + WEIGHT,
            Formula("mimetic_qkv", heads=heads, alpha=alpha, beta=beta),
            "for each head, queries times transposed keys is nearly alpha Z + beta I, with Z of variance 1 / "
            "width",
        ),
        RecipeRule(
            r"attn[./]proj" + WEIGHT, Formula("mimetic_proj"), "values times outputs is 0.4 Z - 0.4 I"
        ),
    ]
