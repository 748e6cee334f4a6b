"""Stories of a few servers, told by hand: what was promised for a network of them, one promise each."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from cpc.core.peer import Agreement, Limits
from cpc.core.resources import Amounts
from cpc.server.principal import SERVER, Call
from tests.simulation.by_hand import collected
from tests.simulation.federation.by_hand import CHAIN, end, join, quiet, runs, state, submit
from tests.simulation.federation.hostile import Hostile
from tests.simulation.federation.plan import DEFAULT, Bond
from tests.simulation.federation.universe import Universe

__all__ = ["collected"]


@pytest.fixture
def two() -> Iterator[Universe]:
    """Server 1 has the worker, server 2 the jobs."""
    made = quiet([(1, 2)], (1, 0))
    join(made, "s1n1")
    yield made
    end(made)


@pytest.fixture
def chain() -> Iterator[Universe]:
    """Server 1 has the worker, server 3 the jobs; server 2 only passes on."""
    made = quiet(CHAIN, (1, 0, 0))
    join(made, "s1n1")
    yield made
    end(made)


def attempts(made: Universe, server: int, job: int) -> int:
    return made.sites[server].attempts(job)


def done(made: Universe, server: int, job: int, within: float = 400.0) -> None:
    """It succeeds, and nothing is left of it between the servers."""
    made.until(lambda: state(made, server, job) == "succeeded", within)
    made.until(made.settled, 600.0)
    made.verdict()


# --- whose work comes first -------------------------------------------------------------------------------------------------


def test_own_work_comes_first(two: Universe) -> None:
    theirs = submit(two, 2, "ok", "30", "10", array=40)
    two.until(lambda: len(runs(two, "s1n1")) == 4)
    own = submit(two, 1, "ok", "1", "10", array=2)
    two.until(lambda: state(two, 1, own + 1) == "succeeded", 100.0)
    assert state(two, 2, theirs + 20) == "waiting", "the other server's jobs wait until ours have begun"
    two.until(lambda: state(two, 2, theirs + 39) == "succeeded", 600.0)


def test_peers_are_asked_in_their_order() -> None:
    bonds = {(1, 2): Bond(1, DEFAULT), (1, 3): Bond(0, DEFAULT)}
    made = quiet([(1, 2), (1, 3)], (1, 0, 0), bonds)
    later = submit(made, 2, "ok", "20", "10", array=4)
    sooner = submit(made, 3, "ok", "20", "10", array=8)
    join(made, "s1n1")
    made.until(lambda: len(runs(made, "s1n1")) == 4)
    assert [state(made, 3, sooner + index) for index in range(4)] == ["running"] * 4
    made.until(lambda: all(state(made, 3, sooner + index) == "succeeded" for index in range(8)), 100.0)
    assert state(made, 2, later + 3) in ("waiting", "running")
    made.until(lambda: state(made, 2, later + 3) == "succeeded", 200.0)
    end(made)


def test_a_worker_that_one_peer_does_not_fill_is_filled_by_the_next() -> None:
    bonds = {(1, 2): Bond(0, DEFAULT), (1, 3): Bond(1, DEFAULT)}
    made = quiet([(1, 2), (1, 3)], (1, 0, 0), bonds)
    few = submit(made, 2, "ok", "50", "10")
    rest = submit(made, 3, "ok", "50", "10", array=3)
    join(made, "s1n1")
    made.until(lambda: len(runs(made, "s1n1")) == 4, 60.0)
    assert state(made, 2, few) == "running"
    assert [state(made, 3, rest + index) for index in range(3)] == ["running"] * 3
    made.until(made.settled, 900.0)
    end(made)


def test_an_idle_worker_is_called_when_there_is_work_behind_its_neighbour(chain: Universe) -> None:
    chain.reactor.advance(200.0)
    job = submit(chain, 3, "ok", "1", "10")
    chain.until(lambda: state(chain, 3, job) == "succeeded", 10.0)
    chain.until(chain.settled, 600.0)


# --- limits -----------------------------------------------------------------------------------------------------------------


def test_what_is_lent_to_a_peer_is_not_lent_on_by_it_unless_that_was_agreed() -> None:
    made = quiet(CHAIN, (1, 0, 0), {(1, 2): Bond(0, Agreement())})
    join(made, "s1n1")
    behind = submit(made, 3, "ok", "1", "10")
    near = submit(made, 2, "ok", "1", "10")
    made.until(lambda: state(made, 2, near) == "succeeded")
    made.reactor.advance(400.0)
    assert state(made, 3, behind) == "waiting"
    assert attempts(made, 3, behind) == 0
    end(made)


def test_each_server_on_the_way_takes_one_from_how_far_work_may_be_asked_for() -> None:
    """The second lends on to everybody; that the first lends to one beyond it holds all the same."""
    made = quiet([(1, 2), (2, 3), (3, 4)], (1, 0, 0, 0), {(1, 2): Bond(0, Agreement(lend_on=1))})
    join(made, "s1n1")
    behind = submit(made, 4, "ok", "1", "10")
    near = submit(made, 3, "ok", "1", "10")
    made.until(lambda: state(made, 3, near) == "succeeded")
    made.reactor.advance(400.0)
    assert attempts(made, 4, behind) == 0
    end(made)


@pytest.mark.parametrize("own", [Agreement(lent=Limits(off=True)), Agreement(lent=Limits(cores=1))])
def test_what_is_agreed_with_a_peer_holds_by_whatever_way_its_jobs_come(own: Agreement) -> None:
    """1 lends to 2, and to those behind it, all that it has; but 3 it knows itself, and asks it by what was agreed with it."""
    made = quiet([(1, 2), (1, 3), (2, 3)], (1, 0, 0), {(1, 3): Bond(0, own)})
    join(made, "s1n1")
    little = submit(made, 3, "ok", "1", "10", need=Amounts(cores=2))
    made.reactor.advance(120.0)
    assert state(made, 3, little) == "waiting"
    job = submit(made, 2, "ok", "1", "10", need=Amounts(cores=2))
    made.until(lambda: state(made, 2, job) == "succeeded", 30.0)
    end(made)


@pytest.mark.parametrize("side", ["lent", "accepted"])
def test_a_limit_of_cores_holds_on_either_side(side: str) -> None:
    agreement = Agreement(lend_on=1, lent=Limits(cores=2)) if side == "lent" else Agreement(accepted=Limits(cores=2))
    made = quiet([(1, 2)], (1, 0), {(1, 2) if side == "lent" else (2, 1): Bond(0, agreement)})
    join(made, "s1n1")
    job = submit(made, 2, "ok", "20", "10", array=5)
    most = 0
    while state(made, 2, job + 4) != "succeeded":
        made.reactor.advance(1.0)
        most = max(most, len(runs(made, "s1n1")))
        assert made.now < 600.0
    assert most == 2
    end(made)


# --- partitions and restarts --------------------------------------------------------------------------------------------------


def test_a_partition_that_is_shorter_than_the_grace_costs_nothing(chain: Universe) -> None:
    """Longer than any lease, and both of the ways are cut; the worker goes on, and its job runs once."""
    job = submit(chain, 3, "ok", "500", "300000")
    chain.until(lambda: runs(chain, "s1n1"))
    chain.network.partition("s1", "s2")
    chain.network.partition("s2", "s3")
    chain.reactor.advance(400.0)
    chain.network.heal()
    done(chain, 3, job, 600.0)
    assert attempts(chain, 3, job) == 1


def test_a_partition_that_is_longer_than_the_grace_ends_in_one_result(chain: Universe) -> None:
    """The owner runs the job again, at a worker of its neighbour; whoever is first is accepted, and only that one."""
    job = submit(chain, 3, "ok", "300", "300000")
    chain.until(lambda: runs(chain, "s1n1"))
    chain.network.partition("s1", "s2")
    chain.until(lambda: state(chain, 3, job) == "waiting", chain.plan.peer_grace + 200.0)
    chain.network.heal()
    done(chain, 3, job, 900.0)
    assert chain.sites[3].oracle.rows("SELECT count(*) FROM results WHERE job = ? AND used", job) == [(1,)]


@pytest.mark.parametrize("who", ["relay", "home", "owner", "all"])
def test_servers_that_are_killed_in_mid_transfer_lose_nothing(chain: Universe, who: str) -> None:
    job = submit(chain, 3, "big", "20", "9000000")
    chain.until(lambda: runs(chain, "s1n1"))
    agent = chain.sites[1].workers["s1n1"].agent
    assert agent is not None
    chain.until(lambda: agent.desk.deliveries, 100.0)
    chain.reactor.advance(0.05)
    for number in {"home": (1,), "relay": (2,), "owner": (3,)}.get(who, (1, 2, 3)):
        chain.sites[number].kill_server("killed in mid-transfer", away=5.0)
    done(chain, 3, job, 600.0)
    assert attempts(chain, 3, job) == 1


def test_a_worker_that_dies_is_told_of_by_its_home(two: Universe) -> None:
    """Its job is not kept for the time that a silent server would get."""
    job = submit(two, 2, "ok", "200", "10")
    two.until(lambda: runs(two, "s1n1"))
    two.sites[1].workers["s1n1"].kill(away=5.0)
    two.until(lambda: attempts(two, 2, job) == 2, 2 * two.plan.base.heartbeat_time + 30.0)
    done(two, 2, job, 600.0)


@pytest.mark.parametrize("seconds", [40.0, 150.0])
def test_a_home_that_stood_still_speaks_of_no_worker_as_lost(two: Universe, seconds: float) -> None:
    """For longer than a lease; meanwhile the job ends, or not: its result is that of the first attempt."""
    job = submit(two, 2, "ok", f"{seconds:g}", "300000")
    two.until(lambda: runs(two, "s1n1"))
    two.sites[1].server_host.freeze()
    two.reactor.advance(100.0)
    two.sites[1].server_host.thaw()
    done(two, 2, job, 400.0)
    assert attempts(two, 2, job) == 1


def test_a_cancelled_job_is_stopped_behind_a_relay(chain: Universe) -> None:
    job = submit(chain, 3, "ok", "500", "10")
    chain.until(lambda: runs(chain, "s1n1"))
    chain.sites[3].oracle.known[job].cancelled.add(job)
    chain.sites[3].call(lambda server: server.jobs.cancel(Call(SERVER, "c"), "1", "enough"))
    chain.until(lambda: not runs(chain, "s1n1"), 60.0)
    chain.until(chain.settled, 600.0)


def test_a_checkpoint_behind_a_relay_is_where_the_job_goes_on(chain: Universe) -> None:
    job = submit(chain, 3, "steps", "300", checkpoint=("p.cpt",))
    chain.until(lambda: runs(chain, "s1n1"))
    chain.reactor.advance(200.0)
    began = chain.now
    chain.sites[1].workers["s1n1"].kill(away=5.0)
    chain.until(lambda: state(chain, 3, job) == "succeeded", 900.0)
    assert chain.now - began < 100 + 45 + 2 * 60 + 30, "not from its beginning"
    chain.until(chain.settled, 600.0)
    chain.verdict()


# --- custody --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["lives", "killed", "dark"])
def test_a_home_keeps_a_result_for_an_owner_that_is_away(chain: Universe, how: str) -> None:
    """The worker may leave; what its home said it has, it has, whatever happens to it."""
    job = submit(chain, 3, "big", "20", "5000000")
    chain.until(lambda: runs(chain, "s1n1"))
    chain.network.partition("s2", "s3")
    home = chain.sites[1]
    chain.until(lambda: home.peers is not None and len(home.peers.custody), 400.0)
    chain.until(lambda: home.workers["s1n1"].quiet)
    home.workers["s1n1"].retire()
    if how != "lives":
        home.kill_server("killed", away=10.0, power=how == "dark")
    chain.reactor.advance(60.0)
    assert home.peers is not None
    assert len(home.peers.custody) == 1
    chain.network.heal()
    chain.until(lambda: state(chain, 3, job) == "succeeded", 600.0)
    assert attempts(chain, 3, job) == 1
    chain.until(lambda: home.peers is not None and not len(home.peers.custody), 60.0)
    chain.verdict()


# --- trust ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", [1, 2])
@pytest.mark.parametrize("hand_back", [True, False])
def test_trust_that_is_withdrawn_is_gone_within_a_heartbeat_on_both_sides(who: int, hand_back: bool) -> None:
    made = quiet([(1, 2)], (1, 1))
    join(made, "s1n1")
    job = submit(made, 2, "ok", "900", "10")
    made.until(lambda: runs(made, "s1n1"))
    made.operators.revoke(made.sites[who], made.sites[3 - who], hand_back, again=1e6)
    made.until(lambda: made.trust.ended, 10.0)
    made.until(lambda: state(made, 2, job) == "waiting", made.plan.base.heartbeat_time)
    made.reactor.advance(1.0)
    for one, other in ((1, 2), (2, 1)):
        server = made.sites[one].peers
        assert server is not None
        assert not server.is_up(made.sites[other])
        assert not any(session.home for session in server.queue.index.sessions.values())
    join(made, "s2n1")
    made.until(lambda: state(made, 2, job) == "succeeded", 1200.0)
    assert attempts(made, 2, job) == 2
    made.reactor.advance(100.0)
    names = {"s1", "s2"}
    assert not [link for link in made.network.links if set(link.hosts) == names]
    end(made)


def test_a_server_that_has_just_restarted_knows_what_goes_by_way_of_whom_it_revokes() -> None:
    """The worker's home has not been heard of since; the trust in the server between them ends."""
    made = quiet(CHAIN, (1, 0, 1))
    join(made, "s1n1")
    job = submit(made, 3, "ok", "500", "10")
    made.until(lambda: runs(made, "s1n1"))
    made.network.partition("s2", "s3")
    made.sites[3].kill_server("killed", away=1.0)
    made.until(lambda: made.sites[3].peers is None)
    made.until(lambda: made.sites[3].peers is not None)
    made.operators.revoke(made.sites[3], made.sites[2], True, again=1e6)
    made.until(lambda: made.trust.ended, 10.0)
    made.until(lambda: state(made, 3, job) == "waiting", made.plan.base.heartbeat_time)
    made.network.heal()
    join(made, "s3n1")
    made.until(lambda: state(made, 3, job) == "succeeded", 900.0)
    end(made)


