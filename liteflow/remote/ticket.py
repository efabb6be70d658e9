"""The ticket: what an agent needs to reach the owner of a run. It is one line on the agent's standard input.

It never is in an argument or the environment, which other users of a machine may see: its key admits to the run.
"""

from __future__ import annotations

import json
from typing import Final

from liteflow.errors import LiteflowError
from liteflow.record import Record, fields_of
from liteflow.remote.cluster import Certificates, Cluster

_LONGEST: Final = 64 * 1024  # characters


class Ticket(Record):
    """The way to the owner of a run, and the part of one agent in it. A placer completes the ticket for each agent."""

    address: str  #: of the owner
    port: int
    key: str  #: hexadecimal; of this run alone
    lease_s: float
    agent: str = ""  #: the id of the agent among those of the run
    host: str = ""  #: the name of its machine, for people
    slots: int = 0  #: how many attempts it runs at once
    ca_file: str = ""  #: the certificates of the side that has the ticket, where links are TLS: see `Certificates`
    certificate_file: str = ""
    key_file: str = ""
    socket_path: str = ""  #: a socket on its machine that leads to the owner, instead of address and port

    @property
    def certificates(self) -> Certificates | None:
        """The certificates of the side that has the ticket; None: links are not TLS."""
        if not self.ca_file:
            return None
        return Certificates(ca_file=self.ca_file, certificate_file=self.certificate_file, key_file=self.key_file)


def ticket_to(cluster: Cluster, port: int, key: bytes) -> Ticket:
    """Return the ticket for the placer of a cluster: the way to a port of this machine, and the key of the run."""
    files = {} if cluster.certificates is None else fields_of(cluster.certificates)
    return Ticket(address=cluster.address, port=port, key=key.hex(), lease_s=cluster.lease_s, **files)


class InvalidTicket(LiteflowError):
    """A line is not a ticket."""


def ticket_line(ticket: Ticket) -> bytes:
    """Return a ticket as a line of JSON."""
    return json.dumps(fields_of(ticket)).encode() + b"\n"


def ticket_from(line: bytes) -> Ticket:
    """Return the ticket in a line. Raises InvalidTicket."""
    try:
        ticket = Ticket(**json.loads(line[:_LONGEST]))
        bytes.fromhex(ticket.key)
    except (ValueError, TypeError) as error:
        raise InvalidTicket(f"the first line of the standard input is not the ticket of a run: {error}") from None
    return ticket
