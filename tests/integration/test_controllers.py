"""Controller processes: what code does hurts its own instance, and nobody else."""

from __future__ import annotations

import functools
import os
import select
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from cpc.core.errors import BadInput, NotFound, Unavailable
from cpc.core.journal import Journal
from cpc.dataflow import turn
from cpc.dataflow.answer import Answer, StepInput
from cpc.dataflow.code import code
from cpc.dataflow.description import ModuleText
from cpc.dataflow.library import Library
from cpc.dataflow.turn import Began, Ran, Reply
from cpc.server import sandbox
from cpc.server.controller_process import Process
from cpc.server.controllers import Controllers, Options
from tests.helpers.hand_timers import HandTimers
from tests.helpers.processes import gone, until
from tests.helpers.real_programs import until as standstill

MODULES = Path(__file__).parents[1] / "fixtures" / "modules"


class Pool:
    """The pool under test, and toys to run in it."""

    def __init__(self, work: Path, wrap: str, timers: Any = reactor) -> None:
        self.options = Options(processes=2, wrap=wrap, paths=(MODULES,), work=(work,))
        self.work = work
        self.controllers = Controllers(timers, lambda: self.options)
        self.library = Library()
        self._steps = 0

    async def load(self, name: str) -> ModuleText:
        return await self.load_from(MODULES, name)

    async def load_from(self, directory: Path, name: str) -> ModuleText:
        text = await self.controllers.describe(name, name, str(directory))
        self.library.add(text, Journal())
        await until(reactor, lambda: not self.controllers.pids, "the process that has described it is gone")
        return text

    def run(self, name: str, **inputs: Any) -> Deferred[Answer]:
        self._steps += 1
        output = self.work / str(self._steps)
        output.mkdir()
        step = StepInput("test", name, f"toys::{name}", self._steps, inputs=inputs, output_dir=str(output))
        return self.controllers.run(step, self.library.function(f"toys::{name}"))


@pytest_twisted.async_yield_fixture
async def pool(tmp_path: Path) -> AsyncIterator[Pool]:
    made = Pool(tmp_path, sandbox.NONE)
    await made.load("toys")
    yield made
    await made.controllers.close()


@pytest_twisted.ensureDeferred
async def test_functions_run_in_processes_that_stay(pool: Pool) -> None:
    assert (await pool.run("add", a=2.0)).outputs == (("c", 3.0),)
    first, second = await pool.run("whoami"), await pool.run("whoami")
    assert first == second
    assert first.outputs[0][1] != os.getpid()


@pytest_twisted.ensureDeferred
async def test_many_steps_are_all_answered(pool: Pool) -> None:
    answers = [pool.run("add", a=float(number)) for number in range(500)]
    assert [(await one).outputs[0][1] for one in answers] == [number + 1.0 for number in range(500)]
    assert len(pool.controllers.pids) <= 2


