"""The Slurm plugin: the suite on a stand-in, the errors that a real Slurm does not make on demand, and what it prints."""

from __future__ import annotations

import pytest
import pytest_twisted

from cpc.api import (
    AtLimit,
    BadInput,
    Damaged,
    Handle,
    NodeState,
    Ran,
    Refused,
    SeenOutcome,
    SeenState,
    Tools,
    Unavailable,
    Unsettled,
    Wanted,
)
from cpc.api.scheduler_suite import PROMISES, Rig, handles
from cpc.core.chance import SeededChance
from cpc.plugins.schedulers import slurm_nodes, slurm_script, slurm_text
from cpc.plugins.schedulers.slurm import Slurm
from tests.helpers.fake_slurm import FakeSlurm


class FakeClock:
    """The stand-in's own time."""

    def __init__(self, slurm: FakeSlurm) -> None:
        self._slurm = slurm

    def monotonic(self) -> float:
        return float(self._slurm.now)

    def now(self) -> int:
        return self._slurm.now * 1_000_000


async def _no_http(*_: object, **__: object) -> object:
    raise AssertionError("the Slurm plugin asks no HTTP server")


def rig_for(slurm: FakeSlurm) -> Rig:
    async def wait(seconds: float) -> None:
        slurm.advance(seconds)

    tools = Tools(slurm, _no_http, FakeClock(slurm), SeededChance(1))  # type: ignore[arg-type]
    return Rig(Slurm, tools, wait=wait, prefix="t", node="n2")


@pytest.fixture
def slurm() -> FakeSlurm:
    return FakeSlurm()


@pytest.mark.parametrize("accounting", [True, False])
@pytest.mark.parametrize("promise", PROMISES)
@pytest_twisted.ensureDeferred
async def test_the_stand_in_keeps_what_the_real_one_keeps(promise: str, accounting: bool, slurm: FakeSlurm) -> None:
    slurm.accounting = accounting
    await PROMISES[promise](rig_for(slurm))


@pytest_twisted.ensureDeferred
async def test_a_limit_is_not_a_refusal_for_good(slurm: FakeSlurm) -> None:
    slurm.limit = 1
    rig = rig_for(slurm)
    await rig.make().submit(rig.request("exec sleep 600"))
    with pytest.raises(AtLimit, match="QOSMaxSubmitJobPerUserLimit") as refused:
        await rig.make().submit(rig.request("exit 0"))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Batch job submission failed: Unable to contact slurm controller (connect failure)", Unavailable),
        ("Batch job submission failed: Socket timed out on send/recv operation", Unsettled),
        ("Batch job submission failed: Zero Bytes were transmitted or received", Unsettled),
        ("Batch job submission failed: Slurm backup controller in standby mode", Unsettled),
        ("Munge encode failed: Failed to connect to \"/run/munge/munge.socket.2\": No such file or directory", Unavailable),
        ("fetch_config: DNS SRV lookup failed\nsbatch: fatal: Could not establish a configuration source", Unavailable),
        ("Slurm temporarily unable to accept job, sleeping and retrying", AtLimit),
        ("Batch job submission failed: Invalid account or account/partition combination specified", Refused),
        ("Batch job submission failed: Access/permission denied", Refused),
        ("Batch job submission failed: Invalid job array specification", Refused),
        ("Memory specification can not be satisfied", Refused),
        ("something that nobody has seen before", Refused),
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_what_sbatch_says_is_the_right_kind_of_error(said: str, kind: type[Exception], slurm: FakeSlurm) -> None:
    slurm.instead["sbatch"] = lambda: Ran(1, "", f"sbatch: error: {said}\n")
    rig = rig_for(slurm)
    with pytest.raises(Exception) as caught:  # noqa: PT011 (its exact type is what is looked at)
        await rig.make().submit(rig.request("exit 0"))
    assert type(caught.value) is kind
    assert said.splitlines()[0] in caught.value.message  # type: ignore[attr-defined]
    assert caught.value.hint  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", [1, 255])
