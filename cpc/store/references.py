"""Who refers to which chunk: what keeps files alive, what a project may use, and what counts against its quota.

* A chunk lives while any row here names it. The row that goes last marks the chunk for the collector in the same commit.
* A project may use a chunk only if a row with this project names it, or if its bytes have just arrived in full. Knowing a
  hash gives nothing: whether another project has the chunk changes no answer.
* Of what a project has, a job that runs at another server's worker may use its own only: what it was given, has sent, or has
  left (see `of_job`). For such a question the answers are the same whatever else is in the project.
* `projects.storage` is the sum of the sizes of the *different* chunks that a project refers to, kept exactly, in the
  commits that add and drop. The same chunk in two projects counts in both, so that one project's size says nothing about
  another's; on disk it is there once.
* Results and checkpoints of running jobs are taken even beyond the quota: finished science is not thrown away. The
  project then cannot upload or submit until it has made room.

All functions run in a unit of the writer. When something is replaced, add the new before dropping the old.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cpc.core import ids
from cpc.core.digest import Content, of_chunk
from cpc.core.errors import NotFound, OverQuota
from cpc.store import chunks, schema, statement
from cpc.store.chunks import SMALL, Arrived
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

#: In place of a job: what came for attempts that nobody here knows, of a life of this server that a restore has undone.
LOST = -2


class Kind(enum.IntEnum):
    """Whose reference it is; the owner's number is an id of that kind."""

    ARRAY_INPUT = 1  # array id
    RESULT = 2  # job id, number = attempt
    CHECKPOINT = 3  # job id, number = attempt
    FILE = 4  # id of a file, or of the upload that becomes it
    UPLOAD = 5  # a pin: id of an upload without content, which expires; whose it is: `uploads.pin_owner`
    VALUE = 6  # number of a value of a project's network (`leaves.file`)
    STEP = 7  # step id: the values that its later runs start from
    DRAFT = 8  # id of a part of an open transaction


@dataclass(frozen=True, slots=True)
class Owned:
    """Contents that one owner refers to. `of`: whose chunks they may be, see `of_job`; 0: any of the project's."""

    kind: Kind
    owner: int
    number: int
    project: int
    contents: tuple[Content, ...]
    of: int = 0


class Missing(NotFound):
    """Chunks that this project does not have: `digests`. Send them, then try again."""

    def __init__(self, digests: tuple[bytes, ...]) -> None:
        more = f" and {len(digests) - 1} more" if len(digests) > 1 else ""
        super().__init__(f"chunk {digests[0].hex()}{more} is not in this project", "upload the file first")
        self.digests = digests


_refs = schema.references.c
_projects = schema.projects.c


def _insert(insert: Any) -> sa.Executable:
    row = insert(schema.references).values(
        {column.name: sa.bindparam(column.name) for column in schema.references.columns}
    )
    made: sa.Executable = row.on_conflict_do_nothing()
    return made


_INSERT = Statement(_insert)
_OF_OWNER = Statement(
    sa.select(_refs.owner, _refs.number, _refs.digest, _refs.project)
    .where(
        _refs.kind == sa.bindparam("kind"),
        _refs.owner >= sa.bindparam("first"),
        _refs.owner <= sa.bindparam("last"),
    )
    .order_by(_refs.owner)
    .limit(sa.bindparam("limit"))
)
_OF_NUMBER = Statement(
    sa.select(_refs.owner, _refs.number, _refs.digest, _refs.project).where(
        _refs.kind == sa.bindparam("kind"),
        _refs.owner == sa.bindparam("owner"),
        _refs.number == sa.bindparam("number"),
    )
)
_DELETE = statement.delete(schema.references, "kind", "owner", "number", "digest")
_UNPIN = Statement(
    sa.delete(schema.references).where(
        _refs.digest == sa.bindparam("digest"), _refs.project == sa.bindparam("project"), _refs.kind == int(Kind.UPLOAD)
    )
)
_WHO = statement.select(schema.references, "kind", "owner", "number", "project", key=["digest"])
_GROW = Statement(
    sa.update(schema.projects)
    .where(_projects.id == sa.bindparam("key"))
    .values(storage=_projects.storage + sa.bindparam("more", type_=sa.BigInteger()))
)
_brought = (
    sa.select(_refs.digest)
    .join(
        schema.results,
        sa.and_(
            _refs.kind == int(Kind.RESULT),
            _refs.owner == schema.results.c.job,
            _refs.number == schema.results.c.number,
            schema.results.c.peer != sa.literal_column("''"),  # literal, so that the partial index serves it
        ),
    )
    .where(_refs.project == sa.bindparam("project"))
)
_other = schema.references.alias("other").c
_needed = (  # pins apart: they are there because the results were sent
    sa.exists()
    .where(_other.digest == schema.chunks.c.digest, _other.project == sa.bindparam("project"))
    .where(_other.kind != int(Kind.UPLOAD), sa.or_(_other.kind != int(Kind.RESULT), _other.number >= 0))
)
_OF_PEERS = Statement(
    sa.select(sa.func.sum(schema.chunks.c.size)).where(schema.chunks.c.digest.in_(_brought), ~_needed)
)
_QUOTA = statement.select(schema.projects, "name", "quota", "storage")


