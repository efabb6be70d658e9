"""Stored values: as JSON, as JSON with tagged types, or as a pickle; large values in a file.

`encode` is called where the value is made, so a value that cannot be stored fails the task that returns it. `decode` is
called only where a task reads the value, never where it is displayed: decoding a pickle runs code.

Encodings: `json` is plain JSON text that SQL can read; `tagged` is JSON in which `{"$type": name, "value": …}`
represents a type that JSON does not have; `pickle` is bytes. `list` is never stored: it is a sequence of stored values
for a task that reads them as one value.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from json.encoder import encode_basestring_ascii
from typing import Any, Literal, NamedTuple

from liteflow.errors import PayloadError, StoreError
from liteflow.identifiers import check_run_id
from liteflow.masking import Masker

Encoding = Literal["json", "tagged", "pickle", "list"]

#: A value with more bytes is stored in a file of its own.
SPILL_BYTES = 10 * 1024 * 1024


class Payload(NamedTuple):
    """An encoded value. Exactly one of `data` and `file` is set; `size` and `sha256` are those of the encoded bytes.

    The `data` of a `list` is the fields of each payload.
    """

    encoding: Encoding
    data: str | bytes | tuple[tuple[Any, ...], ...] | None
    size: int
    file: str | None = None  # absolute path
    sha256: str | None = None  # set when `file` is


#: Makes modules importable while a value is unpickled; set where the folder of the tasks' code is known.
unpickling: ContextVar[Callable[[], AbstractContextManager[None]]] = ContextVar("unpickling", default=nullcontext)

_scan: Callable[[str, int], tuple[Any, int]] = vars(json.JSONDecoder())["scan_once"]  # json.loads without its checks
_INT64 = 2**63
#: the name of a file with a value, or of one that is being written
SPILLED_NAME = r"([0-9a-f]{64}\.(json|tagged|pickle)|\.writing-\w+)\Z"
_MAX_DEPTH = 500
_MAX_TAGGED_DEPTH = 200  # decoding takes three of Python's 1,000 frames a level; deeper values are pickled


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Return whether the value consists of JSON types only (no subclasses, no NaN, text as keys)."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return True
    if kind is float:
        return math.isfinite(value)
    if depth > _MAX_DEPTH:
        return False
    if kind is list:
        return all(_is_plain(item, depth + 1) for item in value)
    if kind is dict:
        return "$type" not in value and all(
            type(key) is str and _is_plain(item, depth + 1) for key, item in value.items()
        )
    return False


class _NotTaggable(Exception):
    """A type has no tag."""


def _tag(value: Any, depth: int = 0) -> Any:
    """Return a value in JSON types, with tags. Raises _NotTaggable."""
    import datetime
    import decimal
    import pathlib
    import uuid

    kind = type(value)
    if kind in (str, int, bool) or value is None:
        return value
    if depth > _MAX_TAGGED_DEPTH:
        raise _NotTaggable
    if kind is float:
        return value if math.isfinite(value) else {"$type": "float", "value": repr(value)}
    if kind is list:
        return [_tag(item, depth + 1) for item in value]
    if kind is dict:
        if all(type(key) is str for key in value) and "$type" not in value:
            return {key: _tag(item, depth + 1) for key, item in value.items()}
        pairs = [[_tag(key, depth + 1), _tag(item, depth + 1)] for key, item in value.items()]
        return {"$type": "dict", "value": pairs}
    if kind in (tuple, set, frozenset):
        return {"$type": kind.__name__, "value": [_tag(item, depth + 1) for item in value]}
    if kind in (bytes, bytearray):
        return {"$type": kind.__name__, "value": value.hex()}
    if kind in (datetime.datetime, datetime.date, datetime.time) and getattr(value, "fold", 0) == 0:
        zone = getattr(value, "tzinfo", None)
        if zone is None:
            return {"$type": kind.__name__, "value": value.isoformat()}
        if type(zone) is datetime.timezone:
            name, text = zone.tzname(None), value.isoformat()
            plain = name == datetime.timezone(zone.utcoffset(None)).tzname(None)
            return {"$type": kind.__name__, "value": text if plain else [text, name]}
        raise _NotTaggable  # a named zone: isoformat would lose the name
    if kind is datetime.timedelta:
        return {"$type": "timedelta", "value": [value.days, value.seconds, value.microseconds]}
    if kind is decimal.Decimal or kind is uuid.UUID:
        return {"$type": kind.__name__, "value": str(value)}
    if isinstance(value, pathlib.PurePath) and kind in (pathlib.PosixPath, pathlib.PurePosixPath):
        return {"$type": kind.__name__, "value": str(value)}
    raise _NotTaggable


def _untag(node: Any) -> Any:
    if isinstance(node, list):
        return [_untag(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "$type" not in node:
        return {key: _untag(item) for key, item in node.items()}
    name, value = node["$type"], node.get("value")
    make = _makers().get(name)
    if make is None:
        raise PayloadError(f"a stored value has the unknown type {name!r}; perhaps a newer version wrote it")
    return make(value)


def _makers() -> dict[str, Callable[[Any], Any]]:
    import datetime
    import decimal
    import pathlib
    import uuid

    return {
        "float": float,
        "dict": lambda pairs: {_untag(key): _untag(item) for key, item in pairs},
        "tuple": lambda items: tuple(_untag(item) for item in items),
        "set": lambda items: {_untag(item) for item in items},
        "frozenset": lambda items: frozenset(_untag(item) for item in items),
        "bytes": bytes.fromhex,
        "bytearray": bytearray.fromhex,
        "datetime": lambda value: _moment(datetime.datetime, value),
        "date": datetime.date.fromisoformat,
        "time": lambda value: _moment(datetime.time, value),
        "timedelta": lambda parts: datetime.timedelta(*parts),
        "Decimal": decimal.Decimal,
        "UUID": uuid.UUID,
        "PosixPath": pathlib.Path,
        "PurePosixPath": pathlib.PurePosixPath,
    }


def _moment(kind: Any, value: Any) -> Any:
    """Return a time from its text, or from its text and the name of its fixed offset from UTC."""
    if isinstance(value, str):
        return kind.fromisoformat(value)
    import datetime

    text, name = value
    moment = kind.fromisoformat(text)
    return moment.replace(tzinfo=datetime.timezone(moment.utcoffset(), name))


def _dump(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate: JSON can escape it, UTF-8 cannot hold it
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text


def encode(value: Any, spill_dir: str | None = None, masker: Masker | None = None) -> Payload:
    """Encode a value for storage.

    A value of more than 10 MB is written into a file in `spill_dir`, atomically by rename; without `spill_dir` every
    value stays in memory. `masker` knows the secrets that no value may contain.

    Raises:
        PayloadError: the value can neither be written as JSON nor pickled; it contains a secret; or the file cannot be
            written.
    """
    if masker is not None:
        return _without_secrets(value, spill_dir, masker)
    kind = type(value)
    if kind is int and -_INT64 <= value < _INT64:  # shortcuts for the most frequent types
        text = repr(value)
        return Payload("json", text, len(text))
    if kind is str and value.isascii():
        text = encode_basestring_ascii(value)
        if len(text) <= SPILL_BYTES:
            return Payload("json", text, len(text))
    encoding: Encoding
    data: str | bytes
    try:
        if _is_plain(value):
            encoding, data = "json", _dump(value)
        else:
            encoding, data = "tagged", _dump(_tag(value))
    except (_NotTaggable, RecursionError, ValueError):  # ValueError: an int of more than 4,300 digits
        import pickle  # imported here, because few values need it

        encoding = "pickle"
        try:
            data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - __reduce__ and __getstate__ are the user's code
            _reraise_worker_end(error)
            raise PayloadError(
                f"a value of type {kind.__qualname__} cannot be stored ({type(error).__name__}: {error}); "
                "return data (numbers, text, lists, dicts, paths, dates) or something that pickle can write"
            ) from None
    raw = data.encode() if isinstance(data, str) else data
    if len(raw) <= SPILL_BYTES or spill_dir is None:
        return Payload(encoding, data, len(raw))
    return _spill(encoding, raw, spill_dir)


def _without_secrets(value: Any, spill_dir: str | None, masker: Masker) -> Payload:
    payload = encode(value)
    data = payload.data
    assert isinstance(data, str | bytes)
    raw = data.encode() if isinstance(data, str) else data
    name = masker.secret_in(raw)
    if name is not None:
        raise PayloadError(holds(name, "the value"))
    return payload if len(raw) <= SPILL_BYTES or spill_dir is None else _spill(payload.encoding, raw, spill_dir)


def holds(secret: str, what: str) -> str:
    """Return the message for a value that contains a secret."""
    return (
        f"{what} contains the secret {secret}, and values are stored; "
        "pass the name of the secret instead, and let the tasks that need it read it"
    )


def _spill(encoding: Encoding, raw: bytes, spill_dir: str) -> Payload:
    import hashlib  # with tempfile, 10 ms that most programs need not pay
    import tempfile

    digest = hashlib.sha256(raw).hexdigest()
    path = os.path.join(spill_dir, f"{digest}.{encoding}")
    try:
        os.makedirs(spill_dir, mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=spill_dir, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise PayloadError(f"{spill_dir}: a value of {len(raw):,} bytes could not be written: {error}") from None
    return Payload(encoding, None, len(raw), path, digest)


def decode(payload: Payload) -> Any:
    """Decode a stored value. A pickle runs code of the pickled object.

    Raises:
        PayloadError: the file is missing or changed, or the bytes cannot be decoded.
    """
    if payload.encoding == "list":
        return [decode(part) for part in parts(payload)]
    data = payload.data if payload.file is None else _read_file(payload)
    assert not isinstance(data, tuple)
    try:
        if payload.encoding == "json" and type(data) is str:
            try:
                value, end = _scan(data, 0)
                if end == len(data):
                    return value
            except StopIteration:
                pass  # not valid JSON: json.loads has the better message
        if payload.encoding == "pickle":
            import pickle

            assert isinstance(data, bytes)
            with unpickling.get()():
                return pickle.loads(data)
        value = json.loads(data or "null")
        return value if payload.encoding == "json" else _untag(value)
    except PayloadError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - unpickling runs the user's code
        _reraise_worker_end(error)
        raise PayloadError(f"a stored value does not decode ({type(error).__name__}: {error})") from None


def _reraise_worker_end(error: BaseException) -> None:
    """Raise the exception that ends a worker again. `sys.exit` in the code of a value is an error of the value."""
    if isinstance(error, SystemExit) and type(error) is not SystemExit:
        raise error


def together(payloads: Sequence[Payload]) -> Payload:
    """Return several values as one, a list."""
    return Payload("list", tuple(map(tuple, payloads)), sum(payload.size for payload in payloads))


def parts(payload: Payload) -> list[Payload]:
    """Return the values in a `list`."""
    assert isinstance(payload.data, tuple)
    return [Payload._make(fields) for fields in payload.data]


def is_pickled(payload: Payload) -> bool:
    """Return whether decoding the value runs code."""
    if payload.encoding == "list":
        return any(is_pickled(part) for part in parts(payload))
    return payload.encoding == "pickle"


def _read_file(payload: Payload) -> bytes:
    import hashlib

    assert payload.file is not None
    try:
        with open(payload.file, "rb") as file:
            raw = file.read()
    except OSError as error:
        raise PayloadError(f"{payload.file}: the stored value cannot be read: {error.strerror}") from None
    if hashlib.sha256(raw).hexdigest() != payload.sha256:
        raise PayloadError(f"{payload.file}: the stored value has changed (its SHA-256 differs); run its task again")
    return raw


def spill_root(path: str) -> str:
    """Return the folder next to a state file that holds its large values."""
    return f"{path}_xcom"


def spill_dir(path: str, run_id: str) -> str:
    """Return the folder of a run's large values.

    Raises:
        StoreError: the run id is not valid, and could name another folder.
    """
    return os.path.join(spill_root(path), check_run_id(run_id))


def remove_values(path: str, run_id: str) -> None:
    """Remove the folder of a run's large values with the values in it, and no other file.

    This holds even if a folder of the path was replaced by a link to a folder of the user.
    """
    folder = spill_dir(path, run_id)
    try:
        for name in os.listdir(folder):
            if re.match(SPILLED_NAME, name):
                os.unlink(os.path.join(folder, name))
        os.rmdir(folder)
    except OSError:
        return  # the folder does not exist, or another file is in it


def payload_from_row(path: str, row: Sequence[Any]) -> Payload:
    """Return the Payload of a row with the columns encoding, value, size, file, sha256."""
    encoding, data, size, file, sha256 = row
    if file is not None:
        file = os.path.join(spill_root(path), file)
        if not os.path.realpath(file).startswith(os.path.realpath(spill_root(path)) + os.sep):
            raise StoreError(f"{path}: a stored value names a file outside its folder; the state file was altered")
    return Payload(encoding, data, size, file, sha256)
