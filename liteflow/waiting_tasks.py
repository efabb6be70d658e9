"""The tasks of a dag that wait without a worker: sensors and approvals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from liteflow.definition.options import make_options
from liteflow.definition.task import Task
from liteflow.errors import DefinitionError
from liteflow.values.params import declared, described
from liteflow.work import Call, Poll

#: How long such a task waits where it does not say: there is always an end.
LONGEST_WAIT_S: Final = 7 * 86400.0


class WaitingTasks(Protocol):
    """A dag, as far as it has tasks that wait."""

    def task(self, func: Callable[..., Any] | None = None, task_id: str | None = None, **kwargs: Any) -> Any: ...

    def add_task(self, task: Task) -> Task: ...

    def _free_name(self, base: str) -> str: ...

    def _full_id(self, name: str) -> str: ...

    def sensor(
        self,
        func: Callable[..., Any] | None = None,
        task_id: str | None = None,
        *,
        every: float = 10.0,
        timeout: float | None = LONGEST_WAIT_S,
        on_timeout: str = "fail",
        **kwargs: Any,
    ) -> Any:
        """Add a task that waits: its function is called again, every so many seconds, until it returns a value.

        While it returns `NOT_YET`, or a `Waiting` that says what it waits for, the task is WAITING and holds no worker
        and no slot. A call that raises is repeated, and five such calls in a row fail the task. Also a decorator.

        Args:
            func: the function, which should return soon: a call may take 30 seconds.
            task_id: by default the name of the function.
            every: seconds between two calls.
            timeout: seconds after which the wait is over; they also count while no process runs the run.
            on_timeout: "fail", or "skip" for a task that is then SKIPPED.
            kwargs: options and arguments, as in `task`.
        """
        return self.task(func, task_id, every=every, timeout=timeout, on_timeout=on_timeout, **kwargs)

    def approval(
        self,
        message: str,
        task_id: str | None = None,
        *,
        fields: Mapping[str, Any] | None = None,
        depends_on: Any = (),
        timeout: float = LONGEST_WAIT_S,
        on_timeout: str = "fail",
        **options: Any,
    ) -> Task:
        """Add a task that waits for the decision of a person: `lightflow approve`, or `DagRun.approve`.

        It succeeds with the values `decision`, `by`, `at`, `comment` and those of the fields. A rejection fails it, and
        so does the end of its time.

        Args:
            message: what is to be decided.
            task_id: by default "approval".
            fields: values that the person gives, declared like the parameters of a dag.
            depends_on: a task, or several, to wait for.
            timeout: seconds until the wait is over; they also count while no process runs the run.
            on_timeout: "fail", or "skip" for a task that is then SKIPPED.
            options: see `options`.
        """
        from liteflow.approvals import reserved_field, wait_for_approval  # here, because few dags have one

        name = self._full_id(task_id if task_id is not None else self._free_name("approval"))
        declarations = declared(fields or {})
        if (reserved := reserved_field(list(declarations))) is not None:
            raise DefinitionError(f"task {name!r}: {reserved!r} is a value of every approval: choose another field")
        poll = Poll(func=wait_for_approval, on_timeout="SKIPPED" if on_timeout == "skip" else "TIMED_OUT")
        kwargs = {"message": message, "fields": described(declarations)}
        body = Call(wait_for_approval, kwargs, lane="process", poll=poll)
        task = Task(name, body=body, options=make_options({**options, "timeout": timeout}, name))
        task << depends_on
        return self.add_task(task)
