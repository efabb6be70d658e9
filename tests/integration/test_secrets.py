"""Secrets in runs: they reach who asks for them, and no file, row, line or command line holds one."""

# ruff: noqa: E501 - workflow files

from __future__ import annotations

import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from liteflow import Command, Dag, DagRun, DefinitionError, ParamError, Secret, SecretError, Task, current_context

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "tok/en+\"42's $ecret \\n end"
PASSWORD = "pass-word-7f3a"
KEY = "-----BEGIN KEY-----\nMIIBVgIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----"
SECRETS = {"TOKEN": TOKEN, "PASSWORD": PASSWORD, "KEY": KEY}


def hidden(value: str) -> list[bytes]:
    """What no file may hold."""
    raw = value.encode()
    result = [raw, quote(value, safe="").encode(), json.dumps(value)[1:-1].encode(), raw.hex().encode()]
    for before in range(3):
        text = base64.b64encode(bytes(before) + raw)
        result += [text[4 : 4 * ((before + len(raw)) // 3)], base64.urlsafe_b64encode(bytes(before) + raw)[4:-4]]
    return result + [line.encode() for line in value.splitlines()]


HIDDEN = [form for value in SECRETS.values() for form in hidden(value)]


def leaks(data: bytes) -> list[bytes]:
    return [form for form in HIDDEN if form in data]


def search(folder: Path, *but: str) -> None:
    """No file below the folder holds a secret, except those that are named."""
    looked = 0
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in but:
            looked += 1
            assert leaks(path.read_bytes()) == [], path
            assert leaks(os.fsencode(path.name)) == []
    assert looked


# -- the command line ---------------------------------------------------------------------------------------------

FLOW = """\
workflow_name: leaky
secrets:
  - TOKEN
  - {name: PASSWORD, from: file, path: password.txt}
  - {name: KEY, from: command, run: "echo x >> fetched; cat key.pem"}
env:
  SHARED: "Bearer ${{ secrets.PASSWORD }}"
plugins: [my_types.py]
settings: {max_parallel_tasks: 8, mode: MODE}
tasks:
  shell:
    secrets: [TOKEN, KEY]
    run: |
      echo "$TOKEN" "$KEY"; echo "$SHARED" >&2
      echo ${{ secrets.PASSWORD }} '${{ secrets.TOKEN | urlencode }}' "${{ secrets.KEY | json }}"
      printf %s "$TOKEN" | base64; printf %s "user:$PASSWORD$SHARED" | base64; printf 'xx%s' "$KEY" | base64
      printf %s "$TOKEN" | od -An -tx1 | tr -d ' \\n'
      env; set -x; : "$TOKEN"
      for i in 1 2 3; do printf '%.5s' "$TOKEN"; sleep 0.02; printf %s "${TOKEN#?????}"; echo; done
  inline:
    type: python
    run: |
      import base64, os, subprocess, sys
      from liteflow import current_context
      for value in current_context().secrets.values():
          print(value, repr(value), base64.b64encode(value.encode()), current_context().secrets)
          sys.stderr.write(value[:4]); sys.stderr.flush(); sys.stderr.write(value[4:] + "\\n")
          sys.stdout.buffer.write(value.encode())
  forked:
    type: python
    secrets: [TOKEN]
    run: |
      import os, subprocess
      subprocess.run(["sh", "-c", 'echo "$TOKEN"; echo "$TOKEN" | base64'], check=True)
      for byte in os.environb[b"TOKEN"]:
          os.write(1, bytes([byte]))
  call:
    type: python
    call: functions:show
    args: {value: "${{ secrets.TOKEN }}", list: ["${{ secrets.KEY }}"]}
  plugin: {type: show, what: "${{ secrets.PASSWORD }}"}
  error:
    type: python
    call: functions:fail
    args: {value: "${{ secrets.TOKEN }}"}
  long_error:
    type: python
    call: functions:fail
    args: {value: "${{ secrets.KEY }}", times: 3000}
  exit: {run: 'echo "$TOKEN"; exit 3', secrets: [TOKEN]}
  late: {run: 'echo "$TOKEN"; printf %.20s "$TOKEN"; sleep 600', secrets: [TOKEN], timeout: 4}
  no_number: {run: "echo ${{ secrets.PASSWORD | int }}"}
  no_program: {run: "true", shell: "/nowhere/x"}
  output: {run: 'printf "a=%s\\n" "$TOKEN" >> "$LIGHTFLOW_OUTPUT"', secrets: [TOKEN]}
  output_json: {run: 'echo "{\\"a\\": [1, \\"x$PASSWORD\\"]}" >> "$LIGHTFLOW_OUTPUT"', secrets: [PASSWORD]}
  output_name: {run: 'echo "$WORD=1" >> "$LIGHTFLOW_OUTPUT"', env: {WORD: "p_${{ secrets.PASSWORD }}"}}
  printed: {run: 'echo "$PASSWORD"', secrets: [PASSWORD], output: last_line}
  printed_json: {run: 'echo "[\\"$PASSWORD\\"]"', secrets: [PASSWORD], output: json}
  printed_before: {run: 'echo "$PASSWORD"; echo fine', secrets: [PASSWORD], output: last_line}
  returned: {type: python, call: "functions:give", args: {value: "${{ secrets.TOKEN }}"}}
  returned_bytes: {type: python, call: "functions:give_bytes", args: {value: "${{ secrets.TOKEN }}"}}
  returned_object: {type: python, call: "functions:give_object", args: {value: "${{ secrets.TOKEN }}"}}
  pushed: {type: python, call: "functions:push", args: {value: "${{ secrets.TOKEN }}"}}
  skipped: {type: python, call: "functions:skip", args: {value: "${{ secrets.TOKEN }}"}}
"""
FUNCTIONS = """\
from liteflow import SkipTask, current_context

class Thing:
    def __init__(self, value):
        self.value = value

def show(value, list):
    print("given", value, list)
    assert value == current_context().secrets["TOKEN"]

def fail(value, times=1):
    raise RuntimeError(f"cannot log in with {value}" * times)

def give(value):
    return {"deep": [value]}

def give_bytes(value):
    return value.encode()

def give_object(value):
    return Thing(value)

def push(value):
    current_context().xcom_push("key", value)

def skip(value):
    raise SkipTask(f"no use for {value}")
"""
TYPES = """\
from lightflow.plugins.base import TaskType

class Show(TaskType):
    name = "show"
    schema = {"properties": {"what": {"type": "string"}}}

    def run(self, config, context):
        print("plugin", config["what"])
"""
SUCCEED = {"shell", "inline", "forked", "call", "plugin", "printed_before"}

Lightflow = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def lightflow(tmp_path: Path) -> Lightflow:
    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lightflow", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TOKEN": TOKEN, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    return run


def write(folder: Path, mode: str = "thread") -> None:
    (folder / "flow.yaml").write_text(FLOW.replace("MODE", mode))
    (folder / "functions.py").write_text(FUNCTIONS)
    (folder / "my_types.py").write_text(TYPES)
    (folder / "password.txt").write_text(PASSWORD + "\n")
    (folder / "key.pem").write_text(KEY + "\n")


@pytest.mark.parametrize("mode", ["thread", "process", "async"])
def test_a_byte_search_finds_no_secret(tmp_path: Path, lightflow: Lightflow, mode: str) -> None:
    write(tmp_path, mode)
    results = [lightflow("run", "flow.yaml", "--run-id", "r1")]
    assert results[0].returncode == 1, results[0].stderr
    results += [lightflow("run", "flow.yaml", "--resume", "--debug", "--json")]
    results += [lightflow("status", "r1", "--json"), lightflow("outputs", "r1"), lightflow("why", "error")]
    results += [lightflow("logs", "r1", "--task", task) for task in ("shell", "inline", "error", "late")]
    results += [lightflow("dag", "flow.yaml", "--run", "r1", "--output", f"dag.{kind}") for kind in ("svg", "html")]
    for entry in results:
        assert leaks((entry.stdout + entry.stderr).encode()) == [], entry.args
        assert "Traceback" not in entry.stderr
    search(tmp_path, "flow.yaml", "functions.py", "password.txt", "key.pem")
    with sqlite3.connect(tmp_path / "lightflow.db") as database:
        rows = database.execute("SELECT task_id, status, reason FROM liteflow_task_instances").fetchall()
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f"SELECT * FROM {table}"):
                assert leaks(repr(row).encode()) == []
    assert {task for task, status, _ in rows if status == "SUCCESS"} == SUCCEED
    reasons = {task: reason for task, _, reason in rows}
    assert reasons["error"] == "RuntimeError: cannot log in with ***"
    assert reasons["skipped"] == "no use for ***"
    assert reasons["no_number"].endswith(": tasks.no_number.run: int: '***' is not a whole number")
    for task, name in [("output", "TOKEN"), ("returned", "TOKEN"), ("pushed", "TOKEN"), ("output_json", "PASSWORD")]:
        assert f"contains the secret {name}, and values are stored" in reasons[task]
    assert reasons["printed"] == "output: the printed text contains the secret PASSWORD, and values are stored"
    logs = "".join(path.read_text() for path in (tmp_path / "logs").glob("task_*.log"))
    assert logs.count("***") > 20
    assert "Bearer ***" in logs
    assert "plugin ***" in logs
    assert (tmp_path / "fetched").read_text() == "x\nx\n"  # once for each run: what is resumed fetches anew


def test_looking_at_a_workflow_fetches_nothing(tmp_path: Path, lightflow: Lightflow) -> None:
    write(tmp_path)
    (tmp_path / "password.txt").unlink()
    for arguments in (["validate"], ["run", "-n"], ["run", "-n", "--json"], ["dag", "--output", "x.svg"]):
        done = lightflow(arguments[0], "flow.yaml", *arguments[1:])
        assert (done.returncode, leaks(done.stdout.encode())) == (0, []), done.stderr
    assert not (tmp_path / "fetched").exists()
    plan = json.loads(lightflow("run", "flow.yaml", "-n", "--json").stdout)
    assert plan["secrets"] == ["TOKEN", "PASSWORD", "KEY"]
    summaries = {task["task"]: task["summary"] for level in plan["levels"] for task in level}
    assert summaries["shell"].startswith('echo "$TOKEN"')


def test_a_preview_shows_no_secret_of_the_environment(tmp_path: Path, lightflow: Lightflow) -> None:
    (tmp_path / "flow.yaml").write_text(
        "secrets: [TOKEN]\ntasks: {a: {run: 'echo ${{ env.TOKEN }} ${{ secrets.TOKEN }} ${{ secrets.TOKEN | upper }}'}}"
    )
    done = lightflow("run", "flow.yaml", "-n")
    assert "echo *** *** ***" in done.stdout


def test_missing_secrets_are_reported_all_at_once_and_nothing_runs(tmp_path: Path, lightflow: Lightflow) -> None:
    (tmp_path / "flow.yaml").write_text(
        "secrets:\n  - NOT_SET\n  - {name: A, path: none.txt}\n  - {name: B, run: echo SHOWN; exit 3}\n"
        "  - {name: C, run: kill -9 $$}\n  - {name: D, run: 'true'}\n  - {name: E, key: OTHER}\n"
        "tasks: {a: {run: touch ran}}"
    )
    done = lightflow("run", "flow.yaml")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "flow.yaml:2:5: secrets.NOT_SET: the environment variable NOT_SET is not set",
        f"flow.yaml:3:5: secrets.A: cannot read {tmp_path}/none.txt: No such file or directory",
        "flow.yaml:4:5: secrets.B: its command failed with exit code 3; run it by hand to see why",
        "flow.yaml:5:5: secrets.C: its command failed with signal 9; run it by hand to see why",
        "flow.yaml:6:5: secrets.D: is empty",
        "flow.yaml:7:5: secrets.E: the environment variable OTHER is not set",
    ]
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "lightflow.db").exists()


