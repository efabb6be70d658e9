"""Harness of R18: tasks that fork, again and again, and end what they have forked.

python tests/crash/children.py FOLDER --runs 400 [--control signals]
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import itertools
import multiprocessing
import os
import pty
import signal
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial

from crashkit import as_harness, end_descendants, fork, report, wait_for

from liteflow import Dag
from liteflow.running import stopping

MODES = ("thread", "process", "async", "inline")
PATIENCE_S = 60.0


def square(number: int) -> int:
    return number * number


def idle() -> None:
    time.sleep(1000)


def pool(method: str) -> bool:
    with multiprocessing.get_context(method).Pool(2) as made:
        return made.map(square, [1, 2]) == [1, 4]


def futures(method: str) -> bool:
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as made:
        return list(made.map(square, [1, 2])) == [1, 4]


def terminated(method: str) -> bool:
    child = multiprocessing.get_context(method).Process(target=idle)
    child.start()
    child.terminate()
    child.join()
    while child.exitcode is None:  # a start in another thread has just reaped it, and has yet to store its exit code
        time.sleep(0.001)
    return child.exitcode == -signal.SIGTERM


def forked(number: int) -> bool:
    child = os.fork()
    if child == 0:
        idle()
    os.kill(child, number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -number


def on_a_terminal(number: int) -> bool:
    child, terminal = pty.fork()
    if child == 0:
        idle()
    os.kill(child, number)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(terminal)
    return code == -number


#: What a task does, and how often: a way that was right most of the time has to be gone many times.
WAYS: list[tuple[Callable[[], bool], int]] = [
    (lambda: pool("fork"), 10),
    (lambda: pool("spawn"), 1),
    (lambda: pool("forkserver"), 1),
    (lambda: futures("fork"), 10),
    (lambda: futures("spawn"), 1),
    (lambda: terminated("fork"), 20),
    (lambda: terminated("spawn"), 1),
    (lambda: forked(signal.SIGTERM), 50),
    (lambda: forked(signal.SIGHUP), 50),
    (lambda: on_a_terminal(signal.SIGTERM), 20),
]


def one_run(folder: str, mode: str, way: int, *, in_main_thread: bool) -> None:
    """Run a dag whose tasks fork, and end this process; exit code 0: all was right."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, about forking with threads
    does, times = WAYS[way]

    def task() -> bool:
        return all(does() for _ in range(times))

    async def coroutine() -> bool:
        await asyncio.sleep(0)
        return task()

    codes: list[int] = []

    def run() -> None:
        dag = Dag("forks", f"{folder}/{os.getpid()}.db")
        for number in range(2):
            dag.task(coroutine if mode == "async" else task, f"t{number}")
        ended = dag.run(2, mode, log_dir=f"{folder}/logs")
        codes.append(0 if ended.status == "SUCCESS" and all(map(ended.value, ("t0", "t1"))) else 1)

    if in_main_thread:
        run()
    else:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    os._exit(codes[0])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--runs", type=int, default=80)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--control", choices=("signals",))
    given = parser.parse_args()
    if given.control == "signals":
        stopping.use_handlers_in_forks = lambda handlers: []  # type: ignore[assignment]  # the defence that is taken away
    began, hung, wrong = time.monotonic(), list[str](), list[str]()
    kinds = itertools.cycle(itertools.product((True, False), range(len(WAYS)), MODES))
    with as_harness(limit_s=300 + given.runs * 5):
        for in_main_thread, way, mode in itertools.islice(kinds, given.runs):
            child = fork(partial(one_run, given.folder, mode, way, in_main_thread=in_main_thread))
            code = wait_for(child, PATIENCE_S if given.control is None else 10.0)
            name = f"{mode} {way} {'main' if in_main_thread else 'thread'}"
            if code is None:
                hung.append(name)
                end_descendants()
            elif code:
                wrong.append(name)
        report(
            runs=given.runs,
            hung=len(hung),
            wrong=len(wrong),
            which=[*hung, *wrong],
            worst_seconds=time.monotonic() - began,
        )


if __name__ == "__main__":
    main()
