"""Where the boxes and lines of a chart stand: no box covers another, lines go from left to right and around the boxes.

Lines that close a cycle run back below everything. Lengths are in pixels at scale 1, from the top left corner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from cpc.client.drawing import layers
from cpc.client.drawing.chart import Box, Chart, Line, short

LETTER, SMALL = 8.0, 6.5  # widths of a letter of a title, and of any other text
PAD = 10.0
HEAD, SUBTITLE, ROW = 22.0, 14.0, 15.0  # heights
MARGIN = 34.0
BETWEEN_LAYERS = 70.0
BETWEEN_BOXES = 22.0
BETWEEN_LINES = 12.0
LANE = 10.0  # between two lines that run back
SWEEPS = 6
STRAIGHT = 4.0  # how much more a long line weighs than a box: it bends less

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Place:
    """A box and its rectangle; `inputs` and `outputs`: the height of each port, from the top of the picture."""

    box: Box
    x: float
    y: float
    width: float
    height: float
    inputs: dict[str, float]
    outputs: dict[str, float]


@dataclass(frozen=True, slots=True)
class Route:
    """A line's way. From each second point on to the next one it may bend in an S (not `back`); the others are straight."""

    line: Line
    points: tuple[Point, ...]
    back: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """A whole picture: `places` in the order of the chart's boxes."""

    width: float
    height: float
    places: list[Place]
    routes: list[Route]


@dataclass(slots=True)
class _Node:
    """What takes room in a layer: a box (`box`), or a long line that passes."""

    height: float
    box: int = -1
    y: float = 0.0
    ports: dict[str, float] = field(default_factory=dict)  # key of an end → below the node's top


def lay_out(chart: Chart) -> Layout:
    """Place everything."""
    back = layers.backward(len(chart.boxes), [(line.source, line.target) for line in chart.lines])
    forth = [line for line, returns in zip(chart.lines, back, strict=True) if not returns]
    connected = {number for line in chart.lines for number in (line.source, line.target)}
    network = _Network(chart, forth, connected)
    network.place_vertically()
    places, routes, bottom, right = network.drawn(MARGIN)
    bottom, returns = _returning(chart, back, places, bottom)
    alone = [number for number in range(len(chart.boxes)) if number not in connected]
    bottom, right = _grid(chart, alone, places, bottom, right)
    ordered = [places[number] for number in range(len(chart.boxes))]
    return Layout(right + MARGIN, bottom + MARGIN, ordered, routes + returns)


def size(box: Box) -> tuple[float, float]:
    """Width and height of a box with its texts."""
    ports = _longest(box.inputs) + _longest(box.outputs) + (3 if box.inputs and box.outputs else 0)
    width = max(len(short(box.title)) * LETTER, len(short(box.subtitle)) * SMALL, ports * SMALL, 40.0)
    rows = max(len(box.inputs), len(box.outputs))
    return width + 2 * PAD, head(box) + rows * ROW + (PAD / 2 if rows else 0.0)


def head(box: Box) -> float:
    """Height of what is above the ports."""
    return HEAD + (SUBTITLE if box.subtitle else 0.0)


def _longest(texts: Sequence[str]) -> int:
    return max((len(short(text)) for text in texts), default=0)


def _port_offsets(box: Box, ports: Sequence[str]) -> dict[str, float]:
    return {port: head(box) + (at + 0.5) * ROW for at, port in enumerate(ports)}


