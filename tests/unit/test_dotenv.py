"""Dotenv files: what is read, and every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from liteflow import DotenvError, read_dotenv
from liteflow.values.dotenv import parse_dotenv


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A=1\nB = two words \n", {"A": "1", "B": "two words"}),
        ("# note\n\n  export A=x\r\nB=y", {"A": "x", "B": "y"}),
        ("A=a#b # note\nB=#note\nC='#'", {"A": "a#b", "B": "", "C": "#"}),
        ("A='it \"is\" $HOME ${X} \\n' # note\n", {"A": 'it "is" $HOME ${X} \\n'}),
        ('A="a\\nb\\t\\"c\\" \\\\ \\$x \\q"', {"A": 'a\nb\t"c" \\ $x \\q'}),
        ("A='one\ntwo'\nB=\"three\nfour\"\nC=5", {"A": "one\ntwo", "B": "three\nfour", "C": "5"}),
        ("A=pa$$word$x\n", {"A": "pa$$word$x"}),
        ("A=1\nA=2", {"A": "2"}),
        ("A=\nB=''\nC=\"\"", {"A": "", "B": "", "C": ""}),
        ("A=b=c==", {"A": "b=c=="}),
        ("A=it's", {"A": "it's"}),
        ('A="\\${X}"', {"A": "${X}"}),
    ],
)
def test_read(text: str, values: dict[str, str]) -> None:
    assert parse_dotenv(text) == (values, [])


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("A\nB=1\n1C=2", [(1, "expected NAME=value"), (3, "expected NAME=value")]),
        ("A='x\nB=1", [(1, "the ' is not closed")]),
        ('X=1\nA="x', [(2, 'the " is not closed')]),
        ("A='x'y\nB", [(1, "there is text after the closing '"), (2, "expected NAME=value")]),
        (
            "A=${HOME}/x",
            [(1, "${…} is not expanded; put the value into single quotes if it is meant literally")],
        ),
        ("A=x\0y", [(1, "holds a NUL character, which no program can be given")]),
    ],
)
def test_mistakes(text: str, problems: list[tuple[int, str]]) -> None:
    assert parse_dotenv(text)[1] == problems


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "x.env"
    file.write_bytes(b"\xef\xbb\xbfA=\xc3\xb6\n")
    assert read_dotenv(str(file)) == {"A": "ö"}
    file.write_bytes(b"A=1\nB=\xff\nTOPSECRET\n")
    with pytest.raises(DotenvError) as caught:
        read_dotenv(str(file))
    assert str(caught.value) == f"{file}:2: is not UTF-8 text"
    file.write_text("TOPSECRET\n")
    with pytest.raises(DotenvError) as caught:
        read_dotenv(str(file))
    assert str(caught.value) == f"{file}:1: expected NAME=value"
    with pytest.raises(DotenvError, match="cannot be read: No such file"):
        read_dotenv(str(tmp_path / "none"))
