"""R5: a system call fails, once or from then on, at any point of a run through the command line.

Proved for each fault: no task is recorded as succeeded that did not run, nothing starts before what it waits for has
succeeded, exit code 0 is only said of a run that is stored as SUCCESS, every other end is one of the documented codes
with a message and without a traceback, and with the cause gone the run can be gone on with to its end, without
repeating what had succeeded. The oracle is a file that the tasks append to.

Not proved: faults while Python itself starts (before `main`), and more than one kind of fault at a time.
"""

from __future__ import annotations

import random
from pathlib import Path

import faults
import pytest
from faults import Fault
from lines import Figure, replay, scale, seed

#: Calls, with how many points of each are tried in the quick form.
ON_OUR_FILES = {"pwrite64": 15, "fdatasync": 9, "openat": 8, "ftruncate": 4, "pread64": 4, "unlink": 4, "mkdir": 2}
ERRORS = ("EIO", "ENOSPC", "EINTR")
_NEVER_RETURNS_TO = {"EINTR"}  # from then on: SQLite and Python try again for ever, as POSIX tells them to


def chosen(call: str, count: int, points: int, chance: random.Random) -> list[Fault]:
    """Faults spread over all the points at which a call is made."""
    result = []
    for number in range(points):
        at = 1 + (number * count + chance.randrange(max(1, count))) // points % max(1, count)
        error = ERRORS[number % 3]
        again = "" if number % 2 else "+"
        if error in _NEVER_RETURNS_TO and again:
            again = f"..{at + 9}"
        result.append(Fault(call, error, f"{at}{again}"))
    return result


def try_one(folder: Path, fault: Fault, figure: Figure, request: pytest.FixtureRequest) -> None:
    faults.prepare(folder)
    ended = faults.lightflow(folder, "run", "flow.yaml", "--db", "state.db", fault=fault)
    try:
        succeeded = faults.check_truth(folder, ended)
        faults.check_recovery(folder, succeeded)
    except AssertionError as error:
        raise AssertionError(f"{fault}: {error}\n{ended.err[-2000:]}\n{replay(request)}") from None
    figure.add("faults")
    figure.add(f"exit{ended.code}")


@pytest.mark.parametrize("calls", ["pwrite64", "fdatasync ftruncate", "openat pread64 unlink mkdir"])
def test_calls_on_the_files_of_a_run(calls: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The database, its log, its locks, the checkpoint's and the output's folders; calls of the loop."""
    config = request.config
    chance, figure = random.Random(f"{seed(config)} {calls}"), Figure("R5", request)
    counted = faults.count_calls(tmp_path / "counted")
    number = 0
    for call in calls.split():
        points = max(1, round(ON_OUR_FILES[call] * scale(config)))
        for fault in chosen(call, counted[call], points, chance):
            number += 1
            try_one(tmp_path / f"fault{number}", fault, figure, request)
    figure.tell(calls=calls.replace(" ", ","), false_success=0, tracebacks=0, resumed=number)


def test_calls_of_every_process(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Opening and renaming anything, in the loop, the guardian and the tasks, once the program is under way."""
    config = request.config
    chance, figure = random.Random(f"{seed(config)} everywhere"), Figure("R5", request)
    points = max(1, round(8 * scale(config)))
    opened = faults.count_opens(tmp_path / "counted")
    for number in range(points):
        if number % 8 == 7:
            fault = Fault("rename", ERRORS[number // 8 % 3], "1", everywhere=True)
        else:
            # The first two thirds are Python and the modules of the command; a third of the rest is the run itself.
            at = opened * 2 // 3 + chance.randrange(opened - opened * 2 // 3) + 1
            fault = Fault("openat", ERRORS[number % 2], str(at), everywhere=True)
        try_one(tmp_path / f"fault{number}", fault, figure, request)
    figure.tell(calls="openat,rename everywhere", false_success=0, tracebacks=0, resumed=points)


def test_control_a_verdict_before_its_commit_is_caught(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The negative control: with commits that ignore SQLite's refusals the checks must go red."""
    caught = 0
    for number, at in enumerate((60, 80, 100)):
        folder = tmp_path / f"fault{number}"
        faults.prepare(folder)
        program = folder / "bin" / "program.py"
        program.write_text(
            "import liteflow.state.store as store\n"
            "def commit(self):\n"
            "    import sqlite3\n"
            "    self._sync.choose(0.0, ends_run=False)\n"
            "    try:\n"
            "        with store.Transaction(self._connection, self._locks):\n"
            "            self._write()\n"
            "    except sqlite3.Error:\n"
            "        pass\n"
            "    self.batch.clear()\n"
            "store.Store.commit = commit\n" + program.read_text()
        )
        fault = Fault("pwrite64", "EIO", f"{at}+")
        ended = faults.lightflow(folder, "run", "flow.yaml", "--db", "state.db", fault=fault)
        try:
            faults.check_truth(folder, ended)
            faults.prepare(folder)
            faults.check_recovery(folder, faults.check_truth(folder, ended))
        except AssertionError:
            caught += 1
    figure = Figure("R5-control", request)
    figure.tell(refusals="ignored", caught=f"{caught}/3")
    assert caught
