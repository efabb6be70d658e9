"""Write the file that a new workflow starts from."""

from __future__ import annotations

import os
import re
from typing import Final

from lightflow.errors import Problem, WorkflowError

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")

TEMPLATE: Final = """\
# A workflow. Run it with:   lightflow run {file}
# Check it with:             lightflow validate {file}
# Draw it with:              lightflow dag {file} --output {name}.svg
workflow_name: {name}

tasks:
  hello:
    type: shell
    run: echo "Hello from {name}!"

  numbers:
    type: python
    run: |
      import json, random
      numbers = [random.randint(1, 100) for _ in range(10)]
      with open("{name}-numbers.json", "w") as file:
          json.dump(numbers, file)
      print("made", len(numbers), "numbers")
    depends_on: [hello]

  total:
    type: python
    run: |
      import json
      with open("{name}-numbers.json") as file:
          print("they add up to", sum(json.load(file)))
    depends_on: [numbers]

  report:
    type: shell
    run: |             # a script: it stops at the first line that fails
      echo "The numbers:"
      cat {name}-numbers.json
    depends_on: [numbers]
    timeout: 30        # seconds; also 5m, 1h

  done:
    run: echo "All done."
    depends_on: [total, report]

settings:
  max_parallel_tasks: 4
  retries: 1           # extra attempts for a task that fails
  log_dir: logs/
"""


def write_template(name: str, folder: str = ".") -> str:
    """Write `NAME.yaml` into a folder and return its path. An existing file is never overwritten.

    Raises:
        WorkflowError: the name is not valid, or the file cannot be created.
    """
    stem = name.removesuffix(".yaml").removesuffix(".yml")
    if not _NAME.match(stem):
        raise WorkflowError(
            [Problem(name, 0, 0, "", "is not a valid name of a workflow: use letters, digits, '_', '.' and '-'")]
        )
    path = os.path.join(folder, f"{stem}.yaml")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(TEMPLATE.format(name=stem, file=f"{stem}.yaml"))
    except FileExistsError:
        raise WorkflowError([Problem(path, 0, 0, "", "exists already; choose another name")]) from None
    except OSError as error:
        raise WorkflowError([Problem(path, 0, 0, "", f"cannot be written: {error.strerror}")]) from None
    return path
