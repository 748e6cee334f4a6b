"""The servers that are known, in memory: what TLS, links and relaying look at for each connection and message.

It follows the database: rows are put here after the commit that wrote them.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger

from cpc.core.errors import CopernicusError, NotFound, Refused, TrustEnded, TrustEndedNow
from cpc.core.peer import Agreement, Limits, PeerState
from cpc.queue import terms
from cpc.server.federation import peering
from cpc.store.peers import PeerRow
from cpc.wire.identity import Name, Role, check_authority

log = Logger()

NOTHING = Agreement(lent=Limits(off=True), accepted=Limits(off=True))
MIN_PREFIX = 4  # characters of an id that name a server


class Book:
    """Rows by id. `here` is this server's own id, `authority` its certificate (PEM)."""

    def __init__(self, here: str, authority: bytes) -> None:
        self.here = here
        self._authority = authority
        self._rows: dict[str, PeerRow] = {}
        self._order: tuple[PeerRow, ...] | None = None  # they are looked through far more often than they change
        self._damaged: set[str] = set()

    def load(self, rows: Iterable[PeerRow]) -> None:
        """Begin with what is in the database."""
        self._rows, self._order = {}, None
        for row in rows:
            self.put(row)

    def put(self, row: PeerRow) -> None:
        """A row is new or has changed."""
        former = self._rows.get(row.id)
        if former is None or former.authority != row.authority:
            self._judge(row)
        self._rows[row.id] = row
        self._order = None

    def _judge(self, row: PeerRow) -> None:
        """A certificate that is damaged in the database must not keep everybody else out."""
        self._damaged.discard(row.id)
        try:
            owner = check_authority(row.authority)
        except CopernicusError as error:
            owner = str(error)
        if owner != row.id:
            log.error("the certificate kept of server {id} is not its: {owner}", id=row.id, owner=owner)
            self._damaged.add(row.id)

    def drop(self, server: str) -> None:
        """A row has gone."""
        self._rows.pop(server, None)
        self._order = None

    @property
    def rows(self) -> tuple[PeerRow, ...]:
        """All, those first that are asked first."""
        if self._order is None:
            self._order = tuple(sorted(self._rows.values(), key=lambda row: (row.priority, row.id)))
        return self._order

    def get(self, server: str) -> PeerRow | None:
        """The row of a server, if it is known."""
        return self._rows.get(server)

    def state(self, server: str) -> PeerState | None:
        """How far this server is with it."""
        row = self._rows.get(server)
        return row.state if row is not None else None

    def trusts(self, server: str) -> bool:
        """Whether it is a peer now."""
        return self.state(server) is PeerState.TRUSTED

    def finishes(self, server: str) -> bool:
        """Whether what runs here for it may come to its end, though the trust in it has ended."""
        row = self._rows.get(server)
        return row is not None and row.finish

    def agreement(self, server: str) -> Agreement:
        """What the operator has set for it; everything off for one that is not trusted."""
        row = self._rows.get(server)
        return row.agreement if row is not None and row.state is PeerState.TRUSTED else NOTHING

    def called(self, server: str) -> str:
        """How people call a server: its name and the beginning of its id."""
        row = self._rows.get(server)
        return f"{row.name} ({server[:8]})" if row is not None and row.name else f"server {server[:36]}"

    def find(self, given: str) -> PeerRow:
        """The server that somebody means by an id, the unique beginning of one (4 characters at least), or a name."""
        row = self._rows.get(given)
        if row is not None:
            return row
        found = [row for row in self._rows.values() if row.name.casefold() == given.casefold()]
        if not found and len(given) >= MIN_PREFIX:
            found = [row for row in self._rows.values() if row.id.startswith(given.lower())]
        if len(found) > 1:
            some = ", ".join(self.called(row.id) for row in found[:5])
            raise NotFound(f"{given[:80]!r} can mean several servers: {some}", "name one by its id")
        if not found:
            enough = f"; of an id, {MIN_PREFIX} characters are enough" if 0 < len(given) < MIN_PREFIX else ""
            raise NotFound(f"no server {given[:80]!r} is known here", f"see `cpcc connected-servers`{enough}")
        return found[0]

    # --- for TLS ---

    def pinned(self) -> dict[str, bytes]:
        """Server id → certificate of its authority, of this server and of those whose connections are taken; also of those
        that are revoked here: they are told so, which is worth something only between two that know each other."""
        found = {
            row.id: row.authority
            for row in self._rows.values()
            if (peering.pinned(row.state) or row.state is PeerState.REVOKED) and row.id not in self._damaged
        }
        return {self.here: self._authority, **found}

    def refusal(self, name: Name, _fingerprint: str = "") -> str | Refused | None:
        """Why somebody with a certificate of another server's authority may not connect; None for who may."""
        if name.server == self.here:
            return None
        if name.role is not Role.SERVER:
            return f"it belongs to server {name.server}: workers connect to their own server"
        state = self.state(name.server)
        if state is PeerState.REVOKED:
            kind = TrustEnded if self.finishes(name.server) else TrustEndedNow
            return kind("its administrator has revoked this server", "agree with them; then both say: cpcc trust")
        return None if peering.pinned(state) else "this server does not trust it"

    # --- for messages ---

    def check_route(self, route: tuple[str, ...], peer: str) -> int:
        """A route of a message that `peer` has brought: this server's place on it. Refused in words.

        Each server is on it once, the peer stands before this server, and none is revoked, or denied for one of the
        neighbours that this server has on it.
        """
        if len(set(route)) != len(route) or self.here not in route:
            raise Refused("a message came here by a route that does not lead here, or in a circle")
        place = route.index(self.here)
        if place == 0 or route[place - 1] != peer:
            raise Refused(
                f"a message from {self.called(peer)} has a route on which that is not the server before this one"
            )
        neighbours = (peer, *route[place + 1 : place + 2])
        for server in neighbours:
            if not self.trusts(server):
                raise Refused(
                    f"{self.called(server)} is not trusted here", "ask the administrator of the server between"
                )
        denied = {each for server in neighbours for each in self.agreement(server).denied}
        for server in route:
            if server in denied or peering.ended(self.state(server)):
                raise Refused(f"nothing that {self.called(server)} has a part in passes {self.here[:8]}")
        return place

    def check_passing(self, former: str, following: str) -> None:
        """Whether messages of lending, and files, pass from one neighbour to the other. Refused in words where the operator
        has switched off both directions with one of them: then nothing of ours goes there, and nothing of others' either.
        """
        for server in (former, following):
            if terms.withdrawn(self.agreement(server)):
                raise Refused(
                    f"nothing is lent to {self.called(server)}, or taken from it, by way of {self.here[:8]}",
                    "ask the administrator of the server between: cpcc peer",
                )
