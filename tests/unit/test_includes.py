"""Included files: which tasks, values and places they give, and every mistake in them with its file and line."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lightflow.engine.external_inputs import load_external_inputs
from lightflow.engine.included_params import with_included_params
from lightflow.errors import WorkflowError
from lightflow.parser.value_origins import value_origins
from lightflow.parser.workflow_loader import load_with_hints, load_workflow
from lightflow.plugins.registry import Registry
from lightflow.scheduler.workflow_files import WorkflowFiles
from lightflow.service.workflows import outline
from lightflow.tasks import included_file
from liteflow import Dag, DefinitionError
from liteflow.api import Ref

CHECKS = """\
workflow_name: checks
params:
  strict: false
  rows: {type: integer, maximum: 10, default: 5}
  day: {type: date, default: yesterday}
env: {LANG: C}
dotenv: [checks.env]
pools: {disk: 2}
secrets: [TOKEN]
schedule: "@daily"
settings: {retries: 3, mode: process}
defaults: {timeout: 60}
tasks:
  fetch: {run: "echo ${{ params.rows }} ${{ env.STAGE }}", pool: disk, secrets: [TOKEN]}
  lint:
    if: params.strict and tasks.fetch.status == 'success'
    run: "echo ${{ tasks.fetch.outputs.n }}"
    on_failure: "echo ${{ params.rows }}"
  count: {type: python, call: "os:getcwd"}
  parts:
    depends_on: lint
    tasks:
      each: {foreach: "${{ range(params.rows) | list }}", run: "echo ${{ item }}"}
      last: {run: echo, depends_on: each}
"""
MAIN = """\
params: {n: 2}
env: {LANG: de, STAGE: outside}
tasks:
  start: {run: echo}
  checks:
    include: common/checks.yaml
    depends_on: start
    with: {strict: true, rows: "${{ params.n * 2 }}"}
  report: {run: "echo ${{ tasks.checks.fetch.outputs.n }}", depends_on: checks.parts}
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write files below a folder that is the current one: the content by path, with `__` for a slash."""
    monkeypatch.chdir(tmp_path)

    def write(**texts: str) -> Path:
        for name, text in texts.items():
            path = tmp_path / (name.replace("__", "/") + ".yaml")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path / "main.yaml"

    write(main=MAIN, common__checks=CHECKS)
    (tmp_path / "common" / "checks.env").write_text("STAGE=inside\n")
    return write


def mistakes(path: str = "main.yaml") -> list[str]:
    with pytest.raises(WorkflowError) as caught:
        load_workflow(path)
    return str(caught.value).splitlines()


# -- what is included ----------------------------------------------------------------------------------------------


def test_the_tasks_of_a_file_become_a_group(files: Callable[..., Path]) -> None:
    spec = load_workflow("main.yaml")
    names = ["start", "checks", "checks.fetch", "checks.lint", "checks.count", "checks.parts"]
    assert list(spec.tasks) == [*names, "checks.parts.each", "checks.parts.last", "report"]
    groups = {task_id: task.group for task_id, task in spec.tasks.items() if task.group}
    assert groups == {
        **dict.fromkeys(["checks.fetch", "checks.lint", "checks.count", "checks.parts"], "checks"),
        **dict.fromkeys(["checks.parts.each", "checks.parts.last"], "checks.parts"),
    }
    lint, last, report = spec.tasks["checks.lint"], spec.tasks["checks.parts.last"], spec.tasks["report"]
    assert lint.depends_on == ("checks.fetch",)
    assert lint.implied == ("checks.fetch",)
    assert lint.expressions is not None
    assert lint.expressions.reads == (Ref("checks.fetch", "n"),)
    assert lint.expressions.names == {"fetch": "checks.fetch"}
    assert lint.control_flow is not None
    assert lint.control_flow.condition is not None
    assert lint.control_flow.condition.states == ("checks.fetch",)
    assert list(lint.control_flow.hooks) == ["on_failure"]
    assert lint.control_flow.hooks["on_failure"].id == "checks.lint.on_failure"
    assert last.depends_on == ("checks.parts.each",)
    assert spec.tasks["checks.parts"].depends_on == ("checks.lint",)
    assert report.depends_on == ("checks.parts", "checks.fetch")


def test_a_file_means_what_it_means_alone(files: Callable[..., Path]) -> None:
    spec = load_workflow("main.yaml")
    fetch, count = spec.tasks["checks.fetch"], spec.tasks["checks.count"]
    assert fetch.env == {"LANG": "C"}
    assert (fetch.retry.retries, fetch.timeout_s) == (3, 60.0)
    assert (spec.tasks["start"].retry.retries, spec.tasks["start"].timeout_s) == (0, None)
    assert count.mode == "process"
    assert (spec.settings.mode, spec.limits.triggers) == ("thread", ())
    assert fetch.file == os.path.abspath("common/checks.yaml")
    assert fetch.line == 14
    assert fetch.expressions is not None
    assert fetch.expressions.workflow["dir"] == os.path.abspath("common")
    assert dict(spec.limits.pools).keys() == {"disk"}
    assert list(spec.secrets) == ["TOKEN"]


def test_variables_and_secrets_come_from_the_dotenv_files_of_the_file(files: Callable[..., Path]) -> None:
    Path("common/checks.env").write_text("STAGE=inside\nTOKEN=from-the-file\n")
    inputs = load_external_inputs(load_workflow("main.yaml"))
    assert inputs.dotenv == {}
    assert inputs.dotenv_of("checks")["STAGE"] == "inside"
    assert inputs.secrets is not None
    assert inputs.secrets["TOKEN"] == "from-the-file"


def test_parameters_follow_from_those_of_the_run_with_their_types(files: Callable[..., Path]) -> None:
    day = datetime.datetime(2026, 3, 5, tzinfo=datetime.UTC).timestamp()
    spec = with_included_params(load_workflow("main.yaml"), {"n": 3}, day)
    params = {"strict": True, "rows": 6, "day": datetime.date(2026, 3, 4)}
    lint = spec.tasks["checks.lint"]
    assert lint.params == params
    assert lint.control_flow is not None
    hook, condition = lint.control_flow.hooks["on_failure"], lint.control_flow.condition
    assert condition is not None
    for expressions in (lint.expressions, condition.scope, hook.expressions):
        assert expressions is not None
        assert expressions.params == params
    assert spec.tasks["report"].params is None


def test_a_value_that_a_run_gives_is_checked_before_it_starts(files: Callable[..., Path]) -> None:
    spec = load_workflow("main.yaml")
    with pytest.raises(WorkflowError) as caught:
        with_included_params(spec, {"n": 20})
    assert str(caught.value) == "main.yaml:8:32: tasks.checks.params.rows: must be at most 10, not 40"


def test_files_are_included_in_included_files_and_twice(files: Callable[..., Path]) -> None:
    files(
        main="""
