"""How a dag runs a part of a stored run again, and changes a run that no process owns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from liteflow.dagrun import DagRun
from liteflow.definition.compiled import CompiledDag
from liteflow.definition.task import Task, check_id
from liteflow.planning.task_table import instance_name
from liteflow.running.arguments import new_run_id as new_id
from liteflow.state.history import History, RunRecord


class DagReruns(Protocol):
    """A dag, as far as its runs are run again."""

    def resume(self, run_id: str | None = None, *arguments: Any, **options: Any) -> DagRun: ...

    def _state_file(self) -> str: ...

    def _state_file_for_run(self) -> str: ...

    def _compile_for_run(self) -> CompiledDag: ...

    def _checked_params(self, params: Mapping[str, Any], moment: float | None) -> Mapping[str, Any]: ...

    def _previous_run(self, path: str, run_id: str | None) -> RunRecord: ...

    def retry(
        self,
        run_id: str | None = None,
        start: str | Task | Sequence[str | Task] = (),
        *,
        only: bool = False,
        changed: bool = False,
        ignore_upstream: bool = False,
        **options: Any,
    ) -> DagRun:
        """Run a part of a run again, by default of the latest: `dag.retry(run_id, start=["transform"])`.

        The tasks `start` run again, and all that follow them; what else has ended stays as it is. A task that succeeded
        runs in a new round: its earlier attempts stay, its values are deleted. Without `start` and `changed` it is
        `resume`: all that did not succeed runs.

        Args:
            start: tasks, ids, patterns such as `load_*`, and instances of mapped tasks: `fetch[3]` or `fetch[eu]`.
            only: what follows does not run again; it is stale then.
            changed: also run the tasks whose definition has changed since the run was started or resumed.
            ignore_upstream: let the tasks run although an upstream task did not succeed.
            options: see `resume`.

        Raises:
            DefinitionError: there is no such task, or its upstream tasks do not let it run.
            All others: as `resume`.
        """
        names = _ids(start)
        if not names and not changed:
            return self.resume(run_id, **options)
        from liteflow.state.reruns import changed_tasks, rerun_of, targets_of  # here, because a run does not need it

        previous = self._previous_run(self._state_file_for_run(), run_id)
        compiled = self._compile_for_run()
        with History(self._state_file()) as history:
            chosen = targets_of(history, previous, names, compiled.graph.ids)
            if changed:
                chosen |= dict.fromkeys(changed_tasks(history, previous, compiled.snapshot))
        if not chosen:
            return DagRun.from_record(self._state_file(), previous)
        words = "because of changes:" if changed else "only" if only else "from"
        rerun = rerun_of(chosen, words, follow=not only, ignore_upstream=ignore_upstream)
        return self.resume(previous.run_id, rerun=rerun, **options)

    def fork(
        self,
        run_id: str,
        start: str | Task | Sequence[str | Task],
        *,
        params: Mapping[str, Any] = MappingProxyType({}),
        new_run_id: str | None = None,
        **options: Any,
    ) -> DagRun:
        """Start a new run from the middle of another one: `dag.fork(run_id, ["transform"], params={"rows": 10})`.

        The tasks `start`, all that follow them, and all that did not succeed run. Results of the others are copied.
        The parameters are those of the other run, changed by `params`. The names are those of `retry`, the `options`
        those of `resume`.

        Raises:
            DefinitionError: there is no such task, or a value to copy no longer exists; nothing is stored.
            ParamError: a parameter is not valid.
            RunNotFound, StoreError, ResourceError: as `resume`.
        """
        from liteflow.running.forking import store_fork  # here, because a run does not need it

        path = self._state_file_for_run()
        previous, compiled = self._previous_run(path, run_id), self._compile_for_run()
        values = self._checked_params({**previous.params, **params}, previous.logical_date)
        fork_id = check_id(new_run_id if new_run_id is not None else new_id(), "run id")
        store_fork(path, compiled, previous, fork_id, _ids(start), values)
        return self.resume(fork_id, **options)

    def clear(self, run_id: str, start: str | Task | Sequence[str | Task], *, only: bool = False) -> list[str]:
        """Set tasks of a run, and what follows them, back to PENDING without running them: `resume` does.

        The arguments are those of `retry`. Returns the names of what was set back.

        Raises:
            DefinitionError: there is no such task. RunNotFound, RunOwned: as `resume`.
        """
        from liteflow.state.reruns import clear, rerun_of, targets_of

        previous, path = self._previous_run(self._state_file(), run_id), self._state_file()
        names = _ids(start)
        with History(path) as history:
            chosen = targets_of(history, previous, names)
        keys = clear(path, previous.run_id, rerun_of(chosen, "only" if only else "from", follow=not only))
        return [instance_name(*key) for key in keys]

    def mark(
        self,
        run_id: str,
        tasks: str | Task | Sequence[str | Task],
        status: str,
        *,
        reason: str = "",
        values: Mapping[str, Any] = MappingProxyType({}),
    ) -> list[str]:
        """Give tasks of a run the status "success", "failed" or "skipped" by hand, and return their names.

        `values` are values of a success by key: `{"return_value": 3}`. A resume runs the tasks that
        did not run because of a marked task.

        Raises:
            DefinitionError: there is no such task or status. RunNotFound, RunOwned: as `resume`.
        """
        from liteflow.state.reruns import checked_mark, mark, marked_reason, targets_of

        previous, path = self._previous_run(self._state_file(), run_id), self._state_file()
        names = _ids(tasks)
        with History(path) as history:
            chosen = targets_of(history, previous, names)
        word, payloads = checked_mark(path, previous.run_id, status, values)
        keys = mark(path, previous.run_id, chosen, word, reason=marked_reason(reason), values=payloads)
        return [instance_name(*key) for key in keys]


def _ids(names: str | Task | Sequence[str | Task]) -> list[str]:
    """Return the ids of tasks, and names as they are."""
    listed = [names] if isinstance(names, str | Task) else names
    return [name if isinstance(name, str) else name.task_id for name in listed]
