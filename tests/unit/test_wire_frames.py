"""Frames are bounded before they are believed."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpc.core.errors import CopernicusError, NotFound, Refused, TooLarge
from cpc.core.lease import Lease
from cpc.core.peer import Bound
from cpc.core.pieces import Pieces, whole
from cpc.wire import frames
from cpc.wire.frames import Envelope, FrameReader, Greeting
from cpc.wire.messages import ChunkData, ChunkPut, ChunksMissing, Turn

LEASE = Lease(57 << 20, 3, 1)


def cut(data: bytes | bytearray, limit: int = frames.MAX_FRAME) -> list[bytes | Pieces]:
    """All frames in some bytes."""
    reader = FrameReader(limit)
    reader.feed(bytes(data))
    found = []
    while (frame := reader.next()) is not None:
        found.append(frame)
    return found


def sent(frame: frames.Frame) -> bytes:
    """A frame as it is on the wire."""
    return b"".join(frame)


def read(frame: frames.Frame) -> Envelope:
    (found,) = cut(sent(frame))
    return frames.read(found)


def test_each_kind_of_frame_is_read_as_it_was_written() -> None:
    body = frames.body(ChunksMissing(lease=LEASE, digests=(b"d" * 32,)))
    asked = read(frames.question("chunks-missing", 7, body, ("server-a", "server-b")))
    assert (asked.method, asked.call, asked.body, asked.owner) == ("chunks-missing", 7, body, "server-b")
    assert frames.decode(asked.body, ChunksMissing, "m") == ChunksMissing(lease=LEASE, digests=(b"d" * 32,))
    told = read(frames.question("orders", 0, b"\x80"))
    assert (told.method, told.call) == ("orders", 0)
    answered = read(frames.answer(7, b"\x80"))
    assert (answered.answers, answered.body, answered.error) == (7, b"\x80", None)
    refused = read(frames.refusal(NotFound("no such thing", "look again"), 9))
    assert refused.answers == 9
    assert type(refused.error) is NotFound
    assert (refused.error.message, refused.error.hint) == ("no such thing", "look again")
    assert read(frames.refusal(NotFound("x"))).answers == 0
    said = Greeting(4, 3, "3.1", ("relay",))
    assert read(frames.greeting(said)).greeting == said


def test_an_error_with_a_code_of_a_newer_release_stays_readable() -> None:
    envelope = frames.read(msgpack.packb({"e": ["brand-new", "the message", "the hint", 5], "r": 1}))
    assert type(envelope.error) is CopernicusError
    assert str(envelope.error) == "the message (the hint)"


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20), st.randoms(use_true_random=False))
def test_frames_come_out_whole_however_the_stream_is_cut(parts: list[bytes], chance: object) -> None:
    stream = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    reader, found, at = FrameReader(300), [], 0
    while at < len(stream):
        step = chance.randint(1, 200)  # type: ignore[attr-defined]
        reader.feed(stream[at : at + step])
        at += step
        while (frame := reader.next()) is not None:
            found.append(frame)
    assert found == parts
    assert len(reader) == 0


def test_a_frame_that_is_too_long_is_refused_by_its_length_alone() -> None:
    for size in (0, 1001, 0xFFFFFFFF):
        reader = FrameReader(1000)
        reader.feed(struct.pack(">I", size))
        with pytest.raises(Refused, match=f"a frame of {size} bytes"):
            reader.next()
    assert cut(struct.pack(">I", 1000) + b"x" * 999, 1000) == []


def test_unknown_keys_are_ignored() -> None:
    data = msgpack.packb({"m": "turn", "i": 3, "b": b"\x80", "route": ["a", "b"], "x": {"y": [1, None, 2.5]}})
    assert frames.read(data) == Envelope("turn", 3)


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"\x80", b"\xc1", b"\x81", b"\xc0", b"\x93\x01\x02\x03", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00\x01",
        msgpack.packb({"m": "turn"}) + b"\x00",  # more than one value
        msgpack.packb({"m": 5}), msgpack.packb({"m": ""}), msgpack.packb({"m": "x" * 101}),
        msgpack.packb({"m": "turn", "i": -1}), msgpack.packb({"m": "turn", "i": 1 << 63}),
        msgpack.packb({"m": "turn", "i": "1"}), msgpack.packb({"m": "turn", "i": True}),
        msgpack.packb({"m": "turn", "b": "text"}), msgpack.packb({"m": "turn", "b": [1]}),
        msgpack.packb({"r": 1.5}), msgpack.packb({"r": None, "b": b""}),
        msgpack.packb({"e": "x"}), msgpack.packb({"e": []}), msgpack.packb({"e": [1, 2, 3]}), msgpack.packb({"e": ["a"]}),
        msgpack.packb({"p": "1"}), msgpack.packb({"p": 1, "release": 2}), msgpack.packb({"p": 1, "caps": [1]}),
        msgpack.packb({"nothing": 1}), msgpack.packb({1: 2}), msgpack.packb([{"m": "turn"}]),
        msgpack.packb({"m": "turn", "x": msgpack.ExtType(5, b"data")}), msgpack.packb({"m": "turn", "x": [0] * 300}),
        msgpack.packb({str(n): n for n in range(100)}), msgpack.packb({"m": "turn", "x": "y" * 70_000}),
        b"\x81\xa1m\xa4\xff\xff\xff\xff", b"\x81\xa1x\xdd\xff\xff\xff\xff", b"\x81\xa1x\xdf\xff\xff\xff\xff",
        b"\x81\xa1b\xc6\xff\xff\xff\xff", b"\x81\xa1x\xdb\xff\xff\xff\xff", b"\x81\xa1x\xc9\xff\xff\xff\xff\x01",
        b"\x81\xa1x" + b"\x91" * 5000 + b"\x01", b"\x81\xa1x" + b"\x81\xa1x" * 5000 + b"\x01",
    ],
)  # fmt: skip
def test_a_malformed_envelope_is_refused(frame: bytes) -> None:
    with pytest.raises(Refused):
        frames.read(frame)


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_read_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(Refused):
        envelope = frames.read(data)
        frames.decode(envelope.body, Turn, "turn")


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4), max_leaves=12,
))  # fmt: skip
def test_any_body_is_a_message_or_refused(body: object) -> None:
    with contextlib.suppress(Refused):
        assert type(frames.decode(msgpack.packb(body), Turn, "turn")) is Turn


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"number": "one"}, r"\$\.number"),
        ({"number": 1, "holds": [[1, 2]]}, r"\$\.holds\[0\]"),
        ({"number": 1, "holds": [[1, 2, "x"]]}, r"\$\.holds\[0\]\[2\]"),
        ({"number": 1, "results": [{"lease": [1, 1, 1], "outcome": "dreamt"}]}, r"\$\.results\[0\]\.outcome"),
        ({}, "required field `number`"),
        ([1], "Expected `object`"),
    ],
)
def test_a_wrong_type_is_refused_with_its_path(body: object, path: str) -> None:
    with pytest.raises(Refused, match=path):
        frames.decode(msgspec.msgpack.encode(body), Turn, "turn")


def test_unknown_keys_of_a_body_are_ignored() -> None:
    found = frames.decode(msgpack.packb({"number": 4, "news": {"deep": [1, [2, [3]]]}}), Turn, "turn")
    assert found == Turn(number=4)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x81\xa6number\xdd\xff\xff\xff\xff",
        b"\x81\xa5holds\xdd\xff\xff\xff\xff\x93\x01\x01\x01",
        b"\x81\xa5small\xdf\xff\xff\xff\xff",
        b"\x81\xa1x" + b"\x91" * 8_000_000,
        b"\xdd\x00\x7f\xff\xff" + b"\x80" * 0x7FFFFF,
        b"\x81\xa1x\xdd\x00\x7f\xff\xff" + b"\x80" * 0x7FFFFF,
        b"\x81\xa5holds\xdd\x00\x7f\xff\xff" + b"\x90" * 0x7FFFFF,
    ],
)
def test_a_bomb_costs_no_more_memory_than_a_few_frames(bomb: bytes) -> None:
    frame = sent(frames.question("turn", 1, bomb))[4:]
    tracemalloc.start()
    try:
        with pytest.raises(Refused):
            frames.decode(frames.read(frame).body, Turn, "turn")
        assert tracemalloc.get_traced_memory()[1] < 5 * frames.MAX_FRAME
    finally:
        tracemalloc.stop()


def test_a_bomb_in_the_envelope_is_stopped_by_its_counts() -> None:
    inner = b"\xdc\x01\x00" + b"\xdc\x01\x00" * 256 + b"\x80" * 65536
    tracemalloc.start()
    try:
        with pytest.raises(Refused):
            frames.read(b"\x82\xa1m\xa1x\xa1y" + b"\xdd\x00\x10\x00\x00" + inner)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_large_frame_that_comes_byte_by_byte_costs_no_more_than_itself() -> None:
    reader = FrameReader(frames.MAX_FRAME)
    size = 1 << 20
    reader.feed(struct.pack(">I", size) + bytes(frames.LARGE))
    assert reader.next() is None
    tracemalloc.start()
    try:
        for number in range(size - frames.LARGE):
            reader.feed(bytes([number & 0xFF]))
        assert tracemalloc.get_traced_memory()[1] < 4 * size
    finally:
        tracemalloc.stop()
    whole = reader.next()
    assert whole is not None
    assert bytes(whole) == bytes(frames.LARGE) + bytes(number & 0xFF for number in range(size - frames.LARGE))


def test_what_does_not_fit_a_frame_is_not_sent() -> None:
    body = frames.body(ChunkData(data=memoryview(b"x" * (8 << 20))))
    assert len(sent(frames.question("chunk-get", 1, body))) <= frames.MAX_FRAME + 4
    with pytest.raises(TooLarge, match="more than"):
        frames.body(ChunkData(data=memoryview(b"x" * (9 << 20))))


def test_a_long_error_is_cut_to_what_a_person_reads() -> None:
    refused = read(frames.refusal(NotFound("é" * 100_000, "h" * 100_000), 1))
    assert refused.error is not None
    assert len(refused.error.message) == len(refused.error.hint) == frames.MAX_TEXT


@pytest.mark.parametrize("size", [0, 1, frames.LARGE - 1, frames.LARGE, frames.LARGE + 1, 300_000])
@pytest.mark.parametrize("step", [1009, 1 << 16, 1 << 20])
def test_a_chunk_is_on_the_wire_what_msgpack_makes_of_it(size: int, step: int) -> None:
    """Whatever the size, and however it comes in: both sides' short cuts for large ones are not seen from outside."""
    data = bytes(range(256)) * (size // 256 + 1)
    message = ChunkPut(lease=LEASE, digest=b"d" * 32, data=memoryview(data)[:size])
    stream = sent(frames.question("chunk-put", 5, frames.body(message)))
    reader = FrameReader(frames.MAX_FRAME)
    found = []
    for start in range(0, 2 * len(stream), step):  # twice, so that one's end and the other's beginning come together
        reader.feed((stream * 2)[start : start + step])
        while (frame := reader.next()) is not None:
            found.append(frame)
    assert len(found) == 2
    assert len(reader) == 0
    for frame in found:
        plain = msgpack.unpackb(bytes(frame))
        assert (plain["m"], plain["i"]) == ("chunk-put", 5)
        assert msgpack.unpackb(plain["b"])["data"] == data[:size]
        envelope = frames.read(frame)
        assert (envelope.method, envelope.call) == ("chunk-put", 5)
        put = frames.decode(envelope.body, ChunkPut, "chunk-put")
        assert msgspec.structs.replace(put, data=memoryview(bytes(put.data))) == message
    answered = read(frames.answer(5, frames.body(ChunkData(data=memoryview(data)[:size]))))
    assert answered.answers == 5
    assert bytes(frames.decode(answered.body, ChunkData, "chunk-get").data) == data[:size]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"i": -1}, "is not an id"),
        ({"m": ""}, "short text"),
        ({"m": 7}, "short text"),
        ({"m": None, "x": 1}, "short text"),
    ],
)
def test_a_large_frame_is_read_as_carefully_as_a_small_one(more: dict[str, object], words: str) -> None:
    for size in (10, 2 * frames.LARGE):
        with pytest.raises(Refused, match=words):
            frames.read(msgpack.packb({"m": "turn", "i": 1, "b": b"x" * size, **more}))


