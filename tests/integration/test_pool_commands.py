"""Commands of batch systems as real processes, and HTTP servers asked: bounded in time and output, and clean of secrets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import defer, reactor, task
from twisted.web import resource, server

from cpc.api import BadInput, NotConnected, NotFound, TooLarge, Unavailable
from cpc.core.clock import SystemClock
from cpc.server.pools.commands import Commands
from cpc.server.pools.web import Web
from cpc.worker import tree
from tests.helpers.hand_timers import HandTimers
from tests.helpers.processes import pid_in, until
from tests.helpers.real_programs import until as standstill
from tests.simulation.clock import Clock


@pytest.fixture
def commands() -> Commands:
    return Commands(
        reactor, dict(os.environ) | {"CPC_SERVER_KEY": "secret"}, SystemClock(), together=2, max_output=1 << 16
    )


@pytest_twisted.ensureDeferred
async def test_a_command_is_run_with_its_input_and_tells_all(commands: Commands) -> None:
    ran = await commands(["sh", "-c", "cat; echo bad >&2; exit 3"], "häh\n" * 1000, env={"A": "1"})
    assert (ran.code, ran.out, ran.err) == (3, "häh\n" * 1000, "bad\n")
    assert (await commands(["sh", "-c", "kill -TERM $$"])).code == 143
    assert (await commands(["printf", r"\377"])).out == "\N{REPLACEMENT CHARACTER}"
    assert (await commands(["printf", "<%s>", "$HOME", "a b", ";ls"])).out == "<$HOME><a b><;ls>"
    assert (await commands(["true"], "nobody reads this" * 100_000)).code == 0


@pytest_twisted.ensureDeferred
async def test_its_environment_is_clean(commands: Commands) -> None:
    out = (await commands(["env"], env={"EXTRA": "x"})).out
    names = {line.partition("=")[0] for line in out.splitlines()}
    assert {"PATH", "LC_ALL", "EXTRA"} <= names
    assert "CPC_SERVER_KEY" not in names


@pytest_twisted.ensureDeferred
async def test_a_program_that_is_not_there_is_said(commands: Commands) -> None:
    with pytest.raises(NotFound, match="the command no-such-program is not there"):
        await commands(["no-such-program"])


@pytest_twisted.ensureDeferred
async def test_what_takes_too_long_is_killed_with_all_it_started(tmp_path: Path) -> None:
    timers = HandTimers()
    commands = Commands(timers, dict(os.environ), SystemClock())
    path = tmp_path / "pid"
    running = defer.ensureDeferred(
        commands(
            ["sh", "-c", f"echo retrying >&2; sleep 1000 & echo $! > {path}.new; mv {path}.new {path}; wait"],
            timeout=0.3,
        )
    )
    pid = await pid_in(reactor, path)
    await task.deferLater(reactor, 0)  # what it said before that has been read
    timers.advance(0.3)
    with pytest.raises(Unavailable, match=r"sh did not end within 0.3 s; its last words: retrying"):
        await running
    await until(reactor, lambda: not tree.alive(pid), "its child is gone", 15.0)


@pytest_twisted.ensureDeferred
async def test_what_a_command_has_printed_is_read_though_the_server_stood_still(tmp_path: Path) -> None:
    """Longer than it waits for the output of what the command may have left behind."""
    timers = HandTimers()
    path = tmp_path / "pid"
    words = ["sh", "-c", f"head -c 60000 /dev/zero; echo $$ > {path}.new; mv {path}.new {path}"]
    ran = defer.ensureDeferred(Commands(timers, dict(os.environ), SystemClock())(words, timeout=1e6))
    standstill(lambda: path.exists() and not tree.alive(int(path.read_text())), "it has ended, and nothing is read yet")
    while not ran.called:
        timers.advance(1.0)
        await task.deferLater(reactor, 0)
    assert len((await ran).out) == 60_000


@pytest_twisted.ensureDeferred
async def test_a_command_that_has_ended_in_time_is_not_late_though_the_server_stood_still(tmp_path: Path) -> None:
    """That its time is over is the first thing to happen afterwards."""
    timers, path = HandTimers(), tmp_path / "pid"
    clock = Clock(timers)  # type: ignore[arg-type]
    words = ["sh", "-c", f"echo done; echo $$ > {path}.new; mv {path}.new {path}"]
    ran = defer.ensureDeferred(Commands(timers, dict(os.environ), clock)(words, timeout=30.0))
    standstill(lambda: path.exists() and not tree.alive(int(path.read_text())), "it has ended, and nothing is read yet")
    clock.uptime += 1000.0
    timers.advance(30.0)
    while not ran.called:
        await task.deferLater(reactor, 0)
        timers.advance(0.5)
    assert (await ran).out == "done\n"


@pytest_twisted.ensureDeferred
async def test_what_prints_without_end_is_killed(commands: Commands) -> None:
    with pytest.raises(TooLarge, match="yes printed more than can be read"):
        await commands(["yes"])


@pytest_twisted.ensureDeferred
async def test_a_child_that_keeps_the_output_open_is_not_waited_for(commands: Commands, tmp_path: Path) -> None:
    ran = await commands(["sh", "-c", f"sleep 1000 & echo $! > {tmp_path}/pid; echo done"])
    assert ran.out == "done\n"
    os.kill(int((tmp_path / "pid").read_text()), 9)


@pytest_twisted.ensureDeferred
async def test_only_so_many_run_at_once_and_all_end_with_the_server(commands: Commands, tmp_path: Path) -> None:
    script = f"echo > {tmp_path}/$$; exec sleep 1000"
    running = [defer.ensureDeferred(commands(["sh", "-c", script])) for _ in range(5)]
    await until(reactor, lambda: len(list(tmp_path.iterdir())) == 2, "two run")
    assert [one.called for one in running] == [False] * 5
    for one in running[2:]:
        one.cancel()
        one.addErrback(lambda failure: failure.trap(defer.CancelledError))
    commands.close()
    for one in running[:2]:
        with pytest.raises(Unavailable, match="the server stops"):
            await one


class Echo(resource.Resource):
    """Answers with what it was asked; `/big` without end, `/slow` never."""

    isLeaf = True
    slow = 0  # questions that are never answered

    def render(self, request: server.Request) -> bytes | int:
        if request.path == b"/slow":
            self.slow += 1
            return server.NOT_DONE_YET
        if request.path == b"/big":
            return b"x" * (1 << 20)
        request.setResponseCode(418)
        request.setHeader("X-Seen", request.getHeader("x-token") or "")
        return request.method + b" " + request.uri + b" " + request.content.read()


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def port(echo: Echo) -> Iterator[int]:
    listening = reactor.listenTCP(0, server.Site(echo), interface="127.0.0.1")
    yield listening.getHost().port
    pytest_twisted.blockon(defer.maybeDeferred(listening.stopListening))


@pytest_twisted.ensureDeferred
async def test_http_servers_are_asked_over_tcp_and_sockets(port: int, tmp_path: Path) -> None:
    web = Web(reactor, max_body=1 << 16)
    told = await web("POST", f"http://127.0.0.1:{port}/a?b=c", {"X-Token": "t"}, b"body")
    assert (told.status, told.body, told.headers["x-seen"]) == (418, b"POST /a?b=c body", "t")
    path = str(tmp_path / "socket")
    listening = reactor.listenUNIX(path, server.Site(Echo()))
    assert (await web("GET", f"unix://{path}:/slurm/ping")).body == b"GET /slurm/ping "
    await listening.stopListening()
    with pytest.raises(NotConnected):
        await web("GET", f"unix://{path}:/slurm/ping")


@pytest_twisted.ensureDeferred
async def test_http_servers_that_are_slow_away_or_endless_are_told_apart(port: int, echo: Echo) -> None:
    timers = HandTimers()
    asked = defer.ensureDeferred(Web(timers)("GET", f"http://127.0.0.1:{port}/slow", timeout=0.2))
    await until(reactor, lambda: echo.slow, "it is asked")
    timers.advance(0.2)
    with pytest.raises(Unavailable) as late:
        await asked
    web = Web(reactor, max_body=1 << 16)
    assert not isinstance(late.value, NotConnected)
    with pytest.raises(TooLarge):
        await web("GET", f"http://127.0.0.1:{port}/big")
    with pytest.raises(NotConnected, match="cannot be reached"):
        await web("GET", "http://127.0.0.1:1/")
    for wrong in ("", "ftp://x/", "http://", "http://x:y/", "unix://relative:/x", "unix:///x", "http://hä/"):
        with pytest.raises(BadInput):
            await web("GET", wrong)
