"""The engine: dags of Python functions and commands, run in parallel on one machine, stored in one SQLite file.

Standard library only. Begin with `Dag`. A public name is imported when it is first used, so that a program that
needs only one of them, or only the version, starts at once; `__init__.pyi` has the types for type checkers.
"""

import importlib

_HOMES = {
    "Repeat": "repeat",
    "AlreadyDecided": "errors",
    "Call": "work",
    "Change": "running.observers",
    "Command": "work",
    "Concurrency": "limits",
    "CycleError": "errors",
    "Dag": "dag",
    "DagRun": "dagrun",
    "DefinitionError": "errors",
    "DotenvError": "errors",
    "DuplicateTask": "errors",
    "FileTrigger": "triggers",
    "GroupBusy": "errors",
    "InputError": "errors",
    "NOT_YET": "work",
    "ListChange": "running.observers",
    "LiteflowError": "errors",
    "Observer": "running.observers",
    "Param": "values.params",
    "ParamError": "errors",
    "PayloadError": "errors",
    "Pool": "limits",
    "ResourceError": "errors",
    "Retention": "limits",
    "RetryPolicy": "planning.retry",
    "RunFailed": "errors",
    "RunNotFound": "errors",
    "RunOwned": "errors",
    "RunStart": "running.observers",
    "Schedule": "triggers",
    "Secret": "values.secrets",
    "SecretError": "errors",
    "SkipTask": "errors",
    "Status": "states",
    "StoreError": "errors",
    "Task": "definition.task",
    "TaskContext": "context",
    "TaskFailed": "errors",
    "UnknownDependency": "errors",
    "WebhookTrigger": "triggers",
    "WorkflowTrigger": "triggers",
    "Waiting": "work",
    "XCom": "xcom",
    "__version__": "version",
    "current_context": "context",
    "init_schema": "state.state_file",
    "read_dotenv": "values.dotenv",
    "setup": "definition.decorators",
    "task": "definition.decorators",
    "teardown": "definition.decorators",
}

__all__ = [
    "NOT_YET",
    "AlreadyDecided",
    "Call",
    "Change",
    "Command",
    "Concurrency",
    "CycleError",
    "Dag",
    "DagRun",
    "DefinitionError",
    "DotenvError",
    "DuplicateTask",
    "FileTrigger",
    "GroupBusy",
    "InputError",
    "ListChange",
    "LiteflowError",
    "Observer",
    "Param",
    "ParamError",
    "PayloadError",
    "Pool",
    "Repeat",
    "ResourceError",
    "Retention",
    "RetryPolicy",
    "RunFailed",
    "RunNotFound",
    "RunOwned",
    "RunStart",
    "Schedule",
    "Secret",
    "SecretError",
    "SkipTask",
    "Status",
    "StoreError",
    "Task",
    "TaskContext",
    "TaskFailed",
    "UnknownDependency",
    "Waiting",
    "WebhookTrigger",
    "WorkflowTrigger",
    "XCom",
    "__version__",
    "current_context",
    "init_schema",
    "read_dotenv",
    "setup",
    "task",
    "teardown",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'liteflow' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"liteflow.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
