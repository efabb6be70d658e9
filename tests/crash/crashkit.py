"""Tools of the crash suites: the outside view of a run, and the processes that the suites kill.

Nothing here asks the engine whether it did well. The oracle is outside it: what observers acknowledged (written to a
pipe after the commit), what tasks really did (one appended line each), the process table, and the state file read by
plain `sqlite3`.

A harness is a program of its own, single-threaded and a child subreaper: every process that a run of it leaves
behind becomes its child, so "is anything left?" has an exact answer whatever that process did to hide.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from liteflow import Observer
from liteflow.planning.task_table import instance_name

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))  # a harness is a program of its own
import event_fold  # noqa: E402

_PR_SET_CHILD_SUBREAPER = 36


# -- figures -----------------------------------------------------------------------------------------------------


def publish(name: str, **fields: object) -> str:
    """Print one machine-readable line, and append it to the file named by LIGHTFLOW_FIGURES."""
    seconds = fields.pop("seconds", None)
    words = [name, *(f"{key}={value}" for key, value in fields.items())]
    if isinstance(seconds, int | float):
        words.append(f"{seconds:.0f}s")
    line = " ".join(words)
    print(line, flush=True)
    path = os.environ.get("LIGHTFLOW_FIGURES")
    if path:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(handle, f"{line}\n".encode())
        finally:
            os.close(handle)
    return line


# -- the test's side: harness programs ---------------------------------------------------------------------------


class Harness:
    """Starts harness programs in folders of their own and collects what they report."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def start(self, program: str, *arguments: object) -> subprocess.Popen[str]:
        """Start `tests/crash/<program>.py`; its first argument is an empty folder."""
        place = self._folder / f"h{len(self._started)}"
        place.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-W", "error", str(HERE / f"{program}.py"), str(place), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=place,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self._started.append(process)
        return process

    @staticmethod
    def collect(process: subprocess.Popen[str], limit_s: float = 3600.0) -> dict[str, Any]:
        """Wait for a harness program; its last line of output is its report."""
        out, err = process.communicate(timeout=limit_s)
        assert process.returncode == 0, f"the harness failed ({process.returncode}):\n{out[-3000:]}\n{err[-6000:]}"
        report = json.loads(out.splitlines()[-1])
        assert isinstance(report, dict)
        return report

    def run(self, program: str, *arguments: object, shards: int = 1, seed: int) -> dict[str, Any]:
        """Run a program, or several of it at once with seeds of their own, and add up their reports."""
        started = [self.start(program, *arguments, "--seed", seed * 1000 + n) for n in range(shards)]
        return add_up([self.collect(process) for process in started])

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=10)
            if process.poll() is None:
                process.kill()
            process.communicate()


