"""A workflow file that has been checked: typed records, independent of the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from lightflow.errors import Location
from liteflow import Param, Secret
from liteflow import RetryPolicy as RetrySpec
from liteflow.api import (
    DEFAULT_QUEUE,
    DEFAULT_WORKERS,
    EMPTY_MAPPING,
    NO_RETRY,
    QueueOptions,
    Record,
    Ref,
    TriggerRule,
    sha256_hex,
)
from liteflow.api import DagLimits as Limits

__all__ = [
    "CHILD_WORKFLOW",
    "GROUP",
    "Ancestor",
    "BoundValue",
    "ConditionSpec",
    "ControlFlowSpec",
    "EnvFile",
    "Expression",
    "ExpressionKind",
    "Expressions",
    "Identifier",
    "IncludeSpec",
    "KeyTemplate",
    "Limits",
    "MappingSpec",
    "PreconditionSpec",
    "RepeatSpec",
    "RetrySpec",
    "SecretSpec",
    "Settings",
    "TaskSpec",
    "Template",
    "WorkflowSpec",
    "digest_of",
]

#: The type of a group in place of a task type.
GROUP: Final = "group"
#: The type of a task that executes another workflow.
CHILD_WORKFLOW: Final = "workflow"


class Settings(Record):
    """The `settings` of a file, with every default. Folders are as written."""

    max_parallel_tasks: int = DEFAULT_WORKERS  #: in every mode
    retries: int = 0
    log_dir: str = "logs/"
    mode: str = "thread"  #: "thread", "process", "async", or the name of a cluster
    fail_fast: bool = False
    resume: Literal["auto", "manual"] = "manual"
    checkpoint_dir: str = ".lightflow-checkpoints"
    preload: bool = True  #: whether the libraries of task types are imported before worker processes start


class EnvFile(Record):
    """A dotenv file, and the place of the workflow file that names it."""

    path: str  #: absolute
    written: str  #: the path in the workflow file
    required: bool
    location: Location


class SecretSpec(Record):
    """A secret, and the place of its declaration."""

    secret: Secret
    location: Location
    included: str = ""  #: the group of the included file that declares it; empty: the file of the workflow


class Expression(Record):
    """The text between `${{` and `}}`, with its place and what it reads."""

    source: str
    location: Location
    reads: tuple[Ref, ...] = ()  #: the values of other tasks
    early: bool = False  #: whether its value is known before a run starts
    raw: bool = False  #: whether its value is pasted into a script
    quoted: bool = False  #: whether its value is one word of shell text
    instance_only: bool = False  #: whether it reads an instance, and else only what is known before a run starts
    env: tuple[str, ...] = ()  #: the environment variables with constant names
    reads_environment: bool = False  #: whether it reads any environment variable
    number: bool = False  #: whether its value is an integer
    names: tuple[tuple[str, str], ...] = ()  #: names of other tasks that differ from their ids, with the ids


#: A text with expressions: literal text and expressions in turn. A single expression preserves the type of its value.
Template = tuple[str | Expression, ...]


#: How a key of a task type takes the value of an expression: as `text` or alone with its type, as a `bind` value next
#: to the text, percent-encoded in a `url`, on one line of a `header`, as a variable of a `shell` script, or not at all.
ExpressionKind = Literal["text", "bind", "url", "header", "shell", "none"]


class BoundValue(NamedTuple):
    """The value of an expression in a key of the kind `bind`, whose value is a list of texts and of these."""

    value: Any


class Identifier(NamedTuple):
    """The name of a table or a column, which becomes part of a statement, in quotes."""

    name: str


class KeyTemplate(NamedTuple):
    """A text with expressions in the keys of a task type, and where it is."""

    path: tuple[str | int, ...]
    kind: ExpressionKind
    template: Template


class MappingSpec(Record):
    """The axes of a `matrix`, or the items of a `foreach`, as written.

    Their texts may be expressions, whose templates are in `Expressions.mapping`.
    """

    name: str  #: the name of the item in expressions: `matrix`, `item`, or the value of `as`
    items: Any = None  #: of a foreach
    axes: Mapping[str, Any] | None = None  #: of a matrix
    include: Any = ()
    exclude: Any = ()
    key: str | None = None  #: the name of an instance for people
    max_parallel: int | None = None
    fail_fast: bool = False


class Expressions(Record):
    """The expressions of one task.

    `script` is the shell script of the key `script_key` with a variable of `words` in place of each expression; the
    number of a `pasted` value is between two NUL characters.
    """

    workflow: Mapping[str, str]
    reads: tuple[Ref, ...] = ()
    dotenv: Mapping[str, str] = EMPTY_MAPPING  #: the variables of the workflow's dotenv files, once they have been read
    shared_env: Mapping[str, str | Template] = EMPTY_MAPPING  #: all variables of the workflow
    own_dotenv: Mapping[str, str] = EMPTY_MAPPING
    enclosing_env: Mapping[str, str | Template] = EMPTY_MAPPING  #: of a hook: the variables of its task
    own_env: Mapping[str, str | Template] = EMPTY_MAPPING  #: all variables of the task
    cwd: Template | None = None
    options: Mapping[str, Template] = EMPTY_MAPPING
    script: str = ""
    script_key: str = ""
    words: Mapping[str, Template] = EMPTY_MAPPING
    pasted: tuple[Template, ...] = ()
    config: tuple[KeyTemplate, ...] = ()  #: the templates in the other keys of the task's type
    item: str = ""  #: the name of the item of an instance
    mapping: Mapping[str, Template] = EMPTY_MAPPING  #: the templates in `MappingSpec`, by their text
    names: Mapping[str, str] = EMPTY_MAPPING  #: the names of other tasks that differ from their ids
    params: Mapping[str, Any] | None = None  #: the parameters of an included file; None: those of the run

    @property
    def layers(self) -> tuple[Mapping[str, str | Template], ...]:
        """The variables of the task's environment; later layers override earlier ones."""
        return self.dotenv, self.shared_env, self.own_dotenv, self.enclosing_env, self.own_env

    @property
    def upstreams(self) -> tuple[str, ...]:
        """The tasks whose values the expressions read."""
        return tuple(dict.fromkeys(ref.task_id for ref in (*self.reads, *self.mapping_reads)))

    @property
    def mapping_reads(self) -> tuple[Ref, ...]:
        """The values that are read once, to make the instances."""
        parts = [part for template in self.mapping.values() for part in template if isinstance(part, Expression)]
        return tuple(dict.fromkeys(ref for part in parts for ref in part.reads))


