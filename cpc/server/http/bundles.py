"""Connection bundles."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from cpc.core.views import BundleView, Page, View
from cpc.server.http.ask import Ask
from cpc.server.http.paging import Paging
from cpc.server.http.route import Nothing, Question, route
from cpc.server.roles import Act


class NewBundle(Question, frozen=True):
    """`user` is whom a client bundle speaks for, oneself if left out; `expires_in` in seconds, 0 for the default."""

    name: str
    role: Literal["worker", "client"]
    user: str = ""
    expires_in: Annotated[float, Meta(ge=0, le=20 * 366 * 86400.0)] = 0.0


class MadeBundle(View, frozen=True):
    """`bundle` is the text of the .cnx file, shown this once."""

    bundle: str
    view: BundleView


@route("GET", "/bundles", act=Act.BUNDLE_LIST)
async def page(ask: Ask, query: Paging) -> Annotated[Page, BundleView]:
    """The bundles: all for a super user, one's own client bundles otherwise."""
    return await ask.services.bundles.page(ask.who, query.after, query.limit)


@route("POST", "/bundles", act=Act.BUNDLE_MAKE_OWN)
async def make(ask: Ask, body: NewBundle) -> MadeBundle:
    """Make a bundle: super users any, others a client bundle of their own."""
    text, view = await ask.services.bundles.make(ask.call, body.name, body.role, body.user, body.expires_in)
    return MadeBundle(bundle=text, view=view)


@route("DELETE", "/bundles/{name}", act=Act.BUNDLE_REVOKE_OWN)
async def revoke(ask: Ask, name: str) -> Nothing:
    """Revoke a bundle; open sessions with it end at once."""
    await ask.services.bundles.revoke(ask.call, name)
    return Nothing()