@pytest_twisted.ensureDeferred
async def test_an_option_that_sbatch_does_not_know_is_not_a_slurm_that_is_away(code: int, slurm: FakeSlurm) -> None:
    said = "sbatch: unrecognized option '--bogus'\nTry \"sbatch --help\" for more information\n"
    slurm.instead["sbatch"] = lambda: Ran(code, "", said)
    rig = rig_for(slurm)
    with pytest.raises(Refused, match="unrecognized option '--bogus'") as refused:
        await rig.make().submit(rig.request("exit 0"))
    assert "options" in refused.value.hint
    slurm.instead["sbatch"] = lambda: Ran(255, "", "ssh: connect to host login port 22: No route to host\n")
    with pytest.raises(Unavailable):
        await rig.make().submit(rig.request("exit 0"))


@pytest.mark.parametrize(
    ("out", "ids"),
    [
        ("12\n", ("12",)),
        ("12;lab\n", ("12",)),
        ("Welcome to Lab!\nYou have 3 hours left.\n12\n", ("12",)),
        ("Submitted batch job 12\n", None),
        ("", None),
        ("-12\n", None),
        ("9" * 30, None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_id_is_found_among_what_site_plugins_print(
    out: str, ids: tuple[str, ...] | None, slurm: FakeSlurm
) -> None:
    slurm.instead["sbatch"] = lambda: Ran(0, out, "")
    rig = rig_for(slurm)
    if ids is None:
        with pytest.raises(Damaged, match="is no job's id"):
            await rig.make().submit(rig.request("exit 0"))
    else:
        assert await rig.make().submit(rig.request("exit 0")) == ids


@pytest_twisted.ensureDeferred
async def test_an_sbatch_that_never_ends_may_have_been_heard(slurm: FakeSlurm) -> None:
    slurm.slow.add("sbatch")
    rig = rig_for(slurm)
    wanted = rig.request("exec sleep 600", count=3)
    with pytest.raises(Unsettled):
        await rig.make().submit(wanted)
    found = await rig.make().adopt(wanted.token)
    assert [one.handle for one in found] == list(handles(wanted, ("1_0", "1_1", "1_2")))


@pytest_twisted.ensureDeferred
async def test_what_the_controller_lost_is_told_from_what_it_never_had(slurm: FakeSlurm) -> None:
    rig = rig_for(slurm)
    scheduler = rig.make()
    wanted = rig.request("exec sleep 600")
    (lost,) = handles(wanted, await scheduler.submit(wanted))
    slurm.advance(1)
    slurm.lose()
    never = Handle("77", "t-never")
    other = rig.request("exec sleep 600")
    (reused,) = handles(other, await scheduler.submit(other))
    assert reused.native == lost.native
    slurm.advance(1)
    seen = {one.token: one for one in await scheduler.poll([lost, never, reused])}
    assert seen[reused.token].state is SeenState.RUNNING
    assert (seen[lost.token].state, seen[lost.token].outcome) == (SeenState.ENDED, SeenOutcome.UNKNOWN)
    assert "accounting still says running on n1" in seen[lost.token].reason
    assert seen[never.token].reason == "slurmctld does not know it any more, and accounting never did"
    await scheduler.cancel([lost])
    assert slurm.job(reused.native).state == "RUNNING"
    slurm.dbd = False
    assert {one.token for one in await scheduler.poll([lost, never, reused])} == {reused.token}


@pytest_twisted.ensureDeferred
async def test_an_array_goes_as_a_whole_and_a_part_of_it_as_a_part(slurm: FakeSlurm) -> None:
    rig = rig_for(slurm)
    wanted = rig.request("exec sleep 600", count=4)
    mine = handles(wanted, await rig.make().submit(wanted))
    await rig.make().cancel(mine[:2])
    await rig.make().cancel(mine)
    assert [words[1:] for words in slurm.asked if words[0] == "scancel"] == [("1_0", "1_1"), ("1",)]


@pytest_twisted.ensureDeferred
async def test_how_large_arrays_may_be_is_asked_of_the_system(slurm: FakeSlurm) -> None:
    rig = rig_for(slurm)
    for configured, most in ((1001, 1000), (40, 40), (1, 1), (0, 1), (4_000_001, 1000)):
        slurm.max_array = configured
        assert await rig.make().most() == most
    slurm.max_array = 40
    assert len(await rig.make().submit(rig.request("exit 0", count=40))) == 40
    with pytest.raises(Refused, match="Invalid job array specification"):
        await rig.make().submit(rig.request("exit 0", count=41))
    slurm.instead["scontrol"] = lambda: Ran(0, "Configuration data\n", "")
    assert await rig.make().most() == 1000


@pytest_twisted.ensureDeferred
async def test_restarts_are_counted_also_in_accounting(slurm: FakeSlurm) -> None:
    rig = rig_for(slurm)
    wanted = rig.request("exec sleep 600", requeue=True)
    mine = handles(wanted, await rig.make().submit(wanted))
    slurm.advance(1)
    first = slurm.job("1")
    slurm.records.append(type(first)(**{**first.__dict__, "state": "NODE_FAIL", "ended": slurm.now}))
    slurm.requeue(first)
    (seen,) = await rig.make().poll(mine)
    assert (seen.state, seen.restarts, seen.started) == (SeenState.WAITING, 1, 0)
    slurm.advance(1)
    slurm.end(first, "COMPLETED")
    slurm.forget()
    (seen,) = await rig.make().poll(mine)
    assert (seen.outcome, seen.restarts) == (SeenOutcome.OK, 1)


@pytest_twisted.ensureDeferred
async def test_the_walltime_is_no_failure_of_the_script(slurm: FakeSlurm) -> None:
    rig = rig_for(slurm)
    wanted = rig.request("exec sleep 600", walltime=90)
    mine = handles(wanted, await rig.make().submit(wanted))
    slurm.advance(1)
    slurm.advance(121)
    (seen,) = await rig.make().poll(mine)
    assert seen.outcome is SeenOutcome.TIMEOUT


@pytest.mark.parametrize(
    "option",
    ["-Jx", "--job-name=x", "--comment=x", "--array=1-2", "-a1-2", "--wrap=x", "--export=ALL", "--parsable", "--commen=x",
     "--hold", "script.sh", "", "-", "--test-only", "--uid=0", "a\nb"],
)  # fmt: skip
def test_options_that_would_hide_an_allocation_from_us_are_refused(option: str, slurm: FakeSlurm) -> None:
    rig = rig_for(slurm)
    with pytest.raises(BadInput):
        rig.make().describe(rig.request("exit 0", options=(option,)))


def test_settings_are_checked_before_anything_is_asked(slurm: FakeSlurm) -> None:
    rig = rig_for(slurm)
    for settings, words in (
        ({"conf": "slurm.conf"}, "absolute path"),
        ({"timeout": "soon"}, "number of seconds"),
        ({"timeout": "0"}, "number of seconds"),
        ({"options": "'"}, "cannot be read"),
        ({"options": "--job-name=x"}, "cannot be set"),
        ({"colour": "red"}, "has no setting 'colour'"),
    ):
        with pytest.raises(BadInput, match=words):
            Slurm(rig.tools, settings)
    assert slurm.asked == []


def test_the_script_keeps_its_directives_and_its_environment_is_quoted() -> None:
    script = "#!/bin/sh\n#SBATCH --constraint=ib\n# more\n\necho hi\n"
    wanted = Wanted(token="a-1", script=script, walltime=61, environment={"A": "it's"}, secrets={"S": "hush"})
    lines = slurm_script.script(wanted).splitlines()
    assert lines[:4] == script.splitlines()[:4]
    assert lines[-1] == "echo hi"
    assert "export A='it'\"'\"'s'" in lines
    assert "export S=hush" in lines
    assert "hush" not in slurm_script.describe(wanted).script
    assert "--time=2" in slurm_script.command(wanted)


# --- what it prints ---


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ("n1",)), ("n[1-3]", ("n1", "n2", "n3")), ("n[08-10],c1", ("n08", "n09", "n10", "c1")),
        ("r[1-2]n[1,3]", ("r1n1", "r1n3", "r2n1", "r2n3")), ("n[1-2]-ib", ("n1-ib", "n2-ib")), ("", ()), ("(null)", ()),
        ("None assigned", ()),
    ],
)  # fmt: skip
def test_lists_of_nodes_are_read(text: str, names: tuple[str, ...]) -> None:
    assert slurm_text.hosts(text) == names


