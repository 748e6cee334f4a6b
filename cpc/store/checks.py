"""Is the database sound, durable and ours? For the start of a server, its status while it is stopped, and `doctor`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from cpc.core import ids
from cpc.core.digest import of_chunk
from cpc.core.errors import Damaged, Unavailable
from cpc.core.peer import PeerState
from cpc.store import chunks, database, figures, instances, peers, references, schema, settings, wal
from cpc.store.database import DatabaseAway, DatabaseBroken, DatabaseFull, StatementError
from cpc.store.references import Kind
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_MAGIC = b"SQLite format 3\0"
_RESTORE = "restore it from a backup: cpc-server restore FILE --force"
_SERVER = Statement(sa.select(schema.server.c.id))
_LIFE = Statement(sa.select(schema.writer.c.incarnation))
_BOOLEAN_SETTINGS = ("fsync", "full_page_writes")


@contextmanager
def reading(url: str) -> Iterator[Tx]:
    """A look at the database as it is now. Damaged or Unavailable when that is not possible."""
    connection = database.connect(url, read_only=True)
    tx = Tx(connection, 0)
    try:
        yield tx
    except (DatabaseBroken, StatementError) as error:
        raise Damaged(f"the database {shown(url)} cannot be read: {error}", _RESTORE) from error
    except (DatabaseAway, DatabaseFull) as error:
        raise Unavailable(f"the database {shown(url)} cannot be read: {error}") from error
    finally:
        connection.close()


def shown(url: str) -> str:
    """A database URL without its password; a SQLite file by its path."""
    if not database.is_postgresql(url):
        return str(database.sqlite_path(url))
    return sa.make_url(url).render_as_string(hide_password=True)


def server_id(url: str) -> str:
    """Which server's database it is."""
    with reading(url) as tx:
        return str(tx.scalar(_SERVER) or "")


def incarnation(url: str) -> int:
    """The server's life number."""
    with reading(url) as tx:
        return int(tx.scalar(_LIFE) or 0)


def stored_settings(url: str) -> dict[str, str]:
    """Settings that differ from their defaults."""
    with reading(url) as tx:
        return settings.all_set(tx)


def job_counts(url: str) -> dict[str, int]:
    """Jobs by state: open, succeeded, failed, cancelled."""
    names = ("open", "succeeded", "failed", "cancelled")
    counts = dict.fromkeys(names, 0)
    with reading(url) as tx:
        for numbers in figures.totals(tx).values():
            for name, number in zip(names, numbers, strict=True):
                counts[name] += number
    return counts


def chunk_rows(url: str) -> Iterator[tuple[bytes, int]]:
    """(digest, size) of every chunk on record that lies on disk, in order."""
    after = b""
    while True:
        with reading(url) as tx:
            page = chunks.page(tx, after, 5000)
        if not page:
            return
        yield from ((digest, size) for digest, size in page if size > chunks.SMALL)
        after = page[-1][0]


def trusted_servers(url: str) -> list[str]:
    """Names of the servers that are trusted by what is on record; none in a database of before servers knew each other."""
    engine = database.engine(url)
    there = sa.inspect(engine).has_table(schema.peers.name)
    engine.dispose()
    if not there:
        return []
    with reading(url) as tx:
        return [row.name or row.id for row in peers.every(tx) if row.state is PeerState.TRUSTED]


def directories(url: str) -> list[tuple[int, int, str]]:
    """(project, instance, name) of every persistent directory on record; none in a database of before networks."""
    engine = database.engine(url)
    there = sa.inspect(engine).has_table(schema.instances.name)
    engine.dispose()
    if not there:
        return []
    with reading(url) as tx:
        return instances.directories(tx)


def has_chunk(url: str, digest: bytes) -> bool:
    """Whether a chunk is on record now."""
    with reading(url) as tx:
        return chunks.data(tx, digest) is not None


def users_of_chunk(url: str, digest: bytes) -> list[str]:
    """Who refers to a chunk, in words."""
    with reading(url) as tx:
        found = references.who(tx, digest)
    return [_user(kind, owner, number) for kind, owner, number, _ in found[:5]] + ["others"] * (len(found) > 5)


def _user(kind: Kind, owner: int, number: int) -> str:
    if kind in (Kind.RESULT, Kind.CHECKPOINT):
        what = "result" if kind is Kind.RESULT else "checkpoint"
        return f"the {what} of job {ids.show(owner)}, attempt {number}"
    return f"{_USERS.get(kind, 'file')} {ids.show(owner)}"


