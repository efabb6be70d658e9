"""The second layer of the engine, for applications: queries, records, requests, pictures, building blocks.

`lightflow` is built on the names of `liteflow` and of this module. Like those they are documented (docs/reference/
engine-api.md) and imported when they are first used; `api.pyi` has their types for type checkers.
"""

from __future__ import annotations

import importlib
from typing import Final

#: The module and the name there, by public name.
_HOMES: Final[dict[str, tuple[str, str]]] = {
    # Records and queries of the state file
    "History": ("liteflow.state.history", "History"),
    "ParkedRun": ("liteflow.state.parking", "ParkedRun"),
    "DagRecord": ("liteflow.state.history", "DagRecord"),
    "RunFire": ("liteflow.state.run_fires", "RunFire"),
    "RunRecord": ("liteflow.state.history", "RunRecord"),
    "InstanceRecord": ("liteflow.state.history", "InstanceRecord"),
    "AttemptRecord": ("liteflow.state.history", "AttemptRecord"),
    "EventRecord": ("liteflow.state.history", "EventRecord"),
    "ValueRecord": ("liteflow.state.history", "ValueRecord"),
    "FilePosition": ("liteflow.state.history", "FilePosition"),
    "PoolRecord": ("liteflow.state.history", "PoolRecord"),
    "SlotRecord": ("liteflow.state.history", "SlotRecord"),
    "OverlookedFailure": ("liteflow.planning.overlooked", "OverlookedFailure"),
    "RunStatus": ("liteflow.states", "RunStatus"),
    "TaskStatus": ("liteflow.states", "TaskStatus"),
    "RUN_ENDED": ("liteflow.states", "RUN_ENDED"),
    "TASK_ENDED": ("liteflow.states", "TASK_ENDED"),
    "FIRE_STATUSES": ("liteflow.states", "FIRE_STATUSES"),
    "combined_status": ("liteflow.states", "combined_status"),
    "RUN_STATUSES": ("liteflow.states", "RUN_STATUSES"),
    "TASK_STATUSES": ("liteflow.states", "TASK_STATUSES"),
    "instance_name": ("liteflow.planning.task_table", "instance_name"),
    "open_log": ("liteflow.processes.log_file", "open_log_for_reading"),
    "TracedException": ("liteflow.traces", "TracedException"),
    "TraceFrame": ("liteflow.traces", "Frame"),
    "read_trace": ("liteflow.traces", "from_json"),
    # Events of observers, besides `Change`, `ListChange` and `RunStart` of `liteflow`
    "Outcome": ("liteflow.work", "Outcome"),
    "ErrorInfo": ("liteflow.work", "ErrorInfo"),
    # Requests to the owner of a run, and changes of runs without one
    "request": ("liteflow.state.admin", "request"),
    # Approvals
    "RESERVED_FIELDS": ("liteflow.approvals", "RESERVED_FIELDS"),
    "Choice": ("liteflow.approvals", "Choice"),
    "OpenApproval": ("liteflow.approvals", "OpenApproval"),
    "decide": ("liteflow.approvals", "decide"),
    "find_approval": ("liteflow.approvals", "find_approval"),
    "open_approvals": ("liteflow.approvals", "open_approvals"),
    "user_name": ("liteflow.approvals", "user_name"),
    "wait_for_approval": ("liteflow.approvals", "wait_for_approval"),
    "cancel_interrupted": ("liteflow.state.admin", "cancel_interrupted"),
    "exclude_from_resume": ("liteflow.state.admin", "exclude_from_resume"),
    "set_pool": ("liteflow.state.admin", "set_pool"),
    "delete_pool": ("liteflow.state.admin", "delete_pool"),
    # The size of the state file
    "prune_runs": ("liteflow.state.retention", "prune_runs"),
    "Pruned": ("liteflow.state.retention", "Pruned"),
    "DEFAULT_RETENTION": ("liteflow.state.retention", "DEFAULT_RETENTION"),
    "find_leftovers": ("liteflow.state.leftovers", "find_leftovers"),
    "remove_leftovers": ("liteflow.state.leftovers", "remove_leftovers"),
    "Leftovers": ("liteflow.state.leftovers", "Leftovers"),
    "back_up": ("liteflow.state.backup", "back_up"),
    "vacuum": ("liteflow.state.backup", "vacuum"),
    "Backup": ("liteflow.state.backup", "Backup"),
    # Pictures
    "Picture": ("liteflow.pictures.picture", "Picture"),
    "PictureNode": ("liteflow.pictures.picture", "Node"),
    "PictureEdge": ("liteflow.pictures.picture", "Edge"),
    "ALL_STYLES": ("liteflow.pictures.picture", "ALL_STYLES"),
    "StatusStyle": ("liteflow.pictures.picture", "StatusStyle"),
    "picture_of_graph": ("liteflow.pictures.drawing", "picture_of_graph"),
    "picture_of_run": ("liteflow.pictures.drawing", "picture_of_run"),
    "critical_path_of": ("liteflow.pictures.drawing", "critical_path_of"),
    "critical_edges": ("liteflow.pictures.boxes", "critical_edges"),
    "FOLDED": ("liteflow.pictures.folding", "FOLDED"),
    "LAYERED": ("liteflow.pictures.folding", "LAYERED"),
    "arranged": ("liteflow.pictures.folding", "arranged"),
    "to_html": ("liteflow.pictures.page", "to_html"),
    "to_mermaid": ("liteflow.pictures.mermaid", "to_mermaid"),
    "status_style": ("liteflow.pictures.picture", "status_style"),
    "tally_text": ("liteflow.pictures.picture", "tally_text"),
    "duration_text": ("liteflow.pictures.picture", "duration_text"),
    "node_caption": ("liteflow.pictures.picture", "caption"),
    "clean_text": ("liteflow.pictures.picture", "clean"),
    "shorten": ("liteflow.pictures.picture", "shorten"),
    "prefers_left_to_right": ("liteflow.pictures.picture", "prefers_left_to_right"),
    # Definitions: what a program needs that builds dags from another format
    "Body": ("liteflow.work", "Body"),
    "Expansion": ("liteflow.work", "Expansion"),
    "MappedRow": ("liteflow.work", "MappedRow"),
    "Ref": ("liteflow.work", "Ref"),
    "Item": ("liteflow.work", "Item"),
    "Work": ("liteflow.work", "Work"),
    "Poll": ("liteflow.work", "Poll"),
    "RunInfo": ("liteflow.work", "RunInfo"),
    "input_name": ("liteflow.work", "input_name"),
    "idempotency_key": ("liteflow.context", "idempotency_key"),
    "IterationFacts": ("liteflow.repeat", "IterationFacts"),
    "ConditionInputs": ("liteflow.hooks", "ConditionInputs"),
    "HookEvent": ("liteflow.work", "HookEvent"),
    "HOOK_EVENTS": ("liteflow.hooks", "HOOK_EVENTS"),
    "TRIGGER_RULES": ("liteflow.planning.trigger_rules", "TRIGGER_RULES"),
    "TriggerRule": ("liteflow.planning.trigger_rules", "TriggerRule"),
    "Graph": ("liteflow.planning.graph", "Graph"),
    "Group": ("liteflow.definition.groups", "Group"),
    "box_label": ("liteflow.pictures.picture", "box_label"),
    "with_boxes": ("liteflow.pictures.boxes", "with_boxes"),
    "Grouping": ("liteflow.planning.groups", "Grouping"),
    "group_nodes": ("liteflow.planning.groups", "group_nodes"),
    "group_mistakes": ("liteflow.planning.groups", "group_mistakes"),
    "NO_RETRY": ("liteflow.planning.retry", "NEVER"),
    "QueueOptions": ("liteflow.planning.ready_queue", "QueueOptions"),
    "DEFAULT_WORKERS": ("liteflow.modes", "DEFAULT_WORKERS"),
    "DEFAULT_QUEUE": ("liteflow.planning.ready_queue", "DEFAULT_QUEUE"),
    "SlotNeeds": ("liteflow.planning.ready_queue", "SlotNeeds"),
    "ON_CONFLICT": ("liteflow.limits", "ON_CONFLICT"),
    "DagLimits": ("liteflow.limits", "DagLimits"),
    "MAX_DAYS": ("liteflow.limits", "MAX_DAYS"),
    "MAX_PRIORITY": ("liteflow.limits", "MAX_PRIORITY"),
    "MAX_SLOTS": ("liteflow.limits", "MAX_SLOTS"),
    "MAX_INSTANCES": ("liteflow.definition.mapping", "MAX_INSTANCES"),
    "items_of_value": ("liteflow.definition.mapping", "items_of_value"),
    "instance_label": ("liteflow.definition.mapping", "instance_label"),
    "shorten_label": ("liteflow.definition.mapping", "shorten_label"),
    "DEFAULT_SHELL": ("liteflow.shell", "DEFAULT_SHELL"),
    "shell_prefix": ("liteflow.shell", "shell_prefix"),
    "shell_words": ("liteflow.shell", "shell_words"),
    # Backends: where Python tasks run
    "Backend": ("liteflow.executors.protocol", "Backend"),
    "BackendContext": ("liteflow.executors.protocol", "BackendContext"),
    "BackendFactory": ("liteflow.executors.protocol", "BackendFactory"),
    # Triggers: what starts runs without a person
    "Trigger": ("liteflow.triggers", "Trigger"),
    "TRIGGER_KINDS": ("liteflow.triggers", "TRIGGER_KINDS"),
    "OVERLAPS": ("liteflow.triggers", "OVERLAPS"),
    "WEBHOOK_SCHEMES": ("liteflow.triggers", "WEBHOOK_SCHEMES"),
    "SHORTEST_INTERVAL_S": ("liteflow.triggers", "SHORTEST_INTERVAL_S"),
    "SOURCE_STATES": ("liteflow.triggers", "SOURCE_STATES"),
    "ManualTrigger": ("liteflow.triggers", "ManualTrigger"),
    "manual_trigger": ("liteflow.triggers", "manual_trigger"),
    "trigger_problems": ("liteflow.triggers", "trigger_problems"),
    "trigger_from_spec": ("liteflow.triggers", "trigger_from_spec"),
    "DeclaredTrigger": ("liteflow.triggers", "DeclaredTrigger"),
    "declared_triggers": ("liteflow.triggers", "declared_triggers"),
    "overlap_limit": ("liteflow.triggers", "overlap_limit"),
    "WorkflowTriggers": ("liteflow.state.triggers", "WorkflowTriggers"),
    "TriggerStore": ("liteflow.state.triggers", "TriggerStore"),
    "TriggerRecord": ("liteflow.state.triggers", "TriggerRecord"),
    "FireRecord": ("liteflow.state.triggers", "FireRecord"),
    "NewFire": ("liteflow.state.triggers", "NewFire"),
    "read_triggers": ("liteflow.state.triggers", "read_triggers"),
    "find_fire": ("liteflow.state.triggers", "find_fire"),
    "read_fires": ("liteflow.state.triggers", "read_fires"),
    "pause_triggers": ("liteflow.state.triggers", "pause_triggers"),
    "unpause_triggers": ("liteflow.state.triggers", "unpause_triggers"),
    "request_fire": ("liteflow.state.triggers", "request_fire"),
    "end_fire": ("liteflow.state.triggers", "end_fire"),
    "scheduler_is_active": ("liteflow.state.triggers", "scheduler_is_active"),
    # Values, parameters and days
    "Payload": ("liteflow.values.payload", "Payload"),
    "encode_value": ("liteflow.values.payload", "encode"),
    "decode_value": ("liteflow.values.payload", "decode"),
    "is_pickled": ("liteflow.values.payload", "is_pickled"),
    "unpickling": ("liteflow.values.payload", "unpickling"),
    "value_text": ("liteflow.values.params", "as_text"),
    "described_params": ("liteflow.values.params", "described"),
    "PARAM_NAME": ("liteflow.values.params", "NAME"),
    "PARAM_TYPES": ("liteflow.values.params", "TYPES"),
    "REQUIRED_PARAM": ("liteflow.values.params", "REQUIRED"),
    "param_from_default": ("liteflow.values.params", "of_default"),
    "SECRET_NAME": ("liteflow.values.secrets", "NAME"),
    "VARIABLE_NAME": ("liteflow.values.dotenv", "NAME"),
    "VARIABLE_NAME_RULE": ("liteflow.values.dotenv", "NAME_WORDS"),
    "process_bytes": ("liteflow.processes.spawn", "encoded"),
    "date_of": ("liteflow.values.dates", "date_of"),
    "day_epoch": ("liteflow.values.dates", "epoch_of"),
    "current_day": ("liteflow.values.dates", "current_day"),
    "parse_moment": ("liteflow.values.dates", "parse_moment"),
    "day_text": ("liteflow.values.dates", "shown"),
    "moment_from_epoch": ("liteflow.values.dates", "moment_from_epoch"),
    # Utilities that keep the start of a program short
    "gc_paused": ("liteflow.gc_pause", "gc_paused"),
    "Record": ("liteflow.record", "Record"),
    "replace": ("liteflow.record", "replace"),
    "EMPTY_MAPPING": ("liteflow.record", "EMPTY_MAPPING"),
    "sha256_hex": ("liteflow.digest", "sha256_hex"),
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'liteflow.api' has no attribute {name!r}")
    module, attribute = home
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
