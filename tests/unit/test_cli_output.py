"""What is printed: harmless to terminals, aligned, and the same for programs whatever the terminal."""

from __future__ import annotations

import io

import pytest

from lightflow.cli import output
from lightflow.service.json_shapes import iso


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b[2J\x9b", "\\x1b[2J\\x9b"),
        ("\u202eevil", "\\u202eevil"),
    ],
)
def test_task_output_cannot_command_a_terminal(printed: str, shown: str) -> None:
    assert output.plain_text(printed) == shown


def test_a_table_is_aligned_and_has_no_trailing_spaces() -> None:
    text = output.table(("NAME", "N", "WHY"), [("a", "1", ""), ("long", "100", "x")], "N")
    assert text == "NAME    N  WHY\na       1\nlong  100  x"


def test_a_table_is_cut_where_a_terminal_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = output.table(("A", "B"), [("ä" * 5, "漢字" * 20)], stream=Terminal())
    assert all(output.width(line) <= 20 for line in text.splitlines())
    assert "…" in text


def test_colours_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert output.paint("x", "bold red", Terminal()) == "\x1b[1;31mx\x1b[0m"
    assert output.paint("x", "red", io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.paint("x", "red", Terminal()) == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert output.paint("x", "red", Terminal()) == "x"


@pytest.mark.parametrize(("columns", "shown"), [(3, "abc"), (2, "a…"), (1, "…")])
def test_cut(columns: int, shown: str) -> None:
    assert output.cut("abc", columns) == shown
    assert output.width(output.cut("\x1b[31mabc\x1b[0m", columns)) == len(shown)


@pytest.mark.parametrize(("at", "text"), [(0.0, "1970-01-01T00:00:00.000Z"), (None, None), (1e300, None)])
def test_times_for_programs(at: float | None, text: str | None) -> None:
    assert iso(at) == text


def test_states_of_a_later_version_are_shown_by_their_word() -> None:
    assert output.state("DEFERRED") == "? deferred"
    assert output.state("INTERRUPTED") == "■ interrupted"
    assert output.counted({"SUCCESS": 1200, "FAILED": 0, "UPSTREAM_FAILED": 2}) == "1,200 succeeded, 2 upstream failed"
