"""Compute the instances of a task with `matrix` or `foreach`: before the run, or once when the task may start.

The orchestrator does it, which never unpickles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from lightflow.errors import Problem
from lightflow.expressions.evaluate import LocatedError, Values, expansion_values, fill, value_of
from lightflow.expressions.language import text_for
from lightflow.expressions.matrix import combinations
from lightflow.spec.model import Expression, Expressions, MappingSpec, TaskSpec, Template
from lightflow.text import did_you_mean
from liteflow import InputError
from liteflow.api import (
    MAX_INSTANCES,
    MappedRow,
    Payload,
    Ref,
    RunInfo,
    encode_value,
    instance_label,
    items_of_value,
    shorten_label,
)

ITEM: Final = "item"


class StaticExpansion(NamedTuple):
    """Instances that are known before the run (see `liteflow.work.Expansion`)."""

    listed: Sequence[MappedRow]
    reads: Sequence[Ref] = ()

    def rows(self, inputs: Mapping[str, Payload], info: RunInfo) -> Sequence[MappedRow]:
        """Return a row for each instance."""
        return self.listed


class DynamicExpansion(NamedTuple):
    """Instances that depend on values of other tasks, or on the run (see `liteflow.work.Expansion`)."""

    task_id: str
    spec: MappingSpec
    expressions: Expressions | None  #: None: the task has no expressions

    @property
    def reads(self) -> Sequence[Ref]:
        """Return the values of other tasks that the expansion uses."""
        return () if self.expressions is None else self.expressions.mapping_reads

    @property
    def early(self) -> bool:
        """Return whether the instances are known before the run."""
        if self.expressions is None:
            return True
        parts = _parts(self.expressions.mapping.values())
        if any(part.reads_environment for part in parts):
            parts += _parts(entry for entry in self.expressions.shared_env.values() if not isinstance(entry, str))
        return all(part.early or part.instance_only for part in parts)

    def rows(self, inputs: Mapping[str, Payload], info: RunInfo) -> Sequence[MappedRow]:
        """Return a row for each instance. Raises InputError."""
        values: Values = {}
        if self.expressions is not None:
            values = expansion_values(self.expressions, info, self.task_id, inputs)
        return list(self._matrix(values) if self.spec.axes is not None else self._foreach(values))

    def _foreach(self, values: Values) -> Iterator[MappedRow]:
        items = self._list(self.spec.items, values, "foreach", pairs=True)
        _check_number(len(items))
        for index, item in enumerate(items):
            payload = encode_value(item)
            label = instance_label((payload,)) if self.spec.key is None else self._label(values, index, item)
            yield MappedRow({ITEM: payload}, label)

    def _label(self, values: Values, index: int, item: Any) -> str | None:
        """Return the `key` of an instance."""
        key = self.spec.key
        assert key is not None
        template = None if self.expressions is None else self.expressions.mapping.get(key)
        if template is None:
            return shorten_label(key)
        task = {"id": self.task_id, "index": index}
        return shorten_label(text_for(value_of(template, {**values, self.spec.name: item, "task": task})))

    def _matrix(self, values: Values) -> Iterator[MappedRow]:
        spec = self.spec
        assert spec.axes is not None
        axes = {name: self._list(axis, values, f"matrix.{name}") for name, axis in spec.axes.items()}
        include = self._mappings(spec.include, values, "matrix.include")
        exclude = self._mappings(spec.exclude, values, "matrix.exclude")
        for name in (name for entry in exclude for name in entry if name not in axes):
            raise InputError(f"matrix.exclude: {name!r} is not an axis of the matrix{did_you_mean(name, axes)}")
        _check_number(math.prod(map(len, axes.values())) + len(include))
        for index, combination in enumerate(combinations(axes, include, exclude)):
            text = ", ".join(text_for(value) for value in combination.values())
            label = shorten_label(text) if spec.key is None else self._label(values, index, combination)
            yield MappedRow({ITEM: encode_value(combination)}, label)

    def _list(self, written: Any, values: Values, place: str, *, pairs: bool = False) -> Sequence[Any]:
        """Return a list, with the values of its expressions. `pairs`: a mapping counts as a list of pairs."""
        templates = {} if self.expressions is None else self.expressions.mapping
        value = fill(written, templates, values)
        lone = templates[written][0] if isinstance(written, str) and written in templates else None

        def wrong(message: str) -> InputError:
            if isinstance(lone, Expression):
                return LocatedError(lone.location.problem(f"the value {message}"))
            return InputError(f"{place} {message}")

        return items_of_value(value, wrong, pairs=pairs)

    def _mappings(self, written: Any, values: Values, place: str) -> Sequence[Mapping[str, Any]]:
        """Return a list of mappings, with the values of its expressions."""
        entries = self._list(written, values, place)
        if not all(isinstance(entry, dict) and all(isinstance(name, str) for name in entry) for entry in entries):
            raise InputError(f"{place} must be a list of mappings of names to values")
        return entries


def _parts(templates: Iterable[Template]) -> list[Expression]:
    return [part for template in templates for part in template if isinstance(part, Expression)]


def expansion_of(
    task: TaskSpec, params: Mapping[str, Any], problems: list[Problem]
) -> StaticExpansion | DynamicExpansion:
    """Return the expansion of a mapped task: its instances, if they are known before the run. Adds to `problems`."""
    assert task.mapping is not None
    expansion = DynamicExpansion(task.id, task.mapping, task.expressions)
    if expansion.early:
        try:
            return StaticExpansion(
                expansion.rows({}, RunInfo(run_id="", dag_id="", db_path="", log_dir=None, params=params))
            )
        except LocatedError as error:
            problems.append(error.problem)
        except InputError as error:
            problems.append(Problem(task.file, task.line, 1, f"tasks.{task.id}", str(error)))
    return expansion


def _check_number(count: int) -> None:
    if count > MAX_INSTANCES:
        raise InputError(f"{count:,} instances are too many; at most {MAX_INSTANCES:,} are possible")
