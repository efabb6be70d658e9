"""Run contestants in turn, round by round, so that other load on the machine affects all of them."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench import measure
from bench.measure import NotRun, Sample
from bench.workloads import Entry, Workload

#: The rounds of a contestant take at most this time.
BUDGET_S: Final = 12.0
#: A contestant that takes longer is measured once, in the round that measures memory.
ONCE_S: Final = 8.0

Say = Callable[[str], None]


class Turns:
    """The samples of a workload, and the contestants that could not be measured, with the reason."""

    def __init__(self) -> None:
        self.samples: dict[str, list[Sample]] = {}
        self.failed: dict[str, str] = {}
        self.peaks: dict[str, float] = {}
        self.others = 0.0
        """The share of the processors that other programs used in the meantime."""


def quota(rounds: int, wall: float) -> int:
    """Return the number of rounds of a contestant from its time in the first round."""
    return 0 if wall > ONCE_S else max(1, min(rounds, int(BUDGET_S / max(wall, 0.001))))


def rotated(entries: list[Entry], turn: int) -> list[Entry]:
    """Return the contestants in the order of a round; each round begins with another contestant."""
    start = turn % len(entries) if entries else 0
    return entries[start:] + entries[:start]


def play(workload: Workload, entries: Sequence[Entry], rounds: int, say: Say, *, timeout_s: float = 240) -> Turns:
    """Run a first round that fills caches and measures memory, then the rounds that count."""
    turns = Turns()
    shared = Path(tempfile.mkdtemp(prefix="bench-shared-"))
    try:
        if workload.set_up:
            say(f"{workload.name}: setting up")
            try:
                workload.set_up(shared)
            except NotRun as error:
                turns.failed = {entry.name: str(error) for entry in entries}
                return turns
        left: dict[str, int] = {}
        bystanders = measure.Bystanders()
        for entry in entries:
            try:
                entry.environment.set_up()
                sample = _turn(entry, shared, timeout_s, look=True)
            except NotRun as error:
                turns.failed[entry.name] = str(error)
                say(f"{workload.name}: {entry.name}: not run: {error}")
                continue
            turns.peaks[entry.name] = sample.peak_mb or 0.0
            left[entry.name] = quota(rounds, sample.wall)
            turns.samples[entry.name] = [] if left[entry.name] else [sample]
        for turn in range(rounds):
            for entry in rotated([one for one in entries if left.get(one.name, 0) > turn], turn):
                try:
                    turns.samples[entry.name].append(_turn(entry, shared, timeout_s, look=False))
                except NotRun as error:
                    turns.failed[entry.name] = str(error)
                    left[entry.name] = 0
                    say(f"{workload.name}: {entry.name}: not run: {error}")
            say(f"{workload.name}: round {turn + 1} of {rounds}")
        turns.others = bystanders.share()
    finally:
        shutil.rmtree(shared, ignore_errors=True)
    for name in turns.failed:
        turns.samples.pop(name, None)
    return turns


def _turn(entry: Entry, shared: Path, timeout_s: float, look: bool) -> Sample:
    environ = {"BENCH_SHARED": str(shared), "PATH": f"{entry.environment.bin}:{os.environ['PATH']}"}
    return measure.run(entry.command(shared), entry.prepare, environ=environ, timeout_s=timeout_s, look=look)


def to_stderr(text: str) -> None:
    """Print the progress."""
    print(text, file=sys.stderr, flush=True)
