"""The command `fastinit`: what the package can do, from a shell.

Results go to standard output: as tables, or with `--json` as one JSON document. Progress and errors go to
standard error. The exit status is 0; 1 where `diagnose` has found something severe; 2 for bad input.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import inspect
import json as json_format
import math
import os
import platform
import re
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.highlighter import RegexHighlighter
from rich.theme import Theme

import fastinit

from ._terminal import table

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastinit._typing import Array

app = typer.Typer(
    help="Weights of neural networks: which to use, what is wrong with those that are there, and new ones.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class _Severities(RegexHighlighter):
    """Colours in a terminal."""

    base_style = "fastinit."
    highlights = (r"(?P<severe>\bsevere\b)", r"(?P<warning>\bwarning\b)", r"(?P<info>\binfo\b)")


_COLOURS = Theme({"fastinit.severe": "bold red", "fastinit.warning": "yellow", "fastinit.info": "dim"})


def _say(text: str) -> None:
    # A new console each time, since tests and callers exchange standard output.
    Console(theme=_COLOURS, highlighter=_Severities(), soft_wrap=True, markup=False, emoji=False).print(text)


def _answer(result: Any, *, json: bool, picture: Path | None = None) -> None:
    """Prints a result as the user wants it, and then draws it."""
    if json:
        print(json_format.dumps(result if isinstance(result, dict | list) else result.to_dict(), indent=2))
    else:
        _say(str(result))
    if picture is not None:
        fastinit.show(result, path=picture)


def _explained(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose errors are a sentence and the status 2."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except BrokenPipeError:  # Whoever reads has read enough, as `head`; that is no error to speak of.
            raise
        except (ImportError, MemoryError, OSError, TypeError, ValueError) as error:
            typer.echo(f"fastinit: {error}", err=True)
            raise typer.Exit(2) from None

    return run


# What commands are given


def _initializer(text: str) -> fastinit.Initializer:
    """`he_normal`, or with parameters `random_normal:stddev=0.01,mean=0`."""
    name, _, given = text.partition(":")
    parameters = {}
    for part in re.split(r",(?![^()]*\))", given) if given else ():  # Not at the commas of (0, 1).
        key, equals, value = part.partition("=")
        if not equals or key.strip() in parameters:
            raise ValueError(f"parameters are written name:key=value,key=value, each once, got {text!r}")
        try:
            parameters[key.strip()] = ast.literal_eval(value.strip())
        except (SyntaxError, ValueError):
            parameters[key.strip()] = value.strip()
    found: fastinit.Initializer = fastinit.get(
        {"class_name": name, "config": parameters} if parameters else name
    )
    return found


def _named(texts: list[str] | None) -> dict[str, fastinit.Initializer] | None:
    """Initializers by what was written for them; `None` for the usual choice."""
    return {text: _initializer(text) for text in texts} if texts else None


def _sizes(text: str) -> tuple[int, ...]:
    """`512x256`."""
    if not re.fullmatch(r"\d+([x,]\d+)*", text):
        raise ValueError(f"a shape is written 512x256, got {text!r}")
    return tuple(map(int, re.split("[x,]", text)))


def _array(path: str) -> Array:
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    return array


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Seed = Annotated[int, typer.Option(help="The seed, from 0 to 2**64 - 1.")]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[INITIALIZER]...", help="Names, with parameters if need be: random_normal:stddev=0.01"
    ),
]
Picture = Annotated[Path | None, typer.Option("--output", "-o", help="A picture to make: .png or .svg.")]
Activation = Annotated[str, typer.Option(help="The activation, such as relu, tanh or gelu.")]
Parameter = Annotated[
    float | None, typer.Option(help="The parameter of the activation: a slope, an alpha.", show_default=False)
]


# Guidance


@app.command()
@_explained
def recommend(
    activation: Annotated[str | None, typer.Argument(help="The activation, such as relu or gelu.")] = None,
    layer: Annotated[str, typer.Option(help="The layer: dense, conv, lstm, attention, Conv2D.")] = "dense",
    distribution: Annotated[str | None, typer.Option(help="uniform or normal.")] = None,
    mode: Annotated[str | None, typer.Option(help="fan_in, fan_out or fan_avg.")] = None,
    param: Parameter = None,
    bias: Annotated[float, typer.Option(help="What biases are to be.")] = 0.0,
    depth: Annotated[int | None, typer.Option(help="The number of layers, or of residual branches.")] = None,
    proposal: Annotated[str | None, typer.Option(help="An initializer to be judged.")] = None,
    json: Json = False,  # noqa: FBT002 - an option
) -> None:
    """What to initialize each weight of a layer with, and why."""
    answer = fastinit.recommend(
        activation,
        layer,
        distribution=distribution,
        mode=mode,
        param=param,
        bias=bias,
        depth=depth,
        proposal=None if proposal is None else _initializer(proposal),
    )
    _answer(answer, json=json)


@app.command()
@_explained
def gain(
    activation: Annotated[str, typer.Argument(help="The activation.")],
    param: Parameter = None,
    json: Json = False,  # noqa: FBT002 - an option
) -> None:
    """The gains of an activation, forward and backward."""
    gains = {
        direction: fastinit.gain(activation, param, direction=direction)
        for direction in ("forward", "backward")
    }
    if json:
        _answer(gains, json=True)
    else:
        _say(table(("direction", "gain"), [(name, f"{value:.12g}") for name, value in gains.items()], "<>"))


@app.command()
@_explained
def diagnose(
    file: Annotated[Path, typer.Argument(help="A .safetensors, .npz or .npy file, or a folder of shards.")],
    layout: Annotated[
        str | None, typer.Option(help="out_in (PyTorch) or in_out (Keras, JAX); by the file if not given.")
    ] = None,
    expect: Annotated[
        list[str] | None, typer.Option(help="PATTERN=INITIALIZER: what tensors are meant to be. Repeatable.")
    ] = None,
    json: Json = False,  # noqa: FBT002 - an option
) -> None:
    """What is wrong with the weights in a file. The exit status is 1 if something is severe."""
    expected: dict[str, fastinit.Initializer] | None = None
    if expect:
        pairs = [pair.partition("=") for pair in expect]
        if not all(pattern and equals and name for pattern, equals, name in pairs):
            raise ValueError(f"--expect is written PATTERN=INITIALIZER, got {' '.join(expect)}")
        expected = {pattern: _initializer(name) for pattern, _, name in pairs}
    diagnosis = fastinit.diagnose(file, layout=layout, expect=expected)
    _answer(diagnosis, json=json)
    if diagnosis.worst == "severe":
        raise typer.Exit(1)


@app.command()
@_explained
def signal(
    initializers: Names = None,
    activation: Activation = "relu",
    param: Parameter = None,
    depth: Annotated[int, typer.Option(help="The number of layers.")] = 50,
    width: Annotated[int, typer.Option(help="The number of units in each.")] = 512,
    seed: Seed = 0,
    output: Picture = None,
    json: Json = False,  # noqa: FBT002 - an option
) -> None:
    """The signal and its gradient through a deep plain network, for one or several initializers."""
    result = fastinit.signal(
        _named(initializers),
        activation=activation,
        param=param,
        depth=depth,
        width=width,
        seed=seed,
    )
    _answer(result, json=json, picture=output)


@app.command()
@_explained
def show(
    things: Annotated[
        list[str], typer.Argument(metavar="THING...", help="Initializers, or .npy files; side by side.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to make: .png or .svg.")],
    shape: Annotated[str, typer.Option(help="The shape of the tensors that initializers make.")] = "256x512",
    kind: Annotated[str, typer.Option(help="histogram or singular_values.")] = "histogram",
    seed: Seed = 0,
) -> None:
    """Draw the values of initializers, or of arrays, over the law that they follow."""
    given = {thing: _array(thing) if thing.endswith(".npy") else _initializer(thing) for thing in things}
    fastinit.show(given, _sizes(shape), kind=kind, seed=seed, path=output)


@app.command()
@_explained
def compare(
    initializers: Names = None,
    activation: Activation = "relu",
    depth: Annotated[int, typer.Option(help="The number of hidden layers.")] = 10,
    width: Annotated[int, typer.Option(help="The number of units in each.")] = 64,
    epochs: Annotated[int, typer.Option(help="How often each image is seen.")] = 20,
    learning_rate: Annotated[float, typer.Option(help="The learning rate.")] = 0.02,
    backend: Annotated[str | None, typer.Option(help="torch or keras; whichever is installed.")] = None,
    seed: Seed = 0,
    output: Picture = None,
    json: Json = False,  # noqa: FBT002 - an option
) -> None:
    """Train the same network from several initializers, on images of digits."""
    result = fastinit.compare(
        _named(initializers),
        activation=activation,
        depth=depth,
        width=width,
        epochs=epochs,
        learning_rate=learning_rate,
        backend=backend,
        seed=seed,
    )
    _answer(result, json=json, picture=output)


# Weights


@app.command("list")
@_explained
def list_initializers(json: Json = False) -> None:  # noqa: FBT002 - an option
    """The initializers, with their parameters."""
    found = []
    for name in fastinit.__all__:
        function = getattr(fastinit, name)
        kind = getattr(fastinit, "".join(map(str.capitalize, name.split("_"))), None)
        if not inspect.isfunction(function) or not isinstance(kind, type):
            continue
        parameters = inspect.signature(kind).parameters.values()
        found.append(
            {
                "name": name,
                "parameters": {
                    p.name: None if p.default is p.empty else p.default
                    for p in parameters
                    if p.name != "seed"
                },
                "is_random": "seed" in inspect.signature(kind).parameters,
                "summary": (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " "),
            }
        )
    if json:
        _answer(found, json=True)
        return
    axes = ("in_axis", "out_axis", "batch_axis", "groups")
    rows = []
    for one in found:
        parameters_of: Any = one["parameters"]
        own = [
            name if value is None else f"{name}={value}"
            for name, value in parameters_of.items()
            if name not in axes or "in_axis" not in parameters_of
        ]
        rows.append((str(one["name"]), str(one["summary"]), ", ".join(own)))
    _say(table(("initializer", "what it makes", "parameters"), rows))
    _say("Those that go by fans take the axes of the kernel, too: " + ", ".join(axes) + ".")


@app.command()
@_explained
def sample(
    initializer: Annotated[str, typer.Argument(help="Its name, with parameters if need be.")],
    shape: Annotated[str, typer.Argument(help="Such as 4096x4096.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write: .npy or .safetensors.")],
    seed: Annotated[int | None, typer.Option(help="The seed; a fresh one if not given.")] = None,
    stream: Annotated[str, typer.Option(help="The name of the tensor, or a number.")] = "0",
    dtype: Annotated[str, typer.Option(help="float32, float64, float16 or bfloat16.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="How many threads at most.")] = None,
) -> None:
    """Write a tensor to a file, at the speed of the disk."""
    law, sizes = _initializer(initializer), _sizes(shape)
    key: dict[str, Any] = {"seed": seed, "stream": int(stream) if stream.isdecimal() else stream}
    # All that is wrong is found out before there is a file.
    kind = law(sizes, **key, dtype=dtype, index=(slice(0, 0),) * len(sizes)).dtype
    create = {".npy": _create_npy, ".safetensors": _create_safetensors}.get(output.suffix)
    if create is None:
        raise ValueError(f"the file must be .npy or .safetensors, got {str(output)!r}")
    if output.suffix == ".npy" and dtype == "bfloat16":
        raise ValueError(".npy has no bfloat16; .safetensors has")
    if output.suffix == ".safetensors" and stream == "__metadata__":
        raise ValueError("a tensor in .safetensors cannot be called '__metadata__'; take another stream")
    unfinished = output.with_name(output.name + ".unfinished")
    start = time.perf_counter()
    try:
        out = create(unfinished, kind, sizes, stream if not stream.isdecimal() else "tensor")
        if out.size:
            law(sizes, **key, dtype=dtype, out=out, threads=threads)
        del out
        unfinished.replace(output)
    except OSError as error:
        needed = math.prod(sizes) * kind.itemsize
        raise OSError(f"cannot write {output}, of {needed:,} bytes: {error.strerror or error}") from None
    finally:
        unfinished.unlink(missing_ok=True)
    seconds, size = time.perf_counter() - start, output.stat().st_size
    typer.echo(f"{output}: {size:,} bytes in {seconds:.2f} s, {size / seconds / 1e9:.1f} GB/s", err=True)


def _create_npy(path: Path, kind: np.dtype[Any], shape: tuple[int, ...], _: str) -> Array:
    memory: Array = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
    return memory


def _create_safetensors(path: Path, kind: np.dtype[Any], shape: tuple[int, ...], name: str) -> Array:
    size = math.prod(shape) * kind.itemsize
    code = {"float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16"}[kind.name]
    header = json_format.dumps({name: {"dtype": code, "shape": shape, "data_offsets": [0, size]}}).encode()
    header = header.ljust(-(-(len(header) + 8) // 64) * 64 - 8)  # so that the data are aligned
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    if size == 0:
        return np.empty(shape, kind)
    memory: Array = np.memmap(path, kind, "r+", 8 + len(header), shape)
    return memory


# This machine


@app.command()
@_explained
def bench(
    size: Annotated[int, typer.Option(help="The size of the array, in MiB.", min=1)] = 256,
    rounds: Annotated[int, typer.Option(help="How often each is measured.", min=1)] = 7,
    json: Json = False,  # noqa: FBT002 - an option
) -> None:
    """How fast this machine makes samples, in memory that is there, beside a fill with a constant."""
    memory = np.empty(size * 2**18, np.float32)
    half = memory.view(np.float16)[: memory.size]
    generator = np.random.Generator(np.random.SFC64(0))
    shape = memory.shape
    ways: dict[str, Callable[[], Array]] = {
        "constant (the ceiling)": lambda: fastinit.ones(shape, out=memory),
        "uniform": lambda: fastinit.random_uniform(shape, seed=0, out=memory),
        "normal": lambda: fastinit.random_normal(shape, seed=0, out=memory),
        "truncated normal": lambda: fastinit.truncated_normal(shape, seed=0, out=memory),
        "normal, float16": lambda: fastinit.random_normal(shape, seed=0, dtype="float16", out=half),
        "NumPy's normal": lambda: generator.standard_normal(dtype=np.float32, out=memory),
    }
    rates_of: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            made = way()
            if turn:  # The first one warms up.
                rates_of[name].append(made.nbytes / (time.perf_counter() - start))
    rates = {name: statistics.median(found) for name, found in rates_of.items()}
    if json:
        _answer({"bytes_per_second": rates, "bytes": memory.nbytes, **fastinit.build_info()}, json=True)
        return
    ceiling = max(rates.values())
    rows = [(name, f"{rate / 1e9:.2f}", f"{rate / ceiling:.2f}") for name, rate in rates.items()]
    _say(table((f"{size} MiB", "GB/s", "share"), rows, "<>>"))
    about = fastinit.build_info()
    _say(f"{about['simd']}, {fastinit.get_num_threads()} threads, medians of {rounds}")


@app.command()
@_explained
def info(json: Json = False) -> None:  # noqa: FBT002 - an option
    """The version, what the processor can do, and which frameworks are there."""
    packages = ("numpy", "ml_dtypes", "torch", "keras", "jax", "tensorflow", "tensorflow-cpu")
    found: dict[str, Any] = {
        **fastinit.build_info(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
    }
    for package in (*packages, "matplotlib", "scikit-learn"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    if json:
        _answer(found, json=True)
        return
    _say(
        table(
            ("", "fastinit"), [(name, "-" if value is None else str(value)) for name, value in found.items()]
        )
    )
