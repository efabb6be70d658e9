"""Commands whose output is read where there is no guardian: they end, or are killed, with this process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from liteflow.processes.guarded_command import CommandNotStarted, run_guarded


def sh(script: str, folder: Path | None = None, timeout_s: float = 30.0, *, quiet: bool = False) -> tuple[int, bytes]:
    return run_guarded(["/bin/sh", "-c", script], None if folder is None else str(folder), timeout_s, quiet=quiet)


def is_alive(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("echo one; echo two", (0, b"one\ntwo\n")),
        ("printf half; exit 3", (3, b"half")),
        ("kill -9 $$", (-signal.SIGKILL, b"")),
        ("cat", (0, b"")),  # there is no input
        ("exec >&-; exit 4", (4, b"")),
        ("exec >&-; sleep 0.1; exit 5", (5, b"")),
        ("head -c 300000 /dev/zero", (0, bytes(300_000))),
        ("trap", (0, b"")),
    ],
)
def test_output_and_exit_code(script: str, result: tuple[int, bytes]) -> None:
    assert sh(script) == result


def test_it_runs_in_the_folder_with_the_environment_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "yes")
    assert sh("pwd; echo $KEPT", tmp_path) == (0, f"{tmp_path}\nyes\n".encode())


@pytest.mark.parametrize("quiet", [False, True])
def test_its_complaints(quiet: bool, capfd: pytest.CaptureFixture[str]) -> None:
    assert sh("echo dear >&2", quiet=quiet) == (0, b"")
    assert capfd.readouterr().err == ("" if quiet else "dear\n")


def test_processes_that_it_leaves_behind_live_on(tmp_path: Path) -> None:
    code, message = sh("sleep 1000 & echo $!")  # it holds the output open
    pid = int(message)
    try:
        assert code == 0
        assert is_alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_processes_that_it_leaves_behind_may_print() -> None:
    code, message = sh("yes & echo $!")
    os.kill(int(next(line for line in message.split() if line.isdigit())), signal.SIGKILL)
    assert code == 0


def test_when_it_is_late_nothing_of_it_lives(tmp_path: Path) -> None:
    script = "setsid sleep 1000 & echo $! > one; sleep 1000 & echo $! > two; trap '' TERM; wait"
    with pytest.raises(TimeoutError):
        sh(script, tmp_path, 0.5)
    assert not [name for name in ("one", "two") if is_alive(int((tmp_path / name).read_text()))]


def test_a_command_that_cannot_be_started_gives_the_reason(tmp_path: Path) -> None:
    with pytest.raises(CommandNotStarted, match="No such file or directory"):
        run_guarded([str(tmp_path / "no-such-program")], None, 30.0)
    with pytest.raises(CommandNotStarted, match="No such file or directory"):
        sh("true", tmp_path / "gone")


def test_it_holds_nothing_that_the_program_has_open(tmp_path: Path) -> None:
    """Neither the command nor its keeper: else a pipe of the program would stay open while they live."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    script = "touch on; while [ ! -e go ]; do sleep 0.01; done"
    keeping = threading.Thread(target=sh, args=(script, tmp_path))
    keeping.start()
    try:
        while not (tmp_path / "on").exists():
            time.sleep(0.001)
        os.close(write)
        poll = select.poll()
        poll.register(read)
        assert poll.poll(10_000), "the pipe is still held"
        assert os.read(read, 1) == b""
    finally:
        (tmp_path / "go").touch()
        keeping.join()
        os.close(read)


INTERRUPTED = """
import os, signal
from liteflow.processes.guarded_command import run_guarded
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    run_guarded(["/bin/sleep", "1000"], None, 30.0)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_while_it_forks_is_not_lost() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")
