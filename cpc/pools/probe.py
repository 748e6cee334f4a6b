"""A look at a pool from one of its nodes: what to ask for, and what is found, in words.

What a node tells is held against what the pool says of its nodes. Where a node could not tell anything, how the allocation
ended is what is known.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from cpc.core.allocation import Check
from cpc.core.probe import NodeReport, Tried, Way, way_of, words_for
from cpc.core.resources import MIB, Amounts, show_size, show_span
from cpc.pools.allocation import Allocation, Reason, State
from cpc.pools.facts import Pool

#: Seconds that a look may take on the node.
WALLTIME = 300.0
#: Bytes that it needs there, at most.
MEMORY = 512 * MIB
#: Seconds that clocks may differ: from _SKEW on people wonder, from _WRONG on certificates are refused (cpc.wire.tls).
_SKEW = 30.0
_WRONG = 300.0
#: With less space than this no worker gets far.
_ROOM = 1 << 30

_WAY = "way to the server"


def shape(pool: Pool) -> tuple[Amounts, float]:
    """(what is asked for on one node, for how long): the least with which what workers will see is seen."""
    each = Amounts(cores=1, memory=min(pool.each.memory, MEMORY), gpus=min(pool.each.gpus, 1))
    return each, min(pool.walltime, WALLTIME)


# --- a node that has told ---


def judge(report: NodeReport, pool: Pool | None, mark: str, release: str, now: int) -> tuple[Check, ...]:
    """One Check for each thing. `pool`: None for a program that somebody has started by hand. `mark`: what the server has
    written for the node to see, "": nothing; `release` and `now` (UTC µs) are the server's."""
    return tuple(_checks(report, pool, mark, release, now))


def _checks(report: NodeReport, pool: Pool | None, mark: str, release: str, now: int) -> Iterator[Check]:
    yield _way(report)
    yield _clock(report, now)
    yield _program(report, release)
    if report.platform_trouble:
        words = f"platform {report.platform} cannot be used on {report.name}: {report.platform_trouble}"
        yield Check("platform", False, words, _set(pool, "--platform NAME") or "start it with another platform")
    yield _work(report, pool)
    if mark:
        yield _shared(report, pool, mark)
    if pool is not None:
        yield from _size(report, pool)
        if pool.programs:
            yield _programs(report, pool, pool.programs)
    if report.munge:
        yield _munge(report)
    for package, one in report.further:
        yield replace(one, name=f"{package}, {one.name}", words=f"{one.words} (on {report.name})")


def _way(report: NodeReport) -> Check:
    reached = next((one for one in report.tried if one.way == Way.OPEN), None)
    if reached is None:  # it has told, all the same
        return Check(_WAY, True, f"{report.name} reaches this server, and knows it by its certificate")
    words = f"{report.name} reaches {reached.host} port {reached.port}, and knows this server by its certificate"
    failed = [one for one in report.tried if one.way != Way.OPEN]
    if not failed:
        return Check(_WAY, True, words)
    said, hint = _not_reached(report.name, failed[0])
    return Check(_WAY, True, f"{words}; but {said}", hint, doubt=True)


def _not_reached(node: str, one: Tried) -> tuple[str, str]:
    way = way_of(one.way)
    if way is not None:
        return words_for(way, node, one.host, one.port)
    return f"{node} did not get through to {one.host} port {one.port}: {one.words}", ""


def _clock(report: NodeReport, now: int) -> Check:
    skew = abs(now - report.clock) / 1e6
    if skew <= _SKEW:
        return Check("clocks", True, f"the clocks of {report.name} and this machine agree")
    ahead = "ahead of" if report.clock > now else "behind"
    words = f"the clock of {report.name} is {show_span(skew)} {ahead} this machine's"
    if skew < _WRONG:
        return Check("clocks", True, words, "set both by NTP (chrony)", doubt=True)
    return Check(
        "clocks", False, words, "set both by NTP (chrony): certificates are refused, and munge's credentials too"
    )


def _program(report: NodeReport, release: str) -> Check:
    if report.release == release:
        return Check("worker program", True, f"it is there, of this server's release ({release})")
    words = f"it is there, of release {report.release or 'unknown'}; this server is {release}"
    return Check(
        "worker program", True, words, "they understand each other; install the same where you can", doubt=True
    )


def _work(report: NodeReport, pool: Pool | None) -> Check:
    if report.work_trouble:
        words = f"workers on {report.name} cannot keep files in {report.work}: {report.work_trouble}"
        return Check("run directory", False, words, _set(pool, "--work DIR") or "name another with -wd")
    words = f"workers on {report.name} can keep files in {report.work}, {show_size(report.free)} free"
    if report.free < _ROOM:
        return Check("run directory", True, words, "make room there, or name another place with --work", doubt=True)
    return Check("run directory", True, words)


