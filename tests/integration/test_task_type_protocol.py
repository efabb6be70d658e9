"""The protocol of task types: how keys take expressions, what hooks can name, needed modules, installed types."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from flow_folder import ROOT, lightflow, status, write

from lightflow.errors import WorkflowError
from lightflow.parser.workflow_loader import load_with_hints, load_workflow

TYPES = """
import json
from lightflow.plugins.base import BoundValue, TaskType


class Call(TaskType):
    name = "call_service"
    schema = {
        "properties": {
            "url": {"type": "string", "x-expressions": "url"},
            "headers": {"type": "object", "additionalProperties": {"type": "string", "x-expressions": "header"}},
            "sql": {"type": "string", "x-expressions": "bind"},
            "body": {"type": "object"},
            "label": {"type": "string", "x-shown": True},
            "fixed": {"type": "string", "x-expressions": "none", "x-refusal": "fixed takes no expression"},
            "script": {"type": "string", "x-expressions": "shell"},
        },
    }

    def run(self, config, context):
        import os, subprocess
        shown = dict(config)
        if "sql" in shown and not isinstance(shown["sql"], str):
            shown["sql"] = [["bound", part.value] if isinstance(part, BoundValue) else part for part in shown["sql"]]
        if "script" in shown:
            shown["script"] = subprocess.run(["sh", "-c", shown["script"]], capture_output=True, text=True).stdout
        return {"config": shown, "pid": os.getpid()}
"""


def run(folder: Path, tasks: str, *arguments: str, top: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "types_of_test.py").write_text(TYPES)
    write(folder, f"plugins: [types_of_test.py]\n{top}\ntasks:\n{tasks}")
    return lightflow(folder, "run", "flow.yaml", *arguments)


def value(folder: Path, task: str) -> dict[str, object]:
    outputs = json.loads(lightflow(folder, "outputs", task, "--json").stdout)["outputs"]
    result: dict[str, object] = next(each["value"] for each in outputs if each["key"] == "return_value")
    return result


def messages(folder: Path, tasks: str, top: str = "") -> list[str]:
    (folder / "types_of_test.py").write_text(TYPES)
    write(folder, f"plugins: [types_of_test.py]\n{top}\ntasks:\n{tasks}")
    with pytest.raises(WorkflowError) as caught:
        load_workflow(folder / "flow.yaml")
    return [f"{problem.line}:{problem.column} {problem.message}" for problem in caught.value.problems]


HOSTILE = "a/../b?c=1&d#e \\\"'; DROP"


def test_each_kind_of_key_takes_a_value_in_its_own_way(tmp_path: Path) -> None:
    tasks = """
      call:
        type: call_service
        url: "https://example.org/v1/${{ params.x }}?q=${{ params.x }}"
        headers: {X-Key: "k ${{ params.x }}"}
        sql: "SELECT ${{ params.n }} WHERE a = ${{ params.x }}"
        body: {n: "${{ params.n }}", x: "${{ params.x }}"}
        label: "no ${{ params.n }}"
        script: printf '%s' ${{ params.x }}
    """
    top = "params: {x: {type: string}, n: 3}"
    done = run(tmp_path, tasks, "-p", f"x={HOSTILE}", top=top)
    assert done.returncode == 0, done.stdout + done.stderr
    encoded = "a%2F..%2Fb%3Fc%3D1%26d%23e%20%5C%22%27%3B%20DROP"
    config = value(tmp_path, "call")["config"]
    assert config == {
        "url": f"https://example.org/v1/{encoded}?q={encoded}",
        "headers": {"X-Key": f"k {HOSTILE}"},
        "sql": ["SELECT ", ["bound", 3], " WHERE a = ", ["bound", HOSTILE]],
        "body": {"n": 3, "x": HOSTILE},
        "label": "no 3",
        "script": HOSTILE,
    }


def test_a_type_runs_in_a_worker_process(tmp_path: Path) -> None:
    tasks = """
      one: {type: call_service, body: {a: 1}}
      here: {type: python, call: "os:getpid"}
    """
    assert run(tmp_path, tasks).returncode == 0
    outputs = json.loads(lightflow(tmp_path, "outputs", "here", "--json").stdout)["outputs"]
    assert value(tmp_path, "one")["pid"] != outputs[0]["value"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("..", "which would change the path of the URL"),
        ("a\nb: c", "which would begin another header"),
    ],
)
def test_a_value_that_a_key_cannot_take_fails_with_its_place(tmp_path: Path, value: str, message: str) -> None:
    key = 'url: "https://h/${{ params.x }}"' if value == ".." else 'headers: {A: "${{ params.x }}"}'
    done = run(
        tmp_path, f"  call:\n    type: call_service\n    {key}\n", "-p", f"x={value}", top="params: {x: {type: string}}"
    )
    assert done.returncode in (1, 2)
    (task,) = status(tmp_path)["tasks"]
    assert message in task["reason"]
    assert "flow.yaml:6:" in task["reason"]


def test_expressions_are_refused_where_a_key_cannot_take_them(tmp_path: Path) -> None:
    tasks = """  a:
    type: call_service
    url: "https://${{ params.x }}/v1"
    label: "${{ secrets.TOKEN }}"
    fixed: "a ${{ params.x }}"
