"""The slots of a cluster, which the lanes of a run share: tasks with other resources have a lane of their own.

There never are more slots than the cluster may have. A slot that a lane gives back goes to another lane when its placer
has said that it no longer exists, so the lanes together keep the limit at every moment.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from liteflow.executors.outcome_queue import OutcomeQueue
from liteflow.remote.fleet import Fleet

_IDLE_S: Final = 10.0  # slots that are not used for so long are given back
_CHECK_S: Final = 5.0  # slots that no machine has given for so long go to lanes that need them
_CHECKS_IN_A_TURN: Final = 6  # then another lane is the first, and each requests again what it did not get


class LaneSlots:
    """The slots of one lane: how many its placer has to bring, and how many attempts it may have."""

    def __init__(self, cluster: ClusterSlots, fleet: Fleet, outcomes: OutcomeQueue, attempts: Collection[int]) -> None:
        """Take what belongs to the lane; `attempts` are those that were submitted."""
        self.waiting = 0  # attempts that are not submitted, because there is no slot
        self.share = 0  # of the slots of the cluster
        self.cap: int | None = None  # no machine gives it another now, so others come first; None: no cap
        self.existing = 0  # at most: those that the placer has, or is to have
        self._held_count = 0  # those that a machine has given
        self._missing_since = math.inf  # when the number that is missing has changed last; monotonic
        self._is_idle_over = False
        self._shrinks = False
        self._cluster = cluster
        self._fleet = fleet
        self._outcomes = outcomes
        self._attempts = attempts
        cluster.join(self)

    @property
    def used(self) -> int:
        """How many attempts there are: they keep their slots."""
        return len(self._attempts)

    @property
    def needed(self) -> int:
        """How many slots the lane can use."""
        return len(self._attempts) + self.waiting

    @property
    def target(self) -> int:
        """How many slots the lane has by its share, and because attempts keep theirs."""
        return max(self.share, len(self._attempts))

    @property
    def idle(self) -> int:
        """How many slots more the lane keeps for a while, if no other lane needs them."""
        return 0 if self._is_idle_over else max(0, self._fleet.wanted - self.target)

    @property
    def room(self) -> int:
        """How many attempts more the lane may have."""
        return self._cluster.most_of(self) - len(self._attempts)

    def adjust(self) -> None:
        """Have as many slots as are needed."""
        self._cluster.adjust()

    def want_all(self) -> None:
        """Have as many slots as there can be, until `waiting` is set again."""
        self.waiting = self._cluster.most
        self.adjust()

    def have(self, count: int) -> None:
        """Have the placer bring so many slots. Those that the lane does not need are given back after a while."""
        if count > self._fleet.wanted:
            self.existing = max(self.existing, count)
            self._missing_since = math.inf  # until the placer, which may just start, has answered
        self._fleet.want(count)
        if count > self.target and not self._shrinks:
            self._shrinks = True
            self.later(_IDLE_S, self._shrink)

    def _shrink(self) -> None:
        self._shrinks, self._is_idle_over = False, True
        self._cluster.share_out()
        self._is_idle_over = False

    def later(self, pause_s: float, callback: Callable[[], None]) -> None:
        """Call back after a pause."""
        self._outcomes.at(time.monotonic() + pause_s, callback)

    def note(self, existing: int, held: int) -> None:
        """Note how many slots the placer has, and how many of them a machine has given."""
        if held != self._held_count or self._missing_since == math.inf:
            self._missing_since = time.monotonic()
        if held > self._held_count:
            self.cap = None
        self.existing, self._held_count = max(existing, self._fleet.wanted), held
        self._cluster.share_out()

    def check(self) -> None:
        """Let others have the slots first that no machine has given for a while."""
        if self.existing > self._held_count and time.monotonic() - self._missing_since >= _CHECK_S:
            self.cap = self._held_count

    def request_again(self) -> None:
        """Request a slot beyond those that machines have given."""
        if self.cap is not None:
            self.cap = self._held_count + 1

    def leave(self) -> None:
        """Leave the slots to other lanes: the run has ended."""
        self._cluster.leave(self)


class ClusterSlots:
    """The slots of a cluster: how many each lane has.

    All have the same number, as far as they need them. Slots that no machine gives, such as those with a resource that
    all workers lack, go to lanes that can use them; those that do not have them request them again from time to time.
    """

    def __init__(self, most: int) -> None:
        """Take the most slots that there are at any time."""
        self.most = most
        self._lanes: list[LaneSlots] = []  # the first has a slot that cannot be divided
        self._needs: list[tuple[int, int]] = []  # of each lane, when they were shared out last
        self._checks = 0
        self._is_checking = False

    def join(self, lane: LaneSlots) -> None:
        """Let a lane have slots."""
        self._lanes.append(lane)

    def leave(self, lane: LaneSlots) -> None:
        """Let a lane leave."""
        self._lanes.remove(lane)

    def most_of(self, lane: LaneSlots) -> int:
        """Return how many attempts a lane may have: its share, and what the others do not need."""
        return max(lane.share, self.most - sum(other.target for other in self._lanes if other is not lane))

    def adjust(self) -> None:
        """Share the slots out again if a lane needs more than before, or fewer: not in each turn of a run."""
        if self._needs != [(lane.waiting, lane.used) for lane in self._lanes]:
            self.share_out()

    def share_out(self) -> None:
        """Give each lane its slots. A lane that has too many gives them back when attempts end."""
        lanes, most = self._lanes, self.most
        self._needs = [(lane.waiting, lane.used) for lane in lanes]
        needs = [min(most, lane.needed) for lane in lanes]
        claims = [need if lane.cap is None else min(need, lane.cap) for lane, need in zip(lanes, needs, strict=True)]
        shares = fair_shares(most, claims)
        rest = fair_shares(most - sum(shares), [need - share for need, share in zip(needs, shares, strict=True)])
        for lane, share, rest_share in zip(lanes, shares, rest, strict=True):
            lane.share = share + rest_share
        idle, existing = most - sum(lane.target for lane in lanes), sum(lane.existing for lane in lanes)
        for lane in lanes:
            spare = max(0, min(idle, lane.idle))
            idle -= spare
            before = lane.existing
            lane.have(min(lane.target + spare, most - (existing - before)))
            existing += lane.existing - before
        if len(lanes) > 1 and sum(needs) > most and not self._is_checking:
            self._is_checking = True
            lanes[0].later(_CHECK_S, self._check)

    def _check(self) -> None:
        """Let lanes whose slots no machine gives leave them to others; from time to time they request them again."""
        self._is_checking = False
        self._checks += 1
        for lane in self._lanes:
            lane.check()
        if self._checks % _CHECKS_IN_A_TURN == 0:
            self._lanes.append(self._lanes.pop(0))
            for lane in self._lanes:
                lane.request_again()
        self.share_out()


def fair_shares(total: int, claims: Sequence[int]) -> list[int]:
    """Return how much of a number each claim gets: all the same, but no more than it is; the first gets the rest."""
    shares = [0] * len(claims)
    lacking = [place for place, claim in enumerate(claims) if claim]
    while lacking and total > 0:
        level = max(1, total // len(lacking))
        for place in lacking[:total]:
            extra = min(level, claims[place] - shares[place])
            shares[place] += extra
            total -= extra
        lacking = [place for place in lacking if shares[place] < claims[place]]
    return shares
