"""Other servers that this one knows: the SQL. One row for each, by its id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from cpc.core.peer import Address, Agreement, PeerState
from cpc.store import schema, statement
from cpc.store.packed import unpack
from cpc.store.statement import Statement
from cpc.store.transaction import Tx, pack

_PEERS = schema.peers
_COLUMNS = (
    "id", "state", "name", "authority", "priority", "addresses", "agreement", "origin", "note", "requested", "trusted",
    "seen", "finish",
)  # fmt: skip

_ALL = Statement(sa.select(*[_PEERS.c[name] for name in _COLUMNS]).order_by(_PEERS.c.priority, _PEERS.c.id))
_GET = statement.select(_PEERS, *_COLUMNS)
_ADD = statement.insert(_PEERS)
_CHANGE = statement.update(_PEERS, *_COLUMNS[1:])
_DELETE = statement.delete(_PEERS)


class Addresses(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a server may be. `typed`: as the operator gave it; `said`: as it calls itself; `good`: where it was last reached.

    They are tried in the order good, typed, said. One that works is never replaced by what is only said.
    """

    typed: Address | None = None
    said: Address | None = None
    good: Address | None = None

    @property
    def to_try(self) -> tuple[Address, ...]:
        """Each once, the best first."""
        return tuple(dict.fromkeys(each for each in (self.good, self.typed, self.said) if each is not None))


@dataclass(frozen=True, slots=True)
class PeerRow:
    """A server. `authority` is the certificate (PEM) that is pinned for it. Times in µs; None: never.

    `priority`: 0 is asked first. `origin`: the address a request came from. `note`: why trust ended, in words. `finish`: after
    that, what runs here for it may come to its end.
    """

    id: str
    state: PeerState
    name: str
    authority: bytes
    priority: int
    addresses: Addresses
    agreement: Agreement
    origin: str
    note: str
    requested: int
    trusted: int | None
    seen: int | None
    finish: bool = False


def every(tx: Tx) -> list[PeerRow]:
    """All of them, those first that are asked first."""
    return [_row(found) for found in tx.rows(_ALL)]


def get(tx: Tx, server: str) -> PeerRow | None:
    """The one with this id."""
    found = tx.one(_GET, {"id": server})
    return _row(found) if found else None


def add(tx: Tx, row: PeerRow) -> None:
    """A new one."""
    tx.run(_ADD, {"id": row.id, **_values(row)})


def change(tx: Tx, row: PeerRow) -> None:
    """The same server with other values."""
    tx.run(_CHANGE, {"key_id": row.id, **_values(row)})


def remove(tx: Tx, server: str) -> None:
    """Forget it."""
    tx.run(_DELETE, {"id": server})


def _values(row: PeerRow) -> dict[str, object]:
    return {
        "state": row.state.value, "name": row.name, "authority": row.authority, "priority": row.priority,
        "addresses": pack(row.addresses), "agreement": pack(row.agreement), "origin": row.origin, "note": row.note,
        "requested": row.requested, "trusted": row.trusted, "seen": row.seen,
        "finish": row.finish,
    }  # fmt: skip


def _row(found: tuple[Any, ...]) -> PeerRow:
    server, state, name, authority, priority, addresses, agreement, *facts = found[:-1]
    origin, note, requested, trusted, seen = facts
    return PeerRow(
        server, PeerState(state), name, bytes(authority), priority,
        unpack(addresses, Addresses, f"where server {server} is"),
        unpack(agreement, Agreement, f"what was agreed with server {server}"), origin, note, requested, trusted,
        seen, bool(found[-1]),
    )  # fmt: skip