@pytest.mark.parametrize(
    "text", ["n[1-", "n[3-1]", "n[a-b]", "n[[1]]", "n[1-99999999]", "a b", "n[1]\n", ";rm", "n[1-9999],m[1-99999]"]
)
def test_lists_of_nodes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(Damaged):
        slurm_text.hosts(text)


def test_ids_of_jobs_and_arrays_are_read() -> None:
    assert slurm_text.job_id("12") == ("12", ())
    assert slurm_text.job_id("12_3") == ("12", (3,))
    assert slurm_text.job_id("4_[0,2-5%2]") == ("4", (0, 2, 3, 4, 5))
    assert slurm_text.job_id("4_[1-9:4]") == ("4", (1, 5, 9))
    for wrong in ("", "x", "4_", "4_[", "4_[1-0]", "4_[0-99999999]", "1.batch", "12+0"):
        with pytest.raises(Damaged):
            slurm_text.job_id(wrong)


def test_times_and_exit_codes_are_read() -> None:
    assert [slurm_text.span(text) for text in ("9:59", "1:00:00", "2-03:04:05", "UNLIMITED", "INVALID")] == [
        599,
        3600,
        183845,
        -1,
        -1,
    ]
    assert [slurm_text.when(text) for text in ("12", "N/A", "Unknown", "None")] == [12_000_000, 0, 0, 0]
    assert [slurm_text.exit_of(status) for status in (0, 10752, 9, 4294967295, -1)] == [0, 42, 137, -1, -1]


