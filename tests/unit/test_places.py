"""Runs whose tasks start on clusters: what starts where and when, without other machines."""

from __future__ import annotations

import random
from typing import Any

import pytest
from driving import Drive, scripted
from fakes import Crashed, Ends

from liteflow import Call, Command, Dag, DefinitionError, Observer, Pool
from liteflow.planning.retry import PLACE_LEFT
from liteflow.record import replace
from liteflow.remote.cluster import Cluster
from liteflow.running.config import RunConfig
from liteflow.running.places import far_tasks, modes_of
from liteflow.state.history import History
from liteflow.state.locks import LockFile
from liteflow.state.records import NewInstance, NewRun
from liteflow.state.store import Store
from liteflow.work import Poll, Work


def _cluster(slots: int) -> Cluster:
    return Cluster(argv=("false",), slots=slots)


def _nothing() -> None:
    """Do nothing."""


def _dag(slots: dict[str, int], modes: dict[str, str | None], **options: Any) -> Dag:
    """Return a dag of these clusters and tasks, which do not depend on each other."""
    dag = Dag("flow", clusters={name: _cluster(each) for name, each in slots.items()}, pools={"gpu": 1})
    for name, mode in modes.items():
        dag.task(_nothing, name, mode=mode, **options)
    return dag


def _drive(dag: Dag, mode: str = "process", **options: Any) -> tuple[Drive, dict[str, str]]:
    """Return a drive, and the place of each task that has started."""
    places: dict[str, str] = {}
    drive = Drive(dag, config={"mode": mode}, **options)
    inner = drive.script

    def script(work: Work) -> Ends:
        places[work.task_id] = work.place
        return inner(work)

    drive.script = script
    return drive, places


def test_a_task_starts_where_its_mode_says_or_that_of_the_run() -> None:
    drive, places = _drive(_dag({"big": 1, "lab": 1}, {"a": None, "b": "lab", "c": "thread"}), "big")
    drive.check_end(drive.run())
    assert places == {"a": "big", "b": "lab", "c": ""}


def test_tasks_that_take_resources_of_their_machines_have_a_cluster_of_their_own() -> None:
    pools = {"gpu": Pool(4, resource="GPU"), "licence": Pool(2, resource="GPU"), "plain": Pool(2)}
    clusters = {"big": replace(_cluster(4), takes_resources=True), "lab": _cluster(4)}
    dag = Dag("flow", clusters=clusters, pools=pools)
    for name, mode, needs in (
        ("a", "big", {}),
        ("b", "big", {"plain": 1}),
        ("c", "big", {"gpu": 1}),
        ("d", "big", {"gpu": 2, "licence": 1}),
        ("e", "lab", {"gpu": 1}),
        ("f", "process", {"gpu": 1}),
    ):
        dag.task(_nothing, name, mode=mode, resources=needs)
    config = RunConfig(db_path="", run_id="r", max_workers=1, clusters=clusters)
    far = far_tasks(dag.compile(), config)
    modes = modes_of(dag.compile(), config, far)
    assert modes == {"a": "big", "b": "big", "c": "big GPU=1", "d": "big GPU=3", "e": "lab", "f": "process"}
    words = {place: cluster.argv for place, cluster in far.clusters.items()}
    plain = ("false",)
    assert words == {"big": plain, "big GPU=1": (*plain, "GPU=1"), "big GPU=3": (*plain, "GPU=3"), "lab": plain}


def test_each_place_has_slots_of_its_own() -> None:
    modes = {"f0": "lab", "f1": "lab", "f2": "lab", "h0": None, "h1": None, "h2": None}
    drive, _ = _drive(_dag({"lab": 2}, modes), workers=1)
    drive.check_end(drive.run())
    assert drive.starts == [(0.0, "f0"), (0.0, "f1"), (0.0, "h0"), (1.0, "f2"), (1.0, "h1"), (2.0, "h2")]


def test_a_task_without_a_slot_of_its_cluster_stays_pending_until_there_is_one() -> None:
    drive, _ = _drive(_dag({"lab": 1}, {"a": "lab", "b": "lab"}))

    def look(drive: Drive) -> None:
        assert drive.states() == {"a": "PENDING", "b": "PENDING"}
        assert not drive.executor.running
        drive.executor.clusters["lab"] = 1

    drive.slots = lambda: {"lab": 0}  # type: ignore[method-assign]  # no agent has come yet
    drive.actions = [(5.0, look)]
    drive.check_end(drive.run())
    assert [task_id for _, task_id in drive.starts] == ["a", "b"]
    assert drive.starts[0][0] >= 5.0
    assert not any(event.status == "QUEUED" for event in drive.file.events)


