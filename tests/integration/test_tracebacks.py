"""A Python task that fails shows where in the user's own code that was: in `run`, `logs`, `why`, `--debug` and JSON."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from liteflow import Dag
from liteflow.state.history import History
from liteflow.traces import from_json
from tests.integration.flow_folder import lightflow, write

INLINE = """\
workflow_name: flow
tasks:
  first: {run: echo fine}
  parse:
    type: python
    depends_on: [first]
    run: |
      def get(table):
          return table["b"]

      print("before")
      get({})
  after: {run: echo, depends_on: [parse]}
"""
HELPERS = """\
import json

def load(text):
    try:
        return json.loads(text)
    except ValueError as error:
        raise RuntimeError("could not load") from error

def handle():
    try:
        {}["a"]
    except KeyError:
        int("no number")

def forever(number):
    return forever(number + 1)

def ping(number):
    return pong(number)

def pong(number):
    return ping(number)

def group():
    error = ExceptionGroup("several", [ValueError("one"), KeyError("two")])
    error.add_note("a word more")
    raise error

def huge():
    raise ValueError("x" * 3_000_000)

def evil():
    raise ValueError("\\x1b[2J\\u202e line\\nnext")

class Odd(Exception):
    def __str__(self):
        raise OSError("not even this")

    @property
    def __cause__(self):
        raise OSError("nor this")

def odd():
    raise Odd

async def waits():
    import asyncio
    await asyncio.sleep(0)
    raise LookupError("after a while")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "helpers.py").write_text(HELPERS)
    return tmp_path


def call(folder: Path, target: str, args: str = "[]", more: str = "") -> None:
    write(folder, f"tasks: {{a: {{type: python, call: '{target}', args: {args}{more}}}}}\n")


def block(text: str, task: str = "a") -> list[str]:
    """The lines of the failure block of a task."""
    lines = text.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith(f"✗ {task} failed"))
    return lines[start : lines.index("", start)]


@pytest.mark.parametrize("mode", ["thread", "process", "async"])
def test_inline_code_is_shown_with_the_lines_of_the_workflow_file(folder: Path, mode: str) -> None:
    write(folder, INLINE)
    assert block(lightflow(folder, "run", "flow.yaml", "--mode", mode).stdout, "parse")[:6] == [
        "✗ parse failed: KeyError: 'b'",
        "  flow.yaml:12",
        "      get({})",
        "  flow.yaml:9 in get",
        '      return table["b"]',
        "  │ before",
    ]
    why = lightflow(folder, "why", "after").stdout.splitlines()
    assert why[1].startswith("  → parse is FAILED: ")
    assert why[2:6] == ["    flow.yaml:12", "        get({})", "    flow.yaml:9 in get", '        return table["b"]']


@pytest.mark.parametrize("more", ["", ", timeout: 30"])
@pytest.mark.parametrize("mode", ["thread", "process", "async"])
def test_a_called_function_is_shown_with_what_caused_its_failure(folder: Path, mode: str, more: str) -> None:
    call(folder, "helpers:load", '["{x"]', more)
    assert block(lightflow(folder, "run", "flow.yaml", "--mode", mode).stdout)[1:-1] == [
        "  helpers.py:7 in load",
        '      raise RuntimeError("could not load") from error',
        "  caused by JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        "  helpers.py:5 in load",
        "      return json.loads(text)",
    ]


def test_a_coroutine_is_shown(folder: Path) -> None:
    call(folder, "helpers:waits")
    assert "  helpers.py:49 in waits" in block(lightflow(folder, "run", "flow.yaml", "--mode", "async").stdout)


def test_what_was_handled_meanwhile_is_shown(folder: Path) -> None:
    call(folder, "helpers:handle")
    message = block(lightflow(folder, "run", "flow.yaml").stdout)
    assert message[1] == "  helpers.py:13 in handle"
    assert message[3:5] == ["  while handling KeyError: 'a'", "  helpers.py:11 in handle"]


