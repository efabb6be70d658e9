"""The engine: dags of Python functions and commands, run in parallel on one machine, kept in one SQLite file.

Standard library only. Begin with `Dag`.
"""

from liteflow.context import TaskContext, current_context
from liteflow.dag import Dag, init_schema
from liteflow.dagrun import DagRun
from liteflow.errors import (
    CycleError,
    DefinitionError,
    DuplicateTask,
    LiteflowError,
    PayloadError,
    ResourceError,
    RunFailed,
    RunNotFound,
    RunOwned,
    SkipTask,
    StoreError,
    UnknownDependency,
)
from liteflow.retry import RetryPolicy
from liteflow.runner import Change, Observer
from liteflow.states import Status
from liteflow.task import Task, task
from liteflow.version import __version__
from liteflow.work import Call, Command
from liteflow.xcom import XCom

__all__ = [
    "Call",
    "Change",
    "Command",
    "CycleError",
    "Dag",
    "DagRun",
    "DefinitionError",
    "DuplicateTask",
    "LiteflowError",
    "Observer",
    "PayloadError",
    "ResourceError",
    "RetryPolicy",
    "RunFailed",
    "RunNotFound",
    "RunOwned",
    "SkipTask",
    "Status",
    "StoreError",
    "Task",
    "TaskContext",
    "UnknownDependency",
    "XCom",
    "__version__",
    "current_context",
    "init_schema",
    "task",
]
