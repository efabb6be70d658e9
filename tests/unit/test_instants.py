"""The instants of schedules: the rule at changes of the clock, intervals, bounds, and every mistake."""

from __future__ import annotations

import datetime
import itertools
import random
import zoneinfo
from collections.abc import Iterator

import pytest

from lightflow.instants import ScheduleClock, clock_of, instant_key, instant_of, local_zone, schedule_problems
from liteflow import Schedule

UTC = datetime.UTC
MINUTE = datetime.timedelta(minutes=1)
NEW_YORK, BERLIN, LORD_HOWE = "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"


def moment(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


def fires(expression: str, zone: str, begin: str, end: str) -> list[str]:
    """Return the instants between two local times, with their offset."""
    clock = clock_of(Schedule(cron=expression, timezone=zone))
    info = zoneinfo.ZoneInfo(zone)
    first = datetime.datetime.fromisoformat(begin).replace(tzinfo=info).timestamp() - 1
    last = datetime.datetime.fromisoformat(end).replace(tzinfo=info).timestamp()
    instants = itertools.takewhile(lambda instant: instant < last, clock.after(first))
    return [f"{clock.local(instant):%d %H:%M%z}" for instant in instants]


CASES = [
    # expression, zone, from, until, instants
    ("30 2 * * *", NEW_YORK, "2026-03-08", "2026-03-09", ["08 03:00-0400"]),
    ("0 3 * * *", NEW_YORK, "2026-03-08", "2026-03-09", ["08 03:00-0400"]),
    ("30 1 * * *", NEW_YORK, "2026-11-01", "2026-11-02", ["01 01:30-0400"]),
    ("0 * * * *", NEW_YORK, "2026-11-01", "2026-11-01T03:00",
     ["01 00:00-0400", "01 01:00-0400", "01 01:00-0500", "01 02:00-0500"]),
    ("*/30 * * * *", NEW_YORK, "2026-03-08T01:30", "2026-03-08T03:30", ["08 01:30-0500", "08 03:00-0400"]),
    ("*/30 1 * * *", NEW_YORK, "2026-11-01", "2026-11-02",
     ["01 01:00-0400", "01 01:30-0400", "01 01:00-0500", "01 01:30-0500"]),
    ("0,30 1-2 * * *", NEW_YORK, "2026-03-08", "2026-03-09", ["08 01:00-0500", "08 01:30-0500", "08 03:00-0400"]),
    ("30 2 * * *", BERLIN, "2026-03-29", "2026-03-30", ["29 03:00+0200"]),
    ("30 2 * * *", BERLIN, "2026-10-25", "2026-10-26", ["25 02:30+0200"]),
    ("0 2 * * *", BERLIN, "2026-10-25", "2026-10-26", ["25 02:00+0200"]),
    ("0 3 * * *", BERLIN, "2026-10-25", "2026-10-26", ["25 03:00+0100"]),
    ("0 */2 * * *", BERLIN, "2026-03-29", "2026-03-29T05:00", ["29 00:00+0100", "29 04:00+0200"]),
    ("30 1 * * *", "Europe/London", "2026-03-29", "2026-03-30", ["29 02:00+0100"]),
    ("*/15 2 * * *", "Europe/London", "2026-03-29", "2026-03-30",
     [f"29 02:{minute:02}+0100" for minute in (0, 15, 30, 45)]),
    ("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00", "2018-11-04T12:00", ["04 01:00-0200"]),
    ("0 1 4 11 *", "America/Sao_Paulo", "2018-11-01", "2018-12-01", ["04 01:00-0200"]),
    ("0 0 * * *", "America/Santiago", "2026-09-05T12:00", "2026-09-06T12:00", ["06 01:00-0300"]),
    ("30 23 * * *", "America/Santiago", "2026-04-04", "2026-04-05T12:00", ["04 23:30-0300"]),
    ("15 2 * * *", LORD_HOWE, "2026-10-04", "2026-10-05", ["04 02:30+1100"]),
    ("45 1 * * *", LORD_HOWE, "2026-04-05", "2026-04-06", ["05 01:45+1100"]),
    ("*/20 * * * *", LORD_HOWE, "2026-04-05T01:35", "2026-04-05T02:10",
     ["05 01:40+1100", "05 01:40+1030", "05 02:00+1030"]),
    ("0 9 * * *", "Pacific/Apia", "2011-12-29T10:00", "2012-01-01", ["31 00:00+1400", "31 09:00+1400"]),
    ("30 2 * * *", "Africa/Casablanca", "2026-02-15", "2026-02-16", ["15 02:30+0100"]),
    ("0 2 * * *", "Asia/Gaza", "2026-03-28", "2026-03-29", ["28 03:00+0300"]),
    ("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00", "2026-04-24T12:00", ["24 01:00+0300"]),
    ("30 0 * * *", "Asia/Beirut", "2026-03-28T12:00", "2026-03-29T12:00", ["29 01:00+0300"]),
    ("30 0 * * *", "America/Havana", "2026-10-31T12:00", "2026-11-01T12:00", ["01 00:30-0400"]),
    ("0 0 * * *", "America/Havana", "2026-03-07T12:00", "2026-03-08T12:00", ["08 01:00-0400"]),
    ("0 12 29 2 *", "UTC", "2026-01-01", "2033-01-01", ["29 12:00+0000", "29 12:00+0000"]),
    ("0 0 13 * 5", "UTC", "2026-11-01", "2026-12-01", [f"{day:02} 00:00+0000" for day in (6, 13, 20, 27)]),
    ("0 12 L * *", "UTC", "2027-01-01", "2027-04-01", ["31 12:00+0000", "28 12:00+0000", "31 12:00+0000"]),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "zone", "begin", "end", "expected"), CASES)
