"""Schedulers: batch systems and clouds that can be asked for workers. Entry point group `cpc.schedulers.v1`.

An entry point is a subclass of `Scheduler`. It is made from its pool's settings and what it may use to reach the system,
keeps no state of its own (a server that was killed makes it anew and asks the system), and tells facts in words that no
system has to itself (`cpc.core.allocation`).

The token is the identity. Systems use their ids again, lose submissions that they have accepted, and start jobs again by
themselves; so a plugin makes the system carry the token, and never reports or cancels an allocation by its id alone.

Errors of every call are CopernicusErrors with the system's own words in them:

* `Refused`: the system has said no (unknown queue, account, permission). Nothing was done. `AtLimit` is the kind that may
  be accepted later.
* `Unavailable`: the system or the way to it is down or too slow. `submit` raises `Unsettled` instead wherever the
  submission may have got through.
* `Damaged`: it answered something that cannot be understood. After a submit this too leaves it unsettled.
* `BadInput`: what was asked for cannot be asked. Nothing was done.

A third party's class is tested by pointing `cpc.api.scheduler_suite` at it.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from cpc.core.allocation import (
    Check,
    Described,
    Handle,
    NodeSeen,
    NodeState,
    Seen,
    SeenOutcome,
    SeenState,
    Wanted,
    check_token,
)
from cpc.core.chance import Chance
from cpc.core.clock import Clock
from cpc.core.errors import BadInput, Damaged, NotFound, Refused, TooLarge, Unavailable

__all__ = [
    "AtLimit", "Check", "Described", "Handle", "Http", "HttpAnswer", "NodeSeen", "NodeState", "NotConnected", "Ran", "Run",
    "Scheduler", "Seen", "SeenOutcome", "SeenState", "Setting", "Tools", "Unsettled", "Wanted", "check_token",
]  # fmt: skip


class AtLimit(Refused):
    """Refused for now: a limit of the account, the user or the queue is reached. The same may be accepted later."""


class NotConnected(Unavailable):
    """Nobody could be reached at all: the request has not arrived anywhere."""


class Unsettled(Unavailable):
    """The answer to a submission was lost: it may have been accepted. `adopt` tells, `settle_time` seconds later."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did. `code`: its exit code, 128 + signal when one ended it. Output as text, wrong bytes replaced."""

    code: int
    out: str
    err: str


