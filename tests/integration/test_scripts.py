"""Scripts in workflow files: they stop at the first line that fails, in the shell that was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flow_folder import lightflow, problems, write

from lightflow.parser.workflow_loader import loads_workflow


def states(folder: Path) -> dict[str, str]:
    view: dict[str, Any] = json.loads(lightflow(folder, "status", "--json").stdout)
    return {entry["task"]: entry["status"] for entry in (*view["tasks"], *view["hooks"])}


def run(folder: Path, text: str, *arguments: str) -> dict[str, str]:
    write(folder, text)
    done = lightflow(folder, "run", "flow.yaml", *arguments)
    assert done.returncode in (0, 1), done.stderr
    return states(folder)


SHELLS = [
    ("", "FAILED", "SUCCESS"),
    ("shell: sh", "FAILED", "SUCCESS"),
    ("shell: /bin/dash", "FAILED", "SUCCESS"),
    ("shell: bash", "FAILED", "FAILED"),
    ("shell: /bin/bash", "FAILED", "FAILED"),
    ("shell: [sh, -c]", "SUCCESS", "SUCCESS"),
    ("shell: [bash, -c]", "SUCCESS", "SUCCESS"),
    ("shell: [bash, -e, -c]", "FAILED", "SUCCESS"),
]


@pytest.mark.parametrize("place", ["top", "settings", "task"])
@pytest.mark.parametrize(("shell", "lines", "pipe"), SHELLS)
def test_a_script_stops_at_the_first_line_that_fails_unless_the_shell_is_a_list(
    tmp_path: Path, shell: str, lines: str, pipe: str, place: str
) -> None:
    top = shell if place == "top" else f"settings: {{{shell}}}" if place == "settings" and shell else ""
    own = f", {shell}" if place == "task" and shell else ""
    text = f"""\
{top}
tasks:
  lines: {{run: "cd nowhere\\necho on > lines.txt"{own}}}
  pipe: {{run: "false | cat\\necho on > pipe.txt"{own}}}
"""
    assert run(tmp_path, text) == {"lines": lines, "pipe": pipe}
    assert (tmp_path / "lines.txt").exists() == (lines == "SUCCESS")
    assert (tmp_path / "pipe.txt").exists() == (pipe == "SUCCESS")


EVERYWHERE = """\
shell: {shell}
secrets:
  TOKEN: {{run: "false | printf secret-4711"}}
tasks:
  t:
    run: 'true'
    preconditions: [{{run: "false | true"}}, "false | true"]
    on_success: "false | true"
    on_exit: {{run: "false | true", shell: [sh, -c]}}
