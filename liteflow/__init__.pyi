"""The public names, for type checkers; at run time `__init__.py` imports each when it is first used."""

from liteflow.context import TaskContext as TaskContext
from liteflow.context import current_context as current_context
from liteflow.dag import Dag as Dag
from liteflow.dagrun import DagRun as DagRun
from liteflow.definition.decorators import setup as setup
from liteflow.definition.decorators import task as task
from liteflow.definition.decorators import teardown as teardown
from liteflow.definition.task import Task as Task
from liteflow.errors import AlreadyDecided as AlreadyDecided
from liteflow.errors import CycleError as CycleError
from liteflow.errors import DefinitionError as DefinitionError
from liteflow.errors import DotenvError as DotenvError
from liteflow.errors import DuplicateTask as DuplicateTask
from liteflow.errors import GroupBusy as GroupBusy
from liteflow.errors import InputError as InputError
from liteflow.errors import LiteflowError as LiteflowError
from liteflow.errors import ParamError as ParamError
from liteflow.errors import PayloadError as PayloadError
from liteflow.errors import ResourceError as ResourceError
from liteflow.errors import RunFailed as RunFailed
from liteflow.errors import RunNotFound as RunNotFound
from liteflow.errors import RunOwned as RunOwned
from liteflow.errors import SecretError as SecretError
from liteflow.errors import SkipTask as SkipTask
from liteflow.errors import StoreError as StoreError
from liteflow.errors import TaskFailed as TaskFailed
from liteflow.errors import UnknownDependency as UnknownDependency
from liteflow.limits import Concurrency as Concurrency
from liteflow.limits import Pool as Pool
from liteflow.limits import Retention as Retention
from liteflow.planning.retry import RetryPolicy as RetryPolicy
from liteflow.repeat import Repeat as Repeat
from liteflow.running.observers import Change as Change
from liteflow.running.observers import ListChange as ListChange
from liteflow.running.observers import Observer as Observer
from liteflow.running.observers import RunStart as RunStart
from liteflow.state.state_file import init_schema as init_schema
from liteflow.states import Status as Status
from liteflow.triggers import FileTrigger as FileTrigger
from liteflow.triggers import Schedule as Schedule
from liteflow.triggers import WebhookTrigger as WebhookTrigger
from liteflow.triggers import WorkflowTrigger as WorkflowTrigger
from liteflow.values.dotenv import read_dotenv as read_dotenv
from liteflow.values.params import Param as Param
from liteflow.values.secrets import Secret as Secret
from liteflow.version import __version__ as __version__
from liteflow.work import NOT_YET as NOT_YET
from liteflow.work import Call as Call
from liteflow.work import Command as Command
from liteflow.work import Waiting as Waiting
from liteflow.xcom import XCom as XCom

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