def test_what_may_come_to_its_end_after_the_trust_does_so_over_a_restart() -> None:
    """Its worker's home has ended the trust, and restarts while the job runs on."""
    made = quiet([(1, 2)], (1, 0))
    join(made, "s1n1")
    job = submit(made, 2, "ok", "100", "10")
    made.until(lambda: runs(made, "s1n1"))
    home = made.sites[1]
    made.operators.revoke(home, made.sites[2], False, again=1e6)
    made.until(lambda: made.trust.ended, 10.0)
    home.kill_server("killed", away=5.0)
    made.until(lambda: home.peers is None)
    made.until(lambda: home.peers is not None and len(home.peers.custody) == 1, 300.0)
    made.operators.reconcile(home, made.sites[2])
    made.until(lambda: state(made, 2, job) == "succeeded", 300.0)
    made.until(lambda: home.peers is not None and not len(home.peers.custody), 60.0)
    end(made)


def test_a_server_that_was_revoked_can_be_trusted_anew() -> None:
    made = quiet([(1, 2)], (1, 0))
    join(made, "s1n1")
    before = submit(made, 2, "ok", "300", "10")
    made.until(lambda: runs(made, "s1n1"))
    made.operators.revoke(made.sites[1], made.sites[2], False, again=50.0)
    made.until(lambda: made.trust.ended, 10.0)
    made.until(lambda: made.trust.up(1, 2), 300.0)
    job = submit(made, 2, "ok", "5", "10")
    made.until(lambda: state(made, 2, job) == "succeeded", 100.0)
    done(made, 2, before, 600.0)
    end(made)


