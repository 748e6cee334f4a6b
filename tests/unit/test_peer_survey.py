"""The network of servers, as one of them sees it: any graph, few questions, shortest routes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from cpc.core.errors import NotFound
from cpc.core.peer_views import NetworkOfServers, PingView
from cpc.server.federation.survey import MAX_OF_ONE, TIME, shortest
from cpc.server.principal import SERVER
from cpc.wire.peer_messages import MAX_HOPS, ServerSeen, Survey, Surveyed
from tests.helpers.members import Members


@pytest.fixture
def lab() -> Iterator[Members]:
    made = Members("abcdef")
    yield made
    made.close()


def network(lab: Members, name: str) -> NetworkOfServers:
    found = lab.finish(lab[name].federation.surveying.network(SERVER), 60)
    assert isinstance(found, NetworkOfServers)
    return found


def routes(lab: Members, name: str) -> dict[str, str]:
    return {
        lab.name(seen.id): "".join(lab.name(server) for server in seen.route) for seen in network(lab, name).servers
    }


def test_a_chain_is_seen_from_its_end_and_each_server_is_reached(lab: Members) -> None:
    lab.befriend("ab", "bc", "cd")
    assert routes(lab, "a") == {"a": "a", "b": "ab", "c": "abc", "d": "abcd"}
    assert routes(lab, "c") == {"c": "c", "b": "cb", "d": "cd", "a": "cba"}
    assert routes(lab, "e") == {"e": "e"}
    hops = lab.finish(lab["a"].federation.surveying.ping(SERVER, "d"))
    assert isinstance(hops, PingView)
    assert [hop.name for hop in hops.hops] == ["b", "c", "d"]
    times = [hop.seconds for hop in hops.hops if hop.seconds is not None]
    assert len(times) == 3
    assert times == sorted(times)
    missing = lab.outcome(lab["a"].federation.surveying.ping(SERVER, "nobody"))
    assert isinstance(missing, NotFound)
    assert lab.finish(lab["a"].federation.surveying.ping(SERVER, "a")).hops == ()


def test_a_ring_is_gone_round_by_the_shorter_side(lab: Members) -> None:
    lab.befriend("ab", "bc", "cd", "de", "ef", "fa")
    assert routes(lab, "a") == {"a": "a", "b": "ab", "f": "af", "c": "abc", "e": "afe", "d": "abcd"}


def test_a_full_mesh_costs_one_question_for_each_server(lab: Members) -> None:
    lab.befriend(*(one + other for one, other in combinations("abcdef", 2)))
    asked: list[str] = []
    for name in lab.sites:
        surveying = lab[name].federation.surveying
        heard = surveying._surveyed

        async def count(caller: object, question: Survey, heard=heard, name=name) -> Surveyed:  # type: ignore[no-untyped-def]
            asked.append(name)
            return await heard(caller, question)  # type: ignore[no-any-return]

        lab[name].links.serve("survey", Survey, count, far=False)
    assert len(network(lab, "a").servers) == 6
    assert sorted(asked) == list("bcdef")


def test_a_server_that_does_not_answer_is_missed_and_nobody_waits_long_for_it(lab: Members) -> None:
    lab.befriend("ab", "ac", "cd")
    lab["b"].host.freeze()
    before = lab.reactor.seconds()
    assert routes(lab, "a") == {"a": "a", "c": "ac", "d": "acd"}
    assert lab.reactor.seconds() - before < 11


def test_a_peer_that_gives_much_time_and_one_that_takes_it_keep_no_question_here(lab: Members) -> None:
    lab.befriend("ab", "bc")

    async def for_ever(_caller: object, _question: Survey) -> Surveyed:
        return await Deferred[Surveyed]()

    lab["c"].links.serve("survey", Survey, for_ever, far=False)
    question = Survey(id="1", hops=3, seconds=1e9)
    before = lab.reactor.seconds()
    said = lab.finish(lab["a"].links.ask(lab["b"].id, "survey", question, Surveyed, 1e4), 2e4)
    assert isinstance(said, Surveyed)
    assert [seen.server for seen in said.servers] == [lab["b"].id]
    assert lab.reactor.seconds() - before < TIME


def test_a_neighbour_that_is_not_reached_is_told_with_the_reason(lab: Members) -> None:
    lab.befriend("ab")
    a, b = lab["a"], lab["b"]

    def refused() -> str:
        return str(lab.outcome(a.federation.surveying.ping(SERVER, "b")))

    b.host.kill()
    lab.until(lambda: not a.links.is_up(b.id))
    lab.until(lambda: a.links.trouble(b.id))
    assert refused() == f"b (bbbbbbbb) is not connected: {a.links.trouble(b.id)} (see `cpcc connected-servers`)"
    a.revoke(b)
    assert refused() == "b (bbbbbbbb) is not trusted any more (see `cpcc connected-servers`)"
    a.connect_server(lab["c"])
    assert str(lab.outcome(a.federation.surveying.ping(SERVER, "c"))).startswith(
        "c (cccccccc) has not trusted this server yet"
    )
    asked = str(lab.outcome(lab["c"].federation.surveying.ping(SERVER, "a")))
    assert asked.startswith("a (aaaaaaaa) asks to be connected, and is not trusted yet")
    nobody = str(lab.outcome(a.federation.surveying.ping(SERVER, "f")))
    assert nobody == "no server 'f' can be reached from here (see `cpcc network`)"


def test_a_question_is_answered_once_and_few_at_a_time(lab: Members) -> None:
    lab.befriend("ab", "bc")
    ways = lab["a"].links
    b = lab["b"].id

    def survey(name: str) -> Survey:
        return Survey(id=name, hops=MAX_HOPS, seconds=8.0, seen=(lab["a"].id,))

    first = lab.finish(ways.ask(b, "survey", survey("x"), Surveyed, 10.0))
    assert [lab.name(seen.server) for seen in first.servers] == ["b", "c"]
    assert lab.finish(ways.ask(b, "survey", survey("x"), Surveyed, 10.0)).servers == ()
    lab["c"].host.freeze()
    ended: list[object] = []
    for number in range(MAX_OF_ONE + 2):
        asked = ensureDeferred(ways.ask(b, "survey", survey(f"y{number}"), Surveyed, 10.0))
        asked.addBoth(ended.append)
    lab.until(lambda: ended, 2)
    lab.reactor.advance(0.1)
    assert len(ended) == 2  # refused at once; the others wait for c
    lab.reactor.advance(12)
    assert len(ended) == MAX_OF_ONE + 2


def test_what_a_server_says_of_itself_counts_more_than_what_others_say(lab: Members) -> None:
    lab.befriend("ab", "ac")

    async def lie(*_: object) -> Surveyed:
        return Surveyed(
            servers=(ServerSeen(server=lab["c"].id, name="not c"), ServerSeen(server=lab["b"].id, name="b"))
        )

    lab["b"].links.serve("survey", Survey, lie, far=False)
    assert {seen.name for seen in network(lab, "a").servers} == {"a", "b", "c"}


def test_routes_have_at_most_sixteen_hops_and_only_servers_that_were_seen() -> None:
    chain = {str(n): ServerSeen(server=str(n), peers=(str(n + 1), "nobody")) for n in range(30)}
    found = shortest("0", chain)
    assert len(found) == MAX_HOPS + 1
    assert found["16"][-1] == "16"
    assert shortest("x", {"x": ServerSeen(server="x")}) == {"x": ("x",)}


def test_errors_of_a_hop_are_shown(lab: Members) -> None:
    lab.befriend("ab", "bc")
    surveying = lab["a"].federation.surveying
    servers = network(lab, "a").servers
    lab["c"].host.kill()
    lab.reactor.advance(0.05)
    hop = lab.finish(surveying._hop(lab.route("abc"), servers))
    assert hop.seconds is None
    assert hop.trouble
