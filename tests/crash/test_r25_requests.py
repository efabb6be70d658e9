"""R25: no request, invocation or message of a killed run goes on, and none is sent more often than there are attempts.

Proved, with a server of the test: `kill -9` of the orchestrator, of the workers, of the guardian, and of orchestrator
and guardian at the same instant, at moments from the start of a run until its request (`http`) and its invocation
(`lambda`) have waited for their answers for a while: afterwards no connection of the run is open; in the last case from
the next resume on, which ends the workers. The server has at most as many requests as the state file has attempts, and
all invocations of the task have the same key. The same for a mail and a message (R25-messages) and for the message of a
hook of the run (R25-notice), where a resume follows every kill: it ends the run as SUCCESS, all mails of the task have
the same id, and the server has acknowledged one message of the hook. Not proved: what a server does with a request
whose client is gone.

    CI=true pytest tests/crash/test_r25_requests.py --crash-scale 10      # 20 moments each
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from http_kit import Server, serving
from outside import VICTIMS, Outside, Trial, attempts_in, check_nothing_left, has_ended, seconds_until, status_in
from smtp_kit import SmtpServer, receiving

#: In which workers end, on a busy machine; those of a control do not.
_END_S = 10.0

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

    def after_kill(self, workers: Sequence[int]) -> None:
        self._server.holds = False

    def clean(self) -> None:
        self._server.released.set()
        assert seconds_until(lambda: self.count() == 0) is not None
        self._server.released.clear()
        self._server.holds = True
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


MESSAGES = """
workflow_name: killed
secrets: {URL: {from: env}}
tasks:
  mails: {type: mail, server: "smtp://127.0.0.1:PORT", tls: none, from: a@example.org, to: b@example.org, text: hello}
  tells: {type: notify, webhook: {url: "${{ secrets.URL }}"}}
"""
NOTICE = """
workflow_name: killed
secrets: {URL: {from: env}}
on_success: {type: notify, webhook: {url: "${{ secrets.URL }}"}}
tasks: {work: {run: "true"}}
"""


class Messages(Outside):
    """The mails and messages of a run whose servers have not acknowledged them."""

    complete = 2
    resumed = VICTIMS

    def __init__(self, server: Server, post: SmtpServer, flow: str = MESSAGES) -> None:
        self._server, self._post = server, post
        self.flow = flow.replace("PORT", str(post.port))
        self.env = {"URL": server.url("/wait"), "NO_PROXY": "*"}

    def count(self) -> int:
        return self._server.held + self._post.connections

    def after_kill(self, workers: Sequence[int]) -> None:
        """Hold what workers send that end now: an acknowledged message may be sent again, where they cannot say so."""
        seconds_until(lambda: all(map(has_ended, workers)), _END_S)
        self._server.holds = self._post.holds = False

    def clean(self) -> None:
        self._server.released.set()
        self._post.released = True
        assert seconds_until(lambda: self.count() == 0) is not None
        self._server.released.clear()
        self._post.released = False
        self._server.holds = self._post.holds = True
        self._server.received.clear()
        self._server.acknowledged = 0
        self._post.identities.clear()

    def surplus(self, db: Path) -> int:
        """Return how many messages are too many, and whether the run did not succeed.

        A message that was acknowledged is sent again where the worker was killed before it had stored that.
        """
        attempts = attempts_in(db)
        posts, requests = self._post.identities, len(self._server.received)
        excess = max(0, len(posts) - attempts.get("mails", 0)) + max(0, len(set(posts)) - 1)
        excess += max(0, requests - attempts.get("tells", 0) - attempts.get("on_success", 0))
        return excess + (status_in(db) not in (None, "SUCCESS"))


class Notice(Messages):
    """The message of a hook of a run."""

    complete = 1

    def __init__(self, server: Server, post: SmtpServer) -> None:
        super().__init__(server, post, NOTICE)

    def surplus(self, db: Path) -> int:
        """Return the same, and how many messages of the hook were acknowledged after the first."""
        return super().surplus(db) + max(0, self._server.acknowledged - 1)


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
    check_nothing_left("R25", requests, tmp_path, figure, scaled)


@pytest.mark.timeout(600)
def test_r25_control(requests: Requests, tmp_path: Path, figure: Callable[..., str]) -> None:
    """Without a guardian and without a resume, the requests of workers that outlive the guardian go on."""
    trial = Trial(requests, tmp_path, program=[sys.executable, "-c", OUTLIVING])
    left = trial.run("both", 1.0, resumes=False, stays_s=1.0).left
    figure("R25-control", left=left)
    assert left > 0


#: The command, whose messages are sent twice.
TWICE = """
from lightflow.plugins import notify_task
post = notify_task._post
notify_task._post = lambda *words: (post(*words), post(*words))
from lightflow.cli.main import main
main()
"""


@pytest.fixture(params=[Messages, Notice])
def messages(request: pytest.FixtureRequest) -> Iterator[Messages]:
    with serving() as server, receiving() as post:
        yield request.param(server, post)


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r25_no_message_goes_on(
    messages: Messages, tmp_path: Path, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    check_nothing_left(f"R25-{type(messages).__name__.lower()}", messages, tmp_path, figure, scaled)


@pytest.mark.timeout(600)
def test_r25_controls_of_messages(messages: Messages, tmp_path: Path, figure: Callable[..., str]) -> None:
    """Messages of workers that outlive the guardian go on, and those that are sent twice are counted.

    Without a resume the run did not succeed, which counts once, too.
    """
    (tmp_path / "outliving").mkdir()
    trial = Trial(messages, tmp_path / "outliving", program=[sys.executable, "-c", OUTLIVING])
    left = trial.run("both", 1.0, resumes=False, stays_s=1.0).left
    twice = Trial(messages, tmp_path, program=[sys.executable, "-c", TWICE]).run("orchestrator", 1.0).left
    figure(f"R25-control-{type(messages).__name__.lower()}", left=left, twice=twice)
    assert left > 1
    assert twice > 0
