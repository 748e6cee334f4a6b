"""Run parameters of GROMACS (.mdp): `name = value ; comment`. Names are the same in any case, with hyphens or underscores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cpc.api import BadInput, NotFound


@dataclass(frozen=True, slots=True)
class Setting:
    """One run parameter: `nsteps`, `5000`."""

    name: str
    value: str

    def line(self) -> str:
        """As it stands in a file; BadInput when it cannot."""
        if not self.name.strip() or set(self.name) & set("=;\n"):
            raise BadInput(f"{self.name!r} cannot be the name of a run parameter", "use names like nsteps")
        if set(self.value) & set(";\n"):
            raise BadInput(f"run parameter {self.name}: {self.value!r} is more than one line or holds a comment")
        return f"{self.name.strip():24} = {self.value.strip()}".rstrip()


def merge(text: str, settings: Iterable[Setting]) -> str:
    """The file with these parameters: in their lines where it has them, after its end where not. Of two, the last counts."""
    wanted = {key(setting.name): setting for setting in settings}
    left = dict(wanted)
    lines = []
    for line in text.splitlines():
        name = _split(line)[0]
        if name not in wanted:
            lines.append(line)
        elif name in left:
            lines.append(left.pop(name).line())
    return "\n".join([*lines, *(setting.line() for setting in left.values())]) + "\n"


def value(text: str, name: str) -> str:
    """What the file says of a parameter; NotFound when it says nothing."""
    found = values(text)
    if key(name) not in found:
        raise NotFound(f"the run parameters say nothing of {name}", f"they name {', '.join(found) or 'nothing'}")
    return found[key(name)]


def values(text: str) -> dict[str, str]:
    """Every parameter by its name as `key` has it."""
    return dict(pair for pair in map(_split, text.splitlines()) if pair[0])


def key(name: str) -> str:
    """The name as GROMACS compares it."""
    return name.strip().replace("-", "").replace("_", "").lower()


def _split(line: str) -> tuple[str, str]:
    """(name as `key` has it, value) of a line; two empty texts when it holds no parameter."""
    before, equals, after = line.partition(";")[0].partition("=")
    return (key(before), after.strip()) if equals else ("", "")
