"""Follow the log of an attempt while it grows, and keep lines above the painted frame."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from lightflow.cli.progress import Screen
from lightflow.engine.formatting import display_name
from lightflow.engine.task_output import LAST_LINES, MOST_LINES, LogTail
from liteflow.api import duration_text


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "task.log"


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def test_a_line_is_yielded_when_it_is_complete(log: Path) -> None:
    tail = LogTail(str(log), 0.0)
    assert list(tail.new_lines(0.0, ended=False)) == []
    assert not tail.has_output
    append(log, b"one\ntw")
    assert list(tail.new_lines(0.1, ended=False)) == ["one"]
    append(log, "o ö".encode()[:-1])
    assert list(tail.new_lines(0.2, ended=False)) == []
    append(log, "ö".encode()[-1:] + b"\n\nlast")
    assert list(tail.new_lines(0.3, ended=False)) == ["two ö", ""]
    assert list(tail.new_lines(0.4, ended=True)) == ["last"]
    assert tail.has_output


def test_a_progress_bar_is_yielded_at_intervals_and_in_its_last_state(log: Path) -> None:
    tail = LogTail(str(log), 0.0)
    append(log, b"\r 1%\r 2%")
    assert list(tail.new_lines(0.5, ended=False)) == []
    assert list(tail.new_lines(2.5, ended=False)) == [" 2%"]
    append(log, b"\r 3%")
    assert list(tail.new_lines(3.0, ended=False)) == []
    append(log, b"\r100%\ndone\r\n")
    assert list(tail.new_lines(3.5, ended=False)) == ["100%", "done"]


def test_very_much_output_is_shown_in_part_until_it_slows_down(log: Path) -> None:
    tail = LogTail(str(log), 0.0)
    append(log, b"".join(b"%d\n" % number for number in range(MOST_LINES + 500)))
    assert list(tail.new_lines(0.0, ended=False)) == [str(number) for number in range(MOST_LINES)]
    append(log, b"more\n")
    assert list(tail.new_lines(1.0, ended=False)) == []
    append(log, b"calm\n")
    note, calm = list(tail.new_lines(20.0, ended=False))
    assert note.startswith("… 501 lines not shown, see ")
    assert calm == "calm"
    assert list(tail.new_lines(21.0, ended=True)) == []


def test_the_last_lines_of_very_much_output_are_shown_at_the_end(log: Path) -> None:
    tail = LogTail(str(log), 0.0)
    append(log, b"x\n" * MOST_LINES + b"".join(b"%d\n" % number for number in range(300)) + b"end")
    assert len(list(tail.new_lines(0.0, ended=False))) == MOST_LINES
    note, *last = list(tail.new_lines(0.0, ended=True))
    assert note.startswith(f"… {301 - LAST_LINES} lines not shown")
    assert last == [*(str(number) for number in range(300 - LAST_LINES + 1, 300)), "end"]


def test_a_removed_or_truncated_log_is_not_an_error(log: Path) -> None:
    tail = LogTail(str(log), 0.0)
    append(log, b"one\n")
    assert list(tail.new_lines(0.0, ended=False)) == ["one"]
    log.write_bytes(b"")
    assert list(tail.new_lines(0.1, ended=False)) == []
    log.unlink()
    assert list(tail.new_lines(0.2, ended=True)) == []


def test_lines_above_the_frame_are_never_erased() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    screen.write("above\n")
    screen.paint(["head", "body"])
    screen.paint(["head"])
    screen.write("more\n")
    screen.paint(["head"])
    screen.clear()
    screen.clear()
    assert stream.getvalue() == (
        "above\n"
        "\x1b[?25l\r\x1b[2Khead\n\x1b[2Kbody\x1b[J\r\x1b[1A"
        "\r\x1b[2Khead\x1b[J\r"
        "\r\x1b[Jmore\n"
        "\r\x1b[2Khead\x1b[J\r"
        "\r\x1b[J\x1b[?25h"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0, "0 ms"),
        (-0.5, "0 ms"),
        (0.0034, "3 ms"),
        (0.9994, "999 ms"),
        (1.0, "1.00 s"),
        (75, "1 min 15 s"),
    ],
)
def test_short_times_are_milliseconds(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


def test_the_display_name_of_an_instance_has_its_key() -> None:
    assert display_name("fetch", -1) == "fetch"
    assert display_name("fetch", 3) == "fetch[3]"
    assert display_name("fetch", 3, "gam\x1bma\n") == "fetch[3] gam\\x1bma\\n"
    assert len(display_name("fetch", 3, "x" * 500)) < 80