def test_the_executor_learns_how_many_wait_for_a_slot() -> None:
    drive, _ = _drive(_dag({"lab": 2}, dict.fromkeys("abcde", "lab")))
    drive.check_end(drive.run())
    assert drive.executor.wanted == [("lab", 3), ("lab", 1), ("lab", 0)]


def test_a_pool_and_a_place_both_apply() -> None:
    drive, places = _drive(_dag({"lab": 3}, dict.fromkeys("abc", "lab"), pool="gpu"))
    drive.check_end(drive.run())
    assert drive.starts == [(0.0, "a"), (1.0, "b"), (2.0, "c")]
    assert set(places.values()) == {"lab"}


def test_hooks_waits_and_calls_that_say_so_stay_here() -> None:
    dag = Dag("flow", clusters={"lab": _cluster(1)}, on_success=_nothing)
    dag.task(_nothing, "far", on_failure=_nothing)
    dag.add("waits", Call(_nothing, poll=Poll(func=_nothing)))
    dag.add("undone", Command(("true",), undo=Call(_nothing)))
    dag.add("opens_a_file", Call(_nothing, lane="here"))
    drive, places = _drive(dag, "lab", script=scripted({"far": Ends(verdict="FAILED")}))
    assert drive.run().status == "FAILED"
    assert places == {"far": "lab", "waits": "", "undone": "lab", "opens_a_file": "", "far.on_failure": ""}
    config = RunConfig(db_path="x", run_id="r", max_workers=1, mode="lab", clusters=dag.limits.clusters)
    modes = modes_of(dag.compile(), config, far_tasks(dag.compile(), config))
    assert modes == {
        "far": "lab",
        "waits": "process",
        "undone": "lab",
        "opens_a_file": "process",
        "far.on_failure": "process",
        "on_success": "process",
    }


