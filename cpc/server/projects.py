"""Projects: made, listed, shared, deleted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

from cpc.core import ids, names
from cpc.core.errors import BadInput, Conflict, NotFound
from cpc.core.views import MemberView, Page, ProjectView
from cpc.dataflow.instance import State
from cpc.server.gate import Gate
from cpc.server.principal import Call, Principal
from cpc.server.roles import Act, Role
from cpc.store import instances, members, projects, tokens, users
from cpc.store.projects import ProjectRow
from cpc.store.transaction import Tx

MAX_QUOTA = 1 << 60
MAX_WEIGHT = 1e6
SHOWN = 5  # instances in error, and with a warning


class Jobs(Protocol):
    """What a project's end needs of the jobs."""

    def cancel_all(self, tx: Tx, project: int, actor: str) -> None: ...


class Networks(Protocol):
    """What a project's end needs of the networks."""

    def release(self, tx: Tx, project: int) -> None: ...


class Files(Protocol):
    """What a project's end needs of the files."""

    def release(self, tx: Tx, project: int) -> None: ...


Counts = Callable[[Tx, Sequence[int]], dict[int, dict[str, int]]]


class Projects:
    """`counts` gives the jobs of projects by state; `on_change` is told, after the commit, of a new quota or weight.

    `jobs`, `networks` and `files` are set by whoever puts the server together.
    """

    def __init__(self, gate: Gate, counts: Counts = projects.counts) -> None:
        self._gate = gate
        self._counts = counts
        self.jobs: Jobs | None = None
        self.networks: Networks | None = None
        self.files: Files | None = None
        self.on_change: list[Callable[[Tx, ProjectRow], None]] = []

    async def create(self, call: Call, name: str, quota: int = 0, weight: float = 1.0) -> ProjectView:
        """A new project; whoever makes it owns it. A quota (bytes) or weight other than usual takes a super user."""
        name = names.clean(name, "project name")
        _check(quota, weight)

        def unit(tx: Tx) -> ProjectView:
            if not call.who.user:
                raise BadInput("the server itself owns no projects", "log in as the user who is to own it")
            if (quota, weight) != (0, 1.0):
                self._gate.check(tx, call.who, Act.PROJECT_CHANGE)
            if projects.by_name(tx, name) is not None:
                raise Conflict(f"there is a project {name!r} already", "`-` and `_` are the same in names")
            row = projects.add(tx, name, call.who.user, quota, weight)
            members.grant(tx, row.id, call.who.user, Role.OWNER)
            tx.event(call.who.actor, "project.created", project=row.id, subject=row.id, name=name)
            self._changed(tx, row)
            return self._views(tx, [row])[0]

        return await self._gate.write(call, Act.PROJECT_CREATE, unit, answer=ProjectView)

    async def page(self, who: Principal, after: str = "", limit: int = 100) -> Page:
        """Projects in the order of their names: those one has a role in; a super user sees all."""
        after = names.clean(after, "cursor") if after else ""

        def unit(tx: Tx) -> Page:
            mine = None if who.super_user else who.user
            rows = projects.page(tx, after, limit + 1, mine)
            last = rows[limit - 1].name if len(rows) > limit else ""
            shown = [row for row in rows[:limit] if who.project in (0, row.id)]
            return Page(items=tuple(self._views(tx, shown)), next=last)

        return await self._gate.read(who, Act.PROJECT_LIST, unit)

    async def get(self, who: Principal, project: str) -> ProjectView:
        """One project."""

        def unit(tx: Tx) -> ProjectView:
            return self._views(tx, [self._gate.project(tx, project, who)])[0]

        return await self._gate.read(who, Act.PROJECT_SHOW, unit, project=project)

    async def change(
        self, call: Call, project: str, quota: int | None = None, weight: float | None = None
    ) -> ProjectView:
        """Another quota (bytes, 0: none) or share of the workers."""
        if quota is None and weight is None:
            raise BadInput("there is nothing to change", "give quota or weight")
        _check(quota or 0, 1.0 if weight is None else weight)

        def unit(tx: Tx) -> ProjectView:
            old = self._gate.project(tx, project, call.who)
            row = dataclasses.replace(
                old, quota=old.quota if quota is None else quota, weight=old.weight if weight is None else weight
            )
            projects.change(tx, row)
            tx.event(
                call.who.actor, "project.changed", project=row.id, subject=row.id,
                name=row.name, quota=row.quota, weight=row.weight,
            )  # fmt: skip
            self._changed(tx, row)
            return self._views(tx, [row])[0]

        return await self._gate.write(call, Act.PROJECT_CHANGE, unit, answer=ProjectView)

    async def delete(self, call: Call, project: str) -> None:
        """The project is gone at once, its live jobs are cancelled, its disk is freed in the next minutes."""

        def unit(tx: Tx) -> None:
            row = self._gate.project(tx, project, call.who)
            if self.networks is not None:
                self.networks.release(tx, row.id)
            if self.jobs is not None:
                self.jobs.cancel_all(tx, row.id, call.who.actor)
            if self.files is not None:
                self.files.release(tx, row.id)
            members.delete_project(tx, row.id)
            tokens.delete_scope(tx, f"project:{row.id}")
            projects.delete(tx, row.id)
            tx.event(call.who.actor, "project.deleted", project=row.id, subject=row.id, name=row.name)
            self._changed(tx, dataclasses.replace(row, deleted=tx.now))

        await self._gate.write(call, Act.PROJECT_DELETE, unit, project=project, answer=None)

    async def grant(self, call: Call, project: str, user: str, role: str) -> MemberView:
        """Give somebody a role; another one is replaced. A project always keeps an owner."""
        wanted = Role.read(role)

        def unit(tx: Tx) -> MemberView:
            row = self._gate.project(tx, project, call.who)
            found = users.by_name(tx, user)
            if found is None:
                raise NotFound(f"there is no user {user[:80]!r}", "`cpcc users` lists them")
            if wanted is not Role.OWNER:
                self._keep_an_owner(tx, row, found.id, found.name)
            members.grant(tx, row.id, found.id, wanted)
            tx.event(
                call.who.actor, "member.granted", project=row.id, subject=found.id, name=found.name, role=str(wanted)
            )
            return MemberView(user=found.name, role=wanted)

        return await self._gate.write(call, Act.MEMBER_GRANT, unit, project=project, answer=MemberView)

    async def revoke(self, call: Call, project: str, user: str) -> None:
        """Take somebody's role away."""

        def unit(tx: Tx) -> None:
            row = self._gate.project(tx, project, call.who)
            found = users.by_name(tx, user)
            if found is None or members.role(tx, row.id, found.id) is None:
                raise NotFound(f"{user[:80]!r} has no role in project {row.name}", "see `cpcc projects`")
            self._keep_an_owner(tx, row, found.id, found.name)
            members.revoke(tx, row.id, found.id)
            tx.event(call.who.actor, "member.revoked", project=row.id, subject=found.id, name=found.name)

        await self._gate.write(call, Act.MEMBER_REVOKE, unit, project=project, answer=None)

    def _keep_an_owner(self, tx: Tx, row: ProjectRow, leaving: int, name: str) -> None:
        """`leaving` will not be an owner: somebody else must be; the owner of record follows."""
        if members.role(tx, row.id, leaving) != Role.OWNER:
            return
        heirs = [one for one in members.of_project(tx, row.id) if one.role == Role.OWNER and one.user != leaving]
        if not heirs:
            raise Conflict(f"{name} is the only owner of project {row.name}", "make somebody else an owner first")
        if row.owner == leaving:
            projects.change(tx, dataclasses.replace(row, owner=heirs[0].user))

    def _changed(self, tx: Tx, row: ProjectRow) -> None:
        for told in self.on_change:
            told(tx, row)

    def _views(self, tx: Tx, rows: Sequence[ProjectRow]) -> list[ProjectView]:
        counts = self._counts(tx, [row.id for row in rows])
        return [_view(tx, row, counts.get(row.id, {})) for row in rows]


