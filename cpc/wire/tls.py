"""TLS: who may talk on port 13807, and the certificate of the people's port 14807.

OpenSSL checks that a chain ends at an authority that is pinned; dates, the name, the role and revocation are checked
after the handshake with the clock that was handed in, so that a wrong clock or a revocation is answered in words. TLS 1.3
(1.2 at least), no session tickets: a revoked identity never comes back on a remembered session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer  # type: ignore[import-untyped]

from cpc.core.clock import SECOND
from cpc.core.errors import BadInput, Damaged, Refused, TurnedAway
from cpc.wire.identity import Identity, Name, Role, authority_id, key_fingerprint, name_of, read_certificate, when

ALPN = b"cpc/1"  # which door, and that it speaks frames; what they say is settled by the greeting, in words
ALPN_PEOPLE = b"http/1.1"
CLOCK_SLACK = 300 * SECOND  # how far two machines' clocks may be apart

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME
_TLS13 = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
_TLS12 = b"ECDHE+AESGCM:ECDHE+CHACHA20"

Refuse = Callable[[Name, str], str | Refused | None]


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end. `fingerprint` is that of its key (hex), `not_after` the end of its certificate (µs)."""

    name: Name
    fingerprint: str
    not_after: int


def accept_all(_name: Name, _fingerprint: str) -> str | None:
    """Whoever has shown who it is."""
    return None


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """The machines' door. Every client shows a certificate of an authority that is pinned at that moment.

    `authorities` gives server id → authority certificate (PEM): the own one and those of trusted peers. `refuse` gets the
    name and key fingerprint of who has connected and answers why it may not (revoked), in words or as what is raised, or
    None.
    """

    wants_roles = frozenset(Role)
    over = TurnedAway  # what a revoked or expired identity is answered

    def __init__(self, identity: Identity, authorities: Callable[[], Mapping[str, bytes]],
                 refuse: Refuse = accept_all) -> None:  # fmt: skip
        self._identity = identity
        self._authorities = authorities
        self._refuse = refuse
        self._pinned: dict[str, bytes] = {}
        self._context: SSL.Context | None = None
        self._roots: dict[str, bytes] = {}

    def renew(self, identity: Identity) -> None:
        """Show another certificate from now on; connections that are open keep theirs."""
        self._identity = identity
        self._context = None

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """A fresh OpenSSL connection, by what is pinned now."""
        pinned = dict(self._authorities())
        if self._context is None or pinned != self._pinned:
            self._roots = _roots(pinned)
            self._context = _context(self._identity, pinned.values())
            self._context.set_alpn_select_callback(_select)
            self._pinned = pinned
        return SSL.Connection(self._context, None)

    def check(self, connection: SSL.Connection, now: int) -> Peer:
        """Who has connected; Refused in words, TurnedAway when it is revoked or its time is over."""
        return _check(connection, now, self._roots, self.wants_roles, self._refuse, self.over)


@implementer(IOpenSSLClientConnectionCreator)
class ClientTls:
    """The way to one server, which is known by its id and its authority, not by what its host is called.

    Without an identity the connection can be made only where no certificate is asked for.
    """

    wants_roles = frozenset((Role.SERVER,))
    over = Refused  # the server renews its certificate by itself: worth another try

    def __init__(self, identity: Identity | None, authority_pem: bytes, server: str,
                 refuse: Refuse = accept_all) -> None:  # fmt: skip
        self.role = identity.name.role if identity is not None else None
        self._roots = _roots({server: authority_pem})
        self._context = _client_context(identity, authority_pem)
        self._refuse = refuse

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """A fresh OpenSSL connection."""
        return SSL.Connection(self._context, None)

    def check(self, connection: SSL.Connection, now: int) -> Peer:
        """Which server has answered, or Refused in words."""
        return _check(connection, now, self._roots, self.wants_roles, self._refuse, self.over)


