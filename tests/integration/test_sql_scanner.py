"""The statements of random texts are those that the databases see."""

from __future__ import annotations

import sqlite3

import sql_servers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sql_servers import SqlServer

from lightflow.sql.dialects import MYSQL, POSTGRESQL, SQLITE
from lightflow.sql.statements import statements

#: Parts that end a statement where a reader takes a quote or a comment for something else.
SQLITE_PARTS = ["'", '"', "`", "[", "]", ";", "--", "/*", "*/", "\n", " ", "a", "1", "''", "CREATE TRIGGER ", "BEGIN "]
SQLITE_PARTS += ["END", "\\", "#", "$$", "é"]
#: Whole expressions of PostgreSQL, which hold what divides statements elsewhere.
POSTGRESQL_PARTS = [
    "';'", "''';'''", r"'\'", r"E'\';'", r"e'\\'", "E'a'\n'\\';'", "$$;$$", "$é$;$$'$é$", "$a$$b$;$a$", "1", "1.5",
    'null AS ";"', "2 AS a$b$", "'x'::text", "(';')", "array[1,2]", "(array[1,2])[1:2]", "U&'d\\0061;'", "5 - -3",
    "'a' -- ';\n", "1 /* ; /* ' */ ; */", "2 --;\r+ 1", "7 % 4", "N';'", "interval '1' day", "'a' || ':b'", "B'01'",
]  # fmt: skip
MYSQL_PARTS = [
    "';'", r"'\';'", "''';'", r'"\";"', '"\'"', "5--3", "1 -- ;\n", "2 # ';\n", "3 /* ; ' */", "`;` /* a */", "7 % 4",
    r"'\\'", "N';'", r"_utf8'\';'", "'a' ';'", "1 --\n", "x'3b'", "@a := ';'",
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(SQLITE_PARTS), max_size=14).map("".join))
def test_sqlite_agrees_where_a_statement_is_complete(text: str) -> None:
    """A text with a semicolon behind it is complete exactly where the scanner begins another statement."""
    text = f"SELECT 0;{text};"
    try:
        is_complete = len(statements(f"{text}\nSELECT 1", SQLITE)) == len(statements(text, SQLITE)) + 1
    except ValueError:
        is_complete = False
    assert sqlite3.complete_statement(text) is is_complete


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.lists(st.sampled_from(POSTGRESQL_PARTS), min_size=1, max_size=5), min_size=1, max_size=4))
def test_postgresql_sees_the_same_statements(postgresql: SqlServer, texts: list[list[str]]) -> None:
    text = ";".join(f"SELECT {', '.join(parts)}" for parts in texts)
    connection = sql_servers.connected(postgresql)
    try:
        cursor = connection.execute(text)
        rows = [cursor.fetchall()]
        while cursor.nextset():
            rows.append(cursor.fetchall())
        found = ["".join(map(str, each.parts)) for each in statements(text, POSTGRESQL)]
        assert [connection.execute(each).fetchall() for each in found] == rows
    finally:
        connection.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.lists(st.sampled_from(MYSQL_PARTS), min_size=1, max_size=5), min_size=1, max_size=4))
def test_mariadb_sees_the_same_statements(mysql: SqlServer, texts: list[list[str]]) -> None:
    import pymysql
    from pymysql.constants import CLIENT

    lines = [f"SELECT {', '.join(parts)} FROM (SELECT 1 AS `;`) AS t" for parts in texts]
    text = ";".join(lines)
    host = {"host": "127.0.0.1", "port": mysql.port, "user": "tester", "password": sql_servers.TOKEN}
    connection = pymysql.connect(**host, client_flag=CLIENT.MULTI_STATEMENTS)
    try:
        with connection.cursor() as cursor:
            cursor.execute(text)
            rows = [cursor.fetchall()]
            while cursor.nextset():
                rows.append(cursor.fetchall())
            found = ["".join(map(str, each.parts)) for each in statements(text, MYSQL)]
            again = []
            for each in found:
                cursor.execute(each)
                again.append(cursor.fetchall())
            assert again == rows
    finally:
        connection.close()
