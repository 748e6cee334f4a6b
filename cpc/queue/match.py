"""Which job goes to which worker: priority, then fair share, then the order of submission; nothing blocks what is behind it.

A worker whose allocation was asked for one job takes one, and of jobs of equal priority one of that size first.

A round fills one worker from the windows it can run. A job that does not fit is passed over, and what is behind it goes
on; but a job that fits the worker and has been passed over for too long gets a *reservation*: one worker takes nothing of
lower rank until that job fits.

A worker with no room left is given brief jobs *ahead*: no slot of it is idle for a round trip, and one message carries
many of them. What is ahead is at most AHEAD seconds of its work, or what it does until more can come from far away; so nothing
of higher rank waits longer than that.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from cpc.core import ids
from cpc.core.lease import Lease
from cpc.core.resources import Amounts
from cpc.queue.index import Index
from cpc.queue.requirement import best_version, shortage
from cpc.queue.session import Running, Session
from cpc.queue.share import ADVANCE
from cpc.queue.window import UNTRIED, Key, Window

#: How many workers a new job is compared with to find the one it fits best.
COMPARED = 32
#: How many submissions of a window are tried when its first job fits no worker now.
TRIED = 500
#: Seconds of a worker's work that it may be given ahead of its room, and the shortest time that a job is taken to last.
AHEAD = 0.5
BRIEFEST = 0.002
#: What has ended just after a report has left is told with the next one: it takes two ways there and back until more comes,
#: and so much longer, because neither jobs nor answers all take the same time.
WAYS, MARGIN = 2, AHEAD / 2
#: Seconds of work ahead at most, however far away: less than a worker waits before it hands back what found no room.
FARTHEST = 1.5


@dataclass(frozen=True, slots=True)
class Exact:
    """What a job really needs, where its class only knows a grid cell."""

    need: Amounts
    max_cores: int
    walltime: float
    checkpoints: bool


@dataclass(frozen=True, slots=True)
class Round:
    """The circumstances of a round. `now` by the lease clock, `wall` in µs; `exact(array)` and `refill(window)` read the
    database where memory does not reach; `pace(array)` is how many seconds its jobs take, if that is known."""

    now: float
    wall: int
    incarnation: int
    exact: Callable[[int], Exact]
    refill: Callable[[Window], None]
    pace: Callable[[int], float | None]


def fill(index: Index, session: Session, circumstances: Round, limit: int) -> list[Running]:
    """Give a worker up to `limit` jobs. The index has changed accordingly; the caller makes it durable."""
    placed: list[Running] = []
    if not session.hungry or limit <= 0:
        return placed
    if session.asked_for is not None:
        limit = 1
    reserved = session.reserved
    order = _Order(index, session, circumstances)
    while len(placed) < limit and session.free.cores > 0 and (window := order.next()):
        run = _place(index, session, window, circumstances)
        if run is not None:
            placed.append(run)
            order.again(window)
    if reserved and not session.reserved:
        # What was kept back for the reserved job may have what is left.
        placed += fill(index, session, circumstances, limit - len(placed))
    return placed


def fill_ahead(index: Index, session: Session, circumstances: Round, limit: int) -> list[Running]:
    """Give a worker that has no room up to `limit` brief jobs that nobody else has room for either.

    It ends at the first job, in the order of the claim, that the worker should have room for instead.
    """
    placed: list[Running] = []
    if session.room_ahead <= 0:
        return placed
    begun = Counter(ids.array(job) for job in session.leases if job not in session.ahead and job not in session.over)
    if not any((pace := circumstances.pace(array)) is not None and pace <= AHEAD for array in begun):
        return placed  # as nearly always: no need to look at what waits
    order = _Order(index, session, circumstances)
    while len(placed) < limit and session.room_ahead > 0 and (window := order.next()):
        key = window.entries[0]
        array = ids.array(key[1])
        exact = circumstances.exact(array)
        if not _could_take(session, exact, circumstances.now):
            continue
        if not _brief(session, begun[array], exact, circumstances.pace(array)):
            break
        if _best(index, window, key, exact, circumstances):
            break
        placed.append(_lease(index, session, window, key, exact, circumstances, ahead=True))
        order.again(window)
    return placed


class _Order:
    """The windows with jobs that a worker can ever run, in the order of the claim.

    Size comes before the fair share: an allocation that is given to a smaller job of another project is wasted, and one more is
    asked for. Whose turn it is has the next one asked for (`cpc.pools.survey`), so that takes nothing from anybody for long.
    """

    def __init__(self, index: Index, session: Session, circumstances: Round) -> None:
        self._index = index
        self._round = circumstances
        self._asked_for = session.asked_for
        self._heap: list[tuple[int, bool, float, int, Window]] = []
        for window in index.candidates(session):
            self.again(window)

    def next(self) -> Window | None:
        """The window with the first job of all; it comes again only if it is put back."""
        return heapq.heappop(self._heap)[4] if self._heap else None

    def again(self, window: Window) -> None:
        """Put it where its first job belongs now."""
        _refill(window, self._round)
        if window.head is not None:
            rank, job = window.head
            standing = self._index.shares.standing(window.project, self._round.now)
            asked_for = self._asked_for
            other = asked_for is not None and self._index.requirements[window.requirement].size != asked_for
            heapq.heappush(self._heap, (rank, other, standing, job, window))


def offer(index: Index, window: Window, circumstances: Round) -> Session | None:
    """A worker for the first job of a window that fits any: of those it fits, the one it fills best."""
    _refill(window, circumstances)
    if window.head is None or window.project in index.paused:
        return None
    if next(index.hungry(window), None) is None:
        _note_stuck(window, window.head, circumstances.now)
        return None
    failed: list[Exact] = []
    before = 0
    for place, key in enumerate(window.entries):
        array = ids.array(key[1])
        if array == before:
            continue
        before = array
        exact = circumstances.exact(array)
        if exact in failed:
            continue
        best = _best(index, window, key, exact, circumstances)
        if best is not None:
            return best
        if place == 0:
            _note_stuck(window, key, circumstances.now)
        failed.append(exact)
        if len(failed) >= TRIED:
            break
    return None


def _best(index: Index, window: Window, key: Key, exact: Exact, circumstances: Round) -> Session | None:
    best: Session | None = None
    compared = 0
    for session in index.hungry(window):
        if _may_take(index, session, window, key, exact, circumstances.now):
            compared += 1
            if best is None or session.free.cores < best.free.cores:
                best = session
            if compared >= COMPARED or best.free.cores == exact.need.cores:
                break
    return best


def reserve(
    index: Index, now: float, patience: float, exact: Callable[[int], Exact]
) -> tuple[list[tuple[int, int]], list[int]]:
    """Reservations for heads that have been stuck for `patience`: (job, session) of the new ones; and the sessions whose
    reservation is over, because the job is not waiting any more or cannot run there."""
    wanted = {
        window.stuck[0]: window
        for window in index.windows.values()
        if window.stuck is not None and window.head is not None and window.head[1] == window.stuck[0]
    }
    taken: set[int] = set()
    freed: list[int] = []
    for session in index.sessions.values():
        if session.reserved and not (
            session.reserved in wanted
            and session.drain is None
            and not session.sated
            and _could_take(session, exact(ids.array(session.reserved)), now)
        ):
            index.change(session, reserved=0)
            freed.append(session.number)
        taken.add(session.reserved)
    made: list[tuple[int, int]] = []
    for job, window in sorted(wanted.items()):
        since = window.stuck[1] if window.stuck else now
        if job in taken or now - since < patience:
            continue
        need = exact(ids.array(job))
        capable = [
            session
            for session in index.sessions.values()
            if not session.reserved
            and session.drain is None
            and session.wants
            and not session.sated
            and session.serves(window.project)
            and index.can_run(session.profile, window.requirement)
            and _could_take(session, need, now)
        ]
        if capable:
            # The one with most of it free already will be empty enough first.
            chosen = max(capable, key=lambda session: (session.free.cores, -session.number))
            index.change(chosen, reserved=job)
            made.append((job, chosen.number))
    return made, freed


def _could_take(session: Session, exact: Exact, now: float) -> bool:
    """Whether the job would fit the worker if nothing else ran there."""
    return session.total.covers(exact.need) and has_time(session, exact, now)


def has_time(session: Session, exact: Exact, now: float) -> bool:
    """Whether the worker's own time suffices for the job, or for a part of it that is kept."""
    if session.deadline is None:
        return True
    left = session.deadline - now
    return left > 0 and (exact.walltime <= left or exact.checkpoints)


