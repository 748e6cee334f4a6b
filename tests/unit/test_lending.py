"""A worker of one server runs jobs of another: nothing is lost, nothing runs twice, and own work comes first."""

from __future__ import annotations

import sqlalchemy as sa

from cpc.core import ids
from cpc.core.digest import EMPTY, Content
from cpc.core.manifest import Entry, Manifest
from cpc.core.outcome import Outcome
from cpc.queue.job import State
from cpc.server import closing
from cpc.server.principal import SERVER, Call
from cpc.store import schema
from cpc.store.jobs import Range
from cpc.store.statement import Statement
from cpc.wire.messages import Checkpoint, Tail
from tests.helpers.lending_fixture import Make, chain, make, two
from tests.helpers.lending_world import House, World

__all__ = ["chain", "make", "two"]


def cancel(house: House, job: int) -> None:
    def unit(tx: object) -> None:
        closing.cancel(house.queue, tx, ids.array(job), Range(job, job + 1), "not wanted", "user:test")  # type: ignore[arg-type]

    house.do(unit)


def reasons(house: House, job: str) -> str:
    return " | ".join(reason.text for reason in house.look(house.jobs.why(SERVER, job)).reasons)


def kinds(house: House) -> set[str]:
    """Of the events about workers."""
    query = Statement(sa.select(schema.events.c.kind))
    return {
        row[0]
        for row in house.do(lambda tx: tx.rows(query))
        if row[0].startswith("worker.") and row[0] != "worker.joined"
    }


# --- the way of the work ---------------------------------------------------------------------------------------------------


def test_an_idle_worker_runs_the_jobs_of_a_peer(two: World) -> None:
    job = two["c"].submit("sleep", array=5)
    worker = two["a"].worker(cores=2)
    two.run(1)
    assert worker.jobs == ["1 of c", "1[1] of c"]
    assert two["c"].states(job, 5) == {"running": 2, "waiting": 3}
    for _ in range(3):
        worker.finish()
        two.run(1)
    assert two["c"].states(job, 5) == {"succeeded": 5}
    assert set(worker.verdicts.values()) == {"accepted"}


def test_a_job_that_comes_later_calls_the_idle_worker(two: World) -> None:
    worker = two["a"].worker()
    two.run(1)
    asked = two.net.count("ask-work")
    two["c"].submit("sleep")
    two.run(1)
    assert worker.jobs == ["1 of c"]
    assert (two.net.count("demand"), two.net.count("ask-work")) == (1, asked + 1)


def test_a_worker_at_one_end_of_a_chain_runs_the_jobs_of_the_other_end(chain: World) -> None:
    worker = chain["a"].worker()
    chain.run(1)
    job = chain["c"].submit("sleep", array=4)
    chain.run(1)
    assert worker.jobs == ["1 of c", "1[1] of c"]
    assert {lease.path for lease in worker.tasks} == {"b/c"}
    worker.finish()
    chain.run(1)
    worker.finish()
    chain.run(1)
    assert chain["c"].states(job, 4) == {"succeeded": 4}


def test_nobody_beyond_the_peer_is_asked_unless_that_is_agreed(make: Make) -> None:
    world = make("a", "b", "c")
    world.net.trust("a", "b")
    world.net.trust("b", "c")
    worker = world["a"].worker()
    world["c"].submit("sleep")
    world.run(400)
    assert worker.jobs == []
    assert world.net.messages["b", "c", "ask-work"] == 0


def test_own_work_comes_first_and_a_partly_filled_worker_is_topped_up(two: World) -> None:
    own = two["a"].submit("sleep", array=3)
    theirs = two["c"].submit("sleep", array=3)
    worker = two["a"].worker(cores=4)
    two.run(1)
    assert worker.jobs == ["1", "1 of c", "1[1]", "1[2]"]
    worker.finish(*[lease for lease in worker.tasks if lease.path])
    two["a"].submit("more", array=2)
    two.run(1)
    assert worker.jobs == ["1", "1[1]", "1[2]", "2"]
    worker.finish()
    two.run(1)
    assert worker.jobs == ["1[1] of c", "1[2] of c", "2[1]"]
    worker.finish()
    two.run(1)
    assert two["a"].states(own, 3) == two["c"].states(theirs, 3) == {"succeeded": 3}


def test_peers_are_asked_in_their_order_and_one_that_has_asked_for_help_before_comes_before_the_next_in_line(
    make: Make,
) -> None:
    world = make("a", "c", "d")
    world.net.trust("a", "c")
    world.net.trust("a", "d")
    low = world["d"].submit("sleep", array=9)
    worker = world["a"].worker(cores=1)
    world.run(1)
    assert worker.jobs == ["1 of d"]
    world["c"].submit("sleep")
    world.run(1)
    worker.finish()
    world.run(1)
    assert worker.jobs == ["1 of c"]
    worker.finish()
    world.run(1)
    assert worker.jobs == ["1[1] of d"]
    assert world["d"].states(low, 9)["succeeded"] == 1


def test_no_room_is_kept_for_an_owner_that_hears_of_the_worker_no_more(two: World) -> None:
    two["c"].submit("sleep", array=2)
    other, worker = two["a"].worker(cores=1), two["a"].worker(cores=1)
    two.run(1)
    assert other.jobs == ["1 of c"]
    worker.finish()
    two.run(1)
    worker.beat()
    two.run(1)
    asking = two["a"].lending.asking
    (spare,) = (each for each in asking._spares.values() if each.free.cores)
    asking.prefer(spare.worker, "c")  # too late: the last report of it has been answered
    asking.called("c")
    two["c"].submit("sleep")
    two.run(1)
    assert worker.jobs == ["2 of c"]


