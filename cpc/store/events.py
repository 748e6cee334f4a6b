"""The event log, read: the SQL. It is written with `Tx.event`, in the commit of what happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cpc.store import schema
from cpc.store.packed import unpack
from cpc.store.statement import Statement
from cpc.store.transaction import Tx

_EVENTS = schema.events
_PROJECTS = schema.projects
_MEMBERS = schema.members
_TRIMMED = schema.trimmed
_COLUMNS = ("number", "time", "actor", "kind", "version", "project", "subject", "payload")

_SELECT = sa.select(*[_EVENTS.c[name] for name in _COLUMNS], _PROJECTS.c.name).select_from(
    _EVENTS.outerjoin(_PROJECTS, _PROJECTS.c.id == _EVENTS.c.project)
)
_AFTER = _SELECT.where(_EVENTS.c.number > sa.bindparam("after")).order_by(_EVENTS.c.number).limit(sa.bindparam("limit"))
_UP_TO = _AFTER.where(_EVENTS.c.number <= sa.bindparam("last"))
# A filter on the kind reads on, but never further than `last`: a page must not become a scan of the whole log.
_KIND = _EVENTS.c.kind.like(sa.bindparam("kind"))
_MINE = sa.or_(
    _EVENTS.c.project.in_(sa.select(_MEMBERS.c.project).where(_MEMBERS.c.user == sa.bindparam("user"))),
    sa.and_(
        _EVENTS.c.project == 0,
        sa.or_(_EVENTS.c.kind.like("worker.%"), _EVENTS.c.kind.like("server.%")),
    ),
)
_ALL = Statement(_UP_TO.where(_KIND))
_VISIBLE = Statement(_UP_TO.where(_KIND, _MINE))
_OF_PROJECT = Statement(_UP_TO.where(_EVENTS.c.project == sa.bindparam("project"), _KIND))
# The condition is the one of the index `ix_events_other`, word by word.
_OF_KIND = _AFTER.where(
    sa.text("(events.kind < 'job.' OR events.kind > 'job/')"), _EVENTS.c.kind == sa.bindparam("kind")
)
_OTHER = Statement(_OF_KIND)
_OTHER_BY = Statement(_OF_KIND.where(_EVENTS.c.actor == sa.bindparam("actor")))
_NEXT = (
    sa.select(_EVENTS.c.number.label("number"))
    .where(_EVENTS.c.number > sa.bindparam("after"))
    .order_by(_EVENTS.c.number)
    .limit(sa.bindparam("limit"))
    .subquery()
)
_WINDOW = Statement(sa.select(sa.func.max(_NEXT.c.number), sa.func.count()).select_from(_NEXT))
_PROJECT_NEXT = (
    sa.select(_EVENTS.c.number.label("number"))
    .where(_EVENTS.c.project == sa.bindparam("project"), _EVENTS.c.number > sa.bindparam("after"))
    .order_by(_EVENTS.c.number)
    .limit(sa.bindparam("limit"))
    .subquery()
)
_PROJECT_WINDOW = Statement(sa.select(sa.func.max(_PROJECT_NEXT.c.number), sa.func.count()).select_from(_PROJECT_NEXT))
_NEWEST = Statement(sa.select(sa.func.max(_EVENTS.c.number)))
_TRIMMED_ALL = Statement(sa.select(sa.func.max(_TRIMMED.c.number)))
_TRIMMED_OF = Statement(sa.select(sa.func.max(_TRIMMED.c.number)).where(_TRIMMED.c.project == sa.bindparam("project")))
_TRIMMED_MINE = Statement(
    sa.select(sa.func.max(_TRIMMED.c.number)).where(
        _TRIMMED.c.project.in_(sa.select(_MEMBERS.c.project).where(_MEMBERS.c.user == sa.bindparam("user")))
    )
)


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event. `project` 0 and `project_name` "" for none; `details` is the payload."""

    number: int
    time: int
    actor: str
    kind: str
    version: int
    project: int
    subject: int
    details: dict[str, Any]
    project_name: str


def _row(found: tuple[Any, ...]) -> EventRow:
    number, time, actor, kind, version, project, subject, payload, name = found
    return EventRow(
        number, time, actor, kind, version, project, subject, unpack(payload, dict[str, Any], "an event"), name or ""
    )


def newest(tx: Tx) -> int:
    """The number of the newest event; 0 when there is none."""
    return int(tx.scalar(_NEWEST) or 0)


def window(tx: Tx, after: int, limit: int, project: int = 0) -> tuple[int, bool]:
    """The number of the `limit`-th event after `after` (in a project, if given), and whether there may be more."""
    row = {"after": after, "limit": limit}
    found = tx.one(_PROJECT_WINDOW, {**row, "project": project}) if project else tx.one(_WINDOW, row)
    assert found is not None
    last, count = found
    return int(last or after), count == limit


def between(
    tx: Tx, after: int, last: int, limit: int, *, kind: str = "%", project: int = 0, user: int | None = None
) -> list[EventRow]:
    """Events after `after` up to `last`, in order. `kind` is a LIKE pattern.

    Those of `project`, if given; else those that `user` may see; else all.
    """
    row: dict[str, Any] = {"after": after, "last": last, "limit": limit, "kind": kind}
    if project:
        rows = tx.rows(_OF_PROJECT, {**row, "project": project})
    elif user is not None:
        rows = tx.rows(_VISIBLE, {**row, "user": user})
    else:
        rows = tx.rows(_ALL, row)
    return [_row(found) for found in rows]


def of_kind(tx: Tx, kind: str, after: int, limit: int, actor: str = "") -> list[EventRow]:
    """Events of one kind that is not about jobs, by `actor` if given; from an index, however long the log is."""
    row = {"kind": kind, "after": after, "limit": limit}
    rows = tx.rows(_OTHER_BY, {**row, "actor": actor}) if actor else tx.rows(_OTHER, row)
    return [_row(found) for found in rows]


def trimmed(tx: Tx, *, project: int = 0, user: int | None = None) -> int:
    """Up to which number retention has removed events: of a project; of what `user` may see; of any."""
    if project:
        return int(tx.scalar(_TRIMMED_OF, {"project": project}) or 0)
    if user is not None:
        mine = tx.scalar(_TRIMMED_MINE, {"user": user}) or 0
        return max(int(mine), int(tx.scalar(_TRIMMED_OF, {"project": 0}) or 0))
    return int(tx.scalar(_TRIMMED_ALL) or 0)
