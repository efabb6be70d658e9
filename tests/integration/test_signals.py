"""Real scripts, real signals: what a user sees, and that nothing stays alive."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from liteflow import DagRun
from liteflow.processes import tree
from liteflow.state.history import History

Start = Callable[..., "subprocess.Popen[str]"]

SCRIPT = """
import os, signal, subprocess, sys, time
from liteflow import Command, Dag, Task

db, trail, mode, stubborn = sys.argv[1:5]

def say(word):
    handle = os.open(trail, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, (word + "\\n").encode())
    os.close(handle)

def before():
    say("before")

def work(before):
    if os.path.exists(db + ".go"):
        say("work-done")
        return
    if stubborn == "yes":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "process":
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        say(f"pid:{child.pid}")
        say(f"pid:{os.getpid()}")
    say("working")
    while True:
        time.sleep(0.01)

def after(work):
    say("after")

with Dag("flow", db) as dag:
    dag.task(before)
    dag.task(work, kill_grace=600 if stubborn == "yes" else None)
    dag.task(after)
    if not os.path.exists(db + ".go"):
        dag.add_task(Task("shell", body=Command(("/bin/sh", "-c", f"echo pid:$$ >> {trail}; exec sleep 1000"))))
try:
    if len(sys.argv) > 5:
        run = dag.resume(max_workers=4)
    else:
        run = dag.run(max_workers=4, mode=mode)
    print(run.status)
except KeyboardInterrupt:
    say("KeyboardInterrupt")
    raise
"""


def pids(words: list[str]) -> list[int]:
    return [int(word.removeprefix("pid:")) for word in words if word.startswith("pid:")]


def alive(pid: int) -> bool:
    row = tree.process(pid)
    return row is not None and row.state not in "ZX"


def await_death(some: list[int]) -> None:
    give_up = time.monotonic() + 120
    while left := [pid for pid in some if alive(pid)]:
        assert time.monotonic() < give_up, f"still alive: {left}"
        time.sleep(0.01)


def begin(start: Start, db: str, trail: Any, mode: str, stubborn: str = "no") -> subprocess.Popen[str]:
    process = start(SCRIPT, db, trail.path, mode, stubborn)
    trail.wait_for("working")
    give_up = time.monotonic() + 120
    while len(pids(trail.words())) < (3 if mode == "process" else 1):
        assert time.monotonic() < give_up
        time.sleep(0.005)
    return process


def finish(start: Start, db: str, trail: Any, mode: str) -> None:
    """A resume ends the run, and repeats nothing."""
    open(f"{db}.go", "w").close()
    process = start(SCRIPT, db, trail.path, mode, "no", "resume")
    out, err = process.communicate(timeout=120)
    assert (out, err, process.returncode) == ("SUCCESS\n", "", 0)
    words = [word for word in trail.words() if not word.startswith("pid:")]
    assert words.count("before") == 1
    assert words[-2:] == ["work-done", "after"]


def run_of(db: str) -> DagRun:
    with History(db) as history:
        return DagRun.from_record(db, history.latest())


@pytest.mark.parametrize("mode", ["process", "thread"])
def test_sigint_stops_the_run_and_then_the_script(start: Start, db: str, trail: Any, mode: str) -> None:
    process = begin(start, db, trail, mode)
    if mode == "thread":
        process.send_signal(signal.SIGINT)  # the thread cannot be killed: a second one ends the run at once
        give_up = time.monotonic() + 120
        while run_of(db).statuses().get("shell") == "RUNNING":
            assert time.monotonic() < give_up
            time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "KeyboardInterrupt" in trail.words()
    await_death(pids(trail.words()))
    run = run_of(db)
    assert (run.status, run.reason) == ("INTERRUPTED", "interrupted by SIGINT")
    assert run.statuses() == {
        "before": "SUCCESS",
        "work": "CANCELLED",
        "shell": "CANCELLED",
        "after": "PENDING",
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_the_script_as_they_would(start: Start, db: str, trail: Any, number: signal.Signals) -> None:
    process = begin(start, db, trail, "process")
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (-number, "")
    await_death(pids(trail.words()))
    assert (run_of(db).status, run_of(db).reason) == ("INTERRUPTED", f"interrupted by {number.name}")
    assert "after" not in trail.words()


def test_a_second_sigint_does_not_wait_for_the_stubborn(start: Start, db: str, trail: Any) -> None:
    process = begin(start, db, trail, "process", "yes")
    process.send_signal(signal.SIGINT)
    give_up = time.monotonic() + 120
    while run_of(db).statuses()["shell"] == "RUNNING":  # the polite one has gone: the first signal was seen
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert process.poll() is None, "the stubborn one has its grace"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)  # less than the grace
    assert process.returncode == -signal.SIGINT
    await_death(pids(trail.words()))
    assert run_of(db).status == "INTERRUPTED"
    finish(start, db, trail, "process")


@pytest.mark.parametrize("mode", ["process", "thread"])
def test_kill_9_leaves_nothing_alive_and_resume_finishes(start: Start, db: str, trail: Any, mode: str) -> None:
    process = begin(start, db, trail, mode)
    process.kill()
    process.communicate(timeout=120)
    await_death(pids(trail.words()))
    give_up = time.monotonic() + 120
    while run_of(db).status != "INTERRUPTED":  # as soon as its guardian has swept
        assert time.monotonic() < give_up
        time.sleep(0.005)
    finish(start, db, trail, mode)
    with History(db) as history:
        attempts = [(entry.attempt, entry.status) for entry in history.attempts(history.latest().run_id, "work")]
    assert attempts == [(1, "LOST"), (2, "SUCCESS")]


def test_a_run_off_the_main_thread_leaves_signals_alone(start: Start, db: str) -> None:
    process = start(
        """
