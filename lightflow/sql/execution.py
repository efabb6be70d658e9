"""Execute the statements of a task: in one transaction that is committed last, or each by itself."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, NamedTuple, TypeVar

from lightflow.sql.addresses import DRIVERS, Address
from lightflow.sql.databases import ConnectionOptions, Database, StatementResult, database_class
from lightflow.sql.saving import PARQUET, RowFile, format_of
from lightflow.sql.statements import SqlTextError, Statement, bind, parameter_problem, statements
from lightflow.sql.values import argument, stored
from liteflow import TaskFailed
from liteflow.api import EMPTY_MAPPING, Record

#: The table of the marks of `once`.
ONCE_TABLE: Final = "lightflow_once"
COMMIT_UNKNOWN: Final = "sql:commit_unknown"
_INTERRUPT_PAUSE_S: Final = 0.05
_T = TypeVar("_T")


class SqlJob(Record):
    """The work of a task: a text, its values, and the form of the result."""

    text: str  #: a NUL character is the place of an expression
    values: tuple[Any, ...] = ()  #: of the expressions in the text
    params: Mapping[str, Any] = EMPTY_MAPPING
    address: Address
    options: ConnectionOptions
    split: bool = True
    transaction: Literal["all", "each", "none"] = "all"
    #: what the rows become: "first" is that of the first one, if any; None: all, or nothing where no statement has rows
    rows: Literal["all", "one", "value", "none", "first"] | None = None
    max_rows: int = 10_000
    save: str | None = None  #: an absolute path
    once_key: str | None = None  #: the mark of this task in `ONCE_TABLE`
    float_numbers: bool = False


class SqlResult(NamedTuple):
    """The values of a task."""

    value: Any
    outputs: Mapping[str, Any]


class _Rows:
    """The rows of the last statement that had some, up to a limit."""

    def __init__(self, job: SqlJob) -> None:
        self.columns: tuple[str, ...] | None = None
        self.count = 0
        self.number = 0  # of the statement
        self.file = RowFile(job.save) if job.save is not None else None
        self._limit = {"all": job.max_rows, "one": 1, "value": 1, "none": 0, "first": 1}[job.rows or "all"]
        self._rows: list[tuple[Any, ...]] = []
        self._job = job

    def take(self, result: StatementResult, number: int) -> None:
        """Take the rows of a statement in place of those of the statements before."""
        assert result.columns is not None
        self.columns, self.count, self.number, self._rows = result.columns, 0, number, []
        if self.file is not None:
            self.file.begin(result.columns)
        for row in result.rows:
            self.count += 1
            if self.file is not None:
                self.file.add(row)
            elif self.count <= self._limit:
                self._rows.append(tuple(row))

    def value(self) -> Any:
        """Return the value of the task. Raises TaskFailed."""
        job, columns = self._job, self.columns
        if columns is None:
            if job.save is not None or job.rows not in (None, "none"):
                raise TaskFailed("no statement has rows; remove `rows` and `save`, or add a SELECT", final=True)
            return None
        twice = sorted({name for name in columns if columns.count(name) > 1})
        if twice and job.rows not in ("value", "none"):
            names = " and ".join(map(repr, twice))
            raise TaskFailed(f"statement {self.number} has two columns {names}; name one with AS", final=True)
        if job.save is not None or job.rows == "none":
            return None
        if self.count > self._limit and job.rows != "first":
            raise TaskFailed(self._excess(), codes=("sql:too_many_rows",), final=True)
        if job.rows == "value" and len(columns) != 1:
            message = f"statement {self.number} has {len(columns)} columns, and `rows: value` takes one"
            raise TaskFailed(message, final=True)
        number = float if job.float_numbers else str
        values = [[stored(value, number) for value in row] for row in self._rows]
        if job.rows == "value":
            return values[0][0] if values else None
        mappings = [dict(zip(columns, row, strict=True)) for row in values]
        return mappings if job.rows not in ("one", "first") else mappings[0] if mappings else None

    def _excess(self) -> str:
        if self._limit == 1:
            return f"statement {self.number} has {self.count:,} rows, and `rows: {self._job.rows}` takes one"
        return (
            f"statement {self.number} has {self.count:,} rows, more than `max_rows: {self._limit}`; "
            "a file has no limit: `save: out.csv`"
        )


def execute(job: SqlJob) -> SqlResult:
    """Execute a job. Raises TaskFailed."""
    kind = _driver(job.address)
    place = job.address.shown
    execution = _Execution(job, kind)
    try:
        if kind.in_process:
            return _interruptible(execution.run, execution.interrupt)
        return execution.run()
    except (TaskFailed, OSError) as error:
        raise error if isinstance(error, TaskFailed) else TaskFailed(f"{place}: {error}") from error
    finally:
        execution.close()


def end_marked(address: Address, mark: str) -> int:
    """End what a server does for the connections with a mark, and return how many there were. Raises TaskFailed."""
    kind = _driver(address)
    try:
        return kind.end_marked(address, mark)
    except Exception as error:  # of any driver
        failure = kind.failure(error)
        if failure is None:
            raise
        raise TaskFailed(f"{address.shown}: {failure.message}", codes=failure.codes) from None


def _driver(address: Address) -> type[Database]:
    try:
        return database_class(address.scheme)
    except ImportError as error:
        module, extra = DRIVERS[address.scheme]
        if error.name != module:
            raise
        message = f"{address.scheme}:// needs {module}: pip install 'lightflow-workflows[{extra}]'"
        raise TaskFailed(message, final=True) from None


class _Execution:
    """One attempt to execute a job."""

    def __init__(self, job: SqlJob, kind: type[Database]) -> None:
        self._job, self._kind = job, kind
        self._rows = _Rows(job)
        self._database: Database | None = None
        self._ended = False  # whether a signal has ended the task
        self._changed = -1

    def run(self) -> SqlResult:
        job = self._job
        database = self._database = self._guarded(lambda: self._kind(job.address, job.options), "connect")
        texts = self._statements(database)
        if job.once_key is not None:
            self._guarded(lambda: _make_once_table(database), ONCE_TABLE)
        if job.transaction != "all":
            for number, statement in enumerate(texts, 1):
                self._alone(database, statement, number, len(texts))
            return self._result(len(texts))
        return self._in_transaction(database, texts)

    def _in_transaction(self, database: Database, texts: Sequence[Statement]) -> SqlResult:
        """Execute all statements in one transaction, unless an earlier attempt was committed with its mark."""
        job = self._job
        reads = all(each.reads for each in texts) and job.once_key is None
        self._guarded(lambda: database.begin(reads=reads), "BEGIN")
        if job.once_key is not None:
            done = self._once(database, job.once_key)
            if done is not None:
                return done
        for number, statement in enumerate(texts, 1):
            self._execute(database, statement, number, len(texts), in_transaction=True)
        result = self._result(len(texts))  # first: what cannot be returned or saved is not committed
        if job.once_key is not None:
            text = json.dumps([result.value, dict(result.outputs)])
            self._guarded(lambda: _store_result(database, str(job.once_key), text), ONCE_TABLE)
        self._commit(database)
        return result

    def _alone(self, database: Database, statement: Statement, number: int, count: int) -> None:
        """Execute a statement by itself."""
        in_transaction = self._job.transaction == "each"
        if in_transaction:
            self._guarded(lambda: database.begin(reads=statement.reads), "BEGIN")
        self._execute(database, statement, number, count, in_transaction=in_transaction)
        if in_transaction:
            self._commit(database)

    def _statements(self, database: Database) -> list[Statement]:
        """Return the statements, after a check of their parameters. Raises TaskFailed."""
        job = self._job
        try:
            texts = statements(job.text, database.dialect, split=job.split)
        except SqlTextError as error:
            raise TaskFailed(f"line {_line(job.text, error.start)}: {error}", final=True) from None
        problem = parameter_problem(texts, job.params) or ("" if texts else "the text has no statement")
        if problem:
            raise TaskFailed(problem, final=True)
        return texts

    def _execute(
        self, database: Database, statement: Statement, number: int, count: int, *, in_transaction: bool
    ) -> None:
        job, started = self._job, time.monotonic()
        line = _line(job.text, statement.start)
        where = f"statement {number} (line {line})" if count > 1 else f"the statement (line {line})"
        try:
            params = {name: argument(value) for name, value in job.params.items()}
            values = [argument(value) for value in job.values]
            text, arguments = bind(statement, params, values, database.dialect)
        except ValueError as error:
            raise TaskFailed(f"{where}: {error}", final=True) from None
        self._check_ended()

        def work() -> str:
            if job.save is not None and format_of(job.save) == PARQUET and number == count:
                return self._save_parquet(database, text, arguments, number)
            result = database.execute(text, arguments, reads=statement.reads, in_transaction=in_transaction)
            if result.columns is None:
                self._changed = result.changed
                return f"{_counted(result.changed)} changed" if result.changed >= 0 else "done"
            self._rows.take(result, number)
            return _counted(self._rows.count)

        outcome = self._guarded(work, where)
        print(f"{number}/{count} {statement.shown}: {outcome}, {time.monotonic() - started:.2f} s", flush=True)

    def _save_parquet(self, database: Database, text: str, arguments: Mapping[str, Any], number: int) -> str:
        rows = self._rows
        assert rows.file is not None
        rows.file.begin(())
        rows.columns, rows.count = database.save_parquet(text, arguments, rows.file.part)
        rows.number = number
        return _counted(rows.count)

    def _commit(self, database: Database) -> None:
        self._check_ended()
        try:
            database.commit()
        except Exception as error:  # of any driver
            failure = self._kind.failure(error)
            if failure is None:
                raise
            if failure.is_broken:
                message = (
                    f"{self._job.address.shown}: the connection ended during COMMIT ({failure.message}): whether the "
                    "statements took effect is unknown; with `once: true` the next attempt finds out"
                )
                final = self._job.once_key is None
                raise TaskFailed(message, codes=(COMMIT_UNKNOWN, *failure.codes), final=final) from None
            raise self._failed(error, "COMMIT") from None

    def _once(self, database: Database, key: str) -> SqlResult | None:
        """Mark the task in the transaction. Return the result of an attempt that has committed its mark."""
        stored_result = self._guarded(lambda: _stored_result(database, key), ONCE_TABLE)
        if stored_result is None:
            try:
                self._guarded(lambda: _insert_mark(database, key), ONCE_TABLE)
            except TaskFailed as error:  # another attempt has just inserted it: the next one reads its result
                raise TaskFailed(str(error), codes=error.codes) from None
            return None
        print(f"an earlier attempt was committed: {ONCE_TABLE} has the mark {key}", flush=True)
        self._guarded(database.rollback, "ROLLBACK")
        value, outputs = json.loads(stored_result)
        return SqlResult(value, outputs)

    def _result(self, count: int) -> SqlResult:
        """Return the values of the task; the file with the rows has its name then."""
        rows = self._rows
        value = rows.value()
        outputs: dict[str, Any] = {
            "row_count": rows.count if rows.columns is not None else max(self._changed, 0),
            "columns": list(rows.columns or ()),
            "statements": count,
        }
        if rows.file is not None:
            outputs |= {"sha256": rows.file.publish(), "file": rows.file.path}
        return SqlResult(value, outputs)

    def _guarded(self, work: Callable[[], _T], where: str) -> _T:
        """Do a step. Raises TaskFailed with the step and the error of the driver."""
        try:
            return work()
        except ValueError as error:
            raise TaskFailed(f"{self._job.address.shown}: {error}", final=True) from None
        except Exception as error:  # of any driver
            if isinstance(error, TaskFailed) or self._kind.failure(error) is None:
                raise
            raise self._failed(error, where) from None

    def _failed(self, error: BaseException, where: str) -> TaskFailed:
        failure = self._kind.failure(error)
        assert failure is not None
        hint = ""
        if failure.codes == ("sqlstate:25001",):
            hint = "; a statement that cannot be in a transaction needs `transaction: none`"
        message = f"{self._job.address.shown}: {where}: {failure.message}{hint}"
        return TaskFailed(message, codes=failure.codes, final=failure.final)

    def _check_ended(self) -> None:
        if self._ended:
            raise TaskFailed("the task was ended")

    def interrupt(self) -> None:
        self._ended = True
        if self._database is not None:
            self._database.interrupt()

    def close(self) -> None:
        if self._database is not None:
            with suppress(Exception):  # a connection that has ended cannot be closed well
                self._database.close()
        if self._rows.file is not None:
            self._rows.file.abandon()


def _interruptible(work: Callable[[], _T], interrupt: Callable[[], None]) -> _T:
    """Do work in a thread, and end it when a signal raises an exception in this one.

    A library that works in this process does not return to Python for a signal.
    """
    results: list[_T] = []
    errors: list[BaseException] = []
    ended = threading.Event()  # `Thread.join` takes a thread for ended after an exception of a signal (Python 3.11)

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - it is raised in the other thread
            errors.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=body, name="lightflow-sql", daemon=True)
    thread.start()
    try:
        ended.wait()
    except BaseException:
        while not ended.is_set():
            interrupt()
            ended.wait(_INTERRUPT_PAUSE_S)
        raise
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _counted(rows: int) -> str:
    return f"{rows:,} row{'' if rows == 1 else 's'}"


def _line(text: str, start: int) -> int:
    return text.count("\n", 0, start) + 1


def _make_once_table(database: Database) -> None:
    """Create the table of marks, unless it exists; a role may be allowed to use it, and not to create it."""
    try:
        database.execute(f"SELECT id FROM {ONCE_TABLE} WHERE 1 = 0", {}, reads=False, in_transaction=False)
    except Exception as error:  # of any driver
        if database.failure(error) is None:
            raise
        columns = f"id VARCHAR(64) NOT NULL PRIMARY KEY, result {database.text_type}"
        text = f"CREATE TABLE IF NOT EXISTS {ONCE_TABLE} ({columns})"
        database.execute(text, {}, reads=False, in_transaction=False)


def _stored_result(database: Database, key: str) -> str | None:
    text = f"SELECT result FROM {ONCE_TABLE} WHERE id = {database.dialect.parameter.format('id')}"
    result = database.execute(text, {"id": key}, reads=False, in_transaction=True)
    rows = list(result.rows)
    return None if not rows else str(rows[0][0])


def _insert_mark(database: Database, key: str) -> None:
    text = f"INSERT INTO {ONCE_TABLE} (id) VALUES ({database.dialect.parameter.format('id')})"
    database.execute(text, {"id": key}, reads=False, in_transaction=True)


def _store_result(database: Database, key: str, result: str) -> None:
    form = database.dialect.parameter.format
    text = f"UPDATE {ONCE_TABLE} SET result = {form('result')} WHERE id = {form('id')}"
    database.execute(text, {"id": key, "result": result}, reads=False, in_transaction=True)
