"""What peers get at: the files of the jobs that their workers run, and no word about anything else in the owner's store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import ensureDeferred

from cpc.core.digest import of_chunk
from cpc.core.errors import NotFound, Refused, Unavailable
from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.queue.job import State
from cpc.store import attempts, projects
from cpc.wire.messages import Checkpoint, ChunkData, ChunkList, Message, Orders, Result
from cpc.wire.peer_messages import FarChunkGet, FarChunkPut, FarMissing, Report, ReportAnswer, WorkerReport
from tests.helpers.far_world import FarWorld, manifest_of, result_of
from tests.helpers.files import block

BIG = 100 << 10
ROUTE = ("a", "b", "c")


@pytest.fixture
def world(tmp_path: Path) -> FarWorld:
    return FarWorld(tmp_path)


class Evil:
    """The home, or whoever speaks as one: it asks the owner whatever it likes."""

    def __init__(self, world: FarWorld, route: tuple[str, ...] = ROUTE, number: int = 7) -> None:
        self.world = world
        self.route = route
        self.number = number

    def get(self, lease: Lease, digest: bytes, have: bool = False) -> bytes:
        question = FarChunkGet(lease=lease.of_owner(), worker=self.number, digest=digest, have=have)
        return bytes(self._ask("far-chunk-get", question, ChunkData).data)

    def put(self, lease: Lease, data: bytes) -> None:
        question = FarChunkPut(
            lease=lease.of_owner(), worker=self.number, digest=of_chunk(data), data=memoryview(data)
        )  # fmt: skip
        self._ask("far-chunk-put", question, Message)

    def missing(self, lease: Lease, *digests: bytes) -> tuple[bytes, ...]:
        question = FarMissing(lease=lease.of_owner(), worker=self.number, digests=digests)
        found: tuple[bytes, ...] = self._ask("far-missing", question, ChunkList).digests
        return found

    def report(self, *results: Result, checkpoints: tuple[Checkpoint, ...] = ()) -> Orders:
        """The owner's word on these."""
        said = WorkerReport(worker=self.number, results=results, checkpoints=checkpoints)
        answer: ReportAnswer = self._ask("report", Report(number=1, workers=(said,)), ReportAnswer)
        return answer.workers[0].orders

    def _ask(self, method: str, question: Message, answer: type[Any]) -> Any:
        ways = self.world.net._ways[self.route[0]]
        asked = ways.ask_far(self.route, method, question, answer, 60.0, bulk=True)
        return self.world.reactor.finish(ensureDeferred(asked))


def storage(world: FarWorld) -> int:
    """Bytes that the project has, by its books."""
    row = world.owner.bench.do(lambda tx: projects.by_id(tx, world.owner.bench.project))
    assert row is not None
    return row.storage


def test_an_attempt_reads_what_its_job_was_given_and_nothing_else_of_the_project(world: FarWorld) -> None:
    secret = world.owner.keep(block(1, BIG), given=False)
    mine = world.owner.keep(block(2, BIG))
    _, lease = world.owner.lend(7)
    _, other = world.owner.lend(8)
    evil = Evil(world)
    assert evil.get(lease, mine) == block(2, BIG)
    Evil(world, number=8).put(other, block(3, BIG))
    for digest in (secret, of_chunk(block(3, BIG)), of_chunk(b"what nobody has")):
        for have in (False, True):
            with pytest.raises(NotFound) as refusal:
                evil.get(lease, digest, have)
            assert refusal.value.message == f"chunk {digest.hex()} is not in this job"


def test_to_a_peer_what_is_not_of_its_job_is_missing(world: FarWorld) -> None:
    """Whoever guesses what a file says would learn here whether it is right."""
    secret = world.owner.keep(block(1, BIG), given=False)
    mine = world.owner.keep(block(2, BIG))
    session, lease = world.owner.lend(7)
    evil = Evil(world)
    assert evil.missing(lease, secret, mine, b"?" * 32) == (secret, b"?" * 32)
    evil.put(lease, block(1, BIG))  # it has it after all
    assert evil.missing(lease, secret, mine) == ()
    world.owner.bench.report(session, lease.of_owner(), Outcome.PREEMPTED)
    assert evil.missing(lease, secret, mine) == (), "a late result is not sent twice"
    assert storage(world) == 2 * BIG


