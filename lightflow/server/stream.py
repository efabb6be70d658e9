"""`GET /api/v1/stream`: the live feed as server-sent events.

A client names topics and the position of its snapshot; the stream continues there without a gap. After `event: reset`
the client reads its snapshots again. A client that is slow receives fewer and larger frames. `event: problem` says why
the state file cannot be read, such as that it was deleted, and later that it can be read again.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from lightflow.server.feed import FeedPosition
from lightflow.server.frames import dump
from lightflow.server.logs import LogReader, find_log
from lightflow.server.problems import RequestProblem
from lightflow.server.services import Services
from lightflow.service.json_shapes import Shape
from liteflow import RunNotFound

MOST_STREAMS: Final = 100
_MOST_TOPICS: Final = 20
_HEARTBEAT_S: Final = 15.0
_LOG_S: Final = 0.1  # between two looks at the size of a log
_TOPIC: Final = re.compile(r"runs|run:[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_LOG_TOPIC: Final = re.compile(
    r"log:([A-Za-z0-9_][\w.-]{0,254}):([A-Za-z0-9_][\w.-]{0,254}):(-?\d{1,9}):(\d{1,9})", re.A
)


class Topics:
    """The topics of one client: those of the feed, and the logs it watches."""

    def __init__(self, names: Sequence[str], services: Services) -> None:
        """Check the topics.

        Raises:
            RequestProblem: a topic is unknown, or there are too many; or logs belong to no run, task or attempt: the
                fields of the problem are their topics, so that a client follows the others without them.
        """
        if not 1 <= len(names) <= _MOST_TOPICS:
            raise RequestProblem(400, "BAD_INPUT", f"topics: name 1 to {_MOST_TOPICS} topics, separated by commas")
        self.feed: list[str] = []
        self.logs: dict[str, LogReader] = {}
        missing: dict[str, str] = {}
        for name in dict.fromkeys(names):
            if match := _LOG_TOPIC.fullmatch(name):
                try:
                    self.logs[name] = find_log(services.db, match[1], match[2], int(match[3]), int(match[4]))
                except RunNotFound as error:
                    missing[name] = str(error)
            elif _TOPIC.fullmatch(name):
                self.feed.append(name)
            else:
                raise RequestProblem(
                    400, "BAD_INPUT", f"topics: {name[:100]!r} is none of runs, run:ID, log:RUN:TASK:INDEX:ATTEMPT"
                )
        if missing:
            raise RequestProblem(404, "NOT_FOUND", "; ".join(missing.values()), fields=missing)


async def stream(services: Services, topics: Topics, start: FeedPosition | None) -> AsyncIterator[bytes]:
    """Yield the frames for a client that has a snapshot of a position; None: that wants only what is new.

    The first block names the position, so that a client without a snapshot continues there after a break.
    """
    feed = services.feed
    start = start or feed.position
    cursor = feed.cursor(start)
    with feed.waiter() as changed:
        yield f"id: {start}\nretry: 1000\n\n".encode()
        if cursor is None:
            yield _reset(feed.position)
            cursor = feed.end()
        sizes = dict.fromkeys(topics.logs, (-1, -1))
        beat, problem = time.monotonic(), None
        while not feed.is_ending:
            frames: list[bytes] = []
            if problem != feed.problem:
                problem = feed.problem
                frames.append(_event("problem", {"problem": problem}))
            batch = feed.after(cursor)
            if batch is None:
                yield b"".join([*frames, _reset(feed.position)])
                cursor = feed.end()
                continue
            if batch.cursor != cursor:
                every = [await services.frames.frame(topic, cursor.number, batch) for topic in topics.feed]
                frames += [_reset(batch.position)] if None in every else filter(None, every)
            frames += _log_frames(topics, sizes)
            cursor = batch.cursor
            now = time.monotonic()
            if frames:
                beat = now
                yield b"".join(frames)
            elif now - beat >= _HEARTBEAT_S:
                beat = now
                yield b": alive\n\n"
            await _wait(changed, _LOG_S if topics.logs else _HEARTBEAT_S - (now - beat))


async def _wait(changed: asyncio.Event, seconds: float) -> None:
    """Wait for a change of the file; the feed decides how often it looks for one."""
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return
    changed.clear()


def _log_frames(topics: Topics, sizes: dict[str, tuple[int, int]]) -> list[bytes]:
    """Return a frame for each watched log that has changed since the last call."""
    frames = []
    for topic, log in topics.logs.items():
        size, generation = log.state()
        if sizes[topic] != (size, generation):
            sizes[topic] = (size, generation)
            frames.append(_event("log", {"topic": topic, "size": size, "generation": generation}))
    return frames


def _event(name: str, data: Shape) -> bytes:
    return f"event: {name}\ndata: {dump(data)}\n\n".encode()


def _reset(position: FeedPosition) -> bytes:
    """Return the event after which a client has to read its snapshots again."""
    return f"id: {position}\nevent: reset\ndata: {{}}\n\n".encode()
