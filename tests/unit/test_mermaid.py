"""Mermaid text: right, stable, and nothing a label holds means anything. (That Mermaid agrees: test_page_browser.)"""

from __future__ import annotations

import re

import pytest
from picture_kit import from_dependencies

from liteflow.pictures.mermaid import node_names, to_mermaid

HOSTILE = [
    'say "hi"', "a] --> b", "end", '%%{init: {"theme":"dark"}}%%', "<script>alert(1)</script>", "`**bold**`",
    "1. list", "- item", "fa:fa-car", "日本語", "a;b", "style x:#35;", 'click a href "javascript:alert(1)"',
    "&lt;b&gt;", "#35;", "x\ny\\n", "$$x^2$$", "", "\u202eevil", "@{ shape: x }", "---", '"]:::x', "~~~", "|a|",
    "\x00", "\ud800",
    "ﬂ°lt¶ßscriptﬂ°gt¶ß",
]  # fmt: skip
LINE = re.compile(
    r"""---|title:\ "(?:[^"\\]|\\.)*"|flowchart\ (LR|TD)
    |\ {4}t_\w+\["([\w\ ,().]|[^\x00-\x7f]|\#\d+;|<br/>)+"\]
    |\ {4}t_\w+\ -->\ t_\w+
    |\ {4}classDef\ [a-z]+\ [\w:\#,.\ -]+
    |\ {4}class\ [\w,]+\ [a-z]+""",
    re.VERBOSE,
)


def test_the_text_of_a_small_run() -> None:
    picture = from_dependencies(
        "etl",
        {"get": [], "put.it": ["get"]},
        statuses={"get": "SUCCESS", "put.it": "UPSTREAM_FAILED"},
        durations={"get": 1},
    )
    assert to_mermaid(picture).splitlines() == [
        "---",
        'title: "etl"',
        "---",
        "flowchart LR",
        '    t_get["get<br/>✓ success · 1.00 s"]',
        '    t_put_it["put.it<br/>⊘ upstream failed"]',
        "    t_get --> t_put_it",
        "    classDef success fill:#d6f2e7,stroke:#00845f,color:#05412f,stroke-width:1.5px",
        "    class t_get success",
        "    classDef upstream fill:#fbe4de,stroke:#b3261e,color:#6b1712,stroke-width:1.5px,stroke-dasharray:5 4",
        "    class t_put_it upstream",
    ]


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_labels_and_titles_are_inert(label: str) -> None:
    picture = from_dependencies(
        label, {"a": [], "b": ["a"]}, labels={"a": label}, kinds={"a": label}, statuses={"b": label}
    )
    text = to_mermaid(picture)
    text.encode()  # no lone surrogate gets out
    for line in text.splitlines():
        assert LINE.fullmatch(line), line
    assert not re.search("ﬂ°|¶ß", text.split("flowchart", 1)[1])
    assert "%%" not in text


@pytest.mark.parametrize("task_id", ["end", "graph", "o", "x--y", "default", "a.b", "class", "_", "ä\n]"])
def test_no_task_id_is_a_word_of_mermaid(task_id: str) -> None:
    name = node_names(from_dependencies("t", {task_id: []}))[task_id]
    assert re.fullmatch(r"t_[A-Za-z0-9_]*", name)


def test_names_that_fall_together_stay_apart() -> None:
    ids = ["a.b", "a-b", "a_b", "a_b__2", *(chr(0x4E00 + i) for i in range(3000))]
    names = node_names(from_dependencies("t", dict.fromkeys(ids, ())))
    assert len(set(names.values())) == len(ids)


def test_the_same_picture_gives_the_same_text() -> None:
    first = from_dependencies("t", {"a": [], "b": ["a"], "c": ["b", "a"]}, statuses={"a": "SUCCESS"})
    again = from_dependencies("t", {"a": [], "b": ["a"], "c": ["a", "b"]}, statuses={"a": "SUCCESS"})
    assert to_mermaid(first) == to_mermaid(again)
    assert "classDef" not in to_mermaid(first, styled=False)


def test_no_tasks_is_still_a_flowchart() -> None:
    assert "flowchart" in to_mermaid(from_dependencies("empty", {}))
