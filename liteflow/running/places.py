"""Places: on which machines the tasks of a run start, and how many more of them may start there."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from liteflow.definition.compiled import CompiledDag, TaskSettings
from liteflow.executors import Executor
from liteflow.limits import pool_resources, taken_resources
from liteflow.planning.plan import Plan
from liteflow.planning.ready_queue import QueueOptions
from liteflow.record import EMPTY_MAPPING, Record, replace
from liteflow.running.config import RunConfig
from liteflow.running.prefetch import FAR, NEAR, NONE, Prefetch
from liteflow.work import stays_here

HERE: Final = ""
#: Where the queue of ready tasks counts the room of each place.
NO_LIMIT: Final = sys.maxsize
#: The mode of a task that stays here in a run whose mode is a cluster.
_MODE_HERE: Final = "process"


class FarPlace(NamedTuple):
    """A cluster, as far as its machines have what some tasks take."""

    cluster: str  #: its name
    resources: tuple[tuple[str, int], ...]  #: that each slot takes of its machine, with their numbers, sorted by name


class FarTasks(Record):
    """The tasks of a run that leave this machine, and where they run."""

    places: Sequence[str] = ()  #: of each task by number; empty: this machine
    clusters: Mapping[str, Any] = EMPTY_MAPPING  #: by place
    far_places: Mapping[str, FarPlace] = EMPTY_MAPPING  #: by place


def far_tasks(compiled: CompiledDag, config: RunConfig) -> FarTasks:
    """Return the tasks that run on clusters.

    Tasks that take resources of their machines have a cluster of their own, whose slots have these resources.
    """
    if not config.clusters:
        return FarTasks()
    resources = pool_resources(compiled.pools)
    places = [HERE] * len(compiled.tasks)
    clusters: dict[str, Any] = {}
    far_places: dict[str, FarPlace] = {}
    for node, task in zip(compiled.graph.index.values(), compiled.tasks, strict=True):
        name = _mode(task.settings, config)
        if name in config.clusters and task.settings.gate is None and not stays_here(task.body):
            cluster, needs = config.clusters[name], task.settings.queue.needs
            amounts = taken_resources(needs, resources) if needs and cluster.takes_resources else ()
            words = [f"{resource}={count}" for resource, count in amounts]
            place = places[node] = " ".join([name, *words]) if words else name
            if place not in clusters:
                clusters[place] = replace(cluster, argv=(*cluster.argv, *words)) if words else cluster
                far_places[place] = FarPlace(name, amounts)
    return FarTasks(places=places, clusters=clusters, far_places=far_places)


def _mode(settings: TaskSettings, config: RunConfig) -> str:
    return config.mode if settings.mode is None else settings.mode


def modes_of(compiled: CompiledDag, config: RunConfig, far: FarTasks) -> str | Mapping[str, str]:
    """Return the execution mode of all tasks and hooks, or of each by id. Hooks stay here."""
    modes, clusters = compiled.modes(), config.clusters
    if not modes and not clusters:
        return config.mode
    by_id = {**dict.fromkeys(compiled.bodies(), config.mode), **modes}
    if not clusters:
        return by_id
    places = dict(zip(compiled.graph.ids, far.places, strict=True))
    return {name: places.get(name) or (_MODE_HERE if mode in clusters else mode) for name, mode in by_id.items()}


def with_places(options: Mapping[int, QueueOptions], places: Sequence[str]) -> Mapping[int, QueueOptions]:
    """Return the queue options of tasks, each with its place. Tasks with the same options share a record."""
    if not any(places):
        return options
    shared: dict[tuple[QueueOptions | None, str], QueueOptions] = {}
    placed = dict(options)
    for node, place in enumerate(places):
        if place == HERE:
            continue
        key = (options.get(node), place)
        if key not in shared:
            shared[key] = replace(key[0] or QueueOptions(), place=place)
        placed[node] = shared[key]
    return placed


class Places:
    """The places of a run: how many slots each has free, and which attempts it was given beyond them.

    What the executor knows of their room goes to the plan, and what waits there to the executor. In a run without
    clusters the number of workers is the limit.
    """

    def __init__(self, plan: Plan, executor: Executor, workers: int, *, prefetches: bool) -> None:
        """Take the parts of a run, and whether attempts may be handed out beyond the slots.

        In a run with clusters they are handed out in advance there only.
        """
        self._running = plan.running
        self._ready = plan.ready
        self._executor = executor
        self._workers = workers
        self._wanted = dict.fromkeys(self._ready.clusters(), 0)
        is_near = prefetches and not self._wanted and executor.queues
        self._prefetches = {HERE: Prefetch(NEAR if is_near else NONE)}
        self._prefetches.update((name, Prefetch(FAR if prefetches else NONE)) for name in self._wanted)

    def place(self, node: int) -> str:
        """Return the place of a task."""
        return self._ready.options(node).place if self._wanted else HERE

    def prefetch(self, node: int) -> Prefetch:
        """Return the queue of the place of a task."""
        return self._prefetches[self.place(node)]

    def is_queued(self, node: int) -> bool:
        """Return whether the attempt of a task is QUEUED in the state file."""
        return node in self.prefetch(node).queued

    def promoted(self) -> list[tuple[int, str | None]]:
        """Look how many slots are free, and return the queued attempts that have one now, with their log files."""
        if not self._wanted:
            self._prefetches[HERE].free = self._workers - len(self._running)
        else:
            room = self._executor.room()
            for place, prefetch in self._prefetches.items():
                prefetch.free = room.get(place, 0)
        return [each for prefetch in self._prefetches.values() for each in prefetch.promote()]

    def room(self) -> int:
        """Return how many tasks more may start. The queue of ready tasks counts those of each place of several."""
        if not self._wanted:
            return self._prefetches[HERE].room()
        for place, prefetch in self._prefetches.items():
            self._ready.resize(place, max(0, prefetch.room()))
        return NO_LIMIT

    def request(self) -> None:
        """Report to the executor how many tasks wait for each cluster, where that has changed."""
        for place, wanted in self._wanted.items():
            waiting = self._ready.waiting(place)
            if waiting != wanted:
                self._wanted[place] = waiting
                self._executor.want(place, waiting)
