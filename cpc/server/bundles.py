"""Connection bundles: made, listed, revoked one by one; and the question whether one, or a worker of one, is still good."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from cpc.core import names
from cpc.core.clock import SECOND, Clock
from cpc.core.errors import BadInput, Conflict, NotFound, TurnedAway
from cpc.core.views import BundleView, Page
from cpc.server.gate import Gate
from cpc.server.principal import Call, Principal
from cpc.server.roles import Act
from cpc.server.tokens import Tokens
from cpc.store import allocations, bundles, tokens, users, workers
from cpc.store.bundles import ALLOCATION, CLIENT, WORKER, BundleRow
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.store.users import UserRow
from cpc.wire.bundle import Bundle, encode
from cpc.wire.identity import Authority, Name, Role, fingerprint_of

LONGEST = 20 * 366 * 86400.0

#: How often a batch system may start an allocation again: each time its workers are new ones.
RESTARTS = 4
#: Keys of an allocation that has ended are refused by their connection for so long (µs).
CUT_TIME = 3600 * SECOND


@dataclass(slots=True)
class Terms:
    """What goes into bundles and for how long they, and workers' certificates, are valid (seconds)."""

    server_name: str
    addresses: tuple[tuple[str, int], ...]
    client_addresses: tuple[tuple[str, int], ...]
    bundle_time: float = 366 * 86400.0
    certificate_time: float = 30 * 86400.0


