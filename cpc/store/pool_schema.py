"""The tables of pools: batch systems and clouds that are asked for workers, and what was asked of them."""

from __future__ import annotations

import sqlalchemy as sa

from cpc.store.columns import Big, Blob, Id, Text, partial_index, table

pools = table(
    "pools",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("key", Text, nullable=False, unique=True),  # names.key(name); "~" + id once removed
    sa.Column("created", Big, nullable=False),
    sa.Column("removed", Big),
    sa.Column("facts", Blob, nullable=False),  # cpc.pools.facts.Pool
    sa.Column("means", Blob, nullable=False),  # cpc.server.pools.means.Means
    sa.Column("learned", Blob, nullable=False),  # cpc.pools.facts.Learned
)

# One row per request; it is there before the request leaves, and stays for as long as jobs do.
allocations = table(
    "allocations",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("pool", Big, nullable=False),
    sa.Column("token", Text, nullable=False, unique=True),  # by which the batch system's jobs are known to be ours
    sa.Column("native", Text, nullable=False),  # what the batch system calls it; "": not known
    sa.Column("bundle", Big, nullable=False, index=True),  # what its workers enrol with; 0: none of ours has any
    sa.Column("asked", Big, nullable=False),
    sa.Column("ended", Big),
    sa.Column("facts", Blob, nullable=False),  # cpc.pools.allocation.Allocation
    sa.Column("why", Text, nullable=False),  # for whom it was asked, in words
    sa.Index("ix_allocations_pool", "pool", "id"),
)
# Only what lives: the keeper reads nothing else at the start.
partial_index(
    "ix_allocations_live",
    allocations.c.id,
    where=allocations.c.ended.is_(None),
)

# Nodes on which something failed.
pool_nodes = table(
    "pool_nodes",
    sa.Column("pool", Big, primary_key=True, autoincrement=False),
    sa.Column("node", Text, primary_key=True),
    sa.Column("record", Blob, nullable=False),  # cpc.pools.facts.NodeRecord
)

# The ledger: what a pool's allocations had, by the day (UTC) on which their runs ended.
pool_days = table(
    "pool_days",
    sa.Column("pool", Big, primary_key=True, autoincrement=False),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),  # days since 1970
    sa.Column("runs", sa.Integer, nullable=False),
    sa.Column("core_seconds", sa.Double, nullable=False),
)
