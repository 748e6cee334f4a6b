"""The Slurm plugins on a real Slurm with accounting: what is known of an allocation when slurmctld has forgotten it."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence

import pytest
import pytest_twisted

from cpc.api import Handle, Scheduler, Seen, SeenOutcome, SeenState
from cpc.api.scheduler_suite import Rig
from cpc.core.clock import SECOND
from cpc.plugins.schedulers.slurm_rest import SlurmRest
from tests.helpers.slurm import ACCOUNTING, Cluster, needed, wait_for
from tests.helpers.slurm_rig import rig_for, submitted


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    needed(*ACCOUNTING, "slurmrestd")
    running = Cluster(nodes=2, accounting=True, rest=True)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def rest(cluster: Cluster, rig: Rig) -> Scheduler:
    token = cluster.base / "token"
    token.touch(0o600)
    token.write_text(cluster.token())
    return SlurmRest(rig.tools, {"url": cluster.rest_url, "user": getpass.getuser(), "token_file": str(token)})


def recorded(cluster: Cluster, state: str) -> int:
    out = cluster.command(
        "sacct", "--allocations", "--noheader", "--parsable2", "--format=State", "--starttime=now-1hour"
    )
    return sum(line.startswith(state) for line in out.splitlines())


def facts(seen: Sequence[Seen]) -> list[tuple[str, SeenOutcome | None, int]]:
    return [(one.native, one.outcome, one.exit) for one in seen]


@pytest_twisted.ensureDeferred
async def test_accounting_knows_how_it_ended_when_slurmctld_has_forgotten(cluster: Cluster) -> None:
    rig = rig_for(cluster, "past")
    scheduler = rig.make()
    begin = rig.tools.clock.now() - 2 * SECOND
    fine = await submitted(rig, "exit 0")
    bad = await submitted(rig, "exit $((40 + CPC_ALLOCATION_INDEX))", count=2)
    killed = await submitted(rig, "kill -KILL $$")
    cancelled = await submitted(rig, "exec sleep 600")
    await rig.until(scheduler, cancelled, lambda one: one.state is SeenState.RUNNING, "it runs")
    await scheduler.cancel(cancelled)
    lost = await submitted(rig, "exec sleep 600")
    await rig.until(scheduler, lost, lambda one: one.state is SeenState.RUNNING, "it runs")
    waiting = await submitted(rig, "exit 0", count=60, nodes=2, cores=4)
    await scheduler.cancel(waiting[1::2])  # so that naming those that are left takes many words
    mine = [*fine, *bad, *killed, *cancelled]
    before = await rig.ended(scheduler, mine)
    wait_for(lambda: recorded(cluster, "CANCELLED") == 1 and recorded(cluster, "RUNNING") == 1, "accounting knows it")
    wait_for(lambda: recorded(cluster, "PENDING") == 1, "those of an array that wait are one record")

    cluster.kill("slurmctld")
    cluster.lose_state()
    cluster.start_controller()  # it knows nothing, and begins to count at 1 again
    ends = {(one.token, one.index): one for one in await scheduler.poll([*mine, *lost])}
    after = [ends[one.token, one.index] for one in mine]
    assert facts(after)[:4] == facts(before)[:4]
    assert [one.exit for one in after[:4]] == [0, 40, 41, 137]
    assert after[4].outcome is SeenOutcome.CANCELLED
    gone = ends[lost[0].token, 0]
    # A controller that begins anew writes off what ran; one that has lost a part leaves it running in the accounts.
    assert gone.state is SeenState.ENDED
    assert gone.outcome in (SeenOutcome.CANCELLED, SeenOutcome.UNKNOWN)

    # Those of the array that waited are gone with the controller, though accounting may still have them in one record.
    past = await scheduler.poll(waiting)
    assert len(past) == 60
    for one in past:
        assert (one.state, one.token) == (SeenState.ENDED, waiting[0].token)
        assert one.outcome in (SeenOutcome.CANCELLED, SeenOutcome.UNKNOWN), one

    # Another gets the same number. It is not the old one, and the old one is not it.
    other = await submitted(rig, "exec sleep 600")
    assert other[0].native == fine[0].native
    seen = {one.token: one for one in await scheduler.poll([*other, *fine])}
    assert seen[other[0].token].outcome is None
    assert seen[fine[0].token].outcome is SeenOutcome.OK
    await scheduler.cancel(fine)
    (still,) = await rig.until(scheduler, other, lambda one: one.state is SeenState.RUNNING, "it runs")
    assert still.native == fine[0].native

    adopted = {(one.token, one.index): one for one in await scheduler.adopt("past", begin)}
    assert set(adopted) == {(one.token, one.index) for one in [*mine, *lost, *other, *waiting[::2]]}
    assert {one.outcome for one in adopted.values()} >= {
        None,
        SeenOutcome.OK,
        SeenOutcome.FAILED,
        SeenOutcome.CANCELLED,
    }
    assert await scheduler.adopt("past-9") == ()

    # slurmrestd says the same; only exit codes are not told by it.
    told = {(one.token, one.index): one for one in await rest(cluster, rig).poll([*mine, *other])}
    assert [told[one.token, one.index].outcome for one in mine] == [one.outcome for one in before]
    assert told[other[0].token, 0].state is SeenState.RUNNING
    assert told[bad[1].token, 1].exit in (-1, 41)
    await rig.clean()


@pytest_twisted.ensureDeferred
async def test_without_slurmdbd_work_goes_on_and_nothing_is_guessed(cluster: Cluster) -> None:
    rig = rig_for(cluster, "dbd")
    scheduler = rig.make()
    cluster.kill("slurmdbd")
    mine = await submitted(rig, "exit 3")
    (end,) = await rig.ended(scheduler, mine)
    assert (end.outcome, end.exit) == (SeenOutcome.FAILED, 3)
    strange = Handle("99999", "dbd-77")
    assert [one.token for one in await scheduler.poll([*mine, strange])] == [
        mine[0].token
    ]  # of the other nothing is known now
    assert [one.token for one in await scheduler.adopt("dbd")] == [mine[0].token]
    bad = {one.name: one for one in await scheduler.diagnose() if not one.ok}
    assert set(bad) == {"accounting"}
    cluster.start_dbd()
    assert all(one.ok for one in await scheduler.diagnose())


@pytest_twisted.ensureDeferred
async def test_an_account_that_is_not_there_is_found_by_the_check(cluster: Cluster) -> None:
    rig = rig_for(cluster, "account")
    cluster.command(
        "sacctmgr", "--immediate", "add", "account", "chem", "Cluster=lab", "Description=x", "Organization=y"
    )
    checks = {one.name: one for one in await rig.make().check(rig.request("exit 0", account="chem"))}
    assert checks["account"].ok
    assert "chem exists" in checks["account"].words
    checks = {one.name: one for one in await rig.make().check(rig.request("exit 0", account="alchemy"))}
    assert "Slurm has no account alchemy" in checks["account"].words
    assert not checks["account"].ok
