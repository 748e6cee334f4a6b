"""Pools: batch systems and clouds that the server asks for workers."""

from __future__ import annotations

import time  # a command line tool is at the edge: it may look at the clock
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cpc.client.context import Context, pass_context
from cpc.client.output import facts, harmless, table, when
from cpc.core.errors import BadInput, CopernicusError, Unavailable
from cpc.core.numbers import Real, Whole

if TYPE_CHECKING:
    from cpc.core.pool_views import CheckView, PoolForgotten, PoolPlan, PoolSettings, PoolView

PATIENCE = 300.0  # seconds for its allocations to end
PAUSE = 2.0
F = TypeVar("F", bound=Callable[..., Any])


@click.command("pools")
@click.argument("pool", required=False)
@pass_context
def pools(context: Context, pool: str | None) -> None:
    """List the pools; with POOL, everything about one."""
    client = context.client()
    if pool is not None:
        one = client.pool(pool)
        context.out.data("pool", one, lambda: _detail(one), lambda: [one.name])
        return
    found = client.pools()
    context.out.data("pools", found, lambda: _listing(found), lambda: [one.name for one in found])


def _listing(found: list[PoolView]) -> str:
    rows = [
        (one.name, one.scheduler, one.state, one.waiting, one.running, one.leaving, one.cores, one.workers,
         f"{one.spent:.1f}", "" if one.wait is None else _span(one.wait), one.note)
        for one in found
    ]  # fmt: skip
    header = (
        "pool", "scheduler", "state", "waiting", "running", "leaving", "cores", "workers", "core-hours of a day", "usual wait",
        "note",
    )  # fmt: skip
    return table(header, rows, empty="no pools; add a batch system: cpcc pool add NAME SCHEDULER")


def _detail(one: PoolView) -> str:
    values: list[tuple[str, object]] = [
        ("pool", one.name), ("id", one.id), ("scheduler", one.scheduler), ("state", one.state), ("note", one.note),
        ("allocations", f"{one.waiting} waiting, {one.running} running, {one.leaving} leaving"),
        ("cores in use", one.cores), ("workers", one.workers), ("core-hours of a day", f"{one.spent:.2f}"),
        ("usual wait", "" if one.wait is None else _span(one.wait)), ("added", when(one.created)),
    ]  # fmt: skip
    return facts([*values, *_settings(one.settings)])


def _settings(given: PoolSettings) -> list[tuple[str, object]]:
    from cpc.core.resources import show_size

    shown: list[tuple[str, object]] = []
    for name in given.__struct_fields__:
        value = getattr(given, name)
        if name in ("walltime", "margin", "idle") and value is not None:
            value = _span(value)
        elif name == "memory" and value:
            value = show_size(value)
        elif isinstance(value, dict):
            value = ", ".join(f"{key}={each}" for key, each in value.items())
        elif isinstance(value, tuple):
            value = ", ".join(value)
        elif isinstance(value, bool):
            value = "yes" if value else ""
        shown.append((name.replace("_", " "), value or ""))
    return shown


def _span(seconds: float) -> str:
    from cpc.core.resources import show_span

    return show_span(seconds)


# --- settings -------------------------------------------------------------------------------------------------------------

_OPTIONS = (
    click.option("--queue", "--partition", "queue", metavar="NAME", help="The queue or partition."),
    click.option("--account", metavar="NAME", help="The account that is charged."),
    click.option("--nodes", type=Whole(1), metavar="N", help="Nodes of each allocation (default: 1)."),
    click.option("--cores", type=Whole(1), metavar="N", help="Cores of each node (default: 1)."),
    click.option("--memory", metavar="SIZE", help="Memory of each node, for example 64G."),
    click.option("--gpus", type=Whole(0), metavar="N", help="GPUs of each node."),
    click.option("--walltime", metavar="TIME", help="How long each allocation may last (default: 4h)."),
    click.option("--margin", metavar="TIME", help="So long before its end do its workers leave (default: 2m)."),
    click.option("--max-allocations", type=Whole(0), metavar="N", help="At once (default: 10)."),
    click.option("--max-cores", type=Whole(0), metavar="N", help="At once, of all allocations."),
    click.option("--budget", type=Real(0), metavar="HOURS", help="Core-hours within any 24 hours."),
    click.option("--idle", metavar="TIME", help="A worker without a job leaves after so long (default: 15m)."),
    click.option("--backlog", type=Whole(0), metavar="N", help="Allocations that wait at once (default: 10)."),
    click.option("--labels", metavar="A,B", help="Labels that its workers have."),
    click.option(
        "--program", "programs", multiple=True, metavar="'NAME VERSION'", help="What its workers are known to have."
    ),
    click.option("--project-cores", type=Whole(0), metavar="N", help="The most cores for each project."),
    click.option("--project-limit", "limits", multiple=True, metavar="PROJECT=N", help="The most cores for this one."),
    click.option("--shared-files/--no-shared-files", default=None, help="Whether all nodes see the same directories."),
    click.option("--exclusive/--no-exclusive", default=None, help="Whole nodes, or parts of them."),
    click.option("--platform", metavar="NAME", help="The worker's platform inside: smp (default), mpi, slurm, cray."),
    click.option("--prologue", "prologue_file", metavar="FILE", help="Shell lines that come before the worker."),
    click.option("--env", multiple=True, metavar="NAME=VALUE", help="An environment variable of the worker."),
    click.option("--wrap", metavar="COMMAND", help="What the worker is started with, for example 'numactl -i all'."),
    click.option("--direct/--no-direct", default=None, help="One job for each allocation, which is made for it."),
    click.option("--price", type=Real(0), metavar="X", help="Of a core-hour; cheaper pools come first."),
    click.option("--worker", metavar="PATH", help="The worker program there (default: cpc-worker)."),
    click.option("--directory", metavar="DIR", help="Where the script starts (default: /)."),
    click.option("--work", metavar="DIR", help="Where workers keep their files (default: below $TMPDIR)."),
    click.option("--output", metavar="FILE", help="Where what workers print goes (default: nowhere)."),
    click.option("--force", is_flag=True, help="Do not ask the batch system whether it would ever grant this."),
)


