"""The times of waits: when each is polled next, and when its time is over.

A poll is due when one of two clocks has reached its time: the monotonic one, so that a clock which is set back does not
lengthen a pause, or that of the wall, which continues while the machine sleeps. Deadlines are epoch seconds, because
they outlive processes.
"""

from __future__ import annotations

import heapq
from math import inf
from typing import Final, NamedTuple

from liteflow.running.ports import Clock

_JUMP_S: Final = 0.5  # the clocks have moved so far apart: one was set, or the machine slept
#: Waits with the same pause are polled together when they are due within this part of it, and within this time.
_EARLY_PART: Final = 0.1
_EARLIEST_S: Final = 1.0


class _Moment(NamedTuple):
    """The time of a poll on both clocks, and the pause before it."""

    monotonic: float
    epoch: float
    pause_s: float


class WaitTimes:
    """When the waits of a plan are looked at, by node."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.time() - clock.monotonic()  # of the clocks, when the heap was made
        self._moments: dict[int, _Moment] = {}
        self._deadlines: dict[int, float] = {}
        self._polls: list[tuple[float, int]] = []  # a heap of monotonic seconds; as far as it agrees with `_moments`
        self._ends: list[tuple[float, int]] = []  # a heap of epoch seconds; as far as it agrees with `_deadlines`

    def set_poll(self, node: int, pause_s: float | None) -> None:
        """Poll a wait after a pause; None: do not poll it."""
        if pause_s is None:
            self._moments.pop(node, None)
            return
        moment = _Moment(self._clock.monotonic() + pause_s, self._clock.time() + pause_s, pause_s)
        self._moments[node] = moment
        heapq.heappush(self._polls, (moment.monotonic, node))

    def set_deadline(self, node: int, epoch_s: float) -> None:
        """Note when the time of a wait is over."""
        if epoch_s < inf:
            self._deadlines[node] = epoch_s
            heapq.heappush(self._ends, (epoch_s, node))

    def remove(self, node: int) -> None:
        """Forget a wait."""
        self._moments.pop(node, None)
        self._deadlines.pop(node, None)

    def poll_at(self, node: int) -> float | None:
        """Return the epoch second of the next poll of a wait; None: it is not polled, or a poll is under way."""
        moment = self._moments.get(node)
        return None if moment is None else moment.epoch

    def first_epoch(self) -> float | None:
        """Return the epoch second of the next poll or deadline; None: there is none."""
        epochs = [*self._deadlines.values(), *(moment.epoch for moment in self._moments.values())]
        return min(epochs, default=None)

    def next_at(self) -> float | None:
        """Return the monotonic second of the next poll or deadline; None: there is none."""
        self._drop_old()
        seconds = [self._polls[0][0]] if self._polls else []
        if self._ends:
            seconds.append(self._clock.monotonic() + max(0.0, self._ends[0][0] - self._clock.time()))
        return min(seconds, default=None)

    def is_overdue(self) -> bool:
        """Return whether the time of a wait is over."""
        self._drop_old()
        return bool(self._ends) and self._ends[0][0] <= self._clock.time()

    def take_overdue(self) -> list[int]:
        """Return, once, the waits whose time is over."""
        nodes = []
        while self.is_overdue():
            node = heapq.heappop(self._ends)[1]
            del self._deadlines[node]
            nodes.append(node)
        return nodes

    def take_due(self) -> list[int]:
        """Return, once, the waits that are polled now. Those of the same pause that are due soon are among them.

        Thus waits that began at different times are polled together from then on.
        """
        now = self._clock.monotonic()
        self._follow_clock(now)
        self._drop_old()
        if not self._polls or self._polls[0][0] > now:
            return []
        nodes, pauses, later = list[int](), set[float](), list[tuple[float, int]]()
        while self._polls and self._polls[0][0] <= now + _EARLIEST_S:
            second, node = heapq.heappop(self._polls)
            moment = self._moments.get(node)
            if moment is None or moment.monotonic != second:
                continue
            if second <= now:
                pauses.add(moment.pause_s)
            elif moment.pause_s not in pauses or second > now + _EARLY_PART * moment.pause_s:
                later.append((second, node))
                continue
            del self._moments[node]
            nodes.append(node)
        for entry in later:
            heapq.heappush(self._polls, entry)
        return nodes

    def _drop_old(self) -> None:
        while self._polls and not self._is_next(*self._polls[0]):
            heapq.heappop(self._polls)
        while self._ends and self._deadlines.get(self._ends[0][1]) != self._ends[0][0]:
            heapq.heappop(self._ends)

    def _is_next(self, second: float, node: int) -> bool:
        moment = self._moments.get(node)
        return moment is not None and moment.monotonic == second

    def _follow_clock(self, now: float) -> None:
        """Bring polls forward whose time has come by the clock of the wall alone."""
        offset = self._clock.time() - now
        if abs(offset - self._offset) < _JUMP_S:
            return
        self._offset = offset
        for node, moment in self._moments.items():
            self._moments[node] = moment._replace(monotonic=min(moment.monotonic, moment.epoch - offset))
        self._polls = [(moment.monotonic, node) for node, moment in self._moments.items()]
        heapq.heapify(self._polls)
