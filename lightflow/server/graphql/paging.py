"""Pages of lists: `first`, `after` and opaque cursors, as GitHub's API has them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from lightflow.server.problems import RequestProblem
from liteflow.api import Record

MOST_FIRST: Final = 1_000
Item = TypeVar("Item")


class PageInfo(Record):
    """The end of a page, and whether the list continues."""

    end_cursor: str | None
    has_next_page: bool
    as_of: str


class Connection(Record):
    """A page of a list."""

    nodes: Sequence[Any]
    page_info: PageInfo


def connection(items: Sequence[Item], first: int, as_of: str, cursor_of: Callable[[Item], str | int]) -> Connection:
    """Return a page of at most `first` items; `items` has one more if the list continues."""
    nodes = items[:first]
    end = encode_cursor(str(cursor_of(nodes[-1]))) if nodes else None
    return Connection(
        nodes=nodes, page_info=PageInfo(end_cursor=end, has_next_page=len(items) > len(nodes), as_of=as_of)
    )


def checked_first(first: int | None, default: int, name: str = "first") -> int:
    """Return the size of a page; `name` is that of its argument.

    Raises:
        RequestProblem: it is out of range.
    """
    size = default if first is None else first
    if not 1 <= size <= MOST_FIRST:
        raise RequestProblem(400, "BAD_INPUT", f"{name} must be a number from 1 to {MOST_FIRST:,}")
    return size


def encode_cursor(text: str) -> str:
    """Return the cursor for a position in a list."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> str | None:
    """Return the position of a cursor.

    Raises:
        RequestProblem: it is not a cursor of this server.
    """
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        text = ""
    if not text or len(text) > 1_000:
        raise RequestProblem(400, "BAD_INPUT", "after is not a cursor of this server")
    return text


def decode_number(cursor: str | None) -> int | None:
    """Return the number that a cursor stands for. Raises RequestProblem."""
    text = decode_cursor(cursor)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise RequestProblem(400, "BAD_INPUT", "after is not a cursor of this list")
    return int(text)
