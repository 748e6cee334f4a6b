"""Workers that have enrolled: their names, keys, last words."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from cpc.store import statement
from cpc.store.schema import attempts, workers
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_COLUMNS = (
    "id", "name", "fingerprint", "bundle", "host", "created", "last_seen", "boot", "session", "hello", "drain", "revoked",
)  # fmt: skip
_ADD = statement.insert(workers)
_BY_KEY = statement.select(workers, *_COLUMNS, key=["fingerprint"])
_BY_ID = statement.select(workers, *_COLUMNS)
_BY_NAME = Statement(
    sa.select(*[workers.c[name] for name in _COLUMNS])
    .where(workers.c.name == sa.bindparam("name"))
    .order_by(workers.c.id.desc())
    .limit(1)
)
_SINCE = Statement(
    sa.select(*[workers.c[name] for name in _COLUMNS])
    .where(workers.c.last_seen >= sa.bindparam("since"), workers.c.id > sa.bindparam("after"))
    .order_by(workers.c.id)
    .limit(sa.bindparam("count"))
)
_BORROWED = Statement(sa.select(workers.c.id, workers.c.fingerprint, workers.c.boot).where(workers.c.bundle == 0))
_FORGET = Statement(
    sa.delete(workers)
    .where(
        workers.c.id.in_(
            sa.select(workers.c.id)
            .where(
                workers.c.bundle == 0,
                workers.c.last_seen < sa.bindparam("before"),
                workers.c.id.not_in(sa.select(attempts.c.worker).where(attempts.c.ended.is_(None))),
            )
            .order_by(workers.c.id)
            .limit(sa.bindparam("limit"))
        )
    )
    .returning(workers.c.id, workers.c.fingerprint)
)
_JOINED = statement.update(workers, "host", "last_seen", "boot", "session", "hello")
_SEEN = statement.update(workers, "last_seen")
_DRAIN = statement.update(workers, "drain")
_REVOKE = Statement(
    sa.update(workers)
    .where(workers.c.bundle == sa.bindparam("from_bundle"), workers.c.revoked.is_(None))
    .values(revoked=sa.bindparam("now"))
    .returning(workers.c.id)
)


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker's credential and its last session. `drain`: a reason, while it is drained."""

    id: int
    name: str
    fingerprint: str
    bundle: int
    host: str
    created: int
    last_seen: int
    boot: str
    session: int
    hello: bytes
    drain: str | None
    revoked: int | None


def add(tx: Tx, row: WorkerRow) -> None:
    """A new credential."""
    tx.run(_ADD, {name: getattr(row, name) for name in _COLUMNS})


def by_key(tx: Tx, fingerprint: str) -> WorkerRow | None:
    """The worker with this key."""
    found = tx.one(_BY_KEY, {"fingerprint": fingerprint})
    return WorkerRow(*found) if found else None


def get(tx: Tx, number: int) -> WorkerRow | None:
    """The worker with this id."""
    found = tx.one(_BY_ID, {"id": number})
    return WorkerRow(*found) if found else None


def by_name(tx: Tx, name: str) -> WorkerRow | None:
    """The newest worker of this name."""
    found = tx.one(_BY_NAME, {"name": name})
    return WorkerRow(*found) if found else None


def seen_since(tx: Tx, since: int, after: int = 0, limit: int = 1000) -> list[WorkerRow]:
    """Workers heard of since a time, by id."""
    return [WorkerRow(*row) for row in tx.rows(_SINCE, {"since": since, "after": after, "count": limit})]


def borrowed(tx: Tx) -> list[tuple[int, str, str]]:
    """(id, key, way) of workers of other servers: they have no bundle; for a boot id the way to their home, and for a key
    that with their number there."""
    return [(row[0], row[1], row[2]) for row in tx.rows(_BORROWED)]


def forget_borrowed(tx: Tx, before: int, limit: int) -> list[tuple[int, str]]:
    """Remove some workers of other servers that were not here since a time (µs) and run nothing; their (id, key)."""
    return [(row[0], row[1]) for row in tx.change(_FORGET, {"before": before, "limit": limit})]


def joined(tx: Tx, worker: int, host: str, boot: str, session: int, hello: bytes) -> None:
    """A new session of a worker."""
    row = {"host": host, "last_seen": tx.now, "boot": boot, "session": session, "hello": hello, "key_id": worker}
    tx.run(_JOINED, row)


def seen(tx: Tx, worker: int) -> None:
    """It was there until now."""
    tx.run(_SEEN, {"last_seen": tx.now, "key_id": worker})


def set_drain(tx: Tx, worker: int, reason: str | None) -> None:
    """Drain it, or let it take jobs again."""
    tx.run(_DRAIN, {"drain": reason, "key_id": worker})


def revoke_bundle(tx: Tx, bundle: int) -> list[int]:
    """Every worker that enrolled with this bundle is refused from now on; their ids."""
    return [row[0] for row in tx.change(_REVOKE, {"from_bundle": bundle, "now": tx.now})]