def add_up(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum numbers, join lists; `worst_…` takes the largest."""
    total: dict[str, Any] = {}
    for report in reports:
        for key, value in report.items():
            if key not in total:
                total[key] = value
            elif key.startswith("worst"):
                total[key] = max(total[key], value)
            else:
                total[key] = total[key] + value
    return total


# -- the harness's side: processes -------------------------------------------------------------------------------


#: What is to end has this long, and less than what would live on: a busy machine is no failure. The figures say how
#: long it takes.
ENDS_WITHIN_S = 15.0
#: So much of a look counts, and a busy machine may need so many times as long.
_LOOK_S = 0.02
_SLOWEST = 3.0


class Row(NamedTuple):
    """One row of the process table."""

    pid: int
    parent: int
    state: str
    started: int
    name: str


def row_of(pid: int) -> Row | None:
    """A process as /proc tells of it; our own reader, so that a fault in the engine's cannot hide one."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read(4096)
    except OSError:
        return None
    begin, end = text.find(b"("), text.rfind(b")")
    fields = text[end + 2 :].split()
    return Row(
        pid, int(fields[1]), fields[0].decode(), int(fields[19]), text[begin + 1 : end].decode("utf-8", "replace")
    )


def process_table() -> dict[int, Row]:
    return {row.pid: row for name in os.listdir("/proc") if name.isdigit() and (row := row_of(int(name))) is not None}


def command_line(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
            return file.read(65536).replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def descendants(root: int | None = None) -> dict[int, Row]:
    """Everything below a process (default: this one) that is not a zombie."""
    table = process_table()
    below: dict[int, list[int]] = {}
    for row in table.values():
        below.setdefault(row.parent, []).append(row.pid)
    stack, found = list(below.get(os.getpid() if root is None else root, ())), dict[int, Row]()
    while stack:
        pid = stack.pop()
        if pid not in found:
            found[pid] = table[pid]
            stack += below.get(pid, ())
    return {pid: row for pid, row in found.items() if row.state not in "ZX"}


def marked(marker: str) -> dict[int, Row]:
    """Living processes with a word in their command line or in their name, wherever they hang in the tree."""
    me = os.getpid()
    return {
        pid: row
        for pid, row in process_table().items()
        if pid != me and row.state not in "ZX" and (marker in row.name or marker in command_line(pid))
    }


def same(row: Row) -> bool:
    """Does this very process still live?"""
    now = row_of(row.pid)
    return now is not None and now.started == row.started and now.state not in "ZX"


_ended: dict[int, int] = {}  # exit codes of children that `reap` came across


def reap() -> None:
    """Take leave of every child that has ended; `wait_for` still knows how."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            _ended[found[0]] = os.waitstatus_to_exitcode(found[1])


def await_none(left: Callable[[], Any], limit_s: float = ENDS_WITHIN_S) -> tuple[float, Any]:
    """Poll until nothing is left, or the limit has passed. Returns the seconds it took, and what is left.

    The limit counts the time in which the machine serves this process: where a look takes long, it serves others, and
    what is to end waits, too.
    """
    began = now = time.monotonic()
    served_s = 0.0
    while True:
        reap()
        rest = left()
        before, now = now, time.monotonic()
        served_s += min(now - before, _LOOK_S)
        if not rest or served_s >= limit_s or now - began >= limit_s * _SLOWEST:
            return now - began, rest
        time.sleep(0.002)


def end_descendants() -> None:
    """Kill whatever is below this process, until nothing is."""
    for _ in range(200):
        reap()
        left = descendants()
        if not left:
            return
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        time.sleep(0.005)


def _on_alarm(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"the harness took too long (signal {number})")


def become_subreaper() -> None:
    """Have every process below this one, whose parent ends, become a child of this one."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@contextlib.contextmanager
def as_harness(limit_s: int = 900) -> Iterator[None]:
    """Be a subreaper for the length of the block; leave nothing behind, and do not run for ever."""
    become_subreaper()
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, _on_alarm)
    signal.alarm(limit_s)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_descendants()


def fork(child: Callable[[], object]) -> int:
    """Run a function in a forked child and return the child's pid. The child's exit code: 0, or 99 if it raised."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        _ended.pop(pid, None)
        return pid
    code = 99
    try:
        for number in (signal.SIGALRM, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        child()
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)


def wait_for(pid: int, limit_s: float = 120.0) -> int | None:
    """The exit code of a child (-N: by signal N), or None when it does not end in time."""
    if pid in _ended:
        return _ended.pop(pid)
    handle = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if not poll.poll(limit_s * 1000):
            return None
    finally:
        os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def append(path: str, text: str) -> None:
    """Add one line to a file in one write, so that lines of several processes never mix."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(handle, f"{text}\n".encode())
    os.close(handle)


def lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def drain(handle: int) -> list[str]:
    """All complete lines that a pipe without a writer still holds."""
    data = b""
    while chunk := os.read(handle, 65536):
        data += chunk
    return data.decode().splitlines()


def read_until(handle: int, holds: Callable[[list[str]], bool], limit_s: float) -> list[str]:
    """Read the lines of a pipe until a condition of them holds, its writers are gone, or the limit has passed."""
    data, poll, give_up = b"", select.poll(), time.monotonic() + limit_s
    poll.register(handle, select.POLLIN)
    while not holds(data.decode().splitlines()) and poll.poll(1000 * max(0.0, give_up - time.monotonic())):
        chunk = os.read(handle, 65536)
        if not chunk:
            break
        data += chunk
    return data.decode().splitlines()


# -- acknowledgements ----------------------------------------------------------------------------------------------


class Acknowledge(Observer):
    """An observer that writes to a pipe what it is told; the engine tells it only what it has committed."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def _say(self, text: str) -> None:
        os.write(self._handle, text.encode())

    def run_began(self, run: Any) -> None:
        self._say(f"BEGAN {time.monotonic()}\n")

    def changed(self, changes: Sequence[Any]) -> None:
        # A mapped task as a whole has no attempts; its instances have.
        told = [(one.status, instance_name(one.task_id, one.map_index), one.attempt) for one in changes if one.attempt]
        self._say("".join(f"{status} {name} {attempt}\n" for status, name, attempt in told))

    def run_ended(self, status: Any, reason: str | None) -> None:
        self._say(f"ENDED {status}\n")


# -- the state file, seen from outside -----------------------------------------------------------------------------

_ENDED = {"SUCCESS", "FAILED", "SKIPPED", "CANCELLED"}
_HOOK = re.compile(r"(^|\.)(on_(start|success|failure|retry|cancel|exit)|precondition_\d+)(\[\d+])?$")


def is_hook(name: str) -> bool:
    """Is the instance one of a hook or a precondition? By its name, not by what the engine says of it."""
    return _HOOK.search(name) is not None


def hook_name(owner: str, event: str) -> str:
    """The hook's instance that belongs to an instance; the run's own is the empty text."""
    task, bracket, index = owner.partition("[")
    return f"{task}.{event}{bracket}{index}" if task else event


class State(NamedTuple):
    """What a state file holds of one run. Instances are named as people do: `a`, or `a[3]` of a mapped task."""

    found: bool
    run: str
    instances: dict[str, tuple[str, int]]  # status, try_number
    attempts: dict[tuple[str, int], str]
    events: list[tuple[int, str, int, str, str]]  # seq, task, attempt, previous, status
    problems: list[str]
    wholes: Mapping[str, str] = {}  # status of mapped tasks as a whole, once their instances are there
    told: Mapping[str, int] = {}  # of hooks that have yet to end: how often they have been triggered, and not run
    joins: Mapping[str, tuple[str, int]] = {}  # of groups: the status, and the number of the last event
    rounds: Mapping[str, int] = {}  # of instances: how often they were set back to run again
    attempt_rounds: Mapping[tuple[str, int], int] = {}
    children: Sequence[tuple[str, str]] = ()  # ids of child runs, and the instances that execute them

    @property
    def succeeded(self) -> set[str]:
        """The tasks that have, in their round; hooks run as often as they are triggered."""
        return {task for task, number in self.successes if number == self.rounds.get(task, 0)}

    @property
    def successes(self) -> set[tuple[str, int]]:
        """The tasks that have succeeded, each with the round."""
        ended = self.attempts.items()
        return {
            (key[0], self.attempt_rounds[key]) for key, status in ended if status == "SUCCESS" and not is_hook(key[0])
        }

    @property
    def set_back(self) -> set[str]:
        """The instances that were set back to run again."""
        return {name for name, number in self.rounds.items() if number and not is_hook(name)}


_NOTHING = State(False, "", {}, {}, [], [])


def read_state(db: str, run_id: str) -> State:
    """Read a run by plain SQL. Opened read-only: recovering the write-ahead log is left to the engine's next start."""
    if not os.path.exists(db) or (os.path.getsize(db) == 0 and not os.path.exists(f"{db}-wal")):
        return _NOTHING
    connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=10, isolation_level=None)
    try:
        connection.execute("BEGIN")
        problems = [f"quick_check: {word}" for (word,) in connection.execute("PRAGMA quick_check(5)") if word != "ok"]
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name='liteflow_dag_runs'").fetchone():
            return _NOTHING._replace(problems=problems)
        row = connection.execute("SELECT status FROM liteflow_dag_runs WHERE run_id=?", (run_id,)).fetchone()
        if row is None:
            return _NOTHING._replace(problems=problems)
        rows = connection.execute(
            "SELECT task_id, map_index, status, try_number, hook_events, round FROM liteflow_task_instances "
            "WHERE run_id=? AND kind NOT IN ('group', 'entry')",
            (run_id,),
        ).fetchall()
        joins = {
            group: (status, seq)
            for group, status, seq in connection.execute(
                "SELECT task_id, i.status, ifnull(max(e.seq), 0) FROM liteflow_task_instances i "
                "LEFT JOIN liteflow_events e USING (run_id, task_id) "
                "WHERE run_id=? AND i.kind='group' GROUP BY task_id",
                (run_id,),
            )
        }
        mapped = {task for task, index, *_ in rows if index >= 0 and not is_hook(task)}
        wholes = {task: status for task, index, status, *_ in rows if task in mapped and index < 0}
        told = {
            instance_name(task, index): len(json.loads(words))
            for task, index, status, _, words, _ in rows
            if words is not None and status not in _ENDED
        }
        named = {instance_name(task, index): row for task, index, *row in rows if index >= 0 or task not in mapped}
        instances = {name: (status, tries) for name, (status, tries, *_) in named.items()}
        rounds = {name: number for name, (*_, number) in named.items()}
        attempts = {
            (task, tries): status
            for task, (status, tries) in instances.items()
            if status in ("RUNNING", "QUEUED", "WAITING")
        }  # of a repeated task, the row of an attempt follows, which is REPEATED
        attempt_rounds = {(task, tries): rounds[task] for task, tries in attempts}
        for task, index, attempt, status, number in connection.execute(
            "SELECT task_id, map_index, attempt, status, round FROM liteflow_attempts WHERE run_id=?", (run_id,)
        ):
            attempts[instance_name(task, index), attempt] = status
            attempt_rounds[instance_name(task, index), attempt] = number
        children = [
            (child, instance_name(task, index))
            for child, task, index in connection.execute(
                "SELECT run_id, parent_task_id, parent_map_index FROM liteflow_dag_runs WHERE parent_run_id=?",
                (run_id,),
            )
        ]
        events = [
            (seq, instance_name(task, index), attempt, previous, status)
            for seq, task, index, attempt, previous, status in connection.execute(
                "SELECT seq, task_id, map_index, attempt, previous, status FROM liteflow_events "
                "WHERE run_id=? AND task_id IS NOT NULL ORDER BY seq",
                (run_id,),
            )
            if (index >= 0 or task not in mapped) and task not in joins
        ]
        rerun = (rounds, attempt_rounds, children)
        return State(True, row[0], instances, attempts, events, problems, wholes, told, joins, *rerun)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "") != "SQLITE_READONLY_ROLLBACK":
            return _NOTHING._replace(problems=[f"{type(error).__name__}: {error}"])
    finally:
        connection.close()
    return _read_copy(db, run_id)


