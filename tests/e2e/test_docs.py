"""The documentation is complete and up to date, and its runnable examples run."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import click
import pytest

import liteflow
from lightflow.cli import error_boundary
from lightflow.cli.app import cli
from lightflow.cli.commands import COMMANDS as CLI_COMMANDS
from lightflow.cli.commands import SECTIONS
from lightflow.parser.schema import workflow_schema
from liteflow import api, errors, states
from liteflow.definition.options import OPTION_NAMES
from liteflow.planning import trigger_rules

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])
PAGES += sorted((ROOT / "examples").glob("*.md"))
SUBJECT_FOLDERS = ("howto", "reference", "explanation")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def words(path: Path) -> set[str]:
    """Return the texts in backquotes on a page, and the part of each before a bracket or a blank."""
    quoted = set(re.findall(r"`([^`\n]+)`", read(path)))
    return quoted | {re.split(r"[ (=\[]", text)[0] for text in quoted}


def missing(wanted: Iterator[str] | set[str] | list[str], path: Path) -> list[str]:
    """Return the names that a page does not have in backquotes."""
    return sorted(set(wanted) - words(path))


# -- everything is named ---------------------------------------------------------------------------------------


def test_every_command_and_option_is_named() -> None:
    page = DOCS / "reference" / "cli.md"
    text, context = read(page), click.Context(cli, info_name="lightflow")
    assert {name for section in SECTIONS.values() for name in section} == set(cli.list_commands(context))
    for name in CLI_COMMANDS:
        _, heading, following = text.partition(f"### lightflow {name}\n")
        assert heading, f"cli.md has no part about lightflow {name}"
        part = following.partition("\n### ")[0]
        command = cli.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(option in part for option in [*parameter.opts, *parameter.secondary_opts]), (name, parameter)


def test_every_command_with_json_is_on_the_page_about_json() -> None:
    text, context = read(DOCS / "reference" / "json.md"), click.Context(cli, info_name="lightflow")
    commands = {name: command for name in CLI_COMMANDS if (command := cli.get_command(context, name))}
    with_json = [name for name, command in commands.items() if "as_json" in {each.name for each in command.params}]
    assert [name for name in with_json if f"`lightflow {name}" not in text and f"`{name}`" not in text] == []


def test_every_key_of_the_dashboard_is_on_its_page() -> None:
    code = read(ROOT / "lightflow" / "server" / "pages" / "kit.js")
    shown = code.partition("const KEYS = {")[2].partition("};\n")[0]
    keys = {key.replace("Escape", "Esc") for key in re.findall(r'\w+: \["([^"]+)", "', shown)}
    assert {"x", "[", "Esc"} <= keys
    assert (
        sorted(keys - words(DOCS / "howto" / "dashboard.md") - words(DOCS / "howto" / "read-the-graph.md") - {"Esc"})
        == []
    )


def schema_keys(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for item in schema:
            yield from schema_keys(item)
    elif isinstance(schema, Mapping):
        properties = schema.get("properties")
        if isinstance(properties, Mapping):
            yield from properties
        for value in schema.values():
            yield from schema_keys(value)


def test_every_key_of_a_workflow_file_is_named() -> None:
    text = read(DOCS / "reference" / "workflow-file.md")
    keys = set(schema_keys(workflow_schema()))
    assert {"tasks", "depends_on", "needs", "max_parallel_tasks", "on_exit_codes", "call", "shell"} <= keys
    blocks = ("", "retry.", "preconditions.", "continue_on_error.", "retention.", "containers.")
    blocks += ("on.", "on.file.", "on.webhook.", "on.workflow.", "repeat.", "defaults.types.")
    blocks += ("clusters.", "clusters.tls.")
    assert [key for key in sorted(keys) if not any(f"`{block}{key}`" in text for block in blocks)] == []


def test_every_public_name_is_named() -> None:
    assert missing(liteflow.__all__, DOCS / "reference" / "python-api.md") == []


def test_every_name_of_the_engine_api_is_named() -> None:
    page = DOCS / "reference" / "engine-api.md"
    assert missing(api.__all__, page) == []
    text = read(page)
    queries = [name for name in vars(api.History) if not name.startswith("_") and name not in ("close", "graph")]
    assert [name for name in queries if f"`{name}(" not in text and name not in ("run_ids", "unknown", "path")] == []


def test_every_argument_of_the_python_api_is_named() -> None:
    page = DOCS / "reference" / "python-api.md"
    assert missing(set(OPTION_NAMES), page) == []
    text = read(page)
    for function in (liteflow.Dag.__init__, liteflow.Dag.run, liteflow.Dag.resume, liteflow.Dag.runs):
        for name in inspect.signature(function).parameters:
            assert name == "self" or name in text, f"{function.__qualname__}: {name}"
    for kind in (liteflow.Dag, liteflow.DagRun, liteflow.TaskContext, liteflow.XCom):
        public = [name for name in vars(kind) if not name.startswith("_")]
        internal = {"add_call", "compile", "from_record"}
        assert [name for name in public if name not in text and name not in internal] == [], kind


def test_every_error_is_named_with_its_exit_code() -> None:
    text = read(DOCS / "reference" / "python-api.md")
    for name in liteflow.__all__:
        kind = getattr(liteflow, name)
        if inspect.isclass(kind) and issubclass(kind, errors.LiteflowError):
            row = re.search(rf"^\| `{name}` \|.*\| (\d+) \|$", text, re.M)
            assert row, name
            assert int(row.group(1)) == kind.exit_code, name


def tables(path: Path) -> dict[str, list[str]]:
    liteflow.init_schema(str(path))
    connection = sqlite3.connect(path)
    try:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
            for name in names
            if not name.startswith("sqlite_")
        }
    finally:
        connection.close()


def test_every_table_and_column_is_named(tmp_path: Path) -> None:
    text = read(DOCS / "reference" / "state-file.md")
    columns_of = tables(tmp_path / "state.db")
    assert set(re.findall(r"^## (liteflow_\w+)$", text, re.M)) == set(columns_of)
    for table, columns in columns_of.items():
        part = text.partition(f"## {table}\n")[2].partition("\n## ")[0]
        named = {name for row in re.findall(r"^\| (`.*?) \|", part, re.M) for name in re.findall(r"`(\w+)`", row)}
        assert named == set(columns), table


def test_every_exit_code_is_named() -> None:
    codes = {kind.exit_code for kind in vars(errors).values() if inspect.isclass(kind) and hasattr(kind, "exit_code")}
    codes |= {0, error_boundary.RESOURCES, error_boundary.OUR_BUG, 130, 143}
    assert missing({str(code) for code in codes}, DOCS / "reference" / "exit-codes.md") == []


def test_every_state_and_rule_is_named() -> None:
    page = DOCS / "reference" / "states-and-rules.md"
    named = {value for name, value in vars(states.Status).items() if name.isupper()}
    assert named >= {*states.TASK_STATUSES, *states.RUN_STATUSES}
    assert missing({*named, *trigger_rules.TRIGGER_RULES}, page) == []


def test_the_truth_table_is_true() -> None:
    text = read(DOCS / "reference" / "states-and-rules.md")
    block = text.partition("<!-- rules:start -->\n")[2].partition("<!-- rules:end -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.strip().splitlines()]
    head, body = rows[0][1:], rows[2:]
    assert [row[0].strip("`") for row in body] == list(trigger_rules.TRIGGER_RULES)
    for rule, row in zip(trigger_rules.TRIGGER_RULES, body, strict=True):
        for situation, answer in zip(head, row[1:], strict=True):
            signs = [] if situation == "none" else situation.split()
            counts = trigger_rules.UpstreamCounts(len(signs), *(signs.count(sign) for sign in "SFKU"))
            decision = trigger_rules.decide(rule, counts).replace("upstream_failed", "fail")
            assert decision == answer, (rule, situation)


def test_every_environment_variable_is_named() -> None:
    variables: set[str] = set()
    for package in ("liteflow", "lightflow"):
        for path in (ROOT / package).rglob("*.py"):
            text = read(path)
            variables |= set(re.findall(r"\"((?:LIGHTFLOW|LITEFLOW)_[A-Z_]+)\"", text))
            variables |= set(re.findall(r"environ(?:\.get\(|\[)\"([A-Z_]+)\"", text))
    assert {"LIGHTFLOW_DB", "LIGHTFLOW_RUN_ID", "NO_COLOR"} <= variables
    assert missing(variables, DOCS / "reference" / "environment-variables.md") == []


def test_every_decision_has_its_parts() -> None:
    pages = sorted((DOCS / "adr").glob("0*.md"))
    assert len(pages) >= 12
    index = read(DOCS / "adr" / "README.md")
    for page in pages:
        text = read(page)
        assert text.startswith(f"# {page.name[:4]}. "), page
        assert re.findall(r"^## (\w+)$", text, re.M) == ["Context", "Decision", "Considered", "Regret"], page
        assert re.search(r"^Status: (accepted|superseded) \d{4}-\d\d-\d\d", text, re.M), page
        assert f"]({page.name})" in index, page


# -- nothing is stale ------------------------------------------------------------------------------------------


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "tools" / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date() -> None:
    stale = [path.name for path, text in load_tool().pages().items() if read(path) != text]
    assert stale == [], "run: python tools/make_reference.py"


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page as GitHub creates them."""
    text = re.sub(r"^```.*?^```", "", read(path), flags=re.M | re.S)
    heads = [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.+)$", text, re.M)]
    return {head if not number else f"{head}-{number}" for number in range(3) for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", read(page), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name}: {target}"
        assert path.is_relative_to(ROOT), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(path), f"{page.name}: {target}"


def test_every_folder_and_module_is_on_the_page_about_the_architecture() -> None:
    text = read(DOCS / "explanation" / "architecture.md")
    names = [
        name
        for package in ("liteflow", "lightflow")
        for path in (ROOT / package).iterdir()
        for name in [f"{path.relative_to(ROOT)}/" if path.is_dir() else str(path.relative_to(ROOT))]
        if name.endswith((".py", "/")) and "__init__" not in name and "__pycache__" not in name
    ]
    assert len(names) > 60
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_readme_is_short() -> None:
    assert len(read(ROOT / "README.md").splitlines()) <= 120


def test_the_list_of_pages_has_each_page_once() -> None:
    listed = re.findall(r"^- \[[^\]]+\]\(([^)#]+)\)", read(DOCS / "README.md"), re.M)
    folders = {name: [f"{name}/{page.name}" for page in (DOCS / name).glob("*.md")] for name in SUBJECT_FOLDERS}
    wanted = [page for pages in folders.values() for page in pages] + [
        "explanation/reliability/README.md",
        "adr/README.md",
    ]
    assert sorted(listed) == sorted(wanted)


def test_every_page_is_linked() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", read(page))
        if not target.startswith("http")
    }
    assert [page for page in PAGES if page.is_relative_to(DOCS) and page not in linked] == []


