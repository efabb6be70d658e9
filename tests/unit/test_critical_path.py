"""The critical path: from the last end back over the upstream that ended last."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from liteflow.planning.critical_path import critical_path


def test_it_follows_the_upstream_that_ended_last() -> None:
    upstream = {"a": [], "b": [], "c": ["a", "b"], "d": ["c"], "e": ["a"]}
    assert critical_path(upstream, {"a": 1, "b": 3, "c": 4, "d": 9, "e": 5}) == ["b", "c", "d"]


def test_nodes_without_an_end_are_passed_through() -> None:
    upstream = {"a": [], "b": [], "join": ["a", "b"], "entry": ["join"], "c": ["entry"], "skipped": ["c"]}
    assert critical_path(upstream, {"a": 5, "b": 3, "c": 6}) == ["a", "c"]


def test_a_run_without_an_end_has_none() -> None:
    assert critical_path({"a": [], "b": ["a"]}, {}) == []


def test_a_cycle_or_an_unknown_name_of_an_altered_file_ends_the_path() -> None:
    assert critical_path({"a": ["b"], "b": ["a"]}, {"a": 1, "b": 2}) == ["a", "b"]
    assert critical_path({"a": ["lost"], "g": ["g"]}, {"a": 1}) == ["a"]
    assert critical_path({"a": ["g"], "g": ["h"], "h": ["g"]}, {"a": 1}) == ["a"]


def test_a_chain_of_100_000_tasks_needs_no_recursion() -> None:
    upstream = {f"t{number}": [f"t{number - 1}"] if number else [] for number in range(100_000)}
    assert len(critical_path(upstream, {"t0": 1, "t99999": 2})) == 2


@given(st.data())
def test_each_step_is_the_last_end_above_it(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    upstream = {
        f"t{number}": [f"t{above}" for above in data.draw(st.sets(st.integers(0, number - 1)))] if number else []
        for number in range(count)
    }
    ended_at = {name: float(data.draw(st.integers(0, 5))) for name in upstream if data.draw(st.booleans())}
    path = critical_path(upstream, ended_at)

    def above(name: str) -> set[str]:
        found = set[str]()
        for each in upstream[name]:
            found |= {each} if each in ended_at else above(each)
        return found

    assert bool(path) == bool(ended_at)
    for source, target in pairwise(path):
        assert ended_at[source] == max(ended_at[each] for each in above(target))
    if path:
        assert ended_at[path[-1]] == max(ended_at.values())
        assert not above(path[0])
