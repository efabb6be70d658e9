"""The logical date of a run, and the words for days.

A day is stored as its midnight in UTC, in epoch seconds, so it is the same day in every time zone. The current day is
that of the local time zone, as in cron. A logical date can also be a moment, such as the instant of a schedule.
"""

from __future__ import annotations

import math
import re
import time
from typing import Any, Final, Protocol

DAY_S: Final = 86_400
_LATEST: Final = 253_402_300_800  # the end of the year 9999
#: Words for a day, and the number of days before the logical date of the run.
WORDS: Final = {"today": 0, "yesterday": 1}
WANTED: Final = "a date such as 2026-01-31"


def current_day() -> float:
    """Return the current day in the local time zone."""
    now = time.time()
    local = now + time.localtime(now).tm_gmtoff
    return local - local % DAY_S


def day_of(moment: float) -> float:
    """Return the day of a logical date; the day of a moment is that of the local time zone."""
    if moment % DAY_S == 0:
        return moment
    local = moment + time.localtime(moment).tm_gmtoff
    return local - local % DAY_S


def parse_moment(text: str) -> float:
    """Return the logical date of a text: a day such as `2026-01-31` or `yesterday`, a time, or `now`.

    Raises:
        ValueError: the text is neither; the message says what it must be.
    """
    date = date_of(text, current_day())
    if date is not None:
        return epoch_of(date)
    if text == "now":
        return time.time()
    import datetime

    try:
        if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]", text):
            raise ValueError
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        words = "a time such as 2026-01-31T08:30, or today, yesterday or now"
        raise ValueError(f'must be {WANTED}, {words}, not "{text}"') from None


def date_of(value: Any, day: float) -> Any:
    """Return the date of a value, relative to the `day` of the run; None if the value is not a date."""
    import datetime  # imported here, because few workflows have dates

    if isinstance(value, datetime.date):
        return None if isinstance(value, datetime.datetime) else value
    if not isinstance(value, str):
        return None
    if value in WORDS:
        return _utc(day_of(day) - WORDS[value] * DAY_S).date()
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        try:
            return datetime.date.fromisoformat(value)
        except ValueError:
            pass
    return None


class Day(Protocol):
    """A `datetime.date` or `datetime.datetime`, for modules that do not import `datetime`."""

    @property
    def year(self) -> int: ...
    @property
    def month(self) -> int: ...
    @property
    def day(self) -> int: ...


def epoch_of(moment: float | Day) -> float:
    """Return the epoch seconds of a date, a time, or a number of epoch seconds.

    Raises:
        ValueError: the value is none of these.
    """
    if isinstance(moment, int | float) and not isinstance(moment, bool) and math.isfinite(moment):
        return float(moment)
    import datetime

    if isinstance(moment, datetime.datetime):
        return moment.timestamp()
    if isinstance(moment, datetime.date):
        return datetime.datetime(moment.year, moment.month, moment.day, tzinfo=datetime.UTC).timestamp()
    raise ValueError(f"must be a date, a time or epoch seconds, not {moment!r}")


def moment_from_epoch(epoch: float | None) -> Any:
    """Return a stored moment as a date, or as a time in UTC if it is not midnight; None for None.

    Raises:
        ValueError: the moment is out of range, as in a corrupt file.
    """
    if epoch is None:
        return None
    return _utc(epoch).date() if epoch % DAY_S == 0 else _utc(epoch)


def _utc(epoch: float) -> Any:
    import datetime

    try:
        return datetime.datetime.fromtimestamp(epoch, datetime.UTC)
    except (OverflowError, OSError, ValueError):
        raise ValueError(_out_of_range(epoch)) from None


def check_moment(epoch: float | None) -> float | None:
    """Return a moment itself. Raises ValueError when it is out of range."""
    if epoch is not None and shown(epoch) == "?":
        raise ValueError(_out_of_range(epoch))
    return epoch


def _out_of_range(epoch: float) -> str:
    return f"{epoch:g} is not between the years 1 and 9999"


def shown(epoch: float) -> str:
    """Return a stored moment as text: `2026-01-31`, or with the time of day; `?` when it is out of range."""
    try:
        if epoch % DAY_S == 0 and 0 <= epoch < _LATEST:
            return time.strftime("%Y-%m-%d", time.gmtime(epoch))  # the usual case, without importing `datetime`
        return str(moment_from_epoch(epoch))
    except ValueError:
        return "?"
