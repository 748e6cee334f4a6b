"""Nobody takes all the places of those who have not said yet who they are."""

from __future__ import annotations

from cpc.wire.strangers import Strangers
from tests.simulation.clock import VirtualReactor


def test_one_address_leaves_room_for_the_others() -> None:
    reactor = VirtualReactor()
    strangers: Strangers[str] = Strangers(5, 3)
    for number in range(3):
        assert strangers.has_room("10.0.0.1")
        strangers.add(f"a{number}", "10.0.0.1", reactor.callLater(20, lambda: None))
    assert not strangers.has_room("10.0.0.1")
    assert strangers.has_room("10.0.0.2")
    assert strangers.remove("a1")
    assert not strangers.remove("a1")
    assert strangers.has_room("10.0.0.1")
    assert list(strangers) == ["a0", "a2"]
    for number in range(3):
        strangers.add(f"b{number}", f"10.0.1.{number}", reactor.callLater(20, lambda: None))
    assert len(strangers) == 5
    assert not strangers.has_room("10.0.0.9"), "all places are taken"


def test_a_network_of_ipv6_counts_as_one_address() -> None:
    reactor = VirtualReactor()
    strangers: Strangers[int] = Strangers(9, 2)
    for number in range(2):
        strangers.add(number, f"2001:db8::{number}", reactor.callLater(20, lambda: None))
    assert not strangers.has_room("2001:db8::77")
    assert strangers.has_room("2001:db8:0:1::77")
    assert strangers.has_room("fe80::1%eth0")


def test_addresses_of_ipv4_are_told_apart_where_a_server_listens_on_all_of_ipv6() -> None:
    reactor = VirtualReactor()
    strangers: Strangers[int] = Strangers(9, 2)
    for number in range(2):
        strangers.add(number, "::ffff:10.0.0.1", reactor.callLater(20, lambda: None))
    assert not strangers.has_room("::ffff:10.0.0.1")
    assert not strangers.has_room("10.0.0.1"), "the same one"
    assert strangers.has_room("::ffff:10.0.0.2")


def test_the_timer_of_who_is_known_ends() -> None:
    reactor = VirtualReactor()
    strangers: Strangers[int] = Strangers(9, 2)
    strangers.add(1, "h", reactor.callLater(20, lambda: None))
    strangers.remove(1)
    assert reactor.getDelayedCalls() == []
