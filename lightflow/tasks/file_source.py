"""A workflow file as a group of a dag in Python."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lightflow.engine.dag_builder import build_tasks
from lightflow.engine.external_inputs import load_external_inputs
from lightflow.engine.included_params import with_included_params
from lightflow.parser.workflow_loader import load_group
from lightflow.plugins.registry import Registry
from liteflow import Dag, DefinitionError
from liteflow.api import EMPTY_MAPPING, replace


class IncludedFile:
    """The tasks of a workflow file for `dag.include`, and the values of its parameters."""

    def __init__(self, path: str | os.PathLike[str], params: Mapping[str, Any]) -> None:
        self._path = path
        self._params = params

    def add_to(self, dag: Dag, group: str) -> None:
        """Add the tasks, and the pools, clusters and secrets that they need.

        Raises:
            WorkflowError: with all mistakes in the file, and in the values.
            DefinitionError: the dag has a pool, a cluster or a secret of the same name that differs.
        """
        spec = load_group(self._path, group, self._params)
        pools, secrets = dict(spec.limits.pools), {name: each.secret for name, each in spec.secrets.items()}
        clusters, limits = spec.limits.clusters, dag.limits
        for kind, new, present in (
            ("pool", pools, limits.pools),
            ("cluster", clusters, limits.clusters),
            ("secret", secrets, dag.secrets),
        ):
            for name in new:
                if name in present and new[name] != present[name]:
                    raise DefinitionError(f"{self._path}: {kind} {name!r} differs from that of dag {dag.dag_id!r}")
        dag.secrets = {**dag.secrets, **secrets}
        dag.limits = replace(limits, pools={**limits.pools, **pools}, clusters={**limits.clusters, **clusters})
        inputs = load_external_inputs(replace(spec, secrets=EMPTY_MAPPING))  # the run fetches the secrets
        registry = Registry().with_files(spec.plugins)
        for task in build_tasks(with_included_params(spec, {}), registry, inputs, os.getcwd()):
            dag.add_task(task)


def included_file(path: str | os.PathLike[str], params: Mapping[str, Any] = EMPTY_MAPPING) -> IncludedFile:
    """Return a workflow file for `dag.include("checks", included_file("checks.yaml", {"strict": True}))`.

    The path starts from the current folder, and `FILE#NAME` names a workflow of several. The keys of the file that
    start or limit its own runs have no effect.
    """
    return IncludedFile(path, params)
