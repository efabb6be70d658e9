"""The tasks of a dag: functions, scripts, bodies and groups, and how they are added."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from liteflow.definition.commands import shell_command
from liteflow.definition.decorators import Partial, named_function
from liteflow.definition.expand import expand_body, expand_over
from liteflow.definition.graph_json import restore_task
from liteflow.definition.groups import (
    DagNodes,
    Group,
    TaskSource,
    dag_nodes,
    fill_parameters,
    group_options,
    open_group,
)
from liteflow.definition.options import OPTION_NAMES, TaskOptions, keyword_hint, make_options
from liteflow.definition.stored_tasks import StoredTasks
from liteflow.definition.task import CurrentDag, Task, check_id
from liteflow.errors import DefinitionError, DuplicateTask
from liteflow.planning.graph import Graph
from liteflow.work import KEYWORDS, Body, Call


class DagTasks(CurrentDag):
    """The tasks of a dag by id."""

    def __init__(self, dag_id: str) -> None:
        self.dag_id = check_id(dag_id, "dag id")
        self.tasks: dict[str, Task] = {}
        self._stored: StoredTasks | None = None  # of a dag that was loaded from the state file

    def task(self, func: Callable[..., Any] | None = None, task_id: str | None = None, **kwargs: Any) -> Any:
        """Add a task and return it. Also a decorator: `@dag.task` or `@dag.task(retries=2)`.

        `task_id` defaults to the name of the function. Keywords that are options (see `options`) configure the task,
        all others are arguments of the function. A Task among the arguments, at any depth, means its return value, and
        the new task waits for it. A parameter without an argument takes the value of the task with the same name.

        Raises:
            DuplicateTask: the id is taken.
            DefinitionError: an argument that the function does not take, or an invalid option.
        """
        if func is None:
            return lambda function: self.task(function, task_id, **kwargs)
        return self._add(*named_function(func, task_id, kwargs), kwargs)

    def group(self, group_id: str, *, depends_on: Any = (), **options: Any) -> Group:
        """Add a group and return it; the tasks that its `with` block adds are its members, with ids below its own.

            with dag.group("load") as load:
                dag.task(fetch)  # load.fetch
            load >> report

        A task that waits for a group waits for all its members; what a group waits for, its first members wait for.

        Args:
            group_id: within another group, the part after the id of that group.
            depends_on: a task or group, or several, to wait for.
            options: `trigger_rule`, and the hooks `on_success`, `on_failure` and `on_exit`.
        """
        name = self._full_id(group_id)
        group = Group(name, dag=self, options=group_options(options, name))
        group << depends_on
        self.add_task(group)
        return group

    def include(self, group_id: str, source: TaskSource, *, depends_on: Any = (), **options: Any) -> Group:
        """Add the tasks of a source, such as a workflow file, as a group, and return the group.

        dag.include("checks", lightflow.tasks.included_file("checks.yaml", {"strict": True}), depends_on=load)
        """
        with self.group(group_id, depends_on=depends_on, **options) as group:
            source.add_to(self, group.task_id)
        return group

    def shell(
        self,
        script: str,
        task_id: str | None = None,
        *,
        env: Mapping[str, Any] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        shell: str | Sequence[str] | None = None,
        output: str | None = None,
        depends_on: Any = (),
        expand: Mapping[str, Any] | None = None,
        skip_on_exit_codes: Sequence[int] = (),
        **options: Any,
    ) -> Task:
        """Add a shell script as a task and return it: `dag.shell("make report", task_id="report")`.

        A script stops at its first line that fails.

        Args:
            script: one line or several. Values of other tasks arrive in variables, never in the text of the script.
            task_id: by default "shell", then "shell__1", and so on.
            env: environment variables. A task, or one of its outputs, means its value, and the new task waits for it:
                `dag.shell('echo "$ROWS"', env={"ROWS": count.output("rows")})`. Lists and mappings arrive as JSON.
            cwd: the working directory, relative to the current one.
            shell: the name of a shell (default `/bin/sh`), or the words of the command line before the script.
            output: "last_line" or "json": the return value is what the script prints. This needs a `log_dir`.
            depends_on: a task, or several, to wait for.
            expand: lists by the name of a variable: one instance for each item (see `Partial.expand`).
            skip_on_exit_codes: exit codes that make the task SKIPPED.
            options: see `options`.

        Raises:
            DefinitionError: an invalid argument or option, or (`DuplicateTask`) the id is taken.
        """
        name = self._full_id(task_id if task_id is not None else self._free_name("shell"))
        task_options = make_options(options, name)
        variables, expansion = dict(env or {}), None
        if expand is not None:
            expansion, variables = expand_over(expand, variables, task_options.map_key, name)
        command = shell_command(
            script, name, env=variables, cwd=cwd, shell=shell, output=output, skip_on_exit_codes=skip_on_exit_codes
        )
        task = Task(name, body=command, options=task_options, expansion=expansion)
        task << depends_on
        return self.add_task(task)

    def add(self, task_id: str, body: Body, *, depends_on: Any = (), expand: Any = None, **options: Any) -> Task:
        """Add a `Call` or a `Command` as a task and return it: `dag.add("fetch", http(url=address), retries=3)`.

        A Task among the arguments of the body, at any depth, means its return value, and the new task waits for it.
        With lists in `expand` there is an instance for each item, which an `Item` in the body stands for. The timeout
        is that of the body, such as 5 minutes for a request, unless the options have one.

        Raises:
            DefinitionError: an invalid argument or option, or (`DuplicateTask`) the id is taken.
        """
        expansion, name = None, self._full_id(task_id)
        if isinstance(body, Call) and body.defaults is not None:
            options = {"timeout": body.defaults.timeout_s, **options}
        task_options = make_options(options, name)
        if expand is not None:
            expansion = expand_body(expand, body, task_options.map_key, name)
        task = Task(name, body=body, options=task_options, expansion=expansion)
        task << depends_on
        return self.add_task(task)

    def partial(self, func: Callable[..., Any], task_id: str | None = None, **kwargs: Any) -> Partial:
        """Return a task that lacks its list: `dag.partial(load, day=today, retries=2).expand(file=files)`.

        The arguments are those of `task`. The task is added when `expand` or `expand_kwargs` is called on it.
        """
        named = named_function(func, task_id, kwargs)
        return Partial(lambda lists: self._add(*named, kwargs, lists))

    def branch(self, func: Callable[..., Any] | None = None, task_id: str | None = None, **kwargs: Any) -> Any:
        """Add a task whose function returns which direct downstream tasks continue: an id, a list of ids, or None."""
        return self.task(func, task_id, branch=True, **kwargs)

    def short_circuit(self, func: Callable[..., Any] | None = None, task_id: str | None = None, **kwargs: Any) -> Any:
        """Add a task whose function returns whether the tasks that follow run."""
        return self.task(func, task_id, short_circuit=True, **kwargs)

    def add_call(
        self,
        func: Callable[..., Any],
        task_id: str | None,
        options: TaskOptions,
        arguments: Mapping[str, Any],
        lists: Mapping[str, Any] | None = None,
    ) -> Task:
        """Add a call of a decorated function; further calls of the same function become `name__1`, and so on."""
        return self._add(func, self._free_name(task_id or func.__name__), options, arguments, lists)

    def _full_id(self, name: str) -> str:
        """Return the id of a task with this name in the group whose `with` block is being executed."""
        group = open_group(self)
        return f"{group}.{name}" if group else name

    def _free_name(self, base: str) -> str:
        name, number = base, 0
        while self._full_id(name) in self.tasks:
            number += 1
            name = f"{base}__{number}"
        return name

    def _add(
        self,
        func: Callable[..., Any],
        name: str,
        options: TaskOptions,
        arguments: Mapping[str, Any],
        lists: Mapping[str, Any] | None = None,
    ) -> Task:
        expansion, name = None, self._full_id(name)
        if lists is not None:
            expansion, arguments = expand_over(lists, arguments, options.map_key, name)
        task = Task(name, func, bound_args=arguments, options=options, expansion=expansion)
        parameters = task.parameters
        unknown = [key for key in arguments if key != KEYWORDS and key not in parameters.names]
        if unknown and not parameters.any_name:
            hint = keyword_hint(unknown[0], [*parameters.names, *OPTION_NAMES])
            raise DefinitionError(f"task {name!r}: its function takes no argument {unknown[0]!r}{hint}")
        self.add_task(task)
        fill_parameters(task, self.tasks)
        return task

    def add_task(self, task: Task) -> Task:
        """Add a task that is complete, and return it.

        Raises:
            DuplicateTask: the id is taken.
        """
        if task.task_id in self.tasks:
            raise DuplicateTask(f"dag {self.dag_id!r} has a task {task.task_id!r} already; give one of them a task_id")
        task.group = task.group or open_group(self)
        if self._stored is not None and (row := self._stored.rows().get(task.task_id)) is not None:
            restore_task(task, row)
        self.tasks[task.task_id] = task
        return task

    def graph(self) -> Graph:
        """Return the checked graph, with the nodes of groups.

        Raises:
            CycleError, UnknownDependency: see `Graph`.
            DefinitionError: a parameter has no value, or a group cannot become a node.
        """
        return Graph(self._nodes().dependencies)

    def _nodes(self) -> DagNodes:
        """Return the nodes of tasks and groups, once all parameters that have the names of tasks are bound."""
        for task in self.tasks.values():
            missing = fill_parameters(task, self.tasks)
            if missing:
                raise DefinitionError(
                    f"task {task.task_id!r}: parameter {min(missing)!r} has no value, and no task has that name"
                )
        return dag_nodes(self.tasks)
