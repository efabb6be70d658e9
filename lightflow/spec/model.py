"""A workflow that has been checked: frozen, typed, with nothing left to look up in the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from lightflow.errors import Problem
from liteflow import Param, Secret
from liteflow import RetryPolicy as RetrySpec
from liteflow.api import DEFAULT_QUEUE, NO_RETRY, QueueOptions, Ref, TriggerRule, sha256_hex
from liteflow.api import DagLimits as Limits

__all__ = [
    "Condition",
    "ControlFlow",
    "Expression",
    "Expressions",
    "Limits",
    "MappingSpec",
    "Mode",
    "PreconditionSpec",
    "RetrySpec",
    "Settings",
    "TaskSpec",
    "Template",
    "WorkflowSpec",
]
__all__ += ["digest_of"]

Mode = Literal["thread", "process", "async"]


class Settings(NamedTuple):
    """The `settings:` of a file, with every default filled in. Folders are as written."""

    max_parallel_tasks: int = 4
    retries: int = 0
    log_dir: str = "logs/"
    mode: Mode = "thread"
    fail_fast: bool = False
    resume: Literal["auto", "manual"] = "manual"
    checkpoint_dir: str = ".lightflow-checkpoints"


class EnvFile(NamedTuple):
    """A dotenv file: its absolute path, how it was written, and at which place of the workflow file."""

    path: str
    written: str
    required: bool
    at: Problem


class SecretSpec(NamedTuple):
    """A secret, and at which place of the workflow file it is declared."""

    secret: Secret
    at: Problem


class Expression(NamedTuple):
    """What stands between `${{` and `}}`, and `at` which place of the file (a problem without a message)."""

    source: str
    at: Problem
    reads: tuple[Ref, ...] = ()  # the values of other tasks that it takes
    early: bool = False  # its value is known before a run begins
    raw: bool = False  # its value is pasted into a script
    quoted: bool = False  # its value is one word of shell text
    instance_only: bool = False  # it would be known before a run, but for what is particular to an instance
    env: tuple[str, ...] = ()  # the environment variables that it names
    number: bool = False  # its value is an integer


#: A text with expressions: literal text and expressions in turn. A lone expression keeps the type of its value.
Template = tuple[str | Expression, ...]


class MappingSpec(NamedTuple):
    """What a task is mapped over: the axes of a `matrix`, or the items of a `foreach`, as they are written.

    Texts in it may be expressions; their templates are in `Expressions.fan`.
    """

    name: str  # of an instance's part in expressions: `matrix`, `item`, or what `as` says
    items: Any = None  # of a foreach
    axes: Mapping[str, Any] | None = None  # of a matrix
    include: Any = ()
    exclude: Any = ()
    key: str | None = None  # what people can tell an instance by
    max_parallel: int | None = None
    fail_fast: bool = False


class Expressions(NamedTuple):
    """The expressions of one task.

    `shared_env` and `own_env` are all variables of the workflow and of the task, with or without expressions. `script`
    is a shell script with references to the variables `words` in place of expressions; where a value is `pasted`, its
    number stands between two NUL characters. `config` has the texts in the keys of other types by what was written, and
    `fan` those in what the task is mapped over; `item` is what expressions call the part of an instance.
    """

    workflow: Mapping[str, str]
    reads: tuple[Ref, ...] = ()
    dotenv: Mapping[str, str] = {}  # what the workflow's dotenv files hold, once they are read
    shared_env: Mapping[str, str | Template] = {}
    own_dotenv: Mapping[str, str] = {}
    enclosing_env: Mapping[str, str | Template] = {}  # of a hook: the variables of its task
    own_env: Mapping[str, str | Template] = {}
    cwd: Template | None = None
    options: Mapping[str, Template] = {}
    script: str = ""
    words: Mapping[str, Template] = {}
    pasted: tuple[Template, ...] = ()
    config: Mapping[str, Template] = {}
    item: str = ""
    fan: Mapping[str, Template] = {}

    @property
    def layers(self) -> tuple[Mapping[str, str | Template], ...]:
        """The variables of the task's environment; the later go before."""
        return self.dotenv, self.shared_env, self.own_dotenv, self.enclosing_env, self.own_env

    @property
    def upstreams(self) -> tuple[str, ...]:
        """The tasks whose values they take."""
        return tuple(dict.fromkeys(ref.task_id for ref in (*self.reads, *self.fan_reads)))

    @property
    def fan_reads(self) -> tuple[Ref, ...]:
        """The values that are taken once, to know the instances."""
        parts = [part for one in self.fan.values() for part in one if isinstance(part, Expression)]
        return tuple(dict.fromkeys(ref for part in parts for ref in part.reads))


