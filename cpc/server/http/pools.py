"""Pools, their allocations and nodes."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from cpc.core.pool_views import (
    AllocationView,
    CheckView,
    NodeView,
    PoolForgotten,
    PoolPlan,
    PoolSettings,
    PoolView,
    PoolWhyView,
    ProbeView,
)
from cpc.core.views import Page
from cpc.server.http.ask import Ask
from cpc.server.http.paging import Paging
from cpc.server.http.route import Nothing, Question, route
from cpc.server.pools.settings import Clearable
from cpc.server.roles import Act

Words = Annotated[str, Meta(max_length=500)]


class Settings(PoolSettings, frozen=True, forbid_unknown_fields=True):
    """What is left out stays as it is, or has its default."""


class NewPool(Question, frozen=True):
    """`force`: do not ask the batch system whether it could ever grant such an allocation."""

    name: str
    scheduler: str
    settings: Settings = Settings()
    force: bool = False


class PoolChange(Question, frozen=True):
    """`clear`: settings that are emptied before the others are changed."""

    settings: Settings
    force: bool = False
    clear: tuple[Clearable, ...] = ()


class Removal(Question, frozen=True):
    """`cancel`: end its allocations first."""

    cancel: bool = False


class Pause(Question, frozen=True):
    reason: Words = ""


class ProbeStart(Question, frozen=True):
    """`node`: which one; "": any."""

    node: Annotated[str, Meta(max_length=200)] = ""


class AllocationsQuery(Paging, frozen=True):
    """`live`: those only that have not ended."""

    pool: str = ""
    live: bool = False


class AllocationEnd(Question, frozen=True):
    reason: Words = ""


class NodesQuery(Question, frozen=True):
    pool: str = ""


class NodeDrain(Question, frozen=True):
    """`pool`: which one's node, where several have one of this name. `finish`: jobs under way may end."""

    reason: Annotated[str, Meta(min_length=1, max_length=500)]
    pool: str = ""
    finish: bool = True


class NodeResume(Question, frozen=True):
    pool: str = ""


@route("GET", "/pools", act=Act.POOL_LIST)
async def page(ask: Ask) -> Annotated[Page, PoolView]:
    """The pools: batch systems and clouds that are asked for workers."""
    return await ask.services.pools.page(ask.who)


@route("POST", "/pools", act=Act.POOL_ADD)
async def add(ask: Ask, body: NewPool) -> PoolView:
    """Add a pool. Its batch system is asked before whether it could ever grant such an allocation."""
    return await ask.services.pools.add(ask.call, body.name, body.scheduler, body.settings, body.force)


@route("POST", "/pools/plan", act=Act.POOL_ADD)
async def plan(ask: Ask, body: NewPool) -> PoolPlan:
    """What adding a pool would send to its batch system, and what that says to it. Nothing is changed."""
    return await ask.services.pools.plan(ask.who, body.name, body.scheduler, body.settings)


@route("GET", "/pools/{pool}", act=Act.POOL_LIST)
async def get(ask: Ask, pool: str) -> PoolView:
    """One pool."""
    return await ask.services.pools.get(ask.who, pool)


@route("PATCH", "/pools/{pool}", act=Act.POOL_SET)
async def change(ask: Ask, pool: str, body: PoolChange) -> PoolView:
    """Change a pool. What runs keeps the settings that it began with."""
    return await ask.services.pools.set(ask.call, pool, body.settings, body.force, body.clear)


@route("DELETE", "/pools/{pool}", act=Act.POOL_REMOVE)
async def remove(ask: Ask, pool: str, query: Removal) -> Nothing:
    """Remove a pool that has no allocations any more."""
    await ask.services.pools.remove(ask.call, pool, query.cancel)
    return Nothing()


@route("POST", "/pools/{pool}/forget", act=Act.POOL_REMOVE)
async def forget(ask: Ask, pool: str) -> PoolForgotten:
    """Remove a pool whose batch system cannot be asked any more; tells what may still run there, which nobody ends."""
    return await ask.services.pools.forget(ask.call, pool)


