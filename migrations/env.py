"""Run by alembic: migrations happen on a connection that the caller has opened, in the caller's transaction."""

from __future__ import annotations

from alembic import context

from cpc.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
