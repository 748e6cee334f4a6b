"""One set of results, three renderers: tables and sentences for people, JSON for programs, ids alone with --quiet."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

FORMAT = 1  # of the JSON: counts up when something changes its meaning or goes
INDENT = "   "
PLENTY = 200  # columns, when the output goes elsewhere than to a terminal

People = Callable[[], str]
Key = Callable[[], Iterable[str]]


class Output:
    """Where a command's results go."""

    def __init__(self, *, json: bool, quiet: bool) -> None:
        self.json = json
        self.quiet = quiet

    def data(self, kind: str, data: Any, people: People, key: Key | None = None) -> None:
        """Results: `kind` names their shape for programs, `key` gives what --quiet prints (nothing if left out)."""
        if self.json:
            print(json.dumps(_envelope(kind, data), indent=1))
        else:
            self._others(people, key)

    def line(self, kind: str, data: Any, people: People, key: Key | None = None) -> None:
        """One of several results that come one after the other: JSON on one line, and sent on at once."""
        if self.json:
            print(json.dumps(_envelope(kind, data)))
        else:
            self._others(people, key)
        sys.stdout.flush()

    def _others(self, people: People, key: Key | None) -> None:
        if self.quiet:
            for line in key() if key else ():
                print(harmless(line))
        else:
            text = people()
            if text:
                print(text)

    def say(self, text: str) -> None:
        """What was done, for people only."""
        if not self.json and not self.quiet:
            print(harmless(text))

    def note(self, text: str) -> None:
        """Something beside the results."""
        if not self.quiet:
            print(harmless(text), file=sys.stderr, flush=True)


def _envelope(kind: str, data: Any) -> dict[str, Any]:
    import msgspec

    return {"copernicus": FORMAT, "kind": kind, "data": msgspec.to_builtins(data)}


def table(
    header: Sequence[str], rows: Iterable[Sequence[object]], *, flexible: int = -1, empty: str = "", margin: int = 0
) -> str:
    """Columns that fit the terminal: the `flexible` one is shortened, no line wraps. Numbers stand to the right."""
    columns = terminal_width() - margin
    cells = [[harmless(value) for value in row] for row in rows]
    if not cells:
        return empty
    right = [all(_number(row[place]) for row in cells) for place in range(len(header))]
    widths = [max(len(row[place]) for row in [list(header), *cells]) for place in range(len(header))]
    room = columns - sum(widths) - 2 * (len(header) - 1)
    if room < 0:
        widths[flexible] = max(len(header[flexible]), 8, widths[flexible] + room)
    lines = []
    for row in [list(header), *cells]:
        parts = [
            _cut(text, width).rjust(width) if rightly else _cut(text, width).ljust(width)
            for text, width, rightly in zip(row, widths, right, strict=True)
        ]
        lines.append(" " * margin + _cut("  ".join(parts).rstrip(), columns))
    return "\n".join(lines)


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """`name: value` lines, the values in one column; those without a value are left out."""
    shown = [(name, harmless(value)) for name, value in pairs if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0) + 1
    return "\n".join(f"{name + ':':{width}} {value}" for name, value in shown)


def indent(text: str) -> str:
    """Every line a little to the right."""
    return "\n".join(INDENT + line for line in text.splitlines())


def terminal_width() -> int:
    """Columns of the terminal; plenty when the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PLENTY


def harmless(value: object) -> str:
    """A text in one line, with nothing in it that a terminal would obey: others may have chosen it."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "·" for letter in text)


def harmless_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(harmless(line.replace("\t", "    ")) for line in text.splitlines())


def _number(text: str) -> bool:
    return not text or text.replace(".", "", 1).lstrip("-").isdigit()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def when(micros: int | None) -> str:
    """A time as people read it, in their own zone."""
    if not micros:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(micros / 1e6))
    except (OverflowError, ValueError, OSError):
        return "far away"


def ago(micros: int | None) -> str:
    """How long ago."""
    from cpc.core.resources import show_span

    return "" if micros is None else show_span(time.time() - micros / 1e6)  # noqa: TID251 - cpcc is the edge


def counts(states: dict[str, int]) -> str:
    """`3 running, 5 waiting`: in the order of a job's life."""
    order = ("blocked", "waiting", "running", "succeeded", "failed", "cancelled")
    known = [name for name in order if states.get(name)] + sorted(set(states) - set(order))
    return ", ".join(f"{states[name]} {name}" for name in known if states[name]) or "no jobs"


def instances_by_state(states: dict[str, int]) -> str:
    """`10 instances: 9 active, 1 error`: what needs looking at last."""
    order = ("active", "held", "warning", "error")
    known = [name for name in order if states.get(name)] + sorted(set(states) - set(order))
    said = ", ".join(f"{states[name]} {name}" for name in known if states[name])
    return plural(sum(states.values()), "instance") + (f": {said}" if said else "")


def plural(number: int, thing: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


class Bar:
    """A progress bar on a terminal's stderr; nothing anywhere else."""

    def __init__(self, title: str, shown: bool = True) -> None:
        self._title = harmless(title)
        self.shown = shown and sys.stderr.isatty()
        self._last = 0.0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, done: float, whole: float, text: str = "") -> None:
        """`done` of `whole`."""
        now = time.perf_counter()
        if not self.shown or (now - self._last < 0.1 and done < whole):
            return
        self._last = now
        part = min(1.0, done / whole) if whole else 1.0
        columns = shutil.get_terminal_size().columns
        width = max(10, min(40, columns - len(self._title) - len(text) - 12))
        bar = "█" * round(part * width) + "░" * (width - round(part * width))
        line = f"{self._title} {bar} {part:4.0%} {text}"
        print(f"\r{line[: columns - 1]}\x1b[K", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Remove it."""
        if self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
