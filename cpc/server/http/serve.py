"""From a request to its answer: which route, who asks, may the body come, is it well formed; then the handler."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol, cast

from twisted.internet.defer import CancelledError, ensureDeferred
from twisted.logger import Logger

from cpc.core.errors import BadInput, CopernicusError, NotLoggedIn, Unavailable
from cpc.server.http.answer import Data, defect, refusal, view
from cpc.server.http.ask import Ask, bearer
from cpc.server.http.body import Gone
from cpc.server.http.request import Request
from cpc.server.http.route import SMALL, Nothing, Route
from cpc.server.http.router import Router
from cpc.server.http.services import Services
from cpc.server.http.strict import Query
from cpc.server.principal import Principal
from cpc.server.roles import Who

if TYPE_CHECKING:
    from cpc.server.http.door import Door

log = Logger()

_NO_QUERY = Query(Nothing)


class Sender(Protocol):
    """An answer that writes itself: a download, a stream."""

    def send(self, door: Door) -> Awaitable[None]: ...


class Desk:
    """Takes requests and sees to it that each gets exactly one answer."""

    def __init__(self, services: Services, router: Router) -> None:
        self._services = services
        self._router = router

    def serve(self, request: Request) -> None:
        """Begin to answer."""
        request.working(ensureDeferred(self._serve(request)))

    async def _serve(self, request: Request) -> None:
        try:
            answer = await self._answer(request)
            if isinstance(answer, Data):
                request.send(answer)
            else:
                await answer.send(request.door)
        except Gone:
            request.abort()
        except CancelledError:
            self._refuse(request, refusal(Unavailable("the server is stopping", "try again in a moment")))
        except CopernicusError as error:
            self._refuse(request, refusal(error))
        except Exception:
            log.failure(
                "request {id} ({method} {path}) failed", id=request.id, method=request.method, path=request.path
            )
            self._refuse(request, defect(request.id))

    @staticmethod
    def _refuse(request: Request, answer: Data) -> None:
        if request.startedWriting:
            request.abort()
        else:
            request.send(answer)

    async def _answer(self, request: Request) -> Data | Sender:
        method = request.method.decode("ascii")
        if method == "OPTIONS":
            known = self._router.allowed(request.path) if request.path != b"*" else ("GET", "HEAD", "OPTIONS")
            return Data(204, kind=b"", headers=((b"Allow", ", ".join(known).encode()),))
        route, values = self._router.find(method, request.path)
        request.route = route.path
        if route.reads:
            request.may_stop()
        ask = Ask(self._services, request, await self._who(route, request))
        if route.query is not None:
            values["query"] = route.query.decode(request.query)
        elif request.query:
            _NO_QUERY.decode(request.query)
        await self._take_body(route, ask, values)
        answer = await route.handle(ask, **values)
        return cast("Data | Sender", answer) if isinstance(answer, Data) or hasattr(answer, "send") else view(answer)

    async def _who(self, route: Route, request: Request) -> Principal | None:
        if route.who is Who.ANYONE:
            return None
        token = bearer(request)
        if not token:
            raise NotLoggedIn("this needs a login", "log in with `cpcc login USER`, or send a token")
        return await self._services.accounts.authenticate(token)

    async def _take_body(self, route: Route, ask: Ask, values: dict[str, Any]) -> None:
        """Read and check the body. A long one only from somebody who may send it."""
        body = ask.request.body
        if route.raw:
            body.refuse_larger(route.raw)
            if route.early is not None:
                await route.early(ask, **values)
            return
        if route.body is None:
            await body.nothing()
            return
        body.refuse_larger(route.limit)
        if body.length != 0 and not _is_json(ask.request.header(b"content-type")):
            raise BadInput("the body is not marked as JSON", "send it with Content-Type: application/json")
        if (body.length is None or body.length > SMALL) and "project" in values:
            await self._services.permit(ask.who, route.act, values["project"])
        ask.body = await body.read(route.limit)
        values["body"] = route.body.decode(ask.body)


def _is_json(kind: str) -> bool:
    return kind.partition(";")[0].strip().lower() in ("application/json", "")
