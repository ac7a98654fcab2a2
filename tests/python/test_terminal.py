"""Tables, the text of results, and the progress of long tasks."""

import io
import json
import re
import sys
import unicodedata

import numpy as np
import pytest

import fastinit
from fastinit._results import Result, Rows
from fastinit._terminal import Bar, Table, paragraph, printable, table


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(progress):
    bar = Bar(progress, 4)
    try:
        for name in ("first", "[red]second[/]\n"):
            bar.add(2, name)
    finally:
        bar.close()


def test_a_function_is_called():
    calls = []
    run(lambda *call: calls.append(call))
    assert calls == [(2, 4, "first"), (4, 4, "[red]second[/]\n")]


@pytest.mark.parametrize(("progress", "lines"), [(True, 1), (False, 0), (None, 0)])
def test_a_line_where_there_is_no_terminal(progress, lines, capsys):
    run(progress)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == lines
    assert err.startswith("\r ") == bool(lines)  # at once
    assert r"100%  [red]second[/]\n" in err or not lines


@pytest.mark.parametrize("progress", [True, None])
def test_a_bar_of_rich_on_a_terminal(progress, monkeypatch):
    pytest.importorskip("rich")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run(progress)
    assert "100%" in terminal.getvalue()
    assert r"[red]second[/]\n" in terminal.getvalue()  # literally


