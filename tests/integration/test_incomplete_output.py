"""Output that cannot be kept is told of; logs are bounded and in order, whoever writes."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from liteflow.processes.log_file import HEAD_BYTES, TAIL_BYTES

LIMIT_S = 60

TASKS = """
def loud():
    print("printed")

async def later():
    print("printed")

def program():
    import subprocess
    subprocess.run(["echo", "printed"], check=True)
"""
KINDS = {
    "command": "run: echo printed",
    "thread": "type: python\n    call: 'tasks:loud'\n    mode: thread",
    "process": "type: python\n    call: 'tasks:loud'\n    mode: process",
    "program": "type: python\n    call: 'tasks:program'\n    mode: process",
    "async": "type: python\n    call: 'tasks:later'\n    mode: async",
}


def lightflow(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lightflow", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


#: Commands that put something in the place of the folder of the logs.
OBSTACLES = {"file": "touch logs", "pipe": "mkfifo logs", "below a file": "ln -s /proc/version/logs logs"}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_a_folder_of_logs_that_cannot_be_made_is_a_mistake(obstacle: str, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("workflow_name: w\ntasks: {a: {run: touch ran}}\n")
    subprocess.run(OBSTACLES[obstacle], shell=True, cwd=tmp_path, check=True)
    done = lightflow(tmp_path, "run", "f.yaml")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith(f"error: {tmp_path / 'logs'}: is not a folder; remove it, or choose another folder")
    assert not (tmp_path / "ran").exists()
    assert json.loads(lightflow(tmp_path, "runs", "--json").stdout or "[]") in ([], {"runs": []})
    assert lightflow(tmp_path, "run", "f.yaml", "--log-dir", "other/logs").returncode == 0
    assert not (tmp_path / "other").exists(), "the folder is created with the first log"


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root, for a mount")
def test_a_folder_of_logs_that_is_read_only_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("workflow_name: w\ntasks: {a: {run: echo}}\n")
    run = f"{sys.executable} -m lightflow run f.yaml --log-dir small/logs"
    script = f"mkdir small && mount -t tmpfs -o ro none small && exec {run}"
    words = ["unshare", "--mount", "sh", "-c", script]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"{tmp_path / 'small'}: refuses new files" in done.stderr


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_logs_that_cannot_be_made_are_reported(obstacle: str, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    tasks = "".join(f"  {kind}:\n    depends_on: [blocks]\n    {body}\n" for kind, body in KINDS.items())
    tasks += f"  silent: {{run: 'true'}}\n  blocks: {{run: {OBSTACLES[obstacle]}}}\n"
    (tmp_path / "f.yaml").write_text(f"workflow_name: w\ntasks:\n{tasks}")
    done = lightflow(tmp_path, "run", "f.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "could be stored" in done.stdout
    shown = json.loads(lightflow(tmp_path, "status", "--json").stdout)
    attempts = {task["task"]: task["attempts"][0] for task in shown["tasks"]}
    for kind in KINDS:
        assert attempts[kind]["log"] is None, kind
        assert attempts[kind]["log_lost"].startswith(str(tmp_path / "logs")), kind
        assert "could be stored" in lightflow(tmp_path, "logs", kind).stderr
        assert "could be stored" in lightflow(tmp_path, "why", kind).stdout
    assert attempts["silent"]["log_lost"] is None
    assert "printed nothing" in lightflow(tmp_path, "logs", "silent").stderr


def test_a_value_out_of_a_log_that_cannot_be_made_fails_its_task(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(
        "workflow_name: w\ntasks:\n"
        "  blocks: {run: touch logs}\n"
        "  a: {run: echo 1, output: last_line, depends_on: [blocks]}\n"
        "  b: {run: echo 1, output: json, depends_on: [blocks]}\n"
    )
    done = lightflow(tmp_path, "run", "f.yaml")
    assert done.returncode == 1
    assert done.stdout.count("not all printed output could be stored") >= 2


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root, for a small disk")
@pytest.mark.parametrize("kind", ["command", "process"])
def test_a_value_out_of_a_log_on_a_full_disk_fails_its_task(kind: str, tmp_path: Path) -> None:
    output = "output: last_line, " if kind == "command" else ""
    lines = "for i in $(seq 9000); do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done; echo the-value"
    code = "import os; [print('x' * 40) for _ in range(9000)]"
    body = f"{output}run: '{lines}'" if kind == "command" else f'type: python, mode: process, run: "{code}"'
    (tmp_path / "f.yaml").write_text(f"workflow_name: w\ntasks:\n  a: {{{body}}}\n")
    run = f"{sys.executable} -m lightflow run f.yaml --log-dir small"
    script = f"mkdir small && mount -t tmpfs -o size=100k none small && exec {run}"
    words = ["unshare", "--mount", "sh", "-c", script]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == (1 if kind == "command" else 0), done.stdout + done.stderr
    assert "could be stored" in done.stdout
    assert "No space left" in done.stdout


# -- workers --------------------------------------------------------------------------------------------------------


def run_python(folder: Path, code: str, *, secrets: bool = False) -> tuple[bytes, int]:
    """Run code in a worker; its log, and the largest size that it has had meanwhile."""
    lines = "".join(f"      {line}\n" for line in code.splitlines())
    extra = "secrets: [TOKEN]\n" if secrets else ""
    (folder / "f.yaml").write_text(
        f"workflow_name: w\nsettings: {{mode: process}}\n{extra}tasks:\n  a:\n    type: python\n    run: |\n{lines}"
    )
    words = [sys.executable, "-m", "lightflow", "run", "f.yaml", "-q"]
    environment = {**os.environ, "TOKEN": "swordfish-swordfish"}
    process = subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    largest = 0
    while process.poll() is None:
        for path in (folder / "logs").glob("*") if (folder / "logs").exists() else ():
            largest = max(largest, path.stat().st_size)
        time.sleep(0.005)
    message = process.communicate()[0]
    assert process.returncode == 0, message
    connection = sqlite3.connect(folder / "lightflow.db")
    (path,) = connection.execute("SELECT log_path FROM liteflow_attempts").fetchone()
    connection.close()
    assert not [path for path in (folder / "logs").iterdir() if path.name.startswith(".")]
    return Path(path).read_bytes(), largest


LOUD = {
    "a program": "import subprocess; subprocess.run(['head', '-c', '140000000', '/dev/zero'], check=True)",
    "the descriptor": "import os\nfor _ in range(1400): os.write(1, bytes(100_000))",
    "a fork": "import multiprocessing, sys\n"
    "def work():\n    for _ in range(1400): sys.stdout.buffer.write(bytes(100_000))\n"
    "child = multiprocessing.get_context('fork').Process(target=work); child.start(); child.join()",
    "Python": "import sys\nfor _ in range(1400): sys.stdout.buffer.write(bytes(100_000))",
}


@pytest.mark.parametrize("who", LOUD)
def test_the_log_of_a_worker_is_bounded_for_every_writer(who: str, tmp_path: Path) -> None:
    log, largest = run_python(tmp_path, f"print('first')\n{LOUD[who]}\nprint('last', flush=True)\n")
    assert log.startswith(b"first\n")
    assert log.endswith(b"last\n")
    assert b"bytes dropped" in log[HEAD_BYTES : HEAD_BYTES + 100]
    assert len(log) < HEAD_BYTES + TAIL_BYTES + 100
    assert largest < HEAD_BYTES + TAIL_BYTES + (34 << 20)


@pytest.mark.parametrize("secrets", [False, True])
def test_what_python_and_programs_print_stays_in_order(secrets: bool, tmp_path: Path) -> None:
    code = """
