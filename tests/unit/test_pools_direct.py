"""Direct pools: an allocation is asked for one job, and has a job of that size, in whatever order the workers come."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cpc.core import ids
from cpc.core.lease import Lease
from cpc.core.resources import GIB, Amounts
from cpc.core.spec import JobSpec
from cpc.pools.allocation import State
from cpc.pools.facts import Pool
from cpc.queue import why
from cpc.queue.lent import Lent
from cpc.queue.requirement import Size, of
from cpc.queue.session import Session
from cpc.queue.why import Facts
from cpc.server import closing
from cpc.server.federation.placing import refusal
from cpc.store import jobs as jobs_table
from cpc.store import projects
from cpc.store.jobs import Range
from cpc.store.transaction import Tx
from cpc.wire.messages import Task
from tests.helpers.benches import Bench
from tests.helpers.pool_world import PoolWorld
from tests.helpers.pools import NOW, allocation, deciding, demand, pool, worker
from tests.helpers.stores import sqlite_url

LARGE = Amounts(cores=8, gpus=2, memory=64 * GIB, other={"lic": 2})


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    made = PoolWorld(sqlite_url(tmp_path), monkeypatch)
    yield made
    made.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def size(**fields: Any) -> Size:
    return of(JobSpec(argv=("true",), **fields)).size


def direct(bench: Bench, asked_for: Size, name: str = "w", total: Amounts = LARGE) -> Session:
    """A worker whose allocation was asked for a job of this size; it has taken its first turn."""
    session = bench.worker(name, wants=False, total=total, time_left=86400.0)
    bench.do(lambda tx: bench.queue.index.change(session, asked_for=asked_for))
    bench.turn(session)
    return session


def jobs(bench: Bench, session: Session) -> list[int]:
    return [task.lease.job for task in bench.tasks(session)]


# --- all of it ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_in_whatever_order_workers_come_there_is_one_allocation_for_each_job(world: PoolWorld, seed: int) -> None:
    chance = random.Random(seed)
    world.boot = lambda: chance.uniform(1.0, 30.0)
    world.seconds_per_job = chance.choice((0.1, 20.0))
    world.pool(direct=True, cores=4, max_allocations=0, backlog=30)
    sizes = [1 + number % 3 for number in range(9)]
    for cores in sizes:
        world.submit(need=Amounts(cores=cores))
    world.settle()
    assert Counter(row.facts.cores for row in world.rows()) == Counter(sizes)
    assert all(granted == has for granted, has in world.ran)
    assert world.in_vain == []


def another(world: PoolWorld) -> int:
    return int(world.do(lambda tx: projects.add(tx, "q", 1, 0, 1.0)).id)


def test_projects_that_share_a_pool_have_one_allocation_for_each_job_too(world: PoolWorld) -> None:
    """Whichever worker comes first: those of the project that has used more are not given to the other one's small jobs."""
    world.pool(direct=True, cores=4, max_allocations=0, backlog=30)
    other = another(world)
    world.do(lambda tx: world.queue.index.shares.charge(world.project, 1e6, world.queue.now))
    starts = iter((1.0, 1.0, 30.0, 30.0))
    world.boot = lambda: next(starts)
    for _ in range(2):
        world.submit(need=Amounts(cores=3))
    for _ in range(2):
        world.submit(project=other)
    world.settle()
    assert Counter(world.ran) == {(3, 3): 2, (1, 1): 2}
    assert len(world.rows()) == 4


def test_where_a_pool_gives_few_allocations_projects_have_them_in_turn(world: PoolWorld) -> None:
    """Those of a project that was there long before, and has larger jobs, are not all asked for first."""
    world.pool(direct=True, cores=4, max_allocations=1)
    world.submit(10, need=Amounts(cores=3))
    world.until(lambda: len(world.ran) == 3)
    world.submit(10, project=another(world))
    world.until(lambda: len(world.ran) == 8)
    assert Counter(world.ran[4:]) == {(1, 1): 4}, "until it has used as much"
    world.until(lambda: len(world.ran) == 16)
    assert set(world.ran[8:]) == {(1, 1), (3, 3)}
    assert all(granted == has for granted, has in world.ran)


