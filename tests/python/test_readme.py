"""The examples of the README run, and give what they show."""

import doctest
import importlib.util
import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent.parent / "README.md"


def test_examples_run(tmp_path, monkeypatch):
    pytest.importorskip("ml_dtypes")
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n.*?^```$", text, re.DOTALL | re.MULTILINE)
    assert blocks
    monkeypatch.chdir(tmp_path)  # an example writes a file
    monkeypatch.setenv("KERAS_BACKEND", "numpy")  # unless it was imported already
    names = {}  # one block goes on where the one before ended
    for block in blocks:
        needed = [name for name in ("torch", "keras") if f"{name}." in block]
        if not all(map(importlib.util.find_spec, needed)):
            continue
        line = text[: text.index(block)].count("\n")
        # The fences are blanked, so that the last line shown is not part of what is expected.
        example = doctest.DocTestParser().get_doctest(
            block.replace("```python", "").replace("```", ""), names, "README.md", str(README), line
        )
        assert example.examples
        failed, _ = doctest.DocTestRunner().run(example, clear_globs=False)
        assert not failed
        names = example.globs
