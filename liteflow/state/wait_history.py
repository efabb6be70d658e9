"""The part of `History` that reads what waits: instances, with the decisions of people, and the parents of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from liteflow.state.answers import ANSWER, StoredAnswer
from liteflow.state.parking import PARKED_SQL, WAKE, ParkedRun, ParkedUntil, parked_run
from liteflow.state.records import Request
from liteflow.state.row_kinds import ID, INT, REAL_OR_NOT, TEXT, TEXT_OR_NOT, Kind
from liteflow.state.schema import ANCESTORS_SQL


class WaitHistory(Protocol):
    """A history, as far as it reads waits."""

    def _rows(self, sql: str, parameters: Sequence[object], kinds: Sequence[Kind]) -> list[Any]: ...

    def handles(self, run_id: str) -> list[tuple[str, int, str]]:
        """Return the task id, the map index and the handle (JSON) of each instance of a run that waits."""
        sql = (
            "SELECT task_id, map_index, handle FROM liteflow_task_instances WHERE run_id=? AND status='WAITING' "
            "AND handle IS NOT NULL ORDER BY task_id, map_index"
        )
        return [tuple(row) for row in self._rows(sql, (run_id,), (ID, INT, TEXT))]

    def parked_runs(self) -> list[ParkedRun]:
        """Return the runs that are parked, the first one first. A child run is continued by its parent."""
        rows = self._rows(PARKED_SQL, (), (ID, ID, TEXT_OR_NOT, TEXT_OR_NOT, TEXT_OR_NOT, INT))
        return [parked_run(*row) for row in rows]

    def parked_until(self, run_id: str) -> ParkedUntil | None:
        """Return when a run is due if it is parked."""
        sql = (
            "SELECT detail FROM liteflow_requests WHERE run_id=? AND action=? AND handled_at IS NULL ORDER BY 1 LIMIT 1"
        )
        rows = self._rows(sql, (run_id, WAKE), (TEXT_OR_NOT,))
        return ParkedUntil.of(rows[0][0]) if rows else None

    def answers(self, run_id: str) -> list[StoredAnswer]:
        """Return the answers of people to tasks of a run, the first one first."""
        sql = "SELECT request_no, action, detail FROM liteflow_requests WHERE run_id=? AND action=? ORDER BY 1"
        rows = self._rows(sql, (run_id, ANSWER), (INT, TEXT, TEXT_OR_NOT))
        return [StoredAnswer.of(Request(*row)) for row in rows]

    def request_content(self, run_id: str, key: str) -> str | None:
        """Return the content of the request with a key that changed a run (see `RequestKey`); None if there is none."""
        sql = (
            "SELECT json_extract(detail, '$[1]') FROM liteflow_requests WHERE run_id=? "
            "AND action IN ('resume', 'retry', 'fork') "
            "AND CASE WHEN json_valid(detail) THEN json_extract(detail, '$[0]') END = ? LIMIT 1"
        )
        rows = self._rows(sql, (run_id, key), (TEXT_OR_NOT,))
        return rows[0][0] if rows else None

    def is_handled(self, request_no: int) -> bool:
        """Return whether the owner of its run has acted on a request."""
        rows = self._rows("SELECT handled_at FROM liteflow_requests WHERE request_no=?", (request_no,), (REAL_OR_NOT,))
        return bool(rows) and rows[0][0] is not None

    def ancestors(self, run_id: str) -> list[str]:
        """Return the ids of the parent of a run, which waits for it, of the parent of that, and so on."""
        return [row[0] for row in self._rows(ANCESTORS_SQL, (run_id,), (ID,))]
