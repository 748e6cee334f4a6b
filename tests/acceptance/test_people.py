"""People and their rights, as they meet them in cpcc: each with a home of their own."""

from __future__ import annotations

import pytest

from tests.helpers.network_of_processes import PASSWORD, Network, Person


@pytest.fixture(scope="module")
def lab(network: Network) -> Network:
    """No worker is needed."""
    return network


def person(network: Network, name: str) -> Person:
    """A new user, logged in."""
    network.cpcc("add-user", "--stdin", name, stdin=PASSWORD).done()
    return Person(network, name, network.directory / f"home-{name}")


def test_owner_member_viewer_and_stranger_may_do_what_the_table_says(lab: Network) -> None:
    owner, member, viewer, stranger = (person(lab, name) for name in ("olga", "mia", "vera", "sam"))
    owner.run("start", "folding").done()
    owner.run("grant-access", "mia").done()
    owner.run("grant-access", "vera", "viewer").done()
    for one in (member, viewer):
        one.run("cd", "folding").done()
    job = member.run("submit", "--quiet", "--", "true").done().strip()

    for one in (owner, member, viewer):
        assert one.run("--json", "job", job).json
        assert "folding" in one.run("projects").done()
        one.run("why", job).done()
    act: tuple[str, ...]
    for act in ("submit", "--", "true"), ("cancel", job), ("priority", job, "3"):
        line = viewer.run(*act).refused()
        assert "you are a viewer" in line
        assert "cpcc grant-access vera member" in line
    assert "must be its owner" in member.run("grant-access", "sam").refused()
    assert "must be its owner" in member.run("rm", "folding", "--yes").refused()
    member.run("priority", job, "3").done()

    assert "folding" not in stranger.run("projects").done()
    for act in (
        ("job", job),
        ("logs", job),
        ("cancel", job),
        ("cd", "folding"),
        ("submit", "-p", "folding", "--", "true"),
    ):
        assert "or none that you may see" in stranger.run(*act).refused()
    for act in (
        ("add-user", "--stdin", "x"),
        ("promote-user", "sam"),
        ("config", "heartbeat_time", "5"),
        ("stop-server",),
    ):
        assert "only a super user may" in owner.run(*act, stdin=PASSWORD).refused()
    assert lab.cpcc("ping").done()

    owner.run("revoke-access", "mia").done()
    assert "or none that you may see" in member.run("job", job).refused()
    lab.cpcc("job", job).done()  # a super user sees everything
    owner.run("rm", "folding", "--yes").done()
    assert "or none that you may see" in viewer.run("job", job).refused()


def test_the_last_super_user_stays(lab: Network) -> None:
    for words in (("delete-user", "cpc-admin"), ("demote-user", "cpc-admin")):
        assert "last super user" in lab.cpcc(*words).refused()
    second = person(lab, "sue")
    lab.cpcc("promote-user", "sue").done()
    second.run("demote-user", "cpc-admin").done()
    assert "last super user" in second.run("demote-user", "sue").refused()
    second.run("promote-user", "cpc-admin").done()
    lab.cpcc("delete-user", "sue").done()
    assert "log in" in second.run("whoami").refused()


def test_wrong_passwords_are_refused_and_then_not_even_tried(lab: Network) -> None:
    one = person(lab, "carl")
    lab.cpcc("config", "login_tries", "3").done()
    try:
        for _ in range(3):
            assert "wrong user name or password" in one.run("login", "--stdin", "carl", stdin="guess-guess").refused()
        for password in ("guess-guess", PASSWORD):
            line = one.run("login", "--stdin", "carl", stdin=password).refused()
            assert "too many failed logins" in line
            assert "try again in" in line
        one.run("whoami").done()  # who was logged in stays so
        assert lab.cpcc("login", "--stdin", "cpc-admin", stdin=PASSWORD).done()  # others are not locked out
    finally:
        lab.cpcc("config", "login_tries", "").done()
    assert "carl" in lab.cpcc("audit").done()


def test_a_logout_ends_the_session(lab: Network) -> None:
    one = person(lab, "lea")
    token = one.client().transport.token
    client = one.client()
    one.run("logout").done()
    assert "log in" in one.run("whoami").refused()
    client.transport.token = token
    with pytest.raises(Exception, match="log in"):
        client.whoami()
    client.close()


def test_a_new_password_counts_and_the_old_one_does_not(lab: Network) -> None:
    one = person(lab, "paul")
    one.run("passwd", "--stdin", stdin=f"{PASSWORD}\nbetter-better\n").done()
    assert "wrong user name or password" in one.run("login", "--stdin", "paul", stdin=PASSWORD).refused()
    one.run("login", "--stdin", "paul", stdin="better-better").done()


def test_privileged_acts_are_in_the_audit(lab: Network) -> None:
    person(lab, "anna")
    lines = [line for line in lab.cpcc("audit").done().splitlines() if "user.created" in line]
    assert "anna" in lines[-1]
    assert "user:cpc-admin" in lines[-1]
