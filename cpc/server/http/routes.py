"""All calls of the people's door."""

from __future__ import annotations

from cpc.server.http import (
    accounts,
    bundles,
    custody,
    events,
    files,
    jobs,
    monitor,
    network,
    peers,
    pools,
    projects,
    server,
    settings,
    workers,
)
from cpc.server.http.route import Route, routes_of

NOUNS = (
    server, accounts, projects, jobs, files, network, workers, pools, bundles, peers, custody, events, settings, monitor,
)  # fmt: skip
ROUTES: tuple[Route, ...] = tuple(route for noun in NOUNS for route in routes_of(noun))
