"""Calls both ways, errors in words, bounds that hold: the production connection on virtual time."""

from __future__ import annotations

import gc
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import msgpack
import pytest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger

from cpc.core.errors import BadInput, CopernicusError, NotFound, Refused, TooLarge, Unavailable
from cpc.core.lease import Lease
from cpc.wire import calls, channel, connection, questions
from cpc.wire.connection import Connection
from cpc.wire.messages import (
    ChunkData,
    ChunkGet,
    ChunkList,
    ChunkPut,
    ChunksMissing,
    Goodbye,
    Message,
    Orders,
    Turn,
)
from tests.helpers.wires import Wires

LEASE = Lease(1, 1, 1)


class Two:
    """An open connection: `here` has connected, `there` was connected to and serves."""

    def __init__(self, **served: tuple[type, Callable[[Connection, Any], Awaitable[Message | None]]]) -> None:
        self.wires = Wires()
        self.reactor = self.wires.reactor

        def serve(there: Connection) -> None:
            for name, (question, handler) in served.items():
                method = name.replace("_", "-")
                there.serve(method, question, handler, bulk=method in ("chunk-get", "chunk-put"))

        self.wires.on_connection = serve
        self.wires.listen(idle=1e9)
        self.here = self.wires.connect()
        self.there = self.wires.taken[0]

    def call(self, method: str, body: Message, answer: type[Any] = Message, timeout: float = 60.0) -> Any:
        return self.reactor.finish(self.here.call(method, body, answer, timeout))

    def calling(self, method: str, body: Message, answer: type[Any] = Message, **options: Any) -> list[Any]:
        """Call, and note in a list what becomes of it."""
        done: list[Any] = []
        ensureDeferred(self.here.call(method, body, answer, **options)).addCallbacks(
            done.append, lambda failure: done.append(failure.value)
        )
        return done


async def same(_: Connection, turn: Turn) -> Message:
    return Turn(number=turn.number)


async def nothing(_: Connection, asked: Any) -> None:
    return None


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


# --- bounds ---------------------------------------------------------------------------------------------------------------


def test_frames_of_one_turn_leave_in_one_tls_write() -> None:
    two = Two(turn=(Turn, nothing))
    writes: list[int] = []
    tls = two.here.channel._tls()
    write = tls.write

    def counted(data: bytes) -> None:
        writes.append(len(data))
        write(data)

    tls.write = counted  # type: ignore[method-assign]
    for number in range(50):
        two.here.tell("turn", Turn(number=number))
    two.reactor.advance(1)
    assert len(writes) == 1


def test_no_more_than_the_agreed_number_of_calls_is_under_way() -> None:
    running: list[int] = []
    most: list[int] = []
    release: list[Deferred[None]] = []

    async def slow(_: Connection, turn: Turn) -> Message:
        running.append(turn.number)
        most.append(len(running))
        release.append(Deferred())
        await release[-1]
        running.remove(turn.number)
        return turn

    two = Two(turn=(Turn, slow), chunk_get=(ChunkGet, slow))
    done = [two.calling("turn", Turn(number=n), Turn, timeout=1000.0) for n in range(3 * calls.MAX_CALLS)]
    two.reactor.advance(1)
    assert len(running) == calls.MAX_CALLS
    while release:
        release.pop(0).callback(None)
        two.reactor.advance(0.1)
    assert max(most) == calls.MAX_CALLS
    assert [one[0].number for one in done] == list(range(3 * calls.MAX_CALLS))


def test_few_handlers_with_files_run_at_once_even_when_the_caller_does_not_say_bulk() -> None:
    release: list[Deferred[None]] = []

    async def slow(_: Connection, __: ChunkGet) -> Message:
        release.append(Deferred())
        await release[-1]
        return Goodbye()

    two = Two(chunk_get=(ChunkGet, slow), turn=(Turn, same))
    done = [two.calling("chunk-get", ChunkGet(lease=LEASE, digest=b"")) for _ in range(20)]
    two.reactor.advance(1)
    assert len(release) == calls.BULK_CALLS
    assert two.call("turn", Turn(number=1), Turn) is not None  # and nobody else waits for them
    for at in range(20):
        release[at].callback(None)
        two.reactor.advance(0.1)
    assert all(done)


def test_the_transport_gets_no_more_than_it_wants() -> None:
    two = Two(turn=(Turn, nothing))
    two.wires.s.freeze()
    for _ in range(8):
        two.here.tell("turn", Turn(number=1, note="x" * 1_000_000))
    two.reactor.advance(1)
    assert two.here.backlog > 7_000_000
    two.wires.s.thaw()
    two.reactor.advance(1)
    assert two.here.backlog == 0


def test_a_handler_that_the_garbage_collector_ends_disturbs_nothing() -> None:
    async def forgotten(_: Connection, __: ChunkGet) -> Message:
        await Deferred()
        return Goodbye()

    two = Two(chunk_get=(ChunkGet, forgotten))
    for _ in range(calls.BULK_CALLS + 3):
        two.calling("chunk-get", ChunkGet(lease=LEASE, digest=b""))
    two.reactor.advance(1)
    started: list[None] = []
    two.there._questions.start = lambda: started.append(None)  # type: ignore[method-assign]
    gc.collect()
    assert started == []