def _shared(report: NodeReport, pool: Pool | None, mark: str) -> Check:
    if mark in report.marks:
        return Check("shared files", True, f"{report.name} sees in {report.work} what this machine has written there")
    words = f"{report.name} does not see in {report.work} what this machine has just written there"
    hint = "mount the same directory on all nodes and name it with --work DIR, or cpcc pool set "
    return Check("shared files", False, words, f"{hint}{pool.name if pool else 'POOL'} --no-shared-files")


def _size(report: NodeReport, pool: Pool) -> Iterator[Check]:
    each = pool.each
    lacks = []
    if report.cores < each.cores:
        lacks.append((f"{report.cores} cores", f"{each.cores}", "--cores N"))
    if each.memory and report.memory < each.memory:
        lacks.append((f"{show_size(report.memory)} of memory", show_size(each.memory), "--memory SIZE"))
    for has, says, option in lacks:
        words = f"{report.name} has {has}; the pool says {says} for each node"
        yield Check("size", False, words, _set(pool, option))
    if not lacks:
        yield Check("size", True, f"{report.name} has {report.cores} cores and {show_size(report.memory)} of memory")
    if each.gpus and not report.gpus:
        words = f"a worker sees no GPU on {report.name}, though the pool says {each.gpus} for each node and one was asked for"
        yield Check("gpus", False, words, "see nvidia-smi there, in such an allocation")
    elif each.gpus:
        yield Check("gpus", True, f"a worker sees {report.gpus} GPU(s) where one was asked for on {report.name}")


def _programs(report: NodeReport, pool: Pool, said: tuple[tuple[str, str], ...]) -> Check:
    there = set(report.programs)
    missing = [f"{name} {version}".strip() for name, version in said if (name, version) not in there]
    if not missing:
        return Check("programs", True, f"{report.name} has what the pool says: {len(said)} program(s)")
    words = f"{report.name} has no {', '.join(missing[:5])}, which the pool says its workers have"
    return Check("programs", False, words, _set(pool, "--prologue FILE (module load …), or --program as it is"))


def _munge(report: NodeReport) -> Check:
    if report.munge == "ok":
        return Check("munge", True, f"credentials are made and accepted on {report.name}")
    words = f"no credential on {report.name}: {report.munge}"
    return Check("munge", True, words, "start munged there with the cluster's key; srun inside needs it", doubt=True)


# --- a node that could not tell ---


def ended(one: Allocation, pool: str, worker: str, output: str, host: str, port: int) -> tuple[Check, ...]:
    """What is known when it is over; nothing as long as it is not. `host` and `port`: where workers are sent; `output`: where
    what they print is kept, "" for nowhere."""
    probe = one.probe
    if probe is None or (one.state is not State.ENDED and not probe.checks):
        return ()
    if probe.checks:
        return probe.checks
    node = ", ".join(one.ran_on) or probe.node or "the node"
    more = f"read {output} on {node}" if output else f"cpcc pool set {pool} --output FILE, look again, and read it"
    said = f": {one.words}" if one.words else ""
    match one.reason:
        case Reason.REFUSED:
            return (Check("request", False, f"the batch system did not take it{said}", "mend that, then look again"),)
        case Reason.CANCELLED | Reason.REMOVED | Reason.ORPHAN | Reason.FORGOTTEN:
            return (Check("request", False, f"it was ended before {node} had told anything{said}", "look again"),)
        case Reason.WALLTIME | Reason.UNJOINED:
            words = f"what was started on {node} came to no end: the prologue, {worker} or a file system hangs there"
            return (Check("worker program", False, words, more),)
        case Reason.NODE | Reason.PREEMPTED | Reason.VANISHED:
            return (Check("node", False, f"{node} could not tell anything ({one.reason}){said}", "look again"),)
    return (_by_code(probe.exit, node, worker, host, port, more),)


def _by_code(code: int, node: str, worker: str, host: str, port: int, more: str) -> Check:
    way = way_of(code)
    if way is not None:
        words, hint = words_for(way, node, host, port)
        return Check(_WAY, False, words, hint)
    if code in (126, 127):
        what = "is not there" if code == 127 else "cannot be run"
        words = f"{worker}, or a program of the pool's --wrap or --prologue, {what} on {node} (exit code {code})"
        return Check("worker program", False, words, f"install it there, or --worker PATH; to see which: {more}")
    if code in (1, 2):
        words = f"{worker} on {node} could not look (exit code {code}): it may be of an older release"
        return Check(
            "worker program", False, words, f"install this server's release there; to see what it says: {more}"
        )
    told = f"exit code {code}" if code >= 0 else "an exit code that nobody knows"
    return Check("worker program", False, f"what was started on {node} ended with {told} and told nothing", more)


def _set(pool: Pool | None, words: str) -> str:
    return f"cpcc pool set {pool.name} {words}" if pool else ""
