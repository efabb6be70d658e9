"""The page in a real browser without a network: it draws, asks for nothing, and no label comes to life."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboard_kit import watch
from picture_kit import from_dependencies

from liteflow.pictures.mermaid import node_names
from liteflow.pictures.page import to_html
from liteflow.pictures.picture import STATUS_STYLES, Picture, clean

LABELS = [
    'say "hi"', "a] --> b", "end", '%%{init: {"theme":"dark"}}%%', "<script>boom()</script>",
    "<img src=x onerror=boom()>",
    "`**bold**`", "1. list", "- item", "# head", "fa:fa-car", "日本語 ünï", "a;b", "style x:#35;",
    'click t_a href "javascript:boom()"', "&lt;b&gt; &amp;", "#35;", "x\ny\\n z", "$$x^2$$",
    "__u__ *i*", "@{ shape: x }",
    "---", '"]:::x', "~~~", "|a|", "ﬂ°lt¶ßbﬂ°gt¶ß", "</script><script>boom()</script>", "<!--", "ends.", ".starts",
]  # fmt: skip


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A function that opens a picture. When the test ends, nothing may have gone wrong in the page."""
    trouble: list[str] = []
    contexts = []

    def opened(picture: Picture, scheme: str = "light") -> Any:
        file = tmp_path / "page.html"
        file.write_text(to_html(picture))
        context = browser.new_context(color_scheme=scheme, viewport={"width": 1200, "height": 800})
        contexts.append(context)
        context.set_offline(True)
        page = context.new_page()
        watch(page, trouble, lambda url: _refuse(url, trouble))
        page.goto(file.as_uri())
        page.wait_for_selector("#stage[data-done], .notice")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert trouble == []


def _refuse(url: str, trouble: list[str]) -> None:
    if not url.startswith(("file:", "data:,")):
        trouble.append(f"request: {url[:200]}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_has_its_colours(open_page: Any, scheme: str) -> None:
    graph = {state.lower(): [] if state == "PENDING" else ["pending"] for state in STATUS_STYLES}
    page = open_page(
        from_dependencies("states", graph, statuses={state.lower(): state for state in STATUS_STYLES}), scheme
    )
    assert page.locator("#stage g.node").count() == len(STATUS_STYLES)
    assert page.locator("#stage .edgePaths path").count() == len(STATUS_STYLES) - 1
    for look in STATUS_STYLES.values():
        fill = page.eval_on_selector(f"#stage g.node.{look.name} rect", "box => getComputedStyle(box).fill")
        wanted = (look.dark if scheme == "dark" else look.light).fill
        assert fill == f"rgb({', '.join(str(int(wanted[i : i + 2], 16)) for i in (1, 3, 5))})"


def test_labels_are_drawn_letter_by_letter_and_stay_dead(open_page: Any) -> None:
    graph = {f"h{i}": [f"h{i - 1}"] if i % 4 else [] for i in range(len(LABELS))}
    labels = {f"h{i}": label for i, label in enumerate(LABELS)}
    picture = from_dependencies('t"%%{init}%%\n---\n<b>', graph, labels=labels, details=labels, kinds=labels)
    page = open_page(picture)
    names = node_names(picture)
    for task_id, label in labels.items():
        drawn = page.eval_on_selector(f"g.node[id*='-{names[task_id]}-'] .nodeLabel p", "p => p.firstChild.textContent")
        assert drawn.replace("\u2060", "") == clean(label)
    assert page.locator("#stage :is(script, img, a, i, b, strong, em, ul, li, math)").count() == 0


def test_moving_finding_and_filtering(open_page: Any) -> None:
    graph = {"first": [], "second": ["first"], "third": ["second"]}
    page = open_page(from_dependencies("t", graph, statuses=dict.fromkeys(graph, "SUCCESS") | {"third": "FAILED"}))

    def view() -> str:
        return str(page.get_attribute("#stage svg", "viewBox"))

    start = view()
    page.click("#in")
    assert view() != start
    page.click("#fit")
    assert view() == start
    page.hover("#stage")
    page.mouse.down()
    page.mouse.move(300, 300)
    page.mouse.up()
    assert view() != start

    page.click("#fit")
    page.click("g.node.failed")
    assert page.inner_text("tr.on th") == "third"
    page.click("tr[data-node=t_first] .go")
    assert page.locator("g.node.on").get_attribute("id").endswith("t_first-0")

    page.click(".legend [data-state=FAILED]")
    assert page.locator("tbody tr:visible").count() == 1
    assert page.locator("g.node.dim").count() == 2
    page.click(".legend [data-state=FAILED]")
    assert page.locator("tbody tr:visible").count() == 3


def test_a_long_drawing_waits_for_a_click(open_page: Any) -> None:
    page = open_page(from_dependencies("t", {f"t{i}": [] for i in range(301)}))
    assert "about 8 s" in page.inner_text("#draw")
    assert page.locator("#stage svg").count() == 0
    assert page.locator("tbody tr").count() == 301


def test_a_page_without_a_drawing(open_page: Any) -> None:
    page = open_page(from_dependencies("t", {f"t{i}": [] for i in range(1600)}))
    assert page.locator("tbody tr").count() == 1600
    assert page.locator("#stage").count() == 0
