"""The machines of clusters: which of them runs each attempt, and how many slots there are, for those who read the file.

Other processes see a run through its state file. The loop looks at its clusters a few times a second, and stores the
changes that it sees; so attempts that end soon cost nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from liteflow.executors import Executor
from liteflow.executors.protocol import PlaceState
from liteflow.planning.plan import Plan
from liteflow.running.places import FarPlace, Places
from liteflow.running.recorder import Recorder


class Machines:
    """The part of the state file about the machines of one plan."""

    def __init__(
        self, *, plan: Plan, places: Places, clusters: Mapping[str, FarPlace], executor: Executor, recorder: Recorder
    ) -> None:
        """Take the parts of a run; `clusters` are the places that are clusters, by name."""
        self._table = plan.table
        self._places = places
        self._clusters = clusters
        self._executor = executor
        self._recorder = recorder
        self._seen: dict[tuple[int, int], str] = {}  # at the last look: the machine of each attempt, by node and number
        self._stored: set[tuple[int, int, str]] = set()  # those that are stored, of attempts that still run
        self._missing_since: dict[str, float] = {}  # by place: since when it has no machine, although one is wanted
        self._stored_places: list[dict[str, Any]] = []

    def look(self, now: float) -> None:
        """Record what has changed since the last look."""
        if self._clusters:
            states = self._executor.place_states()
            self._look_at_attempts(states, now)
            self._look_at_places(states, now)

    def _look_at_attempts(self, states: Mapping[str, PlaceState], now: float) -> None:
        """Record the machine of each attempt that was there at the last look, too."""
        attempts, stored = self._table.attempts, set[tuple[int, int, str]]()
        seen: dict[tuple[int, int], str] = {}
        for state in states.values():
            for node, host in state.hosts.items():
                key = (node, attempts[node])
                if self._places.is_queued(node):
                    continue  # the place has a free slot for it, which the state file does not have yet
                seen[key] = host
                if self._seen.get(key) == host:
                    stored.add((*key, host))
                    if (*key, host) not in self._stored:
                        self._recorder.note_host(node, host, now)
        self._seen, self._stored = seen, stored

    def _look_at_places(self, states: Mapping[str, PlaceState], now: float) -> None:
        """Record how many slots each place has, since when a machine is missing, and why."""
        missing = [name for name, state in states.items() if state.wanted and not state.slots]
        self._missing_since = {name: self._missing_since.get(name, now) for name in missing}
        places = [
            {
                "cluster": place.cluster,
                "resources": dict(place.resources),
                "slots": states[name].slots,
                "wanted": states[name].wanted,
                "missing_since": self._missing_since.get(name),
                "problem": states[name].problem,
            }
            for name, place in self._clusters.items()
        ]
        if places != self._stored_places:
            self._stored_places = places
            self._recorder.note_places(json.dumps(places, ensure_ascii=False))
