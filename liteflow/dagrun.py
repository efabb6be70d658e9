"""`DagRun`: the result of a run, read from the state file."""

from __future__ import annotations

from typing import Any

from liteflow.errors import RunFailed, RunNotFound
from liteflow.planning.task_table import instance_name
from liteflow.state.history import History, RunRecord
from liteflow.state.state_file import real_path
from liteflow.states import Status
from liteflow.values.payload import decode


class DagRun:
    """One run: `run_id`, `dag_id`, `status`, `created_at` (epoch seconds), `started_at`, `ended_at`, `reason`.

    `signal` is the number of the signal that interrupted it, `timed_out` whether it exceeded its timeout. Both are
    known only in the process that ran it.
    """

    def __init__(
        self,
        db_path: str,
        run_id: str,
        dag_id: str,
        status: str,
        created_at: float,
        started_at: float | None = None,
        ended_at: float | None = None,
        reason: str | None = None,
    ) -> None:
        self.db_path = db_path
        self.run_id = run_id
        self.dag_id = dag_id
        self.status = status
        self.created_at = created_at
        self.started_at = started_at
        self.ended_at = ended_at
        self.reason = reason
        self.signal: int | None = None
        self.timed_out = False

    @classmethod
    def from_record(cls, db_path: str, record: RunRecord) -> DagRun:
        return cls(
            db_path,
            record.run_id,
            record.dag_id,
            record.status,
            record.created_at,
            record.started_at,
            record.ended_at,
            record.reason,
        )

    @classmethod
    def load(cls, db_path: str, run_id: str) -> DagRun:
        """Return a run from the state file, by its id or the beginning of its id.

        Raises:
            RunNotFound: no run matches, or several do.
        """
        with History(db_path) as history:
            return cls.from_record(real_path(db_path), history.run(run_id))

    def __repr__(self) -> str:
        return f"<DagRun {self.run_id!r} of {self.dag_id!r}: {self.status}>"

    def statuses(self) -> dict[str, str]:
        """Return the state of each task by its id; of a mapped task the state of the task as a whole."""
        with History(self.db_path) as history:
            return history.task_statuses(self.run_id)

    def value(self, task_id: str, key: str = "return_value", default: Any = None) -> Any:
        """Return a stored value of a task; of a mapped task the list of its values. See `XCom.load`."""
        with History(self.db_path) as history:
            payload = history.value(self.run_id, task_id, key)
        return default if payload is None else decode(payload)

    @property
    def outputs(self) -> dict[str, Any]:
        """The outputs of the run by name; None: that of a task without the value. Empty until it has succeeded."""
        with History(self.db_path) as history:
            payloads = history.run_outputs(self.run_id)
        return {name: None if payload is None else decode(payload) for name, payload in payloads.items()}

    def failures(self) -> dict[str, str]:
        """Return the failed tasks with their reasons, a line each; of mapped tasks the failed instances: `fetch[3]`."""
        with History(self.db_path) as history:
            failed = [instance for instance in history.instances(self.run_id) if instance.status == Status.FAILED]
        mapped = {instance.task_id for instance in failed if instance.map_index >= 0}
        return {
            instance_name(instance.task_id, instance.map_index): instance.reason or "failed"
            for instance in failed
            if instance.map_index >= 0 or instance.task_id not in mapped
        }

    def raise_for_failure(self) -> DagRun:
        """Return the run, if it succeeded or was skipped because of another run of its group.

        Raises:
            RunFailed: the run did not succeed; names the failed tasks.
        """
        if self.status in (Status.SUCCESS, Status.SKIPPED):
            return self
        failures = self.failures()
        first = "; ".join(f"{task_id}: {why}" for task_id, why in list(failures.items())[:3])
        hidden = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
        raise RunFailed(
            f"run {self.run_id} of {self.dag_id!r} is {self.status}: {first or self.reason}{hidden}", failures
        )

    def approve(self, task_id: str, *, map_index: int = -1, by: str = "", comment: str = "", **fields: Any) -> None:
        """Approve a task that waits for a decision. `fields` are the values of its fields.

        Raises:
            AlreadyDecided: it has been decided, or its time is over.
            ParamError: fields are missing or not valid.
        """
        self._decide(task_id, map_index, approved=True, by=by, comment=comment, fields=fields)

    def reject(self, task_id: str, *, map_index: int = -1, by: str = "", comment: str = "") -> None:
        """Reject a task that waits for a decision: it fails. Raises what `approve` does."""
        self._decide(task_id, map_index, approved=False, by=by, comment=comment, fields={})

    def _decide(
        self, task_id: str, map_index: int, *, approved: bool, by: str, comment: str, fields: dict[str, Any]
    ) -> None:
        from liteflow.approvals import Choice, decide, find_approval, user_name  # here, because few runs need it

        with History(self.db_path) as history:
            run = history.run(self.run_id)
            instance = history.instance(self.run_id, task_id, map_index)
            if instance is None:
                raise RunNotFound(f"run {self.run_id} has no task {instance_name(task_id, map_index)!r}")
            approval = find_approval(history, run, instance)
        choice = Choice(approved=approved, by=by or user_name(), fields=fields, comment=comment)
        decide(self.db_path, approval, choice)

    def delete(self, db_path: str | None = None) -> None:
        """Delete the run with its tasks, attempts, values and events.

        Raises:
            RunOwned: it is running.
        """
        from liteflow.state.deletion import delete_runs  # here, because a run does not need it

        delete_runs(db_path or self.db_path, [self.run_id])