class Bundles:
    """`on_revoke` runs in the unit that revokes a worker bundle, with its id: there its workers are put out."""

    def __init__(
        self, store: Store, gate: Gate, token_service: Tokens, authority: Authority, clock: Clock, terms: Terms
    ) -> None:
        self._store = store
        self._gate = gate
        self._tokens = token_service
        self._authority = authority
        self._clock = clock
        self.terms = terms
        self.on_revoke: list[Callable[[Tx, int], None]] = []
        self._revoked: dict[str, str] = {}
        self._ended: deque[tuple[int, dict[str, str]]] = deque()  # allocations, and when

    async def start(self) -> None:
        """Read which keys are revoked, before the first connection."""
        self._revoked = await self._store.read(bundles.revoked_keys)

    # --- for people ---

    async def make(
        self, call: Call, name: str, role: str, user: str = "", expires_in: float = 0.0
    ) -> tuple[str, BundleView]:
        """The text of a new .cnx file, and what is known of it. `expires_in` in seconds; 0: the usual time.

        A worker bundle holds a key that may enrol workers. A client bundle speaks for `user` (who asks, if empty).
        """
        name = names.clean(name, "bundle name")
        if role not in (WORKER, CLIENT):
            raise BadInput(f"{role[:40]!r} is not a role of bundles", "make a worker or a client bundle")
        if role == WORKER and user:
            raise BadInput("a worker bundle speaks for no user", "leave the user out, or make a client bundle")
        if not 0 <= expires_in <= LONGEST:
            raise BadInput(f"a bundle cannot be valid for {expires_in:g} s", "at most twenty years")
        valid_for = expires_in or self.terms.bundle_time
        own = role == CLIENT and names.key(user or call.who.name) == names.key(call.who.name) and call.who.user != 0

        def unit(tx: Tx) -> tuple[str, BundleView]:
            old = bundles.by_name(tx, name)
            if old is not None and old.expires > tx.now:
                raise Conflict(f"there is a bundle {name!r} already", "revoke it first, or take another name")
            holder = self._holder(tx, call.who, user) if role == CLIENT else None
            if old is not None:
                self._revoke(tx, old, call.who.actor)
            made = self._worker(tx, name, valid_for) if holder is None else self._client(tx, name, valid_for, holder)
            bundle, row = made
            tx.event(
                call.who.actor, "bundle.made", subject=row.id, name=name, role=role, user=bundle.user,
                expires=row.expires,
            )  # fmt: skip
            return encode(bundle).decode(), _view(row, tx.now)

        act = Act.BUNDLE_MAKE_OWN if own else Act.BUNDLE_MAKE
        answer = tuple[str, BundleView]
        return await self._gate.write(call, act, unit, answer=answer, secret=True)

    def _holder(self, tx: Tx, who: Principal, user: str) -> UserRow:
        if not user and not who.user:
            raise BadInput("a client bundle speaks for a user", "say for whom")
        row = users.by_name(tx, user) if user else users.by_id(tx, who.user)
        if row is None:
            raise NotFound(f"there is no user {user[:80]!r}", "`cpcc users` lists them")
        return row

    def _worker(self, tx: Tx, name: str, valid_for: float, role: str = WORKER) -> tuple[Bundle, BundleRow]:
        identity = self._authority.identity(Name(self._authority.server_id, Role.BUNDLE, name), valid_for)
        expires = min(tx.now + int(valid_for * SECOND), identity.not_after)
        row = bundles.add(
            tx, name, role, user=None, token=None, fingerprint=fingerprint_of(identity.certificate_pem),
            expires=expires,
        )  # fmt: skip
        key, certificate = identity.key_pem.decode(), identity.certificate_pem.decode()
        return self._bundle(row, key=key, certificate=certificate), row

    def _client(self, tx: Tx, name: str, valid_for: float, holder: UserRow) -> tuple[Bundle, BundleRow]:
        expires = tx.now + int(valid_for * SECOND)
        token, digest = self._tokens.new()
        stored = self._tokens.add(tx, holder.id, digest, tokens.BUNDLE, name, "all", expires)
        row = bundles.add(tx, name, CLIENT, user=holder.id, token=stored.id, fingerprint="", expires=expires)
        return self._bundle(row, token=token, user=holder.name), row

    def _bundle(
        self, row: BundleRow, *, key: str = "", certificate: str = "", token: str = "", user: str = ""
    ) -> Bundle:
        return Bundle(
            role=row.role, name=row.name, server=self._authority.server_id, server_name=self.terms.server_name,
            addresses=() if row.role == CLIENT else self.terms.addresses, client_addresses=self.terms.client_addresses,
            authority=self._authority.certificate_pem.decode(), key=key, certificate=certificate, token=token,
            user=user, expires=row.expires,
        )  # fmt: skip

    async def page(self, who: Principal, after: str = "", limit: int = 100) -> Page:
        """Bundles, oldest first, revoked ones too: one's own client bundles; a super user sees all."""
        if after and not (after.isascii() and after.isdigit() and len(after) < 20):
            raise BadInput(f"{after[:40]!r} is not a cursor of this list")

        def unit(tx: Tx) -> Page:
            rows = bundles.page(tx, int(after or 0), limit + 1, None if who.super_user else who.user)
            last = str(rows[limit - 1].id) if len(rows) > limit else ""
            return Page(items=tuple(_view(row, tx.now) for row in rows[:limit]), next=last)

        return await self._gate.read(who, Act.BUNDLE_LIST, unit)

    async def expiring(self, within: float) -> tuple[BundleView, ...]:
        """Bundles that end within so many seconds, for the status."""
        rows = await self._store.read(lambda tx: bundles.expiring(tx, tx.now + int(within * SECOND)))
        return tuple(_view(row, self._clock.now()) for row in rows)

    async def revoke(self, call: Call, name: str) -> None:
        """The bundle is worth nothing from now on; sessions of its workers, or of its user with it, end at once."""

        def unit(tx: Tx) -> None:
            row = bundles.by_name(tx, name)
            if row is None or row.user != call.who.user or not call.who.user:
                self._gate.check(tx, call.who, Act.BUNDLE_REVOKE)
            if row is None:
                raise NotFound(f"there is no bundle {name[:80]!r} in force", "see `cpcc bundles`")
            self._revoke(tx, row, call.who.actor)

        await self._gate.write(call, Act.BUNDLE_REVOKE_OWN, unit, answer=None)

    def _revoke(self, tx: Tx, row: BundleRow, actor: str) -> None:
        bundles.revoke(tx, row.id)
        if row.token is not None and row.user is not None:
            user = row.user
            tokens.delete(tx, row.token)
            tx.after(lambda: self._tokens.forget(user))
        if row.role == WORKER:
            keys = {row.fingerprint: row.name, **bundles.worker_keys(tx, row.id)}
            tx.after(lambda: self._revoked.update(keys))
            for put_out in self.on_revoke:
                put_out(tx, row.id)
        tx.event(actor, "bundle.revoked", subject=row.id, name=row.name, role=row.role, user=row.user_name)

    def user_deleted(self, tx: Tx, user: UserRow, actor: str) -> None:
        """Within the unit that deletes a user: the client bundles go too (see `Accounts.on_delete`)."""
        for row in bundles.of_user(tx, user.id):
            self._revoke(tx, row, actor)

    # --- for machines ---

    def refusal(self, name: Name, fingerprint: str) -> str | None:
        """Why a machine may not connect, if it may not: its key, or the bundle it came with, is revoked."""
        if name.server == self._authority.server_id and fingerprint in self._revoked:
            return f"{name} has been revoked"
        return None

    def admit(self, tx: Tx, bundle: str, fingerprint: str, worker: str = "") -> int:
        """Within a unit: the bundle with this name and key may enrol a worker now; its id. TurnedAway in words.

        `worker`: the fingerprint of the worker's own key; one that has enrolled before is no further use of a bundle.
        """
        row = self.good(tx, bundle, fingerprint)
        if row.role == ALLOCATION:
            if workers.by_key(tx, worker) is not None:
                return row.id
            self._count(tx, row)
        bundles.note_use(tx, row.id)
        return row.id

    def good(self, tx: Tx, bundle: str, fingerprint: str) -> BundleRow:
        """Within a unit: the bundle of a machine with this name and key, if it is in force; else TurnedAway."""
        row = bundles.by_name(tx, bundle)
        if row is None or row.role == CLIENT or row.fingerprint != fingerprint:
            raise TurnedAway(f"the bundle {bundle[:80]} has been revoked", "ask for a new one: cpc-server bundle")
        if row.expires <= tx.now:
            raise TurnedAway(f"the bundle {bundle[:80]} has expired", "ask for a new one: cpc-server bundle")
        return row

    def _count(self, tx: Tx, row: BundleRow) -> None:
        """One worker for each of its nodes, as often as it is started again, is all that an allocation may enrol."""
        allocation = allocations.by_bundle(tx, row.id)
        if allocation is None or allocation.ended is not None:
            raise TurnedAway(f"the allocation {row.name} is over", "its pool asks for another one when there is work")
        if allocation.facts.probe is not None:
            raise TurnedAway(f"the allocation {row.name} may only look, and enrols no worker", "see `cpcc doctor`")
        if row.used >= allocation.facts.nodes * (1 + RESTARTS):
            raise TurnedAway(
                f"the allocation {row.name} has enrolled {row.used} workers: more than its nodes explain",
                "if its bundle was copied elsewhere: cpcc allocation cancel",
            )

    # --- for pools ---

    def for_allocation(self, tx: Tx, token: str, pool: str, valid_for: float) -> tuple[Bundle, int]:
        """Within a unit: what the workers of an allocation enrol with, and its id. Its key is kept nowhere else."""
        bundle, row = self._worker(tx, token, valid_for, ALLOCATION)
        return replace(bundle, pool=pool), row.id

    def close(self, tx: Tx, number: int) -> None:
        """Within a unit: the allocation is over, and so is what its workers came with. They are put out by the caller."""
        row = bundles.by_id(tx, number)
        if row is None or row.revoked is not None:
            return
        bundles.revoke(tx, number)
        keys = {row.fingerprint: row.name, **bundles.worker_keys(tx, number)}
        tx.after(lambda: self._refuse_for_a_while(keys))

    def _refuse_for_a_while(self, keys: dict[str, str]) -> None:
        """Until all their connections are cut; after that, the database refuses them at their first word."""
        now = self._clock.now()
        self._revoked.update(keys)
        self._ended.append((now, keys))
        while self._ended[0][0] < now - CUT_TIME:
            for fingerprint in self._ended.popleft()[1]:
                self._revoked.pop(fingerprint, None)

    def certificate(self, request: bytes, name: str) -> bytes:
        """A worker's certificate (PEM) for the key of a signing request."""
        return self._authority.issue(
            request, Name(self._authority.server_id, Role.WORKER, name), self.terms.certificate_time
        )


def _view(row: BundleRow, now: int) -> BundleView:
    last = max(filter(None, (row.last_used, row.token_used)), default=None)
    return BundleView(
        name=row.name, role=row.role, user=row.user_name, created=row.created, expires=row.expires,
        revoked=row.revoked is not None, used=row.used, last_used=last,
    )  # fmt: skip
