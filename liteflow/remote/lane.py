"""The lane of a cluster: the backend whose attempts run on other machines.

It sends the works of a turn to agents with free slots, and posts the outcomes that come back. Attempts beyond the slots
are queued at the agents; one that an agent gives back is queued here until there is a free slot.
"""

from __future__ import annotations

import ipaddress
import os
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from liteflow.errors import DefinitionError, LiteflowError, PayloadError
from liteflow.executors.attempt import cancelled_in_queue, failure, one_line
from liteflow.executors.guardian_client import CHECK_EVERY_S
from liteflow.executors.protocol import Backend, BackendContext, BackendFactory, PlaceState
from liteflow.executors.worker import outcome_from_wire, work_to_wire
from liteflow.planning.retry import PLACE_LEFT
from liteflow.processes.log_file import open_log
from liteflow.record import replace
from liteflow.remote.cluster import Cluster
from liteflow.remote.far_undos import FarUndos, LostUndo
from liteflow.remote.ferry import (
    ValueReceiver,
    files_of,
    moved,
    moved_payload,
    moved_work,
    payloads_of,
    value_messages,
    values_of,
)
from liteflow.remote.files import packed_files
from liteflow.remote.fleet import Fleet, Introduction
from liteflow.remote.link import Message
from liteflow.remote.ready_agents import FarAgent
from liteflow.remote.shipping import Bodies, ByName, Shipping, code_folders, needs_same_python
from liteflow.remote.slots import ClusterSlots, LaneSlots
from liteflow.states import Verdict
from liteflow.values.payload import Payload, encode
from liteflow.work import Command, ErrorInfo, HostId, Outcome, RunInfo, Work, complete_body

_BY_NAME: Final = ByName()


def lane_of(name: str, cluster: Cluster, slots: ClusterSlots | None = None) -> BackendFactory:
    """Return the factory of the lane of a cluster, for `open_executor`.

    Args:
        name: of its place.
        cluster: the cluster.
        slots: those that the lane shares with others; None: it has all for itself.
    """
    return partial(Lane, name, cluster, ClusterSlots(cluster.slots) if slots is None else slots)


class _FarAttempt:
    """An attempt that was submitted: it is queued, or an agent has it."""

    __slots__ = (
        "agent",
        "body",
        "command",
        "digest",
        "is_cancelled",
        "is_sent",
        "log",
        "lost_undo",
        "sent_at",
        "undo",
        "was_given_back",
        "work",
    )

    def __init__(
        self,
        work: Work,
        body: str | bytes,
        *,
        digest: str | None = None,
        command: tuple[Any, ...] | None = None,
        undo: bytes | None = None,
    ) -> None:
        self.work = work
        self.body = body  # of a function: its digest, or its pickle with arguments; of a command: a name
        self.digest = digest  # of the function that its agent needs
        self.command = command
        self.undo = undo  # its pickle; None: it has none
        self.lost_undo: int | None = None  # the number of its undo, which another agent does
        self.agent: FarAgent | None = None
        self.is_sent = False
        self.is_cancelled = False
        self.was_given_back = False  # it was queued there for too long: it waits for a free slot
        self.sent_at = 0.0
        self.log: ArrivingLog | None = None  # None: nothing has arrived

    @property
    def log_path(self) -> str | None:
        """The path of its log; None: it has none, or nothing has arrived."""
        return None if self.log is None else self.work.log_path

    def write_log(self, offset: int, data: bytes) -> None:
        if self.log is None:
            self.log = ArrivingLog(self.work.log_path)
        self.log.write(offset, data)

    def close_log(self) -> None:
        if self.log is not None:
            self.log.close()


