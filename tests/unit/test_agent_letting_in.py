"""A worker finds its way back to a server that has forgotten it, or does not take its certificate any more; and a disk that
does not let it tidy up holds nothing up."""

from __future__ import annotations

import errno

import msgspec
import pytest

from cpc.core.errors import Refused
from cpc.core.outcome import Outcome
from cpc.wire.messages import Hello, Orders, Welcome
from tests.helpers.programs import Program
from tests.helpers.worker_fixture import expected, world
from tests.helpers.worker_world import FakeServer

__all__ = ["expected"]

BIG = bytes(range(256)) * 20_000  # two chunks


def test_a_server_that_does_not_know_the_worker_any_more_is_asked_to_enrol_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restore from a backup that was made before the worker came."""
    here = world()
    here.worker()
    here.until(lambda: here.script.hellos)
    known = FakeServer._hello
    forgotten = here.script.enrolments

    async def hello(self: FakeServer, connection: object, said: Hello) -> Welcome:
        if self.script.enrolments == forgotten:
            raise Refused("this server does not know the worker's key", "enrol again with a connection bundle")
        return await known(self, connection, said)  # type: ignore[arg-type]

    monkeypatch.setattr(FakeServer, "_hello", hello)
    here.restart_server(away=5.0)
    job = here.script.add(1, "true")
    here.until(lambda: here.script.settled(job), within=200.0)
    assert here.script.enrolments == forgotten + 1


def test_files_go_on_when_the_certificate_has_expired_under_a_live_session() -> None:
    """The server's clock has jumped: the session that is open gets a new certificate, and with it a way for the files."""
    here = world(make=Program(60.0, writes=((0.5, "big.dat", BIG),)))
    job = here.script.add(1, "make")
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    here.server_host.clock.offset += 90 * 86400 * 1_000_000
    here.until(lambda: here.script.settled(job), within=100.0)
    assert here.script.file(job, "big.dat") == BIG
    assert len(here.script.hellos) == 1


def test_a_certificate_that_is_over_at_the_hello_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken still, because clocks differ; nobody would have renewed it."""
    here = world()
    known = FakeServer._hello

    async def hello(self: FakeServer, connection: object, said: Hello) -> Welcome:
        return msgspec.structs.replace(await known(self, connection, said), certificate_valid_for=0.0)  # type: ignore[arg-type]

    monkeypatch.setattr(FakeServer, "_hello", hello)
    here.worker()
    here.until(lambda: here.script.renewals, within=60.0)


def stubborn(operation: str, path: str) -> OSError | None:
    return OSError(errno.EIO, "Input/output error", path) if operation == "unlink" else None


@pytest.mark.parametrize("how", ["done", "cancelled"])
def test_a_directory_that_cannot_be_removed_holds_nothing_up(how: str) -> None:
    here = world(make=Program(5.0, writes=((1.0, "deep/out", b"x"),)))
    job = here.script.add(1, "make")
    worker = here.worker()
    here.until(lambda: worker.processes.launched)
    here.platter.broken = stubborn
    if how == "cancelled":
        here.reactor.advance(2.0)
        here.server.push(Orders(cancel=((job, "enough"),)))
    here.until(lambda: here.script.settled(job))
    here.until(lambda: not worker.agent.desk.deliveries)
    assert here.script.results[job][0].outcome is (Outcome.OK if how == "done" else Outcome.CANCELLED)
    assert any("left behind" in line for line in here.said)
    here.platter.broken = lambda operation, path: None
    another = here.script.add(2, "true")
    here.until(lambda: here.script.settled(another))


def test_a_disk_that_breaks_while_it_leaves_does_not_keep_it() -> None:
    here = world()
    worker = here.worker()
    here.until(lambda: here.script.hellos)
    here.platter.broken = stubborn
    worker.agent.leave("SIGTERM")
    here.until(lambda: worker.ended)
    assert worker.ended == ["SIGTERM"]
