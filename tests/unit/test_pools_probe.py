"""A pool is looked at from one of its nodes: what that costs, what it may do, what it leaves, and what it finds in words."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from cpc import __version__
from cpc.core.allocation import Check, SeenOutcome
from cpc.core.clock import SECOND
from cpc.core.errors import Conflict, NotFound, TurnedAway
from cpc.core.pool_views import CheckView, PoolSettings, ProbeView
from cpc.core.probe import MARK, NodeReport, Tried, Way
from cpc.core.resources import GIB, Amounts
from cpc.pools import probe
from cpc.pools.facts import HOUR, Pool
from cpc.queue.job import State as JobState
from cpc.server.pools import probing
from cpc.server.principal import SERVER
from cpc.wire.identity import fingerprint_of
from tests.helpers.fake_batch import Entry
from tests.helpers.pool_world import PoolWorld
from tests.helpers.stores import sqlite_url

NOW = 1_800_000_000 * SECOND


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    made = PoolWorld(sqlite_url(tmp_path), monkeypatch)
    yield made
    made.close()


def look(world: PoolWorld, node: str = "", pool: str = "hpc") -> str:
    return world.finish(world.pools.probe(world.call(), pool, node)).allocation.id


def seen(world: PoolWorld, number: str) -> ProbeView:
    return world.finish(world.pools.probed(SERVER, number))


def started(world: PoolWorld, number: str) -> Entry:
    """Somebody waits for it, until it runs."""
    before = len(world.looks)
    asked(world, number, lambda: len(world.looks) > before)
    return world.looks[-1][0]


def asked(world: PoolWorld, number: str, true: Callable[[], object], within: int = 120) -> None:
    """Somebody asks every second how far it is, until this holds."""
    for _ in range(within):
        seen(world, number)
        if true():
            return
        world.advance(1.0)
    raise AssertionError(f"not within {within} s")


def tell(world: PoolWorld, **fields: object) -> tuple[Check, ...]:
    entry, bundle = world.looks[-1]
    given = {
        "host": entry.node,
        "node": entry.node,
        "release": __version__,
        "cores": 4,
        "memory": GIB,
        "work": "/w",
        "free": 1 << 40,
    }
    report = NodeReport(**({"clock": world.clock.now(), **given} | fields))  # type: ignore[arg-type]
    key = fingerprint_of(bundle.certificate.encode())
    return world.finish(world.probing.report(bundle.name, key, report))


def bad(checks: tuple[CheckView, ...] | tuple[Check, ...]) -> dict[str, str]:
    return {one.name: one.hint for one in checks if not one.ok}


def test_a_node_tells_what_it_finds_once_and_can_do_nothing_else(world: PoolWorld) -> None:
    world.pool(gpus=2, memory=8 << 30)
    number = look(world)
    entry = started(world, number)
    wanted = entry.wanted
    assert (wanted.nodes, wanted.cores, wanted.gpus, wanted.memory, wanted.walltime) == (1, 1, 1, probe.MEMORY, 300)
    _, bundle = world.looks[0]
    key = fingerprint_of(bundle.certificate.encode())
    with pytest.raises(TurnedAway, match="may only look"):
        world.do(lambda tx: world.bundles.admit(tx, bundle.name, key, "a worker"))
    assert not seen(world, number).done
    told = tell(world, memory=8 << 30, gpus=1)
    assert bad(told) == {}
    with pytest.raises(TurnedAway, match="has told"):
        tell(world)
    found = seen(world, number)
    assert found.done
    assert [one.text for one in found.checks] == [one.words for one in told]
    again = look(world)  # it need not be waited for that the first one has left
    world.finish(world.pools.cancel(world.call(), again, ""))
    world.system.end(entry)
    world.settle(120.0)
    assert seen(world, number).checks == found.checks
    with pytest.raises(TurnedAway, match="revoked"):
        tell(world)


def test_it_counts_against_limits_and_budget_and_teaches_nothing(world: PoolWorld) -> None:
    world.pool(max_allocations=1, budget=1000.0)
    number = look(world)
    with pytest.raises(Conflict, match=f"already: allocation {number}"):
        look(world)
    started(world, number)
    job = world.submit()
    world.advance(50.0)
    assert len(world.system.entries) == 1, "at most one allocation is allowed"
    tell(world)
    world.advance(310.0 - 50.0)  # it does not end by itself: its walltime is over
    row = world.rows()[0]
    assert not row.facts.state.live
    world.until(lambda: world.unfinished() == 0, 600.0)
    assert world.state(job) is JobState.SUCCEEDED
    learned = next(iter(world.keeper.book.pools.values())).learned
    assert sum(amount for _, amount in learned.spent) >= 250.0
    assert learned.brief.count == 0
    assert len(learned.waits) == 1, "of the worker's allocation"
    assert world.keeper.book.nodes == {}


def test_a_full_pool_is_not_looked_at_and_a_paused_one_is(world: PoolWorld) -> None:
    world.pool(max_allocations=1)
    world.seconds_per_job = 300.0
    world.submit()
    world.until(lambda: world.workers, 120.0)
    with pytest.raises(Conflict, match="pool hpc is full: at most 1 allocations"):
        look(world)
    world.settle()
    world.finish(world.pools.pause(world.call(), "hpc", "the new fan"))
    started(world, look(world))


def test_what_nobody_waits_for_is_cancelled_and_leaves_nothing(world: PoolWorld) -> None:
    world.system.delay = 10_000.0
    world.pool()
    number = look(world)
    for _ in range(30):
        world.advance(10.0)
        assert not seen(world, number).done
    assert len(world.system.alive()) == 1
    world.until(lambda: not world.system.alive(), 90.0)
    world.settle(60.0)
    (found,) = seen(world, number).checks
    assert "nobody waits any more" in found.text


def test_somebody_breaks_it_off(world: PoolWorld) -> None:
    world.pool()
    number = look(world)
    started(world, number)
    world.finish(world.pools.cancel(world.call(), number, "enough"))
    world.until(lambda: not world.system.alive(), 30.0)
    world.settle(60.0)
    assert "enough" in seen(world, number).checks[0].text


def test_it_is_found_again_after_the_server_was_killed(world: PoolWorld) -> None:
    world.system.delay = 30.0
    world.pool()
    number = look(world)
    world.until(lambda: world.system.alive(), 30.0)
    world.kill()
    world.advance(5.0)
    world.start()
    started(world, number)
    tell(world)
    assert seen(world, number).done


def test_it_is_the_node_that_was_named(world: PoolWorld) -> None:
    world.pool()
    with pytest.raises(NotFound, match="pool hpc has no node n9"):
        look(world, "n9")
    world.system.drained["n2"] = "fan"
    world.advance(60.0)
    with pytest.raises(Conflict, match=r"node n2 is drained.*nothing can be started"):
        look(world, "n2")
    assert not world.system.entries
    del world.system.drained["n2"]
    world.advance(60.0)
    number = look(world, "n2")
    assert started(world, number).node == "n2"


def test_a_job_that_waits_is_not_counted_on_it(world: PoolWorld) -> None:
    world.system.delay = 30.0
    world.pool()
    look(world)
    world.submit()
    world.until(lambda: len(world.system.entries) == 2, 10.0)
    assert [" check -c - " in one.wanted.script for one in world.system.entries.values()] == [True, False]


def test_what_the_server_writes_is_to_be_seen_on_nodes_that_share_files(world: PoolWorld, tmp_path: Path) -> None:
    world.pool(shared_files=True, work=str(tmp_path / "work"))
    number = look(world)
    started(world, number)
    mark = (tmp_path / MARK).read_text()
    assert bad(tell(world, marks=("of another time", mark))) == {}
    assert seen(world, number).done
    assert not (tmp_path / MARK).exists(), "it is taken away"
    world.system.end(world.looks[-1][0])
    world.settle(60.0)
    (tmp_path / "work").mkdir()
    number = look(world)
    started(world, number)
    assert (tmp_path / "work" / MARK).exists()
    assert "--no-shared-files" in bad(tell(world))["shared files"]


def test_looks_at_the_same_place_do_not_take_each_other_s_file_away(world: PoolWorld, tmp_path: Path) -> None:
    world.pool(shared_files=True, work=str(tmp_path / "work"))
    world.pool("other", shared_files=True, work=str(tmp_path / "scratch"))
    number = look(world)
    started(world, number)
    with pytest.raises(Conflict, match="looks at pool hpc already"):
        look(world)
    mark = (tmp_path / MARK).read_text()
    other = look(world, pool="other")
    assert bad(tell(world, marks=(mark,))) == {}
    assert seen(world, number).done
    assert (tmp_path / MARK).exists(), "somebody else still looks"
    started(world, other)
    assert bad(tell(world, marks=((tmp_path / MARK).read_text(),))) == {}
    assert seen(world, other).done
    assert not (tmp_path / MARK).exists()


def test_what_others_have_laid_where_the_server_writes_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "key"
    victim.write_text("secret")
    victim.chmod(0o600)
    place = tmp_path / "shared"
    place.mkdir()
    laid = 'ln -s "$4" "$1/$3.$$"; ln -s "$4" "$1/$3.$2"\n'
    subprocess.run(["sh", "-c", laid + probing._WRITE, "sh", place, "mark", MARK, victim], check=False)
    assert victim.read_text() == "secret"
    assert victim.stat().st_mode & 0o777 == 0o600


def test_a_look_whose_pool_was_forgotten_says_so(world: PoolWorld) -> None:
    world.pool()
    number = look(world)
    started(world, number)
    next(iter(world.keeper.hands.values())).trouble = "away"
    world.finish(world.pools.forget(world.call(), "hpc"))
    (found,) = seen(world, number).checks
    assert found.name == "request"
    assert found.text.endswith("had told anything: its pool is forgotten by server: it may still run")


#: exit code → (the check, words in it, words in what to do)
ENDS = {
    11: ("way to the server", "n1 cannot resolve 127.0.0.1", "cpc-server config host"),
    12: ("way to the server", "nothing listens on port 13807", "config listen"),
    13: ("way to the server", "nothing answers at 127.0.0.1 port 13807", "firewall"),
    14: ("way to the server", "is not this server", "something else"),
    15: ("way to the server", "no way to 127.0.0.1", "ip route get"),
    16: ("way to the server", "turned n1 away", "cpc-server log"),
    127: (
        "worker program",
        "cpc-worker, or a program of the pool's --wrap or --prologue, is not there on n1",
        "--worker PATH",
    ),
    126: ("worker program", "cannot be run on n1", "--worker PATH"),
    1: ("worker program", "of an older release", "this server's release"),
    99: ("worker program", "ended with exit code 99", "--output FILE"),
    0: ("worker program", "ended with exit code 0 and told nothing", "--output FILE"),
}


@pytest.mark.parametrize("code", ENDS)
def test_a_node_that_cannot_tell_is_understood_by_how_it_ended(world: PoolWorld, code: int) -> None:
    name, words, hint = ENDS[code]
    world.pool()
    number = look(world)
    entry = started(world, number)
    entry.exit = code
    world.system.end(entry, SeenOutcome.FAILED if code else SeenOutcome.OK, "NonZeroExitCode" if code else "")
    world.settle(60.0)
    (found,) = seen(world, number).checks
    assert (found.name, found.ok) == (name, False)
    assert words in found.text
    assert hint in found.hint
    assert world.keeper.book.nodes == {}, "no node is left out for it"


def test_what_is_printed_is_kept_where_the_pool_says(world: PoolWorld) -> None:
    world.pool(output="/shared/%j.log")
    number = look(world)
    entry = started(world, number)
    entry.exit = 99
    world.system.end(entry, SeenOutcome.FAILED)
    world.settle(60.0)
    assert seen(world, number).checks[0].hint == "read /shared/%j.log on n1"


def test_a_refusal_and_a_hang_are_told_apart(world: PoolWorld) -> None:
    world.pool()
    world.system.trouble.append(("submit", "no"))
    number = look(world)
    world.settle(60.0)
    assert "did not take it" in seen(world, number).checks[0].text
    number = look(world)
    started(world, number)
    asked(world, number, lambda: seen(world, number).done, 400)
    assert "came to no end" in seen(world, number).checks[0].text


POOL = Pool(
    number=1,
    name="hpc",
    scheduler="slurm",
    each=Amounts(cores=8, memory=16 * GIB, gpus=1),
    programs=(("gromacs", "2024"),),
)
FINE = NodeReport(
    host="n1.lab", node="n1", release="3.0", clock=NOW, platform="smp", cores=8, memory=16 * GIB, gpus=1, work="/w", free=1 << 40,
    programs=(("gromacs", "2024"), ("python", "3")), munge="ok", marks=("m",), tried=(Tried(host="head", port=13807, way=0),),
)  # fmt: skip


def judged(pool: Pool | None = POOL, **changes: object) -> dict[str, Check]:
    return {one.name: one for one in probe.judge(replace(FINE, **changes), pool, "m", "3.0", NOW)}


def test_a_node_on_which_all_is_well() -> None:
    assert all(one.ok and not one.doubt for one in judged().values())
    assert list(judged()) == [
        "way to the server", "clocks", "worker program", "run directory", "shared files", "size", "gpus", "programs", "munge",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "name", "ok", "words", "hint"),
    [
        ({"clock": NOW + int(40 * SECOND)}, "clocks", True, "the clock of n1 is 40s ahead of", "NTP"),
        ({"clock": NOW - int(HOUR * SECOND)}, "clocks", False, "the clock of n1 is 1h 00m behind", "certificates are refused"),
        ({"release": "2.9"}, "worker program", True, "of release 2.9; this server is 3.0", "install the same"),
        ({"platform_trouble": "no srun"}, "platform", False, "platform smp cannot be used on n1: no srun", "hpc --platform"),
        ({"work_trouble": "Permission denied"}, "run directory", False, "cannot keep files in /w: Permission", "--work DIR"),
        ({"free": 1000}, "run directory", True, "1000 B free", "make room"),
        ({"marks": ("other",)}, "shared files", False, "n1 does not see in /w", "--no-shared-files"),
        ({"cores": 4}, "size", False, "n1 has 4 cores; the pool says 8", "--cores N"),
        ({"memory": 8 * GIB}, "size", False, "8.0 GiB of memory; the pool says 16.0 GiB", "--memory SIZE"),
        ({"gpus": 0}, "gpus", False, "sees no GPU on n1", "nvidia-smi"),
        ({"programs": ()}, "programs", False, "n1 has no gromacs 2024", "--prologue"),
        ({"munge": "STATUS: Invalid credential"}, "munge", True, "no credential on n1: STATUS", "munged"),
        (
            {"tried": (Tried(host="old", port=1, way=Way.UNKNOWN_HOST), *FINE.tried)}, "way to the server", True,
            "but n1 cannot resolve old", "config host",
        ),
    ],
)  # fmt: skip
def test_what_is_not_well_is_said_with_what_to_do(
    changes: dict[str, object], name: str, ok: bool, words: str, hint: str
) -> None:
    found = judged(**changes)
    assert found[name].ok is ok
    assert words in found[name].words
    assert hint in found[name].hint
    assert found[name].doubt is ok
    others = [one.name for one in found.values() if (not one.ok or one.doubt) and one.name != name]
    assert others == []


def test_packages_on_a_node_have_their_say(world: PoolWorld) -> None:
    world.pool()
    number = look(world)
    started(world, number)
    tell(
        world,
        further=(
            ("scratch", Check("quota", False, "used up\0", "remove what is old")),
            ("gpu", Check("heat", True, "warm")),
        ),
    )
    found = {one.name: one for one in seen(world, number).checks}
    assert (found["scratch, quota"].ok, found["scratch, quota"].hint) == (False, "remove what is old")
    assert found["scratch, quota"].text == "used up\N{REPLACEMENT CHARACTER} (on n1)"
    assert found["gpu, heat"].ok


def test_a_program_that_was_started_by_hand_is_not_held_against_a_pool() -> None:
    found = {one.name for one in probe.judge(FINE, None, "", "3.0", NOW)}
    assert found == {"way to the server", "clocks", "worker program", "run directory", "munge"}


def test_a_pool_that_cannot_be_used_is_not_looked_at(world: PoolWorld) -> None:
    world.pool()
    with pytest.raises(NotFound, match="no pool 'other'"):
        look(world, pool="other")
    world.finish(world.pools.add(world.call(), "x", "fake", PoolSettings(), True))
    with pytest.raises(NotFound, match="there is no look"):
        seen(world, "99")
