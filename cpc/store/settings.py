"""Settings that differ from their defaults: the SQL."""

from __future__ import annotations

from cpc.store import schema, statement
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_SETTINGS = schema.settings

_ALL = Statement(_SETTINGS.select())
_ADD = statement.insert(_SETTINGS)
_DELETE = statement.delete(_SETTINGS, "name")


def all_set(tx: Tx) -> dict[str, str]:
    """What has been set, as text, by name."""
    return {str(name): str(value) for name, value in tx.rows(_ALL)}


def put(tx: Tx, name: str, value: str) -> None:
    """Set a value."""
    unset(tx, name)
    tx.run(_ADD, {"name": name, "value": value})


def unset(tx: Tx, name: str) -> None:
    """Back to the default."""
    tx.run(_DELETE, {"name": name})
