"""The picture for `visualize`: the latest run of a dag, a run, or a script that has not run yet."""

from __future__ import annotations

import os

from liteflow.errors import RunNotFound
from liteflow.pictures.drawing import picture_of_graph, picture_of_run
from liteflow.pictures.picture import Picture
from liteflow.scripts import choose_dag, describe_dags
from liteflow.state.history import History


def find_picture(db: str, name: str, dag_id: str | None) -> tuple[Picture, str]:
    """Return the picture, and the id for the name of its file."""
    if name.endswith(".py") and os.path.isfile(name):
        return _picture_of_script(name, dag_id)
    with History(db) as history:
        runs = history.runs(name, limit=1)
        if runs:
            return picture_of_run(history, runs[0]), name
        try:
            run = history.run(name)
        except RunNotFound:
            raise RunNotFound(
                f"{db}: {name!r} is neither a dag that has run, nor the beginning of exactly one run's id, "
                "nor a script; the command `list` shows the dags and runs"
            ) from None
        return picture_of_run(history, run), run.run_id


def _picture_of_script(path: str, wanted: str | None) -> tuple[Picture, str]:
    """Return the picture of a dag that a script defines, without states."""
    dags = describe_dags(path)
    dag = dags[choose_dag(path, [str(each["dag_id"]) for each in dags], wanted)]
    return picture_of_graph(str(dag["dag_id"]), dag, str(dag.get("description", ""))), str(dag["dag_id"])
