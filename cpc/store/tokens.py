"""Bearer tokens — login sessions, API tokens, client bundles: the SQL. Only a token's SHA-256 is stored."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from cpc.core import names
from cpc.store import schema, statement
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

SESSION = "session"
TOKEN = "token"
BUNDLE = "bundle"

_TOKENS = schema.tokens
_USERS = schema.users
_COLUMNS = ("id", "user", "kind", "name", "scope", "created", "expires", "used")
_SELECTED = [_TOKENS.c[name] for name in _COLUMNS]

_BY_HASH = Statement(
    sa.select(*_SELECTED, _USERS.c.name, _USERS.c.super, _USERS.c.disabled)
    .join(_USERS, _USERS.c.id == _TOKENS.c.user)
    .where(_TOKENS.c.hash == sa.bindparam("hash"))
)
_HOLDER = Statement(
    sa.select(_USERS.c.name, _USERS.c.super, _USERS.c.disabled, _USERS.c.deleted, _TOKENS.c.expires)
    .select_from(_USERS.outerjoin(_TOKENS, (_TOKENS.c.id == sa.bindparam("token")) & (_TOKENS.c.user == _USERS.c.id)))
    .where(_USERS.c.id == sa.bindparam("user"))
)
_OF_USER = Statement(
    sa.select(*_SELECTED)
    .where(_TOKENS.c.user == sa.bindparam("user"), _TOKENS.c.kind == sa.bindparam("kind"))
    .order_by(_TOKENS.c.id)
)
_ADD = statement.insert(_TOKENS)
_USED = statement.update(_TOKENS, "used")
_DELETE = statement.delete(_TOKENS)
_DELETE_OF_USER = Statement(
    sa.delete(_TOKENS).where(_TOKENS.c.user == sa.bindparam("user"), _TOKENS.c.id != sa.bindparam("keep"))
)
_DELETE_SESSIONS = Statement(
    sa.delete(_TOKENS).where(
        _TOKENS.c.user == sa.bindparam("user"), _TOKENS.c.id != sa.bindparam("keep"), _TOKENS.c.kind == SESSION
    )
)
_DELETE_SCOPE = statement.delete(_TOKENS, "scope")
_DELETE_EXPIRED = Statement(sa.delete(_TOKENS).where(_TOKENS.c.expires <= sa.bindparam("now")))


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token. `kind` is session, token or bundle; `scope` all, read or project:ID; times in µs."""

    id: int
    user: int
    kind: str
    name: str
    scope: str
    created: int
    expires: int
    used: int | None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a token, as the database has it now. `expires` is None when the token is gone."""

    name: str
    super_user: bool
    enabled: bool
    expires: int | None


def by_hash(tx: Tx, digest: bytes) -> tuple[TokenRow, Holder] | None:
    """The token with this SHA-256 and who holds it."""
    found = tx.one(_BY_HASH, {"hash": digest})
    if found is None:
        return None
    row = TokenRow(*found[:8])
    return row, Holder(found[8], bool(found[9]), not found[10], row.expires)


def holder(tx: Tx, user: int, token: int) -> Holder | None:
    """What is true now of this user and this token of theirs."""
    found = tx.one(_HOLDER, {"user": user, "token": token})
    if found is None:
        return None
    name, super_user, disabled, deleted, expires = found
    return Holder(name, bool(super_user), not disabled and deleted is None, expires)


def of_user(tx: Tx, user: int, kind: str) -> list[TokenRow]:
    """The user's tokens of one kind, oldest first."""
    return [TokenRow(*found) for found in tx.rows(_OF_USER, {"user": user, "kind": kind})]


def by_name(tx: Tx, user: int, name: str) -> TokenRow | None:
    """The user's API token with this name."""
    wanted = names.key(name)
    return next((row for row in of_user(tx, user, TOKEN) if names.key(row.name) == wanted), None)


def add(tx: Tx, user: int, digest: bytes, kind: str, name: str, scope: str, expires: int) -> TokenRow:
    """A new token, known by the SHA-256 `digest`."""
    row = TokenRow(tx.next("token"), user, kind, name, scope, tx.now, expires, None)
    tx.run(
        _ADD,
        {
            "id": row.id, "user": user, "hash": digest, "kind": kind, "name": name, "scope": scope,
            "created": row.created, "expires": expires, "used": None,
        },
    )  # fmt: skip
    return row


def note_use(tx: Tx, number: int) -> None:
    """The token was used about now."""
    tx.run(_USED, {"key_id": number, "used": tx.now})


def delete(tx: Tx, number: int) -> bool:
    """End one token; whether it was there."""
    return tx.run(_DELETE, {"id": number}) > 0


def delete_of_user(tx: Tx, user: int, keep: int = 0) -> None:
    """End every token of a user, of every kind, except the one with id `keep`."""
    tx.run(_DELETE_OF_USER, {"user": user, "keep": keep})


def delete_sessions(tx: Tx, user: int, keep: int = 0) -> None:
    """End every login session of a user except `keep`; API tokens and bundles stay."""
    tx.run(_DELETE_SESSIONS, {"user": user, "keep": keep})


def delete_scope(tx: Tx, scope: str) -> None:
    """End every token with this scope: its project is gone."""
    tx.run(_DELETE_SCOPE, {"scope": scope})


def delete_expired(tx: Tx) -> int:
    """Forget tokens whose time is over; how many."""
    return tx.run(_DELETE_EXPIRED, {"now": tx.now})
