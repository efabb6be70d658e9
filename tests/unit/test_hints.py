"""The warnings of `validate` about what is valid and probably not meant; ordinary files have none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightflow.parser.shell_syntax import syntax_error_of
from lightflow.parser.workflow_loader import load_with_hints

BASH = ["[[ -f x ]]", "source x", "set -euo pipefail", "a=(1 2)", "cat <(ls)", "echo ${a[0]}", "cat <<< x"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def warned(text: str) -> list[str]:
    Path("w.yaml").write_text(text, "utf-8")
    return [str(entry).removeprefix("w.yaml:") for entry in load_with_hints("w.yaml")[1]]


def of_task(keys: str, head: str = "") -> list[str]:
    return warned(f"{head}tasks:\n  a: {{{keys}}}\n")


# -- variables and braces ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('"/opt/x:${PATH}"', "${PATH} stays as it is: no shell reads `env`; write ${{ env.PATH }}"),
        ("$HOME/data", "$HOME stays as it is: no shell reads `env`; write ${{ env.HOME }}"),
        ('"${NAME:-x}"', "${NAME:-x} stays as it is: no shell reads `env`; write ${{ env.NAME }}"),
        ('"$(date)"', "$( stays as it is: no shell reads `env`; write it into `run`"),
        ('"{{ params.day }}"', "{{ params.day }} is not evaluated, and stays as it is; write ${{ params.day }}"),
        ('"${params.day}"', "${params.day}: it stays as it is; write ${{ params.day }}"),
    ],
)
@pytest.mark.parametrize("level", ["top", "task", "hook"])
def test_text_in_env_that_no_shell_reads(value: str, message: str, level: str) -> None:
    params = "params: {day: x}\n"
    env = f"env: {{A: {value}}}"
    if level == "top":
        [shown] = warned(f"{params}{env}\ntasks: {{a: {{run: echo}}}}\n")
    elif level == "task":
        [shown] = of_task(f"run: echo, {env}", params)
    else:
        [shown] = of_task(f"run: echo, on_failure: {{run: echo, {env}}}", params)
    assert shown.endswith(f".A: {message}")


@pytest.mark.parametrize("value", ["5$", "'a$'", r"'\$HOME'", "'$$'", "'US$ 5'", "${{ params.day }}", "'100 %'"])
def test_dollars_that_are_not_variables(value: str) -> None:
    assert (
        of_task(
            f'run: echo, env: {{A: "{value}"}}' if "{{" in value else f"run: echo, env: {{A: {value}}}",
            "params: {day: x}\n",
        )
        == []
    )


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo {{ params.day }}",
            "3:15: tasks.a.run: {{ params.day }} is not evaluated, and stays as it is; write ${{ params.day }}",
        ),
        (
            "echo {{ ds }}",
            "3:15: tasks.a.run: {{ ds }} is not evaluated, and stays as it is; write ${{ run.logical_date }}",
        ),
        ("echo {{item}}", "3:15: tasks.a.run: {{item}} is not evaluated, and stays as it is; write ${{ item }}"),
        ("echo ${params.day}", "3:15: tasks.a.run: ${params.day}: the shell has no such name; write ${{ params.day }}"),
        (
            "echo ${tasks.x.result}",
            "3:15: tasks.a.run: ${tasks.x.result}: the shell has no such name; write ${{ tasks.x.result }}",
        ),
    ],
)
def test_expressions_in_other_braces(script: str, message: str) -> None:
    assert message in warned(f"tasks:\n  a:\n    run: {script}\n")


@pytest.mark.parametrize(
    "script",
    [
        "docker ps --format '{{.Names}}'",
        "docker inspect -f '{{json .State}}' x",
        "git log --format='%h'",
        "echo ${params} ${HOME} ${params%.csv}",
        "awk '{{ print $1 }}' f",
        "gh run list --template '{{range .}}{{.id}}{{end}}'",
    ],
)
def test_braces_of_other_programs(script: str) -> None:
    assert warned(f"tasks:\n  a:\n    run: |\n      {script}\n") == []


def test_the_place_in_a_script_of_several_lines() -> None:
    text = "params: {x: a}\ntasks:\n  a:\n    run: |\n      echo one\n      echo {{ params.x }} ${params.x}\n"
    assert [entry.split(": ")[0] for entry in warned(text)] == ["6:12", "6:27"]


def test_templates_in_python_code() -> None:
    [shown] = warned("tasks:\n  a:\n    type: python\n    run: |\n      print('{{ ds }}', f'{{item}}')\n")
    assert shown.startswith("5:14: tasks.a.run: {{ ds }} is not evaluated")


# -- conditions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "condition", ["env.FLAG", "${{ env.FLAG }}", "not env.FLAG", "env['FLAG'] and params.a", "params.a or env.FLAG"]
)
@pytest.mark.parametrize("value", ["'false'", "false", "'0'", "off", "'No'"])
def test_text_that_counts_as_true(condition: str, value: str) -> None:
    text = f'params: {{a: true}}\nenv: {{FLAG: {value}}}\ntasks:\n  a:\n    run: echo\n    if: "{condition}"\n'
    [shown] = warned(text)
    assert shown.startswith("6:9: tasks.a.if: env.FLAG is ")
    assert shown.endswith(", which is true; compare it: env.FLAG == 'true'")


@pytest.mark.parametrize(
    "condition", ["env.FLAG == 'true'", "env.FLAG | length > 2", "'x' in env.FLAG", "env.ON", "params.a"]
)
def test_conditions_that_compare(condition: str) -> None:
    text = (
        f"params: {{a: true}}\nenv: {{FLAG: 'false', ON: '1'}}\ntasks:\n  a:\n    run: echo\n    if: \"{condition}\"\n"
    )
    assert warned(text) == []


def test_a_variable_without_a_value_in_the_file() -> None:
    [shown] = of_task("run: echo, if: env.HOME")
    assert shown.endswith("env.HOME is text, which is true unless it is empty; compare it: env.HOME == 'true'")


def test_a_parameter_that_is_text() -> None:
    [shown] = of_task("run: echo, if: params.full", "params: {full: 'false'}\n")
    assert shown.endswith('params.full is "false", text that is true; declare it with `type: boolean`')
    assert of_task("run: echo, if: params.full", "params: {full: false}\n") == []


def test_a_result_that_is_compared_with_a_state() -> None:
    [shown] = warned("tasks:\n  a: {run: echo}\n  b: {run: echo, if: needs.a.result == 'success'}\n")
    assert shown.endswith("needs.a.result is the value that the task returned; its state is needs.a.status")


# -- failures that nothing tells of -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "hook"),
    [
        ("trigger_rule: all_done", "on_exit"),
        ("trigger_rule: always", "on_exit"),
        ("if: always()", "on_exit"),
        ("if: failure()", "on_failure"),
        ("trigger_rule: one_failed", "on_failure"),
        ("if: success() or failure()", "on_failure"),
    ],
)
def test_a_last_task_that_runs_after_a_failure(last: str, hook: str) -> None:
    [shown] = warned(f"tasks:\n  load: {{run: echo}}\n  cleanup: {{run: echo, depends_on: [load], {last}}}\n")
    assert 'the task runs when "load" fails, and the run is SUCCESS then, as nothing else ends it' in shown
    assert f"(`{hook}`)" in shown


def test_all_upstream_tasks_of_such_a_task_are_named() -> None:
    text = """\
