"""One attempt of a Python task, and outcomes in words: the same in every backend.

The result is always an `Outcome`: values are encoded and errors described where the function ran,
so that only plain data travels.
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
from typing import Any

from liteflow.context import TaskContext, active_context
from liteflow.errors import InputError, PayloadError, SkipTask, TaskFailed
from liteflow.executors.host_guards import ExitCalled
from liteflow.outputs import discard, exists, printed, take
from liteflow.processes.forks import end_fork, exit_code
from liteflow.states import Verdict
from liteflow.traces import is_engine_frame, to_json, trace_of
from liteflow.values.payload import Payload, decode, encode
from liteflow.work import (
    KEYWORDS,
    Call,
    ErrorInfo,
    Item,
    Outcome,
    Ref,
    RunInfo,
    Waiting,
    Work,
    complete_body,
    input_name,
)

TRACEBACK_CHARACTERS = 64 * 1024
MESSAGE_CHARACTERS = 2000
_CODE_CHARACTERS = 100
_MAX_CODES = 20
_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE, without importing inspect


class Terminated(SystemExit):
    """SIGTERM has arrived in a worker: the `finally` blocks of the task run, then the worker ends."""


def fill(value: Any, inputs: Mapping[str, Any], items: Mapping[str, Any]) -> Any:
    """Return the value with every Ref and Item replaced, at any depth of lists, tuples and dicts, which are copied."""
    kind = type(value)
    if kind is Ref:  # without an input the upstream returned None, which is not stored, or was skipped
        return inputs.get(input_name(value))
    if kind is Item:
        item = items[value.name]
        for function in value.maps:
            item = function(item)
        return item
    if kind is list:
        return [fill(item, inputs, items) for item in value]
    if kind is dict:
        return {key: fill(item, inputs, items) for key, item in value.items()}
    if isinstance(value, tuple):
        if kind is tuple:
            return tuple([fill(item, inputs, items) for item in value])
        if hasattr(kind, "_fields"):
            return kind(*[fill(item, inputs, items) for item in value])
    return value


def _decoded(payloads: Mapping[str, Payload] | None) -> dict[str, Any]:
    return {name: decode(payload) for name, payload in payloads.items()} if payloads else {}


def _with_keywords(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with the items of the one named `**` among them. Raises InputError."""
    keywords = arguments.pop(KEYWORDS)
    if not isinstance(keywords, Mapping) or not all(isinstance(name, str) for name in keywords):
        kind = type(keywords).__name__
        raise InputError(f"expand_kwargs() takes a list of mappings of argument names to values; one item is {kind}")
    twice = arguments.keys() & keywords.keys()
    if twice:
        raise InputError(f"argument {min(twice)!r} is given twice: by partial() and by expand_kwargs()")
    return {**arguments, **keywords}


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
        """Run the function, and a coroutine that it returns in an event loop of its own.

        The next task does not see the context variables (`contextvars`) that it sets.
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
        except BaseException as error:  # noqa: BLE001 - every error of user code is an outcome
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
        except BaseException as error:  # noqa: BLE001 - every error of user code is an outcome
            self._end_if_fork(error)
            return self.raised(error, in_body=in_body)

    def _end_if_fork(self, error: BaseException | None) -> None:
        """End this process if the task has forked it and the function has returned in it, too."""
        if os.getpid() != self._pid:
            end_fork(error and error.with_traceback(_user_traceback(error.__traceback__)))

    def complete_body(self, body: Call) -> Call:
        """Return the call with its deferred part evaluated, if it has one. Raises InputError."""
        if body.params is not None:
            self._context.params = body.params
        return complete_body(body, self._info, self._work)

    def arguments(self, body: Call) -> dict[str, Any]:
        """Return the keyword arguments, with upstream values in place of Refs. Raises PayloadError."""
        if not body.kwargs:
            return {}
        inputs, items = _decoded(self._work.inputs), _decoded(self._work.items)
        arguments = {name: fill(value, inputs, items) for name, value in body.kwargs.items()}
        return arguments if KEYWORDS not in arguments else _with_keywords(arguments)

    def returned(self, value: Any) -> Outcome:
        """Return the outcome of a function that returned. Raises PayloadError when the value cannot be stored."""
        if isinstance(value, Waiting):
            return self.outcome("LOST")._replace(waiting=self._info.stored_wait(value))
        payload = None if value is None else encode(value, self._info.values_dir, self._info.masker)
        return self.outcome("SUCCESS", value=payload)

    def raised(self, error: BaseException, *, in_body: bool = False) -> Outcome:
        """Return the outcome of an error. `sys.exit(0)` is a success if the function called it (`in_body`)."""
        if isinstance(error, SkipTask):
            text = self._info.masked(safe_text(error))
            return self.outcome("SKIPPED", error=ErrorInfo(one_line(text), "", ("SkipTask",)))
        if isinstance(error, TaskFailed):
            code = error.exit_code if isinstance(error.exit_code, int) else None
            return self.outcome("FAILED", error=_task_failure(error, self._info), exit_code=code)
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
        """Return an outcome that ends now; only a success has the values that were pushed."""
        pushed = self._context.pushed if verdict == "SUCCESS" and self._context.pushed else None
        work = self._work
        outcome = Outcome(
            work.node, work.attempt, verdict, value, pushed, error, exit_code, self._started_at, time.time(), None
        )  # positional: keywords take half a microsecond more, for each task
        path = self._context.requested_output
        return outcome if path is None else with_outputs(outcome, path, self._info)


def _run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end; in a thread of its own where this one runs an event loop, as in a notebook."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    values: list[Any] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            values.append(asyncio.run(coroutine))
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread of the task
            errors.append(error)

    thread = threading.Thread(target=copy_context().run, args=(body,), name="liteflow-coroutine", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return values[0]


def with_outputs(
    outcome: Outcome,
    path: str | None,
    info: RunInfo,
    value_from: str | None = None,
    *,
    masked: Sequence[str] = (),
    size_bytes: int = 0,
) -> Outcome:
    """Return the outcome of an attempt with the values of its output file, which is removed; a failure has no values.

    Values that the function returned or pushed override those of the file. With `value_from` the return value is read
    from the printed output (see `outputs.printed`), unless the file has one; `masked` names the secrets in the output,
    `size_bytes` is its length. A file with errors fails the attempt, and so does a value whose output was lost.
    """
    if path is not None and not exists(path):
        path = None
    if outcome.verdict != "SUCCESS":
        if path is not None:
            discard(path)
        return outcome
    if path is None and value_from is None:
        return outcome
    try:
        values = {} if path is None else take(path, info)
        value = values.pop("return_value", None)
        if value_from is not None and value is None:
            if outcome.log_lost is not None:
                raise PayloadError(f"output: not all printed output could be stored: {outcome.log_lost}")
            value = printed(value_from, outcome.log_path, info, masked=masked, size_bytes=size_bytes)
    except PayloadError as error:
        info_of_error = ErrorInfo(one_line(str(error)), "", ("PayloadError", "LiteflowError", "Exception"))
        return outcome._replace(verdict="FAILED", value=None, pushed=None, error=info_of_error)
    if outcome.value is not None:
        value = outcome.value
    return outcome._replace(value=value, pushed={**values, **(outcome.pushed or {})} or None)


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
        node=work.node,
        attempt=work.attempt,
        verdict=verdict,
        value=None,
        pushed=None,
        error=ErrorInfo(message),
        exit_code=exit_code,
        started_at=now if started_at is None else started_at,
        ended_at=now if ended_at is None else ended_at,
        log_path=log_path,
        log_lost=log_lost,
    )


def cancelled_in_queue(work: Work) -> Outcome:
    """Return the outcome of an attempt that was cancelled before it started."""
    return failure(work, "CANCELLED", "cancelled before it started")._replace(started_at=None)


def timeout_message(work: Work) -> str:
    """Return the message of an attempt that is TIMED_OUT."""
    return f"timed out after {work.timeout_s:g} s"


def survivors_text(survivors: Sequence[int]) -> str:
    """Return the addition to the message of an attempt some of whose processes cannot be killed."""
    if not survivors:
        return ""
    pids = ", ".join(map(str, survivors[:5])) + (" …" if len(survivors) > 5 else "")
    subject = f"process {pids} lives on" if len(survivors) == 1 else f"processes {pids} live on"
    return f"; {subject}, although killed (it waits for a device, is frozen, or is another user's)"


def death_text(subject: str, code: int) -> str:
    """Return the end of a process in words, for example "worker killed by SIGKILL"."""
    if code >= 0:
        return f"{subject} exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{subject} killed by {name}"


def safe_text(error: BaseException) -> str:
    """Return `str(error)`, or a text about the user's `__str__` if that fails."""
    try:
        return "".join(str(error))  # also turns a subclass of str into text
    except BaseException as second:  # noqa: BLE001 - __str__ is the user's code
        return f"<its __str__ raised {type(second).__name__}>"


