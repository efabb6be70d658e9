"""The machine runs out of something, or somebody touches the state file: disk, files, processes, locks, folders.

Proved for each: what is recorded is true (the oracle is a file outside that the tasks append to), the exit code is one
of the documented ones, there is a message and no traceback, and with the cause gone the run can be gone on with to its
end without repeating what had succeeded.

Not proved: memory that runs out in the middle of a run of SQLite, and network file systems.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import faults
import pytest
from lines import ENV, Figure, missing, wait_until

CHAIN = """\
workflow_name: flow
tasks:
  a: {{run: "echo a >> {trail}; echo said a"}}
  b: {{run: "echo b >> {trail}; {during}", depends_on: [a]}}
  c: {{run: "echo c >> {trail}; echo said c", depends_on: [b]}}
  d: {{run: "echo d >> {trail}; echo said d", depends_on: [c]}}
settings: {{log_dir: logs}}
"""
ORDER = ["a", "b", "c", "d"]


@contextlib.contextmanager
def small_disk(folder: Path, options: str = "size=512k") -> Iterator[Path]:
    """A file system of its own at a folder, gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "lightflow-test", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        missing(f"mounting ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


class Place:
    """A folder with a workflow, its trail, and what was said of it."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self.folder = folder
        self.db = folder / "state.db"
        self.trail = folder / "trail"
        self.name = request.node.name.removeprefix("test_")
        self.figure = Figure("resources", request)
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "bin" / "program.py").write_text(faults._PROGRAM)

    def write(self, during: str = "true", text: str = CHAIN) -> None:
        (self.folder / "flow.yaml").write_text(text.format(trail=self.trail, during=during))

    def start(self, *words: str, before: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, str(self.folder / "bin" / "program.py"), *words, "--db", str(self.db)]
        if before:
            command = ["sh", "-c", f"{before}; exec {shlex.join(command)}"]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=ENV,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self, process: subprocess.Popen[str]) -> faults.Ended:
        try:
            out, err = process.communicate(timeout=200)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return faults.Ended(process.returncode, out, err)

    def run(self, *words: str, before: str = "") -> faults.Ended:
        return self.end(self.start(*(words or ("run", "flow.yaml")), before=before))

    def ran(self) -> list[str]:
        return self.trail.read_text().split() if self.trail.exists() else []

    def succeeded(self) -> set[str]:
        if not self.db.exists():
            return set()
        connection = sqlite3.connect(self.db)
        try:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            rows = connection.execute("SELECT task_id FROM liteflow_task_instances WHERE status='SUCCESS'").fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error) or "unable to open" in str(error):
                return set()
            raise
        finally:
            connection.close()
        return {str(row[0]) for row in rows}

    def check(self, ended: faults.Ended, code: int, *words: str) -> set[str]:
        """Did it end as it should, say so, and record only what is true?"""
        assert ended.code == code, f"exit code {ended.code}: {ended.out}{ended.err}"
        assert "Traceback" not in ended.err + ended.out, ended.err
        assert "bug in lightflow" not in ended.err, ended.err
        for word in words:
            assert word in ended.err + ended.out, f"{word!r} is not said: {ended.out}{ended.err}"
        recorded = self.succeeded()
        assert recorded <= set(self.ran())
        return recorded

    def check_resume(self, before: set[str], *also: str, order: list[str] = ORDER) -> None:
        """With the cause gone: to the end, and what had succeeded is not repeated."""
        ran = self.ran()
        ended = self.run("resume", "flow.yaml")
        if ended.code == 3 and "no run" in ended.err:
            ended = self.run()
        recorded = self.check(ended, 0)
        assert recorded == set(order)
        repeated = [name for name in self.ran()[len(ran) :] if name in before]
        assert not repeated, f"ran again: {repeated}"
        self.figure.tell(case=self.name, false_states=0, resumed=1)


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    return Place(tmp_path, request)


# -- disks ---------------------------------------------------------------------------------------------------------


def test_disk_of_the_state_file_full(place: Place) -> None:
    """It fills up while the run goes on: exit 5, naming the file; what was stored stays."""
    with small_disk(place.folder / "small", "size=640k") as small:
        place.db = small / "state.db"
        place.write(f"head -c 9000000 /dev/zero > {small}/ballast; true")
        before = place.check(place.run(), 5, str(place.db), "disk is full", "resume")
        (small / "ballast").unlink()
        place.write()  # the same tasks, but one
        place.check_resume(before)


def test_disk_of_the_state_file_full_from_the_start(place: Place) -> None:
    with small_disk(place.folder / "small", "size=16k") as small:
        place.db = small / "state.db"
        (small / "ballast").write_bytes(b"x" * 12_000)
        place.write()
        assert place.check(place.run(), 5, str(place.db)) == set()
        assert place.ran() == []
        subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
        place.check_resume(set())


def test_disk_of_the_output_full(place: Place) -> None:
    """Output is lost, tasks are not: they succeed, and the log says what is missing where it can."""
    with small_disk(place.folder / "logs", "size=64k"):
        place.write("head -c 300000 /dev/zero")
        assert place.check(place.run(), 0) == set(ORDER)
        assert place.ran() == ORDER
    place.figure.tell(case="output_disk_full", false_states=0, tasks_failed=0)


def test_disk_of_the_checkpoints_full(place: Place) -> None:
    """The checkpoint is a copy for other programs: the run succeeds without it, and says so."""
    with small_disk(place.folder / ".lightflow-checkpoints", "size=4k") as small:
        (small / "ballast").write_bytes(b"x" * 4096)
        place.write()
        assert place.check(place.run(), 0, "checkpoint") == set(ORDER)
    place.figure.tell(case="checkpoint_disk_full", false_states=0, tasks_failed=0)


SPILL = """\
from liteflow import Dag

with Dag("flow") as dag:
    def a():
        print("a", file=open({trail!r}, "a"))
        return "x" * 11_000_000
    def b(a):
        print("b", file=open({trail!r}, "a"))
        assert len(a) == 11_000_000
    dag.task(a)
    dag.task(b)
"""


def test_disk_of_large_values_full(place: Place) -> None:
    """A value that cannot be stored fails the task that made it, with the reason."""
    (place.folder / "flow.py").write_text(SPILL.format(trail=str(place.trail)))
    with small_disk(Path(f"{place.db}_xcom"), "size=1m") as small:
        ended = place.run("run", "flow.py")
        assert ended.code == 1, ended.err
        assert "Traceback" not in ended.err
        assert "could not be written" in ended.out + ended.err
        assert "No space left" in ended.out + ended.err
        assert place.succeeded() == set()
        assert not [name for name in os.listdir(small) if not os.path.isdir(small / name)]
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        assert place.run("resume", "flow.py").code == 0
        assert place.succeeded() == {"a", "b"}
    place.figure.tell(case="value_disk_full", false_states=0, resumed=1)


def test_file_size_limit(place: Place) -> None:
    """`ulimit -f`, in blocks of 512 bytes: SQLite cannot grow its files."""
    place.write()
    before = place.check(place.run(before="ulimit -f 200"), 5, str(place.db))
    place.check_resume(before)


def test_read_only_disk(place: Place) -> None:
    """`run` refuses at once; looking works."""
    with small_disk(place.folder / "small", "size=4m") as small:
        place.db = small / "state.db"
        place.write("exit 3")
        assert place.run().code == 1
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        ran = place.ran()
        for words in (("run", "flow.yaml"), ("resume", "flow.yaml")):
            ended = place.run(*words)
            assert ended.code == 3, f"{words}: {ended.err}"
            assert "Traceback" not in ended.err
            assert str(small) in ended.err
        assert place.ran() == ran
        for look in (("status",), ("runs",), ("logs", "a"), ("why", "d")):
            ended = place.run(*look)
            assert ended.code == 0, f"{look}: {ended.err}"
        subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
        place.write()
        place.check_resume({"a"})


# -- files and processes -------------------------------------------------------------------------------------------

WIDE = "workflow_name: flow\ntasks:\n" + "".join(
    f'  t{number}: {{{{run: "(sleep 300 &); sleep 0.2; echo t{number} >> {{trail}}; echo said"}}}}\n'
    for number in range(24)
) + "settings: {{max_parallel_tasks: 24}}\n"  # fmt: skip
ALL_WIDE = [f"t{number}" for number in range(24)]


def check_exhausted(place: Place, ended: faults.Ended) -> set[str]:
    """It may end well, with tasks that could not be started, or at once; never with something false."""
    assert ended.code in (0, 1, 5), f"{ended.code}: {ended.out}{ended.err}"
    assert "Traceback" not in ended.err + ended.out, ended.err
    assert "bug in lightflow" not in ended.err, ended.err
    recorded = place.succeeded()
    assert recorded <= set(place.ran())
    if ended.code == 0:
        assert recorded == set(ALL_WIDE)
    return recorded


@pytest.mark.parametrize("limit", [14, 20, 30, 34])
def test_too_few_files(place: Place, limit: int) -> None:
    """`ulimit -n`: 24 tasks at once need more."""
    place.write(text=WIDE)
    ended = place.run(before=f"ulimit -n {limit}")
    before = check_exhausted(place, ended)
    assert ended.code != 0
    assert "open files" in ended.out + ended.err or "state.db" in ended.err, ended.err
    place.check_resume(before, order=ALL_WIDE)


@contextlib.contextmanager
def few_processes(most: int) -> Iterator[str]:
    """A control group that holds so many processes and threads; what to do in a shell to enter it."""
    root = Path("/sys/fs/cgroup/pids") if Path("/sys/fs/cgroup/pids/cgroup.procs").exists() else Path("/sys/fs/cgroup")
    group = root / f"lightflow-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "pids.max").write_text(str(most))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        missing(f"a pids control group ({error})")
    try:
        yield f"echo $$ > {group}/cgroup.procs"
    finally:
        for word in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                os.kill(int(word), signal.SIGKILL)
        wait_until(lambda: not (group / "cgroup.procs").read_text(), "the control group to be empty")
        group.rmdir()


@pytest.mark.parametrize("limit", [1, 3, 8])
def test_too_few_processes(place: Place, limit: int) -> None:
    """fork fails: for the guardian (1), for the first tasks (3), for some of many (8)."""
    place.write(text=WIDE)
    with few_processes(limit) as enter:
        ended = place.run(before=enter)
    before = check_exhausted(place, ended)
    assert ended.code != 0
    place.check_resume(before, order=ALL_WIDE)


# -- the state file ------------------------------------------------------------------------------------------------


def hold(db: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(db, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_locked_for_some_seconds(place: Place) -> None:
    """The run waits, and ends well."""
    place.write("while [ ! -e go ]; do sleep 0.02; done")
    process = place.start("run", "flow.yaml")
    try:
        wait_until(lambda: place.ran() == ["a", "b"], "the second task")
        connection = hold(place.db)
        (place.folder / "go").touch()
        timer = threading.Timer(2.5, connection.close)
        timer.start()
        ended = place.end(process)
        timer.join()
    finally:
        if process.poll() is None:
            process.kill()
    assert place.check(ended, 0) == set(ORDER)
    assert place.ran() == ORDER
    place.figure.tell(case="locked_2.5s", false_states=0, waited=1)


def test_locked_for_ever(place: Place) -> None:
    """A message, exit 3, nothing false; and nothing was started whose intent could not be stored."""
    place.write("while [ ! -e go ]; do sleep 0.02; done")
    process = place.start("run", "flow.yaml")
    try:
        wait_until(lambda: place.ran() == ["a", "b"], "the second task")
        connection = hold(place.db)
        (place.folder / "go").touch()
        ended = place.end(process)
        connection.close()
    finally:
        if process.poll() is None:
            process.kill()
    assert place.ran() == ["a", "b"]
    before = place.check(ended, 3, "locked", str(place.db))
    assert before == {"a"}
    place.check_resume(before)


def test_log_folder_deleted(place: Place) -> None:
    """It is made again."""
    place.write(f"rm -r {place.folder}/logs; echo said b")
    assert place.check(place.run(), 0) == set(ORDER)
    assert list((place.folder / "logs").glob("task_c_*"))
    place.figure.tell(case="log_folder_deleted", false_states=0, tasks_failed=0)


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_state_file_gone_in_mid_run(place: Place, how: str) -> None:
    """It is noticed: nothing more is started, exit 3, and what is said names the file."""
    other = place.folder / "other.db"
    sqlite3.connect(other).close()
    action = {"deleted": "rm {0} {0}-wal {0}-shm", "moved": "mv {0} {0}.aside", "replaced": "mv {1} {0}"}[how]
    place.write(f"{action.format(place.db, other)}; sleep 1.2")
    ended = place.run()
    assert ended.code == 3, f"{ended.code}: {ended.out}{ended.err}"
    assert "Traceback" not in ended.err
    assert str(place.db) in ended.err
    assert "was deleted, moved or replaced" in ended.err
    assert place.ran() == ["a", "b"], "tasks were started whose state nobody can read"
    assert "b SUCCESS" not in ended.out
    place.figure.tell(case=f"state_file_{how}", noticed=1, false_states=0)


@pytest.mark.parametrize("what", ["newer", "foreign", "text"])
def test_state_file_of_another(place: Place, what: str) -> None:
    """Refused with a message; not changed."""
    place.write()
    if what == "text":
        place.db.write_text("this is a text, and longer than a header of a database would be\n" * 5)
    else:
        if what == "newer":
            assert place.run().code == 0
        connection = sqlite3.connect(place.db)
        connection.execute("PRAGMA user_version=99" if what == "newer" else "CREATE TABLE theirs (x)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.commit()
        connection.close()
    data, ran = place.db.read_bytes(), place.ran()
    for words in (("run", "flow.yaml"), ("resume", "flow.yaml"), ("status",)):
        ended = place.run(*words)
        assert ended.code == 3, ended.err
        assert str(place.db) in ended.err
        assert "--db" in ended.err
    assert place.db.read_bytes() == data
    assert place.ran() == ran
    place.figure.tell(case=f"state_file_{what}", changed=0)


def test_control_a_success_without_a_task_is_seen(place: Place) -> None:
    """The negative control: a state that is false turns the check red."""
    place.write()
    ended = place.run()
    place.check(ended, 0)
    place.trail.write_text("a b c")
    with pytest.raises(AssertionError):
        place.check(ended, 0)
    shutil.rmtree(place.folder / "logs")
