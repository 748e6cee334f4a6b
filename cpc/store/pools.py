"""Pools: the SQL. What a pool is, what was learned of it, its nodes that failed, and its ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cpc.core import names
from cpc.core.clock import SECOND
from cpc.pools.facts import DAY, Learned, NodeRecord, Pool
from cpc.store import schema, statement
from cpc.store.packed import unpack
from cpc.store.statement import Statement
from cpc.store.transaction import Tx, pack

_pools, _nodes, _days = schema.pools, schema.pool_nodes, schema.pool_days
_COLUMNS = ("id", "name", "created", "facts", "means", "learned")
_SELECT = sa.select(*[_pools.c[name] for name in _COLUMNS]).where(_pools.c.removed.is_(None))

_ALL = Statement(_SELECT.order_by(_pools.c.id))
_BY_KEY = Statement(_SELECT.where(_pools.c.key == sa.bindparam("key")))
_GONE = Statement(
    sa.select(*[_pools.c[name] for name in _COLUMNS])
    .where(_pools.c.removed.is_not(None), _pools.c.name == sa.bindparam("name"))
    .order_by(_pools.c.id.desc())
    .limit(1)
)
_NAME = statement.select(_pools, "name", key=["id"])
_ADD = statement.insert(_pools)
_CHANGE = statement.update(_pools, "facts", "means")
_LEARN = statement.update(_pools, "learned")
_REMOVE = statement.update(_pools, "removed", "key")

_NODES = Statement(sa.select(_nodes.c.record).order_by(_nodes.c.pool, _nodes.c.node))
_DROP_NODE = statement.delete(_nodes, "pool", "node")
_ADD_NODE = statement.insert(_nodes)
_DROP_NODES = statement.delete(_nodes, "pool")

_DAY = statement.select(_days, "runs", "core_seconds", key=["pool", "day"])
_ADD_DAY = statement.insert(_days)
_SET_DAY = statement.update(_days, "runs", "core_seconds", key=["pool", "day"])
_SINCE = Statement(
    sa.select(_days.c.day, _days.c.runs, _days.c.core_seconds)
    .where(_days.c.pool == sa.bindparam("pool"), _days.c.day >= sa.bindparam("since"))
    .order_by(_days.c.day)
)


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A pool. `means` is packed (cpc.server.pools.means)."""

    id: int
    name: str
    created: int
    facts: Pool
    means: bytes
    learned: Learned


@dataclass(frozen=True, slots=True)
class DayRow:
    """What the runs that ended on a day (of 1970) had."""

    day: int
    runs: int
    core_seconds: float


def each(tx: Tx) -> list[PoolRow]:
    """All pools, in the order in which they were made."""
    return [_row(found) for found in tx.rows(_ALL)]


def by_name(tx: Tx, name: str) -> PoolRow | None:
    """The pool that has this name now."""
    key = names.find(name)
    found = tx.one(_BY_KEY, {"key": key}) if key else None
    return _row(found) if found else None


def gone(tx: Tx, name: str) -> PoolRow | None:
    """The last pool that was called exactly so, and was removed."""
    found = tx.one(_GONE, {"name": name})
    return _row(found) if found else None


def add(tx: Tx, facts: Pool, means: bytes) -> PoolRow:
    """A new pool; its number is given here, and no other pool may have its name."""
    number = tx.next("pool")
    made = PoolRow(number, facts.name, tx.now, _numbered(facts, number), means, Learned())
    tx.run(
        _ADD,
        {
            "id": number, "name": facts.name, "key": names.key(facts.name), "created": tx.now, "removed": None,
            "facts": pack(made.facts), "means": means, "learned": pack(made.learned),
        },
    )  # fmt: skip
    return made


def change(tx: Tx, number: int, facts: Pool, means: bytes) -> None:
    """What a person has set."""
    tx.run(_CHANGE, {"key_id": number, "facts": pack(_numbered(facts, number)), "means": means})


def learn(tx: Tx, number: int, learned: Learned) -> None:
    """What experience says."""
    tx.run(_LEARN, {"key_id": number, "learned": pack(learned)})


def name_of(tx: Tx, number: int) -> str | None:
    """What a pool is or was called, also one that is gone."""
    found = tx.one(_NAME, {"id": number})
    return found[0] if found else None


def remove(tx: Tx, number: int) -> None:
    """The pool is gone: its name is free, its ledger stays."""
    tx.run(_REMOVE, {"key_id": number, "removed": tx.now, "key": f"~{number}"})
    tx.run(_DROP_NODES, {"pool": number})


def nodes(tx: Tx) -> list[NodeRecord]:
    """Every node on which something failed."""
    return [unpack(found[0], NodeRecord, "a node of a pool") for found in tx.rows(_NODES)]


def put_node(tx: Tx, record: NodeRecord) -> None:
    """What is known of a node; one without failures needs no row."""
    tx.run(_DROP_NODE, {"pool": record.pool, "node": record.node})
    if record.failures:
        tx.run(_ADD_NODE, {"pool": record.pool, "node": record.node, "record": pack(record)})


def spend(tx: Tx, pool: int, core_seconds: float) -> None:
    """A run of an allocation has ended now and has had so much."""
    key = {"pool": pool, "day": int(tx.now / SECOND / DAY)}
    found = tx.one(_DAY, {f"{name}": value for name, value in key.items()})
    if found is None:
        tx.run(_ADD_DAY, {**key, "runs": 1, "core_seconds": core_seconds})
        return
    row = {"runs": found[0] + 1, "core_seconds": found[1] + core_seconds}
    tx.run(_SET_DAY, {**row, "key_pool": key["pool"], "key_day": key["day"]})


def days(tx: Tx, pool: int, since: int) -> list[DayRow]:
    """The ledger from a day on."""
    return [DayRow(*found) for found in tx.rows(_SINCE, {"pool": pool, "since": since})]


def _numbered(facts: Pool, number: int) -> Pool:
    from msgspec.structs import replace

    return replace(facts, number=number)


def _row(found: tuple[Any, ...]) -> PoolRow:
    number, name, created, facts, means, learned = found
    return PoolRow(
        number, name, created, unpack(facts, Pool, f"the pool {name}"), bytes(means),
        unpack(learned, Learned, f"what was learned of the pool {name}"),
    )  # fmt: skip
