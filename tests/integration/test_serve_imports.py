"""What `serve --no-ui` and its runs import: the scheduler needs no web server, a run finds all that it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from flow_folder import write
from scheduler_kit import COMMAND, end, environment, log, runs, start, until

#: Hides the packages of the extra `ui`, and writes at its end which modules a process has.
_NO_EXTRA = """\
import atexit, os, pathlib, sys
for name in ("starlette", "uvicorn", "graphql", "anyio", "h11"):
    sys.modules[name] = None
loaded = lambda: sorted(name for name, module in sys.modules.items() if module is not None)
atexit.register(lambda file: file.write_text(" ".join(loaded())), pathlib.Path(f"modules-{os.getpid()}").absolute())
"""
#: Executes a run in a fork, as the starter does, and prints the modules that the fork has imported.
_FORK = """\
import json, os, sys
from lightflow.scheduler import starter
starter.prepare_forks()
order = starter.StartOrder(
    key="r", run_id="r", source="flow.yaml", dag=None, db="lightflow.db", folder=os.getcwd(), params={}, date=0.0,
    day=None, scheduled_at=None, overlap=None,
)
pid = os.fork()
if pid == 0:
    before = set(sys.modules)
    code = starter.execute(order)
    print(json.dumps([code, sorted(set(sys.modules) - before)]), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""
_FLOW = """
workflow_name: flow
schedule: {every: 1s, overlap: allow}
tasks:
  fetch: {run: 'true', retries: 1, timeout: 30s}
  load: {run: 'true', depends_on: [fetch]}
"""
#: The packages that the scheduler may have, apart from the standard library.
_PACKAGES = {"lightflow", "liteflow", "click", "yaml", "cronsim"}
#: What costs the scheduler memory and is of no use to it.
_UNUSED = {
    *("asyncio", "email", "http", "ssl", "xml", "unittest", "multiprocessing", "concurrent"),
    *("lightflow.server", "lightflow.client", "lightflow.visuals", "lightflow.sql", "lightflow.tasks"),
    "lightflow.expressions",
}
_MOST_MODULES = 435


def test_the_scheduler_needs_no_web_server(tmp_path: Path) -> None:
    write(tmp_path, _FLOW)
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(_NO_EXTRA)
    server = start(tmp_path, first_path=str(tmp_path / "first"))
    until(lambda: any(status == "SUCCESS" for _, status, *_ in runs(tmp_path, "flow")), server)
    assert end(server) == 0, log(tmp_path)
    modules = set((tmp_path / f"modules-{server.pid}").read_text().split())
    packages = {name.partition(".")[0] for name in modules if not name.startswith("_")}
    assert packages - set(sys.stdlib_module_names) - {"sitecustomize", "cython_runtime"} == _PACKAGES
    assert modules & _UNUSED == set()
    assert len(modules) <= _MOST_MODULES


def test_the_web_server_names_the_missing_packages(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(_NO_EXTRA)
    for arguments in (["serve"], ["ui", "lightflow.db"]):
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=tmp_path, env=environment(str(tmp_path)), capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert "needs starlette, uvicorn, graphql: pip install" in done.stderr


def test_a_forked_run_imports_nothing(tmp_path: Path) -> None:
    write(tmp_path, _FLOW)
    done = subprocess.run(
        [sys.executable, "-c", _FORK], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [0, []], done.stderr
