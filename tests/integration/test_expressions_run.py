"""Parameters and expressions in runs: from the command line to what tasks are given, and back in status and resume."""

# ruff: noqa: E501 - workflow files

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flow_folder import write

ROOT = Path(__file__).resolve().parents[2]
Lightflow = Callable[..., "subprocess.CompletedProcess[str]"]

FLOW = """\
workflow_name: report
params:
  day: {type: date}
  rows: {type: integer, default: 100, minimum: 1}
  who: World
  tags: [a, b]
env:
  OUT: out-${{ params.day }}
tasks:
  make:
    type: python
    call: functions:make
    args: {rows: "${{ params.rows }}", day: "${{ params.day }}", label: "n=${{ params.rows }}", raw: [1, "${{ params.tags }}"]}
  say:
    run: |
      printf '%s|' ${{ params.who }} "$OUT" '${{ tasks.make.result.rows + 1 }}' ${{ run.attempt }} ${{ task.id }} \\
        ${{ workflow.name }} ${{ env.OTHER }} ${{ params.tags }} ${{ raw(params.words) }}
    env:
      OTHER: ${{ env.OUT }}/${{ env.FROM_OUTSIDE }}
"""
FUNCTIONS = """\
def make(rows, day, label, raw):
    return {"rows": rows, "day": repr(day), "label": label, "raw": raw}

class Thing:
    pass

def thing():
    return Thing()

def kind(value):
    return type(value).__name__

def nothing():
    pass
"""


