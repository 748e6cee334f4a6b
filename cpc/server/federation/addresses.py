"""Addresses of servers: which are any, and where the machines' door should be when only the people's is known."""

from __future__ import annotations

import ipaddress

from cpc.core.errors import BadInput
from cpc.core.peer import Address
from cpc.server.config import DEFAULT_NAME

MAX_HOST = 255


def called(name: str, host: str) -> str:
    """What others call a server: its name, or its host's when it was given none."""
    return host if name == DEFAULT_NAME else name


def check(host: str, *ports: int) -> str:
    """The host as it is kept; BadInput for what cannot be one, or a port that is none."""
    host = host.strip().strip("[]")
    if _has_port(host):
        raise BadInput(
            f"{host[:80]!r} is a host with a port", "give the port apart: cpcc connect-server HOST CLIENT_PORT"
        )
    if not 0 < len(host) <= MAX_HOST or not host.isascii() or not host.isprintable() or set(host) & set(" /@?#%\\"):
        raise BadInput(
            f"{host[:80]!r} is not a host name or address",
            "give one by which the other server can be reached from this one",
        )
    for port in ports:
        if not 0 < port < 65536:
            raise BadInput(f"{port} is not a port", "ports are between 1 and 65535")
    return host


def _has_port(host: str) -> bool:
    """Whether it ends as if a port were part of it, and is no IPv6 address."""
    name, colon, port = host.rpartition(":")
    if not colon or not name.strip("[]") or not port.isdigit():
        return False
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return True
    return False


def said(host: str, port: int, client_port: int) -> Address | None:
    """What a server calls itself, if it can be an address."""
    try:
        return Address(check(host, port, client_port), port, client_port)
    except BadInput:
        return None


def guessed_port(client_port: int, own_port: int, own_client_port: int) -> int:
    """Through a tunnel with other numbers than the server's own, both ports are taken to be moved by as much."""
    moved = own_port + client_port - own_client_port
    return moved if 0 < moved < 65536 else own_port
