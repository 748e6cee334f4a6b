"""The home's side of lending: what our workers run for others, reported to the owners; their orders, carried out.

One report per owner is under way at a time, like the turns of a worker; what happens meanwhile goes along with the next.
No record is kept of any of it: a worker's hello tells what it has, and whose it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger

from cpc.core.clock import Timers
from cpc.core.errors import CopernicusError, Refused, Unavailable
from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.queue import terms
from cpc.server.abroad import Abroad
from cpc.server.federation.era import Era
from cpc.server.federation.loans import Custody, Loan, Owner, Sent, Spares, compose, theirs, without
from cpc.server.federation.placing import NOT_OFFERED, Given, Placed, give_up, place, through
from cpc.server.federation.ways import Caller, Ways
from cpc.server.queue import Queue
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire.messages import Orders, Result, Settled
from cpc.wire.peer_messages import ReportAnswer

log = Logger()

TIMEOUT = 30.0
LONGEST_PAUSE = 30.0  # between tries while an owner cannot be reached
MOST_REFUSALS = 3  # one after the other: then the way to an owner is closed for good


class Home:
    """All loans of our workers, by owner."""

    def __init__(self, *, queue: Queue, store: Store, ways: Ways, timers: Timers) -> None:
        self.spares: Spares
        self.custody: Custody | None = None
        #: Whether trust in a server has ended so that what runs for it, or by way of it, comes to its end here.
        self.finishes: Callable[[str], bool] = lambda server: False
        self.silence: Callable[[int], float] = lambda worker: 0.0  # seconds since a worker's last turn
        self.on_loan: Callable[[int, str], None] = lambda worker, path: None
        self._queue = queue
        self._store = store
        self._ways = ways
        self._timers = timers
        self._owners: dict[str, Owner] = {}
        self._stopped = False
        self._era = Era(queue.journal)
        ways.serve("far-orders", ReportAnswer, self._far_orders, far=True)

    # --- what is known --------------------------------------------------------------------------------------------------

    def used(self, peer: str) -> int:
        """Cores that run for this peer and those behind it."""
        loans = (loan for owner in self._owners.values() if owner.neighbour == peer for loan in owner.loans.values())
        return sum(use.cores for loan in loans for use in loan.lent.values())

    def works_for(self, worker: int) -> list[tuple[str, tuple[Lease, ...]]]:
        """(owner's id, its leases) of what the worker runs for others."""
        found = []
        for owner in self._owners.values():
            loan = owner.loans.get(worker)
            if loan is not None and (leases := tuple(loan.lent or loan.holds)):
                found.append((owner.route[-1], leases))
        return found

    def others(self, worker: int, lease: Lease) -> list[int]:
        """Which other workers of ours were given this lease of another server; none, if this one was."""
        owner = self._owners.get(lease.path)
        return owner.others(worker, lease) if owner is not None else []

    def totals(self) -> dict[str, tuple[int, int]]:
        """By owner's id: (jobs, cores) that run for it here."""
        found: dict[str, tuple[int, int]] = {}
        for owner in self._owners.values():
            uses = [use for loan in owner.loans.values() for use in loan.lent.values()]
            if uses:
                found[owner.route[-1]] = (len(uses), sum(use.cores for use in uses))
        return found

    def reports(self, worker: int, path: str) -> bool:
        """Whether the owner will hear of the worker with a report, and an answer can be expected soon."""
        owner = self._owners.get(path)
        if owner is None or owner.failures or owner.neighbour not in self._ways.up():
            return False
        loan = owner.loans.get(worker)
        return loan is not None and not loan.gone

    def knows(self, lease: Lease) -> bool:
        """Whether a job of another server may go on here."""
        route = lease.route
        owner = self._owners.get(lease.path)
        if (owner is not None and owner.parted) or self._parted(route):
            return True
        if not route or terms.broken((self._ways.here, *route)):
            return False
        agreement = self._ways.agreement(route[0])
        return not terms.withdrawn(agreement) and not terms.denied(route, agreement)

    def _parted(self, route: tuple[str, ...]) -> bool:
        return self.custody is not None and any(map(self.finishes, route))

    # --- from our workers -----------------------------------------------------------------------------------------------

    def take(self, worker: int, abroad: Abroad) -> None:
        """A turn of a worker, as far as it is about others' jobs."""
        now = self._queue.now
        by_path: dict[str, list[Lease]] = {path: [] for path, owner in self._owners.items() if worker in owner.loans}
        ended: dict[str, list[Result]] = {}
        for result in abroad.results:
            ended.setdefault(result.lease.path, []).append(result)
            by_path.setdefault(result.lease.path, [])
        for lease in abroad.holds:
            by_path.setdefault(lease.path, []).append(lease)
        for path, holds in by_path.items():
            results = ended.get(path, [])
            example = holds[0] if holds else results[0].lease if results else None
            if example is not None and not self.knows(example):
                self._not_wanted(worker, holds, results)
                continue
            loan = self._loan(path, worker)
            if abroad.named:
                loan.hold(holds, now)
            self.spares.spent(path, loan.ended(results))
            if self._owners[path].failures or self._owners[path].parted:
                self._retain(loan, [loan.results.pop(result.lease) for result in results])
            for checkpoint in abroad.checkpoints:
                if checkpoint.lease.path == path:
                    loan.checkpoints[checkpoint.lease] = checkpoint
                    loan.dirty = True
            loan.add_tails(tail for tail in abroad.tails if tail.lease.path == path)
            if results or any(lease.path == path for lease in abroad.over):
                self.spares.prefer(worker, path)
            loan.dirty = loan.dirty or bool(loan.tails)
            self._look(path)

    def _not_wanted(self, worker: int, holds: Sequence[Lease], results: Sequence[Result]) -> None:
        """Jobs of a server that is not trusted (any more)."""
        words = "its server is not trusted any more"
        ended = {result.lease for result in results}
        settled = tuple(Settled(lease=lease, verdict="gone", note=words) for lease in ended)
        cancel = tuple((lease, words) for lease in holds if lease not in ended)
        self._tell(worker, Orders(settled=settled, cancel=cancel))

    def back(self, worker: int, held: Sequence[Lease]) -> None:
        """A worker has joined, with these: their owners hear of it, whatever was known of it before."""
        for owner in self._owners.values():
            if worker in owner.loans:
                owner.loans[worker].back()
        self.take(worker, Abroad(tuple(held)))
        session = self._queue.index.of_worker(worker)
        for lease in held:
            loan = self._loan(lease.path, worker)
            lent = session.lent.get(lease) if session is not None else None
            if lent is not None:
                loan.still(lease, lent.granted.cores, self._queue.now)
            loan.dirty = True
            self._look(lease.path)

    def missing(self, worker: int, leases: Iterable[Lease], words: str, counts: bool) -> None:
        """The worker does not have these any more."""
        for lease in leases:
            self._loan(lease.path, worker).lose(lease, words, counts)
            self._look(lease.path)

    def gone(self, worker: int, words: str, counts: bool) -> None:
        """The worker is lost or has left: its owners are told until they have heard it."""
        for path, owner in self._owners.items():
            loan = owner.loans.get(worker)
            if loan is not None:
                loan.gone, loan.counts, loan.dirty = words or "the worker left", counts, True
                loan.lent.clear()
                self._look(path)

    def _monotonic(self) -> float:
        return self._queue.clock.monotonic()

    def _loan(self, path: str, worker: int) -> Loan:
        if path not in self._owners:  # after a restart, of one that was parted from before, too
            parted = self._parted(tuple(path.split("/")))
            self._owners[path] = Owner(path, parted=parted, named=self._monotonic())
        owner = self._owners[path]
        if worker not in owner.loans:
            self.on_loan(worker, path)
        return owner.loan(worker)

    # --- reports --------------------------------------------------------------------------------------------------------

    def poke(self, worker: int, path: str) -> None:
        """There is room to be offered with the next report."""
        owner = self._owners.get(path)
        if owner is not None and worker in owner.loans:
            owner.loans[worker].dirty = True
            self._look(path)

    def up(self, peer: str) -> None:
        """The way over this peer is there again: its owners have the offers told again, at once."""
        for path, owner in self._owners.items():
            if peer in owner.route:
                owner.parted = False  # if it was: it is trusted again
            if owner.neighbour == peer:
                owner.failures = 0
                for loan in owner.loans.values():
                    loan.told, loan.dirty = False, True
                self._look(path)

    def stop(self) -> None:
        """No more reports."""
        self._stopped = True
        for owner in self._owners.values():
            self._plan(owner, None)

    def _look(self, path: str) -> None:
        """A report leaves with all that happens in this reactor turn, unless one is under way or must wait."""
        owner = self._owners[path]
        if not owner.busy and not owner.failures and not owner.parted:
            if owner.dirty:
                self._plan(owner, 0.0)
            elif owner.due is None:
                self._plan(owner, max(0.0, owner.named + owner.beat - self._monotonic()))

    def _plan(self, owner: Owner, seconds: float | None) -> None:
        if owner.due is not None and owner.due.active():
            owner.due.cancel()
        owner.due = None
        if seconds is not None and not self._stopped:
            owner.due = self._timers.callLater(seconds, self._go, owner)

    def _go(self, owner: Owner) -> None:
        owner.due = None
        if not owner.busy:
            owner.busy = True
            ensureDeferred(self._report(owner)).addErrback(
                lambda failure: log.failure("a report to another server failed", failure)
            )

    async def _report(self, owner: Owner) -> None:
        sent: list[Sent] = []
        # Once in a beat, however much there is to tell of some of its workers: the leases of the others live by it.
        everything = owner.failures > 0 or self._monotonic() >= owner.named + owner.beat
        try:
            if everything:
                owner.named = self._monotonic()
                await self._look_for_lost(owner)
            owner.number += 1
            sent, report = compose(owner, self._queue, self.spares, self.custody, everything)
            if sent:
                route = (self._ways.here, *owner.route)
                since = self._monotonic()
                answer = await self._ways.ask_far(route, "report", report, ReportAnswer, TIMEOUT)
                owner.took(self._monotonic() - since)
                owner.failures, owner.refused, owner.beat = 0, 0, max(0.1, answer.beat)
                await self._answered(owner, sent, answer)
        except CopernicusError as error:
            self._failed(owner, sent, error)
        except Exception:
            self._failed(owner, sent, Unavailable("something went wrong here"))
            raise
        finally:
            owner.busy = False
            self._next(owner)

    def _next(self, owner: Owner) -> None:
        if self._owners.get(owner.path) is not owner:
            return  # trust in it has ended meanwhile
        for worker in [worker for worker, loan in owner.loans.items() if loan.over]:
            del owner.loans[worker]
            self.spares.over(worker, owner.path)
        if not owner.loans:
            self._plan(owner, None)
            del self._owners[owner.path]
        elif owner.failures and not owner.parted:
            self._plan(owner, min(LONGEST_PAUSE, owner.beat, 2.0**owner.failures))
        else:
            self._look(owner.path)

    async def _answered(self, owner: Owner, sent: list[Sent], answer: ReportAnswer) -> None:
        given = {one.worker: one.orders.tasks for one in answer.workers}
        orders = {one.worker: theirs(owner.path, one.orders) for one in answer.workers}
        own = {each.loan.worker: each.own for each in sent}
        await self.lend(
            [Given(number, owner.path, tasks) for number, tasks in given.items()], also=lambda: self._obey(orders, own)
        )
        for each in sent:
            loan = each.loan
            loan.offered = False
            if loan.worker in answer.unknown:
                loan.told, loan.dirty = False, True
                each.put_back()
            else:
                loan.told = True
                self._tell(loan.worker, Orders(retry=each.settled(orders.get(loan.worker, Orders()))))
                if loan.gone:
                    owner.loans.pop(loan.worker, None)
            if each.offered:
                self.spares.answered(loan.worker, bool(given.get(loan.worker)))

    def _failed(self, owner: Owner, sent: list[Sent], error: CopernicusError) -> None:
        """The owner could not be told: its results stay with the worker, or come into custody."""
        owner.failures += 1
        owner.refused = owner.refused + 1 if isinstance(error, Refused) else 0
        if owner.refused >= MOST_REFUSALS:
            self._close(owner, f"the way to its server is closed: {error.message}")
        if owner.failures == 1:
            log.warn("server {owner} cannot be told of its jobs: {why}", owner=owner.route[-1], why=str(error))
        for each in sent:
            loan = each.loan
            loan.offered, loan.dirty = False, True
            left = {checkpoint.lease: checkpoint for checkpoint in each.checkpoints}
            loan.checkpoints = left | loan.checkpoints
            kept = [result for result in each.results if result.lease not in each.own]
            self._retain(loan, kept)
            if each.offered:
                self.spares.answered(loan.worker, False)

    def _close(self, owner: Owner, words: str) -> None:
        """Trust has ended somewhere on the way: what runs for this owner is for nobody. Results are kept for a better day."""
        leases = [(loan.worker, lease) for loan in owner.loans.values() for lease in loan.lent]
        for loan in owner.loans.values():
            loan.lent.clear()
            loan.gone = ""
        written = self._store.write(lambda tx: give_up(self._queue, tx, leases, words))
        written.addErrback(lambda failure: failure.trap(Unavailable))

    def _retain(self, loan: Loan, results: list[Result]) -> None:
        """The owner cannot have these now."""
        if results:
            ensureDeferred(self._keep(loan, results)).addErrback(
                lambda failure: log.failure("taking results into custody failed", failure)
            )

    async def _keep(self, loan: Loan, results: list[Result]) -> None:
        retry: list[Lease] = []
        settled: list[Settled] = []
        for result in results:
            # It came a turn ahead of the result; whoever has the result has it too.
            checkpoint = loan.checkpoints.pop(result.lease, None)
            if self.custody is not None and await self.custody.take(loan.worker, result, checkpoint):
                settled.append(Settled(lease=result.lease, verdict="in custody"))
            else:
                retry.append(result.lease)
        self._tell(loan.worker, Orders(settled=tuple(settled), retry=tuple(retry)))

    async def _look_for_lost(self, owner: Owner) -> None:
        """What a worker that speaks was given, and has not named for a heartbeat time, never came to it or is lost."""
        # By the lease clock: time in which this server could hear nobody counts against no worker.
        limit = self._queue.lease_clock.reading - self._queue.limits.heartbeat_time
        half = self._queue.limits.heartbeat_time / 2
        lost = [(loan, lease) for loan, lease in owner.unnamed(limit) if self.silence(loan.worker) < half]
        if lost:
            await self._store.write(lambda tx: give_up(self._queue, tx, [(loan.worker, lease) for loan, lease in lost]))
            for loan, lease in lost:
                loan.lose(lease, "its worker does not have it", counts=False)

    # --- from the owners ------------------------------------------------------------------------------------------------

    async def _far_orders(self, caller: Caller, orders: ReportAnswer) -> None:
        path = "/".join(caller.back[1:])
        if path not in self._owners:
            return
        await self.said(path, orders)

    async def said(self, path: str, answer: ReportAnswer) -> None:
        """What an owner says, by itself or to what was reported from custody, is carried out."""
        orders = {one.worker: theirs(path, one.orders) for one in answer.workers}
        given = [Given(one.worker, path, one.orders.tasks) for one in answer.workers]
        await self.lend(given, also=lambda: self._obey(orders, {}))

    def _obey(self, orders: Mapping[int, Orders], own: Mapping[int, frozenset[Lease]]) -> None:
        for worker, said in orders.items():
            self._tell(worker, without(said, own.get(worker, frozenset())))

    def _tell(self, worker: int, orders: Orders) -> None:
        session = self._queue.index.of_worker(worker)
        if session is not None and not session.home and orders != Orders():
            self._queue.outbox.pass_on(session.number, orders)

    async def lend(
        self, given: Sequence[Given], asked: bool = False, also: Callable[[], None] = lambda: None
    ) -> None:  # fmt: skip
        """Give our workers these tasks, as far as there is room: work of our own may have come first. `asked`: they come for
        workers that were offered with a question; else for those only that are on loan to their owner, or were offered to it
        with a report. What it gives to others goes back. `also` happens at the same moment: workers hear of both at once."""
        given = [each for each in given if each.tasks and self.knows(each.first) and not self._parted(each.route)]
        if not given:
            also()
            return
        good = [each for each in given if asked or self._lends(each)]
        others = [each for each in given if not (asked or self._lends(each))]
        era, size = self._era.now, sum(len(each.tasks) for each in given)

        def unit(tx: Tx) -> Placed | None:
            if self._era.now != era:
                return None
            placed = place(self._queue, tx, self._ways, good, self.used)
            tx.after(also)
            return placed

        placed = await self._store.write(unit, given[0].route[0], size)
        if placed is None:  # trust in a server has ended meanwhile, perhaps in another one
            await self.lend(given, asked, also)
            return
        for each in others:
            placed.back.extend((each.worker, task.lease.on(each.path), NOT_OFFERED) for task in each.tasks)
        now = self._queue.now
        for (worker, path), tasks in placed.lent.items():
            owner = self._owners.get(path)
            known, loan = owner is not None and worker in owner.loans, self._loan(path, worker)
            self.spares.spent(path, loan.give(tasks, now))
            loan.dirty = loan.dirty and known  # the owner knows what it has just given
            self._look(path)
        for worker, lease, words in placed.back:
            if lease.path not in self._owners or not self._owners[lease.path].full:
                self._loan(lease.path, worker).own[lease] = Result(
                    lease=lease, outcome=Outcome.PREEMPTED, message=words
                )
                self.poke(worker, lease.path)

    def _lends(self, given: Given) -> bool:
        owner = self._owners.get(given.path)
        loan = owner.loans.get(given.worker) if owner is not None else None
        return loan is not None and loan.lending

    # --- trust ----------------------------------------------------------------------------------------------------------

    def withdraw(self, tx: Tx, peer: str, reason: str, finish: bool) -> None:
        """Trust in a peer is over: what runs for it, or by way of it, ends. With `finish`, and custody, it comes to its end
        here and its results are kept for whatever the operator decides."""
        self._era.end()
        keep = finish and self.custody is not None
        if not keep:
            give_up(self._queue, tx, through(self._queue, peer), reason)
        tx.after(lambda: self._part(peer, keep))

    def _part(self, peer: str, keep: bool) -> None:
        for owner in [owner for owner in self._owners.values() if peer in owner.route]:
            self._plan(owner, None)
            if keep:
                owner.parted = True
                continue
            del self._owners[owner.path]
            for loan in owner.loans.values():
                self._not_wanted(loan.worker, (), tuple(loan.results.values()))
