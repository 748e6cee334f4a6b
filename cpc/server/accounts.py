"""Users: who they are, how they log in, who may do everything."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from cpc.core import names
from cpc.core.clock import SECOND, Clock
from cpc.core.errors import BadInput, Conflict, Denied, NotFound, NotLoggedIn
from cpc.core.views import Page, Session, TokenView, UserView
from cpc.server import passwords
from cpc.server.gate import Gate
from cpc.server.logins import Tries, TryLimits
from cpc.server.passwords import Passwords
from cpc.server.principal import Call, Principal
from cpc.server.roles import Act, Role
from cpc.server.tokens import Tokens
from cpc.store import members, projects, tokens, users
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.store.users import UserRow
from cpc.store.writer import Threads

_WRONG = "wrong user name or password"


@dataclasses.dataclass(slots=True)
class Rules:
    """The settings that logins go by; times in seconds."""

    session_time: float = 7 * 86400.0
    tries: TryLimits = dataclasses.field(default_factory=TryLimits)


class Accounts:
    """Users and their sessions. Hashing goes through `threads`; `on_delete` runs in the unit that deletes a user."""

    def __init__(
        self, store: Store, gate: Gate, token_service: Tokens, hashes: Passwords, threads: Threads, clock: Clock,
        rules: Rules | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._gate = gate
        self._tokens = token_service
        self._hashes = hashes
        self._threads = threads
        self.rules = rules or Rules()
        self._tries = Tries(clock, lambda: self.rules.tries)
        self.on_delete: list[Callable[[Tx, UserRow, str], None]] = []
        # Whom a token stands for that is not in the database: the key of the command line on the same machine.
        self.local: Callable[[str], Principal | None] = lambda _token: None

    # --- sessions and tokens ---

    async def login(self, name: str, password: str, address: str) -> Session:
        """A session for the right password. NotLoggedIn does not say what was wrong; RateLimited says how long to wait."""
        take_back = self._tries.begin(names.key(name[:128]), address)
        row = await self._store.read(lambda tx: users.by_name(tx, name))
        stored = row.password if row is not None and not row.disabled else ""
        right = await self._threads.run(lambda: self._hashes.verify(password, stored))
        if row is None or not right:
            # Not the name as it was typed: now and then that is a password.
            shown, number = (row.name, row.id) if row is not None else ("", 0)
            await self._store.write(lambda tx: self._note_failure(tx, shown, number, address))
            raise NotLoggedIn(_WRONG, "an administrator can set a new password: cpcc passwd NAME")
        take_back()
        fresh = None
        if self._hashes.is_old(stored):
            fresh = await self._threads.run(lambda: self._hashes.hash(password))
        token, digest = self._tokens.new()
        return await self._store.write(lambda tx: self._begin_session(tx, row, token, digest, fresh, address))

    def _note_failure(self, tx: Tx, name: str, number: int, address: str) -> None:
        tx.event(f"user:{name}" if name else "nobody", "user.login-failed", subject=number, name=name, address=address)

    def _begin_session(
        self, tx: Tx, seen: UserRow, token: str, digest: bytes, fresh: str | None, address: str
    ) -> Session:
        row = users.by_id(tx, seen.id)
        if row is None or row.disabled or row.deleted is not None or row.password != seen.password:
            raise NotLoggedIn(_WRONG)
        expires = tx.now + int(self.rules.session_time * SECOND)
        self._tokens.add(tx, row.id, digest, tokens.SESSION, "login", "all", expires)
        if fresh is not None:
            users.change(tx, dataclasses.replace(row, password=fresh))
        tx.event(f"user:{row.name}", "user.login", subject=row.id, name=row.name, address=address)
        return Session(token=token, user=row.name, super_user=row.super_user, expires=expires)

    async def authenticate(self, token: str) -> Principal:
        """Whose token this is, or NotLoggedIn."""
        return self.local(token) or await self._tokens.authenticate(token)

    async def logout(self, who: Principal) -> None:
        """End the session (or token) that asks."""
        await self._gate.write(Call(who), Act.LOGOUT, lambda tx: self._tokens.end(tx, who), answer=None)

    async def tokens(self, who: Principal) -> Page:
        """One's own API tokens."""
        return await self._tokens.page(who)

    async def make_token(self, call: Call, name: str, scope: str, expires_in: float) -> tuple[str, TokenView]:
        """See `Tokens.make`."""
        return await self._tokens.make(call, name, scope, expires_in)

    async def delete_token(self, call: Call, name: str) -> None:
        """End one of one's own API tokens."""
        await self._tokens.delete(call, name)

    # --- looking ---

    async def whoami(self, who: Principal) -> UserView:
        """The user who asks."""

        def unit(tx: Tx) -> UserView:
            row = users.by_id(tx, who.user)
            if row is None:
                raise NotFound("the server itself is no user")
            return _view(row)

        return await self._gate.read(who, Act.WHOAMI, unit)

    async def users(self, who: Principal, after: str = "", limit: int = 100) -> Page:
        """Users in the order of their names."""
        after = names.clean(after, "cursor") if after else ""

        def unit(tx: Tx) -> Page:
            rows = users.page(tx, after, limit + 1)
            last = rows[limit - 1].name if len(rows) > limit else ""
            return Page(items=tuple(_view(row) for row in rows[:limit]), next=last)

        return await self._gate.read(who, Act.USER_LIST, unit)

    # --- changing ---

    async def add_user(self, call: Call, name: str, password: str, super_user: bool = False) -> UserView:
        """A new user. A name that was deleted may be used again: it is another user, who inherits nothing."""
        name = names.clean(name, "user name")
        passwords.check(password, name)
        hashed = await self._threads.run(lambda: self._hashes.hash(password))

        def unit(tx: Tx) -> UserView:
            if users.by_name(tx, name) is not None:
                raise Conflict(f"there is a user {name!r} already", "`-` and `_` are the same in names")
            row = users.add(tx, name, hashed, super_user)
            tx.event(call.who.actor, "user.created", subject=row.id, name=name, super_user=super_user)
            return _view(row)

        return await self._gate.write(call, Act.USER_ADD, unit, answer=UserView)

    async def change_user(
        self, call: Call, name: str, *,
        super_user: bool | None = None, disabled: bool | None = None,
        password: str | None = None, old_password: str | None = None,
    ) -> UserView:  # fmt: skip
        """Promote, demote, disable, enable, or set a password, which ends the user's other sessions.

        One's own password needs the old one, whoever one is. The last super user who can log in stays one.
        """
        own = names.key(name) == names.key(call.who.name) and bool(call.who.user)
        if super_user is None and disabled is None and password is None:
            raise BadInput("there is nothing to change", "give super_user, disabled or password")
        if own and password is not None and old_password is None:
            raise BadInput("your own password is changed with the old one", "give old_password too")
        hashed, proven = "", None
        if password is not None:
            passwords.check(password, name)
            if own:
                proven = await self._prove(call.who, old_password or "")
            hashed = await self._threads.run(lambda: self._hashes.hash(password))
        only_password = own and super_user is None and disabled is None

        def unit(tx: Tx) -> UserView:
            row = self._find(tx, name)
            if own and password is not None and row.password != proven:
                raise Denied("the old password is wrong")
            changed = dataclasses.replace(
                row,
                super_user=row.super_user if super_user is None else super_user,
                disabled=row.disabled if disabled is None else disabled,
                password=hashed or row.password,
            )
            if row.super_user and not row.disabled and (changed.disabled or not changed.super_user):
                self._keep_one_super(tx, row, "demoted" if not changed.super_user else "disabled")
            users.change(tx, changed)
            if password is not None or changed.disabled:
                tokens.delete_sessions(tx, row.id, call.who.token if own else 0)
            tx.after(lambda: self._tokens.forget(row.id))
            tx.event(
                call.who.actor, "user.changed", subject=row.id, name=row.name, super_user=changed.super_user,
                disabled=changed.disabled, password=password is not None,
            )  # fmt: skip
            return _view(changed)

        act = Act.PASSWORD_CHANGE if only_password else Act.USER_CHANGE
        return await self._gate.write(call, act, unit, answer=UserView)

    async def _prove(self, who: Principal, password: str) -> str | None:
        """The stored hash if this is the user's password. Wrong ones count like failed logins."""
        take_back = self._tries.begin(names.key(who.name), f"token {who.token}")
        row = await self._store.read(lambda tx: users.by_id(tx, who.user))
        stored = row.password if row is not None else ""
        if not await self._threads.run(lambda: self._hashes.verify(password, stored)):
            return None
        take_back()
        return stored

    async def delete_user(self, call: Call, name: str) -> None:
        """The user is gone, with all sessions, tokens, client bundles and roles. Their projects and jobs stay."""

        def unit(tx: Tx) -> None:
            row = self._find(tx, name)
            if row.super_user and not row.disabled:
                self._keep_one_super(tx, row, "deleted")
            for project in projects.owned(tx, row.id):
                heirs = [one for one in members.of_project(tx, project.id) if one.role == Role.OWNER]
                heir = next((one.user for one in heirs if one.user != row.id), None)
                if heir is not None:
                    projects.change(tx, dataclasses.replace(project, owner=heir))
            for also in self.on_delete:
                also(tx, row, call.who.actor)
            tokens.delete_of_user(tx, row.id)
            members.delete_user(tx, row.id)
            users.delete(tx, row.id)
            tx.after(lambda: self._tokens.forget(row.id))
            tx.event(call.who.actor, "user.deleted", subject=row.id, name=row.name)

        await self._gate.write(call, Act.USER_DELETE, unit, answer=None)

    def _find(self, tx: Tx, name: str) -> UserRow:
        row = users.by_name(tx, name)
        if row is None:
            raise NotFound(f"there is no user {name[:80]!r}", "`cpcc users` lists them")
        return row

    def _keep_one_super(self, tx: Tx, row: UserRow, what: str) -> None:
        if users.count_super(tx) <= 1:
            raise Conflict(f"{row.name} is the last super user and cannot be {what}", "promote another user first")


def _view(row: UserRow) -> UserView:
    return UserView(name=row.name, super_user=row.super_user, disabled=row.disabled, created=row.created)
