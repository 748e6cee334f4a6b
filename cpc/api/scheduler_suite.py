"""What every scheduler plugin promises, as a suite that can be pointed at any of them, on the real system or on a fake.

A third party's test (docs/admin/schedulers.md has it whole):

    RIG = Rig(MyScheduler, tools, settings={...}, wait=..., prefix="t1")

    @pytest.mark.parametrize("promise", PROMISES)
    async def test_it_keeps(promise: str) -> None:
        await PROMISES[promise](RIG)

Each promise is an async function of a `Rig`; it raises AssertionError with what was expected and what was seen. None needs
anything but the plugin and the system: trouble (lost answers, a dead system, hostile answers) is made by standing between
the plugin and its tools.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cpc.api.scheduler import (
    AtLimit,
    Handle,
    NodeState,
    Scheduler,
    Seen,
    SeenOutcome,
    SeenState,
    Tools,
    Unsettled,
    Wanted,
)
from cpc.api.scheduler_trouble import HOSTILE, Between, failing, instead, lost_answers
from cpc.core.errors import BadInput, CopernicusError, Damaged, Refused, TooLarge, Unavailable

Promise = Callable[["Rig"], Awaitable[None]]
PROMISES: dict[str, Promise] = {}


@dataclass
class Rig:
    """A plugin on its bench.

    `wait`: lets so many seconds pass for the system (really, or on a virtual clock). `prefix`: what all tokens of this run
    begin with; nobody else's do. `wanted`: fields of Wanted that requests need here (queue, account, directory).
    `unknown_queue`: a queue that the system refuses ("": it has none). `node`: one that may be drained ("": none may).
    `patience`: seconds after which something that was to happen has not; `step`: seconds between two looks.
    """

    kind: type[Scheduler]
    tools: Tools
    wait: Callable[[float], Awaitable[None]]
    prefix: str
    settings: Mapping[str, str] = field(default_factory=dict)
    wanted: Mapping[str, Any] = field(default_factory=dict)
    unknown_queue: str = "no-such-queue"
    node: str = ""
    patience: float = 60.0
    step: float = 0.2
    made: int = 0

    def make(self, tools: Tools | None = None) -> Scheduler:
        """A new one, which knows nothing of what others did."""
        return self.kind(tools or self.tools, self.settings)

    def request(self, body: str, **more: Any) -> Wanted:
        """A small request with a token of its own, whose script does `body`."""
        self.made += 1
        facts: dict[str, Any] = {
            "token": f"{self.prefix}-{self.made}", "script": f"#!/bin/sh\n{body}\n", "walltime": 300, **self.wanted, **more
        }  # fmt: skip
        return Wanted(**facts)

    async def until(
        self, scheduler: Scheduler, handles: Sequence[Handle], holds: Callable[[Seen], bool], what: str
    ) -> tuple[Seen, ...]:
        """Poll until `holds` is true of all of them, in the order of `handles`."""
        waited = 0.0
        seen: dict[tuple[str, int], Seen] = {}
        while True:
            seen |= {(one.token, one.index): one for one in await scheduler.poll(handles)}
            now = [seen.get((one.token, one.index)) for one in handles]
            if all(one is not None and holds(one) for one in now):
                return tuple(one for one in now if one is not None)
            assert waited < self.patience, f"not within {self.patience:g} s: {what}; last seen: {now}"
            await self.wait(self.step)
            waited += self.step

    async def ended(self, scheduler: Scheduler, handles: Sequence[Handle]) -> tuple[Seen, ...]:
        """Poll until they have ended."""
        return await self.until(scheduler, handles, lambda one: one.state is SeenState.ENDED, "it ends")

    async def clean(self) -> None:
        """Cancel whatever of this run is left."""
        scheduler = self.make()
        left = [one.handle for one in await scheduler.adopt(self.prefix) if one.state is not SeenState.ENDED]
        await scheduler.cancel(left)


def promise(function: Promise) -> Promise:
    """Add it to PROMISES under its name."""
    PROMISES[function.__name__] = function
    return function


def handles(wanted: Wanted, natives: Sequence[str]) -> tuple[Handle, ...]:
    """How to speak of what was just submitted."""
    return tuple(Handle(native, wanted.token, index) for index, native in enumerate(natives))


# --- what is promised ---


@promise
async def a_script_runs_with_what_it_was_promised(rig: Rig) -> None:
    """It finds its identity, environment and secrets, whatever is in them, and its exit code 0 is an ok."""
    strange = "it's $HOME `id` \"\\ \n ü;|&"
    wanted = rig.request("", environment={"CPC_T_STRANGE": strange}, secrets={"CPC_T_SECRET": "s'3cret"}, requeue=True)
    body = (
        'test "$CPC_ALLOCATION" = ' + wanted.token + ' || exit 11\ntest "$CPC_ALLOCATION_INDEX" = 0 || exit 12\n'
        'test "$CPC_ALLOCATION_RESTARTS" = 0 || exit 13\ntest -n "$CPC_ALLOCATION_NATIVE" || exit 14\n'
        'test "$CPC_T_STRANGE" = \'' + strange.replace("'", "'\\''") + "' || exit 15\n"
        'test "$CPC_T_SECRET" = "s\'3cret" || exit 16\nexit 0\n'
    )
    wanted = msgspec.structs.replace(wanted, script=f"#!/bin/sh\n{body}")
    scheduler = rig.make()
    natives = await scheduler.submit(wanted)
    assert len(natives) == 1, natives
    assert natives[0], natives
    (end,) = await rig.ended(scheduler, handles(wanted, natives))
    assert (end.outcome, end.exit) == (SeenOutcome.OK, 0), end
    assert end.started, end


@promise
async def a_failing_script_is_failed_with_its_exit_code(rig: Rig) -> None:
    """42 is not a success, whatever the system's JSON may say."""
    scheduler = rig.make()
    wanted = rig.request("exit 42")
    (end,) = await rig.ended(scheduler, handles(wanted, await scheduler.submit(wanted)))
    assert (end.outcome, end.exit) == (SeenOutcome.FAILED, 42), end


