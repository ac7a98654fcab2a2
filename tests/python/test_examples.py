"""The examples run, and say what they are there to say. `examples/llama.py` is `make demo`."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

EXAMPLES = Path(__file__).parents[2] / "examples" / "torch"


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["drop_in.py"], ["gain of GELU: 1.5335", "output: (2, 8, 256)"]),
        (["accelerate.py", "--layers", "2", "--width", "128"], ["repeated by torch.manual_seed: True"]),
        (["meta.py"], ["MultiheadAttention", "layer 3 alone has the same bits: True"]),
        (["fsdp2.py", "--processes", "2"], ["131,584 of 263,168 elements, equal: True"]),
    ],
    ids=lambda value: value[0] if value[0].endswith(".py") else "",
)
def test_example(arguments, expected):
    name, *options = arguments
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / name), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    for text in expected:
        assert text in done.stdout
