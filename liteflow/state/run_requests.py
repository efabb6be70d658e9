"""The requests that change a run, each with the person or program that sent it."""

from __future__ import annotations

import json
import sqlite3
from typing import Final

from liteflow.record import Record
from liteflow.state.process_identity import request_detail, user_name

#: The last request for the run of a row, as JSON; a part of a statement that selects runs.
REQUEST_COLUMN: Final = (
    "(SELECT json_array(action, requested_by, created_at) FROM liteflow_requests AS request "
    "WHERE request.run_id=liteflow_dag_runs.run_id AND requested_by IS NOT NULL ORDER BY request_no DESC LIMIT 1)"
)


class RunRequest(Record):
    """A request of a person or a program that changed a run."""

    action: str  #: resume, retry, fork, cancel, mark, clear, answer
    requested_by: str
    at: float  #: epoch seconds


class RequestKey(Record):
    """The key that a program gave its request, so that it changes a run once, however often it is sent."""

    key: str
    content: str  #: a digest of what was requested: the same key is for the same content

    def text(self) -> str:
        """Return the key as the detail of a row."""
        return json.dumps([self.key, self.content])


def run_request(text: str | None) -> RunRequest | None:
    """Return the last request for a run, from `REQUEST_COLUMN`; None also where the row was altered."""
    try:
        match json.loads(text or "null"):
            case [str(action), str(requested_by), int() | float() as at]:
                return RunRequest(action=action, requested_by=requested_by, at=float(at))
    except (ValueError, RecursionError):
        pass
    return None


def record_request(connection: sqlite3.Connection, run_id: str, action: str, now: float) -> None:
    """Record who requested a change, within the transaction that makes it."""
    connection.execute(
        "INSERT INTO liteflow_requests (run_id, action, detail, created_at, handled_at, requested_by) "
        "VALUES (?,?,?,?,?,?)",
        (run_id, action, request_detail(), now, now, user_name()),
    )
