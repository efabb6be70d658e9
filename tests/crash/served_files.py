"""Harness of R23 and R22-clock: a server of schedules of one second, while its files or its clock change.

python tests/crash/served_files.py FOLDER --changes 60 --what files --seed 7
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

from crashkit import Faults, as_harness, end_descendants, report
from scheduled import FAULTS, FLOW, ROOT, check, connect, end_when_idle, start

STEADY, CHANGING = 6, 6
#: With a clock that is set, there are fewer: all that is less than five minutes late runs.
CLOCKS, CLOCK_EVERY = 2, "5s"
_SCAN_S = 2.5
_BROKEN = ("", "\0\0\0", "tasks: [", "workflow_name: x\ntasks: {t: {nosuch: 1}}\n", "schedule: every day\n", "- 1\n")
#: Moves the clock of a process by the seconds in a file, which may change at any time.
_MOVED_CLOCK = """\
import os, time

_time, _offset = time.time, os.open({offset!r}, os.O_RDONLY)
time.time = lambda: _time() + float(os.pread(_offset, 40, 0))
"""
_STEPS_S = (1.0, 3.0, 60.0, 600.0, 7_200.0, 86_400.0, 40 * 86_400.0, 3_650 * 86_400.0)


def change_file(folder: Path, rng: random.Random) -> None:
    """Break, cut, swap, remove, replace or restore a file that changes."""
    files = [folder / f"c{number}.yaml" for number in range(CHANGING)]
    file, other = rng.sample(files, 2)
    kind = rng.choice(["break", "cut", "swap", "remove", "link", "folder", "restore", "restore"])
    if file.is_symlink():
        file.unlink()
    elif file.is_dir():
        file.rmdir()
    if kind == "break":
        file.write_text(rng.choice(_BROKEN))
    elif kind == "cut":
        text = text_of(file)
        file.write_text(text[: rng.randrange(len(text))])
    elif kind == "swap" and file.exists() and other.is_file():
        os.rename(file, folder / "between")
        os.rename(other, file)
        os.rename(folder / "between", other)
    elif kind == "remove":
        file.unlink(missing_ok=True)
    elif kind == "link":
        file.unlink(missing_ok=True)
        file.symlink_to(rng.choice([folder / "nowhere", other, file]))
    elif kind == "folder":
        file.unlink(missing_ok=True)
        file.mkdir()
    else:
        restore(file)


def text_of(file: Path) -> str:
    return FLOW.format(name=file.stem, every="1s", end="")


def restore(file: Path) -> None:
    """Write a file as an editor does: to another name first."""
    if file.is_dir() and not file.is_symlink():
        file.rmdir()
    draft = file.with_suffix(".draft")
    draft.write_text(text_of(file))
    os.replace(draft, file)


def change_files(folder: Path, options: argparse.Namespace, server: subprocess.Popen[bytes], result: Faults) -> None:
    rng, flows = random.Random(options.seed), folder / "flows"
    for _ in range(options.changes):
        change_file(flows, rng)
        time.sleep(rng.uniform(0.0, 0.6))
    for number in range(CHANGING):
        restore(flows / f"c{number}.yaml")
    (flows / "between").unlink(missing_ok=True)
    expect_fires(folder, server, result, [f"c{number}" for number in range(CHANGING)])


def change_clock(folder: Path, options: argparse.Namespace, server: subprocess.Popen[bytes], result: Faults) -> None:
    """Set the clock forward and back, stop the server across instants, and set the clock right at the end."""
    rng = random.Random(options.seed)
    steps = [sign * step for step in _STEPS_S for sign in (1, -1)]
    for number in range(options.changes):
        if number % len(steps) == 0:
            rng.shuffle(steps)
        if number % 5 == 3:
            server.send_signal(signal.SIGSTOP)
            time.sleep(rng.uniform(0.5, 2.5))
            server.send_signal(signal.SIGCONT)
        else:
            set_clock(folder, steps[number % len(steps)])
        time.sleep(rng.uniform(0.2, 2.0))
    set_clock(folder, 0.0)
    (folder / "flows" / "new.yaml").write_text(FLOW.format(name="new", every="1s", end=""))
    expect_fires(folder, server, result, ["new", *undecided(folder, [f"w{number}" for number in range(CLOCKS)])])


def undecided(folder: Path, names: list[str]) -> list[str]:
    """Return the workflows that have no fire for the next moments: what ran too early does not run a second time."""
    now = time.time()
    with contextlib.closing(connect(folder)) as state:
        sql = "SELECT DISTINCT trigger_id FROM liteflow_fires WHERE at BETWEEN ? AND ?"
        decided = {trigger_id for (trigger_id,) in state.execute(sql, (now, now + 70))}
    return [name for name in names if f"{name}:schedule" not in decided]


def set_clock(folder: Path, offset: float) -> None:
    with open(folder / "offset", "r+") as file:
        file.write(f"{offset:<40}")


def expect_fires(folder: Path, server: subprocess.Popen[bytes], result: Faults, names: list[str]) -> None:
    """Expect that each of these workflows runs for a further instant."""
    time.sleep(_SCAN_S)
    since, give_up = time.time(), time.monotonic() + 60
    missing = set(names)
    while missing and time.monotonic() < give_up and server.poll() is None:
        time.sleep(0.2)
        missing -= {name for name, moment in runs_of(folder) if moment >= since}
    for name in sorted(missing):
        result.fault("silent", f"{name} has not run for a minute")
    if server.poll() is not None:
        result.fault("ended", f"the server has ended with exit code {server.returncode}")


def runs_of(folder: Path) -> list[tuple[str, float]]:
    """Return the workflows that have run, each with the time at which its task was at work."""
    lines = [line.split() for line in (folder / "trail").read_text().splitlines()]
    return [(line[0], float(line[3])) for line in lines if len(line) == 4]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--changes", type=int, default=60)
    parser.add_argument("--what", choices=["files", "clock"], default="files")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    began, result, folder = time.monotonic(), Faults(), Path(options.folder)
    (folder / "flows").mkdir()
    (folder / "trail").touch()
    names = [f"w{number}" for number in range(CLOCKS)]
    if options.what == "files":
        names = [f"w{number}" for number in range(STEADY)] + [f"c{number}" for number in range(CHANGING)]
    for name in names:
        text = FLOW.format(name=name, every="1s" if options.what == "files" else CLOCK_EVERY, end="")
        (folder / "flows" / f"{name}.yaml").write_text(text)
    path = str(ROOT)
    if options.what == "clock":
        (folder / "offset").write_text(f"{0.0:<40}")
        (folder / "moved").mkdir()
        (folder / "moved" / "sitecustomize.py").write_text(_MOVED_CLOCK.format(offset=str(folder / "offset")))
        path = f"{folder / 'moved'}{os.pathsep}{ROOT}"
    with as_harness(limit_s=900 + 5 * options.changes):
        try:
            server = start(folder, path)
            time.sleep(_SCAN_S)
            (change_files if options.what == "files" else change_clock)(folder, options, server, result)
            end_when_idle(folder, server)
            counts = check(folder, result, lossless=options.what == "files")
        finally:
            end_descendants()
    if "Traceback" in (folder / "server.log").read_text():
        result.fault("tracebacks", (folder / "server.log").read_text()[-2000:])
    kinds = (*FAULTS, "silent", "ended")
    report(changes=options.changes, **counts, **{kind: result.counts[kind] for kind in kinds}, notes=result.notes,
           seconds=time.monotonic() - began)  # fmt: skip


if __name__ == "__main__":
    main()
