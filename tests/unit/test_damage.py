"""One bit of any file flipped, or its end missing: refused by name, repaired in words, or without effect. Never silent."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import ensureDeferred

from cpc.core.chance import SeededChance, SystemChance
from cpc.core.clock import SystemClock
from cpc.core.errors import Damaged
from cpc.core.lease import Lease
from cpc.core.offload import inline
from cpc.server import upkeep
from cpc.server.config import Place
from cpc.spool import ownership
from cpc.spool.ownership import OWNER, Owner
from cpc.spool.spool import LOG, Spool
from cpc.wire import bundle as bundles
from cpc.wire.bundle import Bundle
from cpc.wire.identity import Authority, Name, Role, fingerprint_of, read_certificate
from cpc.worker.credentials import CERTIFICATE, KEY, Credentials, check_bundle
from tests.helpers.damage import attempt, cut, flipped
from tests.helpers.memory_disk import MemoryDisk, Platter

CLOCK = SystemClock()
YEAR = 366 * 86_400.0


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("server-a", CLOCK, SystemChance())


@pytest.fixture
def bundle(authority: Authority) -> Bundle:
    identity = authority.identity(Name("server-a", Role.BUNDLE, "lab"), YEAR)
    return Bundle(
        role="worker", name="lab", server="server-a", server_name="a", addresses=(("127.0.0.1", 13807),),
        client_addresses=(("127.0.0.1", 14807),), authority=identity.authority_pem.decode(), key=identity.key_pem.decode(),
        certificate=identity.certificate_pem.decode(),
    )  # fmt: skip


@pytest.fixture
def disk() -> MemoryDisk:
    made = MemoryDisk(Platter(lambda: 0.0))
    made.make_directory("/w")
    return made


@pytest.mark.parametrize("name", ["authority.key", "authority.crt"])
def test_a_damaged_identity_of_a_server_is_refused_by_its_file(authority: Authority, tmp_path: Path, name: str) -> None:
    place = Place(tmp_path)
    place.key_file.write_bytes(authority.key_pem)
    place.certificate_file.write_bytes(authority.certificate_pem)
    path = tmp_path / name
    whole = path.read_bytes()
    refused = 0
    for data in (*cut(whole), *(data for _, data in flipped(whole, 1))):
        path.write_bytes(data)
        found = attempt(lambda: upkeep.authority(place, CLOCK, SystemChance()))
        if isinstance(found, Damaged):
            assert name in found.message
            assert found.hint
            refused += 1
        else:  # a line's end, or a bit of base64 that means nothing
            assert isinstance(found, Authority)
            assert (found.fingerprint, found.certificate_pem) == (authority.fingerprint, authority.certificate_pem)
    assert refused > 1.8 * len(whole)


def test_a_damaged_worker_bundle_is_refused_by_its_file(bundle: Bundle, tmp_path: Path) -> None:
    """A bit of an address or a label is not ours to know: the wrong host does not answer, or not as this server."""
    path = tmp_path / "lab.cnx"
    bundles.write(bundle, path)
    whole = path.read_bytes()
    loose = {"server_name", "addresses", "client_addresses", "expires", "user", "token"}
    refused = 0
    for data in (*cut(whole, 7), *(data for _, data in flipped(whole, 2))):
        path.write_bytes(data)
        found = attempt(lambda: read(path))
        if isinstance(found, Damaged):
            assert str(path) in found.message
            assert found.hint
            refused += 1
        else:
            differ = {name for name in Bundle.__struct_fields__ if getattr(found, name) != getattr(bundle, name)}
            same = {name for name in differ - loose if _pem(getattr(found, name)) == _pem(getattr(bundle, name))}
            assert differ - loose <= same
    assert refused > 0.9 * len(whole)


def read(path: Path) -> Bundle:
    """As cpc-worker does."""
    found = bundles.read(path)
    check_bundle(found, str(path))
    return found


def _pem(text: str) -> bytes:
    """What a PEM text says: its lines, and the form of the public key beside a private one, say nothing."""
    if "PRIVATE KEY" in text:
        return fingerprint_of(text.encode()).encode()
    return read_certificate(text.encode()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("name", [KEY, CERTIFICATE])
def test_a_worker_with_damaged_credentials_says_so_or_enrols_again(
    authority: Authority, bundle: Bundle, disk: MemoryDisk, name: str
) -> None:
    identity = authority.identity(Name("server-a", Role.WORKER, "lab-1"), YEAR)
    whole = {KEY: identity.key_pem, CERTIFICATE: identity.certificate_pem}
    for data in (*cut(whole[name]), *(data for _, data in flipped(whole[name], 3))):
        for each, text in whole.items():
            disk.write(f"/w/{each}", text)
        disk.write(f"/w/{name}", data)
        found = Credentials(disk, "/w", bundle, SeededChance(1))
        if found.identity is not None:
            assert found.identity.fingerprint == identity.fingerprint
        if disk.read(f"/w/{KEY}") != whole[KEY] and name == KEY and data:
            assert found.repaired or found.identity is not None
        if found.repaired:
            assert "/w/key.pem" in found.repaired
    assert Credentials(disk, "/w", bundle, SeededChance(1)).repaired == "", "what was made anew stays"


def test_one_bit_of_the_spool_costs_one_result_at_most_and_is_told(disk: MemoryDisk) -> None:
    spool = Spool.open(disk, "/w", inline)
    bodies = {Lease(number, 1, 1): b"result %d " % number * 20 for number in range(4)}
    for lease, body in bodies.items():
        ensureDeferred(spool.add(lease, body))
    whole = disk.read(f"/w/{LOG}")
    for place, data in flipped(whole, 4):
        disk.write(f"/w/{LOG}", data)
        again = Spool.open(disk, "/w", inline)
        assert len(again) == 3, f"a bit at {place}"
        assert all(again.read(lease) == bodies[lease] for lease in again.leases()), f"a bit at {place}"
        assert len(again.damage) == 1
        assert f"/w/{LOG}" in again.damage[0]
        disk.unlink(f"/w/{LOG}.damaged-1")
    for data in cut(whole, 3):
        disk.write(f"/w/{LOG}", data)
        again = Spool.open(disk, "/w", inline)
        assert all(again.read(lease) == bodies[lease] for lease in again.leases())
        assert again.damage or len(data) % (len(whole) // 4) == 0
        disk.unlink(f"/w/{LOG}.damaged-1")


def test_results_whose_owner_cannot_be_read_are_told_of(disk: MemoryDisk) -> None:
    mine = ownership.claim(disk, "/w", Owner(credential="server-a/lab", host="h", pid=2))
    left = ownership.claim(disk, "/w", Owner(credential="server-a/lab", host="h", pid=1))
    spool = Spool.open(disk, left.directory, inline)
    ensureDeferred(spool.add(Lease(1, 1, 1), b"result"))
    left.lock.release()
    assert ownership.orphans(disk, "/w", mine) == (left.directory,)
    whole = disk.read(f"{left.directory}/{OWNER}")
    for data in (*cut(whole), *(data for _, data in flipped(whole, 5))):
        disk.write(f"{left.directory}/{OWNER}", data)
        owner = ownership.read_owner(disk, left.directory)
        assert (owner is None) == (ownership.nameless(disk, "/w") == (left.directory,))


def test_what_is_packed_in_a_column_is_named_when_it_cannot_be_read() -> None:
    from cpc.core.spec import JobSpec
    from cpc.store.packed import unpack

    whole = msgspec.msgpack.encode(JobSpec(argv=("a", "b"), env={"A": "ü"}))
    for data in (*cut(whole), *(data for _, data in flipped(whole, 6))):
        found = attempt(lambda data=data: unpack(data, JobSpec, "the specification of a job"))  # type: ignore[misc]
        if isinstance(found, Damaged):
            assert "the specification of a job" in found.message
            assert "restore" in found.hint
        else:
            assert isinstance(found, JobSpec)
