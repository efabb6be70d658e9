"""Harness of the soak: many runs share one state file for a long time, while everything is killed.

    python tests/crash/soak.py FOLDER --minutes 20 --loops 8 --seed 7

Each loop starts `lightflow run` again and again, strikes it (`kill -9` of the run or of its guardian, SIGINT once or
twice, SIGTERM, `lightflow cancel`), and resumes it until it is SUCCESS. A host program runs dags in threads, a reader
looks, a janitor deletes. The oracle is outside the engine: what the tasks wrote into a file of their own, the process
table, and the state file read by plain SQL. The last line of output is a report as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from crashkit import Faults, add_up, as_harness, become_subreaper, fork, lines, reap, report, row_of, wait_for
from soak_flows import FLOWS, write_flows

#: What must not happen, by kind.
FAULTS = {
    "false": "recorded as SUCCESS, and had not ended",
    "rerun": "begun again after its SUCCESS was recorded",
    "left": "processes of tasks that were alive too long after the command had ended, or was killed",
    "hung": "commands that did not end",
    "traceback": "tracebacks, and exit codes 70",
    "unfinished": "runs that could not be brought to SUCCESS",
    "unheard": "hooks of tasks that succeeded, and were not run",
    "look": "looks that failed",
    "delete": "deletions that failed",
    "host": "runs of the host program that went wrong, and what is left of its processes and descriptors",
    "file": "damage that integrity_check finds, and files that are left",
}
#: Blows, and how often each is dealt.
BLOWS = {"none": 2, "kill": 4, "kill_guardian": 2, "int": 2, "int_twice": 2, "term": 2, "cancel": 2}
_TRIES = 30
_PATIENCE_S = 90.0


def ours(run_id: str) -> list[int]:
    """The living processes that a run has started, wherever they hang: by a variable that each inherits."""
    mark, result = f"SOAK_RUN={run_id}\0".encode(), []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb", buffering=0) as file:
                if mark in file.read(65536) + b"\0":
                    result.append(int(name))
    return result


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]
    return []


class Place:
    """The folder of a soak: its state file, workflows, evidence and reports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.db = str(folder / "soak.db")
        self.finished = str(folder / "finished")
        for name in ("evidence", "printed", "reports"):
            (folder / name).mkdir(exist_ok=True)

    def lightflow(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "lightflow", *arguments, "--db", self.db]

    def environ(self, run_id: str = "") -> dict[str, str]:
        preserved = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTFLOW_")}
        extra = {"SOAK_RUN": run_id, "EVIDENCE": str(self.folder / "evidence" / run_id)} if run_id else {}
        return {**preserved, **extra, "NO_COLOR": "1"}

    def report(self, name: str, faults: Faults, **figures: object) -> None:
        text = json.dumps({**figures, **{kind: faults.counts[kind] for kind in FAULTS}, "notes": faults.notes})
        (self.folder / "reports" / name).write_text(text)