tasks:
  extract: {run: echo}
  load: {run: echo, depends_on: [extract]}
  check: {run: echo, depends_on: [extract]}
  cleanup: {run: echo, depends_on: [load, check], trigger_rule: all_done}
"""
    [shown] = warned(text)
    assert '"load" or "check"' in shown
    assert warned(text + "  report: {run: echo, depends_on: [load, check]}\n") == []


@pytest.mark.parametrize(
    "last",
    [
        "teardown_of: a, depends_on: [b]",
        "depends_on: [b], trigger_rule: none_failed",
        "depends_on: [b], if: success()",
        "depends_on: [b], if: not failure()",
        "depends_on: [b], trigger_rule: one_success",
        "trigger_rule: all_done",
    ],
)
def test_last_tasks_that_report_failures(last: str) -> None:
    text = (
        f"tasks:\n  a: {{run: echo, setup: true}}\n  b: {{run: echo, depends_on: [a]}}\n  last: {{run: echo, {last}}}\n"
    )
    assert warned(text) == []


def test_a_tolerated_failure_is_not_a_warning() -> None:
    text = (
        "tasks:\n  a: {run: echo, continue_on_error: true}\n  b: {run: echo, depends_on: [a], trigger_rule: all_done}\n"
    )
    assert warned(text) == []


def test_each_such_task_is_named_in_a_large_graph() -> None:
    above = ["", *(f"t{n}" for n in range(3_000))]
    rows = (f"  t{n}: {{run: echo, depends_on: [{above[n]}], trigger_rule: all_done}}\n" for n in range(3_000))
    assert len(warned("tasks:\n" + "".join(rows))) == 2_999


# -- scripts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["", ", shell: bash", ", shell: /bin/sh"])
@pytest.mark.parametrize(
    "script", ["if true; then echo", "echo 'it", "case $x in", "echo )", "for x in a; do echo", "a() { echo"]
)
def test_scripts_that_their_shell_cannot_read(script: str, shell: str) -> None:
    [shown] = of_task(f'run: "{script}"{shell}')
    assert "cannot read the script: " in shown


def test_hooks_and_preconditions_are_read_too() -> None:
    hooks = "on_failure: {run: 'if'}, preconditions: ['test (', {run: 'while'}]"
    text = f"on_exit: 'echo ('\ntasks:\n  a: {{run: echo, {hooks}}}\n"
    assert len(warned(text)) == 4


def test_an_expression_is_not_a_syntax_error() -> None:
    text = 'params: {x: a}\ntasks:\n  a:\n    run: |\n      for f in ${{ params.x }}; do echo "${{ params.x }}"; done\n'
    assert warned(text) == []


def test_lists_of_words_and_other_shells_are_not_checked() -> None:
    assert of_task('run: "echo (", shell: [sh, -c]') == []
    assert of_task('run: "echo (", shell: fish') == []
    Path("sh").write_text("#!/bin/sh\ntouch ran\n")
    Path("sh").chmod(0o755)
    assert of_task('run: "echo (", shell: ./sh') == []
    assert not Path("ran").exists()


def test_nothing_is_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("rc").write_text("touch ran\n")
    monkeypatch.setenv("BASH_ENV", str(Path("rc").absolute()))
    monkeypatch.setenv("ENV", str(Path("rc").absolute()))
    of_task('run: "touch ran; (touch ran) && $(touch ran) if", shell: bash')
    of_task('run: "touch ran; eval touch ran; `touch ran`"')
    assert not Path("ran").exists()


def test_the_shell_of_the_workflow_is_used() -> None:
    assert warned("shell: bash\ntasks:\n  a: {run: 'a=(1 2); [[ -f x ]]'}\n") == []
    assert len(warned("tasks:\n  a: {run: 'a=(1 2); [[ -f x ]]'}\n")) == 1


@pytest.mark.parametrize("script", BASH)
def test_bash_in_a_script_of_sh(script: str) -> None:
    [shown] = warned(f"tasks:\n  a:\n    run: |\n      {script}\n")
    assert "write `shell: bash`" in shown
    assert warned(f"tasks:\n  a:\n    shell: bash\n    run: |\n      {script}\n") == []


def test_a_file_that_is_not_executable() -> None:
    Path("go.sh").write_text("echo\n")
    Path("go.py").write_text("print()\n")
    shown = warned(
        "tasks:\n  a: {run: ./go.sh --fast}\n  b: {run: ./go.py}\n  c: {run: sh ./go.sh}\n  d: {run: ./none.sh}\n"
    )
    assert [entry.partition(": ")[2] for entry in shown] == [
        "tasks.a.run: ./go.sh is not executable: chmod +x ./go.sh, or write `sh ./go.sh`",
        "tasks.b.run: ./go.py is not executable: chmod +x ./go.py, or write `python3 ./go.py`",
    ]
    os.chmod("go.sh", 0o755)
    assert of_task("run: ./go.sh") == []


def test_shells_have_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert syntax_error_of("if", "sh", 0) is None
    text = "tasks:\n" + "".join(f"  t{n}: {{run: 'if true; then echo {n}'}}\n" for n in range(10))
    assert len(warned(text)) == 10
    monkeypatch.setattr("lightflow.parser.hints._SECONDS", 0.0)
    assert warned(text) == []


# -- nothing to warn of -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_without_warnings(path: Path) -> None:
    if "plugins" in path.parts:
        return  # its types are installed, or not
    ends = ("page_the_team", "no_weather", "report", "alarm")  # of two that show what goes on after a failure
    shown = [entry for entry in load_with_hints(path)[1] if entry.path.split(".")[1:2] not in [[end] for end in ends]]
    assert [str(entry) for entry in shown] == []
