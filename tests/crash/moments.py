"""Harness of the moments: the program is killed at one point of the life of a run, looked at, and resumed.

    python tests/crash/moments.py FOLDER --case on_failure|precondition|secret|timeout …

The points are hit by events (a file that appears, a line on the screen), not by chance. Whatever is at work then has
two processes in the background, one of them in a session of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from crashkit import append, as_harness, await_none, descendants, end_descendants, fork, lines, read_state, report
from crashkit import wait_for as end_of
from interrupts import program, until

RUN = "r"
_LEAVE = "setsid sleep 1000 & sleep 1000 & touch stuck; wait"


def say(word: str) -> str:
    return f"echo {word} >> trail"


def hang(word: str, then: str = "true") -> str:
    """Hang, with processes in the background, before the run is killed; after that only say something."""
    return f"[ -e go ] || {{ {_LEAVE}; }}; {say(word)}; {then}"


def flow(a: Mapping[str, Any], more: Mapping[str, Any] | None = None, **workflow: Any) -> dict[str, Any]:
    return {"workflow_name": "flow", **workflow, "tasks": {"a": {"run": say("a"), **a}, **(more or {})}}


class Moment(NamedTuple):
    """`sign` is what the screen shows when it has come; without it a file tells."""

    workflow: Mapping[str, Any]
    before: Sequence[str]  # what has been said when the run is killed
    after: Sequence[str]  # and what then, when it is resumed; in any order
    sign: str = ""


MOMENTS = {
    "on_start": Moment(flow({"on_start": hang("start")}), [], ["start", "a"]),
    "precondition": Moment(flow({"preconditions": [hang("asked")]}), [], ["asked", "a"]),
    "on_success": Moment(flow({"on_success": hang("done"), "on_exit": say("exit")}), ["a"], ["done", "exit"]),
    "on_failure": Moment(
        flow({"run": f"{say('a')}; test -e go", "on_failure": hang("failed")}), ["a"], ["failed", "a"]
    ),
    "on_retry": Moment(  # while the task rests before its second attempt
        flow({"run": f"{say('a')}; test -e go", "retries": 1, "retry_delay": 1000, "on_retry": hang("again")}),
        ["a"],
        ["again", "a"],
    ),
    "rest": Moment(
        flow({"run": f"{say('a')}; test -e go", "retries": 1, "retry_delay": 1000, "on_retry": say("again")}),
        ["a", "again"],
        ["a"],
        sign="a.on_retry SUCCESS",
    ),
    "rest of the run": Moment(
        flow(
            {"run": f"{say('a')}; test -e go", "on_failure": say("failed")},
            on_exit=say("over"),
            retry={"max": 1, "delay": 1000},
        ),
        ["a", "failed"],
        ["a", "over"],
        sign="try 2 of 2",
    ),
    "teardown": Moment(
        flow(
            {"depends_on": ["up"]},
            {"up": {"run": say("up")}, "down": {"teardown_of": "up", "depends_on": ["a"], "run": hang("down")}},
        ),
        ["up", "a"],
        ["down"],
    ),
    "on_exit of the run": Moment(flow({}, on_success=say("done"), on_exit=hang("over")), ["a", "done"], ["over"]),
    "secret": Moment(  # before there is a run, or a guardian
        flow({"secrets": ["TOKEN"]}, secrets=[{"name": "TOKEN", "run": hang("fetched", "echo a-long-value")}]),
        [],
        ["fetched", "a"],
    ),
}

#: everything hangs, and one task minds no signal; hooks are done in a run that is stopped, so this one has a limit
TIMED = flow(
    {"run": f"trap '' TERM; {hang('a')}", "kill_grace": 0.2},
    {
        "b": {"run": say("b"), "preconditions": [hang("asked")]},
        "c": {"run": say("c"), "on_start": hang("start")},
        "d": {"run": "true", "on_success": {"run": hang("done"), "timeout": 0.5, "kill_grace": 0.1}},
    },
    timeout=5,  # each of them is to have begun by then
)
SCRIPT = f"""\
import subprocess
from liteflow import Dag
dag = Dag("flow")
dag.task(print, "a")
subprocess.run(["/bin/sh", "-c", {_LEAVE!r}])
"""


def start(folder: str, *words: str) -> int:
    """Start the program there; the screen is a file."""

    def child() -> None:
        os.chdir(folder)
        screen = os.open("screen", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(screen, 1)
        os.dup2(screen, 2)
        program(*words)

    return fork(child)


def survivors() -> list[list[object]]:
    """Return what lives on, and end it."""
    _, left = await_none(descendants)
    end_descendants()
    return [list(row) for row in left.values()]


def kill_in(folder: str, moment: Moment, number: signal.Signals) -> dict[str, object]:
    with open(f"{folder}/flow.json", "w", encoding="utf-8") as file:
        json.dump(moment.workflow, file)
    pid = start(folder, "run", "flow.json", "--run-id", RUN)
    sign = moment.sign
    until(lambda: sign in "\n".join(lines(f"{folder}/screen")) if sign else os.path.exists(f"{folder}/stuck"))
    until(lambda: len(lines(f"{folder}/trail")) == len(moment.before))
    os.kill(pid, number)
    code = end_of(pid)
    left, before, found = survivors(), lines(f"{folder}/trail"), read_state(f"{folder}/lightflow.db", RUN).found
    append(f"{folder}/go", "")
    again = start(folder, *(["resume", "flow.json"] if found else ["run", "flow.json", "--run-id", RUN]))
    resumed = end_of(again)
    state = read_state(f"{folder}/lightflow.db", RUN)
    return {
        "code": code,
        "survivors": left + survivors(),
        "before": before,
        "resumed": resumed,
        "after": lines(f"{folder}/trail")[len(before) :],
        "end": [state.run, *{status for status, _ in state.instances.values()}],
        "to_do": dict(state.told),
        "screen": lines(f"{folder}/screen")[-30:],
    }


def time_out(folder: str) -> dict[str, object]:
    with open(f"{folder}/flow.json", "w", encoding="utf-8") as file:
        json.dump(TIMED, file)
    code = end_of(start(folder, "run", "flow.json", "--run-id", RUN))
    left = survivors()
    state = read_state(f"{folder}/lightflow.db", RUN)
    return {
        "code": code,
        "survivors": left,
        "end": [state.run],
        "states": {name: status for name, (status, _) in state.instances.items()},
        "trail": lines(f"{folder}/trail"),
        "to_do": dict(state.told),
        "screen": lines(f"{folder}/screen")[-30:],
    }


def kill_in_script(folder: str) -> dict[str, object]:
    """A script that is only looked at runs, in a process of its own."""
    with open(f"{folder}/flow.py", "w", encoding="utf-8") as file:
        file.write(SCRIPT)
    pid = start(folder, "validate", "flow.py")
    until(lambda: os.path.exists(f"{folder}/stuck"))
    os.kill(pid, signal.SIGKILL)
    return {"code": end_of(pid), "survivors": survivors(), "screen": lines(f"{folder}/screen")[-30:]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--case", required=True)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    began = time.monotonic()
    name, _, how = given.case.partition("/")
    cases = {"timeout": partial(time_out, given.folder), "script": partial(kill_in_script, given.folder)}
    with as_harness(limit_s=600):
        if name in cases:
            found = cases[name]()
        else:
            found = kill_in(given.folder, MOMENTS[name], signal.Signals[how or "SIGKILL"])
    report(**found, worst_seconds=time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
