"""R25: no request and no invocation of a killed run goes on, and none is sent more often than there are attempts.

Proved, with a server of the test: `kill -9` of the orchestrator, of the workers, of the guardian, and of orchestrator
and guardian at the same instant, at moments from the start of a run until its request (`http`) and its invocation
(`lambda`) have waited for their answers for a while: afterwards no connection of the run is open; in the last case from
the next resume on, which ends the workers. The server has at most as many requests as the state file has attempts, and
all invocations of the task have the same key. Not proved: what a server does with a request whose client is gone.

    CI=true pytest tests/crash/test_r25_requests.py --crash-scale 10      # 20 moments each
"""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from http_kit import Server, serving
from outside import MOMENTS, Outside, Trial, seconds_until

FLOW = """
workflow_name: killed
secrets: {KEY: {from: env}}
tasks:
  asks: {type: http, proxy: none, url: "SERVER/wait?attempt=${{ task.attempt }}"}
  invokes:
    type: lambda
    function: score
    payload: {attempt: "${{ task.attempt }}"}
    region: eu-central-1
    endpoint: SERVER
    credentials: {access_key: AKIDEXAMPLE, secret_key: "${{ secrets.KEY }}"}
"""


class Requests(Outside):
    """The requests of a run that a server has not answered."""

    complete = 2

    def __init__(self, server: Server) -> None:
        self._server = server
        self.flow = FLOW.replace("SERVER", server.url(""))
        self.env = {"KEY": "wJalrXUtnFEMI", "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "*"}

    def count(self) -> int:
        return self._server.held

    def clean(self) -> None:
        self._server.released.set()
        assert seconds_until(lambda: self.count() == 0) is not None
        self._server.released.clear()
        self._server.received.clear()

    def surplus(self, db: Path) -> int:
        """Return how many requests were sent without an attempt, and how many keys a task has too many."""
        calls = [each for each in self._server.received if each.path.endswith("/invocations")]
        contexts = [json.loads(base64.b64decode(each.headers["x-amz-client-context"])) for each in calls]
        keys = {context["custom"]["lightflow_key"] for context in contexts}
        attempts = attempts_in(db)
        excess = max(0, len(calls) - attempts.get("invokes", 0))
        excess += max(0, len(self._server.received) - len(calls) - attempts.get("asks", 0))
        return excess + max(0, len(keys) - 1)


def attempts_in(db: Path) -> dict[str, int]:
    """Return how many attempts of each task a state file has."""
    if not db.exists():
        return {}
    with contextlib.closing(sqlite3.connect(db)) as connection:
        try:
            return dict(connection.execute("SELECT task_id, try_number FROM liteflow_task_instances").fetchall())
        except sqlite3.OperationalError:  # the run was killed before it had tables
            return {}


#: The command, whose workers do not ask the kernel to be killed with their guardian.
OUTLIVING = """
from liteflow.processes import tree
tree.die_with_parent = lambda parent: None
from lightflow.cli.main import main
main()
"""


@pytest.fixture
def requests() -> Iterator[Requests]:
    with serving() as server:
        yield Requests(server)


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r25_no_request_goes_on(
    requests: Requests, tmp_path: Path, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    figures = Trial(requests, tmp_path).all_moments(scaled(MOMENTS))
    line = figure("R25", **figures)
    assert figures["left"] == 0, line


@pytest.mark.timeout(600)
def test_r25_control(requests: Requests, tmp_path: Path, figure: Callable[..., str]) -> None:
    """Without a guardian and without a resume, the requests of workers that outlive the guardian go on."""
    trial = Trial(requests, tmp_path, program=[sys.executable, "-c", OUTLIVING])
    left = trial.run("both", 1.0, resumes=False, stays_s=1.0).left
    figure("R25-control", left=left)
    assert left > 0
