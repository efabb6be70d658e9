"""Harness of R1 and R1b: runs are killed at random moments and resumed, under kill again, until they are done.

Then a part of them is run again, under kill, too.

    python tests/crash/kill.py FOLDER r1 --count 10000 --seed 7 [--control late_commit]

`r1` forks warm orchestrators whose tasks run in the orchestrator itself; `r1b` runs real commands and worker
processes, `cli` the installed program. A `--control` takes one defence out of the engine (in the forked child only)
to show that the oracle sees its absence.
"""

from __future__ import annotations

import argparse
import gc
import glob
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from crashkit import (
    ALWAYS,
    ENDS_WITHIN_S,
    Acknowledge,
    Oracle,
    Row,
    State,
    TaskHooks,
    append,
    as_harness,
    await_none,
    descendants,
    drain,
    end_descendants,
    fork,
    is_hook,
    layered,
    lines,
    read_until,
    report,
    same,
    task_of,
    wait_for,
    with_instances,
)
from waiting import ITERATIONS, add_child, add_waits, with_child, with_waits

import liteflow.executors.child_run
import liteflow.planning.upstream_tracker
import liteflow.running.hooks
import liteflow.running.run
import liteflow.state.locks
import liteflow.state.state_file
import liteflow.state.store
import liteflow.state.write_batch
from liteflow import Command, Dag, Task, XCom
from liteflow.context import current_context
from liteflow.definition.options import make_options
from liteflow.outputs import outputs_dir
from liteflow.planning.task_table import instance_name
from liteflow.processes import tree
from liteflow.state import resets, transitions
from liteflow.state.history import History

RUN = "r"
#: Of a run, and of the retry of a part of it. Then each is left to end by itself: near its end a resume is mostly
#: opening and closing.
_KILLS = (10, 3)


# -- controls: one defence less ----------------------------------------------------------------------------------


def late_commit() -> None:
    """Turns are acknowledged, and their tasks started, up to eight turns before the transaction is committed."""
    transaction, store = liteflow.state.state_file.Transaction, liteflow.state.store.Store
    enter, leave, close = transaction.__enter__, transaction.__exit__, store.close
    turns = 0

    def lazy_enter(self: Any) -> None:
        if not self._connection.in_transaction:
            enter(self)

    def lazy_leave(self: Any, kind: Any, value: object, trace: object) -> None:
        nonlocal turns
        turns += 1
        if kind is not None or turns % 8 == 1:
            leave(self, kind, value, trace)

    def commit_and_close(self: Any) -> None:
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")
        close(self)

    transaction.__enter__, transaction.__exit__ = lazy_enter, lazy_leave  # type: ignore[method-assign]
    store.close = commit_and_close  # type: ignore[method-assign]


def no_transaction() -> None:
    """Each statement of a turn is committed by itself, and takes a little longer than it would."""
    transaction = liteflow.state.state_file.Transaction

    def enter(self: Any) -> None:
        self._connection.set_trace_callback(lambda _: time.sleep(0.0002))
        self._locks.acquire_within(liteflow.state.state_file.WRITE_LOCK, 5.0)

    def leave(self: Any, *_: object) -> None:
        self._locks.release(liteflow.state.state_file.WRITE_LOCK)

    transaction.__enter__, transaction.__exit__ = enter, leave  # type: ignore[method-assign]


def forgetful_resume() -> None:
    """A resume forgets one success, and the schema does not forbid a second one."""
    store = liteflow.state.store.Store
    claim = store.claim

    def forget(self: Any, *arguments: Any, **options: Any) -> Any:
        preserved, mapped, before = claim(self, *arguments, **options)
        self._connection.execute("DROP INDEX IF EXISTS liteflow_one_success")
        for task, entry in preserved.items():
            if entry.status == "SUCCESS":
                preserved[task] = entry._replace(status="PENDING")
                break
        return preserved, mapped, before

    store.claim = forget  # type: ignore[method-assign,assignment]


def no_sweep() -> None:
    """Only process groups are killed: no freeze, no lineage, no tags."""
    tree.sweep = lambda *_, **__: 0


def late_hooks() -> None:
    """What a hook is told is stored one transaction after what triggers it."""
    batch = liteflow.state.write_batch.WriteBatch
    trigger, clear = batch.trigger_hook, batch.clear
    late: list[Any] = []

    def later(self: Any, *arguments: Any) -> None:
        late.append(arguments)

    def clear_and_trigger(self: Any) -> None:
        clear(self)
        for arguments in late:
            trigger(self, *arguments)
        late.clear()

    batch.trigger_hook, batch.clear = later, clear_and_trigger  # type: ignore[method-assign]