_uploads = schema.uploads.c


def _of_job(count: int) -> Statement:
    wanted: list[sa.BindParameter[bytes]] = [sa.bindparam(f"d{index}") for index in range(count)]
    # First, and by the primary key: many submissions may have the same input.
    given = sa.exists().where(
        _refs.kind == int(Kind.ARRAY_INPUT),
        _refs.owner == sa.bindparam("array"),
        _refs.number == 0,
        _refs.digest == schema.chunks.c.digest,
        _refs.project == sa.bindparam("project"),
    )
    left = sa.and_(
        sa.or_(_refs.kind == int(Kind.RESULT), _refs.kind == int(Kind.CHECKPOINT)),
        _refs.owner == sa.bindparam("job"),
        _refs.number > 0,  # below are results in quarantine
    )
    sent = sa.and_(
        _refs.kind == int(Kind.UPLOAD),
        sa.exists().where(_uploads.id == _refs.owner, _uploads.user == sa.bindparam("pins")),
    )
    own = sa.exists().where(
        _refs.digest == schema.chunks.c.digest, _refs.project == sa.bindparam("project"), sa.or_(left, sent)
    )
    return Statement(sa.select(schema.chunks.c.digest).where(schema.chunks.c.digest.in_(wanted), sa.or_(given, own)))


_OF_JOB = {count: _of_job(count) for count in chunks.GROUPS}


def of_job(tx: Tx, project: int, job: int, digests: Iterable[bytes]) -> frozenset[bytes]:
    """Those of these chunks that are the job's own: of its inputs, its checkpoint, or a result of its attempts, or sent for it
    lately (see `uploads.pin_owner`). `job` LOST: sent for attempts that nobody here knows, and nothing else."""
    values = {"project": project, "job": max(job, 0), "array": ids.array(max(job, 0)), "pins": -abs(job)}
    return frozenset(
        bytes(row[0])
        for count, group in chunks.grouped(digests)
        for row in tx.rows(_OF_JOB[count], {**group, **values})
    )


# --- adding --------------------------------------------------------------------------------------------------------------


def add(
    tx: Tx, kind: Kind, owner: int, number: int, project: int, contents: Iterable[Content],
    small: Mapping[bytes, bytes] | None = None,
) -> None:  # fmt: skip
    """Refer to these contents. `small`: chunks up to 64 KiB that came along, by digest; they are stored with this.

    Raises Missing, or BadInput for a content that is none, before anything is written. No contents: no SQL.
    """
    missing = add_many(tx, [Owned(kind, owner, number, project, tuple(contents))], small)[0]
    if missing:
        raise Missing(missing)


def add_many(
    tx: Tx, owned: Sequence[Owned], small: Mapping[bytes, bytes] | None = None
) -> list[tuple[bytes, ...]]:  # fmt: skip
    """Like `add` for many owners with few statements; per owner the chunks that are missing.

    An owner that misses some is left out whole: nothing of it is written. A chunk that is here with another size than
    the content gives it counts as missing. BadInput for a content that is none (see `Content.check`): check contents
    from outside one by one before, so that a bad one does not spoil the others.
    """
    small = small or {}
    wanted = [frozenset(_sizes(one.contents)) for one in owned]
    missing: list[tuple[bytes, ...]] = [() for _ in owned]
    for project in dict.fromkeys(one.project for one, own in zip(owned, wanted, strict=True) if own):
        digests = dict.fromkeys(
            digest for one, own in zip(owned, wanted, strict=True) if one.project == project for digest, _ in own
        )
        known = chunks.known(tx, project, digests)
        arrived = _arrived(digests, small)
        here = {(digest, one.size) for digest, one in known.items() if one.used}
        here |= {(digest, one.size) for digest, one in arrived.items()}
        good: list[Owned] = []
        for index, one in enumerate(owned):
            if one.project == project and wanted[index]:
                mine = _own(tx, one, here, arrived) if one.of else here
                if wanted[index] <= mine:
                    good.append(one)
                else:
                    missing[index] = tuple(dict.fromkeys(pair[0] for pair in _sizes(one.contents) if pair not in mine))
        _write(tx, project, good, arrived, known)
    return missing


