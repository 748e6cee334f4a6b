"""The spool: what `add` answered is there after anything that a disk which honours fsync may do."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred

from cpc.core.errors import Damaged
from cpc.core.lease import Lease
from cpc.core.offload import inline
from cpc.spool.real_disk import RealDisk
from cpc.spool.spool import LOG, Spool
from tests.helpers.memory_disk import MemoryDisk, Platter


def lease(number: int) -> Lease:
    return Lease(number, 1, 1)


def now(work: object) -> object:
    """The value of a coroutine that needs no waiting."""
    done: list[object] = []
    deferred = ensureDeferred(work)  # type: ignore[call-overload]
    deferred.addCallback(done.append)
    failures: list[object] = []
    deferred.addErrback(failures.append)
    if failures:
        failures[0].raiseException()  # type: ignore[attr-defined]
    assert done, "it waits"
    return done[0]


@pytest.fixture
def disk() -> MemoryDisk:
    found = MemoryDisk(Platter(lambda: 0.0))
    found.make_directory("/w")
    return found


def test_what_was_added_survives_a_power_loss(disk: MemoryDisk) -> None:
    spool = Spool.open(disk, "/w", inline)
    now(spool.add(lease(1), b"one"))
    now(spool.add(lease(2), b"two" * 1000))
    disk.platter.power_loss()
    again = Spool.open(disk, "/w", inline)
    assert again.leases() == (lease(1), lease(2))
    assert again.read(lease(2)) == b"two" * 1000
    assert again.damage == ()


def test_what_was_forgotten_stays_forgotten(disk: MemoryDisk) -> None:
    spool = Spool.open(disk, "/w", inline)
    now(spool.add(lease(1), b"one"))
    now(spool.add(lease(2), b"two"))
    spool.forget(lease(1))
    assert Spool.open(disk, "/w", inline).leases() == (lease(2),)


def test_all_that_wait_share_one_fsync(disk: MemoryDisk) -> None:
    held: list[tuple[object, Deferred[None]]] = []

    async def slow(work: object) -> object:
        gate: Deferred[None] = Deferred()
        held.append((work, gate))
        await gate
        return work()  # type: ignore[operator]

    spool = Spool.open(disk, "/w", slow)  # type: ignore[arg-type]
    durable = [ensureDeferred(spool.add(lease(number), b"x")) for number in range(20)]
    assert not any(each.called for each in durable)
    before = disk.platter.syncs
    held.pop()[1].callback(None)
    assert [each.called for each in durable] == [True] + [False] * 19
    held.pop()[1].callback(None)
    assert all(each.called for each in durable)
    assert disk.platter.syncs - before == 2
    assert len(Spool.open(disk, "/w", inline)) == 20


def test_a_full_disk_is_told_and_leaves_nothing_half_written(disk: MemoryDisk) -> None:
    spool = Spool.open(disk, "/w", inline)
    now(spool.add(lease(1), b"one"))
    disk.platter.capacity = disk.platter.used() + 20
    with pytest.raises(OSError, match="No space"):
        now(spool.add(lease(2), b"two" * 100))
    disk.platter.capacity = 1 << 30
    now(spool.add(lease(3), b"three"))
    again = Spool.open(disk, "/w", inline)
    assert again.leases() == (lease(1), lease(3))
    assert again.read(lease(3)) == b"three"
    assert again.damage == ()


def test_a_failed_fsync_is_not_an_answer(disk: MemoryDisk) -> None:
    spool = Spool.open(disk, "/w", inline)
    disk.platter.broken = lambda operation, path: OSError(errno.EIO, "broken") if operation == "sync" else None
    with pytest.raises(OSError, match="broken"):
        now(spool.add(lease(1), b"one"))
    disk.platter.broken = lambda operation, path: None
    assert spool.leases() == ()


def test_a_tail_that_was_cut_short_is_reported_and_kept_aside(disk: MemoryDisk) -> None:
    spool = Spool.open(disk, "/w", inline)
    now(spool.add(lease(1), b"one"))
    now(spool.add(lease(2), b"two"))
    whole = disk.read(f"/w/{LOG}")
    disk.write(f"/w/{LOG}", whole[:-2])
    again = Spool.open(disk, "/w", inline)
    assert again.leases() == (lease(1),)
    assert len(again.damage) == 1
    assert "spool.log" in again.damage[0]
    assert disk.read(f"/w/{LOG}.damaged-1") == whole[:-2]
    assert Spool.open(disk, "/w", inline).damage == ()


def test_a_flipped_bit_costs_one_record_only(disk: MemoryDisk) -> None:
    spool = Spool.open(disk, "/w", inline)
    for number in range(5):
        now(spool.add(lease(number), b"body %d " % number * 50))
    data = bytearray(disk.read(f"/w/{LOG}"))
    data[data.index(b"body 2 ")] ^= 4
    disk.write(f"/w/{LOG}", bytes(data))
    again = Spool.open(disk, "/w", inline)
    assert again.leases() == (lease(0), lease(1), lease(3), lease(4))
    assert again.read(lease(4)) == b"body 4 " * 50
    assert again.damage
    now(again.add(lease(9), b"nine"))
    assert Spool.open(disk, "/w", inline).read(lease(9)) == b"nine"


def test_a_bit_that_flips_while_the_worker_runs_is_seen_when_it_is_read(disk: MemoryDisk) -> None:
    spool = Spool.open(disk, "/w", inline)
    now(spool.add(lease(1), b"one" * 100))
    data = bytearray(disk.read(f"/w/{LOG}"))
    data[-1] ^= 1
    disk.write(f"/w/{LOG}", bytes(data))
    with pytest.raises(Damaged, match=r"spool\.log"):
        spool.read(lease(1))


def test_the_log_shrinks_when_most_of_it_is_handed_in(disk: MemoryDisk) -> None:
    spool = Spool.open(disk, "/w", inline)
    for number in range(50):
        now(spool.add(lease(number), bytes(100_000)))
    for number in range(48):
        spool.forget(lease(number))
    assert len(disk.read(f"/w/{LOG}")) < 1 << 20
    assert spool.read(lease(49)) == bytes(100_000)
    now(spool.add(lease(60), b"new"))
    again = Spool.open(disk, "/w", inline)
    assert again.leases() == (lease(48), lease(49), lease(60))
    assert again.read(lease(60)) == b"new"


def test_on_a_real_disk(tmp_path: object) -> None:
    spool = Spool.open(RealDisk(), str(tmp_path), inline)
    now(spool.add(lease(1), b"one"))
    now(spool.add(lease(2), b""))
    spool.forget(lease(1))
    again = Spool.open(RealDisk(), str(tmp_path), inline)
    assert again.leases() == (lease(2),)
    assert again.read(lease(2)) == b""


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.binary(max_size=200)), max_size=25),
    st.integers(0, 3000),
    st.integers(1, 60),
)
def test_no_damage_makes_it_answer_what_was_never_added(
    acts: list[tuple[int, bool, bytes]], where: int, length: int
) -> None:
    disk = MemoryDisk(Platter(lambda: 0.0))
    disk.make_directory("/w")
    spool = Spool.open(disk, "/w", inline)
    added: dict[Lease, set[bytes]] = {}
    for number, forget, body in acts:
        if forget:
            spool.forget(lease(number))
        else:
            now(spool.add(lease(number), body))
            added.setdefault(lease(number), set()).add(body)
    if disk.stat(f"/w/{LOG}") is not None:
        data = bytearray(disk.read(f"/w/{LOG}"))
        data[where : where + length] = b"\xff" * len(data[where : where + length])
        disk.write(f"/w/{LOG}", bytes(data))
    again = Spool.open(disk, "/w", inline)
    for each in again.leases():
        assert again.read(each) in added[each]
