"""A PostgreSQL database as statements: what pg_dump does for tables like ours, for any version of the server."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

PAGE = 100
_TABLES = "SELECT oid, relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 2"
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_CONSTRAINTS = (
    "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s AND contype IN ('p', 'u')"
)
_INDEXES = """
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s
AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid) ORDER BY 1
"""


def libpq(url: str) -> str:
    """The URL as libpq takes it."""
    return "postgresql" + url[url.index("://") :]


def dump(url: str) -> str:
    """Tables, rows, keys and indexes, in the order in which they are to be made."""
    with psycopg.connect(libpq(url)) as connection:
        return "".join(f"{line};\n" for line in _statements(connection))


def load(url: str, text: bytes) -> None:
    """Into an empty database; all or nothing."""
    with psycopg.connect(libpq(url)) as connection:
        connection.execute(text)


def _statements(connection: psycopg.Connection) -> Iterator[str]:
    for oid, table in connection.execute(_TABLES).fetchall():
        columns = connection.execute(_COLUMNS, (oid,)).fetchall()
        parts = [
            f'"{name}" {kind}{" NOT NULL" if required else ""}{f" DEFAULT {default}" if default else ""}'
            for name, kind, required, default in columns
        ]
        constraints = connection.execute(_CONSTRAINTS, (oid,)).fetchall()
        parts += [f'CONSTRAINT "{name}" {text}' for name, text in constraints]
        yield f'CREATE TABLE "{table}" ({", ".join(parts)})'
        yield from _rows(connection, table)
        yield from (text for (text,) in connection.execute(_INDEXES, (oid,)))


def _rows(connection: psycopg.Connection, table: str) -> Iterator[str]:
    rows = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))).fetchall()
    for start in range(0, len(rows), PAGE):
        values = sql.SQL(", ").join(
            sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, row))) for row in rows[start : start + PAGE]
        )
        yield sql.SQL("INSERT INTO {} VALUES {}").format(sql.Identifier(table), values).as_string(connection)
