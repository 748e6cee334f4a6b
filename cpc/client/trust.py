"""Whom cpcc talks to: a server is recognised by its identity key, like ssh does, or by a site's certificate and its name.

Needs only the standard library, and the heavy parts of it only to connect: cpcc must start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from cpc.core.errors import Damaged, Refused

if TYPE_CHECKING:
    import ssl


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a server. `authority` PEM; empty for a site certificate, which the system's authorities vouch for."""

    server: str
    authority: str = ""
    fingerprint: str = ""


def context(pin: Pin | None) -> ssl.SSLContext:
    """How to connect: with a pin to that server only, without one to anybody (to learn who it is, nothing else)."""
    import ssl

    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    if pin is None:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    elif pin.authority:
        # The name that it is reached by may be a tunnel's: its identity is in the certificate's URI.
        made.check_hostname = False
        try:
            made.load_verify_locations(cadata=pin.authority)
        except (ssl.SSLError, ValueError):
            raise Damaged("what was kept of the server's certificate is damaged", "add the server again") from None
    else:
        made.load_default_certs()
    return made


def check(connection: ssl.SSLSocket, pin: Pin) -> None:
    """The peer is the server that was pinned; Refused otherwise. A worker's certificate of the same authority is none."""
    if not pin.authority:
        return
    found: Any = connection.getpeercert() or {}
    names = [entry[1] for entry in found.get("subjectAltName", ()) if entry[0] == "URI"]
    if f"cpc://{pin.server}/server" not in names:
        raise Refused(
            "the other side is not the server that was added here",
            "if the server was set up anew, compare its fingerprint and add it again: cpcc add-server",
        )


def fingerprint(certificate: bytes) -> str:
    """SHA-256, in hex, of the public key in a DER certificate: the same for every certificate of one key."""
    import hashlib

    try:
        tbs = _inside(_inside(certificate, 0)[0], 0)[0]
        place = 0
        if tbs[place] == 0xA0:  # version
            place = _inside(tbs, place)[1]
        for _ in range(5):  # serial number, algorithm, issuer, validity, subject
            place = _inside(tbs, place)[1]
        return hashlib.sha256(tbs[place : _inside(tbs, place)[1]]).hexdigest()
    except IndexError:
        raise Damaged("the server sent something that is not a certificate") from None


def show(hexadecimal: str) -> str:
    """A fingerprint in groups, for people to compare, as `cpc-server setup` prints it."""
    return ":".join(hexadecimal[at : at + 4] for at in range(0, len(hexadecimal), 4))


def _inside(der: bytes, place: int) -> tuple[bytes, int]:
    """The content of the DER value at `place`, and where the next one begins."""
    length = der[place + 1]
    start = place + 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(der[start : start + count], "big")
        start += count
    if start + length > len(der):
        raise IndexError(place)
    return der[start : start + length], start + length
