"""Files of a cluster: each machine has a copy, in which tasks find their folder and their modules."""

from __future__ import annotations

from pathlib import Path

import pytest
from far_kit import cluster_of

from liteflow import Dag, DagRun, DefinitionError
from liteflow.remote.cluster import Cluster
from liteflow.remote.files import MOST_FILES_BYTES, packed_files
from liteflow.state.history import History


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a workflow, which is the current folder, too."""
    place = tmp_path / "here"
    (place / "src" / "deep").mkdir(parents=True)
    (place / "src" / "deep" / "word.txt").write_text("deep")
    (place / "src" / "tool.sh").write_text("#!/bin/sh\ncat deep/word.txt\n")
    (place / "src" / "tool.sh").chmod(0o755)
    (place / "link").symlink_to("src/deep/word.txt")
    (place / "not_sent").write_text("secret")
    monkeypatch.chdir(place)
    return place


def outputs(folder: Path, db: str, cluster: Cluster, scripts: dict[str, str], cwd: str | None = None) -> dict[str, str]:
    """Return what scripts print on a cluster."""
    with Dag("flow", db, clusters={"lab": cluster}) as dag:
        for name, script in scripts.items():
            dag.shell(script, name, cwd=cwd, output="last_line")
    run = dag.run(mode="lab", log_dir=str(folder.parent / "logs"))
    assert run.raise_for_failure()
    return {name: run.value(name) for name in scripts}


def test_a_machine_has_the_files_and_nothing_else(folder: Path, db: str) -> None:
    cluster = cluster_of({"w1": 1}, files=("src", "link"), folder=str(folder))
    scripts = {"list": "echo $(find . | sort)", "link": "cat link", "where": "pwd", "env": "echo $PWD"}
    printed = outputs(folder, db, cluster, scripts)
    assert printed["list"] == ". ./link ./src ./src/deep ./src/deep/word.txt ./src/tool.sh"
    assert printed["link"] == "deep"
    assert printed["where"].startswith("/tmp/lightflow-agent-")
    assert not Path(printed["where"]).exists(), "the copy ends with the agent"


def test_a_folder_of_a_task_leads_to_its_copy(folder: Path, db: str) -> None:
    cluster = cluster_of({"w1": 1}, files=("src",), folder=str(folder))
    assert outputs(folder, db, cluster, {"tool": "./tool.sh"}, str(folder / "src")) == {"tool": "deep"}
    outside = str(folder.parent)
    assert outputs(folder, db, cluster, {"pwd": "pwd"}, outside) == {"pwd": outside}


def test_large_files_arrive_whole_while_beats_pass(folder: Path, db: str) -> None:
    data = bytes(range(256)) * 4096 * 20  # 20 MiB: many pieces
    (folder / "large").write_bytes(data)
    cluster = cluster_of({"w1": 2, "w2": 2}, files=("large",), folder=str(folder), lease_s=2.0)
    import hashlib

    expected = hashlib.sha256(data).hexdigest()
    scripts = dict.fromkeys(("a", "b", "c", "d"), "sha256sum large | cut -d' ' -f1")
    assert set(outputs(folder, db, cluster, scripts).values()) == {expected}
    with History(db) as history:
        assert {attempt.host for attempt in history.attempts(history.runs()[0].run_id)} <= {"w1", "w2"}


@pytest.mark.parametrize("name", ["nothere", "large"])
def test_files_that_cannot_be_sent_refuse_the_run(folder: Path, db: str, name: str) -> None:
    with (folder / "large").open("wb") as file:
        file.truncate(MOST_FILES_BYTES + 1)
    cluster = cluster_of({"w1": 1}, files=(name,), folder=str(folder))
    words = {"nothere": "cannot be read: No such file", "large": "more than 64 MiB, at large: put large data on a disk"}
    with pytest.raises(DefinitionError, match=words[name]):
        run_of(db, cluster)
    assert not Path(db).exists(), "nothing ran"


def run_of(db: str, cluster: Cluster) -> DagRun:
    with Dag("flow", db, clusters={"lab": cluster}) as dag:
        dag.shell("true", "a")
    return dag.run(mode="lab", log_dir="logs")


def test_what_is_no_file_is_left_out(folder: Path) -> None:
    import os
    import tarfile
    from io import BytesIO

    os.mkfifo(folder / "src" / "pipe")
    (folder / "src" / "__pycache__").mkdir()
    (folder / "src" / "__pycache__" / "x.pyc").touch()
    data = packed_files(Cluster(argv=(), slots=1, files=("src",), folder=str(folder)))
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        assert sorted(archive.getnames()) == ["src", "src/deep", "src/deep/word.txt", "src/tool.sh"]
