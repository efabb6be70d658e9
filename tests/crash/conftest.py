"""What the crash suites share: sizes, figures, and harness programs that are ended whatever happens."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crashkit import Harness, publish


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--crash-seed"))


@pytest.fixture
def scaled(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """A count of the quick form, made larger or smaller by `--crash-scale`."""
    scale = float(request.config.getoption("--crash-scale"))
    return lambda count: max(1, round(count * scale))


@pytest.fixture
def long_form(request: pytest.FixtureRequest) -> bool:
    """Was a longer form than the quick one asked for?"""
    return float(request.config.getoption("--crash-scale")) > 1


@pytest.fixture
def ram() -> Iterator[Path]:
    """An empty folder on a memory-backed file system, where there is one: process death does not depend on the disk."""
    root = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="lightflow-crash-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def harness(ram: Path) -> Iterator[Harness]:
    """Starts the harness programs of this folder (`kill.py`, `orphans.py` …) and ends them."""
    entry = Harness(ram)
    try:
        yield entry
    finally:
        entry.close()


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[..., str]:
    """Publish one figure: a line on stdout, in the file that LIGHTFLOW_FIGURES names, and in the test's report."""

    def put(name: str, **fields: object) -> str:
        line = publish(name, **fields)
        record_property("figure", line)
        return line

    return put


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Repeat the figures at the end of the run, where they are seen without `-s`."""
    lines = [
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in getattr(report, "user_properties", ())
        if name == "figure"
    ]
    if lines:
        terminalreporter.section("crash figures")
        for line in sorted(lines):
            terminalreporter.line(line)
