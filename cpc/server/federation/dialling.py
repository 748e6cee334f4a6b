"""Reaching a server again and again, at each address it may have, with growing pauses, until there is a link with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger

from cpc.core.chance import Chance
from cpc.core.clock import Timer, Timers
from cpc.core.errors import Conflict, CopernicusError
from cpc.core.peer import Address
from cpc.wire import tls
from cpc.wire.negotiation import NoCommonProtocol

FIRST, MOST = 1.0, 60.0  # seconds: pauses double from one to the other
#: What TLS says of a server → what is said of a peer.
WORDS = {tls.NOT_PINNED: "it does not trust this server", tls.ANOTHER: "another server answers there"}

log = Logger()


class Dialler:
    """Of one server. `addresses` gives where to try now; nothing when it is not to be tried. `open` makes a link or raises.

    `patience`: seconds that the other side has the start of, so that two that dial each other seldom meet.
    """

    def __init__(
        self, *, called: str, addresses: Callable[[], tuple[Address, ...]], is_up: Callable[[], bool],
        open: Callable[[Address], Awaitable[None]], reactor: Timers, chance: Chance, patience: float = 0.0,
    ) -> None:  # fmt: skip
        self.trouble = ""  # why the last try failed, in words
        self._called = called
        self._addresses = addresses
        self._is_up = is_up
        self._open = open
        self._reactor = reactor
        self._chance = chance
        self._patience = patience
        self._pause = FIRST
        self._timer: Timer | None = None
        self._busy = False
        self._stopped = False
        self._again = False

    def nudge(self) -> None:
        """Something has changed: try at once."""
        self._pause = FIRST
        if self._busy:
            self._again = True
        else:
            self._wait(self._patience)

    def lost(self) -> None:
        """The link was there and is lost: try soon, but not both sides at the same moment."""
        if not self._busy:
            self._wait(self._patience + self._next_pause())

    def stop(self) -> None:
        """No more tries."""
        self._stopped = True
        self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _wait(self, seconds: float) -> None:
        self._cancel()
        if not self._stopped:
            self._timer = self._reactor.callLater(seconds, self._due)

    def _next_pause(self) -> float:
        due, self._pause = self._pause, min(MOST, self._pause * 2)
        return self._chance.uniform(due / 2, due)

    def _due(self) -> None:
        self._timer = None
        if not self._busy and not self._is_up():
            self._busy = True
            ensureDeferred(self._try()).addErrback(lambda failure: log.failure("dialling failed", failure=failure))

    async def _try(self) -> None:
        self._again = False
        troubles: list[str] = []
        for address in self._addresses():
            trouble = await self._try_at(address)
            if not trouble or self._stopped or self._is_up():
                troubles.clear()
                break
            troubles.append(trouble)
        self._busy = False
        self._say("; ".join(troubles))
        if self._is_up():
            self._pause = FIRST
        elif self._addresses():
            self._wait(0.0 if self._again else self._next_pause())

    async def _try_at(self, address: Address) -> str:
        """Why it did not work; empty when it did."""
        where = f"{address.host} port {address.port}"
        try:
            await self._open(address)
        except Conflict:  # the other side has dialled too, and its connection stays
            return ""
        except CopernicusError as error:
            words = WORDS.get(error.message, error.message.removeprefix("cannot connect: "))
            if isinstance(error, NoCommonProtocol):
                words = str(error)  # with whom is to be upgraded
            return f"{where}: {words}"
        except Exception as error:
            log.failure("reaching {called} at {where} failed", called=self._called, where=where)
            return f"{where}: {type(error).__name__}"
        return ""

    def _say(self, words: str) -> None:
        if words and words != self.trouble:
            log.info("{called} is not reached: {words}", called=self._called, words=words)
        self.trouble = words
