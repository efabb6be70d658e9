"""The guardian ends processes that tasks leave behind, in difficult cases."""

from __future__ import annotations

import os
import platform
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from process_kit import is_alive

from liteflow.processes import tree
from liteflow.processes.client import Exited, GuardianConnection, Started

LIMIT_S = 120.0
ROOT = Path(__file__).resolve().parents[2]
FREEZER = Path("/sys/fs/cgroup/freezer")
needs_prlimit = pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs prlimit of util-linux")


def no_worker(sock: socket.socket, *rest: object) -> None:
    sock.recv(1)


@pytest.fixture
def guardian() -> Iterator[GuardianConnection]:
    guardian = GuardianConnection.fork(no_worker)
    yield guardian
    guardian.close()
    assert tree.find_survivors(guardian.session) == []


class Heard:
    """What a guardian has told, in order."""

    def __init__(self, guardian: GuardianConnection) -> None:
        self._guardian = guardian
        self.events: list[Started | Exited] = []

    def exited(self, job: int) -> Exited:
        """Wait for the end of a job."""
        return next(each for each in self._until(lambda: self._has(job, Exited)) if self._is(each, job, Exited))

    def started(self, job: int) -> Started:
        return next(each for each in self._until(lambda: self._has(job, Started)) if self._is(each, job, Started))

    def _until(self, is_there: Callable[[], bool]) -> list[Started | Exited]:
        give_up = time.monotonic() + LIMIT_S
        while not is_there():
            assert time.monotonic() < give_up, self.events
            select.select([self._guardian], [], [], 0.5)
            self.events += self._guardian.read()
        return self.events

    def _has(self, job: int, kind: type) -> bool:
        return any(self._is(each, job, kind) for each in self.events)

    @staticmethod
    def _is(each: Started | Exited, job: int, kind: type) -> bool:
        return isinstance(each, kind) and each.job == job