def _refill(window: Window, round_: Round) -> None:
    if window.needs_refill:
        round_.refill(window)


def _place(index: Index, session: Session, window: Window, round_: Round) -> Running | None:
    """The first job of the window that fits the worker now, leased; None when none does."""
    for place, key in enumerate(window.entries):
        exact = round_.exact(ids.array(key[1]))
        if _may_take(index, session, window, key, exact, round_.now):
            return _lease(index, session, window, key, exact, round_)
        if place == 0:
            _note_stuck(window, key, round_.now)
        if not session.free.covers(index.requirements[window.requirement].least):
            return None  # no job of the class can fit
    return None


def _brief(session: Session, begun: int, exact: Exact, pace: float | None) -> bool:
    """Whether one more such job ahead is no more work than it may have, when `begun` of them run there at a time."""
    if pace is None or pace > AHEAD or exact.max_cores > exact.need.cores:
        return False  # nothing is known, or what it would be granted depends on what is free then
    return len(session.ahead) < begun * reach(session) / max(pace, BRIEFEST)


def reach(session: Session) -> float:
    """Seconds of work that the worker may be given ahead of its room: its slots are busy until more can come."""
    return min(FARTHEST, max(AHEAD, WAYS * session.way + MARGIN))


def _may_take(index: Index, session: Session, window: Window, key: Key, exact: Exact, now: float) -> bool:
    if not session.free.covers(exact.need) or not has_time(session, exact, now):
        return False
    return not held_back(index, session, key)


