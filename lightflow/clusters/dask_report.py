"""The report of the placer of a Dask cluster about its slots: how many there are, and why some have no worker yet.

It is said when the scheduler agrees: it has forgotten a slot some time after the placer has, and until then the slot
counts.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

_FORGET_S: Final = 0.02  # how often the scheduler has to say whether it has forgotten a slot
_ANSWER_S: Final = 5.0  # how long it may take to answer
_MISSING_S: Final = 1.0  # how often it has to say why no worker takes a slot


class SlotReport:
    """Says to the owner how many slots there are, whenever that changes, from a thread of its own."""

    def __init__(self, client: Any, resources: Mapping[str, int]) -> None:
        """Take a client, and what each slot takes of its worker."""
        self._client = client
        self._resources = resources
        self._changed = threading.Condition()
        self._changes = 0
        self._number = 0  # of the last line of the owner that was handled
        self._existing = 0
        self._held_count = 0
        self._dropped: set[str] = set()  # slots that the scheduler may still have
        self._missing = ""  # why no worker has taken the others, the last time there were some
        self._last_line: dict[str, Any] = {}
        threading.Thread(target=self._run, name="lightflow-report", daemon=True).start()

    def change(self, number: int, existing: int, held: int) -> None:
        """Note how many slots there are after a line of the owner, without those that were dropped.

        `held` is how many of them a worker has taken.
        """
        with self._changed:
            if held > self._held_count:
                self._missing = ""
            self._number, self._existing, self._held_count = number, existing, held
            self._changes += 1
            self._changed.notify()

    def drop(self, slot: str) -> None:
        """Note that a slot is dropped; the scheduler has it until it knows that. A call of `change` follows."""
        with self._changed:
            self._dropped.add(slot)

    def _run(self) -> None:
        while True:
            with self._changed:
                changes, dropped = self._changes, [*self._dropped]
            forgotten = self._forgotten(dropped) if dropped else ()
            with self._changed:
                self._dropped.difference_update(forgotten)
                self._say()
                is_missing = self._existing > self._held_count
                pause_s = _FORGET_S if self._dropped else _MISSING_S if is_missing else None
                has_changed = self._await_change(changes, pause_s)
            if is_missing and not has_changed and not dropped:
                self._missing = self._reason()

    def _await_change(self, changes: int, pause_s: float | None) -> bool:
        """Wait for a change after so many, at most so long. Return whether there is one."""
        return self._changed.wait_for(lambda: self._changes != changes, pause_s)

    def _forgotten(self, slots: Sequence[str]) -> list[str]:
        """Return which of some slots the scheduler does not have."""
        try:
            statuses = self._ask(self._client.scheduler.get_task_status, keys=slots)
        except Exception:  # noqa: BLE001 - of a library: the scheduler does not answer
            return []
        return [slot for slot in slots if statuses.get(slot) is None]

    def _say(self) -> None:
        facts = {"slots": self._existing + len(self._dropped), "held": self._held_count, "number": self._number}
        line = {**facts, "missing": self._missing}
        if line != self._last_line:
            self._last_line = line
            say(line)

    def _ask(self, question: Callable[..., Any], **parts: Any) -> Any:
        """Return what the scheduler answers; one that is stopped, or out of reach, never does."""
        return self._client.sync(question, callback_timeout=_ANSWER_S, **parts)

    def _reason(self) -> str:
        """Return why no worker takes a slot."""
        try:
            workers = self._ask(self._client.scheduler.identity)["workers"].values()
        except Exception:  # noqa: BLE001 - of a library: the scheduler does not answer
            return "the scheduler of Dask does not answer"
        return reason_of([worker["resources"] for worker in workers], self._resources)


def reason_of(workers: Sequence[Mapping[str, float]], needs: Mapping[str, int]) -> str:
    """Return why none of the workers takes a slot, by the resources that each has, and those that the slot takes."""
    if not workers:
        return "the scheduler of Dask has no worker"
    able = [has for has in workers if all(has.get(name, 0) >= count for name, count in needs.items())]
    what = " and ".join(f"{count} {name}" for name, count in needs.items())
    if not able:
        return f"no worker of Dask has {what}"
    count = "the worker" if len(able) == 1 else f"the {len(able)} workers"
    verb = "is" if len(able) == 1 else "are"
    return f"{count} of Dask {f'with {what} ' if what else ''}{verb} busy with other tasks"


def say(message: Mapping[str, Any]) -> None:
    """Write a line for the owner."""
    with suppress(OSError):  # the owner is dead
        os.write(1, json.dumps(message).encode() + b"\n")
