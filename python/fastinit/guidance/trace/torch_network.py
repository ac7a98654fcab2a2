"""A forward and a backward pass of a PyTorch module, measured by hooks that are removed again.

Nothing of the module is different afterwards: neither parameters and their `grad`, nor buffers, modes and the
states of random generators.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fastinit.initializers import Ones, Zeros

from .measure import measure
from .record import (
    TOKENS,
    Kernel,
    Record,
    Weights,
    chosen,
    direction,
    is_shape,
    known_activation,
    norm,
    random_input,
    saturates,
    unknown_shape,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor
    from torch.nn import Module, Parameter

    from fastinit._typing import Array
    from fastinit.initializers import Initializer

nn = torch.nn

# Their output is their input, or a random part of it.
_PASSIVE = (nn.Identity, nn.modules.dropout._DropoutNd, nn.Flatten, nn.Unflatten)
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


class Network:
    """A module, which is checked, with the functions that `trace` and `lsuv` need.

    Raises:
        ValueError: If a parameter has no values.
        TypeError: If the module is one that cannot be traced.
    """

    framework = "torch"

    def __init__(self, model: Module) -> None:
        while isinstance(model, _WRAPPERS):
            model = model.module
        model = getattr(model, "_orig_mod", model)  # a module in torch.compile
        self.model = model
        self.title = type(model).__name__
        self.names: dict[Module, str] = {}
        for name, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                raise TypeError(f"{name or self.title} is compiled by torch.jit: pass the module itself")
            self.names[module] = name.replace("_orig_mod.", "") or self.title
        for name, parameter in model.named_parameters():
            if isinstance(parameter, nn.parameter.UninitializedTensorMixin):
                raise ValueError(f"{name} has no shape yet: call the model once before")
            if parameter.is_meta:
                raise ValueError(
                    f"{name} is on the meta device and has no values: initialize the model before"
                )
            if hasattr(parameter, "to_local") or hasattr(parameter, "_fsdp_flattened"):
                raise TypeError(f"{name} is distributed: trace the model before it is sharded")
        first = next(model.parameters(), None)
        self.device = torch.device("cpu") if first is None else first.device
        floating = (p.dtype for p in model.parameters() if p.is_floating_point())
        self.dtype = next(floating, torch.get_default_dtype())

    # The input

    def inputs(self, batch: Any, seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the model: data on its device, or random data of a shape."""
        if is_shape(batch):
            return self._random(batch, seed)
        if isinstance(batch, Mapping):
            return (), {str(name): self._tensor(value) for name, value in batch.items()}
        if isinstance(batch, (tuple, list)):
            return tuple(map(self._tensor, batch)), {}
        return (self._tensor(batch),), {}

    def _tensor(self, value: Any) -> Any:
        # A copy, since a layer may work in place.
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value.copy())
            return value.to(self.device, self.dtype if value.is_floating_point() else value.dtype)
        return value.to(self.device, copy=True) if isinstance(value, torch.Tensor) else value

    def _random(self, batch: Any, seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        first = next((m for m in self.names if any(True for _ in m.parameters(recurse=False))), None)
        config: Any = getattr(self.model, "config", None)
        main = getattr(self.model, "main_input_name", None)
        below = first.num_embeddings if isinstance(first, (nn.Embedding, nn.EmbeddingBag)) else None
        if main == "input_ids":
            below = getattr(config, "vocab_size", below)
        shape = tuple(batch) if isinstance(batch, (tuple, list)) else None
        if shape is None:
            timm = getattr(self.model, "default_cfg", None) or {}
            if below is not None:
                shape = (batch, TOKENS)
            elif main == "pixel_values" and isinstance(getattr(config, "image_size", None), int):
                shape = (batch, getattr(config, "num_channels", 3), config.image_size, config.image_size)
            elif isinstance(timm, Mapping) and timm.get("input_size"):
                shape = (batch, *timm["input_size"])
            elif isinstance(first, nn.Linear):
                shape = (batch, first.in_features)
            else:
                raise unknown_shape(self.title, batch)
        x = torch.from_numpy(random_input(shape, seed, below)).to(self.device)
        padding = getattr(first, "padding_idx", None)
        if below is not None and padding is not None:  # Its embedding is zero.
            x = torch.where(x == padding, (padding + 1) % below, x)
        x = x if below is not None else x.to(self.dtype)
        return ((), {main: x}) if config is not None and main else ((x,), {})

    # The layers

    def layers(self, patterns: Any) -> dict[Module, str]:
        """The modules to measure: those of these names, or those that compute something themselves."""
        if patterns is not None:
            names = chosen(patterns, list(self.names.values()))
            return {module: name for module, name in self.names.items() if name in names}
        return {
            module: name
            for module, name in self.names.items()
            if not isinstance(module, _PASSIVE)
            and type(module).__name__ not in ("DropPath", "StochasticDepth")
            and (not any(True for _ in module.children()) or _has_weight(module))
        }

    # The passes

    def record(
        self,
        batch: Any,
        *,
        loss: Callable[..., Any] | None,
        target: Any,
        layers: Any,
        training: bool | None,
        seed: int,
    ) -> Record:
        """Runs the model forward and backward."""
        arguments, keywords = self.inputs(batch, seed)
        given = (*arguments, *keywords.values())
        record = Record(*_about(given))
        wanted = self.layers(layers)
        # Otherwise no gradient would go back beyond the first parameter.
        leaves = [x for x in given if isinstance(x, torch.Tensor) and x.requires_grad]
        with (
            self._unchanged(training=training, seed=seed),
            _Hooks(wanted, record, leaves) as hooks,
            torch.enable_grad(),
        ):
            output = self.model(*arguments, **keywords)
            hooks.done()
            value = self._loss(output, loss, self._tensor(target), seed)
            trained = {name: p for name, p in self.parameters().items() if p.requires_grad}
            gradients: dict[str, Tensor | None] = dict.fromkeys(trained)
            if value.requires_grad:
                found = torch.autograd.grad(value, [*trained.values(), *leaves], allow_unused=True)
                gradients = dict(zip(trained, found, strict=False))
                record.loss = float(value.detach())
                record.unused = [name for name, gradient in gradients.items() if gradient is None]
        by_identity = {id(p): gradients[name] for name, p in trained.items()}
        for module, name in wanted.items():
            own = list(module.parameters(recurse=layers is not None))
            trained_here = [p for p in own if id(p) in by_identity]
            here = [g for p in trained_here if (g := by_identity[id(p)]) is not None]
            count = sum(p.numel() for p in own)
            record.weights[name] = Weights(count, norm(map(_array, trained_here)), norm(map(_array, here)))
        return record

    def _loss(self, output: Any, loss: Callable[..., Any] | None, target: Any, seed: int) -> Tensor:
        if loss is not None:
            value = loss(output) if target is None else loss(output, target)
            if not isinstance(value, torch.Tensor) or value.numel() != 1:
                raise TypeError(f"loss must return a tensor with one element, got {value!r:.80}")
            return value.reshape(())
        own = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
        if isinstance(own, torch.Tensor) and own.numel() == 1:
            return own.reshape(())
        y = _first(output)
        if y is None:
            raise TypeError(
                f"the output has no floating-point tensor, got {type(output).__name__}: pass loss="
            )
        return (y.float() * torch.from_numpy(direction(y.shape, seed)).to(y.device)).sum()

    @contextlib.contextmanager
    def _unchanged(self, *, training: bool | None, seed: int) -> Iterator[None]:
        """A context that restores the modes, the buffers and the generators."""
        modes = [(module, module.training) for module in self.names]
        buffers = [(module._buffers, dict(module._buffers)) for module in self.names]
        values = [
            (buffer, buffer.detach().clone())
            for _, own in buffers
            for buffer in own.values()
            if buffer is not None and not buffer.is_meta and not _is_expanded(buffer)
        ]
        devices = {p.device.index for p in self.model.parameters() if p.device.type == "cuda"}
        numpy_state, python_state = np.random.get_state(), random.getstate()
        compiled = any(
            hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
            for module in self.names
        )
        eager = torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext()
        try:
            with torch.random.fork_rng(devices=sorted(devices)), eager:
                self._seed(devices, seed)
                if training is not None:
                    self.model.train(training)
                yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
            if training is not None:  # In LoRA, `train` changes weights.
                for module, mode in modes:
                    module.train(mode)
            for module, mode in modes:
                module.training = mode
            for now, before in buffers:
                now.clear()
                now.update(before)
            with torch.no_grad():
                for buffer, value in values:
                    buffer.copy_(value)

    def _seed(self, devices: Iterable[int], seed: int) -> None:
        """Seeds all generators that the model may use; those of other devices are left alone."""
        torch.default_generator.manual_seed(seed)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)

    # Rules

    def parameters(self) -> dict[str, Parameter]:
        """The parameters by their names, those that are tied by the first one."""
        return {name.replace("_orig_mod.", ""): p for name, p in self.model.named_parameters()}

    def kernels(self) -> tuple[list[Kernel], dict[str, str]]:
        """The kernels that rules can be for, and why others are not among them, by name."""
        parameters = self.parameters()
        names = {id(p): name for name, p in parameters.items()}
        users: dict[int, list[tuple[Module, str]]] = {}
        for module in self.names:
            for leaf, parameter in module._parameters.items():
                if parameter is not None:
                    users.setdefault(id(parameter), []).append((module, leaf))
        found, skipped = [], {}
        for name, parameter in parameters.items():
            module, leaf = users[id(parameter)][0]
            if parameter.dim() < 2 or isinstance(module, _NORMS):
                continue
            axis = _output_axis(module)
            if leaf != "weight" or axis is None:
                skipped[name] = f"{type(module).__name__} is not a layer with one kernel"
            elif any(isinstance(user, _EMBEDDINGS) for user, _ in users[id(parameter)]):
                skipped[name] = "it is an embedding, too"
            else:
                bias = names.get(id(module._parameters.get("bias")))
                found.append(Kernel(name, self.names[module], axis, bias))
        return found, skipped

    def norms(self) -> dict[str, Initializer]:
        """The rules by which normalizations do nothing but normalize."""
        names = {id(p): name for name, p in self.parameters().items()}
        return {
            names[id(parameter)]: Zeros() if leaf == "bias" else Ones()
            for module in self.names
            if isinstance(module, _NORMS)
            for leaf, parameter in module._parameters.items()
            if parameter is not None
        }

    @contextlib.contextmanager
    def changed(self, rules: Mapping[str, Initializer], seed: int) -> Iterator[None]:
        """A context in which parameters have the values of rules."""
        names = {id(p): name for name, p in self.parameters().items()}
        new: dict[int, Any] = {}
        places = []
        for module in self.names:
            for leaf, parameter in module._parameters.items():
                if parameter is None or (name := names[id(parameter)]) not in rules:
                    continue
                places.append((module._parameters, leaf, parameter))
                if id(parameter) not in new:
                    value = _values(rules[name], parameter, seed, name)
                    new[id(parameter)] = nn.Parameter(value, parameter.requires_grad)
        try:
            for owner, leaf, parameter in places:
                owner[leaf] = new[id(parameter)]
            yield
        finally:
            for owner, leaf, parameter in places:
                owner[leaf] = parameter

    def apply(self, rules: Mapping[str, Initializer], seed: int) -> None:
        """Writes the values of rules into the parameters."""
        parameters = self.parameters()
        missing = next((name for name in rules if name not in parameters), None)
        if missing is not None:
            raise ValueError(f"the model has no parameter {missing!r}")
        # All are made before one is written, so that an error leaves the model as it is.
        values = [_values(rule, parameters[name], seed, name) for name, rule in rules.items()]
        with torch.no_grad():
            for name, value in zip(rules, values, strict=True):
                parameters[name].copy_(value)

    def measured_gains(
        self, kernels: Sequence[Kernel], batch: Any, *, std: float, training: bool | None, seed: int
    ) -> dict[str, float]:
        """The factors for kernels, one layer after the other, with which outputs have this std.

        Biases must be zero. In one forward pass: each kernel is scaled when its layer is called first, and so
        is the output of that call.
        """
        arguments, keywords = self.inputs(batch, seed)
        parameters = self.parameters()
        by_weight = {id(parameters[kernel.name]): kernel for kernel in kernels}
        gains: dict[str, float] = {}
        handles = []

        def scale(kernel: Kernel) -> Callable[..., Any]:
            def hook(module: Module, _: Any, output: Any) -> Any:
                if kernel.name in gains or not isinstance(output, torch.Tensor):
                    return None
                found = float(output.double().std(correction=0))
                gains[kernel.name] = gain = std / found if 0.0 < found < math.inf else 1.0
                module.weight.mul_(gain)
                return output * gain

            return hook

        with self._unchanged(training=training, seed=seed), torch.no_grad():
            try:
                for module in self.names:  # Several, if they share a kernel.
                    kernel = by_weight.get(id(module._parameters.get("weight")))
                    if kernel is not None:
                        handles.append(module.register_forward_hook(scale(kernel)))
                self.model(*arguments, **keywords)
            finally:
                for handle in handles:
                    handle.remove()
        return gains


