"""A task type in a file next to the workflow: `plugins: [my_tasks.py]`."""

import csv
import operator
from typing import ClassVar

from lightflow.plugins.base import TaskType

OPERATORS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt}
OPERATORS[">="] = operator.ge


class CsvFilter(TaskType):
    """Copy the rows of a CSV file that meet a condition."""

    name = "csv_filter"
    schema: ClassVar = {
        "description": "Copies the rows of a CSV file that meet a condition.",
        "properties": {
            "source": {"type": "string", "description": "The file to read."},
            "target": {"type": "string", "description": "The file to write."},
            "column": {"type": "string", "description": "The column to compare."},
            "is": {"enum": ["==", "!=", "<", "<=", ">", ">="], "default": "=="},
            "value": {"type": ["number", "string"], "description": "A number is compared as one."},
        },
        "required": ["source", "target", "column", "value"],
    }

    def run(self, config, context):
        compare = OPERATORS[config.get("is", "==")]
        wanted = config["value"]
        convert = str if isinstance(wanted, str) else float
        with open(config["source"], newline="") as source, open(config["target"], "w", newline="") as target:
            rows = csv.DictReader(source)
            if config["column"] not in (rows.fieldnames or ()):
                raise ValueError(f"{config['source']} has no column {config['column']!r}")
            writer = csv.DictWriter(target, rows.fieldnames)
            writer.writeheader()
            kept = 0
            for row in rows:
                if compare(convert(row[config["column"]]), wanted):
                    writer.writerow(row)
                    kept += 1
        print(f"{context.task_id}: kept {kept} rows in {config['target']}")
        return {"rows": kept}