def test_a_secret_given_as_a_parameter_is_refused(tmp_path: Path, lightflow: Lightflow) -> None:
    (tmp_path / "flow.yaml").write_text("params: {login: x}\nsecrets: [TOKEN]\ntasks: {a: {run: 'true'}}")
    done = lightflow("run", "flow.yaml", "-p", f"login=me:{TOKEN}")
    assert done.returncode == 2
    assert "parameter 'login': contains the secret TOKEN, and parameters are stored" in done.stderr
    assert leaks(done.stderr.encode()) == []


def test_short_secrets_are_warned_of(tmp_path: Path, lightflow: Lightflow) -> None:
    (tmp_path / "flow.yaml").write_text("secrets: [TOKEN]\ntasks: {a: {run: 'true'}}")
    done = lightflow("run", "flow.yaml", TOKEN="abc")
    assert done.returncode == 0
    assert "secret TOKEN: shorter than 4 characters, so it is not masked in logs" in done.stderr


def test_a_value_pasted_into_a_script_is_not_a_secret(tmp_path: Path, lightflow: Lightflow) -> None:
    (tmp_path / "flow.yaml").write_text(
        "secrets: [TOKEN]\ntasks: {a: {run: 'echo ${{ raw(env.X) }}', env: {X: '${{ secrets.TOKEN }}'}}}"
    )
    done = lightflow("run", "flow.yaml")
    assert done.returncode == 1
    assert "raw(…) would put the secret TOKEN on a command line" in done.stdout


