"""What jobs leave: their logs and files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpc.client.context import Context, pass_context
from cpc.client.output import Bar, harmless, plural, table
from cpc.core.errors import CopernicusError, NotFound
from cpc.core.numbers import Whole

if TYPE_CHECKING:
    from cpc.client.client import Client
    from cpc.core.views import FileView, LogView

OVER = "succeeded,failed,cancelled"


@click.command("logs")
@click.argument("id")
@click.option("-f", "--follow", "follow", is_flag=True, help="To its end, as it comes; waits for a job to start.")
@click.option("--stderr", is_flag=True, help="Its standard error instead of its standard output.")
@pass_context
def logs(context: Context, id: str, follow: bool, stderr: bool) -> None:
    """Show what a job writes or has written."""
    from cpc.client.commands import following

    client = context.client()
    stream = "stderr" if stderr else "stdout"
    if follow and context.out.json:
        for part in client.follow(id, stream):
            _json_line(context, part)
    elif follow:
        following.follow(client, id, stream, sys.stdout)
    else:
        _log(context, client, id, stream)


def _json_line(context: Context, part: LogView) -> None:
    context.out.line("log", part, lambda: "")


def _log(context: Context, client: Client, id: str, stream: str) -> None:
    offset = 0
    while True:
        part = client.log(id, stream, offset)
        if context.out.json:
            _json_line(context, part)
        else:
            sys.stdout.write(part.data)
        if part.end or not part.data:
            break
        offset = part.next or part.offset + len(part.data.encode("utf-8", "replace"))
    if not part.end and not offset:
        context.out.note(f"{id} has not ended; see its output as it comes: cpcc logs -f {id}")


@click.command("fetch")
@click.argument("id")
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@click.option("-o", "directory", metavar="DIR", help="Where to; a directory named after the job if left out.")
@click.option("--list", "listed", is_flag=True, help="Only say what there is.")
@click.option("--attempt", type=Whole(1), help="Another attempt than the accepted one.")
@click.option("--force", is_flag=True, help="Replace files that are there with other content.")
@pass_context
def fetch(
    context: Context, id: str, patterns: tuple[str, ...], directory: str | None, listed: bool,
    attempt: int | None, force: bool,
) -> None:  # fmt: skip
    """Fetch the outputs of a job; of an array, of each of its jobs into a directory with its index.

    PATTERN is a path; * stands for anything but /, ** for any directories, DIR/ for all in it.
    """
    from cpc.core.views import ArrayView

    client = context.client()
    whole = isinstance(client.job(id), ArrayView)
    if listed:
        if whole:
            raise CopernicusError(f"{id} is an array", f"name one of its jobs: cpcc fetch --list '{id}[0]'")
        _list(context, client, id, patterns, attempt)
        return
    target = Path(directory) if directory else directory_of(id)
    written = fetch_ended(context, id, target, patterns, attempt=attempt, force=force)
    data = {"directory": str(target), "paths": [str(path) for path in written]}
    context.out.data("fetched", data, lambda: fetched(target, written), lambda: [str(path) for path in written])


def directory_of(id: str) -> Path:
    """`57`, or `57/3` for an element: where outputs go unless told otherwise."""
    array, _, index = id.rstrip("]").partition("[")
    return Path(array) / index if index else Path(array)


def _list(context: Context, client: Client, id: str, patterns: tuple[str, ...], attempt: int | None) -> None:
    from cpc.client import transfer
    from cpc.core.resources import show_size

    files = transfer.matching(client, id, patterns, attempt)

    def people() -> str:
        rows = [(_kind(file), show_size(file.size) if file.kind == "file" else "", file.path) for file in files]
        return table(("", "size", "path"), rows, empty="it left no files")

    context.out.data("files", files, people, lambda: [file.path for file in files])


def _kind(file: FileView) -> str:
    return {"dir": "directory", "link": f"link to {file.target}"}.get(file.kind, "")


def fetch_ended(
    context: Context, id: str, target: Path, patterns: Iterable[str] = (), *,
    attempt: int | None = None, force: bool = False,
) -> list[Path]:  # fmt: skip
    """The outputs of a job, or of all jobs of an array that have ended; what was written."""
    from cpc.client import transfer
    from cpc.core.views import ArrayView

    client = context.client()
    found = client.job(id)
    written: list[Path] = []
    with Bar("fetching", shown=not context.out.quiet) as bar:
        if not isinstance(found, ArrayView):
            progress = _progress(bar, "")
            written = transfer.fetch(
                client, id, target, patterns, attempt=attempt, force=force, progress=progress
            )  # fmt: skip
        else:
            wanted = tuple(patterns)
            ended = client.jobs(found.project, states=OVER, array=found.id, limit=1 << 30)
            if not ended:
                raise NotFound(f"no job of {id} has ended yet", f"wait for it: cpcc wait {id}")
            for place, job in enumerate(sorted(ended, key=lambda one: _index(one.id))):
                progress = _progress(bar, f"{place + 1}/{len(ended)} {job.id}")
                below = target / str(_index(job.id))
                written += transfer.fetch(
                    client, job.id, below, wanted, attempt=attempt, force=force, progress=progress, lenient=True
                )
            if len(ended) < found.size:
                left = plural(found.size - len(ended), "job")
                context.out.note(f"{left} of {id} not ended yet: fetch again later")
    return written


def made_files(client: Client, job: str) -> bool:
    """Whether a job that has ended left files besides its standard output and error."""
    return any(file.kind != "dir" and file.path not in ("stdout", "stderr") for file in client.outputs(job))


def fetched(target: Path, written: list[Path]) -> str:
    """What was done, for people."""
    return harmless(f"Fetched {plural(len(written), 'file')} into {target}") if written else "There are no such files."


def _index(job: str) -> int:
    return int(job.rstrip("]").rpartition("[")[2])


def _progress(bar: Bar, text: str) -> Callable[[int, int], None]:
    from cpc.core.resources import show_size

    def progress(done: int, whole: int) -> None:
        bar.update(done, whole, f"{show_size(done)} of {show_size(whole)}  {text}")

    return progress


@click.command("upload-file")
@click.argument("file")
@pass_context
def upload_file(context: Context, file: str) -> None:
    """Send a file to the project, and print its address for `Input`s of the SDK."""
    from cpc.client import transfer

    client = context.client()
    client.require_project()
    with Bar("sending", shown=not context.out.quiet) as bar:
        content = transfer.upload(client, file, progress=_progress(bar, harmless(file)))
    digest = content.digest.hex()
    data = {"digest": digest, "size": content.size, "chunks": [chunk.hex() for chunk in content.chunks]}
    context.out.data("file", data, lambda: digest, lambda: [digest])
