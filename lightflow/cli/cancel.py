"""`lightflow cancel`: stop a run that another process is at."""

from __future__ import annotations

from lightflow.cli.border import complain
from lightflow.cli.declare import Seconds, argument, command, option
from lightflow.cli.options import chosen_run, db_option, json_option, run_ids
from lightflow.cli.output import say, say_json, state


@command(
    epilog="""\b
Examples:
  lightflow cancel 20260102T030405-1a2b3c4d
  lightflow cancel latest

\b
Exit codes: 0 the run is cancelled, 1 it has not ended yet, or ended otherwise first; 2 it had ended before.
--json prints {run_id, workflow, status}."""
)
@argument("run", shell_complete=run_ids)
@option("--wait", type=Seconds(), default=30.0, show_default=True, help="Seconds to wait for its end.")
@db_option
@json_option
def cancel(run: str, wait: float, db: str, as_json: bool) -> int:
    """Stop a run.

    Its tasks are asked to end, and killed after their grace; the process that runs it stores it as cancelled.
    """
    from lightflow.service import inspecting, running

    wanted = chosen_run(run) or inspecting.latest(db).run_id
    record = running.cancel(db, wanted, wait_s=wait)
    if as_json:
        say_json({"run_id": record.run_id, "workflow": record.dag_id, "status": record.status})
    else:
        say(f"run {record.run_id} of {record.dag_id}: {state(record.status)}")
    if record.status == "RUNNING":
        complain("its tasks have been told to stop, and are still at it; see: lightflow status")
    return 0 if record.status == "CANCELLED" else 1
