"""A workflow on a real Dask cluster whose workers come, leave and restart; and what its tasks wait for meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dask_kit import DaskCluster, dask_cluster, need_dask

from liteflow.state.history import History

need_dask()

from distributed import Client, LocalCluster  # noqa: E402

LIMIT_S = 120.0
TASKS = 6
MEMORY_BYTES = 400 * 1024 * 1024  # of a worker that has a limit: more than it needs for itself
#: A task that says when an attempt begins while another one of it lives.
SCRIPT = """
exec 9>>"$LIGHTFLOW_TASK$LIGHTFLOW_MAP_INDEX.lock"
flock -n 9 || echo "$LIGHTFLOW_TASK" >>overlaps
echo "$LIGHTFLOW_TASK" >>starts
while [ ! -e gate ]; do sleep 0.05; done
echo "$LIGHTFLOW_TASK" >>ends
"""


class Workflow:
    """A folder with a workflow whose tasks run on a Dask cluster."""

    def __init__(self, folder: Path, address: str, text: str) -> None:
        self.folder = folder
        (folder / "task.sh").write_text(SCRIPT)
        (folder / "flow.yaml").write_text(text.replace("ADDRESS", address))
        self._run: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self, *, succeeds: bool = True) -> Iterator[subprocess.Popen[bytes]]:
        """Run it until the end of the block, when its gate opens; it has to succeed, or to fail."""
        command = [sys.executable, "-m", "lightflow", "run", "flow.yaml", "--quiet"]
        with (self.folder / "out").open("wb") as out:
            run = subprocess.Popen(command, cwd=self.folder, stdout=out, stderr=out)
        try:
            yield run
            (self.folder / "gate").touch()
            assert (run.wait(LIMIT_S) == 0) is succeeds, (self.folder / "out").read_text()
        finally:
            run.kill()
            run.wait()

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    def await_starts(self, count: int) -> None:
        until(lambda: len(self.lines("starts")) >= count, lambda: (self.folder / "out").read_text())

    def await_reason(self, task_id: str, reason: str) -> None:
        """Wait until `lightflow why` has these words about a task."""
        until(lambda: reason in self.why(task_id), lambda: self.why(task_id))

    def why(self, task_id: str) -> str:
        command = [sys.executable, "-m", "lightflow", "why", task_id]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False).stdout


def until(condition: Callable[[], object], why: Callable[[], object]) -> None:
    give_up = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < give_up, why()
        time.sleep(0.05)


# -- what tasks wait for -----------------------------------------------------------------------------------

WAITS = """
clusters: {big: {dask: "ADDRESS", slots: 1}}
pools: {gpu: {slots: 9, resource: GPU}}
settings: {mode: big}
tasks:
  special: {run: echo special >>ends, pool: gpu}
  plain: {foreach: [1, 2, 3], run: sh task.sh}
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_tasks_whose_resource_no_worker_has_leave_the_slots_to_others_until_one_comes(tmp_path: Path) -> None:
    with dask_cluster(tmp_path, workers=1, threads=1) as cluster:
        flow = Workflow(tmp_path, cluster.address, WAITS)
        with flow.running():
            flow.await_starts(1)
            flow.await_reason("special", "waits for a slot of big, with 1 GPU: no worker of Dask has 1 GPU")
            assert flow.lines("ends") == []
            cluster.add_worker("GPU=1")
    assert sorted(flow.lines("ends")) == ["plain", "plain", "plain", "special"]
    assert flow.lines("overlaps") == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_tasks_wait_for_workers_that_are_busy_with_what_others_do(tmp_path: Path) -> None:
    text = 'clusters: {big: {dask: "ADDRESS", slots: 2}}\nsettings: {mode: big}\ntasks: {a: {run: sh task.sh}}\n'
    with (
        dask_cluster(tmp_path, workers=1, threads=1) as cluster,
        Client(cluster.address, set_as_default=False) as client,
    ):
        flow = Workflow(tmp_path, cluster.address, text)
        wait = f"while [ ! -e {tmp_path}/other ]; do sleep 0.02; done"
        other = client.submit(os.system, wait)
        with flow.running():
            flow.await_reason("a", "the worker of Dask is busy with other tasks")
            (tmp_path / "other").touch()
            flow.await_starts(1)
        other.result()


