"""The worker's agent against a scripted server: the real wire, spool and agent on a network in memory, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cpc.core.outcome import Outcome
from cpc.core.resources import Amounts
from cpc.wire.messages import Orders
from cpc.worker.link import Revoked
from tests.helpers.programs import Program
from tests.helpers.worker_world import World, lease

SECOND_LOOK = 200.0


WORLDS: list[World] = []


def world(**programs: Program) -> World:
    WORLDS.append(World(programs={"true": Program(1.0), **programs}))
    return WORLDS[-1]


@pytest.fixture(autouse=True)
def _expected() -> Iterator[None]:
    """Nothing goes wrong that the agent did not expect."""
    yield
    for here in WORLDS:
        here.check()
    WORLDS.clear()


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
    worker = here.worker(environment={"PATH": "/bin"})
    here.until(lambda: here.script.settled(job))
    env = worker.processes.launched[0].env
    assert env["CPC_JOB"] == "7[0]"
    assert env["CPC_ATTEMPT"] == "1"
    assert env["CPC_CORES"] == "3"
    assert env["CPC_INDEX"] == "0"
    assert env["MINE"] == "x"
    assert env["PATH"] == "/bin"


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


def test_checkpoints_travel_while_the_job_runs_and_only_when_they_changed() -> None:
    writes = ((50.0, "state.cpt", b"step 1"), (150.0, "state.cpt", b" step 2"), (160.0, "other", b"no"))
    here = world(md=Program(700.0, writes=writes))
    job = here.script.add(1, "md", checkpoint_patterns=("*.cpt",))
    here.worker()
    here.until(lambda: here.script.settled(job), within=1000.0)
    taken = [here.script.manifest_bytes(each.files, "state.cpt") for each in here.script.checkpoints]
    assert taken == [b"step 1", b"step 1 step 2"]
    assert [each.path for each in here.script.checkpoints[1].files.entries] == [b"state.cpt"]
    here.reactor.advance(10.0)
    assert [each for each in here.platter.names if "/checkpoints/" in each] == []


def test_a_file_that_never_stands_still_is_not_taken_as_a_checkpoint() -> None:
    here = world(md=Program(350.0, writes=((1.0, "state.cpt", b"x"),)))
    job = here.script.add(1, "md", checkpoint_patterns=("*.cpt",))
    worker = here.worker()
    copy = worker.disk.copy

    def busy(old: str, new: str) -> None:
        copy(old, new)
        worker.disk.append(old, b"more")

    worker.disk.copy = busy  # type: ignore[method-assign]
    here.until(lambda: here.script.settled(job), within=1000.0)
    assert here.script.checkpoints == []


def test_the_next_attempt_begins_from_the_checkpoint() -> None:
    here = world()
    data = here.script.put_file(b"step 9")
    plain = here.script.put_file(b"input")
    from cpc.core.manifest import Entry, Manifest

    files = Manifest(
        (
            Entry(b"deep", kind="dir", mode=0o755),
            Entry(b"deep/state.cpt", content=data),
            Entry(b"last.cpt", kind="link", target=b"deep/state.cpt"),
        )
    )
    seen: dict[str, bytes] = {}
    job = here.script.add(1, "true", inputs=(("conf.gro", plain, False), ("run.sh", plain, True)), checkpoint=files)
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    top = worker.processes.launched[0].cwd
    for name in ("conf.gro", "run.sh", "deep/state.cpt"):
        seen[name] = worker.disk.read(f"{top}/{name}")
    assert seen == {"conf.gro": b"input", "run.sh": b"input", "deep/state.cpt": b"step 9"}
    assert worker.disk.read_link(f"{top}/last.cpt") == b"deep/state.cpt"
    stat = worker.disk.stat(f"{top}/run.sh")
    assert stat is not None
    assert stat.mode & 0o100
    assert worker.disk.stat(top).mode == 0o700  # type: ignore[union-attr]
    here.until(lambda: here.script.settled(job))
    paths = [entry.path for entry in here.script.results[job][0].files.entries]
    assert b"conf.gro" not in paths  # an unchanged input is no output


def test_a_checkpoint_that_leads_out_of_the_directory_is_refused() -> None:
    from cpc.core.manifest import Entry, Manifest

    here = world()
    data = here.script.put_file(b"root::0:0")
    job = here.script.add(1, "true", checkpoint=Manifest((Entry(b"../../etc/passwd", content=data),)))
    worker = here.worker()
    here.until(lambda: here.script.settled(job))
    assert here.script.results[job][0].outcome is Outcome.REFUSED
    assert worker.processes.launched == []
    assert "/etc/passwd" not in here.platter.names


def test_an_input_travels_once_for_many_jobs() -> None:
    here = world()
    data = here.script.put_file(bytes(5 << 20))
    jobs = [here.script.add(number, "true", inputs=(("in", data, False),)) for number in range(8)]
    here.worker(cores=4)
    here.until(lambda: all(here.script.settled(job) for job in jobs))
    assert sorted(here.script.gets) == sorted(data.chunks)


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
    here = world()
    job = here.script.add(1, "true")
    worker = here.worker(least_free=0)
    here.until(lambda: worker.processes.launched)
    here.platter.capacity = here.platter.used()
    here.reactor.advance(60.0)
    assert not here.script.settled(job)
    assert "cannot be written" in here.script.turns[-1].note
    assert job in here.script.turns[-1].holds
    here.platter.capacity = 1 << 40
    here.until(lambda: here.script.settled(job), within=300.0)
    assert here.script.results[job][0].outcome is Outcome.OK


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


def test_big_outputs_go_over_the_bulk_connection_before_the_report() -> None:
    big = b"".join(bytes([number]) * (4 << 20) for number in range(3))  # 12 MiB
    here = world(make=Program(1.0, writes=((0.5, "big.dat", big),)))
    job = here.script.add(1, "make")
    here.worker()
    here.until(lambda: here.script.settled(job))
    assert here.script.file(job, "big.dat") == big
    assert all(len(data) <= 64 << 10 for data in here.script.results[job][0].small.values())
    assert len(here.script.puts) == 3


def test_an_upload_goes_on_where_it_was_cut() -> None:
    big = b"".join(bytes([number]) * (4 << 20) for number in range(8))
    here = world(make=Program(1.0, writes=((0.5, "big.dat", big),)))
    job = here.script.add(1, "make")
    here.worker()
    here.until(lambda: len(here.script.puts) >= 3)
    here.restart_server(away=20.0)
    here.until(lambda: here.script.settled(job))
    assert here.script.file(job, "big.dat") == big
    assert len(here.script.puts) <= 8 + 4  # at most what was in flight comes again


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


def test_a_revoked_worker_stops_its_jobs_and_ends_in_words() -> None:
    here = world(long=Program(10_000.0))
    here.script.add(1, "long")
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    here.script.revoked = "its bundle was revoked"
    here.restart_server(away=1.0)
    here.until(lambda: worker.ended, within=200.0)
    failure = worker.ended[0]
    assert failure.check(Revoked)  # type: ignore[attr-defined]
    assert "revoked" in failure.value.message  # type: ignore[attr-defined]
    assert not worker.processes.running()


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
