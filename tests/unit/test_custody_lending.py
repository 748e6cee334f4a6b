"""Custody as lending calls it: results that come while their owner is away, with the checkpoint that came before them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import ensureDeferred

from cpc.core.chance import SeededChance
from cpc.core.digest import EMPTY, Content, of_chunk
from cpc.core.manifest import Entry, Manifest
from cpc.core.offload import inline
from cpc.core.outcome import Outcome
from cpc.queue.job import State
from cpc.server.bulk import JobFiles
from cpc.server.federation.custody import Custody
from cpc.server.federation.files import OwnerFiles
from cpc.server.federation.handing import Handing
from cpc.server.federation.held import Held
from cpc.server.gate import Gate
from cpc.server.principal import SERVER
from cpc.server.seal import Seal
from cpc.server.storage import Storage
from cpc.store import attempts
from cpc.wire.messages import Checkpoint, Orders, Result, Turn
from tests.helpers.disks import FakeDisk
from tests.helpers.files import block, content_of
from tests.helpers.lending_world import Hand, House, World
from tests.helpers.memory_disk import MemoryDisk, Platter
from tests.helpers.stores import InlineThreads

FILES = Manifest((Entry(b"state", content=Content(EMPTY, 0)),))


def with_custody(house: House, disk: MemoryDisk) -> Custody:
    """As `federation/services.py` puts it together."""
    clock, limit = house.host.clock, lambda: 1 << 20
    made = Custody(
        ways=house.ways, held=Held(disk, "/run", limit, inline, clock), store=house.store,
        gate=Gate(house.store, Seal(b"key", SeededChance(1))),
        storage=Storage(FakeDisk(), InlineThreads(), house.host.reactor, lambda: 0), timers=house.host.reactor,
        clock=clock, chance=SeededChance(2), limit=limit,
    )  # fmt: skip
    made.reports = Handing(house.ways, house.lending.home)
    house.lending.home.custody = made
    house.world.reactor.finish(made.load())
    made.start()
    return made


class Away:
    """A worker of `a` has a job of `c`, and the relay between them has gone."""

    def __init__(self, directory: Path, cores: int = 1, array: int = 0) -> None:
        self.world = World(directory, "a", "b", "c")
        self.slow = self.world.net.trust("a", "b")
        self.world.net.trust("b", "c")
        for one, other in (("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")):
            agreement = self.world.net.agreement(one, other)
            self.world.net.agree(one, other, type(agreement)(lend_on=2))
        self.platter = Platter(lambda: 0.0)
        self.disk = disk = MemoryDisk(self.platter)
        disk.make_directory("/run")
        self.custody = with_custody(self.world["a"], disk)
        owner = self.world["c"]
        files = JobFiles(owner.queue, owner.store, owner.machines._chunks)
        OwnerFiles(files, owner.store, owner.lending.owner.quarantine).serve(owner.ways)
        self.hand: Hand = self.world["a"].worker(cores=cores)
        self.jobs = [owner.submit(array=array) for _ in range(cores)]
        self.job = self.jobs[0]
        self.world.run(30.0)
        self.lease = next(lease for lease in self.hand.tasks if lease.job == self.job)
        assert self.lease.path == "b/c"
        self.world.net.cut("a", "b")

    def checkpoint(self) -> None:
        """A turn with a checkpoint, as a worker sends it ahead of the result."""
        assert self.hand.connection is not None
        turn = Turn(number=1, holds=tuple(self.hand.tasks), checkpoints=(Checkpoint(lease=self.lease, files=FILES),))
        self.world.reactor.finish(self.hand.connection.call("turn", turn, Orders, timeout=30.0))

    def back(self) -> None:
        """The way is there again, and the worker is not."""
        self.hand.wants = False
        self.hand.beat()
        self.world.net.heal("a", "b")
        self.world.run(60.0)


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Away]:
    made = Away(tmp_path)
    yield made
    made.world.close()


def test_a_result_is_settled_at_once_and_handed_in_later(away: Away) -> None:
    away.hand.finish()
    away.world.run(60.0)
    assert away.hand.verdicts == {away.lease: "in custody"}
    assert len(away.custody) == 1
    away.back()
    assert len(away.custody) == 0
    assert away.world["c"].state(away.job) is State.SUCCEEDED
    assert away.world["c"].outcomes(away.job) == ["ok"]


def test_the_checkpoint_that_came_before_the_result_goes_with_it(away: Away) -> None:
    away.checkpoint()
    away.world.run(5.0)
    away.hand.wants = False
    away.hand.finish(outcome=Outcome.PREEMPTED)
    away.world.run(60.0)
    assert away.hand.verdicts == {away.lease: "in custody"}
    away.back()
    assert len(away.custody) == 0
    owner = away.world["c"]
    assert owner.state(away.job) is State.WAITING
    kept = owner.do(lambda tx: attempts.checkpoint(tx, away.job))
    assert kept is not None
    assert FILES in kept


def test_a_result_whose_worker_has_gone_is_handed_in_too(away: Away) -> None:
    away.hand.finish()
    away.world.run(60.0)
    away.hand.kill()
    away.world.run(600.0)
    away.world.net.heal("a", "b")
    away.world.run(60.0)
    assert len(away.custody) == 0
    assert away.world["c"].state(away.job) is State.SUCCEEDED
    assert away.world["c"].outcomes(away.job) == ["ok"]


def test_what_is_in_custody_is_not_lost_with_its_worker(tmp_path: Path) -> None:
    away = Away(tmp_path, cores=2)
    data = block(1, 100_000)
    away.world.reactor.finish(away.custody.put_chunk(away.lease, of_chunk(data), data))
    away.hand.finish(away.lease, files=Manifest((Entry(b"out", content=content_of(data)),)))
    away.world.run(60.0)
    assert away.hand.verdicts == {away.lease: "in custody"}
    away.hand.kill()
    away.world.run(600.0)
    away.slow.latency = 2.0  # handing it in takes longer than saying that the worker has gone
    away.world.net.heal("a", "b")
    away.world.run(300.0)
    assert len(away.custody) == 0
    owner = away.world["c"]
    attempt = owner.do(lambda tx: attempts.get(tx, away.jobs[0], 1))
    assert attempt is not None
    assert (attempt.outcome, attempt.late) == ("ok", False)
    assert owner.outcomes(away.jobs[1])[0] == "lost"
    assert owner.queue.index.sessions == {}
    away.world.close()


@pytest.mark.parametrize(("array", "shown"), [(0, "1"), (2, "1[0]")])
def test_the_first_job_of_an_array_is_shown_as_that_also_after_a_restart(
    tmp_path: Path, array: int, shown: str
) -> None:
    away = Away(tmp_path, array=array)
    away.hand.finish()
    away.world.run(60.0)
    home = away.world["a"]
    for custody in (away.custody, with_custody(home, away.disk)):
        assert [view.job for view in home.look(custody.page(SERVER)).items] == [shown]
    away.world.close()


def test_what_a_later_worker_has_handed_over_is_accepted(away: Away) -> None:
    """One that its owner has never heard of, and that has the disk of the one whose job it was."""
    taken = away.custody.take(1 << 40, Result(lease=away.lease, outcome=Outcome.OK))
    assert away.world.reactor.finish(ensureDeferred(taken))
    away.back()
    assert len(away.custody) == 0
    assert away.world["c"].state(away.job) is State.SUCCEEDED
