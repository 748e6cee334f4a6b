"""Amounts of things a node has and a job needs: cores, GPUs, memory, and whatever else a site names."""

from __future__ import annotations

import msgspec

MIB = 1 << 20
GIB = 1 << 30
MOST_OTHERS = 64  # other amounts of one node
MAX_NAME = 64  # characters


class Amounts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much of each. `memory` in bytes; `other` holds named generic amounts (licences, scratch GB)."""

    cores: int = 0
    gpus: int = 0
    memory: int = 0
    other: dict[str, int] = {}

    @property
    def possible(self) -> bool:
        """Whether anything can have so much: nothing is negative, and other amounts are as many and named as people do it."""
        if self.cores < 0 or self.gpus < 0 or self.memory < 0:
            return False
        return not self.other or (
            len(self.other) <= MOST_OTHERS
            and all(len(name) <= MAX_NAME and amount >= 0 for name, amount in self.other.items())
        )

    def covers(self, need: Amounts) -> bool:
        """Whether all of `need` fits into this."""
        return (
            self.cores >= need.cores
            and self.gpus >= need.gpus
            and self.memory >= need.memory
            and (not need.other or all(self.other.get(name, 0) >= amount for name, amount in need.other.items()))
        )

    def __add__(self, more: Amounts) -> Amounts:
        return self._combine(more, 1)

    def __sub__(self, less: Amounts) -> Amounts:
        return self._combine(less, -1)

    def _combine(self, that: Amounts, sign: int) -> Amounts:
        if not self.other and not that.other:  # as nearly always, and several times for each job
            return Amounts(
                cores=self.cores + sign * that.cores,
                gpus=self.gpus + sign * that.gpus,
                memory=self.memory + sign * that.memory,
            )
        other = self.other
        if that.other:
            other = dict(other)
            for name, amount in that.other.items():
                other[name] = other.get(name, 0) + sign * amount
        return Amounts(
            cores=self.cores + sign * that.cores,
            gpus=self.gpus + sign * that.gpus,
            memory=self.memory + sign * that.memory,
            other=other,
        )


def parse_size(text: str) -> int:
    """Bytes from `512M`, `4G`, `1.5GiB`, `1000000`. Powers of 1024."""
    from cpc.core.errors import BadInput

    units = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    plain = text.strip().upper().removesuffix("IB").removesuffix("B")
    number, unit = (plain[:-1], plain[-1]) if plain and plain[-1] in "KMGT" else (plain, "")
    try:
        size = float(number) * units[unit]
    except ValueError:
        size = -1.0
    if not 0 <= size < 1 << 62:
        raise BadInput(f"{text!r} is not a size", "write for example 500M or 4G")
    return int(size)


def parse_span(text: str) -> float:
    """Seconds from `90`, `90s`, `15m`, `2h`, `1d`, `1:30:00`, `2-12:00:00`."""
    from cpc.core.errors import BadInput

    plain = text.strip().lower()
    try:
        if ":" in plain:
            days, _, clock = plain.rpartition("-")
            parts = [float(part) for part in clock.split(":")]
            parts = [0.0] * (3 - len(parts)) + parts
            hours, minutes, seconds = parts
            span = float(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds
        else:
            unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(plain[-1:], 0)
            span = float(plain[:-1]) * unit if unit else float(plain)
    except ValueError:
        span = -1.0
    if not 0 <= span < 1e10:
        raise BadInput(f"{text!r} is not a length of time", "write for example 90s, 15m, 2h, 1d or 1:30:00")
    return span


def show_size(size: float) -> str:
    """`1.5 GiB`: a size as people read it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def show_span(seconds: float) -> str:
    """`2h 05m`: a length of time as people read it."""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"
