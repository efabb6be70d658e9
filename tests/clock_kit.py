"""A clock that tests set: that of the processes which have its folder first on their module path."""

from __future__ import annotations

import os
import time
from pathlib import Path

#: In each such process: the clock of the machine, and as many seconds as the file says.
CLOCK = """
import time
_time = time.time


def stepped() -> float:
    try:
        with open({path!r}) as file:
            return _time() + float(file.read())
    except (OSError, ValueError):
        return _time()


time.time = stepped
"""


class SteppedClock:
    """The clock of a server, or of a machine."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "offset"
        self.offset_s = 0.0
        (folder / "clock").mkdir()
        (folder / "clock" / "sitecustomize.py").write_text(CLOCK.format(path=str(self._file)))
        self.path = str(folder / "clock")

    def now(self) -> float:
        return time.time() + self.offset_s

    def step(self, seconds: float) -> None:
        """Set the clock, at once for all processes."""
        self.offset_s += seconds
        partial = self._file.with_suffix(".new")
        partial.write_text(str(self.offset_s))
        os.replace(partial, self._file)