import signal, sys, threading
from liteflow import Dag

def a():
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler

with Dag("flow", sys.argv[1]) as dag:
    dag.task(a)
found = []
thread = threading.Thread(target=lambda: found.append(dag.run(mode="thread")))
thread.start()
thread.join()
print(found[0].status, found[0].value("a"))
""",
        db,
    )
    assert process.communicate(timeout=120) == ("SUCCESS True\n", "")


def test_handlers_are_put_back(start: Start, db: str) -> None:
    process = start(
        """
import signal, sys
from liteflow import Dag

with Dag("flow", sys.argv[1]) as dag:
    dag.task(lambda: 1, task_id="a")
mine = lambda *_: None
signal.signal(signal.SIGTERM, mine)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
dag.run(mode="inline")
print(signal.getsignal(signal.SIGTERM) is mine, signal.getsignal(signal.SIGHUP) is signal.SIG_IGN,
      signal.getsignal(signal.SIGINT) is signal.default_int_handler)
""",
        db,
    )
    assert process.communicate(timeout=120) == ("True True True\n", "")


def test_a_cancel_request_of_another_process(start: Start, db: str, trail: Any) -> None:
    from liteflow.state.admin import request

    process = begin(start, db, trail, "process")
    request(db, run_of(db).run_id, "cancel", "cancelled by hand")
    out, err = process.communicate(timeout=120)
    assert (out, err, process.returncode) == ("CANCELLED\n", "", 0)
    await_death(pids(trail.words()))
    assert run_of(db).reason == "cancelled by hand"
    assert os.path.exists(db)


C_HANDLER = """
#include <signal.h>
static void handle(int number) {}
__attribute__((constructor)) static void install(void) { signal(SIGHUP, handle); signal(SIGTERM, handle); }
"""


def test_signal_handlers_that_are_not_pythons_are_left_alone(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    (tmp_path / "handler.c").write_text(C_HANDLER)
    library = tmp_path / "handler.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "handler.c"], check=True)
    code = (
        "import signal; from liteflow import Dag; dag = Dag('d', 'd.db'); dag.task(int, 'a');"
        "print(dag.run(mode='thread').status, signal.getsignal(signal.SIGHUP))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("SUCCESS None\n", "", 0)
