"""Reads the changes of a state file: its new events, and the runs whose owner was killed without an event."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from liteflow import LiteflowError
from liteflow.api import EventRecord, FilePosition, History

_LOCKS_S: Final = 1.0  # between two tests of the locks of open runs
_BLOCK: Final = 1000  # events of one query


class FileChanges(NamedTuple):
    """The result of one look at the file."""

    events: Sequence[EventRecord]
    interrupted: Sequence[EventRecord]  #: changes to INTERRUPTED that the file does not have
    position: FilePosition
    is_changed: bool  #: Whether anything was committed since the last look.
    is_other_file: bool  #: Whether the file of the last look was replaced, or an older copy was restored into it.


class StateFollower:
    """Reads one state file, from one thread at a time."""

    def __init__(self, db: str) -> None:
        self._db = db
        self._history: History | None = None
        self._data_version = -1
        self._position: FilePosition | None = None  # None: the file was not read yet
        self._locks_at = 0.0
        self._interrupted: set[str] = set()  # runs whose change to INTERRUPTED was reported
        self._is_other_file = False  # see `FileChanges`; since the last look that could read the file

    def look(self) -> FileChanges:
        """Return the changes since the last call.

        Raises:
            LiteflowError: the file cannot be read. The next call opens it again.
        """
        try:
            self._open()
            is_changed = self._history is not None and self._history.data_version() != self._data_version
            events = self._events() if is_changed else []
            interrupted: list[EventRecord] = []
            if time.monotonic() - self._locks_at >= _LOCKS_S:
                self._locks_at = time.monotonic()
                interrupted = self._test_locks()
        except LiteflowError:
            self.close()
            raise
        is_other_file, self._is_other_file = self._is_other_file, False
        position = self._position or FilePosition(0, 0)
        return FileChanges(events, interrupted, position, is_changed or bool(interrupted), is_other_file)

    def close(self) -> None:
        """Close the file."""
        if self._history is not None:
            self._history.close()
            self._history = None

    def _open(self) -> None:
        """Open the file, if it is not open, or if another file has its name."""
        if self._history is not None and self._history.is_replaced():
            self.close()
            self._begin_again()
        if self._history is None:
            self._history = History(self._db)
            self._data_version = -1

    def _begin_again(self) -> None:
        self._is_other_file = True
        self._position = None
        self._interrupted.clear()

    def _events(self) -> list[EventRecord]:
        """Return the new events; at first only the last ones, because older changes are in every snapshot."""
        assert self._history is not None
        version = self._history.data_version()
        with self._history.snapshot() as position:
            if any(now < before for now, before in zip(position, self._position or position, strict=True)):
                self._begin_again()  # the numbers of a file only rise
            seq = max(0, position.seq - _BLOCK) if self._position is None else self._position.seq
            events: list[EventRecord] = []
            while seq < position.seq:
                events += self._history.events(after=seq, limit=_BLOCK)
                seq = events[-1].seq if events and events[-1].seq > seq else position.seq
        self._data_version, self._position = version, position
        self._interrupted -= {event.run_id for event in events if event.task_id is None}
        return events

    def _test_locks(self) -> list[EventRecord]:
        """Return the change to INTERRUPTED of each run whose owner no longer holds its lock."""
        assert self._history is not None
        self._history.reopen_locks()  # another program may have created or replaced their file
        events, seq = [], 0 if self._position is None else self._position.seq
        for run_no, run_id, _, status in self._history.open_runs():
            if run_id in self._interrupted or self._history.is_owned(run_no):
                continue
            record = self._history.run(run_id)  # it may have ended since
            if record.status == "INTERRUPTED":
                self._interrupted.add(run_id)
                change = (None, None, None, status, record.status, record.reason, time.time())
                events.append(EventRecord(seq, run_id, *change))
        return events
