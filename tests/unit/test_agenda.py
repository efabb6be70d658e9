"""The agenda of the scheduler: what is due, the soonest first, also where a moment was replaced."""

from __future__ import annotations

import random

from lightflow.scheduler.served_triggers import NEVER, Agenda


def test_a_moment_that_was_replaced_does_not_come() -> None:
    agenda = Agenda()
    agenda.set("a", 10.0)
    agenda.set("b", 20.0)
    agenda.set("a", 30.0)
    assert agenda.soonest() == 20.0
    assert agenda.take(25.0) == ["b"]
    assert agenda.take(25.0) == []
    agenda.set("a", NEVER)
    assert agenda.soonest() == NEVER
    assert agenda.take(1e9) == []


def test_it_agrees_with_a_plain_mapping() -> None:
    chance, agenda, moments = random.Random(7), Agenda(), dict[str, float]()
    for _ in range(5_000):
        name, moment = f"t{chance.randrange(20)}", float(chance.randrange(100))
        match chance.randrange(3):
            case 0:
                agenda.set(name, moment)
                moments[name] = moment
            case 1:
                agenda.set(name, NEVER)
                moments.pop(name, None)
            case _:
                due = {each for each, at in moments.items() if at <= moment}
                assert set(agenda.take(moment)) == due
                moments = {each: at for each, at in moments.items() if each not in due}
        assert agenda.soonest() == min(moments.values(), default=NEVER)
