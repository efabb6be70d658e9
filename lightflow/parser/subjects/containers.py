"""Containers: the key `container` of a task, the keys of a task of type `docker`, and `settings.containers`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.positions import Key
from lightflow.parser.tree import TaskNode, Tree, mapping_or_empty
from lightflow.plugins.container_keys import SHOWN_SECRET
from lightflow.plugins.containers import split_volume
from lightflow.text import quoted

_SOCKETS: Final = ("docker.sock", "podman.sock", "containerd.sock", "crio.sock")
#: Where engines have them.
_SOCKET_PLACES: Final = (
    *("/run/docker.sock", "/var/run/docker.sock", f"/run/user/{os.getuid()}/docker.sock"),
    *("/run/podman/podman.sock", "/run/containerd/containerd.sock", "/run/crio/crio.sock"),
)
#: A name, perhaps after a registry, perhaps with a tag and a digest.
_IMAGE: Final = r"[A-Za-z0-9][\w.-]*(:\d+)?(/[A-Za-z0-9][\w.-]*)*(:[\w][\w.-]*)?(@\w+:\w+)?"
_SECRET: Final = r"\$\{\{[^}]*\bsecrets\b"
_UNSAFE: Final = "`settings: {containers: {unsafe: true}}`"


def container_keys(node: TaskNode) -> tuple[list[Key], Mapping[str, Any]] | None:
    """Return the keys of the container of a task, and where they are; None: it has no container."""
    if node.keys.get("type") == "docker":
        return node.path, node.keys
    keys = node.keys.get("container")
    return ([*node.path, "container"], keys) if isinstance(keys, dict) else None


def check_containers(tree: Tree) -> Iterator[Problem]:
    """Report what a container cannot have, or only where the settings allow it."""
    settings = mapping_or_empty(tree.root.get("settings"))
    unsafe = mapping_or_empty(settings.get("containers")).get("unsafe") is True
    for node in tree.task_nodes:
        container = container_keys(node)
        if container is None:
            continue
        path, keys = container
        if "call" in node.keys:
            message = (
                "a function cannot run in a container, where its module is not: write the code under `run`, or start "
                "it with a shell task"
            )
            yield tree.problem([*node.path, "container"], message, key=True)
        yield from _check_image(tree, path, keys)
        yield from _check_volumes(tree, path, keys, unsafe=unsafe)
        if keys.get("options") and not unsafe:
            message = f"these options can give the container control over this machine: they need {_UNSAFE}"
            yield tree.problem([*path, "options"], message)
        user = keys.get("user", "self")
        if isinstance(user, str) and "${{" not in user and not re.fullmatch(r"[\w.-]+(:[\w.-]+)?", user):
            yield tree.problem([*path, "user"], 'must be `self`, `image` or text such as "1000:1000"')
        if keys.get("secrets_as") != "env":
            yield from _check_secrets(tree, node)


def _check_image(tree: Tree, path: list[Key], keys: Mapping[str, Any]) -> Iterator[Problem]:
    image, platform = keys.get("image"), keys.get("platform")
    if isinstance(image, str) and image and "${{" not in image:
        repository = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
        if not re.fullmatch(_IMAGE, image):
            message = f"{quoted(image)} is not the name of an image such as python:3.12-slim"
            yield tree.problem([*path, "image"], message)
        elif repository != repository.lower():
            yield tree.problem([*path, "image"], f"the name of an image is in lower case: {image.lower()}")
    if isinstance(platform, str) and platform.lower().startswith("windows"):
        yield tree.problem([*path, "platform"], "only containers of Linux run here: write linux/amd64 or linux/arm64")


def _has_socket(source: str) -> bool:
    """Return whether a file is the socket of an engine, or a folder that has it."""
    folder = f"{os.path.normpath(source).rstrip('/')}/"
    return source.endswith(_SOCKETS) or any(place.startswith(folder) for place in _SOCKET_PLACES)


def _check_volumes(tree: Tree, path: list[Key], keys: Mapping[str, Any], *, unsafe: bool) -> Iterator[Problem]:
    volumes = keys.get("volumes")
    for place, volume in enumerate(volumes if isinstance(volumes, list) else ()):
        if not isinstance(volume, str) or "${{" in volume:
            continue
        try:
            source, _, _ = split_volume(volume)
        except ValueError as error:
            yield tree.problem([*path, "volumes", place], str(error))
            continue
        if not unsafe and _has_socket(source):
            message = f"the socket of an engine gives the container control over this machine: it needs {_UNSAFE}"
            yield tree.problem([*path, "volumes", place], message)


def _check_secrets(tree: Tree, node: TaskNode) -> Iterator[Problem]:
    """Report secrets in what the engine shows and stores: the program and its environment."""
    texts: dict[tuple[Key, ...], Any] = {("run",): node.keys.get("run")}
    texts |= {("env", name): value for name, value in mapping_or_empty(node.keys.get("env")).items()}
    for path, text in texts.items():
        if isinstance(text, str) and re.search(_SECRET, text):
            yield tree.problem([*node.path, *path], SHOWN_SECRET)
