"""Recipes of recurrent networks and of state spaces."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from fastinit.initializers import (
    Constant,
    GlorotUniform,
    Identity,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    VarianceScaling,
    Zeros,
)

from .formulas import Formula
from .spec import BIAS, NORM, TABLE, WEIGHT, RecipeRule, but, count, recipe_of, size

if TYPE_CHECKING:
    from .spec import Shapes

# PyTorch's default: Kaiming uniform with a = sqrt(5), that is, uniform up to 1 / sqrt(fan_in).
_DEFAULT = VarianceScaling(1 / 3, "fan_in", "uniform")


def _read_mamba(shapes: Shapes) -> dict[str, Any]:
    return {"layers": count(shapes, r"layers[./]\d+[./]")}


@recipe_of(
    fits="Mamba of state-spaces/mamba and of transformers (A_log, dt_proj)",
    source="Gu and Dao, 2023, arXiv:2312.00752, section 3.6",
    code="transformers 5.23, MambaPreTrainedModel; 'original': state-spaces/mamba, compared with the formula",
    leaves="in 'original' the biases of convolutions, which have PyTorch's default",
    notes=(
        "transformers has a normal of std (0.1 by default) where the original has PyTorch's default for "
        "linear layers and 0.02 for embeddings, and does not divide out_proj by sqrt(layers) by default",
        "steps between low and high are at least 0.0001, as in both",
    ),
    signs=(r"A_log$", r"dt_proj[./]"),
    # Models that have other parts, too, such as Jamba, have another initialization.
    whole=r"(?!.*(attn|attention|mlp|feed_forward|ffn|experts|router|patch)[./_])",
    read=_read_mamba,
)
def mamba(
    layers: int,
    scheme: Literal["original", "transformers"] = "original",
    std: float = 0.1,
    low: float = 0.001,
    high: float = 0.1,
) -> list[RecipeRule]:
    """Mamba."""
    original = scheme == "original"
    return [
        RecipeRule(r"A_log$", Formula("log_arange"), "A = -1, -2, ..., -n in each channel: log(1 ... n)"),
        RecipeRule(r"(^|[./])D$", Ones(), "the skip connection D: 1"),
        RecipeRule(r"dt_proj" + WEIGHT, _DEFAULT, "the projection of steps: uniform, 1 / sqrt(rank)"),
        RecipeRule(
            r"dt_proj[./]bias$",
            Formula("softplus_inverse", low=low, high=high, floor=1e-4),
            "its bias: softplus(bias) is log-uniform from low to high",
        ),
        RecipeRule(
            r"out_proj" + WEIGHT,
            VarianceScaling(1 / (3 * layers), "fan_in", "uniform") if original else _DEFAULT,
            "outputs: uniform, 1 / sqrt(fan_in)" + (" / sqrt(layers)" if original else ""),
        ),
        RecipeRule(r"conv1d[./]weight$", _DEFAULT, "convolutions: uniform, 1 / sqrt(fan_in)"),
        RecipeRule(NORM, Ones(), "normalizations: 1"),
        RecipeRule(but("conv1d", BIAS) if original else BIAS, Zeros(), "biases: 0"),
        RecipeRule(
            r"(embeddings?|embed_tokens|lm_head)" + TABLE,
            RandomNormal(stddev=0.02 if original else std),
            "embeddings: normal, " + ("0.02" if original else "std"),
        ),
        RecipeRule(
            WEIGHT,
            _DEFAULT if original else RandomNormal(stddev=std),
            "all other weights: " + ("uniform, 1 / sqrt(fan_in)" if original else "normal, std"),
        ),
    ]


@recipe_of(
    fits="S4D of state-spaces/s4 (log_A_real, A_imag, log_dt, C, D)",
    source="Gu, Goel, Gupta and Ré, NeurIPS 2022, arXiv:2206.11893",
    code="state-spaces/s4, models/s4/s4d.py; compared with the formula",
    leaves="the output layer",
    notes=("A_n = -1/2 + i pi n; each part of the complex C has the variance 1/2",),
    signs=(r"log_A_real$", r"A_imag$"),
)
def s4d(low: float = 0.001, high: float = 0.1) -> list[RecipeRule]:
    """S4D-Lin."""
    return [
        RecipeRule(r"log_A_real$", Constant(math.log(0.5)), "the real part of -A: log(1/2)"),
        RecipeRule(r"A_imag$", Formula("arange", scale=math.pi), "the imaginary part of A: pi n"),
        RecipeRule(
            r"log_dt$",
            RandomUniform(math.log(low), math.log(high)),
            "steps: log-uniform from low to high",
        ),
        RecipeRule(r"(^|[./])C$", RandomNormal(stddev=math.sqrt(0.5)), "C: complex normal of variance 1"),
        RecipeRule(r"(^|[./])D$", RandomNormal(stddev=1.0), "the skip connection D: normal, 1"),
    ]


_INPUT = r"weight_ih(_\w+)?$|(?<!recurrent_)kernel$"
_RECURRENT = r"weight_hh(_\w+)?$|recurrent_kernel$"
_LSTM_BIAS = r"bias_ih(_\w+)?$|lstm\w*/([^/]+/)*bias$"
_OTHER_BIAS = r"bias_hh(_\w+)?$"


def _read_lstm(shapes: Shapes) -> dict[str, Any]:
    hidden = size(shapes, r"weight_hh_l0$", 1) if any("weight_hh" in name for name in shapes) else None
    if hidden is not None and size(shapes, r"weight_hh_l0$", 0) != 4 * hidden:
        raise LookupError("other recurrent layers of PyTorch have the same names, and no four gates")
    return {}


@recipe_of(
    fits="LSTM of PyTorch (weight_ih_l0), Keras (lstm_cell) and Flax (hf)",
    source=(
        "Gers, Schmidhuber and Cummins, Neural Computation 12, 2000; Jozefowicz, Zaremba and Sutskever, "
        "ICML 2015"
    ),
    code="Keras 3.15, LSTM with unit_forget_bias",
    leaves="other layers",
    notes=(
        "PyTorch adds two biases: the second is 0",
        "Keras makes the recurrent kernel orthogonal as a whole, so that each gate has half the scale of an "
        "orthogonal matrix; fastinit.recommend('tanh', 'LSTM') takes a block for each gate",
    ),
    signs=(r"weight_hh_l0$|lstm_cell/recurrent_kernel$",),
    read=_read_lstm,
)
def lstm(forget_bias: float = 1.0) -> list[RecipeRule]:
    """LSTM with forget bias."""
    return [
        RecipeRule(_RECURRENT, Orthogonal(), "recurrent kernels: orthogonal"),
        RecipeRule(
            r"weight_ih(_\w+)?$|lstm\w*/([^/]+/)*kernel$", GlorotUniform(), "input kernels: Glorot uniform"
        ),
        RecipeRule(
            _LSTM_BIAS, Formula("forget_bias", value=forget_bias), "biases: forget_bias for forget gates, 0"
        ),
        RecipeRule(r"(^|[./])hf[./]bias$", Constant(forget_bias), "the forget gate of Flax: forget_bias"),
        RecipeRule(_OTHER_BIAS, Zeros(), "the second bias of PyTorch: 0"),
    ]


@recipe_of(
    fits="LSTM of PyTorch (bias_ih_l0) and Keras (lstm_cell)",
    source="Tallec and Ollivier, ICLR 2018, arXiv:1804.11188, section 2",
    code="none; compared with the formula",
    leaves="kernels, and other layers",
    notes=("steps is about the length of the longest dependency in the data; PyTorch's second bias is 0",),
)
def chrono(steps: int) -> list[RecipeRule]:
    """LSTM with chrono initialization, for long dependencies."""
    return [
        RecipeRule(
            _LSTM_BIAS,
            Formula("chrono", steps=steps),
            "forget gates: log(uniform from 1 to steps - 1); input gates: the negative; others: 0",
        ),
        RecipeRule(_OTHER_BIAS, Zeros(), "the second bias of PyTorch: 0"),
    ]


@recipe_of(
    fits="RNN of PyTorch (weight_hh_l0) and SimpleRNN of Keras (recurrent_kernel)",
    source="Le, Jaitly and Hinton, 2015, arXiv:1504.00941",
    code="none; compared with the formula",
    notes=("use ReLU as the activation; scale below 1 shortens the memory",),
)
def irnn(scale: float = 1.0, std: float = 0.001) -> list[RecipeRule]:
    """IRNN, simple recurrent networks with ReLU."""
    return [
        RecipeRule(_RECURRENT, Identity(scale), "recurrent kernels: scale times the identity"),
        RecipeRule(_INPUT, RandomNormal(stddev=std), "input kernels: normal, std"),
        RecipeRule(r"bias(_\w+)?$", Zeros(), "biases: 0"),
    ]