@pytest.fixture
def lightflow(tmp_path: Path) -> Lightflow:
    """The command, in an empty folder."""
    (tmp_path / "functions.py").write_text(FUNCTIONS, "utf-8")

    def call(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        base = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTFLOW_")}
        return subprocess.run(
            [sys.executable, "-m", "lightflow", *arguments],
            cwd=tmp_path,
            env={**base, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return call


def logged(lightflow: Lightflow, task: str) -> str:
    return lightflow("logs", "--task", task).stdout


def stored(folder: Path, task: str) -> Any:
    with sqlite3.connect(folder / "lightflow.db") as connection:
        row = connection.execute("SELECT value FROM liteflow_xcom WHERE task_id=?", (task,)).fetchone()
    return json.loads(row[0])


def test_values_reach_tasks(lightflow: Lightflow, tmp_path: Path) -> None:
    write(tmp_path, FLOW.replace("  tags: [a, b]", "  tags: [a, b]\n  words: x y"))
    who = "it's $(touch pwned) `touch pwned` \"; touch pwned\n*"
    done = lightflow("run", "flow.yaml", "-p", "day=2026-01-31", "-p", "rows=5", "-p", f"who={who}", FROM_OUTSIDE="f")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "pwned").exists()
    assert stored(tmp_path, "make") == {
        "rows": 5, "day": "datetime.date(2026, 1, 31)", "label": "n=5", "raw": [1, ["a", "b"]],
    }  # fmt: skip
    words = [who, "out-2026-01-31", "6", "1", "say", "report", "out-2026-01-31/f", '["a","b"]', "x", "y", ""]
    assert "|".join(words) in logged(lightflow, "say")
    status = json.loads(lightflow("status", "--json").stdout)
    assert status["params"] == {"day": "2026-01-31", "rows": 5, "who": who, "tags": ["a", "b"], "words": "x y"}
    assert [task["depends_on"] for task in status["tasks"]] == [[], ["make"]]
    assert json.loads(lightflow("runs", "--json").stdout)[0]["params"]["rows"] == 5
    assert "rows=5" in lightflow("status").stdout


PLAIN = """\
    params:
      day: {type: date}
      rows: {type: integer, default: 100, minimum: 1}
      stage: {type: enum, values: [test, live], default: test}
    tasks:
      a: {run: "echo day ${{ params.day }} rows ${{ params.rows }} stage ${{ params.stage }}; exit ${EXIT:-0}"}
"""


def test_all_mistakes_are_reported_before_anything_runs(lightflow: Lightflow, tmp_path: Path) -> None:
    write(tmp_path, PLAIN)
    write(tmp_path, "rows: many\nstage: live\nnothing: 1\n", "values.yaml")
    line = ["run", "flow.yaml", "-p", "rowz=1", "-p", "stage=live", "-p", "stage=test", "-p", "x"]
    done = lightflow(*line, "--params-file", "values.yaml")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "-p rowz: there is no such parameter; did you mean 'rows'?",
        "-p stage: is given twice",
        "-p x: write -p name=value",
        "flow.yaml: params.day: needs a value: a date such as 2026-01-31; give it with -p day=…",
        'values.yaml:1:7: rows: must be a whole number, not "many"',
        "values.yaml:3:1: nothing: there is no such parameter; there are day, rows, stage",
    ]
    assert not (tmp_path / "lightflow.db").exists()


def test_a_file_gives_values_and_the_command_line_wins(lightflow: Lightflow, tmp_path: Path) -> None:
    write(tmp_path, PLAIN)
    (tmp_path / "values.json").write_text('{"day": "2026-01-31", "rows": 7, "stage": "live"}')
    done = lightflow("run", "flow.yaml", "--params-file", "values.json", "-p", "rows=8", "--param", "stage=test")
    assert done.returncode == 0, done.stderr
    assert "day 2026-01-31 rows 8 stage test\n" in logged(lightflow, "a")


def test_a_workflow_without_parameters_takes_none(lightflow: Lightflow, tmp_path: Path) -> None:
    write(tmp_path, "tasks: {a: {run: 'true'}}")
    done = lightflow("run", "flow.yaml", "-p", "rows=1")
    assert (done.returncode, done.stderr) == (
        2,
        "-p rows: the workflow declares no parameters\n",
    )


def test_a_run_keeps_its_parameters(lightflow: Lightflow, tmp_path: Path) -> None:
    write(tmp_path, PLAIN)
    assert lightflow("run", "flow.yaml", "-p", "day=2026-01-31", EXIT="1").returncode == 1
    done = lightflow("resume", "flow.yaml", "-p", "day=2026-02-01")
    assert done.returncode == 2
    assert "was started with day=2026-01-31, not day=2026-02-01, and a run keeps its parameters" in done.stderr
    assert lightflow("run", "flow.yaml", "--resume", "-p", "rows=1").returncode == 2
    dry = lightflow("resume", "flow.yaml", "--dry-run")
    assert "with day=2026-01-31, rows=100, stage=test" in dry.stdout
    done = lightflow("resume", "flow.yaml", "-p", "day=2026-01-31")
    assert done.returncode == 0, done.stderr
    assert "day 2026-01-31 rows 100" in logged(lightflow, "a")


def test_a_checkpoint_keeps_the_parameters(lightflow: Lightflow, tmp_path: Path) -> None:
    write(tmp_path, PLAIN + '      b: {run: "true"}\n')
    assert lightflow("run", "flow.yaml", "-p", "day=2026-01-31", "-p", "rows=7", EXIT="1").returncode == 1
    for path in tmp_path.glob("lightflow.db*"):
        path.unlink()
    assert "not rows=8" in lightflow("resume", "flow.yaml", "-p", "rows=8").stderr
    done = lightflow("resume", "flow.yaml")
    assert done.returncode == 0, done.stderr
    assert "day 2026-01-31 rows 7" in logged(lightflow, "a")


def test_a_killed_run_continues_with_its_parameters(lightflow: Lightflow, tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        params: {rows: 3}
        tasks:
          make: {type: python, call: functions:make, args: {rows: "${{ params.rows }}", day: 0, label: "", raw: 0}}
          use: {run: "echo rows ${{ tasks.make.result.rows }}; test -e killed || { touch killed; kill -9 $PPID_OF_ALL; sleep 9; }"}
        """.replace("$PPID_OF_ALL", "$(cat pid)"),
    )
    script = f"echo $$ > pid; exec {sys.executable} -m lightflow run flow.yaml -p rows=4"
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -9
    again = lightflow("resume", "flow.yaml")
    assert again.returncode == 0, again.stderr
    assert "rows 4\n" in logged(lightflow, "use")


def test_auto_resume_starts_anew_for_other_parameters(lightflow: Lightflow, tmp_path: Path) -> None:
    write(tmp_path, PLAIN + "    settings: {resume: auto}\n")
    assert lightflow("run", "flow.yaml", "-p", "day=2026-01-31", EXIT="1").returncode == 1
    done = lightflow("run", "flow.yaml", "-p", "day=2026-02-01")
    assert done.returncode == 0, done.stderr
    assert "had other parameters: this is a new run" in done.stderr
    assert len(json.loads(lightflow("runs", "--json").stdout)) == 2


def test_a_dry_run_shows_what_is_known(lightflow: Lightflow, tmp_path: Path) -> None:
    write(tmp_path, PLAIN + '      b: {run: "echo ${{ params.rows }} ${{ tasks.a.outputs.n }}"}\n')
    assert lightflow("run", "flow.yaml", "-n").returncode == 2
    done = lightflow("run", "flow.yaml", "-n", "-p", "day=2026-01-31")
    assert "with day=2026-01-31, rows=100, stage=test" in done.stdout
    assert "echo day 2026-01-31 rows 100 stage test; exit ${EXIT:-0}" in done.stdout
    assert "reads a  echo 100 ${{ tasks.a.outputs.n }}" in done.stdout
    shape = json.loads(lightflow("run", "flow.yaml", "-n", "-p", "day=2026-01-31", "--json").stdout)
    assert shape["params"] == {"day": "2026-01-31", "rows": 100, "stage": "test"}
    assert not (tmp_path / "lightflow.db").exists()


def test_a_reference_is_an_edge_in_the_picture(lightflow: Lightflow, tmp_path: Path) -> None:
    write(tmp_path, "tasks:\n  a: {run: 'true'}\n  b: {run: 'echo ${{ tasks.a.outputs.n }}'}\n")
    drawn = lightflow("dag", "flow.yaml", "--format", "mmd").stdout
    assert "t_a --> t_b" in drawn
    assert "edges from expressions: b reads a\n" in lightflow("dag", "flow.yaml", "-o", "flow.svg").stdout


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("tasks.a.outputs.n", "task 'a' has no output 'n'"),
        ("tasks.a.result", "task 'a' has no result"),
        ("tasks.c.result", "task 'c': the value is a Python object (it was pickled), which only Python tasks can take"),
        ("tasks.d.result", "the value holds a NUL character, which no program can be given"),
        ("tasks.e.result", "the value is 200,000 bytes long; a program can be given 128 KiB"),
        ("tasks.f.result", "the value holds half of a character"),
        ("tasks.d.result | int", "int: 'a\\x00b' is not a whole number"),
    ],
)
def test_what_is_missing_fails_the_task_with_one_line(
    lightflow: Lightflow, tmp_path: Path, value: str, message: str
) -> None:
    write(
        tmp_path,
        f"""\
        tasks:
          a: {{type: python, call: functions:nothing}}
          c: {{type: python, call: functions:thing}}
          d: {{type: python, call: "functions:str.join", args: {{}}}}
          e: {{type: python, call: "functions:str.join", args: {{}}}}
          f: {{type: python, call: "functions:str.join", args: {{}}}}
          b: {{run: 'echo ${{{{ {value} }}}}', retries: 1}}
        """,
    )
    text = (tmp_path / "flow.yaml").read_text("utf-8")
    (tmp_path / "functions.py").write_text(
        FUNCTIONS + 'def nul(): return "a\\0b"\ndef large(): return "x" * 200_000\ndef half(): return "\\ud800"\n'
    )
    for task, name in {"d": "nul", "e": "large", "f": "half"}.items():
        text = text.replace(f'  {task}: {{type: python, call: "functions:str.join", args: {{}}}}',
                            f"  {task}: {{type: python, call: functions:{name}}}")  # fmt: skip
    (tmp_path / "flow.yaml").write_text(text, "utf-8")
    assert lightflow("run", "flow.yaml").returncode == 1
    why = lightflow("why", "b").stdout
    assert f"flow.yaml:7:18: tasks.b.run: {message}" in why, why
    [attempts] = [
        entry["attempts"] for entry in json.loads(lightflow("status", "--json").stdout)["tasks"] if entry["task"] == "b"
    ]
    assert [entry["status"] for entry in attempts] == ["FAILED", "FAILED"]


@pytest.mark.parametrize("mode", ["thread", "process", "async"])
def test_python_tasks_take_objects(lightflow: Lightflow, tmp_path: Path, mode: str) -> None:
    write(
        tmp_path,
        """\
        tasks:
          a: {type: python, call: functions:thing}
          b: {type: python, call: functions:kind, args: ["${{ tasks.a.result }}"]}
          c: {type: python, call: functions:kind, args: {value: "${{ tasks.b.outputs.nothing }}"}}
        """,
    )
    assert lightflow("run", "flow.yaml", "--mode", mode).returncode == 1
    assert stored(tmp_path, "b") == "Thing"
    assert "flow.yaml:4:58: tasks.c.args.value: task 'b' has no output 'nothing'" in lightflow("why", "c").stdout


def test_what_is_known_early_is_tried_early(lightflow: Lightflow, tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        params: {n: 0, list: []}
        tasks:
          a: {run: "echo ${{ 1 // params.n }}"}
          b: {run: "echo ${{ params.list[3] }}", timeout: "${{ params.n }}", retries: "${{ params.n - 1 }}"}
        """,
    )
    done = lightflow("run", "flow.yaml")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "flow.yaml:3:18: tasks.a.run: integer division or modulo by zero (ZeroDivisionError)",
        "flow.yaml:4:18: tasks.b.run: list has no 3 here",
        'flow.yaml:4:52: tasks.b.timeout: must be a time: seconds such as 30, or text such as "5m", not 0',
        "flow.yaml:4:80: tasks.b.retries: must be a whole number from 0 to 1000, not -1",
    ]
    assert not (tmp_path / "lightflow.db").exists()


