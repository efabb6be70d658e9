"""A workflow that has been checked: frozen, typed, with nothing left to look up in the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from liteflow.digest import sha256_hex
from liteflow.retry import NEVER
from liteflow.retry import RetryPolicy as RetrySpec
from liteflow.rules import TriggerRule

__all__ = ["Mode", "RetrySpec", "Settings", "TaskSpec", "WorkflowSpec", "digest_of"]

Mode = Literal["thread", "process", "async"]


class Settings(NamedTuple):
    """The `settings:` of a file, with every default filled in. Folders are as written."""

    max_parallel_tasks: int = 4
    retries: int = 0
    log_dir: str = "logs/"
    mode: Mode = "thread"
    fail_fast: bool = False
    resume: Literal["auto", "manual"] = "manual"
    checkpoint_dir: str = ".lightflow-checkpoints"


class TaskSpec(NamedTuple):
    """One task.

    `config` holds the keys of its own type (`run` of a shell task). `env` is the workflow's with the task's over it.
    `cwd` is as written; a relative one starts from the folder the run is started in. `lines` says on which line of
    `file` the text of each own key begins, `line` where the task does. `digest` changes when what the task does
    changes: its type, own keys, dependencies, folder or environment, and not when a comment, a timeout or a retry does.
    """

    id: str
    type: str
    config: Mapping[str, Any]
    depends_on: tuple[str, ...] = ()
    cwd: str | None = None
    env: Mapping[str, str] = {}
    timeout_s: float | None = None
    grace_s: float = 10.0
    retry: RetrySpec = NEVER
    trigger_rule: TriggerRule = "all_success"
    mode: Mode | None = None  # None: the one of the run
    description: str = ""
    file: str = ""  # absolute path of the workflow file
    line: int = 0
    lines: Mapping[str, int] = {}
    digest: str = ""


class WorkflowSpec(NamedTuple):
    """One workflow file. `path` and `plugins` are absolute; `digest` covers the name and every task's digest."""

    name: str
    tasks: dict[str, TaskSpec]
    settings: Settings
    path: str
    description: str = ""
    env: Mapping[str, str] = {}
    plugins: tuple[str, ...] = ()
    digest: str = ""


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


def digest_of(value: object) -> str:
    """SHA-256, in hex, of `value` as canonical JSON."""
    return sha256_hex(_encode(value).encode("utf-8", "surrogatepass"))
