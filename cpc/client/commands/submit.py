"""Submitting: files first, then the job, in one call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cpc.client.commands.job_options import JobCommand, LocalFile, describe, job_options
from cpc.client.context import Context, pass_context
from cpc.client.output import Bar, harmless, plural
from cpc.core.errors import CopernicusError

if TYPE_CHECKING:
    from cpc.client.client import Client
    from cpc.core.digest import Content
    from cpc.core.spec import JobSpec
    from cpc.core.views import Submitted

NAMED = 5  # words that a warning lists


@click.command("submit", cls=JobCommand)
@job_options
@click.option("--dry-run", is_flag=True, help="Check everything and say what would happen; store nothing.")
@click.option("--wait", "wait", is_flag=True, help="Wait for the end; exit code 1 unless all have succeeded.")
@pass_context
def submit(context: Context, /, dry_run: bool, wait: bool, **given: Any) -> int:
    """Submit a job or an array; it is on the server's disk when this returns.

    Without --executable, COMMAND is the whole command.
    """
    spec, files = describe(given)
    made = send(context, spec, files, dry_run)
    if not dry_run:
        _warn(context, spec)
    if dry_run or not wait:
        context.out.data("submitted", made, lambda: _said(context, made, spec), lambda: [made.id] if made.id else [])
        return 0
    from cpc.client.commands import waiting

    if context.out.quiet:
        print(made.id)
    context.out.note(_said(context, made, spec))
    found = waiting.wait(context, [made.id])
    waiting.show(context, found)
    return waiting.code(found)


@click.command("run", cls=JobCommand)
@job_options
@click.option(
    "-o", "directory", metavar="DIR", help="Where its outputs go; a directory named after the job if left out."
)
@click.option("--fetch/--no-fetch", "fetch", default=None, help="Fetch its outputs in any case; leave them all.")
@pass_context
def run(context: Context, /, directory: str | None, fetch: bool | None, **given: Any) -> int:
    """Submit a job, show what it writes, wait for its end, and fetch its outputs.

    Exit code 0 if it has succeeded and its outputs are here. A job that left nothing but what was shown makes no directory.

    Ctrl-C leaves the job running, and says how to see or cancel it.
    """
    from cpc.client.commands import following, waiting

    if directory and fetch is False:
        raise click.UsageError("-o and --no-fetch exclude each other")
    spec, files = describe(given)
    made = send(context, spec, files, dry_run=False)
    _warn(context, spec)
    context.out.note(_said(context, made, spec))
    shown = not spec.array and not context.out.json
    try:
        if shown:
            following.follow_both(context.client(), made.id, context.out.note)
        found = waiting.wait(context, [made.id])
    except KeyboardInterrupt:
        context.out.note(f"Job {made.id} goes on. Follow it: cpcc logs -f {made.id}   cancel it: cpcc cancel {made.id}")
        return 130
    if context.out.json:
        waiting.show(context, found)
    else:
        context.out.note(waiting.line(found[0]))
    if fetch is not False:
        _bring(context, made.id, directory, everything=fetch or bool(directory) or not shown)
    return waiting.code(found)


def _bring(context: Context, id: str, directory: str | None, everything: bool) -> None:
    """Fetch what a job has left. Unless `everything` is wanted, what was shown already is no reason to write any."""
    from cpc.client.commands.outputs import directory_of, fetch_ended, fetched, made_files

    target = Path(directory) if directory else directory_of(id)
    try:
        if everything or made_files(context.client(), id):
            context.out.note(fetched(target, fetch_ended(context, id, target)))
    except CopernicusError as error:
        raise CopernicusError(
            f"the outputs of {id} are not all here: {error.message}", f"fetch them: cpcc fetch {id} -o DIRECTORY"
        ) from error
    except KeyboardInterrupt:
        context.out.note(f"Fetch its outputs later: cpcc fetch {id} -o {harmless(target)}")
        raise


def send(context: Context, spec: JobSpec, files: list[LocalFile], dry_run: bool) -> Submitted:
    """Check all that can be checked here, upload what the server lacks, submit. A dry run uploads nothing."""
    import msgspec

    from cpc.client import transfer
    from cpc.core.spec import Input, check

    client = context.client()
    client.require_project()
    contents = [transfer.address(file.source) for file in files]
    inputs = tuple(Input(file.path, content, file.executable) for file, content in zip(files, contents, strict=True))
    whole = check(msgspec.structs.replace(spec, inputs=(*spec.inputs, *inputs)))
    if dry_run:
        # The server would miss the files: they have been looked at, and are left out.
        return client.submit_spec(msgspec.structs.replace(whole, inputs=(), stdin=""), dry_run=True)
    _upload(context, client, files, contents)
    return client.submit_spec(whole)


def _upload(context: Context, client: Client, files: list[LocalFile], contents: list[Content]) -> None:
    from cpc.client import transfer
    from cpc.core.resources import show_size

    whole = sum(content.size for content in contents)
    before = 0
    with Bar("sending", shown=not context.out.quiet) as bar:
        for file, content in zip(files, contents, strict=True):

            def progress(done: int, _all: int, before: int = before, name: str = file.path) -> None:
                bar.update(before + done, whole, f"{show_size(before + done)} of {show_size(whole)}  {harmless(name)}")

            transfer.send(client, file.source, content, progress=progress)
            before += content.size


def _said(context: Context, made: Submitted, spec: JobSpec) -> str:
    what = f"an array of {plural(made.size, 'job')}" if spec.array else "a job"
    if made.dry_run:
        lines = [f"This would submit {what} to project {context.project}; nothing was stored."]
        lines += [f"   Note: {warning}" for warning in (*made.warnings, *_stays(spec))]
        return "\n".join(map(harmless, lines))
    kind = f"array {made.id} of {plural(made.size, 'job')}" if spec.array else f"job {made.id}"
    return harmless(f"Submitted {kind} to project {context.project}")


def _warn(context: Context, spec: JobSpec) -> None:
    if not context.out.json:
        for text in _stays(spec):
            context.out.note(f"Note: {text}")


def _stays(spec: JobSpec) -> list[str]:
    """What looks like a column and is none: it may be meant so (awk has braces too), or be a slip of the pen."""
    from cpc.core.spec import element_values, unfilled

    words = unfilled(spec)
    if not words:
        return []
    named = ", ".join(f"{{{word}}}" for word in words[:NAMED]) + (", …" if len(words) > NAMED else "")
    known = ", ".join(f"{{{name}}}" for name in element_values(spec, 0))
    return [f"{named} {'stays as it is' if len(words) == 1 else 'stay as they are'}; this array fills in {known}"]