class ArrivingLog:
    """The log of an attempt on another machine, as it arrives; without a path it goes to our standard output.

    Attributes:
        lost: why the file lacks a part; None: it does not.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._fd = -1
        self._start = 0  # what the file held before
        self.lost: str | None = None

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes at an offset of the log."""
        try:
            if self._path is None:
                os.write(1, data)
                return
            if self._fd < 0:
                self._fd = open_log(self._path)
                self._start = os.fstat(self._fd).st_size
                os.set_blocking(self._fd, True)
                os.lseek(self._fd, 0, os.SEEK_END)
            _append(self._fd, data)  # pieces arrive in order
        except OSError as error:
            self.lost = error.strerror or str(error)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _append(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


class Lane(Backend):
    """Runs the attempts of some tasks on the machines of a cluster."""

    is_far = True
    queues = True

    def __init__(self, name: str, cluster: Cluster, slots: ClusterSlots, context: BackendContext) -> None:
        """Raises DefinitionError: the cluster is not there, or secrets would pass where others can read them."""
        cluster = cluster.started()
        _check_secrets(name, cluster, context.info)
        self._name = name
        self._outcomes = context.outcomes
        self._tasks = context.bodies
        self._info = context.info
        shipping: Shipping = cluster.shipping or _BY_NAME
        self._bodies = Bodies(shipping)
        self._arriving: dict[FarAgent, ValueReceiver] = {}
        self._attempts: dict[int, _FarAttempt] = {}  # by node
        self._queue: deque[_FarAttempt] = deque()  # those that no agent has
        files = packed_files(cluster)
        facts = facts_of(context.info, cluster.folder if files else None)
        same_python = needs_same_python(shipping, context.bodies.values())
        introduction = Introduction(facts=facts, same_python=same_python, files=files)
        self._fleet = Fleet(name, cluster, introduction, context.outcomes, self)
        self._slots = LaneSlots(slots, self._fleet, context.outcomes, self._attempts)
        self._undos = FarUndos(context.outcomes, self._fleet.ready)

    # -- slots ---------------------------------------------------------------------------------------------

    def room(self) -> dict[str, int]:
        most = self._slots.room  # agents may join those of a placer that was killed
        return {self._name: min(self._fleet.ready.room() - len(self._queue), most)}

    def want(self, place: str, count: int) -> None:
        if place == self._name:
            self._slots.waiting = count  # `flush` adjusts the slots, when the needs of all lanes are known

    def place_states(self) -> dict[str, PlaceState]:
        state = self._fleet.state()
        return {self._name: replace(state, problem=self._info.masked(state.problem))}

    @property
    def attempt_count(self) -> int:
        return len(self._attempts)

    # -- sending -------------------------------------------------------------------------------------------

    def submit(self, work: Work) -> None:
        try:
            attempt = self._attempts[work.node] = self._prepared(work)
        except LiteflowError as error:
            self._outcomes.post(failure(work, "FAILED", one_line(self._info.masked(str(error)))))
            return
        self._queue.append(attempt)
        self._give_out()

    def flush(self) -> None:
        for node in self._undos.take_stored():
            self._send_stored(node)
        self._fleet.ready.flush()
        self._slots.adjust()

    def settle(self) -> None:
        if self._undos:
            self._undos.send()
        self._give_out()
        self._fleet.ready.flush()  # the rest of `flush` follows with the turn of the loop

    def _prepared(self, work: Work) -> _FarAttempt:
        """Return an attempt with the work as an agent gets it. Raises LiteflowError."""
        body = self._tasks[work.task_id]
        undo = None
        if body.undo is not None:
            undo, body = self._bodies.undo(body.undo), body._replace(undo=None)
        if not isinstance(body, Command):
            shipped, digest = self._bodies.shipped(body)
            return _FarAttempt(work, shipped, digest=digest, undo=undo)
        body = complete_body(body, self._info, work)
        command = (body.argv, body.cwd, dict(body.env), body.skip_on_exit_codes, body.output, None, body.secrets)
        own_key = f"{work.node}-{work.attempt}"
        if undo is None and payloads_of(work):  # else the undo needs its values
            work = replace(work, inputs=None, items=None, previous=None)
        return _FarAttempt(work, own_key, command=command, undo=undo)

    def _give_out(self) -> None:
        """Give queued attempts to agents: to those with free slots, then the others to those with a queue."""
        ready, queue = self._fleet.ready, self._queue
        while queue:
            attempt = queue[0]
            agent = ready.take_slot(attempt.work.node)
            if agent is None and not attempt.was_given_back:
                agent = ready.queue_at(attempt.work.node)
            if agent is None:
                return
            queue.popleft()
            self._send(attempt, agent)

    def _send(self, attempt: _FarAttempt, agent: FarAgent) -> None:
        attempt.agent, attempt.sent_at = agent, time.time()
        if attempt.undo is None:
            self._deliver(attempt, agent)
        else:
            self._undos.hold(attempt.work.node, agent.host_id)

    def _send_stored(self, node: int) -> None:
        """Send an attempt with an undo, now that its machine is stored, unless it has ended."""
        attempt = self._attempts.get(node)
        if attempt is None or attempt.agent is None or attempt.is_sent:
            return
        if attempt.is_cancelled or attempt.agent.is_leaving:
            self._take_back(attempt.agent, [node])
            self._give_out()
            return
        self._fleet.ready.put(attempt.agent, ("undo_of", node, attempt.undo))
        self._deliver(attempt, attempt.agent)

    def _deliver(self, attempt: _FarAttempt, agent: FarAgent) -> None:
        work, ready = attempt.work, self._fleet.ready
        if attempt.digest is not None and attempt.digest not in agent.bodies:
            ready.put(agent, ("body", attempt.digest, self._bodies.data(attempt.digest)))
            agent.bodies.add(attempt.digest)
        payloads = payloads_of(work)
        for each in payloads:
            agent.values.need(work.node, each)
        if any(any(agent.values.missing(each)) for each in payloads):
            agent.outbox.add(self._messages(attempt, agent))
            ready.mark_unsent(agent)
        else:  # it does not wait for the values of others
            attempt.is_sent = True
            ready.put(agent, ("work", work_to_wire(moved_work(work, ""), attempt.body), attempt.command))

    def _messages(self, attempt: _FarAttempt, agent: FarAgent) -> Iterator[Message]:
        """Yield the values that an attempt needs, as far as its agent does not have them, and the work itself."""
        work = attempt.work
        try:
            sent = yield from self._values_of(work, agent)
        except PayloadError as error:
            self._end(attempt, failure(work, "FAILED", one_line(str(error))))
            return
        if agent.is_leaving or attempt.is_cancelled:
            self._take_back(agent, [work.node])
            return
        attempt.is_sent = True
        yield ("work", work_to_wire(sent, attempt.body), attempt.command)

    def _values_of(self, work: Work, agent: FarAgent) -> Generator[Message, None, Work]:
        """Yield the values of a work that an agent does not have, and return the work as it goes there.

        Raises:
            PayloadError: a value cannot be read.
        """
        for payloads in payloads_of(work):
            yield from self._missing_values(payloads, agent)
        return moved_work(work, "")

    # -- receiving -----------------------------------------------------------------------------------------

    def receive(self, agent: FarAgent, message: Message) -> None:
        kind = message[0]
        if kind == "outcome":
            outcome = outcome_from_wire(message[1])
            attempt = self._attempts.get(outcome.node)
            is_sent = attempt is not None and attempt.is_sent and attempt.agent is agent
            if attempt is not None and is_sent and attempt.work.attempt == outcome.attempt:
                self._end(attempt, self._completed(outcome, attempt, agent, has_log=message[2]))
        elif kind == "log":
            node, offset, data = message[1:]
            if node in agent.nodes:
                self._attempts[node].write_log(offset, data)
        elif kind == "undone":
            self._undos.finish(agent, *message[1:])
        elif kind == "pull":
            agent.outbox.add(self._pulled(agent, *message[1:]))
        elif kind == "given_back":
            self._take_back(agent, message[1])
        elif kind == "value":
            self._arriving_of(agent).receive(*message[1:])
        elif kind == "value_end" and not self._arriving_of(agent).complete(message[1]):
            self._fleet.ready.put(agent, ("not_stored", message[1]))

    def _arriving_of(self, agent: FarAgent) -> ValueReceiver:
        """Return the values that arrive from an agent; another one may send the same value at the same time."""
        arriving = self._arriving.get(agent)
        if arriving is None:
            arriving = self._arriving[agent] = ValueReceiver(self._info.values_dir)
        return arriving

    def _pulled(self, agent: FarAgent, number: int, task_id: str, key: str, map_index: int) -> Iterator[Message]:
        """Yield the stored value that a task pulls, or why there is none."""
        from liteflow.state.history import History  # few tasks pull

        payload, problem = None, None
        try:
            with History(self._info.db_path) as history:
                payload = history.value(self._info.run_id, task_id, key, map_index)
            if payload is not None:
                for node in agent.nodes:  # one of them has pulled it, and reads the file when the answer is there
                    agent.values.need(node, {"": payload})
                yield from self._missing_values({"": payload}, agent)
                payload = moved_payload(payload, "")
        except LiteflowError as error:
            payload, problem = None, str(error)
        yield ("pulled", number, None if payload is None else tuple(payload), problem)

    def _missing_values(self, payloads: Mapping[str, Payload] | None, agent: FarAgent) -> Iterator[Message]:
        """Yield the values that are files and that an agent does not have. Raises PayloadError: one cannot be read."""
        for payload in agent.values.missing(payloads):
            yield from value_messages(payload)
            agent.values.note_sent(payload)

    def _take_back(self, agent: FarAgent, nodes: Sequence[int]) -> None:
        """Queue attempts that an agent has not started, in their order, before all others."""
        for node in reversed(nodes):
            if node not in agent.nodes:
                continue
            attempt = self._attempts[node]
            self._fleet.ready.end(agent, node)
            attempt.agent, attempt.is_sent, attempt.was_given_back = None, False, True
            if attempt.is_cancelled:
                self._end(attempt, cancelled_in_queue(attempt.work))
            else:
                self._queue.appendleft(attempt)

    def _completed(self, outcome: Outcome, attempt: _FarAttempt, agent: FarAgent, *, has_log: bool) -> Outcome:
        """Return the outcome of an agent with the paths of this machine, and times between sending and now."""
        log, now = attempt.log, time.time()
        started_at = None if outcome.started_at is None else _between(attempt.sent_at, outcome.started_at, now)
        outcome = outcome._replace(
            log_path=attempt.log_path if has_log else None,
            log_lost=outcome.log_lost if log is None or log.lost is None else log.lost,
            started_at=started_at,
            ended_at=_between(started_at or attempt.sent_at, outcome.ended_at, now),
            host=agent.host,
        )
        values = values_of(outcome)
        if not any(files_of(values)):
            return outcome
        problem = self._arriving_of(agent).problem_of(values)
        if problem is not None:
            failed = failure(attempt.work, "FAILED", problem)
            return failed._replace(log_path=outcome.log_path, started_at=started_at, host=agent.host)
        folder = self._info.values_dir
        value = None if outcome.value is None else moved_payload(outcome.value, folder)
        return outcome._replace(value=value, pushed=moved(outcome.pushed, folder))

    def _end(self, attempt: _FarAttempt, outcome: Outcome) -> None:
        """Forget an attempt, and post its outcome."""
        attempt.close_log()
        del self._attempts[attempt.work.node]
        if attempt.agent is not None:
            self._fleet.ready.end(attempt.agent, attempt.work.node)
        self._outcomes.post(outcome)

    def note_slots(self, existing: int, held: int) -> None:
        self._slots.note(existing, held)

    def lose(self, agent: FarAgent, reason: str, *, undone: bool) -> None:
        self._undos.lose(agent)
        if agent in self._arriving:
            self._arriving.pop(agent).close()
        self._take_back(agent, sorted(node for node in agent.nodes if not self._attempts[node].is_sent))
        for node in list(agent.nodes):
            attempt = self._attempts[node]
            message = f"the agent on {agent.host} is lost: {reason}"
            outcome = failure(attempt.work, "LOST", message, started_at=attempt.sent_at)
            if agent.is_leaving:
                outcome = outcome._replace(error=ErrorInfo(message, codes=(PLACE_LEFT,)))
            if attempt.is_cancelled:
                outcome = failure(attempt.work, "CANCELLED", "cancelled", started_at=attempt.sent_at)
            outcome = outcome._replace(log_path=attempt.log_path, host=agent.host)
            if undone or attempt.undo is None or not attempt.is_sent:
                self._end(attempt, outcome)
            else:
                self._undo_elsewhere(attempt, attempt.undo, outcome)
        self.settle()

    # -- undos ---------------------------------------------------------------------------------------------

    def undo_hosts(self) -> Sequence[tuple[int, HostId]]:
        return self._undos.take_unstored()

    def _undo_elsewhere(self, attempt: _FarAttempt, undo: bytes, outcome: Outcome) -> None:
        """Have another agent on the same machine undo an attempt; then post its outcome."""

        def end(problem: str | None) -> None:
            verdict: Verdict = "CANCELLED" if attempt.is_cancelled else outcome.verdict
            self._end(attempt, outcome._replace(verdict=verdict, undo_error=problem))

        assert attempt.agent is not None
        messages = partial(self._undo_messages, attempt.work, undo)
        attempt.lost_undo = self._undos.add(LostUndo(host_id=attempt.agent.host_id, messages=messages, on_end=end))

    def _undo_messages(self, work: Work, undo: bytes, agent: FarAgent, number: int) -> Iterator[Message]:
        """Yield the values that an undo needs, as far as an agent does not have them, and the undo itself."""
        for payloads in payloads_of(work):
            agent.values.need(-number, payloads)
        try:
            sent = yield from self._values_of(work, agent)
        except PayloadError as error:
            self._undos.end(number, one_line(str(error)))
            return
        yield ("undo", number, work_to_wire(sent, undo))

    def undo(self, works: Sequence[Work]) -> list[str | None]:
        ended: dict[int, str | None] = {}
        for place, work in enumerate(works):
            call = self._tasks[work.task_id].undo
            assert call is not None
            assert work.ran_on is not None
            try:
                messages = partial(self._undo_messages, work, self._bodies.undo(call))
            except PayloadError as error:
                ended[place] = one_line(str(error))
                continue
            end = partial(ended.__setitem__, place)
            self._undos.add(LostUndo(host_id=work.ran_on, messages=messages, on_end=end))
        self._slots.want_all()  # any machine may be that of an attempt
        while len(ended) < len(works):
            self._outcomes.wait(CHECK_EVERY_S)
        self.want(self._name, 0)
        return [ended[place] for place in range(len(works))]

    # -- ends ----------------------------------------------------------------------------------------------

    def cancel(self, node: int, grace_s: float) -> None:
        attempt = self._attempts.get(node)
        if attempt is None:
            return
        attempt.is_cancelled = True
        if attempt.agent is None:
            self._queue.remove(attempt)
            self._end(attempt, cancelled_in_queue(attempt.work))
            self._slots.adjust()
        elif attempt.lost_undo is not None:
            self._undos.give_up(attempt.lost_undo)
        elif attempt.is_sent and not attempt.agent.link.eof:
            attempt.agent.link.send_urgent(("cancel", node, attempt.work.attempt, grace_s))
            self._fleet.ready.flush_link(attempt.agent)

    @property
    def is_busy(self) -> bool:
        return bool(self._fleet.ready)

    def close(self, grace_s: float) -> None:
        """Forget what is queued, and have the agents end the rest."""
        for attempt in self._queue:
            del self._attempts[attempt.work.node]
        self._queue.clear()
        self._slots.waiting = 0
        if grace_s > 0:
            self._fleet.say_goodbye(grace_s)

    def release(self) -> None:
        """End the agents, and close what belongs to them here."""
        self._slots.leave()
        self._fleet.close()
        for arriving in self._arriving.values():
            arriving.close()
        for attempt in self._attempts.values():
            attempt.close_log()
        self._attempts.clear()


def _between(least: float, value: float, most: float) -> float:
    return max(least, min(value, most))


def facts_of(info: RunInfo, folder: str | None = None) -> dict[str, Any]:
    """Return the facts of a run for agents, as plain data; of the `folder` they have copies."""
    return {
        "run_id": info.run_id,
        "dag_id": info.dag_id,
        "db_path": info.db_path,
        "params": tuple(encode(dict(info.params))),
        "spills": info.values_dir is not None,
        "has_outputs": info.outputs_dir is not None,
        "logical_date": info.logical_date,
        "secrets": None if info.secrets is None else dict(info.secrets),
        "cwd": os.getcwd(),
        "folder": folder,
        "argv": list(sys.argv),
        "code_folders": code_folders(),
    }


def _check_secrets(name: str, cluster: Cluster, info: RunInfo) -> None:
    if info.secrets is None or cluster.plain_secrets or cluster.certificates or _is_loopback(cluster.address):
        return
    raise DefinitionError(
        f"the run has secrets, and the connection to the cluster {name!r} is not encrypted: use ssh or a "
        "scheduler at tls://…, or say `plain_secrets: true` where others cannot read the network"
    )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