def _all_options(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _given(own: tuple[str, ...], given: dict[str, Any]) -> PoolSettings:
    """The settings that the options say; `own` are those of the scheduler, NAME=VALUE."""
    from cpc.core.pool_views import PoolSettings
    from cpc.core.resources import parse_size, parse_span

    if given["prologue_file"] is not None:
        given["prologue"] = _text(given["prologue_file"])
    for name in ("walltime", "margin", "idle"):
        if given[name] is not None:
            given[name] = parse_span(given[name])
    if given["memory"] is not None:
        given["memory"] = parse_size(given["memory"])
    if given["labels"] is not None:
        given["labels"] = tuple(label.strip() for label in given["labels"].split(",") if label.strip())
    given["programs"] = given["programs"] or None
    environment = _pairs(given["env"], "--env") or {}
    given["environment"] = {name: text or None for name, text in environment.items()} or None
    limits = _pairs(given["limits"], "--project-limit")
    given["project_limits"] = (
        None if limits is None else {name: _whole(name, text) if text else None for name, text in limits.items()}
    )
    given["scheduler"] = _pairs(own, "a setting of the scheduler")
    return PoolSettings(**{name: value for name, value in given.items() if name in PoolSettings.__struct_fields__})


def _pairs(words: tuple[str, ...], what: str) -> dict[str, str] | None:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{what} is NAME=VALUE, not {word!r}")
        found[name] = value
    return found or None


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise click.UsageError(f"--project-limit {name}={text}: {text!r} is not a number of cores")
    return int(text)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(65_537)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the prologue {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


# --- acts -----------------------------------------------------------------------------------------------------------------


@click.group("pool")
def pool() -> None:
    """Add, change, remove, pause and resume pools."""


@pool.command("add")
@click.argument("name")
@click.argument("scheduler")
@click.argument("own", metavar="[NAME=VALUE]...", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and what the batch system says to it.")
@_all_options
@pass_context
def add(
    context: Context, /, name: str, scheduler: str, own: tuple[str, ...], dry_run: bool, force: bool, **given: Any
) -> int | None:
    """Add a batch system or cloud. NAME=VALUE are settings of the scheduler's own."""
    client, settings = context.client(), _given(own, given)
    if dry_run:
        plan = client.plan_pool(name, scheduler, settings)
        context.out.data("pool-plan", plan, lambda: _plan(plan), lambda: [plan.call])
        return 0 if all(one.ok for one in plan.checks) else 1
    made = client.add_pool(name, scheduler, settings, force)
    _warn(context, made)
    text = f"Pool {made.name} is there; it is asked for workers as jobs need them."
    context.out.data("pool", made, lambda: harmless(text), lambda: [made.name])
    return None


def _plan(plan: PoolPlan) -> str:
    script = "\n".join("    " + harmless(line) for line in plan.script.splitlines())
    return f"{harmless(plan.call)}\n\n{script}\n\n{checks([*plan.checks, *plan.warnings])}"


def _warn(context: Context, made: PoolView) -> None:
    for words in made.warnings:
        context.out.note(f"warning: {words}")


def checks(found: list[CheckView]) -> str:
    """One line for each, with what to do below those that are not well."""
    lines = []
    for one in found:
        level = "FAIL" if not one.ok else "warn" if one.doubt else "ok"
        lines.append(harmless(f"{level:4} {one.name}: {one.text}"))
        if one.hint and level != "ok":
            lines.append(harmless(f"       {one.hint}"))
    return "\n".join(lines) if lines else "nothing was looked at"


@pool.command("set")
@click.argument("name")
@click.argument("own", metavar="[NAME=VALUE]...", nargs=-1)
@click.option("--no-env", "clear", flag_value="environment", multiple=True, help="Remove all variables.")
@click.option("--no-program", "clear", flag_value="programs", multiple=True, help="Learn programs from its workers.")
@click.option(
    "--no-project-limit", "clear", flag_value="project_limits", multiple=True, help="Remove limits of single projects."
)
@_all_options
@pass_context
def set_pool(
    context: Context, /, name: str, own: tuple[str, ...], clear: tuple[str, ...], force: bool, **given: Any
) -> None:
    """Change a pool. What runs keeps what it began with.

    --env, --program and --project-limit add to what there is; --env A= and --project-limit P= remove one.
    """
    from cpc.core.pool_views import PoolSettings

    settings = _given(own, given)
    if settings == PoolSettings() and not clear:
        raise click.UsageError("say what to change; see cpcc pool set --help")
    made = context.client().set_pool(name, settings, force, clear)
    _warn(context, made)
    context.out.data("pool", made, lambda: _detail(made), lambda: [made.name])


@pool.command("rm")
@click.argument("name")
@click.option("--cancel", is_flag=True, help="End its allocations first.")
@click.option(
    "--forget", is_flag=True, help="Though its batch system cannot be asked any more, and what runs there goes on."
)
@pass_context
def remove(context: Context, name: str, cancel: bool, forget: bool) -> None:
    """Remove a pool that has no allocations any more; with --cancel they are ended first, and waited for.

    With --forget it goes also where its scheduler or batch system is gone for good: its workers are put out, and what may
    still run is listed, for you to end it.
    """
    if cancel and forget:
        raise click.UsageError("--cancel ends what --forget would leave: say one of them")
    client, said = context.client(), ""
    if forget:
        gone = client.forget_pool(name)
        context.out.data("forgotten", gone, lambda: _forgotten(gone), lambda: [one.native for one in gone.left])
        return
    end = time.perf_counter() + (PATIENCE if cancel else 0.0)
    while True:
        try:
            client.remove_pool(name, cancel)
            break
        except Unavailable as error:
            if time.perf_counter() >= end:
                raise
            if error.message != said:
                said = error.message
                context.out.note(said)
            time.sleep(PAUSE)
    context.out.say(f"Removed pool {name}")


def _forgotten(gone: PoolForgotten) -> str:
    if not gone.left:
        return harmless(f"Removed pool {gone.pool}")
    rows = [(one.id, one.native or "?", one.token, one.state, ",".join(one.ran_on), one.cores) for one in gone.left]
    lines = [
        harmless(
            f"Removed pool {gone.pool}. These may still be in its batch system; none of their workers can come back:"
        ),
        table(("allocation", "there", "token", "last seen", "nodes", "cores"), rows),
        harmless(
            f"End them there; or once scheduler {gone.scheduler} can be used again: cpc-server pool-stop {gone.pool}"
        ),
    ]
    return "\n".join(lines)


@pool.command("pause")
@click.argument("name")
@click.argument("reason", nargs=-1)
@pass_context
def pause(context: Context, name: str, reason: tuple[str, ...]) -> None:
    """Ask a pool for nothing more. What runs goes on."""
    one = context.client().pause_pool(name, " ".join(reason))
    text = f"Pool {one.name} is paused; {one.waiting + one.running} allocation(s) of it go on."
    context.out.data("pool", one, lambda: harmless(text), lambda: [one.name])


@pool.command("resume")
@click.argument("name")
@pass_context
def resume(context: Context, name: str) -> None:
    """Ask a pool again; what went wrong before is forgotten."""
    one = context.client().resume_pool(name)
    context.out.data("pool", one, lambda: harmless(f"Pool {one.name} is asked for workers again."), lambda: [one.name])


def why_pool(context: Context, name: str, error: CopernicusError) -> None:
    """For `cpcc why NAME`, where NAME is no job. Raises `error` when it is no pool either."""
    from cpc.core.errors import NotFound

    client = context.client()
    try:
        found = client.why_pool(name)
    except NotFound:
        if isinstance(error, BadInput):  # no number: so it was meant to be a pool
            raise NotFound(
                f"there is no pool {name!r}, and that is no job's id", "see `cpcc pools` and `cpcc jobs`"
            ) from None
        raise error from None

    def people() -> str:
        lines = [f"Pool {found.pool} is {found.state}:"]
        for reason in found.reasons:
            lines.append(f"   - {reason.text}" + (f"  ({reason.step})" if reason.step else ""))
        return "\n".join(map(harmless, lines))

    context.out.data("why", found, people, lambda: [reason.kind for reason in found.reasons])
