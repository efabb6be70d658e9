"""pypyr: steps of a YAML file, one after the other. It stores no state."""

from __future__ import annotations

from pathlib import Path

from pypyr import pipelinerunner

from bench.contestants import kit


def chain(count: int) -> int:
    steps = "".join(f"  - name: pypyr.steps.shell\n    in: {{cmd: 'true'}}  # {number}\n" for number in range(count))
    Path("true.yaml").write_text(f"steps:\n{steps}  - name: pypyr.steps.set\n    in: {{set: {{count: {count}}}}}\n")
    kit.CLOCK.start()
    return int(pipelinerunner.run("true")["count"])


if __name__ == "__main__":
    kit.main({"chain": chain, "shell": chain})
