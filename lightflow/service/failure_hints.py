"""Hints about failed tasks, from what they printed and from the files next to the workflow file."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from lightflow.bash_hints import USE_BASH
from lightflow.errors import WorkflowError
from lightflow.parser.workflow_loader import load_workflow
from lightflow.service.python_files import file_of, is_script
from lightflow.spec.model import TaskSpec
from liteflow.api import RunRecord

_MAX_HINTS: Final = 3  # of a run
#: A word that may be a relative path in a script of any language: no option, no variable, no part of a longer path.
_WORD: Final = re.compile(r"(?<![\w/.$~{-])\w[\w./-]*")
#: The messages of `sh` about syntax that only bash has, after its name and a line number.
_BASH_ERRORS: Final = (
    r"\[\[: not found",
    r"(?:source|declare|typeset|shopt|pushd|popd|readarray|mapfile|let|function|compgen|complete): not found",
    r"set: Illegal option -o pipefail",
    r"[Ss]yntax error: \"?\(\"? unexpected",
    r"[Ss]yntax error: redirection unexpected",
    r"\w+=\(.*: not found",
    r"local: -\w: bad variable name",
)
_SHELL_ERROR: Final = re.compile(r"(?:\S*/)?(?:sh|dash|ash|bash)(?:\[\d+\])?: (?:line )?(?:\d+: )?(?P<message>.*)")


def output_hint(exit_code: int | None, lines: Sequence[str]) -> str:
    """Return what to do about a failed script, from its exit code and its last lines of output; often nothing."""
    messages = [match["message"] for line in lines if (match := _SHELL_ERROR.match(line.strip()))]
    if exit_code == 126:
        denied = [match[1] for text in messages if (match := re.match(r"(\S*/\S+): Permission denied", text))]
        return f"it is not executable: chmod +x {denied[-1]}, or `sh {denied[-1]}`" if denied else ""
    if exit_code not in (1, 2, 127):
        return ""
    if any("ad substitution" in text for text in messages):
        return "an expression is written ${{ … }}; a substitution that only bash has needs `shell: bash`"
    return USE_BASH if any(re.search(pattern, text) for text in messages for pattern in _BASH_ERRORS) else ""


def path_hints(run: RunRecord, failed: Collection[str]) -> list[str]:
    """Return how the failed tasks of a run can name the files next to the workflow file that they did not find."""
    if run.source is None or not os.path.isfile(file_of(run.source)) or is_script(run.source):
        return []
    folder, start = os.path.dirname(run.source), run.cwd or os.getcwd()
    if os.path.realpath(folder) == os.path.realpath(start):
        return []
    try:
        tasks = load_workflow(run.source).tasks
    except WorkflowError:  # the file was changed meanwhile
        return []
    hints = [hint for task_id in failed if task_id in tasks for hint in _path_hints(tasks[task_id], folder, start)]
    return list(dict.fromkeys(hints))[:_MAX_HINTS]


def _path_hints(task: TaskSpec, folder: str, start: str) -> Iterator[str]:
    if task.cwd is not None and "${{" in task.cwd:
        return
    works_in = os.path.join(start, os.path.expanduser(task.cwd or ""))
    if task.cwd is not None and not os.path.isdir(works_in):
        if os.path.isdir(os.path.join(folder, task.cwd)):
            yield (
                f"cwd: {task.cwd} starts from {start}, where the run was started; next to the workflow file there is "
                f"such a folder: ${{{{ workflow.dir }}}}/{task.cwd}"
            )
        return
    script = task.config.get("run")
    for word in dict.fromkeys(_WORD.findall(script)) if isinstance(script, str) else ():
        name = word.rstrip(".")
        if os.path.exists(os.path.join(folder, name)) and not os.path.exists(os.path.join(works_in, name)):
            yield (
                f"{name} is next to the workflow file, and task {task.id} works in {os.path.normpath(works_in)}: "
                f"write ${{{{ workflow.dir }}}}/{name}, or cwd: ${{{{ workflow.dir }}}}"
            )