class Condition(NamedTuple):
    """An `if`: `text` is what was written, `expression` what it asks.

    `states` are the tasks whose state it asks for. With a status function (`status`) it is asked however the tasks
    above have ended. `scope` has the variables that it may name, and the file.
    """

    text: str
    expression: Expression
    states: tuple[str, ...] = ()
    status: bool = False
    scope: Expressions | None = None

    @property
    def reads(self) -> tuple[Ref, ...]:
        """The values of other tasks that it takes."""
        return (*self.expression.reads, *(self.scope.reads if self.scope is not None else ()))

    @property
    def upstreams(self) -> tuple[str, ...]:
        """The tasks that have to end before it is asked."""
        return tuple(dict.fromkeys([*(ref.task_id for ref in self.reads), *self.states]))


class Found(NamedTuple):
    """The expressions of a file, by task, and what is wrong with them. Hooks are found under their own ids,
    preconditions under `TASK.precondition_N`.
    """

    tasks: Mapping[str, Expressions]
    problems: list[Problem]
    conditions: Mapping[str, Condition] = {}


class PreconditionSpec(NamedTuple):
    """What must hold before a task starts: a condition, or a command that must succeed."""

    condition: Condition | None = None
    command: TaskSpec | None = None
    message: str = ""
    fails: bool = False


class ControlFlow(NamedTuple):
    """How a task stands in the flow, beside what it waits for. `tolerates` are exit codes and exceptions; True: any."""

    condition: Condition | None = None
    preconditions: tuple[PreconditionSpec, ...] = ()
    branch: bool = False
    short_circuit: bool = False
    direct: bool = False  # a short circuit that skips only what directly follows
    tolerates: bool | tuple[int | str, ...] = False
    setup: bool = False
    teardown: bool = False
    fails_run: bool = False
    hooks: Mapping[str, TaskSpec] = {}


class TaskSpec(NamedTuple):
    """One task.

    `config` holds the keys of its own type (`run` of a shell task). `env` is the workflow's with the task's over it.
    `cwd` is as written; a relative one starts from the folder the run is started in. `lines` says on which line of
    `file` the text of each own key begins, `line` where the task does. `digest` changes when what the task does
    changes: its type, own keys, dependencies, folder or environment, and not when a comment, a timeout or a retry does.
    """

    id: str
    type: str
    config: Mapping[str, Any]
    depends_on: tuple[str, ...] = ()
    cwd: str | None = None
    env: Mapping[str, str] = {}
    timeout_s: float | None = None
    grace_s: float = 10.0
    retry: RetrySpec = NO_RETRY
    trigger_rule: TriggerRule = "all_success"
    mode: Mode | None = None  # None: the one of the run
    description: str = ""
    file: str = ""  # absolute path of the workflow file
    line: int = 0
    lines: Mapping[str, int] = {}
    digest: str = ""
    expressions: Expressions | None = None  # None: there are none
    implied: tuple[str, ...] = ()  # those of `depends_on` that only an expression or `teardown_of` names
    own_env: Mapping[str, str] = {}  # its part of `env`
    dotenv: tuple[EnvFile, ...] = ()
    secrets: tuple[str, ...] = ()  # those that are in its environment
    control_flow: ControlFlow | None = None  # None: nothing but what it waits for
    fan: MappingSpec | None = None  # what it is mapped over
    order: QueueOptions = DEFAULT_QUEUE


class WorkflowSpec(NamedTuple):
    """One workflow file. `path` and `plugins` are absolute; `digest` covers the name and every task's digest."""

    name: str
    tasks: dict[str, TaskSpec]
    settings: Settings
    path: str
    description: str = ""
    env: Mapping[str, str] = {}
    plugins: tuple[str, ...] = ()
    digest: str = ""
    params: Mapping[str, Param] = {}
    dotenv: tuple[EnvFile, ...] = ()
    secrets: Mapping[str, SecretSpec] = {}
    hooks: Mapping[str, TaskSpec] = {}  # the run's own, by event
    limits: Limits = Limits()


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


def digest_of(value: object) -> str:
    """SHA-256, in hex, of `value` as canonical JSON."""
    return sha256_hex(_encode(value).encode("utf-8", "surrogatepass"))
