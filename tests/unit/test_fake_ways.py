"""The links of tests are as the contract says: what a fake gets wrong, no other test would find."""

from __future__ import annotations

import pytest

from cpc.core.errors import CopernicusError, Refused, Unavailable
from cpc.core.peer import Agreement
from cpc.server.federation.ways import Caller, Ways
from cpc.wire.messages import Message
from cpc.wire.peer_messages import Demand, Ping, Pong
from tests.helpers.fake_ways import FakeNet, FakeWays
from tests.simulation.clock import VirtualReactor


class Town:
    """Three servers in a row, each of which answers pings and hears demands."""

    def __init__(self) -> None:
        self.reactor = VirtualReactor()
        self.net = FakeNet(self.reactor)
        self.heard: list[tuple[str, Caller]] = []
        self.ways = {name: self.server(name) for name in "abc"}
        self.net.trust("a", "b")
        self.net.trust("b", "c")

    def server(self, name: str) -> FakeWays:
        made = self.net.server(name)
        as_agreed: Ways = made

        async def ping(caller: Caller, _: Ping) -> Message:
            self.heard.append((name, caller))
            return Pong(server=name, name=name, release="1")

        async def demand(caller: Caller, _: Demand) -> None:
            self.heard.append((name, caller))

        as_agreed.serve("ping", Ping, ping, far=True)
        as_agreed.serve("demand", Demand, demand, far=False)
        return made

    def ping(self, *route: str, timeout: float = 5.0) -> str:
        return self.reactor.finish(self.ways[route[0]].ask_far(route, "ping", Ping(), Pong, timeout)).server


def test_a_far_question_is_relayed_and_answered_with_its_route_on_record() -> None:
    town = Town()
    assert town.ping("a", "b", "c") == "c"
    assert town.heard == [("c", Caller("b", ("a", "b", "c")))]
    assert town.net.messages == {("a", "b", "ping"): 1, ("b", "c", "ping"): 1}
    town.net.check()


def test_a_lost_link_ends_what_is_under_way_and_a_silent_one_lets_it_time_out() -> None:
    town = Town()
    town.net.silence("b", "c")
    with pytest.raises(Unavailable, match="within 5 s"):
        town.ping("a", "b", "c")
    town.net.heal("b", "c")
    assert town.ping("a", "b", "c") == "c"
    town.net.cut("b", "c")
    with pytest.raises(Unavailable, match="not connected"):
        town.ping("a", "b", "c")
    assert town.ways["b"].up() == ("a",)
    town.net.heal("b", "c")
    assert town.ping("a", "b", "c") == "c"


def test_a_revoked_peer_is_off_and_a_denied_route_refused() -> None:
    town = Town()
    seen: list[tuple[str, bool]] = []
    town.ways["c"].on_change(lambda peer, up: seen.append((peer, up)))
    town.net.agree("b", "c", Agreement(denied=("a",)))
    with pytest.raises(Refused):
        town.ping("a", "b", "c")
    town.net.revoke("b", "c")
    assert (seen, town.ways["c"].up(), town.ways["c"].agreement("b").lent.off) == ([("b", False)], (), True)
    with pytest.raises(CopernicusError):
        town.ping("b", "c")


def test_what_a_dead_server_was_asked_is_never_answered() -> None:
    town = Town()
    town.net.leave("c")
    with pytest.raises(Unavailable):
        town.ping("a", "b", "c")
    town.ways["c"] = town.server("c")
    town.net.arrive("c")
    town.ways["b"].tell("c", "demand", Demand())
    town.reactor.advance(1)
    assert [name for name, _ in town.heard] == ["c"]
    assert town.ping("a", "b", "c") == "c"
