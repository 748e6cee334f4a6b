"""Projects as one file: saved from a server, loaded into the same or another one."""

from __future__ import annotations

from pathlib import Path

import click

from cpc.client.commands import changing
from cpc.client.context import Context, pass_context
from cpc.client.output import harmless
from cpc.core.errors import CopernicusError


@click.command("save")
@click.argument("project")
@click.argument("file", required=False)
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
@pass_context
def save(context: Context, project: str, file: str | None, force: bool) -> None:
    """Save a project to FILE, by default PROJECT.tar.gz: its network as it is now, values, files and record. It goes on."""
    from cpc.core.resources import show_size

    target = Path(file or f"{project}.tar.gz")
    size = context.client().network(project).save(target, force=force)
    data = {"project": project, "file": str(target), "size": size}
    text = f"Saved {project} to {target} ({show_size(size)})"
    context.out.data("saved", data, lambda: harmless(text), lambda: [str(target)])


@click.command("load")
@click.argument("file")
@click.argument("project")
@pass_context
def load(context: Context, file: str, project: str) -> None:
    """Make PROJECT from a FILE that was saved, on this server or another, and make it the current one."""
    from cpc.client import archive

    archive.check(Path(file))
    client = context.client()
    made = client.create_project(project)
    try:
        changed = client.network(made.name).load(file)
    except BaseException:
        _take_back(context, made.name)
        raise
    context.set_project(made.name)
    changing.tell(context, changed, f"Project loaded: {harmless(made.name)}")


def _take_back(context: Context, project: str) -> None:
    """The project was made for what could not be loaded: it goes again, unless the server has gone too."""
    try:
        context.client().delete_project(project)
    except CopernicusError as error:
        context.out.note(f"cpcc: the empty project {project} is left; remove it with `cpcc rm {project}`: {error}")
