"""Chunks: pieces of at most 4 MiB, named by their SHA-256. Small ones are a row, larger ones a file `chunks/ab/abcdef…`.

A row in the table is a promise that the chunk is here: files are written to a temporary name, verified, flushed and given
their name, and only then is the row committed. On the way out it is the other way round: the row goes in one commit, then
the file. So whatever a crash cuts short leaves at most a file without a row, which is swept up at the next start.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cpc.core.digest import CHUNK, DIGEST_SIZE, of_chunk
from cpc.core.errors import BadInput, CopernicusError, Damaged, TooLarge, Unavailable
from cpc.core.pieces import Data
from cpc.store import schema
from cpc.store.disk import Disk, Found
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

# Up to here a chunk is kept in the table: a small result then costs no fsync of its own. Fixed for the life of a store.
SMALL = 64 << 10

DIRECTORY = "chunks"
TEMPORARY = "chunks/tmp"

# --- the table -----------------------------------------------------------------------------------------------------------

_chunks = schema.chunks.c
_references = schema.references.c
_used = sa.exists().where(_references.digest == _chunks.digest)
GROUPS = (1, 8, 64, 256)


@dataclass(frozen=True, slots=True)
class Known:
    """A chunk that is here: its size in bytes, whether the project that asked refers to it, and whether nobody has found it
    damaged."""

    size: int
    used: bool
    sound: bool


@dataclass(frozen=True, slots=True)
class Arrived:
    """A chunk that came in whole and was verified: `data` when it is small, else it is on disk already."""

    size: int
    data: bytes | None = None


def _insert(insert: Any) -> sa.Executable:
    row = insert(schema.chunks).values(
        digest=sa.bindparam("digest"), size=sa.bindparam("size"), data=sa.bindparam("data"), doomed=sa.null()
    )
    made: sa.Executable = row.on_conflict_do_update(
        index_elements=["digest"],
        # The bytes too: those that are there may be damaged, those that came were verified.
        set_={"doomed": sa.null(), "damaged": sa.null(), "data": row.excluded.data},
    )
    return made


_INSERT = Statement(_insert)
_MARK = Statement(
    sa.update(schema.chunks)
    .where(_chunks.digest == sa.bindparam("key"), _chunks.damaged.is_(None))
    .values(damaged=sa.bindparam("damaged"))
)
_ANY_DAMAGED = Statement(sa.select(_chunks.digest).where(_chunks.damaged.isnot(None)).limit(1))
_DATA = Statement(sa.select(_chunks.size, _chunks.data).where(_chunks.digest == sa.bindparam("digest")))
_DOOM = Statement(
    sa.update(schema.chunks)
    .where(_chunks.digest == sa.bindparam("key"), _chunks.doomed.is_(None), ~_used)
    .values(doomed=sa.bindparam("doomed"))
)
_SPARE = Statement(
    sa.update(schema.chunks).where(_chunks.digest == sa.bindparam("key"), _used).values(doomed=sa.null())
)
_DELETE = Statement(
    sa.delete(schema.chunks).where(_chunks.digest == sa.bindparam("digest"), _chunks.doomed.isnot(None), ~_used)
)
_DOOMED = Statement(
    sa.select(_chunks.digest, _chunks.size)
    .where(_chunks.doomed.isnot(None), _chunks.doomed <= sa.bindparam("before"))
    .order_by(_chunks.doomed)
    .limit(sa.bindparam("limit"))
)
_PAGE = Statement(
    sa.select(_chunks.digest, _chunks.size)
    .where(_chunks.digest > sa.bindparam("after"))
    .order_by(_chunks.digest)
    .limit(sa.bindparam("limit"))
)
_UNUSED = Statement(
    sa.select(_chunks.digest)
    .where(_chunks.digest > sa.bindparam("after"), _chunks.digest <= sa.bindparam("last"), _chunks.doomed.is_(None))
    .where(~_used)
    .order_by(_chunks.digest)
)


def _known(count: int) -> Statement:
    mine = _used.where(_references.project == sa.bindparam("project"))
    wanted: list[sa.BindParameter[bytes]] = [sa.bindparam(f"d{index}") for index in range(count)]
    return Statement(sa.select(_chunks.digest, _chunks.size, mine, _chunks.damaged).where(_chunks.digest.in_(wanted)))


def grouped(digests: Iterable[bytes]) -> Iterator[tuple[int, dict[str, object]]]:
    """The digests in groups: how many a statement for one has (see GROUPS), and their values, d0…; padded, so that four prepared
    statements serve every number."""
    wanted = list(dict.fromkeys(digests))
    for start in range(0, len(wanted), GROUPS[-1]):
        part = wanted[start : start + GROUPS[-1]]
        count = next(group for group in GROUPS if group >= len(part))
        yield count, {f"d{i}": part[min(i, len(part) - 1)] for i in range(count)}


_KNOWN = {count: _known(count) for count in GROUPS}


def known(tx: Tx, project: int, digests: Iterable[bytes]) -> dict[bytes, Known]:
    """What is here of these, and whether `project` refers to it; one query for up to 256 of them."""
    found: dict[bytes, Known] = {}
    for count, row in grouped(digests):
        for digest, size, used, damaged in tx.rows(_KNOWN[count], {**row, "project": project}):
            found[bytes(digest)] = Known(size, bool(used), damaged is None)
    return found


def mark(tx: Tx, digest: bytes) -> bool:
    """This one was found damaged: until it has come again, whoever sends a file with it is asked for it. Whether that is new."""
    return tx.run(_MARK, {"key": digest, "damaged": tx.now}) > 0


def are_sound(tx: Tx, digests: Sequence[bytes]) -> bool:
    """Whether nobody has found any of these damaged. Costs next to nothing while there are no damaged ones at all."""
    return tx.one(_ANY_DAMAGED) is None or all(one.sound for one in known(tx, 0, digests).values())


def insert_rows(tx: Tx, arrived: Mapping[bytes, Arrived]) -> None:
    """Put chunks on record; one that was marked for removal is spared, and a damaged one is whole again. The caller refers to
    them in the same commit."""
    tx.many(_INSERT, [{"digest": key, "size": one.size, "data": one.data} for key, one in arrived.items()])


def data(tx: Tx, digest: bytes) -> tuple[int, bytes | None] | None:
    """(size, bytes of a small chunk), or None when it is not here."""
    row = tx.one(_DATA, {"digest": digest})
    return None if row is None else (row[0], None if row[1] is None else bytes(row[1]))


def doom(tx: Tx, digests: Iterable[bytes]) -> None:
    """Mark those that nobody refers to any more; the collector removes them later."""
    tx.many(_DOOM, [{"key": digest, "doomed": tx.now} for digest in digests])


def doomed(tx: Tx, before: int, limit: int) -> list[tuple[bytes, int]]:
    """(digest, size) of chunks marked at or before a time, oldest first."""
    return [(bytes(digest), size) for digest, size in tx.rows(_DOOMED, {"before": before, "limit": limit})]


def remove_rows(tx: Tx, digests: Iterable[bytes]) -> list[bytes]:
    """Take marked chunks that nobody refers to off the record; those that were removed. The others are spared."""
    removed = []
    for digest in digests:
        if tx.run(_DELETE, {"digest": digest}):
            removed.append(digest)
        else:
            tx.run(_SPARE, {"key": digest})
    return removed


def page(tx: Tx, after: bytes, limit: int) -> list[tuple[bytes, int]]:
    """(digest, size) of all chunks in order of digest, after one."""
    return [(bytes(digest), size) for digest, size in tx.rows(_PAGE, {"after": after, "limit": limit})]


def unused(tx: Tx, after: bytes, last: bytes) -> list[bytes]:
    """Unmarked chunks in (after, last] that nobody refers to: none, unless an older version left some."""
    return [bytes(row[0]) for row in tx.rows(_UNUSED, {"after": after, "last": last})]


# --- the files -----------------------------------------------------------------------------------------------------------


def check(digest: bytes, piece: Data) -> None:
    """BadInput when this is not the chunk of that name, TooLarge when it is none at all."""
    if len(digest) != DIGEST_SIZE:
        raise BadInput("a SHA-256 has 32 bytes")
    if len(piece) > CHUNK:
        raise TooLarge(f"a chunk has at most {CHUNK} bytes, not {len(piece)}")
    if not piece:
        raise BadInput("a chunk is not empty")
    if of_chunk(piece) != digest:
        raise BadInput(f"these bytes are not chunk {digest.hex()}", "they changed on the way: send them again")


def path(digest: bytes) -> str:
    """Where the file of a chunk is, below the run directory."""
    name = digest.hex()
    return f"{DIRECTORY}/{name[:2]}/{name}"


class ChunkFiles:
    """The chunks on one disk. Every call blocks and may be made from several threads at a time."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._made: set[str] = set()
        self._serial = itertools.count()
        for directory in (DIRECTORY, TEMPORARY):
            disk.make(directory)

    def write(self, pieces: Sequence[tuple[bytes, Data]]) -> list[CopernicusError | None]:
        """Verify and store chunks; per chunk None once it is durable, or why not. One bad chunk spoils no other."""
        outcomes: list[CopernicusError | None] = []
        named: dict[str, list[int]] = {}
        for index, (digest, piece) in enumerate(pieces):
            try:
                check(digest, piece)
                if len(piece) > SMALL:
                    self._place(digest, piece)
                    named.setdefault(path(digest).rpartition("/")[0], []).append(index)
                outcomes.append(None)
            except CopernicusError as refusal:
                outcomes.append(refusal)
            except OSError as error:
                outcomes.append(_cannot_write(error))
        for directory, indexes in named.items():
            try:
                self.disk.sync(directory)
            except OSError as error:
                for index in indexes:
                    outcomes[index] = _cannot_write(error)
        return outcomes

    def _place(self, digest: bytes, piece: Data) -> None:
        target = path(digest)
        directory = target.rpartition("/")[0]
        if directory not in self._made:
            self.disk.make(directory)
            self._made.add(directory)
        temporary = f"{TEMPORARY}/{digest.hex()}-{next(self._serial)}"
        try:
            # Written even when the file is there: it mends a damaged one, and the time taken tells nobody what
            # other projects have.
            self.disk.create(temporary, piece)
            self.disk.rename(temporary, target)
        except OSError:
            self._forget(temporary)
            raise

    def _forget(self, name: str) -> None:
        with contextlib.suppress(OSError):  # else it is swept up at the next start
            self.disk.unlink(name)

    def read_checked(self, digest: bytes, size: int, offset: int, length: int) -> bytes:
        """The same as `read`, once all of the chunk was read and hashed; Damaged when it is not what it was."""
        whole = self.read(digest, size, 0, size)
        if of_chunk(whole) != digest:
            raise _damaged(digest, "is not what it was: its bytes have changed")
        return whole if length >= size else whole[offset : offset + length]

    def read(self, digest: bytes, size: int, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` of a chunk on disk that has `size` bytes; Damaged when they are not there."""
        length = min(length, size - offset)
        try:
            found = self.disk.read(path(digest), offset, length)
        except FileNotFoundError as error:
            raise _damaged(digest, "is missing") from error
        except OSError as error:
            raise _damaged(digest, f"cannot be read: {error.strerror}") from error
        if len(found) != length:
            raise _damaged(digest, f"has {offset + len(found)} bytes instead of {size}")
        return found

    def fault(self, digest: bytes, size: int) -> str:
        """Reads and hashes a chunk on disk: what is wrong with it, or ""."""
        try:
            piece = self.disk.read(path(digest), 0, CHUNK + 1)
        except FileNotFoundError:
            return "missing"
        except OSError as error:
            return f"unreadable: {error.strerror}"
        if len(piece) != size:
            return f"{len(piece)} bytes instead of {size}"
        return "" if of_chunk(piece) == digest else "its bytes have changed"

    def remove(self, digests: Iterable[bytes]) -> list[bytes]:
        """Unlink the files of chunks that are off the record; those that could not be removed."""
        failed = []
        for digest in digests:
            try:
                self.disk.unlink(path(digest))
            except OSError:
                failed.append(digest)
        return failed

    def sweep_temporary(self, before: int) -> int:
        """Remove what a crash left half written at or before a time (µs): long before anything that is written now."""
        strays = [found.name for found in self.disk.list(TEMPORARY) if found.modified <= before]
        for name in strays:
            self._forget(f"{TEMPORARY}/{name}")
        return len(strays)

    def listed(self, prefix: int) -> list[tuple[bytes, Found]]:
        """The chunk files whose digest begins with byte `prefix`."""
        files = []
        for found in self.disk.list(f"{DIRECTORY}/{prefix:02x}"):
            try:
                digest = bytes.fromhex(found.name)
            except ValueError:
                continue
            if len(digest) == DIGEST_SIZE and digest[0] == prefix and digest.hex() == found.name:
                files.append((digest, found))
        return files


def _cannot_write(error: OSError) -> Unavailable:
    return Unavailable(
        f"the server cannot store files now: {error.strerror or error}",
        "nothing was changed; try again when the administrator has made room",
    )


def _damaged(digest: bytes, what: str) -> Damaged:
    return Damaged(
        f"chunk {digest.hex()} of the file store {what}",
        "see `cpc-server doctor` for what is affected; send the file again, or restore it from a backup",
    )
