"""That statements are recognised by what they do, however they are written."""

import pytest

from tests.sql import Part, parts

A = {"a"}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ('UPDATE "a" SET "x" = %s WHERE "y" = %s', [Part("UPDATE", "a", A)]),
        ('update only a as t\nset y = %s, "x" = %s where "t"."y" is null', [Part("UPDATE", "a", A)]),
        ('UPDATE "a" SET "x" = \'FROM "b"\' RETURNING 1', [Part("UPDATE", "a", A)]),
        ('DELETE FROM "a" WHERE "x" IN (SELECT "y" FROM "b" "t")', [Part("DELETE", "a", {"a", "b"})]),
        ('INSERT INTO "a" ("x") VALUES (%s), (%s)', [Part("INSERT", "a", A)]),
        ('INSERT INTO "a" ("x") SELECT "y" FROM "b"', [Part("INSERT", "a", {"a", "b"})]),
        (
            'INSERT INTO "a" ("x") VALUES (%s) ON CONFLICT ("x") DO UPDATE SET "x" = 1',
            [Part("INSERT", "a", A, False, True)],
        ),
        ('SELECT (SELECT 1 FROM "b") FROM "a" JOIN "c" ON 1 = 1', [Part("SELECT", "", {"a", "b", "c"})]),
        ('SELECT 1 FROM (SELECT * FROM "a") t FOR NO KEY UPDATE OF "t"', [Part("SELECT", "", A, True)]),
        ('SELECT "key", "update" FROM "a" FOR UPDATE', [Part("SELECT", "", A, True)]),
        (
            (
                'WITH "done" AS (UPDATE "a" SET "x" = 1 RETURNING 1), more AS (INSERT INTO "b" SELECT 1 FROM done)\n'
                'SELECT 1 FROM "c" JOIN more ON TRUE'
            ),
            [Part("UPDATE", "a", A), Part("INSERT", "b", {"b"}), Part("SELECT", "", {"c"})],
        ),
        (
            'SELECT 1 FROM "a" FOR UPDATE; WITH b AS (DELETE FROM "c" RETURNING 1) SELECT 1 FROM b',
            [Part("SELECT", "", A, True), Part("DELETE", "c", {"c"}), Part("SELECT")],
        ),
        ('SAVEPOINT "s1"', [Part("SAVEPOINT")]),
        ("COMMIT", [Part("COMMIT")]),
    ],
)
def test_statement_is_recognised_by_what_it_does(sql: str, expected: list[Part]) -> None:
    assert parts(sql) == expected


@pytest.mark.parametrize(
    ("wanted", "is_wanted"),
    [('UPDATE "a"', True), ("UPDATE", True), ('UPDATE "b"', False), ('DELETE FROM "a"', False)],
)
def test_description_says_the_kind_and_perhaps_the_table(wanted: str, is_wanted: bool) -> None:
    (description,), (statement,) = parts(wanted), parts('UPDATE "a" SET "x" = (SELECT "y" FROM "b")')
    assert statement.is_a(description) is is_wanted
