"""The Python examples of README.md and docs/ run and give what they show, and all links lead somewhere."""

import doctest
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path: path.read_text(encoding="utf-8") for path in PAGES}
FILES = "https://github.com/fastinit/fastinit/blob/main/"
OTHERS = [ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]
BLOCK = re.compile(r"^```python\n>>> .*?^```$", re.DOTALL | re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def page_id(path):
    return path.stem


# test_recipes.py runs the other page, each framework in a process of its own.
RUN = [path for path in PAGES if BLOCK.search(TEXTS[path]) and path.stem != "frameworks"]


# Pages on which blocks need what others of PyTorch have made.
OF_TORCH = ("checkpoints", "pytorch", "trace")


@pytest.mark.parametrize("page", RUN, ids=page_id)
def test_examples_run(page, tmp_path, monkeypatch):
    pytest.importorskip("ml_dtypes")
    if page.stem in OF_TORCH:
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)  # an example writes a file
    monkeypatch.setenv("KERAS_BACKEND", "numpy")  # unless it was imported already
    names = {}  # each block continues where the one before ended
    ran = 0
    for match in BLOCK.finditer(TEXTS[page]):
        needed = [name for name in ("torch", "keras", "jax", "haiku") if f"{name}." in match[0]]
        if not all(map(importlib.util.find_spec, needed)):
            continue
        line = TEXTS[page][: match.start()].count("\n")
        # The fences are blanked, so that the last line shown is not part of what is expected.
        text = match[0].replace("```python", "").replace("```", "")
        example = doctest.DocTestParser().get_doctest(text, names, page.name, str(page), line)
        assert example.examples
        failed, _ = doctest.DocTestRunner().run(example, clear_globs=False)
        assert not failed
        names = example.globs
        ran += 1
    if not ran:
        pytest.skip("needs a framework")


def test_pages_have_examples():
    assert len(RUN) >= 4


def anchors(text):
    titles = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=page_id)
def test_links_lead_somewhere(page):
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    labels = dict(re.findall(r"^\[(.+)\]: (\S+)$", text, re.MULTILINE))
    assert not set(re.findall(r"\]\[([^\]]+)\]", text)) - set(labels)
    for link in [*re.findall(r"\]\(([^)\s]+)\)", text), *labels.values()]:
        # PyPI shows the README without the other files, so its links must be absolute.
        assert page.name != "README.md" or link.startswith(("https://", "#")), link
        link = link.removeprefix(FILES)
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), link
