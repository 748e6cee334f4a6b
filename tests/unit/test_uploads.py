"""Uploads resume, take nothing that is not what was announced, and tell nobody what other projects have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core import ids
from cpc.core.clock import SECOND
from cpc.core.digest import CHUNK, EMPTY, Content
from cpc.core.errors import BadInput, Conflict, Damaged, Denied, NotFound, OverQuota, TooLarge, Unavailable
from cpc.store import references, schema, statement, uploads
from cpc.store.chunks import SMALL, path
from cpc.store.events import of_kind
from cpc.store.references import Kind
from tests.helpers.files import Shop, block, content_of, on_record, small_of, storage, wait

_SPOIL = statement.update(schema.chunks, "data", key=["digest"])


@pytest.fixture
def shop(tmp_path: Path, database_url: str) -> Iterator[Shop]:
    shop = Shop(tmp_path, url=database_url)
    yield shop
    shop.end()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Shop]:
    """Where the database makes no difference."""
    shop = Shop(tmp_path)
    yield shop
    shop.end()


BIG = block(1) + block(2) + block(3, 1000)


def test_a_file_goes_up_and_comes_down_again(shop):
    view = shop.upload(BIG)
    assert view.done
    assert (view.size, view.received, view.digest) == (len(BIG), len(BIG), hashlib.sha256(BIG).hexdigest())
    size, read = wait(shop.files.open(shop.eve, "alpha", bytes.fromhex(view.digest)))
    assert size == len(BIG)
    assert wait(read(CHUNK - 2, 100)) == BIG[CHUNK - 2 : CHUNK]  # never beyond a chunk
    assert wait(read(2 * CHUNK + 900, 500)) == BIG[2 * CHUNK + 900 :]
    assert wait(read(len(BIG), 1)) == wait(read(1 << 60, 1)) == wait(read(0, 0)) == b""
    assert shop.fetch(content_of(BIG)) == BIG
    assert wait(shop.files.upload(shop.ann, view.id)).done
    shop.check()


@pytest.mark.parametrize("data", [b"", b"x", block(1, 65536), block(1, 65537), block(1), block(1) + b"y"])
def test_every_size_is_taken(plain, data):
    assert plain.upload(data, size=2 * CHUNK).done
    assert plain.fetch(content_of(data)) == data


def test_only_new_chunks_travel(shop):
    shop.upload(block(1) + block(2))
    view = shop.announce(content_of(block(1) + block(2) + block(3)))
    assert (view.received, view.done) == (2 * CHUNK, False)
    assert wait(shop.files.part(shop.ann, view.id, view.received, block(3))).done
    assert shop.read(storage, 1) == 3 * CHUNK
    # A hole in the middle is jumped over.
    view = shop.announce(content_of(block(4) + block(2) + block(5)))
    assert view.received == 0
    assert wait(shop.files.part(shop.ann, view.id, 0, block(4))).received == 2 * CHUNK


def test_what_is_here_already_is_done_at_once(shop):
    first = shop.upload(BIG)
    assert shop.announce(content_of(BIG)) == first
    # Its chunks are here, but the whole was never checked: that happens now.
    other = shop.announce(content_of(block(2) + block(1)))
    assert other.done
    assert shop.fetch(content_of(block(2) + block(1))) == block(2) + block(1)


def test_a_repeated_announcement_goes_on_with_the_same_upload(shop):
    content = content_of(BIG)
    view = shop.announce(content)
    wait(shop.files.part(shop.ann, view.id, 0, block(1)))
    again = shop.announce(content)
    assert (again.id, again.received) == (view.id, CHUNK)
    shop.end()
    shop.disk.power_loss()
    shop.life()
    assert shop.announce(content).received == CHUNK
    assert wait(shop.files.part(shop.ann, view.id, CHUNK, BIG[CHUNK:])).done
    assert shop.fetch(content) == BIG


def test_parts_may_come_in_any_order_and_twice(shop):
    view = shop.announce(content_of(BIG))
    assert wait(shop.files.part(shop.ann, view.id, 2 * CHUNK, BIG[2 * CHUNK :])).received == 0
    assert wait(shop.files.part(shop.ann, view.id, CHUNK, block(2))).received == 0
    assert wait(shop.files.part(shop.ann, view.id, CHUNK, block(2))).received == 0
    done = wait(shop.files.part(shop.ann, view.id, 0, block(1)))
    assert done.done
    assert wait(shop.files.part(shop.ann, view.id, 0, block(1))) == done
    assert shop.fetch(content_of(BIG)) == BIG


def test_the_same_chunk_many_times_over_is_sent_once(shop):
    zeros = bytes(5 * CHUNK)
    view = shop.announce(content_of(zeros))
    assert wait(shop.files.part(shop.ann, view.id, 0, bytes(2 * CHUNK))).done
    assert shop.read(storage, 1) == CHUNK
    assert shop.fetch(content_of(zeros)) == zeros


def test_wrong_bytes_are_refused_by_the_name_of_the_chunk(plain):
    view = plain.announce(content_of(BIG))
    with pytest.raises(BadInput, match=content_of(block(2)).digest.hex()):
        wait(plain.files.part(plain.ann, view.id, 0, block(1) + block(7)))
    assert wait(plain.files.upload(plain.ann, view.id)).received == 0
    assert plain.read(on_record) == {}
    assert plain.read(storage, 1) == 0


def test_a_wrong_digest_of_the_whole_is_refused_and_leaves_nothing(shop):
    good = content_of(BIG)
    lie = Content(b"\1" * 32, good.size, good.chunks)
    view = shop.announce(lie)
    wait(shop.files.part(shop.ann, view.id, 0, BIG[: 2 * CHUNK]))
    with pytest.raises(BadInput, match="the whole file is not"):
        wait(shop.files.part(shop.ann, view.id, 2 * CHUNK, BIG[2 * CHUNK :]))
    with pytest.raises(NotFound):
        wait(shop.files.upload(shop.ann, view.id))
    with pytest.raises(NotFound):
        wait(shop.files.open(shop.ann, "alpha", b"\1" * 32))
    while shop.write(uploads.expire, 100):
        pass
    assert shop.read(storage, 1) == 0


@pytest.mark.parametrize(
    ("offset", "data"),
    [
        (1, b"x"),
        (-CHUNK, block(1)),
        (CHUNK - 1, block(1)),
        (0, b""),
        (0, block(1)[:-1]),
        (0, block(1) + b"z"),
        (2 * CHUNK, b"z" * 1001),
        (2 * CHUNK, b"z" * 999),
        (3 * CHUNK, b"z"),
        (1 << 62, b"z"),
        (4 * CHUNK * (1 << 40), block(1)),
    ],
)
def test_a_part_that_cannot_be_one_is_refused(plain, offset, data):
    view = plain.announce(content_of(BIG))
    with pytest.raises(BadInput):
        wait(plain.files.part(plain.ann, view.id, offset, data))
    assert plain.read(on_record) == {}


def test_a_part_has_at_most_8_mib(plain):
    content = content_of(block(1) * 3)
    view = plain.announce(content)
    with pytest.raises(TooLarge, match="at most 8388608"):
        wait(plain.files.part(plain.ann, view.id, 0, block(1) * 3))


@pytest.mark.parametrize(
    "content",
    [
        Content(EMPTY, -1, ()),
        Content(EMPTY, 0, (EMPTY,)),
        Content(b"x" * 32, 0, ()),
        Content(b"x" * 31, 5, (b"x" * 31,)),
        Content(b"x" * 32, 5, (b"y" * 32,)),
        Content(b"x" * 32, CHUNK + 1, (b"y" * 32,)),
        Content(b"x" * 32, CHUNK, (b"y" * 32, b"z" * 32)),
    ],
)
def test_an_announcement_that_contradicts_itself_is_refused(plain, content):
    with pytest.raises(BadInput):
        plain.announce(content)


def test_a_file_beyond_all_bounds_is_refused(plain):
    count = uploads.MAX_SIZE // CHUNK + 1
    with pytest.raises(TooLarge, match="at most"):
        plain.announce(Content(b"x" * 32, count * CHUNK, (b"y" * 32,) * count))


def test_a_chunk_announced_with_another_size_is_refused(plain):
    plain.upload(b"hello")
    five = content_of(b"hello").digest
    with pytest.raises(BadInput, match="5 bytes"):
        plain.announce(Content(five, 4, (five,)))


def test_what_another_project_has_changes_no_answer(shop):
    secret = content_of(BIG)
    shop.upload(BIG, "beta", shop.bob)
    seen = shop.announce(secret)
    never = shop.announce(content_of(block(8) + block(9) + block(3, 1000)[::-1]))
    assert (seen.received, seen.done) == (never.received, never.done) == (0, False)
    changes = shop.disk.changes
    one = wait(shop.files.part(shop.ann, seen.id, 0, block(1)))
    written = shop.disk.changes - changes
    two = wait(shop.files.part(shop.ann, never.id, 0, block(8)))
    assert shop.disk.changes - changes - written in (written, written + 1)  # one more: the directory is new
    assert (one.received, one.done) == (two.received, two.done)
    for digest in (secret.digest, secret.chunks[1]):
        with pytest.raises(NotFound):
            wait(shop.files.open(shop.ann, "alpha", digest))
        with pytest.raises(NotFound):
            wait(shop.files.chunk(1, digest))
    assert wait(shop.files.missing(1, secret.chunks)) == secret.chunks[1:]


def test_roles_are_checked(shop):
    content = content_of(BIG)
    with pytest.raises(Denied):
        shop.announce(content, who=shop.eve)
    with pytest.raises(NotFound):
        shop.announce(content, who=shop.bob)
    view = shop.announce(content)
    for who, error in ((shop.eve, Denied), (shop.bob, NotFound)):
        with pytest.raises(error):
            wait(shop.files.part(who, view.id, 0, block(1)))
        with pytest.raises(error):
            wait(shop.files.upload(who, view.id))
    assert shop.read(on_record) == {}
    with pytest.raises(BadInput):
        wait(shop.files.upload(shop.ann, "nonsense"))
    with pytest.raises(BadInput):
        wait(shop.files.upload(shop.ann, f"{view.id}[2]"))
    with pytest.raises(NotFound):
        wait(shop.files.upload(shop.ann, "999"))
    for digest in (b"", b"x" * 31, b"x" * 33):
        with pytest.raises(BadInput):
            wait(shop.files.open(shop.ann, "alpha", digest))
    for offset, length in ((-1, 5), (0, -5)):
        with pytest.raises(BadInput):
            wait(shop.files.reader(content).read(offset, length))


def test_the_quota_stops_uploads(tmp_path):
    shop = Shop(tmp_path, quota=2 * CHUNK)
    shop.upload(block(1) + block(2))
    with pytest.raises(OverQuota, match="alpha uses 8388608 of 8388608"):
        shop.announce(content_of(block(3)))
    assert shop.upload(block(2) + block(1)).done  # nothing new
    # Two that each fit alone: the second one's part is refused.
    other = tmp_path / "other"
    other.mkdir()
    shop = Shop(other, quota=2 * CHUNK)
    one, two = shop.announce(content_of(block(1) + block(2))), shop.announce(content_of(block(3)))
    wait(shop.files.part(shop.ann, one.id, 0, block(1) + block(2)))
    with pytest.raises(OverQuota):
        wait(shop.files.part(shop.ann, two.id, 0, block(3)))
    assert shop.read(storage, 1) == 2 * CHUNK


def test_too_many_open_uploads_are_refused(shop, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_OPEN", 2)
    shop.announce(content_of(b"1"))
    shop.announce(content_of(b"2"))
    with pytest.raises(Conflict, match="2 uploads are open"):
        shop.announce(content_of(b"3"))
    shop.announce(content_of(b"1"))


def test_a_full_disk_refuses_and_nothing_is_half_done(plain):
    view = plain.announce(content_of(BIG))
    for after in range(4):
        plain.disk.fail(after)
        with pytest.raises(Unavailable, match="cannot store"):
            wait(plain.files.part(plain.ann, view.id, 0, block(1)))
        plain.disk.heal()
        plain.check()
    assert wait(plain.files.upload(plain.ann, view.id)).received == 0
    assert wait(plain.files.part(plain.ann, view.id, 0, block(1))).received == CHUNK


def test_an_upload_nobody_goes_on_with_goes_away(shop):
    view = shop.announce(content_of(BIG))
    wait(shop.files.part(shop.ann, view.id, 0, block(1)))
    shop.clock.seconds += uploads.LIFE / SECOND + 1
    with pytest.raises(NotFound, match="expired"):
        wait(shop.files.part(shop.ann, view.id, CHUNK, block(2)))
    while shop.write(uploads.expire, 1):
        shop.check()
    assert shop.read(storage, 1) == 0
    assert wait(shop.chunks.collect(0)).chunks == 1
    assert not [name for name in shop.disk.names if "tmp" not in name]


def test_a_file_that_is_going_away_is_not_offered_any_more(shop):
    view = shop.upload(BIG)
    shop.clock.seconds += uploads.UNUSED / SECOND + 1
    shop.write(uploads.expire, 1)  # one of its three chunks is gone
    again = shop.announce(content_of(BIG))
    assert (again.done, again.id == view.id) == (False, False)
    assert shop.upload(BIG).done
    while shop.write(uploads.expire, 1):
        shop.check()
    assert shop.fetch(content_of(BIG)) == BIG


def test_an_upload_used_by_a_job_stays_after_its_own_time(shop):
    shop.upload(BIG)
    shop.write(references.add, Kind.ARRAY_INPUT, 77, 0, 1, [content_of(BIG)])
    shop.clock.seconds += uploads.UNUSED / SECOND + 1
    while shop.write(uploads.expire, 100):
        pass
    wait(shop.chunks.collect(0))
    assert shop.fetch(content_of(BIG)) == BIG
    shop.check()


def test_chunks_of_a_worker_are_pinned_for_a_day(shop):
    chunk = content_of(block(1))
    wait(shop.files.put_chunk(1, chunk.digest, block(1)))
    assert wait(shop.files.missing(1, chunk.chunks)) == ()
    assert wait(shop.files.chunk(1, chunk.digest)) == block(1)
    shop.clock.seconds += uploads.PIN / SECOND
    shop.write(uploads.expire, 100)
    assert wait(shop.files.missing(1, chunk.chunks)) == ()  # and pinned again
    shop.clock.seconds += uploads.PIN / SECOND
    while shop.write(uploads.expire, 100):
        pass
    assert wait(shop.files.missing(1, chunk.chunks)) == ()
    shop.clock.seconds += 2 * uploads.PIN / SECOND + 1
    while shop.write(uploads.expire, 100):
        pass
    assert wait(shop.files.missing(1, chunk.chunks)) == chunk.chunks
    assert wait(shop.chunks.collect(0)).size == CHUNK


def test_one_pin_takes_the_chunks_of_a_day(shop):
    for number in range(5):
        wait(shop.files.put_chunk(1, content_of(block(number)).digest, block(number)))
    assert len({shop.write(uploads.pin_owner, 1)[0] for _ in range(3)}) == 1
    assert shop.write(uploads.pin_owner, 2)[0] != shop.write(uploads.pin_owner, 1)[0]


def test_what_is_sent_for_a_job_is_pinned_for_it_alone(shop):
    one, two, chunk = ids.make(1, 1), ids.make(1, 2), content_of(block(1))
    wait(shop.files.put_chunk(1, chunk.digest, block(1), of=one))
    assert wait(shop.files.missing(1, chunk.chunks, one)) == ()
    assert wait(shop.files.missing(1, chunk.chunks, two)) == chunk.chunks
    assert wait(shop.files.missing(1, chunk.chunks)) == ()  # for whoever may use all that the project has
    assert wait(shop.files.chunk(1, chunk.digest, of=one)) == block(1)
    with pytest.raises(NotFound, match="is not in this job"):
        wait(shop.files.chunk(1, chunk.digest, of=two))
    pins = {job: shop.write(uploads.pin_owner, 1, job)[0] for job in (0, one, two, references.LOST)}
    assert len(set(pins.values())) == 4
    for number in pins.values():
        with pytest.raises(NotFound, match="there is no upload"):
            shop.read(uploads.get, number)
    shop.clock.seconds += 2 * uploads.PIN / SECOND + 1
    while shop.write(uploads.expire, 100):
        shop.check()
    assert wait(shop.files.missing(1, chunk.chunks, one)) == chunk.chunks
    assert shop.read(storage, 1) == 0


def test_a_deleted_project_frees_everything(shop):
    shop.upload(BIG)
    shop.announce(content_of(b"open"))
    wait(shop.files.put_chunk(1, content_of(block(9)).digest, block(9)))
    shop.write(shop.files.release, 1)
    while shop.write(uploads.expire, 2):
        shop.check()
    assert shop.read(storage, 1) == 0
    wait(shop.chunks.collect(0))
    assert shop.read(on_record) == {}


def test_a_call_repeated_with_its_key_gets_the_same_answer(shop):
    first = shop.announce(content_of(BIG), key="k")
    wait(shop.files.part(shop.ann, first.id, 0, BIG[: 2 * CHUNK]))
    assert shop.announce(content_of(BIG), key="k") == first


def spoil(shop: Shop, data: bytes) -> None:
    """A bit of this chunk flips where it is kept; whoever reads it next finds out."""
    digest = content_of(data).digest
    bad = bytes([data[0] ^ 1]) + data[1:]
    if len(data) > SMALL:
        shop.disk.names[path(digest)].data = bad
    else:
        shop.write(lambda tx: tx.run(_SPOIL, {"key_digest": digest, "data": bad}))
    with pytest.raises(Damaged):
        shop.fetch(content_of(data))


@pytest.mark.parametrize("data", [b"small", block(1)])
def test_a_file_that_was_found_damaged_is_asked_for_again_and_whole_afterwards(shop, data):
    """‘It is here’ would be no answer: the job that needs it could be retried for ever."""
    shop.upload(data)
    assert shop.announce(content_of(data)).done
    spoil(shop, data)
    before = shop.read(storage, 1)
    view = shop.announce(content_of(data))
    assert (view.done, view.received) == (False, 0)
    assert shop.upload(data).done
    assert shop.fetch(content_of(data)) == data
    assert shop.announce(content_of(data)).done
    assert shop.read(storage, 1) == before
    assert len(events(shop)) == 1
    shop.check()


def events(shop):
    return shop.read(lambda tx: of_kind(tx, "file.damaged", 0, 100))


def test_of_a_damaged_file_only_the_damaged_pieces_are_sent_again(shop):
    shop.upload(BIG)
    spoil(shop, block(2))
    view = shop.announce(content_of(BIG))
    assert (view.done, view.received) == (False, CHUNK)
    assert wait(shop.files.part(shop.ann, view.id, CHUNK, block(2))).done
    assert shop.fetch(content_of(BIG)) == BIG


@pytest.mark.parametrize("data", [b"small", block(1)])
def test_a_worker_that_brings_what_is_damaged_is_asked_for_it(shop, data):
    shop.upload(data)
    spoil(shop, data)
    digest = content_of(data).digest
    assert wait(shop.files.missing(1, [digest])) == (digest,)
    wait(shop.files.put_chunk(1, digest, data))
    assert wait(shop.files.missing(1, [digest])) == ()
    assert shop.fetch(content_of(data)) == data


def test_a_small_result_replaces_what_is_damaged(shop):
    shop.upload(b"same")
    spoil(shop, b"same")
    shop.write(lambda tx: references.add(tx, Kind.RESULT, 5, 1, 1, [content_of(b"same")], small_of(b"same")))
    assert shop.fetch(content_of(b"same")) == b"same"
