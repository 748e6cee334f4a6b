"""Users: the SQL. A deleted user's row stays, without a password and under a key that no name can have."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from cpc.core import names
from cpc.store import schema, statement
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_COLUMNS = ("id", "name", "password", "super", "disabled", "created", "deleted")
_USERS = schema.users
_SELECTED = [_USERS.c[name] for name in _COLUMNS]

_BY_ID = statement.select(_USERS, *_COLUMNS)
_BY_KEY = statement.select(_USERS, *_COLUMNS, key=["key"])
_PAGE = Statement(
    sa.select(*_SELECTED)
    .where(_USERS.c.deleted.is_(None), _USERS.c.key > sa.bindparam("after"))
    .order_by(_USERS.c.key)
    .limit(sa.bindparam("limit"))
)
_SUPER = Statement(
    sa.select(sa.func.count())
    .select_from(_USERS)
    .where(_USERS.c.super == sa.true(), _USERS.c.disabled == sa.false(), _USERS.c.deleted.is_(None))
)
_ADD = statement.insert(_USERS)
_CHANGE = statement.update(_USERS, "password", "super", "disabled")
_DELETE = statement.update(_USERS, "key", "password", "super", "disabled", "deleted")


@dataclass(frozen=True, slots=True)
class UserRow:
    """A user. `password` is a hash, "" for none; times in µs."""

    id: int
    name: str
    password: str
    super_user: bool
    disabled: bool
    created: int
    deleted: int | None


def _row(found: tuple[object, ...]) -> UserRow:
    number, name, password, super_user, disabled, created, deleted = found
    return UserRow(number, name, password, bool(super_user), bool(disabled), created, deleted)  # type: ignore[arg-type]


def by_id(tx: Tx, number: int) -> UserRow | None:
    """The user with this id, deleted or not."""
    found = tx.one(_BY_ID, {"id": number})
    return _row(found) if found else None


def by_name(tx: Tx, name: str) -> UserRow | None:
    """The user who has this name now."""
    key = names.find(name)
    found = tx.one(_BY_KEY, {"key": key}) if key else None
    return _row(found) if found and found[6] is None else None


def page(tx: Tx, after: str, limit: int) -> list[UserRow]:
    """Users in the order of their names, after the name `after`."""
    return [_row(found) for found in tx.rows(_PAGE, {"after": names.key(after), "limit": limit})]


def count_super(tx: Tx) -> int:
    """How many super users could log in."""
    return int(tx.scalar(_SUPER))


def add(tx: Tx, name: str, password: str, super_user: bool) -> UserRow:
    """A new user; the name must be free."""
    row = UserRow(tx.next("user"), name, password, super_user, False, tx.now, None)
    tx.run(
        _ADD,
        {
            "id": row.id, "name": name, "key": names.key(name), "password": password, "super": super_user,
            "disabled": False, "created": row.created, "deleted": None,
        },
    )  # fmt: skip
    return row


def change(tx: Tx, row: UserRow) -> None:
    """Store the row's password, rights and whether it is disabled."""
    tx.run(
        _CHANGE,
        {"key_id": row.id, "password": row.password, "super": row.super_user, "disabled": row.disabled},
    )


def delete(tx: Tx, number: int) -> None:
    """The name is free again; whoever takes it is somebody else."""
    tx.run(
        _DELETE,
        {"key_id": number, "key": f"~{number}", "password": "", "super": False, "disabled": True, "deleted": tx.now},
    )
