"""Open transactions: edits that somebody has recorded and not committed yet. They belong to a session and survive a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from cpc.core.digest import Content
from cpc.core.edits import Edit
from cpc.store import references, schema, statement
from cpc.store.packed import unpack
from cpc.store.references import Kind
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_drafts = schema.drafts
_OWN = [_drafts.c[name] == sa.bindparam(name) for name in ("project", "user", "token")]

_LEVEL = Statement(sa.select(sa.func.max(_drafts.c.level)).where(*_OWN))
_ADD = statement.insert(_drafts)
_AT_LEVEL = Statement(
    sa.select(_drafts.c.id, _drafts.c.edits)
    .where(*_OWN, _drafts.c.level == sa.bindparam("level"))
    .order_by(_drafts.c.id)
)
_DELETE = statement.delete(_drafts)
_ORPHANS = Statement(
    sa.select(_drafts.c.id)
    .where(_drafts.c.token != 0, _drafts.c.token.notin_(sa.select(schema.tokens.c.id)))
    .limit(sa.bindparam("limit"))
)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose transaction it is: a session of a user, in a project."""

    project: int
    user: int
    token: int

    @property
    def key(self) -> dict[str, int]:
        """As the statements want it."""
        return {"project": self.project, "user": self.user, "token": self.token}


def level(tx: Tx, owner: Owner) -> int:
    """How many levels are open; 0: none."""
    return int(tx.scalar(_LEVEL, owner.key) or 0)


def begin(tx: Tx, owner: Owner) -> int:
    """Open another level; its number."""
    number = level(tx, owner) + 1
    record(tx, owner, number, (), ())
    return number


def record(tx: Tx, owner: Owner, level: int, edits: Sequence[Edit], contents: Sequence[Content]) -> None:
    """More edits of a level. `contents`: of the files in them, which are kept from now on."""
    number = tx.next("draft")
    references.add(tx, Kind.DRAFT, number, 0, owner.project, contents)
    tx.run(_ADD, {**owner.key, "id": number, "level": level, "edits": msgspec.msgpack.encode(tuple(edits))})


def edits(tx: Tx, owner: Owner, level: int) -> list[Edit]:
    """What a level has recorded, in order."""
    rows = tx.rows(_AT_LEVEL, {**owner.key, "level": level})
    return [edit for _, packed in rows for edit in unpack(packed, tuple[Edit, ...], "a transaction")]


def drop(tx: Tx, owner: Owner, level: int) -> None:
    """The level is committed or dropped."""
    _delete(tx, [row[0] for row in tx.rows(_AT_LEVEL, {**owner.key, "level": level})])


def drop_orphans(tx: Tx, limit: int) -> int:
    """Drop what belongs to sessions that have ended; how many rows."""
    rows = [row[0] for row in tx.rows(_ORPHANS, {"limit": limit})]
    _delete(tx, rows)
    return len(rows)


def _delete(tx: Tx, numbers: Sequence[int]) -> None:
    for number in numbers:
        references.drop(tx, Kind.DRAFT, number, 0)
    tx.many(_DELETE, [{"id": number} for number in numbers])
