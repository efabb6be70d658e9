"""`GET /metrics` in the text format of Prometheus: counts of the server, and of the state file at that time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import Final

from liteflow.api import FireStatistics, History

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_MOST_LABELS: Final = 1000  # workflows and pools; the rest is left out, so that a scrape stays small
_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_LATE_BOUNDS: Final = (0.01, 0.1, 1.0, 10.0, 60.0, 300.0)
_NO_FIRES: Final = FireStatistics(0, {}, (0,) * (len(_LATE_BOUNDS) + 1), 0.0)


class Metrics:
    """The counts of the server itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: Counter[float] = Counter()
        self._seconds = 0.0
        self.stream_clients = 0
        self._decided = ("", _NO_FIRES)  # the generation of the state file, and its fires that change no longer

    def count(self, method: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        with self._lock:
            self._requests[method, status] += 1
            self._seconds += seconds
            self._buckets[next((bound for bound in _BOUNDS if seconds <= bound), float("inf"))] += 1

    def text(self, db: str, version: str, generation: str) -> str:
        """Return all metrics; the generation changes when another file replaces the state file.

        Raises:
            StoreError: the state file cannot be read.
        """
        lines = [*self._server_lines(version)]
        with History(db) as history, history.snapshot():
            lines += _file_lines(history, self._fires(history, generation))
        return "\n".join([*lines, ""])

    def _fires(self, history: History, generation: str) -> FireStatistics:
        """Return the statistics of all fires. Those that are decided are read once."""
        generation_before, decided = self._decided
        if generation_before != generation:
            decided = _NO_FIRES
        oldest_open = history.first_open_fire()
        decided = decided.plus(history.fire_statistics(_LATE_BOUNDS, decided.through, oldest_open))
        self._decided = (generation, decided)
        if oldest_open is None:
            return decided
        return decided.plus(history.fire_statistics(_LATE_BOUNDS, oldest_open - 1))

    def _server_lines(self, version: str) -> Iterable[str]:
        yield from _head("lightflow_build_info", "gauge", "The version of Lightflow.")
        yield f'lightflow_build_info{{version="{_escaped(version)}"}} 1'
        yield from _head("lightflow_stream_clients", "gauge", "Clients that follow the live feed.")
        yield f"lightflow_stream_clients {self.stream_clients}"
        with self._lock:
            requests, buckets, seconds = dict(self._requests), dict(self._buckets), self._seconds
        yield from _head("lightflow_http_requests_total", "counter", "Answered requests.")
        for (method, status), number in sorted(requests.items()):
            yield f'lightflow_http_requests_total{{method="{method}",status="{status}"}} {number}'
        yield from _head("lightflow_http_seconds", "histogram", "Time until the answer of a request began.")
        total = 0
        for bound in (*_BOUNDS, float("inf")):
            total += buckets.get(bound, 0)
            label = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield f'lightflow_http_seconds_bucket{{le="{label}"}} {total}'
        yield f"lightflow_http_seconds_sum {seconds:.6f}"
        yield f"lightflow_http_seconds_count {total}"


def _file_lines(history: History, fires: FireStatistics) -> Iterable[str]:
    runs = history.run_statistics()
    yield from _head("lightflow_runs", "gauge", "Runs in the state file, by workflow and state.")
    for dag_id, status, number, _ in runs[:_MOST_LABELS]:
        yield f'lightflow_runs{{workflow="{_escaped(dag_id)}",state="{_escaped(status)}"}} {number}'
    yield from _head("lightflow_run_seconds_sum", "gauge", "The total time of the runs that have ended.")
    for dag_id, status, _, seconds in runs[:_MOST_LABELS]:
        if seconds is not None:
            labels = f'workflow="{_escaped(dag_id)}",state="{_escaped(status)}"'
            yield f"lightflow_run_seconds_sum{{{labels}}} {seconds:.3f}"
    yield from _head("lightflow_tasks_running", "gauge", "Task instances that are running.")
    yield f"lightflow_tasks_running {history.running_tasks()}"
    yield from _head("lightflow_fires", "gauge", "Fires of triggers, by state.")
    for status, number in sorted(fires.counts.items()):
        yield f'lightflow_fires{{state="{_escaped(status)}"}} {number}'
    yield from _head("lightflow_triggers_broken", "gauge", "Triggers that cannot fire, by workflow.")
    for dag_id, number in sorted(history.broken_triggers().items())[:_MOST_LABELS]:
        yield f'lightflow_triggers_broken{{workflow="{_escaped(dag_id)}"}} {number}'
    yield from _delay_lines(fires)
    used = Counter[str]()
    for slot in history.slots():
        if slot.taken_at is not None:
            used[slot.pool] += slot.slots
    yield from _head("lightflow_pool_slots", "gauge", "Slots of pools: all, and those in use.")
    for pool in history.pools()[:_MOST_LABELS]:
        name = _escaped(pool.name)
        yield f'lightflow_pool_slots{{pool="{name}",kind="all"}} {pool.slots}'
        yield f'lightflow_pool_slots{{pool="{name}",kind="used"}} {used[pool.name]}'


def _delay_lines(fires: FireStatistics) -> Iterable[str]:
    yield from _head("lightflow_fire_lateness_seconds", "histogram", "From the moment a fire was due to its claim.")
    for bound, number in zip((*_LATE_BOUNDS, float("inf")), fires.delays, strict=True):
        label = "+Inf" if bound == float("inf") else f"{bound:g}"
        yield f'lightflow_fire_lateness_seconds_bucket{{le="{label}"}} {number}'
    yield f"lightflow_fire_lateness_seconds_sum {fires.seconds:.6f}"
    yield f"lightflow_fire_lateness_seconds_count {fires.delays[-1]}"


def _head(name: str, kind: str, about: str) -> tuple[str, str]:
    return f"# HELP {name} {about}", f"# TYPE {name} {kind}"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
