"""Update the tables and pictures of `docs/guide.md`, and what notebooks print: ``make guide``.

On the page, a comment above each block of text or picture has the Python code that makes it:

    <!-- print(fastinit.recommend("relu")) -->

The output of the code becomes the block. A picture is saved by the code.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any
from unittest import mock

import fastinit
from fastinit._terminal import table
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

# In the order of the table.
ACTIVATIONS = (
    "linear relu leaky_relu prelu relu6 elu selu celu gelu silu hard_silu mish softplus softsign exponential "
    "sigmoid hard_sigmoid tanh"
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


def blocks(text: str) -> list[tuple[str, str | None]]:
    """The code of each block of a page, and its text; `None` for a picture."""
    return [(block["code"], block["text"]) for block in BLOCK.finditer(text)]


def run(code: str) -> str:
    """The output of the code of a block."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), WIDTH:
        exec(code, {"fastinit": fastinit, "gains": gains})
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
    parser.parse_args()
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
