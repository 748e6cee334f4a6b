"""The server itself: what it is, how it is, and orders to it."""

from __future__ import annotations

import base64

from cpc.core.views import ServerStatus, ServerView
from cpc.server.http.ask import Ask
from cpc.server.http.route import Nothing, route
from cpc.server.roles import Act


@route("GET", "/server", act=Act.SERVER_INFO)
async def view(ask: Ask) -> ServerView:
    """Name, release, ports and fingerprint. The header X-Copernicus-Authority has the server's CA, base64 of its DER;
    X-Copernicus-Word is for one request of another server to be trusted.
    """
    ask.add_header(b"X-Copernicus-Word", ask.services.peer_requests.word().encode())
    ask.add_header(b"X-Copernicus-Authority", base64.b64encode(ask.services.authority()))
    return ask.services.view()


@route("GET", "/status", act=Act.SERVER_STATUS)
async def status(ask: Ask) -> ServerStatus:
    """How the server is: workers, jobs, storage, and what needs attention."""
    return await ask.services.status(ask.who)


@route("POST", "/server/reload", act=Act.SERVER_RELOAD)
async def reload(ask: Ask) -> Nothing:
    """Read settings and certificates again."""
    await ask.services.reload(ask.call)
    return Nothing()


@route("POST", "/server/stop", act=Act.SERVER_STOP)
async def stop(ask: Ask) -> Nothing:
    """Stop the server, after this answer."""
    await ask.services.request_stop(ask.call)
    return Nothing()
