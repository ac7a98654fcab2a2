"""The site of documentation: `make docs` builds it from the pages of the repository, which GitHub shows too.

The root of the sources is that of the repository, so relative links between pages need no change, and other
files that pages link to are copied to the site.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["KERAS_BACKEND"] = "numpy"  # the one that loads fastest

from sphinx.util import logging

import fastinit

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "fastinit"
author = "the fastinit developers"
version = release = fastinit.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = ["*.md", "docs/**", "examples/notebooks/*.ipynb"]
exclude_patterns = [".*", "bench-results", "benches", "dist", "python", "src", "target", "tests", "tools"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext", ".ipynb": "markdown"}
# Other projects cannot be looked up without a network, `code` in docstrings is not always a name, and private
# names, which types have, are not in the reference.
nitpick_ignore_regex = [("py:.*", r"(?s)(?!fastinit(\.[^\W_]\w*)+\Z).*")]
default_role = "py:obj"
suppress_warnings = ["ref.python"]  # Adapters have classes of the same name; the nearest is meant.

myst_heading_anchors = 4
myst_links_external_new_tab = False

python_use_unqualified_type_names = True
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "special-members": "__call__"}
autodoc_type_aliases = {
    name: name for name in ("Array", "Axes", "Blocks", "DTypeLike", "Index", "Seed", "Shape", "Stream")
}
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"fastinit {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

# Links of the README are absolute, since PyPI shows it too; on the site they lead to its pages.
FILES = "https://github.com/fastinit/fastinit/blob/main/"
# The pages, in the order of the sidebar.
PAGES = {
    "Use": ("docs", "start initializers pytorch keras jax frameworks checkpoints"),
    "Choose": ("docs", "guide recipes trace"),
    "Notebooks": ("examples/notebooks", "pytorch keras choosing"),
    "Look up": ("docs", "migration troubleshooting how-it-works stream-v2 figures"),
    "Reference": ("docs/api", "fastinit checkpoint guidance torch keras jax haiku types"),
    "Project": (".", "CONTRIBUTING ARCHITECTURE SECURITY CHANGELOG"),
}
# The modules whose public names must be in the reference.
MODULES = ("", ".checkpoint", ".guidance", ".torch", ".keras", ".jax", ".haiku")


def change_source(app: Sphinx, name: str, source: list[str]) -> None:
    """Adds the sidebar to the root page, makes its links relative, and turns notebooks into Markdown."""
    if name == root_doc:
        source[0] = source[0].replace(FILES, "")
        for caption, (folder, pages) in PAGES.items():
            entries = "\n".join(f"{folder}/{page}" for page in pages.split())
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"
    elif Path(app.env.doc2path(name)).suffix == ".ipynb":
        cells = [markdown(cell) for cell in json.loads(source[0])["cells"]]
        source[0] = "\n\n".join([*cells, f"The notebook: {{download}}`{Path(name).name}.ipynb`"])


def markdown(cell: dict) -> str:
    """A cell of a notebook, with what it prints."""
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return text
    shown = "".join("".join(output["text"]) for output in cell["outputs"])
    return f"```python\n{text}\n```" + (f"\n\n```text\n{shown.rstrip()}\n```" if shown else "")


def join_names(*arguments: Any) -> None:
    """Keeps attributes that are described together; else Sphinx takes all but the last for a type."""
    lines = arguments[-1]
    lines[:] = [
        re.sub(r"(?<=^:ivar )\w+(, \w+)+:", lambda names: names[0].replace(" ", ""), line) for line in lines
    ]


def check_reference(app: Sphinx, *_: object) -> None:
    """Warns of public names without documentation."""
    documented = app.env.domains.python_domain.objects
    for suffix in MODULES:
        module = importlib.import_module("fastinit" + suffix)
        for name in module.__all__:
            if f"{module.__name__}.{name}" not in documented:
                logging.getLogger(__name__).warning("not in docs/api: %s.%s", module.__name__, name)


def finish(app: Sphinx, error: Exception | None) -> None:
    """Makes the root page the one that a browser opens first."""
    if error is None and app.builder.name == "html":
        shutil.copy(app.outdir / "README.html", app.outdir / "index.html")


def setup(app: Sphinx) -> None:
    """Connects the functions above."""
    app.connect("source-read", change_source)
    app.connect("autodoc-process-docstring", join_names, priority=600)  # after napoleon
    app.connect("env-check-consistency", check_reference)
    app.connect("build-finished", finish)
