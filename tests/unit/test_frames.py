"""Frames over a socket: what is no frame ends the connection, and raises nothing."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence

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


@pytest.mark.parametrize("descriptors", [False, True])
def test_a_frame_may_be_cut_at_any_byte(pair: Pair, *, descriptors: bool) -> None:
    channel, theirs = pair
    take = channel.take_with_descriptors if descriptors else channel.take
    values = [{"key": b"value" * 10}, None, ["second", 2]]
    frames = b"".join(map(pack, values))
    for cut in range(len(frames) + 1):
        theirs.sendall(frames[:cut])
        first = take() if cut else []
        theirs.sendall(frames[cut:])
        rest = take() if cut < len(frames) else []
        assert first + rest == values, cut
        complete = sum(len(b"".join(map(pack, values[: count + 1]))) <= cut for count in range(len(values)))
        assert len(first) == complete, cut
    assert not channel.eof


#: Prints how many page faults short reads have; `malloc` treats buffers otherwise once a program has freed a large one.
READS = """
import resource, socket, sys
from liteflow.processes.frames import Channel, pack
ours, theirs = socket.socketpair()
channel = Channel(ours)
take = channel.take_with_descriptors if sys.argv[1:] else channel.take
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for number in range(500):
    theirs.sendall(pack(number))
    assert take() == [number]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.parametrize("words", [(), ("descriptors",)])
def test_a_short_read_maps_no_memory_of_its_own(words: Sequence[str]) -> None:
    """A mapping for each read takes longer than the read, and has page faults."""
    faults = subprocess.run([sys.executable, "-c", READS, *words], capture_output=True, text=True, check=True).stdout
    assert int(faults) < 250
