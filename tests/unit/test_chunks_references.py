"""References keep chunks, open them to their project only, and are counted exactly."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import ensureDeferred

from cpc.core import ids
from cpc.core.digest import CHUNK, Content
from cpc.core.errors import BadInput, OverQuota
from cpc.core.manifest import Manifest
from cpc.store import attempts, chunks, history, references, schema, statement, uploads
from cpc.store.attempts import Left
from cpc.store.chunks import SMALL, Arrived
from cpc.store.references import Kind, Missing, Owned
from cpc.store.store import Store
from tests.helpers.files import add_project, arrived_of, content_of, counted, dangling, on_record, small_of, storage
from tests.helpers.stores import open_store, result, sqlite_url

A, B = 1, 2
_SET_QUOTA = statement.update(schema.projects, "quota")


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = open_store(database_url)

    def projects(tx):
        add_project(tx, A)
        add_project(tx, B)

    result(store.write(projects))
    yield store
    result(ensureDeferred(store.close()))


def write(store, call, *arguments, **named):
    return result(store.write(lambda tx: call(tx, *arguments, **named)))


def read(store, call, *arguments):
    return result(store.read(lambda tx: call(tx, *arguments)))


def test_no_files_cost_no_sql(store):
    def unit(tx):
        before = tx.writes
        references.add(tx, Kind.RESULT, 7, 1, A, [])
        references.add(tx, Kind.RESULT, 7, 1, A, [content_of(b"")])
        references.drop(tx, Kind.RESULT, 7, 1, [])
        return tx.writes - before, tx.open

    assert write(store, unit) == (0, False)


def test_small_chunks_that_come_along_are_stored_and_counted(store):
    write(store, references.add, Kind.RESULT, 7, 1, A, [content_of(b"hello")], small_of(b"hello"))
    assert read(store, storage, A) == 5
    assert read(store, chunks.data, content_of(b"hello").digest) == (5, b"hello")


def test_a_chunk_that_is_not_there_is_named_and_nothing_is_written(store):
    with pytest.raises(Missing) as refusal:
        write(store, references.add, Kind.RESULT, 7, 1, A, [content_of(b"one"), content_of(b"two")], small_of(b"one"))
    assert refusal.value.digests == (content_of(b"two").digest,)
    assert content_of(b"two").digest.hex() in refusal.value.message
    assert read(store, on_record) == {}


def test_a_small_chunk_with_other_bytes_counts_as_missing(store):
    lie = {content_of(b"one").digest: b"two"}
    with pytest.raises(Missing):
        write(store, references.add, Kind.RESULT, 7, 1, A, [content_of(b"one")], lie)


def test_knowing_a_hash_of_another_project_gives_nothing(store):
    secret = content_of(b"secret")
    write(store, references.add, Kind.RESULT, 7, 1, A, [secret], small_of(b"secret"))
    with pytest.raises(Missing) as there:
        write(store, references.add, Kind.RESULT, 8, 1, B, [secret])
    with pytest.raises(Missing) as nowhere:
        write(store, references.add, Kind.RESULT, 8, 1, B, [content_of(b"public")])
    assert there.value.message.replace(secret.digest.hex(), "") == nowhere.value.message.replace(
        content_of(b"public").digest.hex(), ""
    )
    assert read(store, references.missing, B, [secret.digest]) == (secret.digest,)
    assert write(store, references.pin, Kind.UPLOAD, 1, B, [secret.digest]) == {}


def test_a_job_has_what_it_was_given_what_was_sent_for_it_and_what_it_has_left(store):
    one, two = ids.make(1, 1), ids.make(1, 2)
    given, left, saved, sent, lost, hidden = (content_of(bytes([n]) * 9) for n in range(6))

    def unit(tx):
        for number, content in enumerate((given, left, saved, sent, lost, hidden)):
            small = small_of(bytes([number]) * 9)
            references.add(tx, Kind.FILE, 99, 0, A, [content], small)  # the project has them all
        references.add(tx, Kind.ARRAY_INPUT, one, 0, A, [given])
        references.add(tx, Kind.RESULT, one + 3, 1, A, [left])
        references.add(tx, Kind.CHECKPOINT, one + 3, 2, A, [saved])
        references.pin(tx, Kind.UPLOAD, uploads.pin_owner(tx, A, one + 3)[0], A, [sent.digest])
        references.pin(tx, Kind.UPLOAD, uploads.pin_owner(tx, A, references.LOST)[0], A, [lost.digest])
        references.add(tx, Kind.RESULT, one + 3, -100_001, A, [lost])  # in quarantine
        references.pin(tx, Kind.UPLOAD, uploads.pin_owner(tx, A)[0], A, [hidden.digest])  # by a worker of ours

    write(store, unit)
    every = [content.digest for content in (given, left, saved, sent, lost, hidden)]
    assert read(store, references.of_job, A, one + 3, every) == set(every[:4])
    assert read(store, references.of_job, A, one + 4, every) == {given.digest}
    assert read(store, references.of_job, A, two, every) == set()
    assert read(store, references.of_job, B, one + 3, every) == set()
    assert read(store, references.of_job, A, references.LOST, every) == {lost.digest}
    assert read(store, references.missing, A, every, one + 3) == (lost.digest, hidden.digest)
    assert read(store, references.missing, A, every, references.LOST) == (*every[:4], hidden.digest)
    assert write(store, references.pin, Kind.UPLOAD, 7, A, every, of=two) == {}
    claims = [Owned(Kind.RESULT, two, 1, A, (content,), two) for content in (given, hidden)]
    assert write(store, references.add_many, claims) == [(given.digest,), (hidden.digest,)]
    before = read(store, storage, A)
    assert write(store, references.add_many, claims, small_of(bytes([5]) * 9)) == [(given.digest,), ()]
    assert read(store, storage, A) == before, "what the project has counts once, whoever brings it again"


def test_another_projects_copy_counts_in_full(store):
    for project in (A, B):
        write(store, references.add, Kind.RESULT, project, 1, project, [content_of(b"same")], small_of(b"same"))
    assert read(store, storage, A) == read(store, storage, B) == 4
    assert write(store, references.drop, Kind.RESULT, A, 1) == 4
    assert read(store, on_record)[content_of(b"same").digest][2] is None
    assert write(store, references.drop, Kind.RESULT, B, 1) == 4
    assert read(store, on_record)[content_of(b"same").digest][2] is not None


def test_a_size_that_is_not_the_chunks_size_is_refused(store):
    real = content_of(b"hello")
    write(store, references.add, Kind.RESULT, 7, 1, A, [real], small_of(b"hello"))
    lie = Content(real.digest, 4, real.chunks)
    with pytest.raises(Missing, match=real.digest.hex()):
        write(store, references.add, Kind.RESULT, 8, 1, A, [real, lie])
    with pytest.raises(BadInput):
        write(store, references.add, Kind.RESULT, 8, 1, A, [Content(real.digest, -1, real.chunks)])
    # Beside a good one, whichever comes first, it spoils nothing.
    owned = [Owned(Kind.RESULT, 10, 1, A, (real,)), Owned(Kind.RESULT, 11, 1, A, (lie,))]
    for order in (owned, owned[::-1]):
        missing = write(store, references.add_many, order, small_of(b"hello"))
        assert [one.owner for one, lacking in zip(order, missing, strict=True) if lacking] == [11]
    assert read(store, storage, A) == 5


def test_a_mark_is_taken_back_when_the_chunk_comes_again(store):
    hello = content_of(b"hello")
    write(store, references.add, Kind.RESULT, 7, 1, A, [hello], small_of(b"hello"))
    write(store, references.drop, Kind.RESULT, 7, 1)
    with pytest.raises(Missing):
        write(store, references.add, Kind.RESULT, 8, 1, A, [hello])
    write(store, references.add, Kind.RESULT, 8, 1, A, [hello], small_of(b"hello"))
    assert write(store, chunks.remove_rows, [hello.digest]) == []
    assert read(store, chunks.data, hello.digest) == (5, b"hello")


def test_many_results_come_with_few_statements_and_a_bad_one_spoils_no_other(store):
    owned = [Owned(Kind.RESULT, job, 1, A, (content_of(b"out %d" % (job % 50)),)) for job in range(300)]
    owned[7] = Owned(Kind.RESULT, 7, 1, A, (content_of(b"never sent"),))
    small = small_of(*(b"out %d" % number for number in range(50)))
    missing = write(store, references.add_many, owned, small)
    assert [index for index, digests in enumerate(missing) if digests] == [7]
    assert read(store, storage, A) == read(store, counted, A) == sum(len(data) for data in small.values())
    assert write(store, references.drop_range, Kind.RESULT, 0, 99, 60) == 60
    assert write(store, references.drop_range, Kind.RESULT, 0, 99, 60) == 39
    assert write(store, references.drop_range, Kind.RESULT, 0, 1000, 1000) == 200
    assert read(store, storage, A) == 0
    assert all(row[2] is not None for row in read(store, on_record).values())


def test_a_newer_checkpoint_replaces_the_old_one(store):
    write(store, references.add, Kind.CHECKPOINT, 7, 1, A, [content_of(b"a"), content_of(b"b")], small_of(b"a", b"b"))
    new = [content_of(b"b"), content_of(b"cc")]
    write(store, references.replace, Kind.CHECKPOINT, 7, 2, A, new, small_of(b"cc"))
    assert read(store, storage, A) == 3
    assert read(store, references.missing, A, [content_of(b).digest for b in (b"a", b"b", b"cc")]) == (
        content_of(b"a").digest,
    )
    write(store, references.replace, Kind.CHECKPOINT, 7, 2, A, [])
    assert read(store, storage, A) == 0


def test_removing_a_file_frees_its_space_although_a_pin_is_left(store):
    hello = content_of(b"hello")
    write(store, references.arrive, Kind.UPLOAD, 99, A, arrived_of(b"hello"))
    write(store, references.add, Kind.RESULT, 7, 1, A, [hello])
    assert read(store, storage, A) == 5
    assert write(store, references.drop, Kind.RESULT, 7, 1) == 5
    assert read(store, storage, A) == 0


def test_a_quota_is_checked_in_bytes(tmp_path):
    store = open_store(sqlite_url(tmp_path))
    write(store, add_project, A, 10)
    write(store, references.check_quota, A, 10)
    with pytest.raises(OverQuota, match="uses 0 of 10 bytes; 11 more"):
        write(store, references.check_quota, A, 11)
    # What a running job delivers is taken all the same.
    write(store, references.add, Kind.RESULT, 7, 1, A, [content_of(b"x" * 20)], small_of(b"x" * 20))
    with pytest.raises(OverQuota):
        write(store, references.check_quota, A)


def test_a_large_content_is_looked_up_in_groups(store):
    digests = [content_of(b"%d" % number).digest for number in range(700)]
    big = {digest: Arrived(CHUNK) for digest in digests}
    write(store, references.arrive, Kind.FILE, 5, A, big)
    whole = Content(b"w" * 32, CHUNK * len(digests), tuple(digests))
    write(store, references.add, Kind.ARRAY_INPUT, 6, 0, A, [whole])
    assert read(store, storage, A) == read(store, counted, A) == 700 * CHUNK
    assert SMALL < CHUNK


NAMES = [b"a", b"bb", b"ccc", b"dddd"]
OWNERS = st.tuples(st.sampled_from([Kind.RESULT, Kind.CHECKPOINT, Kind.ARRAY_INPUT]), st.integers(1, 3))
FILES = st.lists(st.sampled_from(NAMES), max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), OWNERS, st.sampled_from([A, B]), FILES, st.booleans()),
        st.tuples(st.just("replace"), OWNERS, st.sampled_from([A, B]), FILES, st.booleans()),
        st.tuples(st.just("drop"), OWNERS),
        st.tuples(st.just("pin"), st.sampled_from([A, B]), st.sampled_from(NAMES)),
        st.tuples(st.just("collect")),
    ),
    max_size=25,
)
_runs = itertools.count()


def _step(tx, step):
    match step:
        case ("add" | "replace" as act, (kind, owner), project, files, along):
            # An owner belongs to one project for ever.
            owner = owner * 10 + project
            call = references.add if act == "add" else references.replace
            small = small_of(*files) if along else {}
            call(tx, kind, owner, 1, project, [content_of(data) for data in files], small)
        case ("drop", (kind, owner)):
            for project in (A, B):
                references.drop(tx, kind, owner * 10 + project, 1)
        case ("pin", project, data):
            references.pin(tx, Kind.UPLOAD, 100 + project, project, [content_of(data).digest])
        case ("collect",):
            chunks.remove_rows(tx, [digest for digest, _ in chunks.doomed(tx, tx.now, 100)])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=STEPS)
def test_storage_is_exact_and_nothing_dangles_whatever_happens(tmp_path, steps):
    directory = tmp_path / str(next(_runs))
    directory.mkdir()
    store = open_store(sqlite_url(directory))
    for project in (A, B):
        write(store, add_project, project)
    for step in steps:
        with contextlib.suppress(Missing):
            write(store, _step, step)
        for project in (A, B):
            assert read(store, storage, project) == read(store, counted, project), step
        assert read(store, dangling) == 0
        kept = {digest for digest, row in read(store, on_record).items() if row[2] is None}
        used = {d for d in (content_of(data).digest for data in NAMES) if read(store, references.who, d)}
        assert kept == used, step
    result(ensureDeferred(store.close()))


def test_what_peers_have_brought_into_quarantine_does_not_count_against_the_quota(store):
    """Only what is there for nothing else: what the project needs itself, it pays for."""
    mine, theirs = b"m" * 60, b"t" * 300

    def unit(tx):
        tx.run(_SET_QUOTA, {"key_id": A, "quota": 100})
        references.add(tx, Kind.FILE, 1, 0, A, [content_of(mine)], small_of(mine))
        references.add(tx, Kind.RESULT, 7, -100_001, A, [content_of(mine), content_of(theirs)], small_of(mine, theirs))
        attempts.add_results(tx, [Left(7, -100_001, Manifest(), "", False, "peer", 360)])

    write(store, unit)
    assert read(store, storage, A) == 360
    assert read(store, attempts.in_quarantine, "peer") == (1, 360)
    assert read(store, attempts.in_quarantine, "other") == (0, 0)
    read(store, references.check_quota, A, 40)
    with pytest.raises(OverQuota):
        read(store, references.check_quota, A, 41)
    write(store, history.drop_results, [(7, -100_001)], 100)
    assert read(store, attempts.in_quarantine, "peer") == (0, 0)
    assert read(store, storage, A) == 60
