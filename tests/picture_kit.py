"""Pictures for tests, from dicts by task id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from liteflow.pictures.picture import Node, Picture, make_picture


def from_dependencies(title: str, dependencies: Mapping[str, Iterable[str]], **fields: Any) -> Picture:
    """Return a picture of `{task_id: [dependencies]}`.

    `statuses`, `labels`, `kinds`, `details`, `durations` and `status_text` are by task id; `subtitle`, `status` and
    `facts` are those of the picture.
    """
    heading = {name: fields.pop(name) for name in ("subtitle", "status", "facts") if name in fields}
    labels, kinds = fields.pop("labels", {}), fields.pop("kinds", {})
    statuses, details = fields.pop("statuses", {}), fields.pop("details", {})
    durations, status_text = fields.pop("durations", {}), fields.pop("status_text", {})
    assert not fields, fields
    nodes = [
        Node(
            task_id=task_id,
            label=labels.get(task_id, task_id),
            kind=kinds.get(task_id, ""),
            status=statuses.get(task_id),
            detail=details.get(task_id),
            duration_s=durations.get(task_id),
            status_text=status_text.get(task_id),
        )
        for task_id in dependencies
    ]
    return make_picture(title, nodes, dependencies, **heading)
