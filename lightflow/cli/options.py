"""Options that several commands share, the command class that has `-C`, and completions."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from lightflow.text import printable


def integer(least: int, most: int | None = None) -> click.IntRange:
    """Return the type of an integer within bounds. Messages and the help do not call it an integer range."""
    kind = click.IntRange(least, most)
    kind.name = "integer"
    return kind


def number(least: float) -> click.FloatRange:
    """Return the type of a number from a bound. Messages and the help do not call it a float range."""
    kind = click.FloatRange(least)
    kind.name = "number"
    return kind


DB: Final = "lightflow.db"
Function = TypeVar("Function", bound=Callable[..., Any])

#: A file or folder. Whether it exists is checked by the code that reads it, which can explain more.
PATH: Final = click.Path(path_type=str)
#: A whole number from 1.
COUNT: Final = integer(1)
_FOLDER: Final = "lightflow.folder"
_MAX_ITEMS: Final = 500  # of a completion


def directory_option() -> click.Option:
    """Return `-C`, which the program and each of its commands have."""
    text = "Change to this folder first, as make does: all paths start there."
    return click.Option(["-C", "--directory"], type=PATH, metavar="DIR", help=text)


def change_directory(ctx: click.Context, directory: str | None) -> None:
    """Change to the folder of `-C`.

    Raises:
        OSError: there is no such folder.
    """
    if directory is not None:
        os.chdir(directory)
        ctx.meta[_FOLDER] = os.path.join(ctx.meta.get(_FOLDER, ""), directory)


class FolderCommand(click.Command):
    """A command that has `-C`."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.params.append(directory_option())

    def invoke(self, ctx: click.Context) -> Any:
        change_directory(ctx, ctx.params.pop("directory"))
        return super().invoke(ctx)


#: Make a command of a function, whose docstring is the help.
command: Final = functools.partial(click.command, cls=FolderCommand)


def db_option(function: Function) -> Function:
    """Add `--db`."""
    return click.option(
        "--db",
        type=PATH,
        envvar="LIGHTFLOW_DB",
        default=DB,
        show_default=True,
        show_envvar=True,
        help="The state file.",
    )(function)


def json_option(function: Function) -> Function:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON value instead of text.")(function)


def limit_option(default: int | None, text: str) -> Callable[[Function], Function]:
    """Return `--limit`, for lists that grow with the history."""
    return click.option("--limit", type=COUNT, default=default, show_default=True, help=text)


def checkpoint_dir_option(function: Function) -> Function:
    """Add `--checkpoint-dir`."""
    return click.option(
        "--checkpoint-dir",
        "folder",
        type=PATH,
        default=".lightflow-checkpoints",
        show_default=True,
        help="The folder of checkpoint files.",
    )(function)


def run_or_latest(run: str | None) -> str | None:
    """Return the run id, or None for the latest run, which may also be called "latest"."""
    return None if run in (None, "latest") else run


def with_db(text: str, db: str) -> str:
    """Return a command line to suggest, with the folder and the state file where they are not the default ones."""
    ctx = click.get_current_context(silent=True)
    folder = printable(ctx.meta.get(_FOLDER, "")) if ctx is not None else ""
    options = {"-C": folder, "--db": "" if db == (os.environ.get("LIGHTFLOW_DB") or DB) else db}
    if not any(options.values()):
        return text
    import shlex

    return " ".join([text, *(f"{name} {shlex.quote(value)}" for name, value in options.items() if value)])


# -- completions: these functions run in the completion of a shell, which has no place for errors ---------------


def _item(value: str, about: str | None = None) -> Any:
    from click.shell_completion import CompletionItem

    return CompletionItem(printable(value), help=about and printable(about))


def _db(ctx: click.Context) -> str:
    """Return the state file that a command line names."""
    folders = [each.params.get("directory") or "" for each in (ctx.parent, ctx) if each is not None]
    return os.path.join(*folders, str(ctx.params.get("db") or os.environ.get("LIGHTFLOW_DB") or DB))


def run_ids(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[Any]:
    """Complete the id of a run with the newest ones."""
    from lightflow.service import queries

    try:
        newest = queries.newest_runs(_db(ctx), limit=100)
    except Exception:  # noqa: BLE001 - see above
        return []
    return [_item(run.run_id, f"{run.dag_id} {run.status}") for run in newest if run.run_id.startswith(incomplete)]


def task_ids(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[Any]:
    """Complete the id of a task of the run that is named, or of the latest one."""
    from lightflow.service import queries

    try:
        view = queries.run_view(_db(ctx), run_or_latest(ctx.params.get("run")))
    except Exception:  # noqa: BLE001 - see above
        return []
    statuses = {task.task_id: task.status for task in view.tasks if task.task_id.startswith(incomplete)}
    return [_item(task_id, status) for task_id, status in list(statuses.items())[:_MAX_ITEMS]]


def task_or_run_ids(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Complete the id of a task or of a run."""
    return task_ids(ctx, parameter, incomplete) + run_ids(ctx, parameter, incomplete)


def modes(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete a mode of this machine."""
    return [mode for mode in ("thread", "process", "async", "ssh") if mode.startswith(incomplete)]


def param_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[Any]:
    """Complete the name of a parameter of the workflow file on the command line. No Python script is run for it."""
    from lightflow.service import workflows

    try:
        path = str(ctx.params.get("file") or ctx.params.get("target") or ctx.args[0])  # click leaves it in `args` here
        params = {} if path.endswith(".py") else workflows.outline(path).params or {}
    except Exception:  # noqa: BLE001 - see above
        return []
    return [_item(f"{name}=", param.description) for name, param in params.items() if name.startswith(incomplete)]


def files_and_runs(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Complete the path of a workflow file, or the id of a run."""
    folder, name = os.path.split(incomplete)
    try:
        with os.scandir(folder or ".") as entries:
            paths = sorted(
                os.path.join(folder, entry.name) + ("/" if entry.is_dir() else "")
                for entry in entries
                if entry.name.startswith(name)
                and (name or not entry.name.startswith("."))
                and (entry.is_dir() or entry.name.endswith((".yaml", ".yml", ".json", ".py")))
            )
    except OSError:
        paths = []
    return [*(_item(path) for path in paths[:_MAX_ITEMS]), *run_ids(ctx, parameter, incomplete)]


def workflow_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[Any]:
    """Complete the name of a workflow that has run."""
    from lightflow.service import queries

    try:
        summaries = queries.list_workflows(_db(ctx)).items
    except Exception:  # noqa: BLE001 - see above
        return []
    names = [summary.dag.dag_id for summary in summaries]
    return [_item(name) for name in names if name.startswith(incomplete)]
