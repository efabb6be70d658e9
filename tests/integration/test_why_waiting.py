"""`why` says what a task waits for: each reason for not starting one, in a real run that is held at that point."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from far_kit import cluster_of
from flow_folder import COMMAND, environment, lightflow

from liteflow import Dag, Observer
from liteflow.running import places
from liteflow.running.prefetch import PrefetchLimits
from liteflow.state.history import History

LIMIT_S = 60.0
#: Says that it runs, and runs until it is ended.
HOLD = "echo up > up; read x < gate"


class Held:
    """A folder with runs that are held: a line in the pipe `up` says that a task runs, and `gate` never opens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started: list[subprocess.Popen[str]] = []
        self._pipes: list[int] = []
        for name in ("up", "gate"):
            os.mkfifo(path / name)
            self._pipes.append(os.open(path / name, os.O_RDWR))  # so that no opening of it blocks

    def run(self, text: str, *arguments: str, run_id: str = "r", tasks_up: int = 1) -> subprocess.Popen[str]:
        """Start a run of this workflow, in which HOLD is a script that is held."""
        (self.path / "flow.yaml").write_text(textwrap.dedent(text).replace("HOLD", HOLD))
        return self.start("run", "flow.yaml", "--run-id", run_id, *arguments, tasks_up=tasks_up)

    def start(self, *arguments: str, command: Sequence[str] = COMMAND, tasks_up: int = 1) -> subprocess.Popen[str]:
        """Start the program, and wait until so many tasks say that they run."""
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=self.path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        ended = os.pidfd_open(process.pid)
        try:
            for _ in range(tasks_up):
                ready = select.select([self._pipes[0], ended], [], [], LIMIT_S)[0]
                assert ready == [self._pipes[0]], process.communicate() if ready else "no task says that it runs"
                assert os.read(self._pipes[0], 3) == b"up\n"
        finally:
            os.close(ended)
        return process

    def read_until(self, process: subprocess.Popen[str], text: str) -> None:
        """Read the lines of a run up to the one with this text."""
        assert process.stdout is not None
        assert any(text in line for line in process.stdout), f"the run never says {text!r}"

    def wait_for_status(self, run_id: str, task_id: str, status: str) -> None:
        """Wait for a status that no process announces."""
        self.wait_for(lambda history: (task_id, -1, status) in history.statuses(run_id))

    def wait_for_queued(self, count: int) -> None:
        """Wait until so many requests for slots are queued."""
        self.wait_for(lambda history: sum(slot.taken_at is None for slot in history.slots()) == count)

    def wait_for(self, holds) -> None:  # type: ignore[no-untyped-def]
        give_up = time.monotonic() + LIMIT_S
        while True:
            with contextlib.suppress(Exception), History(str(self.path / "lightflow.db")) as history:
                if holds(history):
                    return
            assert time.monotonic() < give_up
            time.sleep(0.02)

    def why(self, name: str, run_id: str = "r", db: str = "lightflow.db") -> list[str]:
        """Return the sentences of `why`, which are the same as text and as JSON."""
        words = ["why", run_id, name, "--db", db]
        sentences: list[str] = json.loads(lightflow(self.path, *words, "--json").stdout)["because"]
        text = lightflow(self.path, *words).stdout
        assert [line.strip().split(" ", 1)[1] for line in text.splitlines()] == sentences
        assert "all slots are in use" not in text
        return sentences

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for pipe in self._pipes:
            os.close(pipe)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    made = Held(tmp_path)
    yield made
    made.end()


# -- start checks ------------------------------------------------------------------------------------------------------


def test_a_task_waits_for_its_precondition(held: Held) -> None:
    held.run(
        """\
        tasks:
          load: {preconditions: ["true", "HOLD"], run: "true"}
        """
    )
    assert held.why("load") == [
        "load is PENDING: waits for its precondition load.precondition_2",
        "load.precondition_2 is RUNNING: attempt 1 is running",
        "it is a precondition of load, which starts only if it is met",
    ]
    assert held.why("load.precondition_2") == held.why("load")[1:]


def test_a_task_waits_for_its_on_start(held: Held) -> None:
    held.run('tasks: {load: {on_start: "HOLD", run: "true"}, next: {run: "true", depends_on: [load]}}')
    reason = [
        "load is PENDING: waits for its hook load.on_start",
        "load.on_start is RUNNING: attempt 1 is running",
        "it is a hook of load, which starts after its end",
    ]
    assert held.why("load") == reason
    assert held.why("next") == ["next is PENDING: waits for 'load' (rule all_success)", *reason]


