"""Writing pictures: the right kind of file, whole or not at all, and one clear sentence when it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from picture_kit import from_dependencies

from lightflow.errors import VisualError
from lightflow.visuals import render
from lightflow.visuals.dag_viewer import draw, write_picture

PICTURE = from_dependencies("etl", {"get": [], "put": ["get"]}, statuses={"get": "SUCCESS"})


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the child process: what is written here runs instead of it."""
    script = tmp_path / "child.py"
    monkeypatch.setattr(render, "__file__", str(script))
    return script


@pytest.mark.parametrize(
    ("name", "start"), [("a.dot", "digraph"), ("a.mmd", "---\ntitle"), ("A.HTML", "<!doctype html>")]
)
def test_the_suffix_decides(tmp_path: Path, name: str, start: str) -> None:
    write_picture(PICTURE, tmp_path / name)
    assert (tmp_path / name).read_text().startswith(start)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_format_overrules_the_suffix(tmp_path: Path) -> None:
    write_picture(PICTURE, tmp_path / "graph.txt", "dot")
    write_picture(PICTURE, tmp_path / "graph", ".mmd")
    assert (tmp_path / "graph.txt").read_text().startswith("digraph")
    assert "flowchart" in (tmp_path / "graph").read_text()


@pytest.mark.parametrize("name", ["a.gif", "a", "a.svgz", ".svg"])
def test_an_unknown_suffix_lists_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(VisualError, match=r"\.svg, \.png, \.pdf, \.html, \.mmd, \.dot") as caught:
        write_picture(PICTURE, tmp_path / name)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(VisualError, match="there is no folder"):
        write_picture(PICTURE, tmp_path / "no" / "a.dot")
    (tmp_path / "b.dot").mkdir()
    with pytest.raises(VisualError, match="it is a folder"):
        write_picture(PICTURE, tmp_path / "b.dot")
    with pytest.raises(VisualError, match="cannot write"):
        write_picture(PICTURE, Path("/proc/a.dot"))


def test_a_link_stays_a_link_and_the_umask_counts(tmp_path: Path) -> None:
    (tmp_path / "link.dot").symlink_to("real.dot")
    old = os.umask(0o027)
    try:
        write_picture(PICTURE, tmp_path / "link.dot")
    finally:
        os.umask(old)
    assert (tmp_path / "link.dot").is_symlink()
    assert (tmp_path / "real.dot").stat().st_mode & 0o777 == 0o640


def test_a_device_is_written_not_replaced() -> None:
    write_picture(PICTURE, Path("/dev/null"), "dot")
    assert not Path("/dev/null").is_file()


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.dot"
    target.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(VisualError, match="No space left"):
        write_picture(PICTURE, target)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.dot"]


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import sys; sys.exit(3)", "pip install 'lightflow-workflows[pictures]'"),
        ("import os; os.kill(os.getpid(), 11)", "stopped by signal 11"),
        ("import sys; sys.exit('syntax error near x')", "syntax error near x"),
        ("pass", "exit code 0"),
        ("import time; time.sleep(60)", "more than 1 s"),
    ],
)
def test_each_end_of_the_child_is_one_sentence(child: Path, code: str, sentence: str) -> None:
    child.write_text(code)
    with pytest.raises(VisualError) as caught:
        draw(PICTURE, "png", timeout_s=1)
    assert sentence in str(caught.value)
    assert ".html" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_pygraphviz_the_message_explains_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['pygraphviz'] = None")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(VisualError, match="needs pygraphviz"):
        draw(PICTURE, "svg")


def test_a_module_in_the_current_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygraphviz")
    (tmp_path / "pygraphviz.py").write_text("open('ran', 'w'); raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert b"<svg" in draw(PICTURE, "svg")
    assert not (tmp_path / "ran").exists()


def test_too_many_tasks_are_refused_with_other_ways_named() -> None:
    picture = from_dependencies("t", dict.fromkeys(map(str, range(5_001)), ()))
    with pytest.raises(VisualError, match=r"5,001 tasks .* \.html .* \.dot"):
        draw(picture, "svg")
    assert draw(picture, "dot").startswith(b"digraph")


def test_drawing_does_not_load_graphviz_into_this_process() -> None:
    code = "import sys, lightflow.visuals.dag_viewer; sys.exit('pygraphviz' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
