"""The network of servers: which can be reached, how fast, and who works for whom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpc.client.commands.graph import FORMATS, picture, write
from cpc.client.context import Context, pass_context
from cpc.client.output import harmless, plural, table
from cpc.core.errors import BadInput

if TYPE_CHECKING:
    from cpc.client.drawing.chart import Box, Chart
    from cpc.core.peer_views import NetworkOfServers, PeerView, PingView, ServerSeenView


@click.command("ping")
@click.argument("server", required=False, metavar="[SERVER_ID]")
@pass_context
def ping(context: Context, server: str | None) -> int:
    """Whether the server answers; with SERVER_ID, whether it reaches that one, and how long each hop on the way takes."""
    if server is not None:
        found = context.client().peers().ping(server)
        context.out.data("hops", found, lambda: _hops(found))
        return 0 if all(hop.seconds is not None for hop in found.hops) else 1
    import time

    client = context.client()
    client.transport.patience = 0.0
    begun = time.perf_counter()
    info = client.server_info()
    taken = time.perf_counter() - begun
    context.out.data("ping", {"server": info.id, "seconds": round(taken, 6)}, lambda: "OK")
    return 0


def _hops(found: PingView) -> str:
    if not found.hops:
        return "OK: that is this server"
    rows = [
        (number, hop.name, hop.id, f"{hop.seconds * 1000:.1f} ms" if hop.seconds is not None else hop.trouble)
        for number, hop in enumerate(found.hops, 1)
    ]
    return table(("hop", "server", "id", "there and back"), rows)


@click.command("network")
@pass_context
def network(context: Context) -> None:
    """The servers that can be reached, their workers, and who works for whom."""
    peers = context.client().peers()
    found = peers.network()

    def people() -> str:
        return "\n".join([_listing(found), *_missed(peers.all())])

    context.out.data("network-of-servers", found, people, lambda: [one.id for one in found.servers])


def _missed(known: list[PeerView]) -> list[str]:
    """Those of our peers that are not in the table, nor is what is behind them."""
    away = [f"{one.name} ({one.id[:8]})" for one in known if one.state == "trusted" and not one.connected]
    return [harmless(f"not connected: {', '.join(away)}; see `cpcc connected-servers`")] if away else []


def _listing(found: NetworkOfServers) -> str:
    names = {one.id: one.name for one in found.servers}
    rows = [
        (one.name, one.id, len(one.route) - 1, one.workers, f"{one.busy_cores}/{one.cores}", one.jobs_waiting,
         " ".join(_name(names, peer) for peer in one.peers), _works_for(names, one), one.release)
        for one in found.servers
    ]  # fmt: skip
    header = ("server", "id", "hops", "workers", "cores used", "jobs waiting", "linked with", "works for", "release")
    text = table(header, rows, flexible=6)
    cores = sum(one.cores for one in found.servers)
    workers = sum(one.workers for one in found.servers)
    total = f"{plural(len(found.servers), 'server')}, {plural(workers, 'worker')}, {plural(cores, 'core')}"
    return f"{text}\n{total}"


def _name(names: dict[str, str], server: str) -> str:
    return names.get(server) or server[:8]


def _works_for(names: dict[str, str], one: ServerSeenView) -> str:
    return ", ".join(
        f"{_name(names, owner)} ({plural(jobs, 'job')})" for owner, jobs in one.working_for.items() if jobs
    )


@click.command("network-graph")
@click.argument("file", metavar="FILE")
@click.option("--force", is_flag=True, help="Replace the file if it is something else than a picture of this format.")
@pass_context
def network_graph(context: Context, file: str, force: bool) -> None:
    """Draw the network of servers into FILE, which ends in .svg, .png or .dot: servers, links, and who works for whom."""
    target = Path(file)
    if target.suffix not in FORMATS:
        raise BadInput(f"{target} is not a picture that can be drawn", f"name a file that ends in {', '.join(FORMATS)}")
    found = context.client().peers().network()
    write(target, picture(drawing(found), target.suffix), force)
    what = plural(len(found.servers), "server")
    context.out.data("network-of-servers", found, lambda: harmless(f"Drew {what} into {target}"), lambda: [str(target)])


def drawing(found: NetworkOfServers) -> Chart:
    """A box for each server; lines for links, from the one that was asked outwards, and for work, to whose it is."""
    from cpc.client.drawing.chart import Box, Chart, Line

    numbers = {one.id: number for number, one in enumerate(found.servers)}
    boxes, lines = [], []
    for one in found.servers:
        box = Box(one.name or one.id[:8], f"{plural(one.workers, 'worker')}, {one.busy_cores}/{one.cores} cores used")
        box.states["active"] += 1
        boxes.append(box)
    linked = {tuple(sorted((one.id, peer))) for one in found.servers for peer in one.peers if peer in numbers}
    for pair in sorted(linked):
        near, far = sorted(numbers[server] for server in pair)
        lines.append(Line(near, "link", far, "link"))
        _add_port(boxes[near], boxes[far], "link", "link")
    for one in found.servers:
        for owner, jobs in one.working_for.items():
            if owner in numbers and jobs:
                lines.append(Line(numbers[one.id], "works for", numbers[owner], "work", jobs))
                _add_port(boxes[numbers[one.id]], boxes[numbers[owner]], "works for", "work")
    return Chart("The network of servers", boxes, lines)


def _add_port(source: Box, target: Box, output: str, input: str) -> None:
    source.outputs = tuple(dict.fromkeys((*source.outputs, output)))
    target.inputs = tuple(dict.fromkeys((*target.inputs, input)))
