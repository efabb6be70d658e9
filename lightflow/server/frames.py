"""Builds the frames of the live feed. A frame holds the present state of each changed instance, not each step.

All clients at the same cursor receive the same frames, so the last frames are cached.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence, Set
from typing import Any, Final

from starlette.concurrency import run_in_threadpool

from lightflow.server.answers import RunStateShape
from lightflow.server.feed import FeedBatch, FeedChange
from lightflow.server.shapes import instance_columns, run_state_shape, without_values
from lightflow.service.json_shapes import Shape
from lightflow.service.queries import summary_of
from liteflow import LiteflowError, RunNotFound
from liteflow.api import History, InstanceRecord

_CACHED_FRAMES: Final = 64
_SINGLE_READS: Final = 500  # changed instances; for more of them all instances of the run are read at once


class FrameBuilder:
    """Builds the frames of topics from the changes of the feed, for the clients of one event loop."""

    def __init__(self, db: str, *, hides_values: bool = False) -> None:
        """Take the state file, and whether values are left out."""
        self._db = db
        self._hides_values = hides_values
        self._frames: OrderedDict[tuple[str, int, int], asyncio.Future[bytes | None]] = OrderedDict()

    async def frame(self, topic: str, start: int, batch: FeedBatch) -> bytes | None:
        """Return a frame as an event of a stream; empty when nothing of the topic has changed.

        None: the file could not be read, so the client lacks these changes.

        Args:
            topic: `runs`, or `run:` and the id of a run.
            start: the number of the last change that the client has.
            batch: the changes since then.
        """
        key = (topic, start, batch.cursor.number)
        future = self._frames.get(key)
        if future is None:
            future = self._frames[key] = asyncio.ensure_future(run_in_threadpool(self._event, topic, batch))
            if len(self._frames) > _CACHED_FRAMES:
                self._frames.popitem(last=False)
        if future.done():
            return future.result()
        return await asyncio.shield(future)  # it is shared: a client that leaves does not cancel it

    def _event(self, topic: str, batch: FeedBatch) -> bytes | None:
        try:
            shape = self.build(topic, batch.changes)
        except LiteflowError:
            return None
        return b"" if shape is None else f"id: {batch.position}\nevent: change\ndata: {dump(shape)}\n\n".encode()

    def build(self, topic: str, changes: Sequence[FeedChange]) -> Shape | None:
        """Return the content of a frame; None when nothing of the topic has changed."""
        if topic == "runs":
            shape = self._runs(changes)
        else:
            run_id = topic.removeprefix("run:")
            shape = self._run(run_id, [change for change in changes if change.event.run_id == run_id])
        return without_values(shape) if self._hides_values else shape

    def _runs(self, changes: Sequence[FeedChange]) -> Shape | None:
        run_ids = dict.fromkeys(change.event.run_id for change in changes)
        if not run_ids:
            return None
        runs, deleted = [], []
        with History(self._db) as history, history.snapshot():
            for run_id in run_ids:
                try:
                    runs.append(self._summary(history, run_id))
                except RunNotFound:
                    deleted.append(run_id)
        return {"topic": "runs", "runs": runs, "deleted": deleted}

    def _run(self, run_id: str, changes: Sequence[FeedChange]) -> Shape | None:
        if not changes:
            return None
        keys = dict.fromkeys(
            (change.event.task_id, change.event.map_index if change.event.map_index is not None else -1)
            for change in changes
            if change.event.task_id is not None
        )
        with History(self._db) as history, history.snapshot():
            try:
                summary = self._summary(history, run_id)
            except RunNotFound:
                return {"topic": f"run:{run_id}", "run": None, "deleted": True}
            expanded = {
                change.event.task_id
                for change in changes
                if change.event.status == "RUNNING" and change.event.map_index == -1
            }
            instances = _instances(history, run_id, keys, expanded)
        present = {(record.task_id, record.map_index) for record in instances}
        removed = [
            [task_id, None if index < 0 else index] for task_id, index in keys if (task_id, index) not in present
        ]
        tasks = instance_columns(instances)
        return {"topic": f"run:{run_id}", "run": summary, "tasks": tasks, "removed": removed}

    def _summary(self, history: History, run_id: str) -> RunStateShape:
        return run_state_shape(summary_of(history, history.run(run_id)))


def _instances(
    history: History, run_id: str, keys: Iterable[tuple[str, int]], started: Set[str | None]
) -> list[InstanceRecord]:
    """Return the instances and hooks of these keys that a run has now.

    A mapped task that has started has its list: all of its instances are new, and they have no events yet.
    """
    mapped = {task_id for task_id in started if task_id is not None and history.instance(run_id, task_id, 0)}
    wanted = set(keys)
    if len(wanted) <= _SINGLE_READS and not mapped:
        records = (history.instance(run_id, *key) for key in sorted(wanted))
        return [record for record in records if record is not None]
    everything = [*history.instances(run_id), *history.hooks(run_id)]
    return [record for record in everything if (record.task_id, record.map_index) in wanted or record.task_id in mapped]


def dump(shape: Any) -> str:
    """Return JSON text without spaces; a number that JSON lacks, such as NaN, becomes null."""
    try:
        return json.dumps(shape, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(_finite(shape), separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value
