"""The instants of a schedule: one function serves the preview, the scheduler and the checks. Pure but for time zones.

The rule at changes of the clock is that of Debian's cron. An expression without `*` in its minute and its hour means
the time that a clock on the wall shows: in a gap it comes once, at the first moment after the gap, and in a repeated
hour once, the first time. With a `*` there it means real time: instants in a gap do not exist, and those of a repeated
hour come twice. Instants of a gap that coincide after it are one.

An instant is a number of epoch seconds, UTC.
"""

from __future__ import annotations

import datetime
import heapq
import itertools
import os
import re
import zoneinfo
from collections.abc import Iterator
from typing import Any, Final

from cronsim import CronSim, CronSimError

from lightflow.text import did_you_mean, quoted
from liteflow import Schedule
from liteflow.api import Record, sha256_hex

#: Words that replace a cron expression.
NICKNAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
#: A moment in spring: by it two instants are compared to find out how long an interval is at least.
_SAMPLE: Final = 1_775_000_000.0
_SAMPLE_SIZE: Final = 50
_NO_TIME: Final = datetime.timedelta(0)
_MINUTE: Final = datetime.timedelta(minutes=1)
_LOCAL_ZONE_FILE: Final = "/etc/localtime"
_NAMES_OF_UTC: Final = frozenset({"Etc/UTC", "Etc/UCT", "Etc/Universal", "Etc/Zulu", "UCT", "Universal", "Zulu"})