# -- nothing private --------------------------------------------------------------------------------------------

#: Written in pieces, so that this file does not find itself.
PRIVATE = re.compile(
    "|".join(
        [
            r"(?<![\w.$}])/" + r"(work|root)/\w",
            r"/home/" + r"\w+/",
            r"\b(shared|research|seeds)/" + r"\w+\.md",
            r"\bDESIGN" + r"\.md\b",
            r"\b(index|registry)-" + r"url\b",
            r"\b(pypi|npm|registry)\.[\w.-]*" + r"(org|com|io|net|internal|local)\b",
            r"\b10\.\d+\.\d+\." + r"\d+\b",
        ]
    )
)


def tracked() -> list[Path]:
    """Return the files that are, or would be, in the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    names = [name for name in done.stdout.split("\0") if name]
    if done.returncode or not names:
        pytest.skip("this is not a git checkout, so the files of the repository are unknown")
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def test_no_file_names_a_machine_or_a_registry() -> None:
    private_lines = []
    for path in tracked():
        if path.name in ("mermaid.min.js", "uv.lock"):
            continue
        for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").splitlines(), start=1):
            if PRIVATE.search(line):
                private_lines.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert private_lines == []


# -- runnable examples run ------------------------------------------------------------------------------------


class Block(NamedTuple):
    """A fenced block of a page. `info` are the words after the backquotes."""

    line: int
    info: list[str]
    text: str


def blocks(path: Path) -> list[Block]:
    text = read(path)
    return [
        Block(text.count("\n", 0, match.start()) + 1, match[1].split(), match[2])
        for match in re.finditer(r"^```(\S[^\n]*)\n(.*?)^```$", text, re.M | re.S)
    ]


RUNNABLE = [page for page in PAGES if any("run" in block.info for block in blocks(page))]


def test_some_pages_are_runnable() -> None:
    assert {ROOT / "README.md", DOCS / "quickstart.md"} <= set(RUNNABLE)


@pytest.fixture
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the commands of this checkout, for the scripts of the pages."""
    folder = tmp_path_factory.mktemp("bin")
    for name, words in {"lightflow": "-m lightflow", "liteflow": "-m liteflow", "python": ""}.items():
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    return folder


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_runnable_blocks_of_a_page_run(page: Path, tmp_path: Path, commands: Path) -> None:
    environ = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    for name in [name for name in environ if name.startswith(("LIGHTFLOW_", "LITEFLOW_"))]:
        del environ[name]
    for block in blocks(page):
        facts = dict(word.split("=", 1) for word in block.info if "=" in word)
        if "file" in facts:
            (tmp_path / facts["file"]).write_text(block.text, encoding="utf-8")
        if "run" in block.info:
            done = subprocess.run(
                ["/bin/sh", "-e", "-c", block.text],
                cwd=tmp_path,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
                check=False,
            )
            wanted = int(facts.get("exit", "0"))
            assert done.returncode == wanted, f"{page.name}:{block.line}\n{block.text}\n{done.stdout}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_yaml_blocks_that_are_workflows_are_valid(page: Path, tmp_path: Path) -> None:
    from lightflow.parser.workflow_loader import load_workflow

    for block in blocks(page):
        facts = dict(word.split("=", 1) for word in block.info if "=" in word)
        if block.info[0] == "python" and "file" in facts:
            (tmp_path / facts["file"]).write_text(block.text, encoding="utf-8")  # a plugin of the workflow below
        if block.info[0] == "yaml" and re.search(r"^workflow_name:", block.text, re.M) and "tasks:" in block.text:
            path = tmp_path / facts.get("file", "block.yaml")
            path.write_text(block.text, encoding="utf-8")
            load_workflow(str(path))


