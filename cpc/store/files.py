"""Files of a project: contents that were uploaded and verified as a whole, with a name or, so far, without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from cpc.core.digest import CHUNK, Content
from cpc.store import schema, statement
from cpc.store.chunks import known
from cpc.store.packed import unpack
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_files = schema.files.c
_COLUMNS = ("id", "project", "name", "content", "created", "expires")

_INSERT = statement.insert(schema.files)
_DELETE = statement.delete(schema.files)
_EXPIRES = statement.update(schema.files, "expires")
_BY_ID = statement.select(schema.files, *_COLUMNS)
_alive = sa.or_(_files.expires.is_(None), _files.expires > sa.bindparam("now"))
_BY_DIGEST = Statement(
    sa.select(*[schema.files.c[name] for name in _COLUMNS])
    .where(_files.project == sa.bindparam("project"), _files.digest == sa.bindparam("digest"), _alive)
    .limit(1)
)
_EXPIRED = Statement(
    sa.select(_files.id)
    .where(_files.expires.isnot(None), _files.expires <= sa.bindparam("now"))
    .order_by(_files.expires)
    .limit(sa.bindparam("limit"))
)
_RELEASE = Statement(sa.update(schema.files).where(_files.project == sa.bindparam("owner")).values(expires=0))


@dataclass(frozen=True, slots=True)
class File:
    """A row. `name` is "" while it is only an uploaded content; `expires` in µs, None: kept."""

    id: int
    project: int
    name: str
    content: Content
    created: int
    expires: int | None


def _file(row: Sequence[Any]) -> File:
    return File(row[0], row[1], row[2], unpack(row[3], Content, "the content of a file"), row[4], row[5])


def insert(tx: Tx, file: File) -> None:
    """Put a file on record; its chunks are referred to with kind FILE and this id."""
    tx.run(
        _INSERT,
        {
            "id": file.id, "project": file.project, "name": file.name,
            "content": msgspec.msgpack.encode(file.content), "digest": file.content.digest,
            "size": file.content.size, "created": file.created, "expires": file.expires,
        },
    )  # fmt: skip


def get(tx: Tx, number: int) -> File | None:
    """The file with this id, if its time is not over."""
    row = tx.one(_BY_ID, {"id": number})
    return None if row is None or (row[5] is not None and row[5] <= tx.now) else _file(row)


def find(tx: Tx, project: int, digest: bytes) -> File | None:
    """A file of the project with this digest whose time is not over: the others may have lost some chunks already."""
    row = tx.one(_BY_DIGEST, {"project": project, "digest": digest, "now": tx.now})
    return None if row is None else _file(row)


def content(tx: Tx, project: int, digest: bytes) -> Content | None:
    """What the project may read under this digest: one of its files, or any single chunk that it refers to."""
    file = find(tx, project, digest)
    if file is not None:
        return file.content
    chunk = known(tx, project, [digest]).get(digest)
    if chunk is None or not chunk.used or chunk.size > CHUNK:
        return None
    return Content(digest, chunk.size, (digest,))


def keep_until(tx: Tx, number: int, expires: int | None) -> None:
    """Change when a file goes away; None: never."""
    tx.run(_EXPIRES, {"key_id": number, "expires": expires})


def expired(tx: Tx, limit: int) -> list[int]:
    """Ids of files whose time is over."""
    return [row[0] for row in tx.rows(_EXPIRED, {"now": tx.now, "limit": limit})]


def release(tx: Tx, project: int) -> None:
    """All files of the project are over now; they are removed in small steps afterwards."""
    tx.run(_RELEASE, {"owner": project})


def delete(tx: Tx, number: int) -> None:
    """Take the row away, after its references."""
    tx.run(_DELETE, {"id": number})