def _in_pieces(frame: bytes, step: int) -> Pieces:
    """A large frame as it comes: LARGE bytes and more, then the rest `step` by `step`."""
    first = frames.LARGE + step
    return Pieces((frame[:first], *(frame[at : at + step] for at in range(first, len(frame), step))))


@pytest.mark.parametrize("step", [5_000, 70_001])
@pytest.mark.parametrize("looks", ["nothing", "the key", "the length of what follows", "a whole body"])
def test_a_body_that_stays_in_pieces_is_the_one_that_is_read_whole(looks: str, step: int) -> None:
    """What a stranger puts before it, to have it cut elsewhere, changes nothing."""
    chunk = bytes(range(256)) * 700
    message = msgpack.packb({"lease": [1, 2, 3], "data": chunk})
    fake = {
        "nothing": b"",
        "the key": b"\xa1b\xc6\xa4data\xc6",
        "the length of what follows": b"\xa1b\xc6" + struct.pack(">I", len(message) + 7 + 3),
        "a whole body": b"\xa1b\xc6" + struct.pack(">I", 4) + b"body",
    }[looks]
    frame = msgpack.packb({"m": "far-chunk-put", "i": 3, "new": fake, "bin": [fake, fake], "b": message})
    envelope = frames.read(_in_pieces(frame, step))
    assert (envelope.method, envelope.call, bytes(envelope.body)) == ("far-chunk-put", 3, message)
    assert isinstance(envelope.body, Pieces)
    kept = msgpack.packb({"new": fake, "data": chunk})
    data = frames.decode(_in_pieces(kept, step), ChunkData, "m").data
    assert isinstance(data, Pieces)
    assert bytes(data) == chunk
    turned = msgpack.packb({"data": chunk, "new": fake})  # not the last field: read whole
    assert bytes(frames.decode(_in_pieces(turned, step), ChunkData, "m").data) == chunk


