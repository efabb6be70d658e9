"""What may be said of a task's place in a run beside its trigger rule, by number. Pure.

Branches and short circuits (`Decider`), failures that do not count (`Tolerance`), setup and teardown. Hooks and
conditions are questions to the world, not to the graph: see `hooks` and `gates`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

#: Ends the reason of a task that failed and counts as a success for the tasks below and for the run.
FORGIVEN: Final = "the run goes on as if it had succeeded (continue_on_error)"


class Tolerance(NamedTuple):
    """Which failures of a task count as a success for others; with neither list, any."""

    exit_codes: tuple[int, ...] = ()
    errors: tuple[str, ...] = ()  # class names of exceptions

    def covers(self, error_types: Sequence[str], exit_code: int | None) -> bool:
        """Is this failure one of them?"""
        if not self.exit_codes and not self.errors:
            return True
        return exit_code in self.exit_codes or any(name in self.errors for name in error_types)


class Decider(NamedTuple):
    """A task whose value decides which of those below are skipped."""

    kind: Literal["branch", "short_circuit"]
    every: bool = True  # a short circuit skips all that follow, whatever their rule; else only the next


class Teardown(NamedTuple):
    """A task that takes down what `setups` have set up."""

    setups: tuple[int, ...] = ()
    counts: bool = False  # its failure fails the run


class Control(NamedTuple):
    """What the plan knows of a graph beside its edges and rules.

    `gated` are tasks that ask a question when their rule lets them run. `needs` are the setups that a task stands on
    without waiting for them directly: it does not run before them, nor without them. `watchers` have been asked how
    what they wait for has ended: that they ran changes nothing about a failure of those. `setups` are all that set
    something up.
    """

    gated: Collection[int] = frozenset()
    tolerant: Mapping[int, Tolerance] = {}
    teardowns: Mapping[int, Teardown] = {}
    needs: Mapping[int, Sequence[int]] = {}
    watchers: frozenset[int] = frozenset()
    setups: frozenset[int] = frozenset()

    def repeats(self, node: int) -> bool:
        """May the task succeed more than once in a run?"""
        return node in self.setups or node in self.teardowns


NO_CONTROL: Final = Control()


def effective(status: str, tolerated: bool) -> str:
    """Return the status that a task's downstreams see."""
    return "SUCCESS" if tolerated else status


class WrongDecision(ValueError):
    """The value of a branch names what is not there; the message says so."""


def chosen_names(value: Any) -> list[str]:
    """The ids that a branch returned: None, one id, or several.

    Raises:
        WrongDecision: it is something else.
    """
    if value is None or value == "":
        return []
    names = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    for name in names:
        if not isinstance(name, str):
            raise WrongDecision(f"a branch returns the id of a task, a list of ids, or None, not {name!r}")
    return names


def skipped_by(
    decider: Decider,
    node: int,
    value: Any,
    ids: Sequence[str],
    downstream: Sequence[Sequence[int]],
    kept: Collection[int],
) -> dict[int, str]:
    """Which tasks a decision skips, each with the reason; `kept` (teardowns) never are.

    A branch skips those directly below that it did not choose, save what can be reached from one that it chose.

    Raises:
        WrongDecision: a branch names a task that is not directly below it.
    """
    below = downstream[node]
    if decider.kind == "short_circuit":
        if value:
            return {}
        found = reachable(below, downstream) if decider.every else dict.fromkeys(below)
        return dict.fromkeys(
            (one for one in found if one not in kept), f"short circuit: {ids[node]} returned {value!r}"
        )
    names = chosen_names(value)
    known = {ids[one]: one for one in below}
    for name in names:
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known) or 'none'}"
            raise WrongDecision(f"the branch chose {name!r}, which is not a task directly below it{hint}")
    followed = reachable([known[name] for name in names], downstream)
    reason = f"branch {ids[node]} chose {', '.join(names) if names else 'nothing'}"
    return {one: reason for one in below if one not in followed and one not in kept}


def reachable(starts: Sequence[int], edges: Sequence[Sequence[int]]) -> dict[int, None]:
    """All that can be reached along the edges, the starts included."""
    found = dict.fromkeys(starts)
    waiting = list(found)
    for node in waiting:  # grows meanwhile
        for other in edges[node]:
            if other not in found:
                found[other] = None
                waiting.append(other)
    return found


def between(setups: Sequence[int], teardown: int, upstream: Sequence[Sequence[int]], downstream: Any) -> list[int]:
    """The tasks on the ways from a teardown's setups to it: it waits for all of them."""
    above = reachable([teardown], upstream)
    below = reachable(list(setups), downstream)
    return [node for node in below if node in above and node != teardown]


def needed_setups(
    setups: Collection[int],
    teardowns: Mapping[int, Teardown],
    upstream: Sequence[Sequence[int]],
    downstream: Sequence[Sequence[int]],
) -> dict[int, list[int]]:
    """For each task the setups that it stands on without waiting for them directly.

    It stands on a setup that is above it and has not been taken down before it.
    """
    found: dict[int, list[int]] = {}
    for setup in setups:
        downs = [node for node, teardown in teardowns.items() if setup in teardown.setups]
        scope = reachable(downs, upstream) if downs else None
        for node in reachable([setup], downstream):
            inside = scope is None or node in scope
            if node != setup and inside and node not in teardowns and setup not in upstream[node]:
                found.setdefault(node, []).append(setup)
    return found


def to_set_up_again(
    control: Control,
    upstream: Sequence[Sequence[int]],
    downstream: Sequence[Sequence[int]],
    to_do: Collection[int],
    taken_down: Collection[int],
) -> set[int]:
    """Which setups and teardowns a run that goes on does once more.

    `to_do` are the tasks that have still to run, `taken_down` the teardowns that have begun since their setups have
    succeeded. Where something has to run that stands on what was taken down, that is set up again, with the setups that
    stand on it, and taken down again in the end. Other tasks keep their success: what they did is not undone by us.
    """
    again: set[int] = set()
    scopes = {node: between(control.teardowns[node].setups, node, upstream, downstream) for node in taken_down}
    inner = {one for node in taken_down for one in control.teardowns[node].setups}  # those have rules of their own
    grown = True
    while grown:  # what is set up again may itself stand on something that was taken down
        before = len(again)
        for node, scope in scopes.items():
            setups = control.teardowns[node].setups
            wanted = [one for one in scope if (one in to_do or one in again) and one not in control.teardowns]
            if not wanted:
                continue
            needed = reachable(wanted, upstream)
            again.update((node, *setups))
            again.update(one for one in scope if one in control.setups - inner and one in needed)
        grown = len(again) > before
    return again
