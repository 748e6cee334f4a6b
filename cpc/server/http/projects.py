"""Projects and their members."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from cpc.core.views import MemberView, Page, ProjectView
from cpc.server.http.ask import Ask
from cpc.server.http.paging import Count, Paging
from cpc.server.http.route import Nothing, Question, route
from cpc.server.roles import Act

Weight = Annotated[float, Meta(gt=0, le=1e6)]


class NewProject(Question, frozen=True):
    """`quota` in bytes, 0 for none; `weight` is the fair share among projects."""

    name: str
    quota: Count = 0
    weight: Weight = 1.0


class ProjectChange(Question, frozen=True):
    """What is left out stays as it is."""

    quota: Count | None = None
    weight: Weight | None = None


class Grant(Question, frozen=True):
    role: Literal["owner", "member", "viewer"]


@route("GET", "/projects", act=Act.PROJECT_LIST)
async def page(ask: Ask, query: Paging) -> Annotated[Page, ProjectView]:
    """The projects that one may see."""
    return await ask.services.projects.page(ask.who, query.after, query.limit)


@route("POST", "/projects", act=Act.PROJECT_CREATE)
async def create(ask: Ask, body: NewProject) -> ProjectView:
    """Make a project; its maker is its owner."""
    return await ask.services.projects.create(ask.call, body.name, body.quota, body.weight)


@route("GET", "/projects/{project}", act=Act.PROJECT_SHOW)
async def get(ask: Ask, project: str) -> ProjectView:
    """One project."""
    return await ask.services.projects.get(ask.who, project)


@route("PATCH", "/projects/{project}", act=Act.PROJECT_CHANGE)
async def change(ask: Ask, project: str, body: ProjectChange) -> ProjectView:
    """Change a project's quota or fair share."""
    return await ask.services.projects.change(ask.call, project, body.quota, body.weight)


@route("DELETE", "/projects/{project}", act=Act.PROJECT_DELETE)
async def delete(ask: Ask, project: str) -> Nothing:
    """Delete a project: its live jobs are cancelled, its disk is freed."""
    await ask.services.projects.delete(ask.call, project)
    return Nothing()


@route("PUT", "/projects/{project}/members/{user}", act=Act.MEMBER_GRANT)
async def grant(ask: Ask, project: str, user: str, body: Grant) -> MemberView:
    """Give a user a role in a project."""
    return await ask.services.projects.grant(ask.call, project, user, body.role)


@route("DELETE", "/projects/{project}/members/{user}", act=Act.MEMBER_REVOKE)
async def revoke(ask: Ask, project: str, user: str) -> Nothing:
    """Take a user's role in a project away."""
    await ask.services.projects.revoke(ask.call, project, user)
    return Nothing()
