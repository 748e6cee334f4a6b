"""Bounds that hold whatever the other side does: the production connection on virtual time."""

from __future__ import annotations

import gc
import os
import struct
from types import FrameType

import msgpack
import pytest
from twisted.internet.defer import Deferred

from cpc.core.errors import BadInput, TooLarge, Unavailable
from cpc.wire import calls, channel, connection, questions
from cpc.wire.connection import Connection
from cpc.wire.messages import (
    ChunkData,
    ChunkGet,
    ChunkList,
    ChunkPut,
    Goodbye,
    Message,
    Orders,
    Turn,
)
from tests.helpers.two_sides import LEASE, Two, nothing, same
from tests.helpers.wires import Wires


def test_a_frame_leaves_at_once_and_those_that_follow_it_in_one_tls_write() -> None:
    two = Two(turn=(Turn, nothing))
    writes: list[int] = []
    tls = two.here.channel._tls()
    write = tls.write

    def counted(data: bytes) -> None:
        writes.append(len(data))
        write(data)

    tls.write = counted  # type: ignore[method-assign]
    two.reactor.advance(1)
    for number in range(50):
        two.here.tell("turn", Turn(number=number))
        assert len(writes) == 1
    two.reactor.advance(1)
    assert len(writes) == 2
    assert writes[1] > 40 * writes[0]


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


def test_what_has_come_is_gone_when_it_was_read_without_any_search_for_garbage() -> None:
    """No error of TLS keeps its traceback, and with it the frames of the read and all bytes that came."""

    async def put(_: Connection, asked: ChunkPut) -> Message:
        return ChunkList(digests=(asked.digest,))

    two = Two(chunk_put=(ChunkPut, put))

    def send(count: int) -> None:
        for _ in range(count):
            body = ChunkPut(lease=LEASE, digest=b"d", data=memoryview(bytes(1 << 20)))
            done = two.calling("chunk-put", body, ChunkList, bulk=True)
            two.reactor.run_until(lambda done=done: done)  # type: ignore[misc]

    send(2)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        send(8)
        gc.collect()
        frames = [each.f_code for each in gc.garbage if isinstance(each, FrameType)]
        assert not [
            code for code in frames if f"{os.sep}cpc{os.sep}" in code.co_filename
        ]  # other threads may leave some
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
