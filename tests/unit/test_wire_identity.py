"""Certificates say who somebody is, and an authority vouches for its own server's machines only."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from cpc.core.chance import SeededChance
from cpc.core.clock import SECOND
from cpc.core.errors import BadInput, CopernicusError, Damaged, Refused
from cpc.wire import identity
from cpc.wire.identity import Authority, Identity, Name, Role
from tests.simulation.clock import Clock, VirtualReactor

DAY = 86_400.0


def make(server: str = "server-a", seed: int = 1) -> tuple[Authority, Clock]:
    clock = Clock(VirtualReactor())
    return Authority.create(server, clock, SeededChance(seed)), clock


@given(st.sampled_from([Role.WORKER, Role.BUNDLE]), st.text(min_size=1, max_size=64).filter(str.isprintable))
def test_a_name_survives_its_uri(role: Role, name: str) -> None:
    known = Name("0b2c-77", role, name)
    assert Name.parse(known.uri) == known
    assert known.uri.isascii()


@pytest.mark.parametrize(
    "uri",
    [
        "", "cpc://", "cpc://a", "cpc://a/", "cpc://a/server/", "cpc://a/server/x", "cpc://a/worker", "cpc://a/worker/",
        "cpc://a/king/x", "cpc://a/worker/x/y", "cpc:///server", "CPC://a/server", "http://a/server", "cpc://a b/server",
        "cpc://a/worker/x%2", "cpc://a/worker/%78", "cpc://a/worker/%00", "cpc://a/worker/%ff", "cpc://a/server?x",
        "cpc://a@b/server", "cpc://a/worker/x#y", "cpc://" + "a" * 65 + "/server",
    ],
)  # fmt: skip
def test_anything_but_an_exact_name_is_refused(uri: str) -> None:
    with pytest.raises(Refused, match="not the name"):
        Name.parse(uri)


def test_an_identity_says_its_name_and_key_and_when_it_ends() -> None:
    authority, clock = make()
    found = authority.identity(Name("server-a", Role.WORKER, "w1"), 30 * DAY, ["node7.example.org", "10.0.0.7", "::1"])
    certificate = identity.read_certificate(found.certificate_pem)
    assert identity.name_of(certificate) == found.name
    assert found.not_after == clock.now() // SECOND * SECOND + 30 * 86_400 * SECOND
    assert found.fingerprint == identity.fingerprint_of(found.key_pem)
    assert found.fingerprint == identity.fingerprint_of(identity.public_of(found.key_pem))
    assert found.fingerprint == identity.fingerprint_of(identity.request(found.key_pem))
    certificate.verify_directly_issued_by(identity.read_certificate(authority.certificate_pem))
    assert Identity.load(found.key_pem, found.certificate_pem, authority.certificate_pem) == found


def test_a_renewed_certificate_keeps_the_fingerprint() -> None:
    authority, clock = make()
    key = identity.new_key(SeededChance(5))
    name = Name("server-a", Role.WORKER, "w1")
    first = authority.issue(identity.request(key), name, DAY)
    clock.offset += 20 * 3600 * SECOND
    second = authority.issue(identity.request(key), name, DAY)
    assert identity.fingerprint_of(first) == identity.fingerprint_of(second)
    assert identity.not_after_of(second) > identity.not_after_of(first)


def test_what_a_request_asks_to_be_called_is_not_used() -> None:
    authority, _ = make()
    key = ec.generate_private_key(ec.SECP256R1())
    wish = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("cpc://server-a/server")])
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "server-a")]))
        .add_extension(wish, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    certificate = identity.read_certificate(authority.issue(csr, Name("server-a", Role.WORKER, "w"), DAY))
    assert identity.name_of(certificate) == Name("server-a", Role.WORKER, "w")
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_only_good_requests_and_own_names_get_a_certificate() -> None:
    authority, _ = make()
    request = identity.request(identity.new_key())
    good = Name("server-a", Role.WORKER, "w")
    with pytest.raises(BadInput, match="cannot vouch"):
        authority.issue(request, Name("server-b", Role.WORKER, "w"), DAY)
    with pytest.raises(BadInput, match="cannot be valid"):
        authority.issue(request, good, 0)
    body = bytearray(x509.load_pem_x509_csr(request).public_bytes(serialization.Encoding.DER))
    body[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(body)).public_bytes(serialization.Encoding.PEM)
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    kind = other.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for bad in (forged, kind, b"", b"rubbish", request[:200], b"\xff" * 100, request + b"x" * 100_000):
        with pytest.raises(BadInput):
            authority.issue(bad, good, DAY)


def test_no_certificate_outlives_its_authority() -> None:
    authority, clock = make()
    clock.offset += int((identity.AUTHORITY_VALID - DAY) * SECOND)
    late = authority.identity(Name("server-a", Role.SERVER), 365 * DAY)
    assert late.not_after <= identity.not_after_of(authority.certificate_pem) + SECOND
    clock.offset += int(2 * DAY * SECOND)
    with pytest.raises(BadInput):
        authority.identity(Name("server-a", Role.SERVER), DAY)


def test_an_authority_comes_back_from_its_files_and_damage_is_said() -> None:
    authority, clock = make()
    again = Authority.load(authority.key_pem, authority.certificate_pem, clock, SeededChance(2))
    assert (again.server_id, again.fingerprint) == ("server-a", authority.fingerprint)
    other, _ = make("server-b", seed=2)
    with pytest.raises(Damaged, match="another key"):
        Authority.load(other.key_pem, authority.certificate_pem)
    for key, certificate in ((b"", authority.certificate_pem), (authority.key_pem, b"x"), (authority.key_pem, b"")):
        with pytest.raises(Damaged):
            Authority.load(key, certificate)
    worker = authority.identity(Name("server-a", Role.WORKER, "w"), DAY)
    with pytest.raises(Refused, match="authority"):
        Authority.load(worker.key_pem, worker.certificate_pem)
    with pytest.raises(Damaged, match="another key"):
        Identity.load(authority.key_pem, worker.certificate_pem, authority.certificate_pem)


@pytest.mark.filterwarnings(
    "ignore:Parsed a serial number"
)  # one whose sign is flipped; the library's own, when it reads
def test_every_bit_of_a_certificate_counts() -> None:
    """Also the number of unused bits before the signature, which the library ignores when so many bits of it are zero."""
    authority, _ = make()
    found = authority.identity(Name("server-a", Role.BUNDLE, "lab"), DAY)
    while identity.read_certificate(found.certificate_pem).signature[-1] & 3:
        found = authority.identity(found.name, DAY)
    whole = identity.read_certificate(found.certificate_pem).public_bytes(serialization.Encoding.DER)
    for place in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        text = base64.encodebytes(flipped).decode()
        pem = f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n".encode()
        with pytest.raises(CopernicusError):
            Identity.load(found.key_pem, pem, authority.certificate_pem)


def test_the_same_chance_gives_the_same_identity_key() -> None:
    assert make(seed=4)[0].fingerprint == make(seed=4)[0].fingerprint != make(seed=5)[0].fingerprint


def test_a_fingerprint_is_shown_in_groups() -> None:
    authority, _ = make()
    shown = identity.show_fingerprint(authority.fingerprint)
    assert shown.replace(":", "") == authority.fingerprint
    assert len(shown.split(":")) == 16


def test_a_server_id_that_is_no_id_is_bad_input() -> None:
    for bad in ("", "a/b", "a b", "ü", "a" * 65):
        with pytest.raises(BadInput):
            make(bad)
