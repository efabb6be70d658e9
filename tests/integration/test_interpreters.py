"""Programs with threads, whose `sys.executable` is not a Python interpreter: they are not started a second time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from liteflow.processes.client import NotImportable, interpreter

JOBS = "def answer():\n    return 42\n"
PROGRAM = """
import os, sys, threading
sys.path.insert(0, {folder!r})
with open({starts!r}, "a") as file:
    file.write("x")
if os.path.getsize({starts!r}) > 3:
    sys.exit("started again and again")
{change}
import jobs
from liteflow import Dag
threading.Thread(target=threading.Event().wait, daemon=True).start()
dag = Dag("d", db_path={db!r})
dag.task(jobs.answer, "answer")
if __name__ == "__main__":
    run = dag.run()
    print(run.status, run.value("answer"))
"""


@pytest.mark.parametrize(
    "change",
    [
        "sys.executable = {app!r}",
        "sys.executable = {named_python!r}",
        "sys.frozen = True",
        "sys.executable = ''",
        "sys.executable = None",
        "sys.executable = '/no/such/python'",
        "sys.executable = '/bin/true'",
        "sys.executable = '/bin/cat'",
        "sys.executable = 'nul\\0python'",
        "sys.executable = b'python'",
        "pass",
    ],
)
def test_a_program_that_is_its_own_interpreter_is_started_once(tmp_path: Path, change: str) -> None:
    app, named_python, starts = tmp_path / "app", tmp_path / "python3", tmp_path / "starts"
    (tmp_path / "jobs.py").write_text(JOBS)
    script = tmp_path / "program.py"
    script.write_text(
        PROGRAM.format(
            folder=str(tmp_path),
            starts=str(starts),
            db=str(tmp_path / "d.db"),
            change=change.format(app=str(app), named_python=str(named_python)),
        )
    )
    for path in (app, named_python):
        path.write_text(f"#!/bin/sh\nexec {sys.executable} {script}\n")
        path.chmod(0o755)
    done = subprocess.run([app], cwd=tmp_path, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert (done.stdout, done.stderr, starts.read_text()) == ("SUCCESS 42\n", "", "x")


def test_the_python_of_a_virtual_environment_is_an_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert interpreter() == sys.executable
    link = tmp_path / "python"
    link.symlink_to(os.path.realpath(sys.executable))
    monkeypatch.setattr(sys, "executable", str(link))
    assert interpreter() == str(link)
    monkeypatch.setattr(sys, "executable", "/bin/cat")
    with pytest.raises(NotImportable, match="not a Python interpreter"):
        interpreter()
