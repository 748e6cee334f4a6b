"""What is known at the home of the jobs of others: by owner, and per worker. In memory only; workers' hellos bring it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

import msgspec

from cpc.core.clock import Timer
from cpc.core.lease import Lease
from cpc.core.manifest import Manifest
from cpc.core.outcome import Outcome
from cpc.core.resources import Amounts
from cpc.queue.share import ADVANCE
from cpc.server.queue import Queue
from cpc.wire.messages import Checkpoint, Orders, Result, Settled, Tail, Task
from cpc.wire.peer_messages import Offer, Report, WorkerReport

MOST_WORKERS = 256  # in one report
MOST_BYTES = 4 << 20  # of results, checkpoints and leases that are named in one report
NAMED = 20  # bytes of a lease
MOST_UNSAID = 1000  # jobs on their way back to one owner; what it gives beyond them, it misses in our reports
TRUST = 0.25  # how much of another time from report to answer is believed at once
MOST_TAILS = 64  # pieces of live output that wait for the next report; older ones are left out


class Custody(Protocol):
    """Keeps results of others' jobs while their owners cannot be reached."""

    async def take(self, worker: int, result: Result, checkpoint: Checkpoint | None = None) -> bool:
        """Whether the result, with the checkpoint that its owner has not had, is safe with us now. Its chunks may still be
        missing: then it is not."""
        ...

    def keeps(self, worker: int, path: str) -> bool:
        """Whether something of this worker waits for the owner at the end of `path`."""
        ...

    def waits(self, peer: str) -> bool:
        """Whether something is to be handed in by way of this peer."""
        ...


class Spares(Protocol):
    """Who decides to whom spare room is offered."""

    def offer(self, worker: int, path: str) -> tuple[Amounts, int] | None:
        """The room that goes along with a report to the owner at the end of `path`; None: it has none of it."""
        ...

    def answered(self, worker: int, given: bool) -> None:
        """That owner has said what it gives."""
        ...

    def spent(self, path: str, core_seconds: float) -> None:
        """Jobs of the owner at the end of `path` use so much; negative: less than was thought."""
        ...

    def prefer(self, worker: int, path: str) -> None:
        """A job of this owner has ended at the worker: what it leaves is offered to the same owner first."""
        ...

    def over(self, worker: int, path: str) -> None:
        """That owner hears of the worker no more: what it was to be offered is for whoever is next."""
        ...

    def describe(self, worker: int, peer: str) -> Offer | None:
        """The worker as a peer may use it; None when it is not joined."""
        ...


@dataclass(slots=True)
class Use:
    """A job that the worker was given: its cores, when the worker last named it (monotonic), and the core-seconds that were
    charged for it already."""

    cores: int
    seen: float
    charged: float = 0.0


@dataclass(slots=True)
class Loan:
    """One worker and what it does for one owner. Leases are the worker's: with the path.

    `holds`: what the worker has named, but for what its owner has settled since; `fresh`: its owner has not heard of it yet.
    `own`: results that the home says itself, of what the worker has lost or never got. `told`: the owner has had its offer.
    `offered`: room of it has gone along with the report that is under way.
    """

    worker: int
    holds: dict[Lease, None] = field(default_factory=dict)
    fresh: bool = True
    lent: dict[Lease, Use] = field(default_factory=dict)
    results: dict[Lease, Result] = field(default_factory=dict)
    own: dict[Lease, Result] = field(default_factory=dict)
    checkpoints: dict[Lease, Checkpoint] = field(default_factory=dict)
    tails: list[Tail] = field(default_factory=list)
    told: bool = False
    offered: bool = False
    gone: str = ""
    counts: bool = True
    dirty: bool = True

    @property
    def over(self) -> bool:
        """Whether there is nothing left to tell its owner."""
        return not (self.holds or self.lent or self.results or self.own or self.gone)

    @property
    def lending(self) -> bool:
        """Whether the owner may give the worker more: it has jobs of it, or was offered to it."""
        return bool(self.holds or self.lent or self.offered)

    def due(self, everything: bool, custody: Custody | None, path: str) -> bool:
        """Whether the next report speaks of the worker. That it has gone is said when what it left in custody is handed in:
        with it, all that it had is lost."""
        if self.gone and custody is not None and custody.keeps(self.worker, path):
            self.dirty = False  # looked at again with the next beat
            return False
        return everything or self.dirty

    def back(self) -> None:
        """The worker has joined. If it was thought to be gone, and its owner has not heard of that, it is not; what it has not
        brought along, the owner misses in our reports."""
        self.told, self.gone = False, ""

    def hold(self, holds: Iterable[Lease], now: float) -> None:
        """What the worker says that it has."""
        before, self.holds = self.holds, dict.fromkeys(holds)
        self.fresh = True
        self.dirty = self.dirty or before.keys() != self.holds.keys()
        for lease in self.holds:
            use = self.lent.get(lease)
            if use is not None:
                use.seen = now

    def give(self, tasks: Iterable[Task], now: float) -> float:
        """The worker is given these; the core-seconds that are charged for them at once."""
        given = {task.lease: Use(task.granted.cores, now, task.granted.cores * ADVANCE) for task in tasks}
        self.lent |= given
        return sum(use.charged for use in given.values())

    def still(self, lease: Lease, cores: int, now: float) -> None:
        """The worker has come back with it."""
        known = self.lent.get(lease)
        self.lent[lease] = Use(cores, now, known.charged if known is not None else 0.0)

    def ended(self, results: Iterable[Result]) -> float:
        """The worker hands these in; how many core-seconds they have used more than was charged."""
        more = 0.0
        for result in results:
            self.results[result.lease] = result
            use = self.lent.pop(result.lease, None)
            more += use.cores * result.wall_seconds - use.charged if use is not None else 0.0
            self.own.pop(result.lease, None)  # it has it after all
            self.dirty = True
        return more

    def lose(self, lease: Lease, words: str, counts: bool) -> None:
        """The worker does not have it (any more): the home says so in its stead."""
        self.lent.pop(lease, None)
        self.holds.pop(lease, None)
        if lease not in self.results:
            self.own[lease] = Result(
                lease=lease, outcome=Outcome.LOST if counts else Outcome.PREEMPTED, message=words
            )  # fmt: skip
        self.dirty = True

    def settled(self, lease: Lease) -> None:
        """The owner has said its word on it."""
        self.holds.pop(lease, None)
        self.own.pop(lease, None)

    def add_tails(self, tails: Iterable[Tail]) -> None:
        """Live output, for whoever follows it at the owner."""
        self.tails += tails
        del self.tails[:-MOST_TAILS]


