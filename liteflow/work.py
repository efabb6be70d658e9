"""The records that cross between the loop and the executors: small and plain, without live objects.

    loop ──Work──▶ executor ──▶ thread | worker process | command
    loop ◀─Outcome─ executor

The *body* of a task is what an executor runs: a `Call` of a Python function, or a `Command`. Executors get all bodies
once (a forked worker inherits them); after that only `Work` and `Outcome` travel.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar

from liteflow.errors import PayloadError
from liteflow.masking import Masker
from liteflow.record import EMPTY_MAPPING, Record
from liteflow.states import Verdict
from liteflow.values.payload import Payload, encode, holds
from liteflow.values.secrets import Secrets


class Command(NamedTuple):
    """A task that is a program.

    Exit code 0 is success. The standard input is the null device. Names and values that the program writes into the
    file `$LIGHTFLOW_OUTPUT` become values of the task (see `outputs`).
    """

    #: the command line; a shell is `("/bin/sh", "-c", script)`
    argv: tuple[str, ...]
    #: the working directory, absolute; None: the folder in which the run was started
    cwd: str | None = None
    #: variables added to the environment of the orchestrator
    env: Mapping[str, str] = EMPTY_MAPPING
    #: exit codes that make the task SKIPPED
    skip_on_exit_codes: tuple[int, ...] = ()
    #: the return value is what the program prints: its last line that is not blank, or all of it as JSON
    output: Literal["last_line", "json"] | None = None
    #: completes the command for each attempt
    late: DeferredBody | None = None
    #: the names of the secrets of the run in its environment
    secrets: tuple[str, ...] = ()
    #: ends what an attempt has started outside the process tree, after every end but a success
    undo: Call | None = None


class Ref(NamedTuple):
    """A placeholder in an argument for the value that an upstream task stores under `key`."""

    task_id: str
    key: str = "return_value"


class Item(Record):
    """A placeholder in an argument of a mapped task for the item of an instance in the list called `name`.

    The functions in `maps` are applied to the item one after the other, in the process that runs the task.
    """

    name: str
    maps: tuple[Callable[[Any], Any], ...] = ()


_LONGEST_HANDLE: Final = 65536  # bytes
_LONGEST_WHY: Final = 1000  # characters

#: The name of an argument whose value is a mapping of further arguments.
KEYWORDS: Final = "**"


class Waiting(NamedTuple):
    """The return value of a function whose work is not done yet: its `poll` is called later.

    Meanwhile its task holds no worker and no slot. The handle is stored, so that a run that is resumed polls on.
    """

    #: what a poll needs to find again what it waits for: plain data, at most 64 KB, without secrets
    handle: Any = None
    #: seconds until the next poll; None: there is none, and a decision or the timeout ends the wait
    again_s: float | None = 10.0
    #: what it waits for, in words
    why: str = ""


#: The return value of the function of a sensor that has nothing yet.
NOT_YET: Final = Waiting()


class Call(NamedTuple):
    """A task that is a call of a Python function.

    A call with a working directory, variables or secrets runs in a worker process, because a thread has none of its
    own.
    """

    func: Callable[..., Any]
    #: the arguments; at any depth a `Ref` means the value of an upstream, an `Item` the item of the instance
    kwargs: Mapping[str, Any] = EMPTY_MAPPING
    #: the working directory, absolute
    cwd: str | None = None
    #: variables added to the environment
    env: Mapping[str, str] = EMPTY_MAPPING
    #: completes the call for each attempt
    late: DeferredBody | None = None
    #: the names of the secrets of the run in its environment
    secrets: tuple[str, ...] = ()
    #: "process": it needs a worker process also where the mode is "thread" or "async", because only a process can be
    #: ended at its timeout; "here": such a process on the machine of the run, on no cluster; None: the mode decides
    lane: Literal["process", "here"] | None = None
    #: ends what an attempt has started outside the process tree, after every end but a success; a call that has an
    #: undo runs in a worker process, and the machine that runs the attempt does its undo
    undo: Call | None = None
    #: modules that are imported before worker processes are forked, so that each worker has them
    preload: tuple[str, ...] = ()
    #: the return value of a call that returns None is what it prints, as with a command
    output: Literal["last_line", "json"] | None = None
    #: how its task waits after the function has returned a `Waiting`
    poll: Poll | None = None
    #: the parameters in its context, where they are not those of the run
    params: Mapping[str, Any] | None = None
    #: the options of its task where nothing else sets them; None: those of every task
    defaults: BodyDefaults | None = None


class BodyDefaults(Record):
    """The options that the task or hook of a call has where nothing else sets them."""

    timeout_s: float | None = None
    hook_timeout_s: float | None = None
    hook_retries: int = 0


class Poll(Record):
    """How the task of a call waits: another function is called, again and again, until the work is done.

    It has the arguments, the folder, the variables and the secrets of the call, and the last handle is in the context.
    It returns the value of the task, or a `Waiting`, which without a handle leaves the last one.
    """

    func: Callable[..., Any]
    #: seconds that one poll may take; None: there is no limit
    limit_s: float | None = 30.0
    #: how many polls in a row without an answer fail the attempt
    failures: int = 5
    #: how the attempt ends when it has waited as long as the timeout of its task
    on_timeout: Literal["TIMED_OUT", "SKIPPED"] = "TIMED_OUT"
    #: the poll executes a child run to its end (see `child_runs`). When the task is retried, a child run that has not
    #: succeeded is resumed, or a new one is started. None: it executes none
    child: Literal["resume", "new"] | None = None


Body = Call | Command
_B = TypeVar("_B", Call, Command)


class DeferredBody(Protocol):
    """The part of a body that is known only when an attempt starts. It must be picklable, like the rest of a body."""

    @property
    def reads(self) -> Sequence[Ref]:
        """The values of upstream tasks that it takes. Those that are stored are in `Work.inputs`."""

    def complete(self, body: _B, info: RunInfo, work: Work) -> _B:
        """Return the complete body, whose `late` is None. Raises InputError.

        It is called for each attempt in the process that starts it. For a command that is the orchestrator, which
        never unpickles.
        """


def complete_body(body: _B, info: RunInfo, work: Work) -> _B:
    """Return the body that an attempt, or a poll of its wait, runs. Raises InputError."""
    if work.handle is not None and isinstance(body, Call) and body.poll is not None:
        body = body._replace(func=body.poll.func, poll=None)
    return body if body.late is None else body.late.complete(body, info, work)


def runs_child(body: Body | None) -> bool:
    """Return whether a task executes a child run."""
    return isinstance(body, Call) and body.poll is not None and body.poll.child is not None


def stays_here(body: Body) -> bool:
    """Return whether only the machine of the owner runs a task: it waits without a worker, or its call says so.

    Polls outlive the attempt and its place.
    """
    return isinstance(body, Call) and (body.poll is not None or body.lane == "here")


def input_name(ref: Ref) -> str:
    """Return the name of the value of an upstream task in `Work.inputs`."""
    return ref.task_id if ref.key == "return_value" else f"{ref.task_id}:{ref.key}"


class MappedRow(NamedTuple):
    """The items of one instance of a mapped task, by the name of the list, and a label for people."""

    items: Mapping[str, Payload]
    label: str | None = None


class Expansion(Protocol):
    """The lists that a task is mapped over. The orchestrator reads them once, when the task may start."""

    @property
    def reads(self) -> Sequence[Ref]:
        """The values of upstream tasks that it takes."""

    def rows(self, inputs: Mapping[str, Payload], info: RunInfo) -> Sequence[MappedRow]:
        """Return a row for each instance, in order; the list may be empty. Never unpickles. Raises InputError."""


class CopiedFolder(NamedTuple):
    """A folder of the owner's machine, of which another machine has a copy."""

    original: str  # absolute
    copy: str  # absolute, on the other machine

    def place(self, path: str) -> str:
        """Return the path that a path of the owner's machine has on the other one."""
        if not os.path.isabs(path):
            return path
        relative = os.path.relpath(path, self.original)
        is_outside = relative == os.pardir or relative.startswith(os.pardir + os.sep)
        return path if is_outside else os.path.normpath(os.path.join(self.copy, relative))


