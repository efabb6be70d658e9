"""The limits of the declaration of a cluster: the names of machines, and the length of the lease."""

from __future__ import annotations

from typing import Final

#: A machine for ssh, and how many tasks run there at once. The name cannot be an option of ssh.
HOST_PATTERN: Final = r"([A-Za-z0-9_][A-Za-z0-9_.@-]{0,252})(?::([1-9][0-9]{0,5}))?"
#: Seconds: a shorter lease ends tasks that a busy machine still runs well.
LEAST_LEASE_S: Final = 2.0
MOST_LEASE_S: Final = 3600.0
