"""Allocations and nodes as batch systems are asked for them and as they tell of them: facts, without any system's words.

An allocation is known by (token, index): our own token, which the batch system carries for us, and which of its copies it
is. What the system calls it (`native`) is how it is spoken of, never who it is: such ids are used again, also for
somebody else's.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence

import msgspec

from cpc.core.errors import BadInput

_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_WORD = re.compile(r"[^\x00-\x20\x7f]{1,1024}")
MAX_SCRIPT = 1 << 20


class SeenState(enum.StrEnum):
    """How far an allocation is, by the batch system."""

    WAITING = "waiting"  # in its queue; also once more, after it was requeued
    CONFIGURING = "configuring"  # nodes are its own, and being started or prepared; its script does not run yet
    RUNNING = "running"  # its script runs, is suspended, or is just being ended
    ENDED = "ended"  # for good


class SeenOutcome(enum.StrEnum):
    """Why an allocation ended, by the batch system. What its worker has said about itself is better, where it spoke."""

    OK = "ok"  # its script ended with 0
    FAILED = "failed"  # its script ended with something else, could not be started, or took more than it had
    TIMEOUT = "timeout"  # its walltime was over
    PREEMPTED = "preempted"  # somebody more important has its nodes
    NODE_FAILED = "node-failed"  # a node died, or did not come up
    CANCELLED = "cancelled"  # by us, its owner or an administrator
    UNKNOWN = "unknown"  # the system has no record of how, or has lost the allocation altogether


class NodeState(enum.StrEnum):
    """What can be done with a node."""

    IDLE = "idle"  # all of it is free
    MIXED = "mixed"  # some of it is free
    BUSY = "busy"  # none of it is free
    DRAINING = "draining"  # takes nothing new; something still runs
    DRAINED = "drained"  # takes nothing new; nothing runs
    DOWN = "down"  # does not answer, or was declared dead
    OFF = "off"  # sleeps to save power, or is not rented; starts when it is needed
    STARTING = "starting"  # on its way up
    UNKNOWN = "unknown"


class Wanted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request: `script`, started `count` times, each in an allocation of its own with everything below.

    Amounts are of each node: `cores`, `memory` (bytes; 0: as the system gives), `gpus`. `walltime` and `lead` are seconds:
    `lead` before the walltime is over the script gets SIGTERM (0: no warning), give or take what the system rounds to.
    `queue` (partition) and `account` "" mean the system's default. `exclude`: nodes not to use. `options`: what the site's
    system wants besides, word by word, as its own commands take them. `directory`: where the script starts; it must be there
    on the nodes. `output`: where what it prints goes ("": nowhere). `requeue`: the system may start it again by itself when
    a node dies or it is preempted. `exclusive`: whole nodes. `secrets` is environment too, which is never shown to anybody
    and never put on a command line.

    The script begins with `#!`, ends the allocation when it ends, and finds in its environment CPC_ALLOCATION (the token),
    CPC_ALLOCATION_INDEX (0 to count − 1), CPC_ALLOCATION_RESTARTS (how often the system has started it before) and
    CPC_ALLOCATION_NATIVE (what the system calls it), besides `environment` and `secrets`.
    """

    token: str
    script: str
    name: str = "copernicus"
    count: int = 1
    nodes: int = 1
    cores: int = 1
    memory: int = 0
    gpus: int = 0
    walltime: int
    lead: int = 0
    queue: str = ""
    account: str = ""
    directory: str = "/"
    output: str = ""
    requeue: bool = False
    exclusive: bool = False
    exclude: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    secrets: dict[str, str] = {}

    def checked(self) -> Wanted:
        """This, if it can be asked of any system at all, else BadInput. Plugins call it before everything else."""
        check_token(self.token)
        if not _NAME.fullmatch(self.name):
            raise BadInput(f"{self.name[:80]!r} cannot be an allocation's name", "use letters, digits, - and _")
        for what, number, low, high in (
            ("count", self.count, 1, 1 << 16), ("nodes", self.nodes, 1, 1 << 16), ("cores", self.cores, 1, 1 << 16),
            ("memory", self.memory, 0, 1 << 50), ("gpus", self.gpus, 0, 1 << 10), ("walltime", self.walltime, 1, 1 << 28),
            ("lead", self.lead, 0, self.walltime),
        ):  # fmt: skip
            if not low <= number <= high:
                raise BadInput(f"{what} {number} of an allocation is not between {low} and {high}")
        if not self.script.startswith("#!") or "\0" in self.script or "\r" in self.script:
            raise BadInput("an allocation's script begins with #! and has no NUL or CR in it")
        if len(self.script) > MAX_SCRIPT:
            raise BadInput(f"an allocation's script is longer than {MAX_SCRIPT >> 20} MiB")
        if not self.directory.startswith("/") or not _printable(self.directory):
            raise BadInput(f"{self.directory[:200]!r} is not an absolute path", "give the directory from / on")
        if self.output and not _printable(self.output):
            raise BadInput(f"{self.output[:200]!r} cannot be a file's name")
        for word in (self.queue, self.account, *self.exclude):
            if word and (not _WORD.fullmatch(word) or word.startswith("-")):
                raise BadInput(f"{word[:80]!r} cannot be the name of a queue, an account or a node")
        for option in self.options:
            if not option or not _printable(option):
                raise BadInput(f"{option[:80]!r} cannot be an option of a batch system")
        for name, value in (*self.environment.items(), *self.secrets.items()):
            if not _VARIABLE.fullmatch(name) or "\0" in value:
                raise BadInput(f"{name[:80]!r} cannot be a variable of a script's environment")
        return self


