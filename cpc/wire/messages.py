"""What machines say to each other on port 13807: every method with the shape of its question and answer.

A frame is a msgpack map, the *envelope*; the body is opaque to relays. Bodies are the structures below, as msgpack maps:
unknown keys are ignored, so a newer side may add some; a missing key takes its default. Durations are in seconds, never
deadlines, because clocks differ between machines. `PROTOCOL` counts up when an old side could misunderstand; the last two
numbers are served.

| method            | who → whom              | question          | answer       |
|-------------------|-------------------------|-------------------|--------------|
| enrol             | bundle → server         | Enrol             | Enrolled     |
| look              | bundle → server         | Look              | Judged       |
| renew-certificate | worker → server         | Enrol             | Enrolled     |
| hello             | worker → server         | Hello             | Welcome      |
| turn              | worker → server         | Turn              | Orders       |
| orders            | server → worker, one-way| Orders            |              |
| goodbye           | worker → server         | Goodbye           | {}           |
| bulk              | worker → server, on a connection of its own | Bulk | {}        |
| chunk-get         | worker → server, bulk   | ChunkGet          | ChunkData    |
| chunk-put         | worker → server, bulk   | ChunkPut          | {}           |
| chunks-missing    | worker → server, bulk   | ChunksMissing     | ChunkList    |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from cpc.core import ids
from cpc.core.allocation import Check
from cpc.core.digest import Content
from cpc.core.lease import Lease
from cpc.core.manifest import Manifest
from cpc.core.outcome import Outcome
from cpc.core.pieces import Data
from cpc.core.probe import NodeReport
from cpc.core.resources import Amounts

PROTOCOL = 1
OLDEST_PROTOCOL = 1

if TYPE_CHECKING:
    Chunk = Data
else:
    Chunk = memoryview  # what msgspec makes of a small one; of a large one `frames.decode` keeps the pieces that came

# What a database takes, and what can be written as JSON: a number outside is refused before anything is done with it.
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Cores = Annotated[int, msgspec.Meta(ge=0, le=1 << 20)]
ExitCode = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e12)]  # neither infinite nor NaN
Left = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A body: keyword fields, defaults left out on the wire."""


# --- joining -----------------------------------------------------------------------------------------------------------


class Enrol(Message, frozen=True):
    """A certificate signing request (PEM) for the worker's own key. The same key always gets the same name."""

    request: bytes


class Look(Message, frozen=True):
    """What a worker program finds where it was started to look, not to work. Once for each allocation that is for that."""

    report: NodeReport


class Judged(Message, frozen=True):
    """What the server says to it."""

    checks: tuple[Check, ...] = ()


class Enrolled(Message, frozen=True):
    """The worker's certificate (PEM), its name, and for how many seconds it is valid."""

    certificate: bytes
    name: str
    valid_for: float


class Program(Message, frozen=True):
    """An executable that the worker can start."""

    name: str
    version: str
    platform: str = "smp"


class Held(Message, frozen=True):
    """A job of another server that the worker has: what it was granted. `waits`: for room, it has not begun. `first`: it is the
    first job of an array, which nobody but its owner could tell by its number."""

    lease: Lease
    granted: Amounts
    waits: bool = False
    first: bool = False


class Hello(Message, frozen=True):
    """A worker joins, or comes back. `boot` changes with every start of the agent; `holds` are the attempts it has.

    `ahead`: how many tasks beyond its room it takes and starts, oldest first, as soon as they fit. `paths`: it knows leases
    with a path, so it may be lent; `lent` is what it runs for others, because its server keeps no record of that.
    """

    boot: str
    host: str
    release: str
    platform: str
    total: Amounts
    programs: tuple[Program, ...] = ()
    labels: tuple[str, ...] = ()
    project: str = ""  # take jobs of this project only
    cores_per_job: Cores = 0  # -s: give each job exactly so many, where its limits allow
    time_left: Left | None = None  # until the worker's own walltime
    holds: tuple[Lease, ...] = ()
    note: str = ""
    ahead: int = 0
    paths: bool = False
    lent: tuple[Held, ...] = ()
    allocation: str = ""  # the token of the allocation that it runs in, as the batch system's job told it
    node: str = ""  # as the batch system calls it
    restarts: Count = 0  # how often the batch system had started the allocation before


class Welcome(Message, frozen=True):
    """Joined. Beat every `beat` seconds; leases end `heartbeat_time` after the last turn. End `drop` at once."""

    session: int
    server: str
    release: str
    incarnation: int
    heartbeat_time: float
    beat: float
    checkpoint_interval: float = 900.0
    drop: tuple[Lease, ...] = ()
    draining: str = ""  # the reason, if this worker is being drained
    brief: bool = False  # turns that do not name what the worker holds are understood
    certificate_valid_for: float = 0.0  # of the worker's own certificate


# --- a turn: one message each way for all that happened ---------------------------------------------------------------


