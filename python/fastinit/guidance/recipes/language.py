"""Recipes of transformers for text, and methods for deep or wide transformers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from fastinit.initializers import (
    Constant,
    GlorotUniform,
    Ones,
    RandomNormal,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
)

from .spec import BIAS, NORM, TABLE, WEIGHT, RecipeRule, but, count, recipe_of, size

if TYPE_CHECKING:
    from .spec import Shapes

# Models with parts for images or sound, or with state spaces, have another initialization there.
_TEXT = r"(?!.*(vision|visual|image|audio|patch|conv|mamba|A_log|dt_bias))"
_BLOCK = r"^(.*[./])?(h|layers?|block|blocks)[./_]\d+[./]"
# In some models of these names the scale of a normalization is 1 + weight.
_NO_NORM = but(r"((?i:norm)[^./]*([./]\d+)?|[./]ln_\w+)[./]weight$", r"[./](weight|kernel|embeddings?)$")
_EMBEDDING = r"(?i)(wte|wpe|emb\w*|shared)" + TABLE


def _defaults(norm: float = 1.0) -> list[RecipeRule]:
    """What nearly all have: scales of normalizations 1, and biases 0."""
    scale = Ones() if norm == 1.0 else Constant(norm)
    return [
        RecipeRule(NORM, scale, "normalizations: 1" if norm == 1.0 else "normalizations: factor"),
        RecipeRule(BIAS, Zeros(), "biases: 0"),
    ]


def _normal(std: float) -> RandomNormal:
    return RandomNormal(stddev=std)


def _fan_in(scale: float) -> VarianceScaling:
    return VarianceScaling(scale, "fan_in", "untruncated_normal")


@recipe_of(
    fits="GPT-2 of transformers and nanoGPT, and models with their names (c_attn, c_proj)",
    source="Radford and others, 'Language models are unsupervised multitask learners', 2019",
    code="transformers 5.23, GPT2PreTrainedModel._init_weights",
    notes=(
        "the code of OpenAI has 0.01 for the embeddings of positions (positions=0.01) and scales no residual "
        "projections; the paper says that their weights are scaled by 1 / sqrt(residual layers)",
    ),
    signs=(r"[./]c_attn[./]", r"[./]c_proj[./]"),
    # The first GPT has the same blocks, and scales no projections.
    whole=_TEXT + r"(?!.*(tokens|positions)_embed[./])",
    read=lambda shapes: {"layers": count(shapes, _BLOCK)},
)
def gpt2(layers: int, std: float = 0.02, positions: float = 0.02) -> list[RecipeRule]:
    """GPT-2."""
    return [
        *_defaults(),
        RecipeRule(
            r"[./](c_proj|attention_output|feedforward_output_dense)" + WEIGHT,
            _normal(std / math.sqrt(2 * layers)),
            "the two projections of each block that are added to the residual stream: normal, "
            "std / sqrt(2 layers)",
        ),
        RecipeRule(r"(wpe|position\w*)" + TABLE, _normal(positions), "positions: normal, positions"),
        RecipeRule(r"[./](weight|kernel|embeddings?)$", _normal(std), "all other weights: normal, std"),
    ]


@recipe_of(
    fits="Mixtral of transformers (routers mlp.gate, experts in one tensor), and Switch Transformers",
    source=(
        "Jiang and others, 2024, arXiv:2401.04088; Fedus, Zoph and Shazeer, JMLR 23, 2022, arXiv:2101.03961"
    ),
    code="transformers 5.23, MixtralPreTrainedModel._init_weights; of 'switch' the paper, section 2.4",
    leaves="in 'mixtral' the normalizations",
    notes=(
        "routers of Mixtral get what other weights get; 'switch' is a normal truncated at two standard "
        "deviations, with sqrt(0.1 / fan_in), a tenth of the usual variance, for routers and experts alike",
    ),
    signs=(r"experts[./]", r"(mlp|moe|block_sparse_moe|router)[./](gate|classifier)"),
    whole=_TEXT,
    read=lambda shapes: {"scheme": "switch"} if any("router.classifier" in name for name in shapes) else {},
)
def moe(std: float = 0.02, scheme: Literal["mixtral", "switch"] = "mixtral") -> list[RecipeRule]:
    """Mixture of experts."""
    if scheme == "switch":
        # The std of the source is that of the normal before it is truncated.
        reduced = VarianceScaling(0.1 * 0.87962566103423978**2, "fan_in", "truncated_normal")
        return [
            *_defaults(),
            RecipeRule(_EMBEDDING, _normal(1.0), "embeddings: normal, 1"),
            RecipeRule(WEIGHT, reduced, "all weights, routers too: truncated normal, sqrt(0.1 / fan_in)"),
        ]
    return [
        RecipeRule(BIAS, Zeros(), "biases: 0"),
        RecipeRule(r"(mlp|moe)[./]gate" + WEIGHT, _normal(std), "routers: normal, std"),
        RecipeRule(r"experts[./](gate_up_proj|down_proj)$", _normal(std), "experts: normal, std"),
        RecipeRule(_NO_NORM, _normal(std), "all other weights: normal, std"),
    ]


@recipe_of(
    fits="Llama, Mistral, Qwen and Gemma of transformers, and models with their names (q_proj, gate_proj)",
    source="Touvron and others, 2023, arXiv:2302.13971; it does not state an initialization",
    code="transformers 5.23, PreTrainedModel._init_weights with initializer_range 0.02",
    leaves="normalizations, whose scale is weight in Llama and 1 + weight in Gemma",
    notes=("residual projections are not scaled; the row of the padding token is zero, as in its embedding",),
    signs=(r"[./]q_proj[./]", r"[./]gate_proj[./]"),
    whole=_TEXT,
)
def llama(std: float = 0.02) -> list[RecipeRule]:
    """Llama."""
    return [
        RecipeRule(BIAS, Zeros(), "biases: 0"),
        RecipeRule(_NO_NORM, _normal(std), "all weights: normal, std"),
    ]


def _read_t5(shapes: Shapes) -> dict[str, Any]:
    heads = size(shapes, r"relative_attention_bias[./]", 1)
    return {
        "d_model": size(shapes, r"(shared|embed_tokens)[./]", 1),
        "d_kv": size(shapes, r"SelfAttention[./]q[./]weight", 0) // heads,
    }


@recipe_of(
    fits="T5, mT5 and UMT5 of transformers (SelfAttention.q, DenseReluDense.wi)",
    source="Raffel and others, JMLR 21, 2020, arXiv:1910.10683",
    code="transformers 5.23, T5PreTrainedModel._init_weights",
    notes=(
        "attention is not divided by sqrt(d_kv) in T5: the query weights have that factor instead",
        "a head of its own (lm_head, in T5 v1.1) has the standard deviation of embeddings",
    ),
    signs=(r"SelfAttention[./]q[./]", r"relative_attention_bias[./]", r"[./]wo[./]"),
    read=_read_t5,
)
def t5(d_model: int, d_kv: int = 64, factor: float = 1.0) -> list[RecipeRule]:
    """T5."""
    square = factor**2
    return [
        *_defaults(factor),
        RecipeRule(r"(shared|embed_tokens|lm_head)[./]", _normal(factor), "embeddings: normal, factor"),
        RecipeRule(
            r"relative_attention_bias[./]",
            _normal(factor / math.sqrt(d_model)),
            "relative positions: normal, factor / sqrt(d_model)",
        ),
        RecipeRule(r"[./]q" + WEIGHT, _fan_in(square / d_kv), "queries: normal, factor / sqrt(d_model d_kv)"),
        RecipeRule(
            r"[./](k|v|o|wi|wi_\d|wo)" + WEIGHT,
            _fan_in(square),
            "keys, values, outputs and both feed-forward layers: normal, factor / sqrt(fan_in)",
        ),
    ]


@recipe_of(
    fits="BERT and RoBERTa of transformers (attention.self.query)",
    source="Devlin and others, NAACL 2019, arXiv:1810.04805",
    code="transformers 5.23, BertPreTrainedModel; 'original': google-research/bert, modeling.py",
    notes=(
        "the original code truncates at two std, which leaves 0.88 std; transformers does not",
        "transformers sets the row of the padding token of embeddings to zero, and so does initialize",
    ),
    signs=(r"attention[./]self[./]query[./]",),
    whole=_TEXT,
)
def bert(std: float = 0.02, scheme: Literal["transformers", "original"] = "transformers") -> list[RecipeRule]:
    """BERT."""
    weights = _normal(std) if scheme == "transformers" else TruncatedNormal(stddev=std)
    kind = "normal" if scheme == "transformers" else "normal, truncated at 2 std"
    return [
        *_defaults(),
        RecipeRule(r"[./](weight|kernel|embeddings?)$", weights, f"all weights: {kind}, std"),
    ]


# Of fairseq and torchscale, and of transformers' OPT and BART.
_VALUES = r"[./](v_proj|out_proj|fc1|fc2)" + WEIGHT


@recipe_of(
    fits="encoder-decoder models with the names of fairseq (encoder.layers.0.self_attn.v_proj, fc1)",
    source="Huang, Pérez, Ba and Volkovs, ICML 2020",
    code="layer6ai-labs/T-Fixup, transformer_layer.py; compared with the formula",
    notes=(
        "remove the layer normalizations and the warmup of the learning rate",
        "in the code, queries and keys have fairseq's factor sqrt(1/2), too; the paper does not mention it",
    ),
)
def t_fixup(layers: int, d_model: int, decoder_layers: int) -> list[RecipeRule]:
    """T-Fixup, for transformers without layer normalization and warmup."""
    encoder, decoder = 0.67 * layers**-0.25, (9 * decoder_layers) ** -0.25
    return [
        *_defaults(),
        RecipeRule(
            r"emb\w*" + TABLE,
            _normal(decoder / math.sqrt(d_model)),
            "embeddings: normal, (9 decoder_layers)**(-1/4) / sqrt(d_model)",
        ),
        RecipeRule(
            r"^(.*[./])?decoder[./].*" + _VALUES,
            VarianceScaling(decoder**2, "fan_avg", "uniform"),
            "decoder: values, outputs and feed-forward layers: Glorot uniform times "
            "(9 decoder_layers)**(-1/4)",
        ),
        RecipeRule(
            _VALUES,
            VarianceScaling(encoder**2, "fan_avg", "uniform"),
            "encoder: the same, times 0.67 layers**(-1/4)",
        ),
        RecipeRule(WEIGHT, GlorotUniform(), "all other weights: Glorot uniform"),
    ]


@recipe_of(
    fits="encoders or decoders alone with the names of fairseq or torchscale (v_proj, out_proj, fc1, fc2)",
    source="Wang and others, 2022, arXiv:2203.00555, figure 2",
    code="microsoft/torchscale, architecture/encoder.py; compared with the formula",
    leaves="embeddings",
    notes=(
        "each residual connection is LayerNorm(alpha x + f(x)) with alpha = (2 layers)**(1/4), which is part "
        "of the model",
    ),
)
def deepnorm(layers: int) -> list[RecipeRule]:
    """DeepNorm, for transformers of hundreds of layers."""
    beta = (8 * layers) ** -0.25
    return [
        *_defaults(),
        RecipeRule(
            _VALUES,
            VarianceScaling(beta**2, "fan_avg", "untruncated_normal"),
            "values, outputs and feed-forward layers: Glorot normal times (8 layers)**(-1/4)",
        ),
        RecipeRule(
            r"[./](q_proj|k_proj)" + WEIGHT,
            VarianceScaling(1.0, "fan_avg", "untruncated_normal"),
            "queries and keys: Glorot normal",
        ),
    ]


@recipe_of(
    fits="models with names such as wte, embed_tokens, lm_head, head or readout",
    source="Yang and others, 'Tensor programs V', 2022, arXiv:2203.03466, table 8",
    code="mup 1.0, mup.init.normal_ and MuReadout",
    notes=(
        "multiply the logits, and Adam's learning rate of hidden weights, by base_width / width, and "
        "attention by 1 / d_kv instead of 1 / sqrt(d_kv): a rule cannot do that",
        "the head is 0, as the paper recommends; with tied embeddings it is the embedding",
    ),
)
def mup(width: int, base_width: int, std: float = 0.02) -> list[RecipeRule]:
    """muP, by which learning rates carry over from a narrow model to a wide one."""
    return [
        *_defaults(),
        RecipeRule(r"(?i)(^|[./_])(lm_head|head|readout|classifier|logits)" + WEIGHT, Zeros(), "head: 0"),
        RecipeRule(_EMBEDDING, _normal(std), "embeddings: normal, std, at any width"),
        RecipeRule(
            WEIGHT,
            _normal(std * math.sqrt(base_width / width)),
            "hidden weights: normal, std sqrt(base_width / width)",
        ),
    ]
