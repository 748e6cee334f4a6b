"""Results of other servers' jobs that this server keeps until it can hand them in."""

from __future__ import annotations

import click

from cpc.client.context import Context, pass_context
from cpc.client.output import ago, harmless, plural, table
from cpc.core.errors import BadInput


@click.command("custody")
@pass_context
def custody(context: Context) -> None:
    """List results that wait here for a server that cannot be reached."""
    from cpc.core.resources import show_size

    found = context.client().custody()

    def people() -> str:
        rows = [
            (one.id, one.owner, f"{one.job} attempt {one.attempt}", one.worker, ago(one.since), show_size(one.size), one.trouble)
            for one in found
        ]  # fmt: skip
        return table(("id", "server", "job", "worker", "since", "size", "why"), rows, empty="nothing is in custody")

    context.out.data("custody", found, people, lambda: [one.id for one in found])


@click.command("custody-drop")
@click.argument("names", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All that is in custody.")
@click.option("--server", metavar="SERVER_ID", help="All that is in custody for this server.")
@pass_context
def drop(context: Context, names: tuple[str, ...], every: bool, server: str | None) -> None:
    """Give results up that are in custody: they are removed, and their jobs run again."""
    if bool(names) + every + bool(server) != 1:
        raise click.UsageError("name results by their ids (see cpcc custody), or give --server or --all")
    client = context.client()
    if not names:
        names = tuple(one.id for one in client.custody() if every or one.owner.startswith(server or ""))
        if server and not names:
            raise BadInput(f"nothing is in custody for a server {server}", "`cpcc custody` lists what is")
    given_up = [client.drop_custody(name) for name in names]
    said = f"Gave up {plural(len(given_up), 'result')}"
    context.out.data("custody-dropped", given_up, lambda: harmless(said), lambda: [one.id for one in given_up])
