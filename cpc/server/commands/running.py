"""Start, stop, restart."""

from __future__ import annotations

import click

from cpc.core.errors import CopernicusError
from cpc.core.numbers import Real
from cpc.server import process, upkeep
from cpc.server.commands import Context, pass_context
from cpc.server.config import Config, Place
from cpc.server.daemon import Ready, launch

_TIMEOUT = 60.0
_PATIENCE = 5.0


@click.command(short_help="Start the server.")
@click.option("--foreground", "-dev", is_flag=True, help="Stay in this terminal, or under systemd; log to stderr.")
@pass_context
def start(context: Context, foreground: bool) -> int:
    """Start the server; returns when it answers.

    An older database is copied to RUN_DIR/backups and upgraded first. With --foreground it stays: SIGTERM stops it,
    SIGHUP makes it read settings and certificates again and go on in a fresh log file; READY=1 goes to systemd.
    """
    return begin(context, context.place(), foreground)


def begin(context: Context, place: Place, foreground: bool) -> int:
    """Check everything, then run the server here or as a daemon."""
    config = upkeep.check_config(place)
    hold = process.Hold(place, config)  # held on by the server, which inherits it
    try:
        process.forget(place)
        upkeep.authority(place, context.clock, context.chance)
        if upkeep.look_at_database(config) == "old":
            upkeep.upgrade(config, context.clock, lambda line: click.echo(line, err=True))
        if foreground:
            return _foreground(context, place, config)
        click.echo(f"Starting server {config.name} ...", err=True)
        launch(lambda ready: _serve(context, place, config, ready), place.log_file)
    finally:
        hold.release()
    click.echo(
        f"The server {config.name} takes workers on port {config.port} and people on port {config.client_port} "
        f"of {', '.join(config.listen)}."
    )
    return 0


def _foreground(context: Context, place: Place, config: Config) -> int:
    from cpc.server import logs

    failed: list[CopernicusError] = []

    def ready(error: CopernicusError | None) -> None:
        if error is not None:
            failed.append(error)

    code = _run(context, place, config, logs.to_stderr(), ready)
    if failed:
        raise failed[0]
    return code


def _serve(context: Context, place: Place, config: Config, ready: Ready) -> int:
    """In the daemon."""
    from cpc.server import logs

    try:
        journal = logs.Logs(logs.LogFile(place.log_file, stdio=True))
    except OSError as error:
        ready(CopernicusError(f"the log {place.log_file} cannot be written: {error.strerror}"))
        return 1
    return _run(context, place, config, journal, ready, redirect=True)


def _run(context: Context, place: Place, config: Config, journal: object, ready: Ready, redirect: bool = False) -> int:
    from twisted.internet import reactor

    from cpc.core.memory import keep_freed_memory
    from cpc.server.logs import Logs
    from cpc.server.serving import Serving

    keep_freed_memory()

    assert isinstance(journal, Logs)
    journal.begin(redirect)
    return Serving(place, config, journal, ready, reactor, context.clock, context.chance).run()


@click.command(short_help="Stop the server.")
@click.option("--now", is_flag=True, help=f"End it at once if it has not gone after {_PATIENCE:g} s.")
@click.option("--timeout", type=Real(0.1, 86400), default=None, help="Seconds to wait.")
@pass_context
def stop(context: Context, now: bool, timeout: float | None) -> None:
    """Stop the server; returns when it has gone.

    Running jobs are not disturbed: workers keep their results until the server is back.
    """
    end(context, context.place(), now, timeout)


def end(context: Context, place: Place, now: bool = False, timeout: float | None = None) -> None:
    """Stop it, with a dot per second; says so when it was not running."""
    dots: list[str] = []

    def say(dot: str) -> None:
        dots.append(dot)
        click.echo(dot, nl=False, err=True)

    try:
        ran = process.stop(place, timeout or (_PATIENCE if now else _TIMEOUT), now, context.clock, say)
    finally:
        if dots:
            click.echo(err=True)
    name = place.directory.name
    click.echo(f"The server {name} has stopped." if ran else f"The server {name} was not running.")


@click.command(short_help="Stop the server and start it again.")
@click.option("--now", is_flag=True, help="As for stop.")
@pass_context
def restart(context: Context, now: bool) -> int:
    """Stop the server if it runs, and start it."""
    place = context.place()
    upkeep.check_config(place)
    end(context, place, now)
    return begin(context, place, foreground=False)
