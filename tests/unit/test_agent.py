"""The worker's agent against a scripted server: the real wire, spool and agent on a network in memory, in virtual time."""

from __future__ import annotations

import pytest

from cpc.core.outcome import Outcome
from cpc.core.resources import Amounts
from cpc.wire.messages import Orders
from tests.helpers.programs import Program
from tests.helpers.worker_fixture import expected, world
from tests.helpers.worker_world import lease

__all__ = ["expected"]

SECOND_LOOK = 200.0


def test_a_job_runs_and_its_result_is_handed_in_once() -> None:
    here = world(hello=Program(5.0, writes=((1.0, "stdout", b"hello\n"), (2.0, "out/data.txt", b"42"))))
    job = here.script.add(1, "hello")
    worker = here.worker()
    here.until(lambda: here.script.settled(job))
    here.reactor.advance(SECOND_LOOK)
    results = here.script.results[job]
    assert len(results) == 1
    assert results[0].outcome is Outcome.OK
    assert results[0].exit_code == 0
    assert results[0].tail == "hello\n"
    assert results[0].wall_seconds == pytest.approx(5.0)
    assert here.script.file(job, "stdout") == b"hello\n"
    assert here.script.file(job, "out/data.txt") == b"42"
    assert worker.leftovers == []
    assert here.script.enrolments == 1


def test_the_job_sees_who_it_is() -> None:
    here = world()
    job = here.script.add(7, "true", granted=Amounts(cores=3), env={"CPC_INDEX": "0", "MINE": "x"})
    worker = here.worker()
    here.until(lambda: here.script.settled(job))
    env = worker.processes.launched[0].env
    assert env["CPC_JOB"] == "7[0]"
    assert env["CPC_ATTEMPT"] == "1"
    assert env["CPC_CORES"] == "3"
    assert env["CPC_INDEX"] == "0"
    assert env["MINE"] == "x"


def test_a_failure_is_the_jobs_and_its_output_comes_back() -> None:
    here = world(bad=Program(20.0, code=3, writes=((1.0, "stderr", b"no such atom\n"),)))
    job = here.script.add(1, "bad")
    here.worker()
    here.until(lambda: here.script.settled(job))
    result = here.script.results[job][0]
    assert (result.outcome, result.exit_code) == (Outcome.FAILED, 3)
    assert "exit code 3" in result.message
    assert result.tail == "no such atom\n"


def test_no_more_runs_than_there_are_cores() -> None:
    here = world()
    jobs = [here.script.add(number, "true") for number in range(10)]
    worker = here.worker(cores=3)
    most = 0
    for _ in range(2000):
        if all(here.script.settled(job) for job in jobs):
            break
        here.reactor.step()
        most = max(most, len(worker.processes.running()))
    here.until(lambda: all(here.script.settled(job) for job in jobs))
    assert most == 3


def test_a_free_core_is_told_at_once_and_not_with_the_next_beat() -> None:
    here = world()
    jobs = [here.script.add(number, "true") for number in range(5)]
    here.worker(cores=1)
    here.until(lambda: all(here.script.settled(job) for job in jobs))
    assert here.reactor.seconds() < 8.0


def test_beats_go_on_while_nothing_happens() -> None:
    here = world(long=Program(1000.0))
    job = here.script.add(1, "long")
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    before = len(here.script.turns)
    here.reactor.advance(100.0)
    assert 9 <= len(here.script.turns) - before <= 13
    assert here.script.turns[-1].holds == (job,)


def test_a_restart_of_the_server_costs_no_job() -> None:
    here = world(long=Program(300.0))
    job = here.script.add(1, "long")
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    here.restart_server(away=120.0)
    here.until(lambda: here.script.settled(job))
    assert here.script.results[job][0].outcome is Outcome.OK
    assert len(worker.processes.launched) == 1
    assert here.script.hellos[1].holds == (job,)
    assert here.script.hellos[0].boot == here.script.hellos[1].boot


def test_a_result_of_the_time_without_a_server_is_kept_on_disk_and_handed_in() -> None:
    here = world()
    job = here.script.add(1, "true")
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    here.stop_server()
    here.reactor.advance(3600.0)
    assert not here.script.settled(job)
    assert len(worker.agent.room.spool) == 1
    here.restart_server(away=1.0)
    here.until(lambda: here.script.settled(job), within=100.0)