def _own(
    tx: Tx, one: Owned, here: Collection[tuple[bytes, int]], arrived: Mapping[bytes, Arrived]
) -> set[tuple[bytes, int]]:
    """Of what is here: what this owner may use."""
    found = {(digest, came.size) for digest, came in arrived.items()}
    asked = {digest for digest, size in _sizes(one.contents) if (digest, size) not in found}
    own = of_job(tx, one.project, one.of, asked)
    return found | {(digest, size) for digest, size in here if digest in own}


def _sizes(contents: Iterable[Content]) -> list[tuple[bytes, int]]:
    """(digest, size) of every chunk. BadInput when a content contradicts itself."""
    return [
        (digest, content.check().chunk_size(index))
        for content in contents
        for index, digest in enumerate(content.chunks)
    ]  # fmt: skip


def _arrived(digests: Iterable[bytes], small: Mapping[bytes, bytes]) -> dict[bytes, Arrived]:
    """The small chunks among those wanted that are what their name says."""
    return {
        digest: Arrived(len(small[digest]), small[digest])
        for digest in digests
        if digest in small and len(small[digest]) <= SMALL and of_chunk(small[digest]) == digest
    }


def _write(
    tx: Tx, project: int, owned: Sequence[Owned], arrived: Mapping[bytes, Arrived],
    known: Mapping[bytes, chunks.Known],
) -> None:  # fmt: skip
    rows: dict[tuple[int, int, int, bytes], int] = {}
    sizes: dict[bytes, int] = {}
    for one in owned:
        for digest, size in _sizes(one.contents):
            sizes[digest] = size
            rows[(int(one.kind), one.owner, one.number, digest)] = project
    fresh = {digest: arrived[digest] for digest in sizes if digest in arrived and not _has(known, digest)}
    chunks.insert_rows(tx, fresh)
    refer(tx, rows)
    grow(tx, project, sum(size for digest, size in sizes.items() if not _uses(known, digest)))


def _uses(known: Mapping[bytes, chunks.Known], digest: bytes) -> bool:
    here = known.get(digest)
    return here is not None and here.used


def _has(known: Mapping[bytes, chunks.Known], digest: bytes) -> bool:
    """Whether it need not be sent."""
    return _uses(known, digest) and known[digest].sound


def refer(tx: Tx, rows: Mapping[tuple[int, int, int, bytes], int]) -> None:
    """Rows (kind, owner, number, digest) → project. The caller has seen to it that the project may."""
    tx.many(
        _INSERT,
        [
            {"kind": kind, "owner": owner, "number": number, "digest": digest, "project": project}
            for (kind, owner, number, digest), project in rows.items()
        ],
    )


def arrive(tx: Tx, kind: Kind, owner: int, project: int, arrived: Mapping[bytes, Arrived]) -> None:
    """Chunks that came in full and are safe on disk (or carry their bytes): on record, pinned by `owner`, counted."""
    if not arrived:
        return
    known = chunks.known(tx, project, arrived)
    chunks.insert_rows(tx, arrived)
    refer(tx, {(int(kind), owner, 0, digest): project for digest in arrived})
    grow(tx, project, sum(one.size for digest, one in arrived.items() if not _uses(known, digest)))


def pin(tx: Tx, kind: Kind, owner: int, project: int, digests: Iterable[bytes], of: int = 0) -> dict[bytes, int]:
    """Pin those that the project refers to already, so that they stay; their sizes. Left out: the others, damaged ones, and with
    `of` those that are not this job's own."""
    known = chunks.known(tx, project, digests)
    here = {digest: one.size for digest, one in known.items() if _has(known, digest)}
    if of:
        own = of_job(tx, project, of, here)
        here = {digest: size for digest, size in here.items() if digest in own}
    refer(tx, {(int(kind), owner, 0, digest): project for digest in here})
    return here


def missing(tx: Tx, project: int, digests: Iterable[bytes], of: int = 0) -> tuple[bytes, ...]:
    """Which of these the project does not have, or only damaged; the same answer whether or not another project has them. With
    `of` also those that are not this job's own: the same answer whatever else the project has."""
    wanted = list(dict.fromkeys(digests))
    known = chunks.known(tx, project, wanted)
    here = [digest for digest in wanted if _has(known, digest)]
    own = of_job(tx, project, of, here) if of else frozenset(here)
    return tuple(digest for digest in wanted if digest not in own)


