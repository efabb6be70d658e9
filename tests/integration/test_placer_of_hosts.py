"""The placer of named hosts: which host gets how many slots, with programs in place of agents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from liteflow.remote.ticket import Ticket, ticket_line

LIMIT_S = 60.0
#: Writes each line that it reads to a file.
LISTENS = 'while read -r line; do printf "%s\\n" "$line" >> "$0"; done'
#: Says that it cannot work, once somebody has written into a pipe.
FAILS = """read -r ticket; read -r word < "$0"; echo '{"failed": "it cannot work"}'; exit 3"""


class Placer:
    """A placer that runs, with three hosts: two whose agents write down what they read, and one whose agent fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.mkfifo(folder / "pipe")
        self._pipe = os.open(folder / "pipe", os.O_RDWR)  # so that no opening of it blocks
        programs = {"first": LISTENS, "second": LISTENS, "third": FAILS}
        hosts = [
            {"name": name, "slots": 2, "argv": ["sh", "-c", text, str(folder / ("pipe" if text is FAILS else name))]}
            for name, text in programs.items()
        ]
        command = [sys.executable, "-m", "liteflow.remote.hosts", json.dumps(hosts)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._write(ticket_line(Ticket(address="127.0.0.1", port=1, key="00", lease_s=15.0)))

    def _write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)

    def want(self, count: int, busy: dict[str, int]) -> None:
        self._write(json.dumps({"want": count, "busy": busy}).encode() + b"\n")

    def let_third_fail(self) -> None:
        """Let the agent of the third host fail, and wait until the placer says so."""
        os.write(self._pipe, b"now\n")
        assert self.process.stdout is not None
        assert json.loads(self.process.stdout.readline())["host"] == "third"

    def lines(self, name: str, least: int) -> list[dict[str, Any]]:
        """Return what an agent has read, once these are so many lines; the first is its ticket."""
        path, give_up = self.folder / name, time.monotonic() + LIMIT_S
        while not path.exists() or path.read_text().count("\n") < least:
            assert time.monotonic() < give_up, f"{name} has not read {least} lines"
            time.sleep(0.01)
        return [json.loads(line) for line in path.read_text().splitlines()]

    def close(self) -> None:
        """Let the placer end its agents, which have read all that it has written then."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(LIMIT_S)
        self.process.stdout.close()
        os.close(self._pipe)


@pytest.fixture
def placer(tmp_path: Path) -> Iterator[Placer]:
    placer = Placer(tmp_path)
    yield placer
    if placer.process.poll() is None:
        placer.close()


def test_a_host_that_fails_takes_no_slot_that_an_attempt_uses(placer: Placer) -> None:
    placer.want(6, {})
    [ticket] = placer.lines("second", 1)
    assert ticket["slots"] == 2
    placer.want(2, {ticket["agent"]: 2})
    assert placer.lines("first", 2)[1] == {"leaving": True}
    placer.let_third_fail()
    placer.close()
    assert placer.lines("second", 1) == [ticket], "its two slots are in use, and all that are wanted"
