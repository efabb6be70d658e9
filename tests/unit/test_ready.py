"""The queue of tasks that may start: priorities, limits of parallel instances, and tasks that need slots."""

from __future__ import annotations

import random

from plans import make_plan

from liteflow.planning.graph import Graph
from liteflow.planning.ready_queue import QueueOptions, ReadyQueue


def drain(ready: ReadyQueue) -> list[int]:
    result = []
    while (node := ready.pop()) is not None:
        result.append(node)
    return result


def test_without_options_it_is_a_queue() -> None:
    ready = ReadyQueue()
    for node in (3, 1, 2):
        ready.push(node)
    assert ready.pop() == 3
    ready.put_back(3)
    assert drain(ready) == [3, 1, 2]
    assert ready.pop() is None


def test_a_higher_priority_goes_first_and_equals_in_order_of_arrival() -> None:
    ready = ReadyQueue({1: QueueOptions(5), 4: QueueOptions(5), 2: QueueOptions(-1)})
    for node in range(6):
        ready.push(node)
    assert drain(ready) == [1, 4, 0, 3, 5, 2]


def test_a_task_that_is_put_back_is_the_next_of_its_priority() -> None:
    ready = ReadyQueue({9: QueueOptions(1)})
    for node in (0, 1, 2):
        ready.push(node)
    taken = [ready.pop(), ready.pop()]
    for node in reversed(taken):
        assert node is not None
        ready.put_back(node)
    ready.push(9)
    assert drain(ready) == [9, 0, 1, 2]


def test_max_parallel_limits_instances_and_holds_up_no_other_task() -> None:
    ready = ReadyQueue({100: QueueOptions(max_parallel=2)}, owner=lambda node: 100 if node < 10 else node)
    for node in range(12):
        ready.push(node)
    assert drain(ready) == [0, 1, 10, 11]
    ready.ended(1)
    assert drain(ready) == [2]
    ready.put_back(2)
    assert drain(ready) == [2]
    ready.ended(0)
    ready.ended(2)
    assert drain(ready) == [3, 4]


def test_tasks_with_needs_are_handed_out_one_at_a_time() -> None:
    gpu, both = (("gpu", 1),), (("db", 2), ("gpu", 1))
    ready = ReadyQueue(
        {
            0: QueueOptions(needs=gpu),
            1: QueueOptions(needs=gpu),
            2: QueueOptions(needs=both),
            3: QueueOptions(needs=gpu),
        }
    )
    for node in range(5):
        ready.push(node)
    assert drain(ready) == [0, 2, 4]  # one candidate for each set of needs
    assert [ready.options(2).needs, ready.options(4).needs] == [both, ()]
    ready.admitted(0)
    assert drain(ready) == [1]
    ready.put_back(1)  # refused
    ready.put_back(2)
    assert drain(ready) == []  # until something has changed
    ready.reopen()
    assert drain(ready) == [2, 1]


def test_needs_and_max_parallel_both_apply() -> None:
    ready = ReadyQueue({0: QueueOptions(max_parallel=1, needs=(("gpu", 1),))}, owner=lambda node: 0)
    ready.push(1)
    ready.push(2)
    assert drain(ready) == [1]
    ready.admitted(1)
    ready.reopen()
    assert drain(ready) == []
    ready.ended(1)
    ready.reopen()
    assert drain(ready) == [2]


def test_a_place_without_room_holds_up_no_task_of_another() -> None:
    far, first = QueueOptions(place="lab"), QueueOptions(priority=1, place="lab")
    ready = ReadyQueue({0: far, 1: far, 2: first, 4: QueueOptions(place="other")})
    ready.resize("lab", 0)
    ready.resize("other", 0)
    for node in range(5):
        ready.push(node)
    assert drain(ready) == [3], "here there is no limit"
    ready.resize("lab", 2)
    assert drain(ready) == [2, 0]
    assert [ready.waiting("lab"), ready.waiting("other"), ready.waiting("")] == [1, 1, 0]
    ready.put_back(0)
    assert drain(ready) == [0], "the room that it was handed out for is free again"
    ready.resize("lab", 5)
    assert drain(ready) == [1]


def test_room_here_is_counted_once_it_is_set() -> None:
    ready = ReadyQueue({9: QueueOptions(1)})
    ready.resize("", 1)
    for node in range(3):
        ready.push(node)
    assert drain(ready) == [0]
    ready.resize("", 0)
    assert drain(ready) == []
    ready.resize("", 1)
    assert drain(ready) == [1]
    assert ready.waiting("") == 1


def test_a_task_that_is_dropped_gives_its_room_and_its_parallel_instance_back() -> None:
    ready = ReadyQueue({7: QueueOptions(max_parallel=1, place="lab")}, owner=lambda node: 7)
    ready.resize("lab", 1)
    for node in (0, 1):
        ready.push(node)
    assert ready.waiting("lab") == 1, "max_parallel lets one start"
    assert ready.pop() == 0
    assert ready.waiting("lab") == 0
    ready.drop(0)
    assert drain(ready) == [1]


def test_no_task_is_lost_or_handed_out_twice() -> None:
    picks = random.Random(7)
    for _ in range(200):
        size = picks.randint(1, 30)
        owner = {node: picks.choice([node, 100, 101]) for node in range(size)}
        kinds = [
            QueueOptions(
                picks.randint(-2, 2),
                picks.choice([None, 1, 2]),
                picks.choice([(), (("a", 1),), (("b", 2),)]),
                place,
            )
            for place in ("", "lab")
        ]
        slots = picks.randint(1, 3)
        orders = {node: picks.choice([*kinds, QueueOptions(picks.randint(0, 3))]) for node in [*range(size), 100, 101]}
        ready = ReadyQueue(orders, owner=owner.__getitem__)
        waiting, out, done = list(range(size)), set[int](), set[int]()
        for _ in range(4000):
            if waiting and picks.random() < 0.5:
                ready.push(waiting.pop())
            far = {entry for entry in out if orders[owner[entry]].place}
            ready.resize("lab", slots - len(far))
            node = ready.pop()
            if node is not None:
                assert node not in out | done
                order = orders[owner[node]]
                same = [entry for entry in out if owner[entry] == owner[node]]
                assert order.max_parallel is None or len(same) < order.max_parallel
                assert not order.place or len(far) < slots
                if picks.random() < 0.2:
                    ready.put_back(node)
                else:
                    out.add(node)
                    if order.needs:
                        ready.admitted(node)
            if out and picks.random() < 0.5:
                ended = picks.choice(sorted(out))
                out.discard(ended)
                done.add(ended)
                ready.ended(ended)
            if picks.random() < 0.2:
                ready.reopen()
            if len(done) == size:
                break
        assert len(done) == size


def test_the_plan_takes_tasks_by_priority() -> None:
    plan = make_plan(
        Graph({"a": [], "b": [], "c": [], "d": ["c"]}),
        queue={1: QueueOptions(1), 2: QueueOptions(2), 3: QueueOptions(3)},
    )
    assert [plan.take(0.0), plan.take(0.0)] == [2, 1]
    plan.finish(2, "SUCCESS", 0.0)
    assert [plan.take(0.0), plan.take(0.0), plan.take(0.0)] == [3, 0, None]
