"""The functions of `torch.nn.init`, and those that timm adds to them.

`fastinit.torch` describes what they have in common.
"""

from __future__ import annotations

import functools
import math
import operator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch

import fastinit
from fastinit.theory.distributions import TRUNCATED_STDDEV

from . import _fill, _redirects, _shards
from ._gains import calculate_gain
from ._redirects import by_block, drop_in, is_replaced, offer, original

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

_P = ParamSpec("_P")
_R = TypeVar("_R")

# PyTorch's own.
_calculate_correct_fan: Callable[..., int] = torch.nn.init._calculate_correct_fan
_calculate_fan_in_and_fan_out = torch.nn.init._calculate_fan_in_and_fan_out
_torch_dirac_ = original("dirac_")
_torch_eye_ = original("eye_")
_torch_orthogonal_ = original("orthogonal_")
_torch_sparse_ = original("sparse_")
_torch_trunc_normal_ = original("trunc_normal_")


def _has_torch_function(tensor: object) -> bool:
    return bool(torch.overrides.has_torch_function_variadic(tensor))


# Constants, which PyTorch writes at the speed of memory


@drop_in
def constant_(tensor: Tensor, val: float) -> Tensor:
    """Every element is `val`, as `torch.nn.init.constant_`.

    Args:
        tensor: The tensor to fill. Any dtype.
        val: The value.

    Returns:
        The tensor.

    Example:
        >>> import torch, fastinit.torch as init
        >>> init.constant_(torch.empty(3), 0.5)
        tensor([0.5000, 0.5000, 0.5000])
    """
    return original("constant_")(tensor, val)


@drop_in
def ones_(tensor: Tensor) -> Tensor:
    """Every element is 1, as `torch.nn.init.ones_`.

    Args:
        tensor: The tensor to fill. Any dtype.

    Returns:
        The tensor.

    Example:
        >>> import torch, fastinit.torch as init
        >>> init.ones_(torch.empty(3))
        tensor([1., 1., 1.])
    """
    return original("ones_")(tensor)


@drop_in
def zeros_(tensor: Tensor) -> Tensor:
    """Every element is 0, as `torch.nn.init.zeros_`.

    Args:
        tensor: The tensor to fill. Any dtype.

    Returns:
        The tensor.

    Example:
        >>> import torch, fastinit.torch as init
        >>> init.zeros_(torch.empty(3))
        tensor([0., 0., 0.])
    """
    return original("zeros_")(tensor)


# Distributions


def _uniform(tensor: Tensor, a: float, b: float, generator: Generator | None = None) -> Tensor:
    return _fill.fill(
        tensor,
        fastinit.RandomUniform,
        (a, b),
        lambda tensor: tensor.uniform_(a, b, generator=generator),
        generator,
    )


def _normal(tensor: Tensor, mean: float, std: float, generator: Generator | None = None) -> Tensor:
    return _fill.fill(
        tensor,
        fastinit.RandomNormal,
        (mean, std),
        lambda tensor: tensor.normal_(mean, std, generator=generator),
        generator,
    )


def _trunc_normal(
    tensor: Tensor, mean: float, std: float, a: float, b: float, generator: Generator | None = None
) -> Tensor:
    if isinstance(a, _Bound) and isinstance(b, _Bound):
        return _trunc_normal_tf(tensor, mean, std, a.deviations, b.deviations, generator)

    def fallback(tensor: Tensor) -> Tensor:
        return _torch_trunc_normal_(tensor, mean, std, a, b, generator)

    if _is_far(mean, std, a, b) and _fill.can_fill(tensor):  # Otherwise PyTorch warns.
        _warn_of_far_mean()
    return _fill.fill(
        tensor,
        _truncated_normal,
        (mean, std, a, b),
        fallback,
        generator,
        check=lambda empty: empty.normal_(generator=generator),
    )


def _truncated_normal(mean: float, std: float, a: float, b: float) -> fastinit.Initializer:
    return fastinit.TruncatedNormal(mean, std, *_in_deviations(mean, std, a, b))


