"""Files of rows: CSV and JSON Lines, written row by row, and complete before they have their name."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any, Final

from lightflow.sql.values import stored

CSV: Final = ".csv"
JSON_LINES: Final = ".jsonl"
PARQUET: Final = ".parquet"
FORMATS: Final = (CSV, JSON_LINES, PARQUET)
_BLOCK: Final = 1 << 20


def format_of(path: str) -> str:
    """Return the format of a file by the end of its name, a value of `FORMATS`; empty where it is none of them."""
    end = os.path.splitext(path)[1].lower()
    return end if end in FORMATS else ""


class RowFile:
    """A file that rows are written to. It is `path` with the end `.part` until `publish`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.part = f"{path}.part"
        self.columns: tuple[str, ...] = ()
        self._format = format_of(path)
        self._output: IO[str] | None = None
        self._rows: Any = None

    def begin(self, columns: tuple[str, ...]) -> None:
        """Begin with no rows, whether or not there were some of another statement."""
        self.abandon()
        os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
        self.columns = columns
        self._output = open(  # noqa: SIM115 - `publish` or `abandon` closes it
            self.part, "w", encoding="utf-8", newline="", errors="surrogateescape"
        )
        if self._format == CSV:
            self._rows = csv.writer(self._output, lineterminator="\n")
            self._rows.writerow(columns)

    def add(self, row: Sequence[Any]) -> None:
        assert self._output is not None
        values = [stored(value) for value in row]
        if self._rows is not None:
            self._rows.writerow([json_text(value) if isinstance(value, list | dict) else value for value in values])
        else:
            self._output.write(json_text(dict(zip(self.columns, values, strict=True))) + "\n")

    def publish(self) -> str:
        """Write everything to the disk, give the file its name, and return its SHA-256."""
        if self._output is not None:
            self._output.close()
            self._output = None
        digest = hashlib.sha256()
        with open(self.part, "rb") as part:
            while block := part.read(_BLOCK):
                digest.update(block)
            os.fsync(part.fileno())
        os.replace(self.part, self.path)
        return digest.hexdigest()

    def abandon(self) -> None:
        """Remove what was written, if the file has not its name."""
        if self._output is not None:
            self._output.close()
            self._output = None
        with suppress(FileNotFoundError):
            os.unlink(self.part)


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
