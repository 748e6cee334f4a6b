"""Connection bundles: what is in them, for how long, and that a revoked one is worth nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cpc.core.errors import BadInput, Conflict, Denied, NotFound, NotLoggedIn, Refused
from cpc.server.principal import SERVER
from cpc.store import workers
from cpc.store.transaction import Tx
from cpc.store.workers import WorkerRow
from cpc.wire.bundle import Bundle, decode
from cpc.wire.identity import Name, Role, fingerprint_of, name_of, new_key, read_certificate, request
from tests.helpers.people import SERVER_ID, People, people


@pytest.fixture
def world(database_url: str) -> Iterator[People]:
    yield from people(database_url)


def make(world: People, name: str = "cluster", expires_in: float = 0.0) -> Bundle:
    text, _ = world.do(world.bundles.make(world.call(SERVER), name, "worker", expires_in=expires_in))
    return decode(text.encode())


def admit(world: People, bundle: Bundle) -> int:
    key = fingerprint_of(bundle.certificate.encode())
    return world.do(world.store.write(lambda tx: world.bundles.admit(tx, bundle.name, key)))


def name(bundle: Bundle) -> tuple[Name, str]:
    certificate = bundle.certificate.encode()
    return name_of(read_certificate(certificate)), fingerprint_of(certificate)


def test_a_worker_bundle_holds_a_key_that_may_enrol(world: People) -> None:
    bundle = make(world)
    assert name(bundle)[0] == Name(SERVER_ID, Role.BUNDLE, "cluster")
    assert fingerprint_of(bundle.key.encode()) == name(bundle)[1]
    assert (bundle.addresses, bundle.token) == ((("127.0.0.1", 13807),), "")
    assert admit(world, bundle) == admit(world, bundle)
    view = world.do(world.bundles.page(SERVER)).items[0]
    assert (view.name, view.used, view.revoked, view.last_used) == ("cluster", 2, False, world.clock.now())


def test_an_enrolled_key_gets_a_workers_certificate(world: People) -> None:
    key = new_key(world.chance)
    certificate = world.bundles.certificate(request(key), "cluster-1")
    assert name_of(read_certificate(certificate)) == Name(SERVER_ID, Role.WORKER, "cluster-1")
    assert fingerprint_of(certificate) == fingerprint_of(key)


def test_an_expired_bundle_enrols_nobody(world: People) -> None:
    bundle = make(world, expires_in=3600.0)
    world.clock.seconds += 3601
    with pytest.raises(Refused, match="expired"):
        admit(world, bundle)


def test_a_key_enrols_under_its_own_bundles_name_only(world: People) -> None:
    one, two = make(world, "one"), make(world, "two")
    with pytest.raises(Refused):
        world.do(world.store.write(lambda tx: world.bundles.admit(tx, "one", name(two)[1])))
    with pytest.raises(Refused):
        world.do(world.store.write(lambda tx: world.bundles.admit(tx, "three", name(one)[1])))


def test_a_revoked_bundle_is_refused_with_its_workers_also_after_a_restart(world: People) -> None:
    one, two = make(world, "one"), make(world, "two")
    key = fingerprint_of(new_key(world.chance))
    worker = Name(SERVER_ID, Role.WORKER, "one-1")
    put_out: list[int] = []

    def enrol(tx: Tx) -> int:
        number = world.bundles.admit(tx, "one", name(one)[1])
        workers.add(
            tx,
            WorkerRow(
                id=tx.next("worker"), name="one-1", fingerprint=key, bundle=number, host="", created=0, last_seen=0,
                boot="", session=0, hello=b"", drain=None, revoked=None,
            ),
        )  # fmt: skip
        return number

    number = world.do(world.store.write(enrol))

    def out(tx: Tx, bundle: int) -> None:
        put_out.append(bundle)
        workers.revoke_bundle(tx, bundle)

    world.bundles.on_revoke.append(out)
    assert world.bundles.refusal(worker, key) is None
    world.do(world.bundles.revoke(world.call(SERVER), "one"))
    assert put_out == [number]
    world.do(world.store.close())
    later = People(world.url)
    later.authority = world.authority
    later.do(later.bundles.start())
    for place in (world, later):
        assert "revoked" in (place.bundles.refusal(*name(one)) or "")
        assert "revoked" in (place.bundles.refusal(worker, key) or "")
        assert place.bundles.refusal(*name(two)) is None
    with pytest.raises(Refused, match="revoked"):
        admit(later, one)
    admit(later, two)
    later.close()


def test_a_name_that_was_revoked_is_another_bundle_when_used_again(world: People) -> None:
    old = make(world)
    with pytest.raises(Conflict, match="already"):
        make(world)
    world.do(world.bundles.revoke(world.call(SERVER), "cluster"))
    with pytest.raises(NotFound):
        world.do(world.bundles.revoke(world.call(SERVER), "cluster"))
    new = make(world)
    admit(world, new)
    with pytest.raises(Refused):
        admit(world, old)
    assert world.bundles.refusal(*name(old))
    assert world.bundles.refusal(*name(new)) is None
    assert [one.revoked for one in world.do(world.bundles.page(SERVER)).items] == [True, False]


def test_an_expired_bundle_gives_its_name_away(world: People) -> None:
    old = make(world, expires_in=60.0)
    world.clock.seconds += 61
    admit(world, make(world))
    with pytest.raises(Refused):
        admit(world, old)


def test_a_client_bundle_speaks_for_its_user_until_it_is_revoked(world: People) -> None:
    ann = world.user("ann")
    text, view = world.do(world.bundles.make(world.call(ann), "laptop", "client", expires_in=3600.0))
    bundle = decode(text.encode())
    assert (bundle.user, bundle.key, view.user, view.role) == ("ann", "", "ann", "client")
    who = world.do(world.accounts.authenticate(bundle.token))
    assert who.user == ann.user
    assert world.do(world.bundles.page(ann)).items[0].last_used is not None
    world.do(world.bundles.revoke(world.call(ann), "laptop"))
    with pytest.raises(NotLoggedIn):
        world.do(world.accounts.authenticate(bundle.token))
    with pytest.raises(NotLoggedIn):
        world.do(world.accounts.whoami(who))


def test_a_client_bundle_expires(world: People) -> None:
    ann = world.user("ann")
    text, _ = world.do(world.bundles.make(world.call(ann), "laptop", "client", expires_in=60.0))
    world.clock.seconds += 61
    with pytest.raises(NotLoggedIn):
        world.do(world.accounts.authenticate(decode(text.encode()).token))


def test_users_make_see_and_revoke_their_own_client_bundles_only(world: People) -> None:
    root, ann, bob = world.user("root", True), world.user("ann"), world.user("bob")
    for role, user in (("worker", ""), ("client", "bob")):
        with pytest.raises(Denied):
            world.do(world.bundles.make(world.call(ann), "x", role, user))
    world.do(world.bundles.make(world.call(ann), "laptop", "client"))
    world.do(world.bundles.make(world.call(root), "desk", "client", "bob"))
    make(world)

    def seen(who: object) -> list[str]:
        return [one.name for one in world.do(world.bundles.page(who)).items]  # type: ignore[arg-type]

    assert (seen(ann), seen(bob), seen(root)) == (["laptop"], ["desk"], ["laptop", "desk", "cluster"])
    for other in ("desk", "cluster", "nothing"):
        with pytest.raises(Denied):
            world.do(world.bundles.revoke(world.call(ann), other))
    world.do(world.bundles.revoke(world.call(root), "laptop"))


@pytest.mark.parametrize(
    ("title", "role", "user", "expires_in"),
    [("x", "server", "", 0.0), ("../x", "worker", "", 0.0), ("x", "worker", "", -1.0), ("x", "worker", "ann", 0.0),
     ("x", "worker", "", 1e12), ("x", "worker", "", float("nan")), ("x", "client", "", 0.0)],
)  # fmt: skip
def test_a_bundle_that_makes_no_sense_is_refused(
    world: People, title: str, role: str, user: str, expires_in: float
) -> None:
    with pytest.raises(BadInput):
        world.do(world.bundles.make(world.call(SERVER), title, role, user, expires_in))
    assert world.do(world.bundles.page(SERVER)).items == ()


def test_a_repeated_call_gets_the_same_bundle(world: People) -> None:
    call = world.call(SERVER, "k1")
    one = world.do(world.bundles.make(call, "cluster", "worker"))
    assert world.do(world.bundles.make(call, "cluster", "worker")) == one


def test_what_will_expire_is_announced(world: People) -> None:
    make(world, "soon", 86400.0)
    make(world, "later", 90 * 86400.0)
    make(world, "gone", 60.0)
    world.clock.seconds += 61
    assert [one.name for one in world.do(world.bundles.expiring(30 * 86400.0))] == ["soon"]
