"""What was agreed with a peer, applied: which routes are good, how far work may be asked for, and what limits leave over."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cpc.core.peer import Agreement, Limits
from cpc.core.resources import Amounts
from cpc.queue.requirement import Profile

MOST_SERVERS = 17  # on a route, its ends included
FAR = MOST_SERVERS  # servers beyond one that is asked: all there can be


def broken(route: Sequence[str]) -> str:
    """Why this cannot be a route, in words; empty when it can."""
    if len(set(route)) != len(route):
        return "it has a server twice"
    if not 2 <= len(route) <= MOST_SERVERS:
        return f"it has {len(route)} server(s); a route has 2 to {MOST_SERVERS}"
    if any("/" in server or not server for server in route):
        return "it names a server that cannot be"
    return ""


def denied(route: Collection[str], *agreements: Agreement) -> str:
    """The first server on the route that one of the agreements does not want there; empty when there is none."""
    unwanted = {server for agreement in agreements for server in agreement.denied}
    return next((server for server in route if server in unwanted), "")


def beyond(agreement: Agreement) -> int | None:
    """How many servers beyond this peer may be asked by way of it. None: the peer itself may not."""
    return None if agreement.lent.off else max(0, agreement.lend_on)


def restricted(profile: Profile, limits: Limits) -> Profile:
    """The worker as far as the limits let it be used."""
    if limits.executables is None:
        return profile
    programs = tuple(program for program in profile.programs if program[0] in limits.executables)
    return Profile(programs, profile.labels, profile.total, plain=False)


def room(free: Amounts, limits: Limits, used: int) -> Amounts:
    """Of what is free, what the limits let be used when `used` cores are in use already."""
    if limits.off:
        return Amounts()
    if limits.cores is None:
        return free
    cores = max(0, min(free.cores, limits.cores - used))
    return Amounts(cores=cores, gpus=free.gpus, memory=free.memory, other=free.other)


def withdrawn(agreement: Agreement) -> bool:
    """Whether nothing at all may go on with the peer: trust in it was withdrawn."""
    return agreement.lent.off and agreement.accepted.off