def test_early_mistakes_are_masked_too(tmp_path: Path, lightflow: Lightflow) -> None:
    (tmp_path / "flow.yaml").write_text(
        "secrets: [TOKEN]\ntasks: {a: {run: 'true', timeout: '${{ env.TOKEN }}'}, b: {run: 'echo ${{ env.TOKEN | int }}'}}"
    )
    done = lightflow("run", "flow.yaml")
    assert done.returncode == 2
    assert done.stderr.count("***") == 2
    assert leaks(done.stderr.encode()) == []


def test_dotenv_files_and_their_precedence(tmp_path: Path, lightflow: Lightflow) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "flow.yaml").write_text(
        textwrap.dedent("""\
        dotenv: [.env, {path: local.env, required: false}]
        env: {C: workflow, D: workflow, E: workflow, F: "${{ env.B }}!"}
        secrets: [A_SECRET]
        tasks:
          a:
            env_file: task.env
            env: {E: task, G: "${{ env.D }} ${{ env.H }}"}
            run: echo $A,$B,$C,$D,$E,$F,$G ${{ env.D }} ${{ secrets.A_SECRET }}
            timeout: ${{ env.LIMIT }}
          b: {run: "echo $A,$B,$C,$D,$E,$F"}
        """)
    )
    (tmp_path / "sub" / ".env").write_text("B=dotenv\nC=dotenv\nD=dotenv\nE=dotenv\nLIMIT=1m\nA_SECRET=from-dotenv\n")
    (tmp_path / "sub" / "task.env").write_text("D=task dotenv\nE=task dotenv\nH=h\n")
    done = lightflow("run", "sub/flow.yaml", A="program", B="program", C="program", D="program", E="program")
    assert done.returncode == 0, done.stdout + done.stderr
    logs = {path.name.split("_")[1]: path.read_text() for path in (tmp_path / "logs").iterdir()}
    assert logs["a"] == "program,dotenv,workflow,task dotenv,task,dotenv!,task dotenv h task dotenv ***\n"
    assert logs["b"] == "program,dotenv,workflow,workflow,workflow,dotenv!\n"


