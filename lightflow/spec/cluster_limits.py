"""The limits of the declaration of a cluster: the names of machines, addresses, slots and the length of the lease."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

#: The kinds of clusters, which are modes of the command line if it names the machines.
KINDS: Final = ("ssh", "dask")
#: A machine for ssh, or its address of IPv6 in brackets, and how many tasks run there at once. The name cannot be an
#: option of ssh.
HOST_PATTERN: Final = (
    r"([A-Za-z0-9_][A-Za-z0-9_.@-]{0,252}|(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}@)?\[[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9]+)?\])"
    r"(?::([1-9][0-9]{0,5}))?"
)
ONCE: Final = "list a machine once, with all of its slots"
#: The address of the scheduler of a Dask cluster: its machine and its port.
SCHEDULER_PATTERN: Final = r"(?:tcp|tls)://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})"
#: How many tasks run at once on a Dask cluster, at most, where its declaration does not say it.
DEFAULT_DASK_SLOTS: Final = 64
#: Seconds: a shorter lease ends tasks that a busy machine still runs well.
LEAST_LEASE_S: Final = 2.0
MOST_LEASE_S: Final = 3600.0


def is_below(path: str) -> bool:
    """Return whether a path is relative to a folder, and in it."""
    return bool(path) and not os.path.isabs(path) and os.pardir not in os.path.normpath(path).split(os.sep)


def repeated_hosts(hosts: Sequence[str]) -> list[int]:
    """Return the places of hosts whose names are in the list before."""
    names = [match[1] if (match := re.fullmatch(HOST_PATTERN, host)) else host for host in hosts]
    return [place for place, name in enumerate(names) if name in names[:place]]