def test_every_state_of_slurm_has_a_meaning() -> None:
    for state, outcome in (
        ("COMPLETED", "ok"), ("FAILED", "failed"), ("OUT_OF_MEMORY", "failed"), ("TIMEOUT", "timeout"), ("DEADLINE", "timeout"),
        ("PREEMPTED", "preempted"), ("NODE_FAIL", "node-failed"), ("BOOT_FAIL", "node-failed"),
        ("CANCELLED by 1000", "cancelled"), ("REVOKED", "cancelled"),
    ):  # fmt: skip
        assert slurm_text.state_of(state, "") == (SeenState.ENDED, SeenOutcome(outcome))
    for state, means in (
        ("PENDING", "waiting"), ("REQUEUED", "waiting"), ("REQUEUE_HOLD", "waiting"), ("SPECIAL_EXIT", "waiting"),
        ("CONFIGURING", "configuring"), ("RUNNING", "running"), ("COMPLETING", "running"), ("SUSPENDED", "running"),
        ("STOPPED", "running"), ("RESIZING", "running"), ("SIGNALING", "running"), ("STAGE_OUT", "running"),
    ):  # fmt: skip
        assert slurm_text.state_of(state, "") == (SeenState(means), None)
    with pytest.raises(Damaged, match="not known here"):
        slurm_text.state_of("DREAMING", "")


def test_what_waits_for_ever_is_told_from_what_waits() -> None:
    for reason in (
        "JobHeldUser", "JobHeldAdmin", "launch failed requeued held", "DependencyNeverSatisfied", "BadConstraints",
        "PartitionConfig", "InvalidAccount", "InvalidQOS", "AssocMaxWallDurationPerJobLimit", "PartitionTimeLimit",
    ):  # fmt: skip
        assert slurm_text.is_stuck(reason), reason
    for reason in (
        "None", "Resources", "Priority", "BeginTime", "Dependency", "JobArrayTaskLimit", "QOSMaxCpuPerUserLimit",
        "AssocGrpCpuLimit", "ReqNodeNotAvail, UnavailableNodes:n1", "QOSMaxJobsPerUserLimit", "PartitionDown", "Licenses",
        "ReqNodeNotAvail, Reserved",
    ):  # fmt: skip
        assert not slurm_text.is_stuck(reason), reason


def test_a_token_is_found_in_the_comment_or_at_the_end_of_the_name() -> None:
    assert slurm_text.token_of("cpc:a-1", "copernicus.a-1") == "a-1"
    assert slurm_text.token_of("what the site writes", "copernicus.a-1") == "a-1"
    assert slurm_text.token_of("(null)", "wrap") == ""
    assert slurm_text.token_of("cpc:a b", "x.y z") == ""