def test_options_and_folders(lightflow: Lightflow, tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        params: {limit: 200ms, folder: sub, again: 2}
        tasks:
          slow: {run: sleep 5, timeout: "${{ params.limit }}", retries: "${{ params.again }}", retry_delay: "${{ 0 }}"}
          here: {run: pwd, cwd: "${{ params.folder }}/${{ task.id }}"}
          py:
            type: python
            cwd: ${{ workflow.dir }}/sub
            env: {A: "${{ params.again }}"}
            run: import os; print(os.getcwd(), os.environ["A"])
        """.replace("200ms", "0.2s"),
    )
    (tmp_path / "sub" / "here").mkdir(parents=True)
    assert lightflow("run", "flow.yaml").returncode == 1
    tasks = {entry["task"]: entry for entry in json.loads(lightflow("status", "--json").stdout)["tasks"]}
    assert [entry["status"] for entry in tasks["slow"]["attempts"]] == ["TIMED_OUT"] * 3
    assert f"{tmp_path}/sub/here\n" in logged(lightflow, "here")
    assert f"{tmp_path}/sub 2\n" in logged(lightflow, "py")


def test_a_resume_evaluates_again_from_what_is_stored(lightflow: Lightflow, tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        params: {rows: 3}
        tasks:
          make: {type: python, call: functions:make, args: {rows: "${{ params.rows }}", day: 0, label: "", raw: 0}}
          use: {run: 'echo rows ${{ tasks.make.result.rows }} attempt ${{ run.attempt }}; test -e ready'}
        """,
    )
    assert lightflow("run", "flow.yaml", "-p", "rows=4").returncode == 1
    (tmp_path / "ready").touch()
    done = lightflow("resume", "flow.yaml")
    assert done.returncode == 0, done.stderr
    assert "changed since" not in done.stderr
    assert "rows 4 attempt 2\n" in logged(lightflow, "use")


