"""What the crash tests share: the size and seed asked for, and the line that a figure is printed as."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
#: A caller's own LIGHTFLOW_ variables must not choose the state file of a test.
ENV: Final = {
    **{name: value for name, value in os.environ.items() if not name.startswith("LIGHTFLOW_")},
    "PYTHONPATH": str(ROOT),
    "PYTHONDONTWRITEBYTECODE": "1",
}
LIGHTFLOW: Final = [sys.executable, "-m", "lightflow"]


def scale(config: pytest.Config) -> float:
    """How much larger than the quick form (`--crash-scale`)."""
    return float(config.getoption("--crash-scale", 1.0) or 1.0)


def seed(config: pytest.Config) -> int:
    """What all chance is drawn from (`--crash-seed`)."""
    return int(config.getoption("--crash-seed", 7) or 7)


def replay(request: pytest.FixtureRequest, **extras: object) -> str:
    """The command that does a failed test again, with what narrows it down."""
    extra = " ".join(f"{name}={value}" for name, value in extras.items())
    size = f"--crash-scale {scale(request.config):g} --crash-seed {seed(request.config)}"
    return f"replay: {extra} python -m pytest '{request.node.nodeid}' {size}".replace(":  ", ": ")


class Figure:
    """One figure: counts that a test adds up, said as one machine-readable line."""

    def __init__(self, name: str, request: pytest.FixtureRequest) -> None:
        self.name = name
        self.counts: dict[str, Any] = {}
        self._request = request
        self._seed = seed(request.config)
        self._began = time.monotonic()

    def add(self, key: str, number: int = 1) -> None:
        self.counts[key] = self.counts.get(key, 0) + number

    def tell(self, **counts: object) -> str:
        """Print the line, and append it to the file that LIGHTFLOW_FIGURES names."""
        words = [f"{key}={value}" for key, value in {**self.counts, **counts}.items()]
        line = f"{self.name} {' '.join(words)} seed={self._seed} {time.monotonic() - self._began:.0f}s"
        print(line, flush=True)
        self._request.node.user_properties.append(("figure", line))
        path = os.environ.get("LIGHTFLOW_FIGURES")
        if path:
            with open(path, "a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        return line


def missing(what: str) -> None:
    """Skip for want of a facility, with the reason said; where CI is set, root has it, and its absence is a failure."""
    if os.environ.get("CI", "").lower() == "true" and os.geteuid() == 0:
        pytest.fail(f"not available here: {what}")
    pytest.skip(f"not available here: {what}")


def wait_until(ready: Callable[[], bool], what: str, limit_s: float = 120.0) -> None:
    """Wait for something; it fails after the limit."""
    give_up = time.monotonic() + limit_s
    while not ready():
        assert time.monotonic() < give_up, f"waited in vain for {what}"
        time.sleep(0.01)
