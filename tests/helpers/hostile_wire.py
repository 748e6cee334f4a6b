"""A client of the machines' door that keeps to no rule: bare sockets, half handshakes, frames made by hand."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
import msgspec
from OpenSSL import SSL

from cpc.wire import frames
from cpc.wire.identity import Authority, Identity, Name, Role
from cpc.wire.messages import PROTOCOL

YEAR = 366 * 86_400.0
ATTACKER = "127.0.0.3"  # an address of its own on the loopback device, so that limits per address can be told apart
PATIENCE = 300.0


class Door:
    """Where the server listens, and the keys to make any certificate with."""

    def __init__(self, port: int, place: Path) -> None:
        self.port = port
        self.authority = Authority.load(
            (place / "authority.key").read_bytes(), (place / "authority.crt").read_bytes()
        )  # fmt: skip

    def socket(self, source: str = ATTACKER) -> socket.socket:
        """TCP, and nothing said."""
        made = socket.create_connection(("127.0.0.1", self.port), PATIENCE, (source, 0))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def identity(self, role: Role = Role.WORKER, name: str = "x", authority: Authority | None = None,
                 valid_for: float = YEAR) -> Identity:  # fmt: skip
        """Somebody whom the server's authority (or another) vouches for; the server's database knows nothing of it."""
        authority = authority or self.authority
        return authority.identity(Name(authority.server_id, role, "" if role is Role.SERVER else name), valid_for)

    def context(
        self, identity: Identity | None, *alpn: str, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> ssl.SSLContext:
        """How a client shakes hands that believes anything."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
        made.maximum_version = newest
        if alpn:
            made.set_alpn_protocols(list(alpn))
        if identity is not None:
            with tempfile.NamedTemporaryFile() as file:
                file.write(identity.key_pem + identity.certificate_pem)
                file.flush()
                made.load_cert_chain(file.name)
        return made

    def secure(self, identity: Identity | None, *alpn: str) -> ssl.SSLSocket:
        """TLS, as far as this side can tell: a server that refuses says so when it is read from."""
        return self.context(identity, *(alpn or ("cpc/1",))).wrap_socket(self.socket())

    def greeted(self, identity: Identity) -> ssl.SSLSocket:
        """A connection on which questions may be asked."""
        made = self.secure(identity)
        made.sendall(sent(frames.greeting(frames.Greeting(PROTOCOL, PROTOCOL, "hostile"))))
        assert read_frame(made) is not None
        return made

    def client_hello(self) -> tuple[ssl.SSLObject, ssl.MemoryBIO, bytes]:
        """A handshake that has just begun: what it reads from, and its first bytes."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        made = self.context(self.identity(), "cpc/1").wrap_bio(incoming, outgoing)
        with contextlib.suppress(ssl.SSLWantReadError):
            made.do_handshake()
        return made, incoming, outgoing.read()


def renegotiates(door: Door) -> bool:
    """Whether the server shakes hands anew on a connection of TLS 1.2 because the client wants it."""
    identity = door.identity()
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_alpn_protos([b"cpc/1"])
    with tempfile.NamedTemporaryFile() as file:
        file.write(identity.key_pem + identity.certificate_pem)
        file.flush()
        context.use_privatekey_file(file.name)
        context.use_certificate_file(file.name)
    plain = door.socket()
    plain.setblocking(True)
    made = SSL.Connection(context, plain)
    made.set_connect_state()
    made.do_handshake()
    try:
        if not made.renegotiate():
            return False
        made.do_handshake()
    except SSL.Error:
        return False
    finally:
        plain.close()
    return made.total_renegotiations() > 0


def read_frame(sock: ssl.SSLSocket) -> dict[str, object] | None:
    """The next frame as its envelope; None at the end."""
    head = read_exactly(sock, 4)
    if head is None:
        return None
    body = read_exactly(sock, struct.unpack(">I", head)[0])
    return None if body is None else msgpack.unpackb(body)


def read_exactly(sock: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        try:
            more = sock.recv(size - len(data))
        except (ConnectionError, ssl.SSLError):
            return None
        if not more:
            return None
        data += more
    return data


def ended(sock: socket.socket, within: float = PATIENCE) -> bool:
    """Whether the server has ended the connection within so many seconds; whatever it says before is read."""
    end = time.monotonic() + within
    try:
        while (left := end - time.monotonic()) > 0:
            sock.settimeout(left)
            if not sock.recv(1 << 16):
                return True
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


def last_words(sock: ssl.SSLSocket) -> str:
    """Why the server ends the connection; "" when it says nothing."""
    said = ""
    while (envelope := read_frame(sock)) is not None:
        found = envelope.get("e")
        if isinstance(found, list):
            said = " ".join(map(str, found))
    return said


def bombs() -> Iterator[tuple[str, bytes]]:
    """Frames, without their length, that would cost more than they weigh if they were believed."""
    yield "nesting", b"\x81\xa1x" + b"\x91" * 1_000_000 + b"\x01"
    yield "nested maps", b"\x81\xa1x" + b"\x81\xa1x" * 300_000 + b"\x01"
    yield "a list of 2^32", b"\x82\xa1m\xa4turn\xa1x\xdd\xff\xff\xff\xff"
    yield "a map of 2^32", b"\x82\xa1m\xa4turn\xa1x\xdf\xff\xff\xff\xff"
    yield "bytes of 2^32", b"\x82\xa1m\xa4turn\xa1b\xc6\xff\xff\xff\xff"
    yield "a text of 2^32", b"\x82\xa1m\xa4turn\xa1x\xdb\xff\xff\xff\xff"
    yield "an extension", b"\x82\xa1m\xa4turn\xa1x" + msgpack.packb(msgpack.ExtType(4, b"x" * 1000))
    yield "a time", b"\x82\xa1m\xa4turn\xa1x\xd6\xff\x00\x00\x00\x01"
    yield "no UTF-8", b"\x82\xa1m\xa4\xff\xfe\xff\xfe\xa1i\x01"
    yield "a key twice", b"\x83\xa1m\xa4turn\xa1m\xa5hello\xa1i\x01"
    yield "keys that are no texts", b"\x82\xa1m\xa4turn\x93\x01\x02\x03\x01"
    yield "a million lists", b"\x82\xa1m\xa4turn\xa1x\xdd\x00\x0f\x42\x40" + b"\x90" * 1_000_000
    for what, data in body_bombs():
        yield f"body: {what}", sent(frames.question("hello", 1, data))[4:]


def body_bombs() -> Iterator[tuple[str, bytes]]:
    """Bodies of a hello."""
    yield "a list of 2^32", b"\x81\xa8programs\xdd\xff\xff\xff\xff"
    yield "eight million empty programs", b"\x81\xa8programs\xdd\x00\x7a\x12\x00" + b"\x80" * 8_000_000
    yield "unknown key with nesting", b"\x81\xa1x" + b"\x91" * 8_000_000
    yield "a map that repeats one key", b"\xde\xff\xff" + msgspec.msgpack.encode("boot") * 65_535
    yield "a number with 2^64", b"\x81\xa4boot\xcf\xff\xff\xff\xff\xff\xff\xff\xff"


def sent(frame: frames.Frame) -> bytes:
    """A frame as it is on the wire."""
    return b"".join(frame)


def raw(frame: bytes) -> bytes:
    """A frame with its length in front."""
    return struct.pack(">I", len(frame)) + frame
