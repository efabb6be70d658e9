"""Windows of log files: by offset, from the end, or from the next line that has a text.

Above 96 MiB the engine cuts the middle out of a growing log, so its end moves down: the generation of a log is the
number of bytes that were cut out, and all offsets change with it.
"""

from __future__ import annotations

import os
import re
from typing import BinaryIO, Final

from lightflow.service.lookup import find_run
from liteflow import RunNotFound
from liteflow.api import History, Record, instance_name, open_log

MOST_WINDOW: Final = 1024 * 1024
#: Where the engine writes how much it has cut out (`liteflow.processes.log_file`).
_CUT_AT: Final = 48 * 1024 * 1024
_CUT_MARK: Final = re.compile("\n… ([0-9,]+) bytes dropped …\n".encode())
_SEARCH_BLOCK: Final = 1024 * 1024


class Window(Record):
    """A part of a log."""

    data: bytes
    offset: int  #: of the first byte; the size of the log when the text was not in it
    size: int
    generation: int


class LogReader:
    """The log of one attempt. A file that does not exist is empty: the attempt has printed nothing."""

    def __init__(self, path: str | None) -> None:
        self._path = path

    def state(self) -> tuple[int, int]:
        """Return the size and the generation."""
        file = self._open()
        if file is None:
            return 0, 0
        with file:
            return _size(file), _generation(file)

    def window(self, *, offset: int, limit: int, from_end: bool = False, find: str | None = None) -> Window:
        """Return up to `limit` bytes: from `offset`, or the last ones, or from the next line with a text on."""
        file = self._open()
        if file is None:
            return Window(data=b"", offset=0, size=0, generation=0)
        with file:
            size, generation = _size(file), _generation(file)
            if find:
                offset = _search(file, find.encode("utf-8", "replace"), offset)
            elif from_end:
                offset = max(0, size - limit)
            offset = size if offset < 0 else min(offset, size)
            return Window(data=os.pread(file.fileno(), limit, offset), offset=offset, size=size, generation=generation)

    def _open(self) -> BinaryIO | None:
        if self._path is None:
            return None
        try:
            return open_log(self._path)
        except OSError:
            return None


def find_log(db: str, run_id: str, task_id: str, map_index: int, attempt: int) -> LogReader:
    """Return the log of an attempt, as the state file has its path.

    Raises:
        RunNotFound: there is no such run, task or attempt.
    """
    with History(db) as history:
        run = find_run(history, run_id)
        record = history.attempt(run.run_id, task_id, map_index, attempt)
    if record is not None:
        return LogReader(record.log_path)
    name = instance_name(task_id, map_index)
    raise RunNotFound(f"run {run.run_id} has no attempt {attempt} of {name!r}")


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _generation(file: BinaryIO) -> int:
    match = _CUT_MARK.match(os.pread(file.fileno(), 100, _CUT_AT))
    return int(match[1].replace(b",", b"")) if match else 0


def _search(file: BinaryIO, text: bytes, offset: int) -> int:
    """Return the offset of the next line that has a text; -1 if there is none."""
    overlap = b""
    position = offset
    while block := os.pread(file.fileno(), _SEARCH_BLOCK, position):
        data = overlap + block
        at = data.find(text)
        if at >= 0:
            start = position - len(overlap)
            line = data.rfind(b"\n", 0, at) + 1
            return start + line
        position += len(block)
        overlap = data[-max(len(text) - 1, 4096) :]
    return -1
