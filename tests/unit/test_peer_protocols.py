"""Two servers of different releases: they speak the newest protocol number that both know, or say who is to be upgraded."""

from __future__ import annotations

import pytest
from twisted.logger import globalLogPublisher

from cpc.core.errors import CopernicusError
from cpc.wire.connection import SERVER
from cpc.wire.frames import Greeting
from cpc.wire.messages import OLDEST_PROTOCOL, PROTOCOL
from tests.helpers.sites import Lab
from tests.unit.test_links import answers_pings, ping

NEWEST = 5  # of the release in the middle, which speaks the number before, too: the rule


def release(newest: int) -> Greeting:
    """The release whose newest number is this one."""
    return Greeting(newest, newest - 1, f"{newest}.0.0", ("peers", f"since-{newest}"))


def said_of_the_numbers(lines: list[str]) -> list[str]:
    return [line for line in lines if "no common protocol" in line]


@pytest.fixture
def logged() -> object:
    lines: list[str] = []

    def note(event: dict[str, object]) -> None:
        lines.append(str(event.get("log_format", "")).format_map(event))

    globalLogPublisher.addObserver(note)
    yield lines
    globalLogPublisher.removeObserver(note)


@pytest.mark.parametrize(("other", "spoken"), [(NEWEST - 1, NEWEST - 1), (NEWEST, NEWEST), (NEWEST + 1, NEWEST)])
@pytest.mark.parametrize("dials", "ab")
def test_a_server_of_the_release_before_or_after_is_a_peer_like_any_other(other: int, spoken: int, dials: str) -> None:
    lab = Lab("ab", greetings={"a": release(NEWEST), "b": release(other)})
    for here, there in ("ab", "ba"):
        lab[here].knows(lab[there], address=here == dials)
    lab.until(lambda: lab.connected("ab"))
    for here, there in ("ab", "ba"):
        connection = lab[here].links._open_connection(lab[there].id, False)
        assert connection is not None
        assert connection.protocol == spoken
        answers_pings(lab[here])
        assert ping(lab, there + here) == here


@pytest.mark.parametrize(("other", "upgrade"), [(NEWEST - 2, "b"), (NEWEST + 2, "a")], ids=["too old", "too new"])
@pytest.mark.parametrize("dials", "ab")
def test_without_a_common_number_each_side_has_one_line_that_says_who_is_to_be_upgraded(
    other: int, upgrade: str, dials: str, logged: list[str]
) -> None:
    lab = Lab("ab", greetings={"a": release(NEWEST), "b": release(other)})
    for here, there in ("ab", "ba"):
        lab[here].knows(lab[there], address=here == dials)
    lab.reactor.advance(10)
    assert not lab.connected("ab")
    for here, there in ("ab", "ba"):
        trouble = lab[here].links.trouble(lab[there].id)
        who = "this server" if upgrade == here else f"server {lab[there].id}"
        assert trouble.endswith(f"(upgrade {who})"), trouble
        assert trouble.count("no common protocol") == 1
        assert f"this server has release {lab[here].greeting.release}" in trouble
        assert (
            f"has release {lab[there].greeting.release} and speaks {other - 1 if there == 'b' else NEWEST - 1} to"
            in trouble
        )
        assert any(trouble.rpartition("no common")[2] in line for line in said_of_the_numbers(logged))
    lab[upgrade].greeting = release(NEWEST if upgrade == "b" else other)
    lab[upgrade].restart()
    lab.until(lambda: lab.connected("ab"), 120)
    assert lab["a"].links.trouble(lab["b"].id) == lab["b"].links.trouble(lab["a"].id) == ""


def test_what_servers_greet_with_is_what_this_release_speaks() -> None:
    assert (SERVER.newest, SERVER.oldest) == (PROTOCOL, OLDEST_PROTOCOL)
    assert SERVER.capabilities == ("peers",)


def test_numbers_are_compared_before_anything_is_said_of_the_trust() -> None:
    """Nothing of a server that is not understood is taken for an end: both keep what was agreed."""
    lab = Lab("ab", greetings={"a": release(NEWEST), "b": release(NEWEST + 2)})
    ended: list[str] = []

    async def note(server: str, _said: object) -> None:
        ended.append(server)

    lab["a"].links.ended = note
    lab.trust("ab")
    lab.reactor.advance(200)
    assert ended == []
    with pytest.raises(CopernicusError, match="not connected"):
        lab["a"].links._connected(lab["b"].id, False)
