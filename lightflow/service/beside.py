"""Files that a failed task names and that lie beside the workflow file, not where the task looks for them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from typing import Final

from lightflow.errors import WorkflowError
from lightflow.parser.spec import TaskSpec
from lightflow.parser.workflow_loader import load_workflow
from lightflow.service.scripts import is_script
from liteflow.state.history import RunRecord

#: What may be a relative path in a script, in any language: no option, no variable, no part of a longer path.
_WORD: Final = re.compile(r"(?<![\w/.$~{-])\w[\w./-]*")
_MOST: Final = 3  # hints of a run


def hints(run: RunRecord, failed: Collection[str]) -> list[str]:
    """Return what to write so that the failed tasks of a run find what lies beside the workflow file."""
    if run.source is None or not os.path.isfile(run.source) or is_script(run.source):
        return []
    folder, start = os.path.dirname(run.source), run.cwd or os.getcwd()
    if os.path.realpath(folder) == os.path.realpath(start):
        return []
    try:
        tasks = load_workflow(run.source).tasks
    except WorkflowError:  # it was changed meanwhile
        return []
    found = [hint for task_id in failed if task_id in tasks for hint in _hints(tasks[task_id], folder, start)]
    return list(dict.fromkeys(found))[:_MOST]


def _hints(task: TaskSpec, folder: str, start: str) -> Iterator[str]:
    if task.cwd is not None and "${{" in task.cwd:
        return
    works_in = os.path.join(start, os.path.expanduser(task.cwd or ""))
    if task.cwd is not None and not os.path.isdir(works_in):
        if os.path.isdir(os.path.join(folder, task.cwd)):
            yield (
                f"cwd: {task.cwd} starts from {start}, where the run was started; beside the workflow file there is "
                f"one: ${{{{ workflow.dir }}}}/{task.cwd}"
            )
        return
    script = task.config.get("run")
    for word in dict.fromkeys(_WORD.findall(script)) if isinstance(script, str) else ():
        name = word.rstrip(".")
        if os.path.exists(os.path.join(folder, name)) and not os.path.exists(os.path.join(works_in, name)):
            yield (
                f"{name} lies beside the workflow file, and task {task.id} works in {os.path.normpath(works_in)}: "
                f"write ${{{{ workflow.dir }}}}/{name}, or cwd: ${{{{ workflow.dir }}}}"
            )