def _trunc_normal_tf(
    tensor: Tensor, mean: float, std: float, a: float, b: float, generator: Generator | None = None
) -> Tensor:
    if _is_far(0.0, 1.0, a, b) and _fill.can_fill(tensor):  # Otherwise PyTorch warns.
        _warn_of_far_mean()
    return _fill.fill(
        tensor,
        fastinit.TruncatedNormal,
        (mean, std, a, b),
        lambda tensor: _torch_trunc_normal_(tensor, 0.0, 1.0, a, b, generator).mul_(std).add_(mean),
        generator,
        check=lambda empty: empty.normal_(generator=generator).mul_(std).add_(mean),
    )


class _Bound(float):
    """A bound that was given in standard deviations."""

    deviations: float


def _bound(mean: float, std: float, deviations: float) -> _Bound:
    bound = _Bound(mean + std * deviations)
    bound.deviations = deviations
    return bound


# The functions that PyTorch's public ones call. Called by a user, they follow what has replaced those.


@drop_in
def _no_grad_uniform_(tensor: Tensor, a: float, b: float, generator: Generator | None = None) -> Tensor:
    return (uniform_ if is_replaced("uniform_") else _uniform)(tensor, a, b, generator)


@drop_in
def _no_grad_normal_(tensor: Tensor, mean: float, std: float, generator: Generator | None = None) -> Tensor:
    return (normal_ if is_replaced("normal_") else _normal)(tensor, mean, std, generator)


@drop_in
def _no_grad_trunc_normal_(
    tensor: Tensor, mean: float, std: float, a: float, b: float, generator: Generator | None = None
) -> Tensor:
    fill = trunc_normal_ if is_replaced("trunc_normal_") else _trunc_normal
    return fill(tensor, mean, std, a, b, generator)


@drop_in
def _no_grad_fill_(tensor: Tensor, val: float) -> Tensor:
    return (constant_ if is_replaced("constant_") else original("_no_grad_fill_"))(tensor, val)


@drop_in
def _no_grad_zero_(tensor: Tensor) -> Tensor:
    return (zeros_ if is_replaced("zeros_") else original("_no_grad_zero_"))(tensor)


def _is_far(mean: float, std: float, a: float, b: float) -> bool:
    return mean < a - 2 * std or mean > b + 2 * std


def _warn_of_far_mean() -> None:
    _fill.warn(
        "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. "
        "The distribution of values may be incorrect."
    )


def _in_deviations(mean: float, std: float, a: float, b: float) -> tuple[float, float]:
    """The bounds in standard deviations from the mean. Converted back, they are never outside [a, b]."""

    def back(x: float) -> float:
        # fastinit converts by a fused multiply-add, which rounds once.
        return std * x if mean == 0.0 else float(Fraction(std) * Fraction(x) + Fraction(mean))

    lower, upper = (a - mean) / std, (b - mean) / std
    if math.isfinite(mean) and math.isfinite(std):
        while math.isfinite(lower) and back(lower) < a:
            lower = math.nextafter(lower, math.inf)
        while math.isfinite(upper) and back(upper) > b:
            upper = math.nextafter(upper, -math.inf)
    return lower, upper


@drop_in
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform on [a, b), as `torch.nn.init.uniform_`.

    Args:
        tensor: The tensor to fill.
        a: The least value.
        b: The upper bound; it does not occur, in any dtype.
        generator: Where the seed comes from; `None` for the global generator.

    Returns:
        The tensor.

    Raises:
        RuntimeError: If `a` is greater than `b`, or a bound is not finite in the dtype.

    Example:
        >>> import torch, fastinit.torch as init
        >>> w = init.uniform_(torch.empty(1000, dtype=torch.bfloat16), -1.0, 1.0)
        >>> bool((w >= -1).all() and (w < 1).all())
        True
    """
    if _has_torch_function(tensor):
        return offer("uniform_", tensor, a, b, generator)
    return _no_grad_uniform_(tensor, a, b, generator)


@drop_in
def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Normal, as `torch.nn.init.normal_`.

    Args:
        tensor: The tensor to fill.
        mean: The mean.
        std: The standard deviation; at least 0.
        generator: Where the seed comes from; `None` for the global generator.

    Returns:
        The tensor.

    Raises:
        RuntimeError: If `std` is negative or NaN.

    Example:
        >>> import torch, fastinit.torch as init
        >>> w = init.normal_(torch.empty(100, 100), std=0.02)
        >>> bool(abs(w.std() - 0.02) < 0.001)
        True
    """
    if _has_torch_function(tensor):
        return offer("normal_", tensor, mean, std, generator)
    return _no_grad_normal_(tensor, mean, std, generator)


