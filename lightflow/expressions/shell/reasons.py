"""Why an expression is not safe in its place in a shell script, and what to write instead.

The table in `docs/howto/parameters-and-expressions.md` has a row for each reason.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    """The kinds of reasons for which an expression is refused."""

    SYNTAX = "syntax"
    BACKSLASH = "backslash"
    DOLLAR = "dollar"
    DOCUMENT = "here-document"
    QUOTES = "quotes"
    PARAMETER = "parameter"
    BRACES = "braces"
    ARITHMETIC = "arithmetic"
    NAME = "name"
    EVALUATED = "evaluated"
    SCRIPT = "script"
    INPUT = "input"
    REMOTE = "remote"
    FORWARDED = "forwarded"


class Reason(NamedTuple):
    """A reason in words."""

    kind: Kind
    message: str
    quotable: bool = False  #: whether `| quote` makes the value safe
    numeric: bool = False  #: whether a number is safe


_QUOTE: Final = "end the expression with `| quote` if that is wanted"

BACKSLASH: Final = Reason(
    Kind.BACKSLASH, "a backslash is before the expression; remove it (or double it, if it is wanted)"
)
DOLLAR: Final = Reason(
    Kind.DOLLAR, "a $ is before the expression; write $${{ … }} as \\$ and the expression, or remove the $"
)
UNCLEAR: Final = Reason(
    Kind.SYNTAX, "the place of the expression is unclear; put it under `env`, and name the variable here"
)
QUOTED_DOCUMENT: Final = Reason(
    Kind.DOCUMENT,
    "nothing is expanded in a here-document whose word is quoted; write the word without quotes "
    "(and a backslash before each other $)",
)
DOCUMENT_WORD: Final = Reason(Kind.DOCUMENT, "the word that ends a here-document cannot come from an expression")
DOCUMENT_BRACKET: Final = Reason(Kind.DOCUMENT, "a here-document must end before the bracket around it")
DOCUMENT_PATTERN: Final = Reason(
    Kind.DOCUMENT, "an expression is not allowed in a pattern inside a here-document; use a variable"
)
ANSI: Final = Reason(
    Kind.QUOTES, "shells read $'…' differently, so the place of the expression is unclear; use other quotes"
)
INNER_QUOTES: Final = Reason(Kind.QUOTES, 'shells read quotes inside "${…}" differently; leave the inner quotes out')
EXTENDED_PATTERN: Final = Reason(
    Kind.QUOTES, "an expression is not allowed next to quotes in a pattern such as @(…); use a variable"
)
SPLIT: Final = Reason(
    Kind.PARAMETER, "the shell would split what this ${…} gives; put the whole of it in double quotes"
)
PARAMETER: Final = Reason(
    Kind.PARAMETER, "an expression is not allowed in this kind of ${…}; put it into a variable first"
)
BRACES: Final = Reason(
    Kind.BRACES, "no shell expands {1..N} where an end is a value, so it would stay as it is; use $(seq 1 N)"
)
ARITHMETIC: Final = Reason(
    Kind.ARITHMETIC,
    "in arithmetic the shell would evaluate the value as a formula; compute in the expression instead, "
    "as in ${{ params.n + 1 }} (for a subshell in brackets, write a blank between the two)",
    numeric=True,
)
INDEX: Final = Reason(
    Kind.ARITHMETIC,
    "the index of an array is arithmetic, in which the shell would evaluate the value; end the expression with `| int`",
    numeric=True,
)
COMPARED: Final = Reason(
    Kind.ARITHMETIC, "[[ … ]] evaluates what it compares as numbers; use [ … ], which does not", numeric=True
)
INPUT: Final = Reason(
    Kind.INPUT,
    "what the shell reads from here is shell text, and so would be the value; end the expression with `| quote`",
    quotable=True,
)
SCRIPT: Final = Reason(
    Kind.SCRIPT,
    "the shell that is started would read the value as shell text; pass it as an argument "
    "(sh -c '… \"$1\" …' sh VALUE), or end the expression with `| quote`",
    quotable=True,
)
REMOTE: Final = Reason(
    Kind.REMOTE,
    f"ssh passes its words to a shell on the other machine, which would read the value as shell text; {_QUOTE}",
    quotable=True,
)


def evaluated(command: str) -> Reason:
    """Return the reason for a command that reads its words as shell text."""
    return Reason(Kind.EVALUATED, f"{command} would read the value as shell text; {_QUOTE}", quotable=True)


def formula(command: str) -> Reason:
    """Return the reason for a command that reads the value as arithmetic, or as a variable with an index."""
    return Reason(Kind.ARITHMETIC, f"{command} would evaluate the value as a name or a formula", numeric=True)


def names(command: str) -> Reason:
    """Return the reason for a command that takes the name of a variable."""
    return Reason(Kind.NAME, f"{command} takes the name of a variable, which cannot come from an expression")


_NUMBER: Final = "end the expression with `| int`, or declare the parameter as a number"


def variable(name: str, reason: Reason) -> Reason:
    """Return the reason for a value that goes into a variable which is evaluated elsewhere in the script."""
    text = f"what the variable {name} holds is evaluated in this script: {reason.message}"
    if reason.numeric:
        text = f"the variable {name} is where the shell would evaluate the value as a name or a formula; {_NUMBER}"
    return reason if reason.kind is Kind.FORWARDED else reason._replace(kind=Kind.FORWARDED, message=text)


def argument(function: str, reason: Reason) -> Reason:
    """Return the reason for a value that is an argument of a function which evaluates it."""
    text = f"the function {function} evaluates what it is called with: {reason.message}"
    if reason.numeric:
        text = f"the function {function} would evaluate the value as a name or a formula; {_NUMBER}"
    return reason if reason.kind is Kind.FORWARDED else reason._replace(kind=Kind.FORWARDED, message=text)


def special(name: str) -> Reason:
    """Return the reason for a variable that the shell or programs read as shell text."""
    return Reason(Kind.EVALUATED, f"what {name} holds is read as shell text; {_QUOTE}", quotable=True)
