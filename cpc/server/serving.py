"""The server as a process: its reactor, its signals, its log, and what it tells those who wait for it.

SIGTERM, SIGINT   stop: what was accepted is finished first
SIGHUP            read settings and site certificates again, and go on in a fresh log file
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger, LogLevel

from cpc.core.chance import Chance
from cpc.core.clock import SECOND, Clock
from cpc.core.errors import Conflict, CopernicusError, Damaged, Unavailable
from cpc.core.memory import collect_seldom
from cpc.server import process
from cpc.server.config import Config, Place
from cpc.server.control import ControlKey
from cpc.server.daemon import Ready
from cpc.server.logs import Logs
from cpc.server.principal import SERVER, Principal
from cpc.store.database import DatabaseAway, DatabaseBroken, DatabaseFull
from cpc.store.lock import DatabaseLock

log = Logger()


class Serving:
    """Runs one server until it is asked to stop. `run` gives the exit code."""

    def __init__(
        self, place: Place, config: Config, logs: Logs, ready: Ready, reactor: Any, clock: Clock, chance: Chance
    ) -> None:
        from cpc.server.service import Service

        self._place = place
        self._logs = logs
        self._ready = ready
        self._reactor = reactor
        self._clock = clock
        self._chance = chance
        self._service = Service(place, config, reactor, self._fatal, clock=clock, chance=chance)
        self._service.on_stop = self._stop
        self._config = config
        self._key: ControlKey | None = None
        self._stopping = False
        self._up = False
        self._code = 0

    def run(self) -> int:
        """Until the end."""
        process.record(self._place)
        try:
            lock = DatabaseLock(self._config.database)
        except CopernicusError as error:
            log.error("the server could not start: {reason}", reason=str(error))
            self._ready(error)
            self._leave()
            return 1
        try:
            self._reactor.callWhenRunning(self._begin)
            self._reactor.run()
        finally:
            self._leave()
            lock.release()
        return self._code

    def _leave(self) -> None:
        if self._key is not None:
            self._key.remove()
        process.forget(self._place)

    # --- start ---

    def _begin(self) -> None:
        for number, act in ((signal.SIGTERM, self._stop), (signal.SIGINT, self._stop), (signal.SIGHUP, self._reload)):
            signal.signal(number, self._later(act))
        ensureDeferred(self._start())

    def _later(self, act: Callable[[], None]) -> Callable[[int, Any], None]:
        return lambda _number, _frame: self._reactor.callFromThread(act)

    async def _start(self) -> None:
        try:
            await self._service.start()
        except Exception as error:
            refusal = in_words(error, self._place)
            if refusal is None:
                log.failure("the server could not start")
                refusal = CopernicusError(f"the server could not start: {error!r}", f"see {self._place.log_file}")
            else:
                log.error("the server could not start: {reason}", reason=str(refusal))
            self._code = 1
            self._ready(refusal)
            self._end()
            return
        self._key = ControlKey(self._place, self._chance)
        self._service.accounts.local = self._principal
        self._follow_log_level()
        self._up = True
        collect_seldom()
        log.info(
            "server {name} takes workers on port {port} and people on port {client_port} of {addresses}",
            name=self._config.name, port=self._config.port, client_port=self._config.client_port,
            addresses=", ".join(self._config.listen),
        )  # fmt: skip
        process.notify(f"READY=1\nMAINPID={os.getpid()}\nSTATUS=serving")
        self._ready(None)
        if self._stopping:
            self._stopping = False
            self._stop()

    def _principal(self, token: str) -> Principal | None:
        return SERVER if self._key is not None and self._key.fits(token) else None

    def _follow_log_level(self) -> None:
        def changed(name: str) -> None:
            if name in ("", "log_level"):
                self._logs.level = self._service.settings.text("log_level")

        self._service.settings.watch(changed)
        changed("")

    # --- signals ---

    def _reload(self) -> None:
        self._logs.reopen()
        if not self._up or self._stopping:
            return
        process.notify(f"RELOADING=1\nMONOTONIC_USEC={int(self._clock.monotonic() * SECOND)}")
        ensureDeferred(self._reread())

    async def _reread(self) -> None:
        try:
            await self._service.reread()
            self._logs.level = self._service.settings.text("log_level")
            log.info("settings and certificates were read again")
        except CopernicusError as error:
            log.error("settings or certificates could not be read again, the former stay: {error}", error=str(error))
        except Exception:
            log.failure("settings or certificates could not be read again")
        finally:
            process.notify("READY=1")

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        if not self._up:
            return  # `_start` sees to it when it comes to its end
        log.info("stopping")
        process.notify("STOPPING=1")
        ensureDeferred(self._stop_service())

    async def _stop_service(self) -> None:
        try:
            await self._service.stop()
            log.info("stopped")
        except Exception:
            log.failure("the server did not stop as it should; nothing acknowledged is lost")
            self._code = 1
        self._end()

    def _end(self) -> None:
        if self._reactor.running:
            self._reactor.stop()

    def _fatal(self, reason: str) -> None:
        """Nothing that this process believes may be trusted any more: it ends here, and the next one recovers."""
        log.emit(LogLevel.critical, "the server ends: {reason}", reason=reason)
        self._ready(Unavailable(f"the server ended: {reason}", "see `cpc-server doctor`"))
        self._leave()
        os._exit(1)


def in_words(error: Exception, place: Place) -> CopernicusError | None:
    """A failed start as a refusal; None when it is a defect."""
    if isinstance(error, CopernicusError):
        return error
    if isinstance(error, CannotListenError):
        return Conflict(
            f"port {error.port} on {error.interface} cannot be used: "
            f"{getattr(error.socketError, 'strerror', None) or error.socketError}",
            "another program may use it: stop that one, or choose another with `cpc-server config port` or `client_port`",
        )
    if isinstance(error, DatabaseAway | DatabaseFull):
        return Unavailable(f"the database cannot be used: {error}", "see `cpc-server doctor`")
    if isinstance(error, DatabaseBroken):
        return Damaged(f"the database is damaged: {error}", "restore it from a backup: cpc-server restore FILE --force")
    if isinstance(error, OSError):
        return CopernicusError(f"{error.filename or place.directory}: {error.strerror}", "see `cpc-server doctor`")
    return None