_USERS = {
    Kind.ARRAY_INPUT: "submission",
    Kind.VALUE: "value",
    Kind.STEP: "the step of a project's network",
    Kind.DRAFT: "an open transaction",
}


def damaged_small_chunks(url: str) -> list[bytes]:
    """Chunks that are kept in the table and are not what they were."""
    found = []
    after = b""
    while True:
        with reading(url) as tx:
            page = chunks.page(tx, after, 1000)
            for digest, size in page:
                held = chunks.data(tx, digest) if size <= chunks.SMALL else None
                if held is not None and (held[1] is None or of_chunk(held[1]) != digest):
                    found.append(digest)
        if not page:
            return found
        after = page[-1][0]


# --- sound? -------------------------------------------------------------------------------------------------------------


def check_file(url: str) -> None:
    """A SQLite database is a file that is there and is one. Damaged names it; nothing for PostgreSQL."""
    if database.is_postgresql(url):
        return
    path = database.sqlite_path(url)
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        raise Damaged(f"the database {path} is missing", f"bring the file back, or {_RESTORE}") from None
    except OSError as error:
        raise Unavailable(f"the database {path} cannot be read: {error.strerror}", "check its owner and mode") from None
    if head[:16] != _MAGIC:
        raise Damaged(f"the database {path} is not a SQLite database any more", _RESTORE)
    _check_length(path, head)


def _check_length(path: Path, head: bytes) -> None:
    """A file that is shorter than its header says has lost its end, unless the write-ahead log still has it."""
    page = int.from_bytes(head[16:18]) or 0
    size = 65536 if page == 1 else page
    pages = int.from_bytes(head[28:32])
    logged = path.with_name(path.name + "-wal")
    if path.stat().st_size < size * pages and not (logged.exists() and logged.stat().st_size):
        raise Damaged(
            f"the database {path} has been cut short: {path.stat().st_size} of {size * pages} bytes", _RESTORE
        )


def check_log(url: str) -> None:
    """The write-ahead log of a SQLite database that nobody uses holds all that was committed; Damaged when it does not.

    To be called before anything opens the database: SQLite drops what it cannot read, and then removes the log.
    """
    if database.is_postgresql(url):
        return
    path = database.sqlite_path(url)
    found = wal.damage(path)
    if found is not None:
        raise Damaged(
            f"the write-ahead log {wal.of(path)} is damaged at byte {found.offset}: {found.lost} transactions behind that "
            "place cannot be read",
            f"{_RESTORE}; or go on without them: cpc-server backup --damaged FILE, then restore that",
        )


def faults(url: str, thorough: bool) -> list[str]:
    """What is wrong with the structure of a SQLite database (every index against its table when `thorough`)."""
    if database.is_postgresql(url):
        return []
    path = database.sqlite_path(url)
    look = sqlite3.connect(f"file:{_quoted(path)}?mode=ro", uri=True)
    try:
        pragma = "integrity_check" if thorough else "quick_check"
        found = [str(row[0]) for row in look.execute(f"PRAGMA {pragma}(10)")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    finally:
        look.close()
    lines = [] if found == ["ok"] else [line for text in found for line in text.splitlines()]
    return [line for line in lines if line.strip() and not line.startswith("***")]  # *** in database main ***


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def durability(url: str) -> list[str]:
    """What makes a PostgreSQL server forget what it has acknowledged; nothing for SQLite, which we set ourselves."""
    if not database.is_postgresql(url):
        return []
    import psycopg  # here, and not where there is no PostgreSQL: it takes 9 MB

    found: list[str] = []
    try:
        with psycopg.connect("postgresql" + url[url.index("://") :], connect_timeout=10) as look:
            for name in _BOOLEAN_SETTINGS:
                row = look.execute("SELECT current_setting(%s)", (name,)).fetchone()
                if row is not None and row[0] != "on":
                    found.append(f"{name} is {row[0]}: a power loss can cost committed work; set it to on")
            row = look.execute("SELECT current_setting('synchronous_commit')").fetchone()
            if row is not None and row[0] == "off":
                found.append("synchronous_commit is off for this database; this server sets it on for its own sessions")
    except psycopg.Error as error:
        raise Unavailable(f"the database {shown(url)} cannot be reached: {str(error).splitlines()[0]}") from error
    return found