@implementer(IOpenSSLClientConnectionCreator)
class StrangerTls:
    """The way to the people's door of a server that is not known yet: whoever answers is believed nothing, only listened to."""

    def __init__(self) -> None:
        self._context = _plain_context()
        self._context.set_alpn_protos([ALPN_PEOPLE])

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """A fresh OpenSSL connection."""
        return SSL.Connection(self._context, None)


@implementer(IOpenSSLServerConnectionCreator)
class PeopleTls:
    """The people's door: HTTP over TLS, no client certificates. The own certificate, or a site's `.crt` and `.key`.

    `reload` reads the files again: a renewed site certificate serves the next connection, without a restart.
    """

    def __init__(self, identity: Identity, certificate: Path | None = None, key: Path | None = None) -> None:
        self._identity = identity
        self.files = (certificate, key)  # may be changed before `reload`
        self._context = self._load()

    def reload(self, identity: Identity | None = None) -> None:
        """Use what is in the files now (or a renewed identity). BadInput leaves the former certificate in use."""
        former, self._identity = self._identity, identity or self._identity
        try:
            self._context = self._load()
        except BadInput:
            self._identity = former
            raise

    @property
    def not_after(self) -> int:
        """When the certificate that is in use ends (µs)."""
        return self._not_after

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """A fresh OpenSSL connection with the certificate that is in use."""
        return SSL.Connection(self._context, None)

    def _load(self) -> SSL.Context:
        context = _plain_context()
        context.set_alpn_select_callback(_select_people)
        certificate, key = self.files
        if (certificate is None) != (key is None):
            raise BadInput("a site certificate needs both files, the .crt and the .key")
        if certificate is None or key is None:
            _use(context, self._identity)
            context.add_extra_chain_cert(read_certificate(self._identity.authority_pem))
            self._not_after = self._identity.not_after
            return context
        try:
            text = certificate.read_bytes()
            context.use_certificate_chain_file(str(certificate))
            context.use_privatekey_file(str(key))
            context.check_privatekey()
        except OSError as error:
            raise BadInput(f"cannot read the site certificate {error.filename}: {error.strerror}") from None
        except SSL.Error:
            raise BadInput(
                f"{certificate} and {key} are not a certificate with its key (PEM)",
                "the .crt holds the server's certificate first, then the chain; the .key has no password",
            ) from None
        self._not_after = when(x509.load_pem_x509_certificates(text)[0].not_valid_after_utc)
        return context


# --- contexts -----------------------------------------------------------------------------------------------------------


def _plain_context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_tls13_ciphersuites(_TLS13)
    context.set_cipher_list(_TLS12)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # thousands of idle connections
    return context


@lru_cache(maxsize=4)
def _client_context(identity: Identity | None, authority_pem: bytes) -> SSL.Context:
    """Made once for the connections that one machine makes again and again."""
    context = _context(identity, [authority_pem])
    context.set_alpn_protos([ALPN])
    return context


def _context(identity: Identity | None, authorities: Iterable[bytes]) -> SSL.Context:
    context = _plain_context()
    if identity is not None:
        _use(context, identity)
    store = context.get_cert_store()
    assert store is not None
    for pem in authorities:
        store.add_cert(X509.from_cryptography(read_certificate(pem)))
    store.set_flags(_NO_CHECK_TIME)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    context.set_verify_depth(1)
    return context


