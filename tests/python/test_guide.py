"""The tables of the guide are what the code prints today, and its pictures are there."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "guide.md"


@pytest.fixture(scope="module")
def guide():
    spec = importlib.util.spec_from_file_location("guide", ROOT / "tools" / "guide.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_current(guide):
    blocks = guide.blocks(PAGE.read_text(encoding="utf-8"))
    texts = [(code, text) for code, text in blocks if text is not None]
    assert len(texts) >= 5
    for code, text in texts:
        if "compare" in code or "signal" in code:
            continue  # They go through libraries whose last digits depend on the machine.
        assert guide.run(code) == text.rstrip(), f"{code}: `make guide` makes it again"


def test_every_block_has_been_made(guide):
    blocks = guide.blocks(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) == PAGE.read_text(encoding="utf-8").count("<!--")
    assert all(text is None or text.strip() for _, text in blocks)


def test_links_lead_somewhere():
    text = PAGE.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links
    assert all((PAGE.parent / link).exists() for link in links)
    anchors = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        for title in re.findall(r"^## (.*)$", text, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
    # Each picture is one that the page makes.
    made = set(re.findall(r'path="([^"]+)"', text))
    assert made == set(re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text))
    assert {path.name for path in (PAGE.parent / "guide").iterdir()} == {Path(path).name for path in made}
