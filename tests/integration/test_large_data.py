"""100 MB and single bytes through requests, mails and containers: memory stays flat, and a byte arrives at once."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import container_kit
import pytest
from container_kit import SHELL_IMAGE, Engine
from flow_folder import COMMAND, environment, write
from http_kit import Server, serving

SMALL, LARGE = 1_000_000, 100_000_000
#: A body in memory would be 100,000; the difference between two runs is that of allocators.
MOST_KIB = 30_000


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def peak_kib(folder: Path, text: str) -> int:
    """Run a workflow; return the most memory that the largest of its processes had."""
    folder.mkdir(exist_ok=True)
    write(folder, text)
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [*COMMAND, "run", "flow.yaml", "--log-dir", "logs"],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        _, code, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
    assert process.returncode == 0, (folder / "output").read_text()[-3000:]
    return usage.ru_maxrss


def test_requests_with_large_bodies(server: Server, tmp_path: Path) -> None:
    peaks = []
    for size in (SMALL, LARGE):
        folder = tmp_path / str(size)
        folder.mkdir()
        with (folder / "data").open("wb") as file:
            file.truncate(size)
        url = server.url("/sink")
        text = f"""
        tasks:
          down: {{type: http, proxy: none, url: "{server.url(f"/large?size={size}")}", save: copy}}
          up: {{type: http, proxy: none, url: "{url}", file: data, depends_on: [down]}}
          parts: {{type: http, proxy: none, url: "{url}", multipart: {{a: b, f: {{file: data}}}}, depends_on: [up]}}
        """
        peaks.append(peak_kib(folder, text))
        assert (folder / "copy").stat().st_size == size
        assert server.sunk[-2] == size
        assert 0 < server.sunk[-1] - size < 1000
    assert peaks[1] - peaks[0] < MOST_KIB, peaks


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with container_kit.docker() as started:
        yield started


def test_a_container_with_much_output(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in engine.env.items():
        monkeypatch.setenv(name, value)
    peaks = [
        peak_kib(
            tmp_path / str(size),
            f"""
            tasks:
              work:
                run: yes 0123456789abcdef | head -c {size}
                container: {{image: "{SHELL_IMAGE}", engine: docker, network: none}}
            """,
        )
        for size in (SMALL, LARGE)
    ]
    assert peaks[1] - peaks[0] < MOST_KIB, peaks


def test_a_byte_of_a_container_arrives_at_once(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in engine.env.items():
        monkeypatch.setenv(name, value)
    write(
        tmp_path,
        f"""
        tasks:
          work:
            run: while ! test -e stop; do printf .; sleep 0.05; done
            container: {{image: "{SHELL_IMAGE}", engine: docker, network: none}}
        """,
    )
    process = subprocess.Popen(
        [*COMMAND, "run", "flow.yaml", "--log-dir", "logs"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    give_up = time.monotonic() + 60
    while not any(log.read_bytes().count(b".") >= 3 for log in (tmp_path / "logs").rglob("*.log")):
        assert process.poll() is None
        assert time.monotonic() < give_up, "no byte arrives while the container runs"
        time.sleep(0.05)
    (tmp_path / "stop").touch()
    assert process.wait(60) == 0
