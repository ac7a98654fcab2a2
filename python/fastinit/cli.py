"""The command `fastinit`: the functions of the package, from a shell.

Results go to standard output, as tables that fit the terminal, or as one JSON document with `--json`, whose
`schema` names its kind and version. Progress and errors go to standard error. The exit status is 0; 1 if
`diagnose` found what `--fail-on` says, or `verify` a wrong byte; 2 for invalid input; 141, as of a program
that the signal of a closed pipe ends, if the reader of the output stops before its end.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.metadata
import inspect
import json as json_format
import math
import mmap
import os
import platform
import re
import secrets
import statistics
import time
import traceback
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.highlighter import RegexHighlighter
from rich.theme import Theme
from typer.core import TyperGroup

import fastinit

from ._checks import check_choice
from ._files import check_input, npy_header, replacing, reserve
from ._registry import DISTRIBUTION, MODES, NAMES, class_name
from ._results import plain
from ._safetensors import CODES, Entry, header
from ._terminal import paragraph, printable, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from . import checkpoint
    from ._typing import Array

# Of click, which some versions of Typer contain.
_UsageError: Any = typer.BadParameter.__base__


class _Group(TyperGroup):
    """All commands; what their errors quote may be hostile, such as file names that a shell put in."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _escaped():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _escaped():
            return super().invoke(ctx)


@contextlib.contextmanager
def _escaped() -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        error.message = printable(error.message)
        raise


