"""Takes over results of another run: which instances there are, and copies of files with large values."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from liteflow.errors import DefinitionError, ResourceError
from liteflow.planning.task_table import instance_name
from liteflow.state.history import History, RunRecord
from liteflow.state.records import CopiedResults, InstanceKey
from liteflow.values.payload import spill_dir, spill_root


def values_of(history: History, origin: RunRecord, task_ids: Collection[str]) -> list[InstanceKey]:
    """Return the instances of tasks of a run whose values another run is to read.

    Raises:
        DefinitionError: one of the tasks has not succeeded there.
    """
    keys: list[InstanceKey] = []
    states = history.task_statuses(origin.run_id)
    for task_id in task_ids:
        if states.get(task_id) != "SUCCESS":
            state = f"is {states[task_id]}" if task_id in states else "does not exist"
            raise DefinitionError(f"the values of task {task_id!r} are needed, and it {state} in run {origin.run_id}")
    for task_id, index, _ in history.statuses(origin.run_id):
        if task_id in task_ids:
            keys.append((task_id, index))
    return keys


def copy_files(
    history: History, origin: RunRecord, run_id: str, instances: Sequence[InstanceKey], *, values_only: bool = False
) -> CopiedResults:
    """Copy the files with large values of instances for another run: by hard link, where the file system can.

    A crash before the run is stored leaves files that belong to no run.

    Raises:
        DefinitionError: a file is missing; nothing is stored.
    """
    path, files = history.path, dict[str, str]()
    folder, wanted = spill_dir(path, run_id), set(instances)
    for task_id, index, file in history.value_files(origin.run_id):
        if (task_id, index) not in wanted:
            continue
        copy = os.path.join(folder, os.path.basename(file))
        try:
            os.makedirs(folder, exist_ok=True)
            _copy(os.path.join(spill_root(path), file), copy)
        except FileNotFoundError:
            name = instance_name(task_id, index)
            raise DefinitionError(
                f"a value of {name!r} in run {origin.run_id} no longer exists: run it again, too"
            ) from None
        except OSError as error:
            raise ResourceError(f"{copy}: cannot be written: {error.strerror}") from None
        files[file] = os.path.relpath(copy, spill_root(path))
    return CopiedResults(run_id=origin.run_id, instances=instances, values_only=values_only, files=files)


def _copy(source: str, copy: str) -> None:
    try:
        os.link(source, copy)
    except FileExistsError:
        return  # two values have the same content
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        import shutil  # imported for this rare case alone

        shutil.copyfile(source, copy)
