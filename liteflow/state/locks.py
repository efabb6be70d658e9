"""Ownership of runs: locks that the kernel frees when their last holder has ended.

All locks of a database are bytes of one file next to it, `<db>.lock`: byte 0 is for writing, byte n for the run with
`run_no` n. They are *open file description* locks: the guardian holds them too, so a run stays owned until its last
process has been ended, and closing another descriptor of the file does not drop them, as it would a POSIX lock. Other
forks of the orchestrator close the file at once. Testing a lock does not take it, so readers distinguish a live owner
from a dead one without a race. See docs/adr/0003.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from typing import Final

from liteflow.errors import ResourceError, StoreError
from liteflow.processes.forks import close_in_forks, keep_open_in_forks

_FLOCK = struct.Struct("hhqqi4x")  # struct flock: type, whence, start, length, pid (0 for these locks)
_FIRST_PAUSE_S: Final = 0.0002  # about as long as a commit takes
_LONGEST_PAUSE_S: Final = 0.02


def lock_request(kind: int, start: int, length: int) -> bytes:
    """Return the structure that `fcntl` takes for a lock of some bytes."""
    return _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)


def ownership_hint(path: str) -> str:
    """Return what to do about a file of another user, as the end of a message; empty for a file of this user."""
    name = other_owner(path)
    if name is None:
        return ""
    return f"; it belongs to user {name}, who can share it with your group: chmod g+rw it, its .lock file and the logs"


def other_owner(path: str) -> str | None:
    """Return the owner of a file when that is another user; None also when there is no file."""
    try:
        owner = os.stat(path).st_uid
    except OSError:
        return None
    return None if owner == os.geteuid() else user_name(owner)


def user_name(number: int) -> str:
    """Return the name of a user, or the number when there is no name."""
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


class LockFile:
    """One open file description of the lock file of a database. For use from one thread."""

    def __init__(self, db_path: str, *, read_only: bool = False) -> None:
        """Open the lock file; create it unless `read_only`.

        Raises:
            StoreError: the folder cannot be written to.
        """
        # Next to the file itself: a symbolic link to it must lead to the same lock.
        self.path = f"{os.path.realpath(db_path)}.lock"
        self.fd = -1
        self._held: set[int] = set()  # bytes
        #: why the lock file, which exists, cannot be opened: then nothing is known about the locks
        self.refused: str | None = None
        try:
            flags = os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT
            self.fd = os.open(self.path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            if not read_only:
                raise StoreError(f"{os.path.dirname(db_path)}: no such folder; create it first") from None
        except OSError as error:
            if not read_only:
                raise StoreError(
                    f"{self.path}: cannot be opened: {error.strerror}{ownership_hint(self.path)}"
                ) from None
            self.refused = error.strerror
        if self.fd >= 0:
            close_in_forks(self)

    def _set(self, kind: int, byte: int) -> bool:
        try:
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, lock_request(kind, byte, 1))
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            raise ResourceError(f"{self.path}: cannot be locked: {error.strerror}") from None
        return True

    def acquire(self, byte: int) -> bool:
        """Take the lock of a byte. Returns False when another description holds it."""
        acquired = self._set(fcntl.F_WRLCK, byte)
        if acquired:
            self._held.add(byte)
        return acquired

    def acquire_within(self, byte: int, seconds: float) -> bool:
        """Wait for the lock of a byte and take it. Returns False when another description held it all the time."""
        give_up = time.monotonic() + seconds
        pause = _FIRST_PAUSE_S
        while not self.acquire(byte):
            left = give_up - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE_S)
        return True

    def release(self, byte: int) -> None:
        self._set(fcntl.F_UNLCK, byte)
        self._held.discard(byte)

    def renew(self) -> bool:
        """Create the lock file again when it was deleted or replaced, and take the locks in the new one.

        Returns whether it holds them all; otherwise another process was faster.

        Raises:
            StoreError: it cannot be created.
        """
        try:
            current, opened = os.stat(self.path, follow_symlinks=False), os.fstat(self.fd)
            if (current.st_dev, current.st_ino) == (opened.st_dev, opened.st_ino):
                return True
        except FileNotFoundError:
            pass
        with contextlib.closing(LockFile(self.path.removesuffix(".lock"))) as new:
            os.dup2(new.fd, self.fd, inheritable=False)  # forks close the descriptor of this number
        return all(self.acquire(byte) for byte in list(self._held))

    def is_held(self, byte: int) -> bool:
        """Return whether another description holds this byte, without taking it.

        False when there is no lock file, and for a number that no run has. True when the file may not be opened: a run
        is not called dead when nothing is known about it.
        """
        if self.refused is not None:
            return True
        if self.fd < 0 or byte < 0:
            return False
        answer = fcntl.fcntl(self.fd, fcntl.F_OFD_GETLK, lock_request(fcntl.F_WRLCK, byte, 1))
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def fileno(self) -> int:
        return self.fd

    def detach(self) -> int:
        """Return the descriptor and forget it, in a fork of this process, which does not own the locks."""
        fd, self.fd = self.fd, -1
        return fd

    def close(self) -> None:
        """Release all locks and close the file.

        They are released explicitly: a lock belongs to the open file description, so closing this descriptor would not
        release it while another process has a copy.
        """
        keep_open_in_forks(self)
        if self.fd >= 0:
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, lock_request(fcntl.F_UNLCK, 0, 0))
            os.close(self.detach())
