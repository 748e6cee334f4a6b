"""Other servers: asked, trusted, revoked, and in which order they are asked for work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cpc.client.commands import asking
from cpc.client.commands.servers import PORT, PORT_NUMBER, read_fingerprint
from cpc.client.context import Context, pass_context
from cpc.client.output import facts, harmless, plural, table, when
from cpc.core.errors import BadInput, NotFound, Refused
from cpc.core.numbers import Whole

if TYPE_CHECKING:
    from cpc.core.peer import Limits
    from cpc.core.peer_views import PeerView

_NOBODY = "no other servers are known; ask one to be connected: cpcc connect-server HOST"
_SENT = "They are connected as soon as their administrators trust this server: cpcc trust SERVER_ID, there"
_RECEIVED = (
    "Compare with what `cpcc server-info` shows there; then: cpcc trust SERVER_ID, or cpcc refuse-server SERVER_ID"
)


@click.command("connect-server")
@click.argument("host")
@click.argument("client_port", type=PORT_NUMBER, default=PORT)
@click.option("--server-port", type=PORT_NUMBER, help="The port for machines, through a tunnel for example.")
@click.option("--fingerprint", help="Ask it only if it has this fingerprint; you are not asked.")
@click.option("-y", "--yes", is_flag=True, help="Trust whatever answers; you are not asked.")
@pass_context
def connect_server(
    context: Context, host: str, client_port: int, server_port: int | None, fingerprint: str | None, yes: bool
) -> None:
    """Ask the server at HOST to be connected with this one.

    It is trusted by this server from then on, so compare its fingerprint with what `cpc-server setup` has printed there.
    Its administrator has to trust this server: `cpcc connected-servers` and `cpcc trust`, there.
    """
    expected = read_fingerprint(fingerprint) if fingerprint is not None else ""
    peers = context.client().peers()
    seen = peers.look(host, client_port, server_port)
    _compare(context, f"{seen.name} at {host} port {client_port}", seen.fingerprint, expected, yes)
    view = peers.ask(seen)
    context.out.data(
        "peer", view, lambda: f"Connection request sent to {harmless(host)} {client_port}", lambda: [view.id]
    )
    if view.state == "sent":
        context.out.note("Its administrator can trust this server now: cpcc connected-servers, cpcc trust SERVER_ID")


def _compare(context: Context, who: str, fingerprint: str, expected: str, yes: bool) -> None:
    """Return if the fingerprint is the right one."""
    from cpc.client import trust

    shown = trust.show(fingerprint)
    if expected:
        if expected != fingerprint:
            raise Refused(f"{who} has another fingerprint: {shown}", "nothing was done; is this the right server?")
        return
    if not yes and not asking.terminal():
        raise Refused(
            f"nobody is here to compare the fingerprint of {who}, which is {shown}",
            "say --fingerprint F with what `cpc-server setup` has printed there, or -y to trust it unseen",
        )
    context.out.note(f"Server {who} has the fingerprint")
    context.out.note(f"   {shown}")
    if not yes and not click.confirm("Is it the one that `cpc-server setup` has printed there?", err=True):
        raise Refused("nothing was done")


@click.command("connected-servers")
@pass_context
def connected_servers(context: Context) -> None:
    """List the servers that this one knows: requests, those that are connected, and those that cannot be reached."""
    found = context.client().peers().all()
    context.out.data("peers", found, lambda: listing(found), lambda: [one.id for one in found])


def listing(found: list[PeerView]) -> str:
    """Up to five tables."""
    parts = [
        _requests("Sent connection requests", [one for one in found if one.state == "sent"], _SENT),
        _requests("Received connection requests", [one for one in found if one.state == "received"], _RECEIVED),
        _peers("Connected nodes:", [one for one in found if one.state == "trusted" and one.connected]),
        _peers("Nodes currently unreachable:", [one for one in found if one.state == "trusted" and not one.connected]),
        _revoked([one for one in found if one.state in ("revoked", "withdrawn")]),
    ]
    return "\n\n".join(part for part in parts if part) or _NOBODY


def _requests(title: str, found: list[PeerView], then: str) -> str:
    if not found:
        return ""
    from cpc.client import trust

    rows = [
        (_host(one), _port(one, client=True), one.id, one.name, one.origin, one.trouble) for one in found
    ]  # fmt: skip
    lines = table(("Hostname", "Port", "Server Id", "Name", "From", "Note"), rows).splitlines()
    shown = [f"   {harmless(one.name)} ({one.id[:8]}): {trust.show(one.fingerprint)}" for one in found]
    return "\n".join([title, *lines, "Their fingerprints:", *shown, then])


def _peers(title: str, found: list[PeerView]) -> str:
    rows = [
        (one.priority, _host(one), _port(one), one.id, one.name, one.release, _agreed(one), _note(one))
        for one in found
    ]  # fmt: skip
    header = ("Priority", "Hostname", "Port", "Server Id", "Name", "Release", "Limits", "Note")
    return f"{title}\n{table(header, rows)}" if found else ""


def _note(one: PeerView) -> str:
    from cpc.core.resources import show_size

    held = f"{show_size(one.quarantined)} in quarantine" if one.quarantined else ""
    others = ", ".join(f"{each.host} port {each.port}" for each in one.addresses[1:])
    also = f"also tried at {others}" if others and not one.trouble else ""
    return "; ".join(words for words in (one.trouble, also, held) if words)


def _revoked(found: list[PeerView]) -> str:
    rows = [(_host(one), one.id, one.name, one.note) for one in found]
    if not found:
        return ""
    listed = table(("Hostname", "Server Id", "Name", "Note"), rows)
    return f"Revoked nodes:\n{listed}\nTo connect with one again, both administrators say: cpcc trust SERVER_ID"


def _host(one: PeerView) -> str:
    return one.addresses[0].host if one.addresses else ""


def _port(one: PeerView, client: bool = False) -> object:
    if not one.addresses:
        return ""
    return one.addresses[0].client_port if client else one.addresses[0].port


def _agreed(one: PeerView) -> str:
    """In a few words, what is not as usual."""
    agreed = one.agreement
    parts = [("lends", agreed.lent), ("takes", agreed.accepted)]
    words = [f"{verb} {_limits(limits)}" for verb, limits in parts if _limits(limits) != "all"]
    if agreed.lend_on:
        words.append(f"lent on {agreed.lend_on}")
    if agreed.denied:
        words.append(f"{len(agreed.denied)} denied")
    return ", ".join(words)


def _limits(limits: Limits) -> str:
    if limits.off:
        return "nothing"
    words = [plural(limits.cores, "core")] if limits.cores is not None else []
    if limits.projects is not None:
        words.append("projects " + (" ".join(limits.projects) or "none"))
    if limits.executables is not None:
        words.append("executables " + (" ".join(limits.executables) or "none"))
    return ", ".join(words) or "all"


@click.command("trust")
@click.argument("servers", nargs=-1, metavar="SERVER_ID...")
@click.option("--all", "every", is_flag=True, help="All servers that have asked.")
@click.option("--fingerprint", help="Trust it only if it has this fingerprint; you are not asked.")
@click.option("-y", "--yes", is_flag=True, help="Trust without comparing; you are not asked.")
@pass_context
def trust(context: Context, servers: tuple[str, ...], every: bool, fingerprint: str | None, yes: bool) -> None:
    """Trust servers that have asked to be connected, or with which the trust has ended: those have to agree, too.

    A server that is trusted may use this one's idle workers, and lend its own. Its users get no access here.
    """
    if bool(servers) is every:
        raise BadInput("name the servers that are to be trusted, or say --all", "see `cpcc connected-servers`")
    if fingerprint is not None and len(servers) != 1:
        raise BadInput("a fingerprint is that of one server", "name one")
    peers = context.client().peers()
    wanted = [one for one in peers.all() if one.state == "received"] if every else list(map(peers.get, servers))
    expected = read_fingerprint(fingerprint) if fingerprint is not None else ""
    done = []
    for one in wanted:
        if one.state not in ("trusted", "sent"):  # for those it is of no use to compare
            _compare(context, f"{one.name} ({one.id})", one.fingerprint, expected, yes)
        done.append(peers.trust(one))
    context.out.data("peers", done, lambda: _trusted(done), lambda: [one.id for one in done])
    for one in done:
        if one.state == "sent":
            context.out.note(
                f"{harmless(one.name)} is connected as soon as it trusts this server, too: cpcc trust, there"
            )


def _trusted(done: list[PeerView]) -> str:
    if not done:
        return "no server has asked to be connected"
    rows = [(_host(one), _port(one), one.id, one.name) for one in done]
    return f"Following nodes are now trusted:\n{table(('Hostname', 'Port', 'Server Id', 'Name'), rows)}"


@click.command("refuse-server")
@click.argument("servers", nargs=-1, metavar="[SERVER_ID]...")
@click.option("--all", "every", is_flag=True, help="All servers that have asked and wait for an answer.")
@pass_context
def refuse_server(context: Context, servers: tuple[str, ...], every: bool) -> None:
    """Refuse servers' requests, take back one's own, or forget servers with which the trust has ended."""
    if bool(servers) is every:
        raise BadInput("name the servers that are to be refused, or say --all", "see `cpcc connected-servers`")
    peers = context.client().peers()
    if every:
        servers = tuple(one.id for one in peers.all() if one.state == "received")
        if not servers:
            context.out.say("no server has asked to be connected")
    for server in servers:
        peers.drop(server)
        context.out.say(f"Forgotten: {server}")


@click.command("revoke")
@click.argument("server", metavar="SERVER_ID")
@click.option(
    "--hand-back/--finish", default=False,
    help="Give running work back now, or let it be finished where that is possible (the default).",
)  # fmt: skip
@pass_context
def revoke(context: Context, server: str, hand_back: bool) -> None:
    """End the trust in a server now: connections, and whatever was lent either way.

    A server that has only asked is refused, and each later request of it too.
    """
    view = context.client().peers().revoke(server, hand_back)
    context.out.data("peer", view, lambda: f"Revoked: {harmless(view.name)} {view.id}", lambda: [view.id])


@click.command("node-pri")
@click.argument(
    "priority",
    type=Whole(0, 1_000_000, "a priority", "the server with 0 is asked first, and PRIORITY stands before SERVER_ID"),
)
@click.argument("server", metavar="SERVER_ID")
@click.option("--share", is_flag=True, help="Share with those that have this priority; else it comes before them.")
@pass_context
def node_pri(context: Context, priority: int, server: str, share: bool) -> None:
    """Change when a server is asked for work: PRIORITY 0 is first. Those of the same priority take turns."""
    peers = context.client().peers()
    peers.set_priority(server, priority, share)
    found = [one for one in peers.all() if one.state == "trusted"]
    context.out.data("peers", found, lambda: _order(found), lambda: [one.id for one in found])


def _order(found: list[PeerView]) -> str:
    rows = [(one.priority, _host(one), _port(one), one.id, one.name) for one in found]
    return table(("Priority", "Hostname", "Port", "Server Id", "Name"), rows)


def _cores(_context: click.Context, _option: click.Parameter, text: str | None) -> int | str | None:
    """A number, "any" for no limit, None when nothing was said."""
    if text is None or text == "any":
        return text
    if not (text.isascii() and text.isdigit()) or int(text) > 1 << 20:
        raise click.BadParameter(f"{text!r} is neither a number of cores nor `any`")
    return int(text)


_NAMES = "NAME,NAME… or any"


@click.command("peer")
@click.argument("server", metavar="SERVER_ID")
@click.option("--lent-cores", callback=_cores, metavar="N|any", help="At most so many cores are lent to it.")
@click.option("--lent-executables", metavar=_NAMES, help="Workers are lent for jobs of these executables only.")
@click.option("--lent-off/--lent-on", default=None, help="Lend it no workers; or lend again.")
@click.option("--accepted-cores", callback=_cores, metavar="N|any", help="At most so many of its cores are used.")
@click.option("--accepted-executables", metavar=_NAMES, help="Its workers get jobs of these executables only.")
@click.option("--accepted-projects", metavar=_NAMES, help="Its workers get jobs of these projects only.")
@click.option("--accepted-off/--accepted-on", default=None, help="Use none of its workers; or use them again.")
@click.option("--lend-on", type=Whole(0, 16), help="How many servers beyond it may use what is lent to it.")
@click.option("--deny", multiple=True, metavar="SERVER_ID", help="A server that may have no part in what passes it.")
@click.option("--allow", multiple=True, metavar="SERVER_ID", help="Deny that one no longer.")
@pass_context
def peer(
    context: Context, server: str, lent_cores: int | str | None, lent_executables: str | None, lent_off: bool | None,
    accepted_cores: int | str | None, accepted_executables: str | None, accepted_projects: str | None,
    accepted_off: bool | None, lend_on: int | None, deny: tuple[str, ...], allow: tuple[str, ...],
) -> None:  # fmt: skip
    """Show a server, or set what is lent to it and accepted from it."""
    import msgspec

    peers = context.client().peers()
    view = peers.get(server)
    agreed = view.agreement
    lent = _changed(agreed.lent, lent_off, lent_cores, executables=lent_executables)
    accepted = _changed(
        agreed.accepted, accepted_off, accepted_cores, executables=accepted_executables, projects=accepted_projects
    )
    names = {one.id: one.name for one in peers.all()} if allow else {}
    for name in allow:
        if not any(_means(name, each, names.get(each, "")) for each in agreed.denied):
            raise NotFound(f"{name} is not denied with {view.name}", f"see `cpcc peer {server}`")
    kept = [each for each in agreed.denied if not any(_means(name, each, names.get(each, "")) for name in allow)]
    denied = tuple(dict.fromkeys((*kept, *deny)))
    changed = msgspec.structs.replace(
        agreed, lent=lent, accepted=accepted, denied=denied, lend_on=agreed.lend_on if lend_on is None else lend_on
    )
    if changed != agreed:
        view = peers.set_agreement(view.id, changed)
    context.out.data("peer", view, lambda: _detail(view), lambda: [view.id])


def _means(given: str, server: str, name: str) -> bool:
    return given in (server, name) or (len(given) >= 4 and server.startswith(given.lower()))


def _changed(limits: Limits, off: bool | None, cores: int | str | None, **names: str | None) -> Limits:
    import msgspec

    changes: dict[str, object] = {} if off is None else {"off": off}
    if cores is not None:
        changes["cores"] = None if cores == "any" else cores
    for field, text in names.items():
        if text is not None:
            listed = tuple(part.strip() for part in text.split(",") if part.strip())
            changes[field] = None if listed == ("any",) else listed
    return msgspec.structs.replace(limits, **changes)


def _detail(one: PeerView) -> str:
    from cpc.client import trust
    from cpc.core.resources import show_size

    where = ", ".join(f"{each.host} ports {each.port} and {each.client_port}" for each in one.addresses)
    state = "connected" if one.connected else one.state
    values = [
        ("server", one.name), ("id", one.id), ("state", state), ("note", one.note or one.trouble), ("addresses", where),
        ("release", one.release), ("fingerprint", trust.show(one.fingerprint)),
        ("priority", one.priority if one.state == "trusted" else ""),
        ("lent to it", _limits(one.agreement.lent)), ("accepted from it", _limits(one.agreement.accepted)),
        ("lent on", f"to {plural(one.agreement.lend_on, 'server')} beyond it" if one.agreement.lend_on else "no"),
        ("denied", ", ".join(one.agreement.denied)), ("asked", when(one.requested)), ("asked from", one.origin),
        ("in quarantine", show_size(one.quarantined) if one.quarantined else ""), ("trusted", when(one.trusted)),
        ("last connected", when(one.seen)),
    ]  # fmt: skip
    return facts(values)
