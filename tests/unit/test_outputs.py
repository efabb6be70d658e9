"""The output file: what may stand in it, what it means, and what is said of everything else."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liteflow import outputs
from liteflow.errors import PayloadError, ResourceError
from liteflow.outputs import create_folder, parse, printed, remove_folder, take
from liteflow.record import replace
from liteflow.values.payload import decode
from liteflow.work import RunInfo

INFO = RunInfo(run_id="r", dag_id="d", db_path="/nowhere/state.db", log_dir=None)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("\n  \n\t\n", {}),
        ("a=1\n", {"a": "1"}),
        ("a=1", {"a": "1"}),
        ("a=\n", {"a": ""}),
        ("a= two words \n", {"a": " two words "}),
        ("a=b=c\n", {"a": "b=c"}),
        ("a=b<<c\n", {"a": "b<<c"}),
        ("a={\n", {"a": "{"}),
        ('a={"b": 1}\n', {"a": '{"b": 1}'}),
        ("a=1\r\nb=2\r\n", {"a": "1", "b": "2"}),
        ("a=1\na=2\n", {"a": "2"}),
        ("a=\u2028x\x0by\n", {"a": "\u2028x\x0by"}),
        ("_a-B9=x\nreturn_value=y\n", {"_a-B9": "x", "return_value": "y"}),
        ("a<<E\nE\n", {"a": ""}),
        ("a<<E\n\nE\n", {"a": ""}),
        ("a<<E\none\n two\nE\nb=1\n", {"a": "one\n two", "b": "1"}),
        ("a<<E\none\r\ntwo\r\nE\r\nb=1", {"a": "one\r\ntwo", "b": "1"}),
        ("a<<E O.F\nE O F\nb=1\nE O.F", {"a": "E O F\nb=1"}),
        ("a<<E\nEE\n E\nE", {"a": "EE\n E"}),
        ('{"a": 1, "b": [1.5, null, true, {"c": "d"}]}\n', {"a": 1, "b": [1.5, None, True, {"c": "d"}]}),
        ('  {"a": 1}  \nb=2\n', {"a": 1, "b": "2"}),
        ('{\n  "a": 1\n}\n{"b": 2}\n', {"a": 1, "b": 2}),
        ("{}", {}),
        ('a=1\n{"a": 1}', {"a": 1}),
    ],
)
def test_what_it_means(text: str, values: dict[str, Any]) -> None:
    assert parse(text) == values


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a=1\nnonsense\n", 2, "expected name=value, name<<WORD or a JSON object"),
        (" a=1\n", 1, "expected name=value"),
        ("a =1\n", 1, "expected name=value"),
        ("1a=1\n", 1, "expected name=value"),
        ("é=1\n", 1, "expected name=value"),
        ("=1\n", 1, "expected name=value"),
        ("[1]\n", 1, "expected name=value"),
        ("::set-output name=a::1\n", 1, "expected name=value"),
        ("a<<\nx\n", 1, "expected a word after <<"),
        ("a<<  \nx\n", 1, "expected a word after <<"),
        ("b=1\na<<END\nx\n END\n", 2, "no later line is 'END' alone"),
        ("a<<END", 1, "no later line is 'END' alone"),
        ('\n{"a": 1\n', 3, "not valid JSON"),
        ('{"a": 1} b=2\n', 1, "there is text after"),
        ('{\n"a": 1} {}\n', 2, "there is text after"),
        ('{"a": NaN}\n', 1, "NaN is not a number in JSON"),
        ('x=1\n{"a b": 1}\n', 2, "'a b' is not a valid name"),
        ('{"a\\n": 1}\n', 1, "is not a valid name"),
        ('{"a": ' + "[" * 100_000 + "\n", 1, "not valid JSON: too deeply nested"),
        ('{"a": ' + "9" * 5000 + "}\n", 1, "not valid JSON: Exceeds the limit"),
        ("a" * 200 + "=1\n", 1, "the name has 200 characters"),
        ("".join(f"n{number}=1\n" for number in range(10_001)), 10_001, "more than 10,000 names"),
    ],
)
def test_what_is_refused(text: str, line: int, words: str) -> None:
    with pytest.raises(PayloadError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith(f"$LIGHTFLOW_OUTPUT, line {line}: "), message
    assert words in message
    assert "\n" not in message
    assert len(message) < 250


def test_what_may_be_a_secret_is_not_shown() -> None:
    with pytest.raises(PayloadError) as caught:
        parse("key=-----BEGIN\nabcSECRETdef\n")
    assert "SECRET" not in str(caught.value)


names = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_-]{0,20}\Z")
lines = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\n\r"), max_size=20)
text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=40)
trees = st.recursive(st.none() | st.booleans() | st.integers() | text, lambda inner: st.lists(inner, max_size=3))


@given(st.lists(st.tuples(names, st.one_of(lines, text, trees)), max_size=8))
def test_what_is_written_is_read(pairs: list[tuple[str, Any]]) -> None:
    """Whatever value is written in the form that can hold it comes back, and takes nothing of its neighbours."""
    written = []
    for name, value in pairs:
        if not isinstance(value, str):
            written.append(json.dumps({name: value}, indent=len(name) % 3 or None))
        elif "\n" in value:
            written.append(f"{name}<<==END==\n{value}\n==END==")
        else:
            written.append(f"{name}={value}")
    assert parse("\n".join(written)) == dict(pairs)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        result = parse(text)
    except PayloadError:
        return
    assert all(isinstance(name, str) for name in result)


# -- the file ---------------------------------------------------------------------------------------------------


def taken(path: Path) -> dict[str, Any]:
    return {name: decode(payload) for name, payload in take(str(path), INFO).items()}


def test_a_file_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("a=1\n")
    assert taken(path) == {"a": "1"}
    assert not path.exists()
    assert taken(path) == {}


def link(path: Path) -> None:
    target = path.with_name("target")
    target.write_text("a=1\n")
    path.symlink_to(target)


def socket(path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, outputs.LIMIT_BYTES + 1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (link, "has become a symbolic link"),
        (lambda path: os.mkfifo(path), "is no longer a regular file"),
        (lambda path: path.mkdir(), "is no longer a regular file"),
        (socket, "is no longer a regular file"),
        (huge, "holds 67,108,865 bytes; the limit is 67,108,864"),
        (lambda path: path.write_bytes(b"a=1\nb=\0\n"), "line 2: holds a NUL byte"),
        (lambda path: path.write_bytes(b"a=1\n\nb=\xff\n"), "line 3: is not UTF-8 text"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, make: Any, words: str) -> None:
    path = tmp_path / "f"
    make(path)
    with pytest.raises(PayloadError, match=words):
        take(str(path), INFO)
    assert path.is_dir() or not os.path.lexists(path)


def test_large_values_go_to_files(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text(f"a={'x' * 11_000_000}\n")
    payload = take(str(path), replace(INFO, values_dir=str(tmp_path / "values")))["a"]
    assert payload.file is not None
    assert len(decode(payload)) == 11_000_000


def test_the_folder_is_private_and_created_again(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    create_folder(str(folder))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "old").mkdir()
    (folder / "old" / "file").touch()
    create_folder(str(folder))
    assert list(folder.iterdir()) == []
    remove_folder(str(folder))
    remove_folder(str(folder))
    assert not folder.exists()
    folder.symlink_to(tmp_path)
    with pytest.raises(ResourceError, match="is in the way"):
        create_folder(str(folder))


# -- what was printed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "value"),
    [
        (b"one\ntwo\n", "two"),
        (b"one\ntwo", "two"),
        (b"one\n two \n\n  \n", " two "),
        (b"one\r\ntwo\r\n", "two"),
        (b"one", "one"),
        (b"\n \n", None),
        (b"", None),
        (b"x" * 2_000_000 + b"\nend\n", "end"),
        ("… é …\nok\n".encode(), "ok"),
        (b"10%\r50%\r\x1b[32m100%\x1b[0m\n", "100%"),
        (b"10%\r100%\r\r\n", "100%"),
        (b"one\n\x1b[1mtwo\x1b[0m\n\x1b[0m\n", "two"),
        (b"one\rtwo\r\x1b[K\n", "two"),
        (b"\x1b]0;title\x07name\n", "name"),
        ("one\n… 3 of 4 …\n".encode(), "… 3 of 4 …"),  # a line of the task's own
        (b"10%\r50%\r\x1b[32m100%\x1b[0m", "100%"),
        (b"10%\r\x1b[2K\x1b[1;31mdone in 3 s\x1b[m\x1b[K\r\n", "done in 3 s"),
        (b"value\n\x1b[0m\n\r\n", "value"),
        (b"100%\r    \r", "100%"),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x07\n", "link"),
        (b"9%\r" * 1_000_000 + b"100%\n", "100%"),
    ],
)
def test_the_last_line(tmp_path: Path, log: bytes, value: str | None) -> None:
    path = tmp_path / "log"
    path.write_bytes(log)
    payload = printed("last_line", str(path), INFO)
    assert (None if payload is None else decode(payload)) == value


@pytest.mark.parametrize(
    ("how", "log", "words"),
    [
        ("last_line", b"x" * 2_000_000, "the last line is longer than 1,048,576 bytes"),
        ("last_line", b"one\n\xff\n", "is not UTF-8"),
        ("json", b"", "is not JSON: nothing was printed"),
        ("json", b"warning\n{}\n", "is not JSON: line 1"),
        ("json", b"{}\n{}\n", "is not JSON: line 2"),
        ("json", b"\xff", "is not UTF-8"),
        ("json", b"[NaN]", "NaN is not a number"),
        ("json", b"[" * 100_000, "too deeply nested"),
    ],
)
def test_what_was_printed_is_something_else(tmp_path: Path, how: str, log: bytes, words: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(log)
    with pytest.raises(PayloadError, match=words):
        printed(how, str(path), INFO)


def test_printed_json(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text('{\n "rows": [1, 2.5]\n}\n')
    payload = printed("json", str(path), INFO)
    assert payload is not None
    assert decode(payload) == {"rows": [1, 2.5]}
    assert printed("last_line", None, INFO) is None
    with pytest.raises(PayloadError, match="nothing was printed"):
        printed("json", None, INFO)
    with pytest.raises(PayloadError, match="cannot be read"):
        printed("json", str(tmp_path / "gone"), INFO)
