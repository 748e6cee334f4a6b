"""How the server is, and which release this is."""

from __future__ import annotations

import click
import msgspec

from cpc import __version__
from cpc.core.clock import DAY, SECOND
from cpc.core.errors import CopernicusError
from cpc.core.resources import show_span
from cpc.core.views import ServerStatus
from cpc.server import process, upkeep
from cpc.server.commands import Context, pass_context
from cpc.server.config import Config, Place
from cpc.server.control import Control
from cpc.server.storage import show_size
from cpc.store import checks
from cpc.wire.identity import not_after_of, show_fingerprint

_SOON = 30 * DAY


class Report(msgspec.Struct, kw_only=True):
    """`cpc-server status --json`, version 1. Times are µs UTC, `up` seconds; `jobs` counts by state."""

    version: int = 1
    name: str
    running: bool
    answers: bool = False
    pid: int | None = None
    release: str = ""
    up: float | None = None
    host: str
    listen: tuple[str, ...]
    port: int
    client_port: int
    database: str
    run_dir: str
    fingerprint: str = ""
    workers: int | None = None
    workers_busy: int | None = None
    jobs: dict[str, int] = {}
    storage_free: int | None = None
    last_backup: int | None = None
    problem: str = ""
    warnings: list[str] = []


@click.command(short_help="Tell whether the server runs, and how it is.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_context
def status(context: Context, as_json: bool) -> int:
    """Tell whether the server runs, what it does, and what to look after. Exit code 1 when it does not run or answer."""
    place = context.place()
    report = look(context, place, upkeep.check_config(place))
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        show(report)
    return 0 if report.answers else 1


def look(context: Context, place: Place, config: Config) -> Report:
    """Everything that can be learned without disturbing the server."""
    report = Report(
        name=config.name, running=process.is_running(place), pid=process.find(place), host=config.host,
        listen=config.listen, port=config.port, client_port=config.client_port,
        database=checks.shown(config.database), run_dir=config.run_dir,
    )  # fmt: skip
    report.running = report.pid is not None
    try:
        if report.running:
            control = Control(place, config, lambda: upkeep.site_certificate(config))
            _answered(report, control.status(), context.clock.now())
        else:
            upkeep.look_at_database(config)
            report.jobs = {state: count for state, count in checks.job_counts(config.database).items() if count}
    except CopernicusError as error:
        report.problem = str(error)
    _local(report, context, place)
    return report


def _answered(report: Report, found: ServerStatus, now: int) -> None:
    report.answers = True
    report.release = found.server.release
    report.up = (now - found.server.started) / SECOND
    report.workers, report.workers_busy, report.jobs = found.workers, found.workers_busy, found.jobs
    report.storage_free = found.storage_free
    report.warnings += found.warnings


def _local(report: Report, context: Context, place: Place) -> None:
    """What the files tell."""
    now = context.clock.now()
    try:
        authority = upkeep.authority(place, context.clock, context.chance)
        report.fingerprint = authority.fingerprint
        if not report.answers and not_after_of(authority.certificate_pem) < now + _SOON:
            report.warnings.append("the server's identity is about to expire; see docs/admin/certificates")
    except CopernicusError as error:
        report.warnings.append(str(error))
    last = upkeep.last_backup(place)
    report.last_backup = last.made if last else None
    if not report.answers:
        report.warnings += upkeep.backup_warnings(report.last_backup, now)


def show(report: Report) -> None:
    """For people."""
    if report.answers:
        click.echo(f"server {report.name} runs as process {report.pid} for {show_span(report.up or 0.0)}")
    elif report.running:
        click.echo(f"server {report.name} runs as process {report.pid} but does not answer")
    else:
        click.echo(f"server {report.name} is stopped; start it with `cpc-server start`")
    rows = [
        ("host", f"{report.host}, workers on port {report.port}, people on port {report.client_port}"),
        ("listens on", ", ".join(report.listen)),
        ("fingerprint", show_fingerprint(report.fingerprint)),
        ("database", report.database),
        ("run directory", report.run_dir),
        ("jobs", ", ".join(f"{count} {state}" for state, count in report.jobs.items()) or "none"),
    ]
    if report.workers is not None:
        rows.append(("workers", f"{report.workers}, {report.workers_busy} busy"))
    if report.storage_free is not None:
        rows.append(("free disk", show_size(report.storage_free)))
    if report.last_backup is not None:
        rows.append(("last backup", upkeep.show_time(report.last_backup)))
    for name, value in rows:
        click.echo(f"  {name:14} {value}")
    if report.problem:
        click.echo(f"problem: {report.problem}")
    for warning in report.warnings:
        click.echo(f"warning: {warning}")


@click.command(short_help="Print the release.")
@pass_context
def version(context: Context) -> None:
    """Print the release of this program, and the id of the server if there is one."""
    click.echo(f"Copernicus {__version__}")
    try:
        place = context.place()
        click.echo(f"server {place.read().name}, id {upkeep.authority(place, context.clock, context.chance).server_id}")
    except CopernicusError:
        if context.name:
            raise
