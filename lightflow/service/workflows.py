"""Describe workflow files without running them. User code is only executed for Python scripts, in another process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lightflow.engine.choices import SelectionOptions
from lightflow.engine.included_params import with_included_params
from lightflow.errors import Problem, WorkflowError
from lightflow.parser.files import split_reference
from lightflow.parser.schema import workflow_schema
from lightflow.parser.workflow_loader import load_with_hints, load_workflow
from lightflow.plugins.base import TaskType
from lightflow.plugins.registry import Registry
from lightflow.service.python_files import is_script, script_errors
from lightflow.spec.model import (
    CHILD_WORKFLOW,
    GROUP,
    ConditionSpec,
    ControlFlowSpec,
    Expressions,
    Limits,
    MappingSpec,
    Settings,
    TaskSpec,
    WorkflowSpec,
)
from liteflow import Concurrency, InputError, Param, Pool, RetryPolicy
from liteflow.api import (
    DEFAULT_QUEUE,
    EMPTY_MAPPING,
    Graph,
    Grouping,
    Picture,
    PictureEdge,
    PictureNode,
    QueueOptions,
    Record,
    decode_value,
    group_nodes,
    replace,
    trigger_from_spec,
    with_boxes,
)
from liteflow.values.secrets import Secrets

#: The heading of the edges that only expressions make.
FROM_EXPRESSIONS: Final = "From expressions"
_DRAWN: Final = ("branch", "short circuit", "setup", "teardown")


class TaskOutline(Record):
    """The description of a task before a run."""

    id: str
    kind: str  #: the task type
    depends_on: tuple[str, ...]
    rule: str = "all_success"  #: the trigger rule
    summary: str = ""  #: the first line of its script, or its function
    timeout_s: float | None = None
    retries: int = 0
    implied: tuple[str, ...] = ()  #: the part of `depends_on` that only expressions name
    template: str = ""  #: its script or function, if that has expressions
    expressions: Expressions | None = None
    special: tuple[str, ...] = ()  #: its control flow, in few words
    condition: ConditionSpec | None = None  #: its `if`
    skipped: str = ""  #: why it will be skipped, if that is known before a run
    order: QueueOptions = DEFAULT_QUEUE
    mapped: str = ""  #: what it is mapped over, in words
    spec: TaskSpec | None = None  #: of a mapped task of a workflow file
    group: str = ""  #: the innermost group that it is in
    gate: str = ""  #: "group" or "entry": it stands for a group, and not for a task


class InstanceOutline(NamedTuple):
    """An instance of a mapped task that is known before a run."""

    label: str | None
    summary: str


class WorkflowOutline(Record):
    """The description of a workflow before a run."""

    name: str
    description: str
    path: str
    is_script: bool
    nodes: tuple[TaskOutline, ...]  #: the tasks, and what stands for groups
    graph: Graph  #: of the nodes
    settings: Settings
    params: Mapping[str, Param] | None = None  #: None: it declares no parameters, and accepts any
    values: Mapping[str, Any] = EMPTY_MAPPING  #: the parameters of a run
    secrets: tuple[str, ...] = ()  #: the names
    hidden: tuple[str, ...] = ()  #: environment variables that contain secrets
    limits: Limits = Limits()
    spec: WorkflowSpec | None = None  #: of a workflow file

    @property
    def tasks(self) -> tuple[TaskOutline, ...]:
        """The tasks."""
        return tuple(task for task in self.nodes if not task.gate)

    def for_run(self, values: Mapping[str, Any], day: float | None = None) -> WorkflowOutline:
        """Return the outline for a run with these parameters, on the day that `today` and `yesterday` start from.

        Raises:
            WorkflowError: the list of a mapped task, or a parameter of an included file, cannot be computed.
        """
        if self.spec is not None and self.spec.includes:
            return _file_outline(self.path, with_included_params(self.spec, values, day))._with_values(values)
        return self._with_values(values)

    def _with_values(self, values: Mapping[str, Any]) -> WorkflowOutline:
        problems: list[Problem] = []
        for task in self.nodes:
            if task.spec is not None:
                from lightflow.expressions.fan_out import expansion_of

                expansion_of(task.spec, values, problems)
        if problems:
            raise WorkflowError(problems)
        tasks = [replace(task, summary=self._preview(task, values)) if task.template else task for task in self.nodes]
        tasks = [_with_decision(task, values) if task.condition is not None else task for task in tasks]
        return replace(self, values=values, nodes=tuple(tasks))

    def _preview(
        self, task: TaskOutline, values: Mapping[str, Any], extra_values: Mapping[str, Any] | None = None
    ) -> str:
        """Return the summary of a task with the values that are known before a run."""
        from lightflow.expressions.evaluate import preview

        assert task.expressions is not None
        return _summary(preview(task.template, values, task.expressions, self.hidden, extra_values))

    def instances(self, task: TaskOutline) -> list[InstanceOutline] | None:
        """Return the instances of a mapped task; None if they are not known before it starts, or it is not mapped."""
        if task.spec is None or task.spec.mapping is None:
            return None
        from lightflow.expressions.fan_out import ITEM, StaticExpansion, expansion_of

        params = (self.params or {}).items()
        values = self.values or {name: param.value(param.default) for name, param in params if not param.required}
        expansion = expansion_of(task.spec, values, [])
        if not isinstance(expansion, StaticExpansion):
            return None
        outlines = []
        for index, row in enumerate(expansion.listed):
            item = {task.spec.mapping.name: decode_value(row.items[ITEM]), "task": {"id": task.id, "index": index}}
            summary = self._preview(task, values, item) if task.template else task.summary
            outlines.append(InstanceOutline(row.label, summary))
        return outlines

    def levels(self) -> list[list[TaskOutline]]:
        """Return the tasks in steps: the tasks of a step can run in parallel."""
        levels = [[self.nodes[node] for node in level] for level in self.graph.levels()]
        return [tasks for level in levels if (tasks := [task for task in level if not task.gate])]


def outline(path: str, dag: str | None = None) -> WorkflowOutline:
    """Check a workflow file, or a Python script in another process, and describe it.

    `dag` is the workflow of a script that defines several.

    Raises:
        WorkflowError: with all mistakes, each with its place.
    """
    if not is_script(path):
        return _file_outline(path, load_workflow(path))
    from liteflow.scripts import choose_dag, describe_dags

    path, name = split_reference(path)
    with script_errors(path):
        dags = describe_dags(path)
        index = choose_dag(path, [each["dag_id"] for each in dags], dag or name or None)
        return _checked(_script_outline(path, dags[index]))


def outline_all(path: str) -> tuple[list[WorkflowOutline], list[Problem]]:
    """Check and describe all workflows of a file; a Python script may define several.

    Returns:
        The outlines, and warnings about valid text that is probably a mistake.

    Raises:
        WorkflowError: with all mistakes, each with its place.
    """
    if not is_script(path):
        specs, hints = load_with_hints(path)
        return [_file_outline(path, spec) for spec in specs], hints
    from liteflow.scripts import choose_dag, describe_dags

    path, name = split_reference(path)
    with script_errors(path):
        dags = describe_dags(path)
        if not dags or name:
            names = [each["dag_id"] for each in dags]
            dags = [dags[choose_dag(path, names, name or None)]]  # raises the error for a script without dags
    return [_checked(_script_outline(path, dag)) for dag in dags], []


def _checked(outline: WorkflowOutline) -> WorkflowOutline:
    """Return the outline of a Python script whose triggers are valid. Raises WorkflowError."""
    triggers, problems = outline.limits.triggers, list[Problem]()
    if triggers:
        from lightflow.parser.subjects.triggers import TriggerContext, described_mistakes

        context = TriggerContext(
            params=outline.params, secrets=outline.secrets, has_concurrency=outline.limits.concurrency is not None
        )
        problems = [
            Problem(outline.path, 0, 0, outline.name, message) for message in described_mistakes(triggers, context)
        ]
    if problems:
        raise WorkflowError(problems)
    return outline


def with_selection(outline: WorkflowOutline, selection: SelectionOptions) -> WorkflowOutline:
    """Return the outline of a run of selected tasks: the others are skipped.

    Raises:
        DefinitionError: there is no such task.
    """
    from liteflow.planning.control_flow import ControlFlow
    from liteflow.planning.selection import NOT_SELECTED, Selection, select
    from liteflow.planning.setup_teardown import Teardown
    from liteflow.planning.targets import find_targets, groups_of

    graph = outline.graph
    setups = frozenset(graph.index[task.id] for task in outline.nodes if "setup" in task.special)
    teardowns = {
        graph.index[task.id]: Teardown(
            tuple(above for above in graph.upstream[graph.index[task.id]] if above in setups)
        )
        for task in outline.nodes
        if "teardown" in task.special
    }
    groups = groups_of([{"id": task.id, "gate": task.gate, "group": task.group} for task in outline.nodes])
    wanted = Selection(only=selection.only, start=selection.start, until=selection.until, skip=selection.skip)
    selected = select(
        wanted,
        graph,
        ControlFlow(setups=setups, teardowns=teardowns),
        lambda names: find_targets(names, graph.index, lambda task_id: {}, f"workflow {outline.name!r}", groups).keys(),
    )
    return replace(
        outline,
        nodes=tuple(
            task if graph.index[task.id] in selected else replace(task, skipped=NOT_SELECTED) for task in outline.nodes
        ),
    )


# -- workflow files ----------------------------------------------------------------------------------------------------


def _file_outline(path: str, spec: WorkflowSpec) -> WorkflowOutline:
    nodes = _file_nodes(_with_default_params(spec))
    return WorkflowOutline(
        name=spec.name,
        description=spec.description,
        path=path,
        is_script=False,
        nodes=nodes,
        graph=Graph({node.id: node.depends_on for node in nodes}),
        settings=spec.settings,
        params=spec.params,
        secrets=tuple(spec.secrets),
        hidden=tuple(declared.secret.env or name for name, declared in spec.secrets.items()),
        limits=spec.limits,
        spec=spec,
    )


def _with_default_params(spec: WorkflowSpec) -> WorkflowSpec:
    """Return the specification with parameters of included files, as far as defaults decide them."""
    if not spec.includes or any(task.params is not None for task in spec.tasks.values()):
        return spec
    try:
        return with_included_params(spec, {n: p.value(p.default) for n, p in spec.params.items() if not p.required})
    except WorkflowError:
        return spec  # they need those of a run


def _file_nodes(spec: WorkflowSpec) -> tuple[TaskOutline, ...]:
    """Return the tasks of a file, and what stands for its groups, with the edges between them."""
    registry = Registry()
    outlines = {task.id: _file_task(task, registry) for task in spec.tasks.values()}
    groups = [task.id for task in spec.tasks.values() if task.type == GROUP]
    if not groups:
        return tuple(outlines.values())
    nodes = group_nodes(
        Grouping(
            dependencies={task.id: task.depends_on for task in spec.tasks.values()},
            groups=groups,
            parents={task.id: task.group for task in spec.tasks.values() if task.group},
            conditional={name for name in groups if spec.tasks[name].is_conditional_group},
            deciders={task.id for task in spec.tasks.values() if task.decides},
        )
    )
    order = {name: number for number, name in enumerate(nodes.dependencies)}
    owners = {entry: group for group, entry in nodes.entries.items()}
    return tuple(
        replace(
            TaskOutline(id=name, kind="entry", depends_on=(), group=owners[name], gate="entry")
            if name in owners
            else outlines[name],
            depends_on=tuple(sorted(upstream, key=order.__getitem__)),
        )
        for name, upstream in nodes.dependencies.items()
    )


def _file_task(task: TaskSpec, registry: Registry) -> TaskOutline:
    task_type = registry.built_in(task.type) or TaskType()  # the code of plugins is not run
    text = task_type.summary(task.config) or task.description
    return TaskOutline(
        id=task.id,
        kind=task.type,
        depends_on=task.depends_on,
        rule=task.trigger_rule,
        summary=_summary(text),
        timeout_s=task.timeout_s,
        retries=task.retry.retries,
        implied=task.implied,
        template=text if task.expressions is not None else "",
        expressions=task.expressions,
        special=_special(task.control_flow),
        condition=task.control_flow.condition if task.control_flow is not None else None,
        order=task.queue,
        mapped="" if task.mapping is None else _mapped_over(task.mapping),
        spec=None if task.mapping is None else task,
        group=task.group,
        gate="group" if task.type == GROUP else "",
    )


def _special(control_flow: ControlFlowSpec | None) -> tuple[str, ...]:
    """Return the control flow of a task, in few words."""
    if control_flow is None:
        return ()
    words = [
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
    return tuple(word for word in words if word)


def _mapped_over(fan: MappingSpec) -> str:
    """Return what a task is mapped over, in words."""
    if fan.axes is not None:
        return f"each {' × '.join(fan.axes) or 'of include'}"
    return f"each of {fan.items}" if isinstance(fan.items, str) else f"each of {len(fan.items):,}"


def _summary(text: str) -> str:
    """Return the first line of a script that is not a comment, an option of the shell or an import."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    telling = (line for line in lines if not line.startswith(("#", "set -", "set +", "import ", "from ")))
    return next(telling, lines[0]) + (" …" if len(lines) > 1 else "")


