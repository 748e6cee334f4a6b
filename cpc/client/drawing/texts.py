"""The words in a picture: what stands where, for every format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cpc.client.drawing import colours
from cpc.client.drawing.chart import Chart, legend, short
from cpc.client.drawing.layout import HEAD, MARGIN, PAD, SUBTITLE, Layout, Place

TITLE_SIZE, SMALL_SIZE = 13, 10.5
STRIP = 30.0  # height of the line below the picture
KEY = 11.0  # side of a coloured square there


@dataclass(frozen=True, slots=True)
class Text:
    """`x` is its beginning, middle or end, by `anchor`; `y` its middle."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    size: float = SMALL_SIZE
    colour: str = colours.INK
    bold: bool = False


def of_box(place: Place) -> Iterator[Text]:
    """A box's title, subtitle and ports."""
    box, middle = place.box, place.x + place.width / 2
    yield Text(middle, place.y + HEAD / 2 + 1, short(box.title), "middle", TITLE_SIZE, bold=not box.border)
    if box.subtitle:
        y = place.y + HEAD + SUBTITLE / 2 - 2
        yield Text(middle, y, short(box.subtitle), "middle", colour=colours.FAINT)
    for port, y in place.inputs.items():
        yield Text(place.x + PAD, y, short(port))
    for port, y in place.outputs.items():
        yield Text(place.x + place.width - PAD, y, short(port), "end")


def key(chart: Chart, layout: Layout) -> Iterator[tuple[Text, tuple[str, str]]]:
    """The line below: each state with its count, and the colours of its square, which stands left of the text."""
    x = MARGIN
    for state, text in legend(chart.states):
        yield Text(x + KEY + 5, layout.height + STRIP / 2 - 8, text), colours.of_state(state)
        x += KEY + 5 + len(text) * 6.5 + 18
