"""Coroutine functions on one event loop in one daemon thread: thousands may wait at once.

Functions that are not coroutines would block the loop; they are given to the thread lane.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context, ContextVar
from threading import Thread
from typing import Any

from liteflow.executors.base import Attempt, Lane, failure, is_coroutine_function
from liteflow.executors.host import without_input
from liteflow.executors.inbox import Inbox
from liteflow.executors.stdout_capture import AttemptOutput, destination
from liteflow.executors.thread import Abandonable, ThreadLane
from liteflow.work import Call, Outcome, RunInfo, Work

_CLOSE_S = 1.0
#: The node of the attempt to which a callback of the loop belongs: tasks and callbacks inherit it.
_running_node: ContextVar[int] = ContextVar("liteflow_node", default=-1)


class AsyncLane(Lane):
    """The loop's thread is started with the first coroutine."""

    def __init__(self, inbox: Inbox, calls: Mapping[str, Call], info: RunInfo, threads: ThreadLane) -> None:
        self._inbox = inbox
        self._calls = calls
        self._info = info
        self._threads = threads
        self._book = Abandonable(inbox, lambda: None)
        self._is_coroutine = {task_id: is_coroutine_function(call.func) for task_id, call in calls.items()}
        self._loop: Any = None  # asyncio's; imported with the first coroutine, because that takes 30 ms
        self._thread: Thread | None = None
        self._tasks: dict[int, Any] = {}  # by node; used in the loop's thread only, like the next two
        self._cancelled: set[int] = set()  # nodes that were told to stop
        self._exits: dict[int, BaseException] = {}  # by node: what their background raised to end the program

    def submit(self, work: Work) -> None:
        if not self._is_coroutine[work.task_id]:
            self._threads.submit(work)
            return
        self._book.begin(work)
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
        """Run the loop until it is stopped. What would end a program, in the background of a task, ends that task."""
        while True:
            try:
                loop.run_forever()
                return
            except (KeyboardInterrupt, SystemExit) as error:
                node = _node_of(error)
                task = self._tasks.get(node)
                if task is None:
                    loop.call_exception_handler(
                        {"message": "something that no task waits for exits", "exception": error}
                    )
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
        entry = self._book.find(work.node)
        if entry is None or entry.work is not work:
            return  # cancelled before it began
        outcome = await self._attempt(work)
        if self._book.claim(entry):
            self._inbox.post(outcome)

    async def _attempt(self, work: Work) -> Outcome:
        import asyncio

        without_input.set(True)
        _running_node.set(work.node)
        output = AttemptOutput(work.log_path, self._info.masker) if work.log_path is not None else None
        destination.set(output)
        attempt = Attempt(work, self._info)
        try:
            outcome = await attempt.run_async(self._calls[work.task_id])
        except asyncio.CancelledError as error:
            if work.node in self._cancelled:
                outcome = failure(work, "CANCELLED", "cancelled")
            else:  # by its own doing
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
        if self._book.find(node) is None or self._loop is None:
            self._threads.cancel(node, grace_s)
            return
        self._loop.call_soon_threadsafe(self._cancel_task, node)
        self._book.abandon_after(node, grace_s if grace_s > 0 else 0.05)

    def close(self, grace_s: float) -> None:
        """Cancel all coroutines and stop the loop; one that blocks it is left to its daemon thread."""
        self._book.clear()
        if self._loop is not None and self._thread is not None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSE_S + max(grace_s, 0.0))


def _node_of(error: BaseException) -> int:
    """The node in whose background something was raised through the loop; -1 when that cannot be told."""
    from asyncio import Handle

    trace = error.__traceback__
    while trace is not None:
        handle = trace.tb_frame.f_locals.get("self")
        if isinstance(handle, Handle):  # what the loop was calling
            context = getattr(handle, "_context", None)
            return context.get(_running_node, -1) if isinstance(context, Context) else -1
        trace = trace.tb_next
    return -1
