"""Options that several commands share, with their completions."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

DB: Final = "lightflow.db"
Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: A workflow file. Whether it exists is asked by whoever reads it, who has the better words.
WORKFLOW: Final = click.Path(path_type=str)


def run_ids(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The newest runs that begin with what is typed."""
    from lightflow.service import inspecting

    try:
        found = inspecting.newest(_db(ctx), limit=100)
    except Exception:  # noqa: BLE001 - completion has no place to complain at
        return []
    return [
        CompletionItem(one.run_id, help=f"{one.dag_id} {one.status}")
        for one in found
        if one.run_id.startswith(incomplete)
    ]


def task_ids(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The tasks of the run named, or of the latest."""
    from lightflow.service import inspecting

    try:
        view = inspecting.status(_db(ctx), chosen_run(ctx.params.get("run")))
    except Exception:  # noqa: BLE001 - as above
        return []
    found = [one for one in view.instances if one.task_id.startswith(incomplete)]
    return [CompletionItem(one.task_id, help=one.status) for one in found[:500]]


def workflow_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The workflows that have run."""
    from lightflow.service import inspecting

    try:
        found = inspecting.workflows(_db(ctx)).found
    except Exception:  # noqa: BLE001 - as above
        return []
    return [CompletionItem(one.dag.dag_id) for one in found if one.dag.dag_id.startswith(incomplete)]


def _db(ctx: click.Context) -> str:
    return str(ctx.params.get("db") or os.environ.get("LIGHTFLOW_DB") or DB)


def chosen_run(run: str | None) -> str | None:
    """A run id, or None for the latest, which may also be called "latest"."""
    return None if run in (None, "latest") else run


def db_option(command: Decorated) -> Decorated:
    return click.option(
        "--db",
        type=click.Path(path_type=str),
        envvar="LIGHTFLOW_DB",
        default=DB,
        show_default=True,
        show_envvar=True,
        help="The state file.",
    )(command)


def json_option(command: Decorated) -> Decorated:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON value instead of text.")(command)


def limit_option(default: int | None, text: str) -> Callable[[Decorated], Decorated]:
    """`--limit`, for lists that grow with the history."""
    return click.option("--limit", type=click.IntRange(min=1), default=default, show_default=True, help=text)


def with_db(text: str, db: str) -> str:
    """A command line to suggest, naming the state file where it is not the one taken by default."""
    import shlex

    return text if db == (os.environ.get("LIGHTFLOW_DB") or DB) else f"{text} --db {shlex.quote(db)}"