def test_a_server_that_was_restarted_knows_what_each_worker_is_for(world: PoolWorld) -> None:
    world.pool(direct=True, cores=4, max_allocations=0, backlog=30)
    for cores in (1, 3, 1, 3):
        world.submit(need=Amounts(cores=cores))
    world.until(lambda: len(world.system.entries) == 4)
    world.kill()
    world.until(lambda: len(world.workers) == 4)
    world.advance(10.0)
    world.workers = dict(sorted(world.workers.items(), key=lambda item: -item[1].entry.wanted.cores))
    world.start()
    world.settle()
    assert Counter(world.ran) == {(1, 1): 2, (3, 3): 2}
    assert len(world.rows()) == 4


def test_a_worker_that_has_had_its_job_is_given_no_other_when_that_is_cancelled(world: PoolWorld) -> None:
    world.pool(direct=True, cores=4, max_allocations=1)
    first, _ = world.submit(), world.submit()
    world.until(lambda: world.ran)

    def unit(tx: Tx) -> None:
        """Before the worker itself has said that it takes no more."""
        closing.cancel(world.queue, tx, first, Range.of(first, False), "", "user:test")
        world.queue.round(tx)

    world.do(unit)
    world.settle()
    assert (len(world.ran), len(world.rows()), world.in_vain) == (2, 2, [])


def test_what_has_the_same_shape_is_one_request_though_it_is_for_jobs_of_other_sizes(world: PoolWorld) -> None:
    world.system.most = 100
    world.pool(direct=True, cores=4, max_allocations=0, backlog=30)
    for walltime in (20_000.0, 40_000.0):  # longer than any allocation is
        world.submit(need=Amounts(cores=2), walltime=walltime, checkpoint=("*.cpt",))
    world.until(lambda: len(world.workers) == 2)
    assert world.system.calls.count("submit") == 1
    sizes = [row.facts.asked_for.walltime for row in world.rows() if row.facts.asked_for is not None]
    assert sizes == [of(JobSpec(argv=("x",), walltime=each)).walltime for each in (20_000.0, 40_000.0)]
    world.settle()


# --- matching -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"need": Amounts(cores=8)},
        {"need": Amounts(cores=1, gpus=1)},
        {"need": Amounts(cores=1, memory=32 * GIB)},
        {"need": Amounts(cores=1, other={"lic": 1})},
        {"need": Amounts(cores=1), "walltime": 9000.0},
    ],
    ids=["cores", "gpus", "memory", "other", "walltime"],
)
def test_a_worker_takes_first_what_its_allocation_was_asked_for(bench: Bench, fields: dict[str, Any]) -> None:
    bench.submit("small", array=5)
    wanted = bench.submit("wanted", **fields)
    bench.submit("another", need=Amounts(cores=5, gpus=2))
    assert jobs(bench, direct(bench, size(**fields))) == [wanted]
    bench.check()


def test_jobs_of_one_size_go_in_the_order_of_submission_whatever_they_run(bench: Bench) -> None:
    first = bench.submit("a", need=Amounts(cores=2))
    bench.submit("b", need=Amounts(cores=2), checkpoint=("x",))
    worker = bench.worker(wants=False, programs=(("g", "1"),), total=LARGE)
    bench.submit("-v", executable="g", need=Amounts(cores=2))
    bench.do(lambda tx: bench.queue.index.change(worker, asked_for=size(executable="g", need=Amounts(cores=2))))
    bench.turn(worker)
    assert jobs(bench, worker) == [first]


def test_where_no_job_of_its_size_waits_the_order_is_what_it_is_for_all(bench: Bench) -> None:
    first = bench.submit("first")
    bench.submit("second", need=Amounts(cores=4))
    assert jobs(bench, direct(bench, size(need=Amounts(cores=8)))) == [first]