class Run(Protocol):
    """Runs a command of the batch system, without a shell, in a clean environment (C locale)."""

    async def __call__(
        self, argv: Sequence[str], stdin: str = "", timeout: float = 30.0, env: Mapping[str, str] | None = None
    ) -> Ran:
        """Run it to its end. `env` is added to the environment.

        NotFound: there is no such program. NotConnected: it could not be started. Unavailable: it did not end within `timeout`
        seconds, and was killed with all that it had started. TooLarge: it printed more than anybody will read, and was killed.
        """


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What an HTTP server answered. Header names in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Http(Protocol):
    """Asks HTTP servers: `http://`, `https://` and `unix:///path/of/socket:/path`. Follows no redirects."""

    async def __call__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout: float = 30.0,
    ) -> HttpAnswer:
        """Ask once. NotConnected: there was no connection. Unavailable: no answer within `timeout` seconds, or it broke
        off. TooLarge: the answer is longer than anybody will read."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a scheduler may use, handed in, so that tests and simulations can stand in for all of it."""

    run: Run
    http: Http
    clock: Clock
    chance: Chance


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that pools of this scheduler have besides the common ones: `cpcc pool add NAME SCHEDULER name=value`."""

    name: str
    help: str
    default: str = ""
    example: str = ""


class Scheduler(abc.ABC):
    """One batch system or cloud, as one pool uses it. Version 1 of this interface."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    #: How many copies one submission may ask for. 1: each allocation is a submission of its own.
    most_at_once: ClassVar[int] = 1
    #: Whether it can leave nodes out of a request (`Wanted.exclude`); False: none is left out, however often workers fail there.
    excludes: ClassVar[bool] = True
    #: Seconds after which a submission that was not answered has either become visible or never will.
    settle_time: ClassVar[float] = 60.0

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        """What can be set for its pools, besides what all pools have."""
        return ()

    def __init__(self, tools: Tools, settings: Mapping[str, str] | None = None) -> None:
        """`settings` by name; those not given have their defaults. BadInput for unknown ones and values that cannot be."""
        known = {one.name: one.default for one in self.settings()}
        for name in settings or {}:
            if name not in known:
                hint = f"it has: {', '.join(known)}" if known else "it has none of its own"
                raise BadInput(f"scheduler {self.name} has no setting {name!r}", hint)
        self.tools = tools
        self.set: Mapping[str, str] = known | dict(settings or {})

    async def command(
        self, *argv: str, stdin: str = "", timeout: float = 60.0, env: Mapping[str, str] | None = None
    ) -> Ran:
        """Run one of the system's commands, whatever its exit code. NotConnected where it cannot be run at all, Unavailable
        where it does not end, Damaged where it prints without end."""
        try:
            return await self.tools.run(argv, stdin, timeout, env)
        except NotFound as error:
            raise NotConnected(
                error.message, f"install {argv[0]} on the server's machine, or put it into its PATH"
            ) from None
        except TooLarge as error:
            raise Damaged(error.message, f"see what {argv[0]} is on the server's machine") from None

    @abc.abstractmethod
    def describe(self, wanted: Wanted) -> Described:
        """Exactly what `submit` would send, with the secrets hidden. Asks nobody. BadInput as submit."""

    @abc.abstractmethod
    async def submit(self, wanted: Wanted) -> tuple[str, ...]:
        """Ask for `wanted.count` allocations; what the system calls them, in the order of their index.

        All are accepted or none. BadInput and Refused (AtLimit): none was. Unsettled and Damaged: ask `adopt`, never again
        with another token before `settle_time` is over.
        """

    async def most(self) -> int:
        """How many copies one submission may ask for, where the system itself has a limit: never more than `most_at_once`."""
        return self.most_at_once

    @abc.abstractmethod
    async def poll(self, handles: Sequence[Handle]) -> tuple[Seen, ...]:
        """How these are, in any order, with as few questions to the system as can be, however many they are.

        One that the system surely does not know any more is `ended`, outcome `unknown`. One of which nothing can be said
        at this moment is left out. Somebody else's job under the same native id is not it.
        """

    @abc.abstractmethod
    async def cancel(self, handles: Sequence[Handle]) -> None:
        """End these. Returns when the system has taken note, not when they are gone. Those that have ended already, are
        unknown or have become somebody else's are passed over."""

    @abc.abstractmethod
    async def adopt(self, prefix: str, since: int = 0) -> tuple[Seen, ...]:
        """All allocations in the system whose token begins with `prefix`: those that wait or run, and those that ended
        after `since` (UTC microseconds) as far as the system remembers. Finds what a crash or a lost answer left behind."""

    @abc.abstractmethod
    async def check(self, wanted: Wanted) -> tuple[Check, ...]:
        """Whether such a request can ever be granted: the queue, the account, the limits, the nodes, asked of the system
        without submitting anything. Raises only what makes all of it impossible to tell."""

    @abc.abstractmethod
    async def nodes(self, queue: str = "") -> tuple[NodeSeen, ...]:
        """The nodes, or those of one queue (Refused when it is unknown), by name."""

    async def drain(self, node: str, reason: str) -> None:
        """Let nothing new start on a node; what runs there runs on. Refused: unknown node, or not ours to say."""
        raise Refused(f"scheduler {self.name} cannot drain nodes", f"drain {node} with the system's own means")

    async def resume(self, node: str) -> None:
        """Let things start there again. A node that was not drained stays as it is."""
        raise Refused(f"scheduler {self.name} cannot resume nodes", f"resume {node} with the system's own means")

    @abc.abstractmethod
    async def diagnose(self) -> tuple[Check, ...]:
        """What administrators waste days on, looked at now: `cpc-server doctor` and `cpcc doctor POOL`. Raises nothing that
        it can say as a Check."""

    def on_every_node(self, wanted: Wanted) -> str:
        """Shell words that, before a command in the script, start it once on each node of the allocation and wait for all of
        them. "" where the script itself is started on every node."""
        return ""

    def end_every_node(self) -> str:
        """Shell words that, in the script, send SIGTERM to all that `on_every_node` has started there. "" where it passes a
        SIGTERM on by itself."""
        return ""

    async def close(self) -> None:  # noqa: B027 (most have nothing to close)
        """The pool is being removed, or the server stops. What is in the system stays there."""
