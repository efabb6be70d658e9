"""The instances of a task with `matrix` or `foreach`: worked out once, when it may start, or before the run.

It happens in the orchestrator, which never unpickles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from lightflow.errors import Problem, did_you_mean
from lightflow.expressions.evaluate import LocatedError, Scopes, fill, names_environment, scopes_before, value_of
from lightflow.expressions.language import text_for
from lightflow.expressions.matrix import combinations
from lightflow.spec.model import Expression, Expressions, MappingSpec, TaskSpec, Template
from liteflow.definition.mapping import MAX_INSTANCES, instance_label, items_of_value, shorten_label
from liteflow.errors import InputError
from liteflow.values.payload import Payload, encode
from liteflow.work import Item, MappedRow, Ref, RunInfo, input_name

ITEM: Final = input_name(Item("item"))


class StaticExpansion(NamedTuple):
    """Instances that are known before the run (see `liteflow.work.Expansion`)."""

    listed: Sequence[MappedRow]
    reads: Sequence[Ref] = ()

    def rows(self, inputs: Mapping[str, Payload], info: RunInfo) -> Sequence[MappedRow]:
        """They."""
        return self.listed


class Fan(NamedTuple):
    """Instances that depend on what other tasks have stored, or on the run."""

    task_id: str
    spec: MappingSpec
    found: Expressions | None  # None: there are no expressions in the task

    @property
    def reads(self) -> Sequence[Ref]:
        """The values of other tasks that it takes."""
        return () if self.found is None else self.found.fan_reads

    @property
    def early(self) -> bool:
        """Are the instances known before the run?"""
        if self.found is None:
            return True
        parts = _parts(self.found.fan.values())
        shared = _parts(one for one in self.found.shared_env.values() if not isinstance(one, str))
        if any(names_environment(part) for part in parts):
            parts += shared
        return all(part.early or part.instance_only for part in parts)

    def rows(self, inputs: Mapping[str, Payload], info: RunInfo) -> Sequence[MappedRow]:
        """A row for each instance. Raises InputError."""
        scopes: Scopes = {}
        if self.found is not None:
            scopes = scopes_before(self.found, info, self.task_id, inputs)
        return list(self._matrix(scopes) if self.spec.axes is not None else self._foreach(scopes))

    def _foreach(self, scopes: Scopes) -> Iterator[MappedRow]:
        items = self._list(self.spec.items, scopes, "foreach", pairs=True)
        _check_number(len(items))
        for index, item in enumerate(items):
            payload = encode(item)
            label = instance_label((payload,)) if self.spec.key is None else self._label(scopes, index, item)
            yield MappedRow({ITEM: payload}, label)

    def _label(self, scopes: Scopes, index: int, item: Any) -> str | None:
        """What the `key` says of an instance."""
        key = self.spec.key
        assert key is not None
        template = None if self.found is None else self.found.fan.get(key)
        if template is None:
            return shorten_label(key)
        task = {"id": self.task_id, "index": index}
        return shorten_label(text_for(value_of(template, {**scopes, self.spec.name: item, "task": task})))

    def _matrix(self, scopes: Scopes) -> Iterator[MappedRow]:
        spec = self.spec
        assert spec.axes is not None
        axes = {name: self._list(values, scopes, f"matrix.{name}") for name, values in spec.axes.items()}
        include = self._mappings(spec.include, scopes, "matrix.include")
        exclude = self._mappings(spec.exclude, scopes, "matrix.exclude")
        for name in (name for one in exclude for name in one if name not in axes):
            raise InputError(f"matrix.exclude: {name!r} is no axis of the matrix{did_you_mean(name, axes)}")
        _check_number(math.prod(map(len, axes.values())) + len(include))
        for index, combination in enumerate(combinations(axes, include, exclude)):
            values = ", ".join(text_for(value) for value in combination.values())
            label = shorten_label(values) if spec.key is None else self._label(scopes, index, combination)
            yield MappedRow({ITEM: encode(combination)}, label)

    def _list(self, written: Any, scopes: Scopes, what: str, *, pairs: bool = False) -> Sequence[Any]:
        """What is written there, with the values of its expressions: a list."""
        templates = {} if self.found is None else self.found.fan
        value = fill(written, templates, scopes)
        lone = templates[written][0] if isinstance(written, str) and written in templates else None

        def wrong(found: str) -> InputError:
            if isinstance(lone, Expression):
                return LocatedError(lone.at._replace(message=f"the value {found}"))
            return InputError(f"{what} {found}")

        return items_of_value(value, wrong, pairs=pairs)

    def _mappings(self, written: Any, scopes: Scopes, what: str) -> Sequence[Mapping[str, Any]]:
        found = self._list(written, scopes, what)
        if not all(isinstance(one, dict) and all(isinstance(name, str) for name in one) for one in found):
            raise InputError(f"{what} must be a list of mappings of names to values")
        return found


def _parts(templates: Iterable[Template]) -> list[Expression]:
    return [part for one in templates for part in one if isinstance(part, Expression)]


def expansion_of(task: TaskSpec, params: Mapping[str, Any], problems: list[Problem]) -> StaticExpansion | Fan:
    """What a task is mapped over; where that is known before the run, its instances. Mistakes go into `problems`."""
    assert task.fan is not None
    fan = Fan(task.id, task.fan, task.expressions)
    if fan.early:
        try:
            return StaticExpansion(fan.rows({}, RunInfo("", "", "", None, params)))
        except LocatedError as error:
            problems.append(error.problem)
        except InputError as error:
            problems.append(Problem(task.file, task.line, 1, f"tasks.{task.id}", str(error)))
    return fan


def _check_number(count: int) -> None:
    if count > MAX_INSTANCES:
        raise InputError(f"{count:,} instances are too many; at most {MAX_INSTANCES:,} are possible")
