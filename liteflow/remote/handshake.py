"""The handshake of a link: both sides prove that they have the key of the ticket before anything else is read.

    agent ── mark, protocol, nonce ─────────▶ owner
    agent ◀─ mark, protocol, nonce, proof ─── owner
    agent ── proof ─────────────────────────▶ owner

All parts have a fixed size. A proof is the HMAC-SHA-256 of the side's name and both nonces. Nothing is interpreted
before: another program that connects, or a wrong key, costs one connection.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import struct
from typing import Final

from liteflow.errors import LiteflowError

#: The number of the protocol; both sides need the same.
PROTOCOL: Final = 1
#: Seconds that a handshake may take.
LIMIT_S: Final = 10.0
_MARK: Final = b"lf-agent"
_GREETING: Final = struct.Struct("<8sH32s")  # mark, protocol, nonce
_PROOF_BYTES: Final = 32
_NONCE_BYTES: Final = 32


class HandshakeFailed(LiteflowError):
    """The other side is another program, has another protocol, or does not have the key."""


class OwnerHandshake:
    """The owner's side: it is given the bytes that arrive, and returns those to send. It never reads too much."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._nonce = os.urandom(_NONCE_BYTES)
        self._other_nonce = b""
        self._received = b""
        self.is_over = False

    @property
    def needed(self) -> int:
        """How many bytes have to arrive until the next step."""
        return (_PROOF_BYTES if self._other_nonce else _GREETING.size) - len(self._received)

    def feed(self, data: bytes) -> bytes:
        """Take at most `needed` bytes, and return what is to be sent. Raises HandshakeFailed."""
        self._received += data
        if self.needed:
            return b""
        received, self._received = self._received, b""
        if not self._other_nonce:
            self._other_nonce = _nonce_of(received)
            greeting = _GREETING.pack(_MARK, PROTOCOL, self._nonce)
            return greeting + _proof(self._key, b"owner", self._other_nonce, self._nonce)
        if not hmac.compare_digest(received, _proof(self._key, b"agent", self._other_nonce, self._nonce)):
            raise HandshakeFailed("an agent does not have the key of this run")
        self.is_over = True
        return b""


def greet(sock: socket.socket, key: bytes) -> None:
    """Do the agent's side on a connected socket, which waits for at most `LIMIT_S` seconds.

    Raises:
        HandshakeFailed: the other side is not the owner of the run.
        OSError: the connection has failed.
    """
    sock.settimeout(LIMIT_S)
    nonce = os.urandom(_NONCE_BYTES)
    sock.sendall(_GREETING.pack(_MARK, PROTOCOL, nonce))
    other_nonce = _nonce_of(_exactly(sock, _GREETING.size))
    if not hmac.compare_digest(_exactly(sock, _PROOF_BYTES), _proof(key, b"owner", nonce, other_nonce)):
        raise HandshakeFailed("the owner of the run does not have the key of the ticket")
    sock.sendall(_proof(key, b"agent", nonce, other_nonce))


def _nonce_of(greeting: bytes) -> bytes:
    mark, protocol, nonce = _GREETING.unpack(greeting)
    if mark != _MARK:
        raise HandshakeFailed("another program answers at this address")
    if protocol != PROTOCOL:
        raise HandshakeFailed(
            f"the other side speaks protocol {protocol}, this one {PROTOCOL}: install the same version of Lightflow"
        )
    return bytes(nonce)


def _proof(key: bytes, side: bytes, agents: bytes, owners: bytes) -> bytes:
    return hmac.digest(key, side + agents + owners, hashlib.sha256)


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            raise HandshakeFailed("the other side has closed the connection: its run may have ended")
        data += chunk
    return data
