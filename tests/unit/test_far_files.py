"""Files of jobs that run far away: the owner decides on every read, each chunk crosses each link once, caches may vanish."""

from __future__ import annotations

import weakref
from pathlib import Path

import msgspec
import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from cpc.core.digest import of_chunk
from cpc.core.errors import BadInput, Damaged, Gone, NotFound, Refused, TooLarge, Unavailable
from cpc.core.lease import Lease
from cpc.core.offload import inline
from cpc.core.pieces import Pieces
from cpc.server.federation.cache import RelayCache, kept_as
from cpc.server.federation.ways import Caller, Passing
from cpc.wire import frames
from cpc.wire.calls import answer_of
from cpc.wire.messages import ChunkData, ChunkList, Message
from cpc.wire.peer_messages import FarChunkGet, FarChunkPut, FarMissing
from tests.helpers.far_world import FarWorld
from tests.helpers.files import block
from tests.helpers.memory_disk import MemoryDisk

BIG = 1 << 20
BEYOND = bytes((4 << 20) + 1)


@pytest.fixture
def world(tmp_path: Path) -> FarWorld:
    return FarWorld(tmp_path)


def crossed(world: FarWorld, one: str, other: str) -> float:
    """How many of our large chunks a link has carried."""
    return world.net.carried[one, other] / BIG


def test_a_chunk_crosses_each_link_once_however_many_workers_need_it(world: FarWorld, tmp_path: Path) -> None:
    other = world.another_home(tmp_path, "d")
    digest = world.owner.keep(block(1, BIG))
    leases = {number: world.owner.lend(number)[1] for number in range(7, 12)}
    for number in (20, 21):
        leases[number] = world.owner.lend(number, "d")[1]
    asked = [
        ensureDeferred((other if number >= 20 else world.home).files.get(number, lease, digest))
        for number, lease in leases.items()
    ]
    for each in asked:
        assert bytes(world.reactor.finish(each)) == block(1, BIG)
    assert world.get(leases[7], digest) == block(1, BIG)  # and once more, later
    for one, two in (("c", "b"), ("b", "a"), ("b", "d")):
        assert 1.0 <= crossed(world, one, two) < 1.01, (one, two)
    assert world.net.messages["b", "c", "far-chunk-get"] == len(leases) + 1  # each was the owner's to decide
    assert world.home.cache.hits == 5
    assert world.home.cache.saved == 5 * BIG


def test_what_is_cached_is_given_only_with_the_owners_word(world: FarWorld) -> None:
    _, mine = world.owner.lend(7)
    digest = world.owner.keep(block(1, BIG))
    assert world.get(mine, digest) == block(1, BIG)
    with pytest.raises(Refused, match="never given out"):
        world.get(Lease(mine.job, 2, 1, mine.path), digest)
    with pytest.raises(NotFound):
        world.get(Lease(mine.job + 1000, 1, 1, mine.path), digest)
    world.owner.bench.submit()
    own = world.owner.bench.worker("w-of-c", cores=1)
    lease = world.owner.bench.tasks(own)[0].lease.on("b/c")
    with pytest.raises(Refused, match="not this worker's"):
        world.get(lease, digest)
    data = block(2, BIG)  # in the home's cache, but in no project of the owner
    world.reactor.finish(world.home.cache.fetch("b/c", of_chunk(data), lambda have: _given(data)))
    with pytest.raises(NotFound):
        world.get(mine, of_chunk(data))