@dataclass(frozen=True, slots=True)
class Sent:
    """What one report said of one worker. `offered`: room went along. `own`: of the results, those that the home says itself."""

    loan: Loan
    results: tuple[Result, ...]
    checkpoints: tuple[Checkpoint, ...]
    offered: bool
    own: frozenset[Lease]

    def settled(self, orders: Orders) -> tuple[Lease, ...]:
        """The owner has said these. What the worker has brought and it has said no word on is to be told again."""
        said = {one.lease for one in orders.settled}
        for lease in said:
            self.loan.settled(lease)
        said.update(orders.retry, self.own)
        return tuple(one.lease for one in self.results if one.lease not in said)

    def put_back(self) -> None:
        """The owner did not take it: what the worker has brought is told again."""
        for result in self.results:
            if result.lease not in self.own:
                self.loan.results.setdefault(result.lease, result)
        for checkpoint in self.checkpoints:
            self.loan.checkpoints.setdefault(checkpoint.lease, checkpoint)


@dataclass(slots=True)
class Owner:
    """A server whose jobs our workers run, by its path. One report at a time is under way.

    `named`: when it was last told everything, each worker with what it holds (monotonic). `parted`: it is not trusted any more,
    and what still runs for it ends in custody.
    """

    path: str
    loans: dict[int, Loan] = field(default_factory=dict)
    number: int = 0
    beat: float = 30.0
    way: float = 0.0  # seconds from a report to its answer, lately
    named: float = float("-inf")
    failures: int = 0
    refused: int = 0  # of these failures, the last so many were refusals
    busy: bool = False
    parted: bool = False
    due: Timer | None = None

    @property
    def route(self) -> tuple[str, ...]:
        """From the home's neighbour to the owner."""
        return tuple(self.path.split("/"))

    @property
    def neighbour(self) -> str:
        """Where the way there begins."""
        return self.path.partition("/")[0]

    def took(self, seconds: float) -> None:
        """An answer has come after so long."""
        self.way = self.way + TRUST * (seconds - self.way) if self.way else seconds

    @property
    def full(self) -> bool:
        """Whether so many jobs are on their way back to it that no more are remembered."""
        return sum(len(loan.own) for loan in self.loans.values()) >= MOST_UNSAID

    @property
    def dirty(self) -> bool:
        """Whether there is something to tell."""
        return any(loan.dirty for loan in self.loans.values())

    def unnamed(self, before: float) -> list[tuple[Loan, Lease]]:
        """What workers were given, and have not named since then (by the lease clock)."""
        return [
            (loan, lease) for loan in self.loans.values() for lease, use in loan.lent.items() if use.seen < before
        ]  # fmt: skip

    def others(self, worker: int, lease: Lease) -> list[int]:
        """The workers that were given this lease; none, if this one was."""
        loan = self.loans.get(worker)
        if loan is not None and lease in loan.lent:
            return []
        return [other.worker for other in self.loans.values() if lease in other.lent]

    def loan(self, worker: int) -> Loan:
        """The worker's loan; made when it is first asked for."""
        return self.loans.setdefault(worker, Loan(worker))