class Life:
    """One run from its start to its SUCCESS, with all blows between."""

    def __init__(
        self, place: Place, run_id: str, kind: str, picks: random.Random, faults: Faults, left_s: float
    ) -> None:
        self._place, self._run_id, self._kind, self._picks, self._faults = place, run_id, kind, picks, faults
        self._left_s = left_s
        self._evidence = str(place.folder / "evidence" / run_id)
        self._printed = place.folder / "printed" / run_id
        self._recorded: dict[str, int] = {}  # instances whose SUCCESS was recorded: how often they had begun by then
        self.figures: Counter[str] = Counter()
        self.worst_left_s = 0.0

    def live(self) -> None:
        """Run it, and resume it until it is SUCCESS."""
        logs = str(self._place.folder / "logs")
        extra = ["--quiet", "--max-workers", "3", "--log-dir", logs]
        flow = str(self._place.folder / f"{self._kind}.yaml")
        command = self._place.lightflow("run", flow, "--run-id", self._run_id, *extra)
        for number in range(_TRIES):
            self._attempt(command, blow=number < _TRIES - 5)
            self.figures["resumes" if number else "runs"] += 1
            status = self._check()
            if status == "SUCCESS":
                self._check_hooks()
                self.figures["succeeded"] += 1
                break
            if status:  # else the run was killed before it was stored: it is started again
                command = self._place.lightflow("resume", self._run_id, *extra)
        else:
            self._fault("unfinished", f"{status}: {self._printed.read_text()[-500:]}")
        self._printed.unlink(missing_ok=True)

    def _fault(self, kind: str, note: str) -> None:
        self._faults.fault(kind, f"{self._kind} {self._run_id}: {note}")

    def _attempt(self, command: Sequence[str], *, blow: bool) -> None:
        """One process of the run, struck or not; then nothing of it may be alive."""
        with open(self._printed, "w") as printed:
            process = subprocess.Popen(
                command,
                cwd=self._place.folder,
                env=self._place.environ(self._run_id),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                start_new_session=True,
            )
            if blow:
                self._strike(process)
            try:
                code = process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._fault("hung", " ".join(command[2:5]))
                process.kill()
                code = process.wait()
        self._await_silence()
        message = self._printed.read_text(errors="replace")
        if "Traceback" in message or code == 70:
            self._fault("traceback", message[-1500:])

    def _strike(self, process: subprocess.Popen[Any]) -> None:
        blow = self._picks.choices(list(BLOWS), list(BLOWS.values()))[0]
        delay = self._picks.uniform(0.1, 1.5)
        if blow == "none":
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
            return  # it was over before
        if blow in ("int", "int_twice", "term") and not self._await_handlers(process):
            return
        if Path(self._evidence).exists():
            self.figures["blows_at_work"] += 1
        self.figures[blow] += 1
        match blow:
            case "kill":
                process.kill()
            case "kill_guardian":
                for pid in children_of(process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            case "int" | "int_twice" | "term":
                number = signal.SIGTERM if blow == "term" else signal.SIGINT
                process.send_signal(number)
                if blow == "int_twice":
                    time.sleep(self._picks.uniform(0.02, 0.3))
                    process.send_signal(number)
            case "cancel":
                done = subprocess.run(
                    self._place.lightflow("cancel", self._run_id),
                    env=self._place.environ(),
                    capture_output=True,
                    text=True,
                    timeout=_PATIENCE_S,
                    check=False,
                )
                if "Traceback" in done.stderr or done.returncode == 70:
                    self._fault("traceback", done.stderr[-1500:])

    @staticmethod
    def _await_handlers(process: subprocess.Popen[Any]) -> bool:
        """Wait until the program handles signals: before that it is Python's start that is interrupted, not ours."""
        while process.poll() is None:
            with contextlib.suppress(OSError, ValueError), open(f"/proc/{process.pid}/status") as file:
                caught = next((line.split()[1] for line in file if line.startswith("SigCgt:")), "0")
                if int(caught, 16) & 1 << (signal.SIGTERM - 1):
                    return True
            time.sleep(0.01)
        return False

    def _await_silence(self) -> None:
        began = time.monotonic()
        while left := ours(self._run_id):
            if time.monotonic() - began > self._left_s:
                names = [row.name for pid in left if (row := row_of(pid)) is not None]
                if names:
                    self._fault("left", f"{names} after {self._left_s} s")
                for pid in ours(self._run_id):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.02)
        self.worst_left_s = max(self.worst_left_s, time.monotonic() - began)
        reap()

    def _check(self) -> str:
        """Compare what is recorded with what was done. Returns the stored state of the run; empty: there is none."""
        begun, ended = Counter[str](), set[tuple[str, str]]()
        for line in lines(self._evidence):
            word, name, *attempt = line.split()
            if word == "begun":
                begun[name] += 1
            elif word == "ended":
                ended.add((name, attempt[0]))
        for name, count in self._recorded.items():
            if begun[name] > count:
                self._fault("rerun", name)
        connection = sqlite3.connect(f"file:{self._place.db}?mode=ro", uri=True, timeout=60)
        try:
            row = connection.execute("SELECT status FROM liteflow_dag_runs WHERE run_id=?", (self._run_id,)).fetchone()
            successes = connection.execute(
                "SELECT task_id, map_index, attempt FROM liteflow_attempts "
                "WHERE run_id=? AND status='SUCCESS' AND NOT repeats",
                (self._run_id,),
            ).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error) and "unable to open" not in str(error):
                raise
            return ""  # the very first run was killed before it had made the tables
        finally:
            connection.close()
        self._recorded = {}
        for task_id, index, attempt in successes:
            name = task_id if index < 0 else f"{task_id}[{index}]"
            if (name, str(attempt)) not in ended:
                self._fault("false", f"{name}, attempt {attempt}")
            self._recorded[name] = begun[name]
        return row[0] if row else ""

    def _check_hooks(self) -> None:
        if self._kind == "hooks":
            reported = Counter(lines(self._evidence))
            for wanted in ("hook one", "exit one", "hook two", "exit two"):
                if not reported[wanted]:
                    self._fault("unheard", wanted)


