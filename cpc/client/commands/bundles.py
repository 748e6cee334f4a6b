"""Credentials in files: connection bundles, and tokens for scripts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpc.client.context import Context, pass_context
from cpc.client.output import harmless, table, when
from cpc.core.errors import BadInput

if TYPE_CHECKING:
    from cpc.core.views import BundleView


@click.command("bundles")
@pass_context
def bundles(context: Context) -> None:
    """List the connection bundles; super users see all, others their own."""
    found = context.client().bundles()

    def people() -> str:
        rows = [
            (one.name, one.role, one.user, when(one.created), _expires(one), one.used, when(one.last_used))
            for one in found
        ]
        header = ("name", "role", "user", "made", "expires", "used", "last used")
        return table(header, rows, empty="no bundles; make one: cpcc bundle --role worker --name NAME")

    context.out.data("bundles", found, people, lambda: [one.name for one in found])


def _expires(one: BundleView) -> str:
    return "revoked" if one.revoked else when(one.expires) or "never"


@click.command("bundle")
@click.option("--role", type=click.Choice(("worker", "client")), default="worker", show_default=True, help="For whom.")
@click.option("--name", required=True, help="What to call it; it is revoked by this name.")
@click.option("--user", default="", help="Whom a client bundle speaks for; you, if left out.")
@click.option("--expires", metavar="TIME", help="How long it is good for, for example 30d.")
@click.option("-o", "file", metavar="FILE", help="Where to write it; NAME.cnx if left out, - for stdout.")
@pass_context
def bundle(context: Context, role: str, name: str, user: str, expires: str | None, file: str | None) -> None:
    """Make a connection bundle: one file with all that a worker, or cpcc, needs to connect. It is a secret."""
    from cpc.core.resources import parse_span
    from cpc.wire import bundle as bundles

    if user and role == "worker":
        raise click.UsageError("--user is for client bundles")
    target = Path(file or f"{Path(name).name}.cnx")
    if file != "-":
        _check_target(target)
    text, view = context.client().make_bundle(name, role, user, parse_span(expires) if expires else 0.0)
    if file == "-":
        click.echo(text, nl=not text.endswith("\n"))
        return
    bundles.write(bundles.decode(text.encode()), target)
    data = {"bundle": view, "file": str(target)}
    step = f"cpc-worker -c {target} smp" if role == "worker" else f"cpcc -c {target} status"
    said = f"Wrote {target}: keep it secret. Use it with: {step}"
    context.out.data("made-bundle", data, lambda: harmless(said), lambda: [str(target)])


def _check_target(target: Path) -> None:
    """Before the server makes it: a bundle that cannot be written would be lost."""
    import os

    if target.exists():
        raise BadInput(f"{target} is there already", "choose another with -o, or remove it")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise BadInput(f"cannot write into {target.parent}", "choose another place with -o")


@click.command("revoke-bundle")
@click.argument("name")
@pass_context
def revoke_bundle(context: Context, name: str) -> None:
    """Revoke a bundle: whoever connected with it is cut off at once."""
    context.client().revoke_bundle(name)
    context.out.say(f"Revoked bundle {name}")


@click.command("tokens")
@pass_context
def tokens(context: Context) -> None:
    """List your tokens."""
    found = context.client().tokens()

    def people() -> str:
        rows = [(one.name, one.scope, when(one.created), when(one.expires)) for one in found]
        return table(("name", "scope", "made", "expires"), rows, empty="no tokens; make one: cpcc token NAME")

    context.out.data("tokens", found, people, lambda: [one.name for one in found])


@click.command("token")
@click.argument("name")
@click.option("--scope", default="all", show_default=True, help="all, read, or project:NAME.")
@click.option("--expires", metavar="TIME", default="90d", show_default=True, help="How long it is good for.")
@pass_context
def token(context: Context, name: str, scope: str, expires: str) -> None:
    """Make a token for a script. It is shown this once."""
    from cpc.core.resources import parse_span

    secret, view = context.client().make_token(name, scope, parse_span(expires))
    context.out.note(f"Token {view.name}, scope {view.scope}, until {when(view.expires)}; it is shown this once:")
    context.out.data("made-token", {"token": secret, "view": view}, lambda: harmless(secret), lambda: [secret])


@click.command("revoke-token")
@click.argument("name")
@pass_context
def revoke_token(context: Context, name: str) -> None:
    """Revoke one of your tokens."""
    context.client().delete_token(name)
    context.out.say(f"Revoked token {name}")