def test_recursion_is_folded(folder: Path) -> None:
    call(folder, "helpers:forever", "[1]")
    message = block(lightflow(folder, "run", "flow.yaml").stdout)
    assert len(message) == 4
    assert message[1].startswith("  helpers.py:16 in forever, ")
    call(folder, "helpers:ping", "[1]")
    message = block(lightflow(folder, "run", "flow.yaml").stdout)
    assert any(line.startswith("  … ") and line.endswith(" frames …") for line in message)
    assert len(message) < 20


def test_a_group_has_its_members_and_notes(folder: Path) -> None:
    call(folder, "helpers:group")
    assert block(lightflow(folder, "run", "flow.yaml").stdout)[1:-1] == [
        "  note: a word more",
        "  helpers.py:27 in group",
        "      raise error",
        "  one of them: ValueError: one",
        "  one of them: KeyError: 'two'",
    ]


@pytest.mark.parametrize("name", ["huge", "evil", "odd"])
def test_no_exception_breaks_the_view(folder: Path, name: str) -> None:
    call(folder, f"helpers:{name}")
    done = lightflow(folder, "run", "flow.yaml")
    assert done.returncode == 1
    assert any(line.startswith("  helpers.py:") and line.endswith(f" in {name}") for line in block(done.stdout))
    assert len(done.stdout) < 10_000
    for line in (["logs", "a"], ["why", "a"], ["status", "--json"], ["run", "flow.yaml", "--debug"]):
        shown = lightflow(folder, *line)
        assert "\x1b" not in shown.stdout.replace("\x1b[2J", "" if line[0] == "logs" else "\x1b[2J")
        assert len(shown.stdout) < 300_000


def test_a_module_that_cannot_be_read_or_is_not_there(folder: Path) -> None:
    (folder / "broken.py").write_text("x = 1\ndef f(:\n    pass\n")
    call(folder, "broken:f")
    assert block(lightflow(folder, "run", "flow.yaml").stdout)[1:3] == ["  broken.py:2", "      def f(:"]
    (folder / "imports.py").write_text("import not_there_at_all\n")
    call(folder, "imports:f")
    message = block(lightflow(folder, "run", "flow.yaml").stdout)
    assert message[1:3] == ["  imports.py:1", "      import not_there_at_all"]
    call(folder, "nothing_of_this_name:f")
    message = block(lightflow(folder, "run", "flow.yaml").stdout)
    assert message == [
        "✗ a failed: ModuleNotFoundError: No module named 'nothing_of_this_name'",
        "  it printed nothing",
    ]


def test_frames_of_libraries_are_left_out_next_to_the_users_own(folder: Path) -> None:
    library = folder / "site-packages"
    library.mkdir()
    (library / "somebodys.py").write_text("def deep():\n    raise OSError('down')\n")
    (folder / "uses.py").write_text(
        f"import sys\nsys.path.append({str(library)!r})\nimport somebodys\n\n\ndef f():\n    somebodys.deep()\n"
    )
    call(folder, "uses:f")
    message = block(lightflow(folder, "run", "flow.yaml").stdout)
    assert message[1:3] == ["  uses.py:7 in f", "      somebodys.deep()"]
    assert not any("somebodys.py" in line for line in message)
    assert 'site-packages/somebodys.py", line 2, in deep' in lightflow(folder, "logs", "a").stdout
    (folder / "direct.py").write_text(f"import sys\nsys.path.append({str(library)!r})\nfrom somebodys import deep\n")
    call(folder, "direct:deep")
    message = block(lightflow(folder, "run", "flow.yaml").stdout)
    assert message[1] == "  site-packages/somebodys.py:2 in deep"


def test_instances_and_hooks_have_their_own(folder: Path) -> None:
    write(
        folder,
        """\
        tasks:
          each:
            type: python
            foreach: {items: [1, 0], key: "${{ item }}"}
            call: steps:divide
            args: ["${{ item }}"]
            on_failure: {type: python, run: "raise LookupError('no address')"}
        """,
    )
    (folder / "steps.py").write_text("def divide(number):\n    return 1 / number\n")
    done = lightflow(folder, "run", "flow.yaml")
    assert block(done.stdout, "each[1] 0")[1:3] == ["  steps.py:2 in divide", "      return 1 / number"]
    assert "      raise LookupError('no address')" in done.stdout.splitlines()
    assert "  steps.py:2 in divide" in lightflow(folder, "why", "each[1]").stdout


