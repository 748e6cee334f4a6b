"""What a worker does with jobs: handing back, leaving, full disks, live output, what the server cannot take; in virtual time."""

from __future__ import annotations

from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.wire.messages import Orders
from cpc.worker.waiting import sleep
from tests.helpers.programs import Program
from tests.helpers.worker_fixture import expected, world

__all__ = ["expected"]

SECOND_LOOK = 200.0


def test_a_job_handed_back_reports_its_checkpoint_before_it_ends() -> None:
    here = world(md=Program(1000.0, term_seconds=3.0, term_code=0, term_writes=(("state.cpt", b"saved"),)))
    job = here.script.add(1, "md", checkpoint_patterns=("*.cpt",))
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    here.server.push(Orders(hand_back=(job,)))
    here.until(lambda: here.script.settled(job))
    assert here.script.results[job][0].outcome is Outcome.PREEMPTED
    assert here.script.manifest_bytes(here.script.checkpoints[0].files, "state.cpt") == b"saved"
    assert here.script.order == [f"checkpoint {job}", f"result {job}"]
    turns = [turn for turn in here.script.turns if turn.results or turn.checkpoints]
    assert [len(turn.results) for turn in turns] == [0, 1]  # with the result the attempt ends
    assert job in turns[0].holds


def test_leaving_hands_everything_back_and_says_goodbye() -> None:
    here = world(md=Program(1000.0))
    first, second = here.script.add(1, "md"), here.script.add(2, "md")
    worker = here.worker(cores=2)
    here.until(lambda: len(worker.processes.launched) == 2)
    here.script.add(3, "md")
    worker.agent.leave("SIGTERM")
    here.until(lambda: worker.ended)
    assert worker.ended == ["SIGTERM"]
    assert here.script.results[first][0].outcome is Outcome.PREEMPTED
    assert here.script.results[second][0].outcome is Outcome.PREEMPTED
    assert here.script.goodbyes == ["SIGTERM"]
    assert len(worker.processes.launched) == 2
    assert worker.processes.closed
    assert [each for each in here.platter.names if each.startswith("/work/n1")] == []


def test_only_a_directory_with_nothing_in_it_is_anothers_at_once() -> None:
    here = world(write=Program(5.0, writes=((1.0, "scratch", b"x"),)), brief=Program(5.0))
    here.script.settle = False
    kept = here.script.add(1, "write", outputs=())
    empty = here.script.add(2, "brief")
    here.worker(cores=2)
    here.until(lambda: {kept, empty} <= set(here.script.results))
    assert here.script.file(empty, "stdout") == b""
    runs = {name.partition("/runs/")[2].partition("/")[0] for name in here.platter.names if "/runs/" in name}
    assert runs == {f"{kept.job}.1.1"}


def test_what_ends_because_the_whole_allocation_does_is_handed_back_though_it_ends_before_the_worker_is_told() -> None:
    here = world(
        fails=Program(10.0, code=1), saves=Program(10.0, writes=((9.0, "state.cpt", b"saved"),)), true=Program(10.0)
    )  # fmt: skip
    fails = here.script.add(1, "fails")
    saves = here.script.add(2, "saves", checkpoint_patterns=("*.cpt",))
    done = here.script.add(3, "true")
    worker = here.worker(listens=2.0)
    here.until(lambda: here.script.settled(done))
    assert not here.script.settled(fails)
    assert not here.script.settled(saves)
    worker.agent.told("SIGTERM")
    worker.agent.leave("SIGTERM")
    here.until(lambda: worker.ended, within=1.9)
    outcomes = [here.script.results[job][0].outcome for job in (fails, saves, done)]
    assert outcomes == [Outcome.PREEMPTED, Outcome.PREEMPTED, Outcome.OK]
    assert here.script.manifest_bytes(here.script.checkpoints[0].files, "state.cpt") == b"saved"


def test_what_has_ended_since_the_signal_came_is_handed_back_though_the_reactor_has_not_heard_of_it() -> None:
    here = world(true=Program(10.0))
    job = here.script.add(1, "true")
    worker = here.worker(listens=2.0)
    here.until(lambda: worker.processes.launched)
    here.reactor.advance(5.0)
    worker.agent.told("SIGTERM")
    here.until(lambda: here.script.settled(job))
    assert here.script.results[job][0].outcome is Outcome.PREEMPTED
    worker.agent.leave("SIGTERM")
    here.until(lambda: worker.ended)


