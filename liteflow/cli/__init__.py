"""`python3 -m liteflow`: print a template, and list, draw and delete runs.

The commands read the state file as data: they execute no user code and decode no value. The exception is
`visualize my_workflow.py`, which lets a child process load the script. All text of the file is printed through `clean`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from liteflow.cli.output import UsageError, has_browser, save, write, write_json, write_table
from liteflow.cli.pictures import find_picture
from liteflow.errors import LiteflowError, ResourceError, RunNotFound
from liteflow.pictures.drawing import run_duration, time_text
from liteflow.pictures.picture import clean, status_style
from liteflow.record import fields_of
from liteflow.scaffold import DEFAULT_ID, scaffold
from liteflow.state.deletion import delete_runs
from liteflow.state.history import History, RunRecord
from liteflow.state.state_file import other_state_file_hint
from liteflow.version import __version__

_COMMANDS: Final = ("scaffold", "list", "visualize", "delete")
#: The names of the commands in other tools and in `lightflow`.
_SYNONYMS: Final = {
    **dict.fromkeys(("init", "new", "create", "template"), "scaffold"),
    **dict.fromkeys(("ls", "ps", "show", "history", "dags"), "list"),
    **dict.fromkeys(("draw", "graph", "plot", "render", "dag", "picture"), "visualize"),
    **dict.fromkeys(("rm", "remove", "del", "prune", "purge"), "delete"),
}
#: The commands of `lightflow` that liteflow does not have.
_OF_THE_APPLICATION: Final = (
    *("run", "resume", "cancel", "status", "logs", "outputs", "why", "runs", "pools", "validate", "schema"),
    *("list-checkpoints", "clear", "doctor", "completion"),
)
_SUFFIXES: Final = {".html": "html", ".htm": "html", ".mmd": "mermaid", ".mermaid": "mermaid"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = _Parser(prog=prog, description="Workflows in Python, run on one machine, stored in one SQLite file.")
    parser.add_argument("--version", action="version", version=f"liteflow {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")

    def add_command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(run=run)
        return command

    command = add_command("scaffold", _scaffold, "print a workflow to start from: scaffold > my_workflow.py")
    command.add_argument(
        "name", nargs="?", default=DEFAULT_ID, metavar="NAME", help=f"its dag id (default {DEFAULT_ID})"
    )

    command = add_command("list", _list, "list the dags of a state file, or the runs of one dag")
    command.add_argument("dag_id", nargs="?", metavar="DAG_ID", help="list the runs of this dag")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--limit", type=_count, default=20, metavar="N", help="list the newest N runs (default 20)")
    _add_db(command)

    command = add_command("visualize", _visualize, "draw a run as a page or as Mermaid text")
    command.add_argument(
        "id", metavar="ID", help="a dag (its latest run), a run or the beginning of its id, or a script"
    )
    command.add_argument("--format", choices=("html", "mermaid"), help="default: by the suffix of -o, else html")
    command.add_argument("-o", "--output", metavar="FILE", help="a .html or .mmd file; - for stdout (default: ID.html)")
    command.add_argument("--dag", metavar="DAG_ID", help="the dag to draw, of a script that defines several")
    command.add_argument("--no-open", action="store_true", help="do not show the page in a browser")
    _add_db(command)

    command = add_command("delete", _delete, "delete a dag with all its runs, or one run")
    command.add_argument("dag_id", nargs="?", metavar="DAG_ID", help="the dag to delete")
    command.add_argument("--run", dest="run_id", metavar="RUN_ID", help="delete only this run")
    command.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    _add_db(command)
    return parser


def _add_db(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--db", default="liteflow.db", metavar="FILE", help="the state file (default liteflow.db)")


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


# -- commands --------------------------------------------------------------------------------------------------


def _scaffold(args: argparse.Namespace) -> None:
    write(scaffold(args.name))


def _list(args: argparse.Namespace) -> None:
    with History(args.db) as history:
        if args.dag_id is not None:
            runs = history.runs(args.dag_id, limit=args.limit)
            if not runs and history.dag(args.dag_id) is None:
                raise RunNotFound(f"{args.db}: there is no dag {args.dag_id!r}{_elsewhere(args.db)}")
            if args.json:
                write_json([_run_json(history, run) for run in runs])
            else:
                write_table(
                    ["RUN", "STATE", "STARTED", "DURATION", "TASKS"], (_run_cells(history, run) for run in runs)
                )
            return
        dags = [(dag, next(iter(history.runs(dag.dag_id, limit=1)), None)) for dag in history.dags()]
        if args.json:
            write_json([{**fields_of(dag), "last_run": _run_json(history, run) if run else None} for dag, run in dags])
        else:
            cells = ((dag.dag_id, *(_run_cells(history, run) if run else ["-"] * 5)) for dag, run in dags)
            write_table(["DAG", "LAST RUN", "STATE", "STARTED", "DURATION", "TASKS"], cells)


def _run_json(history: History, run: RunRecord) -> dict[str, Any]:
    names = ("run_id", "dag_id", "status", "created_at", "started_at", "ended_at", "reason")
    return {**{name: getattr(run, name) for name in names}, "tasks": history.counts(run.run_id)}


def _run_cells(history: History, run: RunRecord) -> list[str]:
    counts = sorted(history.counts(run.run_id).items())
    tasks = ", ".join(f"{count} {status_style(status).word}" for status, count in counts)
    return [run.run_id, run.status, time_text(run.started_at or run.created_at), run_duration(run), tasks or "none"]


def _visualize(args: argparse.Namespace) -> None:
    kind = _kind(args.output, args.format)
    picture, name = find_picture(args.db, args.id, args.dag)
    # Imported here: drawing is a fifth of the start time, and no other command needs it.
    if kind == "mermaid":
        from liteflow.pictures.mermaid import to_mermaid

        text = to_mermaid(picture)
    else:
        from liteflow.pictures.page import to_html

        text = to_html(picture)
    if args.output == "-" or (args.output is None and kind == "mermaid"):
        write(text)
        return
    # An id from an untrusted file must not choose the folder, nor make a hidden file.
    path = args.output or (re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".")[:128] or "dag") + ".html"
    save(path, text)
    write(f"{clean(path)}\n")
    if kind == "html" and not args.no_open and has_browser():
        import webbrowser

        webbrowser.open(f"file://{os.path.abspath(path)}")


def _delete(args: argparse.Namespace) -> None:
    if args.dag_id is None and args.run_id is None:
        raise UsageError("name a dag to delete, or a run with --run RUN_ID")
    with History(args.db) as history:
        if args.run_id is not None:
            run = history.run(args.run_id)
            if args.dag_id not in (None, run.dag_id):
                raise UsageError(f"run {run.run_id} is of dag {run.dag_id!r}, not of {args.dag_id!r}")
            what = f"run {run.run_id} of {run.dag_id!r}"
        else:
            run_ids = list(history.run_ids(args.dag_id))
            if not run_ids and history.dag(args.dag_id) is None:
                raise RunNotFound(f"{args.db}: there is no dag {args.dag_id!r}{_elsewhere(args.db)}")
            what = f"dag {args.dag_id!r} with {len(run_ids)} run{'' if len(run_ids) == 1 else 's'}"
    if not args.yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise UsageError(f"this would delete {what} from {args.db}; add --yes, because stdin is not a terminal")
        print(clean(f"Delete {what} from {args.db}? [y/N]"), end=" ", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            write("nothing was deleted\n")
            return
    if args.run_id is not None:
        delete_runs(args.db, [run.run_id])
    else:
        delete_runs(args.db, run_ids, args.dag_id)
    write(f"{clean(f'deleted {what}')}\n")


def _kind(output: str | None, wanted: str | None) -> str:
    """Return the format: the requested one, else by the suffix of the file."""
    if wanted is not None or output is None:
        return wanted or "html"
    if output == "-":
        return "mermaid"
    suffix = os.path.splitext(output)[1].lower()
    if suffix not in _SUFFIXES:
        raise UsageError(f"{output!r} has no known suffix: end it with .html or .mmd, or add --format")
    return _SUFFIXES[suffix]


# -- entry and errors -------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None, prog: str = "liteflow") -> int:
    """Run a command line and return its exit code. Errors are printed in one line, never as a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without some character must not end the command
    try:
        exit_code = _run(_parser(prog), argv)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where an error of a closed pipe or a full disk can be handled
        return exit_code
    except LiteflowError as error:
        return _failed(prog, str(error), error.exit_code)
    except BrokenPipeError:
        _forget_stdout()
        return 128 + signal.SIGPIPE  # as any program whose reader has closed the pipe, such as `… | head -1`
    except OSError as error:
        _forget_stdout()
        return _failed(prog, f"cannot continue: {error.strerror or error}", ResourceError.exit_code)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:  # the last boundary: a user never sees a traceback
        if os.environ.get("LITEFLOW_DEBUG"):
            raise
        why = f"{type(error).__name__}: {error}"
        return _failed(
            prog, f"a bug in liteflow, please report it: {why} (LITEFLOW_DEBUG=1 shows where)", LiteflowError.exit_code
        )


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    try:
        args = parser.parse_args(_as_options(list(sys.argv[1:] if argv is None else argv), parser.prog))
    except SystemExit as end:  # --help and --version; their output still has to be flushed
        return int(end.code or 0)
    if "run" not in args:
        parser.print_help()
        return 0
    args.run(args)
    return 0


