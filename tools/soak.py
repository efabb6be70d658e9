"""Let many runs share one state file while everything is killed, and print the results as a table.

    python tools/soak.py --minutes 20
    python tools/soak.py --minutes 1 --seed 11
    python tools/soak.py --minutes 20 --write

With --write the table goes between `<!-- soak:start -->` and `<!-- soak:end -->` of
docs/explanation/reliability/soak.md. The exit code is 1 if anything happened that must not.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from liteflow.version import __version__

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "explanation" / "reliability" / "soak.md"
START, END = "<!-- soak:start -->", "<!-- soak:end -->"

#: The failures that the harness looks for, in words.
FAULTS: Final = {
    "false": "tasks recorded as `SUCCESS` that had not ended",
    "rerun": "tasks started again after their `SUCCESS` was recorded",
    "left": "processes of tasks {left:g} s after the command had ended, or was killed",
    "hung": "commands that did not end",
    "traceback": "tracebacks, exit codes 70",
    "unfinished": "runs that did not end as `SUCCESS`",
    "unheard": "hooks that were triggered and did not run",
    "look": "reads that failed",
    "delete": "deletions that failed",
    "host": "host program: failed runs, leaked processes or descriptors, memory growth",
    "file": "damage found by `integrity_check`, leftover files",
}


def run(minutes: float, loops: int, seed: int, left: float) -> dict[str, Any]:
    """Run the harness in a temporary folder.

    Raises:
        SystemExit: the harness itself failed.
    """
    with tempfile.TemporaryDirectory(prefix="lightflow-soak-", ignore_cleanup_errors=True) as folder:
        tests = ROOT / "tests" / "crash"
        command = [sys.executable, str(tests / "soak.py"), folder, "--minutes", f"{minutes:g}", "--loops", str(loops)]
        done = subprocess.run(
            [*command, "--seed", str(seed), "--left", f"{left:g}"],
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tests}", "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            print(done.stdout[-3000:], file=sys.stderr)
            raise SystemExit(f"the soak itself failed with exit code {done.returncode}")
        found = json.loads(done.stdout.splitlines()[-1])
        assert isinstance(found, dict)
        return found


def rows(found: Mapping[str, Any], left: float) -> list[tuple[str, str]]:
    """Return the figures in words, then the numbers that must be zero."""

    def number(name: str) -> str:
        return f"{found[name]:,}"

    kept = max(1, found["kept_runs"])
    size_kib = found["size_bytes"] / 1024
    struck = sum(found[name] for name in ("kill", "kill_guardian", "int", "int_twice", "term", "cancel"))
    at_work = found["blows_at_work"] / max(1, struck)
    told = [
        ("`lightflow run` / resumes", f"{number('runs')} / {number('resumes')}"),
        ("`kill -9` of the run / of its guardian", f"{number('kill')} / {number('kill_guardian')}"),
        (
            "SIGINT once / twice, SIGTERM, `cancel`",
            f"{number('int')} / {number('int_twice')}, {number('term')}, {number('cancel')}",
        ),
        ("kills and signals while tasks were running", f"{at_work:.0%}"),
        ("runs that ended as `SUCCESS`", f"{number('succeeded')} of {number('runs')}"),
        ("reads / deletions", f"{number('looks')} / {number('deletions')}"),
        ("runs of the host program (processes, threads, async; half of them with lambdas)", number("host_runs")),
        (
            "host program at the end: descriptors, children, memory",
            f"{found['host_descriptors']}, {found['host_children']}, "
            f"{found['host_memory_before_kib'] / 1024:.0f} to {found['host_memory_kib'] / 1024:.0f} MiB",
        ),
        (
            "state file / its largest write-ahead log",
            f"{size_kib / 1024:.1f} MiB for {kept:,} runs ({size_kib / kept:.1f} KiB each) / "
            f"{found['worst_log_bytes'] / 1024**2:.1f} MiB",
        ),
        ("longest time that a process outlived its command", f"{found['worst_left_s']:.2f} s"),
    ]
    return [*told, *((text.format(left=left), number(kind)) for kind, text in FAULTS.items())]


def table(found: Mapping[str, Any], left: float, command: str) -> str:
    """Return the figures as Markdown."""
    lines = ["| Figure | Value |", "| --- | --- |", *(f"| {what} | {value} |" for what, value in rows(found, left))]
    kernel = platform.release().partition("-")[0]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines += [
        "",
        f"Measured on {today} in {found['seconds']:,} s with Lightflow {__version__}, Python "
        f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}, Linux {kernel}, {os.cpu_count()} cores, by "
        f"`{command}`.",
    ]
    return "\n".join(lines)


def write(text: str) -> None:
    """Write the table to its page."""
    before, start, rest = PAGE.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise SystemExit(f"{PAGE} has no place for the table")
    PAGE.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--loops", type=int, default=8, help="how many runs go on at once")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--left", type=float, default=0.7, help="seconds that a process may outlive its command")
    parser.add_argument("--write", action="store_true", help="put the table into the documentation")
    options = parser.parse_args()
    found = run(options.minutes, options.loops, options.seed, options.left)
    command = f"make soak MINUTES={options.minutes:g}"
    text = table(found, options.left, command if options.seed == 7 else f"{command} SEED={options.seed}")
    print(text)
    if any(found[kind] for kind in FAULTS):
        print("\nviolations:", *found["notes"], sep="\n", file=sys.stderr)
        return 1
    if not found["succeeded"]:
        print("\nnot one run came to its end: give it more time", file=sys.stderr)
        return 1
    if options.write:
        write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