@route("POST", "/pools/{pool}/pause", act=Act.POOL_PAUSE)
async def pause(ask: Ask, pool: str, body: Pause) -> PoolView:
    """Ask a pool for nothing more. What runs goes on."""
    return await ask.services.pools.pause(ask.call, pool, body.reason)


@route("POST", "/pools/{pool}/resume", act=Act.POOL_PAUSE)
async def resume(ask: Ask, pool: str) -> PoolView:
    """Ask a pool again; setbacks of before are forgotten."""
    return await ask.services.pools.resume(ask.call, pool)


@route("GET", "/pools/{pool}/why", act=Act.POOL_LIST)
async def why(ask: Ask, pool: str) -> PoolWhyView:
    """Why a pool is asked for what it is asked for, or for nothing."""
    return await ask.services.pools.why(ask.who, pool)


@route("GET", "/pools/{pool}/doctor", act=Act.POOL_DOCTOR)
async def doctor(ask: Ask, pool: str) -> Annotated[Page, CheckView]:
    """Have a pool's batch system examined."""
    return await ask.services.pools.doctor(ask.who, pool)


@route("POST", "/pools/{pool}/probe", act=Act.POOL_PROBE)
async def probe(ask: Ask, pool: str, body: ProbeStart) -> ProbeView:
    """Look at a pool from one of its nodes: a small allocation that says what it finds there. Ask on how far it is; what
    nobody asks for ends within a minute."""
    return await ask.services.pools.probe(ask.call, pool, body.node)


@route("GET", "/allocations/{id}/probe", act=Act.POOL_PROBE)
async def probed(ask: Ask, id: str) -> ProbeView:
    """How far a look at a pool is, and what it has found."""
    return await ask.services.pools.probed(ask.who, id)


@route("GET", "/allocations", act=Act.POOL_LIST)
async def allocations(ask: Ask, query: AllocationsQuery) -> Annotated[Page, AllocationView]:
    """What pools were asked for, newest first."""
    return await ask.services.pools.allocations(ask.who, query.pool, query.live, query.after, query.limit)


@route("GET", "/allocations/{id}", act=Act.POOL_LIST)
async def allocation(ask: Ask, id: str) -> AllocationView:
    """One allocation, by id or token."""
    return await ask.services.pools.allocation(ask.who, id)


@route("POST", "/allocations/{id}/cancel", act=Act.ALLOCATION_CANCEL)
async def cancel(ask: Ask, id: str, body: AllocationEnd) -> AllocationView:
    """End an allocation; its workers hand back what they have."""
    return await ask.services.pools.cancel(ask.call, id, body.reason)


@route("GET", "/nodes", act=Act.NODE_LIST)
async def nodes(ask: Ask, query: NodesQuery) -> Annotated[Page, NodeView]:
    """The nodes of batch systems, with our workers on them."""
    return await ask.services.pools.nodes(ask.who, query.pool)


@route("GET", "/nodes/{node}", act=Act.NODE_LIST)
async def node(ask: Ask, node: str, query: NodesQuery) -> NodeView:
    """One node."""
    return await ask.services.pools.node(ask.who, node, query.pool)


@route("POST", "/nodes/{node}/drain", act=Act.NODE_DRAIN)
async def drain(ask: Ask, node: str, body: NodeDrain) -> NodeView:
    """Let nothing new start on a node, neither of the batch system nor of ours."""
    return await ask.services.pools.drain(ask.call, node, body.pool, body.reason, body.finish)


@route("POST", "/nodes/{node}/resume", act=Act.NODE_RESUME)
async def undrain(ask: Ask, node: str, body: NodeResume) -> NodeView:
    """Let a node be used again; what failed there is forgotten."""
    return await ask.services.pools.undrain(ask.call, node, body.pool)