# --- hostile peers -------------------------------------------------------------------------------------------------------------


def test_a_hostile_peer_gets_nothing_and_stalls_nobody() -> None:
    """It floods, forges routes, leases and results, and asks for files, on all connections that it can have."""
    made = quiet([(1, 2)], (2, 0))
    join(made, "s1n1")
    victim = made.sites[1]
    enemy = Hostile(made, victim, random.Random(5))
    enemy.begin()
    theirs = submit(made, 2, "big", "20", "5000000")
    own = submit(made, 1, "ok", "60", "300000", array=4)
    for number in range(6):
        made.reactor.advance(10.0)
        if number == 1:
            join(made, "s1n2")
    made.until(lambda: state(made, 2, theirs) == "succeeded", 60.0)
    made.until(lambda: all(state(made, 1, own + index) == "succeeded" for index in range(4)), 200.0)
    assert enemy.said > 1000
    assert sum(enemy.answers.values()) > 100
    assert not enemy.given, "nothing was lent to, or taken from, a server with which nothing is agreed"
    assert victim.oracle.rows("SELECT count(*) FROM attempts WHERE outcome = 'ok'") == [(4,)]
    assert made.trust.up(1, 2)
    enemy.end()
    made.until(made.settled, 600.0)
    made.verdict()
    end(made)


