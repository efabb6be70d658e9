"""The file into which a task writes values, `$LIGHTFLOW_OUTPUT`, and values that are read from its printed output.

The file is UTF-8 text. Each line is one of these, by its beginning; blank lines are skipped:

    name=value          text, up to the line's end
    name<<WORD          text: the lines from the next one to the one that is WORD alone
    {"name": value, …}  JSON, which may take several lines: numbers, lists and so on keep their types

A name is letters, digits, `_` and `-` and does not begin with a digit or `-`, so no line is ambiguous. If a name occurs
twice, the last value counts.

The files of a run are in a folder of their own next to the state file, so that the next owner of the run finds those
that a killed owner has left. No file is trusted: it may have become a link, a pipe or a terabyte.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from liteflow.errors import PayloadError, ResourceError
from liteflow.identifiers import check_run_id
from liteflow.masking import MASK
from liteflow.values.payload import Payload
from liteflow.work import RunInfo, Work

NAME: Final = r"[A-Za-z_][A-Za-z0-9_-]*"
#: the largest file, and the longest printed JSON
LIMIT_BYTES: Final = 64 * 1024 * 1024
#: the longest last line of printed output
LINE_BYTES: Final = 1024 * 1024
MAX_NAMES: Final = 10_000
_MAX_NAME_LENGTH: Final = 128
_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
_FILE: Final = "$LIGHTFLOW_OUTPUT"


# -- where the files are ----------------------------------------------------------------------------------------


def outputs_dir(db_path: str, run_id: str) -> str:
    """Return the folder of the output files of a run.

    Raises:
        StoreError: the run id is not valid, and could lead to another folder.
    """
    return f"{db_path}_out-{check_run_id(run_id)}"


def create_folder(path: str) -> None:
    """Create the folder of a run, empty; it removes one that a killed owner has left. For the owner of the run.

    On a disk that is full or read-only only the tasks that write there fail.

    Raises:
        ResourceError: something else has the path and cannot be removed.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        remove_folder(path)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            raise ResourceError(f"{path}: is in the way and cannot be removed; remove it") from None
        except OSError:
            return
    except OSError:
        return