def _with_decision(task: TaskOutline, values: Mapping[str, Any]) -> TaskOutline:
    """Return the task with the result of its condition, if that is known before a run with these parameters."""
    from lightflow.expressions.conditions import FileCondition

    assert task.condition is not None
    try:
        result = FileCondition(task.condition).early(values)
    except InputError:
        return task  # the run reports it
    return replace(task, skipped=f"if: {task.condition.text} is false") if result is False else task


# -- Python scripts ----------------------------------------------------------------------------------------------------


def _script_outline(path: str, dag: dict[str, Any]) -> WorkflowOutline:
    """Return the outline of a dag that another process has described (see `liteflow.scripts`)."""
    tasks = tuple(map(_script_task, dag["tasks"]))
    limits = dag["limits"]
    params = dag["params"]
    return WorkflowOutline(
        name=dag["dag_id"],
        description=dag["description"],
        path=path,
        is_script=True,
        nodes=tasks,
        graph=Graph({task.id: task.depends_on for task in tasks}),
        settings=Settings(mode="process"),
        params=None if params is None else {name: Param(**options) for name, options in params.items()},
        secrets=tuple(dag["secrets"]),
        limits=Limits(
            pools={name: Pool(**pool) for name, pool in limits["pools"].items()},
            timeout_s=limits["timeout"],
            retry=RetryPolicy(**limits["retry"]),
            concurrency=None if limits["concurrency"] is None else Concurrency(**limits["concurrency"]),
            triggers=tuple(trigger_from_spec(kind, spec) for kind, spec in limits["triggers"]),
        ),
    )


