"""Tasks: their ids, types, dependencies, folders and times, and the record that is built from all their keys."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.schema_pieces import (
    FREE,
    ID_PATTERN,
    ID_WORDS,
    Schema,
    duration,
    ids,
    is_expression,
    or_expression,
)
from lightflow.parser.subjects import control_flow, environment, fan_out, groups, limits, repeats, retries
from lightflow.parser.subjects.retries import build_retry, check_duration
from lightflow.parser.subjects.settings import MODE
from lightflow.parser.tree import REPEAT_CONDITIONS, TaskNode, Tree, list_or_empty, mapping_or_empty, preconditions
from lightflow.plugins.expression_kinds import rule_at, texts_in
from lightflow.plugins.registry import Registry
from lightflow.spec.durations import seconds
from lightflow.spec.model import GROUP, ConditionSpec, ControlFlowSpec, Expressions, MappingSpec, TaskSpec, digest_of
from lightflow.text import did_you_mean, quoted
from liteflow import CycleError
from liteflow.api import DEFAULT_QUEUE, Graph, replace

DEFAULT_TYPE: Final = "shell"


def cwd(description: str) -> Schema:
    """Return the schema of a working directory."""
    return {
        "description": f"{description} A relative path starts from the folder in which the run is started; "
        "`${{ workflow.dir }}` is the folder of the file.",
        "type": "string",
        "minLength": 1,
        "examples": ["/srv/data", "reports", "${{ workflow.dir }}"],
        "x-aliases": ["working_dir", "working-directory", "dir"],
    }


#: The keys of tasks of every type.
COMMON: Final[dict[str, Schema]] = {
    "type": {
        "description": "The kind of task: `shell`, `python`, or a type from a plugin.",
        "type": "string",
        "default": DEFAULT_TYPE,
        "examples": ["shell", "python"],
        "x-default": DEFAULT_TYPE,
    },
    "description": {
        "description": "The purpose of the task.",
        "type": "string",
        "examples": ["Fetch the day's orders"],
    },
    "depends_on": ids(
        "The upstream tasks: a list of ids, or a single id.",
        default=[],
        examples=[["fetch", "clean"], "fetch"],
        item="the id of a task (text; put a number in quotes)",
        **{"x-expects": "a list of task ids, or one task id", "x-aliases": ["needs", "depends", "deps"]},
    ),
    "cwd": cwd("The working directory. It replaces the workflow's `cwd`."),
    "env": environment.env("Environment variables; they override those of the workflow."),
    "dotenv": environment.dotenv(
        "Files with environment variables; they override those of the workflow, and `env` overrides them."
    ),
    "secrets": environment.TASK_SECRETS,
    "timeout": or_expression(
        duration(
            "The longest duration of one attempt.",
            zero=False,
            examples=[30, "5m"],
            **{"x-aliases": ["timeout_seconds"]},
        )
    ),
    "kill_grace": duration(
        "The time between SIGTERM and SIGKILL when a task is stopped.", zero=True, default=10, examples=["30s"]
    ),
    **retries.TASK_KEYS,
    **repeats.TASK_KEYS,
    "trigger_rule": control_flow.TRIGGER_RULE,
    "mode": MODE,
    **control_flow.TASK_KEYS,
    **control_flow.hook_keys(of_run=False),
    **fan_out.TASK_KEYS,
    **limits.TASK_KEYS,
}

#: The key that a task in a list has in addition.
ITEM_ID: Final[Schema] = {
    "description": "The id of the task.",
    "type": "string",
    "pattern": ID_PATTERN,
    "examples": ["fetch"],
    "x-expects": f"an id of {ID_WORDS}",
    "x-aliases": ["name"],
}

TASKS: Final[Schema] = {
    "description": "The tasks by id: a mapping, or a list whose items have an `id`.",
    "type": ["object", "array"],
    "minProperties": 1,
    "minItems": 1,
    "propertyNames": {"pattern": ID_PATTERN},
    "patternProperties": FREE,
    "additionalProperties": {"$ref": "#/$defs/task"},
    "items": {"type": "object", "required": ["id"]},
    "examples": [{"hello": {"run": "echo hello"}}],
    "x-expects": "a mapping of task ids to tasks, or a list of tasks with an `id`",
    "x-aliases": ["steps"],
}

_LINE_BREAKS: Final = frozenset("\r\n\0")
_EXPRESSIONS: Final = r"(?s)\$\{\{.*?\}\}"
_TIMES: Final = frozenset(["timeout", "kill_grace", "retry_delay", "max_retry_delay"])
#: Letters that have no decomposition, or whose usual spelling is another.
_TRANSLITERATIONS: Final = dict(zip("äöüßøæåłđ", ("ae", "oe", "ue", "ss", "o", "ae", "a", "l", "d"), strict=True))


# -- checks -------------------------------------------------------------------------------------------------------


def check_ids(tree: Tree) -> Iterator[Problem]:
    """Report ids that are not allowed, or differ only in case."""
    folded: dict[str, str] = {}
    for task_id in tree.task_ids:
        if not re.fullmatch(ID_PATTERN, task_id):
            offer = id_like(task_id, tree.task_ids)
            hint = f"; for example {offer}" if offer else ""
            message = f"{quoted(task_id)} cannot be a task id: use {ID_WORDS}{hint}"
            yield tree.problem(["tasks", task_id], message, key=True)
            continue
        other = folded.setdefault(task_id.casefold(), task_id)
        if other is not task_id:
            line = tree.locate(["tasks", other], key=True).line + 1
            message = f'"{task_id}" and "{other}" (line {line}) differ only in case, and so would their log files'
            yield tree.problem(["tasks", task_id], message, key=True)


def id_like(text: str, task_ids: Container[str]) -> str:
    """Return an id that resembles the text and is not in use; empty where there is none."""
    import unicodedata

    for letter, letters in _TRANSLITERATIONS.items():
        text = text.replace(letter, letters).replace(letter.upper(), letters.capitalize())
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    offer = re.sub(r"[^A-Za-z0-9_.-]+", "_", plain.lower() if " " in text else plain).strip("_.-")[:128]
    if not re.fullmatch(ID_PATTERN, offer):
        return ""
    number = 2
    while offer in task_ids:
        offer, number = f"{offer.rstrip('0123456789').rstrip('_')[:120]}_{number}", number + 1
    return offer


def check_types(tree: Tree, registry: Registry) -> Iterator[Problem]:
    """Report task types that do not exist."""
    described = {GROUP, *(info.name for info in registry.described())}
    for node in tree.task_nodes:
        name = tree.unknown_types.get(id(node.keys), node.keys["type"])
        if not isinstance(name, str) or name in described or registry.find(name) is not None:
            continue
        from lightflow.other_tools import key_answer, type_answer  # only for files with errors
        from lightflow.spelling import typo_hint

        answer = type_answer(name)
        hint = f"; {answer}" if answer else typo_hint(name, registry.names())
        hint = hint or "; a type of your own needs its file in `plugins:`"
        yield tree.problem([*node.path, "type"], f"no task type {quoted(name)}{hint}")
        if id(node.keys) in tree.unknown_types:
            continue  # the schema of the assumed type applies
        for key in node.keys:
            if key not in COMMON and (answer := key_answer(key, node.path, node.keys[key])):
                yield tree.problem([*node.path, key], f"unknown key {quoted(key)}; {answer}", key=True)


def check_times(tree: Tree) -> Iterator[Problem]:
    """Report durations out of range."""
    for node in tree.task_nodes:
        for key in _TIMES & node.keys.keys():
            yield from check_duration(tree, [*node.path, key], node.keys[key], zero=key != "timeout")


def check_dependencies(
    tree: Tree, expressions: Mapping[str, Expressions], conditions: Mapping[str, ConditionSpec]
) -> Iterator[Problem]:
    """Report upstream tasks that do not exist, and cycles."""
    upstreams: dict[str, list[str]] = {task_id: [] for task_id in tree.task_ids}
    upstreams |= {task_id: list(task.depends_on) for task_id, task in tree.grafted.items()}
    is_complete = True
    for task_id, task in tree.tasks.items():
        upstreams[task_id] += implied_upstreams(task_id, task, expressions, conditions)
        for key in ("depends_on", "teardown_of"):
            for index, other in enumerate(list_or_empty(task.get(key))):
                if not isinstance(other, str):
                    continue
                if other not in upstreams and tree.may_be_included(other, tree.groups_around(task_id)):
                    is_complete = False
                    continue
                message = _dependency_problem(task_id, other, key, upstreams)
                if key == "teardown_of" and not message and other in tree.grafted:
                    message = f"{quoted(other)} is in an included file: tear it down there"
                if message:
                    is_complete = False
                    yield tree.problem(["tasks", task_id, key, index], message)
                else:
                    upstreams[task_id].append(other)
    edges, entries = groups.edges(tree, upstreams)
    try:
        Graph(edges)
    except CycleError as error:
        first = entries.get(error.path[0], error.path[0])
        yield tree.problem(["tasks", first, "depends_on"], str(error))
    except ValueError as error:
        if is_complete:
            yield tree.problem(["tasks"], str(error))


def _dependency_problem(task_id: str, other: str, key: str, tasks: Mapping[str, object]) -> str:
    if other == task_id:
        return "the task depends on itself" if key == "depends_on" else "the task tears itself down"
    if other in tasks:
        return ""
    several = [part for part in re.split(r"[\s,;&|+]+|\band\b", other) if part]
    if other.startswith("x-"):
        hint = "; keys that begin with x- are not tasks"
    elif len(several) > 1 and any(part in tasks for part in several):
        hint = f"; several tasks are a list: [{', '.join(several)}]"
    else:
        hint = next((f', did you mean "{name}"?' for name in tasks if name.endswith(f".{other}")), "")
        hint = hint or did_you_mean(other, tasks)
    return f"no task {quoted(other)}{hint}"


def implied_upstreams(
    task_id: str,
    task: Mapping[str, Any],
    expressions: Mapping[str, Expressions],
    conditions: Mapping[str, ConditionSpec],
) -> list[str]:
    """Return the upstream tasks that the expressions and conditions of a task name."""
    if not expressions and not conditions:
        return []
    names = [task_id, *(f"{task_id}.precondition_{index + 1}" for index, _ in preconditions(task))]
    names += [f"{task_id}.{name}" for name in REPEAT_CONDITIONS]
    upstreams: list[str] = []
    for name in names:
        for readers in (conditions, expressions) if name != task_id else (expressions, conditions):
            if name in readers:
                upstreams += readers[name].upstreams
    return [upstream for upstream in dict.fromkeys(upstreams) if upstream != task_id]


def check_own_keys(tree: Tree, registry: Registry) -> Iterator[Problem]:
    """Report what the built-in types find in the keys of their tasks, such as Python code that does not compile."""
    types = {info.name: registry.built_in(info.name) for info in registry.described()}
    for node in tree.task_nodes:
        name = tree.unknown_types.get(id(node.keys), node.keys["type"])
        task_type = types.get(name) if isinstance(name, str) else None
        if node.is_hook and task_type is not None and task_type.waits():
            yield tree.problem([*node.path, "type"], f"type {name} waits, which a hook cannot: make it a task")
        for error in task_type.check(node.keys) if task_type else ():
            keys: Any = node.keys
            path = list(node.path)
            *outer_keys, key = error.key.split(".")
            for outer in outer_keys:
                keys = keys[outer]
                path.append(outer)
            path.append(int(key) if isinstance(keys, list) else key)
            problem = tree.problem(path, error.message)
            if error.line and tree.is_literal_block(keys, key):
                line = tree.locate(path).line + 1 + error.line
                column = _column(tree, line, keys[key], error.line, error.column)
                problem = replace(problem, line=line, column=column)
            elif error.line > 1:
                problem = replace(problem, message=f"{error.message} (line {error.line} of the code)")
            yield problem


def check_texts(tree: Tree, registry: Registry) -> Iterator[Problem]:
    """Report secrets of task types in clear text, such as a token in `auth`, and line breaks in headers."""
    annotations = ("x-secret", "'header'")
    schemas = {
        info.name: info.schema
        for info in registry.described()
        if any(annotation in repr(info.schema) for annotation in annotations)
    }
    for node in tree.task_nodes:
        schema = schemas.get(node.keys["type"]) if isinstance(node.keys["type"], str) else None
        own_keys = {key: value for key, value in node.keys.items() if key not in COMMON}
        for path, text in texts_in([], own_keys) if schema is not None else ():
            rule = rule_at(schema, path)
            if rule.is_secret and not is_expression(text):
                message = "a secret in clear text; declare it under `secrets`, and write ${{ secrets.NAME }} here"
                yield tree.problem([*node.path, *path], message)
            if rule.kind == "header" and not _LINE_BREAKS.isdisjoint(re.sub(_EXPRESSIONS, "", text)):
                message = "a header is one line, and the text has a line break; a block that begins with >- has none"
                yield tree.problem([*node.path, *path], message)


def _column(tree: Tree, line: int, code: str, code_line: int, column: int) -> int:
    """Return the column in the file of a column of the code: the code does not have the indentation of its block."""
    lines, code_lines = tree.source.text.splitlines(), code.splitlines()
    if line > len(lines) or code_line > len(code_lines):
        return 1
    return max(lines[line - 1].find(code_lines[code_line - 1]), 0) + max(column, 1)


# -- building -----------------------------------------------------------------------------------------------------


class TaskBuilder:
    """Builds the records of the tasks and hooks of one file."""

    def __init__(
        self,
        tree: Tree,
        expressions: Mapping[str, Expressions],
        conditions: Mapping[str, ConditionSpec],
        *,
        registry: Registry,
        path: str,
        default_retries: int,
    ) -> None:
        self._tree = tree
        self._registry = registry
        self._expressions = expressions
        self._conditions = conditions
        self._path = path
        self._default_retries = default_retries
        self.env: dict[str, str] = tree.root.get("env", {})
        self.env_files = environment.build_env_files(tree, ["dotenv"], tree.root)
        self._setups = {setup for task in tree.tasks.values() for setup in task.get("teardown_of", ())}

    def build(self, node: TaskNode) -> TaskSpec:
        """Return the record of a task or hook that has been checked."""
        task, tree = node.keys, self._tree
        flow_spec = None if node.is_hook else self._control_flow(node)
        config = self._config(task, is_branch=flow_spec is not None and flow_spec.branch)
        env, own_env = self._env(node)
        depends_on, implied = self._upstreams(node)
        work: dict[str, Any] = {  # what the digest covers
            "type": task["type"],
            "config": config,
            "depends_on": depends_on,
            "cwd": task.get("cwd", node.cwd),
            "env": env,
            "dotenv": environment.build_env_files(tree, [*node.path, "dotenv"], task),
            "mapping": None if node.is_hook else fan_out.build_mapping(task),
            "control_flow": flow_spec,
        }
        timeout, timeout_s, retries = task.get("timeout"), None, 0 if node.is_hook else self._default_retries
        task_type = self._registry.built_in(task["type"])
        if task_type is not None:
            timeout_s = task_type.hook_timeout_s if node.is_hook else task_type.timeout_s
            retries = task_type.hook_retries if node.is_hook else retries
        return TaskSpec(
            id=node.id,
            **work,
            digest=self._digest(work, task.get("secrets", ())),
            timeout_s=timeout_s if timeout is None or is_expression(timeout) else seconds(timeout),
            grace_s=seconds(task.get("kill_grace", 10)),
            retry=build_retry(task, retries),
            trigger_rule=control_flow.build_trigger_rule(task, flow_spec),
            mode=task.get("mode"),
            description=task.get("description", ""),
            file=self._path,
            line=tree.locate(node.path, key=True).line + 1,
            lines={key: self._first_line(node, key) for key in config},
            expressions=self._expressions.get(node.id),
            implied=implied,
            repeat=None if node.is_hook else repeats.build_repeat(node.id, task, self._conditions),
            own_env=own_env,
            group=tree.parents.get(node.id, ""),
            secrets=tuple(dict.fromkeys(task.get("secrets", ()))),
            queue=DEFAULT_QUEUE if limits.TASK_KEYS.keys().isdisjoint(task) else limits.build_queue_options(task),
        )

    def _control_flow(self, node: TaskNode) -> ControlFlowSpec | None:
        workflow_cwd = self._tree.root.get("cwd")
        flow_spec = control_flow.build_control_flow(node.id, node.keys, self._conditions, workflow_cwd, self.build)
        if node.id not in self._setups:
            return flow_spec
        return replace(flow_spec or ControlFlowSpec(), setup=True)

    def _config(self, task: Mapping[str, Any], *, is_branch: bool) -> dict[str, Any]:
        """Return the keys of the task's own type."""
        if task["type"] == GROUP:
            return {}
        config = {key: value for key, value in task.items() if key not in COMMON}
        task_type = self._registry.built_in(task["type"])
        if task_type is None:
            return config
        engine = mapping_or_empty(self._tree.root.get("settings")).get("container_engine")
        return task_type.completed(
            config, workflow_shell=self._tree.shell, is_branch=is_branch, container_engine=engine
        )

    def _env(self, node: TaskNode) -> tuple[dict[str, str], dict[str, str]]:
        """Return the variables of a task with those of the workflow, and without them."""
        outer: Mapping[str, str] = node.outer_env
        expressions = self._expressions.get(node.id)
        env: dict[str, str] = node.keys.get("env", {})
        own_env = {**outer, **env}
        if node.runs_before_mapping and expressions is not None:  # without variables that name an item
            outer = {name: text for name, text in outer.items() if name in expressions.enclosing_env}
        return ({**self.env, **outer, **env} if outer or env else self.env), own_env

    def _upstreams(self, node: TaskNode) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return all upstream tasks, and those of them that only expressions name."""
        named = dict.fromkeys([*node.keys.get("depends_on", ()), *node.keys.get("teardown_of", ())])
        if node.is_hook:
            return tuple(named), ()
        upstreams = implied_upstreams(node.id, node.keys, self._expressions, self._conditions)
        implied = tuple(upstream for upstream in upstreams if upstream not in named)
        return (*named, *implied), implied

    def _first_line(self, node: TaskNode, key: str) -> int:
        """Return the line of the file on which the text of a key begins."""
        line = self._tree.locate_value(node.keys, key, node.path).line
        return line + (2 if self._tree.is_literal_block(node.keys, key) else 1)

    def _digest(self, work: Mapping[str, Any], secrets: Sequence[str]) -> str:
        """Return the digest of what the task does: a comment, a timeout or a retry does not change it."""
        definition = {key: work[key] for key in ("type", "config", "cwd", "env")}
        definition["depends_on"] = sorted(work["depends_on"])
        if self.env_files or work["dotenv"]:
            definition["dotenv"] = [file.written for file in (*self.env_files, *work["dotenv"])]
        if secrets:
            definition["secrets"] = sorted(secrets)
        mapping: MappingSpec | None = work["mapping"]
        if mapping is not None:
            definition["over"] = [mapping.name, mapping.items, mapping.axes, mapping.include, mapping.exclude]
        flow_spec: ControlFlowSpec | None = work["control_flow"]
        if flow_spec is not None and (flow_spec.branch or flow_spec.short_circuit):
            definition["decides"] = [flow_spec.branch, flow_spec.short_circuit, flow_spec.direct]
        return digest_of(definition)