def test_in_an_allocation_that_goes_on_a_failure_is_the_jobs_own_a_moment_later() -> None:
    here = world(fails=Program(10.0, code=1))
    job = here.script.add(1, "fails")
    worker = here.worker(cores=1, listens=2.0)
    here.until(lambda: len(worker.processes.launched) == 1)
    begun = here.reactor.seconds()
    other = here.script.add(2, "fails")
    here.until(lambda: here.script.settled(job))
    assert here.script.results[job][0].outcome is Outcome.FAILED
    assert here.script.results[job][0].message == "ended with exit code 1"
    assert 12.0 <= here.reactor.seconds() - begun < 13.0
    here.until(lambda: here.script.settled(other))


def test_leaving_at_once_keeps_the_results_on_disk() -> None:
    here = world(deaf=Program(1000.0, term_seconds=1e9))
    job = here.script.add(1, "deaf")
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    here.reactor.advance(2.0)
    worker.agent.leave("SIGTERM")
    here.reactor.advance(2.0)
    assert not worker.ended
    worker.agent.leave("SIGTERM again", at_once=True)
    here.until(lambda: worker.ended, within=2.0)
    worker.kill()
    here.worker(pid=101)
    here.until(lambda: here.script.settled(job))
    assert here.script.results[job][0].outcome is Outcome.PREEMPTED


def test_leaving_without_a_server_ends_and_says_where_the_results_are() -> None:
    here = world()
    here.script.add(1, "true")
    worker = here.worker(linger=60.0)
    here.until(lambda: worker.processes.launched)
    here.stop_server()
    here.reactor.advance(30.0)
    worker.agent.leave("SIGTERM")
    here.until(lambda: worker.ended, within=120.0)
    assert any("1 results are not handed in yet" in line and "/work/n1-100" in line for line in here.said)


def test_a_drained_worker_takes_nothing_and_may_leave() -> None:
    here = world()
    worker = here.worker(leaves_when_drained=True)
    here.until(lambda: here.script.turns)
    here.server.push(Orders(drain="new kernel"))
    here.reactor.advance(1.0)
    job = here.script.add(1, "true")
    here.reactor.advance(60.0)
    assert job not in here.script.leased
    here.server.push(Orders(drain=""))
    here.until(lambda: here.script.settled(job), within=30.0)
    here.server.push(Orders(drain="new kernel", leave=True))
    here.until(lambda: worker.ended, within=30.0)


def test_a_drained_worker_that_has_no_end_stays_to_be_resumed() -> None:
    here = world()
    worker = here.worker()
    here.until(lambda: here.script.turns)
    here.server.push(Orders(drain="new kernel", leave=True))
    here.reactor.advance(600.0)
    assert not worker.ended
    here.server.push(Orders(drain=""))
    job = here.script.add(1, "true")
    here.until(lambda: here.script.settled(job), within=30.0)


def test_an_idle_worker_leaves_after_its_time() -> None:
    here = world()
    job = here.script.add(1, "true")
    worker = here.worker(idle=300.0)
    here.until(lambda: worker.ended, within=1000.0)
    assert here.script.settled(job)
    assert 300.0 <= here.reactor.seconds() < 320.0
    assert "5 minutes" in str(worker.ended[0])


def test_what_the_workers_own_time_ends_is_not_the_jobs_failure() -> None:
    here = world(long=Program(10_000.0))
    job = here.script.add(1, "long")
    worker = here.worker(until_in=600.0, grace=20.0)
    here.until(lambda: worker.ended, within=700.0)
    assert here.script.results[job][0].outcome is Outcome.WALLTIME
    assert 500.0 < here.reactor.seconds() < 600.0
    assert here.script.turns[0].time_left is not None


def test_a_full_disk_is_the_workers_fault_and_it_steps_back() -> None:
    here = world(fill=Program(2.0, code=1))
    worker = here.worker(cores=1, least_free=1 << 20)
    here.until(lambda: here.script.turns)
    here.platter.capacity = here.platter.used() + 1000
    job = here.script.add(1, "true")
    here.until(lambda: here.script.settled(job))
    assert here.script.results[job][0].outcome is Outcome.REFUSED
    assert "disk is full" in here.script.results[job][0].message
    later = here.script.add(2, "true")
    here.reactor.advance(10.0)
    assert later not in here.script.leased
    assert not here.script.turns[-1].wants
    assert "disk is full" in here.script.turns[-1].note
    here.platter.capacity = 1 << 40
    here.until(lambda: here.script.settled(later), within=60.0)
    assert here.script.results[later][0].outcome is Outcome.OK
    assert worker.ended == []


def test_a_job_that_fails_on_a_full_disk_is_not_blamed() -> None:
    here = world(fill=Program(20.0, code=1))
    job = here.script.add(1, "fill")
    worker = here.worker(least_free=1 << 20)
    here.until(lambda: worker.processes.launched)
    here.platter.capacity = here.platter.used() + 20_000
    here.until(lambda: here.script.settled(job))
    assert here.script.results[job][0].outcome is Outcome.REFUSED