def test_a_lost_answer_makes_the_result_come_again_and_nothing_run_twice() -> None:
    here = world()
    job = here.script.add(1, "true")
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    here.script.lose_answers = 1
    here.until(lambda: len(here.script.results.get(job, [])) >= 2)
    here.reactor.advance(SECOND_LOOK)
    assert len(here.script.results[job]) == 2
    assert len(worker.processes.launched) == 1
    assert worker.leftovers == []


def test_a_task_that_is_told_twice_runs_once() -> None:
    here = world()
    job = here.script.add(1, "true")
    worker = here.worker()
    here.until(lambda: job in here.script.leased)
    here.server.push(Orders(tasks=(here.script.leased[job],)))
    here.until(lambda: here.script.settled(job))
    here.server.push(Orders(tasks=(here.script.leased[job],)))
    here.reactor.advance(SECOND_LOOK)
    assert len(worker.processes.launched) == 1


def test_a_silent_server_is_left_for_a_new_connection() -> None:
    here = world(long=Program(300.0))
    job = here.script.add(1, "long")
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    here.script.mute = True
    here.reactor.advance(60.0)
    here.script.mute = False
    here.until(lambda: here.script.settled(job))
    assert here.script.results[job][0].outcome is Outcome.OK


def test_a_partition_is_waited_out() -> None:
    here = world(long=Program(100.0))
    job = here.script.add(1, "long")
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    here.network.partition("n1", "s")
    here.reactor.advance(1800.0)
    assert not here.script.settled(job)
    here.network.heal()
    here.until(lambda: here.script.settled(job), within=300.0)


def test_a_killed_worker_hands_in_what_it_had_spooled_and_forgets_what_it_ran() -> None:
    here = world(long=Program(1000.0))
    done, running = here.script.add(1, "true"), here.script.add(2, "long")
    worker = here.worker()
    here.until(lambda: len(worker.processes.launched) == 2)
    here.stop_server()
    here.reactor.advance(30.0)
    worker.kill()
    here.restart_server(away=5.0)
    again = here.worker(pid=101)
    here.until(lambda: here.script.settled(done))
    assert here.script.results[done][0].outcome is Outcome.OK
    assert not here.script.settled(running)
    here.reactor.advance(30.0)
    assert again.leftovers == []
    assert [each for each in here.platter.names if "n1-100" in each or "adopted" in each] == []
    assert here.script.hellos[0].boot != here.script.hellos[-1].boot
    assert here.script.enrolments == 1  # the same key, the same certificate


def test_a_power_loss_keeps_every_result_that_was_spooled() -> None:
    big = bytes(range(256)) * 20_000  # 5 MB: two chunks, too big for the report
    here = world(make=Program(1.0, writes=((0.5, "sub/big.dat", big),)))
    job = here.script.add(1, "make")
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    here.stop_server()
    here.reactor.advance(30.0)
    assert len(worker.agent.room.spool) == 1
    worker.kill()
    here.platter.power_loss()
    here.restart_server(away=1.0)
    here.worker(pid=101)
    here.until(lambda: here.script.settled(job))
    assert here.script.results[job][0].outcome is Outcome.OK
    assert here.script.file(job, "sub/big.dat") == big


def test_another_hosts_directory_is_adopted_when_its_worker_is_dead_for_long() -> None:
    here = world()
    job = here.script.add(1, "true")
    worker = here.worker("n1")
    here.until(lambda: worker.processes.launched)
    here.stop_server()
    here.reactor.advance(30.0)
    worker.kill()
    here.restart_server(away=1.0)
    here.worker("n2", pid=200)
    here.reactor.advance(300.0)
    assert not here.script.settled(job)  # it may live: its host cannot be seen
    here.until(lambda: here.script.settled(job), within=2000.0)


