"""Tasks that are statements in SQL: on SQLite, PostgreSQL, MariaDB, MySQL and DuckDB.

The drivers are imported by the worker process, through `lightflow.sql`; this module checks keys and builds the job.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from lightflow.errors import Problem, WorkflowError
from lightflow.expressions.template import OPEN, Part, UnclosedExpression, split
from lightflow.plugins.base import ConfigProblem, PluginContext, TaskType
from lightflow.plugins.connection_keys import TLS
from lightflow.plugins.scripts import lines
from lightflow.spec.model import BoundValue, TaskSpec
from lightflow.sql.addresses import DRIVERS, FILES, IN_MEMORY, Address, address_of, clear_password, scheme_of
from lightflow.sql.databases import ConnectionOptions
from lightflow.sql.dialects import DUCKDB, MYSQL, POSTGRESQL, SQLITE, Dialect
from lightflow.sql.execution import SqlJob, end_marked, execute
from lightflow.sql.saving import FORMATS, PARQUET, format_of
from lightflow.sql.statements import VALUE, SqlTextError, Statement, parameter_problem, statements
from liteflow import Call, TaskFailed, current_context
from liteflow.api import Body, replace

_DIALECTS: Final[Mapping[str, Dialect]] = {
    "sqlite": SQLITE,
    "postgresql": POSTGRESQL,
    "mysql": MYSQL,
    "duckdb": DUCKDB,
}
_MAX_FILE_BYTES: Final = 16 * 1024 * 1024
#: The looks at the server in a row that find nothing, and the seconds between them: it may still be starting.
_LOOKS: Final = 2
_LOOK_PAUSE_S: Final = 0.3
#: Statements with which MySQL commits the transaction.
_COMMITTING: Final = ("CREATE", "ALTER", "DROP", "TRUNCATE", "RENAME")
_ROWS: Final = ("all", "one", "value", "none")


class SqlTask(TaskType):
    """Executes the statements in one transaction, which is committed at the very end."""

    name = "sql"
    extra = "lightflow-workflows[sql]"
    schema: ClassVar[Mapping[str, Any]] = {
        "description": "Executes SQL on SQLite, PostgreSQL, MariaDB, MySQL or DuckDB. Values are bound, never pasted.",
        "properties": {
            "connection": {
                "description": "The address of the database: `postgresql://user@host/database`, `mysql://…`, "
                "`sqlite:///file.db` or `duckdb:///file.duckdb`; or the name of a connection of the workflow. An "
                "address with a password is a secret. A relative path starts from the working directory of the task.",
                "type": "string",
                "minLength": 1,
                "examples": ["${{ secrets.WAREHOUSE }}", "sqlite:///orders.db", "warehouse"],
                "x-connection": "url",
            },
            "user": {
                "description": "The user, where the address does not name it.",
                "type": "string",
                "minLength": 1,
                "examples": ["loader"],
                "x-connection": True,
            },
            "password": {
                "description": "The password of the user, where the address does not have it.",
                "type": "string",
                "minLength": 1,
                "examples": ["${{ secrets.DB_PASSWORD }}"],
                "x-secret": True,
                "x-connection": True,
            },
            "tls": {
                **TLS,
                "description": f"{TLS['description']} With this key, a server without encryption is refused.",
            },
            "sql": {
                **lines(
                    "The statements, with a semicolon between them. `:name` is a value of `params`, and an expression "
                    "is a value, too; `${{ params.table | ident }}` is the name of a table or a column."
                ),
                "examples": ["DELETE FROM orders WHERE day = :day"],
                "x-expects": "the statements (text), or a list of lines",
                "x-expressions": "bind",
            },
            "file": {
                "description": "A file with the statements, relative to the workflow file. It has no expressions.",
                "type": "string",
                "minLength": 1,
                "examples": ["load.sql"],
            },
            "params": {
                "description": "The values of the parameters in the text, by name.",
                "type": "object",
                "propertyNames": {"pattern": r"^[^\W\d]\w*$"},
                "examples": [{"day": "${{ params.day }}"}],
            },
            "transaction": {
                "description": "`true`: all statements in one transaction, which is committed at the end; `each`: each "
                "statement in its own; `none`: no transaction, as VACUUM and CREATE DATABASE need it.",
                "enum": [True, "each", "none"],
                "default": True,
                "examples": ["each"],
                "x-expressions": "none",
            },
            "rows": {
                "description": "The task's value: all rows of the last statement that has some (`all`), its only row "
                "(`one`), the only value in it (`value`), or nothing (`none`).",
                "enum": list(_ROWS),
                "default": "all",
                "examples": ["one"],
                "x-expressions": "none",
            },
            "max_rows": {
                "description": "The most rows of the value. More rows are an error; `save` has no limit.",
                "type": "integer",
                "minimum": 1,
                "maximum": 10_000_000,
                "default": 10_000,
                "examples": [100],
                "x-expressions": "none",
            },
            "save": {
                "description": "Write the rows to a file, row by row: `.csv`, `.jsonl`, or with DuckDB `.parquet`. The "
                "file has its name when it is complete.",
                "type": "string",
                "minLength": 1,
                "examples": ["out/orders.csv"],
            },
            "numbers": {
                "description": "How decimal numbers become values: as exact `text`, or as `float`.",
                "enum": ["text", "float"],
                "default": "text",
                "examples": ["float"],
                "x-expressions": "none",
            },
            "read_only": {
                "description": "Open the database for reading only.",
                "type": "boolean",
                "default": False,
                "examples": [True],
                "x-expressions": "none",
                "x-connection": True,
            },
            "once": {
                "description": "Have the effect exactly once: the transaction adds a mark of the task to the "
                "table `lightflow_once`, and a further attempt that finds the mark takes the stored result.",
                "type": "boolean",
                "default": False,
                "examples": [True],
                "x-expressions": "none",
            },
            "split": {
                "description": "Divide the text into statements at semicolons; `false` sends it as one statement, such "
                "as CREATE PROCEDURE with a body.",
                "type": "boolean",
                "default": True,
                "examples": [False],
                "x-expressions": "none",
            },
            "extensions": {
                "description": "Extensions of DuckDB to install and load. Others are neither fetched nor loaded.",
                "type": "array",
                "items": {"type": "string", "pattern": "^[A-Za-z0-9_]+$"},
                "examples": [["httpfs"]],
                "x-expressions": "none",
                "x-connection": True,
            },
        },
        "required": ["connection"],
        "oneOf": [{"required": ["sql"]}, {"required": ["file"]}],
        "x-answers": {
            "run query statement statements script": "sql",
            "database db dsn conn uri url address host server": "connection",
            "path sql_file": "file",
            "parameters args arguments bind values": "params",
            "output out": "save",
            "fetch": "rows",
            "autocommit": "a statement without a transaction has `transaction: none`",
        },
        "x-message": 'needs either "sql" (the statements) or "file" (a file with them), and not both',
    }

    def check(self, config: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        connection = config.get("connection")
        scheme = scheme_of(connection) if isinstance(connection, str) else ""
        if isinstance(connection, str):
            yield from connection_problems(connection, scheme)
            for key in ("user", "password", "tls") if scheme in FILES else ():
                if key in config:
                    yield ConfigProblem(key, f"{scheme} opens a file, and has no server")
        if config.get("once") is True and config.get("transaction", True) is not True:
            yield ConfigProblem("once", "needs `transaction: true`, for its mark is a part of the transaction")
        save = config.get("save")
        if isinstance(save, str) and "${{" not in save and not format_of(save):
            yield ConfigProblem("save", f"the name of the file must end with {', '.join(FORMATS)}")
        if save is not None and config.get("rows") in ("one", "value"):
            yield ConfigProblem("rows", "with `save` all rows go to the file; remove `rows`")
        if scheme and scheme != "duckdb":
            if isinstance(save, str) and format_of(save) == PARQUET:
                yield ConfigProblem("save", "only DuckDB writes .parquet; take .csv or .jsonl")
            if config.get("extensions"):
                yield ConfigProblem("extensions", "only DuckDB has these extensions")
        if isinstance(config.get("sql"), str):
            yield from text_problems(config["sql"], scheme, config)

    def hints(self, config: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        transaction = config.get("transaction", True)
        if transaction is not True and config.get("retries"):
            message = f"with `transaction: {transaction}` a failed attempt may have an effect, and `retries` repeats it"
            yield ConfigProblem("transaction", message)
        text = config.get("sql")
        if transaction is True and isinstance(text, str) and scheme_of(str(config.get("connection"))) == "mysql":
            for each in _statements_of(text, MYSQL, config):
                if each.words[0] in _COMMITTING and not each.is_routine:
                    message = f"MySQL and MariaDB commit at {each.words[0]}, and a failure undoes nothing before it"
                    yield ConfigProblem("sql", message)
                    return

    def needed_modules(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        scheme = scheme_of(str(config.get("connection", "")))
        return (DRIVERS[scheme][0],) if scheme and scheme != "sqlite" else ()

    def summary(self, config: Mapping[str, Any]) -> str:
        return str(config.get("sql") or config.get("file") or "")

    def build(self, task: TaskSpec) -> Body:
        """Return the call of `run`. The text of a `file` is read and checked here, before anything runs."""
        name = task.config.get("file")
        if not isinstance(name, str) or OPEN in name:
            return self._call(task)
        path = os.path.join(os.path.dirname(task.file), os.path.expanduser(name))
        shown = os.path.relpath(path)
        try:
            text = read_text(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise WorkflowError(
                [Problem(task.file, task.line, 1, f"tasks.{task.id}.file", f"{shown}: {reason}")]
            ) from None
        scheme = scheme_of(str(task.config.get("connection", "")))
        problems = list(text_problems(text, scheme, {**task.config, "sql": text}))
        if problems:
            raise WorkflowError(
                [Problem(shown, each.line, each.column, f"tasks.{task.id}", each.message) for each in problems]
            )
        config = {key: value for key, value in task.config.items() if key != "file"}
        return self._call(replace(task, config={**config, "sql": text}))

    def _call(self, task: TaskSpec) -> Body:
        """Return the call of `run`, which stays on this machine where the database is a file of it."""
        body = super().build(task)
        return body._replace(lane="here") if isinstance(body, Call) and _is_file_here(task.config) else body

    def run(self, config: Mapping[str, Any], context: PluginContext) -> Any:
        """Execute the statements in a worker process, and store the further values of the task."""
        task = current_context()
        result = execute(job_of(config, context, task.db_path))
        for name, value in result.outputs.items():
            task.xcom_push(name, value)
        return result.value

    def undo_call(self, task: TaskSpec) -> Call | None:
        """Return the call of `undo`. A statement in a file ends with the process that executes it."""
        return None if _is_in_file(task.config) else super().undo_call(task)

    def reason_here(self, config: Mapping[str, Any]) -> str:
        return "opens a file of the machine of the run, so it runs there" if _is_file_here(config) else ""

    def undo(self, config: Mapping[str, Any], context: PluginContext, handle: Any) -> None:
        """End the statements of the attempt on the server. A server that is still busy with the start is looked at
        again, until two looks find nothing."""
        address = _address(config)
        if address.scheme in FILES:
            return
        looks_without_any = 0
        while looks_without_any < _LOOKS:
            looks_without_any = 0 if end_marked(address, context.mark) else looks_without_any + 1
            if looks_without_any < _LOOKS:
                time.sleep(_LOOK_PAUSE_S)


def read_text(path: str) -> str:
    """Return the text of a file with statements. Raises OSError or ValueError."""
    with open(path, "rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise ValueError(f"is larger than {_MAX_FILE_BYTES // 1024 // 1024} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"is not UTF-8 text (line {line})") from None


def job_of(config: Mapping[str, Any], context: PluginContext, db_path: str) -> SqlJob:
    """Return the job of an attempt. Raises TaskFailed."""
    text, values = _pieces(config, context.folder)
    transaction, save = config.get("transaction", True), config.get("save")
    if save is not None and not format_of(save):
        raise TaskFailed(f"save: the name {save!r} must end with {', '.join(FORMATS)}", final=True)
    return SqlJob(
        text=text,
        values=values,
        params=config.get("params", {}),
        address=_reachable(_address(config)),
        options=ConnectionOptions(
            mark=context.mark,
            read_only=config.get("read_only", False),
            seconds=None if context.deadline is None else max(0.0, context.deadline - time.time()),
            extensions=tuple(config.get("extensions", ())),
            forbidden_file=db_path,
        ),
        split=config.get("split", True),
        transaction="all" if transaction is True else transaction,
        rows=config.get("rows"),
        max_rows=config.get("max_rows", 10_000),
        save=None if save is None else os.path.abspath(os.path.expanduser(save)),
        once_key=context.key if config.get("once") else None,
        float_numbers=config.get("numbers") == "float",
    )


def _is_in_file(config: Mapping[str, Any]) -> bool:
    """Return whether the database is a file, not a server."""
    return scheme_of(str(config.get("connection", ""))) in FILES


def _is_file_here(config: Mapping[str, Any]) -> bool:
    """Return whether the database is a file of the machine of the run, and not in memory."""
    database = str(config.get("connection", "")).partition("://")[2]
    return _is_in_file(config) and database.lstrip("/") != IN_MEMORY


def _reachable(address: Address) -> Address:
    """Return an address that this machine may open. Raises TaskFailed: it is a file of another machine."""
    host = current_context().host
    if host is not None and address.scheme in FILES and address.database != IN_MEMORY:
        raise TaskFailed(
            f"{address.database} is a file of the machine of the run, and the task runs on {host}: remove its mode, or "
            "use a server",
            final=True,
        )
    return address


def _address(config: Mapping[str, Any]) -> Address:
    try:
        address = address_of(config["connection"], os.getcwd())
    except ValueError as error:
        raise TaskFailed(str(error), final=True) from None
    return replace(
        address,
        user=address.user or config.get("user", ""),
        password=address.password or config.get("password", ""),
        tls=config.get("tls") or {},
    )


def _pieces(config: Mapping[str, Any], folder: str) -> tuple[str, tuple[Any, ...]]:
    """Return the text with a NUL character in place of each expression, and their values."""
    if "file" in config:
        try:
            pieces: Sequence[str | BoundValue] = [read_text(os.path.join(folder, os.path.expanduser(config["file"])))]
        except (OSError, ValueError) as error:
            raise TaskFailed(f"{config['file']}: {getattr(error, 'strerror', None) or error}", final=True) from None
    else:
        text = config["sql"]
        pieces = [text] if isinstance(text, str) else text
    if any(isinstance(piece, str) and VALUE in piece for piece in pieces):
        raise TaskFailed("the text has a NUL character", final=True)
    text = "".join(piece if isinstance(piece, str) else VALUE for piece in pieces)
    return text, tuple(piece.value for piece in pieces if isinstance(piece, BoundValue))


# -- checks before a run ---------------------------------------------------------------------------------------------


def connection_problems(connection: str, scheme: str) -> Iterator[ConfigProblem]:
    if clear_password(connection):
        message = "a password in clear is not allowed; make the address a secret: ${{ secrets.NAME }}"
        yield ConfigProblem("connection", message)
    elif not connection.startswith(OPEN):
        if scheme and OPEN in connection:
            return
        try:
            address_of(connection, "/")
        except ValueError as error:
            yield ConfigProblem("connection", str(error))


class _TextProblem(NamedTuple):
    """A mistake in a text, and its position in it."""

    message: str
    start: int = 0


def text_problems(text: str, scheme: str, config: Mapping[str, Any]) -> list[ConfigProblem]:
    """Return the mistakes in the text that each database would see, where the scheme does not say which it is."""
    try:
        parts = split(text)
    except UnclosedExpression:
        return []  # the parser reports it
    if VALUE in text:
        return [_located(text, _TextProblem("the text has a NUL character", text.index(VALUE)))]
    marked = "".join(part if isinstance(part, str) else VALUE for part in parts)
    results = [
        _problems_of(marked, dialect, config) for dialect in ([_DIALECTS[scheme]] if scheme else _DIALECTS.values())
    ]
    if not all(results):
        return []
    return [_located(text, each._replace(start=_unmarked(each.start, marked, parts))) for each in results[0]]


def _problems_of(text: str, dialect: Dialect, config: Mapping[str, Any]) -> list[_TextProblem]:
    try:
        texts = statements(text, dialect, split=config.get("split") is not False)
    except SqlTextError as error:
        return [_TextProblem(str(error), error.start)]
    if not texts:
        return [_TextProblem("the text has no statement")]
    problems = []
    for each in texts:
        if each.words[0] == "DELIMITER":
            message = "DELIMITER is for the client of MySQL; write one routine in a task, with `split: false`"
            problems.append(_TextProblem(message, each.start))
        elif each.is_routine and each.has_body and "split" not in config and dialect is not SQLITE:
            message = "the semicolons in the body would divide it; send the text as one statement: `split: false`"
            return [_TextProblem(message, each.start)]  # the rest would be a consequence
        elif each.words[0] == "VACUUM" and dialect in (SQLITE, POSTGRESQL) and config.get("transaction") != "none":
            problems.append(_TextProblem("VACUUM cannot be in a transaction: write `transaction: none`", each.start))
        elif each.ends_transaction and config.get("transaction", True) != "none":
            word = each.words[0]
            message = f"the task begins and commits by itself: remove {word}, or write `transaction: none`"
            problems.append(_TextProblem(message, each.start))
    params = config.get("params", {})
    if isinstance(params, Mapping) and (problem := parameter_problem(texts, params)):
        problems.append(_TextProblem(problem))
    return problems


def _statements_of(text: str, dialect: Dialect, config: Mapping[str, Any]) -> list[Statement]:
    """Return the statements of a text without mistakes."""
    marked = "".join(part if isinstance(part, str) else VALUE for part in split(text))
    return statements(marked, dialect, split=config.get("split") is not False)


def _unmarked(position: int, marked: str, parts: Sequence[str | Part]) -> int:
    """Return the position in a text of a position in the text with a mark for each expression."""
    expressions = [part for part in parts if isinstance(part, Part)]
    before = expressions[: marked.count(VALUE, 0, position)]
    return position + sum(part.end - part.start - len(VALUE) for part in before)


def _located(text: str, problem: _TextProblem) -> ConfigProblem:
    line = text.count("\n", 0, problem.start) + 1
    column = problem.start - (text.rfind("\n", 0, problem.start) + 1) + 1
    return ConfigProblem("sql", problem.message, line, column)
