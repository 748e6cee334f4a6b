"""Machines on one wire, each a network namespace of its own: real processes between which packets can be lost.

`with host:` the calling thread, and what it starts, is on that machine. Only root may make namespaces, with `ip` and `nft`
(Debian: iproute2, nftables).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import threading
from types import TracebackType

_NEWNET = 0x40000000  # CLONE_NEWNET
_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str:
    """What this machine lacks for it; empty when it can be done."""
    lacking = [name for name in ("ip", "nft") if shutil.which(name) is None]
    if lacking:
        return f"{' and '.join(lacking)} are needed (Debian: iproute2, nftables)"
    if os.geteuid():
        return "only root may make network namespaces"
    tried = subprocess.run(["ip", "netns", "add", f"cpc{os.getpid()}try"], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"network namespaces cannot be made here: {tried.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", f"cpc{os.getpid()}try"], check=False)
    return ""


class Wire:
    """A switch, and machines `10.99.0.1`, `10.99.0.2` … on it. `close` takes it all away."""

    def __init__(self, *names: str) -> None:
        self._prefix = f"cpc{os.getpid()}"
        self._switch = f"{self._prefix}sw"
        _run("ip", "netns", "add", self._switch)
        _run("ip", "-n", self._switch, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", self._switch, "link", "set", "br0", "up")
        self.hosts = {name: self._host(name, number) for number, name in enumerate(names, 1)}

    def _host(self, name: str, number: int) -> Host:
        space, port = f"{self._prefix}{name}", f"p-{name}"
        host = Host(name, space, f"10.99.0.{number}")
        _run("ip", "netns", "add", space)
        _run("ip", "link", "add", "name", "eth0", "netns", space, "type", "veth", "peer", "name", port,
             "netns", self._switch)  # fmt: skip
        _run("ip", "-n", self._switch, "link", "set", port, "master", "br0", "up")
        _run("ip", "-n", space, "link", "set", "lo", "up")
        _run("ip", "-n", space, "addr", "add", f"{host.address}/24", "dev", "eth0")
        _run("ip", "-n", space, "link", "set", "eth0", "up")
        return host

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def close(self) -> None:
        """Everything that runs in it must have ended."""
        for host in self.hosts.values():
            host.end()
            subprocess.run(["ip", "netns", "del", host.space], check=False)
        subprocess.run(["ip", "netns", "del", self._switch], check=False)


class Host:
    """One machine, with a firewall."""

    def __init__(self, name: str, space: str, address: str) -> None:
        self.name = name
        self.space = space
        self.address = address
        self._before: list[int] = []
        self._forwarders: list[Forwarder] = []

    # --- being there ---

    def __enter__(self) -> Host:
        self._before.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        handle = os.open(f"/run/netns/{self.space}", os.O_RDONLY)
        try:
            _enter(handle)
        finally:
            os.close(handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        handle = self._before.pop()
        try:
            _enter(handle)
        finally:
            os.close(handle)

    # --- the firewall ---

    def only_outbound(self) -> None:
        """Nobody can connect to it; what it connects to answers."""
        self._rule("iifname eth0 tcp flags & (syn | ack) == syn drop")

    def deaf_to(self, other: Host) -> None:
        """Nothing of the other machine comes through to it, and nobody is told."""
        self._rule(f"ip saddr {other.address} drop")

    def loses(self, percent: int) -> None:
        """So much of what comes is lost."""
        self._rule(f"iifname eth0 numgen random mod 100 < {percent} drop")

    def slow(self, megabytes: int) -> None:
        """Not much more than so many MB a second comes through to it."""
        self._rule(f"iifname eth0 limit rate over {megabytes} mbytes/second drop")

    def heal(self) -> None:
        """No rules any more."""
        with self:
            _run("nft", "flush", "ruleset")

    def _rule(self, rule: str) -> None:
        with self:
            text = f"table inet t {{ chain in {{ type filter hook input priority 0; {rule}; }}; }}"
            subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)

    # --- tunnels ---

    def forward(self, port: int, to: Host, at: int, by: Host) -> Forwarder:
        """As `ssh -L PORT:localhost:AT` from here to the machine `by`, which can reach `to`: until it is closed."""
        made = Forwarder(self, port, to, at, by)
        self._forwarders.append(made)
        return made

    def end(self) -> None:
        """Close all tunnels."""
        for each in self._forwarders:
            each.close()


class Forwarder:
    """Takes connections on 127.0.0.1 of one machine and makes them from another one."""

    def __init__(self, here: Host, port: int, to: Host, at: int, by: Host) -> None:
        self._by = by
        self._to = (to.address, at)
        self._open: list[socket.socket] = []
        self._closed = False
        with here:
            self._listener = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._accept, name=f"forward {port}", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._by:
                    far = socket.create_connection(self._to, 10.0)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(one, other), daemon=True).start()

    def close(self) -> None:
        """The tunnel is gone, with all that went through it."""
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def _pump(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(1 << 16):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)


def _enter(handle: int) -> None:
    if _libc.setns(handle, _NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
