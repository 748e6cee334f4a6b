"""The gate: a call is carried out once, for whom the table allows, as the database has it at that moment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cpc.core.clock import DAY, SECOND
from cpc.core.errors import BadInput, Conflict, Denied, Gone, NotFound, NotLoggedIn
from cpc.core.views import UserView
from cpc.server.gate import Gate
from cpc.server.principal import NOBODY, SERVER, Call, Principal
from cpc.server.roles import Act
from cpc.server.seal import Seal
from cpc.store import members, projects
from cpc.store.transaction import Tx
from tests.helpers.people import People, people


@pytest.fixture
def world(database_url: str) -> Iterator[People]:
    yield from people(database_url)


class Counter:
    """A unit that counts how often it ran and writes an event."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, tx: Tx) -> int:
        self.runs += 1
        tx.event("test", "test.ran")
        return self.runs


def test_a_repeated_call_gets_the_same_answer_and_runs_once(world: People) -> None:
    ann, unit = world.user("ann"), Counter()
    call = world.call(ann, "k1", "body")
    assert world.do(world.gate.write(call, Act.TOKEN_MAKE, unit, answer=int)) == 1
    assert world.do(world.gate.write(call, Act.TOKEN_MAKE, unit, answer=int)) == 1
    assert unit.runs == 1


def test_two_repeats_in_one_batch_run_once(world: People) -> None:
    ann, unit = world.user("ann"), Counter()
    call = world.call(ann, "k1")
    answers: list[int] = []

    def outer(tx: Tx) -> None:
        # An effect runs while the writer is free again: both calls go into the next batch, or the next two.
        tx.after(
            lambda: [world.gate.write(call, Act.TOKEN_MAKE, unit, answer=int).addCallback(answers.append) for _ in "ab"]
        )
        tx.event("test", "test.outer")

    world.do(world.store.write(outer))
    assert (answers, unit.runs) == ([1, 1], 1)


def test_the_key_of_another_call_is_refused(world: People) -> None:
    ann, unit = world.user("ann"), Counter()
    world.do(world.gate.write(world.call(ann, "k1", "one"), Act.TOKEN_MAKE, unit, answer=int))
    with pytest.raises(Conflict, match="another call"):
        world.do(world.gate.write(world.call(ann, "k1", "two"), Act.TOKEN_MAKE, unit, answer=int))
    assert unit.runs == 1


def test_keys_of_two_users_are_apart(world: People) -> None:
    ann, bob, unit = world.user("ann"), world.user("bob"), Counter()
    for who in (ann, bob):
        world.do(world.gate.write(world.call(who, "k1"), Act.TOKEN_MAKE, unit, answer=int))
    assert unit.runs == 2


def test_calls_without_a_key_always_run(world: People) -> None:
    ann, unit = world.user("ann"), Counter()
    for _ in range(2):
        world.do(world.gate.write(Call(ann), Act.TOKEN_MAKE, unit, answer=int))
    assert unit.runs == 2


def test_a_refused_call_may_be_tried_again_with_its_key(world: People) -> None:
    ann, ready = world.user("ann"), [False]

    def unit(tx: Tx) -> int:
        if not ready[0]:
            raise Conflict("not yet")
        return 5

    call = world.call(ann, "k1")
    with pytest.raises(Conflict, match="not yet"):
        world.do(world.gate.write(call, Act.TOKEN_MAKE, unit, answer=int))
    ready[0] = True
    assert world.do(world.gate.write(call, Act.TOKEN_MAKE, unit, answer=int)) == 5


def test_an_expired_key_is_gone_and_never_runs_again(world: People) -> None:
    ann, unit = world.user("ann"), Counter()
    world.accounts.rules.session_time = 400 * 86400.0
    ann = world.login("ann")
    call = world.call(ann, "k1")
    world.do(world.gate.write(call, Act.TOKEN_MAKE, unit, answer=int))
    world.clock.seconds += 30 * DAY / SECOND + 1
    with pytest.raises(Gone):
        world.do(world.gate.write(call, Act.TOKEN_MAKE, unit, answer=int))
    assert world.do(world.gate.expire_answers()) > 0
    assert world.do(world.gate.expire_answers()) == 0
    with pytest.raises(Gone):
        world.do(world.gate.write(call, Act.TOKEN_MAKE, unit, answer=int))
    assert unit.runs == 1


def test_answers_younger_than_thirty_days_are_kept(world: People) -> None:
    ann, unit = world.user("ann"), Counter()
    world.accounts.rules.session_time = 400 * 86400.0
    call = world.call(world.login("ann"), "k1")
    world.do(world.gate.write(call, Act.TOKEN_MAKE, unit, answer=int))
    world.clock.seconds += 30 * DAY / SECOND - 60
    world.do(world.gate.expire_answers())
    assert world.do(world.gate.write(call, Act.TOKEN_MAKE, unit, answer=int)) == 1
    assert ann.user == call.who.user


