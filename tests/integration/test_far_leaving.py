"""An agent whose owner is played by the test."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from far_kit import AGENT, LIMIT_S

from liteflow.executors.outcome_queue import OutcomeQueue
from liteflow.executors.worker import work_to_wire
from liteflow.record import replace
from liteflow.remote.cluster import Cluster
from liteflow.remote.lane import facts_of
from liteflow.remote.link import Link
from liteflow.remote.listener import Listener
from liteflow.remote.ticket import ticket_line, ticket_to
from liteflow.work import RunInfo, Work

LOG_BYTES = 20_000_000  # more than a link takes that is not read


def test_an_agent_that_leaves_ends_when_a_slow_link_has_taken_the_last_of_it(tmp_path: Path) -> None:
    outcomes, links, messages = OutcomeQueue(), list[Link](), list[Any]()
    cluster = Cluster(argv=(), slots=1, lease_s=1000.0)
    listener = Listener(cluster, outcomes, links.append, print)
    ticket = replace(ticket_to(cluster, listener.port, listener.key), agent="a", host="w1", slots=1)

    def until(condition: Callable[[], bool], *, reads: bool = True) -> None:
        give_up = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < give_up, [message[0] for message in messages]
            outcomes.wait(0.01)
            if links and reads:
                messages.extend(links[0].take())

    with subprocess.Popen(AGENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(ticket_line(ticket))
        process.stdin.flush()
        until(lambda: bool(messages))
        (link,) = links
        link.send(("open", facts_of(RunInfo(run_id="r", dag_id="d", db_path=""))))
        until(lambda: messages[-1][0] in ("ready", "beat") and len(messages) > 1)
        script = f"yes far | head -c {LOG_BYTES}; touch {tmp_path}/mark"
        command: tuple[Any, ...] = (("/bin/sh", "-c", script), None, {}, (), None, None, ())
        work = Work(node=1, task_id="t", attempt=1, log_path="t.log")
        link.send(("work", work_to_wire(work, "1-1"), command))
        until((tmp_path / "mark").exists, reads=False)
        process.stdin.write(b'{"leaving": true}\n')
        process.stdin.flush()
        link.send(("leave",))
        until(lambda: link.eof)
        assert process.wait(LIMIT_S) == 0
    assert sum(len(message[3]) for message in messages if message[0] == "log") == LOG_BYTES
    assert [message[1][2] for message in messages if message[0] == "outcome"] == ["SUCCESS"]
    link.close()
    listener.close()
    outcomes.close()