def test_a_cancel_reaches_the_worker_over_all_hops(chain: World) -> None:
    job = chain["c"].submit("sleep", array=2)
    worker = chain["a"].worker()
    chain.run(1)
    cancel(chain["c"], job)
    chain.run(1)
    assert [reason for _, reason in worker.cancelled] == ["not wanted"]
    assert worker.jobs == ["1[1] of c"]


def test_live_output_is_followed_over_all_hops(chain: World) -> None:
    job = chain["c"].submit("sleep")
    worker = chain["a"].worker()
    chain.run(1)
    run = chain["c"].queue.index.running[job]
    tails = chain["c"].machines.tails
    tails.follow(run.lease)
    chain.run(1)
    (lease,) = worker.followed
    worker.beat(tails=(Tail(lease=lease, stream="stdout", offset=0, data=b"step 1\n"),))
    chain.run(1)
    assert tails.read(run.lease, "stdout", 0, 100) == (0, b"step 1\n")


def test_both_sides_show_who_works_for_whom_and_why_a_job_waits(chain: World) -> None:
    a, c = chain["a"], chain["c"]
    job = c.submit("sleep", array=3)
    worker = a.worker(cores=2)
    chain.run(1)
    for _ in range(2):
        (lent,) = a.look(a.workers.page(SERVER)).items
        assert (lent.state, lent.home, lent.free.cores) == ("busy", "", 0)
        assert [(one.server, one.jobs) for one in lent.lent] == [("c", ("1[0]", "1[1]"))]
        a.kill()
        a.start()
        worker.join()
        chain.run(5)
    (borrowed,) = c.look(c.workers.page(SERVER)).items
    assert (borrowed.name, borrowed.home, borrowed.state) == (f"{worker.name}@A", "a", "busy")
    assert (borrowed.jobs, borrowed.free.cores, borrowed.lent) == (("1[0]", "1[1]"), 0, ())
    assert "worker w1a@A: it is borrowed" in reasons(c, f"1[{ids.index(job) + 2}]")
    assert a.lending.cores() == {("lent", "c"): 2}
    assert c.lending.cores() == {("borrowed", "a"): 2}
    assert chain["b"].lending.cores() == {}
    assert {"worker.lent"} == kinds(a) - kinds(c)
    assert "worker.borrowed" in kinds(c)


def test_leases_that_are_suspended_are_shown_as_such(two: World) -> None:
    two["c"].submit("sleep")
    worker = two["a"].worker()
    two.run(1)
    assert [one.suspended for one in two["c"].look(two["c"].workers.heartbeats(SERVER)).items] == [False]
    two.net.cut("a", "c")
    worker.drive(600)
    (shown,) = two["c"].look(two["c"].workers.heartbeats(SERVER)).items
    assert shown.suspended
    assert 2900 < shown.expires_in < 3100
    (borrowed,) = two["c"].look(two["c"].workers.page(SERVER)).items
    assert borrowed.state == "silent"


def test_a_borrowed_worker_that_is_drained_gets_no_more_and_hands_back(two: World) -> None:
    job = two["c"].submit("sleep", array=4)
    worker = two["a"].worker()
    two.run(1)
    two["c"].look(two["c"].workers.drain(Call(SERVER), f"{worker.name}@A", "too slow", finish=False))
    two.run(1)
    assert set(worker.handed_back) == set(worker.tasks)
    worker.finish(outcome=Outcome.PREEMPTED)
    worker.drive(400)
    assert worker.jobs == []
    assert two["c"].states(job, 4) == {"waiting": 4}
    assert two.net.count("demand") < 14
    two["c"].look(two["c"].workers.resume(Call(SERVER), f"{worker.name}@A"))
    worker.drive(70)
    assert len(worker.jobs) == 2


def test_a_worker_that_is_drained_at_home_hands_back_what_it_runs_for_others(two: World) -> None:
    two["c"].submit("sleep", array=4)
    worker = two["a"].worker()
    two.run(1)
    two["a"].look(two["a"].workers.drain(Call(SERVER), worker.name, "maintenance", finish=False))
    two.run(1)
    assert set(worker.handed_back) == set(worker.tasks)
    worker.finish(outcome=Outcome.PREEMPTED)
    two.run(400)
    assert worker.jobs == []


def test_a_worker_that_leaves_in_order_costs_its_jobs_nothing(two: World) -> None:
    job = two["c"].submit("sleep", max_losses=1)
    worker = two["a"].worker()
    two.run(1)
    worker.leave()
    two.run(1)
    assert two["c"].state(job) is State.WAITING
    assert two["c"].outcomes(job) == ["preempted"]


def test_checkpoints_travel_over_all_hops_and_the_next_attempt_has_them(chain: World) -> None:
    job = chain["c"].submit("sleep", checkpoint=("*.cpt",))
    worker = chain["a"].worker()
    chain.run(1)
    (lease,) = worker.tasks
    files = Manifest((Entry(b"empty.cpt", "file", 0o644, Content(EMPTY, 0, ())),))
    worker.beat(checkpoints=(Checkpoint(lease=lease, files=files),))
    chain.run(1)
    assert chain["c"].queue.index.running[job].checkpoint
    worker.finish(outcome=Outcome.PREEMPTED)
    chain.run(1)
    (again,) = worker.tasks.values()
    assert (again.lease.attempt, again.checkpoint) == (2, files)
