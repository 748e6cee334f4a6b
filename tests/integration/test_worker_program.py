"""cpc-worker as a real process, with real jobs, against a scripted server on 127.0.0.1."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue

from cpc.core.chance import SystemChance
from cpc.core.clock import SystemClock
from cpc.core.outcome import Outcome
from cpc.core.probe import Way
from cpc.core.resources import Amounts
from cpc.wire import bundle as bundles
from cpc.wire.identity import Authority
from cpc.wire.messages import Orders
from tests.helpers.worker_world import SERVER, FakeServer, RealHost, Script, make_bundle

COMMAND = str(Path(sys.executable).parent / "cpc-worker")


async def until(true: Callable[[], object], within: float = 120.0) -> None:
    """Wait for a visible state."""
    clock = SystemClock()
    end = clock.monotonic() + within
    while not true():
        assert clock.monotonic() < end, "it did not become true in time"
        await deferLater(reactor, 0.02)  # type: ignore[arg-type]


class Program:
    """One cpc-worker."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        self.output = directory / f"output-{len(list(directory.glob('output-*')))}"
        environ = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [COMMAND, "-c", str(directory / "w.cnx"), "--home", str(directory / "home"), *arguments],
                cwd=directory,
                stdout=file,
                stderr=file,
                env=environ,
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    async def ended(self, within: float = 120.0) -> int:
        await until(lambda: self.process.poll() is not None, within)
        return self.process.wait()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Lab:
    """A server that listens, and workers in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.script = Script(Authority.create(SERVER, SystemClock(), SystemChance()))
        self.script.beat = 0.5
        self.script.heartbeat_time = 60.0
        self.script.checkpoint_interval = 0.3
        self.port = 0
        self.programs: list[Program] = []
        self.server: FakeServer | None = None

    async def start(self) -> None:
        self.server = FakeServer(RealHost(reactor), self.script, self.port)
        port = await self.server.listening
        self.port = port.getHost().port
        bundles.write(make_bundle(self.script.authority, "127.0.0.1", self.port), self.directory / "w.cnx")

    async def stop(self) -> None:
        assert self.server is not None
        await self.server.listener.stop()
        server, self.server = self.server, None
        await until(lambda: not server.listener.connections)

    def worker(self, *arguments: str, **environment: str) -> Program:
        self.programs.append(Program(self.directory, "-n", "2", *arguments, **environment))
        return self.programs[-1]

    async def done(self, job: object, within: float = 120.0) -> None:
        await until(lambda: job in self.script.results, within)

    @property
    def work(self) -> Path:
        return self.directory / "cpc-worker-workload"

    def left(self) -> list[str]:
        """Directories of workers that are still there."""
        return [each.name for each in self.work.iterdir() if each.name != "cache"]


@asynccontextmanager
async def lab(directory: Path) -> AsyncIterator[Lab]:
    here = Lab(directory)
    await here.start()
    try:
        yield here
    finally:
        for program in here.programs:
            program.end()
        if here.server is not None:
            await here.stop()


@pytest_twisted.ensureDeferred
async def test_a_real_job_with_inputs_and_outputs(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        big = os.urandom(9 << 20)
        data, script = here.script.put_file(big), here.script.put_file(b"#!/bin/sh\ncat in.dat > sub/out.dat\n")
        job = here.script.add(
            1,
            "/bin/sh",
            "-c",
            "mkdir sub; ./run.sh; echo $CPC_JOB $CPC_CORES; echo oops >&2; exit 4",
            inputs=(("in.dat", data, False), ("run.sh", script, True)),
            outputs=("sub/*",),
            granted=Amounts(cores=2),
        )
        here.worker()
        await here.done(job)
        result = here.script.results[job][0]
        assert (result.outcome, result.exit_code) == (Outcome.FAILED, 4)
        assert here.script.file(job, "sub/out.dat") == big
        assert here.script.file(job, "stdout") == b"1 2\n"
        assert "oops" in result.tail
        assert {entry.path for entry in result.files.entries} == {b"sub/out.dat", b"stdout", b"stderr"}
        assert result.wall_seconds > 0


@pytest_twisted.ensureDeferred
async def test_many_short_jobs_and_a_drained_end(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        jobs = [here.script.add(number, "true") for number in range(60)]
        worker = here.worker("-q", "60")
        await until(lambda: len(here.script.results) == len(jobs))
        assert all(here.script.results[job][0].outcome is Outcome.OK for job in jobs)
        assert here.server is not None
        here.server.push(Orders(drain="new kernel", leave=True))
        assert await worker.ended() == 0
        assert here.left() == []


@pytest_twisted.ensureDeferred
async def test_sigterm_hands_back_with_a_checkpoint(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        text = "trap 'echo saved > state.cpt; exit 0' TERM; echo begun > new; mv new state.cpt; sleep 1000 & wait"
        job = here.script.add(1, "/bin/sh", "-c", text, checkpoint_patterns=("*.cpt",))
        worker = here.worker()
        await until(lambda: here.script.checkpoints)
        assert here.script.manifest_bytes(here.script.checkpoints[0].files, "state.cpt") == b"begun\n"
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.ended() == 0
        assert here.script.results[job][0].outcome is Outcome.PREEMPTED
        assert here.script.manifest_bytes(here.script.checkpoints[-1].files, "state.cpt") == b"saved\n"
        assert here.script.goodbyes == ["SIGTERM"]
        assert here.left() == []


@pytest_twisted.ensureDeferred
async def test_a_second_sigterm_ends_it_at_once_and_hand_in_brings_the_rest(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        text = "trap '' TERM; echo here; while :; do sleep 1; done"
        job = here.script.add(1, "/bin/sh", "-c", text)
        worker = here.worker("--grace", "1000")
        await until(lambda: [each for each in here.work.glob("*/runs/*/stdout") if each.read_text()])
        await here.stop()
        worker.process.send_signal(signal.SIGTERM)
        await until(lambda: "leaving: SIGTERM" in worker.said)
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.ended() == 1
        assert "1 results are not handed in yet" in worker.said
        assert job not in here.script.results
        await here.start()
        by_hand = here.worker("--hand-in", str(here.work))
        assert await by_hand.ended() == 0
        assert here.script.results[job][0].outcome is Outcome.PREEMPTED
        assert here.left() == []


@pytest_twisted.ensureDeferred
async def test_in_a_batch_job_sigterm_may_come_often_and_reach_the_jobs_as_well(tmp_path: Path) -> None:
    """Slurm tells every process of an allocation that it ends, and the script tells the worker once more."""
    async with lab(tmp_path) as here:
        text = "trap 'sleep 0.5; echo saved > state.cpt; exit $0' TERM; echo $$ > pid; while :; do sleep 0.05; done"
        jobs = [here.script.add(n, "/bin/sh", "-c", text, str(n), checkpoint_patterns=("*.cpt",)) for n in (0, 3)]
        worker = here.worker(SLURM_JOB_ID="7")
        await until(lambda: sum(each.read_text().endswith("\n") for each in here.work.glob("*/runs/*/pid")) == 2)
        for pid in [int(each.read_text()) for each in here.work.glob("*/runs/*/pid")]:
            os.kill(pid, signal.SIGTERM)
        for _ in range(2):
            worker.process.send_signal(signal.SIGTERM)
            await until(lambda: "leaving: SIGTERM" in worker.said)
        assert await worker.ended() == 0
        assert [here.script.results[job][0].outcome for job in jobs] == [Outcome.PREEMPTED] * 2
        last = {each.lease: each.files for each in here.script.checkpoints}  # there may be one between word and end
        assert [here.script.manifest_bytes(last[job], "state.cpt") for job in jobs] == [b"saved\n"] * 2


@pytest_twisted.ensureDeferred
async def test_a_worker_killed_with_9_loses_no_result(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        big = "head -c 6000000 /dev/zero | tr '\\0' 'x' > big; echo done"
        job = here.script.add(1, "/bin/sh", "-c", f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; {big}")
        worker = here.worker()
        await until(lambda: list(here.work.glob("*/runs/*/stdout")))
        await here.stop()
        (tmp_path / "go").touch()
        await until(lambda: any(each.stat().st_size for each in here.work.glob("*/spool.log")))
        worker.process.kill()
        worker.process.wait()
        await here.start()
        again = here.worker()
        await here.done(job)
        assert here.script.results[job][0].outcome is Outcome.OK
        assert here.script.file(job, "big") == b"x" * 6_000_000
        assert len(here.script.names) == 1  # the same key: the same worker, started again
        again.process.send_signal(signal.SIGTERM)
        assert await again.ended() == 0
        assert here.left() == []


@pytest_twisted.ensureDeferred
async def test_a_cancel_reaches_the_process(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        job = here.script.add(1, "/bin/sh", "-c", "echo $$; exec sleep 1000")
        here.worker()
        await until(lambda: [each for each in here.work.glob("*/runs/*/stdout") if each.read_text().strip()])
        pid = int(next(iter(here.work.glob("*/runs/*/stdout"))).read_text())
        assert here.server is not None
        here.server.push(Orders(cancel=((job, "by hand"),)))
        await here.done(job)
        assert here.script.results[job][0].outcome is Outcome.CANCELLED
        await until(lambda: not Path(f"/proc/{pid}").exists())
        await until(lambda: not list(here.work.glob("*/runs/*")))


@pytest_twisted.ensureDeferred
async def test_a_revoked_worker_ends_with_one_line(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        here.script.revoked = "bundle lab was revoked"
        worker = here.worker()
        assert await worker.ended() == 1
        lines = [line for line in worker.said.splitlines() if "ERROR" in line]
        assert len(lines) == 1
        assert "bundle lab was revoked" in lines[0]
        assert "Traceback" not in worker.said


@pytest_twisted.ensureDeferred
async def test_an_unwritable_work_directory_is_told_in_one_line(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        (tmp_path / "file").write_text("")
        for where, code in ((tmp_path / "nowhere", 1), (tmp_path / "file", 1), (Path("/proc/self"), 1)):
            worker = here.worker("-wd", str(where))
            assert await worker.ended() == code
            assert worker.said.startswith("ERROR: ")
            assert worker.said.count("\n") == 1


@pytest_twisted.ensureDeferred
async def test_two_workers_side_by_side_have_keys_of_their_own(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        here.worker()
        here.worker()
        await until(lambda: len(here.script.hellos) == 2)
        assert len(here.script.names) == 2
        keys = list((tmp_path / "home").glob("worker/*/lab/*/key.pem"))
        assert len(keys) == 2
        assert all(key.stat().st_mode & 0o77 == 0 for key in keys)


async def checked(directory: Path, bundle: str) -> tuple[int, str]:
    """(exit code, what it prints) of a look with this bundle."""
    work = str(directory / "not" / "yet")
    words = ["check", "-c", str(directory / bundle), "-wd", work, "--home", str(directory / "home")]
    out, err, code = await getProcessOutputAndValue(COMMAND, words, os.environ)
    assert err == b""
    assert not os.path.exists(work)
    return code, out.decode()


@pytest_twisted.ensureDeferred
async def test_a_look_tells_the_server_from_whoever_else_answers(tmp_path: Path) -> None:
    """The man in the middle has the address, and a certificate of another authority that gives the same server id."""
    other = Authority.create(SERVER, SystemClock(), SystemChance())
    async with lab(tmp_path) as here:
        bundles.write(make_bundle(other, "127.0.0.1", here.port), tmp_path / "other.cnx")
        code, said = await checked(tmp_path, "other.cnx")
        assert code == Way.STRANGER
        assert said.startswith("FAIL  way to the server: who answers")
        assert "is not this server" in said
        code, said = await checked(tmp_path, "w.cnx")  # this one is of before there were looks
        assert code == Way.TURNED_AWAY
        assert "unknown method 'look'" in said
        here.script.revoked = "it was copied"
        code, said = await checked(tmp_path, "w.cnx")
        assert code == Way.TURNED_AWAY
        assert "it was copied" in said
    code, said = await checked(tmp_path, "w.cnx")
    assert code == Way.REFUSED
    assert f"nothing listens on port {here.port} there" in said
