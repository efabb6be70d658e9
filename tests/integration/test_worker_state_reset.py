"""Changes that a task makes to its worker process do not reach the next task."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from liteflow import Call, Dag, DagRun, Task

Flow = Callable[..., DagRun]


@pytest.fixture
def one_worker(db: str, tmp_path: Path) -> Flow:
    """Run functions one after the other in worker processes, as tasks that are named as they are."""

    def run(*functions: Callable[..., Any]) -> DagRun:
        dag = Dag("d", db)
        last = None
        for function in functions:
            task = dag.task(function, function.__name__)
            if last is not None:
                _ = last >> task
            last = task
        return dag.run(max_workers=1, mode="process", log_dir=str(tmp_path / "logs")).raise_for_failure()

    return run


def lines_of(folder: Path, task_id: str) -> list[str]:
    result = sorted((folder / "logs").glob(f"task_{task_id}_2*.log"))
    return [line for path in result for line in path.read_text().splitlines()]


ended = threading.Event()  # in the worker: the task of the thread is over


def prints() -> int:
    for number in range(5):
        print("important line", number)
    threading.Thread(target=late).start()
    return os.getpid()


def late() -> None:
    import sys

    while not (threading.main_thread() and sys.stdout is not None and ended.wait(0.01)):
        print("late line", flush=True)


def prints_too() -> int:
    import time

    print("of the next task")
    own = threading.Thread(target=print, args=("of a thread of the next task",))
    own.start()
    own.join()
    time.sleep(0.1)  # the other thread prints ten times
    ended.set()
    return os.getpid()


def waits() -> None:
    import time

    time.sleep(0.1)


def test_a_thread_that_outlives_its_task_writes_into_no_other_log(one_worker: Flow, tmp_path: Path) -> None:
    run = one_worker(prints, prints_too)
    assert run.value("prints") == run.value("prints_too"), "it is the same worker"
    of_first = [line for line in lines_of(tmp_path, "prints") if line != "late line"]
    assert of_first == [f"important line {number}" for number in range(5)]
    assert lines_of(tmp_path, "prints_too") == ["of the next task", "of a thread of the next task"]


def leaves_an_alarm() -> None:
    import signal

    signal.alarm(1)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.2)
    signal.setitimer(signal.ITIMER_PROF, 0.2)


def works() -> None:
    import time

    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        sum(range(1000))


def test_a_timer_does_not_strike_the_next_task(one_worker: Flow) -> None:
    assert one_worker(leaves_an_alarm, works).status == "SUCCESS"


def facts() -> dict[str, Any]:
    """What a task finds in its process."""
    import gc
    import locale
    import resource
    import signal
    import socket
    import sys
    import time

    return {
        "zone": [time.tzname, time.timezone, os.environ.get("TZ"), time.strftime("%Z")],
        "mask": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
        "handlers": [getattr(entry, "__name__", entry) for entry in map(signal.getsignal, range(1, 32))],
        "limits": [resource.getrlimit(which) for which in range(14)],  # 15 is the mark of the task
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "processors": sorted(os.sched_getaffinity(0)),
        "umask": os.umask(0o077) or os.umask(0o022),
        "folder": os.getcwd(),
        "locale": locale.setlocale(locale.LC_ALL),
        "timeout": socket.getdefaulttimeout(),
        "recursion": sys.getrecursionlimit(),
        "switch": sys.getswitchinterval(),
        "hooks": [str(sys.gettrace()), str(sys.getprofile())],
        "collector": [gc.isenabled(), gc.get_threshold()],
        "arguments": sys.argv,
        "streams": [type(sys.stdin).__name__, sys.stdin.read()],
        "groups": [os.getresuid(), os.getresgid()],
    }


def before() -> Any:
    return facts()


def after() -> Any:
    return facts()


def sets_the_zone() -> None:
    import time

    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


def sets_the_zone_and_takes_it_back() -> None:
    import time

    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    del os.environ["TZ"]


def blocks_signals() -> None:
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR2])


def handles_signals() -> None:
    import signal

    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def sets_limits() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))


def is_nice() -> None:
    os.nice(3)
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])


def sets_the_locale() -> None:
    import locale
    import socket

    for name in ("C.UTF-8", "C"):
        locale.setlocale(locale.LC_ALL, name)
    socket.setdefaulttimeout(3)


def tunes_the_interpreter() -> None:
    import gc
    import sys

    sys.setrecursionlimit(5000)
    sys.setswitchinterval(0.5)
    gc.disable()
    sys.setprofile(lambda *args: None)


def moves() -> None:
    import sys

    os.umask(0o777)
    os.chdir("/")
    sys.argv.append("more")
    sys.stdin.close()


@pytest.mark.parametrize(
    "task",
    [
        sets_the_zone,
        sets_the_zone_and_takes_it_back,
        blocks_signals,
        handles_signals,
        sets_limits,
        is_nice,
        sets_the_locale,
        tunes_the_interpreter,
        moves,
    ],
)
def test_the_next_task_finds_its_process_as_if_there_had_been_no_other(
    one_worker: Flow, task: Callable[[], None]
) -> None:
    run = one_worker(before, task, after)
    assert run.value("after") == run.value("before")


def zone() -> str:
    import time

    return time.strftime("%Z")


def test_a_task_with_a_zone_of_its_own_has_it_and_the_next_one_has_not(db: str, tmp_path: Path) -> None:
    dag = Dag("d", db)
    first = dag.task(zone, "first")
    own = dag.add_task(Task("own", body=Call(zone, env={"TZ": "Asia/Tokyo"})))
    _ = first >> own >> dag.task(zone, "last")
    run = dag.run(max_workers=1, mode="process", log_dir=str(tmp_path / "logs")).raise_for_failure()
    assert run.value("own") == "JST"
    assert run.value("last") == run.value("first") != "JST"


async def sleeps() -> int:
    await asyncio.sleep(0)
    return os.getpid()


def again() -> int:
    return os.getpid()


def test_a_task_that_leaves_nothing_leaves_its_worker(one_worker: Flow) -> None:
    run = one_worker(sleeps, again)
    assert run.value("sleeps") == run.value("again")
