"""Groups of tasks as nodes and edges of a graph. Pure.

A group becomes a *join*: a node with the id of the group, which has no attempt and ends when all members of the group
have ended. Where something has to be decided once for all members (a trigger rule, a condition, a
precondition, a branch before the group), the group gets an *entry* too: a node without an attempt that the members wait
for. The members that wait for no other member wait for what the group waits for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from liteflow.record import EMPTY_MAPPING, Record

#: The last part of the id of an entry.
ENTRY_NAME: Final = "entry"


class Grouping(Record):
    """The tasks and groups of a definition, by id."""

    #: what each of them waits for, as it is written
    dependencies: Mapping[str, Collection[str]]
    groups: Collection[str]
    #: the innermost group of each task and group that is in one
    parents: Mapping[str, str] = EMPTY_MAPPING
    #: the groups with a trigger rule, a condition or preconditions
    conditional: Collection[str] = ()
    #: the tasks that decide which tasks after them run
    deciders: Collection[str] = ()

    def around(self, name: str) -> Iterator[str]:
        """Yield the groups that a task or group is in, the innermost first."""
        while name := self.parents.get(name, ""):
            yield name


class GroupNodes(Record):
    """The edges of all nodes, the entry of each group that has one, and what is inside such a group."""

    dependencies: Mapping[str, set[str]]
    entries: Mapping[str, str]  #: by group
    inside: Mapping[str, list[str]]  #: by entry: the tasks and entries in the group and in its groups


class GroupProblem(ValueError):
    """A group that cannot become a node; `name` is the task or group with the mistake, or with this `dependency`."""

    def __init__(self, name: str, message: str, dependency: str = "") -> None:
        super().__init__(message)
        self.name = name
        self.dependency = dependency


def entry_id(group: str) -> str:
    """Return the id of the entry of a group."""
    return f"{group}.{ENTRY_NAME}"


def group_mistakes(grouping: Grouping) -> Iterator[GroupProblem]:
    """Yield the mistakes in the ids and dependencies of groups and their members."""
    entries = _entries(grouping, _members(grouping))
    entry_groups = {entry: group for group, entry in entries.items()}
    for name, dependencies in grouping.dependencies.items():
        around = set(grouping.around(name))
        parts = name.split(".")
        for end in range(1, len(parts)):
            prefix = ".".join(parts[:end])
            if prefix in grouping.groups and prefix not in around:
                yield GroupProblem(name, f"the id {name!r} looks like that of a task in group {prefix!r}; rename it")
        for other in dependencies:
            if other in around:
                yield GroupProblem(name, f"{name!r} is in group {other!r}, so it cannot wait for it", other)
            elif name in grouping.groups and name in grouping.around(other):
                yield GroupProblem(name, f"group {name!r} cannot wait for {other!r}, which is in it", other)
        if name in entry_groups:
            yield GroupProblem(
                name, f"{name!r} is the id of the entry of group {entry_groups[name]!r}; choose another id"
            )


def group_nodes(grouping: Grouping) -> GroupNodes:
    """Return the nodes of tasks and groups; each entry is before the join of its group."""
    members = _members(grouping)
    entries = _entries(grouping, members)
    dependencies: dict[str, set[str]] = {}
    for name in grouping.dependencies:
        upstream = _upstream(grouping, entries, name)
        if name not in grouping.groups:
            dependencies[name] = upstream
            continue
        if name in entries:
            dependencies[entries[name]] = upstream
        dependencies[name] = {*members[name], *([entries[name]] if name in entries else ())}
    inside = {entry: list(_inside(group, members, entries)) for group, entry in entries.items()}
    return GroupNodes(dependencies=dependencies, entries=entries, inside=inside)


def _members(grouping: Grouping) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {group: [] for group in grouping.groups}
    for name in grouping.dependencies:
        if (group := grouping.parents.get(name)) is not None:
            members[group].append(name)
    return members


def _entries(grouping: Grouping, members: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Return the entries of the groups that need one."""
    entries = {}
    for group in grouping.groups:
        dependencies = grouping.dependencies[group]
        is_decided = any(name in grouping.deciders for name in dependencies)
        if group in grouping.conditional or is_decided or (dependencies and not members[group]):
            entries[group] = entry_id(group)
    return entries


def _upstream(grouping: Grouping, entries: Mapping[str, str], name: str) -> set[str]:
    """Return what a node waits for: its own dependencies, and those of the groups whose beginning it is."""
    dependencies = grouping.dependencies[name]
    upstream = set(dependencies)
    for group in grouping.around(name):
        if any(group in grouping.around(other) for other in dependencies):
            break
        if group in entries:
            upstream.add(entries[group])
            break
        dependencies = grouping.dependencies[group]
        upstream.update(dependencies)
    return upstream


def _inside(group: str, members: Mapping[str, Collection[str]], entries: Mapping[str, str]) -> Iterator[str]:
    """Yield the tasks in a group and in its groups, and the entries of these."""
    for member in members[group]:
        if member not in members:
            yield member
            continue
        if member in entries:
            yield entries[member]
        yield from _inside(member, members, entries)
