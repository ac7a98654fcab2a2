"""Recipes of adapters for pretrained models: the weights of the model itself are left as they are."""

from __future__ import annotations

from typing import Literal

from fastinit.initializers import HeUniform, RandomNormal, VarianceScaling, Zeros

from .spec import RecipeRule, recipe_of, size

_REST = RecipeRule("", None, "the pretrained model is left as it is")


@recipe_of(
    fits="peft (lora_A.default.weight), and layers of Keras after enable_lora (lora_kernel_a)",
    source="Hu and others, ICLR 2022, arXiv:2106.09685",
    code="peft 0.21, LoraLayer.reset_lora_parameters; Keras 3.15, Dense.enable_lora",
    leaves="all weights of the pretrained model",
    notes=(
        "the product is zero at first, and B gets a gradient: this is not a fault",
        "with scheme='gaussian', A has the standard deviation 1 / rank (init_lora_weights='gaussian')",
    ),
    signs=(r"lora_(\w*_)?[aA]\b",),
    read=lambda shapes: {"rank": size(shapes, r"lora_A\b", 0)} if any("lora_A" in n for n in shapes) else {},
)
def lora(rank: int = 8, scheme: Literal["uniform", "gaussian"] = "uniform") -> list[RecipeRule]:
    """LoRA."""
    # PyTorch's default for linear layers: Kaiming uniform with a = sqrt(5), that is 1 / sqrt(fan_in).
    uniform = VarianceScaling(1 / 3, "fan_in", "uniform")
    first = uniform if scheme == "uniform" else RandomNormal(stddev=1 / rank)
    text = "uniform, 1 / sqrt(fan_in)" if scheme == "uniform" else "normal, 1 / rank"
    return [
        RecipeRule(r"lora_embedding_A\b", Zeros(), "A of embeddings: 0"),
        RecipeRule(r"lora_embedding_B\b", RandomNormal(stddev=1.0), "B of embeddings: normal, 1"),
        RecipeRule(r"lora_A\b", first, f"A: {text}"),
        RecipeRule(r"lora_B\b", Zeros(), "B: 0"),
        RecipeRule(r"lora_\w+_a$", HeUniform(), "A in Keras: He uniform"),
        RecipeRule(r"lora_\w+_b$", Zeros(), "B in Keras: 0"),
        _REST,
    ]


@recipe_of(
    fits="nothing by rules: see the notes",
    source="Meng, Wang and Zhang, NeurIPS 2024, arXiv:2404.02948",
    code="peft 0.21, LoraLayer.pissa_init",
    leaves="everything",
    notes=(
        "with the singular value decomposition W = U S V', B = U_r sqrt(S_r), A = sqrt(S_r) V_r', and W is "
        "replaced by W - B A: it depends on the pretrained W and draws nothing, and a rule sees only one "
        "tensor. Use peft (init_lora_weights='pissa')",
    ),
)
def pissa() -> list[RecipeRule]:
    """PiSSA."""
    return [_REST]
