"""The input cache: it gives what was put into it or nothing, stays within its bound, and losing it costs time only."""

from __future__ import annotations

import pytest

from cpc.core.digest import of_chunk
from cpc.core.offload import inline
from cpc.spool.cache import Cache
from tests.helpers.memory_disk import MemoryDisk, Platter
from tests.unit.test_spool import now


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk(Platter(lambda: 0.0))


def cache(disk: MemoryDisk, limit: int = 1000) -> Cache:
    made = Cache(disk, "/cache", limit, inline)
    made.open()
    return made


def put(here: Cache, data: bytes) -> bytes:
    digest = of_chunk(data)
    now(here.put(digest, data))
    return digest


def test_it_gives_what_was_put_into_it(disk: MemoryDisk) -> None:
    here = cache(disk)
    digest = put(here, b"input")
    assert now(here.get(digest)) == b"input"
    assert now(cache(disk).get(digest)) == b"input"  # a new worker finds it
    assert now(here.get(of_chunk(b"other"))) is None


def test_a_chunk_that_changed_on_disk_is_not_given(disk: MemoryDisk) -> None:
    here = cache(disk)
    digest = put(here, b"input")
    disk.write(f"/cache/{digest.hex()}", b"Input")
    assert now(here.get(digest)) is None
    assert disk.stat(f"/cache/{digest.hex()}") is None
    assert put(here, b"input") == digest
    assert now(here.get(digest)) == b"input"


def test_the_longest_unused_go_first(disk: MemoryDisk) -> None:
    here = cache(disk, 1000)
    first, second = put(here, b"1" * 400), put(here, b"2" * 400)
    assert now(here.get(first)) is not None
    third = put(here, b"3" * 400)
    assert now(here.get(second)) is None
    assert now(here.get(first)) is not None
    assert now(here.get(third)) is not None
    assert here.size <= 1000


def test_the_bound_holds_for_what_was_there_before(disk: MemoryDisk) -> None:
    here = cache(disk, 10_000)
    for number in range(10):
        put(here, bytes([number]) * 900)
    smaller = cache(disk, 2000)
    put(smaller, b"x" * 900)
    assert smaller.size <= 2000
    assert sum(stat.size for stat in disk.scan("/cache")) <= 2000


def test_what_is_bigger_than_the_bound_is_not_kept(disk: MemoryDisk) -> None:
    here = cache(disk, 100)
    digest = put(here, b"x" * 101)
    assert now(here.get(digest)) is None
    assert here.size == 0


def test_a_full_disk_is_no_error_and_leaves_nothing(disk: MemoryDisk) -> None:
    here = cache(disk)
    disk.platter.capacity = disk.platter.used() + 10
    digest = put(here, b"x" * 100)
    assert now(here.get(digest)) is None
    assert disk.scan("/cache") == ()


def test_what_a_crash_left_half_written_is_removed(disk: MemoryDisk) -> None:
    disk.make_directory("/cache")
    disk.write("/cache/part-7-1", b"half")
    here = cache(disk)
    assert disk.scan("/cache") == ()
    assert here.size == 0


def test_shrinking_to_nothing_makes_room(disk: MemoryDisk) -> None:
    here = cache(disk)
    put(here, b"x" * 500)
    now(here.shrink(0))
    assert here.size == 0
    assert disk.scan("/cache") == ()
