"""The sockets by which agents reach the owner of their run through ssh: one for each agent, until it has connected."""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import suppress
from typing import Final

_FOLDER: Final = "/tmp"  # on each machine, with short paths
_NAME: Final = re.compile(r"lightflow-[0-9a-f]{12}\.sock\Z")
_OLD_S: Final = 600.0  # an agent connects in seconds


def socket_path(agent_id: str) -> str:
    """Return the path of the socket of an agent."""
    return f"{_FOLDER}/lightflow-{agent_id}.sock"


def remove_old_sockets() -> None:
    """Remove the sockets of this user to which no agent has connected: what starts agents was killed."""
    with suppress(OSError), os.scandir(_FOLDER) as entries:
        for entry in entries:
            if _NAME.match(entry.name):
                with suppress(OSError):  # another agent has removed it
                    if _is_old(entry.stat(follow_symlinks=False)):
                        os.unlink(entry.path)


def _is_old(status: os.stat_result) -> bool:
    is_own_socket = stat.S_ISSOCK(status.st_mode) and status.st_uid == os.getuid()
    return is_own_socket and time.time() - status.st_mtime > _OLD_S
