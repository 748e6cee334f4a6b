"""What is learned from what happens to a pool's allocations, and how long it is left alone after setbacks."""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Iterable

from msgspec.structs import replace

from cpc.core.resources import Amounts
from cpc.pools.allocation import Allocation, Reason, State
from cpc.pools.facts import DAY, HOUR, Learned, Pool, Setback

#: Seconds of a back-off after the first setback; each further one in a row doubles it, up to LONGEST.
FIRST = 30.0
LONGEST = HOUR
#: An allocation that ends sooner, and not because that was wanted, has ended at once.
BRIEF = 60.0
#: How many waits are remembered.
KEPT = 16
#: What is taken to be the time from running to the first worker's hello, until one has joined.
JOIN = 30.0
#: The least seconds of work that an allocation is asked for, if the jobs are known to be brief; and how many times what it costs
#: to have it come and go.
WORTH = 600.0
TIMES = 12
#: Without a worker by then, an allocation that runs is cancelled.
JOIN_WITHIN = 600.0


def accepted(learned: Learned) -> Learned:
    """The batch system has taken an allocation."""
    return replace(learned, refused=Setback()) if learned.refused.count else learned


def refused(learned: Learned, now: float, words: str) -> Learned:
    """It has refused one, or not answered."""
    return replace(learned, refused=_again(learned.refused, now, words))


def started(learned: Learned, allocation: Allocation) -> Learned:
    """An allocation runs (Effect.START); how long it waited counts only for its first run."""
    if allocation.restarts or allocation.probe is not None:
        return learned
    waited = max(0.0, allocation.started_at - allocation.asked_at)
    return replace(learned, waits=(*learned.waits, waited)[-KEPT:])


def joined(
    learned: Learned, allocation: Allocation, now: float, total: Amounts, programs: tuple[tuple[str, str], ...]
) -> Learned:
    """A worker of an allocation has said hello: what it is, the next ones will be."""
    joins = learned.joins
    if allocation.joined <= 1:
        joins = (*joins, max(0.0, now - allocation.started_at))[-KEPT:]
    each = learned.each if allocation.direct else total
    return replace(learned, joins=joins, each=each, programs=tuple(sorted(programs)), programs_at=now)


def ran(learned: Learned, allocation: Allocation, until: float) -> Learned:
    """A run of it is over and the batch system starts it again (Effect.RESTART); `allocation` as it was before."""
    learned = replace(learned, spent=_spend(learned, allocation, until))
    if allocation.probe is not None:
        return learned
    if until - allocation.started_at < BRIEF or not allocation.joined:
        return replace(learned, brief=_again(learned.brief, until, "the batch system started it again at once"))
    return learned


def ended(learned: Learned, allocation: Allocation) -> Learned:
    """An allocation is over (Effect.CLOSE). Refusals are told by `refused`, not here."""
    learned = replace(learned, spent=_spend(learned, allocation, allocation.ended_at))
    reason = allocation.reason
    if allocation.probe is not None:
        return learned  # what it found is for who asked; workers are asked for as before
    if reason in (Reason.REFUSED, Reason.ORPHAN, Reason.CANCELLED):
        return learned
    ran_for = allocation.ended_at - allocation.started_at if allocation.started_at else 0.0
    if reason is Reason.LEFT and allocation.joined:
        brief = ""
    elif reason is Reason.USELESS:
        brief = "its workers got none of the jobs that waited for them"
    elif not allocation.started_at:
        brief = "it was gone before it began"
    elif not allocation.joined:
        brief = "no worker of it joined"
    else:
        brief = f"it ended after {ran_for:.0f} s" if ran_for < BRIEF else ""
    if brief:
        words = f"{brief}: {allocation.words}" if allocation.words else brief
        return replace(learned, brief=_again(learned.brief, allocation.ended_at, words))
    if learned.brief.count and ran_for >= BRIEF and allocation.started_at >= learned.brief.at:
        return replace(learned, brief=Setback())
    return learned


def reconfigured(learned: Learned) -> Learned:
    """A person has changed the pool: what went wrong may be mended, and its workers may be others. What it has spent stays."""
    return Learned(spent=learned.spent)


