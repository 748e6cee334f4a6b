"""Chunks in the order in which they are written, several on their way at once."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from cpc.core.digest import CHUNK
from cpc.core.errors import Damaged
from cpc.wire.calls import SMALL_CALLS
from cpc.worker.fetching import MOST_EARLY, WINDOW, Early, InOrder


class Far:
    """Where chunks come from, when the test says so."""

    def __init__(self) -> None:
        self.asked: dict[bytes, Deferred[bytes]] = {}

    async def fetch(self, digest: bytes, size: int) -> bytes:
        self.asked[digest] = Deferred()
        return await self.asked[digest]

    def send(self, digest: bytes) -> None:
        self.asked.pop(digest).callback(b"chunk " + digest)


def digests(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def whole(count: int) -> list[tuple[bytes, int]]:
    return [(digest, CHUNK) for digest in digests(count)]


def test_some_chunks_are_on_their_way_at_once_and_come_in_order() -> None:
    far, early, got = Far(), Early(), []
    chunks = InOrder(whole(6), far.fetch, early)

    async def write() -> None:
        for _ in range(6):
            got.append(await chunks.next())

    ensureDeferred(write())
    assert list(far.asked) == digests(WINDOW // CHUNK)
    for digest in (b"2", b"1"):
        far.send(digest)
    assert got == []
    far.send(b"0")
    assert got == [b"chunk 0", b"chunk 1", b"chunk 2"]
    assert list(far.asked) == [b"3", b"4", b"5"]
    for digest in (b"5", b"3", b"4"):
        far.send(digest)
    assert got == [b"chunk " + digest for digest in digests(6)]
    assert early.left == MOST_EARLY


def test_of_small_chunks_many_are_on_their_way() -> None:
    far, early = Far(), Early()
    chunks = InOrder([(digest, 10_000) for digest in digests(200)], far.fetch, early)
    ensureDeferred(chunks.next())
    assert list(far.asked) == digests(SMALL_CALLS)
    assert early.left == MOST_EARLY - (SMALL_CALLS - 1) * 10_000
    far.send(b"0")
    ensureDeferred(chunks.next())
    assert len(far.asked) == SMALL_CALLS
    mixed = Far()
    ensureDeferred(
        InOrder([(b"big", CHUNK)] * 2 + [(b"%d" % each, 1 << 20) for each in range(99)], mixed.fetch, Early()).next()
    )
    assert len(mixed.asked) == 1 + (WINDOW - 2 * CHUNK) // (1 << 20)


def test_what_is_fetched_early_is_bounded_for_all_attempts_together() -> None:
    early, attempts = Early(2 * CHUNK), [Far() for _ in range(5)]
    for far in attempts:
        ensureDeferred(InOrder(whole(4), far.fetch, early).next())
    assert [len(far.asked) for far in attempts] == [3, 1, 1, 1, 1]


def test_what_is_not_wanted_any_more_gives_its_room_back_when_it_has_come_or_failed() -> None:
    far, early = Far(), Early()
    chunks = InOrder(whole(9), far.fetch, early)
    turn = ensureDeferred(chunks.next())
    far.asked[b"0"].errback(Damaged("another chunk came"))
    with pytest.raises(Damaged):
        turn.result.raiseException()  # type: ignore[union-attr]
    turn.addErrback(lambda _: None)
    chunks.close()
    assert early.left == MOST_EARLY - (WINDOW - CHUNK)
    far.send(b"1")
    far.asked[b"2"].errback(Damaged("another chunk came"))
    far.send(b"3")
    assert early.left == MOST_EARLY
    assert list(far.asked) == [b"0", b"2"]
