"""Machines on one wire, each a network namespace of its own: real processes between which packets can be late or lost.

`with host:` the calling thread, and what it starts, is on that machine. Only root may make namespaces, with `ip` and `nft`
(Debian: iproute2, nftables). The wire is `tests.helpers.switch`; firewalls are the machines' own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import Any

from tests.helpers.switch import Line, Switch, within


def missing() -> str:
    """What this machine lacks for it; empty when it can be done."""
    lacking = [name for name in ("ip", "nft") if shutil.which(name) is None]
    if lacking:
        return f"{' and '.join(lacking)} are needed (Debian: iproute2, nftables)"
    if os.geteuid():
        return "only root may make network namespaces"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun is needed for the switch between network namespaces"
    tried = subprocess.run(["ip", "netns", "add", f"cpc{os.getpid()}try"], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"network namespaces cannot be made here: {tried.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", f"cpc{os.getpid()}try"], check=False)
    return ""


class Wire:
    """A switch, and machines `10.99.0.1`, `10.99.0.2` … on it. `close` takes it all away."""

    def __init__(self, *names: str) -> None:
        prefix = f"cpc{os.getpid()}"
        made = [
            Host(self, name, f"{prefix}{name}", number, f"10.99.0.{number + 1}") for number, name in enumerate(names)
        ]
        self.hosts = {host.name: host for host in made}
        self._lines: dict[tuple[int, int], Line] = {}
        for host in made:
            _run("ip", "netns", "add", host.space)
        self._switch = Switch([host.space for host in made])
        for host in made:
            with host:
                _run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
                _run("ip", "link", "set", "lo", "up")
                _run("ip", "addr", "add", f"{host.address}/24", "dev", "eth0")
                # Long enough that a busy machine loses nothing by itself.
                _run("ip", "link", "set", "eth0", "txqueuelen", "20000", "up")

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def change(self, sources: Iterable[Host], targets: Iterable[Host], **how: Any) -> None:
        """What goes from these machines to those is `how` (see `Line`) from now on; the rest of it stays as it was."""
        targets = tuple(targets)
        for one in sources:
            for other in targets:
                if one is not other:
                    way = (one.port, other.port)
                    self._lines[way] = replace(self._lines.get(way, Line()), **how)
                    self._switch.set(*way, self._lines[way])

    def late(self, delay: float, **how: Any) -> None:
        """Everything takes `delay` seconds one way."""
        self.change(self.hosts.values(), self.hosts.values(), delay=delay, **how)

    def close(self) -> None:
        """Everything that runs in it must have ended."""
        self._switch.close()
        for host in self.hosts.values():
            subprocess.run(["ip", "netns", "del", host.space], check=False)


class Host:
    """One machine, with a firewall."""

    def __init__(self, wire: Wire, name: str, space: str, port: int, address: str) -> None:
        self.name = name
        self.space = space
        self.port = port
        self.address = address
        self._wire = wire
        self._within: list[AbstractContextManager[None]] = []

    # --- being there ---

    def __enter__(self) -> Host:
        there = within(self.space)
        there.__enter__()
        self._within.append(there)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._within.pop().__exit__(kind, error, at)

    # --- the firewall ---

    def only_outbound(self, *ports: int) -> None:
        """Nobody can connect to it, but at these ports; what it connects to answers."""
        let = f"iifname eth0 tcp dport {{ {', '.join(map(str, ports))} }} accept; " if ports else ""
        self._rule("input", f"{let}iifname eth0 tcp flags & (syn | ack) == syn drop")

    def only_inbound(self) -> None:
        """It cannot connect to anybody; who connects to it is answered."""
        self._rule("output", "oifname eth0 tcp flags & (syn | ack) == syn drop")

    def _rule(self, hook: str, rule: str) -> None:
        with self:
            text = f"table inet t {{ chain {hook} {{ type filter hook {hook} priority 0; {rule}; }}; }}"
            subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)

    # --- its wire ---

    def deaf_to(self, other: Host) -> None:
        """Nothing of the other machine comes through to it, and nobody is told."""
        self._wire.change([other], [self], loss=1.0)

    def loses(self, percent: float) -> None:
        """So much of what comes is lost."""
        self._wire.change(self._wire.hosts.values(), [self], loss=percent / 100)

    def slow(self, megabytes: float) -> None:
        """Not more than so many MB a second come through to it from each other one."""
        self._wire.change(self._wire.hosts.values(), [self], rate=megabytes * 1e6)

    def heal(self) -> None:
        """No firewall any more; nothing that comes is lost or held back. What is late stays late."""
        self._wire.change(self._wire.hosts.values(), [self], loss=0.0, rate=0.0)
        with self:
            _run("nft", "flush", "ruleset")


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