_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


def _has_weight(module: Module) -> bool:
    """Whether it has a kernel of its own, as attention has."""
    return any("weight" in name and p.dim() > 1 for name, p in module.named_parameters(recurse=False))


def _output_axis(module: Module) -> int | None:
    """The axis of the outputs in the weight of a layer; `None` if it is not a linear layer."""
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return 1
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):  # That of transformers has (in, out).
        return 1
    return 0 if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)) else None


def _values(rule: Initializer, parameter: Tensor, seed: int, name: str) -> Tensor:
    """The values of a rule for a parameter."""
    dtype = "float64" if parameter.dtype == torch.float64 else "float32"
    array = rule(tuple(parameter.shape), seed=seed, stream=name, dtype=dtype)
    return torch.from_numpy(array).to(parameter.device, parameter.dtype)


def _is_expanded(x: Tensor) -> bool:
    """Whether elements are the same memory, as after `expand`: then PyTorch cannot write to it in place."""
    if x.layout != torch.strided:
        return False
    return any(size > 1 and stride == 0 for size, stride in zip(x.shape, x.stride(), strict=True))


class _Hooks:
    """A context with hooks that record the calls of modules."""

    def __init__(self, wanted: Mapping[Module, str], record: Record, leaves: list[Tensor]) -> None:
        self.wanted = wanted
        self.record = record
        self.leaves = leaves
        self.is_on = True
        self.axis = -1
        self.head: Tensor | None = None
        self.inputs: dict[Module, Array] = {}
        self.activations = {module: known_activation(module) for module in wanted}
        self.handles: list[Any] = []

    def __enter__(self) -> _Hooks:
        try:
            for module in self.wanted:
                if saturates(self.activations[module]):  # Read before, since the module may work in place.
                    self.handles.append(module.register_forward_pre_hook(self.before))
                self.handles.append(module.register_forward_hook(self.after))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def done(self) -> None:
        """Ends the forward pass; what checkpoints compute again in the backward pass is not recorded."""
        self.is_on = False
        if self.head is not None:
            self.record.head_input = measure(_array(self.head), -1, self.record.samples)

    def before(self, module: Module, arguments: tuple[Any, ...]) -> None:
        x = _first(arguments)
        if self.is_on and x is not None:
            self.inputs[module] = _array(x).copy()

    def after(self, module: Module, arguments: tuple[Any, ...], output: Any) -> Any:
        y = _first(output)
        if y is None:
            return None
        if self.is_on and any(True for _ in module.parameters(recurse=False)):
            self.head = _first(arguments)
        # In a checkpoint, the second forward pass must have the same operations.
        replaced = y is output and torch.is_grad_enabled() and not y.requires_grad
        if replaced:
            leaf = y.detach().requires_grad_()
            if self.is_on:
                self.leaves.append(leaf)
            y = leaf.clone()  # A leaf cannot be changed in place, as the next layer may do.
        if self.is_on:
            self.add(module, y)
        return y if replaced else None

    def add(self, module: Module, y: Tensor) -> None:
        kind = type(module).__name__
        self.axis = _unit_axis(module, self.axis)
        axis = self.axis if y.dim() > 2 else -1
        name = self.wanted[module]
        z = self.inputs.pop(module, None)
        call = self.record.add(name, kind, _array(y), axis, self.activations[module], z)
        if y.requires_grad:
            record = self.record  # Removed again, since it may be on a parameter that the module returns.
            hook = y.register_hook(lambda gradient: record.add_gradient(call, _array(gradient)))
            self.handles.append(hook)