def await_true(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def pid_in(path: Path) -> int:
    await_true(lambda: path.exists() and path.read_text().strip())
    return int(path.read_text())


def shell(guardian: GuardianConnection, job: int, script: str, folder: Path) -> None:
    guardian.start_command(job, ["/bin/sh", "-c", script], str(folder), {"PATH": os.environ["PATH"]}, None)


# -- processes that cannot be killed -----------------------------------------------------------------------------


@pytest.fixture
def freezer() -> Iterator[Path]:
    """A control group whose processes not even SIGKILL ends, until it is thawed."""
    group = FREEZER / f"lightflow-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"needs the right to make a freezer group: {error}")
    yield group
    (group / "freezer.state").write_text("THAWED")
    await_true(lambda: not (group / "tasks").read_text())
    group.rmdir()


@pytest.mark.parametrize("who", ["$$", "$!"])
def test_a_process_that_cannot_be_killed_holds_up_its_own_task_only(
    who: str, freezer: Path, guardian: GuardianConnection, tmp_path: Path
) -> None:
    freeze = f"setsid sleep 300 & echo {who} > {freezer}/tasks; echo FROZEN > {freezer}/freezer.state; sleep 300"
    shell(guardian, 1, freeze, tmp_path)
    await_true(lambda: (freezer / "freezer.state").read_text().strip() == "FROZEN")
    received = Heard(guardian)
    guardian.stop(1, 0.0)
    for job in range(2, 7):
        shell(guardian, job, "(setsid sleep 300 &); exit 0", tmp_path)  # each needs a sweep of its own
        other = received.exited(job)
        assert (other.code, other.survivors) == (0, ())
    assert not any(isinstance(each, Exited) and each.job == 1 for each in received.events)
    stuck = received.exited(1)
    assert stuck.stopped
    assert len(stuck.survivors) == 1
    shell(guardian, 7, "(setsid sleep 300 &); exit 0", tmp_path)
    assert received.exited(7).survivors == ()  # it is not waited for again
    (freezer / "freezer.state").write_text("THAWED")
    await_true(lambda: not is_alive(stuck.survivors[0]))


# -- processes without a mark ------------------------------------------------------------------------------------

#: takes the tag off, and the environment, and goes into a session of its own, twice removed
LOST = "(env -i prlimit --rttime=unlimited setsid sh -c 'echo $$ > {name}; exec sleep 300' &)"


@needs_prlimit
def test_a_daemon_without_mark_and_environment_ends_with_its_task(guardian: GuardianConnection, tmp_path: Path) -> None:
    received = Heard(guardian)
    shell(guardian, 1, LOST.format(name="daemon") + "; while [ ! -s daemon ]; do sleep 0.01; done", tmp_path)
    assert received.exited(1).code == 0
    assert not is_alive(pid_in(tmp_path / "daemon"))


@needs_prlimit
def test_a_daemon_with_the_same_environment_ends_although_another_task_continues(
    guardian: GuardianConnection, tmp_path: Path
) -> None:
    received = Heard(guardian)
    shell(guardian, 1, "sleep 300", tmp_path)
    received.started(1)
    lost = LOST.format(name="daemon").replace("env -i ", "")
    shell(guardian, 2, lost + "; while [ ! -s daemon ]; do sleep 0.01; done", tmp_path)
    received.exited(2)
    assert not is_alive(pid_in(tmp_path / "daemon"))
    guardian.stop(1, 0.0)


@needs_prlimit
def test_children_of_a_running_task_outlive_the_end_of_others(guardian: GuardianConnection, tmp_path: Path) -> None:
    received = Heard(guardian)
    foreign = subprocess.Popen(["sleep", "300"])
    try:
        shell(guardian, 1, LOST.format(name="daemon") + "; sleep 300", tmp_path)
        daemon = pid_in(tmp_path / "daemon")
        for job in range(2, 5):
            shell(guardian, job, "(setsid sleep 300 &); exit 0", tmp_path)
            received.exited(job)
        assert is_alive(daemon)
        assert foreign.poll() is None
        guardian.stop(1, 0.0)
        received.exited(1)
        assert not is_alive(daemon)
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_a_nested_run_in_the_background_ends_with_its_task(tmp_path: Path) -> None:
    (tmp_path / "inner.yaml").write_text("workflow_name: inner\ntasks: {s: {run: 'echo $$ > pid; exec sleep 300'}}\n")
    nested = f"{sys.executable} -m lightflow run inner.yaml --db inner.db -q &"
    (tmp_path / "outer.yaml").write_text(
        "workflow_name: outer\ntasks:\n"
        f"  a: {{run: '{nested} while [ ! -s pid ]; do sleep 0.02; done'}}\n"
        "  b: {depends_on: [a], run: 'cat /proc/$(cat pid)/stat && exit 1 || exit 0'}\n"
        "  c: {timeout: 20, run: 'while [ ! -e over ]; do sleep 0.02; done'}\n"
        "  d: {depends_on: [b], run: 'touch over'}\n"
    )
    words = [sys.executable, "-m", "lightflow", "run", "outer.yaml", "--db", "outer.db"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# -- who was told -------------------------------------------------------------------------------------------------


def test_a_command_that_ended_by_itself_was_not_stopped(guardian: GuardianConnection, tmp_path: Path) -> None:
    received = Heard(guardian)
    shell(guardian, 1, "exit 0", tmp_path)
    pid = received.started(1).pid
    await_true(lambda: not is_alive(pid))
    guardian.stop(1, 5.0)
    assert not received.exited(1).stopped
    shell(guardian, 2, "trap 'exit 0' TERM; touch up; while :; do sleep 0.01; done", tmp_path)
    await_true((tmp_path / "up").exists)
    guardian.stop(2, 5.0)
    event = received.exited(2)
    assert (event.stopped, event.code) == (True, 0)


# -- a death in the middle of a sweep -----------------------------------------------------------------------------


def start_many(guardian: GuardianConnection, folder: Path) -> int:
    script = "trap '' TERM; for i in $(seq 150); do setsid sleep 600 & done; touch up; wait"
    shell(guardian, 1, script, folder)
    await_true((folder / "up").exists)
    return Heard(guardian).started(1).pid


def await_stopped(pid: int) -> None:
    """Wait until a process is stopped, or has ended: on a busy machine a sweep may fall between two looks."""
    give_up = time.monotonic() + LIMIT_S
    while (row := tree.process(pid)) is not None and row.state != "T":
        assert time.monotonic() < give_up


def test_a_guardian_that_is_killed_in_the_middle_of_a_sweep_leaves_nothing_stopped(tmp_path: Path) -> None:
    guardian = GuardianConnection.fork(no_worker)
    main = start_many(guardian, tmp_path)
    guardian.stop(1, 0.0)
    await_stopped(main)
    os.kill(guardian.pid, signal.SIGKILL)
    await_true(lambda: not tree.find_survivors(guardian.session))  # nobody reads the guardian's words
    guardian.close()


def test_a_sweeper_that_is_killed_has_a_successor(guardian: GuardianConnection, tmp_path: Path) -> None:
    main = start_many(guardian, tmp_path)
    guardian.stop(1, 0.0)
    await_stopped(main)
    for row in tree.processes().values():
        if row.parent == guardian.pid and row.pid != main and tree.session_of(tree.tag_of(row.pid)) is None:
            with suppress(ProcessLookupError):  # the sweeper may have ended by now
                os.kill(row.pid, signal.SIGKILL)
    assert Heard(guardian).exited(1).stopped


# -- systems that lack something -----------------------------------------------------------------------------------

NUMBERS = {"pidfd_open": 434, "pidfd_send_signal": 424}


RUN = """
import os, sys
sys.path[:0] = [sys.argv[1], os.path.dirname(sys.argv[1])]
from process_kit import refuse
from test_ending_processes import NUMBERS
if sys.argv[2] == "absent":
    del os.pidfd_open
elif sys.argv[2] != "-":
    refuse(NUMBERS[sys.argv[2]], int(sys.argv[3]))
from lightflow.cli.main import main
sys.argv = ["lightflow", *sys.argv[4:]]
main()
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter is for x86-64")
@pytest.mark.parametrize(
    ("call", "code"), [("pidfd_open", 38), ("pidfd_open", 1), ("pidfd_send_signal", 1), ("absent", 0)]
)
def test_without_process_handles_everything_is_ended_all_the_same_and_the_run_reports_it(
    call: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "f.yaml").write_text(
        "workflow_name: w\ntasks:\n"
        "  late: {timeout: 4, kill_grace: 0.1, run: 'setsid sh stay one & sleep 300'}\n"
        "  leaver: {run: '(setsid sh stay two &); while [ ! -s two ]; do sleep 0.01; done'}\n"
    )
    (tmp_path / "stay").write_text("echo $$ > $1; exec sleep 300\n")
    here = str(Path(__file__).parent)
    words = [sys.executable, "-c", RUN, here, call, str(code)]
    done = subprocess.run(
        [*words, "run", "f.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "process handles" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not is_alive(pid_in(tmp_path / "one"))
    assert not is_alive(pid_in(tmp_path / "two"))
    reported = subprocess.run([*words, "doctor"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "process handles" in reported.stdout


def test_a_worker_that_is_stopped_while_it_starts_ends_at_once(guardian: GuardianConnection) -> None:
    """The signal comes before the fork has a process group and handlers of its own, and is not lost."""
    heard, sockets = Heard(guardian), []
    for number in range(1, 21):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sockets.append(ours)
        guardian.start_worker(number, theirs, keeps_logs=False)
        theirs.close()
        guardian.stop(number, grace_s=1000)
    for number in range(1, 21):
        assert heard.exited(number).code == -signal.SIGTERM
    for each in sockets:
        each.close()
