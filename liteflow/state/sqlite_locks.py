"""The locks that SQLite holds while a database is open, protected from other code of the process.

SQLite uses POSIX locks. The kernel drops the locks of a process when the process closes *any* descriptor of the file: a
task in a thread that copies the state file, or a second copy of the SQLite library, is enough. The next client then
believes that it is the last, and deletes the write-ahead log while a run still writes to it.

So each of these locks is held a second time, as an open file description lock on SQLite's own descriptor, which no
other descriptor can drop: the shared lock of the database file (no client is the last while it is held) and that of the
index of the write-ahead log (no client takes the index for the remains of a crash). The locks that SQLite takes for
one transaction are not protected; `state_file.Transaction` keeps writers apart. See docs/adr/0025.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from typing import Final

from liteflow.state.locks import lock_request

#: The shared locks of SQLite while a database in write-ahead mode is open: suffix of the file, first byte, length.
#: https://www.sqlite.org/fileformat2.html#the_lock_byte_page; the other is UNIX_SHM_DMS in its os_unix.c, since 3.7.0.
_LOCKS: Final = (("", 0x40000002, 510), ("-shm", 128, 1))

Identity = tuple[int, int]

_mutex = threading.Lock()
_uses: dict[Identity, int] = {}  # how often this process holds the locks, by database file
_locked: set[int] = set()  # descriptors with these locks
_inherited: set[int] = set()  # descriptors that belong to the parent of this fork, as do their locks


def _after_fork() -> None:
    global _mutex
    _mutex = threading.Lock()
    _uses.clear()
    _inherited.update(_locked)
    _locked.clear()


os.register_at_fork(after_in_child=_after_fork)


def identity(path: str) -> Identity | None:
    """Return the device and inode of a file, without opening it; None when there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class SqliteLocks:
    """Holds the locks of a database that SQLite has open in this process a second time, until `release`."""

    def __init__(self, path: str) -> None:
        self._database = identity(path)
        self._files = [(identity(path + end), start, length) for end, start, length in _LOCKS]
        if self._database is None:
            return
        with _mutex:
            _uses[self._database] = _uses.get(self._database, 0) + 1
            self._restore()
            for fd, start, length in self._descriptors():
                with contextlib.suppress(OSError):  # a file system without these locks: `Store.check_file` remains
                    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock_request(fcntl.F_RDLCK, start, length))
                    _locked.add(fd)

    def release(self, *, may_checkpoint: bool = True) -> None:
        """Release the locks, right before the connection is closed.

        With `may_checkpoint` the last client checkpoints the log. Without it the locks end with the descriptors, so
        that SQLite does not touch the log when it closes.
        """
        if self._database is None:
            return
        with _mutex:
            uses = _uses.pop(self._database, 1) - 1
            if uses > 0:
                _uses[self._database] = uses
            elif may_checkpoint:
                self._restore()
                for fd, start, length in self._descriptors():
                    with contextlib.suppress(OSError):  # explicitly: forks have copies of the descriptor
                        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock_request(fcntl.F_UNLCK, start, length))
                    _locked.discard(fd)
        self._database = None

    def _restore(self) -> None:
        """Take again the POSIX locks that SQLite relies on, if they were dropped."""
        for fd, start, length in self._descriptors():
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETLK, lock_request(fcntl.F_RDLCK, start, length))

    def _descriptors(self) -> Iterator[tuple[int, int, int]]:
        """Yield the descriptors of this process on the two files, with the range to lock in each.

        SQLite closes no descriptor of its own while it holds a lock on the file; those of other code may be among them.
        """
        try:
            names = os.listdir("/proc/self/fd")
        except OSError:
            return
        for name in names:
            try:
                status = os.fstat(int(name))
            except OSError:  # closed by another thread
                continue
            for file, start, length in self._files:
                if file == (status.st_dev, status.st_ino) and int(name) not in _inherited:
                    yield int(name), start, length
