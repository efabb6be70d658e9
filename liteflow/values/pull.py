"""Values of other tasks for a task on another machine: they come from the owner of the run, by way of the agent."""

from __future__ import annotations

import os
import socket
from typing import Any, Final

from liteflow.errors import StoreError
from liteflow.processes.frames import FrameReader, pack
from liteflow.values.payload import Payload

#: The socket of an agent in its folder.
SOCKET_NAME: Final = "pulls.sock"
_CHUNK: Final = 65536


def bound_address(folder: str) -> tuple[str, int]:
    """Return the address of the socket in a folder and a descriptor to close: the path itself may be too long."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{descriptor}/{SOCKET_NAME}", descriptor


def pull(folder: str, task_id: str, key: str, map_index: int) -> Payload | None:
    """Return a value that another task has stored, from the owner of the run; None: there is none.

    Raises:
        StoreError: the owner cannot read it, or there is no way to the owner.
    """
    address, descriptor = bound_address(folder)
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(address)
            sock.sendall(pack((task_id, key, map_index)))
            payload, problem = _answer(sock)
    except OSError as error:
        raise StoreError(f"the value of task {task_id!r} cannot be pulled: {error.strerror or error}") from None
    finally:
        os.close(descriptor)
    if problem is not None:
        raise StoreError(problem)
    return None if payload is None else Payload._make(payload)


def _answer(sock: socket.socket) -> tuple[Any, str | None]:
    reader = FrameReader()
    while data := sock.recv(_CHUNK):
        reader.feed(data)
        for answer in reader.take():
            return answer[0], answer[1]
    raise ConnectionError("the agent of this machine has ended")