def test_changes_of_the_clock(expression: str, zone: str, begin: str, end: str, expected: list[str]) -> None:
    assert fires(expression, zone, begin, end) == expected


@pytest.mark.parametrize(
    ("expression", "zone", "begin", "end", "expected"), [case for case in CASES if case[1] != "UTC"]
)
def test_an_instant_does_not_depend_on_where_the_computation_starts(
    expression: str, zone: str, begin: str, end: str, expected: list[str]
) -> None:
    """Also from within a gap, and from within both passes of a repeated hour."""
    clock = clock_of(Schedule(cron=expression, timezone=zone))
    info = zoneinfo.ZoneInfo(zone)
    first, last = (datetime.datetime.fromisoformat(text).replace(tzinfo=info).timestamp() for text in (begin, end))
    if last - first > 2 * 86_400:
        first = last - 2 * 86_400
    instants = list(itertools.takewhile(lambda instant: instant < last, clock.after(first)))
    for start in range(int(first), int(last), 900):
        assert clock.next_after(start) == next((each for each in instants if each > start), clock.next_after(last - 1))


def test_an_interval_is_real_time() -> None:
    clock = clock_of(Schedule(every=3600, timezone=BERLIN))
    for day, count in (("2026-03-29", 23), ("2026-10-25", 25), ("2026-07-01", 24)):
        begin = datetime.datetime.fromisoformat(day).replace(tzinfo=clock.zone)
        end = (begin + datetime.timedelta(days=1)).timestamp()
        assert len([*itertools.takewhile(lambda t, end=end: t < end, clock.after(begin.timestamp() - 1))]) == count


def test_an_interval_counts_from_its_start_and_ends_at_its_end() -> None:
    clock = clock_of(Schedule(every=900, timezone="UTC", start="2026-12-01T00:05", end="2026-12-01T00:40"))
    assert [instant_key(instant) for instant in clock.after(0)] == [
        "2026-12-01T00:05:00Z", "2026-12-01T00:20:00Z", "2026-12-01T00:35:00Z",
    ]  # fmt: skip
    assert clock.next_after(moment("2026-12-01T00:20:00Z")) == moment("2026-12-01T00:35:00Z")
    without_start = clock_of(Schedule(every=7.5))
    assert list(itertools.islice(without_start.after(100), 2)) == [105.0, 112.5]


def test_a_cron_expression_has_its_bounds_too() -> None:
    clock = clock_of(Schedule(cron="0 8 * * *", timezone="UTC", start="2026-12-01T08:00", end="2026-12-03"))
    assert [instant_key(instant) for instant in clock.after(0)] == ["2026-12-01T08:00:00Z", "2026-12-02T08:00:00Z"]


def test_jitter_delays_by_a_fixed_amount_below_its_limit() -> None:
    clock = clock_of(Schedule(cron="0 * * * *", jitter=120))
    delays = [clock.delay("a:schedule", instant) for instant in itertools.islice(clock.after(0), 200)]
    assert all(0 <= delay < 120 for delay in delays)
    assert max(delays) > 100
    assert min(delays) < 20
    assert delays == [clock.delay("a:schedule", instant) for instant in itertools.islice(clock.after(0), 200)]
    assert clock.delay("b:schedule", 3600) != clock.delay("a:schedule", 3600)