def test_a_frame_with_something_behind_it_is_none_in_pieces_either() -> None:
    frame = msgpack.packb({"m": "turn", "i": 1, "b": b"x" * 2 * frames.LARGE}) + b"more"
    for came in (frame, _in_pieces(frame, 5_000)):
        with pytest.raises(Refused, match="not a frame"):
            frames.read(came)


@pytest.mark.parametrize("size", [0, 10, 2 * frames.LARGE])
def test_a_chunk_in_pieces_is_sent_as_one_that_is_whole(size: int) -> None:
    chunk = b"x" * size
    one = frames.body(ChunkData(data=memoryview(chunk)))
    other = frames.body(ChunkData(data=Pieces((chunk[:5], chunk[5:]))))
    assert sent(frames.answer(1, one)) == sent(frames.answer(1, other))
    assert whole(Pieces((chunk[:5], chunk[5:]))) == chunk


@pytest.mark.parametrize("size", [10, 2 * frames.LARGE])
def test_a_chunk_that_is_none_is_refused_in_pieces_too(size: int) -> None:
    with pytest.raises(Refused, match="does not fit"):
        frames.decode(Pieces((msgpack.packb({"data": ["x" * size]}),)), ChunkData, "m")


ROUTE = ("server-a", "server-c", "server-b")


