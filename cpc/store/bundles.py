"""Connection bundles: the SQL. Per name at most one that is not revoked; the revoked ones stay as history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cpc.core import names
from cpc.store import schema, statement
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

WORKER = "worker"
CLIENT = "client"
ALLOCATION = "allocation"  # a worker bundle that ends with an allocation of a pool, and is not listed

_BUNDLES = schema.bundles
_TOKENS = schema.tokens
_USERS = schema.users
_WORKERS = schema.workers
_COLUMNS = ("id", "name", "role", "user", "token", "fingerprint", "created", "expires", "revoked", "used", "last_used")
_SELECT = sa.select(*[_BUNDLES.c[name] for name in _COLUMNS], _USERS.c.name, _TOKENS.c.used).select_from(
    _BUNDLES.outerjoin(_USERS, _USERS.c.id == _BUNDLES.c.user).outerjoin(_TOKENS, _TOKENS.c.id == _BUNDLES.c.token)
)
_AFTER = (
    _SELECT.where(_BUNDLES.c.id > sa.bindparam("after"), _BUNDLES.c.role != ALLOCATION)
    .order_by(_BUNDLES.c.id)
    .limit(sa.bindparam("limit"))
)

_BY_ID = Statement(_SELECT.where(_BUNDLES.c.id == sa.bindparam("id")))
_BY_KEY = Statement(_SELECT.where(_BUNDLES.c.key == sa.bindparam("key"), _BUNDLES.c.revoked.is_(None)))
_ALL = Statement(_AFTER)
_OF_USER = Statement(_AFTER.where(_BUNDLES.c.user == sa.bindparam("user")))
_LIVE_OF_USER = Statement(_SELECT.where(_BUNDLES.c.user == sa.bindparam("user"), _BUNDLES.c.revoked.is_(None)))
_EXPIRING = Statement(
    _SELECT.where(
        _BUNDLES.c.revoked.is_(None),
        _BUNDLES.c.role != ALLOCATION,
        _BUNDLES.c.expires > sa.bindparam("since"),
        _BUNDLES.c.expires <= sa.bindparam("until"),
    ).order_by(_BUNDLES.c.expires)
)
_REVOKED = Statement(
    sa.select(_BUNDLES.c.fingerprint, _BUNDLES.c.name).where(
        _BUNDLES.c.revoked.isnot(None), _BUNDLES.c.role == WORKER, _BUNDLES.c.expires > sa.bindparam("now")
    )
)
# Those of ended allocations are many, and are refused at their first word (joining.worker): they need not be in memory.
_REVOKED_WORKERS = Statement(
    sa.select(_WORKERS.c.fingerprint, _WORKERS.c.name).where(
        _WORKERS.c.revoked.isnot(None),
        _WORKERS.c.bundle.not_in(sa.select(_BUNDLES.c.id).where(_BUNDLES.c.role == ALLOCATION)),
    )
)
_WORKERS_OF = Statement(
    sa.select(_WORKERS.c.fingerprint, _WORKERS.c.name).where(_WORKERS.c.bundle == sa.bindparam("bundle"))
)
_ADD = statement.insert(_BUNDLES)
_REVOKE = statement.update(_BUNDLES, "revoked")
_USED = Statement(
    sa.update(_BUNDLES)
    .where(_BUNDLES.c.id == sa.bindparam("number"))
    .values(used=_BUNDLES.c.used + 1, last_used=sa.bindparam("now"))
)


@dataclass(frozen=True, slots=True)
class BundleRow:
    """A bundle. `user` and `token` are those of a client bundle; `fingerprint` (hex) that of a worker bundle's key."""

    id: int
    name: str
    role: str
    user: int | None
    token: int | None
    fingerprint: str
    created: int
    expires: int
    revoked: int | None
    used: int
    last_used: int | None
    user_name: str
    token_used: int | None


def _row(found: tuple[Any, ...]) -> BundleRow:
    return BundleRow(*(*found[:11], found[11] or "", found[12]))


def by_id(tx: Tx, number: int) -> BundleRow | None:
    """The bundle with this id, revoked or not."""
    found = tx.one(_BY_ID, {"id": number})
    return _row(found) if found else None


def by_name(tx: Tx, name: str) -> BundleRow | None:
    """The bundle that has this name now: not revoked, maybe expired."""
    key = names.find(name)
    found = tx.one(_BY_KEY, {"key": key}) if key else None
    return _row(found) if found else None


def page(tx: Tx, after: int, limit: int, user: int | None = None) -> list[BundleRow]:
    """Bundles after an id, oldest first: all, or those that speak for `user`."""
    row = {"after": after, "limit": limit}
    rows = tx.rows(_ALL, row) if user is None else tx.rows(_OF_USER, {**row, "user": user})
    return [_row(found) for found in rows]


def of_user(tx: Tx, user: int) -> list[BundleRow]:
    """The bundles that speak for a user and are not revoked."""
    return [_row(found) for found in tx.rows(_LIVE_OF_USER, {"user": user})]


def expiring(tx: Tx, until: int) -> list[BundleRow]:
    """Bundles whose time ends between now and `until` (µs), the next one first."""
    return [_row(found) for found in tx.rows(_EXPIRING, {"since": tx.now, "until": until})]


def revoked_keys(tx: Tx) -> dict[str, str]:
    """Name by fingerprint of every key that must be refused: of revoked bundles and of revoked workers."""
    rows = [*tx.rows(_REVOKED, {"now": tx.now}), *tx.rows(_REVOKED_WORKERS)]
    return {str(fingerprint): str(name) for fingerprint, name in rows}


def worker_keys(tx: Tx, bundle: int) -> dict[str, str]:
    """Name by fingerprint of the workers that enrolled with a bundle."""
    return {str(fingerprint): str(name) for fingerprint, name in tx.rows(_WORKERS_OF, {"bundle": bundle})}


def add(
    tx: Tx, name: str, role: str, *, user: int | None, token: int | None, fingerprint: str, expires: int
) -> BundleRow:
    """A new bundle; no other of this name may be in force."""
    number = tx.next("bundle")
    row: dict[str, object] = {
        "id": number, "name": name, "key": names.key(name), "role": role, "user": user, "token": token,
        "fingerprint": fingerprint, "created": tx.now, "expires": expires, "revoked": None, "used": 0, "last_used": None,
    }  # fmt: skip
    tx.run(_ADD, row)
    made = by_id(tx, number)
    assert made is not None
    return made


def revoke(tx: Tx, number: int) -> None:
    """From now on the bundle is worth nothing."""
    tx.run(_REVOKE, {"key_id": number, "revoked": tx.now})


def note_use(tx: Tx, number: int) -> None:
    """A worker has enrolled with it."""
    tx.run(_USED, {"number": number, "now": tx.now})
