"""Watch files for file triggers: a file is complete when its size and its time have not changed for a while."""

from __future__ import annotations

import glob
import os
import stat
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from liteflow import FileTrigger

_MAX_FILES: Final = 10_000


class ReadyFile(NamedTuple):
    """A file that is complete."""

    path: str
    key: str  #: the path, the size and the time of the last change


class FileWatch:
    """The files that match the pattern of one trigger. `decided` are the keys of files that have fired."""

    def __init__(self, trigger: FileTrigger, decided: set[str]) -> None:
        self._trigger = trigger
        self.decided = decided
        self._since: dict[str, tuple[str, float]] = {}  # path: its key, and since when it has had that

    def ready(self, now: float | None = None) -> list[ReadyFile]:
        """Return the complete files that have not fired, in the order of their names. `now` is monotonic."""
        now = time.monotonic() if now is None else now
        since, ready = dict[str, tuple[str, float]](), []
        for path, key in self._matches():
            if key in self.decided:
                continue
            before, moment = self._since.get(path, ("", now))
            since[path] = (key, moment if before == key else now)
            if now - since[path][1] >= self._trigger.settle:
                ready.append(ReadyFile(path, key))
        self._since = since
        return ready

    def existing(self) -> list[ReadyFile]:
        """Return all files that match, complete or not."""
        return [ReadyFile(path, key) for path, key in self._matches()]

    def _matches(self) -> Iterator[tuple[str, str]]:
        """Yield the paths and keys of regular files; links are not followed."""
        paths = sorted(glob.glob(os.path.expanduser(self._trigger.path), recursive=True))
        for path in paths[:_MAX_FILES]:
            try:
                info = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISREG(info.st_mode):
                name = os.path.abspath(path).replace("\n", "\\n")
                yield os.path.abspath(path), f"{name}|{info.st_size}|{info.st_mtime_ns}"


def joined_key(files: Sequence[ReadyFile]) -> str:
    """Return the key of a fire for several files."""
    return "\n".join(file.key for file in files)


def file_keys(keys: set[str]) -> set[str]:
    """Return the keys of the files of some fires."""
    return {part for key in keys for part in key.split("\n")}
