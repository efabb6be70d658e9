"""Who owns a run: a lock that the kernel frees the moment its last holder is gone.

All locks of a database are bytes of one file beside it, `<db>.lock`: byte 0 is for writing, byte n for the run
with `run_no` n. They are *open file description* locks: the guardian holds them too, so a run stays owned until its
last process has been swept, and closing another descriptor of the file does not drop them (a POSIX lock would). Other
forks of the orchestrator close the file at once. Testing a lock takes nothing, so readers can tell a live owner from a
dead one without a race.
See docs/adr/0003.
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
    """What `fcntl` takes for a lock of some bytes."""
    return _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)


def whose(path: str) -> str:
    """What to do about a file of another user, as the end of a message; empty where it is our own."""
    name = other_owner(path)
    if name is None:
        return ""
    return f"; it belongs to user {name}, who can share it with your group: chmod g+rw it, its .lock file and the logs"


def other_owner(path: str) -> str | None:
    """The user whom a file belongs to, if that is somebody else; None where there is no file."""
    try:
        owner = os.stat(path).st_uid
    except OSError:
        return None
    return None if owner == os.geteuid() else user_name(owner)


def user_name(number: int) -> str:
    """The name of a user, or the number of one who has none."""
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


class LockFile:
    """One open description of a database's lock file. Not for sharing between threads."""

    def __init__(self, db_path: str, *, read_only: bool = False) -> None:
        """Open (and make) the lock file.

        Raises:
            StoreError: the folder cannot be written to.
        """
        # Of the file itself: a symbolic link to it must lead to the same lock.
        self.path = f"{os.path.realpath(db_path)}.lock"
        self.fd = -1
        self._held: set[int] = set()  # bytes
        self.refused: str | None = (
            None  # why a lock file that is there cannot be opened: then nothing is known of locks
        )
        try:
            flags = os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT
            self.fd = os.open(self.path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            if not read_only:
                raise StoreError(f"{os.path.dirname(db_path)}: no such folder; make it first") from None
        except OSError as error:
            if not read_only:
                raise StoreError(f"{self.path}: cannot be opened: {error.strerror}{whose(self.path)}") from None
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
        """Take the lock of a byte for this description; False if another one has it."""
        acquired = self._set(fcntl.F_WRLCK, byte)
        if acquired:
            self._held.add(byte)
        return acquired

    def acquire_within(self, byte: int, seconds: float) -> bool:
        """Take the lock of a byte, waiting for it; False if another description has it all the time."""
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
        """Make the lock file again where somebody has deleted or replaced it, and take the locks in the new one.

        Returns whether it has them all; else another process has been faster.

        Raises:
            StoreError: it cannot be made.
        """
        try:
            there, ours = os.stat(self.path, follow_symlinks=False), os.fstat(self.fd)
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return True
        except FileNotFoundError:
            pass
        with contextlib.closing(LockFile(self.path.removesuffix(".lock"))) as new:
            os.dup2(new.fd, self.fd, inheritable=False)  # the number stays: others were told to close it
        return all(self.acquire(byte) for byte in list(self._held))

    def is_held(self, byte: int) -> bool:
        """Return whether another description holds this byte, which takes nothing.

        False where there is no lock file, and for a number that no run has. True where the file may not be opened:
        a run of which nothing is known is not called dead.
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
        """Forget the descriptor, in a fork of this process: the locks are not its own."""
        fd, self.fd = self.fd, -1
        return fd

    def close(self) -> None:
        """Release all locks and close the file.

        A lock belongs to the description of the open file, not to a descriptor of it: were there a copy in another
        process, closing this one would not release it.
        """
        keep_open_in_forks(self)
        if self.fd >= 0:
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, lock_request(fcntl.F_UNLCK, 0, 0))
            os.close(self.detach())