def test_a_cache_gives_nothing_on_the_word_of_a_server_that_it_did_not_come_from(
    world: FarWorld, tmp_path: Path
) -> None:
    """Two servers on either side of a relay, one as a home and one as an owner, know the digest of a chunk of a third."""
    _, lease = world.owner.lend(7)
    digest = world.owner.keep(block(1, BIG))
    assert world.get(lease, digest) == block(1, BIG)  # now the relay has it
    asked: list[bool] = []

    async def grant(_: Caller, question: FarChunkGet) -> ChunkData:
        asked.append(question.have)
        return ChunkData(data=memoryview(b""))

    async def grant_for_others(passing: Passing) -> bytes:
        return msgspec.msgpack.encode(await grant(passing.caller, frames.decode(passing.body, FarChunkGet, "get")))

    accomplice = world.net.server("x")
    accomplice.serve("far-chunk-get", FarChunkGet, grant, far=True, bulk=True)
    accomplice.hook("far-chunk-get", grant_for_others)
    spy = world.another_home(tmp_path, "y")
    world.net.trust("b", "x")
    world.net.trust("x", "c")
    for way in ("b/x", "b/x/c"):
        stolen = Lease(lease.job, lease.attempt, lease.incarnation, way)
        with pytest.raises(Damaged):  # it is asked for the chunk itself, and has none
            world.get(stolen, digest, home=spy)
    assert asked == [False, False]


async def _given(data: bytes) -> memoryview:
    return memoryview(data)


def test_a_worker_does_not_get_at_the_files_of_another_ones_job(world: FarWorld) -> None:
    _, lease = world.owner.lend(7)
    digest = world.owner.keep(block(1, BIG))

    async def speaks(worker: int, asked: Lease) -> bool:
        return worker == 7 or asked != lease

    world.home.files.speaks = speaks
    assert world.get(lease, digest) == block(1, BIG)
    for ask in (
        world.home.files.get(8, lease, digest),
        world.home.files.put(8, lease, digest, memoryview(block(1, BIG))),
        world.home.files.missing(8, lease, (digest,)),
    ):
        with pytest.raises(Refused, match="not this worker's"):
            world.reactor.finish(ask)  # type: ignore[arg-type]


@pytest.mark.parametrize("incarnation", [0, 1, 2])
def test_an_attempt_that_was_never_given_out_gets_at_nothing(world: FarWorld, incarnation: int) -> None:
    digest = world.owner.keep(block(1, BIG))
    _, mine = world.owner.lend(7)
    forged = Lease(mine.job, 9, incarnation)
    data = block(2, BIG)
    for method, question in (
        ("far-chunk-get", FarChunkGet(lease=forged, worker=7, digest=digest)),
        ("far-chunk-put", FarChunkPut(lease=forged, worker=7, digest=of_chunk(data), data=memoryview(data))),
        ("far-missing", FarMissing(lease=forged, worker=7, digests=(digest,))),
    ):
        asked = world.home.ways.ask_far(("a", "b", "c"), method, question, Message, 9.0, bulk=True)
        with pytest.raises(Refused, match="was never given out"):
            world.reactor.finish(ensureDeferred(asked))


def test_nothing_is_read_in_the_name_of_a_life_that_is_lost(world: FarWorld, tmp_path: Path) -> None:
    """After a restore nobody here knows who had its attempts: a peer, even one that was never lent anything, can make one up
    for any job, and would get at whatever chunk of its project it knows the digest of."""
    _, mine = world.owner.lend(7)
    digest = world.owner.keep(block(1, BIG))
    stranger = world.another_home(tmp_path, "d")
    world.owner.bench.queue.incarnation = 3
    for lease in (Lease(mine.job, 9, 1, mine.path), Lease(mine.job, 1, 2, mine.path)):
        for home in (world.home, stranger):
            with pytest.raises(Refused, match="nothing is read for it"):
                world.get(lease, digest, home=home)
    assert world.get(mine, digest) == block(1, BIG), "an attempt that is on record is served as ever"
    with pytest.raises(Refused, match="not this worker's"):
        world.get(mine, digest, home=stranger)
    for lease in (Lease(mine.job, 9, 1, mine.path), Lease(mine.job, 1, 2, mine.path)):  # also not from a cache
        with pytest.raises(Refused, match="nothing is read for it"):
            world.get(lease, digest)
    world.send(Lease(mine.job, 9, 1, mine.path), block(2, BIG))  # what it has done is taken