on_start: "false | true"
"""


def test_hooks_preconditions_and_secrets_have_the_shell_of_the_workflow(tmp_path: Path) -> None:
    write(tmp_path, EVERYWHERE.format(shell="bash"))
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert done.returncode == 2
    assert "secrets.TOKEN: its command failed with exit code 1" in done.stderr

    write(tmp_path, EVERYWHERE.format(shell="bash").replace("false | printf", "printf"))
    lightflow(tmp_path, "run", "flow.yaml")
    assert states(tmp_path) == {"t": "SKIPPED", "t.precondition_1": "FAILED", "on_start": "FAILED"}

    write(tmp_path, EVERYWHERE.format(shell="sh"))
    lightflow(tmp_path, "run", "flow.yaml")
    result = states(tmp_path)
    assert set(result.values()) == {"SUCCESS"}
    assert {"t", "t.on_success", "t.on_exit", "on_start"} <= result.keys()


def test_hooks_preconditions_and_secrets_stop_at_the_first_line_that_fails(tmp_path: Path) -> None:
    failing = "['false', 'touch went-on']"
    result = run(
        tmp_path,
        f"""\
        tasks:
          done: {{run: 'true', on_success: {failing}, on_exit: {{run: {failing}}}}}
          guarded: {{run: 'true', preconditions: [{{run: {failing}}}]}}
          listed: {{run: 'true', preconditions: ["false\\ntouch went-on"]}}
        on_exit: {failing}
        """,
    )
    assert not (tmp_path / "went-on").exists()
    assert (result["done.on_success"], result["done.on_exit"], result["on_exit"]) == ("FAILED",) * 3
    assert (result["guarded"], result["listed"]) == ("SKIPPED", "SKIPPED")

    write(tmp_path, f"secrets: {{A: {{run: {failing}}}}}\ntasks: {{t: {{run: echo}}}}\n")
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 2
    assert not (tmp_path / "went-on").exists()


def test_a_task_replaces_the_shell_of_the_workflow(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        """\
        shell: bash
        tasks:
          plain: {run: 'test -n "$BASH_VERSION"'}
          own: {run: "false\\ntrue", shell: [sh, -c]}
          python: {type: python, run: "print(1)"}
        """,
    )
    assert result == {"plain": "SUCCESS", "own": "SUCCESS", "python": "SUCCESS"}


def test_expressions_are_quoted_for_the_shell_of_the_workflow(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        """\
        settings: {shell: bash}
        params: {v: "a b"}
        tasks: {t: {run: 'words=(${{ params.v }} c); test "${#words[@]}" = 2'}}
        """,
    )
    assert result == {"t": "SUCCESS"}
    text = "shell: fish\nparams: {v: 1}\ntasks: {t: {run: 'echo ${{ params.v }}'}}"
    assert "expressions are allowed in scripts of sh" in problems(text)


def test_what_a_script_wrote_before_it_failed_is_not_passed(tmp_path: Path) -> None:
    result = run(tmp_path, "tasks: {t: {run: ['echo a=1 >> \"$LIGHTFLOW_OUTPUT\"', 'false', 'echo b=2']}}")
    assert result == {"t": "FAILED"}
    assert "exit code 1" in lightflow(tmp_path, "why", "t").stdout


@pytest.mark.parametrize(
    "task",
    [
        "{run: [echo one, 'echo two']}",
        "{script: [echo one, 'echo two']}",
        "{command: ['echo one', 'echo two']}",
        "{type: shell, cmd: ['echo one', 'echo two']}",
        "{run: ['for n in one two; do', '  echo $n', 'done']}",
        "{type: python, run: ['for n in [\"one\", \"two\"]:', '    print(n)']}",
        "{type: python, script: ['print(\"one\")', 'print(\"two\")']}",
    ],
)
def test_a_script_may_be_a_list_of_lines(tmp_path: Path, task: str) -> None:
    assert run(tmp_path, f"tasks: {{t: {task}}}") == {"t": "SUCCESS"}
    assert lightflow(tmp_path, "logs", "t").stdout.split() == ["one", "two"]


def test_expressions_in_a_list_of_lines_are_reported_with_their_place() -> None:
    text = "params: {a: 1}\ntasks:\n  t:\n    run:\n      - echo ${{ params.a }}\n      - echo ${{ params.b }}\n"
    assert problems(text).startswith("w.yaml:6:14: tasks.t.run: there is no parameter 'b'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: {t: {run: [echo, 3]}}", "must be a line of text, in quotes if need be, not 3"),
        ("tasks: {t: {run: []}}", "must not be empty"),
        ("tasks: {t: {run: {a: b}}}", "must be a command (text), or a list of lines, not a mapping"),
        ("tasks: {t: {run: [' ', '']}}", "must be a command (text), or a list of lines"),
        ("shell: [bash, -e]\ntasks: {t: {run: echo}}", 'end with "-c": write ["bash", "-e", "-c"]'),
        ("settings: {shell: [/bin/sh]}\ntasks: {t: {run: echo}}", "settings.shell: the script comes after the words"),
        ("tasks: {t: {run: echo, shell: [/usr/bin/env, bash]}}", 'write ["/usr/bin/env", "bash", "-c"]'),
        ("tasks: {t: {run: echo, shell: [bash, -e, '{0}']}}", "without {0}: write"),
        ("shell: bash -e\ntasks: {t: {run: echo}}", "must be the name of a shell such as bash, or a list of words"),
        ("tasks: {t: {run: echo, on_exit: [{run: a}]}}", "must be a line of text"),
        ("shell: bash\nsettings: {shell: sh}\ntasks: {t: {run: echo}}", '"settings.shell" mean the same; keep one'),
        ("shell: ${{ params.a }}\nparams: {a: sh}\ntasks: {t: {run: echo}}", "must be the name of a shell"),
    ],
)
def test_what_is_no_script_and_no_shell_is_reported(text: str, message: str) -> None:
    assert message in problems(text)


@pytest.mark.parametrize(
    "shell", ["[bash, -euc]", "[env, A=b, dash, -ec]", "[python3, -c]", "[nice, bash, -c]", "[perl, -e]"]
)
def test_a_list_that_can_take_a_script_is_not_a_mistake(shell: str) -> None:
    loads_workflow(f"shell: {shell}\ntasks: {{t: {{run: echo}}}}")


@pytest.mark.parametrize("shell", ["bash-5.2", "/opt/bin/bash5", "/opt/dash-0.5"])
def test_a_version_in_the_name_of_a_shell_does_not_matter(shell: str) -> None:
    loads_workflow(f"shell: {shell}\nparams: {{v: 1}}\ntasks: {{t: {{run: 'echo ${{{{ params.v }}}}'}}}}")
