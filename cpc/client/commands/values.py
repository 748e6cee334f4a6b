"""Values and files of a project's network: read, set, fetched."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from cpc.client import values
from cpc.client.commands import changing
from cpc.client.context import Context, pass_context
from cpc.client.output import Bar, harmless, harmless_lines, plural
from cpc.core import plain
from cpc.core.edits import SetLiteral, SetValue, Unset
from cpc.core.errors import BadInput, Conflict, NotFound
from cpc.core.plain import FileRef, Plain

if TYPE_CHECKING:
    from cpc.client.network import Network
    from cpc.core.network_views import ValueView


@click.command("get")
@click.argument("item")
@click.option("--wait", is_flag=True, help="Until it has a value, or its instance an error.")
@click.option("--timeout", metavar="TIME", help="Wait no longer than that, for example 10m; then the exit code is 1.")
@pass_context
def get(context: Context, item: str, wait: bool, timeout: str | None) -> None:
    """Show a value: an input, an output or a part of one, such as INSTANCE:out.NAME[0]."""
    from cpc.core.resources import parse_span

    if timeout and not wait:
        raise click.UsageError("--timeout goes with --wait")
    network = changing.network(context)
    found = network.wait_for(item, parse_span(timeout) if timeout else None) if wait else network.value(item)
    value = plain.read(found.value)
    context.out.data(
        "value", found, lambda: f"{harmless(item)}: {_text(value)}", lambda: _text(value).splitlines() if found.set else ()
    )  # fmt: skip


def _text(value: Plain) -> str:
    return harmless_lines(value) if isinstance(value, str) else values.show(value)


@click.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("item")
@click.argument("value")
@pass_context
def set_value(context: Context, item: str, value: str) -> None:
    """Give an input a VALUE. INSTANCE:in.NAME[+] appends to an array; whole arrays, dicts and records are JSON."""
    changing.edit(context, SetLiteral(item, value))


@click.command("unset")
@click.argument("item")
@pass_context
def unset(context: Context, item: str) -> None:
    """Take an input's value away. Elements without a value at the end of an array are cut off."""
    changing.edit(context, Unset(item))


@click.command("setf")
@click.argument("item")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@pass_context
def set_file(context: Context, item: str, files: tuple[str, ...]) -> None:
    """Upload a file and give it to an input. Several go to INSTANCE:in.NAME[+]: they are appended in this order."""
    if len(files) > 1 and not item.endswith("[+]"):
        raise BadInput(f"{item} takes one file, and {len(files)} are given", f"append them: '{item}[+]'")
    network = changing.network(context)
    with Bar("sending", shown=not context.out.quiet) as bar:
        edits = []
        for place, file in enumerate(files):
            bar.update(place, len(files), file)
            edits.append(SetValue(item, plain.wire(network.upload(file))))
    changing.edit(context, *edits)


@click.command("getf")
@click.argument("item")
@click.option("-f", "--file", metavar="FILE", help="Where to; standard output if left out.")
@click.option("-o", "directory", metavar="DIR", help="Into this directory: a file, or all files of an array or record.")
@click.option("--force", is_flag=True, help="Replace files that are there with other content.")
@pass_context
def get_file(context: Context, item: str, file: str | None, directory: str | None, force: bool) -> None:
    """Fetch a file, or with -o all files of an array, dict, record or of INSTANCE:out, under its members and indexes."""
    if file and directory:
        raise click.UsageError("-f names a file and -o a directory: give one of them")
    network = changing.network(context)
    found = network.value(item)
    if not found.set:
        raise NotFound(f"{item} is not set", "see `cpcc ls` for what it waits for")
    value = plain.read(found.value)
    if directory:
        _fetch(context, network, found, Path(directory), force)
    elif not isinstance(value, FileRef):
        whole = isinstance(value, list | dict)
        hint = "-o DIR fetches all files in it" if whole else "see it with `cpcc get`"
        raise BadInput(f"{item} is no file but of type {found.type}", hint)
    elif file:
        target = Path(file)
        with Bar("fetching", shown=not context.out.quiet) as bar:
            _download(network, item, value, target, force, bar)
        data = {"directory": str(target.parent), "paths": [file]}
        context.out.data("fetched", data, lambda: harmless(f"item {item} saved in {file}"), lambda: [file])
    else:
        _print(network, item, value)


def _print(network: Network, item: str, ref: FileRef) -> None:
    """To standard output, when all of it is here."""
    from cpc.client import transfer

    with tempfile.TemporaryFile() as whole:
        transfer.copy(network.client, network.file(item, ref), cast("BinaryIO", whole), lambda done: None)
        whole.seek(0)
        sys.stdout.flush()
        shutil.copyfileobj(whole, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _fetch(context: Context, network: Network, found: ValueView, root: Path, force: bool) -> None:
    wanted = list(values.files(found.path, plain.read(found.value)))
    if not wanted:
        raise BadInput(f"there is no file in {found.path}, which is of type {found.type}", "see it with `cpcc get`")
    written = [root / values.place(way, ref) for _, way, ref in wanted]
    if len(set(written)) < len(written):
        raise Conflict(f"two files of {found.path} would have the same name here", "fetch them one by one with -f")
    with Bar("fetching", shown=not context.out.quiet) as bar:
        for (path, _, ref), target in zip(wanted, written, strict=True):
            _download(network, path, ref, target, force, bar)
    data = {"directory": str(root), "paths": [str(path) for path in written]}
    text = f"Fetched {plural(len(written), 'file')} into {root}"
    context.out.data("fetched", data, lambda: harmless(text), lambda: [str(path) for path in written])


def _download(network: Network, path: str, ref: FileRef, target: Path, force: bool, bar: Bar) -> None:
    from cpc.client import transfer

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        transfer.download(
            network.client, network.file(path, ref), target, force,
            lambda done: bar.update(done, ref.content.size, ref.name),
        )  # fmt: skip
    except OSError as error:
        raise BadInput(f"cannot write {error.filename or target}: {error.strerror}") from error