class ScheduleClock(Record):
    """A schedule that is ready to compute instants."""

    schedule: Schedule
    zone: datetime.tzinfo
    zone_name: str
    start: float | None
    end: float | None

    def after(self, moment: float) -> Iterator[float]:
        """Yield the instants after a moment, in order."""
        start = self.start if self.start is not None else moment
        instants = self._intervals(moment) if self.schedule.every is not None else self._cron(max(moment, start - 1))
        for instant in instants:
            if self.end is not None and instant > self.end:
                return
            if (self.start is None or instant >= self.start) and instant > moment:
                yield instant

    def next_after(self, moment: float) -> float | None:
        """Return the first instant after a moment; None if there is none."""
        return next(self.after(moment), None)

    def delay(self, trigger_id: str, instant: float) -> float:
        """Return how much later than the instant its run starts: the same for each computation."""
        if not self.schedule.jitter:
            return 0.0
        fraction = int(sha256_hex(f"{trigger_id} {instant:.6f}".encode())[:12], 16) / 16**12
        return fraction * self.schedule.jitter

    def _intervals(self, moment: float) -> Iterator[float]:
        every, first = float(self.schedule.every or 0), self.start or 0.0
        number = max(0, int((moment - first) // every))
        while True:
            yield first + number * every
            number += 1

    def _cron(self, moment: float) -> Iterator[float]:
        """Yield the instants of the expression after a moment."""
        expression = expression_of(self.schedule)
        wall_time = _is_wall_time(expression)
        begin = self.local(moment).replace(tzinfo=None) - self._setback(moment)
        last, second_pass = moment, list[float]()
        for time in CronSim(expression, begin):  # without a zone: times on the wall
            first, second = self._passes(time)
            if first is None and not wall_time:
                continue
            instant = self._end_of_gap(time) if first is None else first
            for due in [*heapq.merge([each for each in second_pass if each <= instant], [instant])]:
                if due > last:
                    last = due
                    yield due
            second_pass = [each for each in second_pass if each > instant]
            if second is not None and not wall_time:
                second_pass.append(second)

    def _setback(self, moment: float) -> datetime.timedelta:
        """Return by how much the clock is set back within the next day; times in that length can come again."""
        offsets = [self.local(moment + hours * 3600).utcoffset() or _NO_TIME for hours in (0, 26)]
        return max(offsets[0] - offsets[1], _NO_TIME)

    def _passes(self, time: datetime.datetime) -> tuple[float | None, float | None]:
        """Return when a time on the wall comes, and when it comes again; None for no instant."""
        instants = [time.replace(tzinfo=self.zone, fold=fold).timestamp() for fold in (0, 1)]
        if instants[0] == instants[1]:
            return instants[0], None
        if self.local(instants[0]).replace(tzinfo=None) != time:
            return None, None
        return instants[0], instants[1]

    def _end_of_gap(self, time: datetime.datetime) -> float:
        """Return the first moment after the gap that a time on the wall is in."""
        while (instant := self._passes(time)[0]) is None:
            time = time.replace(second=0) + _MINUTE
        return instant

    def local(self, instant: float) -> datetime.datetime:
        """Return an instant as a time in the zone of the schedule."""
        return datetime.datetime.fromtimestamp(instant, self.zone)


def expression_of(schedule: Schedule) -> str:
    """Return the cron expression of a schedule, its nickname replaced."""
    text = " ".join((schedule.cron or "").split())
    return NICKNAMES.get(text.lower(), text)


def _is_wall_time(expression: str) -> bool:
    minute, hour = expression.split()[:2]
    return not minute.startswith("*") and not hour.startswith("*")


def clock_of(schedule: Schedule) -> ScheduleClock:
    """Return a schedule that is ready to compute instants.

    Raises:
        ValueError: it has a mistake (see `schedule_problems`).
    """
    for key, message in schedule_problems(schedule):
        raise ValueError(f"{key} {message}")
    zone, name = zone_of(schedule)
    return ScheduleClock(
        schedule=schedule,
        zone=zone,
        zone_name=name,
        start=None if schedule.start is None else _moment(schedule.start, zone),
        end=None if schedule.end is None else _moment(schedule.end, zone),
    )


def zone_of(schedule: Schedule) -> tuple[datetime.tzinfo, str]:
    """Return the time zone of a schedule and its name.

    Raises:
        ValueError: there is no zone of that name.
    """
    if schedule.timezone is None:
        return local_zone()
    try:
        return zoneinfo.ZoneInfo(schedule.timezone), schedule.timezone
    except (KeyError, ValueError, OSError):
        near = did_you_mean(schedule.timezone, sorted(zoneinfo.available_timezones()))
        raise ValueError(f"there is no time zone {quoted(schedule.timezone)}{near}") from None


def local_zone() -> tuple[datetime.tzinfo, str]:
    """Return the time zone of this machine and its name."""
    names = [os.environ.get("TZ", "").lstrip(":")]
    target = os.path.realpath(_LOCAL_ZONE_FILE)
    if "zoneinfo/" in target:
        names.append(target.rpartition("zoneinfo/")[2].removeprefix("posix/").removeprefix("right/"))
    for name in names:
        if name:
            try:
                return zoneinfo.ZoneInfo(name), "UTC" if name in _NAMES_OF_UTC else name
            except (KeyError, ValueError, OSError):
                pass
    if not names[0] and os.path.isfile(_LOCAL_ZONE_FILE):
        with open(_LOCAL_ZONE_FILE, "rb") as file:
            return zoneinfo.ZoneInfo.from_file(file, key="local"), "local"
    return datetime.UTC, "UTC"


def _moment(text: str, zone: datetime.tzinfo) -> float:
    """Return the epoch seconds of a date or time; without an offset it is in the zone.

    Raises:
        ValueError: it is not a date or time.
    """
    moment = datetime.datetime.fromisoformat(text)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)).timestamp()


def schedule_problems(schedule: Schedule) -> Iterator[tuple[str, str]]:
    """Yield the mistakes in the times of a schedule: the key, and a sentence."""
    zone: datetime.tzinfo = datetime.UTC
    try:
        zone = zone_of(schedule)[0]
    except ValueError as error:
        yield "timezone", str(error)
    bounds: dict[str, float] = {}
    for key in ("start", "end"):
        text = getattr(schedule, key)
        try:
            if text is not None:
                bounds[key] = _moment(text, zone)
        except ValueError:
            yield key, f"must be a date or time such as 2026-12-01 or 2026-12-01T08:30, not {quoted(text)}"
    if len(bounds) == 2 and bounds["end"] <= bounds["start"]:
        yield "end", f"{quoted(schedule.end)} is not after the start, {quoted(schedule.start)}"
    if schedule.cron is not None:
        message = _cron_problem(schedule)
        if message:
            yield "cron", message
            return
    if not schedule.jitter:
        return  # the shortest interval takes longer to find than all else takes to read a small file
    interval = schedule.every if schedule.every is not None else _shortest_interval(schedule)
    if interval is not None and schedule.jitter >= interval:
        yield "jitter", f"must be shorter than the time between two instants, which is {interval:g} s"


