"""Pools are asked for what waits, and whatever happens to the server or its batch system, nothing is lost or left behind."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from cpc.core import ids
from cpc.core.allocation import SeenOutcome, SeenState, Wanted
from cpc.core.errors import BadInput, Conflict, NotFound, TurnedAway, Unavailable
from cpc.core.pool_views import PoolSettings
from cpc.core.resources import Amounts
from cpc.pools import learning, nodes
from cpc.pools.allocation import Allocation, Reason, State
from cpc.pools.facts import DAY, HOUR, Learned
from cpc.queue.job import State as JobState
from cpc.queue.why import Because, Facts
from cpc.server import joining
from cpc.server.bundles import RESTARTS
from cpc.server.principal import SERVER, Call
from cpc.store import allocations, bundles, jobs, pools
from cpc.store.transaction import Tx
from cpc.wire.identity import Name, Role, fingerprint_of
from tests.helpers.pool_world import PoolWorld
from tests.helpers.stores import sqlite_url


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    made = PoolWorld(sqlite_url(tmp_path), monkeypatch)
    yield made
    made.close()


def all_done(world: PoolWorld) -> bool:
    return world.unfinished() == 0 and not world.alive()


def settle(world: PoolWorld, within: float = 7200.0) -> None:
    """Until all jobs are done and nothing is left in the batch system; then memory and disk agree."""
    world.until(lambda: world.live and all_done(world), within)
    world.check()
    assert world.system.alive() == []


def test_nothing_is_asked_where_nothing_waits(world: PoolWorld) -> None:
    world.pool()
    world.advance(600.0)
    assert "submit" not in world.system.calls


def test_without_pools_no_timer_is_set(world: PoolWorld) -> None:
    world.submit(3)
    world.advance(10.0)
    assert [call for call in world.reactor.getDelayedCalls() if call.owner is world.host] == []


def test_an_empty_pool_grows_to_its_limit_and_shrinks_to_zero(world: PoolWorld) -> None:
    world.pool()
    world.submit(40)
    world.until(lambda: len(world.workers) == 3)
    settle(world)
    assert len(world.rows()) <= 4
    assert {row.facts.reason for row in world.rows()} == {Reason.LEFT}
    assert all(row.facts.used and row.facts.joined == 1 for row in world.rows())
    assert world.events("allocation.asked") == world.events("allocation.ended") == len(world.rows())


def test_what_is_asked_is_on_disk_before_the_batch_system_hears_of_it(world: PoolWorld) -> None:
    world.pool()
    seen: list[State] = []
    take = world.system.take

    def watched(wanted: Wanted) -> str:
        row = world.happening.book.live[wanted.token]
        seen.append(row.facts.state)
        assert {one.token for one in world.rows()} >= {wanted.token}
        return take(wanted)

    world.system.take = watched  # type: ignore[method-assign]
    world.submit()
    settle(world)
    assert set(seen) == {State.ASKED}


@pytest.mark.parametrize("what", ["silent", "rubbish"])
def test_a_lost_answer_is_settled_by_the_token(world: PoolWorld, what: str) -> None:
    world.pool()
    world.system.trouble.append(("submit", what))
    world.submit(4)
    settle(world)
    assert all(
        len([one for one in world.system.entries.values() if one.wanted.token == row.token]) == 1
        for row in world.rows()
    )
    assert world.rows()[0].facts.reason is Reason.LEFT, "the one whose answer was lost has worked"
    assert world.turned_away == 0


def test_a_submission_that_never_arrived_is_given_up_and_another_is_made(world: PoolWorld) -> None:
    world.pool()
    world.system.trouble.append(("submit", "lost"))
    world.submit(4)
    settle(world)
    first = world.rows()[0]
    assert first.facts.reason is Reason.REFUSED
    assert first.facts.words == "the submission got lost"
    assert first.native == ""


@pytest.mark.parametrize("what", ["no", "limit", "down"])
def test_a_refusal_is_kept_in_words_and_the_pool_is_left_alone_for_a_while(world: PoolWorld, what: str) -> None:
    world.pool(max_allocations=1)
    world.system.trouble.append(("submit", what))
    world.submit(2)
    world.until(lambda: world.rows() and world.rows()[0].facts.state is State.ENDED)
    assert world.rows()[0].facts.reason is Reason.REFUSED
    assert world.finish(world.pools.get(SERVER, "hpc")).state in ("backing-off", "unreachable")
    calls = world.system.calls.count("submit")
    world.advance(20.0)
    assert world.system.calls.count("submit") == calls
    settle(world)


MOMENTS = ("asked", "taken", "answered", "waiting", "running", "joined", "working", "leaving")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_server_that_is_killed_at_any_moment_finds_everything_again(world: PoolWorld, moment: str) -> None:
    world.pool(max_allocations=2, idle=30.0)
    if moment == "taken":
        world.system.take = _killing(world, world.system.take, after=True)  # type: ignore[method-assign]
    if moment == "asked":
        world.system.take = _killing(world, world.system.take, after=False)  # type: ignore[method-assign]
    world.submit(12)
    seen = {
        "answered": lambda: any(row.native for row in world.alive()),
        "waiting": lambda: any(row.facts.state is State.WAITING for row in world.alive()),
        "running": lambda: any(row.facts.state is State.RUNNING for row in world.alive()),
        "joined": lambda: any(row.facts.joined for row in world.alive()),
        "working": lambda: world.unfinished() < 8,
        "leaving": lambda: any(row.facts.state is State.LEAVING for row in world.alive()),
    }.get(moment)
    if seen is not None:
        world.until(seen)
        world.kill()
    else:
        world.until(lambda: not world.live)
    world.advance(7.0)
    world.start()
    settle(world)
    tokens = [one.wanted.token for one in world.system.entries.values()]
    assert len(tokens) == len(set(tokens)), "nothing was asked for twice under one token"
    assert set(tokens) <= {row.token for row in world.rows()}


def _killing(world: PoolWorld, take: Callable[[Wanted], str], after: bool) -> Callable[[Wanted], str]:
    def killed(wanted: Wanted) -> str:
        world.system.take = take  # type: ignore[method-assign]
        native = take(wanted) if after else ""
        world.kill()
        raise Unavailable("nobody hears this any more") if not after else _Gone(native)

    return killed


class _Gone(Exception):
    """The process that would have heard the answer is dead."""


def test_what_a_lost_life_has_asked_for_is_cancelled(world: PoolWorld) -> None:
    world.pool()
    prefix = world.happening.prefix(next(iter(world.keeper.book.pools)))
    world.submit(1)
    world.until(lambda: world.workers)
    entry = next(iter(world.system.entries.values()))
    world.system.take(replace(entry.wanted, token=f"{prefix}9r999"))
    stranger = world.system.take(replace(entry.wanted, token="somebody-else"))
    world.keeper.hands[next(iter(world.keeper.hands))].look(search=True)
    world.until(lambda: world.unfinished() == 0)
    world.until(lambda: not world.alive())
    assert world.system.entries["2"].outcome is SeenOutcome.CANCELLED
    assert world.system.entries[stranger].outcome is not SeenOutcome.CANCELLED, "it is not ours"
    assert world.events("allocation.orphaned") == 1


def test_a_second_one_with_the_same_token_is_cancelled(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    world.submit(1)
    world.until(lambda: world.workers)
    entry = next(iter(world.system.entries.values()))
    second = world.system.take(entry.wanted)
    world.keeper.hands[next(iter(world.keeper.hands))].look(search=True)
    world.until(lambda: world.system.entries[second].state is SeenState.ENDED)
    assert entry.alive
    settle(world)


def test_credentials_end_with_the_allocation(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    world.submit(1)
    world.until(lambda: world.workers)
    worker = next(iter(world.workers.values()))
    bundle = worker.bundle
    assert bundle.role == "allocation"
    assert bundle.pool == "hpc"
    settle(world)
    key = fingerprint_of(bundle.certificate.encode())
    with pytest.raises(TurnedAway, match="revoked"):
        world.do(lambda tx: world.bundles.admit(tx, bundle.name, key, "another"))
    assert world.bundles.refusal(Name(bundle.server, Role.BUNDLE, bundle.name), key)
    world.advance(2 * 3600.0)
    world.submit(1)
    settle(world)
    assert not world.bundles.refusal(Name(bundle.server, Role.BUNDLE, bundle.name), key), "memory is bounded"
    with pytest.raises(TurnedAway, match="revoked"):
        world.do(lambda tx: world.bundles.admit(tx, bundle.name, key, "another"))
    with pytest.raises(TurnedAway, match="revoked"):
        world.do(lambda tx: joining.worker(tx, worker.name))


def test_a_bundle_enrols_no_more_workers_than_its_nodes_explain(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    world.submit(1)
    world.until(lambda: any(worker.session for worker in world.workers.values()))
    bundle = next(iter(world.workers.values())).bundle
    key = fingerprint_of(bundle.certificate.encode())

    def enrol(name: str) -> None:
        world.do(lambda tx: joining.enrolled(tx, name, name, world.bundles.admit(tx, bundle.name, key, name)))

    for number in range(RESTARTS):
        enrol(f"copy {number}")
    enrol("copy 0")  # the same key again is no further use
    with pytest.raises(TurnedAway, match="more than its nodes explain"):
        enrol("one too many")


def test_a_job_that_is_started_again_by_the_batch_system_is_the_same_allocation(world: PoolWorld) -> None:
    world.pool(max_allocations=1, idle=30.0)
    world.submit(20)
    world.until(lambda: world.unfinished() < 18)
    entry = world.system.alive()[0]
    world.system.requeue(entry)
    world.until(lambda: any(row.facts.restarts for row in world.alive()))
    settle(world)
    assert world.rows()[0].facts.restarts == 1


def test_restarts_that_nobody_saw_are_one_new_run(world: PoolWorld) -> None:
    world.pool(max_allocations=1, idle=30.0)
    world.submit(200)
    world.until(lambda: world.unfinished() < 198)
    entry = world.system.alive()[0]
    world.kill()
    for _ in range(4):
        world.system.requeue(entry)
        world.advance(300.0)
    world.start()
    world.until(lambda: any(row.facts.restarts for row in world.alive()))
    started = world.rows()[0].facts.started_at
    world.advance(200.0)
    assert (world.rows()[0].facts.restarts, world.rows()[0].facts.started_at) == (4, started)
    assert not world.keeper.book.nodes, "no node has failed"
    settle(world)


def test_a_dead_node_costs_no_job_and_blames_none(world: PoolWorld) -> None:
    world.pool(idle=30.0)
    job = world.submit(40)
    world.until(lambda: world.unfinished() < 35)
    node = world.system.alive()[0].node
    world.system.kill_node(node)
    settle(world)
    assert any(row.facts.reason is Reason.NODE for row in world.rows())
    assert world.state(job) is JobState.SUCCEEDED


def test_a_node_on_which_everything_ends_at_once_is_left_out_and_named(world: PoolWorld) -> None:
    world.system.nodes = ("bad", "good", "fair", "best")
    world.poisonous = {"bad"}
    world.pool(max_allocations=4, idle=3000.0, cores=4)
    for _ in range(3):
        world.submit(60)
    world.until(lambda: world.unfinished() == 0, 20_000.0)
    assert world.events("node.excluded") >= 1
    page = world.finish(world.pools.nodes(SERVER, "hpc"))
    bad = next(one for one in page.items if one.name == "bad")
    assert bad.excluded > 0
    assert "NonZeroExitCode" in bad.excluded_why
    why = world.finish(world.pools.why(SERVER, "hpc"))
    assert any("bad" in reason.text for reason in why.reasons)
    world.finish(world.pools.undrain(world.call(), "bad", ""))
    page = world.finish(world.pools.nodes(SERVER, "hpc"))
    assert next(one for one in page.items if one.name == "bad").excluded == 0


def test_a_clock_that_was_a_year_ahead_leaves_no_pool_and_no_node_alone_for_a_year(world: PoolWorld) -> None:
    world.pool(budget=10.0)
    number, later = next(iter(world.keeper.book.pools)), world.keeper.book.now + 366 * DAY

    def unit(tx: Tx) -> None:
        book = world.keeper.book
        ran = Allocation(
            token="t", pool=number, state=State.ENDED, asked_at=later, started_at=later, ended_at=later + 3600, joined=1,
            each=Amounts(cores=10), reason=Reason.FAILED,
        )  # fmt: skip
        book.learn(tx, number, learning.refused(learning.ended(Learned(), ran), later, "no"))
        for _ in range(nodes.ENOUGH):
            book.put_node(tx, nodes.failed(book.node(number, "n1"), later, "disk"))

    world.do(unit)
    world.kill()
    world.start()
    book = world.keeper.book
    assert nodes.until(book.node(number, "n1")) <= book.now + nodes.FORGIVE
    world.submit(4)
    world.advance(60.0)
    assert not world.system.entries, "the budget is used up"
    world.advance(DAY + 3 * HOUR)
    assert world.unfinished() == 0
    settle(world)


def test_a_batch_system_that_is_away_for_long_loses_nothing(world: PoolWorld) -> None:
    world.pool(idle=30.0)
    world.submit(30)
    world.until(lambda: len(world.workers) == 3)
    world.system.trouble.extend([("any", "down")] * 10)
    world.until(lambda: not world.system.trouble)
    settle(world)


def test_a_batch_system_that_forgets_what_runs_is_not_believed_while_workers_speak(world: PoolWorld) -> None:
    world.pool(max_allocations=1, idle=30.0)
    world.submit(20)
    world.until(lambda: world.unfinished() < 19)
    world.system.alive()[0].forgotten = True
    world.advance(40.0)
    assert [row.facts.state for row in world.rows()] == [State.RUNNING]
    assert world.unfinished() > 0, "it was asked while it ran"
    world.until(lambda: world.unfinished() == 0)
    world.until(lambda: not world.alive())


# --- people ---


def test_a_pool_that_would_never_be_granted_is_refused_in_one_line(world: PoolWorld) -> None:
    with pytest.raises(BadInput, match="there is no queue nosuch"):
        world.pool(queue="nosuch")
    world.pool(queue="nosuch", force=True)
    with pytest.raises(BadInput, match="there is no platform spm") as refused:
        world.pool("other", platform="spm")
    assert "cray, mpi, slurm, smp; with --force" in refused.value.hint
    world.pool("other", platform="theirs", force=True)
    with pytest.raises(Conflict, match="there is a pool"):
        world.pool()
    call = Call.of(SERVER, "key", "POST", "/pools", b"")
    first = world.finish(world.pools.add(call, "twice", "fake", PoolSettings(), False))
    assert world.finish(world.pools.add(call, "twice", "fake", PoolSettings(), False)) == first, "the answer was lost"
    with pytest.raises(NotFound, match="there is no scheduler 'nix'"):
        world.finish(world.pools.add(world.call(), "x", "nix", PoolSettings(), False))
    with pytest.raises(BadInput, match="scheduler fake has no setting 'colour'"):
        world.finish(world.pools.add(world.call(), "x", "fake", PoolSettings(scheduler={"colour": "red"}), False))


@pytest.mark.parametrize(
    ("name", "value"),
    [("nodes", 0), ("walltime", 1.0), ("walltime", float("nan")), ("idle", 0.0), ("memory", -1), ("platform", "a b"),
     ("environment", {"1X": "y"}), ("options", ("--x\n",)), ("directory", "relative"), ("work", "also"), ("margin", 3000.0),
     ("project_limits", {"nosuch": 3}), ("programs", ("",)), ("labels", ("a b",)), ("queue", "-x"), ("wrap", "a\nb")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_in_words(world: PoolWorld, name: str, value: object) -> None:
    with pytest.raises((BadInput, NotFound)) as refused:
        world.pool(**{name: value})
    assert "\n" not in str(refused.value)
    assert world.finish(world.pools.page(SERVER)).items == ()


def test_a_plan_shows_the_script_without_a_secret_and_changes_nothing(world: PoolWorld) -> None:
    plan = world.finish(
        world.pools.plan(SERVER, "hpc", "fake", PoolSettings(cores=4, memory=1 << 30, labels=("fast",)))
    )
    assert "cpc-worker -c - " in plan.script
    assert "--labels fast" in plan.script
    assert "PRIVATE KEY" not in plan.script
    assert [one.ok for one in plan.checks] == [True]
    assert world.finish(world.pools.page(SERVER)).items == ()
    assert world.system.entries == {}


def test_a_paused_pool_is_asked_for_nothing_until_it_is_resumed(world: PoolWorld) -> None:
    world.pool()
    world.finish(world.pools.pause(world.call(), "hpc", "maintenance"))
    world.submit(3)
    world.advance(120.0)
    assert world.system.entries == {}
    assert world.finish(world.pools.get(SERVER, "hpc")).note == "maintenance"
    assert "maintenance" in world.finish(world.pools.why(SERVER, "hpc")).reasons[0].text
    world.finish(world.pools.resume(world.call(), "hpc"))
    settle(world)


def test_an_allocation_can_be_cancelled_and_its_jobs_run_elsewhere(world: PoolWorld) -> None:
    world.pool(idle=30.0, max_allocations=2)
    world.submit(20)
    world.until(lambda: len(world.workers) == 2)
    row = world.alive()[0]
    view = world.finish(world.pools.cancel(world.call(), row.token, "wrong account"))
    assert view.state == "leaving"
    assert "wrong account" in view.words
    settle(world)
    with pytest.raises(Conflict, match="has ended already"):
        world.finish(world.pools.cancel(world.call(), row.token, ""))
    with pytest.raises(NotFound, match="there is no allocation 99"):
        world.finish(world.pools.cancel(world.call(), "99", ""))


def test_a_pool_is_removed_when_nothing_of_it_is_left(world: PoolWorld) -> None:
    world.pool()
    world.submit(20)
    world.until(lambda: len(world.workers) == 3)
    with pytest.raises(Conflict, match="has 3 allocation"):
        world.finish(world.pools.remove(world.call(), "hpc", False))
    with pytest.raises(Unavailable, match="are being cancelled"):
        world.finish(world.pools.remove(world.call(), "hpc", True))
    world.until(lambda: not world.alive())
    world.finish(world.pools.remove(world.call(), "hpc", True))
    with pytest.raises(NotFound, match="there is no pool 'hpc'"):
        world.finish(world.pools.get(SERVER, "hpc"))
    world.advance(700.0)
    assert [call for call in world.reactor.getDelayedCalls() if call.owner is world.host] == []
    world.pool()
    assert world.finish(world.pools.get(SERVER, "hpc")).spent == 0.0


def test_a_node_is_drained_together_with_the_workers_on_it(world: PoolWorld) -> None:
    world.pool(idle=3000.0)
    world.submit(60)
    world.until(lambda: len(world.workers) == 3)
    node = world.system.alive()[0].node
    view = world.finish(world.pools.drain(world.call(), node, "", "new fan", True))
    assert view.state in ("draining", "drained")
    assert view.reason == "new fan"
    assert all(worker.state in ("draining", "drained") for worker in view.workers)
    world.until(lambda: world.finish(world.pools.node(SERVER, node)).state == "drained")
    assert world.finish(world.pools.node(SERVER, node)).workers == ()
    view = world.finish(world.pools.undrain(world.call(), node, "hpc"))
    assert view.state == "idle"
    with pytest.raises(NotFound, match="no pool has a node nosuch"):
        world.finish(world.pools.drain(world.call(), "nosuch", "", "why", True))


def test_nodes_are_shown_though_another_pool_does_not_answer(world: PoolWorld) -> None:
    world.pool("away", max_allocations=0)
    world.pool("hpc")
    world.system.trouble.append(("nodes", "down"))
    page = world.finish(world.pools.nodes(SERVER, ""))
    assert {one.pool for one in page.items} == {"hpc"}
    world.system.trouble.extend([("nodes", "down"), ("nodes", "down")])
    with pytest.raises(Unavailable, match="nobody is there"):
        world.finish(world.pools.nodes(SERVER, ""))
    world.system.trouble.append(("nodes", "down"))
    with pytest.raises(Unavailable, match="nobody is there"):
        world.finish(world.pools.nodes(SERVER, "away"))


def test_direct_use_is_one_job_for_each_allocation(world: PoolWorld) -> None:
    world.pool(direct=True, cores=4, max_allocations=10)
    world.submit()
    world.until(lambda: world.system.entries)
    entry = next(iter(world.system.entries.values()))
    assert entry.wanted.cores == 1, "as large as its job"
    assert "--jobs 1" in entry.wanted.script
    settle(world)


def test_the_ledger_has_what_allocations_had(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    world.submit(4)
    settle(world)
    row = world.rows()[0]
    number = next(iter(world.keeper.book.pools))
    days = world.do(lambda tx: pools.days(tx, number, 0))
    assert [day.runs for day in days] == [1]
    had = row.facts.cores * (row.facts.ended_at - row.facts.started_at)
    assert days[0].core_seconds == pytest.approx(had)
    assert world.finish(world.pools.get(SERVER, "hpc")).spent == pytest.approx(had / 3600, rel=0.01)


def test_what_ran_and_ended_while_the_server_was_away_is_paid_for_too(world: PoolWorld) -> None:
    world.pool(max_allocations=1, budget=100.0)
    world.submit(1)
    world.until(world.system.alive)
    entry = world.system.alive()[0]
    world.until(lambda: world.rows()[0].native == entry.native)
    world.kill()
    world.advance(1200.0)
    world.system.end(entry, SeenOutcome.FAILED, "NonZeroExitCode")
    entry.exit = 127
    world.advance(4000.0)
    world.start()
    world.until(lambda: world.rows()[0].facts.state is State.ENDED)
    facts = world.rows()[0].facts
    assert facts.ended_at - facts.started_at == pytest.approx(1200.0, abs=10.0)
    assert world.finish(world.pools.get(SERVER, "hpc")).spent >= 2 * 1190.0 / 3600
    assert facts.words.startswith("exit code 127: a program is not there on the node")
    assert facts.words.endswith("; to see what it prints: cpcc pool set hpc --output FILE")
    settle(world)


def test_old_allocations_are_forgotten_with_their_credentials(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    world.submit(1)
    settle(world)
    row = world.rows()[0]
    assert row.ended is not None
    assert world.do(lambda tx: allocations.forget(tx, row.ended, 100)) == 0  # type: ignore[arg-type]
    assert world.do(lambda tx: allocations.forget(tx, row.ended + 1, 100)) == 1  # type: ignore[operator]
    assert world.rows() == []
    assert world.do(lambda tx: bundles.by_id(tx, row.bundle)) is None


def test_a_job_that_waits_says_what_pools_do_for_it(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    job = world.submit(executable="gromacs/mdrun", need=Amounts(cores=64))
    found: list[Because] = []

    def unit(tx: Tx) -> None:
        row = jobs.get(tx, job)
        assert row is not None
        facts = Facts(
            job=job, state=row.state, project=row.project, requirement=world.queue.index.requirements[row.requirement],
            number=row.requirement, key=row.key, exact=world.queue.exact(tx, ids.array(job)), ahead=0,
        )  # fmt: skip
        found.extend(world.keeper.explain(tx, facts))

    world.do(unit)
    assert found[0].kind == "pool"
    assert "hpc" in found[0].text
    assert "64 cores" in found[0].text


@pytest.mark.parametrize("seed", range(8))
def test_whatever_goes_wrong_nothing_is_lost_or_left_behind(world: PoolWorld, seed: int) -> None:
    chance = random.Random(seed)
    world.system.delay = chance.uniform(1.0, 40.0)
    world.system.nodes = ("n1", "n2", "n3", "n4")
    world.pool(max_allocations=4, idle=chance.choice((10.0, 60.0, 300.0)), walltime=600.0, margin=60.0)
    job = world.submit(60, checkpoint=("state",))
    for _ in range(chance.randint(4, 10)):
        world.advance(chance.uniform(0.1, 40.0))
        match chance.randint(0, 5):
            case 0 if world.live:
                world.kill()
                world.advance(chance.uniform(0.0, 30.0))
                world.start()
            case 1:
                method = chance.choice(("submit", "poll", "adopt", "cancel", "any"))
                what = chance.choice(
                    ("down", "silent", "lost", "rubbish") if method == "submit" else ("down", "silent")
                )
                world.system.trouble.append((method, what))
            case 2 if running := [one for one in world.system.alive() if one.state is SeenState.RUNNING]:
                world.system.requeue(chance.choice(running))
            case 3 if running := [one for one in world.system.alive() if one.state is SeenState.RUNNING]:
                world.system.end(chance.choice(running), SeenOutcome.PREEMPTED, "somebody more important")
            case 4 if len(world.system.dead) < 2:
                world.system.kill_node(chance.choice(world.system.nodes))
            case 5:
                world.system.trouble.clear()
        if world.live:
            world.check()
            live = [row for row in world.alive() if row.facts.state is not State.ORPHANED]
            assert len(live) <= 4, "the limit of the pool"
    world.system.trouble.clear()
    settle(world, 40_000.0)
    assert all(world.state(job + index) is JobState.SUCCEEDED for index in range(60))
    tokens = [one.wanted.token for one in world.system.entries.values()]
    assert len(tokens) == len(set(tokens))