def test_a_job_of_its_size_that_does_not_fit_blocks_nothing(bench: Bench) -> None:
    # The same class, and a little more memory than the worker has.
    most = Amounts(cores=2, memory=1000 << 20)
    bench.submit("large", need=Amounts(cores=2, memory=1001 << 20))
    small = bench.submit("small")
    assert jobs(bench, direct(bench, size(need=most), total=most)) == [small]


def test_priority_comes_before_size(bench: Bench) -> None:
    bench.submit("wanted", need=Amounts(cores=8))
    urgent = bench.submit("urgent", priority=1)
    assert jobs(bench, direct(bench, size(need=Amounts(cores=8)))) == [urgent]


def test_the_size_asked_for_comes_before_the_shares_of_projects_which_decide_among_jobs_of_it(bench: Bench) -> None:
    other, third = (bench.do(lambda tx, name=name: projects.add(tx, name, 1, 0, 1.0)).id for name in "qr")
    for project, used in ((bench.project, 1e6), (third, 1e3)):
        bench.do(lambda tx, it=project, used=used: bench.queue.index.shares.charge(it, used, bench.queue.now))
    bench.submit("small", project=other)
    first = bench.submit("wanted", need=Amounts(cores=8))
    theirs = bench.submit("wanted too", project=third, need=Amounts(cores=8))
    assert jobs(bench, direct(bench, size(need=Amounts(cores=8)))) == [theirs]
    assert jobs(bench, direct(bench, size(need=Amounts(cores=8)), "w2")) == [first]


def test_a_reserved_job_comes_before_size(bench: Bench) -> None:
    long_ago = bench.submit("small")
    bench.submit("wanted", need=Amounts(cores=8))
    session = bench.worker(wants=False, total=LARGE)
    bench.do(lambda tx: bench.queue.index.change(session, asked_for=size(need=Amounts(cores=8)), reserved=long_ago))
    bench.turn(session)
    assert jobs(bench, session) == [long_ago]
    assert session.reserved == 0


def test_it_takes_one_job_and_never_another(bench: Bench) -> None:
    array = bench.submit(array=3)
    session = direct(bench, size())
    assert jobs(bench, session) == [array]
    later = bench.submit("later")
    assert jobs(bench, session) == [], "though it has room, and has not said yet that it takes no more"
    bench.report(session, session.leases[array])
    assert jobs(bench, session) == []
    assert not session.hungry
    bench.check()
    assert jobs(bench, bench.worker("another", cores=8)) == [array + 1, array + 2, later]


def test_what_was_rolled_back_it_has_not_had(bench: Bench) -> None:
    session = direct(bench, size())
    lent, journal = Lent(Lease(1 << 52, 1, 1, "b"), Amounts(cores=1)), bench.queue.journal

    def unit(tx: Tx) -> tuple[bool, bool]:
        mark = journal.mark()
        bench.queue.index.lend(session, lent)
        had = session.sated
        journal.undo_to(mark)
        return had, session.sated

    assert bench.do(unit) == (True, False)
    assert session.hungry


def test_a_job_of_another_server_is_its_only_one_too(bench: Bench) -> None:
    session = bench.worker(wants=False, total=LARGE, paths=True)
    bench.do(lambda tx: bench.queue.index.change(session, asked_for=size()))
    bench.turn(session)
    task = Task(Lease(1 << 52, 1, 1, "b"), 1, Amounts(cores=1), ("true",))
    assert (refusal(session, task, None, False), session.spare.cores) == ("", 8)
    bench.do(lambda tx: bench.queue.index.lend(session, Lent(task.lease, task.granted)))
    assert (refusal(session, task, None, False), session.spare.cores) == ("its worker takes no jobs now", 0)


def test_no_room_is_reserved_at_a_worker_that_takes_no_more(bench: Bench) -> None:
    session = direct(bench, size())
    bench.submit("its own")
    stuck = bench.submit("stuck", need=Amounts(cores=8))
    for _ in range(700):
        bench.clock.seconds += 1
        bench.queue.lease_clock.tick(bench.clock.monotonic())
    bench.do(bench.queue.reserve)
    assert session.reserved == 0
    bench.do(lambda tx: bench.queue.index.change(session, reserved=stuck))
    bench.do(bench.queue.reserve)
    assert session.reserved == 0, "nor is it kept there"


