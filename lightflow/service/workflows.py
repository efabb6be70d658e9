"""Looking at workflow files. Nothing of the user's is executed in this process."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lightflow.errors import Problem, WorkflowError
from lightflow.parser.schema import workflow_schema
from lightflow.parser.workflow_loader import load_with_hints, load_workflow
from lightflow.service.python_files import is_script, script_errors
from lightflow.spec.model import (
    Condition,
    ControlFlow,
    Expressions,
    Limits,
    MappingSpec,
    Settings,
    TaskSpec,
    WorkflowSpec,
)
from liteflow.errors import InputError
from liteflow.limits import Concurrency, Pool
from liteflow.pictures.picture import Edge, Node, Picture
from liteflow.planning.graph import Graph
from liteflow.planning.ready_queue import DEFAULT_QUEUE, QueueOptions
from liteflow.planning.retry import RetryPolicy
from liteflow.values.params import Param
from liteflow.values.payload import decode

#: The heading of the edges that only expressions make.
FROM_EXPRESSIONS: Final = "From expressions"
_TEMPLATE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")


class TaskOutline(NamedTuple):
    """A task as far as it can be told without running anything."""

    id: str
    kind: str
    depends_on: tuple[str, ...]
    rule: str = "all_success"
    summary: str = ""  # the first line of what it runs
    timeout_s: float | None = None
    retries: int = 0
    implied: tuple[str, ...] = ()  # those of `depends_on` that only an expression names
    template: str = ""  # what it runs, where that has expressions
    expressions: Expressions | None = None  # those
    special: tuple[str, ...] = ()  # what is special in how it stands in the flow
    condition: Condition | None = None  # its `if`
    skipped: str = ""  # why it will be skipped, where that is known before a run
    order: QueueOptions = DEFAULT_QUEUE
    mapped: str = ""  # what it is mapped over, in words
    spec: TaskSpec | None = None  # of a mapped task of a file


class InstanceOutline(NamedTuple):
    """An instance of a mapped task that is known before the run."""

    label: str | None
    summary: str


class WorkflowOutline(NamedTuple):
    """A workflow as far as it can be told without running anything."""

    name: str
    description: str
    path: str
    is_script: bool
    tasks: tuple[TaskOutline, ...]
    graph: Graph
    settings: Settings
    params: Mapping[str, Param] | None = None  # None: it says nothing of what it takes
    values: Mapping[str, Any] = {}  # those of a run, where it is about one
    secrets: tuple[str, ...] = ()  # their names
    hidden: tuple[str, ...] = ()  # environment variables that hold one
    limits: Limits = Limits()

    def for_run(self, values: Mapping[str, Any]) -> WorkflowOutline:
        """The workflow as far as it is known before a run with these parameters.

        Raises:
            WorkflowError: a task cannot be mapped over what it is to be.
        """
        problems: list[Problem] = []
        for task in self.tasks:
            if task.spec is not None:
                from lightflow.expressions.fan_out import expansion_of

                expansion_of(task.spec, values, problems)
        if problems:
            raise WorkflowError(problems)
        tasks = [task._replace(summary=self._preview(task, values)) if task.template else task for task in self.tasks]
        tasks = [_judged(task, values) if task.condition is not None else task for task in tasks]
        return self._replace(values=values, tasks=tuple(tasks))

    def _preview(self, task: TaskOutline, values: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> str:
        from lightflow.expressions.evaluate import preview

        assert task.expressions is not None
        return _first_line(preview(task.template, values, task.expressions, self.hidden, more))

    def instances(self, task: TaskOutline) -> list[InstanceOutline] | None:
        """The instances of a mapped task; None where they are only known when it may start, or it is not mapped."""
        if task.spec is None or task.spec.fan is None:
            return None
        from lightflow.expressions.fan_out import ITEM, StaticExpansion, expansion_of

        params = (self.params or {}).items()
        values = self.values or {name: one.value(one.default) for name, one in params if not one.required}
        expansion = expansion_of(task.spec, values, [])
        if not isinstance(expansion, StaticExpansion):
            return None
        found = []
        for index, row in enumerate(expansion.listed):
            more = {task.spec.fan.name: decode(row.items[ITEM]), "task": {"id": task.id, "index": index}}
            summary = self._preview(task, values, more) if task.template else task.summary
            found.append(InstanceOutline(row.label, summary))
        return found

    def levels(self) -> list[list[TaskOutline]]:
        """What may run side by side, in order."""
        return [[self.tasks[node] for node in level] for level in self.graph.levels()]


def outline(path: str, dag: str | None = None) -> WorkflowOutline:
    """Check a workflow file, or a Python script in a process of its own, and describe it.

    Raises:
        WorkflowError: everything that is wrong with it, each with its place.
    """
    if is_script(path):
        return _outline_script(path, dag)
    return _outline_file(path, load_workflow(path))


def _outline_file(path: str, spec: WorkflowSpec) -> WorkflowOutline:
    tasks = tuple(
        TaskOutline(
            task.id,
            task.type,
            task.depends_on,
            task.trigger_rule,
            _first_line(text := _text(task)),
            task.timeout_s,
            task.retry.retries,
            task.implied,
            text if task.expressions is not None else "",
            task.expressions,
            _special(task.control_flow),
            task.control_flow.condition if task.control_flow is not None else None,
            order=task.order,
            mapped="" if task.fan is None else _over(task.fan),
            spec=None if task.fan is None else task,
        )
        for task in spec.tasks.values()
    )
    graph = Graph({task.id: task.depends_on for task in tasks})
    hidden = [one.secret.env or name for name, one in spec.secrets.items()]
    return WorkflowOutline(
        spec.name,
        spec.description,
        path,
        False,
        tasks,
        graph,
        spec.settings,
        spec.params,
        secrets=tuple(spec.secrets),
        hidden=tuple(hidden),
        limits=spec.limits,
    )


def examine(path: str) -> tuple[list[WorkflowOutline], list[Problem]]:
    """As `outline`, for all the workflows that a file defines (a Python script may define several), and what is valid
    in it and probably not meant.

    Raises:
        WorkflowError: as for `outline`.
    """
    if not is_script(path):
        spec, hints = load_with_hints(path)
        return [_outline_file(path, spec)], hints
    from liteflow.scripts import choose_dag, describe_dags  # with the engine, which looking at YAML does not need

    with script_errors(path):
        dags = describe_dags(path)
        if not dags:
            choose_dag(path, [], None)  # says so
    return [_outline_of(path, dag) for dag in dags], []


def _outline_script(path: str, wanted: str | None) -> WorkflowOutline:
    from liteflow.scripts import choose_dag, describe_dags

    with script_errors(path):
        dags = describe_dags(path)
        return _outline_of(path, dags[choose_dag(path, [dag["dag_id"] for dag in dags], wanted)])


def _outline_of(path: str, found: dict[str, Any]) -> WorkflowOutline:
    tasks = tuple(
        TaskOutline(
            row["id"],
            row["kind"],
            tuple(row.get("depends_on", ())),
            row.get("rule", "all_success"),
            timeout_s=row.get("timeout"),
            retries=row.get("retries", 0),
            special=_special_of(row),
            order=QueueOptions(
                row.get("priority", 0), row.get("max_parallel"), tuple(sorted(row.get("resources", {}).items()))
            ),
            mapped="each item" if row.get("mapped") else "",
        )
        for row in found["tasks"]
    )
    graph = Graph({task.id: task.depends_on for task in tasks})
    params = None
    if found["params"] is not None:
        params = {name: Param(**options) for name, options in found["params"].items()}
    told = found["limits"]
    limits = Limits(
        {name: Pool(*pool) for name, pool in told["pools"].items()},
        told["timeout"],
        RetryPolicy(*told["retry"]),
        None if told["concurrency"] is None else Concurrency(*told["concurrency"]),
    )
    settings = Settings(mode="process")
    return WorkflowOutline(
        found["dag_id"], found["description"], path, True, tasks, graph, settings, params, limits=limits
    )


def _judged(task: TaskOutline, values: Mapping[str, Any]) -> TaskOutline:
    """The task with what its condition says, if that is known before a run with these parameters."""
    from lightflow.expressions.conditions import FileCondition

    assert task.condition is not None
    try:
        known = FileCondition(task.condition).early(values)
    except InputError:
        return task  # the run says so
    return task._replace(skipped=f"if: {task.condition.text} is false") if known is False else task


def _special_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The same for a task of a script."""
    words = [str(row["decides"]).replace("_", " ")] if "decides" in row else []
    words += [name.replace("_", " ") for name in ("setup", "teardown", "continue_on_error") if name in row]
    return (*words, *row.get("hooks", ()))


