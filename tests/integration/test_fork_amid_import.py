"""A run that is started while another thread of the program imports a module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SLOW = """
import os, time
open("begun", "w").close()
while not os.path.exists("go"):
    time.sleep(0.01)
answer = 42
"""

SCRIPT = """
import os, sys, threading, time
from liteflow import Dag

def work():
    open("go", "w").close()
    import slow
    return slow.answer

def in_a_child():
    child = os.fork()
    if child == 0:
        os._exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

if __name__ == "__main__":
    thread = threading.Thread(target=__import__, args=("slow",))
    thread.start()
    while not os.path.exists("begun"):
        time.sleep(0.01)
    dag = Dag("d", "d.db")
    dag.task(work if sys.argv[1] == "process" else in_a_child, "t")
    print(dag.run(mode=sys.argv[1]).value("t"))
    thread.join()
"""


@pytest.mark.parametrize("mode", ["process", "thread"])
def test_a_fork_imports_what_another_thread_was_importing(tmp_path: Path, mode: str) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    script = tmp_path / "program.py"
    script.write_text(SCRIPT)
    words = [sys.executable, str(script), mode]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.communicate(timeout=120)[0] == "42\n"
    finally:
        process.kill()
        process.wait()
