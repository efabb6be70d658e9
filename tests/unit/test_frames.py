"""Frames over a socket: what is no frame ends the connection, and raises nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from liteflow.processes.frames import Channel, pack

Pair = tuple[Channel, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    yield channel, theirs
    channel.close()
    theirs.close()


@pytest.mark.parametrize(
    "junk",
    [
        b"hello, this is a line of a log",
        b"\0" * 100,
        b"\xff" * 100,
        pack("cut")[:12] + b"?" * (len(pack("cut")) - 12),
        pack("twice")[:10] + pack("twice"),
    ],
)
@pytest.mark.parametrize("descriptors", [False, True])
def test_junk_ends_the_connection_behind_what_came_before(pair: Pair, junk: bytes, *, descriptors: bool) -> None:
    channel, theirs = pair
    theirs.sendall(pack(["first", 1]) + junk)
    take = channel.take_with_descriptors if descriptors else channel.take
    assert take() == [["first", 1]]
    assert channel.eof
    assert take() == []


def test_a_frame_may_come_in_pieces(pair: Pair) -> None:
    channel, theirs = pair
    frame = pack({"key": b"value" * 100})
    theirs.sendall(frame[:7])
    assert channel.take() == []
    theirs.sendall(frame[7:40])
    assert channel.take() == []
    theirs.sendall(frame[40:])
    assert channel.take() == [{"key": b"value" * 100}]
    assert not channel.eof
