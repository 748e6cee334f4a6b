"""Lending put together: our workers for others, others' workers for us, and questions for work on their way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpc.core.chance import Chance
from cpc.core.clock import Clock, Timers
from cpc.core.errors import Unavailable
from cpc.core.lease import Lease
from cpc.queue import terms
from cpc.server.abroad import Abroad
from cpc.server.federation.asked import Asked
from cpc.server.federation.asking import Asking
from cpc.server.federation.first import CustodyFirst
from cpc.server.federation.home import Home
from cpc.server.federation.owner import Owner
from cpc.server.federation.placing import give_up, through
from cpc.server.federation.quarantine import Quarantine
from cpc.server.federation.ways import Caller, Ways
from cpc.server.loans import Room
from cpc.server.machines import Machines
from cpc.server.queue import Queue
from cpc.server.settling import of_another
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire.messages import Orders
from cpc.wire.peer_messages import Demand

SAID = 3600.0  # seconds for which a loan that is in the events is not said again


class Lending:
    """What the queue (`cpc.server.loans`), the machines' door (`cpc.server.abroad`) and the links tell goes on from here.

    Make it, `load` it in a unit after the queue, then let peers in.
    """

    def __init__(
        self, *, queue: Queue, store: Store, machines: Machines, ways: Ways, timers: Timers, clock: Clock, chance: Chance,
        name: str, quarantine: Quarantine, trusts: Callable[[str], bool] = lambda peer: True,
    ) -> None:  # fmt: skip
        self.home = Home(queue=queue, store=store, ways=ways, timers=timers)
        self.owner = Owner(
            queue=queue, store=store, ways=ways, tails=machines.tails, timers=timers, quarantine=quarantine
        )
        self.asking = Asking(
            queue=queue, ways=ways, home=self.home, seats=machines.seats, timers=timers, clock=clock, chance=chance,
            name=name,
        )  # fmt: skip
        self.asked = Asked(queue=queue, store=store, ways=ways, owner=self.owner, timers=timers, clock=clock)
        self.home.on_loan = self._lent
        self.home.silence = self._silence
        self.first = CustodyFirst(timers, self._waits, self.agreed)
        self.asking.held = self.asked.held = self.first.holds
        self._store = store
        self._ways = ways
        self._trusts = trusts
        self._clock = clock
        self._seats = machines.seats
        self._here = ways.here
        self._told: dict[tuple[int, str], float] = {}  # loans that are on record, since when
        self._queue = queue
        queue.loans = self
        machines.peers = self
        ways.serve("demand", Demand, self._demand, far=False)
        ways.on_change(self._changed)

    def load(self, tx: Tx) -> None:
        """At start: what is known of workers of others."""
        self.owner.load(tx)

    def stop(self) -> None:
        """Nothing more is asked or reported. Running jobs go on at their workers, here and elsewhere."""
        self.first.stop()
        self.home.stop()
        self.asking.stop()
        self.asked.stop()

    # --- figures --------------------------------------------------------------------------------------------------------

    def cores(self) -> dict[tuple[str, str], int]:
        """By direction and server: cores that are lent or borrowed now."""
        found = {("lent", owner): cores for owner, (_, cores) in self.home.totals().items()}
        return found | {("borrowed", home): cores for home, (_, cores) in self.owner.totals().items()}

    def questions(self) -> dict[str, int]:
        """How often peers were asked for work, or called, since the start."""
        return {"asked": self.asking.asked, "called": self.asked.called}

    # --- the links ------------------------------------------------------------------------------------------------------

    async def _demand(self, caller: Caller, demand: Demand) -> None:
        if not demand.homes or self._here in demand.homes:
            self.asking.called(caller.peer, demand)
        self.asked.demand(caller.peer, demand)

    def _changed(self, peer: str, up: bool) -> None:
        if up:
            self.first.up(peer)
            self.agreed(peer)
            self.home.up(peer)
            return
        self.first.down(peer)
        self.asking.down(peer)
        self.asked.down(peer)

    def _waits(self, peer: str) -> bool:
        return self.home.custody is not None and self.home.custody.waits(peer)

    def agreed(self, peer: str) -> None:
        """A peer is here, or the operator has set something else for it: it is worth asking now, for our own workers and for
        those of others that may be lent on to it. If both directions are off, what runs ends. What may come to its end when
        the trust has ended was said with that."""
        if self._trusts(peer) and terms.withdrawn(self._ways.agreement(peer)):
            written = self._store.write(lambda tx: self._switched_off(tx, peer))
            written.addErrback(lambda failure: failure.trap(Unavailable))
        self.asking.called(peer)
        self.asked.agreed(peer)

    def _switched_off(self, tx: Tx, peer: str) -> None:
        """The links go on, so that the peer hears of it: what our workers had goes back to it, and ours at its workers is
        taken back. What goes by way of others is not touched: with them nothing else was agreed."""
        words = f"nothing is lent to server {peer}, or taken from it, any more"
        lent = [(worker, lease) for worker, lease in through(self._queue, peer) if lease.route[0] == peer]
        give_up(self._queue, tx, lent, words)

        def tell() -> None:
            for worker, lease in lent:
                self.home.missing(worker, (lease,), words, counts=False)

        tx.after(tell)
        self.owner.withdraw(tx, peer, words, beside=False)
        self._queue.round(tx)

    def revoked(self, tx: Tx, peer: str, hand_back: bool) -> None:
        """In the unit that ends the trust in a peer: what runs for it here, and for us there, ends. Without `hand_back`
        what our workers run for it may come to its end, in custody."""
        reason = f"the trust in server {peer} has ended"
        self.owner.withdraw(tx, peer, reason)
        self.home.withdraw(tx, peer, reason, finish=not hand_back)
        self._queue.round(tx)

    def _silence(self, worker: int) -> float:
        seat = self._seats.of_worker(worker)
        return self._queue.now - seat.heard if seat is not None else float("inf")

    def _lent(self, worker: int, path: str) -> None:
        """A loan begins: said in the events, but not again and again while one follows the other."""
        if self._queue.index.of_worker(worker) is None:
            return  # it was given away by somebody who does not know better
        now = self._clock.monotonic()
        self._told = {loan: at for loan, at in self._told.items() if now - at < SAID}
        if (worker, path) in self._told:
            return
        self._told[worker, path] = now
        seat = self._seats.of_worker(worker)
        name, owner = seat.name if seat is not None else "", path.rpartition("/")[2]
        written = self._store.write(
            lambda tx: tx.event("server", "worker.lent", subject=worker, worker=name, server=owner, path=path)
        )
        written.addErrback(lambda failure: failure.trap(Unavailable))

    # --- the machines' door ---------------------------------------------------------------------------------------------

    def take(self, worker: int, abroad: Abroad) -> None:
        self.home.take(worker, abroad)

    def send(self, session: int, orders: Orders) -> None:
        self.owner.send(session, orders)

    def heard(self, session: int) -> float | None:
        """A borrowed worker is heard of while it has a session: its home, or `peer_grace`, ends that."""
        return float("inf") if self.owner.get(session) is not None else None

    async def speaks(self, worker: int, lease: Lease) -> bool:
        """Whether this worker of ours may put files of a job of another server: nobody else has it, or one of the same bundle."""
        if not self.home.others(worker, lease):
            return True
        return not await self._store.read(lambda tx: of_another(self._queue, tx, worker, lease))

    # --- the queue ------------------------------------------------------------------------------------------------------

    def knows(self, lease: Lease) -> bool:
        return self.home.knows(lease)

    def others(self, worker: int, lease: Lease) -> Sequence[int]:
        return self.home.others(worker, lease)

    def rooms(self, rooms: Sequence[Room]) -> None:
        self.asking.rooms(rooms)

    def back(self, worker: int, held: Sequence[Lease]) -> None:
        self.home.back(worker, held)

    def missing(self, worker: int, leases: Sequence[Lease], words: str, counts: bool) -> None:
        self.home.missing(worker, leases, words, counts)

    def gone(self, worker: int, words: str, counts: bool) -> None:
        self.home.gone(worker, words, counts)

    def left_over(self) -> None:
        self.asked.left_over()
