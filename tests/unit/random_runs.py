"""Random dags with random schedules for the loop: all that options can say, and ends of all kinds."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any

from driving import Drive
from fakes import Crashed, Ends

from liteflow import Call, Dag, RetryPolicy, Waiting, task
from liteflow.definition.groups import GROUP_EVENTS, Group
from liteflow.planning.trigger_rules import TRIGGER_RULES
from liteflow.states import Verdict
from liteflow.work import Work

_VERDICTS: tuple[Verdict, ...] = ("SUCCESS", "FAILED", "SKIPPED", "TIMED_OUT", "LOST")
_HOOKS = ("on_start", "on_wait", "on_success", "on_failure", "on_retry", "on_cancel", "on_exit")
_RUN_HOOKS = tuple(event for event in _HOOKS if event not in ("on_retry", "on_wait"))


def nothing(*_: object, **__: object) -> None:
    """The body of a task or a hook; it never runs."""


def each(item: int) -> None:
    """The body of a mapped task; it never runs."""


def random_dag(picks: random.Random) -> Dag:
    """Make a dag of up to nine tasks."""
    dag = Dag("flow", "never-made.db", pools={"p": 2, "q": 1}, **_hooks(picks, 0.1, _RUN_HOOKS))
    size, density = picks.randint(1, 9), picks.random()
    made: list[Any] = []
    group_picks = random.Random(picks.getstate()[1][0])  # so that groups change nothing else of a dag
    with contextlib.ExitStack() as stack:
        for number in range(size):
            _change_group(group_picks, dag, stack, number)
            _add_task(picks, dag, made, number, density)
    _tear_down(picks, dag, made)
    _connect_groups(group_picks, dag, made)
    return dag


def _change_group(picks: random.Random, dag: Dag, stack: contextlib.ExitStack, number: int) -> None:
    """Sometimes begin a group, within the group that was begun last, and sometimes end all groups."""
    if picks.random() < 0.15:
        rule = {"trigger_rule": picks.choice(["all_done", "one_failed"])} if picks.random() < 0.3 else {}
        stack.enter_context(dag.group(f"g{number}", **rule, **_hooks(picks, 0.1, GROUP_EVENTS)))
    elif picks.random() < 0.15:
        stack.pop_all().close()


def _connect_groups(picks: random.Random, dag: Dag, made: Sequence[Any]) -> None:
    """Let some groups wait for tasks before them, and some tasks for groups before them."""
    groups = [each for each in dag.tasks.values() if isinstance(each, Group)]
    order = {name: number for number, name in enumerate(dag.tasks)}
    for group in groups:
        for task_made in made:
            inside = task_made.task_id.startswith(f"{group.task_id}.")
            if not inside and order[task_made.task_id] < order[group.task_id] and picks.random() < 0.2:
                task_made >> group
            elif not inside and order[task_made.task_id] > order[group.task_id] and picks.random() < 0.2:
                group >> task_made


def _add_task(picks: random.Random, dag: Dag, made: list[Any], number: int, density: float) -> None:
    """Add a task, mapped or not, that waits for some of those before it."""
    options = _options(picks)
    if made and picks.random() < 0.15 and "short_circuit" not in options:
        instances = picks.choice(made)
        if instances.expansion is None:
            fan = task(task_id=f"t{number}", max_parallel=picks.choice([None, 1, 2]), **options)(each)
            with dag:
                made.append(fan.expand(item=instances))
            return
    made.append(dag.task(nothing, f"t{number}", **options))
    for above in made[:-1]:
        if picks.random() < density:
            above >> made[-1]


def _options(picks: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = _hooks(picks, 0.06, _HOOKS)
    if picks.random() < 0.3:
        options["trigger_rule"] = picks.choice([rule for rule in TRIGGER_RULES if rule != "all_done_setup_success"])
    if picks.random() < 0.4:
        options |= {"retries": picks.randint(1, 2), "retry_delay": picks.choice([0, 0, 3]), "retry_backoff": 2}
    if picks.random() < 0.3:
        options |= {"pool": picks.choice(["p", "q"])}
    if picks.random() < 0.2:
        options["priority"] = picks.randint(-1, 2)
    if picks.random() < 0.15:
        options["continue_on_error"] = True
    if picks.random() < 0.1:
        options["short_circuit"] = True
    if picks.random() < 0.25:
        options |= {"every": 2, "timeout": picks.choice([4, 50]), "on_timeout": picks.choice(["fail", "skip"])}
    return options


def _hooks(picks: random.Random, chance: float, events: Sequence[str]) -> dict[str, Any]:
    return {event: nothing for event in events if picks.random() < chance}


def _tear_down(picks: random.Random, dag: Dag, made: list[Any]) -> None:
    """Add a setup before some tasks, and its teardown after them."""
    plain = [each for each in made if each.expansion is None]
    if picks.random() < 0.3 and plain:
        up, down = dag.task(nothing, "up", setup=True), dag.task(nothing, "down")
        for scoped in picks.sample(plain, min(len(plain), 2)):
            up >> scoped >> down
        down.as_teardown([up])


class RandomRun:
    """A random dag, and how its attempts end: the same for the same seed."""

    def __init__(self, seed: int, drive: Callable[..., Drive] = Drive) -> None:
        self._seed = seed
        self._picks = picks = random.Random(seed)
        self._weights = [picks.random() ** 3 + 0.01 for _ in _VERDICTS]
        self._weights[0] += 0.5
        config: dict[str, Any] = {"fail_fast": picks.random() < 0.15}
        if picks.random() < 0.2:
            config["retry"] = RetryPolicy(picks.randint(1, 2), delay_s=picks.choice([0.0, 2.0]))
        if picks.random() < 0.15:
            config["timeout_s"] = float(picks.randint(1, 12))
        self.drive = drive(
            random_dag(picks),
            workers=picks.randint(1, 4),
            script=self._script,
            config=config,
            actions=self._actions(picks),
            queues=picks.random() < 0.3,
        )
        self._crashes = [picks.randint(1, 12) for _ in range(picks.choice([0, 0, 0, 1, 1, 2]))]

    def _actions(self, picks: random.Random) -> list[Any]:
        actions: list[Any] = []
        if picks.random() < 0.15:
            actions.append((picks.random() * 8, lambda drive: drive.cancel()))
        elif picks.random() < 0.15:
            actions.append((picks.random() * 8, Drive.interrupt))
        return actions

    def _script(self, work: Work) -> Ends:
        number = 0 if work.handle is None else len(self.drive.polls)
        picks = random.Random(f"{self._seed} {work.task_id} {work.map_index} {work.attempt} {number}")
        if self._waits(work) and picks.random() < 0.6:
            waiting = Waiting(picks.randint(0, 2), picks.choice([0.5, 2.0, 3.0]), picks.choice(["", "a file", "b"]))
            return Ends(after_s=picks.choice([0.0, 1.0]), waiting=waiting)
        verdict = picks.choices(_VERDICTS, self._weights)[0]
        value = list(range(picks.randint(0, 3))) if picks.random() < 0.8 else None
        after_s = 0.0001 if self.drive.queues else picks.choice([0.0, 0.5, 1.0, 2.0])
        return Ends(verdict=verdict, after_s=after_s, value=value, ignores_cancel=picks.random() < 0.2)

    def _waits(self, work: Work) -> bool:
        """Return whether the attempt may wait: it is one of a sensor."""
        compiled = self.drive.compiled
        node = compiled.graph.index.get(work.task_id)
        body = None if node is None else compiled.tasks[node].body
        return isinstance(body, Call) and body.poll is not None

    def run(self) -> None:
        """Run the dag, through crashes and interruptions, to its end, and check it."""
        drive, crashes, resumed = self.drive, list(self._crashes), False
        for _ in range(10):
            crash = {"crash_at": crashes.pop(), "after": self._picks.random() < 0.5} if crashes else {}
            try:
                result = drive.resume(**crash) if resumed else drive.run(**crash)  # type: ignore[arg-type]
            except Crashed:
                resumed = True
                continue
            drive.check_end(result)
            if result.status != "INTERRUPTED":
                return
            resumed = True
        raise AssertionError("the run is interrupted again and again")
