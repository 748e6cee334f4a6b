"""What was agreed with a peer, applied: which routes are good, how far work may be asked for, and what limits leave over."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cpc.core.peer import Agreement, Bound, Limits
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


def bound(route: Sequence[str], place: int, agreement: Agreement) -> tuple[Bound, ...]:
    """What the server at this place of a route to an owner lets the next one have, by what was agreed with that; empty: all."""
    lent = agreement.lent
    off = lent.off or agreement.lend_on < len(route) - 2 - place
    if not off and lent.cores is None and lent.executables is None:
        return ()
    return (Bound(place, off, lent.cores, lent.executables),)


def within(limits: Limits, bounds: Sequence[Bound]) -> Limits:
    """What is left of limits when servers on the way have said theirs; but for cores, which each of them counts by itself."""
    for each in bounds:
        names = limits.executables
        if each.executables is not None:
            names = tuple(name for name in each.executables if names is None or name in names)
        limits = Limits(
            off=limits.off or each.off, cores=limits.cores, projects=limits.projects, executables=names
        )  # fmt: skip
    return limits


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
    return free if limits.cores is None else at_most(free, limits.cores - used)


def at_most(free: Amounts, cores: int) -> Amounts:
    """The same with no more than so many cores."""
    return Amounts(cores=max(0, min(free.cores, cores)), gpus=free.gpus, memory=free.memory, other=free.other)


def withdrawn(agreement: Agreement) -> bool:
    """Whether nothing at all may go on with the peer: trust in it was withdrawn."""
    return agreement.lent.off and agreement.accepted.off
