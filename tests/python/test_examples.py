"""The examples run and print what they should. `examples/llama.py` is `make demo`."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pytorch/drop_in.py"], ["gain of GELU: 1.5335", "output: (2, 8, 256)"]),
        (
            ["pytorch/accelerate.py", "--layers", "2", "--width", "128"],
            ["repeated by torch.manual_seed: True"],
        ),
        (["pytorch/meta.py"], ["MultiheadAttention", "layer 3 alone has the same bits: True"]),
        (["pytorch/trace.py"], ["vanishes: from layer", "after the repair: good", "step 20 good"]),
        (["pytorch/fsdp2.py", "--processes", "2"], ["131,584 of 263,168 elements, equal: True"]),
        (
            ["checkpoint.py", "--layers", "2", "--width", "512"],
            ["planned 21 tensors, 46,470,144 bytes", "as made here: True", ": right, "],
        ),
        (["keras3/recipes.py"], ["he_normal, seed 7: bff2f69c51154505"]),
        (
            ["keras3/unmodified.py", "--layers", "1", "--width", "128"],
            ["repeated by keras.utils.set_random_seed: True"],
        ),
        (
            ["jax/whole_models.py", "--width", "64", "--layers", "2"],
            [
                "linen, the last layer alone has the same bits: True",
                "NNX, output: (2, 64), by the model's own code: ('dropout.rngs.count', 'dropout.rngs.key')",
                "Haiku, output: (2, 64), mlp/~/linear_0.b: truncated_normal",
                "Equinox, output: (64,)",
            ],
        ),
        (
            ["jax/mesh.py"],
            [
                "up: each device has (256, 1024) of (512, 2048), equal: True",
                "in a compiled program, equal: True",
            ],
        ),
    ],
    ids=lambda value: value[0] if value[0].endswith(".py") else "",
)
def test_example(arguments, expected):
    name, *options = arguments
    frameworks = {"pytorch": "torch", "keras3": "keras", "jax": "flax", "checkpoint.py": "transformers"}
    framework = frameworks[name.split("/")[0]]
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"needs {framework}")
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / name), *options]
    env = {**os.environ, "COLUMNS": "200", "KERAS_BACKEND": "numpy"}  # the backend that needs nothing else
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    for text in expected:
        assert text in done.stdout