app = typer.Typer(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - a callback of Typer
    if asked:
        _say(f"{DISTRIBUTION} {fastinit.__version__}")
        raise typer.Exit


@app.callback(epilog="Completion of commands, options and names in this shell: fastinit --install-completion")
def _main(
    version: Annotated[  # noqa: FBT002 - an option; its callback prints the version
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Initial weights of neural networks: choose an initializer, make weights, and check existing ones."""


class _Severities(RegexHighlighter):
    """Colors for the severities of findings."""

    base_style = "fastinit."
    highlights = (r"(?P<severe>\bsevere\b)", r"(?P<warning>\bwarning\b)", r"(?P<info>\binfo\b)")


_COLORS = Theme({"fastinit.severe": "bold red", "fastinit.warning": "yellow", "fastinit.info": "dim"})


class _Console(Console):
    """A console that leaves the exit status to the command."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _say(text: str) -> None:
    text = "\n".join(map(printable, text.split("\n")))
    # A new console each time: standard output may have been replaced.
    _Console(theme=_COLORS, highlighter=_Severities(), soft_wrap=True, markup=False, emoji=False).print(text)


def _note(text: str) -> None:
    """Prints a line to standard error; names in it may be hostile."""
    typer.echo(printable(text), err=True)


def _check_picture(path: Path | None) -> None:
    """Raises an error before a long computation, not after it."""
    if path is not None:
        from fastinit.guidance.show import check_path

        check_path(path)


def _answer(result: Any, *, json: bool, picture: Path | None = None) -> None:
    """Prints a result as tables or as JSON, and draws it if a path is given."""
    if json:
        found = result if isinstance(result, dict) else result.to_dict()
        print(json_format.dumps(found, indent=2), flush=True)
    else:
        _say(str(result))
    if picture is not None:
        fastinit.show(result, path=picture)


_CLOSED_PIPE = 128 + 13


def _command(command: Callable[..., None]) -> Callable[..., None]:
    """Adds a command, which reports invalid input as one line on standard error, with exit status 2.

    The lines from `Example:` on in its docstring are shown below its options.
    """
    text, _, examples = (inspect.getdoc(command) or "").partition("Example:")
    # Typer joins the lines of a paragraph.
    epilog = "\n\n".join(f"Example: {line.strip()}" for line in examples.strip().splitlines())

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except BrokenPipeError:  # The reader closed the pipe (head, for example): no message.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is flushed at the end
            raise typer.Exit(_CLOSED_PIPE) from None
        except (ImportError, MemoryError, OSError, TypeError, ValueError) as error:
            _note(f"fastinit: {str(error) or 'there is not enough memory'}")
            raise typer.Exit(2) from None

    return app.command(command.__name__.rstrip("_"), help=text.strip(), epilog=epilog)(run)


# Arguments


def _initializer(text: str) -> fastinit.Initializer:
    """The initializer that `he_normal`, `random_normal:stddev=0.01` or `random_normal(stddev=0.01)` means."""
    name, colon, given = text.partition(":")
    if not colon and (call := re.fullmatch(r"(\w+)\((.*)\)", text)):
        name, given = call.groups()
    parameters = _parameters(given, text)
    found: fastinit.Initializer = fastinit.get(
        {"class_name": name, "config": parameters} if parameters else name
    )
    return found


def _parameters(given: str, text: str) -> dict[str, Any]:
    """The parameters that `key=value,key=value` means, a part of `text`."""
    parameters: dict[str, Any] = {}
    for part in re.split(r",(?![^()]*\))", given) if given else ():  # not at commas in parentheses
        key, equals, value = part.partition("=")
        if not equals or key.strip() in parameters:
            raise ValueError(f"parameters must be written name:key=value,key=value, each once; got {text!r}")
        parameters[key.strip()] = _value(value.strip())
    return parameters


def _value(text: str) -> Any:
    """The value of a parameter: a literal of Python or, without quotes, a string."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # The last two: it is nested too deeply.
        return text


def _named(texts: list[str] | None) -> dict[str, fastinit.Initializer] | None:
    """The initializers by their texts; `None` for the default choice."""
    return {text: _initializer(text) for text in texts} if texts else None


def _sizes(text: str) -> tuple[int, ...]:
    """The shape that `512x256` means."""
    if not re.fullmatch(r"\d+([x,]\d+)*", text):
        raise ValueError(f"a shape must be written like 512x256, got {text!r}")
    return tuple(map(int, re.split("[x,]", text)))


def _array(path: str) -> Array:
    check_input(path)
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (EOFError, OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    return array


def _complete_initializer(incomplete: str) -> list[str]:
    return [name for name in NAMES if name.startswith(incomplete)]


def _complete_activation(incomplete: str) -> list[str]:
    from fastinit.theory.activations import names

    return [name for name in names() if name.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Seed = Annotated[int, typer.Option(help="The seed, from 0 to 2**64 - 1.")]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INITIALIZER",
        help="Initializers such as he_normal, or random_normal:stddev=0.01 with parameters.",
        autocompletion=_complete_initializer,
    ),
]
Picture = Annotated[Path | None, typer.Option("--output", "-o", help="Also draw a picture: .png or .svg.")]
Activation = Annotated[
    str,
    typer.Option(help="The activation, such as relu, tanh or gelu.", autocompletion=_complete_activation),
]
Layout = Annotated[
    str | None,
    typer.Option(help="in_out for kernels of Keras and JAX, out_in for PyTorch; detected by default."),
]
Parameter = Annotated[
    float | None,
    typer.Option(help="The parameter of the activation, such as its negative slope.", show_default=False),
]


# Guidance


@_command
def recommend(
    activation: Annotated[
        str | None,
        typer.Argument(help="The activation, such as relu or gelu.", autocompletion=_complete_activation),
    ] = None,
    layer: Annotated[
        str, typer.Option(help="The layer, such as dense, lstm, attention or Conv2D.")
    ] = "dense",
    distribution: Annotated[
        str | None, typer.Option(help="uniform, truncated_normal or untruncated_normal.")
    ] = None,
    mode: Annotated[str | None, typer.Option(help=f"{', '.join(MODES[:-1])} or {MODES[-1]}.")] = None,
    param: Parameter = None,
    bias: Annotated[float, typer.Option(help="The initial value of biases.")] = 0.0,
    depth: Annotated[int | None, typer.Option(help="The number of layers, or of residual branches.")] = None,
    layout: Layout = None,
    proposal: Annotated[
        str | None,
        typer.Option(
            help="An initializer for the kernel, to be judged.", autocompletion=_complete_initializer
        ),
    ] = None,
    json: Json = False,  # noqa: FBT002 - an option
) -> None:
    """Recommend an initializer for each weight of a layer, with reasons.

    Example:
        fastinit recommend gelu --layer conv --depth 30
        fastinit recommend relu --proposal random_normal:stddev=0.01
    """
    answer = fastinit.recommend(
        activation,
        layer,
        distribution=distribution,
        mode=mode,
        param=param,
        bias=bias,
        depth=depth,
        layout=layout,
        proposal=None if proposal is None else _initializer(proposal),
    )
    _answer(answer, json=json)


@_command
def recipe(
    name: Annotated[str | None, typer.Argument(help="Such as gpt2; all recipes without one.")] = None,
    parameters: Annotated[
        list[str] | None, typer.Argument(metavar="PARAMETER=VALUE", help="Such as layers=12.")
    ] = None,
    every: Annotated[bool, typer.Option("--list", help="List all recipes.")] = False,  # noqa: FBT002
    json: Json = False,  # noqa: FBT002 - an option
) -> None:
    """Print how a whole architecture is initialized, with its source.

    Example:
        fastinit recipe gpt2 layers=12
    """
    if every and name is not None:
        raise ValueError(f"--list takes no recipe, got {name!r}")
    given: dict[str, Any] = {}
    for text in parameters or ():
        key, equals, value = text.partition("=")
        if not key or not equals or key in given:
            raise ValueError(f"parameters must be written NAME=VALUE, each once; got {text!r}")
        given[key] = _value(value)
    _answer(fastinit.recipe() if name is None else fastinit.recipe(name, **given), json=json)


@_command
def gain(
    activation: Annotated[str, typer.Argument(help="The activation.", autocompletion=_complete_activation)],
    param: Parameter = None,
    json: Json = False,  # noqa: FBT002 - an option
) -> None:
    """Print the gains of an activation, for the signal and for its gradient.

    Example:
        fastinit gain leaky_relu --param 0.2
    """
    gains = {
        direction: fastinit.gain(activation, param, direction=direction)
        for direction in ("forward", "backward")
    }
    if json:
        _answer({"schema": "gain/1", **gains}, json=True)
    else:
        _say(table(("direction", "gain"), [(name, f"{value:.12g}") for name, value in gains.items()], "<>"))


@_command
def diagnose(
    file: Annotated[
        Path,
        typer.Argument(
            help="A .safetensors, .npz, .npy, .pt, .pth, .bin, .ckpt, .keras, .h5, .hdf5, .onnx or .gguf "
            "file, or a folder of shards."
        ),
    ],
    layout: Layout = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            help="PATTERN=INITIALIZER: the initializer of the tensors with these names. Repeatable."
        ),
    ] = None,
    fail_on: Annotated[
        str, typer.Option(help="From which severity on the exit status is 1: severe, warning, info or never.")
    ] = "severe",
    full: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--all", help="List every finding and every tensor, each in a row.")
    ] = False,
    quiet: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--quiet", "-q", help="Print only severe findings and warnings, each in a line.")
    ] = False,
    json: Json = False,  # noqa: FBT002 - an option
) -> None:
    """Check the initial weights in a file. The exit status is 1 if a finding is severe.

    Example:
        fastinit diagnose model.safetensors
        fastinit diagnose model.pt --fail-on warning --quiet
        fastinit diagnose model.npz --expect "*.kernel=he_normal"
    """
    grades = ("info", "warning", "severe", "never")
    check_choice("--fail-on", fail_on, grades)
    expected: dict[str, fastinit.Initializer] | None = None
    if expect:
        pairs = [pair.partition("=") for pair in expect]
        if not all(pattern and equals and name for pattern, equals, name in pairs):
            raise ValueError(f"--expect must be written PATTERN=INITIALIZER, got {' '.join(expect)}")
        expected = {pattern: _initializer(name) for pattern, _, name in pairs}
    diagnosis = fastinit.diagnose(file, layout=layout, expect=expected)
    if json:
        _answer(diagnosis, json=True)
    elif quiet:
        for found in diagnosis.findings:
            if found.severity != "info":
                _say(f"{found.severity}, {found.code}, {found.tensor or file}: {found.message}")
    else:
        _say(diagnosis.to_text(full=full))
    if diagnosis.worst in grades[grades.index(fail_on) :]:
        raise typer.Exit(1)


@_command
def signal(
    initializers: Names = None,
    activation: Activation = "relu",
    param: Parameter = None,
    depth: Annotated[int, typer.Option(help="The number of layers.")] = 50,
    width: Annotated[int, typer.Option(help="The number of units of each layer.")] = 512,
    seed: Seed = 0,
    output: Picture = None,
    json: Json = False,  # noqa: FBT002 - an option
) -> None:
    """Show how a signal and its gradient change with depth in a plain network, for some initializers.

    Example:
        fastinit signal he_normal glorot_uniform --depth 30 --output signal.png
    """
    _check_picture(output)
    result = fastinit.signal(
        _named(initializers), activation=activation, param=param, depth=depth, width=width, seed=seed
    )
    _answer(result, json=json, picture=output)


@_command
def show(
    given: Annotated[
        list[str], typer.Argument(metavar="INITIALIZER|FILE", help="Initializers, or .npy files.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture: .png or .svg.")],
    shape: Annotated[str, typer.Option(help="The shape of the tensors of initializers.")] = "256x512",
    kind: Annotated[str, typer.Option(help="histogram or singular_values.")] = "histogram",
    seed: Seed = 0,
) -> None:
    """Draw the values of initializers or arrays, side by side, with their expected distributions.

    Example:
        fastinit show he_normal orthogonal --shape 512x512 --kind singular_values --output values.svg
    """
    found = {name: _array(name) if name.endswith(".npy") else _initializer(name) for name in given}
    fastinit.show(found, _sizes(shape), kind=kind, seed=seed, path=output)


@_command
def compare(
    initializers: Names = None,
    activation: Activation = "relu",
    depth: Annotated[int, typer.Option(help="The number of hidden layers.")] = 10,
    width: Annotated[int, typer.Option(help="The number of units of each layer.")] = 64,
    epochs: Annotated[int, typer.Option(help="The number of passes over the images.")] = 20,
    learning_rate: Annotated[float, typer.Option(help="The learning rate.")] = 0.02,
    backend: Annotated[
        str | None, typer.Option(help="torch or keras.", show_default="the one installed")
    ] = None,
    seed: Seed = 0,
    output: Picture = None,
    json: Json = False,  # noqa: FBT002 - an option
) -> None:
    """Train the same network on images of digits, once from each initializer.

    Example:
        fastinit compare he_normal random_normal:stddev=0.01 --depth 10 --output training.png
    """
    _check_picture(output)
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


@_command
def list_(json: Json = False) -> None:  # noqa: FBT002 - an option
    """List the initializers and their parameters.

    Example:
        fastinit list
    """
    found = []
    for name in NAMES:
        parameters = dict(inspect.signature(getattr(fastinit, class_name(name))).parameters)
        is_random = "seed" in parameters
        for shared in ("seed", "blocks", "block_axis"):
            parameters.pop(shared, None)
        own = {p.name: None if p.default is p.empty else p.default for p in parameters.values()}
        summary = (inspect.getdoc(getattr(fastinit, name)) or "").split("\n\n")[0].replace("\n", " ")
        found.append({"name": name, "parameters": own, "is_random": is_random, "summary": summary})
    if json:
        _answer({"schema": "list/1", "initializers": found}, json=True)
        return
    axes = ("in_axis", "out_axis", "batch_axis", "groups")
    rows = []
    for one in found:
        given: Any = one["parameters"]
        own = {name: value for name, value in given.items() if "in_axis" not in given or name not in axes}
        spelled = [name if value is None else f"{name}={value}" for name, value in own.items()]
        rows.append((str(one["name"]), str(one["summary"]), ", ".join(spelled)))
    _say(table(("initializer", "description", "parameters"), rows))
    _say(
        paragraph(
            f"Initializers that depend on fans also take {', '.join(axes)}; all take blocks, block_axis."
        )
    )


@_command
def sample(
    initializer: Annotated[str, typer.Argument(help="Such as he_normal, or random_normal:stddev=0.01.")],
    shape: Annotated[str, typer.Argument(help="Such as 4096x4096.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write: .npy or .safetensors.")],
    seed: Annotated[int | None, typer.Option(help="The seed; a random one by default.")] = None,
    stream: Annotated[str, typer.Option(help="The name of the tensor, or a number.")] = "0",
    dtype: Annotated[str, typer.Option(help="float32, float64, float16 or bfloat16.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="The largest number of threads.")] = None,
) -> None:
    """Write a new tensor to a file, which is replaced once it is complete and on the disk.

    A .safetensors file also has the seed, the stream, the initializer and the version, in its metadata.

    Example:
        fastinit sample he_normal 4096x4096 --seed 0 --output kernel.safetensors
    """
    chosen, sizes = _initializer(initializer), _sizes(shape)
    chosen.check(sizes, dtype)
    kind = fastinit.zeros(0, dtype=dtype).dtype
    headers: dict[str, Callable[..., bytes]] = {
        ".npy": lambda kind, shape, *_: npy_header(kind, shape),
        ".safetensors": _safetensors_header,
    }
    create = headers.get(output.suffix)
    if create is None:
        raise ValueError(f"the file must be .npy or .safetensors, got {str(output)!r}")
    if output.suffix == ".npy" and dtype == "bfloat16":
        raise ValueError("the .npy format has no bfloat16; use .safetensors")
    key = int(stream) if stream.isdecimal() else stream
    is_drawn = chosen.seed is None and seed is None
    used = secrets.randbits(64) if is_drawn else chosen.seed if seed is None else seed
    about = {
        "fastinit.seed": str(used),
        "fastinit.stream": stream,
        "fastinit.initializer": json_format.dumps(plain(chosen)),
        "fastinit.dtype": dtype,
        "fastinit.version": fastinit.__version__,
        "fastinit.stream_version": str(fastinit.STREAM_VERSION),
    }
    head = create(kind, sizes, "tensor" if stream.isdecimal() else stream, about)

    def fill(out: Array) -> None:
        chosen(sizes, seed=used if is_drawn else seed, stream=key, dtype=dtype, out=out, threads=threads)

    start, size = time.perf_counter(), len(head) + math.prod(sizes) * kind.itemsize
    try:
        with replacing(output) as file:
            file.write(head)
            file.flush()
            if size > len(head):
                reserve(file, size)
                _fill_mapped(file, size, lambda memory: fill(np.ndarray(sizes, kind, memory, len(head))))
    except OSError as error:
        needed = size - len(head)
        raise OSError(f"cannot write {output}, of {needed:,} bytes: {error.strerror or error}") from None
    seconds = time.perf_counter() - start
    if is_drawn and "seed" in inspect.signature(type(chosen)).parameters:
        kept = ", which the .npy format has no place for" if output.suffix == ".npy" else ""
        _note(f"seed {used}{kept}: --seed {used} makes the same values")
    _note(f"{output}: {size:,} bytes in {seconds:.2f} s, {size / seconds / 1e9:.1f} GB/s")


# Written to the disk at a time; a signal waits for it.
_PIECE = 2**25


def _fill_mapped(file: IO[bytes], size: int, fill: Callable[[mmap.mmap], None]) -> None:
    """Lets a function fill a file through mapped memory, and writes it to the disk."""
    memory = mmap.mmap(file.fileno(), size)
    try:
        fill(memory)
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)  # They use the memory, and would keep it mapped.
        raise
    else:
        # Errors of the disk show up here, not later, when nobody would learn of them.
        for at in range(0, size, _PIECE):
            memory.flush(at, min(_PIECE, size - at))
        os.fsync(file.fileno())  # On Windows, a flush alone leaves them in the system's cache.
    finally:
        memory.close()


def _safetensors_header(
    kind: np.dtype[Any], shape: tuple[int, ...], name: str, about: dict[str, str]
) -> bytes:
    entry = Entry(name, CODES[kind.name], shape, 0, math.prod(shape) * kind.itemsize)
    return header([entry], about, alignment=64)


# Checkpoints

Rules = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        help="PATTERN=INITIALIZER: what the tensors of these names contain, such as "
        "'*.weight=random_normal(stddev=0.02)' or '*.bias=0'. The first that matches wins. Repeatable.",
    ),
]
FromRecipe = Annotated[
    str | None,
    typer.Option("--recipe", help="The rules of a recipe, after your own, such as gpt2:layers=12."),
]
InDtype = Annotated[
    str | None, typer.Option("--dtype", help="The dtype of all tensors of floats, such as bfloat16.")
]
Threads = Annotated[int | None, typer.Option(help="The largest number of threads.")]


def _plan(
    like: str, rules: list[str] | None, recipe: str | None, dtype: str | None, layout: str | None
) -> checkpoint.Plan:
    from fastinit import checkpoint

    found: dict[Any, Any] = {}
    for text in rules or ():
        pattern, equals, rule = text.partition("=")
        if not pattern or not equals or not rule:
            raise ValueError(f"--rule must be written PATTERN=INITIALIZER, got {text!r}")
        try:
            found[pattern] = float(rule)
        except ValueError:
            found[pattern] = _initializer(rule)
    if recipe is not None:
        name, _, given = recipe.partition(":")
        found.update(fastinit.recipe(name, **_parameters(given, recipe)).rules)
    return checkpoint.plan(like, found, dtype=dtype, layout=layout)


@_command
def plan(
    like: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A .safetensors file (its header is enough), a .safetensors.index.json, a config.json of "
            "transformers, the .json of a plan, or a directory.",
        ),
    ],
    rule: Rules = None,
    recipe: FromRecipe = None,
    dtype: InDtype = None,
    layout: Layout = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write the plan: .json.")] = None,
    json: Json = False,  # noqa: FBT002 - an option
) -> None:
    """Print what each tensor of a checkpoint is to contain.

    Example:
        fastinit plan model.safetensors --rule "*norm*=1" --rule "*=random_normal(stddev=0.02)" -o plan.json
    """
    made = _plan(like, rule, recipe, dtype, layout)
    if output is not None:
        if output.suffix != ".json":
            raise ValueError(f"the file must be .json, got {str(output)!r}")
        made.save(output)
    _answer(made, json=json)


@_command
def write(
    like: Annotated[
        str, typer.Option(help="Which tensors there are: what the command plan takes.", show_default=False)
    ],
    seed: Annotated[int, typer.Option(help="The seed, from 0 to 2**64 - 1.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The directory.")],
    rule: Rules = None,
    recipe: FromRecipe = None,
    dtype: InDtype = None,
    layout: Layout = None,
    max_shard_size: Annotated[str, typer.Option(help="The largest size of a file.")] = "5GB",
    format: Annotated[str, typer.Option(help="safetensors, npy or npz.")] = "safetensors",  # noqa: A002
    rank: Annotated[int, typer.Option(help="Which of several writers this is.")] = 0,
    world: Annotated[int, typer.Option(help="The number of writers.")] = 1,
    threads: Threads = None,
    dry_run: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--dry-run", help="Print the files and their sizes, and write nothing.")
    ] = False,
    json: Json = False,  # noqa: FBT002 - an option
) -> None:
    """Write a checkpoint of initial weights, of any size. The same command again continues it.

    Example:
        fastinit write --like model.safetensors --seed 0 --rule "*=random_normal(stddev=0.02)" -o out
        fastinit write --like config.json --seed 0 --dtype bfloat16 -o out --dry-run
    """
    from fastinit import checkpoint

    made = _plan(like, rule, recipe, dtype, layout)
    for name in made.unused_rules:
        _note(f"a rule matched nothing: {name}")
    if dry_run:
        _answer(checkpoint.files(made, max_shard_size=max_shard_size, format=format), json=json)
        return
    written = checkpoint.write(
        made,
        output,
        seed,
        max_shard_size=max_shard_size,
        format=format,
        rank=rank,
        world=world,
        threads=threads,
    )
    _answer(written, json=json)


@_command
def verify(
    directory: Annotated[Path, typer.Argument(help="A directory that write has completed.")],
    sample: Annotated[
        int | None, typer.Option(help="Compare only as many pieces of 16 MiB, chosen at random.")
    ] = None,
    threads: Threads = None,
    json: Json = False,  # noqa: FBT002 - an option
) -> None:
    """Make each value of a checkpoint again, and compare. The exit status is 1 if any byte is wrong.

    Example:
        fastinit verify out --sample 20
    """
    from fastinit import checkpoint

    found = checkpoint.verify(directory, sample=sample, threads=threads)
    _answer(found, json=json)
    if not found.ok:
        raise typer.Exit(1)


# This machine


@_command
def bench(
    size: Annotated[int, typer.Option(help="The size of the array, in MiB.", min=1)] = 256,
    rounds: Annotated[int, typer.Option(help="The number of measurements of each.", min=1)] = 7,
    json: Json = False,  # noqa: FBT002 - an option
) -> None:
    """Measure the speed of fills on this machine, against a constant and NumPy.

    Example:
        fastinit bench --size 64
    """
    memory = np.empty(size * 2**18, np.float32)
    half = memory.view(np.float16)[: memory.size]
    generator = np.random.Generator(np.random.SFC64(0))
    shape = memory.shape
    ways: dict[str, Callable[[], Array]] = {
        "constant (upper limit)": lambda: fastinit.ones(shape, out=memory),
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
            if turn:  # the first turn warms up
                rates_of[name].append(made.nbytes / (time.perf_counter() - start))
    rates = {name: statistics.median(found) for name, found in rates_of.items()}
    if json:
        _answer(
            {"schema": "bench/1", "bytes_per_second": rates, "bytes": memory.nbytes, **fastinit.build_info()},
            json=True,
        )
        return
    limit = max(rates.values())
    rows = [(name, f"{rate / 1e9:.2f}", f"{rate / limit:.2f}") for name, rate in rates.items()]
    _say(table((f"{size} MiB", "GB/s", "share"), rows, "<>>"))
    _say(f"{fastinit.build_info()['simd']}, {fastinit.get_num_threads()} threads, medians of {rounds}")


@_command
def info(json: Json = False) -> None:  # noqa: FBT002 - an option
    """Print which fastinit this is, the processor features in use, and the frameworks installed.

    Example:
        fastinit info --json
    """
    about = fastinit.build_info()
    found: dict[str, Any] = {
        # First, what distinguishes this package from another one with the same import name.
        "distribution": about["distribution"],
        "version": about["version"],
        "package": str(Path(fastinit.__file__).parent),
        **about,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
    }
    frameworks = ("torch", "keras", "jax", "tensorflow", "tensorflow-cpu")
    readers = ("safetensors", "h5py", "onnx")
    for package in ("numpy", "ml_dtypes", *frameworks, *readers, "matplotlib", "scikit-learn"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    if json:
        _answer({"schema": "info/1", **found}, json=True)
        return
    shown = {"file": "compiled module"}
    texts = {name: ", ".join(value) if isinstance(value, list) else value for name, value in found.items()}
    rows = [(shown.get(name, name), "-" if text is None else str(text)) for name, text in texts.items()]
    _say(table(("", "fastinit"), rows))
