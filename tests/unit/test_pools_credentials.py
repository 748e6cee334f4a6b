"""Credentials of allocations: bound to them, and over with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core.errors import TurnedAway
from cpc.server import joining
from cpc.server.bundles import RESTARTS
from cpc.store import allocations, bundles
from cpc.wire.identity import Name, Role, fingerprint_of
from tests.helpers.pool_world import PoolWorld
from tests.helpers.stores import sqlite_url


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    made = PoolWorld(sqlite_url(tmp_path), monkeypatch)
    yield made
    made.close()


def test_credentials_end_with_the_allocation(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    world.submit(1)
    world.until(lambda: world.workers)
    worker = next(iter(world.workers.values()))
    bundle = worker.bundle
    assert bundle.role == "allocation"
    assert bundle.pool == "hpc"
    world.settle()
    key = fingerprint_of(bundle.certificate.encode())
    with pytest.raises(TurnedAway, match="revoked"):
        world.do(lambda tx: world.bundles.admit(tx, bundle.name, key, "another"))
    assert world.bundles.refusal(Name(bundle.server, Role.BUNDLE, bundle.name), key)
    world.advance(2 * 3600.0)
    world.submit(1)
    world.settle()
    assert not world.bundles.refusal(Name(bundle.server, Role.BUNDLE, bundle.name), key), "memory is bounded"
    with pytest.raises(TurnedAway, match="revoked"):
        world.do(lambda tx: world.bundles.admit(tx, bundle.name, key, "another"))
    with pytest.raises(TurnedAway, match="revoked"):
        world.do(lambda tx: joining.worker(tx, worker.name))


def test_a_bundle_enrols_no_more_workers_than_its_nodes_explain(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    world.submit(1)
    world.until(lambda: any(worker.session for worker in world.workers.values()))
    bundle = next(iter(world.workers.values())).bundle
    key = fingerprint_of(bundle.certificate.encode())

    def enrol(name: str) -> None:
        world.do(lambda tx: joining.enrolled(tx, name, name, world.bundles.admit(tx, bundle.name, key, name)))

    for number in range(RESTARTS):
        enrol(f"copy {number}")
    enrol("copy 0")  # the same key again is no further use
    with pytest.raises(TurnedAway, match="more than its nodes explain"):
        enrol("one too many")


def test_old_allocations_are_forgotten_with_their_credentials(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    world.submit(1)
    world.settle()
    row = world.rows()[0]
    assert row.ended is not None
    assert world.do(lambda tx: allocations.forget(tx, row.ended, 100)) == 0  # type: ignore[arg-type]
    assert world.do(lambda tx: allocations.forget(tx, row.ended + 1, 100)) == 1  # type: ignore[operator]
    assert world.rows() == []
    assert world.do(lambda tx: bundles.by_id(tx, row.bundle)) is None
