"""`lightflow schedule`: show what is due and what has fired; pause, fire and export triggers."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import click

from lightflow.cli.error_boundary import complain
from lightflow.cli.options import COUNT, command, db_option, json_option
from lightflow.cli.output import moment, say, say_json, table
from lightflow.scheduler import overview as service
from lightflow.text import printable
from liteflow.api import FireRecord, TriggerRecord, scheduler_is_active


@command(
    epilog="""\b
Examples:
  lightflow schedule
  lightflow schedule next -n 5
  lightflow schedule next nightly.yaml --from 2026-03-28
  lightflow schedule history nightly
  lightflow schedule pause nightly
  lightflow schedule fire nightly:schedule
  lightflow schedule export crontab workflows/ | crontab -
  lightflow schedule export systemd > ~/.config/systemd/user/lightflow.service

\b
list (the default): the triggers that `lightflow serve` has read, and when they are due.
next: the instants to come, also of a workflow file that is not served.
history: what has fired, and what came of it: the run, or why there is none.
pause, unpause: a trigger, or all of a workflow. Instants meanwhile are neither run nor missed.
fire: start a run now; the server starts it. --at is its logical date.
export: lines for cron, or a unit that runs the server. PATH is as for `lightflow serve`.

\b
--json prints of list {scheduler, triggers}, of next and history a list, of pause and unpause the
triggers, of fire {run_id}."""
)
@click.argument(
    "words",
    metavar="[list|next|history|pause|unpause|fire|export] [NAME|FILE|PATH]...",
    nargs=-1,
)
@click.option("-n", "--limit", type=COUNT, default=20, show_default=True, help="Show at most so many.")
@click.option("--from", "begin", metavar="DATE", help="Of next: begin at this day or time instead of now.")
@click.option("--at", metavar="DATE", help="Of fire: the day or time that the run is for.")
@click.option("--no-ui", is_flag=True, help="Of export systemd: the server schedules only.")
@db_option
@json_option
def schedule(words: tuple[str, ...], *, limit: int, begin: str | None, at: str | None, no_ui: bool, db: str,
             as_json: bool) -> int:  # fmt: skip
    """Show and change what starts runs."""
    match words or ("list",):
        case ("list",) | ("list", _):
            _list(db, words[1] if len(words) > 1 else None, as_json=as_json)
        case ("next",) | ("next", _):
            _next(db, words[1] if len(words) > 1 else None, _moment("--from", begin), limit, as_json=as_json)
        case ("history",) | ("history", _):
            _history(db, words[1] if len(words) > 1 else None, limit, as_json=as_json)
        case ("pause", name):
            _show_changed(service.pause(db, name, service.person()), "paused", as_json=as_json)
        case ("unpause", name):
            _show_changed(service.unpause(db, name), "active", as_json=as_json)
        case ("fire", name):
            _fire(db, name, _moment("--at", at), as_json=as_json)
        case ("export", "crontab" | "systemd" as kind, *paths):
            return _export(kind, paths or ["."], db, no_ui=no_ui)
        case _:
            raise click.UsageError("give list, next, history, pause NAME, unpause NAME, fire NAME or export KIND")
    return 0


def _moment(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    from liteflow.api import parse_moment

    try:
        return parse_moment(text)
    except ValueError as error:
        raise click.UsageError(f"{option} {error}") from None


def _list(db: str, name: str | None, *, as_json: bool) -> None:
    seen = service.overview(db, name)
    if as_json:
        say_json({"scheduler": seen.has_scheduler, "triggers": [_shape(view) for view in seen.triggers]})
        return
    rows = [
        (
            printable(view.row.trigger_id),
            printable(view.words),
            _state(view),
            _local(view, view.next_at),
            printable(view.zone or "-"),
        )
        for view in seen.triggers
    ]
    heads = ("TRIGGER", "DECLARATION", "STATE", "NEXT", "TIME ZONE")
    say(table(heads, rows) if rows else "no triggers yet; `lightflow serve` reads them from workflow files")
    for view in seen.triggers:
        if view.row.problem is not None:
            complain(f"{view.row.trigger_id}: {view.row.problem}")
    if rows and not seen.has_scheduler:
        complain("no scheduler works on this state file: nothing starts until `lightflow serve` runs")


def _state(view: service.TriggerView) -> str:
    row = view.row
    if row.paused_at is None:
        return view.state
    return f"paused since {moment(row.paused_at)} by {printable(row.paused_by or '?')}"


def _local(view: service.TriggerView, at: float | None) -> str:
    if at is None or view.clock is None:
        return "-"
    return view.clock.local(at).strftime("%Y-%m-%d %H:%M:%S")


def _next(db: str, name: str | None, begin: float | None, limit: int, *, as_json: bool) -> None:
    fires = service.planned_of(db, name, begin, limit)
    if as_json:
        from lightflow.service.json_shapes import iso

        say_json([
            {"trigger": fire.trigger_id, "at": iso(fire.instant), "due_at": iso(fire.due_at), "local": fire.local}
            for fire in fires
        ])  # fmt: skip
        return
    rows = [
        (
            fire.local,
            printable(fire.trigger_id),
            f"+{fire.due_at - fire.instant:.0f} s" if fire.due_at > fire.instant else "",
        )
        for fire in fires
    ]
    heads = ["INSTANT", "TRIGGER", "DELAY"]
    if not any(row[-1] for row in rows):
        heads, rows = heads[:-1], [row[:-1] for row in rows]  # type: ignore[misc]  # rows of two
    say(table(heads, rows) if rows else "no instants to come")


def _history(db: str, name: str | None, limit: int, *, as_json: bool) -> None:
    fires = service.history(db, name, limit)
    if as_json:
        say_json([_fire_shape(fire) for fire in fires])
        return
    rows = [
        (
            moment(fire.at),
            printable(fire.trigger_id),
            fire.status,
            printable(fire.run_id or "-") if fire.status in ("STARTED", "CLAIMED", "WAITING") else "-",
            printable(fire.started_by or "-"),
            printable((fire.reason or "").partition("\n")[0]),
        )
        for fire in fires
    ]
    say(
        table(("INSTANT", "TRIGGER", "STATE", "RUN", "STARTED BY", "REASON"), rows) if rows else "nothing has fired yet"
    )


def _fire(db: str, name: str, at: float | None, *, as_json: bool) -> None:
    run_id = service.fire(db, name, by=service.person(), at=at)
    has_scheduler = scheduler_is_active(db)
    if as_json:
        say_json({"run_id": run_id, "scheduler": has_scheduler})
    else:
        say(f"run {run_id} starts now: lightflow status {run_id}")
    if not has_scheduler:
        complain("no scheduler works on this state file: the run waits until `lightflow serve` runs")


def _show_changed(rows: Sequence[TriggerRecord], state: str, *, as_json: bool) -> None:
    if as_json:
        say_json([{"trigger": row.trigger_id, "workflow": row.dag_id, "state": state} for row in rows])
    else:
        for row in rows:
            say(f"{printable(row.trigger_id)}: {state}")


def _shape(view: service.TriggerView) -> dict[str, Any]:
    from lightflow.service.json_shapes import iso

    row = view.row
    return {
        "trigger": row.trigger_id,
        "workflow": row.dag_id,
        "kind": row.kind,
        "declaration": view.words,
        "state": view.state,
        "timezone": view.zone,
        "next_at": iso(view.next_at),
        "paused_at": iso(row.paused_at),
        "paused_by": row.paused_by,
        "problem": row.problem,
        "source": row.source,
    }


def _fire_shape(fire: FireRecord) -> dict[str, Any]:
    from lightflow.service.json_shapes import iso

    return {
        "fire": fire.fire_no,
        "trigger": fire.trigger_id,
        "key": fire.key,
        "at": iso(fire.at),
        "due_at": iso(fire.due_at),
        "status": fire.status,
        "run_id": fire.run_id if fire.status in ("STARTED", "CLAIMED", "WAITING") else None,
        "params": _params(fire),
        "started_by": fire.started_by,
        "reason": fire.reason,
        "decided_at": iso(fire.decided_at),
    }


def _params(fire: FireRecord) -> dict[str, Any] | None:
    """Return the parameters of a fire; None where its row was altered."""
    try:
        return fire.values
    except ValueError:
        return None


def _export(kind: str, paths: Sequence[str], db: str, *, no_ui: bool) -> int:
    from lightflow.scheduler.export import crontab, systemd_unit

    folder = os.getcwd()
    if kind == "systemd":
        from lightflow.server.extra import missing_packages

        program = shutil.which("lightflow") or os.path.join(os.path.dirname(sys.executable), "lightflow")
        if not no_ui and (missing := missing_packages()):
            complain(f"the unit has --no-ui, because {', '.join(missing)} is missing: install the extra `ui` for pages")
            no_ui = True
        say(systemd_unit(paths, folder, os.path.abspath(db), program, with_ui=not no_ui).rstrip())
        return 0
    lines, refusals = crontab(paths, folder, os.path.abspath(db))
    for line in lines:
        say(line)
    for refusal in refusals:
        complain(f"not for cron: {refusal}")
    return 2 if refusals else 0
