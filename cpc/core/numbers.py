"""Numbers on command lines: what is expected is said in words, and so is what is wrong with another one, in one line.

`click.IntRange` says "'abc' is not a valid integer range" and "99 is not in the range -30<=x<=30", and `click.FloatRange`
takes what is not a number (nan) for one within any range.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import click


class Whole(click.IntRange):
    """A whole number from `least` to `most`; None: without that end. `what`: what it is, with its article, where the words
    for a number do not say it; `hint`: what else helps who has written another one."""

    name = "number"

    def __init__(self, least: int | None = None, most: int | None = None, what: str = "", hint: str = "") -> None:
        super().__init__(least, most)
        self._said = (what, hint)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; click.BadParameter for anything else."""
        try:
            number = int(value)
        except ValueError:
            _refuse(self, value, "a whole number", *self._said, param, ctx)
        if not _within(self, number):
            _refuse(self, value, "a whole number", *self._said, param, ctx)
        return number


class Real(click.FloatRange):
    """The same for a finite number of any kind; `above`: `least` itself is too little."""

    name = "number"

    def __init__(
        self, least: float | None = None, most: float | None = None, what: str = "", hint: str = "", *, above: bool = False
    ) -> None:  # fmt: skip
        super().__init__(least, most, min_open=above)
        self._said = (what, hint)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; click.BadParameter for anything else."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and _within(self, number)):
            _refuse(self, value, "a number", *self._said, param, ctx)
        return number


def _within(kind: click.IntRange | click.FloatRange, number: float) -> bool:
    least, most = kind.min, kind.max
    enough = least is None or number > least or (number == least and not kind.min_open)
    return enough and (most is None or number <= most)


def _refuse(
    kind: click.IntRange | click.FloatRange, value: object, number: str, what: str, hint: str,
    param: click.Parameter | None, ctx: click.Context | None,
) -> NoReturn:  # fmt: skip
    words = f"{number}{_range(kind)}"
    said = f"{what}, which is {words}" if what else words
    kind.fail(f"{str(value)!r} is not {said}{'; ' if hint else ''}{hint}", param, ctx)


def _range(kind: click.IntRange | click.FloatRange) -> str:
    least, most = (None if end is None else f"{end:.12g}" for end in (kind.min, kind.max))
    if least is None:
        return "" if most is None else f" of at most {most}"
    if kind.min_open:
        return f" above {least}" if most is None else f" above {least} and at most {most}"
    return f" of at least {least}" if most is None else f" from {least} to {most}"


#: Of a job.
PRIORITY = Whole(-30, 30, "a priority", "higher comes first")
