"""Who has which role in which project: the SQL."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from cpc.store import schema, statement
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_MEMBERS = schema.members
_USERS = schema.users

_ROLE = statement.select(_MEMBERS, "role", key=["project", "user"])
_OF_PROJECT = Statement(
    sa.select(_MEMBERS.c.user, _USERS.c.name, _MEMBERS.c.role)
    .join(_USERS, _USERS.c.id == _MEMBERS.c.user)
    .where(_MEMBERS.c.project == sa.bindparam("project"))
    .order_by(_USERS.c.key)
)
_OF_USER = Statement(sa.select(_MEMBERS.c.project).where(_MEMBERS.c.user == sa.bindparam("user")))
_ADD = statement.insert(_MEMBERS)
_CHANGE = statement.update(_MEMBERS, "role", key=["project", "user"])
_DELETE = statement.delete(_MEMBERS, "project", "user")
_DELETE_PROJECT = statement.delete(_MEMBERS, "project")
_DELETE_USER = statement.delete(_MEMBERS, "user")


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A user's role in a project."""

    user: int
    name: str
    role: str


def role(tx: Tx, project: int, user: int) -> str | None:
    """The user's role in the project, if any."""
    found = tx.scalar(_ROLE, {"project": project, "user": user})
    return str(found) if found is not None else None


def of_project(tx: Tx, project: int) -> list[MemberRow]:
    """The project's members in the order of their names."""
    return [MemberRow(*found) for found in tx.rows(_OF_PROJECT, {"project": project})]


def projects_of(tx: Tx, user: int) -> frozenset[int]:
    """The projects the user has a role in."""
    return frozenset(found[0] for found in tx.rows(_OF_USER, {"user": user}))


def grant(tx: Tx, project: int, user: int, role: str) -> None:
    """Give the user this role instead of any other."""
    if not tx.run(_CHANGE, {"key_project": project, "key_user": user, "role": role}):
        tx.run(_ADD, {"project": project, "user": user, "role": role})


def revoke(tx: Tx, project: int, user: int) -> bool:
    """Take the user's role away; whether there was one."""
    return tx.run(_DELETE, {"project": project, "user": user}) > 0


def delete_project(tx: Tx, project: int) -> None:
    """Nobody has a role in the project any more."""
    tx.run(_DELETE_PROJECT, {"project": project})


def delete_user(tx: Tx, user: int) -> None:
    """The user has no role anywhere any more."""
    tx.run(_DELETE_USER, {"user": user})
