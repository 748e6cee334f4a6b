"""Nothing that is referred to is ever missing: not after a power cut, not while the collector races new references."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred

from cpc.core.errors import CopernicusError, Damaged, Unavailable
from cpc.store import chunks, references, uploads
from cpc.store.chunkstore import GRACE, STRAY_GRACE, Removed
from cpc.store.references import Kind
from tests.helpers.disks import PowerCut
from tests.helpers.files import LateThreads, Shop, block, content_of, on_record, storage, wait

SIZE = 70_000  # just large enough to be a file
_runs = itertools.count()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def put(shop: Shop, number: int, project: int = 1) -> None:
    wait(shop.files.put_chunk(project, content_of(block(number, SIZE)).digest, block(number, SIZE)))


def drop_pins(shop: Shop) -> None:
    shop.clock.seconds += 3 * 86400
    while shop.write(uploads.expire, 100):
        pass


def files_on_disk(shop: Shop) -> set[str]:
    return {name.rpartition("/")[2] for name in shop.disk.names if "/tmp/" not in name}


def test_what_nobody_refers_to_goes_after_the_grace(shop):
    put(shop, 1)
    put(shop, 2)
    shop.write(references.add, Kind.RESULT, 5, 1, 1, [content_of(block(2, SIZE))])
    drop_pins(shop)
    assert wait(shop.chunks.collect(GRACE)).chunks == 0
    shop.clock.seconds += GRACE + 1
    assert wait(shop.chunks.collect(GRACE)) == Removed(1, SIZE)
    assert files_on_disk(shop) == {content_of(block(2, SIZE)).digest.hex()}
    shop.check()


def test_what_another_project_still_uses_stays(shop):
    for project in (1, 2):
        put(shop, 1, project)
    shop.write(references.add, Kind.RESULT, 5, 1, 2, [content_of(block(1, SIZE))])
    drop_pins(shop)
    shop.clock.seconds += GRACE + 1
    assert wait(shop.chunks.collect(GRACE)).chunks == 0
    shop.check()
    shop.write(references.drop, Kind.RESULT, 5, 1)
    shop.clock.seconds += GRACE + 1
    assert wait(shop.chunks.collect(GRACE)) == Removed(1, SIZE)


def test_a_chunk_put_while_it_is_being_removed_is_there_afterwards(tmp_path):
    shop = Shop(tmp_path, threads=LateThreads())
    digest = content_of(block(1, SIZE)).digest
    first = ensureDeferred(shop.files.put_chunk(1, digest, block(1, SIZE)))
    shop.threads.run_all()
    drop_pins(shop)
    collecting = ensureDeferred(shop.chunks.collect(0))
    assert shop.read(on_record) == {}  # off the record, its unlink still waits
    again = ensureDeferred(shop.files.put_chunk(1, digest, block(1, SIZE)))
    assert len(shop.threads.waiting) == 1  # the new one waits for the old one to be gone
    shop.threads.run_all()
    assert first.called
    assert collecting.called
    assert again.called
    assert files_on_disk(shop) == {digest.hex()}
    shop.threads.run = lambda call: _now(call)
    shop.check()


def _now(call):
    answer: Deferred = Deferred()
    answer.callback(call())
    return answer


@pytest.mark.parametrize("first", ["collector", "writer"])
def test_a_chunk_that_is_landing_is_not_removed(tmp_path, first):
    shop = Shop(tmp_path, threads=LateThreads())
    digest = content_of(block(1, SIZE)).digest
    ensureDeferred(shop.files.put_chunk(1, digest, block(1, SIZE)))
    shop.threads.run_all()
    drop_pins(shop)
    landing = ensureDeferred(shop.files.put_chunk(1, digest, block(1, SIZE)))
    collecting = ensureDeferred(shop.chunks.collect(0))
    if first == "collector":
        assert collecting.called
    shop.threads.run_all()
    assert landing.called
    assert files_on_disk(shop) == {digest.hex()}
    shop.threads.run = lambda call: _now(call)
    assert wait(shop.chunks.collect(0)).chunks == 0
    shop.check()


def test_the_sweeper_leaves_what_is_landing(tmp_path):
    shop = Shop(tmp_path, threads=LateThreads())
    digest = content_of(block(1, SIZE)).digest
    landing = ensureDeferred(shop.files.put_chunk(1, digest, block(1, SIZE)))
    # The file is there, the row is not yet.
    call, answer = shop.threads.waiting.pop()
    outcomes = call()
    shop.threads.run = lambda call: _now(call)
    assert wait(shop.chunks.sweep(-1)) == 0
    answer.callback(outcomes)
    assert landing.called
    shop.check()


def test_files_without_a_row_are_swept_up_after_the_grace(shop):
    put(shop, 1)
    stray = block(9, SIZE)
    chunks.ChunkFiles(shop.disk).write([(content_of(stray).digest, stray)])
    assert wait(shop.chunks.sweep()) == 0
    shop.clock.seconds += STRAY_GRACE + 1
    assert wait(shop.chunks.sweep()) == 1
    assert files_on_disk(shop) == {content_of(block(1, SIZE)).digest.hex()}


def test_half_written_files_are_swept_up_but_not_those_being_written(shop):
    shop.disk.create("chunks/tmp/old", b"half")
    shop.clock.seconds += STRAY_GRACE
    shop.disk.create("chunks/tmp/new", b"half")
    assert wait(shop.chunks.sweep()) == 1
    assert list(shop.disk.names) == ["chunks/tmp/new"]


def test_a_failed_unlink_loses_nothing_and_is_made_good_by_the_sweeper(shop):
    put(shop, 1)
    drop_pins(shop)
    shop.disk.fail(0)
    assert wait(shop.chunks.collect(0)).chunks == 1
    assert len(files_on_disk(shop)) == 1
    shop.check()
    shop.clock.seconds += STRAY_GRACE + 1
    assert wait(shop.chunks.sweep()) == 1


def test_damage_is_reported_with_who_needs_the_chunk(shop):
    put(shop, 1)
    put(shop, 2)
    shop.write(references.add, Kind.RESULT, (1 << 52) | (57 << 20) | 3, 2, 1, [content_of(block(1, SIZE))])
    shop.disk.names[chunks.path(content_of(block(1, SIZE)).digest)].data = b"rot"
    said: list[str] = []
    assert wait(shop.files.damaged(said.append)) == 1
    assert content_of(block(1, SIZE)).digest.hex() in said[0]
    assert "3 bytes instead of 70000" in said[0]
    assert "the result of job 57[3] (attempt 2)" in said[0]
    with pytest.raises(Damaged):
        shop.fetch(content_of(block(1, SIZE)))
    put(shop, 1)
    assert wait(shop.files.damaged(said.append)) == 0


def test_one_refused_chunk_of_several_refuses_them_all_by_name(shop):
    good, bad = block(1, SIZE), block(2, SIZE)
    digests = [content_of(good).digest, content_of(bad).digest]
    record = []
    with pytest.raises(CopernicusError, match=digests[1].hex()):
        wait(shop.chunks.put({digests[0]: good, digests[1]: b"x" * SIZE}, lambda tx, arrived: record.append(1)))
    assert record == []
    assert shop.read(on_record) == {}


def test_a_full_database_or_disk_at_any_write_leaves_the_books_right(shop):
    shop.announce(content_of(block(1, SIZE)))
    for after in range(6):
        shop.disk.fail(after)
        try:
            put(shop, after)
        except Unavailable:
            assert shop.read(references.missing, 1, [content_of(block(after, SIZE)).digest])
        shop.disk.heal()
        shop.check()
        put(shop, after)
    assert shop.read(storage, 1) == 6 * SIZE


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 3), st.sampled_from([1, 2])),
        st.tuples(st.just("keep"), st.integers(0, 3), st.sampled_from([1, 2])),
        st.tuples(st.just("forget"), st.integers(0, 3), st.sampled_from([1, 2])),
        st.tuples(st.just("upload"), st.lists(st.integers(0, 3), max_size=2)),
        st.tuples(st.just("pins"), st.booleans()),
        st.tuples(st.just("collect")),
        st.tuples(st.just("sweep")),
    ),
    min_size=1,
    max_size=14,
)


def _do(shop: Shop, step: tuple) -> None:
    match step:
        case ("put", number, project):
            put(shop, number, project)
        case ("keep", number, project):
            content = content_of(block(number, SIZE))
            if not shop.read(references.missing, project, content.chunks):
                shop.write(references.add, Kind.RESULT, 100 + number, project, project, [content])
                kept.add((number, project))
        case ("forget", number, project):
            shop.write(references.drop, Kind.RESULT, 100 + number, project)
            kept.discard((number, project))
        case ("upload", numbers):
            shop.upload(b"".join(block(number, SIZE) for number in numbers))
        case ("pins", _):
            drop_pins(shop)
        case ("collect",):
            wait(shop.chunks.collect(0))
        case ("sweep",):
            wait(shop.chunks.sweep(-1))


kept: set[tuple[int, int]] = set()


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=STEPS, cut=st.integers(0, 40), eager=st.booleans())
def test_a_power_cut_at_any_point_leaves_no_reference_without_its_bytes(tmp_path, steps, cut, eager):
    directory = tmp_path / str(next(_runs))
    directory.mkdir()
    shop = Shop(directory)
    kept.clear()
    shop.disk.cut(cut)
    try:
        for step in steps:
            _do(shop, step)
    except PowerCut:
        pass
    shop.disk.power_loss(eager)
    shop.life()
    shop.check()
    for number, project in kept:
        if shop.read(references.missing, project, [content_of(block(number, SIZE)).digest]) == ():
            assert shop.fetch(content_of(block(number, SIZE))) == block(number, SIZE)
    # The next life goes on as if nothing had been.
    for step in steps:
        _do(shop, step)
    shop.check()
    wait(shop.chunks.sweep(-1))
    assert files_on_disk(shop) <= {digest.hex() for digest in shop.read(on_record)}
    shop.end()


INTERLEAVED = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 2)),
        st.tuples(st.just("collect")),
        st.tuples(st.just("sweep")),
        st.tuples(st.just("pins")),
        st.tuples(st.just("step"), st.integers(0, 5)),
    ),
    max_size=40,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=INTERLEAVED)
def test_collector_sweeper_and_arrivals_in_any_interleaving(tmp_path, steps):
    directory = tmp_path / str(next(_runs))
    directory.mkdir()
    shop = Shop(directory, threads=LateThreads())
    running = []
    for step in steps:
        match step:
            case ("put", number):
                data = block(number, SIZE)
                running.append(ensureDeferred(shop.files.put_chunk(1, content_of(data).digest, data)))
            case ("collect",):
                running.append(ensureDeferred(shop.chunks.collect(0)))
            case ("sweep",):
                running.append(ensureDeferred(shop.chunks.sweep(-1)))
            case ("pins",):
                drop_pins(shop)
            case ("step", index):
                if shop.threads.waiting:
                    shop.threads.step(index % len(shop.threads.waiting))
        on_disk = files_on_disk(shop)
        assert {digest.hex() for digest in shop.read(on_record)} <= on_disk
    shop.threads.run_all()
    assert all(one.called for one in running)
    for one in running:
        one.addErrback(lambda failure: pytest.fail(str(failure)))
    assert {digest.hex() for digest in shop.read(on_record)} <= files_on_disk(shop)
    shop.end()
