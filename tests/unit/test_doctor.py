"""`cpc-server doctor`: what packages add to it, and what it says of pools and keys on the server's own machine."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from cpc.api import Check, further
from cpc.core.chance import SystemChance
from cpc.core.clock import SystemClock
from cpc.core.errors import Refused
from cpc.core.pool_views import PoolSettings
from cpc.pools.facts import Pool
from cpc.server import offline, setup, upkeep
from cpc.server.config import Config, Place
from cpc.server.doctor import Doctor, Finding, Level
from cpc.server.pools import schedulers
from cpc.server.pools.means import Means, pack
from cpc.server.pools.settings import apply
from cpc.store import pools
from cpc.store.transaction import Tx
from tests.helpers.fake_batch import SYSTEMS, BatchSystem, FakeBatch
from tests.simulation.clock import VirtualReactor


def scratch() -> Iterator[Check]:
    yield Check("scratch", True, "12 GiB are free")
    yield Check("quota", False, "the quota is used up", "remove what is old")
    yield Check("age", True, "the disk is old", "buy another one", doubt=True)


def broken() -> Iterator[Check]:
    yield Check("first", True, "this much is well")
    raise RuntimeError("no such thing")


def refused() -> Iterator[Check]:
    raise Refused("the licence server says no", "ask for a licence")


def rubbish() -> list[str]:
    return ["well"]


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {name: f"{__name__}:{name}" for name in ("scratch", "broken", "refused", "rubbish")}
    values["gone"] = "no_such_package:look"
    points = [metadata.EntryPoint(name, value, further.SERVER) for name, value in values.items()]
    find = metadata.entry_points
    monkeypatch.setattr(
        metadata, "entry_points", lambda **which: points if which == {"group": further.SERVER} else find(**which)
    )


@pytest.mark.usefixtures("packages")
def test_packages_bring_checks_and_a_broken_one_keeps_none_from_being_made() -> None:
    found = {(package, one.name): one for package, one in further.checks(further.SERVER)}
    assert [key for key, one in found.items() if one.ok] == [
        ("broken", "first"), ("scratch", "scratch"), ("scratch", "age"),
    ]  # fmt: skip
    assert found["scratch", "quota"].hint == "remove what is old"
    assert "RuntimeError: no such thing" in found["broken", "check"].words
    assert found["refused", "check"].words == "the licence server says no"
    assert "str is not a cpc.api.Check" in found["rubbish", "check"].words
    assert "no_such_package" in found["gone", "check"].words


@pytest.mark.usefixtures("packages")
def test_the_doctor_of_a_server_says_what_nodes_and_others_would_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(schedulers.BUILT_IN, FakeBatch.name, "tests.helpers.fake_batch:FakeBatch")
    monkeypatch.setitem(SYSTEMS, "main", BatchSystem(VirtualReactor(), address="192.0.2.7"))
    base, clock, chance = tmp_path / "home", SystemClock(), SystemChance()
    place, run_dir = Place.named(base, "lab"), tmp_path / "run"
    config = Config(
        name="lab", host="127.0.0.1", listen=("127.0.0.1",), port=1, client_port=2, run_dir=str(run_dir),
        database=f"sqlite:///{run_dir}/copernicus.db",
    )  # fmt: skip
    setup.make(base, place, config, "correct horse battery", clock, chance, lambda _: False)
    key = tmp_path / "site.key"
    key.write_text("key")
    key.chmod(0o644)

    def unit(tx: Tx) -> None:
        facts, means = apply(tx, PoolSettings(shared_files=True), Pool(number=0, name="hpc", scheduler="fake"), Means())
        pools.add(tx, facts, pack(means))

    with offline.services(config, upkeep.authority(place, clock, chance), clock, chance) as stopped:
        offline.wait(stopped._store.write(unit))
        stopped.set("site_certificate", str(place.certificate_file))
        stopped.set("site_key", str(key))
    found = list(Doctor(base, place, clock, chance).examine())
    assert said(found, "pool hpc, way to the server: the server listens on 127.0.0.1 only").level is Level.FAIL
    assert said(found, "pool hpc, shared files").level is Level.FAIL
    assert said(found, "pool hpc, alive").level is Level.OK
    assert said(found, f"{key} can be used by other users").todo == f"chmod 600 {key}"
    assert said(found, "scratch, quota").todo == "remove what is old"
    assert said(found, "scratch, age").level is Level.WARN
    assert said(found, "pool hpc, queue").level is Level.OK, "whether such a request could be granted"


def said(found: list[Finding], words: str) -> Finding:
    (one,) = [one for one in found if one.text.startswith(words)]
    return one