def drive(place: Place, number: int, seed: int, until: float, left_s: float) -> None:
    """A loop: one run after the other, each to its SUCCESS."""
    become_subreaper()
    picks, faults, figures, count, worst = random.Random(seed * 1000 + number), Faults(), Counter[str](), 0, 0.0
    while time.monotonic() < until:
        kind = picks.choice(list(FLOWS))
        life = Life(place, f"s{number}-{count}", kind, picks, faults, left_s)
        life.live()
        with open(place.finished, "a") as file:
            file.write(f"s{number}-{count}\n")
        figures.update(life.figures)
        count, worst = count + 1, max(worst, life.worst_left_s)
    place.report(f"loop{number}", faults, **figures, worst_left_s=round(worst, 3))


def look(place: Place, seed: int, until: float) -> None:
    """The reader: it looks at whatever is there."""
    picks, faults, looks, largest = random.Random(seed), Faults(), 0, 0
    while time.monotonic() < until:
        words = picks.choice(
            [["status"], ["status", "--json"], ["runs"], ["list"], ["why", "a"], ["logs", "after"], ["outputs", "each"]]
        )
        done = subprocess.run(
            place.lightflow(*words), cwd=place.folder, env=place.environ(), capture_output=True, text=True, check=False
        )
        looks += 1
        missing = any(words in done.stderr for words in ("there is no", "no run", "no such", "has no task"))
        if "Traceback" in done.stderr or not (done.returncode == 0 or (done.returncode in (2, 3) and missing)):
            faults.fault("look", f"{' '.join(words)}: {done.returncode} {done.stderr[-500:]}")
        with contextlib.suppress(OSError):
            largest = max(largest, os.path.getsize(f"{place.db}-wal"))
        time.sleep(picks.uniform(0.05, 0.4))
    place.report("reader", faults, looks=looks, worst_log_bytes=largest)


def tidy(place: Place, seed: int, until: float) -> None:
    """The janitor: it deletes half of the runs that are SUCCESS."""
    from liteflow import DagRun, LiteflowError

    picks, faults, deletions, seen = random.Random(seed), Faults(), 0, 0
    while time.monotonic() < until:
        ready = lines(place.finished)
        for run_id in ready[seen:]:
            if picks.random() < 0.5:
                try:
                    DagRun.load(place.db, run_id).delete()
                    deletions += 1
                except LiteflowError as error:
                    faults.fault("delete", f"{run_id}: {error}")
            with contextlib.suppress(OSError):
                os.unlink(place.folder / "evidence" / run_id)
        seen = len(ready)
        time.sleep(0.2)
    place.report("janitor", faults, deletions=deletions)