import os, subprocess, sys
for number in range(20):
    print("python", number)
    if number % 3 == 1:
        subprocess.run(["echo", f"program {number}"], check=True)
    if number % 5 == 2:
        os.write(2, f"descriptor {number}\\n".encode())
    if number == 15:
        print("error", file=sys.stderr)
"""
    log, _ = run_python(tmp_path, code, secrets=secrets)
    expected = []
    for number in range(20):
        expected.append(f"python {number}")
        expected += [f"program {number}"] * (number % 3 == 1) + [f"descriptor {number}"] * (number % 5 == 2)
        expected += ["error"] * (number == 15)
    assert log.decode().splitlines() == expected


def test_a_log_folder_that_a_task_deletes_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        "import shutil, subprocess\n"
        "def delete():\n    print('gone')\n    shutil.rmtree('logs')\n"
        "def speak():\n    print('python')\n    subprocess.run(['echo', 'program'], check=True)\n"
    )
    (tmp_path / "f.yaml").write_text(
        "workflow_name: w\nsettings: {mode: process, max_parallel_tasks: 1}\ntasks:\n"
        "  a: {type: python, call: 'tasks:delete'}\n  b: {type: python, call: 'tasks:speak', depends_on: [a]}\n"
    )
    done = lightflow(tmp_path, "run", "f.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert lightflow(tmp_path, "logs", "b").stdout.splitlines() == ["python", "program"]
