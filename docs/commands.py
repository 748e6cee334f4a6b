"""The page of all commands, printed from the click objects that read the command lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click

from cpc.api import Option
from cpc.client import main as client
from cpc.server import main as server
from cpc.worker import options as worker
from cpc.worker.platforms import platform_class, platform_names

HEAD = """# Commands

Printed from the programs themselves: `cpcc COMMAND --help`, `cpc-server COMMAND --help`, `cpc-worker --help`.

Exit codes: 0 done; 1 refused or failed, one line says why and what to do; 2 a command line that cannot be read;
130 interrupted. `cpcc wait`, `run` and `submit --wait` end with 1 unless all jobs have succeeded. `cpc-server status` ends
with 1 when the server does not run or answer, `cpc-worker` when results were left behind.

| anywhere in a line of | |
|---|---|
| `cpcc` | `-p PROJECT` (`--project`), `-c BUNDLE`, `--json`, `--quiet` (`-q`), `--home DIR` |
| `cpc-server` | `-c NAME` (which server), `--home DIR` |

Nothing after `--` is taken for an option. [JSON output](json.md) describes what `--json` prints.
"""


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for program, group, table, aliases in (
        ("cpcc", client.cpcc, client.COMMANDS, client.ALIASES),
        ("cpc-server", server.cpc_server, server.COMMANDS, server.ALIASES),
    ):
        lines.append(f"## {program}\n")
        lines += _index(program, table)
        for name in table:
            lines += _command(program, name, group, [alias for alias, full in aliases.items() if full == name])
    lines += _worker()
    return "\n".join(lines).rstrip() + "\n"


def _index(program: str, table: Mapping[str, object]) -> Iterator[str]:
    yield ", ".join(f"[{name}](#{program}-{name})" for name in sorted(table)) + "\n"


def _command(program: str, name: str, group: click.Group, aliases: list[str]) -> Iterator[str]:
    context = click.Context(group, info_name=program)
    command = group.get_command(context, name)
    assert command is not None, f"{program} {name} is in the table but not in the program"
    own = click.Context(command, info_name=f"{program} {name}", parent=None)
    yield f"### {program} {name}\n"
    yield f"`{program} {name} {' '.join(command.collect_usage_pieces(own))}`".replace(" `", "`") + "\n"
    if aliases:
        yield f"Also: {', '.join(f'`{program} {alias}`' for alias in aliases)}\n"
    yield from _body(command, own)
    if isinstance(command, click.Group):
        for part, inner in command.commands.items():
            inside = click.Context(inner, info_name=f"{program} {name} {part}", parent=None)
            yield f"#### {program} {name} {part}\n"
            yield f"`{program} {name} {part} {' '.join(inner.collect_usage_pieces(inside))}`".replace(" `", "`") + "\n"
            yield from _body(inner, inside)


def _body(command: click.Command, context: click.Context) -> Iterator[str]:
    for paragraph in (command.help or "").split("\n\n"):
        yield _plain(paragraph) + "\n"
    rows = [each.get_help_record(context) for each in command.params if isinstance(each, click.Option)]
    shown = [f"* `{options}`: {_plain(text)}" for options, text in filter(None, rows)]
    if shown:
        yield "\n".join(shown) + "\n"


def _worker() -> Iterator[str]:
    command = worker.options_command(lambda settings: settings)
    context = click.Context(command, info_name="cpc-worker")
    yield "## cpc-worker\n"
    yield f"`cpc-worker {' '.join(command.collect_usage_pieces(context))}`\n"
    yield from _body(command, context)
    yield f"Without a platform: `{worker.DEFAULT_PLATFORM}`. `cpc-worker version` prints the release.\n"
    for name in platform_names():
        kind = platform_class(name)
        yield f"### cpc-worker {name}\n"
        yield f"{kind.summary[:1].upper()}{kind.summary[1:]}.\n"
        yield "\n".join(_option(each) for each in kind.options()) + "\n"


def _option(option: Option) -> str:
    return f"* `{', '.join(option.flags)}{' ' + option.metavar if option.metavar else ''}`: {option.help}"


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;").replace("*", "\\*")
