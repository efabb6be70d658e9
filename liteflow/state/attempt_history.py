"""The part of `History` that reads attempts: those that have ended, and those that run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from liteflow.state.row_kinds import ATTEMPT_KINDS, INT, REAL, Kind
from liteflow.state.stored_texts import from_json, path_as_named


class AttemptRecord(NamedTuple):
    """One attempt of a task instance."""

    task_id: str
    map_index: int
    attempt: int
    status: str
    started_at: float
    ended_at: float | None
    exit_code: int | None
    error: str | None
    log_path: str | None
    trace: str | None = None  # of a Python exception: where in the user's code it was raised (JSON, see `traces`)
    log_lost: str | None = None  # why a part of its output is not in its log
    codes: tuple[str, ...] = ()  # of its failure, such as "http:503"
    host: str | None = None  # the machine that ran it, or runs it; None: that of the owner of the run, or not known yet


_ENDED: Final = (
    "SELECT task_id, map_index, attempt, {0}status, {0}started_at, {0}ended_at, exit_code, error, {0}log_path, trace, "
    "log_lost, {0}host, codes FROM"
)
_OF_RUNNING: Final = (
    "FROM liteflow_task_instances WHERE try_number > 0 AND "
    "(status='RUNNING' OR status='WAITING' AND handle IS NOT NULL) AND"
)
_RUNNING: Final = (
    "SELECT task_id, map_index, try_number, status, started_at, NULL, NULL, NULL, log_path, NULL, NULL, host, NULL "
    f"{_OF_RUNNING}"
)
#: The times of attempts; of those that run, the end is a moment.
_TIMES: Final = (
    "SELECT task_id, map_index >= 0 AS is_mapped, started_at, ended_at FROM liteflow_attempts WHERE {0} "
    f"UNION ALL SELECT task_id, map_index >= 0, started_at, ? {_OF_RUNNING} {{0}}"
)
_AMONG: Final = "run_id=? AND task_id IN (SELECT value FROM json_each(?))"
#: From each instance the index of attempts leads to its last ones.
_LAST: Final = (
    f"{_ENDED.format('a.')} liteflow_task_instances AS i CROSS JOIN liteflow_attempts AS a "
    "USING (run_id, task_id, map_index) WHERE attempt > try_number - ? AND"
)
_TASKS_FIRST: Final = "ORDER BY map_index >= 0, started_at DESC LIMIT ?"


class LastAttempts(NamedTuple):
    """The last attempts of each task instance of a run, by task id, map index and attempt."""

    records: list[AttemptRecord]
    earlier: bool  # whether there are attempts before these


class AttemptHistory(Protocol):
    """A history, as far as it reads attempts."""

    def _rows(self, sql: str, parameters: Sequence[object], kinds: Sequence[Kind]) -> list[Any]: ...

    def attempts(
        self,
        run_id: str,
        task_id: str | None = None,
        map_index: int | None = None,
        *,
        after: tuple[str, int, int] | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[AttemptRecord]:
        """Return the attempts of a run, of one of its tasks, or of an instance, by task id, map index and attempt.

        `after` the task id, the map index and the attempt of the last one returns the next `limit` attempts. With
        `newest_first` the order is the other one, and the next ones are those before.
        """
        sign, order = ("<", "1 DESC, 2 DESC, 3 DESC") if newest_first else (">", "1, 2, 3")
        where, parameters = _of(run_id, task_id, map_index)
        ended = running = where
        if after is not None:  # without the columns that `where` fixes, SQLite finds the attempt in the index
            columns = zip(("task_id", "map_index"), after[:2], (task_id, map_index), strict=True)
            free = [(name, last) for name, last, fixed in columns if fixed is None]
            names, marks = "".join(f"{name}, " for name, _ in free), ", ".join("?" * (len(free) + 1))
            ended = f"{where} AND ({names}attempt) {sign} ({marks})"
            running = f"{where} AND ({names}try_number) {sign} ({marks})"
            parameters += [*(last for _, last in free), after[2]]
        sql = f"{_ENDED.format('')} liteflow_attempts WHERE {ended} UNION ALL {_RUNNING} {running}"
        parameters = [*parameters * 2, -1 if limit is None else limit]
        return _records(self._rows(f"{sql} ORDER BY {order} LIMIT ?", parameters, ATTEMPT_KINDS))

    def attempt(self, run_id: str, task_id: str, map_index: int, number: int | None = None) -> AttemptRecord | None:
        """Return an attempt of an instance, or its last one; None: there is no such attempt."""
        after = None if number is None else (task_id, map_index, number + 1)
        records = self.attempts(run_id, task_id, map_index, after=after, limit=1, newest_first=True)
        return next((each for each in records if number in (None, each.attempt)), None)

    def numbered_attempts(
        self, run_id: str, number: int, task_id: str | None = None, map_index: int | None = None
    ) -> list[AttemptRecord]:
        """Return the attempts of one number: of a run, of one of its tasks, or of an instance, by task id and index."""
        where, place = _of(run_id, task_id, map_index)
        sql = f"{_ENDED.format('')} liteflow_attempts WHERE {where} AND attempt=?"
        sql = f"{sql} UNION ALL {_RUNNING} {where} AND try_number=? ORDER BY 1, 2"
        return _records(self._rows(sql, [*place, number] * 2, ATTEMPT_KINDS))

    def last_attempts(
        self,
        run_id: str,
        task_id: str | None = None,
        map_index: int | None = None,
        *,
        of_each: int,
        most: int | None = None,
        every: bool = False,
    ) -> LastAttempts:
        """Return the last attempts of each instance of a run or a task: as many of each, and at most `of_each`.

        There are at most `most` in all, if that is set. Of more than `most` instances these are the last attempts that
        started last, those of tasks before those of the instances of mapped tasks; with `every` there is one of each
        instance all the same. An instance that a list no longer has is left out.
        """
        where, place = _of(run_id, task_id, map_index)
        sql = f"SELECT try_number FROM liteflow_task_instances WHERE {where} AND try_number > 0"
        counts = [count for (count,) in self._rows(sql, place, (INT,))]
        share = of_each if most is None else min(of_each, max(1, _equal_share(counts, most)))
        sql, parameters = f"{_LAST} {where} UNION ALL {_RUNNING} {where}", [share, *place, *place]
        is_cut = most is not None and len(counts) > most and not every
        if is_cut:
            sql, parameters = f"SELECT * FROM ({sql}) {_TASKS_FIRST}", [*parameters, most]
        records = _records(self._rows(sql, parameters, ATTEMPT_KINDS))
        earlier = is_cut or any(count > share for count in counts)
        return LastAttempts(sorted(records, key=lambda each: each[:3]), earlier)

    def work_s(self, run_id: str, since: float, until: float) -> float:
        """Return the seconds of the attempts of a run that started at or after a moment; of those that run, to `until`.

        Moments are in seconds since 1970.
        """
        sql = f"SELECT total(ended_at - started_at) FROM ({_TIMES.format('run_id=? AND ? <= started_at')})"
        ((seconds,),) = self._rows(sql, (run_id, since, until, run_id, since), (REAL,))
        return float(seconds)

    def tasks_work_s(self, run_id: str, tasks: Sequence[str], until: float) -> float:
        """Return the seconds for which tasks of a run ran, one after the other; of those that run, to `until`.

        A mapped task counts from the first start to the last end of its instances.
        """
        sql = (
            "SELECT total(CASE WHEN is_mapped THEN to_end ELSE work END) FROM ("
            "SELECT is_mapped, max(ended_at) - min(started_at) AS to_end, total(ended_at - started_at) AS work "
            f"FROM ({_TIMES.format(_AMONG)}) GROUP BY task_id, is_mapped)"
        )
        names = json.dumps(list(tasks))
        ((seconds,),) = self._rows(sql, (run_id, names, until, run_id, names), (REAL,))
        return float(seconds)


def _of(run_id: str, task_id: str | None, map_index: int | None) -> tuple[str, list[object]]:
    """Return the condition for the rows of a run, of one of its tasks or of an instance, and its parameters."""
    columns = {"run_id": run_id, "task_id": task_id, "map_index": map_index}
    fixed = {name: value for name, value in columns.items() if value is not None}
    return " AND ".join(f"{name}=?" for name in fixed), list(fixed.values())


def _equal_share(counts: Sequence[int], most: int) -> int:
    """Return the largest share such that all have at most `most` together; none has more than its count."""
    rest = most
    for place, count in enumerate(sorted(counts)):
        share = rest // (len(counts) - place)
        if count > share:
            return share
        rest -= count
    return max(counts, default=0)


def _records(rows: Sequence[Sequence[Any]]) -> list[AttemptRecord]:
    records = [AttemptRecord._make((*row[:-2], _codes(row[-1]), row[-2])) for row in rows]
    return [each._replace(log_path=path_as_named(each.log_path)) if each.log_path else each for each in records]


def _codes(text: object) -> tuple[str, ...]:
    return tuple(code for code in from_json(text, []) if isinstance(code, str))