def _elsewhere(db: str) -> str:
    """Return a hint where the runs may be instead."""
    hint = other_state_file_hint(db)
    return f"; {hint}" if hint else ""


def _as_options(words: list[str], prog: str) -> list[str]:
    """Return the command line with the words `help` and `version` as the options that they mean.

    Raises:
        UsageError: there is no such command; the message names the commands.
    """
    if words[:1] == ["help"]:
        return [*words[1:2], "--help"]
    if words == ["version"]:
        return ["--version"]
    word = words[0] if words else ""
    if not word or word.startswith("-") or word in _COMMANDS:
        return words
    hint = "the commands of liteflow are " + ", ".join(_COMMANDS)
    if word in _SYNONYMS:
        hint = f"`liteflow {_SYNONYMS[word]}`"
    elif word in _OF_THE_APPLICATION:
        hint = f"the program for workflow files has it, `lightflow {word}`; {hint}"
    raise UsageError(f"there is no command {word!r}: {hint}; see `{prog} --help`")


def _failed(prog: str, message: str, exit_code: int) -> int:
    with contextlib.suppress(OSError):
        print(f"{prog}: {clean(message)}", file=sys.stderr)
    return exit_code


def _forget_stdout() -> None:
    """Send buffered output to the null device: its reader is gone, and Python would print an error at exit."""
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
