"""Links between servers, and messages that are relayed: the production wire on virtual time."""

from __future__ import annotations

import gc
from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from cpc.core.errors import CopernicusError, Refused, Unavailable
from cpc.core.lease import Lease
from cpc.core.peer import Agreement, Bound, Limits, PeerState
from cpc.core.pieces import Pieces
from cpc.server.federation.link import BEAT
from cpc.server.federation.links import HELD, HELD_BULK
from cpc.server.federation.ways import Caller, Passing
from cpc.wire import frames, questions
from cpc.wire.connection import PASSED_BACKLOG
from cpc.wire.messages import ChunkData, Message
from cpc.wire.peer_messages import FarChunkPut, Ping, Pong, Report, ReportAnswer, Survey, Surveyed
from tests.helpers.sites import Lab, Site


def answers_pings(site: Site) -> list[tuple[str, ...]]:
    """Serve `ping`; the routes by which they came."""
    routes: list[tuple[str, ...]] = []

    async def pong(caller: Caller, _: Ping) -> Pong:
        routes.append(caller.route)
        return Pong(server=site.id, name=site.name, release="t")

    site.links.serve("ping", Ping, pong, far=True)
    return routes


def ping(lab: Lab, route: str, timeout: float = 20.0) -> Any:
    try:
        return lab.finish(lab[route[0]].links.ask_far(lab.route(route), "ping", Ping(), Pong, timeout)).name
    except CopernicusError as error:
        return error


def chain(names: str) -> Lab:
    lab = Lab(names)
    lab.trust(*(one + other for one, other in pairwise(names)))
    lab.until(lambda: all(lab.connected(one + other) for one, other in pairwise(names)))
    return lab


def test_two_servers_are_connected_when_each_trusts_the_other() -> None:
    lab = Lab("ab")
    lab["a"].knows(lab["b"])
    lab.reactor.advance(10)
    assert lab["a"].changes == []
    assert "does not trust this server" in lab["a"].links.trouble(lab["b"].id)
    lab["b"].knows(lab["a"], address=False)
    lab.until(lambda: lab.connected("ab"), 120)
    assert (lab["a"].changes, lab["b"].changes) == ([("b", True)], [("a", True)])
    assert lab["a"].links.trouble(lab["b"].id) == ""


def test_the_side_that_cannot_be_reached_is_asked_over_the_connections_it_has_made() -> None:
    lab = Lab("ab")
    lab["b"].knows(lab["a"], address=False)
    lab["a"].knows(lab["b"])
    lab.until(lambda: lab.connected("ab"))
    answers_pings(lab["a"])
    assert ping(lab, "ba") == "a"


