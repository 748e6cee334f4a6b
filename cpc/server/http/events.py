"""The event log: pages of it, a stream of it, and the audit."""

from __future__ import annotations

from typing import Annotated

from cpc.core.views import EventView, Page
from cpc.server.http.answer import encode
from cpc.server.http.ask import Ask
from cpc.server.http.paging import Count, Limit
from cpc.server.http.route import Question, route
from cpc.server.http.stream import Message, Stream, resume_point
from cpc.server.roles import Act


class EventsQuery(Question, frozen=True):
    """`after` is the number of the last event that is known."""

    after: Count = 0
    project: str = ""
    kind: str = ""
    limit: Limit = 100


class StreamQuery(Question, frozen=True):
    after: Count = 0
    project: str = ""
    job: str = ""
    kind: str = ""


class AuditQuery(Question, frozen=True):
    after: Count = 0
    user: str = ""
    limit: Limit = 100


@route("GET", "/events", act=Act.EVENT_LIST)
async def page(ask: Ask, query: EventsQuery) -> Annotated[Page, EventView]:
    """What happened, in commit order, in the projects that one may see."""
    return await ask.services.events.page(ask.who, query.after, query.kind, query.project, query.limit)


@route("GET", "/events/stream", act=Act.EVENT_LIST)
async def stream(ask: Ask, query: StreamQuery) -> Stream:
    """The same as server-sent events, for ever: `id` is the number, `event` the kind, `data` an EventView.

    `Last-Event-ID` resumes after that number, without loss or repeat.
    """
    after = resume_point(ask, query.after)
    # Asked for a page first, a refusal has a status; within the stream it could only be an event.
    await ask.services.events.page(ask.who, after, query.kind, query.project, 1)
    found = ask.services.events.stream(ask.who, after, kind=query.kind, project=query.project, job=query.job)
    return Stream(ask, (Message(str(event.number), event.kind, encode(event)) async for event in found), found)


@route("GET", "/audit", act=Act.AUDIT)
async def audit(ask: Ask, query: AuditQuery) -> Annotated[Page, EventView]:
    """Privileged acts, oldest first."""
    return await ask.services.events.audit(ask.who, query.after, query.user, query.limit)
