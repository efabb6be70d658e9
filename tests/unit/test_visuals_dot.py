"""DOT text: right, stable, safe; Graphviz itself is the judge of its syntax."""

from __future__ import annotations

import re

import pytest
from picture_kit import from_dependencies

from lightflow.visuals.dot import node_ids, to_dot
from liteflow.pictures.picture import Picture

pygraphviz = pytest.importorskip("pygraphviz")

HOSTILE = [
    '"',
    "\\",
    "\\N \\G \\l",
    "<b>&amp;</b>",
    "]; x -> y [URL=javascript:alert(1)]",
    "-->",
    "日本",
    "",
    "\x00",
    "a\nb",
]


def run_of(label: str) -> Picture:
    return from_dependencies(
        label, {"a": [], "b": ["a"]}, labels={"a": label}, kinds={"a": label}, statuses={"b": label}, subtitle=label
    )


def test_every_node_can_be_found_by_a_page() -> None:
    text = to_dot(from_dependencies("t", {"a.b-c": [], "d": ["a.b-c"]}, statuses={"d": "UP_FOR_RETRY"}))
    assert '"task-a.b-c" [id="task-a.b-c", class="task state-plain"' in text
    assert 'id="task-d", class="task state-retry"' in text
    assert '"task-a.b-c" -> "task-d"' in text


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_text_stays_text(label: str) -> None:
    graph = pygraphviz.AGraph(string=to_dot(run_of(label)))
    assert sorted(graph.nodes()) == ["task-a", "task-b"]
    assert graph.number_of_edges() == 1
    assert not any(node.attr["URL"] or node.attr["href"] for node in graph.nodes())


def test_a_task_id_against_the_rules_is_numbered() -> None:
    picture = from_dependencies("t", {'x" [URL="y"]': [], "ok": []})
    assert node_ids(picture) == {'x" [URL="y"]': "task~0", "ok": "task-ok"}


def test_the_same_picture_gives_the_same_text() -> None:
    assert to_dot(run_of("x")) == to_dot(run_of("x"))


def test_direction_follows_the_shape() -> None:
    chain = {f"t{i}": [f"t{i - 1}"] if i else [] for i in range(40)}
    assert 'rankdir="TB"' in to_dot(from_dependencies("t", chain))
    wide = {"a": [], **{f"b{i}": ["a"] for i in range(40)}}
    assert 'rankdir="LR"' in to_dot(from_dependencies("t", wide))


def test_large_graphs_get_straight_lines() -> None:
    assert 'splines="line"' in to_dot(from_dependencies("t", {f"t{i}": [] for i in range(500)}))


def test_a_wide_script_gets_a_wider_box() -> None:
    def width(label: str) -> float:
        result = re.search(r", width=([\d.]+)", to_dot(from_dependencies("t", {"a": []}, labels={"a": label})))
        assert result
        return float(result[1])

    assert width("日" * 10) > width("m" * 10) > width("i" * 10)
