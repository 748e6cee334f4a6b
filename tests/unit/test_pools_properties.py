"""Whatever the facts are: the limits hold, everything asked for fits something, and a second look changes nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cpc.core.resources import GIB, Amounts
from cpc.pools import learning, why
from cpc.pools.allocation import TABLE, Allocation, Event, State, apply
from cpc.pools.facts import HOUR, Decision, Demand, Learned, NodeRecord, Pool, Setback, Worker
from cpc.pools.scale import decide
from cpc.pools.survey import Survey
from tests.helpers.pools import NOW, allocation, demand, pool, worker

PROGRAMS = [None, (), (("mdrun", "2024.1"),), (("mdrun", "2023"), ("namd", "3"))]
AGO = st.sampled_from([0.0, 1.0, 45.0, 130.0, 700.0, 4000.0, 90_000.0])


def mixed(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(fields)


POOLS = st.lists(
    mixed(
        nodes=st.sampled_from([1, 1, 2, 5]), cores=st.sampled_from([16, 16, 8, 1]), gpus=st.sampled_from([0, 2]),
        walltime=st.sampled_from([48 * HOUR, 48 * HOUR, 4 * HOUR, 300.0]),
        max_allocations=st.sampled_from([0, 0, 6, 1]),
        max_cores=st.sampled_from([0, 0, 100, 20]), budget=st.sampled_from([0.0, 0.0, 5000.0, 10.0]),
        backlog=st.sampled_from([40, 40, 40, 2, 0]),
        programs=st.sampled_from(PROGRAMS), project_cores=st.sampled_from([0, 0, 16]), platform=st.sampled_from(["smp", "slurm"]),
        direct=st.booleans(), paused=st.sampled_from([None, None, None, None, "x"]), price=st.sampled_from([0.0, 1.0]),
        labels=st.sampled_from([("big",), ()]), known_nodes=st.sampled_from([0, 1, 8]),
    ),
    min_size=1,
    max_size=3,
)  # fmt: skip
DEMAND = st.lists(
    mixed(
        count=st.sampled_from([1, 2, 5, 17, 300, 0]), cores=st.sampled_from([1, 1, 3, 16, 40]), project=st.integers(1, 2),
        walltime=st.sampled_from([0.0, 60.0, HOUR, 30 * HOUR]), program=st.sampled_from(["", "", "mdrun", "other"]),
        checkpoints=st.booleans(), labels=st.sampled_from([(), (), ("big",)]), waited=AGO, rank=st.integers(-1, 1),
        seconds=st.sampled_from([0.0, 0.0, HOUR, 30.0, 0.01, 99 * HOUR]), before=st.sampled_from([0.0, 0.0, 20.0, HOUR]),
        ran=st.sampled_from([(0, 0.0, 0.0), (7, 5.0, 2.0), (40, 170.0, 95.0), (200, 280.0, 1.0), (16, HOUR, HOUR)]),
    ),
    min_size=1,
    max_size=4,
)  # fmt: skip
ALLOCATIONS = st.lists(
    mixed(
        number=st.integers(1, 3), state=st.sampled_from(State), asked=AGO, started=AGO, joined=st.integers(0, 3),
        nodes=st.integers(1, 3), project=st.integers(0, 2), used=st.booleans(), direct=st.booleans(), alone=AGO,
    ),
    max_size=5,
)  # fmt: skip
WORKERS = st.lists(
    mixed(free=st.integers(0, 16), idle=AGO, left=st.sampled_from([0.0, 100.0, 9000.0]), draining=st.booleans()),
    max_size=5,
)
SETBACK = st.builds(Setback, st.sampled_from([0, 0, 0, 1, 9]), AGO.map(lambda ago: NOW - ago), st.just("words"))
LEARNED = st.builds(
    Learned, refused=SETBACK, brief=SETBACK, waits=st.sampled_from([(), (5.0,), (9000.0, 10.0)]),
    programs=st.sampled_from(PROGRAMS), each=st.sampled_from([None, Amounts(cores=4, memory=GIB)]),
    spent=st.sampled_from([(), ((277, 9e4),)]),
)  # fmt: skip


class World:
    """Facts that were drawn, as `decide` takes them."""

    def __init__(self, draw: st.DataObject) -> None:
        self.pools = [_pool(number, fields) for number, fields in enumerate(draw.draw(POOLS), 1)]
        self.demand = self._demand(draw)
        self.allocations = [_allocation(f"t{n}", fields) for n, fields in enumerate(draw.draw(ALLOCATIONS))]
        self.workers = [_worker(f"t{n}", fields) for n, fields in enumerate(draw.draw(WORKERS))]
        self.learned = {one.number: draw.draw(LEARNED) for one in self.pools}
        self.nodes = [NodeRecord(pool=1, node="n1", failures=draw.draw(st.integers(0, 5)), failed_at=NOW - 9)]

    def _demand(self, draw: st.DataObject) -> list[Demand]:
        classes = {}
        for fields in draw.draw(DEMAND):
            running, longest, half = fields.pop("ran")
            one = demand(**fields, running=running, longest=longest, half=half)
            classes[one.project, repr(one.requirement)] = one
        return list(classes.values())

    def survey(self) -> Survey:
        return Survey(NOW, self.pools, self.demand, self.allocations, self.workers, self.nodes, self.learned)

    def decide(self, now: float = NOW) -> Decision:
        wanted = [_later(one, now - NOW) for one in self.demand]
        return decide(now, self.pools, wanted, self.allocations, self.workers, self.nodes, self.learned)


def _later(one: Demand, after: float) -> Demand:
    """The same jobs still wait, and others still run."""
    ran = after if one.running else 0.0
    return replace(one, waited=one.waited + after, longest=one.longest + ran, half=one.half + ran)


def _pool(number: int, fields: dict[str, Any]) -> Pool:
    each = Amounts(cores=fields.pop("cores"), gpus=fields.pop("gpus"))
    return pool(number, each=each, **fields)


def _allocation(token: str, fields: dict[str, Any]) -> Allocation:
    asked, started, alone = fields.pop("asked"), fields.pop("started"), fields.pop("alone")
    fields["asked_at"] = NOW - asked - started
    if not fields["state"].pending:
        fields |= {
            "started_at": NOW - started,
            "ends_at": NOW - started + 2 * HOUR,
            "alone_at": NOW - alone if alone else 0.0,
        }
        fields["leaving_at"] = NOW - started
    return allocation(token, **fields)


def _worker(token: str, fields: dict[str, Any]) -> Worker:
    idle = NOW - fields["idle"] if fields["free"] == 16 else 0.0
    return worker(
        token, free=fields["free"], idle_since=idle, deadline=NOW + fields["left"], draining=fields["draining"]
    )


@given(st.data())
@settings(max_examples=150)
def test_no_ask_leads_beyond_a_limit(draw: st.DataObject) -> None:
    world = World(draw)
    decision = world.decide()
    for one in world.pools:
        asks = [ask for ask in decision.asks if ask.pool == one.number]
        if not asks:
            continue
        live = [each for each in world.allocations if each.pool == one.number and each.state.live]
        cores = sum(each.cores for each in live) + sum(ask.nodes * ask.each.cores for ask in asks)
        assert one.paused is None
        assert sum(not each.started_at for each in live) + len(asks) <= one.backlog
        assert not one.max_allocations or len(live) + len(asks) <= one.max_allocations
        assert not one.max_cores or cores <= one.max_cores
        for project in {ask.project for ask in asks}:
            mine = sum(each.cores for each in live if each.project == project)
            mine += sum(ask.nodes * ask.each.cores for ask in asks if ask.project == project)
            assert not one.bound or mine <= one.limit(project)
        promised = sum(ask.nodes * ask.each.cores * min(ask.walltime, 24 * HOUR) for ask in asks)
        before = learning.charge(world.learned[one.number], live, NOW)
        assert not one.budget or before + promised <= one.budget * HOUR + 1
        if learning.setbacks(world.learned[one.number], live, NOW):
            assert len(asks) == 1


@given(st.data())
@settings(max_examples=150)
def test_every_ask_fits_a_job_that_waits(draw: st.DataObject) -> None:
    world = World(draw)
    for ask in world.decide().asks:
        one = world.pools[ask.pool - 1]
        known = world.learned[ask.pool].programs
        programs = one.programs if known is None else known
        nodes = 1 if one.platform == "smp" else ask.nodes
        assert any(
            each.exact.need.cores <= ask.each.cores * nodes
            and set(each.requirement.labels) <= set(one.labels)
            and (each.exact.checkpoints or each.exact.walltime <= ask.walltime)
            and (not each.requirement.executable or programs is None or each.requirement.executable in dict(programs))
            and ask.project in (0, each.project)
            and each.count
            for each in world.demand
        )


@given(st.data())
@settings(max_examples=150)
def test_a_second_look_asks_for_nothing_more(draw: st.DataObject) -> None:
    """Once what was asked for is written down, the same facts ask for nothing: it cannot run away."""
    world = World(draw)
    decision = world.decide()
    gone = {stop.token for stop in (*decision.cancels, *decision.leaves, *decision.overdue)}
    world.allocations = [one for one in world.allocations if one.token not in gone]
    world.allocations += [
        Allocation(
            token=f"new{n}", pool=ask.pool, state=State.ASKED, asked_at=NOW, nodes=ask.nodes, each=ask.each,
            walltime=ask.walltime, project=ask.project, direct=ask.direct, asked_for=ask.asked_for,
        )
        for n, ask in enumerate(decision.asks)
    ]  # fmt: skip
    world.workers = [one for one in world.workers if one.token not in gone]
    if not gone:
        assert world.decide().asks == ()


@given(st.data(), st.floats(0, 0.999))
@settings(max_examples=150)
def test_nothing_changes_with_time_alone_before_it_says_so(draw: st.DataObject, part: float) -> None:
    """So a server that decides after events, and at `again_at`, misses nothing."""
    world = World(draw)
    world.workers = [replace(one, deadline=0.0) for one in world.workers]  # they leave at it, which is an event
    first = world.decide()
    if first.asks or first.cancels or first.leaves or first.overdue:
        return
    world.allocations = [replace(one, needed_at=NOW) if one.token in first.needed else one for one in world.allocations]
    later = world.decide(NOW + ((first.again_at or NOW + 24 * HOUR) - NOW) * part)
    assert (later.asks, later.cancels, later.leaves, later.overdue) == ((), (), (), ())


@given(st.data())
@settings(max_examples=150)
def test_nothing_is_both_needed_and_cancelled_and_everything_has_words(draw: st.DataObject) -> None:
    world = World(draw)
    decision = world.decide()
    known = {one.token: one for one in world.allocations}
    over = {one.number for one in world.pools if one.paused is None}
    for stop in decision.cancels:
        one = known[stop.token]
        assert not one.started_at
        assert (
            stop.token not in decision.needed or one.pool not in over or "allowed" in stop.why or "budget" in stop.why
        )
    for stop in decision.leaves:
        assert known[stop.token].state is State.RUNNING
    tokens = [stop.token for stop in (*decision.cancels, *decision.leaves, *decision.overdue)]
    assert len(tokens) == len(set(tokens))
    assert all(stop.why for stop in (*decision.cancels, *decision.leaves, *decision.overdue))
    assert decision.again_at == 0 or decision.again_at > NOW
    survey = world.survey()
    for served in survey.served:
        assert all(note.kind in why.KINDS and note.text for note in why.waiting(survey, served))
        if served.left or not (served.soon or served.coming or served.asked):
            assert why.waiting(survey, served)
    for number in survey.rooms:
        assert all(note.kind in why.KINDS and note.text for note in why.pool(survey, number))
        assert why.pool(survey, number)


@given(st.lists(st.tuples(st.sampled_from(Event), st.floats(0, 5000)), max_size=30), st.booleans())
def test_whatever_happens_to_an_allocation_its_figures_make_sense(
    events: list[tuple[Event, float]], exact: bool
) -> None:
    one, now, learned = allocation(state=State.ASKED, asked_at=NOW), NOW, Learned()
    for event, later in events:
        now += later
        before = one
        one, effects = apply(one, event, now, at=now - 5 if exact else 0.0)
        assert (one.state, effects) == TABLE[before.state, event]
        assert one.token == before.token
        if one.started_at:
            assert NOW - 5 <= one.started_at <= now
            assert one.ends_at == one.started_at + one.walltime
        if one.state is State.ENDED:
            assert one.reason
            assert one.ended_at >= one.started_at
            learned = learning.ended(learned, replace(one, used=exact))
        assert learning.charge(learned, [one], now) >= 0
        assert learning.spent(learned, [one], now) >= 0