def test_a_peer_does_not_speak_for_workers_that_are_not_behind_it() -> None:
    """Server 2 is a neighbour and runs a job of ours; the other peer says in its name that the job has ended."""
    made = quiet([(1, 2)], (0, 1))
    join(made, "s2n1")
    job = submit(made, 1, "ok", "100", "300000")
    made.until(lambda: runs(made, "s2n1"))
    enemy = Hostile(made, made.sites[1], random.Random(5), DEFAULT)
    enemy.introduce()
    made.reactor.finish(enemy.open())
    answer = made.reactor.finish(enemy.forge(made.sites[2]))
    assert [settled.verdict for one in answer.workers for settled in one.orders.settled] == ["dropped"]
    assert state(made, 1, job) == "running"
    done(made, 1, job)
    assert attempts(made, 1, job) == 1
    enemy.end()
    end(made)


# --- others ---------------------------------------------------------------------------------------------------------------------


def test_clocks_that_are_hours_apart_change_nothing() -> None:
    made = quiet(CHAIN, (1, 0, 0), hours=(0, 20, -9))
    join(made, "s1n1")
    job = submit(made, 3, "big", "20", "5000000", need=Amounts(cores=2))
    done(made, 3, job)
    assert attempts(made, 3, job) == 1
    end(made)