def _unit_axis(module: Module, before: int) -> int:
    """The axis of the units in the output: that of the layer before, where the type does not tell."""
    if isinstance(module, (nn.Linear, nn.Embedding, nn.RNNBase, nn.MultiheadAttention)):
        return -1
    convolves = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
    if isinstance(module, convolves) or re.search(r"[123]d", type(module).__name__):
        return 1
    return -1 if isinstance(module, _NORMS) else before


def _first(x: Any) -> Tensor | None:
    """The first floating-point tensor in an output or in arguments."""
    if isinstance(x, torch.Tensor):
        return x if x.is_floating_point() else None
    if dataclasses.is_dataclass(x) and not isinstance(x, (type, Mapping)):
        x = [getattr(x, field.name) for field in dataclasses.fields(x)]
    parts = x.values() if isinstance(x, Mapping) else x if isinstance(x, (tuple, list)) else ()
    return next((found for part in parts if (found := _first(part)) is not None), None)


def _about(arguments: Sequence[Any]) -> tuple[int, float | None]:
    """The number of samples, and the standard deviation of the first floating-point input."""
    tensors = [x for x in arguments if isinstance(x, torch.Tensor)]
    samples = next((int(x.shape[0]) for x in tensors if x.dim()), 1)
    x = _first(arguments if isinstance(arguments, (tuple, list)) else list(arguments))
    return samples, None if x is None else float(x.detach().double().std(correction=0))


def _array(x: Tensor) -> Array:
    """The elements as an array; NumPy has no bfloat16 and no float8."""
    x = x.detach()
    return (x if x.dtype in (torch.float32, torch.float64) else x.float()).cpu().numpy()