def one_line(text: str, limit: int = MESSAGE_CHARACTERS) -> str:
    """Return the text on one line, with visible line breaks and a bounded length."""
    line = " ⏎ ".join(part for part in (line.strip() for line in text.splitlines()) if part)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def describe(error: BaseException, info: RunInfo) -> ErrorInfo:
    """Return an exception as text; never raises, even if the exception's own methods do.

    Secrets are masked before a text is cut, because a part of a secret is not recognised.
    """
    words, types = partial(_in_words, info), _class_names(type(error))
    return ErrorInfo(words(error), _traceback_text(error, info), types, to_json(trace_of(error, info.masked, words)))


def _task_failure(error: TaskFailed, info: RunInfo) -> ErrorInfo:
    """Return the failure that a task has described itself: its message is complete without a traceback."""
    text = info.masked(safe_text(error)) or type(error).__name__
    wait = error.retry_after_s
    return ErrorInfo(
        one_line(text),
        text[:TRACEBACK_CHARACTERS] if "\n" in text else "",
        _class_names(type(error)),
        codes=tuple(one_line(info.masked(str(code)), _CODE_CHARACTERS) for code in error.codes[:_MAX_CODES]),
        retry_after_s=wait if isinstance(wait, int | float) and 0 <= wait < float("inf") else None,
        final=bool(error.final),
    )


