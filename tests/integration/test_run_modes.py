"""The same dag in every mode: the same values, states and history. Functions stand at the top level, so that a
process with threads (a pytest-xdist worker is one) can start fresh interpreters that find them."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from liteflow import Dag, SkipTask, current_context
from liteflow.state.history import History

MODES = ["inline", "thread", "process", "async"]


def first() -> dict[str, Any]:
    return {"n": 1, "t": (1, {2}), "none": None}


def second(first: dict[str, Any], more: list[Any]) -> Any:
    return [first["t"], more]


async def third(second: Any) -> Any:
    await asyncio.sleep(0)
    return [second, current_context().task_id]


def fail() -> None:
    raise ValueError("boom\nsecond line")


def skip() -> None:
    raise SkipTask("nothing to do")


def pushes() -> str:
    current_context().xcom_push("side", {1, 2})
    return "main"


def pulls(pushes: str) -> Any:
    context = current_context()
    return [pushes, context.xcom_pull("pushes", "side"), context.xcom_pull("nobody", default="d")]


def pushes_and_fails() -> None:
    current_context().xcom_push("side", 1)
    raise ValueError("after the push")


def unstorable() -> Any:
    return threading.Lock()


def exits() -> None:
    raise SystemExit(3)


def flaky(trail: str) -> int:
    with open(trail, "a", encoding="utf-8") as file:
        file.write("try\n")
    if current_context().attempt < 3:
        raise OSError("not yet")
    return current_context().attempt


def hang(trail: str) -> None:
    with open(trail, "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    while True:
        time.sleep(0.01)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def speak(word: str) -> None:
    print(word)


def meet(folder: str, me: str, other: str) -> bool:
    """Come back when the other one is here too: true only where both run at once."""
    Path(folder, me).touch()
    give_up = time.monotonic() + 120
    while not Path(folder, other).exists():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.002)
    return True


def identity() -> list[int]:
    return [os.getpid(), threading.get_ident()]


@pytest.mark.parametrize("mode", MODES)
def test_values(db: str, mode: str) -> None:
    with Dag("flow", db) as dag:
        a = dag.task(first)
        dag.task(second, more=[a, {"k": a}])
        dag.task(third)
    run = dag.run(mode=mode).raise_for_failure()
    whole = {"n": 1, "t": (1, {2}), "none": None}
    assert run.value("third") == [[(1, {2}), [whole, {"k": whole}]], "third"]


@pytest.mark.parametrize("mode", MODES)
def test_states(db: str, mode: str) -> None:
    with Dag("flow", db) as dag:
        bad, skipped = dag.task(fail), dag.task(skip)
        bad >> dag.task(first, task_id="below_bad")
        skipped >> dag.task(first, task_id="below_skip")
        [bad, skipped] >> dag.task(first, task_id="anyway", trigger_rule="all_done")
        bad >> dag.task(first, task_id="alarm", trigger_rule="one_failed")
        dag.task(exits)
        dag.task(unstorable)
    run = dag.run(mode=mode)
    assert run.status == "FAILED"
    assert run.statuses() == {
        "fail": "FAILED",
        "skip": "SKIPPED",
        "below_bad": "UPSTREAM_FAILED",
        "below_skip": "SKIPPED",
        "anyway": "SUCCESS",
        "alarm": "SUCCESS",
        "exits": "FAILED",
        "unstorable": "FAILED",
    }
    assert "cannot be stored" in run.failures()["unstorable"]
    with History(db) as history:
        bad_one = history.instance(run.run_id, "fail")
        assert bad_one is not None
        assert bad_one.reason == "ValueError: boom ⏎ second line"
        assert 'raise ValueError("boom\\nsecond line")' in str(bad_one.error_log)
        assert "liteflow/executors" not in str(bad_one.error_log), "the traceback begins with the user's code"
        assert history.instance(run.run_id, "skip").reason == "nothing to do"  # type: ignore[union-attr]
        assert history.attempts(run.run_id, "exits")[0].exit_code == 3


@pytest.mark.parametrize("mode", MODES)
def test_xcoms(db: str, mode: str) -> None:
    with Dag("flow", db) as dag:
        dag.task(pushes)
        dag.task(pulls)
        dag.task(pushes_and_fails)
    run = dag.run(mode=mode)
    assert run.value("pulls") == ["main", {1, 2}, "d"]
    assert run.value("pushes", "side") == {1, 2}
    assert run.value("pushes_and_fails", "side", "nothing") == "nothing", "a failed attempt hands on nothing"


@pytest.mark.parametrize("mode", MODES)
def test_retries(db: str, trail: Any, mode: str) -> None:
    with Dag("flow", db) as dag:
        dag.task(flaky, trail=trail.path, retries=4)
    run = dag.run(mode=mode)
    assert run.value("flaky") == 3
    assert trail.words() == ["try"] * 3
    with History(db) as history:
        assert [entry.status for entry in history.attempts(run.run_id)] == ["FAILED", "FAILED", "SUCCESS"]


@pytest.mark.parametrize("mode", ["thread", "process", "async"])
def test_a_timeout_ends_the_task_in_every_mode(db: str, trail: Any, mode: str) -> None:
    with Dag("flow", db) as dag:
        dag.task(hang, trail=trail.path, timeout=0.2, retries=1) >> dag.task(first, trigger_rule="all_done")
    run = dag.run(mode=mode)
    assert run.statuses() == {"hang": "FAILED", "first": "SUCCESS"}
    assert run.failures() == {"hang": "timed out after 0.2 s"}
    with History(db) as history:
        assert [entry.status for entry in history.attempts(run.run_id, "hang")] == ["TIMED_OUT", "TIMED_OUT"]
    for pid in map(int, trail.words()):
        assert pid != os.getpid()
        assert not os.path.exists(f"/proc/{pid}"), "it is dead, not abandoned"


def test_a_dead_worker_costs_its_own_task_only(db: str) -> None:
    with Dag("flow", db) as dag:
        dag.task(die)
        for number in range(8):
            dag.task(first, task_id=f"t{number}")
    run = dag.run(mode="process", max_workers=2)
    assert set(run.statuses().values()) == {"FAILED", "SUCCESS"}
    assert list(run.failures()) == ["die"]
    assert "SIGKILL" in run.failures()["die"]


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_tasks_run_at_once(db: str, tmp_path: Path, mode: str) -> None:
    with Dag("flow", db) as dag:
        for me, other in (("a", "b"), ("b", "a")):
            dag.task(meet, task_id=me, folder=str(tmp_path), me=me, other=other)
    run = dag.run(mode=mode, max_workers=2)
    assert [run.value("a"), run.value("b")] == [True, True]


def test_a_thousand_coroutines_wait_at_once(db: str) -> None:
    barrier = asyncio.Barrier(500)

    async def wait() -> int:
        async with asyncio.timeout(30):
            await barrier.wait()
        return 1

    with Dag("flow", db) as dag:
        for number in range(500):
            dag.task(wait, task_id=f"t{number}")
    assert dag.run(mode="async").status == "SUCCESS"


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_max_workers_is_a_limit(db: str, mode: str) -> None:
    with Dag("flow", db) as dag:
        for number in range(12):
            dag.task(first, task_id=f"t{number}")
    run = dag.run(mode=mode, max_workers=3)
    with History(db) as history:
        running = 0
        for event in history.events(run.run_id):
            if event.task_id is not None:
                running += 1 if event.status == "RUNNING" else -1
                assert running <= 3


def test_a_task_may_choose_its_own_mode(db: str) -> None:
    with Dag("flow", db) as dag:
        dag.task(identity, task_id="here", mode="inline")
        dag.task(identity, task_id="thread")
        dag.task(identity, task_id="process", mode="process")
    run = dag.run(mode="thread")
    me = [os.getpid(), threading.get_ident()]
    assert run.value("here") == me
    assert run.value("thread")[0] == me[0]
    assert run.value("thread")[1] != me[1]
    assert run.value("process")[0] != me[0]


@pytest.mark.parametrize("mode", MODES)
def test_output_goes_to_a_log_of_its_own(db: str, tmp_path: Path, mode: str, capfd: pytest.CaptureFixture[str]) -> None:
    with Dag("flow", db) as dag:
        for word in ("one", "two"):
            dag.task(speak, task_id=word, word=word)
        dag.task(first)
    run = dag.run(mode=mode, log_dir=str(tmp_path / "logs"))
    with History(db) as history:
        logs = {entry.task_id: entry.log_path for entry in history.attempts(run.run_id)}
    assert logs["first"] is None, "no output, no file"
    for word in ("one", "two"):
        assert Path(str(logs[word])).read_text() == f"{word}\n"
        assert Path(str(logs[word])).name.startswith(f"task_{word}_")
    assert len(list((tmp_path / "logs").iterdir())) == 2
    assert "one" not in capfd.readouterr().out
