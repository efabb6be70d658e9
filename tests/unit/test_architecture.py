"""Imports go one way, the engine needs nothing, and no module grows without being noticed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import liteflow
from liteflow import api

ROOT = Path(__file__).resolve().parents[2]

#: Layers from low to high: a module imports only from layers below its own, or from its own folder.
#: An entry is a module or a folder; every module of both packages must be in one.
LAYERS: list[set[str]] = [
    {"liteflow.version", "liteflow.errors", "liteflow.states", "liteflow.modes", "liteflow.gc_pause", "liteflow.digest"}
    | {"liteflow.shell", "liteflow.record"}
    | {"liteflow.masking", "liteflow.traces"},
    {"liteflow.identifiers"},
    {"liteflow.processes"},
    {"liteflow.planning", "liteflow.values", "liteflow.remote.cluster"},
    {"liteflow.limits", "liteflow.work"},
    {"liteflow.triggers", "liteflow.repeat"},
    {"liteflow.outputs", "liteflow.hooks"},
    {"liteflow.state", "liteflow.definition.compiled"},
    {"liteflow.context", "liteflow.pictures"},
    {"liteflow.executors"},
    {"liteflow.remote"},
    {"liteflow.running", "liteflow.definition", "liteflow.xcom"},
    {"liteflow.approvals"},
    {"liteflow.dagrun", "liteflow.scaffold"},
    {"liteflow.reruns"},
    {"liteflow.child_runs"},
    {"liteflow.waiting_tasks"},
    {"liteflow.dag"},
    {"liteflow.scripts"},
    {"liteflow", "liteflow.api"},
    {"liteflow.cli"},
    {"liteflow.__main__"},
    {"lightflow", "lightflow.text"},
    {"lightflow.errors"},
    {"lightflow.spelling"},
    {"lightflow.other_tools", "lightflow.bash_hints"},
    {"lightflow.clock", "lightflow.instants", "lightflow.page_address"},
    {"lightflow.spec", "lightflow.visuals", "lightflow.import_path"},
    {"lightflow.sql", "lightflow.expressions", "lightflow.clusters"},
    {"lightflow.plugins"},
    {"lightflow.parser"},
    {"lightflow.engine"},
    {"lightflow.tasks"},
    {"lightflow.service"},
    {"lightflow.scheduler"},
    {"lightflow.server", "lightflow.client", "lightflow.runs"},
    {"lightflow.cli"},
    {"lightflow.start"},
    {"lightflow.__main__"},
]

#: Modules over 700 lines, each with its reason.
LONG: dict[str, str] = {}


def modules() -> dict[str, Path]:
    result = {}
    for package in ("liteflow", "lightflow"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            result[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return result


MODULES = modules()


def entry(module: str) -> str:
    """The entry of LAYERS a module belongs to: the longest one that names it or a folder above it."""
    names = {name for layer in LAYERS for name in layer}
    candidate = module
    while candidate not in names or (candidate in ("liteflow", "lightflow") and candidate != module):
        if "." not in candidate:
            pytest.fail(f"{module} is in no layer: add it to LAYERS, as low as its imports allow")
        candidate = candidate.rpartition(".")[0]
    return candidate


def rank(module: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if entry(module) in layer)


def imports(path: Path) -> set[str]:
    """The modules of ours that a file imports, anywhere in it."""
    result = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            result |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                result.add(inner if inner in MODULES else node.module)
    return {name for name in result if name.partition(".")[0] in ("liteflow", "lightflow")}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    for other in imports(MODULES[module]):
        same_folder = entry(module) == entry(other) and entry(module) not in ("liteflow", "lightflow")
        assert rank(other) < rank(module) or same_folder, f"{module} imports {other}, which is not below it"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("liteflow")])
def test_the_engine_never_imports_the_application(module: str) -> None:
    assert not [name for name in imports(MODULES[module]) if name.startswith("lightflow")]


#: The only folders of the application that import modules of the engine other than `liteflow` and `liteflow.api`.
ENGINE_USERS = ("lightflow.engine", "lightflow.service", "lightflow.clusters.dask")


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("lightflow")])
def test_the_application_uses_the_documented_names_of_the_engine(module: str) -> None:
    internal = {name for name in imports(MODULES[module]) if name.startswith("liteflow.") and name != "liteflow.api"}
    assert not internal or module.startswith(ENGINE_USERS), f"{module} imports {sorted(internal)}: use liteflow.api"


def test_there_is_no_import_cycle_within_a_folder() -> None:
    edges = {name: imports(path) - {name} for name, path in MODULES.items()}
    done: set[str] = set()
    for start in edges:
        path: list[str] = []

        def visit(name: str, path: list[str] = path) -> None:
            assert name not in path, f"import cycle: {' -> '.join([*path, name])}"
            if name in done or name not in edges:
                return
            path.append(name)
            for other in sorted(edges[name]):
                visit(other)
            path.pop()
            done.add(name)

        visit(start)


@pytest.mark.parametrize("module", MODULES)
def test_no_type_checking_back_door(module: str) -> None:
    assert "TYPE_CHECKING" not in MODULES[module].read_text(encoding="utf-8")


@pytest.mark.parametrize("module", MODULES)
def test_modules_stay_readable(module: str) -> None:
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= 700 or module in LONG, f"{module} has {lines} lines: split it along its seam"
    assert lines > 700 or module not in LONG, f"{module} is short again: take it out of LONG"


@pytest.mark.parametrize("module", MODULES)
def test_exceptions_to_the_rules_have_a_reason(module: str) -> None:
    lines = MODULES[module].read_text(encoding="utf-8").splitlines()
    silent = re.compile(r"# type: ignore(\[[^]]*\])?$|# noqa(: [A-Z0-9, ]+)?$|^\s*except Exception( as \w+)?:$")
    assert [line.strip() for line in lines if silent.search(line)] == []


def test_a_class_has_a_name_of_its_own() -> None:
    places: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_the_engine_loads_only_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import liteflow, liteflow.cli; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(*sorted(new - set(sys.stdlib_module_names) - {'liteflow'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


#: The project structure of the first README, each with a name that the file must define.
FIRST_STRUCTURE = {
    "lightflow.engine.executor": "execute",
    "lightflow.engine.dag_builder": "build_dag",
    "lightflow.engine.checkpoint": "read",
    "lightflow.engine.logger": "LogDisplay",
    "lightflow.parser.workflow_loader": "load_workflow",
    "lightflow.cli.main": "main",
    "lightflow.plugins.shell_task": "ShellTask",
    "lightflow.plugins.python_task": "PythonTask",
    "lightflow.visuals.dag_viewer": "write_picture",
}


@pytest.mark.parametrize("module", FIRST_STRUCTURE)
def test_the_files_of_the_first_project_structure_exist(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert FIRST_STRUCTURE[module] in defined


def test_requirements_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [
        *project["dependencies"],
        *project["optional-dependencies"]["pictures"],
    ]


def test_the_names_of_the_second_layer_are_the_same_for_type_checkers() -> None:
    stub = ast.parse((ROOT / "liteflow" / "api.pyi").read_text(encoding="utf-8"))
    typed = {
        alias.asname: (node.module, alias.name)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == api._HOMES
    assert [name for name in api.__all__ if not hasattr(api, name)] == []
    assert not set(api.__all__) & set(liteflow.__all__), "a name has one home"


@pytest.mark.parametrize("package", ["liteflow"])
def test_public_names_are_sorted_and_there(package: str) -> None:
    module = __import__(package)
    assert module.__all__ == sorted(module.__all__, key=lambda name: (not name.isupper(), name)), "constants first"
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    stub = ast.parse((ROOT / package / "__init__.pyi").read_text(encoding="utf-8"))
    homes = {alias.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert homes == {name: f"{package}.{home}" for name, home in module._HOMES.items()}
    # A module of the same name would hide the public name as soon as it is imported.
    assert not [name for name in module.__all__ if (ROOT / package / f"{name}.py").exists()]