@drop_in
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Truncated normal on [a, b], as `torch.nn.init.trunc_normal_`.

    The bounds are values, not numbers of standard deviations: with `std=0.02`, the defaults truncate nothing.
    (`trunc_normal_tf_` takes standard deviations.) The distribution is exact for all bounds: deep in a tail,
    close together or one-sided.

    Args:
        tensor: The tensor to fill.
        mean: The mean before truncation.
        std: The standard deviation before truncation; positive.
        a: The lower bound; may be `-inf`. Like `b`, it is rounded to the dtype of a half tensor.
        b: The upper bound; may be `inf`.
        generator: Where the seed comes from; `None` for the global generator.

    Returns:
        The tensor.

    Raises:
        RuntimeError: If `a` is greater than `b`.
        ZeroDivisionError: If `std` is 0.

    Warns:
        UserWarning: If the mean is more than two standard deviations outside of the bounds, as PyTorch does.

    Example:
        >>> import torch, fastinit.torch as init
        >>> w = init.trunc_normal_(torch.empty(100, 100), std=0.5, a=0.0, b=1.0)
        >>> bool((w >= 0).all() and (w <= 1).all())
        True
    """
    return _no_grad_trunc_normal_(tensor, mean, std, a, b, generator)


@by_block
def trunc_normal_tf_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Truncated normal with bounds in standard deviations, as timm's, TensorFlow's and JAX's.

    Args:
        tensor: The tensor to fill.
        mean: The mean before truncation.
        std: The standard deviation before truncation.
        a: The lower bound, in standard deviations from the mean.
        b: The upper bound, in standard deviations from the mean.
        generator: Where the seed comes from; `None` for the global generator.

    Returns:
        The tensor.

    Raises:
        RuntimeError: If `a` is greater than `b`.

    Warns:
        UserWarning: If 0 is more than 2 outside of the bounds.

    Example:
        >>> import torch, fastinit.torch as init
        >>> w = init.trunc_normal_tf_(torch.empty(100, 100), std=0.02)
        >>> float(w.abs().max()) <= 0.04
        True
    """
    if is_replaced("trunc_normal_"):
        return trunc_normal_(tensor, mean, std, _bound(mean, std, a), _bound(mean, std, b), generator)
    return _trunc_normal_tf(tensor, mean, std, a, b, generator)


# Variance scaling


@drop_in
def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform with variance `gain**2 * 2 / (fan_in + fan_out)`, as `torch.nn.init.xavier_uniform_`.

    As for all functions here, the fans of a weight `(out, in, *kernel)` are `fan_in = in * prod(kernel)` and
    `fan_out = out * prod(kernel)`.

    Args:
        tensor: The tensor to fill; at least two dimensions.
        gain: What the standard deviation is multiplied by; at least 0.
        generator: Where the seed comes from; `None` for the global generator.

    Returns:
        The tensor.

    Raises:
        ValueError: If there are fewer than two dimensions.
        RuntimeError: If `gain` is negative.
        ZeroDivisionError: If both fans are 0.

    Example:
        >>> import torch, fastinit.torch as init
        >>> w = init.xavier_uniform_(torch.empty(300, 200), gain=init.calculate_gain("tanh"))
        >>> round(float(w.abs().max()), 2)  # 5 / 3 * sqrt(6 / 500)
        0.18

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010.
    """
    bound = math.sqrt(3.0) * _xavier_std(tensor, gain)
    fill = _no_grad_uniform_ if is_replaced("_no_grad_uniform_") else _uniform
    return fill(tensor, -bound, bound, generator)


@drop_in
def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with variance `gain**2 * 2 / (fan_in + fan_out)`, as `torch.nn.init.xavier_normal_`.

    Unlike `fastinit.glorot_normal`, it is not truncated.

    Args:
        tensor: The tensor to fill; at least two dimensions.
        gain: What the standard deviation is multiplied by; at least 0.
        generator: Where the seed comes from; `None` for the global generator.

    Returns:
        The tensor.

    Raises:
        ValueError: If there are fewer than two dimensions.
        RuntimeError: If `gain` is negative.
        ZeroDivisionError: If both fans are 0.

    Example:
        >>> import torch, fastinit.torch as init
        >>> w = init.xavier_normal_(torch.empty(300, 500))
        >>> bool(abs(w.std() - 0.05) < 0.001)
        True

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010.
    """
    fill = _no_grad_normal_ if is_replaced("_no_grad_normal_") else _normal
    return fill(tensor, 0.0, _xavier_std(tensor, gain), generator)


