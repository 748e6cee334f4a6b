"""For those who watch the server: health, figures, and the description of the calls."""

from __future__ import annotations

from cpc.core.errors import NotLoggedIn
from cpc.core.views import View
from cpc.server.http.answer import Data, encode
from cpc.server.http.ask import Ask
from cpc.server.http.channel import is_loopback
from cpc.server.http.route import Raw, route
from cpc.server.metrics import KIND
from cpc.server.roles import Act


class Health(View, frozen=True):
    """`status` is "ok" or "failing", and then `reasons` say why."""

    status: str
    reasons: tuple[str, ...] = ()


@route("GET", "/health", act=Act.SERVER_INFO, root="", also=(503,))
async def health(ask: Ask) -> Health:
    """200 when all is well, 503 with the reasons when something is not."""
    reasons = ask.services.health()
    shown = Health(status="failing" if reasons else "ok", reasons=reasons)
    return Data(503 if reasons else 200, encode(shown))  # type: ignore[return-value]


@route("GET", "/metrics", act=Act.SERVER_INFO, root="")
async def metrics(ask: Ask) -> Raw:
    """Figures for Prometheus: with any token, or without one from this machine if the setting says so."""
    if not (is_loopback(ask.request.peer) and ask.services.metrics_open()):
        if not ask.token:
            raise NotLoggedIn("/metrics needs a token here", "make one with scope read for Prometheus")
        await ask.services.accounts.authenticate(ask.token)
    figures = await ask.services.figures()
    return Data(body=ask.request.door.metrics.render(figures), kind=KIND)  # type: ignore[return-value]


@route("GET", "/openapi.json", act=Act.SERVER_INFO)
async def openapi(ask: Ask) -> Raw:
    """This description, OpenAPI 3.1."""
    return Data(body=ask.request.door.description)  # type: ignore[return-value]
