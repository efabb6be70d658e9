"""Classes, functions and records stay within the limits of `tools/code_limits.py`, apart from these exceptions."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]

#: Users type these names: the public API is what it is.
PUBLIC_PARAMETERS = {
    "liteflow.dag.Dag.__init__",
    "liteflow.dag.Dag.run",
    "liteflow.dag.Dag.resume",
    "liteflow.definition.dag_tasks.DagTasks.shell",
}
#: `Dag` and the decorators make tasks, with one keyword for each part of a task.
TASK_PARTS = {"liteflow.definition.task.Task.__init__"}
#: Users build these by position.
PUBLIC_RECORDS = {
    "liteflow.planning.retry.RetryPolicy",
    "liteflow.values.params.Param",
    "liteflow.values.secrets.Secret",
    "liteflow.work.Call",
    "liteflow.work.Command",
}
#: Rows of SQLite, made with `Class(*row)`.
ROWS = {
    "liteflow.state.attempt_history.AttemptRecord",
    "liteflow.state.history.EventRecord",
    "liteflow.state.history.InstanceRecord",
    "liteflow.state.history.RunRecord",
    "liteflow.state.instance_states.InstanceStates",
    "liteflow.state.pool_history.SlotRecord",
    "liteflow.state.history.ValueRecord",
    "liteflow.work.HookEvent",
}
#: Records of each attempt and each change of a status: a tuple takes a third of the time of a record.
HOT_RECORDS = {
    "liteflow.planning.task_table.Transition",
    "liteflow.work.ErrorInfo",
    "liteflow.work.Outcome",
}
EXCEPTIONS = {
    "attributes": set[str](),
    "fields": PUBLIC_RECORDS | ROWS | HOT_RECORDS,
    "lines": set[str](),
    "parameters": PUBLIC_PARAMETERS | TASK_PARTS,
}


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("code_limits", ROOT / "tools" / "code_limits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["code_limits"] = module
    spec.loader.exec_module(module)
    return module


code_limits = load_tool()
everything = cache(code_limits.everything)


def test_nothing_is_over_the_limits_without_a_reason() -> None:
    over = [excess for excess in everything() if excess.name not in EXCEPTIONS[excess.limit]]
    assert over == [], "divide it, or make the record a `liteflow.record.Record`"


def test_each_exception_is_needed() -> None:
    names = {(excess.limit, excess.name) for excess in everything()}
    listed = {(limit, name) for limit, exceptions in EXCEPTIONS.items() for name in exceptions}
    assert listed - names == set(), "it is within the limits now: remove it from the exceptions"


def test_the_limits_notice_what_is_over_them() -> None:
    module = code_limits.ROOT / "liteflow" / "over.py"
    sets = "".join(f"        self.a{number} = {number}\n" for number in range(13))
    fields = "".join(f"    f{number}: int\n" for number in range(6))
    names = ", ".join(f"p{number}" for number in range(9))
    text = f"class Large:\n    def __init__(self):\n{sets}\nclass Row(NamedTuple):\n{fields}\ndef many({names}): ...\n"
    text += f"class Pair(Record, kw_only=False):\n{fields}\nclass Named(Record):\n{fields}\n"
    text += "def long():\n" + "    x = 1\n" * 60
    limits = Counter(excess.limit for excess in code_limits.excesses_of(text, module))
    assert limits == {"attributes": 1, "fields": 2, "parameters": 1, "lines": 1}
