"""Backup and restore."""

from __future__ import annotations

from pathlib import Path

import click

from cpc.core.errors import BadInput
from cpc.server import backup as backups
from cpc.server import keeping, network, process, upkeep
from cpc.server.commands import Context, pass_context, warn
from cpc.server.config import DEFAULT_NAME, Config, Place
from cpc.server.restore import Restored, Wanted
from cpc.server.restore import restore as restore_from
from cpc.server.storage import show_size
from cpc.store import checks


@click.command(short_help="Write a backup, while the server runs.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--damaged", is_flag=True, help="Of a damaged database: what can be read of it.")
@pass_context
def backup(context: Context, file: Path | None, damaged: bool) -> None:
    """Write everything that the server keeps to one FILE; the server may be running.

    Without FILE: a new one in the directory of the setting backup_directory, else in RUN_DIR/backups. It holds the
    server's identity key: keep it as safe as the server.
    """
    place = context.place()
    config = upkeep.check_config(place)
    if not damaged:
        upkeep.check_database(config)
    target = (file or _default(context, place, config)).absolute()
    if not target.parent.is_dir():
        raise BadInput(f"there is no directory {target.parent}", "make it, or choose another place")
    report = backups.make(place, config, target, context.clock)
    upkeep.note_backup(place, target, context.clock.now())
    click.echo(
        f"Wrote {target}: {show_size(target.stat().st_size)}, {report.chunks} pieces of files, "
        f"incarnation {report.incarnation}."
    )
    if report.missing:
        warn(
            f"{len(report.missing)} pieces of files are missing on disk, for example {report.missing[0]}; "
            "see `cpc-server doctor` for what is affected"
        )
    if report.left:
        warn(f"what functions keep on disk is not all in it: {keeping.words(report.left)}")


def _default(context: Context, place: Place, config: Config) -> Path:
    stored = checks.stored_settings(config.database).get("backup_directory", "")
    directory = Path(stored) if stored else Path(config.run_dir) / "backups"
    if not stored:
        directory.mkdir(mode=0o700, exist_ok=True)
    return directory / f"{config.name}-{upkeep.stamp(context.clock)}.tar"


@click.command(short_help="Make a server from a backup.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--run-dir", type=click.Path(path_type=Path), help="Another place for the files.")
@click.option("--database", metavar="URL", help="Another database.")
@click.option("--force", "-force", is_flag=True, help="Move aside what is there.")
@pass_context
def restore(context: Context, file: Path, run_dir: Path | None, database: str | None, force: bool) -> None:
    """Make a server from FILE. What was done after the backup is lost; workers that hold such results are told so."""
    wanted = Wanted(context.name or "", str(run_dir or ""), database or "", force)
    made = restore_from(context.base, file, wanted, context.clock)
    upkeep.note_backup(made.place, file.absolute(), made.about.made)
    _report(made)


def _report(made: Restored) -> None:
    config = made.config
    for path in made.aside:
        click.echo(f"Moved aside: {path}", err=True)
    if made.missing:
        warn(f"{len(made.missing)} pieces of files were missing when the backup was made: see `cpc-server doctor`")
    away = [address for address in config.listen if not network.is_here(address)]
    which = f" -c {config.name}" if config.name != DEFAULT_NAME else ""
    if away:
        warn(f"this machine does not have the address {away[0]}: cpc-server{which} config listen ADDRESS")
    click.echo(
        f"Restored server {config.name} as of {upkeep.show_time(made.about.made)}: {made.about.chunks} pieces of files, "
        f"{show_size(made.about.size)}; incarnation {made.incarnation} begins."
    )
    click.echo("What was done after that is not known to it. It has the identity of the original: never run both.")
    trusted = checks.trusted_servers(config.database)
    if trusted:
        some = ", ".join(trusted[:5]) + (" and others" if len(trusted) > 5 else "")
        warn(f"these servers were trusted then, and are again: {some}; see `cpcc connected-servers`, `cpcc revoke`")
    click.echo(f"Start it with `cpc-server{which} start`.")
    assert process.find(made.place) is None
