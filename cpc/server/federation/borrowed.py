"""A worker of another server, as one of ours: its key, name, row, hello and session."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from cpc.core.errors import CopernicusError
from cpc.core.peer import Limits
from cpc.core.texts import plain
from cpc.queue import terms
from cpc.queue.requirement import Profile, profile
from cpc.queue.session import Session
from cpc.server.joining import check_hello
from cpc.store.workers import WorkerRow
from cpc.wire.messages import Hello, Result, Settled, Task
from cpc.wire.peer_messages import Offer

MAX_NAME = 64


@dataclass(frozen=True, slots=True)
class Borrowed:
    """A worker of another server with a session here. `back`: the servers from here to its home."""

    session: int
    worker: int
    home: str
    number: int
    back: tuple[str, ...]


def key_of(back: tuple[str, ...], number: int) -> str:
    """What it is known by, in place of a key's fingerprint: the way from here to its home, and its number there.

    Who the home is, the neighbour says: without the way each peer could take the numbers of another one's workers.
    """
    return f"{way_of(back)}/{number}"


def way_of(back: tuple[str, ...]) -> str:
    """The servers from our neighbour to its home; kept with its row in place of a boot id."""
    return "/".join(back[1:])


def name_of(offer: Offer, home: str) -> str:
    """How people see it: `lab-1@A`."""
    return f"{plain(offer.name, MAX_NAME)}@{plain(offer.home, MAX_NAME) or home[:8]}"


def hello_of(offer: Offer, home: str) -> Hello:
    """What it would say if it joined here. BadInput for what no worker of ours would say."""
    return check_hello(
        Hello(
            boot=home,
            host=offer.host,
            release="",
            platform=offer.platform,
            total=offer.total,
            programs=offer.programs,
            labels=offer.labels,
            cores_per_job=offer.cores_per_job,
        )
    )


def row_of(number: int, offer: Offer, back: tuple[str, ...], now: int) -> WorkerRow:
    """Its row. It has no bundle: what `settling.same_bundle` goes by is the way to its home."""
    return WorkerRow(
        id=number, name=name_of(offer, back[-1]), fingerprint=key_of(back, offer.worker), bundle=0,
        host=plain(offer.host, MAX_NAME), created=now, last_seen=now, boot="", session=0, hello=b"", drain=None, revoked=None,
    )  # fmt: skip


def not_theirs(results: Iterable[Result]) -> list[Settled]:
    """What is answered to results that come by another way than their jobs were given by."""
    words = "its job was not given to a worker that is lent by this way"
    return [Settled(lease=result.lease, verdict="dropped", note=words) for result in results]


def offered_by(offer: Offer) -> Profile:
    """What it can run, by its offer."""
    programs = tuple((program.name, program.version) for program in offer.programs)
    return profile(programs, offer.labels, offer.total, offer.plain)


def session_of(
    worker: int, offer: Offer, back: tuple[str, ...], limits: Limits, allowed: frozenset[int] | None, now: float
) -> Session:  # fmt: skip
    """Its session, not joined yet; `worker` 0: it has no row. `back`: the way to its home; `now` by the lease clock."""
    offered, home = offered_by(offer), back[-1]
    return Session(
        number=0,
        worker=worker,
        name=name_of(offer, home),
        profile=terms.restricted(offered, limits),
        offered=offered,
        total=offer.total,
        free=offer.free,
        cores_per_job=offer.cores_per_job,
        deadline=None if offer.time_left is None else now + offer.time_left,
        home=home,
        back=back,
        projects=allowed,
    )


def sane(offers: Iterable[Offer], home: str) -> list[Offer]:
    """Those of the offers that a server of ours could make."""
    return [offer for offer in offers if _good(offer, home)]


def _good(offer: Offer, home: str) -> bool:
    try:
        hello_of(offer, home)
    except CopernicusError:
        return False
    return offer.free.possible


def size_of(task: Task) -> int:
    """About how many bytes a task is."""
    return 300 + sum(map(len, task.argv)) + sum(100 + 34 * len(content.chunks) for _, content, _ in task.inputs)


def limited(offer: Offer, cores: int | None, executables: tuple[str, ...] | None) -> Offer | None:
    """The offer as a peer may have it; None when nothing of it is left."""
    programs, plain = offer.programs, offer.plain
    if executables is not None:
        programs, plain = tuple(program for program in programs if program.name in executables), False
    free = offer.free if cores is None else terms.at_most(offer.free, cores)
    if free.cores <= 0 or not (plain or programs):
        return None
    return msgspec.structs.replace(offer, free=free, programs=programs, plain=plain)