def test_a_link_that_nobody_uses_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life are nothing that a server would have to do anything about, and no flood either, however many come."""
    monkeypatch.setattr(questions, "MAX_UNSERVED", 5)
    lab = chain("ab")
    before = {name: list(site.changes) for name, site in lab.sites.items()}
    lab.reactor.advance(20 * BEAT)
    assert lab.connected("ab")
    assert {name: site.changes for name, site in lab.sites.items()} == before


def test_when_both_sides_dial_one_connection_of_each_kind_stays() -> None:
    for seed in range(10):
        lab = Lab("ab", seed)
        lab.trust("ab")
        lab.until(lambda lab=lab: lab.connected("ab"))
        lab.reactor.advance(130)
        assert lab.connected("ab")
        assert len(lab.network.links) == 2, f"seed {seed}"
        for site in lab.sites.values():
            assert site.changes.count((site.changes[0][0], True)) == site.changes.count((site.changes[0][0], False)) + 1


def test_a_killed_server_is_back_soon_and_a_silent_partition_shows_within_a_minute_or_so() -> None:
    lab = chain("ab")
    lab["a"].restart()
    lab.until(lambda: lab.connected("ab"), 10)
    lab.network.partition("a", "b")
    lab.reactor.advance(90)
    assert lab["a"].links.up() == lab["b"].links.up() == ()
    assert lab["b"].changes[-1] == ("a", False)
    lab.network.heal()
    lab.until(lambda: lab.connected("ab"), 100)


def test_messages_reach_the_end_of_a_chain_and_the_answers_come_back() -> None:
    lab = chain("abcd")
    routes = answers_pings(lab["d"])
    assert ping(lab, "abcd") == "d"
    assert routes == [lab.route("abcd")]
    assert lab["b"].links.relaying.passed == lab["c"].links.relaying.passed == 1


def test_one_way_messages_travel_too() -> None:
    lab = chain("abc")
    got: list[str] = []

    async def take(caller: Caller, _: Ping) -> None:
        got.append(lab.name(caller.sender))

    lab["c"].links.serve("word", Ping, take, far=True)
    lab["a"].links.tell_far(lab.route("abc"), "word", Ping())
    lab.until(lambda: got, 5)
    assert got == ["a"]


def test_a_large_body_is_relayed_whole() -> None:
    lab = chain("abc")
    data = bytes(range(256)) * (4 << 12)  # 4 MiB

    async def give(_: Caller, asked: ChunkData) -> ChunkData:
        assert bytes(asked.data) == data
        return ChunkData(data=asked.data)

    lab["c"].links.serve("far-chunk-get", ChunkData, give, far=True, bulk=True)
    ways = lab["a"].links
    work = ways.ask_far(lab.route("abc"), "far-chunk-get", ChunkData(data=memoryview(data)), ChunkData, 60.0, bulk=True)
    assert bytes(lab.finish(work).data) == data


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ("abcb", "is none from here"),
        ("aba", "is none from here"),
        ("a", "is none from here"),
        ("ac", "server cccccccc-0000-4000-8000-000000000000 is not trusted here"),
        ("abd", "dddddddd"),
        ("acb", "not trusted here"),
    ],
)
def test_a_route_that_is_none_is_refused_in_words(route: str, words: str) -> None:
    lab = chain("abc")
    answers_pings(lab["b"])
    answer = ping(lab, route)
    assert isinstance(answer, CopernicusError)
    assert words in str(answer)


def forged(lab: Lab, route: str, claimed: str) -> Any:
    """What b answers when a sends a ping on the connection with it that claims another route."""
    connection = lab["a"].links._open_connection(lab["b"].id, False)
    assert connection is not None
    try:
        return lab.finish(connection.call("ping", Ping(), Pong, 20.0, route=lab.route(claimed))).name
    except CopernicusError as error:
        return error


@pytest.mark.parametrize("claimed", ["cb", "acb", "bc", "abab", "babc", "cab", "b", "dcb", "ac", "bac"])
def test_a_forged_route_gets_nowhere(claimed: str) -> None:
    lab = chain("abc")
    for site in lab.sites.values():
        answers_pings(site)
    answer = forged(lab, "ab", claimed)
    if claimed == "cab":  # a says that c has sent it: what is behind a, a answers for
        assert answer == "b"
    else:
        assert isinstance(answer, Refused), answer


def test_nothing_is_relayed_to_or_for_a_server_that_is_not_trusted_or_is_denied() -> None:
    lab = chain("abc")
    for site in lab.sites.values():
        answers_pings(site)
    lab["b"].knows(lab["c"], state=PeerState.SENT)
    assert isinstance(ping(lab, "abc"), Refused)
    lab["b"].knows(lab["c"])
    assert ping(lab, "abc") == "c"
    lab["b"].knows(lab["c"], agreement=Agreement(denied=(lab["a"].id,)))
    assert isinstance(ping(lab, "abc"), Refused)
    assert ping(lab, "bc") == "c"
    lab["b"].knows(lab["c"])
    lab["c"].knows(lab["a"], state=PeerState.REVOKED, address=False)
    assert isinstance(ping(lab, "abc"), Refused)


@pytest.mark.parametrize("switched", "ac")
def test_lending_does_not_pass_a_server_that_has_switched_it_off_with_a_neighbour(switched: str) -> None:
    lab = chain("abc")
    answers_pings(lab["c"])
    reported: list[str] = []

    async def take(caller: Caller, _: Ping) -> Pong:
        reported.append(lab.name(caller.sender))
        return Pong(server=lab["c"].id, name="c", release="t")

    lab["c"].links.serve("report", Ping, take, far=True)
    work = lab["a"].links.ask_far(lab.route("abc"), "report", Ping(), Pong, 20.0)
    assert lab.finish(work).name == "c"
    half = Agreement(lent=Limits(off=True))
    lab["b"].knows(lab[switched], agreement=half)
    work = lab["a"].links.ask_far(lab.route("abc"), "report", Ping(), Pong, 20.0)
    assert lab.finish(work).name == "c"
    lab["b"].knows(lab[switched], agreement=Agreement(lent=Limits(off=True), accepted=Limits(off=True)))
    with pytest.raises(Refused, match=f"nothing is lent to {switched} "):
        lab.finish(lab["a"].links.ask_far(lab.route("abc"), "report", Ping(), Pong, 20.0))
    assert reported == ["a", "a"]
    assert ping(lab, "abc") == "c"  # looking is no lending


def test_each_server_says_on_a_report_that_passes_it_what_it_lets_those_behind_it_have() -> None:
    """What was said before it is passed on; the one that it is for says nothing."""
    lab, heard = chain("abcd"), list[tuple[Bound, ...]]()

    async def take(caller: Caller, _: Ping) -> Pong:
        heard.append(caller.bounds)
        return Pong(server=lab["d"].id, name="d", release="t")

    def report(method: str = "report") -> tuple[Bound, ...]:
        lab.finish(lab["a"].links.ask_far(lab.route("abcd"), method, Ping(), Pong, 20.0))
        return heard.pop()

    lab["d"].links.serve("report", Ping, take, far=True)
    lab["d"].links.serve("ping", Ping, take, far=True)
    far = Agreement(lend_on=16)
    for here, there in ("ab", "bc", "cd"):
        lab[here].knows(lab[there], agreement=far)
        lab[there].knows(lab[here], agreement=Agreement(accepted=Limits(cores=1)))
    lab["b"].knows(lab["a"], agreement=Agreement(lent=Limits(cores=1)))  # which is the other direction
    lab["b"].knows(lab["c"], agreement=far)
    lab["c"].knows(lab["d"], agreement=far)
    assert report() == ()
    lab["c"].knows(lab["d"], agreement=Agreement(lent=Limits(executables=("sim",))))
    assert report() == (Bound(2, executables=("sim",)),)
    lab["a"].knows(lab["b"], agreement=Agreement(lent=Limits(cores=2), lend_on=2))
    lab["b"].knows(lab["c"], agreement=Agreement(lend_on=0))
    assert report() == (Bound(0, cores=2), Bound(1, off=True), Bound(2, executables=("sim",)))
    assert report("ping") == ()
    lab["a"].knows(lab["b"], agreement=Agreement(lend_on=1))
    assert report()[0] == Bound(0, off=True)


def test_a_missing_server_on_the_way_is_said_and_a_silent_one_ends_in_time() -> None:
    lab = chain("abc")
    answers_pings(lab["c"])
    lab["c"].host.kill()
    lab.until(lambda: not lab["b"].links.is_up(lab["c"].id))
    answer = ping(lab, "abc")
    assert isinstance(answer, Unavailable)
    assert "c (cccccccc) is not connected" in str(answer)
    lab["c"].restart()
    answers_pings(lab["c"])
    lab.until(lambda: lab.connected("bc"))
    lab["c"].host.freeze()
    before = lab.reactor.seconds()
    assert isinstance(ping(lab, "abc"), Unavailable)
    assert lab.reactor.seconds() - before < 25


def test_a_server_that_does_not_answer_keeps_no_other_waiting() -> None:
    lab = Lab("abcd")
    lab.trust("ab", "bc", "bd")
    lab.until(lambda: all(lab.connected(pair) for pair in ("ab", "bc", "bd")))
    for name in "bd":
        answers_pings(lab[name])
    lab["c"].host.freeze()
    asked = [lab["a"].links.ask_far(lab.route("abc"), "ping", Ping(), Pong, 20.0) for _ in range(300)]
    ended: list[Any] = []
    for work in asked:
        ensureDeferred(work).addErrback(ended.append)
    before = lab.reactor.seconds()
    assert lab["a"].links._open_connection(lab["b"].id, False) is not None

    async def surveyed(_: Caller, asked: Survey) -> Message:
        return Surveyed()

    lab["b"].links.serve("survey", Survey, surveyed, far=False)
    lab.finish(lab["a"].links.ask(lab["b"].id, "survey", Survey(id="1", hops=1, seconds=5.0), Surveyed, 5.0))
    assert ping(lab, "db", 5.0) == "b"
    assert lab.reactor.seconds() - before < 2
    lab.until(lambda: len(ended) == 300)


def test_a_hook_may_answer_what_passes_or_change_it() -> None:
    lab = chain("abc")
    routes = answers_pings(lab["c"])
    passed: list[tuple[str, ...]] = []

    async def hook(passing: Passing) -> frames.Body:
        passed.append(passing.route)
        answer = await passing.pass_on()
        assert frames.decode(answer, Pong, "ping").name == "c"
        return frames.body(Pong(server="x", name="cached", release=""))

    lab["b"].links.hook("ping", hook)
    assert ping(lab, "abc") == "cached"
    assert passed == routes == [lab.route("abc")]


def test_what_a_hostile_peer_sends_for_others_is_held_within_bounds_and_keeps_nobody_waiting() -> None:
    lab = Lab("abcd")
    lab.trust("ab", "bc", "bd")
    lab.until(lambda: all(lab.connected(pair) for pair in ("ab", "bc", "bd")))
    answers_pings(lab["b"])
    lab["c"].host.freeze()
    data = frames.body(ChunkData(data=memoryview(bytes(4 << 20))))
    for bulk, most in ((True, HELD_BULK), (False, HELD)):
        flooding = lab["a"].links._open_connection(lab["b"].id, bulk)
        flooded = lab["b"].links._open_connection(lab["a"].id, bulk)
        assert flooding is not None
        assert flooded is not None
        for number in range(1, 30):  # its own bounds are not kept: the frames are made by hand
            flooding.channel.send(frames.question("far-chunk-put", 1000 + number, data, lab.route("abc"), 100.0))
        lab.until(lambda flooded=flooded: flooded.channel.held, 20)  # type: ignore[misc]
        lab.reactor.advance(5)
        assert most <= flooded._questions._bytes <= most + frames.MAX_FRAME
        assert len(flooded.channel.reader) <= frames.MAX_FRAME
    assert ping(lab, "db", 5.0) == "b"
    following = lab["b"].links._open_connection(lab["c"].id, True)
    assert following is not None
    assert following.backlog <= HELD_BULK + frames.MAX_FRAME


def test_of_what_was_passed_on_nothing_is_held_while_its_answer_is_waited_for() -> None:
    lab = chain("abc")
    before = [each for each in gc.get_objects() if type(each) is Pieces]  # of other tests
    came: list[FarChunkPut] = []
    answer: Deferred[None] = Deferred()

    async def take(_: Caller, question: FarChunkPut) -> None:
        came.append(question)
        await answer

    lab["c"].links.serve("far-chunk-put", FarChunkPut, take, far=True, bulk=True)
    data = memoryview(bytes(4 << 20))
    question = FarChunkPut(lease=Lease(1, 2, 3), worker=1, digest=b"d" * 32, data=data)
    put = ensureDeferred(lab["a"].links.ask_far(lab.route("abc"), "far-chunk-put", question, ReportAnswer, 60.0, True))
    lab.until(lambda: bool(came), 20)
    gc.collect()
    now = [each for each in gc.get_objects() if type(each) is Pieces and not any(each is one for one in before)]
    assert len(now) == 1
    assert now[0] is came[0].data, "whoever has got it has it, nobody else does: neither the relay nor its sender"
    answer.callback(None)
    assert lab.finish(put) == ReportAnswer()


def test_one_way_messages_for_a_server_that_does_not_read_are_dropped() -> None:
    lab = chain("abc")
    lab["c"].host.freeze()
    onwards = lab["b"].links._open_connection(lab["c"].id, False)
    assert onwards is not None
    flooding = lab["a"].links._open_connection(lab["b"].id, False)
    assert flooding is not None
    data = frames.body(ChunkData(data=memoryview(bytes(1 << 20))))
    for _ in range(30):
        flooding.channel.send(frames.question("far-orders", 0, data, lab.route("abc")))
        lab.reactor.advance(0.1)
    assert onwards.backlog <= PASSED_BACKLOG + frames.MAX_FRAME
    assert lab.connected("ab")


def slow_reports(lab: Lab, site: str) -> tuple[list[str], list[Deferred[None]]]:
    """It takes reports, each for as long as the test wants: from whom those came that were begun, and what ends each."""
    begun: list[str] = []
    held: list[Deferred[None]] = []

    async def take(caller: Caller, _: Report) -> ReportAnswer:
        begun.append(lab.name(caller.sender))
        held.append(Deferred())
        await held[-1]
        return ReportAnswer()

    lab[site].links.serve("report", Report, take, far=True)
    return begun, held


def test_of_a_peers_reports_one_is_looked_at_at_a_time_and_no_other_peer_waits_for_it() -> None:
    lab = Lab("abc")
    lab.trust("ac", "bc")
    lab.until(lambda: lab.connected("ac") and lab.connected("bc"))
    begun, held = slow_reports(lab, "c")

    def report(name: str) -> Deferred[ReportAnswer]:
        route = lab.route(name + "c")
        return ensureDeferred(lab[name].links.ask_far(route, "report", Report(number=1), ReportAnswer, 300.0))

    answers = [report("a") for _ in range(3)]
    lab.reactor.advance(1)
    answers.append(report("b"))
    lab.reactor.advance(1)
    assert begun == ["a", "b"]
    held[1].callback(None)
    held[0].callback(None)
    lab.reactor.advance(1)
    assert begun == ["a", "b", "a"]
    assert [answer.called for answer in answers] == [True, False, False, True]
    lab["a"].restart()  # nobody waits for the third any more
    lab.reactor.advance(1)
    held[2].callback(None)
    lab.reactor.advance(30)
    assert begun == ["a", "b", "a"]
    lab.until(lambda: lab.connected("ac"), 120)
    again = report("a")
    lab.until(lambda: len(held) == 4)
    held[3].callback(None)
    assert lab.finish(again) == ReportAnswer()


def test_a_report_that_waits_for_its_turn_is_overtaken_by_the_end_of_trust_in_a_server_on_its_way() -> None:
    lab = chain("abc")
    begun, held = slow_reports(lab, "c")

    def report(names: str) -> Deferred[ReportAnswer]:
        question = Report(number=1)
        return ensureDeferred(lab[names[0]].links.ask_far(lab.route(names), "report", question, ReportAnswer, 300.0))

    first = report("bc")
    lab.reactor.advance(1)
    second = report("abc")
    lab.reactor.advance(1)
    lab["c"].knows(lab["a"], state=PeerState.REVOKED)
    held[0].callback(None)
    assert lab.finish(first) == ReportAnswer()
    with pytest.raises(Refused, match="nothing that a "):
        lab.finish(second)
    assert begun == ["b"]
