"""`env` in workflow files: variables that build on others, which levels they see, and what cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flow_folder import lightflow, problems, write


def printed(folder: Path, text: str, task: str = "t", extra_env: dict[str, str] | None = None) -> list[str]:
    write(folder, text)
    done = lightflow(folder, "run", "flow.yaml", extra_env=extra_env)
    assert done.returncode == 0, done.stdout + done.stderr
    return lightflow(folder, "logs", task).stdout.splitlines()


@pytest.mark.parametrize(
    "env",
    [
        '{A: x, B: "${{ env.A }}/y", C: "${{ env.B }}/z"}',
        '{C: "${{ env.B }}/z", B: "${{ env.A }}/y", A: x}',
    ],
    ids=["above", "below"],
)
@pytest.mark.parametrize("place", ["workflow", "task"])
def test_variables_of_one_env_build_on_each_other_in_any_order(tmp_path: Path, env: str, place: str) -> None:
    top, own = (f"env: {env}", "") if place == "workflow" else ("", f", env: {env}")
    text = f"{top}\ntasks: {{t: {{run: 'echo $A $B $C ${{{{ env.C }}}}'{own}}}}}\n"
    assert printed(tmp_path, text) == ["x x/y x/y/z x/y/z"]


def test_each_level_builds_on_the_levels_below_it(tmp_path: Path) -> None:
    (tmp_path / "flow.env").write_text("ROOT=/srv\nLEVEL=dotenv\n")
    (tmp_path / "task.env").write_text("PLACE=task.env\n")
    text = """\
        dotenv: flow.env
        env: {DATA: "${{ env.ROOT }}/data", LEVEL: "${{ env.LEVEL }},env", PLACE: env}
        tasks:
          t:
            dotenv: task.env
            env: {LEVEL: "${{ env.LEVEL }},task", OUT: "${{ env.DATA }}/${{ env.PLACE }}"}
            run: echo "$LEVEL $OUT"
            on_success:
              env: {LEVEL: "${{ env.LEVEL }},hook"}
              run: echo "$LEVEL $OUT"
        on_success: {run: echo "$LEVEL", env: {LEVEL: "${{ env.LEVEL }},end"}}
    """
    assert printed(tmp_path, text) == ["dotenv,env,task /srv/data/task.env"]
    assert lightflow(tmp_path, "logs", "t.on_success").stdout == "dotenv,env,task,hook /srv/data/task.env\n"
    assert lightflow(tmp_path, "logs", "on_success").stdout == "dotenv,env,end\n"


@pytest.mark.parametrize("place", ["workflow", "task", "both"])
def test_path_can_be_extended(tmp_path: Path, place: str) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "greet").write_text(f"#!/bin/sh\necho {name}\n")
        (tmp_path / name / "greet").chmod(0o755)
    line = 'env: {PATH: "${{ workflow.dir }}/%s:${{ env.PATH }}"}'
    top = line % "first" if place in ("workflow", "both") else ""
    own = "          " + line % "second" if place in ("task", "both") else ""
    text = f"{top}\ntasks:\n  t:\n    run: [greet, basename /a/b]\n    {own.strip()}\n"
    assert printed(tmp_path, text) == ["first" if place == "workflow" else "second", "b"]


def test_a_variable_that_a_task_replaces_is_not_worked_out(tmp_path: Path) -> None:
    text = """\
        params: {n: ""}
        env: {N: "${{ params.n | int }}"}
        tasks: {t: {run: 'echo "$N"', env: {N: "3"}}}
    """
    assert printed(tmp_path, text) == ["3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'env:\n  A: "${{ env.B }}"\n  B: "${{ env.C }}"\n  C: "${{ env.A }}"\ntasks: {t: {run: echo}}',
            "env.A: the variables need each other: A -> B -> C -> A",
        ),
        (
            'tasks:\n  t:\n    run: echo\n    env:\n      A: "${{ env.B }}"\n      B: "${{ env.A }}"\n',
            "w.yaml:5:10: tasks.t.env.A: the variables need each other: A -> B -> A",
        ),
        (
            "tasks:\n  t:\n    run: echo\n    on_exit:\n      run: echo\n"
            '      env: {A: "${{ env.B }}", B: "${{ env.A }}"}\n',
            "tasks.t.on_exit.env.A: the variables need each other",
        ),
        (
            'env:\n  HOST: a\n  URL: "http://${{ env.HSOT }}"\ntasks: {t: {run: echo}}',
            "w.yaml:3:16: env.URL: there is no environment variable 'HSOT', did you mean \"HOST\"?",
        ),
        (
            'env: {NOT_SET_HERE: "${{ env.NOT_SET_HERE }}:x"}\ntasks: {t: {run: echo}}',
            "env.NOT_SET_HERE: there is no environment variable 'NOT_SET_HERE'; where it may be missing, write "
            "env.NOT_SET_HERE | default('')",
        ),
        (
            "tasks: {t: {run: 'echo ${{ env.NOT_SET_HERE }}'}}",
            "tasks.t.run: there is no environment variable 'NOT_SET_HERE'",
        ),
        (
            "env: {X: a}\ntasks: {a: {run: echo, env: {Y: b}}, t: {run: 'echo ${{ env.X }}', cwd: '${{ env.Y }}'}}",
            "tasks.t.cwd: there is no environment variable 'Y'",
        ),
        (
            "tasks: {t: {run: echo, if: env.NOT_SET_HERE == 'a'}}",
            "tasks.t.if: there is no environment variable 'NOT_SET_HERE'",
        ),
        (
            "secrets: [TOKEN_OF_MINE]\ntasks: {t: {run: 'echo ${{ env.TOKEN_OF_MINE }}'}}",
            "there is no environment variable 'TOKEN_OF_MINE'; for the secret write secrets.TOKEN_OF_MINE",
        ),
        ("env: {X-Y: a}\ntasks: {t: {run: echo}}", '"X-Y" is not allowed as a name here: use a name of letters a to z'),
        ("env: {X.Y: a}\ntasks: {t: {run: echo}}", '"X.Y" is not allowed as a name here'),
        ("env: {Größe: a}\ntasks: {t: {run: echo}}", '"Größe" is not allowed as a name here'),
    ],
)
def test_what_cannot_be_is_found_by_validate_with_its_place(text: str, message: str) -> None:
    assert message in problems(text)


@pytest.mark.parametrize(
    "expression",
    [
        "env.NOT_SET_HERE | default('x')",
        "env.NOT_SET_HERE | d('x')",
        "env.NOT_SET_HERE if params.remote else 'x'",
        "env.NOT_SET_HERE if env.NOT_SET_HERE is defined else 'x'",
        "(params.remote and env.NOT_SET_HERE) or 'x'",
        "env['NOT_SET' ~ '_HERE'] | default('x')",
    ],
)
def test_a_variable_that_may_be_missing_is_not_a_mistake(tmp_path: Path, expression: str) -> None:
    text = f'params: {{remote: false}}\ntasks: {{t: {{run: \'echo "$V"\', env: {{V: "${{{{ {expression} }}}}"}}}}}}\n'
    assert printed(tmp_path, text) == ["x"]


def test_a_variable_of_a_dotenv_file_is_found_when_the_run_starts(tmp_path: Path) -> None:
    (tmp_path / "flow.env").write_text("HOST=example.org\n")
    text = 'dotenv: flow.env\nenv: {URL: "http://${{ env.HOST }}"}\ntasks: {t: {run: echo "$URL"}}\n'
    assert printed(tmp_path, text) == ["http://example.org"]
    write(tmp_path, text.replace("env.HOST", "env.HSOT"))
    assert lightflow(tmp_path, "validate", "flow.yaml").returncode == 0
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert done.returncode == 2
    assert done.stderr.count("there is no environment variable 'HSOT'") == 1


def test_variables_with_the_value_of_another_task_reach_what_builds_on_them(tmp_path: Path) -> None:
    text = """\
        tasks:
          a: {run: echo 7, output: last_line}
          t: {run: 'echo "$B"', env: {A: "${{ tasks.a.result }}", B: "<${{ env.A }}>"}}
    """
    assert printed(tmp_path, text) == ["<7>"]


def test_options_python_arguments_and_lists_name_the_variables_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("def show(name, item):\n    print(name, item)\n")
    text = """\
        env: {LIMIT: "20", NAMES: "a b", LONG: "${{ env.LIMIT }}0"}
        tasks:
          t:
            type: python
            call: code:show
            timeout: ${{ env.LONG }}s
            env: {NAME: "n-${{ env.LIMIT }}"}
            foreach: ${{ env.NAMES | split }}
            args: {name: "${{ env.NAME }}", item: "${{ item }}"}
    """
    write(tmp_path, text)
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 0
    shown = [lightflow(tmp_path, "logs", f"t[{index}]").stdout for index in range(2)]
    assert shown == ["n-20 a\n", "n-20 b\n"]


def test_the_plan_shows_the_variables_of_the_file_and_not_those_around_it(tmp_path: Path) -> None:
    text = """\
        env: {HOME: /srv, DATA: "${{ env.HOME }}/data"}
        tasks: {t: {run: 'ls ${{ env.DATA }} ${{ run.id }}'}}
    """
    write(tmp_path, text)
    plan: dict[str, Any] = json.loads(lightflow(tmp_path, "run", "flow.yaml", "--dry-run", "--json").stdout)
    assert plan["levels"][0][0]["summary"] == "ls /srv/data ${{ run.id }}"


def test_a_dotenv_file_has_the_same_names_as_env(tmp_path: Path) -> None:
    (tmp_path / "flow.env").write_text("GOOD=1\nX-Y=2\n")
    write(tmp_path, "dotenv: flow.env\ntasks: {t: {run: echo}}\n")
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert done.returncode == 2
    assert "flow.env:2:1: the name is not a valid variable name: use letters a to z, digits and _" in done.stderr


def test_a_variable_that_only_a_task_has_is_pointed_at() -> None:
    message = problems("env: {A: '${{ env.LIGHTFLOW_TASK }}'}\ntasks: {t: {run: echo}}")
    assert "a task finds it in its own environment: write $LIGHTFLOW_TASK in the script" in message