def test_python_scripts_take_parameters(lightflow: Lightflow, tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        from liteflow import Dag, Param, current_context

        def tell():
            return [current_context().params["rows"], str(current_context().params["day"])]

        with Dag("scripted", params={"rows": 3, "day": Param("date")}) as dag:
            dag.task(tell)
        """,
        "script.py",
    )
    assert lightflow("run", "script.py", "-p", "day=x").returncode == 2
    assert (
        "with rows=4, day=2026-01-31"
        in lightflow("run", "script.py", "-n", "-p", "day=2026-01-31", "-p", "rows=4").stdout
    )
    done = lightflow("run", "script.py", "-p", "day=2026-01-31", "-p", "rows=4")
    assert done.returncode == 0, done.stderr
    assert stored(tmp_path, "tell") == [4, "2026-01-31"]


def test_a_plugin_gets_values(lightflow: Lightflow, tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        from lightflow.plugins.base import TaskType

        class Echo(TaskType):
            name = "echo"
            schema = {"properties": {"what": {}}, "required": ["what"]}

            def run(self, config, context):
                return config["what"]
        """,
        "plug.py",
    )
    write(
        tmp_path,
        """\
        params: {n: 3}
        plugins: [plug.py]
        tasks:
          a: {type: echo, what: {n: "${{ params.n }}", text: "n is ${{ params.n }}", free: $x}}
        """,
    )
    done = lightflow("run", "flow.yaml")
    assert done.returncode == 0, done.stderr
    assert stored(tmp_path, "a") == {"n": 3, "text": "n is 3", "free": "$x"}