def test_a_server_of_a_release_that_knows_no_peers_is_left_alone() -> None:
    """It is on record as trusted, does not understand what it is asked, and costs nobody anything."""
    made = quiet([(1, 2), (1, 3)], (1, 1, 0), old=(2,))
    join(made, "s1n1", "s2n1")
    job = submit(made, 3, "ok", "5", "300000")
    its = submit(made, 2, "ok", "5", "10")
    made.until(lambda: state(made, 3, job) == "succeeded", 60.0)
    made.until(lambda: state(made, 2, its) == "succeeded", 60.0)
    made.reactor.advance(300.0)
    server = made.sites[1].peers
    assert server is not None
    assert server.federation.links.trouble(made.sites[2].id)
    made.until(made.settled, 600.0)
    end(made)


def test_a_peer_that_stands_still_stalls_nobody_else() -> None:
    """Server 2 is the first to be asked, and does not answer; the worker gets the jobs of server 3 all the same."""
    bonds = {(1, 2): Bond(0, DEFAULT), (1, 3): Bond(1, DEFAULT)}
    made = quiet([(1, 2), (1, 3)], (1, 0, 0), bonds)
    made.sites[2].server_host.freeze()
    job = submit(made, 3, "ok", "5", "300000")
    join(made, "s1n1")
    made.until(lambda: state(made, 3, job) == "succeeded", 60.0)
    own = submit(made, 1, "ok", "5", "10")
    made.until(lambda: state(made, 1, own) == "succeeded", 20.0)
    made.sites[2].server_host.thaw()
    made.until(made.settled, 600.0)
    end(made)


def test_an_idle_worker_in_a_full_mesh_asks_everybody_once_in_a_subscription() -> None:
    """And a job is called for at once, without anybody having asked again."""
    servers = 9
    pairs = [(one, other) for one in range(1, servers + 1) for other in range(one + 1, servers + 1)]
    made = quiet(pairs, (1,) * servers)
    join(made, *(f"s{number}n1" for number in range(1, servers + 1)))
    made.reactor.advance(100.0)
    before = made.messages.copy()
    made.reactor.advance(600.0)
    asked = made.messages["ask-work"] - before["ask-work"]
    assert asked <= 2 * servers * (servers - 1), f"{asked} questions of {servers} idle workers in two subscriptions"
    assert asked >= servers * (servers - 1), "they do ask again when a subscription is over"
    job = submit(made, 5, "ok", "1", "10", array=20)
    made.until(lambda: all(state(made, 5, job + index) == "succeeded" for index in range(20)), 20.0)
    assert len({loan.worker for loan in made.truth.loans.values()}) >= 3
    end(made)
