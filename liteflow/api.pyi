"""The names of `liteflow.api`, for type checkers; at run time `api.py` imports each when it is first used."""

from liteflow.approvals import RESERVED_FIELDS as RESERVED_FIELDS
from liteflow.approvals import Choice as Choice
from liteflow.approvals import OpenApproval as OpenApproval
from liteflow.approvals import decide as decide
from liteflow.approvals import find_approval as find_approval
from liteflow.approvals import open_approvals as open_approvals
from liteflow.approvals import user_name as user_name
from liteflow.approvals import wait_for_approval as wait_for_approval
from liteflow.child_runs import MAX_DEPTH as MAX_CHILD_DEPTH
from liteflow.child_runs import REFUSED as CHILD_REFUSED
from liteflow.child_runs import ChildRun as ChildRun
from liteflow.child_runs import child_call as child_call
from liteflow.child_runs import execute as execute_child_run
from liteflow.child_runs import outputs_of as child_outputs
from liteflow.context import idempotency_key as idempotency_key
from liteflow.definition.commands import pasted_task as pasted_task
from liteflow.definition.groups import Group as Group
from liteflow.definition.mapping import MAX_INSTANCES as MAX_INSTANCES
from liteflow.definition.mapping import instance_label as instance_label
from liteflow.definition.mapping import items_of_value as items_of_value
from liteflow.definition.mapping import shorten_label as shorten_label
from liteflow.digest import sha256_hex as sha256_hex
from liteflow.errors import NoStateFile as NoStateFile
from liteflow.executors.protocol import Backend as Backend
from liteflow.executors.protocol import BackendContext as BackendContext
from liteflow.executors.protocol import BackendFactory as BackendFactory
from liteflow.gc_pause import gc_paused as gc_paused
from liteflow.hooks import HOOK_EVENTS as HOOK_EVENTS
from liteflow.hooks import ConditionInputs as ConditionInputs
from liteflow.limits import MAX_DAYS as MAX_DAYS
from liteflow.limits import MAX_PRIORITY as MAX_PRIORITY
from liteflow.limits import MAX_SLOTS as MAX_SLOTS
from liteflow.limits import ON_CONFLICT as ON_CONFLICT
from liteflow.limits import RESOURCE_PATTERN as RESOURCE_PATTERN
from liteflow.limits import DagLimits as DagLimits
from liteflow.modes import DEFAULT_WORKERS as DEFAULT_WORKERS
from liteflow.pictures.boxes import critical_edges as critical_edges
from liteflow.pictures.boxes import with_boxes as with_boxes
from liteflow.pictures.drawing import critical_path_of as critical_path_of
from liteflow.pictures.drawing import picture_of_graph as picture_of_graph
from liteflow.pictures.drawing import picture_of_run as picture_of_run
from liteflow.pictures.folding import FOLDED as FOLDED
from liteflow.pictures.folding import LAYERED as LAYERED
from liteflow.pictures.folding import arranged as arranged
from liteflow.pictures.mermaid import to_mermaid as to_mermaid
from liteflow.pictures.page import to_html as to_html
from liteflow.pictures.picture import ALL_STYLES as ALL_STYLES
from liteflow.pictures.picture import Edge as PictureEdge
from liteflow.pictures.picture import Node as PictureNode
from liteflow.pictures.picture import Picture as Picture
from liteflow.pictures.picture import StatusStyle as StatusStyle
from liteflow.pictures.picture import box_label as box_label
from liteflow.pictures.picture import caption as node_caption
from liteflow.pictures.picture import clean as clean_text
from liteflow.pictures.picture import duration_text as duration_text
from liteflow.pictures.picture import prefers_left_to_right as prefers_left_to_right
from liteflow.pictures.picture import shorten as shorten
from liteflow.pictures.picture import status_style as status_style
from liteflow.pictures.picture import tally_text as tally_text
from liteflow.planning.graph import Graph as Graph
from liteflow.planning.groups import Grouping as Grouping
from liteflow.planning.groups import group_mistakes as group_mistakes
from liteflow.planning.groups import group_nodes as group_nodes
from liteflow.planning.overlooked import OverlookedFailure as OverlookedFailure
from liteflow.planning.ready_queue import DEFAULT_QUEUE as DEFAULT_QUEUE
from liteflow.planning.ready_queue import QueueOptions as QueueOptions
from liteflow.planning.ready_queue import SlotNeeds as SlotNeeds
from liteflow.planning.retry import MAX_LOST as DEFAULT_MAX_LOST
from liteflow.planning.retry import NEVER as NO_RETRY
from liteflow.planning.task_table import instance_name as instance_name
from liteflow.planning.trigger_rules import TRIGGER_RULES as TRIGGER_RULES
from liteflow.planning.trigger_rules import TriggerRule as TriggerRule
from liteflow.processes.log_file import open_log_for_reading as open_log
from liteflow.processes.spawn import LONGEST_WORD as LONGEST_WORD
from liteflow.processes.spawn import encoded as process_bytes
from liteflow.record import EMPTY_MAPPING as EMPTY_MAPPING
from liteflow.record import Record as Record
from liteflow.record import replace as replace
from liteflow.remote.cluster import DEFAULT_LEASE_S as DEFAULT_LEASE_S
from liteflow.remote.cluster import Cluster as Cluster
from liteflow.repeat import IterationFacts as IterationFacts
from liteflow.shell import DEFAULT_SHELL as DEFAULT_SHELL
from liteflow.shell import shell_prefix as shell_prefix
from liteflow.shell import shell_words as shell_words
from liteflow.state.admin import cancel_interrupted as cancel_interrupted
from liteflow.state.admin import delete_pool as delete_pool
from liteflow.state.admin import exclude_from_resume as exclude_from_resume
from liteflow.state.admin import request as request
from liteflow.state.admin import set_pool as set_pool
from liteflow.state.backup import Backup as Backup
from liteflow.state.backup import back_up as back_up
from liteflow.state.backup import vacuum as vacuum
from liteflow.state.history import AttemptRecord as AttemptRecord
from liteflow.state.history import DagRecord as DagRecord
from liteflow.state.history import EventRecord as EventRecord
from liteflow.state.history import FilePosition as FilePosition
from liteflow.state.history import History as History
from liteflow.state.history import InstanceRecord as InstanceRecord
from liteflow.state.history import LastAttempts as LastAttempts
from liteflow.state.history import RunRecord as RunRecord
from liteflow.state.history import ValueRecord as ValueRecord
from liteflow.state.instance_states import InstanceStates as InstanceStates
from liteflow.state.leftovers import Leftovers as Leftovers
from liteflow.state.leftovers import find_leftovers as find_leftovers
from liteflow.state.leftovers import remove_leftovers as remove_leftovers
from liteflow.state.parking import ParkedRun as ParkedRun
from liteflow.state.pool_history import PoolRecord as PoolRecord
from liteflow.state.pool_history import SlotRecord as SlotRecord
from liteflow.state.process_identity import acting_for as acting_for
from liteflow.state.records import ParentTask as ParentTask
from liteflow.state.retention import DEFAULT_RETENTION as DEFAULT_RETENTION
from liteflow.state.retention import Pruned as Pruned
from liteflow.state.retention import prune_runs as prune_runs
from liteflow.state.run_conditions import RunConditions as RunConditions
from liteflow.state.run_fires import FireStatistics as FireStatistics
from liteflow.state.run_fires import RunFire as RunFire
from liteflow.state.run_requests import RequestKey as RequestKey
from liteflow.state.run_requests import RunRequest as RunRequest
from liteflow.state.triggers import FireRecord as FireRecord
from liteflow.state.triggers import NewFire as NewFire
from liteflow.state.triggers import TriggerRecord as TriggerRecord
from liteflow.state.triggers import TriggerStore as TriggerStore
from liteflow.state.triggers import WorkflowTriggers as WorkflowTriggers
from liteflow.state.triggers import end_fire as end_fire
from liteflow.state.triggers import find_fire as find_fire
from liteflow.state.triggers import pause_triggers as pause_triggers
from liteflow.state.triggers import read_fires as read_fires
from liteflow.state.triggers import read_triggers as read_triggers
from liteflow.state.triggers import request_fire as request_fire
from liteflow.state.triggers import scheduler_is_active as scheduler_is_active
from liteflow.state.triggers import unpause_triggers as unpause_triggers
from liteflow.states import FIRE_STATUSES as FIRE_STATUSES
from liteflow.states import RUN_ENDED as RUN_ENDED
from liteflow.states import RUN_STATUSES as RUN_STATUSES
from liteflow.states import TASK_ENDED as TASK_ENDED
from liteflow.states import TASK_STATUSES as TASK_STATUSES
from liteflow.states import RunStatus as RunStatus
from liteflow.states import TaskStatus as TaskStatus
from liteflow.states import combined_status as combined_status
from liteflow.traces import Frame as TraceFrame
from liteflow.traces import TracedException as TracedException
from liteflow.traces import from_json as read_trace
from liteflow.triggers import OVERLAPS as OVERLAPS
from liteflow.triggers import SHORTEST_INTERVAL_S as SHORTEST_INTERVAL_S
from liteflow.triggers import SOURCE_STATES as SOURCE_STATES
from liteflow.triggers import TRIGGER_KINDS as TRIGGER_KINDS
from liteflow.triggers import WEBHOOK_SCHEMES as WEBHOOK_SCHEMES
from liteflow.triggers import DeclaredTrigger as DeclaredTrigger
from liteflow.triggers import ManualTrigger as ManualTrigger
from liteflow.triggers import Trigger as Trigger
from liteflow.triggers import declared_triggers as declared_triggers
from liteflow.triggers import manual_trigger as manual_trigger
from liteflow.triggers import overlap_limit as overlap_limit
from liteflow.triggers import trigger_from_spec as trigger_from_spec
from liteflow.triggers import trigger_problems as trigger_problems
from liteflow.values.dates import current_day as current_day
from liteflow.values.dates import date_of as date_of
from liteflow.values.dates import epoch_of as day_epoch
from liteflow.values.dates import moment_from_epoch as moment_from_epoch
from liteflow.values.dates import parse_moment as parse_moment
from liteflow.values.dates import shown as day_text
from liteflow.values.dotenv import NAME as VARIABLE_NAME
from liteflow.values.dotenv import NAME_WORDS as VARIABLE_NAME_RULE
from liteflow.values.params import NAME as PARAM_NAME
from liteflow.values.params import REQUIRED as REQUIRED_PARAM
from liteflow.values.params import TYPES as PARAM_TYPES
from liteflow.values.params import as_text as value_text
from liteflow.values.params import described as described_params
from liteflow.values.params import of_default as param_from_default
from liteflow.values.params import unknown as unknown_param
from liteflow.values.payload import Payload as Payload
from liteflow.values.payload import decode as decode_value
from liteflow.values.payload import encode as encode_value
from liteflow.values.payload import is_pickled as is_pickled
from liteflow.values.payload import unpickling as unpickling
from liteflow.values.secrets import NAME as SECRET_NAME
from liteflow.work import Body as Body
from liteflow.work import BodyDefaults as BodyDefaults
from liteflow.work import ErrorInfo as ErrorInfo
from liteflow.work import Expansion as Expansion
from liteflow.work import HookEvent as HookEvent
from liteflow.work import Item as Item
from liteflow.work import MappedRow as MappedRow
from liteflow.work import Outcome as Outcome
from liteflow.work import Poll as Poll
from liteflow.work import Ref as Ref
from liteflow.work import RunInfo as RunInfo
from liteflow.work import Work as Work
from liteflow.work import input_name as input_name

