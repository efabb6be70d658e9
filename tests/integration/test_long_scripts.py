"""Scripts, arguments and variables that are longer than the system allows one word of a command to be (128 KiB)."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from liteflow import Command, Dag, Task, XCom
from tests.integration.flow_folder import lightflow, write

LONG = "# " + "x" * 100 + "\n"


def run(folder: Path, *argv: str, **extra: object) -> Dag:
    dag = Dag("long", str(folder / "a.db"))
    dag.add_task(Task("t", body=Command(argv, output="last_line", **extra)))  # type: ignore[arg-type]
    return dag


@pytest.mark.parametrize("shell", ["sh", "/bin/sh", "bash", "dash", "zsh", "ksh"])
@pytest.mark.parametrize("size", [131_000, 131_071, 131_072, 1_000_000])
def test_a_long_script_runs_as_a_short_one_does(shell: str, size: int, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        assert os.environ.get("CI") != "true", f"{shell} is missing: apt-get install {shell}"
        pytest.skip(f"needs {shell}")
    end = 'printf "%s %s %s " "$(basename "$0")" "$#" "$1"; ls /proc/self/fd | tr "\\n" " "; echo; exit 7\n'
    script = "\n" + (LONG * (size // len(LONG) + 1))[: size - len(end) - 2] + "\n" + end
    assert len(script) == size
    dag = Dag("long", str(tmp_path / "a.db"))
    body = Command((shell, "-c", script, "name", "é"), output="last_line", skip_on_exit_codes=(7,))
    dag.add_task(Task("t", body=body))
    done = dag.run(1, log_dir=str(tmp_path / "logs"))
    connection = sqlite3.connect(tmp_path / "a.db")
    (code, log) = connection.execute("SELECT exit_code, log_path FROM liteflow_attempts").fetchone()
    connection.close()
    assert (done.status, code) == ("SUCCESS", 7)
    assert Path(log).read_text().split() == ["name", "1", "é", "0", "1", "2", "3"]


def test_a_long_script_has_the_shell_for_its_name(tmp_path: Path) -> None:
    dag = run(tmp_path, "/bin/sh", "-e", "-c", LONG * 2000 + 'echo "$0"\nfalse\necho more')
    assert dag.run(1, log_dir=str(tmp_path / "logs")).status == "FAILED"
    dag = run(tmp_path, "/bin/sh", "-e", "-c", LONG * 2000 + 'echo "$0"')
    done = dag.run(1, log_dir=str(tmp_path / "logs"))
    assert XCom.load(str(tmp_path / "a.db"), done.run_id, "t", "return_value") == "/bin/sh"


@pytest.mark.parametrize(
    ("argv", "env", "words"),
    [
        (("true", "x" * 200_000), {}, "argument 1 has 200,000 bytes"),
        (("python3", "-c", "#" * 200_000), {}, "argument 2 has 200,000 bytes"),
        (("true",), {"BIG": "x" * 200_000}, "the environment variable BIG has 200,000 bytes"),
        (("true", *["x" * 100_000] * 100), {}, "too long for the system"),
    ],
)
def test_what_is_too_long_is_named(argv: tuple[str, ...], env: dict[str, str], words: str, tmp_path: Path) -> None:
    dag = Dag("long", str(tmp_path / "a.db"))
    dag.add_task(Task("t", body=Command(argv, env=env)))
    done = dag.run(1, log_dir=str(tmp_path / "logs"))
    assert done.status == "FAILED"
    connection = sqlite3.connect(tmp_path / "a.db")
    (reason,) = connection.execute("SELECT error FROM liteflow_attempts").fetchone()
    connection.close()
    assert words in reason


def test_a_long_script_of_a_workflow_file_is_valid_and_runs(tmp_path: Path) -> None:
    script = "".join(f"      {line}" for line in [LONG] * 2000 + ["echo the end\n"])
    write(tmp_path, "tasks:\n  a:\n    run: |\n" + script)
    checked = lightflow(tmp_path, "validate", "flow.yaml")
    assert (checked.returncode, checked.stderr) == (0, "")
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert done.returncode == 0
    assert "the end" in done.stdout.splitlines()