def test_mistakes_in_dotenv_files_have_places(tmp_path: Path, lightflow: Lightflow) -> None:
    (tmp_path / "flow.yaml").write_text(
        "secrets: [{name: X, run: touch fetched}]\ndotenv: [x.env, y.env]\ntasks: {a: {run: 'true', dotenv: z.env}}"
    )
    (tmp_path / "x.env").write_text("A=1\nTOPSECRET\nC=3\n")
    done = lightflow("run", "flow.yaml")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "flow.yaml:2:17: dotenv: no such file: y.env; the path starts from the workflow file's folder",
        "flow.yaml:3:34: tasks.a.dotenv: no such file: z.env; the path starts from the workflow file's folder",
        "x.env:2:1: expected NAME=value",
    ]
    assert not (tmp_path / "fetched").exists()
    assert lightflow("validate", "flow.yaml").returncode == 0


# -- while it runs, and when it is killed ---------------------------------------------------------------------------

SLOW = """\
workflow_name: slow
secrets: [TOKEN]
settings: {mode: process}
tasks:
  shell: {secrets: [TOKEN], run: 'printf "%s\\n%.24s" "$TOKEN" "$TOKEN"; touch shell.on; sleep 600'}
  worker:
    type: python
    secrets: [TOKEN]
    run: |
      import os, time
      print(os.environ["TOKEN"])
      os.write(1, os.environb[b"TOKEN"][:-2])
      open("worker.on", "w").close()
      time.sleep(600)
"""