def test_what_was_sent_for_a_job_is_not_sent_again_by_whoever_runs_it_next(world: FarWorld) -> None:
    session, lease = world.owner.lend(7)
    evil = Evil(world)
    evil.put(lease, block(1, BIG))
    evil.put(lease, block(2, BIG))
    saved = Checkpoint(lease=lease.of_owner(), files=manifest_of(block(1, BIG)))
    assert evil.report(checkpoints=(saved,)) == Orders()
    world.owner.bench.report(session, lease.of_owner(), Outcome.PREEMPTED, files=manifest_of(block(2, BIG)))
    (task,) = world.owner.bench.tasks(session)
    assert task.checkpoint == saved.files
    assert evil.get(task.lease, of_chunk(block(1, BIG))) == block(1, BIG)
    digests = tuple(of_chunk(block(number, BIG)) for number in (1, 2))
    assert evil.missing(task.lease, *digests) == ()


def test_nobody_brings_a_chunk_by_its_name(world: FarWorld) -> None:
    """A result or a checkpoint that names what the project has, and its sender has not."""
    secret = world.owner.keep(block(1, BIG), given=False)
    session, lease = world.owner.lend(7)
    evil, owners = Evil(world), lease.of_owner()
    before = storage(world)
    claimed = Checkpoint(lease=owners, files=manifest_of(block(1, BIG)))
    assert evil.report(checkpoints=(claimed,)).retry == (owners,)
    assert evil.report(result_of(owners, block(1, BIG))).retry == (owners,)
    assert world.owner.bench.state(lease.job) is State.RUNNING
    with pytest.raises(NotFound):
        evil.get(lease, secret)
    world.owner.bench.report(session, owners, Outcome.PREEMPTED)
    (task,) = world.owner.bench.tasks(session)
    assert task.checkpoint is None
    late = evil.report(result_of(owners, block(1, BIG)))  # nor with an attempt that is over
    assert late.retry == (owners,)
    evil.put(lease, block(1, BIG))
    (settled,) = evil.report(result_of(owners, block(1, BIG))).settled
    assert settled.verdict == "accepted late"
    assert storage(world) == before, "what the project had already counts once"


def test_what_came_with_the_result_itself_need_not_be_there(world: FarWorld) -> None:
    data, mine = b"brief", world.owner.keep(block(2, BIG))
    secret = world.owner.keep(data, given=False)
    _, lease = world.owner.lend(7)
    evil, owners = Evil(world), lease.of_owner()
    before = storage(world)
    for small in ({}, {secret: b"else"}, {of_chunk(b"else"): b"else"}):
        claim = Result(lease=owners, outcome=Outcome.OK, exit_code=0, files=manifest_of(data), small=small)
        assert evil.report(claim).retry == (owners,)
    files = manifest_of(data, block(2, BIG))
    result = Result(lease=owners, outcome=Outcome.OK, exit_code=0, files=files, small={secret: data})
    (settled,) = evil.report(result).settled
    assert settled.verdict == "accepted"
    assert evil.missing(lease, mine, secret) == ()
    assert storage(world) == before


