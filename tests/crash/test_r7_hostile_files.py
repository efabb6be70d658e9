"""R7: workflow files that are broken, enormous or meant to do harm.

Proved: what comes of such a file is a workflow, or errors that each have a place in it; never any other exception, an
end by signal, more than one second of computing, or more than 256 MiB. The files are valid ones with one to five
mutations by the rules of the language, by piece of text or by byte, and bombs.

Not proved: that every mistake is found. A mutated file may be another workflow.
"""

from __future__ import annotations

import mmap
import os
import random
import struct
import time
from pathlib import Path
from typing import Any

import hostile
import inprocess
import pytest
from lines import Figure, replay, scale, seed

from lightflow.errors import WorkflowError
from lightflow.parser.workflow_loader import load_workflow
from lightflow.spec.model import WorkflowSpec
from liteflow.planning.graph import Graph

BATCH = 500
MOST_S = 1.0
MOST_BYTES = 256 * 1024 * 1024


def one(number: int, chance_of: int, folder: str) -> str:
    """Load one file; returns how it ended: "workflow", "refused", or what is wrong."""
    name, data = hostile.file(number, random.Random(chance_of * 1_000_003 + number))
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(data)
    began = time.process_time()
    try:
        spec = load_workflow(path)
        assert isinstance(spec, WorkflowSpec)
        Graph({task.id: task.depends_on for task in spec.tasks.values()})
        ended = "workflow"
    except WorkflowError as error:
        ended = "refused"
        lines = data.count(b"\n") + data.count(b"\r") + 2
        text = str(error)
        if not error.problems or len(text) > 100_000:
            ended = f"{len(error.problems)} problems in {len(text)} characters"
        for problem in error.problems:
            shown = str(problem)
            if not shown.startswith(path) or not shown.isprintable() or not 0 <= problem.line <= lines:
                ended = f"a problem without a place: {shown[:200]!r}"
    except BaseException as error:
        ended = f"{type(error).__name__}: {str(error)[:200]}"
    took = time.process_time() - began
    return ended if took <= MOST_S else f"took {took:.1f} s"


def batch(first: int, chance_of: int, folder: str, progress: mmap.mmap) -> dict[str, Any]:
    """Load a batch of files; in a child."""
    counts = {"workflow": 0, "refused": 0}
    bad: list[tuple[int, str]] = []
    for number in range(first, first + BATCH):
        progress[:8] = struct.pack("q", number)
        ended = one(number, chance_of, folder)
        if ended in counts:
            counts[ended] += 1
        else:
            bad.append((number, ended))
    return {**counts, "bad": bad[:5]}


def address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize("part", range(2))
def test_hostile_files(part: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """4,000 files in each of the two parts of the quick form (80,000 in all with `--crash-scale 10`)."""
    figure, chance_of = Figure("R7", request), seed(request.config) * 2 + part
    only = os.environ.get("LIGHTFLOW_R7_FILE")
    if only is not None:
        print(hostile.file(int(only), random.Random(chance_of * 1_000_003 + int(only))))
        assert one(int(only), chance_of, str(tmp_path)) in ("workflow", "refused")
        return
    load_workflow(Path(__file__).resolve().parents[2] / "examples" / "etl" / "etl.yaml")  # import all that is wanted
    progress = mmap.mmap(-1, 8)
    for first in range(0, round(4_000 * scale(request.config)), BATCH):
        limit = address_space() + MOST_BYTES
        result, died = inprocess.in_child(
            lambda first=first: batch(first, chance_of, str(tmp_path), progress), tmp_path, memory=limit, hang_s=60
        )
        at = struct.unpack("q", progress[:8])[0]
        assert not died, f"ended by signal {died}: {replay(request, LIGHTFLOW_R7_FILE=at)}"
        assert result is not None, replay(request, LIGHTFLOW_R7_FILE=at)
        for number, what in result["bad"]:
            pytest.fail(f"file {number}: {what}; {replay(request, LIGHTFLOW_R7_FILE=number)}")
        figure.add("files", BATCH)
        figure.add("workflows", result["workflow"])
        figure.add("refused", result["refused"])
    figure.tell(tracebacks=0, crashes=0, over_1s=0, over_256MiB=0)
    assert figure.counts["workflows"] > figure.counts["files"] // 50  # else they were not near enough to real ones


def test_control_a_plain_reader_fails(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The negative control: PyYAML's own C loader, on files of the same kind, crashes, hangs or raises at random."""
    import yaml

    class Loader(yaml.CSafeLoader):
        """As anybody would use it."""

    def work(first: int) -> list[str]:
        wrong = set()
        for number in range(first, first + 200):
            _, data = hostile.file(number, random.Random(number))
            try:
                yaml.load(data, Loader=Loader)  # a safe loader, by inheritance
            except yaml.YAMLError:
                continue
            except BaseException as error:
                wrong.add(type(error).__name__)
        return sorted(wrong)

    wrong: set[str] = set()
    for first in range(0, 1_000, 200):
        result, died = inprocess.in_child(
            lambda first=first: work(first), tmp_path, memory=address_space() + MOST_BYTES, hang_s=4
        )
        wrong |= set(result or ())
        if died:
            wrong.add(f"signal {died}")
    Figure("R7-control", request).tell(files=1000, wrong=",".join(sorted(wrong)).replace(" ", ""))
    assert wrong
