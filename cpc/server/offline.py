"""The server's services for the command line while no server runs: the same rules, on the same database, without a reactor.

Whoever opens them holds the server's locks (see `process.Hold`), so that no server is writing at the same time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace
from twisted.internet import defer
from twisted.python.failure import Failure

from cpc.core.chance import Chance
from cpc.core.clock import Clock
from cpc.core.errors import NotFound, Unavailable
from cpc.core.views import BundleView, SettingView
from cpc.server.accounts import Accounts
from cpc.server.bundles import Bundles, Terms
from cpc.server.config import Config
from cpc.server.gate import Gate
from cpc.server.passwords import Passwords
from cpc.server.principal import SERVER, Call
from cpc.server.seal import Seal
from cpc.server.settings import Settings
from cpc.server.tokens import Tokens
from cpc.store import pools
from cpc.store.database import DatabaseAway, DatabaseBroken, DatabaseFull, StatementError
from cpc.store.lock import DatabaseLock
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire.identity import Authority

T = TypeVar("T")


class Inline:
    """Work is done when `run` returns."""

    def run(self, call: Callable[[], T]) -> defer.Deferred[T]:
        """The call's value, now."""
        return defer.execute(call)


class _NoTimers:
    """A database that goes away is the end of a command, not something to wait for."""

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any) -> Any:
        raise Unavailable("the database went away", "see that it runs, then try again")


def wait(work: Awaitable[T]) -> T:
    """The value of something that needs no reactor."""
    found: list[Any] = []
    failed: list[Failure] = []

    async def whole() -> T:
        return await work

    defer.ensureDeferred(whole()).addCallbacks(found.append, failed.append)
    for failure in failed:
        assert failure.value is not None
        raise failure.value
    if not found:
        raise Unavailable("the database does not answer", "see that it runs, then try again")
    return found[0]  # type: ignore[no-any-return]


def terms(config: Config, bundle_time: float, certificate_time: float) -> Terms:
    """What this server writes into bundles."""
    return Terms(
        server_name=config.name,
        addresses=((config.host, config.port),),
        client_addresses=((config.host, config.client_port),),
        bundle_time=bundle_time,
        certificate_time=certificate_time,
    )


class Offline:
    """Users, bundles and settings of a stopped server. Everything is done in the server's name."""

    def __init__(self, store: Store, config: Config, authority: Authority, clock: Clock, chance: Chance) -> None:
        self._store = store
        gate = Gate(store, Seal(authority.key_pem, chance))
        tokens = Tokens(store, gate, clock, chance)
        self._settings = Settings(store, gate)
        wait(self._settings.load())
        number = self._settings.number
        self._bundles = Bundles(
            store, gate, tokens, authority, clock, terms(config, number("bundle_time"), number("certificate_time"))
        )
        self._gate, self._tokens, self._clock, self._chance = gate, tokens, clock, chance

    def add_user(self, name: str, password: str, super_user: bool) -> None:
        """A new user."""
        hashes = Passwords(self._chance)
        accounts = Accounts(self._store, self._gate, self._tokens, hashes, Inline(), self._clock)
        wait(accounts.add_user(Call(SERVER), name, password, super_user))

    def make_bundle(self, name: str, role: str, user: str, expires_in: float) -> tuple[str, BundleView]:
        """The text of a new bundle; see `Bundles.make`."""
        return wait(self._bundles.make(Call(SERVER), name, role, user, expires_in))

    def bundles(self) -> list[BundleView]:
        """All bundles, revoked ones too."""
        found: list[BundleView] = []
        after = ""
        while True:
            page = wait(self._bundles.page(SERVER, after, 1000))
            found += msgspec.convert(msgspec.to_builtins(page.items), list[BundleView])
            after = page.next
            if not after:
                return found

    def revoke_bundle(self, name: str) -> None:
        """The bundle is worth nothing from now on."""
        wait(self._bundles.revoke(Call(SERVER), name))

    def settings(self) -> list[SettingView]:
        """Every setting."""
        return msgspec.convert(msgspec.to_builtins(wait(self._settings.page(SERVER)).items), list[SettingView])

    def set(self, name: str, value: str) -> SettingView:
        """Change one."""
        return wait(self._settings.set(Call(SERVER), name, value))

    def pause_pool(self, name: str, reason: str) -> None:
        """Ask a pool for nothing more."""

        def unit(tx: Tx) -> None:
            row = pools.by_name(tx, name)
            if row is None:
                raise NotFound(f"there is no pool {name[:80]!r}")
            pools.change(tx, row.id, replace(row.facts, paused=reason), row.means)
            tx.event("server", "pool.paused", subject=row.id, pool=row.name, reason=reason)

        wait(self._store.write(unit))


@contextmanager
def services(config: Config, authority: Authority, clock: Clock, chance: Chance) -> Iterator[Offline]:
    """Open the database, and close it again."""
    lost: list[str] = []
    lock = DatabaseLock(config.database)
    store: Store | None = None
    try:
        store = Store(
            config.database, writing=Inline(), reading=Inline(), clock=clock, reactor=_NoTimers(), fatal=lost.append,
            holder=chance.token(8).hex(),
        )  # fmt: skip
        yield Offline(store, config, authority, clock, chance)
    except (DatabaseAway, DatabaseBroken, DatabaseFull, StatementError) as error:
        raise Unavailable(f"the database failed: {error}", "see `cpc-server doctor`") from error
    finally:
        if store is not None:
            wait(store.close())
        lock.release()
    if lost:
        raise Unavailable(f"the database failed: {lost[0]}", "see `cpc-server doctor`")
