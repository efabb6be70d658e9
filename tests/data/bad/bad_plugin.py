"""A plugin file with mistakes: read by `validate`, never run."""

from lightflow.plugins.base import TaskType

raise SystemExit("a plugin file must not run while a workflow is checked")


class Good(TaskType):
    name = "good"
    schema = {"properties": {"size": {"type": "integer"}}, "required": ["size"]}


class Computed(TaskType):
    name = "com" + "puted"


class Nameless(TaskType):
    schema = {"properties": {"size": {"type": "integer"}}}


class Clash(TaskType):
    name = "clash"
    schema = {"properties": {"timeout": {"type": "integer"}}}


class WrongSchema(TaskType):
    name = "wrong_schema"
    schema = {"properties": {"size": {"type": "whole number"}}}


class Taken(TaskType):
    name = "shell"
