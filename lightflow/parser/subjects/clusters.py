"""Clusters: the key `clusters`, and the modes that name one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.schema_pieces import FREE, ID_PATTERN, ID_WORDS, Schema, block, duration, flag, ids, integer
from lightflow.parser.subjects.settings import MODES
from lightflow.parser.tree import TaskNode, Tree, mapping_or_empty
from lightflow.plugins.registry import Registry
from lightflow.spec.cluster_limits import (
    DEFAULT_DASK_SLOTS,
    HOST_PATTERN,
    KINDS,
    LEAST_LEASE_S,
    MOST_LEASE_S,
    ONCE,
    is_below,
    repeated_hosts,
)
from lightflow.spec.durations import seconds
from lightflow.text import quoted
from liteflow import DefinitionError
from liteflow.api import EMPTY_MAPPING, MAX_SLOTS

_SSH: Final = ids(
    "Machines that ssh reaches without a password, each with the number of tasks that run there at once; "
    "without a number it is 4.",
    item='a name for ssh, such as "node1" or "ann@node2:8"',
    minItems=1,
    examples=[["node1", "node2:8"]],
    **{"x-expects": 'a list of machines such as [node1, "node2:8"]'},
)
_SSH["items"]["pattern"] = f"^{HOST_PATTERN}$"


def _file(description: str, example: str) -> Schema:
    return {
        "description": description,
        "type": "string",
        "minLength": 1,
        "examples": [example],
        "x-expects": f"the path of a file such as {example}",
    }


CLUSTER: Final = block(
    "Cluster",
    "Other machines on which tasks run: those that ssh reaches, or the workers of a Dask cluster.",
    {
        "ssh": _SSH,
        "dask": {
            "description": "The scheduler of a Dask cluster, whose workers have Lightflow: its address, or the path of "
            "its scheduler file, which starts from the folder of the workflow file.",
            "type": "string",
            "minLength": 1,
            "examples": ["tcp://192.0.2.5:8786", "scheduler.json"],
            "x-expects": "an address such as tcp://192.0.2.5:8786, or the path of a scheduler file",
        },
        "slots": integer(
            "Of a Dask cluster: how many tasks run there at once, at most. Each holds a thread of a worker while the "
            "run uses it.",
            1,
            MAX_SLOTS,
            default=DEFAULT_DASK_SLOTS,
            examples=[16],
        ),
        "python": {
            "description": "Of machines of ssh: the Python there that has Lightflow, a name or a path.",
            "type": "string",
            "minLength": 1,
            "default": "python3",
            "examples": ["/opt/lightflow/bin/python"],
        },
        "lease": duration(
            "A machine that has lost its connection for so long ends what it runs. A break of a third costs nothing.",
            zero=False,
            default="15s",
            examples=["1m"],
        ),
        "patience": duration(
            "How long the run waits for a machine while the cluster, which had one before, has none. Then it is "
            "interrupted, and can be resumed.",
            zero=True,
            default="10m",
            examples=["1h"],
        ),
        "files": ids(
            "Files and folders next to the workflow file that each machine gets, 64 MiB at most. Then a `cwd` in the "
            "folder of the workflow file leads to its copy there. Without `files` each `cwd` must exist there.",
            item="a path that starts from the folder of the workflow file",
            minItems=1,
            examples=[["src", "settings.toml"]],
            **{"x-expects": "a list of files and folders such as [src, settings.toml]"},
        ),
        "address": {
            "description": "Of a Dask cluster: the address of this machine at which its workers reach it. The default "
            "is that of the way to the scheduler.",
            "type": "string",
            "minLength": 1,
            "examples": ["192.0.2.1"],
        },
        "tls": block(
            "TLS",
            "Of a Dask cluster at tls://…: the files (PEM) by which this machine and the cluster prove who they are, "
            "as in the `security` of Dask. Paths start from the folder of the workflow file. The default is in the "
            "configuration of Dask.",
            {
                "ca_file": _file("The certificate of the authority that has signed those of the cluster.", "ca.pem"),
                "cert": _file("The certificate of this machine.", "cert.pem"),
                "key": _file(
                    "The private key of `cert`. The default is the file of `cert`, which has both.", "key.pem"
                ),
            },
            required=["ca_file", "cert"],
            **{"x-expects": "a mapping such as {ca_file: ca.pem, cert: cert.pem, key: key.pem}"},
        ),
        "plain_secrets": flag(
            "Of a Dask cluster at tcp://…: whether secrets may pass over its connection, which is not encrypted. The "
            "connection to tls://… is encrypted.",
        ),
    },
    oneOf=[{"required": ["ssh"]}, {"required": ["dask"]}],
    **{
        "x-message": 'needs either "ssh" (a list of machines) or "dask" (the scheduler of a Dask cluster), and not both'
    },
)
#: The keys that only one kind of cluster has, with what to do for the other kind.
_ONLY: Final = {
    "python": ("ssh", "workers of Dask use the Python that started them"),
    "slots": ("dask", 'write the slots of a machine of ssh behind its name: "node1:8"'),
    "address": ("dask", "machines of ssh reach this one by the connection of ssh"),
    "tls": ("dask", "the connection of ssh is encrypted"),
    "plain_secrets": ("dask", "the connection of ssh is encrypted"),
}

CLUSTERS: Final[Schema] = {
    "description": "Other machines by name. A task runs there if the name is its `mode`, or that of `settings`.",
    "type": "object",
    "propertyNames": {"pattern": ID_PATTERN, "x-expects": f"a name of {ID_WORDS}"},
    "patternProperties": FREE,
    "additionalProperties": {"$ref": "#/$defs/cluster"},
    "examples": [{"lab": {"ssh": ["node1", "node2:8"]}}],
    "x-expects": "a mapping of names to clusters such as {lab: {ssh: [node1]}}",
}


def check_clusters(tree: Tree, registry: Registry) -> Iterator[Problem]:
    """Report names and leases of clusters that are not possible, and modes that name no cluster."""
    clusters = mapping_or_empty(tree.root.get("clusters"))
    for name, cluster in clusters.items():
        yield from _check_cluster(tree, name, mapping_or_empty(cluster))
    settings = mapping_or_empty(tree.root.get("settings"))
    if "mode" in settings:
        yield from _check_mode(tree, ["settings", "mode"], settings["mode"], clusters)
    for node in tree.task_nodes:
        if "mode" in node.keys:
            yield from _check_mode(tree, [*node.path, "mode"], node.keys["mode"], clusters)
            yield from _check_place(tree, node, clusters, registry)


def _check_cluster(tree: Tree, name: str, cluster: Mapping[str, Any]) -> Iterator[Problem]:
    if name in MODES:
        yield tree.problem(
            ["clusters", name], f"{quoted(name)} is a mode of this machine; choose another name", key=True
        )
    if name in KINDS:
        message = f"{quoted(name)} is the mode of machines that the command line names; choose another name"
        yield tree.problem(["clusters", name], message, key=True)
    yield from _check_kind(tree, ["clusters", name], cluster)
    yield from _check_hosts(tree, ["clusters", name, "ssh"], cluster.get("ssh"))
    yield from _check_files(tree, ["clusters", name, "files"], cluster.get("files"))
    lease = cluster.get("lease")
    try:
        lease_s = None if lease is None else seconds(lease)
    except (TypeError, ValueError):
        return  # the schema reports it
    if lease_s is not None and not LEAST_LEASE_S <= lease_s <= MOST_LEASE_S:
        message = f"must be {LEAST_LEASE_S:g} seconds to 1 hour: a shorter lease ends tasks of a busy machine"
        yield tree.problem(["clusters", name, "lease"], message)


def _check_kind(tree: Tree, path: list[Any], cluster: Mapping[str, Any]) -> Iterator[Problem]:
    """Report an address that is none, and keys of another kind of cluster."""
    for key, (kind, hint) in _ONLY.items():
        if key in cluster and kind not in cluster and any(each in cluster for each in KINDS):
            yield tree.problem([*path, key], f"{quoted(key)} is a key of a cluster of {kind}; {hint}", key=True)
    scheduler = cluster.get("dask")
    if isinstance(scheduler, str) and scheduler:
        from lightflow.clusters.scheduler import scheduler_of  # few workflows have clusters

        try:
            scheduler_of(scheduler)
        except DefinitionError as error:
            yield tree.problem([*path, "dask"], str(error))
        if "tls" in cluster and scheduler.startswith("tcp://"):
            yield tree.problem([*path, "tls"], "the scheduler at tcp://… does not speak TLS; write tls://…", key=True)


def _check_hosts(tree: Tree, path: list[Any], hosts: Any) -> Iterator[Problem]:
    """Report machines that are listed twice."""
    if isinstance(hosts, list) and all(isinstance(host, str) for host in hosts):
        for place in repeated_hosts(hosts):
            yield tree.problem([*path, place], f"{quoted(hosts[place])} is listed before; {ONCE}")


def _check_files(tree: Tree, path: list[Any], files: Any) -> Iterator[Problem]:
    """Report files that do not exist, or are not below its folder."""
    for number, name in enumerate(files if isinstance(files, list) else ()):
        if not isinstance(name, str):
            continue
        folder = os.path.dirname(tree.source.file)
        if not is_below(name):
            message = f"{quoted(name)} must be a path below the folder of the workflow file, such as src"
            yield tree.problem([*path, number], message)
        elif not os.path.exists(os.path.join(folder, name)):
            yield tree.problem([*path, number], f"no such file or folder: {os.path.join(folder, name)}")


def _check_mode(tree: Tree, path: list[Any], mode: Any, clusters: Mapping[str, Any]) -> Iterator[Problem]:
    if isinstance(mode, str) and mode not in MODES and mode not in clusters:
        from lightflow.other_tools import option_hint  # only for files with an error

        options = list(dict.fromkeys([*MODES, *clusters]))
        message = f"must be one of {', '.join(options)}, not {quoted(mode)}; declare a cluster under `clusters`"
        yield tree.problem(path, option_hint("mode", mode, options) or message)


def _check_place(tree: Tree, node: TaskNode, clusters: Mapping[str, Any], registry: Registry) -> Iterator[Problem]:
    """Report a task that names a cluster itself and cannot run there. With the mode of the run it stays here."""
    path = [*node.path, "mode"]
    if node.keys["mode"] not in clusters or list(tree.written_path(path)[:1]) != list(path[:1]):
        return
    if node.is_hook:
        yield tree.problem(path, "hooks run on the machine of the run, not on a cluster")
        return
    kind = node.keys.get("type")
    if isinstance(kind, str) and (reason := registry.reason_here(kind, node.keys)):
        yield tree.problem(path, f"a task of type {quoted(kind)} {reason}, not on a cluster")


def build_clusters(root: Mapping[str, Any], folder: str) -> Mapping[str, Any]:
    """Return the clusters of a file in a folder by name, as `liteflow.remote.cluster.Cluster`s."""
    if "clusters" not in root:
        return EMPTY_MAPPING
    return {name: _cluster(keys, folder) for name, keys in root["clusters"].items() if not name.startswith("x-")}


def _cluster(keys: Mapping[str, Any], folder: str) -> Any:
    from lightflow.clusters import dask, ssh  # few workflows have clusters

    options = {key: keys[key] for key in ("python", "address", "plain_secrets") if key in keys}
    if "lease" in keys:
        options["lease"] = seconds(keys["lease"])
    if "slots" in keys:
        options["slots"] = int(keys["slots"])
    if "patience" in keys:
        options["patience"] = seconds(keys["patience"])
    if "tls" in keys:
        options["tls"] = {name: path for name, path in keys["tls"].items() if not name.startswith("x-")}
    options |= {"files": keys.get("files", ()), "folder": folder}
    return ssh(*keys["ssh"], **options) if "ssh" in keys else dask(keys["dask"], **options)