@promise
async def many_are_one_request_and_each_its_own(rig: Rig) -> None:
    """Several copies are told apart by their index, and each ends in its own way."""
    scheduler = rig.make()
    count = min(3, scheduler.most_at_once)
    wanted = rig.request("exit $((CPC_ALLOCATION_INDEX + 1))", count=count)
    natives = await scheduler.submit(wanted)
    assert len(set(natives)) == count, natives
    ends = await rig.ended(scheduler, handles(wanted, natives))
    assert [(one.index, one.exit) for one in ends] == [(index, index + 1) for index in range(count)], ends


@promise
async def what_runs_is_seen_and_ends_when_cancelled(rig: Rig) -> None:
    """Running, with a node and time left; cancelled is cancelled, and cancelling again is nothing."""
    scheduler = rig.make()
    wanted = rig.request("exec sleep 600")
    mine = handles(wanted, await scheduler.submit(wanted))
    (seen,) = await rig.until(scheduler, mine, lambda one: one.state is SeenState.RUNNING, "it runs")
    assert seen.outcome is None, seen
    assert seen.nodes, seen
    assert 0 < seen.left <= 300 + 60, seen
    await scheduler.cancel(mine)
    (end,) = await rig.ended(scheduler, mine)
    assert end.outcome is SeenOutcome.CANCELLED, end
    await scheduler.cancel(mine)


