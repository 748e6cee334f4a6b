"""Custody: what a worker was told to forget is on its home's disk until the owner has said what becomes of it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from twisted.internet.defer import ensureDeferred

from cpc.core import ids
from cpc.core.digest import of_chunk
from cpc.core.errors import NotFound, NotLoggedIn, Unavailable
from cpc.core.lease import Lease
from cpc.core.outcome import Outcome
from cpc.core.peer import Agreement
from cpc.queue.job import State
from cpc.server.federation.held import EARLY_TIME
from cpc.server.principal import Call, Principal
from cpc.store import events
from cpc.wire.messages import Checkpoint
from tests.helpers.far_world import RUN, FarWorld, manifest_of, result_of
from tests.helpers.files import block

ROOT = Principal(0, "root", True)
HUNDRED_KIB = 100 << 10


@pytest.fixture
def world(tmp_path: Path) -> FarWorld:
    return FarWorld(tmp_path)


def kinds(world: FarWorld) -> list[str]:
    """What the home's event log says of custody."""
    rows = world.home_bench.do(lambda tx: events.between(tx, 0, events.newest(tx), 1000))
    return [row.kind.removeprefix("custody.") for row in rows if row.kind.startswith("custody.")]


def give(world: FarWorld, lease: Lease, *chunks: bytes, worker: int = 7) -> None:
    """The worker hands a result in while the owner is away, and is told to forget it."""
    world.send(lease, *chunks, worker=worker)
    assert world.take(result_of(lease, *chunks), worker=worker)


def files_of(world: FarWorld) -> list[str]:
    """What lies in the custody directory."""
    return sorted(path for path in world.platter.names if path.startswith(f"{RUN}/custody/chunks/"))


def test_a_result_is_kept_over_a_power_loss_and_handed_in_when_the_way_is_back(world: FarWorld) -> None:
    _, lease = world.owner.lend()
    world.net.cut("b", "c")
    give(world, lease, block(1, HUNDRED_KIB), block(2, 100))
    assert world.home.custody.has(lease)
    assert world.home.custody.leases("c") == {7: (lease,)}
    home = world.power_loss()
    assert home.custody.leases("c") == {7: (lease,)}
    assert len(files_of(world)) == 2
    assert "1 result (100.4 KiB) for server c in custody: server b is not connected" in home.custody.lines()[0]
    world.net.heal("b", "c")
    world.reactor.run_until(lambda: not len(home.custody), 600.0)
    assert world.owner.bench.state(lease.job) is State.SUCCEEDED
    bench = world.owner.bench
    kept = ensureDeferred(world.owner.files.chunk(bench.project, of_chunk(block(1, HUNDRED_KIB)), of=lease.job))
    assert world.reactor.finish(kept) == block(1, HUNDRED_KIB)
    assert files_of(world) == []
    assert home.custody.size == 0
    assert home.custody.lines() == ()
    assert kinds(world) == ["taken", "handed-in"]
    again = world.power_loss()  # that it was forgotten may be lost: then it is handed in once more, and known
    world.reactor.run_until(lambda: not len(again.custody), 600.0)
    assert world.owner.bench.state(lease.job) is State.SUCCEEDED
    world.net.check()


def test_it_is_handed_in_at_once_when_the_neighbour_comes_back(world: FarWorld) -> None:
    _, lease = world.owner.lend()
    world.net.cut("a", "b")
    give(world, lease, block(1, 100))
    world.reactor.advance(3600.0)  # tries are five minutes apart by now
    world.net.heal("a", "b")
    world.reactor.advance(1.0)
    assert world.owner.bench.state(lease.job) is State.SUCCEEDED
    assert world.owner.renewals == 1  # before that: a home that is back and does not name a lease has lost it


def test_only_what_the_owner_lacks_travels(world: FarWorld) -> None:
    _, lease = world.owner.lend()
    world.send(lease, block(1, HUNDRED_KIB))  # before the way was cut
    world.net.cut("b", "c")
    give(world, lease, block(1, HUNDRED_KIB), block(2, HUNDRED_KIB))
    before = world.net.messages["b", "c", "far-chunk-put"]
    world.net.heal("b", "c")
    world.reactor.run_until(lambda: not len(world.home.custody), 600.0)
    assert world.net.messages["b", "c", "far-chunk-put"] == before + 1
    assert world.owner.bench.state(lease.job) is State.SUCCEEDED


