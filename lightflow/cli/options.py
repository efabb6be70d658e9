"""Options that several commands share, with their completions."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from lightflow.cli.declare import PATH, Command, Whole, option
from lightflow.errors import printable

DB: Final = "lightflow.db"
Decorated = Callable[..., Any]

#: A workflow file. Whether it exists is asked by whoever reads it, who has the better words.
WORKFLOW: Final = PATH


def _item(value: str, about: str | None = None) -> Any:
    from click.shell_completion import CompletionItem

    from lightflow.errors import printable  # a shell shows what it is offered

    return CompletionItem(printable(value), help=about and printable(about))


def run_ids(ctx: Any, _: Any, incomplete: str) -> list[Any]:
    """The newest runs that begin with what is typed."""
    from lightflow.service import inspecting

    try:
        found = inspecting.newest(_db(ctx), limit=100)
    except Exception:  # noqa: BLE001 - completion has no place to complain at
        return []
    return [_item(one.run_id, f"{one.dag_id} {one.status}") for one in found if one.run_id.startswith(incomplete)]


def task_ids(ctx: Any, _: Any, incomplete: str) -> list[Any]:
    """The tasks of the run named, or of the latest."""
    from lightflow.service import inspecting

    try:
        view = inspecting.status(_db(ctx), chosen_run(ctx.params.get("run")))
    except Exception:  # noqa: BLE001 - as above
        return []
    found = {one.task_id: one.status for one in view.tasks if one.task_id.startswith(incomplete)}
    return [_item(task_id, status) for task_id, status in list(found.items())[:500]]


def param_names(ctx: Any, _: Any, incomplete: str) -> list[Any]:
    """The names of the parameters of the workflow file that stands before; no script is run for them."""
    from lightflow.service import workflows

    try:
        given = ctx.params.get("file") or ctx.params.get("target")
        path = str(given or ctx.args[0])  # while an option has no value yet, click leaves the words before it there
        found = {} if path.endswith(".py") else workflows.outline(path).params or {}
    except Exception:  # noqa: BLE001 - completion has no place to complain at
        return []
    return [_item(f"{name}=", one.description) for name, one in found.items() if name.startswith(incomplete)]


def files_and_runs(ctx: Any, parameter: Any, incomplete: str) -> list[Any]:
    """Workflow files and folders that begin with what is typed, and runs."""
    folder, name = os.path.split(incomplete)
    try:
        with os.scandir(folder or ".") as entries:
            found = sorted(
                os.path.join(folder, one.name) + ("/" if one.is_dir() else "")
                for one in entries
                if one.name.startswith(name)
                and (name or not one.name.startswith("."))
                and (one.is_dir() or one.name.endswith((".yaml", ".yml", ".json", ".py")))
            )
    except OSError:
        found = []
    return [*(_item(path) for path in found[:500]), *run_ids(ctx, parameter, incomplete)]


def workflow_names(ctx: Any, _: Any, incomplete: str) -> list[Any]:
    """The workflows that have run."""
    from lightflow.service import inspecting

    try:
        found = inspecting.workflows(_db(ctx)).found
    except Exception:  # noqa: BLE001 - as above
        return []
    return [_item(one.dag.dag_id) for one in found if one.dag.dag_id.startswith(incomplete)]


def _db(ctx: Any) -> str:
    db = str(ctx.params.get("db") or os.environ.get("LIGHTFLOW_DB") or DB)
    return os.path.join(ctx.params.get("directory") or "", db)


def chosen_run(run: str | None) -> str | None:
    """A run id, or None for the latest, which may also be called "latest"."""
    return None if run in (None, "latest") else run


def db_option(function: Decorated) -> Decorated:
    return option(
        "--db",
        type=PATH,
        envvar="LIGHTFLOW_DB",
        default=DB,
        show_default=True,
        show_envvar=True,
        help="The state file.",
    )(function)


def json_option(function: Decorated) -> Decorated:
    return option("--json", "as_json", is_flag=True, help="Print one JSON value instead of text.")(function)


def limit_option(default: int | None, text: str) -> Callable[[Decorated], Decorated]:
    """`--limit`, for lists that grow with the history."""
    return option("--limit", type=Whole(), default=default, show_default=True, help=text)


def with_db(text: str, db: str) -> str:
    """A command line to suggest, naming the folder and the state file where they are not those taken by default."""
    more = {"-C": printable(Command.entered), "--db": "" if db == (os.environ.get("LIGHTFLOW_DB") or DB) else db}
    if not any(more.values()):
        return text
    import shlex

    return " ".join([text, *(f"{name} {shlex.quote(value)}" for name, value in more.items() if value)])
