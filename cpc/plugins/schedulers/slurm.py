"""Slurm, through its commands: sbatch, squeue, sacct, scancel and scontrol.

slurmctld's own memory (squeue, with all states) is asked first; sacct only for what it has forgotten. Both are asked for all
of this user's jobs at once, so that polling costs the same however many allocations there are. Text, not JSON: `--json` has
another shape in every release, and in some it lies (sacct of 22.05 calls exit code 42 a success).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from cpc.api import (
    BadInput,
    Check,
    Damaged,
    Described,
    Handle,
    NodeSeen,
    NotConnected,
    Ran,
    Refused,
    Scheduler,
    Seen,
    SeenOutcome,
    SeenState,
    Setting,
    Tools,
    Unavailable,
    Unsettled,
    Wanted,
)
from cpc.plugins.schedulers import slurm_checks, slurm_script, slurm_words
from cpc.plugins.schedulers.slurm_nodes import node_in_scontrol
from cpc.plugins.schedulers.slurm_text import (
    FIELD,
    SACCT_FORMAT,
    SQUEUE_FORMAT,
    job_id,
    seen_in_sacct,
    seen_in_squeue,
)

#: Native ids on one command line: some 20 KB.
_IDS = 1000
_DAY = 86_400
_MAX_ARRAY = re.compile(r"^MaxArraySize\s*=\s*(\d{1,9})\s*$", re.MULTILINE)
LOST = "slurmctld does not know it any more"


class Slurm(Scheduler):
    """Slurm, through its commands."""

    name: ClassVar[str] = "slurm"
    summary: ClassVar[str] = "Slurm, through sbatch, squeue, sacct, scancel and scontrol"
    most_at_once: ClassVar[int] = 1000
    settle_time: ClassVar[float] = 60.0

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        """conf, options, timeout."""
        return (
            Setting("conf", "the path of slurm.conf, where it is not the usual one", "", "/etc/slurm/slurm.conf"),
            Setting("options", "options of sbatch for all requests of the pool", "", "--constraint=ib --qos=long"),
            Setting("timeout", "seconds that one command may take", "60", "120"),
        )

    def __init__(self, tools: Tools, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(tools, settings)
        conf = self.set["conf"]
        if conf and not conf.startswith("/"):
            raise BadInput(f"conf={conf} is not an absolute path", "give it from / on")
        # Without the second, sacct breaks off what names the elements of an array that wait, after 64 letters.
        self._env = {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"} | ({"SLURM_CONF": conf} if conf else {})
        try:
            self._options = tuple(shlex.split(self.set["options"]))
        except ValueError as error:
            raise BadInput(f"options={self.set['options']!r} cannot be read: {error}") from None
        slurm_script.check_options(self._options)
        try:
            self._timeout = float(self.set["timeout"])
        except ValueError:
            self._timeout = 0.0
        if not 1 <= self._timeout <= 3600:
            raise BadInput(f"timeout={self.set['timeout']} is not a number of seconds from 1 to 3600")

    async def run(self, *argv: str, stdin: str = "") -> Ran:
        """Run one of Slurm's commands, whatever its exit code."""
        return await self.command(*argv, stdin=stdin, timeout=self._timeout, env=self._env)

    async def ask(self, doing: str, *argv: str) -> str:
        """What it printed. Refused, Unavailable when it failed."""
        ran = await self.run(*argv)
        if ran.code:
            raise slurm_words.error(ran, doing)
        return ran.out

    # --- allocations ---

    def describe(self, wanted: Wanted) -> Described:
        """sbatch's command line and the script."""
        return slurm_script.describe(self._checked(wanted), self._options)

    def _checked(self, wanted: Wanted) -> Wanted:
        wanted.checked()
        if wanted.count > self.most_at_once:
            raise BadInput(
                f"{wanted.count} allocations at once are more than {self.most_at_once}", "ask for fewer at once"
            )
        return wanted

    async def submit(self, wanted: Wanted) -> tuple[str, ...]:
        """One sbatch; an array where there are several."""
        argv = slurm_script.command(self._checked(wanted), self._options)
        try:
            ran = await self.run(*argv, stdin=slurm_script.script(wanted))
        except NotConnected:
            raise
        except Unavailable as error:
            raise Unsettled(error.message, error.hint) from None
        if ran.code:
            failed = slurm_words.error(ran, "take the request")
            if isinstance(failed, Unavailable) and not slurm_words.surely_not_sent(ran):
                raise Unsettled(failed.message, failed.hint)
            raise failed
        for line in reversed(ran.out.splitlines()):
            number = line.strip().partition(";")[0]
            if number.isascii() and number.isdecimal() and len(number) <= 18:
                return (number,) if wanted.count == 1 else tuple(f"{number}_{index}" for index in range(wanted.count))
        raise Damaged(
            f"sbatch answered {ran.out[:120]!r}, which is no job's id", "see what sbatch is on the server's machine"
        )

    async def most(self) -> int:
        """One scontrol: indices of arrays are below MaxArraySize."""
        out = await self.ask("tell its configuration", "scontrol", "show", "config")
        found = _MAX_ARRAY.search(out)
        return max(1, min(self.most_at_once, int(found[1]))) if found else self.most_at_once

    async def poll(self, handles: Sequence[Handle]) -> tuple[Seen, ...]:
        """One squeue; for those it does not know, one sacct."""
        if not handles:
            return ()
        known = by_identity(await self._queued())
        told = [found for handle in handles if (found := choose(known, handle))]
        missing = [handle for handle in handles if choose(known, handle) is None]
        if not missing:
            return tuple(told)
        recorded = await self._recorded("--jobs=" + ",".join(sorted({job_id(one.native)[0] for one in missing})))
        if recorded is None:
            return tuple(told)  # accounting does not answer: nothing can be said of them now
        records = by_identity(recorded)
        return tuple(told) + tuple(ended_by_records(records, handle) for handle in missing)

    async def _queued(self) -> Iterable[Seen]:
        """What slurmctld knows of this user's jobs, also of those that ended not long ago (MinJobAge)."""
        out = await self.ask(
            "list its jobs",
            "squeue",
            "--me",
            "--array",
            "--all",
            "--states=all",
            f"--Format={SQUEUE_FORMAT}",
        )
        return seen_in_squeue(out)

    async def _recorded(self, *which: str) -> Iterable[Seen] | None:
        """What accounting knows; None when it does not answer; nothing when there is none."""
        ran = await self.run(
            "sacct", "--allocations", "--duplicates", "--parsable2", f"--delimiter={FIELD}",
            f"--format={SACCT_FORMAT}", *which,
        )  # fmt: skip
        if slurm_words.accounting_off(ran):
            return ()
        return None if ran.code else seen_in_sacct(ran.out)

    async def cancel(self, handles: Sequence[Handle]) -> None:
        """One squeue, to see that they are still ours, and one scancel for each thousand."""
        if not handles:
            return
        known = by_identity(await self._queued())
        ids = whole_arrays(known, handles)
        for start in range(0, len(ids), _IDS):
            ran = await self.run("scancel", *ids[start : start + _IDS])
            if ran.code and "already complet" not in ran.err and "Invalid job id" not in ran.err:
                raise slurm_words.error(ran, "cancel the jobs")

    async def adopt(self, prefix: str, since: int = 0) -> tuple[Seen, ...]:
        """squeue for what is there, sacct for what has ended and been forgotten."""
        found = {
            (one.token, one.index, one.native): one for one in await self._queued() if one.token.startswith(prefix)
        }
        there = {(one.token, one.index) for one in found.values()}
        ago = (self.tools.clock.now() - since) // 1_000_000 + 60 if since else _DAY
        recorded = await self._recorded(f"--starttime=now-{max(ago, 60)}seconds")
        records = by_identity(one for one in recorded or () if one.token.startswith(prefix))
        old = [ended_by_records(records, one[-1].handle) for identity, one in records.items() if identity not in there]
        return tuple(found.values()) + tuple(one for one in old if not (since and one.ended and one.ended < since))

    # --- the system ---

    async def check(self, wanted: Wanted) -> tuple[Check, ...]:
        """The partition and its limits, and what sbatch --test-only says."""
        return await slurm_checks.check(self, self._checked(wanted), self._options)

    async def nodes(self, queue: str = "") -> tuple[NodeSeen, ...]:
        """One scontrol."""
        out = await self.ask("list its nodes", "scontrol", "--all", "--details", "--oneliner", "show", "node")
        nodes = [
            node_in_scontrol(line) for line in out.splitlines() if line.strip() and not line.startswith("No nodes")
        ]
        if queue:
            nodes = [node for node in nodes if queue in node.queues]
            if not nodes:  # unknown, or without nodes
                await slurm_checks.partition(self, queue)
        return tuple(sorted(nodes, key=lambda node: node.name))

    async def drain(self, node: str, reason: str) -> None:
        """scontrol update state=drain, with the reason that Slurm insists on."""
        words = " ".join(reason.split())[:200]
        if not words:
            raise BadInput(f"{node} cannot be drained without a reason", "say why, for those who will wonder")
        await self._update(node, "drain", f"Reason={words}")

    async def resume(self, node: str) -> None:
        """scontrol update state=resume, for a node that is drained or down."""
        found = [one for one in await self.nodes() if one.name == node]
        if not found:
            raise Refused(f"Slurm has no node {node}", "see 'sinfo -N' for the nodes there are")
        if {"DRAIN", "FAIL"} & set(found[0].flags) or found[0].flags[0] == "DOWN":
            await self._update(node, "resume")

    async def _update(self, node: str, state: str, *more: str) -> None:
        if not node or not all(letter.isalnum() or letter in "._-" for letter in node) or node.upper() == "ALL":
            raise BadInput(f"{node[:80]!r} is not the name of one node")
        await self.ask(f"{state} {node}", "scontrol", "update", f"NodeName={node}", f"State={state}", *more)

    async def diagnose(self) -> tuple[Check, ...]:
        """Commands, munge, slurmctld, clocks, accounting."""
        return await slurm_checks.diagnose(self, self.tools.clock)

    def on_every_node(self, wanted: Wanted) -> str:
        """srun, in a step that leaves the cores to the steps of jobs."""
        return slurm_script.on_every_node(wanted)

    def end_every_node(self) -> str:
        """scancel, with a signal: for the steps, not for the script."""
        return slurm_script.END_EVERY_NODE