def forgotten_hooks() -> None:
    """A resume does not run the hooks that were triggered before."""
    hooks = liteflow.running.hooks.Hooks
    begin = hooks.open
    hooks.open = lambda self, previous, now: begin(self, [hook._replace(events="[]") for hook in previous], now)  # type: ignore[method-assign]


def forgotten_waits() -> None:
    """A resume takes an attempt that waits for one whose process has died."""
    store = liteflow.state.store.Store
    claim = store.claim

    def forget(self: Any, *arguments: Any, **options: Any) -> Any:
        self._connection.execute(
            "UPDATE liteflow_task_instances SET status='RUNNING', handle=NULL, wake_at=NULL "
            "WHERE status='WAITING' AND handle IS NOT NULL"
        )
        return claim(self, *arguments, **options)

    store.claim = forget  # type: ignore[method-assign,assignment]


def forgotten_iterations() -> None:
    """A resume counts the iterations of a repeated task from the beginning."""
    liteflow.state.store.Store.iterations = lambda *_: (0, None)  # type: ignore[method-assign]


def early_joins() -> None:
    """A group ends with the first of its members."""
    liteflow.planning.upstream_tracker.UpstreamTracker.joined = lambda *_: ("SUCCESS", "")  # type: ignore[method-assign]


def new_child_runs() -> None:
    """A resume begins what waits anew, and a child run has an id that nothing else follows from."""
    forgotten_waits()
    liteflow.executors.child_run.child_run_id = lambda parent, *_: f"{parent}.{uuid.uuid4().hex[:10]}"


def half_set() -> None:
    """What is to run again is set back in two transactions."""
    whole = transitions.reset_instances

    def halves(connection: sqlite3.Connection, run_id: str, reasons: Mapping[Any, str], now: float) -> None:
        for number, (key, reason) in enumerate(reasons.items()):
            whole(connection, run_id, {key: reason}, now)
            if not number:
                connection.execute("COMMIT")
                time.sleep(0.05)  # for a kill
                connection.execute("BEGIN IMMEDIATE")

    resets.transitions.reset_instances = halves  # type: ignore[attr-defined]


def nothing_settled() -> None:
    """A retry of a part forgets which of the other tasks have ended."""
    resets.transitions.settle = lambda *_, **__: None  # type: ignore[attr-defined]


CONTROLS: Mapping[str, Callable[[], None]] = {
    "late_commit": late_commit,
    "no_transaction": no_transaction,
    "forgetful_resume": forgetful_resume,
    "no_sweep": no_sweep,
    "late_hooks": late_hooks,
    "forgotten_hooks": forgotten_hooks,
    "forgotten_waits": forgotten_waits,
    "forgotten_iterations": forgotten_iterations,
    "early_joins": early_joins,
    "new_child_runs": new_child_runs,
    "half_set": half_set,
    "nothing_settled": nothing_settled,
}


# -- R1: tasks in the orchestrator itself --------------------------------------------------------------------------


#: How many items each task hands on: a mapped task below it has as many instances.
_ITEMS = 3
_MAPPED = ("t1_2", "t3_0", "t4_3")
_AROUND = TaskHooks(
    hooks={
        "": ("on_start", "on_success", "on_exit"),
        "t0_1": ("on_success", "on_exit"),
        "t1_2": ("on_success",),  # each of its instances
        "t2_3": ("on_start", "on_retry", "on_exit"),
        "t3_0": ("on_retry",),
        "miss": ("on_failure", "on_exit"),
    },
    failing={"t2_3": 1, "t3_0": 1, "miss": ALWAYS},
)
_REST_S = 0.003  # between two attempts
_BEFORE_WAITS = ("t1_1", "t1_3")
_BEFORE_CHILD = "t1_1"
_WAITING = frozenset(with_child(*with_waits({}, _AROUND, _BEFORE_WAITS), _BEFORE_CHILD)[0])
#: what is run again in the end, with all that follows it, and what is around that: its setup and the teardown
_AGAIN = ("t1_1", "loop")
_SET_UP_AGAIN = ("t0_0", "down")


