"""Messages of all kinds of a link, as both sides send them, and ways to damage them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from liteflow.executors.worker import outcome_to_wire, work_to_wire
from liteflow.remote.lane import facts_of
from liteflow.remote.link import Message
from liteflow.values.payload import Payload, encode, together
from liteflow.work import ErrorInfo, HookEvent, Outcome, RunInfo, Waiting, Work

_FILE: Final = Payload("pickle", None, 20_000_000, "a" * 64 + ".pickle", "a" * 64)
_VALUES: Final = {"x": encode("ä"), "y": encode({1, 2}), "z": encode(Payload), "f": _FILE}
_LIST: Final = together([*_VALUES.values(), together([encode(1)])])
_ERROR: Final = ErrorInfo("it failed", "Traceback …", ("KeyError",), "[]", ("http:503",), 1.5, True)
_WAITING: Final = Waiting('"handle"', 10.0, "a decision")


def _outcome(verdict: Any, **fields: Any) -> Message:
    empty: dict[str, Any] = dict.fromkeys(("value", "pushed", "error", "exit_code", "log_path"))
    outcome = Outcome(node=1, attempt=1, verdict=verdict, started_at=1.0, ended_at=2.0, **{**empty, **fields})
    return ("outcome", outcome_to_wire(outcome), True)


def _work(**fields: Any) -> Any:
    return work_to_wire(Work(node=1, task_id="t", attempt=1, **fields), "1-1")


_HOOK: Final = HookEvent("on_failure", "t", -1, "FAILED", 1, "exit code 3", None)
_COMMAND: Final = (("/bin/sh", "-c", "true"), "/tmp", {"A": "b\udcff"}, (99,), "json", None, ("TOKEN",))
_INFO: Final = RunInfo(run_id="r", dag_id="d", db_path="/tmp/state.db", logical_date=1.0)
_MACHINE: Final = {"agent": "a", "host": "w1", "machine": "w1", "boot": "b", "version": "1", "python": (3, 11, 7)}
_INSPECTION: Final = {"time": 1.5, "cwd": "/", "free": 1, "temporary": "/tmp", "temporary_free": 1, "agents": 0}

#: Of an agent: each kind at least once.
OF_AGENT: Final[tuple[Message, ...]] = (
    ("refused", "why"),
    ("hello", {**_MACHINE, "slots": 2}),
    ("ready", 2),
    ("slots", 0),
    ("leaving",),
    ("closed",),
    ("beat", 1.5),
    ("log", 1, 0, b"text"),
    ("value", "a" * 64 + ".json", b"data"),
    ("value_end", "a" * 64 + ".json"),
    _outcome("SUCCESS", value=encode(3), pushed=_VALUES, exit_code=0),
    _outcome("FAILED", error=_ERROR, log_lost="no room", undo_error="refused", host="w1"),
    _outcome("LOST", value=_FILE, waiting=_WAITING),
    ("given_back", [1, 2]),
    ("undone", 1, None),
    ("undone", 2, "refused"),
    ("pull", 1, "t", "x", -1),
    ("inspected", {**_INSPECTION, "left": [17]}),
)

#: Of the owner of a run: each kind at least once.
OF_OWNER: Final[tuple[Message, ...]] = (
    ("refused", "why"),
    ("open", facts_of(_INFO)),
    ("files", b"data"),
    ("files_end", "a" * 64),
    ("body", "a" * 64, b"data"),
    ("value", "a" * 64 + ".json", b"data"),
    ("value_end", "a" * 64 + ".json"),
    ("drop", ["a" * 64 + ".json"]),
    ("not_stored", "a" * 64 + ".json"),
    ("undo_of", 1, b"data"),
    ("work", _work(inputs=_VALUES, items={"item": _LIST}, timeout_s=math.inf, grace_s=0), None),
    ("work", _work(previous=_VALUES, hook=_HOOK, handle='"h"'), _COMMAND),
    ("undo", 1, _work()),
    ("cancel", 1, 1, math.inf),
    ("beat", 1.5, 2.5),
    ("goodbye", 0.0),
    ("inspect",),
    ("pulled", 1, tuple(_LIST), None),
    ("pulled", 1, None, "no such run"),
    ("leave",),
)


def _nested(depth: int) -> Any:
    value: Any = ()
    for _ in range(depth):
        value = ("list", (value,), 0, None, None)
    return value


#: Values that do not belong into most fields: of other types, out of all ranges, very long, nested deeply.
STRANGE: Final[tuple[Any, ...]] = (
    *(None, True, -1, 2**62, 2**70, -1.5, math.nan, math.inf, "", "x", "\udcff", "../../x", b"", b"\xff"),
    *((), [], {}, (None,), {"x": None}, {1: 2}, "x" * (2 << 20), 10**400, _nested(900)),
)


def damaged(message: Message) -> Iterator[Message]:
    """Yield messages that differ from one in a field, at any depth, or in the number of fields."""
    yield message[:-1]
    yield (*message, None)
    yield from _changed(message)


def _changed(value: Any) -> Iterator[Any]:
    """Yield values that differ from one in a part."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield {other: each for other, each in value.items() if other != name}
            yield from ({**value, name: each} for each in (*STRANGE, *_changed(part)))
        yield {**value, "unknown": 1}
    elif isinstance(value, tuple | list):
        kind = type(value)
        for place, part in enumerate(value):
            yield kind([*value[:place], *value[place + 1 :]])
            yield from (kind([*value[:place], each, *value[place + 1 :]]) for each in (*STRANGE, *_changed(part)))
