"""Tasks that wait: for a file, a command, a time, another run, or the answer of a server or a database."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

from lightflow.plugins.base import LONGEST_WAIT_S, ConfigProblem, PluginContext, TaskType
from lightflow.plugins.connection_keys import TLS
from lightflow.plugins.http_task import HttpTask
from lightflow.plugins.scripts import lines
from lightflow.spec.durations import LONGEST_S, PATTERN, seconds
from liteflow import TaskFailed, Waiting, current_context
from liteflow.api import RUN_ENDED, History, date_of, day_epoch, day_text, replace, shell_words

#: The keys that say what a task waits for, of which it has one.
SUBJECTS: Final = ("file", "http", "sql", "command", "until", "duration", "run")
_EVERY_S: Final = 10.0
_SERVERS: Final = ("http", "sql")
_LEAST_S: Final = 1.0  # between two looks at a server
#: The keys of type `http` that a look takes: the answer is not saved.
_HTTP_KEYS: Final = tuple(
    key for key in HttpTask.schema["properties"] if key not in ("file", "multipart", "save", "idempotency")
)
_MAX_RUNS: Final = 1000  # of a workflow, the newest first, that are looked at
_NAMED: Final = 3  # files that a reason names
_DURATION: Final[dict[str, Any]] = {
    "type": ["number", "string"],
    "exclusiveMinimum": 0,
    "maximum": LONGEST_S,
    "minLength": 1,
    "x-expects": 'a time: seconds such as 30, or text such as "30s", "5m", "1h30m" or "1d"',
}
_FIXED_DURATION: Final[dict[str, Any]] = {**_DURATION, "pattern": PATTERN, "x-expressions": "none"}
_TIME_OF_DAY: Final = r"([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?"


class WaitTask(TaskType):
    """Looks from time to time whether something is there. Meanwhile the task holds no worker."""

    name = "wait"
    timeout_s: ClassVar[float | None] = LONGEST_WAIT_S
    extra = "lightflow-workflows[http,sql]"
    schema: ClassVar[Mapping[str, Any]] = {
        "description": "Waits without a worker until something is there: exactly one of `file`, `http`, `sql`, "
        "`command`, `until`, `duration` and `run`. Without a `timeout` it waits for 7 days at most.",
        "properties": {
            "file": {
                "description": "A path, or a pattern with `*`, `?` and `**`, of which one match is enough. A relative "
                "path starts from the working directory of the task.",
                "type": "string",
                "minLength": 1,
                "examples": ["in/${{ run.logical_date }}.csv", "in/*.csv"],
            },
            "stable": {
                "description": "Of `file`: how long its size and time have to stay the same, because it may still be "
                "written.",
                **_FIXED_DURATION,
                "examples": ["10s"],
            },
            "http": {
                "description": "A request, with keys of the type `http`. The expected answer (200 to 299, or what "
                "`expect` says) ends the wait. Another status below 400 or from 500, 404, 408, 425 and 429, another "
                "value than the expected one, and a server that cannot be reached mean not yet; any other status "
                "fails the task. `Retry-After` is obeyed.",
                "type": "object",
                "properties": {key: HttpTask.schema["properties"][key] for key in _HTTP_KEYS},
                "required": ["url"],
                "x-connection-of": "http",
                "additionalProperties": False,
                "examples": [{"url": "https://example.org/jobs/7", "expect": {"json": {"$.state": "done"}}}],
            },
            "sql": {
                "description": "A query, with keys of the type `sql`. A row ends the wait, unless its only value is 0, "
                "false or NULL. The connection is for reading only. A database that cannot be reached, or that is "
                "locked, means not yet; a query that is wrong fails the task.",
                "type": "object",
                "properties": {
                    "connection": {
                        "description": "The address of the database, or a connection, as in the type `sql`.",
                        "type": "string",
                        "minLength": 1,
                        "examples": ["${{ secrets.WAREHOUSE }}", "sqlite:///orders.db"],
                    },
                    "user": {"description": "The user, as in the type `sql`.", "type": "string", "minLength": 1},
                    "password": {
                        "description": "The password of the user.",
                        "type": "string",
                        "minLength": 1,
                        "x-secret": True,
                    },
                    "tls": TLS,
                    "sql": {
                        **lines("The query, as in the type `sql`: `:name` is a value of `params`."),
                        "examples": ["SELECT 1 FROM loads WHERE day = :day"],
                        "x-expressions": "bind",
                    },
                    "params": {
                        "description": "The values of the parameters in the query, by name.",
                        "type": "object",
                        "propertyNames": {"pattern": r"^[^\W\d]\w*$"},
                        "examples": [{"day": "${{ params.day }}"}],
                    },
                },
                "required": ["connection", "sql"],
                "x-connection-of": "sql",
                "additionalProperties": False,
                "examples": [
                    {"connection": "sqlite:///orders.db", "sql": "SELECT 1 FROM loads WHERE day = '2026-01-31'"}
                ],
            },
            "command": {
                **lines("A shell script, or a list of lines: exit code 0 means yes, 1 not yet, another one fails."),
                "examples": ["test -e /mnt/share/ready"],
                "x-expects": "a command (text), or a list of lines",
                "x-expressions": "shell",
            },
            "until": {
                "description": "The next time of day after the task has started, or a date with a time.",
                "type": "string",
                "minLength": 1,
                "examples": ["06:30", "2026-01-31T06:30", "${{ params.start }}"],
            },
            "timezone": {
                "description": "Of `until`: the time zone; by default that of the machine.",
                "type": "string",
                "minLength": 1,
                "examples": ["Europe/Berlin"],
            },
            "duration": {
                "description": "How long to wait, from the start of the task. A resume does not begin it again.",
                **_DURATION,
                "examples": ["10m"],
            },
            "run": {
                "description": "Another run in the state file: the latest of a `workflow`, the one for a `date`, or "
                "the one with an `id`. It has to have the `status` (`SUCCESS` by default; `ENDED` is any end).",
                "type": "object",
                "properties": {
                    "workflow": {"description": "The name of its workflow.", "type": "string", "minLength": 1},
                    "date": {
                        "description": "Its logical date, such as 2026-01-31.",
                        "type": "string",
                        "minLength": 1,
                        "examples": ["${{ run.logical_date }}"],
                    },
                    "id": {"description": "Its id.", "type": "string", "minLength": 1},
                    "status": {
                        "description": "Its status; `ENDED` means any end that is not an interruption.",
                        "enum": ["SUCCESS", "FAILED", "CANCELLED", "ENDED"],
                        "default": "SUCCESS",
                    },
                },
                "additionalProperties": False,
                "anyOf": [{"required": ["workflow"]}, {"required": ["id"]}],
                "x-message": 'needs "workflow" or "id"',
                "examples": [{"workflow": "load", "date": "${{ run.logical_date }}"}],
            },
            "every": {
                "description": "The time between two looks; with `http` and `sql` 1s or more.",
                **_FIXED_DURATION,
                "default": 10,
                "examples": ["30s"],
            },
            "on_timeout": {
                "description": "Whether the task fails or is skipped when its `timeout` is over.",
                "enum": ["fail", "skip"],
                "default": "fail",
                "x-expressions": "none",
            },
        },
        "x-answers": {
            "path": "file",
            "url": "write `http: {url: …}`",
            "seconds minutes sleep time": "duration",
            "interval poke_interval": "every",
        },
        "oneOf": [{"required": [key]} for key in SUBJECTS],
        "dependentRequired": {"stable": ["file"], "timezone": ["until"]},
        "x-message": "needs exactly one of file, http, sql, command, until, duration and run",
    }

    def check(self, config: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        for key, check in (("until", _moment_problem), ("timezone", _zone_problem), ("duration", _duration_problem)):
            value = config.get(key)
            if isinstance(value, str) and value and "${{" not in value and (message := check(value)):
                yield ConfigProblem(key, message)
        yield from self._server_problems(config)

    def _server_problems(self, config: Mapping[str, Any]) -> Iterator[ConfigProblem]:
        for subject in _SERVERS:
            wanted, every = config.get(subject), config.get("every", _EVERY_S)
            if isinstance(wanted, Mapping):
                problems = _type_of(subject).check(wanted)
                yield from (replace(problem, key=f"{subject}.{problem.key}") for problem in problems)
                if isinstance(every, int | float | str) and _is_below(every, _LEAST_S):
                    yield ConfigProblem("every", f"must be 1s or more with `{subject}`: a server answers each look")

    def needed_modules(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(
            module
            for subject in _SERVERS
            if isinstance(config.get(subject), Mapping)
            for module in _type_of(subject).needed_modules(config[subject])
        )

    def summary(self, config: Mapping[str, Any]) -> str:
        subject = next(key for key in SUBJECTS if key in config)
        shown = _type_of(subject).summary(config[subject]) if subject in _SERVERS else config[subject]
        return f"wait for {subject} {shown}"

    def run(self, config: Mapping[str, Any], context: PluginContext) -> Any:
        return self.poll(config, context, None)

    def poll(self, config: Mapping[str, Any], context: PluginContext, handle: Any) -> Any:
        """Look once. The handle has the time at which the attempt began to wait, and what was seen then."""
        subject = next(key for key in SUBJECTS if key in config)
        state: dict[str, Any] = dict(handle) if isinstance(handle, dict) else {"since": time.time()}
        seen = _look_at_server(subject, config, context) if subject in _SERVERS else _LOOKS[subject](config, state)
        if isinstance(seen, Waiting):
            pause_s = seconds(config.get("every", _EVERY_S)) if seen.again_s is None else seen.again_s
            return Waiting(state, pause_s, seen.why)
        values = {**seen, "waited_s": round(time.time() - state["since"], 3)}
        for name, value in values.items():
            current_context().xcom_push(name, value)
        return values


# -- what is waited for: each look returns the values, or a Waiting with the reason ----------------------------------


def _look_for_file(config: Mapping[str, Any], state: dict[str, Any]) -> dict[str, Any] | Waiting:
    pattern = os.path.expanduser(config["file"])
    found_files = _stats(pattern)
    if not found_files:
        state.pop("files", None)
        return Waiting(None, None, f"file {config['file']}")
    if "stable" in config:
        needed_s, now = seconds(config["stable"]), time.time()
        if state.get("files") != found_files:
            state["files"], state["unchanged_since"] = found_files, now
        left_s = state["unchanged_since"] + needed_s - now
        if left_s > 0:
            pause_s = min(left_s, seconds(config.get("every", _EVERY_S)))
            return Waiting(None, pause_s, f"file {config['file']} to stay unchanged for {config['stable']}")
    paths = [path for path, *_ in found_files]
    path, size, mtime_ns = found_files[0]
    return {"path": path, "size": size, "modified_at": mtime_ns / 1e9, "paths": paths}


def _stats(pattern: str) -> list[list[Any]]:
    """Return path, size and time of each file that matches, by name."""
    paths = [pattern]
    if any(character in pattern for character in "*?["):
        import glob

        paths = sorted(glob.glob(pattern, recursive=True))
    stats = []
    for path in paths:
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        stats.append([path, status.st_size, status.st_mtime_ns])
    return stats


def _type_of(subject: str) -> TaskType:
    """Return the type whose keys a wait for a server has."""
    if subject == "http":
        return HttpTask()
    from lightflow.plugins.sql_task import SqlTask  # with the scanner of SQL, which few waits need

    return SqlTask()


def _is_below(every: float | str, least_s: float) -> bool:
    try:
        return seconds(every) < least_s
    except ValueError:
        return False  # the schema reports it


def _look_at_server(subject: str, config: Mapping[str, Any], context: PluginContext) -> dict[str, Any] | Waiting:
    from lightflow.plugins.looks import look_by_http, look_by_sql

    if subject == "sql":
        return look_by_sql(config, context)
    seen = look_by_http(config, context)
    if isinstance(seen, Waiting) and seen.again_s is not None:  # at least the time in Retry-After
        return seen._replace(again_s=max(seen.again_s, seconds(config.get("every", _EVERY_S))))
    return seen


def _look_by_command(config: Mapping[str, Any], state: dict[str, Any]) -> dict[str, Any] | Waiting:
    import subprocess

    code = subprocess.run(shell_words(None, config["command"]), stdin=subprocess.DEVNULL, check=False).returncode
    if code == 1:
        return Waiting(None, None, f"command {_first_line(config['command'])}")
    if code:
        raise TaskFailed(f"exit code {code}; 0 means yes and 1 not yet", codes=(f"exit:{code}",))
    return {"exit_code": 0}


def _first_line(script: str) -> str:
    lines_of_script = [line.strip() for line in script.splitlines() if line.strip()]
    return lines_of_script[0][:100] + (" …" if len(lines_of_script) > 1 else "")


def _look_at_clock(config: Mapping[str, Any], state: dict[str, Any]) -> dict[str, Any] | Waiting:
    if "due" not in state:
        if "until" in config:
            state["due"] = _moment(config["until"], config.get("timezone"), state["since"])
        else:
            state["due"] = state["since"] + _duration_s(config["duration"])
    left_s = state["due"] - time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state["due"]))
    return Waiting(None, left_s, shown) if left_s > 0 else {"time": shown}


def _duration_s(value: Any) -> float:
    """Return the seconds of a duration that an expression may have computed."""
    if isinstance(value, str) and (message := _duration_problem(value)):
        raise TaskFailed(f"duration {message}, not {value!r}", final=True)
    return seconds(value)


def _duration_problem(text: str) -> str:
    import re

    return "" if re.fullmatch(PATTERN, text) else 'must be a time such as 30, "30s", "5m" or "1h30m"'


def _moment_problem(text: str) -> str:
    try:
        _moment(text, None, 0.0)
    except TaskFailed as error:
        return str(error)
    return ""


def _zone_problem(name: str) -> str:
    try:
        _zone(name)
    except TaskFailed as error:
        return str(error)
    return ""


def _zone(name: str | None) -> Any:
    if name is None:
        return None
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        message = f"there is no time zone {name!r}; names are such as Europe/Berlin or UTC"
        raise TaskFailed(message, final=True) from None


def _moment(text: str, zone_name: str | None, after: float) -> float:
    """Return the moment of a date with a time, or the next one of a time of day, in epoch seconds."""
    import datetime
    import re

    zone = _zone(zone_name)
    start = datetime.datetime.fromtimestamp(after, zone)
    if re.fullmatch(_TIME_OF_DAY, text):
        hours, minutes, *rest = map(int, text.split(":"))
        moment = start.replace(hour=hours, minute=minutes, second=rest[0] if rest else 0, microsecond=0)
        if moment.timestamp() <= after:
            day = (start + datetime.timedelta(days=1)).date()
            moment = moment.replace(year=day.year, month=day.month, day=day.day)
        return moment.timestamp()
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise TaskFailed(
            f"must be a time of day such as 06:30, or a date with a time such as 2026-01-31T06:30, not {text!r}",
            final=True,
        ) from None
    return moment.replace(tzinfo=zone).timestamp() if zone is not None and moment.tzinfo is None else moment.timestamp()


def _look_for_run(config: Mapping[str, Any], state: dict[str, Any]) -> dict[str, Any] | Waiting:
    wanted = config["run"]
    name, status, date = wanted.get("workflow"), wanted.get("status", "SUCCESS"), wanted.get("date")
    day = None
    if date is not None:
        parsed = date_of(str(date), current_context().logical_date or time.time())
        if parsed is None:
            raise TaskFailed(f"run.date must be a date such as 2026-01-31, not {date!r}", final=True)
        day = day_epoch(parsed)
    what = f"run {wanted['id']}" if "id" in wanted else f"a run of {name}" + (f" for {day_text(day)}" if day else "")
    with History(current_context().db_path) as history:
        for run in history.runs(name, limit=_MAX_RUNS):
            if wanted.get("id", run.run_id) != run.run_id or (day is not None and run.logical_date != day):
                continue
            is_over = run.status in RUN_ENDED and run.status != "INTERRUPTED"
            if run.status == status or (status == "ENDED" and is_over):
                return {"run_id": run.run_id, "status": run.status}
            return Waiting(None, None, f"{what} to be {status}; {run.run_id} is {run.status}")
    return Waiting(None, None, f"{what} to be {status}")


_LOOKS: Final[Mapping[str, Callable[[Mapping[str, Any], dict[str, Any]], dict[str, Any] | Waiting]]] = {
    "file": _look_for_file,
    "command": _look_by_command,
    "until": _look_at_clock,
    "duration": _look_at_clock,
    "run": _look_for_run,
}
