"""What all tables are made of: names of constraints, and types of columns that both databases have."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite makes "INTEGER PRIMARY KEY" the row's own address; a BIGINT key would be a second index.
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Small = sa.SmallInteger()
Big = sa.BigInteger()
Text = sa.Text()
Blob = sa.LargeBinary()


def table(name: str, *columns: sa.Column | sa.Index | sa.schema.SchemaItem) -> sa.Table:  # type: ignore[type-arg]
    """A table of the one set that there is."""
    return sa.Table(name, metadata, *columns)


def partial_index(name: str, *columns: sa.Column[Any], where: sa.ColumnElement[bool] | sa.TextClause) -> None:
    """An index of those rows only for which `where` holds.

    PostgreSQL hears of the condition when the index is made there: said at once, SQLAlchemy would load that dialect (2 MB)
    in every server.
    """

    def say(made: sa.Index, connection: sa.Connection, **_: object) -> None:
        made.dialect_options[connection.dialect.name]["where"] = where

    sa.event.listen(sa.Index(name, *columns), "before_create", say)