@pytest_twisted.ensureDeferred
async def test_what_is_printed_is_the_instances_log(pool: Pool) -> None:
    answer = await pool.run("spell", text="abc")
    assert answer.log == "spelling abc\n"
    path = answer.outputs[0][1]["$path"]
    assert Path(path).read_text() == "a b c"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("crash", "crashed (SIGSEGV)"),
        ("vanish", "ended with exit code 4"),
        ("endless", "took longer than its limit of 0.3s"),
        ("garbage", "no answer"),
        ("leave", "exit 3"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_process_that_dies_fails_one_step_only(pool: Pool, name: str, said: str) -> None:
    around = [pool.run("add", a=1.0) for _ in range(20)]
    bad = pool.run(name, a=1)
    around += [pool.run("add", a=1.0) for _ in range(20)]
    answer = await bad
    assert said in answer.error
    assert answer.outputs == ()
    assert {(await one).outputs for one in around} == {(("c", 2.0),)}


@pytest_twisted.ensureDeferred
async def test_a_process_that_is_killed_is_replaced(pool: Pool) -> None:
    napping = pool.run("nap", seconds=30.0)
    await until(reactor, lambda: pool.controllers.under_way, "it is under way")
    for pid in pool.controllers.pids:
        os.kill(pid, signal.SIGKILL)
    assert "SIGKILL" in (await napping).error
    assert (await pool.run("add", a=1.0)).outputs == (("c", 2.0),)


class _Owner:
    """Hears of a process."""

    def __init__(self) -> None:
        self.heard: list[Reply] = []

    def replied(self, process: Process, reply: Reply) -> None:
        self.heard.append(reply)

    def ended(self, process: Process, why: str) -> None: ...


def test_what_a_process_says_after_its_end_was_decided_is_no_answer() -> None:
    owner = _Owner()
    process = Process(owner)
    began, junk, ran = turn.pack([Began(1)]), b"\0\0\0\4junk", turn.pack([Ran(1, Answer())])
    for said in (began, junk, ran):  # one at a time, as pipes may bring them
        process.childDataReceived(4, said)
    assert owner.heard == [Began(1)]


@pytest_twisted.ensureDeferred
async def test_an_answer_that_was_not_read_yet_when_the_time_was_over_counts(tmp_path: Path) -> None:
    """The server stands still from when the run has begun to when all of its time is over."""
    timers = HandTimers()
    made = Pool(tmp_path, sandbox.NONE, timers)
    await made.load("toys")
    made.options = replace(made.options, time=0.3)
    answer = made.run("large", path=str(tmp_path / "go"), a=60_000)
    await until(reactor, lambda: made.controllers.under_way, "it is under way")
    (tmp_path / "go").touch()
    (replies,) = (process._transport.pipes[4] for process in made.controllers._running)  # type: ignore[attr-defined,union-attr]
    standstill(lambda: select.select([replies], [], [], 0)[0], "there is an answer")
    while not answer.called:
        timers.advance(0.3)
        await deferLater(reactor, 0)
    assert (await answer).outputs == (("result", "x" * 60_000),)
    await made.controllers.close()


@pytest_twisted.ensureDeferred
async def test_time_in_which_the_machine_slept_is_nobodys(tmp_path: Path) -> None:
    timers = HandTimers()
    made = Pool(tmp_path, sandbox.NONE, timers)
    await made.load("toys")
    answer = made.run("large", path=str(tmp_path / "go"), a=1)
    await until(reactor, lambda: made.controllers.under_way, "it is under way")
    timers.advance(86_400.0)
    for _ in range(5):
        await deferLater(reactor, 0)
    (tmp_path / "go").touch()
    assert (await answer).outputs == (("result", "x"),)
    napping = made.run("nap", seconds=1000.0)
    await until(reactor, lambda: made.controllers.under_way, "it is under way")
    for _ in range(600):
        timers.advance(1.0)
    assert "longer than its limit of 10m" in (await napping).error
    await made.controllers.close()


@pytest_twisted.ensureDeferred
async def test_too_much_memory_is_the_error_of_the_step(pool: Pool) -> None:
    assert "limit of 64.0 MiB" in (await pool.run("hog", a=512)).error
    assert (await pool.run("hog", a=1)).outputs == (("result", 1 << 20),)


@pytest_twisted.ensureDeferred
async def test_a_flood_of_output_is_cut_in_the_middle(pool: Pool) -> None:
    answer = await pool.run("flood", a=20_000)
    assert answer.outputs == (("result", 20_000),)
    assert answer.log.startswith("x" * 999)
    assert answer.log.endswith("the end\n")
    assert "bytes are left out" in answer.log
    assert len(answer.log) < 2 << 20


@pytest_twisted.ensureDeferred
async def test_a_run_that_nobody_wants_any_more_is_stopped(pool: Pool) -> None:
    napping = pool.run("nap", seconds=30.0)
    await until(reactor, lambda: pool.controllers.under_way, "it is under way")
    (pid,) = (one for one in pool.controllers.pids)
    napping.cancel()
    with pytest.raises(CancelledError):
        await napping
    await until(reactor, lambda: gone(pid), "its process is gone")
    assert (await pool.run("add", a=1.0)).outputs == (("c", 2.0),)


@pytest_twisted.ensureDeferred
async def test_idle_processes_end(pool: Pool) -> None:
    pool.options = replace(pool.options, idle=0.05)
    await pool.run("add", a=1.0)
    await until(reactor, lambda: not pool.controllers.pids, "no process is left")


@pytest_twisted.ensureDeferred
async def test_stopping_fails_what_is_under_way(pool: Pool) -> None:
    napping = pool.run("nap", seconds=30.0)
    await until(reactor, lambda: pool.controllers.under_way, "it is under way")
    pids = pool.controllers.pids
    await pool.controllers.close()
    with pytest.raises(Unavailable):
        await napping
    assert all(gone(pid) for pid in pids)


@pytest_twisted.ensureDeferred
async def test_processes_that_cannot_start_are_said_in_words(tmp_path: Path) -> None:
    made = Pool(tmp_path, sandbox.NONE)
    await made.load("toys")
    made.options = replace(made.options, wrap="sh -c 'echo no room >&2; exit 9'")
    made.controllers.renew()
    with pytest.raises(Unavailable, match="no room"):
        await made.run("add", a=1.0)
    made.options = replace(made.options, wrap="there-is-no-such-program")
    with pytest.raises(Unavailable, match="there-is-no-such-program"):
        await made.run("add", a=1.0)
    await made.controllers.close()


@pytest_twisted.ensureDeferred
async def test_a_module_that_cannot_be_described_is_told_in_words(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no Python module absent"):
        await pool.controllers.describe("absent", "absent", str(MODULES))
    with pytest.raises(BadInput, match=r"module statistics in .* is hidden by Python's own"):
        await pool.controllers.describe("statistics", "statistics", str(MODULES))
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "empty.py").write_text("x = 1")
    (tmp_path / "needy.py").write_text("import there_is_no_such_thing")
    pool.options = replace(pool.options, paths=(tmp_path,))
    with pytest.raises(BadInput, match="ZeroDivisionError"):
        await pool.controllers.describe("broken", "broken", str(tmp_path))
    with pytest.raises(BadInput, match="module empty offers no function"):
        await pool.controllers.describe("empty", "empty", str(tmp_path))
    with pytest.raises(BadInput, match="imports there_is_no_such_thing, which is not installed"):
        await pool.controllers.describe("needy", "needy", str(tmp_path))


@pytest_twisted.ensureDeferred
async def test_a_module_that_was_changed_is_run_as_it_was_described_last(pool: Pool, tmp_path: Path) -> None:
    code = "from cpc.api import function\n@function\ndef one() -> int:\n    return {}\n"
    pool.options = replace(pool.options, paths=(tmp_path,))
    (tmp_path / "toys.py").write_text(code.format(1))
    pool.library = Library()
    await pool.load_from(tmp_path, "toys")
    assert (await pool.run("one")).outputs == (("result", 1),)
    pids = pool.controllers.pids
    await pool.controllers.describe("toys", "toys", str(tmp_path))
    assert pool.controllers.pids == pids, "nothing has changed: no process is needed, and none has to go"
    (tmp_path / "toys.py").write_text(code.format(22))
    await pool.controllers.describe("toys", "toys", str(tmp_path))
    assert (await pool.run("one")).outputs == (("result", 22),)


@pytest_twisted.ensureDeferred
async def test_code_is_checked_in_a_process_of_its_own(pool: Pool) -> None:
    good, bad = (code(pool.library.function(f"toys::{name}")) for name in ("add", "spell"))
    bad = msgspec.structs.replace(bad, controller=msgspec.structs.replace(bad.controller, function="gone"))
    ((name, said),) = await pool.controllers.check([good, bad])
    assert name == "toys::spell"
    assert "has no gone" in said


def test_whether_there_is_a_sandbox_is_said_in_words() -> None:
    assert sandbox.works() == (sandbox.why_not() == "") == (sandbox.exposed(sandbox.AUTO) == "")
    assert "controllers can read all that the server can" in sandbox.exposed(sandbox.NONE)
    assert sandbox.exposed("setpriv --reuid=nobody --") == ""
    assert sandbox.prefix("setpriv --reuid=nobody --", sandbox.Views()) == ("setpriv", "--reuid=nobody", "--")
    with pytest.raises(BadInput, match="is no command line"):
        sandbox.split("sh -c 'x")


def test_a_machine_that_is_too_busy_to_tell_lets_no_code_out_of_the_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bwrap"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(sandbox, "_tried", functools.cache(sandbox._tried.__wrapped__))
    for text, seconds, used in (
        ("exec sleep 1000", 0.1, True),
        ("echo fork: Resource temporarily unavailable >&2; exit 1", 60.0, True),
        ("echo No permissions to create new namespace >&2; exit 1", 60.0, False),  # now it is known
        ("exit 0", 60.0, False),
    ):
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sandbox, "_PROBE_TIME", seconds)
        assert bool(sandbox.prefix(sandbox.AUTO, sandbox.Views())) == used, text
    assert sandbox.why_not() == f"{program} cannot be used: No permissions to create new namespace"


