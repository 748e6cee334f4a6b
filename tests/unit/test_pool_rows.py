"""Pools and allocations on both databases: what was written is read, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from msgspec.structs import replace

from cpc.core.resources import Amounts
from cpc.pools.allocation import Allocation, Reason, State
from cpc.pools.facts import Learned, NodeRecord, Pool, Setback
from cpc.store import allocations, bundles, pools, workers
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.store.workers import WorkerRow
from tests.helpers.stores import result

T = TypeVar("T")
POOL = Pool(
    number=0, name="h-p c".replace(" ", "."), scheduler="slurm", each=Amounts(cores=4, memory=1 << 40), projects={7: 16},
    environment={"A": "ü"}, programs=(("gromacs/mdrun", "2022.5"),), paused="",
)  # fmt: skip


def do(store: Store, unit: Callable[[Tx], T]) -> T:
    return result(store.write(unit))


def allocation(token: str, pool: int, state: State = State.ASKED) -> Allocation:
    return Allocation(token=token, pool=pool, state=state, asked_at=1.5, each=Amounts(cores=3), words="wörter")


def test_a_pool_comes_back_as_it_was_set(store: Store) -> None:
    made = do(store, lambda tx: pools.add(tx, POOL, b"means"))
    found = do(store, lambda tx: pools.by_name(tx, "h_p.c"))
    assert found == made
    assert found is not None
    assert found.facts == replace(POOL, number=made.id)
    learned = Learned(refused=Setback(3, 5.0, "no"), waits=(1.0, 2.0), spent=((4, 9.0),))
    do(store, lambda tx: pools.learn(tx, made.id, learned))
    do(store, lambda tx: pools.change(tx, made.id, replace(POOL, idle=5.0), b"other"))
    again = do(store, pools.each)
    assert [(row.learned, row.facts.idle, row.means) for row in again] == [(learned, 5.0, b"other")]


def test_a_removed_pool_gives_its_name_free_and_keeps_its_ledger(store: Store) -> None:
    first = do(store, lambda tx: pools.add(tx, POOL, b""))
    do(store, lambda tx: pools.spend(tx, first.id, 10.0))
    do(store, lambda tx: pools.spend(tx, first.id, 2.5))
    do(store, lambda tx: pools.put_node(tx, NodeRecord(pool=first.id, node="n1", failures=2)))
    do(store, lambda tx: pools.remove(tx, first.id))
    second = do(store, lambda tx: pools.add(tx, POOL, b""))
    assert second.id != first.id
    assert do(store, lambda tx: [row.id for row in pools.each(tx)]) == [second.id]
    assert do(store, pools.nodes) == []
    days = do(store, lambda tx: pools.days(tx, first.id, 0))
    assert [(day.runs, day.core_seconds) for day in days] == [(2, 12.5)]
    assert do(store, lambda tx: pools.days(tx, second.id, 0)) == []


def test_a_node_without_failures_leaves_no_row(store: Store) -> None:
    record = NodeRecord(pool=1, node="n1", failures=1, failed_at=3.0, words="x")
    do(store, lambda tx: pools.put_node(tx, record))
    do(store, lambda tx: pools.put_node(tx, replace(record, failures=2)))
    assert do(store, pools.nodes) == [replace(record, failures=2)]
    do(store, lambda tx: pools.put_node(tx, replace(record, failures=0)))
    assert do(store, pools.nodes) == []


def test_allocations_are_found_by_id_token_and_bundle_and_live_ones_alone(store: Store) -> None:
    def unit(tx: Tx) -> list[allocations.AllocationRow]:
        return [
            allocations.add(tx, tx.next("allocation"), allocation(f"t{number}", number % 2 + 1), number, "why")
            for number in range(5)
        ]

    made = do(store, unit)
    assert do(store, allocations.live) == made
    ended = replace(made[1].facts, state=State.ENDED, reason=Reason.LEFT)
    row = allocations.AllocationRow(made[1].id, 2, "77", 1, made[1].asked, made[1].asked + 5, ended, "why")
    do(store, lambda tx: allocations.put(tx, row))
    assert do(store, allocations.live) == [made[0], *made[2:]]
    assert do(store, lambda tx: allocations.get(tx, row.id)) == row
    assert do(store, lambda tx: allocations.by_token(tx, "t1")) == row
    assert do(store, lambda tx: allocations.by_bundle(tx, 1)) == row
    assert do(store, lambda tx: allocations.by_token(tx, "t9")) is None
    newest = do(store, lambda tx: allocations.page(tx, 0, 2))
    assert [one.token for one in newest] == ["t4", "t3"]
    rest = do(store, lambda tx: allocations.page(tx, newest[-1].id, 10, 1))
    assert [one.token for one in rest] == ["t2", "t0"]


def test_what_is_forgotten_takes_its_bundle_and_workers_along(store: Store) -> None:
    def unit(tx: Tx) -> tuple[int, int]:
        mine = bundles.add(tx, "t", bundles.ALLOCATION, user=None, token=None, fingerprint="f", expires=9)
        other = bundles.add(tx, "o", bundles.WORKER, user=None, token=None, fingerprint="g", expires=9)
        for number, bundle in enumerate((mine.id, other.id)):
            workers.add(tx, WorkerRow(number + 1, f"w{number}", f"k{number}", bundle, "", 0, 0, "", 0, b"", None, None))
        row = allocations.add(tx, tx.next("allocation"), allocation("t", 1), mine.id, "")
        done = allocations.AllocationRow(row.id, 1, "", mine.id, row.asked, row.asked, row.facts, "")
        allocations.put(tx, done)
        allocations.add(tx, tx.next("allocation"), allocation("u", 1), other.id, "")
        return mine.id, other.id

    mine, other = do(store, unit)
    assert do(store, lambda tx: allocations.forget(tx, tx.now + 1, 10)) == 1
    assert do(store, lambda tx: bundles.by_id(tx, mine)) is None
    assert do(store, lambda tx: [workers.get(tx, number) is None for number in (1, 2)]) == [True, False]
    assert do(store, lambda tx: bundles.by_id(tx, other)) is not None
    assert do(store, lambda tx: [row.token for row in allocations.live(tx)]) == ["u"]


def test_bundles_of_allocations_are_not_listed(store: Store) -> None:
    def unit(tx: Tx) -> list[str]:
        bundles.add(tx, "t", bundles.ALLOCATION, user=None, token=None, fingerprint="f", expires=1 << 60)
        bundles.add(tx, "lab", bundles.WORKER, user=None, token=None, fingerprint="g", expires=1 << 60)
        assert [row.name for row in bundles.expiring(tx, 1 << 61)] == ["lab"]
        return [row.name for row in bundles.page(tx, 0, 10)]

    assert do(store, unit) == ["lab"]


def test_keys_of_ended_allocations_are_not_kept_in_memory(store: Store) -> None:
    def unit(tx: Tx) -> dict[str, str]:
        for number, role in enumerate((bundles.ALLOCATION, bundles.WORKER)):
            made = bundles.add(tx, f"b{number}", role, user=None, token=None, fingerprint=f"f{number}", expires=1 << 60)
            bundles.revoke(tx, made.id)
            workers.add(tx, WorkerRow(number + 1, f"w{number}", f"k{number}", made.id, "", 0, 0, "", 0, b"", None, 5))
        return bundles.revoked_keys(tx)

    assert do(store, unit) == {"f1": "b1", "k1": "w1"}
