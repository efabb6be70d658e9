"""A process that a task forks belongs to the task, and behaves as in a script: signals end it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Start = Callable[..., "subprocess.Popen[str]"]
MODES = ["thread", "process", "async", "inline"]

SCRIPT = """
import asyncio, concurrent.futures, multiprocessing, os, pty, signal, sys, time
from liteflow import Dag

def square(number):
    return number * number

def pool(method):
    with multiprocessing.get_context(method).Pool(2) as made:
        return made.map(square, [1, 2])

def futures(method):
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as made:
        return list(made.map(square, [1, 2]))

def idle():
    time.sleep(600)

def terminated(method):
    child = multiprocessing.get_context(method).Process(target=idle)
    child.start()
    child.terminate()
    child.join()
    return child.exitcode

def forked(number):
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    os.kill(child, number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def on_a_terminal(number):
    child, terminal = pty.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    os.kill(child, number)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(terminal)
    return code

what, argument, mode = sys.argv[1:4]
argument = int(argument) if argument.isdigit() else argument
times = int(sys.argv[4])

def many():
    return [globals()[what](argument) for _ in range(times)]

if __name__ == "__main__":
    dag = Dag("d", "d.db")
    async def coroutine():
        return many()
    dag.task(coroutine if mode == "async" else many, "t")
    run = dag.run(mode=mode, log_dir="logs").raise_for_failure()
    print(*run.value("t"), sep=",")
"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("what", "argument", "answer"),
    [
        ("pool", "fork", "[1, 4]"),
        ("pool", "spawn", "[1, 4]"),
        ("pool", "forkserver", "[1, 4]"),
        ("futures", "fork", "[1, 4]"),
        ("terminated", "fork", "-15"),
        ("terminated", "spawn", "-15"),
        ("forked", "15", "-15"),
        ("forked", "1", "-1"),
        ("on_a_terminal", "15", "-15"),
    ],
)
def test_children_that_a_task_forks_can_be_ended(
    start: Start, mode: str, what: str, argument: str, answer: str
) -> None:
    times = 20 if argument in ("fork", "15", "1") else 1
    process = start(SCRIPT, what, argument, mode, str(times))
    out, err = process.communicate(timeout=60)
    assert (out.strip(), err) == (",".join([answer] * times), "")


ENDS = """
import os, sys, time
from pathlib import Path
from liteflow import Dag

def forks(how):
    if os.fork() == 0:
        print("printed by the child", flush=True)
        if how == "raises":
            raise RuntimeError("raised by the child")
        if how == "exits":
            sys.exit(3)
        return "the child's value"
    code = os.waitstatus_to_exitcode(os.wait()[1])
    time.sleep(0.1)
    Path("code").write_text(str(code))
    raise ValueError("the task itself fails")

def after():
    with open("after", "a") as file:
        file.write("x")

async def forks_too(how):
    return forks(how)

mode, how = sys.argv[1:]
dag = Dag("d", db_path="d.db")
dag.task(forks_too if mode == "async" else forks, "forks", how=how)
for number in range(8):
    dag.task(after, f"after_{number}")
if __name__ == "__main__":
    run = dag.run(mode=mode, log_dir="logs", max_workers=1)
    print(run.status, run.statuses()["forks"], run.failures(), os.path.getsize("after"), Path("code").read_text())
"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("how", "code"), [("returns", 0), ("raises", 1), ("exits", 3)])
def test_a_child_that_comes_back_from_its_function_ends_as_in_a_script(
    start: Start, mode: str, how: str, code: int
) -> None:
    process = start(ENDS, mode, how)
    out, err = process.communicate(timeout=60)
    assert err == ""
    assert out.strip() == f"FAILED FAILED {{'forks': 'ValueError: the task itself fails'}} 8 {code}"
    logs = os.path.join(os.path.dirname(str(process.args[3])), "logs")  # type: ignore[index]
    (log,) = [name for name in os.listdir(logs) if name.startswith("task_forks_")]
    with open(os.path.join(logs, log), encoding="utf-8") as file:
        text = file.read()
    assert text.count("printed by the child") == 1
    assert text.count("RuntimeError: raised by the child") == (how == "raises")


OBSERVER = """
import os, sys
from liteflow import Dag, Observer

class Forks(Observer):
    def changed(self, changes):
        if os.fork() == 0:
            if sys.argv[1] == "raises":
                raise RuntimeError("raised by the child")
            return
        os.wait()

def work():
    pass

dag = Dag("d", db_path="d.db")
dag.task(work)
if __name__ == "__main__":
    print(dag.run(mode=sys.argv[2], log_dir="logs", observers=[Forks()]).status)
"""


@pytest.mark.parametrize("mode", ["thread", "process"])
@pytest.mark.parametrize("how", ["returns", "raises"])
def test_a_child_that_an_observer_forks_does_not_continue_the_run(start: Start, mode: str, how: str) -> None:
    out, err = start(OBSERVER, how, mode).communicate(timeout=60)
    assert out == "SUCCESS\n"
    assert err.count("RuntimeError: raised by the child") == (2 if how == "raises" else 0)


LOCK = """
import multiprocessing, os, signal, sys, threading, time
from liteflow import Dag, LiteflowError, Observer

def idle():
    time.sleep(600)

def start_fork():
    child = os.fork()
    if child == 0:
        idle()
    with open("forks", "a") as file:
        file.write(f"{child} ")

def work(where):
    if where == "task":
        start_fork()
    if os.path.exists("mended"):
        return
    if killed:
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError("not yet")

class Begins(Observer):
    def changed(self, changes):
        if where == "observer" and not os.path.exists("forks"):
            start_fork()

class Pool(Observer):
    def changed(self, changes):
        if where == "pool" and not os.path.exists("forks"):
            child = multiprocessing.get_context("fork").Process(target=idle, daemon=True)
            child.start()
            with open("forks", "w") as file:
                file.write(str(child.pid))

where, how, mode = sys.argv[1:4]
killed = how == "killed"
dag = Dag("d", db_path="d.db")
dag.task(work, where=where)
if __name__ == "__main__":
    if len(sys.argv) == 4:
        dag.run(mode=mode, observers=[Begins(), Pool()], log_dir="logs")
    with open("mended", "w"):
        pass
    try:
        print(dag.resume(mode=mode).status)
    except LiteflowError as error:
        print(error)
    os._exit(0)
"""


@pytest.mark.parametrize("mode", ["thread", "inline", "async"])
@pytest.mark.parametrize("how", ["ends", "killed"])
@pytest.mark.parametrize("where", ["task", "observer", "pool"])
def test_a_fork_that_lives_on_does_not_own_the_run(
    start: Start, tmp_path: Path, mode: str, how: str, where: str
) -> None:
    try:
        process = start(LOCK, where, how, mode)
        process.wait(60)
        if how == "killed":
            assert process.returncode == -9
            process = start(LOCK, where, "ends", mode, "again")
            process.wait(60)
        assert process.stdout is not None
        assert process.stdout.readline() == "SUCCESS\n"
    finally:
        for pid in (tmp_path / "forks").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
