"""The recipes of docs/frameworks.md run and give what they show: each framework in a process of its own."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_pages import BLOCK

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "frameworks.md"
SECTIONS = dict(re.findall(r"^## (.*?)$(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.M | re.S))
PYTHON = {title: "\n".join(BLOCK.findall(text)) for title, text in SECTIONS.items() if BLOCK.search(text)}
RUST = [title for title, text in SECTIONS.items() if "```rust\n" in text]


def fenced(title, language):
    return re.search(rf"^```{language}\n(.*?)^```$", SECTIONS[title], re.M | re.S)[1]


def run(command, folder, **environment):
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("title", PYTHON)
def test_recipe_runs(title, tmp_path):
    for package in re.findall(r"^>>> (?:import|from) (\w+)", PYTHON[title], re.M):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    if title == "tinygrad" and not shutil.which(os.environ.get("CC", "clang")):
        pytest.skip("needs clang")
    file = tmp_path / "recipe.txt"
    file.write_text(re.sub("^```.*$", "", PYTHON[title], flags=re.M), encoding="utf-8")
    # tinygrad keeps what it compiles in a folder of the user.
    run([sys.executable, "-m", "doctest", file], tmp_path, XDG_CACHE_HOME=str(tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(3600)  # the frameworks are large
@pytest.mark.parametrize("title", RUST)
def test_program_runs(title, tmp_path):
    if not shutil.which("cargo"):
        pytest.skip("needs cargo")
    manifest = '[package]\nname = "recipe"\nedition = "2024"\n\n[workspace]\n\n' + fenced(title, "toml")
    (tmp_path / "Cargo.toml").write_text(manifest.replace("../fastinit", ROOT.as_posix()), encoding="utf-8")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.rs").write_text(fenced(title, "rust"), encoding="utf-8")
    run(["cargo", "run", "--quiet"], tmp_path, CARGO_TARGET_DIR=str(ROOT / "target" / "recipes" / title))


def test_there_are_recipes():
    assert {"TensorFlow", "MLX", "PaddlePaddle", "tinygrad"} <= set(PYTHON)
    assert RUST == ["candle", "burn"]