@promise
async def a_crash_loses_nothing(rig: Rig) -> None:
    """A new instance finds all that bear the prefix, and nothing of others; it can speak of them as the old one did."""
    first = rig.make()
    wanted = rig.request("exec sleep 600", count=min(2, first.most_at_once))
    natives = await first.submit(wanted)
    other = rig.make()
    found = [one for one in await other.adopt(rig.prefix) if one.token == wanted.token]
    assert sorted((one.index, one.native) for one in found) == list(enumerate(natives)), found
    assert await other.adopt(f"{rig.prefix}x") == ()
    await other.cancel([one.handle for one in found])
    ends = await rig.ended(first, [one.handle for one in found])
    assert {one.outcome for one in ends} == {SeenOutcome.CANCELLED}, ends
    again = [one for one in await rig.make().adopt(wanted.token) if one.token == wanted.token]
    assert {one.state for one in again} <= {SeenState.ENDED}, again


@promise
async def one_of_many_is_cancelled_alone(rig: Rig) -> None:
    """Copies are cancelled one by one or together; the others run on. What can be asked for at once is told."""
    scheduler = rig.make()
    assert 1 <= await scheduler.most() <= scheduler.most_at_once
    if scheduler.most_at_once == 1:
        return
    wanted = rig.request("exec sleep 600", count=3)
    first, second, third = mine = handles(wanted, await scheduler.submit(wanted))
    await rig.until(scheduler, mine, lambda one: one.state is SeenState.RUNNING, "they run")
    await scheduler.cancel([second])
    (end,) = await rig.ended(scheduler, [second])
    assert end.outcome is SeenOutcome.CANCELLED, end
    still = await rig.until(scheduler, [first, third], lambda one: True, "the others are there")
    assert [one.state for one in still] == [SeenState.RUNNING] * 2, still
    await rig.make().cancel(mine)
    ends = await rig.ended(scheduler, [first, third])
    assert {one.outcome for one in ends} == {SeenOutcome.CANCELLED}, ends


@promise
async def a_lost_answer_is_settled_by_the_token(rig: Rig) -> None:
    """Submitted, and the answer never came: not refused; found once by its token, and cancelled like any other. So are
    several copies."""
    for count in sorted({1, min(3, rig.kind.most_at_once)}):
        wanted = rig.request("exec sleep 600", count=count)
        try:
            told: object = await rig.make(lost_answers(rig.tools)).submit(wanted)
        except CopernicusError as error:
            told = error
        assert isinstance(told, (Unsettled, Damaged)), f"a lost answer must be Unsettled or Damaged, not {told!r}"
        scheduler = rig.make()
        waited = 0.0
        while not (found := [one for one in await scheduler.adopt(rig.prefix) if one.token == wanted.token]):
            assert waited < scheduler.settle_time, "it was accepted, and adopt does not find it"
            await rig.wait(rig.step)
            waited += rig.step
        assert sorted(one.index for one in found) == list(range(count)), found
        mine = [one.handle for one in found]
        await scheduler.cancel(mine)
        await rig.ended(scheduler, mine)


@promise
async def an_id_alone_is_nobody(rig: Rig) -> None:
    """Under an id of ours, asked for with another token, there is nothing to see and nothing to cancel."""
    scheduler = rig.make()
    wanted = rig.request("exec sleep 600")
    (mine,) = handles(wanted, await scheduler.submit(wanted))
    await rig.until(scheduler, [mine], lambda one: one.state is SeenState.RUNNING, "it runs")
    stranger = Handle(mine.native, f"{rig.prefix}-nobody", mine.index)
    for seen in await scheduler.poll([stranger]):
        assert (seen.state, seen.outcome) == (SeenState.ENDED, SeenOutcome.UNKNOWN), seen
    await scheduler.cancel([stranger])
    await rig.wait(rig.step)
    (still,) = await scheduler.poll([mine])
    assert still.state is SeenState.RUNNING, still
    await scheduler.cancel([mine])
    await rig.ended(scheduler, [mine])