class AgentInfo(Record):
    """The facts about the agent on another machine that runs the attempts there."""

    folder: str  #: absolute
    host: str  #: the name of its machine for people
    environ: Mapping[str, str] = EMPTY_MAPPING  #: its environment, without what tasks add
    copied: CopiedFolder | None = None  #: None: it has no copy of a folder


class RunInfo(Record):
    """The facts that all work of one run shares; executors get them when they are opened."""

    run_id: str
    dag_id: str
    db_path: str  #: absolute
    log_dir: str | None = None  #: absolute; None: the output of tasks goes where the output of the program goes
    params: Mapping[str, Any] = EMPTY_MAPPING
    values_dir: str | None = None  #: the folder of values that are too large for the state file; None: no size limit
    outputs_dir: str | None = None  #: the folder of the output files of attempts; None: attempts have none
    logical_date: float | None = None
    secrets: Secrets | None = None  #: None: nothing is masked
    agent: AgentInfo | None = None  #: on another machine than the state file is on; None: on this one
    parks: bool = False  #: whether the run ends when only long waits are left; its child runs do, too

    @property
    def masker(self) -> Masker | None:
        """The masker of the secrets; None: nothing is masked."""
        return None if self.secrets is None else self.secrets.masker

    def masked(self, text: str) -> str:
        """Return a text with its secrets masked."""
        return text if self.secrets is None else self.secrets.masker.text(text)

    def encode(self, value: Any) -> Payload:
        """Return a value in its stored form. Raises PayloadError: it cannot be stored, or holds a secret."""
        return encode(value, self.values_dir, self.masker)

    def stored_wait(self, waiting: Waiting) -> Waiting:
        """Return what an attempt waits for in its stored form. Raises PayloadError: the handle cannot be stored."""
        handle = encode(waiting.handle, None, self.masker)
        if handle.encoding != "json" or handle.size > _LONGEST_HANDLE:
            raise PayloadError(
                f"the handle of a Waiting is plain data (JSON) of at most {_LONGEST_HANDLE:,} bytes: put more "
                "into a file, and its path into the handle"
            )
        why = " ".join(self.masked(str(waiting.why)).split())[:_LONGEST_WHY]
        return Waiting(handle.data, None if waiting.again_s is None else max(0.0, float(waiting.again_s)), why)

    def stored_name(self, name: str) -> str:
        """Return the name of a value. Raises PayloadError: it holds a secret."""
        secret = None if self.secrets is None else self.secrets.masker.secret_in(name.encode("utf-8", "surrogatepass"))
        if secret is not None:
            raise PayloadError(holds(secret, "the name of a value"))
        return name

    def environment(self, body: Body) -> Mapping[str, str]:
        """Return the environment variables that a body adds, including its secrets."""
        return {**body.env, **self.secrets.select(body.secrets)} if self.secrets and body.secrets else body.env


