"""Words: why a pool is asked for nothing, which nodes are left out, and why a class that waits gets no allocation."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable

from cpc.core.resources import show_span
from cpc.pools import nodes
from cpc.pools.facts import Note, Pool
from cpc.pools.room import Denial, Room
from cpc.pools.survey import Served, Survey

#: Of notes, stable. The first ones are about a pool, those from `served` on about a class that waits.
KINDS = (
    "paused", "backing-off", "trying", "unknown", "part", "backlog", "allocations", "cores", "project", "budget", "unfit",
    "nodes", "asked", "idle", "waiting", "stuck", "served", "coming", "no-pool",
)  # fmt: skip

#: How many nodes are named before the rest is only counted.
NAMED = 5


def notes(survey: Survey) -> tuple[Note, ...]:
    """What stands in the way, for all pools: the same sentence once. Nothing about pools that need nothing."""
    found: dict[Note, None] = {}
    for number, room in survey.rooms.items():
        for served in survey.served:
            for denial in served.denials.get(number, ()):
                if denial.kind != "unfit":
                    found[_said(room, denial)] = None
        for note in _nodes(survey, room):
            found[note] = None
    for served in survey.served:
        unfit = sum(denials[0].kind == "unfit" for denials in served.denials.values())
        if served.left and unfit == len(survey.rooms):
            found[_nobody(survey, served)] = None
    return tuple(found)


def pool(survey: Survey, number: int) -> tuple[Note, ...]:
    """Why a pool is asked for what it is asked for, or for nothing (`cpcc why POOL`); the most important first."""
    room = survey.rooms[number]
    found: dict[Note, None] = {}
    if room.pool.paused is not None:
        said = f"it is paused: {room.pool.paused}" if room.pool.paused else "it is paused"
        found[_said(room, Denial("paused", said, f"cpcc pool resume {room.pool.name}"))] = None
    if room.backs_off is not None:
        found[_said(room, room.backs_off)] = None
    for served in survey.served:
        for denial in served.denials.get(number, ()):
            text = denial.words
            if denial.kind == "unfit":
                text = f"{_what(served)} cannot run there: {denial.words}"
            found[_said(room, Denial(denial.kind, text, denial.step))] = None
    asked = sum(served.asked.get(number, 0) for served in survey.served)
    if asked:
        found[
            Note(kind="asked", pool=number, text=f"{room.pool.name}: {asked} more allocation(s) are asked for now")
        ] = None
    for note in _nodes(survey, room):
        found[note] = None
    if not found:
        found[Note(kind="idle", pool=number, text=f"{room.pool.name}: {_rest(survey, room)}")] = None
    return tuple(found)


def queue(pool: Pool, waits: Iterable[tuple[str, bool]]) -> tuple[Note, ...]:
    """Why allocations of a pool have not started: `waits` has (the batch system's words, whether they are for what does not
    come by itself) of each. The latter first."""
    found = []
    said = Counter((words, stuck) for words, stuck in waits if words)
    for (words, stuck), count in sorted(said.items(), key=lambda one: (not one[0][1], -one[1], one[0][0])):
        text = f"{pool.name}: {count} allocation(s) wait in {pool.scheduler}: {words}"
        if stuck:
            text += ", which does not change by itself"
        step = f"cpcc doctor {pool.name}; cpcc pool set {pool.name}" if stuck else ""
        found.append(Note(kind="stuck" if stuck else "waiting", pool=pool.number, text=text, step=step))
    return tuple(found)


def waiting(survey: Survey, served: Served) -> tuple[Note, ...]:
    """What pools do for a class that waits, for `why JOB`: what is on its way, or for each pool why not."""
    found: list[Note] = []
    for number, jobs in served.coming.items():
        if number in survey.rooms:
            found.append(_coming(survey, survey.rooms[number], jobs))
    for number, count in served.asked.items():
        name = survey.rooms[number].pool.name
        found.append(Note(kind="asked", pool=number, text=f"pool {name} is asked for {count} allocation(s) now"))
    if served.soon and not found:
        text = f"{served.soon} of {served.demand.count} such job(s) are for workers that are there"
        found.append(Note(kind="served", text=text, step="wait"))
    if served.left or not found:
        for number, denials in served.denials.items():
            room = survey.rooms[number]
            found += [
                Note(kind=denial.kind, pool=number, text=f"pool {room.pool.name}: {denial.words}", step=denial.step)
                for denial in denials
            ]
    if not survey.rooms:
        found.append(Note(kind="no-pool", text="there are no pools", step="cpcc pool add NAME SCHEDULER"))
    return tuple(found)


def _coming(survey: Survey, room: Room, jobs: int) -> Note:
    pending = [one for one in room.allocations if one.state.pending]
    if not pending:
        text = f"pool {room.pool.name}: an allocation for {jobs} such job(s) has started; its workers are about to join"
        return Note(kind="coming", pool=room.pool.number, text=text, step="wait")
    oldest = survey.now - min(one.asked_at for one in pending)
    text = f"pool {room.pool.name}: {len(pending)} allocation(s) wait in {room.pool.scheduler}, one for {show_span(oldest)}"
    if room.learned.waits:
        text += f"; the last ones waited {show_span(statistics.median(room.learned.waits))}"
    return Note(kind="coming", pool=room.pool.number, text=text, step="wait, or add another pool")


def _rest(survey: Survey, room: Room) -> str:
    """Why there is nothing to ask for."""
    if not survey.served:
        return "no job waits"
    if any(room.pool.number in served.coming for served in survey.served):
        return f"{room.pending} allocation(s) of it are to start, which is enough for what waits"
    if all(not served.left for served in survey.served):
        return "workers that are there, and other pools, are enough for what waits"
    return "nothing that waits is for it"


def _what(served: Served) -> str:
    need = served.demand.requirement
    return f"{served.demand.count} waiting job(s) of {need.executable or 'commands'}, {need.cores} core(s) each,"


def _nodes(survey: Survey, room: Room) -> list[Note]:
    left_out = survey.excluded[room.pool.number]
    found = [
        Note(
            kind="nodes", pool=room.pool.number,
            text=f"{room.pool.name}: node {record.node} is left out for {show_span(nodes.until(record) - survey.now)} more: "
            f"{record.failures} workers in a row failed there, the last one: {record.words}",
            step=f"mend it, then cpcc resume {record.node}",
        )
        for record in left_out[:NAMED]
    ]  # fmt: skip
    if len(left_out) > NAMED:
        text = f"{room.pool.name}: {len(left_out) - NAMED} more nodes are left out"
        found.append(Note(kind="nodes", pool=room.pool.number, text=text, step=f"cpcc nodes {room.pool.name}"))
    return found


def _nobody(survey: Survey, served: Served) -> Note:
    if not survey.rooms:
        return Note(kind="no-pool", text="there are no pools", step="cpcc pool add NAME SCHEDULER")
    misses = sorted(
        ((len(found), survey.rooms[number].pool.name, found) for number, found in served.denials.items()),
        key=lambda miss: miss[:2],
    )
    _, name, found = misses[0]
    words = "; ".join(denial.words for denial in found)
    text = f"no pool could ever run {_what(served)} the nearest is {name}: {words}"
    return Note(kind="unfit", text=text, step="change the job, or add such a pool")


def _said(room: Room, denial: Denial) -> Note:
    return Note(kind=denial.kind, pool=room.pool.number, text=f"{room.pool.name}: {denial.words}", step=denial.step)
