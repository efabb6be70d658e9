"""The context of a running task: its run, its attempt, and values besides its arguments."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from liteflow.digest import sha256_hex
from liteflow.outputs import output_path
from liteflow.values.payload import Payload, decode
from liteflow.values.secrets import Secrets
from liteflow.work import AgentInfo, HookEvent, RunInfo, Work


def idempotency_key(run_id: str, task_id: str, map_index: int) -> str:
    """Return a key that all attempts of a task instance share, so that an outside system can detect a repetition."""
    return f"{run_id}:{task_id}" if map_index < 0 else f"{run_id}:{task_id}:{map_index}"


def mark_of(*parts: str | int) -> str:
    """Return a name for use outside: `lf-` and 20 hexadecimal digits, the same for the same parts."""
    text = "\0".join(map(str, parts))
    return f"lf-{sha256_hex(text.encode('utf-8', 'surrogateescape'))[:20]}"


class TaskContext:
    """The attempt that is running. Get it with `current_context()`."""

    def __init__(self, work: Work, info: RunInfo) -> None:
        self._work = work
        self._info = info
        self._started_at = time.time()
        self.params: Mapping[str, Any] = info.params  #: the parameters of the run, or of the included file of the task
        self.pushed: dict[str, Payload] = {}
        self.requested_output: str | None = None  # the output file, once the task has read its path

    @property
    def run_id(self) -> str:
        return self._info.run_id

    @property
    def dag_id(self) -> str:
        return self._info.dag_id

    @property
    def parks(self) -> bool:
        """Whether the run ends, to be resumed later, when only tasks are left that wait for a minute or more."""
        return self._info.parks

    @property
    def task_id(self) -> str:
        return self._work.task_id

    @property
    def map_index(self) -> int:
        """The index of this instance of a mapped task; -1: the task is not mapped."""
        return self._work.map_index

    @property
    def item(self) -> Any:
        """The item of this instance of a mapped task; None where the task is not mapped.

        In a workflow file it is the item of `foreach`, or a mapping of the values of `matrix`; in Python the mapped
        arguments by name.

        Raises:
            PayloadError: the item cannot be decoded.
        """
        items = self._work.items
        if not items:
            return None
        if items.keys() == {"item"}:
            return decode(items["item"])
        return {name: decode(payload) for name, payload in items.items()}

    @property
    def attempt(self) -> int:
        """The number of this attempt; 1 is the first."""
        return self._work.attempt

    @property
    def hook(self) -> HookEvent | None:
        """The event that a hook handles; None in a task."""
        return self._work.hook

    @property
    def iteration(self) -> int:
        """The number of the iteration of a task that is repeated; 1 is the first."""
        return self._work.iteration

    def previous(self, key: str = "return_value", default: Any = None) -> Any:
        """Return a value of the iteration before, or `default`."""
        payload = (self._work.previous or {}).get(key)
        return default if payload is None else decode(payload)

    @property
    def handle(self) -> Any:
        """In a poll: the handle of the `Waiting` that the task returned last. None in an attempt that does not wait."""
        text = self._work.handle
        return None if text is None else decode(Payload("json", text, len(text)))

    @property
    def secrets(self) -> Secrets:
        """The secrets of the run by name. They are masked in the output of the task, and refused in its values."""
        return self._info.secrets or Secrets({})

    @property
    def logical_date(self) -> float | None:
        """The moment that the run is for, in epoch seconds; None: no particular moment."""
        return self._info.logical_date

    @property
    def db_path(self) -> str:
        """The state file, absolute."""
        return self._info.db_path

    @property
    def log_dir(self) -> str | None:
        """The folder of the logs of the run, absolute; None: it has none."""
        return self._info.log_dir

    @property
    def agent(self) -> AgentInfo | None:
        """The agent that runs this attempt on another machine than that of the run; None: it runs on that machine."""
        return self._info.agent

    def local_path(self, path: str) -> str:
        """Return the path that a path of the machine of the run has on this one.

        On a cluster that has copies of files (`files`) a path in the folder of these files leads to the copy.
        """
        copied = None if self._info.agent is None else self._info.agent.copied
        return path if copied is None else copied.place(path)

    @property
    def host(self) -> str | None:
        """The name of the machine that runs this attempt, in a cluster; None: it is the machine of the run."""
        return None if self._info.agent is None else self._info.agent.host

    @property
    def idempotency_key(self) -> str:
        """A key that all attempts of this task instance share."""
        return idempotency_key(self.run_id, self.task_id, self.map_index)

    @property
    def mark(self) -> str:
        """The name under which the attempt starts things outside the process tree, so that its undo finds them.

        It depends on the state file, the run, the task, the map index and the attempt.
        """
        return mark_of(self.db_path, self.run_id, self.task_id, self.map_index, self.attempt)

    @property
    def key(self) -> str:
        """A mark that all attempts of this task instance share."""
        return mark_of(self.db_path, self.run_id, self.task_id, self.map_index)

    @property
    def deadline(self) -> float | None:
        """The time at which the attempt times out, in epoch seconds; None: it has no timeout."""
        timeout_s = self._work.timeout_s
        return None if timeout_s is None else self._started_at + timeout_s

    @property
    def output_path(self) -> str | None:
        """The path of the file `$LIGHTFLOW_OUTPUT` of this attempt; the first writer creates the file.

        It is for programs that a task in a thread starts, which do not have the variable. The task itself uses
        `xcom_push`. None where work runs without a dag.
        """
        self.requested_output = output_path(self._info, self._work)
        return self.requested_output

    def xcom_push(self, key: str, value: Any) -> None:
        """Store a value under `key`. Other tasks see it when this task has succeeded.

        Raises:
            PayloadError: the value cannot be stored.
            TypeError: the key is not text.
        """
        if not isinstance(key, str):
            raise TypeError(f"the key of an xcom is text, not {type(key).__name__}")
        self.pushed[self._info.stored_name(str.__str__(key))] = self._info.encode(value)

    def xcom_pull(self, task_id: str, key: str = "return_value", map_index: int = -1, default: Any = None) -> Any:
        """Return a value that another task of this run has stored, or `default`.

        Without an index, the value of a mapped task is the list of the values of its instances (see `XCom.load`).

        Raises:
            PayloadError: the stored value cannot be read back.
            StoreError: the state file cannot be read.
        """
        payload = self._stored(task_id, key, map_index)
        return default if payload is None else decode(payload)

    def _stored(self, task_id: str, key: str, map_index: int) -> Payload | None:
        """Return a stored value; on another machine than the state file is on, from the owner of the run."""
        if self._info.agent is not None:
            from liteflow.values.pull import pull

            return pull(self._info.agent.folder, task_id, key, map_index)
        from liteflow.state.history import History  # with SQLite, which `validate` and most tasks need not load

        with History(self.db_path) as history:
            return history.value(self.run_id, task_id, key, map_index)


active_context: ContextVar[TaskContext] = ContextVar("liteflow_task")


def current_context() -> TaskContext:
    """Return the context of the calling task.

    Raises:
        RuntimeError: no task is running here (a thread that a task started does not inherit it before Python 3.14;
            run its function with `contextvars.copy_context().run`).
    """
    context = active_context.get(None)
    if context is None:
        raise RuntimeError("current_context() was called outside a running task")
    return context
