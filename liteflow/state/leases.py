"""How long the attempts that a dead owner had on clusters may still run.

Agents end what they have started when their link to the owner ends, and at the latest when their lease is over (see
docs/adr/0069). A link that ends with its process ends at once; that of a machine that has stopped does not.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any, Final

from liteflow.state.process_identity import boot_id

#: From the end of a link or a lease to the end of the last process.
_SWEEP_S: Final = 1.0


def seconds_left(settings: str, host: str | None, boot: str | None) -> float:
    """Return for how many seconds far attempts of an owner on this host and boot may run, if it died just now.

    `settings` are those of its run (JSON), with the leases of its clusters; without clusters there are 0 seconds.
    """
    lease_s = _longest_lease_s(settings)
    if lease_s is None:
        return 0.0
    if (host, boot) == (os.uname().nodename, boot_id()):
        return _SWEEP_S
    if host == os.uname().nodename:  # it died before this machine was started
        return max(0.0, lease_s + _SWEEP_S - time.clock_gettime(time.CLOCK_BOOTTIME))
    return lease_s + _SWEEP_S


def _longest_lease_s(settings: str) -> float | None:
    """Return the longest lease of the clusters in stored settings; None: there are none, or the text was altered."""
    try:
        stored: Any = json.loads(settings)
    except (ValueError, RecursionError):
        return None
    clusters = stored.get("clusters") if isinstance(stored, dict) else None
    leases = [
        float(cluster["lease_s"])
        for cluster in (clusters.values() if isinstance(clusters, Mapping) else ())
        if isinstance(cluster, Mapping) and isinstance(cluster.get("lease_s"), int | float)
    ]
    return max(leases, default=None)
