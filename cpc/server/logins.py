"""How often a password may be tried: per user and address, per address, and per user from anywhere."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from cpc.core.clock import Clock
from cpc.core.errors import RateLimited

MAX_ENTRIES = 20_000


@dataclass(frozen=True, slots=True)
class TryLimits:
    """So many failed tries in `window` seconds."""

    tries: int = 10  # of one user from one address
    address: int = 50  # of any user from one address
    user: int = 200  # of one user from any address: high, so that strangers cannot lock somebody out cheaply
    window: float = 900.0


class Tries:
    """Counts tries that failed, or are not decided yet; a right password takes its own try back."""

    def __init__(self, clock: Clock, limits: Callable[[], TryLimits]) -> None:
        self._clock = clock
        self._limits = limits
        self._failed: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def begin(self, user: str, address: str) -> Callable[[], None]:
        """Count a try; the answer takes it back. RateLimited when there were too many, which costs no hash."""
        limits, now = self._limits(), self._clock.monotonic()
        network = _network(address)
        counted = [((user, network), limits.tries), (("", network), limits.address), ((user, ""), limits.user)]
        for key, most in counted:
            times = self._failed.get(key)
            while times and times[0] <= now - limits.window:
                times.popleft()
            if times and len(times) >= most:
                wait = max(1, round(times[0] + limits.window - now))
                raise RateLimited("too many failed logins", f"try again in {wait} s")
        for key, _ in counted:
            self._failed.setdefault(key, deque()).append(now)
            self._failed.move_to_end(key)
        while len(self._failed) > MAX_ENTRIES:
            self._failed.popitem(last=False)
        return lambda: self._take_back([key for key, _ in counted], now)

    def _take_back(self, keys: list[tuple[str, str]], when: float) -> None:
        for key in keys:
            times = self._failed.get(key)
            if times is not None and when in times:
                times.remove(when)
                if not times:
                    del self._failed[key]


def _network(address: str) -> str:
    """An IPv6 user has 2⁶⁴ addresses: they count as one."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
