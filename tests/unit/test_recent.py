"""What has just come is read from memory, within bounds, and is the same as on the disk."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpc.core.digest import CHUNK
from cpc.core.errors import BadInput, Damaged
from cpc.core.recent import STAY, USED, Recent
from cpc.store.chunks import SMALL, ChunkFiles
from cpc.store.chunkstore import ChunkStore
from tests.helpers.files import Shop, block, content_of, wait

SIZE = SMALL + 1


class Life(Shop):
    """A file service that keeps what has come."""

    recent = 4 * SIZE

    def life(self) -> None:
        super().life()
        self.chunks = ChunkStore(self.store, ChunkFiles(self.disk), self.threads, self.clock, self.recent)
        self.files._chunks = self.chunks


@pytest.fixture
def shop(tmp_path):
    return Life(tmp_path)


def put(shop: Shop, number: int) -> bytes:
    digest = content_of(block(number, SIZE)).digest
    wait(shop.files.put_chunk(1, digest, memoryview(block(number, SIZE))))
    return digest


def read(shop: Shop, digest: bytes, offset: int = 0, length: int = 1 << 62) -> bytes:
    return wait(shop.chunks.read(digest, SIZE, offset, length))


def test_what_has_just_come_is_not_read_from_the_disk(shop):
    digest = put(shop, 1)
    shop.disk.names.clear()
    assert read(shop, digest) == block(1, SIZE)
    assert read(shop, digest, 10, 5) == block(1, SIZE)[10:15]
    assert read(shop, digest, SIZE - 2) == block(1, SIZE)[-2:]


def test_the_oldest_go_when_there_is_no_room(shop):
    digests = [put(shop, number) for number in range(5)]
    shop.disk.names.clear()
    for number in range(1, 5):
        assert read(shop, digests[number]) == block(number, SIZE)
    with pytest.raises(Damaged, match="missing"):
        read(shop, digests[0])


def test_what_has_been_read_goes_before_what_has_not():
    kept = Recent(2 * USED)
    for number in range(5):
        kept.keep(b"%d" % number, bytes(USED // 4), 0.0)
        if number in (1, 2):
            assert kept.find(b"%d" % number, 0, CHUNK) is not None
    assert kept.find(b"0", 0, 1) == b"\0"  # not to its end
    assert [number for number in range(5) if kept.find(b"%d" % number, 0, 1) is not None] == [0, 2, 3, 4]
    for number in range(5, 12):
        kept.keep(b"%d" % number, bytes(USED // 4), 0.0)
    assert [number for number in range(12) if kept.find(b"%d" % number, 0, 1)] == [*range(4, 12)]


def test_memory_is_given_back_when_nothing_comes(shop):
    digest = put(shop, 1)
    shop.clock.seconds += STAY - 1
    wait(shop.chunks.collect())
    assert shop.chunks._recent.size == SIZE
    shop.clock.seconds += 2
    wait(shop.chunks.collect())
    assert shop.chunks._recent.size == 0
    assert read(shop, digest) == block(1, SIZE)  # from the disk


def test_what_was_refused_is_not_kept(shop):
    with pytest.raises(BadInput):
        wait(shop.files.put_chunk(1, hashlib.sha256(b"other").digest(), memoryview(block(1, SIZE))))
    assert shop.chunks._recent.size == 0


def test_what_was_not_committed_is_not_kept(shop):
    def refuse(tx, arrived):
        raise BadInput("the project is gone")

    with pytest.raises(BadInput, match="gone"):
        wait(shop.chunks.put({content_of(block(1, SIZE)).digest: block(1, SIZE)}, refuse))
    assert shop.chunks._recent.size == 0


def test_what_is_removed_is_not_kept(shop):
    put(shop, 1)
    shop.clock.seconds += 3 * 86400
    wait(shop.chunks._remove([content_of(block(1, SIZE)).digest], lambda tx, digests: list(digests)))
    assert shop.chunks._recent.size == 0


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from([SMALL, SIZE, 2 * SIZE, 5 * SIZE]), st.booleans())))
def test_it_never_holds_more_than_its_bound(steps):
    kept = Recent(4 * SIZE)
    here: dict[int, int] = {}
    for now, (number, size, forget) in enumerate(steps):
        if forget:
            kept.forget([b"%d" % number])
            here.pop(number, None)
        else:
            kept.keep(b"%d" % number, bytes(size), float(now))
            here[number] = size
        found = {each: kept.find(b"%d" % each, 0, CHUNK) for each in range(7)}
        assert kept.size == sum(len(data) for data in found.values() if data is not None) <= 4 * SIZE
        assert all(len(data) == here[each] for each, data in found.items() if data is not None)
        if not forget and size <= 4 * SIZE:
            assert found[number] is not None