@pytest.mark.parametrize("body", [Call(_nothing, poll=Poll(func=_nothing)), Call(_nothing, lane="here")])
def test_a_task_that_cannot_leave_this_machine_cannot_have_a_cluster_as_its_mode(body: Any) -> None:
    dag = Dag("flow", clusters={"lab": _cluster(1)})
    dag.add("stays", body, mode="lab")
    with pytest.raises(DefinitionError, match="task 'stays' cannot run on cluster 'lab'"):
        dag.compile()


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("lap", "task 'a': there is no mode 'lap'; did you mean 'lab'?"),
        ("quantum", "task 'a': there is no mode 'quantum'; declare a cluster of that name: Dag(…, clusters={…})"),
    ],
)
def test_an_unknown_mode_is_refused_with_the_nearest_one(mode: str, message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        _dag({"lab": 1}, {"a": mode}).compile()
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ({"a b": _cluster(1)}, "cluster 'a b': use letters"),
        ({"thread": _cluster(1)}, "cluster 'thread': this is a mode of this machine"),
        ({"lab": "node1"}, "cluster 'lab': 'node1' must be made by"),
        ({"lab": _cluster(0)}, "cluster 'lab': slots=0 must be a whole number, 1 or more"),
    ],
)
def test_wrong_clusters_are_refused(clusters: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Dag("flow", clusters=clusters)


# -- what the state file says of machines ------------------------------------------------------------------------------


def test_the_machine_of_a_long_attempt_is_stored_while_it_runs_and_that_of_a_short_one_is_not() -> None:
    script = scripted({"long": Ends(after_s=2.0), "short": Ends(after_s=0.2), "here": Ends(after_s=2.0)})
    drive, _ = _drive(_dag({"lab": 2}, {"long": "lab", "short": "lab", "here": None}), script=script)
    hosts: list[dict[str, str | None]] = []

    def look(drive: Drive) -> None:
        hosts.append({task_id: row.host for (task_id, _), row in drive.file.rows.items()})

    drive.actions = [(1.5, look), (2.5, look)]
    drive.check_end(drive.run())
    assert hosts[0] == {"long": "lab1", "short": None, "here": None}
    noted = [event.task_id for event in drive.file.events if (event.previous, event.status) == ("RUNNING", "RUNNING")]
    assert noted == ["long"], "once, and not for an attempt that ends soon"


def test_the_slots_of_each_cluster_are_stored_when_they_change() -> None:
    drive, _ = _drive(
        _dag({"lab": 1, "big": 2}, {"a": "lab", "b": "big"}), script=scripted(dict.fromkeys("ab", Ends(after_s=3.0)))
    )
    seen: list[dict[str, int]] = []

    def look(drive: Drive) -> None:
        seen.append({place["cluster"]: place["slots"] for place in drive.file.places})
        drive.executor.clusters["big"] = 7

    drive.actions = [(1.0, look), (2.0, look)]
    drive.check_end(drive.run())
    assert seen == [{"lab": 1, "big": 2}, {"lab": 1, "big": 7}]


# -- places that die ---------------------------------------------------------------------------------------------------


def test_a_lost_attempt_is_started_again_as_often_as_max_lost_says() -> None:
    dag = Dag("flow", clusters={"lab": _cluster(1)}, max_lost=1)
    dag.task(_nothing, "a", mode="lab")
    drive, _ = _drive(dag, script=scripted({"a": Ends(verdict="LOST")}))
    assert drive.run().status == "FAILED"
    assert drive.file.rows["a", -1].attempt == 2
    assert (drive.file.rows["a", -1].reason or "").startswith("lost 2 times: ")


def test_a_place_that_had_to_end_is_no_reason_to_give_up() -> None:
    left = Ends(verdict="LOST", codes=(PLACE_LEFT,))
    dag = _dag({"lab": 1}, {"a": "lab"})
    drive, _ = _drive(dag, script=scripted({"a": [left] * 9 + [Ends()]}))
    drive.check_end(drive.run())
    assert drive.file.rows["a", -1].attempt == 10


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_to_the_clusters_every_task_ends_and_no_slot_is_used_twice(seed: int) -> None:
    picks = random.Random(seed)
    dag = Dag("flow", clusters={"lab": _cluster(2), "big": _cluster(5)}, pools={"gpu": 2})
    names: list[str] = []
    for number in range(picks.randint(1, 15)):
        options: dict[str, Any] = {"mode": picks.choice([None, "lab", "big"]), "priority": picks.randint(0, 1)}
        if picks.random() < 0.3:
            options["pool"] = "gpu"
        task = dag.task(_nothing, f"t{number}", **options)
        task.dependencies.update(picks.sample(names, min(len(names), picks.randint(0, 2))))
        names.append(task.task_id)

    def script(work: Work) -> Ends:
        lost = bool(work.place) and picks.random() < 0.2
        codes = (PLACE_LEFT,) if lost else ()
        return Ends(verdict="LOST" if lost else "SUCCESS", after_s=picks.choice([0.1, 1.0]), codes=codes)

    def change_size(drive: Drive) -> None:
        drive.executor.clusters["lab"] = picks.randint(1, 3)

    drive = Drive(dag, script=script, actions=[(float(second), change_size) for second in range(1, 6)])
    for _ in range(3):
        try:
            start = drive.resume if drive.file.events else drive.run
            start(crash_at=picks.randint(1, 8))
        except Crashed:
            continue
        break
    else:
        drive.check_end(drive.resume())
    assert set(drive.states().values()) == {"SUCCESS"}


# -- a dead owner ------------------------------------------------------------------------------------------------------


class _Listener(Observer):
    """Collects why a run waits."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def waiting(self, reason: str) -> None:
        self.reasons.append(reason)


def test_a_resume_waits_for_the_agents_of_a_dead_owner(db: str) -> None:
    dag = Dag("flow", db)
    dag.add("a", Command(("true",)))
    locks = LockFile(db)
    store = Store(db, locks)
    settings = {"mode": "process", "clusters": {"lab": {"slots": 1, "lease_s": 15.0}}}
    instances = [NewInstance("a", [], None)]
    store.create(
        NewRun(run_id="r", dag_id="flow", graph_digest="d", graph_snapshot="{}", instances=instances, settings=settings)
    )
    store.batch.start_attempt("a", -1, 1, "PENDING", None, 1.0)
    store.commit()
    store.close()
    locks.close()  # as the kernel does when a process dies
    listener = _Listener()
    assert dag.resume("r", observers=[listener]).status == "SUCCESS"
    assert listener.reasons == ["run r: its owner is dead, but its tasks on clusters still end, within 1 s"]
    with History(db) as history:
        assert [attempt.status for attempt in history.attempts("r")] == ["LOST", "SUCCESS"]
