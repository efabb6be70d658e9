"""The workflows of the soak: each task notes in a file of its run that it has begun, and that it has ended."""

from __future__ import annotations

from pathlib import Path

_NAME = "$LIGHTFLOW_TASK${LIGHTFLOW_MAP_INDEX:+[$LIGHTFLOW_MAP_INDEX]} $LIGHTFLOW_ATTEMPT"
_BEGUN = f'echo "begun {_NAME}" >> "$EVIDENCE"'
_ENDED = f'echo "ended {_NAME}" >> "$EVIDENCE"'

TASKS = """\
import os, time
from liteflow import current_context


def note(word):
    context = current_context()
    index = f"[{context.map_index}]" if context.map_index >= 0 else ""
    handle = os.open(os.environ["EVIDENCE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, f"{word} {context.task_id}{index} {context.attempt}\\n".encode())
    os.close(handle)


def work(seconds=0.05, value=None):
    note("begun")
    time.sleep(seconds)
    note("ended")
    return value


def wavering():
    note("begun")
    time.sleep(0.05)
    if current_context().attempt < 2:
        raise ValueError("not yet")
    note("ended")


def total(values):
    note("begun")
    assert values == [10 * number for number in range(6)], values
    note("ended")
    return sum(values)
"""


def _shell(*lines: str, **keys: str) -> str:
    """A shell task: notes that it has begun, does its lines, notes that it has ended."""
    head = "".join(f"    {key}: {value}\n" for key, value in keys.items())
    return head + "    run: |\n" + "".join(f"      {line}\n" for line in ("set -e", _BEGUN, *lines, _ENDED))


def _python(name: str = "work", **keys: str) -> str:
    head = "".join(f"    {key}: {value}\n" for key, value in keys.items())
    return f"    type: python\n    call: soak_tasks:{name}\n{head}"


def _flow(name: str, tasks: dict[str, str], top: str = "") -> str:
    return f"workflow_name: {name}\n{top}tasks:\n" + "".join(f"  {task}:\n{body}" for task, body in tasks.items())


def _chain(make: str = "") -> dict[str, str]:
    return {
        name: _shell("sleep 0.05", **({"depends_on": f"[{above}]"} if above else {}))
        for above, name in (("", "a"), ("a", "b"), ("b", "c"), ("c", "d"))
    }


def _workers(mode: str) -> str:
    tasks = {f"w{number}": _python(args="{seconds: 0.1}") for number in range(5)}
    tasks["last"] = _python(depends_on="[w0, w1, w2, w3, w4]")
    return _flow(mode + "s", tasks, f"settings: {{mode: {mode}}}\n")


FLOWS = {
    "chain": _flow("chain", _chain()),
    "threads": _workers("thread"),
    "workers": _workers("process"),
    "mapped": _flow(
        "mapped",
        {
            "list": _shell("echo '[0, 1, 2, 3, 4, 5]'", output="json"),
            "each": _python(foreach="${{ tasks.list.result }}", args='{seconds: 0.05, value: "${{ item * 10 }}"}'),
            "total": _python("total", args='{values: "${{ tasks.each.result }}"}'),
        },
    ),
    "retries": _flow(
        "retries",
        {
            "shell": _shell('sleep 0.05; test "$LIGHTFLOW_ATTEMPT" -ge 2', retries="2", retry_delay="0.1"),
            "python": _python("wavering", retries="2", retry_delay="0.1"),
            "after": _shell("sleep 0.02", depends_on="[shell, python]"),
        },
    ),
    "hooks": _flow(
        "hooks",
        {
            name: _shell(
                "sleep 0.05",
                on_success=f"""'echo "hook {name}" >> "$EVIDENCE"'""",
                on_exit=f"""'echo "exit {name}" >> "$EVIDENCE"'""",
                **more,
            )
            for name, more in {"one": {}, "two": {"depends_on": "[one]"}}.items()
        },
    ),
    "pools": _flow(
        "pools", {f"p{number}": _shell("sleep 0.1", pool="soak") for number in range(4)}, "pools: {soak: 6}\n"
    ),
    "daemons": _flow(
        "daemons",
        {
            "leaves": _shell(
                "setsid sleep 300 > /dev/null 2>&1 &",
                "nohup sleep 300 > /dev/null 2>&1 &",
                "(sleep 300 > /dev/null 2>&1 &)",
                "setsid sh -c '(trap \"\" TERM INT HUP; sleep 300 & sleep 300) > /dev/null 2>&1 &'",
                "sleep 0.1",
            ),
            "after": _shell("sleep 0.1", depends_on="[leaves]"),
        },
    ),
}


def write_flows(folder: Path) -> None:
    """Put the workflows, and the module of their Python tasks, into a folder."""
    (folder / "soak_tasks.py").write_text(TASKS)
    for name, text in FLOWS.items():
        (folder / f"{name}.yaml").write_text(text)
