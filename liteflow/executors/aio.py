"""Coroutine functions on one event loop in one daemon thread: thousands may wait at once."""

from __future__ import annotations

from contextvars import Context, ContextVar
from threading import Thread
from typing import Any

from liteflow.executors.attempt import Attempt, failure
from liteflow.executors.host_guards import without_input
from liteflow.executors.protocol import Backend, BackendContext
from liteflow.executors.stdout_capture import AttemptOutput, destination
from liteflow.executors.thread import Abandonable
from liteflow.work import Call, Outcome, Work

_CLOSE_S = 1.0
#: The node of the attempt to which a callback of the event loop belongs: tasks and callbacks inherit it.
_running_node: ContextVar[int] = ContextVar("liteflow_node", default=-1)


class AsyncBackend(Backend):
    """Runs coroutine functions. The thread of the event loop is started with the first one."""

    in_this_process = True

    def __init__(self, context: BackendContext) -> None:
        self._context = context
        self._attempts = Abandonable(context.outcomes, lambda: None)
        self._loop: Any = None  # asyncio's; imported with the first coroutine, because that takes 30 ms
        self._thread: Thread | None = None
        self._tasks: dict[int, Any] = {}  # by node; used in the loop's thread only, like the next two
        self._cancelled: set[int] = set()  # nodes that are cancelled
        self._exits: dict[int, BaseException] = {}  # by node: what a background of the attempt raised to exit

    def submit(self, work: Work) -> None:
        self._attempts.add(work)
        loop = self._loop or self._start_loop()
        loop.call_soon_threadsafe(self._begin, work)

    def _start_loop(self) -> Any:
        import asyncio

        loop = self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run_loop, args=(loop,), name="liteflow-loop", daemon=True)
        self._thread.start()
        return loop

    def _run_loop(self, loop: Any) -> None:
        import asyncio

        asyncio.set_event_loop(loop)
        try:
            self._run_until_stopped(loop)
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks, timeout=_CLOSE_S))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    # In the loop's thread

    def _run_until_stopped(self, loop: Any) -> None:
        """Run the loop until it is stopped. An exit in the background of a task ends that task."""
        while True:
            try:
                loop.run_forever()
                return
            except (KeyboardInterrupt, SystemExit) as error:
                node = _node_of(error)
                task = self._tasks.get(node)
                if task is None:
                    loop.call_exception_handler({"message": "code that no task waits for exits", "exception": error})
                else:
                    self._exits[node] = error
                    task.cancel()

    def _begin(self, work: Work) -> None:
        assert self._loop is not None
        task = self._tasks[work.node] = self._loop.create_task(self._run(work))
        task.add_done_callback(lambda done: self._forget(work.node, done))

    def _forget(self, node: int, task: Any) -> None:
        if self._tasks.get(node) is task:
            del self._tasks[node]
            self._cancelled.discard(node)
        if not task.cancelled():
            task.exception()  # fetched, so that asyncio does not report it

    async def _run(self, work: Work) -> None:
        submission = self._attempts.find(work.node)
        if submission is None or submission.work is not work:
            return  # cancelled before it started
        outcome = await self._attempt(work)
        if self._attempts.claim(submission):
            self._context.outcomes.post(outcome)

    async def _attempt(self, work: Work) -> Outcome:
        import asyncio

        without_input.set(True)
        _running_node.set(work.node)
        body, info = self._context.bodies[work.task_id], self._context.info
        output = AttemptOutput(work.log_path, info.masker) if work.log_path is not None else None
        destination.set(output)
        attempt = Attempt(work, info)
        assert isinstance(body, Call)
        try:
            outcome = await attempt.run_async(body)
        except asyncio.CancelledError as error:
            if work.node in self._cancelled:
                outcome = failure(work, "CANCELLED", "cancelled")
            else:  # the task has cancelled itself
                outcome = attempt.raised(error)
        if (exit_ := self._exits.pop(work.node, None)) is not None:
            outcome = attempt.raised(exit_, in_body=True)
        self._cancelled.discard(work.node)
        return outcome if output is None else output.close(outcome)

    def _cancel_task(self, node: int) -> None:
        task = self._tasks.get(node)
        if task is not None:
            self._cancelled.add(node)
            task.cancel()

    # In the caller's thread

    def cancel(self, node: int, grace_s: float) -> None:
        if self._loop is not None and self._attempts.find(node) is not None:
            self._loop.call_soon_threadsafe(self._cancel_task, node)
            self._attempts.abandon_after(node, grace_s if grace_s > 0 else 0.05)

    def close(self, grace_s: float) -> None:
        """Cancel all coroutines and stop the loop; a coroutine that blocks the loop is left to its daemon thread."""
        self._attempts.clear()
        if self._loop is not None and self._thread is not None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSE_S + max(grace_s, 0.0))


def _node_of(error: BaseException) -> int:
    """Return the node in whose background an error was raised through the loop; -1 when that is not known."""
    from asyncio import Handle

    trace = error.__traceback__
    while trace is not None:
        handle = trace.tb_frame.f_locals.get("self")
        if isinstance(handle, Handle):  # the callback that the loop was running
            context = getattr(handle, "_context", None)
            return context.get(_running_node, -1) if isinstance(context, Context) else -1
        trace = trace.tb_next
    return -1
