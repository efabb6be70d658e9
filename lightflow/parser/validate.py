"""Check a tree: the schema, then what each subject checks. All problems are reported at once; nothing is executed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from lightflow.errors import Problem
from lightflow.parser.includes import check_includes
from lightflow.parser.schema_pieces import Schema
from lightflow.parser.schema_validator import Validator
from lightflow.parser.subjects import (
    clusters,
    connections,
    control_flow,
    defaults,
    environment,
    fan_out,
    groups,
    limits,
    params,
    repeats,
    retries,
    settings,
    tasks,
    triggers,
)
from lightflow.parser.tree import ExpressionIndex, Tree
from lightflow.plugins.registry import Registry
from lightflow.spec.model import ConditionSpec, Expressions, SecretSpec
from liteflow import Param
from liteflow.api import EMPTY_MAPPING, Record

MAX_PROBLEMS: Final = 1_000  # of each check; a file with more has one mistake many times


class Checked(Record):
    """A tree with the results of its checks."""

    tree: Tree
    problems: list[Problem]
    params: Mapping[str, Param]
    secrets: Mapping[str, SecretSpec]
    expressions: Mapping[str, Expressions]  # by task
    conditions: Mapping[str, ConditionSpec] = EMPTY_MAPPING
    outputs: Expressions | None = None  # in the values of a run


def validate(tree: Tree, schema: Schema, registry: Registry) -> Checked:
    """Return the tree with all its problems; `schema` is the normalized schema of its task types."""
    source = tree.source
    problems = [*source.problems, *tree.problems, *source.positions.number_problems.values()]
    problems += islice(_schema_problems(tree, schema, registry), MAX_PROBLEMS)
    declared, param_problems = params.read_params(tree, {problem.path for problem in problems})
    secrets, secret_problems = environment.read_secrets(tree)
    refused = {problem.path for problem in problems}
    problems += [*param_problems, *secret_problems]
    index = _expressions(tree, registry)
    reported = {problem.path for problem in problems}
    problems += [
        problem
        for problem in index.problems
        if problem.path not in reported and not _is_in_unknown_key(tree, problem.path)
    ][:MAX_PROBLEMS]
    for checks in (
        settings.check_shells(tree),
        tasks.check_ids(tree),
        groups.check_groups(tree),
        check_includes(tree),
        defaults.check_defaults(tree),
        connections.check_connections(tree, registry.described()),
        tasks.check_types(tree, registry),
        tasks.check_dependencies(tree, index.tasks, index.conditions),
        control_flow.check_control_flow(tree),
        control_flow.check_hook_ids(tree),
        tasks.check_times(tree),
        retries.check_retries(tree),
        repeats.check_repeats(tree),
        environment.check_task_secrets(tree),
        fan_out.check_mappings(tree),
        limits.check_limits(tree, registry),
        clusters.check_clusters(tree, registry),
        triggers.check_triggers(tree, declared, secrets, refused),
        tasks.check_own_keys(tree, registry),
        tasks.check_texts(tree, registry),
        _container_problems(tree),
    ):
        problems += islice(checks, MAX_PROBLEMS)
    return Checked(
        tree=tree,
        problems=_one_for_each_place(problems),
        params=declared,
        secrets=secrets,
        expressions=index.tasks,
        conditions=index.conditions,
        outputs=index.outputs,
    )


def _schema_problems(tree: Tree, schema: Schema, registry: Registry) -> Iterator[Problem]:
    errors = Validator(schema).errors(tree.root)
    if not errors:
        return
    from lightflow.parser.messages import problems_of  # only for files with errors

    infos = {info.name: info for info in registry.described()}
    damaged = {problem.path for problem in tree.source.problems}
    damaged |= {problem.path.rpartition(".")[0] for problem in tree.problems}
    for error in errors:
        if error.keyword != "propertyNames" or error.path != ("tasks",):  # `check_ids` can offer an id
            yield from problems_of(error, tree, infos, damaged)


def _expressions(tree: Tree, registry: Registry) -> ExpressionIndex:
    if "${{" not in tree.source.text and not tree.conditions:
        return ExpressionIndex()
    from lightflow.parser.expressions import read_expressions  # imports Jinja

    return read_expressions(tree, registry)


def _container_problems(tree: Tree) -> Iterator[Problem]:
    if not any("container" in node.keys or node.keys.get("type") == "docker" for node in tree.task_nodes):
        return iter(())
    from lightflow.parser.subjects.containers import check_containers  # few workflows have containers

    return check_containers(tree)


def _is_in_unknown_key(tree: Tree, path: str) -> bool:
    """Return whether a place is in the value of a key that is reported as unknown."""
    return any(path == key or path.startswith(f"{key}.") for key in tree.unknown_keys)


def _one_for_each_place(problems: list[Problem]) -> list[Problem]:
    """Return the first problem of each place: its consequences would repeat it in other words."""
    first: dict[tuple[str, int, int, str], Problem] = {}
    for problem in problems:
        path = problem.path if problem.line else str(problem)
        first.setdefault((problem.file, problem.line, problem.column, path), problem)
    return list(first.values())
