"""What all tests share: deterministic property tests, a state file per test, and a trail of side effects."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import event_fold
import package_use
import pytest
import sql_servers
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# A shell that starts the tests in the background makes them ignore signals, and what they start inherits that: then a
# program under test would rightly go on after SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

settings.register_profile(
    "lightflow",
    derandomize=True,  # the same examples everywhere, every time
    database=None,
    deadline=None,  # a busy machine is no failure
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("lightflow")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The long forms of tests, and size and seed of the crash suites; the defaults are the quick forms of CI."""
    parser.addoption("--long", action="store_true", help="run the long forms of tests that try many cases")
    parser.addoption("--uses-packages", action="store_true", help="run only the files that use lightflow or a package")
    group = parser.getgroup("crash")
    group.addoption("--crash-scale", type=float, default=1.0, help="multiplies every count of the crash suites")
    group.addoption("--crash-seed", type=int, default=7, help="the seed of the crash suites")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alters_rows(why): it writes to a state file by SQL, so the events do not fit")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out, where it is asked for, the test files whose result no version of a package can change."""
    if not config.getoption("--uses-packages") or not collection_path.name.startswith("test_"):
        return None
    return not package_use.uses_packages(collection_path) or None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Check that the events of every state file that the test has left give the statuses in its rows."""
    differences: list[str] = []
    if item.get_closest_marker("alters_rows") is None:
        used = getattr(item, "funcargs", {}).values()
        for folder in {value for value in used if isinstance(value, Path) and value.is_dir()}:
            differences += event_fold.differences_below(folder)
    yield
    if differences:
        pytest.fail("events and rows differ:\n" + "\n".join(differences), pytrace=False)


@pytest.fixture
def quick(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Return the first count in the quick form, and the second one in the long form (`--long`)."""
    return lambda short, long: long if request.config.getoption("--long") else short


@pytest.fixture
def db(tmp_path: Path) -> str:
    """The path of a state file that does not exist yet."""
    return str(tmp_path / "state.db")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[sql_servers.SqlServer]:
    """A server of PostgreSQL for all tests of this process."""
    with sql_servers.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def mysql() -> Iterator[sql_servers.SqlServer]:
    """A server of MariaDB for all tests of this process."""
    with sql_servers.mariadb() as server:
        yield server


class Trail:
    """An append-only file that tasks write a word to, in any process: what really ran, and how often."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def words(self) -> list[str]:
        try:
            with open(self.path, encoding="utf-8") as file:
                return file.read().split()
        except FileNotFoundError:
            return []

    def wait_for(self, word: str, count: int = 1, limit_s: float = 120.0) -> list[str]:
        """Wait until the word is there `count` times; it fails after the limit."""
        give_up = time.monotonic() + limit_s
        while self.words().count(word) < count:
            assert time.monotonic() < give_up, f"waited in vain for {word!r}: {self.words()}"
            time.sleep(0.005)
        return self.words()


@pytest.fixture
def trail(tmp_path: Path) -> Trail:
    return Trail(tmp_path / "trail")


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a Python script of this text with these arguments; what is left of it is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def run(source: str, *arguments: str) -> subprocess.Popen[str]:
        script = tmp_path / f"script_{len(started)}.py"
        script.write_text(source, encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-W", "error", str(script), *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
