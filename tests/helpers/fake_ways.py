"""Servers of one process that trust each other: what `links` offers (`cpc.server.federation.ways`), without sockets.

Messages are encoded and decoded for real, take time, are counted per link, and are lost with the link that carries them.
A link can be cut (both sides are told), silent (nobody is told), or withdrawn with the trust in it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from cpc.core.clock import Timer, Timers
from cpc.core.errors import CopernicusError, Refused, Unavailable, from_code
from cpc.core.peer import Agreement, Bound, Limits
from cpc.core.pieces import Data
from cpc.queue import terms
from cpc.server.federation.relaying import BOUND
from cpc.server.federation.ways import Caller, Handler, Hook
from cpc.wire import frames
from cpc.wire.messages import Message

T = TypeVar("T")
Q = TypeVar("Q")

OFF = Agreement(lent=Limits(off=True), accepted=Limits(off=True))
LATENCY = 0.001


class Link:
    """One connection between two servers. `life` counts its losses: what was under way in an earlier life is lost."""

    def __init__(self) -> None:
        self.up = True
        self.silent = False
        self.life = 0
        self.latency = LATENCY


class FakeNet:
    """All servers and links. `messages` counts what each link has carried: (from, to, method) → how often; `carried` the
    bytes. `failures`: what a handler raised that is no refusal; a test ends with `check`."""

    def __init__(self, reactor: Timers) -> None:
        self.reactor = reactor
        self.messages: Counter[tuple[str, str, str]] = Counter()
        self.carried: Counter[tuple[str, str]] = Counter()
        self.failures: list[str] = []
        self._ways: dict[str, FakeWays] = {}
        self._links: dict[frozenset[str], Link] = {}
        self._agreements: dict[tuple[str, str], Agreement] = {}
        self._order: dict[str, list[str]] = {}
        self._asking: dict[frozenset[str], dict[int, Callable[[CopernicusError], None]]] = {}
        self._asked = 0

    # --- what a test does ---

    def server(self, name: str) -> FakeWays:
        """A server begins a life: its links of before, if there were any, come up. `arrive` tells everybody."""
        made = self._ways[name] = FakeWays(self, name)
        return made

    def arrive(self, name: str) -> None:
        """The server is ready for its peers."""
        for peer in self._order.get(name, []):
            if peer in self._ways and self.agreement(name, peer) is not OFF and self.agreement(peer, name) is not OFF:
                self.heal(name, peer)

    def leave(self, name: str) -> None:
        """kill -9: it is gone, its links with it."""
        self._ways.pop(name).alive = False
        for peer in self._order.get(name, []):
            self.cut(name, peer)

    def trust(self, one: str, other: str, ones: Agreement | None = None, others: Agreement | None = None) -> Link:
        """Two servers trust each other, on these terms; they are asked in the order of these calls."""
        self._agreements[one, other] = ones or Agreement()
        self._agreements[other, one] = others or Agreement()
        self._order.setdefault(one, []).append(other)
        self._order.setdefault(other, []).append(one)
        link = self._links[frozenset((one, other))] = Link()
        self._tell(one, other, True)
        return link

    def agree(self, one: str, other: str, agreement: Agreement) -> None:
        """The operator of `one` sets something for `other`."""
        self._agreements[one, other] = agreement

    def cut(self, one: str, other: str) -> None:
        """The connection is lost, and both sides know."""
        link = self._links[frozenset((one, other))]
        if link.up:
            link.up = False
            self._lose(one, other, "the connection is lost")
            self._tell(one, other, False)

    def silence(self, one: str, other: str) -> None:
        """Nothing comes through any more, and nobody is told."""
        self._links[frozenset((one, other))].silent = True

    def heal(self, one: str, other: str) -> None:
        """There is a new connection."""
        link = self._links[frozenset((one, other))]
        if link.silent and link.up:
            link.life += 1
            self._tell(one, other, False)
        link.silent, link.up = False, True
        self._tell(one, other, True)

    def revoke(self, one: str, other: str) -> None:
        """`one` withdraws its trust in `other`, which hears of it."""
        self._agreements[one, other] = self._agreements[other, one] = OFF
        link = self._links[frozenset((one, other))]
        link.up = False
        self._lose(one, other, "trust was withdrawn")
        self._tell(one, other, False)

    def count(self, method: str = "") -> int:
        """How many messages links have carried, of one method or of all."""
        return sum(number for (_, _, what), number in self.messages.items() if method in ("", what))

    def check(self) -> None:
        """No handler has met what it did not expect."""
        assert not self.failures, "\n".join(self.failures)

    # --- for the servers ---

    def agreement(self, one: str, other: str) -> Agreement:
        return self._agreements.get((one, other), OFF)

    def peers(self, name: str) -> Iterator[str]:
        for peer in self._order.get(name, []):
            link = self._links[frozenset((name, peer))]
            if link.up and self.agreement(name, peer) is not OFF:
                yield peer

    def ask(
        self, route: tuple[str, ...], method: str, question: Message | bytes, timeout: float, far: bool,
        whole: tuple[str, ...] = (),
    ) -> Deferred[bytes]:  # fmt: skip
        """The answer's bytes. The question travels hop by hop, the answer comes back at once over all of them. `whole`: the
        route from its sender, where a server on the way asks on."""
        self._asked += 1
        number, answer = self._asked, Deferred[bytes]()
        links = [frozenset(pair) for pair in itertools.pairwise(route)]
        timer: list[Timer] = []

        def end(result: bytes | CopernicusError) -> None:
            for link in links:
                self._asking.setdefault(link, {}).pop(number, None)
            if answer.called:
                return
            if timer[0].active():
                timer[0].cancel()
            if isinstance(result, CopernicusError):
                answer.errback(from_code(result.code, result.message, result.hint))
            else:
                answer.callback(result)

        for link in links:
            self._asking.setdefault(link, {})[number] = end
        timer.append(
            self.reactor.callLater(timeout, end, Unavailable(f"no answer within {timeout:g} s", "try again later"))
        )
        body = question if isinstance(question, bytes) else bytes(frames.body(question))
        whole = whole or route
        self._hop(whole, len(whole) - len(route), method, body, far, end, len(whole) - len(route))
        return answer

    def tell(self, route: tuple[str, ...], method: str, message: Message, far: bool) -> None:
        self._hop(route, 0, method, msgspec.msgpack.encode(message), far, None)

    def _hop(
        self, route: tuple[str, ...], place: int, method: str, body: bytes, far: bool,
        end: Callable[[bytes | CopernicusError], None] | None, first: int = 0, bounds: tuple[Bound, ...] = (),
    ) -> None:  # fmt: skip
        here, peer = route[place], route[place + 1]
        link = self._links.get(frozenset((here, peer)))
        if self.agreement(here, peer) is OFF:
            if end is not None:
                end(Refused(f"server {here} does not trust {peer}"))
            return
        if link is None or not link.up:
            if end is not None:
                end(Unavailable(f"server {peer} is not connected with {here}", "try again later"))
            return
        self.messages[here, peer, method] += 1
        self.carried[here, peer] += len(body)
        if link.silent:
            return
        life = link.life
        if far and method in BOUND:
            bounds = (*bounds, *terms.bound(route, place, self.agreement(here, peer)))

        def arrived() -> None:
            if link.life != life or not link.up or link.silent:
                return
            if place + 2 < len(route):
                denied = (*self.agreement(peer, here).denied, *self.agreement(peer, route[place + 2]).denied)
                if set(denied) & set(route):
                    if end is not None:
                        end(Refused(f"server {peer} does not serve this route"))
                    return
                passing = self._ways.get(peer)
                hook = passing.hooks.get(method) if passing is not None and far and end is not None else None
                if hook is not None and end is not None:
                    self._pass(FakePassing(self, route, place + 1, method, body), hook, end, first)
                    return
                self._hop(route, place + 1, method, body, far, end, first, bounds)
            else:
                self._serve(route, method, body, far, end, first, bounds)

        self.reactor.callLater(link.latency, arrived)

    def _serve(
        self, route: tuple[str, ...], method: str, body: bytes, far: bool,
        end: Callable[[bytes | CopernicusError], None] | None, first: int, bounds: tuple[Bound, ...],
    ) -> None:  # fmt: skip
        """At the end of the route; who has asked is at `first`."""
        ways = self._ways.get(route[-1])
        served = ways.handlers.get(method) if ways is not None else None
        if served is None or ways is None or served[2] is not far:
            if end is not None:
                end(Refused(f"there is no method {method!r} here"))
            return
        kind, handler, _ = served
        back = list(itertools.pairwise(route[first:]))
        life = [self._links[frozenset(pair)].life for pair in back]

        def answered(result: Any) -> None:
            if isinstance(result, Failure) and not isinstance(result.value, CopernicusError):
                self.failures.append(f"{method} at {route[-1]}: {result.getTraceback()}")
            if end is None or not ways.alive:
                return
            again = [self._links[frozenset(pair)] for pair in back]
            if life != [link.life for link in again] or any(link.silent or not link.up for link in again):
                return
            if isinstance(result, Failure):
                known = isinstance(result.value, CopernicusError)
                end(result.value if known else Unavailable("something went wrong there"))  # type: ignore[arg-type]
                return
            data = b"\x80" if result is None else bytes(frames.body(result))
            for here, peer in back:
                self.carried[peer, here] += len(data)
            self.reactor.callLater(sum(link.latency for link in again), end, data)

        caller = Caller(route[-2], route if far else route[-2:], bounds=bounds)
        ensureDeferred(handler(caller, msgspec.msgpack.decode(body, type=kind))).addBoth(answered)

    def _pass(
        self, passing: FakePassing, hook: Hook, end: Callable[[bytes | CopernicusError], None], first: int
    ) -> None:
        """A question that a server on the way answers, or asks on; the answer goes to the server at `first`."""

        def answered(result: Any) -> None:
            if isinstance(result, Failure) and not isinstance(result.value, CopernicusError):
                self.failures.append(f"{passing.method} at {passing.caller.peer}: {result.getTraceback()}")
            if isinstance(result, Failure):
                known = isinstance(result.value, CopernicusError)
                end(result.value if known else Unavailable("something went wrong there"))  # type: ignore[arg-type]
                return
            data = bytes(result)
            back = list(itertools.pairwise(passing.route[first : passing.place + 1]))
            for here, peer in back:
                self.carried[peer, here] += len(data)
            self.reactor.callLater(sum(self._links[frozenset(pair)].latency for pair in back), end, data)

        ensureDeferred(hook(passing)).addBoth(answered)

    # --- inside ---

    def _lose(self, one: str, other: str, why: str) -> None:
        self._links[frozenset((one, other))].life += 1
        for end in list(self._asking.get(frozenset((one, other)), {}).values()):
            end(Unavailable(why, "it is tried again"))

    def _tell(self, one: str, other: str, up: bool) -> None:
        for name, peer in ((one, other), (other, one)):
            ways = self._ways.get(name)
            for callback in list(ways.callbacks) if ways is not None else []:
                callback(peer, up)


class FakePassing:
    """A question on its way through the server at `place` of the route. See `cpc.server.federation.ways.Passing`."""

    def __init__(self, net: FakeNet, route: tuple[str, ...], place: int, method: str, body: bytes) -> None:
        self._net = net
        self.place = place
        self.method = method
        self.caller = Caller(route[place - 1], route[: place + 1])
        self.route = route
        self.body: Data = body

    async def pass_on(self, body: Data | None = None) -> Data:
        rest = self.route[self.place :]
        data = bytes(self.body if body is None else body)
        return await self._net.ask(rest, self.method, data, 120.0, True, self.route)


class FakeWays:
    """One life of one server. See `cpc.server.federation.ways.Ways` for what each method does."""

    def __init__(self, net: FakeNet, name: str) -> None:
        self.alive = True
        self.handlers: dict[str, tuple[type[Any], Handler[Any], bool]] = {}
        self.hooks: dict[str, Hook] = {}
        self.callbacks: list[Callable[[str, bool], None]] = []
        self._net = net
        self._name = name

    @property
    def here(self) -> str:
        return self._name

    def up(self) -> tuple[str, ...]:
        return tuple(self._net.peers(self._name)) if self.alive else ()

    def priority(self, peer: str) -> int:
        return list(self._net.peers(self._name)).index(peer)

    def agreement(self, peer: str) -> Agreement:
        return self._net.agreement(self._name, peer)

    async def ask(
        self, peer: str, method: str, question: Message, answer: type[T], timeout: float, bulk: bool = False
    ) -> T:
        return await self._ask((self._name, peer), method, question, answer, timeout, False)

    def tell(self, peer: str, method: str, message: Message) -> None:
        if self.alive:
            self._net.tell((self._name, peer), method, message, False)

    def ask_far(
        self, route: tuple[str, ...], method: str, question: Message, answer: type[T], timeout: float,
        bulk: bool = False, most: int = 0,
    ) -> Coroutine[Any, Any, T]:  # fmt: skip
        if self.alive and route[1] not in self.up():
            if self.agreement(route[1]) is OFF:
                raise Unavailable(f"server {self._name} does not trust {route[1]}")
            raise Unavailable(f"server {route[1]} is not connected with {self._name}", "try again later")
        return self._ask(route, method, question, answer, timeout, True)

    def tell_far(self, route: tuple[str, ...], method: str, message: Message) -> None:
        if self.alive:
            self._net.tell(route, method, message, True)

    def serve(self, method: str, question: type[Q], handler: Handler[Q], *, far: bool, bulk: bool = False) -> None:
        self.handlers[method] = (question, handler, far)

    def hook(self, method: str, hook: Hook) -> None:
        self.hooks[method] = hook

    def on_change(self, callback: Callable[[str, bool], None]) -> None:
        self.callbacks.append(callback)

    async def _ask(
        self, route: tuple[str, ...], method: str, question: Message, answer: type[T], timeout: float, far: bool
    ) -> T:
        if not self.alive:
            raise Unavailable("this server has ended")
        asked = self._net.ask(route, method, question, timeout, far)
        del question  # as links do
        data = await asked
        if not self.alive:
            await Deferred[None]()  # a process that was killed goes on with nothing
        return msgspec.msgpack.decode(data, type=answer)
