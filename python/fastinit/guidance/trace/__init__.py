"""`trace`: a forward and a backward pass of the user's own network, measured layer by layer; and `lsuv`.

The files of the frameworks (`torch_network`, `keras_network`, `jax_network`) run the network, and fill a
`record` of what `measure` computes of each layer; `judge` finds what is wrong, `results` is what is returned,
and `guidance/repair.py` makes rules of it.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from fastinit._checks import check_int, check_number
from fastinit.guidance.repair import Repair, RepairRow, measured_rules, repaired

from .judge import judge
from .record import chosen
from .results import Trace, TraceProblem, TraceRow, TraceVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .record import Record

__all__ = ["Repair", "RepairRow", "Trace", "TraceProblem", "TraceRow", "TraceVerdict", "lsuv", "trace"]


def trace(
    model: Any,
    batch: Any,
    *,
    params: Any = None,
    loss: Callable[..., Any] | None = None,
    target: Any = None,
    learning_rate: float = 0.01,
    layers: str | Sequence[str] | None = None,
    training: bool | None = None,
    seed: int = 0,
) -> Trace:
    """Sends a batch through a network, and a gradient back, and measures each layer.

    The network is that of the user, with its weights as they are: a module of PyTorch, a model of Keras on
    any backend, or a function of JAX. It is run once, and nothing of it is different afterwards, also if an
    error is raised: no hook stays, and parameters, their gradients (`grad`), buffers and running statistics,
    modes (training or evaluation) and the states of random generators are as before.

    A layer is what has weights of its own or no layers inside: a residual sum, or an activation that a
    module calls as a function, has no row. Dropout and the identity have none, either. Of a function of JAX
    the program is searched: what combines parameters of the same place in their tree (`Dense_0/kernel` and
    `Dense_0/bias`) with what depends on the input is a layer of that name, and activations are, too.

    Args:
        model: A module of PyTorch; a built model or layer of Keras; a module of Flax; or a function of JAX of
            its parameters and its inputs, such as `lambda params, x: net.apply(params, None, x)` of Haiku.
        batch: The input: an array or a tensor, a tuple or list of them (positional arguments in PyTorch and
            JAX, the list of inputs in Keras) or a dict (keyword arguments in PyTorch). Arrays of NumPy are
            moved to the device of the module; its floating-point ones get the dtype of its parameters. Or a
            shape, a tuple of ints with the number of samples first, for random data: standard normal or,
            where the first layer is an embedding, integers. Or the number of samples alone, where the rest
            can be told: from the inputs of a Keras model, from a first layer that is linear or an embedding
            (sequences of 16), or from the configuration of a model of timm or transformers.
        params: For a function of JAX and a module of Flax Linen, the parameters (variables): its first
            argument, a tree of arrays.
        loss: A function of the output, or of the output and `target`, that returns the loss. `None` for the
            loss that the output brings, as in transformers when labels are given, or else the mean over the
            samples of the product of the output with a random direction. The gradient of this has a norm of
            about 1 for a mean over one sample, as that of the cross-entropy has.
        target: The second argument of `loss`.
        learning_rate: The learning rate for which `update_ratio` is computed; positive.
        layers: Names of layers, with the wildcards of `fnmatch`: only these are measured, whatever they are,
            with the parameters of all layers inside. `None` for all layers as defined above.
        training: Whether the network is in training mode, in which dropout drops, and batch normalization
            uses the batch. `None` for the modes as they are in PyTorch, and for training in Keras; a function
            of JAX decides that itself.
        seed: The seed of random data, of the direction and, in PyTorch, of the generators meanwhile; an int
            in [0, 2**64).

    Returns:
        A row for each call of a layer in the order of execution, and what is wrong. `fix()` of it gives rules
        that repair that; for this it refers to the model and the batch.

    Raises:
        ValueError: If an argument is out of range, a pattern of `layers` matches nothing, the shape of the
            inputs cannot be told, a module is on the meta device, or a model of Keras is not built.
        TypeError: If an argument is of the wrong kind, a module is compiled by `torch.jit` or distributed
            (FSDP, DTensor), or the output has no floating-point tensor and there is no loss.
        Exception: What the model itself raises.

    Not measured: what runs in `torch.no_grad` or in a checkpoint with `use_reentrant=True` has no gradient;
    layers of Keras inside of recurrent layers and wrappers, and of JAX inside of `scan`, which a loop of the
    backend calls, have no rows; on the NumPy backend of Keras there is no backward pass. Modules in
    `torch.compile` run uncompiled; parameters that are frozen have no update ratio. Activations are copied to
    the CPU, one layer after the other.

    Example:
        >>> import fastinit, torch
        >>> layers = [m for _ in range(20) for m in (torch.nn.Linear(64, 64), torch.nn.ReLU())]
        >>> model = torch.nn.Sequential(*layers, torch.nn.Linear(64, 10))
        >>> found = fastinit.trace(model, batch=32)
        >>> found.ok, found["0"].shape
        (False, (32, 64))
        >>> {problem.verdict.value for problem in found.problems if problem.backward}
        {'vanishes'}
        >>> rules = found.fix(seed=1)
        >>> rules.apply()
        >>> fastinit.trace(model, batch=32).ok
        True

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010. Schoenholz, Gilmer, Ganguli and Sohl-Dickstein, "Deep information propagation", ICLR
        2017, arXiv:1611.01232.
    """
    learning_rate = check_number("learning_rate", learning_rate)
    if learning_rate <= 0.0:
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate!r}")
    seed = check_int("seed", seed, 0, 2**64 - 1)
    network = _network(model, params)
    options = {"loss": loss, "target": target, "layers": layers, "training": training, "seed": seed}

    def run() -> Trace:
        record = network.record(batch, **options)
        can_fix = hasattr(network, "kernels")
        return _trace(record, network, learning_rate, seed, fix if can_fix else None)

    def fix(new_seed: int) -> Repair:
        new_seed = check_int("seed", new_seed, 0, 2**64 - 1)
        return repaired(network, run, batch, training=training, seed=new_seed)

    return run()


def _trace(
    record: Record, network: Any, learning_rate: float, seed: int, fix: Callable[[int], Repair] | None
) -> Trace:
    rows = []
    for call in record.calls:
        weights, forward, backward = record.weights.get(call.layer), call.forward, call.backward
        rows.append(
            TraceRow(
                name=call.name,
                type=call.type,
                activation=None if call.activation is None else str(call.activation),
                shape=call.shape,
                mean=forward.mean,
                std=forward.std,
                gradient_std=None if backward is None else backward.std,
                constant_units=forward.constant,
                no_gradient=None if backward is None else backward.zero,
                saturated=call.saturated,
                sample_distance=forward.distance,
                parameters=0 if weights is None or call.name != call.layer else weights.count,
                weight_norm=None if weights is None else weights.norm,
                weight_gradient_norm=None if weights is None else weights.gradient_norm,
                learning_rate=learning_rate,
            )
        )
    return Trace(
        rows=tuple(rows),
        problems=judge(rows, record.input_std, record.head_input),
        model=network.title,
        framework=network.framework,
        samples=record.samples,
        input_std=record.input_std,
        loss=record.loss,
        learning_rate=learning_rate,
        seed=seed,
        unused=tuple(record.unused),
        _repair=fix,
    )


def lsuv(
    model: Any,
    batch: Any,
    *,
    std: float = 1.0,
    layers: str | Sequence[str] | None = None,
    training: bool | None = None,
    seed: int = 0,
) -> Repair:
    """Rules for weights with which the output of each layer has the same standard deviation on a batch.

    LSUV, layer-sequential unit variance: the kernel of each linear or convolutional layer is orthogonal, its
    bias zero and, one layer after the other in the order of execution, its gain is such that the output on
    the batch, before the activation, has this standard deviation. Since the output is linear in the kernel,
    one forward pass measures all gains exactly.

    The model is not changed: the rules are returned, to be read, stored and applied. `apply` writes the
    weights, and so does `fastinit.torch.initialize` with `rules={**found.rules, "*": None}`: the bits are the
    same.

    Args:
        model: A module of PyTorch, or a built model or layer of Keras.
        batch: The input, as in `trace`. Data is better than random numbers: the gains are those for it.
        std: The standard deviation; positive.
        layers: Names of layers, with the wildcards of `fnmatch`; others keep their weights. `None` for all.
        training: As in `trace`.
        seed: The seed of the weights, and of a random batch; an int in [0, 2**64).

    Returns:
        The rules, by the names of the parameters. Embeddings, kernels shared with an embedding, recurrent
        layers, attention with one fused weight, and layers that are not called have no rule; `skipped` says
        why.

    Raises:
        ValueError: If an argument is out of range, or as in `trace`.
        TypeError: If an argument is of the wrong kind, or as in `trace`.
        Exception: What the model itself raises.

    Example:
        >>> import fastinit, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.Tanh(), torch.nn.Linear(256, 64))
        >>> found = fastinit.lsuv(model, batch=128, seed=1)
        >>> list(found.rules)
        ['0.weight', '0.bias', '2.weight', '2.bias']
        >>> found.apply()
        >>> [round(fastinit.trace(model, 128, seed=1)[name].std, 3) for name in ("0", "2")]
        [1.0, 1.0]

    References:
        Mishkin and Matas, "All you need is a good init", ICLR 2016, arXiv:1511.06422.
    """
    std = check_number("std", std)
    if std <= 0.0:
        raise ValueError(f"std must be positive and finite, got {std!r}")
    seed = check_int("seed", seed, 0, 2**64 - 1)
    network = _network(model)
    if not hasattr(network, "kernels"):
        raise TypeError("a function of JAX has no layers that rules could be for")
    kernels, skipped = network.kernels()
    if layers is not None:
        wanted = chosen(layers, [kernel.layer for kernel in kernels])
        kernels = [kernel for kernel in kernels if kernel.layer in wanted]
    rows, uncalled = measured_rules(network, kernels, batch, std=std, training=training, seed=seed)
    return Repair(network.framework, seed, tuple(rows), {**skipped, **uncalled}, (), network.apply)


def _network(model: Any, params: Any = None) -> Any:
    """The network of a model, whose framework is loaded, since the model exists."""
    torch, keras, jax = map(sys.modules.get, ("torch", "keras", "jax"))
    # On the backend torch, the layers of Keras are modules of PyTorch, too.
    if keras is not None and isinstance(model, keras.layers.Layer):
        found = "keras"
    elif torch is not None and isinstance(model, torch.nn.Module):
        found = "torch"
    elif jax is not None and callable(model):
        return importlib.import_module(".jax_network", __package__).Network(model, params)
    else:
        raise TypeError(
            "can trace a module of PyTorch, a model of Keras or a function of JAX, "
            f"got {type(model).__name__}"
        )
    if params is not None:
        raise TypeError(f"params are for a function of JAX, and a {type(model).__name__} has its own")
    return importlib.import_module(f".{found}_network", __package__).Network(model)
