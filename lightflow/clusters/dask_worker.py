"""The function that the workers of a Dask cluster import: it holds a slot for a run, in the name of its worker."""

from __future__ import annotations

from typing import Any

from liteflow.remote.hold import hold


def hold_slot(ticket: str) -> dict[str, Any]:
    """Hold a slot of this worker for the run of a ticket (see `liteflow.remote.hold.hold`)."""
    from distributed import get_worker

    worker = get_worker()
    is_named = isinstance(worker.name, str) and "://" not in worker.name
    return hold(ticket, worker.name if is_named else worker.address.rpartition("://")[2])
