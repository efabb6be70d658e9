"""The rules by which the databases read a text: quotes, comments, and the form of a parameter."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from liteflow.api import Record, replace

_WORD_START: Final = r"[A-Za-z_\x80-\U0010ffff]"
_WORD_CHAR: Final = r"[A-Za-z0-9_$\x80-\U0010ffff]"
_TAG: Final = r"(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*+)?"
_PLAIN: Final = "'(?:[^']++|'')*+'"
_BACKSLASHED: Final = r"'(?:[^'\\]++|''|\\.)*+'"
_BACKTICKS: Final = "`(?:[^`]++|``)*+`"
_BRACKETS: Final = r"\[[^\]]*+\]"
#: The rest of a text of PostgreSQL that continues behind a line break, with the same rules.
_CONTINUED: Final = rf"(?:(?:[ \t\f\v]|--[^\n\r]*+)*+[\n\r](?:\s|--[^\n\r]*+[\n\r])*+{_BACKSLASHED})*+"


class Dialect(Record):
    """How a database reads SQL, as far as quotes, comments and parameters are concerned."""

    name: str
    parameter: str  #: the form of a parameter: `{}` is its name
    backslashes: bool = False  #: whether a backslash in quotes escapes the next character
    escape_strings: bool = False  #: whether there are texts such as E'\n'
    continued_strings: bool = False  #: whether such a text continues behind a line break
    dollar_quotes: bool = False
    nested_comments: bool = False
    open_comments: bool = False  #: whether a comment may end with the text
    line_comment: str = r"--[^\n\r]*+"
    identifiers: tuple[str, ...] = ()  #: patterns of quoted identifiers, in addition to double quotes
    identifier_quote: str = '"'
    percent: bool = False  #: whether the driver formats with `%`, so that each `%` of the text is doubled
    arrays: bool = False  #: whether a list is a value

    def identifier(self, name: str) -> str:
        """Return a name as a quoted identifier; `a.b` is two."""
        quote = self.identifier_quote
        return ".".join(quote + part.replace(quote, quote * 2) + quote for part in name.split("."))


SQLITE: Final = Dialect(
    name="SQLite",
    parameter=":{}",
    open_comments=True,
    line_comment=r"--[^\n]*+",
    identifiers=(_BACKTICKS, _BRACKETS),
)
POSTGRESQL: Final = Dialect(
    name="PostgreSQL",
    parameter="%({})s",
    escape_strings=True,
    continued_strings=True,
    dollar_quotes=True,
    nested_comments=True,
    percent=True,
    arrays=True,
)
MYSQL: Final = Dialect(
    name="MySQL",
    parameter="%({})s",
    backslashes=True,
    line_comment=r"(?:--(?=[\x00-\x20]|\Z)|#)[^\n]*+",
    identifiers=(_BACKTICKS,),
    identifier_quote="`",
    percent=True,
)
#: MySQL and MariaDB in the mode NO_BACKSLASH_ESCAPES.
MYSQL_WITHOUT_BACKSLASHES: Final = replace(MYSQL, backslashes=False)
DUCKDB: Final = Dialect(
    name="DuckDB",
    parameter="${}",
    escape_strings=True,
    dollar_quotes=True,
    nested_comments=True,
    identifiers=(_BACKTICKS,),
    arrays=True,
)


@cache
def tokens(dialect: Dialect) -> re.Pattern[str]:
    """Return the pattern of one token. The group that matched last is the kind of the token."""
    string = _BACKSLASHED if dialect.backslashes else _PLAIN
    quotes = [string, string.replace("'", '"'), *dialect.identifiers]
    unclosed = ["['\"]"]
    if _BACKTICKS in quotes:
        unclosed.append("`")
    if _BRACKETS in quotes:
        unclosed.append(r"\[")
    if dialect.escape_strings:
        quotes.insert(0, f"[eE]{_BACKSLASHED}{_CONTINUED if dialect.continued_strings else ''}")
        unclosed.append("[eE]'")
    if dialect.dollar_quotes:
        quotes.append(rf"\$(?P<tag>{_TAG})\$.*?\$(?P=tag)\$")
        unclosed.append(rf"\${_TAG}\$")
    kinds = {
        "line_comment": dialect.line_comment,
        "block_comment": r"/\*",
        "quoted": "|".join(quotes),
        "unclosed": "|".join(unclosed),
        "word": f"{_WORD_START}{_WORD_CHAR}*+",
        "parameter": r"""(?<![\w'"\]`$:]):[^\W\d]\w*+""",
        "value": "\0",
        "end": ";",
        "opening": r"\(",
        "closing": r"\)",
        "space": r"\s++",
        "other": r"::|:=|[0-9]++|[,.=<>+*]++|.",
    }
    return re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in kinds.items()), re.DOTALL)