__all__ = [
    "CHILD_REFUSED",
    "DEFAULT_LEASE_S",
    "DEFAULT_MAX_LOST",
    "DEFAULT_QUEUE",
    "DEFAULT_RETENTION",
    "DEFAULT_SHELL",
    "DEFAULT_WORKERS",
    "EMPTY_MAPPING",
    "FIRE_STATUSES",
    "FOLDED",
    "HOOK_EVENTS",
    "LAYERED",
    "LONGEST_WORD",
    "MAX_CHILD_DEPTH",
    "MAX_DAYS",
    "MAX_INSTANCES",
    "MAX_PRIORITY",
    "MAX_SLOTS",
    "NO_RETRY",
    "ON_CONFLICT",
    "OVERLAPS",
    "PARAM_NAME",
    "PARAM_TYPES",
    "REQUIRED_PARAM",
    "RESERVED_FIELDS",
    "RESOURCE_PATTERN",
    "RUN_ENDED",
    "SECRET_NAME",
    "SHORTEST_INTERVAL_S",
    "SOURCE_STATES",
    "TASK_ENDED",
    "TASK_STATUSES",
    "TRIGGER_KINDS",
    "TRIGGER_RULES",
    "VARIABLE_NAME",
    "VARIABLE_NAME_RULE",
    "WEBHOOK_SCHEMES",
    "AttemptRecord",
    "Backend",
    "BackendContext",
    "BackendFactory",
    "Backup",
    "Body",
    "BodyDefaults",
    "ChildRun",
    "Choice",
    "Cluster",
    "ConditionInputs",
    "DagLimits",
    "DagRecord",
    "DeclaredTrigger",
    "ErrorInfo",
    "EventRecord",
    "Expansion",
    "FilePosition",
    "FireRecord",
    "FireStatistics",
    "Graph",
    "Group",
    "Grouping",
    "History",
    "HookEvent",
    "InstanceRecord",
    "InstanceStates",
    "Item",
    "IterationFacts",
    "LastAttempts",
    "Leftovers",
    "ManualTrigger",
    "MappedRow",
    "NewFire",
    "NoStateFile",
    "OpenApproval",
    "Outcome",
    "OverlookedFailure",
    "ParentTask",
    "ParkedRun",
    "Payload",
    "Picture",
    "PictureEdge",
    "PictureNode",
    "Poll",
    "PoolRecord",
    "Pruned",
    "QueueOptions",
    "Record",
    "Ref",
    "RequestKey",
    "RunConditions",
    "RunFire",
    "RunInfo",
    "RunRecord",
    "RunRequest",
    "RunStatus",
    "SlotNeeds",
    "SlotRecord",
    "StatusStyle",
    "TaskStatus",
    "TraceFrame",
    "TracedException",
    "Trigger",
    "TriggerRecord",
    "TriggerRule",
    "TriggerStore",
    "ValueRecord",
    "Work",
    "WorkflowTriggers",
    "acting_for",
    "arranged",
    "back_up",
    "box_label",
    "cancel_interrupted",
    "child_call",
    "child_outputs",
    "clean_text",
    "combined_status",
    "critical_edges",
    "critical_path_of",
    "current_day",
    "date_of",
    "day_epoch",
    "day_text",
    "decide",
    "declared_triggers",
    "decode_value",
    "delete_pool",
    "described_params",
    "duration_text",
    "encode_value",
    "end_fire",
    "exclude_from_resume",
    "execute_child_run",
    "find_approval",
    "find_fire",
    "find_leftovers",
    "gc_paused",
    "group_mistakes",
    "group_nodes",
    "idempotency_key",
    "input_name",
    "instance_label",
    "instance_name",
    "is_pickled",
    "items_of_value",
    "manual_trigger",
    "moment_from_epoch",
    "node_caption",
    "open_approvals",
    "open_log",
    "overlap_limit",
    "param_from_default",
    "parse_moment",
    "pasted_task",
    "pause_triggers",
    "picture_of_graph",
    "picture_of_run",
    "prefers_left_to_right",
    "process_bytes",
    "prune_runs",
    "read_fires",
    "read_trace",
    "read_triggers",
    "remove_leftovers",
    "replace",
    "request",
    "request_fire",
    "scheduler_is_active",
    "set_pool",
    "sha256_hex",
    "shell_prefix",
    "shell_words",
    "shorten",
    "shorten_label",
    "status_style",
    "tally_text",
    "to_html",
    "to_mermaid",
    "trigger_from_spec",
    "trigger_problems",
    "unknown_param",
    "unpause_triggers",
    "unpickling",
    "user_name",
    "vacuum",
    "value_text",
    "wait_for_approval",
    "with_boxes",
]
