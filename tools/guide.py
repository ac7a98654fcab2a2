"""Update the tables and pictures of `docs/guide.md`, and what notebooks print: ``make guide``.

On the page, a comment above each block of text or picture has the Python code that makes it:

    <!-- print(fastinit.recommend("relu")) -->

The output of the code becomes the block. A picture is saved by the code.

`python tools/guide.py --train` first trains the networks of the table of training, and stores what they reach
in `tools/training.json`; what is there already is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import io
import itertools
import json
import os
import re
import statistics
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import fastinit
from fastinit._terminal import table
from fastinit.guidance.choices import parse_choices
from fastinit.guidance.recommend.spelling import short
from fastinit.theory.parse import resolve
from fastinit.theory.variance import without_bias

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "guide.md"
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
# The pages do not depend on the width of the terminal.
WIDTH = mock.patch.dict(os.environ, COLUMNS="120")
BLOCK = re.compile(
    r"""<!--[ ](?P<code>[^\n]*)[ ]-->\n
        (?: ```text\n (?P<text>.*?) ``` | (?P<picture>!\[[^\n]*) )""",
    re.DOTALL | re.VERBOSE,
)

# The networks of the table of training: all activations of `compare`. Rates are the same for all. The form of
# the rule of `recommend` was chosen on networks with the seeds 0, 1 and 2. A seed also divides the images.
TRAINED = ROOT / "tools" / "training.json"
DEPTHS = (3, 10, 30, 50, 100)
TRAINED_ACTIVATIONS = "linear relu leaky_relu elu selu gelu silu mish softplus softsign sigmoid tanh"
SEEDS = (3, 4, 5)
RATES = (0.005, 0.01, 0.02, 0.06)
EPOCHS = 6
# An activation is trained at a depth if one of the line-up reaches this accuracy.
ENOUGH = 0.5

# In the order of the table.
ACTIVATIONS = (
    "linear relu leaky_relu prelu relu6 relu_squared elu selu celu gelu quick_gelu silu hard_silu mish "
    "softplus softsign exponential sigmoid hard_sigmoid tanh sin reglu geglu swiglu"
)


def gains() -> str:
    """The gains of activations, and the slopes of their variance maps."""
    rows = []
    for name in ACTIVATIONS.split():
        try:
            pytorch = f"{fastinit.gain(name, convention='pytorch'):.4f}"
        except ValueError:
            pytorch = "-"
        forward, backward = (fastinit.gain(name, direction=way) for way in ("forward", "backward"))
        rows.append(
            (name, f"{forward:.6f}", f"{backward:.6f}", pytorch, f"{without_bias(resolve(name)).slope:.3f}")
        )
    return table(("activation", "forward", "backward", "PyTorch's", "slope"), rows, "<>>>>")


@functools.cache
def line_up(activation: str, depth: int) -> dict[str, Any]:
    """The initializers that are compared."""
    return {
        "recommended": fastinit.recommend(activation, depth=depth),
        "Glorot": "glorot_uniform",
        "He": "he_normal",
        "LeCun": "lecun_normal",
        "orthogonal": "orthogonal",
        "gain": fastinit.Orthogonal(fastinit.gain(activation)),
    }


def key(activation: str, depth: int, given: Any, rate: float, seed: int) -> str:
    """The name of a run of training: all that it depends on."""
    (choice,) = parse_choices([given]).values()
    bias = "" if choice.bias is None or choice.bias == fastinit.Zeros() else f" and {short(choice.bias)}"
    return f"{activation}, depth {depth}, {short(choice.kernel)}{bias}, rate {rate}, seed {seed}"


def train(only: str) -> None:
    """Trains the networks of which there is no result; only those whose name matches a regular expression."""
    results = json.loads(TRAINED.read_text()) if TRAINED.exists() else {}
    for depth, activation in itertools.product(DEPTHS, TRAINED_ACTIVATIONS.split()):
        for seed in SEEDS:
            runs = {
                key(activation, depth, given, rate, seed): (given, rate)
                for given, rate in itertools.product(line_up(activation, depth).values(), RATES)
            }
            missing = [name for name in runs if name not in results and re.search(only, name)]
            if not missing:
                continue
            accuracies = best_accuracies(activation, depth, [runs[name] for name in missing], seed)
            results |= dict(zip(missing, accuracies, strict=True))
            print(f"{activation}, depth {depth}, seed {seed}: {len(missing)} networks", flush=True)
            TRAINED.write_text(json.dumps(dict(sorted(results.items())), indent=0) + "\n")


def best_accuracies(activation: str, depth: int, runs: list[tuple[Any, float]], seed: int) -> list[float]:
    """The best validation accuracy in training as of `fastinit.compare`, for pairs of initializer and rate.

    All networks are trained at once, by batched products, which takes a fifth of the time of `compare`; data,
    parameters and batches are the same, and results differ by rounding.
    """
    import torch

    parts = importlib.import_module("fastinit.guidance.compare")
    function = importlib.import_module("fastinit.guidance.compare.torch_network").ACTIVATIONS[activation]
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    data = parts._data(seed)
    sizes = [data.x.shape[1], *[64] * depth, 10]
    made = [parts._parameters(*parse_choices([given]).values(), sizes, seed) for given, _ in runs]
    weights, biases = (
        [torch.from_numpy(np.stack(layer)).requires_grad_() for layer in zip(*one, strict=True)]
        for one in zip(*made, strict=True)
    )
    rates = torch.tensor([rate for _, rate in runs])[:, None, None]

    def outputs(x: Any) -> Any:
        x = torch.from_numpy(x).expand(len(runs), *x.shape)
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            x = function(torch.baddbmm(bias[:, None], x, weight))
        return torch.baddbmm(biases[-1][:, None], x, weights[-1])

    best = np.zeros(len(runs))
    used = len(data.y) // 32 * 32
    for epoch in range(1, EPOCHS + 1):
        for batch in parts._shuffled(len(data.y), seed, f"epoch.{epoch}")[:used].reshape(-1, 32):
            labels = torch.from_numpy(data.y[batch]).expand(len(runs), -1)
            logits = outputs(data.x[batch])
            loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="sum") / 32
            for parameter, gradient in zip(
                (*weights, *biases), torch.autograd.grad(loss, (*weights, *biases)), strict=True
            ):
                with torch.no_grad():
                    parameter.sub_(gradient * rates.view(-1, *[1] * (parameter.ndim - 1)))
        with torch.no_grad():
            found = outputs(data.x_validation).argmax(dim=-1).numpy()
        best = np.maximum(best, (found == data.y_validation).mean(axis=-1))
    return np.round(best, 4).tolist()


def training() -> str:
    """The table of training: for each activation and depth the best accuracy of each initializer."""
    results = json.loads(TRAINED.read_text())
    rows = []
    for activation in TRAINED_ACTIVATIONS.split():
        for depth in DEPTHS:
            best = {
                name: statistics.fmean(
                    max(results[key(activation, depth, given, rate, seed)] for rate in RATES)
                    for seed in SEEDS
                )
                for name, given in line_up(activation, depth).items()
            }
            most = max(best.values())
            cells = [f"{100 * accuracy:.0f}" for accuracy in best.values()]
            behind = f"{100 * (most - best['recommended']):.1f}" if most >= ENOUGH else "-"
            rows.append((activation if depth == DEPTHS[0] else "", str(depth), *cells, behind))
    header = ("activation", "depth", *line_up("linear", 3), "behind")
    return table(header, rows, "<" + ">" * (len(header) - 1))


def blocks(text: str) -> list[tuple[str, str | None]]:
    """The code of each block of a page, and its text; `None` for a picture."""
    return [(block["code"], block["text"]) for block in BLOCK.finditer(text)]


def run(code: str) -> str:
    """The output of the code of a block."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), WIDTH:
        exec(code, {"fastinit": fastinit, "gains": gains, "training": training})
    return out.getvalue().rstrip()


def run_notebook(path: Path) -> tuple[dict[str, Any], list[str]]:
    """A notebook, and what each of its cells of code prints."""
    book = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": path.stem}
    printed = []
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            code = "".join(cell["source"])
            out = io.StringIO()
            with contextlib.redirect_stdout(out), WIDTH:
                exec(compile(code, path.name, "exec"), names)
            printed.append(out.getvalue())
    return book, printed


def stored(cell: dict[str, Any]) -> str:
    """What a cell of a notebook has printed when it was saved."""
    return "".join("".join(output["text"]) for output in cell["outputs"])


def write_notebook(path: Path) -> None:
    """Runs a notebook, and stores what it prints."""
    book, printed = run_notebook(path)
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    for cell, text in zip(cells, printed, strict=True):
        output = {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}
        cell["outputs"] = [output] if text else []
    path.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Runs all blocks and notebooks, and writes them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    help_ = "train the networks of the table first; only those whose name matches a regular expression"
    parser.add_argument("--train", nargs="?", const="", metavar="PATTERN", help=help_)
    options = parser.parse_args()
    if options.train is not None:
        train(options.train)
    os.chdir(PAGE.parent)  # Links are relative to the page.
    text = PAGE.read_text(encoding="utf-8")

    def made(block: re.Match[str]) -> str:
        print(block["code"])
        found = run(block["code"])
        if block["picture"]:
            return block[0]
        return f"<!-- {block['code']} -->\n```text\n{found}\n```"

    PAGE.write_text(BLOCK.sub(made, text), encoding="utf-8")
    os.environ["KERAS_BACKEND"] = "numpy"  # unless it was imported already
    for path in NOTEBOOKS:
        print(path.name)
        write_notebook(path)


if __name__ == "__main__":
    main()
