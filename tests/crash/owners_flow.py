"""The raced-for run as a script for `lightflow resume` (see owners.py)."""

from __future__ import annotations

import os

from owners import race_dag

dag = race_dag(*os.environ["RACE"].split())