def test_a_line_where_rich_is_not_installed(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    run(None)
    assert terminal.getvalue().endswith("100%  [red]second[/]\\n\n")


def test_a_line_where_rich_already_shows_something(monkeypatch):
    progress = pytest.importorskip("rich.progress")
    errors = pytest.importorskip("rich.errors")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    def start(_):
        raise errors.LiveError("only one live display may be active at once")

    monkeypatch.setattr(progress.Progress, "start", start)
    run(True)
    assert terminal.getvalue().endswith("100%  [red]second[/]\\n\n")


def test_what_is_done_now_is_shown_before_it_is_done(capsys):
    bar = Bar(True, 2, "loading")
    assert "0%  loading" in capsys.readouterr().err
    bar.show("first, epoch 1 of 2")
    assert "0%  first, epoch 1 of 2" in capsys.readouterr().err
    bar.show("x")
    # The rest of the longer line before is overwritten.
    assert capsys.readouterr().err.endswith("0%  x" + " " * len("first, epoch 1 of "))
    bar.show("first" * 1000)
    assert len(capsys.readouterr().err) <= 120
    bar.close()
    calls = []
    bar = Bar(lambda *call: calls.append(call), 2, "loading")
    bar.show("first")
    assert not calls


# Tables


def width_of(text):
    """The columns that a text takes on a terminal, by the standard of Unicode."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.category(c) == "Mn" for c in text)


def test_a_table():
    text = table(("name", "n"), [("a\tb", "10"), ("c", "7")], "<>")
    assert text.splitlines() == ["name   n", r"a\tb  10", "c      7"]
    wrapped = table(("a", "b"), [("x", "one two three")], wrap=8)
    assert wrapped.splitlines() == ["a  b", "x  one two", "   three"]
    assert printable("\x1b[31m") == r"\x1b[31m"
    assert table(("a", "b"), []) == "a  b"


NAMES = (
    "model.layers.12.self_attn.q_proj.weight",
    "block_8_project_BN/moving_variance",
    "x",
    "encoder/layer.0/kernel (+1)",
    "層.層.カーネル.weight",
    "too large: normal, std 0.01",
)
NUMBERS = ("-1.25e-05", "0.0123", "1e+10", "-99.9%", "0", "12,345,678")
WORDS = "the std 9.977e-06 with 64 inputs makes a signal 1.25e+04 times smaller; use fastinit.lecun_normal"


def large(wrap):
    rows = [
        (a, b, "float32", b, NUMBERS[(i + 1) % 6], WORDS if wrap else b)
        for i, (a, b) in enumerate(zip(NAMES, NUMBERS, strict=True))
    ]
    return Table(("tensor", "least", "dtype", "pre-activation", "max", "what"), rows, "<><>><", wrap=wrap)


@pytest.mark.parametrize("wrap", [0, 70])
@pytest.mark.parametrize("columns", [*range(30, 130, 7), 200])
def test_tables_fit_and_keep_words_whole(monkeypatch, columns, wrap):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = str(large(wrap))
    lines = text.splitlines()
    assert max(map(width_of, lines)) <= columns
    words = set(re.split(r"\s+", text))
    assert set(NUMBERS) <= words
    names = (*NAMES, *[WORDS][: bool(wrap)])
    whole = {word for name in names for word in re.split(r"[ ./_:,;(+)]+", name) if word.isalpha()}
    assert whole <= set(re.split(r"[\s./_:,;()+]+", text))
    assert not wrap or {"9.977e-06", "1.25e+04"} <= words


def test_columns_of_wide_characters_are_aligned(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    names = ["層", "カーネル", "a\u0301", "ascii", "😀"]
    lines = table(("name", "n"), [(name, "1") for name in names], "<>").splitlines()
    assert {width_of(line) for line in lines} == {max(map(width_of, names)) + 3}


def test_a_word_without_a_place_to_break_loses_its_middle(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    text = table(("name", "n"), [("begin" + "a" * 100_000 + "end", "1"), ("b" * 21 + "層" * 500, "22")], "<>")
    assert max(map(width_of, text.splitlines())) <= 60
    assert re.search(r"begina+\.\.\.a+end", text)
    text = table(("name", "n"), [(".".join(["part"] * 5000), "1")], "<>")
    assert len(text.splitlines()) < 10


def test_a_table_that_is_folded(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    rows = [("a" * 15, "b" * 15, "1", ""), ("a", "b", "", "")]
    lines = table(("first", "second", "n", "note"), rows, "<<>").splitlines()
    assert lines == [
        *("first", "  second           n  note"),
        *("aaaaaaaaaaaaaaa", "  bbbbbbbbbbbbbbb  1"),
        *("a", "  b"),
    ]


@pytest.mark.parametrize("columns", ["", "0", "80"])
def test_the_width_where_there_is_no_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    text = paragraph("word " * 100)
    assert max(map(len, text.splitlines())) == (79 if columns == "80" else 109)
    assert text.splitlines()[1].startswith("  word")


def test_html_is_escaped():
    made = Table(("<b>", "n"), [("<script>alert('x')</script>\x1b", "1")], "<>").to_html()
    assert "<script>" not in made
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;\\x1b" in made
    assert made.count("<td") == made.count("<th ") == 2


# Results


def results():
    """A result of each kind that functions return, with names that are hostile."""
    evil = "<script>\x1b[2J"
    kernel = fastinit.random_normal((64, 64), stddev=1e-6, seed=0)
    yield fastinit.recommend("relu", proposal="zeros")
    yield fastinit.signal({evil: "he_normal", "b": "zeros"}, depth=3, width=8)
    yield fastinit.diagnose({evil: kernel, f"{evil}2": np.zeros((8, 8), np.complex64)})
    yield Report((), uninitialized=(evil,))


Report = pytest.importorskip("fastinit._report").Report


@pytest.mark.parametrize("number", range(4))
def test_results_are_shown_in_short_and_escaped(number):
    found = list(results())[number]
    assert len(repr(found)) <= 200
    assert "\n" not in repr(found)
    assert repr(found).startswith(f"{type(found).__name__}(")
    assert "\x1b" not in str(found) + found._repr_html_()
    assert "<script>" not in found._repr_html_()
    assert found._repr_html_().count("<table>") == found._repr_html_().count("</table>") >= 1
    made = json.loads(json.dumps(found.to_dict()))
    assert made["schema"] == f"{type(found).__name__.lower()}/1"
    assert not any("schema" in row for row in made.get("rows", ()))


def test_a_result_that_only_has_text():
    class Plain(Result):
        def __init__(self):
            self.numbers = np.ones((3, 4))
            self.items = tuple(range(9))

        def __str__(self):
            return "<b>\x1b"

    assert repr(Plain()) == "Plain(numbers=<3 x 4 numbers>, items=<9 items>)"
    assert Plain()._repr_html_() == '<pre style="white-space: pre-wrap">&lt;b&gt;\\x1b</pre>'
    assert "schema" not in Plain().to_dict()
    assert Rows._schema == 1


def test_rows_of_many_layers_share_a_row():
    tensors = {}
    for layer in range(50):
        for name in ("q", "k"):
            full = f"layers.{layer}.{name}.kernel"
            tensors[full] = fastinit.he_normal((64, 64), seed=0, stream=full)
        # The last one of 50 differs.
        tensors[f"layers.{layer}.odd.kernel"] = fastinit.random_normal(
            (32, 32), seed=layer, stddev=1e-6 if layer == 49 else 0.18
        )
    found = fastinit.diagnose(tensors)
    lines = str(found).splitlines()
    assert lines[0].startswith("150 tensors, 460,800 elements: 1 severe")
    assert len(lines) < 25
    text = str(found)
    assert "(50 tensors)" in text
    assert "layers.49.odd" in text
    assert "(49 tensors)" in text
    every = found.to_text(full=True)
    assert all(f"layers.{layer}.q" in every for layer in range(50))


def test_tensors_with_findings_come_first(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    names = [chr(97 + i // 26) + chr(97 + i % 26) for i in range(200)]
    tensors = {f"{n}.kernel": fastinit.he_normal((32, 32), seed=0, stream=n) for n in names}
    tensors["zz.kernel"] = np.zeros((32, 32), np.float32)
    for name in names[100:140]:
        tensors[f"{name}.kernel"] = fastinit.random_normal((32, 32), stddev=1e-6, seed=0, stream=name)
    text = str(fastinit.diagnose(tensors))
    table_of_tensors = text.split("fan in, out")[1]
    assert "... and 20 findings more; to_text(full=True), or --all in a shell, lists all" in text
    assert "... and 181 tensors more" in table_of_tensors
    assert "aa.kernel" not in text
    assert names[100] in table_of_tensors
    assert len(text.splitlines()) < 110
    assert len(fastinit.diagnose(tensors).to_text(full=True).splitlines()) > 240


def test_a_bar_of_bytes_shows_the_rate_and_the_remaining_time(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("fastinit._terminal.time.perf_counter", lambda: now[0])
    bar = Bar(True, 10**10, in_bytes=True)
    now[0] = 2.0
    bar.add(4 * 10**9, "up.weight")
    now[0] = 3.0
    bar.add(6 * 10**9, "down.weight")
    bar.close()
    lines = capsys.readouterr().err.split("\r")
    assert lines[2].rstrip().endswith("40%  2 GB/s, 0:03 left  up.weight")
    assert lines[3].rstrip().endswith("100%  3.33 GB/s, 0:00 left  down.weight")
