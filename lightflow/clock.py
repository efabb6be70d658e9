"""The clock of the machine, and the time since its start, which cannot be set."""

from __future__ import annotations

import time
from typing import NamedTuple


class ClockTimes(NamedTuple):
    """The seconds that both clocks of the machine show at a moment."""

    since_1970_s: float
    since_boot_s: float  #: also the time for which the machine was suspended

    @property
    def offset_s(self) -> float:
        """The difference of the two, which changes only when the clock is set."""
        return self.since_1970_s - self.since_boot_s


def read_clock() -> ClockTimes:
    """Return what the clocks show now."""
    return ClockTimes(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))
