"""Running one attempt of a Python task: the same in every lane.

Whatever the function does, the end is an `Outcome`: values are encoded and errors put into words here, beside the
function, so that only plain data travels.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from types import CodeType, TracebackType
from typing import Any, Protocol

from liteflow.context import TaskContext, active_context
from liteflow.errors import InputError, PayloadError, SkipTask
from liteflow.executors.host import ExitCalled
from liteflow.outputs import discard, exists, printed, take
from liteflow.processes.forks import end_fork, exit_code
from liteflow.states import Verdict
from liteflow.traces import is_ours, to_json, trace_of
from liteflow.values.payload import Payload, decode, encode
from liteflow.work import KEYWORDS, Call, ErrorInfo, Item, Outcome, Ref, RunInfo, Work, complete_body, input_name

TRACEBACK_CHARACTERS = 64 * 1024
MESSAGE_CHARACTERS = 2000
_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE, without importing inspect


class Executor(Protocol):
    """Runs attempts; every submitted attempt comes back as exactly one Outcome, until `close`.

    One thread, always the same, calls these methods; `wake` may be called from signal handlers.
    """

    @property
    def queues(self) -> bool:
        """Whether attempts may be submitted beyond the slots: they start in order, each when a slot is free."""

    def submit(self, work: Work) -> None:
        """Start an attempt, or queue it where there is no slot and `queues` is true. Failures become Outcomes."""

    def wait(self, timeout_s: float | None = None) -> list[Outcome]:
        """Outcomes that have come; empty when the time is over or `wake` was called."""

    def cancel(self, node: int, grace_s: float) -> None:
        """End an attempt: SIGTERM, `grace_s` seconds, SIGKILL for all it started; its Outcome is CANCELLED.

        A thread cannot be killed: after the grace it is abandoned and its late result is thrown away.
        """

    def wake(self) -> None:
        """Make `wait` return."""

    def pids(self) -> Mapping[int, int]:
        """Process ids of running attempts by node (commands and worker processes only)."""

    def close(self, grace_s: float = 0.0) -> None:
        """End everything that runs, without outcomes; waits for nothing that may hang."""

    @property
    def session(self) -> int | None:
        """The guardian's number: `tree.sweep_session` kills by it what a killed guardian left behind."""


class Lane:
    """One way of running work; several share an inbox. See `Executor` for what these do."""

    queues = False

    def submit(self, work: Work) -> None:
        raise NotImplementedError

    def cancel(self, node: int, grace_s: float) -> None:
        raise NotImplementedError

    def close(self, grace_s: float) -> None:
        raise NotImplementedError


class Terminated(SystemExit):
    """SIGTERM has arrived in a worker: the task's `finally` blocks run, then the worker ends."""


def fill(value: Any, inputs: Mapping[str, Any]) -> Any:
    """Replace every Ref, at any depth of lists, tuples and dicts; each attempt gets containers of its own."""
    kind = type(value)
    if kind is Ref:  # a missing one: the upstream returned None, which is not stored, or was skipped
        return inputs.get(input_name(value))
    if kind is Item:
        item = inputs[input_name(value)]
        for function in value.maps:
            item = function(item)
        return item
    if kind is list:
        return [fill(item, inputs) for item in value]
    if kind is dict:
        return {key: fill(item, inputs) for key, item in value.items()}
    if isinstance(value, tuple):
        if kind is tuple:
            return tuple([fill(item, inputs) for item in value])
        if hasattr(kind, "_fields"):
            return kind(*[fill(item, inputs) for item in value])
    return value


def _with_keywords(arguments: dict[str, Any]) -> dict[str, Any]:
    more = arguments.pop(KEYWORDS)
    if not isinstance(more, Mapping) or not all(isinstance(name, str) for name in more):
        shown = type(more).__name__
        raise InputError(f"expand_kwargs() takes a list of mappings of argument names to values; one item is {shown}")
    twice = arguments.keys() & more.keys()
    if twice:
        raise InputError(f"argument {min(twice)!r} is given twice: by partial() and by expand_kwargs()")
    return {**arguments, **more}


