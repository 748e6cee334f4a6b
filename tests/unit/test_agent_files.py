"""The files of a job at the worker: checkpoints, inputs, big outputs; in virtual time."""

from __future__ import annotations

import errno

from cpc.core.manifest import Entry, Manifest
from cpc.core.outcome import Outcome
from tests.helpers.programs import Program
from tests.helpers.worker_fixture import expected, world

__all__ = ["expected"]

SECOND_LOOK = 200.0


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


def test_a_checkpoint_that_was_not_told_in_time_leaves_no_copy() -> None:
    here = world(md=Program(130.0, writes=((50.0, "state.cpt", b"step 1"),)))
    job = here.script.add(1, "md", checkpoint_patterns=("*.cpt",))
    here.worker()
    here.until(lambda: job in here.script.leased)
    here.reactor.advance(90.0)
    here.script.mute = True  # the turn in which it would be told is not answered
    here.reactor.advance(30.0)
    assert [each for each in here.platter.names if "/checkpoints/" in each]
    here.reactor.advance(30.0)
    here.script.mute = False
    here.until(lambda: here.script.settled(job), within=1000.0)
    here.reactor.advance(10.0)
    assert [each for each in here.platter.names if "/checkpoints/" in each] == []


def test_a_checkpoint_that_the_disk_has_no_room_for_leaves_no_copy() -> None:
    here = world(md=Program(350.0, writes=((50.0, "state.cpt", b"step 1"), (50.0, "state2.cpt", b"step 1"))))
    job = here.script.add(1, "md", checkpoint_patterns=("*.cpt",))
    worker = here.worker()
    copy, copied = worker.disk.copy, []

    def full(old: str, new: str) -> None:
        if copied:
            raise OSError(errno.ENOSPC, "No space left on device", new)
        copied.append(new)
        copy(old, new)

    worker.disk.copy = full  # type: ignore[method-assign]
    here.until(lambda: copied, within=1000.0)
    here.reactor.advance(10.0)
    assert [each for each in here.platter.names if "/checkpoints/" in each] == []
    here.until(lambda: here.script.settled(job), within=1000.0)


def test_the_next_attempt_begins_from_the_checkpoint() -> None:
    here = world()
    data = here.script.put_file(b"step 9")
    plain = here.script.put_file(b"input")
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


def test_bytes_that_are_not_what_was_asked_for_never_reach_a_job() -> None:
    here = world()
    data = here.script.put_file(b"what it was given")
    here.script.chunks[data.chunks[0]] = b"something else..."
    job = here.script.add(1, "true", inputs=(("in", data, False),))
    worker = here.worker()
    here.until(lambda: here.script.settled(job))
    assert worker.processes.launched == []
    result = here.script.results[job][0]
    assert result.outcome is Outcome.REFUSED
    assert "not what was asked for" in result.message


def test_big_outputs_go_over_the_bulk_connection_before_the_report() -> None:
    big = b"".join(bytes([number]) * (4 << 20) for number in range(3))  # 12 MiB
    here = world(make=Program(1.0, writes=((0.5, "big.dat", big),)))
    job = here.script.add(1, "make")
    here.worker()
    here.until(lambda: here.script.settled(job))
    assert here.script.file(job, "big.dat") == big
    assert all(len(data) <= 64 << 10 for data in here.script.results[job][0].small.values())
    assert len(here.script.puts) == 3


def test_what_was_read_to_hash_it_is_sent_as_it_is() -> None:
    """Not read again, if it is sent at once: and whatever becomes of the file meanwhile, what was hashed is what is sent."""
    big = b"".join(bytes([number]) * (4 << 20) for number in range(2))
    here = world(make=Program(1.0, writes=((0.5, "big.dat", big),)))
    job = here.script.add(1, "make")
    worker = here.worker()
    read, reads = worker.disk.read, []

    def counted(path: str, offset: int = 0, size: int = -1) -> bytes:
        if path.endswith("big.dat") and offset < len(big):
            reads.append(offset)
        return read(path, offset, size)

    worker.disk.read = counted  # type: ignore[method-assign]
    here.until(lambda: here.script.settled(job))
    assert here.script.file(job, "big.dat") == big
    assert reads == [0, 4 << 20]


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


def test_what_cannot_be_sent_soon_is_kept_in_memory_for_a_minute_only() -> None:
    """Also if no other result comes, which may be days; then it is read again."""
    big, other = (bytes([number]) * (4 << 20) for number in range(2))
    here = world(
        make=Program(20.0, writes=((0.5, "big.dat", big),)), later=Program(40.0, writes=((0.5, "big.dat", other),))
    )
    jobs = [here.script.add(1, "make"), here.script.add(2, "later")]
    worker = here.worker()
    here.until(lambda: len(worker.processes.launched) == 2)
    here.stop_server()
    fresh = worker.agent.room.transfer._fresh
    here.reactor.advance(50.0)
    assert fresh.size == 2 * len(big)
    here.reactor.advance(35.0)
    assert 0 < fresh.size < 2 * len(big)
    here.reactor.advance(20.0)
    assert fresh.size == 0
    here.restart_server(away=1.0)
    here.until(lambda: all(here.script.settled(job) for job in jobs))
    assert here.script.file(jobs[0], "big.dat") == big