params: {n: 1}
tasks:
  a: {include: common/outer.yaml, params: {n: "${{ params.n }}"}}
  b: {include: common/outer.yaml, params: {n: 7}, depends_on: a}
""",
        common__outer="""
params: {n: {type: integer}}
tasks:
  x: {run: echo}
  in: {include: inner.yaml, params: {m: "${{ params.n + 1 }}"}, depends_on: x}
  y: {run: "echo ${{ tasks.in.deep.outputs.k }}"}
""",
        common__inner="""
params: {m: {type: integer}}
tasks:
  deep: {run: "echo ${{ params.m }}"}
  after: {run: "echo ${{ tasks.deep.outputs.k }}"}
""",
    )
    spec = with_included_params(load_workflow("main.yaml"), {"n": 1})
    assert {task_id: task.params for task_id, task in spec.tasks.items() if task.params is not None} == {
        **{name: {"n": 1} for name in ("a.x", "a.in", "a.y")},
        **{name: {"m": 2} for name in ("a.in.deep", "a.in.after")},
        **{name: {"n": 7} for name in ("b.x", "b.in", "b.y")},
        **{name: {"m": 8} for name in ("b.in.deep", "b.in.after")},
    }
    assert spec.tasks["b.y"].expressions is not None
    assert spec.tasks["b.y"].expressions.names == {"in.deep": "b.in.deep"}
    assert spec.tasks["b.in.after"].depends_on == ("b.in.deep",)
    assert spec.tasks["a.in"].depends_on == ("a.x",)


def test_names_of_the_group_come_first_with_an_included_file_in_it(files: Callable[..., Path]) -> None:
    files(
        main="""
tasks:
  load:
    tasks:
      checks: {include: common/small.yaml}
      after: {run: "echo ${{ tasks.checks.one.result }}", depends_on: checks.two}
