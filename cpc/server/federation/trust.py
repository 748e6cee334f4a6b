"""Trust in other servers: asked for, given, taken back. Every change is one unit of the writer; links follow the commit."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import Protocol

import msgspec
from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger

from cpc import __version__
from cpc.core.errors import BadInput, Conflict, CopernicusError, NotFound, Refused, TurnedAway
from cpc.core.peer import Address, Agreement, PeerState
from cpc.core.peer_views import PeerAnswer, PeerRequest, PeerSeen, PeerView
from cpc.core.texts import plain
from cpc.core.views import Page
from cpc.server.federation import addresses, peering
from cpc.server.federation.book import Book
from cpc.server.federation.links import Links
from cpc.server.federation.outside import Stranger
from cpc.server.federation.peering import Effect, Event
from cpc.server.federation.ways import Caller
from cpc.server.gate import Gate
from cpc.server.principal import Call, Principal
from cpc.server.roles import Act
from cpc.store import attempts, peers, projects
from cpc.store.peers import Addresses, PeerRow
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire.identity import Authority, fingerprint_of
from cpc.wire.peer_messages import MAX_HOPS, PeerHello, Withdrawn

MAX_NAME = 100
MAX_REASON = 500
MAX_LISTED = 200
WHOLE_ID = 32  # characters: a UUID has them

_LISTED = "see `cpcc connected-servers`"

log = Logger()

#: Within the unit that ends the trust: (tx, server, whether running work is to be handed back).
OnRevoke = Callable[[Tx, str, bool], None]


class Asking(Protocol):
    """Calls to servers that are not trusted yet; see `outside.Outside`."""

    async def look(self, host: str, port: int) -> Stranger: ...
    async def ask(self, host: str, port: int, request: PeerRequest) -> PeerAnswer: ...


class Trust:
    """`on_revoke` runs in the unit that ends a trust, whoever ended it; `on_agreed` is told the id of a server for which the
    operator has set something else, after the commit. `cut` closes what of this server is open at the door."""

    def __init__(
        self, *, store: Store, gate: Gate, book: Book, links: Links, outside: Asking, authority: Authority,
        say: Callable[[], PeerHello],
    ) -> None:  # fmt: skip
        self.on_revoke: list[OnRevoke] = []
        self.on_agreed: list[Callable[[str], None]] = []
        self.cut: Callable[[], None] = lambda: None
        self._store = store
        self._gate = gate
        self._book = book
        self._links = links
        self._outside = outside
        self._authority = authority
        self._say = say
        links.greeted = self._greeted
        links.ended = self._ended
        links.serve("withdrawn", Withdrawn, self._withdrawn, far=False)

    async def load(self) -> None:
        """Read who is known, before the first connection."""
        self._book.load(await self._store.read(peers.every))

    # --- looking ---

    async def page(self, who: Principal) -> Page:
        """All servers that are known, those first that are asked first."""
        return await self._gate.read(who, Act.PEER_LIST, lambda tx: Page(items=self._all(tx)))

    def _all(self, tx: Tx) -> tuple[PeerView, ...]:
        return tuple(self.view(tx, row) for row in peers.every(tx))

    async def get(self, who: Principal, server: str) -> PeerView:
        """One, by id, the beginning of one, or name."""
        return await self._gate.read(who, Act.PEER_LIST, lambda tx: self.view(tx, self._find(tx, server)))

    def view(self, tx: Tx, row: PeerRow) -> PeerView:
        """A server as people see it."""
        return PeerView(
            id=row.id, name=row.name, state=row.state.value, connected=self._links.is_up(row.id), priority=row.priority,
            addresses=row.addresses.to_try, fingerprint=_fingerprint(row), agreement=row.agreement,
            release=self._links.release(row.id), origin=row.origin, trouble=self._links.trouble(row.id), note=row.note,
            requested=row.requested, trusted=row.trusted, seen=row.seen, quarantined=attempts.in_quarantine(tx, row.id)[1],
        )  # fmt: skip

    def summary(self) -> tuple[int, int, list[str]]:
        """How many servers are connected, how many are not though they are trusted, and what an administrator should see."""
        rows = self._book.rows
        trusted = [row for row in rows if row.state is PeerState.TRUSTED]
        connected = sum(self._links.is_up(row.id) for row in trusted)
        asking = [self._book.called(row.id) for row in rows if row.state is PeerState.RECEIVED]
        notes = [f"{name} asks to be connected; see `cpcc connected-servers`" for name in asking[:3]]
        if len(asking) > 3:
            notes.append(f"{len(asking) - 3} more servers ask to be connected")
        return connected, len(trusted) - connected, notes

    async def look(self, who: Principal, host: str, client_port: int, port: int = 0) -> PeerSeen:
        """Who answers there, to be compared before it is asked. `port` of its machines' door; 0: as it says, or moved as far
        as its people's port is."""
        await self._gate.read(who, Act.PEER_ASK, lambda tx: None)
        stranger, seen = await self._look(host, client_port, port)
        if self._book.trusts(stranger.view.id):
            raise self._trusted_already(seen.id)
        return seen

    def _trusted_already(self, server: str) -> Conflict:
        hint = _LISTED
        if not self._links.is_up(server):
            hint += f"; if it knows this server no more: cpcc revoke {server}, and ask it again"
        return Conflict(f"{self._book.called(server)} is trusted already", hint)

    async def _look(self, host: str, client_port: int, port: int) -> tuple[Stranger, PeerSeen]:
        host = addresses.check(host, client_port, *([port] if port else []))
        stranger = await self._outside.look(host, client_port)
        view = stranger.view
        if view.id == self._book.here:
            raise BadInput(f"{host} port {client_port} is this server itself", "give the address of another one")
        return stranger, PeerSeen(
            id=view.id, name=plain(addresses.called(view.name, view.host), MAX_NAME), release=plain(view.release, MAX_NAME),
            fingerprint=stranger.fingerprint, host=host, client_port=client_port,
            port=port or addresses.guessed_port(client_port, view.port, view.client_port),
        )  # fmt: skip

    # --- what the operator does ---

    async def ask(self, call: Call, host: str, client_port: int, port: int, fingerprint: str) -> PeerView:
        """Send a request to the server there. `fingerprint` is what a person has compared: it has it still, or Conflict."""
        await self._gate.read(call.who, Act.PEER_ASK, lambda tx: None)
        stranger, seen = await self._look(host, client_port, port)
        if seen.fingerprint != fingerprint:
            raise Conflict(f"the server at {host} port {client_port} has another fingerprint now", "look at it again")
        known = self._book.get(seen.id)
        if known is not None and known.state is PeerState.RECEIVED and fingerprint_of(known.authority) != fingerprint:
            raise Conflict(
                f"server {seen.id} has asked with another fingerprint than it has now",
                f"somebody may pretend to be it; refuse that request first: cpcc refuse-server {seen.id}",
            )
        answer = await self._outside.ask(seen.host, client_port, self.request(seen.id, stranger.word))
        if answer.id != seen.id:
            raise Refused(f"another server than {seen.id} has answered", "try again")
        typed = Address(seen.host, seen.port, seen.client_port)
        own = addresses.said(stranger.view.host, stranger.view.port, stranger.view.client_port)

        def unit(tx: Tx) -> PeerView:
            row = peers.get(tx, seen.id)
            state = row.state if row else None
            if not peering.can(state, Event.ASKED):
                raise self._trusted_already(seen.id)
            fresh = PeerRow(
                seen.id, PeerState.SENT, seen.name, stranger.authority, 0, Addresses(typed=typed, said=own), Agreement(),
                "", "", tx.now, None, None,
            )  # fmt: skip
            if row is not None:
                fresh = replace(
                    fresh, state=row.state, agreement=row.agreement, origin=row.origin, trusted=row.trusted,
                    finish=row.finish,
                )  # fmt: skip
            moved = self.move(tx, row, fresh, Event.ASKED)
            tx.event(call.who.actor, "peer.asked", name=seen.name, server=seen.id, host=seen.host, port=client_port)
            return self.view(tx, moved)

        return await self._gate.write(call, Act.PEER_ASK, unit, answer=PeerView)

    def request(self, to: str, word: str, withdrawn: bool = False) -> PeerRequest:
        """What is sent to a server that is to trust this one, with the word that it has given for that; signed."""
        said = self._say()
        plain_request = PeerRequest(
            to=to, authority=self._authority.certificate_pem.decode(), name=said.name, release=__version__, host=said.host,
            port=said.port, client_port=said.client_port, withdrawn=withdrawn, word=word,
        )  # fmt: skip
        signature = base64.b64encode(self._authority.sign(plain_request.signed)).decode()
        return msgspec.structs.replace(plain_request, signature=signature)

    async def trust(self, call: Call, server: str, fingerprint: str) -> PeerView:
        """Trust a server that has asked, or was trusted once: then it has to agree, too. `fingerprint` is what a person has
        compared."""

        def unit(tx: Tx) -> PeerView:
            row = self._find(tx, server)
            if row.state is PeerState.SENT:
                raise Conflict(
                    f"{self._book.called(row.id)} has not trusted this server yet",
                    "its administrator can: cpcc connected-servers, cpcc trust, there",
                )
            if fingerprint_of(row.authority) != fingerprint:
                raise Conflict(f"{self._book.called(row.id)} has another fingerprint", "look at it again, and compare")
            if row.state is PeerState.TRUSTED:
                return self.view(tx, row)
            moved = self.move(tx, row, row, Event.APPROVED)
            tx.event(call.who.actor, "peer.trusted", name=row.name, server=row.id)
            return self.view(tx, moved)

        return await self._gate.write(call, Act.PEER_TRUST, unit, answer=PeerView)

    async def drop(self, call: Call, server: str) -> None:
        """Refuse a request, take one back, or forget a server that is revoked."""
        gone: list[PeerRow] = []

        def unit(tx: Tx) -> None:
            row = self._find(tx, server)
            if not peering.can(row.state, Event.DROPPED):
                raise Conflict(f"{self._book.called(row.id)} is trusted", f"end that with: cpcc revoke {row.id}")
            self.move(tx, row, row, Event.DROPPED)
            tx.event(call.who.actor, "peer.dropped", name=row.name, server=row.id, state=row.state.value)
            gone.append(row)

        await self._gate.write(call, Act.PEER_DROP, unit, answer=None)
        if gone and gone[0].state is PeerState.SENT:
            ensureDeferred(self._take_back(gone[0]))

    async def _take_back(self, row: PeerRow) -> None:
        """Tell the server that was asked; it may as well find out by itself."""
        for address in row.addresses.to_try:
            try:
                word = (await self._outside.look(address.host, address.client_port)).word
                request = self.request(row.id, word, withdrawn=True)
                await self._outside.ask(address.host, address.client_port, request)
                return
            except CopernicusError as error:
                log.info("{name} was not told that the request is taken back: {why}", name=row.name, why=str(error))

    async def revoke(self, call: Call, server: str, hand_back: bool = False) -> PeerView:
        """End the trust now: connections, and what was lent either way. A request is refused, and each later one too."""

        def unit(tx: Tx) -> PeerView:
            row = self._find(tx, server)
            if row.state is PeerState.REVOKED:
                return self.view(tx, row)
            moved = self.move(tx, row, replace(row, note="revoked here"), Event.REVOKED, hand_back=hand_back)
            tx.event(call.who.actor, "peer.revoked", name=row.name, server=row.id, hand_back=hand_back)
            return self.view(tx, moved)

        return await self._gate.write(call, Act.PEER_REVOKE, unit, answer=PeerView)

    async def change(
        self, call: Call, server: str, *, priority: int | None = None, share: bool = False,
        agreement: Agreement | None = None,
    ) -> PeerView:  # fmt: skip
        """Another place in the order (0: asked first), before whoever has it or, with `share`, together with them; or other
        limits."""

        def unit(tx: Tx) -> PeerView:
            row = self._find(tx, server)
            if agreement is not None:
                row = replace(row, agreement=self._checked(tx, row, agreement))
                self._put(tx, row)
                tx.after(lambda: self._agreed(row.id))
            if priority is not None:
                row = self._reorder(tx, row, priority, share)
            changes = msgspec.to_builtins({"priority": priority, "agreement": agreement})
            tx.event(call.who.actor, "peer.changed", name=row.name, server=row.id, **changes)
            return self.view(tx, row)

        return await self._gate.write(call, Act.PEER_CHANGE, unit, answer=PeerView)

    def _checked(self, tx: Tx, row: PeerRow, agreement: Agreement) -> Agreement:
        """With ids where servers were named otherwise; BadInput for what makes no sense, NotFound for a project that is not
        there, unless it was named before."""
        if not 0 <= agreement.lend_on <= MAX_HOPS:
            raise BadInput(f"work is lent on to at most {MAX_HOPS} servers beyond, not {agreement.lend_on}")
        for limits in (agreement.lent, agreement.accepted):
            if limits.cores is not None and not 0 <= limits.cores <= 1 << 20:
                raise BadInput(f"{limits.cores} is not a number of cores")
            for names in (limits.projects, limits.executables):
                if names is not None and (
                    len(names) > MAX_LISTED or any(not 0 < len(name) <= MAX_NAME for name in names)
                ):
                    raise BadInput(f"a list has at most {MAX_LISTED} names of at most {MAX_NAME} characters")
        if len(agreement.denied) > MAX_LISTED or any(not 0 < len(server) <= 64 for server in agreement.denied):
            raise BadInput(f"at most {MAX_LISTED} servers are denied, each by its id")
        for name in agreement.accepted.projects or ():
            if name not in (row.agreement.accepted.projects or ()) and projects.by_name(tx, name) is None:
                raise NotFound(f"there is no project {name!r}", "see `cpcc projects`")
        denied = tuple(dict.fromkeys(self._id_of(server) for server in agreement.denied))
        for server in set(denied) - set(row.agreement.denied):
            if server in (self._book.here, row.id):
                which = "this server" if server == self._book.here else "the peer"
                raise BadInput(
                    f"everything that goes on with {self._book.called(row.id)} passes {which} itself",
                    "to have nothing to do with the peer: --lent-off --accepted-off, or cpcc revoke",
                )
        return msgspec.structs.replace(agreement, denied=denied)

    def _id_of(self, given: str) -> str:
        """Of a server that may be known here or not."""
        try:
            return self._book.find(given).id
        except NotFound as error:
            if len(given) < WHOLE_ID:
                raise BadInput(error.message, "one that is not known here is named by its whole id") from None
            return given

    def _agreed(self, server: str) -> None:
        for told in self.on_agreed:
            told(server)

    def _reorder(self, tx: Tx, row: PeerRow, priority: int, share: bool) -> PeerRow:
        if row.state is not PeerState.TRUSTED:
            raise Conflict(f"{self._book.called(row.id)} is not trusted, so it is not asked for work", _LISTED)
        others = [other for other in peers.every(tx) if other.state is PeerState.TRUSTED and other.id != row.id]
        priority = max(0, priority)
        places = [list(group) for _, group in groupby(others, key=lambda other: other.priority)]
        if share and priority < len(places):
            places[priority].append(row)
        else:
            places.insert(priority, [row])
        for place, group in enumerate(places):
            for other in group:
                if other.id == row.id:
                    row = replace(row, priority=place)
                if other.priority != place:
                    self._put(tx, replace(other, priority=place))
        return row

    # --- what other servers do ---

    async def _greeted(self, server: str, said: PeerHello, reached: Address | None) -> None:
        """A server has proved who it is, and says what it calls itself: see `Links`."""
        row = self._book.get(server)
        if row is None or not peering.can(row.state, Event.MET):
            raise Refused("this server does not trust it")
        if said.bulk:
            return
        written = self._store.write(lambda tx: self._met(tx, server, said, reached))
        if row.state is not PeerState.TRUSTED:
            await written
        else:
            written.addErrback(lambda failure: log.warn("not written: {why}", why=str(failure.value)))

    def _met(self, tx: Tx, server: str, said: PeerHello, reached: Address | None) -> None:
        row = peers.get(tx, server)
        if row is None or not peering.can(row.state, Event.MET):
            raise Refused("this server does not trust it")
        own = addresses.said(said.host, said.port, said.client_port) or row.addresses.said
        where = Addresses(typed=row.addresses.typed, said=own, good=reached or row.addresses.good)
        fresh = replace(row, name=plain(said.name, MAX_NAME) or row.name, addresses=where, seen=tx.now)
        self.move(tx, row, fresh, Event.MET)
        if row.state is not PeerState.TRUSTED:
            tx.event("server", "peer.trusted", name=fresh.name, server=row.id)

    async def _withdrawn(self, caller: Caller, said: Withdrawn) -> None:
        await self._ended(caller.peer, said)

    async def _ended(self, server: str, said: Withdrawn) -> None:
        """A server that has proved who it is trusts this one no more."""
        reason = plain(said.reason, MAX_REASON)

        def unit(tx: Tx) -> None:
            row = peers.get(tx, server)
            if row is None or not peering.can(row.state, Event.WITHDREW):
                return
            note = "it has ended the trust" + (f": {reason}" if reason else "")
            self.move(tx, row, replace(row, note=note), Event.WITHDREW, hand_back=said.hand_back)
            tx.event("server", "peer.withdrew", name=row.name, server=row.id, hand_back=said.hand_back)

        await self._store.write(unit)

    # --- within a unit ---

    def _find(self, tx: Tx, server: str) -> PeerRow:
        row = peers.get(tx, self._book.find(server).id)
        if row is None:
            raise NotFound(f"no server {server[:80]!r} is known here", _LISTED)
        return row

    def _put(self, tx: Tx, row: PeerRow) -> None:
        peers.change(tx, row)
        tx.after(lambda: self._book.put(row))

    def move(self, tx: Tx, former: PeerRow | None, row: PeerRow, event: Event, hand_back: bool = False) -> PeerRow:
        """Write down what an event makes of a server (`row` has everything but the state), and see to what follows."""
        state, effects = peering.after(former.state if former else None, event)
        if state is None:
            peers.remove(tx, row.id)
            tx.after(lambda: self._book.drop(row.id))
        else:
            if state is PeerState.TRUSTED and (former is None or former.state is not PeerState.TRUSTED):
                taken = [other.priority for other in peers.every(tx) if other.state is PeerState.TRUSTED]
                row = replace(row, priority=max(taken, default=-1) + 1, trusted=tx.now, note="", finish=False)
            if state is PeerState.SENT:
                row = replace(row, note="")
            if Effect.CUT in effects:
                row = replace(row, finish=not hand_back)
            row = replace(row, state=state)
            if former is None:
                peers.add(tx, row)
                tx.after(lambda: self._book.put(row))
            else:
                self._put(tx, row)
        if Effect.CUT in effects:
            for ended in self.on_revoke:
                ended(tx, row.id, hand_back)
        tx.after(lambda: self._follow(row.id, effects, hand_back))
        return row

    def _follow(self, server: str, effects: tuple[Effect, ...], hand_back: bool) -> None:
        """After the commit."""
        if Effect.LINK not in effects:
            self._links.changed(server)
        if Effect.CUT in effects:
            words = "the trust has ended"
            told = ("withdrawn", Withdrawn(hand_back=hand_back)) if Effect.TELL in effects else None
            self._links.cut(server, TurnedAway(words, "its administrator can trust this server again"), told)
            self.cut()


def _fingerprint(row: PeerRow) -> str:
    """Of its identity key; empty when what is kept of it is damaged."""
    try:
        return fingerprint_of(row.authority)
    except CopernicusError:
        return ""
