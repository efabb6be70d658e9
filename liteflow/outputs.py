"""The file in which a task hands on values, `$LIGHTFLOW_OUTPUT`, and what is read out of a task's printed output.

The file is UTF-8 text. Each line, by what it begins with, is one of these; blank lines are passed over:

    name=value          text, up to the line's end
    name<<WORD          text: the lines from the next one to the one that is WORD alone
    {"name": value, …}  JSON, which may take several lines: numbers, lists and so on stay what they are

A name is letters, digits, `_` and `-` and does not begin with a digit or `-`, so no line can be read in two ways. Of
a name that comes twice the last one counts.

The files of a run lie in a folder of their own beside the state file, so that whoever owns the run next finds what one
that was killed has left. Nothing here trusts a file: it may have become a link, a pipe or a terabyte.
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
from liteflow.identifiers import checked
from liteflow.masking import MASK
from liteflow.values.payload import Payload
from liteflow.work import RunInfo, Work

NAME: Final = r"[A-Za-z_][A-Za-z0-9_-]*"
#: of a file, and of printed JSON
LIMIT_BYTES: Final = 64 * 1024 * 1024
#: of the last line that a task printed
LINE_BYTES: Final = 1024 * 1024
MOST_NAMES: Final = 10_000
_LONGEST_NAME: Final = 128
_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
_FILE: Final = "$LIGHTFLOW_OUTPUT"


# -- where the files are ----------------------------------------------------------------------------------------


def outputs_dir(db_path: str, run_id: str) -> str:
    """The folder of a run's output files.

    Raises:
        StoreError: the run id is none, and could lead elsewhere.
    """
    return f"{db_path}_out-{checked(run_id)}"


def create_folder(path: str) -> None:
    """Make a run's folder, empty; only the owner of the run may. One that a killed owner has left goes first.

    A disk that is full or read-only costs only the tasks that want to write there.

    Raises:
        ResourceError: something else stands in its place.
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
    """Remove a run's folder with what is left in it."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError:
        import shutil  # with its compression formats; hardly any run leaves something

        shutil.rmtree(path, ignore_errors=True)


def output_path(info: RunInfo, work: Work) -> str | None:
    """The file of an attempt; no other attempt ever has the same, so that what is written late reaches nobody."""
    return None if info.outputs_dir is None else f"{info.outputs_dir}/{work.node}-{work.attempt}"


def exists(path: str) -> bool:
    """Has the task made its file? Most do not, and this takes a microsecond."""
    return os.access(path, os.F_OK, follow_symlinks=False)


def discard(path: str) -> None:
    """Remove the file of an attempt that did not succeed."""
    try:
        os.unlink(path)
    except OSError:
        return  # it is not there; what else may stand there goes with the folder


def take(path: str, info: RunInfo) -> dict[str, Payload]:
    """The values in the file of an attempt, by name; the file is gone then.

    Raises:
        PayloadError: it cannot be understood; the message is one line.
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
        kind = {errno.ELOOP: "has become a symbolic link", errno.ENXIO: "is not a regular file any more"}
        reason = kind.get(error.errno or 0, f"cannot be read: {error.strerror}")
        raise PayloadError(f"{_FILE} {reason}") from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise PayloadError(f"{_FILE} is not a regular file any more")
    with os.fdopen(fd, "rb") as file:
        if status.st_size > LIMIT_BYTES:
            raise PayloadError(
                f"{_FILE} holds {status.st_size:,} bytes; {LIMIT_BYTES:,} are the most: hand on large data in a file, "
                "and its path as the value"
            )
        return file.read(status.st_size)


# -- what is in one ---------------------------------------------------------------------------------------------


def parse(text: str) -> dict[str, Any]:
    """The values in the text of an output file.

    Raises:
        PayloadError: tells the line, and what was expected there. It shows nothing of the line: that may be
            a piece of a secret whose writer forgot that it has several lines.
    """

    plain = re.compile(rf"({NAME})(=|<<)(.*)", re.DOTALL)
    found: dict[str, Any] = {}
    place = 0
    while place < len(text):
        stop = _line_end(text, place)
        line = text[place:stop].removesuffix("\r")
        if line.lstrip(" \t").startswith("{"):
            values, stop = _json_object(text, text.index("{", place))
            for name in values:
                if not re.fullmatch(NAME, name):
                    _refuse(_number(text, place), f"{_short(name)} is no name; names are letters, digits, _ and -")
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
            if len(name) > _LONGEST_NAME:
                _refuse(_number(text, place), f"the name has {len(name):,} characters; {_LONGEST_NAME} are the most")
        found.update(values)
        if len(found) > MOST_NAMES:
            _refuse(_number(text, place), f"more than {MOST_NAMES:,} names; put them into one JSON value")
        place = stop + 1
    return found


