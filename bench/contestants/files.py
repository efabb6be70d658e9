"""Read a workflow file with many tasks: with all checks of Lightflow, or with PyYAML's C loader alone."""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path

import yaml

from bench.contestants import kit
from lightflow.parser.workflow_loader import load_workflow


def write(path: Path, count: int) -> None:
    """Write a workflow of a hundred layers in which every task has two upstreams, a timeout and retries."""
    lines, width = ["workflow_name: large", "tasks:"], max(1, count // 100)
    for number in range(count):
        layer, place = divmod(number, width)
        lines += [f"  t{layer}_{place}:", f"    run: echo {number}", "    timeout: 30s", "    retries: 2"]
        if layer:
            lines.append(f"    depends_on: [t{layer - 1}_{place}, t{layer - 1}_{(place + 1) % width}]")
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def main() -> None:
    what, count, path = sys.argv[1], int(sys.argv[2]), Path("large.yaml")
    write(path, count)
    gc.collect()
    cpu_before, began = time.process_time(), time.perf_counter()
    if what == "ours":
        found = len(load_workflow(str(path)).tasks)
    else:
        with path.open(encoding="utf-8") as source:
            found = len(yaml.load(source, yaml.CSafeLoader)["tasks"])
    seconds = time.perf_counter() - began
    kit.demand(found == count, f"{found} of {count} tasks")
    kit.report(seconds, peak_kb=kit.peak_kb(), cpu_before=cpu_before)


if __name__ == "__main__":
    main()
