"""What a drawing of a network shows: boxes with named ports, and lines between these. Large networks by function."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cpc.core.network_views import InstanceView, NetworkView

MANY = 300  # boxes; beyond that many instances there is one box for each function
PORTS = 12  # on one side of a box; what is more goes through one that is called …
LONGEST = 32  # letters of a text in a box
REST = "…"

_TREES = ("in", "out", "sub_in", "sub_out", "ext_in", "ext_out")
_INDEX = re.compile(r"\[[^\]]*\]")


@dataclass(slots=True)
class Box:
    """An instance, all instances of a function, or a side of the instance that the network belongs to (`border`).

    `states` counts instances. `inputs` and `outputs` are the names of connected values.
    """

    title: str
    subtitle: str = ""
    states: Counter[str] = field(default_factory=Counter)
    border: bool = False
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """`count` connections from an output of box `source` to an input of box `target` (numbers of boxes)."""

    source: int
    output: str
    target: int
    input: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Chart:
    """Boxes and the lines between them. `by_function`: a box stands for all instances of a function."""

    title: str
    boxes: list[Box]
    lines: list[Line]
    by_function: bool = False

    @property
    def states(self) -> Counter[str]:
        """How many instances are in which state."""
        return sum((box.states for box in self.boxes), Counter())


def chart(network: NetworkView, title: str, by_function: bool | None = None) -> Chart:
    """A network as boxes and lines; `by_function` None: when there are too many instances to be legible."""
    summary = len(network.instances) > MANY if by_function is None else by_function
    boxes = _Boxes(network.path)
    for instance in network.instances:
        boxes.add(instance, summary)
    links = Counter((boxes.end(link.source), boxes.end(link.target)) for link in network.links)
    outputs = _ports(source for source, _ in links)
    inputs = _ports(target for _, target in links)
    for number, box in enumerate(boxes.list):
        box.inputs, box.outputs = inputs.get(number, ()), outputs.get(number, ())
    lines: Counter[tuple[int, str, int, str]] = Counter()
    for ((source, output), (target, input)), count in links.items():
        lines[source, _shown(output, outputs[source]), target, _shown(input, inputs[target])] += count
    return Chart(title, boxes.list, [Line(*ends, count) for ends, count in lines.items()], summary)


class _Boxes:
    """Boxes by the name of an instance; the borders of the network are made when something is connected to them."""

    def __init__(self, path: str) -> None:
        self.list: list[Box] = []
        self._depth = len(_parts(path))
        self._by_name: dict[str, int] = {}
        self._by_title: dict[str, int] = {}

    def add(self, instance: InstanceView, summary: bool) -> None:
        """Count an instance in its own box or that of its function."""
        title, subtitle = (instance.function, "") if summary else (instance.name, instance.function)
        number = self._numbered(title, Box(title, subtitle))
        self._by_name[instance.name] = number
        box = self.list[number]
        box.states[instance.state] += 1
        if summary:
            box.subtitle = _counted(box.states)

    def end(self, path: str) -> tuple[int, str]:
        """The box and port that a path leads to."""
        parts = _parts(path)[self._depth :]
        if not parts or parts[0] in _TREES:
            parts = ["", *parts]
        name, tree, item = parts[0], "".join(parts[1:2]), ".".join(parts[2:])
        if name in self._by_name:
            number = self._by_name[name]
        else:  # the instance that the network belongs to, seen from inside
            title = f"{name}:{tree}" if name else tree
            number = self._numbered(title, Box(title, border=True))
        return number, _INDEX.sub("[]", item) or tree

    def _numbered(self, title: str, box: Box) -> int:
        if title not in self._by_title:
            self._by_title[title] = len(self.list)
            self.list.append(box)
        return self._by_title[title]


def _counted(states: Counter[str]) -> str:
    """`20 instances, 3 error`: only what needs looking at is told apart."""
    count = states.total()
    bad = [f"{states[state]} {state}" for state in ("error", "warning") if states[state]]
    return ", ".join([f"{count} instance" + ("s" if count > 1 else ""), *bad[:1]])


def _ports(ends: Iterable[tuple[int, str]]) -> dict[int, tuple[str, ...]]:
    """The ports of each box, not more than can be shown."""
    found: dict[int, dict[str, None]] = {}
    for number, port in ends:
        found.setdefault(number, {})[port] = None
    return {number: _few(tuple(ports)) for number, ports in found.items()}


def _few(ports: tuple[str, ...]) -> tuple[str, ...]:
    return ports if len(ports) <= PORTS else (*ports[: PORTS - 1], REST)


def _shown(port: str, ports: tuple[str, ...]) -> str:
    return port if port in ports else REST


def _parts(path: str) -> list[str]:
    return [part for part in path.replace(":", ".").split(".") if part]


def short(text: str) -> str:
    """A text that fits into a box."""
    clean = "".join(letter if letter.isprintable() else "·" for letter in text)
    return clean if len(clean) <= LONGEST else clean[: LONGEST - 1] + "…"


def legend(states: Mapping[str, int]) -> list[tuple[str, str]]:
    """State → `3 active`, in a fixed order."""
    order = ("active", "held", "warning", "error")
    known = [state for state in order if states.get(state)] + sorted(set(states) - set(order))
    return [(state, f"{states[state]} {state}") for state in known if states[state]]
