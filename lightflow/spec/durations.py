"""Durations in workflow files: `30`, `"30s"`, `"5m"`, `"1h30m"`, `"1d"`."""

from __future__ import annotations

import re
from typing import Final

# Every part is optional, so the schema adds `minLength: 1`.
PATTERN: Final = r"^([0-9]+(\.[0-9]+)?d)?([0-9]+(\.[0-9]+)?h)?([0-9]+(\.[0-9]+)?m)?([0-9]+(\.[0-9]+)?s)?$"
LONGEST_S: Final = 10 * 365 * 86_400
_PART: Final = r"([0-9]+(?:\.[0-9]+)?)([dhms])"
_SECONDS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def seconds(value: float | str) -> float:
    """Return the seconds of a number of seconds, or of a text that matches `PATTERN`."""
    if isinstance(value, str):
        return float(sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_PART, value)))
    return float(value)