def test_an_attempt_that_nobody_knows_learns_nothing_of_the_project(world: FarWorld, tmp_path: Path) -> None:
    """After a restore any peer can make one up, for any job: one that was never lent anything, too."""
    secret = world.owner.keep(block(1, BIG), given=False)
    given = world.owner.keep(block(2, BIG))
    _, mine = world.owner.lend(7)
    world.another_home(tmp_path, "d")
    stranger = Evil(world, ("d", "b", "c"))
    world.owner.bench.queue.incarnation = 3
    lost = Lease(mine.job, 9, 1)
    assert stranger.missing(lost, secret, given) == (secret, given)
    assert Evil(world).report(result_of(lost, block(1, BIG))).retry == (lost,)
    assert Evil(world).report(result_of(lost, block(2, BIG))).retry == (lost,)
    stranger.put(lost, block(1, BIG))
    assert stranger.missing(lost, secret, given) == (given,)
    assert Evil(world).missing(mine, secret) == (secret,), "what lies apart is of no job"
    (settled,) = Evil(world).report(result_of(lost, block(1, BIG))).settled
    assert settled.verdict == "quarantined"
    assert Evil(world).missing(mine, secret) == (secret,)
    with pytest.raises(NotFound):
        Evil(world).get(mine, secret)
    assert world.owner.bench.do(lambda tx: attempts.in_quarantine(tx, "b"))[0] == 1


def test_an_attempt_that_is_over_writes_and_reads_no_more(world: FarWorld) -> None:
    """What it was given it has had; what a later one has left is not for it."""
    session, lease = world.owner.lend(7)
    digest = world.owner.keep(block(1, BIG))
    assert world.get(lease, digest) == block(1, BIG)
    world.owner.bench.report(session, lease.of_owner(), Outcome.PREEMPTED)
    evil = Evil(world)
    for have in (False, True):
        with pytest.raises(Unavailable, match="not the current attempt of its job any more"):
            evil.get(lease, digest, have)
    with pytest.raises(Unavailable):
        world.get(lease, digest)  # and not from the home's own cache
    world.send(lease, block(2, BIG))
    (settled,) = evil.report(result_of(lease.of_owner(), block(2, BIG))).settled
    assert settled.verdict == "accepted late"


def test_another_worker_of_the_same_home_reads_nothing_of_a_job(world: FarWorld) -> None:
    """Nor when its home knows of no worker that has the job."""
    _, lease = world.owner.lend(7)
    session, _ = world.owner.lend(8)
    digest = world.owner.keep(block(1, BIG))
    assert world.get(lease, digest) == block(1, BIG)
    for number in (0, 8, 9):
        with pytest.raises(Refused, match="not this worker's"):
            world.get(lease, digest, worker=number)
    assert session.worker
    world.send(lease, block(2, BIG), worker=8)  # it may have the disk of the one that is gone
    assert Evil(world).missing(lease, of_chunk(block(2, BIG))) == ()


def test_no_worker_of_a_home_brings_what_lies_in_custody_by_its_name(world: FarWorld) -> None:
    """Else a worker that knows no more of it than its digest could have it handed in to an owner that it works with."""
    world.net.server("x")
    world.net.trust("b", "x")
    _, lease = world.owner.lend(7)
    data = block(1, BIG)
    world.net.cut("a", "b")
    world.send(lease, data)
    spies = (Lease(lease.job, 1, 1, "b/x"), Lease(lease.job + (1 << 20), 1, 1, "b/c"))
    for stolen in spies:
        missing = world.reactor.finish(world.home.files.missing(8, stolen, (of_chunk(data),)))
        assert missing == (of_chunk(data),)
        assert not world.take(result_of(stolen, data), worker=8)
    assert world.take(result_of(lease, data))
    for stolen in spies:
        assert not world.take(result_of(stolen, data), worker=8)
    home = world.power_loss()
    assert not world.take(result_of(spies[0], data), worker=8)
    again = Lease(lease.job, 2, 1, lease.path)  # the same job: it is here
    assert world.take(result_of(again, data))
    assert home.custody.size < 2 * BIG
    world.send(spies[0], data, worker=8)
    assert world.take(result_of(spies[0], data), worker=8)
    assert home.custody.size < 2 * BIG, "on disk it is there once"
    assert len([path for path in world.platter.names if "/custody/chunks/" in path]) == 1