"""
    assert messages(tmp_path, tasks, "params: {x: y}\nsecrets: [TOKEN]") == [
        "7:19 an expression is not allowed before the path of a URL, where its value could name another server; "
        "make the whole URL an expression",
        "8:13 a secret is not allowed here, only in values that a process or a function receives: run, env, args",
        "9:15 fixed takes no expression",
    ]


def test_a_wrong_annotation_is_a_mistake_of_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "t.py").write_text(
        "from lightflow.plugins.base import TaskType\nclass T(TaskType):\n"
        "    name = 't'\n    schema = {'properties': {'a': {'x-expressions': 'json'}}}\n"
    )
    write(tmp_path, "plugins: [t.py]\ntasks: {a: {type: t, a: 1}}\n")
    with pytest.raises(
        WorkflowError, match="\"x-expressions\" is 'json'; there are text, bind, url, header, shell, none"
    ):
        load_workflow(tmp_path / "flow.yaml")


# -- hooks -------------------------------------------------------------------------------------------------------------


def test_a_hook_can_name_its_event_in_every_key(tmp_path: Path) -> None:
    tasks = """
      bad:
        run: echo oh; exit 3
        retries: 1
        on_failure:
          type: call_service
          body: {a: "${{ hook.task }} ${{ hook.status }} ${{ hook.attempt }} ${{ hook.event }}", e: "${{ hook.error }}"}
      each:
        foreach: [x, y]
        run: test ${{ item }} = x
        on_failure: echo "hook ${{ hook.task }} ${{ hook.map_index }} ${{ item }}"
    """
    assert run(tmp_path, tasks, top='on_failure: echo "run ${{ hook.status }} ${{ hook.error }}"').returncode == 1
    body = value(tmp_path, "bad.on_failure")["config"]
    assert body == {"body": {"a": "bad FAILED 2 on_failure", "e": "exit code 3"}}
    assert "hook each 1 y" in lightflow(tmp_path, "logs", "each.on_failure[1]").stdout
    assert "run FAILED failed: bad, each" in lightflow(tmp_path, "logs", "on_failure").stdout


def test_only_hooks_can_name_it(tmp_path: Path) -> None:
    tasks = "  a:\n    run: echo ${{ hook.task }}\n    preconditions: ['echo ${{ hook.task }}']\n"
    assert [message.partition(" ")[2] for message in messages(tmp_path, tasks)] == ["hook is known in hooks only"] * 2


# -- modules -----------------------------------------------------------------------------------------------------------

NEEDY = """
from lightflow.plugins.base import TaskType


class Needy(TaskType):
    name = "needy"
    schema = {"properties": {"a": {"type": "integer"}}}
    needs = ("%s",)
    extra = "%s"

    def run(self, config, context):
        import sys
        return sys.modules["%s"].LOADED_IN
