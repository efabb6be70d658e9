"""SQL is divided into statements, and its parameters are found, as the databases read it."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from lightflow.spec.model import Identifier
from lightflow.sql.dialects import DUCKDB, MYSQL, MYSQL_WITHOUT_BACKSLASHES, POSTGRESQL, SQLITE, Dialect
from lightflow.sql.statements import SqlTextError, bind, parameter_names, statements


class Difficult(NamedTuple):
    """A text, its statements, and the names of its parameters in order."""

    dialect: Dialect
    text: str
    expected: list[str]
    names: list[str] = []  # noqa: RUF012 - nothing changes it


TEXTS = [
    Difficult(SQLITE, "SELECT 'a;b'; SELECT 2", ["SELECT 'a;b'", "SELECT 2"]),
    Difficult(SQLITE, "SELECT 'it''s; :x'; SELECT :y", ["SELECT 'it''s; :x'", "SELECT :y"], ["y"]),
    Difficult(SQLITE, 'SELECT "a;b", `c;d`, [e;f]; SELECT 2', ['SELECT "a;b", `c;d`, [e;f]', "SELECT 2"]),
    Difficult(SQLITE, "SELECT 1 -- it's; :x\n; SELECT 2", ["SELECT 1 -- it's; :x", "SELECT 2"]),
    Difficult(SQLITE, "SELECT 1 /* it's; /* :x */; SELECT 2", ["SELECT 1 /* it's; /* :x */", "SELECT 2"]),
    Difficult(SQLITE, r"SELECT '\'; SELECT 2", [r"SELECT '\'", "SELECT 2"]),
    Difficult(
        SQLITE,
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; DELETE FROM c; END; SELECT 1",
        ["CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; DELETE FROM c; END", "SELECT 1"],
    ),
    Difficult(SQLITE, "SELECT 1;; ;\n-- end\n", ["SELECT 1"]),
    Difficult(SQLITE, "SELECT :a, :b_2, :a", ["SELECT :a, :b_2, :a"], ["a", "b_2", "a"]),
    Difficult(SQLITE, "SELECT 'x' /* no end ; :x", ["SELECT 'x' /* no end ; :x"]),
    Difficult(POSTGRESQL, r"SELECT 'a\'; SELECT 2", [r"SELECT 'a\'", "SELECT 2"]),
    Difficult(POSTGRESQL, r"SELECT E'a\';b', e'\\'; SELECT 2", [r"SELECT E'a\';b', e'\\'", "SELECT 2"]),
    Difficult(POSTGRESQL, "SELECT 1 /* a /* ; */ ; :x */; SELECT 2", ["SELECT 1 /* a /* ; */ ; :x */", "SELECT 2"]),
    Difficult(POSTGRESQL, "SELECT $$a;b':x$$; SELECT 2", ["SELECT $$a;b':x$$", "SELECT 2"]),
    Difficult(POSTGRESQL, "SELECT $t$a;$$;b$t$; SELECT 2", ["SELECT $t$a;$$;b$t$", "SELECT 2"]),
    Difficult(POSTGRESQL, "SELECT a$b$c; SELECT d$b$", ["SELECT a$b$c", "SELECT d$b$"]),
    Difficult(POSTGRESQL, "SELECT '1'::int, :x::text; SELECT 2", ["SELECT '1'::int, :x::text", "SELECT 2"], ["x"]),
    Difficult(POSTGRESQL, "SELECT a[1:2], a[n:m], b[:k]", ["SELECT a[1:2], a[n:m], b[:k]"], ["k"]),
    Difficult(POSTGRESQL, "SELECT f(a := 1, b => :b)", ["SELECT f(a := 1, b => :b)"], ["b"]),
    Difficult(POSTGRESQL, "SELECT U&'d\\0061t;', U&\"x;\"; SELECT 2", ["SELECT U&'d\\0061t;', U&\"x;\"", "SELECT 2"]),
    Difficult(
        POSTGRESQL,
        "SELECT a ? 'b', a ?| array['c;'], 5 % 2; SELECT 2",
        ["SELECT a ? 'b', a ?| array['c;'], 5 % 2", "SELECT 2"],
    ),
    Difficult(POSTGRESQL, "SELECT B'01', X'1F', N'a;'; SELECT 1", ["SELECT B'01', X'1F', N'a;'", "SELECT 1"]),
    Difficult(POSTGRESQL, "SELECT 'a'\n'b;c'; SELECT 2", ["SELECT 'a'\n'b;c'", "SELECT 2"]),
    Difficult(POSTGRESQL, "SELECT E'a'\n'b\\';c'; SELECT 2", ["SELECT E'a'\n'b\\';c'", "SELECT 2"]),
    Difficult(POSTGRESQL, "SELECT 1--;x\n+2; SELECT 3", ["SELECT 1--;x\n+2", "SELECT 3"]),
    Difficult(POSTGRESQL, "SELECT 2 #- 1, a #>> '{b;}'; SELECT 3", ["SELECT 2 #- 1, a #>> '{b;}'", "SELECT 3"]),
    Difficult(POSTGRESQL, "SELECT $1, $2; SELECT 3", ["SELECT $1, $2", "SELECT 3"]),
    Difficult(
        POSTGRESQL,
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; SELECT 2 $$; SELECT 3",
        ["CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; SELECT 2 $$", "SELECT 3"],
    ),
    Difficult(POSTGRESQL, "SELECT é$x$; SELECT $é$;$é$", ["SELECT é$x$", "SELECT $é$;$é$"]),
    Difficult(POSTGRESQL, "CALL f('a;b', :x); SELECT 2", ["CALL f('a;b', :x)", "SELECT 2"], ["x"]),
    Difficult(POSTGRESQL, "EXECUTE p('a;b', :x); SELECT 2", ["EXECUTE p('a;b', :x)", "SELECT 2"], ["x"]),
    Difficult(POSTGRESQL, 'SHOW "a;b"; SELECT 2', ['SHOW "a;b"', "SELECT 2"]),
    Difficult(POSTGRESQL, "SELECT 1 -- a\r; SELECT 2", ["SELECT 1 -- a", "SELECT 2"]),
    Difficult(MYSQL, "CALL f('a;b', :x); SELECT 2", ["CALL f('a;b', :x)", "SELECT 2"], ["x"]),
    Difficult(MYSQL, "SELECT 1 -- a\r; :x\n; SELECT 2", ["SELECT 1 -- a\r; :x", "SELECT 2"]),
    Difficult(MYSQL, "SHOW TABLES LIKE 'a;b'; SELECT :x", ["SHOW TABLES LIKE 'a;b'", "SELECT :x"], ["x"]),
    Difficult(MYSQL, r"SELECT _utf8'a\';', N'b\';'; SELECT 1", [r"SELECT _utf8'a\';', N'b\';'", "SELECT 1"]),
    Difficult(DUCKDB, "CALL f('a;b', :x); SELECT 2", ["CALL f('a;b', :x)", "SELECT 2"], ["x"]),
    Difficult(
        DUCKDB,
        "SELECT x -> '$.a' FROM t WHERE y = :y::date; SELECT 2",
        ["SELECT x -> '$.a' FROM t WHERE y = :y::date", "SELECT 2"],
        ["y"],
    ),
    Difficult(
        SQLITE,
        "ATTACH 'a;b' AS c; VACUUM \"x;y\" INTO :p; SELECT 1",
        ["ATTACH 'a;b' AS c", 'VACUUM "x;y" INTO :p', "SELECT 1"],
        ["p"],
    ),
    Difficult(
        SQLITE,
        "EXPLAIN CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN SELECT CASE WHEN 1 THEN 2 END; END; SELECT :x",
        ["EXPLAIN CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN SELECT CASE WHEN 1 THEN 2 END; END", "SELECT :x"],
        ["x"],
    ),
    Difficult(SQLITE, "SELECT 'x:y', t.\"a:b\", '12:30:00', :z", ["SELECT 'x:y', t.\"a:b\", '12:30:00', :z"], ["z"]),
    Difficult(MYSQL, "SELECT 'a\\';b', \"c\\\";d\"; SELECT 2", ["SELECT 'a\\';b', \"c\\\";d\"", "SELECT 2"]),
    Difficult(MYSQL, "SELECT 5--3; SELECT 2", ["SELECT 5--3", "SELECT 2"]),
    Difficult(MYSQL, "SELECT 5 -- 3; :x\n; SELECT 2", ["SELECT 5 -- 3; :x", "SELECT 2"]),
    Difficult(MYSQL, "SELECT 5 # it's ; :x\n; SELECT 2", ["SELECT 5 # it's ; :x", "SELECT 2"]),
    Difficult(MYSQL, "SELECT `a``;b`; SELECT 2", ["SELECT `a``;b`", "SELECT 2"]),
    Difficult(MYSQL, "SELECT 1 /* a /* ; */; SELECT 2", ["SELECT 1 /* a /* ; */", "SELECT 2"]),
    Difficult(MYSQL, "SELECT @x := :y; SELECT 2", ["SELECT @x := :y", "SELECT 2"], ["y"]),
    Difficult(MYSQL, "SELECT 1 --\n; SELECT 2", ["SELECT 1 --", "SELECT 2"]),
    Difficult(
        DUCKDB,
        "SELECT {'a':x, 'b': :y}, [1:2], l[:k]; SELECT 2",
        ["SELECT {'a':x, 'b': :y}, [1:2], l[:k]", "SELECT 2"],
        ["y", "k"],
    ),
    Difficult(DUCKDB, "SELECT ['a;b', ']']; SELECT 2", ["SELECT ['a;b', ']']", "SELECT 2"]),
    Difficult(DUCKDB, r"SELECT $$a;b$$, $x$;$x$, E'\';'; SELECT 2", [r"SELECT $$a;b$$, $x$;$x$, E'\';'", "SELECT 2"]),
    Difficult(
        DUCKDB,
        "SELECT map {'k':v}, a[1:2]::int[], x->>'$.a;b'; SELECT 2",
        ["SELECT map {'k':v}, a[1:2]::int[], x->>'$.a;b'", "SELECT 2"],
    ),
    Difficult(
        DUCKDB,
        "FROM t SELECT * WHERE a = 'é' AND b = :b; SELECT 1_000",
        ["FROM t SELECT * WHERE a = 'é' AND b = :b", "SELECT 1_000"],
        ["b"],
    ),
    Difficult(MYSQL_WITHOUT_BACKSLASHES, r"SELECT 'a\'; SELECT 'b;c'", [r"SELECT 'a\'", "SELECT 'b;c'"]),
]


@pytest.mark.parametrize("case", TEXTS, ids=[f"{case.dialect.name}: {case.text}"[:60] for case in TEXTS])
def test_a_difficult_text(case: Difficult) -> None:
    texts = statements(case.text, case.dialect)
    shown = ["".join(part if isinstance(part, str) else f":{part.source}" for part in each.parts) for each in texts]
    assert [text.strip() for text in shown] == [text.strip() for text in case.expected]
    assert parameter_names(texts) == list(dict.fromkeys(case.names))


@pytest.mark.parametrize(
    ("dialect", "text", "start"),
    [
        (SQLITE, "SELECT 1; SELECT 'a", 17),
        (SQLITE, 'SELECT "a', 7),
        (SQLITE, "SELECT `a", 7),
        (POSTGRESQL, "SELECT 1 /* /* */", 9),
        (POSTGRESQL, "SELECT $x$ ; $y$", 7),
        (POSTGRESQL, r"SELECT E'a\'", 7),
        (MYSQL, r"SELECT 'a\'", 7),
        (MYSQL, "SELECT 1 /* a", 9),
        (POSTGRESQL, "SELECT 'a\0b'", 9),
        (POSTGRESQL, "SELECT 1 -- \0\n", 12),
        (SQLITE, "SELECT 1 /* \0 */", 12),
    ],
)
def test_the_place_of_a_mistake(dialect: Dialect, text: str, start: int) -> None:
    with pytest.raises(SqlTextError) as caught:
        statements(text, dialect)
    assert caught.value.start == start


def test_a_text_that_is_not_divided_is_one_statement() -> None:
    text = "CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END"
    [statement] = statements(text, MYSQL, split=False)
    assert statement.parts == (text,)
    assert statement.is_routine
    assert not statements("CREATE TABLE procedure_calls (a int)", MYSQL)[0].is_routine


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("SELECT 1", True),
        ("  -- a comment\n (SELECT 1) UNION SELECT 2", True),
        ("WITH a AS (SELECT 1) SELECT * FROM a", True),
        ("VALUES (1)", True),
        ("SELECT 'INSERT'", True),
        ("WITH a AS (DELETE FROM b RETURNING *) SELECT * FROM a", False),
        ("SELECT * INTO b FROM a", False),
        ("SELECT * FROM a FOR UPDATE", False),
        ("INSERT INTO a VALUES (1) RETURNING *", False),
        ("SHOW server_version", False),
    ],
)
def test_a_query_is_recognised(text: str, reads: bool) -> None:
    assert statements(text, POSTGRESQL)[0].reads is reads


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("COMMIT", True),
        ("begin immediate", True),
        ("START TRANSACTION", True),
        ("ROLLBACK", True),
        ("ROLLBACK TO SAVEPOINT a", False),
        ("ROLLBACK TRANSACTION TO a", False),
        ("SAVEPOINT a", False),
        ("RELEASE a", False),
        ("ENDORSE", False),
    ],
)
def test_the_end_of_a_transaction_is_recognised(text: str, ends: bool) -> None:
    assert statements(text, SQLITE)[0].ends_transaction is ends


def test_values_are_bound_and_never_pasted() -> None:
    [statement] = statements("SELECT :a, \0, :a, '100%' % 7", POSTGRESQL)
    text, arguments = bind(statement, {"a": "x'; DROP TABLE t; --"}, [5], POSTGRESQL)
    assert text == "SELECT %(v0)s, %(v1)s, %(v0)s, '100%%' %% 7"
    assert arguments == {"v0": "x'; DROP TABLE t; --", "v1": 5}
    assert bind(statements("SELECT :a", SQLITE)[0], {"a": 1}, [], SQLITE) == ("SELECT :v0", {"v0": 1})
    assert bind(statements("SELECT :a", DUCKDB)[0], {"a": 1}, [], DUCKDB) == ("SELECT $v0", {"v0": 1})


@pytest.mark.parametrize("dialect", [SQLITE, POSTGRESQL, MYSQL, DUCKDB])
def test_a_list_is_expanded_in_in(dialect: Dialect) -> None:
    [statement] = statements("SELECT 1 WHERE a IN (:ids, :more) AND b in(f(:x), :ids)", dialect)
    text, arguments = bind(statement, {"ids": [1, 2], "more": 3, "x": 4}, [], dialect)
    form = dialect.parameter.format
    places = [form(f"v{number}") for number in range(4)]
    assert text == f"SELECT 1 WHERE a IN ({', '.join(places[:3])}) AND b in(f({places[3]}), {', '.join(places[:2])})"
    assert list(arguments.values()) == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="empty"):
        bind(statement, {"ids": [], "more": 3, "x": 4}, [], dialect)


def test_a_list_elsewhere_is_an_array_where_there_are_arrays() -> None:
    [statement] = statements("SELECT * FROM t WHERE a = ANY(:ids)", POSTGRESQL)
    assert bind(statement, {"ids": [1, 2]}, [], POSTGRESQL)[1] == {"v0": [1, 2]}
    for dialect in (SQLITE, MYSQL):
        with pytest.raises(ValueError, match="list"):
            bind(statement, {"ids": [1, 2]}, [], dialect)


def test_an_identifier_is_quoted() -> None:
    [statement] = statements("SELECT * FROM \0", POSTGRESQL)
    assert bind(statement, {}, [Identifier('a.b"%')], POSTGRESQL)[0] == 'SELECT * FROM "a"."b""%%"'
    assert bind(statement, {}, [Identifier("a`b")], MYSQL)[0] == "SELECT * FROM `a``b`"
    for name in ("", "a.", "a\0b"):
        with pytest.raises(ValueError, match="not a name"):
            bind(statement, {}, [Identifier(name)], SQLITE)
