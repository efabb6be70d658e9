"""`lightflow db`: check the state file, copy it, or vacuum it."""

from __future__ import annotations

import click

from lightflow.cli.doctor import say_findings
from lightflow.cli.options import command, db_option, json_option
from lightflow.cli.output import many, say, say_json
from lightflow.text import printable


@command(
    epilog="""\b
Examples:
  lightflow db check
  lightflow db backup /backup/lightflow-2026-01-31.db
  lightflow db vacuum

\b
check: the integrity of the file, deletions that were cut off, files without a row and rows without their
file. Nothing is changed. Exit code 3 where the file is corrupt or a value is missing.
backup: the file and its large values as they are at one instant; runs may continue. Logs are not copied.
vacuum: rewrites the file without free space; refused (exit code 4) while a run is running.
--json prints of check {ok, db, findings} as doctor does, of backup {path, size, values, missing_values},
of vacuum {db, size_before, size_after}."""
)
@click.argument("words", metavar="check | backup FILE | vacuum", nargs=-1, required=True)
@db_option
@json_option
def db(words: tuple[str, ...], db: str, as_json: bool) -> int:
    """Check the state file, copy it, or give its free space back to the disk."""
    from lightflow.service import state_files

    match words:
        case ("check",):
            return say_findings(db, state_files.check(db), as_json=as_json)
        case ("backup", target):
            copy = state_files.backup(db, target)
            if as_json:
                shape = {"path": copy.path, "size": copy.size_bytes, "values": copy.values}
                say_json({**shape, "missing_values": copy.missing})
            else:
                missing = f"; {many(copy.missing, 'large value')} missing" if copy.missing else ""
                parts = f"{copy.size_bytes / 1024**2:,.1f} MiB, {many(copy.values, 'large value')}{missing}"
                say(f"{printable(copy.path)}: {parts}")
            return 0
        case ("vacuum",):
            before, after = state_files.vacuum(db)
            if as_json:
                say_json({"db": db, "size_before": before, "size_after": after})
            else:
                say(f"{printable(db)}: {before / 1024**2:,.1f} MiB before, {after / 1024**2:,.1f} MiB now")
            return 0
        case _:
            raise click.UsageError("give one of: check, backup FILE, vacuum")
