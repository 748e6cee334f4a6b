"""Which servers there are, across any number of hops, and how long the way to one takes.

Each server asks its neighbours, but none that is asked already: a full mesh costs one question for each server. A question
is answered once; coming by another way it finds nothing new.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable

import msgspec
from twisted.internet.defer import DeferredList, ensureDeferred

from cpc import __version__
from cpc.core.chance import Chance
from cpc.core.clock import Clock
from cpc.core.errors import Conflict, CopernicusError, NotFound, Unavailable
from cpc.core.peer import PeerState
from cpc.core.peer_views import Hop, NetworkOfServers, PingView, ServerSeenView
from cpc.core.texts import plain
from cpc.server.federation.book import MIN_PREFIX, Book
from cpc.server.federation.ways import Caller, Ways
from cpc.server.gate import Gate
from cpc.server.principal import Principal
from cpc.server.roles import Act
from cpc.wire.peer_messages import MAX_HOPS, Ping, Pong, ServerSeen, Survey, Surveyed

TIME = 10.0  # seconds for a whole survey
STEP = 0.5  # seconds less for each further hop
PING_TIME = 10.0
MAX_SERVERS = 2000
MAX_PEERS = 1000
REMEMBERED = 1000  # questions that were answered
MAX_OF_ONE = 4  # questions of one neighbour at a time
MAX_NAME = 100

#: What is said of a server that is known and not trusted, when somebody wants to reach it.
_NOT_TRUSTED = {
    PeerState.SENT: "has not trusted this server yet",
    PeerState.RECEIVED: "asks to be connected, and is not trusted yet",
    PeerState.REVOKED: "is not trusted any more",
    PeerState.WITHDRAWN: "has ended the trust",
}


class Surveying:
    """`about` says how this server is now, `trouble` why there is no link with a neighbour."""

    def __init__(
        self,
        *,
        ways: Ways,
        book: Book,
        gate: Gate,
        about: Callable[[], Awaitable[ServerSeen]],
        name: str,
        clock: Clock,
        chance: Chance,
        trouble: Callable[[str], str] = lambda server: "",
    ) -> None:
        self._ways = ways
        self._book = book
        self._gate = gate
        self._about = about
        self._name = name
        self._clock = clock
        self._chance = chance
        self._trouble = trouble
        self._answered: OrderedDict[str, None] = OrderedDict()
        self._running: Counter[str] = Counter()
        ways.serve("survey", Survey, self._surveyed, far=False)
        ways.serve("ping", Ping, self._pinged, far=True)

    # --- for people ---

    async def network(self, who: Principal) -> NetworkOfServers:
        """All servers that can be reached, with the shortest way to each."""
        await self._gate.read(who, Act.PEER_LIST, lambda tx: None)
        return await self.servers()

    async def ping(self, who: Principal, server: str) -> PingView:
        """How long it takes to each server on the way to this one, which is named by id, the beginning of one, or name."""
        await self._gate.read(who, Act.PEER_LIST, lambda tx: None)
        found = await self.servers()
        try:
            target = _find(found.servers, server)
        except NotFound:
            self._check_neighbour(server)
            raise
        hops = []
        for length in range(2, len(target.route) + 1):
            hops.append(await self._hop(target.route[:length], found.servers))
        return PingView(hops=tuple(hops))

    def _check_neighbour(self, given: str) -> None:
        """Conflict, with why it is not connected, when a server is meant that is known here."""
        try:
            row = self._book.find(given)
        except NotFound:
            return
        words = _NOT_TRUSTED.get(row.state, "is not connected")
        trouble = self._trouble(row.id) if row.state is PeerState.TRUSTED else ""
        raise Conflict(
            f"{self._book.called(row.id)} {words}{': ' if trouble else ''}{trouble}", "see `cpcc connected-servers`"
        )

    async def _hop(self, route: tuple[str, ...], servers: tuple[ServerSeenView, ...]) -> Hop:
        name = next((seen.name for seen in servers if seen.id == route[-1]), "")
        begun = self._clock.monotonic()
        try:
            await self._ways.ask_far(route, "ping", Ping(), Pong, PING_TIME)
        except CopernicusError as error:
            return Hop(id=route[-1], name=name, seconds=None, trouble=error.message)
        return Hop(id=route[-1], name=name, seconds=round(self._clock.monotonic() - begun, 6))

    async def servers(self) -> NetworkOfServers:
        """The same without asking who wants to know."""
        here = await self._about()
        name = self._chance.token(12).hex()
        self._remember(name)
        found = {here.server: here}
        await self._ask_on(found, Survey(id=name, hops=MAX_HOPS, seconds=TIME, seen=(here.server,)), exclude="")
        routes = shortest(here.server, found)
        views = [_view(seen, routes[seen.server]) for seen in found.values() if seen.server in routes]
        views.sort(key=lambda view: (len(view.route), view.name, view.id))
        return NetworkOfServers(here=here.server, servers=tuple(views))

    # --- for other servers ---

    async def _pinged(self, _caller: Caller, _ping: Ping) -> Pong:
        return Pong(server=self._ways.here, name=self._name, release=__version__)

    async def _surveyed(self, caller: Caller, survey: Survey) -> Surveyed:
        if survey.id in self._answered:
            return Surveyed()
        if self._running[caller.peer] >= MAX_OF_ONE:
            raise Unavailable(f"{MAX_OF_ONE} such questions of this server are being answered", "try again later")
        self._remember(survey.id)
        self._running[caller.peer] += 1
        try:
            here = await self._about()
            found = {here.server: here}
            if survey.hops > 0 and survey.seconds > STEP:
                await self._ask_on(found, survey, exclude=caller.peer)
        finally:
            self._running[caller.peer] -= 1
            self._running += Counter()
        return Surveyed(servers=tuple(found.values()))

    async def _ask_on(self, found: dict[str, ServerSeen], survey: Survey, exclude: str) -> None:
        """Ask all neighbours that nobody asks; what they know goes into `found`."""
        here = self._ways.here
        neighbours = [peer for peer in self._ways.up() if peer not in survey.seen and peer != exclude]
        if not neighbours or len(survey.seen) >= MAX_SERVERS:
            return
        seen = tuple(dict.fromkeys((*survey.seen, here, *neighbours)))
        seconds = min(survey.seconds, TIME) - STEP
        question = Survey(id=survey.id, hops=max(0, survey.hops - 1), seconds=seconds, seen=seen)
        asked = [
            ensureDeferred(self._ways.ask(peer, "survey", question, Surveyed, seconds)) for peer in neighbours
        ]  # fmt: skip
        answers = await DeferredList(asked, consumeErrors=True)
        behind: list[ServerSeen] = []
        for peer, (well, answer) in zip(neighbours, answers, strict=True):
            if well and isinstance(answer, Surveyed):  # or it is away, or late: what is behind it is not seen
                for seen_there in answer.servers[:MAX_SERVERS]:
                    cut = msgspec.structs.replace(seen_there, peers=seen_there.peers[:MAX_PEERS])
                    if cut.server == peer:
                        found[peer] = cut  # what a neighbour says of itself counts more than what others say of it
                    else:
                        behind.append(cut)
        for server in behind:
            if len(found) < MAX_SERVERS:
                found.setdefault(server.server, server)

    def _remember(self, name: str) -> None:
        self._answered[name] = None
        while len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)


def shortest(here: str, servers: dict[str, ServerSeen]) -> dict[str, tuple[str, ...]]:
    """The shortest route from one server to each that can be reached. A link counts if either of its ends knows of it."""
    links: dict[str, set[str]] = {server: set() for server in servers}
    for seen in servers.values():
        for peer in seen.peers:
            if peer in links:
                links[seen.server].add(peer)
                links[peer].add(seen.server)
    routes: dict[str, tuple[str, ...]] = {here: (here,)}
    waiting = deque([here])
    while waiting:
        at = waiting.popleft()
        for peer in sorted(links[at] - routes.keys()):
            if len(routes[at]) <= MAX_HOPS:
                routes[peer] = (*routes[at], peer)
                waiting.append(peer)
    return routes


def _view(seen: ServerSeen, route: tuple[str, ...]) -> ServerSeenView:
    return ServerSeenView(
        id=seen.server, name=plain(seen.name, MAX_NAME), release=plain(seen.release, MAX_NAME), peers=seen.peers,
        workers=seen.workers, cores=seen.cores, busy_cores=seen.busy_cores, jobs_waiting=seen.jobs_waiting,
        working_for=dict(seen.working_for), route=route,
    )  # fmt: skip


def _find(servers: Iterable[ServerSeenView], given: str) -> ServerSeenView:
    found = [seen for seen in servers if given in (seen.id, seen.name)]
    if not found and len(given) >= MIN_PREFIX:
        found = [seen for seen in servers if seen.id.startswith(given.lower())]
    if len(found) > 1:
        some = ", ".join(f"{seen.name} ({seen.id[:8]})" for seen in found[:5])
        raise NotFound(f"{given[:80]!r} can mean several servers: {some}", "name one by its id")
    if not found:
        raise NotFound(f"no server {given[:80]!r} can be reached from here", "see `cpcc network`")
    return found[0]