#: The fields of a cron expression, as the parser names them, and what can be in them besides lists, ranges and steps.
_FIELDS: Final = {
    "minute": "* or 0 to 59",
    "hour": "* or 0 to 23",
    "day-of-month": "* or 1 to 31, or L for the last day",
    "month": "* or 1 to 12, or JAN to DEC",
    "day-of-week": "* or 0 to 7, or SUN to SAT",
}


def _cron_problem(schedule: Schedule) -> str:
    """Return what is wrong with a cron expression; empty if nothing is."""
    text = " ".join((schedule.cron or "").split())
    expression = NICKNAMES.get(text.lower(), text)
    if text.lower() == "@reboot":
        return '"@reboot" is not supported: a schedule has instants; start the run from the start of the system instead'
    if expression.startswith("@"):
        return f"{quoted(text)} is unknown{did_you_mean(text.lower(), NICKNAMES)}; it can be {', '.join(NICKNAMES)}"
    fields = expression.split()
    if len(fields) == 6:
        return f"{quoted(text)} has six fields, and cron has no seconds: write `every: 10s` for short intervals"
    if len(fields) != 5:
        fields_of_cron = ", ".join(_FIELDS).replace("-", " ")
        return f'{quoted(text)} must have five fields: {fields_of_cron}; "30 4 * * *" is each day at 04:30'
    try:
        first = next(CronSim(expression, datetime.datetime.fromtimestamp(_SAMPLE, datetime.UTC)), None)
    except CronSimError as error:
        field = re.sub(r"^Bad ", "", str(error))
        if field == "day-of-month" and _fits_alone(fields[2]):
            return f"{quoted(text)} never comes: the months have no such day"
        return f"{quoted(text)} has a mistake in its {field.replace('-', ' ')}, which can be {_FIELDS[field]}"
    return "" if first is not None else f"{quoted(text)} never comes: the months have no such day"


def _fits_alone(day: str) -> bool:
    """Return whether a day of the month is valid in some month."""
    try:
        CronSim(f"0 0 {day} * *", datetime.datetime.fromtimestamp(_SAMPLE, datetime.UTC))
    except CronSimError:
        return False
    return True


def _shortest_interval(schedule: Schedule) -> float | None:
    """Return the shortest time between neighbours of some instants of a cron expression."""
    if schedule.cron is None:
        return None
    times = CronSim(expression_of(schedule), datetime.datetime.fromtimestamp(_SAMPLE, datetime.UTC))
    instants = [time.timestamp() for time, _ in zip(times, range(_SAMPLE_SIZE), strict=False)]
    return min((later - earlier for earlier, later in itertools.pairwise(instants)), default=None)


def instant_key(instant: float) -> str:
    """Return the text by which an instant is stored: the time in UTC."""
    moment = datetime.datetime.fromtimestamp(instant, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{moment.microsecond:06}" if moment.microsecond else "") + "Z"


def instant_of(key: str) -> float:
    """Return the instant of such a text. Raises ValueError."""
    return datetime.datetime.fromisoformat(key).timestamp()


def in_words(trigger: Any) -> str:
    """Return a trigger in few words, for tables and messages."""
    if isinstance(trigger, Schedule):
        times = f"cron {trigger.cron}" if trigger.cron is not None else f"every {_length(trigger.every or 0)}"
        return times + (f" {trigger.timezone}" if trigger.timezone else "")
    if hasattr(trigger, "path"):
        return f"file {trigger.path}"
    if hasattr(trigger, "scheme"):
        return f"webhook ({trigger.scheme})"
    if not hasattr(trigger, "all"):
        return "on request"
    joined = (" and " if trigger.all else " or ").join(trigger.name)
    return f"after {joined}"


def _length(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"