def test_nothing_larger_than_was_asked_for_is_read_at_the_owner_or_in_a_cache(world: FarWorld) -> None:
    """Else whoever asks for small chunks, of which many may be on their way at once, would fill memory with whole ones."""
    _, lease = world.owner.lend(7)
    digest = world.owner.keep(block(1, BIG))
    route = ("a", "b", "c")
    _, handler, _ = world.owner.ways.handlers["far-chunk-get"]
    question = FarChunkGet(lease=lease.of_owner(), worker=7, digest=digest)
    with pytest.raises(Refused, match=r"has 1048576 bytes, and 1000 were asked for"):
        world.reactor.finish(handler(Caller("b", route, answer_of(1000)), question))
    found = world.reactor.finish(handler(Caller("b", route, answer_of(BIG)), question))
    assert isinstance(found, ChunkData)
    assert len(found.data) == BIG
    assert world.get(lease, digest) == block(1, BIG)  # now it is in caches
    with pytest.raises(Refused, match=r"has 1048576 bytes, and 1000 were asked for"):
        world.reactor.finish(world.home.files.get(7, lease, digest, 1000))
    assert bytes(world.reactor.finish(world.home.files.get(7, lease, digest, BIG))) == block(1, BIG)


def test_what_is_put_is_on_the_owners_disk_before_it_is_answered(world: FarWorld) -> None:
    _, lease = world.owner.lend(7)
    data = block(3, BIG)
    world.send(lease, data, block(4, 100))
    assert world.owner.disk.durable[f"chunks/{of_chunk(data).hex()[:2]}/{of_chunk(data).hex()}"].flushed == data
    before = world.net.messages["a", "b", "far-chunk-put"]
    world.send(lease, data)  # known: it does not travel again
    assert world.net.messages["a", "b", "far-chunk-put"] == before
    with pytest.raises(BadInput):
        world.reactor.finish(world.home.files.put(7, lease, of_chunk(data), memoryview(b"else")))


class Watched(Pieces):
    __slots__ = ("__weakref__",)


def test_a_home_holds_nothing_that_has_left_unless_the_way_is_in_doubt(world: FarWorld) -> None:
    _, lease = world.owner.lend(7)
    data = block(3, BIG)
    digest = of_chunk(data)

    def put() -> tuple[Deferred[None], weakref.ref[Watched]]:
        pieces = Watched((data[: 64 << 10], data[64 << 10 :]))
        return ensureDeferred(world.home.files.put(7, lease, digest, pieces)), weakref.ref(pieces)

    first, held = put()
    world.reactor.advance(0.0015)  # it is at the relay
    assert held() is None
    world.net.cut("b", "c")
    with pytest.raises(Unavailable, match="send it again"):
        world.reactor.finish(first)
    assert world.reactor.finish(world.home.files.missing(7, lease, (digest,))) == (digest,)
    second, held = put()
    assert held() is not None
    world.reactor.finish(second)
    assert held() is None
    assert world.reactor.finish(world.home.files.missing(7, lease, (digest,))) == (), "it is in custody"
    world.net.heal("b", "c")
    for kept in (True, False):  # as long as nobody knows that it gets there
        again, held = put()
        assert (held() is not None) == kept
        world.reactor.finish(again)
    assert world.owner.disk.durable[f"chunks/{digest.hex()[:2]}/{digest.hex()}"].flushed == data


def test_files_of_a_deleted_job_are_not_taken(world: FarWorld) -> None:
    _, lease = world.owner.lend(7)
    gone = Lease(lease.job + 1000, 1, 1, lease.path)
    assert world.reactor.finish(world.home.files.missing(7, gone, (of_chunk(b"x"),))) == ()
    with pytest.raises(Gone):
        world.reactor.finish(world.home.files.put(7, gone, of_chunk(b"x"), memoryview(b"x")))


