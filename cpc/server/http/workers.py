"""Workers and heartbeats."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from cpc.core.views import HeartbeatView, Page, WorkerView
from cpc.server.http.ask import Ask
from cpc.server.http.route import Question, route
from cpc.server.roles import Act


class Drain(Question, frozen=True):
    """`finish`: jobs under way may end; otherwise they write a checkpoint and are handed back."""

    reason: Annotated[str, Meta(min_length=1, max_length=500)]
    finish: bool = True


@route("GET", "/workers", act=Act.WORKER_LIST)
async def page(ask: Ask) -> Annotated[Page, WorkerView]:
    """The workers that are connected, or were a moment ago."""
    return await ask.services.workers.page(ask.who)


@route("GET", "/workers/{id}", act=Act.WORKER_LIST)
async def get(ask: Ask, id: str) -> WorkerView:
    """One worker, by id or name."""
    return await ask.services.workers.get(ask.who, id)


@route("POST", "/workers/{id}/drain", act=Act.WORKER_DRAIN)
async def drain(ask: Ask, id: str, body: Drain) -> WorkerView:
    """Give a worker no more jobs, and say why."""
    return await ask.services.workers.drain(ask.call, id, body.reason, body.finish)


@route("POST", "/workers/{id}/resume", act=Act.WORKER_RESUME)
async def resume(ask: Ask, id: str) -> WorkerView:
    """Let a drained worker work again."""
    return await ask.services.workers.resume(ask.call, id)


@route("GET", "/heartbeats", act=Act.HEARTBEAT_LIST)
async def heartbeats(ask: Ask) -> Annotated[Page, HeartbeatView]:
    """The leases of running jobs, and when they end unless a heartbeat comes."""
    return await ask.services.workers.heartbeats(ask.who)
