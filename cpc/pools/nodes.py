"""Nodes on which worker after worker fails: left out for a time, and named."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from cpc.pools.facts import DAY, HOUR, NodeRecord, Pool

#: Failures in a row after which a node is left out.
ENOUGH = 3
#: For how long at first; each further failure doubles it, up to a day.
FORGIVE = HOUR
#: Of a pool whose size is not known, at most so many are left out at once; of any other, a quarter.
MOST = 16


def failed(record: NodeRecord, now: float, words: str) -> NodeRecord:
    """A worker on the node died, never joined, or could start nothing. Failures that all workers have are the pool's."""
    return replace(record, failures=record.failures + 1, failed_at=now, words=words[:500])


def worked(record: NodeRecord) -> NodeRecord:
    """A worker on it has ended a job: what was before is forgotten."""
    return replace(record, failures=0, failed_at=0.0, words="")


def until(record: NodeRecord) -> float:
    """Until when the node is left out; 0: it is not. After that it gets one more try."""
    if record.failures < ENOUGH:
        return 0.0
    return record.failed_at + min(DAY, FORGIVE * 2.0 ** min(record.failures - ENOUGH, 20))


def excluded(pool: Pool, records: Iterable[NodeRecord], now: float) -> tuple[NodeRecord, ...]:
    """The nodes that the pool's next allocations must not have, by name.

    Never so many that there is nothing left to be asked for: the latest failures count, because nodes that fail by the
    dozen have a common cause, for which the pool backs off.
    """
    bad = [one for one in records if one.pool == pool.number and until(one) > now]
    most = max(1, pool.known_nodes // 4) if pool.known_nodes else MOST
    if 0 < pool.known_nodes <= pool.nodes:
        most = 0  # it needs them all
    elif pool.known_nodes:
        most = min(most, pool.known_nodes - pool.nodes)
    bad.sort(key=lambda one: (-one.failed_at, one.node))
    return tuple(sorted(bad[:most], key=lambda one: one.node))