@pytest.mark.parametrize("size", [10, 2 * frames.LARGE])
def test_a_route_is_read_as_it_was_written_and_a_body_is_passed_on_as_it_came(size: int) -> None:
    data = frames.body(ChunkData(data=memoryview(b"x" * size)))
    asked = read(frames.question("far-chunk-put", 7, data, ROUTE, 30.0))
    assert (asked.method, asked.call, asked.route, asked.owner, asked.within) == (
        "far-chunk-put",
        7,
        ROUTE,
        "server-b",
        30.0,
    )
    bounds = (Bound(0, True), Bound(1, False, 3, ("sim", "x" * 100)))
    passed = frames.question(asked.method, 9, frames.raw(asked.body), asked.route, 20.0, bounds=bounds)
    if size > frames.LARGE:
        assert passed[-1].obj is asked.body.obj  # type: ignore[union-attr]
    again = read(passed)
    assert (again.call, again.route, again.within, bytes(again.body)) == (9, ROUTE, 20.0, bytes(asked.body))
    assert (asked.bounds, again.bounds) == ((), bounds)
    answered = read(frames.answer(3, frames.raw(again.body)))
    assert bytes(frames.decode(answered.body, ChunkData, "m").data) == b"x" * size


@pytest.mark.parametrize("size", [10, 2 * frames.LARGE])
@pytest.mark.parametrize(
    "more",
    [
        {"t": ROUTE}, {"o": "server-a", "t": ROUTE}, {"o": "server-b", "t": "abc"}, {"o": "server-b", "t": [1]},
        {"o": "server-b", "t": ["", "server-b"]}, {"o": "server-b", "t": ["x" * 65, "server-b"]}, {"o": 7, "t": ROUTE},
        {"o": "server-b", "t": ["server-b"] * 18}, {"o": "server-b", "t": {"server-b": 1}}, {"o": "x" * 65},
        {"o": "server-b", "t": ROUTE, "s": -1.0}, {"o": "server-b", "t": ROUTE, "s": "soon"},
        {"o": "server-b", "t": ROUTE, "s": 1e9}, {"o": "server-b", "t": ROUTE, "s": float("nan")},
        {"o": "server-b", "t": None}, {"o": "server-b", "t": ROUTE, "a": -1}, {"o": "server-b", "t": ROUTE, "u": 1},
        {"o": "server-b", "t": ROUTE, "u": [[-1]]}, {"o": "server-b", "t": ROUTE, "u": [[]]},
        {"o": "server-b", "t": ROUTE, "u": [[0, False, -1]]}, {"o": "server-b", "t": ROUTE, "u": [[0, False, None, [7]]]},
        {"o": "server-b", "t": ROUTE, "u": [[0]] * 18},
    ],
)  # fmt: skip
def test_a_route_that_is_none_is_refused(more: dict[str, object], size: int) -> None:
    with pytest.raises(Refused, match=r"its owner is not the end of its route|its route or its time is not one"):
        frames.read(msgpack.packb({"m": "turn", "i": 1, "b": b"x" * size, **more}))


def test_a_large_frame_says_as_much_as_a_small_one() -> None:
    body = b"x" * 2 * frames.LARGE
    relayed = frames.read(msgpack.packb({"m": "turn", "i": 1, "o": "server-b", "b": body}))
    assert (relayed.method, relayed.owner, relayed.body) == ("turn", "server-b", body)
    refused = frames.read(msgpack.packb({"r": 3, "e": ["not-found", "gone", ""], "b": body}))
    assert refused.answers == 3
    assert type(refused.error) is NotFound
    later = frames.read(msgpack.packb({"m": "turn", "i": 1, "new": [1, {"a": 2}], "b": body}))
    assert (later.method, later.call, later.body) == ("turn", 1, body)


def test_a_frame_that_is_announced_gets_no_memory_before_it_comes() -> None:
    reader = FrameReader(frames.MAX_FRAME)
    tracemalloc.start()
    try:
        reader.feed(frames.HEADER.pack(frames.MAX_FRAME) + b"x" * 1000)
        assert reader.next() is None
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
