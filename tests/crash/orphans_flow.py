"""The hostile run as a script for `lightflow run` (see orphans.py): tasks in threads that start processes."""

from __future__ import annotations

import os

from orphans import make_dag

dag = make_dag(*os.environ["HOSTILE"].split())