class Attempt:
    """One attempt of a Python task, from its arguments to its Outcome."""

    __slots__ = ("_context", "_info", "_pid", "_started_at", "_work")

    def __init__(self, work: Work, info: RunInfo) -> None:
        self._work = work
        self._info = info
        self._started_at = time.time()
        self._pid = os.getpid()
        self._context = TaskContext(work, info)

    def run(self, body: Call) -> Outcome:
        """Run the function; a coroutine that it returns is run in an event loop of its own.

        What it sets in its context (`contextvars`) is not there for the next task.
        """
        return copy_context().run(self._run, body)

    def _run(self, body: Call) -> Outcome:
        active_context.set(self._context)
        in_body = False
        try:
            body = self.complete_body(body)
            arguments = self.arguments(body)
            in_body = True
            value = body.func(**arguments)
            if isinstance(value, Coroutine):
                value = _run_coroutine(value)
            in_body = False
            self._end_if_fork(None)
            return self.returned(value)
        except Terminated:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is an outcome
            self._end_if_fork(error)
            return self.raised(error, in_body=in_body)

    async def run_async(self, body: Call) -> Outcome:
        """Await a coroutine function in the running loop. asyncio.CancelledError passes through."""
        import asyncio

        active_context.set(self._context)  # the asyncio.Task that runs this has a context of its own
        in_body = False
        try:
            body = self.complete_body(body)
            arguments = self.arguments(body)
            in_body = True
            value = await body.func(**arguments)
            in_body = False
            self._end_if_fork(None)
            return self.returned(value)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is an outcome
            self._end_if_fork(error)
            return self.raised(error, in_body=in_body)

    def _end_if_fork(self, error: BaseException | None) -> None:
        """In a process that the task has forked, and that has come back from the function: end it."""
        if os.getpid() != self._pid:
            end_fork(error and error.with_traceback(_without_ours(error.__traceback__)))

    def complete_body(self, body: Call) -> Call:
        """The call with its late part filled in, if it has one. Raises InputError."""
        return complete_body(body, self._info, self._work)

    def arguments(self, body: Call) -> dict[str, Any]:
        """The keyword arguments, with upstream values in place of Refs. Raises PayloadError."""
        if not body.kwargs:
            return {}
        inputs = self._work.inputs
        values = {name: decode(payload) for name, payload in inputs.items()} if inputs else {}
        arguments = {name: fill(value, values) for name, value in body.kwargs.items()}
        return arguments if KEYWORDS not in arguments else _with_keywords(arguments)

    def returned(self, value: Any) -> Outcome:
        """The outcome of a function that returned. Raises PayloadError when the value cannot be stored."""
        payload = None if value is None else encode(value, self._info.values_dir, self._info.masker)
        return self.outcome("SUCCESS", value=payload)

    def raised(self, error: BaseException, *, in_body: bool = False) -> Outcome:
        """The outcome of an error. `sys.exit(0)` is a success where the function itself has called it (`in_body`)."""
        if isinstance(error, SkipTask):
            text = self._info.masked(safe_text(error))
            return self.outcome("SKIPPED", error=ErrorInfo(one_line(text), "", ("SkipTask",)))
        if isinstance(error, SystemExit):
            code = exit_code(error)
            if code == 0 and in_body and not isinstance(error, ExitCalled):
                return self.outcome("SUCCESS")
            return self.outcome("FAILED", error=describe(error, self._info), exit_code=code if in_body else None)
        if isinstance(error, InputError):
            return self.outcome("FAILED", error=ErrorInfo(one_line(self._info.masked(str(error))), "", ("InputError",)))
        return self.outcome("FAILED", error=describe(error, self._info))

    def outcome(
        self,
        verdict: Verdict,
        *,
        value: Payload | None = None,
        error: ErrorInfo | None = None,
        exit_code: int | None = None,
    ) -> Outcome:
        """An outcome that ends now. What was pushed counts for a success only."""
        pushed = self._context.pushed if verdict == "SUCCESS" and self._context.pushed else None
        work = self._work
        outcome = Outcome(
            work.node, work.attempt, verdict, value, pushed, error, exit_code, self._started_at, time.time(), None
        )
        path = self._context.requested_output
        return outcome if path is None else with_outputs(outcome, path, self._info)


