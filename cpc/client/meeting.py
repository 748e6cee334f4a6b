"""The first contact: a server that was never seen, or that a bundle names."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import msgspec

from cpc.client import trust
from cpc.client.transport import Transport
from cpc.client.trust import Pin
from cpc.core.errors import BadInput, Damaged, Refused, Unavailable
from cpc.core.views import ServerView


def by_bundle(path: Path | str) -> Transport:
    """To the server of a client bundle, with its token."""
    from cpc.wire import bundle

    found = bundle.read(path)
    if found.role != "client":
        raise BadInput(f"{path} is a bundle for a {found.role}", "make one with: cpc-server bundle --role client")
    pin = Pin(server=found.server, authority=found.authority)
    try:
        trust.context(pin)
    except Damaged:
        again = "copy it again, or ask for a new one: cpc-server bundle"
        raise Damaged(
            f"the connection bundle {path} is damaged: its server's certificate cannot be read", again
        ) from None
    tried = [Transport(host, port, pin, found.token) for host, port in found.client_addresses]
    for transport in tried if len(tried) > 1 else ():
        try:
            transport.connect()
            return transport
        except Unavailable:
            continue
    return tried[0]


def meet(host: str, port: int) -> tuple[Transport, Pin]:
    """A server seen for the first time; see `Client.meet`."""
    stranger = Transport(host, port, None)
    stranger.patience = 0.0  # a wrong address should be said at once
    info, certificate = _introduction(stranger)
    stranger.close()
    fingerprint = trust.fingerprint(certificate)
    pin = Pin(server=info.id, authority=ssl.DER_cert_to_PEM_cert(certificate), fingerprint=fingerprint)
    transport = Transport(host, port, pin)
    try:
        again = _introduction(transport)
    except Refused as refused:
        pin = Pin(server=info.id, fingerprint=fingerprint)
        transport = Transport(host, port, pin)
        try:
            again = _introduction(transport)
        except Refused:
            raise Refused(
                f"the server at {host} port {port} cannot prove that it is {info.name}: {refused.message}",
                "is this the right server? if so, ask its administrator",
            ) from None
    if again[0].id != info.id or again[1] != certificate:
        raise Refused(f"two servers answer at {host} port {port}", "give the address of one")
    return transport, pin


def _introduction(transport: Transport) -> tuple[ServerView, bytes]:
    """Who the server says it is, and the certificate of its authority (DER)."""
    answer = transport.request("GET", "/server")
    try:
        certificate = base64.b64decode(answer.header("X-Copernicus-Authority"), validate=True)
        info = msgspec.json.decode(answer.read(), type=ServerView)
    except (ValueError, msgspec.MsgspecError):
        certificate = b""
    if not certificate:
        raise Damaged(
            f"what answers at {transport.host} port {transport.port} is not a Copernicus server",
            "give the port for people, 14807 by default",
        )
    return info, certificate