_Known = dict[tuple[str, int], list[Seen]]


def by_identity(seen: Iterable[Seen]) -> _Known:
    """All that bear each identity, the oldest submission first."""
    known: _Known = {}
    for one in seen:
        known.setdefault((one.token, one.index), []).append(one)
    for same in known.values():
        same.sort(key=lambda one: (one.submitted, one.started))
    return known


def whole_arrays(known: _Known, handles: Iterable[Handle]) -> list[str]:
    """The ids to cancel those of `handles` by that still live: an array as a whole where all of it goes.

    Slurm forgets an element at once when it is cancelled alone while it waits; what is cancelled as a whole it remembers.
    """
    found = (choose(known, handle) for handle in handles)
    live = {seen.native for seen in found if seen is not None and seen.state is not SeenState.ENDED}
    there = {seen.native for same in known.values() for seen in same if seen.state is not SeenState.ENDED}
    ids: dict[str, None] = {}
    staying = {native.partition("_")[0] for native in there - live}
    for native in sorted(live):
        array = native.partition("_")[0]
        ids[native if array in staying else array] = None
    return list(ids)


def choose(known: _Known, handle: Handle) -> Seen | None:
    """The one that a handle means: of its token and id, else of its token."""
    same = known.get((handle.token, handle.index), ())
    return next((one for one in reversed(same) if one.native == handle.native), same[-1] if same else None)


def ended_by_records(records: _Known, handle: Handle) -> Seen:
    """How one that slurmctld has forgotten ended, by its last record; unknown where there is none, or one without an end."""
    last = choose(records, handle)
    if last is None:
        return Seen(
            native=handle.native, token=handle.token, index=handle.index, state=SeenState.ENDED,
            outcome=SeenOutcome.UNKNOWN, reason=f"{LOST}, and accounting never did",
        )  # fmt: skip
    again = len([one for one in records[(handle.token, handle.index)] if one.native == last.native]) - 1
    if last.outcome is not None:
        return msgspec.structs.replace(last, restarts=again)
    where = f" on {','.join(last.nodes[:8])}" if last.nodes else ""
    return msgspec.structs.replace(
        last, state=SeenState.ENDED, outcome=SeenOutcome.UNKNOWN, restarts=again,
        reason=f"{LOST}; accounting still says {last.state}{where}: something of it may run there",
    )  # fmt: skip
