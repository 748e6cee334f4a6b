"""A part first: as long as nobody knows how long jobs of a class take, a pool that starts soon is not asked for all of it.

Brief jobs would be over before the last worker of them has come. So what is asked for is what would be worth its start if
the jobs ended now, and grows as they run: the rest is asked for when they have run for LONG, or by what is known when one
has ended. It follows from what runs, which is written down; a server that was restarted goes on with it.
"""

from __future__ import annotations

from cpc.core.resources import show_span
from cpc.pools import learning
from cpc.pools.facts import LOOK, Demand
from cpc.pools.room import Denial, Room

#: A pool where allocations wait for longer is asked for all at once: a second round would cost their wait once more. So is one
#: where the first has waited for so long in vain.
SOON = 120.0
#: A job that has run for so long without an end is long.
LONG = 300.0
#: Before one has run for longer, jobs are taken to last so long.
GUESS = 90.0
#: So long after a time that decides something it has surely come, however seconds are rounded.
BEYOND = 0.001
#: A few nodes are asked for at once, whatever they are for.
LEAST = 4


def applies(room: Room, demand: Demand) -> bool:
    """Whether the pool is to be asked for a part only. Direct ones have one job each: nothing comes too late for the others."""
    if room.pool.direct or demand.seconds or _proven(demand) >= LONG:
        return False
    return learning.usual_wait(room.learned) < SOON and (demand.running > 0 or room.longest < SOON)


def most(demand: Demand, placed: int, jobs: int, nodes: int, worth: float) -> int:
    """How many allocations are enough for now.

    `placed`: how many of the waiting jobs have a place already; `jobs`, `nodes`: of one allocation; `worth`: seconds of work
    that it should be given.
    """
    total = demand.running + demand.count
    part = total * max(GUESS, _proven(demand)) / worth
    least = jobs * max(1, LEAST // nodes)
    return max(0, -int(-(max(part, least) - demand.running - placed) // jobs))


def again(demand: Demand) -> float:
    """Seconds until jobs that go on may show more of how long they take; 0: none runs."""
    ran = demand.half if demand.seconds else demand.longest
    return LOOK - ran % LOOK + BEYOND if demand.running else 0.0


def denial() -> Denial:
    """Why it is not asked for more."""
    words = (
        "it is asked for a part until it is known how long such jobs take: for the rest when the first has ended, or when "
        f"it has run for {show_span(LONG)}"
    )
    return Denial("part", words, "wait")


def _proven(demand: Demand) -> float:
    """Seconds that such jobs take at least: as earlier ones did, or as one has run already."""
    return max(demand.before, demand.longest // LOOK * LOOK)
