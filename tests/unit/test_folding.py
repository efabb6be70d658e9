"""Large pictures with fewer boxes: nothing is lost, every task has a place, and what was folded is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_kit import from_dependencies

from liteflow.pictures.boxes import critical_edges, with_boxes
from liteflow.pictures.folding import MOST_NODES, arranged, stacked
from liteflow.pictures.picture import Edge, Picture
from liteflow.record import replace


def fan(width: int, **fields: object) -> Picture:
    middle = {f"load_{number}": ["a"] for number in range(width)}
    return from_dependencies("fan", {"a": [], **middle, "z": list(middle)}, **fields)


def grouped() -> Picture:
    """Two nested groups between a first and a last task."""
    deps = {"a": [], "g.b": ["a"], "g.h.c": ["g.b"], "g.h.d": ["g.b"], "g.h": ["g.h.c", "g.h.d"], "g": ["g.h"]}
    rows = [{"id": "g", "gate": "group"}, {"id": "g.h", "gate": "group", "group": "g"}]
    rows += [{"id": "g.b", "group": "g"}, {"id": "g.h.c", "group": "g.h"}, {"id": "g.h.d", "group": "g.h"}]
    return with_boxes(from_dependencies("t", {**deps, "z": ["g"]}), rows)


def placed(picture: Picture) -> list[str]:
    return sorted(member for node in picture.nodes for member in (node.members or (node.task_id,)))


def test_tasks_that_are_alike_are_a_stack() -> None:
    picture = arranged(fan(1498))
    assert [(node.task_id, node.label, len(node.members)) for node in picture.nodes] == [
        ("a", "a", 0),
        ("load_0", "load_… ×1,498", 1498),
        ("z", "z", 0),
    ]
    assert picture.edges == (Edge("a", "load_0"), Edge("load_0", "z"))
    assert dict(picture.facts)["Folded"] == "1,500 tasks are drawn as 3 boxes"


def test_a_small_picture_stays_as_it_is() -> None:
    assert arranged(fan(20)) == fan(20)


def test_a_stack_can_be_unfolded_and_a_small_picture_folded() -> None:
    assert len(arranged(fan(300), "auto", {"load_0"}).nodes) == 302
    assert len(arranged(fan(20), "all").nodes) == 3
    assert len(arranged(fan(300), "none").nodes) == 302


def test_tasks_of_another_kind_or_with_other_ends_are_not_alike() -> None:
    kinds = {f"load_{number}": "sql" if number < 50 else "shell" for number in range(100)}
    assert len(stacked(fan(100, kinds=kinds)).nodes) == 4
    chain = {f"t{number}": [f"t{number - 1}"] if number else [] for number in range(50)}
    assert len(stacked(from_dependencies("t", chain)).nodes) == 50


def test_a_stack_has_the_states_of_its_tasks() -> None:
    statuses = {f"load_{number}": "SUCCESS" for number in range(100)} | {"load_7": "FAILED"}
    stack = arranged(fan(100, statuses=statuses)).nodes[1]
    assert (stack.status, stack.status_text) == ("FAILED", "1 of 100 failed")
    running = arranged(fan(100, statuses=statuses | {"load_8": "RUNNING"})).nodes[1]
    assert (running.status, running.detail) == ("RUNNING", "99/100 done, 1 running, 1 failed")


def test_groups_fold_and_unfold() -> None:
    whole = grouped()
    outer = arranged(whole, "all")
    assert [node.task_id for node in outer.nodes] == ["a", "z", "g"]
    assert placed(outer) == placed(whole)
    inner = arranged(whole, "all", {"g"})
    assert [box.group_id for box in inner.boxes] == ["g"]
    assert {node.task_id: node.group for node in inner.nodes} == {"a": "", "g.b": "g", "z": "", "g.h": "g"}
    assert arranged(whole, "auto", {"g.h"}) == replace(inner, facts=inner.facts)


def test_a_graph_beyond_every_limit_is_a_row_of_layers() -> None:
    mesh = {f"l{layer}_{place}": [f"l{layer - 1}_{place}", f"l{layer - 1}_{(place * 7 + 1) % 100}"] if layer else []
            for layer in range(100) for place in range(100)}  # fmt: skip
    picture = arranged(from_dependencies("mesh", mesh))
    assert len(picture.nodes) == 34
    assert picture.nodes[0].label == "layers 1–3"  # noqa: RUF001
    assert placed(picture) == sorted(mesh)
    assert len(picture.edges) == 33


def test_a_chain_too_long_to_draw_is_a_row_of_layers() -> None:
    chain = {f"t{number}": [f"t{number - 1}"] if number else [] for number in range(MOST_NODES + 1)}
    picture = arranged(from_dependencies("chain", chain), "none")
    assert len(picture.nodes) <= 40
    assert placed(picture) == sorted(chain)


@pytest.mark.parametrize("fold", ["auto", "none", "all"])
@given(data=st.data())
def test_every_task_has_one_place_and_every_edge_two_ends(fold: str, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 30))
    deps = {f"t{n}": [f"t{u}" for u in data.draw(st.sets(st.integers(0, n - 1), max_size=3))] if n else []
            for n in range(count)}  # fmt: skip
    toggled = data.draw(st.sets(st.sampled_from(sorted(deps)))) if deps else set()
    picture = arranged(from_dependencies("t", deps), fold, toggled)  # type: ignore[arg-type]
    assert placed(picture) == sorted(deps)
    assert {end for edge in picture.edges for end in (edge.source, edge.target)} <= set(picture.names())


def test_the_critical_path_leads_through_folds_and_boxes() -> None:
    whole = replace(grouped(), critical=("a", "g.b", "g.h.c", "z"))
    assert critical_edges(whole) >= {Edge("a", "g.b"), Edge("g", "z")}
    folded_picture = arranged(whole, "all")
    assert folded_picture.critical == ("a", "g", "z")
    assert critical_edges(folded_picture) == {Edge("a", "g"), Edge("g", "z")}


def test_a_group_of_tasks_that_are_alike_has_all_of_them() -> None:
    tasks = {f"g{group}.t{number}": [] for group in range(50) for number in range(10)}
    rows = [{"id": f"g{group}", "gate": "group"} for group in range(50)]
    rows += [{"id": task, "group": task.partition(".")[0]} for task in tasks]
    gates = {f"g{group}": [f"g{group}.t{number}" for number in range(10)] for group in range(50)}
    whole = with_boxes(from_dependencies("t", {**tasks, **gates}), rows)
    shown = arranged(whole)
    assert [(len(node.members), node.kind) for node in shown.nodes] == [(10, "group of 10 tasks")] * 50
    assert placed(shown) == sorted(tasks)