def _class_names(kind: type[BaseException]) -> tuple[str, ...]:
    return tuple("".join(base.__name__) for base in kind.__mro__ if base not in (BaseException, object))


def _in_words(info: RunInfo, error: BaseException) -> str:
    """Return an exception on one line: `KeyError: 'b'`."""
    name, text = "".join(type(error).__name__), one_line(info.masked(safe_text(error)))
    return f"{name}: {text}" if text else name


def _traceback_text(error: BaseException, info: RunInfo) -> str:
    import traceback  # with linecache and tokenize: only a failure needs them

    try:
        text = "".join(traceback.format_exception(type(error), error, _user_traceback(error.__traceback__)))
    except BaseException as second:  # noqa: BLE001 - repr and str are the user's code
        try:
            frames = "".join(traceback.format_tb(_user_traceback(error.__traceback__)))
        except BaseException:  # noqa: BLE001 - the frames cannot be formatted either (for example, recursion)
            frames = ""
        text = f"{frames}{type(error).__name__} (showing it raised {type(second).__name__})\n"
    text = info.masked(text)
    if len(text) <= TRACEBACK_CHARACTERS:
        return text
    half = TRACEBACK_CHARACTERS // 2 - 20
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters …\n{text[-half:]}"


def _user_traceback(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame of user code on; all of it when there is none."""
    inner = trace
    while inner is not None and is_engine_frame(inner.tb_frame):
        inner = inner.tb_next
    return inner or trace


def is_coroutine_function(func: Callable[..., Any]) -> bool:
    """Return whether a function is `async def`, also within functools.partial, a method, or an object's __call__."""
    while True:
        inner = func.func if isinstance(func, partial) else getattr(func, "__func__", None)
        if not callable(inner):
            break
        func = inner
    code = getattr(func, "__code__", None) or getattr(vars(type(func)).get("__call__"), "__code__", None)
    return isinstance(code, CodeType) and bool(code.co_flags & _CO_COROUTINE)
