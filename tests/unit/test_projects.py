"""Projects: names, roles, owners, and what is left when one is deleted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cpc.core.errors import BadInput, Conflict, Denied, NotFound
from cpc.server.principal import SERVER
from cpc.store import projects
from tests.helpers.people import People, people


@pytest.fixture
def world(database_url: str) -> Iterator[People]:
    yield from people(database_url)


def test_whoever_makes_a_project_owns_it(world: People) -> None:
    ann = world.user("ann")
    made = world.do(world.projects.create(world.call(ann), "alpha"))
    assert (made.owner, [(one.user, one.role) for one in made.members]) == ("ann", [("ann", "owner")])
    assert world.do(world.projects.get(ann, "alpha")) == made


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "a/b", "x" * 65, "\0", "\ud800"])
def test_a_bad_name_makes_no_project(world: People, name: str) -> None:
    ann = world.user("ann")
    with pytest.raises(BadInput, match="project name"):
        world.do(world.projects.create(world.call(ann), name))


def test_names_that_differ_in_dashes_are_the_same(world: People) -> None:
    ann = world.user("ann")
    world.project(ann, "my-project")
    with pytest.raises(Conflict):
        world.project(ann, "my_project")
    assert world.do(world.projects.get(ann, "my_project")).name == "my-project"


def test_a_repeated_creation_is_not_a_conflict(world: People) -> None:
    ann = world.user("ann")
    call = world.call(ann, "k1")
    assert world.do(world.projects.create(call, "alpha")) == world.do(world.projects.create(call, "alpha"))


def test_only_super_users_set_quota_and_weight(world: People) -> None:
    root, ann = world.user("root", True), world.user("ann")
    with pytest.raises(Denied):
        world.do(world.projects.create(world.call(ann), "alpha", quota=5))
    world.project(ann, "alpha")
    with pytest.raises(Denied):
        world.do(world.projects.change(world.call(ann), "alpha", weight=9.0))
    told: list[float] = []
    world.projects.on_change.append(lambda tx, row: told.append(row.weight))
    changed = world.do(world.projects.change(world.call(root), "alpha", quota=1 << 40, weight=9.0))
    assert (changed.quota, changed.weight, told) == (1 << 40, 9.0, [9.0])
    assert world.do(world.projects.change(world.call(root), "alpha", weight=1.0)).quota == 1 << 40


@pytest.mark.parametrize(("quota", "weight"), [(-1, 1.0), (1 << 61, 1.0), (0, 0.0), (0, float("nan")), (0, 1e9)])
def test_an_impossible_quota_or_weight_is_refused(world: People, quota: int, weight: float) -> None:
    root = world.user("root", True)
    with pytest.raises(BadInput):
        world.do(world.projects.create(world.call(root), "alpha", quota, weight))


def test_one_sees_ones_own_projects_and_a_super_user_all(world: People) -> None:
    root, ann, bob = world.user("root", True), world.user("ann"), world.user("bob")
    world.project(ann, "alpha")
    world.project(bob, "beta")
    world.do(world.projects.grant(world.call(bob), "beta", "ann", "viewer"))

    def seen(who: object) -> list[str]:
        return [one.name for one in world.do(world.projects.page(who)).items]  # type: ignore[arg-type]

    assert (seen(ann), seen(bob), seen(root)) == (["alpha", "beta"], ["beta"], ["alpha", "beta"])


def test_projects_come_in_pages_each_once(world: People) -> None:
    ann = world.user("ann")
    for number in range(5):
        world.project(ann, f"p{number}")
    first = world.do(world.projects.page(ann, "", 3))
    second = world.do(world.projects.page(ann, first.next, 3))
    assert [one.name for one in first.items + second.items] == [f"p{number}" for number in range(5)]
    assert second.next == ""


def test_roles_are_given_changed_and_taken(world: People) -> None:
    ann, bob = world.user("ann"), world.user("bob")
    world.project(ann, "alpha")
    for role in ("viewer", "member", "owner", "viewer"):
        assert world.do(world.projects.grant(world.call(ann), "alpha", "bob", role)).role == role
    assert ("bob", "viewer") in [(one.user, one.role) for one in world.do(world.projects.get(bob, "alpha")).members]
    with pytest.raises(Denied):
        world.do(world.projects.grant(world.call(bob), "alpha", "bob", "owner"))
    world.do(world.projects.revoke(world.call(ann), "alpha", "bob"))
    with pytest.raises(NotFound):
        world.do(world.projects.get(bob, "alpha"))
    with pytest.raises(NotFound, match="has no role"):
        world.do(world.projects.revoke(world.call(ann), "alpha", "bob"))
    with pytest.raises(NotFound, match="no user"):
        world.do(world.projects.grant(world.call(ann), "alpha", "carol", "viewer"))
    with pytest.raises(BadInput, match="not a role"):
        world.do(world.projects.grant(world.call(ann), "alpha", "bob", "king"))


def test_a_project_keeps_an_owner(world: People) -> None:
    ann = world.user("ann")
    world.user("bob")
    world.project(ann, "alpha")
    with pytest.raises(Conflict, match="only owner"):
        world.do(world.projects.revoke(world.call(ann), "alpha", "ann"))
    with pytest.raises(Conflict, match="only owner"):
        world.do(world.projects.grant(world.call(ann), "alpha", "ann", "viewer"))
    world.do(world.projects.grant(world.call(ann), "alpha", "bob", "owner"))
    world.do(world.projects.revoke(world.call(ann), "alpha", "ann"))
    assert world.do(world.projects.get(world.login("bob"), "alpha")).owner == "bob"


def test_deleting_cancels_jobs_frees_disk_and_the_name(world: People) -> None:
    ann, bob = world.user("ann"), world.user("bob")
    world.project(ann, "alpha")
    world.do(world.projects.grant(world.call(ann), "alpha", "bob", "member"))
    with pytest.raises(Denied):
        world.do(world.projects.delete(world.call(bob), "alpha"))
    old = world.do(world.store.read(lambda tx: projects.by_name(tx, "alpha")))
    assert old is not None
    call = world.call(ann, "k1")
    for _ in range(2):
        world.do(world.projects.delete(call, "alpha"))
    assert (world.jobs.cancelled, world.files.released) == ([old.id], [old.id])
    with pytest.raises(NotFound):
        world.do(world.projects.get(ann, "alpha"))
    world.project(bob, "alpha")
    again = world.do(world.store.read(lambda tx: projects.by_name(tx, "alpha")))
    assert again is not None
    assert again.id != old.id
    with pytest.raises(NotFound):
        world.do(world.projects.get(ann, "alpha"))


def test_the_server_itself_owns_no_project(world: People) -> None:
    with pytest.raises(BadInput, match="owns no projects"):
        world.do(world.projects.create(world.call(SERVER), "alpha"))
