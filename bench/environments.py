"""A virtual environment for each peer below `.bench/`, made when it is first needed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

from bench.measure import ROOT, NotRun

FOLDER: Final = ROOT / ".bench"


class Environment(NamedTuple):
    """The packages to install from PyPI; none for an environment that uses this interpreter."""

    name: str
    requirements: tuple[str, ...] = ()

    @property
    def bin(self) -> Path:
        """Return the folder of its commands."""
        return FOLDER / self.name / "bin" if self.requirements else Path(sys.executable).parent

    @property
    def python(self) -> str:
        """Return its interpreter."""
        return str(self.bin / "python") if self.requirements else sys.executable

    def set_up(self) -> None:
        """Install the missing packages.

        Raises:
            NotRun: it cannot be installed.
        """
        marker = FOLDER / self.name / "installed"
        wanted = "\n".join(self.requirements)
        if not wanted or (marker.exists() and marker.read_text(encoding="utf-8") == wanted):
            return
        beside = Path(sys.executable).parent / "uv"
        uv = str(beside) if beside.exists() else shutil.which("uv")
        if uv is None:
            raise NotRun("uv is not there to install it")
        target = str(FOLDER / self.name)
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, target],
            [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", self.python, *self.requirements],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
                raise NotRun(f"cannot be installed: {said[-1].strip()[:120]}")
        marker.write_text(wanted, encoding="utf-8")

    def version(self) -> str:
        """Return the version of its first package, or an empty text if it is unknown."""
        if not self.requirements:
            return ""
        name = self.requirements[0].partition(">")[0].partition("[")[0]
        code = f"import importlib.metadata as m; print(m.version({name!r}))"
        done = subprocess.run([self.python, "-I", "-c", code], capture_output=True, text=True, check=False)
        return done.stdout.strip()


OWN: Final = Environment("own")
DOIT: Final = Environment("doit", ("doit>=0.36",))
LUIGI: Final = Environment("luigi", ("luigi>=3.6",))
HUEY: Final = Environment("huey", ("huey>=2.5",))
PARSL: Final = Environment("parsl", ("parsl>=2025.1",))
DBOS: Final = Environment("dbos", ("dbos>=2.0",))
DASK: Final = Environment("dask", ("dask>=2025.1", "distributed>=2025.1"))
PREFECT: Final = Environment("prefect", ("prefect>=3.4", "fastapi<0.120"))  # newer FastAPIs do not start its server
DAGSTER: Final = Environment("dagster", ("dagster-webserver>=1.12", "dagster>=1.12"))
AIRFLOW: Final = Environment("airflow", ("apache-airflow>=3.1",))
PYPYR: Final = Environment("pypyr", ("pypyr>=5.9",))
NINJA: Final = Environment("ninja", ("ninja>=1.11",))
CHART: Final = Environment("chart", ("matplotlib>=3.9",))
