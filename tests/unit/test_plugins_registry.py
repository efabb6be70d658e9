"""Task types of plugins: read without running, loaded only for a run."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from lightflow.errors import WorkflowError
from lightflow.parser.workflow_loader import load_workflow, loads_workflow
from lightflow.plugins.registry import Registry
from liteflow.work import Call

EXAMPLES = Path(__file__).parents[2] / "examples" / "plugins"
PLUGIN = """
from lightflow.plugins import base

print("imported")
open("imported", "w").close()


class Double(base.TaskType):
    name: str = "double"
    schema = {"properties": {"number": {"type": "number"}}, "required": ["number"]}

    def run(self, config, context):
        return (config["number"] * 2, context.task_id, context.folder)


class Triple(Double):
    name = "triple"

    def run(self, config, context):
        return config["number"] * 3


class Unrelated:
    name = compute = "not a task type"
"""


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "types.py").write_text(PLUGIN)
    path = tmp_path / "flows" / "w.yaml"
    path.write_text(
        "plugins: [types.py]\ntasks:\n  a: {type: double, number: 4, cwd: .}\n  b: {type: triple, number: 4}\n"
    )
    return path


def test_checking_a_file_does_not_run_its_plugins(flow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = load_workflow(flow)
    assert spec.plugins == (str(flow.parent / "types.py"),)
    assert spec.tasks["a"].config == {"number": 4}
    assert not Path("imported").exists()
    assert capsys.readouterr().out == ""


def test_the_registry_of_the_caller_is_not_changed(flow: Path) -> None:
    registry = Registry()
    load_workflow(flow, registry)
    assert [info.name for info in registry.described()] == ["shell", "python"]


def test_a_plugin_task_runs_here_and_in_a_fresh_interpreter(flow: Path) -> None:
    spec = load_workflow(flow)
    registry = Registry().with_files(spec.plugins)
    body = registry.load("double").build(spec.tasks["a"])
    assert isinstance(body, Call)
    assert body.cwd == str(Path.cwd())
    assert body.func(**body.kwargs) == (8, "a", str(flow.parent))
    triple = registry.load("triple").build(spec.tasks["b"])
    program = "import pickle, sys; body = pickle.load(sys.stdin.buffer); print(body.func(**body.kwargs))"
    done = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(triple), capture_output=True, check=True)
    assert done.stdout == b"imported\n12\n"


def test_a_plugin_that_fails_to_import_is_reported_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(
        "from lightflow.plugins.base import TaskType\nclass A(TaskType):\n    name = 'a'\n\nraise ValueError('no')\n"
    )
    with pytest.raises(WorkflowError) as caught:
        Registry().with_files([str(path)]).load("a")
    assert str(caught.value) == 'broken.py:5:1: task type "a" cannot be loaded: ValueError: no'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:\n", "p.py:1:7: not valid Python: "),
        ("x = 1\n", "p.py:1:1: declares no task type: no class here derives from TaskType"),
        ("(" * 1000, "p.py:1:201: not valid Python: "),
        ("\0", "p.py"),
    ],
)
def test_a_plugin_file_that_cannot_be_read(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    path.write_text(text)
    with pytest.raises(WorkflowError) as caught:
        Registry().with_files([str(path)])
    assert str(caught.value).startswith(message)


def test_two_files_cannot_declare_the_same_type(flow: Path) -> None:
    other = flow.with_name("other.py")
    other.write_text(PLUGIN)
    with pytest.raises(WorkflowError, match=r'task type "double" exists already \(types.py\)'):
        Registry().with_files([str(flow.parent / "types.py"), str(other)])


def test_installed_packages_are_searched_only_for_unknown_names() -> None:
    program = """
import sys
from lightflow.parser.workflow_loader import loads_workflow
loads_workflow("tasks: {a: {run: x}, b: {type: python, run: '1'}}")
assert "importlib.metadata" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_example_with_a_plugin_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = load_workflow(EXAMPLES / "plugin_workflow.yaml")
    registry = Registry().with_files(spec.plugins)
    subprocess.run(["sh", "-c", spec.tasks["export_orders"].config["run"]], check=True)
    body = registry.load("csv_filter").build(spec.tasks["large_orders"])
    assert isinstance(body, Call)
    assert body.func(**body.kwargs) == {"rows": 2}
    assert Path("large_orders.csv").read_text().splitlines() == ["order,amount", "2,250", "4,1200"]


