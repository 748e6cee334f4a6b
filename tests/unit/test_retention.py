"""What is over goes away, in small steps, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from twisted.internet.defer import succeed

from cpc.core import ids
from cpc.core.clock import SECOND
from cpc.core.manifest import Entry, Manifest
from cpc.server import retention
from cpc.server.federation.register import Register
from cpc.server.retention import Keep, Retention
from cpc.store import history, references, schema, statement, workers
from cpc.store.references import Kind
from cpc.store.statement import Statement
from cpc.store.workers import WorkerRow
from tests.helpers.files import Shop, block, content_of, on_record, small_of, storage, wait

DAY = 86400.0
ARRAY = statement.insert(schema.arrays)
FINISHED = statement.insert(schema.finished)
ATTEMPT = statement.insert(schema.attempts)
RESULT = statement.insert(schema.results)
DELETED = statement.update(schema.projects, "deleted")
COUNTS = {
    table.name: Statement(sa.select(sa.func.count()).select_from(table))
    for table in (schema.arrays, schema.finished, schema.attempts, schema.results, schema.events, schema.trimmed)
}
EVENTS = Statement(sa.select(schema.events.c.number, schema.events.c.kind).order_by(schema.events.c.number))
TRIMMED = Statement(sa.select(schema.trimmed.c.project, schema.trimmed.c.number))


class House(Shop):
    """A shop with history in it, and what clears it up."""

    def __init__(self, directory: Path, url: str) -> None:
        super().__init__(directory, url=url)
        self.keep = Keep()
        self.answers = [3, 2, 0]
        self.retention = Retention(
            self.store, self.chunks, lambda: self.keep, lambda: succeed(self.answers.pop(0) if self.answers else 0),
            self.clock, self.timers,
        )  # fmt: skip

    def finish(self, sequence: int, size: int, project: int = 1, open: int = 0) -> int:
        """A submission whose jobs ended now, each with a result of its own and one that all share."""
        array = ids.make(1, sequence)

        def unit(tx):
            tx.run(
                ARRAY,
                {
                    "id": array, "project": project, "submitter": 1, "name": "", "command": "", "spec": b"", "class": 1,
                    "priority": 0, "size": size, "elements": True, "submitted": tx.now, "open": open,
                    "succeeded": size, "failed": 0, "cancelled": 0, "step": 0,
                },
            )  # fmt: skip
            references.add(tx, Kind.ARRAY_INPUT, array, 0, project, [content_of(b"in")], small_of(b"in"))
            for index in range(size):
                self._job(tx, array + index, project)
            return array

        return self.write(unit)

    @staticmethod
    def _job(tx, job: int, project: int) -> None:
        own, shared = b"%d" % job, b"shared"
        manifest = Manifest(
            tuple(Entry(path, content=content_of(data)) for path, data in ((b"a", own), (b"b", shared)))
        )
        tx.run(
            FINISHED,
            {
                "id": job, "project": project, "state": 4, "outcome": "ok", "exit_code": 0, "attempts": 1,
                "accepted": 1, "failures": 0, "losses": 0, "ended": tx.now, "reason": "",
            },
        )  # fmt: skip
        tx.run(
            ATTEMPT,
            {
                "job": job, "number": 1, "incarnation": 1, "worker": 1, "session": 1, "granted": b"", "started": 0,
                "ended": tx.now, "outcome": "ok", "exit_code": 0, "late": False, "message": "", "wall": 0.0,
                "cpu": 0.0, "memory": 0,
            },
        )  # fmt: skip
        tx.run(
            RESULT,
            {
                "job": job,
                "number": 1,
                "manifest": msgspec.msgpack.encode(manifest),
                "tail": "",
                "used": True,
                "peer": "",
                "size": 0,
            },
        )
        contents = [content for _, content in manifest.files()]
        references.add(tx, Kind.RESULT, job, 1, project, contents, small_of(own, shared))

    def counts(self) -> dict[str, int]:
        return {name: self.read(lambda tx, count=count: tx.scalar(count)) for name, count in COUNTS.items()}


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    house = House(tmp_path, database_url)
    yield house
    house.end()


def test_old_submissions_go_with_their_files(house):
    house.finish(1, 30)
    house.clock.seconds += 10 * DAY
    young = house.finish(2, 2)
    house.keep = Keep(jobs=5 * DAY)
    wait(house.retention.long_round())
    counts = house.counts()
    assert (counts["arrays"], counts["finished"], counts["attempts"], counts["results"]) == (1, 2, 2, 2)
    assert house.read(storage, 1) == len(b"in") + len(b"shared") + 2 * len(b"%d" % young)
    house.check()
    assert wait(house.chunks.collect(0)).chunks == 30


def test_an_old_submission_that_still_runs_or_ended_lately_stays(house):
    house.finish(1, 3, open=1)
    late = house.finish(2, 3)
    house.clock.seconds += 10 * DAY
    change = Statement(
        sa.update(schema.finished).where(schema.finished.c.id == late + 1).values(ended=sa.bindparam("t"))
    )
    house.write(lambda tx: tx.run(change, {"t": tx.now}))
    house.keep = Keep(jobs=5 * DAY)
    wait(house.retention.long_round())
    assert house.counts()["finished"] == 6


def test_purging_is_done_in_small_steps(house, monkeypatch):
    array = house.finish(1, 50)
    steps = 0
    while not house.write(history.purge, array, 7):
        steps += 1
        house.check()
    assert steps >= 50 * 2 // 7 + 50 // 7
    assert house.counts()["arrays"] == 0
    assert house.read(storage, 1) == 0
    assert house.write(history.purge, array, 7) is True


def test_what_was_forgotten_and_cut_short_goes_in_the_next_round(house):
    """A kill or a full disk came between two steps."""
    array, other = house.finish(1, 50), house.finish(2, 5)

    def forget(tx):
        assert not history.purge(tx, array, 7)
        tx.event("user:ann", history.FORGETTING, project=1, subject=array)

    house.write(forget)
    wait(house.retention.short_round())
    assert house.counts()["arrays"] == 1
    assert house.counts()["finished"] == 5
    assert house.read(history.closed_arrays, 0, 1 << 62, 10) == [other]


def test_a_submission_with_live_jobs_cannot_be_purged(house):
    array = house.finish(1, 3, open=1)
    wait(house.retention.purge(array))
    assert house.counts()["finished"] == 3


@pytest.mark.parametrize("step", [1, 2, 3, 250])
def test_old_results_go_and_the_jobs_stay(house, monkeypatch, step):
    monkeypatch.setattr(retention, "STEP", step)
    house.finish(1, 5)
    house.clock.seconds += 10 * DAY
    house.finish(2, 2)
    house.keep = Keep(results=5 * DAY)
    wait(house.retention.long_round())
    counts = house.counts()
    assert (counts["finished"], counts["results"]) == (7, 2)
    house.check()


def test_nothing_is_removed_that_is_kept_for_ever(house):
    house.finish(1, 5)
    house.write(lambda tx: tx.event("server", "job.started", project=1))
    before = house.counts()
    house.clock.seconds += 10_000 * DAY
    house.keep = Keep(jobs=0, results=0, events=0, audit=0)
    wait(house.retention.long_round())
    assert house.counts() == before


@pytest.mark.parametrize("step", [1, 2, 250])
def test_old_events_go_and_readers_can_see_that_they_are_gone(house, monkeypatch, step):
    monkeypatch.setattr(retention, "STEP", step)

    def events(tx):
        return [
            tx.event("server", kind, project=project)
            for kind, project in (("job.started", 1), ("user.created", 0), ("job.failed", 2), ("job.started", 1))
        ]

    first = house.write(events)
    house.clock.seconds += 100 * DAY
    second = house.write(events)
    house.keep = Keep(events=50 * DAY, audit=400 * DAY)
    wait(house.retention.long_round())
    left = [row[0] for row in house.read(lambda tx: tx.rows(EVENTS))]
    assert left == [first[1], *second]
    assert dict(house.read(lambda tx: tx.rows(TRIMMED))) == {1: first[3], 2: first[2]}
    # Later the rest goes too; the marks only go up, and the newest event stays for its number.
    house.clock.seconds += 1000 * DAY
    wait(house.retention.long_round())
    assert [row[0] for row in house.read(lambda tx: tx.rows(EVENTS))] == [second[3]]
    assert dict(house.read(lambda tx: tx.rows(TRIMMED))) == {0: second[1], 1: second[0], 2: second[2]}
    house.end()
    house.life()
    assert house.write(events)[0] > second[3]


def test_answers_are_expired_until_none_is_left(house):
    wait(house.retention.long_round())
    assert house.answers == []


def test_a_deleted_projects_jobs_and_files_go_in_the_next_round(house):
    house.finish(1, 10)
    house.finish(2, 3, project=2)
    house.upload(block(1))
    house.write(lambda tx: tx.run(DELETED, {"key_id": 1, "deleted": tx.now}))
    house.write(house.files.release, 1)
    removed = wait(house.retention.free_now())
    assert removed.chunks == 11  # ten results and the upload; the others are beta's too
    assert house.read(storage, 1) == 0
    assert house.counts()["arrays"] == 1
    assert len(house.read(on_record)) == 5
    house.check()


def test_rounds_go_on_by_themselves_and_end(house):
    house.retention.start()
    house.upload(block(1))
    house.clock.seconds += 8 * DAY
    for _ in range(3):
        house.timers.advance(retention.ROUND)
        house.clock.seconds += retention.ROUND + 1000
    assert house.read(on_record) == {}
    house.retention.stop()
    assert not house.timers.getDelayedCalls()
    assert SECOND == 1_000_000


def test_a_disk_that_gets_tight_is_cleared_at_once(house):
    house.storage.on_low = house.retention.hurry
    house.least = 8 << 30
    house.upload(block(1))
    house.write(house.files.release, 1)
    house.disk.total = 7 << 30
    wait(house.storage.look())
    assert house.read(on_record) == {}


def test_a_refusal_in_a_round_does_not_end_the_rounds(house, monkeypatch):
    house.retention.start()

    def full(tx, limit):
        from cpc.core.errors import Unavailable

        raise Unavailable("the disk is full")

    monkeypatch.setattr(retention.uploads, "expire", full)
    house.timers.advance(retention.ROUND)
    monkeypatch.undo()
    assert len(house.timers.getDelayedCalls()) == 1
    house.retention.stop()


def test_workers_of_other_servers_go_with_the_jobs_of_their_time(house):
    def add(tx):
        for number, (bundle, key) in enumerate(((0, "b/1"), (0, "b/c/2"), (1, "ours"), (0, "b/3")), 1):
            row = WorkerRow(number, f"w{number}", key, bundle, "", tx.now, tx.now, key[:-2], 0, b"", None, None)
            workers.add(tx, row)

    house.write(add)
    house.finish(1, 1)
    running = statement.update(schema.attempts, "worker", "ended", key=["job"])
    house.write(lambda tx: tx.run(running, {"key_job": ids.make(1, 1), "worker": 4, "ended": None}))
    house.retention.borrowed = Register("here")
    house.write(house.retention.borrowed.load)
    house.clock.seconds += 2 * DAY
    wait(house.retention.long_round())
    assert len(house.read(lambda tx: workers.seen_since(tx, 0))) == 4
    house.keep = Keep(jobs=30 * DAY)
    wait(house.retention.long_round())
    assert len(house.read(lambda tx: workers.seen_since(tx, 0))) == 4
    house.keep = Keep(jobs=DAY)
    house.write(lambda tx: tx.run(statement.update(schema.arrays, "open"), {"key_id": ids.make(1, 1), "open": 1}))
    wait(house.retention.long_round())
    assert [row.id for row in house.read(lambda tx: workers.seen_since(tx, 0))] == [3, 4]
    assert [house.retention.borrowed.home_of(number) for number in range(1, 5)] == ["", "", "", "b"]