class HookEvent(NamedTuple):
    """The event that a hook handles: a task or the run changed its state. It is stored as a list in this order."""

    event: str  # such as "on_failure", or "precondition"
    task_id: str  # empty: the event of a run
    map_index: int  # -1: not of an instance of a mapped task
    status: str  # of the task, or of the run
    attempt: int  # 0: none has started
    error: str  # one line; empty after a success
    log_path: str | None  # the log of the attempt that ended, if it printed something

    def variables(self) -> dict[str, str]:
        """Return the event as environment variables; those without a value are left out."""
        variables = {
            "LIGHTFLOW_HOOK": self.event,
            "LIGHTFLOW_HOOK_TASK": self.task_id,
            "LIGHTFLOW_HOOK_STATUS": self.status,
            "LIGHTFLOW_HOOK_ATTEMPT": str(self.attempt) if self.attempt else "",
            "LIGHTFLOW_HOOK_ERROR": self.error,
            "LIGHTFLOW_HOOK_LOG": self.log_path or "",
            "LIGHTFLOW_HOOK_MAP_INDEX": str(self.map_index) if self.map_index >= 0 else "",
        }
        return {name: value.replace("\0", "\ufffd") for name, value in variables.items() if value}


class HostId(NamedTuple):
    """Identifies a machine of a cluster."""

    host: str  # its name for people
    boot: str  # the name that it gives itself, and the id of its boot

    def is_that_of(self, other: HostId) -> bool:
        """Return whether both are the same machine, also under another name or after another boot."""
        return self.host == other.host or self.boot == other.boot


