"""Open edges of the dependency graph."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from cpc.queue.dependency import Kind
from cpc.store import statement
from cpc.store.schema import dependencies
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_ADD = statement.insert(dependencies)
_OF = Statement(
    sa.select(dependencies.c.after, dependencies.c.kind, dependencies.c.needs_success)
    .where(dependencies.c.before == sa.bindparam("before"))
    .order_by(dependencies.c.after)
)
_OF_ELEMENTS = Statement(
    sa.select(dependencies.c.before, dependencies.c.after, dependencies.c.kind, dependencies.c.needs_success)
    .where(
        dependencies.c.before >= sa.bindparam("first"), dependencies.c.before < sa.bindparam("end"),
        dependencies.c.kind == int(Kind.ELEMENT),
    )
    .order_by(dependencies.c.before, dependencies.c.after)
)  # fmt: skip
_WAITS = Statement(
    sa.select(dependencies.c.before, dependencies.c.kind, dependencies.c.needs_success)
    .where(dependencies.c.after == sa.bindparam("after"))
    .order_by(dependencies.c.before)
)
_MET = statement.delete(dependencies, "before", "after", "kind")
_DROP_AFTER = statement.delete(dependencies, "after")
_ANY = Statement(sa.select(sa.func.count()).select_from(dependencies))


@dataclass(frozen=True, slots=True)
class Edge:
    """`after` (an array) waits for `before` (an array, or one job)."""

    before: int
    after: int
    kind: Kind
    needs_success: bool


def add(tx: Tx, edges: list[Edge]) -> None:
    """New edges."""
    tx.many(
        _ADD,
        [
            {"before": edge.before, "after": edge.after, "kind": int(edge.kind), "needs_success": edge.needs_success}
            for edge in edges
        ],
    )


def waiting_for(tx: Tx, before: int) -> list[Edge]:
    """Edges that an array or job holds up."""
    return [Edge(before, after, Kind(kind), bool(need)) for after, kind, need in tx.rows(_OF, {"before": before})]


def waiting_for_elements(tx: Tx, first: int, end: int) -> list[Edge]:
    """Edges that single jobs of the range hold up."""
    rows = tx.rows(_OF_ELEMENTS, {"first": first, "end": end})
    return [Edge(before, after, Kind(kind), bool(need)) for before, after, kind, need in rows]


def of(tx: Tx, after: int) -> list[Edge]:
    """What an array still waits for."""
    return [Edge(before, after, Kind(kind), bool(need)) for before, kind, need in tx.rows(_WAITS, {"after": after})]


def met(tx: Tx, edge: Edge) -> int:
    """The edge holds nobody up any more; 0 when it is gone already."""
    return tx.run(_MET, {"before": edge.before, "after": edge.after, "kind": int(edge.kind)})


def drop(tx: Tx, after: int) -> int:
    """The array does not wait any more, because all of it has ended; how many edges that were."""
    return tx.run(_DROP_AFTER, {"after": after})


def count(tx: Tx) -> int:
    """How many edges are open: none means that nobody needs to look."""
    return int(tx.scalar(_ANY))