@promise
async def polling_costs_the_same_for_many(rig: Rig) -> None:
    """Five hundred are asked for with as few questions as two are."""
    costs = []
    for number in (2, 500):
        between = Between(rig.tools)
        asked = [Handle(str(10**9 + place), f"{rig.prefix}-gone", place) for place in range(number)]
        seen = await rig.make(between.tools).poll(asked)
        for one in seen:
            assert (one.state, one.outcome) == (SeenState.ENDED, SeenOutcome.UNKNOWN), one
        costs.append(between.asked)
    assert costs[0] == costs[1] <= 4, f"questions for 2 and for 500: {costs}"
    between = Between(rig.tools)
    assert await rig.make(between.tools).poll([]) == ()
    assert between.asked == 0


@promise
async def a_refusal_submits_nothing(rig: Rig) -> None:
    """An unknown queue is Refused, with words and a hint; nothing of it is in the system."""
    if not rig.unknown_queue:
        return
    wanted = rig.request("exit 0", queue=rig.unknown_queue)
    scheduler = rig.make()
    try:
        told: object = await scheduler.submit(wanted)
    except CopernicusError as error:
        told = error
    assert isinstance(told, Refused), f"an unknown queue must be Refused, not {told!r}"
    assert not isinstance(told, AtLimit), "an unknown queue will not be accepted later"
    assert told.hint, told
    assert not [one for one in await scheduler.adopt(rig.prefix) if one.token == wanted.token]
    assert not all(one.ok for one in await scheduler.check(wanted)), "check finds nothing wrong with an unknown queue"


@promise
async def a_good_request_passes_its_checks(rig: Rig) -> None:
    """check finds nothing wrong with what runs, says so in words, and submits nothing."""
    scheduler = rig.make()
    wanted = rig.request("exit 0")
    checks = await scheduler.check(wanted)
    assert checks
    assert [one for one in checks if not one.ok] == []
    assert all(one.name and one.words for one in checks), checks
    assert not [one for one in await scheduler.adopt(rig.prefix) if one.token == wanted.token]


@promise
async def what_is_described_hides_secrets_and_asks_nobody(rig: Rig) -> None:
    """The dry run shows the script and the call, with the token and without what is secret."""
    between = Between(rig.tools)
    wanted = rig.request("exec ./worker", secrets={"CPC_T_SECRET": "hunter2"}, environment={"CPC_T_OPEN": "open-value"})
    described = rig.make(between.tools).describe(wanted)
    assert between.asked == 0
    both = described.call + described.script
    assert "hunter2" not in both, described
    assert wanted.token in both, described
    assert "open-value" in both, described
    assert "exec ./worker" in both, described
    assert described.script.startswith("#!"), described


@promise
async def what_cannot_be_asked_is_said_before_asking(rig: Rig) -> None:
    """Bad tokens, names, amounts and scripts are BadInput; nobody is asked."""
    between = Between(rig.tools)
    scheduler = rig.make(between.tools)
    good = rig.request("exit 0")
    for bad in (
        {"token": "a b"}, {"token": "-x"}, {"token": ""}, {"token": "x" * 80}, {"name": "a\nb"}, {"script": "echo"}, {"count": 0},
        {"script": "#!/bin/sh\r\n"}, {"nodes": 0}, {"walltime": 0}, {"cores": -1}, {"queue": "-x"}, {"account": "a b"},
        {"directory": "relative"}, {"environment": {"A=B": "1"}}, {"secrets": {"A": "\0"}}, {"exclude": ("n1 n2",)},
        {"lead": 10**9}, {"count": scheduler.most_at_once + 1},
    ):  # fmt: skip
        for call in (scheduler.submit, scheduler.describe):
            try:
                told: object = call(msgspec.structs.replace(good, **bad))
                if isinstance(told, Awaitable):
                    told = await told
            except CopernicusError as error:
                told = error
            assert isinstance(told, BadInput), f"{bad} must be BadInput, not {told!r}"
    assert between.asked == 0


