"""The ticket: what an agent needs to reach the owner of a run. It is one line on the agent's standard input.

It never is in an argument or the environment, which other users of a machine may see: its key admits to the run.
"""

from __future__ import annotations

import json
from typing import Final

from liteflow.errors import LiteflowError
from liteflow.record import Record, fields_of

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
    socket_path: str = ""  #: a socket on its machine that leads to the owner, instead of address and port


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
