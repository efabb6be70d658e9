"""The answers of people to the tasks that wait for a decision: each is acted on once, the first one first."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from liteflow.errors import PayloadError
from liteflow.planning.task_table import TaskTable
from liteflow.running.recorder import Recorder
from liteflow.state.answers import ANSWER, StoredAnswer
from liteflow.state.records import Request
from liteflow.work import ErrorInfo, Outcome, RunInfo


class Answers:
    """The answers that the owner of a run has read and not yet handled."""

    def __init__(self, table: TaskTable, recorder: Recorder, info: RunInfo) -> None:
        self._table = table
        self._recorder = recorder
        self._info = info
        self._open: dict[int, StoredAnswer] = {}  # by the number of the request

    def add(self, requests: Iterable[Request]) -> None:
        """Take the answers among these requests."""
        for request in requests:
            if request.action == ANSWER and request.request_no not in self._open:
                self._open[request.request_no] = StoredAnswer.of(request)

    def due(self, unread: Collection[tuple[str, int]]) -> list[tuple[int, int, StoredAnswer]]:
        """Return the open answers: the number of each, and the node that it is for, or -1 if that does not wait.

        An answer to an instance whose list is unread is not among them.
        """
        if not self._open:
            return []
        table = self._table
        nodes = {(table.task_ids[node], table.map_indexes[node]): node for node in table.waiting}
        keys = {number: (answer.task_id, answer.map_index) for number, answer in self._open.items()}
        return [
            (number, nodes.get(keys[number], -1), answer)
            for number, answer in sorted(self._open.items())
            if keys[number] not in unread
        ]

    def handle(self, number: int) -> None:
        """Record that an answer was acted on, or came too late."""
        if self._open.pop(number, None) is not None:
            self._recorder.handle_request(number)

    def handle_all(self, node: int, attempt: int) -> None:
        """Record that an attempt has ended: all answers to it are handled."""
        key = (self._table.task_ids[node], self._table.map_indexes[node], attempt)
        for number in [number for number, answer in self._open.items() if answer.attempt_key == key]:
            self.handle(number)

    def ended(self, outcome: Outcome, answer: StoredAnswer) -> Outcome:
        """Return the outcome of an attempt that a person has decided about, from that of its success."""
        outcome = outcome._replace(verdict=answer.verdict)
        if answer.verdict != "SUCCESS":
            error = ErrorInfo(self._info.masked(answer.reason), "", ("TaskFailed",), codes=answer.codes, final=True)
            return outcome._replace(error=error)
        try:
            values = {self._info.stored_name(name): self._info.encode(value) for name, value in answer.values.items()}
            return outcome._replace(value=self._info.encode(dict(answer.values)), pushed=values)
        except PayloadError as error:
            return outcome._replace(verdict="FAILED", error=ErrorInfo(f"the answer cannot be stored: {error}"))
