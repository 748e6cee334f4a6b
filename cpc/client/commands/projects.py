"""Projects: which there are, and which one is meant."""

from __future__ import annotations

import click

from cpc.client.commands import asking
from cpc.client.context import Context, pass_context
from cpc.client.output import counts, harmless, table
from cpc.core.errors import CopernicusError, NotFound
from cpc.core.numbers import Real


@click.command("start")
@click.argument("project")
@click.option("--quota", metavar="SIZE", help="The most that its files may take, for example 50G.")
@pass_context
def start(context: Context, project: str, quota: str | None) -> None:
    """Make a project, and make it the current one."""
    from cpc.core.resources import parse_size

    size = parse_size(quota) if quota else 0
    made = context.client().create_project(project, size)
    context.set_project(made.name)
    context.out.data("project", made, lambda: f"Project created: {harmless(made.name)}", lambda: [made.name])


@click.command("rm")
@click.argument("project")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_context
def remove(context: Context, project: str, yes: bool) -> None:
    """Delete a project: its jobs are cancelled, its files removed. Asks on a terminal."""
    client = context.client()
    view = client.get_project(project)
    what = f"Delete project {harmless(view.name)} ({counts(view.jobs)})?"
    if not yes and not asking.sure(what):
        raise CopernicusError("nothing was deleted")
    client.delete_project(view.name)
    if context.project == view.name:
        context.set_project("")
    context.out.say(f"Project deleted: {view.name} and its files.")


@click.command("projects")
@pass_context
def projects(context: Context) -> None:
    """List the projects that you may see."""
    found = context.client().projects()

    def people() -> str:
        from cpc.core.resources import show_size

        rows = [
            (one.name, one.owner, show_size(one.storage_used) + (f" of {show_size(one.quota)}" if one.quota else ""),
             counts(one.jobs))
            for one in found
        ]  # fmt: skip
        return "Projects:\n" + table(("name", "owner", "files", "jobs"), rows, margin=3)

    context.out.data("projects", found, people, lambda: [one.name for one in found])


@click.command("cd")
@click.argument("project")
@pass_context
def cd(context: Context, project: str) -> None:
    """Make a project the current one."""
    view = context.client().get_project(project)
    context.set_project(view.name)
    context.out.data("project", view, lambda: f"Changed to project: {harmless(view.name)}", lambda: [view.name])


@click.command("pwd")
@pass_context
def pwd(context: Context) -> None:
    """Which project is the current one."""
    name = context.project
    if not name:
        raise NotFound("No project selected", "choose one with `cpcc cd PROJECT`")
    context.out.data("current-project", {"project": name}, lambda: f"Working project: {harmless(name)}", lambda: [name])


@click.command("set-quota")
@click.argument("project")
@click.argument("size")
@click.option("--weight", type=Real(0, 1e6, above=True), help="Its share of the cores among projects.")
@pass_context
def set_quota(context: Context, project: str, size: str, weight: float | None) -> None:
    """Limit the disk space of a project: SIZE as in 50G; 0 or "none" for no limit."""
    from cpc.core.resources import parse_size, show_size

    changes: dict[str, object] = {"quota": 0 if size.lower() == "none" else parse_size(size)}
    if weight is not None:
        changes["weight"] = weight
    view = context.client().change_project(project, **changes)
    limit = show_size(view.quota) if view.quota else "no limit"
    text = f"Project {view.name}: {limit}, {show_size(view.storage_used)} used, weight {view.weight:g}"
    context.out.data("project", view, lambda: harmless(text), lambda: [view.name])
