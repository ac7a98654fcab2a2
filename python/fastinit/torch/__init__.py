"""`torch.nn.init` at the speed of memory, and the initialization of whole models.

Every name of `torch.nn.init` is here, with the same signature, defaults, checks, warnings and result. To use
it, change one import:

>>> import torch
>>> import fastinit.torch as init  # was: import torch.nn.init as init
>>> weight = torch.nn.Parameter(torch.empty(512, 2048))
>>> init.kaiming_normal_(weight, nonlinearity="relu") is weight
True

It also has the initializers that timm adds (`trunc_normal_tf_`, `variance_scaling_`, `lecun_normal_`), gains
for more activations (`calculate_gain`), a context in which unmodified code samples with fastinit
(`accelerate`), and the initialization of a model by the names of its parameters (`initialize`), in memory or,
by a plan of it, in files (`plan`).

**Values.** The distributions are those of `torch.nn.init`, the values are not. Element *i* of a tensor, in C
order of its logical shape, does not depend on its memory layout, on the number of threads or on the device,
and the half dtypes hold the float32 values, rounded once.

**Seeds.** Each fill draws one 64-bit seed from `generator`, which advances it; `None` is the global generator
of the CPU, for tensors of any device. So `torch.manual_seed` reproduces a run, and
`torch.Generator().manual_seed(s)` gives what `torch.manual_seed(s)` gives. (`initialize` draws nothing.)

>>> _ = torch.manual_seed(0)
>>> a = init.normal_(torch.empty(4, 3))
>>> b = init.normal_(torch.empty(3, 4).T, generator=torch.Generator().manual_seed(0))
>>> torch.equal(a, b)
True

**Tensors.** float32, float64, float16 and bfloat16 tensors on the CPU are filled in place, whatever their
strides, without a copy; bfloat16 needs the package ml_dtypes. Tensors on other devices are filled piece by
piece through a small buffer on the CPU, which each thread keeps. Each process fills the part of a `DTensor`
that it holds with the values of that part; if the generators of all processes are in the same state, as
PyTorch requires, the parts make one tensor. As in `torch.nn.init`, autograd records only that the tensor has
changed. The number of threads is at most the smaller one of `torch.get_num_threads()` and
`fastinit.get_num_threads()`.

PyTorch's own functions handle, or refuse, what fastinit does not fill: other dtypes, such as complex ones,
and other layouts; tensors on the meta device, which stay as they are, and empty ones; tensors that overlap
themselves; other subclasses of `Tensor` with their own `__torch_function__` or `__torch_dispatch__`, such
as `FakeTensor`; code inside a `TorchDispatchMode` that does not carry operations out, and code that
`torch.compile` or a transform of `torch.func` is tracing; and parameters that fastinit does not take,
such as an infinite standard deviation. `constant_`, `ones_` and `zeros_` call PyTorch's functions.

**Replaced functions.** Some libraries replace functions of `torch.nn.init` for a time, to protect weights
that they have loaded (transformers) or to skip initialization. A function here then calls the replacement,
which decides whether the tensor is filled; where it calls PyTorch's function, fastinit fills. The same
holds for a `TorchFunctionMode` that PyTorch's function is passed to. A function that PyTorch does not have
follows the one that it is built on: `trunc_normal_`, `normal_` or `uniform_`.

This module imports PyTorch; `import fastinit` does not.
"""

from fastinit._report import Report, ReportRow

from ._accelerate import accelerate
from ._dcp import write_dcp
from ._functions import (
    _calculate_correct_fan,  # noqa: F401 - mup, timm and others import these from torch.nn.init.
    _calculate_fan_in_and_fan_out,  # noqa: F401
    _no_grad_fill_,  # noqa: F401
    _no_grad_normal_,  # noqa: F401
    _no_grad_trunc_normal_,  # noqa: F401
    _no_grad_uniform_,  # noqa: F401
    _no_grad_zero_,  # noqa: F401
    constant,
    constant_,
    dirac,
    dirac_,
    eye,
    eye_,
    kaiming_normal,
    kaiming_normal_,
    kaiming_uniform,
    kaiming_uniform_,
    lecun_normal_,
    normal,
    normal_,
    ones_,
    orthogonal,
    orthogonal_,
    sparse,
    sparse_,
    trunc_normal_,
    trunc_normal_tf_,
    uniform,
    uniform_,
    variance_scaling_,
    xavier_normal,
    xavier_normal_,
    xavier_uniform,
    xavier_uniform_,
    zeros_,
)
from ._gains import calculate_gain
from ._initialize import initialize
from ._plan import plan

__all__ = [
    "Report",
    "ReportRow",
    "accelerate",
    "calculate_gain",
    "constant",
    "constant_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "initialize",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "lecun_normal_",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "plan",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "trunc_normal_tf_",
    "uniform",
    "uniform_",
    "variance_scaling_",
    "write_dcp",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]