@pytest_twisted.ensureDeferred
async def test_in_the_sandbox_only_steps_and_modules_are_seen(tmp_path: Path) -> None:
    if not sandbox.works():
        assert sandbox.exposed(sandbox.AUTO)  # there is none on this machine, and people are told
        return
    (tmp_path / "work").mkdir()
    (tmp_path / "server.key").write_text("secret")
    made = Pool(tmp_path / "work", sandbox.AUTO)
    await made.load("toys")
    assert "FileNotFoundError" in (await made.run("peek", path=str(tmp_path / "server.key"))).error
    assert "FileNotFoundError" in (await made.run("peek", path="/root/.bashrc")).error
    assert "FileNotFoundError" in (await made.run("peek", path=f"/proc/{os.getpid()}/environ")).error
    assert "def add" in (await made.run("peek", path=str(MODULES / "toys.py"))).outputs[0][1]
    path = (await made.run("spell", text="abc")).outputs[0][1]["$path"]
    assert Path(path).read_text() == "a b c"
    napping = made.run("nap", seconds=30.0)
    await until(reactor, lambda: made.controllers.under_way, "it is under way")
    napping.addErrback(lambda failure: failure.trap(Unavailable))
    pids = made.controllers.pids
    await made.controllers.close()
    assert gone(*pids)


@pytest_twisted.ensureDeferred
async def test_in_the_sandbox_crashes_and_endless_loops_are_told_alike(tmp_path: Path) -> None:
    if not sandbox.works():
        assert sandbox.exposed(sandbox.AUTO)  # there is none on this machine, and people are told
        return
    made = Pool(tmp_path, sandbox.AUTO)
    await made.load("toys")
    assert "limit of 0.3s" in (await made.run("endless", a=1)).error
    assert "crashed (SIGSEGV)" in (await made.run("crash", a=1)).error
    assert (await made.run("add", a=1.0)).outputs == (("c", 2.0),)
    await made.controllers.close()


def test_the_environment_of_controllers_has_none_of_the_servers_secrets() -> None:
    env = sandbox.environment({"PATH": "/bin", "PGPASSWORD": "x", "GMXLIB": "/gmx", "CPC_HOME": "/h", "LC_ALL": "C"})
    assert env == {"PATH": "/bin", "GMXLIB": "/gmx", "LC_ALL": "C", "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}
