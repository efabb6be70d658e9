"""The stored tasks of a dag that was loaded from the state file: all that is data, for code to be attached to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from liteflow.errors import DefinitionError
from liteflow.identifiers import did_you_mean
from liteflow.limits import Pool
from liteflow.state.history import History

_MAX_NAMES = 10


class StoredTasks:
    """The tasks of the latest run of a dag, read when they are first needed."""

    def __init__(self, db_path: str, dag_id: str) -> None:
        self._db_path = db_path
        self._dag_id = dag_id
        self._rows: Mapping[str, Mapping[str, Any]] | None = None
        self._pools: Mapping[str, Pool] = {}

    def rows(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the rows of the stored graph by task id (see `graph_json`)."""
        if self._rows is None:
            with History(self._db_path) as history:
                latest = history.runs(self._dag_id, limit=1)
                rows = history.graph_tasks(latest[0].graph_digest) if latest else []
                used = {name for row in rows for name in row.get("resources") or ()}
                if used:
                    self._pools = {pool.name: Pool(pool.slots) for pool in history.pools() if pool.name in used}
            self._rows = {row["id"]: row for row in rows}
        return self._rows

    def pools(self) -> Mapping[str, Pool]:
        """Return the stored pools that the tasks use, by name."""
        self.rows()
        return self._pools

    def check_id(self, task_id: str) -> None:
        """Raise DefinitionError where there is no task with this id."""
        rows = self.rows()
        if task_id not in rows:
            hint = did_you_mean(task_id, rows) or f"; it has {', '.join(list(rows)[:_MAX_NAMES])}"
            raise DefinitionError(f"dag {self._dag_id!r} has no task {task_id!r}{hint}")

    def check_attached(self, task_ids: Collection[str], source: str | None) -> None:
        """Raise DefinitionError where a task has no code yet; `source` is the file that defines the dag."""
        groups = [task_id for task_id, row in self.rows().items() if row.get("gate")]
        if groups:
            raise DefinitionError(f"dag {self._dag_id!r} has groups ({groups[0]}), which only the script has: run that")
        missing = [task_id for task_id in self.rows() if task_id not in task_ids]
        if not missing and task_ids:
            return
        names = ", ".join(missing[:_MAX_NAMES])
        if len(missing) > _MAX_NAMES:
            names += f" and {len(missing) - _MAX_NAMES} more"
        raise DefinitionError(
            f"dag {self._dag_id!r} was loaded from the state file, which holds no code: run the script that defines "
            f"it{f' ({source})' if source else ''}, or attach the code of its tasks with dag.attach(…)"
            f"{f'; missing: {names}' if names else ''}"
        )
