"""`python3 -m liteflow`: print a template, list what ran, draw it, delete it.

Reads the state file as data: executes nothing of the user's and decodes no value. The one exception is asked for by
name: `visualize my_workflow.py` lets a child process load the script. What the file says is printed through `clean`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NoReturn

from liteflow import Dag, LiteflowError, ResourceError, RunNotFound, __version__
from liteflow.dag import Collected, collect
from liteflow.history import History, InstanceRecord, RunRecord
from liteflow.maintenance import delete_runs
from liteflow.picture import Picture, clean, duration_text, from_dependencies, look_of
from liteflow.scaffold import DEFAULT_ID, scaffold

_SCRIPT_SECONDS: Final = 30.0
_SUFFIXES: Final = {".html": "html", ".htm": "html", ".mmd": "mermaid", ".mermaid": "mermaid"}
#: Of a mapped task's instances the state that matters most is shown: the first of these that occurs.
_GRAVEST: Final = ("FAILED", "UPSTREAM_FAILED", "CANCELLED", "RUNNING", "UP_FOR_RETRY", "QUEUED", "PENDING", "SUCCESS")


class UsageError(LiteflowError):
    """The command line asks for something that cannot be done."""

    exit_code = 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = _Parser(prog=prog, description="Workflows in Python, run on one machine, kept in one SQLite file.")
    parser.add_argument("--version", action="version", version=f"liteflow {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        made.set_defaults(run=run)
        return made

    one = command("scaffold", _scaffold, "print a workflow to start from: scaffold > my_workflow.py")
    one.add_argument("name", nargs="?", default=DEFAULT_ID, metavar="NAME", help=f"its dag id (default {DEFAULT_ID})")

    one = command("list", _list, "list the dags of a state file, or the runs of one dag")
    one.add_argument("dag_id", nargs="?", metavar="DAG_ID", help="list the runs of this dag")
    one.add_argument("--json", action="store_true", help="print JSON")
    one.add_argument("--limit", type=_count, default=20, metavar="N", help="list the newest N runs (default 20)")
    _add_db(one)

    one = command("visualize", _visualize, "draw a run as a page or as Mermaid text")
    one.add_argument("id", metavar="ID", help="a dag (its latest run), a run or the beginning of its id, or a script")
    one.add_argument("--format", choices=("html", "mermaid"), help="default: what the suffix of -o says, else html")
    one.add_argument("-o", "--output", metavar="FILE", help="a .html or .mmd file; - for stdout (default: ID.html)")
    one.add_argument("--dag", metavar="DAG_ID", help="which dag of a script that defines several")
    one.add_argument("--no-open", action="store_true", help="do not show the page in a browser")
    _add_db(one)

    one = command("delete", _delete, "delete a dag with all its runs, or one run")
    one.add_argument("dag_id", nargs="?", metavar="DAG_ID", help="the dag to delete")
    one.add_argument("--run", dest="run_id", metavar="RUN_ID", help="delete this run alone")
    one.add_argument("--yes", action="store_true", help="do not ask")
    _add_db(one)
    return parser


def _add_db(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--db", default="liteflow.db", metavar="FILE", help="the state file (default liteflow.db)")


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


# -- commands --------------------------------------------------------------------------------------------------


def _scaffold(args: argparse.Namespace) -> None:
    _write(scaffold(args.name))


def _list(args: argparse.Namespace) -> None:
    with History(args.db) as history:
        if args.dag_id is not None:
            runs = history.runs(args.dag_id, limit=args.limit)
            if not runs and history.dag(args.dag_id) is None:
                raise RunNotFound(f"{args.db}: there is no dag {args.dag_id!r}")
            if args.json:
                _write_json([_run_json(history, run) for run in runs])
            else:
                _write_table("RUN STATUS STARTED TOOK TASKS", (_run_cells(history, run) for run in runs))
            return
        dags = [(dag, next(iter(history.runs(dag.dag_id, limit=1)), None)) for dag in history.dags()]
        if args.json:
            _write_json(
                [{**dag._asdict(), "last_run": _run_json(history, run) if run else None} for dag, run in dags]
            )
        else:
            cells = ((dag.dag_id, *(_run_cells(history, run) if run else ["-"] * 5)) for dag, run in dags)
            _write_table("DAG LAST-RUN STATUS STARTED TOOK TASKS", cells)


def _run_json(history: History, run: RunRecord) -> dict[str, Any]:
    names = ("run_id", "dag_id", "status", "created_at", "started_at", "ended_at", "reason")
    return {**{name: getattr(run, name) for name in names}, "tasks": history.counts(run.run_id)}


def _run_cells(history: History, run: RunRecord) -> list[str]:
    counts = sorted(history.counts(run.run_id).items())
    tasks = ", ".join(f"{count} {look_of(status).word}" for status, count in counts)
    return [run.run_id, run.status, _moment(run.started_at or run.created_at), _took(run), tasks or "none"]


def _visualize(args: argparse.Namespace) -> None:
    kind = _kind(args.output, args.format)
    picture, name = _find_picture(args)
    # Here and not above: the page pulls in 4 MB of assets' machinery that no other command needs.
    if kind == "mermaid":
        from liteflow.mermaid import to_mermaid as draw
    else:
        from liteflow.page import to_html as draw
    text = draw(picture)
    if args.output == "-" or (args.output is None and kind == "mermaid"):
        _write(text)
        return
    # An id out of a file that somebody else wrote must not choose the folder, nor hide the page.
    path = args.output or (re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".")[:128] or "dag") + ".html"
    _save(path, text)
    _write(f"{clean(path)}\n")
    if kind == "html" and not args.no_open and _has_browser():
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
            count = sum(1 for _ in history.run_ids(args.dag_id))
            if not count and history.dag(args.dag_id) is None:
                raise RunNotFound(f"{args.db}: there is no dag {args.dag_id!r}")
            what = f"dag {args.dag_id!r} with {count} run{'' if count == 1 else 's'}"
    if not args.yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise UsageError(f"this would delete {what} from {args.db}; say --yes where nobody can be asked")
        print(clean(f"Delete {what} from {args.db}? [y/N]"), end=" ", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            _write("nothing was deleted\n")
            return
    if args.run_id is not None:
        delete_runs(args.db, [run.run_id])
    else:
        Dag.delete_dag(args.db, args.dag_id)
    _write(f"{clean(f'deleted {what}')}\n")


# -- pictures --------------------------------------------------------------------------------------------------


def _find_picture(args: argparse.Namespace) -> tuple[Picture, str]:
    """What to draw, and the id its file is named for."""
    if args.id.endswith(".py") and os.path.isfile(args.id):
        return _picture_of_script(args.id, args.dag)
    with History(args.db) as history:
        runs = history.runs(args.id, limit=1)
        if runs:
            return _picture_of_run(history, runs[0]), args.id
        try:
            run = history.run(args.id)
        except RunNotFound:
            raise RunNotFound(
                f"{args.db}: {args.id!r} is neither a dag that has run, nor the beginning of exactly one run's id, "
                "nor a script; the command `list` shows what there is"
            ) from None
        return _picture_of_run(history, run), run.run_id


def _picture_of_run(history: History, run: RunRecord) -> Picture:
    """A run on the graph it had, whatever has become of the script."""
    dependencies, kinds = _graph(history.graph(run.graph_digest))
    found: dict[str, list[InstanceRecord]] = {}
    for one in history.instances(run.run_id):
        found.setdefault(one.task_id, []).append(one)
        if one.task_id not in dependencies:  # the snapshot is missing or damaged
            dependencies[one.task_id] = _texts(one.dependencies)
    statuses, details, durations, labels = {}, {}, {}, {}
    for task_id, instances in found.items():
        gravest = min(instances, key=lambda one: _GRAVEST.index(one.status) if one.status in _GRAVEST else 99)
        statuses[task_id] = gravest.status
        dead = run.status == "INTERRUPTED" and gravest.status == "RUNNING"
        details[task_id] = "was running when its process died" if dead else gravest.reason or ""
        times = [(one.started_at, one.ended_at) for one in instances]
        spans = [(start, end) for start, end in times if start is not None and end is not None]
        if spans:
            durations[task_id] = max(end for _, end in spans) - min(start for start, _ in spans)
        if len(instances) > 1:
            labels[task_id] = f"{task_id} ({len(instances)})"
    dag = history.dag(run.dag_id)
    facts = [("Run", run.run_id), ("Started", _moment(run.started_at or run.created_at)), ("Took", _took(run))]
    return from_dependencies(
        run.dag_id,
        dependencies,
        statuses=statuses,
        labels=labels,
        kinds=kinds,
        details=details,
        durations=durations,
        subtitle=(dag.description if dag else "") or None,
        status=run.status,
        facts=facts,
    )


def _picture_of_script(path: str, wanted: str | None) -> tuple[Picture, str]:
    """The dag that a script defines, as a plan without states."""
    dags = {str(dag["dag_id"]): dag for dag in _describe_apart(path)}
    if wanted is None and len(dags) > 1:
        raise UsageError(f"{path}: defines several dags; choose one with --dag: {', '.join(dags)}")
    dag_id = wanted if wanted is not None else next(iter(dags), "")
    if dag_id not in dags:
        raise UsageError(f"{path}: defines no dag{f' {wanted!r}' if wanted else ''}")
    dependencies, kinds = _graph(dags[dag_id])
    description = str(dags[dag_id].get("description", "")) or None
    return from_dependencies(dag_id, dependencies, kinds=kinds, subtitle=description), dag_id


def _graph(snapshot: dict[str, Any]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Dependencies and kinds out of a stored graph, which may have been altered: what makes no sense is left out."""
    tasks = snapshot.get("tasks")
    rows = [row for row in tasks if isinstance(row, dict) and isinstance(row.get("id"), str)] if tasks else []
    kinds = {row["id"]: str(row.get("kind", "")) for row in rows if row.get("kind") != "python"}
    return {row["id"]: _texts(row.get("depends_on")) for row in rows}, kinds


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _describe_apart(path: str) -> list[dict[str, Any]]:
    """What dags a script defines, found out in a child process with a time limit."""
    import subprocess

    # -P: neither the current folder nor the script's may stand in for the standard library or for this package.
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from liteflow.cli import describe; describe(sys.argv[1])"
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = [sys.executable, "-P", "-c", code, home, os.path.abspath(path)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet, start_new_session=True
    ) as child:
        try:
            output, _ = child.communicate(timeout=_SCRIPT_SECONDS)
        except subprocess.TimeoutExpired:
            raise UsageError(f"{path}: took more than {_SCRIPT_SECONDS:g} s to define its dag") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # whatever it started ends with it
    try:
        answer = json.loads(output)
    except ValueError:
        raise UsageError(f"{path}: ended by itself (exit code {child.returncode}) while it was read") from None
    if "problem" in answer:
        raise UsageError(f"{path}{answer['problem']}")
    return [dag for dag in answer["dags"] if isinstance(dag, dict)]