def processes_of(folder: Path) -> Iterator[tuple[int, bytes]]:
    """Processes whose working directory is the folder, with their command lines."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.readlink(f"/proc/{name}/cwd") == str(folder):
                    yield int(name), Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "flow.yaml").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, "-m", "lightflow", "run", "flow.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TOKEN": TOKEN},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    wait_until(lambda: (tmp_path / "shell.on").exists() and (tmp_path / "worker.on").exists())
    yield process
    process.kill()
    process.communicate()


def wait_until(what: Callable[[], bool], limit_s: float = 120.0) -> None:
    give_up = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.mark.parametrize("whom", ["orchestrator", "guardian too"])
def test_kill_9_leaves_nothing_unmasked(slow: subprocess.Popen[bytes], tmp_path: Path, whom: str) -> None:
    alive = list(processes_of(tmp_path))
    assert len(alive) >= 4
    assert [line for _, line in alive if leaks(line)] == []
    if whom == "guardian too":
        children = Path(f"/proc/{slow.pid}/task/{slow.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGSTOP)  # nothing of it runs between the two
        slow.kill()
        os.kill(int(children[0]), signal.SIGKILL)
        for pid, _ in processes_of(tmp_path):
            os.kill(pid, signal.SIGKILL)
    slow.kill()
    slow.wait()
    wait_until(lambda: not list(processes_of(tmp_path)))
    search(tmp_path)
    logs = [path.read_text() for path in (tmp_path / "logs").iterdir()]
    assert len(logs) == 2
    assert all(log.startswith("***\n") for log in logs)


def test_a_log_can_be_followed_and_an_interrupt_masks_what_is_broken_off(
    slow: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    wait_until(lambda: len([entry for entry in (tmp_path / "logs").iterdir() if entry.read_text() == "***\n"]) == 2)
    slow.send_signal(signal.SIGINT)
    out, _ = slow.communicate(timeout=120)
    assert leaks(out) == []
    search(tmp_path)
    assert {path.read_text() for path in (tmp_path / "logs").iterdir()} == {"***\n***"}


# -- in Python ------------------------------------------------------------------------------------------------------


def tell() -> int:
    print("told", current_context().secrets["TOKEN"])
    return len(current_context().secrets["TOKEN"])


def from_environment() -> str:
    print(os.environ["TOKEN"])
    return base64.b32encode(os.environ["TOKEN"].encode()).decode()[::-1]  # in a form that nobody looks for


def die() -> None:
    os.write(2, TOKEN.encode())
    os.kill(os.getpid(), signal.SIGKILL)


async def wait_and_tell() -> None:
    print("told", current_context().secrets["TOKEN"])


def no_such_secret() -> None:
    assert current_context().secrets["TOKEM"]


def dag_of(db: str, **given: Any) -> Dag:
    dag = Dag("py", db, secrets=given.pop("secrets", ["TOKEN"]), **given)
    dag.task(tell)
    dag.task(wait_and_tell)
    dag.task(from_environment, secrets=["TOKEN"])
    dag.task(die, mode="process")
    dag.task(no_such_secret)
    dag.add_task(Task("command", body=Command(("/bin/sh", "-c", 'echo "$TOKEN"'), secrets=("TOKEN",))))
    return dag


def states(run: DagRun, db: str) -> dict[str, str]:
    with sqlite3.connect(db) as database:
        result = database.execute(
            "SELECT task_id, coalesce(reason, status) FROM liteflow_task_instances WHERE run_id=?", (run.run_id,)
        )
        return dict(result.fetchall())


@pytest.mark.parametrize("mode", ["thread", "process", "async", "inline"])
@pytest.mark.parametrize("threads", [False, True])
def test_in_python(tmp_path: Path, db: str, mode: str, threads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", TOKEN)
    dag = dag_of(db)
    stop = threading.Event()
    if threads:  # the guardian is then a fresh interpreter, where that can work
        threading.Thread(target=stop.wait, daemon=True).start()
    try:
        run = dag.run(mode=mode if mode != "inline" else "thread", log_dir=str(tmp_path / "logs"))
    finally:
        stop.set()
    assert states(run, db) == {
        "tell": "SUCCESS",
        "wait_and_tell": "SUCCESS",
        "from_environment": "SUCCESS",
        "die": "worker killed by SIGKILL",
        "no_such_secret": "KeyError: \"there is no secret 'TOKEM'; did you mean 'TOKEN'?\"",
        "command": "SUCCESS",
    }
    search(tmp_path)
    logs = {path.name.split("_20")[0]: path.read_text() for path in (tmp_path / "logs").iterdir()}
    assert logs == {
        "task_tell": "told ***\n",
        "task_wait_and_tell": "told ***\n",
        "task_from_environment": "***\n",
        "task_die": "***",
        "task_command": "***\n",
    }


def test_values_at_hand_and_declared_sources(tmp_path: Path, db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER", TOKEN)
    (tmp_path / "f").write_text("from-file\n\n")
    dag = Dag(
        "py",
        db,
        secrets=[
            Secret("A", env="OTHER"),
            Secret("B", file=str(tmp_path / "f")),
            Secret("C", command="pwd; echo", folder=str(tmp_path)),
            "D",
        ],
    )
    seen: dict[str, str] = {}
    dag.task(lambda: seen.update(current_context().secrets), "look")
    dag.run(mode="thread", log_dir=str(tmp_path / "logs"), secrets={"D": "given"}).raise_for_failure()
    assert seen == {"A": TOKEN, "B": "from-file\n", "C": f"{tmp_path}\n", "D": "given"}


def test_wrong_declarations(db: str) -> None:
    with pytest.raises(SecretError) as caught:
        Dag("py", db, secrets=["A", "A", "b-c", Secret("D", env="X", file="y")])
    assert caught.value.problems == {
        "A": "is declared twice",
        "b-c": "is not a valid secret name: use letters, digits and '_', and no digit first",
        "D": "has one source: give only one of env, file and command",
    }
    dag = Dag("py", db, secrets=["NOT_SET", "B"])
    dag.task(tell)
    with pytest.raises(SecretError, match="'NOT_SET': the environment variable NOT_SET is not set"):
        dag.run(secrets={"B": "given"})
    with pytest.raises(SecretError, match="there is no secret 'C'"):
        dag.run(secrets={"B": "given", "C": "x", "NOT_SET": "x"})
    with pytest.raises(DefinitionError, match="a run with secrets needs a log_dir"):
        dag.run(secrets={"B": "given", "NOT_SET": "given"})
    with pytest.raises(ParamError, match="parameter 'x': contains the secret B"):
        dag.run(secrets={"B": "given", "NOT_SET": "other"}, params={"x": ["a given one"]})
    dag.task(tell, "asks", secrets=["BB"])
    with pytest.raises(DefinitionError, match="task 'asks': there is no secret 'BB'; did you mean 'B'"):
        dag.run(secrets={"B": "given", "NOT_SET": "given"})
    assert not os.path.exists(db)


def test_a_resumed_run_fetches_anew(tmp_path: Path, db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dag = Dag("py", db, secrets=["TOKEN"])
    dag.add_task(Task("c", body=Command(("/bin/sh", "-c", 'echo "$TOKEN"; test -e ok'), secrets=("TOKEN",))))
    monkeypatch.setenv("TOKEN", "first-value")
    first = dag.run(log_dir=str(tmp_path / "logs"))
    monkeypatch.setenv("TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ok").touch()
    assert dag.resume(first.run_id).status == "SUCCESS"
    assert [path.read_text() for path in (tmp_path / "logs").iterdir()] == ["***\n", "***\n"]


def test_a_thread_of_a_task_and_a_large_value(
    tmp_path: Path, db: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start() -> None:
        secret = current_context().secrets["TOKEN"]
        thread = threading.Thread(target=lambda: print("beside", secret))
        thread.start()
        thread.join()

    def large() -> list[str]:
        return ["x" * 11_000_000, current_context().secrets["TOKEN"]]

    monkeypatch.setenv("TOKEN", TOKEN)
    dag = Dag("py", db, secrets=["TOKEN"])
    dag.task(start)
    dag.task(large)
    run = dag.run(mode="thread", log_dir=str(tmp_path / "logs"))
    assert capsys.readouterr().out == "beside ***\n"
    assert "contains the secret TOKEN" in states(run, db)["large"]
    search(tmp_path)
    print(TOKEN)
    assert capsys.readouterr().out == f"{TOKEN}\n"  # the run is over


def test_many_short_tasks_in_workers_of_their_own(tmp_path: Path, db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", TOKEN)
    dag = Dag("py", db, secrets=["TOKEN"])
    for number in range(60):
        dag.task(tell, f"t{number}")
    run = dag.run(3, log_dir=str(tmp_path / "logs"))
    run.raise_for_failure()
    assert [path.read_text() for path in (tmp_path / "logs").iterdir()] == ["told ***\n"] * 60
    search(tmp_path)


def test_a_fast_writer_is_masked_and_bounded(tmp_path: Path, db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", TOKEN)
    dag = Dag("py", db, secrets=["TOKEN"])
    script = 'yes "line with $TOKEN in it" | head -c 30000000'
    dag.add_task(Task("loud", body=Command(("/bin/sh", "-c", script), secrets=("TOKEN",))))
    dag.run(log_dir=str(tmp_path / "logs")).raise_for_failure()
    (log,) = (tmp_path / "logs").iterdir()
    assert log.stat().st_size > 10_000_000
    search(tmp_path)
