"""Recipes of implicit representations and of reinforcement learning."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fastinit.initializers import Orthogonal, RandomUniform, VarianceScaling, Zeros

from .spec import BIAS, WEIGHT, RecipeRule, recipe_of

if TYPE_CHECKING:
    from .spec import Shapes


@recipe_of(
    fits="vsitzmann/siren (net.0.linear.weight, net.net.0.0.weight)",
    source="Sitzmann and others, NeurIPS 2020, arXiv:2006.09661, section 3.2 and supplement 1.5",
    code="vsitzmann/siren, modules.py; compared with the formula",
    leaves="biases, which have PyTorch's default",
    notes=("each layer computes sin(omega (W x + b)), of coordinates from -1 to 1",),
)
def siren(inputs: int = 2, omega: float = 30.0) -> list[RecipeRule]:
    """SIREN, networks of sines."""
    return [
        RecipeRule(
            r"(^|[./])net[./]0[./](0|linear)" + WEIGHT,
            RandomUniform(-1 / inputs, 1 / inputs),
            "the first layer: uniform, 1 / inputs",
        ),
        RecipeRule(
            WEIGHT,
            VarianceScaling(2 / omega**2, "fan_in", "uniform"),
            "all others: uniform, sqrt(6 / fan_in) / omega",
        ),
    ]


def _read_heads(shapes: Shapes) -> dict[str, Any]:
    found = [int(number[1]) for name in shapes if (number := re.search(r"actor\w*[./](\d+)[./]weight", name))]
    return {"last": max(found)} if found else {}


@recipe_of(
    fits="CleanRL (actor_mean.4, critic.4, network.0) and Stable-Baselines3 (action_net, value_net)",
    source="Huang and others, 'The 37 implementation details of PPO', ICLR blog track 2022, detail 2",
    code="vwxyzjn/cleanrl, ppo.py, layer_init; compared with the formula",
    leaves="the logarithm of the standard deviation of actions",
    notes=("last is the number of the output layer where actor and critic are sequences of layers",),
    signs=(r"(^|[./])(actor\w*|action_net)[./]", r"(^|[./])(critic|value_net)[./]"),
    read=_read_heads,
)
def rl(gain: float = 2**0.5, policy: float = 0.01, critic: float = 1.0, last: int = 4) -> list[RecipeRule]:
    """Policies and values of PPO."""
    return [
        RecipeRule(BIAS, Zeros(), "biases: 0"),
        RecipeRule(
            rf"(^|[./])(action_net|(actor|actor_mean|policy)([./]{last})?)" + WEIGHT,
            Orthogonal(policy),
            "the output of the policy: orthogonal times policy",
        ),
        RecipeRule(
            rf"(^|[./])(value_net|(critic|value)([./]{last})?)" + WEIGHT,
            Orthogonal(critic),
            "the output of the value: orthogonal times critic",
        ),
        RecipeRule(WEIGHT, Orthogonal(gain), "hidden layers: orthogonal times gain"),
    ]
