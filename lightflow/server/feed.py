"""The live feed: one thread reads the changes of the state file, and each client follows from its position.

Clients read the feed, at their speed; it has no queue for each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from lightflow.server.problems import detail_of
from lightflow.server.state_follower import StateFollower
from liteflow import LiteflowError
from liteflow.api import EventRecord

#: Seconds between two looks at the file while clients follow, and while none do.
_FOLLOWED_S: Final = 0.05
_IDLE_S: Final = 1.0
#: Frames a second to all clients together: beyond, the file is looked at less often, and frames hold more changes.
_MOST_FRAMES: Final = 750
_MOST_CHANGES: Final = 10_000  # that are in memory
_MOST_BEHIND: Final = 5_000  # events that a client may have missed; beyond, a snapshot is cheaper
_log = logging.getLogger("lightflow.server")


class FeedPosition(NamedTuple):
    """A position in the feed, as `as_of` of snapshots and the ids of frames have it.

    The generation changes when another file replaces the state file, and with each start of the server.
    """

    generation: str
    seq: int
    fire_no: int

    def __str__(self) -> str:
        return f"{self.generation}.{self.seq}.{self.fire_no}"

    @classmethod
    def parse(cls, text: str) -> FeedPosition | None:
        """Return the position that a client has sent; None if it is none."""
        generation, *numbers = text.split(".")
        if len(numbers) != 2 or not all(number.isascii() and number.isdecimal() for number in numbers):
            return None
        if any(len(number) > 18 for number in numbers):
            return None
        return cls(generation, int(numbers[0]), int(numbers[1]))


class FeedChange(NamedTuple):
    """An entry of the feed: an event of the file, or a change that the file does not have."""

    number: int  #: its place in the feed
    event: EventRecord
    is_inferred: bool  #: Whether the file has no such event: the owner of the run was killed.

    def follows(self, seq: int) -> bool:
        """Return whether a snapshot that goes to this event may lack the change."""
        return self.event.seq > seq or (self.is_inferred and self.event.seq == seq)


class Cursor(NamedTuple):
    """How far a client has read the feed."""

    generation: str
    number: int  #: of the last change


class FeedBatch(NamedTuple):
    """The changes after a cursor."""

    changes: list[FeedChange]
    cursor: Cursor
    position: FeedPosition


class Feed:
    """The changes of one state file.

    Attributes:
        problem: why the state file cannot be read; None while it can.
        is_ending: Whether the server ends: clients are to follow no longer.
    """

    def __init__(self, db: str) -> None:
        self.problem: str | None = None
        self.is_ending = False
        self._file = StateFollower(db)
        self._lock = threading.Lock()
        self._changes: deque[FeedChange] = deque(maxlen=_MOST_CHANGES)
        self._number = 0
        self._position = FeedPosition(secrets.token_hex(4), 0, 0)
        self._waiters: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._follow, name="lightflow-feed", daemon=True)

    # -- the thread -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Read the file once, so that a snapshot has a position, and start to follow it."""
        self.look()
        self._thread.start()

    def end_followers(self) -> None:
        """Wake all clients for the last time: see `is_ending`."""
        self.is_ending = True
        self._notify()

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._file.close()

    def _follow(self) -> None:
        while not self._stopped:
            self._wake.wait(max(_FOLLOWED_S, len(self._waiters) / _MOST_FRAMES) if self._waiters else _IDLE_S)
            self._wake.clear()
            if not self._stopped:
                try:
                    self.look()
                except Exception:  # noqa: BLE001 - the boundary: a look that fails does not end the feed
                    _log.exception("the live feed could not look at the state file; it tries again")

    def look(self) -> None:
        """Add the changes of the file since the last call. Called by one thread at a time."""
        try:
            changes = self._file.look()
        except LiteflowError as error:
            self._note(detail_of(error))
            return
        with self._lock:
            if changes.is_other_file:
                self._changes.clear()
                self._position = FeedPosition(secrets.token_hex(4), 0, 0)
            for events, is_inferred in ((changes.events, False), (changes.interrupted, True)):
                for event in events:
                    self._number += 1
                    self._changes.append(FeedChange(self._number, event, is_inferred))
            self._position = FeedPosition(self._position.generation, *changes.position)
        self._note(None)
        if changes.is_changed or changes.is_other_file:
            self._notify()

    def _note(self, problem: str | None) -> None:
        """Store why the file cannot be read, and wake the clients if that is new."""
        before, self.problem = self.problem, problem
        if problem != before:
            self._notify()

    # -- clients ----------------------------------------------------------------------------------------------

    @property
    def position(self) -> FeedPosition:
        """The position of the last look at the file."""
        with self._lock:
            return self._position

    def end(self) -> Cursor:
        """Return the cursor after the last change."""
        with self._lock:
            return Cursor(self._position.generation, self._number)

    def cursor(self, position: FeedPosition) -> Cursor | None:
        """Return the cursor of a position; None if the client has to read a snapshot again.

        A snapshot may be newer than the last look at the file: then the client gets some changes a second time.
        """
        with self._lock:
            if position.generation != self._position.generation:
                return None
            behind = self._position.seq - position.seq
            oldest = self._changes[0].event.seq if self._changes else self._position.seq
            if behind > _MOST_BEHIND or (behind > 0 and oldest > position.seq + 1):
                return None
            following = (change.number for change in self._changes if change.follows(position.seq))
            return Cursor(position.generation, next(following, self._number + 1) - 1)

    def after(self, cursor: Cursor) -> FeedBatch | None:
        """Return the changes after a cursor; None if some of them are no longer in memory."""
        with self._lock:
            if cursor.generation != self._position.generation:
                return None
            missing = self._number - cursor.number
            if missing > len(self._changes):
                return None
            changes = [self._changes[index] for index in range(len(self._changes) - missing, len(self._changes))]
            return FeedBatch(changes, Cursor(cursor.generation, self._number), self._position)

    @contextlib.contextmanager
    def waiter(self) -> Iterator[asyncio.Event]:
        """Return an event of the running loop that is set at each change of the file."""
        event = asyncio.Event()
        self._waiters[event] = asyncio.get_running_loop()
        self._wake.set()
        try:
            yield event
        finally:
            del self._waiters[event]

    def _notify(self) -> None:
        """Set the events of all clients, with one call for each loop: each call is a write to its pipe."""
        waiters: dict[asyncio.AbstractEventLoop, list[asyncio.Event]] = {}
        for event, loop in list(self._waiters.items()):
            waiters.setdefault(loop, []).append(event)
        for loop, events in waiters.items():
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(_set_all, events)


def _set_all(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        event.set()
