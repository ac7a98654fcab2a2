"""Whole models of transformers and timm: those of `make zoo`, but a few."""

import importlib.util

import pytest

pytest.importorskip("torch")
pytest.importorskip("scipy")

import zoo

MODELS = {
    "transformers": ["bert", "gpt2", "llama", "mamba", "t5", "vit", "vit_mae", "wav2vec2"],
    "timm": [
        "test_convnext",
        "test_efficientnet",
        "test_resnet",
        "test_vit",
        "mobilenetv3_small_050",
        "convit_tiny",
    ],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("library", "name"), [(library, name) for library, names in MODELS.items() for name in names]
)
def test_model(library, name):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}")
    for way, outcome in zoo.examine(library, name, zoo.WAYS[library]).items():
        # Or the report says that the model has an initialization of its own that was not run.
        assert outcome.said or not outcome.differences, way
        assert outcome.tests > 3, way
