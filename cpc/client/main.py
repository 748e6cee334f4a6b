"""cpcc: finds the command, loads only what it needs, and turns every refusal into one line.

Exit codes: 0 done; 1 refused or failed; 2 a command line that cannot be read; 130 interrupted.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Any

import click

from cpc.client.context import Context
from cpc.core.errors import CopernicusError

#: command → (module in cpc.client.commands, function); loaded when it is called.
COMMANDS: dict[str, tuple[str, str]] = {
    "add-server": ("servers", "add_server"),
    "use-server": ("servers", "use_server"),
    "list-server": ("servers", "list_server"),
    "server-info": ("servers", "server_info"),
    "ping": ("networks", "ping"),
    "version": ("servers", "version"),
    "stop-server": ("servers", "stop_server"),
    "readconf": ("servers", "readconf"),
    "connect-server": ("peers", "connect_server"),
    "connected-servers": ("peers", "connected_servers"),
    "trust": ("peers", "trust"),
    "refuse-server": ("peers", "refuse_server"),
    "revoke": ("peers", "revoke"),
    "node-pri": ("peers", "node_pri"),
    "peer": ("peers", "peer"),
    "network": ("networks", "network"),
    "network-graph": ("networks", "network_graph"),
    "login": ("users", "login"),
    "logout": ("users", "logout"),
    "whoami": ("users", "whoami"),
    "passwd": ("users", "passwd"),
    "users": ("users", "users"),
    "add-user": ("users", "add_user"),
    "delete-user": ("users", "delete_user"),
    "promote-user": ("users", "promote_user"),
    "demote-user": ("users", "demote_user"),
    "grant-access": ("users", "grant_access"),
    "revoke-access": ("users", "revoke_access"),
    "start": ("projects", "start"),
    "rm": ("projects", "remove"),
    "projects": ("projects", "projects"),
    "cd": ("projects", "cd"),
    "pwd": ("projects", "pwd"),
    "set-quota": ("projects", "set_quota"),
    "save": ("archives", "save"),
    "load": ("archives", "load"),
    "ls": ("items", "ls"),
    "get": ("values", "get"),
    "getf": ("values", "get_file"),
    "set": ("values", "set_value"),
    "setf": ("values", "set_file"),
    "unset": ("values", "unset"),
    "info": ("modules", "info"),
    "log": ("instances", "log"),
    "graph": ("graph", "graph"),
    "explain": ("explain", "explain"),
    "list-modules": ("modules", "list_modules"),
    "import": ("modules", "import_module"),
    "upload": ("modules", "upload"),
    "instance": ("instances", "instance"),
    "rm-instance": ("instances", "remove"),
    "activate": ("instances", "activate"),
    "deactivate": ("instances", "deactivate"),
    "clear-error": ("instances", "clear_error"),
    "force-rerun": ("instances", "force_rerun"),
    "connect": ("connections", "connect"),
    "disconnect": ("connections", "disconnect"),
    "transact": ("transactions", "transact"),
    "commit": ("transactions", "commit"),
    "rollback": ("transactions", "rollback"),
    "diff": ("transactions", "diff"),
    "status": ("status", "status"),
    "queue": ("status", "queue"),
    "running": ("status", "running"),
    "heartbeats": ("status", "heartbeats"),
    "watch": ("status", "watch"),
    "audit": ("status", "audit"),
    "events": ("status", "events"),
    "submit": ("submit", "submit"),
    "run": ("submit", "run"),
    "jobs": ("jobs", "jobs"),
    "job": ("jobs", "job"),
    "wait": ("jobs", "wait"),
    "cancel": ("jobs", "cancel"),
    "retry": ("jobs", "retry"),
    "priority": ("jobs", "priority"),
    "forget": ("jobs", "forget"),
    "why": ("jobs", "why"),
    "command-failed": ("jobs", "command_failed"),
    "logs": ("outputs", "logs"),
    "fetch": ("outputs", "fetch"),
    "upload-file": ("outputs", "upload_file"),
    "workers": ("workers", "workers"),
    "drain": ("workers", "drain"),
    "resume": ("workers", "resume"),
    "pools": ("pools", "pools"),
    "pool": ("pools", "pool"),
    "doctor": ("doctor", "doctor"),
    "allocations": ("nodes", "allocations"),
    "allocation": ("nodes", "allocation"),
    "nodes": ("nodes", "nodes"),
    "bundles": ("bundles", "bundles"),
    "bundle": ("bundles", "bundle"),
    "revoke-bundle": ("bundles", "revoke_bundle"),
    "custody": ("custody", "custody"),
    "custody-drop": ("custody", "drop"),
    "tokens": ("bundles", "tokens"),
    "token": ("bundles", "token"),
    "revoke-token": ("bundles", "revoke_token"),
    "config": ("settings", "config"),
    "completion": ("completion", "completion"),
}

ALIASES = {
    "p": "projects", "q": "queue", "r": "running", "h": "heartbeats", "s": "status", "remove": "rm",
    "set-default": "cd", "get-default": "pwd", "list": "ls", "get-file": "getf", "set-file": "setf", "hold": "deactivate",
    "cs": "connected-servers", "list-nodes": "connected-servers", "connect-node": "connect-server",
    "set-pri": "node-pri", "change-node-priority": "node-pri",
}  # fmt: skip

#: Options that may stand anywhere among the arguments, and what their value is; "": none follows.
ANYWHERE = {
    "-p": "project name", "--project": "project name", "-c": "bundle file", "--home": "directory",
    "--json": "", "--quiet": "", "-q": "",
}  # fmt: skip

#: Long options as the original spelled them.
OLD_SPELLINGS = {"-stdin": "--stdin", "-all": "--all"}


class Commands(click.Group):
    """The table above as a click group that imports late."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        module, function = COMMANDS[name]
        return getattr(importlib.import_module(f"cpc.client.commands.{module}"), function)  # type: ignore[no-any-return]

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if extra.get("resilient_parsing"):  # a shell asks for completions: what stands anywhere is not ours to read
            try:
                args = split(args)[1]
            except click.UsageError:
                args = []
        return super().make_context(info_name, args, parent, **extra)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in ALIASES and args[0] not in COMMANDS and not ctx.resilient_parsing:
            import difflib

            near = difflib.get_close_matches(args[0], [*COMMANDS, *ALIASES], 2)
            hint = f"; did you mean {' or '.join(near)}?" if near else "; see cpcc --help"
            raise click.UsageError(f"unknown command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None:
                also = [alias for alias, full in ALIASES.items() if full == name]
                rows.append((", ".join([name, *also]), command.get_short_help_str(80)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cpcc() -> None:
    """Talk to a Copernicus server.

    Anywhere among the arguments: -p PROJECT, -c BUNDLE (a client bundle instead of a login), --json, --quiet,
    --home DIR ($CPC_HOME).
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
        word = OLD_SPELLINGS.get(word, word)
        if name.startswith("--") and equals and ANYWHERE.get(name):
            found[name] = value
        elif word in ANYWHERE:
            if ANYWHERE[word] and (not todo or not todo[0]):
                raise click.UsageError(f"missing {ANYWHERE[word]} after {word}")
            found[word] = todo.pop(0) if ANYWHERE[word] else "yes"
        else:
            rest.append(word)
    return found, rest


def main(arguments: list[str] | None = None) -> None:
    """The program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that this terminal cannot show is no failure
    try:
        code = run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone: nothing more to say, and nothing to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        code = _complain(f"cannot write the output: {error.strerror}", 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Carry out a command line; its exit code."""
    context: Context | None = None
    try:
        found, rest = split(arguments)
        context = Context(
            home=found.get("--home"), project=found.get("-p") or found.get("--project"), bundle=found.get("-c"),
            json="--json" in found, quiet="--quiet" in found or "-q" in found,
        )  # fmt: skip
        if rest[:1] == ["help"]:
            rest = [*rest[1:2], "--help"]
        if not rest and "_CPCC_COMPLETE" not in os.environ:
            click.echo(cpcc.get_help(click.Context(cpcc, info_name="cpcc")), err=True)
            return 2
        result: Any = cpcc.main(rest, prog_name="cpcc", standalone_mode=False, obj=context)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        return _complain(error.format_message(), 2)
    except click.Abort as abort:
        return _complain("there is nobody to ask", 1) if isinstance(abort.__cause__, EOFError) else 130
    except KeyboardInterrupt:
        return 130
    except CopernicusError as error:
        return _complain(str(error), 1)
    except RecursionError:
        return _complain("the answer is nested too deeply to be shown", 1)
    except BrokenPipeError:
        raise
    except Exception as error:
        return _defect(error)
    finally:
        if context is not None:
            context.close()


def _complain(text: str, code: int) -> int:
    from cpc.client.output import harmless

    click.echo(f"cpcc: {harmless(' '.join(text.split()))}", err=True)
    return code


def _defect(error: Exception) -> int:
    """A mistake of ours, or of the machine's: one line, and the way to the rest."""
    if os.environ.get("CPC_DEBUG"):
        import traceback

        traceback.print_exception(error)
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, OSError):
        return _complain(words, 1)
    return _complain(f"this should not happen: {words} (report it, with what CPC_DEBUG=1 cpcc … prints)", 1)


if __name__ == "__main__":
    main()
