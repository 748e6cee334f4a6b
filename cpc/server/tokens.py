"""Bearer tokens: login sessions, API tokens, client bundles. Looked up by hash, remembered while nothing changes."""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from twisted.logger import Logger

from cpc.core import names
from cpc.core.chance import Chance
from cpc.core.clock import SECOND, Clock
from cpc.core.errors import BadInput, Conflict, NotFound, NotLoggedIn
from cpc.core.views import Page, TokenView
from cpc.server.gate import Gate
from cpc.server.principal import Call, Principal
from cpc.server.roles import Act
from cpc.store import projects, tokens
from cpc.store.store import Store
from cpc.store.tokens import TokenRow
from cpc.store.transaction import Tx

log = Logger()

MAX_REMEMBERED = 10_000
REMEMBER = 3600.0  # seconds; also how exact "last used" is
MAX_TOKENS = 1000  # of one user and kind
LONGEST = 10 * 366 * 86400.0
PREFIX = "cpc_"


@dataclass(frozen=True, slots=True)
class _Known:
    who: Principal
    expires: int
    until: float


class Tokens:
    """Makes, recognises and ends tokens."""

    def __init__(self, store: Store, gate: Gate, clock: Clock, chance: Chance) -> None:
        self._store = store
        self._gate = gate
        self._clock = clock
        self._chance = chance
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._generation = 0

    # --- recognise ---

    async def authenticate(self, token: str) -> Principal:
        """Whose token this is, or NotLoggedIn."""
        digest = hashed(token)
        known = self._known.get(digest)
        if known is None or known.until <= self._clock.monotonic():
            known = await self._look_up(digest)
        if known.expires <= self._clock.now():
            self._known.pop(digest, None)
            raise NotLoggedIn("this session or token has expired", "log in again with `cpcc login USER`")
        return known.who

    async def _look_up(self, digest: bytes) -> _Known:
        generation = self._generation
        found = await self._store.read(lambda tx: tokens.by_hash(tx, digest))
        if found is None or not found[1].enabled:
            raise NotLoggedIn("this token is unknown, or has been revoked", "log in with `cpcc login USER`")
        row, holder = found
        who = Principal(row.user, holder.name, holder.super_user, row.id, row.scope)
        known = _Known(who, row.expires, self._clock.monotonic() + REMEMBER)
        # What changed while we read would be remembered as it was before.
        if generation == self._generation:
            self._known[digest] = known
            while len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)
        if row.used is None or self._clock.now() - row.used > REMEMBER * SECOND:
            self._note_use(row.id)
        return known

    def _note_use(self, token: int) -> None:
        done = self._store.write(lambda tx: tokens.note_use(tx, token))
        done.addErrback(lambda failure: log.debug("the use of a token was not noted: {why}", why=failure.value))

    def forget(self, user: int = 0) -> None:
        """What is remembered about a user (0: about everybody) is not true any more."""
        self._generation += 1
        for digest in [digest for digest, known in self._known.items() if user in (0, known.who.user)]:
            del self._known[digest]

    # --- make and end, within a unit ---

    def new(self) -> tuple[str, bytes]:
        """A fresh token, and what is stored of it."""
        token = PREFIX + base64.urlsafe_b64encode(self._chance.token(32)).decode().rstrip("=")
        return token, hashed(token)

    def add(self, tx: Tx, user: int, digest: bytes, kind: str, name: str, scope: str, expires: int) -> TokenRow:
        """Store a token. Of login sessions the oldest ends when there are too many."""
        held = tokens.of_user(tx, user, kind)
        if len(held) >= MAX_TOKENS:
            if kind != tokens.SESSION:
                raise Conflict(f"you have {len(held)} tokens already", "delete some: cpcc tokens")
            tokens.delete(tx, held[0].id)
            tx.after(lambda: self.forget(user))
        return tokens.add(tx, user, digest, kind, name, scope, expires)

    def end(self, tx: Tx, row: TokenRow | Principal) -> None:
        """End one token."""
        number, user = (row.token, row.user) if isinstance(row, Principal) else (row.id, row.user)
        tokens.delete(tx, number)
        tx.after(lambda: self.forget(user))

    # --- for their owners ---

    async def page(self, who: Principal) -> Page:
        """One's own API tokens."""

        def unit(tx: Tx) -> Page:
            rows = tokens.of_user(tx, who.user, tokens.TOKEN)
            return Page(items=tuple(_view(tx, row, who.name) for row in rows))

        return await self._gate.read(who, Act.TOKEN_LIST, unit)

    async def make(self, call: Call, name: str, scope: str, expires_in: float) -> tuple[str, TokenView]:
        """A token for a script: its text and what is known of it. `scope`: all, read or project:NAME; seconds."""
        name = names.clean(name, "token name")
        if not 0 < expires_in <= LONGEST:
            raise BadInput(f"a token cannot be valid for {expires_in:g} s", "at most ten years")
        token, digest = self.new()

        def unit(tx: Tx) -> tuple[str, TokenView]:
            if not call.who.user:
                raise BadInput("the server itself has no tokens", "log in as the user whose token it is to be")
            if tokens.by_name(tx, call.who.user, name) is not None:
                raise Conflict(f"you have a token {name!r} already", "delete it first, or take another name")
            stored = self._scope(tx, call.who, scope)
            expires = tx.now + int(expires_in * SECOND)
            row = self.add(tx, call.who.user, digest, tokens.TOKEN, name, stored, expires)
            tx.event(call.who.actor, "token.made", subject=row.id, name=name, scope=scope)
            return token, _view(tx, row, call.who.name)

        answer = tuple[str, TokenView]
        return await self._gate.write(call, Act.TOKEN_MAKE, unit, answer=answer, secret=True)

    async def delete(self, call: Call, name: str) -> None:
        """End one of one's own tokens."""

        def unit(tx: Tx) -> None:
            row = tokens.by_name(tx, call.who.user, name)
            if row is None:
                raise NotFound(f"you have no token {name[:80]!r}", "see `cpcc tokens`")
            self.end(tx, row)
            tx.event(call.who.actor, "token.deleted", subject=row.id, name=row.name)

        await self._gate.write(call, Act.TOKEN_DELETE, unit, answer=None)

    def _scope(self, tx: Tx, who: Principal, scope: str) -> str:
        """The scope as it is stored. Nobody hands on more than they hold: the gate lets only whole tokens ask."""
        if scope in ("all", "read"):
            return scope
        kind, _, project = scope.partition(":")
        if kind != "project" or not project:
            raise BadInput(f"{scope[:80]!r} is not a scope", "write all, read or project:NAME")
        row = self._gate.project(tx, project, who)
        self._gate.check(tx, who, Act.PROJECT_SHOW, row.id, f"project {project}")
        return f"project:{row.id}"

    async def drop_expired(self) -> int:
        """Maintenance: forget tokens whose time is over; how many."""
        return await self._store.write(tokens.delete_expired)


def hashed(token: str) -> bytes:
    """What is stored of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _view(tx: Tx, row: TokenRow, user: str) -> TokenView:
    scope = row.scope
    if scope.startswith("project:"):
        project = projects.by_id(tx, int(scope.removeprefix("project:")))
        scope = f"project:{project.name}" if project else scope
    return TokenView(name=row.name, user=user, scope=scope, created=row.created, expires=row.expires)