def test_a_precondition_waits_for_its_next_attempt_or_a_worker(held: Held) -> None:
    held.run('tasks: {a: {run: "HOLD"}, load: {preconditions: ["true"], run: "true"}}', "--max-workers", "1")
    held.wait_for(lambda history: bool(history.hooks("r")))
    assert held.why("load") == [
        "load is PENDING: waits for its precondition load.precondition_1",
        "load.precondition_1 is PENDING: waits for a free worker (1 of 1 is in use: a)",
        "it is a precondition of load, which starts only if it is met",
    ]


def test_a_condition_is_evaluated_or_has_passed(held: Held) -> None:
    held.run('tasks: {a: {run: "HOLD"}, b: {if: "not failure()", run: "true"}}', "--max-workers", "1")
    (reason,) = held.why("b")
    assert reason == (
        "b is PENDING: waits for a free worker (1 of 1 is in use: a), unless its condition (if: not failure()) "
        "is still to be evaluated: the state file does not show it"
    )


# -- hooks and limits of the run ---------------------------------------------------------------------------------------


def test_all_tasks_wait_for_on_start_of_the_run(held: Held) -> None:
    held.run('on_start: "HOLD"\ntasks: {a: {run: "true"}, b: {run: "true", depends_on: [a]}}')
    reason = ["a is PENDING: waits for the hook on_start of the run", "on_start is RUNNING: attempt 1 is running"]
    assert held.why("a") == [*reason, "it is a hook of the run, whose tasks start after its end"]
    assert held.why("b")[1:] == held.why("a")


def test_a_task_waits_while_the_run_is_in_its_group(held: Held) -> None:
    flow = 'name: flow\nconcurrency: 1\ntasks: {a: {run: "HOLD"}, b: {run: "true", depends_on: [a]}}'
    held.run(flow, run_id="one")
    held.run(flow, run_id="two", tasks_up=0)
    held.wait_for_queued(1)
    held.run(flow, run_id="three", tasks_up=0)
    held.wait_for_queued(2)
    place = "queued in group 'flow' behind run"
    assert held.why("b", "two") == [
        f"b is PENDING: the run has not started: it is {place} one",
        f"the run is PENDING: {place} one",
    ]
    assert held.why("a", "three")[0] == f"a is PENDING: the run has not started: it is {place} one"
    held.started[0].kill()
    held.started[0].wait()
    held.wait_for_queued(1)
    assert held.why("a", "three") == [
        f"a is PENDING: the run has not started: it is {place} two",
        f"the run is PENDING: {place} two",
    ]
    assert json.loads(lightflow(held.path, "status", "three", "--json").stdout)["reason"] == f"{place} two"


def test_a_task_waits_while_the_run_is_in_back_off(held: Held) -> None:
    run = held.run(
        """\
        retry: {max: 1, delay: 1h}
        tasks: {a: {run: exit 1}, b: {run: "true", depends_on: [a]}}
        """,
        tasks_up=0,
    )
    held.read_until(run, "try 2 of 2")
    sentences = held.why("b")
    assert sentences[0] == "b is PENDING: the run failed, and starts nothing before its next try"
    assert len(sentences) == 2
    assert sentences[1].startswith("the run is RUNNING: it failed; try 2 of 2 starts in ")


def test_a_precondition_waits_for_on_start_of_the_run(held: Held) -> None:
    held.run('on_start: "HOLD"\ntasks: {a: {preconditions: ["true"], run: "true"}}')
    held.wait_for(lambda history: len(history.hooks("r")) == 2)
    assert held.why("a")[:2] == [
        "a is PENDING: waits for its precondition a.precondition_1",
        "a.precondition_1 is PENDING: waits for the hook on_start of the run",
    ]


# -- setups ------------------------------------------------------------------------------------------------------------


def test_a_task_waits_for_a_setup_that_it_needs(held: Held) -> None:
    held.run(
        """\
        tasks:
          db: {setup: true, run: "HOLD"}
          between: {run: "true", depends_on: [db], trigger_rule: always}
          load: {run: "true", depends_on: [between]}
        """
    )
    held.wait_for_status("r", "between", "SUCCESS")
    sentences = held.why("load")
    assert sentences[0] == "load is PENDING: waits for 'db', a setup that it needs"
    assert sentences[1].startswith("db is RUNNING: attempt 1 is running")


# -- pools, max_parallel, priority, workers ----------------------------------------------------------------------------


