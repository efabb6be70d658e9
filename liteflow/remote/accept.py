"""Accept connections where this process may have no descriptor left."""

from __future__ import annotations

import errno
import socket
from typing import Final

from liteflow.errors import ResourceError
from liteflow.executors.outcome_queue import OutcomeQueue

_PAUSE_S: Final = 0.5
_USED_UP: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def accept(listening: socket.socket, outcomes: OutcomeQueue) -> socket.socket | None:
    """Return the next connection to a socket that `outcomes` watches; None: it has gone already.

    Raises:
        ResourceError: there is no descriptor for it. It waits, and the socket is not watched for a moment: else it
            would be readable all the time.
    """
    try:
        return listening.accept()[0]
    except OSError as error:
        if error.errno not in _USED_UP:
            return None
        outcomes.pause(listening.fileno(), _PAUSE_S)
        raise ResourceError(f"{error.strerror} (see ulimit -n)") from None