def test_jinja_is_only_imported_for_expressions(tmp_path: Path) -> None:
    code = "import sys\nfrom lightflow.cli.main import main\ntry: main({!r})\nexcept SystemExit: pass\nprint('jinja2' in sys.modules)"
    for text, wanted in (("echo '{{ x }} $x'", "False"), ("echo ${{ run.id }}", "True")):
        write(tmp_path, f'tasks: {{a: {{run: "{text}"}}}}')
        for line in (["validate", "flow.yaml"], ["run", "flow.yaml", "-q"]):
            done = subprocess.run(
                [sys.executable, "-c", code.format(line)],
                cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert done.stdout.splitlines()[-1] == wanted


def test_the_example(lightflow: Lightflow, tmp_path: Path) -> None:
    file = str(ROOT / "examples" / "parameters" / "parameters.yaml")
    title = 'It\'s $5 & "more"'
    done = lightflow("run", file, "-p", "day=2026-01-31", "-p", f"title={title}", "-p", "orders=4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "report-2026-01-31.txt").read_text() == f"{title}, 31.01.2026\nnorth: 16\nsouth: 30\n"
    done = lightflow("run", file, "-p", "day=2026-01-31", "-p", "format=json")
    assert json.loads((tmp_path / "report-2026-01-31.json").read_text().partition("\n")[2])["regions"]["north"] > 0
    assert lightflow("run", file, "-p", "day=1999-12-31").returncode == 2


def test_outputs_of_commands_reach_expressions(lightflow: Lightflow, tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        tasks:
          count:
            output: json
            run: |
              printf 'name=it'"'"'s $(touch pwned)\\nrows<<END\\n1\\n2\\nEND\\n' >> "$LIGHTFLOW_OUTPUT"
              echo '{"n": 3}'
          shell: {run: 'printf "%s|" ${{ tasks.count.outputs.name }} "${{ tasks.count.outputs.rows }}" ${{ tasks.count.result.n }}'}
          python: {type: python, call: functions:kind, args: ["${{ tasks.count.result.n }}"]}
        """,
    )
    done = lightflow("run", "flow.yaml")
    assert done.returncode == 0, done.stderr
    assert "it's $(touch pwned)|1\n2|3|" in logged(lightflow, "shell")
    assert stored(tmp_path, "python") == "int"
    assert not (tmp_path / "pwned").exists()