def _script_task(row: Mapping[str, Any]) -> TaskOutline:
    special = [str(row["decides"]).replace("_", " ")] if "decides" in row else []
    special += [name.replace("_", " ") for name in ("setup", "teardown", "continue_on_error") if name in row]
    slots = tuple(sorted(row.get("resources", {}).items()))
    return TaskOutline(
        id=row["id"],
        kind=row["kind"],
        depends_on=tuple(row.get("depends_on", ())),
        rule=row.get("rule", "all_success"),
        timeout_s=row.get("timeout"),
        retries=row.get("retries", 0),
        special=(*special, *row.get("hooks", ())),
        order=QueueOptions(row.get("priority", 0), row.get("max_parallel"), slots),
        mapped="each item" if row.get("mapped") else "",
        group=row.get("group", ""),
        gate=row.get("gate", ""),
    )


# -- schema and pictures -----------------------------------------------------------------------------------------------


def declared_secret(path: str, name: str) -> str:
    """Return the value of a secret that a workflow file declares. Raises WorkflowError, as `declared_secrets`."""
    secrets = declared_secrets(path)
    return secrets[name] if secrets is not None else ""


def declared_secrets(path: str) -> Secrets | None:
    """Return the secrets that a workflow file declares, as a run of the file would get them; None: it has none.

    Raises:
        WorkflowError: the file or one of its secrets cannot be read.
    """
    from lightflow.engine.external_inputs import load_external_inputs
    from lightflow.parser.workflow_loader import load_workflow

    return load_external_inputs(load_workflow(path)).secrets


