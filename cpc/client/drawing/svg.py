"""A picture as SVG: one text, nothing fetched from elsewhere, whole names where the mouse rests."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

from cpc.client.drawing import colours, texts
from cpc.client.drawing.chart import Chart
from cpc.client.drawing.layout import Layout, Place, Route
from cpc.client.drawing.texts import Text

FONT = "DejaVu Sans Mono, Menlo, Consolas, monospace"


def render(chart: Chart, layout: Layout) -> str:
    """The whole file."""
    width, height = layout.width, layout.height + texts.STRIP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
        f' viewBox="0 0 {width:.0f} {height:.0f}" font-family="{FONT}">',
        f"<title>{_text(chart.title)}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0.8L8 4L0 7.2z" fill="{colours.LINE}"/></marker></defs>',
        f'<rect width="100%" height="100%" fill="{colours.PAPER}"/>',
        *map(_route, layout.routes),
        *map(_box, layout.places),
        *_key(chart, layout),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _route(route: Route) -> str:
    thick = min(5.0, 1.2 + route.line.count.bit_length() * 0.35) if route.line.count > 1 else 1.2
    count = f"{route.line.output} to {route.line.input}" + (
        f", {route.line.count} times" if route.line.count > 1 else ""
    )
    return (
        f'<path d="{_way(route)}" fill="none" stroke="{colours.LINE}" stroke-width="{thick:.1f}"'
        f' marker-end="url(#tip)"><title>{_text(count)}</title></path>'
    )


def _way(route: Route) -> str:
    x, y = route.points[0]
    parts = [f"M{x:.1f} {y:.1f}"]
    for at, ((left, upper), (right, lower)) in enumerate(pairwise(route.points)):
        if route.back or at % 2 == 0:
            parts.append(f"L{right:.1f} {lower:.1f}")
        else:
            middle = (left + right) / 2
            parts.append(f"C{middle:.1f} {upper:.1f} {middle:.1f} {lower:.1f} {right:.1f} {lower:.1f}")
    return "".join(parts)


def _box(place: Place) -> str:
    box = place.box
    fill, stroke = colours.of(box.states, box.border)
    states = ", ".join(f"{count} {state}" for state, count in box.states.items())
    whole = "\n".join(filter(None, (box.title, box.subtitle, states)))
    dashed = ' stroke-dasharray="4 3"' if box.border else ""
    lines = [
        f"<g><title>{_text(whole)}</title>",
        f'<rect x="{place.x:.1f}" y="{place.y:.1f}" width="{place.width:.1f}" height="{place.height:.1f}" rx="5"'
        f' fill="{fill}" stroke="{stroke}" stroke-width="1.4"{dashed}/>',
        *map(_words, texts.of_box(place)),
        "</g>",
    ]
    return "\n".join(lines)


def _key(chart: Chart, layout: Layout) -> Iterator[str]:
    for text, (fill, stroke) in texts.key(chart, layout):
        x, y = text.x - texts.KEY - 5, text.y - texts.KEY / 2
        yield (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{texts.KEY}" height="{texts.KEY}" rx="2" fill="{fill}" stroke="{stroke}"/>'
        )
        yield _words(text)


def _words(text: Text) -> str:
    weight = ' font-weight="bold"' if text.bold else ""
    return (
        f'<text x="{text.x:.1f}" y="{text.y + text.size * 0.35:.1f}" font-size="{text.size}"'
        f' text-anchor={quoteattr(text.anchor)} fill="{text.colour}"{weight}>{_text(text.text)}</text>'
    )


def _text(text: str) -> str:
    """As content of an element: others have chosen it, and not every character may stand in XML."""
    return escape("".join(letter if letter.isprintable() or letter == "\n" else "·" for letter in text))
