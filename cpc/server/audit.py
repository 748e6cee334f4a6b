"""The audit: what was done with special rights, and who logged in. Read from the event log."""

from __future__ import annotations

import heapq

from cpc.server.roles import RULES, Act
from cpc.store import events
from cpc.store.events import EventRow
from cpc.store.transaction import Tx

#: The kinds of events that belong to the audit. The gate adds `audit.ACT` for a privileged act without one of its own.
KINDS: tuple[str, ...] = (
    "user.created", "user.deleted", "user.changed", "user.login", "user.login-failed",
    "token.made", "token.deleted", "bundle.made", "bundle.revoked",
    "project.created", "project.changed", "project.deleted", "member.granted", "member.revoked",
    "peer.asked", "peer.requested", "peer.trusted", "peer.dropped", "peer.revoked", "peer.withdrew", "peer.changed",
    "setting.changed", "worker.drained", "worker.resumed", "custody.dropped", "server.started", "server.stopped",
    *(f"audit.{act}" for act in Act if RULES[act].changes),
)  # fmt: skip


def rows(tx: Tx, after: int, limit: int, user: str = "") -> list[EventRow]:
    """Audited events after a number, in order; only those of one user, if given. However long the log is, this is short."""
    actor = f"user:{user}" if user else ""
    each = [events.of_kind(tx, kind, after, limit, actor) for kind in KINDS]
    return list(heapq.merge(*each, key=lambda row: row.number))[:limit]
