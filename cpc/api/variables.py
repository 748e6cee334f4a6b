"""Variables in command lines: `$NAME` and `${NAME}`, replaced inside one argument, never splitting or joining any."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)
ROUNDS = 10
MAX_LENGTH = 1 << 20

Value = str | tuple[str, ...]


def fill(text: str, variables: Mapping[str, Value]) -> str:
    """`text` with known variables replaced, also those in their values, at most 10 deep; unknown ones stay."""
    for _ in range(ROUNDS):
        new = _VARIABLE.sub(lambda found: _text(found, variables), text)
        if new == text or len(new) > MAX_LENGTH:
            break
        text = new
    return text


def _text(found: re.Match[str], variables: Mapping[str, Value]) -> str:
    value = variables.get(found.group(1) or found.group(2))
    if value is None:
        return found.group(0)
    return value if isinstance(value, str) else " ".join(value)


def fill_all(template: Sequence[str], variables: Mapping[str, Value]) -> tuple[str, ...]:
    """The arguments of `template`. A variable that is an argument by itself and holds several becomes several."""
    arguments: list[str] = []
    for part in template:
        alone = _VARIABLE.fullmatch(part)
        value = variables.get(alone.group(1) or alone.group(2)) if alone else None
        if isinstance(value, tuple):
            arguments.extend(fill(each, variables) for each in value)
        else:
            arguments.append(fill(part, variables))
    return tuple(arguments)