class Flow(NamedTuple):
    """What is run, and what the oracle is told of it."""

    graph: Mapping[str, Sequence[str]]
    around: TaskHooks
    instances: Mapping[str, Sequence[str]]

    def again(self, start: Sequence[str], set_up: Sequence[str] = ()) -> frozenset[str]:
        """Return the instances that run again from these tasks, and those of what is set up for them again."""
        tasks = set(start)
        for task, above in self.graph.items():  # in a topological order
            if not tasks.isdisjoint(above):
                tasks.add(task)
        tasks |= set(set_up)  # what follows it does not run again
        return frozenset(name for name in self.instances if task_of(name) in tasks)


def _whole(layers: int, width: int) -> dict[str, tuple[str, ...]]:
    """Layers of tasks, one that fails and is forgiven, and one that takes down what the first has set up."""
    graph = layered(layers, width)
    last = tuple(f"t{layers - 1}_{place}" for place in range(width))
    return {**graph, "miss": ("t1_0",), "down": ("t0_0", *last)}


def _options(around: TaskHooks, task: str, hook: Callable[[], object]) -> dict[str, Any]:
    """What the task is to be given beside its work."""
    options: dict[str, Any] = dict.fromkeys(around.hooks.get(task, ()), hook)
    fails = around.failing.get(task, 0)
    if fails == ALWAYS:
        options["continue_on_error"] = True
    elif fails:
        options |= {"retries": fails, "retry_delay": _REST_S}
    return options


def _in_hook(handle: int) -> None:
    context = current_context()
    os.write(handle, f"{instance_name(context.task_id, context.map_index)} {context.attempt}\n".encode())


def _note(handle: int, task: str, above: Sequence[Sequence[object]], item: object = None) -> list[int]:
    """What every task does: leave one line in the trail, and hand a list on."""
    context = current_context()
    os.write(handle, f"{instance_name(task, context.map_index)} {context.attempt}\n".encode())
    if context.attempt <= _AROUND.failing.get(task, 0):
        raise ValueError("not this time")
    return [len(above)] * _ITEMS


def in_process_dag(db: str, effects: str, graph: Mapping[str, Sequence[str]]) -> Dag:
    handle = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    hook = partial(_in_hook, handle)
    dag = Dag("flow", db, **dict.fromkeys(_AROUND.hooks[""], hook))
    made: dict[str, Task] = {}
    for task, above in graph.items():
        if task in _WAITING:
            continue
        given, options = [made[name] for name in above], _options(_AROUND, task, hook)
        if task in _MAPPED:
            made[task] = dag.partial(partial(_note, handle, task), task, above=given, **options).expand(item=given[0])
        else:
            made[task] = dag.task(partial(_note, handle, task), task, above=given, **options)
    made["down"].as_teardown(setups=made["t0_0"])
    add_waits(dag, made, partial(_note_once, handle), _BEFORE_WAITS)
    if "part" in graph:
        add_child(dag, made, partial(_note_once, handle), effects, _BEFORE_CHILD)
    return dag


def _note_once(handle: int, task: str) -> list[int]:
    return _note(handle, task, ())


def _flow(*, has_child: bool) -> Flow:
    graph, around = with_waits(_whole(6, 5), _AROUND, _BEFORE_WAITS)
    if has_child:
        graph, around = with_child(graph, around, _BEFORE_CHILD)
    counts: dict[str, int] = {}
    for task, above in graph.items():
        if task in _MAPPED:  # over a mapped task, it has an instance for each of its
            counts[task] = counts.get(above[0], _ITEMS)
    return Flow(graph, around, with_instances(graph, counts))


_NOTHING = State(False, "", {}, {}, [], [])


def step_after(state: State, *, again: bool) -> str:
    """Return what is to be done with a run of which this is stored: `again`, whether a part of it is to run again."""
    if not state.found:
        return "run"
    return "retry" if again and not state.set_back else "resume"


def execute(
    dag: Dag,
    mode: str,
    step: str,
    acknowledge: int,
    *,
    workers: int = 4,
    durability: str = "process",
    again: Sequence[str] = _AGAIN,
) -> None:
    """Do a step (see `step_after`); a retry runs again from `again`."""
    options: dict[str, Any] = {"max_workers": workers, "mode": mode, "durability": durability}
    options["observers"] = [Acknowledge(acknowledge)]
    if step == "run":
        run = dag.run(run_id=RUN, **options)
    elif step == "resume":
        run = dag.resume(RUN, **options)
    else:
        run = dag.retry(RUN, again, **options)
    if run.status != "SUCCESS":
        raise AssertionError(f"the run ended {run.status}: {run.failures()}")


