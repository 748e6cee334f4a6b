"""Servers whose trust has ended: whether what runs here for them may come to its end.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of those whose trust has ended before, nothing runs on."""
    op.add_column("peers", sa.Column("finish", sa.Boolean(), nullable=False, server_default=sa.false()))
