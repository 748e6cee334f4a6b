"""The way to the server: keeps one session alive for as long as the worker lives, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from cpc.core.chance import Chance
from cpc.core.clock import Clock, Timer, Timers
from cpc.core.errors import CopernicusError, Refused, TurnedAway, Unavailable
from cpc.wire.bundle import Bundle
from cpc.wire.connection import Connection, connect
from cpc.wire.endpoints import ClientEndpoint
from cpc.wire.identity import Identity
from cpc.wire.messages import Bulk, Goodbye, Hello, Orders, Welcome
from cpc.wire.negotiation import NoCommonProtocol
from cpc.wire.tls import ClientTls
from cpc.worker.collecting import words
from cpc.worker.credentials import Credentials
from cpc.worker.desk import Desk
from cpc.worker.session import Session
from cpc.worker.transfer import Nothing, Transfer
from cpc.worker.waiting import Backoff, in_background, later

CONNECT_TIME = 30.0
RENEW_AGAIN = 60.0

_log = Logger()

Connect = Callable[[str, int], ClientEndpoint]


class Link:
    """Joins, and joins again for ever. `run` ends only with TurnedAway, or after `close`."""

    def __init__(
        self,
        *,
        bundle: Bundle,
        credentials: Credentials,
        connect: Connect,
        desk: Desk,
        transfer: Transfer,
        reactor: Timers,
        clock: Clock,
        chance: Chance,
        say: Callable[[str], None],
    ) -> None:
        self.session: Session | None = None
        self.lost_at = clock.monotonic()  # since when there is no session
        self._bundle = bundle
        self._credentials = credentials
        self._endpoint = connect
        self._desk = desk
        self._transfer = transfer
        self._reactor = reactor
        self._clock = clock
        self._say = say
        self._said = ""
        self._backoff = Backoff(chance)
        self._unknown = False  # the server does not know our key: enrol before the next session
        self._closing = False
        self._pause: Deferred[None] | None = None
        self._renewal: Timer | None = None

    async def run(self) -> None:
        """Keep a session."""
        while not self._left():
            refused = False
            for address in self._bundle.addresses:
                try:
                    await self._one_session(address)
                except TurnedAway:
                    raise
                except CopernicusError as error:
                    refused = isinstance(error, Refused)
                    if not self._left():
                        self._tell(f"{address[0]} port {address[1]}: {words(error)}")
                except OSError as error:  # a full disk does not take the certificate
                    self._tell(f"{address[0]} port {address[1]}: {words(error)}")
                except Exception as error:  # whatever it was, the jobs go on and so do the tries
                    _log.failure("the session failed")
                    self._tell(f"{address[0]} port {address[1]}: {words(error)}")
                if self._left():
                    return
            await self._wait(self._backoff.most() if refused else self._backoff.pause())

    def _left(self) -> bool:
        return self._closing

    def poke(self) -> None:
        """There is something to tell."""
        if self.session is not None:
            self.session.poke()

    async def goodbye(self, reason: str, within: float) -> None:
        """Tell the server that this worker leaves; it has `within` seconds to answer."""
        if self.session is not None:
            try:
                await self.session.connection.call("goodbye", Goodbye(reason=reason), Nothing, timeout=within)
            except CopernicusError as error:
                self._tell(f"left without the server's word: {words(error)}")

    def close(self) -> None:
        """No more sessions."""
        self._closing = True
        self._transfer.detach()
        if self.session is not None:
            self.session.connection.close("the worker leaves")
        if self._pause is not None:
            self._pause.cancel()

    async def _wait(self, seconds: float) -> None:
        self._pause = later(self._reactor, seconds)
        try:
            await self._pause
        except CancelledError:
            return
        finally:
            self._pause = None

    async def _one_session(self, address: tuple[str, int]) -> None:
        connection = await self._join(address)
        try:
            welcome = await connection.call("hello", self._hello(), Welcome)
        except CopernicusError as error:
            connection.close()
            # It took the certificate and does not know the key: it was restored from before this worker had enrolled.
            self._unknown = isinstance(error, Refused)
            raise
        self._said = ""
        self._say(f"joined server {welcome.server} at {address[0]} port {address[1]}")
        # A server that has been away gives every lease one heartbeat time from its start: be back by then.
        self._backoff.bound(welcome.heartbeat_time / 2)
        self._desk.welcomed(welcome)
        self.session = session = Session(connection, welcome, self._desk, self._reactor, self._clock)
        self._transfer.attach(lambda: self._open_bulk(address, session))
        self._renew_later(welcome.certificate_valid_for, session)
        try:
            await session.run()
        except Exception:
            self._lost(session)
            raise

    def _lost(self, session: Session) -> None:
        if session.turns:
            self._backoff.reset()
        self.session = None
        self.lost_at = self._clock.monotonic()
        if self._renewal is not None and self._renewal.active():
            self._renewal.cancel()
        self._transfer.detach()
        session.connection.close("the worker begins a new session")

    def _hello(self) -> Hello:
        return self._desk.hello()

    async def _join(self, address: tuple[str, int]) -> Connection:
        """A connection under our own name; enrols first when there is no certificate that the server takes."""
        identity = self._credentials.identity
        if identity is not None and not self._unknown:
            try:
                return await self._connect(address, identity)
            except NoCommonProtocol:
                raise
            except Refused as error:
                self._tell(f"the server does not take this worker's certificate: {words(error)}; enrolling again")
        await self._enrol(address)
        identity = self._credentials.identity
        assert identity is not None
        return await self._connect(address, identity)

    async def _enrol(self, address: tuple[str, int]) -> None:
        connection = await self._connect(address, self._credentials.bundle_identity)
        try:
            await self._credentials.enrol(connection)
        finally:
            connection.close()
        self._unknown = False

    async def _connect(self, address: tuple[str, int], identity: Identity) -> Connection:
        bundle = self._bundle
        security = ClientTls(identity, bundle.authority.encode(), bundle.server)
        endpoint = self._endpoint(*address)
        return await connect(
            endpoint,
            security,
            self._reactor,
            self._clock,
            CONNECT_TIME,
            prepare=lambda c: c.serve("orders", Orders, self._orders),
        )

    async def _orders(self, connection: Connection, orders: Orders) -> None:
        """Orders that the server sends by itself."""
        if self.session is not None and self.session.connection is connection:
            self._desk.obey(orders)
            if orders.heartbeat_time:
                self._backoff.bound(orders.heartbeat_time / 2)
            # New tasks and settled results need no word from here: what comes of them is told when it is there.
            if (
                orders.follow
                or orders.cancel
                or orders.hand_back
                or orders.retry
                or orders.leave
                or orders.beat
                or orders.drain is not None
            ):
                self.poke()

    async def _open_bulk(self, address: tuple[str, int], session: Session) -> Connection:
        identity = self._credentials.identity
        if identity is None:
            raise Unavailable("there is no certificate yet")
        try:
            connection = await self._connect(address, identity)
        except Refused as error:
            # It has expired, by the clock that the server has now; the session that is open gets another.
            self._tell(f"the server does not take this worker's certificate: {words(error)}; renewing it")
            await self._credentials.enrol(session.connection, "renew-certificate")
            connection = await self._connect(address, self._credentials.identity or identity)
        try:
            await connection.call("bulk", Bulk(session=session.number), Nothing)
        except CopernicusError:
            connection.close()
            raise
        return connection

    # --- the certificate ------------------------------------------------------------------------------------------------

    def _renew_later(self, valid_for: float, session: Session) -> None:
        """Renew when half of the time is over, by our own clock; the server said for how long it is valid. 0: it is over
        already, or nobody knows.
        """
        self._renewal = self._reactor.callLater(valid_for / 2, self._renew_now, valid_for / 2, session)

    def _renew_now(self, left: float, session: Session) -> None:
        in_background(self._renew(left, session), "renewing the certificate")

    async def _renew(self, left: float, session: Session) -> None:
        try:
            valid_for = await self._credentials.enrol(session.connection, "renew-certificate")
        except (CopernicusError, OSError) as error:
            if self.session is session:
                self._say(f"the certificate was not renewed: {words(error)}; it is valid for {left:.0f} s more")
                self._renew_later(max(2 * RENEW_AGAIN, left), session)
            return
        if self.session is session:
            self._renew_later(max(2 * RENEW_AGAIN, valid_for), session)

    def _tell(self, text: str) -> None:
        """A line, once: not again for every try."""
        if text != self._said:
            self._said = text
            self._say(text)
