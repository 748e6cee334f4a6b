"""How the server is: for `cpcc status`, for /health and for /metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from cpc import __version__
from cpc.core.clock import DAY, SECOND, Clock
from cpc.core.resources import show_span
from cpc.core.views import ServerStatus, ServerView
from cpc.server import pending, upkeep
from cpc.server.config import Config
from cpc.server.federation.lending import Lending
from cpc.server.gate import Gate
from cpc.server.machines import Machines
from cpc.server.metrics import Figures
from cpc.server.principal import Principal
from cpc.server.queue import Queue
from cpc.server.roles import Act
from cpc.server.storage import Storage
from cpc.store import bundles, figures, projects
from cpc.store.store import Store
from cpc.store.transaction import Tx
from cpc.wire.messages import PROTOCOL

#: A certificate or bundle that ends within this is announced.
SOON = 30 * DAY


class Status:
    """Looks; changes nothing. `certificates` gives (what, end in µs) of the server's own."""

    def __init__(
        self, *, config: Config, server: str, fingerprint: str, store: Store, gate: Gate, queue: Queue, machines: Machines,
        storage: Storage, clock: Clock, certificates: Callable[[], list[tuple[str, int]]],
        last_backup: Callable[[], int | None],
    ) -> None:  # fmt: skip
        self._config = config
        self._server = server
        self._fingerprint = fingerprint
        self._store = store
        self._gate = gate
        self._queue = queue
        self._machines = machines
        self._storage = storage
        self._clock = clock
        self._certificates = certificates
        self._last_backup = last_backup  # µs UTC; it looks at a file, so not on the reactor
        self.started = clock.now()
        self.areas: Callable[[], dict[str, int]] = lambda: {}  # disk in use beside the file store
        self.soon = SOON  # µs; a setting
        self.lending: Lending | None = None
        self.servers: Callable[[], tuple[int, int, list[str]]] = lambda: (0, 0, [])  # connected, away, and what to say

    def view(self) -> ServerView:
        """What anybody may know."""
        return ServerView(
            id=self._server,
            name=self._config.name,
            release=__version__,
            protocol=PROTOCOL,
            incarnation=self._queue.incarnation,
            host=self._config.host,
            port=self._config.port,
            client_port=self._config.client_port,
            fingerprint=self._fingerprint,
            started=self.started,
            heartbeat_time=self._queue.limits.heartbeat_time,
        )

    async def status(self, who: Principal) -> ServerStatus:
        """What an administrator looks at first."""

        def unit(tx: Tx) -> tuple[dict[int, dict[str, int]], int, list[str], int | None]:
            totals = {
                number: dict(zip(("open", "succeeded", "failed", "cancelled"), counted, strict=True))
                for number, counted in figures.totals(tx).items()
            }
            _, used = figures.storage(tx)
            ending = [
                f"bundle {row.name} ends {_when(row.expires - tx.now)}; make a new one with `cpc-server bundle`"
                for row in bundles.expiring(tx, tx.now + self.soon)
            ]
            return totals, used, ending, self._last_backup()

        totals, used, ending, backed_up = await self._gate.read(who, Act.SERVER_STATUS, unit)
        everybody = list(self._queue.index.sessions.values())
        sessions = [session for session in everybody if not session.home]
        connected, away, about_servers = self.servers()
        return ServerStatus(
            server=self.view(),
            workers=len(sessions),
            workers_busy=sum(bool(session.leases or session.lent) for session in sessions),
            jobs=dict(sum((Counter(states) for states in self._queue.split(totals).values()), Counter[str]())),
            storage_used=used,
            storage_free=self._storage.space.free,
            intake_paused=self._storage.intake_paused,
            warnings=(
                *self.health(),
                *self._ending(),
                *ending,
                *upkeep.backup_warnings(backed_up, self._clock.now()),
                *about_servers,
            ),
            servers_connected=connected,
            servers_away=away,
            workers_borrowed=sum(bool(session.home and session.leases) for session in everybody),
        )

    def health(self) -> tuple[str, ...]:
        """Why the server is not well."""
        found = []
        if self._store.writer.away:
            found.append(f"the database is away: {self._store.writer.away}; it is tried again each second")
        if self._storage.intake_paused:
            found.append(self._storage.intake_paused)
        return tuple(found)

    def _ending(self) -> list[str]:
        now = self._clock.now()
        return [
            f"{what} ends {_when(end - now)}; see docs/admin/certificates"
            for what, end in self._certificates()
            if end < now + self.soon
        ]

    async def figures(self) -> Figures:
        """The numbers for /metrics."""

        tallies = self._queue.tallies
        names: dict[int, str] = {}

        def name_of(tx: Tx, number: int) -> str:
            if number not in names:
                row = projects.by_id(tx, number)
                names[number] = row.name if row else "deleted"
            return names[number]

        def unit(tx: Tx) -> tuple[dict[tuple[str, str], int], int, int, int | None, int | None]:
            for number, _ in tallies.finished:
                name_of(tx, number)
            jobs: dict[tuple[str, str], int] = {}
            totals = {
                number: dict(zip(("open", "succeeded", "failed", "cancelled"), counted, strict=True))
                for number, counted in figures.totals(tx).items()
            }
            for number, states in self._queue.split(totals).items():
                name = name_of(tx, number)
                for state, count in states.items():
                    jobs[name, state] = jobs.get((name, state), 0) + count
            count, used = figures.storage(tx)
            return jobs, count, used, figures.oldest_waiting(tx, classes), self._last_backup()

        windows = list(self._queue.index.windows.values())
        classes = [(window.project, window.requirement) for window in windows if window.total]
        jobs, count, used, oldest, backed_up = await self._store.read(unit)
        reasons = await pending.reasons(self._store, self._queue)
        reasons["blocked"] = sum(number for (_, state), number in jobs.items() if state == "blocked")
        seats = {seat.session: seat for seat in self._machines.seats}
        workers, cores, memory, gpus = Counter[tuple[str, str]](), Counter[str](), Counter[str](), Counter[str]()
        for session in list(self._queue.index.sessions.values()):
            if session.home:
                continue
            seat = seats.get(session.number)
            state = "busy" if session.leases or session.lent else "idle" if seat and seat.open else "lost"
            workers[state, seat.hello.platform if seat else ""] += 1
            for counter, total, free in (
                (cores, session.total.cores, session.free.cores),
                (memory, session.total.memory, session.free.memory),
                (gpus, session.total.gpus, session.free.gpus),
            ):
                counter["total"] += total
                counter["allocated"] += total - free
        ends = [end for _, end in self._certificates()]
        ages = [self._queue.now - seat.heard for seat in seats.values() if seat.open]
        return Figures(
            release=__version__,
            started=self.started / SECOND,
            jobs=jobs,
            pending_reasons=reasons,
            oldest_pending=(self._clock.now() - oldest) / SECOND if oldest else 0.0,
            workers=workers,
            cores=cores,
            memory=memory,
            gpus=gpus,
            projects=count,
            storage={"files": used, **self.areas()},
            storage_free=self._storage.space.free,
            heartbeat_age=max(ages, default=0.0),
            submitted=tallies.submitted,
            finished=_by_name(tallies.finished, names),
            retried=tallies.retried,
            workers_connected=tallies.joined,
            workers_lost=tallies.lost,
            heartbeats_received=tallies.heartbeats,
            heartbeats_missed=tallies.missed,
            transferred={direction: tallies.moved[direction] for direction in ("in", "out")},
            last_backup=backed_up / SECOND if backed_up else None,
            peer_cores=self.lending.cores() if self.lending is not None else {},
            peer_questions=self.lending.questions() if self.lending is not None else {},
            certificate_expiry=min(ends) / SECOND if ends else None,
        )


def _by_name(counts: Counter[tuple[int, str]], names: dict[int, str]) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for (project, outcome), count in list(counts.items()):
        found[names.get(project, "deleted"), outcome] += count
    return found


def _when(micros: int) -> str:
    return f"in {show_span(micros / SECOND)}" if micros > 0 else "now: it has expired"
