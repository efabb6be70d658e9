"""Harness of the signal tests: the program is interrupted in one way, looked at from outside, and resumed.

python tests/crash/interrupts.py FOLDER --case SIGINT/once|SIGTERM/twice|terminal|pipe …
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
import termios
import time
from collections.abc import Callable

from crashkit import append, as_harness, await_none, descendants, fork, lines, read_state, report, wait_for

RUN = "r"
GRACE_S = 600  # of the task that lasts: nothing waits for its end


def workflow(trail: str, go: str, asked: str, *, stubborn: bool) -> str:
    """Return a workflow whose second task lasts; a stubborn one notes that it was asked to end, and goes on."""
    deaf, hears = ("trap '' INT TERM HUP; ", f"trap 'echo > {asked}' INT TERM HUP; ") if stubborn else ("", "")
    leave = f"{deaf}setsid sleep 600 & {hears}echo b >> {trail}"
    wait = f"[ -e {go} ] && exit 0; {leave}; while [ ! -e {go} ]; do sleep 0.02; done"
    return f"""\
workflow_name: flow
tasks:
  a: {{type: shell, run: "echo a >> {trail}"}}
  b: {{type: shell, depends_on: [a], run: "{wait}", kill_grace: {GRACE_S}}}
  c: {{type: shell, depends_on: [b], run: "echo c >> {trail}"}}
"""


def program(*words: str) -> None:
    os.execv(sys.executable, [sys.executable, "-m", "lightflow", *words])


def until(condition: Callable[[], bool], limit_s: float = 120.0) -> None:
    give_up = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.005)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--case", required=True)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    began = time.monotonic()
    with as_harness(limit_s=600):
        report(**run_case(given.folder, given.case), worst_seconds=time.monotonic() - began)


def run_case(folder: str, case: str) -> dict[str, object]:
    names = ("trail", "go", "asked", "flow.yaml", "state.db", "errors")
    trail, go, asked, flow, db, errors = (f"{folder}/{name}" for name in names)
    how, _, times = case.partition("/")
    with open(flow, "w", encoding="utf-8") as file:
        file.write(workflow(trail, go, asked, stubborn=times == "twice"))
    master = slave = read = write = -1
    if how == "terminal":
        master, slave = os.openpty()
    else:
        read, write = os.pipe()

    def child() -> None:
        os.setsid()
        handle = os.open(errors, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        if how == "terminal":
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for number in (0, 1, 2):
                os.dup2(slave, number)
        else:
            os.dup2(write, 1)
            os.dup2(handle, 2)
        program("run", flow, "--db", db, "--run-id", RUN, "--log-dir", f"{folder}/logs")

    pid = fork(child)
    for handle in (slave, write):
        if handle >= 0:
            os.close(handle)
    until(lambda: "b" in lines(trail))
    struck = time.monotonic()
    if how == "terminal":
        os.close(master)
    elif how == "pipe":
        os.read(read, 1)
        os.close(read)  # as `| head -1` does; then there is more to say
        append(go, "")
    else:
        os.kill(pid, getattr(signal, how))
        if times == "twice":
            until(lambda: os.path.exists(asked))  # the first one was heard: two at once would be one
            os.kill(pid, getattr(signal, how))
    code = wait_for(pid)
    took = time.monotonic() - struck
    _, left = await_none(descendants)
    state = read_state(db, RUN)
    if not os.path.exists(go):
        append(go, "")
    again = fork(lambda: program("resume", flow, "--db", db, "-q"))
    resumed = wait_for(again)
    return {
        "code": code,
        "took_ms": round(took * 1000),
        "survivors": [list(row) for row in left.values()],
        "status": state.run,
        "tasks": {task: status for task, (status, _) in state.instances.items()},
        "resumed": resumed,
        "end": read_state(db, RUN).run,
        "trail": lines(trail),
        "errors": lines(errors),
    }


if __name__ == "__main__":
    main()
