"""Who a machine is: a key pair, and a certificate whose URI says what it is.

Each server is its own certificate authority; the authority's key is the server's identity. A certificate carries one URI:

    cpc://SERVER-ID/server           the server itself, as it listens and as it connects to its peers
    cpc://SERVER-ID/worker/NAME      a worker that has enrolled
    cpc://SERVER-ID/bundle/NAME      a connection bundle: it may enrol, and nothing else

SERVER-ID is the id of the authority that signed it: nobody else's certificate may carry it. Keys are EC P-256. Times are
UTC in microseconds, spans in seconds. Certificates cross borders as PEM.
"""

from __future__ import annotations

import datetime
import enum
import hashlib
import ipaddress
import math
import re
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cpc.core.chance import Chance, SystemChance
from cpc.core.clock import DAY, SECOND, Clock, SystemClock
from cpc.core.errors import BadInput, CopernicusError, Damaged, Refused

AUTHORITY_VALID = 20 * 365.25 * 86_400  # seconds
MAX_PEM = 64 << 10

_BACKDATE = 60.0  # seconds: a certificate is valid at once for a machine whose clock is a little behind
#: Servers make their own at every start, and belong to different people: their clocks may be days apart.
_BACKDATE_SERVER = 7 * DAY / SECOND
#: What the library raises for parts of a certificate that cannot be read.
_UNREADABLE = (ValueError, TypeError, OverflowError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion,
               x509.UnsupportedGeneralNameType)  # fmt: skip
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SERVER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
_UTC = datetime.UTC


class Role(enum.StrEnum):
    """What a certificate is good for. What a role may call is decided per method, by who serves it."""

    SERVER = "server"
    WORKER = "worker"
    BUNDLE = "bundle"


@dataclass(frozen=True, slots=True)
class Name:
    """Who somebody is: the server that vouches for it, its role, and its name there (empty for the server itself)."""

    server: str
    role: Role
    name: str = ""

    @property
    def uri(self) -> str:
        """The one URI of its certificate."""
        if self.role is Role.SERVER:
            return f"cpc://{self.server}/{self.role}"
        return f"cpc://{self.server}/{self.role}/{urllib.parse.quote(self.name, safe='')}"

    @classmethod
    def parse(cls, uri: str) -> Name:
        """The name that `uri` says, or Refused when it is not exactly what `Name.uri` writes."""
        parts = uri.split("/")
        try:
            scheme, empty, server, role, *rest = parts
            found = cls(server, Role(role), urllib.parse.unquote(rest[0], errors="strict") if rest else "")
        except ValueError:
            raise Refused(f"{uri[:200]!r} is not the name of a Copernicus machine") from None
        if found.uri != uri or scheme != "cpc:" or empty or not _SERVER_ID.fullmatch(server):
            raise Refused(f"{uri[:200]!r} is not the name of a Copernicus machine")
        if (found.role is Role.SERVER) != (found.name == "") or not found.name.isprintable():
            raise Refused(f"{uri[:200]!r} is not the name of a Copernicus machine")
        return found

    def __str__(self) -> str:
        return f"{self.role} {self.name or self.server}"


