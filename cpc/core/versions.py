"""Versions of executables, and ranges of them: `>=2022,<2024`.

A version is compared number by number (2022.5 < 2022.10 < 2023); letters after a number make it earlier than the
number alone (2023-beta < 2023), as in PEP 440 and semver. The original compared every dotted version as equal.
"""

from __future__ import annotations

import re
from functools import lru_cache

from cpc.core.errors import BadInput

_PART = re.compile(r"\d+|[a-z]+", re.IGNORECASE)
_CLAUSE = re.compile(r"(>=|<=|==|!=|>|<|=)?\s*v?(\d[\w.+-]*)")

Key = tuple[tuple[int, int, str], ...]


@lru_cache(maxsize=4096)
def key(version: str) -> Key:
    """What versions are ordered by. Trailing zeros do not count: 2023 equals 2023.0."""
    parts: list[tuple[int, int, str]] = []
    for part in _PART.findall(version.strip().lstrip("vV").split("+")[0]):
        parts.append((1, int(part), "") if part.isdigit() else (-1, 0, part.lower()))
    while parts and parts[-1] == (1, 0, ""):
        parts.pop()
    return (*parts, (0, 0, ""))


@lru_cache(maxsize=1024)
def _clauses(text: str) -> tuple[tuple[str, Key], ...]:
    clauses = []
    for clause in filter(None, (part.strip() for part in text.split(","))):
        found = _CLAUSE.fullmatch(clause)
        if found is None:
            raise BadInput(f"{clause!r} is not a version condition", "write for example '>=2022,<2024' or '2022.5'")
        clauses.append((found.group(1) or "==", key(found.group(2))))
    return tuple(clauses)


def check(wanted: str) -> str:
    """`wanted` as it came, or BadInput if it is not a list of conditions."""
    _clauses(wanted)
    return wanted


def matches(version: str, wanted: str) -> bool:
    """Whether `version` meets every condition in `wanted`; an empty `wanted` takes any."""
    have = key(version)
    for operator, limit in _clauses(wanted):
        good = {
            ">=": have >= limit, "<=": have <= limit, ">": have > limit, "<": have < limit,
            "==": have == limit, "=": have == limit, "!=": have != limit,
        }[operator]  # fmt: skip
        if not good:
            return False
    return True
