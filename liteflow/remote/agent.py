"""The agent: it runs attempts on its machine with the executor of the engine, for the owner of a run on another one.

    python -m liteflow.remote.agent        the ticket is the first line of the standard input

It ends, and all that it has started ends with it, when its link to the owner is closed, when its standard input is (its
place has ended), when its keeper is killed, or when its lease is over. The guardian and the keeper have the lease, so
that a stopped agent does not outlive it.

Messages in:  ("open", facts) · ("files", bytes) · ("files_end", digest)
              · ("body", digest, bytes) · ("value", name, bytes) · ("value_end", name)
              · ("drop", names): of values that nothing needs · ("not_stored", name): of a value that was sent
              · ("undo_of", node, bytes): the undo of the work that follows · ("work", wire, command)
              · ("undo", number, wire): the undo of an attempt of an agent that is lost
              · ("cancel", node, attempt, grace_s) · ("beat", boot time, time) · ("goodbye", grace_s)
              · ("inspect",) · ("pulled", number, payload, problem) · ("leave",): nothing follows
Messages out: ("hello", facts) · ("ready", slots) · ("slots", count) · ("leaving",) · ("log", node, offset, bytes)
              · ("value", …) · ("outcome", wire, has_log) · ("given_back", nodes) · ("beat", boot time) · ("closed",)
              · ("undone", number, problem) · ("inspected", facts) · ("pull", number, task id, key, map index)
Both ways:    ("refused", reason): the connection ends (see `messages` for the fields of all)
Lines in:     the ticket · {"slots": count} · {"leaving": true}: finish what runs, take nothing new, then end
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from functools import partial
from types import FrameType
from typing import Any, Final

from liteflow.errors import LiteflowError
from liteflow.executors.open import ShippedTasks, open_agent_executor
from liteflow.executors.outcome_queue import OutcomeQueue, Timer
from liteflow.executors.stored_bodies import StoredBodies
from liteflow.processes.forks import close_in_forks
from liteflow.processes.guardian import boot_time
from liteflow.remote.agent_attempts import AgentAttempts, Folder
from liteflow.remote.courier import Courier
from liteflow.remote.handshake import LIMIT_S, greet
from liteflow.remote.keeper import Notes, run_guarded_agent
from liteflow.remote.link import Link, Message
from liteflow.remote.messages import OF_OWNER, invalid
from liteflow.remote.pulls import Pulls
from liteflow.remote.sockets import remove_old_sockets
from liteflow.remote.ticket import Ticket, ticket_from
from liteflow.remote.tls import context
from liteflow.state.process_identity import boot_id
from liteflow.values.payload import Payload, decode
from liteflow.values.secrets import Secrets
from liteflow.version import __version__
from liteflow.work import AgentInfo, RunInfo

#: How often the logs of running attempts are looked at.
_LOOK_S: Final = 0.2
#: Outcomes are held back at most for so long while attempts are queued, so that many go together.
_GATHER_S: Final = 0.004
_BEATS_IN_A_LEASE: Final = 5
_DRIFT_S: Final = 0.05  # by which two clocks may differ more, or less, without a step
_FLUSH_S: Final = 10.0  # how long the rest of the logs may take when the run has ended
_MANY: Final = 1 << 30  # slots of the executor: the owner counts


class Lease:
    """The time for which the agent may work: until the sent time of the last beat that was answered, plus its length.

    All times are of the boot-time clock, which counts the time in which the machine sleeps.
    """

    def __init__(self, length_s: float) -> None:
        """Begin a lease, before the owner can hear of the agent."""
        self._length_s = length_s
        self.deadline = boot_time() + length_s
        self.beat_every_s = length_s / _BEATS_IN_A_LEASE
        self._shortest_s = float("inf")  # of the ways there and back
        self._offset_s = 0.0  # the clock of the owner minus that of this machine, as that beat has measured it

    @property
    def is_over(self) -> bool:
        return boot_time() >= self.deadline

    def answered(self, sent_at: float, owners_time: float) -> float | None:
        """Take the answer to a beat. Return the offset of the clocks, if this beat measures it better than all before.

        The beat that was on its way for the shortest time is the best: the answer was sent in the middle of it. Where
        two beats cannot both be right, one of the clocks was set meanwhile, and only the new one counts.
        """
        way_s = max(0.0, boot_time() - sent_at)  # nothing was sent later than now
        self.deadline = max(self.deadline, min(sent_at, boot_time()) + self._length_s)
        offset_s = owners_time + way_s / 2 - time.time()
        if way_s >= self._shortest_s and abs(offset_s - self._offset_s) <= way_s + _DRIFT_S:
            return None
        self._shortest_s, self._offset_s = way_s, offset_s
        return offset_s


class Place:
    """The standard input of an agent, with lines of its placer, and its keeper: the end of either ends the agent."""

    def __init__(self, rest: bytes, notes: Notes) -> None:
        self._data = rest
        self.notes = notes
        self.is_over = False
        self.is_leaving = False  # nothing new starts here, and the agent ends when nothing runs
        self.is_left = False  # the owner knows that, and has sent the last attempt

    def read(self) -> list[dict[str, Any]]:
        """Return the lines that have arrived."""
        try:
            data = os.read(0, 65536)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        self.is_over = self.is_over or not data
        self._data += data
        return self.lines()

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines that were read and not returned yet; some may have come together with the ticket."""
        *lines, self._data = self._data.split(b"\n")
        return [json.loads(line) for line in lines if line.strip()]


