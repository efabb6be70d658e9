"""Watch the workflow files in some folders. A broken file is reported, and affects no other file.

In folders only YAML and JSON files are read. A Python file is read where it is named, by a child process, because to
read it is to execute it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from lightflow.errors import WorkflowError
from lightflow.parser.workflow_loader import load_workflows
from lightflow.scheduler.failures import Failures
from lightflow.service.python_files import is_script
from liteflow import DefinitionError, Param
from liteflow.api import DeclaredTrigger, Record, Trigger, declared_triggers, manual_trigger

_SUFFIXES: Final = (".yaml", ".yml", ".json")
_MAX_DEPTH: Final = 8
_MAX_FILES: Final = 10_000
#: A file is read when it has not changed for so long.
_STILL_S: Final = 0.5
#: The beginning of a line that makes a YAML or JSON file a workflow.
_TASKS: Final = re.compile(rb'^\s*"?(tasks|steps|jobs)"?\s*:|[{,]\s*"tasks"\s*:', re.MULTILINE)
_READ_BYTES: Final = 1 << 20


class WatchedWorkflow(Record):
    """A workflow in a file that is watched."""

    name: str
    path: str
    reference: str  #: the argument of `lightflow run`
    triggers: Sequence[DeclaredTrigger]
    has_concurrency: bool
    description: str = ""
    params: Mapping[str, Param] | None = None  #: None: it declares none, and accepts any


class WorkflowFile(Record):
    """A file that is watched: its workflows, or the problem that prevents them."""

    path: str
    workflows: Sequence[WatchedWorkflow] = ()
    problem: str | None = None
    included: Sequence[str] = ()  #: the paths of the files that it includes, also of those that do not exist


class _Signature(NamedTuple):
    inode: int
    size: int
    mtime_ns: int


class WorkflowChanges(NamedTuple):
    """The differences of one scan to the scan before it."""

    read: list[WorkflowFile]  #: new and changed files
    removed: list[str]  #: the paths of files that no longer exist, or no longer have a workflow


class WorkflowFiles:
    """The files and folders that a server was given."""

    def __init__(self, paths: Sequence[str], failures: Failures | None = None) -> None:
        """Take the paths, and what contains the defects in reading a file; without it they are raised."""
        self._failures = failures
        self._paths = [os.path.abspath(path) for path in paths]
        self._signatures: dict[str, _Signature] = {}
        self._included: dict[
            str, Mapping[str, _Signature | None]
        ] = {}  # by file that includes others: their signatures
        self._missing: set[str] = set()
        self.files: dict[str, WorkflowFile] = {}
        self.other_files = 0  # files in the folders that are no workflows
        self.looking_s = 0.0  # processor time in which the last scan has looked for changes

    def scan(self) -> WorkflowChanges:
        """Look for changes. A file that was removed counts as removed at the second scan without it."""
        began = time.thread_time()
        signatures = dict(self._listed())
        before = self._signatures
        changed = [path for path, signature in signatures.items() if before.get(path) != signature]
        changed += [path for path in self._included if path in signatures and self._has_changed_includes(path)]
        self.looking_s = time.thread_time() - began
        read, left = [], []
        for path in dict.fromkeys(changed):
            signature = signatures[path]
            if path in self._signatures and time.time() - signature.mtime_ns / 1e9 < _STILL_S:
                continue
            self._signatures[path] = signature
            file = self._read(path)
            self._included.pop(path, None)
            if file is not None and file.included:
                self._included[path] = {other: _signature(other) for other in file.included}
            if file is None:
                left += [path] if self.files.pop(path, None) is not None else []
            else:
                self.files[path] = file
                read.append(file)
        absent = self._signatures.keys() - signatures.keys()
        removed = sorted(absent & self._missing)
        for path in removed:
            del self._signatures[path]
            self._included.pop(path, None)
            self.files.pop(path, None)
        self._missing = absent - set(removed)
        self.other_files = len(self._signatures) - len(self.files)
        return WorkflowChanges(read, [*removed, *left])

    def _read(self, path: str) -> WorkflowFile | None:
        try:
            file = read_workflow_file(path, named=path in self._paths)
        except Exception as error:  # the boundary: a defect in reading a file hurts only the file
            if self._failures is None:
                raise
            self._failures.note(path, error)
            return WorkflowFile(path=path, problem=f"{path}: cannot be read: {self._failures.texts[path]}")
        if self._failures is not None:
            self._failures.clear(path)
        return file

    def workflows(self) -> Mapping[str, WatchedWorkflow]:
        """Return the workflows by name: of two with the same name the first, in the order of the paths."""
        result: dict[str, WatchedWorkflow] = {}
        for file in self._in_order():
            for workflow in file.workflows:
                result.setdefault(workflow.name, workflow)
        return result

    def problems(self) -> Mapping[str, str]:
        """Return what is wrong, by the path of the file."""
        problems = {path: file.problem for path, file in self.files.items() if file.problem is not None}
        served = self.workflows()
        for file in self._in_order():
            for workflow in file.workflows:
                other = served[workflow.name].path
                if other != file.path:
                    problems[file.path] = f"workflow {workflow.name!r} is in {other} too, which is served"
        return problems

    def _in_order(self) -> Iterator[WorkflowFile]:
        def place(path: str) -> tuple[int, str]:
            index = next(
                (number for number, root in enumerate(self._paths) if path == root or path.startswith(f"{root}/")), 0
            )
            return index, path

        yield from (self.files[path] for path in sorted(self.files, key=place))

    def _listed(self) -> Iterator[tuple[str, _Signature]]:
        count = 0
        for path in self._paths:
            for entry in _entries(path, _MAX_DEPTH) if os.path.isdir(path) else [path]:
                count += 1
                if count > _MAX_FILES:
                    return
                if (signature := _signature(entry)) is not None:
                    yield entry, signature

    def _has_changed_includes(self, path: str) -> bool:
        """Return whether a file that this file includes has changed, and has not been written to for a moment."""
        for other, signature in self._included.get(path, {}).items():
            now = _signature(other)
            if now != signature and (now is None or time.time() - now.mtime_ns / 1e9 >= _STILL_S):
                return True
        return False


def _signature(path: str) -> _Signature | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return _Signature(info.st_ino, info.st_size, info.st_mtime_ns)


def _entries(folder: str, depth: int) -> Iterator[str]:
    """Yield the paths of possible workflow files in a folder and in those below it."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in listed:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth > 1:
                yield from _entries(entry.path, depth - 1)
        elif entry.name.endswith(_SUFFIXES) and _is_file(entry):
            yield entry.path


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def read_workflow_file(path: str, *, named: bool = True) -> WorkflowFile | None:
    """Read the workflows of a file. Returns None for another file, unless a person named it."""
    included = set[str]()
    try:
        if is_script(path):
            from lightflow.service.workflows import outline_all

            outlines, _ = outline_all(path)
            return WorkflowFile(path=path, workflows=[_served(outline, path) for outline in outlines])
        if not named and not _has_tasks(path):
            return None
        specs = load_workflows(path, included=included)
    except WorkflowError as error:
        first = error.problems[0]
        rest = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        return WorkflowFile(path=path, problem=f"{first}{rest}", included=sorted(included))
    except (DefinitionError, OSError) as error:
        return WorkflowFile(path=path, problem=str(error))
    workflows = [_served(spec, path, of_several=len(specs) > 1) for spec in specs]
    return WorkflowFile(path=path, workflows=workflows, included=sorted(included))


def _served(workflow: Any, path: str, *, of_several: bool = False) -> WatchedWorkflow:
    """Return a workflow from its specification or its outline."""
    name, limits = workflow.name, workflow.limits
    triggers: tuple[Trigger, ...] = limits.triggers
    return WatchedWorkflow(
        name=name,
        path=path,
        reference=f"{path}#{name}" if of_several else path,
        triggers=[*(declared_triggers(name, triggers) if triggers else ()), manual_trigger(name)],
        has_concurrency=limits.concurrency is not None,
        description=workflow.description,
        params=workflow.params,
    )


def _has_tasks(path: str) -> bool:
    """Return whether a file looks like a workflow: other YAML and JSON files in a folder are left alone."""
    try:
        with open(path, "rb") as file:
            return _TASKS.search(file.read(_READ_BYTES)) is not None
    except OSError:
        return False
