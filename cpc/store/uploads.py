"""Uploads under way, and pins: what keeps chunks from their arrival until a job, a file or a result refers to them.

An upload announces a content; the chunks that its project has already are pinned at once, the others come in parts. When
all are there and the whole digest is right, it becomes a file with the same id. Both refer to their chunks with kind FILE
and that id. A pin (kind UPLOAD) is an upload without content and user: one per project and day takes all chunks that
workers send ahead of their results; those of other servers' workers have one per job and day, by which it is known for which
job a chunk was sent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import sqlalchemy as sa

from cpc.core import ids
from cpc.core.clock import DAY
from cpc.core.digest import CHUNK, EMPTY, Content
from cpc.core.errors import BadInput, Conflict, NotFound, TooLarge
from cpc.store import chunks, files, references, schema, statement
from cpc.store.chunks import Arrived
from cpc.store.files import File
from cpc.store.packed import unpack
from cpc.store.references import Kind
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

PART = 8 << 20
MAX_SIZE = 256 << 30
MAX_OPEN = 1000  # of one user in one project
LIFE = 7 * DAY  # from the last part
UNUSED = 7 * DAY  # for a finished upload that no job refers to
PIN = DAY  # for chunks of a worker whose result has not come

_uploads = schema.uploads.c
_COLUMNS = ("id", "project", "user", "content", "received", "created", "expires")

_INSERT = statement.insert(schema.uploads)
_DELETE = statement.delete(schema.uploads)
_PROGRESS = statement.update(schema.uploads, "received", "expires")
_BY_ID = statement.select(schema.uploads, *_COLUMNS)
_of_user = (
    _uploads.project == sa.bindparam("project"),
    _uploads.user == sa.bindparam("user"),
    _uploads.expires > sa.bindparam("now"),
)
_SAME = Statement(
    sa.select(*[schema.uploads.c[name] for name in _COLUMNS])
    .where(*_of_user, _uploads.content == sa.bindparam("content"))
    .limit(1)
)
_OPEN = Statement(sa.select(sa.func.count()).select_from(schema.uploads).where(*_of_user))
_PIN = Statement(
    sa.select(_uploads.id, _uploads.expires)
    .where(
        _uploads.project == sa.bindparam("project"),
        _uploads.user == sa.bindparam("user"),
        _uploads.expires > sa.bindparam("until"),
    )
    .order_by(_uploads.expires.desc())
    .limit(1)
)
_EXPIRED = Statement(
    sa.select(_uploads.id, _uploads.user)
    .where(_uploads.expires <= sa.bindparam("now"))
    .order_by(_uploads.expires)
    .limit(1)
)
_END = statement.update(schema.uploads, "expires")
_RELEASE = Statement(sa.update(schema.uploads).where(_uploads.project == sa.bindparam("owner")).values(expires=0))
_REFERRED = Statement(
    sa.select(schema.references.c.digest).where(
        schema.references.c.kind == int(Kind.FILE),
        schema.references.c.owner == sa.bindparam("owner"),
        schema.references.c.number == 0,
        schema.references.c.digest == sa.bindparam("digest"),
    )
)
_LIVE = Statement(
    sa.select(schema.projects.c.id).where(
        schema.projects.c.id == sa.bindparam("id"), schema.projects.c.deleted.is_(None)
    )
)


@dataclass(frozen=True, slots=True)
class Upload:
    """A row. `received`: how many chunks from the first on are safe; `file`: it is finished, and this is what became of it."""

    id: int
    project: int
    user: int
    content: Content
    received: int
    created: int
    expires: int
    file: bool = False

    @property
    def whole(self) -> bool:
        """Whether all chunks are here (the digest of the whole may still have to be checked)."""
        return self.received == len(self.content.chunks)

    @property
    def bytes_received(self) -> int:
        """The offset to go on from."""
        return min(self.content.size, self.received * CHUNK)


def _upload(row: Sequence[Any]) -> Upload:
    return Upload(row[0], row[1], row[2], unpack(row[3], Content, "the content of an upload"), *row[4:7])


def _done(file: File, user: int) -> Upload:
    return Upload(
        file.id, file.project, user, file.content, len(file.content.chunks), file.created, file.expires or 0, True
    )


def check(content: Content) -> Content:
    """The announced content, or BadInput or TooLarge."""
    content.check()
    if content.size > MAX_SIZE:
        raise TooLarge(f"a file of {content.size} bytes; at most {MAX_SIZE} are taken", "split it into several files")
    return content


def announce(tx: Tx, project: int, user: int, content: Content, actor: str) -> Upload:
    """Begin an upload, or go on with the same one; finished at once when the project has that file. Chunks of it that were
    found damaged are asked for again.

    BadInput, TooLarge, OverQuota, Conflict (too many open).
    """
    check(content)
    file = files.find(tx, project, content.digest)
    if file is not None and file.content == content and chunks.are_sound(tx, content.chunks):
        if file.expires is not None:
            files.keep_until(tx, file.id, max(file.expires, tx.now + UNUSED))
        return _done(file, user)
    known = chunks.known(tx, project, content.chunks)
    sizes = {digest: content.chunk_size(index) for index, digest in enumerate(content.chunks)}
    _check_sizes(sizes, known)
    mine = {"project": project, "user": user, "now": tx.now}
    row = tx.one(_SAME, {**mine, "content": msgspec.msgpack.encode(content)})
    more = sum(size for digest, size in sizes.items() if digest not in known or not known[digest].used)
    references.check_quota(tx, project, more)
    if row is None and tx.scalar(_OPEN, mine) >= MAX_OPEN:
        raise Conflict(f"{MAX_OPEN} uploads are open in this project", "finish them, or wait until they expire")
    upload = _upload(row) if row is not None else _begin(tx, project, user, content)
    pinned = references.pin(tx, Kind.FILE, upload.id, project, content.chunks[upload.received :])
    upload = _advance(tx, upload, pinned)
    # A single chunk has been verified as a whole.
    return finish(tx, upload, actor) if upload.whole and len(content.chunks) <= 1 else upload


def _check_sizes(sizes: Mapping[bytes, int], known: Mapping[bytes, chunks.Known]) -> None:
    for digest, size in sizes.items():
        here = known.get(digest)
        if here is not None and here.used and here.size != size:
            raise BadInput(f"chunk {digest.hex()} has {here.size} bytes, not {size}")


def _begin(tx: Tx, project: int, user: int, content: Content) -> Upload:
    upload = Upload(tx.next("file"), project, user, content, 0, tx.now, tx.now + LIFE)
    _insert(tx, upload)
    return upload


def _insert(tx: Tx, upload: Upload) -> None:
    tx.run(
        _INSERT,
        {
            "id": upload.id, "project": upload.project, "user": upload.user,
            "content": msgspec.msgpack.encode(upload.content), "received": upload.received,
            "created": upload.created, "expires": upload.expires,
        },
    )  # fmt: skip


def get(tx: Tx, number: int, user: int = 0) -> Upload:
    """The upload with this id, also after it has become a file; NotFound."""
    row = tx.one(_BY_ID, {"id": number})
    if row is not None and not _is_pin(row[2]) and row[6] > tx.now:
        return _upload(row)
    file = files.get(tx, number)
    if file is None:
        raise NotFound(f"there is no upload {ids.show(number)}", "it may have expired: announce the file again")
    return _done(file, user)


def receive(tx: Tx, number: int, arrived: Mapping[bytes, Arrived]) -> Upload:
    """Chunks of this upload that are safe on disk: on record, pinned, counted. NotFound, OverQuota: nothing changed."""
    upload = get(tx, number)
    if upload.file:
        return upload
    known = chunks.known(tx, upload.project, arrived)
    more = sum(one.size for digest, one in arrived.items() if digest not in known or not known[digest].used)
    if more:
        references.check_quota(tx, upload.project, more)
    references.arrive(tx, Kind.FILE, upload.id, upload.project, arrived)
    return _advance(tx, upload, arrived)


def _advance(tx: Tx, upload: Upload, here: Collection[bytes]) -> Upload:
    """Move `received` past every chunk that this upload has pinned."""
    digests = upload.content.chunks
    position = upload.received
    while position < len(digests) and (digests[position] in here or _referred(tx, upload.id, digests[position])):
        position += 1
    upload = replace(upload, received=position, expires=tx.now + LIFE)
    tx.run(_PROGRESS, {"key_id": upload.id, "received": upload.received, "expires": upload.expires})
    return upload


def _referred(tx: Tx, owner: int, digest: bytes) -> bool:
    return tx.one(_REFERRED, {"owner": owner, "digest": digest}) is not None


def finish(tx: Tx, upload: Upload, actor: str) -> Upload:
    """All chunks are here and the digest of the whole has been checked: a file from now on, with an event."""
    current = get(tx, upload.id, upload.user)
    if current.file:
        return current
    file = File(upload.id, upload.project, "", upload.content, tx.now, tx.now + UNUSED)
    tx.run(_DELETE, {"id": upload.id})
    files.insert(tx, file)
    tx.event(
        actor, "file.uploaded", project=upload.project, subject=upload.id,
        digest=upload.content.digest.hex(), size=upload.content.size,
    )  # fmt: skip
    return _done(file, upload.user)


def abandon(tx: Tx, number: int) -> None:
    """This upload is over; what it has pinned goes in small steps (see `expire`)."""
    tx.run(_END, {"key_id": number, "expires": 0})


def _is_pin(user: int) -> bool:
    # −1 is the server's own command line, which uploads too.
    return user == 0 or user < -1


def pin_owner(tx: Tx, project: int, of: int = 0) -> tuple[int, int]:
    """(id, usable until) of the pin that takes this project's chunks now, or with `of` those that are sent for this job (see
    `references.of_job`); made when there is none. NotFound: deleted."""
    user = -abs(of)  # whom a pin is for stands where uploads have their user
    row = tx.one(_PIN, {"project": project, "user": user, "until": tx.now + PIN})
    if row is not None:
        return row[0], row[1] - PIN
    if tx.one(_LIVE, {"id": project}) is None:
        raise NotFound("the project has been deleted")
    pin = Upload(tx.next("file"), project, user, Content(EMPTY, 0), 0, tx.now, tx.now + 2 * PIN)
    _insert(tx, pin)
    return pin.id, pin.expires - PIN


def release(tx: Tx, project: int) -> None:
    """All uploads and pins of the project are over now; they are removed in small steps afterwards."""
    tx.run(_RELEASE, {"owner": project})


def expire(tx: Tx, limit: int) -> int:
    """One step of removing uploads, pins and files whose time is over; about how many rows went: 0 = nothing left."""
    row = tx.one(_EXPIRED, {"now": tx.now})
    if row is not None:
        number, user = row
        dropped = references.drop_range(tx, Kind.UPLOAD if _is_pin(user) else Kind.FILE, number, number, limit)
        if dropped < limit:
            tx.run(_DELETE, {"id": number})
        else:
            # Half gone is over for good, even if the clock is set back.
            tx.run(_END, {"key_id": number, "expires": 0})
        return dropped + 1
    for number in files.expired(tx, 1):
        dropped = references.drop_range(tx, Kind.FILE, number, number, limit)
        if dropped < limit:
            files.delete(tx, number)
        else:
            files.keep_until(tx, number, 0)
        return dropped + 1
    return 0