""",
        common__small="tasks: {one: {run: echo}, two: {run: echo}}\n",
    )
    after = load_workflow("main.yaml").tasks["load.after"]
    assert set(after.depends_on) == {"load.checks.one", "load.checks.two"}


def test_a_changed_value_changes_the_definition_of_the_tasks_that_may_read_it(files: Callable[..., Path]) -> None:
    before = load_workflow("main.yaml").tasks
    files(main=MAIN.replace("strict: true", "strict: false"))
    after = load_workflow("main.yaml").tasks
    changed = {task_id for task_id in before if before[task_id].digest != after[task_id].digest}
    assert changed == {"checks.fetch", "checks.lint", "checks.parts.each"}


def test_the_origin_of_a_value_is_in_the_included_file(files: Callable[..., Path]) -> None:
    origins = {
        each.key: (each.source, each.location.file, each.location.line)
        for each in value_origins("main.yaml", "checks.parts.last")
    }
    assert origins["run"] == ("the task", "common/checks.yaml", 24)
    assert origins["timeout"] == ("defaults", "common/checks.yaml", 12)
    assert origins["env.LANG"] == ("the workflow", "common/checks.yaml", 6)


def test_a_plan_shows_what_the_included_tasks_get(files: Callable[..., Path]) -> None:
    plan = outline("main.yaml").for_run({"n": 1})
    summaries = {task.id: task.summary for task in plan.tasks}
    assert summaries["checks.fetch"].startswith("echo 2 ")
    each = next(task for task in outline("main.yaml").tasks if task.id == "checks.parts.each")
    assert len(outline("main.yaml").instances(each) or ()) == 4  # as the defaults say


def test_hints_about_an_included_file_have_its_place(files: Callable[..., Path]) -> None:
    files(common__checks="tasks: {a: {run: 'echo ${params.x}'}}\n", main="tasks: {c: {include: common/checks.yaml}}\n")
    _, hints = load_with_hints("main.yaml")
    assert [(hint.file, hint.line) for hint in hints] == [("common/checks.yaml", 1)]


# -- mistakes ------------------------------------------------------------------------------------------------------


def test_a_mistake_in_an_included_file_has_its_place_and_is_reported_once(files: Callable[..., Path]) -> None:
    files(
        main="tasks:\n  a: {include: common/checks.yaml}\n  b: {include: common/checks.yaml}\n",
        common__checks="tasks:\n  one: {run: echo, retriez: 3}\n",
    )
    assert mistakes() == ['common/checks.yaml:2:20: tasks.one: unknown key "retriez", did you mean "retries"?']


def test_mistakes_of_all_files_are_reported_at_once_without_consequences(files: Callable[..., Path]) -> None:
    files(
        main="""\
tasks:
  a: {include: common/checks.yaml, depends_on: nope}
  b: {include: absent.yaml}
  c:
    depends_on: [a.fetch, b.lint, lost]
    retriez: 1
    run: |
      echo ${{ tasks.a.fetch.outputs.n }} ${{ tasks.b.lint.outputs.n }}
      echo ${{ tasks.missing.outputs.n }}
outputs: {n: "${{ tasks.a.fetch.outputs.n }}", m: "${{ tasks.missing.outputs.n }}"}
""",
        common__checks="tasks:\n  fetch: {run: echo, timeout: soon}\n",
    )
    assert [line.split(": ")[:2] for line in mistakes()] == [
        ["common/checks.yaml:2:31", "tasks.fetch.timeout"],
        ["main.yaml:2:36", "tasks.a.depends_on"],
        ["main.yaml:3:16", "tasks.b.include"],
        ["main.yaml:5:35", "tasks.c.depends_on"],
        ["main.yaml:6:5", "tasks.c"],
        ["main.yaml:9:12", "tasks.c.run"],
        ["main.yaml:10:52", "outputs.m"],
    ]


def test_values_that_the_file_does_not_take_are_refused_where_they_are_written(files: Callable[..., Path]) -> None:
    files(
        main="""\
tasks:
  a:
    include: common/checks.yaml
    params: {rows: 11, strikt: true, day: "${{ tasks.b.result }}", strict: "${{ params.nothing }}"}
  b: {run: echo}
