"""The messages of a link: the kinds that each side may send, and their fields.

Each side has proved that it has the key of the run, but it may have another version, or be damaged. A message that is
not valid ends its connection before anything acts on it, so an agent never ends the run of its owner.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, get_args

from liteflow.states import Verdict
from liteflow.values.payload import SPILLED_NAME, Payload
from liteflow.work import Outcome

#: Returns whether the value of a field is valid.
Check = Callable[[Any], bool]
#: By kind, the checks of the fields behind it.
Vocabulary = Mapping[str, tuple[Check, ...]]

_INTEGERS: Final = range(-(2**63), 2**63)  # those that the state file can store
_MOST_SLOTS: Final = 1_000_000
_LONGEST_WORDS: Final = 1 << 20  # characters that an agent says to people
_VERDICTS: Final = frozenset(get_args(Verdict))
_DATA_TYPES: Final = {"json": str, "tagged": str, "pickle": bytes}
_PAYLOAD_FIELDS: Final = len(Payload._fields)
_OUTCOME_FIELDS: Final = len(Outcome._fields)
_LONGEST_SHOWN: Final = 40  # characters of a kind that is unknown


def problem_of(message: Any, accepted: Vocabulary) -> str | None:
    """Return why a value that has arrived is not a message of these kinds; None: it is."""
    if not isinstance(message, tuple) or not message:
        return invalid("not a message")
    kind = message[0]
    if not isinstance(kind, str):
        return invalid("it has no kind")
    checks = accepted.get(kind)
    if checks is None:
        return invalid(f"unknown kind {kind!r:.{_LONGEST_SHOWN}}")
    if len(message) != len(checks) + 1:
        return invalid(f"{kind} with {len(message) - 1} fields instead of {len(checks)}")
    try:
        for number, check in enumerate(checks, 1):
            if not check(message[number]):
                return invalid(f"{kind}, field {number}")
    except RecursionError:
        return invalid(f"{kind}, nested too deeply")
    return None


def invalid(what: str) -> str:
    """Return the reason of a refusal; `what` has arrived."""
    return f"a message that has arrived is not valid ({what}): install the same version of Lightflow on both machines"


# -- fields ------------------------------------------------------------------------------------------------


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_words(value: Any) -> bool:
    return type(value) is str and len(value) <= _LONGEST_WORDS


def _is_name(value: Any) -> bool:
    return _is_words(value) and bool(value)


def _is_bytes(value: Any) -> bool:
    return type(value) is bytes


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and value in _INTEGERS


def _is_size(value: Any) -> bool:
    return _is_integer(value) and value >= 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value <= _MOST_SLOTS


def _is_number(value: Any) -> bool:
    return math.isfinite(value) if type(value) is float else _is_integer(value)


def _is_duration(value: Any) -> bool:
    return value >= 0 if type(value) is float else _is_size(value)  # it may be endless


def _is_verdict(value: Any) -> bool:
    return type(value) is str and value in _VERDICTS


def _is_anything(value: Any) -> bool:
    return True


def _is_payload(value: Any) -> bool:
    """Return whether a value is a `Payload`, whose file has no folder: each side has its own."""
    if type(value) is not tuple or len(value) != _PAYLOAD_FIELDS:
        return False
    encoding, data, size, file, digest = value
    if type(encoding) is not str or not _is_size(size):
        return False
    if encoding == "list":
        return type(data) is tuple and file is None and digest is None and all(map(_is_payload, data))
    if file is None:
        return digest is None and type(data) is _DATA_TYPES.get(encoding)
    is_named = type(file) is str and re.match(SPILLED_NAME, file) is not None and not file.startswith(".")
    return is_named and encoding in _DATA_TYPES and data is None and type(digest) is str


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _each(check: Check) -> Check:
    return lambda value: type(value) in (list, tuple) and all(map(check, value))


def _mapping(check: Check) -> Check:
    return lambda value: type(value) is dict and all(map(_is_text, value)) and all(map(check, value.values()))


def _fields(*checks: Check) -> Check:
    """Return the check of a tuple that has these fields."""

    def check(value: Any) -> bool:
        if type(value) is not tuple or len(value) != len(checks):
            return False
        return all(each(part) for each, part in zip(checks, value, strict=True))

    return check


def _keys(**checks: Check) -> Check:
    """Return the check of a mapping that has these keys; that of another version may have more."""

    def check(value: Any) -> bool:
        return type(value) is dict and all(name in value and each(value[name]) for name, each in checks.items())

    return check


_PAYLOADS: Final = _optional(_mapping(_is_payload))

_ERROR: Final = _fields(
    *(_is_words, _is_words, _each(_is_words), _is_words, _each(_is_words), _optional(_is_duration), _is_flag)
)

_WAITING: Final = _fields(_is_words, _optional(_is_duration), _is_words)


def _is_outcome(value: Any) -> bool:
    """Return whether a value is an `Outcome`, as `outcome_to_wire` makes it.

    There is one for each attempt, and most of its fields are None: `_fields` takes four times as long.
    """
    if type(value) is not tuple or len(value) != _OUTCOME_FIELDS:
        return False
    node, attempt, verdict, result, pushed, error, exit_code, started_at, ended_at, *rest = value
    return (
        type(node) is int
        and type(attempt) is int
        and _is_verdict(verdict)
        and (result is None or _is_payload(result))
        and (pushed is None or _PAYLOADS(pushed))
        and (error is None or _ERROR(error))
        and (exit_code is None or _is_integer(exit_code))
        and (started_at is None or _is_number(started_at))
        and _is_number(ended_at)
        and (rest == _NOTHING or _REST(tuple(rest)))
    )


#: Of an outcome: the paths and problems of its log, its undo, its host, and what it waits for.
_REST: Final = _fields(*[_optional(_is_words)] * 4, _optional(_WAITING))
_NOTHING: Final = [None] * 5

_HOOK: Final = _fields(*(_is_text, _is_text, _is_integer, _is_text, _is_integer, _is_text, _optional(_is_text)))

#: A `Work`, as `work_to_wire` makes it for another machine.
_WORK: Final = _fields(
    _fields(_is_integer, _is_text, _is_integer, _is_integer, _is_flag),
    _PAYLOADS,
    _PAYLOADS,
    _fields(_optional(_is_duration), _is_duration, _optional(_is_text)),
    _optional(_HOOK),
    _optional(_is_text),
    _fields(_is_integer, _PAYLOADS),
    lambda body: type(body) in (str, bytes),
)

#: The fields of a `Command`.
_COMMAND: Final = _fields(
    _each(_is_text),
    _optional(_is_text),
    _mapping(_is_text),
    _each(_is_integer),
    _optional(_is_text),
    lambda late: late is None,
    _each(_is_text),
)

#: The facts of a run, see `facts_of`.
_FACTS: Final = _keys(
    run_id=_is_text,
    dag_id=_is_text,
    db_path=_is_text,
    params=_is_payload,
    spills=_is_flag,
    has_outputs=_is_flag,
    logical_date=_optional(_is_number),
    secrets=_optional(_mapping(_is_text)),
    cwd=_is_text,
    folder=_optional(_is_text),
    argv=_each(_is_text),
    code_folders=_each(_is_text),
)

_HELLO: Final = _keys(
    agent=_is_name,
    host=_is_words,
    machine=_is_words,
    boot=_is_words,
    version=_is_words,
    python=_fields(_is_integer, _is_integer, _is_integer),
    slots=_is_count,
)

#: The facts of a machine, see `inspection`.
_INSPECTION: Final = _keys(
    time=_is_number,
    cwd=_is_words,
    free=_is_size,
    temporary=_is_words,
    temporary_free=_is_size,
    agents=_is_count,
    left=_each(_is_integer),
)


# -- kinds -------------------------------------------------------------------------------------------------

#: Ends the connection; the field says why.
REFUSED: Final = "refused"

#: The messages of an agent that the owner of its run accepts.
OF_AGENT: Final[Vocabulary] = {
    REFUSED: (_is_words,),
    "hello": (_HELLO,),
    "ready": (_is_count,),
    "slots": (_is_count,),
    "leaving": (),
    "closed": (),
    "beat": (_is_number,),
    "log": (_is_integer, _is_size, _is_bytes),
    "value": (_is_text, _is_bytes),
    "value_end": (_is_text,),
    "outcome": (_is_outcome, _is_flag),
    "given_back": (_each(_is_integer),),
    "undone": (_is_integer, _optional(_is_words)),
    "pull": (_is_integer, _is_text, _is_text, _is_integer),
    "inspected": (_INSPECTION,),
}

#: The messages of the owner of a run that an agent accepts.
OF_OWNER: Final[Vocabulary] = {
    REFUSED: (_is_words,),
    "open": (_FACTS,),
    "files": (_is_bytes,),
    "files_end": (_is_text,),
    "body": (_is_text, _is_bytes),
    "value": (_is_text, _is_bytes),
    "value_end": (_is_text,),
    "drop": (_each(_is_text),),
    "not_stored": (_is_text,),
    "undo_of": (_is_integer, _is_bytes),
    "work": (_WORK, _optional(_COMMAND)),
    "undo": (_is_integer, _WORK),
    "cancel": (_is_integer, _is_integer, _is_duration),
    "beat": (_is_number, _is_number),
    "goodbye": (_is_duration,),
    "inspect": (),
    "pulled": (_is_integer, _optional(_is_payload), _optional(_is_words)),
    "leave": (),
}
