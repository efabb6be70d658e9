"""Graphs against naive oracles, and at full size."""

from __future__ import annotations

import graphlib
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liteflow.errors import CycleError, UnknownDependency
from liteflow.planning.graph import Graph, unknown_dependency


@st.composite
def dependencies(draw: st.DrawFn, cyclic: bool = False, most: int = 8) -> dict[str, list[str]]:
    size = draw(st.integers(0, most))
    names = [f"t{number}" for number in draw(st.permutations(range(size)))]
    pairs = list(itertools.product(range(size), repeat=2))
    chosen = draw(st.sets(st.sampled_from(pairs))) if pairs else set()
    result: dict[str, list[str]] = {name: [] for name in sorted(names)}
    for first, second in sorted(chosen):
        if cyclic or first > second:
            result[names[first]].append(names[second])
    return result


@given(dependencies())
def test_an_acyclic_graph_is_numbered_and_ordered(wanted: dict[str, list[str]]) -> None:
    graph = Graph(wanted)
    assert graph.ids == list(wanted)
    assert len(graph) == len(wanted)
    assert {graph.ids[node]: {graph.ids[up] for up in above} for node, above in enumerate(graph.upstream)} == {
        name: set(above) for name, above in wanted.items()
    }
    assert sorted(graph.order) == list(range(len(wanted)))
    place = {node: number for number, node in enumerate(graph.order)}
    for node, above in enumerate(graph.upstream):
        for other in above:
            assert place[other] < place[node]
            assert node in graph.downstream[other]
    assert sum(map(len, graph.downstream)) == sum(map(len, graph.upstream))
    waited_for = {name for above in wanted.values() for name in above}
    assert graph.leaves() == [node for node, name in enumerate(graph.ids) if name not in waited_for]


@given(dependencies())
def test_levels_are_longest_paths(wanted: dict[str, list[str]]) -> None:
    def depth(name: str) -> int:
        return max((depth(above) + 1 for above in wanted[name]), default=0)

    graph = Graph(wanted)
    levels = graph.levels()
    assert all(levels)  # no empty row
    assert {graph.ids[node]: row for row, nodes in enumerate(levels) for node in nodes} == {
        name: depth(name) for name in wanted
    }


def shortest_cycle(wanted: dict[str, list[str]]) -> int:
    """Brute force: walk every start breadth first. The length of a shortest cycle, 0 for none."""
    best = 0
    for start in wanted:
        reached, steps = set(wanted[start]), 1
        seen: set[str] = set()
        while reached - seen and start not in reached:
            seen |= reached
            reached = {below for name in reached for below in wanted[name]}
            steps += 1
        if start in reached and (not best or steps < best):
            best = steps
    return best


@given(dependencies(cyclic=True, most=6))
def test_a_reported_cycle_exists_and_none_is_shorter(wanted: dict[str, list[str]]) -> None:
    length = shortest_cycle(wanted)
    if not length:
        Graph(wanted)
        return
    with pytest.raises(CycleError) as caught:
        Graph(wanted)
    path = caught.value.path
    assert path[0] == path[-1]
    assert len(path) == length + 1
    assert len(set(path)) == length
    steps = list(itertools.pairwise(path))
    forward = all(first in wanted[second] for first, second in steps)  # the arrow as `>>` writes it
    assert forward, path


def test_a_sparse_cyclic_graph_has_its_shortest_cycle_found() -> None:
    """Larger ones than the property test draws: long rings with chords."""
    picks = random.Random(7)
    for _ in range(40):
        size = picks.randint(10, 60)
        wanted = {f"t{n}": [f"t{(n + 1) % size}"] for n in range(size)}
        for _ in range(picks.randint(0, 3)):
            a, b = picks.sample(range(size), 2)
            wanted[f"t{a}"].append(f"t{b}")
        with pytest.raises(CycleError) as caught:
            Graph(wanted)
        assert len(caught.value.path) - 1 == shortest_cycle(wanted)


def test_a_task_that_depends_on_itself() -> None:
    with pytest.raises(CycleError) as caught:
        Graph({"a": [], "b": ["b"]})
    assert caught.value.path == ["b", "b"]


def test_a_cycle_is_a_graphlib_cycle_error() -> None:
    for kind in (graphlib.CycleError, ValueError):
        with pytest.raises(kind, match="cycle"):
            Graph({"a": ["b"], "b": ["a"]})


def test_tasks_that_only_wait_for_the_cycle_are_not_in_it() -> None:
    with pytest.raises(CycleError) as caught:
        Graph({"x": ["a"], "y": ["x"], "a": ["b"], "b": ["a"]})
    assert set(caught.value.path) == {"a", "b"}


def test_a_huge_cycle_makes_no_huge_message() -> None:
    size = 100_000
    with pytest.raises(CycleError) as caught:
        Graph({f"t{n}": [f"t{(n + 1) % size}"] for n in range(size)})
    assert len(caught.value.path) == size + 1
    assert len(str(caught.value)) < 400


def test_a_dense_graph_of_cycles_is_checked_quickly() -> None:
    size = 400
    with pytest.raises(CycleError) as caught:
        Graph({f"t{n}": [f"t{m}" for m in range(size) if m != n] for n in range(size)})
    assert len(caught.value.path) == 3


def test_an_unknown_dependency_names_both_and_the_nearest() -> None:
    with pytest.raises(UnknownDependency, match=r"'train'.*'fetch_dta'.*did you mean 'fetch_data'") as caught:
        Graph({"fetch_data": [], "train": ["fetch_dta"]})
    assert isinstance(caught.value, ValueError)


def test_an_unknown_dependency_like_no_other_has_no_hint() -> None:
    with pytest.raises(UnknownDependency, match=r"does not exist$"):
        Graph({"a": ["quite-different"]})


def test_unknown_dependency_among_100_000_names_is_found_quickly() -> None:
    names = (f"task_{number}" for number in range(100_000))
    assert "did you mean 'task_17'" in str(unknown_dependency("x", "tsk_17", names))


def test_an_edge_named_twice_counts_once() -> None:
    graph = Graph({"a": [], "b": ["a", "a"]})
    assert graph.upstream[1] == (0,)
    assert graph.downstream[0] == [1]


def test_an_empty_graph() -> None:
    graph = Graph({})
    assert (graph.order, graph.levels(), graph.leaves(), len(graph)) == ([], [], [], 0)


def test_free_tasks_stay_in_the_order_they_were_defined() -> None:
    names = [f"t{number}" for number in range(50)]
    random.Random(3).shuffle(names)
    graph = Graph(dict.fromkeys(names, ()))
    assert [graph.ids[node] for node in graph.order] == names


@pytest.mark.parametrize("shape", ["chain", "backward chain", "fan", "join"])
def test_100_000_tasks(shape: str) -> None:
    size = 100_000
    wanted: dict[str, list[str]] = {
        "chain": {f"t{n}": [f"t{n - 1}"] if n else [] for n in range(size)},
        "backward chain": {f"t{n}": [f"t{n + 1}"] if n < size - 1 else [] for n in range(size)},
        "fan": {f"t{n}": ["t0"] if n else [] for n in range(size)},
        "join": {**{f"t{n}": [] for n in range(size - 1)}, "last": [f"t{n}" for n in range(size - 1)]},
    }[shape]
    graph = Graph(wanted)
    assert len(graph.order) == size
    assert len(graph.levels()) == (size if "chain" in shape else 2)
