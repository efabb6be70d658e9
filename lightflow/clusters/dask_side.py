"""The part of a Dask cluster that its workers execute: they hold slots for the agent of a run."""

from __future__ import annotations

from typing import Any

from liteflow.remote.hold import hold


def hold_slot(ticket: str, slot: str, topic: str) -> dict[str, Any]:
    """Hold a slot of this worker until the agent of the run has ended here, or the slot is given back.

    Args:
        ticket: the ticket of the run, without the part of an agent.
        slot: the name of the slot.
        topic: where the placer hears which agent has the slot.

    Returns:
        what became of the agent; see `liteflow.remote.hold`.
    """
    from distributed import get_worker

    worker = get_worker()

    def say(agent_id: str) -> None:
        worker.log_event(topic, {"slot": slot, "agent": agent_id, "worker": worker.address})

    return hold(ticket, slot, str(worker.name), say)
