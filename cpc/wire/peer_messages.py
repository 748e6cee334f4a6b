"""What servers say to each other on port 13807.

*Direct* messages are for the neighbour and are read by it. *Far* messages travel along a route, by the ids of its servers
from the sender to whom it is for; the servers in between read the envelope only and need not understand the body. A route
has each server once; each server checks that the one before it on the route is the peer it has the message from.

| method          | kind            | who → whom       | question      | answer         |
|-----------------|-----------------|------------------|---------------|----------------|
| peer-hello      | direct          | who has dialled  | PeerHello     | PeerHello      |
| alive           | direct, one-way | either           | Alive         |                |
| withdrawn       | direct          | either           | Withdrawn     | {}             |
| survey          | direct          | either           | Survey        | Surveyed       |
| ask-work        | direct          | lender → peer    | AskWork       | WorkGiven      |
| demand          | direct, one-way | peer → lender    | Demand        |                |
| ping            | far             | any              | Ping          | Pong           |
| report          | far             | home → owner     | Report        | ReportAnswer   |
| far-orders      | far, one-way    | owner → home     | ReportAnswer  |                |
| far-chunk-get   | far, bulk       | home → owner     | FarChunkGet   | ChunkData      |
| far-chunk-put   | far, bulk       | home → owner     | FarChunkPut   | {}             |
| far-missing     | far, bulk       | home → owner     | FarMissing    | ChunkList      |

Leases in these messages are as their owner knows them (without a path). A worker is known by its number at its home.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from cpc.core.lease import Lease
from cpc.core.peer import Bound
from cpc.core.resources import Amounts
from cpc.wire.messages import (
    Checkpoint,
    Chunk,
    Cores,
    Count,
    Left,
    Message,
    Orders,
    Program,
    Result,
    Seconds,
    Tail,
    Task,
)

MAX_HOPS = 16
MAX_OFFERS = 256
MAX_ASKED = 2000  # servers that one question names
MAX_REPORTED = 1000  # workers in one report
Server = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Route = Annotated[tuple[Server, ...], msgspec.Meta(max_length=MAX_HOPS + 1)]
Hops = Annotated[int, msgspec.Meta(ge=0, le=MAX_HOPS)]
QuestionId = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]  # it is kept for a while by all who are asked


# --- the link itself -----------------------------------------------------------------------------------------------------


class PeerHello(Message, frozen=True):
    """The first question on each connection between servers. `bulk`: this connection is for files.

    `host` and ports are what the server calls itself: adopted only after they were verified, and never in place of an
    address that works.
    """

    name: str
    release: str
    host: str
    port: int
    client_port: int
    bulk: bool = False


class Alive(Message, frozen=True):
    """Nothing but that this side is there: sent on each connection so often that a silent one is a lost one."""


class Withdrawn(Message, frozen=True):
    """Trust has been withdrawn; the connection ends. `hand_back`: running work is to be handed back.

    Said on a link, or instead of a hello by who looks for the other side to tell it. Who is reached is refused with the
    code `trust-ended`, or `trust-ended-hand-back`, and nothing is read of it.
    """

    reason: str = ""
    hand_back: bool = False


class ServerSeen(Message, frozen=True):
    """A server as one of its neighbours, or itself, describes it. `peers` are the ids that it is connected with.

    `working_for`: (owner's id, jobs) that its own workers run for others now.
    """

    server: Server
    name: str = ""
    release: str = ""
    peers: tuple[Server, ...] = ()
    workers: Count = 0
    cores: Count = 0
    busy_cores: Count = 0
    jobs_waiting: Count = 0
    working_for: tuple[tuple[Server, Count], ...] = ()


class Survey(Message, frozen=True):
    """Which servers are there? Asked of a neighbour, which asks its own, but none in `seen`."""

    id: QuestionId
    hops: Hops
    seconds: Seconds
    seen: tuple[Server, ...] = ()


class Surveyed(Message, frozen=True):
    servers: tuple[ServerSeen, ...] = ()


class Ping(Message, frozen=True):
    pass


class Pong(Message, frozen=True):
    server: Server
    name: str
    release: str


# --- lending -------------------------------------------------------------------------------------------------------------


class Offer(Message, frozen=True):
    """A worker that is lent: `total` is what the borrower may use at all, `free` what it may use now.

    `home` is how its home server calls itself, for people. `plain`: jobs that name no program are taken too.
    """

    worker: Count  # its number at its home
    name: str
    host: str
    total: Amounts
    free: Amounts
    programs: tuple[Program, ...] = ()
    labels: tuple[str, ...] = ()
    platform: str = ""
    cores_per_job: Cores = 0
    time_left: Left | None = None
    ahead: int = 0  # tasks beyond its room that it takes
    home: str = ""
    plain: bool = True


class AskWork(Message, frozen=True):
    """Has anybody work for these? `route`: from the workers' home to who asks now. `hops`: how many servers beyond the
    asked one are asked now, `most`: how many may be asked, when there is nothing nearer. `asked`: servers that have been or
    will be asked by others on this question's way, or hear of the workers anyway: not again. `bounds`: what servers on the way
    let pass in all, beyond what each offer says.

    A server answers an `id` once, and repeats the answer to a repeat; coming by another way it is answered with nothing, unless
    it may go farther by that.
    """

    id: QuestionId
    route: Route
    hops: Hops
    seconds: Seconds  # in which the answer is wanted
    most: Hops = 0
    asked: Annotated[tuple[Server, ...], msgspec.Meta(max_length=MAX_ASKED)] = ()
    offers: Annotated[tuple[Offer, ...], msgspec.Meta(max_length=MAX_OFFERS)] = ()
    bounds: Annotated[tuple[Bound, ...], msgspec.Meta(max_length=MAX_HOPS + 1)] = ()


class Given(Message, frozen=True):
    """Tasks for one worker, of the owner at the end of `route`, which begins with the server that answers."""

    worker: Count
    route: Route
    tasks: tuple[Task, ...]


class WorkGiven(Message, frozen=True):
    """What there is. Whoever got less than it offered is called back with `demand` when there is work that fits an offer,
    within `subscribed` seconds. `complete`: farther away is nobody who has not been asked."""

    given: tuple[Given, ...] = ()
    subscribed: Seconds = 0.0
    complete: bool = False


class Demand(Message, frozen=True):
    """There is work for what was offered, `hops` servers beyond the one that says so, at `server` (empty: not known): ask again,
    for workers of these `homes` (none: of all). `instead`: the way by which these had asked is cut, so it is for those, too, who
    were told that their question had come by another way."""

    hops: Hops = 0
    server: Annotated[str, msgspec.Meta(max_length=64)] = ""
    homes: Annotated[tuple[Server, ...], msgspec.Meta(max_length=MAX_OFFERS)] = ()
    instead: bool = False


class WorkerReport(Message, frozen=True):
    """What happened at one worker with the owner's jobs. `offer` is sent with the first report after a (re)connection, and
    when it has changed. `holds` are renewed: named once in a beat at least, and left out in between. `free` and `ahead`: the
    room that the owner may fill now, beyond what its leases use. `gone`: the worker is lost or has left, in words; its leases
    are over.
    """

    worker: Count
    offer: Offer | None = None
    holds: tuple[Lease, ...] = ()
    results: tuple[Result, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    tails: tuple[Tail, ...] = ()
    free: Amounts = Amounts()
    ahead: int = 0
    wants: bool = False
    time_left: Left | None = None
    gone: str = ""
    counts: bool = True  # of a worker that is gone: whether its jobs' losses count against max_losses


class Report(Message, frozen=True):
    """Heartbeat and turn of a home server for those of its workers that have jobs of the owner. `way`: how long the owner's
    answers take at present, to the home's knowledge; 0: it does not know yet. What the servers on its way let the owner have is
    in the envelope (`Bound`)."""

    number: int
    way: Seconds = 0.0
    workers: Annotated[tuple[WorkerReport, ...], msgspec.Meta(max_length=MAX_REPORTED)] = ()


class WorkerOrders(Message, frozen=True):
    """What one worker is to do. The settled, cancelled… leases are the owner's."""

    worker: Count
    orders: Orders


class ReportAnswer(Message, frozen=True):
    """`unknown`: workers of which the owner needs an offer first. The home reports again within `beat` seconds."""

    workers: tuple[WorkerOrders, ...] = ()
    unknown: tuple[Count, ...] = ()
    beat: Seconds = 30.0


# --- files ---------------------------------------------------------------------------------------------------------------


class FarChunkGet(Message, frozen=True):
    """A chunk of the job's own files, for the worker that runs it. `have`: who asks has the bytes and only wants to know whether
    it may use them; the answer is then without data."""

    lease: Lease
    worker: Count
    digest: bytes
    have: bool = False


class FarChunkPut(Message, frozen=True):
    """A chunk of a result or checkpoint; answered when it is on the owner's disk."""

    lease: Lease
    worker: Count
    digest: bytes
    data: Chunk


class FarMissing(Message, frozen=True):
    """Which of these must be sent: the owner does not have them, or not as files of this job."""

    lease: Lease
    worker: Count
    digests: tuple[bytes, ...]
