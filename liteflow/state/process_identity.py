"""The identity of a process: its pid with the time at which it started, and the boot of the machine.

A pid alone is reused; the three together name one process for ever.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

_REQUESTED_BY: Final = ContextVar[str | None]("requested_by", default=None)
_REQUEST_DETAIL: Final = ContextVar[str | None]("request_detail", default=None)


def start_ticks(pid: int | str = "self") -> int | None:
    """Return when a process was started, in kernel ticks since boot; None when it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return None if fields[0] in b"ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def boot_id() -> str | None:
    """Return the id of this boot of the machine; None where the kernel has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return None


@contextlib.contextmanager
def acting_for(name: str | None, detail: str | None = None) -> Iterator[None]:
    """Let what this thread does count as requested by a person or program; None: by the user of this process.

    `detail` identifies the request: a `RequestKey` as text.
    """
    name_token, detail_token = _REQUESTED_BY.set(name), _REQUEST_DETAIL.set(detail)
    try:
        yield
    finally:
        _REQUESTED_BY.reset(name_token)
        _REQUEST_DETAIL.reset(detail_token)


def request_detail() -> str | None:
    """Return what identifies the request for which this thread acts; None where it has no key."""
    return _REQUEST_DETAIL.get()


def user_name() -> str:
    """Return who requests what this thread does (see `acting_for`), by default the user of this process: `ann@host`.

    The name of the system user proves nothing.
    """
    if (name := _REQUESTED_BY.get()) is not None:
        return name
    import pwd  # imported for this text alone

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return f"{name}@{os.uname().nodename}"
