"""The keys about containers: `container` of shell and Python tasks, and the keys of tasks of type `docker`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from lightflow.plugins.base import ConfigProblem

_SIZE: Final = r"^[0-9]+(\.[0-9]+)?[bkmgBKMG]?$"
_SIZE_WORDS: Final = 'a size such as "512m" or "2g"'
SHOWN_SECRET: Final = (
    "the engine would show and store the secret: list it under `secrets`, and read the file /run/secrets/NAME"
)
#: Of a value that the engine shows, so that it cannot hold a secret.
SHOWN: Final = {"x-shown": True, "x-refusal": SHOWN_SECRET}
#: Words of engines that are no keys, with what to write for them.
ANSWERS: Final = {
    "privileged pid ipc cap_add cap_drop devices device security_opt": "an option of the engine is a word of "
    "`options`, such as `options: [--privileged]`, which needs `settings: {containers: {unsafe: true}}`",
    "ports publish expose": "containers publish no ports; their network is `network: NAME`",
    "mounts mount binds volume": "volumes",
    "mem mem_limit": "memory",
}


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
        **SHOWN,
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
        **SHOWN,
    },
    "network": {
        "description": "The network: `none`, `host`, or the name of one. The default is that of the engine.",
        "type": "string",
        "minLength": 1,
        "examples": ["none"],
        **SHOWN,
    },
    "user": {
        "description": "The user of the program: `self` (who starts the run), `image` (as the image says), or "
        "`UID:GID`.",
        "type": "string",
        "minLength": 1,
        "default": "self",
        "examples": ["1000:1000"],
        "x-expects": '`self`, `image`, or text such as "1000:1000"',
        **SHOWN,
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
        **SHOWN,
    },
    "platform": {
        "description": "The platform of the image.",
        "type": "string",
        "examples": ["linux/amd64"],
        **SHOWN,
    },
    "workdir": {
        "description": "The working directory in the container. The default is the folder of the task.",
        "type": "string",
        "pattern": "^/|\\$\\{\\{",
        "examples": ["/work"],
        "x-expects": "an absolute path in the container",
        **SHOWN,
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
        **SHOWN,
    },
}

CONTAINER: Final[dict[str, Any]] = {
    "description": "Run the task in a container: the name of an image, or a mapping.",
    "type": ["object", "string"],
    "minLength": 1,
    "properties": KEYS,
    "patternProperties": {"^x-": {"description": "Free for you: anchors, notes."}},
    "additionalProperties": False,
    "x-answers": ANSWERS,
    "required": ["image"],
    "examples": ["python:3.12-slim", {"image": "python:3.12-slim", "network": "none"}],
    "x-shorthand": "image",
    "x-expects": "the name of an image, or a mapping with `image`",
}


def image_hints(keys: Mapping[str, Any], key: str) -> Iterator[ConfigProblem]:
    """Return a warning about an image whose content changes; `key` is the key with its name."""
    image = keys.get("image")
    if not isinstance(image, str) or "${{" in image or "@" in image:
        return
    _, _, tag = image.rpartition("/")[2].partition(":")
    if tag in ("", "latest"):
        message = f"{image} is another image when a new one is published; name a version, or a digest (name@sha256:…)"
        yield ConfigProblem(key, message)
