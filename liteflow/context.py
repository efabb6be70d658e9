"""What a running task can ask about itself, and the values it exchanges beside its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from liteflow.outputs import output_path
from liteflow.state.history import History
from liteflow.values.payload import Payload, decode
from liteflow.values.secrets import Secrets
from liteflow.work import HookEvent, RunInfo, Work


def idempotency_key(run_id: str, task_id: str, map_index: int) -> str:
    """The same for every attempt of a task instance, so that an outside system can tell a repetition."""
    return f"{run_id}:{task_id}" if map_index < 0 else f"{run_id}:{task_id}:{map_index}"


class TaskContext:
    """The attempt that is running. Get it with `current_context()`."""

    def __init__(self, work: Work, info: RunInfo) -> None:
        self._work = work
        self._info = info
        self.pushed: dict[str, Payload] = {}
        self.requested_output: str | None = None  # the output file, once somebody has been told of it

    @property
    def run_id(self) -> str:
        return self._info.run_id

    @property
    def dag_id(self) -> str:
        return self._info.dag_id

    @property
    def task_id(self) -> str:
        return self._work.task_id

    @property
    def map_index(self) -> int:
        """Which one of a task that is mapped over a list; -1: it is not."""
        return self._work.map_index

    @property
    def item(self) -> Any:
        """What this instance of a mapped task got: of a workflow file the item of `foreach`, or a mapping of the values
        of `matrix`; else the mapped arguments by name. None where the task is not mapped.

        Raises:
            PayloadError: it does not decode.
        """
        items = self._work.items
        if not items:
            return None
        if items.keys() == {"item"}:
            return decode(items["item"])
        return {name: decode(payload) for name, payload in items.items()}

    @property
    def attempt(self) -> int:
        """1 is the first."""
        return self._work.attempt

    @property
    def hook(self) -> HookEvent | None:
        """The event that a hook handles; None in a task."""
        return self._work.hook

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters of the run."""
        return self._info.params

    @property
    def secrets(self) -> Mapping[str, str]:
        """The secrets of the run by name. They are masked in what the task prints, and refused in what it returns."""
        return self._info.secrets or Secrets({})

    @property
    def logical_date(self) -> float | None:
        """The moment that the run is for, in epoch seconds, where it is for one."""
        return self._info.logical_date

    @property
    def db_path(self) -> str:
        """The state file, absolute."""
        return self._info.db_path

    @property
    def idempotency_key(self) -> str:
        """Stable over the attempts of this task instance."""
        return idempotency_key(self.run_id, self.task_id, self.map_index)

    @property
    def output_path(self) -> str | None:
        """The file that is `$LIGHTFLOW_OUTPUT` in a process, made by whoever writes to it.

        For programs that a task in a thread starts: they do not find it in their environment. A task itself is better
        off with `xcom_push`. None where work is run without a dag.
        """
        self.requested_output = output_path(self._info, self._work)
        return self.requested_output

    def xcom_push(self, key: str, value: Any) -> None:
        """Store a value under `key`; other tasks see it when this task has succeeded.

        Raises:
            PayloadError: the value cannot be stored.
            TypeError: the key is not text.
        """
        if not isinstance(key, str):
            raise TypeError(f"the key of an xcom is text, not {type(key).__name__}")
        self.pushed[self._info.stored_name(str.__str__(key))] = self._info.encode(value)

    def xcom_pull(self, task_id: str, key: str = "return_value", map_index: int = -1, default: Any = None) -> Any:
        """A value that another task of this run has stored, or `default`.

        Without an index, that of a mapped task is the list of its instances' values (see `XCom.load`).

        Raises:
            PayloadError: the stored value cannot be read back.
            StoreError: the state file cannot be read.
        """
        with History(self.db_path) as history:
            payload = history.value(self.run_id, task_id, key, map_index)
        return default if payload is None else decode(payload)


active_context: ContextVar[TaskContext] = ContextVar("liteflow_task")


def current_context() -> TaskContext:
    """The context of the task that calls this.

    Raises:
        RuntimeError: no task is running here (a thread that a task started does not inherit it before Python 3.14;
            run its function with `contextvars.copy_context().run`).
    """
    context = active_context.get(None)
    if context is None:
        raise RuntimeError("current_context() was called outside a running task")
    return context
