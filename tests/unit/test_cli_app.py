"""The command table, what start-up costs in imports, and how errors leave the program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from lightflow.cli import error_boundary
from lightflow.cli.app import cli
from lightflow.cli.commands import COMMANDS
from lightflow.errors import Problem, WorkflowError
from liteflow import LiteflowError, ResourceError, RunOwned, StoreError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_in_the_table_is_the_first_of_the_help(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").splitlines()[0] == COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert f"lightflow {name}" in (command.epilog or "")


@pytest.mark.parametrize(
    "name", sorted(set(COMMANDS) - {"completion", "schema", "dag", "template", "serve", "ui", "open"})
)
def test_json_everywhere(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert "as_json" in [parameter.name for parameter in command.params]
    assert "--json" in (command.epilog or "")


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["--version"], []),
        (["--help"], []),
        (["run", "--help"], []),
        (["status", "--help"], ["rich"]),
    ],
)
def test_start_up_is_lean(arguments: list[str], extra: list[str]) -> None:
    heavy = ["yaml", "rich", "pygraphviz", "importlib.metadata", "asyncio", *extra]
    if arguments[0].startswith("--"):
        heavy += ["sqlite3", "liteflow.dag", "liteflow.running.loop", "logging"]
    code = (
        "import sys\nfrom lightflow.cli.main import main\n"
        f"try: main({arguments!r})\nexcept SystemExit as end: assert not end.code\n"
        f"print(*[name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert loaded == []


#: Modules that take long to import, and that few commands need: see docs/adr/0016 and 0035.
SELDOM = [
    *["rich", "pygraphviz", "importlib.metadata", "importlib.util"],
    *["asyncio", "subprocess", "concurrent.futures", "logging", "argparse", "tempfile", "pickle"],
    *["shutil", "difflib", "traceback", "lightflow.parser.json_source"],
    *["liteflow.scripts", "liteflow.executors.aio", "liteflow.executors.thread", "liteflow.executors.importable"],
]
#: Modules that click imports, so that only programs without the command line can do without them.
OF_CLICK = ["click", "inspect", "ast", "gettext", "dataclasses"]
#: What explains why tasks of a run wait: a run that has ended has none.
OF_WAITING = ["lightflow.service.waiting", "lightflow.service.run_tasks", "lightflow.service.pools"]
READING = ["yaml", "socket", "hashlib", "ctypes", "liteflow.running.loop", "liteflow.dag"]


@pytest.mark.parametrize(
    ("line", "extra"),
    [
        ("run one.yaml", ["shlex", *OF_WAITING]),
        ("run one.yaml --quiet", ["shlex", *OF_WAITING]),
        ("status", [*READING, *OF_WAITING]),
        ("runs", READING),
        ("list", READING),
        ("logs a", READING),
        ("why a", READING),
        ("outputs a", READING),
        ("validate one.yaml", ["sqlite3", "socket", "ctypes", "liteflow.running.loop"]),
    ],
)
def test_what_is_done_all_day_imports_little(tmp_path: Path, line: str, extra: list[str]) -> None:
    (tmp_path / "one.yaml").write_text("workflow_name: one\ntasks: {a: {run: echo hello}}\n", "utf-8")
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = [sys.executable, "-m", "lightflow", "run", "one.yaml", "--quiet"]
    subprocess.run(first, cwd=tmp_path, env=here, capture_output=True, check=True)
    code = (
        "import sys; before = set(sys.modules)\nfrom lightflow.cli.main import main\n"
        f"try: main({line.split()!r})\nexcept SystemExit as end: assert not end.code\n"
        f"print('met', *sorted(set({[*SELDOM, *extra]!r}) & set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=here, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "met"


def test_a_dag_in_python_imports_little(tmp_path: Path) -> None:
    seldom = sorted({*SELDOM, *OF_CLICK, "yaml", "ctypes"} - {"liteflow.executors.thread"})
    code = (
        "import sys; before = set(sys.modules)\nfrom liteflow import Dag\ndag = Dag('one')\n"
        "def hello(): return 1\ndag.task(hello)\nassert dag.run(1, 'thread').status == 'SUCCESS'\n"
        f"print(*sorted(set({seldom!r}) & set(sys.modules) - before))"
    )
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=here, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (WorkflowError([Problem("f.yaml", 3, 5, "tasks.a", "is wrong")]), 2, "f.yaml:3:5: tasks.a: is wrong\n"),
        (click.UsageError("no such thing"), 2, "error: no such thing\n"),
        (StoreError("x.db: is broken"), 3, "error: x.db: is broken\n"),
        (RunOwned("is owned"), 4, "error: is owned\n"),
        (ResourceError("disk full"), 5, "error: disk full\n"),
        (OSError(28, "No space left on device", "out.svg"), 5, "error: out.svg: No space left on device\n"),
        (PermissionError(13, "Permission denied", "x"), 2, "error: x: Permission denied\n"),
        (MemoryError(), 5, "error: out of memory\n"),
        (StoreError("evil\x1b[31m name\nsecond"), 3, "error: evil\\x1b[31m name\n       second\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
        (click.Abort(), 130, "interrupted\n"),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_an_error_is_a_line_and_a_code(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_boundary, "mute", lambda stream: None)

    def work() -> int:
        raise error

    assert error_boundary.guard(work) == code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), LiteflowError("should not be")])
def test_a_fault_of_the_engine_is_saved(
    error: Exception, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def work() -> int:
        raise error

    assert error_boundary.guard(work) == 70
    message = capsys.readouterr().err
    [saved] = tmp_path.iterdir()
    assert len(message.splitlines()) == 1
    assert str(saved) in message
    assert "Traceback" not in message
    assert "Traceback" in saved.read_text()
    assert error_boundary.guard(work, debug=True) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_command_mistyped_is_guessed() -> None:
    with pytest.raises(click.UsageError, match="did you mean 'status'"):
        cli.main(["staus"], prog_name="lightflow", standalone_mode=False)


def test_closed_descriptors_are_not_given_to_files() -> None:
    """A state file that got descriptor 1 would have all that is printed written into it."""
    code = (
        "import os\nfrom lightflow.cli.error_boundary import open_streams\nopen_streams()\n"
        "with open(os.devnull) as file: assert file.fileno() > 2, file.fileno()\nprint('lost')"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code], cwd=ROOT, check=False, timeout=30
    )
    assert done.returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_will_do(encoding: str) -> None:
    code = "from lightflow.cli.error_boundary import open_streams\nopen_streams()\nprint('✓ a → b … \\udc80 Ł')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    expected = "✓ a → b … \\udc80 Ł\n" if encoding == "utf-8" else "+ a -> b ... \\udc80 \\u0141\n"
    assert done.stdout.decode(encoding) == expected
