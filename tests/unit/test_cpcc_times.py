"""Numbers of events and times of jobs, as cpcc shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core import ids
from cpc.core.errors import BadInput, Gone
from tests.helpers import sample_views as sample
from tests.helpers.command_line import Cpcc
from tests.helpers.fake_api import FakeApi, fake_api

FIRST = ids.make(1, 0)
SECOND = ids.make(2, 0)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[FakeApi]:
    (tmp_path / "door").mkdir()
    with fake_api(tmp_path / "door") as running:
        yield running


@pytest.fixture
def cpcc(api: FakeApi, tmp_path: Path) -> Cpcc:
    api.configure(tmp_path / "home")
    return Cpcc(tmp_path / "home")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (FIRST + 57, "57"),
        (FIRST + (5 << 20), str(5 << 20)),
        (SECOND + 58, "2.58"),
        ((2047 << 52) + 1, "2047.1"),
    ],
)
def test_numbers_of_events_are_short_and_are_read_as_they_are_shown_or_whole(number: int, text: str) -> None:
    assert ids.show_event(number) == text
    assert ids.read_event(text) == number
    assert ids.read_event(str(number)) == number


@pytest.mark.parametrize("text", ["", "-1", "1.", ".1", "1.2.3", "57[1]", "x", "٣", "1" * 20])
def test_what_is_no_number_of_an_event_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        ids.read_event(text)


@pytest.mark.parametrize(
    ("given", "asked"),
    [("57", FIRST + 57), ("2.58", SECOND + 58), (str(SECOND + 58), SECOND + 58), ("0", 0)],
)
def test_events_after_a_number_may_be_asked_for_in_both_spellings(
    api: FakeApi, cpcc: Cpcc, given: str, asked: int
) -> None:
    api.on("GET", "/events", [sample.event(FIRST + 60), sample.event(SECOND + 61)])
    said = cpcc("events", "--after", given)
    assert [line.split()[0] for line in said.out.splitlines()] == ["60", "2.61"]
    assert {call.query["after"] for call in api.asked("GET", "/events")} == {str(asked)}
    assert cpcc("--quiet", "events", "--after", given).out.split() == ["60", "2.61"]
    assert [event["number"] for event in cpcc("--json", "events", "--after", given).data] == [FIRST + 60, SECOND + 61]
    assert cpcc("events", "--after", "soon").code == 2


def test_events_that_are_gone_are_told_by_their_short_number(api: FakeApi, cpcc: Cpcc) -> None:
    api.on("GET", "/events", Gone(f"some events after number {FIRST + 5} are past their retention"))
    said = cpcc("events", "--after", "5")
    assert said.err == "cpcc: some events after 5 are past their retention (what is left: --after 0)\n"


def test_the_audit_shows_short_numbers(api: FakeApi, cpcc: Cpcc) -> None:
    api.on("GET", "/audit", [sample.event(SECOND + 7, kind="user.login")])
    assert cpcc("audit").out.startswith("2.7  ")


def test_a_job_shows_what_its_program_ran(api: FakeApi, cpcc: Cpcc) -> None:
    hour = 3600 * 10**6
    over = {"started": sample.NOW, "ended": sample.NOW + hour, "attempts": 2}
    lost = sample.attempt(
        1, wall_seconds=0.0, outcome="lost", exit_code=None, message="silent", ended=sample.NOW + hour
    )
    told = sample.attempt(2, wall_seconds=2.5, ended=sample.NOW + hour)
    api.on("GET", "/projects/villin/jobs", [sample.job(state="failed", wall_seconds=2.5, **over)])
    api.on("GET", "/jobs/57", sample.detail(state="failed", wall_seconds=2.5, history=(lost, told), **over))
    assert " 2.5s " in cpcc("jobs").out
    shown = cpcc("job", "57").out.splitlines()
    assert any("≤ 1h 00m" in line for line in shown if line.startswith("1 ") or line.lstrip().startswith("1 "))
    assert any(" 2.5s " in line for line in shown)


def test_a_job_that_waits_at_its_worker_is_not_shown_as_running(api: FakeApi, cpcc: Cpcc) -> None:
    placed = {"state": "running", "worker": "w1", "started": sample.NOW, "attempts": 1, "waits_for_room": True}
    api.on("GET", "/jobs", [sample.job(**placed)])
    api.on("GET", "/jobs/57", sample.detail(**placed))
    assert "waits for room" in cpcc("running").out
    assert "placed at worker w1, waits for room there" in cpcc("job", "57").out
    assert cpcc("--json", "job", "57").data["waits_for_room"] is True
