"""What a pool is asked for: requests that are written down, sent to its batch system, and what it answers.

What is alike goes in one request where the scheduler can (`Scheduler.most`). Nothing is remembered that a restart could not
find again, but for the credentials in the requests: what was not sent by then is given up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.logger import Logger

from cpc.api.scheduler import AtLimit, Scheduler, Unsettled
from cpc.core.allocation import Wanted
from cpc.core.errors import CopernicusError, Damaged, Unavailable
from cpc.pools import nodes
from cpc.pools.allocation import Allocation, Event, Reason, State
from cpc.pools.facts import Pool
from cpc.server.pools import script, series
from cpc.server.pools.happening import Happening
from cpc.server.pools.means import Means, read
from cpc.store import projects
from cpc.store.store import Store
from cpc.store.transaction import Tx

log = Logger()

_NOT_ANY_MORE = "not wanted any more"


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request is made of. `bundles` by token, in the order of their index; "" for one that is not wanted any more."""

    pool: Pool
    means: Means
    facts: Allocation
    project: str
    avoid: tuple[str, ...]
    bundles: Mapping[str, str]

    def wanted(self, scheduler: Scheduler, count: int) -> Wanted:
        """The request for the first `count` of them."""
        return script.wanted(
            self.pool, self.means, self.facts, scheduler, bundles=list(self.bundles.values())[:count],
            project=self.project, avoid=self.avoid,
        )  # fmt: skip


def failed(scheduler: Scheduler, error: Exception) -> str:
    """What a plugin has raised that it should not."""
    return f"the scheduler {scheduler.name} failed: {type(error).__name__}: {error}"


