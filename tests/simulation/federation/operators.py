"""Operators who change their minds in mid-flight: what they do is what `cpcc` does at their servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import ensureDeferred
from twisted.python.failure import Failure

from cpc.core.errors import Conflict, CopernicusError, NotFound, Refused
from cpc.core.peer import Agreement, Limits
from cpc.server.federation.trust import Trust as Service
from cpc.server.principal import SERVER, Call
from tests.simulation.databases import Killed
from tests.simulation.federation.plan import FAR, Bond
from tests.simulation.federation.server import CLIENT_PORT

if TYPE_CHECKING:
    from tests.simulation.federation.chaos import WideChaos
    from tests.simulation.federation.graphs import Pair
    from tests.simulation.federation.site import Site
    from tests.simulation.federation.universe import Universe

FRESH = Bond(0, Agreement())  # what is agreed with a server that was just trusted
PATIENCE = 60.0  # seconds until somebody tries again


class Operators:
    """All of them. Each act is tried until it is done, as long as `active`; a new one for the same pair waits for that."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self._keys = 0

    def do(
        self, site: Site, what: str, work: Callable[[Service, Call], Awaitable[Any]], done: Callable[[], Any],
        refused: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """Have the server of `site` do it, again and again under one key until it answers; then call `done`, or `refused` when it
        does not make that change any more."""
        self._keys += 1
        self._try(site, what, work, Call(SERVER, f"operator-{self._keys}", what.encode()), done, refused)

    def _try(
        self, site: Site, what: str, work: Any, call: Call, done: Callable[[], None], refused: Callable[[], None]
    ) -> None:
        answered: list[bool] = []

        def again(failure: Failure | None = None) -> None:
            if failure is not None:
                failure.trap(CopernicusError, Killed)
                site.story.tell(site.name, f"does not {what}: {failure.getErrorMessage()}")
                if failure.check(Conflict, NotFound) and what.startswith("change") and not answered:
                    answered.append(False)  # it is not trusted any more
                    refused()
            if not answered:
                answered.append(False)
                self.universe.reactor.callLater(
                    self.universe.chance.uniform(5.0, 20.0), self._try, site, what, work, call, done, refused
                )

        def said(_: Any) -> None:
            if not answered:
                answered.append(True)
                site.story.tell(site.name, f"{what}: done")
                done()

        server = site.peers
        if server is None or server.host.reactor.frozen:
            again()
            return
        self.universe.reactor.callLater(PATIENCE, lambda: again() if not answered else None)
        ensureDeferred(_await(work(server.federation.trust, call))).addCallbacks(said, again)

    # --- acts -----------------------------------------------------------------------------------------------------------

    def revoke(self, here: Site, other: Site, hand_back: bool, again: float) -> None:
        """`here` withdraws its trust in `other`; both trust each other once more `again` seconds later."""
        trust, pair = self.universe.trust, _pair(here, other)
        if not trust.trusted(*pair) or pair in trust.doubtful:
            return
        trust.doubtful.add(pair)
        trust.touched.add(pair)
        trust.enders[pair] = {here.number}

        def done() -> None:
            trust.doubtful.discard(pair)
            trust.ended[pair] = self.universe.now
            self.universe.truth.revoked(here, other)
            self.universe.reactor.callLater(again, self.reconcile, here, other)

        self.do(here, f"revoke {other.name}", lambda service, call: service.revoke(call, other.id, hand_back), done)

    def reconcile(self, here: Site, other: Site) -> None:
        """Both operators agree to trust each other again, in any order."""
        trust, pair = self.universe.trust, _pair(here, other)
        if pair not in trust.ended:
            return
        trust.ended.pop(pair)
        trust.doubtful.add(pair)
        self._agree(*self.universe.chance.sample([here, other], 2))

    def _agree(self, one: Site, two: Site) -> None:
        def trusted() -> None:
            trust, pair = self.universe.trust, _pair(one, two)
            trust.doubtful.discard(pair)
            trust.since[pair] = self.universe.now
            for key in (pair, pair[::-1]):
                bond, trust.bonds[key] = trust.bond(*key), FRESH
                self.change(*(self.universe.sites[number] for number in key), None, bond.agreement)

        def looked() -> None:
            """Somebody who had not heard of the end may have heard of it after it was over."""
            states = [_state(here, there) for here, there in ((one, two), (two, one))]
            if set(states) <= {"sent", "trusted"}:
                trusted()
            elif "" in states:
                self.universe.reactor.callLater(PATIENCE, looked)
            else:
                self._agree(one, two)

        def second() -> None:
            self._trust(two, one, lambda: self.universe.reactor.callLater(PATIENCE, looked))

        self._trust(one, two, second)

    def _trust(self, here: Site, other: Site, done: Callable[[], Any]) -> None:
        asks = here.dials(other) and self.universe.chance.random() < 0.5
        self.do(here, f"trust {other.name}", lambda service, call: _trust(service, call, other, asks), done)

    def change(
        self, here: Site, other: Site, priority: int | None, agreement: Agreement | None, share: bool = False
    ) -> None:
        """Another place in the order, perhaps together with who has it, or other limits."""
        trust, key = self.universe.trust, (here.number, other.number)
        if not trust.trusted(*key) or _pair(here, other) in trust.doubtful or trust.changed.get(key) == inf:
            return

        def done() -> None:
            bond = trust.bond(*key)
            trust.bonds[key] = Bond(bond.priority, agreement or bond.agreement)
            refused()

        def refused() -> None:
            trust.changed[key] = self.universe.now

        trust.changed[key] = inf  # until it is known to be on record, the one or the other holds
        what = f"change {other.name}: {'priority ' + str(priority) if priority is not None else agreement}"
        self.do(
            here,
            what,
            lambda service, call: service.change(call, other.id, priority=priority, share=share, agreement=agreement),
            done,
            refused,
        )


def _pair(one: Site, other: Site) -> Pair:
    return (min(one.number, other.number), max(one.number, other.number))


def _state(here: Site, other: Site) -> str:
    """How far `here` is with the other one; "" while it does not run."""
    server = here.peers
    state = server.federation.book.state(other.id) if server is not None else None
    return state.value if state is not None else ""


async def _trust(service: Service, call: Call, other: Site, asks: bool) -> None:
    """By `trust`, or by asking. Who is revoked there may not ask."""
    found = await service.get(SERVER, other.id)
    if found.state in ("trusted", "sent"):
        return
    if asks and found.state != "received":
        try:
            seen = await service.look(SERVER, other.name, CLIENT_PORT)
            await service.ask(call, other.name, CLIENT_PORT, seen.port, seen.fingerprint)
            return
        except Refused:
            call = replace(call, key=f"{call.key}-trust")
    await service.trust(call, other.id, found.fingerprint)


async def _await(work: Awaitable[Any]) -> Any:
    return await work


# --- as faults ------------------------------------------------------------------------------------------------------------


def revoke_peer(chaos: WideChaos) -> None:
    one, other = chaos.neighbours()
    chaos.universe.operators.revoke(one, other, chaos.chance.random() < 0.5, chaos.chance.uniform(20.0, 300.0))


def reorder_peers(chaos: WideChaos) -> None:
    one, other = chaos.neighbours()
    chaos.universe.operators.change(one, other, chaos.chance.randrange(3), None, chaos.chance.random() < 0.5)


def change_limits(chaos: WideChaos) -> None:
    one, other = chaos.neighbours()
    lent = chaos.chance.choice([Limits(), Limits(), Limits(cores=1), Limits(off=True), Limits(executables=("sim",))])
    accepted = chaos.chance.choice([Limits(), Limits(), Limits(cores=2), Limits(off=True), Limits(projects=("q",))])
    agreement = Agreement(lent=lent, accepted=accepted, lend_on=chaos.chance.choice([0, 1, FAR, FAR]))
    chaos.universe.operators.change(one, other, None, agreement)


ACTS: tuple[Any, ...] = (revoke_peer, revoke_peer, reorder_peers, change_limits, change_limits)
