"""What the code behind instances has to say: a log each, in parts. The SQL."""

from __future__ import annotations

import sqlalchemy as sa

from cpc.store import schema, statement
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_logs = schema.instance_logs

_LAST = Statement(
    sa.select(_logs.c.start, sa.func.length(_logs.c.text))
    .where(_logs.c.instance == sa.bindparam("instance"))
    .order_by(_logs.c.start.desc())
    .limit(1)
)
_ADD = statement.insert(_logs)
_FROM = Statement(
    sa.select(_logs.c.start, _logs.c.text)
    .where(
        _logs.c.instance == sa.bindparam("instance"),
        _logs.c.start < sa.bindparam("end"),
        _logs.c.start + sa.func.length(_logs.c.text) > sa.bindparam("offset"),
    )
    .order_by(_logs.c.start)
)


def size(tx: Tx, instance: int) -> int:
    """How many bytes the instance's log has."""
    found = tx.one(_LAST, {"instance": instance})
    return int(found[0]) + int(found[1]) if found else 0


def append(tx: Tx, project: int, instance: int, text: bytes) -> None:
    """More of it."""
    if text:
        tx.run(_ADD, {"instance": instance, "start": size(tx, instance), "project": project, "text": text})


def read(tx: Tx, instance: int, offset: int, limit: int) -> bytes:
    """At most `limit` bytes from `offset` on."""
    rows = tx.rows(_FROM, {"instance": instance, "offset": offset, "end": offset + limit})
    if not rows:
        return b""
    skipped = offset - int(rows[0][0])
    return b"".join(bytes(text) for _, text in rows)[skipped : skipped + limit]