def test_commands_and_options_on_the_pages_exist() -> None:
    """Each command that a page mentions exists, with the options in the example."""
    context = click.Context(cli, info_name="lightflow")
    common_options = {"--help", "-h", "--version"}
    for page in PAGES:
        if page.name == "cli.md":
            continue
        for name, arguments in re.findall(r"\blightflow ([a-z][a-z-]+)((?: [^\s`|;&>#]+)*)", code_of(page)):
            assert name in CLI_COMMANDS, f"{page.name}: lightflow {name}"
            command = cli.get_command(context, name)
            assert command is not None
            options = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]}
            for option in re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", arguments):
                assert option in options | common_options, f"{page.name}: lightflow {name} {option}"


def code_of(page: Path) -> str:
    """Return the shell code of a page: blocks and texts in backquotes."""
    text = read(page)
    shell = [block.text for block in blocks(page) if block.info[0] in ("bash", "text", "ini")]
    plain = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return "\n".join([*shell, *re.findall(r"`([^`\n]+)`", plain)])


CURRENT_PAGES = [
    page for page in PAGES if not page.is_relative_to(DOCS / "adr")
]  # decisions keep the names of their time


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_pages_name_exist(page: Path) -> None:
    plain = re.sub(r"^```.*?^```", "", read(page), flags=re.M | re.S)
    for name in re.findall(r"`((?:liteflow|lightflow|tests|docs|tools|examples|bench)/[\w./*-]+)`", plain):
        assert list(ROOT.glob(name.rstrip("/"))), f"{page.name}: {name}"
