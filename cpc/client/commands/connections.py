"""Connections between values."""

from __future__ import annotations

import click

from cpc.client.commands import changing
from cpc.client.context import Context, pass_context
from cpc.core.edits import Connect, Disconnect


@click.command("connect")
@click.argument("source")
@click.argument("target")
@pass_context
def connect(context: Context, source: str, target: str) -> None:
    """Let TARGET follow SOURCE from now on: INSTANCE:out.NAME INSTANCE:in.NAME."""
    changing.edit(context, Connect(source, target))


@click.command("disconnect")
@click.argument("target")
@pass_context
def disconnect(context: Context, target: str) -> None:
    """Let TARGET follow nothing any more; it has no value then."""
    changing.edit(context, Disconnect(target))