class _Network:
    """The connected boxes in layers, with nodes for long lines in the layers that they pass."""

    def __init__(self, chart: Chart, lines: Sequence[Line], connected: set[int]) -> None:
        self.chart = chart
        self.lines = lines
        count = len(chart.boxes)
        layer = layers.layers(count, [(line.source, line.target) for line in lines])
        self.nodes = [_Node(size(box)[1], number) for number, box in enumerate(chart.boxes)]
        rows: list[list[int]] = [[] for _ in range(max((layer[number] + 1 for number in connected), default=0))]
        for number in sorted(connected):
            rows[layer[number]].append(number)
        #: (left node, its port, right node, its port): the pieces of all lines, and each line's own.
        self.pieces: list[tuple[int, float, int, float]] = []
        self.chains: list[list[int]] = []
        for line in lines:
            self._pass_through(line, layer, rows)
        edges = [(left, right) for left, _, right, _ in self.pieces]
        self.rows = layers.ordered(rows, list(dict.fromkeys(edges)))

    def _pass_through(self, line: Line, layer: list[int], rows: list[list[int]]) -> None:
        chain = [line.source]
        for between in range(layer[line.source] + 1, layer[line.target]):
            chain.append(len(self.nodes))
            rows[between].append(len(self.nodes))
            self.nodes.append(_Node(0.0))
        chain.append(line.target)
        self.chains.append(chain)
        source, target = self.chart.boxes[line.source], self.chart.boxes[line.target]
        begin = _port_offsets(source, source.outputs)[line.output]
        end = _port_offsets(target, target.inputs)[line.input]
        for left, right in pairwise(chain):
            at_left = begin if left == line.source else 0.0
            at_right = end if right == line.target else 0.0
            self.pieces.append((left, at_left, right, at_right))

    def place_vertically(self) -> None:
        """Near the neighbours, in the order of the layer, as close as boxes may stand."""
        from_left: dict[int, list[tuple[int, float]]] = {}
        from_right: dict[int, list[tuple[int, float]]] = {}
        for left, at_left, right, at_right in self.pieces:
            from_left.setdefault(right, []).append((left, at_left - at_right))
            from_right.setdefault(left, []).append((right, at_right - at_left))
        for row in self.rows:
            self._settle(row, {})
        for sweep in range(SWEEPS):
            forth = sweep % 2 == 0
            for row in self.rows if forth else reversed(self.rows):
                self._settle(row, from_left if forth else from_right)
        for row in self.rows:
            self._settle(row, {node: from_left.get(node, []) + from_right.get(node, []) for node in row})

    def _settle(self, row: list[int], neighbours: Mapping[int, list[tuple[int, float]]]) -> None:
        """The heights of a layer's nodes: the nearest to what each wishes that keep their order and distance."""
        wishes, weights, distances = [], [], [0.0]
        for node in row:
            places = [self.nodes[one].y + shift for one, shift in neighbours.get(node, ())]
            wishes.append(sum(places) / len(places) if places else self.nodes[node].y)
            weights.append(STRAIGHT if self.nodes[node].box < 0 else 1.0)
        for upper, lower in pairwise(row):
            both = self.nodes[upper].box >= 0 and self.nodes[lower].box >= 0
            distances.append(self.nodes[upper].height + (BETWEEN_BOXES if both else BETWEEN_LINES))
        for node, y in zip(row, apart(wishes, distances, weights), strict=True):
            self.nodes[node].y = y

    def drawn(self, margin: float) -> tuple[dict[int, Place], list[Route], float, float]:
        """Places by the number of the box, routes, and the lower right corner of all this."""
        top = min((self.nodes[node].y for row in self.rows for node in row), default=0.0) - margin
        places: dict[int, Place] = {}
        columns: dict[int, tuple[float, float]] = {}
        x, bottom = margin, margin
        for row in self.rows:
            boxes = {node: size(self.chart.boxes[node]) for node in row if self.nodes[node].box >= 0}
            width = max((wide for wide, _ in boxes.values()), default=0.0)
            for node in row:
                columns[node] = (x, x + width)
                bottom = max(bottom, self.nodes[node].y - top + self.nodes[node].height)
            for node, (wide, _) in boxes.items():
                place = _place(self.chart.boxes[node], x + (width - wide) / 2, self.nodes[node].y - top)
                places[node] = place
            x += width + BETWEEN_LAYERS
        right = x - BETWEEN_LAYERS if self.rows else margin
        routes = [
            self._route(line, chain, places, columns, top)
            for line, chain in zip(self.lines, self.chains, strict=True)
        ]  # fmt: skip
        return places, routes, bottom, right

    def _route(
        self, line: Line, chain: list[int], places: dict[int, Place], columns: dict[int, tuple[float, float]],
        top: float,
    ) -> Route:  # fmt: skip
        source, target = places[line.source], places[line.target]
        begin, end = source.outputs[line.output], target.inputs[line.input]
        points: list[Point] = [(source.x + source.width, begin), (columns[line.source][1], begin)]
        for node in chain[1:-1]:
            left, right = columns[node]
            y = self.nodes[node].y - top
            points += [(left, y), (right, y)]
        points += [(columns[line.target][0], end), (target.x, end)]
        return Route(line, tuple(points))


