"""Measure what a command costs to start: `python -m bench.cold_start [--rounds N] [--only WORD]`.

Compile the bytecode of the packages and of what they import, run each command once to warm the file cache, then all of
them in turn, and print the least processor time of each (with all its child processes), and that above a bare
interpreter. The least and not the median: other programs can only add to the time.
"""

from __future__ import annotations

import argparse
import compileall
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

from bench.measure import ROOT, NotRun, adopt_orphans, run

#: The goal for `lightflow run`: milliseconds of processor time above the bare interpreter.
GOAL_MS: Final = 100
_WORKFLOW: Final = "workflow_name: small\ntasks:\n  hello:\n    run: echo hello\n"
_BARE: Final = "python -c pass"


def _commands() -> dict[str, tuple[str, ...]]:
    """Return the arguments of the interpreter for each command, by what is printed of the command."""
    lines = ["run small.yaml", "run small.yaml --quiet", "status", "validate small.yaml"]
    lines += ["--help", "run --help", "--version"]
    return {_BARE: ("-c", "pass"), **{f"lightflow {line}": ("-m", "lightflow", *line.split()) for line in lines}}


def _prepare(folder: Path) -> None:
    (folder / "small.yaml").write_text(_WORKFLOW, encoding="utf-8")


def _prepare_run(folder: Path) -> None:
    """Make a folder that has a run."""
    _prepare(folder)
    command = (sys.executable, "-m", "lightflow", "run", "small.yaml", "--quiet")
    subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)


def main() -> int:
    """Print the table. Return 1 if `lightflow run small.yaml` misses its goal."""
    parser = argparse.ArgumentParser(prog="python -m bench.cold_start", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="runs of each command (20)")
    parser.add_argument("--only", default="", metavar="WORD", help="only the commands that contain this word")
    options = parser.parse_args()
    for folder in (ROOT / "liteflow", ROOT / "lightflow", Path(sysconfig.get_paths()["purelib"])):
        compileall.compile_dir(folder, quiet=2)
    adopt_orphans()
    commands = {name: line for name, line in _commands().items() if name == _BARE or options.only in name}
    least = dict.fromkeys(commands, float("inf"))
    for number in range(options.rounds + 1):
        for name, line in commands.items():
            try:
                prepare = _prepare_run if name.endswith(" status") else _prepare
                cpu = run((sys.executable, *line), prepare).cpu * 1000
            except NotRun as error:
                print(f"{name}: {error}", file=sys.stderr)
                return 2
            if number:  # the first round warms the file cache
                least[name] = min(least[name], cpu)
    print(f"{'command':32}{'CPU, ms':>9}{'above':>8}   (least of {options.rounds})")
    for name, cpu in least.items():
        print(f"{name:32}{cpu:>9.1f}{cpu - least[_BARE]:>8.1f}")
    above = least.get("lightflow run small.yaml", 0.0) - least[_BARE]
    return int(above > GOAL_MS)


if __name__ == "__main__":
    sys.exit(main())