def _use(context: SSL.Context, identity: Identity) -> None:
    try:
        key = serialization.load_pem_private_key(identity.key_pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        context.use_certificate(read_certificate(identity.certificate_pem))
        context.use_privatekey(key)
        context.check_privatekey()
    except (ValueError, TypeError, AssertionError, SSL.Error):
        raise Damaged(
            f"the key and certificate of {identity.name} do not go together", "restore both from a backup or a bundle"
        ) from None


def _select(_connection: SSL.Connection, offered: list[bytes]) -> bytes | SSL._NoOverlappingProtocols:
    return ALPN if ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _select_people(_connection: SSL.Connection, offered: list[bytes]) -> bytes | SSL._NoOverlappingProtocols:
    return ALPN_PEOPLE if ALPN_PEOPLE in offered else SSL.NO_OVERLAPPING_PROTOCOLS


# --- after the handshake ------------------------------------------------------------------------------------------------


def _roots(pinned: Mapping[str, bytes]) -> dict[str, bytes]:
    """Server id → authority certificate (DER). Refused when an authority is pinned for an id that is not its own."""
    roots = {}
    for server, pem in pinned.items():
        certificate = read_certificate(pem)
        if authority_id(certificate) != server:
            raise Refused(f"the authority of {authority_id(certificate)} cannot be pinned for server {server}")
        roots[server] = certificate.public_bytes(serialization.Encoding.DER)
    return roots


def _check(connection: SSL.Connection, now: int, roots: Mapping[str, bytes], roles: frozenset[Role],
           refuse: Refuse, over: type[Refused]) -> Peer:  # fmt: skip
    """The rule: the server id in the URI is the id that is pinned for the authority that signed the certificate."""
    if connection.get_alpn_proto_negotiated() != ALPN:
        raise Refused("this port speaks cpc/1, which was not asked for", "people's tools use the other port, 14807")
    chain = connection.get_verified_chain(as_cryptography=True)
    if not chain or len(chain) != 2:
        raise Refused("the certificate is not signed directly by a server's authority")
    certificate, authority = chain
    name = name_of(certificate)
    root = roots.get(name.server)
    if root is None or authority.public_bytes(serialization.Encoding.DER) != root:
        raise Refused(f"{name.uri} is vouched for by an authority that may not speak for server {name.server}")
    if name.role not in roles:
        raise Refused(
            f"{name.uri} has the role of a {name.role}; that of a {' or '.join(sorted(roles))} is needed here"
        )
    if when(certificate.not_valid_before_utc) - CLOCK_SLACK > now:
        raise Refused(f"the certificate of {name.uri} is not valid yet", "compare the clocks of both machines")
    not_after = when(certificate.not_valid_after_utc)
    if not_after + CLOCK_SLACK < now:
        raise over(
            f"the certificate of {name.uri} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            "get a new bundle from the server's administrator, and compare the clocks of both machines",
        )
    fingerprint = key_fingerprint(certificate)
    why = refuse(name, fingerprint)
    if isinstance(why, Refused):
        raise why
    if why is not None:
        raise over(f"{name.uri} is refused: {why}", "ask the server's administrator for a new bundle")
    return Peer(name, fingerprint, not_after)


#: What a side is told whose certificate is of an authority that is not pinned there.
ANOTHER = "the other side is not the server in the bundle: its certificate says otherwise"
NOT_PINNED = "the server does not know the authority that signed our certificate"

_ALERTS = {
    "unknown ca": NOT_PINNED,
    "certificate required": "the server asks for a certificate and there is none to show",
    "bad certificate": "the server does not accept our certificate",
    "unsupported certificate": "the server does not accept a certificate of this kind",
    "decrypt error": "the server does not accept our certificate: its signature is wrong",
    "protocol version": "the two sides have no version of TLS in common",
    "certificate verify failed": ANOTHER,
    "wrong version number": "the other side does not speak TLS",
    "unexpected message": "the other side does not speak TLS",
}


def explain(error: BaseException) -> Refused | None:
    """What a failed handshake means, in words; None when `error` is not one of TLS."""
    if not isinstance(error, SSL.Error):
        return None
    said = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = " ".join(str(entry[-1]) for entry in said).casefold()
    for sign, words in _ALERTS.items():
        if sign in reasons or sign.replace(" ", "_") in reasons:
            return Refused(words, "use a bundle made by this server, and check that it was not revoked")
    return Refused(f"TLS failed: {reasons or 'the connection was closed during the handshake'}")
