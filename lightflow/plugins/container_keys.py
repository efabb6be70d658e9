"""The keys about containers: `container` of shell and Python tasks, and the keys of tasks of type `docker`."""

from __future__ import annotations

from typing import Any, Final

_SIZE: Final = r"^[0-9]+(\.[0-9]+)?[bkmgBKMG]?$"
_SIZE_WORDS: Final = 'a size such as "512m" or "2g"'
_SHOWN: Final = {"x-shown": True}


def _size(description: str, example: str) -> dict[str, Any]:
    return {
        "description": description,
        "type": "string",
        "pattern": _SIZE,
        "examples": [example],
        "x-expects": _SIZE_WORDS,
    }


#: The keys of a container, by name. Values that the engine shows cannot hold a secret.
KEYS: Final[dict[str, Any]] = {
    "image": {
        "description": "The image of the container. A digest (`name@sha256:…`) names the same image for ever.",
        "type": "string",
        "minLength": 1,
        "examples": ["python:3.12-slim"],
        **_SHOWN,
    },
    "pull": {
        "description": "Whether the image is pulled: if it is `missing`, `always`, or `never`.",
        "enum": ["missing", "always", "never"],
        "default": "missing",
    },
    "volumes": {
        "description": "More files and folders of this machine in the container, as `SOURCE:/TARGET` or "
        "`SOURCE:/TARGET:ro`. A relative source starts from the folder of the workflow file. The folder of the task is "
        "in the container anyway, under its own path.",
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "examples": [["./data:/data:ro"]],
        **_SHOWN,
    },
    "network": {
        "description": "The network: `none`, `host`, or the name of one. The default is that of the engine.",
        "type": "string",
        "minLength": 1,
        "examples": ["none"],
        **_SHOWN,
    },
    "user": {
        "description": "The user of the program: `self` (who starts the run), `image` (as the image says), or "
        "`UID:GID`.",
        "type": "string",
        "minLength": 1,
        "default": "self",
        "examples": ["1000:1000"],
        "x-expects": '`self`, `image`, or text such as "1000:1000"',
        **_SHOWN,
    },
    "memory": _size("The limit of memory. A program that exceeds it is killed, with the code `docker:oom`.", "2g"),
    "cpus": {
        "description": "The number of processors that the container may use.",
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 4096,
        "examples": [1.5],
    },
    "shm_size": _size("The size of `/dev/shm`.", "1g"),
    "read_only": {
        "description": "Whether the file system of the image is read-only; `/tmp` is then in memory.",
        "type": "boolean",
        "default": False,
    },
    "gpus": {
        "description": "The GPUs that the container may use, such as `all`.",
        "type": "string",
        "examples": ["all"],
        **_SHOWN,
    },
    "platform": {
        "description": "The platform of the image.",
        "type": "string",
        "examples": ["linux/amd64"],
        **_SHOWN,
    },
    "workdir": {
        "description": "The working directory in the container. The default is the folder of the task.",
        "type": "string",
        "pattern": "^/|\\$\\{\\{",
        "examples": ["/work"],
        "x-expects": "an absolute path in the container",
        **_SHOWN,
    },
    "secrets_as": {
        "description": "How the program gets the `secrets` of the task: as a `file` `/run/secrets/NAME` in memory, or "
        "in its environment (`env`), where the engine shows them and stores them on disk.",
        "enum": ["file", "env"],
        "default": "file",
    },
    "engine": {
        "description": "The container engine. The default is `settings.container_engine`, else the first of docker and "
        "podman that answers.",
        "enum": ["docker", "podman"],
    },
    "keep": {
        "description": "Whether a container that has ended stays, stopped: `never`, `on_failure` or `always`.",
        "enum": ["never", "on_failure", "always"],
        "default": "never",
    },
    "options": {
        "description": "More options of `docker create`, each as a word. They need `settings.containers.unsafe`.",
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "examples": [["--cap-add=NET_ADMIN"]],
        **_SHOWN,
    },
}

CONTAINER: Final[dict[str, Any]] = {
    "description": "Run the task in a container: the name of an image, or a mapping.",
    "type": ["object", "string"],
    "minLength": 1,
    "properties": KEYS,
    "patternProperties": {"^x-": {"description": "Free for you: anchors, notes."}},
    "additionalProperties": False,
    "required": ["image"],
    "examples": ["python:3.12-slim", {"image": "python:3.12-slim", "network": "none"}],
    "x-shorthand": "image",
    "x-expects": "the name of an image, or a mapping with `image`",
}