def held_back(index: Index, session: Session, key: Key) -> bool:
    """Whether the worker is being kept free for another job that this one may not overtake."""
    if not session.reserved or session.reserved == key[1]:
        return False
    reserved = index_rank(index, session.reserved)
    return reserved is not None and key[0] >= reserved


def index_rank(index: Index, job: int) -> int | None:
    """The rank of a job that is stuck at the head of its window."""
    for window in index.windows.values():
        if window.head is not None and window.head[1] == job:
            return window.head[0]
    return None


def _lease(
    index: Index, session: Session, window: Window, key: Key, exact: Exact, round_: Round, ahead: bool = False
) -> Running:
    rank, job = key
    attempts, failures, losses = window.tried.get(job, UNTRIED)
    requirement = index.requirements[window.requirement]
    run = Running(
        lease=Lease(job, attempts + 1, round_.incarnation),
        array=ids.array(job),
        project=window.project,
        requirement=window.requirement,
        rank=rank,
        worker=session.worker,
        granted=exact.need if ahead else _grant(session, exact),
        version=best_version(requirement, session.profile.programs) or "",
        renewed=round_.now,
        started=round_.wall,
        failures=failures,
        losses=losses,
        ahead=ahead,
    )
    window.remove(key)
    if window.stuck is not None and window.stuck[0] == job:
        window.stuck = None
    if session.reserved == job:
        index.change(session, reserved=0)
    index.start(run)
    index.shares.charge(window.project, run.granted.cores * ADVANCE, round_.now)
    return run


def _grant(session: Session, exact: Exact) -> Amounts:
    """What the job gets: all it can use of what is free, or what the worker's owner set with -s."""
    least, most = exact.need.cores, max(exact.need.cores, exact.max_cores)
    wanted = session.cores_per_job or most
    cores = max(least, min(wanted, most, session.free.cores))
    need = exact.need
    return Amounts(cores=cores, gpus=need.gpus, memory=need.memory, other=need.other)


def _note_stuck(window: Window, key: Key, now: float) -> None:
    """Remember since when the head waits for room; lost at a rollback or restart, which only delays a reservation."""
    if window.stuck is None or window.stuck[0] != key[1]:
        window.stuck = (key[1], now)


def blocked_by(need: Exact, session: Session, now: float) -> list[tuple[str, str]]:
    """Why a worker that could run a job does not get it now, for `why`."""
    found = shortage(need.need, session.free, "free")
    if session.sated:
        found.append(("jobs", "it takes one job only, and has had that"))
    if session.deadline is not None and not has_time(session, need, now):
        over = session.deadline <= now
        found.append(("time", "its own time is over" if over else "its own time ends before the job's walltime would"))
    return found