class Handle(msgspec.Struct, frozen=True):
    """How an allocation is spoken of: who it is (token, index), and under which name the system knows it."""

    native: str
    token: str
    index: int = 0


class Seen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One allocation as the system has it at this moment.

    `reason`: the system's own words for why it waits or how it ended. `stuck`: it waits for something that will not come
    by itself. Times are UTC microseconds by the batch system's clock, 0 where there is none: to show, not to count with;
    `left` is how many seconds of its walltime are left, −1 when nobody knows. `nodes`: those it runs on or ran on last.
    `restarts`: how often the system has started it again, up to the run that this tells of. `cores`: what it has in all,
    which may be more than was asked for (whole nodes, whole cores); 0 unknown, and as long as it waits. `exit`: its script's
    exit code, or 128 + signal; −1 unknown.
    """

    native: str
    token: str
    index: int = 0
    state: SeenState
    outcome: SeenOutcome | None = None
    reason: str = ""
    stuck: bool = False
    submitted: int = 0
    started: int = 0
    ended: int = 0
    left: int = -1
    nodes: tuple[str, ...] = ()
    restarts: int = 0
    cores: int = 0
    exit: int = -1

    @property
    def handle(self) -> Handle:
        """How to speak of it."""
        return Handle(self.native, self.token, self.index)


class NodeSeen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One node as the system has it at this moment.

    `flags`: the system's own words for its state. Memory in bytes; `memory_free` is what the node's kernel says (−1:
    unknown, as for one that does not answer), `memory_used` what allocations were promised. `reason`: why it is drained or
    down, `reason_by` and `reason_at` (UTC microseconds) where the system tells. `queues`: where it can be asked for.
    `address`: where the system reaches it, a name or an address; "": by its name.
    """

    name: str
    state: NodeState
    flags: tuple[str, ...] = ()
    cores: int = 0
    cores_used: int = 0
    memory: int = 0
    memory_used: int = 0
    memory_free: int = -1
    gpus: int = 0
    gpus_used: int = 0
    reason: str = ""
    reason_by: str = ""
    reason_at: int = 0
    queues: tuple[str, ...] = ()
    address: str = ""


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at: a short name, whether it is well, what was found, and what to do when it is not.

    `doubt`: it is well enough to go on with, and `hint` says what to look after.
    """

    name: str
    ok: bool
    words: str
    hint: str = ""
    doubt: bool = False


class Described(msgspec.Struct, frozen=True):
    """What would be sent: the command line or call as a person would write it, and the script. Secrets are hidden."""

    call: str
    script: str


def check_token(token: str) -> str:
    """`token` if every batch system can carry it, else BadInput."""
    if not _TOKEN.fullmatch(token):
        raise BadInput(f"{token[:80]!r} cannot be an allocation's token", "use up to 63 letters, digits and -")
    return token


def by_token(seen: Sequence[Seen]) -> dict[tuple[str, int], Seen]:
    """What is seen, by who it is."""
    return {(one.token, one.index): one for one in seen}


def _printable(text: str) -> bool:
    return len(text) <= 4096 and not any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in text)