def schema() -> dict[str, Any]:
    """Return the JSON Schema of workflow files, for editors."""
    return workflow_schema()


def _kind(task: TaskOutline) -> str:
    """Return the kind of a task in a picture; a task that executes another workflow names it."""
    return task.summary if task.kind == CHILD_WORKFLOW else task.kind


def picture(workflow: WorkflowOutline) -> Picture:
    """Return the workflow as a picture without statuses."""
    nodes = tuple(
        PictureNode(
            task_id=task.id,
            label=_label(workflow, task),
            kind=", ".join(
                [_kind(task), *(word for word in task.special if word in _DRAWN), *(["if"] if task.condition else [])]
            ),
        )
        for task in workflow.nodes
    )
    edges = tuple(PictureEdge(above, task.id) for task in workflow.nodes for above in task.depends_on)
    implied = [f"{task.id} reads {above}" for task in workflow.tasks for above in task.implied]
    rest = f" and {len(implied) - 3} more" if len(implied) > 3 else ""
    facts = ((FROM_EXPRESSIONS, ", ".join(implied[:3]) + rest),) if implied else ()
    picture = Picture(title=workflow.name, nodes=nodes, edges=edges, subtitle=workflow.description or None, facts=facts)
    return with_boxes(picture, [{"id": task.id, "group": task.group, "gate": task.gate} for task in workflow.nodes])


def _label(workflow: WorkflowOutline, task: TaskOutline) -> str:
    """Return the label of a task: its id, and the number of its instances if it is mapped."""
    if not task.mapped:
        return task.id
    instances = workflow.instances(task)
    return f"{task.id} ×{'n' if instances is None else f'{len(instances):,}'}"
