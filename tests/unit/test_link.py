"""The link between the owner of a run and an agent: what passes, what is refused, and in which order."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from liteflow.processes.frames import pack
from liteflow.remote import handshake
from liteflow.remote.handshake import HandshakeFailed, OwnerHandshake, greet
from liteflow.remote.link import LONGEST_FRAME, PIECE_BYTES
from liteflow.remote.link import Link as CheckedLink


def is_anything(value: Any) -> bool:
    return True


#: The messages of these tests: with one field, with two, and with three.
ACCEPTED = {
    **dict.fromkeys(("first", "value", "work", "beat"), (is_anything,)),
    "numbered": (is_anything, is_anything),
    "log": (is_anything, is_anything, is_anything),
}
Link = partial(CheckedLink, accepted=ACCEPTED)
Pair = tuple[CheckedLink, CheckedLink]
LIMIT_S = 120.0


def tls_pair(folder: Path) -> tuple[socket.socket, socket.socket]:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    certificate.configure_cert(server)
    authority.configure_trust(client)
    near, far = socket.socketpair()
    wrapped: list[ssl.SSLSocket] = []
    thread = threading.Thread(target=lambda: wrapped.append(server.wrap_socket(far, server_side=True)))
    thread.start()
    near_tls = client.wrap_socket(near, server_hostname="localhost")
    thread.join()
    return near_tls, wrapped[0]


@pytest.fixture(params=["socket", "tls"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    if request.param == "tls":
        near, far = map(Link, tls_pair(tmp_path))
    else:
        near, far = map(Link, socket.socketpair())
    yield near, far
    near.close()
    far.close()


def exchange(near: CheckedLink, far: CheckedLink, count: int) -> list[Any]:
    """Return the messages that arrive, while both ends do what they can."""
    messages: list[Any] = []
    for _ in range(100_000):
        near.flush()
        messages += far.take()
        if len(messages) >= count or far.eof:
            return messages
    raise AssertionError(f"only {len(messages)} messages have arrived")


def test_messages_of_all_sizes_arrive_in_order(pair: Pair) -> None:
    near, far = pair
    sent = [("value", bytes([number % 256]) * size) for number, size in enumerate([0, 1, 999, 70_000, 3_000_000, 5])]
    for message in sent:
        near.send(message)
    assert exchange(near, far, len(sent)) == sent
    assert not near.backlog
    assert not far.eof


def test_nothing_that_is_decrypted_is_left_behind(pair: Pair) -> None:
    near, far = pair
    for number in range(3000):
        near.send(("numbered", number, "x" * 30))
    assert [message[1] for message in exchange(near, far, 3000)] == list(range(3000))


def framed(message: tuple[Any, ...]) -> bytes:
    """Return a message as it travels."""
    near, far = socket.socketpair()
    link = Link(near)
    link.put(message)
    data = b""
    while link.backlog:
        link.flush()
        data += far.recv(1 << 20)
    link.close()
    far.close()
    return data


@pytest.mark.parametrize("kind", ["socket", "tls"])
def test_a_message_may_be_cut_at_any_byte(kind: str, tmp_path: Path) -> None:
    near, far = tls_pair(tmp_path) if kind == "tls" else socket.socketpair()
    near.setblocking(True)
    link = Link(far)
    messages: list[tuple[Any, ...]] = [("log", 1, 0, b"some bytes"), ("beat", 1.5)]
    data = b"".join(map(framed, messages))
    for cut in range(1, len(data)):
        near.sendall(data[:cut])
        first = link.take()
        near.sendall(data[cut:])
        assert [*first, *link.take()] == messages, cut
        assert len(first) == (cut >= len(framed(messages[0]))), cut
    for each in data:
        near.sendall(bytes([each]))
        messages = messages[len(link.take()) :]
    assert not messages
    assert not link.eof
    near.close()
    link.close()


def test_a_message_in_pieces_may_be_cut_where_a_piece_begins_and_ends() -> None:
    message = ("value", b"v" * (2 * PIECE_BYTES))
    data, piece = framed(message), len(pack(b"v" * PIECE_BYTES))
    borders = (0, piece, 2 * piece, len(data) - len(pack(None)), len(data))
    near, far = socket.socketpair()
    sender, link = Link(near), Link(far)
    for cut in sorted({border + offset for border in borders for offset in range(-13, 14)}):
        if 0 < cut < len(data):
            assert arrived(near, link, data[:cut]) == [], cut
            assert arrived(near, link, data[cut:]) == [message], cut
    assert not link.eof
    sender.close()
    link.close()


def arrived(sock: socket.socket, link: CheckedLink, data: bytes) -> list[Any]:
    """Return the messages that a link takes while these bytes arrive."""
    messages: list[Any] = []
    rest = memoryview(data)
    while rest:
        rest = rest[sock.send(rest) :]
        messages += link.take()
    return messages


class Reluctant:
    """A socket of TLS that once has data pending and cannot give it, because TLS waits for a message of its own."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._claims = 1
        self._holds_up = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def pending(self) -> int:
        if self._claims:
            self._claims, self._holds_up = 0, True
            return 5
        return int(self._sock.pending())

    def recv(self, count: int) -> bytes:
        if self._holds_up:
            self._holds_up = False
            raise ssl.SSLWantReadError
        data: bytes = self._sock.recv(count)
        return data