def test_a_checkpoint_that_comes_with_the_result_is_handed_in_with_it(world: FarWorld) -> None:
    session, lease = world.owner.lend()
    world.owner.bench.turn(session, wants=False)
    world.net.cut("b", "c")
    world.send(lease, block(5, HUNDRED_KIB))
    checkpoint = Checkpoint(lease=lease, files=manifest_of(block(5, HUNDRED_KIB)))
    assert world.take(result_of(lease, outcome=Outcome.PREEMPTED), checkpoint)
    world.power_loss()
    world.net.heal("b", "c")
    world.reactor.run_until(lambda: not len(world.home.custody), 600.0)
    assert world.owner.bench.state(lease.job) is State.WAITING
    again = world.owner.bench.worker("w-of-c", boot="x")
    (task,) = world.owner.bench.tasks(again)
    assert task.checkpoint == checkpoint.files


def test_without_its_chunks_a_result_is_not_taken(world: FarWorld) -> None:
    _, lease = world.owner.lend()
    world.net.cut("b", "c")
    assert not world.take(result_of(lease, block(1, 100)))
    assert not world.home.custody.has(lease)
    give(world, lease, block(1, 100))


def test_the_same_result_told_twice_is_one(world: FarWorld) -> None:
    _, lease = world.owner.lend()
    world.net.cut("b", "c")
    give(world, lease, block(1, 100))
    world.home.limit = 1  # and a full custody takes nothing back
    assert world.take(result_of(lease, block(1, 100)))
    assert len(world.home.custody) == 1


def test_a_late_result_from_custody_is_accepted_once(world: FarWorld) -> None:
    session, lease = world.owner.lend()
    world.net.cut("b", "c")
    give(world, lease, block(1, 100))
    bench = world.owner.bench
    bench.turn(session, result_of(lease.of_owner(), outcome=Outcome.LOST), wants=False)  # peer_grace is over
    own = bench.worker("w-of-c", boot="x")
    (task,) = bench.tasks(own)
    assert bench.report(own, task.lease) == "accepted"
    world.net.heal("b", "c")
    world.reactor.run_until(lambda: not len(world.home.custody), 600.0)
    assert bench.state(lease.job) is State.SUCCEEDED
    assert kinds(world) == ["taken", "handed-in"]


def test_custody_is_bounded_and_says_so(world: FarWorld) -> None:
    _, one = world.owner.lend()
    _, two = world.owner.lend(8)
    world.home.limit = 150 << 10
    world.net.cut("b", "c")
    give(world, one, block(1, HUNDRED_KIB))
    with pytest.raises(Unavailable, match=r"custody has 100\.\d KiB of at most 150\.0 KiB"):
        world.send(two, block(2, HUNDRED_KIB))
    most = world.home.limit - world.home.custody.size - 8
    world.send(two, block(3, most))
    assert not world.take(result_of(two, block(3, most)))  # no room for the record
    assert "custody has" in world.home.custody.lines()[0]
    world.home.limit = 0
    with pytest.raises(Unavailable, match="cannot be reached"):
        world.send(two, block(3, 100))
    assert not world.take(result_of(two))
    world.net.heal("b", "c")
    world.reactor.run_until(lambda: not len(world.home.custody), 600.0)


def test_a_disk_that_is_full_leaves_the_result_with_the_worker(world: FarWorld) -> None:
    _, lease = world.owner.lend()
    world.net.cut("b", "c")
    world.platter.broken = lambda operation, path: (
        OSError(errno.ENOSPC, "No space left on device") if operation in ("write", "append") else None
    )
    with pytest.raises(Unavailable, match="No space left"):
        world.send(lease, block(1, 100))
    assert not world.take(result_of(lease))
    world.platter.broken = lambda operation, path: None
    give(world, lease, block(1, 100))