@dataclass(frozen=True, slots=True)
class Identity:
    """A name with the key and certificate that prove it, and the authority that signed them (all PEM)."""

    name: Name
    key_pem: bytes
    certificate_pem: bytes
    authority_pem: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key (SubjectPublicKeyInfo), in hex. Renewing the certificate does not change it."""
        return fingerprint_of(self.certificate_pem)

    @property
    def not_after(self) -> int:
        """When the certificate ends (µs)."""
        return not_after_of(self.certificate_pem)

    @classmethod
    def load(cls, key_pem: bytes, certificate_pem: bytes, authority_pem: bytes) -> Identity:
        """An identity from its files; Damaged when key and certificate do not belong together."""
        certificate = read_certificate(certificate_pem)
        if _fingerprint(_read_key(key_pem).public_key()) != fingerprint_of(certificate_pem):
            raise Damaged("the certificate was made for another key", "use the key and certificate of one bundle")
        authority = read_certificate(authority_pem)
        if not (_signed(certificate, authority) and _signed(authority, authority)):
            raise Damaged(
                "the certificate is not what the authority has signed",
                "use the certificate and authority of one bundle",
            )
        return cls(name_of(certificate), key_pem, certificate_pem, authority_pem)


class Authority:
    """A server's own certificate authority. Its key is the server's identity: it stays in the server's directory."""

    def __init__(self, server_id: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate,
                 clock: Clock, chance: Chance) -> None:  # fmt: skip
        self.server_id = server_id
        self._key = key
        self._certificate = certificate
        self._clock = clock
        self._chance = chance
        self.key_pem = _key_pem(key)
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.fingerprint = fingerprint_of(self.certificate_pem)

    @classmethod
    def create(cls, server_id: str, clock: Clock | None = None, chance: Chance | None = None) -> Authority:
        """A new authority with a fresh key, for a server with a fresh id."""
        if not _SERVER_ID.fullmatch(server_id):
            raise BadInput(f"{server_id[:80]!r} cannot be a server's id")
        clock, chance = clock or SystemClock(), chance or SystemChance()
        key = _make_key(chance)
        subject = _subject(f"Copernicus server {server_id}")
        public = key.public_key()
        usage = _key_usage(sign=True)
        certificate = (
            _builder(subject, subject, public, clock.now(), AUTHORITY_VALID, chance)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(_alternative(f"cpc://{server_id}"), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(server_id, key, certificate, clock, chance)

    @classmethod
    def load(cls, key_pem: bytes, certificate_pem: bytes, clock: Clock | None = None,
             chance: Chance | None = None) -> Authority:  # fmt: skip
        """The authority from its files. Damaged when they are not readable, or not made for each other."""
        certificate = read_certificate(certificate_pem)
        key = _read_key(key_pem)
        server_id = authority_id(certificate)
        if _fingerprint(key.public_key()) != fingerprint_of(certificate_pem):
            raise Damaged("the authority's certificate was made for another key", "restore both files from a backup")
        if not _signed(certificate, certificate):
            raise Damaged("the authority's certificate is not what was signed", "restore both files from a backup")
        return cls(server_id, key, certificate, clock or SystemClock(), chance or SystemChance())

    def issue(self, public_key_pem_or_csr: bytes, name: Name, valid_for: float, hosts: Iterable[str] = ()) -> bytes:
        """A certificate (PEM) that gives `name` to a public key for `valid_for` seconds.

        Of a request (CSR) the signature is checked and only the public key is used: what it asks to be called is not.
        `hosts` are host names or addresses that are added for other people's tools; nothing here relies on them.
        BadInput for a key that is no EC key, and for a name of another server.
        """
        if name.server != self.server_id:
            raise BadInput(f"server {self.server_id} cannot vouch for {name.uri}")
        Name.parse(name.uri)
        public = _read_public(public_key_pem_or_csr)
        left = self._certificate.not_valid_after_utc.timestamp() - self._clock.now() / SECOND
        if valid_for <= 0 or left <= 0:
            raise BadInput(f"a certificate cannot be valid for {min(valid_for, left):.0f} s")
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if name.role is Role.SERVER:
            uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
        subject = _subject((name.name or f"server {name.server}")[:64])
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        certificate = (
            _builder(
                subject,
                self._certificate.subject,
                public,
                self._clock.now(),
                min(valid_for, left),
                self._chance,
                _BACKDATE_SERVER if name.role is Role.SERVER else _BACKDATE,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
            .add_extension(_alternative(name.uri, hosts), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, data: bytes) -> bytes:
        """A signature that `is_signed_by` takes for this authority's."""
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))

    def identity(self, name: Name, valid_for: float, hosts: Iterable[str] = ()) -> Identity:
        """A fresh key with a certificate for `name`."""
        key = _key_pem(_make_key(self._chance))
        certificate = self.issue(public_of(key), name, valid_for, hosts)
        return Identity(name, key, certificate, self.certificate_pem)


# --- keys and requests --------------------------------------------------------------------------------------------------


def new_key(chance: Chance | None = None) -> bytes:
    """A fresh private key (PEM, PKCS 8, not encrypted): keep it in a file of mode 0600."""
    return _key_pem(_make_key(chance or SystemChance()))


def public_of(key_pem: bytes) -> bytes:
    """The public half of a private key (both PEM)."""
    public = _read_key(key_pem).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def request(key_pem: bytes) -> bytes:
    """A certificate signing request (PEM) for this key. It asks for no name: the server gives one."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = builder.sign(_read_key(key_pem), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def fingerprint_of(pem: bytes) -> str:
    """SHA-256 of the public key in a certificate, request, public or private key (PEM), in hex."""
    try:
        if b"CERTIFICATE REQUEST" in pem[:MAX_PEM]:
            return _fingerprint(x509.load_pem_x509_csr(pem).public_key())
        if b"PUBLIC KEY" in pem[:MAX_PEM]:
            return _fingerprint(serialization.load_pem_public_key(pem))
        if b"PRIVATE KEY" in pem[:MAX_PEM]:
            return _fingerprint(_read_key(pem).public_key())
    except _UNREADABLE:
        raise BadInput("this is not a readable key or certificate request (PEM)") from None
    return _fingerprint(read_certificate(pem).public_key())


def show_fingerprint(fingerprint: str) -> str:
    """A fingerprint as people compare it: groups of four, separated by colons."""
    return ":".join(fingerprint[at : at + 4] for at in range(0, len(fingerprint), 4))


# --- reading certificates -----------------------------------------------------------------------------------------------


def read_certificate(pem: bytes) -> x509.Certificate:
    """The certificate in a PEM text, or Damaged."""
    try:
        if len(pem) > MAX_PEM:
            raise ValueError
        found = x509.load_pem_x509_certificate(pem)
        # The library reads these when they are asked for; what cannot be read is to be known here.
        found.public_key(), found.extensions, found.not_valid_before_utc, found.not_valid_after_utc
        return found
    except _UNREADABLE:
        raise Damaged("this is not a readable certificate (PEM)", "fetch the bundle or file again") from None


def name_of(certificate: x509.Certificate) -> Name:
    """The name that a certificate gives, or Refused when it has none, or more than one."""
    return Name.parse(_one_uri(certificate))


def authority_id(certificate: x509.Certificate) -> str:
    """The server id that an authority's own certificate says."""
    scheme, _, server = _one_uri(certificate).partition("://")
    if scheme != "cpc" or not _SERVER_ID.fullmatch(server):
        raise Refused("this certificate is not that of a Copernicus server's authority")
    return server


def check_authority(pem: bytes) -> str:
    """The id of the server whose authority's certificate (PEM) this is. Damaged or Refused when it is no such thing."""
    certificate = read_certificate(pem)
    server = authority_id(certificate)
    if not _signed(certificate, certificate):
        raise Damaged(f"the certificate of server {server} is not signed by its own key")
    return server


def is_signed_by(authority_pem: bytes, data: bytes, signature: bytes) -> bool:
    """Whether the authority with this certificate has signed this."""
    public = read_certificate(authority_pem).public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        return False
    try:
        public.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def not_after_of(pem: bytes) -> int:
    """When a certificate ends (µs)."""
    return when(read_certificate(pem).not_valid_after_utc)


def when(moment: datetime.datetime) -> int:
    """A certificate's date in µs."""
    return int(moment.timestamp()) * SECOND


def key_fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate's public key, in hex."""
    return _fingerprint(certificate.public_key())


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    """Whether the signature is right: one flipped bit anywhere in a certificate shows here."""
    try:
        certificate.verify_directly_issued_by(by)
    except (InvalidSignature, *_UNREADABLE):
        return False
    # The signature ends the DER; the byte before it is its number of unused bits, which nobody has signed and the library
    # lets pass when that many bits happen to be zero.
    return certificate.public_bytes(serialization.Encoding.DER)[-len(certificate.signature) - 1] == 0


def _one_uri(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, *_UNREADABLE):
        uris = []
    if len(uris) != 1:
        raise Refused(f"a certificate of a Copernicus machine has one URI, this one has {len(uris)}")
    return uris[0]


def _fingerprint(public: object) -> str:
    assert hasattr(public, "public_bytes")
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def _make_key(chance: Chance) -> ec.EllipticCurvePrivateKey:
    """A P-256 key out of `chance`: 64 bits more than needed, so that the remainder is not biased (FIPS 186-5, A.2.1)."""
    return ec.derive_private_key(int.from_bytes(chance.token(40)) % (_P256_ORDER - 1) + 1, ec.SECP256R1())


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except _UNREADABLE:
        raise Damaged("this is not a readable private key (PEM)", "fetch the bundle or file again") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Damaged("machine keys are EC keys; this is another kind", "let the server make a new bundle")
    return key


def _read_public(pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        if len(pem) > MAX_PEM:
            raise ValueError
        if b"CERTIFICATE REQUEST" in pem:
            asked = x509.load_pem_x509_csr(pem)
            if not asked.is_signature_valid:
                raise BadInput("the certificate request is not signed by its own key")
            public: object = asked.public_key()
        else:
            public = serialization.load_pem_public_key(pem)
    except CopernicusError:
        raise
    except _UNREADABLE:
        raise BadInput("this is not a readable certificate request (PEM)") from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.key_size < 256:
        raise BadInput("machine keys are EC keys of at least 256 bits; this is another kind")
    return public


def _builder(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: int, valid_for: float,
             chance: Chance, backdate: float = _BACKDATE) -> x509.CertificateBuilder:  # fmt: skip
    start = datetime.datetime.fromtimestamp(now // SECOND, _UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(int.from_bytes(b"\x01" + chance.token(16)))
        .not_valid_before(start - datetime.timedelta(seconds=backdate))
        .not_valid_after(start + datetime.timedelta(seconds=math.ceil(min(valid_for, 100 * 365 * DAY / SECOND))))
    )


def _subject(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _alternative(uri: str, hosts: Iterable[str] = ()) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            try:
                names.append(x509.DNSName(host.encode("idna").decode("ascii")))
            except ValueError:
                raise BadInput(f"{host[:80]!r} is not a host name or address") from None
    return x509.SubjectAlternativeName(names)


def _key_usage(sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign, key_cert_sign=sign, crl_sign=sign, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