@promise
async def nothing_hostile_is_believed(rig: Rig) -> None:
    """Whatever the system answers, calls raise our errors or say unknown; nobody is reported as having ended well."""
    wanted = rig.request("exit 0")
    one = Handle("12", wanted.token)
    for text in HOSTILE:
        for code in (0, 1):
            scheduler = rig.make(instead(rig.tools, text, code))
            told = await _told(scheduler.submit(wanted))
            assert isinstance(told, CopernicusError) or (code == 0 and _is_number(text)), f"{text!r}: {told!r}"
            told = await _told(scheduler.poll([one]))
            if not isinstance(told, CopernicusError):
                assert all(seen.outcome is SeenOutcome.UNKNOWN for seen in told), f"{text!r}: {told!r}"
                assert code == 0, f"a failed question is no answer: {text!r}: {told!r}"
            for call in (
                scheduler.cancel([one]),
                scheduler.adopt(rig.prefix),
                scheduler.nodes(),
                scheduler.check(wanted),
            ):
                await _told(call)
            checks = await scheduler.diagnose()
            assert checks, text


@promise
async def a_dead_system_is_unavailable(rig: Rig) -> None:
    """Nobody answers: every call says so, nothing is reported as ended, and the doctor names it without raising."""
    wanted = rig.request("exit 0")
    one = Handle("12", wanted.token)
    for error in (Unavailable("the command did not end within 30 s"), TooLarge("it printed more than can be read")):
        scheduler = rig.make(failing(rig.tools, error))
        for call in (
            scheduler.submit(wanted), scheduler.poll([one]), scheduler.cancel([one]), scheduler.adopt(rig.prefix),
            scheduler.nodes(), scheduler.check(wanted),
        ):  # fmt: skip
            told = await _told(call)
            assert isinstance(told, (Unavailable, Damaged)), f"{told!r}"
        assert not all(check.ok for check in await scheduler.diagnose())


@promise
async def nodes_are_drained_and_resumed(rig: Rig) -> None:
    """Nodes are told with what they have; a drained one says why, takes nothing, and takes something again when resumed."""
    scheduler = rig.make()
    nodes = await scheduler.nodes()
    assert nodes
    assert [one.name for one in nodes] == sorted(one.name for one in nodes)
    for one in nodes:
        assert one.cores >= one.cores_used >= 0, one
        assert one.memory > 0, one
    if not rig.node:
        return
    await scheduler.drain(rig.node, "the fan is loud")
    drained = next(one for one in await scheduler.nodes() if one.name == rig.node)
    assert drained.state.value in ("draining", "drained"), drained
    assert drained.reason == "the fan is loud", drained
    await scheduler.resume(rig.node)
    await scheduler.resume(rig.node)  # one that was not drained stays as it is
    waited = 0.0
    while True:  # some wait for a sign of life first
        back = next(one for one in await scheduler.nodes() if one.name == rig.node)
        if back.state in (NodeState.IDLE, NodeState.MIXED, NodeState.BUSY):
            break
        assert waited < rig.patience, back
        await rig.wait(rig.step)
        waited += rig.step
    for call in (scheduler.drain("no-such-node", "x"), scheduler.resume("no-such-node")):
        assert isinstance(await _told(call), Refused)
    assert isinstance(await _told(scheduler.drain(rig.node, " ")), BadInput)


@promise
async def the_doctor_is_content_with_what_is_well(rig: Rig) -> None:
    """Every check of a system that works is well, and says what it looked at."""
    checks = await rig.make().diagnose()
    assert checks
    assert [one for one in checks if not one.ok] == []
    assert all(one.name and one.words for one in checks), checks


async def _told(call: Awaitable[Any]) -> Any:
    """What a call gives, or the CopernicusError it raises."""
    try:
        return await call
    except CopernicusError as error:
        return error


def _is_number(text: str) -> bool:
    """Whether a system could have meant an id by it."""
    return text.strip().isdecimal() and text.isascii()
