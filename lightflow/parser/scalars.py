"""The values of unquoted words in YAML, by the core schema of YAML 1.2.

The rules of YAML 1.1 do not apply: `on`, `no`, `012`, `1:30`, `1_000` and dates are text.
"""

from __future__ import annotations

import re
from typing import Final

Scalar = str | int | float | bool | None

CONSTANTS: Final[dict[str, Scalar]] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
# The first characters of words that may be something other than text.
FIRST: Final = frozenset("~nNtTfF.+-0123456789")
MAX_DIGITS: Final = 100

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_ENDLESS = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


class NotANumber(ValueError):
    """A word looks like a number that cannot be stored or compared."""


def resolve(text: str) -> Scalar:
    """Return the value of an unquoted scalar.

    Raises:
        NotANumber: infinite, not a number, or of more than 100 digits.
    """
    if text and text[0] not in FIRST:
        return text
    if text in CONSTANTS:
        return CONSTANTS[text]
    if _INT.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise NotANumber(f"a whole number of {len(text)} digits is too long; put it in quotes if it is text")
        return int(text)
    if _BASED.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise NotANumber(f"a whole number of {len(text)} digits is too long; put it in quotes if it is text")
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise NotANumber(f"{text[:40]} is too large a number; put it in quotes if it is text")
        return value
    if _ENDLESS.fullmatch(text):
        raise NotANumber(f"{text} is not a finite number; put it in quotes if it is text")
    return text