def _view(tx: Tx, row: ProjectRow, jobs: dict[str, int]) -> ProjectView:
    owner = users.by_id(tx, row.owner)
    states = instances.counts(tx, row.id)
    shown = "" if owner is None else owner.name if owner.deleted is None else f"{owner.name} (deleted)"
    return ProjectView(
        name=row.name,
        id=ids.show(row.id),
        owner=shown,
        created=row.created,
        members=tuple(MemberView(user=one.name, role=one.role) for one in members.of_project(tx, row.id)),
        jobs=jobs,
        storage_used=row.storage,
        quota=row.quota,
        weight=row.weight,
        instances={State(state).label: count for state, count in sorted(states.items())},
        errors=_in_state(tx, row.id, states, State.ERROR),
        warnings=_in_state(tx, row.id, states, State.WARNING),
    )


def _in_state(tx: Tx, project: int, states: dict[int, int], state: State) -> tuple[str, ...]:
    return tuple(instances.in_state(tx, project, int(state), SHOWN)) if states.get(state) else ()


def _check(quota: int, weight: float) -> None:
    if not 0 <= quota <= MAX_QUOTA:
        raise BadInput(f"quota = {quota} is not between 0 and {MAX_QUOTA} bytes")
    if not 0 < weight <= MAX_WEIGHT:
        raise BadInput(f"weight = {weight} is not above 0 and up to {MAX_WEIGHT:g}")
