"""Run the crash suites and print their figures as a table; with --write also write it to the documentation.

    python tools/crash_table.py
    python tools/crash_table.py --scale 10 --seed 11
    python tools/crash_table.py --from figures.txt --write

The table goes between `<!-- crash:start -->` and `<!-- crash:end -->` of docs/explanation/reliability/figures.md.
The exit code is that of the suites.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from liteflow.version import __version__

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = (ROOT / "docs" / "explanation" / "reliability" / "figures.md",)
START, END = "<!-- crash:start -->", "<!-- crash:end -->"

#: The claim of each figure, in words.
CLAIMS: Final = {
    "R1": "`kill -9` at random moments, in hooks and retry waits too: nothing completed is lost or repeated, no order "
    "broken, no file damaged",
    "R1b": "the same with worker processes and through the installed command, with shell tasks",
    "R2": "`kill -9` at every system call that writes, syncs, renames or deletes",
    "R3": "nothing is left running after cancellations, timeouts and `kill -9`, however a task hides",
    "moments": "`kill -9` in a hook, a precondition, a teardown, a back-off, a secret's command: no process survives, "
    "and `resume` runs each triggered hook once",
    "R4": "simulated power cuts: no damage, no disorder; `durability=power` loses nothing, the default about a second",
    "R4-idle": "power cuts while a run waits: commits older than a second are on the disk",
    "R4-resume": "runs resume after a power cut",
    "R5": "system calls that fail, once or from then on: nothing false is recorded, and the run can be resumed",
    "R6": "damaged state files: no traceback, no crash, reading changes no byte",
    "R4-end": "power cuts after the end of a run: nothing is lost",
    "R6-history": "the same for every method that reads",
    "R7": "hostile workflow files: a workflow or located errors; never a crash, more than 1 s or 256 MiB",
    "R10": "racing orchestrators: exactly one owner",
    "R11": "how long after a `kill -9` the next owner has its first task running",
    "R13": "a gigabyte of output: flat memory, a bounded log, an undelayed neighbour task",
    "R13-python": "the same from a Python task",
    "R13-odd": "odd outputs (binary, no line end, held open, closed): none hangs",
    "R16": "10,000 tasks: files, processes and memory return to their initial numbers",
    "R17": "runs share pools and groups while their owners are killed and resumed",
    "R18": "children that tasks fork, in every mode: none hangs, signals end them as in a script",
    "R22": "schedules of one second while server and starter are killed: one run for each instant, none lost",
    "R22-servers": "the same with several servers on one state file, which are also stopped and continued",
    "R22-clock": "the clock is set forward and back by one second to ten years, and the server is stopped across "
    "instants: no instant runs twice, and schedules go on",
    "R23": "files of a served folder are broken, cut, swapped and removed: schedules of the others lose no instant",
    "R22-zones": "the instants of cron expressions around changes of the clock agree with an oracle, in all zones",
    "R22-control": "the same without the check in the transaction that creates a run: instants run twice",
    "R19": "a prune is killed at changes of the disk, and repeated: no row without its file, nothing left of a run",
    "R20": "a retry, a clear, a mark and a fork are killed at changes of the disk: the whole set or nothing",
    "R21-docker": "`kill -9` of the orchestrator, the client of docker, the guardian, or orchestrator and guardian: no "
    "container of ours is left, and no secret in memory",
    "R21-podman": "the same with podman",
    "R24": "`kill -9` of the orchestrator, the workers, the guardian, or orchestrator and guardian: no statement and "
    "no connection is left on PostgreSQL and MariaDB; in the last case from the next resume on",
    "R24-dask": "the same where a worker of Dask executes the statements, and the parts of its agent are killed",
    "R25": "the same for requests and invocations: no connection is left, and none is sent more often than there are "
    "attempts",
    "R25-messages": "the same for mails and messages: a resume after every kill ends the run, and all mails of a task "
    "have the same id",
    "R25-notice": "the same for the message of a hook of the run: the server acknowledges one",
    "R20-guardian": "the guardian of a retry in worker processes is killed: the retry is whole, or not begun",
    "R26": "`kill -9` of parent, child run, guardian, or parent and guardian: no child run is left or runs twice",
    "R27": "waits, approvals and repetitions are killed at changes of the disk: no wait and no decision is lost",
    "R28": "tasks on machines that are reached by ssh, while each part of the cluster, or the orchestrator, is killed "
    "or stopped: nothing lives on, and lost tasks run again",
    "R29": "the same on the workers of a Dask cluster",
    "R29-plain-dask": "tasks of plain Dask, two seconds after the same faults: how many processes there were, are left "
    "and are new",
    "R30": "`kill -9` of the orchestrator, the workers, the guardian, or orchestrator and guardian, while uv builds an "
    "environment or programs run in it: a resume leaves no process, no half environment, and no two attempts at a time",
    "R31": "the links of workers of Dask are cut: the lease ends what runs there, and a cut of a third ends nothing",
    "R31-ssh": "the same with hosts of ssh, whose tasks run again on the other host; then that host is gone",
    "R32": "everything is killed and stopped at random while workflows run on both clusters and here: no success runs "
    "again, no attempts overlap, nothing is left, and each run succeeds",
    "R33": "a secret of a task is sought in the memory of the scheduler, the nannies and the workers of Dask; "
    "with ssh, in that of the placer, the keeper, the client and both servers, while tasks run and after them",
    "R34": "many tasks on a Dask cluster: tasks of Dask at a time, and those that are left when the run is idle",
    "R35-docker-ssh": "`kill -9` of the orchestrator, or of the worker, guardian, agent, keeper, agent and guardian, "
    "or all of a machine of a cluster: no container of ours is left there",
    "R35-podman-ssh": "the same with podman",
    "R35-docker-dask": "the same on a worker of Dask",
    "R35-cut-docker-ssh": "the link of a host of ssh is cut while its container runs: the lease ends it",
    "R35-cut-docker-dask": "the same on a worker of Dask",
    "R35-cut-podman-dask": "the same with podman",
    "resources": "full disks, limits of files and processes, locked, deleted and replaced state files: nothing false",
    "names": "hostile names: no path leaves its folder",
    "shell-values": "hostile values in the environment of commands: byte for byte, none executed",
    "planted": "hostile contents in valid state files: nothing executed, unpickled or hung",
    "checkpoints": "checkpoint files that are bombs: one error line each",
    "modes": "files of a run, with a umask of 000: only the owner can read them",
    "signals": "SIGINT, SIGTERM, SIGHUP once and twice, a closed terminal: the run is interrupted and nothing survives",
    "soak": "many runs, a host program, a reader and a janitor on one state file while everything is killed "
    "(see soak.md): no false state, no repetition, no leftover process, no hang",
    "terminal": "escape sequences in output: printed as text",
}
#: What takes longer hangs, also on a machine that does much else.
_HANG_S: Final = 900
_LARGEST: Final = re.compile(r"_max|worst|growth|max_|p99|p50|latency|_s$|_ms$|per_s$|rss|slope", re.IGNORECASE)


class Row(NamedTuple):
    """A figure: its counts, and its duration."""

    name: str
    counts: dict[str, str]
    seconds: float


def parse(lines: Iterable[str]) -> list[Row]:
    """Parse lines such as `R4 states=5000 corrupt=0 seed=7 11s`; lines with the same name become one row."""
    rows: dict[str, Row] = {}
    for line in lines:
        name, *parts = line.split()
        row = rows.setdefault(name, Row(name, {}, 0.0))
        seconds = row.seconds
        for part in parts:
            key, equals, value = part.partition("=")
            if equals:
                row.counts[key] = _together(key, row.counts.get(key), value)
            elif re.fullmatch(r"[0-9.]+s", part):
                seconds += float(part[:-1])
        rows[name] = row._replace(seconds=seconds)
    return list(rows.values())


def _together(key: str, before: str | None, value: str) -> str:
    if before is None or key == "seed":
        return value
    try:
        if _LARGEST.search(key):
            return max(before, value, key=float)
        total = float(before) + float(value)
        return f"{total:g}" if total < 1e6 else f"{total:.0f}"
    except ValueError:
        parts = dict.fromkeys([*before.split(","), *value.split(",")])
        return ",".join(parts) if len(parts) <= 4 else f"{len(before.split(','))} and more"


def table(rows: list[Row], command: str) -> str:
    """Return the figures as Markdown: first the proofs, then the controls, in which a defence is removed."""
    proofs = [row for row in rows if "-control" not in row.name]
    controls = [row for row in rows if "-control" in row.name]
    order = {name: number for number, name in enumerate(CLAIMS)}
    proofs.sort(key=lambda row: (order.get(row.name, len(order)), row.name))
    lines = ["| Figure | What it shows | Counts | Time |", "| --- | --- | --- | --- |"]
    lines += [f"| {row.name} | {CLAIMS.get(row.name, '')} | {_counts(row)} | {row.seconds:.0f} s |" for row in proofs]
    if controls:
        said = "; ".join(f"{row.name.removesuffix('-control')}: {_counts(row)}" for row in sorted(controls))
        lines += ["", f"The controls, in which a defence is removed, fail as they must: {said}."]
    kernel = platform.release().partition("-")[0]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines += [
        "",
        f"Measured on {today} with Lightflow {__version__}, Python {platform.python_version()}, SQLite "
        f"{sqlite3.sqlite_version}, Linux {kernel}, {os.cpu_count()} cores, by `{command}`.",
    ]
    return "\n".join(lines)


def _counts(row: Row) -> str:
    left_out = ("seed", "case", "calls", "code")
    return ", ".join(
        f"{key.replace('_', ' ')} {_number(value)}" for key, value in row.counts.items() if key not in left_out
    )


def _number(value: str) -> str:
    return f"{int(value):,}" if value.isdigit() else value


def write(text: str, pages: Iterable[Path] = PAGES) -> list[Path]:
    """Write the table between the markers of the pages, and return the pages that changed."""
    changed = []
    for page in pages:
        if not page.exists():
            continue
        old = page.read_text(encoding="utf-8")
        before, start, rest = old.partition(START)
        _, end, after = rest.partition(END)
        if not start or not end:
            continue
        new = f"{before}{START}\n{text}\n{END}{after}"
        if new != old:
            page.write_text(new, encoding="utf-8")
            changed.append(page)
    return changed


def run(scale: float, seed: int, workers: int, figures: Path) -> int:
    """Run the suites, which write their lines to a file."""
    environ = {**os.environ, "LIGHTFLOW_FIGURES": str(figures)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/crash"]
    command += ["--crash-scale", f"{scale:g}", "--crash-seed", str(seed), "-n", str(workers), "--dist", "worksteal"]
    command += ["--timeout", f"{max(_HANG_S, round(_HANG_S * scale))}"]
    return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="how much larger than the quick form")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("-n", "--workers", type=int, default=2, help="processes that test at a time")
    parser.add_argument("--from", dest="source", type=Path, help="make the table from lines that were collected before")
    parser.add_argument("--write", action="store_true", help="put the table into the documentation")
    options = parser.parse_args()
    code = 0
    if options.source is not None:
        lines = options.source.read_text(encoding="utf-8").splitlines()
    else:
        with tempfile.TemporaryDirectory(prefix="lightflow-figures-") as folder:
            figures = Path(folder) / "figures.txt"
            code = run(options.scale, options.seed, options.workers, figures)
            lines = figures.read_text(encoding="utf-8").splitlines() if figures.exists() else []
    size = "" if options.scale == 1 else f" --scale {options.scale:g}"
    text = table(parse(line for line in lines if line.strip()), f"python tools/crash_table.py{size}")
    print(text)
    if code:
        print("\nsome of the suites failed: nothing was written", file=sys.stderr)
    elif options.write:
        for page in write(text):
            print(f"wrote {page.relative_to(ROOT)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
