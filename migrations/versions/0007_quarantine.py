"""Results in quarantine count against the peer that brought them.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What lies there already counts against nobody."""
    op.add_column("results", sa.Column("peer", sa.Text(), nullable=False, server_default=""))
    op.add_column("results", sa.Column("size", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index(
        "ix_results_peer", "results", ["peer", "size"],
        sqlite_where=sa.text("peer <> ''"), postgresql_where=sa.text("peer <> ''"),
    )  # fmt: skip
