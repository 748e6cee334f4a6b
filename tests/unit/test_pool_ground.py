"""What the server's own machine says against a pool: nodes that cannot find it, and files that they do not share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from cpc.api.scheduler import Ran
from cpc.core.allocation import Check, NodeSeen, NodeState
from cpc.core.errors import Unavailable
from cpc.core.pool_views import PoolSettings
from cpc.pools.facts import Pool
from cpc.server.offline import wait
from cpc.server.pools import offline
from cpc.server.pools.ground import Ground
from cpc.server.pools.means import Means
from cpc.server.principal import SERVER
from tests.helpers.pool_world import PoolWorld
from tests.helpers.stores import sqlite_url

#: An address that is given to nobody (RFC 5737).
ELSEWHERE = "192.0.2.7"
HERE = "127.0.0.1"
EVERYWHERE = ("0.0.0.0",)


def looked(
    host: str, listen: tuple[str, ...], *addresses: str, means: Means | None = None, shared: bool = False
) -> dict[str, Check]:
    nodes = [NodeSeen(name=f"n{i}", state=NodeState.IDLE, address=one) for i, one in enumerate(addresses)]
    pool = Pool(number=1, name="hpc", scheduler="slurm", shared_files=shared)
    ground = Ground(host, 13807, listen)
    return {one.name: one for one in wait(ground.look(offline.run, pool, means or Means(), nodes))}


@pytest.mark.parametrize(
    ("host", "listen", "says"),
    [
        ("example.org", (HERE, "::1"), "listens on 127.0.0.1 and ::1 only: workers on n1 cannot reach it"),
        ("localhost", EVERYWHERE, "workers on n1 are sent to localhost, which is "),
        (HERE, EVERYWHERE, "are sent to 127.0.0.1, which is 127.0.0.1 here: their own machine"),
        ("no-such-host.invalid", EVERYWHERE, "a name that cannot be resolved"),
    ],
)
def test_a_server_that_nodes_cannot_find_is_named(host: str, listen: tuple[str, ...], says: str) -> None:
    found = looked(host, listen, HERE, ELSEWHERE)["way to the server"]
    assert not found.ok
    assert says in found.words
    assert found.hint.startswith("cpc-server config ")


def test_nodes_of_this_machine_find_a_server_that_listens_on_loopback() -> None:
    assert looked("localhost", (HERE,), HERE, "127.0.0.2", "localhost") == {}
    assert looked("localhost", (HERE,)) == {}


def test_an_address_of_others_is_not_said_to_be_wrong() -> None:
    found = looked("192.0.2.1", EVERYWHERE, ELSEWHERE)["way to the server"]
    assert found.ok
    assert "192.0.2.1:13807" in found.words


def test_files_that_nodes_are_only_said_to_share(tmp_path: Path) -> None:
    assert "$TMPDIR" in looked("192.0.2.1", EVERYWHERE, ELSEWHERE, shared=True)["shared files"].words
    mine = Means(work=str(tmp_path / "not" / "yet"))
    found = looked("192.0.2.1", EVERYWHERE, ELSEWHERE, means=mine, shared=True)["shared files"]
    assert not found.ok
    assert "which n0 does not see" in found.words
    assert looked("192.0.2.1", EVERYWHERE, HERE, means=mine, shared=True)["shared files"].ok
    assert "shared files" not in looked("192.0.2.1", EVERYWHERE, ELSEWHERE, means=mine)
    other = Means(work="/no-such-root-of-anything/work")
    found = looked("192.0.2.1", EVERYWHERE, ELSEWHERE, means=other, shared=True)["shared files"]
    assert found.ok, "what this machine does not see may be right"
    assert "not seen from here" in found.words


def test_a_worker_program_that_is_missing_on_what_is_shared_is_named(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "cpc-worker"
    program.parent.mkdir()
    means = Means(work=str(tmp_path), worker=str(program))
    found = looked("localhost", (HERE,), HERE, means=means, shared=True)
    assert "is not there or cannot be run" in found["worker program"].words
    program.write_text("#!/bin/sh\n")
    assert not looked("localhost", (HERE,), HERE, means=means, shared=True)["worker program"].ok
    program.chmod(0o755)
    assert "worker program" not in looked("localhost", (HERE,), HERE, means=means, shared=True)
    private = Means(work=str(tmp_path), worker="/no-such-root-of-anything/cpc-worker")
    assert "worker program" not in looked("localhost", (HERE,), HERE, means=private, shared=True), "only nodes have it"


def test_a_file_system_that_does_not_answer_is_a_finding() -> None:
    async def stuck(
        argv: Sequence[str], stdin: str = "", timeout: float = 30.0, env: Mapping[str, str] | None = None
    ) -> Ran:
        raise Unavailable(f"{argv[0]} did not end within {timeout:g} s")

    pool = Pool(number=1, name="hpc", scheduler="slurm", shared_files=True)
    ground = Ground("192.0.2.1", 13807, EVERYWHERE)
    (found,) = wait(ground.look(stuck, pool, Means(work="/nfs/work"), ()))
    assert not found.ok
    assert "/nfs/work does not answer" in found.words


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    made = PoolWorld(sqlite_url(tmp_path), monkeypatch)
    yield made
    made.close()


def test_a_pool_whose_nodes_cannot_find_the_server_is_added_with_a_warning(world: PoolWorld) -> None:
    world.system.address = ELSEWHERE
    plan = world.finish(world.pools.plan(SERVER, "hpc", "fake", PoolSettings()))
    assert [one.ok for one in plan.checks] == [True]
    assert [one.name for one in plan.warnings if not one.ok] == ["way to the server"]
    made = world.finish(world.pools.add(world.call(), "hpc", "fake", PoolSettings(), False))
    assert len(made.warnings) == 1
    assert "\n" not in made.warnings[0]
    assert "listens on 127.0.0.1 only" in made.warnings[0]
    assert world.finish(world.pools.set(world.call(), "hpc", PoolSettings(cores=2), False)).warnings == made.warnings
    checks = world.finish(world.pools.doctor(SERVER, "hpc")).items
    assert [one.name for one in checks if not one.ok] == ["way to the server"]
    world.system.address = HERE
    assert world.finish(world.pools.set(world.call(), "hpc", PoolSettings(cores=1), False)).warnings == ()
    assert all(one.ok for one in world.finish(world.pools.doctor(SERVER, "hpc")).items)
