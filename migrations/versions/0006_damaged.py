"""Chunks that were found damaged, so that they are asked for again.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What is damaged already is found when it is read next."""
    op.add_column("chunks", sa.Column("damaged", sa.BigInteger()))
    op.create_index(
        "ix_chunks_damaged", "chunks", ["damaged"],
        sqlite_where=sa.text("damaged IS NOT NULL"), postgresql_where=sa.text("damaged IS NOT NULL"),
    )  # fmt: skip