def _special(control_flow: ControlFlow | None) -> tuple[str, ...]:
    """What is special in how a task stands in the flow, in few words."""
    if control_flow is None:
        return ()
    found = [
        f"if {control_flow.condition.text}" if control_flow.condition is not None else "",
        f"{len(control_flow.preconditions)} preconditions" if len(control_flow.preconditions) > 1 else "",
        "precondition" if len(control_flow.preconditions) == 1 else "",
        "branch" if control_flow.branch else "",
        "short circuit" if control_flow.short_circuit else "",
        "setup" if control_flow.setup else "",
        "teardown" if control_flow.teardown else "",
        "continue on error" if control_flow.tolerates else "",
        *control_flow.hooks,
    ]
    return tuple(one for one in found if one)


def _over(fan: MappingSpec) -> str:
    """What a task is mapped over, in words."""
    if fan.axes is not None:
        return f"each {' × '.join(fan.axes) or 'of include'}"
    return f"each of {fan.items}" if isinstance(fan.items, str) else f"each of {len(fan.items):,}"


def _text(task: TaskSpec) -> str:
    return str(task.config.get("run") or task.config.get("call") or task.description)


def _first_line(text: str) -> str:
    """The first line that says what a script does, where there is one: no comment, no option of a shell, no import."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    telling = (line for line in lines if not line.startswith(("#", "set -", "set +", "import ", "from ")))
    return next(telling, lines[0]) + (" …" if len(lines) > 1 else "")


def schema() -> dict[str, Any]:
    """The JSON Schema of workflow files, for editors."""
    return workflow_schema()


def picture(workflow: WorkflowOutline) -> Picture:
    """The workflow as a picture without states."""
    drawn = ("branch", "short circuit", "setup", "teardown")
    nodes = tuple(
        Node(
            task.id,
            _label(workflow, task),
            ", ".join([task.kind, *(one for one in task.special if one in drawn), *(["if"] if task.condition else [])]),
        )
        for task in workflow.tasks
    )
    edges = tuple(Edge(above, task.id) for task in workflow.tasks for above in task.depends_on)
    implied = [f"{task.id} reads {above}" for task in workflow.tasks for above in task.implied]
    more = f" and {len(implied) - 3} more" if len(implied) > 3 else ""
    facts = ((FROM_EXPRESSIONS, ", ".join(implied[:3]) + more),) if implied else ()
    return Picture(workflow.name, nodes, edges, workflow.description or None, facts=facts)


def _label(workflow: WorkflowOutline, task: TaskOutline) -> str:
    """What a box is called: of a mapped task with the number of its instances, as far as that is known."""
    if not task.mapped:
        return task.id
    instances = workflow.instances(task)
    return f"{task.id} ×{'n' if instances is None else f'{len(instances):,}'}"


TEMPLATE: Final = """\
# A workflow. Run it with:   lightflow run {file}
# Check it with:             lightflow validate {file}
# Draw it with:              lightflow dag {file} --output {name}.svg
workflow_name: {name}

