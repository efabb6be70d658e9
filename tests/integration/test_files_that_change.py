"""Files are broken, half written, swapped and removed while a server works: the schedules of the others are on time."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

from flow_folder import lightflow
from scheduler_kit import fires, log, rows, serving, until

STEADY = "workflow_name: steady\nschedule: {every: 1s, overlap: allow}\ntasks: {t: {run: 'true'}}\n"
GOOD = "workflow_name: w{number}\nschedule: {{every: 1h}}\ntasks: {{t: {{run: 'true'}}}}\n"
ROUNDS, FILES = 60, 6


def disturb(path: Path, number: int, chance: random.Random) -> None:
    """Do one thing to a file that editors, copies and mistakes do."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    good = GOOD.format(number=number)
    match chance.randrange(9):
        case 0:
            path.unlink(missing_ok=True)
            path.write_text(good[: chance.randrange(len(good))])  # half written
        case 1:
            path.unlink(missing_ok=True)
            path.write_text(good.replace("every", "evry"))
        case 2:
            path.unlink(missing_ok=True)
            path.write_bytes(b"tasks: \xff\xfe\x00" + chance.randbytes(200))
        case 3:
            partial = path.with_suffix(".part")
            partial.write_text(GOOD.format(number=(number + 1) % FILES))  # the workflow of another file
            os.replace(partial, path)
        case 4:
            path.unlink(missing_ok=True)
        case 5:
            path.unlink(missing_ok=True)
            path.mkdir()
        case 6:
            path.unlink(missing_ok=True)
            path.symlink_to(path.name)  # a circle
        case 7:
            path.unlink(missing_ok=True)
            path.write_text("tasks: " + "[" * 5000)
        case _:
            path.unlink(missing_ok=True)
            path.write_text(good)


def test_a_path_that_does_not_exist_is_reported_and_served_once_it_does(tmp_path: Path) -> None:
    with serving(tmp_path, "flows") as server:
        until(lambda: "problem: flows: no such file or folder" in log(tmp_path), server)
        (tmp_path / "flows").mkdir()
        (tmp_path / "flows" / "steady.yaml").write_text(STEADY)
        until(lambda: fires(tmp_path, "steady:schedule"), server)


def test_a_schedule_is_on_time_while_other_files_change(tmp_path: Path) -> None:
    chance, folder = random.Random(23), tmp_path / "flows"
    folder.mkdir()
    (tmp_path / "steady.yaml").write_text(STEADY)
    with serving(tmp_path, "steady.yaml", "flows") as server:
        until(lambda: fires(tmp_path, "steady:schedule"), server)
        for _ in range(ROUNDS):
            number = chance.randrange(FILES)
            disturb(folder / f"w{number}.yaml", number, chance)
            time.sleep(chance.uniform(0.0, 0.2))  # not a wait for something: the changes are spread over scans
        shutil.rmtree(folder)
        folder.mkdir()
        for number in range(FILES):
            (folder / f"w{number}.yaml").write_text(GOOD.format(number=number))
        sound = (
            "SELECT count(*) FROM liteflow_triggers WHERE kind='schedule' AND problem IS NULL "
            "AND source LIKE '%/w_.yaml'"
        )
        until(lambda: rows(tmp_path, sound) == [(FILES,)], server)
        lightflow(tmp_path, "schedule", "pause", "steady")
        until(lambda: {status for status, *_ in fires(tmp_path, "steady:schedule")} == {"STARTED"}, server)
    instants = [at for (at,) in rows(tmp_path, "SELECT at FROM liteflow_fires WHERE trigger_id='steady:schedule'")]
    assert instants == [instants[0] + place for place in range(len(instants))]
    assert "problem: " in log(tmp_path)
