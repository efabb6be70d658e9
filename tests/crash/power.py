"""A power cut, simulated: the writes of a real run are recorded, then replayed as a disk that lost some of them.

What is modelled, for each file on its own: a write that was not followed by a sync may be on the disk or not, in any
order, and of one that was under way any of its 512-byte sectors may be. What was synced is there. Names (a file made
or deleted) take effect at once, as a journalling file system sees to; a disk that lies about a sync is not modelled.
"""

from __future__ import annotations

import bisect
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from lines import ENV, missing

END: Final = b"END"  # what is acknowledged when the run has ended
KINDS: Final = ("none", "all", "prefix", "subset", "torn")
_SECTOR: Final = 512
_CALL: Final = re.compile(r"(\d+\.\d+) (\w+)\((.*)\) += (-?\d+)")
_STRING: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FD: Final = re.compile(r"\d+<((?:\\x[0-9a-f]{2})*)>")
_FILES: Final = ("state.db", "state.db-wal", "state.db-journal")
_NAMELESS: Final = "#"  # how the kernel shows a file that is made before it gets its name

#: The program that is recorded: a layered dag whose successes are acknowledged, after the commit, in a file `ack`.
#: Checkpoints come at 60 kB of log instead of 4 MiB, so that a short run has many.
_PROGRAM: Final = """\
import os, sys, threading, time
import liteflow.state.state_file as state_file
import liteflow.state.store as store
from liteflow import Dag, Observer

folder, durability, sync, tasks, pause, idle = sys.argv[1:]
if not float(idle):  # a checkpoint would sync what a rest has to
    assert hasattr(state_file, '_CHECKPOINT_BYTES')
    state_file._CHECKPOINT_BYTES = 60_000
if sync == "off":
    def never(self, now, *, ends_run):
        self._connection.execute("PRAGMA synchronous=OFF")
        state_file.checkpoint_wal(self._connection, self._path, self._locks)
    assert hasattr(store._Syncing, 'choose')
    store._Syncing.choose = never
ack = os.open(f"{folder}/ack", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

class Acknowledge(Observer):
    def run_ended(self, *_):
        os.write(ack, b"END\\n")
    def changed(self, changes):
        for one in changes:
            if one.status == "SUCCESS":
                os.write(ack, f"{one.task_id}\\n".encode())

def work():
    time.sleep(float(pause))
    return "v" * 3000

def wait():
    time.sleep(float(idle))

made = []
with Dag("flow", f"{folder}/state.db") as dag:
    for number in range(int(tasks)):
        one = dag.task(work, task_id=f"t{number}")
        for above in {number - 3, number - 4}:
            if above >= 0:
                made[above] >> one
        made.append(one)
    if float(idle):
        made[-1] >> dag.task(wait, task_id="idle")

late_s, over = 0.0, threading.Event()

def tick():
    global late_s  # by how much this machine wakes a thread of this program too late
    while not over.is_set():
        began = time.monotonic()
        time.sleep(0.02)
        late_s = max(late_s, time.monotonic() - began - 0.02)

clock = threading.Thread(target=tick)
clock.start()
run = dag.run(4, "thread", run_id="run", durability=durability, observers=[Acknowledge()])
over.set()
clock.join()
print(late_s)
sys.exit(run.status != "SUCCESS")
"""


class Call(NamedTuple):
    """One recorded system call: `kind` is write, truncate, sync, unlink, link (`data` is the name it gives to a
    nameless file), or ack (then `data` is what was said).
    """

    at: float
    kind: str
    file: str
    data: bytes = b""
    offset: int = 0


class Trace(NamedTuple):
    """A recorded run with the truth about it: its calls, all its events, and who waits for whom."""

    calls: list[Call]
    events: list[tuple[object, ...]]
    upstream: dict[str, set[str]]
    late_s: float  # the most by which the machine woke a thread of the program too late


