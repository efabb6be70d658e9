"""`lightflow doctor`: is this machine, and this state file, fit to run workflows?"""

from __future__ import annotations

from typing import Final

from lightflow.cli.declare import command
from lightflow.cli.options import db_option, json_option
from lightflow.cli.output import paint, say, say_json
from lightflow.errors import printable

_SIGNS: Final = {
    "fine": ("✓", "green"),
    "note": ("·", "dim"),
    "warning": ("!", "yellow"),
    "missing": ("✗", "red"),
    "problem": ("✗", "red"),
}


@command(
    epilog="""\b
Examples:
  lightflow doctor
  lightflow doctor --db /srv/etl/lightflow.db --json

\b
Exit codes: 0 all is well (there may be warnings), 1 this machine lacks something that runs need,
3 the state file has a problem.
--json prints {ok, db, findings}; a finding has check, verdict (fine, note, warning, missing, problem),
message and hint."""
)
@db_option
@json_option
def doctor(db: str, as_json: bool) -> int:
    """Check this machine and the state file.

    Looks at SQLite, locks, the file system, what is needed to end all processes of a task, free space, the state
    file's soundness, and runs that have lost their owner. Nothing is changed or repaired.
    """
    from lightflow.service.doctor import examine, exit_code

    findings = examine(db)
    code = exit_code(findings)
    if as_json:
        say_json({"ok": code == 0, "db": db, "findings": [one._asdict() for one in findings]})
        return code
    width = max(len(one.check) for one in findings)
    for one in findings:
        sign, style = _SIGNS[one.verdict]
        said = printable(one.message)
        say(f"{paint(sign, style)} {one.check.ljust(width)}  {said}")
        if one.hint is not None:
            say(f"  {' ' * width}  {paint(f'→ {printable(one.hint)}', 'dim')}")
    return code
