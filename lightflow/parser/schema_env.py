"""The part of the schema that is about the environment of tasks: `env`, `dotenv` and `secrets`."""

from __future__ import annotations

from typing import Final

from lightflow.parser.schema_pieces import FREE, Schema
from lightflow.plugins.scripts import lines
from liteflow.api import SECRET_NAME, VARIABLE_NAME


def env(description: str) -> Schema:
    return {
        "description": f"{description} Values are taken as written: `08080` stays `08080`, `true` stays `true`.",
        "type": "object",
        "propertyNames": {"pattern": f"^{VARIABLE_NAME}$"},
        "additionalProperties": {"type": ["string", "number", "boolean", "null"], "x-expects": "text"},
        "examples": [{"STAGE": "production", "PORT": "8080"}],
        "x-expects": "a mapping of names to text",
    }


def dotenv(description: str) -> Schema:
    return {
        "description": f"{description} A path, or a list of paths, relative to the workflow file; "
        "`{path: local.env, required: false}` may be missing. Read when a run starts.",
        "type": ["array", "string"],
        "minLength": 1,
        "items": {
            "type": ["object", "string"],
            "minLength": 1,
            "properties": {
                "path": {"description": "The dotenv file.", "type": "string", "minLength": 1},
                "required": {"description": "Whether it must be there.", "type": "boolean", "default": True},
            },
            "required": ["path"],
            "additionalProperties": False,
            "x-expects": "the path of a dotenv file",
        },
        "examples": [".env", [".env", {"path": "local.env", "required": False}]],
        "x-expects": 'the path of a dotenv file such as ".env", or a list of them',
        "x-aliases": ["env_file"],
    }


SECRET: Final[Schema] = {
    "title": "Secret",
    "description": "A secret, and where its value comes from.",
    "type": "object",
    "properties": {
        "name": {
            "description": "Its name, in a list of secrets.",
            "type": "string",
            "pattern": f"^{SECRET_NAME}$",
            "examples": ["API_TOKEN"],
            "x-expects": "a name of letters, digits and _",
        },
        "from": {
            "description": "Where its value comes from; `file` if there is a `path`, `command` if there is a `run`.",
            "enum": ["env", "file", "command"],
            "default": "env",
            "x-aliases": ["provider"],
        },
        "key": {
            "description": "The environment variable, if it has another name. Dotenv files of the workflow count.",
            "type": "string",
            "minLength": 1,
            "examples": ["STAGING_API_TOKEN"],
        },
        "path": {
            "description": "The file that holds it, relative to the workflow file, with `~` for the home. The last "
            "line break is no part of it.",
            "type": "string",
            "minLength": 1,
            "examples": ["~/.secrets/db-password"],
            "x-aliases": ["file"],
        },
        "run": {
            **lines(
                "The shell command that prints it, run by the workflow's `shell` in the folder of the workflow file, "
                "for a minute at most. The last line break is no part of it."
            ),
            "examples": ["pass show db/password"],
            "x-aliases": ["command"],
        },
        "description": {"description": "What it is for.", "type": "string"},
    },
    "patternProperties": FREE,
    "additionalProperties": False,
}

SECRETS: Final[Schema] = {
    "description": "What a run fetches when it starts, masks in all output, and never stores: a list of "
    "names of environment variables, or with more about each.",
    "type": ["array", "object"],
    "propertyNames": {"pattern": f"^{SECRET_NAME}$"},
    "items": {
        "type": ["object", "string"],
        "pattern": f"^{SECRET_NAME}$",
        "if": {"type": "object"},
        "then": {"$ref": "#/$defs/secret"},
        "x-expects": "a name of letters, digits and _, or a mapping such as {name: TOKEN, path: token.txt}",
    },
    "patternProperties": FREE,
    "additionalProperties": {
        "type": ["object", "null"],
        "if": {"type": "object"},
        "then": {"$ref": "#/$defs/secret"},
        "x-expects": "nothing, or a mapping such as {path: token.txt}",
    },
    "examples": [["API_TOKEN"], {"DB_PASSWORD": {"from": "file", "path": "~/.secrets/db"}}],
    "x-expects": "a list of names of secrets, or a mapping of names to where they come from",
}

TASK_SECRETS: Final[Schema] = {
    "description": "Those of the workflow's secrets that the task finds in its environment, by name. Expressions "
    "(`${{ secrets.NAME }}`) and Python tasks (`current_context().secrets`) need no mention here.",
    "type": ["array", "string"],
    "items": {"type": "string", "x-expects": "the name of a secret"},
    "default": [],
    "examples": [["API_TOKEN"]],
    "x-expects": "a list of names of secrets",
}
