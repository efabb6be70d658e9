"""A coroutine that cancels itself has failed, and is retried like any other task."""

from __future__ import annotations

import asyncio

import pytest

from liteflow import Dag, current_context


@pytest.mark.parametrize("mode", ["async", "thread", "process"])
def test_retries_are_used(db: str, mode: str) -> None:
    async def awaits_what_was_cancelled() -> int:
        if current_context().attempt == 1:
            other = asyncio.ensure_future(asyncio.sleep(10))
            other.cancel()
            await other
        return current_context().attempt

    dag = Dag("d", db)
    dag.task(awaits_what_was_cancelled, "t", retries=1, retry_delay=0)
    assert dag.run(mode=mode).raise_for_failure().value("t") == 2
