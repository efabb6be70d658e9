"""Which expressions of a script are refused, where, and what lets them through."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightflow.errors import WorkflowError
from lightflow.parser.workflow_loader import load_workflow


def problems(folder: Path, text: str) -> list[str]:
    """What is wrong with a workflow file, a line each, without the name of the file."""
    path = folder / "flow.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load_workflow(str(path))
    except WorkflowError as error:
        return [line.partition("flow.yaml:")[2] for line in str(error).splitlines()]
    return []


def script(folder: Path, line: str, *, params: str = "{v: text, n: 3, x: 1.5}", shell: str = "bash") -> list[str]:
    """What is wrong with one line of shell."""
    return problems(folder, f"params: {params}\ntasks:\n  t:\n    shell: {shell}\n    run: |\n      {line}\n")


def test_each_refused_expression_is_reported_with_its_place(tmp_path: Path) -> None:
    text = (
        "params: {v: text}\n"
        "tasks:\n"
        "  t:\n"
        "    run: |\n"
        "      echo [${{ params.v }}]\n"
        '      eval "echo ${{ params.v }}"\n'
        "      cat <<END\n"
        "        é ${{ params.v }} $((${{ params.v }} + 1))\n"
        "      END\n"
        "  u:\n"
        "    run: read ${{ params.v }}\n"
    )
    assert [line.split(": ")[0] for line in problems(tmp_path, text)] == ["6:18", "8:30", "11:15"]


def test_a_mistake_in_the_syntax_is_named_with_its_line(tmp_path: Path) -> None:
    lines = "      echo ${{ params.v }}\n      if true; then\n      echo ${{ params.v }}\n"
    (problem,) = problems(tmp_path, f"params: {{v: a}}\ntasks:\n  t:\n    run: |\n{lines}")
    assert problem.startswith("7:12: tasks.t.run: line 2 of the script is not valid shell syntax")
    assert "`if` statement must end with `fi`" in problem
    assert "env" in problem


@pytest.mark.parametrize(
    "line",
    ["echo $((${{ params.v | int }} + 1))", "(( ${{ params.v | int }} > 1 ))", "[[ ${{ params.v | int }} -gt 1 ]]",
     "a[${{ params.v | int }}]=1", "sleep $((${{ params.v | length | int }} * 60))",
     "declare -i n=${{ params.v | int }}",
     'echo "${a[${{ params.v | int }}]}" ${b:${{ params.v | int }}:1}', "n=${{ params.v | int }}; let n++; eval $n"],
)  # fmt: skip
def test_a_whole_number_is_allowed_in_arithmetic(tmp_path: Path, line: str) -> None:
    assert script(tmp_path, line) == []


@pytest.mark.parametrize("line", ["echo $((${{ params.v | int('x') }}))", "echo $((${{ params.v | float }}))"])
def test_other_values_are_refused_in_arithmetic(tmp_path: Path, line: str) -> None:
    assert "arithmetic" in script(tmp_path, line)[0]


@pytest.mark.parametrize("name", ["n", "x"])
def test_a_parameter_that_is_a_number_may_reach_arithmetic_through_a_variable(tmp_path: Path, name: str) -> None:
    assert script(tmp_path, f"a=${{{{ params.{name} }}}}; echo $((a + 1))") == []
    assert script(tmp_path, "a=${{ params.v }}; echo $((a + 1))") != []
    declared = "{v: {type: integer}, n: {type: enum, values: [1, 2]}, x: {type: string}}"
    assert script(tmp_path, "a=${{ params.v }}; echo $((a + 1))", params=declared) == []
    assert script(tmp_path, f"a=${{{{ params.{name} }}}}; echo $((a + 1))", params=declared) != []


def test_a_shell_that_is_not_bash_does_not_evaluate_variables_in_arithmetic(tmp_path: Path) -> None:
    assert script(tmp_path, "a=${{ params.v }}; echo $((a + 1))", shell="dash") == []
    assert script(tmp_path, "echo $((${{ params.v }} + 1))", shell="dash") != []


@pytest.mark.parametrize(
    "line",
    ['eval "echo ${{ params.v | quote }}"', "ssh host ls ${{ params.v | quote }}",
     "sh -c 'echo ${{ params.v | quote }}'",
     "{ echo echo ${{ params.v | quote }}; } | sh", "v=${{ params.v | quote }}; eval echo $v",
     "timeout 5 ssh host <<END\n      ls ${{ params.v | quote }}\n      END"],
)  # fmt: skip
def test_a_quoted_value_may_be_shell_text(tmp_path: Path, line: str) -> None:
    assert script(tmp_path, line) == []


@pytest.mark.parametrize("line", ["declare -i n=${{ params.v | quote }}", "unset ${{ params.v | quote }}"])
def test_a_quoted_value_is_neither_a_number_nor_a_name(tmp_path: Path, line: str) -> None:
    assert script(tmp_path, line) != []


def test_the_message_explains_how_a_value_gets_there(tmp_path: Path) -> None:
    (problem,) = script(tmp_path, 'cmd="ls ${{ params.v }}"; ssh host "$cmd"')
    assert "what the variable cmd holds is evaluated in this script: ssh passes its words to a shell" in problem
    (problem,) = script(tmp_path, 'run() { eval "$*"; }; run ls ${{ params.v }}')
    assert "the function run evaluates what it is called with: eval would read the value as shell text" in problem


def test_a_pasted_value_is_never_refused(tmp_path: Path) -> None:
    assert script(tmp_path, "eval ${{ raw(params.v) }}; echo $((${{ raw(params.v) }}))") == []


def test_a_variable_may_have_the_name_that_replaces_expressions_in_the_parser(tmp_path: Path) -> None:
    line = "echo ${_EXPRESSION_} ${{ params.v }} '${_EXPRESSION_}' ${{ params.v }}; eval ${_EXPRESSION_}"
    assert script(tmp_path, line) == []
    assert script(tmp_path, f"{line}; eval ${{{{ params.v }}}}")[0].startswith(f"6:{6 + len(line) + 8}: ")


def test_a_script_that_no_shell_can_be_given_is_refused(tmp_path: Path) -> None:
    assert any("128 KiB" in problem for problem in script(tmp_path, "echo ${{ params.v }} " + "x" * 140_000))
    (problem,) = script(tmp_path, "$(" * 3000 + "echo ${{ params.v }}" + ")" * 3000)
    assert "nested too deeply" in problem


def test_an_invalid_script_does_not_affect_scripts_parsed_with_it(tmp_path: Path) -> None:
    tasks = "".join(f"  t{n}:\n    run: 'echo {n} ${{{{ params.v }}}}'\n" for n in range(40))
    broken = "".join(
        f"  b{n}:\n    run: |\n      {line}\n"
        for n, line in enumerate(
            [
                "echo ${{ params.v }} |",
                "echo ${{ params.v }} \\",
                "cat <<END ${{ params.v }}",
                "if true; then ${{ params.v }}",
            ]
        )
    )
    result = problems(tmp_path, f"params: {{v: text}}\ntasks:\n{tasks}{broken}{tasks.replace('  t', '  u')}")
    assert [line.split(":")[0] for line in result] == ["85", "91", "94"]