def _run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end; in a thread of its own where a loop runs in this one, as in a notebook."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    answers: list[Any] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            answers.append(asyncio.run(coroutine))
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread of the task
            errors.append(error)

    thread = threading.Thread(target=copy_context().run, args=(body,), name="liteflow-coroutine", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return answers[0]


def with_outputs(
    outcome: Outcome,
    path: str | None,
    info: RunInfo,
    how: str | None = None,
    *,
    masked: Sequence[str] = (),
    size_bytes: int = 0,
) -> Outcome:
    """The outcome of an attempt with the values in its output file, which is removed; a failed one has none.

    What the function returned or pushed itself goes before. `how` says to take what was printed for the return value
    (see `outputs.printed`), unless the file has one; `masked` names the secrets that were in it, `size_bytes` how long
    it was. A file that cannot be understood fails the attempt, and so does a value whose output is not in the log.
    """
    if path is not None and not exists(path):
        path = None
    if outcome.verdict != "SUCCESS":
        if path is not None:
            discard(path)
        return outcome
    if path is None and how is None:
        return outcome
    try:
        found = {} if path is None else take(path, info)
        value = found.pop("return_value", None)
        if how is not None and value is None:
            if outcome.log_lost is not None:
                raise PayloadError(f"output: not all that was printed could be kept: {outcome.log_lost}")
            value = printed(how, outcome.log_path, info, masked=masked, size_bytes=size_bytes)
    except PayloadError as error:
        told = ErrorInfo(one_line(str(error)), "", ("PayloadError", "LiteflowError", "Exception"))
        return outcome._replace(verdict="FAILED", value=None, pushed=None, error=told)
    if outcome.value is not None:
        value = outcome.value
    return outcome._replace(value=value, pushed={**found, **(outcome.pushed or {})} or None)


def failure(
    work: Work,
    verdict: Verdict,
    message: str,
    *,
    exit_code: int | None = None,
    started_at: float | None = None,
    ended_at: float | None = None,
    log_path: str | None = None,
    log_lost: str | None = None,
) -> Outcome:
    """Return the outcome of an attempt that cannot report itself how it ended. Times default to now."""
    now = time.time()
    return Outcome(
        work.node,
        work.attempt,
        verdict,
        None,
        None,
        ErrorInfo(message),
        exit_code,
        now if started_at is None else started_at,
        now if ended_at is None else ended_at,
        log_path,
        log_lost,
    )


def cancelled_in_queue(work: Work) -> Outcome:
    """Return the outcome of an attempt that was cancelled before it started."""
    return failure(work, "CANCELLED", "cancelled before it started")._replace(started_at=None)


def timeout_message(work: Work) -> str:
    """Why an attempt is TIMED_OUT."""
    return f"timed out after {work.timeout_s:g} s"


def left_text(left: Sequence[int]) -> str:
    """What is added to the reason of an attempt some of whose processes cannot be ended."""
    if not left:
        return ""
    some = ", ".join(map(str, left[:5])) + (" …" if len(left) > 5 else "")
    which = f"process {some} lives on" if len(left) == 1 else f"processes {some} live on"
    return f"; {which}, although killed (it waits for a device, is frozen, or is another user's)"


def how_it_died(subject: str, code: int) -> str:
    """A process's end in words, for example "worker killed by SIGKILL"."""
    if code >= 0:
        return f"{subject} exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{subject} killed by {name}"


def safe_text(error: BaseException) -> str:
    """str(error), or what can be said when the user's __str__ fails."""
    try:
        return "".join(str(error))  # also turns a subclass of str into text
    except BaseException as failed:  # noqa: BLE001 - __str__ is the user's code
        return f"<its __str__ raised {type(failed).__name__}>"


def one_line(text: str, limit: int = MESSAGE_CHARACTERS) -> str:
    """The text with line breaks made visible and its length bounded."""
    line = " ⏎ ".join(part for part in (line.strip() for line in text.splitlines()) if part)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def describe(error: BaseException, info: RunInfo) -> ErrorInfo:
    """An exception in words alone; never raises, whatever the exception's own methods do.

    Secrets are masked before a text is cut: what is left of one would not be found any more.
    """
    kind = type(error)
    types = tuple("".join(base.__name__) for base in kind.__mro__ if base not in (BaseException, object))
    words = partial(_in_words, info)
    return ErrorInfo(words(error), _traceback_text(error, info), types, to_json(trace_of(error, info.masked, words)))


def _in_words(info: RunInfo, error: BaseException) -> str:
    """`KeyError: 'b'`, on one line."""
    name, text = "".join(type(error).__name__), one_line(info.masked(safe_text(error)))
    return f"{name}: {text}" if text else name


def _traceback_text(error: BaseException, info: RunInfo) -> str:
    import traceback  # with linecache and tokenize: only a failure needs them

    try:
        text = "".join(traceback.format_exception(type(error), error, _without_ours(error.__traceback__)))
    except BaseException as failed:  # noqa: BLE001 - repr and str are the user's code
        try:
            frames = "".join(traceback.format_tb(_without_ours(error.__traceback__)))
        except BaseException:  # noqa: BLE001 - even the frames cannot be shown (for example, recursion)
            frames = ""
        text = f"{frames}{type(error).__name__} (showing it raised {type(failed).__name__})\n"
    text = info.masked(text)
    if len(text) <= TRACEBACK_CHARACTERS:
        return text
    half = TRACEBACK_CHARACTERS // 2 - 20
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters …\n{text[-half:]}"


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the user's first frame on; all of it when it is ours alone."""
    inner = trace
    while inner is not None and is_ours(inner.tb_frame):
        inner = inner.tb_next
    return inner or trace


def is_coroutine_function(func: Callable[..., Any]) -> bool:
    """Is it an `async def`, perhaps inside functools.partial, a method, or an object with __call__?"""
    while True:
        inner = func.func if isinstance(func, partial) else getattr(func, "__func__", None)
        if not callable(inner):
            break
        func = inner
    code = getattr(func, "__code__", None) or getattr(vars(type(func)).get("__call__"), "__code__", None)
    return isinstance(code, CodeType) and bool(code.co_flags & _CO_COROUTINE)