def theirs(path: str, orders: Orders) -> Orders:
    """An owner's orders as its worker knows the leases; nothing but what an owner may order."""

    def on(leases: Iterable[Lease]) -> tuple[Lease, ...]:
        return tuple(lease.on(path) for lease in leases)

    return Orders(
        settled=tuple(Settled(lease=one.lease.on(path), verdict=one.verdict, note=one.note) for one in orders.settled),
        cancel=tuple((lease.on(path), reason) for lease, reason in orders.cancel),
        wanted=on(orders.wanted),
        hand_back=on(orders.hand_back),
        follow=on(orders.follow),
        retry=on(orders.retry),
    )


def without(orders: Orders, own: frozenset[Lease]) -> Orders:
    """For the worker: without words on what the home has said itself. If it has a result after all, it hands that in."""
    if not own:
        return orders
    return msgspec.structs.replace(orders, settled=tuple(one for one in orders.settled if one.lease not in own))


def weight(files: Manifest, small: Mapping[bytes, bytes] = MappingProxyType({})) -> int:
    """About how many bytes a result or a checkpoint is."""
    return sum(map(len, small.values())) + 200 * len(files.entries) + (files.size >> 17) + 5000


def report_of(
    sent: Sent, offer: Offer | None, room: tuple[Amounts, int] | None, left: float | None, named: bool
) -> WorkerReport:
    """What the owner is told of one worker. `room`: what it may fill now; `left`: seconds of the worker's own time; `named`: with
    what it holds."""
    loan = sent.loan
    return WorkerReport(
        worker=loan.worker,
        offer=offer,
        holds=tuple(lease.of_owner() for lease in loan.holds) if named else (),
        results=tuple(msgspec.structs.replace(one, lease=one.lease.of_owner()) for one in sent.results),
        checkpoints=tuple(msgspec.structs.replace(one, lease=one.lease.of_owner()) for one in sent.checkpoints),
        tails=tuple(msgspec.structs.replace(one, lease=one.lease.of_owner()) for one in loan.tails),
        free=room[0] if room else Amounts(),
        ahead=room[1] if room else 0,
        wants=room is not None,
        time_left=left,
        gone=loan.gone,
        counts=loan.counts,
    )


def compose(
    owner: Owner, queue: Queue, spares: Spares, custody: Custody | None, everything: bool
) -> tuple[list[Sent], Report]:
    """The next report to an owner, and what it says of whom; what does not fit waits for the one after it."""
    sent: list[Sent] = []
    reports: list[WorkerReport] = []
    size = 0
    for loan in owner.loans.values():
        if not loan.due(everything, custody, owner.path):
            continue
        if len(sent) >= MOST_WORKERS or size > MOST_BYTES:
            loan.dirty = True
            continue
        loan.dirty = False
        checkpoints: list[Checkpoint] = []
        for checkpoint in loan.checkpoints.values():
            if checkpoints and size > MOST_BYTES:
                loan.dirty = True
                break
            size += weight(checkpoint.files)
            checkpoints.append(checkpoint)
        results: list[Result] = []
        # None goes ahead of its checkpoint.
        for result in () if loan.dirty else (*loan.own.values(), *loan.results.values()):
            if results and size > MOST_BYTES:
                loan.dirty = True
                break
            size += weight(result.files, result.small)
            results.append(result)
        room = None if loan.gone or loan.dirty else spares.offer(loan.worker, owner.path)
        offer = None if loan.told or loan.gone else spares.describe(loan.worker, owner.neighbour)
        named = everything or loan.fresh or offer is not None
        size += NAMED * len(loan.holds) if named else 0
        loan.offered = room is not None
        each = Sent(loan, tuple(results), tuple(checkpoints), loan.offered, frozenset(loan.own))
        sent.append(each)
        session = queue.index.of_worker(loan.worker)
        left = session.deadline - queue.now if session and session.deadline is not None else None
        reports.append(report_of(each, offer, room, left, named=named))
        loan.fresh = False
        told, saved = {result.lease for result in results}, {checkpoint.lease for checkpoint in checkpoints}
        loan.results = {lease: result for lease, result in loan.results.items() if lease not in told}
        loan.checkpoints = {lease: one for lease, one in loan.checkpoints.items() if lease not in saved}
        loan.tails = []
    return sent, Report(number=owner.number, way=owner.way, workers=tuple(reports))