# -- an oracle written apart from the library ---------------------------------------------------------------------


def field(text: str, low: int, high: int) -> set[int]:
    values: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if span == "*":
            numbers = range(low, high + 1)
        else:
            numbers = range(int(first), int(last or (high if step else first)) + 1)
        values |= set(numbers[:: int(step or 1)])
    return values


class Oracle:
    """Looks at each minute: of real time, or of the clock on the wall."""

    def __init__(self, expression: str, zone: datetime.tzinfo) -> None:
        minute, hour, day, month, weekday = expression.split()
        self.zone = zone
        self.minutes, self.hours = field(minute, 0, 59), field(hour, 0, 23)
        self.days, self.months = field(day, 1, 31), field(month, 1, 12)
        self.weekdays = {number % 7 for number in field(weekday, 0, 7)}
        self.both_days = day.startswith("*") or weekday.startswith("*")
        self.wall_time = not minute.startswith("*") and not hour.startswith("*")

    def matches(self, time: datetime.datetime) -> bool:
        by_day, by_weekday = time.day in self.days, time.isoweekday() % 7 in self.weekdays
        is_day = by_day and by_weekday if self.both_days else by_day or by_weekday
        return time.minute in self.minutes and time.hour in self.hours and time.month in self.months and is_day

    def instants(self, begin: float, end: float) -> list[float]:
        found = set(self.on_the_wall(begin, end) if self.wall_time else self.in_real_time(begin, end))
        return sorted(instant for instant in found if begin < instant < end)

    def in_real_time(self, begin: float, end: float) -> Iterator[float]:
        for instant in range(int(begin) // 60 * 60, int(end), 60):
            if self.matches(datetime.datetime.fromtimestamp(instant, self.zone).replace(tzinfo=None)):
                yield instant

    def on_the_wall(self, begin: float, end: float) -> Iterator[float]:
        time = datetime.datetime.fromtimestamp(begin - 172_800, self.zone).replace(tzinfo=None, second=0)
        last = datetime.datetime.fromtimestamp(end + 172_800, self.zone).replace(tzinfo=None)
        while time < last:
            if self.matches(time):
                yield self.first_moment_at_or_after(time)
            time += MINUTE

    def first_moment_at_or_after(self, time: datetime.datetime) -> float:
        while True:
            instant = time.replace(tzinfo=self.zone).timestamp()
            if datetime.datetime.fromtimestamp(instant, self.zone).replace(tzinfo=None) == time:
                return instant
            time += MINUTE


ZONES = [
    NEW_YORK, BERLIN, LORD_HOWE, "America/Havana", "Africa/Cairo", "America/Santiago", "Asia/Gaza", "Africa/Casablanca",
    "UTC",
]  # fmt: skip
EXPRESSIONS = [
    "*/7 * * * *", "17,43 0-3 * * *", "* 0 * * *", "*/20 1-2 * * *", "0 0 * * *", "59 23 * * 6,7", "5 */3 * * *",
    "30 2 29-31 * 0",
]  # fmt: skip


def transitions(zone: datetime.tzinfo, year: int) -> list[float]:
    """Return the instants of a year at which the offset changes."""
    begin = int(datetime.datetime(year, 1, 1, tzinfo=UTC).timestamp())
    offsets = [
        (t, datetime.datetime.fromtimestamp(t, zone).utcoffset()) for t in range(begin, begin + 366 * 86_400, 900)
    ]
    return [later[0] for earlier, later in itertools.pairwise(offsets) if earlier[1] != later[1]]


@pytest.mark.parametrize("name", ZONES)
def test_the_oracle_agrees_around_every_change_of_the_clock(name: str) -> None:
    zone = zoneinfo.ZoneInfo(name)
    for change in transitions(zone, 2026) or [moment("2026-06-01T00:00:00Z")]:
        begin, end = change - 40_000, change + 40_000
        for expression in EXPRESSIONS:
            clock = clock_of(Schedule(cron=expression, timezone=name))
            expected = Oracle(expression, zone).instants(begin, end)
            assert list(itertools.takewhile(lambda t, end=end: t < end, clock.after(begin))) == expected, expression


def test_the_oracle_agrees_for_random_expressions() -> None:
    rng = random.Random(20260308)
    names = sorted(zoneinfo.available_timezones())
    for _ in range(12):
        name = rng.choice(names)
        zone = zoneinfo.ZoneInfo(name)
        change = rng.choice(transitions(zone, rng.randrange(1990, 2030)) or [1.7e9])
        minute, hour = rng.choice(["*", "*/9", "30", "5-50/15", "0,59"]), rng.choice(["*", "*/2", "0-3", "2", "23,0,1"])
        expression = f"{minute} {hour} {rng.choice(['*', '1-15', '*/2'])} * {rng.choice(['*', '1-5', '0'])}"
        clock = clock_of(Schedule(cron=expression, timezone=name))
        begin, end = change - 30_000, change + 30_000
        expected = Oracle(expression, zone).instants(begin, end)
        actual = list(itertools.takewhile(lambda t, end=end: t < end, clock.after(begin)))
        assert actual == expected, (expression, name, change)


def test_the_oracle_notices_a_clock_without_the_rule() -> None:
    """A control: naive local times, as a simple scheduler computes them, differ."""
    zone = zoneinfo.ZoneInfo(BERLIN)
    change = moment("2026-03-29T01:00:00+00:00")
    naive = [change + 1800]  # 02:30 in winter time, which does not exist
    assert Oracle("30 2 * * *", zone).instants(change - 20_000, change + 20_000) != naive


# -- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "key", "words"),
    [
        (Schedule(cron="0 0 30 2 *"), "cron", "never comes"),
        (Schedule(cron="0 0 31 4,6 *"), "cron", "never comes"),
        (Schedule(cron="0 0 6 * * *"), "cron", "every: 10s"),
        (Schedule(cron="0 6 * *"), "cron", 'month, day of week; "30 4 * * *" is each day at 04:30'),
        (Schedule(cron=""), "cron", "must have five fields"),
        (Schedule(cron="61 6 * * *"), "cron", "mistake in its minute, which can be * or 0 to 59"),
        (Schedule(cron="0 24 * * *"), "cron", "mistake in its hour, which can be * or 0 to 23"),
        (Schedule(cron="0 0 32 * *"), "cron", "mistake in its day of month, which can be * or 1 to 31"),
        (Schedule(cron="0 0 * 13 *"), "cron", "mistake in its month, which can be * or 1 to 12, or JAN to DEC"),
        (Schedule(cron="0 6 * * MONDAY"), "cron", "its day of week, which can be * or 0 to 7, or SUN to SAT"),
        (Schedule(cron="@reboot"), "cron", "is not supported"),
        (Schedule(cron="@dayly"), "cron", 'did you mean "@daily"'),
        (Schedule(cron="@daily", timezone="Europe/Berln"), "timezone", 'did you mean "Europe/Berlin"'),
        (Schedule(cron="@daily", timezone="../etc/passwd"), "timezone", "there is no time zone"),
        (Schedule(every=60, start="soon"), "start", "must be a date or time"),
        (Schedule(every=60, start="2026-12-01", end="2026-11-01"), "end", "is not after the start"),
        (Schedule(cron="*/10 * * * *", jitter=600), "jitter", "which is 600 s"),
        (Schedule(every=60, jitter=60), "jitter", "which is 60 s"),
    ],
)
def test_mistakes(schedule: Schedule, key: str, words: str) -> None:
    (problem,) = schedule_problems(schedule)
    assert problem[0] == key
    assert words in problem[1]
    with pytest.raises(ValueError, match=key):
        clock_of(schedule)


@pytest.mark.parametrize(
    "text", ["30 2 * * *", "@hourly", "@Daily", "0 12 L * *", "0 9 * * 1#2", "*/5 8-18 * JAN-MAR MON-FRI"]
)
def test_valid_expressions(text: str) -> None:
    assert list(schedule_problems(Schedule(cron=text))) == []


def test_keys_of_instants() -> None:
    assert instant_key(0) == "1970-01-01T00:00:00Z"
    assert instant_key(1.5) == "1970-01-01T00:00:01.500000Z"
    assert instant_of(instant_key(1_775_000_000.25)) == 1_775_000_000.25


def test_the_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    assert local_zone()[1] == "Asia/Kolkata"
    clock = clock_of(Schedule(cron="0 0 * * *"))
    assert isinstance(clock, ScheduleClock)
    assert clock.zone_name == "Asia/Kolkata"
    monkeypatch.setenv("TZ", "Etc/UTC")
    assert local_zone()[1] == "UTC"
    monkeypatch.setenv("TZ", "not a zone")
    assert local_zone()[1] != "not a zone"