class ConditionSpec(Record):
    """An `if`."""

    text: str  #: as written
    expression: Expression
    states: tuple[str, ...] = ()  #: the tasks whose state it reads
    status: bool = False  #: whether it calls a status function, and is evaluated after upstream tasks in any state
    scope: Expressions | None = None  #: the environment variables that it may name

    @property
    def reads(self) -> tuple[Ref, ...]:
        """The values of other tasks that it reads."""
        return (*self.expression.reads, *(self.scope.reads if self.scope is not None else ()))

    @property
    def upstreams(self) -> tuple[str, ...]:
        """The tasks that must end before it is evaluated."""
        return tuple(dict.fromkeys([*(ref.task_id for ref in self.reads), *self.states]))


class PreconditionSpec(Record):
    """A requirement for the start of a task: a condition, or a command that must succeed."""

    condition: ConditionSpec | None = None
    command: TaskSpec | None = None
    message: str = ""
    fails: bool = False  #: whether the task is FAILED, not SKIPPED, where it does not hold


class RepeatSpec(Record):
    """The repetition of a task."""

    condition: ConditionSpec
    negated: bool = False  #: whether the repetition ends where the condition does not hold
    every_s: float = 0.0
    max: int | None = None
    timeout_s: float | None = None


class ControlFlowSpec(Record):
    """The control flow of a task beyond its dependencies and its trigger rule."""

    condition: ConditionSpec | None = None
    preconditions: tuple[PreconditionSpec, ...] = ()
    branch: bool = False
    short_circuit: bool = False
    direct: bool = False  #: whether a short circuit skips only direct downstream tasks
    tolerates: bool | tuple[int | str, ...] = False  #: exit codes and exceptions; True: every failure
    setup: bool = False
    teardown: bool = False
    fails_run: bool = False
    hooks: Mapping[str, TaskSpec] = EMPTY_MAPPING  #: by event


