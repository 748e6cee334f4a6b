"""Servers: which there are, which is meant, what they say of themselves."""

from __future__ import annotations

import re

import click

from cpc.client.commands import asking
from cpc.client.context import Context, pass_context
from cpc.client.output import ago, facts, harmless, indent
from cpc.core.errors import BadInput, CopernicusError, Refused
from cpc.core.numbers import Whole

PORT = 14807
PORT_NUMBER = Whole(1, 65535, "a port")


@click.command("add-server")
@click.option("-n", "--name", help="What to call it; its host name if left out.")
@click.argument("host")
@click.argument("port", type=PORT_NUMBER, default=PORT)
@click.option("--fingerprint", help="Add it only if it has this fingerprint; nobody is asked.")
@click.option("-y", "--yes", is_flag=True, help="Trust whatever answers; nobody is asked.")
@pass_context
def add_server(context: Context, name: str | None, host: str, port: int, fingerprint: str | None, yes: bool) -> None:
    """Add a server and make it the default.

    It is recognised by its fingerprint from now on, which `cpc-server setup` has printed on the server.
    """
    from cpc.client.client import Client
    from cpc.client.config import Server

    expected = read_fingerprint(fingerprint) if fingerprint is not None else ""
    called = name or host
    context.config.check_free(called)
    client, pin = Client.meet(host, port)
    with client:
        info = client.server_info()
    _approve(context, f"{info.name} at {host} port {port}", pin.fingerprint, bool(pin.authority), expected, yes)
    context.config.add(Server(name=called, host=host, port=port, pin=pin))
    context.out.data("server", _shown(context, called), lambda: "", lambda: [called])
    context.out.note(f"Added server {called}. Log in with: cpcc login USER")


def read_fingerprint(text: str) -> str:
    """As hex, without what stands between the digits; BadInput if a part of it is missing."""
    plain = re.sub(r"[\s:]", "", text.strip().lower().removeprefix("sha256:"))
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise BadInput(
            "this is not a whole fingerprint", "it has 64 hexadecimal digits; spaces and colons do not count"
        )
    return plain


def _approve(context: Context, who: str, fingerprint: str, own: bool, expected: str, yes: bool) -> None:
    """Return if the server is to be trusted."""
    from cpc.client import trust

    shown = trust.show(fingerprint)
    if expected:
        if expected != fingerprint:
            raise Refused(
                f"{who} has another fingerprint: {shown}", "it was not added; is this the right server and port?"
            )
        return
    context.out.note(f"Server {who} has the fingerprint\n".rstrip())
    context.out.note(f"   {shown}")
    if not own:
        context.out.note("Its certificate is vouched for by an authority that this machine trusts.")
    if yes:
        return
    if not asking.terminal():
        raise Refused(
            f"nobody is here to compare the fingerprint of {who}",
            "it was not added; say --fingerprint F with what `cpc-server setup` printed, or --yes to trust it unseen",
        )
    if not click.confirm("Is it the one that `cpc-server setup` printed?", err=True):
        raise Refused("the server was not added")


@click.command("use-server")
@click.argument("name")
@pass_context
def use_server(context: Context, name: str) -> None:
    """Make a server the default."""
    context.config.use(name)
    context.out.say(f"Using server: {name}")


@click.command("list-server")
@pass_context
def list_server(context: Context) -> None:
    """List the servers that were added."""
    names = [server.name for server in context.config.servers]
    shown = [_shown(context, name) for name in names]

    def people() -> str:
        lines = ["Servers:"]
        for one in shown:
            lines.append(f"{harmless(one['name'])}{' (default)' if one['default'] else ''}:")
            values = [(field, one[field]) for field in ("host", "port", "user", "project")]
            lines.append(indent(facts(values)))
            lines.append("")
        return "\n".join(lines).rstrip()

    context.out.data("servers", shown, people, lambda: names)


def _shown(context: Context, name: str) -> dict[str, object]:
    server = context.config.find(name)
    return {
        "name": server.name, "host": server.host, "port": server.port, "id": server.pin.server,
        "fingerprint": server.pin.fingerprint, "user": server.user, "project": server.project,
        "default": server.name == context.config.default,
    }  # fmt: skip


@click.command("server-info")
@pass_context
def server_info(context: Context) -> None:
    """What the server says of itself."""
    from cpc.client import trust

    info = context.client().server_info()

    def people() -> str:
        values = [
            ("Name", info.name), ("Host", info.host), ("Version", info.release), ("Protocol", info.protocol),
            ("Server id", info.id), ("Port for people", info.client_port), ("Port for machines", info.port),
            ("Fingerprint", trust.show(info.fingerprint)), ("Running for", ago(info.started)),
        ]  # fmt: skip
        return facts(values)

    context.out.data("server-info", info, people, lambda: [info.id])


@click.command("version")
@pass_context
def version(context: Context) -> None:
    """The version of this program, and of the server."""
    from importlib import metadata

    own = metadata.version("copernicus-computing")
    info, problem = None, None
    try:
        client = context.client()
        client.transport.patience = 0.0
        info = client.server_info()
    except CopernicusError as error:
        problem = error

    def people() -> str:
        server = f"{info.release} ({info.name})" if info else f"unknown: {problem}"
        return facts([("Client version", own), ("Server version", server)])

    context.out.data("version", {"client": own, "server": info.release if info else None}, people, lambda: [own])


@click.command("stop-server")
@pass_context
def stop_server(context: Context) -> None:
    """Stop the server. Workers go on with their jobs and hand them in when it is back."""
    context.client().stop_server()
    context.out.say("Quitting.")


@click.command("readconf")
@pass_context
def readconf(context: Context) -> None:
    """Have the server read its settings and certificates again."""
    context.client().reload()
    context.out.say("The server has read its configuration again.")
