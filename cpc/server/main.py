"""cpc-server: finds the command, loads only what it needs, and turns every refusal into one line.

Exit codes: 0 done; 1 refused or failed; 2 a command line that cannot be read; 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from cpc.core.errors import CopernicusError
from cpc.server.commands import Context

#: command → (module in cpc.server.commands, function); loaded when it is called.
COMMANDS: dict[str, tuple[str, str]] = {
    "setup": ("setup", "setup"),
    "start": ("running", "start"),
    "stop": ("running", "stop"),
    "restart": ("running", "restart"),
    "status": ("status", "status"),
    "bundle": ("bundles", "bundle"),
    "bundles": ("bundles", "bundles"),
    "revoke-bundle": ("bundles", "revoke_bundle"),
    "config": ("settings", "config"),
    "config-list": ("settings", "config_list"),
    "config-values": ("settings", "config_values"),
    "log": ("log", "log"),
    "backup": ("backup", "backup"),
    "restore": ("backup", "restore"),
    "doctor": ("doctor", "doctor"),
    "pool-stop": ("pools", "pool_stop"),
    "version": ("status", "version"),
}

ALIASES = {"create-connection-bundle": "bundle"}

#: Options that may stand anywhere among the arguments.
ANYWHERE = {"-c": "name", "--home": "home"}


class Commands(click.Group):
    """The table above as a click group that imports late."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        module, function = COMMANDS[name]
        return getattr(importlib.import_module(f"cpc.server.commands.{module}"), function)  # type: ignore[no-any-return]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] == "help":
            args = [*args[1:2], "--help"]
            if args == ["--help"]:
                click.echo(ctx.get_help())
                ctx.exit(0)
        if args[0] not in ALIASES and args[0] not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 2)
            hint = f"; did you mean {' or '.join(near)}?" if near else "; see cpc-server --help"
            raise click.UsageError(f"unknown command {args[0]!r}{hint}", ctx)
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, rest


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.pass_context
def cpc_server(ctx: click.Context) -> None:
    """Set up, run and look after a Copernicus server.

    Anywhere among the arguments: -c NAME (which server, if there are several), --home DIR (else $CPC_HOME, else
    ~/.copernicus).
    """


def split(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """What may stand anywhere, and the rest. Nothing is taken after `--`."""
    found: dict[str, str] = {}
    rest: list[str] = []
    todo = list(arguments)
    while todo:
        word = todo.pop(0)
        if word == "--":
            return found, [*rest, word, *todo]
        name, equals, value = word.partition("=")
        if name == "--home" and equals:
            found["home"] = value
        elif word in ANYWHERE:
            if not todo:
                raise click.UsageError(
                    f"{word} needs a value: {'a directory' if word == '--home' else 'a server name'}"
                )
            found[ANYWHERE[word]] = todo.pop(0)
        else:
            rest.append(word)
    return found, rest


def main(arguments: list[str] | None = None) -> None:
    """The program."""
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone: nothing more to say, and nothing to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    try:
        found, rest = split(arguments)
        context = Context(home=found.get("home"), name=found.get("name"))
        result: Any = cpc_server.main(rest, prog_name="cpc-server", standalone_mode=False, obj=context)
    except click.exceptions.NoArgsIsHelpError as help_text:
        click.echo(help_text.format_message(), err=True)
        return 2
    except click.ClickException as error:
        _complain(error.format_message())
        return 2
    except (click.Abort, KeyboardInterrupt):
        return 130
    except CopernicusError as error:
        _complain(str(error))
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 1
    return result if isinstance(result, int) else 0


def _complain(message: str) -> None:
    click.echo(f"cpc-server: {' '.join(message.split())}", err=True)


if __name__ == "__main__":
    main()
