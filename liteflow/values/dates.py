"""The day that a run is for, and the words for days.

A day is kept as its midnight in UTC, in epoch seconds: read back in any time zone it is the same day. Which day it is
when a run starts is told by the local time zone, as in cron.
"""

from __future__ import annotations

import math
import re
import time
from typing import Any, Final, Protocol

DAY_S: Final = 86_400
_LATEST: Final = 253_402_300_800  # the end of the year 9999
#: Words for a day, and how many days behind the day of the run that is.
WORDS: Final = {"today": 0, "yesterday": 1}
WANTED: Final = "a date such as 2026-01-31"


def current_day() -> float:
    """Return the day that it is now, in the local time zone."""
    now = time.time()
    local = now + time.localtime(now).tm_gmtoff
    return local - local % DAY_S


def parse_day(text: str) -> float:
    """Return the day that a text such as `2026-01-31` or `yesterday` names, as seen from now.

    Raises:
        ValueError: it names none; says what it must be.
    """
    found = date_of(text, current_day())
    if found is None:
        raise ValueError(f'must be {WANTED}, or today or yesterday, not "{text}"')
    return epoch_of(found)


def date_of(value: Any, day: float) -> Any:
    """Return the date that a value stands for, seen from the `day` of the run; None: it stands for none."""
    import datetime  # few workflows have dates

    if isinstance(value, datetime.date):
        return None if isinstance(value, datetime.datetime) else value
    if not isinstance(value, str):
        return None
    if value in WORDS:
        return _utc(day - WORDS[value] * DAY_S).date()
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        try:
            return datetime.date.fromisoformat(value)
        except ValueError:
            pass
    return None


class Day(Protocol):
    """A `datetime.date`, or a `datetime.datetime`: importing that module is left to those who have one."""

    @property
    def year(self) -> int: ...
    @property
    def month(self) -> int: ...
    @property
    def day(self) -> int: ...


def epoch_of(moment: float | Day) -> float:
    """Return a date, a time or a number of epoch seconds in epoch seconds.

    Raises:
        ValueError: it is neither.
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
    """Return what a stored moment stands for: a date, or a time in UTC where it is not midnight; None for nothing.

    Raises:
        ValueError: it is out of range; a damaged file can hold that.
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


def checked(epoch: float | None) -> float | None:
    """Return a moment itself. Raises ValueError: it is out of range."""
    if epoch is not None and shown(epoch) == "?":
        raise ValueError(_out_of_range(epoch))
    return epoch


def _out_of_range(epoch: float) -> str:
    return f"{epoch:g} is no moment between the years 1 and 9999"


def shown(epoch: float) -> str:
    """Return a stored moment as text: `2026-01-31`, or with the time of day; `?` for what a damaged file holds."""
    try:
        if epoch % DAY_S == 0 and 0 <= epoch < _LATEST:
            return time.strftime("%Y-%m-%d", time.gmtime(epoch))  # most days, without a module to import
        return str(moment_from_epoch(epoch))
    except ValueError:
        return "?"
