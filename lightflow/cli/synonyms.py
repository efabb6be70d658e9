"""The commands of other tools, and the commands of lightflow for the same. Imported only for an unknown command."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from lightflow.spelling import nearest

_DELETE: Final = (
    "`liteflow delete WORKFLOW --db lightflow.db` deletes a workflow with its runs, `--run RUN` a single run"
)
#: words: what to type instead
ANSWERS: Final[dict[str, str]] = {
    "start exec execute launch go begin submit trigger do make build up": "`lightflow run FILE`",
    "ls workflows dags flows projects": "`lightflow list`",
    "compare": "`lightflow diff RUN1 RUN2`",
    "rerun re-run replay redo repeat": "`lightflow retry RUN --from TASK`",
    "restart continue proceed recover": "`lightflow resume FILE` resumes the last run, `lightflow run FILE` starts a new one",
    "stop kill abort terminate interrupt down halt": "`lightflow cancel`",
    "ps show info inspect describe state top stat": "`lightflow status`",
    "history executions instances jobs": "`lightflow runs`",
    "log tail cat print stdout watch follow": "`lightflow logs TASK`, with `--follow` as it grows",
    "output": "`lightflow logs TASK` shows what a task printed, `lightflow outputs` its output values",
    "xcom value values result results get artifacts": "`lightflow outputs`",
    "graph plot draw visualize visualise render diagram picture image tree svg": "`lightflow dag FILE`",
    "init new create scaffold example generate quickstart": "`lightflow template NAME`",
    "check lint verify test parse compile": "`lightflow validate FILE`",
    "dry dry-run dryrun plan simulate preview tasks": "`lightflow run FILE --dry-run`",
    "explain reason because blame": "`lightflow why TASK`",
    "delete rm remove del destroy erase drop": _DELETE,
    "purge gc cleanup clean retention": "`lightflow prune` deletes old runs; `--dry-run` shows which",
    "vacuum backup compact integrity": "`lightflow db vacuum`, `lightflow db backup FILE`, `lightflow db check`",
    "forget": "`lightflow clear WORKFLOW`",
    "checkpoints checkpoint list_checkpoints listcheckpoints": "`lightflow list-checkpoints`",
    "pool queue queues": "`lightflow pools`",
    "diagnose diagnostics health ping debug env": "`lightflow doctor`",
    "complete completions autocomplete": "`lightflow completion bash`",
    "json-schema jsonschema": "`lightflow schema`",
    "schedules scheduler cron triggers": "`lightflow schedule list` shows what starts runs, `lightflow serve` starts them",
    "server daemon web webserver dashboard worker agent deploy": "`lightflow serve` starts scheduled runs and answers requests",
    "backfill": "`lightflow run FILE --date 2026-01-31` runs it for that day",
    "upgrade update self-update migrate": "the next run upgrades the state file; `pip install --upgrade lightflow-workflows` upgrades the program",
    "params config configure settings set": "`lightflow run FILE -p NAME=VALUE` sets a parameter; settings are in the file",
    "visit edit": "a workflow is a text file: `lightflow template NAME` writes one",
}  # fmt: skip
_BY_WORD: Final = {word: answer for words, answer in ANSWERS.items() for word in words.split()}
_FILES: Final = (".yaml", ".yml", ".json", ".py")


def unknown_command(word: str, commands: Collection[str]) -> str:
    """Return the message about a command that does not exist: what to type instead."""
    if word.lower() in commands:
        return f"there is no command {word!r}: `lightflow {word.lower()}`"
    if word.lower() in _BY_WORD:
        return f"there is no command {word!r}: {_BY_WORD[word.lower()]}"
    if word.lower().endswith(_FILES):
        return f"there is no command {word!r}: run a file with `lightflow run {word}`"
    command = nearest(word, commands)
    if command:
        return f"there is no command {word!r}; did you mean {command!r}?"
    synonym = nearest(word, _BY_WORD)
    return f"there is no command {word!r}" + (f": {_BY_WORD[synonym]}" if synonym else "")
