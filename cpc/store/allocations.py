"""Allocations: the SQL. A row is there before the batch system is asked, and is never taken for another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cpc.pools.allocation import Allocation
from cpc.store import schema, statement
from cpc.store.packed import unpack
from cpc.store.statement import Statement
from cpc.store.transaction import Tx, pack

_allocations = schema.allocations
_COLUMNS = ("id", "pool", "native", "bundle", "asked", "ended", "facts", "why")
_SELECT = sa.select(*[_allocations.c[name] for name in _COLUMNS])

_LIVE = Statement(_SELECT.where(_allocations.c.ended.is_(None)).order_by(_allocations.c.id))
_BY_ID = Statement(_SELECT.where(_allocations.c.id == sa.bindparam("id")))
_BY_TOKEN = Statement(_SELECT.where(_allocations.c.token == sa.bindparam("token")))
_BY_BUNDLE = Statement(_SELECT.where(_allocations.c.bundle == sa.bindparam("bundle")))
_PAGE = (
    _SELECT.where(_allocations.c.id < sa.bindparam("before"))
    .order_by(_allocations.c.id.desc())
    .limit(sa.bindparam("limit"))
)
_NEWEST = Statement(_PAGE)
_OF_POOL = Statement(_PAGE.where(_allocations.c.pool == sa.bindparam("pool")))
_ADD = statement.insert(_allocations)
_PUT = statement.update(_allocations, "native", "ended", "facts")
_OLD = Statement(
    sa.select(_allocations.c.id, _allocations.c.bundle)
    .where(_allocations.c.ended < sa.bindparam("before"))
    .order_by(_allocations.c.id)
    .limit(sa.bindparam("limit"))
)
_DELETE = statement.delete(_allocations)
_DELETE_BUNDLE = statement.delete(schema.bundles)
_DELETE_WORKERS = Statement(
    sa.delete(schema.workers).where(
        schema.workers.c.bundle.in_(
            sa.select(_allocations.c.bundle)
            .where(_allocations.c.ended < sa.bindparam("before"), _allocations.c.bundle > 0)
            .order_by(_allocations.c.id)
            .limit(sa.bindparam("limit"))
        )
    )
)
_NEVER = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class AllocationRow:
    """One request. `native`: what the batch system calls it; `bundle`: what its workers enrol with (0: none)."""

    id: int
    pool: int
    native: str
    bundle: int
    asked: int
    ended: int | None
    facts: Allocation
    why: str

    @property
    def token(self) -> str:
        """By which it is known."""
        return self.facts.token


def live(tx: Tx) -> list[AllocationRow]:
    """All that have not ended."""
    return [_row(found) for found in tx.rows(_LIVE)]


def get(tx: Tx, number: int) -> AllocationRow | None:
    """The allocation with this id."""
    found = tx.one(_BY_ID, {"id": number})
    return _row(found) if found else None


def by_token(tx: Tx, token: str) -> AllocationRow | None:
    """The allocation with this token, ended or not."""
    found = tx.one(_BY_TOKEN, {"token": token})
    return _row(found) if found else None


def by_bundle(tx: Tx, bundle: int) -> AllocationRow | None:
    """The allocation whose workers enrol with this bundle."""
    found = tx.one(_BY_BUNDLE, {"bundle": bundle}) if bundle else None  # 0: of strangers, which have none
    return _row(found) if found else None


def page(tx: Tx, before: int, limit: int, pool: int | None = None) -> list[AllocationRow]:
    """Allocations below an id (0: from the newest on), newest first: all, or those of a pool."""
    row = {"before": before or _NEVER, "limit": limit}
    found = tx.rows(_NEWEST, row) if pool is None else tx.rows(_OF_POOL, {**row, "pool": pool})
    return [_row(each) for each in found]


def add(tx: Tx, number: int, facts: Allocation, bundle: int, why: str, native: str = "") -> AllocationRow:
    """A new one, with an id from `tx.next("allocation")`."""
    row = AllocationRow(number, facts.pool, native, bundle, tx.now, None, facts, why)
    tx.run(
        _ADD,
        {
            "id": number, "pool": facts.pool, "token": facts.token, "native": native, "bundle": bundle, "asked": tx.now,
            "ended": None, "facts": pack(facts), "why": why,
        },
    )  # fmt: skip
    return row


def put(tx: Tx, row: AllocationRow) -> None:
    """What has changed of it."""
    tx.run(_PUT, {"key_id": row.id, "native": row.native, "ended": row.ended, "facts": pack(row.facts)})


def forget(tx: Tx, before: int, limit: int) -> int:
    """Remove some of those that ended before a time (µs), with their workers and what these enrolled with; how many."""
    old = tx.rows(_OLD, {"before": before, "limit": limit})
    if any(bundle for _, bundle in old):
        tx.run(_DELETE_WORKERS, {"before": before, "limit": limit})
    tx.many(_DELETE_BUNDLE, [{"id": bundle} for _, bundle in old if bundle])
    tx.many(_DELETE, [{"id": number} for number, _ in old])
    return len(old)


def _row(found: tuple[Any, ...]) -> AllocationRow:
    number, pool, native, bundle, asked, ended, facts, why = found
    return AllocationRow(number, pool, native, bundle, asked, ended, unpack(facts, Allocation, "an allocation"), why)
