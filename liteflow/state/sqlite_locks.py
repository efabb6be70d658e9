"""The locks that SQLite holds for as long as a database is open, kept safe from all other code of the process.

SQLite uses POSIX locks. The kernel drops those of a process when it closes *any* descriptor of the file: a task in a
thread that copies the state file, or a second copy of the SQLite library, is enough. The next client then believes
that it is the last, and deletes the write-ahead log under a run that goes on writing into it.

So each of these locks is held a second time, as an open file description lock on SQLite's own descriptor, which no
other descriptor can drop: the shared lock of the database file (nobody can be the last while it is there) and that of
the index of the write-ahead log (nobody can take the index for one that a crash has left). Those that SQLite takes for
one transaction are not held so; `database.Transaction` keeps our own writers apart. See docs/adr/0025.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from typing import Final

from liteflow.state.locks import lock_request

#: What SQLite locks shared while a database in write-ahead mode is open: end of the file's name, first byte, length.
#: https://www.sqlite.org/fileformat2.html#the_lock_byte_page; the other is UNIX_SHM_DMS in its os_unix.c, since 3.7.0.
_LOCKS: Final = (("", 0x40000002, 510), ("-shm", 128, 1))

Identity = tuple[int, int]

_mutex = threading.Lock()
_uses: dict[Identity, int] = {}  # by database file: how often it is held in this process
_locked: set[int] = set()  # descriptors that have our locks
_inherited: set[int] = set()  # descriptors of the process that this one was forked from: their locks are its own


def _after_fork() -> None:
    global _mutex
    _mutex = threading.Lock()
    _uses.clear()
    _inherited.update(_locked)
    _locked.clear()


os.register_at_fork(after_in_child=_after_fork)


def identity(path: str) -> Identity | None:
    """Which file a path names; by `stat`, never by opening it. None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class SqliteLocks:
    """The second hold on the locks of a database that SQLite has open in this process, until `release`."""

    def __init__(self, path: str) -> None:
        self._database = identity(path)
        self._files = [(identity(path + end), start, length) for end, start, length in _LOCKS]
        if self._database is None:
            return
        with _mutex:
            _uses[self._database] = _uses.get(self._database, 0) + 1
            self._restore()
            for fd, start, length in self._descriptors():
                with contextlib.suppress(OSError):  # a file system without these locks: `Store.check_file` is left
                    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock_request(fcntl.F_RDLCK, start, length))
                    _locked.add(fd)

    def release(self, *, fold: bool = True) -> None:
        """Let go, right before the connection is closed; with `fold` the last client folds up the log as ever.

        Without `fold` the locks end with the descriptors, so that SQLite leaves the log alone when it closes.
        """
        if self._database is None:
            return
        with _mutex:
            uses = _uses.pop(self._database, 1) - 1
            if uses > 0:
                _uses[self._database] = uses
            elif fold:
                self._restore()
                for fd, start, length in self._descriptors():
                    with contextlib.suppress(OSError):  # said, not left to the closing: forks have the descriptor, too
                        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock_request(fcntl.F_UNLCK, start, length))
                    _locked.discard(fd)
        self._database = None

    def _restore(self) -> None:
        """Take the POSIX locks that SQLite believes to have, should they have been dropped; else nothing happens."""
        for fd, start, length in self._descriptors():
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETLK, lock_request(fcntl.F_RDLCK, start, length))

    def _descriptors(self) -> Iterator[tuple[int, int, int]]:
        """The descriptors of this process on the two files, with what is locked in each.

        SQLite closes none of its own while it holds a lock on the file; another program's may be among them.
        """
        try:
            names = os.listdir("/proc/self/fd")
        except OSError:
            return
        for name in names:
            try:
                status = os.fstat(int(name))
            except OSError:  # closed meanwhile
                continue
            for file, start, length in self._files:
                if file == (status.st_dev, status.st_ino) and int(name) not in _inherited:
                    yield int(name), start, length
