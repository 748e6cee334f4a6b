"""Projects: the SQL. A deleted project's row stays for its history, under a key that no name can have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cpc.core import names
from cpc.store import schema, statement
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_PROJECTS = schema.projects
_MEMBERS = schema.members
_ARRAYS = schema.arrays
_COLUMNS = ("id", "name", "owner", "created", "deleted", "quota", "weight", "storage")
_SELECTED = [_PROJECTS.c[name] for name in _COLUMNS]

_BY_ID = statement.select(_PROJECTS, *_COLUMNS)
_BY_KEY = statement.select(_PROJECTS, *_COLUMNS, key=["key"])
_AFTER = (_PROJECTS.c.deleted.is_(None), _PROJECTS.c.key > sa.bindparam("after"))
_ALL = Statement(sa.select(*_SELECTED).where(*_AFTER).order_by(_PROJECTS.c.key).limit(sa.bindparam("limit")))
_OF_USER = Statement(
    sa.select(*_SELECTED)
    .join(_MEMBERS, _MEMBERS.c.project == _PROJECTS.c.id)
    .where(*_AFTER, _MEMBERS.c.user == sa.bindparam("user"))
    .order_by(_PROJECTS.c.key)
    .limit(sa.bindparam("limit"))
)
_OWNED = Statement(
    sa.select(*_SELECTED)
    .where(_PROJECTS.c.owner == sa.bindparam("owner"), _PROJECTS.c.deleted.is_(None))
    .order_by(_PROJECTS.c.id)
)
_COUNTS = Statement(
    sa.select(
        sa.func.coalesce(sa.func.sum(_ARRAYS.c.open), 0),
        sa.func.coalesce(sa.func.sum(_ARRAYS.c.succeeded), 0),
        sa.func.coalesce(sa.func.sum(_ARRAYS.c.failed), 0),
        sa.func.coalesce(sa.func.sum(_ARRAYS.c.cancelled), 0),
    ).where(_ARRAYS.c.project == sa.bindparam("project"))
)
_ADD = statement.insert(_PROJECTS)
_CHANGE = statement.update(_PROJECTS, "owner", "quota", "weight")
_DELETE = statement.update(_PROJECTS, "key", "deleted")


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """A project. `owner` is a user's id; `quota` and `storage` in bytes (quota 0: none); times in µs."""

    id: int
    name: str
    owner: int
    created: int
    deleted: int | None
    quota: int
    weight: float
    storage: int


def by_id(tx: Tx, number: int) -> ProjectRow | None:
    """The project with this id, deleted or not."""
    found = tx.one(_BY_ID, {"id": number})
    return ProjectRow(*found) if found else None


def by_name(tx: Tx, name: str) -> ProjectRow | None:
    """The project that has this name now."""
    key = names.find(name)
    found = tx.one(_BY_KEY, {"key": key}) if key else None
    return ProjectRow(*found) if found and found[4] is None else None


def page(tx: Tx, after: str, limit: int, user: int | None = None) -> list[ProjectRow]:
    """Projects in the order of their names after `after`: all, or those that `user` has a role in."""
    row = {"after": names.key(after), "limit": limit}
    found = tx.rows(_ALL, row) if user is None else tx.rows(_OF_USER, {**row, "user": user})
    return [ProjectRow(*each) for each in found]


def owned(tx: Tx, user: int) -> list[ProjectRow]:
    """The projects whose owner of record is this user."""
    return [ProjectRow(*found) for found in tx.rows(_OWNED, {"owner": user})]


def add(tx: Tx, name: str, owner: int, quota: int, weight: float) -> ProjectRow:
    """A new project; the name must be free."""
    row = ProjectRow(tx.next("project"), name, owner, tx.now, None, quota, weight, 0)
    tx.run(
        _ADD,
        {
            "id": row.id, "name": name, "key": names.key(name), "owner": owner, "created": row.created, "deleted": None,
            "quota": quota, "weight": weight, "storage": 0, "usage": 0.0, "usage_at": tx.now,
        },
    )  # fmt: skip
    return row


def change(tx: Tx, row: ProjectRow) -> None:
    """Store the row's owner, quota and weight."""
    tx.run(_CHANGE, {"key_id": row.id, "owner": row.owner, "quota": row.quota, "weight": row.weight})


def delete(tx: Tx, number: int) -> None:
    """The name is free again; a project of that name will be another one."""
    tx.run(_DELETE, {"key_id": number, "key": f"~{number}", "deleted": tx.now})


def counts(tx: Tx, projects: Sequence[int]) -> dict[int, dict[str, int]]:
    """Jobs of each project by state, from the counters of its submissions: open, succeeded, failed, cancelled."""
    states = ("open", "succeeded", "failed", "cancelled")
    return {
        project: {
            state: int(count)
            for state, count in zip(states, tx.rows(_COUNTS, {"project": project})[0], strict=True)
            if count
        }
        for project in projects
    }