def test_calls_without_end_are_refused_here() -> None:
    async def never(_: Connection, __: Turn) -> Message:
        await Deferred()
        return Goodbye()

    two = Two(turn=(Turn, never))
    done = [two.calling("turn", Turn(number=n)) for n in range(calls.MAX_CALLS + calls.MAX_WAITING + 1)]
    assert [one for one in done[:-1] if one] == []
    assert "wait for the other side already" in str(done[-1][0])


def flood(two: Two, frame: bytes, times: int) -> None:
    """A side that does not keep to the limits: it writes whatever it likes."""
    tls = two.here.channel._tls()
    for _ in range(times):
        tls.write(frame)
    two.reactor.advance(1)


def raw(envelope: dict[str, object]) -> bytes:
    data: bytes = msgpack.packb(envelope)
    return struct.pack(">I", len(data)) + data


def test_a_flood_of_questions_is_not_read_beyond_the_limit_and_goes_on_when_some_are_done() -> None:
    release: list[Deferred[None]] = []

    async def slow(_: Connection, turn: Turn) -> Message:
        release.append(Deferred())
        await release[-1]
        return turn

    two = Two(turn=(Turn, slow))
    two.here._calls.answered = lambda envelope: None  # type: ignore[method-assign]
    body = msgpack.packb({"number": 1, "note": "x" * 20_000})
    for number in range(1, 1001):
        two.here.channel._tls().write(raw({"m": "turn", "i": number, "b": body}))
    two.reactor.advance(5)
    assert len(release) <= questions.MAX_QUESTIONS + 1
    assert len(two.there.channel.reader) < 200_000
    assert two.wires.network.links[0].client._out  # the rest waits at the sender: TCP holds it back
    seen = 0
    while release:
        seen += len(release)
        for one in release[:]:
            release.remove(one)
            one.callback(None)
        two.reactor.advance(2)
    assert seen == 1000
    assert not two.there.closed


def test_an_answer_to_no_call_ends_the_connection() -> None:
    two = Two(turn=(Turn, same))
    flood(two, raw({"r": 5, "b": b"\x80"}), 1)
    assert two.there.closed
    assert "never made" in str(two.here.end)


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (struct.pack(">I", 64 << 20), "67108864 bytes is not taken"),
        (struct.pack(">I", 5000) + b"\x81\xa1x" + b"\x91" * 4996 + b"\x01", "not a frame"),
        (struct.pack(">I", 8) + b"\x81\xa1x\xdd\xff\xff\xff\xff", "not a frame"),
        (struct.pack(">I", 4) + b"rubb", "not a frame"),
    ],
)
def test_hostile_frames_end_the_connection_in_words(frame: bytes, says: str) -> None:
    two = Two(turn=(Turn, same))
    flood(two, frame, 1)
    assert two.there.closed
    assert says in str(two.here.end)
    assert two.wires.network.links == ()


def test_a_truncated_frame_ends_with_the_connection_and_runs_nothing() -> None:
    told: list[Turn] = []

    async def note(_: Connection, turn: Turn) -> None:
        told.append(turn)

    two = Two(turn=(Turn, note))
    frame = raw({"m": "turn", "b": msgpack.packb({"number": 1})})
    flood(two, frame[:-3], 1)
    two.wires.network.cut(two.wires.network.links[0])
    two.reactor.advance(1)
    assert told == []
    assert two.there.closed


def test_a_deep_or_huge_body_is_refused_and_the_connection_lives() -> None:
    two = Two(turn=(Turn, same))
    for bomb in (b"\x81\xa1x" + b"\x91" * 200_000, b"\x81\xa5holds\xdd\xff\xff\xff\xff", b"\x81\xa6number\xc1"):
        flood(two, raw({"m": "turn", "b": bomb}), 1)
    assert two.call("turn", Turn(number=1), Turn) is not None


def test_messages_for_other_servers_are_refused() -> None:
    two = Two(turn=(Turn, same))
    done = two.calling("turn", Turn(number=1))
    two.reactor.advance(1)
    flood(two, raw({"m": "turn", "i": 2, "o": "server-z", "b": msgpack.packb({"number": 1})}), 1)
    assert done
    assert "never made" in str(two.here.end)  # an error came back to call 2, which `here` did not make itself


def test_what_is_told_to_a_side_that_does_not_read_is_bounded() -> None:
    two = Two(turn=(Turn, nothing))
    two.wires.s.freeze()
    ends: list[str] = []
    two.here.on_closed(ends.append)
    most = 0
    for _ in range(100):
        two.here.tell("turn", Turn(number=1, note="x" * 1_000_000))
        two.reactor.advance(0.01)
        most = max(most, two.here.backlog)
        if two.here.closed:
            break
    two.reactor.advance(1)
    assert most < connection.MAX_BACKLOG + 2_000_000
    assert ends == ["the other side does not read what it is told"]


