"""An agent whose owner is played by the test."""

from __future__ import annotations

from pathlib import Path

from agent_kit import OwnedAgent

from liteflow.remote.keeper import CLEAN

LOG_BYTES = 20_000_000  # more than a link takes that is not read


def test_an_agent_that_leaves_ends_when_a_slow_link_has_taken_the_last_of_it(tmp_path: Path) -> None:
    agent = OwnedAgent()
    agent.start(f"yes far | head -c {LOG_BYTES}; touch {tmp_path}/mark")
    agent.until((tmp_path / "mark").exists, reads=False)
    agent.write(b'{"leaving": true}\n')
    agent.link.send(("leave",))
    agent.until(lambda: agent.link.eof)
    assert agent.ended() == (CLEAN, "")
    assert sum(len(message[3]) for message in agent.messages if message[0] == "log") == LOG_BYTES
    assert [message[1][2] for message in agent.messages if message[0] == "outcome"] == ["SUCCESS"]
    agent.close()
