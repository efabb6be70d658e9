"""The geometry of graphs: real Graphviz, the routes of a real server, and each way in which a drawing can fail."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from picture_kit import from_dependencies
from server_kit import RunningServer, lightflow, serving

from lightflow.errors import VisualError
from lightflow.server import layouts
from lightflow.server.problems import RequestProblem
from lightflow.visuals.geometry import geometry, geometry_dot, places
from liteflow.pictures.boxes import with_boxes
from liteflow.pictures.picture import Picture
from liteflow.record import replace

pytest.importorskip("pygraphviz")

FLOW = """
workflow_name: shapes
tasks:
  a: {run: "sleep 0.2"}
  load:
    tasks:
      x: {run: "true"}
      y: {run: "true", depends_on: [x]}
    depends_on: [a]
  m: {run: "test ${{ item }} != 2", foreach: [1, 2, 3], depends_on: [a]}
  z: {run: "true", depends_on: [load]}
"""


def laid_out(picture: Picture) -> dict[str, Any]:
    return geometry(picture, places(geometry_dot(picture)))


def grouped() -> Picture:
    deps = {"a": [], "g.b": ["a"], "g.c": ["g.b"], "g": ["g.c"], "z": ["g"]}
    rows = [{"id": "g", "gate": "group"}, {"id": "g.b", "group": "g"}, {"id": "g.c", "group": "g"}]
    return with_boxes(from_dependencies("t", deps), rows)


def test_boxes_do_not_overlap_and_edges_reach_their_boxes() -> None:
    drawing = laid_out(from_dependencies("t", {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}))
    width, height = drawing["size"]
    rows = [dict(zip(drawing["columns"], row, strict=True)) for row in drawing["rows"]]
    for row in rows:
        assert row["x"] - row["width"] / 2 >= 0
        assert row["x"] + row["width"] / 2 <= width
        assert row["y"] - row["height"] / 2 >= 0
        assert row["y"] + row["height"] / 2 <= height
    for number, row in enumerate(rows):
        for other in rows[:number]:
            apart_x = abs(row["x"] - other["x"]) >= (row["width"] + other["width"]) / 2
            apart_y = abs(row["y"] - other["y"]) >= (row["height"] + other["height"]) / 2
            assert apart_x or apart_y
    assert len(drawing["edges"]) == 4
    for source, target, points in drawing["edges"]:
        for row, (x, y) in ((rows[source], points[:2]), (rows[target], points[-2:])):
            assert abs(x - row["x"]) <= row["width"] / 2 + 3
            assert abs(y - row["y"]) <= row["height"] / 2 + 3


def test_many_nodes_without_edges_are_in_rows() -> None:
    drawing = laid_out(from_dependencies("t", {f"region_{number}": [] for number in range(100)}))
    rows = [dict(zip(drawing["columns"], row, strict=True)) for row in drawing["rows"]]
    width, height = drawing["size"]
    assert 1 < width / height < 4
    assert [row["task"] for row in sorted(rows, key=lambda row: (row["y"], row["x"]))] == [row["task"] for row in rows]
    for row, other in itertools.combinations(rows, 2):
        apart = abs(row["x"] - other["x"]) >= row["width"], abs(row["y"] - other["y"]) >= row["height"]
        assert any(apart), (row, other)
    for side, most in (("x", width), ("y", height)):
        length = {"x": "width", "y": "height"}[side]
        assert all(row[length] / 2 <= row[side] <= most - row[length] / 2 for row in rows)


@pytest.mark.parametrize("count", [1, 12], ids=["few", "many"])
def test_nodes_without_edges_are_in_rows_beside_those_with_edges(count: int) -> None:
    stage = {f"{name}_{number}": [name] for name in "ab" for number in range(count)}
    drawing = laid_out(from_dependencies("t", {"a": [], "b": ["a"], **stage, **{f"x_{n}": [] for n in range(60)}}))
    rows = [dict(zip(drawing["columns"], row, strict=True)) for row in drawing["rows"]]
    width, height = drawing["size"]
    assert 0.5 < width / height < 4
    loose = [row for row in rows if row["task"].startswith("x_")]
    assert sorted(loose, key=lambda row: (row["y"], row["x"])) == loose
    assert len(drawing["edges"]) == 1 + 2 * count
    for row, other in itertools.combinations(rows, 2):
        apart = abs(row["x"] - other["x"]) >= row["width"], abs(row["y"] - other["y"]) >= row["height"]
        assert any(apart), (row, other)


@pytest.mark.parametrize("before", [2, 12], ids=["right", "down"])
def test_nodes_without_edges_are_in_rows_in_their_group_too(before: int) -> None:
    stage = {f"s_{number}": ["a"] for number in range(before)}
    members = [f"g.{number}" for number in range(25)]
    deps = {"a": [], **stage, **{member: [] for member in members}, "g": members, "z": ["g"]}
    rows = [{"id": "g", "gate": "group"}, *({"id": member, "group": "g"} for member in members)]
    drawing = laid_out(with_boxes(from_dependencies("t", deps), rows))
    box = dict(zip(drawing["boxes"]["columns"], drawing["boxes"]["rows"][0], strict=True))
    places = {row[0]: dict(zip(drawing["columns"], row, strict=True)) for row in drawing["rows"]}
    loose = [places[member] for member in members]
    assert sorted(loose, key=lambda row: (row["y"], row["x"])) == loose
    assert box["width"] / box["height"] < 4
    assert min(len({row["x"] for row in loose}), len({row["y"] for row in loose})) > 2
    beside = abs(places["z"]["x"] - box["x"]) - box["width"] / 2, abs(places["z"]["y"] - box["y"]) - box["height"] / 2
    assert max(beside) > 0  # what follows the group is after its last row


def test_an_edge_to_a_group_ends_at_its_box() -> None:
    drawing = laid_out(grouped())
    box = dict(zip(drawing["boxes"]["columns"], drawing["boxes"]["rows"][0], strict=True))
    members = [row for row in drawing["rows"] if row[3] == "g"]
    assert [row[0] for row in members] == ["g.b", "g.c"]
    for row in members:
        assert abs(row[4] - box["x"]) + row[6] / 2 <= box["width"] / 2
        assert abs(row[5] - box["y"]) + row[7] / 2 <= box["height"] / 2
    group = len(drawing["rows"])  # the number of the first box
    assert [2, group] not in [edge[:2] for edge in drawing["edges"]]
    assert any(source == group for source, _, _ in drawing["edges"])


def test_states_do_not_change_the_geometry() -> None:
    picture = from_dependencies("t", {"a": [], "b": ["a"]})
    nodes = tuple(replace(node, status="UPSTREAM_FAILED", duration_s=12.0) for node in picture.nodes)
    assert geometry_dot(picture) == geometry_dot(replace(picture, nodes=nodes, status="FAILED"))


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"], x [label="', "\\N", "cluster_a", "日本"])
def test_hostile_names_stay_text(name: str) -> None:
    drawing = laid_out(from_dependencies("t", {name: [], "b": [name]}))
    assert [row[:2] for row in drawing["rows"]] == [[name, name], ["b", "b"]]


def test_a_crash_and_a_missing_graphviz_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = from_dependencies("t", {"a": []})
    with pytest.raises(VisualError, match=r"could not draw the graph \(.*\); the table has every task"):
        places("digraph { a -> ")
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['pygraphviz'] = None")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RequestProblem, match="the graph needs pygraphviz") as caught:
        layouts.Layouts().geometry(picture)
    assert caught.value.status == 422


def test_the_same_graph_is_laid_out_once() -> None:
    started = threading.Semaphore(0)
    made = layouts.Layouts()
    picture = from_dependencies("t", {"a": [], "b": ["a"]})
    results: list[dict[str, Any]] = []

    def ask() -> None:
        started.release()
        results.append(made.geometry(picture))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20  # more than may wait: they share one layout
    assert all(result == results[0] for result in results)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("geometry")
    (folder / "shapes.yaml").write_text(FLOW)
    assert lightflow(folder, "run", "shapes.yaml").returncode == 1
    with serving(folder, "ui", "lightflow.db") as running:
        yield running


def test_the_routes_of_a_run_and_of_its_workflow(server: RunningServer) -> None:
    run = server.get("/api/v1/runs")["runs"][0]["run_id"]
    drawing = server.get(f"/api/v1/runs/{run}/geometry")
    assert [row[0] for row in drawing["rows"]] == ["a", "load.x", "load.y", "m", "z"]
    assert [row[0] for row in drawing["boxes"]["rows"]] == ["load"]
    assert drawing["folded"] is None
    assert server.get("/api/v1/workflows/shapes/geometry")["digest"] == drawing["digest"]
    folded = server.get(f"/api/v1/runs/{run}/geometry?toggled=load")
    assert folded["members"] == {"load": ["load.x", "load.y"]}
    assert folded["folded"] == "5 tasks are drawn as 4 boxes"
    assert server.request("GET", f"/api/v1/runs/{run}/geometry?fold=some").status == 400
    assert server.request("GET", "/api/v1/workflows/none/geometry").status == 404


def test_each_workflow_of_a_file_has_its_own_graph_before_it_runs(tmp_path: Path) -> None:
    texts = [f"workflow_name: {name}\ntasks: {{{name}_task: {{run: 'true'}}}}\n" for name in ("first", "second")]
    (tmp_path / "two.yaml").write_text("---\n".join(texts))
    with serving(tmp_path, "serve") as served:
        for name in ("first", "second"):
            drawing = served.get(f"/api/v1/workflows/{name}/geometry")
            assert [row[0] for row in drawing["rows"]] == [f"{name}_task"]


def test_the_critical_path_of_a_run(server: RunningServer) -> None:
    run = server.get("/api/v1/runs")["runs"][0]["run_id"]
    path = server.get(f"/api/v1/runs/{run}/critical-path")["tasks"]
    assert path[0] == "a"
    assert path[-1] in ("z", "m")


def test_pictures_of_the_command_line_mark_the_critical_path(server: RunningServer) -> None:
    svg = lightflow(server.folder, "dag", "--run", "latest", "--output", "run.svg")
    assert svg.returncode == 0, svg.stderr
    text = (server.folder / "run.svg").read_text()
    assert 'class="node task critical state-success"' in text
    assert "1 of 3 failed" in text
    assert 'class="edge critical"' in text
    page = lightflow(server.folder, "dag", "--run", "latest", "--output", "run.html")
    assert page.returncode == 0
    assert "Critical path" in (server.folder / "run.html").read_text()
    assert " critical\n" in lightflow(server.folder, "dag", "--run", "latest", "--format", "mmd").stdout
