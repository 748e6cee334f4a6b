"""The worker's desk: its attempts and its results, what is to be told to the server, and what the server orders.

Nothing here knows about connections: `compose` makes the next turn out of what is true now, so after a cut the same
things are simply told again. Every result is told until the server has settled it.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable

import cpc
from cpc.core.errors import CopernicusError
from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.core.resources import Amounts
from cpc.queue.verdict import Verdict
from cpc.wire.messages import Checkpoint, Held, Hello, Orders, Result, Settled, Tail, Task, Turn, Welcome
from cpc.worker.delivery import Delivery, Way
from cpc.worker.ending import Stop
from cpc.worker.offer import Offer, free
from cpc.worker.room import Kept, Room
from cpc.worker.running import Attempt, State
from cpc.worker.standing import Standing
from cpc.worker.waiting import in_background

TURN_BYTES = 4 << 20
TURN_RESULTS = 500
MEASURE_EVERY = 1.0  # seconds between looks at the node's free memory
REMEMBERED = 20_000
AHEAD = 500  # tasks beyond this worker's room that it takes: the server gives it only what is brief
MOST_HELD = 5000  # named in one message; results beyond that wait their turn, a late success is taken anyway


class Desk:
    """All that this worker holds. `left` is set when the server says that it may leave."""

    def __init__(
        self, offer: Offer, standing: Standing, boot: str, measure: Callable[[], int | None], most_jobs: int = 0
    ) -> None:
        self.attempts: dict[Lease, Attempt] = {}
        self.deliveries: dict[Lease, Delivery] = {}
        self.standing = standing
        self.may_leave = False
        self.jobs_taken = 0
        self.beat = 30.0
        self.heartbeat_time = 120.0
        self._offer = offer
        self._boot = boot
        self._batch = TURN_RESULTS
        self._most_jobs = most_jobs
        self._measure = measure
        self._measure_at = 0.0
        self._available: int | None = None
        self._room: Room | None = None
        self._finished: OrderedDict[Lease, None] = OrderedDict()

    def furnish(self, room: Room) -> None:
        """The room for attempts; its hooks lead back here."""
        self._room = room

    @property
    def room(self) -> Room:
        """What attempts share."""
        assert self._room is not None
        return self._room

    # --- hooks of attempts and deliveries -------------------------------------------------------------------------------

    def gone(self, attempt: Attempt) -> None:
        """An attempt has nothing left here but, perhaps, a delivery."""
        if self.attempts.get(attempt.lease) is attempt:
            del self.attempts[attempt.lease]
        self._remember(attempt.lease)

    def deliver(self, delivery: Delivery) -> None:
        """A result is to go to the server."""
        self.deliveries[delivery.lease] = delivery
        delivery.begin()

    def settled(self, delivery: Delivery) -> None:
        """A result is done with."""
        if self.deliveries.get(delivery.lease) is delivery:
            del self.deliveries[delivery.lease]

    def _remember(self, lease: Lease) -> None:
        self._finished[lease] = None
        while len(self._finished) > REMEMBERED:
            self._finished.popitem(last=False)

    @property
    def sated(self) -> bool:
        """Whether it has taken all the jobs that it ever will."""
        return 0 < self._most_jobs <= self.jobs_taken

    @property
    def done(self) -> bool:
        """Whether these are over, too, and handed in."""
        return self.sated and not self.attempts and not self.deliveries

    # --- to the server --------------------------------------------------------------------------------------------------

    def holds(self) -> tuple[Lease, ...]:
        """Leases to keep: of what runs, and of results that are on their way."""
        on_their_way = (lease for lease in self.deliveries if lease not in self.attempts)
        return tuple(itertools.islice((*self.attempts, *on_their_way), MOST_HELD))

    @property
    def has_work_ahead(self) -> bool:
        """Whether jobs wait here for room, so that no slot is idle if the server hears of things a moment later."""
        return self.room.slots.crowded

    def hello(self) -> Hello:
        """Who this worker is, for a new session."""
        offer, now = self._offer, self.room.clock.monotonic()
        return Hello(
            boot=self._boot,
            host=offer.host,
            release=cpc.__version__,
            platform=offer.platform,
            total=offer.total,
            programs=offer.programs,
            labels=offer.labels,
            project=offer.project,
            cores_per_job=offer.cores_per_job,
            time_left=self.standing.time_left(now),
            holds=self.holds(),
            note=self.standing.note(now),
            ahead=0 if self._most_jobs else AHEAD,
            allocation=offer.allocation,
            node=offer.node,
            restarts=offer.restarts,
            paths=True,
            lent=self._lent(),
        )

    def _lent(self) -> tuple[Held, ...]:
        """What runs here for other servers: ours keeps no record of it."""
        waiting = set(self.room.slots.waiting())
        abroad = [each for each in self.attempts.values() if each.lease.path and not each.has_ended]
        return tuple(
            Held(
                lease=each.lease,
                granted=each.task.granted,
                waits=each.state is State.FETCHING or each.lease in waiting,
                first=each.task.is_first,
            )
            for each in itertools.islice(abroad, MOST_HELD)
        )

    def welcomed(self, welcome: Welcome) -> None:
        """A new session: everything that is not settled is told again; what the server does not know is ended."""
        self.beat = max(0.1, welcome.beat)
        self.heartbeat_time = welcome.heartbeat_time
        self.room.checkpoint_interval = welcome.checkpoint_interval
        self.standing.draining = welcome.draining
        for delivery in self.deliveries.values():
            delivery.again()
        for attempt in self.attempts.values():
            attempt.tailer.followed = False  # the server says again who is watched
        for lease in welcome.drop:
            # What has ended is told all the same: a success closes the job if nothing else has.
            if lease in self.attempts and not self.attempts[lease].has_ended:
                self.attempts[lease].stop(Stop.DROP, "the server gave the job to another attempt")

    def free(self) -> Amounts:
        """What this worker has to give now."""
        now = self.room.clock.monotonic()
        if now >= self._measure_at:
            self._measure_at, self._available = now + MEASURE_EVERY, self._measure()
        return free(self.room.slots.free, self._available)

    def compose(self, number: int, brief: bool = False) -> Turn:
        """All that happened and is not settled yet, as far as it fits one turn. `brief`: what is held is not named."""
        now = self.room.clock.monotonic()
        results: list[Result] = []
        checkpoints: list[Checkpoint] = []
        size = 0
        for delivery in self.deliveries.values():
            if delivery.way is Way.TOLD and now - delivery.told_at > self.heartbeat_time:
                delivery.again()  # no word on it for long: it may have been overlooked
            if delivery.way is not Way.READY:
                continue
            size += delivery.weight
            if results and (size > TURN_BYTES or len(results) >= self._batch):
                self.room.hooks.changed()  # the rest with the next turn, at once
                break
            kept = delivery.kept()
            if kept.checkpoint is not None and not delivery.checkpoint_told:
                # A turn ahead of the result: with the result the attempt ends, and its right to a checkpoint.
                checkpoints.append(Checkpoint(lease=delivery.lease, files=kept.checkpoint))
            else:
                results.append(delivery.report(kept))
        for attempt in self.attempts.values():
            if attempt.checkpointer.ready is not None:
                checkpoints.append(Checkpoint(lease=attempt.lease, files=attempt.checkpointer.ready.files))
        return Turn(
            number=number,
            holds=() if brief else self.holds(),
            results=tuple(results),
            checkpoints=tuple(checkpoints),
            tails=self.tails(),
            free=self.free(),
            wants=self.standing.wants(now) and not self.sated,
            time_left=self.standing.time_left(now),
            note=self.standing.note(now),
            brief=brief,
            over=self._over(),
        )

    def _over(self) -> tuple[Lease, ...]:
        """Whose programs have ended, while their files are still collected and sent."""
        collected = (lease for lease, each in self.attempts.items() if each.is_over)
        sent = (lease for lease, each in self.deliveries.items() if each.is_on_its_way)
        return tuple(itertools.islice((*collected, *sent), MOST_HELD))

    def refused(self, turn: Turn, error: CopernicusError) -> bool:
        """The server cannot take this turn. One result must not hold up all others: they go one by one, and the one
        that is refused alone waits for a better day. False when it is not about results.
        """
        if not turn.results:
            return False
        if len(turn.results) > 1:
            self._batch = 1
            return True
        lease = turn.results[0].lease
        if lease in self.deliveries:
            self.room.say(f"the server does not take the result of {lease} now: {error}")
            self.deliveries[lease].postpone()
        return True

    def answered(self, turn: Turn) -> None:
        """The server has seen this turn."""
        self._batch = min(TURN_RESULTS, self._batch * 2)
        for result in turn.results:
            if result.lease in self.deliveries:
                self.deliveries[result.lease].told()
        for checkpoint in turn.checkpoints:
            if checkpoint.lease in self.deliveries:
                self.deliveries[checkpoint.lease].checkpoint_told = True
                self.room.hooks.changed()
            attempt = self.attempts.get(checkpoint.lease)
            ready = attempt.checkpointer.ready if attempt else None
            if attempt is not None and ready is not None and ready.files is checkpoint.files:
                attempt.checkpointer.told(ready)
        for tail in turn.tails:
            if tail.lease in self.attempts:
                self.attempts[tail.lease].tailer.told(tail)

    def tails(self) -> tuple[Tail, ...]:
        """New output of what somebody follows."""
        return tuple(tail for each in self.attempts.values() if each.tailer.followed for tail in each.tailer.read())

    def followed(self) -> bool:
        """Whether somebody watches the output of a job here."""
        return any(each.tailer.followed for each in self.attempts.values())

    # --- from the server ------------------------------------------------------------------------------------------------

    def obey(self, orders: Orders) -> None:
        """Do what the server says. Doing it twice is doing it once."""
        for task in orders.tasks:  # first, because nobody waits for the rest, and a cancel below may mean one of them
            self._accept(task)
        for settled in orders.settled:
            self._settle(settled)
        for lease in orders.retry:
            if lease in self.deliveries:
                self.deliveries[lease].postpone()
        for lease, reason in orders.cancel:
            self._cancel(lease, reason, lease in orders.wanted)
        for lease in orders.hand_back:
            if lease in self.attempts:
                self.attempts[lease].stop(Stop.HAND_BACK, "handed back: the server asked for it")
        for lease in orders.follow:
            if lease in self.attempts:
                self.attempts[lease].tailer.followed = True
        if orders.beat:
            self.beat, self.heartbeat_time = max(0.1, orders.beat), orders.heartbeat_time
        if orders.drain is not None:
            self.standing.draining = orders.drain
            self.may_leave = False
            if orders.drain:
                self.give_up_waiting("the worker is drained")
        if orders.leave:
            self.may_leave = True

    def give_up_waiting(self, why: str, seconds: float = 0.0) -> None:
        """Hand back what has waited so long for room: it has not begun, and another worker may have it."""
        if seconds and any(each.state is State.STOPPING for each in self.attempts.values()):
            return  # there is room in a moment
        for lease in self.room.slots.waiting(seconds):
            self.attempts[lease].hand_back_unbegun(f"handed back before it began: {why}")

    def _settle(self, settled: Settled) -> None:
        delivery = self.deliveries.get(settled.lease)
        if delivery is not None:
            if settled.verdict == Verdict.ASIDE:
                in_background(delivery.put_aside(), f"putting {settled.lease} aside")
            else:
                delivery.settle()

    def _cancel(self, lease: Lease, reason: str, wanted: bool) -> None:
        words = f"cancelled: {reason}" if reason else "cancelled"
        attempt = self.attempts.get(lease)
        if attempt is not None:
            if not (wanted and attempt.has_ended):
                attempt.stop(Stop.CANCEL, words)
            return
        delivery = self.deliveries.get(lease)
        if not wanted and delivery is not None and delivery.way in (Way.UPLOADING, Way.PAUSED):
            # Its files are not wanted any more: say so instead of sending them.
            delivery.settle()
            result = Result(lease=lease, outcome=Outcome.CANCELLED, message=words)
            self.deliver(Delivery(self.room, lease, "", None, Kept(result)))

    def _accept(self, task: Task) -> None:
        if task.lease in self.attempts or task.lease in self.deliveries or task.lease in self._finished:
            return  # told twice
        attempt = Attempt(self.room, task)
        self.attempts[task.lease] = attempt
        sated, self.jobs_taken = self.sated, self.jobs_taken + 1
        why = "the worker takes no more jobs" if sated else self.standing.declines(self.room.clock.monotonic())
        if why:
            attempt.stop(Stop.HAND_BACK, f"handed back: {why}")
        else:
            attempt.begin()