class Agent:
    """One agent, from the first message of the owner on."""

    def __init__(self, ticket: Ticket, link: Link, place: Place, lease: Lease, facts: Mapping[str, Any]) -> None:
        """Open the executor. Raises LiteflowError: this machine cannot run the tasks; it says why."""
        self._link = link
        self._place = place
        self._gathering: Timer | None = None  # sends what waits in the link
        self._outcomes = OutcomeQueue()
        self._lease = lease
        self._folder = _made_folder(facts["folder"], ticket.host)
        self._courier = Courier(link, self._folder.results)
        place.notes.folder(self._folder.path)
        self._pulls = Pulls(self._folder.path, self._folder.values, link, self._outcomes)
        _enter(self._folder.files.make(facts["cwd"]), ticket.host)
        sys.argv[:] = facts["argv"]
        tasks = ShippedTasks(
            functions=StoredBodies(self._folder.bodies, facts["code_folders"], ticket.host, self._folder.files.place),
            commands={},
            backends={},
            undos={},
        )
        self._executor, self._guardian = open_agent_executor(
            tasks,
            _run_info(facts, self._folder, ticket.host),
            slots=_MANY,
            outcomes=self._outcomes,
            on_session=place.notes.session,
        )
        self._note_lease()
        self._attempts = AgentAttempts(self._executor, tasks, self._folder, self._courier, place.notes)
        self._goodbye: float | None = None  # the grace with which the owner ends everything

    # -- the loop ------------------------------------------------------------------------------------------

    def run(self, slots: int, messages: list[Message]) -> None:
        """Run attempts until the link, the place or the lease ends. The `messages` have arrived already."""
        self._outcomes.watch(self._link.fileno(), self._on_link)
        self._outcomes.watch(0, self._on_place)
        self._outcomes.watch(self._place.notes.fileno(), self._on_keeper_end)
        signal.signal(signal.SIGTERM, self._on_term)
        self._attempts.slots = slots
        self._beat()
        self._follow(self._place.lines())
        self._begin()
        for message in messages:
            self._receive(message)
        self._look()
        while not self._is_over:
            for outcome in self._executor.wait(_LOOK_S if self._attempts.has_attempts else None):
                if not self._lease.is_over:
                    self._attempts.end(outcome)
            self._send_soon()
        self._close(self._goodbye or 0.0)

    def _begin(self) -> None:
        """Take attempts, once the files that they need are here."""
        if self._folder.files.is_complete:
            self._link.send(("ready", self._attempts.slots))

    @property
    def _is_over(self) -> bool:
        if self._place.is_left and not self._attempts.has_attempts and self._courier.is_idle:
            return True
        return self._goodbye is not None or self._link.eof or self._place.is_over or self._lease.is_over

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        """Take nothing new: the place is about to end."""
        self._outcomes.at(0.0, self._leave)  # a handler sends nothing: the message may be in the middle of another
        self._outcomes.wake()

    def _leave(self) -> None:
        self._place.is_leaving = True
        self._link.put(("leaving",))
        self._give_back(self._attempts.take_back(at_once=True))
        self._send()
        self._outcomes.wake()

    def _give_back(self, nodes: list[int]) -> None:
        if nodes:
            self._link.put(("given_back", nodes))

    def _send(self) -> None:
        """Send what waits in the link, the rest as soon as it takes more."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        self._link.flush()
        self._outcomes.watch_writing(self._link.fileno(), on=self._link.backlog)

    def _send_soon(self) -> None:
        """Send what waits in the link; a moment later while attempts are queued, because more outcomes follow."""
        if not self._attempts.has_queued or self._link.is_full:
            self._send()
        elif self._gathering is None:
            self._gathering = self._outcomes.at(time.monotonic() + _GATHER_S, self._send)

    def _look(self) -> None:
        """Send what was added to logs, again and again."""
        self._courier.pump()
        self._check_storage()
        self._give_back(self._attempts.take_back())
        self._send()
        if self._is_over:  # the link has taken the last of it
            self._outcomes.wake()
        self._outcomes.at(time.monotonic() + _LOOK_S, self._look)

    def _beat(self) -> None:
        self._link.send_urgent(("beat", boot_time()))
        self._outcomes.at(time.monotonic() + self._lease.beat_every_s, self._beat)
        if self._lease.is_over:
            self._outcomes.wake()

    def _follow(self, lines: list[dict[str, Any]]) -> None:
        """Do what lines of the placer say."""
        for line in lines:
            if "slots" in line:
                self._attempts.slots = int(line["slots"])
                self._link.send(("slots", self._attempts.slots))
                self._attempts.advance()
            if line.get("leaving"):
                self._leave()

    def _on_place(self) -> None:
        self._follow(self._place.read())
        if self._place.is_over:
            self._outcomes.unwatch(0)
            self._outcomes.wake()

    def _on_keeper_end(self) -> None:
        self._outcomes.unwatch(self._place.notes.fileno())
        self._place.is_over = True
        self._outcomes.wake()

    # -- messages of the owner -----------------------------------------------------------------------------

    def _on_link(self) -> None:
        for message in self._link.take():
            self._receive(message)
        self._courier.pump()
        self._send_soon()
        if self._link.eof:
            self._outcomes.unwatch(self._link.fileno())
            self._outcomes.wake()

    def _check_storage(self) -> None:
        """Leave when something could not be stored, so that the attempts which need it run elsewhere."""
        if self._attempts.problem is not None and not self._place.is_leaving:
            self._place.notes.failed(self._attempts.problem)
            self._leave()

    def _receive(self, message: Message) -> None:
        kind = message[0]
        if self._attempts.receive(message):
            return
        if kind == "files":
            self._folder.files.receive(message[1])
        elif kind == "files_end":
            self._folder.files.complete(message[1])
            self._begin()
        elif kind == "not_stored":
            self._courier.send_again(message[1])
        elif kind == "pulled":
            self._pulls.answer(*message[1:])
        elif kind == "beat":
            self._answered(*message[1:])
        elif kind == "undo":
            self._attempts.undo(message[2], partial(self._say_undone, message[1]))
        elif kind == "inspect":
            from liteflow.remote.inspection import inspection  # no run needs it

            self._link.send(("inspected", inspection(os.path.dirname(self._folder.path))))
        elif kind == "leave":
            self._place.is_left = True
            self._outcomes.wake()
        elif kind == "goodbye":
            self._goodbye = message[1]
            self._outcomes.wake()

    def _say_undone(self, number: int, problem: str | None) -> None:
        self._link.put(("undone", number, problem))
        self._send()

    def _answered(self, sent_at: float, owners_time: float) -> None:
        offset = self._lease.answered(sent_at, owners_time)
        if offset is not None:
            self._courier.clock_offset_s = offset
        self._note_lease()

    def _note_lease(self) -> None:
        """Give the end of the lease to those who end everything then, even if this process is stopped."""
        self._guardian.set_lease(self._lease.deadline)
        self._place.notes.lease(self._lease.deadline)

    def _close(self, grace_s: float) -> None:
        """End all that runs, send the rest of the logs, and the message that nothing is left."""
        self._executor.close(grace_s)
        if not self._guardian.undos_left:
            self._attempts.note_undone()
        if not self._link.eof and not self._lease.is_over and not self._guardian.undos_left:
            self._courier.send_logs()
            self._flush(time.monotonic() + _FLUSH_S)
            self._link.send(("closed",))
            self._flush(time.monotonic() + _FLUSH_S)
        self._attempts.values.close()
        self._pulls.close()
        self._folder.remove()
        self._link.close()

    def _flush(self, deadline: float) -> None:
        """Wait until the link has taken everything."""
        while not self._courier.is_idle and not self._link.eof and time.monotonic() < deadline:
            self._link.flush()
            self._courier.pump()
            if self._link.backlog:
                select.select([], [self._link], [], 0.25)


def _made_folder(original: str | None, host: str) -> Folder:
    """Return the folder of an agent. Raises LiteflowError: it cannot be made."""
    try:
        return Folder(original, host)
    except OSError as error:
        raise LiteflowError(
            f"{host} cannot make the folder {error.filename}: {error.strerror}: make room there, or let TMPDIR name "
            "another folder"
        ) from None


def _enter(cwd: str, host: str) -> None:
    try:
        os.chdir(cwd)
    except OSError as error:
        raise LiteflowError(
            f"{host} has no folder {cwd}, in which the run was started ({error.strerror}): start the run "
            "in a folder that all machines share"
        ) from None


def _run_info(facts: Mapping[str, Any], folder: Folder, host: str) -> RunInfo:
    """Return the facts of the run as the tasks of this machine see them."""
    return RunInfo(
        run_id=facts["run_id"],
        dag_id=facts["dag_id"],
        db_path=facts["db_path"],
        log_dir=folder.logs,
        params=decode(Payload._make(facts["params"])),
        values_dir=folder.results if facts["spills"] else None,
        outputs_dir=folder.outputs if facts["has_outputs"] else None,
        logical_date=facts["logical_date"],
        secrets=None if facts["secrets"] is None else Secrets(facts["secrets"]),
        agent=AgentInfo(folder=folder.path, host=host, environ=dict(os.environ), copied=folder.files.copied),
    )


# -- the start ------------------------------------------------------------------------------------------------------


def _connected(ticket: Ticket) -> socket.socket:
    """Return a socket to the owner, whose handshake is done. Raises LiteflowError."""
    address = ticket.socket_path or f"{ticket.address}:{ticket.port}"
    try:
        if ticket.socket_path:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(LIMIT_S)
            sock.connect(ticket.socket_path)
            os.unlink(ticket.socket_path)  # a server of ssh leaves it behind
            remove_old_sockets()
        else:
            sock = socket.create_connection((ticket.address, ticket.port), LIMIT_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if ticket.certificates is not None:
            sock = context(ticket.certificates, is_owner=False).wrap_socket(sock)
        greet(sock, bytes.fromhex(ticket.key))
    except (OSError, LiteflowError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise LiteflowError(
            f"{ticket.host} cannot reach the owner of the run at {address}: {reason}: set the `address` of the "
            "cluster, or use ssh"
        ) from None
    return sock


def introduction(ticket: Ticket) -> Message:
    """Return the first message of an agent: what the owner needs to know of it and of this machine."""
    facts = {
        "agent": ticket.agent,
        "host": ticket.host,
        "machine": socket.gethostname(),
        "boot": boot_id() or "",
        "version": __version__,
        "python": sys.version_info[:3],
        "slots": ticket.slots,
    }
    return ("hello", facts)


def _opened(link: Link, ticket: Ticket) -> tuple[Mapping[str, Any], list[Message]]:
    """Introduce this machine, and return the facts of the run, with the messages behind them. Raises LiteflowError."""
    link.send(introduction(ticket))
    deadline = time.monotonic() + LIMIT_S
    while not link.eof and time.monotonic() < deadline:
        select.select([link], [link] if link.backlog else [], [], 1.0)
        link.flush()
        if messages := link.take():
            if messages[0][0] == "open":
                return messages[0][1], messages[1:]
            link.refuse(invalid(f"{messages[0][0]} before open"))
    raise LiteflowError(link.problem or f"the owner of the run did not answer {ticket.host}")


def _read_ticket() -> tuple[Ticket, bytes]:
    """Return the ticket from the standard input, and what came after it."""
    data = b""
    while b"\n" not in data and (chunk := os.read(0, 65536)):
        data += chunk
    line, _, rest = data.partition(b"\n")
    return ticket_from(line), rest


def _run_agent(ticket: Ticket, rest: bytes, notes: Notes) -> None:
    """Be the agent."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    try:
        sock = _connected(ticket)
        close_in_forks(sock)
        link = Link(sock, OF_OWNER)
        lease = Lease(ticket.lease_s)
        facts, messages = _opened(link, ticket)
        agent = Agent(ticket, link, Place(rest, notes), lease, facts)
        agent.run(ticket.slots, messages)
        if link.problem:
            notes.failed(f"{ticket.host}: {link.problem}")
    except LiteflowError as error:
        notes.failed(str(error))


def main() -> None:
    """Run an agent, and end with exit code 0 when nothing of it is left."""
    try:
        ticket, rest = _read_ticket()
    except LiteflowError as error:
        print(json.dumps({"failed": str(error)}), flush=True)
        sys.exit(2)
    sys.exit(run_guarded_agent(lambda notes: _run_agent(ticket, rest, notes)))


if __name__ == "__main__":
    main()