@pytest.mark.parametrize("key", ["x" * 65, "a\nb", "\0"])
def test_a_key_that_is_no_key_is_refused(world: People, key: str) -> None:
    ann = world.user("ann")
    with pytest.raises(BadInput, match="idempotency key"):
        world.do(world.gate.write(world.call(ann, key), Act.TOKEN_MAKE, Counter(), answer=int))


def test_views_come_back_as_what_they_were(world: People) -> None:
    ann = world.user("ann")
    view = UserView(name="x", super_user=False, disabled=True, created=5)
    call = world.call(ann, "k1")
    for _ in range(2):
        assert world.do(world.gate.write(call, Act.TOKEN_MAKE, lambda tx: view, answer=UserView)) == view


def test_a_secret_answer_is_not_in_the_database(world: People) -> None:
    ann, call = world.user("ann"), None
    call = world.call(ann, "k1")
    unit = "the secret".upper
    assert world.do(world.gate.write(call, Act.TOKEN_MAKE, lambda tx: unit(), answer=str, secret=True)) == "THE SECRET"
    assert world.do(world.gate.write(call, Act.TOKEN_MAKE, lambda tx: "", answer=str, secret=True)) == "THE SECRET"
    other = Gate(world.store, Seal(b"another key", world.chance))
    with pytest.raises(Gone):
        world.do(other.write(call, Act.TOKEN_MAKE, lambda tx: "", answer=str, secret=True))


def test_a_disabled_user_is_out_at_once_even_with_an_old_principal(world: People) -> None:
    root, ann = world.user("root", True), world.user("ann")
    world.do(world.accounts.change_user(world.call(root), "ann", disabled=True))
    for attempt in (
        world.gate.write(world.call(ann), Act.TOKEN_MAKE, Counter(), answer=int),
        world.gate.read(ann, Act.WHOAMI, lambda tx: 1),
    ):
        with pytest.raises(NotLoggedIn, match="disabled"):
            world.do(attempt)


def test_a_demoted_user_is_demoted_at_once_even_with_an_old_principal(world: People) -> None:
    root, two = world.user("root", True), world.user("two", True)
    world.do(world.accounts.change_user(world.call(root), "two", super_user=False))
    assert two.super_user
    with pytest.raises(Denied, match="only a super user"):
        world.do(world.gate.read(two, Act.SETTING_LIST, lambda tx: 1))


def test_an_ended_session_is_out_even_with_an_old_principal(world: People) -> None:
    ann = world.user("ann")
    world.do(world.accounts.logout(ann))
    with pytest.raises(NotLoggedIn, match="ended"):
        world.do(world.gate.read(ann, Act.WHOAMI, lambda tx: 1))


def test_a_session_whose_time_is_over_is_out_even_with_an_old_principal(world: People) -> None:
    """A stream or a slow call may hold the principal for longer than the session lasts."""
    ann = world.user("ann")
    world.clock.seconds += world.accounts.rules.session_time - 1
    assert world.do(world.gate.read(ann, Act.WHOAMI, lambda tx: 1)) == 1
    world.clock.seconds += 2
    with pytest.raises(NotLoggedIn, match="ended"):
        world.do(world.gate.read(ann, Act.WHOAMI, lambda tx: 1))


def test_nobody_gets_in(world: People) -> None:
    with pytest.raises(NotLoggedIn):
        world.do(world.gate.read(NOBODY, Act.WHOAMI, lambda tx: 1))
    with pytest.raises(NotLoggedIn):
        world.do(world.gate.write(Call(NOBODY), Act.JOB_CANCEL, Counter(), answer=int))
    with pytest.raises(NotLoggedIn):
        world.do(world.gate.read(NOBODY, Act.JOB_LIST, lambda tx: 1, project="nothing"))


def test_a_foreign_project_looks_like_one_that_does_not_exist(world: People) -> None:
    ann, eve = world.user("ann"), world.user("eve")
    world.project(ann, "alpha")
    errors = []
    for name in ("alpha", "omega"):
        with pytest.raises(NotFound) as caught:
            world.do(world.gate.read(eve, Act.PROJECT_SHOW, lambda tx: 1, project=name))
        errors.append((caught.value.message.replace(name, "X"), caught.value.hint))
    assert errors[0] == errors[1]


def test_a_mistyped_project_gets_a_suggestion_of_ones_own(world: People) -> None:
    ann, eve = world.user("ann"), world.user("eve")
    world.project(ann, "villin-folding")
    with pytest.raises(NotFound, match="did you mean villin-folding"):
        world.do(world.gate.read(ann, Act.PROJECT_SHOW, lambda tx: 1, project="vilin-folding"))
    with pytest.raises(NotFound) as caught:
        world.do(world.gate.read(eve, Act.PROJECT_SHOW, lambda tx: 1, project="vilin-folding"))
    assert "villin" not in caught.value.hint


