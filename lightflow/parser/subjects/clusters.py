"""Clusters: the key `clusters`, and the modes that name one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.schema_pieces import FREE, ID_PATTERN, ID_WORDS, Schema, block, duration, ids
from lightflow.parser.subjects.settings import MODES
from lightflow.parser.tree import TaskNode, Tree, mapping_or_empty
from lightflow.plugins.registry import Registry
from lightflow.spec.cluster_limits import HOST_PATTERN, LEAST_LEASE_S, MOST_LEASE_S
from lightflow.spec.durations import seconds
from lightflow.text import quoted
from liteflow.api import EMPTY_MAPPING

CLUSTER: Final = block(
    "Cluster",
    "Other machines on which tasks run.",
    {
        "ssh": ids(
            "Machines that ssh reaches without a password, each with the number of tasks that run there at once; "
            "without a number it is 4.",
            item='a name for ssh, such as "node1" or "ann@node2:8"',
            minItems=1,
            examples=[["node1", "node2:8"]],
            **{"x-expects": 'a list of machines such as [node1, "node2:8"]'},
        ),
        "python": {
            "description": "The Python on these machines that has Lightflow: a name or a path.",
            "type": "string",
            "minLength": 1,
            "default": "python3",
            "examples": ["/opt/lightflow/bin/python"],
        },
        "lease": duration(
            "A machine that has lost its connection for so long ends what it runs. Shorter breaks cost nothing.",
            zero=False,
            default="15s",
            examples=["1m"],
        ),
    },
    required=["ssh"],
)
CLUSTER["properties"]["ssh"]["items"]["pattern"] = f"^{HOST_PATTERN}$"

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
    lease = cluster.get("lease")
    try:
        lease_s = None if lease is None else seconds(lease)
    except (TypeError, ValueError):
        return  # the schema reports it
    if lease_s is not None and not LEAST_LEASE_S <= lease_s <= MOST_LEASE_S:
        message = f"must be {LEAST_LEASE_S:g} seconds to 1 hour: a shorter lease ends tasks of a busy machine"
        yield tree.problem(["clusters", name, "lease"], message)


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
    task_type = registry.built_in(kind) if isinstance(kind, str) else None
    if kind == "docker" or "container" in node.keys:
        yield tree.problem(path, "tasks in containers run on the machine of the run, which removes what they leave")
    elif task_type is not None and task_type.waits():
        yield tree.problem(path, f"a task of type {quoted(kind)} waits on the machine of the run, not on a cluster")


def build_clusters(root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the clusters of a file by name, as `liteflow.remote.cluster.Cluster`s."""
    if "clusters" not in root:
        return EMPTY_MAPPING
    from lightflow.clusters import ssh  # few workflows have clusters

    options: dict[str, dict[str, Any]] = {
        name: {
            **({"python": keys["python"]} if "python" in keys else {}),
            **({"lease": seconds(keys["lease"])} if "lease" in keys else {}),
        }
        for name, keys in root["clusters"].items()
        if not name.startswith("x-")
    }
    return {name: ssh(*root["clusters"][name]["ssh"], **each) for name, each in options.items()}
