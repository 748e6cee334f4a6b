"""Instances of functions: made, removed, held, let run, run again, and what they have logged."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from cpc.client.commands import changing
from cpc.client.context import Context, pass_context
from cpc.core.edits import Activate, AddInstance, ClearError, Deactivate, RemoveInstance, Rerun

if TYPE_CHECKING:
    from cpc.core.views import LogView


@click.command("instance")
@click.argument("function")
@click.argument("instance")
@pass_context
def instance(context: Context, function: str, instance: str) -> None:
    """Make an INSTANCE of FUNCTION (MODULE::NAME). It is held: it takes values, and runs when it is activated.

    INSTANCE may be a path: a:b makes b within a.
    """
    changing.edit(context, AddInstance(instance, function))


@click.command("rm-instance")
@click.argument("instance")
@pass_context
def remove(context: Context, instance: str) -> None:
    """Remove an instance, all within it and its connections; its jobs are cancelled."""
    changing.edit(context, RemoveInstance(instance))


@click.command("activate")
@click.argument("item", required=False, default="")
@pass_context
def activate(context: Context, item: str) -> None:
    """Let what is held run: ITEM and all within it, or the whole project."""
    changing.edit(context, Activate(item), otherwise="Nothing was held.")


@click.command("deactivate")
@click.argument("item", required=False, default="")
@pass_context
def deactivate(context: Context, item: str) -> None:
    """Hold ITEM and all within it, or the whole project. Jobs that wait are parked; those that run go on."""
    changing.edit(context, Deactivate(item), otherwise="Nothing was active.")


@click.command("clear-error")
@click.argument("item", required=False, default="")
@pass_context
def clear_error(context: Context, item: str) -> None:
    """Clear the errors of ITEM and of all within it, or of the whole project, and try again.

    What lies within a held instance stays held.
    """
    changing.edit(context, ClearError(item), otherwise="No errors cleared.")


@click.command("force-rerun")
@click.argument("item")
@pass_context
def force_rerun(context: Context, item: str) -> None:
    """Run an instance again although its inputs have not changed."""
    changing.edit(context, Rerun(item))


@click.command("log")
@click.argument("instance")
@pass_context
def log(context: Context, instance: str) -> None:
    """Show what an instance has logged."""
    network = changing.network(context)
    offset = 0
    while True:
        part = network.log(instance, offset)
        if context.out.json:
            _json_line(context, part)
        else:
            sys.stdout.write(part.data)
        offset = part.next
        if part.end or not part.data:
            return


def _json_line(context: Context, part: LogView) -> None:
    context.out.line("instance-log", part, lambda: "")
