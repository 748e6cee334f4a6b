"""Jobs of others at our workers, in the queue's index: given room, and taken out again. In units of the writer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from cpc.core.lease import Lease
from cpc.queue.lent import Lent
from cpc.queue.session import Session
from cpc.server.federation.ways import Ways
from cpc.server.queue import Queue
from cpc.store.transaction import Tx
from cpc.wire.messages import Task

OWN_FIRST = "its worker's own server has work for it"
NOT_OFFERED = "its worker was not offered to its server"


@dataclass(frozen=True, slots=True)
class Given:
    """Tasks for one worker, of the owner at the end of `path`."""

    worker: int
    path: str
    tasks: tuple[Task, ...]

    @property
    def route(self) -> tuple[str, ...]:
        """The servers to the owner."""
        return tuple(self.path.split("/"))

    @property
    def first(self) -> Lease:
        """The first one's lease, as the worker is to know it."""
        return self.tasks[0].lease.on(self.path)


@dataclass(frozen=True, slots=True)
class Placed:
    """By worker and path, the tasks, with their path, that are lent; (worker, lease, why) of what goes back."""

    lent: dict[tuple[int, str], list[Task]] = field(default_factory=dict)
    back: list[tuple[int, Lease, str]] = field(default_factory=list)


def place(queue: Queue, tx: Tx, ways: Ways, given: Sequence[Given], used: Callable[[str], int]) -> Placed:
    """Give these tasks room, as far as there is any: work of our own may have come first. `used`: cores by neighbour."""
    placed = Placed()
    left: dict[str, int | None] = {}
    for each in given:
        session = queue.index.of_worker(each.worker)
        own_waits = session is not None and queue.own_waits(session)
        route = each.route
        limits = ways.agreement(route[0]).lent
        if route[0] not in left:
            left[route[0]] = None if limits.cores is None else limits.cores - used(route[0])
        mine: list[Task] = []
        for task in each.tasks:
            lease = task.lease.on(each.path)
            why = refusal(session, task, left[route[0]], own_waits)
            if limits.off or (limits.executables is not None and task.executable not in limits.executables):
                why = "its worker is not lent for that"
            if session is None or why:
                placed.back.append((each.worker, lease, why))
            elif lease not in session.lent:
                ahead = not session.free.covers(task.granted)
                queue.index.lend(session, Lent(lease, task.granted, ahead, first=task.is_first))
                mine.append(msgspec.structs.replace(task, lease=lease))
                rest = left[route[0]]
                left[route[0]] = None if rest is None else rest - task.granted.cores
        if session is not None and mine:
            queue.outbox.tasks(tx, session.number, mine)
            placed.lent.setdefault((each.worker, each.path), []).extend(mine)
    queue.tell_rooms(tx)
    return placed


def give_up(queue: Queue, tx: Tx, leases: Iterable[tuple[int, Lease]], reason: str = "") -> None:
    """The room of these is free again; with a `reason` the worker is told to end them."""
    for worker, lease in leases:
        session = queue.index.of_worker(worker)
        if session is not None and queue.index.returned(session, (lease,)):
            queue.feed(session)
            if reason:
                queue.outbox.cancel(tx, session.number, lease, reason)
    queue.round(tx)


def through(queue: Queue, peer: str) -> list[tuple[int, Lease]]:
    """(worker, lease) of all that runs here for a peer, or by way of it."""
    return [
        (session.worker, lease)
        for session in queue.index.sessions.values()
        for lease in session.lent
        if peer in lease.route
    ]


def refusal(session: Session | None, task: Task, left: int | None, own_waits: bool) -> str:
    """Why the worker does not take the task now; empty when it does. `left`: cores that its server may still have; `own_waits`:
    it is given nothing beyond its room."""
    if session is None or session.home or not session.paths:
        return "its worker is not there any more"
    if task.granted.cores < 1 or not task.granted.possible:
        return "it was granted what cannot be"
    if left is not None and task.granted.cores > left:
        return "more cores than are lent to its server"
    if session.drain is not None or not session.wants or session.sated:
        return "its worker takes no jobs now"
    if session.free.covers(task.granted):
        return ""
    # What waits at the worker begins whenever there is room, so it cannot be kept below a limit.
    if left is None and not own_waits and session.room_ahead > 0 and session.total.covers(task.granted):
        return ""
    return OWN_FIRST
