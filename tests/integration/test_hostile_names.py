"""Names and texts out of a state file that somebody else wrote: no command hands a terminal anything to obey."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
from pathlib import Path

import pexpect
import pytest

from lightflow.cli.main import main
from tests.integration.flow_folder import COMMAND, environment, lightflow, write

pytestmark = pytest.mark.alters_rows("it puts hostile names into the tables")

FLOW = """\
workflow_name: w
description: about it
pools: {gpu: 1}
params: {title: {type: string, default: plain}}
tasks:
  a: {run: "echo x=1 >> $LIGHTFLOW_OUTPUT; echo printed"}
  b: {run: exit 3, depends_on: [a], on_failure: {run: exit 4}}
  c: {run: echo never, depends_on: [b]}
  m: {run: "test ${{ item }} = one", foreach: [one, two]}
"""
#: A link, a clear screen, a title, an override of direction, the C1 form of a control sequence, a line break.
EVIL = "E\x1b]8;;http://evil\x07link\x1b]8;;\x07\x1b[2J\x1b[31m\u202e\x9b2J\x7f\rF\nG\u2028"
#: What is altered at the same time: columns by table. Those that others refer to are altered alone.
CASES = {
    "ids of workflows": {"liteflow_dags": ["dag_id"], "liteflow_dag_runs": ["dag_id"]},
    "ids of runs": {"liteflow_dag_runs": ["run_id"]},
    "ids of tasks": {
        "liteflow_task_instances": ["task_id"],
        "liteflow_attempts": ["task_id"],
        "liteflow_xcom": ["task_id"],
    },
    "names of pools and values": {"liteflow_pools": ["name"], "liteflow_xcom": ["key"]},
    "states": {"liteflow_dag_runs": ["status"], "liteflow_task_instances": ["status"], "liteflow_attempts": ["status"]},
    "texts": {
        "liteflow_dags": ["description", "source"],
        "liteflow_dag_runs": ["source", "cwd", "reason", "params", "owner_host"],
        "liteflow_task_instances": ["reason", "error_log", "log_path", "map_key"],
        "liteflow_attempts": ["error", "log_path"],
        "liteflow_xcom": ["value"],
        "liteflow_pools": ["description"],
    },
}
COMMANDS = [
    "status",
    "status latest",
    "status --task {task}",
    "list",
    "runs",
    "runs nothing",
    "why {task}",
    "why latest {task}",
    "why nothing",
    "logs",
    "logs {task}",
    "logs nothing",
    "logs --run latest --task nothing",
    "outputs",
    "outputs {task}",
    "outputs {task} --key nothing",
    "pools",
    "pools delete nothing",
    "doctor",
    "cancel latest",
    "resume latest --dry-run",
    "resume nothing",
    "list-checkpoints",
    "dag --run latest --format mmd",
    "dag --run latest --format dot",
    "dag flow.yaml --run latest",
    "clear nothing",
]
WITH_JSON = ("status", "list", "runs", "why", "logs", "outputs", "pools", "doctor", "cancel", "list-checkpoints")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ran")
    write(folder, FLOW)
    assert lightflow(folder, "run", "flow.yaml").returncode == 1
    return folder


def altered(source: Path, target: Path, columns: dict[str, list[str]]) -> Path:
    """A copy of the folder in which columns of the state file hold hostile text, and so do the checkpoints."""
    shutil.copytree(source, target)
    with sqlite3.connect(target / "lightflow.db") as connection:
        connection.execute("DROP TRIGGER liteflow_attempt_is_final")
        for table, names in columns.items():
            for name in names:
                value = json.dumps({"title": EVIL}, ensure_ascii=False) if name == "params" else EVIL
                connection.execute(f"UPDATE OR IGNORE {table} SET {name}=?", (value,))
    connection.close()
    for saved in (target / ".lightflow-checkpoints").iterdir():
        shape = json.loads(saved.read_text())
        saved.write_text(json.dumps({name: EVIL if isinstance(entry, str) else entry for name, entry in shape.items()}))
    return target


def obeyed(text: str) -> list[str]:
    """What a terminal, or who reads it, might take for more than text; the colours of our own are not."""
    return sorted({f"U+{ord(entry):04X}" for entry in text if not entry.isprintable() and entry not in "\n\t"})


@pytest.mark.parametrize("what", CASES)
def test_no_command_prints_a_control_character_of_a_state_file(
    what: str, ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(altered(ran, tmp_path / "handed over", CASES[what]))
    monkeypatch.delenv("LIGHTFLOW_DB", raising=False)
    task = EVIL if what == "ids of tasks" else "b"
    for line in COMMANDS:
        words = [word.replace("{task}", task) for word in line.split(" ")]
        as_json = [["--json"]] if words[0] in WITH_JSON else []
        for extra in ([], *as_json):
            with pytest.raises(SystemExit) as end:
                main([*words, *extra])
            out, err = capfd.readouterr()
            assert end.value.code != 70, (line, err)
            assert not obeyed(out + err), (line, extra, obeyed(out + err))


@pytest.mark.parametrize("line", ["status", "why {task}", "runs", "outputs", "logs {task}"])
@pytest.mark.parametrize("what", ["ids of tasks", "texts"])
def test_a_terminal_gets_no_colors_but_those_of_the_program(what: str, line: str, ran: Path, tmp_path: Path) -> None:
    folder = altered(ran, tmp_path / "handed over", CASES[what])
    words = [word.replace("{task}", EVIL if what == "ids of tasks" else "b") for word in line.split(" ")]
    script = folder / "script.sh"  # pexpect splits a command line at the line break of the name
    script.write_text(f"exec {shlex.join([*COMMAND, *words])}\n")
    shown = pexpect.run(
        f"sh {shlex.quote(os.fspath(script))}",
        cwd=str(folder),
        env=environment({"TERM": "xterm-256color"}),
        encoding="utf-8",
    )
    assert "\x1b[31m\\u202e" not in shown
    assert not obeyed(re.sub(r"\x1b\[([012]|3[1-6])m", "", shown).replace("\r\n", "\n")), shown