def _read_copy(db: str, run_id: str) -> State:
    """Read a copy, where a killed writer has left a rollback journal: undoing that is the engine's business too."""
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("", "-journal", "-wal"):
            if os.path.exists(db + suffix):
                shutil.copy(db + suffix, f"{folder}/copy{suffix}")
        connection = sqlite3.connect(f"{folder}/copy")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        connection.close()
        return read_state(f"{folder}/copy", run_id)


class Faults:
    """Counts what must not happen, by kind, with notes on the first of them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []

    def fault(self, kind: str, note: str) -> None:
        self.counts[kind] += 1
        if len(self.notes) < 20:
            self.notes.append(f"{kind}: {note}")


#: fails whenever it is tried
ALWAYS = sys.maxsize


class TaskHooks(NamedTuple):
    """What a run does around its tasks: the hooks of tasks (the run itself is the empty text), and how many of the
    first attempts of a task or hook fail. One that fails `ALWAYS` does not fail the run. Where tasks are killed, too
    (`struck`), any attempt may fail.
    """

    hooks: Mapping[str, Sequence[str]] = {}
    failing: Mapping[str, int] = {}
    struck: bool = False
    #: the tasks that wait without a worker
    waits: Sequence[str] = ()
    #: how many iterations each repeated task has
    iterations: Mapping[str, int] = {}
    #: the members of each group
    groups: Mapping[str, Sequence[str]] = {}
    #: what the child runs of tasks are
    children: Mapping[str, Part] = {}


class Part(NamedTuple):
    """What the child runs of a task are: the graph, and what is around its tasks."""

    graph: Mapping[str, Sequence[str]]
    around: TaskHooks = TaskHooks()


#: the end of an instance that triggers a hook
_TRIGGERS = {"on_success": "SUCCESS", "on_failure": "FAILED", "on_retry": "UP_FOR_RETRY"}


class Oracle(Faults):
    """Everything that must hold of one run, however often its owner is killed. Counts what does not.

    lost      acknowledged as succeeded, but not recorded so
    dup       two successes of one task
    rerun     executed again after its success was recorded
    ghost     executed without a committed intent, or twice under one attempt number
    false     recorded as succeeded, but never executed
    order     started, by the events or in fact, before the success of an upstream was durable
    torn      the run's row, instances, attempts and events do not tell the same story
    hook      triggered and not stored with what triggered it, or not run once for each time that it was triggered
    events    the events, folded, differ from the rows
    wait      begun anew, although it was stored that the attempt waits
    iteration of a repeated task: more than there must be, or fewer
    child     a child run is made twice, or its task has ended unlike it; all other kinds hold of child runs, too
    set       a part of what is to run again was set back, or something else was, or has run
    join      a group has ended before its members, or not with them
    tries     an attempt is missing among those of a task, or has failed, or not, unlike it had to
    corrupt   SQLite finds the file damaged
    """

    KINDS = (
        *("lost", "dup", "rerun", "ghost", "false", "order", "torn", "hook", "tries", "events", "corrupt"),
        *("wait", "iteration", "join", "child", "set"),
    )

    def __init__(
        self,
        db: str,
        run_id: str,
        effects: str,
        upstream: Mapping[str, Sequence[str]],
        around: TaskHooks | None = None,
        parent: Oracle | None = None,
    ) -> None:
        super().__init__()
        self._db, self._run_id, self._effects = db, run_id, effects
        self._trail = effects if parent is None else parent._trail  # what the names of those of child runs begin with
        self._parent = parent
        self._children: dict[str, Oracle] = {}
        self._set: frozenset[str] = frozenset()  # what is to run again
        self._before_set: frozenset[tuple[str, int]] = frozenset()  # the attempts until then
        self._around = around or TaskHooks()
        hooks = self._around.hooks
        starts = {task: (hook_name(task, "on_start"),) for task in hooks if "on_start" in hooks[task]}
        self._upstream = {  # a task waits for the `on_start` of the run and its own, as for any other
            name: (*above, *starts.get("", ()), *starts.get(task_of(name), ())) for name, above in upstream.items()
        }
        self._acknowledged: set[tuple[str, int]] = set()
        self._successes: set[tuple[str, int]] = set()
        self._seen = 0

    def fault(self, kind: str, note: str) -> None:
        if self._parent is None:
            super().fault(kind, note)
        else:
            self._parent.fault(kind, f"{self._run_id}: {note}")

    def run_again(self, names: Collection[str], state: State) -> None:
        """From now on, these instances are to run again, and nothing else; `state` is the last one before that."""
        self._set, self._before_set = frozenset(names), frozenset(state.attempts)

    def check(self, acknowledged: Sequence[str], *, whole: bool = False) -> State:
        """Look at everything after a kill; with `whole`, after the run has ended by itself."""
        for line in acknowledged:
            word, task, attempt = (*line.split(), "", "")[:3]
            if word == "SUCCESS":
                self._acknowledged.add((task, int(attempt)))
        state = self._look(whole=whole)
        for problem in state.problems:
            self.fault("corrupt", problem)
        for text in event_fold.differences(self._db) if state.found else ():
            self.fault("events", text)
        for told in self._acknowledged:
            if state.attempts.get(told) != "SUCCESS":
                self.fault("lost", f"{told} is {state.attempts.get(told)}")
        return state

    def _look(self, *, whole: bool) -> State:
        """Look at the run and at its child runs, whose processes may still be alive."""
        effects = self._read_effects()
        state = read_state(self._db, self._run_id)
        self._check_against_effects(state, effects, set(self._read_effects()))
        if state.found:
            self._check_story(state)
            self._check_set(state, whole=whole)
            self._check_children(state, whole=whole)
        if whole:
            self._check_end(state)
        self._successes = state.successes
        return state

    def _read_effects(self) -> list[tuple[str, int]]:
        return [(task, int(attempt)) for task, attempt in (line.split() for line in lines(self._effects))]

    def _check_end(self, state: State) -> None:
        """The run has ended by itself."""
        bad = {
            task: status
            for task, (status, _) in state.instances.items()
            if status != ("FAILED" if self._fails(task) == ALWAYS else "SUCCESS")
        }
        tasks = {task for task in state.instances if not is_hook(task)}
        if state.run != "SUCCESS" or bad or len(tasks) != len(self._upstream):
            self.fault("torn", f"the run ended {state.run} with {bad}")
        self._check_all_hooks(state)
        for task, wanted in self._around.iterations.items():
            if (made := self._iterations(state, task)) != wanted:
                self.fault("iteration", f"{task} has succeeded after {made} iterations, not {wanted}")

    def _check_set(self, state: State, *, whole: bool) -> None:
        """All of what is to run again is set back, or nothing of it, and nothing else runs."""
        if (whole or state.set_back) and state.set_back != self._set:
            self.fault("set", f"these were set back, and not the others: {state.set_back ^ self._set}")
        more = {
            key for key in state.attempts.keys() - self._before_set if not is_hook(key[0]) and key[0] not in self._set
        }
        if self._set and more:
            self.fault("set", f"{more} have run again")
        if whole and self._set - state.succeeded:
            self.fault("set", f"{self._set - state.succeeded} have not run again")

    def _check_children(self, state: State, *, whole: bool) -> None:
        """Each instance has a child run for each of its rounds, which has ended as it has."""
        runs: dict[str, list[str]] = {name: [] for name in self._upstream if task_of(name) in self._around.children}
        for run_id, name in state.children:
            if run_id not in self._children:
                part = self._around.children[task_of(name)]
                new = Oracle(self._db, run_id, f"{self._trail}.{run_id}", part.graph, part.around, self)
                self._children[run_id] = new
            runs[name].append(self._children[run_id]._look(whole=whole).run)
        for name, statuses in runs.items():
            successes = sum(task == name for task, _ in state.successes)
            if len(statuses) > state.rounds.get(name, 0) + 1 or statuses.count("SUCCESS") < successes:
                self.fault("child", f"the child runs of {name} are {statuses}, it has succeeded {successes} times")

    def _check_against_effects(
        self, state: State, effects: Sequence[tuple[str, int]], done: Collection[tuple[str, int]]
    ) -> None:
        """`effects` were read before the state, and `done` after it, because a child run may still be executed."""
        for task, attempt in effects[self._seen :]:
            if (task, state.attempt_rounds.get((task, attempt))) in self._successes:
                self.fault("rerun", task)
        self._seen = len(effects)
        for (task, attempt), times in Counter(effects).items():
            if times > 1 or (task, attempt) not in state.attempts:
                self.fault(
                    "ghost", f"{task} {attempt} executed {times} times, recorded {(task, attempt) in state.attempts}"
                )
        silent = {task for task in self._around.waits if all(task != name for name, _ in done)}  # leaves no effects
        for (task, attempt), status in state.attempts.items():
            if status == "SUCCESS" and (task, attempt) not in done and task not in silent:
                self.fault("false", f"{task} {attempt}")
        succeeded = {task for (task, _), status in state.attempts.items() if status == "SUCCESS"}
        for task in {task for task, _ in effects}:
            early = [above for above in self._upstream.get(task, ()) if above not in succeeded]
            if early:
                self.fault("order", f"{task} executed while {early} had not succeeded")

    def _check_story(self, state: State) -> None:
        latest: dict[str, int] = {}
        wins: Counter[str] = Counter()
        in_rounds: Counter[tuple[str, int]] = Counter()
        for (task, attempt), status in state.attempts.items():
            latest[task] = max(latest.get(task, 0), attempt)
            wins[task] += status == "SUCCESS"
            in_rounds[task, state.attempt_rounds[task, attempt]] += status == "SUCCESS"
        self._check_tries(state, latest)
        self._check_hooks(state, wins)
        self._check_waits(state)
        for (task, number), count in in_rounds.items():
            if count > 1 and not is_hook(task):
                self.fault("dup", f"{task} has {count} successes in round {number}")
        told: dict[str, tuple[str, int]] = {}
        for seq, task, attempt, _, status in state.events:
            told[task] = (status, attempt)
            if status in ("RUNNING", "QUEUED"):  # a queued attempt may start at any time
                for above in self._upstream.get(task, ()):
                    if told.get(above, ("",))[0] != "SUCCESS":
                        self.fault("order", f"{task} is {status} at {seq}, {above} {told.get(above)}")
        for task, (status, tries) in state.instances.items():
            attempt = latest.get(task, 0)
            verdict = state.attempts.get((task, attempt))
            if state.attempt_rounds.get((task, attempt)) != state.rounds[task]:
                verdict = None  # it was set back since
            event = told.get(task, ("", 0))
            fine = {
                "PENDING": verdict in (None, "LOST", "CANCELLED", "FAILED", "TIMED_OUT", "REPEATED") or is_hook(task),
                "RUNNING": verdict == "RUNNING" and tries == attempt and event == ("RUNNING", attempt),
                "QUEUED": verdict == "QUEUED" and tries == attempt and event == ("QUEUED", attempt),
                "WAITING": verdict in ("WAITING", "REPEATED") and event == ("WAITING", attempt),
                "SUCCESS": verdict == "SUCCESS" and tries == attempt and event == ("SUCCESS", attempt),
                "UP_FOR_RETRY": verdict in ("LOST", "FAILED"),
                "FAILED": verdict in ("FAILED", "LOST", "TIMED_OUT"),
                "CANCELLED": True,
                "UPSTREAM_FAILED": verdict != "SUCCESS",
            }.get(status, False)
            if not fine:
                self.fault("torn", f"{task} is {status} (try {tries}), attempt {attempt} {verdict}, event {event}")
        for task, whole in state.wholes.items():
            within = {status for name, (status, _) in state.instances.items() if name.startswith(f"{task}[")}
            if whole == "SUCCESS" and within != {"SUCCESS"}:
                self.fault("torn", f"{task} is SUCCESS, its instances are {within}")
        bad = {
            task for task, (status, _) in state.instances.items() if status != "SUCCESS" and self._fails(task) != ALWAYS
        }
        if state.run == "SUCCESS" and bad:
            self.fault("torn", f"the run is SUCCESS and these are not: {bad}")

    def _check_waits(self, state: State) -> None:
        """What waits goes on with the same attempt; iterations are counted on; groups end with their last member."""
        waited = {(task, attempt) for _, task, attempt, _, status in state.events if status == "WAITING"}
        for task in self._around.waits:
            again = [each for each in waited if each[0] == task and state.attempts.get(each) == "LOST"]
            if again:
                self.fault("wait", f"{again} was waiting, and is lost")
        for task, wanted in self._around.iterations.items():
            if (made := self._iterations(state, task)) > wanted:
                self.fault("iteration", f"{task} has {made} iterations, not {wanted}")
        for group, (status, seq) in state.joins.items():
            members = {state.instances.get(task, ("", 0))[0] for task in self._around.groups[group]}
            last = max((at for at, task, *_ in state.events if task in self._around.groups[group]), default=0)
            if (status == "SUCCESS") != (members == {"SUCCESS"}) or (status == "SUCCESS" and seq < last):
                self.fault("join", f"group {group} is {status} at {seq}, its members are {members} at {last}")

    @staticmethod
    def _iterations(state: State, task: str) -> int:
        """Return how many iterations a task has ended in its round."""
        ended = [key for key, status in state.attempts.items() if status in ("REPEATED", "SUCCESS")]
        return sum(task_of(key[0]) == task and state.attempt_rounds[key] == state.rounds[key[0]] for key in ended)

    def _fails(self, name: str) -> int:
        return self._around.failing.get(task_of(name), 0)

    def _check_tries(self, state: State, latest: Mapping[str, int]) -> None:
        """No attempt is left out, and each has failed that had to, and no other."""
        for task, last in latest.items():
            missing = [number for number in range(1, last) if (task, number) not in state.attempts]
            if missing:
                self.fault("tries", f"{task} has {last} attempts, but not {missing}")
        for (task, attempt), status in state.attempts.items():
            to_fail = attempt <= self._fails(task)
            if status == ("SUCCESS" if to_fail else "FAILED") and (to_fail or not self._around.struck):
                self.fault("tries", f"attempt {attempt} of {task} is {status}")

    def _check_hooks(self, state: State, wins: Mapping[str, int]) -> None:
        """Each time that a hook was triggered it has run, or is stored as yet to run."""
        ends = Counter((task, status) for _, task, _, _, status in state.events)
        for owner in self._upstream:
            own = self._around.hooks.get(task_of(owner), ())
            for event in own:
                name = hook_name(owner, event)
                if event == "on_exit":  # after the hook that follows such an end, or at once where there is none
                    wanted = sum(
                        wins.get(hook_name(owner, one), 0) if one in own else ends[owner, _TRIGGERS[one]]
                        for one in ("on_success", "on_failure")
                    )
                elif event == "on_start":
                    continue
                else:
                    wanted = ends[owner, _TRIGGERS[event]]
                done, to_do = wins.get(name, 0), state.told.get(name, 0)
                if done + to_do != wanted:
                    self.fault("hook", f"{name} was triggered {wanted} times: {done} have run, {to_do} are stored")
        for owner, own in self._around.hooks.items():
            may_run = 2 if state.set_back and (not owner or owner in self._set) else 1
            if "on_start" in own and wins.get(hook_name(owner, "on_start"), 0) > may_run:
                self.fault("hook", f"{hook_name(owner, 'on_start')} has run again")

    def _check_all_hooks(self, state: State) -> None:
        """At the end of the run its own hooks have run, once; again only where a resume had something to do."""
        wins = Counter(task for (task, _), status in state.attempts.items() if status == "SUCCESS")
        again = self._set or ALWAYS in self._around.failing.values()
        for event in self._around.hooks.get("", ()):
            if not wins[event] or (wins[event] > 1 and not again):
                self.fault("hook", f"the run's {event} has run {wins[event]} times")
        if state.told:
            self.fault("hook", f"the run has ended, and these have not run: {dict(state.told)}")


def task_of(name: str) -> str:
    """The task, or hook, of an instance."""
    return name.partition("[")[0]


def layered(layers: int, width: int) -> dict[str, tuple[str, ...]]:
    """A graph of layers: each task waits for two of the layer above. By task, in a topological order."""
    graph: dict[str, tuple[str, ...]] = {}
    for layer in range(layers):
        for place in range(width):
            above = (f"t{layer - 1}_{place}", f"t{layer - 1}_{(place + 1) % width}") if layer else ()
            graph[f"t{layer}_{place}"] = above
    return graph


def with_instances(graph: Mapping[str, Sequence[str]], mapped: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """The graph with the instances of mapped tasks in their place; `mapped` says how many there are."""

    def names(task: str) -> list[str]:
        return [instance_name(task, index) for index in range(mapped[task])] if task in mapped else [task]

    found = {}
    for task, above in graph.items():
        wanted = tuple(name for other in above for name in names(other))
        found |= dict.fromkeys(names(task), wanted)
    return found


def report(**fields: object) -> None:
    """A harness's last line."""
    print(json.dumps(fields), flush=True)