class Requests:
    """Of one pool, one after the other."""

    def __init__(self, pool: int, happening: Happening, store: Store) -> None:
        self._pool = pool
        self._happening = happening
        self._book = happening.book
        self._store = store
        self._waiting: dict[str, dict[str, bytes]] = {}
        self._told: tuple[Scheduler, int] | None = None
        self._untold: dict[str, Callable[[Tx], None]] = {}  # what became of what was sent, and is not written yet

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, bundles: Mapping[str, bytes]) -> None:
        """One request: the bundles of its allocations, by token."""
        self._waiting[series.part(next(iter(bundles)))[0]] = dict(bundles)

    def together(self, scheduler: Scheduler) -> int:
        """How many allocations go into one request; what the batch system says to that is known after the first."""
        told = self._told[1] if self._told and self._told[0] is scheduler else scheduler.most_at_once
        return max(1, min(told, series.MOST))

    async def send(self, scheduler: Scheduler) -> bool:
        """The oldest one; whether anything of it was accepted. Raises what keeps the next one from being sent."""
        base = next(iter(self._waiting))
        if base in self._untold:  # the database was away: it is not sent again
            await self._write(base, self._untold[base])
            accepted = True
        else:
            accepted = await self._send(scheduler, base)
        self._waiting.pop(base, None)
        return accepted

    async def _send(self, scheduler: Scheduler, base: str) -> bool:
        asked = await self._store.write(lambda tx: self._asked(tx, self._waiting[base], scheduler.excludes))
        if asked is None:
            return False
        tokens = list(asked.bundles)
        limit: AtLimit | None = None
        rest: list[str] = []
        while True:
            try:
                if len(tokens) > (most := await self._most(scheduler, len(tokens))):
                    await self._put_off(tokens[most:], most)
                    tokens = tokens[:most]
                natives = await scheduler.submit(asked.wanted(scheduler, len(tokens)))
                if len(natives) != len(tokens):
                    raise Damaged(f"{scheduler.name} took {len(tokens)} allocations and has told of {len(natives)}")
            except AtLimit as error:
                # All are accepted or none: fewer may still be.
                half = len(tokens) // 2
                rest = tokens[half:] + rest
                tokens, limit = tokens[:half], error
                if not tokens:
                    await self._tell(base, {}, rest, error)
                    return False
            except (Unsettled, Damaged) as error:
                # They may be there or not: their tokens tell, later.
                silent = {token: (Event.SILENT, {"words": error.message}) for token in tokens}
                await self._tell(base, silent, rest, limit)
                raise
            except CopernicusError as error:
                await self._tell(base, {}, tokens + rest, limit or error)
                if isinstance(error, Unavailable):  # nothing has left this machine
                    raise
                return False
            except Exception as error:
                # A plugin that fails in a way of its own may have been heard all the same.
                words = failed(scheduler, error)
                await self._tell(base, {token: (Event.SILENT, {"words": words}) for token in tokens}, rest, limit)
                raise
            else:
                named = zip(tokens, natives, strict=True)
                taken = {token: (Event.ACCEPTED, {"native": native}) for token, native in named}
                await self._tell(base, taken, rest, limit)
                return True

    async def _most(self, scheduler: Scheduler, count: int) -> int:
        """How many it takes at once; asked once, by the first request for several."""
        if count == 1:
            return 1
        if self._told is None or self._told[0] is not scheduler:
            try:
                most = min(await scheduler.most(), scheduler.most_at_once)
            except CopernicusError:
                return scheduler.most_at_once  # the submission itself says what is wrong
            self._told = (scheduler, max(1, most))
        return self._told[1]

    async def _put_off(self, tokens: Sequence[str], most: int) -> None:
        """More than it takes at once: these are asked for anew, with the next decision. That is no refusal."""
        words = f"the batch system takes {most} at once: asked for anew"

        def unit(tx: Tx) -> None:
            for token in tokens:
                self._happening.happen(tx, token, Event.CANCELLED, reason=Reason.CANCELLED, words=words)
                self._happening.happen(tx, token, Event.REFUSED)

        await self._store.write(unit)

    async def _tell(
        self, base: str, told: Mapping[str, tuple[Event, dict[str, Any]]], refused: Sequence[str],
        why: CopernicusError | None,
    ) -> None:  # fmt: skip
        """What became of each, in one unit."""
        events = dict(told)
        if why is not None:
            events |= {
                token: (Event.REFUSED, {"reason": Reason.REFUSED, "words": why.message}) for token in refused
            }  # fmt: skip

        def unit(tx: Tx) -> None:
            for token, (event, more) in events.items():
                self._happening.happen(tx, token, event, **more)

        await self._write(base, unit)

    async def _write(self, base: str, unit: Callable[[Tx], None]) -> None:
        """What became of a request; kept until it is written."""
        self._untold[base] = unit
        await self._store.write(unit)
        del self._untold[base]

    def _asked(self, tx: Tx, bundles: Mapping[str, bytes], excludes: bool) -> _Asked | None:
        """What is to be sent; None when nothing of it is wanted any more."""
        pool = self._book.pools.get(self._pool)
        rows = {token: row for token in bundles if (row := self._book.live.get(token)) is not None}
        wanted = {token: row.facts for token, row in rows.items() if row.facts.state is State.ASKED}
        if pool is None:
            return None
        facts = next(iter(wanted.values()), None)
        project, refusal = self._project(tx, facts.project) if facts is not None else ("", "")
        # What is not wanted and lies between others is sent with them, and cancelled when the answer comes.
        last = list(bundles).index(list(wanted)[-1]) if wanted and not refusal else -1
        for token in list(bundles)[last + 1 :]:
            row = rows.get(token)
            if row is not None and row.facts.state in (State.ASKED, State.LEAVING) and not row.native:
                self._happening.happen(tx, token, Event.REFUSED, words=refusal or _NOT_ANY_MORE)
        if facts is None or last < 0:
            return None
        bad = nodes.excluded(pool.facts, self._book.nodes.values(), self._book.now) if excludes else ()
        avoid = tuple(one.node for one in bad)
        if facts.probe is not None and facts.probe.node:
            avoid = facts.probe.others
        sent = {token: text.decode() if token in wanted else "" for token, text in list(bundles.items())[: last + 1]}
        return _Asked(pool.facts, read(pool.means, pool.name), facts, project, avoid, sent)

    def _project(self, tx: Tx, number: int) -> tuple[str, str]:
        """(the name of the only project that is served, "" for any; why nothing is asked for it)."""
        if not number:
            return "", ""
        project = projects.by_id(tx, number)
        if project is None or project.deleted is not None:
            return "", "its project has been deleted"
        return project.name, ""
