"""Quarantine: what peers bring of a life that is lost, or say that it is, takes no room but their own."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from twisted.internet.defer import ensureDeferred

from cpc.core import ids
from cpc.core.digest import Content
from cpc.core.errors import OverQuota
from cpc.core.lease import Lease
from cpc.core.manifest import Entry, Manifest
from cpc.core.outcome import Outcome
from cpc.core.resources import Amounts
from cpc.store import attempts, events, history, projects, references
from cpc.store.references import Kind
from cpc.wire.messages import Result, Settled
from cpc.wire.peer_messages import Offer, Report, ReportAnswer, WorkerReport
from tests.helpers.fake_ways import FakeWays
from tests.helpers.files import content_of, storage
from tests.helpers.lending_fixture import Make, make
from tests.helpers.lending_world import World

__all__ = ["make"]


def judged(world: World, evil: FakeWays, *results: Result) -> list[Settled]:
    """What `c` makes of these, that a worker of `e` is said to have brought."""
    offer = Offer(worker=9, name="w", host="h", total=Amounts(cores=4), free=Amounts(cores=4))
    said = Report(number=1, workers=(WorkerReport(worker=9, offer=offer, results=results),))
    answer = world.reactor.finish(ensureDeferred(evil.ask_far(("e", "c"), "report", said, ReportAnswer, 5.0)))
    return [settled for one in answer.workers for settled in one.orders.settled]


def strange(job: int, size: int, attempt: int = 7, incarnation: int = 1) -> Result:
    """The result of an attempt that nobody here knows, of so many bytes."""
    data = b"%04d%04d" % (ids.index(job), attempt) * (size // 8)
    content = content_of(data)
    return Result(
        lease=Lease(job, attempt, incarnation), outcome=Outcome.OK, exit_code=0, small={content.digest: data},
        files=Manifest((Entry(b"out", content=content),)),
    )  # fmt: skip


def test_results_that_were_never_given_out_are_not_kept(make: Make) -> None:
    world = make("c")
    evil = world.net.server("e")
    world.net.trust("e", "c")
    job = world["c"].submit("sleep")
    for incarnation in (0, 1, 2):
        (settled,) = judged(world, evil, strange(job, 4096, incarnation=incarnation))
        assert (settled.verdict, settled.note) == ("dropped", "it was never given out by this server")
    assert world["c"].do(lambda tx: storage(tx, world["c"].project)) == 0
    assert world["c"].do(lambda tx: attempts.in_quarantine(tx, "e")) == (0, 0)


def test_what_a_peer_brings_into_quarantine_counts_against_it_and_not_against_the_project(make: Make) -> None:
    """After a restore nobody can tell what is true of what peers say of the life that is lost."""
    world = make("c")
    house = world["c"]
    evil, other = world.net.server("e"), world.net.server("f")
    world.net.trust("e", "c")
    world.net.trust("f", "c")
    job = house.submit("sleep", array=50)
    house.quarantine_limit = 101_000
    house.restored()
    row = house.do(lambda tx: projects.by_id(tx, house.project))
    house.do(lambda tx: projects.change(tx, replace(row, quota=20_000)))
    verdicts = [judged(world, evil, strange(job + number, 32_000))[0] for number in range(6)]
    assert [each.verdict for each in verdicts] == ["quarantined"] * 3 + ["dropped"] * 3
    assert verdicts[-1].note == "E may have 98.6 KiB in quarantine, and this is more"
    assert judged(world, evil, strange(job, 32_000))[0].verdict == "quarantined", "told once more"
    assert judged(world, evil, strange(job + 9, 64))[0].verdict == "quarantined", "there is room for that"
    count, size = house.do(lambda tx: attempts.in_quarantine(tx, "e"))
    assert count == 4
    assert 100_000 < size <= 101_000
    assert len(house.do(lambda tx: events.of_kind(tx, "quarantine.full", 0, 100))) == 1
    (settled,) = judged_by(world, other, strange(job + 20, 32_000, attempt=8))
    assert settled.verdict == "quarantined", "another peer has its own room"
    assert house.do(lambda tx: storage(tx, house.project)) == 4 * 32_000 + 64
    house.do(lambda tx: references.check_quota(tx, house.project, 20_000))
    with pytest.raises(OverQuota):
        house.do(lambda tx: references.check_quota(tx, house.project, 20_001))
    mine = content_of(strange(job, 32_000).small.popitem()[1])  # what the project has itself is its own
    house.do(lambda tx: references.add(tx, Kind.FILE, 1, 0, house.project, [mine]))
    with pytest.raises(OverQuota):
        house.do(lambda tx: references.check_quota(tx, house.project, 1))
    assert house.do(lambda tx: history.drop_results(tx, [(job, -100_007)], 100)) == 1
    assert judged(world, evil, strange(job + 30, 32_000))[0].verdict == "quarantined", "there is room again"


def test_files_of_less_than_nothing_make_no_room(make: Make) -> None:
    world = make("c")
    house = world["c"]
    evil = world.net.server("e")
    world.net.trust("e", "c")
    job = house.submit("sleep", array=3)
    house.quarantine_limit = 20_000
    house.restored()
    less = Manifest((Entry(b"out", content=Content(bytes(32), -(1 << 40))),))
    first = replace_files(strange(job, 64), less)
    found = judged(world, evil, first, strange(job + 1, 32_000))
    assert {ids.index(each.lease.job): each.verdict for each in found} == {0: "quarantined", 1: "dropped"}
    assert house.do(lambda tx: storage(tx, house.project)) == 0


def test_a_result_of_a_job_that_was_deleted_is_not_said_to_be_of_none(make: Make) -> None:
    world = make("c")
    evil = world.net.server("e")
    world.net.trust("e", "c")
    job = world["c"].submit("sleep")
    gone = job + (1 << 20)
    (settled,) = judged(world, evil, strange(gone, 64, incarnation=world["c"].queue.incarnation))
    assert (settled.verdict, settled.note) == ("gone", "")


def replace_files(result: Result, files: Manifest) -> Result:
    return msgspec.structs.replace(result, files=files, small={})


def judged_by(world: World, peer: FakeWays, result: Result) -> list[Settled]:
    said = Report(number=1, workers=(WorkerReport(worker=3, results=(result,)),))
    answer = world.reactor.finish(ensureDeferred(peer.ask_far(("f", "c"), "report", said, ReportAnswer, 5.0)))
    return [settled for one in answer.workers for settled in one.orders.settled]
