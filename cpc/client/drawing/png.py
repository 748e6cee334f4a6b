"""A picture as PNG, with Pillow (the extra `graph`): drawn larger than wanted and made smaller, so that edges are smooth."""

from __future__ import annotations

import io
from itertools import pairwise
from math import hypot
from typing import TYPE_CHECKING

from cpc.client.drawing import colours, texts
from cpc.client.drawing.chart import Chart
from cpc.client.drawing.layout import Layout, Place, Point, Route
from cpc.client.drawing.texts import Text
from cpc.core.errors import BadInput

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as FixedFont

SCALE = 2.0  # pixels of the file for one of the layout
FINER = 2  # drawn so much larger
MOST = 12_000_000  # pixels of the file
LEAST = 0.35  # scale below which nobody can read it
ANCHORS = {"start": "lm", "middle": "mm", "end": "rm"}
BENDS = 24  # straight pieces of a curve
TIP = 7.0


def render(chart: Chart, layout: Layout) -> bytes:
    """The whole file. BadInput when it would be too large to be read, or Pillow is missing."""
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        raise BadInput(
            "PNG needs Pillow, which is not installed",
            "pip install 'copernicus-computing[graph]', or name an .svg file",
        ) from None
    width, height = layout.width, layout.height + texts.STRIP
    scale = min(SCALE, (MOST / (width * height)) ** 0.5)
    if scale < LEAST:
        raise BadInput(
            "this network is too large for a PNG", "name an .svg file, or draw it by function: --by-function"
        )
    size = (round(width * scale), round(height * scale))
    image = Image.new("RGB", (size[0] * FINER, size[1] * FINER), colours.PAPER)
    pen = _Pen(ImageDraw.Draw(image), scale * FINER)
    for route in layout.routes:
        pen.route(route)
    for place in layout.places:
        pen.box(place)
    pen.key(chart, layout)
    out = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(out, "PNG")
    return out.getvalue()


class _Pen:
    """Draws at a scale."""

    def __init__(self, draw: ImageDraw, scale: float) -> None:
        self._draw = draw
        self._scale = scale
        self._fonts: dict[float, FreeTypeFont | FixedFont] = {}

    def route(self, route: Route) -> None:
        """A line with its tip."""
        way = _way(route)
        width = min(5.0, 1.2 + route.line.count.bit_length() * 0.35) if route.line.count > 1 else 1.2
        self._draw.line([self._point(one) for one in way], colours.LINE, round(width * self._scale), joint="curve")
        self._tip(way[-2], way[-1])

    def _tip(self, before: Point, end: Point) -> None:
        length = hypot(end[0] - before[0], end[1] - before[1]) or 1.0
        x, y = (end[0] - before[0]) / length, (end[1] - before[1]) / length
        back = (end[0] - TIP * x, end[1] - TIP * y)
        sides = [(back[0] - side * TIP * 0.4 * y, back[1] + side * TIP * 0.4 * x) for side in (1, -1)]
        self._draw.polygon([self._point(one) for one in (end, *sides)], colours.LINE)

    def box(self, place: Place) -> None:
        """A box with its texts."""
        fill, stroke = colours.of(place.box.states, place.box.border)
        self._square(place.x, place.y, place.width, place.height, 5.0, fill, stroke)
        for text in texts.of_box(place):
            self._words(text)

    def key(self, chart: Chart, layout: Layout) -> None:
        """The line below."""
        for text, (fill, stroke) in texts.key(chart, layout):
            x, y = text.x - texts.KEY - 5, text.y - texts.KEY / 2
            self._square(x, y, texts.KEY, texts.KEY, 2.0, fill, stroke)
            self._words(text)

    def _square(
        self, x: float, y: float, width: float, height: float, radius: float, fill: str, stroke: str
    ) -> None:  # fmt: skip
        corners = [self._point((x, y)), self._point((x + width, y + height))]
        self._draw.rounded_rectangle(corners, radius * self._scale, fill, stroke, round(1.4 * self._scale))

    def _words(self, text: Text) -> None:
        from PIL import ImageFont

        size = text.size * self._scale
        if size not in self._fonts:
            self._fonts[size] = ImageFont.load_default(size)
        place, weight = self._point((text.x, text.y)), 0.3 * self._scale if text.bold else 0
        self._draw.text(
            place, text.text, text.colour, self._fonts[size], ANCHORS[text.anchor], stroke_width=round(weight)
        )  # fmt: skip

    def _point(self, point: Point) -> Point:
        return point[0] * self._scale, point[1] * self._scale


def _way(route: Route) -> list[Point]:
    """The route as straight pieces."""
    way = [route.points[0]]
    for at, (begin, end) in enumerate(pairwise(route.points)):
        if route.back or at % 2 == 0:
            if end != begin:
                way.append(end)
        else:
            way += [_between(begin, end, step / BENDS) for step in range(1, BENDS + 1)]
    return way


def _between(begin: Point, end: Point, part: float) -> Point:
    """A point of the curve that leaves and arrives horizontally, as the SVG has it."""
    rest = 1.0 - part
    middle = (begin[0] + end[0]) / 2
    x = rest**3 * begin[0] + 3 * rest * part * middle + part**3 * end[0]
    rise = 3 * part * part - 2 * part**3
    return x, begin[1] + (end[1] - begin[1]) * rise
