"""Pools, as people act on them: the service behind `cpcc pools`, `pool add`, `allocations`, `nodes` and the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from msgspec.structs import replace
from twisted.internet.defer import ensureDeferred, gatherResults

from cpc.api.scheduler import Scheduler
from cpc.core import ids, names
from cpc.core.allocation import Check, NodeSeen
from cpc.core.errors import BadInput, Conflict, CopernicusError, NotFound, Unavailable
from cpc.core.pool_views import (
    AllocationView,
    NodeView,
    PoolForgotten,
    PoolPlan,
    PoolSettings,
    PoolView,
    PoolWhyView,
    ProbeView,
)
from cpc.core.views import Page, Reason
from cpc.pools import learning, nodes, why
from cpc.pools.allocation import Event
from cpc.pools.allocation import Reason as Ending
from cpc.pools.facts import Pool
from cpc.server import joining
from cpc.server.gate import Gate
from cpc.server.pools import script, settings
from cpc.server.pools.examining import examine, example, stands
from cpc.server.pools.ground import Ground
from cpc.server.pools.hand import Hand
from cpc.server.pools.keeper import Keeper
from cpc.server.pools.means import Means, pack, read
from cpc.server.pools.probing import Probing, view
from cpc.server.pools.removal import Removal
from cpc.server.pools.settings import Clearable
from cpc.server.pools.shows import Shows, names_of
from cpc.server.principal import Call, Principal
from cpc.server.queue import Queue
from cpc.server.roles import Act
from cpc.store import allocations, workers
from cpc.store.allocations import AllocationRow
from cpc.store.pools import PoolRow
from cpc.store.store import Store
from cpc.store.transaction import Tx

T = TypeVar("T")


class Pools:
    """Whoever may do what is decided by the gate before a batch system is asked anything."""

    probing: Probing  # set by whoever made both

    def __init__(self, store: Store, gate: Gate, queue: Queue, keeper: Keeper, ground: Ground) -> None:
        self._ground = ground
        self._store = store
        self._gate = gate
        self._queue = queue
        self._keeper = keeper
        self._book = keeper.book
        self.shows = Shows(keeper, queue)
        self._removal = Removal(gate, keeper, self.shows, self._pause)

    # --- pools ---

    async def page(self, who: Principal) -> Page:
        """All pools."""
        return await self._look(
            who, Act.POOL_LIST,
            lambda tx: Page(
                items=tuple(self.shows.pool(tx, row, who.super_user) for row in self._book.pools.values())
            ),
        )  # fmt: skip

    async def get(self, who: Principal, name: str) -> PoolView:
        """One pool."""
        return await self._look(
            who, Act.POOL_LIST, lambda tx: self.shows.pool(tx, self._book.pool(tx, name), who.super_user)
        )  # fmt: skip

    async def plan(self, who: Principal, name: str, scheduler: str, given: PoolSettings) -> PoolPlan:
        """What adding this pool would do, and what its batch system says to it. Changes nothing."""
        facts, means = await self._look(who, Act.POOL_ADD, lambda tx: self._new(tx, name, scheduler, given))
        return await self._plan(facts, means)

    async def add(self, call: Call, name: str, scheduler: str, given: PoolSettings, force: bool) -> PoolView:
        """A new pool. Its batch system is asked before whether it could ever grant an allocation; `force`: do not ask."""

        def unit(tx: Tx) -> PoolView:
            facts, means = self._new(tx, name, scheduler, given)
            row = self._book.add_pool(tx, facts, pack(means))
            tx.event(call.who.actor, "pool.added", subject=row.id, pool=row.name, scheduler=scheduler)
            tx.after(lambda: self._keeper.pool_changed(row))
            return replace(self.shows.pool(tx, row, True), warnings=warnings)

        warnings: tuple[str, ...] = ()
        if not force:
            with suppress(Conflict):  # this call may have been carried out before: then it has its answer
                warnings = await self._must_be_granted(await self.plan(call.who, name, scheduler, given))
        return await self._gate.write(call, Act.POOL_ADD, unit, answer=PoolView)

    async def set(
        self, call: Call, name: str, given: PoolSettings, force: bool, clear: Sequence[Clearable] = ()
    ) -> PoolView:
        """Change some of its settings, after `clear` was emptied; what runs keeps those that it began with."""

        def made(tx: Tx) -> tuple[PoolRow, Pool, Means]:
            row = self._book.pool(tx, name)
            return row, *settings.apply(tx, given, row.facts, read(row.means, row.name), clear)

        def unit(tx: Tx) -> PoolView:
            row, facts, means = made(tx)
            self._keeper.scheduler(facts.scheduler, means.settings)
            changed = self._book.change_pool(tx, row.id, facts, pack(means))
            self._book.learn(tx, row.id, learning.reconfigured(row.learned))
            tx.event(call.who.actor, "pool.changed", subject=row.id, pool=row.name)
            tx.after(lambda: self._keeper.pool_changed(changed))
            return replace(self.shows.pool(tx, self._book.pools[row.id], True), warnings=warnings)

        warnings: tuple[str, ...] = ()
        if not force:
            _, facts, means = await self._look(call.who, Act.POOL_SET, made)
            warnings = await self._must_be_granted(await self._plan(facts, means))
        return await self._gate.write(call, Act.POOL_SET, unit, answer=PoolView)

    async def remove(self, call: Call, name: str, cancel: bool) -> None:
        """The pool is gone, once all it has has ended; with `cancel` that is ended first: then call again."""
        await self._removal.remove(call, name, cancel)

    async def forget(self, call: Call, name: str) -> PoolForgotten:
        """The pool is gone, and what runs in its batch system, which nobody can ask any more, is told and left there."""
        return await self._removal.forget(call, name)

    async def pause(self, call: Call, name: str, reason: str) -> PoolView:
        """Ask it for nothing more. What runs goes on."""

        def unit(tx: Tx) -> PoolView:
            row = self._pause(tx, self._book.pool(tx, name), reason, call.who.actor)
            return self.shows.pool(tx, row, True)

        return await self._gate.write(call, Act.POOL_PAUSE, unit, answer=PoolView)

    async def resume(self, call: Call, name: str) -> PoolView:
        """Ask it again; what went wrong before is forgotten."""

        def unit(tx: Tx) -> PoolView:
            row = self._book.pool(tx, name)
            row = self._book.change_pool(tx, row.id, replace(row.facts, paused=None), row.means)
            self._book.learn(tx, row.id, learning.reconfigured(row.learned))
            tx.event(call.who.actor, "pool.resumed", subject=row.id, pool=row.name)
            tx.after(self._keeper.stir)
            return self.shows.pool(tx, self._book.pools[row.id], True)

        return await self._gate.write(call, Act.POOL_PAUSE, unit, answer=PoolView)

    def _pause(self, tx: Tx, row: PoolRow, reason: str, actor: str) -> PoolRow:
        row = self._book.change_pool(tx, row.id, replace(row.facts, paused=reason), row.means)
        tx.event(actor, "pool.paused", subject=row.id, pool=row.name, reason=reason)
        tx.after(self._keeper.stir)
        return row

    async def why(self, who: Principal, name: str) -> PoolWhyView:
        """Why it is asked for what it is asked for, or for nothing."""

        def unit(tx: Tx) -> PoolWhyView:
            row = self._book.pool(tx, name)
            state, note = self.shows.state(row)
            found = []
            if state == "unreachable":
                found.append(Reason(kind="unreachable", text=note, step=f"cpcc doctor {row.name}"))
            if row.id in self._keeper.hands:
                survey = self._keeper.survey(tx)
                waits = list(self._keeper.hands[row.id].waits.values())
                notes = [*why.pool(survey, row.id), *why.queue(row.facts, [(one.words, one.stuck) for one in waits])]
                found += [Reason(kind=one.kind, text=one.text, step=one.step) for one in notes]
            return PoolWhyView(pool=row.name, state=state, reasons=tuple(found))

        return await self._look(who, Act.POOL_LIST, unit)

    async def doctor(self, who: Principal, name: str) -> Page:
        """What administrators waste days on, looked at now."""
        row = await self._look(who, Act.POOL_DOCTOR, lambda tx: self._book.pool(tx, name))
        means = read(row.means, row.name)
        checks = await examine(self._scheduler(row), row.facts, means, self._ground, self._keeper.tools.run)
        return Page(items=tuple(view(one) for one in checks))

    async def probe(self, call: Call, name: str, node: str) -> ProbeView:
        """Look at it from one of its nodes."""
        return await self.probing.start(call, name, node)

    async def probed(self, who: Principal, id: str) -> ProbeView:
        """How far such a look is."""
        return await self.probing.get(who, id)

    # --- inside ---

    def _look(self, who: Principal, act: Act, unit: Callable[[Tx], T]) -> Awaitable[T]:
        return self._gate.look(who, act, unit)

    def _new(self, tx: Tx, name: str, scheduler: str, given: PoolSettings) -> tuple[Pool, Means]:
        name = names.clean(name, "pool")
        if any(names.key(row.name) == names.key(name) for row in self._book.pools.values()):
            raise Conflict(
                f"there is a pool {name!r} already", f"change it with cpcc pool set {name}, or take another name"
            )
        facts, means = settings.apply(tx, given, Pool(number=0, name=name, scheduler=scheduler), Means())
        self._keeper.scheduler(scheduler, means.settings)
        return facts, means

    async def _plan(self, facts: Pool, means: Means) -> PoolPlan:
        scheduler = self._keeper.scheduler(facts.scheduler, means.settings)
        try:
            wanted = script.wanted(facts, means, example(facts), scheduler)
            described = scheduler.describe(wanted)
            try:
                checks = await scheduler.check(wanted)
            except CopernicusError as error:
                checks = (Check("reachable", False, error.message, error.hint),)
            checks = (*checks, *settings.known_platform(facts.platform))
            warnings = await stands(scheduler, facts, means, self._ground, self._keeper.tools.run)
        finally:
            await scheduler.close()
        return PoolPlan(
            call=described.call, script=described.script, checks=tuple(view(one) for one in checks),
            warnings=tuple(view(one) for one in warnings),
        )  # fmt: skip

    async def _must_be_granted(self, plan: PoolPlan) -> tuple[str, ...]:
        """What is doubtful, in words. BadInput when the batch system would never grant it."""
        for one in plan.checks:
            if not one.ok:
                raise BadInput(
                    f"the batch system would not grant an allocation of this pool: {one.text}",
                    one.hint or "mend that, or use --force",
                )
        return tuple(f"{one.text} ({one.hint})" for one in plan.warnings if not one.ok)

    def _scheduler(self, row: PoolRow) -> Scheduler:
        return self._hand(row).scheduler

    def _hand(self, row: PoolRow) -> Hand:
        hand = self._keeper.hands.get(row.id)
        if hand is None:
            raise Unavailable(f"pool {row.name} cannot be used: {self._keeper.broken.get(row.id, 'it is being made')}")
        return hand

    # --- allocations ---

    async def allocations(self, who: Principal, pool: str, live: bool, after: str, limit: int) -> Page:
        """Allocations, newest first; `live`: those only that have not ended."""
        if after and not (after.isascii() and after.isdigit() and len(after) < 20):
            raise BadInput(f"{after[:40]!r} is not a cursor of this list")

        def unit(tx: Tx) -> Page:
            number = self._book.pool(tx, pool).id if pool else None
            if live:
                rows = [row for row in self._book.live.values() if number in (None, row.pool)]
                rows.sort(key=lambda row: -row.id)
                rows = [row for row in rows if not after or row.id < int(after)][: limit + 1]
            else:
                rows = [
                    self._book.live.get(row.token, row)
                    for row in allocations.page(tx, int(after or 0), limit + 1, number)
                ]
            last = str(rows[limit - 1].id) if len(rows) > limit else ""
            return Page(items=tuple(self.shows.allocation(tx, row) for row in rows[:limit]), next=last)

        return await self._look(who, Act.POOL_LIST, unit)

    async def allocation(self, who: Principal, id: str) -> AllocationView:
        """One of them."""
        return await self._look(who, Act.POOL_LIST, lambda tx: self.shows.allocation(tx, self._find(tx, id)))

    async def cancel(self, call: Call, id: str, reason: str) -> AllocationView:
        """End it now: its workers hand back what they have."""

        def unit(tx: Tx) -> AllocationView:
            row = self._find(tx, id)
            if not row.facts.state.live:
                raise Conflict(f"allocation {ids.show(row.id)} has ended already", "see `cpcc allocations`")
            words = f"cancelled by {call.who.name}" + (f": {reason}" if reason else "")
            self._keeper.happening.happen(tx, row.token, Event.CANCELLED, reason=Ending.CANCELLED, words=words)
            tx.event(call.who.actor, "allocation.cancelled", subject=row.id, reason=reason)
            return self.shows.allocation(tx, self._find(tx, id))

        return await self._gate.write(call, Act.ALLOCATION_CANCEL, unit, answer=AllocationView)

    def _find(self, tx: Tx, id: str) -> AllocationRow:
        found = allocations.by_token(tx, id) if id.startswith("cpc-") else allocations.get(tx, ids.read(id)[0])
        if found is None:
            raise NotFound(f"there is no allocation {id[:80]}", "see `cpcc allocations`")
        return self._book.live.get(found.token, found)

    # --- nodes ---

    async def nodes(self, who: Principal, pool: str) -> Page:
        """The batch systems' nodes, with our workers on them. One that does not answer fails only if none does."""
        rows = await self._look(who, Act.NODE_LIST, lambda tx: self._rows(tx, pool))
        told = await gatherResults([ensureDeferred(self._told(row)) for row in rows], consumeErrors=True)
        seen = [(row, found) for row, found, _ in told if found is not None]
        if not seen:
            for *_, trouble in told:
                if trouble is not None:
                    raise trouble

        def unit(tx: Tx) -> Page:
            here = self.shows.by_node(tx)
            found = [
                self.shows.node(tx, row, one, here, self._hand(row).seen.trend(one)) for row, some in seen for one in some
            ]  # fmt: skip
            return Page(items=tuple(found))

        return await self._look(who, Act.NODE_LIST, unit)

    async def _told(self, row: PoolRow) -> tuple[PoolRow, tuple[NodeSeen, ...] | None, CopernicusError | None]:
        """The nodes of one pool, or why they are not known: `cpcc pools` says it, too."""
        try:
            return row, await self._hand(row).nodes(row.facts.queue), None
        except CopernicusError as error:
            return row, None, error

    def _rows(self, tx: Tx, pool: str) -> list[PoolRow]:
        return [self._book.pool(tx, pool)] if pool else list(self._book.pools.values())

    async def node(self, who: Principal, name: str, pool: str = "") -> NodeView:
        """One node, in the pool that is named or the first that has it."""
        row, one = await self._node(who, Act.NODE_LIST, name, pool)
        return await self._look(who, Act.NODE_LIST, lambda tx: self._node_view(tx, row, one))

    def _node_view(self, tx: Tx, row: PoolRow, one: NodeSeen) -> NodeView:
        return self.shows.node(tx, row, one, self.shows.by_node(tx), self._hand(row).seen.trend(one))

    async def drain(self, call: Call, name: str, pool: str, reason: str, finish: bool) -> NodeView:
        """Nothing new starts there, neither of the batch system nor of ours; what runs may end, unless `finish` is false."""
        row, _ = await self._node(call.who, Act.NODE_DRAIN, name, pool)
        await self._scheduler(row).drain(name, reason)
        self._hand(row).seen.changed()

        def unit(tx: Tx) -> None:
            for worker in self._on(tx, name):
                joining.drain(self._queue, tx, worker, f"node {name} is drained: {reason}", finish, call.who.actor)
            tx.event(call.who.actor, "node.drained", subject=row.id, pool=row.name, node=name, reason=reason)

        await self._gate.write(call, Act.NODE_DRAIN, unit, answer=None)
        return await self.node(call.who, name, row.name)

    async def undrain(self, call: Call, name: str, pool: str) -> NodeView:
        """Things start there again, and what failed there is forgotten."""
        row, _ = await self._node(call.who, Act.NODE_RESUME, name, pool)
        await self._scheduler(row).resume(name)
        self._hand(row).seen.changed()

        def unit(tx: Tx) -> None:
            for worker in self._on(tx, name):
                if worker.drain is not None and worker.drain.startswith(f"node {name} is drained"):
                    joining.resume(self._queue, tx, worker, call.who.actor)
            self._book.put_node(tx, nodes.worked(self._book.node(row.id, name)))
            self._queue.round(tx)
            tx.event(call.who.actor, "node.resumed", subject=row.id, pool=row.name, node=name)
            tx.after(self._keeper.stir)

        await self._gate.write(call, Act.NODE_RESUME, unit, answer=None)
        return await self.node(call.who, name, row.name)

    async def _node(self, who: Principal, act: Act, name: str, pool: str) -> tuple[PoolRow, NodeSeen]:
        rows = await self._look(who, act, lambda tx: self._rows(tx, pool))
        trouble = ""
        for row, seen, error in await gatherResults(
            [ensureDeferred(self._told(row)) for row in rows], consumeErrors=True
        ):
            if error is not None:
                trouble = f"; pool {row.name} does not tell: {error.message}"
            for one in seen or ():
                if one.name == name:
                    return row, one
        raise NotFound(f"no pool has a node {name[:80]}{trouble}", "see `cpcc nodes`")

    def _on(self, tx: Tx, node: str) -> list[workers.WorkerRow]:
        found = [workers.get(tx, session.worker) for session in self._queue.index.sessions.values()]
        return [row for row in found if row is not None and node in names_of(row.hello)]
