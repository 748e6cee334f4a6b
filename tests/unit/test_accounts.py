"""Users, logins and tokens: who gets in, for how long, and that one super user always remains."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cpc.core.chance import SeededChance
from cpc.core.errors import BadInput, Conflict, CopernicusError, Denied, NotFound, NotLoggedIn, RateLimited
from cpc.server.logins import Tries, TryLimits
from cpc.server.passwords import Passwords
from cpc.server.principal import SERVER, Principal
from cpc.store import schema, users
from cpc.store.statement import Statement
from tests.helpers.people import PASSWORD, People, people
from tests.helpers.stores import ManualClock, sqlite_url

_HASHES = Statement(sa.select(schema.tokens.c.hash))


@pytest.fixture
def world(database_url: str) -> Iterator[People]:
    yield from people(database_url)


# --- logging in ---


def test_a_login_gives_a_token_that_is_recognised(world: People) -> None:
    ann = world.user("ann")
    view = world.do(world.accounts.whoami(ann))
    assert (view.name, view.super_user, view.disabled) == ("ann", False, False)


@pytest.mark.parametrize(("name", "password"), [("ann", "wrong password"), ("nobody", PASSWORD), ("\0", "x"), ("", "")])
def test_a_failed_login_does_not_say_what_was_wrong(world: People, name: str, password: str) -> None:
    world.user("ann")
    with pytest.raises(NotLoggedIn, match="wrong user name or password"):
        world.do(world.accounts.login(name, password, "192.0.2.1"))


def test_a_disabled_user_cannot_log_in_and_may_again_when_enabled(world: People) -> None:
    world.user("ann")
    world.do(world.accounts.change_user(world.call(SERVER), "ann", disabled=True))
    with pytest.raises(NotLoggedIn):
        world.login("ann")
    world.do(world.accounts.change_user(world.call(SERVER), "ann", disabled=False))
    world.login("ann")


def test_a_name_may_be_written_with_either_dash(world: People) -> None:
    world.user("ann-marie")
    assert world.login("ann_marie").name == "ann-marie"
    with pytest.raises(Conflict, match="already"):
        world.user("ann_marie")


def test_a_decomposed_name_is_the_same_name(world: People) -> None:
    world.user("Zo\u00eb")
    assert world.login("Zoe\u0308").name == "Zo\u00eb"


def test_a_failed_login_is_recorded_without_what_was_typed(world: People) -> None:
    root = world.user("root", True)
    for name in ("root", "my secret password"):
        with pytest.raises(NotLoggedIn):
            world.do(world.accounts.login(name, "wrong one", "192.0.2.9"))
    failed = [
        one for one in world.do(world.events.audit(root, limit=1000)).items if one.kind == "user.login-failed"
    ]  # fmt: skip
    assert [(one.actor, one.subject, one.details["address"]) for one in failed] == [
        ("user:root", "root", "192.0.2.9"),
        ("nobody", "", "192.0.2.9"),
    ]


def test_tries_are_limited_and_the_limit_ends(world: People) -> None:
    world.user("ann")
    for _ in range(world.accounts.rules.tries.tries):
        with pytest.raises(NotLoggedIn):
            world.login("ann", "wrong password")
    with pytest.raises(RateLimited, match="try again in"):
        world.login("ann")
    world.clock.seconds += world.accounts.rules.tries.window + 1
    world.login("ann")


def test_right_logins_never_use_up_the_tries(world: People) -> None:
    world.user("ann")
    for _ in range(3 * world.accounts.rules.tries.tries):
        world.login("ann")


def test_a_limit_that_is_reached_costs_no_hash(world: People) -> None:
    world.user("ann")
    for _ in range(world.accounts.rules.tries.tries):
        with pytest.raises(NotLoggedIn):
            world.login("ann", "wrong password")
    world.hashes.verify = None  # type: ignore[method-assign, assignment]
    with pytest.raises(RateLimited):
        world.login("ann")


def test_one_address_cannot_try_many_users() -> None:
    clock = ManualClock()
    tries = Tries(clock, lambda: TryLimits(tries=3, address=5, user=100))
    for number in range(5):
        tries.begin(f"user{number}", "2001:db8::1")
    with pytest.raises(RateLimited):
        tries.begin("another", "2001:db8::2")
    tries.begin("another", "2001:db8:0:1::1")


def test_one_user_cannot_be_tried_from_many_addresses() -> None:
    tries = Tries(ManualClock(), lambda: TryLimits(tries=3, address=5, user=7))
    for number in range(7):
        tries.begin("ann", f"192.0.2.{number}")
    with pytest.raises(RateLimited):
        tries.begin("ann", "198.51.100.1")
    tries.begin("bob", "198.51.100.1")


# --- sessions ---


def test_a_session_expires(world: People) -> None:
    world.user("ann")
    token = world.token("ann")
    world.do(world.accounts.authenticate(token))
    world.clock.seconds += world.accounts.rules.session_time + 1
    with pytest.raises(NotLoggedIn, match="expired"):
        world.do(world.accounts.authenticate(token))
    assert world.do(world.tokens.drop_expired()) == 2


def test_logout_ends_this_session_only(world: People) -> None:
    world.user("ann")
    one, two = world.token("ann"), world.token("ann")
    world.do(world.accounts.logout(world.do(world.accounts.authenticate(one))))
    with pytest.raises(NotLoggedIn):
        world.do(world.accounts.authenticate(one))
    world.do(world.accounts.authenticate(two))


def test_only_hashes_of_tokens_are_stored(world: People) -> None:
    world.user("ann")
    token = world.token("ann")
    stored = world.do(world.store.read(lambda tx: tx.rows(_HASHES)))
    assert all(token.encode() not in bytes(row[0]) and len(row[0]) == 32 for row in stored)


@pytest.mark.parametrize("token", ["", "x", "cpc_", "\ud800", "\0"])
def test_an_invented_token_is_refused(world: People, token: str) -> None:
    with pytest.raises(NotLoggedIn):
        world.do(world.accounts.authenticate(token))


def test_a_recognised_token_is_not_looked_up_again_until_something_changes(world: People) -> None:
    world.user("root", True)
    ann = world.user("ann")
    token = world.token("ann")
    world.do(world.accounts.authenticate(token))
    reads = []
    read = world.store.read
    world.store.read = lambda unit: reads.append(unit) or read(unit)  # type: ignore[method-assign, func-returns-value]
    world.do(world.accounts.authenticate(token))
    assert not reads
    world.do(world.accounts.change_user(world.call(SERVER), "ann", super_user=True))
    assert world.do(world.accounts.authenticate(token)).super_user
    assert reads
    assert not ann.super_user


# --- passwords ---


def test_changing_ones_password_needs_the_old_one_and_ends_other_sessions(world: People) -> None:
    ann = world.user("ann")
    other = world.token("ann")
    with pytest.raises(BadInput, match="old one"):
        world.do(world.accounts.change_user(world.call(ann), "ann", password="another horse"))
    with pytest.raises(Denied, match="old password is wrong"):
        world.do(world.accounts.change_user(world.call(ann), "ann", password="another horse", old_password="nonsense"))
    call = world.call(ann, "k1")
    for _ in range(2):
        world.do(world.accounts.change_user(call, "ann", password="another horse", old_password=PASSWORD))
    world.do(world.accounts.whoami(ann))
    with pytest.raises(NotLoggedIn):
        world.do(world.accounts.authenticate(other))
    with pytest.raises(NotLoggedIn):
        world.login("ann")
    world.login("ann", "another horse")


def test_a_super_user_too_needs_the_own_old_password(world: People) -> None:
    root = world.user("root", True)
    with pytest.raises(BadInput, match="old one"):
        world.do(world.accounts.change_user(world.call(root), "root", password="another horse"))


def test_a_super_user_resets_a_password_and_all_sessions_end(world: People) -> None:
    root, ann = world.user("root", True), world.user("ann")
    world.do(world.accounts.change_user(world.call(root), "ann", password="another horse"))
    with pytest.raises(NotLoggedIn):
        world.do(world.accounts.whoami(ann))
    world.login("ann", "another horse")


def test_a_user_cannot_reset_anothers_password(world: People) -> None:
    world.user("root", True)
    ann = world.user("ann")
    with pytest.raises(Denied):
        world.do(world.accounts.change_user(world.call(ann), "root", password="another horse", old_password=PASSWORD))
    world.login("root")


@pytest.mark.parametrize("password", ["", "short", "x" * 1025, "annabelle", "ANNABELLE"])
def test_a_poor_password_is_refused(world: People, password: str) -> None:
    with pytest.raises(BadInput, match="password"):
        world.do(world.accounts.add_user(world.call(SERVER), "annabelle", password))
    assert world.do(world.accounts.users(SERVER)).items == ()


@settings(max_examples=30)
@given(st.text(st.characters(exclude_characters="\0"), max_size=40), st.text(max_size=40))
@example("", "\0")
@example("x", "x\0")
def test_a_hash_is_good_for_its_password_only(one: str, other: str) -> None:
    hashes = Passwords(SeededChance(1), cost=2)
    stored = hashes.hash(one)
    assert hashes.verify(one, stored)
    if unicodedata.normalize("NFC", one) != unicodedata.normalize("NFC", other):
        assert not hashes.verify(other, stored)
    assert hashes.hash(one) != stored


@pytest.mark.parametrize("stored", ["", "x", "scrypt$4$!$!", "scrypt$x$AA==$AA==", "md5$4$AA==$AA=="])
def test_a_damaged_hash_lets_nobody_in(stored: str) -> None:
    assert not Passwords(SeededChance(1), cost=4).verify("", stored)


def test_a_hash_with_old_parameters_is_made_anew_at_login(world: People) -> None:
    world.user("ann")
    world.accounts._hashes = Passwords(SeededChance(3), cost=5)
    world.login("ann")
    row = world.do(world.store.read(lambda tx: users.by_name(tx, "ann")))
    assert row is not None
    assert row.password.startswith("scrypt$5$")
    world.login("ann")


# --- the last super user ---


def test_the_last_super_user_cannot_be_deleted_demoted_or_disabled(world: People) -> None:
    root = world.user("root", True)
    changes = (
        lambda: world.accounts.delete_user(world.call(root), "root"),
        lambda: world.accounts.change_user(world.call(root), "root", super_user=False),
        lambda: world.accounts.change_user(world.call(root), "root", disabled=True),
    )
    for change in changes:
        with pytest.raises(Conflict, match="last super user"):
            world.do(change())
    world.user("two", True)
    world.do(world.accounts.change_user(world.call(root), "two", disabled=True))
    for change in changes:
        with pytest.raises(Conflict, match="last super user"):
            world.do(change())


_STEPS = st.lists(
    st.tuples(st.sampled_from(["delete", "demote", "promote", "disable", "enable", "add"]), st.integers(0, 2)),
    max_size=25,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=_STEPS)
def test_whatever_is_done_one_super_user_can_log_in(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = people(sqlite_url(tmp_path_factory.mktemp("people")))
    world = next(made)
    world.user("user0", True)
    for step, number in steps:
        name = f"user{number}"
        try:
            if step == "delete":
                world.do(world.accounts.delete_user(world.call(SERVER), name))
            elif step == "add":
                world.user(name, number == 1)
            else:
                change = {
                    "demote": {"super_user": False}, "promote": {"super_user": True},
                    "disable": {"disabled": True}, "enable": {"disabled": False},
                }[step]  # fmt: skip
                world.do(world.accounts.change_user(world.call(SERVER), name, **change))  # type: ignore[arg-type]
        except CopernicusError:
            pass
        shown = world.do(world.accounts.users(SERVER)).items
        powerful = [one.name for one in shown if one.super_user and not one.disabled]
        assert powerful
        assert world.login(powerful[0]).super_user
    next(made, None)


# --- deleting ---


def test_deleting_a_user_ends_sessions_tokens_and_bundles(world: People) -> None:
    root, ann = world.user("root", True), world.user("ann")
    token, _ = world.do(world.accounts.make_token(world.call(ann), "script", "all", 3600.0))
    world.do(world.bundles.make(world.call(ann), "laptop", "client"))
    world.do(world.accounts.delete_user(world.call(root), "ann"))
    with pytest.raises(NotLoggedIn):
        world.do(world.accounts.authenticate(token))
    with pytest.raises(NotLoggedIn):
        world.do(world.accounts.whoami(ann))
    assert [one.revoked for one in world.do(world.bundles.page(root)).items] == [True]
    with pytest.raises(NotFound):
        world.do(world.accounts.delete_user(world.call(root), "ann"))


def test_a_name_that_is_used_again_inherits_nothing(world: People) -> None:
    root, ann, bob = world.user("root", True), world.user("ann"), world.user("bob")
    world.project(bob, "alpha")
    world.project(ann, "own")
    world.do(world.projects.grant(world.call(bob), "alpha", "ann", "owner"))
    world.do(world.accounts.make_token(world.call(ann, "k1"), "script", "all", 3600.0))
    world.do(world.accounts.delete_user(world.call(root), "ann"))
    again = world.user("ann")
    assert again.user != ann.user
    assert world.do(world.projects.page(again)).items == ()
    assert world.do(world.accounts.tokens(again)).items == ()
    shown = {one.name: (one.owner, one.members) for one in world.do(world.projects.page(root)).items}
    assert shown["own"] == ("ann (deleted)", ())
    # The key that the other ann has used is free too.
    world.do(world.accounts.make_token(world.call(again, "k1", "other"), "script", "all", 3600.0))


def test_a_deleted_owners_project_goes_to_another_owner(world: People) -> None:
    root, ann = world.user("root", True), world.user("ann")
    world.user("bob")
    world.project(ann, "alpha")
    world.do(world.projects.grant(world.call(ann), "alpha", "bob", "owner"))
    world.do(world.accounts.delete_user(world.call(root), "ann"))
    assert world.do(world.projects.get(root, "alpha")).owner == "bob"


# --- lists ---


def test_users_come_in_pages_each_once(world: People) -> None:
    for number in range(7):
        world.user(f"user{number}")
    found, after = [], ""
    while True:
        page = world.do(world.accounts.users(SERVER, after, 3))
        found += [one.name for one in page.items]
        after = page.next
        if not after:
            break
    assert found == [f"user{number}" for number in range(7)]


def test_users_are_added_by_super_users_only(world: People) -> None:
    ann = world.user("ann")
    with pytest.raises(Denied):
        world.do(world.accounts.add_user(world.call(ann), "eve", PASSWORD, True))


# --- API tokens ---


def test_a_token_is_shown_once_listed_and_deleted(world: People) -> None:
    ann = world.user("ann")
    token, view = world.do(world.accounts.make_token(world.call(ann), "script", "read", 3600.0))
    assert world.do(world.accounts.tokens(ann)).items == (view,)
    who = world.do(world.accounts.authenticate(token))
    with pytest.raises(Denied, match="only read"):
        world.project(who, "alpha")
    with pytest.raises(Conflict, match="already"):
        world.do(world.accounts.make_token(world.call(ann), "script", "all", 3600.0))
    world.do(world.accounts.delete_token(world.call(ann), "script"))
    with pytest.raises(NotLoggedIn):
        world.do(world.accounts.authenticate(token))
    with pytest.raises(NotFound):
        world.do(world.accounts.delete_token(world.call(ann), "script"))


def test_a_token_for_one_project_sees_no_other_and_makes_no_tokens(world: People) -> None:
    ann = world.user("ann")
    world.project(ann, "alpha")
    world.project(ann, "beta")
    token, view = world.do(world.accounts.make_token(world.call(ann), "t", "project:alpha", 3600.0))
    assert view.scope == "project:alpha"
    who: Principal = world.do(world.accounts.authenticate(token))
    assert [one.name for one in world.do(world.projects.page(who)).items] == ["alpha"]
    with pytest.raises(NotFound):
        world.do(world.projects.get(who, "beta"))
    with pytest.raises(Denied, match="one project"):
        world.do(world.accounts.make_token(world.call(who), "more", "all", 3600.0))
    world.do(world.projects.delete(world.call(ann), "alpha"))
    with pytest.raises(NotLoggedIn):
        world.do(world.projects.page(who))


@pytest.mark.parametrize("scope", ["", "write", "project:", "project:omega", "project:\0"])
def test_a_scope_that_is_none_is_refused(world: People, scope: str) -> None:
    ann = world.user("ann")
    with pytest.raises((BadInput, NotFound)):
        world.do(world.accounts.make_token(world.call(ann), "t", scope, 3600.0))


def test_a_repeated_call_gets_the_same_token_also_after_a_restart(world: People) -> None:
    ann = world.user("ann")
    call = world.call(ann, "k1")
    first = world.do(world.accounts.make_token(call, "t", "all", 3600.0))
    world.do(world.store.close())
    later = People(world.url)
    assert later.do(later.accounts.make_token(call, "t", "all", 3600.0)) == first
    later.close()
