"""The control of R31: an agent whose lease never ends.

python tests/crash/endless_agent.py -m liteflow.remote.agent       the last words are those of any agent
"""

from __future__ import annotations

from typing import Final

from liteflow.remote import agent

_YEAR_S: Final = 31_536_000.0


class EndlessLease(agent.Lease):
    """A lease that ends after the test."""

    def __init__(self, length_s: float) -> None:
        super().__init__(length_s)
        self.deadline += _YEAR_S


if __name__ == "__main__":
    agent.Lease = EndlessLease  # type: ignore[misc]  # a control takes a defence away
    agent.main()