""",
    )
    assert mistakes() == [
        "main.yaml:4:20: tasks.a.params.rows: must be at most 10, not 11",
        'main.yaml:4:24: tasks.a.params: the included file has no parameter "strikt", did you mean "strict"?',
        "main.yaml:4:44: tasks.a.params.day: tasks is not known here; only params, workflow are",
        "main.yaml:4:77: tasks.a.params.strict: there is no parameter 'nothing'; the workflow declares none",
    ]
    files(
        common__checks="params: {day: {type: date}}\ntasks: {a: {run: echo}}\n",
        main=MAIN.replace("    with:", "    x-with:"),
    )
    assert mistakes()[0] == (
        'main.yaml:6:14: tasks.checks.include: parameter "day" needs a value: a date such as 2026-01-31; '
        "give it under `params`"
    )


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            "{include: common/cheks.yaml}",
            'main.yaml:2:16: tasks.a.include: no such file: common/cheks.yaml, did you mean "checks.yaml"?; '
            "the path starts from the folder of this file",
        ),
        (
            "{include: x.py}",
            "main.yaml:2:16: tasks.a.include: a Python file cannot be included; include a YAML or JSON file",
        ),
        (
            '{include: "${{ params.x }}"}',
            "main.yaml:2:16: tasks.a.include: an expression is not allowed here: which tasks there are is decided "
            "before a run has parameters",
        ),
        (
            "{include: main.yaml}",
            "main.yaml:2:16: tasks.a.include: the files include each other: main.yaml -> main.yaml",
        ),
        (
            '{include: "common/checks.yaml#other"}',
            'main.yaml:2:16: tasks.a.include: common/checks.yaml: no workflow "other"; there is checks',
        ),
        (
            "{include: common/checks.yaml, retries: 2}",
            'main.yaml:2:36: tasks.a: a group has no "retries": set it on its tasks; a group is not tried again as a '
            "whole",
        ),
        (
            "{include: common/checks.yaml, tasks: {b: {run: echo}}}",
            'main.yaml:2:36: tasks.a: "tasks" and "include" exclude each other: put it into the included file',
        ),
        (
            "{tasks: {b: {run: echo}}, params: {c: 1}}",
            'main.yaml:2:32: tasks.a: "params" are for an included file; the tasks of a group read those of this file',
        ),
        (
            "{include: 5}",
            'main.yaml:2:16: tasks.a.include: must be the path of a workflow file such as "common/checks.yaml", not 5',
        ),
        (
            "{include: common/hooks.yaml}",
            "main.yaml:2:16: tasks.a.include: common/hooks.yaml has hooks of its run (on_failure, on_exit), which do "
            "not run here: move them to this group, or to this file",
        ),
    ],
)
def test_what_cannot_be_included(files: Callable[..., Path], task: str, message: str) -> None:
    files(common__hooks="tasks: {a: {run: echo}}\non_exit: echo\non_failure: echo\n", main=f"tasks:\n  a: {task}\n")
    assert mistakes() == [message]


def test_a_circle_and_too_many_levels_of_files(files: Callable[..., Path]) -> None:
    files(main="tasks: {a: {include: common/b.yaml}}\n", common__b="tasks: {b: {include: ../main.yaml}}\n")
    assert mistakes() == [
        "common/b.yaml:1:22: tasks.b.include: the files include each other: main.yaml -> b.yaml -> main.yaml"
    ]
    files(**{f"f{number}": f"tasks: {{a: {{include: f{number + 1}.yaml}}}}\n" for number in range(12)})
    assert mistakes("f0.yaml")[0].endswith("more than 10 files include each other, one in the other")


def test_ids_edges_pools_and_secrets_that_do_not_fit_together(files: Callable[..., Path]) -> None:
    files(
        main="""\
tasks:
  report: {run: echo, depends_on: checks.fetch}
  checks.lint: {run: echo}
  checks: {include: common/checks.yaml, depends_on: report}
  clean: {run: echo, teardown_of: checks.count}
  wrong: {run: echo, depends_on: checks.fetsh}