"""


def test_a_missing_module_is_reported_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "t.py").write_text(NEEDY % ("no_such_module", "my-types[needy]", "x"))
    write(tmp_path, "plugins: [t.py]\ntasks:\n  first: {run: touch ran}\n  second: {type: needy, a: 1}\n")
    text = "type needy needs no_such_module: pip install 'my-types[needy]'"
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert (done.returncode, text in done.stderr, (tmp_path / "ran").exists()) == (2, True, False)
    checked = lightflow(tmp_path, "validate", "flow.yaml")
    assert (checked.returncode, text in checked.stdout + checked.stderr) == (0, True)  # another machine may have it


@pytest.mark.parametrize("preload", ["true", "false"])
def test_modules_are_imported_once_before_the_workers(tmp_path: Path, preload: str) -> None:
    (tmp_path / "needed_module.py").write_text("import os\nLOADED_IN = os.getpid()\n")
    text = (NEEDY % ("needed_module", "", "needed_module")).replace("import sys", "import sys, needed_module")
    (tmp_path / "t.py").write_text(text)
    tasks = "".join(f"  t{number}: {{type: needy, a: 1}}\n" for number in range(4))
    write(tmp_path, f"plugins: [t.py]\nsettings: {{preload: {preload}}}\ntasks:\n{tasks}")
    done = lightflow(tmp_path, "run", "flow.yaml", extra_env={"PYTHONPATH": f"{ROOT}:{tmp_path}"})
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = json.loads(lightflow(tmp_path, "outputs", "--json").stdout)["outputs"]
    loaded_in = {each["value"] for each in outputs}
    assert (len(loaded_in) == 1) is (preload == "true")


def test_a_module_that_cannot_be_imported_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "needed_module.py").write_text("raise RuntimeError('no licence')\n")
    (tmp_path / "t.py").write_text(NEEDY % ("needed_module", "", "needed_module"))
    write(tmp_path, "plugins: [t.py]\ntasks: {first: {run: touch ran}, second: {type: needy, a: 1}}\n")
    done = lightflow(tmp_path, "run", "flow.yaml", extra_env={"PYTHONPATH": f"{ROOT}:{tmp_path}"})
    assert done.returncode == 2
    assert "the module 'needed_module', which a task needs, cannot be imported: RuntimeError: no licence" in done.stderr
    assert not (tmp_path / "ran").exists()


# -- installed types ---------------------------------------------------------------------------------------------------


def install(folder: Path, source: str) -> None:
    """Install a package by hand: its module, and its metadata."""
    package = folder / "shop_types"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('imported')\n")
    (package / "kinds.py").write_text(source)
    metadata = folder / "shop_types-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-types\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[lightflow.task_types]\norder = shop_types.kinds:Order\n")


def test_keys_of_an_installed_type_are_checked_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(
        tmp_path,
        "from lightflow.plugins.base import TaskType\nraise AssertionError('imported')\nclass Order(TaskType):\n"
        "    name = 'order'\n    schema = {'properties': {'number': {'type': 'integer'}}, 'required': ['number']}\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path, "tasks:\n  a: {type: order, numbr: 1}\n  b: {type: order, number: x}\n")
    with pytest.raises(WorkflowError) as caught:
        load_workflow(tmp_path / "flow.yaml")
    assert sorted(problem.message for problem in caught.value.problems) == [
        'must be a whole number, not "x"',
        'unknown key "numbr", did you mean "number"?',
    ]


def test_an_installed_type_whose_source_cannot_be_read_gives_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "Order = __import__('lightflow').something\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path, "tasks:\n  a: {type: order, numbr: 1}\n")
    hints = [hint.message for hint in load_with_hints(tmp_path / "flow.yaml")[1]]
    assert hints == [
        'the keys of type "order" (package shop-types) are checked when it runs: its source cannot be read'
    ]


def test_checking_a_file_imports_no_built_in_type_that_it_does_not_use(tmp_path: Path) -> None:
    write(
        tmp_path, "params: {type: {type: string, default: http}}\ntasks: {a: {run: curl http://localhost sql docker}}\n"
    )
    program = (
        "import sys; from lightflow.parser.workflow_loader import load_workflow; load_workflow('flow.yaml');"
        "print(*sorted(name for name in sys.modules if name.startswith('lightflow.plugins.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    types = [name.rpartition(".")[2] for name in done.stdout.split() if name.endswith("_task")]
    assert types == ["python_task", "shell_task"], done.stderr