def test_a_side_that_stops_reading_is_cut_off_after_a_while() -> None:
    two = Two(turn=(Turn, nothing))
    two.wires.s.freeze()
    ends: list[str] = []
    two.here.on_closed(ends.append)
    two.here.tell("turn", Turn(number=1, note="x" * 2_000_000))
    two.reactor.advance(channel.STALL - 5)
    assert ends == []
    two.reactor.advance(10)
    assert ends == [f"the other side has not read for {channel.STALL:.0f} s"]


def test_files_in_bulk_keep_few_bytes_in_flight() -> None:
    """A reader that reads slowly gets 40 files of 4 MiB; neither side ever holds more than a few."""
    most = {"here": 0, "there": 0, "made": 0}
    made = [0]

    async def chunk(_: Connection, asked: ChunkGet) -> Message:
        made[0] += 1
        return ChunkData(data=memoryview(asked.digest * (4 << 15)))

    two = Two(chunk_get=(ChunkGet, chunk))
    done = [
        two.calling("chunk-get", ChunkGet(lease=LEASE, digest=b"%032d" % n), ChunkData, bulk=True, timeout=1e6)
        for n in range(40)
    ]

    def watch() -> bool:
        most["there"] = max(most["there"], two.there.backlog)
        most["here"] = max(most["here"], len(two.here.channel.reader))
        most["made"] = max(most["made"], made[0] - sum(map(len, done)))
        return all(done)

    two.reactor.run_until(watch, within=1e5)
    assert [len(one[0].data) for one in done] == [4 << 20] * 40
    assert most["there"] <= questions.ANSWER_BACKLOG + (4 << 20) + 4096
    assert most["here"] <= (4 << 20) + (1 << 16)
    assert most["made"] <= calls.BULK_CALLS


def test_uploads_in_bulk_wait_for_their_turn() -> None:
    got: list[int] = []

    async def put(_: Connection, asked: ChunkPut) -> Message:
        got.append(len(asked.data))
        return ChunkList(digests=(asked.digest,))

    two = Two(chunk_put=(ChunkPut, put))
    data = b"z" * (4 << 20)
    done = [
        two.calling(
            "chunk-put",
            ChunkPut(lease=LEASE, digest=b"%d" % n, data=memoryview(data)),
            ChunkList,
            bulk=True,
            timeout=1e6,
        )
        for n in range(12)
    ]
    assert two.here.backlog <= calls.BULK_CALLS * (len(data) + 4096)
    two.reactor.run_until(lambda: all(done), within=1e5)
    assert [one[0].digests for one in done] == [(b"%d" % n,) for n in range(12)]
    assert got == [len(data)] * 12


def test_a_body_that_fits_no_frame_is_too_large_on_either_side() -> None:
    async def huge(_: Connection, __: ChunkGet) -> Message:
        return ChunkData(data=memoryview(b"x" * (9 << 20)))

    two = Two(chunk_get=(ChunkGet, huge), turn=(Turn, same))
    with pytest.raises(TooLarge):
        two.call("turn", Turn(number=1, note="x" * (9 << 20)))
    with pytest.raises(TooLarge):
        two.call("chunk-get", ChunkGet(lease=LEASE, digest=b""), ChunkData)
    with pytest.raises(TooLarge):
        two.here.tell("turn", Turn(number=1, note="x" * (9 << 20)))
    assert two.call("turn", Turn(number=1), Turn) is not None


def test_one_way_messages_are_handled_in_order_and_their_errors_stay_here() -> None:
    told: list[int] = []

    async def note(_: Connection, turn: Turn) -> None:
        told.append(turn.number)
        if turn.number == 1:
            raise BadInput("not this one")

    two = Two(turn=(Turn, note))
    for number in range(3):
        two.here.tell("turn", Turn(number=number))
    two.reactor.advance(1)
    assert told == [0, 1, 2]
    assert not two.here.closed


def test_what_the_other_side_says_right_behind_its_greeting_is_served() -> None:
    wires = Wires()
    told: list[Orders] = []

    async def take(_: Connection, orders: Orders) -> None:
        told.append(orders)

    wires.on_connection = lambda there: there.tell("orders", Orders(drain="upgrade"))
    wires.listen()
    wires.connect(prepare=lambda here: here.serve("orders", Orders, take))
    wires.reactor.advance(1)
    assert told == [Orders(drain="upgrade")]


def test_connecting_to_a_side_that_stops_in_the_middle_ends_in_time() -> None:
    wires = Wires()
    wires.listen()
    wires.s.freeze()
    before = wires.reactor.seconds()
    with pytest.raises(Unavailable, match="no answer within 12 s"):
        wires.connect(timeout=12.0)
    assert wires.reactor.seconds() - before == pytest.approx(12.0)
    wires.network.partition("w", "s")
    with pytest.raises(Unavailable, match="no answer within 12 s"):
        wires.connect(timeout=12.0)
    wires.s.thaw()
    wires.network.heal()
    wires.reactor.advance(100)
    assert wires.network.links == ()
    assert wires.connect().peer is not None
