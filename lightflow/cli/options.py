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
    found = [one for one in view.instances if one.task_id.startswith(incomplete)]
    return [_item(one.task_id, one.status) for one in found[:500]]


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
