"""The tasks of a dag that wait without a worker: sensors, approvals, and child runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final

from liteflow.dagrun import DagRun
from liteflow.definition.dag_tasks import DagTasks
from liteflow.definition.options import make_options
from liteflow.definition.task import Task, reference
from liteflow.errors import DefinitionError
from liteflow.values.params import declared, described
from liteflow.work import Call, Poll

#: How long such a task waits where it does not say: there is always an end.
LONGEST_WAIT_S: Final = 7 * 86400.0


class WaitingTasks(DagTasks):
    """The tasks of a dag, and those among them that wait."""

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """The outputs of a run by name: tasks, or outputs of tasks. They are also those of a task that executes it."""
        return {}

    @cached_property
    def compute_outputs(self) -> Callable[[DagRun], Mapping[str, Any]] | None:
        """The function that computes the outputs of a run that has succeeded, if they are more than values of tasks."""
        return None

    def _computed_outputs(self, path: str, run_id: str) -> Callable[[], Mapping[str, Any]] | None:
        """Return what computes the outputs of a run; None: it has none."""
        compute = self.compute_outputs
        if compute is not None:
            return lambda: compute(DagRun.load(path, run_id))
        references = {name: reference(value) for name, value in self.outputs.items()}
        return (lambda: references) if references else None

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

    def workflow(
        self,
        task_id: str,
        dag: Any,
        *,
        params: Mapping[str, Any] | None = None,
        depends_on: Any = (),
        expand: Mapping[str, Any] | None = None,
        on_retry: str = "resume",
        **options: Any,
    ) -> Task:
        """Add a task that executes another dag as a child run, and return it.

            load = Dag("load", params={"day": Param("date")})
            load.outputs["rows"] = load.task(count)
            with Dag("nightly") as dag:
                part = dag.workflow("part", load, params={"day": "today"})
                dag.task(report, rows=part.output("rows"))

        The child run is a run of its own in the same state file. Its outputs are the values of the task. While it is
        executed the task is WAITING and holds no slot.

        Args:
            task_id: the id of the task.
            dag: the dag of the child run.
            params: the parameters of the child run. A task, or one of its outputs, means its value.
            depends_on: a task, or several, to wait for.
            expand: lists by the name of a parameter: a child run for each item (see `Partial.expand`).
            on_retry: "resume" continues a child run that has failed when the task is retried, "new" starts another.
            options: see `options`.

        Raises:
            DefinitionError: a parameter is missing or not valid, or the dag executes itself.
        """
        from liteflow.child_runs import check_params, dag_call, executed_dags  # here, because few dags have one
        from liteflow.definition.expand import expand_over

        task_id = self._full_id(task_id)
        task_options, arguments, expansion = make_options(options, task_id), dict(params or {}), None
        if expand is not None:
            expansion, arguments = expand_over(expand, arguments, task_options.map_key, task_id)
        if id(self) in map(id, executed_dags(dag)):
            raise DefinitionError(f"task {task_id!r}: dag {dag.dag_id!r} executes this dag: that would never end")
        if dag.params is not None:
            check_params(dag.params, arguments, task_id)
        body = dag_call(dag, arguments, on_retry)
        task = Task(task_id, body=body, options=task_options, expansion=expansion)
        task << depends_on
        return self.add_task(task)

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