def test_a_record_that_tls_holds_up_does_not_end_the_link(tmp_path: Path) -> None:
    near, far = tls_pair(tmp_path)
    link = Link(Reluctant(far))  # type: ignore[arg-type]
    sender = Link(near)
    sender.send(("beat", 1))
    assert exchange(sender, link, 1) == [("beat", 1)]
    assert not link.eof
    sender.close()
    link.close()


def test_messages_that_were_put_go_with_one_flush(pair: Pair) -> None:
    near, far = pair
    for number in range(100):
        near.put(("work", number))
    assert far.take() == []
    near.flush()
    assert [message[1] for message in exchange(near, far, 100)] == list(range(100))


def test_an_urgent_message_passes_a_large_one(pair: Pair) -> None:
    near, far = pair
    near.send(("value", b"x" * (64 * PIECE_BYTES)))
    assert near.backlog
    near.send_urgent(("beat", 1.0))
    assert [message[0] for message in exchange(near, far, 2)] == ["beat", "value"]


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 4,
        pack(["a list"]),
        pack(("twice", 1))[:14] + pack(("twice", 1)),
        pack(b"a piece") + pack(None),
        b"\xf1lf\x02" + (LONGEST_FRAME + 1).to_bytes(8, "little"),
    ],
)
def test_other_data_ends_the_link_after_the_messages_before_it(junk: bytes) -> None:
    sock, end = socket.socketpair()
    link = Link(end)
    sock.sendall(pack(("first", 1)) + junk)
    assert link.take() == [("first", 1)]
    assert link.eof
    assert link.problem
    assert pack(("refused", link.problem)) == sock.recv(1000)
    link.close()
    sock.close()


def test_a_value_that_is_not_plain_data_is_refused_where_it_is_sent(pair: Pair) -> None:
    near, far = pair
    with pytest.raises(ValueError, match="unmarshallable"):
        near.send(("work", object()))
    near.send(("work", 1))
    assert exchange(near, far, 1) == [("work", 1)]


# The handshake


def owner_side(sock: socket.socket, key: bytes) -> str:
    """Do the owner's side, and return why it failed."""
    state = OwnerHandshake(key)
    sock.settimeout(LIMIT_S)
    try:
        while not state.is_over:
            data = sock.recv(state.needed)
            if not data:
                return "closed"
            if answer := state.feed(data):
                sock.sendall(answer)
    except HandshakeFailed as error:
        return str(error)
    finally:
        sock.close()
    return ""


def greeted(keys: tuple[bytes, bytes], owner: Callable[[socket.socket, bytes], str] = owner_side) -> tuple[str, str]:
    """Return why the handshake failed for the agent, and for the owner."""
    near, far = socket.socketpair()
    problems: list[str] = []
    thread = threading.Thread(target=lambda: problems.append(owner(far, keys[1])))
    thread.start()
    try:
        greet(near, keys[0])
        problem = ""
    except HandshakeFailed as error:
        problem = str(error)
    near.close()
    thread.join(LIMIT_S)
    return problem, problems[0]


def test_both_sides_have_the_key() -> None:
    assert greeted((b"k" * 32, b"k" * 32)) == ("", "")


def test_an_owner_without_the_key_learns_nothing() -> None:
    problem, _ = greeted((b"k" * 32, b"q" * 32))
    assert "does not have the key of the ticket" in problem


def test_an_agent_without_the_key_is_not_let_in() -> None:
    near, far = socket.socketpair()
    state = OwnerHandshake(b"k" * 32)
    far.sendall(handshake._GREETING.pack(b"lf-agent", handshake.PROTOCOL, b"n" * 32))
    state.feed(near.recv(state.needed))
    with pytest.raises(HandshakeFailed, match="does not have the key of this run"):
        state.feed(b"p" * state.needed)
    near.close()
    far.close()


def test_another_protocol_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def newer(sock: socket.socket, key: bytes) -> str:
        sock.sendall(handshake._GREETING.pack(b"lf-agent", 7, b"n" * 32))
        sock.recv(100)
        sock.close()
        return ""

    assert "speaks protocol 7, this one 1: install the same version" in greeted((b"k" * 32, b""), newer)[0]


def test_another_program_at_the_address_is_named() -> None:
    def web(sock: socket.socket, key: bytes) -> str:
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        sock.recv(100)
        sock.close()
        return ""

    assert greeted((b"k" * 32, b""), web)[0] == "another program answers at this address"
