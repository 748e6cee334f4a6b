"""Questions with files: bounded by their bytes, so that small ones need not wait for each other, whatever is said of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from cpc.core.digest import CHUNK
from cpc.core.errors import Refused
from cpc.core.pieces import Pieces
from cpc.server.federation.ways import Caller
from cpc.wire import calls, frames
from cpc.wire.calls import answer_of
from cpc.wire.connection import Connection
from cpc.wire.messages import ChunkData, ChunkGet, ChunkPut, Message, Turn
from cpc.wire.peer_messages import FarChunkGet
from tests.helpers.sites import Lab
from tests.helpers.two_sides import LEASE, Two, nothing, same

SMALL = 10_000
TIME = 100.0  # seconds


class Shop:
    """Has chunks of any size, and gives them when the test says so. `digest` is the number of bytes, in decimal."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[None]] = []
        self.asked = 0
        self.most = 0  # bytes that were asked for and not given, at any time
        self._open = 0
        self._held = True

    async def give(self, _who: Any, asked: Any) -> ChunkData:
        size = int(asked.digest)
        self.asked += 1
        self._open += size
        self.most = max(self.most, self._open)
        if self._held:
            self.waiting.append(Deferred())
            await self.waiting[-1]
        self._open -= size
        return ChunkData(data=memoryview(bytes(size)))

    def serve(self, connection: Connection) -> None:
        connection.serve("chunk-get", ChunkGet, self.give, bulk=True, most=lambda asked: answer_of(asked.size))

    def finish(self, advance: Callable[[float], object]) -> None:
        """All of them, one after the other."""
        self._held = False
        for each in self.waiting:
            each.callback(None)
            advance(0.1)
        advance(10.0)


def asks(two: Two, size: int, said: int, most: int | None = None) -> list[Any]:
    question = ChunkGet(lease=LEASE, digest=b"%d" % size, size=said)
    how = answer_of(said) if most is None else most
    return two.calling("chunk-get", question, ChunkData, bulk=True, timeout=TIME, most=how)


def pair() -> tuple[Shop, Two]:
    shop = Shop()
    two = Two(turn=(Turn, same))
    shop.serve(two.there)
    return shop, two


