"""The views of a run at work: what they count, what they write, and that no frame is higher than the screen."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest
from rich.console import Console

from lightflow.cli.progress import Progress, ProgressDisplay, render
from lightflow.engine.logger import LogDisplay
from liteflow.record import replace
from liteflow.running.observers import Change, RunStart
from liteflow.work import Outcome


def begin(view: Any, tasks: int = 3) -> Any:
    run = RunStart(
        run_id="run-1",
        dag_id="flow",
        db_path="/x/lightflow.db",
        log_dir=None,
        mode="thread",
        max_workers=4,
        task_ids=[f"t{number}" for number in range(tasks)],
        mapped_tasks=frozenset(),
        has_hooks=False,
        finished={},
    )
    view(run)
    return view


def started(name: str, at: float = 100.0) -> Change:
    return Change(task_id=name, map_index=-1, attempt=1, previous="PENDING", status="RUNNING", at=at)


def ended(name: str, status: Any = "SUCCESS", reason: str | None = None) -> Change:
    outcome = Outcome(0, 1, "SUCCESS", None, None, None, 0, 100.0, 103.2, None)
    return Change(
        task_id=name,
        map_index=-1,
        attempt=1,
        previous="RUNNING",
        status=status,
        reason=reason,
        at=103.2,
        outcome=outcome,
    )


def frame(progress: Progress, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(render(progress, width, height, now=110.0))
    return capture.get().splitlines()


def test_a_frame_shows_the_progress_of_the_run() -> None:
    progress = Progress()
    begin(progress.begin)
    progress.began_at = 100.0
    progress.apply([started("t0"), started("t1", 105.0)])
    progress.apply([ended("t0", "FAILED", "exit code\n3")])
    assert frame(progress, 80, 20) == [
        "flow  1/3 tasks  10.0 s",
        "━" * 20 + "─" * 40,
        "✓ 0 done  ✗ 1 failed  ▶ 1 running  ○ 1 pending  ",
        "▶ t1  5.0 s",
        "✗ t0 failed  exit code\\n3",
    ]


def unfolded(name: str, count: int, waiting: int) -> Change:
    return Change(
        task_id=name,
        map_index=-1,
        attempt=0,
        previous="PENDING",
        status="RUNNING",
        at=100.0,
        instances=(count, waiting),
    )


def failed_as_a_whole(name: str, reason: str) -> Change:
    return Change(task_id=name, map_index=-1, attempt=0, previous="RUNNING", status="FAILED", reason=reason, at=110.0)


def of_instance(change: Change, index: int) -> Change:
    return replace(change, map_index=index)


def test_a_frame_counts_instances_and_their_task_once() -> None:
    progress = Progress()
    begin(progress.begin)
    progress.began_at = 100.0
    # Ten of the fifty ended before the run was resumed.
    progress.apply([started("t0"), ended("t0"), unfolded("t1", 50, 40)])
    progress.apply([of_instance(started("t1"), index) for index in (10, 11, 12)])
    progress.apply([of_instance(ended("t1"), 10), of_instance(ended("t1", "FAILED", "no"), 11)])
    assert frame(progress, 80, 20) == [
        "flow  1/3 tasks, 12/50 instances  10.0 s",
        "━" * (60 * 3 // 42) + "─" * (60 - 60 * 3 // 42),
        "✓ 2 done  ✗ 1 failed  ▶ 1 running  ○ 38 pending  ",
        "▶ t1[12]  10.0 s",
        "✗ t1[11] failed  no",
    ]
    progress.apply([of_instance(started("t1"), index) for index in range(13, 50)])
    progress.apply([of_instance(ended("t1"), index) for index in range(12, 50)])
    progress.apply([failed_as_a_whole("t1", "1 of 50 instances failed")])
    assert progress.words == "2/3 tasks, 50/50 instances"
    assert progress.ended == sum(progress.counts.values()) - 1
    assert [name for _, name, _ in progress.events] == ["t1[11]"]


def test_of_many_instances_only_failures_have_lines() -> None:
    stream = io.StringIO()
    view = LogDisplay(stream)
    view.changed([unfolded("t1", 1000, 950)])
    for index in range(50, 1000):
        wrong = index in (70, 500)
        view.changed([of_instance(started("t1"), index)])
        view.changed([of_instance(ended("t1", "FAILED" if wrong else "SUCCESS", "no" if wrong else None), index)])
    view.changed([failed_as_a_whole("t1", "2 of 1,000 instances failed")])
    lines = [line.partition(" ")[2] for line in stream.getvalue().splitlines()]
    assert lines == [
        "t1 has 1,000 instances",
        "t1[70] FAILED 3.20 s - no",
        *(f"t1 {tenth}00/1,000 done, 1 failed" for tenth in range(1, 5)),
        "t1 500/1,000 done, 1 failed",
        "t1[500] FAILED 3.20 s - no",
        *(f"t1 {tenth}00/1,000 done, 2 failed" for tenth in range(6, 10)),
        "t1 FAILED - 2 of 1,000 instances failed",
    ]


@pytest.mark.parametrize("height", [4, 8, 24])
@pytest.mark.parametrize("width", [20, 60, 200])
def test_a_frame_fits_any_screen(width: int, height: int) -> None:
    progress = Progress()
    begin(progress.begin, 500)
    progress.apply([started(f"t{number}") for number in range(300)])
    progress.apply([ended(f"t{number}", "FAILED", "long " * 50) for number in range(5)])
    lines = frame(progress, width, height)
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    if height == 24:
        assert any("more" in line for line in lines)


def test_plain_lines() -> None:
    stream = io.StringIO()
    view = LogDisplay(stream)
    begin(view.run_began)
    view.changed([started("t0")])
    view.changed([ended("t0"), ended("t1", "FAILED", "exit \x1b 3")])
    lines = [line.partition(" ")[2] for line in stream.getvalue().splitlines()]
    assert lines == [
        "flow: run run-1, 3 tasks, 4 at once, mode thread",
        "t0 SUCCESS 3.20 s",
        "t1 FAILED 3.20 s - exit \\x1b 3",
    ]


def test_quiet_lines_are_failures_only() -> None:
    stream = io.StringIO()
    view = LogDisplay(stream, quiet=True)
    begin(view.run_began)
    view.changed([started("t0"), ended("t0"), ended("t1", "FAILED")])
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["t1"]


class ClosedPipe(io.StringIO):
    """A stream whose reader goes away after some writes."""

    def __init__(self, good_writes: int) -> None:
        super().__init__()
        self.good_writes, self.failed_writes = good_writes, 0

    def write(self, text: str) -> int:
        if self.good_writes == 0:
            self.failed_writes += 1
            raise BrokenPipeError(32, "Broken pipe")
        self.good_writes -= 1
        return super().write(text)


@pytest.mark.parametrize("good_writes", [0, 1, 2])
def test_a_display_stops_writing_when_its_reader_is_gone(good_writes: int) -> None:
    stream = ClosedPipe(good_writes)
    view = LogDisplay(stream)
    begin(view.run_began)
    for name in ("t0", "t1", "t2"):
        view.changed([ended(name)])
    view.close()
    assert len(stream.getvalue().splitlines()) == good_writes
    assert stream.failed_writes == 1, "the display tried again although nobody reads"


def test_the_live_view_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    view = ProgressDisplay(stream)
    begin(view.run_began)
    view.run_ended("SUCCESS", None)
    view.close()
    assert view._painter is not None
    assert not view._painter.is_alive()
    assert stream.getvalue() == ""  # over before there was anything to paint


@pytest.mark.parametrize("output", ["quiet", "prefix"])
@pytest.mark.parametrize("display", [ProgressDisplay, LogDisplay])
def test_a_display_whose_run_never_began_writes_nothing(display: Any, output: str) -> None:
    stream = io.StringIO()
    view = display(stream, output=output)
    threads = set(threading.enumerate())
    view.close()
    assert set(threading.enumerate()) <= threads, "one of another test may end meanwhile"
    assert (view.run_id, stream.getvalue(), stream.closed) == ("", "", False)
