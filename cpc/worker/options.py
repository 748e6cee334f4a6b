"""The command line of cpc-worker: global options, then a platform with its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from cpc.api import Option, Platform
from cpc.core import names
from cpc.core.errors import BadInput, CopernicusError
from cpc.core.numbers import Whole
from cpc.core.resources import parse_size, parse_span
from cpc.worker.limits import WAYS, Way
from cpc.worker.platforms import platform_class, platform_names

DEFAULT_PLATFORM = "smp"
DEFAULT_WORK = "cpc-worker-workload"


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for. Spans in seconds, sizes in bytes; `options` are the platform's own, by name."""

    bundle: str | None = None
    home: Path = Path()
    work: str = DEFAULT_WORK
    work_was_named: bool = False
    project: str = ""
    idle: float = 0.0
    jobs: int = 0
    labels: tuple[str, ...] = ()
    until: str = ""
    hand_in: str = ""
    show: bool = False
    debug: bool = False
    grace: float = 30.0
    cache: int = 4 << 30
    memory: Way = "auto"
    most_memory: int = 0
    platform: type[Platform] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class WorkerCommand(click.Command):
    """Platforms are words after the global options; their help follows."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text("`cpc-worker check`, with the same options, says whether a worker would get on here.")
        formatter.write_paragraph()
        formatter.write_text(f"Platforms: {', '.join(platform_names())}. See also: cpc-worker PLATFORM --help")


def options_command(callback: Any) -> click.Command:
    """The click command; `callback` gets a Settings."""

    def run(**given: Any) -> Any:
        return callback(settings_of(given, os.environ))

    def option(*flags: str, **more: Any) -> click.Option:
        return click.Option(flags, **more)

    return WorkerCommand(
        "cpc-worker",
        callback=run,
        help="Run jobs of a Copernicus server on this node.",
        context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]},
        params=[
            option(
                "-c",
                "bundle",
                metavar="BUNDLE",
                help="Connection bundle (default: client.cnx in --home, then here); - reads it from stdin.",
            ),
            option("-n", "cores", type=int, metavar="CORES", help="Use this many cores (default: all there are)."),
            option("-s", "cores_per_job", type=int, metavar="CORES", help="Give each job exactly so many cores."),
            option("-p", "project", default="", metavar="PROJECT", help="Take jobs of this project only."),
            option("-q", "idle", type=float, metavar="MINUTES", help="Leave after so many minutes without work."),
            option("--jobs", type=Whole(1), metavar="N", help="Leave after so many jobs."),
            option("-wd", "--wd", "work", metavar="DIR", help=f"Work directory (default: ./{DEFAULT_WORK})."),
            option("--labels", multiple=True, metavar="A,B", help="Labels that jobs may ask for."),
            option(
                "--until", default="", metavar="TIME", help="When this worker's time is over: 18:00, +2h, or a date."
            ),
            option("--hand-in", default="", metavar="DIR", help="Hand in what a dead worker left in DIR, then leave."),
            option("--show", is_flag=True, help="Show what would be announced, and end."),
            option("--home", envvar="CPC_HOME", metavar="DIR", help="Instead of ~/.copernicus."),
            option("--grace", default="30s", metavar="SPAN", help="From SIGTERM to SIGKILL of a job (default: 30s)."),
            option("--cache", default="4G", metavar="SIZE", help="Keep inputs up to this size (default: 4G)."),
            option(
                "--memory", "most_memory", metavar="SIZE", help="Offer at most so much memory (default: the node's)."
            ),
            option("--memory-limits", "memory", type=click.Choice(WAYS), default="auto", help="How memory is limited."),
            option("-sh", "shared", is_flag=True, hidden=True),
            option("-d", "debug", is_flag=True, help="Log more, to stderr."),
            click.Argument(["rest"], nargs=-1, type=click.UNPROCESSED, metavar="[PLATFORM [OPTIONS]]"),
        ],
    )


def settings_of(given: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Checked settings out of what click read. BadInput; click.UsageError for a platform's options."""
    rest: Sequence[str] = given["rest"]
    name, arguments = (rest[0], rest[1:]) if rest else (DEFAULT_PLATFORM, ())
    platform = platform_class(name)
    options = platform_options(platform, arguments)
    for own in ("cores", "cores_per_job"):
        if given[own] is not None and options.get(own) is None:
            options[own] = given[own]
    minutes = given["idle"]
    if minutes is not None and not 0 < minutes < 1e7:
        raise BadInput(f"-q {minutes:g} is not a number of minutes")
    home = Path(given["home"] or Path.home() / ".copernicus").expanduser()
    labels = tuple(names.clean(label, "label") for each in given["labels"] for label in each.split(",") if label)
    return Settings(
        bundle=given["bundle"],
        home=home,
        work=given["work"] or DEFAULT_WORK,
        work_was_named=bool(given["work"]),
        project=names.clean(given["project"], "project") if given["project"] else "",
        idle=60 * (minutes or 0.0),
        jobs=given["jobs"] or 0,
        labels=tuple(dict.fromkeys(labels)),
        until=given["until"],
        hand_in=given["hand_in"],
        show=given["show"],
        debug=given["debug"],
        grace=parse_span(given["grace"]),
        cache=parse_size(given["cache"]),
        memory=given["memory"],
        most_memory=parse_size(given["most_memory"]) if given["most_memory"] else 0,
        platform=platform,
        options=options,
    )


def platform_options(platform: type[Platform], arguments: Sequence[str]) -> dict[str, Any]:
    """A platform's own options, by name. click.UsageError for what it does not know; --help prints and ends."""
    parameters: list[click.Parameter] = [_click_option(each) for each in platform.options()]
    # Of the original; here one lease takes many jobs anyway.
    parameters.append(click.Option(["--join", "_join"], is_flag=True, hidden=True))
    command = click.Command(
        platform.name,
        help=f"Platform {platform.name}: {platform.summary}.",
        params=parameters,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    context = command.make_context(f"cpc-worker {platform.name}", list(arguments))
    return {name: value for name, value in context.params.items() if not name.startswith("_")}


def _click_option(option: Option) -> click.Option:
    return click.Option(
        [*option.flags, option.name],
        type=None if option.type is bool else option.type,
        is_flag=option.type is bool,
        metavar=option.metavar or None,
        help=option.help,
    )


def say_error(error: CopernicusError) -> str:
    """One line for stderr."""
    return f"ERROR: {error}"
