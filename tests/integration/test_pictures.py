"""Real files from real Graphviz, and the page as a document."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import time
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import pytest
from picture_kit import from_dependencies

from lightflow.visuals.dag_viewer import write_picture
from liteflow.pictures.page import DRAWN_NODES, to_html
from liteflow.pictures.picture import STATUS_STYLES, Picture

SVG = "{http://www.w3.org/2000/svg}"
MERMAID_11_17_2 = "581ed7d74bd9048d0e3a91363927d72ef22942d7722546b27f7cc29e35390eb8"
BAD = '<script>alert("x")</script> & \\N %%{init}%% \x1b'


def layered(width: int, layers: int) -> dict[str, list[str]]:
    graph: dict[str, list[str]] = {}
    for layer in range(layers):
        for place in range(width):
            above = {f"l{layer - 1}.t{(place + step) % width}" for step in (0, 7)} if layer else set()
            graph[f"l{layer}.t{place}"] = sorted(above)
    return graph


@pytest.fixture
def every_state() -> Picture:
    graph = {state.lower(): [] if state == "PENDING" else ["pending"] for state in STATUS_STYLES}
    return from_dependencies(
        BAD,
        graph,
        statuses={state.lower(): state for state in STATUS_STYLES},
        labels={"failed": BAD},
        details={"failed": BAD},
        durations={"success": 2.5},
        facts=[("Run", BAD)],
        status="FAILED",
    )


class TestGraphviz:
    @pytest.fixture(autouse=True)
    def _graphviz(self) -> None:
        pytest.importorskip("pygraphviz")

    def test_svg(self, tmp_path: Path, every_state: Picture) -> None:
        write_picture(every_state, tmp_path / "a.svg")
        text = (tmp_path / "a.svg").read_text()
        root = ElementTree.fromstring(text)
        assert root.get("role") == "img"
        assert root[0].tag == f"{SVG}title"
        groups = {group.get("id"): group for group in root.iter(f"{SVG}g")}
        for state, look in STATUS_STYLES.items():
            group = groups[f"task-{state.lower()}"]
            assert f"state-{look.name}" in group.get("class", "")
            assert look.word in "".join(group.itertext())
            assert any(shape.get("fill") == look.light.fill for shape in group.iter(f"{SVG}path"))
        title = groups["task-success"].find(f"{SVG}title")
        assert title is not None
        assert title.text == "success\n✓ success · 2.50 s"
        tags = {element.tag.removeprefix(SVG) for element in root.iter()}
        assert tags <= {"svg", "g", "title", "path", "polygon", "polyline", "text"}
        assert "DOCTYPE" not in text
        assert "href" not in text
        assert "\x1b" not in text
        assert "\\N" in "".join(groups["task-failed"].itertext())

    def test_text_fits_its_box(self, tmp_path: Path) -> None:
        graph: dict[str, list[str]] = {"mmmmmmmmmmmmmmmmWWWW": [], "iiiiiiii": [], "a": []}
        write_picture(
            from_dependencies("t", graph, statuses=dict.fromkeys(graph, "UPSTREAM_FAILED")), tmp_path / "a.svg"
        )
        for group in ElementTree.parse(tmp_path / "a.svg").iter(f"{SVG}g"):
            path = group.find(f"{SVG}path")
            if path is None or "task" not in group.get("class", ""):
                continue
            across = [float(pair.split(",")[0]) for pair in re.findall(r"-?[\d.]+,-?[\d.]+", path.get("d", ""))]
            room = max(across) - min(across)
            for text in group.iter(f"{SVG}text"):
                content = text.text or ""
                widest = 0.95 if content[0] == "m" else 0.55  # em of a bold m and of running text
                assert len(content) * widest * float(text.get("font-size", "0")) < room, content

    def test_png_and_pdf(self, tmp_path: Path, every_state: Picture) -> None:
        write_picture(every_state, tmp_path / "a.png")
        write_picture(every_state, tmp_path / "a.pdf")
        png, pdf = (tmp_path / "a.png").read_bytes(), (tmp_path / "a.pdf").read_bytes()
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", png[16:24])
        assert width > 400
        assert height > 200
        assert len(png) > 10_000
        assert pdf.startswith(b"%PDF-")
        assert len(pdf) > 5_000

    def test_the_same_picture_gives_the_same_svg(self, tmp_path: Path, every_state: Picture) -> None:
        write_picture(every_state, tmp_path / "a.svg")
        write_picture(every_state, tmp_path / "b.svg")
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()

    def test_nothing_to_draw_is_still_a_picture(self, tmp_path: Path) -> None:
        write_picture(from_dependencies("", {}), tmp_path / "a.svg")
        assert "<svg" in (tmp_path / "a.svg").read_text()

    def test_two_thousand_tasks(self, tmp_path: Path) -> None:
        started = time.monotonic()
        write_picture(from_dependencies("big", layered(40, 50)), tmp_path / "a.svg")
        assert time.monotonic() - started < 30  # 2 s on an idle machine
        assert (tmp_path / "a.svg").read_text().count('class="node task ') == 2000


class Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts[-1] += data
        elif self._in != "style":
            self.words.append(data)


class TestPage:
    def test_the_policy_allows_its_own_scripts_and_nothing_else(self, every_state: Picture) -> None:
        page = Reader(to_html(every_state))
        policy = next(attrs["content"] or "" for tag, attrs in page.tags if attrs.get("http-equiv"))
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert len(page.scripts) == 2
        for script in page.scripts:
            assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
        assert "unsafe-inline" not in policy.split("style-src")[0]
        assert "unsafe-eval" not in policy
        for tag, attrs in page.tags:
            assert not any(name.startswith("on") or name == "src" for name in attrs), (tag, attrs)
            assert attrs.get("href") in (None, "data:,")

    def test_task_text_is_text(self, every_state: Picture) -> None:
        page = to_html(every_state)
        assert "alert" not in "".join(script for script in Reader(page).scripts if len(script) < 100_000)
        assert '<script>alert("x")' not in page
        assert any('<script>alert("x")</script>' in word for word in Reader(page).words)

    def test_the_table_is_complete(self, every_state: Picture) -> None:
        words = " ".join(Reader(to_html(every_state)).words)
        for look in STATUS_STYLES.values():
            assert f"{look.sign} {look.word}" in words
        assert "2.50 s" in words

    def test_a_graph_too_large_to_draw_is_a_table(self) -> None:
        text = to_html(from_dependencies("big", {f"t{i}": [] for i in range(DRAWN_NODES + 1)}))
        page = Reader(text)
        assert len(page.scripts) == 1
        assert len(text) < 1_000_000
        assert sum(tag == "tr" for tag, _ in page.tags) == DRAWN_NODES + 2
        assert "too many for a browser to draw" in " ".join(page.words)

    def test_many_dependencies_of_one_task_are_counted_not_listed(self) -> None:
        graph: dict[str, list[str]] = {f"t{i}": [] for i in range(50)}
        assert "and 38 more" in to_html(from_dependencies("t", graph | {"z": list(graph)}))

    def test_no_tasks(self) -> None:
        assert "has no tasks" in to_html(from_dependencies("empty", {}))

    def test_the_same_picture_gives_the_same_page(self, every_state: Picture) -> None:
        assert to_html(every_state) == to_html(every_state)


def test_the_library_in_the_package_is_the_one_recorded() -> None:
    assets = resources.files("liteflow") / "assets"
    assert hashlib.sha256((assets / "mermaid.min.js").read_bytes()).hexdigest() == MERMAID_11_17_2
    assert "MIT License" in (assets / "LICENSE.mermaid").read_text()