@pytest.mark.parametrize("name", ["", "\0", "a" * 300, "../x", "~1", "\ud800"])
def test_a_name_that_nothing_can_have_is_not_found(world: People, name: str) -> None:
    root = world.user("root", True)
    with pytest.raises(NotFound):
        world.do(world.gate.read(root, Act.PROJECT_SHOW, lambda tx: 1, project=name))


def test_a_unit_that_forgets_to_check_its_project_gives_nothing_away(world: People) -> None:
    ann = world.user("ann")
    with pytest.raises(RuntimeError, match="did not check"):
        world.do(world.gate.read(ann, Act.JOB_SHOW, lambda tx: "secret"))
    with pytest.raises(RuntimeError, match="did not check"):
        world.do(world.gate.write(world.call(ann), Act.JOB_CANCEL, Counter(), answer=int))
    assert "test.ran" not in world.kinds(SERVER)


def test_a_check_in_one_unit_does_not_count_for_the_next(world: People) -> None:
    ann = world.user("ann")
    world.project(ann, "alpha")

    def checked(tx: Tx) -> None:
        row = projects.by_name(tx, "alpha")
        assert row is not None
        world.gate.check(tx, ann, Act.JOB_SHOW, row.id)

    world.do(world.gate.read(ann, Act.JOB_SHOW, checked))
    with pytest.raises(RuntimeError, match="did not check"):
        world.do(world.gate.read(ann, Act.JOB_SHOW, lambda tx: "secret"))


def test_roles_are_read_in_the_same_commit(world: People) -> None:
    ann, bob = world.user("ann"), world.user("bob")
    world.project(ann, "alpha")
    world.do(world.projects.grant(world.call(ann), "alpha", "bob", "viewer"))
    world.do(world.gate.read(bob, Act.PROJECT_SHOW, lambda tx: 1, project="alpha"))
    with pytest.raises(Denied, match="must be its member"):
        world.do(world.gate.write(world.call(bob), Act.JOB_SUBMIT, Counter(), project="alpha", answer=int))

    def revoke(tx: Tx) -> None:
        row = projects.by_name(tx, "alpha")
        assert row is not None
        members.revoke(tx, row.id, bob.user)

    world.do(world.store.write(revoke))
    with pytest.raises(NotFound):
        world.do(world.gate.read(bob, Act.PROJECT_SHOW, lambda tx: 1, project="alpha"))


def test_a_super_user_in_somebody_elses_project_leaves_a_line_in_the_audit(world: People) -> None:
    root, ann = world.user("root", True), world.user("ann")
    world.project(ann, "alpha")

    def seen() -> list[tuple[str, str, str]]:
        page = world.do(world.events.audit(root, limit=1000))
        return [(one.kind, one.actor, one.project) for one in page.items if one.kind.startswith("audit.")]

    world.do(world.gate.write(world.call(ann), Act.JOB_SUBMIT, Counter(), project="alpha", answer=int))
    assert seen() == []
    world.do(world.gate.write(world.call(root), Act.JOB_SUBMIT, Counter(), project="alpha", answer=int))
    assert seen() == [("audit.job.submit", "user:root", "alpha")]


def test_a_privileged_act_without_an_event_of_its_own_is_audited(world: People) -> None:
    root = world.user("root", True)
    world.do(world.gate.write(world.call(root), Act.SERVER_RELOAD, lambda tx: None, answer=None))
    page = world.do(world.events.audit(root, limit=1000))
    assert page.items[-1].kind == "audit.server.reload"


def test_a_repeat_leaves_no_second_line_in_the_audit(world: People) -> None:
    root = world.user("root", True)
    call = world.call(root, "k1")
    for _ in range(2):
        world.do(world.gate.write(call, Act.SERVER_RELOAD, lambda tx: None, answer=None))
    page = world.do(world.events.audit(root, limit=1000))
    assert [one.kind for one in page.items].count("audit.server.reload") == 1


def test_the_digest_tells_calls_apart() -> None:
    who = Principal(1, "ann", False)
    calls = [("POST", "/a", b"b"), ("POST", "/ab", b""), ("PUT", "/a", b"b"), ("POST", "/a", b"c")]
    assert len({Call.of(who, "k", *call).digest for call in calls}) == len(calls)


def test_a_unit_that_checks_for_another_gets_no_more_than_the_other_may(world: People) -> None:
    def unit(tx: Tx) -> None:
        assert world.gate.check(tx, SERVER, Act.JOB_LIST_ALL) == SERVER
        world.gate.check(tx, NOBODY, Act.JOB_LIST_ALL)

    with pytest.raises(NotLoggedIn):
        world.do(world.gate.read(SERVER, Act.JOB_LIST_ALL, unit))