# --- asking ---------------------------------------------------------------------------------------------------------------


def pools(**fields: Any) -> list[Pool]:
    return [pool(direct=True, max_allocations=0, backlog=30, **fields)]


def asked_for(token: str, cores: int, state: State = State.WAITING, **fields: Any) -> Any:
    """An allocation of so many cores, asked for one job."""
    wanted = demand(cores=cores).requirement.size
    return allocation(
        token, state=state, direct=True, each=Amounts(cores=cores), asked_for=wanted, **fields
    )  # fmt: skip


def test_an_ask_says_what_job_it_is_for() -> None:
    small, large = demand(2, waited=9.0), demand(cores=4)
    assert [ask.asked_for for ask in deciding(pools(), [small, large]).asks] == [
        small.requirement.size, small.requirement.size, large.requirement.size,
    ]  # fmt: skip
    assert deciding([pool()], [small]).asks[0].asked_for is None


@pytest.mark.parametrize("where", ["coming", "late", "starting", "idle"])
def test_no_small_job_is_counted_on_what_was_asked_for_a_large_one_that_waits(where: str) -> None:
    """Else another one would be asked for the large one, though its own comes."""
    state = State.RUNNING if where in ("starting", "idle") else State.WAITING
    at = {"asked_at": NOW - 9000} if where == "late" else {}
    joined = 1 if where == "idle" else 0
    ones = [asked_for("t1", 4, state, joined=joined, **at), asked_for("t2", 1, state, joined=joined, **at)]
    idle = [worker("t1", cores=4, used=False, number=1), worker("t2", cores=1, used=False, number=2)]
    wanted = [demand(waited=60.0), demand(cores=4)]
    decision = deciding(pools(), wanted, ones, idle if joined else ())
    assert decision.asks == ()
    assert decision.needed == (frozenset() if joined else {"t1", "t2"})
    decision = deciding(pools(), wanted, ones[:1], idle[:1] if joined else ())
    assert [ask.each.cores for ask in decision.asks] == [1]


def test_what_matters_more_is_counted_on_whatever_comes() -> None:
    urgent, large = demand(rank=-1), demand(cores=4)
    decision = deciding(pools(), [urgent, large], [asked_for("t1", 4)])
    assert [ask.each.cores for ask in decision.asks] == [4], "as the queue gives the first worker to it"


def test_a_job_is_counted_on_an_allocation_of_another_size_that_nothing_else_waits_for() -> None:
    decision = deciding(pools(), [demand(2, waited=9.0), demand(cores=4)], [asked_for("t1", 4), asked_for("t2", 4)])
    assert decision.needed == {"t1", "t2"}
    assert [ask.each.cores for ask in decision.asks] == [1]


def test_of_two_it_is_counted_on_the_one_of_its_size() -> None:
    """So the larger one, which nothing waits for, is the one that is cancelled."""
    decision = deciding(pools(), [demand()], [asked_for("t1", 4), asked_for("t2", 1)])
    assert (decision.asks, decision.needed) == ((), {"t2"})


def test_why_says_that_a_worker_has_had_its_job(bench: Bench) -> None:
    bench.submit("its own")
    direct(bench, size())
    job = bench.submit("next")

    def unit(tx: Tx) -> list[str]:
        row = jobs_table.get(tx, job)
        assert row is not None
        queue = bench.queue
        facts = Facts(
            job, row.state, row.project, queue.index.requirements[row.requirement], row.requirement, row.key,
            queue.exact(tx, ids.array(job)), 0,
        )  # fmt: skip
        return [reason.text for reason in why.waiting(queue.index, facts, queue.now)]

    assert bench.do(unit)[1:] == ["worker w: it takes one job only, and has had that"]
