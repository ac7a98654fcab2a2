"""Gains: the factor on the standard deviation of weights that compensates for the activation."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fastinit.theory.gains import root_gain
from fastinit.theory.quadrature import normal_mean_square

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from fastinit._typing import Array

# Taken at import, so that replacing the name there later does not matter.
_torch_gain: Callable[..., float] = torch.nn.init.calculate_gain

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": torch.nn.functional.gelu,
    "mish": torch.nn.functional.mish,
    "silu": torch.nn.functional.silu,
    "swish": torch.nn.functional.silu,
}


def calculate_gain(nonlinearity: str | Callable[[Tensor], Any], param: float | None = None) -> float:
    """The recommended gain for an activation.

    For names that PyTorch knows it is PyTorch's: 1 for `"linear"`, the convolutions and `"sigmoid"`, 5/3
    for `"tanh"`, sqrt(2) for `"relu"`, sqrt(2 / (1 + slope**2)) for `"leaky_relu"`, 3/4 for `"selu"`.

    For `"gelu"`, `"silu"` (also called `"swish"`), `"mish"`, `"elu"` and functions it is the forward gain 1 /
    sqrt(E f(z)**2) for a standard normal z: with it, a layer keeps a mean square of 1. For ReLU this is
    sqrt(2), too.

    Args:
        nonlinearity: A name; or an elementwise function of a one-dimensional float64 tensor, such as a
            module; or a ufunc of NumPy.
        param: The negative slope of `"leaky_relu"`, 0.01 if `None`; the alpha of `"elu"`, 1 if `None`. Other
            activations ignore it.

    Returns:
        The gain. Where it is computed by quadrature, the relative error is below 1e-6.

    Raises:
        ValueError: If the name is unknown, `param` is not a number, or a function is zero everywhere or has
            no finite mean square.

    Example:
        >>> import fastinit.torch as init
        >>> init.calculate_gain("tanh")
        1.6666666666666667
        >>> round(init.calculate_gain("gelu"), 4)
        1.5335
        >>> round(init.calculate_gain(lambda z: z.clamp(min=0) ** 2), 4)
        0.8165

    References:
        He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level performance on ImageNet
        classification", ICCV 2015, arXiv:1502.01852. Poole, Lahiri, Raghu, Sohl-Dickstein and Ganguli,
        "Exponential expressivity in deep neural networks through transient chaos", NeurIPS 2016,
        arXiv:1606.05340.
    """
    if isinstance(nonlinearity, str):
        if nonlinearity in _ACTIVATIONS:
            return _named_gain(nonlinearity)
        if nonlinearity == "elu":
            alpha = 1.0 if param is None else param
            if isinstance(alpha, bool) or not isinstance(alpha, (int, float)):
                raise ValueError(f"alpha {param} not a valid number")
            return _named_gain("elu", float(alpha))
    elif callable(nonlinearity):
        return _forward_gain(nonlinearity)
    return _torch_gain(nonlinearity, param)


@functools.lru_cache(maxsize=64)
def _named_gain(name: str, alpha: float = 1.0) -> float:
    if name == "elu":
        return _forward_gain(lambda z: torch.nn.functional.elu(z, alpha))
    return _forward_gain(_ACTIVATIONS[name])


def _forward_gain(activation: Callable[[Tensor], Any]) -> float:
    """1 / sqrt(E f(z)**2)."""

    def values(z: Array) -> Any:
        with torch.no_grad(), torch.device("cpu"):
            return activation(z if isinstance(activation, np.ufunc) else torch.from_numpy(z))

    return root_gain(normal_mean_square(values))