def _line_end(text: str, place: int) -> int:
    stop = text.find("\n", place)
    return len(text) if stop < 0 else stop


def _lines_until(word_alone: Any, word: str, text: str, place: int, stop: int) -> tuple[str, int]:
    """The lines behind the one at `place`, which ends at `stop`, and where the one that is `word` alone ends."""
    if not word.strip():
        _refuse(_number(text, place), "expected a word behind <<, such as name<<END")
    begin = min(stop + 1, len(text))
    end = word_alone.search(text, begin)
    if end is None:
        _refuse(_number(text, place), f"no later line is {_short(word)} alone, so the value has no end")
    return text[begin : end.start()].removesuffix("\n").removesuffix("\r"), _line_end(text, end.start())


def _json_object(text: str, place: int) -> tuple[dict[str, Any], int]:
    """The object that begins at `place`, and where its last line ends."""
    try:
        value, end = json.JSONDecoder(parse_constant=_no_number).raw_decode(text, place)
    except json.JSONDecodeError as error:
        _refuse(error.lineno, f"not valid JSON: {error.msg}")
    except (ValueError, RecursionError) as error:
        _refuse(_number(text, place), f"not valid JSON: {_reason(error)}")
    stop = _line_end(text, end)
    if text[end:stop].strip():
        _refuse(_number(text, end), "something stands behind the JSON object; it belongs on a line of its own")
    assert isinstance(value, dict)
    return value, stop


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _reason(error: Exception) -> str:
    return "too deeply nested" if isinstance(error, RecursionError) else str(error).partition(";")[0]


def _number(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def _short(word: str) -> str:
    return repr(word) if len(word) <= 40 else f"a word of {len(word):,} characters"


def _refuse(line: int, problem: str) -> NoReturn:
    raise PayloadError(f"{_FILE}, line {line}: {problem}")


# -- what a task has printed -------------------------------------------------------------------------------------


def printed(
    how: str, log_path: str | None, info: RunInfo, *, masked: Sequence[str] = (), size_bytes: int = 0
) -> Payload | None:
    """The value that a task has printed: its `last_line` as text, or all of it as `json`. None: it printed no line.

    `masked` names the secrets that were masked in it: a mask in the value then stands for one. `size_bytes` is how much
    was printed, where that is known: of a long output not all is in the log.

    Raises:
        PayloadError: the output is something else; the message is one line.
    """
    most = LIMIT_BYTES if how == "json" else LINE_BYTES
    if how == "json" and size_bytes > LIMIT_BYTES:
        raise PayloadError(
            f"output: {size_bytes:,} bytes were printed; {LIMIT_BYTES:,} are the most for JSON: hand on large data in "
            "a file, and its path as the value"
        )
    raw = b"" if log_path is None else _printed(log_path, most)
    try:
        text = raw if how == "json" else _last_line(raw)
        if masked and MASK in text:
            secrets = f"the secret {masked[0]}" if len(masked) == 1 else f"one of the secrets {', '.join(masked)}"
            raise PayloadError(f"output: what was printed holds {secrets}, and values are stored")
        if how == "json":
            return info.encode(json.loads(text.decode(), parse_constant=_no_number))
        return info.encode(text.decode()) if text else None
    except UnicodeDecodeError:
        raise PayloadError("output: what was printed is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}: {error.msg}" if raw.strip() else "nothing was printed"
        raise PayloadError(f"output: what was printed is not JSON: {where}") from None
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"output: what was printed is not JSON: {_reason(error)}") from None


#: Control sequences of a terminal.
_ESCAPES: Final = rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])"


def _last_line(raw: bytes) -> bytes:
    """The last line that is not blank, as a terminal would show it; the blanks at its end are part of it.

    So of what a progress bar draws it is what stands behind the last carriage return, without colors.
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
    """The end of a log, at most so many bytes."""
    try:
        with os.fdopen(os.open(log_path, _OPEN), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - most))
            return file.read(most)
    except OSError as error:
        raise PayloadError(f"output: {log_path}: cannot be read: {error.strerror}") from None
