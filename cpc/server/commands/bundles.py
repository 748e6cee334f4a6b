"""Connection bundles: make, list, revoke."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from cpc.core import names
from cpc.core.clock import DAY, SECOND
from cpc.core.errors import BadInput
from cpc.core.numbers import Real
from cpc.core.views import BundleView
from cpc.server import upkeep
from cpc.server.commands import Context, Office, pass_context
from cpc.wire import bundle as files
from cpc.wire.bundle import FILE_NAME


@click.command(short_help="Make a connection bundle.")
@click.option("--role", type=click.Choice(["worker", "client"]), default="worker", show_default=True)
@click.option("--name", help="What it is called in lists; made up if left out.")
@click.option("--user", default="", help="Whom a client bundle speaks for.")
@click.option("--expires", type=Real(0, 7300, above=True), metavar="DAYS", help="How long it is valid.")
@click.option("-o", "target", type=click.Path(path_type=Path), default=Path(FILE_NAME), show_default=True)
@pass_context
def bundle(context: Context, role: str, name: str | None, user: str, expires: float | None, target: Path) -> None:
    """Make a bundle: a file that lets workers join (role worker) or a person act (role client).

    It is a secret. A file that is there already is kept as FILE.bak.
    """
    if role == "client" and not user:
        raise BadInput("a client bundle speaks for a user", "say for whom with --user NAME")
    if target.is_dir() or not target.parent.is_dir():
        raise BadInput(f"{target} cannot be written: {target.parent} is no directory", "choose a file with -o")
    place = context.place()
    with context.office(place, upkeep.check_config(place)) as office:
        chosen = names.clean(name, "bundle name") if name else _free_name(office, role)
        text, view = office.make_bundle(chosen, role, user, (expires or 0) * DAY / SECOND)
        store(text, target)
    click.echo(f"Wrote connection bundle {view.name} to {target}; it is valid until {upkeep.show_time(view.expires)}.")


def store(text: str, target: Path) -> None:
    """Write the file; what was there is kept beside it."""
    if target.exists():
        copy = target.with_name(target.name + ".bak")
        try:
            shutil.copy2(target, copy)
        except OSError as error:
            raise BadInput(f"{copy} cannot be written: {error.strerror}", "choose another file with -o") from None
    files.write(files.decode(text.encode()), target)


def _free_name(office: Office, role: str) -> str:
    taken = {names.key(view.name) for view in office.bundles() if not view.revoked}
    number = 1
    while f"{role}_{number}" in taken:
        number += 1
    return f"{role}-{number}"


@click.command(short_help="List the connection bundles.")
@click.option("--all", "everything", is_flag=True, help="Revoked and expired ones too.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_context
def bundles(context: Context, everything: bool, as_json: bool) -> None:
    """List the bundles of this server."""
    import msgspec

    place = context.place()
    with context.office(place, upkeep.check_config(place)) as office:
        found = office.bundles()
    now = context.clock.now()
    shown = [view for view in found if everything or not (view.revoked or view.expires <= now)]
    if as_json:
        click.echo(msgspec.json.encode({"version": 1, "bundles": shown}))
        return
    if not shown:
        click.echo("No bundles. Make one with `cpc-server bundle`.")
        return
    width = max(len(view.name) for view in shown)
    for view in shown:
        click.echo(f"{view.name:{width}}  {_line(view, now)}")


def _line(view: BundleView, now: int) -> str:
    state = (
        "revoked" if view.revoked else f"expired {upkeep.show_time(view.expires)}" if view.expires <= now
        else f"valid until {upkeep.show_time(view.expires)}"
    )  # fmt: skip
    used = f"last used {upkeep.show_time(view.last_used)}" if view.last_used else "never used"
    whose = f"client of {view.user}" if view.role == "client" else view.role
    return f"{whose}, {state}, {used}"


@click.command("revoke-bundle", short_help="Make a connection bundle worthless.")
@click.argument("name")
@pass_context
def revoke_bundle(context: Context, name: str) -> None:
    """Revoke a bundle: its workers, or whoever uses it, are put out at once; workers' jobs go back to the queue."""
    place = context.place()
    with context.office(place, upkeep.check_config(place)) as office:
        office.revoke_bundle(name)
    click.echo(f"Revoked the bundle {name}.")