def test_example_as_an_installed_package(tmp_path: Path) -> None:
    """A hand-made installation: the module and its metadata in a folder on the path, as an installer leaves them."""
    package = EXAMPLES / "lightflow-wordcount"
    (tmp_path / "lightflow_wordcount.py").write_text((package / "lightflow_wordcount.py").read_text())
    info = tmp_path / "lightflow_wordcount-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lightflow-wordcount\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[lightflow.task_types]\nword_count = lightflow_wordcount:WordCount\n")
    (tmp_path / "text.txt").write_text("to be or not to be")
    program = """
import pickle, sys
from lightflow.parser.workflow_loader import load_workflow
from lightflow.plugins.registry import Registry
spec = load_workflow(sys.argv[1])
assert "lightflow_wordcount" not in sys.modules
body = Registry().load("word_count").build(spec.tasks["count"])
body = pickle.loads(pickle.dumps(body))
print(body.func(**body.kwargs))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(package / "workflow.yaml")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{EXAMPLES.parents[1]}"},
    )
    assert (done.stderr, done.stdout) == ("", "{'to': 2, 'be': 2, 'or': 1}\n")


def test_the_example_package_declares_what_the_test_installs() -> None:
    recipe = (EXAMPLES / "lightflow-wordcount" / "pyproject.toml").read_text()
    assert '[project.entry-points."lightflow.task_types"]\nword_count = "lightflow_wordcount:WordCount"' in recipe


def test_an_unknown_type() -> None:
    with pytest.raises(WorkflowError, match='no task type "nope"'):
        Registry().load("nope")
    with pytest.raises(WorkflowError, match='no task type "nope"'):
        loads_workflow("tasks: {a: {type: nope}}")


def test_the_schema_of_a_plugin_may_use_the_keywords_of_json_schema(tmp_path: Path) -> None:
    schema = {
        "properties": {
            "size": {"type": "integer", "multipleOf": 4},
            "names": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "maxItems": 3},
            "speed": {"anyOf": [{"const": "fast"}, {"type": "integer"}], "x-expects": "fast, or a number"},
        },
        "required": ["size"],
    }
    (tmp_path / "types.py").write_text(
        f"from lightflow.plugins import base\nclass T(base.TaskType):\n    name = 't'\n    schema = {schema!r}\n"
    )
    path = tmp_path / "w.yaml"
    text = "plugins: [types.py]\ntasks:\n"
    path.write_text(text + "  a: {type: t, size: 8, names: [a, b], speed: fast}\n")
    assert load_workflow(path).tasks["a"].config["size"] == 8
    path.write_text(text + "  a: {type: t, size: 7, names: [a, a], speed: slow}\n  b: {type: t}\n")
    with pytest.raises(WorkflowError) as caught:
        load_workflow(path)
    assert [(problem.path, problem.message) for problem in caught.value.problems] == [
        ("tasks.a.size", "must be a multiple of 4, not 7"),
        ("tasks.a.names", "has the same value twice"),
        ("tasks.a.speed", 'must be fast, or a number, not "slow"'),
        ("tasks.b", 'needs "size"'),
    ]


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"unevaluatedProperties": False}, 'the keyword "unevaluatedProperties" is not supported'),
        ({"properties": {"a": {"pattern": "("}}}, "the pattern '(' is not a regular expression"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "$ref '#/$defs/none' names no part of the schema"),
    ],
)
def test_a_schema_that_cannot_be_used_is_reported_with_its_line(
    schema: dict[str, object], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "types.py").write_text(
        f"from lightflow.plugins import base\nclass T(base.TaskType):\n    name = 't'\n    schema = {schema!r}\n"
    )
    (tmp_path / "w.yaml").write_text("plugins: [types.py]\ntasks: {a: {type: t, any: 1}}\n")
    with pytest.raises(WorkflowError) as caught:
        load_workflow(tmp_path / "w.yaml")
    (problem,) = caught.value.problems
    assert (problem.line, problem.message.partition("not JSON Schema: ")[2].startswith(reason)) == (2, True)