@drop_in
def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str | Callable[[Tensor], Any] = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform with variance `gain**2 / fan`, as `torch.nn.init.kaiming_uniform_`.

    Args:
        tensor: The tensor to fill; at least two dimensions. An empty one causes a warning.
        a: The negative slope of `"leaky_relu"`; all others ignore it.
        mode: `"fan_in"` keeps the variance of signals in the forward pass, `"fan_out"` that of gradients.
        nonlinearity: The activation that follows the layer: anything that `calculate_gain` takes.
        generator: Where the seed comes from; `None` for the global generator.

    Returns:
        The tensor.

    Raises:
        ValueError: If there are fewer than two dimensions, `mode` or `nonlinearity` is unknown, or `a` is not
            a number.

    Warns:
        UserWarning: If the tensor has no elements.

    Example:
        >>> import torch, fastinit.torch as init
        >>> w = init.kaiming_uniform_(torch.empty(64, 3, 7, 7), mode="fan_out", nonlinearity="relu")
        >>> round(float(w.abs().max()), 3)  # sqrt(2) * sqrt(3 / (64 * 7 * 7))
        0.044

    References:
        He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level performance on ImageNet
        classification", ICCV 2015, arXiv:1502.01852.
    """
    if _has_torch_function(tensor):
        return offer("kaiming_uniform_", tensor, a, mode, nonlinearity, generator)
    if 0 in tensor.shape:
        _fill.warn("Initializing zero-element tensors is a no-op")
        return tensor
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return _uniform(tensor, -bound, bound, generator)


@drop_in
def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str | Callable[[Tensor], Any] = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with variance `gain**2 / fan`, as `torch.nn.init.kaiming_normal_`.

    Unlike `fastinit.he_normal`, it is not truncated.

    Args:
        tensor: The tensor to fill; at least two dimensions. An empty one causes a warning.
        a: The negative slope of `"leaky_relu"`; all others ignore it.
        mode: `"fan_in"` keeps the variance of signals in the forward pass, `"fan_out"` that of gradients.
        nonlinearity: The activation that follows the layer: anything that `calculate_gain` takes.
        generator: Where the seed comes from; `None` for the global generator.

    Returns:
        The tensor.

    Raises:
        ValueError: If there are fewer than two dimensions, `mode` or `nonlinearity` is unknown, or `a` is not
            a number.

    Warns:
        UserWarning: If the tensor has no elements.

    Example:
        >>> import torch, fastinit.torch as init
        >>> w = init.kaiming_normal_(torch.empty(1000, 200), nonlinearity="relu")
        >>> bool(abs(w.std() - 0.1) < 0.001)
        True

    References:
        He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level performance on ImageNet
        classification", ICCV 2015, arXiv:1502.01852.
    """
    if 0 in tensor.shape:
        _fill.warn("Initializing zero-element tensors is a no-op")
        return tensor
    return _normal(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


@by_block
def variance_scaling_(
    tensor: Tensor,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "normal",
    generator: Generator | None = None,
) -> Tensor:
    """Mean 0 and variance `scale / fan`, as timm's.

    Args:
        tensor: The tensor to fill; at least two dimensions.
        scale: The variance times the fan.
        mode: The fan: `"fan_in"`, `"fan_out"` or `"fan_avg"`, the mean of both.
        distribution: `"normal"`, not truncated; `"truncated_normal"`, truncated at two standard deviations
            and corrected for it, so that the variance is as stated; or `"uniform"`.
        generator: Where the seed comes from; `None` for the global generator.

    Returns:
        The tensor.

    Raises:
        ValueError: If there are fewer than two dimensions, `mode` or `distribution` is unknown, or `scale` is
            negative.
        ZeroDivisionError: If the fan is 0.

    Example:
        >>> import torch, fastinit.torch as init
        >>> w = init.variance_scaling_(torch.empty(200, 300), 3.0, "fan_out", "uniform")
        >>> round(float(w.abs().max()), 2)  # sqrt(3 * 3 / 200)
        0.21

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010.
    """
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    if mode not in fans:
        raise ValueError(f"Mode {mode} not supported, please use one of {list(fans)}")
    std = math.sqrt(scale / fans[mode])
    if distribution == "truncated_normal":
        return trunc_normal_tf_(tensor, std=std / TRUNCATED_STDDEV, generator=generator)
    if distribution == "normal":
        return normal_(tensor, 0.0, std, generator)
    if distribution == "uniform":
        bound = math.sqrt(3.0) * std
        return uniform_(tensor, -bound, bound, generator)
    raise ValueError(f"invalid distribution {distribution}")


def lecun_normal_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Truncated normal with variance `1 / fan_in`, as timm's.

    Args:
        tensor: The tensor to fill; at least two dimensions.
        generator: Where the seed comes from; `None` for the global generator.

    Returns:
        The tensor.

    Raises:
        ValueError: If there are fewer than two dimensions.
        ZeroDivisionError: If the fan is 0.

    Example:
        >>> import torch, fastinit.torch as init
        >>> w = init.lecun_normal_(torch.empty(1000, 400))
        >>> bool(abs(w.std() - 0.05) < 0.001)
        True

    References:
        LeCun, Bottou, Orr and Mueller, "Efficient BackProp", in Neural Networks: Tricks of the Trade, 1998.
    """
    return variance_scaling_(tensor, 1.0, "fan_in", "truncated_normal", generator)


def _xavier_std(tensor: Tensor, gain: float) -> float:
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return gain * math.sqrt(2.0 / float(fan_in + fan_out))


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str | Callable[[Tensor], Any]) -> float:
    is_known = type(a) in (int, float) and type(mode) is str and type(nonlinearity) is str
    key = (tensor.shape, a, mode, nonlinearity) if is_known else None
    std = _kaiming_stds.get(key)
    if std is None:
        std = _new_kaiming_std(tensor, a, mode, nonlinearity)
        if key is not None:
            _kaiming_stds[key] = std
            if len(_kaiming_stds) > 1024:
                _kaiming_stds.clear()
    return std


# By shape, slope, mode and nonlinearity, since to compute one takes as long as a small fill.
_kaiming_stds: dict[tuple[Any, ...] | None, float] = {}


def _new_kaiming_std(
    tensor: Tensor, a: float, mode: str, nonlinearity: str | Callable[[Tensor], Any]
) -> float:
    fan = _calculate_correct_fan(tensor, mode)
    # `a` is a slope; its default is not the default parameter of "elu", say.
    gain = calculate_gain(nonlinearity, a if nonlinearity == "leaky_relu" else None)
    return gain / math.sqrt(fan)


# Matrices and kernels

_ORTHOGONAL = functools.partial(fastinit.Orthogonal, column_axis=0)


@drop_in
def orthogonal_(tensor: Tensor, gain: float | Tensor = 1, generator: Generator | None = None) -> Tensor:
    """A random matrix with orthonormal rows or columns, whichever are fewer, as `torch.nn.init.orthogonal_`.

    The matrix is drawn from the Haar measure. A tensor of more than two dimensions is a matrix whose rows lie
    along the first of them. Unlike PyTorch, this supports the half dtypes, whose values are the float32
    values rounded once, and all strides.

    Args:
        tensor: The tensor to fill; at least two dimensions.
        gain: What the matrix is multiplied by: a number, or a tensor that broadcasts to `tensor`.
        generator: Where the seed comes from; `None` for the global generator.

    Returns:
        The tensor.

    Raises:
        ValueError: If there are fewer than two dimensions.

    Example:
        >>> import torch, fastinit.torch as init
        >>> w = init.orthogonal_(torch.empty(3, 5, dtype=torch.float64))
        >>> torch.allclose(w @ w.T, torch.eye(3, dtype=torch.float64))
        True

    References:
        Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
        neural networks", ICLR 2014, arXiv:1312.6120.
    """
    if tensor.ndimension() < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if isinstance(gain, torch.Tensor) and (gain.ndim > 0 or gain.is_meta):
        orthogonal_(tensor, 1, generator)
        if tensor.numel() == 0 or tensor.is_meta:  # PyTorch does not look at the gain.
            return tensor
        with torch.no_grad():
            return tensor.mul_(gain)
    return _fill.fill(
        tensor,
        _ORTHOGONAL,
        (gain,),
        lambda tensor: _torch_orthogonal_(tensor, gain, generator),
        generator,
        check=lambda empty: empty.normal_(generator=generator).mul_(gain),
    )


@drop_in
def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """A matrix with `ceil(sparsity * rows)` zeros in each column, as `torch.nn.init.sparse_`.

    The positions of the zeros are random, and the other elements are normal with mean 0. Unlike in PyTorch,
    the positions come from `generator`, too.

    Args:
        tensor: The tensor to fill; two dimensions.
        sparsity: The share of zeros in each column.
        std: The standard deviation of the other elements.
        generator: Where the seed comes from; `None` for the global generator.

    Returns:
        The tensor.

    Raises:
        ValueError: If there are not two dimensions, or `sparsity` is NaN.
        RuntimeError: If `std` is negative or NaN.

    Example:
        >>> import torch, fastinit.torch as init
        >>> (init.sparse_(torch.empty(10, 4), 0.75) == 0).sum(dim=0)
        tensor([8, 8, 8, 8])

    References:
        Martens, "Deep learning via Hessian-free optimization", ICML 2010.
    """
    if tensor.ndimension() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    return _fill.fill(
        tensor,
        fastinit.Sparse,
        (sparsity, std),
        lambda tensor: _torch_sparse_(tensor, sparsity, std, generator),
        generator,
        check=lambda empty: empty.normal_(0, std, generator=generator),
    )


@drop_in
def eye_(tensor: Tensor) -> Tensor:
    """Ones on the diagonal and zeros elsewhere, as `torch.nn.init.eye_`.

    Args:
        tensor: The tensor to fill; two dimensions.

    Returns:
        The tensor.

    Raises:
        ValueError: If there are not two dimensions.

    Example:
        >>> import torch, fastinit.torch as init
        >>> init.eye_(torch.empty(2, 3))
        tensor([[1., 0., 0.],
                [0., 1., 0.]])
    """
    if tensor.ndimension() != 2 or not (_shards.is_sharded(tensor) or _fill.can_fill(tensor)):
        _torch_eye_(tensor)
        _fill.mark_written(tensor)
        return tensor
    places = torch.arange(min(tensor.shape), device="cpu")[:, None].expand(-1, 2)
    return _set_ones(tensor, places, fastinit.Identity(), (0, 1))


def _set_ones(
    tensor: Any, places: Tensor, initializer: fastinit.Initializer, axes: tuple[int, ...]
) -> Tensor:
    """Fills a tensor, or the parts of it that this process holds, with zeros, and with ones at some places.

    Args:
        tensor: An ordinary or a sharded tensor.
        places: The index of each one, a row each. Those outside the tensor are left out.
        initializer: What does the same, where fastinit can.
        axes: The axes of the tensor in the order of the initializer.
    """
    parts = _shards.parts(tensor)
    if parts is None and tensor.numel() > 0 and not tensor.is_meta:
        raise RuntimeError(f"a tensor with the placements {tensor.placements} cannot be filled")
    with torch.no_grad():
        for part, start in parts or ():
            if _fill.write(part, initializer, tuple(tensor.shape), start, axes):
                continue
            part.zero_()
            here = places - torch.tensor(start, device="cpu")
            held = here[((here >= 0) & (here < torch.tensor(part.shape, device="cpu"))).all(dim=1)]
            part[tuple(held.T.to(part.device))] = 1
        _fill.mark_written(tensor)
    return tensor


@drop_in
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """The weight of a convolution that passes its input through, as `torch.nn.init.dirac_`.

    In each group, output channel *i* takes input channel *i*, by a one in the middle of the kernel; all other
    elements are zero.

    Args:
        tensor: The tensor to fill, `(out, in / groups, *kernel)`; three to five dimensions. Any dtype.
        groups: The number of groups of the convolution; a divisor of `out`.

    Returns:
        The tensor.

    Raises:
        ValueError: If there is another number of dimensions, or `groups` does not divide the outputs.

    Example:
        >>> import torch, fastinit.torch as init
        >>> w = init.dirac_(torch.empty(2, 2, 3))
        >>> w[..., 1]
        tensor([[1., 0.],
                [0., 1.]])
        >>> float(w.sum())
        2.0

    References:
        Zagoruyko and Komodakis, "DiracNets: training very deep neural networks without skip-connections",
        2017, arXiv:1706.00388.
    """
    if tensor.ndimension() not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    if tensor.shape[0] % groups != 0:
        raise ValueError("dim 0 must be divisible by groups")
    if not _fill.is_known(tensor) or tensor.numel() == 0 or groups < 1 or _fill.is_traced():
        return _torch_dirac_(tensor, groups)
    outputs = torch.arange(tensor.shape[0], device="cpu")
    middle = [torch.full_like(outputs, size // 2) for size in tensor.shape[2:]]
    inputs = outputs % (tensor.shape[0] // operator.index(groups))
    places = torch.stack([outputs, inputs, *middle], dim=1)
    return _set_ones(
        tensor, places, fastinit.Dirac(operator.index(groups)), (*range(2, tensor.ndimension()), 1, 0)
    )


# The old names


def _deprecated(function: Callable[_P, _R]) -> Callable[_P, _R]:
    new = function.__name__
    old = new.removesuffix("_")

    def alias(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        _fill.warn(f"`nn.init.{old}` is now deprecated in favor of `nn.init.{new}`.", FutureWarning)
        return function(*args, **kwargs)

    alias.__name__ = alias.__qualname__ = old
    alias.__doc__ = f"Deprecated, as in PyTorch: `{new}` under its old name."
    return drop_in(alias)


uniform = _deprecated(uniform_)
normal = _deprecated(normal_)
constant = _deprecated(constant_)
eye = _deprecated(eye_)
dirac = _deprecated(dirac_)
xavier_uniform = _deprecated(xavier_uniform_)
xavier_normal = _deprecated(xavier_normal_)
kaiming_uniform = _deprecated(kaiming_uniform_)
kaiming_normal = _deprecated(kaiming_normal_)
orthogonal = _deprecated(orthogonal_)
sparse = _deprecated(sparse_)


# What PyTorch's and timm's functions are redirected to. The public functions that are missing call others of
# these, and PyTorch passes them to modes.
_redirects.redirect(
    "torch.nn.init",
    {
        "_no_grad_normal_": _normal,
        "_no_grad_trunc_normal_": _trunc_normal,
        "_no_grad_uniform_": _uniform,
        "dirac_": dirac_,
        "eye_": eye_,
        "kaiming_normal_": kaiming_normal_,
        "kaiming_uniform_": kaiming_uniform_,
        "normal_": _normal,
        "orthogonal_": orthogonal_,
        "sparse_": sparse_,
        "uniform_": _uniform,
        "xavier_normal_": xavier_normal_,
        "xavier_uniform_": xavier_uniform_,
    },
)
_redirects.redirect(
    "timm.layers.weight_init", {"trunc_normal_": trunc_normal_, "trunc_normal_tf_": trunc_normal_tf_}
)
