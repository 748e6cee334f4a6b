"""The table of roles: complete, printed as it is enforced, and closed wherever it does not say yes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpc.core.errors import CopernicusError, Denied, NotFound, NotLoggedIn
from cpc.server.principal import NOBODY, SERVER, Principal
from cpc.server.roles import RULES, Act, Role, Who, allowed, in_project, markdown

PAGE = Path(__file__).parents[2] / "docs/reference/roles.md"
PROJECT = 77

principals = st.builds(
    Principal,
    user=st.integers(1, 9),
    name=st.just("ann"),
    super_user=st.booleans(),
    token=st.just(5),
    scope=st.sampled_from(["all", "read", f"project:{PROJECT}", "project:78"]),
)
roles = st.one_of(st.none(), st.sampled_from(Role))
acts = st.sampled_from(Act)


def may(act: Act, who: Principal, role: Role | None = None) -> bool:
    try:
        allowed(act, who, role, PROJECT if in_project(act) else 0)
    except CopernicusError:
        return False
    return True


def test_every_act_has_a_rule() -> None:
    assert set(RULES) == set(Act)


def test_the_printed_table_is_current() -> None:
    assert PAGE.read_text() == markdown(), "run: python -m cpc.server.roles > docs/reference/roles.md"


@given(acts, principals, roles)
def test_a_higher_role_may_all_that_a_lower_one_may(act: Act, who: Principal, role: Role | None) -> None:
    ladder = [None, Role.VIEWER, Role.MEMBER, Role.OWNER]
    if may(act, who, role):
        assert all(may(act, who, higher) for higher in ladder[ladder.index(role) :])


@given(acts, principals, roles)
def test_a_narrow_token_may_nothing_that_the_user_may_not(act: Act, who: Principal, role: Role | None) -> None:
    whole = Principal(who.user, who.name, who.super_user, who.token)
    if may(act, who, role):
        assert may(act, whole, role)


@given(acts, principals, roles)
def test_a_reading_token_changes_nothing(act: Act, who: Principal, role: Role | None) -> None:
    if who.scope == "read" and RULES[act].changes:
        assert not may(act, who, role)


@given(acts, principals, roles)
def test_a_token_for_one_project_is_blind_to_others(act: Act, who: Principal, role: Role | None) -> None:
    if who.project not in (0, PROJECT) and in_project(act):
        with pytest.raises(NotFound):
            allowed(act, who, role, PROJECT)


@given(acts, principals)
def test_only_super_users_rule_the_server(act: Act, who: Principal) -> None:
    if RULES[act].who is Who.SUPER and not who.super_user:
        with pytest.raises(Denied):
            allowed(act, who)


@given(acts, principals)
def test_a_project_without_a_role_does_not_exist(act: Act, who: Principal) -> None:
    if in_project(act) and not who.super_user:
        with pytest.raises(NotFound, match="there is no job 57"):
            allowed(act, who, None, PROJECT, "job 57")


@given(acts, roles)
def test_without_a_login_nothing_but_the_open_acts(act: Act, role: Role | None) -> None:
    if RULES[act].who is Who.ANYONE:
        allowed(act, NOBODY, role)
    else:
        with pytest.raises(NotLoggedIn):
            allowed(act, NOBODY, role, PROJECT)


@given(acts)
def test_the_server_itself_may_everything(act: Act) -> None:
    allowed(act, SERVER, None, PROJECT)


def test_being_super_user_is_reported_when_it_was_needed() -> None:
    root = Principal(1, "root", True)
    assert allowed(Act.JOB_CANCEL, root, None, PROJECT)
    assert allowed(Act.JOB_CANCEL, root, Role.VIEWER, PROJECT)
    assert not allowed(Act.JOB_CANCEL, root, Role.MEMBER, PROJECT)


def test_a_refusal_names_the_role_that_is_needed() -> None:
    with pytest.raises(Denied, match="viewer of this project; to cancel jobs one must be its member"):
        allowed(Act.JOB_CANCEL, Principal(1, "ann", False), Role.VIEWER, PROJECT)
