"""Tables and the progress of long tasks."""

import io
import sys

import pytest

from fastinit._terminal import Bar, printable, table


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
    assert err.rstrip().endswith("100%") == bool(lines)


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
    assert terminal.getvalue().endswith("100%\n")


def test_a_line_where_rich_already_shows_something(monkeypatch):
    progress = pytest.importorskip("rich.progress")
    errors = pytest.importorskip("rich.errors")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    def start(_):
        raise errors.LiveError("only one live display may be active at once")

    monkeypatch.setattr(progress.Progress, "start", start)
    run(True)
    assert terminal.getvalue().endswith("100%\n")


def test_a_table():
    text = table(("name", "n"), [("a\tb", "10"), ("c", "7")], "<>")
    assert text.splitlines() == ["name   n", r"a\tb  10", "c      7"]
    wrapped = table(("a", "b"), [("x", "one two three")], wrap=8)
    assert wrapped.splitlines() == ["a  b", "x  one two", "   three"]
    assert printable("\x1b[31m") == r"\x1b[31m"
