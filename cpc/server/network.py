"""Which addresses a server listens on, and whether the ports are to be had."""

from __future__ import annotations

import ipaddress
import socket

from cpc.core.errors import BadInput, Conflict

LOOPBACK = "127.0.0.1"


def resolve(host: str) -> tuple[str, ...]:
    """The addresses that a name stands for on this machine; BadInput when there are none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "not a host name"
        raise BadInput(
            f"the host name {host[:200]!r} cannot be resolved: {why}",
            "give the name that others reach this machine by, or say where to listen with --listen ADDRESS",
        ) from None
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_here(address: str) -> bool:
    """Whether this machine has the address."""
    try:
        with socket.socket(_family(address), socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def listening(host: str, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Where to listen: what was asked for, else loopback and what `host` resolves to. Never silently on everything."""
    if wanted:
        return tuple(dict.fromkeys(_address(each) for each in wanted))
    found = resolve(host)
    own = tuple(address for address in found if is_here(address) and not ipaddress.ip_address(address).is_unspecified)
    if not own:
        raise BadInput(
            f"{host} resolves to {', '.join(found)}, which is no address of this machine",
            "say where to listen with --listen ADDRESS (0.0.0.0: on all of them)",
        )
    return tuple(dict.fromkeys((*own, LOOPBACK)))


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach it."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        found = resolve(text)
        here = [address for address in found if is_here(address)]
        if not here:
            raise BadInput(
                f"{text} resolves to {', '.join(found)}, which is no address of this machine", "check --listen"
            ) from None
        return here[0]


def check_port(address: str, port: int) -> None:
    """Conflict when somebody else has the port, or this user may not take it."""
    try:
        with socket.socket(_family(address), socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if probe.family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
            probe.listen(1)
    except OSError as error:
        raise Conflict(
            f"port {port} on {address} cannot be used: {error.strerror}",
            "stop the program that has it, or choose another port",
        ) from None


def free_ports(address: str, count: int) -> list[int]:
    """Ports that nobody has at the moment."""
    probes = [socket.socket(_family(address), socket.SOCK_STREAM) for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((address, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