class Tally:
    """What a harness has to report."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(Oracle.KINDS, 0))
        self.notes: list[str] = []
        self.states: Counter[int] = Counter()
        self.kills = self.runs = self.crashed = 0
        self.in_hooks = self.in_rests = 0  # kills that hit a hook at work, or a task between two attempts
        self.in_children = self.in_reruns = 0  # kills that hit a child run, or a part of a run that runs again
        self._last: State | None = None

    def killed(self, state: State, *, again: bool) -> None:
        """The run was killed, and this is what it has left."""
        self.kills += 1
        self.states[len(state.succeeded)] += 1
        if state != self._last:  # else it had changed nothing yet
            now = state.instances.items()
            self.in_hooks += any(is_hook(name) and status == "RUNNING" for name, (status, _) in now)
            self.in_rests += any(status == "UP_FOR_RETRY" for _, (status, _) in now)
            self.in_children += bool(state.children) and state.instances["part"][0] == "WAITING"
            self.in_reruns += again and bool(state.set_back)
        self._last = state

    def rarest_after(self, done: int, most: int) -> int | None:
        """Return the number of finished tasks, of those after `done`, at which the fewest kills were; None: no more."""
        return min(range(done + 1, most + 1), key=lambda state: self.states[state], default=None)

    def add(self, oracle: Oracle, where: str) -> None:
        self.runs += 1
        self.counts += oracle.counts
        if len(self.notes) < 30:
            self.notes += [f"{where}: {note}" for note in oracle.notes]

    def fields(self, size: int) -> dict[str, Any]:
        return {
            **{kind: self.counts[kind] for kind in Oracle.KINDS},
            "kills": self.kills,
            "in_hooks": self.in_hooks,
            "in_rests": self.in_rests,
            "in_children": self.in_children,
            "in_reruns": self.in_reruns,
            "runs": self.runs,
            "crashed": self.crashed,
            "notes": self.notes,
            "states": [dict(sorted(self.states.items()))],
            "size": [size + 1],
        }


def _clean_seconds(folder: str, flow: Flow, way: Way) -> float:
    """How long a run takes that nobody kills: the middle one of five."""
    took = []
    for number in range(5):
        place = f"{folder}/clean_{number}"
        read, write = os.pipe()

        def child(place: str = place, write: int = write) -> None:
            dag = in_process_dag(f"{place}.db", f"{place}.effects", flow.graph)
            execute(dag, way.mode, "run", write, workers=way.workers)

        began = time.monotonic()
        pid = fork(child)
        os.close(write)
        code = wait_for(pid)
        assert code == 0, f"a clean run failed: {code}"
        took.append(time.monotonic() - began)
        os.close(read)
        _remove(place)
    return sorted(took)[2]


def _remove(place: str) -> None:
    """Remove the files of a run, and its folders."""
    for path in glob.glob(f"{place}.*"):
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def _warm_up(folder: str, flow: Flow) -> None:
    """Run once here, so that the forks find all modules imported and all caches filled."""
    null = os.open(os.devnull, os.O_WRONLY)
    execute(in_process_dag(f"{folder}/warm.db", f"{folder}/warm.effects", flow.graph), "inline", "run", null)
    os.close(null)
    gc.collect()
    gc.freeze()  # a fork then copies fewer pages


class Way(NamedTuple):
    """How a run is executed: its tasks, how many at once, and whether one of them executes a child run."""

    mode: str
    workers: int
    has_child: bool = False


#: With one task at a time a kill can hit every number of finished tasks.
_WAYS = tuple(Way(mode, workers) for mode in ("inline", "thread") for workers in (1, 4))
#: Its processes take ten times as long as the rest of the run, so few runs have one.
_WITH_CHILD = Way("thread", 4, has_child=True)
_SHARE_WITH_CHILD = 0.1
#: Of the kills, so many hit a run at a state that few kills have hit, and not at a moment by chance: these come where a
#: run spends its time, on a busy machine at its begin and its end.
_SHARE_AIMED = 0.4
_AIMS_FOR_S = 20.0


def r1(folder: str, count: int, seed: int, control: str | None, limit_s: float) -> dict[str, Any]:
    """Kill `count` times, or until the time is over; every run is killed and resumed until it is done."""
    chance, tally = random.Random(seed), Tally()
    flows = {has_child: _flow(has_child=has_child) for has_child in (False, True)}
    share = 1.0 if control == "new_child_runs" else _SHARE_WITH_CHILD
    _warm_up(folder, flows[False])
    give_up = time.monotonic() + limit_s
    clean: dict[Way, float] = {}
    while tally.kills < count and tally.crashed < 20 and time.monotonic() < give_up:
        way = _WITH_CHILD if chance.random() < share else chance.choice(_WAYS)
        flow = flows[way.has_child]
        if way not in clean:
            clean[way] = _clean_seconds(folder, flow, way)
        where = f"seed {seed} run {tally.runs} {way}"
        tally.add(_kill_and_resume(f"{folder}/{tally.runs}", flow, way, clean[way], chance, control, tally), where)
    return tally.fields(len(flows[True].instances) - 1)  # one never succeeds


def are_successes(count: int, acknowledged: Sequence[str]) -> bool:
    """Return whether it was acknowledged that so many tasks have succeeded."""
    words = [line.split() for line in acknowledged]
    return sum(word[0] == "SUCCESS" and not is_hook(word[1]) for word in words if len(word) == 3) >= count


def _kill_and_resume(
    place: str,
    flow: Flow,
    way: Way,
    clean_s: float,
    chance: random.Random,
    control: str | None,
    tally: Tally,
) -> Oracle:
    """One run, and then a part of it again, killed at a random moment and resumed, over and over, until it is done."""
    db, effects = f"{place}.db", f"{place}.effects"
    oracle, state = Oracle(db, RUN, effects, flow.instances, flow.around), _NOTHING

    def child(step: str, write: int) -> None:
        if control is not None:
            CONTROLS[control]()
        dag = in_process_dag(db, effects, flow.graph)
        execute(dag, way.mode, step, write, workers=way.workers, durability="power" if control else "process")

    def kill_until_done(kills: int, *, again: bool) -> int | None:
        nonlocal state
        while True:
            read, write = os.pipe()
            delay = chance.uniform(0, clean_s * (0.4 + 0.6 * (1 - len(state.succeeded) / len(flow.instances))))
            began = time.monotonic()
            pid = fork(partial(child, step_after(state, again=again), write))
            os.close(write)
            acknowledged: list[str] = []
            if kills:
                aim = None if control else tally.rarest_after(len(state.succeeded), len(flow.instances) - 1)
                if aim is None or chance.random() >= _SHARE_AIMED:
                    time.sleep(max(0.0, began + delay - time.monotonic()))
                else:
                    has_come = partial(are_successes, aim - len(state.succeeded))
                    acknowledged = read_until(read, has_come, _AIMS_FOR_S)
                os.kill(pid, signal.SIGKILL)
                kills -= 1
            code = wait_for(pid)
            acknowledged += drain(read)
            os.close(read)
            state = oracle.check(acknowledged, whole=code == 0)
            if code != -signal.SIGKILL:
                tally.crashed += code != 0
                return code
            tally.killed(state, again=again)

    if kill_until_done(_KILLS[0], again=False) == 0:
        oracle.run_again(flow.again(_AGAIN, _SET_UP_AGAIN), state)
        kill_until_done(_KILLS[1], again=True)
    _remove(place)
    return oracle


# -- R1b: commands and worker processes ------------------------------------------------------------------------------


def _in_worker(effects: str, task: str, above: Sequence[object], item: object = None) -> int:
    context = current_context()
    append(effects, f"{instance_name(task, context.map_index)} {context.attempt}")
    subprocess.run(["sleep", "0.003"], check=True)
    if context.attempt <= _AROUND_PROCESSES.failing.get(task, 0):
        raise ValueError("not this time")
    return len(above)


def _hook_in_worker(effects: str) -> None:
    context = current_context()
    append(effects, f"{instance_name(context.task_id, context.map_index)} {context.attempt}")


_MAPPED_WORKER = "t1_1"
_BEFORE_WAITS_PROCESSES = ("t0_2", "t0_3")
_BEFORE_CHILD_PROCESSES = "t0_2"
#: of the tasks that fail, the first is a worker and the second a command
_AROUND_PROCESSES = TaskHooks(
    hooks={
        "": ("on_start", "on_success", "on_exit"),
        "t0_2": ("on_success", "on_exit"),
        _MAPPED_WORKER: ("on_success",),
        "t1_2": ("on_start", "on_retry"),
        "miss": ("on_failure",),
    },
    failing={"t0_3": 1, "t1_2": 1, "miss": ALWAYS},
)
#: as a file, where hooks have options of their own: the first attempt of one fails
_AGAIN_PROCESSES = ("t0_2", "loop")
_AROUND_FILE = _AROUND_PROCESSES._replace(failing={**_AROUND_PROCESSES.failing, "t0_2.on_success": 1})


def process_dag(db: str, effects: str, graph: Mapping[str, Sequence[str]]) -> Dag:
    """Every second task is a command; every third of those leaves a process in the background. One is mapped."""
    around, hook = _AROUND_PROCESSES, partial(_hook_in_worker, effects)
    dag = Dag("flow", db, **dict.fromkeys(around.hooks[""], hook))
    made: dict[str, Task] = {}
    for number, (task, above) in enumerate(graph.items()):
        options = _options(around, task, hook)
        if number % 2:
            body, given = partial(_in_worker, effects, task), [made[name] for name in above]
            if task == _MAPPED_WORKER:
                made[task] = dag.partial(body, task, above=given, **options).expand(item=list(range(_ITEMS)))
            else:
                made[task] = dag.task(body, task, above=given, **options)
            continue
        words = ("/bin/sh", "-c", _script(effects, number, around.failing.get(task, 0)))
        made[task] = dag.add_task(Task(task, body=Command(words), options=make_options(options, task)))
        for name in above:
            made[name] >> made[task]
    made["down"].as_teardown(setups=made["t0_0"])
    add_waits(dag, made, partial(_note_in_worker, effects), _BEFORE_WAITS_PROCESSES)
    add_child(dag, made, partial(_note_in_worker, effects), effects, _BEFORE_CHILD_PROCESSES)
    return dag


def _note_in_worker(effects: str, task: str) -> None:
    append(effects, f"{task} {current_context().attempt}")


def _say(effects: str) -> str:
    return f'echo "$LIGHTFLOW_TASK${{LIGHTFLOW_MAP_INDEX:+[$LIGHTFLOW_MAP_INDEX]}} $LIGHTFLOW_ATTEMPT" >> {effects}'


def _say_in_child(effects: str) -> str:
    return f'echo "$LIGHTFLOW_TASK $LIGHTFLOW_ATTEMPT" >> {effects}.$LIGHTFLOW_RUN_ID'


def _script(effects: str, number: int, fails: int) -> str:
    stray = "setsid sleep 60 & " if number % 6 == 0 else ""
    output = 'echo "n=$LIGHTFLOW_ATTEMPT" >> "$LIGHTFLOW_OUTPUT"'
    return f'{stray}{output}; {_say(effects)}; sleep 0.005; test "$LIGHTFLOW_ATTEMPT" -gt {fails}'


def workflow_text(effects: str, graph: Mapping[str, Sequence[str]]) -> str:
    """The same as a workflow file, of commands alone; one asks before it starts."""
    around = _AROUND_FILE

    def hooks(task: str) -> list[str]:
        found = []
        for event in around.hooks.get(task, ()):
            fails = around.failing.get(f"{task}.{event}", 0)
            run = f"{_say(effects)}; test $LIGHTFLOW_ATTEMPT -gt {fails}"
            found.append(f"{event}: {{run: '{run}', retries: {fails}}}")
        return found

    rows = ["workflow_name: flow", *hooks(""), "tasks:"]
    for number, (task, above) in enumerate(graph.items()):
        fails = around.failing.get(task, 0)
        if fails == ALWAYS:
            extra = ["continue_on_error: true"]
        else:
            extra = [f"retries: {fails}", f"retry_delay: {_REST_S}"] if fails else []
        extra += hooks(task)
        if task == _MAPPED_WORKER:
            extra.append(f"foreach: {list(range(_ITEMS))}")
        if task == "t2_2":
            extra.append(f"preconditions: ['{_say(effects)}']")
        if task == "down":
            extra.append("teardown_of: t0_0")
        rows += [f"  {task}:", "    type: shell", f"    depends_on: [{', '.join(above)}]"]
        rows += [f"    {row}" for row in extra]
        rows += ["    run: |", f"      {_script(effects, number, fails)}"]
    say = _say(effects)
    rows += [
        *("  g:", f"    depends_on: {_BEFORE_WAITS_PROCESSES[0]}", "    tasks:"),
        "      wait: {type: wait, duration: 0.02s}",
        f"      last: {{run: '{say}', depends_on: wait}}",
        f"  loop: {{run: '{say}', depends_on: {_BEFORE_WAITS_PROCESSES[1]},",
        f"    repeat: {{until: iteration >= {ITERATIONS}, every: 0.003s, max: 10}}}}",
        f"  after: {{run: '{say}', depends_on: [g, loop]}}",
        f"  part: {{type: workflow, workflow: middle, depends_on: {_BEFORE_CHILD_PROCESSES}}}",
        f"  parted: {{run: '{say}', depends_on: part}}",
        *("---", "workflow_name: middle", "tasks:"),
        f"  first: {{run: '{_say_in_child(effects)}'}}",
        "  inner: {type: workflow, workflow: inner, depends_on: first}",
        f"  last: {{run: '{_say_in_child(effects)}', depends_on: inner}}",
        *("---", "workflow_name: inner", "tasks:"),
        f"  first: {{run: '{_say_in_child(effects)}'}}",
        f"  last: {{run: '{_say_in_child(effects)}', depends_on: first}}",
    ]
    return "\n".join(rows) + "\n"


def _from_screen(text: Sequence[str]) -> list[str]:
    """What the program told its user, as acknowledgements."""
    found = []
    for line in text:
        match = re.match(r"\d\d:\d\d:\d\d (\S+) SUCCESS\b", line)
        if match and match[1] != _MAPPED_WORKER:  # as a whole it has no attempts
            again = re.search(r"\(attempt (\d+)\)", line)
            found.append(f"SUCCESS {match[1]} {again[1] if again else 1}")
    return found


class Trial(NamedTuple):
    """A start of a run, or of what continues it."""

    place: str
    oracle: Oracle
    state: State  # what is stored before
    killed_at: float  # the end of the last trial
    again: bool  # whether it is the retry of a part
    strikes: bool  # whether it is killed


class Commands:
    """As R1, with processes: after each kill nothing may live on for a second, and a resume starts at once."""

    def __init__(self, folder: str, seed: int, control: str | None, *, cli: bool) -> None:
        self._folder, self._seed, self._control, self._cli = folder, seed, control, cli
        self._chance, self._graph, self._tally = random.Random(seed), _whole(3, 4), Tally()
        graph, around = with_waits(self._graph, _AROUND_FILE if cli else _AROUND_PROCESSES, _BEFORE_WAITS_PROCESSES)
        graph, around = with_child(graph, around, _BEFORE_CHILD_PROCESSES)
        self._flow = Flow(graph, around, with_instances(graph, {_MAPPED_WORKER: _ITEMS}))
        self._errors = f"{folder}/errors"
        self._clean_s = 0.0
        self._survivors = 0
        self._worst = 0.0
        self._takeovers: list[float] = []

    def run(self, count: int, limit_s: float) -> dict[str, Any]:
        """Kill `count` times, or until the time is over."""
        tally, give_up = self._tally, time.monotonic() + limit_s
        self._kill_and_resume((0,))  # measures a run that nobody kills
        while tally.kills < count and tally.crashed < 20 and time.monotonic() < give_up:
            tally.add(self._kill_and_resume(_KILLS), f"seed {self._seed} run {tally.runs}")
        return {
            **tally.fields(len(self._flow.instances) - 1),
            "survivors": self._survivors,
            "worst_ms": round(self._worst * 1000),
            "takeovers": self._takeovers,
        }

    def _child(self, place: str, step: str, write: int) -> None:
        db, effects = f"{place}.db", f"{place}.effects"
        if self._control is not None:
            CONTROLS[self._control]()
        if not self._cli:
            execute(process_dag(db, effects, self._graph), "process", step, write, again=_AGAIN_PROCESSES)
            return
        os.dup2(write, 1)
        os.dup2(os.open(self._errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
        start = [word for task in _AGAIN_PROCESSES for word in ("--from", task)]
        what = {
            "run": ["run", f"{place}.yaml", "--run-id", RUN],
            "resume": ["resume", f"{place}.yaml"],
            "retry": ["retry", f"{place}.yaml", *start],
        }
        words = [sys.executable, "-m", "lightflow", *what[step], "--db", db, "--log-dir", f"{self._folder}/logs"]
        os.execv(sys.executable, words)

    def _kill_and_resume(self, kills: Sequence[int]) -> Oracle:
        """Kill a run this often, and then a retry of a part of it."""
        place = f"{self._folder}/{self._tally.runs if any(kills) else 'clean'}"
        with open(f"{place}.yaml", "w", encoding="utf-8") as file:
            file.write(workflow_text(f"{place}.effects", self._graph))
        oracle = Oracle(f"{place}.db", RUN, f"{place}.effects", self._flow.instances, self._flow.around)
        state, killed_at = _NOTHING, 0.0
        for again, times in enumerate(kills):
            if again:
                oracle.run_again(self._flow.again(_AGAIN_PROCESSES, _SET_UP_AGAIN), state)
            for turn in range(times + 1):
                trial = Trial(place, oracle, state, killed_at, again=bool(again), strikes=turn < times)
                state, code, killed_at = self._try(trial)
                if code != -signal.SIGKILL:
                    break
            if code != 0:
                break
        return oracle

    def _try(self, trial: Trial) -> tuple[State, int | None, float]:
        """Start or continue a run, and kill it. Return what is stored then, the exit code, and when it has ended."""
        place, done = trial.place, len(trial.state.succeeded)
        read, write = os.pipe()
        leftover = list(descendants().values()) if trial.killed_at else []
        began = time.monotonic()
        pid = fork(partial(self._child, place, step_after(trial.state, again=trial.again), write))
        os.close(write)
        if leftover:
            self._await_end([row for row in leftover if row.pid != pid], trial.killed_at)
        if trial.strikes:
            extra = 0.8 if self._cli else 0.4  # half of the time of the program is its start
            delay = self._chance.uniform(0, self._clean_s * (extra + 0.6 * (1 - done / len(self._flow.instances))))
            time.sleep(max(0.0, began + delay - time.monotonic()))
            os.kill(pid, signal.SIGKILL)
        code = wait_for(pid)
        ended_at, killed = time.monotonic(), code == -signal.SIGKILL
        # Every second time the next one starts while this one is still being swept.
        if not killed or self._control is not None or self._cli or self._chance.random() < 0.5:
            self._await_end(None, ended_at)
        acknowledged = drain(read)
        os.close(read)
        for line in acknowledged:
            if line.startswith("BEGAN") and trial.killed_at:
                self._takeovers.append(float(line.split()[1]) - trial.killed_at)
        if self._cli:
            acknowledged = _from_screen(acknowledged)
        state = trial.oracle.check(acknowledged, whole=code == 0)
        self._check_outputs(trial.oracle, state, place)
        if killed:
            self._tally.killed(state, again=trial.again)
        else:
            self._ended(trial, code)
            self._clean_s = self._clean_s or ended_at - began
        return state, code, ended_at

    def _check_outputs(self, oracle: Oracle, state: State, place: str) -> None:
        """Each command that is recorded as succeeded has handed on what that attempt has written, and no other has."""
        if not state.found:
            return
        commands = {task for number, task in enumerate(self._graph) if self._cli or number % 2 == 0} - {_MAPPED_WORKER}
        wanted = {
            (task, str(attempt))
            for (task, attempt), status in state.attempts.items()
            if status == "SUCCESS" and task in commands & state.succeeded
            if state.attempt_rounds[task, attempt] == state.rounds[task]  # a value from before is never read
        }
        with History(f"{place}.db") as history:
            there = [
                entry.task_id
                for entry in history.values(RUN)
                if entry.key == "n" and entry.task_id in self._graph and entry.task_id != _MAPPED_WORKER
            ]
            stored = {(task, XCom.load(f"{place}.db", RUN, task, "n")) for task in there}
        if stored != wanted:
            oracle.fault("torn", f"outputs: {sorted(stored ^ wanted)}")

    def _await_end(self, rows: Sequence[Row] | None, since: float) -> None:
        """Wait for these processes' end (None: everything below us), and count what does not end in time."""
        limit_s = 1.0 if self._control else ENDS_WITHIN_S
        if rows is None:
            _, rest = await_none(descendants, limit_s)
        else:
            _, rest = await_none(lambda: [row for row in rows if same(row)], limit_s)
        self._survivors += len(rest)
        if not rest:
            self._worst = max(self._worst, time.monotonic() - since)
        elif rows is None:
            end_descendants()

    def _ended(self, trial: Trial, code: int | None) -> None:
        self._tally.crashed += code != 0
        if code != 0:
            self._tally.notes.append(f"exit code {code}: {lines(self._errors)[-3:]}")
        elif os.path.lexists(outputs_dir(os.path.realpath(f"{trial.place}.db"), RUN)):
            trial.oracle.fault("torn", "the folder of the outputs is still there")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("what", choices=("r1", "r1b", "cli"))
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds")
    parser.add_argument("--control", choices=sorted(CONTROLS))
    given = parser.parse_args()
    began = time.monotonic()
    with as_harness(limit_s=600 + 2 * round(given.limit)):
        if given.what == "r1":
            found = r1(given.folder, given.count, given.seed, given.control, given.limit)
        else:
            trial = Commands(given.folder, given.seed, given.control, cli=given.what == "cli")
            found = trial.run(given.count, given.limit)
    report(**found, worst_seconds=time.monotonic() - began)


if __name__ == "__main__":
    main()
