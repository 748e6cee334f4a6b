"""The tables of files and their chunks; part of `cpc.store.schema`, through which they are used."""

from __future__ import annotations

import sqlalchemy as sa

from cpc.store.columns import Big, Blob, Id, Small, Text, partial_index, table

# Chunks this server has. Small ones live here, so that a small result costs no extra fsync; others on disk.
chunks = table(
    "chunks",
    sa.Column("digest", Blob, primary_key=True),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("data", Blob),  # None: a file in the chunk directory
    sa.Column("doomed", Big),  # marked at this time, when the last reference went; used again → cleared
    sa.Column("damaged", Big),  # found at this time not to be what it was; come again → cleared
)
# Only what is to be removed: the collector never scans the rest.
partial_index(
    "ix_chunks_doomed",
    chunks.c.doomed,
    where=chunks.c.doomed.isnot(None),
)

# Hardly ever any: whoever sends a file is asked for these again.
partial_index(
    "ix_chunks_damaged",
    chunks.c.damaged,
    where=chunks.c.damaged.isnot(None),
)

# Who refers to a chunk; `kind` and what `owner` is then: cpc.store.references.Kind.
references = table(
    "references",
    sa.Column("kind", Small, primary_key=True, autoincrement=False),
    sa.Column("owner", Big, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),  # attempt, else 0
    sa.Column("digest", Blob, primary_key=True),
    sa.Column("project", Big, nullable=False),
    sa.Index("ix_references_digest", "digest", "project"),
)

# Named files of a project, and contents a user has uploaded for later use.
files = table(
    "files",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("project", Big, nullable=False),
    sa.Column("name", Text, nullable=False),  # "" while it is only an uploaded content
    sa.Column("content", Blob, nullable=False),  # cpc.core.digest.Content
    sa.Column("digest", Blob, nullable=False),
    sa.Column("size", Big, nullable=False),
    sa.Column("created", Big, nullable=False),
    sa.Column("expires", Big),  # an upload nobody used goes away again
    sa.Index("ix_files_project", "project", "digest"),
    sa.Index("ix_files_expires", "expires"),
)

uploads = table(
    "uploads",
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("project", Big, nullable=False),
    sa.Column("user", Big, nullable=False),
    sa.Column("content", Blob, nullable=False),  # cpc.core.digest.Content as announced
    sa.Column("received", sa.Integer, nullable=False),  # chunks, in order
    sa.Column("created", Big, nullable=False),
    sa.Column("expires", Big, nullable=False),
    sa.Index("ix_uploads_project", "project", "user", "expires"),
)
