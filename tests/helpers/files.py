"""Projects and contents for tests of the file store."""

from __future__ import annotations

import sqlalchemy as sa

from cpc.core.digest import CHUNK, Content, of_chunks
from cpc.store import schema, statement
from cpc.store.chunks import Arrived
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_PROJECT = statement.insert(schema.projects)
_STORAGE = statement.select(schema.projects, "storage")
_COUNTED = Statement(
    sa.select(sa.func.coalesce(sa.func.sum(schema.chunks.c.size), 0)).where(
        schema.chunks.c.digest.in_(
            sa.select(schema.references.c.digest).where(schema.references.c.project == sa.bindparam("project"))
        )
    )
)
_DANGLING = Statement(
    sa.select(sa.func.count())
    .select_from(schema.references)
    .where(~sa.exists().where(schema.chunks.c.digest == schema.references.c.digest))
)
_ON_RECORD = Statement(
    sa.select(schema.chunks.c.digest, schema.chunks.c.size, schema.chunks.c.data, schema.chunks.c.doomed)
)


def pieces_of(data: bytes) -> list[bytes]:
    """The chunks of a file."""
    return [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]


def content_of(data: bytes) -> Content:
    """The address of a file."""
    return of_chunks(pieces_of(data))


def small_of(*files: bytes) -> dict[bytes, bytes]:
    """Small chunks by digest, as a result carries them."""
    return {content_of(data).digest: data for data in files}


def arrived_of(*files: bytes) -> dict[bytes, Arrived]:
    """Small chunks as they stand after they were verified."""
    return {digest: Arrived(len(data), data) for digest, data in small_of(*files).items()}


def add_project(tx: Tx, number: int, quota: int = 0, name: str = "") -> None:
    """A project with this id."""
    name = name or f"p{number}"
    tx.run(
        _PROJECT,
        {
            "id": number, "name": name, "key": name, "owner": 1, "created": 0, "deleted": None, "quota": quota,
            "weight": 1.0, "storage": 0, "usage": 0.0, "usage_at": 0,
        },
    )  # fmt: skip


def storage(tx: Tx, project: int) -> int:
    """What is booked on a project."""
    return int(tx.scalar(_STORAGE, {"id": project}))


def counted(tx: Tx, project: int) -> int:
    """What a project refers to, counted afresh."""
    return int(tx.scalar(_COUNTED, {"project": project}))


def dangling(tx: Tx) -> int:
    """References to chunks that are not on record: always 0."""
    return int(tx.scalar(_DANGLING))


def on_record(tx: Tx) -> dict[bytes, tuple[int, bytes | None, int | None]]:
    """Every chunk row: digest → (size, data, doomed)."""
    return {bytes(row[0]): (row[1], row[2], row[3]) for row in tx.rows(_ON_RECORD)}