tasks:
  hello:
    type: shell
    run: echo "Hello from {name}!"

  numbers:
    type: python
    run: |
      import json, random
      numbers = [random.randint(1, 100) for _ in range(10)]
      with open("{name}-numbers.json", "w") as file:
          json.dump(numbers, file)
      print("made", len(numbers), "numbers")
    depends_on: [hello]

  total:
    type: python
    run: |
      import json
      with open("{name}-numbers.json") as file:
          print("they add up to", sum(json.load(file)))
    depends_on: [numbers]

  report:
    type: shell
    run: |             # a script: it stops at the first line that fails
      echo "The numbers:"
      cat {name}-numbers.json
    depends_on: [numbers]
    timeout: 30        # seconds; also 5m, 1h

  done:
    run: echo "All done."
    depends_on: [total, report]

settings:
  max_parallel_tasks: 4
  retries: 1           # extra attempts for a task that fails
  log_dir: logs/
"""


def write_template(name: str, folder: str = ".") -> str:
    """Write `NAME.yaml` into a folder and return its path. An existing file is never overwritten.

    Raises:
        WorkflowError: the name is not one, or the file cannot be made.
    """
    stem = name.removesuffix(".yaml").removesuffix(".yml")
    if not _TEMPLATE_NAME.match(stem):
        raise WorkflowError([Problem(name, 0, 0, "", "is no name for a workflow: letters, digits, '_', '.' and '-'")])
    path = os.path.join(folder, f"{stem}.yaml")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(TEMPLATE.format(name=stem, file=f"{stem}.yaml"))
    except FileExistsError:
        raise WorkflowError([Problem(path, 0, 0, "", "exists already; choose another name")]) from None
    except OSError as error:
        raise WorkflowError([Problem(path, 0, 0, "", f"cannot be written: {error.strerror}")]) from None
    return path