NODE = (
    "NodeName=n1 Arch=x86_64 CPUAlloc={used} CPUTot=4 Gres=gpu:a100:4(S:0-1) GresUsed=gpu:a100:1(IDX:0) "
    "OS=Linux 6.18.44 #1 SMP PREEMPT_DYNAMIC @0  RealMemory=4000 AllocMem=1500 FreeMem=300 State={state} ThreadsPerCore=1 "
    "Partitions=batch,low  BootTime=1796023224{more}"
)


@pytest.mark.parametrize(
    ("state", "means"),
    [
        ("IDLE", "idle"), ("MIXED", "mixed"), ("ALLOCATED", "busy"), ("IDLE+PLANNED", "idle"), ("MIXED+DRAIN", "draining"),
        ("ALLOCATED+DRAIN", "draining"), ("IDLE+DRAIN", "drained"), ("IDLE+COMPLETING+DRAIN", "draining"), ("DOWN", "down"),
        ("DOWN+DRAIN", "down"), ("DOWN+NOT_RESPONDING", "down"), ("IDLE+NOT_RESPONDING", "down"), ("IDLE+FAIL", "down"),
        ("IDLE+CLOUD+POWERED_DOWN", "off"), ("IDLE+CLOUD+POWERING_DOWN", "off"), ("MIXED+CLOUD+POWERED_DOWN", "starting"),
        ("MIXED+CLOUD+NOT_RESPONDING+POWERING_UP", "starting"), ("DOWN+REBOOT_ISSUED+NOT_RESPONDING", "down"),
        ("UNKNOWN", "unknown"), ("IDLE*", "idle"),
    ],
)  # fmt: skip
def test_states_of_nodes_are_read_with_their_flags(state: str, means: str) -> None:
    assert slurm_nodes.node_in_scontrol(NODE.format(used=1, state=state, more="")).state is NodeState(means)


def test_a_node_is_told_with_what_it_has_and_why_it_is_drained() -> None:
    line = NODE.format(
        used=1, state="IDLE+DRAIN", more=" Reason=fan State=IDLE [of r1] broken [alice@1796024160] Comment=x"
    )
    node = slurm_nodes.node_in_scontrol(line)
    assert (node.cores, node.cores_used, node.memory >> 20, node.memory_used >> 20, node.memory_free >> 20) == (
        4,
        1,
        4000,
        1500,
        300,
    )
    assert (node.gpus, node.gpus_used, node.queues) == (4, 1, ("batch", "low"))
    assert (node.state, node.reason, node.reason_by) == (NodeState.DRAINED, "fan State=IDLE [of r1] broken", "alice")
    assert node.reason_at == 1796024160 * 1_000_000
    with pytest.raises(Damaged):
        slurm_nodes.node_in_scontrol("slurm_load_node error")


def test_rows_without_a_header_or_an_end_are_not_believed() -> None:
    good = "\x1f".join(slurm_text.SACCT_FIELDS) + "\n"
    row = "\x1f".join(("1", "COMPLETED", "0:0", "n1", "1", "2", "3", "4", "cpc:a-1", "copernicus.a-1")) + "\n"
    assert [one.token for one in slurm_text.seen_in_sacct(good + row)] == ["a-1"]
    assert [one.token for one in slurm_text.seen_in_sacct(good + "half of a\n" + row)] == ["a-1"]
    for bad in ("", row, good + row[:-3], "x\n" + row):
        with pytest.raises(Damaged):
            list(slurm_text.seen_in_sacct(bad))


def test_a_run_that_ends_does_not_count_the_next_one() -> None:
    header = "\x1f".join(field.upper() for field in slurm_text.SQUEUE_FIELDS) + "\x1e\n"

    def seen(state: str, restarts: str) -> list[tuple[int, int]]:
        row = ("7", state, "None", "n1", restarts, "0", "9:00", "1", "2", "3", "8", "cpc:a-1", "copernicus.a-1")
        return [(one.restarts, one.cores) for one in slurm_text.seen_in_squeue(header + "\x1f".join(row) + "\x1e\n")]

    # Slurm counts a requeue while the old run still ends.
    told = [seen("RUNNING", "0"), seen("COMPLETING", "1"), seen("PENDING", "1"), seen("RUNNING", "1")]
    assert told == [[(0, 8)], [(0, 8)], [(1, 0)], [(1, 8)]]