""",
    )
    found_mistakes = mistakes()
    assert 'main.yaml:3:3: tasks: "checks.lint" is a task of the included file, too; rename it' in found_mistakes
    assert any('"checks.count" is in an included file: tear it down there' in each for each in found_mistakes)
    assert any('no task "checks.fetsh", did you mean "checks.fetch"?' in each for each in found_mistakes)
    files(main="tasks:\n  r: {run: echo, depends_on: c.fetch}\n  c: {include: common/checks.yaml, depends_on: r}\n")
    assert "cycle" in mistakes()[0]
    files(main=MAIN + "pools: {disk: 3}\nsecrets: {TOKEN: {path: a.txt}}\n")
    assert mistakes() == [
        'main.yaml:6:14: tasks.checks.include: pool "disk" has 2 slots in the included file and 3 outside it; '
        "runs share it, so it needs one size",
        'main.yaml:6:14: tasks.checks.include: secret "TOKEN" has another source in the included file (line 9); '
        "a run has one secret of a name",
    ]


def test_task_types_of_an_included_file(files: Callable[..., Path]) -> None:
    plugin = (
        "from lightflow.plugins import TaskType\n\n\nclass Say(TaskType):\n    name = 'say'\n"
        "    schema = {'properties': {'text': {'type': 'string'}}, 'required': ['text']}\n"
    )
    files(
        main="tasks: {a: {include: common/said.yaml}}\n",
        common__said="plugins: [said.py]\ntasks: {b: {type: say, text: hello}}\n",
    )
    Path("common/said.py").write_text(plugin)
    spec = load_workflow("main.yaml")
    assert spec.plugins == (os.path.abspath("common/said.py"),)
    assert "say" in Registry().with_files(spec.plugins).names()


# -- served files and Python ---------------------------------------------------------------------------------------


@pytest.fixture
def old_times(files: Callable[..., Path]) -> Callable[[str], None]:
    """Set the time of a file back, so that it counts as complete; each call gives another time."""
    number = iter(range(1000, 0, -1))

    def age(path: str) -> None:
        moment = time.time() - next(number)
        os.utime(path, (moment, moment))

    return age


def test_a_served_file_is_read_again_when_an_included_file_changes(
    files: Callable[..., Path], old_times: Callable[[str], None]
) -> None:
    files(main="tasks: {a: {include: common/part.yaml}}\n", common__part="tasks: {b: {run: echo}}\n")
    for path in ("main.yaml", "common/part.yaml"):
        old_times(path)
    served = WorkflowFiles(["main.yaml"])
    assert [each.problem for each in served.scan().read] == [None]
    assert served.scan().read == []
    for text, is_broken in (("tasks: {b: {rum: echo}}\n", True), ("tasks: {c: {run: echo}}\n", False)):
        files(common__part=text)
        old_times("common/part.yaml")
        read = served.scan().read
        assert [each.problem is not None for each in read] == [is_broken]
        assert served.scan().read == []
    os.remove("common/part.yaml")
    assert [each.problem is not None for each in served.scan().read] == [True]
    files(common__part="tasks: {b: {run: echo}}\n")
    old_times("common/part.yaml")
    assert [each.problem for each in served.scan().read] == [None]


def test_a_dag_in_python_includes_a_file(files: Callable[..., Path]) -> None:
    with Dag("flow", "never-made.db") as dag:
        start = dag.shell("echo", task_id="start")
        checks = dag.include("checks", included_file("common/checks.yaml", {"rows": 3}), depends_on=start)
        checks >> dag.shell("echo", task_id="report")
    graph = dag.graph()
    upstream = {name: {graph.ids[node] for node in graph.upstream[graph.index[name]]} for name in graph.ids}
    assert upstream["checks.fetch"] == {"start"}
    assert upstream["checks.lint"] == {"checks.fetch"}
    assert upstream["checks"] == {"checks.fetch", "checks.lint", "checks.count", "checks.parts"}
    assert upstream["report"] == {"checks"}
    assert list(dag.secrets) == ["TOKEN"]
    assert dag.limits.pools["disk"].slots == 2
    text = json.dumps(sorted(dag.tasks))
    assert "checks.parts.each" in text


def test_mistakes_of_an_include_in_python(files: Callable[..., Path]) -> None:
    with pytest.raises(WorkflowError, match=r"common/checks.yaml: params.rows: must be at most 10, not 99"):
        Dag("flow").include("checks", included_file("common/checks.yaml", {"rows": 99}))
    with pytest.raises(DefinitionError, match="pool 'disk' differs from that of dag 'flow'"):
        Dag("flow", pools={"disk": 5}).include("checks", included_file("common/checks.yaml"))