def test_logs_show_the_failure_of_each_attempt(folder: Path) -> None:
    write(
        folder,
        """\
        tasks:
          a:
            type: python
            retries: 1
            run: |
              import os
              print("attempt", os.environ["LIGHTFLOW_ATTEMPT"], end="")
              raise ValueError(os.environ["LIGHTFLOW_ATTEMPT"])
        """,
    )
    lightflow(folder, "run", "flow.yaml", "--mode", "process")
    output = lightflow(folder, "logs", "a").stdout.splitlines()
    assert [line for line in output if line.startswith(("attempt", "ValueError"))] == [
        "attempt 1",
        "ValueError: 1",
        "attempt 2",
        "ValueError: 2",
    ]
    assert sum("line 8, in <module>" in line for line in output) == 2
    assert not any("python_task.py" in line for line in output)
    only = lightflow(folder, "logs", "a", "--attempt", "2").stdout
    assert "ValueError: 2" in only
    assert "ValueError: 1" not in only
    assert lightflow(folder, "run", "flow.yaml", "--debug").stdout.count("in <module>") == 2


def test_secrets_are_masked_in_it(folder: Path) -> None:
    write(
        folder,
        """\
        secrets: [TOKEN]
        tasks:
          a:
            type: python
            run: |
              from liteflow import current_context
              token = current_context().secrets["TOKEN"]
              exec(compile(f"def {token}():\\n    raise ValueError('{token}')\\n", token, "exec"))
              locals()[token]()
        """,
    )
    for mode in ("thread", "process"):
        done = lightflow(folder, "run", "flow.yaml", "--mode", mode, "--debug", extra_env={"TOKEN": "Sup3rS3cret"})
        text = done.stdout + done.stderr + lightflow(folder, "why", "a").stdout + lightflow(folder, "logs", "a").stdout
        assert "Sup3r" not in text
        assert "***:2 in ***" in text


def test_json_has_it_as_data(folder: Path) -> None:
    call(folder, "helpers:load", '["{x"]')
    run = json.loads(lightflow(folder, "run", "flow.yaml", "--json").stdout)
    first, cause = run["tasks"][0]["attempts"][0]["trace"]
    assert (first["error"], first["relation"]) == ("RuntimeError: could not load", None)
    assert (cause["relation"], cause["frames"][0]["line"]) == ("cause", 5)
    assert first["frames"][0] == {
        "file": str(folder / "helpers.py"),
        "line": 7,
        "function": "load",
        "source": 'raise RuntimeError("could not load") from error',
        "repeats": 0,
    }
    reported = json.loads(lightflow(folder, "why", "a", "--json").stdout)
    assert reported["trace"] == run["tasks"][0]["attempts"][0]["trace"]


def test_from_python_it_is_stored_too(tmp_path: Path) -> None:
    def fails() -> None:
        raise ValueError("of a function")

    with Dag("etl", db_path=str(tmp_path / "x.db")) as dag:
        dag.task(fails)
    run = dag.run(mode="thread")
    with History(str(tmp_path / "x.db")) as history:
        [attempt] = history.attempts(run.run_id)
    [raised] = from_json(attempt.trace)
    assert (raised.error, raised.frames[-1].function, raised.frames[-1].file) == (
        "ValueError: of a function",
        "fails",
        __file__,
    )


@pytest.mark.parametrize(
    "text", ["", "x", "[", "{}", "[1]", '[["a"]]', '[["a","b",[1],0,[]]]', '[["a","b",[[1,2]],0,[null]]]', "[[[[[[[[["]
)
def test_an_altered_one_breaks_no_command(folder: Path, text: str) -> None:
    call(folder, "helpers:load", '["{x"]')
    lightflow(folder, "run", "flow.yaml")
    with sqlite3.connect(folder / "lightflow.db") as connection:
        connection.execute("DROP TRIGGER liteflow_attempt_is_final")
        connection.execute("UPDATE liteflow_attempts SET trace=?", (text,))
    connection.close()
    for line in (["why", "a"], ["logs", "a"], ["status", "--json"], ["why", "a", "--json"]):
        assert lightflow(folder, *line).returncode == 0