def apart(wishes: Sequence[float], distances: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Ascending numbers, `distances[n]` or more above number n-1, whose weighted squares of distance to the wishes are least.

    Isotonic regression by pooling neighbours that would come too close.
    """
    shifts, shift = [], 0.0
    for distance in distances[: len(wishes)]:
        shift += distance
        shifts.append(shift)
    pools: list[tuple[float, float, int]] = []  # mean, weight, members
    for wish, moved, weight in zip(wishes, shifts, weights, strict=True):
        mean, heavy, members = wish - moved, weight, 1
        while pools and pools[-1][0] > mean:
            above, above_weight, above_members = pools.pop()
            mean = (mean * heavy + above * above_weight) / (heavy + above_weight)
            heavy += above_weight
            members += above_members
        pools.append((mean, heavy, members))
    means = [mean for mean, _, members in pools for _ in range(members)]
    return [mean + moved for mean, moved in zip(means, shifts, strict=True)]


def _place(box: Box, x: float, y: float) -> Place:
    width, height = size(box)
    inputs = {port: y + offset for port, offset in _port_offsets(box, box.inputs).items()}
    outputs = {port: y + offset for port, offset in _port_offsets(box, box.outputs).items()}
    return Place(box, x, y, width, height, inputs, outputs)


def _returning(
    chart: Chart, back: Sequence[bool], places: Mapping[int, Place], bottom: float
) -> tuple[float, list[Route]]:
    """Lines that close a cycle, each in a lane of its own below the boxes; the new bottom."""
    routes: list[Route] = []
    for line in (line for line, returns in zip(chart.lines, back, strict=True) if returns):
        source, target = places[line.source], places[line.target]
        begin, end = source.outputs[line.output], target.inputs[line.input]
        aside = LANE + len(routes) % 5 * LANE / 2
        lane = bottom + BETWEEN_BOXES + len(routes) * LANE
        right, left = _clear(places, source.x + source.width, 1) + aside, _clear(places, target.x, -1) - aside
        points = (
            (source.x + source.width, begin), (right, begin), (right, lane), (left, lane), (left, end), (target.x, end),
        )  # fmt: skip
        routes.append(Route(line, points, back=True))
    return (bottom + BETWEEN_BOXES + len(routes) * LANE if routes else bottom), routes


def _clear(places: Mapping[int, Place], x: float, side: int) -> float:
    """The edge of the layer in which a box ends at `x`: right of it (side 1) or left of it (-1) no box stands above another."""
    edges = [
        place.x + place.width if side > 0 else place.x
        for place in places.values()
        if place.x <= x <= place.x + place.width
    ]
    return max(edges) if side > 0 else min(edges)


def _grid(
    chart: Chart, alone: Sequence[int], places: dict[int, Place], bottom: float, right: float
) -> tuple[float, float]:
    """Boxes without any line, in rows below the others; the new lower right corner."""
    if not alone:
        return bottom, right
    sizes = [size(chart.boxes[number]) for number in alone]
    wide, high = max(width for width, _ in sizes) + BETWEEN_BOXES, max(height for _, height in sizes) + BETWEEN_BOXES
    square = (len(alone) * high / wide) ** 0.5
    columns = max(1, round(square), int((right - MARGIN + BETWEEN_BOXES) // wide))
    top = bottom + BETWEEN_BOXES if places else MARGIN
    for at, number in enumerate(alone):
        row, column = divmod(at, columns)
        places[number] = _place(chart.boxes[number], MARGIN + column * wide, top + row * high)
    rows = -(-len(alone) // columns)
    used = min(columns, len(alone))
    return top + rows * high - BETWEEN_BOXES, max(right, MARGIN + used * wide - BETWEEN_BOXES)
