"""Look at and change what can be set: `server.json` (needed before the database opens) and the settings in the database."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from cpc.core.errors import BadInput, CopernicusError, NotFound
from cpc.core.views import SettingView
from cpc.server import network, process, sandbox, upkeep
from cpc.server import settings as table
from cpc.server.commands import Context, pass_context
from cpc.server.config import Config, Place
from cpc.store import checks, database, migrate


@dataclass(frozen=True, slots=True)
class Basic:
    """One value of server.json. `put` checks and stores a text; `stopped`: only while the server does not run."""

    text: str
    get: Callable[[Config], str]
    put: Callable[[Config, str], None]
    stopped: bool = False


def _put_host(config: Config, text: str) -> None:
    if not text or any(letter.isspace() for letter in text):
        raise BadInput(f"{text!r} is not a host name")
    config.host = text


def _put_listen(config: Config, text: str) -> None:
    addresses = tuple(text.replace(",", " ").split())
    if not addresses:
        raise BadInput("no address to listen on", "write for example 127.0.0.1, or 0.0.0.0 for all of this machine's")
    config.listen = network.listening(config.host, addresses)


def _put_port(name: str) -> Callable[[Config, str], None]:
    def put(config: Config, text: str) -> None:
        if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) < 65536):
            raise BadInput(f"{text[:40]!r} is not a port", "ports are 1 to 65535")
        setattr(config, name, int(text))
        if config.port == config.client_port:
            raise BadInput(f"port and client_port cannot both be {text}")

    return put


def _put_database(config: Config, text: str) -> None:
    ours = checks.server_id(config.database) if _opens(config) else ""
    if not database.is_postgresql(text) and not database.sqlite_path(text).is_absolute():
        raise BadInput(f"{text!r} does not name an absolute path", "write sqlite:////absolute/path")
    other = Config(**{name: getattr(config, name) for name in config.__struct_fields__})
    other.database = text
    checks.check_file(text)
    if not migrate.current(text):
        raise BadInput(
            f"the database {checks.shown(text)} is empty",
            "move a server to another database with `cpc-server backup` and `cpc-server restore --database URL`",
        )
    if ours and checks.server_id(text) != ours:
        raise BadInput(f"the database {checks.shown(text)} belongs to another server")
    config.database = text


def _opens(config: Config) -> bool:
    try:
        upkeep.check_database(config)
    except CopernicusError:
        return False
    return True


def _put_run_dir(config: Config, text: str) -> None:
    path = Path(text).expanduser()
    if not path.is_absolute() or not path.is_dir():
        raise BadInput(f"{text} is not an absolute path of a directory", "move the run directory there first")
    config.run_dir = str(path)


def _put_controller_wrap(config: Config, text: str) -> None:
    sandbox.split(text)
    config.controller_wrap = text.strip() or sandbox.AUTO


BASICS: dict[str, Basic] = {
    "host": Basic("the name that others reach this server by; it goes into bundles", lambda c: c.host, _put_host),
    "listen": Basic("the addresses that connections are taken on", lambda c: " ".join(c.listen), _put_listen),
    "port": Basic("where workers connect", lambda c: str(c.port), _put_port("port")),
    "client_port": Basic("where people and their tools connect", lambda c: str(c.client_port), _put_port("client_port")),
    "database": Basic(
        "the database's URL", lambda c: checks.shown(c.database) if database.is_postgresql(c.database) else c.database,
        _put_database, stopped=True,
    ),
    "run_dir": Basic("where the files of all projects are", lambda c: c.run_dir, _put_run_dir, stopped=True),
    "controller_wrap": Basic(
        "what controllers are run under: auto (bubblewrap where it works), none, or a command",
        lambda c: c.controller_wrap, _put_controller_wrap,
    ),
}  # fmt: skip


@click.command(short_help="Look at or change settings.")
@click.argument("key", required=False)
@click.argument("value", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_context
def config(context: Context, key: str | None, value: str | None, as_json: bool) -> None:
    """All settings; one (KEY); or change it (KEY VALUE). An empty VALUE means the default."""
    place = context.place()
    settings = upkeep.check_config(place) if value is None else place.read()
    name = (key or "").replace("-", "_")
    if value is not None and name in BASICS:
        _change_basic(context, place, settings, name, value)
    elif value is not None:
        _change(context, place, settings, name, value)
    elif key is not None and name in BASICS:
        click.echo(BASICS[name].get(settings))
    else:
        _print(context, place, settings, name, as_json)


@click.command("config-list", short_help="List what can be set.")
def config_list() -> None:
    """The names of all settings, and what they are for."""
    rows = {name: basic.text for name, basic in BASICS.items()}
    rows |= {
        setting.name: f"{setting.text} (default {setting.default or 'none'})" for setting in table.SETTINGS.values()
    }
    width = max(map(len, rows))
    for name in sorted(rows):
        click.echo(f"{name:{width}}  {rows[name]}")


@click.command("config-values", short_help="List all settings with their values.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_context
def config_values(context: Context, as_json: bool) -> None:
    """All settings with their values; those that were changed are marked."""
    place = context.place()
    _print(context, place, upkeep.check_config(place), "", as_json)


def _print(context: Context, place: Place, settings: Config, name: str, as_json: bool) -> None:
    if name:
        table.find(name)
    with context.office(place, settings) as office:
        found = [view for view in office.settings() if not name or view.name == name]
    values = {} if name else {each: basic.get(settings) for each, basic in BASICS.items()}
    values |= {view.name: view.value for view in found}
    if as_json:
        click.echo(json.dumps({"version": 1, "settings": values}, indent=1))
    elif name:
        click.echo(values[name])
    else:
        changed = {view.name for view in found if view.value != view.default}
        width = max(map(len, values))
        for each, value in values.items():
            click.echo(f"{each:{width}}  {value}{'  (changed)' if each in changed else ''}".rstrip())


def _change_basic(context: Context, place: Place, settings: Config, name: str, value: str) -> None:
    basic = BASICS[name]
    running = process.find(place) is not None
    if running and basic.stopped:
        raise BadInput(f"{name} cannot be changed while the server runs", "stop it first: cpc-server stop")
    basic.put(settings, value.strip())
    place.write(settings)
    click.echo(f"{name} is {basic.get(settings)}{_restart(running)}")
    if name in ("host", "port", "client_port"):
        click.echo("Bundles made before name the old one: make new ones with `cpc-server bundle`.", err=True)


def _change(context: Context, place: Place, settings: Config, name: str, value: str) -> None:
    if name not in table.SETTINGS:
        names = ", ".join([*BASICS, *table.SETTINGS])
        raise NotFound(f"there is no setting {name[:80]!r}", f"the settings are {names}")
    running = process.find(place) is not None
    with context.office(place, settings) as office:
        view = office.set(name, value)
    click.echo(f"{view.name} is {view.value or 'not set'}{_restart(running and view.restart)}")
    _say_how(view, running)


def _say_how(view: SettingView, running: bool) -> None:
    if running and view.name in ("site_certificate", "site_key"):
        click.echo("The server reads both files at `cpcc readconf`, or when it gets SIGHUP.", err=True)


def _restart(needed: bool) -> str:
    return "; it counts from the next `cpc-server restart` on" if needed else ""