# --- dropping ------------------------------------------------------------------------------------------------------------


def drop(
    tx: Tx, kind: Kind, owner: int, number: int, contents: Iterable[Content] | None = None
) -> int:  # fmt: skip
    """Let go of everything this owner refers to; the bytes that the project is relieved of.

    A caller that knows the contents may pass them: when there are none, there is no SQL.
    """
    if contents is not None and not any(content.chunks for content in contents):
        return 0
    rows = tx.rows(_OF_NUMBER, {"kind": int(kind), "owner": owner, "number": number})
    return _drop(tx, kind, rows)


def drop_range(tx: Tx, kind: Kind, first: int, last: int, limit: int) -> int:
    """Drop up to `limit` rows of owners first…last (ids of one array's jobs); how many there were: fewer = the end."""
    rows = tx.rows(_OF_OWNER, {"kind": int(kind), "first": first, "last": last, "limit": limit})
    _drop(tx, kind, rows)
    return len(rows)


def replace(
    tx: Tx, kind: Kind, owner: int, number: int, project: int, contents: Iterable[Content],
    small: Mapping[bytes, bytes] | None = None,
) -> None:  # fmt: skip
    """This owner refers to exactly these contents from now on; what it shares with the old ones is not touched.

    Raises as `add` does, before anything is written. Rows of other numbers of this owner are dropped too.
    """
    contents = tuple(contents)
    add(tx, kind, owner, number, project, contents, small)
    keep = {(number, digest) for digest, _ in _sizes(contents)}
    every = tx.rows(_OF_OWNER, {"kind": int(kind), "first": owner, "last": owner, "limit": 1 << 30})
    _drop(tx, kind, [row for row in every if (row[1], bytes(row[2])) not in keep])


def _drop(tx: Tx, kind: Kind, rows: Sequence[tuple[int, int, bytes, int]]) -> int:
    if not rows:
        return 0
    tx.many(
        _DELETE,
        [{"kind": int(kind), "owner": owner, "number": number, "digest": digest} for owner, number, digest, _ in rows],
    )
    projects: dict[int, dict[bytes, None]] = {}
    for _, _, digest, project in rows:
        projects.setdefault(project, {})[bytes(digest)] = None
    relieved = 0
    for project, digests in projects.items():
        if kind != Kind.UPLOAD:
            # A pin only bridges the time until somebody refers; who removes a file wants its space back now. A worker
            # that relied on the pin is told that the chunk is missing and sends it again.
            tx.many(_UNPIN, [{"digest": digest, "project": project} for digest in digests])
        gone = {digest: one.size for digest, one in chunks.known(tx, project, digests).items() if not one.used}
        grow(tx, project, -sum(gone.values()))
        chunks.doom(tx, gone)
        relieved += sum(gone.values())
    return relieved


# --- quota ---------------------------------------------------------------------------------------------------------------


def grow(tx: Tx, project: int, more: int) -> None:
    """Book bytes that the project has begun (or, negative, ceased) to refer to."""
    if more:
        tx.run(_GROW, {"key": project, "more": more})


def check_quota(tx: Tx, project: int, more: int = 0) -> None:
    """OverQuota when `more` bytes would take the project beyond its quota. A quota of 0 is none.

    What peers have brought into quarantine counts against them, and not here.
    """
    row = tx.one(_QUOTA, {"id": project})
    if row is None:
        raise NotFound("no such project")
    name, quota, storage = row
    if quota and storage + more > quota and storage - _of_peers(tx, project) + more > quota:
        raise OverQuota(
            f"project {name} uses {storage} of {quota} bytes; {more} more do not fit",
            "remove jobs or files you no longer need, or ask an administrator for a larger quota",
        )


def _of_peers(tx: Tx, project: int) -> int:
    """Bytes that a project refers to for nothing but results in quarantine that peers have brought. Looks at all of these."""
    return int(tx.scalar(_OF_PEERS, {"project": project}) or 0)


def who(tx: Tx, digest: bytes) -> list[tuple[Kind, int, int, int]]:
    """(kind, owner, number, project) of everybody who refers to a chunk; for reports of damage."""
    return [(Kind(kind), owner, number, project) for kind, owner, number, project in tx.rows(_WHO, {"digest": digest})]