def record(
    folder: Path,
    *,
    durability: str = "process",
    sync: str = "as set",
    tasks: int = 48,
    pause: float = 0.0,
    idle: float = 0.0,
) -> Trace:
    """Run a dag under strace, once, on this disk."""
    if shutil.which("strace") is None:
        missing("strace")
    folder.mkdir()
    program, trace = folder / "program.py", folder / "trace"
    program.write_text(_PROGRAM)
    calls = "trace=write,pwrite64,ftruncate,fdatasync,fsync,unlink,rename,linkat"
    done = subprocess.run(
        [
            *("strace", "-ttt", "-xx", "-y", "-s", "10000000", "-o", str(trace), "-e", calls),
            *(sys.executable, str(program), str(folder), durability, sync, str(tasks), str(pause), str(idle)),
        ],
        env=ENV,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if "ptrace" in done.stderr and "not permitted" in done.stderr.lower():
        missing("ptrace")
    assert done.returncode == 0, done.stderr
    recorded = list(_parse(trace.read_text(), folder))
    connection = sqlite3.connect(folder / "state.db")
    events = connection.execute("SELECT * FROM liteflow_events ORDER BY seq").fetchall()
    rows = connection.execute(
        "SELECT task_id, j.value FROM liteflow_task_instances, json_each(dependencies) j"
    ).fetchall()
    connection.close()
    upstream: dict[str, set[str]] = {}
    for below, above in rows:
        upstream.setdefault(below, set()).add(above)
    assert sum(call.kind == "ack" for call in recorded) == tasks + bool(idle) + 1
    return Trace(recorded, events, upstream, float(done.stdout))


def _parse(text: str, folder: Path) -> Iterator[Call]:
    size: dict[str, int] = {}  # of nameless files
    for line in text.splitlines():
        result = _CALL.match(line)
        if result is None or int(result[4]) < 0:
            continue
        at, name, arguments = float(result[1]), result[2], result[3]
        strings = [_bytes(entry) for entry in _STRING.findall(arguments)]
        if name in ("unlink", "rename"):
            file = os.path.basename(strings[0].decode())
            assert name == "unlink" or file not in _FILES, f"not modelled: {line[:200]}"
            if file in _FILES:
                yield Call(at, "unlink", file)
            continue
        described = _FD.match(arguments)
        path = Path(_bytes(described[1]).decode()) if described is not None else Path()
        file = path.name
        if path.parent != folder or not (file in (*_FILES, "ack") or file.startswith(_NAMELESS)):
            continue
        if name == "linkat":
            yield Call(at, "link", file, os.path.basename(strings[1]))
        elif name == "write" and file == "ack":
            yield Call(at, "ack", file, strings[0].strip())
        elif name == "write":
            assert file.startswith(_NAMELESS), f"not modelled: {line[:200]}"
            yield Call(at, "write", file, strings[0], size.get(file, 0))
            size[file] = size.get(file, 0) + len(strings[0])
        elif name == "pwrite64":
            yield Call(at, "write", file, strings[0], int(arguments.rpartition(", ")[2]))
            assert len(strings[0]) == int(result[4]), "a short write, which is not modelled"
        elif name == "ftruncate":
            yield Call(at, "truncate", file, b"", int(arguments.rpartition(", ")[2]))
        else:
            yield Call(at, "sync", file)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


class Disk:
    """Files as a disk has them: what was synced, and the writes that were not."""

    def __init__(self) -> None:
        self.synced: dict[str, bytes] = {}
        self.pending: dict[str, list[Call]] = {}

    def do(self, call: Call) -> None:
        if call.kind == "unlink":
            self.synced.pop(call.file, None)
            self.pending.pop(call.file, None)
            return
        if call.kind == "link":
            name = call.data.decode()
            self.synced[name], self.pending[name] = self.synced.pop(call.file), self.pending.pop(call.file)
            return
        self.synced.setdefault(call.file, b"")
        pending = self.pending.setdefault(call.file, [])
        if call.kind == "sync":
            self.synced[call.file] = _apply(self.synced[call.file], pending)
            pending.clear()
        else:
            pending.append(call)

    def image(self, chance: random.Random) -> dict[str, bytes]:
        """The files after a power cut now, drawn by chance."""
        return {
            name: _apply(content, list(_survivors(self.pending[name], chance))) for name, content in self.synced.items()
        }


def _survivors(pending: list[Call], chance: random.Random) -> Iterator[Call]:
    """Which unsynced writes of a file are on the disk."""
    kind = chance.choice(KINDS)
    if kind == "none":
        return
    if kind == "all":
        yield from pending
        return
    if kind == "prefix":
        yield from pending[: chance.randint(0, len(pending))]
        return
    share = chance.random()
    for call in pending:
        if chance.random() >= share:
            continue
        if kind == "torn" and call.kind == "write" and chance.random() < 0.5:
            for start in range(0, len(call.data), _SECTOR):
                if chance.random() < 0.5:
                    piece = call.data[start : start + _SECTOR]
                    yield call._replace(data=piece, offset=call.offset + start)
        else:
            yield call


def _apply(content: bytes, calls: list[Call]) -> bytes:
    if not calls:
        return content
    file = bytearray(content)
    for call in calls:
        if call.kind == "truncate":
            del file[call.offset :]
            file.extend(bytes(max(0, call.offset - len(file))))
        else:
            file.extend(bytes(max(0, call.offset - len(file))))
            file[call.offset : call.offset + len(call.data)] = call.data
    return bytes(file)


class Verdict(NamedTuple):
    """What one crash image turned out to be."""

    corrupt: str  # why, or ""
    disorder: str
    lost: int  # acknowledged successes that are not there
    lost_for_s: float  # how long before the cut the oldest of them had been acknowledged


def crashes(trace: Trace, count: int, chance: random.Random, folder: Path) -> Iterator[tuple[int, Verdict]]:
    """`count` power cuts, half between any two calls, half at any time, each with the number of the call before it."""
    times = [call.at for call in trace.calls]
    points = [chance.randrange(len(times)) for _ in range(count - count // 2)]
    points += [bisect.bisect(times, chance.uniform(times[0], times[-1])) - 1 for _ in range(count // 2)]
    points.sort()
    disk, done, acknowledged = Disk(), 0, list[tuple[float, str]]()
    for point in points:
        while done <= point:
            call = trace.calls[done]
            if call.kind != "ack":
                disk.do(call)
            elif call.data != END:
                acknowledged.append((call.at, call.data.decode()))
            done += 1
        # The power may fail at any moment before the next call: the last one is the worst.
        now = trace.calls[done].at if done < len(trace.calls) else trace.calls[-1].at
        write_image(disk.image(chance), folder)
        yield point, _judge(trace, folder, acknowledged, now)


def write_image(image: dict[str, bytes], folder: Path) -> None:
    for name in ("state.db", "state.db-wal", "state.db-journal", "state.db-shm"):
        (folder / name).unlink(missing_ok=True)
    for name, content in image.items():
        (folder / name).write_bytes(content)


def _judge(trace: Trace, folder: Path, acknowledged: list[tuple[float, str]], now: float) -> Verdict:
    try:
        events = _read(folder / "state.db")
    except (sqlite3.Error, UnicodeDecodeError, AssertionError) as error:
        return Verdict(f"{type(error).__name__}: {error}", "", 0, 0.0)
    disorder = ""
    if events != trace.events[: len(events)]:
        disorder = f"{len(events)} events are no prefix of what happened"
    succeeded = set[str]()
    for event in events:
        task, status = str(event[2]), event[6]
        if status == "SUCCESS" and event[2] is not None:
            if not trace.upstream.get(task, set()) <= succeeded:
                disorder = f"{task} succeeded before what it waits for"
            succeeded.add(task)
    lost = [at for at, task in acknowledged if task not in succeeded]
    return Verdict("", disorder, len(lost), now - min(lost) if lost else 0.0)


def _read(path: Path) -> list[tuple[object, ...]]:
    """All events of a state file, if it is whole; the tables must be there in full or not at all."""
    if not path.exists():
        return []
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        (message,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        assert message == "ok", message
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'liteflow%'").fetchone()
        assert (version > 0) == (tables > 0), f"version {version} with {tables} tables"
        if not tables:
            return []
        wrong = connection.execute(
            "SELECT count(*) FROM liteflow_task_instances i JOIN liteflow_attempts a "
            "USING (run_id, task_id, map_index) WHERE (i.status='SUCCESS') <> (a.status='SUCCESS')"
        ).fetchone()[0]
        assert not wrong, f"{wrong} tasks whose state is not that of their attempt"
        return connection.execute("SELECT * FROM liteflow_events ORDER BY seq").fetchall()
    finally:
        connection.close()