def test_a_task_waits_behind_another_one_for_the_same_slots(held: Held) -> None:
    held.run(
        """\
        pools: {gpu: 1}
        tasks:
          a: {run: "HOLD", pool: gpu}
          b: {run: "HOLD", pool: gpu}
          c: {run: "HOLD", pool: gpu}
        """
    )
    held.wait_for_queued(1)
    words = "1 slot of pool 'gpu' (1 of 1 in use: run r holds 1 (task a))"
    assert held.why("b") == [f"b is PENDING: waits for {words}"]
    assert held.why("c") == [f"c is PENDING: waits for {words}, behind b"]
    tasks = json.loads(lightflow(held.path, "status", "r", "--json").stdout)["tasks"]
    assert [task["reason"] for task in tasks] == [None, f"waits for {words}", f"waits for {words}, behind b"]


def test_a_task_waits_behind_a_larger_request_although_slots_are_free(held: Held) -> None:
    """Ten tasks overtake the one that needs more slots than are free; then it is first."""
    held.run(
        """\
        pools: {gpu: 2}
        tasks:
          a: {run: "HOLD", pool: gpu, priority: 9}
          large: {run: "true", pool: gpu, pool_slots: 2, priority: 5}
          x: {foreach: "${{ range(11) | list }}", run: "true", pool: gpu}
        """
    )
    held.wait_for_queued(2)
    assert held.why("x[10]") == [
        "x[10] is PENDING: waits for 1 slot of pool 'gpu' (1 of 2 in use: run r holds 1 (task a); run r is before it "
        "in the queue, for 2 (task large))"
    ]


def test_an_instance_waits_for_max_parallel(held: Held) -> None:
    held.run(
        """\
        tasks:
          x: {foreach: {items: [a, b, c], max_parallel: 2}, run: "HOLD"}
        """,
        tasks_up=2,
    )
    assert held.why("x[2]") == [
        "x[2] is PENDING: waits for max_parallel of its task (2 of 2 instances run: x[0], x[1])"
    ]


def test_a_task_waits_for_a_free_worker(held: Held) -> None:
    held.run('tasks: {a: {run: "HOLD"}, b: {run: "HOLD"}, c: {run: "true"}}', "--max-workers", "2", tasks_up=2)
    assert held.why("c") == ["c is PENDING: waits for a free worker (2 of 2 are in use: a, b)"]


def test_a_resumed_run_has_the_workers_of_the_resume(held: Held) -> None:
    first = held.run('tasks: {a: {run: "HOLD"}, b: {run: "HOLD"}, c: {run: "true"}}', "--max-workers", "1")
    first.kill()
    first.wait()
    held.start("resume", "r", "--max-workers", "2", tasks_up=2)
    assert held.why("c")[0] == "c is PENDING: waits for a free worker (2 of 2 are in use: a, b)"


def test_tasks_of_higher_priority_start_first(held: Held) -> None:
    held.run(
        """\
        tasks:
          a: {run: "HOLD", priority: 9}
          b: {run: "true"}
          c: {run: "true", priority: 5}
          d: {run: "true", priority: 7, depends_on: [c]}
        """,
        "--max-workers",
        "1",
    )
    worker = "waits for a free worker (1 of 1 is in use: a)"
    assert held.why("b") == [f"b is PENDING: {worker}; tasks of higher priority start before it: c (5)"]
    assert held.why("c") == [f"c is PENDING: {worker}"]


def test_an_attempt_that_an_agent_has_waits_for_a_slot_of_its_cluster(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "FAR", PrefetchLimits(short_s=60.0, queue_s=6000.0, most=64))
    gate = str(held.path / "open")
    dag = Dag("d", str(held.path / "lightflow.db"), clusters={"lab": cluster_of({"w1": 1})})

    def nothing() -> None:
        pass

    def hold(gate: str) -> None:
        while not os.path.exists(gate):
            time.sleep(0.01)

    join = dag.task(nothing, "join", mode="thread")
    join << [dag.task(nothing, f"short_{number}") for number in range(60)]
    for number in range(3):
        join >> dag.task(hold, f"long_{number}", gate=gate)
    beside = dag.task(hold, "beside", gate=gate, mode="thread")
    run = threading.Thread(target=lambda: dag.run(2, "lab", run_id="r", log_dir=str(held.path / "logs")))
    run.start()
    try:
        held.wait_for(lambda history: ("long_0", -1, "RUNNING") in history.statuses("r"))
        held.wait_for_status("r", beside.task_id, "RUNNING")
        held.wait_for_status("r", "long_2", "QUEUED")
        held.wait_for(lambda history: [place["slots"] for place in history.run("r").places] == [1])
        assert held.why("long_2") == [
            "long_2 is QUEUED: attempt 1 was given to lab, and waits for a slot of lab (1 of 1 is in use: long_0)"
        ]
    finally:
        Path(gate).touch()
        run.join()


