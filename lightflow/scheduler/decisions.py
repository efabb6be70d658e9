"""Decide which instants of a schedule are due, late, missed or caught up. Pure: the time is an argument."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final

from lightflow.instants import ScheduleClock, instant_key, instant_of
from liteflow.api import NewFire, Record, RunRecord, TriggerRecord, sha256_hex

#: Until then a start is only late; later the instant is missed.
GRACE_S: Final = 300.0
#: Of a gap so many instants have rows of their own, and at most so many run later.
MAX_ROWS: Final = 100
#: So many instants of a gap are counted.
_MAX_COUNTED: Final = 10_000
#: A watermark so far in the future means that the clock was set back.
_CLOCK_SET_BACK_S: Final = 60.0
_LATE: Final = "no scheduler worked when it was due"


class Decision(Record):
    """The fires of a trigger up to now. CLAIMED and WAITING have a run: it starts at once, or in its turn."""

    fires: tuple[NewFire, ...]
    watermark: str  #: the key of the last instant that was decided
    next_at: float | None  #: when the next instant is due


def decide(row: TriggerRecord, clock: ScheduleClock, now: float, grace_s: float = GRACE_S) -> Decision:
    """Return the fires of a schedule that are due and were not decided before."""
    since = _watermark(row, now)
    due, older = _due(row, clock, since, now)
    next_instant = clock.next_after(due[-1] if due else since)
    next_at = None if next_instant is None else next_instant + clock.delay(row.trigger_id, next_instant)
    on_time = [instant for instant in due if now - _due_at(row, clock, instant) <= grace_s]
    missed = due[: len(due) - len(on_time)]
    if row.problem is not None:
        on_time, missed = [], due
    run_later = [] if row.problem is not None else _caught_up(clock.schedule.catchup, missed, bool(on_time), now)
    reason = row.problem or _LATE
    fires = [*_collapsed(row, older, missed[: -MAX_ROWS or None], reason)]
    later = set(run_later)
    for instant in missed[-MAX_ROWS:]:
        status, why = ("WAITING", "caught up") if instant in later else ("MISSED", reason)
        fires.append(_fire(row, clock, instant, status, why, now if instant in later else None))
    fires += [_fire(row, clock, instant, "CLAIMED", None, None) for instant in on_time]
    return Decision(fires=tuple(fires), watermark=instant_key(due[-1]) if due else instant_key(since), next_at=next_at)


def _watermark(row: TriggerRecord, now: float) -> float:
    """Return the last decided instant; the present where it is missing or the clock was set back since.

    An instant that comes again then has a fire with its key already, which prevents a second one.
    """
    try:
        since = instant_of(row.watermark or "")
    except ValueError:
        return now
    return now if since > now + _CLOCK_SET_BACK_S else since


def _due_at(row: TriggerRecord, clock: ScheduleClock, instant: float) -> float:
    return instant + clock.delay(row.trigger_id, instant)


def _due(row: TriggerRecord, clock: ScheduleClock, since: float, now: float) -> tuple[list[float], list[float]]:
    """Return the newest instants that are due, and the first of those before them (see `_MAX_COUNTED`)."""
    window = 2 * GRACE_S
    begin = since
    while True:
        begin = max(since, now - window)
        instants = list(itertools.takewhile(lambda instant: _due_at(row, clock, instant) <= now, clock.after(begin)))
        if begin <= since or len(instants) > MAX_ROWS:
            break
        window *= 4
    older = itertools.takewhile(lambda instant: instant <= begin, clock.after(since)) if begin > since else iter(())
    return instants, list(itertools.islice(older, _MAX_COUNTED + 1))


def _caught_up(catchup: bool | str | float, missed: Sequence[float], is_newer_due: bool, now: float) -> list[float]:
    """Return the missed instants that run later."""
    if catchup is False:
        return []
    if catchup is True:
        return list(missed[-MAX_ROWS:])
    if catchup == "latest":
        return [] if is_newer_due else list(missed[-1:])
    return [instant for instant in missed[-MAX_ROWS:] if now - instant <= float(catchup)]


def _collapsed(row: TriggerRecord, first: Sequence[float], rest: Sequence[float], reason: str) -> Iterator[NewFire]:
    """Yield the fire that represents the older instants of a gap, if there are some."""
    older = [*first, *rest]
    if not older:
        return
    number = f"more than {_MAX_COUNTED:,}" if len(first) > _MAX_COUNTED else f"{len(older):,}"
    begin, end = instant_key(older[0]), instant_key(rest[-1] if rest else older[-1])
    yield NewFire(
        trigger_id=row.trigger_id,
        key=f"{begin}/{end}",
        at=older[0],
        due_at=older[0],
        status="MISSED",
        reason=f"{reason}: {number} instants from {begin} to {end}",
    )


def _fire(
    row: TriggerRecord, clock: ScheduleClock, instant: float, status: str, reason: str | None, due_at: float | None
) -> NewFire:
    key = instant_key(instant)
    return NewFire(
        trigger_id=row.trigger_id,
        key=key,
        at=instant,
        due_at=_due_at(row, clock, instant) if due_at is None else due_at,
        status=status,
        run_id=run_id_of(row.trigger_id, key, instant) if status in ("CLAIMED", "WAITING") else None,
        params=clock.schedule.params,
        reason=reason,
    )


def run_id_of(trigger_id: str, key: str, moment: float) -> str:
    """Return the id of the run of a fire: it sorts by time, and is the same on every machine."""
    time = instant_key(moment)[:19].replace("-", "").replace(":", "")
    return f"{time}-{sha256_hex(f'{trigger_id} {key}'.encode('utf-8', 'surrogatepass'))[:12]}"


def fork_id(origin: RunRecord, key: str) -> str:
    """Return the id of the fork of a run by a request with a key: always the same, so that there is one such run."""
    return run_id_of(f"fork {origin.run_id}", key, origin.created_at)
