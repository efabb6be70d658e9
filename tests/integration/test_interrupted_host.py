"""Exceptions out of the signal handlers of a host program, at every point of `dag.run`: nothing of ours is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Runs a dag again and again; the signal comes at another call of a function of the engine each time.
PROGRAM = """\
import os, signal, sys, threading

sys.path.insert(0, {root!r})
from liteflow import Command, Dag, Task

MODE, START, STEP = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


class SoftLimit(BaseException):
    pass


def on_signal(number, frame):
    raise SoftLimit


signal.signal(signal.SIGUSR1, on_signal)
HOST = os.getpid()


def work(x):
    return x + 1


def dag():
    with Dag("host", "host.db") as dag:
        first = dag.task(work, "first", x=1)
        dag.task(work, "second", x=first, timeout=20)
        dag.add_task(Task("third", body=Command(("true",))))
    return dag


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))


def settled():
    try:
        return os.waitpid(-1, os.WNOHANG) and "a child is left"
    except ChildProcessError:
        return ""


class At:
    def __init__(self, number):
        self.left = number
        self.hit = False

    def __call__(self, frame, event, argument):
        if event == "call" and os.getpid() == HOST and "liteflow" in frame.f_code.co_filename:
            self.left -= 1
            if self.left == 0:
                self.hit = True
                sys.setprofile(None)
                signal.raise_signal(signal.SIGUSR1)


dag().run(mode=MODE)  # what is made once, such as imports, is made
before, threads, interrupted, number = len(descriptors()), threading.active_count(), 0, START
while True:
    at = At(number)
    sys.setprofile(at)
    try:
        dag().run(mode=MODE)
    except SoftLimit:
        interrupted += 1
    finally:
        sys.setprofile(None)
    assert not settled(), (number, "a child is left")
    assert len(descriptors()) <= before, (number, descriptors())
    assert threading.active_count() <= threads, (number, threading.enumerate())
    assert signal.getsignal(signal.SIGUSR1) is on_signal, number
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, number
    if not at.hit:
        break
    number += STEP
assert interrupted > 20, interrupted
run = dag().resume() if dag().runs(1)[0].status != "SUCCESS" else dag().run(mode=MODE)
assert run.status == "SUCCESS"
print("points", interrupted)
"""


@pytest.mark.parametrize("mode", ["process", "thread", "async", "inline"])
def test_an_exception_out_of_a_signal_handler_leaves_nothing(tmp_path: Path, mode: str) -> None:
    program = tmp_path / "host.py"
    program.write_text(PROGRAM.format(root=str(ROOT)))
    done = subprocess.run(
        [sys.executable, str(program), mode, "1", "23"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "points" in done.stdout
    assert done.stderr == ""


LONG = """\
import signal, sys, time

sys.path.insert(0, {root!r})
from liteflow import Dag


class SoftLimit(Exception):
    pass


def on_alarm(number, frame):
    raise SoftLimit


def slow():
    time.sleep(600)


signal.signal(signal.SIGALRM, on_alarm)
signal.setitimer(signal.ITIMER_REAL, 0.5)
with Dag("slow", "slow.db") as dag:
    dag.task(slow)
began = time.monotonic()
try:
    print(dag.run(mode=sys.argv[1]).failures())
except SoftLimit:
    print("raised")
print("soon" if time.monotonic() - began < 30 else "late", signal.getsignal(signal.SIGALRM) is on_alarm)
"""


@pytest.mark.parametrize(("mode", "message"), [("process", "raised"), ("thread", "raised"), ("inline", "SoftLimit")])
def test_a_soft_limit_ends_a_run_at_once(tmp_path: Path, mode: str, message: str) -> None:
    program = tmp_path / "host.py"
    program.write_text(LONG.format(root=str(ROOT)))
    done = subprocess.run(
        [sys.executable, str(program), mode], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert message in done.stdout, done.stderr
    assert "soon True" in done.stdout


def test_a_current_folder_that_was_removed_is_named(tmp_path: Path) -> None:
    program = f"""\
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from liteflow import Dag, DefinitionError
with Dag("here", sys.argv[1]) as dag:
    dag.task(lambda: None, "nothing")
folder = "gone"
os.mkdir(folder)
os.chdir(folder)
os.rmdir("../gone")
for act in (dag.run, dag.resume):
    try:
        act()
    except DefinitionError as error:
        print(error)
"""
    for db in ("x.db", str(tmp_path / "x.db")):
        done = subprocess.run([sys.executable, "-c", program, db], cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout.count("the current folder no longer exists: change to one that does") == 2, done.stderr