def test_an_attempt_is_queued_in_its_executor(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    # Attempts are handed out in advance however long a busy machine lets the short tasks take.
    monkeypatch.setattr(places, "NEAR", PrefetchLimits(short_s=60.0, queue_s=6000.0, most=64))
    db, gate, up = str(held.path / "lightflow.db"), threading.Event(), threading.Event()
    dag = Dag("d", db)

    def nothing() -> None:
        pass

    def hold() -> None:
        up.set()
        gate.wait(LIMIT_S)

    short = [dag.task(nothing, f"short_{number}") for number in range(300)]
    join = dag.task(nothing, "join")
    join << short
    for number in range(3):
        join >> dag.task(hold, f"long_{number}")
    run = threading.Thread(target=lambda: dag.run(1, "thread", run_id="r", observers=[Observer()]))
    run.start()
    try:
        assert up.wait(LIMIT_S)
        held.wait_for_status("r", "long_2", "QUEUED")
        (reason,) = held.why("long_2")
        assert reason == "long_2 is QUEUED: attempt 1 has a place in its executor, and waits for a free worker (long_0)"
    finally:
        gate.set()
        run.join()


def test_a_mapped_task_waits_until_its_list_is_read(held: Held) -> None:
    """A task of mode `inline` runs in the loop, which reads no list meanwhile."""
    db, gate, up = str(held.path / "lightflow.db"), threading.Event(), threading.Event()
    dag = Dag("d", db)

    def hold() -> None:
        up.set()
        gate.wait(LIMIT_S)

    def length(text: str) -> int:
        return len(text)

    dag.task(hold, "first")
    dag.partial(length, "lengths").expand(text=["a", "bb"])
    run = threading.Thread(target=lambda: dag.run(1, "inline", run_id="r"))
    run.start()
    try:
        assert up.wait(LIMIT_S)
        (reason,) = held.why("lengths")
        assert reason == (
            "lengths is PENDING: waits until the run evaluates its list; if that lasts, "
            f"process {os.getpid()}, which runs the run, is busy or stopped"
        )
    finally:
        gate.set()
        run.join()


def test_an_instance_waits_until_the_list_is_read_again(held: Held) -> None:
    first = held.run(
        """\
        tasks:
          a: {run: "test ! -e again || { HOLD; }"}
          x: {foreach: [a, b], depends_on: [a], run: "HOLD"}
        """,
        tasks_up=2,
    )
    first.kill()
    first.wait()
    (held.path / "again").touch()
    text = (held.path / "flow.yaml").read_text().replace("depends_on: [a]", "depends_on: [c]")
    (held.path / "flow.yaml").write_text(f'{text}  c: {{run: "{HOLD}"}}\n')
    held.start("resume", "r", tasks_up=1)
    assert held.why("x[1]")[:2] == [
        "x[1] is PENDING: waits until the list of x is read again",
        "x is PENDING: waits for 'c' (rule all_success)",
    ]


def test_a_task_that_the_workflow_no_longer_has(held: Held) -> None:
    first = held.run('tasks: {a: {run: "HOLD"}, b: {run: "HOLD"}}', tasks_up=2)
    first.kill()
    first.wait()
    (held.path / "flow.yaml").write_text(f'tasks: {{a: {{run: "{HOLD}"}}}}')
    held.start("resume", "r")
    assert held.why("b")[0] == "b is PENDING: the workflow no longer has it, so the run does not run it"


# -- attempts that are repeated ----------------------------------------------------------------------------------------


def test_a_task_waits_for_its_next_attempt(held: Held) -> None:
    run = held.run(
        'tasks: {a: {run: exit 3, retries: 1, retry_delay: 5m}, b: {run: "true", depends_on: [a]}}', tasks_up=0
    )
    held.read_until(run, "UP_FOR_RETRY")
    first, second = held.why("b")
    assert first == "b is PENDING: waits for 'a' (rule all_success)"
    assert second.startswith("a is UP_FOR_RETRY: waits for its next attempt, since ")
    assert second.endswith(": exit code 3; attempt 2 in 300 s")


def test_a_hook_waits_for_its_next_attempt(held: Held) -> None:
    run = held.run('on_start: {run: exit 3, retries: 1, retry_delay: 5m}\ntasks: {a: {run: "true"}}', tasks_up=0)
    held.read_until(run, "UP_FOR_RETRY")
    first, second, _ = held.why("a")
    assert first == "a is PENDING: waits for the hook on_start of the run"
    assert second.startswith("on_start is UP_FOR_RETRY: waits for its next attempt, since ")


# -- runs without an owner ---------------------------------------------------------------------------------------------


def test_a_task_behind_one_that_an_interruption_has_ended(held: Held) -> None:
    run = held.run(
        """\
        tasks:
          a: {run: "HOLD"}
          slow: {run: "trap '' TERM INT; HOLD", kill_grace: 60}
          b: {run: "true", depends_on: [a]}
          last: {run: "true", depends_on: [a], trigger_rule: all_done}
        """,
        tasks_up=2,
    )
    run.send_signal(signal.SIGINT)
    held.wait_for_status("r", "a", "CANCELLED")
    assert held.why("b")[0] == (
        "b is PENDING: the run is being interrupted: 'a' was cancelled; `lightflow resume r` runs it"
    )
    assert held.why("last")[0] == held.why("b")[0].replace("b is", "last is")


@pytest.mark.parametrize("how", ["interrupted", "killed"])
def test_a_task_of_an_interrupted_run_waits_for_a_resume(held: Held, how: str) -> None:
    run = held.run('tasks: {a: {run: "HOLD"}, b: {run: "true", depends_on: [a]}}')
    run.send_signal(signal.SIGINT if how == "interrupted" else signal.SIGKILL)
    run.communicate(timeout=LIMIT_S)
    sentences = held.why("b")
    assert sentences[0] == "b is PENDING: the run is INTERRUPTED: `lightflow resume r` runs it"
    assert len(sentences) == 2
    assert sentences[1].startswith("the run is INTERRUPTED: ")


def test_a_retry_of_an_interrupted_run_waits_for_a_resume(held: Held) -> None:
    run = held.run("tasks: {a: {run: exit 3, retries: 1, retry_delay: 5m}}", tasks_up=0)
    held.read_until(run, "UP_FOR_RETRY")
    run.kill()
    run.wait()
    assert held.why("a")[0] == (
        "a is UP_FOR_RETRY: the run is INTERRUPTED: `lightflow resume r` runs it; exit code 3; attempt 2 in 300 s"
    )


def test_a_queued_run_whose_owner_is_dead_waits_for_a_resume(held: Held) -> None:
    flow = 'name: flow\nconcurrency: 1\ntasks: {a: {run: "HOLD"}}'
    held.run(flow, run_id="one")
    two = held.run(flow, run_id="two", tasks_up=0)
    held.wait_for_queued(1)
    two.kill()
    two.wait()
    assert held.why("a", "two")[0] == "a is PENDING: the run is INTERRUPTED: `lightflow resume two` runs it"


def test_a_queued_attempt_of_a_dead_owner_waits_for_a_resume(held: Held) -> None:
    (held.path / "script.py").write_text(
        textwrap.dedent(
            """\
            from liteflow import Dag
            from liteflow.running import places
            from liteflow.running.prefetch import PrefetchLimits

            places.NEAR = PrefetchLimits(short_s=60.0, queue_s=6000.0, most=64)

            def nothing(): pass

            def hold():
                with open("up", "w") as up:
                    up.write("up\\n")
                open("gate").read()

            dag = Dag("d", "lightflow.db")
            join = dag.task(nothing, "join")
            join << [dag.task(nothing, f"short_{number}") for number in range(300)]
            for number in range(3):
                join >> dag.task(hold, f"long_{number}")
            dag.run(1, "thread", run_id="r")
            """
        )
    )
    script = held.start(command=[sys.executable, "script.py"])
    held.wait_for_status("r", "long_2", "QUEUED")
    script.kill()
    script.wait()
    assert held.why("long_2")[0] == (
        "long_2 is QUEUED: the run is INTERRUPTED: `lightflow resume r` runs it; whether its attempt 1 had started is "
        "unknown"
    )


def test_a_hook_of_a_cancelled_run_waits_for_a_resume(held: Held) -> None:
    run = held.run('tasks: {a: {run: "exit 1", on_failure: "HOLD"}}')
    for _ in range(2):  # the second one ends hooks, too
        run.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(1)
    run.communicate(timeout=LIMIT_S)
    sentences = held.why("a.on_failure")
    assert sentences[0].startswith("a.on_failure is PENDING: the run is INTERRUPTED: `lightflow resume r` runs it")