@pytest.mark.parametrize(
    ("size", "at_once"),
    [(SMALL, calls.SMALL_CALLS), (CHUNK, calls.BULK_CALLS), (1 << 20, calls.BULK_BYTES // ((1 << 20) + calls.MARGIN))],
)
def test_so_many_chunks_are_on_their_way_as_their_bytes_allow(size: int, at_once: int) -> None:
    shop, two = pair()
    done = [asks(two, size, size) for _ in range(at_once + 3)]
    two.reactor.advance(1.0)
    assert (len(two.here._calls), shop.asked) == (at_once, at_once)
    shop.finish(two.reactor.advance)
    assert [len(one[0].data) for one in done] == [size] * (at_once + 3)
    assert shop.most <= calls.BULK_BYTES


def test_where_nothing_is_said_of_the_size_a_whole_chunk_is_counted_on_both_sides() -> None:
    for said, most in ((0, 0), (0, answer_of(SMALL)), (SMALL, 0)):  # as another release asks; or one side only says so
        shop, two = pair()
        done = [asks(two, SMALL, said, most) for _ in range(20)]
        two.reactor.advance(1.0)
        assert shop.asked == calls.BULK_CALLS
        shop.finish(two.reactor.advance)
        assert all(len(one[0].data) == SMALL for one in done)


def test_small_chunks_and_whole_ones_share_the_bytes_and_keep_their_order() -> None:
    shop, two = pair()
    sizes = [CHUNK, SMALL, CHUNK, CHUNK, SMALL, CHUNK, CHUNK, SMALL]
    done = [asks(two, size, size) for size in sizes]
    two.reactor.advance(1.0)
    assert shop.asked == 5, "the fourth whole one does not fit beside two small ones, and nobody overtakes it"
    shop.finish(two.reactor.advance)
    assert [len(one[0].data) for one in done] == sizes
    assert shop.most <= calls.BULK_BYTES


def test_an_answer_that_is_larger_than_was_said_is_not_taken() -> None:
    shop, two = pair()
    wrong = [asks(two, size, SMALL) for size in (CHUNK, SMALL + calls.MARGIN)]
    right = asks(two, SMALL, SMALL)
    two.reactor.advance(1.0)
    shop.finish(two.reactor.advance)
    assert [type(one[0]) for one in wrong] == [Refused, Refused]
    assert "at most 14096 were asked for" in str(wrong[0][0])
    assert len(right[0].data) == SMALL
    assert not two.here.closed


def test_a_question_that_cannot_be_read_takes_a_whole_place_and_is_refused() -> None:
    shop, two = pair()
    wrong = two.calling("chunk-get", _Odd(lease="x"), ChunkData, bulk=True, timeout=TIME)
    two.reactor.advance(1.0)
    assert "the message does not fit" in str(wrong[0])
    assert not shop.asked
    asks(two, SMALL, SMALL)
    two.reactor.advance(1.0)
    assert shop.asked == 1


def test_a_chunk_that_is_put_stays_in_the_pieces_that_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at twice, for what its answer takes and for itself, and by its handler as it came."""
    together: list[int] = []
    join = Pieces.__bytes__

    def counted(pieces: Pieces) -> bytes:
        together.append(len(pieces))
        return join(pieces)

    monkeypatch.setattr(Pieces, "__bytes__", counted)
    two = Two(turn=(Turn, same))
    two.there.serve("chunk-put", ChunkPut, nothing, bulk=True, most=lambda _: calls.MARGIN)
    question = ChunkPut(lease=LEASE, digest=b"d" * 32, data=memoryview(bytes(CHUNK)))
    done = two.calling("chunk-put", question, bulk=True, timeout=TIME)
    two.reactor.advance(20.0)
    assert done == [Message()]
    assert not together


class _Odd(Message, frozen=True):
    lease: str


def test_small_chunks_are_put_many_at_once_and_whole_ones_four() -> None:
    for size, at_once in ((SMALL, calls.SMALL_CALLS), (CHUNK, calls.BULK_CALLS)):
        waiting: list[Deferred[None]] = []

        async def put(_: Connection, asked: ChunkPut, waiting: list[Deferred[None]] = waiting) -> None:
            waiting.append(Deferred())
            await waiting[-1]

        two = Two(turn=(Turn, same))
        two.there.serve("chunk-put", ChunkPut, put, bulk=True, most=lambda _: calls.MARGIN)
        question = ChunkPut(lease=LEASE, digest=b"x", data=memoryview(bytes(size)))
        done = [
            two.calling("chunk-put", question, Message, bulk=True, timeout=TIME, most=calls.MARGIN) for _ in range(70)
        ]
        two.reactor.advance(1.0)
        assert len(waiting) == at_once
        while waiting:
            waiting.pop(0).callback(None)
            two.reactor.advance(0.1)
        assert all(done)


# --- through a relay -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "size", "said", "at_once"),
    [(70, SMALL, SMALL, calls.SMALL_CALLS), (6, CHUNK, CHUNK, calls.BULK_CALLS), (6, SMALL, 0, calls.BULK_CALLS)],
)
def test_a_relay_passes_as_many_at_once_as_their_bytes_allow(count: int, size: int, said: int, at_once: int) -> None:
    lab = Lab("abc")
    lab.trust("ab", "bc")
    lab.until(lambda: lab.connected("ab") and lab.connected("bc"))
    shop = Shop()
    told: list[int] = []

    async def give(caller: Caller, asked: FarChunkGet) -> ChunkData:
        told.append(caller.most)
        return await shop.give(caller, asked)

    lab["c"].links.serve("far-chunk-get", FarChunkGet, give, far=True, bulk=True)
    question = FarChunkGet(lease=LEASE, worker=1, digest=b"%d" % size)
    done = [
        ensureDeferred(
            lab["a"].links.ask_far(lab.route("abc"), "far-chunk-get", question, ChunkData, TIME, True, answer_of(said))
        )
        for _ in range(count)
    ]
    lab.reactor.advance(1.0)
    assert shop.asked == at_once
    assert set(told) == {answer_of(said)}
    relay = lab["b"].links._links
    for link in relay.values():
        connection = link.connection(bulk=True)
        assert connection is not None
        assert connection._questions._bulk_bytes <= calls.BULK_BYTES
        assert connection._calls._bulk.size <= calls.BULK_BYTES
    shop.finish(lab.reactor.advance)
    assert all(len(lab.finish(one).data) == size for one in done)


def test_a_relay_takes_no_more_than_was_said_whatever_the_owner_sends() -> None:
    """Else an owner that sends whole chunks for small ones would fill its memory, sixty-four at a time."""
    lab = Lab("abc")
    lab.trust("ab", "bc")
    lab.until(lambda: lab.connected("ab") and lab.connected("bc"))

    async def lies(_: Caller, asked: FarChunkGet) -> ChunkData:
        return ChunkData(data=memoryview(bytes(CHUNK)))

    lab["c"].links.serve("far-chunk-get", FarChunkGet, lies, far=True, bulk=True)
    question = FarChunkGet(lease=LEASE, worker=1, digest=b"1")
    work = lab["a"].links.ask_far(lab.route("abc"), "far-chunk-get", question, ChunkData, TIME, True, answer_of(SMALL))
    with pytest.raises(Refused, match="at most 14096 were asked for"):
        lab.finish(work)
    link = lab["a"].links._links[lab["b"].id]
    connection = link.connection(bulk=True)
    assert connection is not None
    assert connection.channel.reader.next() is None
    assert len(connection.channel.reader) == 0
    assert lab.connected("ab")


@pytest.mark.parametrize("most", [-1, frames.MAX_FRAME + 1, "x", 1.5, None])
def test_what_cannot_be_the_size_of_an_answer_is_no_frame(most: object) -> None:
    head = {"m": "far-chunk-get", "i": 1, "o": "b", "t": ["a", "b"], "a": most}
    small = frames.msgpack.packb({**head, "b": b"\x80"})
    large = frames.msgpack.packb({**head, "b": bytes(100_000)})
    for frame in (small, large):
        with pytest.raises(Refused):
            frames.read(frame)


def test_what_is_said_of_an_answer_is_read_from_small_frames_and_large_ones() -> None:
    for data in (b"\x80", bytes(100_000)):
        (frame,) = (b"".join(map(bytes, frames.question("far-chunk-put", 7, data, ("a", "b"), 5.0, 4096))),)
        found = frames.read(frame[4:])
        assert (found.most, found.within, found.route) == (4096, 5.0, ("a", "b"))
    direct = b"".join(map(bytes, frames.question("chunk-put", 7, b"\x80", (), 5.0, 4096)))
    assert frames.read(direct[4:]).most == 0, "the neighbour reads the question itself"
