"""The owner's side of connections: it listens at one address, and lets in only what has the key of the run."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from liteflow.errors import ResourceError
from liteflow.executors.outcome_queue import OutcomeQueue, Timer
from liteflow.processes.forks import close_in_forks, keep_open_in_forks
from liteflow.remote.accept import accept
from liteflow.remote.cluster import Cluster
from liteflow.remote.handshake import LIMIT_S, HandshakeFailed, OwnerHandshake
from liteflow.remote.link import Link
from liteflow.remote.messages import OF_AGENT
from liteflow.remote.tls import blocked_errors, context

_MOST_VISITORS: Final = 256  # connections whose handshake is not over
_KEY_BYTES: Final = 32


class Listener:
    """Accepts connections, and passes each on as a link when its handshake is over.

    Attributes:
        port: the port at which it listens.
        key: the key of the run, 32 bytes.
    """

    def __init__(
        self,
        cluster: Cluster,
        outcomes: OutcomeQueue,
        on_link: Callable[[Link], None],
        on_failure: Callable[[str], None],
    ) -> None:
        """Listen at the address of this machine that a cluster names; with its certificates connections are TLS.

        `on_link` takes what has been let in, `on_failure` the reason why something was not.

        Raises:
            ResourceError: the address is not one of this machine.
            LiteflowError: the certificates cannot be used.
        """
        certificates, address = cluster.certificates, cluster.address
        self._tls = None if certificates is None else context(certificates, is_owner=True)
        self.key = os.urandom(_KEY_BYTES)
        self._outcomes = outcomes
        self._on_link = on_link
        self._on_failure = on_failure
        self._visitors: dict[socket.socket, Timer] = {}
        try:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            self._socket = socket.create_server((address, 0), family=family, backlog=128)
        except OSError as error:
            raise ResourceError(
                f"this machine cannot listen at {address}: {error.strerror}: set `address` of the cluster to an "
                "address of this machine that the others reach"
            ) from None
        self._socket.setblocking(False)
        close_in_forks(self._socket)
        self.port: int = self._socket.getsockname()[1]
        outcomes.watch(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            sock = accept(self._socket, self._outcomes)
        except ResourceError as error:
            self._on_failure(f"this machine can open no more files, so agents cannot connect: {error}")
            return
        if sock is None:
            return
        if len(self._visitors) >= _MOST_VISITORS:
            sock.close()
            return
        sock.setblocking(False)
        try:
            sock.getpeername()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError:  # it has gone already, as what scans ports does
            sock.close()
            return
        close_in_forks(sock)
        close_late = partial(self._turn_away, sock, "")
        self._visitors[sock] = self._outcomes.at(time.monotonic() + LIMIT_S, close_late)
        self._outcomes.watch(sock.fileno(), partial(self._advance, sock, OwnerHandshake(self.key)))

    def _advance(self, sock: socket.socket, handshake: OwnerHandshake) -> None:
        try:
            if self._tls is not None:
                sock.do_handshake()  # type: ignore[attr-defined]  # of an SSLSocket; it does nothing when it is over
            while not handshake.is_over:
                data = sock.recv(handshake.needed)
                if not data:
                    raise HandshakeFailed("")
                if answer := handshake.feed(data):
                    sock.sendall(answer)  # less than the buffer of any socket
        except blocked_errors(sock):
            return
        except HandshakeFailed as error:
            self._turn_away(sock, str(error))
        except OSError as error:
            self._turn_away(sock, _reason(error))
        else:
            self._forget(sock)
            self._on_link(Link(sock, OF_AGENT))

    def _forget(self, sock: socket.socket) -> None:
        self._visitors.pop(sock).cancel()
        self._outcomes.unwatch(sock.fileno())

    def _turn_away(self, sock: socket.socket, reason: str) -> None:
        if sock in self._visitors:
            self._forget(sock)
            keep_open_in_forks(sock)
            sock.close()
            if reason:
                self._on_failure(reason)

    def close(self) -> None:
        """Stop listening."""
        if self._socket.fileno() < 0:
            return
        for sock in list(self._visitors):
            self._turn_away(sock, "")
        self._outcomes.unwatch(self._socket.fileno())
        keep_open_in_forks(self._socket)
        self._socket.close()


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None)  # of an `ssl.SSLError`
    return (
        f"an agent has no certificate of the cluster, or does not trust that of the owner: {reason}"
        if reason
        else str(error)
    )