def test_a_cancelled_job_is_ended_and_leaves_nothing() -> None:
    here = world(long=Program(1000.0, writes=((1.0, "out", b"x"),)))
    job = here.script.add(1, "long")
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    here.reactor.advance(5.0)
    here.server.push(Orders(cancel=((job, "not needed"),)))
    here.until(lambda: here.script.settled(job), within=10.0)
    result = here.script.results[job][0]
    assert result.outcome is Outcome.CANCELLED
    assert "not needed" in result.message
    assert result.files.entries == ()
    here.reactor.advance(5.0)
    assert worker.leftovers == []


def test_a_job_that_ignores_sigterm_is_killed_after_the_grace() -> None:
    here = world(deaf=Program(10_000.0, term_seconds=1e9))
    job = here.script.add(1, "deaf")
    worker = here.worker(grace=30.0)
    here.until(lambda: worker.processes.launched)
    began = here.reactor.seconds()
    here.server.push(Orders(cancel=((job, ""),)))
    here.until(lambda: here.script.settled(job))
    assert 29.0 < here.reactor.seconds() - began < 33.0


def test_what_the_server_does_not_know_any_more_is_ended_without_a_word() -> None:
    here = world(long=Program(1000.0))
    job = here.script.add(1, "long")
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    here.script.drop = (job,)
    here.restart_server(away=1.0)
    here.until(lambda: not worker.processes.running())
    here.reactor.advance(SECOND_LOOK)
    assert not here.script.settled(job)
    assert worker.leftovers == []


def test_the_certificate_renews_itself_over_the_live_session() -> None:
    here = world()
    here.script.certificate_valid_for = 7200.0
    here.worker()
    here.reactor.advance(5 * 7200.0)
    assert here.script.renewals >= 4
    assert here.script.enrolments == 1
    assert len(here.script.hellos) == 1


def test_an_expired_certificate_is_replaced_with_the_bundles_help() -> None:
    here = world()
    here.script.certificate_valid_for = 7200.0
    here.worker()
    here.until(lambda: here.script.turns)
    here.restart_server(away=10 * 7200.0)
    here.until(lambda: len(here.script.hellos) == 2, within=200.0)
    assert here.script.enrolments == 2
    assert here.script.names == dict.fromkeys(here.script.names, "w1")


def test_two_workers_on_one_host_are_two() -> None:
    here = world()
    here.worker(pid=100)
    here.worker(pid=101)
    here.until(lambda: len(here.script.hellos) == 2)
    assert here.script.enrolments == 2


def test_the_same_seed_tells_the_same_story() -> None:
    def story() -> list[str]:
        here = world(long=Program(50.0))
        for number in range(6):
            here.script.add(number, "long" if number % 2 else "true")
        here.worker(cores=2)
        here.until(lambda: len(here.script.results) == 6)
        return [f"{turn.number} {turn.free} {len(turn.results)}" for turn in here.script.turns] + here.network.trace

    assert story() == story()


def test_what_a_worker_holds_is_named_twice_in_a_beat_if_the_server_takes_brief_turns() -> None:
    here = world(long=Program(50.0))
    here.script.brief = True
    for number in range(20):
        here.script.add(number, "true")
    job = here.script.add(20, "long")
    here.worker(cores=2)
    here.until(lambda: job in here.script.leased and len(here.script.results) == 20)
    here.reactor.advance(3 * here.script.beat)
    named = [turn for turn in here.script.turns if not turn.brief]
    assert not here.script.turns[0].brief
    assert not any(turn.holds for turn in here.script.turns if turn.brief)
    assert all(turn.holds == (job,) for turn in named[-3:])
    assert 5 <= len(named) < len(here.script.turns)
    here.restart_server(1.0)
    count = len(here.script.turns)
    here.until(lambda: len(here.script.turns) > count)
    assert here.script.turns[count].holds == (job,), "a new session begins with all of it"


def test_a_worker_remembers_what_it_holds_in_every_turn() -> None:
    here = world(long=Program(50.0))
    jobs = {here.script.add(number, "long") for number in range(3)}
    here.worker(cores=4)
    here.until(lambda: len(here.script.leased) == 3)
    here.reactor.advance(20.0)
    assert set(here.script.turns[-1].holds) == jobs
    here.until(lambda: len(here.script.results) == 3)
    here.reactor.advance(20.0)
    assert here.script.turns[-1].holds == ()
    assert lease(0) in here.script.results