class Work(Record):
    """One attempt to start."""

    node: int  #: the number of the task instance in the plan; it comes back in the Outcome
    task_id: str
    map_index: int = -1  #: -1: not an instance of a mapped task
    attempt: int  #: 1 is the first
    inputs: Mapping[str, Payload] | None = None  #: the values of its Refs, by `input_name`
    items: Mapping[str, Payload] | None = None  #: the values of its Items, by name; None: it is not mapped
    timeout_s: float | None = None
    grace_s: float = 10.0  #: seconds between the polite and the hard signal
    log_path: str | None = None  #: the file of its output, created with the first byte
    hook: HookEvent | None = None  #: the event that a hook handles; None: a task
    round: int = 0  #: the number of reruns that have reset the instance
    iteration: int = 1  #: of a task that is repeated
    previous: Mapping[str, Payload] | None = None  #: the values of the iteration before, by key; None: it is the first
    handle: str | None = None  #: of a poll: the handle of the wait (JSON); None: an attempt
    is_undo: bool = False  #: run the undo of the attempt
    ran_on: HostId | None = None  #: of an undo: where the attempt ran; None: on this machine
    place: str = ""  #: where it runs: the name of a cluster; empty: this machine
    #: where its body was shipped: the digest, or the pickle of a function with arguments that no other task has, or of
    #: an undo; None: the executor has it by task id
    body: str | bytes | None = None


class ErrorInfo(NamedTuple):
    """The reason of a failed attempt, as text."""

    message: str  # one line
    traceback: str = ""
    types: tuple[str, ...] = ()  # the class names of the exception, the nearest class first
    trace: str = ""  # the frames of the user's code as JSON (see `traces`); secrets never enter it
    codes: tuple[str, ...] = ()  # such as "http:503"
    retry_after_s: float | None = None  # the least wait before the next attempt
    final: bool = False  # it is tried again only where `retry` names one of the codes

    def masked(self, masker: Masker) -> ErrorInfo:
        """Return it with its secrets masked."""
        return self._replace(
            message=masker.text(self.message),
            traceback=masker.text(self.traceback),
            codes=tuple(map(masker.text, self.codes)),
        )


class Outcome(NamedTuple):
    """The end of an attempt: a row, because each one crosses processes as a tuple. Times are epoch seconds, UTC."""

    node: int
    attempt: int
    verdict: Verdict
    value: Payload | None
    pushed: Mapping[str, Payload] | None
    error: ErrorInfo | None
    exit_code: int | None  # of a command: 0-255, or -N for signal N
    started_at: float | None  # None: it was cancelled before it started
    ended_at: float
    log_path: str | None  # None: no log has output of the attempt
    log_lost: str | None = None  # why the log lacks a part of the output
    undo_error: str | None = None  # why its undo failed; None: it did not, or there was nothing to undo
    host: str | None = None  # the name of the machine that ran it; None: this machine
    waiting: Waiting | None = None  # it has not ended: what it waits for, with the handle as JSON; no verdict counts
