"""What crosses the border between the loop and the executors: small, plain, no live objects.

    loop ──Work──▶ executor ──▶ thread | worker process | command
    loop ◀─Outcome─ executor

A task's *body* is what runs: a `Call` of a Python function, or a `Command`. Executors are given
the table of bodies once (a forked worker simply inherits it); afterwards only `Work` and `Outcome` travel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar

from liteflow.errors import PayloadError
from liteflow.masking import Masker
from liteflow.states import Verdict
from liteflow.values.payload import Payload, encode, holds
from liteflow.values.secrets import Secrets


class Command(NamedTuple):
    """A task that is a program of its own.

    `argv` is executed as it stands (a shell is `("/bin/sh", "-c", script)`); its standard input is the null
    device. `cwd` is absolute, or None for the folder the run was started in. `env` is added to the environment
    of the orchestrator. Exit code 0 is success; one in `skip_on_exit_codes` makes the task SKIPPED. `late` completes
    the command for each attempt. `secrets` names those of the run that it finds in its environment.

    What it writes into the file `$LIGHTFLOW_OUTPUT` becomes its values (see `outputs`). With `output` its return value
    is what it prints: the last line that is not blank, or all of it as JSON.
    """

    argv: tuple[str, ...]
    cwd: str | None = None
    env: Mapping[str, str] = {}
    skip_on_exit_codes: tuple[int, ...] = ()
    output: Literal["last_line", "json"] | None = None
    late: DeferredBody | None = None
    secrets: tuple[str, ...] = ()


class Ref(NamedTuple):
    """Stands in an argument for the value that an upstream task will have stored under `key`."""

    task_id: str
    key: str = "return_value"


class Item(NamedTuple):
    """Stands in an argument of a mapped task for what an instance gets of the list called `name`.

    The functions in `maps` are called with it one after the other, beside the task's own.
    """

    name: str
    maps: tuple[Callable[[Any], Any], ...] = ()


#: The argument that stands for any number of them: its value is a mapping of names to values.
KEYWORDS: Final = "**"


class Call(NamedTuple):
    """A Python function and its arguments; a `Ref` at any depth is replaced by the upstream's value.

    An `Item` is replaced by the instance's own. The mapping called `**` among the arguments stands for its entries.

    `cwd`, `env` and `secrets` (names) are the working directory and added environment of the call: a call that
    has any of them runs in a worker process, because a thread cannot have its own. `late` completes the call for each
    attempt.
    """

    func: Callable[..., Any]
    kwargs: Mapping[str, Any] = {}
    cwd: str | None = None
    env: Mapping[str, str] = {}
    late: DeferredBody | None = None
    secrets: tuple[str, ...] = ()


Body = Call | Command
_B = TypeVar("_B", Call, Command)


class DeferredBody(Protocol):
    """The part of a body that is only known when an attempt starts.

    It is asked for every attempt, in the process that starts it: for a command that is the orchestrator, which never
    unpickles. It must be picklable, like the rest of a body.
    """

    @property
    def reads(self) -> Sequence[Ref]:
        """The values of upstreams that it takes; those that are stored are found in `Work.inputs`."""

    def complete(self, body: _B, info: RunInfo, work: Work) -> _B:
        """The body with nothing left open: its `late` is None. Raises InputError."""


def complete_body(body: _B, info: RunInfo, work: Work) -> _B:
    """The body that an attempt runs. Raises InputError."""
    return body if body.late is None else body.late.complete(body, info, work)


def input_name(ref: Ref | Item) -> str:
    """The name of an upstream's value, or of an item, in `Work.inputs`."""
    if isinstance(ref, Item):
        return f"[{ref.name}]"
    return ref.task_id if ref.key == "return_value" else f"{ref.task_id}:{ref.key}"


class MappedRow(NamedTuple):
    """What one instance of a mapped task gets: items by their `input_name`. `label` tells people which one it is."""

    items: Mapping[str, Payload]
    label: str | None = None


class Expansion(Protocol):
    """What a task is mapped over. It is asked once, when the task may start, in the orchestrator: never unpickles."""

    @property
    def reads(self) -> Sequence[Ref]:
        """The values of upstreams that it takes."""

    def rows(self, inputs: Mapping[str, Payload], info: RunInfo) -> Sequence[MappedRow]:
        """A row for each instance, in order; there may be none. Raises InputError."""


class RunInfo(NamedTuple):
    """What is the same for all work of one run; given to executors when they are opened."""

    run_id: str
    dag_id: str
    db_path: str  # absolute
    log_dir: str | None  # absolute; None: output goes where the program's goes
    params: Mapping[str, Any] = {}
    values_dir: str | None = None  # where values too large for the state file go; None: there is no limit
    outputs_dir: str | None = None  # where attempts have their output files; None: they have none
    logical_date: float | None = None
    secrets: Secrets | None = None  # None: there are none, and nothing is masked

    @property
    def masker(self) -> Masker | None:
        """Masks what is written; None: it is written as it is."""
        return None if self.secrets is None else self.secrets.masker

    def masked(self, text: str) -> str:
        """A text that may hold secrets, as it can be shown and stored."""
        return text if self.secrets is None else self.secrets.masker.text(text)

    def encode(self, value: Any) -> Payload:
        """A value as it is stored. Raises PayloadError: it cannot be stored, or holds a secret."""
        return encode(value, self.values_dir, self.masker)

    def stored_name(self, name: str) -> str:
        """The name of a value. Raises PayloadError: it holds a secret."""
        secret = None if self.secrets is None else self.secrets.masker.found(name.encode("utf-8", "surrogatepass"))
        if secret is not None:
            raise PayloadError(holds(secret, "the name of a value"))
        return name

    def environment(self, body: Body) -> Mapping[str, str]:
        """The variables that a body brings along, the secrets it asks for among them."""
        return {**body.env, **self.secrets.select(body.secrets)} if self.secrets and body.secrets else body.env


class Work(NamedTuple):
    """One attempt to start. `node` is the plan's number for the task instance and comes back in the Outcome."""

    node: int
    task_id: str
    map_index: int  # -1: not mapped
    attempt: int  # 1 is the first
    inputs: Mapping[str, Payload] | None  # what its Refs and Items stand for, by `input_name`
    timeout_s: float | None = None
    grace_s: float = 10.0  # between the polite and the hard signal
    log_path: str | None = None  # where output goes, made when its first byte arrives
    told: Sequence[tuple[str, str]] = ()  # of a hook: more variables, which say what it is about


class ErrorInfo(NamedTuple):
    """Why an attempt failed, in strings only. `types` are the exception's class names, nearest class first.

    `trace` says where in the user's code it came from (JSON, see `traces`); it has no secrets from the beginning.
    """

    message: str  # one line
    traceback: str = ""
    types: tuple[str, ...] = ()
    trace: str = ""

    def masked(self, masker: Masker) -> ErrorInfo:
        """Without the secrets in it."""
        return self._replace(message=masker.text(self.message), traceback=masker.text(self.traceback))


class Outcome(NamedTuple):
    """How an attempt ended. Times are epoch seconds, UTC; `log_path` is None when there is no output in a log."""

    node: int
    attempt: int
    verdict: Verdict
    value: Payload | None
    pushed: Mapping[str, Payload] | None
    error: ErrorInfo | None
    exit_code: int | None  # of a command: 0-255, or -N for signal N
    started_at: float | None  # None: it was cancelled before it started
    ended_at: float
    log_path: str | None
    log_lost: str | None = None  # why not all of its output is in its log
