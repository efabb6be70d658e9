"""Masking: every form of a secret, wherever the pieces of output happen to end."""

from __future__ import annotations

import base64
import json
import pickle
import shlex
import subprocess
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liteflow.masking import Masker

HARD = "p\"a'ss $w\\ö/rd+&\n2nd line!"


@pytest.mark.parametrize(
    "shown",
    [
        HARD,
        "p\"a'ss $w\\ö/rd+&",  # a line of it
        "2nd line!",
        json.dumps(HARD),
        json.dumps(HARD, ensure_ascii=False),
        json.dumps(json.dumps({"deep": HARD})),
        urllib.parse.quote(HARD),
        urllib.parse.quote(HARD, safe=""),
        urllib.parse.quote_plus(HARD),
        urllib.parse.quote(HARD, safe="").lower(),
        shlex.quote(HARD),
        "'" + HARD.replace("'", "'\\''") + "'",
        repr(HARD),
        repr(HARD.encode()),
        repr([HARD]),
        HARD.encode().hex(),
        HARD.encode().hex().upper(),
    ],
)
def test_a_form_of_a_secret_is_masked(shown: str) -> None:
    masked = Masker({"S": HARD}).text(f"before {shown} behind")
    assert masked.startswith("before ")
    assert masked.endswith(" behind")
    assert "***" in masked
    assert "ss $w" not in masked
    assert "2nd" not in masked


@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("behind", range(4))
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
def test_base64_is_masked_wherever_the_secret_is(before: int, behind: int, encode: object) -> None:
    secret = "\u00fe\u00ff" + "s3cr3t-t0ken?" * (1 if encode is not base64.encodebytes or before else 9)
    text = encode(b"u" * before + secret.encode() + b"x" * behind)  # type: ignore[operator]
    masked = Masker({"S": secret}).data(text)
    assert b"***" in masked
    preserved = masked.replace(b"***", b"").replace(b"\n", b"")
    assert len(preserved) <= len(base64.b64encode(b"u" * (before + behind + 4))) + 8


@pytest.mark.parametrize(
    ("shell", "script"),
    [("bash", 'set -x; : "$S"; printf "%q" "$S"; declare -p S'), ("sh", 'set -x; echo "$S"; printf %b "$S"')],
)
def test_what_a_shell_makes_of_it_is_masked(shell: str, script: str) -> None:
    secret = 'it\'s a $ecret "quoted" `x` \\n \\\\'
    done = subprocess.run([shell, "-c", script], env={"S": secret}, capture_output=True, check=True)
    masked = Masker({"S": secret}).data(done.stdout + done.stderr)
    assert masked.count(b"***") == 4
    assert b"ecret" not in masked


def test_every_split_gives_what_one_piece_gives() -> None:
    masker = Masker({"A": "hunter2!", "B": "er2!xyz", "C": "aaaa", "D": "line one\nline two\n"})
    text = b"x hunter2!xyz aaaaaaa hunter2 hunter2! aHVudGVyMiE= line one\nline two\nend \xc3\xb6 hunt"
    whole = masker.data(text)
    assert whole == b"x *** *** hunter2 *** ***E= ***end \xc3\xb6 ***"
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            stream = masker.stream()
            pieces = [stream.feed(text[:first]), stream.feed(text[first:second]), stream.feed(text[second:])]
            assert b"".join(pieces) + stream.end() == whole


WORDS = st.text(alphabet="ab\n", min_size=4, max_size=9)


@given(st.lists(WORDS, min_size=1, max_size=3), st.data())
def test_pieces_and_whole_agree_and_no_secret_is_left(secrets: list[str], data: st.DataObject) -> None:
    masker = Masker({str(number): value for number, value in enumerate(secrets)})
    parts = data.draw(st.lists(st.one_of(st.sampled_from(secrets), st.text("abc\n", max_size=5)), max_size=8))
    text = "".join(parts).encode()
    stream, written, place = masker.stream(), b"", 0
    while place < len(text):
        size = data.draw(st.integers(1, 7))
        written += stream.feed(text[place : place + size])
        assert not any(value.encode() in written for value in secrets)
        place += size
    written += stream.end()
    assert written == masker.data(text)
    assert not any(value.encode() in written for value in secrets)


def test_only_what_may_be_the_beginning_of_a_secret_is_held_back() -> None:
    stream = Masker({"S": "hunter2!"}).stream()
    assert stream.feed(b"no secret\n") == b"no secret\n"
    assert stream.feed(b"the hunt") == b"the "
    assert stream.feed(b" is on\n") == b"hunt is on\n"
    assert stream.masked == set()


def test_of_a_secret_that_is_broken_off_half_is_masked_at_the_end() -> None:
    masker = Masker({"S": "hunter2!"})
    assert masker.data(b"pw hunter2") == b"pw ***"
    assert masker.data(b"go hun") == b"go hun"


def test_what_is_too_short_is_left_alone() -> None:
    masker = Masker({"S": "abc", "T": "x\ny\nlonger"})
    assert masker.text("abc x y longer x\ny\nlonger") == "abc x y *** ***"


def test_a_long_secret_and_a_text_full_of_its_beginnings() -> None:
    secret = "a" * 4000 + "b"
    masker = Masker({"S": secret})
    stream = masker.stream()
    written = b"".join(stream.feed(b"a" * 1000) for _ in range(20)) + stream.feed(b"b!") + stream.end()
    assert written == b"a" * 16000 + b"***!"


def test_a_masker_survives_pickling_and_shows_nothing() -> None:
    masker = pickle.loads(pickle.dumps(Masker({"S": "hunter2!"})))
    assert masker.text("hunter2!") == "***"
    assert "hunter" not in repr(masker)
    assert masker.secret_in(b"x hunter2!") == "S"
    assert masker.secret_in(b"x") is None


def test_text_that_is_not_unicode_is_preserved() -> None:
    assert Masker({"S": "hunter2!"}).text("\udc80 hunter2!") == "\udc80 ***"