class TaskSpec(Record):
    """One task, hook or group; a group has the type `group`.

    `digest` changes when the type, the own keys, the dependencies, the folder or the environment change, and not when a
    comment, a timeout or a retry does.
    """

    id: str
    type: str
    config: Mapping[str, Any]  #: the keys of its type, such as `run` of a shell task
    depends_on: tuple[str, ...] = ()
    cwd: str | None = None  #: as written; a relative path starts from the folder in which the run is started
    env: Mapping[str, str] = EMPTY_MAPPING  #: the variables of the workflow, overridden by those of the task
    timeout_s: float | None = None
    grace_s: float = 10.0
    retry: RetrySpec = NO_RETRY
    trigger_rule: TriggerRule = "all_success"
    mode: str | None = None  #: None: the mode of the run
    description: str = ""
    file: str = ""  #: the absolute path of the workflow file
    line: int = 0  #: the line of the file on which the task begins
    lines: Mapping[str, int] = EMPTY_MAPPING  #: the line of the file on which the text of each key of `config` begins
    digest: str = ""
    expressions: Expressions | None = None
    implied: tuple[str, ...] = ()  #: the part of `depends_on` that only expressions and conditions name
    own_env: Mapping[str, str] = EMPTY_MAPPING  #: the variables of the task alone
    dotenv: tuple[EnvFile, ...] = ()
    secrets: tuple[str, ...] = ()  #: the secrets in its environment
    control_flow: ControlFlowSpec | None = None
    mapping: MappingSpec | None = None
    queue: QueueOptions = DEFAULT_QUEUE
    repeat: RepeatSpec | None = None
    group: str = ""  #: the innermost group that it is in
    included: str = ""  #: the group that stands for the included file that it is written in; empty: the file itself
    params: Mapping[str, Any] | None = None  #: the parameters of an included file; None: those of the run

    @property
    def is_conditional_group(self) -> bool:
        """Whether it is a group that decides once whether its members run."""
        flow = self.control_flow
        has_checks = flow is not None and bool(flow.condition or flow.preconditions)
        return self.type == GROUP and (self.trigger_rule != "all_success" or has_checks)

    @property
    def decides(self) -> bool:
        """Whether it decides which tasks after it run."""
        flow = self.control_flow
        return flow is not None and (flow.branch or flow.short_circuit)


class IncludeSpec(Record):
    """A file whose tasks are tasks of the workflow, in a group, and what the including file gives it."""

    path: str  #: absolute
    parent: str = ""  #: the group of the included file that includes it; empty: the file of the workflow
    workflow: Mapping[str, str] = EMPTY_MAPPING  #: what `workflow` means in the values that are given
    arguments: Mapping[str, Any] = EMPTY_MAPPING  #: the values of parameters, as written
    templates: Mapping[str, Template] = EMPTY_MAPPING  #: the templates in `arguments`, by their text
    places: Mapping[str, Location] = EMPTY_MAPPING  #: of the values in `arguments`
    params: Mapping[str, Param] = EMPTY_MAPPING  #: the parameters that the included file declares
    env: Mapping[str, str] = EMPTY_MAPPING  #: of all its tasks
    dotenv: tuple[EnvFile, ...] = ()


class WorkflowSpec(Record):
    """One workflow file, with the tasks of the files that it includes."""

    name: str
    tasks: dict[str, TaskSpec]
    settings: Settings
    path: str  #: absolute
    reference: str = ""  #: the path, with `#` and the name where the file has several workflows
    description: str = ""
    env: Mapping[str, str] = EMPTY_MAPPING
    plugins: tuple[str, ...] = ()  #: absolute paths
    digest: str = ""  #: of the name and of every task
    params: Mapping[str, Param] = EMPTY_MAPPING
    dotenv: tuple[EnvFile, ...] = ()
    secrets: Mapping[str, SecretSpec] = EMPTY_MAPPING
    hooks: Mapping[str, TaskSpec] = EMPTY_MAPPING  #: of the run, by event
    limits: Limits = Limits()
    outputs: Mapping[str, Any] = EMPTY_MAPPING  #: the values of a run by name, as written
    output_expressions: Expressions | None = None  #: those in `outputs`
    includes: Mapping[str, IncludeSpec] = EMPTY_MAPPING  #: by group; an outer file comes before those that it includes


class Ancestor(NamedTuple):
    """A workflow that executes another one in a child run."""

    path: str  #: absolute
    name: str
    group: str | None  #: its concurrency group; None: it has none, or it is not known yet


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


def digest_of(value: object) -> str:
    """Return the SHA-256, in hex, of `value` as canonical JSON."""
    return sha256_hex(_encode(value).encode("utf-8", "surrogatepass"))