def not_later(learned: Learned, now: float) -> Learned:
    """What happened at times that are still to come, because a clock has been set back since, has happened now."""
    spent: dict[int, float] = {}
    for when, amount in learned.spent:
        hour = min(when, int(now // HOUR))
        spent[hour] = spent.get(hour, 0.0) + amount
    refused, brief = (replace(one, at=min(one.at, now)) for one in (learned.refused, learned.brief))
    return replace(
        learned, refused=refused, brief=brief, programs_at=min(learned.programs_at, now), spent=tuple(sorted(spent.items()))
    )  # fmt: skip


def pause(setback: Setback) -> float:
    """Seconds for which a pool is left alone after a setback."""
    return min(LONGEST, FIRST * 2.0 ** min(setback.count - 1, 20)) if setback.count else 0.0


def setbacks(learned: Learned, allocations: Iterable[Allocation], now: float) -> list[tuple[float, Setback, int]]:
    """The setbacks that still hold: until when each keeps the pool from being asked, and how many allocations are there
    now to show whether it is over.

    `allocations`: those of the pool that have not ended. A worker that has lasted since the last one proves that it is.
    """
    found: list[tuple[float, Setback, int]] = []
    here = [one for one in allocations if one.probe is None]
    if learned.refused.count:
        unanswered = sum(one.state in (State.ASKED, State.UNSURE) for one in here)
        found.append((_until(learned.refused, now), learned.refused, unanswered))
    brief = learned.brief
    if brief.count and not any(_proof(one, brief, now) for one in here):
        tried = sum(one.asked_at >= brief.at and one.state is not State.ORPHANED for one in here)
        found.append((_until(brief, now), brief, tried))
    return found


def _until(setback: Setback, now: float) -> float:
    return min(setback.at, now) + pause(setback)


def _proof(one: Allocation, brief: Setback, now: float) -> bool:
    good = one.state is State.RUNNING and one.used and one.started_at >= brief.at
    return good and now - one.started_at >= BRIEF


def usual_wait(learned: Learned) -> float:
    """Seconds that an allocation waits, as a rule; 0 as long as nothing is known: worth a try."""
    return statistics.median(learned.waits) if learned.waits else 0.0


def usual_join(learned: Learned) -> float:
    """Seconds from running to the first worker's hello."""
    return statistics.median(learned.joins) if learned.joins else JOIN


def patience(pool: Pool, learned: Learned) -> float:
    """Seconds for which a worker is kept without a job, at most: as long as another one would take to come, within the
    pool's bounds. Somebody who waits for as long as it costs to replace it never pays more than twice of what was needed.
    """
    return min(pool.idle, max(pool.idle_least, usual_wait(learned)))


def worth(pool: Pool, learned: Learned) -> float:
    """Seconds of work that an allocation should be given: some times what it costs to have it come and go."""
    return min(HOUR, max(WORTH, TIMES * (usual_join(learned) + patience(pool, learned))))


def share(token: str) -> float:
    """What part of its patience an allocation has, 0 to 1: the first ones go early, so that not all wait in vain.

    This is the distribution with which waiting costs least in the worst case (1.58 times what was needed, not 2). It
    follows from the token: the same whenever it is asked.
    """
    return math.log1p((math.e - 1) * zlib.crc32(token.encode()) / 2**32)


def spent(learned: Learned, allocations: Iterable[Allocation], now: float) -> float:
    """Core-seconds of the last 24 hours, by up to an hour of each allocation too much; `allocations`: those of the pool."""
    return _before(learned, now, HOUR) + sum(one.cores * _past(one, now) for one in allocations)


def charge(learned: Learned, allocations: Iterable[Allocation], now: float, least: bool = False) -> float:
    """The most core-seconds that the pool can come to within any 24 hours if it is asked for nothing more.

    What has run counts by whole hours: too much rather than too little, with `least` the other way round.
    """
    total = _before(learned, now, 0.0 if least else HOUR)
    return total + sum(one.cores * min(DAY, _past(one, now) + _left(one, now)) for one in allocations if one.state.live)


def _before(learned: Learned, now: float, slack: float) -> float:
    return sum(amount for hour, amount in learned.spent if hour * HOUR + slack >= now - DAY)


def _past(one: Allocation, now: float) -> float:
    """Seconds of the last 24 hours in which it ran."""
    return max(0.0, now - max(one.started_at, now - DAY)) if one.state.live and one.started_at else 0.0


def _left(one: Allocation, now: float) -> float:
    return max(0.0, one.ends_at - now) if one.started_at else one.walltime


def _again(setback: Setback, now: float, words: str) -> Setback:
    """One more; what fails while the pool is left alone was asked for before, and counts with the last one."""
    if setback.count and now < setback.at + pause(setback):
        return setback
    return Setback(setback.count + 1, now, words[:500])


def _spend(learned: Learned, allocation: Allocation, until: float) -> tuple[tuple[int, float], ...]:
    """The buckets with a run of the allocation in them, without those older than a day."""
    buckets = dict(learned.spent)
    begin = max(allocation.started_at, until - 2 * DAY)
    while allocation.started_at and begin < until:
        hour = int(begin // HOUR)
        end = min(until, (hour + 1) * HOUR)
        buckets[hour] = buckets.get(hour, 0.0) + allocation.cores * (end - begin)
        begin = end
    return tuple(sorted((hour, amount) for hour, amount in buckets.items() if (hour + 1) * HOUR > until - DAY))
