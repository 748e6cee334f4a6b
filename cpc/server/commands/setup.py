"""Set up a server."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cpc.core.errors import BadInput, CopernicusError
from cpc.core.numbers import Whole
from cpc.server import network, passwords
from cpc.server.commands import Context, pass_context, warn
from cpc.server.config import CLIENT_PORT, DEFAULT_NAME, PORT, Config, Place
from cpc.server.setup import ADMINISTRATOR, Made, make
from cpc.wire.bundle import FILE_NAME
from cpc.wire.identity import show_fingerprint

_PORT = Whole(0, 65535, "a port")


@click.command(short_help="Make a new server.")
@click.option("--name", "-servername", "-name", help=f"What the server is called here; else {DEFAULT_NAME!r}.")
@click.option("--host", "-host", help="The name that others reach this machine by; else only this machine can.")
@click.option("--port", "-port", type=_PORT, default=PORT, show_default=True, help="For workers; 0: any free one.")
@click.option("--client-port", type=_PORT, default=CLIENT_PORT, show_default=True, help="For people; 0: any free one.")
@click.option(
    "--database", metavar="URL", help="sqlite:////path or postgresql://user@host/name; else SQLite in RUN_DIR."
)
@click.option("--listen", multiple=True, metavar="ADDRESS", help="Where to listen, instead of what --host resolves to.")
@click.option(
    "--password-stdin", "--stdin", "-stdin", "from_stdin", is_flag=True, help="Read the password from standard input."
)
@click.option("-p", "password", metavar="PASSWORD", help="The password; seen by others on this machine: rather -stdin.")
@click.option("--force", "-force", is_flag=True, help="Do not ask before moving aside what is there.")
@click.argument("run_dir", type=click.Path(path_type=Path))
@pass_context
def setup(
    context: Context, name: str | None, host: str | None, port: int, client_port: int, database: str | None,
    listen: tuple[str, ...], from_stdin: bool, password: str | None, force: bool, run_dir: Path,
) -> None:  # fmt: skip
    """Make a server: its identity, database, administrator (cpc-admin) and a bundle for workers.

    RUN_DIR is where the server keeps the files of all projects. Without --host the server listens on loopback only.
    """
    if name and context.name and name != context.name:
        raise click.UsageError(f"-c says {context.name}, --name says {name}: which one?")
    place = Place.named(context.base, name or context.name or DEFAULT_NAME)
    config = _config(place, host, port, client_port, database, listen, run_dir)
    chosen = _password(password, from_stdin)

    def replace(found: list[Path]) -> bool:
        return force or _ask(found)

    made = make(context.base, place, config, chosen, context.clock, context.chance, replace)
    _report(context, made, password is not None)


def _config(
    place: Place, host: str | None, port: int, client_port: int, database: str | None, listen: tuple[str, ...],
    run_dir: Path,
) -> Config:  # fmt: skip
    name = host or network.LOOPBACK
    addresses = network.listening(name, listen)
    free = iter(network.free_ports(addresses[0], 2))
    port, client_port = port or next(free), client_port or next(free)
    if port == client_port:
        raise BadInput(f"both ports are {port}", "give two different ones with --port and --client-port")
    where = run_dir.expanduser().absolute()
    return Config(
        name=place.directory.name, host=name, listen=addresses, port=port, client_port=client_port,
        database=database or f"sqlite:///{where}/copernicus.db", run_dir=str(where),
    )  # fmt: skip


def _password(given: str | None, from_stdin: bool) -> str:
    if given is not None and from_stdin:
        raise click.UsageError("-p and -stdin both give the password: use one")
    if given is not None:
        try:
            return passwords.check(given, ADMINISTRATOR)
        except BadInput as error:
            raise BadInput(error.message, "-p is the password; the ports are --port and --client-port") from None
    if from_stdin:
        line = sys.stdin.buffer.readline(4096)
        try:
            text = line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise BadInput("the password on standard input is not UTF-8") from None
        if not text:
            raise BadInput("there is no password on standard input", "give it as one line")
        return passwords.check(text, ADMINISTRATOR)
    if not sys.stdin.isatty():
        raise BadInput(
            f"there is no terminal to ask for the password of {ADMINISTRATOR}",
            "give it as one line with --password-stdin",
        )
    text = click.prompt(f"Password of {ADMINISTRATOR}", hide_input=True, confirmation_prompt="The same again", err=True)
    return passwords.check(str(text), ADMINISTRATOR)


def _ask(found: list[Path]) -> bool:
    if not sys.stdin.isatty():
        return False
    click.echo("These are there already and would be moved aside:", err=True)
    for path in found:
        click.echo(f"  {path}", err=True)
    if not click.confirm("Go on?", err=True):
        raise CopernicusError("nothing was changed")
    return True


def _report(context: Context, made: Made, on_command_line: bool) -> None:
    config = made.config
    for path in made.aside:
        click.echo(f"Moved aside: {path}", err=True)
    for warning in made.warnings:
        warn(warning)
    if on_command_line:
        warn("the password was seen by everybody who looked at the processes of this machine; change it: cpcc passwd")
    only_here = all(network.is_loopback(address) for address in config.listen)
    if config.host == network.LOOPBACK:
        if not only_here:
            warn("bundles will name 127.0.0.1, where others do not find this server; name it with --host")
    elif only_here:
        warn(f"{config.host} is a loopback address on this machine: nobody else can connect; see --listen")
    which = f" -c {config.name}" if config.name != DEFAULT_NAME else ""
    click.echo(f"Made server {config.name} in {made.place.directory}")
    click.echo(
        f"It will listen on {', '.join(config.listen)}, ports {config.port} (workers) and {config.client_port} (people)."
    )
    click.echo(f"Its fingerprint is {show_fingerprint(made.fingerprint)}")
    click.echo(
        f"The bundle for workers is {made.bundle}{' and ' + str(context.base / FILE_NAME) if made.default_bundle else ''}"
    )
    if not made.default_bundle:
        click.echo(f"{context.base / FILE_NAME} leads to another server and was left as it is.")
    click.echo("Next:")
    click.echo(f"  cpc-server{which} start")
    click.echo(
        f"  cpcc add-server -n {config.name} {config.host} {config.client_port} --fingerprint {made.fingerprint}"
    )
    click.echo(f"  cpcc login {ADMINISTRATOR}")
    click.echo(f"  cpc-worker -c {made.bundle} smp        on this machine, or with a copy of the file on another")
