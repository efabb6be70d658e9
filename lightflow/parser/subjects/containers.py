"""Containers: the key `container` of a task, the keys of a task of type `docker`, and `settings.containers`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.positions import Key
from lightflow.parser.tree import TaskNode, Tree, mapping_or_empty
from lightflow.plugins.container_keys import SHOWN_SECRET, split_volume

_SOCKETS: Final = ("docker.sock", "podman.sock", "containerd.sock", "crio.sock")
#: Where engines have them.
_SOCKET_PLACES: Final = (
    *("/run/docker.sock", "/var/run/docker.sock", f"/run/user/{os.getuid()}/docker.sock"),
    *("/run/podman/podman.sock", "/run/containerd/containerd.sock", "/run/crio/crio.sock"),
)
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
        yield from _check_volumes(tree, path, keys, unsafe=unsafe)
        if keys.get("options") and not unsafe:
            message = f"these options can give the container control over this machine: they need {_UNSAFE}"
            yield tree.problem([*path, "options"], message)
        if keys.get("secrets_as") != "env":
            yield from _check_secrets(tree, node)


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
        except ValueError:
            continue  # the type reports it
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