SHARED = """
clusters: {big: {dask: "ADDRESS", slots: 2}}
pools: {gpu: {slots: 9, resource: GPU}}
settings: {mode: big}
tasks:
  special1: {run: sh task.sh, pool: gpu}
  special2: {run: sh task.sh, pool: gpu}
  plain1: {run: sh task.sh}
  plain2: {run: sh task.sh}
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_task_that_waits_says_how_many_slots_tasks_with_other_resources_have(tmp_path: Path) -> None:
    others = "1 of the 2 slots of big is with tasks that take other resources"
    with dask_cluster(tmp_path, workers=1, threads=4, resources="GPU=4") as cluster:
        flow = Workflow(tmp_path, cluster.address, SHARED)
        with flow.running():
            flow.await_reason("special2", f"waits for a slot of big, with 1 GPU (1 of 1 is in use: special1); {others}")
            flow.await_reason("plain2", f"waits for a slot of big (1 of 1 is in use: plain1); {others}")
        assert sorted(flow.lines("ends")) == ["plain1", "plain2", "special1", "special2"]


# -- what becomes of workers -------------------------------------------------------------------------------

EVENTS = (
    'clusters: {big: {dask: "ADDRESS", slots: 4, lease: 10s}}\nsettings: {mode: big, max_lost: 20}\ntasks:\n'
    + "".join(f"  t{number}: {{run: sh task.sh}}\n" for number in range(TASKS))
)


def retire_a_worker(cluster: DaskCluster, client: Any) -> None:
    client.retire_workers([min(client.scheduler_info()["workers"])])


def restart_a_worker(cluster: DaskCluster, client: Any) -> None:
    client.restart_workers([min(client.scheduler_info()["workers"])], timeout=LIMIT_S)


def restart_all(cluster: DaskCluster, client: Any) -> None:
    client.restart(timeout=LIMIT_S)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("event", [retire_a_worker, restart_a_worker, restart_all])
def test_a_run_goes_on_whatever_becomes_of_workers(tmp_path: Path, event: Callable[[DaskCluster, Any], None]) -> None:
    with (
        dask_cluster(tmp_path, workers=2, threads=2) as cluster,
        Client(cluster.address, set_as_default=False) as client,
    ):
        flow = Workflow(tmp_path, cluster.address, EVENTS)
        with flow.running():
            flow.await_starts(4)
            event(cluster, client)
        assert sorted(flow.lines("ends")) == [f"t{number}" for number in range(TASKS)]
        assert flow.lines("overlaps") == []


MAX_LOST = 1
LIMITED = (
    f'clusters: {{big: {{dask: "ADDRESS", slots: 1}}}}\nsettings: {{mode: big, max_lost: {MAX_LOST}}}\n'
    "tasks: {a: {run: sh task.sh}}\n"
)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("restarts", [MAX_LOST, MAX_LOST + 1])
def test_an_attempt_is_lost_when_a_nanny_restarts_a_worker_that_exceeds_its_memory(
    tmp_path: Path, restarts: int
) -> None:
    """The memory is that of the worker: something else that it runs exceeds it. The task runs again up to its bound."""

    async def exceed_memory(dask_worker: Any) -> None:
        dask_worker.ballast = bytearray(b"x") * MEMORY_BYTES

    is_within_bound = restarts <= MAX_LOST
    with (
        dask_cluster(tmp_path, workers=1, threads=1, memory=f"{MEMORY_BYTES} B") as cluster,
        Client(cluster.address, set_as_default=False) as client,
    ):
        flow = Workflow(tmp_path, cluster.address, LIMITED)
        with flow.running(succeeds=is_within_bound) as run:
            for restart in range(restarts):
                flow.await_starts(restart + 1)
                client.run(exceed_memory, wait=False)
            if is_within_bound:
                flow.await_starts(restarts + 1)
            else:
                run.wait(LIMIT_S)
    assert flow.lines("overlaps") == []
    with History(str(tmp_path / "lightflow.db")) as history:
        statuses = [attempt.status for attempt in history.attempts(history.latest().run_id)]
    assert statuses == ["LOST"] * restarts + ["SUCCESS"] * is_within_bound


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_slots_bring_the_workers_of_an_adaptive_cluster_and_let_them_go(tmp_path: Path) -> None:
    options = {"dashboard_address": ":0", "worker_dashboard_address": ":0", "local_directory": str(tmp_path)}
    with LocalCluster(n_workers=0, threads_per_worker=2, **options) as cluster:
        cluster.adapt(minimum=0, maximum=2, interval="500ms")
        flow = Workflow(tmp_path, cluster.scheduler_address, EVENTS)
        with flow.running():
            flow.await_starts(4)
        assert sorted(flow.lines("starts")) == [f"t{number}" for number in range(TASKS)]
        until(lambda: not cluster.scheduler.workers, lambda: cluster.scheduler.workers)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_waits_for_a_scheduler_that_is_started_again(tmp_path: Path) -> None:
    """Its workers end by themselves, and new ones take the tasks."""
    with dask_cluster(tmp_path, workers=2, threads=2) as cluster:
        flow = Workflow(tmp_path, cluster.address, EVENTS)
        with flow.running():
            flow.await_starts(4)
            os.kill(cluster.scheduler, signal.SIGKILL)
            os.waitpid(cluster.scheduler, 0)
            cluster.revive()
            cluster.await_end_of_workers()
            waiting = sorted({f"t{number}" for number in range(TASKS)} - {*flow.lines("starts")})
            flow.await_reason(waiting[0], "the scheduler of Dask has no worker")
            cluster.revive()
            cluster.await_workers()
            flow.await_starts(8)
        assert sorted(flow.lines("ends")) == [f"t{number}" for number in range(TASKS)]
        assert flow.lines("overlaps") == []