def test_what_no_home_of_ours_would_ask_is_refused(world: FarWorld) -> None:
    _, lease = world.owner.lend(7)
    route = ("a", "b", "c")
    for digests in ((b"",), (b"x" * 1000,), tuple(bytes([n % 256, n // 256]) * 16 for n in range(20_000))):
        asked = FarMissing(lease=lease.of_owner(), worker=7, digests=digests)
        work = world.home.ways.ask_far(route, "far-missing", asked, ChunkList, 60.0, bulk=True)
        if len(digests) > 1:
            with pytest.raises(TooLarge):
                world.reactor.finish(work)
        else:
            assert world.reactor.finish(work).digests == digests  # there is no such chunk
    for digest, data in ((b"", b"x"), (b"x" * 32, b"x"), (of_chunk(b""), b""), (of_chunk(BEYOND), BEYOND)):
        put = FarChunkPut(lease=lease.of_owner(), worker=7, digest=digest, data=memoryview(data))
        with pytest.raises((BadInput, TooLarge)):
            world.reactor.finish(world.home.ways.ask_far(route, "far-chunk-put", put, ChunkList, 60.0, bulk=True))
    world.net.check()


def test_a_cache_may_be_removed_or_damaged_at_any_time(world: FarWorld) -> None:
    _, lease = world.owner.lend(7)
    one, two = world.owner.keep(block(1, BIG)), world.owner.keep(block(2, BIG))
    assert world.get(lease, one) == block(1, BIG)
    assert world.get(lease, two) == block(2, BIG)
    world.home.disk.write(f"/run/relay-cache/{kept_as('b/c', one).hex()}", b"something else")
    assert world.get(lease, one) == block(1, BIG)
    assert crossed(world, "b", "a") > 2.9  # it was fetched again
    assert crossed(world, "c", "b") < 2.1  # but the relay still had it
    world.home.disk.remove_tree("/run/relay-cache")
    world.relay_disk.remove_tree("/run/relay-cache")
    assert world.get(lease, one) == block(1, BIG)
    assert world.get(lease, two) == block(2, BIG)


def test_a_server_that_sends_something_else_is_found_out(world: FarWorld) -> None:
    _, lease = world.owner.lend(7)
    digest = world.owner.keep(block(1, BIG))

    async def lies(_caller: object, question: FarChunkGet) -> ChunkData:
        return ChunkData(data=memoryview(b"" if question.have else block(9, BIG)))

    honest = world.owner.ways.handlers["far-chunk-get"]
    world.owner.ways.serve("far-chunk-get", FarChunkGet, lies, far=True, bulk=True)
    with pytest.raises(Damaged, match="something else"):
        world.get(lease, digest)
    assert world.relay_cache.size == 0
    world.owner.ways.handlers["far-chunk-get"] = honest
    assert world.get(lease, digest) == block(1, BIG)


def test_the_refusal_of_one_does_not_spoil_it_for_the_others(world: FarWorld) -> None:
    _, lease = world.owner.lend(7)
    digest = world.owner.keep(block(1, BIG))
    bad = ensureDeferred(world.home.files.get(7, Lease(lease.job, 2, 1, lease.path), digest))
    good = ensureDeferred(world.home.files.get(7, lease, digest))
    with pytest.raises(Refused):
        world.reactor.finish(bad)
    assert bytes(world.reactor.finish(good)) == block(1, BIG)


def test_a_cut_way_is_said_and_leaves_nothing_behind(world: FarWorld) -> None:
    _, lease = world.owner.lend(7)
    digest = world.owner.keep(block(1, BIG))
    pending = ensureDeferred(world.home.files.get(7, lease, digest))
    world.reactor.advance(0.0015)  # the question is at the relay
    world.net.cut("b", "c")
    with pytest.raises(Unavailable):
        world.reactor.finish(pending)
    world.net.heal("b", "c")
    assert world.get(lease, digest) == block(1, BIG)


def test_the_cache_stays_within_its_bound_and_can_be_switched_off(tmp_path: Path) -> None:
    world = FarWorld(tmp_path, relay_cache=3 * BIG, home_cache=0)
    _, lease = world.owner.lend(7)
    for number in range(6):
        digest = world.owner.keep(block(number, BIG))
        assert world.get(lease, digest) == block(number, BIG)
        assert world.relay_cache.size <= 3 * BIG
    assert world.home.cache.size == 0
    assert world.relay_cache.in_hand == 0
    before = crossed(world, "b", "a")
    again = [ensureDeferred(world.home.files.get(7, lease, digest)) for _ in range(4)]
    assert [bytes(world.reactor.finish(each)) for each in again] == [block(5, BIG)] * 4
    assert crossed(world, "b", "a") - before < 1.01  # who asks at the same time shares it even so


def test_what_was_cached_is_there_after_a_restart(world: FarWorld) -> None:
    _, lease = world.owner.lend(7)
    digest = world.owner.keep(block(1, BIG))
    world.get(lease, digest)
    world.net.leave("a")
    world.begin()
    world.net.arrive("a")
    assert world.get(lease, digest) == block(1, BIG)
    assert crossed(world, "b", "a") < 1.01


def test_a_cache_that_cannot_be_read_is_emptied(world: FarWorld) -> None:
    disk = MemoryDisk(world.platter)
    disk.remove_tree("/run/relay-cache")
    disk.write("/run/relay-cache", b"a file where the directory should be")
    cache = RelayCache(disk, "/run/relay-cache", lambda: BIG, inline)
    world.reactor.finish(cache.open())
    data = block(1, 100)
    assert bytes(world.reactor.finish(cache.fetch("b/c", of_chunk(data), lambda have: _given(data)))) == data
    assert cache.size == 100


def test_a_disk_that_takes_nothing_stops_no_transfer(world: FarWorld) -> None:
    world.platter.broken = lambda operation, path: OSError(28, "full") if operation == "write" else None
    _, lease = world.owner.lend(7)
    digest = world.owner.keep(block(1, BIG))
    assert world.get(lease, digest) == block(1, BIG)
    assert world.home.cache.size == world.home.cache.in_hand == 0


def test_the_names_of_chunks_are_checked(world: FarWorld) -> None:
    _, lease = world.owner.lend(7)
    with pytest.raises(BadInput):
        world.get(lease, b"short")


def test_chunks_of_a_life_that_is_lost_are_taken_up_to_the_limit_of_the_peer(world: FarWorld) -> None:
    """Whoever brings them can name any job, and would fill the disk in the name of its project."""
    _, mine = world.owner.lend(7)
    world.owner.bench.queue.incarnation = 2  # as after a restore
    world.owner.quarantine_limit = 3 * BIG
    lost = Lease(mine.job, 9, 1, mine.path)

    def put(lease: Lease, number: int) -> None:
        data = block(number, BIG)
        question = FarChunkPut(lease=lease.of_owner(), worker=7, digest=of_chunk(data), data=memoryview(data))
        route = ("a", "b", "c")
        world.reactor.finish(
            ensureDeferred(world.home.ways.ask_far(route, "far-chunk-put", question, Message, 9.0, bulk=True))
        )

    for number in range(3):
        put(lost, number)
    with pytest.raises(Refused, match=r"B may have .* in quarantine"):
        put(lost, 4)
    put(mine, 5)  # of an attempt that is known
    world.owner.quarantine_limit = 4 * BIG
    world.owner.disk.full = True
    for _ in range(9):
        with pytest.raises(Unavailable):
            put(lost, 4)
    world.owner.disk.full = False
    put(lost, 4)
    with pytest.raises(Refused, match=r"B may have .* in quarantine"):
        put(lost, 6)
    world.owner.bench.clock.seconds += 86_400
    put(lost, 6)