class Result(Message, frozen=True):
    """One attempt has ended. Kept in the worker's spool until its lease is in `Orders.settled`.

    `exit_code` is None when the program never started; a signal is −N. Chunks of `files` that are not in `small` were
    uploaded before; `small` carries contents up to 64 KiB by digest. `tail`: last lines of output, for people.
    """

    lease: Lease
    outcome: Outcome
    exit_code: ExitCode | None = None
    files: Manifest = Manifest()
    small: dict[bytes, bytes] = {}
    message: str = ""
    tail: str = ""
    wall_seconds: Seconds = 0.0
    cpu_seconds: Seconds = 0.0
    max_memory: Count = 0
    stage_in_seconds: Seconds = 0.0  # its inputs were under way; 0: it had none
    stage_out_seconds: Seconds = 0.0  # chunks of its outputs were; 0: all were in `small`
    first: bool = False  # as in Held


class Checkpoint(Message, frozen=True):
    """The newest checkpoint of a running attempt; its chunks are uploaded. It replaces the one before."""

    lease: Lease
    files: Manifest


class Tail(Message, frozen=True):
    """Live output: bytes of `stream` ("stdout" or "stderr") that begin at `offset`."""

    lease: Lease
    stream: str
    offset: Count
    data: bytes


class Turn(Message, frozen=True):
    """What happened at the worker since its last turn. Every turn is a heartbeat that renews exactly `holds`.

    `free` is what it offers now; the server answers at once or, later, with `orders`. `wants` false: no more jobs.
    `brief`: what the worker holds is not named, because it has been a moment ago; only to a server that understands it.
    `over`: the programs of these have ended, and their results are still collected and sent: they need no room any more.
    """

    number: int
    holds: tuple[Lease, ...] = ()
    results: tuple[Result, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    tails: tuple[Tail, ...] = ()
    free: Amounts = Amounts()
    wants: bool = True
    time_left: Left | None = None
    note: str = ""  # why the worker stepped back, in words: shown by `cpcc workers`
    brief: bool = False
    over: tuple[Lease, ...] = ()


class Task(Message, frozen=True):
    """One leased attempt, ready to start. Argument and path templates are filled in already.

    `checkpoint` is unpacked over the inputs. `watch` lists the streams somebody follows now.
    """

    lease: Lease
    project: int
    granted: Amounts
    argv: tuple[str, ...]
    executable: str = ""
    version: str = ""
    env: dict[str, str] = {}
    stdin: str = ""
    inputs: tuple[tuple[str, Content, bool], ...] = ()  # (path, content, executable)
    outputs: tuple[str, ...] = ("**",)
    checkpoint_patterns: tuple[str, ...] = ()
    checkpoint: Manifest | None = None
    walltime: float = 0.0
    name: str = ""

    @property
    def is_element(self) -> bool:
        """Whether it is one of an array."""
        return "CPC_INDEX" in self.env

    @property
    def is_first(self) -> bool:
        """Whether it is the first of an array."""
        return self.is_element and ids.index(self.lease.job) == 0


class Settled(Message, frozen=True):
    """The server's word on one result: accepted or not, it is on record, and the spool may forget it. With the verdict
    "kept aside" the worker keeps it apart for a while, if it can: a restored server does not know the job."""

    lease: Lease
    verdict: str
    note: str = ""


class Orders(Message, frozen=True):
    """What the worker should do now. Everything in it is committed at the server."""

    tasks: tuple[Task, ...] = ()
    settled: tuple[Settled, ...] = ()
    cancel: tuple[tuple[Lease, str], ...] = ()  # end these; the reason, for the log
    wanted: tuple[Lease, ...] = ()  # of those in `cancel`: the job is open, a result that is complete is still wanted
    hand_back: tuple[Lease, ...] = ()  # checkpoint, stop and report PREEMPTED
    follow: tuple[Lease, ...] = ()  # somebody watches: send tails of these each second
    drain: str | None = None  # a reason: take nothing new; "" : take jobs again
    leave: bool = False  # drained and empty: the agent may end
    retry: tuple[Lease, ...] = ()  # results not taken now (disk full, chunk missing): send again later
    beat: Seconds = 0.0  # from now on in place of what the welcome has said, and so `heartbeat_time`; 0: as before
    heartbeat_time: Seconds = 0.0


class Goodbye(Message, frozen=True):
    """The worker leaves; whatever it still holds is handed back."""

    reason: str = ""


# --- bulk ----------------------------------------------------------------------------------------------------------------


class Bulk(Message, frozen=True):
    """A second connection of the same worker and session, for files; a heartbeat never waits behind one."""

    session: int


class ChunkGet(Message, frozen=True):
    """A chunk of an input or checkpoint of this lease. `size`: its bytes; 0: not said. One that is larger is not given."""

    lease: Lease
    digest: bytes
    size: int = 0


class ChunkData(Message, frozen=True):
    """A chunk on its way to the worker. `data`, here and in ChunkPut, is the last field: see `frames.Bulk`."""

    data: Chunk


class ChunkPut(Message, frozen=True):
    """A chunk of a result or checkpoint of this lease. Answered when it is on disk. Put twice is put once."""

    lease: Lease
    digest: bytes
    data: Chunk


class ChunksMissing(Message, frozen=True):
    """Which of these the server does not have from this project yet."""

    lease: Lease
    digests: tuple[bytes, ...]


class ChunkList(Message, frozen=True):
    digests: tuple[bytes, ...]