def test_a_result_that_cannot_be_written_waits_for_room() -> None:
    here = world(make=Program(5.0, writes=((0.5, "big.dat", bytes(200_000)),)))
    job = here.script.add(1, "make")
    worker = here.worker(least_free=0)
    here.until(lambda: worker.processes.launched)
    here.reactor.advance(1.0)
    here.platter.capacity = here.platter.used()
    here.reactor.advance(60.0)
    assert not here.script.settled(job)
    assert "cannot be written" in here.script.turns[-1].note
    assert job in here.script.turns[-1].holds
    here.platter.capacity = 1 << 40
    here.until(lambda: here.script.settled(job), within=300.0)
    assert here.script.results[job][0].outcome is Outcome.OK


def test_a_brief_result_is_told_while_the_disk_does_not_take_it() -> None:
    here = world()
    job = here.script.add(1, "true")
    worker = here.worker(least_free=0)
    here.until(lambda: worker.processes.launched)
    here.platter.capacity = here.platter.used()
    here.until(lambda: here.script.settled(job), within=5.0)
    assert here.script.results[job][0].outcome is Outcome.OK
    here.platter.capacity = 1 << 40
    here.until(lambda: not worker.agent.desk.attempts, within=400.0)
    assert worker.agent.left_behind == 0
    assert not worker.agent.desk.deliveries


def test_a_brief_result_that_the_server_has_before_the_disk_is_kept_no_longer() -> None:
    here = world()
    job = here.script.add(1, "true")
    worker = here.worker()
    spool, done = worker.agent.room.spool, []
    add = spool.add

    async def slow(lease: Lease, body: bytes) -> None:
        await sleep(here.reactor, 3.0)
        await add(lease, body)
        done.append(lease)

    spool.add = slow  # type: ignore[method-assign]
    here.until(lambda: here.script.settled(job), within=5.0)
    assert not done
    here.until(lambda: bool(done) and not worker.agent.desk.attempts, within=10.0)
    assert worker.agent.left_behind == 0
    assert len(here.script.results[job]) == 1


def test_a_program_that_the_job_misnamed_is_the_jobs_failure() -> None:
    here = world()
    job = here.script.add(1, "nosuch")
    here.worker()
    here.until(lambda: here.script.settled(job))
    assert here.script.results[job][0].outcome is Outcome.FAILED
    assert "nosuch" in here.script.results[job][0].message


def test_an_announced_program_that_is_gone_is_the_workers_fault() -> None:
    here = world()
    job = here.script.add(1, "nosuch", executable="gromacs/mdrun")
    here.worker()
    here.until(lambda: here.script.settled(job))
    assert here.script.results[job][0].outcome is Outcome.REFUSED
    assert not here.script.turns[-1].wants


def test_a_node_that_fails_every_job_within_seconds_stops_taking_them() -> None:
    here = world(broken=Program(0.5, code=1))
    for number in range(40):
        here.script.add(number, "broken")
    here.worker(cores=1)
    here.reactor.advance(300.0)
    assert 5 <= len(here.script.results) <= 12
    assert any("in a row failed" in line for line in here.said)
    assert any("in a row failed" in turn.note for turn in here.script.turns)


def test_live_output_is_sent_while_somebody_follows() -> None:
    here = world(talk=Program(60.0, writes=tuple((float(at), "stdout", b"line %d\n" % at) for at in range(1, 60))))
    job = here.script.add(1, "talk")
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    here.reactor.advance(5.5)
    assert here.script.tails == []
    here.server.push(Orders(follow=(job,)))
    here.reactor.advance(10.0)
    tails = here.script.tails
    assert len(tails) >= 8
    text = b"".join(tail.data for tail in tails)
    assert text.startswith(b"line 1\nline 2\n")
    assert [tail.offset for tail in tails] == [sum(len(t.data) for t in tails[:n]) for n in range(len(tails))]


def test_a_result_that_the_server_cannot_take_now_comes_again() -> None:
    here = world()
    here.script.postpone = 3
    job = here.script.add(1, "true")
    here.worker()
    here.until(lambda: here.script.settled(job), within=200.0)
    assert here.script.results[job][0].outcome is Outcome.OK


def test_a_result_that_the_server_chokes_on_does_not_hold_up_the_others() -> None:
    here = world()
    jobs = [here.script.add(number, "true") for number in range(6)]
    here.script.poisoned = jobs[2]
    here.worker(cores=6)
    here.until(lambda: len(here.script.results) == 5, within=30.0)
    assert len(here.script.hellos) == 1
    assert any("does not take the result of job 2" in line for line in here.said)
    here.script.poisoned = None
    here.until(lambda: here.script.settled(jobs[2]), within=600.0)
