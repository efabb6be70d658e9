"""Places: on which machines the tasks of a run start, and how many more of them may start there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from liteflow.definition.compiled import CompiledDag, TaskSettings
from liteflow.executors import Executor
from liteflow.planning.ready_queue import QueueOptions, ReadyQueue
from liteflow.record import replace
from liteflow.running.config import RunConfig
from liteflow.work import stays_here

HERE: Final = ""
#: The mode of a task that stays here in a run whose mode is a cluster.
_MODE_HERE: Final = "process"


def far_tasks(compiled: CompiledDag, config: RunConfig) -> dict[int, str]:
    """Return the tasks that run on a cluster, by number, each with the name of the cluster."""
    if not config.clusters:
        return {}
    modes = ((node, _mode(task.settings, config)) for node, task in enumerate(compiled.tasks))
    return {
        node: mode
        for node, mode in modes
        if mode in config.clusters
        and compiled.tasks[node].settings.gate is None
        and not stays_here(compiled.tasks[node].body)
    }


def _mode(settings: TaskSettings, config: RunConfig) -> str:
    return config.mode if settings.mode is None else settings.mode


def modes_of(compiled: CompiledDag, config: RunConfig) -> str | Mapping[str, str]:
    """Return the execution mode of all tasks and hooks, or of each by id. Hooks stay here."""
    modes, clusters = compiled.modes(), config.clusters
    if not modes and not clusters:
        return config.mode
    by_id = {**dict.fromkeys(compiled.bodies(), config.mode), **modes}
    if not clusters:
        return by_id
    far = {compiled.graph.ids[node]: place for node, place in far_tasks(compiled, config).items()}
    return {task_id: far.get(task_id) or (_MODE_HERE if mode in clusters else mode) for task_id, mode in by_id.items()}


def with_places(options: Mapping[int, QueueOptions], far: Mapping[int, str]) -> Mapping[int, QueueOptions]:
    """Return the queue options of tasks, each with its place. Tasks with the same options share a record."""
    if not far:
        return options
    shared: dict[tuple[QueueOptions | None, str], QueueOptions] = {}
    placed = dict(options)
    for node, place in far.items():
        key = (options.get(node), place)
        if key not in shared:
            shared[key] = replace(key[0] or QueueOptions(), place=place)
        placed[node] = shared[key]
    return placed


class Places:
    """The places of a run: what the executor knows of their room goes to the plan, and what waits there to it."""

    def __init__(self, ready: ReadyQueue, executor: Executor, clusters: Iterable[str]) -> None:
        self._ready = ready
        self._executor = executor
        self._wanted = dict.fromkeys(clusters, 0)

    def measure(self) -> None:
        """Let as many tasks start in each place as it has free slots."""
        room = self._executor.room()
        for place in (HERE, *self._wanted):
            self._ready.resize(place, room.get(place, 0))

    def request(self) -> None:
        """Report to the executor how many tasks wait for each cluster, where that has changed."""
        for place, wanted in self._wanted.items():
            waiting = self._ready.waiting(place)
            if waiting != wanted:
                self._wanted[place] = waiting
                self._executor.want(place, waiting)
