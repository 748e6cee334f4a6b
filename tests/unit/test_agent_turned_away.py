"""A worker that is turned away for good ends and says why; whatever else it is told, it comes again. Words decide nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cpc.core.errors import BadInput, Conflict, CopernicusError, NotFound, Refused, TurnedAway, Unavailable, from_code
from tests.helpers.programs import Program
from tests.helpers.worker_fixture import expected, world
from tests.helpers.worker_world import World

__all__ = ["expected"]

How = Callable[[World, CopernicusError], None]


def at_hello(here: World, error: CopernicusError) -> None:
    here.script.refuses["hello"] = error
    here.restart_server(away=1.0)


def at_enrolment(here: World, error: CopernicusError) -> None:
    here.script.refuses["enrol"] = error
    here.restart_server(away=2 * here.script.certificate_valid_for)  # its own certificate is over


def in_mid_session(here: World, error: CopernicusError) -> None:
    here.server.cut(error)


WAYS = [at_hello, at_enrolment, in_mid_session]

NOT_FINAL = [
    Refused("the worker has been revoked", "its time has expired on Friday; it is refused: revoked"),
    Conflict("the worker is joined already"),
    NotFound("there is no project 'x'"),
    BadInput("a worker of 0 cores cannot join"),
    Unavailable("the server is stopping"),
    from_code("brand-new", "a newer server says no", "wait"),
]


def working() -> tuple[World, object]:
    """A worker in the middle of a job."""
    here = world(long=Program(1e9))
    here.script.certificate_valid_for = 7200.0
    here.script.add(1, "long")
    worker = here.worker()
    here.until(worker.processes.running)
    return here, worker


@pytest.mark.parametrize("how", WAYS, ids=lambda how: how.__name__)
def test_one_that_is_turned_away_stops_its_jobs_and_ends_with_what_it_was_told(how: How) -> None:
    here, worker = working()
    how(here, TurnedAway("no more of you", "go home"))
    here.until(lambda: worker.ended, within=1000.0)
    [failure] = worker.ended
    assert type(failure.value) is TurnedAway
    assert str(failure.value) == "no more of you (go home)"
    assert not worker.processes.running()


@pytest.mark.parametrize("error", NOT_FINAL, ids=lambda error: f"{type(error).__name__}: {error.message[:20]}")
@pytest.mark.parametrize("how", WAYS, ids=lambda how: how.__name__)
def test_one_that_is_told_anything_else_goes_on_and_comes_again(how: How, error: CopernicusError) -> None:
    here, worker = working()
    how(here, error)
    here.reactor.advance(1000.0)
    assert worker.ended == []
    assert worker.processes.running()
    assert any(error.message in line for line in here.said) or how is in_mid_session
    met = len(here.script.hellos)
    here.script.refuses.clear()
    if how is not in_mid_session:
        here.until(lambda: len(here.script.hellos) > met, within=1000.0)
    assert len(here.script.hellos) >= 2
    assert worker.processes.running()


def test_one_whose_bundle_was_revoked_is_turned_away_at_the_door() -> None:
    here, worker = working()
    here.script.revoked = "its bundle was revoked"
    here.restart_server(away=1.0)
    here.until(lambda: worker.ended, within=200.0)
    assert type(worker.ended[0].value) is TurnedAway
    assert "lab is refused: its bundle was revoked" in worker.ended[0].value.message
    assert not worker.processes.running()


def test_one_whose_bundle_has_expired_is_turned_away_when_it_needs_it() -> None:
    here, worker = working()
    for clock in (here.server_host.clock, worker.host.clock):
        clock.offset = int(2e8 * 1e6)  # six years: so long no bundle lasts, and no certificate
    here.restart_server(away=1.0)
    here.until(lambda: worker.ended, within=1000.0)
    assert type(worker.ended[0].value) is TurnedAway
    assert "bundle/lab expired on" in worker.ended[0].value.message


def test_a_server_whose_own_certificate_has_expired_is_waited_for() -> None:
    """It renews that by itself; the worker has done nothing wrong."""
    here = world()
    here.server_host.clock.offset = -int(1.5e8 * 1e6)
    here.restart_server(away=1.0)  # its certificate is of then, and lasts for three years
    here.server_host.clock.offset = 0
    worker = here.worker()
    here.reactor.advance(1000.0)
    assert worker.ended == []
    assert any("server expired on" in line for line in here.said)
    here.restart_server(away=1.0)
    here.until(lambda: here.script.hellos, within=1000.0)


def test_a_server_that_was_restored_from_before_the_enrolment_gets_to_know_the_worker_again() -> None:
    here, worker = working()
    here.script.knows = set()
    here.restart_server(away=1.0)
    here.until(lambda: len(here.script.hellos) == 2, within=1000.0)
    assert here.script.enrolments == 2
    assert here.script.names == dict.fromkeys(here.script.names, "w1")
    assert worker.processes.running()
    here.restart_server(away=1.0)
    here.until(lambda: len(here.script.hellos) == 3, within=1000.0)
    assert here.script.enrolments == 2
