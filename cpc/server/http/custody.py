"""Results of other servers' jobs that are kept here until their server can be reached."""

from __future__ import annotations

from typing import Annotated

from cpc.core.views import CustodyView, Page
from cpc.server.http.ask import Ask
from cpc.server.http.paging import Paging
from cpc.server.http.route import route
from cpc.server.roles import Act


@route("GET", "/custody", act=Act.CUSTODY_LIST)
async def page(ask: Ask, query: Paging) -> Annotated[Page, CustodyView]:
    """What is in custody, oldest first."""
    return await ask.services.custody.page(ask.who, query.after, query.limit)


@route("DELETE", "/custody/{id}", act=Act.CUSTODY_DROP)
async def drop(ask: Ask, id: str) -> CustodyView:
    """Give a result up: it is removed, and its server will run the job again."""
    return await ask.services.custody.drop(ask.call, id)