def remove_folder(path: str) -> None:
    """Remove the folder of a run with its contents."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError:
        import shutil  # it imports compression formats, and few runs leave files

        shutil.rmtree(path, ignore_errors=True)


def output_path(info: RunInfo, work: Work) -> str | None:
    """Return the file of an attempt. No other attempt has the same, so that nothing reads what is written late."""
    return None if info.outputs_dir is None else f"{info.outputs_dir}/{work.node}-{work.attempt}"


def exists(path: str) -> bool:
    """Return whether the task has created its file. It takes a microsecond, and most tasks have not."""
    return os.access(path, os.F_OK, follow_symlinks=False)


def discard(path: str) -> None:
    """Remove the file of an attempt that did not succeed."""
    try:
        os.unlink(path)
    except OSError:
        return  # it does not exist, or is a folder, which is removed with the folder of the run


def take(path: str, info: RunInfo) -> dict[str, Payload]:
    """Return the values in the file of an attempt, by name, and remove the file.

    Raises:
        PayloadError: the file is not valid; the message is one line.
    """
    try:
        raw = _read(path)
    except FileNotFoundError:
        return {}
    finally:
        discard(path)
    if not raw:
        return {}
    if b"\0" in raw:
        _refuse(raw.count(b"\n", 0, raw.index(b"\0")) + 1, "holds a NUL byte; values are text")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        _refuse(raw.count(b"\n", 0, error.start) + 1, "is not UTF-8 text")
    return {info.stored_name(name): _stored(name, value, info) for name, value in parse(text).items()}


def _stored(name: str, value: Any, info: RunInfo) -> Payload:
    try:
        return info.encode(value)
    except PayloadError as error:
        raise PayloadError(f"output {name!r}: {error}") from None


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, _OPEN)
    except FileNotFoundError:
        raise
    except OSError as error:
        kind = {errno.ELOOP: "has become a symbolic link", errno.ENXIO: "is no longer a regular file"}
        reason = kind.get(error.errno or 0, f"cannot be read: {error.strerror}")
        raise PayloadError(f"{_FILE} {reason}") from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise PayloadError(f"{_FILE} is no longer a regular file")
    with os.fdopen(fd, "rb") as file:
        if status.st_size > LIMIT_BYTES:
            raise PayloadError(
                f"{_FILE} holds {status.st_size:,} bytes; the limit is {LIMIT_BYTES:,}: pass large data in a file, "
                "and its path as the value"
            )
        return file.read(status.st_size)


# -- the syntax --------------------------------------------------------------------------------------------------


def parse(text: str) -> dict[str, Any]:
    """Return the values in the text of an output file.

    Raises:
        PayloadError: the message names the line and what was expected. It does not quote the line, which may be a part
            of a secret of several lines.
    """

    plain = re.compile(rf"({NAME})(=|<<)(.*)", re.DOTALL)
    outputs: dict[str, Any] = {}
    place = 0
    while place < len(text):
        stop = _line_end(text, place)
        line = text[place:stop].removesuffix("\r")
        if line.lstrip(" \t").startswith("{"):
            values, stop = _json_object(text, text.index("{", place))
            for name in values:
                if not re.fullmatch(NAME, name):
                    _refuse(
                        _number(text, place), f"{_short(name)} is not a valid name; names are letters, digits, _ and -"
                    )
        elif match := plain.fullmatch(line):
            name, sign, value = match.groups()
            if sign == "<<":
                value, stop = _lines_until(re.compile(rf"^{re.escape(value)}\r?$", re.M), value, text, place, stop)
            values = {name: value}
        elif line.strip():
            _refuse(
                _number(text, place),
                "expected name=value, name<<WORD or a JSON object (a value of several lines needs name<<WORD)",
            )
        else:
            values = {}
        for name in values:
            if len(name) > _MAX_NAME_LENGTH:
                _refuse(_number(text, place), f"the name has {len(name):,} characters; the limit is {_MAX_NAME_LENGTH}")
        outputs.update(values)
        if len(outputs) > MAX_NAMES:
            _refuse(_number(text, place), f"more than {MAX_NAMES:,} names; put them into one JSON value")
        place = stop + 1
    return outputs


def _line_end(text: str, place: int) -> int:
    stop = text.find("\n", place)
    return len(text) if stop < 0 else stop


def _lines_until(word_alone: Any, word: str, text: str, place: int, stop: int) -> tuple[str, int]:
    """Return the lines after the one that ends at `stop`, and the end of the line that is `word` alone."""
    if not word.strip():
        _refuse(_number(text, place), "expected a word after <<, such as name<<END")
    begin = min(stop + 1, len(text))
    end = word_alone.search(text, begin)
    if end is None:
        _refuse(_number(text, place), f"no later line is {_short(word)} alone, so the value does not end")
    return text[begin : end.start()].removesuffix("\n").removesuffix("\r"), _line_end(text, end.start())


def _json_object(text: str, place: int) -> tuple[dict[str, Any], int]:
    """Return the object that begins at `place`, and the end of its last line."""
    try:
        value, end = json.JSONDecoder(parse_constant=_no_number).raw_decode(text, place)
    except json.JSONDecodeError as error:
        _refuse(error.lineno, f"not valid JSON: {error.msg}")
    except (ValueError, RecursionError) as error:
        _refuse(_number(text, place), f"not valid JSON: {_reason(error)}")
    stop = _line_end(text, end)
    if text[end:stop].strip():
        _refuse(_number(text, end), "there is text after the JSON object; write it on a line of its own")
    assert isinstance(value, dict)
    return value, stop


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _reason(error: Exception) -> str:
    return "too deeply nested" if isinstance(error, RecursionError) else str(error).partition(";")[0]


def _number(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def _short(word: str) -> str:
    return repr(word) if len(word) <= 40 else f"a word of {len(word):,} characters"


def _refuse(line: int, problem: str) -> NoReturn:
    raise PayloadError(f"{_FILE}, line {line}: {problem}")


# -- printed output ----------------------------------------------------------------------------------------------


def printed(
    how: str, log_path: str | None, info: RunInfo, *, masked: Sequence[str] = (), size_bytes: int = 0
) -> Payload | None:
    """Return the value that a task has printed: its `last_line` as text, or all of it as `json`; None: no line.

    `masked` are the names of the secrets that were masked in the output, so that a mask in the value is one of them.
    `size_bytes` is the size of the output, if known: the log of a long output is not complete.

    Raises:
        PayloadError: the output is not valid; the message is one line.
    """
    most = LIMIT_BYTES if how == "json" else LINE_BYTES
    if how == "json" and size_bytes > LIMIT_BYTES:
        raise PayloadError(
            f"output: {size_bytes:,} bytes were printed; the limit for JSON is {LIMIT_BYTES:,}: pass large data in "
            "a file, and its path as the value"
        )
    raw = b"" if log_path is None else _printed(log_path, most)
    try:
        text = raw if how == "json" else _last_line(raw)
        if masked and MASK in text:
            secrets = f"the secret {masked[0]}" if len(masked) == 1 else f"one of the secrets {', '.join(masked)}"
            raise PayloadError(f"output: the printed text contains {secrets}, and values are stored")
        if how == "json":
            return info.encode(json.loads(text.decode(), parse_constant=_no_number))
        return info.encode(text.decode()) if text else None
    except UnicodeDecodeError:
        raise PayloadError("output: the printed text is not UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}: {error.msg}" if raw.strip() else "nothing was printed"
        raise PayloadError(f"output: the printed text is not JSON: {where}") from None
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"output: the printed text is not JSON: {_reason(error)}") from None


#: Control sequences of a terminal.
_ESCAPES: Final = rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])"


def _last_line(raw: bytes) -> bytes:
    """Return the last line that is not blank, as a terminal shows it, with the blanks at its end.

    Of a progress bar it is the text after the last carriage return, without colors.
    """

    escapes = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-Z\\^-~])")
    end = len(raw)
    while end > 0:
        start = max(raw.rfind(b"\n", 0, end), raw.rfind(b"\r", 0, end)) + 1
        line = escapes.sub(b"", raw[start:end]) if b"\x1b" in raw[start:end] else raw[start:end]
        if line.strip():
            if not start and len(raw) >= LINE_BYTES:
                break
            return line
        end = start - 1
    if len(raw) >= LINE_BYTES:
        raise PayloadError(f"output: the last line is longer than {LINE_BYTES:,} bytes")
    return b""


def _printed(log_path: str, most: int) -> bytes:
    """Return the end of a log, at most `most` bytes."""
    try:
        with os.fdopen(os.open(log_path, _OPEN), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - most))
            return file.read(most)
    except OSError as error:
        raise PayloadError(f"output: {log_path}: cannot be read: {error.strerror}") from None
