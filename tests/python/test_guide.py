"""What the guide and the notebooks show is what their code prints today, and the pictures exist."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "guide.md"
TEXT = PAGE.read_text(encoding="utf-8")
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?%?")

_spec = importlib.util.spec_from_file_location("guide", ROOT / "tools" / "guide.py")
guide = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(guide)
TABLES = {code: text for code, text in guide.blocks(TEXT) if text is not None}


def tolerance(code):
    """The relative tolerance of numbers that depend on the machine, and the packages that make them."""
    if "compare(" in code:
        return 0.25, ("torch", "sklearn")  # Training amplifies rounding errors.
    return (0.02, ()) if "signal(" in code else (0.0, ())


def words(text):
    """The text without its numbers and the width of its columns."""
    return re.sub(r" +", " ", NUMBER.sub("#", text))


def test_there_are_tables():
    assert len(TABLES) >= 5
    assert {"signal(", "compare(", "diagnose("} <= {
        function for code in TABLES for function in re.findall(r"\w+\(", code)
    }


@pytest.mark.parametrize("code", TABLES)
def test_tables_are_current(code):
    within, packages = tolerance(code)
    for package in packages:
        pytest.importorskip(package)
    compare(guide.run(code), TABLES[code].rstrip(), within, code)


def compare(made, text, within, name):
    """Compares what was made with what is stored; numbers within a relative tolerance."""
    hint = f"{name}: `make guide` updates it"
    if not within:
        assert made == text, hint
        return
    assert words(made) == words(text), hint
    for one, other in zip(NUMBER.findall(made), NUMBER.findall(text), strict=True):
        # Small shares are numbers of a few units.
        smallest = 1.0 if other.endswith("%") else 1e-15
        close = pytest.approx(float(other.rstrip("%")), rel=within, abs=smallest)
        assert float(one.rstrip("%")) == close, f"{one} and not {other}, {hint}"


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # by Keras on TensorFlow
@pytest.mark.parametrize("path", guide.NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_current(path, monkeypatch):
    for framework in {"pytorch": ["torch"], "keras": ["keras"]}.get(path.stem, []):
        pytest.importorskip(framework)
    monkeypatch.setenv("KERAS_BACKEND", "numpy")  # unless it was imported already
    book, printed = guide.run_notebook(path)
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    for cell, made in zip(cells, printed, strict=True):
        compare(made, guide.stored(cell), 0.02, "".join(cell["source"]))
    assert all(cell["execution_count"] is None for cell in cells)  # not saved by Jupyter


def test_there_are_notebooks():
    assert {path.stem for path in guide.NOTEBOOKS} == {"choosing", "keras", "pytorch"}


def test_every_block_has_been_made():
    blocks = guide.blocks(TEXT)
    assert len(blocks) == TEXT.count("<!--")
    assert all(text is None or text.strip() for _, text in blocks)


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links
    assert all((PAGE.parent / link).exists() for link in links)
    anchors = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        for title in re.findall(r"^## (.*)$", TEXT, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
    # Each picture is one that the page makes.
    made = set(re.findall(r'path="([^"]+)"', TEXT))
    assert made == set(re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT))
    assert {path.name for path in (PAGE.parent / "guide").iterdir()} == {Path(path).name for path in made}
