"""What runs that share slots may rely on: never more than there are, in turn, and nothing lost with a dead owner."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from liteflow.errors import DefinitionError, GroupBusy, RunSkipped
from liteflow.limits import Concurrency, Pool
from liteflow.planning.ready_queue import SlotNeeds
from liteflow.state.locks import LockFile
from liteflow.state.pools import SlotAllocator, SlotChange
from liteflow.state.state_file import Transaction, connect


class Ask(NamedTuple):
    task_id: str
    map_index: int
    needs: SlotNeeds


class Run:
    """A live run, as far as its slots go."""

    def __init__(self, db: str, number: int) -> None:
        self.locks = LockFile(db)
        assert self.locks.acquire(number)
        self.connection = connect(db)
        self.now_s = 0.0
        self.slots = SlotAllocator(self.connection, self.locks, number, f"r{number}", lambda: self.now_s)

    def declare(self, **pools: int | None) -> None:
        with Transaction(self.connection, self.locks):
            self.slots.declare({name: Pool(slots) for name, slots in pools.items()}, {}, 1.0)

    def ask(self, task: str, **needs: int) -> bool:
        return self.ask_all((task, needs))[0]

    def ask_all(self, *asked: tuple[str, dict[str, int]]) -> list[bool]:
        with Transaction(self.connection, self.locks):
            return self.slots.grant([Ask(task, -1, tuple(sorted(needs.items()))) for task, needs in asked])

    def end(self, *tasks: str) -> None:
        with Transaction(self.connection, self.locks):
            self.slots.hold([SlotChange(task, -1, ()) for task in tasks])

    def come(self, place: Concurrency) -> str | None:
        with Transaction(self.connection, self.locks):
            return self.slots.request_group_slot(place, 1.0)

    def enter(self) -> bool:
        with Transaction(self.connection, self.locks):
            return self.slots.take_group_slot()

    def leave(self) -> None:
        with Transaction(self.connection, self.locks):
            self.slots.clear(group=True)

    def die(self) -> None:
        """What the kernel does when the last process of a run is gone."""
        self.connection.close()
        self.locks.close()


Runs = Callable[[int], list[Run]]


@pytest.fixture
def runs(db: str) -> Iterator[Runs]:
    made: list[Run] = []

    def make(count: int) -> list[Run]:
        made.extend(Run(db, len(made) + 1) for _ in range(count))
        return made

    yield make
    for run in made:
        run.die()


def rows(db: str, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(db)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_never_more_than_there_are(runs: Runs) -> None:
    one, two = runs(2)
    one.declare(gpu=3)
    assert one.ask_all(("a", {"gpu": 2}), ("b", {"gpu": 2}), ("c", {"gpu": 1})) == [True, False, True]
    assert not two.ask("x", gpu=1)
    one.end("c")
    assert two.ask("x", gpu=1)
    one.end("a")
    assert one.ask("b", gpu=2)


def test_all_pools_or_none(runs: Runs) -> None:
    one, two = runs(2)
    one.declare(a=1, b=1)
    assert one.ask("x", a=1)
    assert not two.ask("both", a=1, b=1)
    assert one.ask("y", b=1)  # what it lacks keeps it from holding the other
    one.end("x", "y")
    assert two.ask("both", a=1, b=1)


def test_a_dead_owner_holds_nothing_and_stands_in_nobodys_way(runs: Runs) -> None:
    one, two, three = runs(3)
    one.declare(gpu=1)
    assert one.ask("a", gpu=1)
    assert not two.ask("b", gpu=1)
    assert not three.ask("c", gpu=1)
    assert not three.slots.changed()
    one.die()
    assert three.slots.changed()
    assert not three.ask("c", gpu=1)  # two was before it
    two.die()
    assert three.slots.changed()
    assert three.ask("c", gpu=1)


def test_who_came_first_is_served_first(runs: Runs) -> None:
    one, two, three = runs(3)
    one.declare(gpu=1)
    assert one.ask("a", gpu=1)
    assert not two.ask("b", gpu=1)
    assert not three.ask("c", gpu=1)
    one.end("a")
    assert not one.ask("a2", gpu=1)  # the one who had it stands behind those who wait
    assert not three.ask("c", gpu=1)
    assert two.slots.changed()
    assert two.ask("b", gpu=1)
    two.end("b")
    assert three.ask("c", gpu=1)


def test_there_is_no_waiting_where_there_is_enough_for_both(runs: Runs) -> None:
    one, two, three = runs(3)
    one.declare(gpu=2)
    assert one.ask("a", gpu=2)
    assert not two.ask("b", gpu=1)
    one.end("a")
    assert three.ask("c", gpu=1)
    assert two.ask("b", gpu=1)


def test_a_process_that_was_stopped_does_not_stop_the_others(runs: Runs) -> None:
    one, two, three = runs(3)
    one.declare(gpu=1)
    assert one.ask("a", gpu=1)
    assert not two.ask("b", gpu=1)
    one.end("a")
    assert not three.ask("c", gpu=1)
    three.now_s = 1.9
    assert not three.slots.changed()
    assert not three.ask("c", gpu=1), "the second run may still take its turn"
    three.now_s = 2.1
    assert three.slots.changed()
    assert three.ask("c", gpu=1)


def test_one_that_needs_many_is_overtaken_ten_times_and_no_more(runs: Runs) -> None:
    one, two, three = runs(3)
    one.declare(gpu=2)
    assert one.ask("long", gpu=1)
    assert not two.ask("big", gpu=2)
    passed = 0
    while three.ask(f"small{passed}", gpu=1):
        three.end(f"small{passed}")
        passed += 1
        assert passed < 100
    assert passed == 10
    assert not one.ask("small", gpu=1)
    one.end("long")
    assert not three.ask(f"small{passed}", gpu=1)
    assert two.ask("big", gpu=2)


def test_the_last_declaration_counts_unless_the_size_was_set_by_hand(runs: Runs, db: str) -> None:
    (one,) = runs(1)
    one.declare(gpu=1, other=None)
    one.declare(gpu=3)
    one.declare(gpu=None)
    assert rows(db, "SELECT name, slots FROM liteflow_pools ORDER BY 1") == [("gpu", 3), ("other", 1)]
    from liteflow.state.admin import set_pool

    set_pool(db, "gpu", 2, "by hand")
    one.declare(gpu=5)
    assert rows(db, "SELECT slots, description, by_hand FROM liteflow_pools WHERE name='gpu'") == [(2, "by hand", 1)]
    with (
        pytest.raises(DefinitionError, match="needs 3 slots of pool 'gpu', which has 2"),
        Transaction(one.connection, one.locks),
    ):
        one.slots.declare({"gpu": Pool(5)}, {"t": (("gpu", 3),)}, 1.0)
    set_pool(db, "gpu", 0)
    with Transaction(one.connection, one.locks):  # paused: it waits, it is no mistake
        one.slots.declare({"gpu": Pool(5)}, {"t": (("gpu", 3),)}, 1.0)
    assert not one.ask("t", gpu=3)


def test_places_in_a_group(runs: Runs, db: str) -> None:
    one, two, three, four = runs(4)
    assert one.come(Concurrency("g")) is None
    assert two.come(Concurrency("g")) == "queued in group 'g' behind run r1"
    assert three.come(Concurrency("g")) is not None
    assert four.come(Concurrency("other")) is None
    assert not two.enter()
    one.leave()
    assert not three.enter()
    assert two.enter()
    two.die()
    assert three.enter()


@pytest.mark.parametrize(("rule", "error"), [("fail", GroupBusy), ("skip", RunSkipped)])
def test_a_run_that_shall_not_wait_leaves_no_row(runs: Runs, db: str, rule: str, error: type[Exception]) -> None:
    one, two = runs(2)
    assert one.come(Concurrency("g")) is None
    with pytest.raises(error, match="run r1 is running in group 'g'"):
        two.come(Concurrency("g", 1, rule))  # type: ignore[arg-type]
    assert rows(db, "SELECT run_id FROM liteflow_slots") == [("r1",)]
    one.die()
    assert two.come(Concurrency("g", 1, rule)) is None  # type: ignore[arg-type]


def test_a_run_that_takes_the_place_asks_as_many_to_end_as_it_must(runs: Runs, db: str) -> None:
    one, two, three, four = runs(4)
    assert one.come(Concurrency("g", 2)) is None
    assert two.come(Concurrency("g", 2)) is None
    assert three.come(Concurrency("g", 2)) is not None
    assert four.come(Concurrency("g", 2, "cancel")) is not None
    assert rows(db, "SELECT run_id, action FROM liteflow_requests ORDER BY 1") == [("r1", "cancel"), ("r3", "cancel")]