def judge(place: Place, host: dict[str, Any], before: set[str]) -> Iterator[tuple[str, str]]:
    """What is wrong when all is over."""
    for note in host["host_notes"]:
        yield "host", note
    for name, most in (("host_descriptors", 12), ("host_children", 0)):
        if host[name] > most:
            yield "host", f"{name} is {host[name]}"
    if host["host_memory_kib"] > host["host_memory_before_kib"] + 64 * 1024:
        yield "host", f"memory grew to {host['host_memory_kib']} KiB"
    connection = sqlite3.connect(place.db)
    try:
        for (word,) in connection.execute("PRAGMA integrity_check(5)"):
            if word != "ok":
                yield "file", word
    finally:
        connection.close()
    for path in place.folder.iterdir():
        if path.name.startswith("soak.db_out-") or path.name not in before | _EXPECTED:
            yield "file", f"{path.name} is left"
    for path in (place.folder / "logs").glob("**/*"):
        if path.is_file() and not path.name.endswith(".log"):
            yield "file", f"logs/{path.name} is left"


_EXPECTED = {"soak.db", "soak.db-wal", "soak.db-shm", "soak.db.lock", "soak.db_xcom", "logs", "finished", "stop"}
_EXPECTED |= {".lightflow-checkpoints", "__pycache__", "host.txt"}


def soak(place: Place, minutes: float, loops: int, seed: int, left_s: float) -> dict[str, Any]:
    """All of it. Returns the report."""
    write_flows(place.folder)
    before = {path.name for path in place.folder.iterdir()}
    from liteflow import init_schema

    init_schema(place.db)
    began = time.monotonic()
    until = began + minutes * 60
    roles: list[Callable[[], None]] = [
        *(lambda number=number: drive(place, number, seed, until, left_s) for number in range(loops)),  # type: ignore[misc]
        lambda: look(place, seed, until),
        lambda: tidy(place, seed, until + 2),
    ]
    with open(place.folder / "host.txt", "w") as message:
        host = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("soak_host.py")), str(place.folder), str(seed)],
            env=place.environ("host"),
            cwd=place.folder,
            stdin=subprocess.DEVNULL,
            stdout=message,
            stderr=message,
        )
        pids = [fork(role) for role in roles]
        codes = [wait_for(pid, minutes * 60 + _TRIES * _PATIENCE_S) for pid in pids]
        (place.folder / "stop").touch()
        host.wait(_PATIENCE_S)
    parts = [json.loads(path.read_text()) for path in sorted((place.folder / "reports").iterdir())]
    total, faults = add_up(parts), Faults()
    last = (place.folder / "host.txt").read_text().splitlines()[-1:] or ["{}"]
    reported = json.loads(last[0]) if last[0].startswith('{"') else {}
    if not reported:
        raise SystemExit(f"the host program failed: {(place.folder / 'host.txt').read_text()[-2000:]}")
    if any(codes):
        raise SystemExit(f"a part of the soak failed: exit codes {codes}")
    for kind, note in judge(place, reported, before):
        faults.fault(kind, note)
    for kind in FAULTS:
        total[kind] += faults.counts[kind]
    total["notes"] = [*total["notes"], *faults.notes]
    return {
        **dict.fromkeys(("runs", "resumes", "succeeded", "blows_at_work", *BLOWS), 0),
        **total,
        **reported,
        "seconds": round(time.monotonic() - began),
        "size_bytes": os.path.getsize(place.db),
        "log_files": len(list((place.folder / "logs").glob("*"))),
        "kept_runs": _kept_runs(place.db),
    }


def _kept_runs(db: str) -> int:
    connection = sqlite3.connect(db)
    try:
        return int(connection.execute("SELECT count(*) FROM liteflow_dag_runs").fetchone()[0])
    finally:
        connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--loops", type=int, default=8)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--left", type=float, default=0.7, help="seconds that processes of a run may outlive its command"
    )
    options = parser.parse_args()
    with as_harness(round(options.minutes * 60 + 3600)):
        report(**soak(Place(options.folder.resolve()), options.minutes, options.loops, options.seed, options.left))


if __name__ == "__main__":
    main()