def test_chunks_whose_result_never_came_go_after_a_while(world: FarWorld) -> None:
    _, lease = world.owner.lend()
    world.net.cut("b", "c")
    world.send(lease, block(1, HUNDRED_KIB))
    world.reactor.advance(EARLY_TIME / 2)
    assert world.home.custody.missing(lease, [of_chunk(block(1, HUNDRED_KIB))]) == ()  # which begins its time anew
    world.reactor.advance(EARLY_TIME * 0.7)
    assert len(files_of(world)) == 1
    world.reactor.advance(EARLY_TIME)
    assert files_of(world) == []
    assert world.home.custody.size == 0


def test_so_many_chunks_wait_for_their_results_and_no_more(world: FarWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small they are, and for however many jobs the same one is sent: each takes memory."""
    monkeypatch.setattr("cpc.server.federation.held.MOST_EARLY", 3)
    _, lease = world.owner.lend()
    world.net.cut("b", "c")
    leases = [Lease(lease.job + number, 1, 1, lease.path) for number in range(4)]
    for each in leases[:3]:
        world.send(each, b"the same")
    with pytest.raises(Unavailable, match="3 chunks whose results have not come"):
        world.send(leases[3], b"the same")
    world.send(leases[0], b"the same")
    assert world.take(result_of(leases[0], b"the same"))
    world.send(leases[3], b"the same")
    world.reactor.advance(EARLY_TIME * 2)
    assert len(files_of(world)) == 1  # a result has it


def test_chunks_whose_result_never_came_make_room(world: FarWorld) -> None:
    _, lease = world.owner.lend()
    world.net.cut("b", "c")
    world.home.limit = 150 << 10
    world.reactor.advance(1.0)
    world.send(lease, block(9, 100))  # from now on it is tidied each hour
    world.reactor.advance(EARLY_TIME - 1.0)
    world.send(lease, block(1, HUNDRED_KIB))
    world.reactor.advance(EARLY_TIME)
    world.send(lease, block(2, HUNDRED_KIB))
    assert files_of(world) == [f"{RUN}/custody/chunks/{of_chunk(block(2, HUNDRED_KIB)).hex()}"]


def test_two_results_share_a_chunk(world: FarWorld) -> None:
    _, one = world.owner.lend()
    _, two = world.owner.lend(8)
    world.net.cut("b", "c")
    give(world, one, block(1, HUNDRED_KIB))
    give(world, two, block(1, HUNDRED_KIB), worker=8)
    assert len(files_of(world)) == 1
    call = Call(ROOT)
    (first, second) = world.reactor.finish(world.home.custody.page(ROOT)).items
    world.reactor.finish(world.home.custody.drop(call, first.id))
    assert len(files_of(world)) == 1
    world.net.heal("b", "c")
    world.reactor.run_until(lambda: not len(world.home.custody), 600.0)
    assert world.owner.bench.state(two.job) is State.SUCCEEDED
    assert files_of(world) == []
    with pytest.raises(NotFound):
        world.reactor.finish(world.home.custody.drop(call, second.id))


def test_it_outlives_trust_and_ends_with_an_administrators_word(world: FarWorld) -> None:
    _, lease = world.owner.lend()
    world.net.cut("b", "c")
    give(world, lease, block(1, 100))
    world.net.revoke("a", "b")
    world.power_loss()
    world.reactor.advance(10_000.0)
    (view,) = world.reactor.finish(world.home.custody.page(ROOT)).items
    assert (view.owner, view.attempt, view.worker) == ("c", 1, "7")
    assert "does not trust" in view.trouble
    with pytest.raises(NotLoggedIn):
        world.reactor.finish(world.home.custody.drop(Call(Principal(0, "nobody", False)), view.id))
    dropped = world.reactor.finish(world.home.custody.drop(Call(ROOT), view.id))
    assert dropped.id == view.id
    assert len(world.home.custody) == 0
    assert kinds(world) == ["taken", "dropped"]


def test_trust_that_ends_between_others_is_a_way_that_is_cut(world: FarWorld) -> None:
    _, lease = world.owner.lend()
    world.net.revoke("b", "c")
    give(world, lease, block(1, HUNDRED_KIB))
    world.reactor.advance(1000.0)
    assert "does not trust" in world.home.custody.lines()[0]
    world.net.agree("b", "c", Agreement())
    world.net.agree("c", "b", Agreement())
    world.net.heal("b", "c")
    world.reactor.run_until(lambda: not len(world.home.custody), 600.0)
    assert world.owner.bench.state(lease.job) is State.SUCCEEDED


def test_a_result_of_a_job_that_its_restored_server_does_not_know_stays_in_custody(world: FarWorld) -> None:
    """Its worker has forgotten it: nobody else has it."""
    _, known = world.owner.lend()
    undone = Lease(ids.make(1, 999), 1, 1, known.path)
    world.net.cut("b", "c")
    give(world, undone, block(1, HUNDRED_KIB))
    world.owner.bench.queue.incarnation = 2
    told: list[bool] = []
    world.home.custody.gone = lambda: told.append(world.home.custody.waits("b"))
    assert world.home.custody.waits("b")
    world.net.heal("b", "c")
    world.reactor.advance(600.0)
    assert len(world.home.custody) == 1
    assert any("restored from a backup" in line for line in world.home.custody.lines())
    assert set(told) == {False}, "nobody has to wait for it"


def test_what_the_disk_has_lost_is_said_and_the_job_runs_again(world: FarWorld) -> None:
    _, lease = world.owner.lend()
    world.net.cut("b", "c")
    give(world, lease, block(1, HUNDRED_KIB))
    world.platter.names[files_of(world)[0]].data = b"rotten"
    world.net.heal("b", "c")
    world.reactor.run_until(lambda: not len(world.home.custody), 600.0)
    assert world.owner.bench.state(lease.job) is State.WAITING


def test_an_owner_that_is_full_gets_it_later(world: FarWorld) -> None:
    _, one = world.owner.lend()
    world.net.cut("b", "c")
    give(world, one, block(1, 100))
    world.owner.full = True
    world.net.heal("b", "c")
    world.reactor.advance(60.0)
    assert len(world.home.custody) == 1
    assert "cannot take the result now" in world.home.custody.lines()[0]
    world.owner.full = False
    world.reactor.run_until(lambda: not len(world.home.custody), 600.0)
    assert world.owner.bench.state(one.job) is State.SUCCEEDED


class PowerCut(BaseException):
    """The machine is off."""


def story(world: FarWorld, cut_at: int) -> tuple[bool, bool]:
    """A result goes into custody and out again, with the power failing at the `cut_at`-th thing that the home's disk is
    asked. Whether the worker was told to forget it, and whether the power failed."""
    _, lease = world.owner.lend()
    world.net.cut("b", "c")
    left = [cut_at]

    def broken(operation: str, path: str) -> OSError | None:
        if "custody" in path or operation == "make":
            left[0] -= 1
            if left[0] < 0:
                raise PowerCut
        return None

    told = failed = False
    world.platter.broken = broken
    try:
        world.send(lease, block(1, HUNDRED_KIB))
        told = world.take(result_of(lease, block(1, HUNDRED_KIB)))
        world.net.heal("b", "c")
        world.reactor.run_until(lambda: not len(world.home.custody), 600.0)
    except (PowerCut, AssertionError):
        if left[0] >= 0:
            raise
        failed = True  # whatever was awaited does not come any more
    world.platter.broken = lambda operation, path: None
    home = world.power_loss()
    if not told:
        world.net.cut("b", "c")
        give(world, lease, block(1, HUNDRED_KIB))
    world.net.heal("b", "c")
    world.reactor.run_until(lambda: not len(home.custody), 600.0)
    assert world.owner.bench.state(lease.job) is State.SUCCEEDED, cut_at
    assert files_of(world) == [], cut_at
    assert home.custody.size == 0, cut_at
    return told, failed


def test_the_power_may_fail_at_every_write(tmp_path: Path) -> None:
    seen: set[tuple[bool, bool]] = set()
    for cut_at in range(200):
        (tmp_path / str(cut_at)).mkdir()
        world = FarWorld(tmp_path / str(cut_at))
        told, failed = story(world, cut_at)
        seen.add((told, failed))
        world.owner.bench.close()
        world.home_bench.close()
        if not failed:
            break
    assert seen == {(False, True), (True, True), (True, False)}
    assert cut_at > 15
