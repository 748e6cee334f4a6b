"""Calls both ways, errors in words, ends: the production connection on virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger

from cpc.core.errors import CopernicusError, NotFound, Refused, Unavailable
from cpc.wire import calls, channel, questions
from cpc.wire.connection import Connection
from cpc.wire.messages import (
    ChunkData,
    ChunkGet,
    ChunksMissing,
    Goodbye,
    Message,
    Orders,
    Turn,
)
from tests.helpers.two_sides import LEASE, Two, nothing, same


def test_a_call_is_answered_and_an_empty_answer_is_an_empty_map() -> None:
    two = Two(turn=(Turn, same), goodbye=(Goodbye, nothing))
    assert two.call("turn", Turn(number=7), Turn) == Turn(number=7)
    assert type(two.call("goodbye", Goodbye())) is Message


def test_both_sides_call_and_serve_on_one_connection() -> None:
    two = Two(turn=(Turn, same))
    two.here.serve("orders", Orders, nothing)
    assert two.reactor.finish(two.there.call("orders", Orders(), Message)) is not None
    assert two.call("turn", Turn(number=1), Turn) is not None


def test_answers_come_in_any_order() -> None:
    waiting: dict[int, Deferred[None]] = {}

    async def slow(_: Connection, turn: Turn) -> Message:
        waiting[turn.number] = Deferred()
        await waiting[turn.number]
        return turn

    two = Two(turn=(Turn, slow))
    done = [two.calling("turn", Turn(number=number), Turn) for number in range(3)]
    two.reactor.advance(1)
    for number in (2, 0, 1):
        waiting[number].callback(None)
        two.reactor.advance(1)
        assert done[number] == [Turn(number=number)]


def test_an_error_arrives_with_its_code_message_and_hint() -> None:
    async def missing(_: Connection, __: Turn) -> Message:
        raise NotFound("no such worker", "look at cpcc workers")

    two = Two(turn=(Turn, missing))
    with pytest.raises(NotFound) as caught:
        two.call("turn", Turn(number=1))
    assert (caught.value.message, caught.value.hint) == ("no such worker", "look at cpcc workers")
    assert not two.here.closed


def test_a_handler_that_breaks_is_logged_and_the_connection_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: Connection, turn: Turn) -> Message:
        if turn.number:
            raise ZeroDivisionError("secret detail")
        return turn

    seen: list[Any] = []
    # A publisher of its own: what else is logged, or collected while it is, cannot come in between.
    monkeypatch.setattr(questions, "_log", Logger(observer=seen.append))
    two = Two(turn=(Turn, broken))
    with pytest.raises(CopernicusError, match="turn failed") as caught:
        two.call("turn", Turn(number=1))
    assert "secret" not in str(caught.value)
    assert any(isinstance(event["log_failure"].value, ZeroDivisionError) for event in seen if "log_failure" in event)
    assert two.call("turn", Turn(number=0), Turn) == Turn(number=0)


def test_an_unknown_method_is_refused_by_name_and_the_connection_lives() -> None:
    two = Two(turn=(Turn, same))
    with pytest.raises(Refused, match="unknown method 'dance'"):
        two.call("dance", Goodbye())
    two.here.tell("dance", Goodbye())
    assert two.call("turn", Turn(number=1), Turn) is not None


def test_a_side_that_asks_only_for_what_is_not_served_is_a_flood_and_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(questions, "MAX_UNSERVED", 20)
    two = Two(turn=(Turn, same))
    for _ in range(20):
        two.here.tell("dance", Goodbye())
    assert two.call("turn", Turn(number=1), Turn) is not None
    with pytest.raises(Refused, match="not served on this connection"):
        two.call("dance", Goodbye())
    assert two.here.closed


def test_a_wrong_body_or_answer_is_refused_with_its_path_and_the_connection_lives() -> None:
    two = Two(turn=(ChunksMissing, nothing), chunk_get=(ChunkGet, same))
    with pytest.raises(Refused, match=r"turn: the message does not fit: .*lease"):
        two.call("turn", Turn(number=1))
    with pytest.raises(Refused, match=r"the message does not fit: .*\$\.lease"):
        two.call("turn", _Odd(lease="x"))
    assert not two.here.closed


class _Odd(Message, frozen=True, kw_only=True):
    lease: str
    digests: tuple[bytes, ...] = ()


def test_an_answer_that_does_not_fit_is_refused_here() -> None:
    two = Two(turn=(Turn, same))
    with pytest.raises(Refused, match=r"turn: the message does not fit: .*data"):
        two.call("turn", Turn(number=1), ChunkData)


def test_a_late_answer_is_unavailable_and_dropped_when_it_comes() -> None:
    waiting: list[Deferred[None]] = []

    async def slow(_: Connection, turn: Turn) -> Message:
        if turn.number == 1:
            waiting.append(Deferred())
            await waiting[0]
        return turn

    two = Two(turn=(Turn, slow))
    with pytest.raises(Unavailable, match="turn: no answer within 5 s"):
        two.call("turn", Turn(number=1), timeout=5.0)
    waiting[0].callback(None)
    two.reactor.advance(1)
    assert two.call("turn", Turn(number=2), Turn) == Turn(number=2)


def test_a_given_up_call_makes_room_for_the_next() -> None:
    async def never(_: Connection, __: ChunkGet) -> Message:
        await Deferred()
        return Goodbye()

    two = Two(chunk_get=(ChunkGet, never), turn=(Turn, same))
    coroutines = [
        ensureDeferred(two.here.call("chunk-get", ChunkGet(lease=LEASE, digest=b""), Message, bulk=True))
        for _ in range(calls.BULK_CALLS + 2)
    ]
    two.reactor.advance(1)
    assert len(two.here._calls) == calls.BULK_CALLS
    for one in coroutines:
        one.addErrback(lambda _: None)
    coroutines[-1].cancel()  # one that waits
    coroutines[0].cancel()  # one that was sent
    two.reactor.advance(1)
    assert len(two.here._calls) == calls.BULK_CALLS
    coroutines[1].cancel()
    assert len(two.here._calls) == calls.BULK_CALLS - 1


@pytest.mark.parametrize("how", ["close", "cut", "kill"])
def test_a_lost_connection_fails_what_is_outstanding_and_what_comes_after(how: str) -> None:
    async def never(_: Connection, __: Turn) -> Message:
        await Deferred()
        return Goodbye()

    two = Two(turn=(Turn, never))
    done = [two.calling("turn", Turn(number=n)) for n in range(calls.MAX_CALLS + 10)]
    two.reactor.advance(1)
    ends: list[str] = []
    two.here.on_closed(ends.append)
    two.here.on_closed(lambda reason: ends.append("again " + reason))
    if how == "close":
        two.there.close("the server is stopping")
    elif how == "cut":
        two.wires.network.cut(two.wires.network.links[0])
    else:
        two.wires.s.kill()
    two.reactor.advance(1)
    assert [type(one[0]) for one in done] == [Unavailable] * len(done)
    assert len(ends) == 2
    assert "stopping" in ends[0] if how == "close" else "lost" in ends[0]
    with pytest.raises(Unavailable):
        two.call("turn", Turn(number=1))
    two.here.tell("turn", Turn(number=1))
    two.here.on_closed(ends.append)
    assert ends[0] == ends[2]


def test_a_refusal_closes_with_its_own_words() -> None:
    two = Two(turn=(Turn, same))
    two.there.refuse(Refused("this bundle was revoked", "ask anna"))
    two.reactor.advance(1)
    with pytest.raises(Refused, match="this bundle was revoked"):
        two.call("turn", Turn(number=1))


def test_what_was_queued_before_close_leaves_and_nothing_is_taken_after() -> None:
    told: list[int] = []

    async def note(_: Connection, turn: Turn) -> None:
        told.append(turn.number)

    two = Two(turn=(Turn, note))
    for number in range(500):
        two.here.tell("turn", Turn(number=number, note="x" * 1000))
    two.here.close("done")
    two.here.tell("turn", Turn(number=500))
    two.reactor.advance(5)
    assert told == list(range(500))
    assert two.wires.network.links == ()


def test_a_callback_that_breaks_does_not_keep_the_end_from_the_others() -> None:
    two = Two(turn=(Turn, same))
    ends: list[str] = []

    def broken(_: str) -> None:
        raise ZeroDivisionError

    two.here.on_closed(broken)
    two.here.on_closed(ends.append)
    two.there.close("bye")
    two.reactor.advance(1)
    assert ends == ["bye"]


def test_closing_towards_a_side_that_does_not_read_ends_all_the_same() -> None:
    two = Two(turn=(Turn, same))
    two.wires.s.freeze()
    ends: list[str] = []
    two.here.on_closed(ends.append)
    for _ in range(20):
        two.here.tell("turn", Turn(number=1, note="x" * 100_000))
    two.reactor.advance(1)
    two.here.close("enough")
    two.reactor.advance(channel.CLOSE_TIME + 1)
    assert ends == ["enough"]
