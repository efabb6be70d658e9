"""The commands of the page that leads from a laptop to a cluster, with a stand-in for ssh and a real Dask cluster."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import ssh_stand_in
from dask_kit import need_dask

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "howto" / "from-a-laptop-to-a-cluster.md"
LIMIT_S = 120.0
TOTAL = "[[1,4],[9,16],[25,36]]"


class Reader:
    """Someone who does what the page says, in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        commands = folder / "commands"
        commands.mkdir()
        for name, words in {"lightflow": "-m lightflow", "python": "", "python3": ""}.items():
            (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
            (commands / name).chmod(0o755)
        path = ssh_stand_in.install(folder / "bin", str(commands))
        self._env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        self.place = folder / "place"
        self.place.mkdir()
        self._blocks = re.findall(r"^```(\S[^\n]*)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
        for info, text in self._blocks:
            if "file=" in info:
                (self.place / info.partition("file=")[2]).write_text(text)

    def do(self, kind: str) -> list[str]:
        """Execute the blocks of a kind, and return what each has printed."""
        return [self.execute(text) for info, text in self._blocks if info == f"bash {kind}"]

    def execute(self, text: str) -> str:
        command = ["/bin/sh", "-e", "-c", text]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, cwd=self.place, env=self._env, timeout=LIMIT_S, check=False, **streams)  # type: ignore[call-overload]
        printed: str = done.stdout.decode()
        assert done.returncode == 0, text + printed
        return printed

    def hosts(self) -> dict[str, list[str | None]]:
        tasks = json.loads(self.execute("lightflow status --json"))["tasks"]
        rows = {task["task"]: [task, *(task["instances"] or [])] for task in tasks}
        return {name: [each["host"] for row in all_ for each in row["attempts"]] for name, all_ in rows.items()}

    def end_cluster(self) -> None:
        if (self.place / "pids").exists():
            for pid in (self.place / "pids").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGTERM)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    try:
        yield made
    finally:
        made.end_cluster()


def test_the_machines_that_ssh_reaches(reader: Reader) -> None:
    declared, named = reader.do("lab")
    assert "node1 folder" in declared
    assert "node2 clock" in named
    hosts = reader.hosts()
    assert (hosts["numbers"], hosts["total"]) == ([None], [None])
    assert set(hosts["square"]) <= {"node1", "node2"}
    assert (reader.place / "total.txt").read_text().strip() == TOTAL


def test_the_dask_cluster(reader: Reader) -> None:
    need_dask()
    _, used = reader.do("dask")
    assert "w1 processes" in used
    assert set(reader.hosts()["square"]) <= {"w1", "w2"}
    assert (reader.place / "total.txt").read_text().strip() == TOTAL
    reader.do("dask-end")
