"""The address of the page of a run in hooks."""

from __future__ import annotations

from pathlib import Path

import pytest
from server_kit import lightflow, serving

FLOW = """
workflow_name: pages
tasks: {work: {run: "true"}}
on_exit: {run: "echo ${{ hook.url }} > url.txt"}
"""


def url_of_run(folder: Path, run_id: str) -> str:
    done = lightflow(folder, "run", "flow.yaml", "--run-id", run_id)
    assert done.returncode == 0, done.stderr
    return (folder / "url.txt").read_text().strip()


def test_the_address_is_that_of_the_server_on_the_state_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW)
    monkeypatch.delenv("LIGHTFLOW_URL", raising=False)
    assert url_of_run(tmp_path, "first") == ""
    with serving(tmp_path, "ui", "lightflow.db") as server:
        assert url_of_run(tmp_path, "second") == f"{server.url}/#/r/second"
    assert url_of_run(tmp_path, "third") == "", "the server has ended"
    with serving(tmp_path, "ui", "lightflow.db", "--token-file", "own/tokens.json") as server:
        assert url_of_run(tmp_path, "own") == f"{server.url}/#/r/own"
    assert not list((tmp_path / "own").glob("*.address"))
    monkeypatch.setenv("LIGHTFLOW_URL", "https://flows.example.org/team/")
    assert url_of_run(tmp_path, "fourth") == "https://flows.example.org/team/#/r/fourth"
